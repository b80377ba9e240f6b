"""Text and figures as people read them, on any face: made harmless, and in words.

Keeps: nothing that comes out of a journal can move a cursor, reverse the reading direction or
hide; what was there is shown as an escape instead.
Source: Boucher and Anderson, "Trojan Source", USENIX Security 2023, for the characters that
reorder text; ECMA-48 for the control characters.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import msgspec

# Control characters; marks, isolates and overrides of direction; spaces of no width; line
# separators; lone surrogates; annotations; tags. A joiner (200D) stays: emoji need it.
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_HARMFUL_BUT_LINES = re.compile(_HARMFUL.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400
_COARSE = (
    (_DAY_S, "d", _HOUR_S, "h"),
    (_HOUR_S, "h", _MINUTE_S, "m"),
    (_MINUTE_S, "m", 1, "s"),
)
# Below so many seconds: the unit, how many of it a second has, and decimals.
_FINE = ((0.00995, "ms", 1_000, 1), (0.0995, "ms", 1_000, 0), (9.995, "s", 1, 2))


def safe(text: str, *, lines: bool = False) -> str:
    """Return `text` with whatever is harmful as a visible escape; `lines` keeps line ends."""
    if lines:
        text = text.replace("\r\n", "\n").expandtabs(4)
        return _HARMFUL_BUT_LINES.sub(_escape, text)
    return _HARMFUL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code == ord("\n"):
        return "\\n"
    if code == ord("\t"):
        return "\\t"
    if code <= 0xFF:  # noqa: PLR2004  two digits are enough
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def as_text(value: Any) -> str:
    """Return plain data as JSON would have it, on one line and without escapes."""
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def pretty(value: Any) -> str:
    """Return plain data over several lines; a text is shown as it is."""
    if isinstance(value, str):
        return safe(value, lines=True)
    try:
        text = json.dumps(value, ensure_ascii=False, default=_plain, indent=2)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return safe(text, lines=True)


def _plain(value: Any) -> Any:
    """Return as plain data what JSON does not know."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"({len(value):,} bytes)"
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    try:
        data = msgspec.to_builtins(value, enc_hook=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)
    return data if data is not value else str(value)


def took(seconds: float | None) -> str:
    """Return a duration as people say it, in at most nine columns."""
    if seconds is None:
        return ""
    if seconds < 0.00005:  # noqa: PLR2004  it would round to nothing
        return "<0.1 ms"
    if seconds < _MINUTE_S - 0.5:
        return _fine(seconds)
    whole = round(seconds)
    if whole >= 100 * _DAY_S:
        return f"{whole // _DAY_S:,}d"
    unit_s, unit, part_s, part = next(row for row in _COARSE if whole >= row[0])
    return f"{whole // unit_s}{unit} {whole % unit_s // part_s:02}{part}"


def _fine(seconds: float) -> str:
    """Return a duration of less than a minute: two digits, and none that would round to 0."""
    for below_s, unit, scale, digits in _FINE:
        if seconds < below_s:
            return f"{seconds * scale:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def clock(at: float, *, date: bool = False) -> str:
    """Return a moment on the clock of this machine."""
    try:
        local = dt.datetime.fromtimestamp(at).astimezone()
    except (OverflowError, OSError, ValueError):
        return f"{at:g}"
    return f"{local:%Y-%m-%d %H:%M:%S}" if date else f"{local:%H:%M:%S}"


def counted(count: int, what: str) -> str:
    """Return `1 step` or `2 steps`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"

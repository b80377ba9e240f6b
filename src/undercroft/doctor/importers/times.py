"""When something was, from whatever way a record writes it down.

Keeps: never raises; what is no time is None. A time without a zone is UTC, as exporters mean it.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

# Seconds of the year 2286; a larger number counts in smaller units.
_SECONDS_MAX = 1e10
_UNITS = (1.0, 1e3, 1e6, 1e9)
_CHARS_MAX = 64
_NUMBER = re.compile(r"[+-]?\d{1,20}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,3})?\Z")


def read_time(raw: object) -> float | None:
    """Return seconds since 1970, or None.

    Args:
        raw: A date and time of ISO 8601, or a number since 1970 in seconds, milliseconds,
            microseconds or nanoseconds, told apart by its size.
    """
    if isinstance(raw, bool) or raw is None:
        return None
    if isinstance(raw, int | float):
        return _of_number(raw)
    if not isinstance(raw, str) or len(raw) > _CHARS_MAX:
        return None
    text = raw.strip()
    if _NUMBER.match(text):
        return _of_number(float(text))
    if text.endswith((" UTC", " GMT")):
        text = f"{text[:-4]}Z"
    try:
        when = datetime.fromisoformat(text)
        at = (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return at if at > 0 else None  # some write the year 1 for no time


def _of_number(raw: float) -> float | None:
    try:
        number = float(raw)
    except OverflowError:
        return None
    if not math.isfinite(number) or number <= 0:
        return None
    for unit in _UNITS:
        if number / unit < _SECONDS_MAX:
            return number / unit
    return None


def read_count(raw: object) -> int | None:
    """Return a count, such as of tokens, or None where `raw` is none."""
    if isinstance(raw, bool):
        return None
    if isinstance(raw, str) and raw.isdecimal() and len(raw) <= _CHARS_MAX:
        return int(raw)
    if isinstance(raw, int):
        return raw if raw >= 0 else None
    return int(raw) if isinstance(raw, float) and math.isfinite(raw) and raw >= 0 else None

"""When a service wants to be asked again, as its headers say it.

Keeps: what cannot be read is no hint; what lies in the past is "now"; a hint is returned however
long it is, and whether it is worth the wait is decided elsewhere. No clock is read: a date
counts from the service's own `Date`, and from our wall clock only where that is missing.
Source: RFC 9110, section 10.2.3; the rate limit headers of OpenAI and Anthropic.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

# Beyond this a wait is a number and no wait.
FAR_S = 1e9
_TEXT_MAX_CHARS = 1_000
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
_SPAN = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?")
_LIMITS = (
    ("x-ratelimit-reset-{}", "x-ratelimit-remaining-{}"),
    ("anthropic-ratelimit-{}-reset", "anthropic-ratelimit-{}-remaining"),
)
_LIMITED = ("requests", "tokens", "input-tokens", "output-tokens")

Get = Callable[[str], str | None]


def retry_after_s(
    headers: Any, *, wall_s: float | None = None, limits: bool = False
) -> float | None:
    """Return the seconds after which the service wants to be asked again; None if it is silent.

    Args:
        headers: A mapping from names to text or bytes.
        wall_s: Seconds since 1970, for a date where the service does not say what time it is.
        limits: Whether the resets of rate limits count too, as they do for a 429 that says
            nothing else.
    """
    get = _reader(headers)
    ms = _number(get("retry-after-ms"))
    if ms is not None:
        return ms / 1_000
    text = get("retry-after")
    found = _number(text)
    if found is None:
        found = _until(text, get, wall_s, _http_date)
    if found is None and limits:
        found = _limits(get, wall_s)
    return found


def told_not_to(headers: Any) -> bool:
    """Whether the service said that asking again is of no use (`x-should-retry: false`)."""
    text = _reader(headers)("x-should-retry")
    return text is not None and text.lower() == "false"


def _reader(headers: Any) -> Get:
    """Look names up in whatever `headers` is; a name that cannot be looked up is not there."""
    get = getattr(headers, "get", None)

    def read(name: str) -> str | None:
        # A plain dict minds the case of its keys.
        for spelled in (name, name.title()):
            value: Any = None
            # Whatever it raises: these are somebody else's headers.
            with suppress(Exception):
                value = get(spelled) if callable(get) else None
                if isinstance(value, bytes):
                    value = value.decode("latin-1")
                elif isinstance(value, int | float) and not isinstance(value, bool):
                    value = f"{value:f}" if isinstance(value, float) else str(value)
            if isinstance(value, str):
                return value.strip() if len(value) <= _TEXT_MAX_CHARS else None
        return None

    return read


def _number(text: str | None) -> float | None:
    if text is None or not _NUMBER.fullmatch(text):
        return None
    return _fit(float(text))


def _fit(wait_s: float) -> float:
    return min(max(wait_s, 0.0), FAR_S)


def _http_date(text: str) -> float:
    return _stamp(parsedate_to_datetime(text))


def _rfc3339(text: str) -> float:
    return _stamp(datetime.fromisoformat(text))


def _stamp(date: datetime) -> float:
    # `-0000` says UTC without saying so; the local zone of this machine is never meant.
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _until(
    text: str | None, get: Get, wall_s: float | None, read: Callable[[str], float]
) -> float | None:
    if text is None:
        return None
    now = get("date")
    with suppress(ValueError, TypeError, OverflowError, IndexError, OSError):
        then_s = read(text)
        now_s = wall_s
        with suppress(ValueError, TypeError, OverflowError, IndexError, OSError):
            now_s = _http_date(now) if now else wall_s
        if now_s is not None and math.isfinite(now_s):
            return _fit(then_s - now_s)
    return None


def _limits(get: Get, wall_s: float | None) -> float | None:
    """The longest reset of the limits that are used up; of none is, the shortest of all."""
    used_up: list[float] = []
    others: list[float] = []
    for reset, remaining in _LIMITS:
        for what in _LIMITED:
            text = get(reset.format(what))
            found = _span(text)
            if found is None:
                found = _until(text, get, wall_s, _rfc3339)
            if found is None:
                continue
            left = _number(get(remaining.format(what)))
            (used_up if left == 0 else others).append(found)
    return max(used_up) if used_up else min(others, default=None)


def _span(text: str | None) -> float | None:
    """`1s`, `6m0s`, `120ms`; a bare number is seconds."""
    if not text:
        return None
    match = _SPAN.fullmatch(text)
    if match is None:
        return _number(text)
    h, m, s, ms = (float(part or 0) for part in match.groups())
    return _fit(h * 3_600 + m * 60 + s + ms / 1_000)

"""A span as data, before any library makes one of it; and what may stand in its attributes.

Keeps: every text is valid Unicode and bounded; ids follow from the turn's id and the step's number
alone, so that a turn that is told twice is one trace with the same spans.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from undercroft.model import genai

TEXT_CHARS_MAX = 65_536
SHORT_CHARS_MAX = 1_024
ROOT = 0
_TRACE_BYTES, _SPAN_BYTES = 16, 8
_NS = 1_000_000_000
# What also readers hold that know no unsigned numbers.
_NS_MAX = (1 << 63) - 1

Value = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Noted:
    """An event on a span."""

    name: str
    at_ns: int
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A span.

    Attributes:
        parent_id: None for the span of the turn itself.
        client: Whether it stands for a request to somebody else.
        links: Ids of the spans whose results it used.
        message: What went wrong, where `failed`.
    """

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, Value]
    events: tuple[Noted, ...] = ()
    links: tuple[int, ...] = ()
    client: bool = False
    failed: bool = False
    message: str = ""


def trace_id(turn_id: str) -> int:
    """Return the id of a turn's trace; never 0."""
    return _number(f"undercroft turn {turn_id}", _TRACE_BYTES)


def span_id(turn_id: str, n: int) -> int:
    """Return the id of the span of a step, or of the turn itself for `ROOT`; never 0."""
    return _number(f"undercroft step {turn_id} {n}", _SPAN_BYTES)


def nanos(at: float) -> int:
    """Return seconds since 1970 in nanoseconds, within what a span can hold."""
    if at != at:  # noqa: PLR0124  not a number
        return 0
    return int(min(max(at, 0.0) * _NS, _NS_MAX))


def end_of(began_ns: int, took_s: float | None) -> int:
    """Return when a span ended that began then; of one that never ended, its begin."""
    return min(began_ns + nanos(took_s or 0.0), _NS_MAX)


def short(text: str) -> str:
    """Return a text that is no content: a name, a rule, an error."""
    return clean(text, SHORT_CHARS_MAX)


def clean(text: str, chars_max: int = TEXT_CHARS_MAX) -> str:
    """Return `text` as valid Unicode and bounded."""
    cut = text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"
    return cut.encode("utf-8", "backslashreplace").decode("utf-8")


def as_json(value: Any) -> str:
    """Return a value of the journal as JSON."""
    try:
        return json.dumps(value, ensure_ascii=False, default=_other)
    except (TypeError, ValueError, RecursionError):
        # Keys that are no text, or deeper than anybody reads.
        return json.dumps(str(value))


def as_text(value: Any) -> str:
    """Return a result as it is read: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else as_json(value)


class Attributes(dict[str, Value]):
    """Attributes in the making: what says nothing is left out."""

    def put(self, name: str, value: Any) -> None:
        """Add an attribute that is no content, unless it is None or empty."""
        if value is None or (isinstance(value, str | Sequence) and not value):
            return
        if isinstance(value, bool | int | float):
            self[name] = value
        elif isinstance(value, Sequence) and not isinstance(value, str):
            self[name] = tuple(short(str(one)) for one in value)
        else:
            self[name] = short(str(value))

    def content(self, name: str, text: str) -> None:
        """Add what somebody said, or what a tool was given or gave."""
        self[name] = clean(text)
        if len(text) > TEXT_CHARS_MAX:
            self[genai.CUT] = True


def _other(value: object) -> str:
    return f"({type(value).__name__})" if isinstance(value, bytes) else str(value)


def _number(text: str, size: int) -> int:
    octets = sha256(text.encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(octets[:size]) or 1

"""One span as OTLP JSON, or a backend that exports spans one by one, writes it down.

Keeps: never raises. Keys may be in camel or in snake case, ids hexadecimal or base64, numbers text,
attributes a list of pairs, a flat object or a nested one; what cannot be read is left out.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from undercroft.doctor.arguments import as_text, read_value
from undercroft.doctor.importers.times import read_time
from undercroft.model import genai

_DEPTH_MAX = 8
_ATTRIBUTES_MAX = 20_000
_SECONDS_MAX = 1e10
_TRACE_HEX, _SPAN_HEX = 32, 16
_BASE64 = {24: 16, 12: 8, 22: 16, 11: 8}
_HEX = re.compile(r"(?:0x)?([0-9a-fA-F]{1,64})\Z")
_DIGITS = re.compile(r"-?\d{1,24}\Z")

# What a document may hold spans under, and what stands round them.
RESOURCES = ("resourceSpans", "resource_spans", "batches")
SCOPES = (
    "scopeSpans",
    "scope_spans",
    "instrumentationLibrarySpans",
    "instrumentation_library_spans",
)
# The same for logs, in which some libraries tell what was said; and what is no part of a run.
LOGS = ("resourceLogs", "resource_logs", "scopeLogs", "scope_logs", "logRecords", "log_records")
METRICS = ("resourceMetrics", "resource_metrics")

# Of a span's status; `MISSING` where there is no word of it at all.
MISSING, UNSET, GOOD, BAD = -1, 0, 1, 2
_CODES = {"0": UNSET, "unset": UNSET, "1": GOOD, "ok": GOOD, "2": BAD, "error": BAD}


@dataclass(frozen=True, slots=True)
class Moment:
    """An event on a span."""

    name: str
    at: float | None
    attributes: Mapping[str, Any]


@dataclass(slots=True)
class Span:
    """A span as far as it can be read.

    Attributes:
        step: Its place among the spans of its run, as given.
        code: `MISSING`, `UNSET`, `GOOD` or `BAD`.
        links: Ids of the spans that it points at.
        readable: Whether it is an object at all.
    """

    step: int
    name: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_id: str = ""
    began_at: float | None = None
    ended_at: float | None = None
    code: int = MISSING
    message: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Moment, ...] = ()
    links: tuple[str, ...] = ()
    readable: bool = True

    def first(self, *names: str) -> Any:
        """Return the first attribute of these names that says something, or None."""
        for name in names:
            value = self.attributes.get(name)
            if value is not None and value != "":
                return value
        return None

    def text(self, *names: str) -> str:
        """Return the first attribute of these names that says something, as text, or empty."""
        found = self.first(*names)
        if isinstance(found, list) and found:
            found = found[0]
        return "" if found is None else as_text(found)


def spans_in(document: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the spans of a document as they stand."""
    if isinstance(document, list) and depth < _DEPTH_MAX:
        for part in document:
            yield from spans_in(part, depth + 1)
    elif not isinstance(document, dict) or depth >= _DEPTH_MAX:
        yield document
    elif _first(document, METRICS) is not None:
        return
    elif (held := _first(document, (*RESOURCES, *LOGS))) is not None:
        for part in _list(held):
            yield from spans_in(part, depth + 1)
    else:
        scopes = _first(document, SCOPES)
        if scopes is None and isinstance(document.get("spans"), list) and not _is_span(document):
            scopes = [document]
        if scopes is None:
            yield document
        for scope in _list(scopes):
            yield from _list(scope.get("spans")) if isinstance(scope, dict) else (scope,)


def looks_like(document: Any) -> float:
    """Return how much a document looks like spans: 0 not at all, 1 beyond doubt."""
    if isinstance(document, list):
        document = document[0] if document else None
    if not isinstance(document, dict):
        return 0.0
    if _first(document, (*RESOURCES[:2], *SCOPES)) is not None:
        return 1.0
    if _first(document, LOGS) is not None:
        return 0.9
    if _is_span(document):
        keys = ("attributes", "startTimeUnixNano", "start_time_unix_nano", "parentSpanId")
        return 0.95 if any(key in document for key in keys) else 0.6
    for key in ("batches", "spans"):
        held = document.get(key)
        first = held[0] if isinstance(held, list) and held else None
        if isinstance(first, dict) and (_first(first, SCOPES) is not None or _is_span(first)):
            return 0.9
    return 0.0


def is_log(record: Any) -> bool:
    """Whether a record is one of a log, and no span."""
    return isinstance(record, dict) and "body" in record and not _SPANS & record.keys()


def read_log(record: dict[str, Any]) -> tuple[str, Moment]:
    """Return the id of the span that a record of a log belongs to, and what it tells."""
    named = _first(record, ("eventName", "event_name", "name"))
    moment = next(_moments([{**record, "name": named}]))
    return _id(_first(record, ("spanId", "span_id"))), moment


_SPANS = frozenset({"startTimeUnixNano", "start_time_unix_nano", "start_time", "startTime"})


def trace_id_of(record: Any) -> str:
    """Return which trace a record is of; empty where it does not say."""
    if not isinstance(record, dict):
        return ""
    return _id(_first(record, ("traceId", "trace_id", "traceID")) or _context(record, "trace"))


def read_span(record: Any, step: int) -> Span:
    """Return the span that a record is."""
    if not isinstance(record, dict):
        return Span(step, readable=False)
    code, message = _status(record)
    began = _time(record, ("startTimeUnixNano", "start_time_unix_nano"), _BEGINS)
    ended = _time(record, ("endTimeUnixNano", "end_time_unix_nano"), _ENDS)
    attributes = _attributes(record)
    return Span(
        step,
        name=_text(record.get("name") or record.get("operationName")),
        trace_id=trace_id_of(record),
        span_id=_id(_first(record, ("spanId", "span_id", "spanID")) or _context(record, "span")),
        parent_id=_id(_first(record, ("parentSpanId", "parent_span_id", "parent_id", "parentId"))),
        began_at=began,
        ended_at=ended,
        code=code,
        message=message,
        attributes=attributes,
        events=(*_moments(record.get("events")), *_moments(_told_events(attributes))),
        links=tuple(
            id_
            for link in _list(record.get("links"))
            if isinstance(link, dict)
            and (id_ := _id(_first(link, ("spanId", "span_id")) or _context(link, "span")))
        ),
    )


_BEGINS = ("startTime", "start_time", "started_at", "start_timestamp")
_ENDS = ("endTime", "end_time", "ended_at", "end_timestamp")


def _is_span(document: Mapping[str, Any]) -> bool:
    return bool(trace_id_of(document)) and bool(
        _first(document, ("spanId", "span_id", "spanID")) or _context(document, "span")
    )


def _context(record: Mapping[str, Any], of: str) -> Any:
    """Return an id from where the SDKs' printers put it."""
    context = record.get("context") or record.get("spanContext") or record.get("span_context")
    if not isinstance(context, dict):
        return None
    return context.get(f"{of}_id") or context.get(f"{of}Id")


def _id(raw: Any) -> str:
    """Return an id as hexadecimal in lower case where it is one, else as it is."""
    if raw is None or isinstance(raw, bool):
        return ""
    text = raw.strip() if isinstance(raw, str) else as_text(raw)
    found = _HEX.match(text)
    if found:
        return "" if not found[1].strip("0") else found[1].lower()
    size = _BASE64.get(len(text))
    if size:
        try:
            octets = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            return text
        if len(octets) == size:
            return octets.hex() if any(octets) else ""
    return text


def _time(
    record: Mapping[str, Any], nanos: tuple[str, ...], other: tuple[str, ...]
) -> float | None:
    raw = _first(record, nanos)
    if raw is not None:
        # By its name in nanoseconds, however small it is.
        try:
            if isinstance(raw, str) and not _DIGITS.match(raw.strip()):
                return read_time(raw)
            seconds = int(raw) / 1e9
        except (ValueError, TypeError, OverflowError):
            return None
        return seconds if 0 < seconds < _SECONDS_MAX else None
    raw = _first(record, other)
    return read_time(raw)


def _status(record: Mapping[str, Any]) -> tuple[int, str]:
    raw = record.get("status")
    held = raw if isinstance(raw, dict) else {"code": raw}
    code = _first(held, ("code", "status_code", "statusCode"))
    if code is None:
        code = _first(record, ("status_code", "statusCode"))
    message = _first(held, ("message", "description", "status_message"))
    if message is None:
        message = _first(record, ("status_message", "statusMessage"))
    if raw is None and code is None:
        return MISSING, "" if message is None else as_text(message)
    word = as_text(code).lower().rpartition("status_code_")[2].rpartition(".")[2]
    return _CODES.get(word, UNSET), "" if message is None else as_text(message)


def _attributes(record: Mapping[str, Any]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    _gather(found, record.get("attributes"), "", 0)
    for key, value in record.items():
        # As tables of spans have it: one column an attribute.
        if str(key).startswith("attributes."):
            _put(found, str(key).removeprefix("attributes."), value, 0)
    kind = record.get("span_kind")
    if isinstance(kind, str) and kind.isupper() and "SPAN_KIND" not in kind:
        found.setdefault(genai.SPAN_KIND, kind)
    return found


def _gather(found: dict[str, Any], raw: Any, prefix: str, depth: int) -> None:
    """Add attributes to `found`, however they are written."""
    if isinstance(raw, dict):
        for key, value in raw.items():
            _put(found, f"{prefix}{key}", value, depth)
    elif isinstance(raw, list):
        for pair in raw:
            if isinstance(pair, dict) and isinstance(pair.get("key"), str):
                _put(found, f"{prefix}{pair['key']}", value_of(pair.get("value")), depth)


def _put(found: dict[str, Any], key: str, value: Any, depth: int) -> None:
    """Add one attribute; of one that is an object, what it holds too, under dotted names."""
    if len(found) >= _ATTRIBUTES_MAX:
        return
    found[key] = value
    if depth >= _DEPTH_MAX:
        return
    if isinstance(value, dict):
        for inner, held in value.items():
            _put(found, f"{key}.{inner}", held, depth + 1)
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for place, held in enumerate(value):
            _put(found, f"{key}.{place}", held, depth + 1)


def value_of(raw: Any, depth: int = 0) -> Any:
    """Return the plain value of OTLP's `AnyValue`; what is none is returned as it is."""
    if not isinstance(raw, dict) or depth > _DEPTH_MAX:
        return raw
    key = next(iter(raw), None)
    kind = _VALUES.get(key) if isinstance(key, str) else None
    if key is None or kind is None:
        return raw or None
    value = raw[key]
    if kind == "plain":
        return value
    if kind == "number":
        return _number(value)
    held = _list(value.get("values") if isinstance(value, dict) else value)
    if kind == "list":
        return [value_of(one, depth + 1) for one in held]
    pairs = (pair for pair in held if isinstance(pair, dict))
    return {as_text(pair.get("key")): value_of(pair.get("value"), depth + 1) for pair in pairs}


_VALUES = {
    f"{kind}{end}": what
    for kind, what in {
        "string": "plain",
        "bool": "plain",
        "bytes": "plain",
        "double": "plain",
        "int": "number",
        "array": "list",
        "kvlist": "pairs",
    }.items()
    for end in ("Value", "_value")
}


def _number(raw: Any) -> Any:
    if isinstance(raw, str) and _DIGITS.match(raw):
        return int(raw)
    if isinstance(raw, float) and math.isfinite(raw) and raw.is_integer():
        return int(raw)
    return raw


def _told_events(attributes: Mapping[str, Any]) -> Any:
    """Return events that an attribute holds, as libraries do that have no other way."""
    raw = attributes.get("events")
    held = read_value(raw) if isinstance(raw, str) and raw.startswith("[") else raw
    return [
        {"name": one["event.name"], "attributes": one}
        for one in _list(held)
        if isinstance(one, dict) and "event.name" in one
    ]


def _moments(raw: Any) -> Iterator[Moment]:
    for event in _list(raw):
        if not isinstance(event, dict):
            continue
        found: dict[str, Any] = {}
        _gather(found, event.get("attributes"), "", 0)
        body = event.get("body")
        if isinstance(body, dict):
            _gather(found, value_of(body), "", 0)
        at = _time(event, ("timeUnixNano", "time_unix_nano"), ("timestamp", "time"))
        name = _text(event.get("name")) or _text(found.get("event.name"))
        yield Moment(name, at, found)


def _first(held: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = held.get(key)
        if value is not None and value != "":
            return value
    return None


def _list(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _text(raw: Any) -> str:
    return "" if raw is None else as_text(raw)

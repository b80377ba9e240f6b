"""Builders of spans as OTLP JSON has them, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from undercroft.doctor.importers.otlp import FORMAT
from undercroft.model.case import Case

TRACE = "5b8efff798038103d269b633813fc60c"
START_S = 1_700_000_000


def value(raw: Any) -> dict[str, Any]:
    """Return a value as OTLP writes it."""
    match raw:
        case bool():
            return {"boolValue": raw}
        case int():
            return {"intValue": str(raw)}
        case float():
            return {"doubleValue": raw}
        case list() | tuple():
            return {"arrayValue": {"values": [value(one) for one in raw]}}
        case Mapping():
            return {"kvlistValue": {"values": pairs(raw)}}
        case _:
            return {"stringValue": str(raw)}


def pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return attributes as OTLP writes them."""
    return [{"key": key, "value": value(held)} for key, held in attributes.items()]


def span(  # noqa: PLR0913  what a span has
    n: int,
    name: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    parent: int | None = None,
    at: float | None = None,
    took_s: float = 0.5,
    code: int = 0,
    message: str = "",
    events: Sequence[tuple[str, Mapping[str, Any]]] = (),
) -> dict[str, Any]:
    """Return a span that began `at` seconds into the run, or `n` seconds if that is left out."""
    began = START_S + (float(n) if at is None else at)
    status: dict[str, Any] = {"code": code} if code else {}
    if message:
        status["message"] = message
    found: dict[str, Any] = {
        "traceId": TRACE,
        "spanId": f"{n + 1:016x}",
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(int(began * 1e9)),
        "endTimeUnixNano": str(int((began + took_s) * 1e9)),
        "attributes": pairs(attributes or {}),
        "events": [
            {"name": event, "timeUnixNano": str(int(began * 1e9)), "attributes": pairs(held)}
            for event, held in events
        ],
        "status": status,
    }
    if parent is not None:
        found["parentSpanId"] = f"{parent + 1:016x}"
    return found


def document(*spans: Mapping[str, Any]) -> dict[str, Any]:
    """Return spans as one export."""
    scope = {"scope": {"name": "agent"}, "spans": list(spans)}
    resource = {"attributes": pairs({"service.name": "desk"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def read(*documents: Any) -> Case:
    """Return the run that documents hold, as they come out of a file."""
    plain = json.loads(json.dumps(documents))
    return FORMAT.case([one for doc in plain for one in FORMAT.records(doc)], "a file")


def message(role: str, *parts: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return a message of the GenAI conventions."""
    made = [{"type": "text", "content": p} if isinstance(p, str) else dict(p) for p in parts]
    return {"role": role, "parts": made}


def wanted(call_id: str, name: str, **arguments: Any) -> dict[str, Any]:
    """Return the part of a message that proposes a call."""
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}


def came(call_id: str, text: str) -> dict[str, Any]:
    """Return the message that a call's result is."""
    return message("tool", {"type": "tool_call_response", "id": call_id, "response": text})

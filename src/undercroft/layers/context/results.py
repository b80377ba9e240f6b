"""How answers and results become messages: ids for calls, and the text that a model reads."""

from __future__ import annotations

import msgspec

from undercroft.model.message import Answer
from undercroft.model.step import Call, Result, StepStatus


def named_calls(answer: Answer, step: int) -> Answer:
    """Return `answer` with an id for every call, so that results can be told apart.

    An id that is absent, or given twice, is replaced by one made of the step and the position.
    """
    seen: set[str] = set()
    calls: list[Call] = []
    for place, call in enumerate(answer.calls):
        call_id = call.id or f"call-{step}-{place}"
        if call_id in seen:
            call_id = f"call-{step}-{place}"
        while call_id in seen:  # the provider chose the very same
            call_id += "-again"
        seen.add(call_id)
        calls.append(call if call_id == call.id else msgspec.structs.replace(call, id=call_id))
    return msgspec.structs.replace(answer, calls=tuple(calls))


def render_result(result: Result, data: object) -> str:
    """Return the text that a model reads as the result of its call; `data` is its plain value."""
    if result.status == StepStatus.OK:
        if result.stood_in:
            note = f"{result.name} failed; this is what stood in for it"
            return _json({"value": data, "note": note})
        return data if isinstance(data, str) else _json(data)
    if result.refusal is not None:
        return _json({"refused": msgspec.to_builtins(result.refusal)})
    if result.error is not None:
        return _json({"error": str(result.error)})
    return _json({"status": result.status})


def _json(data: object) -> str:
    return msgspec.json.encode(data, enc_hook=str).decode()

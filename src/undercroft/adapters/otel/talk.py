"""What a step said to a model and was answered, as messages of the GenAI conventions.

Keeps: never raises; a part of the journal that is of another shape is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from undercroft.adapters.otel.drawn import as_text
from undercroft.model.step import StepStatus
from undercroft.model.trace import StepTrace

# Of an entry of a prompt, what its first word says where that is no role.
_MARKS = frozenset({"notice", "pin"})
_CLOSED, _WHOLE = "closed", "whole"
_LITERAL, _TOOL = 5, 3


def messages_of(step: StepTrace, by_number: Mapping[int, StepTrace]) -> list[dict[str, Any]]:
    """Return the messages that a prompt adds to the one before it."""
    held = step.arguments
    prompt = held.get("prompt") if isinstance(held, Mapping) else None
    if not isinstance(prompt, Sequence) or isinstance(prompt, str):
        return []
    found = (_message(entry, by_number) for entry in prompt if isinstance(entry, list | tuple))
    return [message for message in found if message is not None]


def is_anew(step: StepTrace) -> bool:
    """Whether a prompt is no continuation of the one before it."""
    held = step.arguments
    return bool(held.get("anew")) if isinstance(held, Mapping) else False


def provider_of(service: str) -> str:
    """Return the provider in a model's service, which is `provider/model` or only that."""
    return service.partition("/")[0]


def asked_model(step: StepTrace) -> str:
    """Return the name of the model that was asked; empty where the journal does not say."""
    named = step.arguments.get("model") if isinstance(step.arguments, Mapping) else None
    return named if isinstance(named, str) else ""


def tools_of(step: StepTrace) -> list[dict[str, Any]]:
    """Return the tools that went with a prompt, where they are others than before."""
    held = step.arguments.get("tools") if isinstance(step.arguments, Mapping) else None
    return [
        {"type": "function", "name": one[0], "description": one[1], "parameters": one[2]}
        for one in (held if isinstance(held, list | tuple) else ())
        if isinstance(one, list | tuple) and len(one) == _TOOL
    ]


def answer_of(step: StepTrace) -> dict[str, Any] | None:
    """Return what a model answered, or None where it did not."""
    if step.status is not StepStatus.OK:
        return None
    parts = _answer_parts(step.value)
    if parts is None:
        return None
    stop = "tool_call" if any(part["type"] == "tool_call" for part in parts) else "stop"
    return {"role": "assistant", "parts": parts, "finish_reason": stop}


def used_tokens(step: StepTrace) -> tuple[int | None, int | None, int | None]:
    """Return tokens of prompt and answer, and those of the prompt that were cached."""
    usage = step.value.get("usage") if isinstance(step.value, Mapping) else None
    if isinstance(usage, Mapping):
        names = ("input_tokens", "output_tokens", "cached_tokens")
        found = [usage.get(name) for name in names]
        sent, answered, cached = (one if isinstance(one, int) else None for one in found)
        return sent, answered, cached
    if step.spent is not None and (step.spent.input_tokens or step.spent.output_tokens):
        return step.spent.input_tokens, step.spent.output_tokens, None
    return None, None, None


def _message(entry: Sequence[Any], by_number: Mapping[int, StepTrace]) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None
    match [*entry]:
        case [str() as mark, call_id] if mark == _CLOSED:
            found = _result(call_id, "closed")
        case [str() as mark, {"role": "tool", "content": content, **said}] if mark == _WHOLE:
            found = _result(said.get("call_id"), as_text(content))
        case [str() as mark, {"role": str(role), "content": text, **said}] if mark == _WHOLE:
            parts = _answer_parts({"text": text, "calls": said.get("calls")})
            found = None if parts is None else {"role": role, "parts": parts}
        case [str() as role, str() as text]:
            found = _text("system" if role in _MARKS else role, text)
        case ["tool", int(), call_id, content, _] if len(entry) == _LITERAL:
            found = _result(call_id, as_text(content))
        case ["tool", int() as n, call_id] if n in by_number:
            found = _result(call_id, _came_of(by_number[n]))
        case [str() as role, int() as n, *_] if n in by_number:
            parts = _answer_parts(by_number[n].value)
            found = None if parts is None else {"role": role, "parts": parts}
    return found


def _text(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _result(call_id: Any, text: str) -> dict[str, Any]:
    part = {"type": "tool_call_response", "id": call_id, "response": text}
    return {"role": "tool", "parts": [part]}


def _came_of(step: StepTrace) -> str:
    """Return what a model is shown of how a call ended, in short."""
    if step.status is StepStatus.OK:
        return as_text(step.value)
    return str(step.refusal or step.error or step.status.value)


def _answer_parts(value: Any) -> list[dict[str, Any]] | None:
    if not isinstance(value, Mapping):
        return None
    text, calls = value.get("text"), value.get("calls")
    parts: list[dict[str, Any]] = []
    if isinstance(text, str) and text:
        parts.append({"type": "text", "content": text})
    for call in calls if isinstance(calls, Sequence) and not isinstance(calls, str) else ():
        if isinstance(call, Mapping):
            named = {name: call.get(name) for name in ("id", "name", "arguments")}
            parts.append({"type": "tool_call", **named})
    return parts

"""Tools as the two providers write them: the one that fetches back, its calls, and what all weigh.

Keeps: whatever a model asks to be recalled, it gets an answer that it can read; a fault of the
model's is told to the model and raised to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from undercroft.errors import ContextError, MessageError, SettingError
from undercroft.layers.context.shapes.foreign import ANTHROPIC, OPENAI, as_data, label, text_of
from undercroft.layers.context.tombstone import RECALL
from undercroft.model.message import ToolSpec

DESCRIPTION = (
    "Return what was left out of the conversation, by the handle that stands in its place. "
    "Where it is long, ask for a part of it: characters `start` up to `end`."
)
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "handle": {"type": "string", "description": "As it stands there, such as r3.14."},
        "start": {"type": "integer", "description": "First character; 0 if absent."},
        "end": {"type": "integer", "description": "Character to stop before; the last if absent."},
    },
    "required": ["handle"],
}

Fetch = Callable[[str, int, int | None], str]


class _Asked(NamedTuple):
    """A call of the tool that fetches back."""

    call_id: str
    name: str
    arguments: object
    shape: str


def recall_tool(shape: str) -> dict[str, Any]:
    """Return the tool that fetches back as a provider takes it: `openai` or `anthropic`.

    Raises:
        SettingError: There is no such shape.
    """
    if shape == OPENAI:
        inner = {"name": RECALL, "description": DESCRIPTION, "parameters": PARAMETERS}
        return {"type": "function", "function": inner}
    if shape == ANTHROPIC:
        return {"name": RECALL, "description": DESCRIPTION, "input_schema": PARAMETERS}
    raise SettingError("shape", shape, "'openai' or 'anthropic'")


def read_tools(tools: Iterable[object]) -> tuple[ToolSpec, ...]:
    """Return tools, in whatever shape they go with the prompt, as they are counted."""
    return tuple(
        tool if isinstance(tool, ToolSpec) else _read_tool(as_data(tool, f"tools[{number}]"))
        for number, tool in enumerate(tools)
    )


def is_recall(call: object) -> bool:
    """Whether a model's call, in either shape, is one that wants something fetched back."""
    try:
        return _read_call(call).name == RECALL
    except MessageError:
        return False


def answer_recall(call: object, fetch: Fetch) -> dict[str, Any]:
    """Return the message that answers a call which wants something fetched back.

    Args:
        call: As the provider gave it: one of OpenAI's `tool_calls`, or a block `tool_use`.
        fetch: Returns what a handle stands for; raises `ContextError` where it cannot.

    Raises:
        MessageError: It is no call, or one of another tool.
    """
    asked = _read_call(call)
    if asked.name != RECALL:
        raise MessageError(
            "call", f"it is a call of {label(asked.name)}", f"Give a call of {RECALL!r}."
        )
    try:
        text, failed = fetch(*_arguments(asked.arguments)), False
    except ContextError as error:
        text, failed = str(error), True
    if asked.shape == OPENAI:
        return {"role": "tool", "tool_call_id": asked.call_id, "content": text}
    block = {"type": "tool_result", "tool_use_id": asked.call_id, "content": text}
    return {"role": "user", "content": [block | ({"is_error": True} if failed else {})]}


def _read_tool(tool: Mapping[str, Any]) -> ToolSpec:
    inner = tool.get("function") if isinstance(tool.get("function"), dict) else tool
    assert isinstance(inner, Mapping)  # noqa: S101  either is
    schema = inner.get("parameters", inner.get("input_schema"))
    # What a provider runs itself has no schema: all that is said of it weighs.
    parameters = schema if isinstance(schema, dict) else dict(tool)
    return ToolSpec(text_of(inner.get("name")), text_of(inner.get("description")), parameters)


def _read_call(call: object) -> _Asked:
    data = as_data(call, "call")
    inner = data.get("function")
    if isinstance(inner, dict):
        arguments = inner.get("arguments")
        return _Asked(text_of(data.get("id")), text_of(inner.get("name")), arguments, OPENAI)
    if data.get("type") == "tool_use":
        arguments = data.get("input")
        return _Asked(text_of(data.get("id")), text_of(data.get("name")), arguments, ANTHROPIC)
    raise MessageError(
        "call",
        "it is no call of a tool",
        "Give one of message.tool_calls, or a block of type tool_use.",
    )


def _arguments(given: object) -> tuple[str, int, int | None]:
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given)
        except (ValueError, RecursionError):
            given = None
    wanted = given if isinstance(given, dict) else {}
    handle, start, end = wanted.get("handle"), wanted.get("start", 0), wanted.get("end")
    start = 0 if start is None else start
    whole = type(start) is int and (end is None or type(end) is int)
    if not isinstance(handle, str) or not whole:
        raise ContextError(
            RECALL, "the arguments are not as they should be", 'Call it as {"handle": "r3.14"}.'
        )
    return handle, start, end

"""What LangChain's tools return as plain data, and back: what a journal keeps of a result.

Keeps: what comes back is made by a short list of known classes; nothing is imported by a name
that the data holds, and nothing is pickled. What cannot be written down is an error when it is
wanted back, and never quietly something else.

A `ToolMessage` with nothing but text is that text. Anything else is an object with one key that
begins with `$`, such as `{"$message": …}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, ToolMessage, message_to_dict, messages_from_dict
from langgraph.types import Command, Overwrite, Send

from undercroft.errors import EncodeError

Returned: TypeAlias = ToolMessage | Command[Any] | list[ToolMessage | Command[Any]]

_PLAIN = (type(None), bool, int, float, str, bytes)
_DEPTH_MAX = 100


def data_of(returned: Any) -> Any:
    """Return what a tool node got from a tool as plain data."""
    if type(returned) is ToolMessage and isinstance(returned.content, str):
        more = returned.artifact is not None or returned.additional_kwargs or returned.id
        if not (more or returned.response_metadata or returned.status != "success"):
            return returned.content
    return _written(returned, 0)


def returned_of(data: Any, *, name: str, call_id: str | None) -> Any:
    """Return what a tool node gets for a result that was recorded.

    Args:
        data: As `data_of` made it, or as somebody else recorded it.
        name: Of the tool.
        call_id: The id of the call.

    Raises:
        EncodeError: It held what cannot be written down.
    """
    read = _read(data, name) if isinstance(data, Mapping | list) else data
    if isinstance(read, ToolMessage):
        return read.model_copy(update={"tool_call_id": call_id or read.tool_call_id})
    if isinstance(read, Command):
        return read
    if isinstance(read, list) and read and all(isinstance(r, ToolMessage | Command) for r in read):
        return read
    return None


def _written(value: Any, depth: int) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if depth > _DEPTH_MAX:
        return _lost(value)
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(value, depth + 1)
    return _lost(value)


def _written_message(message: BaseMessage, depth: int) -> Any:
    if not isinstance(message, ToolMessage) or message.artifact is None:
        return {"$message": message_to_dict(message)}
    bare = message.model_copy(update={"artifact": None})
    return {"$message": message_to_dict(bare), "artifact": _written(message.artifact, depth)}


def _written_document(document: Document, depth: int) -> Any:
    return [document.page_content, _written(document.metadata, depth), document.id]


def _written_command(command: Command[Any], depth: int) -> Any:
    told = {name: getattr(command, name) for name in ("graph", "update", "resume", "goto")}
    return {"$command": {name: _written(one, depth) for name, one in told.items()}}


def _written_dict(value: dict[Any, Any], depth: int) -> Any:
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _written(one, depth) for key, one in value.items()}
    return {"$dict": [[_written(k, depth), _written(v, depth)] for k, v in value.items()]}


_WRITERS: tuple[tuple[type[Any], Callable[[Any, int], Any]], ...] = (
    (BaseMessage, _written_message),
    (Document, lambda value, depth: {"$document": _written_document(value, depth)}),
    (Command, _written_command),
    (Send, lambda value, depth: {"$send": [value.node, _written(value.arg, depth)]}),
    (Overwrite, lambda value, depth: {"$overwrite": _written(value.value, depth)}),
    (tuple, lambda value, depth: {"$tuple": [_written(one, depth) for one in value]}),
    (list, lambda value, depth: [_written(one, depth) for one in value]),
    (dict, _written_dict),
)


def _lost(value: Any) -> dict[str, str]:
    kind = type(value)
    return {"$lost": f"{kind.__module__}.{kind.__qualname__}"}


def _read(data: Any, name: str) -> Any:
    if isinstance(data, list):
        return [_read(one, name) for one in data]
    if not isinstance(data, Mapping):
        return data
    key = next(iter(data), "")
    if key == "$message":
        message = messages_from_dict([data[key]])[0]
        if isinstance(message, ToolMessage) and "artifact" in data:
            message.artifact = _read(data["artifact"], name)
        return message
    if key == "$lost":
        raise EncodeError(
            name,
            f"its result held a {data[key]}, which no journal can hold, and is wanted again",
            "Return plain data, messages and Documents from it; what it did is not repeated.",
        )
    read = _READERS.get(key) if len(data) == 1 else None
    if read is not None:
        return read(data[key], name)
    return {key: _read(one, name) for key, one in data.items()}


_READERS: Mapping[str, Callable[[Any, str], Any]] = {
    "$document": lambda told, name: Document(told[0], metadata=_read(told[1], name), id=told[2]),
    "$command": lambda told, name: Command(**{k: _read(one, name) for k, one in told.items()}),
    "$send": lambda told, name: Send(told[0], _read(told[1], name)),
    "$overwrite": lambda told, name: Overwrite(_read(told, name)),
    "$tuple": lambda told, name: tuple(_read(one, name) for one in told),
    "$dict": lambda told, name: {_read(k, name): _read(v, name) for k, v in told},
}

"""What a tool of pydantic-ai returned, as plain data, and back again after a resume.

Keeps: what comes back reads to the model as it did: texts, numbers and structures as they are,
images and files as what they were, a `ToolReturn` with its content, metadata and revealed tools.
Objects of a class of the user's own come back as the data that they were dumped to, which is what
the framework itself makes of them in a saved history.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic_ai import ToolReturn
from pydantic_ai.exceptions import CallDeferred

_RETURN = "pydantic_ai.return"
_DEFERRED = "pydantic_ai.deferred"
_PLAIN = (str, int, float, bool, type(None))
_DEPTH_MAX = 16

_adapter: TypeAdapter[ToolReturn[Any]] = TypeAdapter(ToolReturn)


def plain(value: Any) -> Any:
    """Return what a tool returned as plain data.

    Raises:
        PydanticSerializationError: It cannot be written as JSON, as the framework would have to.
    """
    if _is_plain(value, 0):
        return value
    bare = not isinstance(value, ToolReturn)
    told = _adapter.dump_python(ToolReturn(value) if bare else value, mode="json")
    if bare and _names_no_file(told["return_value"], 0):
        return told["return_value"]
    return {_RETURN: told, "bare": bare}


def rebuilt(data: Any) -> Any:
    """Return what a tool had returned.

    Raises:
        CallDeferred: It had put the call off.
    """
    if not isinstance(data, dict):
        return data
    if _DEFERRED in data:
        raise CallDeferred(data.get("metadata"), kind=data[_DEFERRED])
    if _RETURN not in data:
        return data
    made = _adapter.validate_python(data[_RETURN])
    return made.return_value if data.get("bare") else made


def put_off(error: CallDeferred) -> dict[str, Any]:
    """Return what is written down of a call that its tool put off."""
    metadata = error.metadata
    told = None if metadata is None else plain(metadata)
    return {_DEFERRED: error.kind, "metadata": told}


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind in _PLAIN:
        return True
    if depth > _DEPTH_MAX:
        return False
    if kind is dict:
        return all(type(key) is str and _is_plain(part, depth + 1) for key, part in value.items())
    return kind is list and all(_is_plain(part, depth + 1) for part in value)


def _names_no_file(data: Any, depth: int) -> bool:
    """Whether dumped data is all that there was: a file is known by its kind, and no data."""
    if depth > _DEPTH_MAX:
        return False
    if isinstance(data, dict):
        return "kind" not in data and all(_names_no_file(x, depth + 1) for x in data.values())
    return not isinstance(data, list) or all(_names_no_file(x, depth + 1) for x in data)

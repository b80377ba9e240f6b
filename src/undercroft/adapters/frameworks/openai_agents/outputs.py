"""What tools return as plain data, and back again: text, images and files survive a journal.

Keeps: what is rebuilt from a record reads for the model as what was returned did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents import ToolOutputFileContent, ToolOutputImage, ToolOutputText
from pydantic_core import to_jsonable_python

_STRUCTURED = (ToolOutputText, ToolOutputImage, ToolOutputFileContent)
_PLAIN = (str, int, float, bool, type(None))
# Data that is nested deeper than this is written as the SDK would show it: as text.
_DEPTH_MAX = 50


def plain(value: Any, *, typed: bool = False) -> Any:
    """Return what a tool returned as data from which the same can be shown to a model.

    Args:
        value: What it returned.
        typed: Whether the SDK sends it by a schema of its own; else what is no data is sent as
            `str` has it.
    """
    if isinstance(value, _STRUCTURED):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, list | tuple) and value and all(isinstance(v, _STRUCTURED) for v in value):
        return [plain(v) for v in value]
    if _is_data(value, _DEPTH_MAX):
        return value
    if typed:
        return to_jsonable_python(value, fallback=str)
    return str(value)


def _is_data(value: Any, depth: int) -> bool:
    """Whether it comes out of a journal just as it went in."""
    if type(value) in _PLAIN:
        return True
    if depth == 0:
        return False
    if type(value) is list:
        return all(_is_data(one, depth - 1) for one in value)
    if type(value) is dict:
        return all(type(k) is str and _is_data(v, depth - 1) for k, v in value.items())
    return False


def text_of(content: Any) -> str:
    """Return what can be read of the content of an item: a text, or parts of which some are."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        return "" if content is None else str(content)
    return "".join(_part(part) for part in content)


def _part(part: Any) -> str:
    for name in ("text", "refusal"):
        found = field_of(part, name)
        if isinstance(found, str):
            return found
    return f"[{field_of(part, 'type') or 'part'}]"


def field_of(item: Any, name: str) -> Any:
    """Return a field of an item of the SDK's, which is a mapping or an object; None without it."""
    if isinstance(item, Mapping):
        return item.get(name)
    return getattr(item, name, None)

"""Calls as the client libraries of OpenAI and Anthropic give them, read as calls of ours.

Keeps: arguments stay as the model wrote them; what is no call is an error that shows it.
Source: OpenAI, "Function calling" (chat completions and Responses); Anthropic, "Tool use".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from undercroft.errors import DeclarationError
from undercroft.model.step import Call


def calls_of(proposed: Iterable[object]) -> list[Call]:
    """Return the calls that a model proposed, in their order.

    Args:
        proposed: `uc.Call`s; `message.tool_calls` of a chat completion; the `function_call`
            items of a response of OpenAI's, or the `tool_use` blocks of an answer of Anthropic's,
            among other items and blocks or alone. As objects of their libraries or as dicts.

    Raises:
        DeclarationError: Something else is among them.
    """
    return [call for one in proposed if (call := _call(one)) is not None]


def _call(one: object) -> Call | None:
    if isinstance(one, Call):
        return one
    kind = _get(one, "type")
    function = _get(one, "function")
    if function is not None:
        return _made(one, _get(function, "name"), _get(function, "arguments"), _get(one, "id"))
    if kind == "function_call":
        return _made(one, _get(one, "name"), _get(one, "arguments"), _get(one, "call_id"))
    if kind == "tool_use":
        return _made(one, _get(one, "name"), _get(one, "input"), _get(one, "id"))
    if isinstance(kind, str):
        return None  # a text, a thought: another part of the same answer
    raise _no_call(one)


def _made(one: object, name: Any, arguments: Any, call_id: Any) -> Call:
    if not isinstance(name, str) or not isinstance(call_id, str | None):
        raise _no_call(one)
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, str | dict):
        raise _no_call(one)
    return Call(name, arguments, call_id)


def _get(one: object, name: str) -> Any:
    return one.get(name) if isinstance(one, Mapping) else getattr(one, name, None)


def _no_call(one: object) -> DeclarationError:
    return DeclarationError(
        "calls",
        f"{one!r:.80} is no call",
        "Give what the model proposed: message.tool_calls, or uc.Call(name, arguments).",
    )

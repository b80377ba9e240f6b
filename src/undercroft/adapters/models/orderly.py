"""A conversation as every provider takes it: each result right after its call, nothing empty.

Keeps: what was said is sent, in its order; a result that belongs to no call is told in the user's
place, and a call that has no result gets one that says so.
Leaves to the layer `context`: what of a conversation a prompt shows; the shapes of messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import structs

from undercroft.layers.context.conversation import NO_RESULT, clean
from undercroft.model.message import Message
from undercroft.model.step import Call

NAME_CHARS_MAX = 64
UNNAMED = "unnamed"
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")


class Placed(NamedTuple):
    """A message, and where in the request it stood."""

    message: Message
    place: int


def legal_name(name: str) -> str:
    """Return a tool's name as providers take it; a model may have made up one that they do not."""
    return _ILLEGAL.sub("_", name[:NAME_CHARS_MAX]) or UNNAMED


def orderly(messages: Sequence[Message]) -> list[Placed]:
    """Return the messages of a request in an order that every provider takes."""
    results = _results(messages)
    taken = {place for of_call in results.values() for place in of_call}
    found: list[Placed] = []
    for place, message in enumerate(messages):
        if message.role == "tool":
            if place not in taken:
                text = f"[a result of {legal_name(message.name or '')}]\n{message.content}"
                found.append(Placed(Message("user", clean(text)), place))
            continue
        if message.role == "assistant" and not message.calls and not message.content.strip():
            continue
        sent = _legal(message, place)
        found.append(Placed(sent, place))
        for at, call in enumerate(sent.calls):
            places = results.get((place, at), ())
            text = clean(messages[places[0]].content) if places else NO_RESULT
            result = Message("tool", text, (), call.id, call.name)
            found.append(Placed(result, places[0] if places else place))
    return found


def _results(messages: Sequence[Message]) -> dict[tuple[int, int], list[int]]:
    """Return the place of the result of each call, by the places of message and call."""
    found: dict[tuple[int, int], list[int]] = {}
    waiting: dict[str, list[tuple[int, int]]] = {}
    for place, message in enumerate(messages):
        for at, call in enumerate(message.calls):
            if call.id:
                waiting.setdefault(call.id, []).append((place, at))
        if message.role == "tool" and message.call_id and waiting.get(message.call_id):
            found[waiting[message.call_id].pop(0)] = [place]
    return found


def _legal(message: Message, place: int) -> Message:
    """Return a message with names that providers take, an id for every call, and no half text."""
    calls = message.calls
    if calls and not all(call.id and legal_name(call.name) == call.name for call in calls):
        calls = tuple(
            Call(legal_name(call.name), call.arguments, call.id or f"call-{place}-{at}")
            for at, call in enumerate(calls)
        )
    content = clean(message.content)
    if calls is message.calls and content is message.content:
        return message
    return structs.replace(message, calls=calls, content=content)


def last_of(placed: Iterable[Placed]) -> dict[int, int]:
    """Return, by the place of a message in the request, where it stands last in the order."""
    return {one.place: at for at, one in enumerate(placed)}

"""Prompts of the SDK as messages of ours, and back: items in the shape of the Responses API.

Keeps: what came from the SDK goes out untouched, where it goes out at all; what did not change
since the last prompt is not read again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from undercroft.adapters.frameworks.openai_agents.outputs import field_of, text_of
from undercroft.model.foreign import Sending
from undercroft.model.message import Answer, Message, Usage
from undercroft.model.step import Call

# What is put behind the ids of calls, where no session was given: by it a saved run finds its turn.
_MARK = re.compile(r"_uc([0-9a-f]{12})$")
_PROMPTS = ("system", "developer")


def marked(call_id: str, token: str) -> str:
    """Return the id of a call as the SDK is told it."""
    return f"{call_id}_uc{token}" if token and not _MARK.search(call_id) else call_id


def unmarked(call_id: str) -> str:
    """Return the id of a call as the provider gave it."""
    return _MARK.sub("", call_id)


def mark_of(call_id: object) -> str:
    """Return what was put behind an id; empty where nothing was."""
    found = _MARK.search(call_id) if isinstance(call_id, str) else None
    return found[1] if found else ""


def unmarked_item(item: Any) -> Any:
    """Return an item as it goes to the provider."""
    call_id = field_of(item, "call_id")
    if not mark_of(call_id):
        return item
    if isinstance(item, dict):
        return {**item, "call_id": unmarked(call_id)}
    return item.model_copy(update={"call_id": unmarked(call_id)})


def marked_item(item: Any, token: str) -> Any:
    """Return an item of an answer as the SDK is told it."""
    call_id = field_of(item, "call_id")
    if not token or not isinstance(call_id, str) or not call_id:
        return item
    if isinstance(item, dict):
        return {**item, "call_id": marked(call_id, token)}
    return item.model_copy(update={"call_id": marked(call_id, token)})


def call_of(item: Any) -> Call | None:
    """Return the call that an item of an answer proposes, if it is answered by whoever runs it."""
    kind = field_of(item, "type")
    call_id = field_of(item, "call_id")
    if not isinstance(kind, str) or not kind.endswith("_call") or not isinstance(call_id, str):
        return None
    name = field_of(item, "name") or kind
    space = field_of(item, "namespace")
    arguments = field_of(item, "arguments")
    if arguments is None:
        arguments = json.dumps(
            {"input": field_of(item, "input") or field_of(item, "action")}, default=str
        )
    qualified = f"{space}.{name}" if isinstance(space, str) and space != name else name
    return Call(str(qualified), arguments, unmarked(call_id))


def answer_of(output: Iterable[Any], usage: Any) -> Answer:
    """Return what a model said as an answer of ours; calls bear the provider's ids."""
    message = _assistant(list(output))
    cached = field_of(field_of(usage, "input_tokens_details"), "cached_tokens")
    spent = Usage(
        int(field_of(usage, "input_tokens") or 0),
        int(field_of(usage, "output_tokens") or 0),
        int(cached or 0),
    )
    # One that counts nothing does not know what was spent.
    known = spent.input_tokens or spent.output_tokens
    return Answer(message.content, message.calls, spent if known else None)


def _assistant(items: Sequence[Any]) -> Message:
    """Return what a model said in one answer, of which each item is a part."""
    texts = [text_of(field_of(i, "content")) for i in items if field_of(i, "role") == "assistant"]
    calls = [call for call in map(call_of, items) if call is not None]
    return Message("assistant", "".join(texts), tuple(calls))


@dataclass(frozen=True, slots=True)
class _Read:
    """One message, and which items it stands for."""

    message: Message
    begin: int
    end: int


class Prompts:
    """The prompts of one line of a run, each of which mostly repeats the one before."""

    __slots__ = ("_instructions", "_items", "_read")

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._read: list[_Read] = []
        self._instructions: str | None = None

    def read(self, instructions: str | None, items: Sequence[Any]) -> list[Message]:
        """Return a prompt as messages."""
        same = 0
        for mine, theirs in zip(self._items, items, strict=False):
            if mine is not theirs and mine != theirs:
                break
            same += 1
        # The last message may have grown.
        kept = [read for read in self._read if read.end < same]
        self._items, self._instructions = list(items), instructions
        self._read = kept + _grouped(items, kept[-1].end if kept else 0)
        messages = [read.message for read in self._read]
        return messages if instructions is None else [_system(instructions), *messages]

    def sent(self, sending: Sending) -> tuple[str | None, list[Any]]:
        """Return the instructions and the items of a prompt as it is to go out."""
        if sending.plain:
            return self._instructions, [unmarked_item(item) for item in self._items]
        first = 0 if self._instructions is None else 1
        instructions: str | None = None
        items: list[Any] = []
        for message, place in zip(sending.request.messages, sending.places, strict=True):
            if place is None:
                items += _items(message)
            elif place < first:
                instructions = self._instructions
            else:
                read = self._read[place - first]
                items += [unmarked_item(item) for item in self._items[read.begin : read.end]]
        return instructions, items


def _system(text: str) -> Message:
    return Message("system", text)


def _grouped(items: Sequence[Any], begin: int) -> list[_Read]:
    """Return the messages that items say, from the one at `begin`."""
    found: list[_Read] = []
    at = begin
    while at < len(items):
        end = at + 1
        if _said_by_model(items[at]):
            while end < len(items) and _said_by_model(items[end]):
                end += 1
            message = _assistant(items[at:end])
        else:
            message = _other(items[at])
        found.append(_Read(message, at, end))
        at = end
    return found


def _said_by_model(item: Any) -> bool:
    role = field_of(item, "role")
    if role is not None:
        return bool(role == "assistant")
    return not str(field_of(item, "type")).endswith("_output")


def _other(item: Any) -> Message:
    role = field_of(item, "role")
    if role is not None:
        said = "system" if role in _PROMPTS else "user"
        return Message(said, text_of(field_of(item, "content")))  # type: ignore[arg-type]
    call_id = field_of(item, "call_id")
    if isinstance(call_id, str):
        return Message("tool", text_of(field_of(item, "output")), call_id=unmarked(call_id))
    return Message("user", json.dumps(item, default=str))


def _items(message: Message) -> list[Any]:
    """Return a message of ours as items."""
    if message.role == "tool":
        return [
            {
                "type": "function_call_output",
                "call_id": message.call_id or "",
                "output": message.content,
            }
        ]
    said: list[Any] = []
    if message.content or not message.calls:
        said.append({"role": message.role, "content": message.content})
    for call in message.calls:
        given = call.arguments
        said.append(
            {
                "type": "function_call",
                "call_id": call.id or "",
                "name": call.name,
                "arguments": given if isinstance(given, str) else json.dumps(given),
            }
        )
    return said

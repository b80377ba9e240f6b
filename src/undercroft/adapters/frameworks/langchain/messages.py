"""LangChain's messages in the form that every provider's can be made from, and ours in theirs.

Keeps: one message is translated once; what is not text has a mark in its place, which tells one
image from another without holding it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from undercroft.layers.context.shapes.media import read_block
from undercroft.model.message import Answer, Message, Usage
from undercroft.model.step import Call

_CALLS = frozenset({"tool_use", "tool_call", "function_call", "invalid_tool_call"})
_TEXTS = frozenset({"text", "refusal", "input_text", "output_text"})


class Translated:
    """What the messages of one conversation are in our words, each translated once."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # By the identity of a message; the message itself, so that its identity stays its own.
        self._known: dict[int, tuple[BaseMessage, Message]] = {}

    def all(self, messages: Sequence[BaseMessage]) -> list[Message]:
        """Return messages in our words."""
        known = self._known
        told: list[Message] = []
        for message in messages:
            found = known.get(id(message))
            if found is None:
                found = known[id(message)] = message, message_of(message)
            told.append(found[1])
        return told


def message_of(message: BaseMessage) -> Message:
    """Return one message in our words."""
    text = text_of(message)
    if isinstance(message, AIMessage):
        return Message("assistant", text, calls_of(message))
    if isinstance(message, ToolMessage):
        return Message("tool", text, call_id=message.tool_call_id, name=message.name)
    if isinstance(message, SystemMessage):
        return Message("system", text)
    return Message("user", text, name=message.name)


def text_of(message: BaseMessage) -> str:
    """Return what a message says, with marks for what is no text."""
    content = message.content
    if isinstance(content, str):
        return content
    said: list[str] = []
    for block in content:
        if isinstance(block, str):
            said.append(block)
        elif block.get("type") not in _CALLS:
            said.append(_text_of_block(block))
    return "\n".join(said)


def _text_of_block(block: Mapping[str, Any]) -> str:
    text = read_block(block).text
    if block.get("type") in _TEXTS:
        return text
    whole = json.dumps(block, sort_keys=True, default=str).encode()
    return f"{text} sha256:{hashlib.sha256(whole).hexdigest()[:12]}"


def calls_of(message: AIMessage, *, unread: bool = True) -> tuple[Call, ...]:
    """Return the calls that a message proposes; with `unread` those too that cannot be read."""
    calls = [Call(call["name"], call["args"], call["id"]) for call in message.tool_calls]
    if not unread:
        return tuple(calls)
    calls += [
        Call(call["name"] or "", call["args"] or "", call["id"])
        for call in message.invalid_tool_calls
    ]
    return tuple(calls)


def answer_of(message: AIMessage) -> Answer:
    """Return what a model answered in our words."""
    told = message.usage_metadata
    usage = None
    if told is not None:
        cached = told.get("input_token_details", {}).get("cache_read", 0)
        usage = Usage(told["input_tokens"], told["output_tokens"], cached or 0)
    return Answer(text_of(message), calls_of(message), usage)


def theirs(message: Message) -> AnyMessage:
    """Return a message of ours as one of LangChain's."""
    if message.role == "system":
        return SystemMessage(message.content)
    if message.role == "tool":
        return ToolMessage(message.content, tool_call_id=message.call_id or "", name=message.name)
    if message.role == "user":
        return HumanMessage(message.content, name=message.name)
    calls = [
        {"name": call.name, "args": call.arguments, "id": call.id, "type": "tool_call"}
        for call in message.calls
        if isinstance(call.arguments, dict)
    ]
    return AIMessage(message.content, tool_calls=calls)

"""The conversation as data: messages, the request to a model, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from undercroft.model.step import Call

Role = Literal["system", "user", "assistant", "tool"]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One message of a prompt, in a form that every provider's can be made from.

    Attributes:
        calls: What an assistant's message proposes.
        call_id: For role `tool`: the call that this answers.
    """

    role: Role
    content: str
    calls: tuple[Call, ...] = ()
    call_id: str | None = None
    name: str | None = None


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the provider reported them.

    Attributes:
        input_tokens: Of the whole prompt, what was cached included.
        cached_tokens: Of those, read from the provider's cache.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


class Answer(msgspec.Struct, frozen=True):
    """What a model said: text, proposed calls, or both.

    A provider may send one id twice or none; the engine tells calls apart by position.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model is told about a tool.

    Attributes:
        parameters: JSON schema of an object.
    """

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request to a model: the whole prompt and the tools on offer.

    Attributes:
        output_tokens_max: The most that the answer may have; None: as the client is set up.
        breakpoints: Places of messages after which the prompt stays as it is for a while, so
            that it is worth caching up to there; for providers that want to be told.
        place: How many answers the line of code was given before in this turn, where its
            prompt may not show all of them; else None.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    output_tokens_max: int | None = None
    breakpoints: tuple[int, ...] = ()
    place: int | None = None

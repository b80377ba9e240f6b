"""The conversation as data: messages, the request to a model, and its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import msgspec

from undercroft.model.step import Call

Role = Literal["system", "user", "assistant", "tool"]
# Is told the text of an answer while it comes, piece by piece.
Listener = Callable[[str], Awaitable[None] | None]


class Stop(StrEnum):
    """Why a model's answer ended.

    `end`: it had said all. `calls`: it waits for results. `length`: it was cut off, since it may
    have no more tokens. `refusal`: the model will not. `filter`: the provider took the answer
    away, or the rest of it. `other`: for a reason of the provider's own.
    """

    END = "end"
    CALLS = "calls"
    LENGTH = "length"
    REFUSAL = "refusal"
    FILTER = "filter"
    OTHER = "other"


class Native(msgspec.Struct, frozen=True, gc=False):
    """What of an answer only the provider understands that gave it, such as signed thoughts.

    It goes back to that provider as it came, and to nobody else.

    Attributes:
        provider: Who gave it, as its client says.
        model: Which model was asked.
        parts: The answer part by part, plain data. `{"text": n}` stands for the next `n`
            characters of its text and `{"call": n}` for call number `n`, from 0, each with what
            else the provider said of that part; all else is the provider's own.
    """

    provider: str
    model: str
    parts: tuple[dict[str, Any], ...]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One message of a prompt, in a form that every provider's can be made from.

    Attributes:
        calls: What an assistant's message proposes.
        call_id: For role `tool`: the call that this answers.
        native: What goes back to the provider that said an assistant's message, and to no other.
    """

    role: Role
    content: str
    calls: tuple[Call, ...] = ()
    call_id: str | None = None
    name: str | None = None
    native: Native | None = None


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

    Attributes:
        stop: Why it ended, one of `Stop`; empty where the client does not say.
        model: Which model answered, as the provider says it.
        native: What the provider wants back with the message, and nobody else understands.
        cut: Names of calls that were cut off in their middle; they are not among `calls`.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    usage: Usage | None = None
    stop: str = ""
    model: str = ""
    native: Native | None = None
    cut: tuple[str, ...] = ()


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
        on_text: Is told the text of the answer as it comes, by a client that streams; no part of
            what is asked.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    output_tokens_max: int | None = None
    breakpoints: tuple[int, ...] = ()
    place: int | None = None
    on_text: Listener | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Wire:
    """How a model client writes requests: all of a body but what the request itself brings.

    With a `ModelRequest` it makes the JSON body, by a pure function of the form's name. No
    header and no key is in it.

    Attributes:
        form: Of the body, such as `openai.chat`.
        provider: To whom it goes; what another one said in words of its own is left out.
        parameters: Of the body, beyond messages and tools; plain data.
    """

    form: str
    provider: str
    parameters: Mapping[str, Any]

"""What a scripted model is shown, and what it may say or do: the values of `tests.provider`.

A request is read into one form, whichever of the three protocols it came in, so that a "model" can
be written once, as plain rules over the conversation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

Dialect: TypeAlias = Literal["chat", "responses", "messages"]
Stop: TypeAlias = Literal["stop", "calls", "length", "filter"]

PATHS: dict[str, Dialect] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}


# ------------------------------------------------------------------ what it may say or do


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the model proposes.

    Attributes:
        name: Of the tool; it need not exist.
        arguments: An object, or text that goes out as it stands, also if it is no JSON.
        id: As the model gives it; made from the number of the request if there is none.
    """

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str | None = None

    @property
    def text(self) -> str:
        """The arguments as text."""
        given = self.arguments
        return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an answer cost, in tokens; what was cached and reasoned is part of the two sums."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model says.

    Attributes:
        text: For the user.
        calls: Proposed together: one batch.
        refusal: Said instead of a text, as the protocol has it.
        stop: Why it ends, if not for the plain reason (`calls` with calls, else `stop`).
        usage: As billed; counted roughly, from the bytes, if not given.
        empty: Nothing at all: no choice, no output, no content.
    """

    text: str | None = None
    calls: Sequence[Call] = ()
    refusal: str | None = None
    stop: Stop | None = None
    usage: Usage | None = None
    empty: bool = False

    @property
    def ended(self) -> Stop:
        """Why it ends."""
        return self.stop or ("calls" if self.calls else "stop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """An error instead of an answer.

    Attributes:
        status: Of HTTP.
        headers: Sent beside the usual ones, such as `retry-after`.
        body: Sent as it stands; the protocol's own form of an error if there is none.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """The connection is closed before the first byte of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The answer stops in the middle. One that is not streamed stops after half of its bytes.

    Attributes:
        answer: What was being said.
        events: How many of its events are sent.
        clean: The stream is ended as HTTP has it, as if all had been said.
    """

    answer: Answer
    events: int
    clean: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorEvent:
    """The stream tells of an error in its middle. What is not streamed gets a status of 500.

    Attributes:
        answer: What was being said.
        events: How many of its events are sent before.
        body: The error's fields; an overloaded server's if there are none.
    """

    answer: Answer
    events: int = 0
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """Nothing comes until `Provider.release()`, or until the deadline.

    Attributes:
        answer: What comes then; without one the connection is closed.
        events: How many events of a streamed answer are sent before it hangs.
    """

    answer: Answer | None = None
    events: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """A status of 200, and then what is no answer.

    Attributes:
        data: The body; or, streamed, what one event says.
        answer: What was being said, if it is streamed.
        events: How many of its events are sent before.
    """

    data: bytes = b"<html>not what you asked for"
    answer: Answer | None = None
    events: int = 0


Reply: TypeAlias = Answer | Status | Close | Cut | ErrorEvent | Hang | Garbage


# ------------------------------------------------------------------ what it is shown


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a conversation.

    Attributes:
        role: `system`, `user`, `assistant` or `tool`.
        text: Its text; of a tool, its result.
        calls: That the assistant proposed.
        call_id: Of the call that a tool's result belongs to.
        failed: Whether a result is marked as an error, where the protocol can say so.
    """

    role: str
    text: str
    calls: tuple[Call, ...] = ()
    call_id: str | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A result that the model was shown, with the call that it belongs to, if that was shown."""

    call: Call | None
    text: str
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it came.

    Attributes:
        number: Counted from 0, over all conversations.
        path: Without a query.
        dialect: The protocol.
        headers: By names in lower case.
        raw: The body.
        at_s: Seconds since the server began.
    """

    number: int
    path: str
    dialect: Dialect
    headers: Mapping[str, str]
    raw: bytes
    at_s: float

    @cached_property
    def body(self) -> dict[str, Any]:
        """The body, parsed; an empty object if it was no JSON object."""
        return parsed(self.raw) or {}

    def forget(self) -> None:
        """Keep only the bytes: what is read again is parsed again.

        A long conversation is sent whole with each of its requests, so that all of them parsed
        are a thousand times what the last of them is.
        """
        self.__dict__.pop("body", None)
        self.__dict__.pop("said", None)

    @property
    def stream(self) -> bool:
        """Whether the answer is to be streamed."""
        return bool(self.body.get("stream"))

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return str(self.body.get("model", ""))

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that were offered."""
        offered = self.body.get("tools") or []
        return tuple((tool.get("function") or tool).get("name", "") for tool in offered)

    @cached_property
    def said(self) -> tuple[Said, ...]:
        """The conversation."""
        return tuple(_READERS[self.dialect](self.body))

    @property
    def asked(self) -> str:
        """What the user said last."""
        return next((one.text for one in reversed(self.said) if one.role == "user"), "")

    @property
    def results(self) -> tuple[Shown, ...]:
        """All results that were shown, in their order."""
        calls = {call.id: call for one in self.said for call in one.calls}
        return tuple(
            Shown(calls.get(one.call_id), one.text, one.failed)
            for one in self.said
            if one.role == "tool"
        )

    @property
    def fresh(self) -> tuple[Shown, ...]:
        """The results that were shown since the assistant last spoke."""
        last = max((at for at, one in enumerate(self.said) if one.role == "assistant"), default=-1)
        since = sum(one.role == "tool" for one in self.said[last + 1 :])
        return self.results[-since:] if since else ()


Model: TypeAlias = Callable[[Request], Reply]
Script: TypeAlias = Sequence[Reply] | Model


def parsed(raw: bytes) -> dict[str, Any] | None:
    """Return a body as an object; None if it is none."""
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def plain(content: Any) -> str:
    """Return the text of a content, which may be text, parts, or nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return plain(content.get("text", content.get("content", content.get("refusal"))))
    if isinstance(content, Sequence):
        return "".join(plain(part) for part in content)
    return str(content)


def _read_chat(body: dict[str, Any]) -> Iterator[Said]:
    for message in body.get("messages") or []:
        role = message.get("role", "")
        calls = tuple(
            Call(call["function"]["name"], call["function"]["arguments"], call["id"])
            for call in message.get("tool_calls") or []
            if "function" in call
        )
        role = "system" if role == "developer" else role
        yield Said(role, plain(message.get("content")), calls, message.get("tool_call_id"))


def _read_responses(body: dict[str, Any]) -> Iterator[Said]:
    if body.get("instructions"):
        yield Said("system", plain(body["instructions"]))
    given = body.get("input")
    if isinstance(given, str):
        yield Said("user", given)
        return
    batch: list[Call] = []
    for item in given or []:
        kind = item.get("type", "message")
        if kind == "function_call":
            batch.append(Call(item["name"], item["arguments"], item["call_id"]))
            continue
        if batch:
            yield Said("assistant", "", tuple(batch))
            batch = []
        if kind == "function_call_output":
            yield Said("tool", plain(item.get("output")), call_id=item["call_id"])
        elif kind == "message":
            role = item.get("role", "")
            yield Said("system" if role == "developer" else role, plain(item.get("content")))
    if batch:
        yield Said("assistant", "", tuple(batch))


def _read_messages(body: dict[str, Any]) -> Iterator[Said]:
    if body.get("system"):
        yield Said("system", plain(body["system"]))
    for message in body.get("messages") or []:
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        text = "".join(part["text"] for part in parts if part.get("type") == "text")
        for part in parts:
            if part.get("type") == "tool_result":
                failed = bool(part.get("is_error"))
                result = plain(part.get("content"))
                yield Said("tool", result, call_id=part["tool_use_id"], failed=failed)
        calls = tuple(
            Call(part["name"], part["input"], part["id"])
            for part in parts
            if part.get("type") == "tool_use"
        )
        if text or calls or not parts:
            yield Said(message.get("role", ""), text, calls)


_READERS: dict[Dialect, Callable[[dict[str, Any]], Iterator[Said]]] = {
    "chat": _read_chat,
    "responses": _read_responses,
    "messages": _read_messages,
}

"""Messages of pydantic-ai as messages of ours, and a prompt of ours as messages of pydantic-ai.

Keeps: what is sent as it was is sent untouched, part for part, thoughts and images included; of
what cannot be told in text its kind and size are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic_ai.messages import (
    BinaryContent,
    FilePart,
    FileUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryFeedbackPart,
    SystemPromptPart,
    TextContent,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UploadedFile,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters

from undercroft.model.foreign import Sending
from undercroft.model.message import Answer, Message, Usage
from undercroft.model.step import Call


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message of ours stands among those of the framework.

    Attributes:
        message: Number of the framework's message; None: the agent's instructions, which go
            with the request and not among its messages.
        begin: First of its parts; what says nothing by itself goes with the part after it.
        end: After the last; None for a response, which is one message.
    """

    message: int | None
    begin: int = 0
    end: int | None = None


class Translated:
    """Messages of one conversation, each translated once.

    A part that was translated is known again by its identity, so that a step does not cost more
    the longer the conversation is.
    """

    def __init__(self) -> None:
        # By the identity of a part or response, which is kept, what it became.
        self._known: dict[int, tuple[Any, Message | None]] = {}

    def messages(
        self, messages: Sequence[ModelMessage], parameters: ModelRequestParameters
    ) -> tuple[list[Message], list[Place]]:
        """Return all that is about to be sent, in order, and where each message comes from."""
        said: list[Message] = []
        places: list[Place] = []
        instructions = _instructions(messages, parameters)
        if instructions:
            said.append(Message("system", instructions))
            places.append(Place(None))
        for number, message in enumerate(messages):
            for told, place in self._of(number, message):
                said.append(told)
                places.append(place)
        return said, places

    def _of(self, number: int, message: ModelMessage) -> Iterator[tuple[Message, Place]]:
        if isinstance(message, ModelResponse):
            told = self._once(message)
            if told is not None:
                yield told, Place(number)
            return
        begin, last = 0, len(message.parts)
        told_parts = [self._once(part) for part in message.parts]
        while last and told_parts[last - 1] is None:
            last -= 1
        for at, told in enumerate(told_parts[:last]):
            if told is not None:
                end = len(message.parts) if at + 1 == last else at + 1
                yield told, Place(number, begin, end)
                begin = at + 1

    def _once(self, part: Any) -> Message | None:
        found = self._known.get(id(part))
        if found is None:
            told = _of_response(part) if isinstance(part, ModelResponse) else _of_part(part)
            found = self._known[id(part)] = part, told
        return found[1]

    def answer(self, response: ModelResponse) -> Answer:
        """Return what a model said."""
        said = response.usage
        usage = None
        if said.has_values():
            usage = Usage(said.input_tokens, said.output_tokens, said.cache_read_tokens)
        return Answer(_text(response), _calls(response), usage)


def call_of(part: ToolCallPart) -> Call:
    """Return a call that a model proposes."""
    return Call(part.tool_name, part.args or {}, part.tool_call_id)


def _calls(response: ModelResponse) -> tuple[Call, ...]:
    return tuple([call_of(part) for part in response.parts if isinstance(part, ToolCallPart)])


def _text(response: ModelResponse) -> str:
    texts = []
    for part in response.parts:
        if isinstance(part, TextPart):
            texts.append(part.content)
        elif isinstance(part, FilePart):
            texts.append(_shown(part.content))
    return "\n\n".join(texts)


def _of_response(response: ModelResponse) -> Message:
    return Message("assistant", _text(response), _calls(response))


def _of_part(part: Any) -> Message | None:
    """Return what a part of a request says; None where it only goes along with others."""
    match part:
        case SystemPromptPart():
            return Message("system", part.content)
        case UserPromptPart():
            return Message("user", _content(part.content))
        case ToolReturnPart():
            return Message("tool", _returned(part), call_id=part.tool_call_id, name=part.tool_name)
        case RetryFeedbackPart():
            return Message("user", part.model_response())
        case _ if getattr(part, "part_kind", "") == "retry-prompt":
            return _retry_prompt(part)
        case _:
            return None


def _retry_prompt(part: Any) -> Message:
    """Return what the part says that went before `RetryFeedbackPart`; old histories hold it."""
    text = part.model_response()
    if part.tool_name is None:
        return Message("user", text)
    return Message("tool", text, call_id=part.tool_call_id, name=part.tool_name)


def _returned(part: ToolReturnPart[Any]) -> str:
    text = part.model_response_str(wrap_if_error=False)
    files = [_shown(file) for file in part.files]
    return "\n".join([text, *files]) if files else text


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join([text for item in content if (text := _shown(item))])


def _shown(item: Any) -> str:
    """Return what is told of a piece of content; of what is no text, what it is."""
    match item:
        case str():
            return item
        case TextContent():
            return str(item.content)
        case BinaryContent():
            return f"[{item.media_type}, {len(item.data):,} bytes, {item.identifier}]"
        case FileUrl():
            return f"[{type(item).__name__} {item.url}]"
        case UploadedFile():
            return f"[uploaded file {item.file_id}]"
        case _:
            return ""


def _instructions(
    messages: Sequence[ModelMessage], parameters: ModelRequestParameters
) -> str | None:
    if parameters.instruction_parts is not None:
        return "\n\n".join([part.content for part in parameters.instruction_parts]) or None
    last = next((m for m in reversed(messages) if isinstance(m, ModelRequest)), None)
    found: str | None = None if last is None else last.instructions
    return found


# ---------------------------------------------------------------------- back again


def sent(
    sending: Sending, messages: Sequence[ModelMessage], places: Sequence[Place]
) -> list[ModelMessage]:
    """Return the messages of the framework that a prompt is.

    Args:
        sending: The prompt.
        messages: What the framework would have sent.
        places: Where each of ours comes from, as `Translated.messages` returned it.
    """
    if sending.plain:
        return list(messages)
    made: list[ModelMessage] = []
    # The request that parts are being put together for, and the number of the one they are of.
    parts: list[Any] = []
    source: int | None = None

    def close() -> None:
        nonlocal parts, source
        if parts:
            of = messages[source] if source is not None else None
            made.append(_request(of, parts))
        parts, source = [], None

    for message, at in zip(sending.request.messages, sending.places, strict=True):
        place = places[at] if at is not None else None
        if place is not None and place.message is None:
            continue  # the instructions go with the request
        if place is None or place.message is None:
            if message.role == "assistant":
                close()
                made.append(ModelResponse(parts=_answered(message)))
            else:
                parts.append(_part(message))
            continue
        theirs = messages[place.message]
        if isinstance(theirs, ModelResponse):
            close()
            made.append(theirs)
            continue
        if source is not None and source != place.message:
            close()
        source = place.message
        parts.extend(theirs.parts[place.begin : place.end])
    close()
    return made


def _request(of: ModelMessage | None, parts: list[Any]) -> ModelRequest:
    if not isinstance(of, ModelRequest):
        return ModelRequest(parts=parts)
    same = len(of.parts) == len(parts) and all(
        mine is theirs for mine, theirs in zip(parts, of.parts, strict=True)
    )
    return of if same else replace(of, parts=parts)


def _part(message: Message) -> Any:
    """Return what says a message of ours in a request."""
    if message.role == "tool" and message.call_id is not None:
        return ToolReturnPart(
            tool_name=message.name or "tool",
            content=message.content,
            tool_call_id=message.call_id,
        )
    if message.role == "system":
        return SystemPromptPart(message.content)
    return UserPromptPart(message.content)


def _answered(message: Message) -> list[Any]:
    parts: list[Any] = [TextPart(message.content)] if message.content else []
    parts += [ToolCallPart(call.name, call.arguments, call.id or "") for call in message.calls]
    return parts

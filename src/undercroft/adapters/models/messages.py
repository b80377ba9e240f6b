"""Anthropic's Messages: the body of a request, and what an answer says.

Keeps: the results of a batch stand first in one user message after their calls; roles alternate;
no block is without text; thoughts go back as they came, signed.
Source: Anthropic's reference of the Messages API, and its guides to thinking, streaming of tools
and prompt caching.
"""

from __future__ import annotations

from typing import Any

import msgspec

from undercroft.adapters.models.orderly import Placed, last_of, orderly
from undercroft.adapters.models.reading import (
    call_of,
    checked,
    empty,
    ended,
    mapping,
    native_of,
    objects,
    text,
    usage_of,
)
from undercroft.layers.context.shapes.anthropic_shape import NO_CONTENT, blocks_of
from undercroft.layers.context.shapes.anthropic_view import OPENING, AnthropicView
from undercroft.layers.context.shapes.foreign import ANTHROPIC, Foreign, Part, Shown
from undercroft.model.message import Answer, Message, ModelRequest, Native, Stop, ToolSpec, Wire
from undercroft.model.step import Call

FORM = "anthropic.messages"
Blocks = list[dict[str, Any]]
# The API wants the user to speak last; where nobody has since the model did, this does.
GO_ON = "(Go on.)"
_STOPS = {
    "end_turn": Stop.END,
    "stop_sequence": Stop.END,
    "tool_use": Stop.CALLS,
    "max_tokens": Stop.LENGTH,
    "model_context_window_exceeded": Stop.LENGTH,
    "refusal": Stop.REFUSAL,
}
# After these the last block may be the beginning of one; a call's input may then be anything.
_CUTTING = frozenset({Stop.LENGTH, Stop.REFUSAL})
THINKING_TOKENS_MIN = 1_024


def body(request: ModelRequest, wire: Wire) -> dict[str, Any]:
    """Return the JSON body of a request."""
    placed = orderly(request.messages)
    at = last_of(placed)
    shown = [_shown(one, wire.provider) for one in placed]
    # System texts stand at the front, wherever they were said.
    order = sorted(range(len(shown)), key=lambda place: shown[place].message.role != "system")
    where = {old: new for new, old in enumerate(order)}
    marks = [where[at[place]] for place in request.breakpoints if place in at]
    system, messages = AnthropicView().show([shown[place] for place in order], marks)
    made: dict[str, Any] = dict(wire.parameters)
    made["messages"] = _alternating(messages)
    if system:
        made["system"] = system
    if request.tools:
        made["tools"] = [_tool(spec) for spec in request.tools]
    if request.output_tokens_max is not None:
        made["max_tokens"] = min(request.output_tokens_max, made["max_tokens"])
        _think_less(made)
    return made


def _tool(spec: ToolSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "description": spec.description,
        "input_schema": spec.parameters,
    }


def _shown(one: Placed, provider: str) -> Shown:
    message = one.message
    if message.role == "tool" and not message.content.strip():
        message = msgspec.structs.replace(message, content=NO_CONTENT)
    return Shown(message, _as_given(message, provider))


def _think_less(made: dict[str, Any]) -> None:
    """Let thoughts take no more than the answer may have: the API refuses that."""
    thinking = mapping(made.get("thinking"))
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < made["max_tokens"]:
        return
    if made["max_tokens"] > THINKING_TOKENS_MIN:
        made["thinking"] = thinking | {"budget_tokens": made["max_tokens"] - 1}
    else:
        made["thinking"] = {"type": "disabled"}


def _as_given(message: Message, provider: str) -> Foreign | None:
    """Return a message as the provider gave it; None where only our own words are known."""
    native = message.native
    if native is None or native.provider != provider:
        return None
    blocks = _natively(message, native)
    if blocks is None:
        return None
    told = {"role": "assistant", "content": blocks}
    return Foreign(told, told, (ANTHROPIC,), (Part(message),))


def _natively(message: Message, native: Native) -> Blocks | None:
    blocks: Blocks = []
    at, called = 0, 0
    for part in native.parts:
        if "type" in part:
            blocks.append(part)
        elif "text" in part:
            piece = message.content[at : at + part["text"]]
            at += part["text"]
            blocks += blocks_of(Shown(Message("assistant", piece)))
        elif part["call"] == called < len(message.calls):
            call = message.calls[called]
            blocks += blocks_of(Shown(Message("assistant", "", (call,))))
            called += 1
        else:
            return None
    return blocks if at == len(message.content) and called == len(message.calls) else None


def _alternating(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages of which no two in a row have one role, and the user has the last."""
    found: list[dict[str, Any]] = []
    for message in messages:
        if found and found[-1]["role"] == message["role"]:
            both = _blocks(found[-1]) + _blocks(message)
            if message["role"] == "user":
                both.sort(key=lambda block: block.get("type") != "tool_result")
            found[-1] = {"role": message["role"], "content": both}
        else:
            found.append(message)
    if not found:
        return [{"role": "user", "content": OPENING}]
    if found[-1]["role"] != "user":
        found.append({"role": "user", "content": GO_ON})
    return found


def _blocks(message: dict[str, Any]) -> Blocks:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def answer(data: Any, wire: Wire, service: str) -> Answer:
    """Return what an answer says; see `chat.answer`. No content at all is an answer, too.

    Raises:
        ServiceError: It tells of an error, or holds no answer.
    """
    data = checked(data, service)
    if not isinstance(data.get("content"), list):
        raise empty(service, "no content in it")
    said: list[str] = []
    calls: list[Call] = []
    parts: Blocks = []
    blocks = objects(data["content"])
    for block in blocks:
        match block.get("type"):
            case "text":
                piece = text(block.get("text"))
                said.append(piece)
                parts.append({"text": len(piece)})
            case "tool_use":
                parts.append({"call": len(calls)})
                calls.append(call_of(block.get("name"), block.get("input"), block.get("id")))
            case _:
                parts.append(block)
    reason = data.get("stop_reason")
    stop = ended(_STOPS.get(reason, Stop.OTHER) if isinstance(reason, str) else None, calls)
    cut: tuple[str, ...] = ()
    if stop in _CUTTING and blocks and blocks[-1].get("type") == "tool_use":
        # Its input is an object in any case, so that nothing tells whether all of it came.
        cut = (calls.pop().name,)
    dropped = [len(calls)] if cut else []
    asked = str(wire.parameters.get("model", ""))
    return Answer(
        "".join(said),
        tuple(calls),
        usage_of(data.get("usage")),
        stop,
        text(data.get("model")),
        native_of(wire.provider, asked, parts, dropped),
        cut,
    )


class Gathered:
    """The events of a streamed answer, put together as it would have come whole.

    Attributes:
        done: Whether the provider said that it is over.
    """

    def __init__(self, service: str) -> None:
        self.service, self.done = service, False
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[Any, dict[str, Any]] = {}
        # What of a block comes in pieces: texts, thoughts, signatures, inputs.
        self._pieces: dict[Any, dict[str, list[str]]] = {}

    def take(self, event: Any) -> str:
        """Take one event; return the text that it adds.

        Raises:
            ServiceError: It tells of an error.
        """
        data = checked(event, self.service)
        at = data.get("index")
        match data.get("type"):
            case "message_start":
                self._message = dict(mapping(data.get("message")))
                self._note_usage(self._message.get("usage"))
            case "content_block_start" if isinstance(at, int):
                self._blocks[at] = dict(mapping(data.get("content_block")))
            case "content_block_delta" if isinstance(at, int):
                return self._take_piece(at, mapping(data.get("delta")))
            case "message_delta":
                self._message |= mapping(data.get("delta"))
                self._note_usage(data.get("usage"))
                self.done = self.done or bool(self._message.get("stop_reason"))
            case "message_stop":
                self.done = True
        return ""

    def _take_piece(self, at: int, delta: dict[str, Any]) -> str:
        kind, pieces = delta.get("type"), self._pieces.setdefault(at, {})
        self._blocks.setdefault(at, {"type": "text", "text": ""})
        for key, name in _PIECES:
            if isinstance(delta.get(key), str):
                pieces.setdefault(name, []).append(delta[key])
        if kind == "citations_delta":
            self._blocks[at].setdefault("citations", []).append(delta.get("citation"))
        return text(delta.get("text")) if kind == "text_delta" else ""

    def _note_usage(self, usage: Any) -> None:
        self._usage |= {key: value for key, value in mapping(usage).items() if value is not None}

    @property
    def over(self) -> bool:
        """Whether the answer is complete."""
        return self.done

    def whole(self) -> dict[str, Any]:
        """Return the answer as it would have come whole; the input of calls is text here."""
        content: Blocks = []
        for at in sorted(self._blocks):
            block = dict(self._blocks[at])
            for name, pieces in self._pieces.get(at, {}).items():
                begun = block.get(name)
                joined = (begun if isinstance(begun, str) else "") + "".join(pieces)
                # A call without arguments comes as an empty object, and no text follows.
                if joined or not isinstance(begun, dict):
                    block[name] = joined
            content.append(_with_object(block))
        return self._message | {"content": content, "usage": self._usage}


def _with_object(block: dict[str, Any]) -> dict[str, Any]:
    """Return a block as it goes back: what the provider calls itself needs an object again."""
    if block.get("type") == "tool_use" or not isinstance(block.get("input"), str):
        return block
    try:
        return block | {"input": msgspec.json.decode(block["input"])}
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return block | {"input": {}}


# The fields of a delta, and of the block that they belong to.
_PIECES = (
    ("text", "text"),
    ("thinking", "thinking"),
    ("signature", "signature"),
    ("partial_json", "input"),
)

"""A proposed call on its way to a result, and how calls, prompts and answers are written down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from undercroft.engine.body import Body
from undercroft.engine.codec import ENCODE_ERRORS, decode, encode
from undercroft.engine.handler import Handler
from undercroft.engine.lane import Place
from undercroft.engine.memo import Record
from undercroft.engine.models import Sent
from undercroft.engine.tool import Tool
from undercroft.errors import DeclarationError
from undercroft.layers.context.conversation import CLOSED, NOTICE, PIN, WHOLE, Entry
from undercroft.layers.observability.redaction import Redactor
from undercroft.layers.sequencing.arguments import ARGUMENTS_BYTES_MAX, Accepted
from undercroft.model.effect import Mode
from undercroft.model.event import ApprovalAsked
from undercroft.model.ids import fingerprint
from undercroft.model.message import Answer, ModelRequest
from undercroft.model.step import MODEL, Call, Result
from undercroft.ports import ModelClient

# No provider counts more; a larger number is none.
TOKENS_MAX = 1 << 53


class Slot:
    """One call of a batch."""

    __slots__ = (
        "accepted",
        "asked",
        "call",
        "claims",
        "data",
        "fp",
        "go",
        "handler",
        "held",
        "looped",
        "n",
        "other",
        "place",
        "record",
        "result",
        "stood_in",
        "tool",
    )

    def __init__(self, call: Call) -> None:
        self.call = call
        self.tool: Tool[..., Any] | None = None
        # Whose tool it is; as it was when the call was proposed.
        self.handler: Handler[..., Any] | None = None
        self.accepted: Accepted | None = None
        self.claims: tuple[tuple[str, str], ...] = ()
        self.held: tuple[tuple[str, str], ...] = ()
        self.place: Place | None = None
        self.go: asyncio.Future[None] | None = None
        self.fp = b""
        self.n = 0
        self.record: Record | None = None
        # What a person is asked about it in this life.
        self.asked: ApprovalAsked | None = None
        # Of what stood in for the tool in an earlier life.
        self.other: Record | None = None
        self.result: Result | None = None
        self.data: Any = None
        # What stood in for the tool; and whether it was refused since it leads in circles.
        self.stood_in = ""
        self.looped = False

    def keys(self, *modes: Mode) -> tuple[str, ...]:
        """Return the keys that it claims in one of `modes`."""
        return tuple([key for mode, key in self.claims if mode in modes])

    def proceed(self) -> None:
        """Let whoever runs it look at its place again."""
        if self.go is not None and not self.go.done():
            self.go.set_result(None)


def checked_call(call: object) -> Call:
    """Return `call` if it is one.

    Raises:
        DeclarationError: It is not.
    """
    if not isinstance(call, Call):
        raise DeclarationError(
            "turn.calls", f"{call!r:.80} is not a call", "Pass uc.Call(name, arguments)."
        )
    return call


def by_reference(entry: Entry) -> list[Any]:
    """Return a message as the journal keeps it: what a step said is not said twice."""
    message = entry.message
    if entry.whole:
        return [WHOLE, msgspec.to_builtins(message)]
    if entry.notice or entry.pin:
        return [NOTICE if entry.notice else PIN, message.content]
    if entry.step is None:
        if message.role == "tool":
            return [CLOSED, message.call_id]
        return [message.role, message.content]
    if entry.literal:
        return [message.role, entry.step, message.call_id, message.content, entry.ok]
    return [message.role, entry.step, message.call_id]


def needed(slot: Slot, earlier: Sequence[Slot]) -> list[Place]:
    """Return the places of earlier calls of a batch that meet what `slot` needs."""
    tool, accepted = slot.tool, slot.accepted
    if tool is None or accepted is None or not tool.rules.needs:
        return []
    shared = dict(zip(tool.rules.needs, tool.rules.shared, strict=True))
    return [
        other.place
        for other in earlier
        if other.place is not None
        and other.accepted is not None
        and (names := shared.get(other.call.name)) is not None
        and chosen_arguments(other.accepted.proposed, names)
        == chosen_arguments(accepted.proposed, names)
    ]


def model_body(
    model: ModelClient, name: str = MODEL, service: str = MODEL, sent: Sent | None = None
) -> Body:
    """Return what a step called `name` that asks `model` runs.

    Args:
        model: The client.
        name: Of the step.
        service: What it talks to, where the client does not say.
        sent: What it is sent, where the client says that.
    """

    async def complete(request: ModelRequest) -> Answer:
        answer = await model.complete(request)
        if not isinstance(answer, Answer):
            msg = f"the model client returned a {type(answer).__name__}, not an uc.Answer"
            raise TypeError(msg)
        return _counted(answer)

    own = str(getattr(model, "service", "") or service)
    digest = None if sent is None else sent.digest
    return replace(_body(name, complete, service=own), model=model, digest=digest)


def _counted(answer: Answer) -> Answer:
    """Return an answer without what it says of usage, where that is no count of tokens."""
    usage = answer.usage
    if usage is None:
        return answer
    counts = (usage.input_tokens, usage.output_tokens, usage.cached_tokens)
    if all(type(count) is int and 0 <= count <= TOKENS_MAX for count in counts):
        return answer
    return msgspec.structs.replace(answer, usage=None)


def _body(name: str, fn: Any, *, service: str | None = None) -> Body:
    return Body(
        name=name,
        fn=fn,
        is_async=True,
        injected={},
        changes=False,
        timeout_s=None,
        retry=None,
        verify=None,
        keyed=False,
        plain=service is None,
        decode=decode,
        service=service,
    )


CODE = _body("handler", None)

read_answer = msgspec.msgpack.Decoder(Answer).decode


def as_object(arguments: Any) -> Any:
    """Return proposed arguments as the object that their text is; as they are where it is none."""
    if not isinstance(arguments, str) or len(arguments) > ARGUMENTS_BYTES_MAX:
        return arguments
    try:
        found = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return arguments
    return found if isinstance(found, dict) else arguments


def call_fingerprint(arguments: Any, branch: str, redactor: Redactor) -> bytes:
    """Return what stands for arguments proposed in a branch, also for those that are no data.

    Of what is secret in them their marks stand, so that nobody can try out what it was.
    """
    try:
        raw = encode(arguments)
        shown = redactor.fixed(raw)
        if shown is not raw:
            arguments = decode(shown)
        return fingerprint([branch, arguments] if branch else arguments)
    except ENCODE_ERRORS:
        # It will be refused, the same way each time.
        return fingerprint(f"no data: {type(arguments).__name__}")


def chosen_arguments(arguments: Mapping[str, Any], parameters: tuple[str, ...]) -> bytes:
    """Return what stands for the values of some parameters."""
    return fingerprint([arguments.get(name) for name in parameters])


def shown(arguments: Any) -> bytes:
    """Return refused arguments for the journal, bounded."""
    try:
        raw = encode(arguments)
    except ENCODE_ERRORS as error:
        return encode(f"(not data: {error})")
    if len(raw) <= ARGUMENTS_BYTES_MAX:
        return raw
    text = arguments if isinstance(arguments, str) else repr(arguments)
    return encode(f"{text[:2_000]}… ({len(raw):,} bytes)")


def class_of(result: Result) -> str:
    """Return what a call came to, without what differs from time to time."""
    if result.refusal is not None:
        return f"refused: {result.refusal.rule}"
    if result.error is not None:
        return f"failed: {result.error.type}"
    return str(result.status)

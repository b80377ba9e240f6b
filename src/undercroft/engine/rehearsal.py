"""A turn run once more on a copy of its journal: what it may do, and where it went another way.

Keeps: in a sealed rehearsal no model and no tool is called; whatever the code asks for that the
journal does not hold ends it, and is named. In an open one whatever changes the world is refused,
unless it was allowed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from hashlib import blake2b
from operator import is_

import msgspec

from undercroft.engine.codec import decode, encode
from undercroft.engine.memo import Record
from undercroft.errors import ReplayError
from undercroft.layers.observability.redaction import Redactor
from undercroft.model.message import Message, ModelRequest, ToolSpec
from undercroft.model.step import Refusal, step_id

_DIGEST_BYTES = 8
_read_message = msgspec.msgpack.Decoder(Message).decode


class Digest:
    """What stands for a request as it goes to a model: its messages and tools.

    One that goes on from the last one costs only what is new.
    """

    __slots__ = ("_hash", "_hidden", "_messages", "_raw_tools", "_tools")

    def __init__(self) -> None:
        self._messages: tuple[Message, ...] = ()
        self._hash = blake2b(digest_size=_DIGEST_BYTES)
        self._tools: tuple[ToolSpec, ...] = ()
        self._raw_tools = encode([])
        # By place, the messages that hold secrets, as they may be written down.
        self._hidden: dict[int, Message] = {}

    def of(self, request: ModelRequest, redactor: Redactor) -> str:
        """Return the digest of a request, in hex; of what is secret in it, of its mark."""
        messages, known = request.messages, self._messages
        if len(known) > len(messages) or not all(map(is_, known, messages)):
            self._hash, known = blake2b(digest_size=_DIGEST_BYTES), ()
            self._hidden.clear()
        for place in range(len(known), len(messages)):
            raw = encode(messages[place])
            self._hash.update(redactor.fixed(raw))
            shown = redactor.raw(raw)
            if shown is not raw:
                self._hidden[place] = _read_message(shown)
        self._messages = messages
        if request.tools is not self._tools:
            self._tools = request.tools
            tools = [[spec.name, spec.description, spec.parameters] for spec in request.tools]
            self._raw_tools = encode(tools)
        whole = self._hash.copy()
        whole.update(self._raw_tools)
        return whole.hexdigest()

    def hidden(self, request: ModelRequest, redactor: Redactor) -> ModelRequest:
        """Return the request that was read last without its secrets, as a journal tells it."""
        shown = redactor.raw(self._raw_tools)
        if not self._hidden and shown is self._raw_tools:
            return request
        messages = list(request.messages)
        for place, message in self._hidden.items():
            messages[place] = message
        tools = tuple(ToolSpec(*one) for one in decode(shown))
        return replace(request, messages=tuple(messages), tools=tools)


def digest_of(request: ModelRequest, redactor: Redactor) -> str:
    """Return the digest of one request."""
    return Digest().of(request, redactor)


class Rehearsal:
    """What a turn may do that is run once more, and what it did.

    Args:
        sealed: Whether nothing may be called at all.
        effects: Whether what changes the world may be called.
        prompts: Numbers of the steps whose prompts are compared; None: all.

    Attributes:
        met: Numbers of the recorded steps whose prompt was asked for again.
        asked: The prompt that was asked for and is not recorded, if that is what happened.
        compared: How many prompts were compared with those that were sent.
        stopped: Name of the step at which the journal ends, where the code went beyond it; and of
            all such steps, where it did so side by side.
        prompts: Steps whose prompt is another one than was sent, with what would be sent now.
        refused: Steps that were not called since they would change the world.
    """

    def __init__(
        self,
        *,
        sealed: bool,
        effects: bool = False,
        prompts: Collection[int] | None = None,
    ) -> None:
        self._judged = prompts
        self.sealed, self.effects = sealed, effects
        self.stopped: str | None = None
        self.stops: set[str] = set()
        self.prompts: list[tuple[str, ModelRequest]] = []
        self.compared = 0
        self.met: set[int] = set()
        self.asked: ModelRequest | None = None
        self.refused: list[str] = []

    def admit(self, turn_id: str, name: str, record: Record | None) -> None:
        """Let a step be called, unless nothing may be.

        Raises:
            ReplayError: Nothing may.
        """
        if not self.sealed:
            return
        stopped = name if record is None else step_id(record.name, record.n)
        self.stopped = self.stopped or stopped
        self.stops.add(stopped)
        if record is not None:
            problem = f"step {stopped!r} was begun, and the journal does not hold its end"
            raise ReplayError(turn_id, problem, "It was cut off there.", stopped)
        raise ReplayError(
            turn_id,
            f"the code asks for {name!r}, which is not recorded",
            "Replay it with the code that it ran with; or go on from a step with --from.",
            name,
        )

    def effect(self, name: str) -> Refusal | None:
        """Return why a step that changes the world is not called; None where it may be."""
        if self.sealed or self.effects:
            return None
        self.refused.append(name)
        return Refusal(
            "observability.rehearsal",
            f"{name} was not called: this is a rehearsal, and it would change the world.",
            "Go on without it, or end here.",
            {"tool": name},
        )

    def compare(self, record: Record, request: ModelRequest, redactor: Redactor) -> None:
        """Take note of whether a prompt is the one that was sent."""
        self.met.add(record.n)
        if self._judged is not None and record.n not in self._judged:
            return
        started = record.started
        said = decode(started.args) if started is not None else None
        digest = said.get("sha") if isinstance(said, dict) else None
        if digest is None:
            return  # of a journal that did not say
        self.compared += 1
        if digest != digest_of(request, redactor):
            self.prompts.append((step_id(record.name, record.n), request))

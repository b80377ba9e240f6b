"""A turn run once more on a copy of its journal: what it may do, and where it went another way.

Keeps: in a sealed rehearsal no model and no tool is called; whatever the code asks for that the
journal does not hold ends it, and is named. In an open one whatever changes the world is refused,
unless it was allowed.
"""

from __future__ import annotations

from hashlib import blake2b

from undercroft.engine.codec import decode, encode
from undercroft.engine.memo import Record
from undercroft.errors import ReplayError
from undercroft.model.message import ModelRequest
from undercroft.model.step import Refusal, step_id

_DIGEST_BYTES = 8


def digest_of(request: ModelRequest) -> str:
    """Return what stands for a request as it goes to a model: its messages and tools."""
    tools = [[spec.name, spec.description, spec.parameters] for spec in request.tools]
    return blake2b(encode([request.messages, tools]), digest_size=_DIGEST_BYTES).hexdigest()


class Rehearsal:
    """What a turn may do that is run once more, and what it did.

    Args:
        sealed: Whether nothing may be called at all.
        effects: Whether what changes the world may be called.

    Attributes:
        met: Numbers of the recorded steps whose prompt was asked for again.
        asked: The prompt that was asked for and is not recorded, if that is what happened.
        compared: How many prompts were compared with those that were sent.
        stopped: Name of the step at which the journal ends, where the code went beyond it.
        prompts: Steps whose prompt is another one than was sent, with what would be sent now.
        refused: Steps that were not called since they would change the world.
    """

    def __init__(self, *, sealed: bool, effects: bool = False) -> None:
        self.sealed, self.effects = sealed, effects
        self.stopped: str | None = None
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
        self.stopped = name if record is None else step_id(record.name, record.n)
        if record is not None:
            problem = f"step {self.stopped!r} was begun, and the journal does not hold its end"
            raise ReplayError(turn_id, problem, "It was cut off there.", self.stopped)
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

    def compare(self, record: Record, request: ModelRequest) -> None:
        """Take note of whether a prompt is the one that was sent."""
        self.met.add(record.n)
        started = record.started
        said = decode(started.args) if started is not None else None
        digest = said.get("sha") if isinstance(said, dict) else None
        if digest is None:
            return  # of a journal that did not say
        self.compared += 1
        if digest != digest_of(request):
            self.prompts.append((step_id(record.name, record.n), request))

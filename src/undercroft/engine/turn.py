"""What a handler's code is given of its turn, and of a branch of it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from types import TracebackType
from typing import Any, Protocol, Self

from undercroft.engine.rehearsal import Digest
from undercroft.engine.tool import Tool
from undercroft.errors import LoopError
from undercroft.layers.breakers.loops import Loops
from undercroft.layers.context.state import Compaction, Window
from undercroft.model.ids import FINGERPRINT_BYTES
from undercroft.model.inject import Missing
from undercroft.model.message import Answer, Listener, ToolSpec
from undercroft.model.step import Call, Result


class Line:
    """One line of a handler's code: the turn itself, or a branch that runs beside it.

    Attributes:
        name: Empty for the turn itself; of a branch, with those that it came from: `a/b`.
        heir: The line that it came from; None for the turn itself.
        last: Numbers of the steps that its next one follows.
        prompt: Of all that its model was asked so far.
        open: Whether it may still ask for anything.
        loops: What tells whether it goes round in circles; None: nobody asks.
        spun: It was told so for the last time, with this.
        told: Tools that its model knows to be withdrawn, by service.
        answers: How many answers it was given.
        asking: Number of the step that asks its model, once it has one; else 0.
        made: What was done to its window and is not written down yet, with the step that made
            the summary.
        recall: The tool that fetches back what its window left out; None where none is offered.
        digest: Of its last prompt.
        offered: Tools that went with its last prompt, the model's name, and how its client wrote
            it; None before it.
        anew: Whether its next prompt is no continuation of the last one.
    """

    __slots__ = (
        "anew",
        "answers",
        "asking",
        "digest",
        "heir",
        "last",
        "loops",
        "made",
        "name",
        "offered",
        "open",
        "prompt",
        "recall",
        "spun",
        "told",
        "window",
    )

    def __init__(
        self,
        name: str = "",
        heir: Line | None = None,
        loops: Loops | None = None,
        window: Window | None = None,
    ) -> None:
        self.name, self.heir, self.loops = name, heir, loops
        self.spun: LoopError | None = None
        self.told: dict[str, list[str]] = {}
        self.window = Window() if window is None else window
        self.answers = self.asking = 0
        self.made: list[tuple[Compaction, int]] = []
        self.recall: Tool[..., Any] | None = None
        self.last: tuple[int, ...] = heir.last if heir is not None else ()
        self.prompt = blake2b(name.encode(), digest_size=FINGERPRINT_BYTES)
        self.open = True
        self.digest = Digest()
        self.offered: tuple[tuple[ToolSpec, ...], str, list[Any] | None] | None = None
        self.anew = False


class Running(Protocol):
    """What a turn needs of whoever runs it."""

    turn_id: str
    session: str | None

    def absent(self) -> dict[str, str]:
        """Return what the turn has to do without so far: by tool, why."""

    async def ask_model(self, line: Line, on_text: Listener | None = None) -> Answer:
        """Send the prompt of `line`, and tell a listener the text of a new answer."""

    async def run_batch(self, line: Line, batch: Sequence[Call]) -> list[Result]:
        """Run what `line` proposes."""

    def branch(self, line: Line, name: str) -> Line:
        """Return a new branch of `line`."""

    def hand_over(self, giver: Line, key: str, taker: Line) -> None:
        """Let `taker` write to `key`."""

    def close(self, line: Line) -> None:
        """End `line`."""


class Turn:
    """What a handler's code sees of its turn, or of a branch of it.

    Attributes:
        id: The turn's id.
        session: As given to `run`.
        context: The conversation from which prompts are assembled.
        name: Of the branch; empty for the turn itself.
    """

    __slots__ = ("_line", "_run", "context", "id", "name", "session")

    def __init__(self, run: Running, line: Line) -> None:
        self._run, self._line = run, line
        self.id = run.turn_id
        self.session = run.session
        self.context: Window = line.window
        self.name = line.name

    async def __aenter__(self) -> Self:
        """Use a branch until the end of the block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the branch; what it owns falls to the line that it came from."""
        self.close()

    @property
    def missing(self) -> Missing:
        """What the turn has to do without so far: by tool, why."""
        return Missing(self._run.absent())

    async def model(self, *, on_text: Listener | None = None) -> Answer:
        """Assemble the prompt, send it, and return the answer.

        Tools of a service that is given up are not offered meanwhile, and the model is told.

        Args:
            on_text: Is called with the text of the answer as it comes, piece by piece, and awaited
                if it is async; at once, where the client does not stream. It never hears an
                answer that the journal holds, and what it raises is logged and nothing more.

        Raises:
            ModelError: The model did not answer, or may not be asked any more, or its answer was
                cut off in the middle of its only calls.
            LoopError: It was told before that it goes round in circles, and went on.
            DeclarationError: There is no model.
        """
        return await self._run.ask_model(self._line, on_text)

    async def calls(self, batch: Sequence[Call]) -> list[Result]:
        """Run one batch of proposed calls; return their results in the order of proposal.

        Calls that conflict run in that order, others together. Nothing that a tool does or a
        call lacks is raised: a result says what came of it.

        Raises:
            LoopError: The model was told before that it goes round in circles, and goes on.
        """
        return await self._run.run_batch(self._line, batch)

    def branch(self, name: str) -> Turn:
        """Return a line of work of its own, to run beside this one: a sub-agent, say.

        It has a conversation of its own, and the tools and the journal of the turn. Of two
        lines only one writes to a resource, the first that does; another one is refused
        unless it is handed the resource. Leaving `async with` closes the branch, and what it
        owns falls to this line.

        Args:
            name: Unlike that of any other open branch of this line; the same on every resume.

        Raises:
            DeclarationError: The name is empty, holds a `/`, or is taken.
        """
        return Turn(self._run, self._run.branch(self._line, name))

    def hand_over(self, key: str, to: Turn) -> None:
        """Let another line of the turn write to `key`, and this one no more.

        Args:
            key: Of the resource, as `crm/7`; what lies within it goes along.
            to: A branch of the turn, or the turn itself.

        Raises:
            DeclarationError: A third line owns some of it, or `key` is no key.
        """
        self._run.hand_over(self._line, key, to._line)

    def close(self) -> None:
        """End a branch; what it owns falls to the line that it came from."""
        self._run.close(self._line)

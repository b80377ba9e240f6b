"""The lines of a handler's code: which of them is at work, and what each of them owns.

Keeps: the turn is parked once somebody has to decide and no line can go on.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from undercroft.engine.exitrun import ExitRun
from undercroft.engine.handler import Handler
from undercroft.engine.log import TurnLog
from undercroft.engine.memo import Memo, diverged
from undercroft.engine.step import Setting
from undercroft.engine.turn import Line
from undercroft.errors import DeclarationError, LoopError, ReplayError, UndercroftError
from undercroft.layers.breakers.loops import Looping, Loops
from undercroft.layers.conflicts.branches import Branches
from undercroft.layers.conflicts.keys import KeyProblem, normal_key
from undercroft.layers.context.state import Window
from undercroft.model.effect import Mode
from undercroft.model.event import HandedOver

# How long a recorded step may go unasked while the code asks for another: other branches of
# the handler may still be about to ask for it.
REPLAY_GRACE_S = 1.0
PARK_GRACE_S = 0.02
# How long writes of other branches may take once a turn is ended that goes round in circles.
SPIN_GRACE_S = 5.0


class LineRun(ExitRun):
    """What of a handler's turn its lines of code share."""

    def __init__(  # noqa: PLR0913, PLR0917  what a run is made of
        self,
        setting: Setting,
        log: TurnLog,
        memo: Memo,
        turn_id: str,
        session: str | None,
        handler: Handler[..., Any],
        inputs: Mapping[str, Any],
    ) -> None:
        super().__init__(setting, log, memo, turn_id, session, handler.strength, handler.resources)
        self.handler = handler
        self.inputs = inputs
        self.line = self._line("", None)
        self.lines: dict[str, Line] = {}
        self.branches = Branches()
        # What branches wrote in earlier lives is theirs before any code runs: else another one
        # could come first to what is in doubt.
        for _, record in sorted(memo.records.items()):
            begun = record.started
            if begun is None or not begun.changes:
                continue
            for mode, key in begun.claims:
                if mode in (Mode.WRITE, Mode.EXCLUSIVE):
                    self.branches.own(key, begun.branch)
        self.parked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whether somebody has to decide before some of it can go on.
        self.holding = False
        self.busy = 0
        self.broken: UndercroftError | None = None
        # What ends the turn although its code goes on.
        self.spun: LoopError | None = None

    def _line(self, name: str, heir: Line | None) -> Line:
        loops = self.setting.loops
        return Line(name, heir, None if loops is None else Loops(loops), self.window())

    def handler_of(self, line: Line) -> Handler[..., Any]:
        """Return what a line may call, and what is known of that."""
        del line
        return self.handler

    @abstractmethod
    def window(self) -> Window:
        """Return a window for a new line of code."""

    # ------------------------------------------------------------------ branches

    def branch(self, line: Line, name: str) -> Line:
        """Return a new branch of `line`."""
        place = f"turn.branch({name!r})"
        if not name or "/" in name:
            raise DeclarationError(place, "it needs a name without a slash", "Give it one.")
        check_open(line)
        full = f"{line.name}/{name}" if line.name else name
        taken = self.lines.get(full)
        if taken is not None and taken.open:
            raise DeclarationError(place, "that name is taken", "Close that branch, or rename it.")
        made = self.lines[full] = self._line(full, line)
        return made

    def hand_over(self, giver: Line, key: str, taker: Line) -> None:
        """Let another line of the turn write to `key`."""
        place = f"turn.hand_over({key!r})"
        try:
            key = self.handler.resources.canonical_key(normal_key(key))
        except KeyProblem as problem:
            raise DeclarationError(place, str(problem), "Give a key such as crm/7.") from None
        check_open(taker)
        third = self.branches.hand_over(key, giver.name, taker.name)
        # On a replay the taker may own it already, by what it wrote in an earlier life.
        if third is not None and third != taker.name:
            owner = f"branch {third!r}" if third else "the turn itself"
            raise DeclarationError(place, f"{owner} owns some of it", "Let its owner hand it over.")
        self.log.note(HandedOver(key, giver.name, taker.name, self.wall_s()))

    def close(self, line: Line) -> None:
        """End a branch; what it owns falls to the line that it came from."""
        if line.heir is not None and line.open:
            line.open = False
            for key in self.branches.close(line.name, line.heir.name):
                self.log.note(HandedOver(key, line.name, line.heir.name, self.wall_s()))
            line.heir.last = tuple(dict.fromkeys(line.heir.last + line.last))

    # ------------------------------------------------------------------ at work

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Count a branch of the code as being at work, and stop it once the turn has to wait."""
        if self.broken is not None:
            raise self.broken
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            if self.holding and not self.busy:
                # The branch that goes on may ask again at once; else nothing is left to do.
                asyncio.get_running_loop().call_later(PARK_GRACE_S, self.park_if_idle)

    async def check_spinning(self, line: Line) -> None:
        """End the turn if a line that was told for the last time goes on nevertheless."""
        if line.spun is None:
            return
        give_up_s = self.now_s() + SPIN_GRACE_S
        while self.writing and self.now_s() < give_up_s:
            # What another branch has under way may come to its end; nothing new begins.
            await self.clock.sleep(PARK_GRACE_S)
        self.spun = line.spun
        if not self.parked.done():
            self.parked.set_result(None)
        # Unwound with the rest of the code: raising would only be caught again.
        await asyncio.get_running_loop().create_future()

    async def park(self) -> None:
        """Wait to be unwound: nothing more can run until somebody decides."""
        self.busy -= 1
        # Other lines may be about to begin: on a replay this one comes here without a pause.
        asyncio.get_running_loop().call_later(PARK_GRACE_S, self.park_if_idle)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.busy += 1

    def astray(self, error: ReplayError) -> None:
        """End the turn with `error`, also if its code goes on."""
        self.broken = self.broken or error

    def park_if_idle(self) -> None:
        """Have `main` park the turn, unless some line is still at work."""
        if not self.busy and not self.parked.done():
            self.parked.set_result(None)

    # ------------------------------------------------------------------ replay

    async def other_branches(self, asked: str) -> None:
        """Let other branches of the code claim what is recorded before something new begins.

        Raises:
            ReplayError: Nobody does: the code asks for something else than it did.
        """
        left, grace_s = self.memo.left, REPLAY_GRACE_S
        if self.setting.rehearsal is not None and self.setting.rehearsal.sealed:
            grace_s = REPLAY_GRACE_S / 5  # nobody waits for a model or a tool
        give_up_s = self.now_s() + grace_s
        while self.memo.left and self.broken is None:
            if self.memo.left < left:
                left, give_up_s = self.memo.left, self.now_s() + grace_s
            if self.now_s() > give_up_s:
                self.broken = diverged(self.turn_id, self.memo, asked)
                break
            await self.clock.sleep(REPLAY_GRACE_S / 100)
        if self.broken is not None:
            raise self.broken


def looped(found: Looping, tool: str) -> LoopError:
    """Return the error that ends a line."""
    return LoopError(tool, found.problem, found.mend)


def check_open(line: Line) -> None:
    """Raise if `line` was closed.

    Raises:
        DeclarationError: It was.
    """
    if not line.open:
        raise DeclarationError(
            f"branch {line.name!r}", "it is closed", "Open another one: turn.branch(…)."
        )

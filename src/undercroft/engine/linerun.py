"""The lines of a handler's code: what each asks its model, and which of them is at work.

Keeps: a line that asks the model sends all that it sent before, and more; the turn is parked
once somebody has to decide and no line can go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from undercroft.engine.calls import by_reference, model_body, read_answer
from undercroft.engine.codec import decode, encode
from undercroft.engine.exitrun import ExitRun
from undercroft.engine.handler import Handler
from undercroft.engine.log import TurnLog
from undercroft.engine.memo import Memo, Record, diverged
from undercroft.engine.step import MODEL, Setting, Step, end_of
from undercroft.engine.turn import Line
from undercroft.errors import DeclarationError, LoopError, ModelError, UndercroftError
from undercroft.layers.breakers.exits import in_words
from undercroft.layers.breakers.guard import withdrawn
from undercroft.layers.breakers.loops import Looping, Loops
from undercroft.layers.conflicts.branches import Branches
from undercroft.layers.conflicts.keys import KeyProblem, normal_key
from undercroft.layers.context.state import NOTICE, named_calls
from undercroft.model.effect import Mode
from undercroft.model.event import HandedOver
from undercroft.model.ids import fingerprint
from undercroft.model.message import Answer, ModelRequest
from undercroft.model.step import StepStatus

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
        return Line(name, heir, None if loops is None else Loops(loops))

    async def ask_model(self, line: Line) -> Answer:
        """Assemble the prompt of a line, send it, and return the answer."""
        model = self.setting.model
        if model is None:
            raise DeclarationError(
                f"handler {self.handler.name!r}",
                "it asks a model, and there is none",
                "Give one: uc.Runtime(…, model=…) or @uc.handler(model=…).",
            )
        check_open(line)
        await self.check_spinning(line)
        fresh = line.window.delta()
        for entry in fresh:
            line.prompt.update(encode(entry.message))
        fp = line.prompt.digest()
        record = self.memo.take(MODEL, fp) if self.memo.left else None
        if record is None and self.memo.left:
            await self.other_branches(MODEL)
        shut, notices = self._news(line, record)
        # No part of the fingerprint: a resumed turn meets other services than the first life.
        fresh += [line.window.notice(text) for text in notices]
        async with self.at_work():
            if record is not None and record.ended is not None:
                n, ended = record.n, end_of(record.ended)
            else:
                n = record.n if record else self.log.next_n()
                asked: dict[str, Any] = {"prompt": [by_reference(e) for e in fresh]}
                if shut:
                    asked["withdrawn"] = shut
                away = {name for names in shut.values() for name in names}
                offered = tuple(spec for spec in self.handler.specs if spec.name not in away)
                request = ModelRequest(line.window.messages, offered)
                step = Step(
                    n,
                    MODEL,
                    model_body(model),
                    MODEL,
                    {"request": request},
                    fp,
                    line.last,
                    (),
                    msgspec.Raw(encode(asked)),
                    branch=line.name,
                )
                ended = await self.perform(step, record)
                self.log.put()
        if ended.status is not StepStatus.OK:
            why = in_words(ended.error, ended.refusal).removesuffix(".")
            rule = ended.refusal.rule if ended.refusal is not None else ""
            raise ModelError(MODEL, why, "Handle it, or let the turn fail.", rule)
        line.last = (n,)
        answer = named_calls(read_answer(ended.raw), n)
        line.window.add_answer(answer, n)
        if line.loops is not None and not answer.calls:
            line.loops.said(fingerprint(answer.text))
        return answer

    def _news(self, line: Line, record: Record | None) -> tuple[dict[str, list[str]], list[str]]:
        """Return which tools are withdrawn, by service, and what the model is to be told.

        What a recorded prompt said, it says again.

        Raises:
            LoopError: It was told before that it gets nowhere.
        """
        stale = line.loops.model_step() if line.loops is not None else None
        if stale is not None and stale.end:
            line.spun = looped(stale, MODEL)
            raise line.spun
        if record is not None and record.started is not None:
            said = decode(record.started.args)
            self._tell(line, said.get("withdrawn", {}))
            texts = [entry[1] for entry in said["prompt"] if entry[0] == NOTICE]
            return line.told, texts
        shut: dict[str, list[str]] = {}
        for name, tool in self.handler.tools.items():
            if tool.service is None or tool.stand_in is not None:
                continue
            # Also one that was never called here: others may have found out.
            if self.setting.services.gate(tool.service).shut:
                shut.setdefault(tool.service, []).append(name)
        notices = [] if stale is None else [f"[undercroft] {stale.problem}. {stale.mend}"]
        if self._tell(line, shut):
            notices.append(withdrawn(list(shut.items())))
        return shut, notices

    @staticmethod
    def _tell(line: Line, shut: dict[str, list[str]]) -> bool:
        """Take note of what the model knows to be withdrawn; return whether that is new."""
        was, line.told = line.told, shut
        if line.loops is not None and any(service not in shut for service in was):
            # What is back may be called again, however often it failed before.
            line.loops.anew()
        return shut != was

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
        self.park_if_idle()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.busy += 1

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
        left = self.memo.left
        give_up_s = self.now_s() + REPLAY_GRACE_S
        while self.memo.left and self.broken is None:
            if self.memo.left < left:
                left, give_up_s = self.memo.left, self.now_s() + REPLAY_GRACE_S
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

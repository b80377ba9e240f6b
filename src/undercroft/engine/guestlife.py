"""A guest's life: how it begins, knows what earlier lives did, and ends as its loop says.

Keeps: what its loop left running is cut off, and written down, before the turn ends.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from undercroft.engine.approving import in_order
from undercroft.engine.body import Body
from undercroft.engine.callrun import CANCEL_GRACE_S
from undercroft.engine.calls import CODE, Slot
from undercroft.engine.codec import decode, encode
from undercroft.engine.guestlead import GuestSlot, Lead
from undercroft.engine.handler import Handler
from undercroft.engine.handlerrun import HandlerRun
from undercroft.engine.log import TurnLog
from undercroft.engine.memo import Memo, Record
from undercroft.engine.step import Finish, Setting
from undercroft.engine.tool import Tool
from undercroft.engine.turn import Line
from undercroft.model.effect import Mode
from undercroft.model.event import ContextOpened
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import MODEL, Call, Refusal, StepStatus, failure, step_id

# Returns where an earlier turn of the session recorded a call, and its record.
Elsewhere = Callable[[Slot], tuple[str, Record] | None]


class GuestLife(HandlerRun):
    """What of a guest's life is its begin, its end and its lines."""

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
        super().__init__(setting, log, memo, turn_id, session, handler, inputs)
        # What its loop asks for again it names by its id, and of the rest it says nothing.
        memo.forget()
        self._records = dict(memo.records)
        if self.room is not None and self.room.policy.recall:
            # Its loop knows no tool of ours.
            self.room = replace(self.room, policy=replace(self.room.policy, recall=False))
            self.line.window = self.window()
        self.leads: dict[str, Lead] = {"": Lead(self.line)}
        self.loop = loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self._ending: asyncio.Future[Callable[[], Finish]] = loop.create_future()
        self._at_it: set[asyncio.Task[None]] = set()
        self.elsewhere: Elsewhere | None = None
        # Of tools whose loop carries out their calls.
        self._bodies: dict[Tool[..., Any], Body] = {}
        self.left_behind = False
        # Of an earlier life the conversation is there, and will be told again.
        self.line.anew = bool(memo.records)

    # ------------------------------------------------------------------ its life

    async def main(self) -> Finish:
        """Be there for the loop until it ends, or pauses."""
        self.open_window()
        self._restore()
        self.ready.set_result(None)
        try:
            finish = await self._ended()
        finally:
            await self._cut_off()
        if self.broken is not None:
            raise self.broken
        return finish()

    async def _ended(self) -> Callable[[], Finish]:
        """Return what says how it ended, once its loop says that it did."""
        try:
            return await asyncio.shield(self._ending)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._ending.done() or task is None:
                raise
            # It was over before its event loop was closed.
            task.uncancel()
            return self._ending.result()

    async def _cut_off(self) -> None:
        """Cancel what its loop left behind, and wait until that is written down."""
        left = set(self._at_it)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CANCEL_GRACE_S)

    def open_window(self) -> None:
        """Have a window of its own: what a session said before, its loop says itself."""
        if self.room is None or self.under is not None:
            return
        policy = self.room.policy
        settings = msgspec.Raw(encode(policy.settings))
        self.under = ContextOpened(0, policy.hash, self.wall_s(), settings, "", policy.vocabulary)
        self.log.note(self.under)

    def hand_on(self, status: TurnStatus) -> None:
        """Leave nothing to the session's next turn: its loop does."""

    def park_if_idle(self) -> None:
        """Go on: when it pauses, its loop says so."""

    def check_model(self) -> None:
        """Nothing need be there: its loop asks."""

    async def check_spinning(self, line: Line) -> None:
        """Raise what a line was told for the last time."""
        if line.spun is not None:
            raise line.spun

    def use(self, handler: Handler[..., Any], branch: str = "") -> None:
        """Have other tools from now on; those of a line that works within a call."""
        lead = self.leads.get(branch)
        if branch and lead is not None and lead.within is not None:
            lead.within = handler
        else:
            self.handler = handler
        self.done.watch(handler.watched)

    def handler_of(self, line: Line) -> Handler[..., Any]:
        """Return what a line may call: its own where it works within a call, or within such."""
        over: Line | None = line
        while over is not None:
            lead = self.leads.get(over.name)
            if lead is not None and lead.within is not None:
                return lead.within
            over = over.heir
        return self.handler

    def _restore(self) -> None:
        """Know again what earlier lives came to know."""
        for _, record in sorted(self._records.items()):
            ended, started = record.ended, record.started
            tool = self.handler.tools.get(record.name)
            if tool is None or started is None or started.kind == MODEL:
                continue
            arguments = decode(started.args)
            slot = GuestSlot(Call(record.name, arguments if isinstance(arguments, dict) else {}))
            if self._prepare(self.line, slot, 0) is not None:
                continue
            slot.n, slot.record = record.n, record
            if record.in_doubt:
                self.doubts[record.n] = self._step(self.line, slot, tool)
            elif ended is not None and ended.status is StepStatus.OK:
                self._recall(self.line, slot, ended)

    @property
    def open(self) -> bool:
        """Whether its loop may still ask for anything."""
        return not self._ending.done() and not self.stopping and not self.halted

    @property
    def idle(self) -> bool:
        """Whether nothing of it is under way."""
        return self.ready.done() and not self._at_it and not self.running and not self.busy

    # ------------------------------------------------------------------ its end

    def end(self, value: Any) -> None:
        """Take note that the loop is over; `value` is what the user was told."""
        self.close_batches()

        def finish() -> Finish:
            ended = self.encoded(CODE, value)
            missing = tuple(self.absent())
            if self.doubts:
                return Finish(TurnStatus.IN_DOUBT, missing=missing)
            if ended.error is not None:
                return Finish(TurnStatus.FAILED, error=ended.error)
            status = TurnStatus.DEGRADED if missing else TurnStatus.DONE
            return Finish(status, value, ended.raw, missing=missing)

        self._finish(finish)

    def fail(self, error: BaseException) -> None:
        """Take note that the loop ended with an error."""
        self.close_batches()
        lost = failure(error, step=CODE.name, clean=self.log.redactor.text)

        def finish() -> Finish:
            if self.doubts:
                return Finish(TurnStatus.IN_DOUBT)
            return Finish(TurnStatus.FAILED, error=lost)

        self._finish(finish)

    def pause(self) -> None:
        """Take note that the loop waits for somebody."""

        def finish() -> Finish:
            status = TurnStatus.IN_DOUBT if self.doubts else TurnStatus.WAITING
            return Finish(status, waiting=in_order(self.waiting))

        self._finish(finish)

    def _finish(self, finish: Callable[[], Finish]) -> None:
        if not self._ending.done():
            self._ending.set_result(finish)

    # ------------------------------------------------------------------ its lines

    def lead(self, branch: str) -> Lead:
        """Return what a line is at; the empty name is the loop itself."""
        found = self.leads.get(branch)
        if found is None:
            above, _, name = branch.rpartition("/")
            found = self.leads[branch] = Lead(self.branch(self.lead(above).line, name))
        return found

    def enter(self, lead: Lead, slot: GuestSlot, handler: Handler[..., Any]) -> str:
        """Let a loop work within a call; return the name of its line.

        What the call holds it gives back meanwhile: each call of that loop holds its own, and
        would wait for it for ever.
        """
        self.done.watch(handler.watched)
        slot.loops += 1
        # What is recorded within is found by the name of the line: that of the first life.
        lives = self.memo.called.get(slot.call.id or "") or [slot.n]
        name = step_id(slot.call.name.replace("/", "_"), lives[0])
        if slot.loops > 1:
            name = f"{name}-{slot.loops}"
        taken = self.lines.get(f"{lead.line.name}/{name}" if lead.line.name else name)
        if taken is not None and taken.open:
            name = f"{name}-{slot.n}"  # of another call with the same id
        line = self.branch(lead.line, name)
        self.leads[line.name] = Lead(line, handler)
        if slot.place is not None:
            self._go_on(self.lane.leave(slot.place))
        hold = self.holds.pop(slot.n, None)
        if hold is not None:
            self.desk.leave(hold)
        return line.name

    def leave(self, branch: str) -> None:
        """End a line that worked within a call."""
        lead = self.leads.pop(branch, None)
        if lead is not None:
            self.close_batch(lead)
            self.close(lead.line)

    def _of_other_branch(
        self, line: Line, name: str, claims: Sequence[tuple[str, str]]
    ) -> Refusal | None:
        """Let a line that works within a call write what the line outside of it owns."""
        lead = self.leads.get(line.name)
        for key in (key for mode, key in claims if Mode(mode).changes):
            found = self.branches.foreign(key, line.name)
            if lead is None or found is None or not self._within(line.name, found[1]):
                continue
            self.hand_over(self.leads[found[1]].line, key, line)
        return super()._of_other_branch(line, name, claims)

    def _within(self, branch: str, other: str) -> bool:
        """Whether a line works within a call of another one, or within one of such a line."""
        while branch != other:
            lead = self.leads.get(branch)
            if lead is None or lead.within is None:
                return False
            branch = lead.line.heir.name if lead.line.heir is not None else ""
        return other in self.leads

    @abstractmethod
    def close_batches(self) -> None:
        """Take note of what came of the calls that every line was proposed last."""

    @abstractmethod
    def close_batch(self, lead: Lead) -> None:
        """Take note of what came of the calls that a line was proposed last."""

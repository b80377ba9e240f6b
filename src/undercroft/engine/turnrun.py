"""What workflows and handlers share while they run: one step from intent to outcome.

Keeps: an effect is never begun before its intent is durable; a write of unknown outcome is
settled by `verify`, else repeated only under its idempotency key, else left in doubt;
whatever a step raises becomes its failure and never leaves through the loop.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from urllib.parse import quote

import msgspec

from undercroft.engine.body import Body
from undercroft.engine.cancel import take_back_cancel
from undercroft.engine.desk import Hold
from undercroft.engine.doubt import DoubtRun
from undercroft.engine.lane import Lane
from undercroft.engine.log import TurnLog
from undercroft.engine.memo import Memo, Record
from undercroft.engine.owning import Ask, No, Owner, Reader, changing
from undercroft.engine.step import AGAIN, Ended, Finish, Setting, Step
from undercroft.layers.breakers.state import classify, next_wait_s
from undercroft.layers.conflicts.guard import busy
from undercroft.layers.conflicts.ownership import SESSION
from undercroft.model.effect import Strength
from undercroft.model.event import StepEnded, StepRetried, StepStarted, StepWaited
from undercroft.model.step import ErrorClass, Refusal, StepStatus, failure

# A write that stays of unknown outcome is repeated under its key this often in one life.
REPEATS_MAX = 3
# Ends that were noted where they came about, or are none.
_NOTED = (StepStatus.IN_DOUBT, StepStatus.REFUSED)


class TurnRun(DoubtRun, ABC):
    """One life of one turn."""

    def __init__(  # noqa: PLR0913, PLR0917  what a run is made of
        self,
        setting: Setting,
        log: TurnLog,
        memo: Memo,
        turn_id: str,
        session: str | None,
        strength: Callable[[str], Strength],
        delay_s: Callable[[str], float],
    ) -> None:
        super().__init__(setting, log, turn_id, session)
        self.desk = setting.desk
        self.store = setting.store
        self.tick = setting.ticks.__next__
        self.memo = memo
        self.lane = Lane(setting.limits.turn_max, setting.clock.now_s)
        # What steps hold at the desk, by their numbers.
        self.holds: dict[int, Hold] = {}
        self.owner = Owner(
            setting.store,
            setting.clock,
            setting.ownership,
            setting.turns,
            setting.silences,
            log,
            turn_id,
            strength,
            delay_s,
            self.tick,
        )
        # Begun and not ended; what a halt cuts off stays here.
        self.running: dict[int, Step] = {}
        # Journal position up to which the turn had come in earlier lives.
        self.resumed_at = 0

    @abstractmethod
    async def main(self) -> Finish:
        """Run the turn until it ends or has to wait."""

    async def take_session(self) -> Refusal | None:
        """Become the one turn that runs in its session; return why that cannot be."""
        if self.session is None:
            return None
        return await self.owner.session(SESSION + quote(self.session, safe=""))

    # ------------------------------------------------------------------ one step

    async def perform(self, step: Step, record: Record | None = None) -> Ended:
        """Run `step` to its end, its claims held and its intent first, and note how it ended.

        With a `record` that began and did not end, what became of it is settled first.

        Raises:
            asyncio.CancelledError: The turn is halted; nothing is noted.
            StoreError: The journal cannot be written.
        """
        body = step.body
        held, service = step.held, body.service
        if held or (service is not None and self.desk.limits(service)):
            # Whoever waits behind it, in another turn, is told of the turn and not of the step.
            hold = self.holds[step.n] = self.desk.enter(held, service, self.turn_id)
            refusal = None if hold.ready else await self._waited(step, hold)
            if refusal is not None:
                return self.note_refused(step, refusal, begun=False)
        try:
            if record is None and body.plain:
                ended = await self.once(step)
                if ended.status is not StepStatus.IN_DOUBT:
                    return ended
            else:
                ended = AGAIN
            return await self._performed(step, record, ended)
        finally:
            # None where it gave up waiting for an owner and could not come back.
            left = self.holds.pop(step.n, None)
            if left is not None:
                self.desk.leave(left)

    async def come_back(self, step: Step) -> Refusal | None:
        """Take what `step` needs at the desk again; return why it could not be had in time."""
        hold = self.holds[step.n] = self.desk.enter(step.held, step.body.service, self.turn_id)
        return None if hold.ready else await self._waited(step, hold)

    async def _waited(self, step: Step, hold: Hold) -> Refusal | None:
        """Wait at the desk; return why it could not be had in time."""
        claim, behind, began_s = hold.claim, hold.behind, self.now_s()
        wait_s = self.setting.ownership.wait_s
        try:
            ready = await self.desk.wait(hold, wait_s)
        except BaseException:
            del self.holds[step.n]
            raise
        waited_s = self.now_s() - began_s
        self.log.note(StepWaited(step.n, waited_s, hold.claim or claim, behind))
        if ready:
            return None
        del self.holds[step.n]
        return busy(step.name, claim, behind, waited_s)

    async def _performed(self, step: Step, record: Record | None, ended: Ended) -> Ended:
        """Do what `perform` says, the long way; `ended` is how it came to be in doubt, if so."""
        began_s = self.now_s()
        if ended is not AGAIN:
            self.note_end(step, ended)  # no end: it says why there is a doubt
            settled = await self.settle(step, None, live=True)
            ended = await self._out_of_doubt(step, 1, settled)
        else:
            attempt = record.attempts if record is not None else 0
            begin: Ended | None = AGAIN
            if record is not None and record.in_doubt:
                begin = await self.settle(step, record.settled, live=False)
            ended = await self._out_of_doubt(step, attempt, begin)
        if ended.status not in _NOTED:
            ended = ended._replace(took_s=self.now_s() - began_s)
            self.note_end(step, ended)
        return ended

    async def once(self, step: Step) -> Ended:
        """Run a step without policies of its own: the short way, which most steps take.

        Its end is noted, except where it is in doubt.
        """
        body, log = step.body, self.log
        if body.changes:
            refused = await self._intend(step, 1)
            if refused is not None:
                return refused
        else:
            log.note(self.begun(step, 1))
            log.put_start()
        self.running[step.n] = step
        position = self.store.position if step.watched else 0
        began_s = self.now_s()
        try:
            value = await body.fn(**step.kwargs)
            task = asyncio.current_task()
            if task is not None and task.cancelling() and not self.halted:
                await take_back_cancel(task)
        except BaseException as raised:  # noqa: BLE001  a tool may raise anything
            error = self.own(raised, body)
            ended = self._failed_call(body, error, classify(error, changes=body.changes))
        else:
            ended = self.encoded(body, value, self.now_s() - began_s)
            if step.watched:
                ended = self._saw(step, ended, position)
        del self.running[step.n]
        if ended.status is not StepStatus.IN_DOUBT:
            self.note_end(step, ended)
        return ended

    def _saw(self, step: Step, ended: Ended, position: int) -> Ended:
        """Take note of what a read saw."""
        if ended.status is not StepStatus.OK:
            return ended
        reader = Reader(step.body, step.kwargs)
        try:
            version = self.owner.saw(step.watched, reader, ended.value, ended.raw, position)
        except Exception as error:  # noqa: BLE001  `version=` is the user's code
            return Ended(StepStatus.FAILED, error=failure(error, step=step.name))
        return ended._replace(version=version) if version else ended

    def remember(self, step: Step, raw: bytes) -> None:
        """Take note of what a read saw in an earlier life of the turn."""
        if step.watched:
            self._saw(step, Ended(StepStatus.OK, step.body.decode(raw), raw), -1)

    async def _out_of_doubt(self, step: Step, attempt: int, ended: Ended | None) -> Ended:
        """Do `step` until its outcome is known, or it may not be done again."""
        for _ in range(REPEATS_MAX):
            if ended is not AGAIN:
                break
            refused = await self._begin(step, attempt + 1)
            if refused is not None:
                return refused
            attempt, ended = await self._attempts(step, attempt + 1)
            if ended.status is StepStatus.IN_DOUBT:
                self.note_end(step, ended)
                ended = await self.settle(step, None, live=True)
        if ended is None or ended is AGAIN:
            self.doubts[step.n] = step
            return Ended(StepStatus.IN_DOUBT)
        return ended

    async def called(self, step: Step, record: Record | None) -> Ended:
        """Begin `step` and call its body; its end is the caller's to note."""
        began_s = self.now_s()
        attempt = (record.attempts if record else 0) + 1
        refused = await self._begin(step, attempt)
        if refused is not None:
            return refused
        _, ended = await self._attempts(step, attempt)
        return ended._replace(took_s=self.now_s() - began_s)

    async def _begin(self, step: Step, attempt: int) -> Ended | None:
        """Note that `step` begins; return how it ended where it must not."""
        if step.body.changes:
            return await self._intend(step, attempt)
        self.log.note(self.begun(step, attempt))
        self.log.put_start()
        return None

    async def _intend(self, step: Step, attempt: int) -> Ended | None:
        """Make the intent of a write durable; return how it ended where it must not happen."""
        wants = changing(step.claims)
        if not wants:
            # Nobody said what it changes, so there is nothing to own.
            self.log.note(self.begun(step, attempt))
            self.log.changes()
            await self.log.durable()
            self.fences[step.n] = self.store.position
            return None
        ask = Ask(step.n, step.name, wants, attempt > 1, step.n in self.unsure)
        answer = await self.owner.begin(ask, self, step, attempt)
        if isinstance(answer, No) and answer.begun and step.n in self.unsure:
            # It may have happened, and may not be repeated over what others did since.
            self.doubts[step.n] = step
            return Ended(StepStatus.IN_DOUBT)
        if isinstance(answer, No):
            return self.note_refused(step, answer.refusal, begun=answer.begun)
        self.fences[step.n] = answer.position
        return None

    def let_go(self, step: Step) -> None:
        """Give back what `step` holds at the desk."""
        self.desk.leave(self.holds[step.n])

    def begun(self, step: Step, attempt: int) -> StepStarted:
        """Return the event that `step` begins now."""
        if self.stopping:
            self.halted = True
            raise asyncio.CancelledError
        return StepStarted(
            step.n,
            step.name,
            step.kind,
            self.wall_s(),
            step.body.changes,
            step.fp,
            step.causes,
            step.claims,
            step.args,
            attempt,
            step.branch,
            self.tick(),
        )

    def note_refused(self, step: Step, refusal: Refusal, *, begun: bool) -> Ended:
        """Note that a step was refused, before it began or after its intent was written."""
        self.log.note(
            StepEnded(
                step.n,
                StepStatus.REFUSED,
                0.0,
                refusal=refusal,
                name=step.name,
                fp=step.fp,
                args=step.args,
                at=self.wall_s(),
                tick=self.tick(),
            )
        )
        if begun:
            self.log.outcome(changing(step.claims), wrote=False)
        return Ended(StepStatus.REFUSED, refusal=refusal)

    def note_end(self, step: Step, ended: Ended) -> None:
        """Note how a step that began came to its end."""
        self.log.note(
            StepEnded(
                step.n,
                ended.status,
                ended.took_s,
                msgspec.Raw(ended.raw),
                ended.error,
                tick=self.tick(),
                version=ended.version,
            )
        )
        if not step.body.changes:
            return
        if ended.status is StepStatus.IN_DOUBT:
            self.log.changes()
            return
        wants = changing(step.claims)
        # What failed may have changed something before it did.
        self.log.outcome(wants, wrote=True)
        self.owner.changed(wants, self.fences.pop(step.n, 0))

    async def _attempts(self, step: Step, attempt: int) -> tuple[int, Ended]:
        """Call the body until it succeeds or may not be tried again."""
        body = step.body
        self.running[step.n] = step
        while True:
            position = self.store.position
            try:
                value = await self.call(step, attempt, body.timeout_s)
                task = asyncio.current_task()
                if task is not None and task.cancelling() and not self.halted:
                    await take_back_cancel(task)
            except BaseException as raised:  # noqa: BLE001  a tool may raise anything
                error = self.own(raised, body)
                error_class = classify(error, changes=body.changes)
                wait_s = next_wait_s(
                    body.retry, error_class, attempt=attempt, jitter=self.setting.ids.jitter()
                )
                ended = self._failed_call(body, error, error_class)
                if wait_s is None or ended.error is None:
                    break
                self.log.note(StepRetried(step.n, attempt, self.wall_s(), wait_s, ended.error))
                self.log.put()
                await self.clock.sleep(wait_s)
                attempt += 1
            else:
                ended = self.encoded(body, value)
                if step.watched:
                    ended = self._saw(step, ended, position)
                break
        del self.running[step.n]
        return attempt, ended

    @staticmethod
    def _failed_call(body: Body, error: BaseException, error_class: ErrorClass) -> Ended:
        doubt = error_class is ErrorClass.UNKNOWN and body.changes
        status = StepStatus.IN_DOUBT if doubt else StepStatus.FAILED
        return Ended(status, error=failure(error, error_class, body.name))

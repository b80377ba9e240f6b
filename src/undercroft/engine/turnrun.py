"""What workflows and handlers share while they run: one step from intent to outcome.

Keeps: an effect is never begun before its intent is durable; a write of unknown outcome is
settled by `verify`, else repeated only under its idempotency key, else left in doubt;
whatever a step raises becomes its failure and never leaves through the loop.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from undercroft.engine.accounts import spent_before
from undercroft.engine.body import Body
from undercroft.engine.cancel import take_back_cancel
from undercroft.engine.desk import Hold
from undercroft.engine.doubt import DoubtRun
from undercroft.engine.lane import Lane
from undercroft.engine.log import TurnLog
from undercroft.engine.memo import Memo, Record
from undercroft.engine.owning import Ask, No, Owner, Reader, changing
from undercroft.engine.parts.wire import counting
from undercroft.engine.passing import Passing, calls_out
from undercroft.engine.rehearsal import Rehearsal
from undercroft.engine.services import Quick
from undercroft.engine.step import AGAIN, Ended, Finish, Setting, Step
from undercroft.errors import ReplayError
from undercroft.layers.breakers.classes import DEFAULT_TABLE, Judged
from undercroft.layers.breakers.guard import over_budget
from undercroft.layers.breakers.spend import Account
from undercroft.layers.conflicts.guard import busy
from undercroft.layers.conflicts.ownership import SESSION
from undercroft.layers.conflicts.resource import Resources
from undercroft.model.effect import Strength
from undercroft.model.event import StepEnded, StepRetried, StepStarted, StepWaited
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import MODEL, ErrorClass, Refusal, StepStatus, failure

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
        resources: Resources,
    ) -> None:
        super().__init__(setting, log, turn_id, session)
        self.desk = setting.desk
        self.store = setting.store
        self.tick = setting.ticks.__next__
        self.memo = memo
        self.resources = resources
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
            resources.delay_s,
            self.tick,
        )
        # Begun and not ended; what a halt cuts off stays here.
        self.running: dict[int, Step] = {}
        # Steps that ask a model of which the journal tells.
        self.noted: set[int] = set()
        # Waiting for their next attempt; what they did before failed for sure.
        self.resting: dict[int, Step] = {}
        # What the turn, and its session, may spend; and steps, by their numbers.
        self.accounts: list[Account] = []
        self.step_accounts: dict[int, Account] = {}
        # What steps that run have been let pass with, by their numbers.
        self.passings: dict[int, Passing | Quick] = {}
        self.limited = bool(setting.budgets.step)
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

    def sum_up(self) -> None:
        """Write down what is to be said at the end of a life of the turn, besides how it ended."""

    def hand_on(self, status: TurnStatus) -> None:
        """Leave what belongs to the session to its next turn; `status` is written down."""

    @property
    def writing(self) -> bool:
        """Whether a write is under way."""
        under_way = any(step.body.changes for step in self.running.values())
        return under_way or self.log.intending > 0

    def allow(self, accounts: Iterable[Account | None]) -> None:
        """Let the turn spend no more than `accounts` have."""
        self.accounts = [account for account in accounts if account is not None]
        self.limited = self.limited or bool(self.accounts)

    # ------------------------------------------------------------------ one step

    def perform(self, step: Step, record: Record | None = None) -> Coroutine[Any, Any, Ended]:
        """Run `step` to its end, its claims held and its intent first, and note how it ended.

        With a `record` that began and did not end, what became of it is settled first.

        Raises:
            asyncio.CancelledError: The turn is halted; nothing is noted.
            StoreError: The journal cannot be written.
            ReplayError: The turn is only rehearsed, and the journal does not hold the step.
        """
        rehearsal = self.setting.rehearsal
        if rehearsal is None:
            return self._perform(step, record)
        return self._rehearse(rehearsal, step, record)

    async def _perform(self, step: Step, record: Record | None) -> Ended:
        body = step.body
        held, service = step.held, body.service
        limited = service if service is not None and self.desk.limits(service) else None
        if held or limited is not None:
            # Whoever waits behind it, in another turn, is told of the turn and not of the step.
            hold = self.holds[step.n] = self.desk.enter(held, limited, self.turn_id)
            refusal = None if hold.ready else await self._waited(step, hold)
            if refusal is not None:
                return self.note_refused(step, refusal, begun=False)
        try:
            ended = AGAIN
            if record is None and body.plain and (not self.limited or not calls_out(step)):
                quick = None
                if service is not None:
                    quick = self.setting.services.gate(service).quick(
                        step.name, changes=body.changes
                    )
                if quick is not None:
                    self.passings[step.n] = quick
                if service is None or quick is not None:
                    ended = await self.once(step, quick)
                    if ended.status is not StepStatus.IN_DOUBT:
                        return ended
            return await self._performed(step, record, ended)
        finally:
            passing = self.passings.pop(step.n, None)
            if passing is not None:
                passing.called_off()
            # None where it gave up waiting for an owner and could not come back.
            left = self.holds.pop(step.n, None)
            if left is not None:
                self.desk.leave(left)

    def astray(self, error: ReplayError) -> None:
        """Take note that the code asked for what it may not have, whatever it makes of that."""

    async def _rehearse(self, rehearsal: Rehearsal, step: Step, record: Record | None) -> Ended:
        """Do what `perform` says, as far as a rehearsal may."""
        try:
            rehearsal.admit(self.turn_id, step.name, record)
        except ReplayError as error:
            self.astray(error)
            raise
        refusal = rehearsal.effect(step.name) if step.body.changes else None
        if refusal is not None:
            return self.note_refused(step, refusal, begun=False)
        return await self._perform(step, record)

    async def come_back(self, step: Step) -> Refusal | None:
        """Take what `step` needs to begin again; return why it could not be had in time."""
        hold = self.holds[step.n] = self.desk.enter(step.held, step.body.service, self.turn_id)
        refusal = None if hold.ready else await self._waited(step, hold)
        passing = self.passings.get(step.n)
        if refusal is not None or passing is None:
            return refusal
        return await passing.come_back()

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
            ended = await self._out_of_doubt(step, 1, settled, tried=1)
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

    async def once(self, step: Step, quick: Quick | None) -> Ended:
        """Run a step without policies of its own: the short way, which most steps take.

        Its end is noted, except where it is in doubt.

        Args:
            step: What is done.
            quick: What lets it pass its service, if it names one.
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
        limit_s = body.timeout_s
        try:
            if quick is None:
                call = body.fn(**step.kwargs)
            else:
                call = quick.call(body.fn, step.kwargs)
                limit_s = quick.timeout_s if limit_s is None else limit_s
            value = await call if limit_s is None else await self.within(body, call, limit_s)
            task = asyncio.current_task()
            if task is not None and task.cancelling() and not self.halted:
                await take_back_cancel(task)
        except BaseException as raised:  # noqa: BLE001  a tool may raise anything
            error = self.own(raised, body)
            judged = self._judged(error, body, quick)
            ended = self._failed_call(body, error, judged)
        else:
            now_s = self.now_s()
            took_s = now_s - began_s
            if quick is not None:
                quick.succeeded(now_s, took_s)
            ended = self.encoded(body, value, took_s)
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

    async def _out_of_doubt(
        self, step: Step, attempt: int, ended: Ended | None, tried: int = 0
    ) -> Ended:
        """Do `step` until its outcome is known, or it may not be done again.

        Args:
            step: What is done.
            attempt: How often it was begun by now.
            ended: How it did; None or `AGAIN` where it did not.
            tried: How often it was begun in this life.
        """
        passing: Passing | None = None
        for done in range(tried, REPEATS_MAX):
            if ended is not AGAIN:
                break
            passing = passing or self._passing(step, again=tried > 0)
            if done and not await self._repeats(step, passing, done):
                break
            refused = await self._begin(step, attempt + 1, passing)
            if refused is not None:
                return refused
            attempt, ended = await self._attempts(step, attempt + 1, passing)
            if step.n in self.unsure:
                ended = _still_unsure(ended)
            if ended.status is StepStatus.IN_DOUBT:
                self.note_end(step, ended)
                ended = await self.settle(step, None, live=True)
        if ended is None or ended is AGAIN:
            self.doubts[step.n] = step
            return Ended(StepStatus.IN_DOUBT)
        return ended

    async def _repeats(self, step: Step, passing: Passing, done: int) -> bool:
        """Wait before a write is repeated under its key, as before any other retry."""
        wait_s = passing.repeat_wait_s(done, REPEATS_MAX)
        if wait_s is None:
            return False
        self.doubts[step.n] = step
        await self.clock.sleep(wait_s)
        del self.doubts[step.n]
        return True

    async def called(self, step: Step, record: Record | None) -> Ended:
        """Begin `step` and call its body; its end is the caller's to note."""
        began_s = self.now_s()
        attempt = (record.attempts if record else 0) + 1
        passing = self._passing(step)
        try:
            refused = await self._begin(step, attempt, passing)
            if refused is not None:
                return refused
            _, ended = await self._attempts(step, attempt, passing)
        finally:
            del self.passings[step.n]
            passing.called_off()
        return ended._replace(took_s=self.now_s() - began_s)

    def _passing(self, step: Step, *, again: bool = False) -> Passing:
        """Return what `step` has to pass before each attempt; `again` if it was made before."""
        accounts = self.accounts if calls_out(step) else []
        budget = step.body.budget or self.setting.budgets.step
        if budget and calls_out(step):
            account = self.step_accounts.get(step.n)
            if account is None:
                place = f"budget= of {step.body.name}" if step.body.budget else "Budgets(step=…)"
                account = Account(f"step {step.name}", budget, setting=place)
                account.restore(*spent_before(self.memo, step.n))
                self.step_accounts[step.n] = account
            accounts = [account, *accounts]
        passing = Passing(self.setting, self.log, step, accounts, self.deadline_at_s, again=again)
        self.passings[step.n] = passing
        return passing

    async def _begin(self, step: Step, attempt: int, passing: Passing) -> Ended | None:
        """Note that `step` begins, once it may pass; return how it ended where it must not."""
        refusal = await passing.enter()
        if refusal is not None:
            begun = attempt > 1
            if begun and step.n in self.unsure:
                # It may have happened, and cannot be repeated now.
                self.doubts[step.n] = step
                return Ended(StepStatus.IN_DOUBT)
            return self.note_refused(step, refusal, begun=begun and step.body.changes)
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
        """Give back what `step` holds while it waits for an owner."""
        self.desk.leave(self.holds[step.n])
        passing = self.passings.get(step.n)
        if passing is not None:
            passing.step_aside()

    def begun(self, step: Step, attempt: int) -> StepStarted:
        """Return the event that `step` begins now."""
        if self.stopping:
            self.halted = True
            raise asyncio.CancelledError
        if step.notes and attempt == 1:
            self.log.note_all(step.notes)
        if step.kind == MODEL:
            self.noted.add(step.n)
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
            step.body.service or "",
            self.breaker_of(step),
        )

    def breaker_of(self, step: Step) -> str:
        """Return the state of the breaker that `step` passes; empty where that is closed."""
        passing = self.passings.get(step.n)
        return passing.breaker if isinstance(passing, Passing) else ""

    def note_refused(self, step: Step, refusal: Refusal, *, begun: bool) -> Ended:
        """Note that a step was refused, before it began or after its intent was written."""
        if step.notes and not begun:
            self.log.note_all(step.notes)
            self.noted.add(step.n)
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
                causes=() if begun else step.causes,
                branch="" if begun else step.branch,
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

    async def _attempts(self, step: Step, attempt: int, passing: Passing) -> tuple[int, Ended]:
        """Call the body, which may pass, until it succeeds or may not be tried again."""
        body = step.body
        self.running[step.n] = step
        while True:
            position = self.store.position
            try:
                value = await self._attempt(step, attempt, passing)
            except BaseException as raised:  # noqa: BLE001  a tool may raise anything
                error = self.own(raised, body)
                judged = passing.failed(error)
                ended = self._failed_call(body, error, judged)
                if passing.short is not None:
                    ended = _given_up(ended, over_budget(step.name, passing.short))
                wait_s = passing.next_wait_s(judged, attempt)
                if wait_s is None or ended.error is None:
                    break
                at, rests = self.wall_s(), body.changes
                error_of, breaker = ended.error, passing.breaker
                self.log.note(StepRetried(step.n, attempt, at, wait_s, error_of, rests, breaker))
                self.log.put()
                refused = await self._once_more(step, attempt + 1, passing, wait_s, ended)
                if refused is not None:
                    return attempt, refused
                attempt += 1
            else:
                passing.succeeded(value)
                ended = self.encoded(body, value)
                if step.watched:
                    ended = self._saw(step, ended, position)
                break
        del self.running[step.n]
        return attempt, ended

    async def _once_more(
        self, step: Step, attempt: int, passing: Passing, wait_s: float, ended: Ended
    ) -> Ended | None:
        """Wait, and begin `step` once more; return how it ended where it must not."""
        del self.running[step.n]
        self.resting[step.n] = step
        try:
            await self.clock.sleep(wait_s)
            refusal = await passing.enter()
            if refusal is not None:
                passing.not_tried()
                return _given_up(ended, refusal)
            # Of a write each attempt has an intent: what failed before did so for sure.
            refused = await self._intend(step, attempt) if step.body.changes else None
        finally:
            del self.resting[step.n]
        if refused is None:
            self.running[step.n] = step
        return refused

    async def _attempt(self, step: Step, attempt: int, passing: Passing) -> Any:
        """Call the body once; raises also what a service answered as though all were well."""
        passing.begin()
        with counting(passing.wire):
            value = await self.call(step, attempt, passing)
        task = asyncio.current_task()
        if task is not None and task.cancelling() and not self.halted:
            await take_back_cancel(task)
        said = passing.failed_body(value)
        if said is not None:
            raise said
        return value

    def _judged(self, error: BaseException, body: Body, quick: Quick | None) -> Judged:
        """Return what an error means, and let the service that it passed know of it."""
        if quick is None:
            return DEFAULT_TABLE.judge(error, changes=body.changes, wall_s=self.wall_s())
        quick.redact = self.log.redactor.text
        return quick.failed(error, changes=body.changes, wall_s=self.wall_s())

    def _failed_call(self, body: Body, error: BaseException, judged: Judged) -> Ended:
        doubt = judged.error_class is ErrorClass.UNKNOWN and body.changes
        status = StepStatus.IN_DOUBT if doubt else StepStatus.FAILED
        clean = self.log.redactor.text
        lost = failure(error, judged.error_class, body.name, judged.blame, clean)
        return Ended(status, error=lost)


def _still_unsure(ended: Ended) -> Ended:
    """Return the end of a repeat: that it failed says nothing of the write that came before.

    Only an answer under the same key does.
    """
    error = ended.error
    if ended.status is not StepStatus.FAILED or error is None:
        return ended
    if error.error_class is ErrorClass.DOMAIN:
        return ended
    return ended._replace(status=StepStatus.IN_DOUBT)


def _given_up(ended: Ended, refusal: Refusal) -> Ended:
    """Return the end of a step that failed, and may not be tried again after all."""
    if ended.error is None:
        return ended
    message = f"{ended.error.message} (not tried again: {refusal.message})"
    return ended._replace(error=msgspec.structs.replace(ended.error, message=message))

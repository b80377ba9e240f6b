"""Turns from their begin to their end, over as many processes and days as it takes.

Keeps: a turn is run by one process at a time; whoever asks for a turn that runs here already
joins it; however a life ends, what it left behind can be resumed.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from undercroft.engine.accounts import SessionSpending, turn_account
from undercroft.engine.codec import ENCODE_ERRORS, decode, decoder, encode
from undercroft.engine.decide import (
    approval,
    check_name,
    delivery,
    doubts,
    in_doubt,
    only_waits,
    settlement,
    undecided,
    waiting,
)
from undercroft.engine.flow import FlowRun
from undercroft.engine.guestrun import GuestRun
from undercroft.engine.handler import Handler
from undercroft.engine.handlerrun import HandlerRun
from undercroft.engine.inputs import decoded_inputs, encoded_inputs
from undercroft.engine.life import (
    GUEST,
    Live,
    body_of,
    decoded_value,
    is_paused_guest,
    secrets_of,
    session_of,
)
from undercroft.engine.log import TurnLog
from undercroft.engine.memo import Memo, recall
from undercroft.engine.models import models_of
from undercroft.engine.step import Finish, Setting
from undercroft.engine.targets import Target, import_name, imported
from undercroft.engine.telling import Telling
from undercroft.engine.turnrun import TurnRun
from undercroft.engine.workflow import Workflow
from undercroft.errors import (
    DeadlineError,
    GuestError,
    InputError,
    StoreError,
    TargetError,
    TurnBusyError,
    TurnNotFoundError,
)
from undercroft.layers.breakers.policy import Budget
from undercroft.layers.observability.guard import check_known
from undercroft.model.event import (
    NIL,
    NIL_BYTES,
    DoubtSettled,
    StepEnded,
    TurnDelivered,
    TurnEnded,
    TurnParked,
    TurnResumed,
    TurnStarted,
    TurnStopped,
    decode_frames,
)
from undercroft.model.outcome import Outcome, TurnStatus, Waiting
from undercroft.model.step import ErrorClass, Failure, StepStatus, failure, step_id
from undercroft.model.turn import Claimed, Held, Over, TurnHead
from undercroft.ports import Amend

# How long writes under way may take once a turn is told to stop, and how long a step may
# take to notice that it was cancelled, before the turn goes on without it.
STOP_GRACE_S = 5.0
LEAVE_BEHIND_S = 2.0
BUSY_WAIT_S = 30.0
POLL_S = 0.02
_NONE, _LIST = "there is no such turn in this journal", "List them: undercroft turns."


_read_budget = decoder(Budget)
# What a journal holds of a turn that begins; never changed.
NOTHING = Memo()


class Runner:
    """Begins, resumes, decides and stops turns on one store."""

    def __init__(self, setting: Setting, targets: Iterable[Target], turn_timeout_s: float) -> None:
        self._setting = setting
        self._store = setting.store
        self._clock = setting.clock
        self._secrets = setting.secrets
        self._given: dict[str, Target] = {import_name(t): t for t in targets}
        # What ran here, by name: one that is made anew for each turn takes its own place.
        self._met: dict[str, Target] = {}
        self._turn_timeout_s = turn_timeout_s
        self._sessions = SessionSpending(setting.store)
        self._live: dict[str, Live] = {}

    # ------------------------------------------------------------------ begin

    async def run(
        self,
        target: Target,
        inputs: dict[str, Any],
        session: str | None,
        timeout_s: float | None,
        budget: Budget | None,
    ) -> Outcome:
        """Run a new turn until it ends or has to wait."""
        return await self._join(self._begun(target, inputs, session, timeout_s, budget))

    def _begun(
        self,
        target: Target,
        inputs: dict[str, Any],
        session: str | None,
        timeout_s: float | None,
        budget: Budget | None,
    ) -> Live:
        """Begin a new turn."""
        name = self._name_of(target)
        if isinstance(target, Handler):
            kind, code = GUEST if target.guest else "handler", target.code
        else:
            kind, code = "workflow", target.build().code
        raw = encoded_inputs(target, inputs)
        at = self._clock.wall_s()
        turn_id = self._setting.ids.turn(at)
        head = TurnHead(turn_id, kind, name, session, TurnStatus.RUNNING, at)
        telling = self._telling(turn_id)
        redactor = self._secrets.of(session, turn_id, secrets_of(target))
        log = TurnLog(self._store, 0, 0, head, telling, redactor=redactor)
        runtime, said = self._store.runtime, NIL
        if budget is not None:
            said = msgspec.Raw(encode(budget))
        raw_input = msgspec.Raw(raw)
        log.note(TurnStarted(turn_id, kind, name, code, raw_input, session, at, runtime, said))
        run = self._make(target, log, NOTHING, turn_id, session, inputs)
        return self._begin(turn_id, run, timeout_s, budget)

    def _telling(self, turn_id: str, earlier: Iterable[bytes] = ()) -> Telling | None:
        """Return what gathers a turn's frames, where anybody wants to know of them."""
        exporters = self._setting.exporters
        return Telling(exporters, turn_id, earlier) if exporters else None

    def _name_of(self, target: Target) -> str:
        name = import_name(target)
        self._met[name] = target
        return name

    def _find(self, turn_id: str, name: str) -> Target:
        """Return the target called `name`: given, met here before, or imported.

        Raises:
            TargetError: There is no such thing.
        """
        return self._given.get(name) or self._met.get(name) or imported(turn_id, name)

    def _make(  # noqa: PLR0913, PLR0917  what a run is made of
        self,
        target: Target,
        log: TurnLog,
        memo: Memo,
        turn_id: str,
        session: str | None,
        inputs: Mapping[str, Any],
    ) -> TurnRun:
        setting = self._setting
        if isinstance(target, Workflow):
            return FlowRun(setting, log, memo, turn_id, session, target.build(), inputs)
        if target.model is not None:
            # Functions make one, once.
            models = target.model = models_of(target.model)
            setting = replace(setting, models=models)
        kind = GuestRun if target.guest else HandlerRun
        return kind(setting, log, memo, turn_id, session, target, inputs)

    def _allow(self, run: TurnRun, budget: Budget | None) -> None:
        """Let a turn spend what was said of it, or else of all turns; and its session."""
        budgets = self._setting.budgets
        of_turn = turn_account(run.memo, budgets.turn if budget is None else budget)
        of_session = None
        if run.session is not None and budgets.session:
            of_session = self._sessions.account(run.session, run.turn_id, run.memo, budgets.session)
        run.allow((of_turn, of_session))

    def _begin(
        self, turn_id: str, run: TurnRun, timeout_s: float | None, budget: Budget | None
    ) -> Live:
        loop = asyncio.get_running_loop()
        live = Live(turn_id, run, budget)
        limit_s = self._turn_timeout_s if timeout_s is None else timeout_s
        if limit_s < math.inf:
            run.deadline_at_s = self._clock.now_s() + limit_s
            live.timers.append(loop.call_later(limit_s, self._expire, live, limit_s))
        self._live[turn_id] = live
        self._setting.turns.begin(turn_id)
        live.task = loop.create_task(self._supervise(live))
        return live

    async def _join(self, live: Live) -> Outcome:
        """Wait for a turn that runs here; the last one to be cancelled stops it."""
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        live.waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if all(other.done() for other in live.waiters) and not live.closed:
                await self._stopped([live], "whoever asked for the turn was cancelled")
            raise

    # ------------------------------------------------------------------ end

    async def _supervise(self, live: Live) -> None:
        """Run one life of a turn and write down how it ended."""
        finish: Finish | None = None
        error: BaseException | None = None
        try:
            refusal = await live.run.take_session()
            if refusal is None:
                # Only now nobody else can spend for the session.
                self._allow(live.run, live.budget)
                finish = await live.run.main()
            else:
                finish = Finish(TurnStatus.FAILED, error=Failure("SessionBusy", str(refusal)))
        except asyncio.CancelledError:
            pass  # told to stop, or out of time; written down below
        except BaseException as raised:  # noqa: BLE001  handed to those who wait
            error = raised
        if live.closed:
            return
        await self._close(live, finish, error)

    async def _close(self, live: Live, finish: Finish | None, error: BaseException | None) -> None:
        live.closed = True
        for timer in live.timers:
            timer.cancel()
        try:
            outcome = await self._write_end(live, finish, error)
        except BaseException as raised:  # noqa: BLE001  handed to those who wait
            error = error or raised
            outcome = None
        for passing in live.run.passings.values():
            passing.called_off()  # of bodies that were left behind
        self._live.pop(live.turn_id, None)
        self._setting.turns.end(live.turn_id)
        if outcome is not None and outcome.waiting and not undecided(self.memo(live.turn_id)):
            # Somebody decided while the turn was being parked.
            try:
                outcome = await self.resume(live.turn_id)
            except Exception as raised:  # noqa: BLE001  handed to those who wait
                outcome, error = None, raised
        for waiter in live.waiters:
            if waiter.done():
                continue
            if outcome is not None:
                waiter.set_result(outcome)
            elif error is not None:
                waiter.set_exception(error)
            else:
                waiter.cancel()

    async def _write_end(
        self, live: Live, finish: Finish | None, error: BaseException | None
    ) -> Outcome | None:
        """Note how this life ended, durably; return the outcome if the turn has one."""
        run, log, at = live.run, live.run.log, self._clock.wall_s()
        if finish is None and live.expired:
            finish = self._out_of_time(live)
        if finish is None:
            if not isinstance(error, StoreError):
                log.note(TurnStopped(live.why or str(error or "it was cancelled"), at))
                log.mark(TurnStatus.STOPPED, at)
                await log.durable()
                log.tell()
            return None
        run.sum_up()
        if finish.status.final:
            raw = NIL if finish.raw is None else msgspec.Raw(finish.raw)
            log.note(
                TurnEnded(finish.status, at, raw, finish.value_of, finish.error, finish.missing)
            )
        else:
            asked = (int(w.step_id.rpartition(".")[2]) for w in finish.waiting)
            steps = (*run.doubts, *asked)
            log.note(TurnParked(finish.status, tuple(steps), at, finish.missing))
        log.mark(finish.status, at)
        await log.durable()
        log.tell()
        run.hand_on(finish.status)
        unsettled = tuple(
            Waiting(step_id(step.name, n), step.name, dict(step.kwargs), at)
            for n, step in sorted(run.doubts.items())
        )
        return Outcome(
            live.turn_id,
            finish.status,
            finish.value,
            finish.waiting,
            unsettled,
            finish.missing,
            finish.error,
        )

    def _out_of_time(self, live: Live) -> Finish:
        """Note the end of what still ran; a write that did is in doubt."""
        run = live.run
        problem = DeadlineError(
            "", f"the turn did not end within {live.why}", "Raise timeout_s, or do less in a turn."
        )
        lost = failure(problem, ErrorClass.TRANSIENT)
        for n in run.resting:
            run.log.note(StepEnded(n, StepStatus.FAILED, 0.0, error=lost))
        for n, step in run.running.items():
            if step.body.changes:
                run.doubts[n] = step
            else:
                run.log.note(StepEnded(n, StepStatus.FAILED, 0.0, error=lost))
        if run.doubts:
            return Finish(TurnStatus.IN_DOUBT)
        return Finish(TurnStatus.FAILED, error=lost)

    def _expire(self, live: Live, limit_s: float) -> None:
        live.expired, live.why = True, f"{limit_s:g} s"
        self._cancel(live)

    def _cancel(self, live: Live) -> None:
        """Cancel whatever runs; what ignores that is left behind."""
        live.run.stopping = live.run.halted = True
        if live.task is not None:
            live.task.cancel()
        loop = asyncio.get_running_loop()
        live.timers.append(loop.call_later(LEAVE_BEHIND_S, self._leave_behind, live))

    def _leave_behind(self, live: Live) -> None:
        if not live.closed:
            closing = asyncio.ensure_future(self._close(live, None, None))
            live.task = closing  # kept, so that it is not collected

    def _stop(self, live: Live, why: str) -> None:
        """Let writes under way come to their end for a while, then cancel what still runs."""
        if live.why is None:
            live.why = why
            live.run.stopping = True
            self._stop_when_quiet(live, self._clock.now_s() + STOP_GRACE_S)

    def _stop_when_quiet(self, live: Live, give_up_s: float) -> None:
        if live.closed:
            return
        if live.run.writing and self._clock.now_s() < give_up_s:
            loop = asyncio.get_running_loop()
            live.timers.append(loop.call_later(POLL_S, self._stop_when_quiet, live, give_up_s))
        else:
            self._cancel(live)

    async def stop(self) -> None:
        """Stop every turn that runs here; each can be resumed."""
        await self._stopped(list(self._live.values()), "the runtime was closed")

    async def _stopped(self, lives: list[Live], why: str) -> None:
        """Stop turns and return when it is written down."""
        waiters: list[asyncio.Future[Outcome]] = []
        for live in lives:
            waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            live.waiters.append(waiter)
            waiters.append(waiter)
            self._stop(live, why)
        if waiters:
            await asyncio.wait(waiters)
            for waiter in waiters:
                # Whoever asked is told of an error; this only waits for the end.
                if not waiter.cancelled():
                    waiter.exception()

    # ------------------------------------------------------------------ resume

    async def resume(self, turn_id: str) -> Outcome:
        """Go on with a turn, or say how it stands; at once, twice or late, all the same.

        Raises:
            TurnNotFoundError: There is no such turn.
            TurnBusyError: Another live process has been running it for too long.
            TargetError: Its code cannot be found.
            ReplayError: Its code changed.
        """
        give_up_s = self._clock.now_s() + BUSY_WAIT_S
        while True:
            live = self._live.get(turn_id)
            if live is not None:
                return await self._join(live)
            memo = self.memo(turn_id)
            started = memo.started
            if started is None:
                raise TurnNotFoundError(turn_id, "its journal is empty", "Start a new turn.")
            if memo.over is not None or only_waits(memo) or is_paused_guest(memo):
                return self._outcome(turn_id, memo)
            if started.kind == GUEST:
                raise GuestError(
                    turn_id,
                    f"its loop ({started.target}) is somebody else's, and was cut off",
                    "Go on with it there, in the same session: it finds what it had done.",
                )
            target = self._find(turn_id, started.target)
            redactor = self._secrets.of(started.session, turn_id)
            # What earlier turns of the session were told was sent as it stands.
            apart = memo.context.hidden if memo.context is not None else ()
            check_known(turn_id, self._store.frames(turn_id) or (), redactor, apart)
            claimed = await self._store.claim(turn_id, self._clock.wall_s())
            match claimed:
                case Claimed():
                    return await self._join(self._take_up(turn_id, target, claimed))
                case Held(holder):
                    if self._clock.now_s() > give_up_s:
                        raise TurnBusyError(
                            turn_id,
                            f"{holder} is running it",
                            "Wait until it has ended, or end that process; then resume.",
                        )
                    await self._clock.sleep(POLL_S)
                case Over() | None:
                    pass  # it ended just now: look again

    def _take_up(self, turn_id: str, target: Target, claimed: Claimed) -> Live:
        redactor = self._secrets.of(session_of(claimed.frames), turn_id, secrets_of(target))
        memo = recall(decode_frames(redactor.restore(claimed.frames)))
        started = memo.started
        if started is None:
            raise TurnNotFoundError(turn_id, "its journal is empty", "Start a new turn.")
        telling = self._telling(turn_id, claimed.frames)
        log = TurnLog(self._store, claimed.num, memo.last_n, telling=telling, redactor=redactor)
        log.note(TurnResumed(self._store.runtime, self._clock.wall_s()))
        log.put()
        inputs = decoded_inputs(target, started.input)
        run = self._make(target, log, memo, turn_id, started.session, inputs)
        run.resumed_at = claimed.position
        said = started.budget
        budget = None if bytes(said) == NIL_BYTES else _read_budget(said)
        return self._begin(turn_id, run, None, budget)

    def memo(self, turn_id: str) -> Memo:
        """Return what the journal holds of a turn.

        Raises:
            TurnNotFoundError: There is no such turn.
        """
        frames = self._store.frames(turn_id)
        if frames is None:
            raise TurnNotFoundError(turn_id, _NONE, _LIST)
        return recall(decode_frames(frames))

    def unfinished(self) -> list[str]:
        """Return the ids of turns that could be resumed now."""
        return self._store.unfinished()

    def _outcome(self, turn_id: str, memo: Memo) -> Outcome:
        """Return how a turn stands that is over or waits."""
        over = memo.over
        if over is None:
            status = memo.parked.status if memo.parked else TurnStatus.WAITING
            missing = memo.parked.missing if memo.parked else ()
            return Outcome(
                turn_id, status, waiting=waiting(memo), in_doubt=doubts(memo), missing=missing
            )
        raw = over.value
        if over.value_of is not None:
            ended = memo.records[over.value_of].ended
            raw = ended.value if ended is not None else raw
        value = self._decoded_value(turn_id, memo, raw, over)
        return Outcome(turn_id, over.status, value, missing=over.missing, error=over.error)

    def _decoded_value(self, turn_id: str, memo: Memo, raw: Any, over: TurnEnded) -> Any:
        """Return the value typed, where its code is at hand, else as plain data."""
        if over.status is TurnStatus.FAILED or memo.started is None:
            return None
        try:
            if memo.started.kind == GUEST:
                return decode(raw)
            target = self._find(turn_id, memo.started.target)
        except TargetError:
            return decode(raw)
        return decoded_value(target, memo, raw, over)

    # ------------------------------------------------------------------ decide

    async def decide(  # noqa: PLR0913  a word has as many parts
        self,
        turn_id: str,
        step: str | None,
        *,
        granted: bool,
        by: str,
        reason: str,
        seen: str | None = None,
    ) -> Outcome:
        """Say yes or no to a step that waits; the first word counts, and resumes the turn.

        Raises:
            DecisionError: Nothing of that name waits, it was decided otherwise, or it is not
                what was `seen`.
        """
        check_name(by)
        at = self._clock.wall_s()
        return await self._amend(
            turn_id,
            lambda frames: approval(
                turn_id, frames, step, granted=granted, by=by, at=at, reason=reason, seen=seen
            ),
        )

    async def settle(
        self, turn_id: str, step: str | None, *, applied: bool, by: str, value: Any
    ) -> Outcome:
        """Say whether a write in doubt had happened, and go on with the turn.

        Raises:
            DecisionError: Nothing of that name is in doubt, or it was settled otherwise.
            InputError: `value` is not what the step returns.
        """
        check_name(by)
        raw = msgspec.Raw(self._checked_value(turn_id, step, value))
        word = DoubtSettled(0, applied, "person", by, self._clock.wall_s(), raw)
        return await self._amend(turn_id, lambda frames: settlement(turn_id, frames, step, word))

    async def delivered(self, turn_id: str, *, reached: bool, detail: str) -> None:
        """Write down whether what a turn ended with reached the user.

        Raises:
            TurnNotFoundError: There is no such turn.
            DecisionError: It has not ended.
        """
        status, at = "delivered" if reached else "failed", self._clock.wall_s()

        def add(frames: list[bytes]) -> bytes | None:
            said = self._secrets.of(session_of(frames), turn_id).text(detail)
            return delivery(turn_id, frames, TurnDelivered(status, at, said))

        if not await self._store.amend(turn_id, add):
            raise TurnNotFoundError(turn_id, _NONE, _LIST)

    def _checked_value(self, turn_id: str, step: str | None, value: Any) -> bytes:
        memo = self.memo(turn_id)
        record = in_doubt(turn_id, memo, step)
        try:
            raw = encode(value)
            ours = memo.started is not None and memo.started.kind != GUEST
            if value is not None and ours and memo.started is not None:
                target = self._find(turn_id, memo.started.target)
                if (body := body_of(target, record.name)) is not None:
                    body.decode(raw)
        except ENCODE_ERRORS as error:
            raise InputError(
                "value",
                f"it is not what {record.name} returns ({error})",
                "Give the result as the step would have returned it.",
            ) from error
        return raw

    async def _amend(self, turn_id: str, add: Amend) -> Outcome:
        def redacted(frames: list[bytes]) -> bytes | None:
            frame = add(frames)
            redactor = self._secrets.of(session_of(frames), turn_id)
            return None if frame is None else redactor.redact(frame)

        if not await self._store.amend(turn_id, redacted):
            raise TurnNotFoundError(turn_id, _NONE, _LIST)
        return await self.resume(turn_id)

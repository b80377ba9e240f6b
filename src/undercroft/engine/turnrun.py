"""What workflows and handlers share while they run: one step from intent to outcome.

Keeps: an effect is never begun before its intent is durable; a write of unknown outcome is
settled by `verify`, else repeated only under its idempotency key, else left in doubt;
whatever a step raises becomes its failure and never leaves through the loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from undercroft.engine.body import Body, Verify
from undercroft.engine.codec import ENCODE_ERRORS, describe_problem, encode
from undercroft.engine.log import TurnLog
from undercroft.engine.memo import Memo, Record
from undercroft.engine.threads import in_thread
from undercroft.errors import DeadlineError, EncodeError, StrayCancelError, UnknownOutcomeError
from undercroft.layers.breakers.state import classify, next_wait_s
from undercroft.layers.parallelism.policy import Limits
from undercroft.layers.parallelism.state import Lane
from undercroft.model.event import NIL, NIL_BYTES, DoubtSettled, StepEnded, StepRetried, StepStarted
from undercroft.model.ids import idempotency_key
from undercroft.model.inject import Deadline, Fence, IdempotencyKey, TurnInfo
from undercroft.model.outcome import TurnStatus, Waiting
from undercroft.model.step import ErrorClass, Failure, StepStatus, failure, step_id
from undercroft.ports import Clock, Ids, ModelClient, Store

log = logging.getLogger(__name__)

CANCEL_GRACE_S = 1.0
# A write that stays of unknown outcome is repeated under its key this often in one life.
REPEATS_MAX = 3
# How long a verify may take where its write has no timeout of its own.
VERIFY_S = 60.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What every turn of a runtime shares."""

    store: Store
    clock: Clock
    ids: Ids
    limits: Limits
    model: ModelClient | None


class Ended(NamedTuple):
    """How a step's body ended."""

    status: StepStatus
    value: Any = None
    raw: bytes = NIL_BYTES
    error: Failure | None = None
    took_s: float = 0.0


# Not an end: the body may be called (again).
AGAIN = Ended(StepStatus.RUNNING)


class _Verdict(NamedTuple):
    """What a verify said of a write."""

    applied: bool
    value: Any = None


class Step(NamedTuple):
    """A step about to run, or found again in the journal."""

    n: int
    name: str
    body: Body
    kind: str
    kwargs: Mapping[str, Any]
    fp: bytes = b""
    causes: tuple[int, ...] = ()
    claims: tuple[tuple[str, str], ...] = ()
    args: msgspec.Raw = NIL
    # What the turn saw of the resource before, for a verify that reads it.
    before: bytes | None = None


class Finish(NamedTuple):
    """How a life of a turn came to its end.

    Attributes:
        status: Final, or `waiting` or `in_doubt` where it parks.
        raw: `value`, encoded; None where it is the value of step `value_of`.
    """

    status: TurnStatus
    value: Any = None
    raw: bytes | None = None
    value_of: int | None = None
    error: Failure | None = None
    missing: tuple[str, ...] = ()
    waiting: tuple[Waiting, ...] = ()


class TurnRun(ABC):
    """One life of one turn."""

    def __init__(
        self, setting: Setting, log: TurnLog, memo: Memo, turn_id: str, session: str | None
    ) -> None:
        self.setting = setting
        self.clock = setting.clock
        # Looked up once: they are asked several times a step.
        self.now_s = setting.clock.now_s
        self.wall_s = setting.clock.wall_s
        self.log = log
        self.memo = memo
        self.turn_id = turn_id
        self.session = session
        self.lane: Lane[Any] = Lane(setting.limits.turn_max)
        # Begun and not ended; what a halt cuts off stays here.
        self.running: dict[int, Step] = {}
        self.doubts: dict[int, Step] = {}
        # Stopping: nothing new begins, writes may end. Halted: everything is being cancelled.
        self.stopping = False
        self.halted = False
        self.deadline_at_s = math.inf

    @abstractmethod
    async def main(self) -> Finish:
        """Run the turn until it ends or has to wait."""

    # ------------------------------------------------------------------ one step

    async def perform(self, step: Step, record: Record | None = None) -> Ended:
        """Run `step` to its end, its intent first, and note how it ended.

        With a `record` that began and did not end, what became of it is settled first.

        Raises:
            asyncio.CancelledError: The turn is halted; nothing is noted.
            StoreError: The journal cannot be written.
        """
        began_s = self.now_s()
        if record is None and step.body.plain:
            ended = await self.once(step)
            if ended.status is not StepStatus.IN_DOUBT:
                return ended
            self.note_end(step, ended)  # no end: it says why there is a doubt
            settled = await self._settle(step, None, live=True)
            ended = await self._out_of_doubt(step, 1, settled)
        else:
            attempt = record.attempts if record is not None else 0
            begin: Ended | None = AGAIN
            if record is not None and record.in_doubt:
                begin = await self._settle(step, record.settled, live=False)
            ended = await self._out_of_doubt(step, attempt, begin)
        if ended.status is not StepStatus.IN_DOUBT:
            ended = ended._replace(took_s=self.now_s() - began_s)
            self.note_end(step, ended)
        return ended

    async def once(self, step: Step) -> Ended:
        """Run a step without policies of its own: the short way, which most steps take.

        Its end is noted, except where it is in doubt.
        """
        body, log = step.body, self.log
        self._note_begin(step, 1)
        if body.changes:
            log.changes()
            await log.durable()
        else:
            log.put_start()
        self.running[step.n] = step
        began_s = self.now_s()
        try:
            value = await body.fn(**step.kwargs)
            task = asyncio.current_task()
            if task is not None and task.cancelling() and not self.halted:
                await _take_back_cancel(task)
        except BaseException as raised:  # noqa: BLE001  a tool may raise anything
            error = self._own(raised, body)
            ended = self._failed_call(body, error, classify(error, changes=body.changes))
        else:
            ended = self.encoded(body, value, self.now_s() - began_s)
        del self.running[step.n]
        if ended.status is not StepStatus.IN_DOUBT:
            self.note_end(step, ended)
        return ended

    async def _out_of_doubt(self, step: Step, attempt: int, ended: Ended | None) -> Ended:
        """Do `step` until its outcome is known, or it may not be done again."""
        for _ in range(REPEATS_MAX):
            if ended is not AGAIN:
                break
            position = await self._begin(step, attempt + 1)
            attempt, ended = await self._attempts(step, attempt + 1, position)
            if ended.status is StepStatus.IN_DOUBT:
                self.note_end(step, ended)
                ended = await self._settle(step, None, live=True)
        if ended is None or ended is AGAIN:
            self.doubts[step.n] = step
            return Ended(StepStatus.IN_DOUBT)
        return ended

    async def called(self, step: Step, record: Record | None) -> Ended:
        """Begin `step` and call its body; its end is the caller's to note."""
        began_s = self.now_s()
        attempt = (record.attempts if record else 0) + 1
        position = await self._begin(step, attempt)
        _, ended = await self._attempts(step, attempt, position)
        return ended._replace(took_s=self.now_s() - began_s)

    async def _begin(self, step: Step, attempt: int) -> int:
        """Note that `step` begins; where it changes the world, wait until that is durable."""
        self._note_begin(step, attempt)
        if step.body.changes:
            self.log.changes()
            return await self.log.durable()
        self.log.put_start()
        return 0

    def _note_begin(self, step: Step, attempt: int) -> None:
        if self.stopping:
            self.halted = True
            raise asyncio.CancelledError
        self.log.note(
            StepStarted(
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
            )
        )

    def note_end(self, step: Step, ended: Ended) -> None:
        """Note how a step that began came to its end."""
        self.log.note(
            StepEnded(step.n, ended.status, ended.took_s, msgspec.Raw(ended.raw), ended.error)
        )
        if step.body.changes:
            self.log.changes()

    async def _attempts(self, step: Step, attempt: int, position: int) -> tuple[int, Ended]:
        """Call the body until it succeeds or may not be tried again."""
        body = step.body
        self.running[step.n] = step
        while True:
            try:
                value = await self._call(step, attempt, position)
                task = asyncio.current_task()
                if task is not None and task.cancelling() and not self.halted:
                    await _take_back_cancel(task)
            except BaseException as raised:  # noqa: BLE001  a tool may raise anything
                error = self._own(raised, body)
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
                break
        del self.running[step.n]
        return attempt, ended

    @staticmethod
    def _failed_call(body: Body, error: BaseException, error_class: ErrorClass) -> Ended:
        doubt = error_class is ErrorClass.UNKNOWN and body.changes
        status = StepStatus.IN_DOUBT if doubt else StepStatus.FAILED
        return Ended(status, error=failure(error, error_class, body.name))

    async def _call(self, step: Step, attempt: int, position: int) -> Any:
        body, kwargs = step.body, dict(step.kwargs)
        for parameter, kind in body.injected.items():
            kwargs[parameter] = self._injection(kind, step, attempt, position)
        call = body.fn(**kwargs) if body.is_async else in_thread(body.fn, kwargs)
        if body.timeout_s is None:
            return await call
        return await self._bounded(body, call, body.timeout_s)

    def _injection(self, kind: type, step: Step, attempt: int, position: int) -> Any:
        if kind is IdempotencyKey:
            return self.key_of(step)
        if kind is Fence:
            return Fence(position)
        if kind is TurnInfo:
            return TurnInfo(self.turn_id, step_id(step.name, step.n), self.session, attempt)
        now_s = self.now_s()
        limit_s = step.body.timeout_s
        at_s = min(self.deadline_at_s, math.inf if limit_s is None else now_s + limit_s)
        return Deadline(at_s, at_s - now_s)

    def key_of(self, step: Step) -> IdempotencyKey:
        """Return the key of a step: the same in every life of the turn."""
        return IdempotencyKey(idempotency_key(self.turn_id, step.name, step.fp, step.n))

    async def _bounded(self, body: Body, call: Coroutine[Any, Any, Any], limit_s: float) -> Any:
        """Await `call` for `limit_s`; one that ignores being cancelled is left behind."""
        task = asyncio.ensure_future(_caught(call))
        try:
            done, _ = await asyncio.wait({task}, timeout=limit_s)
            if not done:
                task.cancel()
                done, _ = await asyncio.wait({task}, timeout=CANCEL_GRACE_S)
                if not done:
                    log.warning("step %s ignores its deadline and was left behind", body.name)
                raise DeadlineError(
                    body.name,
                    f"it did not return within {limit_s:g} s",
                    "Raise timeout_s, or make the call itself stop in time.",
                )
        except asyncio.CancelledError:
            task.cancel()
            raise
        value, error = task.result()
        if error is not None:
            raise error
        return value

    def _own(self, raised: BaseException, body: Body) -> BaseException:
        """Return what to record of `raised`, or raise what is not the step's to raise.

        Raises:
            asyncio.CancelledError: The turn is halted.
        """
        if isinstance(raised, GeneratorExit) and not _loop_runs():
            raise raised  # left behind, and collected when the loop is gone
        if self.halted:
            raise asyncio.CancelledError from raised
        if isinstance(raised, KeyboardInterrupt) and _may_be_a_person():
            raise raised
        if isinstance(raised, asyncio.CancelledError):
            task = asyncio.current_task()
            while task is not None and task.cancelling():
                task.uncancel()
            problem = "it cancelled itself"
            mend = "Raise an error instead; only the runtime cancels steps."
            stray = StrayCancelError(body.name, problem, mend)
            if not body.changes:
                return stray
            unknown = UnknownOutcomeError(str(stray))
            unknown.__cause__ = raised
            return unknown
        return raised

    def encoded(self, body: Body, value: Any, took_s: float = 0.0) -> Ended:
        """Return `value` as the end of a step; a failure where it cannot be written."""
        try:
            return Ended(StepStatus.OK, value, encode(value), None, took_s)
        except ENCODE_ERRORS as error:
            happened = "; its effect has happened" if body.changes else ""
            problem = EncodeError(
                body.name,
                f"what it returned cannot be recorded ({describe_problem(value, error)}){happened}",
                "Return plain data, dataclasses or pydantic models.",
            )
            return Ended(StepStatus.FAILED, error=failure(problem, step=body.name))

    # ------------------------------------------------------------------ doubt

    async def _settle(self, step: Step, said: DoubtSettled | None, *, live: bool) -> Ended | None:
        """Find out what became of a write; `AGAIN` where it may be done again.

        Returns None where only a person can say.

        Args:
            step: The write.
            said: A person's word, given while nobody ran the turn.
            live: Whether it was begun in this life, so that it may still be under way.
        """
        body = step.body
        if said is not None:
            if not said.applied:
                return AGAIN
            raw = bytes(said.value)
            return Ended(StepStatus.OK, None if raw == NIL_BYTES else body.decode(raw), raw)
        if body.verify is not None:
            answer = await self._verified(step, body.verify)
            # Just after a live failure the request may still be under way: then only "it
            # happened" is news, and "it did not" may be said too early.
            if answer is not None and (answer.applied or not live):
                ended = self.encoded(body, answer.value) if answer.applied else AGAIN
                self._note_settled(
                    step, "verify", body.verify.name, ended.raw, applied=answer.applied
                )
                return ended
        if body.keyed:
            self._note_settled(step, "key", str(self.key_of(step)), NIL_BYTES, applied=None)
            return AGAIN
        return None

    def _note_settled(
        self, step: Step, how: str, by: str, raw: bytes, *, applied: bool | None
    ) -> None:
        self.log.note(DoubtSettled(step.n, applied, how, by, self.wall_s(), msgspec.Raw(raw)))
        self.log.changes()
        self.log.put()

    async def _verified(self, step: Step, verify: Verify) -> _Verdict | None:
        """Return whether the write happened and its value, or None if that cannot be said."""
        kwargs = {p: step.kwargs[p] for p in verify.parameters if p in step.kwargs}
        for parameter, kind in verify.injected.items():
            kwargs[parameter] = self._injection(kind, step, 1, 0)
        limit_s = step.body.timeout_s or VERIFY_S
        try:
            call = verify.fn(**kwargs) if verify.is_async else in_thread(verify.fn, kwargs)
            answer = await self._bounded(step.body, call, limit_s)
            raw = encode(answer)
        except BaseException as raised:  # noqa: BLE001  a verify that fails settles nothing
            error = self._own(raised, step.body)
            log.warning("verify %s of %s failed: %r", verify.name, step.body.name, error)
            return None
        if answer is None or answer is False:
            return _Verdict(applied=False)
        if answer is True:
            return _Verdict(applied=True)
        if not verify.reads:
            return _Verdict(applied=True, value=answer)
        if step.before is None:
            return None
        return _Verdict(applied=raw != step.before, value=answer)


def waiting_for(name: str, n: int, args: bytes, at: float, fp: bytes) -> Waiting:
    """Return what an outcome says of a step that waits for a person."""
    arguments = msgspec.msgpack.decode(args)
    return Waiting(step_id(name, n), name, arguments, at, fp.hex())


async def _caught(call: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """Await `call` in a task of its own; its error is a value.

    A task that raises SystemExit or KeyboardInterrupt would end the event loop.
    """
    try:
        value = await call
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            await _take_back_cancel(task)
    except BaseException as error:  # noqa: BLE001  handed on by the caller
        return None, error
    return value, None


async def _take_back_cancel(task: asyncio.Task[Any]) -> None:
    """Take back a cancellation that a step asked for on its own task and never met."""
    while task.cancelling():
        task.uncancel()
    try:
        # Where the request is still pending this is where it strikes, and not in a bystander.
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        log.debug("a step cancelled its own task and returned all the same")


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _may_be_a_person() -> bool:
    """Whether a KeyboardInterrupt may come from the keyboard and not from a tool.

    Under `asyncio.run` Ctrl-C cancels the main task, so the exception itself is a tool's.
    """
    main = threading.current_thread() is threading.main_thread()
    return main and signal.getsignal(signal.SIGINT) is signal.default_int_handler

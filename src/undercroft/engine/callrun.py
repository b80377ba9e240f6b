"""Calling a body: what it is given, how long it may take, and what of its errors is its own.

Keeps: whatever a body raises becomes its failure and never leaves through the loop; one that
ignores being cancelled is left behind.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec

from undercroft.engine.body import Body
from undercroft.engine.cancel import caught, ended_in, loop_runs, may_be_a_person
from undercroft.engine.codec import ENCODE_ERRORS, describe_problem, encode
from undercroft.engine.log import TurnLog
from undercroft.engine.owning import Reader
from undercroft.engine.parts.timeout import ending_in
from undercroft.engine.passing import Passing
from undercroft.engine.step import Ended, Setting, Step
from undercroft.engine.threads import in_thread
from undercroft.errors import DeadlineError, EncodeError, StrayCancelError, UnknownOutcomeError
from undercroft.model.ids import idempotency_key
from undercroft.model.inject import Deadline, Fence, IdempotencyKey, Missing, TurnInfo
from undercroft.model.step import StepStatus, failure, step_id

log = logging.getLogger(__name__)

CANCEL_GRACE_S = 1.0
# How long a verify may take where its write has no timeout of its own.
VERIFY_S = 60.0


def _called(body: Body, kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
    return body.fn(**kwargs) if body.is_async else in_thread(body.fn, kwargs)


class CallRun:
    """What of a turn's life its bodies get to see."""

    def __init__(self, setting: Setting, log: TurnLog, turn_id: str, session: str | None) -> None:
        self.setting = setting
        self.clock = setting.clock
        # Looked up once: they are asked several times a step.
        self.now_s = setting.clock.now_s
        self.wall_s = setting.clock.wall_s
        self.log = log
        self.turn_id = turn_id
        self.session = session
        # Fences of writes, by their numbers.
        self.fences: dict[int, int] = {}
        # Stopping: nothing new begins, writes may end. Halted: everything is being cancelled.
        self.stopping = False
        self.halted = False
        self.deadline_at_s = math.inf
        # What the turn has to do without: by name of the step or tool, why.
        self.lacking: dict[str, str] = {}

    def missing(self, step: Step) -> Missing:
        """Return what `step` has to do without."""
        del step
        return Missing(self.lacking)

    async def call(self, step: Step, attempt: int, passing: Passing) -> Any:
        """Call the body of `step` once, for as long as it may take; raises what it raises."""
        body, kwargs, limit_s = step.body, passing.kwargs, passing.limit_s
        for parameter, kind in body.injected.items():
            kwargs[parameter] = self.injection(kind, step, attempt, passing.told_s)
        call = body.fn(**kwargs) if body.is_async else in_thread(body.fn, kwargs)
        if limit_s is None:
            return await call
        with ending_in(passing.told_s or limit_s):
            return await self.bounded(body, call, limit_s, passing.more_time_s)

    async def within(self, body: Body, call: Coroutine[Any, Any, Any], limit_s: float) -> Any:
        """Await `call` for `limit_s`, of which what runs inside is told."""
        with ending_in(limit_s):
            return await self.bounded(body, call, limit_s)

    async def read_again(self, reader: Reader, name: str) -> tuple[Any, bytes]:
        """Do a read once more, outside of the turn's own steps; raises whatever it raises."""
        body = reader.body
        step = Step(0, f"{name} (checking {body.name})", body, "check", reader.kwargs)
        kwargs = dict(reader.kwargs)
        for parameter, kind in body.injected.items():
            kwargs[parameter] = self.injection(kind, step, 1)
        value = await self.aside(body, body.service, name, partial(_called, body, kwargs))
        return value, encode(value)

    async def aside(
        self,
        body: Body,
        service: str | None,
        name: str,
        call: Callable[[], Coroutine[Any, Any, Any]],
    ) -> Any:
        """Make a call that is no step of the turn, past the breaker of its service.

        Raises:
            BreakerOpenError: The service is given up.
            OverloadedError: It asked to be left alone.
            Exception: Whatever the call raises.
        """
        if service is None:
            return await self.bounded(body, call(), body.timeout_s or VERIFY_S)
        gate = self.setting.services.gate(service)
        limit_s = body.timeout_s or gate.service.timeout_s or VERIFY_S
        async with gate.passing(name, limit_s):
            return await self.bounded(body, call(), limit_s)

    def injection(self, kind: type, step: Step, attempt: int, limit_s: float | None = None) -> Any:
        """Return what a parameter of `kind` is given."""
        if kind is IdempotencyKey:
            return self.key_of(step)
        if kind is Fence:
            return Fence(self.fences.get(step.n, 0))
        if kind is TurnInfo:
            return TurnInfo(self.turn_id, step_id(step.name, step.n), self.session, attempt)
        if kind is Missing:
            return self.missing(step)
        now_s = self.now_s()
        limit_s = step.body.timeout_s if limit_s is None else limit_s
        at_s = min(self.deadline_at_s, math.inf if limit_s is None else now_s + limit_s)
        return Deadline(at_s, at_s - now_s)

    def key_of(self, step: Step) -> IdempotencyKey:
        """Return the key of a step: the same in every life of the turn."""
        return IdempotencyKey(idempotency_key(self.turn_id, step.name, step.fp, step.n))

    async def bounded(
        self,
        body: Body,
        call: Coroutine[Any, Any, Any],
        limit_s: float,
        more_s: Callable[[], float] | None = None,
    ) -> Any:
        """Await `call` for `limit_s` and more; one that ignores being cancelled is left behind."""
        task = asyncio.ensure_future(caught(call))
        try:
            done = await ended_in(task, limit_s)
            while not done and more_s is not None and (more := more_s()):
                limit_s += more
                done = await ended_in(task, more)
            if not done:
                task.cancel()
                if not await ended_in(task, CANCEL_GRACE_S):
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

    def own(self, raised: BaseException, body: Body) -> BaseException:
        """Return what to record of `raised`, or raise what is not the step's to raise.

        Raises:
            asyncio.CancelledError: The turn is halted.
        """
        if isinstance(raised, GeneratorExit) and not loop_runs():
            raise raised  # left behind, and collected when the loop is gone
        if self.halted:
            raise asyncio.CancelledError from raised
        if isinstance(raised, KeyboardInterrupt) and may_be_a_person():
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

    def shown_in_keys(self, values: Mapping[str, Any], used: Iterable[str]) -> Mapping[str, Any]:
        """Return arguments as keys of resources may show them, which are written in the clear."""
        redactor = self.log.redactor
        shown = {name: redactor.argument(name, values[name]) for name in used if name in values}
        return values if all(shown[name] is values[name] for name in shown) else {**values, **shown}

    def hidden(self, value: Any) -> msgspec.Raw:
        """Return `value` as a person who decides about it sees it: without secrets."""
        return msgspec.Raw(self.log.redactor.raw(encode(value)))

    def encoded(self, body: Body, value: Any, took_s: float = 0.0) -> Ended:
        """Return `value` as the end of a step; a failure where it cannot be written."""
        try:
            raw = encode(value)
            if body.secret:
                self.log.redactor.hide(raw)
            return Ended(StepStatus.OK, value, raw, None, took_s)
        except ENCODE_ERRORS as error:
            happened = "; its effect has happened" if body.changes else ""
            problem = EncodeError(
                body.name,
                f"what it returned cannot be recorded ({describe_problem(value, error)}){happened}",
                "Return plain data, dataclasses or pydantic models.",
            )
            return Ended(StepStatus.FAILED, error=failure(problem, step=body.name))

"""Where a workflow's turn stands: what ended and how, what is ready, and what it is given.

Keeps: a step is ready when all that it uses has ended well, or is optional; what needs what
was lost is skipped; a value is let go of after the last step that wants it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from undercroft.engine.approving import in_order
from undercroft.engine.codec import encode
from undercroft.engine.exitrun import ExitRun
from undercroft.engine.flowstate import LOST, Fan, State
from undercroft.engine.log import TurnLog
from undercroft.engine.memo import Memo
from undercroft.engine.step import Finish, Setting, Step
from undercroft.engine.workflow import Op, Program
from undercroft.layers.conflicts.keys import KeyProblem
from undercroft.model.event import StepEnded
from undercroft.model.inject import Missing
from undercroft.model.outcome import TurnStatus, Waiting
from undercroft.model.step import FALLBACK, ErrorClass, Failure, Refusal, StepStatus

# A step, or one item of a fan-out: the step, the item's place (-1: it is no item), its claims.
Pairs = tuple[tuple[str, str], ...]
Ticket = tuple[Op, int, Pairs]
WHOLE = -1


class GraphRun(ExitRun):
    """What of a workflow's turn is known of its graph."""

    def __init__(  # noqa: PLR0913, PLR0917  what a run is made of
        self,
        setting: Setting,
        log: TurnLog,
        memo: Memo,
        turn_id: str,
        session: str | None,
        program: Program,
        inputs: Mapping[str, Any],
    ) -> None:
        super().__init__(setting, log, memo, turn_id, session, program.strength, program.resources)
        self.program = program
        self.inputs = inputs
        count = len(program.ops)
        self.values: list[Any] = [None] * count
        self.states: list[State] = [State.PENDING] * count
        self.numbers: list[tuple[int, ...]] = [()] * count
        self.need = [len(op.plan.causes) for op in program.ops]
        # How many steps still want a value: it is let go of after the last one, so that a
        # long turn does not hold on to all that it ever read.
        self.wanted = list(program.wanted)
        self.fans: dict[int, Fan] = {}
        self.waiting: list[Waiting] = []
        self.error: Failure | None = None
        self.any_lost = False
        # What runs beside `main`, by step and item.
        self.tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self.quiet: asyncio.Future[None] | None = None
        self.broken: BaseException | None = None

    def missing(self, step: Step) -> Missing:
        """Return the optional steps without which `step` has to do, also those of its causes."""
        name = step.body.name.removesuffix(FALLBACK)
        op = next(op for op in self.program.ops if op.name == name)
        absent: dict[str, str] = {}
        ahead, met = list(op.plan.causes), set(op.plan.causes)
        while ahead:
            cause = self.program.ops[ahead.pop()]
            if cause.name in self.lacking:
                absent[cause.name] = self.lacking[cause.name]
            fresh = set(cause.plan.causes) - met
            met |= fresh
            ahead += fresh
        return Missing(dict(sorted(absent.items())))

    def failed(self, op: Op, n: int, error: Failure) -> list[Op]:
        """Note the end of a step that never began."""
        self.log.note(self._unbegun(op, n, StepStatus.FAILED, error))
        return self.lost(op, error)

    def _unbegun(
        self, op: Op, n: int, status: StepStatus, error: Failure | None = None
    ) -> StepEnded:
        at, causes = self.wall_s(), self.causes(op)
        return StepEnded(n, status, 0.0, error=error, name=op.name, at=at, causes=causes)

    def lost(self, op: Op, error: Failure | None) -> list[Op]:
        """`op` failed: go on without it where it is optional."""
        if op.optional:
            self.lacking[op.name] = str(error) if error is not None else "it failed"
            return self.settled(op, State.MISSING)
        self.error = self.error or error
        return self.settled(op, State.FAILED)

    def settled(self, op: Op, state: State) -> list[Op]:
        """Take note of the end of `op`; return the steps that are ready now."""
        if state in LOST:
            self.any_lost = True
        ready = self.freed(op, state)
        if not self.any_lost:
            return ready
        # Those that need what was lost end here and now, and so do those that need them.
        well: list[Op] = []
        while ready:
            follower = ready.pop(0)
            if any(self.states[cause] in LOST for cause in follower.plan.causes):
                ready += self.freed(follower, self.skipped(follower))
            else:
                well.append(follower)
        return well

    def freed(self, op: Op, state: State) -> list[Op]:
        """Return the steps of which `op` was the last one that they waited for."""
        self.states[op.index] = state
        wanted, need, ops = self.wanted, self.need, self.program.ops
        for cause in op.plan.causes:
            wanted[cause] -= 1
            if not wanted[cause]:
                self.values[cause] = None
        ready: list[Op] = []
        for index in op.plan.dependents:
            need[index] -= 1
            if not need[index]:
                ready.append(ops[index])
        return ready

    def skipped(self, op: Op) -> State:
        """Note that `op` cannot run, since something that it needs failed."""
        record = self.memo.take(op.name, b"") if self.memo.left else None
        n = self.log.next_n() if record is None else record.n
        if record is None:
            self.log.note(self._unbegun(op, n, StepStatus.SKIPPED))
        self.numbers[op.index] = (n,)
        if not op.optional:
            return State.SKIPPED
        self.lacking[op.name] = "what it uses is missing"
        return State.MISSING

    # ------------------------------------------------------------------ what a step is given

    def kwargs(self, op: Op) -> dict[str, Any]:
        """Return the arguments of `op`, but for an item of a fan-out."""
        values, inputs = self.values, self.inputs
        kwargs = {parameter: values[index] for parameter, index in op.from_steps}
        for parameter, name in op.from_inputs:
            if name in inputs:
                kwargs[parameter] = inputs[name]
        return kwargs

    def causes(self, op: Op) -> tuple[int, ...]:
        """Return the numbers of the steps whose results `op` uses."""
        causes = op.plan.causes
        if len(causes) == 1:
            return self.numbers[causes[0]]
        return tuple(n for cause in causes for n in self.numbers[cause])

    def claims(self, op: Op, item: Any) -> tuple[tuple[str, str], ...]:
        """Return the claims of `op` on actual resources.

        Raises:
            KeyProblem: A value cannot stand in a key.
        """
        if op.declared.fixed:
            return op.claims
        named: dict[str, Any] = {}
        for name, index in op.key_steps:
            if self.states[index] is State.OK:
                named[name] = self.values[index]
        for name in op.key_inputs:
            default = self.program.plan.inputs[name].default
            named[name] = self.inputs.get(name, default)
        if op.key_item is not None:
            named[op.key_item] = item
        return op.declared.pairs(self.shown_in_keys(named, op.declared.parameters))

    def known_claims(self, op: Op) -> Pairs:
        """Return what `op` will claim, as far as that is known yet."""
        try:
            return self.claims(op, None)
        except KeyProblem:
            return ()  # the step itself will fail, and say so

    def finish(self) -> Finish:
        """Return how this life of the turn ended."""
        missing = tuple(self.lacking)
        if self.doubts:
            return Finish(TurnStatus.IN_DOUBT, waiting=in_order(self.waiting), missing=missing)
        if self.waiting:
            return Finish(TurnStatus.WAITING, waiting=in_order(self.waiting), missing=missing)
        if self.error is not None:
            return Finish(TurnStatus.FAILED, error=self.error, missing=missing)
        status = TurnStatus.DEGRADED if missing else TurnStatus.DONE
        results = self.program.plan.results
        if len(results) == 1:
            (index,) = results
            value = self.values[index]
            if self.states[index] is State.OK and self.program.ops[index].item is None:
                (number,) = self.numbers[index]
                return Finish(status, value, None, number, missing=missing)
        else:
            value = {self.program.ops[k].name: self.values[k] for k in results}
        return Finish(status, value, encode(value), missing=missing)


def refused(op: Op, refusal: Refusal | None) -> Failure:
    """Return the refusal of `op` as its failure."""
    message = refusal.message if refusal else "it was refused"
    return Failure("Rejected", message, ErrorClass.DOMAIN, op.name)

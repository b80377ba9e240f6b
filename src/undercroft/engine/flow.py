"""Running a workflow: every step as soon as its needs are met, each exactly once.

Keeps: a step starts when all that it uses has ended well; one that failed never cancels its
siblings; a fan-out joins in the order of its list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from undercroft.engine.approving import question, voided
from undercroft.engine.callrun import CANCEL_GRACE_S
from undercroft.engine.codec import ENCODE_ERRORS, describe_problem, encode
from undercroft.engine.flowstate import Fan, State
from undercroft.engine.graphrun import WHOLE, GraphRun, Pairs, refused
from undercroft.engine.lane import Place
from undercroft.engine.memo import Record
from undercroft.engine.owning import changing
from undercroft.engine.step import Ended, Finish, Step, end_of
from undercroft.engine.workflow import Op
from undercroft.errors import EncodeError, ReplayError
from undercroft.layers.breakers.exits import came_to_nothing, in_words
from undercroft.layers.conflicts.keys import KeyProblem
from undercroft.layers.sequencing.guard import rejected
from undercroft.model.event import NIL, ApprovalAsked, ApprovalVoided, StepEnded, StepWaited
from undercroft.model.ids import FINGERPRINT_BYTES, fingerprint
from undercroft.model.inject import Approval
from undercroft.model.step import FALLBACK, Failure, StepStatus, failure


class FlowRun(GraphRun):
    """One life of a workflow's turn."""

    async def main(self) -> Finish:
        """Run until everything ended or waits.

        Raises:
            ReplayError: The journal holds steps that this workflow does not have.
            StoreError: The journal cannot be written.
        """
        if self.memo.left:
            self._check_code()
        first, *others = [op for op in self.program.ops if not op.plan.causes]
        # Asked before the others, run after they were offered: a chain needs no task at all.
        here = self._ask_here([first])
        for op in others:
            self._offer(op)
        try:
            if here is not None:
                await self._admitted(here)
            if self.tasks and self.broken is None:
                # Set by the last of them, or by the first that breaks.
                self.quiet = asyncio.get_running_loop().create_future()
                await self.quiet
        finally:
            await self._abandon()
        if self.broken is not None:
            raise self.broken
        return self.finish()

    def _check_code(self) -> None:
        """Compare the recorded steps with the workflow as it is now."""
        started = self.memo.started
        if started is None or started.code == self.program.code:
            return
        ops = {op.name: op for op in self.program.ops}
        for record in self.memo.records.values():
            name = record.name.removesuffix(FALLBACK)
            op = ops.get(name.partition("[")[0])
            if op is None:
                raise self._changed(record.name, "the workflow has no such step any more")
            if name != record.name:
                continue  # what stands in for a step follows it, and nothing else
            recorded = {
                self.memo.records[n].name.removesuffix(FALLBACK).partition("[")[0]
                for n in record.causes
                if n in self.memo.records
            }
            now = {self.program.ops[c].name for c in op.plan.causes}
            if recorded != now and (record.causes or record.started is not None):
                raise self._changed(
                    record.name,
                    f"it used {_listed(recorded)} and now uses {_listed(now)}",
                )

    def _changed(self, step: str, what: str) -> ReplayError:
        return ReplayError(
            self.turn_id,
            f"step {step!r} is recorded, but {what}",
            "Resume it with the code that it began with, or start a new turn.",
            step,
        )

    # ------------------------------------------------------------------ driving

    def _offer(self, op: Op) -> None:
        """Start `op` in a task of its own, now or when it is admitted."""
        here = self._ask_here([op])
        if here is not None:
            self._spawn(here)

    def _ask_here(self, ready: list[Op]) -> Place | None:
        """Ask for all that is ready, in order; return the first that may start now.

        The others are started in tasks of their own, now or when they are admitted. A fan-out
        is many steps and never the one that is returned.
        """
        here: Place | None = None
        while ready:
            op = ready.pop(0)
            if op.item is not None:
                ready += self._fan_out(op)
                continue
            try:
                claims = self.claims(op, None)
            except KeyProblem as problem:
                n = self.log.next_n()
                self.numbers[op.index] = (n,)
                error = Failure("KeyProblem", str(problem), step=op.name)
                ready += self.failed(op, n, error)
                continue
            held = claims + op.declared.implicit if op.declared.implicit else claims
            place = self.lane.ask(held, (op, WHOLE, claims), op.name)
            if not place.admitted:
                continue
            if here is None:
                here = place
            else:
                self._spawn(place)
        return here

    def _spawn(self, place: Place) -> None:
        at = (place.stands_for[0].index, place.stands_for[1])
        self.tasks[at] = asyncio.get_running_loop().create_task(self._guarded(place, at))

    async def _guarded(self, place: Place, at: tuple[int, int]) -> None:
        try:
            await self._admitted(place)
        except BaseException as error:  # noqa: BLE001  handed to `main`, which raises it
            if self.broken is None:
                self.broken = error
        # Here and not in a callback, which would cost as much as the rest of a short step.
        del self.tasks[at]
        if self.quiet is not None and not self.quiet.done() and (self.broken or not self.tasks):
            self.quiet.set_result(None)

    async def _abandon(self) -> None:
        tasks = list(self.tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_GRACE_S)

    async def _admitted(self, place: Place) -> None:
        """Run what was admitted, then stay on one of the steps that it made ready."""
        while True:
            op, item, claims = place.stands_for
            if item != WHOLE:
                ready = await self._run_item(op, item, place)
            elif op.gate:
                ready = await self._run_gate(op)
            else:
                ready = await self._run_op(op, claims, place)
            # What is in doubt stands where it is, and holds up what conflicts with it.
            held_up = ready is None
            for started in self.lane.stand(place) if held_up else self.lane.leave(place):
                self._spawn(started)
            here = self._ask_here(ready) if ready else None
            if here is None:
                self.log.put_soon()
                return
            if self.log.crowded:
                await self.log.durable()
            place = here

    # ------------------------------------------------------------------ steps

    async def _run_op(self, op: Op, claims: Pairs, place: Place) -> list[Op] | None:
        record = self.memo.take(op.name, b"") if self.memo.left else None
        recorded = record.ended if record is not None else None
        if record is not None and recorded is not None and not _falls_back(op, recorded):
            return self._recorded(op, record, recorded, claims)
        n = record.n if record else self.log.next_n()
        self.numbers[op.index] = (n,)
        kwargs = self.kwargs(op)
        step = self._step(op, n, op.name, kwargs, claims)
        if recorded is not None:
            ended = end_of(recorded)
        else:
            if place.claim:
                self._note_wait(place, n)
            ended = await self.perform(step, record)
        if op.stand_in is not None and _falls_back(op, ended):
            ended, self.numbers[op.index] = await self._stands_in(op, step, kwargs, ended)
        if ended.status is StepStatus.OK:
            self.values[op.index] = ended.value
            return self.settled(op, State.OK)
        if ended.status is StepStatus.IN_DOUBT:
            return None
        if ended.refusal is not None:
            return self.lost(op, refused(op, ended.refusal))
        return self.lost(op, ended.error)

    def _step(  # noqa: PLR0913, PLR0917  what a step is made of
        self,
        op: Op,
        n: int,
        name: str,
        kwargs: Mapping[str, Any],
        claims: Pairs,
        fp: bytes = b"",
    ) -> Step:
        watched: tuple[str, ...] = ()
        held, implicit = claims, op.declared.implicit
        if implicit:
            held += implicit
        if claims and op.name in self.program.remembered:
            watched = tuple([key for mode, key in claims if mode == "read"])
        return Step(
            n,
            name,
            op.body,
            "step",
            kwargs,
            fp,
            self.causes(op),
            claims,
            NIL,
            None,
            held,
            "",
            watched,
        )

    async def _stands_in(
        self, op: Op, step: Step, kwargs: Mapping[str, Any], ended: Ended
    ) -> tuple[Ended, tuple[int, ...]]:
        """Call what stands in for a step; return how that ended, and whose value it is."""
        assert op.stand_in is not None  # noqa: S101  the caller looked
        record = self.memo.take(step.name + FALLBACK, step.fp) if self.memo.left else None
        other, now = await self.fall_back(step, op.stand_in, kwargs, ended, record)
        if now.status is not StepStatus.OK:
            return now, (step.n,)
        self.lacking[op.name] = in_words(ended.error, ended.refusal)
        return now, (other.n,)

    def _note_wait(self, place: Place, n: int) -> None:
        """Note how long a step that was ready waited for others of the turn."""
        waited_s = self.now_s() - place.asked_s
        self.log.note(StepWaited(n, waited_s, place.claim, place.behind))

    def _recorded(self, op: Op, record: Record, ended: StepEnded, claims: Pairs = ()) -> list[Op]:
        """Take the end of `op` from the journal."""
        self.numbers[op.index] = (record.n,)
        if ended.status is StepStatus.OK:
            self.values[op.index] = op.decode(ended.value)
            self._remember(op, self.kwargs(op), claims, bytes(ended.value))
            return self.settled(op, State.OK)
        if ended.status is StepStatus.SKIPPED:
            return self.settled(op, State.SKIPPED)
        return self.lost(op, ended.error or refused(op, ended.refusal))

    def _remember(self, op: Op, kwargs: Mapping[str, Any], claims: Pairs, raw: bytes) -> None:
        """Take note of what a step of an earlier life saw or changed."""
        if op.name in self.program.remembered:
            self.remember(self._step(op, 0, op.name, kwargs, claims), raw)
        elif op.body.changes:
            self.owner.changed(changing(claims), self.resumed_at)

    # ------------------------------------------------------------------ fan-out

    def _fan_out(self, op: Op) -> list[Op]:
        """Ask for each item of a fan-out; return what is ready at once since there is none."""
        source = op.plan.each
        given = (
            self.inputs[source.name]
            if source and source.index < 0
            else (self.values[source.index] if source else None)
        )
        if given is not None and (
            isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable)
        ):
            problem = f"it fans out over a {type(given).__name__}, which is not a list"
            lost = Failure("TypeError", problem, step=op.name)
            return self.failed(op, self.log.next_n(), lost)
        fan = self.fans[op.index] = Fan(list(given or ()))
        if not fan.items:
            self.values[op.index] = []
            return self.settled(op, State.OK)
        ready: list[Op] = []
        implicit = op.declared.implicit
        for at, item in enumerate(fan.items):
            name = f"{op.name}[{at}]"
            try:
                claims = self.claims(op, item)
            except KeyProblem as problem:
                ready += self._unclaimed(op, fan, at, problem)
                continue
            held = claims + implicit if implicit else claims
            place = self.lane.ask(held, (op, at, claims), name)
            if place.admitted:
                self._spawn(place)
        return ready

    def _item_fp(self, item: Any) -> bytes:
        shown = self.log.redactor.fixed(encode(item))
        return blake2b(shown, digest_size=FINGERPRINT_BYTES).digest()

    def _unclaimed(self, op: Op, fan: Fan, at: int, problem: KeyProblem) -> list[Op]:
        """Note the end of an item whose resource cannot be named."""
        name, n = f"{op.name}[{at}]", self.log.next_n()
        fan.numbers[at] = n
        fp = self._item_fp(fan.items[at])
        error = Failure("KeyProblem", str(problem), step=name)
        why = StepEnded(n, StepStatus.FAILED, 0.0, error=error, name=name, fp=fp)
        self.log.note(msgspec.structs.replace(why, at=self.wall_s(), causes=self.causes(op)))
        return self._joined(op, fan, error)

    async def _run_item(self, op: Op, at: int, place: Place) -> list[Op] | None:
        fan = self.fans[op.index]
        item, claims = fan.items[at], place.stands_for[2]
        name = f"{op.name}[{at}]"
        fp = self._item_fp(item)
        record = self.memo.take(name, fp) if self.memo.left else None
        kwargs = self.kwargs(op)
        kwargs[op.item or ""] = item
        recorded = record.ended if record is not None else None
        if record is not None and recorded is not None and not _falls_back(op, recorded):
            ended = recorded
            fan.numbers[at] = record.n
            if ended.status is StepStatus.OK:
                fan.values[at] = op.body.decode(ended.value)
                self._remember(op, kwargs, claims, bytes(ended.value))
                return self._joined(op, fan, None)
            error = refused(op, ended.refusal) if ended.refusal else ended.error
            return self._joined(op, fan, error or Failure("Failure", "failed", step=name))
        n = fan.numbers[at] = record.n if record else self.log.next_n()
        if place.claim:
            self._note_wait(place, n)
        step = self._step(op, n, name, kwargs, claims, fp)
        ended_now = end_of(recorded) if recorded is not None else await self.perform(step, record)
        if op.stand_in is not None and _falls_back(op, ended_now):
            ended_now, (fan.numbers[at],) = await self._stands_in(op, step, kwargs, ended_now)
        if ended_now.status is StepStatus.IN_DOUBT:
            return None
        if ended_now.refusal is not None:
            return self._joined(op, fan, refused(op, ended_now.refusal))
        fan.values[at] = ended_now.value
        return self._joined(op, fan, ended_now.error)

    def _joined(self, op: Op, fan: Fan, error: Failure | None) -> list[Op]:
        """One item came to its end; the last one ends the step."""
        if error is not None:
            fan.error = fan.error or error
            self.error = self.error if op.optional else self.error or error
        fan.left -= 1
        if fan.left:
            return []
        self.numbers[op.index] = tuple(fan.numbers)
        if fan.error is not None:
            return self.lost(op, fan.error)
        self.values[op.index] = fan.values
        return self.settled(op, State.OK)

    # ------------------------------------------------------------------ gates

    async def _run_gate(self, op: Op) -> list[Op]:
        record = self.memo.take(op.name, b"") if self.memo.left else None
        if record is not None and record.ended is not None:
            return self._recorded(op, record, record.ended)
        n = record.n if record else self.log.next_n()
        self.numbers[op.index] = (n,)
        kwargs = self.kwargs(op)
        if record is not None and record.asked is not None:
            return await self._decided(op, record, kwargs)
        step = Step(n, op.name, op.body, "approval", kwargs, b"", self.causes(op))
        ended = await self.called(step, record)
        if ended.status is not StepStatus.OK:
            self.note_end(step, ended)
            return self.lost(op, ended.error)
        if not ended.value:
            free = Approval(granted=True, required=False)
            self.note_end(step, Ended(StepStatus.OK, free, encode(free), None, ended.took_s))
            self.values[op.index] = free
            return self.settled(op, State.OK)
        return self._ask(op, n, kwargs)

    def _ask(
        self,
        op: Op,
        n: int,
        kwargs: Mapping[str, Any],
        void: ApprovalVoided | None = None,
    ) -> list[Op]:
        at = self.wall_s()
        try:
            args = encode(dict(kwargs))
        except ENCODE_ERRORS as error:
            problem = EncodeError(
                op.name,
                f"what the approver would see cannot be recorded "
                f"({describe_problem(dict(kwargs), error)})",
                "Pass plain data, dataclasses or pydantic models to a gate.",
            )
            lost = failure(problem, step=op.name)
            self.log.note(StepEnded(n, StepStatus.FAILED, 0.0, error=lost))
            return self.lost(op, lost)
        asked = ApprovalAsked(
            n,
            op.name,
            at,
            fingerprint([op.name, self.log.redactor.fixed(args)]),
            msgspec.Raw(self.log.redactor.raw(args)),
            self.causes(op),
            self.owner.versions(self._guarded_claims(op)),
            self.store.copy_id,
            None if op.expires_s is None else at + op.expires_s,
        )
        self.log.note(asked)
        self.log.put()
        self.waiting.append(question(asked, void))
        return []

    def _guarded_claims(self, gate: Op) -> Pairs:
        """Return what the steps behind a gate will change, as far as it is known yet."""
        return tuple(
            claim
            for index in gate.plan.dependents
            for claim in changing(self.known_claims(self.program.ops[index]))
        )

    async def _decided(self, op: Op, record: Record, kwargs: Mapping[str, Any]) -> list[Op]:
        asked, said = record.asked, record.decided
        assert asked is not None  # noqa: S101  the caller looked
        if said is None:
            self.waiting.append(question(asked, record.voided))
            return []
        if said.granted:
            at, copy_id = self.wall_s(), self.store.copy_id
            void = await voided(asked, self.owner, self.read_again, at=at, copy_id=copy_id)
            if void is not None:
                self.log.note(void)
                return self._ask(op, record.n, kwargs, void)
        took_s = max(0.0, said.at - asked.at)
        if said.granted:
            word = Approval(granted=True, by=said.by, at=said.at, reason=said.reason)
            raw = msgspec.Raw(encode(word))
            self.log.note(StepEnded(record.n, StepStatus.OK, took_s, raw))
            self.values[op.index] = word
            return self.settled(op, State.OK)
        refusal = rejected(op.name, said.by, said.reason)
        self.log.note(StepEnded(record.n, StepStatus.REFUSED, took_s, refusal=refusal))
        return self.lost(op, refused(op, refusal))


def _falls_back(op: Op, ended: Ended | StepEnded) -> bool:
    """Whether something stands in for a step that ended like this."""
    if op.stand_in is None:
        return False
    return came_to_nothing(ended.status, ended.error, ended.refusal)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"

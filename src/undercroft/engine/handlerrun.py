"""One life of a handler's turn: what its code asks for, run in order and side by side.

Keeps: a proposed call that may not run becomes a refusal and never raises; calls of a batch
that conflict run in the order of proposal, others together; results settle in that order;
while a person is waited for, only what conflicts or depends is held up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from undercroft.engine.approving import in_order, question, voided
from undercroft.engine.askrun import AskRun
from undercroft.engine.callrun import CANCEL_GRACE_S
from undercroft.engine.calls import (
    CODE,
    Slot,
    as_object,
    call_fingerprint,
    checked_call,
    chosen_arguments,
    class_of,
    needed,
    shown,
)
from undercroft.engine.codec import decode, encode
from undercroft.engine.exitrun import neither
from undercroft.engine.handler import Handler
from undercroft.engine.lane import Place
from undercroft.engine.linerun import check_open, looped
from undercroft.engine.log import TurnLog
from undercroft.engine.memo import Memo, diverged
from undercroft.engine.owning import changing
from undercroft.engine.standin import StandIn
from undercroft.engine.step import Ended, Finish, Setting, Step, end_of
from undercroft.engine.tool import Tool
from undercroft.engine.turn import Line, Turn
from undercroft.errors import (
    DeclarationError,
    ModelError,
    StoreError,
    TurnError,
)
from undercroft.layers.breakers.exits import came_to_nothing, in_words, is_missing
from undercroft.layers.breakers.guard import looping
from undercroft.layers.conflicts.guard import owned_by_branch
from undercroft.layers.conflicts.keys import KeyProblem, covers
from undercroft.layers.sequencing.guard import (
    batch_too_large,
    rejected,
    unknown_tool,
    unusable_key,
)
from undercroft.layers.sequencing.state import Done, refuse_order
from undercroft.model.effect import Mode
from undercroft.model.event import (
    ApprovalAsked,
    ApprovalDecided,
    ApprovalVoided,
    StepEnded,
    StepWaited,
)
from undercroft.model.ids import fingerprint
from undercroft.model.inject import Missing
from undercroft.model.outcome import TurnStatus, Waiting
from undercroft.model.step import (
    FALLBACK,
    MODEL,
    Call,
    Refusal,
    Result,
    StepStatus,
    failure,
    step_id,
)

BATCH_MAX = 1_000
# What a turn wrote it also knows; a peek proves nothing.
_KNOWN = (Mode.READ, Mode.WRITE, Mode.EXCLUSIVE)


class HandlerRun(AskRun):
    """One life of a handler's turn."""

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
        self.done = Done(handler.watched)
        self.seen: dict[tuple[str, bytes], bytes] = {}
        self.waiting: list[Waiting] = []
        # Calls that the turn has to do without, and why.
        self._absent: dict[tuple[str, bytes], str] = {}
        self._succeeded: set[str] = set()

    async def main(self) -> Finish:
        """Run the handler's code until it returns or has to wait.

        Raises:
            ReplayError: The code asks for something else than the journal holds.
            StoreError: The journal cannot be written.
        """
        self.open_window()
        code = asyncio.ensure_future(self._code())
        either: list[asyncio.Future[Any]] = [code, self.parked]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not code.done():
                code.cancel()
                await asyncio.wait({code}, timeout=CANCEL_GRACE_S)
            self.left_behind = not code.done()
            if code.done() and not code.cancelled():
                code.exception()  # raised below, or of no interest after a halt
        if self.broken is not None:
            raise self.broken
        if self.spun is not None and not self.doubts:
            return Finish(TurnStatus.FAILED, error=failure(self.spun, step=self.spun.service))
        if self.parked.done() or not code.done():
            status = TurnStatus.IN_DOUBT if self.doubts else TurnStatus.WAITING
            return Finish(status, waiting=in_order(self.waiting))
        return code.result()

    async def _code(self) -> Finish:
        try:
            value = await self.handler.fn(Turn(self, self.line), **self.inputs)
        except (TurnError, StoreError, DeclarationError) as error:
            # Not the turn's failure: what is wrong can be mended, and the turn resumed.
            self.broken = self.broken or error
            raise
        except ModelError as error:
            return Finish(TurnStatus.FAILED, error=failure(error, step=MODEL))
        except BaseException as error:
            if self.parked.done():
                raise
            return Finish(TurnStatus.FAILED, error=failure(self.own(error, CODE)))
        if self.memo.left:
            self.broken = self.broken or diverged(self.turn_id, self.memo, "")
        if self.broken is not None:
            raise self.broken
        ended = self.encoded(CODE, value)
        if ended.error is not None:
            return Finish(TurnStatus.FAILED, error=ended.error)
        missing = tuple(self.absent())
        status = TurnStatus.DEGRADED if missing else TurnStatus.DONE
        return Finish(status, value, ended.raw, missing=missing)

    def absent(self) -> dict[str, str]:
        """Return what the turn has to do without so far: by tool, why."""
        absent = {**self.lacking, **self.instead}
        for line in (self.line, *self.lines.values()):
            for service, names in line.told.items():
                for name in names:
                    if name not in self._succeeded:
                        absent.setdefault(name, f"{service} was given up, and so not on offer")
        return absent

    def missing(self, step: Step) -> Missing:
        """Return what `step` has to do without, which is what the whole turn has to."""
        del step
        return Missing(self.absent())

    # ------------------------------------------------------------------ batches

    async def run_batch(self, line: Line, batch: Sequence[Call]) -> list[Result]:
        """Run one batch of proposed calls; return their results in the order of proposal."""
        check_open(line)
        await self.check_spinning(line)
        slots = [Slot(checked_call(call)) for call in batch]
        refusals = [self._prepare(line, slot, place) for place, slot in enumerate(slots)]
        self._check_loops(line, slots, refusals)
        await self._number(slots)
        async with self.at_work():
            for slot, refusal in zip(slots, refusals, strict=True):
                recorded = slot.record.ended if slot.record is not None else None
                if recorded is not None and not _falls_back(slot, end_of(recorded)):
                    self._recall(line, slot, recorded)
                elif refusal is not None:
                    self._refuse(line, slot, refusal)
            todo = [slot for slot in slots if slot.result is None]
            for at, slot in enumerate(todo):
                who = step_id(slot.call.name, slot.n)
                slot.place = self.lane.ask(slot.held, slot, who, needed(slot, todo[:at]))
            if len(todo) == 1:
                await self._run_slot(line, todo[0])
            elif todo:
                await asyncio.gather(*(self._run_slot(line, slot) for slot in todo))
            self.log.put()
            if any(slot.result is None for slot in todo):
                self._ask_also(line, todo)
                await self.park()
            if self.log.crowded:
                await self.log.durable()
        line.last = tuple(slot.n for slot in slots)
        self._note_loops(line, slots)
        results = [slot.result for slot in slots if slot.result is not None]
        for slot, result in zip(slots, results, strict=True):
            # What was refused or skipped never began, and changed nothing.
            began = result.status not in (StepStatus.REFUSED, StepStatus.SKIPPED)
            changed = began and slot.tool is not None and slot.tool.body.changes
            line.window.add_result(result, slot.data, slot.n, changed=changed)
        return results

    @staticmethod
    def _check_loops(line: Line, slots: list[Slot], refusals: list[Refusal | None]) -> None:
        """Refuse calls that lead round in circles, recorded ones too, so that a replay knows.

        Raises:
            LoopError: The model was told before, and goes on.
        """
        if line.loops is None:
            return
        for place, slot in enumerate(slots):
            polls = slot.tool is not None and slot.tool.polls
            found = line.loops.ask(slot.call.name, slot.fp, polls=polls)
            if found is None:
                continue
            if found.end:
                line.spun = looped(found, slot.call.name)
                raise line.spun
            slot.looped = True
            # An equal call of the batch may run, and must not be taken for this one.
            slot.fp = fingerprint([slot.fp, "refused"])
            refusals[place] = refusals[place] or looping(slot.call.name, found)

    @staticmethod
    def _note_loops(line: Line, slots: list[Slot]) -> None:
        """Let the guard of loops know what the calls of a batch came to, in their order."""
        for slot in slots:
            result, tool = slot.result, slot.tool
            if line.loops is None or slot.looped or result is None:
                continue
            done = result.status is StepStatus.OK
            line.loops.note(
                slot.call.name,
                slot.fp,
                class_of(result),
                fingerprint(slot.data if done else class_of(result)),
                changed=done and tool is not None and tool.body.changes,
                polls=tool is not None and tool.polls,
            )

    async def _number(self, slots: list[Slot]) -> None:
        """Find the calls of a batch in the journal; number those that are new, in their order."""
        if self.memo.left:
            for slot in slots:
                slot.record = self.memo.take(slot.call.name, slot.fp)
                recorded = slot.record.ended if slot.record is not None else None
                if recorded is not None and _falls_back(slot, end_of(recorded)):
                    # Now, or it would look as if nobody asked for it.
                    slot.other = self.memo.take(slot.call.name + FALLBACK, slot.fp)
            new = [slot for slot in slots if slot.record is None]
            if self.memo.left and new:
                await self.other_branches(new[0].call.name)
        for slot in slots:
            slot.n = slot.record.n if slot.record is not None else self.log.next_n()

    def _prepare(self, line: Line, slot: Slot, place: int) -> Refusal | None:
        """Check what can be checked before anything ran; return why the call may not run."""
        call = slot.call
        handler = slot.handler = self.handler_of(line)
        tool = handler.tools.get(call.name)
        if tool is None and line.recall is not None and call.name == line.recall.name:
            tool = line.recall
        # As an object, as it would be with the tool: the next life may have one, or none.
        slot.fp = call_fingerprint(as_object(call.arguments), line.name, self.log.redactor)
        if tool is None:
            return unknown_tool(call.name, handler.tools)
        if place >= BATCH_MAX:
            return batch_too_large(call.name, place + 1, BATCH_MAX)
        accepted = tool.check.check(call.name, call.arguments)
        if isinstance(accepted, Refusal):
            return accepted
        slot.fp = call_fingerprint(accepted.proposed, line.name, self.log.redactor)
        slot.tool, slot.accepted = tool, accepted
        declared = handler.declared.get(tool.name, tool.declared)
        values = accepted.passed
        if not declared.fixed:
            defaults = {p.name: p.default for p in tool.signature.parameters if not p.required}
            values = {**defaults, **accepted.passed}
        try:
            slot.claims = declared.pairs(self.shown_in_keys(values, declared.parameters))
        except KeyProblem as problem:
            return unusable_key(call.name, str(problem))
        slot.held = slot.claims + declared.implicit if declared.implicit else slot.claims
        return None

    async def _run_slot(self, line: Line, slot: Slot) -> None:
        """Run one call when it is its turn; leave it without a result where it has to wait."""
        if not await self._admitted(slot):
            return
        record, tool, place = slot.record, slot.tool, slot.place
        assert tool is not None  # noqa: S101  only prepared slots come here
        assert place is not None  # noqa: S101  likewise
        begun = record is not None and (record.started is not None or record.ended is not None)
        refusal = None if begun else self._out_of_order(slot, tool)
        if refusal is None and not begun and tool.rules.approval:
            said = record.decided if record is not None else None
            if said is None or not await self._holds(line, slot, said):
                self._stand(line, slot, ask=said is None)
                return
            if not said.granted:
                refusal = rejected(tool.name, said.by, said.reason)
        if refusal is None and not begun and tool.body.changes:
            refusal = self._of_other_branch(line, tool.name, slot.claims)
        if refusal is not None:
            self._refuse(line, slot, refusal)
        else:
            ended = await self._tried(line, slot, tool)
            if ended.status is StepStatus.IN_DOUBT:
                self._stand(line, slot, ask=False)
                return
            self._took(slot, ended)
        self._go_on(self.lane.leave(place))

    async def _admitted(self, slot: Slot) -> bool:
        """Wait for this call's turn; False where somebody has to decide before it comes."""
        place = slot.place
        assert place is not None  # noqa: S101  asked for just before
        if place.admitted:
            return True
        self._go_on([])  # where nothing runs, there is nothing to wait for
        while place.present and not place.admitted:
            slot.go = asyncio.get_running_loop().create_future()
            await slot.go
        if place.admitted:
            waited_s = self.now_s() - place.asked_s
            self.log.note(StepWaited(slot.n, waited_s, place.claim or "needs", place.behind))
        return place.admitted

    def _go_on(self, admitted: Sequence[Place]) -> None:
        """Let those that were admitted run; where nothing runs, nobody need wait any longer."""
        for place in admitted:
            place.stands_for.proceed()
        if not self.lane.running and self.lane.waiting:
            for place in self.lane.withdraw():
                place.stands_for.proceed()

    def _stand(self, line: Line, slot: Slot, *, ask: bool) -> None:
        """Hold a call, and with it those that conflict with it, until somebody decides."""
        assert slot.place is not None  # noqa: S101  it was admitted
        if ask:
            self._ask(line, slot)
        self.holding = True
        self._go_on(self.lane.stand(slot.place))

    async def _holds(self, line: Line, slot: Slot, said: ApprovalDecided) -> bool:
        """Whether a person's word still counts; if not, it is noted and asked for again."""
        asked = slot.record.asked if slot.record is not None else None
        if not said.granted or asked is None:
            return True
        void = await voided(
            asked, self.owner, self.read_again, at=self.wall_s(), copy_id=self.store.copy_id
        )
        if void is None:
            return True
        self.log.note(void)
        # As a resumed turn recalls it: whoever goes on here may be given another word.
        assert slot.record is not None  # noqa: S101  it told what was asked
        slot.record.voided, slot.record.decided = void, None
        self._ask(line, slot, void)
        return False

    def _of_other_branch(
        self, line: Line, name: str, claims: Sequence[tuple[str, str]]
    ) -> Refusal | None:
        """Return why a write is refused because of another branch; else the line owns it."""
        for key in (key for mode, key in claims if Mode(mode).changes):
            found = self.branches.foreign(key, line.name)
            if found is not None:
                return owned_by_branch(name, found[0], found[1], line.name)
        for mode, key in claims:
            if mode in (Mode.WRITE, Mode.EXCLUSIVE):
                self.branches.own(key, line.name)
        return None

    def _stand_in_of_other(
        self, line: Line, step: Step, stand_in: StandIn, given: Mapping[str, Any]
    ) -> Refusal | None:
        """Say why what stands in for a step may not write what another branch owns."""
        if not stand_in.body.changes:
            return None
        try:
            other = self.standing_in(step, stand_in, given)
        except KeyProblem:
            return None  # said where it is called
        return self._of_other_branch(line, stand_in.name, other.claims)

    def _out_of_order(self, slot: Slot, tool: Tool[..., Any]) -> Refusal | None:
        assert slot.accepted and slot.handler  # noqa: PT018, S101  only prepared slots come here
        unread: dict[str, tuple[str, ...]] = {}
        readers = slot.handler.readers.get(tool.name)
        if readers:
            own = slot.keys(Mode.READ)
            for key in slot.keys(Mode.WRITE, Mode.EXCLUSIVE):
                if any(covers(read, key) for read in own):
                    continue  # it reads by itself what it writes
                names = tuple(dict.fromkeys(n for n, t in readers if t.may_yield(key)))
                if names:
                    unread[key] = names
        return refuse_order(tool.rules, slot.accepted.proposed, unread, self.done)

    def _step(self, line: Line, slot: Slot, tool: Tool[..., Any]) -> Step:
        accepted = slot.accepted
        assert accepted is not None  # noqa: S101  only prepared slots come here
        before, verify = None, tool.body.verify
        if verify is not None:
            chosen = chosen_arguments(accepted.proposed, verify.parameters)
            before = self.seen.get((verify.name, chosen))
        return Step(
            slot.n,
            tool.name,
            tool.body,
            "tool",
            accepted.passed,
            slot.fp,
            line.last,
            slot.claims,
            msgspec.Raw(encode(accepted.proposed)),
            before,
            slot.held,
            line.name,
            slot.keys(Mode.READ)
            if tool.name in self.handler_of(line).remembered and not tool.body.changes
            else (),
        )

    async def _tried(self, line: Line, slot: Slot, tool: Tool[..., Any]) -> Ended:
        """Call the tool, or what stands in for it where it came to nothing."""
        recorded = slot.record.ended if slot.record is not None else None
        if recorded is not None:
            ended = end_of(recorded)
        else:
            ended = await self._call_tool(line, slot, tool)
        if tool.stand_in is None or not _falls_back(slot, ended):
            return ended
        assert slot.accepted is not None  # noqa: S101  only prepared slots come here
        step = self._step(line, slot, tool)
        refusal = self._stand_in_of_other(line, step, tool.stand_in, slot.accepted.passed)
        if refusal is not None:
            return neither(ended, f"its fallback may not: {refusal.message}")
        given = slot.accepted.passed
        other, now = await self.fall_back(step, tool.stand_in, given, ended, slot.other)
        if now.status is StepStatus.OK:
            slot.stood_in = tool.stand_in.name or "a value"
            self._lacks(slot, in_words(ended.error, ended.refusal))
        elif now.status is StepStatus.IN_DOUBT:
            self.doubts[other.n] = other
        return now

    def _lacks(self, slot: Slot, why: str | None) -> None:
        """Take note that the turn has to do without a call, or has it after all."""
        at = (slot.call.name, slot.fp)
        if why is not None:
            self._absent[at] = why
        elif self._absent.pop(at, None) is None:
            return
        self.lacking = {name: said for (name, _), said in self._absent.items()}

    async def _call_tool(self, line: Line, slot: Slot, tool: Tool[..., Any]) -> Ended:
        step = self._step(line, slot, tool)
        if tool.body.changes:
            # Whatever was read before says nothing of the time after this.
            self.seen.clear()
        return await self.perform(step, slot.record)

    def _recall(self, line: Line, slot: Slot, ended: StepEnded) -> None:
        """Take the result of a call from the journal, and what the turn knew by it."""
        self._took(slot, end_of(ended))
        tool = slot.tool
        if tool is None or ended.status is not StepStatus.OK:
            return
        if tool.body.changes:
            for key in slot.keys(Mode.WRITE, Mode.EXCLUSIVE):
                self.branches.own(key, line.name)
            self.owner.changed(changing(slot.claims), self.resumed_at)
        else:
            self.remember(self._step(line, slot, tool), bytes(ended.value))

    def _took(self, slot: Slot, ended: Ended) -> None:
        """Make the result of a call that came to its end, in this life or an earlier one."""
        tool, value = slot.tool, None
        if ended.status is StepStatus.OK:
            slot.data = decode(ended.raw)
            # Read back also where it is at hand, so that a replay is given the very same.
            if tool is None:
                value = slot.data
            elif slot.stood_in and tool.stand_in is not None:
                value = tool.stand_in.decode(ended.raw)
            else:
                value = tool.body.decode(ended.raw)
                self._note_done(slot, ended.raw)
                self._lacks(slot, None)
                self._succeeded.add(tool.name)
        elif tool is not None and is_missing(
            ended.status, ended.error, ended.refusal, tool.service
        ):
            self._lacks(slot, in_words(ended.error, ended.refusal))
        slot.result = Result(
            ended.status,
            value,
            ended.error,
            ended.refusal,
            step_id(slot.call.name, slot.n),
            slot.call.name,
            slot.call.id,
            slot.stood_in,
            slot.data,
        )

    def _note_done(self, slot: Slot, raw: bytes) -> None:
        tool, accepted = slot.tool, slot.accepted
        if tool is None or accepted is None:
            return
        self.done.note(tool.name, accepted.proposed, slot.keys(*_KNOWN))
        if tool.body.changes:
            self.seen.clear()
        elif slot.handler and (parameters := slot.handler.compared.get(tool.name)) is not None:
            self.seen[tool.name, chosen_arguments(accepted.proposed, parameters)] = raw

    def _refuse(self, line: Line, slot: Slot, refusal: Refusal) -> None:
        self.log.note(
            StepEnded(
                slot.n,
                StepStatus.REFUSED,
                0.0,
                refusal=refusal,
                name=slot.call.name,
                fp=slot.fp,
                args=msgspec.Raw(shown(slot.call.arguments)),
                at=self.wall_s(),
                causes=line.last,
                branch=line.name,
            )
        )
        self._took(slot, Ended(StepStatus.REFUSED, refusal=refusal))

    # ------------------------------------------------------------------ waiting

    def _ask(self, line: Line, slot: Slot, void: ApprovalVoided | None = None) -> None:
        """Ask a person about a call: once in the life of the turn, and again after `void`."""
        tool, accepted, record = slot.tool, slot.accepted, slot.record
        assert tool is not None  # noqa: S101  only prepared slots come here
        assert accepted is not None  # noqa: S101  likewise
        asked = record.asked if record is not None and void is None else None
        if asked is None:
            at, expires_s = self.wall_s(), tool.rules.expires_s
            asked = ApprovalAsked(
                slot.n,
                slot.call.name,
                at,
                slot.fp,
                self.hidden(accepted.proposed),
                line.last,
                self.owner.versions(changing(slot.claims)),
                self.store.copy_id,
                None if expires_s is None else at + expires_s,
            )
            self.log.note(asked)
            if record is not None and void is not None:
                record.asked, record.decided, record.voided = asked, None, void
        elif record is not None:
            void = record.voided
        slot.asked = asked
        self.waiting.append(question(asked, void))

    def _ask_also(self, line: Line, slots: Sequence[Slot]) -> None:
        """Ask about the other calls of a held batch too, so that one visit can decide all."""
        asked = {waiting.step_id for waiting in self.waiting}
        for slot in slots:
            tool = slot.tool
            if slot.result is not None or tool is None or not tool.rules.approval:
                continue
            record = slot.record
            if record is not None and (record.decided is not None or record.started is not None):
                continue
            if step_id(slot.call.name, slot.n) in asked:
                continue
            if self._out_of_order(slot, tool) is None:
                self._ask(line, slot)
        self.log.put()


def _falls_back(slot: Slot, ended: Ended) -> bool:
    """Whether something stands in for a call that ended like this."""
    tool = slot.tool
    if tool is None or tool.stand_in is None:
        return False
    return came_to_nothing(ended.status, ended.error, ended.refusal)

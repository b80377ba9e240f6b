"""One life of a guest: a turn whose loop is somebody else's, a framework's or a user's own.

Keeps: calls of a batch are placed in the order of proposal before any of them runs, whatever
the order in which their loop asks for them; a call that is recorded under its id is not made
again; what its loop never asks for holds nobody up for long.
Leaves to whoever leads the loop: when to ask for what, and what a model or a tool is given.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from undercroft.engine.approving import question
from undercroft.engine.calls import Slot, checked_call, needed, shown
from undercroft.engine.guestlead import Client, GuestSlot, Lead, carried, carry_out
from undercroft.engine.guestlife import GuestLife
from undercroft.engine.guesttalk import Known
from undercroft.engine.inside import INSIDE, Inside
from undercroft.engine.memo import Record
from undercroft.engine.step import Ended, Step, end_of
from undercroft.engine.tool import Tool
from undercroft.engine.turn import Line
from undercroft.errors import DecisionError, ModelError
from undercroft.model.event import ApprovalDecided, CallsProposed, StepEnded
from undercroft.model.foreign import Ask, Run
from undercroft.model.message import Answer, Message, ToolSpec
from undercroft.model.outcome import Waiting
from undercroft.model.step import Call, Refusal, Result, StepStatus, step_id
from undercroft.ports import ModelClient

# How long a call that may run is waited for before those behind it may go first: its loop may
# never ask for it, since a guard of its own stopped it.
ARRIVE_S = 0.5


class GuestRun(GuestLife):
    """One life of a guest."""

    # ------------------------------------------------------------------ its model

    async def ask(  # noqa: PLR0913  what a request is made of
        self,
        lead: Lead,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        ask: Ask,
        *,
        name: str,
        service: str,
    ) -> Answer:
        """Have the loop's model asked; raises what asking it raised.

        Raises:
            ModelError: It may not be asked.
            LoopError: The loop was told before that it goes round in circles.
        """
        self.close_batch(lead)
        line = lead.line
        line.anew = lead.talk.enter(line.window, messages, lead.known) or line.anew
        lead.offers = tuple(tools)
        client = lead.client = Client(name, service, lead, messages, ask)
        anew = line.anew
        try:
            answer = await self.ask_model(line)
        except ModelError as error:
            if client.raised is not None:
                raise client.raised from error
            raise
        finally:
            line.anew = anew and line.asking not in self.noted
        lead.talk.answered(line.window, len(messages))
        lead.answered = frozenset(call.id for call in answer.calls if call.id)
        return answer

    def client(self, line: Line) -> ModelClient:
        """Return what a line asks: in the way of its loop."""
        client = self.leads[line.name].client
        assert client is not None  # noqa: S101  set just before
        return client

    def other_models(self, line: Line) -> Sequence[ModelClient]:
        """Return nobody: which model a loop asks is its own affair."""
        del line
        return ()

    def _offered(self, line: Line, shut: Mapping[str, Sequence[str]]) -> tuple[ToolSpec, ...]:
        """Return of the tools that the loop would offer those that may be."""
        away = {name for names in shut.values() for name in names}
        specs = self.leads[line.name].offers
        if away:
            specs = tuple(spec for spec in specs if spec.name not in away)
        if self.room is not None:
            line.window.offer(specs)
        return specs

    # ------------------------------------------------------------------ its calls

    def saw(self, lead: Lead, batch: Sequence[Call]) -> None:
        """Take note of calls that were proposed, before any of them runs.

        Raises:
            LoopError: The model was told before that it goes round in circles, and goes on.
        """
        if lead.batch and lead.proposed == list(batch):
            return  # each of its calls may say so
        self.close_batch(lead)
        line = lead.line
        if line.spun is not None:
            raise line.spun
        lead.proposed = list(batch)
        slots = [GuestSlot(checked_call(call)) for call in batch]
        refusals = [self._prepare(line, slot, place) for place, slot in enumerate(slots)]
        self._check_loops(line, list(slots), refusals)
        lead.batch = slots
        self._enrol(lead, slots, refusals)

    def _enrol(
        self, lead: Lead, slots: Sequence[GuestSlot], refusals: Sequence[Refusal | None]
    ) -> None:
        """Write down that calls were proposed, and give them what is recorded, or a place."""
        line = lead.line
        for slot in slots:
            if slot.call.id is None or slot.call.id not in lead.answered:
                slot.record = self._recorded(slot)
            slot.n = slot.record.n if slot.record is not None else self.log.next_n()
            if slot.record is not None and slot.record.asked is not None:
                _ask_first(slot)
        self.log.note(
            CallsProposed(
                tuple([slot.n for slot in slots]),
                tuple([slot.call.name for slot in slots]),
                tuple([slot.call.id or "" for slot in slots]),
                self.wall_s(),
            )
        )
        for slot, refusal in zip(slots, refusals, strict=True):
            recorded = slot.record.ended if slot.record is not None else None
            if recorded is not None:
                self._recall(line, slot, recorded)
            elif not self._take_elsewhere(lead, slot) and refusal is not None:
                self._refuse(line, slot, refusal)
            self._know(lead, slot)
        self._place(slots)
        self.log.put_soon()

    def _recorded(self, slot: GuestSlot) -> Record | None:
        """Return what this turn recorded of a call with the same id and arguments."""
        for n in self.memo.called.get(slot.call.id, ()) if slot.call.id else ():
            record = self._records.get(n)
            if record is None or (record.name, record.fp) != (slot.call.name, slot.fp):
                continue
            # What failed or was refused may be tried again by whoever goes on; a no stays a no.
            denied = record.decided is not None and not record.decided.granted
            if record.ended is None or record.ended.status is StepStatus.OK or denied:
                return self._records.pop(n)
        return None

    def _take_elsewhere(self, lead: Lead, slot: GuestSlot) -> bool:
        """Give a call the result that an earlier turn of the session recorded; False: none did."""
        if self.elsewhere is None or slot.record is not None or not slot.call.id:
            return False
        found = None if slot.call.id in lead.answered else self.elsewhere(slot)
        if found is None:
            return False
        where, record = found
        ended = record.ended
        assert ended is not None  # noqa: S101  only what ended is given again
        self.log.note(
            StepEnded(
                slot.n,
                ended.status,
                0.0,
                ended.value,
                ended.error,
                ended.refusal,
                slot.call.name,
                slot.fp,
                msgspec.Raw(shown(slot.call.arguments)),
                self.wall_s(),
                causes=lead.line.last,
                branch=lead.line.name,
                recorded_in=where,
            )
        )
        self._took(slot, end_of(ended))
        return True

    def _place(self, slots: Sequence[GuestSlot]) -> None:
        """Give every call that is to run its place, in their order."""
        todo = [slot for slot in slots if slot.result is None and slot.tool is not None]
        for at, slot in enumerate(todo):
            if slot.place is None or not slot.place.present:
                who = step_id(slot.call.name, slot.n)
                slot.place = self.lane.ask(slot.held, slot, who, needed(slot, todo[:at]))

    async def carry(self, lead: Lead, call: Call, run: Run | None) -> Result:
        """Return what comes of a call of the batch; one that is in none is a batch of its own.

        Where a person has to decide first, its status is `waiting`.

        Raises:
            LoopError: The model was told before that it goes round in circles, and goes on.
        """
        slot = self._slot(lead, call)
        if slot is None:
            self.saw(lead, [call])
            slot = lead.batch[0]
        elif slot.call.arguments != call.arguments or slot.call.name != call.name:
            slot = self._amended(lead, slot, call)
        slot.arrived = True
        if slot.result is None:
            # From now on, and not only once the task has begun: another batch may come before.
            slot.run, slot.busy = run, True
            # In a task of its own: a loop that is cancelled must not take the record with it.
            task = self.loop.create_task(self._carry_out(lead, slot))
            self._at_it.add(task)
            done = self.loop.create_future()
            task.add_done_callback(partial(self._carried_out, lead, slot, done))
            try:
                await done
            except asyncio.CancelledError:
                task.cancel()
                raise
            task.result()  # raises what kept it from being carried out
        if slot.result is not None and not slot.paused:
            return slot.result
        return Result(
            StepStatus.WAITING,
            step_id=step_id(slot.call.name, slot.n),
            name=slot.call.name,
            call_id=slot.call.id,
        )

    def _amended(self, lead: Lead, slot: GuestSlot, call: Call) -> GuestSlot:
        """Take a call as its loop asks for it, where that is not as it was proposed."""
        made = GuestSlot(checked_call(call))
        if slot.arrived or slot.call == made.call:
            return slot
        if slot.place is not None and slot.place.present:
            self._go_on(self.lane.leave(slot.place))
        if slot.result is None:
            self._skip(lead, slot, "it was changed before it ran")
        lead.batch[lead.batch.index(slot)] = made
        self._enrol(lead, [made], [self._prepare(lead.line, made, 0)])
        return made

    @staticmethod
    def _slot(lead: Lead, call: Call) -> GuestSlot | None:
        """Return the call of the batch that is meant, one that was not asked for if there is."""
        same = [s for s in lead.batch if s.call.id == call.id and s.call.name == call.name]
        if not same and call.id:
            # Somebody put another tool in its place.
            same = [s for s in lead.batch if s.call.id == call.id and not s.arrived]
        if len(same) > 1:
            same = [s for s in same if s.call.arguments == call.arguments] or same
        fresh = [s for s in same if not s.arrived]
        # Asked for again once somebody decided, it is the one that waits.
        waiting = [s for s in same if s.result is None]
        return next(iter(fresh or waiting or same), None)

    async def _carry_out(self, lead: Lead, slot: GuestSlot) -> None:
        if slot.place is None or not slot.place.present:
            slot.place = None
            self._place([slot])
        INSIDE.set(Inside(self, lead, slot))
        try:
            await self._run_slot(lead.line, slot)
        except asyncio.CancelledError:
            if not self.halted:
                self._call_off(lead, slot)
            raise
        finally:
            slot.busy = False
            self.log.put_soon()
        self._know(lead, slot)
        wrote = slot.tool is not None and slot.tool.body.changes
        if wrote or self.log.crowded:
            # Its loop may tell whom it likes, or save it: what it then has the journal has, too.
            await self.log.durable()

    def _carried_out(
        self, lead: Lead, slot: GuestSlot, done: asyncio.Future[None], task: asyncio.Task[None]
    ) -> None:
        self._at_it.discard(task)
        if not done.done():
            done.set_result(None)
        elif not task.cancelled():
            task.exception()  # nobody waits for it any more; its record says it
        if slot.busy and not self.halted:
            # It was cancelled before it began.
            slot.busy = False
            self._call_off(lead, slot)

    def _call_off(self, lead: Lead, slot: GuestSlot) -> None:
        """Take note that the loop wants a call no more, before it began."""
        if slot.place is not None:
            self._go_on(self.lane.leave(slot.place))
        if slot.result is None and slot.n not in self.running:
            self._skip(lead, slot, "its loop called it off")

    def _know(self, lead: Lead, slot: GuestSlot) -> None:
        """Take note of what came of a call."""
        if slot.result is None:
            return
        if slot.result.status is not StepStatus.IN_DOUBT:
            self.doubts.pop(slot.n, None)
        if slot.call.id:
            began = slot.result.status not in (StepStatus.REFUSED, StepStatus.SKIPPED)
            changed = began and slot.tool is not None and slot.tool.body.changes
            lead.known[slot.call.id] = Known(slot.n, slot.result, slot.data, changed)

    def _step(self, line: Line, slot: Slot, tool: Tool[..., Any]) -> Step:
        step = super()._step(line, slot, tool)
        if not isinstance(slot, GuestSlot) or slot.run is None:
            return step
        if step.watched:
            # It is read again from within a later call: never what that one carries out.
            again = replace(step.body, fn=partial(carry_out, slot), is_async=True, injected={})
            return step._replace(body=again)
        body = self._bodies.get(tool)
        if body is None:
            body = replace(step.body, fn=carried, is_async=True, injected={})
            self._bodies[tool] = body
        return step._replace(body=body)

    async def _tried(self, line: Line, slot: Slot, tool: Tool[..., Any]) -> Ended:
        ended = await super()._tried(line, slot, tool)
        if isinstance(slot, GuestSlot) and slot.unasked:
            if ended.status is StepStatus.FAILED:
                # It did nothing, and stands like one in doubt until somebody decides.
                return Ended(StepStatus.IN_DOUBT)
            slot.unasked = False
        return ended

    def _stand(self, line: Line, slot: Slot, *, ask: bool) -> None:
        if isinstance(slot, GuestSlot) and slot.unasked:
            slot.unasked, ask = False, True
            # A step of its own: that of the call which came to nothing has ended.
            slot.n, slot.record = self.log.next_n(), None
            ids, names = (slot.call.id or "",), (slot.call.name,)
            self.log.note(CallsProposed((slot.n,), names, ids, self.wall_s()))
            _ask_first(slot)
        if slot.n not in self.doubts:
            super()._stand(line, slot, ask=ask)
            return
        # Nobody waits in line behind what is in doubt: its loop is told, and goes on.
        assert slot.place is not None  # noqa: S101  it was admitted
        self._took(slot, Ended(StepStatus.IN_DOUBT))
        self._go_on(self.lane.leave(slot.place))

    # ------------------------------------------------------------------ waiting for each other

    async def _admitted(self, slot: Slot) -> bool:
        place = slot.place
        assert place is not None  # noqa: S101  asked for just before
        while place.present and not place.admitted:
            timer = asyncio.get_running_loop().call_later(ARRIVE_S, self._pass_over, slot)
            try:
                if not await super()._admitted(slot):
                    return False
            finally:
                timer.cancel()
        return place.admitted

    def _pass_over(self, slot: Slot) -> None:
        """Let a call go before those that its loop has not asked for."""
        for lead in self.leads.values():
            if slot not in lead.batch:
                continue
            for other in lead.batch:
                if not other.arrived and other.place is not None and other.place.present:
                    self._go_on(self.lane.leave(other.place))
            self._go_on([])

    # ------------------------------------------------------------------ people

    def question(self, lead: Lead, call: Call) -> Waiting | None:
        """Return what a person is asked about a call; None where it waits for another one."""
        slot = self._slot(lead, call)
        if slot is None or slot.asked is None or slot.result is not None:
            return None
        voided = slot.record.voided if slot.record is not None else None
        return question(slot.asked, voided)

    def asked_before(self, lead: Lead, call: Call) -> bool:
        """Whether an earlier life asked somebody about a call, and goes on with that."""
        slot = self._slot(lead, call)
        return slot is not None and slot.record is not None and slot.record.asked is not None

    def unanswered(self) -> list[tuple[str, str]]:
        """Return the tools and ids of calls that waited for a word when an earlier life ended."""
        ids = {n: call_id for call_id, called in self.memo.called.items() for n in called}
        waiting = [r for n, r in sorted(self._records.items()) if r.waiting and n in ids]
        return [(record.name, ids[record.n]) for record in waiting]

    def decide(self, lead: Lead, call: Call, *, granted: bool, by: str, reason: str) -> None:
        """Take a person's word on a call that waits, or will; the first one counts.

        Raises:
            DecisionError: It does not wait for any.
        """
        slot = self._slot(lead, call)
        stands = slot is not None and slot.asked is not None
        if slot is not None and not stands and _will_ask(slot):
            # Its loop brings the word along, such as one that goes on after a pause.
            self._ask(lead.line, slot)
        if slot is None or slot.asked is None:
            raise DecisionError(
                self.turn_id, f"{call.name} waits for nobody's word", "Ask for the call first."
            )
        record = slot.record or Record(slot.n, slot.call.name, slot.fp)
        if slot.result is not None or record.decided is not None:
            return
        said = ApprovalDecided(slot.n, granted, by, self.wall_s(), reason)
        record.asked, record.decided = slot.asked, said
        slot.record = record
        self.log.note(said)
        self.log.put()
        who = step_id(slot.call.name, slot.n)
        self.waiting = [one for one in self.waiting if one.step_id != who]
        place = slot.place
        if stands and place is not None and place.present and not place.admitted:
            self.lane.rise(place)
        self._place(lead.batch)

    # ------------------------------------------------------------------ the end of a batch

    def close_batches(self) -> None:
        """Take note of what came of the calls that every line was proposed last."""
        for lead in self.leads.values():
            self.close_batch(lead)

    def close_batch(self, lead: Lead) -> None:
        """Take note of what came of the calls that were proposed last."""
        slots, lead.batch = lead.batch, []
        if not slots:
            return
        for slot in slots:
            if slot.busy:
                continue  # it keeps its place until it is done
            if slot.place is not None and slot.place.present:
                self._go_on(self.lane.leave(slot.place))
            if slot.result is None:
                self._skip(lead, slot, "its loop did not ask for it")
        lead.line.last = tuple([slot.n for slot in slots])
        self._note_loops(lead.line, list(slots))

    def _skip(self, lead: Lead, slot: GuestSlot, why: str) -> None:
        refusal = Refusal(
            "sequencing.not_asked",
            f"{slot.call.name} was proposed, and {why}.",
            "Propose it again if it is still wanted.",
        )
        self.log.note(
            StepEnded(
                slot.n,
                StepStatus.SKIPPED,
                0.0,
                refusal=refusal,
                name=slot.call.name,
                fp=slot.fp,
                args=msgspec.Raw(shown(slot.call.arguments)),
                at=self.wall_s(),
                causes=lead.line.last,
                branch=lead.line.name,
            )
        )
        self._took(slot, Ended(StepStatus.SKIPPED, refusal=refusal))
        who = step_id(slot.call.name, slot.n)
        self.waiting = [one for one in self.waiting if one.step_id != who]


def _ask_first(slot: GuestSlot) -> None:
    """Have a person agree to a call, whatever is declared of its tool."""
    tool = slot.tool
    if tool is not None and not tool.rules.approval:
        slot.tool = asking = copy.copy(tool)
        asking.rules = replace(tool.rules, approval=True)


def _will_ask(slot: GuestSlot) -> bool:
    """Whether a person has to agree to a call that nobody asked for yet in this life."""
    record, tool = slot.record, slot.tool
    begun = record is not None and (record.started is not None or record.ended is not None)
    return not begun and slot.result is None and tool is not None and tool.rules.approval

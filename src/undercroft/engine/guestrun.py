"""One life of a guest: a turn whose loop is somebody else's, a framework's or a user's own.

Keeps: calls of a batch are placed in the order of proposal before any of them runs, whatever
the order in which their loop asks for them; a call that is recorded under its id is not made
again; what its loop never asks for holds nobody up for long.
Leaves to whoever leads the loop: when to ask for what, and what a model or a tool is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from undercroft.engine.approving import in_order, question
from undercroft.engine.body import Body
from undercroft.engine.calls import CODE, Slot, checked_call, needed, shown
from undercroft.engine.codec import decode, encode
from undercroft.engine.guestlead import Client, GuestSlot, Lead, carried
from undercroft.engine.guesttalk import Known
from undercroft.engine.handler import Handler
from undercroft.engine.handlerrun import HandlerRun
from undercroft.engine.inside import INSIDE, Inside
from undercroft.engine.log import TurnLog
from undercroft.engine.memo import Memo, Record
from undercroft.engine.step import Ended, Finish, Setting, Step, end_of
from undercroft.engine.tool import Tool
from undercroft.engine.turn import Line
from undercroft.errors import DecisionError, ModelError
from undercroft.model.effect import Mode
from undercroft.model.event import ApprovalDecided, CallsProposed, ContextOpened, StepEnded
from undercroft.model.foreign import Ask, Run
from undercroft.model.message import Answer, Message, ToolSpec
from undercroft.model.outcome import TurnStatus, Waiting
from undercroft.model.step import MODEL, Call, Refusal, Result, StepStatus, failure, step_id
from undercroft.ports import ModelClient

# How long a call that may run is waited for before those behind it may go first: its loop may
# never ask for it, since a guard of its own stopped it.
ARRIVE_S = 0.5

# Returns where an earlier turn of the session recorded a call, and its record.
Elsewhere = Callable[[Slot], tuple[str, Record] | None]


class GuestRun(HandlerRun):
    """One life of a guest."""

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
        self._ending: asyncio.Future[Finish] = loop.create_future()
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
            finish = await self._ending
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._ending.cancelled() or not self._ending.done() or task is None:
                raise
            # It was over before its event loop was closed.
            task.uncancel()
            finish = self._ending.result()
        finally:
            for task in self._at_it:
                task.cancel()
        if self.broken is not None:
            raise self.broken
        return finish

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
        self._close_batches()
        ended = self.encoded(CODE, value)
        missing = tuple(self.absent())
        if self.doubts:
            self._finish(Finish(TurnStatus.IN_DOUBT, missing=missing))
        elif ended.error is not None:
            self._finish(Finish(TurnStatus.FAILED, error=ended.error))
        else:
            status = TurnStatus.DEGRADED if missing else TurnStatus.DONE
            self._finish(Finish(status, value, ended.raw, missing=missing))

    def fail(self, error: BaseException) -> None:
        """Take note that the loop ended with an error."""
        self._close_batches()
        if self.doubts:
            self._finish(Finish(TurnStatus.IN_DOUBT))
            return
        lost = failure(error, step=CODE.name, clean=self.log.redactor.text)
        self._finish(Finish(TurnStatus.FAILED, error=lost))

    def pause(self) -> None:
        """Take note that the loop waits for somebody."""
        status = TurnStatus.IN_DOUBT if self.doubts else TurnStatus.WAITING
        self._finish(Finish(status, waiting=in_order(self.waiting)))

    def _finish(self, finish: Finish) -> None:
        if not self._ending.done():
            self._ending.set_result(finish)

    # ------------------------------------------------------------------ its model

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
        name = step_id(slot.call.name.replace("/", "_"), slot.n)
        line = self.branch(lead.line, name if slot.loops == 1 else f"{name}-{slot.loops}")
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
            self._close_batch(lead)
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
        self._close_batch(lead)
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
        if lead.batch and [s.call for s in lead.batch] == list(batch):
            return  # each of its calls may say so
        self._close_batch(lead)
        line = lead.line
        if line.spun is not None:
            raise line.spun
        slots = [GuestSlot(checked_call(call)) for call in batch]
        refusals = [self._prepare(line, slot, place) for place, slot in enumerate(slots)]
        self._check_loops(line, list(slots), refusals)
        for slot in slots:
            if slot.call.id is None or slot.call.id not in lead.answered:
                slot.record = self._recorded(slot)
            slot.n = slot.record.n if slot.record is not None else self.log.next_n()
        self.log.note(
            CallsProposed(
                tuple([slot.n for slot in slots]),
                tuple([slot.call.name for slot in slots]),
                tuple([slot.call.id or "" for slot in slots]),
                self.wall_s(),
            )
        )
        lead.batch = slots
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
            # What failed or was refused may be tried again by whoever goes on.
            if record.ended is None or record.ended.status is StepStatus.OK:
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
        slot.arrived = True
        if slot.result is None:
            slot.run = run
            # In a task of its own: a loop that is cancelled must not take the record with it.
            task = asyncio.get_running_loop().create_task(self._carry_out(lead, slot))
            self._at_it.add(task)
            task.add_done_callback(self._at_it.discard)
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                task.cancel()
                raise
        if slot.result is not None and not slot.paused:
            return slot.result
        return Result(
            StepStatus.WAITING,
            step_id=step_id(slot.call.name, slot.n),
            name=slot.call.name,
            call_id=slot.call.id,
        )

    @staticmethod
    def _slot(lead: Lead, call: Call) -> GuestSlot | None:
        """Return the call of the batch that is meant, one that was not asked for if there is."""
        same = [s for s in lead.batch if s.call.id == call.id and s.call.name == call.name]
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
            self.log.put_soon()
        self._know(lead, slot)
        if self.log.crowded:
            await self.log.durable()

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
        body = self._bodies.get(tool)
        if body is None:
            body = replace(step.body, fn=carried, is_async=True, injected={})
            self._bodies[tool] = body
        return step._replace(body=body)

    def _stand(self, line: Line, slot: Slot, *, ask: bool) -> None:
        super()._stand(line, slot, ask=ask)
        if slot.n in self.doubts:
            # Nobody waits in line behind what is in doubt: its loop is told, and goes on.
            assert slot.place is not None  # noqa: S101  it stood there
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

    def decide(self, lead: Lead, call: Call, *, granted: bool, by: str, reason: str) -> None:
        """Take a person's word on a call that waits; the first one counts.

        Raises:
            DecisionError: It does not wait for any.
        """
        slot = self._slot(lead, call)
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
        if place is not None and place.present and not place.admitted:
            self.lane.rise(place)
        self._place(lead.batch)

    # ------------------------------------------------------------------ the end of a batch

    def _close_batches(self) -> None:
        for lead in self.leads.values():
            self._close_batch(lead)

    def _close_batch(self, lead: Lead) -> None:
        """Take note of what came of the calls that were proposed last."""
        slots, lead.batch = lead.batch, []
        if not slots:
            return
        for slot in slots:
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

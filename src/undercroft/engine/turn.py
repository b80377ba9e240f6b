"""One life of a handler's turn, and what the handler's code is given of it.

Keeps: a proposed call that may not run becomes a refusal and never raises; reads of a batch
run together, whatever changes the world runs alone and in the order of proposal; results
settle in that order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any

import msgspec

from undercroft.engine.calls import (
    CODE,
    Slot,
    by_reference,
    call_fingerprint,
    checked_call,
    chosen_arguments,
    end_of,
    model_body,
    read_answer,
    shown,
)
from undercroft.engine.codec import decode, encode
from undercroft.engine.handler import Handler
from undercroft.engine.log import TurnLog
from undercroft.engine.memo import Memo
from undercroft.engine.tool import Tool
from undercroft.engine.turnrun import (
    CANCEL_GRACE_S,
    Ended,
    Finish,
    Setting,
    Step,
    TurnRun,
    waiting_for,
)
from undercroft.errors import (
    DeclarationError,
    ModelError,
    ReplayError,
    StoreError,
    TurnError,
    UndercroftError,
)
from undercroft.layers.conflicts.keys import KeyProblem, covers
from undercroft.layers.conflicts.state import runs_alone
from undercroft.layers.context.state import Window, named_calls
from undercroft.layers.sequencing.guard import (
    batch_too_large,
    rejected,
    unknown_tool,
    unusable_key,
)
from undercroft.layers.sequencing.state import Done, refuse_order
from undercroft.model.effect import Mode
from undercroft.model.event import ApprovalAsked, StepEnded
from undercroft.model.ids import FINGERPRINT_BYTES, fingerprint
from undercroft.model.message import Answer, ModelRequest
from undercroft.model.outcome import TurnStatus, Waiting
from undercroft.model.step import Call, Refusal, Result, StepStatus, failure, step_id

BATCH_MAX = 1_000
# How long a recorded step may go unasked while the code asks for another: other branches of
# the handler may still be about to ask for it.
REPLAY_GRACE_S = 1.0
PARK_GRACE_S = 0.02
# What a turn wrote it also knows; a peek proves nothing.
_KNOWN = (Mode.READ, Mode.WRITE, Mode.EXCLUSIVE)


class Turn:
    """What a handler's code sees of its turn.

    Attributes:
        id: The turn's id.
        session: As given to `run`.
        context: The conversation from which prompts are assembled.
    """

    __slots__ = ("_run", "context", "id", "session")

    def __init__(self, run: HandlerRun) -> None:
        self._run = run
        self.id = run.turn_id
        self.session = run.session
        self.context: Window = run.window

    async def model(self) -> Answer:
        """Assemble the prompt, send it, and return the answer.

        Raises:
            ModelError: The model did not answer.
            DeclarationError: There is no model.
        """
        return await self._run.ask_model()

    async def calls(self, batch: Sequence[Call]) -> list[Result]:
        """Run one batch of proposed calls; return their results in the order of proposal.

        Nothing that a tool does or a call lacks is raised: a result says what came of it.
        """
        return await self._run.run_batch(batch)


class HandlerRun(TurnRun):
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
        super().__init__(setting, log, memo, turn_id, session)
        self.handler = handler
        self.inputs = inputs
        self.window = Window()
        self.done = Done(handler.watched)
        self.seen: dict[tuple[str, bytes], bytes] = {}
        self.waiting: list[Waiting] = []
        self.parked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.holding = False
        self.busy = 0
        self.last: tuple[int, ...] = ()
        self.broken: UndercroftError | None = None
        self.prompt = blake2b(digest_size=FINGERPRINT_BYTES)

    async def main(self) -> Finish:
        """Run the handler's code until it returns or has to wait.

        Raises:
            ReplayError: The code asks for something else than the journal holds.
            StoreError: The journal cannot be written.
        """
        code = asyncio.ensure_future(self._code())
        either: list[asyncio.Future[Any]] = [code, self.parked]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not code.done():
                code.cancel()
                await asyncio.wait({code}, timeout=CANCEL_GRACE_S)
            if code.done() and not code.cancelled():
                code.exception()  # raised below, or of no interest after a halt
        if self.broken is not None:
            raise self.broken
        if self.parked.done() or not code.done():
            status = TurnStatus.IN_DOUBT if self.doubts else TurnStatus.WAITING
            return Finish(status, waiting=tuple(self.waiting))
        return code.result()

    async def _code(self) -> Finish:
        try:
            value = await self.handler.fn(Turn(self), **self.inputs)
        except (TurnError, StoreError, DeclarationError) as error:
            # Not the turn's failure: what is wrong can be mended, and the turn resumed.
            self.broken = self.broken or error
            raise
        except ModelError as error:
            return Finish(TurnStatus.FAILED, error=failure(error, step="model"))
        except BaseException as error:
            if self.parked.done():
                raise
            return Finish(TurnStatus.FAILED, error=failure(self._own(error, CODE)))
        if self.memo.left:
            self.broken = self.broken or self._diverged("")
        if self.broken is not None:
            raise self.broken
        ended = self.encoded(CODE, value)
        if ended.error is not None:
            return Finish(TurnStatus.FAILED, error=ended.error)
        return Finish(TurnStatus.DONE, value, ended.raw)

    # ------------------------------------------------------------------ the model

    async def ask_model(self) -> Answer:
        """Assemble the prompt, send it, and return the answer."""
        model = self.setting.model
        if model is None:
            raise DeclarationError(
                f"handler {self.handler.name!r}",
                "it asks a model, and there is none",
                "Give one: uc.Runtime(…, model=…) or @uc.handler(model=…).",
            )
        fresh = self.window.delta()
        for entry in fresh:
            self.prompt.update(encode(entry.message))
        fp = self.prompt.digest()
        record = self.memo.take("model", fp) if self.memo.left else None
        if record is None and self.memo.left:
            await self._other_branches("model")
        async with self._at_work():
            if record is not None and record.ended is not None:
                n, ended = record.n, end_of(record.ended)
            else:
                n = record.n if record else self.log.next_n()
                args = encode({"prompt": [by_reference(e) for e in fresh]})
                request = ModelRequest(self.window.messages, self.handler.specs)
                step = Step(
                    n,
                    "model",
                    model_body(model),
                    "model",
                    {"request": request},
                    fp,
                    self.last,
                    (),
                    msgspec.Raw(args),
                )
                ended = await self.perform(step, record)
                self.log.put()
        if ended.status is not StepStatus.OK:
            raise ModelError("model", str(ended.error), "Handle it, or let the turn fail.")
        self.last = (n,)
        answer = named_calls(read_answer(ended.raw), n)
        self.window.add_answer(answer, n)
        return answer

    # ------------------------------------------------------------------ batches

    async def run_batch(self, batch: Sequence[Call]) -> list[Result]:
        """Run one batch of proposed calls; return their results in the order of proposal."""
        slots = [Slot(checked_call(call)) for call in batch]
        refusals = [self._prepare(slot, place) for place, slot in enumerate(slots)]
        await self._number(slots)
        async with self._at_work():
            for slot, refusal in zip(slots, refusals, strict=True):
                if slot.record is not None and slot.record.ended is not None:
                    self._took(slot, end_of(slot.record.ended), slot.record.ended.refusal)
                elif refusal is not None:
                    self._refuse(slot, refusal)
            todo = [slot for slot in slots if slot.result is None]
            if len(todo) == 1:
                await self._run_slot(todo[0])
            elif todo:
                await asyncio.gather(*(self._run_slot(slot) for slot in todo))
            self.log.put()
            if any(slot.result is None for slot in todo):
                self._ask_also(todo)
                await self._park()
            if self.log.crowded:
                await self.log.durable()
        self.last = tuple(slot.n for slot in slots)
        results = [slot.result for slot in slots if slot.result is not None]
        for slot, result in zip(slots, results, strict=True):
            self.window.add_result(result, slot.data, slot.n)
        return results

    async def _number(self, slots: list[Slot]) -> None:
        """Find the calls of a batch in the journal; number those that are new, in their order."""
        if self.memo.left:
            for slot in slots:
                slot.record = self.memo.take(slot.call.name, slot.fp)
            new = [slot for slot in slots if slot.record is None]
            if self.memo.left and new:
                await self._other_branches(new[0].call.name)
        for slot in slots:
            slot.n = slot.record.n if slot.record is not None else self.log.next_n()

    def _prepare(self, slot: Slot, place: int) -> Refusal | None:
        """Check what can be checked before anything ran; return why the call may not run."""
        call = slot.call
        slot.fp = call_fingerprint(call.arguments)
        tool = self.handler.tools.get(call.name)
        if tool is None:
            return unknown_tool(call.name, self.handler.tools)
        if place >= BATCH_MAX:
            return batch_too_large(call.name, place + 1, BATCH_MAX)
        accepted = tool.check.check(call.name, call.arguments)
        if isinstance(accepted, Refusal):
            return accepted
        slot.fp = call_fingerprint(accepted.proposed)
        slot.tool, slot.accepted, slot.effect = tool, accepted, tool.effect
        # An approval is a place where the batch waits, and so is whatever needs a call that
        # may stand before it in the same batch.
        slot.alone = runs_alone(tool.effect) or tool.rules.approval or bool(tool.rules.needs)
        if not tool.declared.fixed:
            values = {p.name: p.default for p in tool.signature.parameters if not p.required}
            try:
                slot.effect = tool.declared.render(values | accepted.passed)
            except KeyProblem as problem:
                return unusable_key(call.name, str(problem))
        return None

    async def _run_slot(self, slot: Slot) -> None:
        """Run one call when it is its turn; leave it without a result where it has to wait."""
        if not await self._admitted(alone=slot.alone):
            return
        record, tool = slot.record, slot.tool
        assert tool is not None  # noqa: S101  only prepared slots come here
        begun = record is not None and record.started is not None
        refusal = None if begun else self._out_of_order(slot, tool)
        if refusal is None and tool.rules.approval and not begun:
            said = record.decided if record is not None else None
            if said is None:
                self._ask(slot)
                self._hold()
                return
            if not said.granted:
                refusal = rejected(tool.name, said.by, said.reason)
        if refusal is not None:
            self._refuse(slot, refusal)
        else:
            ended = await self._call_tool(slot, tool)
            if ended.status is StepStatus.IN_DOUBT:
                self._hold()
                return
            self._took(slot, ended, None)
        for waiter in self.lane.leave():
            waiter.set_result(True)

    async def _admitted(self, *, alone: bool) -> bool:
        """Wait for this call's turn; False where the turn holds before it comes."""
        if self.holding:
            return False
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        return True if self.lane.ask(waiter, alone=alone) else await waiter

    def _hold(self) -> None:
        """Let nothing more begin: somebody has to decide first."""
        self.holding = True
        for waiter in self.lane.withdraw():
            waiter.set_result(False)

    def _out_of_order(self, slot: Slot, tool: Tool[..., Any]) -> Refusal | None:
        assert slot.accepted is not None  # noqa: S101  only prepared slots come here
        unread: dict[str, tuple[str, ...]] = {}
        readers = self.handler.readers.get(tool.name)
        if readers and slot.effect is not None:
            own = slot.effect.keys(Mode.READ)
            for key in slot.effect.keys(Mode.WRITE, Mode.EXCLUSIVE):
                if any(covers(read, key) for read in own):
                    continue  # it reads by itself what it writes
                names = tuple(dict.fromkeys(n for n, t in readers if t.may_yield(key)))
                if names:
                    unread[key] = names
        return refuse_order(tool.rules, slot.accepted.proposed, unread, self.done)

    async def _call_tool(self, slot: Slot, tool: Tool[..., Any]) -> Ended:
        accepted, effect, record = slot.accepted, slot.effect, slot.record
        assert accepted is not None  # noqa: S101  only prepared slots come here
        assert effect is not None  # noqa: S101  likewise
        before = None
        if tool.body.verify is not None:
            verify = tool.body.verify
            chosen = chosen_arguments(accepted.proposed, verify.parameters)
            before = self.seen.get((verify.name, chosen))
        if tool.body.changes:
            # Whatever was read before says nothing of the time after this.
            self.seen.clear()
        step = Step(
            slot.n,
            tool.name,
            tool.body,
            "tool",
            accepted.passed,
            slot.fp,
            self.last,
            tuple((claim.mode.value, claim.key) for claim in effect.claims),
            msgspec.Raw(encode(accepted.proposed)),
            before,
        )
        return await self.perform(step, record)

    def _took(self, slot: Slot, ended: Ended, refusal: Refusal | None) -> None:
        """Make the result of a call that came to its end, in this life or an earlier one."""
        tool, value = slot.tool, None
        if ended.status is StepStatus.OK:
            slot.data = decode(ended.raw)
            # Read back also where it is at hand, so that a replay is given the very same.
            value = tool.body.decode(ended.raw) if tool is not None else slot.data
            self._note_done(slot, ended.raw)
        slot.result = Result(
            ended.status,
            value,
            ended.error,
            refusal,
            step_id(slot.call.name, slot.n),
            slot.call.name,
            slot.call.id,
        )

    def _note_done(self, slot: Slot, raw: bytes) -> None:
        tool, accepted, effect = slot.tool, slot.accepted, slot.effect
        if tool is None or accepted is None or effect is None:
            return
        self.done.note(tool.name, accepted.proposed, effect.keys(*_KNOWN))
        if tool.body.changes:
            self.seen.clear()
        elif (parameters := self.handler.compared.get(tool.name)) is not None:
            self.seen[tool.name, chosen_arguments(accepted.proposed, parameters)] = raw

    def _refuse(self, slot: Slot, refusal: Refusal) -> None:
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
            )
        )
        self._took(slot, Ended(StepStatus.REFUSED), refusal)

    # ------------------------------------------------------------------ waiting

    def _ask(self, slot: Slot) -> None:
        """Ask a person about a call, once in the life of the turn."""
        assert slot.accepted is not None  # noqa: S101  only prepared slots come here
        asked = slot.record.asked if slot.record is not None else None
        if asked is None:
            args = msgspec.Raw(encode(slot.accepted.proposed))
            asked = ApprovalAsked(slot.n, slot.call.name, self.wall_s(), slot.fp, args, self.last)
            self.log.note(asked)
        fp = fingerprint([slot.call.name, bytes(asked.args)])
        self.waiting.append(waiting_for(asked.name, asked.n, bytes(asked.args), asked.at, fp))

    def _ask_also(self, slots: Sequence[Slot]) -> None:
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
                self._ask(slot)
        self.log.put()

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[None]:
        """Count a branch of the code as being at work, and stop it once the turn has to wait."""
        if self.broken is not None:
            raise self.broken
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            if self.holding and not self.busy:
                # The branch that goes on may ask again at once; else nothing is left to do.
                asyncio.get_running_loop().call_later(PARK_GRACE_S, self._park_if_idle)

    async def _park(self) -> None:
        """Wait to be unwound: nothing more can run until somebody decides."""
        self.busy -= 1
        self._park_if_idle()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.busy += 1

    def _park_if_idle(self) -> None:
        if not self.busy and not self.parked.done():
            self.parked.set_result(None)

    # ------------------------------------------------------------------ replay

    async def _other_branches(self, asked: str) -> None:
        """Let other branches of the code claim what is recorded before something new begins.

        Raises:
            ReplayError: Nobody does: the code asks for something else than it did.
        """
        left = self.memo.left
        give_up_s = self.now_s() + REPLAY_GRACE_S
        while self.memo.left and self.broken is None:
            if self.memo.left < left:
                left, give_up_s = self.memo.left, self.now_s() + REPLAY_GRACE_S
            if self.now_s() > give_up_s:
                self.broken = self._diverged(asked)
                break
            await self.clock.sleep(REPLAY_GRACE_S / 100)
        if self.broken is not None:
            raise self.broken

    def _diverged(self, asked: str) -> ReplayError:
        record = self.memo.first_left()
        name = record.name if record is not None else ""
        recorded = step_id(name, record.n) if record is not None else "nothing"
        if not asked:
            did = "returned without asking for it"
        elif asked == name:
            did = f"asks for {asked!r} with other arguments"
        else:
            did = f"asks for {asked!r}"
        return ReplayError(
            self.turn_id,
            f"step {recorded!r} is recorded here, but the handler {did}",
            "Resume it with the code that it began with, or start a new turn.",
            name,
        )

"""Guests: turns whose loop is somebody else's, begun, gone on with and ended when it says so.

Keeps: a loop that goes on after a pause or a crash meets the turn that recorded its calls; a
call that any turn of its session recorded as done is not done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Any

from undercroft.engine.calls import Slot
from undercroft.engine.guestrun import GuestRun
from undercroft.engine.handler import Handler
from undercroft.engine.life import GUEST, Live
from undercroft.engine.memo import Memo, Record, recall
from undercroft.engine.runner import BUSY_WAIT_S, POLL_S, Runner
from undercroft.errors import BusyError, TurnBusyError
from undercroft.model.event import decode_frames
from undercroft.model.outcome import Outcome, TurnStatus
from undercroft.model.step import StepStatus, step_id
from undercroft.model.turn import Claimed, Held

# Of a session, so many turns are looked through for a call that may be recorded.
EARLIER_TURNS_MAX = 20
_UNFINISHED = (TurnStatus.RUNNING, TurnStatus.STOPPED, TurnStatus.WAITING, TurnStatus.IN_DOUBT)


class GuestRunner(Runner):
    """Runs turns on one store, those of other people's loops included."""

    async def take_in(
        self, handler: Handler[..., object], session: str | None, ids: Collection[str]
    ) -> tuple[GuestRun, asyncio.Future[Outcome]]:
        """Begin the turn of a loop, or go on with the one that recorded its calls.

        Args:
            handler: Its tools.
            session: The conversation that it belongs to; without one it begins anew each time.
            ids: Of calls that it may have made before.

        Returns the turn, and what will be its outcome.

        Raises:
            BusyError: Another turn of the session is at work, for too long.
            TurnBusyError: Another process is going on with it.
            StoreError: The journal cannot be written.
        """
        live = None
        if session is not None:
            await self._leave_idle(session)
            live = await self._gone_on_with(handler, session, ids)
        if live is None:
            live = self._begun(handler, {}, session, None, None)
        run = live.run
        assert isinstance(run, GuestRun)  # noqa: S101  what is made of such a handler
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        # Whoever ends the turn asks for it; if nobody does, its error is in the journal.
        outcome.add_done_callback(_looked_at)
        live.waiters.append(outcome)
        either: set[asyncio.Future[Any]] = {run.ready, outcome}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not run.ready.done():
            ended = outcome.result()
            problem = str(ended.error or "another turn of it is at work")
            raise BusyError(f"session {session!r}", problem, "Wait until it has ended, then go on.")
        if session is not None:
            run.elsewhere = partial(self._recorded, session, live.turn_id)
        return run, outcome

    async def stop_guest(self, turn_id: str, why: str) -> None:
        """Stop a turn whose loop was cut off; it can be gone on with."""
        live = self._live.get(turn_id)
        if live is not None:
            await self._stopped([live], why)

    async def _leave_idle(self, session: str) -> None:
        """Stop what an earlier loop of the session left behind here without a word."""
        idle = [
            live
            for live in self._live.values()
            if isinstance(live.run, GuestRun) and live.run.session == session and live.run.idle
        ]
        if idle:
            await self._stopped(idle, "its loop ended without a word")

    async def _gone_on_with(
        self, handler: Handler[..., object], session: str, ids: Collection[str]
    ) -> Live | None:
        """Take up the unfinished turn of a session that recorded one of the calls."""
        turn_id = self._unfinished_with(session, ids)
        if turn_id is None:
            return None
        give_up_s = self._clock.now_s() + BUSY_WAIT_S
        while True:
            claimed = await self._store.claim(turn_id, self._clock.wall_s())
            if isinstance(claimed, Claimed):
                return self._take_up(turn_id, handler, claimed)
            if not isinstance(claimed, Held):
                return None  # it ended just now
            if self._clock.now_s() > give_up_s:
                raise TurnBusyError(
                    turn_id,
                    f"{claimed.holder} is going on with it",
                    "Wait until it has ended, or end that process; then go on.",
                )
            await self._clock.sleep(POLL_S)

    def _unfinished_with(self, session: str, ids: Collection[str]) -> str | None:
        if not ids:
            return None
        heads = self._store.heads(statuses=_UNFINISHED, session=session, limit=EARLIER_TURNS_MAX)
        for head in heads:
            if head.kind == GUEST and not self.memo(head.turn_id).called.keys().isdisjoint(ids):
                return head.turn_id
        return None

    def _recorded(self, session: str, turn_id: str, slot: Slot) -> tuple[str, Record] | None:
        """Return where another turn of a session recorded a call as done, and its record."""
        for head in self._store.heads(session=session, limit=EARLIER_TURNS_MAX):
            if head.kind != GUEST or head.turn_id == turn_id:
                continue
            if slot.call.id not in self.memo(head.turn_id).called:
                continue
            memo = self._restored(session, head.turn_id)
            for n in memo.called.get(slot.call.id or "", ()):
                record = memo.records.get(n)
                if record is None or (record.name, record.fp) != (slot.call.name, slot.fp):
                    continue
                if record.ended is not None and record.ended.status is StepStatus.OK:
                    return f"{head.turn_id}/{step_id(record.name, n)}", record
        return None

    def _restored(self, session: str, turn_id: str) -> Memo:
        redactor = self._secrets.of(session, turn_id)
        return recall(decode_frames(redactor.restore(self._store.frames(turn_id) or [])))


def _looked_at(outcome: asyncio.Future[Outcome]) -> None:
    if not outcome.cancelled():
        outcome.exception()

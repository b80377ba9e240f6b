"""The pen of one turn: numbers its steps, gathers its events, waits until they are durable."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping

from undercroft.engine.telling import Telling
from undercroft.errors import StoreError
from undercroft.layers.observability.redaction import Redactor
from undercroft.model.event import Event, encode_frame
from undercroft.model.lease import Denied, Granted
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import TurnHead
from undercroft.ports import Store, Wants

# Beyond this a turn waits for its commit before it goes on, so that reads that run ahead of
# the journal cannot fill the memory.
BACKLOG_BYTES_MAX = 8 << 20


class TurnLog:
    """What one turn writes.

    Events noted together are one frame and are committed together; frames of a turn are
    committed in order.
    """

    __slots__ = (
        "_changed",
        "_events",
        "_flush",
        "_head",
        "_last_n",
        "_outcomes",
        "_soon",
        "_store",
        "intending",
        "num",
        "redactor",
        "telling",
    )

    def __init__(  # noqa: PLR0913  made in one place, by the runner
        self,
        store: Store,
        num: int,
        last_n: int,
        head: TurnHead | None = None,
        telling: Telling | None = None,
        *,
        redactor: Redactor,
    ) -> None:
        """Write for turn `num`, or for a new turn `head`, which gets its number when it is put.

        `redactor` takes secrets out of every frame; `telling` gets what is left, where there
        is somebody who wants to know.
        """
        self.num = num
        self.telling = telling
        self.redactor = redactor
        # Intents that are being written: who is stopped now would leave a doubt for nothing.
        self.intending = 0
        self._head = head
        self._store = store
        self._events: list[Event] = []
        self._last_n = last_n
        self._outcomes: list[tuple[Wants, bool]] = []
        self._changed = False
        self._flush = False
        self._soon = False

    def next_n(self) -> int:
        """Return the number of a new step."""
        self._last_n += 1
        return self._last_n

    def note(self, event: Event) -> None:
        """Add `event` to the frame that is being gathered."""
        self._events.append(event)

    def note_all(self, events: Iterable[Event]) -> None:
        """Add `events` to the frame that is being gathered."""
        self._events.extend(events)

    def put_start(self) -> None:
        """Queue the gathered frame: with what ended before, or else at the end of this tick."""
        if len(self._events) > 1 and not self._soon:
            self.put()
        else:
            self.put_soon()

    def put_soon(self) -> None:
        """Queue the gathered frame at the end of this tick, if nothing else does before.

        Many reads that begin or end together would otherwise be a row each.
        """
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._put_late)

    def _put_late(self) -> None:
        self._soon = False
        # A journal that cannot be written is told to whoever next waits for it.
        with contextlib.suppress(StoreError):
            self.put()

    def put(self) -> None:
        """Queue the gathered frame.

        Raises:
            StoreError: An earlier frame of this turn could not be written.
        """
        if self._events:
            events, self._events = self._events, []
            if self._head is not None:
                # Together with its first frame, or a crash could leave a turn without any.
                self.num, self._head = self._store.begin(self._head), None
            frame = self._framed(events)
            if self._outcomes:
                outcomes, self._outcomes = self._outcomes, []
                self._store.append(self.num, frame, sync=True, outcomes=outcomes)
            else:
                self._store.append(self.num, frame, sync=self._flush)
            self._flush = False

    def _framed(self, events: list[Event]) -> bytes:
        """Return `events` as they are written."""
        frame = encode_frame(events)
        if not self.redactor.is_clean(events):
            frame = self.redactor.redact(frame)
        if self.telling is not None:
            self.telling.add(frame)
        return frame

    @property
    def crowded(self) -> bool:
        """Whether so much is queued that the turn should wait for it."""
        return self._store.backlog_bytes > BACKLOG_BYTES_MAX

    def changes(self) -> None:
        """Say that what was noted last holds the intent or the outcome of a write."""
        self._changed = self._flush = True

    def mark(self, status: TurnStatus, at: float) -> None:
        """Queue what is gathered and, with it, the turn's new status."""
        self.put()
        self._store.mark(self.num, status, at)

    def outcome(self, wants: Wants, *, wrote: bool) -> None:
        """Say that what was noted last is the end of an intent."""
        self._outcomes.append((wants, wrote))
        self._changed = self._flush = True

    async def intent(
        self, event: Event, wants: Wants, lapsed: Mapping[int, int], *, again: bool
    ) -> Granted | Denied:
        """Write down that a step begins, as the owner of what it wants; return once durable.

        Whatever was gathered before is written in any case.

        Raises:
            StoreError: It could not be written.
        """
        # In a frame of its own: an intent is written after all that is queued in its tick.
        self.put()
        if self._head is not None:
            self.num, self._head = self._store.begin(self._head), None
        self.intending += 1
        try:
            frame = self._framed([event])
            answer = await self._store.intent(self.num, frame, wants, lapsed, again=again)
            if self.telling is not None and isinstance(answer, Denied):
                self.telling.drop(frame)
            return answer
        finally:
            self.intending -= 1

    async def durable(self) -> None:
        """Queue what is gathered and wait until all of it is durable.

        Raises:
            StoreError: It could not be written.
        """
        self.put()
        changed = self._changed
        self._changed = False
        waiter = self._store.durable(sync=changed, num=self.num)
        if waiter is not None:
            await waiter

    def tell(self) -> None:
        """Tell whoever wants to know what was written in this life."""
        if self.telling is not None:
            self.telling.tell()

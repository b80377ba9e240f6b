"""A journal in memory: the same promises as the file's, as long as the process lives.

Two stores on one `MemoryJournal` behave as two processes on one file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from itertools import count

from undercroft.errors import FencedError, StoreError
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import Claimed, Held, Over, TurnHead
from undercroft.ports import Amend

_PARKED = (TurnStatus.WAITING, TurnStatus.IN_DOUBT)
_RUNNABLE = (TurnStatus.RUNNING, TurnStatus.STOPPED)


@dataclass(slots=True)
class _Turn:
    head: TurnHead
    holder: int | None
    words: int = 0
    frames: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class MemoryJournal:
    """What the stores on it share."""

    turns: dict[int, _Turn] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)
    fenced: set[int] = field(default_factory=set)
    runtimes: count[int] = field(default_factory=lambda: count(1))
    position: int = 0


_Work = tuple[int, TurnHead | bytes | tuple[TurnStatus, float]]


class MemoryStore:
    """A `Store` that forgets everything when the process ends."""

    path = ":memory:"

    def __init__(self, journal: MemoryJournal | None = None) -> None:
        self.journal = journal or MemoryJournal()
        self._runtime = 0
        self._turns = 0
        self._work: list[_Work] = []
        self._frames = 0
        self._size_bytes = 0
        # How many words had been said about a turn when it was claimed.
        self._words: dict[int, int] = {}
        self._waiters: list[asyncio.Future[int]] = []
        self._scheduled = False

    @property
    def runtime(self) -> int:
        """The number under which this process records."""
        return self._runtime

    @property
    def backlog_bytes(self) -> int:
        """Size of what is queued and not yet committed."""
        return self._size_bytes

    async def open(self) -> None:
        """Register as a runtime."""
        self._loop = asyncio.get_running_loop()
        self._runtime = next(self.journal.runtimes)
        self._turns = self._runtime << 32
        self.journal.alive.add(self._runtime)

    async def close(self) -> None:
        """Commit what is queued."""
        self._flush()
        self.journal.alive.discard(self._runtime)

    def begin(self, head: TurnHead) -> int:
        """Queue a new turn, held by this process."""
        self._turns += 1
        self._queue(self._turns, head)
        return self._turns

    def append(self, num: int, frame: bytes, *, sync: bool = False) -> int:
        """Queue a frame; return its place in the batch."""
        del sync
        self._queue(num, frame)
        self._frames += 1
        self._size_bytes += len(frame)
        return self._frames - 1

    def mark(self, num: int, status: TurnStatus, at: float) -> None:
        """Queue a new status; any but `running` lets go of the turn."""
        self._queue(num, (status, at))

    def _queue(self, num: int, work: TurnHead | bytes | tuple[TurnStatus, float]) -> None:
        if self._runtime in self.journal.fenced:
            raise self._fenced()
        self._work.append((num, work))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def durable(self, *, sync: bool = False) -> Awaitable[int] | None:
        """Return what to await until all that was queued so far is committed."""
        del sync
        if not self._scheduled:
            return None
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._waiters.append(waiter)
        return waiter

    def _flush(self) -> None:
        work, waiters = self._work, self._waiters
        self._work, self._waiters = [], []
        self._scheduled, self._frames, self._size_bytes = False, 0, 0
        position = self.journal.position + 1
        try:
            self._commit(work)
        except StoreError as error:
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)
            return
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(position)

    def _commit(self, work: list[_Work]) -> None:
        """Write what one tick of the loop queued; nothing of it where it fails."""
        if self._runtime in self.journal.fenced:
            raise self._fenced()
        for num, item in work:
            self._apply(num, item)

    def _apply(self, num: int, item: TurnHead | bytes | tuple[TurnStatus, float]) -> None:
        journal = self.journal
        if isinstance(item, bytes):
            journal.position += 1
            journal.turns[num].frames.append(item)
        elif isinstance(item, TurnHead):
            journal.turns[num] = _Turn(item, self._runtime)
            journal.numbers[item.turn_id] = num
        else:
            status, at = item
            running = status is TurnStatus.RUNNING
            turn = journal.turns[num]
            known = self._words.pop(num, 0) if status.final else self._words.get(num, 0)
            if status in _PARKED and turn.words > known:
                # Somebody said a word meanwhile: nobody need be waited for.
                status = TurnStatus.STOPPED
            turn.head = replace(turn.head, status=status, ended_at=None if running else at)
            turn.holder = self._runtime if running else None

    def _fenced(self) -> StoreError:
        return FencedError(
            self.path,
            "this process was declared dead and its turns were taken over",
            "Let it end; the other process goes on with them.",
        )

    async def claim(self, turn_id: str, at: float) -> Claimed | Held | Over | None:
        """Take an unfinished turn that no live process holds."""
        del at
        self._flush()
        if self._runtime in self.journal.fenced:
            raise self._fenced()
        turn = self._turn(turn_id)
        if turn is None:
            return None
        if turn.head.status.final:
            return Over(list(turn.frames))
        if turn.holder is not None:
            if turn.holder in self.journal.alive:
                return Held(f"runtime {turn.holder} of this process")
            self.journal.fenced.add(turn.holder)
        turn.holder = self._runtime
        self._words[self.journal.numbers[turn_id]] = turn.words
        turn.head = replace(turn.head, status=TurnStatus.RUNNING, ended_at=None)
        return Claimed(self.journal.numbers[turn_id], list(turn.frames))

    async def amend(self, turn_id: str, decide: Amend) -> bool:
        """Append what `decide` makes of a turn's frames."""
        self._flush()
        turn = self._turn(turn_id)
        if turn is None:
            return False
        frame = decide(list(turn.frames))
        if frame is not None:
            self.journal.position += 1
            turn.frames.append(frame)
            turn.words += 1
            if turn.head.status in _PARKED:
                turn.head = replace(turn.head, status=TurnStatus.STOPPED)
        return True

    def frames(self, turn_id: str) -> list[bytes] | None:
        """Return the committed frames of a turn."""
        turn = self._turn(turn_id)
        return None if turn is None else list(turn.frames)

    def heads(
        self,
        *,
        statuses: tuple[TurnStatus, ...] = (),
        session: str | None = None,
        limit: int = 100,
    ) -> list[TurnHead]:
        """Return turns, newest first."""
        found = [
            replace(turn.head, held=turn.holder in self.journal.alive)
            for turn in self.journal.turns.values()
            if (not statuses or turn.head.status in statuses)
            and (session is None or turn.head.session == session)
        ]
        return sorted(found, key=lambda head: head.turn_id, reverse=True)[:limit]

    def unfinished(self) -> list[str]:
        """Return the ids of turns that nobody runs and nobody has to decide, oldest first."""
        return sorted(
            turn.head.turn_id
            for turn in self.journal.turns.values()
            if turn.head.status in _RUNNABLE and turn.holder not in self.journal.alive
        )

    def _turn(self, turn_id: str) -> _Turn | None:
        num = self.journal.numbers.get(turn_id)
        return None if num is None else self.journal.turns[num]

"""A journal in memory: the same promises as the file's, as long as the process lives.

Two stores on one `MemoryJournal` behave as two processes on one file.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple

from undercroft.errors import FencedError, StoreError
from undercroft.layers.conflicts.ownership import Owners
from undercroft.model.lease import Denied, Granted
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import Claimed, Held, Over, TurnHead
from undercroft.ports import NOBODY, Amend, Outcomes, Wants
from undercroft.storage.board import MemoryBoard, Shared
from undercroft.storage.leases import WITHDRAWN, LeaseBook, Writes, lapsed

_PARKED = (TurnStatus.WAITING, TurnStatus.IN_DOUBT)
_RUNNABLE = (TurnStatus.RUNNING, TurnStatus.STOPPED)


@dataclass(slots=True)
class _Turn:
    head: TurnHead
    holder: int | None
    words: int = 0
    # With the position of each.
    frames: list[tuple[int, bytes]] = field(default_factory=list)

    def data(self) -> list[bytes]:
        """Return the frames alone."""
        return [frame for _, frame in self.frames]


@dataclass(slots=True)
class MemoryJournal:
    """What the stores on it share."""

    turns: dict[int, _Turn] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)
    fenced: set[int] = field(default_factory=set)
    runtimes: count[int] = field(default_factory=lambda: count(1))
    position: int = 0
    owners: Owners = field(default_factory=Owners)
    writes: Writes = field(default_factory=Writes)
    # By process: how often it said that it is well, and for how long it may be silent.
    beats: dict[int, tuple[int, float]] = field(default_factory=dict)
    # Turns that were taken from a process which had fallen silent.
    lost: dict[int, set[int]] = field(default_factory=dict)
    copy_id: str = field(default_factory=lambda: secrets.token_hex(8))
    # Of redaction.
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    shared: Shared = field(default_factory=Shared)

    def put(self, num: int, head: TurnHead, frames: Iterable[bytes]) -> None:
        """Take in a turn that another journal holds, with a number that no turn here has."""
        turn = self.turns[num] = _Turn(head, None)
        self.numbers[head.turn_id] = num
        for frame in frames:
            self.position += 1
            turn.frames.append((self.position, frame))


class _Frame(NamedTuple):
    data: bytes
    outcomes: Outcomes


class _Intent(NamedTuple):
    frame: bytes
    wants: Wants
    lapsed: Mapping[int, int]
    again: bool
    waiter: asyncio.Future[Granted | Denied]


_Item = TurnHead | _Frame | tuple[TurnStatus, float] | _Intent
_Work = tuple[int, _Item]


class MemoryLeases(LeaseBook):
    """The leases of a journal in memory."""

    def __init__(self, journal: MemoryJournal) -> None:
        super().__init__()
        # There is one copy, so nobody need be told what others do.
        self.owners, self.writes = journal.owners, journal.writes
        self._journal = journal

    def insert_frame(self, num: int, frame: bytes) -> int:
        """Write a frame; return its position."""
        self._journal.position += 1
        self._journal.turns[num].frames.append((self._journal.position, frame))
        return self._journal.position

    def detach(self, num: int, runtime: int) -> bool:
        """Take turn `num` from a process that may come back, and leave it to be resumed."""
        turn = self._journal.turns[num]
        if turn.holder != runtime:
            return False
        turn.holder = None
        turn.head = replace(turn.head, status=TurnStatus.STOPPED)
        self._journal.lost.setdefault(runtime, set()).add(num)
        return True

    def turn_id(self, num: int) -> str:
        """Return the id of a turn."""
        return self._journal.turns[num].head.turn_id

    def is_alive(self, runtime: int) -> bool:
        """Whether that process still runs."""
        return runtime in self._journal.alive

    def beat_of(self, runtime: int) -> tuple[int, float]:
        """Return the beat of a process, and the seconds of silence after which it lapses."""
        return self._journal.beats[runtime]


class MemoryStore:
    """A `Store` that forgets everything when the process ends.

    Args:
        journal: What it shares with other stores; its own if left out.
        lease_s: Seconds for which this process may fall silent before others take over what
            its turns own.
    """

    path = ":memory:"

    def __init__(self, journal: MemoryJournal | None = None, *, lease_s: float = 10.0) -> None:
        self.journal = journal or MemoryJournal()
        self._lease_s = lease_s
        self._leases = MemoryLeases(self.journal)
        self._beating: asyncio.TimerHandle | None = None
        self._lapsed: dict[int, StoreError] = {}
        self._board: MemoryBoard | None = None
        self._runtime = 0
        self._turns = 0
        self._work: list[_Work] = []
        self._answers: list[tuple[asyncio.Future[Granted | Denied], Granted | Denied]] = []
        self._size_bytes = 0
        # How many words had been said about a turn when it was claimed.
        self._words: dict[int, int] = {}
        self._waiters: list[tuple[asyncio.Future[int], int]] = []
        self._scheduled = False

    @property
    def runtime(self) -> int:
        """The number under which this process records."""
        return self._runtime

    @property
    def position(self) -> int:
        """A journal position up to which everything was committed."""
        return self.journal.position

    @property
    def copy_id(self) -> str:
        """Which copy of the journal this is."""
        return self.journal.copy_id

    @property
    def board(self) -> MemoryBoard | None:
        """What is shared of breakers."""
        return self._board

    @property
    def backlog_bytes(self) -> int:
        """Size of what is queued and not yet committed."""
        return self._size_bytes

    def key(self) -> bytes:
        """Return the key under which secrets of this journal are hashed."""
        return self.journal.key

    async def open(self) -> None:
        """Register as a runtime."""
        self._loop = asyncio.get_running_loop()
        self._runtime = self._leases.runtime = next(self.journal.runtimes)
        self.journal.beats[self._runtime] = (0, self._lease_s)
        self._turns = self._runtime << 32
        self.journal.alive.add(self._runtime)
        self._board = MemoryBoard(self.journal.shared, self._runtime, self.journal.alive)

    async def close(self) -> None:
        """Commit what is queued."""
        if self._beating is not None:
            self._beating.cancel()
        self._flush()
        if self._board is not None:
            await self._board.close()
        self.journal.alive.discard(self._runtime)

    def begin(self, head: TurnHead) -> int:
        """Queue a new turn, held by this process."""
        self._turns += 1
        self._queue(self._turns, head)
        return self._turns

    def append(
        self, num: int, frame: bytes, *, sync: bool = False, outcomes: Outcomes = ()
    ) -> None:
        """Queue a frame, and what it says of intents."""
        del sync
        self._queue(num, _Frame(frame, outcomes))
        self._size_bytes += len(frame)

    def intent(
        self,
        num: int,
        frame: bytes,
        wants: Wants,
        lapsed: Mapping[int, int] = NOBODY,
        *,
        again: bool = False,
    ) -> Awaitable[Granted | Denied]:
        """Queue an intent, to be written only if the turn owns what it changes."""
        waiter: asyncio.Future[Granted | Denied] = self._loop.create_future()
        self._queue(num, _Intent(frame, wants, lapsed, again, waiter))
        return waiter

    def mark(self, num: int, status: TurnStatus, at: float) -> None:
        """Queue a new status; any but `running` lets go of the turn."""
        self._queue(num, (status, at))

    def _queue(self, num: int, work: _Item) -> None:
        if self._runtime in self.journal.fenced:
            raise self._fenced()
        if num in self._lapsed:
            raise self._lapsed[num]
        self._work.append((num, work))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def durable(self, *, sync: bool = False, num: int = 0) -> Awaitable[int] | None:
        """Return what to await until all that was queued so far is committed."""
        del sync
        if not self._scheduled:
            return None
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._waiters.append((waiter, num))
        return waiter

    def _flush(self) -> None:
        work, waiters = self._work, self._waiters
        self._work, self._waiters = [], []
        self._scheduled, self._size_bytes = False, 0
        self._answers = []
        position = self.journal.position + 1
        self._note_lost()
        try:
            self._commit(work)
        except StoreError as error:
            self._tell(work, waiters, error)
            return
        self._tell(work, waiters, position)
        for waiter, answer in self._answers:
            if not waiter.done():
                waiter.set_result(answer)
        if self._beating is None:
            # Having owned nothing it said nothing; from now on it is not to be taken for silent.
            self._beat()

    def _tell(
        self,
        work: list[_Work],
        waiters: list[tuple[asyncio.Future[int], int]],
        result: int | StoreError,
    ) -> None:
        for waiter, num in waiters:
            told = self._lapsed.get(num, result)
            if waiter.done():
                continue
            if isinstance(told, StoreError):
                waiter.set_exception(told)
            else:
                waiter.set_result(told)
        for num, item in work:
            if isinstance(item, _Intent) and not item.waiter.done():
                error = self._lapsed.get(num, result)
                if isinstance(error, StoreError):
                    item.waiter.set_exception(error)

    def _beat(self) -> None:
        """Say that this process is alive and well, for as long as its turns own anything."""
        self._beating = None
        if self._leases.leasing:
            beat, lease_s = self.journal.beats[self._runtime]
            self.journal.beats[self._runtime] = (beat + 1, lease_s)
            self._beating = self._loop.call_later(self._lease_s / 3, self._beat)

    def _note_lost(self) -> None:
        """Give up the turns that another process took from this one, which had fallen silent."""
        for num in self.journal.lost.pop(self._runtime, ()):
            self._lapsed[num] = lapsed(self.path, self._lease_s)

    def _commit(self, work: list[_Work]) -> None:
        """Write what one tick of the loop queued; nothing of it where it fails."""
        if self._runtime in self.journal.fenced:
            raise self._fenced()
        # Intents last, so that what is let go of in the same tick can be owned anew.
        for intents in (False, True):
            for num, item in work:
                if isinstance(item, _Intent) is intents and num not in self._lapsed:
                    self._apply(num, item)

    def _apply(self, num: int, item: _Item) -> None:
        journal, leases = self.journal, self._leases
        match item:
            case _Frame(data, outcomes):
                position = leases.insert_frame(num, data)
                for wants, wrote in outcomes:
                    leases.close(num, wants, position, wrote=wrote)
            case _Intent(frame, wants, lapsed, again, waiter):
                if waiter.cancelled():
                    answer: Granted | Denied = WITHDRAWN
                else:
                    at = journal.position + 1
                    answer = leases.grant(num, wants, lapsed, at, opens=not again)
                for stopped, said in leases.stops(time.time()):
                    leases.insert_frame(stopped, said)
                if isinstance(answer, Granted):
                    answer = replace(answer, position=leases.insert_frame(num, frame))
                # Told once the whole tick is committed.
                self._answers.append((waiter, answer))
            case TurnHead():
                journal.turns[num] = _Turn(item, self._runtime)
                journal.numbers[item.turn_id] = num
            case (status, at):
                self._mark(num, status, at)

    def _mark(self, num: int, status: TurnStatus, at: float) -> None:
        running = status is TurnStatus.RUNNING
        turn = self.journal.turns[num]
        known = self._words.pop(num, 0) if status.final else self._words.get(num, 0)
        if status in _PARKED and turn.words > known:
            # Somebody said a word meanwhile: nobody need be waited for.
            status = TurnStatus.STOPPED
        turn.head = replace(turn.head, status=status, ended_at=None if running else at)
        turn.holder = self._runtime if running else None
        if not running:
            self._leases.release(num, self.journal.position)

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
            return Over(turn.data())
        if turn.holder is not None:
            if turn.holder in self.journal.alive:
                return Held(f"runtime {turn.holder} of this process")
            self.journal.fenced.add(turn.holder)
        turn.holder = self._runtime
        self._words[self.journal.numbers[turn_id]] = turn.words
        turn.head = replace(turn.head, status=TurnStatus.RUNNING, ended_at=None)
        num = self.journal.numbers[turn_id]
        self._lapsed.pop(num, None)
        self._leases.adopt(num)
        return Claimed(num, turn.data(), turn.frames[-1][0] if turn.frames else 0)

    async def amend(self, turn_id: str, decide: Amend) -> bool:
        """Append what `decide` makes of a turn's frames."""
        self._flush()
        turn = self._turn(turn_id)
        if turn is None:
            return False
        frame = decide(turn.data())
        if frame is not None:
            self._leases.insert_frame(self.journal.numbers[turn_id], frame)
            turn.words += 1
            if turn.head.status in _PARKED:
                turn.head = replace(turn.head, status=TurnStatus.STOPPED)
        return True

    def frames(self, turn_id: str) -> list[bytes] | None:
        """Return the committed frames of a turn."""
        turn = self._turn(turn_id)
        return None if turn is None else turn.data()

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

"""A journal in one SQLite file: group commit on the event loop, flushes and checkpoints beside it.

Keeps: all that is queued in one tick of the loop is one transaction; a frame that asked for it
is on disk before anybody is told so; a process that was declared dead records nothing.
Measured: a commit on the loop costs some 20 µs, a round trip to a writer thread 20 to 60;
a flush takes milliseconds, so it happens in a thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from undercroft.errors import (
    FencedError,
    SettingError,
    StoreBusyError,
    StoreError,
)
from undercroft.model.lease import Denied, Granted
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import Claimed, Held, Over, TurnHead
from undercroft.ports import NOBODY, Amend, Outcomes, Wants
from undercroft.storage import alive
from undercroft.storage.batch import Batch, Intent, Outcome, begin_row
from undercroft.storage.bodies import Packer
from undercroft.storage.circuits import read_last
from undercroft.storage.keyfile import key_of
from undercroft.storage.leases import WITHDRAWN, lapsed
from undercroft.storage.read import SqliteReader
from undercroft.storage.register import register
from undercroft.storage.schema import (
    BEAT,
    BODY,
    FRAME,
    LAST,
    MIGRATIONS,
    PLACED,
    connect,
    copy_id,
    is_busy,
    prepare,
    translated,
)
from undercroft.storage.sqlite_board import SqliteBoard
from undercroft.storage.sqlite_leases import SqliteLeases
from undercroft.storage.wal import RELEASED_MAX, Checkpointer, Flusher, Releaser

Sync = Literal["writes", "always", "never"]
T = TypeVar("T")

_BUSY_S = 30.0
_RETRY_S = 0.002
# How long what nobody waits for may gather company before it is committed.
_GATHER_S = 0.0005
# How often a process says that it is alive, in the time in which it may be silent.
_BEATS = 3
_PARKED = (TurnStatus.WAITING, TurnStatus.IN_DOUBT)


class SqliteStore:
    """A `Store` in one file; several processes may share it.

    Args:
        path: Of the file; made where there is none.
        sync: What must survive a power cut: `writes` (the default) flushes a commit that
            holds the intent or the outcome of a write, `always` every commit, `never` none.
            Whatever is chosen, every commit survives the end of the process.
        wal_limit_bytes: Bound of the write-ahead log; at least 1 MiB.
        lease_s: Seconds for which this process may fall silent before others take over what
            its turns own.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        sync: Sync = "writes",
        wal_limit_bytes: int = 64 << 20,
        lease_s: float = 10.0,
    ) -> None:
        if sync not in ("writes", "always", "never"):
            raise SettingError("sync", sync, "'writes', 'always' or 'never'")
        if wal_limit_bytes < 1 << 20:
            raise SettingError("wal_limit_bytes", wal_limit_bytes, "at least 1 MiB")
        self.path = str(path)
        if not 0 < lease_s < float("inf"):
            raise SettingError("lease_s", lease_s, "above 0, and finite")
        self._sync, self._wal_limit_bytes, self._lease_s = sync, wal_limit_bytes, lease_s
        self._runtime = self._turns = 0
        self._batch, self._packer = Batch(), Packer()
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._busy_since: float | None = None
        self._broken: dict[int, StoreError] = {}
        # How many words had been said about a turn when it was claimed.
        self._words: dict[int, int] = {}
        self._dead: StoreError | None = None
        # Turns that run here, with the journal's position when they began or were taken up;
        # and how often one was taken from this process.
        self._mine: dict[int, int] = {}
        self._lost = 0
        self._position = self._amended = 0
        self._copy_id = ""
        self._beating: asyncio.TimerHandle | None = None
        self._connection: sqlite3.Connection
        self._reader: SqliteReader
        self._leases: SqliteLeases
        self._board: SqliteBoard | None = None

    @property
    def runtime(self) -> int:
        """The number under which this process records."""
        return self._runtime

    @property
    def position(self) -> int:
        """A journal position up to which everything was committed, as far as is known here."""
        return self._position

    @property
    def copy_id(self) -> str:
        """Which copy of the journal this is."""
        return self._copy_id

    @property
    def board(self) -> SqliteBoard | None:
        """What is shared of breakers; on a connection and in a thread of its own, once used."""
        return self._board

    @property
    def backlog_bytes(self) -> int:
        """Size of what is queued and not yet committed."""
        return self._batch.size_bytes

    def key(self) -> bytes:
        """Return the key under which secrets of this journal are hashed."""
        return key_of(self.path)

    # ------------------------------------------------------------------ opening and closing

    async def open(self) -> None:
        """Open the file, bring it to the newest schema, and register this process."""
        self._loop = asyncio.get_running_loop()
        self._connection = connect(self.path)
        self._reader = SqliteReader(self._connection, self.path)
        self._leases = SqliteLeases(self._connection, self.path)
        try:
            await self._prepared()
            await self._exclusively(self._register)
            self._releaser = Releaser(self._loop, RELEASED_MAX)
            self._flusher = Flusher(self.path, self._loop)
        except BaseException as error:
            alive.release(self.path, self._runtime)
            self._connection.close()
            if isinstance(error, OSError):
                raise StoreError(
                    self.path, f"a file beside it: {error}", "Check the permissions of its folder."
                ) from error
            raise
        self._checkpointer = Checkpointer(self.path, self._wal_limit_bytes)

    async def _prepared(self) -> None:
        """Make the file a journal, waiting for other processes that do the same."""
        give_up_s = self._loop.time() + _BUSY_S
        while True:
            try:
                prepare(self._connection, self.path, MIGRATIONS)
            except StoreBusyError:
                if self._loop.time() > give_up_s:
                    raise
            else:
                return
            await asyncio.sleep(_RETRY_S)

    def _register(self) -> None:
        execute = self._connection.execute
        self._runtime = register(self._connection, self.path, self._lease_s)
        self._leases.runtime = self._runtime
        known = read_last(self._connection, self.path)
        self._board = SqliteBoard(self.path, self._runtime, self._lease_s, known)
        self._turns = self._runtime << 32
        (self._position,) = execute(LAST).fetchone()
        self._copy_id = copy_id(self._connection, self.path)

    async def close(self) -> None:
        """Commit what is queued, flush, and let go of the file."""
        if self._beating is not None:
            self._beating.cancel()
        if self._board is not None:
            await self._board.close()
        try:
            while self._scheduled:
                if self._busy_since is None:
                    self._flush()
                else:
                    # It is tried again by itself, and once more here would be twice.
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._checkpointer.close()
            await self._flusher.close()
            alive.release(self.path, self._runtime)
            self._connection.close()

    # ------------------------------------------------------------------ writing

    def begin(self, head: TurnHead) -> int:
        """Queue a new turn, held by this process."""
        if self._dead is not None:
            raise self._dead
        self._turns += 1
        self._mine[self._turns] = self._position
        self._batch.begins.append(begin_row(self._turns, head, self._runtime))
        self._schedule()
        return self._turns

    def append(
        self, num: int, frame: bytes, *, sync: bool = False, outcomes: Outcomes = ()
    ) -> None:
        """Queue a frame, and what it says of intents."""
        if self._broken or self._dead:
            self._check(num)
        batch = self._batch
        if sync:
            batch.sync = True
        if outcomes:
            place = len(batch.frames)
            batch.outcomes += [Outcome(num, place, wants, wrote) for wants, wrote in outcomes]
        batch.frames.append((num, self._packer.pack(frame, batch.bodies)))
        batch.size_bytes += len(frame)
        self._schedule()

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
        if self._broken or self._dead:
            self._check(num)
        batch = self._batch
        waiter: asyncio.Future[Granted | Denied] = self._loop.create_future()
        packed = self._packer.pack(frame, batch.bodies)
        batch.intents.append(Intent(num, packed, wants, lapsed, again, waiter))
        batch.size_bytes += len(frame)
        batch.sync = True
        self._schedule()
        self._hurry()
        return waiter

    def mark(self, num: int, status: TurnStatus, at: float) -> None:
        """Queue a new status; any but `running` lets go of the turn."""
        if self._broken or self._dead:
            self._check(num)
        running = status is TurnStatus.RUNNING
        held = self._runtime if running else None
        known = self._words.pop(num, 0) if status.final else self._words.get(num, 0)
        self._batch.marks.append((status, known, status, None if running else at, held, num))
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._timer = self._loop.call_later(_GATHER_S, self._flush)

    def _hurry(self) -> None:
        """Commit at the end of this tick: somebody waits for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._loop.call_soon(self._flush)

    def durable(self, *, sync: bool = False, num: int = 0) -> Awaitable[int] | None:
        """Return what to await until all that was queued so far is committed, and flushed."""
        if self._sync != "writes":
            sync = self._sync == "always"
        if self._scheduled:
            self._hurry()
            waiter: asyncio.Future[int] = self._loop.create_future()
            self._batch.waiters.append((waiter, sync, num))
            return waiter
        if sync and self._flusher.flushed < self._flusher.committed:
            waiter = self._loop.create_future()
            self._flusher.wait(self._flusher.committed, waiter, 0)
            return waiter
        return None

    def _check(self, num: int) -> None:
        if error := self._dead or self._broken.get(num):
            raise error

    def _flush(self) -> None:
        if not self._scheduled:
            return  # written already, by whoever closed the journal
        self._timer = None
        if self._checkpointer.behind and self._wait_a_moment():
            return
        batch = self._batch
        try:
            position, answers = self._commit(batch)
        except sqlite3.Error as error:
            if is_busy(error) and self._wait_a_moment():
                return
            self._fail(batch, translated(error, self.path))
            return
        except FencedError as error:
            self._dead = error
            self._fail(batch, error)
            return
        except BaseException as error:
            # Whatever it is, nobody must be left waiting for a commit that never comes.
            self._fail(batch, StoreError(self.path, f"{error!r}", "Report it, please."))
            raise
        self._batch = Batch()
        self._scheduled = False
        self._busy_since = None
        flusher = self._flusher
        flusher.committed += 1
        self._checkpointer.wrote(batch.size_bytes)
        self._answer(batch, position, answers)
        if self._beating is None and self._leases.leasing:
            self._beating = self._loop.call_later(self._lease_s / _BEATS, self._beat)

    def _answer(self, batch: Batch, position: int, answers: list[Granted | Denied]) -> None:
        """Tell those who wait for `batch`, at once or when it is on disk."""
        flusher = self._flusher
        flushes = self._sync != "never"
        if self._sync == "always" or (batch.sync and flushes):
            flusher.want(flusher.committed)
        at_once: list[tuple[asyncio.Future[Any], Any]] = []
        for waiter, sync, _ in batch.waiters:
            if sync:
                flusher.wait(flusher.committed, waiter, position)
            else:
                at_once.append((waiter, position))
        for intent, answer in zip(batch.intents, answers, strict=True):
            if flushes and isinstance(answer, Granted):
                flusher.wait(flusher.committed, intent.waiter, answer)
            else:
                at_once.append((intent.waiter, answer))
        self._releaser.release(at_once)

    def _beat(self) -> None:
        """Say that this process is alive and well, for as long as its turns own anything."""
        self._beating = None
        if self._leases.leasing and self._dead is None:
            self._batch.beat = True
            self._schedule()

    def _commit(self, batch: Batch) -> tuple[int, list[Granted | Denied]]:
        """Write `batch` in one transaction.

        Returns the position of its first frame, and the answer to each of its intents.
        """
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            self._refuse_if_fenced()
            if batch.beat:
                execute(BEAT, (self._runtime,))
            batch.write_rows(self._connection)
            answers: list[Granted | Denied] = []
            if batch.owning(self._leases):
                first, answers, last = self._changed(batch)
            else:
                self._connection.executemany(FRAME, batch.frames)
                last = self._position
                if batch.frames:
                    (last,) = execute("SELECT last_insert_rowid()").fetchone()
                first = last - len(batch.frames) + 1
            execute("COMMIT")
        except BaseException:
            self._leases.invalidate()
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        for *_, held, num in batch.marks:
            if held is None:
                self._mine.pop(num, None)
        self._position = last
        self._packer.note(batch.bodies)
        return first, answers

    def _changed(self, batch: Batch) -> tuple[int, list[Granted | Denied], int]:
        """Take note of outcomes, let go of what turns owned, grant what is asked, and write.

        Returns the position of the first frame, the answers, and the position of the last.
        """
        leases = self._leases
        # Before our own frames are there: what they say is noted as it is written. From here
        # on it is known where the journal ends, and nobody else can write to it.
        leases.refresh(self._mine, self._position)
        end = max(self._position, leases.read)
        first, last = end + 1, end + len(batch.frames)
        frames = [(first + place, *frame) for place, frame in enumerate(batch.frames)]
        for num, place, wants, wrote in batch.outcomes:
            leases.close(num, wants, first + place, wrote=wrote)
        for *_, held, num in batch.marks:
            if held is None and leases.owners.of(num):
                leases.release(num, last)
        answers = self._granted(batch, frames, last) if batch.intents else []
        self._connection.executemany(PLACED, frames)
        if self._beating is None and leases.leasing and not batch.beat:
            # Having owned nothing it said nothing; from now on it is not to be taken for silent.
            self._connection.execute(BEAT, (self._runtime,))
        last = end + len(frames)
        leases.let_go(min(self._mine.values(), default=last))
        return first, answers, last

    def _granted(
        self, batch: Batch, frames: list[tuple[int, int, bytes]], last: int
    ) -> list[Granted | Denied]:
        """Grant what may be granted, and add those intents to `frames`, from `last` on."""
        leases = self._leases
        answers: list[Granted | Denied] = []
        for num, frame, wants, silent, again, waiter in batch.intents:
            asked = (num, wants, silent, last + 1)
            answer = WITHDRAWN if waiter.cancelled() else leases.grant(*asked, opens=not again)
            for stopped, said in leases.stops(time.time()):
                last += 1
                frames.append((last, stopped, said))
            if isinstance(answer, Granted):
                last += 1
                frames.append((last, num, frame))
                if answer.position != last:
                    answer = replace(answer, position=last)
            answers.append(answer)
        return answers

    def _refuse_if_fenced(self) -> None:
        row = self._connection.execute(
            "SELECT fenced, lost FROM runtime WHERE no=?", (self._runtime,)
        ).fetchone()
        if row is None or row[0]:
            raise FencedError(
                self.path,
                "this process was declared dead and its turns were taken over",
                "Let it end; the other process goes on with them.",
            )
        if row[1] != self._lost:
            self._note_lost(row[1])

    def _note_lost(self, lost: int) -> None:
        """Give up the turns that another process took from this one, which had fallen silent."""
        rows = self._connection.execute("SELECT num FROM turn WHERE runtime=?", (self._runtime,))
        begun = {begin[0] for begin in self._batch.begins}
        gone = set(self._mine) - {num for (num,) in rows} - begun
        error = lapsed(self.path, self._lease_s)
        for num in gone:
            self._broken[num] = error
            del self._mine[num]
        self._lost = lost
        self._batch.without(gone, error)

    def _wait_a_moment(self) -> bool:
        """Try the commit again soon; False once that has gone on for too long."""
        now_s = self._loop.time()
        self._busy_since = self._busy_since or now_s
        if now_s - self._busy_since > _BUSY_S:
            return False
        self._loop.call_later(_RETRY_S, self._flush)
        return True

    def _fail(self, batch: Batch, error: StoreError) -> None:
        self._batch = Batch()
        self._scheduled = False
        self._busy_since = None
        for num in batch.turns():
            self._broken[num] = error
        batch.fail(error)

    # ------------------------------------------------------------------ taking turns over

    async def claim(self, turn_id: str, at: float) -> Claimed | Held | Over | None:
        """Take an unfinished turn that no live process holds."""
        del at  # of no use here; a store with leases needs it
        return await self._exclusively(lambda: self._claim(turn_id))

    def _claim(self, turn_id: str) -> Claimed | Held | Over | None:
        self._refuse_if_fenced()
        execute = self._connection.execute
        row = execute(
            "SELECT num, status, runtime, words FROM turn WHERE id=?", (turn_id,)
        ).fetchone()
        if row is None:
            return None
        num, status, holder, words = row
        if TurnStatus(status).final:
            return Over(self._reader.frames_of(num))
        # A turn of ours of which a frame could not be written is run by nobody any more.
        given_up = holder == self._runtime and num in self._broken
        if holder is not None and not given_up:
            if alive.is_alive(self.path, holder):
                (name,) = execute("SELECT holder FROM runtime WHERE no=?", (holder,)).fetchone()
                return Held(name)
            # Whoever it was can no longer record, should it come back after all.
            execute("UPDATE runtime SET fenced=1 WHERE no=?", (holder,))
        execute(
            "UPDATE turn SET status=?, ended=NULL, runtime=? WHERE num=?",
            (TurnStatus.RUNNING, self._runtime, num),
        )
        self._broken.pop(num, None)
        # What it wrote itself in an earlier life, others may have changed since.
        (ended,) = execute(
            "SELECT coalesce(max(seq), ?) FROM frame WHERE turn=?", (self._position, num)
        ).fetchone()
        self._leases.refresh(self._mine, self._position, since=ended)
        self._leases.adopt(num)
        self._mine[num] = ended
        self._words[num] = words
        return Claimed(num, self._reader.frames_of(num), ended)

    async def amend(self, turn_id: str, decide: Amend) -> bool:
        """Append what `decide` makes of a turn's frames, in one transaction."""
        found = await self._exclusively(lambda: self._amend(turn_id, decide))
        self._position = max(self._position, self._amended)
        return found

    def _amend(self, turn_id: str, decide: Amend) -> bool:
        execute = self._connection.execute
        row = execute("SELECT num, status FROM turn WHERE id=?", (turn_id,)).fetchone()
        if row is None:
            return False
        num, status = row
        frame = decide(self._reader.frames_of(num))
        if frame is not None:
            bodies: dict[bytes, bytes] = {}
            packed = self._packer.pack(frame, bodies)
            self._connection.executemany(BODY, bodies.items())
            self._amended = execute(FRAME, (num, packed)).lastrowid or 0
            # Somebody decided, so `recover` may take it up even if we die right here.
            parked = TurnStatus(status) in _PARKED
            left = TurnStatus.STOPPED if parked else status
            execute("UPDATE turn SET status=?, words=words+1 WHERE num=?", (left, num))
        return True

    async def _exclusively(self, work: Callable[[], T]) -> T:
        """Run `work` in a transaction of its own, waiting for other processes' writes."""
        give_up_s = self._loop.time() + _BUSY_S
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise translated(error, self.path) from error
                if self._loop.time() > give_up_s:
                    raise StoreBusyError(
                        self.path,
                        f"another process held its write lock for {_BUSY_S:g} s",
                        "Let that process end, then try again.",
                    ) from error
            await asyncio.sleep(_RETRY_S)
        try:
            result = work()
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._leases.invalidate()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise translated(error, self.path) from error
            raise
        self._flusher_note()
        return result

    def _flusher_note(self) -> None:
        flusher = getattr(self, "_flusher", None)
        if flusher is not None:
            flusher.committed += 1

    # ------------------------------------------------------------------ reading

    def frames(self, turn_id: str) -> list[bytes] | None:
        """Return the committed frames of a turn."""
        return self._reader.frames(turn_id)

    def heads(
        self,
        *,
        statuses: tuple[TurnStatus, ...] = (),
        session: str | None = None,
        limit: int = 100,
    ) -> list[TurnHead]:
        """Return turns, newest first."""
        return self._reader.heads(statuses=statuses, session=session, limit=limit)

    def unfinished(self) -> list[str]:
        """Return the ids of turns that nobody runs and nobody has to decide, oldest first."""
        return self._reader.unfinished(by=self._runtime, given_up=self._broken)

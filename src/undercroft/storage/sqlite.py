"""A journal in one SQLite file: group commit on the event loop, flushes and checkpoints beside it.

Keeps: all that is queued in one tick of the loop is one transaction; a frame that asked for it
is on disk before anybody is told so; a process that was declared dead records nothing.
Measured: a commit on the loop costs some 20 µs, a round trip to a writer thread 20 to 60;
a flush takes milliseconds, so it happens in a thread.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from undercroft.errors import FencedError, SettingError, StoreBusyError, StoreError
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import Claimed, Held, Over, TurnHead
from undercroft.ports import Amend
from undercroft.storage import alive
from undercroft.storage.read import SqliteReader
from undercroft.storage.schema import MIGRATIONS, connect, is_busy, prepare, translated
from undercroft.storage.wal import RELEASED_MAX, Checkpointer, Flusher, Releaser

Sync = Literal["writes", "always", "never"]
T = TypeVar("T")

_BUSY_S = 30.0
_RETRY_S = 0.002
# How long what nobody waits for may gather company before it is committed.
_GATHER_S = 0.0005
_PARKED = (TurnStatus.WAITING, TurnStatus.IN_DOUBT)


# A turn that was being parked while somebody said a word about it waits for no one: it is
# left runnable, so that `recover` finds it should this process die before it looks again.
_MARK = """
    UPDATE turn
    SET status = CASE WHEN ? IN ('waiting', 'in_doubt') AND words > ? THEN 'stopped' ELSE ? END,
        ended = ?, runtime = ?
    WHERE num = ?
"""


class _Batch:
    """What one transaction will write."""

    __slots__ = ("begins", "frames", "marks", "size_bytes", "sync", "waiters")

    def __init__(self) -> None:
        self.begins: list[tuple[Any, ...]] = []
        self.frames: list[tuple[int, bytes]] = []
        self.marks: list[tuple[Any, ...]] = []
        self.waiters: list[tuple[asyncio.Future[int], bool]] = []
        self.sync = False
        self.size_bytes = 0

    def turns(self) -> set[int]:
        """The numbers of the turns that this batch is about."""
        begun = {begin[0] for begin in self.begins}
        return begun | {num for num, _ in self.frames} | {mark[-1] for mark in self.marks}


class SqliteStore:
    """A `Store` in one file; several processes may share it.

    Args:
        path: Of the file; made where there is none.
        sync: What must survive a power cut: `writes` (the default) flushes a commit that
            holds the intent or the outcome of a write, `always` every commit, `never` none.
            Whatever is chosen, every commit survives the end of the process.
        wal_limit_bytes: Bound of the write-ahead log; at least 1 MiB.
    """

    def __init__(
        self, path: str | Path, *, sync: Sync = "writes", wal_limit_bytes: int = 64 << 20
    ) -> None:
        if sync not in ("writes", "always", "never"):
            raise SettingError("sync", sync, "'writes', 'always' or 'never'")
        if wal_limit_bytes < 1 << 20:
            raise SettingError("wal_limit_bytes", wal_limit_bytes, "at least 1 MiB")
        self.path = str(path)
        self._sync, self._wal_limit_bytes = sync, wal_limit_bytes
        self._runtime = 0
        self._turns = 0
        self._batch = _Batch()
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._busy_since: float | None = None
        self._broken: dict[int, StoreError] = {}
        # How many words had been said about a turn when it was claimed.
        self._words: dict[int, int] = {}
        self._dead: StoreError | None = None
        self._connection: sqlite3.Connection
        self._reader: SqliteReader

    @property
    def runtime(self) -> int:
        """The number under which this process records."""
        return self._runtime

    @property
    def backlog_bytes(self) -> int:
        """Size of what is queued and not yet committed."""
        return self._batch.size_bytes

    # ------------------------------------------------------------------ opening and closing

    async def open(self) -> None:
        """Open the file, bring it to the newest schema, and register this process."""
        self._loop = asyncio.get_running_loop()
        self._connection = connect(self.path)
        self._reader = SqliteReader(self._connection, self.path)
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
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        row = self._connection.execute(
            "INSERT INTO runtime(holder, began) VALUES(?, ?) RETURNING no", (holder, time.time())
        ).fetchone()
        # Held before the row can be seen, or others would take us for dead.
        alive.hold(self.path, row[0])
        self._runtime = row[0]
        self._turns = row[0] << 32

    async def close(self) -> None:
        """Commit what is queued, flush, and let go of the file."""
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
        self._batch.begins.append(
            (
                self._turns,
                head.turn_id,
                head.kind,
                head.target,
                head.session,
                head.status,
                head.began_at,
                self._runtime,
            )
        )
        self._schedule()
        return self._turns

    def append(self, num: int, frame: bytes, *, sync: bool = False) -> int:
        """Queue a frame; return its place in the batch."""
        if self._broken or self._dead:
            self._check(num)
        batch = self._batch
        if sync:
            batch.sync = True
        frames = batch.frames
        frames.append((num, frame))
        batch.size_bytes += len(frame)
        self._schedule()
        return len(frames) - 1

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

    def durable(self, *, sync: bool = False) -> Awaitable[int] | None:
        """Return what to await until all that was queued so far is committed, and flushed."""
        if self._sync != "writes":
            sync = self._sync == "always"
        if self._scheduled:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
                self._loop.call_soon(self._flush)
            waiter: asyncio.Future[int] = self._loop.create_future()
            self._batch.waiters.append((waiter, sync))
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
            position = self._commit(batch)
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
        self._batch = _Batch()
        self._scheduled = False
        self._busy_since = None
        flusher = self._flusher
        flusher.committed += 1
        self._checkpointer.wrote(batch.size_bytes)
        if self._sync == "always" or (batch.sync and self._sync == "writes"):
            flusher.want(flusher.committed)
        for waiter, sync in batch.waiters:
            if sync:
                flusher.wait(flusher.committed, waiter, position)
        self._releaser.release((waiter, position) for waiter, sync in batch.waiters if not sync)

    def _commit(self, batch: _Batch) -> int:
        """Write `batch` in one transaction; return the position of its first frame."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            self._refuse_if_fenced()
            if batch.begins:
                self._connection.executemany(
                    "INSERT INTO turn(num, id, kind, target, session, status, began, runtime) "
                    "VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                    batch.begins,
                )
            self._connection.executemany("INSERT INTO frame(turn, data) VALUES(?, ?)", batch.frames)
            (last,) = execute("SELECT last_insert_rowid()").fetchone()
            if batch.marks:
                self._connection.executemany(_MARK, batch.marks)
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        return int(last) - len(batch.frames) + 1

    def _refuse_if_fenced(self) -> None:
        row = self._connection.execute(
            "SELECT fenced FROM runtime WHERE no=?", (self._runtime,)
        ).fetchone()
        if row is None or row[0]:
            raise FencedError(
                self.path,
                "this process was declared dead and its turns were taken over",
                "Let it end; the other process goes on with them.",
            )

    def _wait_a_moment(self) -> bool:
        """Try the commit again soon; False once that has gone on for too long."""
        now_s = self._loop.time()
        self._busy_since = self._busy_since or now_s
        if now_s - self._busy_since > _BUSY_S:
            return False
        self._loop.call_later(_RETRY_S, self._flush)
        return True

    def _fail(self, batch: _Batch, error: StoreError) -> None:
        self._batch = _Batch()
        self._scheduled = False
        self._busy_since = None
        for num in batch.turns():
            self._broken[num] = error
        for waiter, _ in batch.waiters:
            if not waiter.done():
                waiter.set_exception(error)

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
        self._words[num] = words
        return Claimed(num, self._reader.frames_of(num))

    async def amend(self, turn_id: str, decide: Amend) -> bool:
        """Append what `decide` makes of a turn's frames, in one transaction."""
        return await self._exclusively(lambda: self._amend(turn_id, decide))

    def _amend(self, turn_id: str, decide: Amend) -> bool:
        execute = self._connection.execute
        row = execute("SELECT num, status FROM turn WHERE id=?", (turn_id,)).fetchone()
        if row is None:
            return False
        num, status = row
        frame = decide(self._reader.frames_of(num))
        if frame is not None:
            execute("INSERT INTO frame(turn, data) VALUES(?, ?)", (num, frame))
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
        except sqlite3.Error as error:
            self._connection.execute("ROLLBACK") if self._connection.in_transaction else None
            raise translated(error, self.path) from error
        except BaseException:
            self._connection.execute("ROLLBACK")
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

"""The board of breakers in a SQLite journal: a connection of its own, in a thread of its own.

Keeps: nothing of it runs on the event loop; it waits for no lock for longer than a moment; a file
that was deleted is not made anew, and one that was replaced is told apart from the one before.
Measured: a look at a journal that nobody wrote to takes some 50 µs of a processor.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from undercroft.errors import StoreError
from undercroft.model.circuit import Chain, News, Post, Prober, Stored
from undercroft.storage import alive
from undercroft.storage.board import after, granted, holding
from undercroft.storage.circuits import (
    append,
    forget,
    last_of,
    living,
    read_last,
    right_of,
    set_right,
    spend,
    total_of,
)
from undercroft.storage.register import holder, register
from undercroft.storage.schema import MIGRATIONS, checked_version, translated

T = TypeVar("T")

# An exchange waits so long for others to end their writing; it is tried again soon anyway.
_BUSY_MS = 40
_SWEEP_S = 60.0
# How long leaving may take, where the disk does not answer.
_CLOSE_S = 1.0
# A loop whose clock differs by more from that of the machine has one of its own.
_ELSEWHEN_S = 60.0


class _Worker:
    """A daemon thread that does one thing after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None]
        self._queue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="undercroft-board", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Return the result of `work`, soon."""
        waiter: asyncio.Future[T] = self._loop.create_future()
        self._queue.put((work, waiter))
        return waiter

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            work, waiter = item
            value, error = None, None
            try:
                value = work()
            except BaseException as raised:  # noqa: BLE001  it is raised where it is waited for
                error = raised
            # Where the loop is closed by now, nobody is waiting any more.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_settle, waiter, value, error)

    def stop(self) -> None:
        """End the thread after what it was given; one that hangs is left behind."""
        self._queue.put(None)
        self._thread.join(_CLOSE_S)


def _settle(waiter: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(value)
    else:
        waiter.set_exception(error)


class SqliteBoard:
    """The `Board` of one process in a journal's file.

    Args:
        path: Of the journal, which is open already.
        runtime: The number under which this process records.
        lease_s: As of the store.
        known: The last transition of each service, as the store read it, and up to where.
    """

    def __init__(
        self, path: str, runtime: int, lease_s: float, known: tuple[int, dict[str, Stored]]
    ) -> None:
        # Somebody may change the working folder meanwhile.
        self._path = str(Path(path).absolute())
        self._runtime, self._lease_s = runtime, lease_s
        self._registered: int | None = None
        self._first: News | None = News(*known)
        self._worker: _Worker | None = None
        self._connection: sqlite3.Connection | None = None
        # The file that the connection is of, and which journal it holds.
        self._file: tuple[int, int] | None = None
        self._journal: tuple[int, int, str] | None = None
        self._anew = self._told = False
        # What SQLite said of the file when it was read last, and how far.
        self._version: int | None = None
        self._upto = 0
        self._swept_s: float | None = None

    @property
    def runtime(self) -> int:
        """The number under which this process tells."""
        return self._runtime

    def listen(self, wake: Callable[[], None]) -> bool:
        """Say that it has to be asked: SQLite tells nobody of what others write."""
        del wake
        return False

    async def exchange(self, post: Post) -> News:
        """Tell and be told; at first, if nothing is told, what the store saw as it was opened."""
        first, self._first = self._first, None
        if first is not None and not (post.writes or post.totals or post.since):
            return first
        return await self._do(lambda: self._exchange(post))

    async def gauges(self) -> list[tuple[int, bytes]]:
        """Return the figures of all live processes."""
        return await self._do(self._gauges)

    async def close(self) -> None:
        """Take back all figures and rights of this process, and end the thread."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.wait({worker.do(self._leave)}, timeout=_CLOSE_S)
            worker.stop()
        elif self._connection is not None:
            self._leave()

    async def _do(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            if abs(loop.time() - time.monotonic()) > _ELSEWHEN_S:
                # The loop of a test, whose time would run away while a thread is waited for.
                return work()
            if self._worker is None:
                self._worker = _Worker(loop)
            return await self._worker.do(work)
        except sqlite3.Error as error:
            raise translated(error, self._path) from error
        except OSError as error:
            raise StoreError(
                self._path, f"a file beside it: {error}", "Check the permissions of its folder."
            ) from error

    # ------------------------------------------------------------------ in the thread

    def _opened(self) -> sqlite3.Connection:
        """Return a connection to the file that stands there now.

        Raises:
            StoreError: There is none, or it is no journal of this version.
        """
        try:
            stat = Path(self._path).stat()
        except OSError as error:
            self._let_go()
            problem = "there is no such file" if isinstance(error, FileNotFoundError) else error
            raise StoreError(self._path, f"{problem}", "Put it back where it was.") from error
        if self._connection is not None and self._file != (stat.st_dev, stat.st_ino):
            self._let_go()
        if self._connection is None:
            self._open((stat.st_dev, stat.st_ino))
        assert self._connection is not None  # noqa: S101  for the type checker
        return self._connection

    def _open(self, file: tuple[int, int]) -> None:
        # Never made anew: a journal that was deleted is not ours to bring back.
        connection = sqlite3.connect(
            f"{Path(self._path).as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
            self._check(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            # The store moves the log; and it would be done here in the middle of an exchange.
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute("PRAGMA cache_size=-500")
            row = connection.execute("SELECT id FROM copy").fetchone()
            journal = (*file, str(row[0]) if row else "")
            if self._journal not in (None, journal):
                self._anew = True
                self._recognise(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._file, self._journal = connection, file, journal
        self._version, self._upto, self._swept_s = None, 0, None

    def _check(self, connection: sqlite3.Connection) -> None:
        if checked_version(connection, self._path, len(MIGRATIONS)) < len(MIGRATIONS):
            raise StoreError(
                self._path, "another journal lies there, of an older version", "Put ours back."
            )

    def _recognise(self, connection: sqlite3.Connection) -> None:
        """Take another number where that of this process is somebody else's in this journal."""
        row = connection.execute("SELECT holder FROM runtime WHERE no=?", (self._runtime,))
        if row.fetchone() == (holder(),):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            number = register(connection, self._path, self._lease_s)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._runtime = self._registered = number

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _exchange(self, post: Post) -> News:
        connection = self._opened()
        failed: StoreError | None = None
        if self._anew:
            # The post was meant for another journal.
            post = Post()
        elif post.writes:
            try:
                return self._write(connection, post)
            except sqlite3.Error as error:
                failed = translated(error, self._path)
        elif not post.totals:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            if version == self._version and post.since == self._upto:
                return News(upto=self._upto)
        news, self._version = self._read(connection, post)
        self._upto, anew, self._anew = news.upto, self._anew, False
        return news._replace(anew=anew, error=failed)

    def _read(self, connection: sqlite3.Connection, post: Post) -> tuple[News, int]:
        # In this order: what is written between the two is read, and read once more.
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        upto, last = read_last(connection, self._path, post.since)
        totals = {account: total_of(connection, account) for account in post.totals}
        return News(upto, last, totals=totals), version

    def _write(self, connection: sqlite3.Connection, post: Post) -> News:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for service, chain in post.chains.items():
                self._append(connection, service, chain)
            probers = self._try(connection, post)
            self._tell(connection, post)
            self._sweep(connection)
            # Before others may write again, so that the writer knows its own words for last.
            news, version = self._read(connection, post)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._version, self._upto, self._told = version, news.upto, True
        return news._replace(probers=probers)

    def _append(self, connection: sqlite3.Connection, service: str, chain: Chain) -> None:
        stored = last_of(connection, self._path, service)
        epoch = stored.epoch if stored else 0
        if chain.epoch != epoch or not chain.changes:
            return
        for change in chain.changes:
            epoch += 1
            append(connection, service, epoch, change)
        right = after(chain, epoch, right_of(connection, service), self._runtime)
        set_right(connection, service, right)

    def _try(self, connection: sqlite3.Connection, post: Post) -> dict[str, Prober]:
        """Give rights back, keep them and ask for them; return who has those in question."""
        own, probers = self._runtime, {}
        for service in (*post.gives_back, *post.beats):
            right = right_of(connection, service)
            if right is not None and right.runtime == own:
                beaten = right._replace(beat=right.beat + 1)
                set_right(connection, service, None if service in post.gives_back else beaten)
        for service in (*post.asks, *post.beats):
            last, right = last_of(connection, self._path, service), right_of(connection, service)
            if service in post.asks:
                taken = granted(post.asks[service], last, right, own, self._is_alive)
                if taken is not None:
                    set_right(connection, service, taken)
                    right = taken
            prober = holding(right, last.epoch if last else 0)
            if prober is not None:
                probers[service] = prober
        return probers

    def _tell(self, connection: sqlite3.Connection, post: Post) -> None:
        execute, own = connection.execute, self._runtime
        for service, data in post.gauges.items():
            if data:
                execute("INSERT OR REPLACE INTO gauge VALUES(?, ?, ?)", (own, service, data))
            else:
                execute("DELETE FROM gauge WHERE runtime=? AND service=?", (own, service))
        for account, amount in post.spends.items():
            spend(connection, account, own, amount)

    def _is_alive(self, runtime: int) -> bool:
        return alive.is_alive(self._path, runtime)

    def _sweep(self, connection: sqlite3.Connection) -> None:
        """Once in a while forget the figures of dead processes, and add up what they spent."""
        now_s = time.monotonic()
        if self._swept_s is not None and now_s - self._swept_s < _SWEEP_S:
            return
        rows = connection.execute(
            "SELECT runtime FROM gauge UNION SELECT runtime FROM spent"
        ).fetchall()
        for (runtime,) in rows:
            if runtime and runtime != self._runtime and not self._is_alive(runtime):
                forget(connection, runtime)
        self._swept_s = now_s

    def _gauges(self) -> list[tuple[int, bytes]]:
        rows = self._opened().execute("SELECT runtime, data FROM gauge ORDER BY runtime, service")
        return living(rows.fetchall(), self._is_alive)

    def _leave(self) -> None:
        with suppress(sqlite3.Error, StoreError):
            connection = self._opened()
            for table in ("gauge", "prober") if self._told else ():
                connection.execute(f"DELETE FROM {table} WHERE runtime=?", (self._runtime,))  # noqa: S608  a name of ours
        self._let_go()
        if self._registered is not None:
            alive.release(self._path, self._registered)

"""The two slow things about a write-ahead log, off the event loop: flushing and checkpoints.

Keeps: a waiter is released only after a flush that began after its commit; once a flush
failed, no later one is believed; the log is bounded, also under load that never pauses.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from undercroft.errors import StoreError
from undercroft.storage.schema import connect, log_path

log = logging.getLogger(__name__)

_flush = getattr(os, "fdatasync", os.fsync)

# What even the smallest commit adds to the log: a page each of some tables and indexes.
_COMMIT_BYTES = 16 << 10


# How many waiters are told in one tick of the loop that their commit is durable. Each goes
# on at once, so this bounds how long a tick takes, and what a crash in its middle can lose.
RELEASED_MAX = 64
FLUSHED_MAX = 4

Waiter = asyncio.Future[Any]


class Releaser:
    """Tells waiters that what they wait for is durable: in their order, a few each tick."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop, self._most = loop, most
        self._ready: deque[tuple[Waiter, Any]] = deque()

    def release(self, waiters: Iterable[tuple[Waiter, Any]]) -> None:
        """Set each waiter's result, soon."""
        idle = not self._ready
        self._ready.extend(waiters)
        if idle and self._ready:
            self._drain()

    def _drain(self) -> None:
        ready = self._ready
        for _ in range(min(self._most, len(ready))):
            waiter, result = ready.popleft()
            if not waiter.done():
                waiter.set_result(result)
        if ready:
            self._loop.call_soon(self._drain)


class Flusher:
    """Flushes the log to disk in a thread; one flush covers every commit before it."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self._path, self._loop = path, loop
        # Fewer than after a commit: a flush lets a crowd gather.
        self._releaser = Releaser(loop, FLUSHED_MAX)
        self._descriptor = os.open(log_path(path), os.O_RDONLY | os.O_CLOEXEC)
        self._thread = ThreadPoolExecutor(1, "undercroft-flush")
        self._waiting: list[tuple[int, Waiter, Any]] = []
        self._under_way: asyncio.Future[None] | None = None
        self._failed: StoreError | None = None
        self._wanted = 0
        self.committed = 0
        self.flushed = 0

    def want(self, commit: int) -> None:
        """Get commit number `commit` on disk, though nobody waits for it."""
        self._wanted = commit
        if self._under_way is None and self._failed is None:
            self._start()

    def wait(self, commit: int, waiter: Waiter, result: Any) -> None:
        """Set `result` on `waiter` once commit number `commit` is on disk."""
        if self._failed is not None:
            waiter.set_exception(self._failed)
            return
        self._waiting.append((commit, waiter, result))
        if self._under_way is None:
            self._start()

    def _start(self) -> None:
        covered = self.committed
        try:
            flush = self._loop.run_in_executor(self._thread, _flush, self._descriptor)
        except RuntimeError:  # as in `close`
            flush = self._loop.create_future()
            try:
                _flush(self._descriptor)
                flush.set_result(None)
            except OSError as error:
                flush.set_exception(error)
        self._under_way = flush
        self._under_way.add_done_callback(lambda done: self._ended(covered, done))

    def _ended(self, covered: int, flush: asyncio.Future[None]) -> None:
        self._under_way = None
        error = flush.exception()
        waiting, self._waiting = self._waiting, []
        if error is not None:
            # Kept: the kernel reports a lost page once, and the next flush would succeed.
            self._failed = StoreError(
                self._path,
                f"flushing failed ({error})",
                "Check the disk, then start this process anew and resume the turns.",
            )
            for _, waiter, _ in waiting:
                if not waiter.done():
                    waiter.set_exception(self._failed)
            return
        self.flushed = covered
        self._waiting = [entry for entry in waiting if entry[0] > covered]
        self._releaser.release((w, result) for commit, w, result in waiting if commit <= covered)
        if self._waiting or self._wanted > covered:
            self._start()

    async def close(self) -> None:
        """Release whoever still waits, flush once more and let go."""
        while self._under_way is not None:
            await asyncio.wait({self._under_way})
        try:
            letting = asyncio.get_running_loop().run_in_executor(None, self._let_go)
        except RuntimeError:
            self._let_go()  # the process ends, and no thread can be begun any more
        else:
            await letting

    def _let_go(self) -> None:
        self._thread.shutdown(wait=True)
        with suppress(OSError):
            _flush(self._descriptor)
        os.close(self._descriptor)


class Checkpointer:
    """Moves the log into the database file in a thread, and starts the log over at its bound.

    Attributes:
        behind: Whether the log outgrew its bound, so that commits should wait a moment.
    """

    def __init__(self, path: str, limit_bytes: int) -> None:
        self._path, self._limit_bytes = path, limit_bytes
        self._log_path = log_path(path)
        self._go = threading.Event()
        self._closed = False
        self._since_bytes, self._looks = 0, 0
        # Of the log's file when it was last started over; it need not shrink then.
        self._accepted_bytes = 0
        self.behind = False
        self._thread = threading.Thread(
            target=self._work, name="undercroft-checkpoint", daemon=True
        )
        self._thread.start()

    def wrote(self, size_bytes: int) -> None:
        """Take note of a commit; starts a checkpoint every quarter of the limit, at the least."""
        self._since_bytes += size_bytes + _COMMIT_BYTES
        if self._since_bytes * 16 < self._limit_bytes:
            return
        self._since_bytes = 0
        self._looks += 1
        log_bytes = Path(self._log_path).stat().st_size
        grown = log_bytes > self._accepted_bytes
        self.behind = grown and log_bytes > self._limit_bytes
        if self._looks % 4 == 0 or (grown and log_bytes * 2 > self._limit_bytes):
            self._go.set()

    def _work(self) -> None:
        with closing(connect(self._path)) as connection:
            # Only this connection waits for locks: it is not on the event loop.
            connection.execute("PRAGMA busy_timeout=250")
            while self._go.wait() and not self._closed:
                self._go.clear()
                try:
                    self._checkpoint(connection)
                except (sqlite3.Error, OSError) as error:
                    log.warning("checkpoint of %s put off: %s", self._path, error)
                finally:
                    self.behind = False

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        # Passive ones alone starve: under steady writing the log never becomes reusable.
        log_bytes = Path(self._log_path).stat().st_size
        if log_bytes * 2 > self._limit_bytes:
            # Writing over a file is cheaper than growing it, so it shrinks only if it must.
            mode = "TRUNCATE" if log_bytes > self._limit_bytes else "RESTART"
            (busy, _, _) = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            # A reader that stays must not stop us: try again some growth later.
            spare_bytes = self._limit_bytes // 4 if busy else 0
            self._accepted_bytes = Path(self._log_path).stat().st_size + spare_bytes

    def close(self) -> None:
        """Stop, after the checkpoint that is under way."""
        self._closed = True
        self._go.set()
        self._thread.join()

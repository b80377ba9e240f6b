"""Faults on demand: a journal that kills its process, or fails, at a chosen write."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

from undercroft.errors import StoreError
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.storage.schema import is_busy
from undercroft.storage.sqlite import SqliteStore, Sync


class FaultyStore(SqliteStore):
    """A SQLite journal with a fault at one of its commits.

    Killing the process at every commit in turn, just before and just after, and resuming,
    shows that a workflow survives wherever it is stopped.

    Args:
        path: Of the journal.
        kill_before: Number of the commit, from 1, before which the process is killed.
        kill_after: The same, after it is durable in the file and before anybody is told.
        fail_at: Number of the commit that fails with `error`.
        error: As SQLite would raise it.
        sync: As for the runtime.

    Attributes:
        commits: How many commits there were.
    """

    def __init__(  # noqa: PLR0913  each keyword is one fault
        self,
        path: str | Path,
        *,
        kill_before: int = 0,
        kill_after: int = 0,
        fail_at: int = 0,
        error: sqlite3.Error | None = None,
        sync: Sync = "writes",
    ) -> None:
        super().__init__(path, sync=sync)
        self.commits = 0
        self._kill_before, self._kill_after = kill_before, kill_after
        self._fail_at, self._error = fail_at, error

    def _commit(self, batch: Any) -> Any:
        self.commits += 1
        if self.commits == self._kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.commits == self._fail_at and self._error is not None:
            raise self._error
        try:
            written = super()._commit(batch)
        except sqlite3.Error as error:
            # Somebody else was writing just then: it is tried again, and is the same commit.
            self.commits -= is_busy(error)
            raise
        if self.commits == self._kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return written


class CrashingStore(MemoryStore):
    """A journal in memory whose runtime dies at one of its commits, without a real process.

    From then on nothing that it queues is ever written, and whoever waits for it is told so;
    a second store on the same `MemoryJournal` sees a dead runtime and can take its turns.

    Args:
        journal: What survives.
        crash_before: Number of the commit, from 1, that is the first to be lost.
        crash_after: The same, for the commit that is the last to be kept.

    Attributes:
        commits: How many commits there were.
    """

    def __init__(
        self, journal: MemoryJournal, *, crash_before: int = 0, crash_after: int = 0
    ) -> None:
        super().__init__(journal)
        self.commits = 0
        self._crash_before, self._crash_after = crash_before, crash_after
        self._crashed = False

    def _commit(self, work: Any) -> None:
        if work:
            self.commits += 1
        if self._crashed or (work and self.commits == self._crash_before):
            self._crash()
        super()._commit(work)
        if work and self.commits == self._crash_after:
            self._crash()

    def _crash(self) -> None:
        self._crashed = True
        self.journal.alive.discard(self.runtime)
        raise StoreError(self.path, "its process died", "Resume its turns on another store.")

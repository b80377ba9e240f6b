"""Faults on demand: a journal that kills its process, or fails, at a chosen write."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

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

    def __init__(
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

    def _commit(self, batch: Any) -> int:
        self.commits += 1
        if self.commits == self._kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.commits == self._fail_at and self._error is not None:
            raise self._error
        position = super()._commit(batch)
        if self.commits == self._kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return position

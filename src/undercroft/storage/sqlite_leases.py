"""Ownership in the SQLite file: what other processes wrote is read before anything is granted."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from undercroft.model.event import decode_frames
from undercroft.model.outcome import TurnStatus
from undercroft.storage import alive
from undercroft.storage.bodies import Bodies
from undercroft.storage.leases import LeaseBook
from undercroft.storage.schema import BODY_OF

# How far back what others wrote is looked for: more would hold the process up.
_LOOK_BACK_MAX = 50_000
_UNFINISHED = (TurnStatus.RUNNING, TurnStatus.STOPPED, TurnStatus.IN_DOUBT)


class SqliteLeases(LeaseBook):
    """The leases in one file; every method runs inside a transaction of its connection."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        super().__init__()
        self._execute = connection.execute
        self._path = path
        self._bodies = Bodies(self._body)
        # What SQLite says of the file when others wrote to it; None: read everything anew.
        self._version: int | None = None
        # Of the last frame of others that was read.
        self._read = 0
        # Every write after this position is known.
        self._since = 0

    def _body(self, name: bytes) -> bytes | None:
        row = self._execute(BODY_OF, (name,)).fetchone()
        return row[0] if row else None

    def invalidate(self) -> None:
        """Forget who owns what: a transaction that changed it was rolled back."""
        self._version = None

    @property
    def read(self) -> int:
        """Position of the last frame in the journal, as of the last refresh."""
        return self._read

    def let_go(self, position: int) -> None:
        """Forget writes up to `position`, which nobody here need know of any more."""
        if self.writes.forget(position):
            self._since = max(self._since, position)

    def refresh(self, mine: Mapping[int, int], position: int, *, since: int | None = None) -> None:
        """Read what other processes wrote since.

        Args:
            mine: The turns that run here, with the position from which on each must know of
                the writes of others.
            position: Of the last frame that this process wrote.
            since: The same of a turn that is about to be taken up here.
        """
        (version,) = self._execute("PRAGMA data_version").fetchone()
        if self._version is None or (since is not None and since < self._since):
            known = [*mine.values(), position if since is None else since]
            self._read_anew(max(min(known), position - _LOOK_BACK_MAX))
        elif version == self._version:
            # Nobody else wrote anything, so whatever stands up to there is our own.
            self._read = max(self._read, position)
            return
        else:
            rows = self._execute(
                "SELECT seq, turn, data FROM frame WHERE seq > ? ORDER BY seq", (self._read,)
            )
            for at, num, frame in rows:
                self._read = max(self._read, at)
                if num not in mine:
                    self.tell(num, at, decode_frames([self._bodies.unpack(frame)]))
        self._version = version

    def _read_anew(self, since: int) -> None:
        """Read who owns what, and what was written after `since`, also by turns that are over."""
        self.forget()
        rows = self._execute(
            "SELECT seq, turn, data FROM frame WHERE turn IN (SELECT num FROM turn WHERE "
            "status IN (?, ?, ?) UNION SELECT turn FROM frame WHERE seq > ?) ORDER BY seq",
            (*_UNFINISHED, since),
        )
        for at, num, frame in rows:
            self.tell(num, at, decode_frames([self._bodies.unpack(frame)]))
        (self._read,) = self._execute("SELECT coalesce(max(seq), 0) FROM frame").fetchone()
        self._since = since
        # What was left dirty may have been written since, by turns that are over.
        dirty = self.writes.first_dirty()
        if dirty is not None and self._read - _LOOK_BACK_MAX <= dirty < since:
            self._read_anew(dirty)

    def detach(self, num: int, runtime: int) -> bool:
        """Take turn `num` from a process that may come back, and leave it to be resumed."""
        changed = self._execute(
            "UPDATE turn SET runtime=NULL, status=? WHERE num=? AND runtime=?",
            (TurnStatus.STOPPED, num, runtime),
        )
        if changed.rowcount:
            self._execute("UPDATE runtime SET lost=lost+1 WHERE no=?", (runtime,))
        return bool(changed.rowcount)

    def turn_id(self, num: int) -> str:
        """Return the id of a turn."""
        row = self._execute("SELECT id FROM turn WHERE num=?", (num,)).fetchone()
        return str(row[0]) if row else ""

    def is_alive(self, runtime: int) -> bool:
        """Whether that process still runs."""
        return alive.is_alive(self._path, runtime)

    def beat_of(self, runtime: int) -> tuple[int, float]:
        """Return the beat of a process, and the seconds of silence after which it lapses."""
        row = self._execute("SELECT beat, lease_s FROM runtime WHERE no=?", (runtime,)).fetchone()
        return row or (0, 0.0)

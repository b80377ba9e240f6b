"""Ownership in the SQLite file.

What is owned now is mirrored in memory, and read anew where another process wrote to the
file since. A table of the last writes has one row for each resource that was ever written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from undercroft.layers.conflicts.ownership import Lease, Owners, paths_above
from undercroft.model.lease import Wrote
from undercroft.model.outcome import TurnStatus
from undercroft.storage import alive
from undercroft.storage.leases import LeaseBook

_WRITTEN = """
    INSERT INTO resource(key, wrote, turn) VALUES(?, ?, ?)
    ON CONFLICT(key) DO UPDATE SET wrote = excluded.wrote, turn = excluded.turn, dirty = NULL
"""
_DIRTY = """
    INSERT INTO resource(key, wrote, turn, dirty) VALUES(?1, ?2, ?3, ?3)
    ON CONFLICT(key) DO UPDATE SET wrote = excluded.wrote, dirty = excluded.dirty
"""
_LAST = """
    SELECT r.key, r.wrote, t.id, r.dirty FROM resource r
    LEFT JOIN turn t ON t.num = coalesce(r.dirty, r.turn)
    WHERE (r.key IN ({marks}) OR (r.key >= ? AND r.key < ?))
    AND coalesce(r.dirty, r.turn) != ?
"""


class SqliteLeases(LeaseBook):
    """The leases in one file; every method runs inside a transaction of its connection."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        super().__init__(Owners())
        self._execute = connection.execute
        self._path = path
        # What SQLite says of the file when others wrote to it; None: read everything anew.
        self._version: int | None = None

    def invalidate(self) -> None:
        """Forget the mirror: a transaction that changed it was rolled back."""
        self._version = None

    def refresh(self) -> None:
        """Read the mirror anew where another process wrote to the file."""
        (version,) = self._execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        self.owners = Owners()
        for key, turn, runtime, appends, opened, fence in self._execute(
            "SELECT key, turn, runtime, appends, opened, fence FROM lease"
        ):
            self.owners.add(Lease(key, turn, runtime, bool(appends), opened, fence))
        self._version = version

    def insert(self, lease: Lease) -> None:
        """Write a new lease."""
        self._execute(
            "INSERT INTO lease(turn, key, runtime, appends, opened, fence) "
            "VALUES(?, ?, ?, ?, ?, ?)",
            (lease.turn, lease.key, lease.runtime, lease.appends, lease.opened, lease.fence),
        )

    def update(self, lease: Lease) -> None:
        """Write what changed of a lease."""
        self._execute(
            "UPDATE lease SET opened=?, appends=?, runtime=? WHERE turn=? AND key=?",
            (lease.opened, lease.appends, lease.runtime, lease.turn, lease.key),
        )

    def delete(self, lease: Lease) -> None:
        """Remove a lease."""
        self._execute("DELETE FROM lease WHERE turn=? AND key=?", (lease.turn, lease.key))

    def insert_frame(self, num: int, frame: bytes) -> int:
        """Write a frame; return its position."""
        cursor = self._execute("INSERT INTO frame(turn, data) VALUES(?, ?)", (num, frame))
        return cursor.lastrowid or 0

    def last_writes(self, key: str, num: int) -> Iterable[Wrote]:
        """Return the last writes of turns but `num` to what overlaps with `key`."""
        paths = [*paths_above(key), key]
        # "0" is the character after "/": whatever lies below, by the index.
        bounds = (f"{key}/", f"{key}0") if key else ("", "\U0010ffff")
        query = _LAST.format(marks=", ".join("?" * len(paths)))
        for at, wrote, turn_id, dirty in self._execute(query, (*paths, *bounds, num)):
            yield Wrote(at, wrote, turn_id or "", dirty=dirty is not None)

    def mark_written(self, key: str, position: int, num: int) -> None:
        """Take note that turn `num` changed `key`."""
        self._execute(_WRITTEN, (key, position, num))

    def mark_dirty(self, key: str, position: int, num: int) -> None:
        """Take note that turn `num` was cut off while it changed `key`."""
        self._execute(_DIRTY, (key, position, num))

    def mark_clean(self, key: str, num: int) -> None:
        """Take note that what turn `num` left dirty is settled."""
        self._execute("UPDATE resource SET dirty=NULL WHERE key=? AND dirty=?", (key, num))

    def detach(self, num: int, runtime: int) -> None:
        """Take turn `num` from a process that may come back, and leave it to be resumed."""
        changed = self._execute(
            "UPDATE turn SET runtime=NULL, status=? WHERE num=? AND runtime=?",
            (TurnStatus.STOPPED, num, runtime),
        )
        if changed.rowcount:
            self._execute("UPDATE runtime SET lost=lost+1 WHERE no=?", (runtime,))

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

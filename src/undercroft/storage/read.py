"""Reading a SQLite journal: turns and their frames, also from a process that runs none."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from undercroft.errors import StoreError
from undercroft.model.circuit import CircuitChanged, Stored
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import TurnHead
from undercroft.storage import alive
from undercroft.storage.bodies import Bodies
from undercroft.storage.circuits import living, read_history, read_last
from undercroft.storage.schema import BODY_OF, MIGRATIONS, checked_version, connect, translated

_HEAD = "SELECT id, kind, target, session, status, began, ended, runtime FROM turn"
_BUSY_MS = 5_000
# Versions from this one on differ only by tables that were added; they are read as if empty.
_OLDEST = 2
_RUNNABLE = (TurnStatus.RUNNING, TurnStatus.STOPPED)


class SqliteReader:
    """The reads of a `Store` on one connection."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection, self._path = connection, path
        self._bodies = Bodies(self._body)

    def frames(self, turn_id: str) -> list[bytes] | None:
        """Return the committed frames of a turn, in order; None where there is none."""
        rows = self._rows("SELECT num FROM turn WHERE id=?", turn_id)
        return self.frames_of(rows[0][0]) if rows else None

    def all_frames(self) -> Iterator[tuple[int, str, bytes]]:
        """Yield the frames of all turns, in order, as (position, id of the turn, data)."""
        query = "SELECT f.seq, t.id, f.data FROM frame f JOIN turn t ON t.num=f.turn ORDER BY f.seq"
        try:
            for position, turn_id, data in self._connection.execute(query):
                yield position, turn_id, self._bodies.unpack(data)
        except sqlite3.Error as error:
            raise translated(error, self._path) from error

    def frames_of(self, num: int) -> list[bytes]:
        """Return the committed frames of turn number `num`."""
        rows = self._rows("SELECT data FROM frame WHERE turn=? ORDER BY seq", num)
        return [self._bodies.unpack(row[0]) for row in rows]

    def matching(self, beginning: str) -> list[str]:
        """Return at most two ids that are `beginning` or begin with it; `last` is the newest."""
        if beginning == "last":
            return [head.turn_id for head in self.heads(limit=1)]
        if self._rows("SELECT 1 FROM turn WHERE id=?", beginning):
            return [beginning]
        # Not LIKE: `_` and `%` in what somebody typed are no wildcards.
        rows = self._rows(
            "SELECT id FROM turn WHERE substr(id, 1, ?)=? LIMIT 2", len(beginning), beginning
        )
        return [row[0] for row in rows] if beginning else []

    def heads(
        self,
        *,
        statuses: tuple[TurnStatus, ...] = (),
        session: str | None = None,
        limit: int = 100,
    ) -> list[TurnHead]:
        """Return turns, newest first."""
        where, values = [], []
        if statuses:
            where.append(f"status IN ({', '.join('?' * len(statuses))})")
            values += [str(status) for status in statuses]
        if session is not None:
            where.append("session=?")
            values.append(session)
        # Ids begin with the time, so their index is the order of beginning.
        clause = f" WHERE {' AND '.join(where)}" if where else ""
        rows = self._rows(f"{_HEAD}{clause} ORDER BY id DESC LIMIT ?", *values, limit)
        return [self._head(row) for row in rows]

    def unfinished(self, *, by: int = 0, given_up: Collection[int] = ()) -> list[str]:
        """Return the ids of turns that nobody runs and nobody has to decide, oldest first.

        Runtime `by` holds turns that it has `given_up`, by their numbers.
        """
        rows = self._rows(
            "SELECT num, id, runtime FROM turn WHERE status IN (?, ?) ORDER BY id", *_RUNNABLE
        )
        return [
            turn_id
            for num, turn_id, holder in rows
            if (holder == by and num in given_up) or not self._held(holder)
        ]

    def circuits(self) -> dict[str, CircuitChanged]:
        """Return the last transition of each service's breaker."""
        if not self._has("circuit"):
            return {}
        try:
            _, last = read_last(self._connection, self._path)
        except sqlite3.Error as error:
            raise translated(error, self._path) from error
        return {service: stored.change for service, stored in last.items()}

    def circuit_history(self, service: str | None = None, *, limit: int) -> list[Stored]:
        """Return the last transitions of breakers, oldest first."""
        if not self._has("circuit"):
            return []
        try:
            return read_history(self._connection, self._path, service, limit)
        except sqlite3.Error as error:
            raise translated(error, self._path) from error

    def gauges(self) -> list[tuple[int, bytes]]:
        """Return the live figures of services, by the processes that tell them."""
        if not self._has("gauge"):
            return []
        rows = self._rows("SELECT runtime, data FROM gauge ORDER BY runtime, service")
        return living([(row[0], row[1]) for row in rows], self._held)

    def _has(self, table: str) -> bool:
        return bool(self._rows("SELECT 1 FROM sqlite_master WHERE name=?", table))

    def _head(self, row: tuple[Any, ...]) -> TurnHead:
        turn_id, kind, target, session, status, began, ended, holder = row
        held = self._held(holder)
        return TurnHead(turn_id, kind, target, session, TurnStatus(status), began, ended, held=held)

    def _held(self, holder: int | None) -> bool:
        return holder is not None and alive.is_alive(self._path, holder)

    def _body(self, name: bytes) -> bytes | None:
        rows = self._rows(BODY_OF, name)
        return rows[0][0] if rows else None

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise translated(error, self._path) from error


@contextmanager
def open_reader(path: str) -> Iterator[SqliteReader]:
    """Open a journal for reading only.

    Raises:
        StoreError: There is no such file, or it is no journal that this version can read.
    """
    if not Path(path).exists():
        raise StoreError(path, "there is no such file", "Name the journal with --db.")
    connection = connect(path, read_only=True)
    try:
        # Nobody else waits meanwhile, unlike on the connection of a store.
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        version = checked_version(connection, path, len(MIGRATIONS))
        if version == 0:
            raise StoreError(path, "it is empty", "Run a turn on it first: undercroft run.")
        if version < _OLDEST:
            raise StoreError(
                path,
                f"its schema is version {version}, and this Undercroft reads {_OLDEST} and newer",
                "Run a turn on it, or open it with uc.Runtime: that brings it forward.",
            )
        yield SqliteReader(connection, path)
    finally:
        connection.close()

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
from undercroft.storage.schema import (
    BODY_OF,
    LAST,
    MIGRATIONS,
    checked_version,
    connect,
    translated,
)

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

    def placed(self, turn_id: str) -> list[tuple[int, bytes]]:
        """Return the committed frames of a turn, in order, each with its position."""
        rows = self._rows(
            "SELECT seq, data FROM frame WHERE turn=(SELECT num FROM turn WHERE id=?) ORDER BY seq",
            turn_id,
        )
        return [(seq, self._bodies.unpack(data)) for seq, data in rows]

    def frames_after(self, position: int, *, limit: int) -> list[tuple[int, str, bytes]]:
        """Return frames of all turns that were committed later, as `all_frames`, in order."""
        rows = self._rows(
            "SELECT f.seq, t.id, f.data FROM frame f JOIN turn t ON t.num=f.turn "
            "WHERE f.seq>? ORDER BY f.seq LIMIT ?",
            position,
            limit,
        )
        return [(seq, turn_id, self._bodies.unpack(data)) for seq, turn_id, data in rows]

    def position(self) -> int:
        """Return the position of the last frame; 0 where there is none."""
        return int(self._rows(LAST)[0][0])

    def position_before(self, at: float) -> int:
        """Return a position that no frame precedes of a turn that was not over by then."""
        rows = self._rows(
            "SELECT min(f.seq) FROM turn t JOIN frame f ON f.turn=t.num "
            "WHERE t.began>=? OR t.ended IS NULL OR t.ended>=?",
            at,
            at,
        )
        return self.position() if rows[0][0] is None else int(rows[0][0]) - 1

    def changes(self) -> int:
        """Return a number that is another one once any other process has committed anything."""
        return int(self._rows("PRAGMA data_version")[0][0])

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
        return list(self.each_head(statuses=statuses, session=session, limit=limit))

    def each_head(
        self,
        *,
        statuses: tuple[TurnStatus, ...] = (),
        session: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = -1,
    ) -> Iterator[TurnHead]:
        """Yield turns, newest first, as they are asked for.

        Args:
            statuses: Only turns that stand like one of these; all if empty.
            session: Only turns of this one.
            since: Only turns that began at this time or later, in seconds since 1970.
            until: Only turns that began before.
            limit: At most so many; below 0, all.
        """
        where: list[str] = []
        values: list[object] = []
        if statuses:
            where.append(f"status IN ({', '.join('?' * len(statuses))})")
            values += [str(status) for status in statuses]
        for clause, value in (("session=?", session), ("began>=?", since), ("began<?", until)):
            if value is not None:
                where.append(clause)
                values.append(value)
        # Ids begin with the time, so their index is the order of beginning.
        clause = f" WHERE {' AND '.join(where)}" if where else ""
        rows = self._each(f"{_HEAD}{clause} ORDER BY id DESC LIMIT ?", *values, limit)
        return map(self._head, rows)

    def sessions(self, *, limit: int) -> list[str]:
        """Return the names of sessions, the one with the newest turn first."""
        rows = self._rows(
            "SELECT session FROM turn WHERE session IS NOT NULL GROUP BY session "
            "ORDER BY max(id) DESC LIMIT ?",
            limit,
        )
        return [row[0] for row in rows]

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

    def _each(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        try:
            # Not `yield from`, which would close it again after the connection.
            for row in self._connection.execute(query, values):  # noqa: UP028
                yield row
        except sqlite3.Error as error:
            raise translated(error, self._path) from error

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

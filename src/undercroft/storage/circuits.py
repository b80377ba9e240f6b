"""The tables of breakers in a SQLite journal: transitions, rights to try, figures and spending.

Keeps: a row is data of ours or a `StoreCorruptError`. Whoever writes does so in a transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from undercroft.errors import StoreCorruptError, StoreError
from undercroft.model.circuit import (
    Account,
    CircuitChanged,
    Spent,
    Stored,
    decode_change,
    encode_change,
)
from undercroft.storage.board import Right
from undercroft.storage.schema import MIGRATIONS, checked_version, connect, prepare, translated

_ORDER_BUSY_MS = 5_000

# Looks at each service once, not at each transition.
_LAST_OF_ALL = """
    WITH RECURSIVE name(service) AS (
        SELECT min(service) FROM circuit
        UNION ALL
        SELECT (SELECT min(c.service) FROM circuit c WHERE c.service > name.service)
        FROM name WHERE name.service IS NOT NULL
    )
    SELECT seq, service, epoch, data FROM name
    JOIN circuit USING (service)
    WHERE epoch = (SELECT max(c.epoch) FROM circuit c WHERE c.service = name.service)
"""
_LAST_SINCE = "SELECT seq, service, epoch, data FROM circuit WHERE seq > ? ORDER BY seq"
_LAST = "SELECT epoch, data FROM circuit WHERE service=? ORDER BY epoch DESC LIMIT 1"
_SPEND = """
    INSERT INTO spent VALUES(?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        attempts = attempts + excluded.attempts, time_us = time_us + excluded.time_us,
        input_tokens = input_tokens + excluded.input_tokens,
        output_tokens = output_tokens + excluded.output_tokens,
        usd_nano = usd_nano + excluded.usd_nano
"""
_SUMS = """
    sum(attempts), sum(time_us), sum(input_tokens), sum(output_tokens), sum(usd_nano) FROM spent
"""
_RIGHT = "INSERT OR REPLACE INTO prober(service, epoch, runtime, beat) VALUES(?, ?, ?, ?)"


def read_last(
    connection: sqlite3.Connection, path: str, since: int = 0
) -> tuple[int, dict[str, Stored]]:
    """Return the last transition of each service that had any after `since`, and up to where."""
    if since:
        rows = connection.execute(_LAST_SINCE, (since,)).fetchall()
    else:
        rows = sorted(connection.execute(_LAST_OF_ALL).fetchall())
    last = {service: (epoch, data) for _, service, epoch, data in rows}
    upto = rows[-1][0] if rows else since
    return upto, {s: Stored(epoch, decoded(data, path)) for s, (epoch, data) in last.items()}


def living(
    rows: Sequence[tuple[int, bytes]], is_alive: Callable[[int], bool]
) -> list[tuple[int, bytes]]:
    """Return the rows of processes that still run."""
    live = {runtime for runtime in {row[0] for row in rows} if is_alive(runtime)}
    return [(runtime, data) for runtime, data in rows if runtime in live]


def decoded(data: bytes, path: str) -> CircuitChanged:
    """Return a transition.

    Raises:
        StoreCorruptError: It is none.
    """
    try:
        return decode_change(data)
    except msgspec.DecodeError as error:
        raise StoreCorruptError(
            path, f"a transition of a breaker cannot be read ({error})", "Restore it from a backup."
        ) from error


def append(
    connection: sqlite3.Connection, service: str, epoch: int, change: CircuitChanged
) -> None:
    """Write a transition."""
    connection.execute(
        "INSERT INTO circuit(service, epoch, data) VALUES(?, ?, ?)",
        (service, epoch, encode_change(change)),
    )


def last_of(connection: sqlite3.Connection, path: str, service: str) -> Stored | None:
    """Return the last transition of a service."""
    row = connection.execute(_LAST, (service,)).fetchone()
    return None if row is None else Stored(row[0], decoded(row[1], path))


def right_of(connection: sqlite3.Connection, service: str) -> Right | None:
    """Return the right to try a service as it was given last."""
    row = connection.execute(
        "SELECT epoch, runtime, beat FROM prober WHERE service=?", (service,)
    ).fetchone()
    return None if row is None else Right(*row)


def total_of(connection: sqlite3.Connection, account: Account) -> Spent:
    """Return what all processes together spent."""
    row = connection.execute(f"SELECT {_SUMS} WHERE scope=? AND name=?", account).fetchone()
    return Spent(*[amount or 0 for amount in row])


def set_right(connection: sqlite3.Connection, service: str, right: Right | None) -> None:
    """Write who may try a service; None: nobody."""
    if right is None:
        connection.execute("DELETE FROM prober WHERE service=?", (service,))
    else:
        connection.execute(_RIGHT, (service, *right))


def spend(connection: sqlite3.Connection, account: Account, runtime: int, amount: Spent) -> None:
    """Add to what a process spent."""
    connection.execute(_SPEND, (*account, runtime, *amount))


def forget(connection: sqlite3.Connection, runtime: int) -> None:
    """Forget the figures of a process that ended, and add what it spent to that of others such."""
    sums = connection.execute(
        f"SELECT scope, name, 0, {_SUMS} WHERE runtime=? GROUP BY scope, name",
        (runtime,),
    ).fetchall()
    connection.executemany(_SPEND, sums)
    for table in ("gauge", "prober", "spent"):
        connection.execute(f"DELETE FROM {table} WHERE runtime=?", (runtime,))  # noqa: S608  ours


def read_history(
    connection: sqlite3.Connection, path: str, service: str | None, limit: int
) -> list[Stored]:
    """Return the last transitions, of one service or all, oldest first."""
    where, values = ("WHERE service=?", (service,)) if service is not None else ("", ())
    rows = connection.execute(
        f"SELECT epoch, data FROM circuit {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608  ours
        (*values, limit),
    ).fetchall()
    return [Stored(epoch, decoded(data, path)) for epoch, data in reversed(rows)]


def order(path: str, change: CircuitChanged) -> tuple[Stored | None, bool]:
    """Write what a person says of a service behind whatever was its last transition.

    Returns that last transition, and whether anything was written: a state that a person gave
    it already is not given once more.

    Raises:
        StoreError: There is no such journal, or it cannot be written.
    """
    if not Path(path).exists():
        raise StoreError(path, "there is no such file", "Name the journal with --db.")
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA busy_timeout={_ORDER_BUSY_MS}")
        if checked_version(connection, path, len(MIGRATIONS)) == 0:
            raise StoreError(path, "it is empty", "Run a turn on it first: undercroft run.")
        prepare(connection, path)
        try:
            connection.execute("BEGIN IMMEDIATE")
            last = last_of(connection, path, change.service)
            was, epoch = (last.change.now, last.epoch) if last else (change.was, 0)
            if last is not None and was == change.now and change.why != "reset":
                return last, False
            append(connection, change.service, epoch + 1, msgspec.structs.replace(change, was=was))
            connection.execute("DELETE FROM prober WHERE service=?", (change.service,))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise translated(error, path) from error
        return last, True

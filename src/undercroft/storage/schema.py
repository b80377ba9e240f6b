"""The SQLite file: its tables, how it is opened, and how an older one is brought forward.

Keeps: a file of something else is never written to; a newer one is refused; a migration
happens as a whole or not at all.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from undercroft.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreVersionError,
)

# "UCRF": how `file` and we tell a journal from any other database.
APPLICATION_ID = 0x55435246

# Step k brings a journal from version k to k + 1. Only ever append.
#
# frame is an append-only rowid table with an index by turn: an index costs 12 % of the
# write path, a WITHOUT ROWID table nearly three times it. Its rowid is also the fence: it
# only grows, in the order of commits, whichever process commits.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runtime(
        no     INTEGER PRIMARY KEY AUTOINCREMENT,
        holder TEXT NOT NULL,
        began  REAL NOT NULL,
        fenced INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE turn(
        num     INTEGER PRIMARY KEY,
        id      TEXT NOT NULL UNIQUE,
        kind    TEXT NOT NULL,
        target  TEXT NOT NULL,
        session TEXT,
        status  TEXT NOT NULL,
        began   REAL NOT NULL,
        ended   REAL,
        runtime INTEGER,
        words   INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE frame(
        seq  INTEGER PRIMARY KEY,
        turn INTEGER NOT NULL,
        data BLOB NOT NULL
    );
    CREATE INDEX frame_turn ON frame(turn);
    """,
    # A process that beats is alive and well, and `lost` grows when a turn is taken from it;
    # and which copy of the journal this is. Who owns what is told by the frames.
    """
    ALTER TABLE runtime ADD COLUMN beat INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runtime ADD COLUMN lease_s REAL NOT NULL DEFAULT 0;
    ALTER TABLE runtime ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE copy(
        id    TEXT NOT NULL,
        inode INTEGER NOT NULL
    );
    """,
    # Of breakers, as all processes see them. `circuit` only grows, and its epochs make one
    # writer of each transition; `prober` counts as long as its epoch is the last one.
    """
    CREATE TABLE circuit(
        seq     INTEGER PRIMARY KEY,
        service TEXT NOT NULL,
        epoch   INTEGER NOT NULL,
        data    BLOB NOT NULL,
        UNIQUE(service, epoch)
    );
    CREATE TABLE prober(
        service TEXT PRIMARY KEY,
        epoch   INTEGER NOT NULL,
        runtime INTEGER NOT NULL,
        beat    INTEGER NOT NULL
    );
    CREATE TABLE gauge(
        runtime INTEGER NOT NULL,
        service TEXT NOT NULL,
        data    BLOB NOT NULL,
        PRIMARY KEY(runtime, service)
    );
    CREATE TABLE spent(
        scope         TEXT NOT NULL,
        name          TEXT NOT NULL,
        runtime       INTEGER NOT NULL,
        attempts      INTEGER NOT NULL,
        time_us       INTEGER NOT NULL,
        input_tokens  INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        usd_nano      INTEGER NOT NULL,
        PRIMARY KEY(scope, name, runtime)
    );
    """,
    # A turn begins by asking for the one before it in its session.
    "CREATE INDEX IF NOT EXISTS turn_session ON turn(session, id) WHERE session IS NOT NULL;",
    # Large parts of frames, once each; see `bodies.py`. Nothing is ever taken out.
    """
    CREATE TABLE body(
        hash BLOB PRIMARY KEY,
        data BLOB NOT NULL
    );
    """,
)

# A turn that was being parked while somebody said a word about it waits for no one: it is
# left runnable, so that `recover` finds it should this process die before it looks again.
MARK = """
    UPDATE turn
    SET status = CASE WHEN ? IN ('waiting', 'in_doubt') AND words > ? THEN 'stopped' ELSE ? END,
        ended = ?, runtime = ?
    WHERE num = ?
"""


BEGIN = """
    INSERT INTO turn(num, id, kind, target, session, status, began, runtime)
    VALUES(?, ?, ?, ?, ?, ?, ?, ?)
"""

FRAME = "INSERT INTO frame(turn, data) VALUES(?, ?)"
PLACED = "INSERT INTO frame(seq, turn, data) VALUES(?, ?, ?)"
BODY = "INSERT OR IGNORE INTO body(hash, data) VALUES(?, ?)"
BODY_OF = "SELECT data FROM body WHERE hash=?"
LAST = "SELECT coalesce(max(seq), 0) FROM frame"
BEAT = "UPDATE runtime SET beat=beat+1 WHERE no=?"


def connect(path: str, *, read_only: bool = False) -> sqlite3.Connection:
    """Return a connection in WAL mode that never waits for a lock by itself.

    Raises:
        StoreError: The file cannot be opened.
    """
    try:
        if read_only:
            uri = f"file:{_quoted(path)}?mode=ro"
            connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, check_same_thread=False
            )
        else:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise translated(error, path) from error
    connection.execute("PRAGMA busy_timeout=0")
    return connection


def prepare(
    connection: sqlite3.Connection, path: str, migrations: Sequence[str] = MIGRATIONS
) -> None:
    """Check that the file is a journal, and make it one of the newest version.

    Raises:
        StoreError: It is not, or is newer, damaged or not writable.
    """
    try:
        version = checked_version(connection, path, len(migrations))
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA cache_size=-16000")
        if version < len(migrations):
            _migrate(connection, path, migrations)
    except sqlite3.Error as error:
        raise translated(error, path) from error


def checked_version(connection: sqlite3.Connection, path: str, newest: int) -> int:
    """Return the schema version of a journal; 0 of an empty file.

    Raises:
        StoreError: The file is no journal, is damaged, or is newer than `newest`.
    """
    try:
        # In this order: another process may be making the tables, and with them comes the rest.
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        _check_length(connection, path)
    except sqlite3.Error as error:
        raise translated(error, path) from error
    if tables and application_id != APPLICATION_ID:
        raise StoreCorruptError(
            path,
            "it is a database of something else",
            "Give the path of a journal, or of a new file.",
        )
    if version > newest:
        raise StoreVersionError(
            path,
            f"its schema is version {version}, and this Undercroft knows up to {newest}",
            "Upgrade Undercroft; the journal was not touched.",
        )
    return int(version) if tables else 0


def _check_length(connection: sqlite3.Connection, path: str) -> None:
    """A file that is shorter than its header says lost its end, unless the WAL has it."""
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    # In this order: once the log is empty, every page that was counted is in the file.
    with suppress(OSError):
        if Path(log_path(path)).stat().st_size:
            return
    size = Path(path).stat().st_size
    if size < page_bytes * pages:
        raise StoreCorruptError(
            path,
            f"it is truncated: {size:,} bytes of {page_bytes * pages:,}",
            "Restore it from a backup, or save what is left with `sqlite3 FILE .recover`; "
            "it was not touched.",
        )


def _migrate(connection: sqlite3.Connection, path: str, migrations: Sequence[str]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Again, now that no other process can be migrating it.
        version = checked_version(connection, path, len(migrations))
        for script in migrations[version:]:
            for statement in script.split(";"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(migrations)}")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def translated(error: sqlite3.Error, path: str) -> StoreError:
    """Return the error of ours that `error` amounts to."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    match primary:
        case sqlite3.SQLITE_FULL:
            return StoreFullError(
                path, "the disk is full", "Make room and resume the turns; nothing was lost."
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreReadOnlyError(
                path, "it may not be written", "Check the permissions of the file and its folder."
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreCorruptError(
                path,
                f"it cannot be read as a journal ({error})",
                "Restore it from a backup, or save what is left with `sqlite3 FILE .recover`; "
                "it was not touched.",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreBusyError(
                path, "another process holds its write lock", "Let that process end, then resume."
            )
        case sqlite3.SQLITE_CANTOPEN:
            return StoreError(
                path, "it cannot be opened", "Check that its folder exists and may be entered."
            )
        case _:
            return StoreError(path, f"{error}", "Check the disk, then resume the turns.")


def copy_id(connection: sqlite3.Connection, path: str) -> str:
    """Return the id of this copy of a journal; a new one where the file was copied."""
    inode = Path(path).stat().st_ino
    row = connection.execute("SELECT id, inode FROM copy").fetchone()
    if row is not None and row[1] == inode:
        return str(row[0])
    made = secrets.token_hex(8)
    connection.execute("DELETE FROM copy")
    connection.execute("INSERT INTO copy(id, inode) VALUES(?, ?)", (made, inode))
    return made


def log_path(path: str) -> str:
    """Return the path of a journal's write-ahead log; SQLite puts it beside the real file."""
    return f"{Path(path).resolve()}-wal"


def is_busy(error: sqlite3.Error) -> bool:
    """Whether `error` only says that another connection is writing right now."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")

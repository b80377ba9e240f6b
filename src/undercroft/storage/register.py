"""A process takes a number in a journal, under which others see that it is alive."""

from __future__ import annotations

import os
import socket
import sqlite3
import time

from undercroft.storage import alive


def holder() -> str:
    """Return what this process is called where it holds something."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def register(connection: sqlite3.Connection, path: str, lease_s: float) -> int:
    """Return a number that no process had before; to be called in a transaction.

    Raises:
        OSError: The file beside the journal cannot be written.
    """
    row = connection.execute(
        "INSERT INTO runtime(holder, began, lease_s) VALUES(?, ?, ?) RETURNING no",
        (holder(), time.time(), lease_s),
    ).fetchone()
    # Held before the row can be seen, or others would take us for dead.
    alive.hold(path, row[0])
    return int(row[0])

"""The floor: a bare journal that groups its commits, and nothing else of a runtime.

Two rows a step. The start row of a step rides with the end row of the one before, so an intent
is committed before its step runs, at one commit a step; a start row points at its input instead
of repeating it. Commits happen on the event loop, once a tick, for all turns together.

`never`: every step awaits its commit, which survives the process but not a power cut.
`writes`: commits are the same; the intent and the outcome of the effect, and the last result,
also await a flush, done in a thread, one for all commits since the last one.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Self, TypeAlias

import msgspec

from bench.workload import (
    EFFECT,
    FAN_COUNT,
    FIRST,
    REST,
    STEP_COUNT,
    Body,
    Numbers,
    drive,
    slow_read,
    step,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

Row: TypeAlias = tuple[
    int, int, int, float, float, bytes | None
]  # turn, step, kind, at, took, body

START, END = 0, 1
FLUSH_AFTER = (EFFECT - 1, EFFECT, STEP_COUNT - 1)  # intent, outcome, last result
PRAGMAS = (
    "PRAGMA page_size=4096",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA wal_autocheckpoint=1000",
    "PRAGMA cache_size=-16000",
)
TABLE = (
    "CREATE TABLE IF NOT EXISTS journal(seq INTEGER PRIMARY KEY, turn INT, step INT, kind INT,"
    " at_s REAL, took_s REAL, body BLOB)"
)
INSERT = "INSERT INTO journal(turn, step, kind, at_s, took_s, body) VALUES(?,?,?,?,?,?)"
LAST_STEPS = "SELECT turn, max(step) FROM journal WHERE kind=1 GROUP BY turn"
LAST_BODIES = (
    "SELECT turn, body FROM journal WHERE kind=1 AND (turn, step) IN (SELECT turn, max(step)"
    " FROM journal WHERE kind=1 GROUP BY turn HAVING max(step) < ?)"
)


class Journal:
    """Rows in; a future out, done once the transaction that carries them is committed."""

    def __init__(self, path: Path) -> None:
        """Open or create the file at `path`; call from a running loop."""
        self.db = sqlite3.connect(path, isolation_level=None)
        for pragma in PRAGMAS:
            self.db.execute(pragma)
        self.db.execute(TABLE)
        self.loop = asyncio.get_running_loop()
        self.rows: list[Row] = []
        self.batch: asyncio.Future[None] | None = None

    def put(self, *rows: Row) -> asyncio.Future[None]:
        """Let `rows` ride with this tick's commit."""
        self.rows += rows
        batch = self.batch
        if batch is None:
            batch = self.batch = self.loop.create_future()
            self.loop.call_soon(self.commit)
        return batch

    def commit(self) -> None:
        """Write all that this tick put, in one transaction."""
        rows, batch = self.rows, self.batch
        self.rows, self.batch = [], None
        if batch is None:
            return
        try:
            self.db.execute("BEGIN IMMEDIATE")
            self.db.executemany(INSERT, rows)
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            batch.set_exception(error)
        else:
            batch.set_result(None)

    async def close(self) -> None:
        """Wait for the last commit and let go of the file."""
        if self.batch is not None:
            await self.batch
        self.db.close()


class Flusher:
    """Flushes the write-ahead log in a thread: one flush for all who asked during the last."""

    def __init__(self, path: Path) -> None:
        """Take the log beside the database at `path`; it must exist."""
        self.loop = asyncio.get_running_loop()
        self.fd = os.open(f"{path}-wal", os.O_RDONLY)
        self.asked: list[asyncio.Future[None]] = []
        self.busy = False

    def flush(self) -> asyncio.Future[None]:
        """Return a future that is done once all that is committed by now is flushed."""
        asker = self.loop.create_future()
        self.asked.append(asker)
        if not self.busy:
            self.start()
        return asker

    def start(self) -> None:
        """Hand one flush to the thread."""
        self.busy, asked, self.asked = True, self.asked, []
        flushing = self.loop.run_in_executor(None, os.fdatasync, self.fd)
        flushing.add_done_callback(lambda _: self.done(asked))

    def done(self, asked: list[asyncio.Future[None]]) -> None:
        """Release who asked before this flush began; start the next if others came."""
        self.busy = False
        for asker in asked:
            asker.set_result(None)
        if self.asked:
            self.start()


class Floor:
    """The workload with a journal round every step."""

    def __init__(self, folder: Path, *, flushes: bool) -> None:
        """Keep the journal in `folder`; `flushes` says whether effects await a flush."""
        self.path = folder / "floor.db"
        self.flushes = flushes
        self.flusher: Flusher | None = None
        self.encode = msgspec.json.Encoder().encode

    async def __aenter__(self) -> Self:
        """Open the journal."""
        self.journal = Journal(self.path)
        if self.flushes:
            await self.journal.put((-1, 0, END, 0.0, 0.0, None))  # so that the log exists
            self.flusher = Flusher(self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.journal.close()
        if self.flusher is not None:
            os.close(self.flusher.fd)

    async def chain(self, turn_no: int) -> None:
        """Run the seven steps, one after another."""
        await self.chain_from(turn_no, 0, None)

    async def chain_from(self, turn_no: int, first: int, before: Body | None) -> None:
        """Run the steps from `first` on, each awaiting its commit."""
        put, encode, now_s, flusher = self.journal.put, self.encode, time.time, self.flusher
        await put((turn_no, first, START, now_s(), 0.0, None))
        for at in range(first, STEP_COUNT):
            began_s = now_s()
            before = await (FIRST(turn_no) if before is None else REST[at - 1](before))
            body, ended_s = encode(before), now_s()
            end: Row = (turn_no, at, END, began_s, ended_s - began_s, body)
            if at + 1 < STEP_COUNT:
                await put(end, (turn_no, at + 1, START, ended_s, 0.0, None))
            else:
                await put(end)
            if flusher is not None and at in FLUSH_AFTER:
                await flusher.flush()

    async def journaled(self, turn_no: int, at: int, work: Awaitable[Body]) -> Body:
        """Run one step of the fan-out, awaiting the commit of its result."""
        began_s = time.time()
        self.journal.put((turn_no, at, START, began_s, 0.0, None))
        made = await work
        took_s = time.time() - began_s
        await self.journal.put((turn_no, at, END, began_s, took_s, self.encode(made)))
        return made

    async def fan(self, turn_no: int) -> None:
        """Run one step, then 50 reads beside each other, then one step."""
        await self.journaled(turn_no, 0, step(turn_no, 0))
        reads = (self.journaled(turn_no, k + 1, slow_read(k)) for k in range(FAN_COUNT))
        await asyncio.gather(*reads)
        await self.journaled(turn_no, FAN_COUNT + 1, step(turn_no, FAN_COUNT + 1))

    async def loop(self, turn_no: int, count: int) -> None:
        """Run `count` steps, one after another."""
        put, encode, now_s = self.journal.put, self.encode, time.time
        await put((turn_no, 0, START, now_s(), 0.0, None))
        for at in range(count):
            began_s = now_s()
            body, ended_s = encode(await step(turn_no, at)), now_s()
            end: Row = (turn_no, at, END, began_s, ended_s - began_s, body)
            await put(end, (turn_no, at + 1, START, ended_s, 0.0, None))

    graph = loop

    async def finish(self, turns: int, in_flight: int) -> Numbers:
        """One scan finds the last result of every unfinished turn; each goes on from there."""
        last: dict[int, int] = dict(self.journal.db.execute(LAST_STEPS).fetchall())
        bodies: dict[int, bytes] = dict(
            self.journal.db.execute(LAST_BODIES, (STEP_COUNT - 1,)).fetchall()
        )

        async def go_on(turn_no: int) -> None:
            before = msgspec.json.decode(bodies[turn_no]) if turn_no in bodies else None
            await self.chain_from(turn_no, last.get(turn_no, -1) + 1, before)

        left = [no for no in range(turns) if last.get(no, -1) < STEP_COUNT - 1]
        await drive(left, in_flight, go_on)
        return {"recovered": len(left), "not_resumed": 0, "in_doubt": 0}

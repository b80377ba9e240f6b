"""What one transaction of a SQLite journal will write, and who waits for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from undercroft.errors import StoreError
from undercroft.model.lease import Denied, Granted
from undercroft.model.turn import TurnHead
from undercroft.ports import Wants
from undercroft.storage.schema import BEGIN, BODY, MARK
from undercroft.storage.sqlite_leases import SqliteLeases


class Intent(NamedTuple):
    """A frame that is written only with the ownership of what it is about to change."""

    num: int
    frame: bytes
    wants: Wants
    lapsed: Mapping[int, int]
    again: bool
    waiter: asyncio.Future[Granted | Denied]


class Outcome(NamedTuple):
    """What the frame at `place` of the batch says of an intent."""

    num: int
    place: int
    wants: Wants
    wrote: bool


def begin_row(num: int, head: TurnHead, runtime: int) -> tuple[Any, ...]:
    """Return the row of a turn that begins."""
    named = (head.turn_id, head.kind, head.target, head.session)
    return (num, *named, head.status, head.began_at, runtime)


class Batch:
    """What one transaction will write."""

    __slots__ = (
        "beat",
        "begins",
        "bodies",
        "frames",
        "intents",
        "marks",
        "outcomes",
        "size_bytes",
        "sync",
        "waiters",
    )

    def __init__(self) -> None:
        self.begins: list[tuple[Any, ...]] = []
        self.frames: list[tuple[int, bytes]] = []
        # Parts of the frames and intents that the journal does not have yet, by hash.
        self.bodies: dict[bytes, bytes] = {}
        self.outcomes: list[Outcome] = []
        self.marks: list[tuple[Any, ...]] = []
        self.intents: list[Intent] = []
        self.waiters: list[tuple[asyncio.Future[int], bool, int]] = []
        self.beat = False
        self.sync = False
        self.size_bytes = 0

    def turns(self) -> set[int]:
        """The numbers of the turns that this batch is about."""
        begun = {begin[0] for begin in self.begins}
        marked = {mark[-1] for mark in self.marks}
        asked = {intent.num for intent in self.intents}
        return begun | {num for num, _ in self.frames} | marked | asked

    def write_rows(self, connection: sqlite3.Connection) -> None:
        """Write whatever is no frame: turns that begin or stand otherwise, and bodies."""
        if self.begins:
            connection.executemany(BEGIN, self.begins)
        if self.bodies:
            connection.executemany(BODY, self.bodies.items())
        if self.marks:
            connection.executemany(MARK, self.marks)

    def owning(self, leases: SqliteLeases) -> bool:
        """Whether anything of this batch concerns what turns own."""
        return bool(self.intents or self.outcomes or (self.marks and leases.leasing))

    def without(self, lost: set[int], error: StoreError) -> None:
        """Leave out whatever is about turns that were lost, and tell who waits for it."""
        self.marks = [mark for mark in self.marks if mark[-1] not in lost]
        places = {
            old: new
            for new, old in enumerate(
                place for place, (num, _) in enumerate(self.frames) if num not in lost
            )
        }
        self.frames = [frame for frame in self.frames if frame[0] not in lost]
        self.outcomes = [
            outcome._replace(place=places[outcome.place])
            for outcome in self.outcomes
            if outcome.num not in lost
        ]
        for intent in self.intents:
            if intent.num in lost and not intent.waiter.done():
                intent.waiter.set_exception(error)
        self.intents = [intent for intent in self.intents if intent.num not in lost]
        for waiter, _, num in self.waiters:
            if num in lost and not waiter.done():
                waiter.set_exception(error)
        self.waiters = [waiter for waiter in self.waiters if waiter[2] not in lost]

    def fail(self, error: StoreError) -> None:
        """Tell everybody who waits that none of it was written."""
        waiters: list[asyncio.Future[Any]] = [waiter for waiter, _, _ in self.waiters]
        waiters += [intent.waiter for intent in self.intents]
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)

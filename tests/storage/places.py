"""Places where journals are kept: what a test of every store needs to know of each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from undercroft.model.event import StepWaited, encode_frame
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import TurnHead
from undercroft.ports import Store
from undercroft.storage import alive
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.storage.sqlite import SqliteStore


class Place(Protocol):
    """One journal, on which any number of stores can be opened."""

    def store(self) -> Store:
        """Return a store that is not open yet."""

    def declare_dead(self, store: Store) -> None:
        """Let everybody take the process of an open `store` for ended, though it goes on."""


class MemoryPlace:
    """A journal in memory."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()

    def store(self) -> Store:
        """Return a store that is not open yet."""
        return MemoryStore(self.journal)

    def declare_dead(self, store: Store) -> None:
        """Let everybody take the process of an open `store` for ended."""
        self.journal.alive.discard(store.runtime)


class SqlitePlace:
    """A journal in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def store(self) -> Store:
        """Return a store that is not open yet."""
        return SqliteStore(self.path, sync="never")

    def declare_dead(self, store: Store) -> None:
        """Let everybody take the process of an open `store` for ended."""
        alive.release(str(self.path), store.runtime)


@asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Store]:
    """Open `store`, and close it in the end."""
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def head(turn_id: str, *, session: str | None = None, at: float = 1.0) -> TurnHead:
    """Return the row of a turn that begins."""
    return TurnHead(turn_id, "handler", "shop:assist", session, TurnStatus.RUNNING, at)


def noted(text: str) -> bytes:
    """Return a frame that holds a text, and tells nothing of what anybody owns."""
    return encode_frame([StepWaited(1, 0.0, text, "")])


async def committed(store: Store, *, sync: bool = False) -> int | None:
    """Wait until all that was queued is committed; return the position of its first frame."""
    waiter = store.durable(sync=sync)
    return None if waiter is None else await waiter


async def begun(store: Store, turn_id: str, *frames: bytes, session: str | None = None) -> int:
    """Begin a turn with `frames`, committed; return its number."""
    num = store.begin(head(turn_id, session=session))
    for frame in frames:
        store.append(num, frame)
    await committed(store)
    return num

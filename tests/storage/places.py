"""Places where journals are kept: what a test of every store needs to know of each."""

from __future__ import annotations

import base64
import random
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Protocol

from undercroft.model.event import (
    Event,
    StepEnded,
    StepStarted,
    StepWaited,
    TurnEnded,
    TurnParked,
    TurnResumed,
    TurnStopped,
    encode_frame,
)
from undercroft.model.lease import Denied, Granted
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import StepStatus
from undercroft.model.turn import Claimed, TurnHead
from undercroft.ports import NOBODY, Store, Wants
from undercroft.storage import alive
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.storage.sqlite import SqliteStore


class SilentMemory(MemoryStore):
    """A journal in memory whose process says once that it is well, and never again."""

    def _beat(self) -> None:
        """Say it once."""
        self.journal.beats[self.runtime] = (1, self._lease_s)


class SilentFile(SqliteStore):
    """A journal in a file whose process says once that it is well, and never again."""

    def _beat(self) -> None:
        """Say nothing more."""


class Place(Protocol):
    """One journal, on which any number of stores can be opened."""

    def store(self, *, lease_s: float = 10.0, beats: bool = True) -> Store:
        """Return a store that is not open yet; without `beats` it falls silent."""

    def declare_dead(self, store: Store) -> None:
        """Let everybody take the process of an open `store` for ended, though it goes on."""

    def beat(self, store: Store) -> None:
        """Let the process of an open `store` say that it is well."""


class MemoryPlace:
    """A journal in memory."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()

    def store(self, *, lease_s: float = 10.0, beats: bool = True) -> Store:
        """Return a store that is not open yet."""
        return (MemoryStore if beats else SilentMemory)(self.journal, lease_s=lease_s)

    def declare_dead(self, store: Store) -> None:
        """Let everybody take the process of an open `store` for ended."""
        self.journal.alive.discard(store.runtime)

    def beat(self, store: Store) -> None:
        """Let the process of an open `store` say that it is well."""
        beat, lease_s = self.journal.beats[store.runtime]
        self.journal.beats[store.runtime] = (beat + 1, lease_s)


class SqlitePlace:
    """A journal in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def store(self, *, lease_s: float = 10.0, beats: bool = True) -> Store:
        """Return a store that is not open yet."""
        return (SqliteStore if beats else SilentFile)(self.path, sync="never", lease_s=lease_s)

    def declare_dead(self, store: Store) -> None:
        """Let everybody take the process of an open `store` for ended."""
        alive.release(str(self.path), store.runtime)

    def beat(self, store: Store) -> None:
        """Let the process of an open `store` say that it is well."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("UPDATE runtime SET beat=beat+1 WHERE no=?", (store.runtime,))
            connection.commit()


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


def dense(seed: str, chars: int) -> str:
    """Return a text that cannot be compressed to less than three quarters of its size."""
    rng = random.Random(seed)  # noqa: S311  not for secrets
    return base64.b64encode(rng.randbytes(chars)).decode()[:chars]


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


# Owning


def wanted(*claims: str) -> Wants:
    """Return claims that are written as `mode key`."""
    return tuple((mode, key) for mode, _, key in (claim.partition(" ") for claim in claims))


def frame_of_intent(n: int, *claims: str) -> bytes:
    """Return the frame of a write that begins."""
    return encode_frame([StepStarted(n, "put", "tool", 1.0, changes=True, claims=wanted(*claims))])


async def asked(
    store: Store,
    num: int,
    *claims: str,
    n: int = 1,
    lapsed: Mapping[int, int] = NOBODY,
    again: bool = False,
) -> Granted | Denied:
    """Ask for the intent of step `n`, as a turn does before it writes."""
    frame = frame_of_intent(n, *claims)
    return await store.intent(num, frame, wanted(*claims), lapsed, again=again)


def finished(store: Store, num: int, n: int, *claims: str, wrote: bool = True) -> None:
    """Queue the outcome of step `n`, which wrote or was refused after all."""
    status = StepStatus.OK if wrote else StepStatus.REFUSED
    frame = encode_frame([StepEnded(n, status, 0.0)])
    store.append(num, frame, sync=True, outcomes=[(wanted(*claims), wrote)])


async def began(store: Store, turn_id: str) -> int:
    """Begin a turn, committed, with its name as its first frame; return its number."""
    return await begun(store, turn_id, noted(turn_id))


async def halted(store: Store, num: int, status: TurnStatus) -> None:
    """Say that a turn ends, parks or stops, committed."""
    event: Event
    if status.final:
        event = TurnEnded(status, 2.0)
    elif status is TurnStatus.STOPPED:
        event = TurnStopped("told to", 2.0)
    else:
        event = TurnParked(status, (), 2.0)
    store.append(num, encode_frame([event]))
    store.mark(num, status, 2.0)
    await committed(store)


async def claimed(store: Store, turn_id: str) -> int:
    """Take a turn up, as a runtime does; return its number."""
    answer = await store.claim(turn_id, 3.0)
    assert isinstance(answer, Claimed), answer
    store.append(answer.num, encode_frame([TurnResumed(store.runtime, 3.0)]))
    await committed(store)
    return answer.num


async def granted(store: Store, num: int, *claims: str, n: int = 1, **more: object) -> Granted:
    """Ask for an intent that must be granted."""
    answer = await asked(store, num, *claims, n=n, **more)  # type: ignore[arg-type]
    assert isinstance(answer, Granted), answer
    return answer


async def denied(store: Store, num: int, *claims: str, n: int = 1, **more: object) -> Denied:
    """Ask for an intent that must be denied."""
    answer = await asked(store, num, *claims, n=n, **more)  # type: ignore[arg-type]
    assert isinstance(answer, Denied), answer
    return answer

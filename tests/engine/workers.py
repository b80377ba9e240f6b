"""Processes that share breakers, and journals that fail them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from undercroft.engine.sharing import Sharing
from undercroft.engine.system import SystemClock
from undercroft.errors import StoreError
from undercroft.layers.breakers.adaptive import AdaptiveLimit
from undercroft.layers.breakers.board import LastError
from undercroft.layers.breakers.policy import BreakerPolicy, LimitPolicy
from undercroft.layers.breakers.state import BreakerState, Circuit
from undercroft.model.circuit import CircuitChanged, News, Post, Stored
from undercroft.ports import Board
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.storage.sqlite import SqliteStore
from undercroft.testing.clock import run_virtual

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
FORCED, OBSERVED, DISABLED = (
    BreakerState.FORCED_OPEN,
    BreakerState.OBSERVE_ONLY,
    BreakerState.DISABLED,
)
POLICY = BreakerPolicy(failure_rate=None, failures_max=2, open_s=5.0, probes=1, half_open_s=20.0)
CRM = "crm"


@dataclass
class Gate:
    """A service as one process calls it."""

    circuit: Circuit
    limit: AdaptiveLimit = field(default_factory=lambda: AdaptiveLimit(LimitPolicy()))
    attempts: int = 0
    retries: int = 0
    usd_nano: int | None = None
    last_error: LastError | None = None


class Shaky:
    """A board that can be lost, or silent, and come back; or be another one then."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.lost: Exception | None = None
        self.locked: StoreError | None = None
        self.silent = self.anew = False
        self.exchanges = 0

    @property
    def runtime(self) -> int:
        """The number under which this process tells."""
        return self.board.runtime

    async def exchange(self, post: Post) -> News:
        """Do as the board does, or fail."""
        self.exchanges += 1
        while self.silent:  # noqa: ASYNC110  as a disk that does not answer
            await asyncio.sleep(0.01)
        if self.lost is not None:
            raise self.lost
        if self.locked is not None:
            news = await self.board.exchange(Post(post.since))
            return news._replace(error=self.locked if post.writes else None)
        if self.anew:
            self.anew = False
            return (await self.board.exchange(Post()))._replace(anew=True)
        return await self.board.exchange(post)

    async def gauges(self) -> list[tuple[int, bytes]]:
        """Do as the board does, or fail."""
        if self.lost is not None:
            raise self.lost
        return await self.board.gauges()

    def listen(self, wake: Callable[[], None]) -> bool:
        """Say that it has to be asked."""
        del wake
        return False

    async def close(self) -> None:
        """Do as the board does."""
        await self.board.close()


LOST = StoreError("j.db", "the disk is gone", "Find it.")


@dataclass
class Worker:
    """One process: its store, its sharing, and a breaker."""

    store: Any
    board: Shaky
    sharing: Sharing
    gate: Gate
    now_s: Callable[[], float]

    @property
    def circuit(self) -> Circuit:
        """Its breaker."""
        return self.gate.circuit

    @property
    def state(self) -> BreakerState:
        """How the service stands here."""
        return self.circuit.state_at(self.now_s())

    def fail(self, times: int = 2) -> None:
        """Let calls fail that are let through."""
        for _ in range(times):
            permit = self.circuit.admit(self.now_s())
            if permit:
                self.circuit.failed(permit, self.now_s(), 0.01)

    async def call(self) -> int:
        """Return the permit of a call, asked for as the engine does; 0: refused."""
        probe = True
        if self.circuit.ready_to_probe(self.now_s()):
            probe = await self.sharing.may_probe(CRM)
        return self.circuit.admit(self.now_s(), probe=probe)

    def succeed(self, permit: int) -> None:
        """Let a call succeed."""
        self.circuit.succeeded(permit, self.now_s(), 0.01)


def store_on(journal: MemoryJournal | Path) -> MemoryStore | SqliteStore:
    """Return a store that is not open yet."""
    if isinstance(journal, Path):
        return SqliteStore(journal, sync="never")
    return MemoryStore(journal)


async def worker(
    journal: MemoryJournal | Path,
    *,
    policy: BreakerPolicy = POLICY,
    initial: BreakerState = CLOSED,
) -> Worker:
    """Return a process that calls one service."""
    clock, store = SystemClock(), store_on(journal)
    await store.open()
    assert store.board is not None
    board = Shaky(store.board)
    sharing = Sharing(board, clock)
    await sharing.start()
    tell = partial(sharing.tell, CRM)
    gate = Gate(Circuit(policy, clock.now_s(), name=CRM, tell=tell, initial=initial))
    sharing.watch(CRM, gate)
    return Worker(store, board, sharing, gate, clock.now_s)


@asynccontextmanager
async def fleet(
    size: int, *, journal: MemoryJournal | Path | None = None, policy: BreakerPolicy = POLICY
) -> AsyncIterator[list[Worker]]:
    """Return processes on one journal, and leave nothing behind."""
    journal = journal or MemoryJournal()
    before = asyncio.all_tasks()
    workers = [await worker(journal, policy=policy) for _ in range(size)]
    try:
        yield workers
    finally:
        for one in workers:
            await one.sharing.stop()
            await one.store.close()
        assert asyncio.all_tasks() <= before


def history(one: Worker) -> list[CircuitChanged]:
    """Return all transitions in the journal."""
    return [stored.change for stored in one.store.journal.shared.history]


def moves(one: Worker) -> list[tuple[str, str]]:
    """Return all transitions in the journal as (state before, state since)."""
    return [(change.was, change.now) for change in history(one)]


async def order(journal: MemoryJournal, now: str, why: str = "forced") -> None:
    """Say something of the service, as the command line does."""
    shared = journal.shared
    _, last = shared.last.get(CRM, (0, None))
    epoch, was = (last.epoch, last.change.now) if last else (0, "closed")
    change = CircuitChanged(CRM, was, now, why, 1.0, by="ada", reason="moving")
    shared.position += 1
    shared.last[CRM] = (shared.position, Stored(epoch + 1, change))
    shared.history.append(Stored(epoch + 1, change))
    shared.rights.pop(CRM, None)


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on the virtual-time loop."""

    def run(**fixtures: Any) -> None:
        run_virtual(test(**fixtures))  # type: ignore[arg-type]

    run.__doc__, run.__name__ = test.__doc__, test.__name__
    return run

"""Breakers of several runtimes on one journal, in virtual time: who hears what, who may try."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.app import SystemClock
from undercroft.engine.sharing import ASK_S, Sharing
from undercroft.errors import StoreError
from undercroft.layers.breakers.adaptive import AdaptiveLimit
from undercroft.layers.breakers.board import LastError
from undercroft.layers.breakers.policy import BreakerPolicy, LimitPolicy
from undercroft.layers.breakers.state import BreakerState, Circuit
from undercroft.model.circuit import Chain, CircuitChanged, News, Post, Spent, Stored
from undercroft.ports import Board
from undercroft.storage.board import MemoryBoard
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


# ---------------------------------------------------------------------- hearing


@virtual
async def test_all_hear_of_an_opening_within_a_second() -> None:
    """Once one process opens, all others refuse within a second."""
    async with fleet(5) as workers:
        await asyncio.sleep(10)
        workers[2].fail()
        began_s = workers[0].now_s()
        while any(one.state is not OPEN for one in workers):  # noqa: ASYNC110  states have no event
            await asyncio.sleep(0.01)
        assert workers[0].now_s() - began_s < 1.0
        assert [await one.call() for one in workers] == [0] * 5
        assert moves(workers[0]) == [("closed", "open")]
        assert history(workers[0])[0].runtime == workers[2].store.runtime


@virtual
async def test_openings_at_once_are_one_transition() -> None:
    """Processes that open at the same moment make one transition, which one of them wrote."""
    async with fleet(4) as workers:
        for one in workers:
            one.fail()
        await asyncio.sleep(1)
        assert {one.state for one in workers} == {OPEN}
        assert moves(workers[0]) == [("closed", "open")]


@virtual
async def test_a_wait_begins_where_it_is_heard_of() -> None:
    """The wait of another process is counted from when this one heard of it."""
    async with fleet(2) as (one, two):
        one.fail()
        await asyncio.sleep(0.3)
        assert two.state is OPEN
        assert 4.7 < (two.circuit.retry_in_s(two.now_s()) or 0) <= 5.0


@virtual
async def test_who_begins_late_finds_the_service_open() -> None:
    """A process that begins while a service is open refuses from its first call on."""
    journal = MemoryJournal()
    async with fleet(1, journal=journal) as (one,):
        one.fail()
        await asyncio.sleep(1)
        async with fleet(1, journal=journal) as (two,):
            assert two.state is OPEN
            assert await two.call() == 0


@virtual
async def test_who_begins_late_waits_as_long_as_the_others() -> None:
    """A process that begins during a wait does not begin it anew, if somebody lives that waits."""
    journal = MemoryJournal()
    async with fleet(1, journal=journal) as (one,):
        one.fail()
        await asyncio.sleep(3)
        async with fleet(1, journal=journal) as (two,):
            assert 1.5 < (two.circuit.retry_in_s(two.now_s()) or 0) < 3.1
            await asyncio.sleep(3.1)
            assert sum([await each.call() > 0 for each in (one, two)]) == 1


@virtual
async def test_who_begins_at_the_moment_of_an_opening_waits() -> None:
    """Where a process lives that just opened, and shows no wait yet, the whole wait counts."""
    journal = MemoryJournal()
    async with fleet(1, journal=journal) as (one,):
        await asyncio.sleep(1.3)
        one.fail()
        await asyncio.sleep(0.3)
        async with fleet(1, journal=journal) as (two,):
            assert two.state is OPEN
            assert 4.7 < (two.circuit.retry_in_s(two.now_s()) or 0) <= 5.0


@virtual
async def test_processes_that_live_for_a_moment_try_as_well() -> None:
    """Where nobody lives who waited, a process that begins may try at once, and so find out.

    Otherwise short processes would each wait from their begin, and none would ever try.
    """
    journal = MemoryJournal()
    async with fleet(1, journal=journal) as (one,):
        one.fail()
        await asyncio.sleep(0.5)
    for _ in range(3):
        async with fleet(2, journal=journal) as workers:
            permits = [await each.call() for each in workers]
            assert sum(permit > 0 for permit in permits) == 1
            workers[0].circuit.failed(permits[0], workers[0].now_s(), 0.1)
            await asyncio.sleep(0.5)
            assert [await each.call() for each in workers] == [0, 0]
    async with fleet(1, journal=journal) as (one,):
        one.succeed(await one.call())
        assert one.state is CLOSED


@virtual
async def test_a_prober_that_died_is_replaced_by_who_begins() -> None:
    """A process that begins where another one died trying a service may try it at once."""
    journal = MemoryJournal()
    async with fleet(1, journal=journal) as (one,):
        one.fail()
        await asyncio.sleep(6)
        assert await one.call()
        await asyncio.sleep(0.5)
        one.board.silent = True
        journal.alive.discard(one.store.runtime)
        async with fleet(1, journal=journal) as (two,):
            assert await two.call()
        one.board.silent = False


@virtual
async def test_a_service_that_is_called_late_has_waited_too() -> None:
    """A wait counts from when it was heard of, also where the service is first called later."""
    journal, clock = MemoryJournal(), SystemClock()
    async with fleet(1, journal=journal) as (one,):
        sharing = Sharing(Shaky(MemoryBoard(journal.shared, 7, {1, 7})), clock)
        await sharing.start()
        await asyncio.sleep(1)
        one.fail()
        await asyncio.sleep(4)
        gate = Gate(Circuit(POLICY, clock.now_s(), tell=partial(sharing.tell, CRM)))
        sharing.watch(CRM, gate)
        await sharing.stop()
        assert gate.circuit.state is OPEN
        assert 0.9 < (gate.circuit.retry_in_s(clock.now_s()) or 0) < 1.6


@virtual
async def test_nothing_is_exchanged_by_calls() -> None:
    """Calls of a closed breaker do not touch the board, however many there are."""
    async with fleet(1) as (one,):
        await asyncio.sleep(0.01)
        before = one.board.exchanges
        for _ in range(1_000):
            one.succeed(await one.call())
        assert one.board.exchanges == before


# ---------------------------------------------------------------------- trying


@virtual
async def test_one_process_tries_for_all() -> None:
    """When the wait is over everywhere, one call of one process goes through; then all close."""
    async with fleet(4) as workers:
        workers[0].fail()
        await asyncio.sleep(6)
        permits = await asyncio.gather(*(one.call() for one in workers for _ in range(3)))
        assert sum(permit > 0 for permit in permits) == 1
        await asyncio.sleep(1)
        assert sum([await one.call() > 0 for one in workers]) == 0
        prober = next(one for one in workers if one.state is HALF_OPEN)
        prober.succeed(next(p for p in permits if p))
        await asyncio.sleep(1)
        assert {one.state for one in workers} == {CLOSED}
        assert moves(workers[0]) == [
            ("closed", "open"),
            ("open", "half_open"),
            ("half_open", "closed"),
        ]


@virtual
async def test_a_failed_probe_opens_for_all_anew() -> None:
    """When the probe fails, all wait once more, from when they hear of it."""
    async with fleet(3) as workers:
        workers[0].fail()
        await asyncio.sleep(6)
        permits = [await one.call() for one in workers]
        prober, permit = next((o, p) for o, p in zip(workers, permits, strict=True) if p)
        prober.circuit.failed(permit, prober.now_s(), 0.01)
        await asyncio.sleep(1)
        assert {one.state for one in workers} == {OPEN}
        for one in workers:
            assert 3.5 < (one.circuit.retry_in_s(one.now_s()) or 0) <= 4.3
        await asyncio.sleep(5)
        assert sum([await one.call() > 0 for one in workers]) == 1


@virtual
async def test_refused_calls_do_not_ask_each_time() -> None:
    """While another process tries the service, calls are refused without a word to the board."""
    async with fleet(2) as (one, two):
        one.fail()
        await asyncio.sleep(6)
        assert await one.call()
        await asyncio.sleep(2)
        before, began_s = two.board.exchanges, two.now_s()
        while two.now_s() - began_s < 2:
            assert await two.call() == 0
            await asyncio.sleep(0.001)
        assert two.board.exchanges - before <= 2 * 2 / 0.25


@virtual
async def test_a_dead_prober_is_replaced() -> None:
    """When the process that tries a service ends, another one may try it, at once."""
    async with fleet(3) as workers:
        workers[0].fail()
        await asyncio.sleep(6)
        assert await workers[0].call()
        await asyncio.sleep(0.5)
        assert await workers[1].call() == 0
        workers[0].board.silent = True
        workers[0].store.journal.alive.discard(workers[0].store.runtime)
        await asyncio.sleep(1.5)
        assert sum([await one.call() > 0 for one in workers[1:]]) == 1


@virtual
async def test_a_silent_prober_is_replaced_after_its_time() -> None:
    """A process that stands still while it tries a service loses the right after that time."""
    async with fleet(2) as (one, two):
        one.fail()
        await asyncio.sleep(6)
        assert await one.call()
        await asyncio.sleep(1)
        assert await two.call() == 0
        one.board.silent = True
        began_s = two.now_s()
        while not await two.call():  # noqa: ASYNC110  calls are refused, not queued
            await asyncio.sleep(0.2)
        waited_s = two.now_s() - began_s
        assert POLICY.half_open_s is not None
        assert POLICY.half_open_s <= waited_s <= POLICY.half_open_s + 3
        one.board.silent = False
        await asyncio.sleep(1)
        assert one.state is OPEN, "it was told that it is not the one any more"
        assert two.state is HALF_OPEN


@virtual
async def test_a_probe_may_take_as_long_as_it_takes() -> None:
    """A process whose probe is under way keeps the right, where nothing limits its time."""
    policy = BreakerPolicy(failure_rate=None, failures_max=2, open_s=5, probes=1, half_open_s=None)
    async with fleet(2, policy=policy) as (one, two):
        one.fail()
        await asyncio.sleep(6)
        permit = await one.call()
        for _ in range(600):
            await asyncio.sleep(0.5)
            assert await two.call() == 0
        one.succeed(permit)
        await asyncio.sleep(1)
        assert two.state is CLOSED


@virtual
async def test_a_right_that_nobody_uses_is_given_back() -> None:
    """A process that may try a service and has no call for it leaves it to the others."""
    async with fleet(2) as (one, two):
        one.fail()
        await asyncio.sleep(6)
        assert await one.sharing.may_probe(CRM)
        assert not await two.sharing.may_probe(CRM)
        await asyncio.sleep(1.5)
        assert await two.call()


@virtual
async def test_a_prober_without_calls_leaves_it_to_others() -> None:
    """A process that began to try and is not called any more hands the trying over in time."""
    policy = BreakerPolicy(failure_rate=0.5, open_s=5, probes=3, half_open_s=None, calls_min=2)
    async with fleet(2, policy=policy) as (one, two):
        one.fail()
        await asyncio.sleep(6)
        one.succeed(await one.call())
        assert one.state is HALF_OPEN
        for _ in range(40):
            await asyncio.sleep(1)
        assert one.state is OPEN
        for _ in range(3):
            permit = await two.call()
            assert permit
            two.succeed(permit)
        await asyncio.sleep(1)
        assert one.state is CLOSED


@virtual
async def test_asking_is_bounded() -> None:
    """A board that does not answer holds a call up for a tenth of a second, and it may try."""
    async with fleet(1) as (one,):
        one.fail()
        await asyncio.sleep(6)
        one.board.silent = True
        began_s = one.now_s()
        assert all(await asyncio.gather(*(one.sharing.may_probe(CRM) for _ in range(50))))
        assert one.now_s() - began_s <= ASK_S + 0.001
        one.board.silent = False


@virtual
async def test_who_asks_and_gives_up_disturbs_nobody() -> None:
    """A call that is cancelled while it asks leaves the others to get their answer."""
    async with fleet(1) as (one,):
        one.fail()
        await asyncio.sleep(6)
        one.board.silent = True
        first = asyncio.ensure_future(one.sharing.may_probe(CRM))
        second = asyncio.ensure_future(one.sharing.may_probe(CRM))
        await asyncio.sleep(0.05)
        first.cancel()
        one.board.silent = False
        assert await second
        assert (await asyncio.gather(first, return_exceptions=True))[0] is not None


def test_a_file_is_shared_in_virtual_time_too(tmp_path: Path) -> None:
    """On the virtual-time loop a journal in a file is as good as one in memory; time stays put."""

    async def test() -> None:
        async with fleet(3, journal=tmp_path / "journal.db") as workers:
            for _ in range(3):
                asyncio.get_running_loop().call_later(3_600, lambda: None)
            began_s = workers[0].now_s()
            workers[0].fail()
            await asyncio.sleep(0.6)
            assert {one.state for one in workers} == {OPEN}
            await asyncio.sleep(5)
            permits = await asyncio.gather(*(one.call() for one in workers))
            assert sum(permit > 0 for permit in permits) == 1
            next(o for o, p in zip(workers, permits, strict=True) if p).succeed(max(permits))
            await asyncio.sleep(0.6)
            assert {one.state for one in workers} == {CLOSED}
            assert workers[0].now_s() - began_s == pytest.approx(6.2, abs=0.01)

    run_virtual(test())


@virtual
async def test_what_was_said_before_the_first_call_counts() -> None:
    """An order that is given before a process calls a service at all holds for its first call."""
    journal, clock = MemoryJournal(), SystemClock()
    sharing = Sharing(Shaky(MemoryBoard(journal.shared, 7, {7})), clock)
    await sharing.start()
    await asyncio.sleep(60)
    await order(journal, "forced_open")
    await asyncio.sleep(0.99)
    gate = Gate(Circuit(POLICY, clock.now_s(), tell=partial(sharing.tell, CRM)))
    sharing.watch(CRM, gate)
    assert gate.circuit.state is FORCED
    await sharing.stop()


# ---------------------------------------------------------------------- orders


@pytest.mark.parametrize(
    ("said", "state", "admitted"),
    [
        pytest.param("forced_open", FORCED, False, id="force-open"),
        pytest.param("observe_only", OBSERVED, True, id="force-closed"),
    ],
)
def test_orders_are_followed_within_a_second(
    said: str, state: BreakerState, *, admitted: bool
) -> None:
    """What a person says holds in all processes within a second, until a person takes it back."""

    async def test() -> None:
        journal = MemoryJournal()
        async with fleet(3, journal=journal) as workers:
            await asyncio.sleep(5)
            await order(journal, said)
            await asyncio.sleep(0.99)
            assert {one.state for one in workers} == {state}
            for one in workers:
                one.fail(10)
            await asyncio.sleep(60)
            assert {one.state for one in workers} == {state}
            assert all([(await one.call() > 0) is admitted for one in workers])
            await order(journal, "closed", "reset")
            await asyncio.sleep(0.99)
            assert {one.state for one in workers} == {CLOSED}
            assert workers[0].circuit.metrics(workers[0].now_s()).calls == 0

    run_virtual(test())


@virtual
async def test_a_reset_of_what_is_closed_counts_anew() -> None:
    """A reset forgets what was counted, also where the breaker was closed already."""
    journal = MemoryJournal()
    async with fleet(2, journal=journal) as workers:
        workers[0].fail(1)
        await order(journal, "closed", "reset")
        await asyncio.sleep(1)
        workers[0].fail(1)
        assert workers[0].state is CLOSED


@virtual
async def test_what_was_ordered_here_is_told() -> None:
    """An order that is given in one process is written with its name, and holds in all."""
    async with fleet(2) as (one, two):
        one.circuit.to(FORCED, one.now_s(), by="ada")
        await asyncio.sleep(1)
        assert two.state is FORCED
        assert (history(two)[0].by, history(two)[0].why) == ("ada", "forced")
        two.circuit.reset(two.now_s(), by="bob")
        await asyncio.sleep(1)
        assert one.state is CLOSED


@virtual
async def test_an_order_wins_over_what_happens_meanwhile() -> None:
    """Where a breaker opens at the moment of an order, the order holds."""
    journal = MemoryJournal()
    async with fleet(2, journal=journal) as (one, two):
        await asyncio.sleep(1)
        await order(journal, "observe_only")
        one.fail()
        await asyncio.sleep(1)
        assert (one.state, two.state) == (OBSERVED, OBSERVED)
        assert moves(one) == [("closed", "observe_only")]


@virtual
async def test_an_order_given_here_wins_as_well() -> None:
    """An order that could not be told at once holds in the end, whatever others saw meanwhile."""
    async with fleet(2) as (one, two):
        one.board.lost = LOST
        one.circuit.to(OBSERVED, one.now_s(), by="ada")
        two.fail()
        await asyncio.sleep(1)
        assert two.state is OPEN
        one.board.lost = None
        await asyncio.sleep(2.5)
        assert (one.state, two.state) == (OBSERVED, OBSERVED)
        assert moves(one) == [("closed", "open"), ("open", "observe_only")]
        assert history(one)[-1].by == "ada"


@virtual
async def test_a_service_without_a_breaker_obeys_orders_alone() -> None:
    """Where a service has no breaker it passes what others see, but not what a person forbids."""
    journal = MemoryJournal()
    async with fleet(1, journal=journal) as (one,):
        bare = await worker(journal, initial=DISABLED)
        one.fail()
        await asyncio.sleep(1)
        assert (one.state, bare.state) == (OPEN, DISABLED)
        await order(journal, "forced_open")
        await asyncio.sleep(1)
        assert bare.state is FORCED
        await order(journal, "closed", "reset")
        await asyncio.sleep(1)
        assert (one.state, bare.state) == (CLOSED, DISABLED)
        await bare.sharing.stop()
        await bare.store.close()


@virtual
async def test_a_state_of_a_newer_undercroft_is_left_alone() -> None:
    """A state that this version does not know changes nothing here."""
    journal = MemoryJournal()
    async with fleet(1, journal=journal) as (one,):
        await order(journal, "levitating")
        await asyncio.sleep(1)
        assert one.state is CLOSED


# ---------------------------------------------------------------------- a store that is gone


@pytest.mark.parametrize("how", ["lost", "locked", "broken"])
def test_without_a_store_breakers_go_on(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """While the store is gone each process opens, tries and closes by itself, and says so once."""

    async def test() -> None:
        async with fleet(2) as (one, two):
            error = RuntimeError("a bug of the store") if how == "broken" else LOST
            for each in (one, two):
                setattr(each.board, "locked" if how == "locked" else "lost", error)
            one.fail()
            assert one.state is OPEN
            await asyncio.sleep(6)
            assert two.state is CLOSED
            permit = await one.call()
            assert permit
            one.succeed(permit)
            assert one.state is CLOSED
            await asyncio.sleep(600)
            assert one.board.exchanges < 3_000

    with caplog.at_level(logging.WARNING):
        run_virtual(test())
    said = [record for record in caplog.records if "unshared" in record.message]
    assert len(said) == 2, "once for each process"


@virtual
async def test_what_happened_meanwhile_is_told_once_the_store_is_back() -> None:
    """A store that comes back hears of all transitions that it missed, in their order."""
    async with fleet(2) as (one, two):
        one.board.lost = two.board.lost = LOST
        one.fail()
        await asyncio.sleep(6)
        one.succeed(await one.call())
        one.fail()
        await asyncio.sleep(2)
        one.board.lost = two.board.lost = None
        await asyncio.sleep(2.5)
        assert two.state is OPEN
        written = moves(one)
        assert written == [
            ("closed", "open"),
            ("open", "half_open"),
            ("half_open", "closed"),
            ("closed", "open"),
        ]


@virtual
async def test_the_worse_state_wins_when_the_store_is_back() -> None:
    """Where two processes saw different things without a store, the worse holds for both."""
    async with fleet(2) as (one, two):
        one.board.lost = two.board.lost = LOST
        one.fail()
        two.fail()
        await asyncio.sleep(6)
        one.succeed(await one.call())
        assert (one.state, two.state) == (CLOSED, OPEN)
        one.board.lost = None
        await asyncio.sleep(2)
        assert moves(one)[-1] == ("half_open", "closed")
        two.board.lost = None
        await asyncio.sleep(3)
        assert (one.state, two.state) == (OPEN, OPEN)
        assert moves(one)[-1] == ("closed", "open")


@virtual
async def test_of_two_that_tried_without_a_store_one_goes_on() -> None:
    """Processes that both try a service when the store comes back agree on one of them."""
    async with fleet(2) as (one, two):
        one.fail()
        await asyncio.sleep(1)
        one.board.lost = two.board.lost = LOST
        await asyncio.sleep(6)
        assert await one.call()
        assert await two.call()
        one.board.lost = two.board.lost = None
        await asyncio.sleep(3)
        assert sorted([one.state, two.state]) == [HALF_OPEN, OPEN]


@virtual
async def test_another_journal_is_told_how_services_stand() -> None:
    """Where the journal was replaced, what is open here is said again in the new one."""
    async with fleet(1) as (one,):
        one.fail()
        await asyncio.sleep(1)
        shared = one.store.journal.shared
        shared.last.clear()
        shared.history.clear()
        shared.position = 0
        one.board.anew = True
        await asyncio.sleep(1)
        assert moves(one) == [("closed", "open")]
        assert history(one)[0].why == "told_again"
        assert one.state is OPEN


@virtual
async def test_another_journal_does_not_close_what_is_open_here() -> None:
    """Where the journal was replaced by one in which the service is well, the worse is said."""
    journal = MemoryJournal()
    async with fleet(2, journal=journal) as (one, two):
        one.fail()
        await asyncio.sleep(1)
        journal.shared.last.clear()
        journal.shared.history.clear()
        await order(journal, "closed", "probes_passed")
        one.board.anew = two.board.anew = True
        await asyncio.sleep(1)
        assert (one.state, two.state) == (OPEN, OPEN)
        assert moves(one)[-1] == ("closed", "open")


@virtual
async def test_orders_of_another_journal_are_followed() -> None:
    """Where the journal was replaced, what stands in the new one holds, unless it is worse here."""
    journal = MemoryJournal()
    async with fleet(2, journal=journal) as (one, two):
        two.fail()
        await asyncio.sleep(1)
        journal.shared.last.clear()
        await order(journal, "forced_open")
        one.board.anew = two.board.anew = True
        await asyncio.sleep(1)
        assert (one.state, two.state) == (FORCED, FORCED)


@virtual
async def test_stopping_with_a_lost_store_is_bounded() -> None:
    """A runtime can be left in half a second, whatever the store does."""
    async with fleet(1) as (one,):
        one.fail()
        await asyncio.sleep(0.3)
        one.board.silent = True
        one.sharing.spend_add("session", "s", (1, 1, 1, 1, 1))
        await asyncio.sleep(1)
        began_s = one.now_s()
        await one.sharing.stop()
        assert one.now_s() - began_s < 0.6
        one.board.silent = False


@virtual
async def test_without_a_board_each_is_by_itself() -> None:
    """Without a board everything may be asked, and the answer is what is known here."""
    clock = SystemClock()
    sharing = Sharing(None, clock)
    await sharing.start()
    gate = Gate(Circuit(POLICY, clock.now_s(), tell=partial(sharing.tell, CRM)))
    sharing.watch(CRM, gate)
    for _ in range(2):
        gate.circuit.failed(gate.circuit.admit(clock.now_s()), clock.now_s(), 0.1)
    assert await sharing.may_probe(CRM)
    sharing.spend_add("session", "s", (1, 1, 1, 1, 1))
    assert await sharing.spent("session", "s") == Spent()
    assert [(row.service, row.state) for row in await sharing.rows()] == [(CRM, "open")]
    await sharing.stop()


# ---------------------------------------------------------------------- spending and figures


@virtual
async def test_spending_is_shared_and_survives_a_lost_store() -> None:
    """What all spent is known in each process; what could not be written is added later, once."""
    async with fleet(2) as (one, two):
        for each in (one, two):
            each.sharing.spend_add("session", "s-1", (1, 10, 100, 1_000, 10_000))
        await asyncio.sleep(1)
        for each in (one, two):
            assert await each.sharing.spent("session", "s-1") == Spent(2, 20, 200, 2_000, 20_000)
        one.board.lost = LOST
        for _ in range(3):
            one.sharing.spend_add("session", "s-1", (1, 0, 0, 0, 0))
        assert (await one.sharing.spent("session", "s-1")).attempts == 5, "as far as it knows"
        await asyncio.sleep(10)
        one.board.lost = None
        await asyncio.sleep(2.5)
        assert await one.sharing.spent("session", "s-1") == Spent(5, 20, 200, 2_000, 20_000)
        assert await two.sharing.spent("session", "s-1") == Spent(5, 20, 200, 2_000, 20_000)


@virtual
async def test_the_board_shows_all_processes() -> None:
    """A row adds up what all processes that call a service count."""
    async with fleet(2) as (one, two):
        for each, took_s in ((one, 0.1), (two, 0.3)):
            for _ in range(4):
                permit = each.circuit.admit(each.now_s())
                each.circuit.succeeded(permit, each.now_s(), took_s)
            each.gate.attempts, each.gate.retries, each.gate.usd_nano = 5, 1, 2_000_000_000
        two.gate.last_error = LastError.of("transient", ConnectionError("no"), 3.0)
        await asyncio.sleep(1.5)
        (row,) = await one.sharing.rows()
        assert (row.service, row.state, row.processes) == (CRM, "closed", 2)
        assert (row.calls, row.attempts, row.retries, row.usd) == (8, 10, 2, 4.0)
        assert row.p50_s == pytest.approx(0.1)
        assert row.p99_s == pytest.approx(0.3)
        assert row.last_error is not None
        assert (row.last_error.type, row.last_error.error_class) == ("ConnectionError", "transient")


@virtual
async def test_figures_are_told_only_when_they_change() -> None:
    """A service that nobody calls costs no write."""
    async with fleet(1) as (one,):
        await asyncio.sleep(2)
        posts: list[Post] = []
        exchange = one.board.board.exchange

        async def noted(post: Post) -> News:
            posts.append(post)
            return await exchange(post)

        one.board.board.exchange = noted  # type: ignore[method-assign]
        await asyncio.sleep(60)
        assert not any(post.writes for post in posts)
        one.succeed(await one.call())
        await asyncio.sleep(10)
        assert sum(bool(post.gauges) for post in posts) == 1


@virtual
async def test_a_name_that_cannot_be_written_spoils_nothing() -> None:
    """Half a character in a name, a person's or an error's is no reason to share nothing."""
    async with fleet(2) as (one, two):
        half = "\ud800"
        one.sharing.watch(half, one.gate)
        one.sharing.spend_add("session", half, (1, 0, 0, 0, 0))
        one.gate.last_error = LastError.of("unknown", OSError(half), 1.0)
        one.circuit.to(FORCED, one.now_s(), by=half)
        await asyncio.sleep(1.5)
        assert two.state is FORCED
        (row,) = await two.sharing.rows()
        assert row.last_error is not None
        assert (row.by, row.last_error.message) == ("?", "?")


# ---------------------------------------------------------------------- whatever happens


async def happens(what: str, one: Worker, journal: MemoryJournal) -> None:
    """Do what a story says."""
    match what:
        case "fail":
            one.fail()
        case "call":
            permit = await one.call()
            if permit:
                one.succeed(permit)
        case "lost" | "locked":
            setattr(one.board, what, LOST)
        case "find":
            one.board.lost = one.board.locked = None
        case "order":
            await order(journal, "forced_open")
        case _:
            await order(journal, "closed", "reset")


HAPPENS = ["fail", "fail", "call", "lost", "find", "locked", "order", "reset"]
STORIES = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(HAPPENS), st.floats(0, 8)), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(STORIES)
def test_all_agree_in_the_end(story: list[tuple[int, str, float]]) -> None:
    """Whatever happened, once the store is back and all is quiet, all processes agree.

    And what the journal holds of the service is a chain: each transition begins where the one
    before ended.
    """

    async def test() -> None:
        journal = MemoryJournal()
        async with fleet(3, journal=journal) as workers:
            for who, what, pause_s in story:
                await happens(what, workers[who], journal)
                await asyncio.sleep(pause_s)
            for one in workers:
                one.board.lost = one.board.locked = None
            await asyncio.sleep(4)
            written = history(workers[0])
            state = written[-1].now if written else "closed"
            states = sorted({str(one.state) for one in workers})
            probing = sum(one.state is HALF_OPEN for one in workers)
            assert states == [state] or (state == "half_open" and probing <= 1), (states, state)
            assert state != "half_open" or set(states) <= {"half_open", "open"}
            assert all(a.now == b.was for a, b in pairwise(written))
            assert [s.epoch for s in journal.shared.history] == list(range(1, len(written) + 1))

    run_virtual(test())


CALLS = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from(["fail", "good", "bad", "hang", "end"]), st.floats(0, 7)
    ),
    max_size=30,
)


async def calls(what: str, one: Worker) -> None:
    """Do what a story of calls says."""
    if what == "fail":
        one.fail()
    elif what == "end":
        one.board.silent = True
        one.store.journal.alive.discard(one.store.runtime)
    else:
        permit = await one.call()
        if permit and what == "good":
            one.succeed(permit)
        elif permit and what == "bad":
            one.circuit.failed(permit, one.now_s(), 0.01)


@settings(max_examples=60, deadline=None)
@given(CALLS)
def test_never_do_two_try_at_once(story: list[tuple[int, str, float]]) -> None:
    """With a store that works one process at most is half open, at every moment."""

    async def test() -> None:
        async with fleet(4) as workers:
            living = list(workers)
            for who, what, pause_s in story:
                one = workers[who]
                if one not in living or (what == "end" and len(living) == 1):
                    continue
                await calls(what, one)
                if what == "end":
                    living.remove(one)
                for _ in range(10):
                    assert sum(each.circuit.state is HALF_OPEN for each in living) <= 1
                    await asyncio.sleep(pause_s / 10)
            for one in workers:
                one.board.silent = False

    run_virtual(test())


def test_a_chain_keeps_what_came_while_it_was_told() -> None:
    """Transitions that happen while others are being written are written after them."""

    async def test() -> None:
        async with fleet(2) as (one, two):
            await asyncio.sleep(1)
            one.board.silent = True
            one.fail()
            await asyncio.sleep(6)
            one.succeed(await one.call())
            one.board.silent = False
            await asyncio.sleep(1)
            assert moves(one) == [
                ("closed", "open"),
                ("open", "half_open"),
                ("half_open", "closed"),
            ]
            assert two.state is CLOSED

    run_virtual(test())


def test_posts_are_whole() -> None:
    """A post without content writes nothing; any content does."""
    assert not Post(since=3, totals=[("a", "b")]).writes
    assert Post(chains={CRM: Chain(0, [])}).writes
    assert Post(beats=[CRM]).writes

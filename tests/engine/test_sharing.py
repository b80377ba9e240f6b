"""Breakers of several runtimes on one journal, in virtual time: who hears what, who may try."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from tests.engine.workers import (
    CLOSED,
    CRM,
    FORCED,
    HALF_OPEN,
    OPEN,
    POLICY,
    Gate,
    Shaky,
    fleet,
    history,
    moves,
    order,
    virtual,
)
from undercroft.engine.sharing import ASK_S, Sharing
from undercroft.engine.system import SystemClock
from undercroft.layers.breakers.policy import BreakerPolicy
from undercroft.layers.breakers.state import Circuit
from undercroft.storage.board import MemoryBoard
from undercroft.storage.memory import MemoryJournal
from undercroft.testing.clock import run_virtual

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

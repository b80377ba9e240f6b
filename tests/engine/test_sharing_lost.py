"""A person's word reaches all processes; a journal that is gone holds nobody up."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import pytest

from tests.engine.workers import (
    CLOSED,
    CRM,
    DISABLED,
    FORCED,
    HALF_OPEN,
    LOST,
    OBSERVED,
    OPEN,
    POLICY,
    Gate,
    fleet,
    history,
    moves,
    order,
    virtual,
    worker,
)
from undercroft.engine.sharing import Sharing
from undercroft.engine.system import SystemClock
from undercroft.layers.breakers.state import BreakerState, Circuit
from undercroft.model.circuit import Spent
from undercroft.storage.memory import MemoryJournal
from undercroft.testing.clock import run_virtual

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

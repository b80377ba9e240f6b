"""Spending and figures of all processes add up; whatever happens, all agree in the end."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.workers import (
    CLOSED,
    CRM,
    FORCED,
    HALF_OPEN,
    LOST,
    Worker,
    fleet,
    history,
    moves,
    order,
    virtual,
)
from undercroft.layers.breakers.board import LastError
from undercroft.model.circuit import Chain, News, Post, Spent
from undercroft.storage.memory import MemoryJournal
from undercroft.testing.clock import run_virtual

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

"""Sessions: of one conversation one turn runs at a time, in whichever process."""

from __future__ import annotations

import asyncio

from tests.engine.test_ownership import (
    POLL_S,
    MakeStore,
    World,
    acting,
    apart,
    begin,
    done,
    now_s,
    runtimes,
    store,
    words,
)
from undercroft.testing import run_virtual

__all__ = ["store"]  # a fixture


@apart
def test_a_session_has_one_turn_at_a_time(store: MakeStore, *, apart: bool) -> None:
    """Turns of one session run one after another, of different sessions side by side."""

    async def main() -> None:
        world = World()
        async with runtimes(world, store(), store()) as (one, two):
            other = two if apart else one
            first = begin(one, world, ("pause", 5), ("look", "a"), session="s")
            await asyncio.sleep(1)
            (beside,) = await done(other, world, ("look", "b"), session="s/2")
            assert beside["at"] < 2
            (said,) = await done(other, world, ("look", "c"), session="s")
            assert 5 <= said["at"] <= 5 + POLL_S
            await first
            assert [entry[1] for entry in world.log] == ["b", "a", "c"]

    run_virtual(main())


@apart
def test_a_turn_that_parks_lets_its_session_go(store: MakeStore, *, apart: bool) -> None:
    """While a person is waited for, the next turn of the session runs."""

    async def main() -> None:
        world = World()
        async with runtimes(world, store(), store()) as (one, two):
            parked = await one.run(acting(world), plan=[["confirm", "x"]], session="s")
            assert parked.status == "waiting"
            other = two if apart else one
            assert words(await done(other, world, ("look", "a"), session="s")) == ["ok"]
            assert (await other.approve(parked.turn_id, by="Ada")).status == "done"

    run_virtual(main())


@apart
def test_a_session_that_is_in_use_too_long_fails_the_turn(store: MakeStore, *, apart: bool) -> None:
    """A turn that does not get its session in time has failed, and has done nothing."""

    async def main() -> None:
        world = World()
        async with runtimes(world, store(), store(), wait_s=2) as (one, two):
            first = begin(one, world, ("pause", 60), session="s")
            await asyncio.sleep(1)
            plan = [["put", "a", 1]]
            other = two if apart else one
            outcome = await other.run(acting(world), plan=plan, session="s")
            assert outcome.status == "failed"
            assert outcome.error is not None
            assert outcome.error.type == "SessionBusy"
            assert 3 <= now_s() <= 3 + POLL_S
            assert world.log == []
            await first

    run_virtual(main())

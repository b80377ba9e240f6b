"""Turns whose process died or fell silent: who may take over what they owned, and how."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import undercroft as uc
from tests.engine.test_ownership import (
    POLL_S,
    MakeStore,
    Silent,
    World,
    acting,
    apart,
    begin,
    done,
    events,
    found,
    now_s,
    runtimes,
    store,
    words,
)
from undercroft.model.event import ResourceOwned, VersionChecked
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore, run_virtual

__all__ = ["store"]  # a fixture


class Mortal(CrashingStore):
    """A journal in memory whose process can be killed at any moment."""

    def kill(self) -> None:
        """End it: nothing of what it writes from now on is there."""
        self._crashed = True
        self.journal.alive.discard(self.runtime)


async def cut_off(mortal: Mortal, rt: uc.Runtime, world: World) -> tuple[str, asyncio.Task[Any]]:
    """Kill a process in the middle of a write to `a`; return the turn's id."""
    task = asyncio.ensure_future(rt.run(acting(world), plan=[["put", "a", 1, "body"]]))
    await world.gate("body begun").wait()
    (head,) = rt.turns(limit=1)
    mortal.kill()
    return head.turn_id, task


async def buried(world: World, task: asyncio.Task[Any]) -> None:
    """Let what is left of a killed process come to its end."""
    world.gate("body").set()
    with pytest.raises(uc.StoreError):
        await task


@pytest.mark.parametrize("wait_s", [0.0, 30.0])
def test_what_a_killed_turn_left_open_is_not_written_blindly(wait_s: float) -> None:
    """A key of a dead turn is taken over at once; who has not read it is refused.

    Having read it, it may write; and the dead turn, resumed, finds its write in doubt.
    """

    async def main() -> None:
        world, journal = World(), MemoryJournal()
        mortal = Mortal(journal)
        async with runtimes(world, mortal, MemoryStore(journal), wait_s=wait_s) as (one, two):
            dead, task = await cut_off(mortal, one, world)
            began_s = now_s()
            said = await done(two, world, ("put", "a", 5), ("look", "a"), ("put", "a", 6))
            assert words(said) == ["conflicts.dirty", "ok", "ok"]
            assert said[0]["facts"]["by"] == dead
            assert said[0]["at"] - began_s < 0.1
            taker = two.turns(limit=1)[0].turn_id
            owned = [e for e in events(two, taker) if isinstance(e, ResourceOwned)]
            assert [(e.keys, e.taken_from, e.dirty) for e in owned] == [(("acct/a",), dead, True)]
            assert world.values["a"] == 6
            resumed = await two.resume(dead)
            assert [w.name for w in resumed.in_doubt] == ["put"]
            await buried(world, task)

    run_virtual(main())


def test_who_read_before_reads_again_before_it_writes_where_another_was_cut_off() -> None:
    """A turn that knows a key which a dead turn was writing looks again; changed, it is told."""

    async def main() -> None:
        world, journal = World(), MemoryJournal()
        mortal = Mortal(journal)
        async with runtimes(world, mortal, MemoryStore(journal)) as (one, two):
            late = begin(two, world, ("look", "a"), ("gate", "go"), *[("put", "a", 9)] * 2)
            await world.gate("go begun").wait()
            _, task = await cut_off(mortal, one, world)
            # Its request had reached the world after all.
            world.values["a"] = 1
            world.gate("go").set()
            said = await late
            assert words(said) == ["ok", "conflicts.stale_write", "ok"]
            assert said[1]["facts"]["fresh"] == 1
            turn_id = two.turns(limit=10)[1].turn_id
            checks = [e for e in events(two, turn_id) if isinstance(e, VersionChecked)]
            assert [(e.keys, e.same, e.why) for e in checks] == [(("acct/a",), False, "dirty")]
            await buried(world, task)

    run_virtual(main())


def test_a_take_over_is_in_the_journal_as_soon_as_its_write_is() -> None:
    """Whoever takes a key over and dies at once has left word of it: no journal accuses it."""

    async def main() -> None:
        world, journal = World(), MemoryJournal()
        mortals = Mortal(journal), Mortal(journal)
        async with runtimes(world, *mortals, MemoryStore(journal)) as (one, two, three):
            _, task = await cut_off(mortals[0], one, world)
            taker = begin(two, world, ("look", "a"), ("sure", "a", 2, "taken"))
            await world.gate("taken begun").wait()
            mortals[1].kill()
            world.gate("taken").set()
            with pytest.raises(uc.StoreError):
                await taker
            (turn_id, _) = three._store.unfinished()[::-1]  # noqa: SLF001  oldest first
            assert (await three.resume(turn_id)).status == "done"
            await buried(world, task)
        assert found(journal) == []

    run_virtual(main())


async def after_a_stop(*, apart: bool) -> MemoryJournal:
    """Stop a turn that wrote, and let another write the same; return the journal."""
    world, journal = World(), MemoryJournal()
    async with runtimes(world, MemoryStore(journal), MemoryStore(journal)) as (one, two):
        plan = [["put", "a", 1], ["gate", "never"]]
        task = asyncio.ensure_future(one.run(acting(world), plan=plan))
        await world.gate("never begun").wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        began_s = now_s()
        (said,) = await done(two if apart else one, world, ("put", "a", 2))
        assert said["said"] == "ok"
        assert said["at"] == pytest.approx(began_s, abs=0.01)
    return journal


@apart
def test_a_turn_that_was_stopped_owns_nothing(*, apart: bool) -> None:
    """What a stopped turn wrote, others may write at once."""
    run_virtual(after_a_stop(apart=apart))


@apart
def test_who_writes_after_a_stop_is_not_accused(*, apart: bool) -> None:
    """The checker knows that a stopped turn owns nothing any more."""
    assert found(run_virtual(after_a_stop(apart=apart))) == []


def test_a_later_owner_has_a_larger_fence(store: MakeStore) -> None:
    """The fences that tools are given grow from owner to owner, in whichever process."""

    async def main() -> None:
        world = World()
        async with runtimes(world, store(), store()) as rts:
            for k in range(6):
                await done(rts[k % 2], world, ("put", "a", k), ("put", "b", k))
            waiting = [begin(rt, world, ("put", "a", 9)) for rt in (*rts, *rts)]
            await asyncio.gather(*waiting)
            fences = [entry[3] for entry in world.log if entry[1] == "a"]
            assert len(fences) == 10
            assert fences == sorted(set(fences))

    run_virtual(main())


def test_who_owned_nothing_for_a_while_is_not_taken_for_silent(store: MakeStore) -> None:
    """A process that was idle for longer than a lease, and owns again, is waited for."""

    async def main() -> None:
        world = World()
        async with runtimes(world, store(lease_s=10.0), store(lease_s=10.0)) as (one, two):
            for pause_s in (0, 60, 3_600):
                await asyncio.sleep(pause_s)
                owner = begin(one, world, ("put", "a", 1), ("pause", 2), ("put", "b", 1))
                await asyncio.sleep(0.5)
                began_s = now_s()
                (said,) = await done(two, world, ("put", "a", 2))
                assert words(await owner) == ["ok", "ok"]
                assert said["said"] == "ok"
                assert 1.4 <= said["at"] - began_s <= 1.5 + POLL_S

    run_virtual(main())


def test_who_falls_silent_loses_its_turn_and_nothing_else() -> None:
    """After a lease without a beat the key is taken; the silent turn is given up when it wakes.

    It cannot record, its neighbours can, and resumed it comes to its end.
    """

    async def main() -> None:
        world, journal = World(), MemoryJournal()
        async with runtimes(world, Silent(journal, lease_s=10.0), MemoryStore(journal)) as rts:
            one, two = rts
            plan = [["put", "a", 1], ["gate", "sleep"], ["put", "b", 1]]
            sleeper = asyncio.ensure_future(one.run(acting(world), plan=plan))
            await world.gate("sleep begun").wait()
            beside = begin(one, world, ("pause", 15), ("put", "c", 1))
            (said,) = await done(two, world, ("put", "a", 2))
            assert said["said"] == "ok"
            assert 10 <= said["at"] <= 10 + 2 * POLL_S
            world.gate("sleep").set()
            with pytest.raises(uc.StoreError, match="another one took over"):
                await sleeper
            assert words(await beside) == ["ok"]
            assert "b" not in world.values
            (lost,) = [head for head in two.turns() if not head.status.final]
            (outcome,) = (await two.recover()).values()
            assert isinstance(outcome, uc.Outcome)
            assert (outcome.turn_id, outcome.status) == (lost.turn_id, "done")
            assert world.values == {"a": 2, "b": 1, "c": 1}

    run_virtual(main())


def test_who_beats_keeps_its_turn_however_long(store: MakeStore) -> None:
    """A turn that waits for hours inside of a live process loses nothing by it."""

    async def main() -> None:
        world = World()
        async with runtimes(world, store(lease_s=10.0), store(lease_s=10.0)) as (one, two):
            owner = begin(one, world, ("put", "a", 1), ("pause", 300), ("put", "b", 1))
            await asyncio.sleep(100)
            assert words(await done(two, world, ("put", "a", 2))) == ["conflicts.owned"]
            assert words(await owner) == ["ok", "ok"]

    run_virtual(main())

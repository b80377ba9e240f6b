"""Leases of those who died or fell silent, on every store alike: who may take them over."""

from __future__ import annotations

import asyncio

import pytest

from tests.storage.places import (
    Place,
    asked,
    began,
    claimed,
    committed,
    denied,
    finished,
    frame_of_intent,
    granted,
    halted,
    noted,
    opened,
)
from undercroft.errors import LapsedError
from undercroft.model.event import TurnStopped, decode_frames
from undercroft.model.lease import Denied, Granted, Taken
from undercroft.model.outcome import TurnStatus
from undercroft.ports import Store
from undercroft.storage.memory import MemoryStore
from undercroft.storage.sqlite import SqliteStore

PARKED = [TurnStatus.WAITING, TurnStatus.IN_DOUBT]


@pytest.mark.parametrize("open_", [False, True], ids=["settled", "open"])
async def test_who_died_is_replaced_at_once(
    place: Place,
    open_: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    """The lease of a dead process is taken over; it is dirty exactly if a write was open."""
    async with opened(place.store()) as b:
        a = place.store()
        await a.open()
        one, two = await began(a, "t-1"), await began(b, "t-2")
        fence = (await granted(a, one, "write a")).position
        if not open_:
            finished(a, one, 1, "write a")
        await committed(a)
        await a.close()

        said = await denied(b, two, "write a")
        assert said.dead is True
        await denied(b, two, "write a", lapsed={said.runtime + 7: said.beat})
        answer = await granted(b, two, "write a", lapsed={said.runtime: said.beat})

        assert answer.taken == (Taken("a", "t-1", open_),)
        (wrote,) = answer.wrote
        assert (wrote.turn_id, wrote.dirty) == ("t-1", open_)
        assert answer.position > fence


@pytest.mark.parametrize("how", ["outcome", "write"])
async def test_what_was_dirty_is_settled_by_its_outcome_or_a_new_write(
    place: Place, how: str
) -> None:
    """A resource is dirty until the turn that was cut off tells the outcome, or another wrote."""
    async with opened(place.store()) as b, opened(place.store()) as c:
        a = place.store()
        await a.open()
        one = await began(a, "t-1")
        await granted(a, one, "write a")
        await a.close()
        if how == "outcome":
            num = await claimed(b, "t-1")
            finished(b, num, 1, "write a")
        else:
            num = await began(b, "t-2")
            taken = (await granted(b, num, "write a", lapsed={a.runtime: 1})).taken
            assert taken == (Taken("a", "t-1", dirty=True),)
            finished(b, num, 1, "write a")
        await halted(b, num, TurnStatus.DONE)

        three = await began(c, "t-3")
        answer = await granted(c, three, "write a")
        last = max(answer.wrote, key=lambda w: w.position)
        assert (last.turn_id, last.dirty) == ("t-1" if how == "outcome" else "t-2", False)
        assert not any(w.dirty for w in answer.wrote)


async def test_what_an_earlier_write_of_the_dead_says_does_not_hide_a_later_one(
    place: Place,
) -> None:
    """A write that was cut off is dirty although its turn wrote there before.

    And although the new owner's process knows no position as late as that.
    """
    async with opened(place.store()) as b:
        two = await began(b, "t-2")
        a = place.store()
        await a.open()
        one = await began(a, "t-1")
        for n in (1, 2, 3):
            await granted(a, one, "write a", n=n)
            finished(a, one, n, "write a")
            await committed(a)
        await granted(a, one, "write a", n=4)
        await a.close()
        answer = await granted(b, two, "write a", lapsed={a.runtime: 1})
        assert [(w.turn_id, w.dirty) for w in answer.wrote] == [("t-1", True)]


@pytest.mark.parametrize("beats", [False, True])
async def test_who_is_silent_but_alive_is_replaced_only_while_it_stays_silent(
    place: Place,
    beats: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    """A live process loses a lease only to whoever names its last beat.

    Then it cannot record anything for that turn, while its other turns go on; and the turn
    can be resumed anywhere.
    """
    async with opened(place.store(lease_s=0.03, beats=beats)) as a, opened(place.store()) as b:
        one, beside, two = await began(a, "t-1"), await began(a, "t-3"), await began(b, "t-2")
        await granted(a, one, "write a")
        said = await denied(b, two, "write a")
        assert (said.dead, said.lease_s) == (False, 0.03)
        await denied(b, two, "write a", lapsed={said.runtime: said.beat - 1})
        await asyncio.sleep(0.05)
        answer = await asked(b, two, "write a", lapsed={said.runtime: said.beat})
        if beats:
            assert isinstance(answer, Denied)
            assert answer.beat > said.beat
            finished(a, one, 1, "write a")
            await committed(a)
            return
        assert isinstance(answer, Granted)
        assert answer.taken == (Taken("a", "t-1", dirty=True),)

        a.append(beside, noted("goes on"))
        lost = asyncio.ensure_future(_recorded(a, one))
        with pytest.raises(LapsedError, match=r"another one took over.*Resume the turn"):
            await lost
        with pytest.raises(LapsedError):
            await _recorded(a, one)
        with pytest.raises(LapsedError):
            await asked(a, one, "write z", n=2)
        a.append(beside, noted("still"))
        await committed(a)
        assert (b.frames("t-3") or [])[1:] == [noted("goes on"), noted("still")]
        *frames, last = b.frames("t-1") or []
        assert frames == [noted("t-1"), frame_of_intent(1, "write a")]
        # Nothing of it but what was said of it.
        assert isinstance(decode_frames([last])[0], TurnStopped)
        assert "t-1" in b.unfinished()
        await granted(a, beside, "write q")

        # Anywhere: the very process that lost it may take it up, and has to ask anew.
        num = await claimed(a, "t-1")
        await denied(a, num, "write a", n=1, again=True)
        finished(b, two, 1, "write a")
        await halted(b, two, TurnStatus.DONE)
        await granted(a, num, "write a", n=1, again=True)


async def _recorded(store: Store, num: int) -> None:
    """Record something of a turn, and wait for it on the turn's behalf."""
    store.append(num, noted("late"))
    await (store.durable(num=num) or asyncio.sleep(0))


async def test_who_owns_anew_is_not_taken_for_silent(place: Place) -> None:
    """A process says nothing while it owns nothing; the moment it owns again it says so."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        asker, beats = await began(b, "t-b"), list[int]()
        for k in range(3):
            num = await began(a, f"t-{k}")
            await granted(a, num, "write a")
            beats.append((await denied(b, asker, "write a")).beat)
            await halted(a, num, TurnStatus.DONE)
            # It is at rest: no timer of it is left.
            await at_rest(a)
        assert beats == sorted(set(beats))


async def at_rest(store: Store) -> None:
    """Let a process come to the point where it beats no more, as it does after some seconds."""
    assert isinstance(store, SqliteStore | MemoryStore)
    timer = store._beating  # noqa: SLF001  ten seconds are too long to wait for it
    assert timer is not None
    timer.cancel()
    store._beat()  # noqa: SLF001  likewise
    await committed(store)
    assert store._beating is None  # noqa: SLF001  likewise


async def test_what_else_a_lost_turn_owned_is_free_in_the_end(place: Place) -> None:
    """Once a turn was lost and resumed to its end, nothing that it owned stays owned."""
    async with opened(place.store(lease_s=0.01, beats=False)) as a, opened(place.store()) as b:
        one, two = await began(a, "t-1"), await began(b, "t-2")
        await granted(a, one, "write a", "write b")
        await granted(b, two, "write a", lapsed={a.runtime: 1})
        num = await claimed(b, "t-1")
        await halted(b, num, TurnStatus.FAILED)
        async with opened(place.store()) as c:
            await granted(c, await began(c, "t-3"), "write b")
            await denied(c, await began(c, "t-4"), "write a")


async def test_what_else_a_lost_turn_owned_can_be_taken(place: Place) -> None:
    """What a turn owned besides can be taken too once the turn was lost.

    Though its process woke up and beats for other turns: nobody runs that turn any more.
    """
    async with opened(place.store(lease_s=0.01, beats=False)) as a, opened(place.store()) as b:
        one, two = await began(a, "t-1"), await began(b, "t-2")
        await granted(a, one, "write a", "write b")
        await granted(b, two, "write a", lapsed={a.runtime: 1})
        place.beat(a)
        said = await asked(b, two, "write b", n=2)
        assert isinstance(said, Granted) or said.dead


@pytest.mark.parametrize("status", [*PARKED, TurnStatus.STOPPED])
async def test_a_turn_that_goes_on_elsewhere_owns_there(place: Place, status: TurnStatus) -> None:
    """What a turn comes to own after it was taken up belongs to the process that runs it now."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        one, two = await began(a, "t-1"), await began(a, "t-2")
        await halted(a, one, status)
        num = await claimed(b, "t-1")
        await granted(b, num, "write a")
        said = await denied(a, two, "write a")
        assert (said.owner, said.runtime) == ("t-1", b.runtime)


async def test_a_turn_resumed_by_another_process_keeps_its_leases(place: Place) -> None:
    """Once a turn of a dead process goes on it owns all of it still, unless it was taken over."""
    async with opened(place.store()) as b, opened(place.store()) as c:
        a = place.store()
        await a.open()
        one, two = await began(a, "t-1"), await began(c, "t-2")
        await granted(a, one, "write a", "write b")
        await a.close()
        num = await claimed(b, "t-1")
        said = await denied(c, two, "write b")
        assert (said.owner, said.runtime, said.dead) == ("t-1", b.runtime, False)
        again = await granted(b, num, "write a", "write b", n=1, again=True)
        assert again.owned == ()
        finished(b, num, 1, "write a", "write b")
        await halted(b, num, TurnStatus.DONE)
        assert not any(w.dirty for w in (await granted(c, two, "write b")).wrote)

"""Who owns what, on every store alike: several stores on one journal are several processes."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.storage.places import (
    MemoryPlace,
    Place,
    asked,
    began,
    begun,
    claimed,
    committed,
    denied,
    dense,
    finished,
    frame_of_intent,
    granted,
    halted,
    noted,
    opened,
    wanted,
)
from undercroft.errors import StoreBusyError, StoreError, StoreFullError
from undercroft.model.lease import Denied, Granted, Taken, Wrote
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import Claimed
from undercroft.storage.memory import MemoryStore
from undercroft.storage.sqlite import SqliteStore
from undercroft.testing import FaultyStore

PARKED = [TurnStatus.WAITING, TurnStatus.IN_DOUBT]


# Granted and denied


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("write a", "write a", False),
        ("write a", "append a", False),
        ("append a", "write a", False),
        ("append a", "exclusive a", False),
        ("append a", "append a", True),
        ("write a/1", "write a/2", True),
        ("write a", "write a/2/x", False),
        ("write a/2/x", "write a", False),
        ("append a", "append a/2", True),
        ("append a/2", "write a", False),
        ("write a/*/x", "write a/1/x", False),
        ("write a/1/x", "write a/*/x", False),
        ("write a/*/x", "write a/1/y", True),
        ("write a/*", "write a/1/y", False),
        ("exclusive ", "write z", False),
        ("write a", "write ab", True),
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
async def test_two_turns_own_nothing_that_overlaps(
    place: Place,
    first: str,
    second: str,
    together: bool,  # noqa: FBT001  a column of the table above
    apart: bool,  # noqa: FBT001  likewise
) -> None:
    """No two turns own what overlaps, unless both append; in one process and in two alike."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        other = b if apart else a
        one, two = await began(a, "t-1"), await began(other, "t-2")
        await granted(a, one, first)

        answer = await asked(other, two, second)

        assert isinstance(answer, Granted) is together
        if isinstance(answer, Denied):
            assert (answer.key, answer.owner) == (first.split(" ")[1], "t-1")
            assert (answer.runtime, answer.dead) == (a.runtime, False)
            assert other.frames("t-2") == [noted("t-2")], "nothing was written"


async def test_a_grant_says_where_it_stands_and_what_is_new(place: Place) -> None:
    """A grant's position is that of its intent; what the turn owned before is not new."""
    async with opened(place.store()) as store:
        num = await began(store, "t-1")
        first = await granted(store, num, "write a", "write b")
        assert (first.owned, first.wrote, first.taken) == (("a", "b"), (), ())
        assert (store.frames("t-1") or [])[-1] == frame_of_intent(1, "write a", "write b")
        again = await granted(store, num, "write b", "write c", n=2)
        assert again.owned == ("c",)
        assert again.position > first.position


async def test_all_or_nothing_is_granted(place: Place) -> None:
    """Where one of several resources is owned, the turn becomes the owner of none."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        one, two, three = [await began(s, f"t-{k}") for k, s in enumerate((a, b, a))]
        await granted(a, one, "write b")
        await denied(b, two, "write a", "write b")
        await granted(a, three, "write a")


async def test_a_denied_intent_takes_nothing_with_it(place: Place) -> None:
    """What was queued before a denied intent is written, and before a granted one comes first."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        one, two = await began(a, "t-1"), await began(b, "t-2")
        gathered = noted("gathered before")
        a.append(one, gathered)
        await granted(a, one, "write a")
        assert a.frames("t-1") == [noted("t-1"), gathered, frame_of_intent(1, "write a")]
        b.append(two, gathered)
        await denied(b, two, "write a")
        assert a.frames("t-2") == [noted("t-2"), gathered]


async def test_what_is_let_go_of_in_a_tick_can_be_owned_in_it(place: Place) -> None:
    """An end and the intent of another turn in one tick: the end comes first."""
    async with opened(place.store()) as store:
        one, two = await began(store, "t-1"), await began(store, "t-2")
        await granted(store, one, "write a")
        waiting = asyncio.ensure_future(asked(store, two, "write a"))
        await asyncio.sleep(0)
        finished(store, one, 1, "write a")
        await halted(store, one, TurnStatus.DONE)
        assert isinstance(await waiting, Granted | Denied)
        await granted(store, two, "write a", n=2)


async def test_who_gives_up_asking_owns_nothing(place: Place) -> None:
    """An intent that nobody waits for any more when it is committed is not written."""
    async with opened(place.store()) as store:
        one, two = await began(store, "t-1"), await began(store, "t-2")
        asking = asyncio.ensure_future(
            store.intent(one, frame_of_intent(1, "write a"), wanted("write a"))
        )
        asking.cancel()
        await committed(store)
        assert store.frames("t-1") == [noted("t-1")]
        await granted(store, two, "write a")


# How long


@pytest.mark.parametrize("status", [s for s in TurnStatus if s is not TurnStatus.RUNNING])
@pytest.mark.parametrize("wrote", [False, True])
async def test_ownership_ends_with_the_turn(
    place: Place,
    status: TurnStatus,
    wrote: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    """A turn owns until it is marked as anything but running, and no step longer."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        one, two = await began(a, "t-1"), await began(b, "t-2")
        await granted(a, one, "write a")
        finished(a, one, 1, "write a", wrote=wrote)
        await committed(a)
        await denied(b, two, "write a")

        await halted(a, one, status)

        answer = await granted(b, two, "write a")
        assert answer.taken == ()
        assert [w.turn_id for w in answer.wrote] == (["t-1"] if wrote else [])
        assert not any(w.dirty for w in answer.wrote)


async def test_who_appends_owns_until_the_outcome(place: Place) -> None:
    """What is only appended to is free for a writer once each append has its outcome."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        one, two = await began(a, "t-1"), await began(b, "t-2")
        await granted(a, one, "append a", n=1)
        await granted(a, one, "append a", n=2)
        finished(a, one, 1, "append a")
        await committed(a)
        await denied(b, two, "write a")
        finished(a, one, 2, "append a")
        await committed(a)
        await granted(b, two, "write a")


async def test_what_is_left_open_at_the_end_is_dirty(place: Place) -> None:
    """A turn that parks with a write in doubt leaves its resource dirty."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        one, two = await began(a, "t-1"), await began(b, "t-2")
        await granted(a, one, "write a")
        await halted(a, one, TurnStatus.IN_DOUBT)
        (left,) = (await granted(b, two, "write a")).wrote
        assert (left.key, left.turn_id, left.dirty) == ("a", "t-1", True)


# Who wrote last


async def test_a_grant_tells_who_wrote_last_and_where(place: Place) -> None:
    """A new owner learns of the last write of others to each overlapping key, and of no own."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        one, two = await began(a, "t-1"), await began(a, "t-2")
        last: dict[str, int] = {}
        for n, (num, key) in enumerate([(one, "a/1"), (one, "a/2"), (one, "a/2"), (two, "b")], 1):
            await granted(a, num, f"write {key}", n=n)
            finished(a, num, n, f"write {key}")
            last[key] = await committed(a) or 0
        for num in (one, two):
            await halted(a, num, TurnStatus.DONE)

        three = await began(b, "t-3")
        answer = await granted(b, three, "write a")
        assert sorted(answer.wrote, key=lambda w: w.key) == [
            Wrote("a/1", last["a/1"], "t-1"),
            Wrote("a/2", last["a/2"], "t-1"),
        ]
        assert (await granted(b, three, "write a/2", n=2)).wrote[:1] == (
            Wrote("a/2", last["a/2"], "t-1"),
        )


async def test_a_turn_hears_of_every_write_since_it_began(place: Place) -> None:
    """Whoever began before others wrote is told of it at its first intent.

    Also of turns that are long over, and although its process asked for nothing until then.
    """
    async with opened(place.store()) as a, opened(place.store()) as b:
        one = await began(a, "t-1")
        two = await began(b, "t-2")
        await granted(b, two, "write a")
        finished(b, two, 1, "write a")
        await halted(b, two, TurnStatus.DONE)
        answer = await granted(a, one, "write a")
        assert [(w.key, w.turn_id) for w in answer.wrote] == [("a", "t-2")]


async def test_a_turn_that_was_taken_up_hears_of_writes_since_it_stopped(place: Place) -> None:
    """What others wrote while nobody ran a turn is told to whoever takes it up, in any process."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        one, two = await began(a, "t-1"), await began(b, "t-2")
        await halted(a, one, TurnStatus.WAITING)
        await granted(b, two, "write a")
        finished(b, two, 1, "write a")
        await halted(b, two, TurnStatus.DONE)
        async with opened(place.store()) as c:
            num = await claimed(c, "t-1")
            assert [w.turn_id for w in (await granted(c, num, "write a")).wrote] == ["t-2"]


async def test_own_writes_are_not_told(place: Place) -> None:
    """A turn is not told of what it wrote itself, also in an earlier life."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        one = await began(a, "t-1")
        await granted(a, one, "write a")
        finished(a, one, 1, "write a")
        await halted(a, one, TurnStatus.STOPPED)
        num = await claimed(b, "t-1")
        assert (await granted(b, num, "write a", n=2)).wrote == ()


async def test_the_turns_of_one_process_leave_nothing_dirty(place: Place) -> None:
    """Whatever other processes write in between, a turn that ended leaves no doubt behind."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        other = await began(b, "t-b")
        await granted(b, other, "write b")
        for k in range(4):
            num = await began(a, f"t-{k}")
            answer = await granted(a, num, "write a")
            assert not any(w.dirty for w in answer.wrote)
            assert answer.taken == ()
            b.append(other, noted("in between"))
            await committed(b)
            finished(a, num, 1, "write a")
            await halted(a, num, TurnStatus.DONE)
            b.append(other, noted("in between"))
            await committed(b)


# Positions


async def test_fences_only_grow_also_over_restarts(place: Place) -> None:
    """Each owner's fence is larger than any before, whichever process and whichever life."""
    fences: list[int] = []
    for life in range(3):
        async with opened(place.store()) as a, opened(place.store()) as b:
            for k in range(6):
                store = (a, b)[k % 2]
                before = store.position
                num = await began(store, f"t-{life}-{k}")
                fences.append((await granted(store, num, "write a")).position)
                assert store.position >= fences[-1] > before
                finished(store, num, 1, "write a")
                await halted(store, num, TurnStatus.DONE)
    assert fences == sorted(set(fences))


# The file


async def test_a_copy_of_the_journal_is_another_one(path: Path) -> None:
    """A journal keeps its id when it is opened again or moved, and a copy gets another one."""
    async with opened(SqliteStore(path)) as store:
        await begun(store, "t-1", noted("one"))
        first = store.copy_id
    async with opened(SqliteStore(path)) as a, opened(SqliteStore(path)) as b:
        assert a.copy_id == b.copy_id == first
    moved = path.with_name("moved.db")
    path.rename(moved)  # noqa: ASYNC240  nothing else runs
    async with opened(SqliteStore(moved)) as store:
        assert store.copy_id == first
    copied = path.with_name("copied.db")
    shutil.copyfile(moved, copied)
    async with opened(SqliteStore(copied)) as store:
        second = store.copy_id
        assert second != first
    async with opened(SqliteStore(copied)) as store, opened(SqliteStore(moved)) as other:
        assert (store.copy_id, other.copy_id) == (second, first)


async def test_memory_journals_are_copies_of_nothing() -> None:
    """Two journals in memory have two ids; two stores on one of them have one."""
    place = MemoryPlace()
    async with opened(place.store()) as a, opened(place.store()) as b, opened(MemoryStore()) as c:
        assert a.copy_id == b.copy_id
        assert c.copy_id not in ("", a.copy_id)


@pytest.mark.parametrize("sync", ["writes", "never"])
@pytest.mark.parametrize("again", [False, True], ids=["next", "meanwhile"])
async def test_a_commit_that_failed_leaves_everybody_right(
    path: Path,
    sync: str,
    again: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    """What was granted in a commit that is rolled back is owned by nobody.

    What others wrote before and after it is known all the same.
    """
    error = sqlite3.OperationalError("disk I/O error")
    store = FailsOnceWritten(path, fail_at=3, error=error, sync=sync)  # type: ignore[arg-type]
    async with opened(store), opened(SqliteStore(path, sync="never")) as other:
        one, beside, two = [
            await began(s, f"t-{k}") for k, s in enumerate((store, store, other), 1)
        ]
        store.fail_at = store.commits + 1
        with pytest.raises(StoreError, match="disk I/O"):
            await asked(store, one, "write a")
        assert store.frames("t-1") == [noted("t-1")]
        if again:
            await granted(other, two, "write b")
            finished(other, two, 1, "write b")
            await halted(other, two, TurnStatus.DONE)
            answer = await granted(store, beside, "write b", "write a")
            assert [(w.key, w.turn_id) for w in answer.wrote] == [("b", "t-3")]
        else:
            await granted(other, two, "write a")
            assert (await denied(store, beside, "write a")).owner == "t-3"
            answer = await granted(store, beside, "write b")
            assert answer.owned == ("b",)
        num = await claimed(store, "t-1")
        await denied(store, num, "write a", n=1)


class FailsOnceWritten(FaultyStore):
    """A journal of which one commit is rolled back after all of it was written."""

    fail_at = 0

    def _changed(self, *arguments: object) -> object:  # type: ignore[override]
        answer = super()._changed(*arguments)  # type: ignore[arg-type]
        if self.commits == self.fail_at and self._error is not None:
            raise self._error
        return answer


async def test_a_full_disk_grants_nothing(path: Path) -> None:
    """An intent that does not fit on the disk is an error, and nobody owns anything by it."""
    store = SqliteStore(path, sync="never")
    async with opened(store), opened(SqliteStore(path, sync="never")) as other:
        one, beside, two = [
            await began(s, f"t-{k}") for k, s in enumerate((store, store, other), 1)
        ]
        connection = store._connection  # noqa: SLF001  nobody else can fill this disk
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")
        store.append(one, noted(dense("x", 50_000)))
        with pytest.raises(StoreFullError):
            await asked(store, one, "write a")
        connection.execute("PRAGMA max_page_count=1000000")
        await granted(other, two, "write a")
        assert (await denied(store, beside, "write a")).owner == "t-3"
        await granted(store, beside, "write b")


async def test_a_foreign_write_lock_delays_a_grant(path: Path) -> None:
    """While another process writes an intent waits; then it is granted as if nothing had been.

    Who gives up meanwhile owns nothing, although its turn was stopped in the same commit.
    """
    async with (
        opened(SqliteStore(path, sync="never")) as store,
        opened(SqliteStore(path, sync="never")) as other,
    ):
        one, two, three = [await began(s, f"t-{k}") for k, s in enumerate((store, store, other))]
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        stays = asyncio.ensure_future(asked(store, one, "write a"))
        leaves = asyncio.ensure_future(asked(store, two, "write b"))
        await asyncio.sleep(0.02)
        leaves.cancel()
        stopped = asyncio.ensure_future(halted(store, two, TurnStatus.STOPPED))
        await asyncio.sleep(0.02)
        assert not stays.done()
        lock.execute("ROLLBACK")
        lock.close()
        assert isinstance(await stays, Granted)
        await stopped
        await denied(other, three, "write a")
        assert (await granted(other, three, "write b")).wrote == ()


async def test_a_lock_that_is_never_let_go_of_grants_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An intent that waited too long for the file is an error, and nobody owns anything by it."""
    monkeypatch.setattr("undercroft.storage.sqlite._BUSY_S", 0.02)
    async with opened(SqliteStore(path, sync="never")) as store:
        one, two = await began(store, "t-1"), await began(store, "t-2")
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError):
            await asked(store, one, "write a")
        lock.execute("ROLLBACK")
        lock.close()
        await granted(store, two, "write a")


@pytest.mark.parametrize("settled", [False, True], ids=["open", "settled"])
async def test_who_opens_a_journal_knows_its_owners(
    path: Path,
    settled: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    """A process that comes later finds every owner of turns that have not ended, dead or alive."""
    async with opened(SqliteStore(path)) as a:
        one = await began(a, "t-1")
        await granted(a, one, "write a")
        if settled:
            finished(a, one, 1, "write a")
            await committed(a)
        async with opened(SqliteStore(path)) as b:
            two = await began(b, "t-2")
            assert (await denied(b, two, "write a/x")).owner == "t-1"
    async with opened(SqliteStore(path)) as c:
        num = await began(c, "t-3")
        said = await denied(c, num, "write a/x")
        assert (said.owner, said.dead) == ("t-1", True)
        answer = await granted(c, num, "write a/x", lapsed={said.runtime: said.beat})
        assert answer.taken == (Taken("a", "t-1", dirty=not settled),)


async def test_who_opens_a_journal_knows_who_was_replaced(path: Path) -> None:
    """What a dead turn left dirty and another wrote since is clean for who comes later too."""
    a = SqliteStore(path)
    await a.open()
    await granted(a, await began(a, "t-1"), "write a")
    await a.close()
    async with opened(SqliteStore(path)) as b:
        num = await began(b, "t-2")
        await granted(b, num, "write a", lapsed={a.runtime: 1})
        finished(b, num, 1, "write a")
        await halted(b, num, TurnStatus.DONE)
    async with opened(SqliteStore(path)) as c:
        answer = await asked(c, await began(c, "t-3"), "write a")
        assert isinstance(answer, Granted)
        assert not any(w.dirty for w in answer.wrote)


@pytest.mark.parametrize("count", [1, 1_500])
async def test_many_writes_are_forgotten_only_when_nobody_needs_them(
    place: Place, count: int
) -> None:
    """However much was written since a turn began, it is told of it."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        one = await began(a, "t-1")
        two = await began(b, "t-2")
        for n in range(count):
            await granted(b, two, f"write a/{n}", n=n + 1)
            finished(b, two, n + 1, f"write a/{n}")
        await halted(b, two, TurnStatus.DONE)
        for k in range(3):
            other = await began(a, f"t-a{k}")
            await granted(a, other, f"write b/{k}")
            finished(a, other, 1, f"write b/{k}")
            await halted(a, other, TurnStatus.DONE)
        answer = await granted(a, one, "write a/0")
        assert [(w.key, w.turn_id) for w in answer.wrote] == [("a/0", "t-2")]


async def test_a_claim_says_how_far_the_turn_had_come(place: Place) -> None:
    """A claim tells the position of the turn's last frame, whoever wrote after it."""
    async with opened(place.store()) as b:
        a = place.store()
        await a.open()
        one, two = await began(a, "t-1"), await began(b, "t-2")
        last = (await granted(a, one, "write a")).position
        await granted(b, two, "write b")
        await a.close()
        answer = await b.claim("t-1", 2.0)
        assert isinstance(answer, Claimed)
        assert answer.position == last


async def test_claiming_is_all_that_ends_a_dead_turns_rest(place: Place) -> None:
    """A turn of a dead process that is not taken over can still be claimed, with its frames."""
    async with opened(place.store()) as b:
        a = place.store()
        await a.open()
        await granted(a, await began(a, "t-1"), "write a")
        await a.close()
        answer = await b.claim("t-1", 2.0)
        assert isinstance(answer, Claimed)
        assert answer.frames == [noted("t-1"), frame_of_intent(1, "write a")]

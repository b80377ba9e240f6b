"""What every store promises, whatever it keeps its journal in: the contract of `ports.Store`."""

from __future__ import annotations

import asyncio

import pytest

from tests.storage.places import Place, begun, committed, head, noted, opened
from undercroft.errors import FencedError
from undercroft.model.event import encode_frame
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import Claimed, Held, Over, TurnHead
from undercroft.ports import Store

FINAL = [status for status in TurnStatus if status.final]
PARKED = [TurnStatus.WAITING, TurnStatus.IN_DOUBT]


def in_journal(store: Store, turn_id: str) -> TurnHead:
    """Return the row of a turn."""
    return next(row for row in store.heads() if row.turn_id == turn_id)


# Queueing and committing


async def test_queueing_does_not_wait(place: Place) -> None:
    """What is queued is not in the journal before the loop had its turn; then it is."""
    async with opened(place.store()) as store:
        num = store.begin(head("t-1"))
        store.append(num, noted("one"))
        store.mark(num, TurnStatus.DONE, 2.0)
        waiter = store.durable()
        assert store.frames("t-1") is None
        assert store.heads() == []

        assert waiter is not None
        await waiter

        assert store.frames("t-1") == [noted("one")]
        assert in_journal(store, "t-1").status is TurnStatus.DONE


async def test_nothing_queued_is_nothing_to_wait_for(place: Place) -> None:
    """`durable` is None while there is nothing that could be lost."""
    async with opened(place.store()) as store:
        assert store.durable() is None
        await begun(store, "t-1", noted("one"))
        assert store.durable() is None


@pytest.mark.parametrize("work", ["begin", "append", "mark"])
async def test_everything_queued_can_be_waited_for(place: Place, work: str) -> None:
    """Each kind of work, by itself, is durable once its waiter says so."""
    async with opened(place.store()) as store:
        num = await begun(store, "t-1", noted("one"))
        match work:
            case "begin":
                store.begin(head("t-2"))
            case "append":
                store.append(num, noted("two"))
            case _:
                store.mark(num, TurnStatus.STOPPED, 2.0)

        assert await committed(store) is not None

        expected = {
            "begin": ({"t-1", "t-2"}, [noted("one")], TurnStatus.RUNNING),
            "append": ({"t-1"}, [noted("one"), noted("two")], TurnStatus.RUNNING),
            "mark": ({"t-1"}, [noted("one")], TurnStatus.STOPPED),
        }[work]
        rows = {row.turn_id for row in store.heads()}
        assert (rows, store.frames("t-1"), in_journal(store, "t-1").status) == expected


async def test_what_nobody_waits_for_is_committed_all_the_same(place: Place) -> None:
    """Work is committed soon after it was queued, also if nobody asks for it."""
    async with opened(place.store()) as store, asyncio.timeout(30):
        num = store.begin(head("t-1"))
        store.append(num, noted("one"))
        while not store.frames("t-1"):  # noqa: ASYNC110  nobody tells us, which is the point
            await asyncio.sleep(0.001)
        assert store.durable() is None


async def test_one_tick_is_seen_as_a_whole(place: Place) -> None:
    """All that one tick queued, of several turns, becomes visible at once and in order."""
    async with opened(place.store()) as store:
        nums = [store.begin(head(f"t-{k}")) for k in range(3)]
        for step in range(4):
            for k, num in enumerate(nums):
                store.append(num, noted(f"{step} of {k}"))

        seen: list[int] = []
        waiter = store.durable()
        assert waiter is not None
        for _ in range(3):
            seen.append(sum(len(store.frames(f"t-{k}") or []) for k in range(3)))
            await asyncio.sleep(0)
        await waiter

        assert set(seen) <= {0, 12}
        for k in range(3):
            assert store.frames(f"t-{k}") == [noted(f"{step} of {k}") for step in range(4)]


async def test_frames_keep_the_order_in_which_they_were_queued(place: Place) -> None:
    """Frames of a turn stand in the order of their queueing, over many commits."""
    async with opened(place.store()) as store:
        num = await begun(store, "t-1")
        expected = [noted(f"{k}") for k in range(50)]
        for place_in, frame in enumerate(expected):
            store.append(num, frame)
            if place_in % 7 == 0:
                await committed(store)
        await committed(store)
        assert store.frames("t-1") == expected


@pytest.mark.parametrize(
    "frame", [encode_frame([]), noted(""), noted("a\0b"), noted("ü" * 1_500_000)]
)
async def test_odd_frames_come_back_byte_for_byte(place: Place, frame: bytes) -> None:
    """Empty, odd and large frames come back as they were."""
    async with opened(place.store()) as store:
        await begun(store, "t-1", frame)
        assert store.frames("t-1") == [frame]


async def test_positions_only_grow(place: Place) -> None:
    """The position of a commit grows from one to the next, whoever commits it."""
    async with opened(place.store()) as a, opened(place.store()) as b:
        numbers: list[int] = []
        nums = {id(a): await begun(a, "t-a", noted("0")), id(b): await begun(b, "t-b", noted("0"))}
        for turn in range(12):
            store = (a, b)[turn % 3 == 0]
            for _ in range(turn % 4 + 1):
                store.append(nums[id(store)], noted("x"))
            waiter = store.durable(sync=True)
            assert waiter is not None
            numbers.append(await waiter)
            assert store.position >= numbers[-1]
        assert numbers == sorted(set(numbers))


async def test_the_backlog_is_what_is_not_committed(place: Place) -> None:
    """`backlog_bytes` is the size of the frames that are still queued."""
    async with opened(place.store()) as store:
        num = store.begin(head("t-1"))
        assert store.backlog_bytes == 0
        frames = noted("x" * 700), noted("x" * 41)
        for frame in frames:
            store.append(num, frame)
        assert store.backlog_bytes == sum(map(len, frames))
        await committed(store)
        assert store.backlog_bytes == 0


async def test_who_gives_up_waiting_disturbs_nobody(place: Place) -> None:
    """A cancelled waiter changes neither what is committed nor who else is told."""
    async with opened(place.store()) as store:
        num = store.begin(head("t-1"))
        store.append(num, noted("x"))
        first, second = store.durable(), store.durable()
        assert first is not None
        assert second is not None
        asyncio.ensure_future(first).cancel()
        await second
        assert store.frames("t-1") == [noted("x")]


async def test_closing_commits_the_queue(place: Place) -> None:
    """What was queued is committed by `close`, and whoever waits for it is told."""
    store = place.store()
    await store.open()
    num = store.begin(head("t-1"))
    store.append(num, noted("one"))
    waiters = [waiter for _ in range(100) if (waiter := store.durable(sync=True)) is not None]
    await store.close()

    assert len(waiters) == 100
    assert len(set(await asyncio.wait_for(asyncio.gather(*waiters), 5))) == 1
    async with opened(place.store()) as other:
        assert other.frames("t-1") == [noted("one")]


async def test_whoever_waits_is_told_in_order(place: Place) -> None:
    """However many wait for one commit, they go on in the order in which they asked."""
    async with opened(place.store()) as store:
        num, told = await begun(store, "t-1"), list[int]()

        async def work(k: int) -> None:
            store.append(num, noted(f"{k}"))
            await committed(store)
            told.append(k)

        await asyncio.gather(*(work(k) for k in range(200)))
        assert told == list(range(200))
        assert store.frames("t-1") == [noted(f"{k}") for k in range(200)]


async def test_closing_commits_a_turn_without_frames(place: Place) -> None:
    """A turn that only began, and a status that only changed, are not lost by `close`."""
    store = place.store()
    await store.open()
    num = await begun(store, "t-1", noted("one"))
    store.begin(head("t-2"))
    store.mark(num, TurnStatus.DONE, 2.0)
    await store.close()

    async with opened(place.store()) as other:
        assert [row.turn_id for row in other.heads()] == ["t-2", "t-1"]
        assert in_journal(other, "t-1").status is TurnStatus.DONE


async def test_runtimes_are_numbered_upwards(place: Place) -> None:
    """Each opening is a new runtime, with a larger number than any before."""
    numbers: list[int] = []
    for _ in range(3):
        async with opened(place.store()) as one, opened(place.store()) as two:
            numbers += [one.runtime, two.runtime]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > 0


# Statuses


@pytest.mark.parametrize("status", list(TurnStatus))
async def test_any_status_but_running_lets_go(place: Place, status: TurnStatus) -> None:
    """A turn is held from its begin until it is marked as anything but running."""
    async with opened(place.store()) as store:
        num = await begun(store, "t-1")
        assert in_journal(store, "t-1") == TurnHead(
            "t-1", "handler", "shop:assist", None, TurnStatus.RUNNING, 1.0, None, held=True
        )

        store.mark(num, status, 7.5)
        await committed(store)

        row = in_journal(store, "t-1")
        running = status is TurnStatus.RUNNING
        assert (row.status, row.held) == (status, running)
        assert row.ended_at == (None if running else 7.5)


@pytest.mark.parametrize("status", PARKED)
async def test_a_word_said_before_the_parking_is_not_lost(place: Place, status: TurnStatus) -> None:
    """A turn that is parked after somebody already said a word waits for no one: it can go on.

    Taken up again it knows of the word, and is parked like any other.
    """
    async with opened(place.store()) as store:
        num = await begun(store, "t-1", noted("one"))
        await store.amend("t-1", lambda _: noted("a word"))
        store.mark(num, status, 2.0)
        await committed(store)
        assert in_journal(store, "t-1").status is TurnStatus.STOPPED
        assert store.unfinished() == ["t-1"]

        answer = await store.claim("t-1", 3.0)
        assert isinstance(answer, Claimed)
        assert answer.frames == [noted("one"), noted("a word")]
        store.mark(answer.num, status, 4.0)
        await committed(store)
        assert in_journal(store, "t-1").status is status
        assert store.unfinished() == []


@pytest.mark.parametrize("status", FINAL)
async def test_a_word_said_too_late_changes_nothing(place: Place, status: TurnStatus) -> None:
    """A turn that ends is over, whatever was said about it meanwhile."""
    async with opened(place.store()) as store:
        num = await begun(store, "t-1", noted("one"))
        await store.amend("t-1", lambda _: noted("a word"))
        store.mark(num, status, 2.0)
        await committed(store)
        assert in_journal(store, "t-1").status is status


async def test_heads_are_newest_first_and_filtered(place: Place) -> None:
    """`heads` lists newest first, at most `limit`, of the statuses and session asked for."""
    async with opened(place.store()) as store:
        for k, status in enumerate(TurnStatus):
            num = await begun(store, f"t-{k}", session="s-1" if k % 2 else None)
            store.mark(num, status, 2.0)
        await committed(store)

        def ids(**wanted: object) -> list[str]:
            return [row.turn_id for row in store.heads(**wanted)]  # type: ignore[arg-type]

        everything = [f"t-{k}" for k in reversed(range(len(TurnStatus)))]
        assert ids() == everything
        assert ids(limit=2) == everything[:2]
        assert ids(statuses=(TurnStatus.RUNNING, TurnStatus.DONE)) == ["t-6", "t-0"]
        assert ids(session="s-1") == ["t-5", "t-3", "t-1"]
        assert ids(session="s-1", statuses=(TurnStatus.STOPPED,)) == ["t-1"]
        assert ids(session="nobody") == []


async def test_unfinished_turns_are_those_that_could_go_on(place: Place) -> None:
    """`unfinished` lists, oldest first, turns that are not over, not waiting and not held."""
    async with opened(place.store()) as store, opened(place.store()) as other:
        for k, status in enumerate([*TurnStatus, TurnStatus.STOPPED]):
            num = await begun(store, f"t-{k}")
            store.mark(num, status, 2.0)
        await begun(other, "t-9")
        await committed(store)

        assert store.unfinished() == other.unfinished() == ["t-1", "t-7"]
        place.declare_dead(store)
        assert other.unfinished() == ["t-0", "t-1", "t-7"]


async def test_an_unknown_turn_has_no_frames(place: Place) -> None:
    """What was never begun has no frames, while a turn without frames has an empty list."""
    async with opened(place.store()) as store:
        await begun(store, "t-1")
        assert store.frames("t-1") == []
        assert store.frames("t-2") is None


# Taking turns over


async def test_an_unknown_turn_cannot_be_claimed(place: Place) -> None:
    """Claiming what is not there is None."""
    async with opened(place.store()) as store:
        assert await store.claim("t-1", 1.0) is None


async def test_a_living_holder_keeps_its_turn(place: Place) -> None:
    """A turn that a live process holds cannot be taken, and its holder is named."""
    async with opened(place.store()) as store, opened(place.store()) as other:
        num = await begun(store, "t-1", noted("one"))
        for asking in (other, store):
            answer = await asking.claim("t-1", 2.0)
            assert isinstance(answer, Held)
            assert answer.holder
        store.append(num, noted("two"))
        await committed(store)
        assert other.frames("t-1") == [noted("one"), noted("two")]


async def test_a_dead_holder_loses_its_turn(place: Place) -> None:
    """A turn whose process ended is taken with all its frames, and goes on in the new one."""
    store = place.store()
    await store.open()
    await begun(store, "t-1", noted("one"), noted("two"))
    await store.close()

    async with opened(place.store()) as other:
        assert in_journal(other, "t-1").held is False
        answer = await other.claim("t-1", 2.0)
        assert isinstance(answer, Claimed)
        assert answer.frames == [noted("one"), noted("two")]
        assert in_journal(other, "t-1").held is True

        other.append(answer.num, noted("three"))
        other.mark(answer.num, TurnStatus.DONE, 3.0)
        await committed(other)
        assert other.frames("t-1") == [noted("one"), noted("two"), noted("three")]


@pytest.mark.parametrize("status", [*PARKED, TurnStatus.STOPPED])
async def test_a_turn_that_nobody_holds_can_be_claimed(place: Place, status: TurnStatus) -> None:
    """A parked or stopped turn is anybody's; who claims it holds it, and it runs again."""
    async with opened(place.store()) as store, opened(place.store()) as other:
        num = await begun(store, "t-1", noted("one"))
        store.mark(num, status, 2.0)
        await committed(store)

        answer = await other.claim("t-1", 3.0)

        assert isinstance(answer, Claimed)
        row = in_journal(store, "t-1")
        assert (row.status, row.ended_at, row.held) == (TurnStatus.RUNNING, None, True)
        assert isinstance(await store.claim("t-1", 4.0), Held)


@pytest.mark.parametrize("status", FINAL)
async def test_a_turn_that_is_over_stays_over(place: Place, status: TurnStatus) -> None:
    """A turn that has ended is never claimed; its frames say how it ended."""
    async with opened(place.store()) as store:
        num = await begun(store, "t-1", noted("one"))
        store.mark(num, status, 2.0)
        await committed(store)
        assert await store.claim("t-1", 3.0) == Over([noted("one")])
        assert in_journal(store, "t-1").status is status


async def test_only_one_of_many_gets_a_turn(place: Place) -> None:
    """However many claim a turn at the same moment, one of them gets it."""
    first = place.store()
    await first.open()
    await begun(first, "t-1", noted("one"))
    await first.close()

    stores = [place.store() for _ in range(5)]
    for store in stores:
        await store.open()
    answers = await asyncio.gather(*(store.claim("t-1", 2.0) for store in stores))
    assert sorted(type(answer).__name__ for answer in answers) == ["Claimed", *["Held"] * 4]
    for store in stores:
        await store.close()


async def test_a_fenced_process_records_nothing_more(place: Place) -> None:
    """Who was declared dead learns so at its next write, and nothing of it is written.

    Not to the turn that was taken from it, nor to any other; nor can it take or begin one.
    """
    async with opened(place.store()) as store, opened(place.store()) as other:
        taken = await begun(store, "t-1", noted("one"))
        kept = await begun(store, "t-2", noted("one"))
        place.declare_dead(store)
        assert isinstance(await other.claim("t-1", 2.0), Claimed)

        def begin() -> None:
            store.begin(head("t-3"))

        for write in (
            lambda: store.append(taken, noted("late")),
            lambda: store.append(kept, noted("late")),
            lambda: store.mark(kept, TurnStatus.DONE, 3.0),
            begin,
        ):
            with pytest.raises(FencedError):
                await write_through(store, write)
        with pytest.raises(FencedError):
            await store.claim("t-2", 3.0)

        assert other.frames("t-1") == other.frames("t-2") == [noted("one")]
        assert other.frames("t-3") is None
        assert in_journal(other, "t-2").status is TurnStatus.RUNNING
        assert isinstance(await other.claim("t-2", 4.0), Claimed)


async def write_through(store: Store, write: object) -> None:
    """Queue something and wait until it is committed; either may say that it cannot be."""
    assert callable(write)
    write()
    await committed(store)


async def test_a_batch_of_a_fenced_process_is_lost_as_a_whole(place: Place) -> None:
    """What was queued when the process was fenced is not written, and all who wait are told."""
    async with opened(place.store()) as store, opened(place.store()) as other:
        taken = await begun(store, "t-1", noted("one"))
        kept = await begun(store, "t-2", noted("one"))
        place.declare_dead(store)
        assert isinstance(await other.claim("t-1", 2.0), Claimed)

        with pytest.raises(FencedError):
            await write_both(store, kept, taken)
        assert other.frames("t-1") == other.frames("t-2") == [noted("one")]


async def write_both(store: Store, *nums: int) -> None:
    """Queue a frame of each turn, and raise what all who wait for them are told."""
    for num in nums:
        store.append(num, noted("late"))
    waiters = [store.durable(), store.durable(sync=True), store.durable()]
    answers = await asyncio.gather(*filter(None, waiters), return_exceptions=True)
    assert len({type(answer) for answer in answers}) == 1
    if isinstance(answers[0], BaseException):
        raise answers[0]


# Amending


async def test_an_amendment_follows_from_what_is_there(place: Place) -> None:
    """`amend` shows the frames of a turn and appends what is made of them."""
    async with opened(place.store()) as store:
        await begun(store, "t-1", noted("one"), noted("two"))
        assert await store.amend("t-1", lambda frames: noted(f"{len(frames)} frames")) is True
        assert store.frames("t-1") == [noted("one"), noted("two"), noted("2 frames")]


async def test_an_amendment_may_be_nothing(place: Place) -> None:
    """Where nothing is to be said nothing is written, and a parked turn stays parked."""
    async with opened(place.store()) as store:
        num = await begun(store, "t-1", noted("one"))
        store.mark(num, TurnStatus.WAITING, 2.0)
        await committed(store)
        assert await store.amend("t-1", lambda _: None) is True
        assert store.frames("t-1") == [noted("one")]
        assert in_journal(store, "t-1").status is TurnStatus.WAITING


async def test_an_unknown_turn_cannot_be_amended(place: Place) -> None:
    """Of a turn that is not there nobody is asked."""
    async with opened(place.store()) as store:
        asked: list[list[bytes]] = []

        def decide(frames: list[bytes]) -> bytes:
            asked.append(frames)
            return noted("x")

        assert await store.amend("t-1", decide) is False
        assert asked == []


async def test_an_amendment_that_raises_writes_nothing(place: Place) -> None:
    """What `decide` raises is raised, and the turn is as it was; the journal still works."""
    async with opened(place.store()) as store:
        num = await begun(store, "t-1", noted("one"))
        store.mark(num, TurnStatus.IN_DOUBT, 2.0)
        await committed(store)

        class NoWordError(Exception):
            pass

        def decide(frames: list[bytes]) -> bytes:
            raise NoWordError(frames)

        with pytest.raises(NoWordError):
            await store.amend("t-1", decide)
        assert store.frames("t-1") == [noted("one")]
        assert in_journal(store, "t-1").status is TurnStatus.IN_DOUBT
        assert await store.amend("t-1", lambda _: noted("two")) is True
        assert store.frames("t-1") == [noted("one"), noted("two")]


@pytest.mark.parametrize("status", list(TurnStatus))
async def test_a_parked_turn_that_was_decided_can_go_on(place: Place, status: TurnStatus) -> None:
    """An amendment makes a parked turn unfinished, and leaves any other as it is."""
    async with opened(place.store()) as store:
        num = await begun(store, "t-1", noted("one"))
        store.mark(num, status, 2.0)
        await committed(store)

        await store.amend("t-1", lambda _: noted("decided"))

        after = TurnStatus.STOPPED if status in PARKED else status
        assert in_journal(store, "t-1").status is after
        assert store.unfinished() == (["t-1"] if after is TurnStatus.STOPPED else [])


async def test_of_many_amendments_each_sees_those_before_it(place: Place) -> None:
    """Amendments are one after another: none is lost, and none acts on what is outdated."""
    async with opened(place.store()) as store, opened(place.store()) as other:
        await begun(store, "t-1")
        await asyncio.gather(
            *(
                (store, other)[k % 2].amend("t-1", lambda frames: noted(f"{len(frames)}"))
                for k in range(20)
            )
        )
        assert store.frames("t-1") == [noted(f"{k}") for k in range(20)]

"""What a journal in a file promises beyond what every store does: commits, flushes, the log."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.storage.places import begun, committed, dense, head, noted, opened
from undercroft.errors import SettingError, StoreBusyError, StoreError
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import Claimed
from undercroft.ports import Store
from undercroft.storage import wal
from undercroft.storage.read import open_reader
from undercroft.storage.sqlite import SqliteStore, Sync
from undercroft.testing import FaultyStore


class Flushes:
    """Sees every call that asks the kernel to flush, and may hold it up."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = threading.Event()
        self.may_go = threading.Semaphore(0)
        self.held = False

    async def begins(self) -> None:
        """Wait until a flush is under way, and forget it."""
        while not self.begun.is_set():  # noqa: ASYNC110  it is set in another thread
            await asyncio.sleep(0.001)
        self.begun.clear()

    def __call__(self, _frame: object, event: str, called: Any) -> None:
        """Take note of a call; this is what threads report theirs to."""
        if event == "c_call" and getattr(called, "__name__", "") in ("fdatasync", "fsync"):
            self.count += 1
            self.begun.set()
            if self.held:
                self.may_go.acquire(timeout=30)


@pytest.fixture
def flushes() -> Iterator[Flushes]:
    """Return what counts the flushes of threads that begin from now on."""
    seen = Flushes()
    threading.setprofile(seen)
    yield seen
    threading.setprofile(None)


# Commits


async def test_a_journal_is_in_wal_mode(path: Path) -> None:
    """Readers never wait for a writer: the file is in WAL mode, and says that it is ours."""
    async with opened(SqliteStore(path)) as store:
        await begun(store, "t-1", noted("one"))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA application_id").fetchone() == (0x55435246,)


@pytest.mark.parametrize("count", [1, 2, 500])
async def test_one_tick_is_one_commit(path: Path, count: int) -> None:
    """However much is queued in one tick of the loop, of however many turns, it is one commit."""
    store = FaultyStore(path)
    async with opened(store):
        for k in range(count):
            num = store.begin(head(f"t-{k}"))
            store.append(num, noted("x"))
            store.mark(num, TurnStatus.DONE, 2.0)
        await committed(store)
        assert store.commits == 1
        assert len(store.heads(limit=count + 1)) == count


async def test_tasks_share_a_commit(path: Path) -> None:
    """Turns that wait at the same time are committed together, not one after another."""
    store = FaultyStore(path)
    async with opened(store):
        num = await begun(store, "t-1")
        before = store.commits

        async def work() -> None:
            for _ in range(10):
                store.append(num, noted("x"))
                await committed(store)

        await asyncio.gather(*(work() for _ in range(16)))
        assert store.commits == before + 10
        assert len(store.frames("t-1") or ()) == 160


@pytest.mark.parametrize("error", [sqlite3.OperationalError("boom"), sqlite3.DatabaseError("bad")])
async def test_a_turn_never_has_a_gap(path: Path, error: sqlite3.Error) -> None:
    """A commit that fails is told to all it covers, and to every later append of its turns.

    Nothing of it is written; turns that were not part of it go on.
    """
    store = FaultyStore(path, fail_at=3, error=error)
    async with opened(store):
        one = await begun(store, "t-1", noted("one"))
        two = await begun(store, "t-2", noted("one"))
        store.append(one, noted("lost"))
        born = store.begin(head("t-3"))
        waiters = [store.durable(), store.durable(sync=True)]
        answers = await asyncio.gather(*filter(None, waiters), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreError, StoreError]

        for num in (one, born):
            with pytest.raises(StoreError):
                store.append(num, noted("after the gap"))
            with pytest.raises(StoreError):
                store.mark(num, TurnStatus.DONE, 2.0)
        store.append(two, noted("two"))
        await committed(store)
        assert store.frames("t-1") == [noted("one")]
        assert store.frames("t-2") == [noted("one"), noted("two")]
        assert store.frames("t-3") is None


async def test_a_turn_that_broke_here_can_be_taken_up_here(path: Path) -> None:
    """After a failed commit the turn is anybody's, also its own process's, and has no gap."""
    error = sqlite3.OperationalError("disk I/O error")
    store = FaultyStore(path, fail_at=2, error=error)
    async with opened(store):
        num = await begun(store, "t-1", noted("one"))
        store.append(num, noted("lost"))
        with pytest.raises(StoreError):
            await committed(store)
        assert store.unfinished() == ["t-1"]

        answer = await store.claim("t-1", 2.0)

        assert isinstance(answer, Claimed)
        assert answer.frames == [noted("one")]
        assert store.unfinished() == []
        store.append(answer.num, noted("again"))
        await committed(store)
        assert store.frames("t-1") == [noted("one"), noted("again")]


# Flushes


@pytest.mark.parametrize(
    ("sync", "asked", "flushed"),
    [
        ("writes", False, False),
        ("writes", True, True),
        ("always", False, True),
        ("always", True, True),
        ("never", False, False),
        ("never", True, False),
    ],
)
async def test_a_commit_is_flushed_where_that_was_chosen(
    path: Path, flushes: Flushes, *, sync: Sync, asked: bool, flushed: bool
) -> None:
    """`writes` flushes what asks for it, `always` everything, `never` nothing."""
    async with opened(SqliteStore(path, sync=sync)) as store:
        num = await begun(store, "t-1")
        flushes.count = 0
        for turn in range(1, 4):
            store.append(num, noted("x"))
            await committed(store, sync=asked)
            assert flushes.count == (turn if flushed else 0)


@pytest.mark.parametrize(("sync", "flushed"), [("writes", 1), ("always", 1), ("never", 0)])
async def test_a_frame_may_ask_for_the_disk_itself(
    path: Path, flushes: Flushes, *, sync: Sync, flushed: int
) -> None:
    """What holds the outcome of a write is flushed, also if nobody waits for that."""
    async with opened(SqliteStore(path, sync=sync)) as store:
        num = await begun(store, "t-1")
        if sync == "always":
            await flushes.begins()
        flushes.count = 0
        store.append(num, noted("plain"))
        store.append(num, noted("outcome"), sync=True)
        await commits_of(store)
        if flushed:
            await flushes.begins()
        assert flushes.count == flushed


async def commits_of(store: Store) -> None:
    """Wait until what is queued is committed, and for no flush."""
    await (store.durable(sync=False) or asyncio.sleep(0))


async def test_what_was_committed_unflushed_can_still_be_flushed(
    path: Path, flushes: Flushes
) -> None:
    """Asking for the disk with nothing queued waits for what was committed before, once."""
    async with opened(SqliteStore(path)) as store:
        await begun(store, "t-1", noted("x"))
        assert flushes.count == 0
        assert await committed(store, sync=True) is not None
        assert flushes.count == 1
        assert store.durable(sync=True) is None


async def test_a_claim_is_flushed_with_the_next_write(path: Path, flushes: Flushes) -> None:
    """What was claimed or amended counts as unflushed until a flush that began later."""
    async with opened(SqliteStore(path)) as store:
        await begun(store, "t-1", noted("x"))
        await committed(store, sync=True)
        assert store.durable(sync=True) is None
        await store.amend("t-1", lambda _: noted("a word"))
        assert store.durable(sync=True) is not None
        await committed(store, sync=True)
        assert flushes.count == 2


async def test_a_flush_covers_only_what_was_committed_before_it(
    path: Path, flushes: Flushes
) -> None:
    """Whoever commits while a flush is under way is released by the next one, not by this."""
    async with opened(SqliteStore(path)) as store:
        num = await begun(store, "t-1")
        flushes.held = True
        store.append(num, noted("one"))
        first = asyncio.ensure_future(store.durable(sync=True) or asyncio.sleep(0))
        await flushes.begins()
        store.append(num, noted("two"))
        second = asyncio.ensure_future(store.durable(sync=True) or asyncio.sleep(0))
        await commits_of(store)
        assert not first.done()

        flushes.may_go.release()
        await first
        await flushes.begins()
        assert not second.done()

        flushes.held = False
        flushes.may_go.release()
        await second
        assert flushes.count == 2


async def test_what_asks_during_a_flush_gets_the_next_one(path: Path, flushes: Flushes) -> None:
    """A frame that asks for the disk while a flush is under way is flushed without a waiter."""
    async with opened(SqliteStore(path)) as store:
        num = await begun(store, "t-1")
        flushes.held = True
        store.append(num, noted("one"), sync=True)
        await commits_of(store)
        await flushes.begins()
        store.append(num, noted("two"), sync=True)
        await commits_of(store)
        flushes.may_go.release()
        await flushes.begins()
        flushes.held = False
        flushes.may_go.release()


async def test_closing_waits_for_every_flush(path: Path, flushes: Flushes) -> None:
    """Whoever waits for the disk when the journal is closed is told, in one flush or the next."""
    store = SqliteStore(path)
    await store.open()
    num = await begun(store, "t-1")
    flushes.held = True
    store.append(num, noted("one"))
    first = asyncio.ensure_future(store.durable(sync=True) or asyncio.sleep(0))
    await flushes.begins()
    store.append(num, noted("two"))
    second = asyncio.ensure_future(store.durable(sync=True) or asyncio.sleep(0))
    closing_ = asyncio.ensure_future(store.close())
    await ticks(20)
    flushes.held = False
    flushes.may_go.release()
    async with asyncio.timeout(30):
        await asyncio.gather(first, second, closing_)


async def test_one_flush_serves_many(path: Path, flushes: Flushes) -> None:
    """Who asks while a flush is under way shares the next one, however many there are."""
    async with opened(SqliteStore(path)) as store:
        nums = [await begun(store, f"t-{k}") for k in range(20)]
        flushes.held = True
        waiters = []
        for num in nums:
            store.append(num, noted("x"))
            waiters.append(asyncio.ensure_future(store.durable(sync=True) or asyncio.sleep(0)))
            # A commit of its own for each.
            await commits_of(store)
        flushes.held = False
        flushes.may_go.release()
        await asyncio.gather(*waiters)
        assert flushes.count == 2


async def test_a_flush_does_not_hold_up_the_loop(path: Path, flushes: Flushes) -> None:
    """While the disk is slow the loop runs, and commits that need no flush go through."""
    async with opened(SqliteStore(path)) as store:
        num = await begun(store, "t-1")
        flushes.held = True
        store.append(num, noted("slow"))
        slow = asyncio.ensure_future(store.durable(sync=True) or asyncio.sleep(0))
        for _ in range(100):
            store.append(num, noted("fast"))
            await committed(store)
        assert not slow.done()
        flushes.held = False
        flushes.may_go.release()
        await slow


async def test_a_failed_flush_is_never_taken_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one flush failed nothing counts as on disk any more, until the file is reopened.

    The kernel says only once that it lost a page; the next flush would seem to succeed.
    """

    def failing(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    async with opened(SqliteStore(path)) as store:
        num = await begun(store, "t-1")
        real = wal._flush  # noqa: SLF001  the one call to the kernel that cannot be made to fail
        monkeypatch.setattr(wal, "_flush", failing)
        store.append(num, noted("one"))
        with pytest.raises(StoreError, match=r"journal\.db: flushing failed .*Check the disk"):
            await committed(store, sync=True)
        monkeypatch.setattr(wal, "_flush", real)
        store.append(num, noted("two"))
        with pytest.raises(StoreError, match="flushing failed"):
            await committed(store, sync=True)
    async with opened(SqliteStore(path)) as store:
        answer = await store.claim("t-1", 2.0)
        assert isinstance(answer, Claimed)
        store.append(answer.num, noted("three"))
        await committed(store, sync=True)


# The write lock


@contextmanager
def lock_held(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold the write lock of a journal on a connection of our own."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


async def ticks(count: int) -> None:
    """Let the loop turn `count` times, a millisecond apart."""
    for _ in range(count):
        await asyncio.sleep(0.001)


async def test_a_foreign_write_lock_only_delays(path: Path) -> None:
    """While another process writes the loop runs; then all that was queued is committed.

    It is one commit, in the order of queueing.
    """
    store = FaultyStore(path)
    async with opened(store):
        num = await begun(store, "t-1")
        with lock_held(path) as lock:
            waiters = []
            for k in range(30):
                store.append(num, noted(f"{k}"))
                waiters.append(asyncio.ensure_future(store.durable() or asyncio.sleep(0)))
                # The lock is let go of only if the loop gets here every time.
                await ticks(10)
            assert not any(waiter.done() for waiter in waiters)
            assert store.backlog_bytes == sum(len(noted(f"{k}")) for k in range(30))
            lock.execute("ROLLBACK")
        positions = await asyncio.gather(*waiters)
        assert len(set(positions)) == 1
        assert store.frames("t-1") == [noted(f"{k}") for k in range(30)]


@pytest.mark.parametrize("what", ["claim", "amend", "open", "close"])
async def test_a_foreign_write_lock_delays_everything_alike(path: Path, what: str) -> None:
    """Claiming, amending, opening and closing wait for the lock too, and do not stop the loop."""
    store = SqliteStore(path, sync="never")
    async with opened(store):
        num = await begun(store, "t-1", noted("one"))
        store.mark(num, TurnStatus.WAITING, 2.0)
        await committed(store)
    store, other = SqliteStore(path, sync="never"), SqliteStore(path, sync="never")
    await store.open()
    with lock_held(path) as lock:
        match what:
            case "claim":
                work: asyncio.Future[Any] = asyncio.ensure_future(store.claim("t-1", 3.0))
            case "amend":
                work = asyncio.ensure_future(store.amend("t-1", lambda _: noted("two")))
            case "open":
                work = asyncio.ensure_future(other.open())
            case _:
                store.begin(head("t-2"))
                work = asyncio.ensure_future(store.close())
        await ticks(30)
        assert not work.done()
        lock.execute("ROLLBACK")
    await work
    with open_reader(str(path)) as reader:
        written = (reader.frames("t-1"), reader.frames("t-2"))
    assert written == {
        "amend": ([noted("one"), noted("two")], None),
        "close": ([noted("one")], []),
    }.get(what, ([noted("one")], None))
    if what != "close":
        await store.close()
    if what == "open":
        await other.close()


async def test_opening_waits_for_whoever_makes_the_journal(path: Path) -> None:
    """While another process makes the very file, opening it waits, and does not stop the loop."""
    store = SqliteStore(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        opening = asyncio.ensure_future(store.open())
        await ticks(30)
        assert not opening.done()
        other.execute("ROLLBACK")
    await opening
    await begun(store, "t-1", noted("one"))
    await store.close()


async def test_closing_under_a_foreign_lock_does_not_pile_up_work(path: Path) -> None:
    """While `close` waits for the lock it tries again now and then, not more and more often."""
    store = FaultyStore(path)
    await store.open()
    num = await begun(store, "t-1")
    with lock_held(path) as lock:
        store.append(num, noted("x"))
        closing_ = asyncio.ensure_future(store.close())
        before = store.commits
        await ticks(100)
        # About one try a tick; one more each time would be more than a thousand.
        assert store.commits - before < 500
        lock.execute("ROLLBACK")
    await closing_


async def test_a_lock_that_is_never_let_go_of_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for the write lock has a limit; the error names the file and the mend."""
    monkeypatch.setattr("undercroft.storage.sqlite._BUSY_S", 0.05)
    store, other = SqliteStore(path), SqliteStore(path)
    async with opened(store):
        num = await begun(store, "t-1", noted("one"))
        with lock_held(path):
            store.append(num, noted("two"))
            for work in (committed(store), store.claim("t-1", 2.0), other.open()):
                with pytest.raises(StoreBusyError, match=r"journal\.db.*Let that process end"):
                    await work
        assert store.frames("t-1") == [noted("one")]


# The log


LIMIT_BYTES = 1 << 20


@pytest.mark.parametrize(
    ("commits", "frames", "size_bytes"),
    [pytest.param(300, 8, 8_000, id="large-commits"), pytest.param(3_000, 1, 300, id="small")],
)
async def test_the_log_stays_bounded_under_steady_writing(
    path: Path, commits: int, frames: int, size_bytes: int
) -> None:
    """However much is written without a pause, the write-ahead log stays near its bound."""
    log_path, largest = path.with_name("journal.db-wal"), 0
    async with opened(SqliteStore(path, sync="never", wal_limit_bytes=LIMIT_BYTES)) as store:
        num = await begun(store, "t-1")
        for commit in range(commits):
            for place in range(frames):
                store.append(num, noted(dense(f"{commit}.{place}", size_bytes)))
            await committed(store)
            largest = max(largest, log_path.stat().st_size)
        assert len(store.frames("t-1") or ()) == commits * frames
    # Each commit writes at least two pages of 4 KiB, so all of them would not have fitted.
    assert commits * max(frames * size_bytes, 8_192) > 15 * LIMIT_BYTES
    assert largest <= 2 * LIMIT_BYTES


async def test_a_reader_that_stays_stops_nobody(path: Path) -> None:
    """While somebody keeps reading an old state the log grows, and writing goes on.

    Once the reader is gone the log goes back to its bound.
    """
    log_path = path.with_name("journal.db-wal")
    async with opened(SqliteStore(path, sync="never", wal_limit_bytes=LIMIT_BYTES)) as store:
        num = await begun(store, "t-1", noted("first"))

        async def write(commits: int) -> None:
            for commit in range(commits):
                store.append(num, noted(dense(f"{commit}", 30_000)))
                await committed(store)

        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM frame").fetchone() == (1,)
            await write(100)
            assert reader.execute("SELECT count(*) FROM frame").fetchone() == (1,)
        assert log_path.stat().st_size > 2 * LIMIT_BYTES
        await write(200)
        assert log_path.stat().st_size <= 2 * LIMIT_BYTES
        assert len(store.frames("t-1") or ()) == 301


@pytest.mark.parametrize("wal_limit_bytes", [0, -1, (1 << 20) - 1])
def test_a_log_too_small_is_a_bad_setting(path: Path, wal_limit_bytes: int) -> None:
    """A bad setting fails where it is written."""
    with pytest.raises(SettingError, match="wal_limit_bytes"):
        SqliteStore(path, wal_limit_bytes=wal_limit_bytes)


@pytest.mark.parametrize("sync", ["", "Always", "full", None, 1])
def test_an_unknown_sync_is_a_bad_setting(path: Path, sync: Any) -> None:
    """A bad setting fails where it is written."""
    with pytest.raises(SettingError, match="sync"):
        SqliteStore(path, sync=sync)


# Paths

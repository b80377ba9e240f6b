"""A disk that is full, and has room again: nothing is lost and nothing is half written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.storage.child import Child, run
from tests.storage.places import begun, committed, dense, head, noted, opened
from undercroft.errors import StoreError, StoreFullError
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import Claimed
from undercroft.storage.sqlite import SqliteStore


class SmallDisk(SqliteStore):
    """A journal on a disk that is as large as we say."""

    def fill_up(self, *, spare_pages: int = 0) -> None:
        """Leave room for only so many pages more."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        self._connection.execute(f"PRAGMA max_page_count={pages + spare_pages}")

    def make_room(self) -> None:
        """Leave as much room as there is."""
        self._connection.execute("PRAGMA max_page_count=1000000")


@asynccontextmanager
async def small_disk(path: Path) -> AsyncIterator[SmallDisk]:
    """Open a journal on a small disk."""
    store = SmallDisk(path)
    async with opened(store):
        yield store


async def fail_when_full(store: SmallDisk, num: int) -> int:
    """Append until the disk is full; return how many appends were committed."""
    kept = 0

    async def fill() -> None:
        nonlocal kept
        for kept in range(1_000):
            store.append(num, noted(dense(f"{kept}", 3_000)))
            await committed(store)

    with pytest.raises(StoreFullError, match=r"journal\.db: the disk is full.*Make room") as full:
        await fill()
    assert full.value.path.endswith("journal.db")
    return kept


async def test_a_full_disk_is_an_error_that_names_the_mend(tmp_path: Path) -> None:
    """What no longer fits is refused as a whole; all that was committed before is there."""
    path = tmp_path / "journal.db"
    async with small_disk(path) as store:
        num = await begun(store, "t-1", noted("one"))
        store.fill_up(spare_pages=10)
        kept = await fail_when_full(store, num)
        assert 0 < kept < 20
        assert store.frames("t-1") == [
            noted("one"),
            *(noted(dense(f"{k}", 3_000)) for k in range(kept)),
        ]

        # Not even a turn of its own that began in the same moment is half there.
        store.begin(head("t-2"))
        other = store.begin(head("t-3"))
        store.append(other, noted(dense("y", 9_000)))
        with pytest.raises(StoreFullError):
            await committed(store)
        assert [row.turn_id for row in store.heads()] == ["t-1"]


async def test_with_room_again_every_turn_goes_on(tmp_path: Path) -> None:
    """Once there is room, the same process takes up the turn that failed, and the others run."""
    async with small_disk(tmp_path / "journal.db") as store:
        parked = await begun(store, "t-0", noted("zero"))
        store.mark(parked, TurnStatus.WAITING, 2.0)
        num = await begun(store, "t-1", noted("one"))
        beside = await begun(store, "t-2", noted("two"))
        store.fill_up(spare_pages=5)
        kept = await fail_when_full(store, num)
        with pytest.raises(StoreFullError):
            store.append(num, noted("after the gap"))

        store.make_room()

        assert store.unfinished() == ["t-1"]
        answer = await store.claim("t-1", 3.0)
        assert isinstance(answer, Claimed)
        assert answer.frames == [noted("one"), *(noted(dense(f"{k}", 3_000)) for k in range(kept))]
        store.append(answer.num, noted("goes on"))
        store.append(beside, noted("goes on too"))
        await committed(store, sync=True)
        assert await store.amend("t-0", lambda _: noted("decided"))
        assert (store.frames("t-1") or [])[-1] == noted("goes on")
        assert store.frames("t-2") == [noted("two"), noted("goes on too")]
        assert store.frames("t-0") == [noted("zero"), noted("decided")]


async def test_after_a_restart_every_turn_goes_on(tmp_path: Path) -> None:
    """A process that ended because the disk was full leaves turns that the next one takes up."""
    path = tmp_path / "journal.db"
    async with small_disk(path) as store:
        num = await begun(store, "t-1", noted("one"))
        await begun(store, "t-2", noted("two"))
        store.fill_up(spare_pages=5)
        kept = await fail_when_full(store, num)

    async with opened(SqliteStore(path)) as store:
        assert store.unfinished() == ["t-1", "t-2"]
        for turn_id, frames in (("t-1", 1 + kept), ("t-2", 1)):
            answer = await store.claim(turn_id, 3.0)
            assert isinstance(answer, Claimed)
            assert len(answer.frames) == frames
            store.append(answer.num, noted("goes on"))
            await committed(store)


async def test_what_people_say_on_a_full_disk_is_not_half_written(tmp_path: Path) -> None:
    """An amendment that does not fit is an error, and the turn stays as it was."""
    async with small_disk(tmp_path / "journal.db") as store:
        num = await begun(store, "t-1", noted("one"))
        store.mark(num, TurnStatus.WAITING, 2.0)
        await committed(store)
        store.fill_up()
        with pytest.raises(StoreFullError, match=r"journal\.db"):
            await store.amend("t-1", lambda _: noted(dense("x", 100_000)))
        assert store.frames("t-1") == [noted("one")]
        assert store.heads()[0].status is TurnStatus.WAITING
        store.make_room()
        assert await store.amend("t-1", lambda _: noted(dense("x", 100_000)))


class NoRoomToOpen(SmallDisk):
    """A journal on a disk that is full at the moment when its process registers."""

    def _register(self) -> None:
        super()._register()
        self.fill_up()
        self._connection.execute("INSERT INTO frame(turn, data) VALUES(0, zeroblob(100000))")


async def test_a_process_that_could_not_register_is_not_there(tmp_path: Path) -> None:
    """Opening on a full disk is an error; the next to open is the first that was there."""
    path = tmp_path / "journal.db"
    with pytest.raises(StoreFullError, match=r"journal\.db"):
        await NoRoomToOpen(path).open()
    with Child("hold", tmp_path / "journal.db", 0) as child:
        assert child.hear()["runtime"] == 1
    async with opened(SqliteStore(path)) as store:
        assert store.runtime == 2
        await begun(store, "t-1", noted("one"))
        assert [row.held for row in store.heads()] == [True]


def test_a_file_that_may_not_grow_is_an_error_too(tmp_path: Path) -> None:
    """A limit of the system on the size of files is told as a failing disk, in a real process.

    With the limit lifted the same process goes on, and nothing is missing.
    """
    path = tmp_path / "journal.db"
    said = run("grow", path)
    assert said["error"] == StoreError.__name__
    assert str(path) in said["text"]
    assert "Check the disk" in said["text"]
    assert said["claimed"] == said["committed"]
    assert said["after"] == said["committed"] + 1

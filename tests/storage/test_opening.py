"""Opening a journal by whatever name, and letting go of all of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.storage.places import begun, noted, opened
from undercroft.errors import StoreError
from undercroft.storage.read import open_reader
from undercroft.storage.sqlite import SqliteStore


@pytest.mark.parametrize("name", ["a b.db", "50%.db", "what?.db", "#1.db", "ü.db", "x", "a;b'c.db"])
async def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    """A journal may have any name, for writing and for reading."""
    path = tmp_path / name
    async with opened(SqliteStore(path)) as store:
        await begun(store, "t-1", noted("one"))
    with open_reader(str(path)) as reader:
        assert reader.frames("t-1") == [noted("one")]
    assert path.is_file()


async def test_a_link_is_as_good_as_the_file(tmp_path: Path, path: Path) -> None:
    """A journal that is opened by a symbolic link is the same journal, with the same lives."""
    async with opened(SqliteStore(path)) as store:
        await begun(store, "t-1", noted("one"))
        link = tmp_path / "folder" / "link.db"
        link.parent.mkdir()
        link.symlink_to(path)
        async with opened(SqliteStore(link, sync="always")) as other:
            assert other.heads()[0].held is True
            await begun(other, "t-2", noted("two"))
            assert store.frames("t-2") == [noted("two")]


async def test_a_journal_may_be_named_relative_to_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name without a folder is a file in the folder of the process."""
    monkeypatch.chdir(tmp_path)
    async with opened(SqliteStore("journal.db")) as store:
        await begun(store, "t-1", noted("one"))
    assert (tmp_path / "journal.db").is_file()


def descriptors() -> int:
    """Return how many files this process has open; where nobody can say, 0."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


async def test_closing_lets_go_of_every_descriptor_and_thread(path: Path) -> None:
    """A closed journal leaves no open file and no thread behind."""

    def left() -> tuple[int, int]:
        return descriptors(), threading.active_count()

    async with opened(SqliteStore(path)) as store:
        await begun(store, "t-1", noted("one"))
    before = left()
    for _ in range(3):
        async with opened(SqliteStore(path)) as store:
            await begun(store, f"t-{store.runtime}", noted("one"))
    assert left() == before


async def test_a_failed_opening_leaves_nothing_behind(tmp_path: Path) -> None:
    """A journal that cannot be opened holds no file and no runtime afterwards."""
    path = tmp_path / "text.db"
    path.write_text("not a journal " * 100)
    before = descriptors()
    for _ in range(3):
        with pytest.raises(StoreError):
            await SqliteStore(path).open()
    assert descriptors() == before

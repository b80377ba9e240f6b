"""Files that are no journals, or no longer: each is refused by name, and left as it was."""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.storage.places import begun, committed, dense, noted, opened
from undercroft.errors import StoreCorruptError, StoreError, StoreVersionError
from undercroft.model.outcome import TurnStatus
from undercroft.storage.read import open_reader
from undercroft.storage.sqlite import SqliteStore

PAGE_BYTES = 4_096


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a journal of some pages, closed properly."""
    path = tmp_path_factory.mktemp("journal") / "journal.db"

    async def fill() -> None:
        async with opened(SqliteStore(path)) as store:
            for k in range(40):
                num = await begun(store, f"t-{k:03}", noted(dense(f"{k}", 1_000)))
                store.mark(num, TurnStatus.STOPPED, 2.0)
                await committed(store)

    asyncio.run(fill())
    return path.read_bytes()


def edited(journal: bytes, path: Path, statement: str) -> None:
    """Write a journal to which somebody did something with SQLite."""
    path.write_bytes(journal)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def names_in(folder: Path) -> list[str]:
    """Return the names of the files of a folder."""
    return [file.name for file in folder.iterdir()]


def noise(size_bytes: int) -> bytes:
    """Return bytes that mean nothing, the same each time."""
    return random.Random(7).randbytes(size_bytes)  # noqa: S311  guards nothing


def foreign(_journal: bytes, path: Path) -> None:
    """Write a database of something else."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customer(name TEXT)")
        connection.execute("INSERT INTO customer VALUES ('Ada')")
        connection.commit()


Spoil = Callable[[bytes, Path], object]

SPOILT: dict[str, tuple[Spoil, type[StoreError], str]] = {
    "text": (
        lambda _, path: path.write_text("Dear diary,\n" * 500),
        StoreCorruptError,
        r"cannot be read as a journal.*Restore it from a backup.*not touched",
    ),
    "short-text": (lambda _, path: path.write_text("hello"), StoreCorruptError, "backup"),
    "zeros": (lambda _, path: path.write_bytes(bytes(20_000)), StoreCorruptError, "backup"),
    "header-only": (
        lambda journal, path: path.write_bytes(journal[:100]),
        StoreCorruptError,
        "backup",
    ),
    "first-page-only": (
        lambda journal, path: path.write_bytes(journal[:PAGE_BYTES]),
        StoreCorruptError,
        "backup",
    ),
    "half": (
        lambda journal, path: path.write_bytes(journal[: len(journal) // 2]),
        StoreCorruptError,
        "backup",
    ),
    "one-byte-short": (
        lambda journal, path: path.write_bytes(journal[:-1]),
        StoreCorruptError,
        r"truncated: [\d,]+ bytes of [\d,]+.*backup.*not touched",
    ),
    "garbled-schema": (
        lambda journal, path: path.write_bytes(
            journal[:100] + noise(PAGE_BYTES - 100) + journal[PAGE_BYTES:]
        ),
        StoreCorruptError,
        "backup",
    ),
    "foreign": (foreign, StoreCorruptError, r"database of something else.*a new file"),
    "foreign-that-is-versioned": (
        lambda _, path: edited(b"", path, "CREATE TABLE t(x)"),
        StoreCorruptError,
        "something else",
    ),
    "newer": (
        lambda journal, path: edited(journal, path, "PRAGMA user_version=4711"),
        StoreVersionError,
        r"version 4711.*knows up to \d+.*Upgrade Undercroft.*not touched",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
async def test_what_is_no_journal_is_refused_and_left_alone(
    journal: bytes, tmp_path: Path, name: str
) -> None:
    """Opening names the file and the mend, and changes neither the file nor its folder."""
    spoil, kind, text = SPOILT[name]
    path = tmp_path / "spoilt.db"
    spoil(journal, path)
    before = path.read_bytes()

    with pytest.raises(kind) as writing:
        await SqliteStore(path).open()
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["spoilt.db"]
    with pytest.raises(kind) as reading, open_reader(str(path)):
        pass

    for caught in (writing, reading):
        assert caught.value.path == str(path)
        assert str(path) in str(caught.value)
        assert re.search(text, str(caught.value), re.DOTALL)
    assert path.read_bytes() == before


async def test_the_untouched_journal_opens(journal: bytes, tmp_path: Path) -> None:
    """What the other tests spoil is a good journal."""
    path = tmp_path / "good.db"
    path.write_bytes(journal)
    with open_reader(str(path)) as reader:
        assert len(reader.unfinished()) == 40
    async with opened(SqliteStore(path)) as store:
        assert len(store.unfinished()) == 40


async def test_damage_further_in_is_an_error_where_it_is_met(
    journal: bytes, tmp_path: Path
) -> None:
    """A journal whose tables are damaged may open, but reading them is never silently wrong."""
    path = tmp_path / "spoilt.db"
    path.write_bytes(journal[: 2 * PAGE_BYTES] + noise(len(journal) - 2 * PAGE_BYTES))
    with (
        pytest.raises(StoreCorruptError, match=r"spoilt\.db.*backup"),
        open_reader(str(path)) as reader,
    ):
        reader.frames("t-001")


async def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    """A file of no bytes is nobody's: it is taken, as if it were not there."""
    path = tmp_path / "empty.db"
    path.touch()
    with (
        pytest.raises(StoreError, match=r"empty\.db.*it is empty.*Run a turn"),
        open_reader(str(path)),
    ):
        pass
    async with opened(SqliteStore(path)) as store:
        await begun(store, "t-1", noted("one"))
    with open_reader(str(path)) as reader:
        assert reader.frames("t-1") == [noted("one")]


async def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A journal in a missing folder is an error that names the path and the mend."""
    path = tmp_path / "nowhere" / "journal.db"
    with pytest.raises(StoreError, match=r"nowhere.*journal\.db.*Check that its folder exists"):
        await SqliteStore(path).open()
    assert not path.parent.exists()


async def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    """A folder in the place of a journal is an error that names it."""
    with pytest.raises(StoreError, match=re.escape(str(tmp_path))):
        await SqliteStore(tmp_path).open()
    with pytest.raises(StoreError, match=re.escape(str(tmp_path))), open_reader(str(tmp_path)):
        pass


def test_reading_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    """A reader names the missing file and does not make it."""
    path = tmp_path / "journal.db"
    with (
        pytest.raises(StoreError, match=r"journal\.db: there is no such file.*--db"),
        open_reader(str(path)),
    ):
        pass
    assert not path.exists()


async def test_a_log_that_was_cut_loses_only_its_end(tmp_path: Path) -> None:
    """After a crash that tore the log, what was committed before the tear is there."""
    path, torn = tmp_path / "journal.db", tmp_path / "torn.db"
    async with opened(SqliteStore(path)) as store:
        num = await begun(store, "t-1")
        for k in range(30):
            store.append(num, noted(dense(f"{k}", 2_000)))
            await committed(store)
        # The state at the moment of a crash: the file and its log, copied.
        torn.write_bytes(path.read_bytes())
        log = path.with_name("journal.db-wal").read_bytes()
        torn.with_name("torn.db-wal").write_bytes(log[: len(log) * 2 // 3])

    async with opened(SqliteStore(torn)) as store:
        frames = store.frames("t-1") or []
        assert 0 < len(frames) < 30
        assert frames == [noted(dense(f"{k}", 2_000)) for k in range(len(frames))]
        assert store.unfinished() == ["t-1"]

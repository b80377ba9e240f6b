"""A journal of an older version is brought forward as a whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.storage.child import Child
from tests.storage.places import begun, noted, opened
from undercroft.errors import StoreError, StoreVersionError
from undercroft.storage.read import open_reader
from undercroft.storage.schema import MIGRATIONS, checked_version, connect, prepare
from undercroft.storage.sqlite import SqliteStore

NOTES = "CREATE TABLE note(num INTEGER PRIMARY KEY, text TEXT); CREATE INDEX n ON note(text);"
LABEL = "ALTER TABLE turn ADD COLUMN label TEXT NOT NULL DEFAULT 'none'"


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Return a journal of this version that holds a turn."""
    path = tmp_path / "journal.db"
    async with opened(SqliteStore(path)) as store:
        await begun(store, "t-1", noted("one"), noted("two"))
    return path


def migrate(path: Path, *further: str) -> None:
    """Bring a journal forward by some steps more."""
    with closing(connect(str(path))) as connection:
        prepare(connection, str(path), (*MIGRATIONS, *further))


def described(path: Path) -> tuple[int, list[Sequence[object]], list[Sequence[object]]]:
    """Return the version, the tables and the frames of a journal."""
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        schema = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
        frames = connection.execute("SELECT seq, turn, data FROM frame ORDER BY seq").fetchall()
    return version, schema, frames


def test_a_new_file_gets_every_step(tmp_path: Path) -> None:
    """A journal is made by the same steps by which an old one is brought forward."""
    path = tmp_path / "journal.db"
    migrate(path, NOTES, LABEL)
    version, schema, _ = described(path)
    assert version == len(MIGRATIONS) + 2
    assert any("label" in str(sql) for (sql,) in schema)


def test_a_migration_keeps_what_is_there(path: Path) -> None:
    """Steps are applied from the journal's own version on, each once, and keep its frames."""
    _, _, frames = described(path)
    migrate(path, NOTES)
    migrate(path, NOTES, LABEL)
    migrate(path, NOTES, LABEL)

    version, schema, after = described(path)

    assert version == len(MIGRATIONS) + 2
    assert after == frames
    assert sum("TABLE note" in str(sql) for (sql,) in schema) == 1


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param((f"{NOTES} DROP TABLE nobody",), id="late-in-a-step"),
        pytest.param((NOTES, LABEL, "INSERT INTO nobody VALUES (1)"), id="in-a-later-step"),
        pytest.param(("DELETE FROM frame; SELECT broken(",), id="after-a-loss"),
    ],
)
async def test_a_migration_that_fails_changes_nothing(path: Path, failing: tuple[str, ...]) -> None:
    """After a failed migration the journal is of its old version, whole, and can be used."""
    before = described(path)
    with pytest.raises(StoreError, match=r"journal\.db"):
        migrate(path, *failing)
    assert described(path) == before
    async with opened(SqliteStore(path)) as store:
        assert store.frames("t-1") == [noted("one"), noted("two")]


async def test_a_journal_that_was_brought_forward_is_not_for_an_older_house(path: Path) -> None:
    """Once a newer version was there, an older one refuses the journal, to write and to read."""
    migrate(path, NOTES)
    before = described(path)
    with pytest.raises(StoreVersionError, match=f"version {len(MIGRATIONS) + 1}"):
        await SqliteStore(path).open()
    with pytest.raises(StoreVersionError), open_reader(str(path)):
        pass
    assert described(path) == before


class Meddled(sqlite3.Connection):
    """A connection beside which somebody does something just before one of its statements."""

    countdown = 0

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """Execute a statement."""
        if self.countdown == 0:
            self.meddle()
        self.countdown -= 1
        return super().execute(*arguments)

    def meddle(self) -> None:
        """Do what somebody does."""
        raise NotImplementedError


@pytest.mark.parametrize("moment", range(6))
def test_a_journal_may_be_made_while_somebody_looks(tmp_path: Path, moment: int) -> None:
    """Between any two looks at a new file another process may make it a journal, and write.

    It is then seen as empty or as a journal, and never as damaged or as somebody else's.
    """
    path = tmp_path / "journal.db"
    with closing(connect(str(path))) as other:

        class Beside(Meddled):
            countdown = moment

            def meddle(self) -> None:
                prepare(other, str(path))
                other.execute("INSERT INTO frame(turn, data) VALUES(1, zeroblob(50000))")

        with closing(sqlite3.connect(path, factory=Beside, isolation_level=None)) as connection:
            seen = checked_version(connection, str(path), len(MIGRATIONS))
            assert seen == (len(MIGRATIONS) if moment == 0 else 0)


@pytest.mark.parametrize("there", [True, False], ids=["old-journal", "no-journal"])
def test_many_processes_may_migrate_at_once(path: Path, *, there: bool) -> None:
    """Of processes that start at the same moment one brings the journal forward; all can go on."""
    path = path if there else path.with_name("new.db")
    with (
        Child("migrate", path, NOTES, LABEL) as one,
        Child("migrate", path, NOTES, LABEL) as two,
        Child("migrate", path, NOTES, LABEL) as three,
    ):
        children = (one, two, three)
        for child in children:
            child.hear()
        for child in children:
            child.tell()
        for child in children:
            assert child.hear() == {"error": "", "version": len(MIGRATIONS) + 2}
    version, schema, frames = described(path)
    assert version == len(MIGRATIONS) + 2
    made = [statement for statement in schema if statement != (None,)]
    assert len(made) == len(set(made))
    assert [data for _, _, data in frames] == ([noted("one"), noted("two")] if there else [])

"""A journal that is not there, not one, too new or damaged: one message, and nothing is made."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import EMAIL, Face

READING = [
    pytest.param(["turns"], id="turns"),
    pytest.param(["show", "last"], id="show"),
    pytest.param(["resume", "last"], id="resume"),
    pytest.param(["resume", "--all"], id="resume-all"),
    pytest.param(["approve", "last", "--by", "a"], id="approve"),
    pytest.param(["reject", "last", "--by", "a"], id="reject"),
    pytest.param(["settle", "last", "--applied", "--by", "a"], id="settle"),
]
ALL = [*READING, pytest.param(["run", "app.py:order", "--input", EMAIL], id="run")]


def refused(face: Face, words: list[str]) -> str:
    """Run a command that must not run, and return its one message."""
    result = face.use(*words, "--db", "some.db")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    message = " ".join(result.stderr.split())
    assert message.count("undercroft: ") == 1
    assert "should not happen" not in message
    return message


@pytest.mark.parametrize("words", READING)
def test_a_journal_that_is_not_there_is_not_made(face: Face, words: list[str]) -> None:
    """Only `run` makes a journal; whatever asks about one names --db instead."""
    assert "there is no such file. Name the journal with --db." in refused(face, words)
    assert not Path("some.db").exists()


@pytest.mark.parametrize("words", ALL)
def test_a_file_of_something_else_is_left_alone(face: Face, words: list[str]) -> None:
    """A file that is no database is neither read nor written."""
    Path("some.db").write_text("dear diary, " * 1_000)
    refused(face, words)
    assert Path("some.db").read_text() == "dear diary, " * 1_000


@pytest.mark.parametrize("words", ALL)
def test_a_database_of_something_else_is_left_alone(face: Face, words: list[str]) -> None:
    """A database of another program is neither read nor written."""
    with sqlite3.connect("some.db") as connection:
        connection.execute("CREATE TABLE diary(day TEXT)")
    connection.close()
    assert "it is a database of something else" in refused(face, words)


@pytest.mark.parametrize("words", ALL)
def test_a_newer_journal_is_left_alone(face: Face, words: list[str]) -> None:
    """A journal of a newer Undercroft is refused, and the message says to upgrade."""
    face.use("run", "app.py:order", "--input", EMAIL, "--db", "some.db")
    connection = sqlite3.connect("some.db")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    assert "Upgrade Undercroft" in refused(face, words)


@pytest.mark.parametrize("words", ALL)
def test_a_folder_is_no_journal(face: Face, words: list[str]) -> None:
    """A folder given as a journal is one message."""
    Path("some.db").mkdir()
    refused(face, words)

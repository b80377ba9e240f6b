"""`turns` narrowed by time, service and text: what is listed is what is there."""

from __future__ import annotations

import datetime as dt
import sqlite3
import time
from pathlib import Path

import pytest

from tests.cli.conftest import EMAIL, Face
from undercroft.cli.moments import moment


@pytest.fixture
def busy(face: Face) -> dict[str, str]:
    """Return turns of several kinds, by name."""
    talk = ("--input", '{"message": "Where is Order #A1001?"}', "--model", "app.py:model")
    ran = {
        "talk": face.json("run", "app.py:assist", *talk),
        "order": face.json("run", "app.py:order", "--input", EMAIL),
        "wrong": face.json("run", "app.py:wrong", "--input", '{"name": "Zürich"}'),
        "many": face.json("run", "app.py:many", "--input", '{"count": 3}'),
    }
    return {name: outcome["turn_id"] for name, outcome in ran.items()}


# What is looked for, and in which turns it stands.
FOUND: dict[str, list[str]] = {
    "order #a1001": ["talk"],  # an input, in any case
    "record of a-1": ["talk"],  # a result
    "sequencing.read_first": ["talk"],  # a refusal
    "no zürich": ["wrong"],  # an error
    "ZÜRICH": ["wrong"],  # large letters that are no ASCII
    "ada@example.com": ["order"],
    "all done": [],  # nobody has said it yet
    "Look up a record": [],  # what a tool is said to do, in every prompt
    "nobody said so": [],
}


def test_turns_are_found_by_what_they_say(face: Face, busy: dict[str, str]) -> None:
    """In inputs, arguments, results, errors and refusals; not in what is the same each time."""
    for text, found in FOUND.items():
        listed = {head["turn_id"] for head in face.json("turns", "--text", text)}
        assert listed == {busy[name] for name in found}, text
    # A number stands in the journal otherwise than as text.
    assert busy["many"] in {head["turn_id"] for head in face.json("turns", "--text", "3")}
    # What is listed satisfies all that is asked, newest first, up to the limit.
    assert face.json("turns", "--text", "a", "--status", "failed")[0]["turn_id"] == busy["wrong"]
    two = face.use("turns", "--text", "a", "--limit", "2")
    assert len(two.stdout.splitlines()) == 2
    assert "--limit" in two.stderr
    assert face.json("turns", "--service", "model", "--text", "nobody") == []


def test_turns_are_found_by_when_they_began_and_what_they_called(
    face: Face, busy: dict[str, str]
) -> None:
    """From one moment to another, as people type them; and by the service that they called."""
    assert len(face.json("turns", "--since", "1h")) == len(busy)
    assert face.json("turns", "--until", "1h") == []
    assert face.json("turns", "--since", "2099-01-01") == []
    assert len(face.json("turns", "--since", "2001-02-03T04:05", "--until", "2099-01-01")) == 4
    head = face.json("turns", "--limit", "1")[0]
    later = dt.datetime.fromtimestamp(head["began_at"] + 0.001).astimezone().isoformat()
    assert face.json("turns", "--since", later) == []
    assert [h["turn_id"] for h in face.json("turns", "--service", "model")] == [busy["talk"]]
    assert face.json("turns", "--service", "mod") == []
    assert "No turns like that." in face.use("turns", "--service", "crm").stdout


def test_what_is_no_moment_is_said(face: Face) -> None:
    """It is exit code 2 and a message that says what a moment looks like."""
    for text in ("yesterday", "", "2h30", "2026-13-01", "9" * 30 + "d", "-1h"):
        result = face.use("turns", f"--since={text}")
        assert (result.exit_code, result.stdout) == (2, ""), text
        assert "2026-01-31" in result.stderr


def test_moments_are_read_as_people_type_them() -> None:
    """How long ago, a day, a time here, a time anywhere."""
    assert moment("90s", 1_000.0) == 910.0
    assert moment(" 1.5h ", 10_000.0) == 4_600.0
    assert moment("2w", 2_000_000.0) == 2_000_000.0 - 14 * 86_400
    assert moment("1970-01-02T00:00:00+00:00") == 86_400.0
    assert moment("2026-01-31") == dt.datetime(2026, 1, 31).astimezone().timestamp()


def test_many_turns_are_listed_in_no_time(face: Face, tmp_path: Path) -> None:
    """A list costs what it shows, and each row of it next to nothing."""
    face.use("run", "app.py:many", "--input", '{"count": 1}')
    with sqlite3.connect(tmp_path / "undercroft.db") as connection:
        connection.executemany(
            "INSERT INTO turn(num, id, kind, target, session, status, began, ended) "
            "VALUES(?, ?, 'workflow', 'app:many', ?, 'done', ?, ?)",
            [(n, f"t-{n:011x}-x", f"s-{n % 99}", n, n + 1.5) for n in range(100, 10_100)],
        )
    connection.close()
    began_s = time.monotonic()
    assert len(face.use("turns", "--limit", "10000").stdout.splitlines()) == 10_000
    assert len(face.json("turns", "--limit", "10000", "--session", "s-7")) == 101
    assert time.monotonic() - began_s < 5.0

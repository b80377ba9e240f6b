"""The board of services on the command line, their history, and a person's word on them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.cli.conftest import EMAIL, Face
from tests.storage.places import opened
from undercroft.cli.breakers import board
from undercroft.layers.breakers.board import BoardRow, Gauge, LastError, encode_gauge, rows
from undercroft.model.circuit import Chain, CircuitChanged, Post
from undercroft.storage.sqlite import SqliteStore

DB = "undercroft.db"
WILD = st.text(st.characters(codec="utf-8"), max_size=40)


def changed(service: str, was: str, now: str, why: str, **more: Any) -> CircuitChanged:
    """Return a transition of long ago."""
    return CircuitChanged(service, was, now, why, 1_700_000_000.0, **more)


def journal(*changes: CircuitChanged) -> None:
    """Make a journal in which services went through `changes`."""

    async def make() -> None:
        async with opened(SqliteStore(DB)) as store:
            assert store.board is not None
            epochs: dict[str, int] = {}
            for change in changes:
                epoch = epochs.get(change.service, 0)
                await store.board.exchange(Post(chains={change.service: Chain(epoch, [change])}))
                epochs[change.service] = epoch + 1

    asyncio.run(make())


OPENED = changed(
    "crm", "closed", "open", "failure_rate", calls=20, failures=12, wait_s=30.0, failure_rate=0.6
)
CLOSED_AGAIN = changed("crm", "open", "closed", "probes_passed")


# ---------------------------------------------------------------------- the board


def test_without_a_journal_it_says_so(face: Face) -> None:
    """No journal is exit code 2 and names the option; none is made."""
    for words in ([], ["history"], ["reset", "crm", "--by", "ada"], ["--watch"]):
        result = face.use("breakers", *words)
        assert result.exit_code == 2
        assert "there is no such file. Name the journal with --db." in " ".join(
            result.stderr.split()
        )
    assert not Path(DB).exists()


def test_a_journal_without_services_says_so(face: Face) -> None:
    """A journal on which no service was called is one clear sentence, and no finding."""
    journal()
    result = face.use("breakers")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert result.stdout.startswith("No live process calls a service")
    assert face.use("breakers", "history").stdout.startswith("No transitions yet")


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        pytest.param([OPENED, CLOSED_AGAIN], 0, "✓ crm", id="closed"),
        pytest.param([OPENED], 1, "✗ crm", id="open"),
        pytest.param([OPENED, changed("crm", "open", "half_open", "wait_over")], 1, "half open",
                     id="half-open"),
        pytest.param([changed("crm", "closed", "forced_open", "forced", by="ada")], 1,
                     "says ada", id="forced-open"),
        pytest.param([changed("crm", "closed", "observe_only", "forced", by="ada")], 1,
                     "forced closed", id="forced-closed"),
        pytest.param([changed("crm", "closed", "levitating", "magic")], 1, "levitating",
                     id="newer"),
    ],
)  # fmt: skip
def test_what_is_not_closed_is_a_finding(
    face: Face, changes: list[CircuitChanged], code: int, said: str
) -> None:
    """Exit code 1 where some breaker is not closed; also with --json."""
    journal(*changes)
    result = face.use("breakers")
    assert (result.exit_code, result.stderr) == (code, "")
    assert said in result.stdout
    assert face.use("breakers", "--json").exit_code == code


def test_the_json_is_stable(face: Face) -> None:
    """A program finds each figure of each service under its name."""
    journal(OPENED)
    document = json.loads(face.use("breakers", "--json").stdout)
    (row,) = document["services"]
    assert abs(document["at"] - time.time()) < 60
    assert set(row) == {
        "service", "state", "since_at", "suspect", "why", "by", "reason", "processes", "window",
        "calls", "failures", "slow", "failure_rate", "slow_rate", "p50_s", "p99_s", "in_flight",
        "attempts", "retries", "refused", "usd", "last_error", "probe_in_s", "limit",
    }  # fmt: skip
    assert (row["service"], row["state"], row["processes"]) == ("crm", "open", 0)


def a_row(**more: Any) -> BoardRow:
    """Return the row of a service that one live process calls."""
    figures: dict[str, Any] = {"service": "crm", "state": "closed", "since_at": 1.0, **more}
    (row,) = rows([(1, Gauge(**figures))], {})
    return row


def test_the_board_tells_all_of_a_service() -> None:
    """State, window, rates, durations, flight, retries, money, error, since when, next probe."""
    error = LastError("transient", "ConnectError", "connection refused", 7_190.0)
    row = a_row(
        state="open", window="last 60 s", calls=40, failures=24, failure_rate=0.6, slow=2,
        slow_rate=0.05, samples=[0.1] * 98 + [2.0] * 2, in_flight=3, retries=7, attempts=47,
        refused=12, usd_nano=1_234_567_890, last_error=error, probe_in_s=12.0, limit=4,
    )  # fmt: skip
    text = "\n".join(line.plain for line in board([row], 80, 121.0))
    for said in ("✗ crm", "open", "60%", "5%", "0.10 s", "2.00 s", "40", "7", "last 60 s",
                 "3 in flight of 4", "12 refused", "47 attempts", "$1.23", "1 process",
                 "(2m 00s)", "next try in 12 s", "transient: ConnectError: connection refused",
                 ):  # fmt: skip
        assert said in text, said


def test_a_suspect_stands_out() -> None:
    """A service that fails more than it used to is marked, though its breaker is closed."""
    text = board([a_row(suspect=True)], 80, 2.0)[1].plain
    assert text.startswith("! crm")
    assert "suspect" in text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    WILD,
    WILD,
    st.sampled_from(["closed", "open", "half_open", "x" * 40]),
    st.integers(60, 120),
    st.floats(0, 1e12),
    st.integers(0, 10**15),
)
def test_any_board_fits(  # noqa: PLR0913, PLR0917  each is one figure
    name: str, message: str, state: str, width: int, number: float, count: int
) -> None:
    """Whatever services are called and say, each line is as wide as the terminal at most."""
    error = LastError(message, name, message, number)
    row = a_row(
        service=name, state=state, samples=[number], calls=count, retries=count, attempts=count,
        in_flight=count, refused=count, usd_nano=count, last_error=error, probe_in_s=number,
        window=message, since_at=number, failure_rate=1.0, limit=count,
    )  # fmt: skip
    for line in board([row], width, number):
        assert cell_len(line.plain) <= width
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line.plain)


def test_hostile_names_are_shown_harmless(face: Face) -> None:
    """A service, a person or a reason cannot move the cursor or change colours."""
    evil = "a\x1b[2J\u202eb"
    journal(changed(evil, "closed", "forced_open", "forced", by=evil, reason=evil))
    for words in ([], ["history"], ["--json"], ["history", "--json"]):
        shown = face.use("breakers", *words).stdout
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "2J" in shown


async def test_live_figures_are_shown_and_those_of_the_dead_are_not(face: Face) -> None:
    """Figures come from processes that run; of one that ended the last state is left."""
    async with opened(SqliteStore(DB)) as store:
        assert store.board is not None
        data = encode_gauge(Gauge(service="mail", state="closed", since_at=1.0, calls=7))
        await store.board.exchange(Post(gauges={"mail": data, "bad": b"\xc1"}))
        found = json.loads((await asyncio.to_thread(face.use, "breakers", "--json")).stdout)
        assert [(row["service"], row["calls"]) for row in found["services"]] == [("mail", 7)]
    assert face.use("breakers").stdout.startswith("No live process calls a service")


def test_a_journal_of_an_older_version_can_be_looked_at(face: Face) -> None:
    """A journal from before breakers has none; its turns are read as ever; an order mends it."""
    face.use("run", "app.py:order", "--input", EMAIL)
    with contextlib.closing(sqlite3.connect(DB)) as connection:
        for table in ("circuit", "prober", "gauge", "spent", "body"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version=2")
        connection.commit()
    result = face.use("breakers")
    assert (result.exit_code, result.stdout[:15]) == (0, "No live process")
    assert face.use("breakers", "history").exit_code == 0
    assert "t-" in face.use("turns").stdout
    assert face.use("show", "last").exit_code == 0
    assert face.use("breakers", "force-open", "crm", "--by", "ada").exit_code == 0
    assert face.use("breakers").exit_code == 1


# ---------------------------------------------------------------------- history


def test_history_is_told_in_order(face: Face) -> None:
    """Transitions stand in their order, newest last, with who did it and why."""
    other = changed("mail", "closed", "forced_open", "forced", by="ada", reason="moving house")
    journal(OPENED, other, CLOSED_AGAIN)
    text = face.use("breakers", "history").stdout
    assert re.findall("crm|mail", text) == ["crm", "mail", "crm"]
    for said in ("closed → open", "too many calls failed; 12 of 20 calls failed",
                 "next try after 30 s", "says ada: moving house", "its probes went well",
                 ):  # fmt: skip
        assert said in text
    assert all(cell_len(line) <= 80 for line in text.splitlines())
    assert "mail" not in face.use("breakers", "history", "crm").stdout
    found = json.loads(face.use("breakers", "history", "--json", "--limit", "2").stdout)
    assert [(c["service"], c["now"]) for c in found] == [("mail", "forced_open"), ("crm", "closed")]
    assert found[0]["by"] == "ada"


def test_history_of_nothing_says_of_what(face: Face) -> None:
    """A service without transitions is named, harmlessly."""
    journal(OPENED)
    assert "No transitions of ma\\x1bil yet" in face.use("breakers", "history", "ma\x1bil").stdout


# ---------------------------------------------------------------------- orders


@pytest.mark.parametrize(
    ("what", "state"), [("force-open", "forced_open"), ("force-closed", "observe_only")]
)
def test_an_order_is_recorded_with_who_gave_it(face: Face, what: str, state: str) -> None:
    """What a person says stands in the journal with the name and the reason; once is enough."""
    journal(OPENED)
    words = ["breakers", what, "crm", "--by", "ada", "--reason", "a test"]
    result = face.use(*words)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "says ada" in result.stdout
    assert "undercroft breakers reset crm --by ada" in result.stdout
    again = face.use(*words[:4], "bob")
    assert again.exit_code == 0
    assert "already, as ada said" in again.stdout
    *_, last = json.loads(face.use("breakers", "history", "--json").stdout)
    assert (last["was"], last["now"], last["by"], last["reason"]) == (
        "open",
        state,
        "ada",
        "a test",
    )
    found = json.loads(face.use("breakers", "reset", "crm", "--by", "eve", "--json").stdout)
    assert (found["written"], found["was"], found["now"], found["by"]) == (
        True,
        state,
        "closed",
        "eve",
    )
    assert face.use("breakers").exit_code == 0


def test_an_order_for_a_service_that_nobody_called_says_so(face: Face) -> None:
    """A name that no process told of may be a slip, and is allowed."""
    journal()
    result = face.use("breakers", "force-open", "crmm", "--by", "ada")
    assert result.exit_code == 0
    assert "No process has told of a service of that name yet" in result.stdout


@pytest.mark.parametrize("words", [["", "--by", "ada"], ["crm", "--by", " "], ["crm"], []])
def test_an_order_names_what_and_who(face: Face, words: list[str]) -> None:
    """Without a service or a name nothing is recorded."""
    journal()
    assert face.use("breakers", "force-open", *words).exit_code == 2
    assert json.loads(face.use("breakers", "history", "--json").stdout) == []


def test_the_journal_may_be_named_before_or_after(face: Face) -> None:
    """--db holds for a subcommand whether it stands before or after its name."""
    journal(OPENED)
    Path(DB).rename("other.db")
    for words in (["--db", "other.db", "history"], ["history", "--db", "other.db"]):
        assert "crm" in face.use("breakers", *words).stdout
    assert face.use("breakers", "--db", "gone.db", "history", "--db", "other.db").exit_code == 0


@pytest.mark.parametrize(
    "words", [[], ["history"], ["force-open"], ["force-closed"], ["reset"]], ids=" ".join
)
def test_help_shows_an_example(face: Face, words: list[str]) -> None:
    """Help fits 80 columns and shows an example."""
    result = face.use("breakers", *words, "--help")
    assert result.exit_code == 0
    example = f"Example: undercroft {' '.join(['breakers', *words])}"
    assert example in " ".join(result.stdout.split())
    assert all(cell_len(line) <= 80 for line in result.stdout.splitlines())


# ---------------------------------------------------------------------- watching


def test_watching_as_json_is_a_line_a_second(face: Face) -> None:
    """A program gets one document a line; Ctrl-C ends it cleanly; a lost journal is told."""
    journal(OPENED)
    with face.start("breakers", "--watch", "--json") as child:
        assert child.stdout is not None
        first = json.loads(child.stdout.readline())
        began_s = time.monotonic()
        second = json.loads(child.stdout.readline())
        assert 0.5 < time.monotonic() - began_s < 3
        assert first["services"] == second["services"]
        assert 0.9 < second["at"] - first["at"] < 3
        Path(DB).rename("aside.db")
        third = json.loads(child.stdout.readline())
        while "error" not in third:
            third = json.loads(child.stdout.readline())
        assert "no such file" in third["error"]
        Path("aside.db").rename(DB)
        while "services" not in third:
            third = json.loads(child.stdout.readline())
        child.send_signal(signal.SIGINT)
        stdout, stderr = child.communicate(timeout=10)
    assert (child.returncode, stderr) == (0, "")
    assert "Traceback" not in stdout


def test_watching_ends_when_nobody_reads(face: Face) -> None:
    """A reader that goes away ends the watching, without complaints."""
    journal(OPENED)
    with face.start("breakers", "--watch", "--json") as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.wait(10) == 0
        assert child.stderr is not None
        assert child.stderr.read() == ""


def test_watching_on_a_terminal_ends_cleanly(face: Face) -> None:
    """On a terminal the board is drawn anew; after Ctrl-C the cursor is shown again."""
    journal(OPENED)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "undercroft", "breakers", "--watch"]
    environment = {**face.environment(), "TERM": "xterm", "LINES": "24"}
    with subprocess.Popen(
        command, cwd=face.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as child:
        os.close(theirs)
        shown = b""
        while shown.count(b"crm") < 2:
            shown += os.read(ours, 65_536)
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the other end is closed
            while chunk := os.read(ours, 65_536):
                shown += chunk
        assert child.wait(10) == 0
    os.close(ours)
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    assert b"Traceback" not in shown

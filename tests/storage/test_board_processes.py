"""Real processes that share breakers in a file: killed, locked out, and with the file gone."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.storage.breaker_child import CRM, Caller
from tests.storage.places import opened
from undercroft.queries import order_service, read_services, read_transitions
from undercroft.storage.sqlite import SqliteStore

pytestmark = pytest.mark.alone  # What is promised within a second is measured.

SEEN_S = 1.0


def new_journal(path: Path) -> None:
    """Make a new journal, and leave it."""

    async def make() -> None:
        async with opened(SqliteStore(path)):
            pass

    asyncio.run(make())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a journal, in a folder of its own."""
    path = tmp_path / "journal" / "journal.db"
    path.parent.mkdir()
    new_journal(path)
    return path


@pytest.fixture
def started() -> Iterator[ExitStack]:
    """Return what ends all processes."""
    with ExitStack() as stack:
        yield stack


def moves(path: Path) -> list[tuple[str, str]]:
    """Return the transitions in the journal."""
    return [(change.was, change.now) for change in read_transitions(str(path), CRM, limit=1_000)]


def rounds(path: Path, started: ExitStack, count: int) -> list[float]:
    """Let one process open, again and again; return how long the other took to refuse."""
    one, two = (started.enter_context(Caller(path)) for _ in range(2))
    took_s = []
    for k in range(count):
        for caller in (one, two):
            caller.until("closed")
        # Not in step with the beat of the other.
        time.sleep(0.037 * k % 0.25)
        one.tell("fail")
        opened_s = one.until("open")
        took_s.append(two.until("open") - opened_s)
        assert two.ask("call")["permit"] == 0
        order_service(str(path), CRM, "reset", by="test")
    return took_s


def test_an_open_breaker_is_seen_by_another_process(path: Path, started: ExitStack) -> None:
    """What opens in one process is refused in another within a second."""
    assert max(rounds(path, started, 3)) < SEEN_S


@pytest.mark.slow
def test_an_open_breaker_is_seen_in_time_each_time(path: Path, started: ExitStack) -> None:
    """In twenty rounds, out of step with each other, none takes a second."""
    took_s = sorted(rounds(path, started, 20))
    print(f"\nseen after {took_s[10]:.3f} s (median), {took_s[-1]:.3f} s (most of 20)")  # noqa: T201  a measure
    assert took_s[-1] < SEEN_S


def test_one_process_of_four_tries(path: Path, started: ExitStack) -> None:
    """When the wait is over, one of four processes gets a call through, round after round."""
    callers = [started.enter_context(Caller(path, open_s=0.5)) for _ in range(4)]
    callers[0].ask("fail")
    for caller in callers:
        caller.until("open")
    for ending in ("bad", "bad", "good"):
        time.sleep(1.0)
        for caller in callers:
            caller.tell("call")
        permits = [caller.answer("call")["permit"] > 0 for caller in callers]
        assert sum(permits) == 1, permits
        callers[permits.index(True)].ask(ending)
    for caller in callers:
        caller.until("closed")
    assert moves(path) == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]


def test_a_killed_prober_is_replaced(path: Path, started: ExitStack) -> None:
    """When the process that tries a service is killed, another one tries it within a second."""
    one, two = (started.enter_context(Caller(path, open_s=0.5)) for _ in range(2))
    one.ask("fail")
    two.until("open")
    time.sleep(0.8)
    assert one.ask("call")["permit"]
    time.sleep(0.5)
    assert two.ask("call")["permit"] == 0
    one.send(signal.SIGKILL)
    killed_s = time.monotonic()
    while not two.ask("call")["permit"]:
        assert time.monotonic() - killed_s < SEEN_S
        time.sleep(0.05)
    two.ask("good")
    two.until("closed")


def test_a_paused_prober_is_replaced_after_its_time(path: Path, started: ExitStack) -> None:
    """A process that stands still while it tries loses the right after `half_open_s`, no sooner.

    Once it goes on it is told so, and does not end what another one began.
    """
    one, two = (started.enter_context(Caller(path, open_s=0.5, half_open_s=2)) for _ in range(2))
    one.ask("fail")
    two.until("open")
    time.sleep(0.8)
    assert one.ask("call")["permit"]
    time.sleep(0.4)
    assert two.ask("call")["permit"] == 0
    one.send(signal.SIGSTOP)
    began_s = time.monotonic()
    while not two.ask("call")["permit"]:
        assert time.monotonic() - began_s < 5
        time.sleep(0.05)
    assert time.monotonic() - began_s > 1.5
    one.send(signal.SIGCONT)
    one.ask("good")
    time.sleep(0.6)
    assert one.ask("state")["is"] == "open"
    two.ask("bad")
    two.until("open")


def test_a_person_s_word_reaches_live_processes(path: Path, started: ExitStack) -> None:
    """A service that is closed off on the command line is refused within a second, everywhere."""
    callers = [started.enter_context(Caller(path)) for _ in range(2)]
    for caller in callers:
        caller.until("closed")
    for what, state, admitted in (
        ("force-open", "forced_open", False),
        ("force-closed", "observe_only", True),
        ("reset", "closed", True),
    ):
        said_s = time.monotonic()
        change, written = order_service(str(path), CRM, what, by="ada", reason="a test")
        assert (change.now, change.by, written) == (state, "ada", True)
        for caller in callers:
            assert caller.until(state) - said_s < SEEN_S
            assert bool(caller.ask("call")["permit"]) is admitted
            caller.ask("good")
    time.sleep(SEEN_S)
    (row,) = read_services(str(path))
    assert (row.state, row.by, row.processes) == ("closed", "ada", 2)


# ---------------------------------------------------------------------- the file gone


def test_a_locked_file_holds_nobody_up(path: Path, started: ExitStack) -> None:
    """While somebody holds the lock breakers go on by themselves; then all hear of it."""
    one, two = (started.enter_context(Caller(path, open_s=0.5)) for _ in range(2))
    time.sleep(0.3)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        one.ask("fail")
        one.until("open")
        assert one.ask("call")["permit"] == 0
        time.sleep(1.5)
        said = one.ask("call")
        assert said["permit"], "it tries by itself"
        assert said["took_s"] < 0.3
        one.ask("bad")
        assert two.ask("state")["is"] == "closed"
        connection.execute("ROLLBACK")
    back_s = time.monotonic()
    assert two.until("open") - back_s < 2 * SEEN_S
    assert moves(path)[0] == ("closed", "open")


def gone(path: Path, aside: Path) -> None:
    """Take a journal away, with all that belongs to it."""
    aside.mkdir()
    for file in sorted(path.parent.iterdir()):
        file.rename(aside / file.name)


def back(path: Path, aside: Path) -> None:
    """Put a journal back; itself last, since without its log it would be another one."""
    for file in sorted(aside.iterdir(), reverse=True):
        file.rename(path.parent / file.name)


@pytest.mark.parametrize("instead", ["nothing", "garbage"])
def test_a_file_that_is_gone_and_back(path: Path, started: ExitStack, instead: str) -> None:
    """With the file gone breakers go on by themselves; once it is back, they join again."""
    one, two = (started.enter_context(Caller(path, open_s=0.5)) for _ in range(2))
    time.sleep(0.3)
    gone(path, path.parent.parent / "aside")
    if instead == "garbage":
        path.write_bytes(b"dear diary, " * 1_000)
    time.sleep(0.6)
    one.ask("fail")
    one.until("open")
    time.sleep(0.8)
    said = one.ask("call")
    assert said["permit"]
    assert said["took_s"] < 0.3
    one.ask("bad")
    assert two.ask("state")["is"] == "closed"
    assert path.exists() is (instead == "garbage"), "nobody makes it anew"
    path.unlink(missing_ok=True)
    back(path, path.parent.parent / "aside")
    back_s = time.monotonic()
    assert two.until("open") - back_s < 3 * SEEN_S
    assert moves(path)[:2] == [("closed", "open"), ("open", "half_open")]


def test_a_file_that_was_replaced(path: Path, started: ExitStack) -> None:
    """In another journal at the same place processes say again how services stand, and share it."""
    one, two = (started.enter_context(Caller(path)) for _ in range(2))
    one.ask("fail")
    two.until("open")
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    new_journal(path)
    deadline_s = time.monotonic() + 4
    while not moves(path):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert moves(path) == [("closed", "open")]
    assert read_transitions(str(path))[0].why == "told_again"
    order_service(str(path), CRM, "reset", by="ada")
    for caller in (one, two):
        caller.until("closed")


def test_a_full_disk_holds_nobody_up(path: Path, started: ExitStack) -> None:
    """With no room left to write a breaker goes on by itself, and tells once there is room."""
    one, two = (started.enter_context(Caller(path, open_s=0.5)) for _ in range(2))
    time.sleep(0.3)
    one.ask("full")
    one.ask("fail")
    one.until("open")
    time.sleep(0.8)
    assert one.ask("call")["permit"]
    one.ask("bad")
    assert two.ask("state")["is"] == "closed"
    one.ask("room")
    room_s = time.monotonic()
    assert two.until("open") - room_s < 2 * SEEN_S


def test_the_loop_is_never_held_up(path: Path, started: ExitStack) -> None:
    """While the lock is held for a second, no tick of a process's loop takes as long."""
    one = started.enter_context(Caller(path, open_s=0.5))
    time.sleep(0.3)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        one.ask("fail")
        time.sleep(1.0)
        connection.execute("ROLLBACK")
    assert one.process.stdin is not None
    one.process.stdin.close()
    said = one.hear()
    while "longest_s" not in said:
        said = one.hear()
    assert said["longest_s"] < 0.3
    assert one.process.wait(10) == 0

"""`tail`: what a journal holds, line by line, as it comes."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

from tests.cli.conftest import EMAIL, WAIT_S, Face
from tests.cli.test_show import fits, harmless
from undercroft.cli.tail import _batches
from undercroft.storage.following import Follower

ALL = ("tail", "--since", "1h", "--for", "0")


def lines(face: Face, *words: str) -> list[dict[str, Any]]:
    """Return what `tail --json` prints, decoded."""
    result = face.use(*words, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_step_is_told_once_in_order(face: Face, waiting: str) -> None:
    """From the begin of a turn to its end, with what became of each step."""
    face.use("approve", waiting, "--by", "ada", "--target", "app.py:order")
    told = lines(face, *ALL)
    assert [(one["what"], one["step_id"], one["status"]) for one in told] == [
        ("turn began", "", "running"),
        ("step", "customer.1", "ok"),
        ("step", "record.2", "ok"),
        ("approval", "gate.3", "waiting"),
        ("turn parked", "", "waiting"),
        ("approval", "gate.3", "approved"),
        ("turn resumed", "", "running"),
        ("step", "gate.3", "ok"),
        ("step", "send.4", "ok"),
        ("step", "told.5", "ok"),
        ("turn ended", "", "done"),
    ]
    page = face.use(*ALL).stdout
    assert len(page.splitlines()) == len(told)
    assert fits(page)
    assert fits(face.at(60, *ALL).stdout, 60)


def test_what_is_told_can_be_narrowed(face: Face, waiting: str) -> None:
    """By turn, session and status; without --since only what is new is told."""
    face.use("run", "app.py:wrong", "--input", '{"name": "x"}', "--session", "s-1")
    assert {one["turn_id"] for one in lines(face, *ALL, "--turn", waiting)} == {waiting}
    assert {one["session"] for one in lines(face, *ALL, "--session", "s-1")} == {"s-1"}
    failed = lines(face, *ALL, "--status", "failed")
    assert [one["step_id"] for one in failed] == ["fails.1", ""]
    assert "no x" in failed[0]["detail"]
    assert lines(face, "tail", "--for", "0") == []
    assert lines(face, "tail", "--since", "2099-01-01", "--until-idle", "0") == []


def test_hostile_text_does_nothing(face: Face) -> None:
    """What tools raise is shown, and never obeyed."""
    face.use("run", "app.py:evil", "--input", '{"name": "\\u009b2J"}', "--session", "\x1b[1m")
    for words in (ALL, (*ALL, "--json")):
        said = face.use(*words).stdout
        assert harmless(said)
        assert "json" in words[-1] or fits(said)


def test_a_journal_may_come_later(face: Face) -> None:
    """It is waited for, and then told from its beginning; nothing is told twice."""
    follower = Follower(str(face.folder / "undercroft.db"))
    assert follower.missing
    assert follower.read() == []
    (face.folder / "undercroft.db").touch()
    assert follower.read() == []
    face.use("run", "app.py:order", "--input", EMAIL)
    first = follower.read()
    assert first[0].what == "turn began"
    assert follower.read() == []
    face.use("run", "app.py:many", "--input", '{"count": 1}')
    later = follower.read()
    assert {one.turn_id for one in first}.isdisjoint(one.turn_id for one in later)
    assert later[-1].what == "turn ended"
    follower.close()


def test_a_step_that_ends_later_keeps_its_name(face: Face, waiting: str) -> None:
    """Who begins to watch in the middle of a turn reads what it is about."""
    follower = Follower(str(face.folder / "undercroft.db"))
    assert follower.read() == []
    face.use("approve", waiting, "--by", "ada", "--target", "app.py:order")
    told = follower.read()
    follower.close()
    assert [one.step_id for one in told if one.what == "step"] == ["gate.3", "send.4", "told.5"]


def test_it_stops_when_it_is_told_to(face: Face) -> None:
    """After so long, or once nothing came for so long, whichever comes first."""
    face.use("run", "app.py:many", "--input", '{"count": 1}')
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    for limits, until_s in (((3.0, None), 3.0), ((None, 2.0), 2.0), ((9.0, 1.0), 1.0)):
        now[0] = 0.0
        follower = Follower(str(face.folder / "undercroft.db"), since=0.0)
        found = list(_batches(follower, *limits, now=lambda: now[0], sleep=sleep))
        follower.close()
        assert len(found) == 1
        assert until_s <= now[0] < until_s + 1.0


def test_what_is_no_journal_is_said(face: Face) -> None:
    """A file of something else is exit code 2 and a message."""
    (face.folder / "other.db").write_text("no journal at all, but long enough to be one" * 99)
    result = face.use("tail", "--db", "other.db", "--for", "0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot be read as a journal" in " ".join(result.stderr.split())


@pytest.mark.slow
def test_ctrl_c_ends_it_quietly(face: Face) -> None:
    """With exit code 0, and no word on stderr."""
    face.use("run", "app.py:many", "--input", '{"count": 1}')
    with face.start("tail", "--since", "1h") as child:
        assert child.stdout is not None
        assert "turn began" in child.stdout.readline()
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=WAIT_S)
    assert (child.returncode, stderr) == (0, "")

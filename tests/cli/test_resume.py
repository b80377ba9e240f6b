"""`resume`, and what Ctrl-C, SIGTERM and SIGKILL leave behind."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import WAIT_S, Face

SLOW = ("run", "app.py:slow", "--input", '{"name": "x"}')


def until_begun(child: subprocess.Popen[str]) -> None:
    """Return once the turn of `child` is in its middle."""
    give_up_s = time.monotonic() + WAIT_S
    while not Path("begun.txt").exists():
        assert child.poll() is None, "it ended early"
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def times_begun() -> int:
    """Return how often the first step ran."""
    return len(Path("begun.txt").read_text().splitlines())


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_stopped_run_says_how_to_go_on(face: Face, number: int, code: int) -> None:
    """A signal stops the turn in order; what is recorded does not run again on the resume."""
    with face.start(*SLOW) as child:
        until_begun(child)
        child.send_signal(number)
        stdout, stderr = child.communicate(timeout=WAIT_S)
    turn_id = face.json("turns")[0]["turn_id"]
    assert (child.returncode, stdout) == (code, "")
    assert f"undercroft resume {turn_id}" in stderr
    assert "Traceback" not in stderr
    assert face.json("show", turn_id)["status"] == "stopped"
    Path("calm").touch()

    result = face.use("resume", turn_id)

    assert result.exit_code == 0
    assert times_begun() == 1


def test_a_killed_run_is_seen_and_resumed(face: Face) -> None:
    """A turn whose process was killed is shown as killed, and `resume --all` goes on with it."""
    with face.start(*SLOW) as child:
        until_begun(child)
        assert "running" in face.use("turns").stdout
        assert "still running" in face.use("show", "last").stdout
        child.kill()
        child.communicate(timeout=WAIT_S)
    assert "killed" in face.use("turns").stdout
    page = face.use("show", "last").stdout
    assert "Its process is gone" in page
    assert "waits.2 was cut off in its middle; it changes nothing" in page
    Path("calm").touch()

    (outcome,) = face.json("resume", "--all").values()

    assert outcome["status"] == "done"
    assert times_begun() == 1
    assert "Nothing to resume" in face.use("resume", "--all").stdout


def test_a_write_cut_off_by_a_kill_is_a_person_s_to_settle(face: Face) -> None:
    """A write without verify or key that was cut off is in doubt and never done again blindly."""
    child = face.process("run", "app.py:killed", "--input", '{"name": "x"}')
    assert child.returncode == -signal.SIGKILL
    Path("calm").touch()
    assert "may have happened or not" in face.use("show", "last").stdout
    assert face.use("resume", "last").exit_code == 1
    assert face.json("settle", "last", "--applied", "--by", "ada")["status"] == "done"


def test_resume_says_how_a_turn_stands_that_is_over(face: Face) -> None:
    """Resuming is safe at any time: a turn that is over or waits is only told about."""
    first = face.use("run", "app.py:many", "--input", '{"count": 3}')
    assert face.use("resume", "last").stdout == first.stdout
    assert face.json("resume", "last")["value"] == 5


@pytest.mark.parametrize("words", [[], ["last", "--all"]], ids=["neither", "both"])
def test_resume_wants_one_turn_or_all(face: Face, words: list[str]) -> None:
    """Neither a turn nor --all, or both, is exit code 2."""
    result = face.use("resume", *words)
    assert result.exit_code == 2
    assert "it takes one turn, or --all" in result.stderr


def test_code_that_cannot_be_imported_is_named_by_target(face: Face) -> None:
    """A turn run in another folder is resumed with --target, and the message says so."""
    Path("sub").mkdir()
    Path("app.py").rename("sub/elsewhere.py")
    child = face.process("run", "sub/elsewhere.py:killed", "--input", '{"name": "x"}')
    assert child.returncode == -signal.SIGKILL
    Path("calm").touch()

    lost = face.use("resume", "last")
    everything = face.use("resume", "--all")
    found = face.use("resume", "last", "--target", "sub/elsewhere.py:killed")

    assert (lost.exit_code, everything.exit_code, found.exit_code) == (2, 2, 1)
    assert "--target path/to/app.py:flow" in " ".join(lost.stderr.split())
    assert "--target sub/elsewhere.py:killed" in " ".join(found.stdout.replace("\\\n", "").split())


def test_changed_code_is_one_message(face: Face, waiting: str) -> None:
    """A workflow that lost a recorded step cannot be resumed, and the message names the step."""
    source = Path("app.py").read_text()
    Path("app.py").write_text(
        source.replace("async def record(", "async def renamed(")
        .replace("record: dict", "renamed: dict")
        .replace("record[", "renamed[")
    )
    result = face.process("approve", waiting, "--by", "ada")
    assert result.returncode == 2
    assert "'record'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_long_run_is_watched_on_a_terminal(face: Face) -> None:
    """Where stderr is a terminal a line names the running steps; stdout holds only the result."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "undercroft", *SLOW],
        cwd=face.folder,
        env={**face.environment(), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=follower,
    ) as child:
        os.close(follower)
        seen = b""
        give_up_s = time.monotonic() + WAIT_S
        while b"running waits.2" not in seen and time.monotonic() < give_up_s:
            if select.select([leader], [], [], 0.1)[0]:
                seen += os.read(leader, 65_536)
        child.send_signal(signal.SIGINT)
        while b"resume with" not in seen and time.monotonic() < give_up_s:
            if select.select([leader], [], [], 0.1)[0]:
                seen += os.read(leader, 65_536)
        stdout, _ = child.communicate(timeout=WAIT_S)
    os.close(leader)
    assert b"1 step done, running waits.2" in seen
    assert b"resume with" in seen
    assert (child.returncode, stdout) == (130, b"")

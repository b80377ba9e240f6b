"""Loops of others that are killed, and gone on with in another process: no effect is repeated."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60


def begun(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    """Begin a loop in another process, with what could go wrong at its end made an error."""
    line = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.engine.guest_child"]
    return subprocess.Popen(
        [*line, str(tmp_path / "journal.db"), str(tmp_path / "ledger"), *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what a process said that ended well, without a word on stderr."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (0, ""), err
    found: dict[str, Any] = json.loads(out)
    return found


def killed(process: subprocess.Popen[str]) -> None:
    """Wait for a process that kills itself."""
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == -signal.SIGKILL


def paid(tmp_path: Path) -> int:
    """Return how often the effect happened."""
    ledger = tmp_path / "ledger"
    return len(ledger.read_text().splitlines()) if ledger.exists() else 0


def test_a_loop_that_ends_leaves_nothing_open(tmp_path: Path) -> None:
    """Nobody closed the runtime: its event loop did, and nothing is warned of."""
    found = said(begun(tmp_path, "free", "plain", "never"))
    assert found["calls"] == [["ok", "paid"], ["ok", "seen"]]
    assert found["status"] == "done"


def test_what_was_done_before_a_kill_is_not_done_again(tmp_path: Path) -> None:
    """The effect is recorded, and the framework had not saved it: the result is given again."""
    killed(begun(tmp_path, "free", "plain", "after"))
    found = said(begun(tmp_path, "free", "plain", "never"))
    assert found["calls"] == [["ok", "paid"], ["ok", "seen"]]
    assert paid(tmp_path) == 1


@pytest.mark.parametrize("die", ["before", "within"])
def test_a_call_that_was_cut_off_is_in_doubt_and_stays_so(tmp_path: Path, die: str) -> None:
    """Nobody can say whether it happened: the model reads that, and it is not repeated."""
    killed(begun(tmp_path, "free", "plain", die))
    found = said(begun(tmp_path, "free", "plain", "never"))
    assert found["calls"][0][0] == "in_doubt"
    assert found["status"] == "in_doubt"
    assert paid(tmp_path) == (die == "within")


@pytest.mark.parametrize(("die", "times"), [("before", 1), ("within", 1)])
def test_a_verify_settles_what_was_cut_off(tmp_path: Path, die: str, times: int) -> None:
    """It did not happen: it is done. It did: it is not done again."""
    killed(begun(tmp_path, "free", "verify", die))
    found = said(begun(tmp_path, "free", "verify", "never"))
    assert found["calls"][0][0] == "ok"
    assert found["status"] == "done"
    assert paid(tmp_path) == times


def test_what_is_declared_idempotent_is_done_again(tmp_path: Path) -> None:
    """Its user said that doing it again changes nothing more."""
    killed(begun(tmp_path, "free", "idempotent", "within"))
    found = said(begun(tmp_path, "free", "idempotent", "never"))
    assert found["calls"][0] == ["ok", "paid"]
    assert paid(tmp_path) == 2


def test_a_saved_approval_answered_in_two_processes_at_once_pays_once(tmp_path: Path) -> None:
    """Both find the turn that waits: one goes on with it, the other waits for it."""
    first = said(begun(tmp_path, "approve", "plain", "pause"))
    assert [status for status, _ in first["calls"]] == ["waiting", "ok"]
    assert first["status"] == "waiting"
    both = [begun(tmp_path, "approve", "plain", "slow") for _ in range(2)]
    found = [said(process) for process in both]
    assert [one["calls"][0] for one in found] == [["ok", "paid"]] * 2
    assert first["turn"] in {one["turn"] for one in found}
    assert paid(tmp_path) == 1

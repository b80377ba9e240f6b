"""Agents that are killed, and gone on with in another process from LangGraph's own checkpoint."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.langchain.stage import proposes
from tests.provider import Call, Provider

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 60
BATCH = [Call("pay", {"account": "1"}, "c-pay"), Call("look", {"account": "1"}, "c-look")]


class Ground:
    """A folder that processes share, and a provider."""

    def __init__(self, folder: Path, provider: Provider) -> None:
        self.folder, self.provider = folder, provider

    def begun(self, *words: str) -> subprocess.Popen[str]:
        """Begin a life."""
        line = [sys.executable, "-m", "tests.frameworks.langchain.child", self.provider.url]
        return subprocess.Popen(
            [*line, str(self.folder), *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def said(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """Return what a life said that ended well."""
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    def killed(self, *words: str) -> None:
        """Live until it kills itself."""
        process = self.begun(*words)
        process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == -signal.SIGKILL

    @property
    def paid(self) -> int:
        """How often the effect happened."""
        ledger = self.folder / "ledger"
        return len(ledger.read_text().splitlines()) if ledger.exists() else 0


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """Return a place for lives of one agent."""
    with Provider(proposes(*BATCH)) as provider:
        yield Ground(tmp_path, provider)


@pytest.mark.parametrize("die", ["before", "within"])
def test_a_payment_that_was_cut_off_is_in_doubt_and_not_repeated(ground: Ground, die: str) -> None:
    """Nobody can say whether it happened: the model reads that, and its sibling is seen."""
    ground.killed("begin", die)
    found = ground.said(ground.begun("resume", "never"))
    assert json.loads(found["results"]["c-pay"])["status"] == "in_doubt"
    assert found["results"]["c-look"] == "seen"
    assert ground.paid == (die == "within")


def test_what_was_done_before_a_kill_is_not_done_again(ground: Ground) -> None:
    """Whether or not the framework had saved it."""
    ground.killed("begin", "after")
    found = ground.said(ground.begun("resume", "never"))
    assert found["results"] == {"c-pay": "paid", "c-look": "seen"}
    assert ground.paid == 1


def test_a_saved_approval_answered_in_two_processes_at_once_pays_once(ground: Ground) -> None:
    """Both go on from one checkpoint: one runs the call, the other is given its result."""
    assert ground.said(ground.begun("ask", "never"))["asked"]
    both = [ground.begun("yes", "never") for _ in range(2)]
    assert [ground.said(process)["results"]["c-pay"] for process in both] == ["paid", "paid"]
    assert ground.paid == 1


def test_an_approved_payment_that_was_cut_off_is_not_repeated(ground: Ground) -> None:
    """The yes was given, the intent written, and then the process died."""
    assert ground.said(ground.begun("ask", "never"))["asked"]
    ground.killed("yes", "within")
    found = ground.said(ground.begun("resume", "never"))
    assert json.loads(found["results"]["c-pay"])["status"] == "in_doubt"
    assert ground.paid == 1

"""Runs that are killed and gone on with from their saved state: no payment is made twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.frameworks.openai_agents.bank import rules
from tests.provider import Call, Provider

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 60


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Script a model that pays once, and quotes what that came to."""
    with Provider(rules([Call("pay", {"amount": 50})])) as found:
        yield found


def begun(folder: Path, provider: Provider, what: str, die: str = "never") -> subprocess.Popen[str]:
    """Begin a run in another process."""
    line = [sys.executable, "-m", "tests.frameworks.openai_agents.child"]
    return subprocess.Popen(
        [*line, str(folder), provider.url, what, die],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    """Return the answer of a run that ended well."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    return str(json.loads(out)["said"])


def killed(process: subprocess.Popen[str]) -> None:
    """Wait for a process that kills itself."""
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == -signal.SIGKILL


def paid(folder: Path) -> int:
    """Return how often it was paid."""
    ledger = folder / "ledger"
    return len(ledger.read_text().splitlines()) if ledger.exists() else 0


def test_what_was_paid_before_a_kill_is_not_paid_again(tmp_path: Path, provider: Provider) -> None:
    """The yes was given, the payment recorded, and nothing saved: the state is answered again."""
    said(begun(tmp_path, provider, "ask"))
    killed(begun(tmp_path, provider, "yes", "after"))
    assert said(begun(tmp_path, provider, "yes")) == "paid 50"
    assert paid(tmp_path) == 1


@pytest.mark.parametrize("die", ["before", "within"])
def test_a_payment_that_was_cut_off_is_in_doubt(
    tmp_path: Path, provider: Provider, die: str
) -> None:
    """Between intent and outcome nobody knows: the model reads that, and it is not repeated."""
    said(begun(tmp_path, provider, "ask"))
    killed(begun(tmp_path, provider, "yes", die))
    assert "in_doubt" in said(begun(tmp_path, provider, "yes"))
    assert paid(tmp_path) == (die == "within")


def test_two_processes_that_say_yes_at_once_pay_once(tmp_path: Path, provider: Provider) -> None:
    """The second waits for the first, and meets the record."""
    said(begun(tmp_path, provider, "ask"))
    both = [begun(tmp_path, provider, "yes") for _ in range(2)]
    assert [said(one) for one in both] == ["paid 50", "paid 50"]
    assert paid(tmp_path) == 1

"""Runs that are killed, and go on in another process from the messages that were saved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.frameworks.pydantic_ai.bank import proposes
from tests.provider import Call, Provider

BATCH = [Call("pay", {"amount": 1}, id="a"), Call("pay", {"amount": 2}, id="b")]
KILLED = -9


def run(part: str, url: str, folder: Path, where: str) -> subprocess.CompletedProcess[str]:
    """Run a part of the story in a process of its own."""
    facts = [url, str(folder), where]
    return subprocess.run(
        [sys.executable, "-m", "tests.frameworks.pydantic_ai.child", part, *facts],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("where", "paid", "said"),
    [
        # The intent was written and nothing says that it did not happen.
        ("before", ["2"], "in_doubt"),
        ("within", ["1", "2"], "in_doubt"),
        # Both were recorded: given again, and not done again.
        ("after", ["1", "2"], "paid 1; paid 2"),
    ],
)
def test_nothing_is_paid_twice(tmp_path: Path, where: str, paid: list[str], said: str) -> None:
    """What is recorded is given again; of what is in doubt the model is told, and the rest runs."""
    with Provider(proposes(*BATCH)) as provider:
        assert run("begin", provider.url, tmp_path, where).returncode == KILLED
        done = run("resume", provider.url, tmp_path, "nowhere")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ledger").read_text().split() == paid
    assert said in done.stdout

"""A folder with an app, and the command line in it: in this process, or in one of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from undercroft.cli.main import app

WAIT_S = 30.0


@dataclass(frozen=True)
class Face:
    """The command line, used in `folder`."""

    folder: Path

    def use(self, *words: str, stdin: str | None = None) -> Result:
        """Run a command in this process."""
        return CliRunner().invoke(app, words, input=stdin, env={"COLUMNS": "80"})

    def at(self, columns: int, *words: str) -> Result:
        """Run a command in this process, on a terminal so wide."""
        return CliRunner().invoke(app, words, env={"COLUMNS": str(columns)})

    def json(self, *words: str) -> Any:
        """Run a command with --json and return what it prints, decoded."""
        result = self.use(*words, "--json")
        assert not result.stderr, result.stderr
        return self.decoded(result.stdout)

    def decoded(self, text: str) -> Any:
        """Return what JSON text says."""
        return msgspec.json.decode(text)

    def environment(self) -> dict[str, str]:
        """Return what a process of its own is started with."""
        return {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command in a process of its own; whoever starts it waits for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "undercroft", *words],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def process(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own."""
        with self.start(*words) as child:
            stdout, stderr = child.communicate(timeout=WAIT_S)
        return subprocess.CompletedProcess(words, child.returncode, stdout, stderr)


@pytest.fixture
def face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Face]:
    """Return the command line in a folder with `app.py`; what it imports is forgotten after."""
    shutil.copy(Path(__file__).with_name("shop.py"), tmp_path / "app.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delenv("UNDERCROFT_DB", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    known = set(sys.modules)
    yield Face(tmp_path)
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


EMAIL = '{"email": "ada@example.com"}'


@pytest.fixture
def waiting(face: Face) -> str:
    """Return the id of a turn that waits for a person."""
    turn_id: str = face.json("run", "app.py:order", "--input", EMAIL)["turn_id"]
    return turn_id


@pytest.fixture
def doubted(face: Face) -> str:
    """Return the id of a turn with a write in doubt."""
    outcome = face.json("run", "app.py:doubtful", "--input", '{"account": "a-1"}')
    turn_id: str = outcome["turn_id"]
    return turn_id

"""The processes that the demo starts: each is waited for, and none outlives it.

Keeps: only what was started here is killed, by its own handle; every wait has a limit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from undercroft.cli.demo import world
from undercroft.cli.problem import CannotRunError

WAIT_S = 60.0
_POLL_S = 0.01
_HOME = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Said:
    """What a process said, and how it ended."""

    text: str
    code: int


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demo plays.

    Attributes:
        folder: Holds the journal and the world.
        columns: Width of what the processes print.
        coloured: Whether they may use colours.
    """

    folder: Path
    columns: int
    coloured: bool

    @property
    def journal(self) -> Path:
        """The journal of the demo."""
        return self.folder / "journal.db"

    def run(self, words: Sequence[str]) -> Said:
        """Run one command to its end."""
        return self.run_together([words])[0]

    def run_together(self, commands: Sequence[Sequence[str]]) -> list[Said]:
        """Run several commands at the same moment, each in a process of its own."""
        with self._started(commands) as children:
            return [_said(child) for child in children]

    def kill_when(self, words: Sequence[str], slow: str, happened: Callable[[], object]) -> int:
        """Start a command whose request `slow` is answered late; kill it once it `happened`."""
        with self._started([words], slow=slow) as (child,):
            give_up_s = time.monotonic() + WAIT_S
            while not happened():
                if child.poll() is not None or time.monotonic() > give_up_s:
                    said = _said(child)
                    problem = f"a process ended ({said.code}) before it was killed"
                    raise CannotRunError("demo", problem, f"It said:\n{_shown(said.text)}")
                time.sleep(_POLL_S)
            child.kill()
            return child.wait(WAIT_S)

    @contextmanager
    def _started(
        self, commands: Sequence[Sequence[str]], slow: str = ""
    ) -> Iterator[list[subprocess.Popen[str]]]:
        environment = os.environ | {
            "UNDERCROFT_DB": str(self.journal),
            "COLUMNS": str(self.columns),
            # They play in another folder, where a checkout would not be found.
            "PYTHONPATH": os.pathsep.join([str(_HOME), os.environ.get("PYTHONPATH", "")]),
            world.SLOW: slow,
        }
        if self.coloured:
            environment["FORCE_COLOR"] = "1"
        children: list[subprocess.Popen[str]] = []
        try:
            for words in commands:
                child = subprocess.Popen(  # noqa: S603  our own command line
                    [sys.executable, "-m", "undercroft", *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                    cwd=self.folder,
                    env=environment,
                )
                children.append(child)
            yield children
        finally:
            for child in children:
                if child.poll() is None:
                    child.kill()
                    child.wait(WAIT_S)
                if child.stdout is not None:
                    child.stdout.close()


def _said(child: subprocess.Popen[str]) -> Said:
    try:
        text, _ = child.communicate(timeout=WAIT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        text, _ = child.communicate(timeout=WAIT_S)
        problem = f"a command took more than {WAIT_S:.0f} s"
        raise CannotRunError("demo", problem, f"It said:\n{_shown(text)}") from None
    return Said(text.rstrip(), child.returncode)


def _shown(text: str) -> str:
    return Text.from_ansi(text).plain.strip() or "(nothing)"

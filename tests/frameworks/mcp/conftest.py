"""The shop, by each of its doors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from undercroft.adapters.mcp import Connection, connect

ROOT = Path(__file__).parents[3]
# A program is told nothing of the environment that it was not given; these tests have no install.
PLACES = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
Shop = Callable[..., Connection]


class Ledger:
    """What happened in the shop, whoever says otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lines(self) -> list[str]:
        """Every effect, in order."""
        return self.path.read_text().splitlines() if self.path.exists() else []

    def die_next(self) -> None:
        """Have the shop die between the next effect and its answer."""
        self.path.with_suffix(".die").touch()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Return a fresh ledger."""
    return Ledger(tmp_path / "ledger.txt")


def module(name: str, *words: str) -> list[str]:
    """Return the command that runs a module of these tests."""
    return [sys.executable, "-m", f"tests.frameworks.mcp.{name}", *words]


class WebShop:
    """The shop behind HTTP, which can be killed and started again at the same place."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Open it."""
        port = self.url.split(":")[-1].split("/")[0] if self.url else "0"
        self.process = subprocess.Popen(
            module("shop", str(self._ledger), "--http", port),
            cwd=ROOT,
            env=os.environ | PLACES,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def kill(self) -> None:
        """Kill it."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None


@pytest.fixture
def web(ledger: Ledger) -> Iterator[WebShop]:
    """Return the shop behind HTTP."""
    shop = WebShop(ledger.path)
    shop.start()
    yield shop
    shop.kill()


@pytest.fixture(params=["stdio", "http"])
def shop(request: pytest.FixtureRequest, ledger: Ledger) -> Shop:
    """Return what connects to the shop, by each of its doors."""
    if request.param == "http":
        found: WebShop = request.getfixturevalue("web")
        return lambda **settings: connect(found.url, **{"service": "shop", **settings})
    command = module("shop", str(ledger.path))

    def by_pipe(**settings: Any) -> Connection:
        return connect(command, **{"service": "shop", "cwd": ROOT, "env": PLACES, **settings})

    return by_pipe

"""Starts worlds and lives, and has pytest spell out the assertions of `trial` and its like."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

for _name in ("faults", "journals", "order", "trial"):
    pytest.register_assert_rewrite(f"{__package__}.{_name}")

from .faults import CLIENTS, World, made, within  # noqa: E402  what they assert is rewritten
from .ground import Ground, Make  # noqa: E402  likewise
from .turn import start_lives  # noqa: E402  likewise
from .world import start_world  # noqa: E402  likewise


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """Start both worlds and the process that forks lives; any of them serves every suite."""
    with (
        start_world("banking") as plain,
        start_world("banking", dedupe=True) as dedupe,
        start_lives() as lives,
    ):
        yield Ground(lives, plain, dedupe)


@pytest.fixture
def trials(ground: Ground, tmp_path: Path) -> Make:
    """Return what makes a trial of a case."""
    return lambda case: ground.trial(case, tmp_path)


@pytest.fixture(params=list(CLIENTS))
async def kind(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Return the kind of client; in the end no task may be left of what ran."""
    if request.param == "httpx" and importlib.util.find_spec("httpx") is None:
        pytest.skip("httpx is not installed")
    before = asyncio.all_tasks()
    yield request.param
    # A fixture is set up and torn down by tasks of its own.
    mine = asyncio.current_task()
    await within(lambda: asyncio.all_tasks() <= {*before, mine}, "a task was left behind")


@pytest.fixture
async def world(kind: str) -> AsyncIterator[World]:
    """Return a service that is well, to be asked by a client of this kind."""
    async with made(kind) as world:
        yield world

"""Starts worlds and lives, and has pytest spell out the assertions of `trial` and its like."""

from collections.abc import Iterator
from pathlib import Path

import pytest

for _name in ("journals", "order", "trial"):
    pytest.register_assert_rewrite(f"{__package__}.{_name}")

from .ground import Ground, Make  # noqa: E402  what they assert is rewritten as they load
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

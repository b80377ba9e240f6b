"""What turns that are killed stand on: worlds, and the process that forks their lives.

Leaves to `conftest`: starting them.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from .client import World
from .order import Case
from .trial import Trial
from .turn import Lives
from .world import Running


@dataclass(frozen=True, slots=True)
class Ground:
    """What the turns of this module stand on.

    Attributes:
        lives: Forks the processes that run them.
        plain: A world that applies whatever comes.
        dedupe: A world that honours idempotency keys.
    """

    lives: Lives
    plain: Running
    dedupe: Running

    @asynccontextmanager
    async def trial(self, case: Case, folder: Path) -> AsyncIterator[Trial]:
        """Return a trial of `case` on the world that its protocol counts on."""
        running = self.dedupe if case.protocol == "key" else self.plain
        async with World(running.port) as world:
            trial = Trial(self.lives, world, case, folder / "journal.db")
            await trial.reset()
            yield trial
            # What a failed test leaves is kept.
            trial.forget()


Make: TypeAlias = Callable[[Case], AbstractAsyncContextManager[Trial]]


def cases(given: list[Case], *, quick: int = 1) -> pytest.MarkDecorator:
    """Parametrise a test by cases, of which one in `quick` is not for the patient only."""
    slow = pytest.mark.slow
    params = [
        pytest.param(case, id=str(case), marks=[slow] * bool(place % quick))
        for place, case in enumerate(given)
    ]
    return pytest.mark.parametrize("case", params)

"""Recorded turns as regression tests: what a turn did once, it still does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from undercroft.replays import Replay, replay


class DivergedError(AssertionError):
    """A recorded turn went another way; `replay` says where."""

    def __init__(self, found: Replay) -> None:
        super().__init__(f"turn {found.turn_id} is not as it was recorded: {found.divergence}")
        self.replay = found


def check_replay(journal: str | Path, turn_id: str, target: Any = None, **settings: Any) -> Replay:
    """Run a recorded turn once more, with nothing called, and fail where it went another way.

    Args:
        journal: Path of a journal, such as one that is kept beside the tests.
        turn_id: The turn.
        target: The workflow or handler, where it is not to be imported by its recorded name.
        settings: As for `undercroft.replay`.

    Raises:
        DivergedError: Something is not as it was recorded.
    """
    found = asyncio.run(replay(journal, turn_id, target=target, **settings))
    if not found.same:
        raise DivergedError(found)
    return found

"""Where the steps of a workflow under way stand."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from undercroft.model.step import Failure


class State(Enum):
    """Where a step of this run stands."""

    PENDING = auto()
    OK = auto()
    MISSING = auto()
    FAILED = auto()
    SKIPPED = auto()


LOST = (State.FAILED, State.SKIPPED)


class Fan:
    """A fan-out under way."""

    __slots__ = ("error", "items", "left", "numbers", "values")

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.left = len(items)
        self.values: list[Any] = [None] * len(items)
        self.numbers: list[int] = [0] * len(items)
        # Of the first item that failed.
        self.error: Failure | None = None

"""How many run at once: places of which there are only so many, given out in order.

Keeps: never more than the limit of a name are taken; whoever asked first gets the next one.
Leaves to the engine: what the names stand for, and who takes a place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Slots(Generic[T]):
    """Places by name. Each call costs constant time; a name without a limit costs nothing.

    Args:
        limits: By name, how many places there are.
        limit: For names that have no limit of their own; None: as many as are wanted.
    """

    __slots__ = ("_limit", "_limits", "_taken", "_waiting")

    def __init__(self, limits: Mapping[str, int] | None = None, limit: int | None = None) -> None:
        self._limits = dict(limits or {})
        self._limit = limit
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, deque[T]] = {}

    def limit_of(self, name: str) -> int | None:
        """Return how many places a name has; None where there is no end of them."""
        return self._limits.get(name, self._limit)

    def taken(self, name: str) -> int:
        """Return how many places of a name are taken."""
        return self._taken.get(name, 0)

    def ask(self, name: str, asker: T) -> bool:
        """Return True if a place was taken for `asker`; else it waits its turn."""
        limit = self._limits.get(name, self._limit)
        if limit is None:
            return True
        taken = self._taken.get(name, 0)
        if taken < limit and not self._waiting.get(name):
            self._taken[name] = taken + 1
            return True
        self._waiting.setdefault(name, deque()).append(asker)
        return False

    def leave(self, name: str) -> T | None:
        """Give a place back; return who takes it now, if anybody waits."""
        if self._limits.get(name, self._limit) is None:
            return None
        waiting = self._waiting.get(name)
        if waiting:
            follower = waiting.popleft()
            if not waiting:
                del self._waiting[name]
            return follower
        left = self._taken[name] - 1
        if left:
            self._taken[name] = left
        else:
            del self._taken[name]
        return None

    def withdraw(self, name: str, asker: T) -> None:
        """Forget `asker`, which waits for a place."""
        waiting = self._waiting[name]
        waiting.remove(asker)
        if not waiting:
            del self._waiting[name]

"""Admission of a turn's steps: independent ones together, a step that runs alone by itself.

Keeps: tickets start in the order in which they asked, as far as they conflict; a ticket that
runs alone never overlaps another; at most `limit` run.
Leaves to the engine: what a ticket is and who runs it.

A queue in order of asking is exact here, since a ticket that runs alone conflicts with every
other: nobody behind it could have gone first.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Lane(Generic[T]):
    """Who of one turn runs now, and who waits. Each call costs constant time per ticket moved."""

    __slots__ = ("_alone", "_limit", "_running", "_waiting")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running = 0
        self._alone = False
        self._waiting: deque[tuple[T, bool]] = deque()

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._running and not self._waiting

    def ask(self, ticket: T, *, alone: bool) -> bool:
        """Return True if `ticket` starts now; else it waits its turn."""
        if not self._waiting and self._admits(alone=alone):
            self._running += 1
            self._alone = alone
            return True
        self._waiting.append((ticket, alone))
        return False

    def leave(self) -> list[T]:
        """Take note that one ticket ended; return those that start now, in order."""
        self._running -= 1
        self._alone = False
        started: list[T] = []
        while self._waiting and self._admits(alone=self._waiting[0][1]):
            ticket, alone = self._waiting.popleft()
            self._running += 1
            self._alone = alone
            started.append(ticket)
        return started

    def withdraw(self) -> list[T]:
        """Forget whoever still waits, and return them in order."""
        gone = [ticket for ticket, _ in self._waiting]
        self._waiting.clear()
        return gone

    def _admits(self, *, alone: bool) -> bool:
        if not self._running:
            return True
        return not alone and not self._alone and self._running < self._limit

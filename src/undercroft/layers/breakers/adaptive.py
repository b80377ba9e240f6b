"""How many calls may be in flight at a service that told this account to slow down.

Keeps: no limit before the first "too many", and none once it would limit nothing; a burst of
answers to calls that began before the limit was lowered lowers it once.
Leaves to the engine: who waits, in which order, and for how long.
Source: additive increase, multiplicative decrease; Chiu and Jain, "Analysis of the Increase and
Decrease Algorithms for Congestion Avoidance in Computer Networks", 1989.
"""

from __future__ import annotations

import math

from undercroft.layers.breakers.policy import LimitPolicy

# A limit so many times what was ever in flight under it is none.
_ROOMY = 2.0


class AdaptiveLimit:
    """A limit on calls in flight that follows what the service says.

    Attributes:
        in_flight: Begun and not ended.
        cuts: How often the limit was lowered.
    """

    __slots__ = ("_cut_s", "_limit", "_paused_until_s", "_peak", "_policy", "cuts", "in_flight")

    def __init__(self, policy: LimitPolicy) -> None:
        self._policy = policy
        self._limit: float | None = None
        self._cut_s = -math.inf
        self._paused_until_s = -math.inf
        self._peak = 0
        self.in_flight = 0
        self.cuts = 0

    @property
    def limit(self) -> int | None:
        """Calls that may be in flight; None: as many as there are."""
        return None if self._limit is None else int(self._limit)

    def pause_s(self, now_s: float) -> float:
        """Seconds for which the service wants no call at all; 0 if it takes them."""
        return max(self._paused_until_s - now_s, 0.0)

    def free(self, now_s: float) -> bool:
        """Whether another call may begin."""
        if now_s < self._paused_until_s:
            return False
        return self._limit is None or self.in_flight < int(self._limit)

    def began(self) -> None:
        """A call begins; nobody but the caller sees to it that it may."""
        self.in_flight += 1
        if self.in_flight > self._peak:  # noqa: PLR1730  once a call, and twice as fast
            self._peak = self.in_flight

    def released(self) -> None:
        """A call ended of which nothing is learned: cancelled, or never made."""
        if self.in_flight:
            self.in_flight -= 1

    def succeeded(self, began_s: float) -> None:
        """A call that began at `began_s` ended, and the service had not said "too many"."""
        self.released()
        if self._limit is None or began_s <= self._cut_s:
            return
        self._limit += 1 / self._limit
        if self._limit > _ROOMY * self._peak:
            self._limit = None

    def overloaded(self, began_s: float, now_s: float, retry_after_s: float | None = None) -> None:
        """A call that began at `began_s` ended with "too many".

        Args:
            began_s: When it began.
            now_s: When it ended.
            retry_after_s: Seconds for which the service wants to be left alone, if it said so.
        """
        flying = max(self.in_flight, 1)
        self.released()
        if retry_after_s is not None:
            wait_s = min(retry_after_s, self._policy.pause_max_s)
            self._paused_until_s = max(self._paused_until_s, now_s + wait_s)
        if began_s <= self._cut_s:
            # It was on its way when the limit was lowered, so it says nothing about the new one.
            return
        base = flying if self._limit is None else min(self._limit, flying)
        if self._limit is None:
            self._peak = flying
        self._limit = float(max(self._policy.least, math.floor(base * self._policy.backoff)))
        self._cut_s = now_s
        self.cuts += 1

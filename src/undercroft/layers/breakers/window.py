"""What the last calls to a service were like: how many failed, were slow, took how long.

Keeps: a window of counts holds exactly the last calls. A window of time never holds a result
that is older than it is long, and never lacks one that is younger by more than a 64th of its
length. Adding a result costs the same however many there are.
Leaves to `state.py`: what follows from it.
"""

from __future__ import annotations

import math
from array import array

from undercroft.layers.breakers.policy import BreakerPolicy

# How a call ended, in two bits; a failure that was slow is both.
OK, FAILED, SLOW = 0, 1, 2

# The quantiles are those of the last so many calls. A power of two, as are the buckets.
DURATIONS = 128
BUCKETS = 64


class Window:
    """What both kinds have in common.

    Attributes:
        calls: Ended within the window.
        failures: Of them.
        slow: Of them; a failure may be slow as well.
        calls_min: Calls before a rate means anything.
        span_s: Length in seconds; infinite for a window of counts.
    """

    __slots__ = ("_added", "_took", "calls", "calls_min", "failures", "slow", "span_s")

    def __init__(self, calls_min: int, span_s: float) -> None:
        self.calls = self.failures = self.slow = 0
        self.calls_min, self.span_s = calls_min, span_s
        self._added = 0
        self._took = array("f", [0.0]) * DURATIONS

    @property
    def failure_rate(self) -> float | None:
        """Failures to calls; None before there are enough."""
        return self.failures / self.calls if self.calls >= self.calls_min else None

    @property
    def slow_rate(self) -> float | None:
        """Slow calls to calls; None before there are enough."""
        return self.slow / self.calls if self.calls >= self.calls_min else None

    def took_s(self, *shares: float) -> list[float | None]:
        """Return what these shares of the last calls took at most, in seconds; None for no calls.

        Of up to `DURATIONS` calls, those of a window of time included that it has forgotten.
        The nearest rank counts: half of two calls is the shorter one.
        """
        took = sorted(self._took[: self._added])
        if not took:
            return [None] * len(shares)
        return [took[max(0, math.ceil(share * len(took)) - 1)] for share in shares]

    def samples(self) -> list[float]:
        """Return how many seconds each of the last calls took, of at most `DURATIONS` of them."""
        return self._took[: self._added].tolist()

    def add(self, outcome: int, now_s: float, took_s: float) -> None:
        """Add a call that ended now.

        Args:
            outcome: `OK`, or of `FAILED` and `SLOW` what it was.
            now_s: Monotonic time.
            took_s: How long it took; not negative.
        """
        raise NotImplementedError

    def forget(self, now_s: float) -> None:
        """Let go of what is too old by now."""


class CountWindow(Window):
    """The last `size` calls.

    A ring of two bits a call, four calls in a byte.
    """

    __slots__ = ("_ring", "size")

    def __init__(self, size: int, calls_min: int) -> None:
        super().__init__(calls_min, math.inf)
        self.size = size
        self._ring = bytearray((size + 3) >> 2)

    def add(self, outcome: int, now_s: float, took_s: float) -> None:  # noqa: ARG002  no clock
        """Add a call that ended now, in place of the oldest one if the window is full."""
        added = self._added
        self._took[added & (DURATIONS - 1)] = took_s
        self._added = added + 1
        if added < self.size:
            self.calls = added + 1
        if outcome or self.failures or self.slow:
            # Otherwise the ring is all zeros, and stays so.
            self._put(added % self.size, outcome)

    def _put(self, place: int, outcome: int) -> None:
        at, shift = place >> 2, (place & 3) << 1
        was = self._ring[at] >> shift & 3
        self._ring[at] ^= (was ^ outcome) << shift
        self.failures += (outcome & FAILED) - (was & FAILED)
        self.slow += (outcome >> 1) - (was >> 1)


class TimeWindow(Window):
    """The calls that ended in the last `span_s` seconds.

    A ring of buckets, each a 64th of the window. The one that is being filled counts as one of
    them, so up to a 64th less than the whole window is seen.
    """

    __slots__ = ("_at", "_began_s", "_buckets", "_next_s", "_tick")

    _began_s: float
    _next_s: float
    _tick: int
    _at: int
    _buckets: array[int]

    def __init__(self, span_s: float, calls_min: int, now_s: float) -> None:
        super().__init__(calls_min, span_s)
        self._start(now_s)

    def add(self, outcome: int, now_s: float, took_s: float) -> None:
        """Add a call that ended now; a time that went back counts as the latest one known."""
        if now_s >= self._next_s:
            self.forget(now_s)
        added = self._added
        self._took[added & (DURATIONS - 1)] = took_s
        self._added = added + 1
        at, buckets = self._at, self._buckets
        try:
            buckets[at] += 1
        except OverflowError:
            self._buckets = buckets = array("I", buckets)
            buckets[at] += 1
        self.calls += 1
        if outcome & FAILED:
            self.failures += 1
            buckets[at + 1] += 1
        if outcome & SLOW:
            self.slow += 1
            buckets[at + 2] += 1

    def forget(self, now_s: float) -> None:
        """Let go of the buckets that hold something too old by now."""
        if not self._next_s <= now_s < math.inf:
            return
        if now_s - self._next_s >= self.span_s:
            self._start(now_s)
            return
        # Rounding may say that the old bucket is not over, when it is.
        tick = max(self._tick + 1, int((now_s - self._began_s) * BUCKETS / self.span_s))
        buckets = self._buckets
        for old in range(self._tick + 1, min(tick, self._tick + BUCKETS) + 1):
            at = old % BUCKETS * 3
            if buckets[at]:
                self.calls -= buckets[at]
                self.failures -= buckets[at + 1]
                self.slow -= buckets[at + 2]
                buckets[at] = buckets[at + 1] = buckets[at + 2] = 0
        self._tick, self._at = tick, tick % BUCKETS * 3
        self._next_s = self._began_s + (tick + 1) * self.span_s / BUCKETS

    def _start(self, now_s: float) -> None:
        # Ticks are counted from here: small and exact, whatever the clock began with.
        self._began_s = now_s
        self._tick = self._at = 0
        self._next_s = now_s + self.span_s / BUCKETS
        # Of each bucket side by side: calls, failures, slow calls. In two bytes as long as they
        # will do.
        self._buckets = array("H", [0]) * (3 * BUCKETS)
        self.calls = self.failures = self.slow = 0


def window_of(policy: BreakerPolicy, now_s: float) -> Window:
    """Return an empty window of the kind that `policy` declares."""
    calls_min = policy.calls_min or 1
    if policy.window_s is not None:
        return TimeWindow(policy.window_s, calls_min, now_s)
    return CountWindow(policy.window_calls or 1, calls_min)

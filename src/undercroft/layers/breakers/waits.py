"""Whether a failed call is tried again, how long that waits, and how many may be.

Keeps: never earlier than the service asked for; no attempt that cannot come to its end in time;
retries stay a share of the calls, so that they cannot keep a service down that is down.
Source of the wait: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015 (full
jitter). Of the ratio: Beyer et al., "Site Reliability Engineering", 2016, ch. 21 (a budget of
10 % for each client); Brooker, "Fixing retries with token buckets and circuit breakers", 2022.
"""

from __future__ import annotations

import math
from enum import StrEnum

from undercroft.layers.breakers.classes import Judged
from undercroft.layers.breakers.policy import RetryPolicy, RetryRatio
from undercroft.model.step import ErrorClass

_RETRIED = frozenset({ErrorClass.TRANSIENT, ErrorClass.OVERLOADED})
# Tenths do not add up to one.
_NEARLY = 1e-9


class Ended(StrEnum):
    """Why a failed call is not tried again."""

    CLASS = "class"
    QUOTA = "quota"
    REFUSED = "refused"
    ATTEMPTS = "attempts"
    HINT = "hint"
    DEADLINE = "deadline"
    RATIO = "ratio"

    @property
    def words(self) -> str:
        """The same for people."""
        return _WORDS[self]


_WORDS = {
    Ended.CLASS: "an error of its kind is not tried again",
    Ended.QUOTA: "the quota is used up, and a person has to see to that",
    Ended.REFUSED: "it was refused, and whoever refused it has waited",
    Ended.ATTEMPTS: "all attempts are used up",
    Ended.HINT: "the service wants to be left alone for longer than we wait",
    Ended.DEADLINE: "another attempt could not come to its end in time",
    Ended.RATIO: "the retries that its service is given are used up",
}


def wait_or_end(  # noqa: PLR0913  all that a wait depends on
    policy: RetryPolicy,
    judged: Judged,
    *,
    attempt: int,
    jitter: float,
    remaining_s: float = math.inf,
    typical_s: float = 0.0,
) -> float | Ended:
    """Return how long to wait before the attempt after `attempt`, or why there is none.

    A wait is anywhere between nothing and a bound that doubles; after a hint, from there on.

    Args:
        policy: How often, how long.
        judged: The error of the attempt that failed.
        attempt: The one that failed, from 1.
        jitter: From 0 to below 1.
        remaining_s: Seconds until the call has to be over.
        typical_s: Seconds that an attempt takes.
    """
    if judged.refused:
        return Ended.REFUSED
    if judged.quota:
        return Ended.QUOTA
    if judged.error_class not in _RETRIED:
        return Ended.CLASS
    if attempt >= policy.attempts:
        return Ended.ATTEMPTS
    hint_s = judged.retry_after_s or 0.0
    if hint_s > policy.hint_max_s:
        return Ended.HINT
    # Not cut short where time is: many that are late would come at the same moment.
    wait_s = hint_s + min(policy.wait_max_s, policy.wait_s * 2.0 ** (attempt - 1)) * jitter
    # Written so that NaN ends it, too.
    return wait_s if wait_s + typical_s < remaining_s else Ended.DEADLINE


def next_wait_s(  # noqa: PLR0913  all that a wait depends on
    policy: RetryPolicy,
    judged: Judged,
    *,
    attempt: int,
    jitter: float,
    remaining_s: float = math.inf,
    typical_s: float = 0.0,
) -> float | None:
    """Return what `wait_or_end` says; None where there is no attempt after `attempt`."""
    said = wait_or_end(
        policy,
        judged,
        attempt=attempt,
        jitter=jitter,
        remaining_s=remaining_s,
        typical_s=typical_s,
    )
    return None if isinstance(said, Ended) else said


class RetryTokens:
    """The retries that a service may be given, earned by the calls that are made to it.

    Each call earns `ratio` of one; where calls are so few that they earn less than the floor,
    time earns the difference. It begins with all that can be saved.

    Attributes:
        calls: Told of so far.
        taken: Retries given so far.
        denied: Retries not given so far.
    """

    __slots__ = ("_from_time", "_last_s", "_left", "_policy", "calls", "denied", "taken")

    def __init__(self, policy: RetryRatio) -> None:
        self._policy = policy
        self._left = policy.saved_max
        self._last_s: float | None = None
        # What time has earned since the last call; the call earns only what is missing.
        self._from_time = 0.0
        self.calls = self.taken = self.denied = 0

    @property
    def left(self) -> float:
        """Retries that may be made at once."""
        return self._left

    def call(self, now_s: float) -> None:
        """A call is made, its first attempt."""
        if self._left >= self._policy.saved_max:
            # As it is as long as all goes well: nothing more can be saved.
            if self._last_s is None or now_s > self._last_s:
                self._last_s = now_s
            self._from_time = 0.0
            self.calls += 1
            return
        self._pass(now_s)
        self._earn(max(self._policy.ratio - self._from_time, 0.0))
        self._from_time = 0.0
        self.calls += 1

    def take(self, now_s: float) -> bool:
        """Whether a retry may be made; if so, it counts."""
        self._pass(now_s)
        if self._left < 1 - _NEARLY:
            self.denied += 1
            return False
        self._left = max(self._left - 1, 0.0)
        self.taken += 1
        return True

    def give_back(self) -> None:
        """A retry that was taken was not made."""
        self.taken -= 1
        self._earn(1.0)

    def _pass(self, now_s: float) -> None:
        earned = 0.0
        if self._last_s is not None and now_s > self._last_s:
            earned = (now_s - self._last_s) * self._policy.floor_per_min / 60
        if self._last_s is None or now_s > self._last_s:
            self._last_s = now_s
        self._from_time += earned
        self._earn(earned)

    def _earn(self, tokens: float) -> None:
        self._left = min(self._left + tokens, self._policy.saved_max)

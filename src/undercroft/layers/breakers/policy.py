"""What may be declared about calls that can fail: how often, how long, at what price.

Keeps: a setting that makes no sense fails where it is written, naming the field and its range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from undercroft.errors import SettingError

ATTEMPTS_MAX = 100
WINDOW_CALLS_MAX = 10_000
# A rate over fewer calls than this says little, unless it is asked for.
CALLS_MIN = 10
OPEN_MAX_S = 600.0


def checked_number(  # noqa: PLR0913  each keyword is one part of a range
    name: str,
    value: Any,
    *,
    above: float = -math.inf,
    least: float | None = None,
    most: float = math.inf,
    whole: bool = False,
) -> None:
    """Raise unless `value` is a number in its range; NaN and booleans never are.

    Args:
        name: Of the setting.
        value: As it was given.
        above: Must be larger than this,
        least: or at least this.
        most: At most this; infinity itself never passes.
        whole: Whether it must be an int.

    Raises:
        SettingError: It is not.
    """
    kind = int if whole else (int, float)
    fits = isinstance(value, kind) and not isinstance(value, bool)
    # Written so that NaN fails too.
    fits = fits and (value >= least if least is not None else value > above)
    if fits and value <= most and math.isfinite(value):
        return
    low = f"at least {least:g}" if least is not None else f"above {above:g}"
    low = "a number" if least is None and above == -math.inf else low
    words = [f"a whole number {low}" if whole else low]
    words.append(f"at most {most:g}" if most < math.inf else "finite")
    raise SettingError(name, value, " and ".join(words))


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed call is tried again.

    Only errors of class transient and overloaded are; a write whose outcome is unknown is
    never blindly tried again.

    Attributes:
        attempts: All of them, the first included; 1 to 100.
        wait_s: Upper bound of the first wait, doubled for each further one; above 0.
        wait_max_s: Upper bound of any wait that we choose; at least `wait_s`, and finite.
        hint_max_s: A service that asks for a longer wait than this is not waited for.
    """

    attempts: int = 3
    wait_s: float = 0.2
    wait_max_s: float = 10.0
    hint_max_s: float = 60.0

    def __post_init__(self) -> None:
        checked_number("attempts", self.attempts, least=1, most=ATTEMPTS_MAX, whole=True)
        checked_number("wait_s", self.wait_s, above=0)
        if not self.wait_s <= self.wait_max_s < math.inf:
            raise SettingError("wait_max_s", self.wait_max_s, "at least wait_s, and finite")
        checked_number("hint_max_s", self.hint_max_s, least=0)


ONCE = RetryPolicy(attempts=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRatio:
    """How many retries a service is given, beside the calls that are made to it.

    Attributes:
        ratio: Retries per call; 0 to 1.
        floor_per_min: Retries a minute that are given whatever the ratio says, so that a
            service that is seldom called has some; at least 0.
        saved_max: Retries that can be saved up; at least 1.
    """

    ratio: float = 0.1
    floor_per_min: float = 6.0
    saved_max: float = 10.0

    def __post_init__(self) -> None:
        checked_number("ratio", self.ratio, least=0, most=1)
        checked_number("floor_per_min", self.floor_per_min, least=0)
        checked_number("saved_max", self.saved_max, least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When to stop calling what keeps failing, and when to try it again.

    Calls are counted over the last `window_calls`, or over the last `window_s` seconds; of a
    rate nothing is said before `calls_min` of them came to their end.

    Attributes:
        failure_rate: Opens at this share of failures, above 0 to 1; None: not by rate.
        failures_max: Opens after so many failures in a row, at least 1; None: not by that.
        slow_s: A call that takes longer than this is slow; above 0. None: none is.
        slow_rate: Opens at this share of slow calls, above 0 to 1; goes with `slow_s`.
        window_calls: Calls in a window of counts, 1 to 10,000; 100 where neither is given.
        window_s: Seconds in a window of time; above 0. A call that took longer than the
            whole window tells of a time that is past, and is not counted.
        calls_min: Calls before a rate means anything, at least 1 and at most `window_calls`;
            10 if left out, or fewer where the window is smaller.
        open_s: Seconds to refuse before trying again; above 0.
        open_growth: Factor on `open_s` for each opening after the first without a closing
            between; at least 1.
        open_max_s: Bound of that; at least `open_s`. 600, or `open_s` if that is more, if left
            out.
        probes: Calls let through when half open; they decide together. At least 1.
        half_open_s: Seconds in which they must come to their end, or it is open again; above
            0. None: as long as they take.
    """

    failure_rate: float | None = 0.5
    failures_max: int | None = None
    slow_s: float | None = None
    slow_rate: float | None = None
    window_calls: int | None = None
    window_s: float | None = None
    calls_min: int | None = None
    open_s: float = 30.0
    open_growth: float = 1.0
    open_max_s: float = math.inf
    probes: int = 3
    half_open_s: float | None = 60.0

    def __post_init__(self) -> None:
        for name in ("failure_rate", "slow_rate"):
            if getattr(self, name) is not None:
                checked_number(name, getattr(self, name), above=0, most=1)
        for name in ("slow_s", "window_s", "half_open_s"):
            if getattr(self, name) is not None:
                checked_number(name, getattr(self, name), above=0)
        if self.failures_max is not None:
            checked_number("failures_max", self.failures_max, least=1, whole=True)
        if (self.slow_s is None) != (self.slow_rate is None):
            given = "slow_rate" if self.slow_s is None else "slow_s"
            raise SettingError(given, getattr(self, given), "given with slow_s and slow_rate both")
        self._check_window()
        checked_number("open_s", self.open_s, above=0)
        checked_number("open_growth", self.open_growth, least=1)
        if self.open_max_s == math.inf:
            object.__setattr__(self, "open_max_s", max(OPEN_MAX_S, self.open_s))
        elif not self.open_s <= self.open_max_s:  # written so that NaN fails too
            raise SettingError("open_max_s", self.open_max_s, "at least open_s, and finite")
        checked_number("probes", self.probes, least=1, most=WINDOW_CALLS_MAX, whole=True)

    def _check_window(self) -> None:
        if self.window_s is None:
            if self.window_calls is None:
                object.__setattr__(self, "window_calls", 100)
            checked_number(
                "window_calls", self.window_calls, least=1, most=WINDOW_CALLS_MAX, whole=True
            )
        elif self.window_calls is not None:
            expected = "left out where window_s is given"
            raise SettingError("window_calls", self.window_calls, expected)
        most = self.window_calls or math.inf
        if self.calls_min is None:
            object.__setattr__(self, "calls_min", int(min(CALLS_MIN, most)))
            return
        checked_number("calls_min", self.calls_min, least=1, whole=True)
        if self.calls_min > most:
            raise SettingError("calls_min", self.calls_min, f"at most window_calls, {most:g}")


# Of a service about which nothing was said. It is tried again soon, since a service that is back
# and not called is as bad as one that is away; and less often while it stays away.
DEFAULT_BREAKER = BreakerPolicy(
    window_s=10.0, failures_max=5, open_s=5.0, open_growth=1.5, open_max_s=60.0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent; None: no limit.

    Attributes:
        attempts: Wire attempts, those of client libraries included as far as they are told
            of; at least 0.
        time_s: Seconds of calls under way, added up; above 0.
        input_tokens: Sent to models; at least 0.
        output_tokens: Answered by models; at least 0.
        usd: Money; at least 0.
        limited: Whether anything is.
    """

    attempts: int | None = None
    time_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: float | None = None
    # Asked before every step, so it is worked out once.
    limited: bool = field(init=False, default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("attempts", "input_tokens", "output_tokens"):
            if getattr(self, name) is not None:
                checked_number(name, getattr(self, name), least=0, whole=True)
        if self.time_s is not None:
            checked_number("time_s", self.time_s, above=0)
        if self.usd is not None:
            checked_number("usd", self.usd, least=0)
        limits = (self.attempts, self.time_s, self.input_tokens, self.output_tokens, self.usd)
        object.__setattr__(self, "limited", any(limit is not None for limit in limits))

    def __bool__(self) -> bool:
        return self.limited


NO_BUDGET = Budget()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Budgets of what runs in a runtime; those of tools and services are declared with them.

    Attributes:
        step: Of each step that has none of its own, all its attempts together.
        turn: Of each turn, in all its lives together.
        session: Of each session, all its turns together.
        answer_tokens: Set aside for a model's answer, and the most that it is asked for,
            wherever output tokens or money are limited; at least 1.
    """

    step: Budget = NO_BUDGET
    turn: Budget = NO_BUDGET
    session: Budget = NO_BUDGET
    answer_tokens: int = 4_096

    def __post_init__(self) -> None:
        for name in ("step", "turn", "session"):
            if not isinstance(getattr(self, name), Budget):
                raise SettingError(name, getattr(self, name), "an uc.Budget")
        checked_number("answer_tokens", self.answer_tokens, least=1, whole=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopPolicy:
    """When a turn goes round in circles, and what is done about it.

    A call counts as the same if tool, arguments and class of the result are. Whatever the turn
    changes for the first time begins the counting anew.

    Attributes:
        repeats_max: The same call so often is enough, at least 1: the next one is refused.
        cycle_max: Calls in a cycle, such as 2 for A B A B; 1 to 16.
        cycles_max: A cycle of two or more so often is enough; at least 2.
        stale_steps_max: Answers of the model in a row that led to nothing new; at least 2.
        redirects_max: So often the model is told to do something else; then the turn is
            ended. At least 0.
    """

    repeats_max: int = 3
    cycle_max: int = 4
    cycles_max: int = 3
    stale_steps_max: int = 8
    redirects_max: int = 2

    def __post_init__(self) -> None:
        for name, least in (
            ("repeats_max", 1),
            ("cycles_max", 2),
            ("stale_steps_max", 2),
            ("redirects_max", 0),
        ):
            checked_number(name, getattr(self, name), least=least, most=1_000, whole=True)
        checked_number("cycle_max", self.cycle_max, least=1, most=16, whole=True)


DEFAULT_LOOPS = LoopPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitPolicy:
    """How many calls of this account may be in flight at a service once it says: too many.

    Unlimited until the first 429. Then halved at each one, and raised by one for as many calls
    that went well as the limit was; gone when it is no limit any more.
    Source: additive increase, multiplicative decrease; Chiu and Jain, 1989.

    Attributes:
        least: It never falls below; at least 1.
        backoff: Factor at each 429; above 0, below 1.
        pause_max_s: A service that asks to be left alone is, up to this long; at least 0.
    """

    least: int = 1
    backoff: float = 0.5
    pause_max_s: float = 60.0

    def __post_init__(self) -> None:
        checked_number("least", self.least, least=1, whole=True)
        checked_number("backoff", self.backoff, above=0, most=1)
        if self.backoff == 1:
            raise SettingError("backoff", self.backoff, "below 1")
        checked_number("pause_max_s", self.pause_max_s, least=0)


DEFAULT_RATIO = RetryRatio()
DEFAULT_LIMIT = LimitPolicy()


def checked_timeout(timeout_s: float | None, name: str = "timeout_s") -> float | None:
    """Return `timeout_s`.

    Raises:
        SettingError: It is not above 0.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise SettingError(name, timeout_s, "above 0, or None")
    return timeout_s

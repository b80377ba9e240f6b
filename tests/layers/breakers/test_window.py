"""Windows hold what a list of all calls says, and nothing that is too old."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from undercroft.layers.breakers.policy import BreakerPolicy
from undercroft.layers.breakers.window import (
    BUCKETS,
    DURATIONS,
    FAILED,
    OK,
    SLOW,
    CountWindow,
    TimeWindow,
    Window,
    window_of,
)

OUTCOMES = [OK, FAILED, SLOW, FAILED | SLOW]
outcomes = st.sampled_from(OUTCOMES)
# Equal times, times that go back, leaps over the whole window, and everything between.
steps = st.one_of(
    st.just(0.0), st.floats(-2, 0), st.floats(0, 0.2), st.floats(0, 3), st.floats(0, 40)
)


def totals(window: Window) -> tuple[int, int, int]:
    """Return what the window counted."""
    return window.calls, window.failures, window.slow


def counted(kept: list[int]) -> tuple[int, int, int]:
    """Count a list."""
    return len(kept), sum(o & FAILED for o in kept), sum(o >> 1 for o in kept)


@given(st.integers(1, 21), st.lists(outcomes, max_size=80))
def test_a_window_of_counts_is_the_end_of_the_list(size: int, ended: list[int]) -> None:
    """After each call the window holds exactly the last `size` ones."""
    window = CountWindow(size, 1)
    for number, outcome in enumerate(ended, start=1):
        window.add(outcome, 0.0, 0.0)
        assert totals(window) == counted(ended[:number][-size:])


@given(
    st.floats(0.01, 1e6),
    st.sampled_from([0.0, -5.0, 1e6, 1e9]),
    st.lists(st.tuples(steps, outcomes), max_size=60),
)
@example(10.0, 0.0, [(0.0, FAILED), (0.15625, OK), (9.84375, OK)])
def test_a_window_of_time_forgets_in_time(
    span_s: float, start_s: float, ended: list[tuple[float, int]]
) -> None:
    """Nothing older than the window is held, and nothing younger by a 64th of it is missing.

    A time that goes back counts as the latest one.
    """
    window = TimeWindow(span_s, 1, start_s)
    now_s, latest_s, every = start_s, start_s, list[tuple[float, int]]()
    # So much the clock itself cannot tell apart.
    grain_s = 4 * math.ulp(abs(start_s) + 2_400 * span_s)
    for step, outcome in ended:
        now_s += step * span_s / 10
        latest_s = max(latest_s, now_s)
        window.add(outcome, now_s, 0.0)
        every.append((latest_s, outcome))
        sure_s = latest_s - span_s * (1 - 1 / BUCKETS) + grain_s
        sure = counted([o for at_s, o in every if at_s > sure_s])
        most = counted([o for at_s, o in every if at_s > latest_s - span_s - grain_s])
        assert all(a <= b <= c for a, b, c in zip(sure, totals(window), most, strict=True))


@given(st.lists(st.tuples(st.integers(0, 90), outcomes), max_size=60))
def test_a_window_of_time_slides(ended: list[tuple[int, int]]) -> None:
    """Where times fall on its buckets, it holds exactly what is younger than it is long."""
    window, now, every = TimeWindow(float(BUCKETS), 1, 0.0), 0, list[tuple[int, int]]()
    for step, outcome in ended:
        now += step
        window.forget(now)
        assert totals(window) == counted([o for at, o in every if now - at < BUCKETS])
        window.add(outcome, now, 0.0)
        every.append((now, outcome))
        assert totals(window) == counted([o for at, o in every if now - at < BUCKETS])


def test_any_number_of_calls_fits_into_a_bucket() -> None:
    """A moment in which more happens than two bytes can count is counted all the same."""
    window = TimeWindow(60.0, 1, 0.0)
    for _ in range(70_000):
        window.add(FAILED | SLOW, 0.0, 0.0)
    assert totals(window) == (70_000, 70_000, 70_000)
    window.add(OK, 59.0, 0.0)
    assert window.calls == 70_001
    window.forget(60.0)
    assert totals(window) == (1, 0, 0)


@pytest.mark.parametrize("now_s", [math.nan, math.inf, -math.inf, -1e300, 1e300])
@pytest.mark.parametrize("span_s", [1e-300, 10.0, 1e300])
def test_no_time_breaks_a_window(now_s: float, span_s: float) -> None:
    """Whatever the clock says, a call is counted and later ones still are."""
    window = TimeWindow(span_s, 1, 0.0)
    window.add(FAILED, now_s, 0.0)
    window.forget(now_s)
    window.add(OK, now_s, 0.0)
    assert totals(window) == (2, 1, 0)


@given(st.lists(st.floats(0, 1e3, width=32), max_size=300))
def test_quantiles_are_those_of_the_last_calls(took: list[float]) -> None:
    """The nearest rank of the last 128 durations, or None where there is none."""
    for window in (CountWindow(5, 1), TimeWindow(5.0, 1, 0.0)):
        for took_s in took:
            window.add(OK, 0.0, took_s)
        last = sorted(took[-DURATIONS:])
        if not last:
            assert window.took_s(0.5, 0.99) == [None, None]
            continue
        ranks = [math.ceil(share * len(last)) - 1 for share in (0.5, 0.99)]
        assert window.took_s(0.5, 0.99) == [last[rank] for rank in ranks]


def test_a_rate_means_nothing_before_there_are_enough_calls() -> None:
    """Below `calls_min` there is no rate; from there on it is exact."""
    window = CountWindow(10, 5)
    for outcome in (OK, OK, FAILED, FAILED):
        window.add(outcome, 0.0, 0.0)
        assert window.failure_rate is None
        assert window.slow_rate is None
    window.add(FAILED | SLOW, 0.0, 0.0)
    assert window.failure_rate == 0.6
    assert window.slow_rate == 0.2


def test_a_window_never_grows() -> None:
    """It takes as much room after many calls as before the first."""
    for policy in (BreakerPolicy(window_calls=100), BreakerPolicy(window_s=60.0)):
        window = window_of(policy, 0.0)
        slots = [n for kind in type(window).__mro__ for n in getattr(kind, "__slots__", ())]
        held = [getattr(window, name) for name in slots if name in {"_ring", "_took", "_buckets"}]
        before = [sys.getsizeof(each) for each in held]
        for number in range(20_000):
            window.add(number % 4, number / 100, 1.0)
        assert [sys.getsizeof(each) for each in held] == before


def test_the_window_is_the_one_that_is_declared() -> None:
    """Seconds make a window of time, calls one of counts."""
    timed = window_of(BreakerPolicy(window_s=20.0, calls_min=5), 3.0)
    assert isinstance(timed, TimeWindow)
    assert (timed.span_s, timed.calls_min) == (20.0, 5)
    counting = window_of(BreakerPolicy(window_calls=7), 3.0)
    assert isinstance(counting, CountWindow)
    assert (counting.size, counting.calls_min, counting.span_s) == (7, 7, math.inf)

"""A service that says "too many" is given fewer calls at a time, and more when it takes them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.errors import SettingError
from undercroft.layers.breakers.adaptive import AdaptiveLimit
from undercroft.layers.breakers.policy import LimitPolicy


def flying(calls: int, **settings: Any) -> AdaptiveLimit:
    """Return a limit with so many calls in flight."""
    limit = AdaptiveLimit(LimitPolicy(**settings))
    for _ in range(calls):
        limit.began()
    return limit


def test_there_is_no_limit_before_the_first_too_many() -> None:
    """As long as nobody complains, any number may be in flight."""
    limit = flying(10_000)
    assert limit.limit is None
    assert limit.free(0.0)


def test_too_many_halves_what_was_in_flight() -> None:
    """The limit is half of what was too many, and never below the least."""
    limit = flying(10)
    limit.overloaded(0.0, 1.0)
    assert (limit.limit, limit.in_flight, limit.cuts) == (5, 9, 1)
    assert not limit.free(1.0)
    lonely = flying(1, least=1)
    lonely.overloaded(0.0, 1.0)
    assert lonely.limit == 1
    assert flying(3, least=4).limit is None
    few = flying(3, least=4)
    few.overloaded(0.0, 1.0)
    assert few.limit == 4


def test_a_burst_lowers_the_limit_once() -> None:
    """Calls that began before the limit was lowered say nothing about the new one."""
    limit = flying(16)
    for n in range(10):
        limit.overloaded(0.0, 1.0 + n)
    assert (limit.limit, limit.cuts) == (8, 1)
    limit.began()
    limit.overloaded(1.5, 20.0)
    assert limit.cuts == 2
    # Half of the seven that were in flight: it is no use to allow more than that.
    assert limit.limit == 3


def test_what_began_in_the_same_moment_is_of_the_same_burst() -> None:
    """Where time does not move between calls, they count as begun before the limit was lowered."""
    limit = flying(16)
    for _ in range(10):
        limit.overloaded(1.0, 1.0)
    assert (limit.limit, limit.cuts) == (8, 1)


def test_it_grows_by_one_for_each_round_that_goes_well() -> None:
    """As many successes as the limit make it one more; those from before do not count."""
    limit = flying(8)
    limit.overloaded(0.0, 1.0)
    assert limit.limit == 4
    for _ in range(7):
        limit.succeeded(0.5)
    assert limit.limit == 4
    for _ in range(5):
        limit.began()
        limit.succeeded(2.0)
    assert limit.limit == 5


def test_it_is_gone_when_it_limits_nothing() -> None:
    """A limit of twice what was ever in flight is none."""
    limit = flying(4)
    limit.overloaded(0.0, 1.0)
    rounds = 0
    while limit.limit is not None:
        limit.began()
        limit.succeeded(2.0)
        rounds += 1
        assert rounds < 100
    assert limit.free(2.0)
    # The next complaint begins anew.
    limit.began()
    limit.overloaded(3.0, 4.0)
    assert limit.limit == 2


def test_what_was_in_flight_long_ago_does_not_count() -> None:
    """A limit is measured by what is in flight since it stands, not by a busier day."""
    limit = flying(500)
    for _ in range(496):
        limit.succeeded(0.0)
    limit.overloaded(0.0, 1.0)
    assert limit.limit == 2
    for _ in range(100):
        limit.began()
        limit.succeeded(2.0)
    assert limit.limit is None


def test_a_pause_is_kept() -> None:
    """Nothing begins before the service wants it, nor later than `pause_max_s` from then."""
    limit = flying(8, pause_max_s=60.0)
    limit.overloaded(0.0, 10.0, 5.0)
    assert not limit.free(14.9)
    assert limit.pause_s(14.0) == 1
    for _ in range(7):
        limit.released()
    assert limit.free(15.0)
    limit.began()
    limit.overloaded(15.0, 16.0, 604_800.0)
    assert limit.pause_s(16.0) == 60
    # A shorter one later does not end it, even if it lowers nothing.
    limit.began()
    limit.overloaded(15.5, 17.0, 1.0)
    assert limit.pause_s(17.0) == 59
    assert limit.cuts == 2


def test_a_call_that_was_called_off_says_nothing() -> None:
    """Cancelled calls neither raise nor lower the limit."""
    limit = flying(8)
    limit.overloaded(0.0, 1.0)
    for _ in range(7):
        limit.released()
    assert (limit.limit, limit.in_flight) == (4, 0)
    limit.released()
    assert limit.in_flight == 0


EVENTS = st.lists(
    st.tuples(st.sampled_from(["begin", "ok", "many", "off"]), st.integers(0, 30), st.floats(0, 3)),
    max_size=120,
)


@given(
    st.builds(
        LimitPolicy,
        least=st.integers(1, 5),
        backoff=st.floats(0.1, 0.9),
        pause_max_s=st.floats(0, 10),
    ),
    EVENTS,
)
def test_it_follows_its_rules(policy: LimitPolicy, events: list[tuple[str, int, float]]) -> None:
    """Whatever happens: within its bounds, lowered once a round trip, paused no longer than said.

    A call is only begun where there is room for it.
    """
    limit = AdaptiveLimit(policy)
    now_s, cut_s, paused_s = 0.0, -math.inf, -math.inf
    began: list[float] = []
    for what, which, dt_s in events:
        now_s += dt_s
        before = limit.limit
        if what == "begin":
            room = before is None or len(began) < before
            assert limit.free(now_s) == (room and now_s >= paused_s)
            if limit.free(now_s):
                limit.began()
                began.append(now_s)
            continue
        if not began:
            continue
        at_s = began.pop(which % len(began))
        if what == "ok":
            limit.succeeded(at_s)
            assert limit.limit is None or before is None or before <= limit.limit <= before + 1
        elif what == "off":
            limit.released()
            assert limit.limit == before
        else:
            hint_s = float(which) if which % 2 else None
            limit.overloaded(at_s, now_s, hint_s)
            if hint_s is not None:
                paused_s = max(paused_s, now_s + min(hint_s, policy.pause_max_s))
            if at_s <= cut_s:
                assert limit.limit == before
            else:
                cut_s = now_s
                half = math.floor((len(began) + 1) * policy.backoff)
                assert limit.limit is not None
                assert limit.limit <= max(policy.least, half)
        assert limit.in_flight == len(began)
        assert limit.limit is None or limit.limit >= policy.least
        assert limit.pause_s(now_s) == pytest.approx(max(paused_s - now_s, 0.0))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("least", 0),
        ("least", 1.5),
        ("backoff", 0),
        ("backoff", 1),
        ("backoff", math.nan),
        ("pause_max_s", -1),
        ("pause_max_s", math.inf),
    ],
)
def test_a_bad_setting_fails_where_it_is_written(setting: str, value: Any) -> None:
    """Settings that make no sense name themselves."""
    with pytest.raises(SettingError) as caught:
        LimitPolicy(**{setting: value})
    assert caught.value.name == setting

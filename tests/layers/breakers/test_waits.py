"""A failed call is tried again so often, after so long, and never in vain."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.errors import DeadlineError, SettingError
from undercroft.layers.breakers.classes import DEFAULT_TABLE, Blame, Judged
from undercroft.layers.breakers.policy import ONCE, RetryPolicy, RetryRatio, checked_timeout
from undercroft.layers.breakers.waits import Ended, RetryTokens, next_wait_s, wait_or_end
from undercroft.model.step import ErrorClass

RETRIED = {ErrorClass.TRANSIENT, ErrorClass.OVERLOADED}
POLICIES = st.builds(
    lambda attempts, wait_s, more_s, hint_max_s: RetryPolicy(
        attempts=attempts, wait_s=wait_s, wait_max_s=wait_s + more_s, hint_max_s=hint_max_s
    ),
    st.integers(1, 100),
    st.floats(1e-3, 1e3),
    st.floats(0, 1e4),
    st.floats(0, 1e4),
)
JITTERS = st.floats(0, 1, exclude_max=True)
JUDGED = st.builds(
    Judged,
    st.sampled_from(ErrorClass),
    st.sampled_from([b for b in Blame if b is not Blame.NOBODY]),
    st.none() | st.floats(0, 1e5),
)
TRANSIENT = Judged(ErrorClass.TRANSIENT, Blame.VENDOR)


def hinted(hint_s: float) -> Judged:
    """Return an overloaded error whose service wants to be asked after `hint_s`."""
    return Judged(ErrorClass.OVERLOADED, Blame.VENDOR, hint_s)


def why(
    policy: RetryPolicy,
    judged: Judged,
    jitter: float = 0.0,
    remaining_s: float = math.inf,
    typical_s: float = 0.0,
) -> float | Ended:
    """Return why there is no second attempt."""
    return wait_or_end(
        policy,
        judged,
        attempt=1,
        jitter=jitter,
        remaining_s=remaining_s,
        typical_s=typical_s,
    )


# --------------------------------------------------------------------------- waits


@given(POLICIES, JUDGED, st.integers(1, 120), JITTERS)
def test_attempts_and_waits_are_bounded(
    policy: RetryPolicy, judged: Judged, attempt: int, jitter: float
) -> None:
    """Only transient and overloaded errors are tried again, at most `attempts` times.

    Beyond what the service asked for, no wait is longer than the doubled first one, nor than
    `wait_max_s`; and none is shorter than what it asked for.
    """
    wait_s = next_wait_s(policy, judged, attempt=attempt, jitter=jitter)
    hint_s = judged.retry_after_s or 0.0
    more = (
        attempt < policy.attempts and judged.error_class in RETRIED and hint_s <= policy.hint_max_s
    )
    assert (wait_s is not None) == more
    if wait_s is not None:
        assert hint_s <= wait_s < math.inf
        ours_s = wait_s - hint_s
        assert ours_s <= policy.wait_max_s + 1e-6
        assert ours_s <= policy.wait_s * 2.0 ** (attempt - 1) + 1e-6


@given(POLICIES, JUDGED, st.integers(1, 5), JITTERS, st.floats(0, 1e5), st.floats(0, 1e4))
def test_no_attempt_is_begun_that_cannot_end_in_time(  # noqa: PLR0913, PLR0917  all that a wait depends on
    policy: RetryPolicy,
    judged: Judged,
    attempt: int,
    jitter: float,
    remaining_s: float,
    typical_s: float,
) -> None:
    """After the wait there is time left for what an attempt takes."""
    wait_s = next_wait_s(
        policy,
        judged,
        attempt=attempt,
        jitter=jitter,
        remaining_s=remaining_s,
        typical_s=typical_s,
    )
    whole_s = next_wait_s(policy, judged, attempt=attempt, jitter=jitter)
    fits = whole_s is not None and whole_s + typical_s < remaining_s
    assert wait_s == (whole_s if fits else None)


@given(POLICIES, JUDGED, st.integers(1, 120), JITTERS, st.floats(0, 1e5))
def test_whoever_is_not_tried_again_is_told_why(
    policy: RetryPolicy, judged: Judged, attempt: int, jitter: float, remaining_s: float
) -> None:
    """There is a reason, in words, exactly where there is no wait."""
    said = wait_or_end(policy, judged, attempt=attempt, jitter=jitter, remaining_s=remaining_s)
    wait_s = next_wait_s(policy, judged, attempt=attempt, jitter=jitter, remaining_s=remaining_s)
    if isinstance(said, Ended):
        assert wait_s is None
        assert said.words
    else:
        assert said == wait_s


@given(POLICIES, JITTERS)
def test_waits_spread_over_the_whole_bound(policy: RetryPolicy, jitter: float) -> None:
    """With full jitter a wait is anywhere between nothing and its bound, in proportion."""
    for attempt in range(1, policy.attempts):
        least, some, most = (
            next_wait_s(policy, TRANSIENT, attempt=attempt, jitter=j) for j in (0.0, jitter, 1.0)
        )
        assert least == 0
        assert most == min(policy.wait_max_s, policy.wait_s * 2.0 ** (attempt - 1))
        assert some == pytest.approx(most * jitter)


@given(POLICIES, JITTERS)
def test_a_policy_comes_to_an_end(policy: RetryPolicy, jitter: float) -> None:
    """Following a policy, a call is tried exactly `attempts` times."""
    tries = 1
    while next_wait_s(policy, TRANSIENT, attempt=tries, jitter=jitter) is not None:
        tries += 1
    assert tries == policy.attempts


@given(st.sampled_from([TimeoutError, ConnectionError, ConnectionResetError, DeadlineError]))
def test_a_write_that_may_have_happened_is_never_tried_again(kind: type[Exception]) -> None:
    """Whatever the policy, an error that leaves a write's outcome open ends the attempts."""
    error = kind("s", "p", "m") if kind is DeadlineError else kind()
    judged = DEFAULT_TABLE.judge(error, changes=True)
    assert next_wait_s(RetryPolicy(attempts=100), judged, attempt=1, jitter=0.5) is None
    assert why(RetryPolicy(attempts=100), judged) is Ended.CLASS


def test_a_hint_is_where_a_wait_begins() -> None:
    """Never earlier than the service asked for, and not all at the same moment after."""
    policy = RetryPolicy(attempts=9, wait_s=1.0, wait_max_s=4.0)
    assert next_wait_s(policy, hinted(30.0), attempt=1, jitter=0.0) == 30
    assert next_wait_s(policy, hinted(30.0), attempt=1, jitter=0.5) == 30.5
    assert next_wait_s(policy, hinted(30.0), attempt=8, jitter=0.5) == 32
    assert next_wait_s(policy, hinted(0.0), attempt=1, jitter=0.0) == 0


def test_a_hint_of_a_week_is_not_waited_for() -> None:
    """A service that wants to be left alone for longer than `hint_max_s` is not tried again."""
    policy = RetryPolicy(hint_max_s=60.0)
    assert next_wait_s(policy, hinted(60.0), attempt=1, jitter=0.0) == 60
    for hint_s in (60.001, 604_800.0):
        assert next_wait_s(policy, hinted(hint_s), attempt=1, jitter=0.0) is None
        assert why(policy, hinted(hint_s)) is Ended.HINT


def test_a_person_s_problem_and_a_refusal_are_final() -> None:
    """Neither a quota that is used up nor an open breaker is tried again, whatever the class."""
    quota = Judged(ErrorClass.OVERLOADED, Blame.ACCOUNT, quota=True)
    refused = Judged(ErrorClass.TRANSIENT, Blame.NOBODY, 0.1)
    assert why(RetryPolicy(), quota) is Ended.QUOTA
    assert why(RetryPolicy(), refused) is Ended.REFUSED


def test_a_wait_is_not_cut_short() -> None:
    """Where time is short there is no attempt, rather than a storm of them at the very end."""
    policy = RetryPolicy(wait_s=10.0)
    wait_s = next_wait_s(policy, TRANSIENT, attempt=1, jitter=0.1, remaining_s=3.0, typical_s=1.0)
    assert wait_s == 1
    for jitter, typical_s in ((0.2, 1.0), (0.0, 3.0), (0.0, math.inf), (0.0, math.nan)):
        assert why(policy, TRANSIENT, jitter, 3.0, typical_s) is Ended.DEADLINE


def test_once_is_once() -> None:
    """Without a policy a call is tried one time."""
    assert next_wait_s(ONCE, TRANSIENT, attempt=1, jitter=0.5) is None


# --------------------------------------------------------------------------- how many


def test_retries_are_a_share_of_the_calls() -> None:
    """Ten calls earn a retry; what is not used is saved up to a bound."""
    tokens = RetryTokens(RetryRatio(ratio=0.1, floor_per_min=0, saved_max=2))
    assert [tokens.take(0.0) for _ in range(3)] == [True, True, False]
    for n in range(9):
        tokens.call(0.001 * n)
    assert not tokens.take(1.0)
    tokens.call(1.0)
    assert tokens.take(1.0)
    for _ in range(1_000):
        tokens.call(1.0)
    assert [tokens.take(1.0) for _ in range(3)] == [True, True, False]
    assert (tokens.calls, tokens.taken, tokens.denied) == (1_010, 5, 3)


def test_a_service_that_is_seldom_called_has_retries() -> None:
    """The floor is given by time; where calls earn more than that it adds nothing."""
    policy = RetryRatio(ratio=0.1, floor_per_min=6, saved_max=1)
    seldom = RetryTokens(policy)
    taken = 0
    for n in range(60):
        seldom.call(10.0 * n)
        taken += seldom.take(10.0 * n)
    assert taken == 60
    busy = RetryTokens(policy)
    taken = 0
    for n in range(6_000):
        busy.call(0.01 * n)
        taken += busy.take(0.01 * n)
    assert 600 <= taken <= 602


def test_a_retry_that_was_not_made_is_given_back() -> None:
    """Who was cancelled while waiting has used up nothing."""
    tokens = RetryTokens(RetryRatio(ratio=0, floor_per_min=0, saved_max=1))
    assert tokens.take(0.0)
    tokens.give_back()
    assert (tokens.taken, tokens.left) == (0, 1)
    assert tokens.take(0.0)


STEPS = st.lists(st.tuples(st.booleans(), st.floats(-5, 60)), max_size=200)


@given(
    st.builds(
        RetryRatio,
        ratio=st.floats(0, 1),
        floor_per_min=st.floats(0, 100),
        saved_max=st.floats(1, 20),
    ),
    STEPS,
)
def test_retries_never_exceed_what_was_earned(
    policy: RetryRatio, steps: list[tuple[bool, float]]
) -> None:
    """Whatever comes when: retries ≤ what was saved + ratio of the calls + floor of the time.

    A clock that goes back earns nothing. Whoever is denied a retry could not have had one, by a
    count of its own.
    """
    tokens = RetryTokens(policy)
    now_s, latest_s, first_s = 100.0, -math.inf, None
    # The count: what is left, and what time gave since the last call.
    left, by_time = policy.saved_max, 0.0
    for is_call, dt_s in steps:
        now_s += dt_s
        first_s = now_s if first_s is None else first_s
        passed_s = max(now_s - latest_s, 0.0) if latest_s > -math.inf else 0.0
        latest_s = max(latest_s, now_s)
        earned = passed_s * policy.floor_per_min / 60
        by_time += earned
        left = min(left + earned, policy.saved_max)
        if is_call:
            tokens.call(now_s)
            left = min(left + max(policy.ratio - by_time, 0.0), policy.saved_max)
            by_time = 0.0
        elif tokens.take(now_s):
            assert left >= 1 - 1e-6
            left = max(left - 1, 0.0)
        else:
            assert left < 1 + 1e-6
        assert tokens.left == pytest.approx(left)
        assert 0 <= tokens.left <= policy.saved_max
        floor = (latest_s - first_s) * policy.floor_per_min / 60
        bound = policy.saved_max + policy.ratio * tokens.calls + floor
        assert tokens.taken <= bound + 1e-6


# --------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("attempts", 0),
        ("attempts", -1),
        ("attempts", 101),
        ("attempts", 1.5),
        ("attempts", True),
        ("attempts", "3"),
        ("attempts", math.nan),
        ("attempts", math.inf),
        ("wait_s", 0.0),
        ("wait_s", -0.1),
        ("wait_s", math.nan),
        ("wait_s", -math.inf),
        ("wait_max_s", 0.1),
        ("wait_max_s", math.nan),
        ("wait_max_s", math.inf),
        ("wait_max_s", -1.0),
        ("hint_max_s", -1.0),
        ("hint_max_s", math.nan),
        ("hint_max_s", math.inf),
    ],
)
def test_a_bad_retry_setting_fails_where_it_is_written(setting: str, value: Any) -> None:
    """Settings that make no sense, NaN and infinity among them, name themselves."""
    with pytest.raises(SettingError, match=rf"^{setting} is .*; it must be") as caught:
        RetryPolicy(**{setting: value})
    assert caught.value.name == setting


def test_no_wait_is_without_end() -> None:
    """Not even together do the settings allow an infinite wait."""
    with pytest.raises(SettingError):
        RetryPolicy(wait_s=math.inf, wait_max_s=math.inf)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ratio", -0.1),
        ("ratio", 1.1),
        ("ratio", math.nan),
        ("floor_per_min", -1),
        ("floor_per_min", math.inf),
        ("saved_max", 0),
        ("saved_max", math.nan),
    ],
)
def test_a_bad_ratio_fails_where_it_is_written(setting: str, value: Any) -> None:
    """Settings that make no sense name themselves."""
    with pytest.raises(SettingError) as caught:
        RetryRatio(**{setting: value})
    assert caught.value.name == setting


@pytest.mark.parametrize("timeout_s", [0, 0.0, -1, -math.inf, math.nan])
def test_a_bad_timeout_fails_where_it_is_written(timeout_s: float) -> None:
    """A timeout that would stop everything at once, or is no number, names itself."""
    with pytest.raises(SettingError, match=r"^turn_timeout_s is"):
        checked_timeout(timeout_s, "turn_timeout_s")
    with pytest.raises(SettingError, match=r"^timeout_s is"):
        checked_timeout(timeout_s)


@pytest.mark.parametrize("timeout_s", [None, 1e-9, 1, math.inf])
def test_a_good_timeout_is_kept(timeout_s: float | None) -> None:
    """No limit is a choice, too."""
    assert checked_timeout(timeout_s) == timeout_s

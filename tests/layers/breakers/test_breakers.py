"""Every call has a retry budget, and an error says what it means for another attempt."""

from __future__ import annotations

import asyncio
import math
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.errors import DeadlineError, EncodeError, SettingError, UnknownOutcomeError
from undercroft.layers.breakers.policy import ONCE, checked_timeout
from undercroft.layers.breakers.policy import RetryPolicy as Retry
from undercroft.layers.breakers.state import classify, next_wait_s
from undercroft.model.step import ErrorClass

T, U, P = ErrorClass.TRANSIENT, ErrorClass.UNKNOWN, ErrorClass.PERMANENT


@pytest.mark.parametrize(
    ("error", "of_a_read", "of_a_write"),
    [
        (TimeoutError(), T, U),
        (asyncio.TimeoutError(), T, U),  # noqa: UP041  as somebody else may raise it
        (socket.timeout(), T, U),  # noqa: UP041  likewise
        (ConnectionError(), T, U),
        (ConnectionResetError(), T, U),
        (ConnectionAbortedError(), T, U),
        (BrokenPipeError(), T, U),
        (ConnectionRefusedError(), T, T),
        (DeadlineError("s", "it took too long", "Give it longer."), T, U),
        (UnknownOutcomeError("who knows"), U, U),
        (ValueError("no"), P, P),
        (KeyError("no"), P, P),
        (OSError("no"), P, P),
        (EncodeError("s", "it is not data", "Return data."), P, P),
        (SystemExit(1), P, P),
        (KeyboardInterrupt(), P, P),
        (asyncio.CancelledError(), P, P),
        (ExceptionGroup("many", [TimeoutError()]), P, P),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_an_error_has_a_class(
    error: BaseException, of_a_read: ErrorClass, of_a_write: ErrorClass
) -> None:
    """What may have happened is unknown for a write and harmless for a read."""
    assert classify(error, changes=False) is of_a_read
    assert classify(error, changes=True) is of_a_write


@given(st.sampled_from([TimeoutError, ConnectionError, ConnectionResetError, DeadlineError]))
def test_a_write_that_may_have_happened_is_never_tried_again(kind: type[Exception]) -> None:
    """Whatever the policy, an error that leaves a write's outcome open ends the attempts."""
    error = kind("s", "p", "m") if kind is DeadlineError else kind()
    error_class = classify(error, changes=True)
    assert next_wait_s(Retry(attempts=100), error_class, attempt=1, jitter=0.5) is None


POLICIES = st.builds(
    lambda attempts, wait_s, more_s: Retry(
        attempts=attempts, wait_s=wait_s, wait_max_s=wait_s + more_s
    ),
    st.integers(1, 100),
    st.floats(1e-3, 1e3),
    st.floats(0, 1e4),
)
JITTERS = st.floats(0, 1, exclude_max=True)


@given(POLICIES, st.sampled_from(ErrorClass), st.integers(1, 120), JITTERS)
def test_attempts_and_waits_are_bounded(
    policy: Retry, error_class: ErrorClass, attempt: int, jitter: float
) -> None:
    """Only transient and overloaded errors are tried again, at most `attempts` times.

    No wait is longer than the doubled first one, nor than `wait_max_s`.
    """
    wait_s = next_wait_s(policy, error_class, attempt=attempt, jitter=jitter)
    retried = error_class in {ErrorClass.TRANSIENT, ErrorClass.OVERLOADED}
    assert (wait_s is None) == (attempt >= policy.attempts or not retried)
    if wait_s is not None:
        assert 0 <= wait_s <= policy.wait_max_s
        assert wait_s <= policy.wait_s * 2.0 ** (attempt - 1)
        assert math.isfinite(wait_s)


@given(POLICIES, JITTERS)
def test_waits_spread_over_the_whole_bound(policy: Retry, jitter: float) -> None:
    """With full jitter a wait is anywhere between nothing and its bound, in proportion."""
    for attempt in range(1, policy.attempts):
        least, some, most = (
            next_wait_s(policy, ErrorClass.TRANSIENT, attempt=attempt, jitter=j)
            for j in (0.0, jitter, 1.0)
        )
        assert least == 0
        assert most is not None
        assert some == pytest.approx(most * jitter)


@given(POLICIES, JITTERS)
def test_a_policy_comes_to_an_end(policy: Retry, jitter: float) -> None:
    """Following a policy, a call is tried exactly `attempts` times."""
    tries = 1
    while next_wait_s(policy, ErrorClass.OVERLOADED, attempt=tries, jitter=jitter) is not None:
        tries += 1
    assert tries == policy.attempts


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("attempts", 0),
        ("attempts", -1),
        ("attempts", 101),
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
    ],
)
def test_a_bad_retry_setting_fails_where_it_is_written(setting: str, value: Any) -> None:
    """Settings that make no sense, NaN and infinity among them, name themselves."""
    with pytest.raises(SettingError, match=rf"^{setting} is .*; it must be") as caught:
        Retry(**{setting: value})
    assert caught.value.name == setting


def test_no_wait_is_without_end() -> None:
    """Not even together do the settings allow an infinite wait."""
    with pytest.raises(SettingError):
        Retry(wait_s=math.inf, wait_max_s=math.inf)


def test_once_is_once() -> None:
    """Without a policy a call is tried one time."""
    assert next_wait_s(ONCE, ErrorClass.TRANSIENT, attempt=1, jitter=0.5) is None


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

"""Nonsense fails where it is written, and says which field and what would fit."""

from __future__ import annotations

import math
from typing import Any

import pytest

from undercroft.errors import DeclarationError, SettingError
from undercroft.layers.breakers.classes import ErrorRule
from undercroft.layers.breakers.policy import (
    DEFAULT_BREAKER,
    BreakerPolicy,
    Budget,
    Budgets,
    LimitPolicy,
    LoopPolicy,
    RetryPolicy,
    RetryRatio,
    checked_timeout,
)
from undercroft.layers.breakers.service import Service, named
from undercroft.model.step import ErrorClass

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("kind", "field", "values"),
    [
        (RetryPolicy, "attempts", [0, -1, 101, 1.5, NAN, True, "3"]),
        (RetryPolicy, "wait_s", [0, -1, NAN, INF, "1"]),
        (RetryPolicy, "wait_max_s", [0.1, NAN, INF]),
        (RetryPolicy, "hint_max_s", [-1, NAN, INF]),
        (RetryRatio, "ratio", [-0.1, 1.1, NAN]),
        (RetryRatio, "floor_per_min", [-1, NAN, INF]),
        (RetryRatio, "saved_max", [0, 0.5, NAN, INF]),
        (BreakerPolicy, "failure_rate", [0, -0.5, 1.01, NAN, INF, "half"]),
        (BreakerPolicy, "failures_max", [0, -1, 1.5, NAN, True]),
        (BreakerPolicy, "window_calls", [0, -1, 10_001, 2.5, NAN]),
        (BreakerPolicy, "window_s", [0, -1, NAN, INF]),
        (BreakerPolicy, "calls_min", [0, -1, 101, 1.5, NAN]),
        (BreakerPolicy, "open_s", [0, -1, NAN, INF]),
        (BreakerPolicy, "open_growth", [0.9, 0, NAN, INF]),
        (BreakerPolicy, "open_max_s", [29.9, NAN, -1]),
        (BreakerPolicy, "probes", [0, -1, 1.5, NAN]),
        (BreakerPolicy, "half_open_s", [0, -1, NAN, INF]),
        (Budget, "attempts", [-1, 1.5, NAN, True]),
        (Budget, "time_s", [0, -1, NAN, INF]),
        (Budget, "input_tokens", [-1, 0.5]),
        (Budget, "output_tokens", [-1, 0.5]),
        (Budget, "usd", [-0.01, NAN, INF, "1"]),
        (Budgets, "answer_tokens", [0, -1, 1.5]),
        (Budgets, "turn", [None, 5, {"usd": 1}]),
        (LoopPolicy, "repeats_max", [0, -1, 1.5, 1_001]),
        (LoopPolicy, "cycle_max", [0, 17, NAN]),
        (LoopPolicy, "cycles_max", [1, 0]),
        (LoopPolicy, "stale_steps_max", [1, NAN]),
        (LoopPolicy, "redirects_max", [-1, NAN]),
        (LimitPolicy, "least", [0, -1, 1.5]),
        (LimitPolicy, "backoff", [0, 1, -0.5, NAN]),
        (LimitPolicy, "pause_max_s", [-1, NAN, INF]),
    ],
    ids=lambda part: getattr(part, "__name__", part if isinstance(part, str) else ""),
)
def test_a_number_outside_its_range_is_refused(kind: Any, field: str, values: list[Any]) -> None:
    """The error names the field, what was given, and the range."""
    for value in values:
        with pytest.raises(SettingError) as raised:
            kind(**{field: value})
        assert raised.value.name == field
        assert field in str(raised.value)
        assert "must be" in str(raised.value)


def test_a_minimum_above_its_window_is_refused() -> None:
    """A rate over more calls than the window holds would never be known."""
    with pytest.raises(SettingError, match="calls_min is 11; it must be at most window_calls, 10"):
        BreakerPolicy(window_calls=10, calls_min=11)
    assert BreakerPolicy(window_calls=4).calls_min == 4
    assert BreakerPolicy(window_s=5).calls_min == 10


def test_a_window_is_of_one_kind() -> None:
    """Calls or seconds, not both."""
    with pytest.raises(SettingError, match="left out where window_s is given"):
        BreakerPolicy(window_calls=10, window_s=5)
    assert BreakerPolicy().window_calls == 100


def test_slow_calls_need_both_words() -> None:
    """How slow, and how many of them."""
    with pytest.raises(SettingError, match="given with slow_s and slow_rate both"):
        BreakerPolicy(slow_s=1.0)
    with pytest.raises(SettingError, match="given with slow_s and slow_rate both"):
        BreakerPolicy(slow_rate=0.5)


def test_the_bound_of_the_wait_grows_with_it() -> None:
    """Who wants to wait an hour does not have to say so twice."""
    assert BreakerPolicy(open_s=3_600).open_max_s == 3_600
    assert BreakerPolicy(open_s=1).open_max_s == 600
    assert DEFAULT_BREAKER.open_max_s == 60


def test_a_budget_knows_whether_it_limits() -> None:
    """Also of a limit of nothing at all."""
    assert not Budget()
    assert Budget(attempts=0)
    assert Budget(usd=0.0)


@pytest.mark.parametrize("timeout_s", [0, -1, NAN])
def test_a_timeout_is_above_zero(timeout_s: float) -> None:
    """Or none at all."""
    with pytest.raises(SettingError, match="above 0, or None"):
        checked_timeout(timeout_s)
    assert checked_timeout(None) is None
    assert checked_timeout(1.5) == 1.5


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("name", "", "the name of a service"),
        ("name", None, "the name of a service"),
        ("breaker", {"failure_rate": 0.5}, "an uc.BreakerPolicy, or None"),
        ("retry", 3, "an uc.Retry, or None"),
        ("ratio", 0.1, "an uc.RetryRatio"),
        ("limit", 5, "an uc.LimitPolicy"),
        ("budget", 5, "an uc.Budget"),
        ("timeout_s", -1, "above 0, or None"),
        ("errors", [TimeoutError], "a list of uc.ErrorRule"),
        ("errors", ErrorRule(OSError, ErrorClass.TRANSIENT), "a list of uc.ErrorRule"),
        ("classify", "transient", "a function, or None"),
    ],
)
def test_a_service_says_what_it_takes(field: str, value: Any, expected: str) -> None:
    """A setting of another kind is named, with the kind that fits."""
    given: dict[str, Any] = {"name": "crm", field: value}
    with pytest.raises(SettingError) as raised:
        Service(**given)
    assert raised.value.name == field
    assert raised.value.expected == expected


def test_services_are_told_apart_by_name() -> None:
    """Two settings of one service would contradict each other."""
    crm = Service("crm")
    assert named([crm]) == {"crm": crm}
    with pytest.raises(DeclarationError, match="'crm' is given twice"):
        named([crm, Service("crm", timeout_s=1)])
    names: Any = ["crm"]
    with pytest.raises(DeclarationError, match="is not a service"):
        named(names)

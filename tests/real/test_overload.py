"""A service that cannot keep up for a while: what our clients make of it, and naive ones."""

import math
from itertools import pairwise

import pytest

from .overload import LOAD, Figures, Load, calls_to_mark, simulate, wrong_marks

OURS = ("parts", "runtime")
TEN = range(1, 11)
# The same outage, with less of a good time before it and after it.
SHORT = Load(ill_s=5.0, well_s=25.0, end_s=45.0)


def check(figures: Figures) -> None:
    """Hold a run of our clients to what is promised, and show its figures."""
    print(figures)  # noqa: T201  pytest shows it with -s, and where the test fails
    assert figures.well_share > 0.999
    assert figures.attempts_ratio <= 1.1
    assert figures.attempts_after <= 1.1
    assert figures.recovered_95_s <= 10.0
    assert figures.recovered_99_s <= 10.0
    # Who waited for an answer waited for little more than one timeout.
    assert figures.p99_s <= 1.5


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("client", OURS)
def test_an_overload_is_over_soon_after_its_cause(client: str, seed: int) -> None:
    """In an outage there are no more attempts than calls, and all is well soon after it."""
    check(simulate(client, seed=seed, load=SHORT))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", TEN)
@pytest.mark.parametrize("client", OURS)
def test_an_overload_is_over_soon_after_its_cause_ten_times(client: str, seed: int) -> None:
    """In an outage there are no more attempts than calls, and all is well soon after it."""
    check(simulate(client, seed=seed))


@pytest.mark.parametrize("seed", TEN)
def test_an_overload_is_over_soon_whenever_it_ends(seed: int) -> None:
    """It does not matter where between two probes the service gets well."""
    check(simulate("parts", seed=seed, load=Load(ill_s=5.0, well_s=20.0 + seed, end_s=40.0 + seed)))


@pytest.mark.parametrize("seed", [1, *(pytest.param(s, marks=pytest.mark.slow) for s in TEN[1:])])
def test_retries_keep_a_service_down_that_could_be_up(seed: int) -> None:
    """The collapse is real: of clients that only retry it outlives its cause, to the end."""
    figures = simulate("naive", seed=seed)
    assert figures.well_share > 0.999
    assert figures.attempts_ratio > 2.5
    assert figures.attempts_after > 2.5
    assert math.isinf(figures.recovered_95_s)


def test_a_budget_of_retries_alone_bounds_attempts_and_a_breaker_alone_ends_the_collapse() -> None:
    """Each part does what it is for: the budget bounds attempts, the breaker empties the queue."""
    ratio, breaker = simulate("ratio", seed=1), simulate("breaker", seed=1)
    assert ratio.attempts_ratio <= 1.11
    assert ratio.recovered_95_s > 10.0
    assert breaker.recovered_95_s <= 10.0


def test_a_simulation_is_the_same_again() -> None:
    """All chance comes from the seed."""
    load = Load(ill_s=2.0, well_s=4.0, end_s=6.0)
    first, again, other = (simulate("runtime", seed=seed, load=load) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert LOAD.well_s - LOAD.ill_s == 20.0


def test_a_service_that_fails_half_is_suspect_within_ten_calls() -> None:
    """What fails half of its calls is marked within ten of them, on average."""
    assert 4.0 < calls_to_mark(seed=1, times=2_000) <= 10.0


def test_a_service_that_is_well_is_seldom_suspect() -> None:
    """In a million calls of which one in fifty fails, fewer than twenty marks are wrong."""
    assert wrong_marks(seed=1, calls=1_000_000, fails=0.02) < 20
    assert wrong_marks(seed=1, calls=1_000, fails=0.0) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_worse_a_well_service_is_the_more_often_it_is_suspect() -> None:
    """Marks of services that are well stay below twenty in a million, and grow with failures."""
    millions = [
        sum(wrong_marks(seed=seed, calls=1_000_000, fails=fails) for seed in TEN)
        for fails in (0.005, 0.01, 0.02)
    ]
    assert all(less <= more for less, more in pairwise(millions))
    assert max(millions) < 20 * len(TEN)

"""A service that is falling ill is marked early, and one that is well hardly ever."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.breakers.policy import BreakerPolicy
from undercroft.layers.breakers.state import BreakerState, Circuit
from undercroft.layers.breakers.suspect import FAILURE_ADDS, MARKED_AT, SUM_MAX, Suspicion


def calls_until_marked(failing: float) -> float:
    """Return how many calls it takes on average, exactly: hitting times of a Markov chain.

    Gaussian elimination of `E[s] = 1 + p E[s + 5] + (1 - p) E[max(0, s - 1)]`.
    """
    rows = [[0.0] * (MARKED_AT + 1) for _ in range(MARKED_AT)]
    for at, row in enumerate(rows):
        row[at] += 1
        row[max(0, at - 1)] -= 1 - failing
        row[MARKED_AT] = 1
        if at + FAILURE_ADDS < MARKED_AT:
            row[at + FAILURE_ADDS] -= failing
    for pivot in range(MARKED_AT):
        best = max(range(pivot, MARKED_AT), key=lambda row: abs(rows[row][pivot]))
        rows[pivot], rows[best] = rows[best], rows[pivot]
        for row in rows[:pivot] + rows[pivot + 1 :]:
            factor = row[pivot] / rows[pivot][pivot]
            for column in range(pivot, MARKED_AT + 1):
                row[column] -= factor * rows[pivot][column]
    return rows[0][MARKED_AT] / rows[0][0]


def marks(failing: float, calls: int, seed: int) -> int:
    """Return how often a service is marked that fails so many of its calls."""
    suspicion, chance, count = Suspicion(), random.Random(seed).random, 0  # noqa: S311
    for _ in range(calls):
        was = suspicion.marked
        if chance() < failing:
            suspicion.failed()
        else:
            suspicion.succeeded()
        count += suspicion.marked and not was
    return count


def test_half_of_the_calls_failing_is_seen_within_ten() -> None:
    """A service that fails half of its calls is marked within ten of them on average."""
    assert calls_until_marked(0.5) == pytest.approx(8.8, abs=0.05)
    took = 0
    for seed in range(2_000):
        suspicion, chance = Suspicion(), random.Random(seed).random  # noqa: S311
        while not suspicion.marked:
            took += 1
            if chance() < 0.5:
                suspicion.failed()
            else:
                suspicion.succeeded()
    assert took / 2_000 == pytest.approx(calls_until_marked(0.5), rel=0.05)


@pytest.mark.parametrize(("failing", "in_a_million"), [(0.005, 0.02), (0.01, 0.22), (0.02, 3.8)])
def test_a_good_service_is_hardly_ever_marked(failing: float, in_a_million: float) -> None:
    """Fewer than 20 marks in a million calls of a service that fails at most one in fifty."""
    assert 1e6 / calls_until_marked(failing) <= in_a_million < 20
    assert marks(failing, 500_000, seed=4) < 10


def test_a_mark_does_not_come_and_go() -> None:
    """Once marked, it takes as many successes as there is evidence to clear it."""
    suspicion = Suspicion()
    for _ in range(4):
        suspicion.failed()
    assert suspicion.marked
    for _ in range(suspicion.sum - 1):
        suspicion.succeeded()
        assert suspicion.marked
    suspicion.succeeded()
    assert not suspicion.marked


@given(st.lists(st.booleans(), max_size=200))
def test_evidence_is_bounded(ended: list[bool]) -> None:
    """The sum stays between nothing and its bound, so the past is forgotten in the end."""
    suspicion = Suspicion()
    for well in ended:
        if well:
            suspicion.succeeded()
        else:
            suspicion.failed()
        assert 0 <= suspicion.sum <= SUM_MAX
        assert suspicion.marked or suspicion.sum < MARKED_AT
    for _ in range(SUM_MAX):
        suspicion.succeeded()
    assert not suspicion.marked


def test_a_suspect_is_still_called() -> None:
    """Suspicion alone never opens a circuit, and every transition begins without it."""
    circuit = Circuit(BreakerPolicy(failure_rate=None, failures_max=100), 0.0)
    for _ in range(50):
        circuit.failed(circuit.admit(0.0), 0.0, 0.1)
    assert circuit.suspect
    assert circuit.state is BreakerState.CLOSED
    assert circuit.admit(0.0)
    assert circuit.metrics(0.0).suspect
    circuit.reset(1.0)
    assert not circuit.suspect


def test_successes_speak_for_a_service() -> None:
    """Failures far enough apart never mark it, and successes clear one that is marked."""
    circuit = Circuit(BreakerPolicy(failure_rate=None, failures_max=100), 0.0)
    for _ in range(20):
        circuit.failed(circuit.admit(0.0), 0.0, 0.1)
        for _ in range(FAILURE_ADDS):
            circuit.succeeded(circuit.admit(0.0), 0.0, 0.1)
        assert not circuit.suspect
    for _ in range(4):
        circuit.failed(circuit.admit(0.0), 0.0, 0.1)
    assert circuit.suspect
    for _ in range(SUM_MAX):
        circuit.succeeded(circuit.admit(0.0), 0.0, 0.1)
    assert not circuit.suspect

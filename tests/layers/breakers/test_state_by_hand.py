"""What people say to a breaker, what they get wrong, and how small it is."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.layers.breakers.played import (
    CLOSED,
    DISABLED,
    FORCED_OPEN,
    HALF_OPEN,
    OBSERVE_ONLY,
    OPEN,
    Played,
    half_open,
)
from tests.layers.breakers.size import size_bytes
from undercroft.errors import TransitionError
from undercroft.layers.breakers.policy import DEFAULT_BREAKER, BreakerPolicy
from undercroft.layers.breakers.state import BreakerState, Circuit, Transition

# ------------------------------------------------------------------ by hand


def test_forced_open_lets_nobody_through() -> None:
    """However long it lasts, until somebody ends it."""
    played = Played()
    played.circuit.to(FORCED_OPEN, 0.0, why="forced", by="ada")
    played.now_s = 1e9
    assert not played.admit()
    assert played.circuit.retry_in_s(1e9) is None
    assert not played.circuit.ready_to_probe(1e9)
    assert [(one.now, one.why, one.by) for one in played.told] == [(FORCED_OPEN, "forced", "ada")]


def test_disabled_counts_nothing() -> None:
    """All pass; only what is in flight is known."""
    played = Played(DISABLED, failures_max=1)
    permit = played.admit()
    played.play("FFFFF")
    seen = played.circuit.metrics(0.0)
    assert (played.state, seen.calls, seen.in_a_row, seen.in_flight) == (DISABLED, 0, 0, 1)
    played.circuit.to(CLOSED, 0.0)
    played.end(permit, "F")
    assert played.state is CLOSED


def test_observe_only_counts_and_never_refuses() -> None:
    """What would have opened it is seen, and nothing follows."""
    played = Played(OBSERVE_ONLY, failures_max=1, window_calls=10, calls_min=5)
    played.play("FFFFFS")
    seen = played.circuit.metrics(0.0)
    assert (played.state, seen.calls, seen.failures, seen.failure_rate) == (
        OBSERVE_ONLY,
        6,
        5,
        5 / 6,
    )
    assert not played.told


@pytest.mark.parametrize("was", list(BreakerState))
@pytest.mark.parametrize("now", list(BreakerState))
def test_transitions_are_legal_or_refused(was: BreakerState, now: BreakerState) -> None:
    """Half open comes only after what refuses; everything else goes, and none to itself."""
    played = Played(was)
    generation = played.circuit.generation
    if now is HALF_OPEN and was not in {OPEN, FORCED_OPEN, HALF_OPEN}:
        with pytest.raises(TransitionError) as raised:
            played.circuit.to(now, 1.0)
        assert raised.value.args == ("crm", was, now)
        assert not played.told
        assert played.circuit.generation == generation
        return
    played.circuit.to(now, 1.0, why="forced")
    assert played.circuit.state is now
    assert len(played.told) == (was is not now)
    assert played.circuit.generation == generation + (was is not now)


def test_a_state_may_be_given_as_a_word() -> None:
    """A plain string from elsewhere means the same; a wrong one is an error."""
    played = Played()
    played.circuit.to("open", 0.0)  # type: ignore[arg-type] # as of JSON
    assert played.state is OPEN
    with pytest.raises(ValueError, match="shut"):
        played.circuit.to("shut", 0.0)  # type: ignore[arg-type]


def test_reset_forgets_everything() -> None:
    """Closed, nothing counted, the wait as at first; told, whatever it was before."""
    played = half_open(probes=1, open_growth=3.0)
    played.play("F")
    late = played.admit()
    played.circuit.reset(6.0, by="ada")
    assert (played.state, played.circuit.openings) == (CLOSED, 0)
    assert (played.told[-1].why, played.told[-1].by) == ("reset", "ada")
    played.end(late, "F")
    played.opened()
    assert played.told[-1].wait_s == 5.0
    fresh = Played()
    fresh.play("FF")
    fresh.circuit.reset(1.0)
    assert fresh.circuit.metrics(1.0).calls == 0
    assert [(one.was, one.now) for one in fresh.told] == [(CLOSED, CLOSED)]


def test_what_another_process_saw_is_taken_and_not_told() -> None:
    """Any state from any; an open one with the wait that is left there."""
    played = Played(open_s=5.0, open_max_s=60.0)
    late = played.admit()
    played.circuit.adopt(OPEN, 0.0, wait_s=2.0)
    assert played.circuit.retry_in_s(0.0) == 2.0
    played.end(late, "S")
    played.circuit.adopt(OPEN, 1.0, wait_s=9.0)
    assert played.circuit.retry_in_s(1.0) == 9.0
    played.circuit.adopt(OPEN, 1.0)
    assert played.circuit.retry_in_s(1.0) == 9.0
    played.circuit.adopt(OPEN, 1.0, wait_s=1e9)
    assert played.circuit.retry_in_s(1.0) == 60.0
    for garbage in (math.nan, -1.0):
        played.circuit.adopt(OPEN, 1.0, wait_s=garbage)
        assert played.circuit.retry_in_s(1.0) == 60.0
    for state in (CLOSED, HALF_OPEN, FORCED_OPEN, DISABLED, OBSERVE_ONLY):
        played.circuit.adopt(state, 1.0)
        assert played.circuit.state is state
    assert not played.told


def test_openings_elsewhere_are_not_ours() -> None:
    """Told often to stay away, it waits no longer after an opening of its own than was said."""
    played = Played(open_s=5.0, open_growth=2.0, open_max_s=600.0).opened()
    for now_s in range(10, 20):
        played.circuit.adopt(HALF_OPEN, now_s)
        played.circuit.adopt(OPEN, now_s, wait_s=1.0)
        assert played.circuit.retry_in_s(now_s) == 1.0
    assert played.circuit.openings == 1
    played.circuit.adopt(OPEN, 20.0, wait_s=30.0)
    played.circuit.adopt(HALF_OPEN, 50.0)
    played.circuit.to(OPEN, 50.0)
    assert (played.told[-1].wait_s, played.circuit.openings) == (60.0, 2)


def test_whoever_is_told_may_call_back() -> None:
    """A watcher that changes the state while it is told of a change is obeyed."""

    def disable(one: Transition) -> None:
        if one.now is HALF_OPEN:
            circuit.to(FORCED_OPEN, one.at_s)

    circuit = Circuit(BreakerPolicy(failures_max=1, open_s=1.0), 0.0, tell=disable)
    circuit.failed(circuit.admit(0.0), 0.0, 0.0)
    assert circuit.admit(2.0) == 0
    assert circuit.state is FORCED_OPEN
    assert circuit.in_flight == 0


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1e300, -1.0, 0.0])
@pytest.mark.parametrize("window", [{"window_s": 10.0}, {"window_calls": 10}])
@pytest.mark.parametrize("initial", list(BreakerState))
def test_no_time_breaks_it(bad: float, window: dict[str, Any], initial: BreakerState) -> None:
    """Whatever the clock says, nothing raises, and permits come back."""
    circuit = Circuit(BreakerPolicy(**window), 5.0, initial=initial)
    for now_s in (5.0, bad, 6.0, bad, 1e6):
        permit = circuit.admit(now_s)
        circuit.metrics(now_s)
        circuit.retry_in_s(now_s)
        circuit.ready_to_probe(now_s)
        if permit:
            circuit.failed(permit, now_s, bad)
    assert circuit.in_flight == 0


def test_no_duration_breaks_it() -> None:
    """What took no time, less, or nobody knows how much, counts as taking none."""
    circuit = Circuit(BreakerPolicy(), 0.0)
    for took_s in (math.nan, -1.0, 0.0, 1e300, math.inf):
        circuit.succeeded(circuit.admit(0.0), 0.0, took_s)
    seen = circuit.metrics(0.0)
    assert seen.p50_s == 0.0


def test_a_permit_that_was_never_given_changes_nothing() -> None:
    """What is given back too often never makes the calls in flight negative."""
    circuit = Circuit(BreakerPolicy(failures_max=1), 0.0)
    for permit in (0, -1, 99):
        circuit.failed(permit, 0.0, 0.0)
        circuit.succeeded(permit, 0.0, 0.0)
        circuit.released(permit)
    assert (circuit.in_flight, circuit.state) == (0, CLOSED)


# ------------------------------------------------------------------ size


@pytest.mark.parametrize(
    "policy",
    [
        DEFAULT_BREAKER,
        BreakerPolicy(window_calls=1_000, slow_s=1.5, slow_rate=0.5),
        BreakerPolicy(window_s=3_600.5, slow_s=1.5, slow_rate=0.5, open_growth=1.5),
    ],
)
def test_a_breaker_is_small(policy: BreakerPolicy) -> None:
    """At most 2 KB with everything in it, however much has happened."""
    circuit = Circuit(policy, 1e6 + 0.1, name="a service of some name")
    now_s = 1e6 + 0.1
    for number in range(50_000):
        now_s += 0.0137
        permit = circuit.admit(now_s)
        if number % 7 == 0:
            circuit.failed(permit, now_s, 1.7)
        else:
            circuit.succeeded(permit, now_s, 0.123)
    assert circuit.metrics(now_s).calls > 700
    assert size_bytes(circuit) <= 2_048

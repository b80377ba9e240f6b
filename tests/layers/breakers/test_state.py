"""What a circuit does, rule by rule."""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Callable
from enum import Enum
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import pytest

from undercroft.errors import TransitionError
from undercroft.layers.breakers.policy import DEFAULT_BREAKER, BreakerPolicy
from undercroft.layers.breakers.state import BreakerState, Circuit, Transition

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
FORCED_OPEN, DISABLED = BreakerState.FORCED_OPEN, BreakerState.DISABLED
OBSERVE_ONLY = BreakerState.OBSERVE_ONLY


class Played:
    """A circuit, its time, and what it told."""

    def __init__(self, initial: BreakerState = CLOSED, **policy: Any) -> None:
        self.now_s = 0.0
        self.told: list[Transition] = []
        self.circuit = Circuit(
            BreakerPolicy(**policy), 0.0, name="crm", tell=self.told.append, initial=initial
        )

    @property
    def state(self) -> BreakerState:
        """The state by now."""
        return self.circuit.state_at(self.now_s)

    @property
    def why(self) -> list[str]:
        """Why the transitions happened, in order."""
        return [one.why for one in self.told]

    def admit(self, *, probe: bool = True) -> int:
        """Ask for a permit."""
        return self.circuit.admit(self.now_s, probe=probe)

    def end(self, permit: int, how: str, took_s: float = 0.0) -> None:
        """End a call: success, failure, or released."""
        match how:
            case "S":
                self.circuit.succeeded(permit, self.now_s, took_s)
            case "F":
                self.circuit.failed(permit, self.now_s, took_s)
            case _:
                self.circuit.released(permit)

    def play(self, calls: str, took_s: float = 0.0) -> None:
        """Make calls one after the other: S, F, or R for released."""
        for how in calls:
            permit = self.admit()
            assert permit, f"refused at {self.now_s}"
            self.end(permit, how, took_s)

    def opened(self) -> Played:
        """Open it by failures."""
        while self.state is CLOSED:
            self.play("F")
        return self


# ------------------------------------------------------------------ windows and rates


def test_rate_is_undefined_before_there_are_enough_calls() -> None:
    """Window of 10, S S F F and two refusals: four are recorded, of which no rate is known."""
    half_open = Played(HALF_OPEN, window_calls=10, probes=6)
    permits = [half_open.admit() for _ in range(6)]
    assert [half_open.admit() for _ in range(2)] == [0, 0]
    for permit, how in zip(permits, "SSFF", strict=False):
        half_open.end(permit, how)
    seen = half_open.circuit.metrics(0.0)
    assert (seen.calls, seen.failures, seen.refused, seen.in_flight) == (4, 2, 2, 2)
    assert seen.failure_rate is None

    closed = Played(window_calls=10)
    closed.play("SSFF")
    seen = closed.circuit.metrics(0.0)
    assert (seen.calls, seen.failures, seen.failure_rate) == (4, 2, None)
    assert closed.state is CLOSED


def test_opens_on_the_call_that_makes_the_rate_known() -> None:
    """50 % over 20 s, at least 5 calls: F F F S S opens on the fifth, which is a success."""
    played = Played(failure_rate=0.5, window_s=20.0, calls_min=5)
    played.play("FFFS")
    assert played.state is CLOSED
    played.play("S")
    assert played.state is OPEN
    (one,) = played.told
    assert (one.was, one.now, one.why) == (CLOSED, OPEN, "failure_rate")
    assert (one.metrics.calls, one.metrics.failures, one.metrics.failure_rate) == (5, 3, 0.6)


def test_a_rate_opens_at_its_threshold_and_not_below() -> None:
    """49 of 100 stay closed at 50 %, 50 of 100 open; the division is exact at 7 %."""
    played = Played(failure_rate=0.5, window_calls=100, calls_min=100)
    played.play("S" * 51 + "F" * 49)
    assert played.state is CLOSED
    played.play("F")
    assert played.state is OPEN
    exact = Played(failure_rate=0.07, window_calls=100, calls_min=100)
    exact.play("F" * 7 + "S" * 93)
    assert exact.state is OPEN


def test_the_window_slides() -> None:
    """Failures that left the window do not count, in calls or in seconds."""
    by_count = Played(failure_rate=0.5, window_calls=4, calls_min=4)
    by_count.play("FSSSFSSSF")
    assert by_count.state is CLOSED
    by_time = Played(failure_rate=0.5, window_s=20.0, calls_min=4)
    by_time.play("FFF")
    by_time.now_s = 20.0
    by_time.play("FSS")
    assert by_time.circuit.metrics(20.0).failure_rate is None
    by_time.play("S")
    assert by_time.state is CLOSED
    assert by_time.circuit.metrics(20.0).failure_rate == 0.25
    assert by_time.circuit.metrics(40.0).calls == 0


def test_failures_in_a_row() -> None:
    """So many failures in a row open it; a success between begins anew, a release does not."""
    played = Played(failure_rate=None, failures_max=3)
    played.play("FFSFRF")
    assert played.state is CLOSED
    played.play("F")
    assert played.why == ["failures_in_a_row"]


def test_slow_calls_count_by_what_they_took() -> None:
    """Slower than `slow_s` is slow, as slow is not; a failed slow call counts as both."""
    played = Played(slow_s=1.0, slow_rate=0.5, window_calls=4, calls_min=4)
    played.play("SS", took_s=1.0)
    played.play("F", took_s=1.5)
    seen = played.circuit.metrics(0.0)
    assert (seen.failures, seen.slow, seen.slow_rate) == (1, 1, None)
    played.play("S", took_s=1.5)
    assert played.why == ["slow_rate"]
    assert played.told[0].metrics.slow_rate == 0.5


def test_a_call_longer_than_the_window_is_ignored() -> None:
    """A result of a call that began before the window says nothing, good or bad."""
    played = Played(failure_rate=0.5, window_s=10.0, calls_min=1, failures_max=1)
    old = [played.admit(), played.admit()]
    played.now_s = 11.0
    played.end(old[0], "F", took_s=11.0)
    played.end(old[1], "S", took_s=11.0)
    seen = played.circuit.metrics(11.0)
    assert (seen.calls, seen.in_a_row, seen.in_flight) == (0, 0, 0)
    assert played.state is CLOSED
    played.play("F", took_s=9.0)
    assert played.state is OPEN


def test_a_probe_counts_however_long_it_takes() -> None:
    """The window of time does not go on while half open."""
    played = Played(window_s=1.0, calls_min=1, open_s=1.0, probes=1, half_open_s=None).opened()
    played.now_s = 2.0
    permit = played.admit()
    played.now_s = 50.0
    played.end(permit, "S", took_s=48.0)
    assert played.state is CLOSED


# ------------------------------------------------------------------ open


def test_refuses_until_the_wait_is_over() -> None:
    """Wait of 5 s: refused at 0 and 3 s, admitted at 6 s, half open with everything at zero."""
    played = Played(failure_rate=0.5, window_calls=4, open_s=5.0).opened()
    assert not played.admit()
    assert played.circuit.retry_in_s(0.0) == 5.0
    assert Played().circuit.retry_in_s(0.0) == 0.0
    played.now_s = 3.0
    assert not played.admit()
    assert played.circuit.retry_in_s(3.0) == 2.0
    assert played.circuit.metrics(3.0).refused == 2
    played.now_s = 6.0
    assert played.circuit.ready_to_probe(6.0)
    assert played.state is OPEN, "never by itself"
    assert played.admit()
    assert played.state is HALF_OPEN
    seen = played.circuit.metrics(6.0)
    assert (seen.calls, seen.failures, seen.refused, seen.in_flight) == (0, 0, 0, 1)
    assert played.told[-1].metrics.refused == 2


def test_the_wait_grows_from_opening_to_opening() -> None:
    """5 s, then 7.5: after the second opening refused at +6, admitted at +11; closing resets."""
    played = Played(failures_max=1, open_s=5.0, open_growth=1.5, open_max_s=10.0, probes=1)
    played.play("F")
    played.now_s = 5.0
    played.play("F")
    assert (played.state, played.told[-1].wait_s, played.circuit.openings) == (OPEN, 7.5, 2)
    played.now_s = 11.0
    assert not played.admit()
    played.now_s = 16.0
    played.play("F")
    assert played.told[-1].wait_s == 10.0, "not 11.25: it is bounded"
    played.now_s = 26.0
    played.play("S")
    assert (played.state, played.circuit.openings) == (CLOSED, 0)
    played.play("F")
    assert played.told[-1].wait_s == 5.0


def test_no_growth_is_too_much() -> None:
    """A wait that would grow beyond all numbers is bounded as any other."""
    played = Played(failures_max=1, open_s=1.0, open_growth=1e300, open_max_s=2.0, probes=1)
    for _ in range(5):
        played.play("F")
        played.now_s += 2.0
    assert played.told[-1].wait_s == 2.0


# ------------------------------------------------------------------ half open


def half_open(**policy: Any) -> Played:
    """Return one that was opened and is asked for its first probe after 5 s."""
    played = Played(**{"failure_rate": 0.5, "window_calls": 4, "open_s": 5.0, **policy}).opened()
    played.now_s = 5.0
    return played


def test_as_many_probes_as_permitted() -> None:
    """Four permits: four admitted, two refused, one released, so one more is admitted."""
    played = half_open(probes=4)
    permits = [played.admit() for _ in range(6)]
    assert [bool(permit) for permit in permits] == [True] * 4 + [False] * 2
    assert played.circuit.retry_in_s(5.0) is None
    played.end(permits[0], "R")
    assert played.admit()
    assert not played.admit()
    assert played.circuit.in_flight == 4


def test_probes_decide_together() -> None:
    """Half open, F S S S at 50 % of 4 closes: nothing is decided before the last."""
    played = half_open(probes=4)
    permits = [played.admit() for _ in range(4)]
    for permit, how in zip(permits, "FSS", strict=False):
        played.end(permit, how)
        assert played.state is HALF_OPEN
    played.end(permits[3], "S")
    assert played.why == ["failure_rate", "wait_over", "probes_passed"]
    assert played.told[-1].metrics.failure_rate == 0.25


def test_probes_that_fail_open_again() -> None:
    """At the rate or above it opens, even if the last one was a success."""
    played = half_open(probes=4)
    played.play("FFSS")
    assert (played.state, played.why[-1]) == (OPEN, "probes_failed")


def test_slow_probes_open_again() -> None:
    """The slow rate holds for probes as well."""
    played = half_open(probes=2, slow_s=1.0, slow_rate=0.5)
    played.play("S", took_s=2.0)
    played.play("S")
    assert (played.state, played.why[-1]) == (OPEN, "probes_failed")


def test_without_a_rate_any_failed_probe_opens_again() -> None:
    """Failures in a row leave no share to judge probes by, so all must go well."""
    failed = half_open(failure_rate=None, failures_max=2, probes=3)
    failed.play("FSS")
    assert failed.state is OPEN
    passed = half_open(failure_rate=None, failures_max=2, probes=3)
    passed.play("SSS")
    assert passed.state is CLOSED


def test_an_ignored_error_returns_its_permit() -> None:
    """A probe that says nothing makes room for another."""
    played = half_open(probes=1)
    permit = played.admit()
    assert not played.admit()
    played.end(permit, "R")
    assert played.state is HALF_OPEN
    played.play("S")
    assert played.state is CLOSED


def test_half_open_has_its_time() -> None:
    """Limited to 1 s: open again since then, and its wait counts from then."""
    played = half_open(probes=2, half_open_s=1.0, open_growth=2.0)
    permit = played.admit()
    played.now_s = 5.9
    assert played.state is HALF_OPEN
    played.now_s = 9.0
    assert played.state is OPEN
    assert (played.told[-1].why, played.told[-1].at_s, played.told[-1].wait_s) == (
        "probes_late",
        6.0,
        10.0,
    )
    assert played.circuit.retry_in_s(9.0) == 7.0
    played.end(permit, "S")
    played.now_s = 15.9
    assert not played.admit()
    played.now_s = 16.0
    assert played.admit()


@pytest.mark.parametrize(
    "look",
    [
        lambda circuit: circuit.retry_in_s(7.0) == 4.0,
        lambda circuit: circuit.metrics(7.0).in_flight == 1,
        lambda circuit: not circuit.ready_to_probe(7.0),
        lambda circuit: circuit.reset(7.0) is None,
        lambda circuit: circuit.to(FORCED_OPEN, 7.0) is None,
        lambda circuit: circuit.admit(7.0, probe=False) == 0,
    ],
)
def test_whoever_looks_first_finds_it_open_again(look: Callable[[Circuit], bool]) -> None:
    """Half open ran out: told as the first thing, whatever is asked or wanted."""
    played = half_open(probes=1, half_open_s=1.0)
    assert played.admit()
    assert look(played.circuit)
    assert played.why[:3] == ["failure_rate", "wait_over", "probes_late"]
    assert played.told[2].at_s == 6.0


def test_two_transitions_at_once_are_told_as_two() -> None:
    """Half open ran out and the wait after it is over as well: each is told, in order."""
    played = half_open(probes=1, half_open_s=1.0)
    played.admit()
    played.now_s = 100.0
    assert played.admit()
    assert [(one.why, one.at_s) for one in played.told[1:]] == [
        ("wait_over", 5.0),
        ("probes_late", 6.0),
        ("wait_over", 100.0),
    ]


def test_a_late_probe_changes_nothing() -> None:
    """A probe that comes to its end after half open ran out is of an earlier generation."""
    played = half_open(probes=1, half_open_s=1.0)
    permit = played.admit()
    played.now_s = 6.0
    played.end(permit, "S")
    assert played.why[-1] == "probes_late"
    assert (played.state, played.circuit.in_flight) == (OPEN, 0)
    assert played.circuit.metrics(6.0).calls == 0


def test_without_a_limit_probes_take_as_long_as_they_take() -> None:
    """`half_open_s=None` never runs out."""
    played = half_open(probes=1, half_open_s=None)
    permit = played.admit()
    played.now_s = 1e9
    assert played.state is HALF_OPEN
    played.end(permit, "S")
    assert played.state is CLOSED


def test_a_write_is_never_a_probe() -> None:
    """`probe=False` is refused while open or half open, and moves nothing."""
    played = half_open(probes=2)
    assert not played.admit(probe=False)
    assert played.state is OPEN
    assert played.circuit.ready_to_probe(5.0)
    assert played.circuit.retry_in_s(5.0) is None
    assert played.admit()
    assert not played.admit(probe=False)
    assert played.admit(), "no permit was taken"
    assert played.why == ["failure_rate", "wait_over"]


# ------------------------------------------------------------------ generations


def test_late_success_never_closes() -> None:
    """A success that began before the opening counts neither while open nor as a probe."""
    played = Played(failures_max=1, open_s=5.0, probes=1)
    late = [played.admit(), played.admit()]
    played.play("F")
    played.end(late[0], "S")
    assert played.state is OPEN
    played.now_s = 5.0
    played.admit()
    played.end(late[1], "S")
    assert played.state is HALF_OPEN
    assert played.circuit.in_flight == 1


def test_late_failure_never_extends() -> None:
    """A failure that began before the opening neither prolongs it nor fails the probing."""
    played = Played(failures_max=1, open_s=5.0, probes=1)
    late = [played.admit(), played.admit(), played.admit()]
    played.play("F")
    played.now_s = 4.0
    played.end(late[0], "F")
    assert played.circuit.retry_in_s(4.0) == 1.0
    played.now_s = 5.0
    probe = played.admit()
    played.end(late[1], "F")
    assert played.state is HALF_OPEN
    played.end(probe, "S")
    played.end(late[2], "F")
    assert played.state is CLOSED


def test_a_late_release_frees_no_permit() -> None:
    """A call of an earlier generation that is cancelled makes no room for a probe."""
    played = Played(failures_max=1, open_s=5.0, probes=1)
    late = played.admit()
    played.play("F")
    played.now_s = 5.0
    assert played.admit()
    played.end(late, "R")
    assert not played.admit()


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


def size_bytes(root: object) -> int:
    """Return the bytes of everything that is reachable, but for code, settings and constants."""
    shared = (type, FunctionType, BuiltinFunctionType, ModuleType, Enum, BreakerPolicy)
    seen, todo, total = set[int](), [root], 0
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, shared):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        todo += gc.get_referents(one)
    return total


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

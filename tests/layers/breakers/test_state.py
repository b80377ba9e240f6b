"""What a circuit does, rule by rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.layers.breakers.played import CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, Played, half_open
from undercroft.layers.breakers.state import Circuit

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

"""How parallel a turn was: what is said of it follows from its steps, whatever they were."""

from __future__ import annotations

import itertools
import math
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.parallelism.report import report
from undercroft.model.step import StepStatus
from undercroft.model.trace import Decision, Parallelism, StepTrace, Wait

NOON_S = 1_800_000_000.0


def ran(
    n: int,
    began_s: float,
    took_s: float | None,
    *causes: int,
    waits: tuple[Wait, ...] = (),
    kind: str = "tool",
) -> StepTrace:
    """Return a step called `s.N` that began so long after noon."""
    return StepTrace(
        step_id=f"s.{n}",
        n=n,
        name="s",
        kind=kind,
        status=StepStatus.OK if took_s is not None else StepStatus.RUNNING,
        causes=tuple(f"s.{cause}" for cause in causes),
        attempts=1,
        began_at=NOON_S + began_s,
        took_s=took_s,
        waits=waits,
    )


def reported(*steps: StepTrace) -> Parallelism:
    """Return the report of steps of which at least one ran."""
    said = report(steps)
    assert said is not None
    return said


durations = st.floats(0.001, 1e4)


@st.composite
def turns(draw: st.DrawFn) -> list[StepTrace]:
    """Return steps that begin after their causes ended, and after what they waited for."""
    steps: list[StepTrace] = []
    ends: list[float] = []
    for n in range(1, draw(st.integers(1, 12)) + 1):
        earlier = st.integers(1, n - 1) if n > 1 else st.nothing()
        causes = draw(st.lists(earlier, max_size=3, unique=True)) if n > 1 else []
        waited = draw(st.lists(st.floats(0, 100), max_size=2))
        ready_s = max((ends[cause - 1] for cause in causes), default=0.0)
        began_s = ready_s + draw(st.floats(0, 50)) + sum(waited)
        took_s = draw(durations)
        waits = tuple(Wait(waited_s, "write k", "s.1") for waited_s in waited)
        steps.append(ran(n, began_s, took_s, *causes, waits=waits))
        ends.append(began_s + took_s)
    return steps


def chains(steps: list[StepTrace]) -> float:
    """Return the seconds of the longest chain, found by trying them all."""
    by_id = {step.step_id: step for step in steps}

    def upto(step: StepTrace) -> float:
        return (step.took_s or 0.0) + max((upto(by_id[c]) for c in step.causes), default=0.0)

    return max(upto(step) for step in steps)


def covered(steps: list[StepTrace]) -> float:
    """Return the seconds in which some step ran or waited, found moment by moment."""
    spans = [
        (step.began_at - sum(w.waited_s for w in step.waits), step.began_at + (step.took_s or 0))
        for step in steps
        if step.began_at is not None
    ]
    moments = sorted({moment for span in spans for moment in span})
    return sum(
        later - sooner
        for sooner, later in itertools.pairwise(moments)
        if any(start <= sooner and later <= end for start, end in spans)
    )


@given(turns())
def test_a_report_adds_up(steps: list[StepTrace]) -> None:
    """No turn is faster than its critical path, nor more parallel than it could have been."""
    said = reported(*steps)
    begins = [
        step.began_at - sum(w.waited_s for w in step.waits) for step in steps if step.began_at
    ]
    ends = [step.began_at + (step.took_s or 0) for step in steps if step.began_at]
    work_s = sum(step.took_s or 0 for step in steps)
    assert said.critical_s == pytest.approx(chains(steps))
    assert said.elapsed_s == pytest.approx(covered(steps), abs=1e-3)
    assert said.critical_s <= said.elapsed_s <= max(ends) - min(begins) + 1e-3
    assert said.work_s == pytest.approx(work_s)
    assert said.achieved * said.elapsed_s == pytest.approx(work_s)
    assert said.possible * said.critical_s == pytest.approx(work_s)
    assert said.achieved <= said.possible
    assert said.possible >= 1 - 1e-9
    assert said.lost_s == said.elapsed_s - said.critical_s >= 0


@given(turns())
def test_the_critical_path_is_a_chain_of_causes(steps: list[StepTrace]) -> None:
    """Each step of the critical path uses the one before, and together they took its time."""
    said = reported(*steps)
    by_id = {step.step_id: step for step in steps}
    path = [by_id[name] for name in said.critical_path]
    for first, second in itertools.pairwise(path):
        assert first.step_id in second.causes
    assert math.fsum(step.took_s or 0 for step in path) == pytest.approx(said.critical_s)


@given(turns(), st.randoms(use_true_random=False))
def test_the_order_of_the_steps_says_nothing(steps: list[StepTrace], dice: random.Random) -> None:
    """What is said follows from when steps ran, and not from the order in which they are listed."""
    shuffled = list(steps)
    dice.shuffle(shuffled)
    one, other = reported(*steps), reported(*shuffled)
    assert one.critical_s == other.critical_s
    assert one.elapsed_s == other.elapsed_s
    assert sorted(one.waits) == sorted(other.waits)


@given(st.lists(durations, min_size=1, max_size=20), st.floats(0, 100))
def test_one_after_another_is_parallelism_1(took: list[float], pause_s: float) -> None:
    """Steps that each use the one before achieve 1, lose nothing, and pauses do not count."""
    steps, at_s = [], 0.0
    for n, took_s in enumerate(took, start=1):
        steps.append(ran(n, at_s, took_s, *([n - 1] if n > 1 else [])))
        at_s += took_s + pause_s
    said = reported(*steps)
    assert said.achieved == pytest.approx(1, abs=1e-3)
    assert said.lost_s == pytest.approx(0, abs=1e-3)
    assert said.critical_path == tuple(step.step_id for step in steps)


@given(st.integers(1, 30), durations)
def test_side_by_side_is_as_many_as_there_are(count: int, took_s: float) -> None:
    """Steps that have nothing to do with each other achieve what is possible."""
    said = reported(*(ran(n, 0, took_s) for n in range(1, count + 1)))
    assert said.achieved == pytest.approx(count)
    assert said.possible == pytest.approx(count)
    assert said.lost_s == pytest.approx(0, abs=1e-9)


def test_what_conflicts_is_lost_and_says_by_which_claim() -> None:
    """Independent steps that had to wait for a claim lose that time, and the claim is named."""
    said = reported(
        ran(1, 0, 2.0),
        ran(2, 2, 2.0, waits=(Wait(2.0, "write crm/7", "s.1"),)),
        ran(3, 4, 2.0, waits=(Wait(2.0, "write crm/7", "s.1"), Wait(2.0, "write crm/7", "s.2"))),
        ran(4, 0.5, 0.5, waits=(Wait(0.5, "service crm", "s.1"),)),
    )
    assert (said.achieved, said.possible) == pytest.approx((6.5 / 6, 6.5 / 2))
    assert said.lost_s == pytest.approx(4)
    assert said.waits == (
        ("write crm/7", "s.2", "s.1", 2.0),
        ("write crm/7", "s.3", "s.1", 2.0),
        ("write crm/7", "s.3", "s.2", 2.0),
        ("service crm", "s.4", "s.1", 0.5),
    )


def test_the_same_wait_of_a_step_is_added_up() -> None:
    """A step that waited twice for the same has waited once, for longer."""
    twice = (Wait(1.0, "write k", "t-1"), Wait(0.5, "read j", "s.1"), Wait(2.0, "write k", "t-1"))
    said = reported(ran(1, 9, 1.0, waits=twice))
    assert said.waits == (("write k", "s.1", "t-1", 3.0), ("read j", "s.1", "s.1", 0.5))
    assert said.elapsed_s == pytest.approx(4.5)


def test_a_person_is_nobodys_work() -> None:
    """The days that somebody thinks it over are in no figure; what was done after them is."""
    gate = replace(
        ran(2, 1, 86_400.0, 1, kind="approval"),
        decisions=(Decision("approved", "person", "ada", NOON_S + 86_401),),
    )
    send = replace(ran(3, 86_401, 1.0, 2), decisions=gate.decisions)
    said = reported(ran(1, 0, 1.0), gate, send)
    assert said.critical_path == ("s.1", "s.2", "s.3")
    assert (said.critical_s, said.elapsed_s, said.work_s) == pytest.approx((2, 2, 2))
    assert report([gate]) is None


def test_what_the_journal_does_not_say_counts_for_nothing() -> None:
    """Steps that never began or never ended took no time; causes that are not there are none."""
    unborn = replace(
        ran(2, 0, None), began_at=None, attempts=0, waits=(Wait(3.0, "write k", "s.1"),)
    )
    refused = replace(ran(3, 0, 0.0), attempts=0, status=StepStatus.REFUSED)
    assert report([]) is None
    assert report([unborn, refused, ran(4, 0, None)]) is None
    said = reported(ran(1, 0, 1.0, 99), unborn, refused, ran(4, 1, None, 1, 2))
    assert said.critical_path == ("s.1",)
    assert (said.work_s, said.elapsed_s, said.lost_s) == pytest.approx((1, 1, 0))
    assert said.waits == (("write k", "s.2", "s.1", 3.0),)


def test_a_turn_that_took_no_time_is_no_division_by_zero() -> None:
    """On virtual time steps may take nothing: that is one at a time, and nothing lost."""
    said = reported(ran(1, 0, 0.0), ran(2, 0, 0.0, 1))
    assert (said.achieved, said.possible, said.lost_s) == (1.0, 1.0, 0.0)
    assert said.critical_path == ()


def test_clocks_that_disagree_make_no_turn_faster_than_its_critical_path() -> None:
    """Where the wall clock was set back the figures stay in order."""
    said = reported(ran(1, 0, 10.0), ran(2, -3600, 5.0, 1), ran(3, 2, 5.0, 2))
    assert said.critical_s == 20.0
    assert said.elapsed_s == 20.0
    assert said.achieved <= said.possible


def test_a_circle_in_a_damaged_record_ends() -> None:
    """Steps that use each other are no chain; the rest is reported all the same."""
    said = reported(ran(1, 0, 1.0, 2), ran(2, 0, 1.0, 1), ran(3, 0, 3.0, 3), ran(4, 0, 0.5))
    assert said.critical_path == ("s.4",)
    assert said.work_s == 5.5


def test_time_grows_as_the_steps_do() -> None:
    """A record of 100,000 steps and as many causes is read in a moment, a long chain included."""
    steps = [ran(n, n * 0.01, 0.01, *([n - 1] if n > 1 else [])) for n in range(1, 50_001)]
    wide = [ran(n, 0, 0.01, 1) for n in range(50_001, 100_001)]
    began_s = time.perf_counter()
    said = reported(*steps, *wide)
    assert time.perf_counter() - began_s < 5
    assert len(said.critical_path) == 50_000

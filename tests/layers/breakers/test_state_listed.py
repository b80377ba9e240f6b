"""The circuit decides as a list of all its calls, searched anew each time, would have it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from undercroft.errors import TransitionError
from undercroft.layers.breakers.policy import BreakerPolicy
from undercroft.layers.breakers.state import BreakerState, Circuit, Transition

CLOSED, HALF_OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN


@dataclass
class Call:
    """What the list knows of a call that was let through."""

    permit: int
    generation: int
    began: float


@dataclass
class Told:
    """What is expected to be told."""

    was: str
    now: str
    why: str
    at: float
    wait: float


@dataclass
class Listed:
    """A breaker written as a list of what ended in the present state, searched each time."""

    policy: BreakerPolicy
    state: str = "closed"
    since: float = 0.0
    generation: int = 1
    openings: int = 0
    refused: int = 0
    ended: list[tuple[float, bool, bool]] = field(default_factory=list)
    given: int = 0
    out: int = 0
    told: list[Told] = field(default_factory=list)

    def wait(self) -> float:
        """How long the present opening lasts."""
        grown = self.policy.open_s * self.policy.open_growth ** (self.openings - 1)
        return min(grown, self.policy.open_max_s)

    def go(self, state: str, at: float, why: str, *, tell: bool = True) -> None:
        """Begin another state."""
        was = self.state
        self.state, self.since, self.generation = state, at, self.generation + 1
        self.ended, self.refused, self.given = [], 0, 0
        if state == "open":
            self.openings += 1
        if state == "closed":
            self.openings = 0
        wait = self.wait() if state == "open" else 0.0
        if tell:
            self.told.append(Told(was, state, why, at, wait))

    def by(self, now: float) -> str:
        """The state by now."""
        limit = self.policy.half_open_s
        if self.state == "half_open" and limit is not None and now >= self.since + limit:
            self.go("open", self.since + limit, "probes_late")
        return self.state

    def ready(self, now: float) -> bool:
        """Whether a probe may begin."""
        return self.by(now) == "open" and now - self.since >= self.wait()

    def retry(self, now: float) -> float | None:
        """How long whoever is refused has to wait, if that is known."""
        state = self.by(now)
        if state == "open" and now < self.since + self.wait():
            return self.since + self.wait() - now
        return 0.0 if state in {"closed", "disabled", "observe_only"} else None

    def admit(self, now: float, *, probe: bool) -> bool:
        """Whether a call may start."""
        if probe and self.ready(now):
            self.go("half_open", now, "wait_over")
        state = self.by(now)
        if state in {"closed", "disabled", "observe_only"}:
            return True
        if state == "half_open" and probe and self.given < self.policy.probes:
            self.given += 1
            return True
        self.refused += 1
        return False

    def window(self, now: float) -> list[tuple[float, bool, bool]]:
        """What counts by now."""
        if self.state == "half_open":
            return self.ended
        if self.policy.window_s is None:
            return self.ended[-(self.policy.window_calls or 0) :]
        return [one for one in self.ended if now - one[0] < self.policy.window_s]

    def rates(self, now: float) -> tuple[float | None, float | None]:
        """Share of failures, and of slow calls."""
        window = self.window(now)
        least = self.policy.probes if self.state == "half_open" else self.policy.calls_min or 0
        if len(window) < least or self.state not in {"closed", "half_open", "observe_only"}:
            return None, None
        failures, slow = (sum(one[at] for one in window) for at in (1, 2))
        return failures / len(window), slow / len(window)

    def in_a_row(self) -> int:
        """Failures since the last success."""
        count = 0
        while count < len(self.ended) and self.ended[-1 - count][1]:
            count += 1
        return count

    def end(self, call: Call, now: float, *, failed: bool) -> None:
        """A call came to its end."""
        state = self.by(now)
        took, span = now - call.began, self.policy.window_s
        if call.generation != self.generation or state == "disabled":
            return
        if state != "half_open" and span is not None and took >= span:
            return
        slow = self.policy.slow_s is not None and took > self.policy.slow_s
        self.ended.append((now, failed, slow))
        failing, slowing = self.rates(now)
        why = ""
        if failing is not None and failing >= (self.policy.failure_rate or 2):
            why = "failure_rate"
        elif slowing is not None and slowing >= (self.policy.slow_rate or 2):
            why = "slow_rate"
        elif state == "closed" and self.in_a_row() >= (self.policy.failures_max or math.inf):
            why = "failures_in_a_row"
        strict = self.policy.failure_rate is None and self.policy.failures_max is not None
        if state == "closed" and why:
            self.go("open", now, why)
        elif state == "half_open" and len(self.ended) == self.policy.probes:
            if why or (strict and any(one[1] for one in self.ended)):
                self.go("open", now, "probes_failed")
            else:
                self.go("closed", now, "probes_passed")


policies = st.builds(
    BreakerPolicy,
    failure_rate=st.sampled_from([None, 0.25, 0.5, 1.0]),
    failures_max=st.sampled_from([None, 1, 2, 4]),
    calls_min=st.integers(1, 3),
    open_s=st.sampled_from([1.0, 4.0]),
    open_growth=st.sampled_from([1.0, 1.5, 2.0]),
    open_max_s=st.sampled_from([4.0, 20.0]),
    probes=st.integers(1, 4),
    half_open_s=st.sampled_from([None, 1.0, 8.0]),
).flatmap(
    # Times are whole seconds, and so are the buckets of a window of 64 s: then it is exact.
    lambda policy: st.tuples(
        st.sampled_from([(64.0, None), (None, 3), (None, 8)]),
        st.sampled_from([(None, None), (2.0, 0.5), (0.5, 1.0)]),
    ).map(lambda drawn: varied(policy, *drawn))
)


def varied(
    policy: BreakerPolicy,
    window: tuple[float | None, int | None],
    slow: tuple[float | None, float | None],
) -> BreakerPolicy:
    """Return the policy with this window and these slow calls."""
    names = ("failure_rate", "failures_max", "calls_min", "open_s", "open_growth", "open_max_s")
    kept = {name: getattr(policy, name) for name in (*names, "probes", "half_open_s")}
    return BreakerPolicy(
        **kept, window_s=window[0], window_calls=window[1], slow_s=slow[0], slow_rate=slow[1]
    )


steps = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 5, 30, 63, 64, 200])


class BesideAList(RuleBasedStateMachine):
    """The circuit beside the list, through any calls, in any order, at any times."""

    @initialize(policy=policies)
    def begin(self, policy: BreakerPolicy) -> None:
        """Begin with a policy."""
        self.now = 0.0
        self.told: list[Transition] = []
        self.circuit = Circuit(policy, 0.0, tell=self.told.append)
        self.listed = Listed(policy)
        self.calls: list[Call] = []

    @rule(step=steps, first=st.sampled_from(["", "metrics", "retry", "ready"]))
    def time_passes(self, step: int, first: str) -> None:
        """Nothing happens by itself, whoever looks first."""
        self.now += step
        if first == "metrics":
            seen = self.circuit.metrics(self.now)
            self.listed.by(self.now)
            assert seen.calls == len(self.listed.window(self.now))
        elif first == "retry":
            assert self.circuit.retry_in_s(self.now) == self.listed.retry(self.now)
        elif first == "ready":
            assert self.circuit.ready_to_probe(self.now) == self.listed.ready(self.now)

    @rule(step=steps, probe=st.booleans(), count=st.integers(1, 6))
    def ask(self, step: int, probe: bool, count: int) -> None:  # noqa: FBT001
        """Some calls want to start."""
        self.now += step
        for _ in range(count):
            admitted = self.listed.admit(self.now, probe=probe)
            permit = self.circuit.admit(self.now, probe=probe)
            assert bool(permit) == admitted
            if permit:
                self.calls.append(Call(permit, self.listed.generation, self.now))

    @rule(step=steps, which=st.integers(0, 100), failed=st.booleans(), count=st.integers(1, 6))
    def end(self, step: int, which: int, failed: bool, count: int) -> None:  # noqa: FBT001
        """Some of the calls that are out end, well or not, in any order."""
        self.now += step
        for _ in range(min(count, len(self.calls))):
            call = self.calls.pop(which % len(self.calls))
            self.listed.end(call, self.now, failed=failed)
            end = self.circuit.failed if failed else self.circuit.succeeded
            end(call.permit, self.now, self.now - call.began)

    @rule(which=st.integers(0, 100))
    def release(self, which: int) -> None:
        """A call is cancelled; that asks no clock."""
        if not self.calls:
            return
        call = self.calls.pop(which % len(self.calls))
        self.circuit.released(call.permit)
        if call.generation == self.listed.generation and self.listed.state == "half_open":
            self.listed.given -= 1

    @rule(step=steps, ended=st.lists(st.booleans(), min_size=1, max_size=12))
    def use(self, step: int, ended: list[bool]) -> None:
        """Calls one after the other, as long as they are let through."""
        self.now += step
        for failed in ended:
            self.ask(0, probe=True, count=1)
            if not self.calls or self.calls[-1].began != self.now:
                return
            call = self.calls.pop()
            self.listed.end(call, self.now, failed=failed)
            (self.circuit.failed if failed else self.circuit.succeeded)(call.permit, self.now, 0.0)

    @rule(
        step=steps,
        # Seldom, or nothing would ever come of the calls between.
        how=st.sampled_from([*[""] * 9, "to", "reset", "adopt"]),
        state=st.sampled_from(BreakerState),
    )
    def by_hand(self, step: int, how: str, state: BreakerState) -> None:
        """Somebody wants another state, or another process has one."""
        self.now += step
        was = self.listed.by(self.now) if how else ""
        if how == "to" and state is HALF_OPEN and was in {"closed", "disabled", "observe_only"}:
            with pytest.raises(TransitionError):
                self.circuit.to(state, self.now)
        elif how == "reset":
            self.listed.go("closed", self.now, "reset")
            self.circuit.reset(self.now)
        elif how:
            if state != was:
                self.listed.go(str(state), self.now, "forced", tell=how == "to")
            go = self.circuit.to if how == "to" else self.circuit.adopt
            go(state, self.now)

    @invariant()
    def same(self) -> None:
        """Both say the same of everything."""
        listed, circuit = self.listed, self.circuit
        assert circuit.state_at(self.now) == listed.by(self.now)
        seen, window = circuit.metrics(self.now), listed.window(self.now)
        failures, slow = (sum(one[at] for one in window) for at in (1, 2))
        assert (seen.calls, seen.failures, seen.slow) == (len(window), failures, slow)
        failing, slowing = listed.rates(self.now)
        assert seen.failure_rate == failing
        assert seen.slow_rate == (None if listed.policy.slow_rate is None else slowing)
        assert (seen.refused, seen.in_a_row) == (listed.refused, listed.in_a_row())
        assert seen.in_flight == circuit.in_flight == len(self.calls)
        assert (circuit.generation, circuit.openings) == (listed.generation, listed.openings)
        assert circuit.since_s == listed.since
        assert circuit.ready_to_probe(self.now) == listed.ready(self.now)
        told = [Told(one.was, one.now, one.why, one.at_s, one.wait_s) for one in self.told]
        assert told == listed.told

    @invariant()
    def bounded(self) -> None:
        """Never more probes out than permitted."""
        if self.circuit.state is HALF_OPEN:
            now = [c for c in self.calls if c.generation == self.listed.generation]
            assert len(now) + self.circuit.metrics(self.now).calls <= self.listed.policy.probes


TestBesideAList = BesideAList.TestCase
TestBesideAList.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


@given(
    st.lists(
        st.tuples(st.sampled_from("ASFRT"), st.integers(0, 7), st.floats(-1, 20, allow_nan=False)),
        max_size=80,
    ),
    st.integers(1, 3),
)
def test_what_always_holds(steps: list[tuple[str, int, float]], probes: int) -> None:
    """However time jumps: probes are limited, nothing is negative, each transition is told once."""
    told: list[Transition] = []
    policy = BreakerPolicy(
        failures_max=2, window_s=7.3, open_s=3.1, probes=probes, half_open_s=5.7, calls_min=2
    )
    circuit, now_s, out = Circuit(policy, 0.0, tell=told.append), 0.0, list[tuple[int, int]]()
    ends: dict[str, Callable[[int], None]] = {
        "S": lambda permit: circuit.succeeded(permit, now_s, 1.0),
        "F": lambda permit: circuit.failed(permit, now_s, 1.0),
        "R": circuit.released,
    }
    for what, which, step_s in steps:
        if what == "T":
            now_s += step_s
        elif what == "A":
            permit = circuit.admit(now_s)
            if permit:
                out.append((permit, circuit.generation))
        elif out:
            permit, generation = out.pop(which % len(out))
            circuit.state_at(now_s)
            was = (circuit.generation, circuit.state, circuit.metrics(now_s).calls)
            ends[what](permit)
            if generation != was[0]:
                assert (circuit.generation, circuit.state, circuit.metrics(now_s).calls) == was
        assert circuit.in_flight == len(out)
        if circuit.state is HALF_OPEN:
            assert sum(g == circuit.generation for _, g in out) <= probes
        assert [one.generation for one in told] == list(range(2, circuit.generation + 1))
        states = [CLOSED, *(one.now for one in told)]
        assert states[:-1] == [one.was for one in told]
        assert states[-1] is circuit.state

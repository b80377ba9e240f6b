"""Circuit breaker: stop calling what keeps failing, and find out when it is well again.

Keeps: no call starts while the circuit is open; no more calls than permitted start while it is
half open; what a call says that started before the last transition changes nothing.
Leaves to the engine: the clock, what a call is, what counts as a failure, whom to tell.
Source: Nygard, "Release It!", 2nd ed., ch. 5; the half-open rules are those of resilience4j.

    closed      calls pass and are counted; opens by share of failures or of slow calls, or
                by failures in a row
    open        calls are refused until the wait is over; the next one after it is a probe
    half_open   so many probes pass, the others are refused; once all came to their end they
                decide together. Where they do not in time, it was open again since then
    forced_open, disabled, observe_only
                by somebody's hand: none pass; all pass, uncounted; all pass, counted

From any state to any other, but for two rules: half open comes only after open or forced open,
since a state in which calls pass has nothing to probe; and nobody goes from a state to itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from undercroft.errors import TransitionError
from undercroft.layers.breakers.policy import BreakerPolicy
from undercroft.layers.breakers.suspect import Suspicion
from undercroft.layers.breakers.window import FAILED, OK, SLOW, CountWindow, Window, window_of


class BreakerState(StrEnum):
    """What a circuit does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    OBSERVE_ONLY = "observe_only"


# Looked up once: reading a member of an enum takes longer than the rest of a refusal.
_CLOSED, _OPEN, _HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
_FORCED_OPEN, _DISABLED = BreakerState.FORCED_OPEN, BreakerState.DISABLED
_OBSERVE_ONLY = BreakerState.OBSERVE_ONLY
_PROBED_AFTER = (_OPEN, _FORCED_OPEN)
_COUNTED = (_CLOSED, _HALF_OPEN, _OBSERVE_ONLY)
_PASSED = (_CLOSED, _DISABLED, _OBSERVE_ONLY)
_EVER, _NEVER = -math.inf, math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What is known of the calls since the last transition.

    Attributes:
        calls: Ended, within the window; when half open, the probes that came to their end.
        failures: Of them.
        slow: Of them; a failure may be slow as well.
        failure_rate: None before there are enough calls to tell.
        slow_rate: Likewise.
        refused: Calls that were not let through.
        in_flight: Calls let through that have not come to their end, earlier ones included.
        in_a_row: Failures since the last success.
        p50_s: Half of the last 128 calls took at most so long; None if there were none.
        p99_s: Likewise 99 of 100.
        suspect: Whether failures come faster than on a good day.
    """

    calls: int
    failures: int
    slow: int
    failure_rate: float | None
    slow_rate: float | None
    refused: int
    in_flight: int
    in_a_row: int
    p50_s: float | None
    p99_s: float | None
    suspect: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One change of state.

    Attributes:
        was: The state that ended.
        now: The one that began.
        why: `failure_rate`, `slow_rate` or `failures_in_a_row`; `wait_over`; `probes_passed`,
            `probes_failed` or `probes_late`; `forced`, `reset`, or what the caller said.
        at_s: When it happened, in monotonic time; may be earlier than when it is told.
        generation: That began.
        metrics: Of the state that ended.
        by: Who did it; empty where nobody did.
        wait_s: Of an opening: until the next probe.
    """

    was: BreakerState
    now: BreakerState
    why: str
    at_s: float
    generation: int
    metrics: Metrics
    by: str = ""
    wait_s: float = 0.0


class Circuit:
    """The breaker of one service.

    Whoever is admitted gets a permit and gives it back exactly once, with `succeeded`, `failed`
    or `released`. Times are monotonic; one that goes back counts for less, and breaks nothing.

    Attributes:
        state: As of the last call; `state_at` says what it is by now.
        generation: Number of states so far.
        since_s: When the state began.
        in_flight: Permits that are out.
        refused: Calls refused since then.
        openings: In a row, without a closing between.

    Args:
        policy: When to open, and for how long.
        now_s: Monotonic time.
        name: Of the service, for errors.
        tell: Called once for each transition, after it. It may call back.
        initial: The state to begin with.
    """

    __slots__ = (
        "_calm_s",
        "_counted",
        "_in_a_row",
        "_over_s",
        "_passed",
        "_policy",
        "_probes_left",
        "_shut_until_s",
        "_slow_s",
        "_suspicion",
        "_tell",
        "_wait_s",
        "_window",
        "generation",
        "in_flight",
        "name",
        "openings",
        "refused",
        "since_s",
        "state",
    )

    state: BreakerState
    since_s: float
    refused: int
    _window: Window
    _passed: int
    _counted: int
    _probes_left: int
    _in_a_row: int
    _calm_s: float
    _shut_until_s: float
    _over_s: float

    def __init__(
        self,
        policy: BreakerPolicy,
        now_s: float,
        *,
        name: str = "",
        tell: Callable[[Transition], None] | None = None,
        initial: BreakerState = _CLOSED,
    ) -> None:
        self.name, self._policy, self._tell = name, policy, tell
        self._slow_s = _NEVER if policy.slow_s is None else policy.slow_s
        self._suspicion = Suspicion()
        self.generation = self.in_flight = self.openings = 0
        self._wait_s = 0.0
        self._begin(BreakerState(initial), now_s)

    @property
    def policy(self) -> BreakerPolicy:
        """When it opens, and for how long."""
        return self._policy

    @property
    def suspect(self) -> bool:
        """Whether failures come faster than on a good day; opens nothing by itself."""
        return self._suspicion.marked

    # ------------------------------------------------------------------ calls

    def admit(self, now_s: float, *, probe: bool = True) -> int:
        """Return a permit for a call that may start now, or 0 if it must not.

        Args:
            now_s: Monotonic time.
            probe: Whether the call may be one that finds out: not a write that would happen
                twice if it were repeated.
        """
        permit = self._passed
        if permit:
            self.in_flight += 1
            return permit
        if now_s < self._shut_until_s:
            self.refused += 1
            return 0
        return self._admit_probe(now_s, probe=probe)

    def _admit_probe(self, now_s: float, *, probe: bool) -> int:
        if self.ready_to_probe(now_s) and probe:
            self._turn(_HALF_OPEN, now_s, "wait_over")
        # Whoever was told may have changed the state, so nothing is taken for granted.
        if self._passed or (probe and self._probes_left):
            if not self._passed:
                self._probes_left -= 1
            self.in_flight += 1
            return self._passed or self.generation
        self.refused += 1
        return 0

    def retry_in_s(self, now_s: float) -> float | None:
        """Return how long a call that was refused now should wait.

        None if nobody knows: forced open, all probes out, or the wait is over and whoever asks
        must not be a probe.
        """
        self.state_at(now_s)
        if self._passed:
            return 0.0
        left_s = self._shut_until_s - now_s
        return left_s if 0 < left_s < _NEVER else None

    def ready_to_probe(self, now_s: float) -> bool:
        """Whether it is open and its wait is over: the next call may be a probe."""
        return self.state_at(now_s) is _OPEN and now_s >= self._shut_until_s

    def state_at(self, now_s: float) -> BreakerState:
        """Return the state by now: probes that are late have opened the circuit."""
        if self.state is _HALF_OPEN and now_s >= self._over_s:
            self._turn(_OPEN, self._over_s, "probes_late")
        return self.state

    def succeeded(self, permit: int, now_s: float, took_s: float) -> None:
        """Take back the permit of a call that went well, if perhaps slowly.

        Args:
            permit: As `admit` returned it.
            now_s: Monotonic time.
            took_s: How long the call took.
        """
        if self.in_flight:
            self.in_flight -= 1
        if permit == self._counted:
            if 0.0 <= took_s < self._calm_s:
                self._window.add(OK, now_s, took_s)
            else:
                self._count(SLOW if took_s > self._slow_s else OK, now_s, took_s)

    def failed(self, permit: int, now_s: float, took_s: float) -> None:
        """Take back the permit of a call that failed; arguments as for `succeeded`."""
        if self.in_flight:
            self.in_flight -= 1
        if permit == self._counted:
            self._count(FAILED | SLOW if took_s > self._slow_s else FAILED, now_s, took_s)

    def released(self, permit: int) -> None:
        """Take back the permit of a call that says nothing: cancelled, or to be ignored."""
        if self.in_flight:
            self.in_flight -= 1
        if permit == self._counted and self.state is _HALF_OPEN:
            self._probes_left += 1

    def _count(self, outcome: int, now_s: float, took_s: float) -> None:
        window = self._window
        if took_s >= window.span_s or now_s >= self._over_s:
            # It began before the window, or ended after half open did.
            self.state_at(now_s)
            return
        window.add(outcome, now_s, took_s if took_s > 0 else 0.0)
        if outcome & FAILED:
            self._in_a_row += 1
            self._suspicion.failed()
        else:
            self._in_a_row = 0
            if self._suspicion.sum:
                self._suspicion.succeeded()
        if self.state is _HALF_OPEN:
            if window.calls >= window.calls_min:
                self._decide(now_s)
        elif window.failures or window.slow:
            self._calm_s = _EVER
            why = self._why_open() if self.state is _CLOSED else ""
            if why:
                self._turn(_OPEN, now_s, why)
        elif not self._suspicion.sum:
            self._calm_s = min(self._slow_s, window.span_s)

    def _why_open(self) -> str:
        """Return what speaks for opening, if anything does."""
        policy, window = self._policy, self._window
        calls = window.calls
        if calls >= window.calls_min:
            # Divided, not multiplied: 7 of 100 is exactly 0.07, but 100 times that is above 7.
            if policy.failure_rate is not None and window.failures / calls >= policy.failure_rate:
                return "failure_rate"
            if policy.slow_rate is not None and window.slow / calls >= policy.slow_rate:
                return "slow_rate"
        if policy.failures_max is not None and self._in_a_row >= policy.failures_max:
            return "failures_in_a_row"
        return ""

    def _decide(self, now_s: float) -> None:
        """Close or open, now that all probes came to their end."""
        policy = self._policy
        if policy.failure_rate is None and policy.failures_max is not None:
            # Without a rate there is none to judge few calls by, so all of them must go well.
            failed = self._window.failures > 0 or self._why_open() == "slow_rate"
        else:
            failed = self._why_open() in ("failure_rate", "slow_rate")
        if failed:
            self._turn(_OPEN, now_s, "probes_failed")
        else:
            self._turn(_CLOSED, now_s, "probes_passed")

    # ------------------------------------------------------------------ states

    def to(self, state: BreakerState, now_s: float, *, why: str = "forced", by: str = "") -> None:
        """Go to `state`; nothing happens in it already.

        Args:
            state: The one to go to.
            now_s: Monotonic time.
            why: For the transition.
            by: Who wants it.

        Raises:
            TransitionError: It is `HALF_OPEN`, and calls pass now.
        """
        was, state = self.state_at(now_s), BreakerState(state)
        if state is was:
            return
        if state is _HALF_OPEN and was not in _PROBED_AFTER:
            raise TransitionError(self.name, was, state)
        self._turn(state, now_s, why, by=by)

    def reset(self, now_s: float, *, by: str = "") -> None:
        """Begin anew: closed, nothing counted, the wait as short as at first.

        Told even where it was closed already: what was known is gone, and somebody did it.
        """
        self.state_at(now_s)
        self._turn(_CLOSED, now_s, "reset", by=by)

    def adopt(self, state: BreakerState, now_s: float, *, wait_s: float | None = None) -> None:
        """Go to the state in which another process says that the service is; `tell` is not called.

        Any state is taken from any. Where it is open already, its wait begins anew if one is
        given.

        Args:
            state: The one to go to.
            now_s: Monotonic time, of this process.
            wait_s: Of an open one, until the next probe; then it is no opening of ours, and what
                we wait after the next one grows from the longest known. None: as if it had
                opened here.
        """
        state, was = BreakerState(state), self.state_at(now_s)
        openings, grown_s = self.openings, self._wait_s
        if state is not was:
            self._turn(state, now_s, "", told=False)
        if state is _OPEN and wait_s is not None and wait_s >= 0:
            wait_s = min(wait_s, self._policy.open_max_s)
            self._shut_until_s = now_s + wait_s
            self.openings, self._wait_s = max(openings, 1), max(grown_s, wait_s)

    def metrics(self, now_s: float) -> Metrics:
        """Return what is known by now of the calls since the last transition."""
        self.state_at(now_s)
        return self._measured(now_s)

    def samples(self) -> list[float]:
        """Return how many seconds the last calls took, at most 128, of this state."""
        return self._window.samples()

    def _measured(self, now_s: float) -> Metrics:
        window = self._window
        window.forget(now_s)
        p50_s, p99_s = window.took_s(0.5, 0.99)
        return Metrics(
            calls=window.calls,
            failures=window.failures,
            slow=window.slow,
            failure_rate=window.failure_rate,
            slow_rate=window.slow_rate if self._policy.slow_rate is not None else None,
            refused=self.refused,
            in_flight=self.in_flight,
            in_a_row=self._in_a_row,
            p50_s=p50_s,
            p99_s=p99_s,
            suspect=self._suspicion.marked,
        )

    def _turn(
        self, state: BreakerState, at_s: float, why: str, *, by: str = "", told: bool = True
    ) -> None:
        """End the state that is, and begin `state`."""
        was, tell = self.state, self._tell if told else None
        metrics = self._measured(at_s) if tell else None
        self._begin(state, at_s)
        if tell and metrics:
            wait_s = self._wait_s if state is _OPEN else 0.0
            tell(
                Transition(
                    was=was,
                    now=state,
                    why=why,
                    at_s=at_s,
                    generation=self.generation,
                    metrics=metrics,
                    by=by,
                    wait_s=wait_s,
                )
            )

    def _begin(self, state: BreakerState, at_s: float) -> None:
        policy = self._policy
        self.state, self.since_s = state, at_s
        self.generation += 1
        self.refused = self._in_a_row = self._probes_left = 0
        self._suspicion.clear()
        # The permit that everybody gets, and the one whose calls count; 0 where there is none.
        self._passed = self.generation if state in _PASSED else 0
        self._counted = self.generation if state in _COUNTED else 0
        # Until when everybody is refused, and until when probes may take.
        self._shut_until_s = _NEVER if state is _FORCED_OPEN else _EVER
        self._over_s = _NEVER
        if state is _OPEN:
            self.openings += 1
            self._wait_s = min(
                policy.open_max_s, max(policy.open_s, self._wait_s * policy.open_growth)
            )
            self._shut_until_s = at_s + self._wait_s
        elif state is _HALF_OPEN:
            self._probes_left = policy.probes
            if policy.half_open_s is not None:
                self._over_s = at_s + policy.half_open_s
        elif state is _CLOSED:
            self.openings, self._wait_s = 0, 0.0
        if state in _PASSED:
            self._window = window_of(policy, at_s)
        else:
            self._window = CountWindow(policy.probes, policy.probes)
        # Nothing but counting follows from a success that took less.
        self._calm_s = _EVER if state is _HALF_OPEN else min(self._slow_s, self._window.span_s)

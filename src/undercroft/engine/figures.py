"""What a process tells others of a service: its live figures, and its transitions."""

from __future__ import annotations

from typing import Protocol

from undercroft.layers.breakers.board import Gauge, LastError, storable
from undercroft.layers.breakers.state import BreakerState, Circuit, Transition
from undercroft.model.circuit import CircuitChanged


class Limited(Protocol):
    """What limits calls in flight."""

    @property
    def limit(self) -> int | None:
        """Calls that may be in flight; None: as many as there are."""


class Watched(Protocol):
    """A service as this process calls it."""

    @property
    def circuit(self) -> Circuit:
        """Its breaker, which tells its transitions to `Sharing.tell`."""

    @property
    def limit(self) -> Limited:
        """Its limit of calls in flight."""

    @property
    def attempts(self) -> int:
        """Wire attempts so far."""

    @property
    def retries(self) -> int:
        """Of these, those after the first of a call."""

    @property
    def usd_nano(self) -> int | None:
        """Spent, in billionths of a dollar; None: nothing here has a price."""

    @property
    def last_error(self) -> LastError | None:
        """The last error that says something about the service."""


def figures(name: str, gate: Watched, now_s: float, since_at: float) -> Gauge:
    """Return how a service stands now, and since `since_at` of the wall clock."""
    circuit = gate.circuit
    metrics, state, policy = circuit.metrics(now_s), circuit.state, circuit.policy
    window = f"last {policy.window_calls} calls"
    if state is BreakerState.HALF_OPEN:
        window = "1 probe" if policy.probes == 1 else f"{policy.probes} probes"
    elif policy.window_s is not None:
        window = f"last {policy.window_s:g} s"
    wait_s = None
    if state is BreakerState.OPEN:
        wait_s = circuit.retry_in_s(now_s) or 0.0
    return Gauge(
        service=name,
        state=str(state),
        since_at=since_at,
        window=window,
        calls=metrics.calls,
        failures=metrics.failures,
        slow=metrics.slow,
        failure_rate=metrics.failure_rate,
        slow_rate=metrics.slow_rate,
        samples=tuple(round(took_s, 6) for took_s in circuit.samples()),
        in_flight=metrics.in_flight,
        retries=gate.retries,
        attempts=gate.attempts,
        refused=metrics.refused,
        usd_nano=gate.usd_nano,
        last_error=gate.last_error,
        suspect=metrics.suspect,
        probe_in_s=None if wait_s is None else round(wait_s, 1),
        limit=gate.limit.limit,
    )


def change_of(service: str, transition: Transition, at: float, runtime: int) -> CircuitChanged:
    """Return a transition as it is written down, at `at` of the wall clock."""
    metrics = transition.metrics
    return CircuitChanged(
        service=service,
        was=str(transition.was),
        now=str(transition.now),
        why=transition.why,
        at=at,
        by=storable(transition.by),
        runtime=runtime,
        wait_s=transition.wait_s,
        suspect=metrics.suspect,
        calls=metrics.calls,
        failures=metrics.failures,
        slow=metrics.slow,
        failure_rate=metrics.failure_rate,
        slow_rate=metrics.slow_rate,
        in_flight=metrics.in_flight,
        in_a_row=metrics.in_a_row,
        refused=metrics.refused,
    )

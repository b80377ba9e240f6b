"""A circuit that is played a story, call by call."""

from __future__ import annotations

from typing import Any

from undercroft.layers.breakers.policy import BreakerPolicy
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


def half_open(**policy: Any) -> Played:
    """Return one that was opened and is asked for its first probe after 5 s."""
    played = Played(**{"failure_rate": 0.5, "window_calls": 4, "open_s": 5.0, **policy}).opened()
    played.now_s = 5.0
    return played

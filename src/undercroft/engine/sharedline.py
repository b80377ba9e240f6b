"""What is shared of one service, as one process keeps it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from undercroft.engine.figures import Watched
from undercroft.layers.breakers.state import BreakerState
from undercroft.model.circuit import Chain, CircuitChanged, Prober, Stored

SILENCE_S, SILENCE_MIN_S = 60.0, 1.0
# What nobody could be told is kept up to here; then the oldest of it is forgotten.
UNTOLD_MAX = 64


@dataclass(slots=True)
class SharedLine:
    """What is shared of one service.

    Attributes:
        home: The state that it has where nobody says anything: closed, or without a breaker.
        epoch: Of its last stored transition that is known here.
        untold: Transitions that are not stored yet.
        holds: Whether it is this process that may try the service; since `held_s`, and with a
            beat that was noted at `beat_s`, when its probes had got as far as `beaten`.
        asking: What calls wait for that want to try it.
        seen: Who else may, with the beat that was seen first at `seen_s`.
        gauge: The figures as they were told last.
        since: Generation of its state, and since when that is, for people.
    """

    name: str
    gate: Watched
    home: BreakerState
    epoch: int = 0
    untold: deque[CircuitChanged] = field(default_factory=lambda: deque(maxlen=UNTOLD_MAX))
    holds: bool = False
    held_s: float = 0.0
    beat_s: float = 0.0
    beaten: tuple[int, int] = (0, 0)
    asking: asyncio.Future[bool] | None = None
    denied_until_s: float = float("-inf")
    seen: Prober | None = None
    seen_s: float = 0.0
    gauge: bytes = b""
    since: tuple[int, float] = (-1, 0.0)

    @property
    def silence_s(self) -> float:
        """Seconds without a beat after which a holder's right may be taken."""
        return max(self.gate.circuit.policy.half_open_s or SILENCE_S, SILENCE_MIN_S)

    def answer(self, *, granted: bool) -> None:
        """Tell the calls that want to try it whether they may."""
        waiter, self.asking = self.asking, None
        if waiter is not None and not waiter.done():
            waiter.set_result(granted)

    def silent(self, now_s: float) -> Prober | None:
        """Return who has the right to try it, if that one was silent for long enough."""
        if self.seen is not None and now_s - self.seen_s >= self.silence_s:
            return self.seen
        return None

    def written(self, chain: Chain | None, stored: Stored) -> bool:
        """Take note that a chain was written, if `stored` is its end."""
        if (
            chain is None
            or stored.epoch != chain.epoch + len(chain.changes)
            or stored.change != chain.changes[-1]
        ):
            return False
        self.epoch = stored.epoch
        told = {id(change) for change in chain.changes}
        self.untold = deque((c for c in self.untold if id(c) not in told), UNTOLD_MAX)
        return True

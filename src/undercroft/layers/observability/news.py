"""What events tell a person who watches a journal grow: one line each, or none.

Keeps: each begin and end of a turn and each end of a step is told, once, in the order in which
they were written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from undercroft.model.event import (
    AnyEvent,
    ApprovalAsked,
    ApprovalDecided,
    ContextAlarmed,
    ContextCompacted,
    DoubtSettled,
    StepEnded,
    StepRetried,
    StepStarted,
    TurnDelivered,
    TurnEnded,
    TurnParked,
    TurnResumed,
    TurnStarted,
    TurnStopped,
)
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import step_id


class Told(msgspec.Struct, frozen=True):
    """One line of news.

    Attributes:
        what: What it is about: `turn began`, `turn ended`, `step` and the like.
        status: Of the turn or the step by then.
        step_id: Of the step; empty where it is about the turn.
        at: Seconds since 1970.
        took_s: Of what ended; None where it was not measured.
        detail: What it runs, why it failed, who decided.
    """

    turn_id: str
    session: str | None
    what: str
    status: str
    step_id: str
    at: float
    took_s: float | None = None
    detail: str = ""


class Teller:
    """Tells of one turn, as its events come."""

    __slots__ = ("_began", "_names", "session", "turn_id")

    def __init__(self, turn_id: str, session: str | None = None) -> None:
        self.turn_id, self.session = turn_id, session
        self._names: dict[int, tuple[str, float]] = {}
        self._began = 0.0

    def tell(self, events: Iterable[AnyEvent]) -> Iterator[Told]:
        """Yield the news that events are."""
        for event in events:
            told = self._of_step(event) or self._of_turn(event)
            if told is not None:
                yield told

    def _of_turn(self, event: AnyEvent) -> Told | None:  # noqa: PLR0911  one case an event
        match event:
            case TurnStarted():
                self.turn_id, self.session, self._began = event.turn_id, event.session, event.at
                return self._told("turn began", "running", event.at, event.target)
            case TurnResumed():
                return self._told("turn resumed", "running", event.at)
            case TurnParked():
                return self._told("turn parked", event.status, event.at)
            case TurnStopped():
                return self._told("turn stopped", TurnStatus.STOPPED, event.at, event.why)
            case TurnEnded():
                said = "" if event.error is None else str(event.error)
                took_s = event.at - self._began if self._began else None
                return self._told("turn ended", event.status, event.at, said, took_s)
            case TurnDelivered():
                return self._told("delivery", event.status, event.at, event.detail)
            case _:
                return None

    def _of_step(self, event: AnyEvent) -> Told | None:  # noqa: PLR0911  one case an event
        match event:
            case StepStarted():
                self._names[event.n] = event.name, event.at
                # Its end tells of it; one that is under way for long is seen in `show`.
                return None
            case StepEnded():
                name, began = self._names.pop(event.n, (event.name, event.at))
                why = event.error or event.refusal
                return Told(
                    self.turn_id,
                    self.session,
                    "step",
                    str(event.status),
                    step_id(name, event.n),
                    event.at or began + event.took_s,
                    event.took_s,
                    (event.refusal.rule if event.refusal else str(why)) if why else "",
                )
            case StepRetried():
                said = f"attempt {event.attempt}: {event.error}"
                return self._about(event.n, "retry", "retrying", event.at, said)
            case ApprovalAsked():
                self._names[event.n] = event.name, event.at
                return self._about(event.n, "approval", "waiting", event.at)
            case ApprovalDecided():
                word = "approved" if event.granted else "rejected"
                return self._about(event.n, "approval", word, event.at, f"by {event.by}")
            case DoubtSettled():
                return self._about(event.n, "doubt", "settled", event.at, event.how)
            case ContextCompacted():
                said = f"{event.before:,} → {event.after:,} tokens"
                return self._about(event.n, "context", "compacted", event.at, said)
            case ContextAlarmed():
                return self._about(event.n, "context", "alarm", event.at, event.why)
            case _:
                return None

    def _about(self, n: int, what: str, status: str, at: float, detail: str = "") -> Told:
        name, _ = self._names.get(n, (what, at))
        return Told(self.turn_id, self.session, what, status, step_id(name, n), at, None, detail)

    def _told(
        self, what: str, status: str, at: float, detail: str = "", took_s: float | None = None
    ) -> Told:
        return Told(self.turn_id, self.session, what, str(status), "", at, took_s, detail)

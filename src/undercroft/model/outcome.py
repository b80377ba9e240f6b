"""What became of a turn, as its caller sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from undercroft.model.step import Failure


class TurnStatus(StrEnum):
    """Where a turn stands."""

    RUNNING = "running"
    STOPPED = "stopped"
    WAITING = "waiting"
    IN_DOUBT = "in_doubt"
    DEGRADED = "degraded"
    FAILED = "failed"
    DONE = "done"

    @property
    def final(self) -> bool:
        """Whether the turn is over and will never run again."""
        return self in _FINAL


_FINAL = frozenset({TurnStatus.DEGRADED, TurnStatus.FAILED, TurnStatus.DONE})


@dataclass(frozen=True, slots=True)
class Changed:
    """A resource that is not as the approver saw it."""

    key: str
    was: Any
    now: Any


@dataclass(frozen=True, slots=True)
class Waiting:
    """A step that a person has to decide.

    Attributes:
        step_id: What to name in `approve`, `reject` or `settle`.
        name: The tool or the gate.
        arguments: Exactly what would be done; an approval binds to it.
        asked_at: Seconds since 1970.
        fingerprint: Hex of what the approval binds to: the arguments and the versions read.
        void: Why an earlier word counts no more: `changed`, `expired` or `copied`; else empty.
        changed: What changed since that word was given.
        expires_at: Seconds since 1970 after which a word counts for nothing, or None.
    """

    step_id: str
    name: str
    arguments: Any = None
    asked_at: float = 0.0
    fingerprint: str = ""
    void: str = ""
    changed: tuple[Changed, ...] = ()
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn stands after a run or a resume.

    Attributes:
        status: `done`, `degraded` (done, with `missing` named), `waiting`, `in_doubt`, `failed`.
        value: What the workflow or handler returned, where it is over.
        waiting: Steps that wait for a person.
        in_doubt: Writes of which nobody can say whether they happened.
        missing: Optional steps that failed.
        error: Why it failed.
    """

    turn_id: str
    status: TurnStatus
    value: Any = None
    waiting: tuple[Waiting, ...] = ()
    in_doubt: tuple[Waiting, ...] = ()
    missing: tuple[str, ...] = ()
    error: Failure | None = field(default=None)

"""The finished record of a turn: what every question about it is answered from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from undercroft.model.outcome import TurnStatus
from undercroft.model.step import Failure, Refusal, StepStatus


@dataclass(frozen=True, slots=True)
class Retry:
    """An attempt that failed and was followed by another."""

    attempt: int
    at: float
    wait_s: float
    error: Failure


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's or a verifying tool's word about a step.

    Attributes:
        what: `approved`, `rejected`, `applied`, `not applied` or `repeated`.
        how: `person`, `verify` or `key`.
    """

    what: str
    how: str
    by: str
    at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One step of a turn.

    Attributes:
        kind: `step`, `tool`, `approval` or `model`.
        causes: Ids of the steps whose results it used.
        claims: Rendered claims as (mode, key).
        arguments: What it was given; None for a workflow's step, whose input is `causes`.
        attempts: How often its body was begun.
        began_at: Seconds since 1970; None for a step that never began.
        took_s: None while it runs, or where the process died in it.
    """

    step_id: str
    n: int
    name: str
    kind: str
    status: StepStatus
    changes: bool = False
    causes: tuple[str, ...] = ()
    claims: tuple[tuple[str, str], ...] = ()
    arguments: Any = None
    value: Any = None
    error: Failure | None = None
    refusal: Refusal | None = None
    attempts: int = 0
    began_at: float | None = None
    took_s: float | None = None
    retries: tuple[Retry, ...] = ()
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class Life:
    """A stretch of time in which some process ran the turn.

    Attributes:
        ended: `ended`, `parked`, `stopped`, or `killed` where nothing was said.
    """

    began_at: float
    ended_at: float | None
    ended: str


@dataclass(frozen=True, slots=True)
class Trace:
    """The record of one turn.

    Attributes:
        kind: `workflow` or `handler`.
        delivered: What the user was told; None where the turn is not over.
    """

    turn_id: str
    kind: str
    target: str
    session: str | None
    status: TurnStatus
    input: dict[str, Any]
    began_at: float
    ended_at: float | None
    steps: tuple[StepTrace, ...]
    lives: tuple[Life, ...]
    delivered: Any = None
    error: Failure | None = None
    missing: tuple[str, ...] = ()

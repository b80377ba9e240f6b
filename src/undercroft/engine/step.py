"""A step on its way, how it ended, and how a life of a turn did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from undercroft.engine.body import Body
from undercroft.engine.desk import Desk
from undercroft.engine.owning import Silences, Turns
from undercroft.engine.rehearsal import Rehearsal
from undercroft.engine.services import Services
from undercroft.engine.windows import Windows
from undercroft.layers.breakers.policy import Budgets, LoopPolicy
from undercroft.layers.breakers.prices import Prices
from undercroft.layers.conflicts.ownership import Ownership
from undercroft.layers.observability.redaction import Secrets
from undercroft.layers.parallelism.policy import Limits
from undercroft.model.event import NIL, NIL_BYTES, Event, StepEnded
from undercroft.model.outcome import TurnStatus, Waiting
from undercroft.model.step import Failure, Refusal, StepStatus
from undercroft.ports import Clock, Exporter, Ids, ModelClient, Store


@dataclass(frozen=True, slots=True)
class Setting:
    """What every turn of a runtime shares."""

    store: Store
    clock: Clock
    ids: Ids
    limits: Limits
    models: tuple[ModelClient, ...]
    ownership: Ownership
    desk: Desk
    turns: Turns
    silences: Silences
    ticks: Iterator[int]
    services: Services
    budgets: Budgets
    loops: LoopPolicy | None
    prices: Prices | None
    windows: Windows
    secrets: Secrets
    exporters: tuple[Exporter, ...] = ()
    rehearsal: Rehearsal | None = None

    @property
    def model(self) -> ModelClient | None:
        """The model that is asked first; None where there is none."""
        return self.models[0] if self.models else None


class Ended(NamedTuple):
    """How a step's body ended."""

    status: StepStatus
    value: Any = None
    raw: bytes = NIL_BYTES
    error: Failure | None = None
    took_s: float = 0.0
    refusal: Refusal | None = None
    version: str = ""


def end_of(ended: StepEnded) -> Ended:
    """Return a recorded end as a live one."""
    return Ended(ended.status, None, bytes(ended.value), ended.error, ended.took_s, ended.refusal)


# Not an end: the body may be called (again).
AGAIN = Ended(StepStatus.RUNNING)


class Step(NamedTuple):
    """A step about to run, or found again in the journal."""

    n: int
    name: str
    body: Body
    kind: str
    kwargs: Mapping[str, Any]
    fp: bytes = b""
    causes: tuple[int, ...] = ()
    claims: tuple[tuple[str, str], ...] = ()
    args: msgspec.Raw = NIL
    # What the turn saw of the resource before, for a verify that reads it.
    before: bytes | None = None
    # What it must hold while it runs: its claims, and what follows from its service.
    held: tuple[tuple[str, str], ...] = ()
    branch: str = ""
    # Keys of which the turn should remember what it saw.
    watched: tuple[str, ...] = ()
    # What is to be written down with its beginning, or with its refusal.
    notes: tuple[Event, ...] = ()


class Finish(NamedTuple):
    """How a life of a turn came to its end.

    Attributes:
        status: Final, or `waiting` or `in_doubt` where it parks.
        raw: `value`, encoded; None where it is the value of step `value_of`.
    """

    status: TurnStatus
    value: Any = None
    raw: bytes | None = None
    value_of: int | None = None
    error: Failure | None = None
    missing: tuple[str, ...] = ()
    waiting: tuple[Waiting, ...] = ()

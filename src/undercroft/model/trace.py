"""The finished record of a turn: what every question about it is answered from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from undercroft.model.outcome import TurnStatus
from undercroft.model.step import Failure, Refusal, StepStatus


@dataclass(frozen=True, slots=True)
class Retry:
    """An attempt that failed and was followed by another.

    Attributes:
        breaker: State of the service's breaker after it; empty where that was closed.
    """

    attempt: int
    at: float
    wait_s: float
    error: Failure
    breaker: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Time that a step stood ready and could not begin.

    Attributes:
        claim: The claim, or the limit, that kept it waiting.
        behind: Id of the step of this turn, or of the other turn, that it waited for.
    """

    waited_s: float
    claim: str
    behind: str


@dataclass(frozen=True, slots=True)
class Owned:
    """Resources of which the turn became the owner with a step.

    Attributes:
        fence: Token of the lease.
        strength: By key, how a lapsed owner is kept out.
        taken_from: Id of the turn whose lease lapsed, or empty.
        dirty: Whether that turn was cut off in the middle of a write.
    """

    keys: tuple[str, ...]
    fence: int
    strength: tuple[str, ...]
    taken_from: str = ""
    dirty: bool = False


@dataclass(frozen=True, slots=True)
class Spent:
    """What the attempts of a step spent, added up.

    Attributes:
        service: What was called; empty where that has no name.
        attempts: On the wire, those of a client library included.
        usd: Money; None where a price is not known.
    """

    service: str
    attempts: int
    time_s: float
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's or a verifying tool's word about a step.

    Attributes:
        what: `approved`, `rejected`, `void` (a word that counts no more), `applied`,
            `not applied` or `repeated`.
        how: `person`, `verify`, `key`; for what is void `changed`, `expired` or `copied`.
    """

    what: str
    how: str
    by: str
    at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Whether what a turn ended with reached the user, as the application says.

    Attributes:
        status: `delivered` or `failed`.
        detail: How, or why not, in the application's words.
    """

    status: str
    at: float
    detail: str = ""


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
        branch: Name of the branch of the handler's code; empty for the turn itself.
        waits: What it had to wait for before it began.
        owned: What the turn became the owner of with it.
        spent: Of calls that cost something, or for which there is a budget; else None.
        prompt_tokens: Of what a model was sent, as counted; None where nobody counted.
        service: What its attempts called; empty where that is not known.
        breaker: State of that service's breaker when its last attempt began; empty where it
            was closed, or there is none.
        recorded_in: Where the call was carried out, as `turn/step`, if that was an earlier turn
            of the session; empty if it was this one.
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
    branch: str = ""
    waits: tuple[Wait, ...] = ()
    owned: tuple[Owned, ...] = ()
    spent: Spent | None = None
    prompt_tokens: int | None = None
    service: str = ""
    breaker: str = ""
    recorded_in: str = ""


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
class Parallelism:
    """How much of a turn ran side by side, and what kept it from more.

    Attributes:
        critical_path: Ids of the steps that no amount of parallelism could have shortened,
            first to last: each uses the result of the one before.
        critical_s: Seconds that these steps took; the turn could not have been faster.
        elapsed_s: Seconds in which at least one step ran or waited for its claims.
        work_s: Seconds that all steps took, added up.
        achieved: `work_s / elapsed_s`; 1 where everything ran one after another.
        possible: `work_s / critical_s`; what unlimited parallelism would have achieved.
        lost_s: `elapsed_s - critical_s`.
        waits: By claim or limit, the seconds that steps waited for it, longest first, as
            (claim, id of the step that waited, behind whom, seconds).
    """

    critical_path: tuple[str, ...]
    critical_s: float
    elapsed_s: float
    work_s: float
    achieved: float
    possible: float
    lost_s: float
    waits: tuple[tuple[str, str, str, float], ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """The record of one turn.

    Attributes:
        kind: `workflow`, `handler`, or `guest`: the loop is somebody else's.
        delivered: What the user was told; None where the turn is not over.
        delivery: Whether it reached the user; None where nobody has said.
        parallelism: None where it was not worked out, or nothing ran.
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
    parallelism: Parallelism | None = None
    delivery: Delivery | None = None

"""From events to the finished record: one pass, no clock, no I/O.

Keeps: the same events give the same trace; whatever the journal does not say is None and
never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

import msgspec

from undercroft.model.event import (
    NIL_BYTES,
    AnyEvent,
    ApprovalAsked,
    ApprovalDecided,
    ApprovalVoided,
    AttemptReserved,
    AttemptSpent,
    CallsProposed,
    ContextAlarmed,
    ContextCompacted,
    ContextLeft,
    ContextOpened,
    ContextScored,
    DoubtSettled,
    HandedOver,
    PromptAssembled,
    ResourceOwned,
    SecretsSealed,
    StepEnded,
    StepRetried,
    StepStarted,
    StepWaited,
    TurnDelivered,
    TurnEnded,
    TurnParked,
    TurnResumed,
    TurnStarted,
    TurnStopped,
    VersionChecked,
)
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import StepStatus, step_id
from undercroft.model.trace import (
    Decision,
    Delivery,
    Life,
    Owned,
    Retry,
    Spent,
    StepTrace,
    Trace,
    Wait,
)

_decode = msgspec.msgpack.Decoder().decode


@dataclass(slots=True)
class _Step:
    """What is known of a step so far."""

    name: str
    kind: str
    status: StepStatus = StepStatus.RUNNING
    facts: dict[str, Any] = field(default_factory=dict)
    attempts: int = 0
    retries: list[Retry] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    owned: list[Owned] = field(default_factory=list)


def fold(events: Iterable[AnyEvent]) -> Trace | None:
    """Return the record that `events` of one turn add up to; None where there are none."""
    folding = _Fold()
    for event in events:
        folding.take(event)
    return folding.trace()


class _Fold:
    """The record in the making."""

    def __init__(self) -> None:
        self.head: TurnStarted | None = None
        self.steps: dict[int, _Step] = {}
        self.status = TurnStatus.RUNNING
        self.lives: list[Life] = []
        self.life_began: float | None = None
        # Waits of steps, which are known before the step has begun.
        self.early: dict[int, list[Wait]] = {}
        self.spent: dict[int, list[AttemptSpent]] = {}
        self.reserved: dict[int, AttemptReserved] = {}
        # Tokens of prompts, which are known before the step has begun.
        self.prompts: dict[int, int] = {}
        self.end: TurnEnded | None = None
        self.delivery: Delivery | None = None

    def take(self, event: AnyEvent) -> None:  # noqa: C901  one case an event
        match event:
            case TurnStarted():
                self.head, self.life_began = event, event.at
            case TurnResumed():
                self._close_life(None, "killed")
                self._abandon()
                self.life_began, self.status = event.at, TurnStatus.RUNNING
            case TurnParked():
                self._close_life(event.at, "parked")
                self.status = event.status
                self._mark_doubts(event)
            case TurnStopped():
                self._close_life(event.at, "stopped")
                self.status = TurnStatus.STOPPED
            case TurnEnded():
                self._close_life(event.at, "ended")
                self._abandon()
                self.status, self.end = event.status, event
            case (
                HandedOver() | ContextOpened() | ContextCompacted() | ContextScored()
                | ContextAlarmed() | ContextLeft() | SecretsSealed() | CallsProposed()
            ):  # fmt: skip
                # Between branches the steps say who did what, and of calls what came of them; a
                # window has a story of its own; and what is sealed is not for readers.
                pass
            case TurnDelivered():
                self.delivery = Delivery(event.status, event.at, event.detail)
            case PromptAssembled():
                self.prompts[event.n] = event.tokens
            case AttemptReserved():
                self.reserved[event.n] = event
            case AttemptSpent():
                self.reserved.pop(event.n, None)
                self.spent.setdefault(event.n, []).append(event)
            case _:
                self._take_step(event)

    def _take_step(  # noqa: C901  one case an event
        self,
        event: StepStarted
        | StepWaited
        | StepEnded
        | StepRetried
        | ApprovalAsked
        | ApprovalVoided
        | ApprovalDecided
        | ResourceOwned
        | VersionChecked
        | DoubtSettled,
    ) -> None:
        match event:
            case StepStarted():
                self._started(event)
            case StepEnded():
                self._ended(event)
            case StepRetried():
                step = self.steps[event.n]
                step.attempts = event.attempt + (not event.rests)
                step.retries.append(
                    Retry(event.attempt, event.at, event.wait_s, event.error, event.breaker)
                )
            case ApprovalAsked():
                step = self.steps.setdefault(event.n, _Step(event.name, "approval"))
                step.status = StepStatus.WAITING
                step.facts |= {
                    "arguments": _decode(event.args),
                    "causes": self._ids(event.causes),
                    "began_at": event.at,
                }
            case ApprovalDecided():
                said = "approved" if event.granted else "rejected"
                decision = Decision(said, "person", event.by, event.at, event.reason)
                self.steps[event.n].decisions.append(decision)
                self._decided()
            case ApprovalVoided():
                decision = Decision("void", event.why, "", event.at)
                self.steps[event.n].decisions.append(decision)
            case StepWaited():
                wait = Wait(event.waited_s, event.claim, event.behind)
                self.early.setdefault(event.n, []).append(wait)
            case ResourceOwned(n=0):
                pass  # a session, which the turn owned from its beginning
            case ResourceOwned():
                self.steps[event.n].owned.append(
                    Owned(event.keys, event.fence, event.strength, event.taken_from, event.dirty)
                )
            case VersionChecked():
                pass  # what it led to is the step's own end
            case DoubtSettled():
                self._settled(event)
            case _:
                assert_never(event)

    def _started(self, event: StepStarted) -> None:
        step = self.steps.setdefault(event.n, _Step(event.name, event.kind))
        step.kind, step.status = event.kind, StepStatus.RUNNING
        step.attempts += 1
        step.facts |= {
            "changes": event.changes,
            "causes": self._ids(event.causes),
            "claims": event.claims,
            "began_at": event.at,
            "branch": event.branch,
            "service": event.service,
            "breaker": event.breaker,
        }
        if bytes(event.args) != NIL_BYTES:
            step.facts["arguments"] = _decode(event.args)

    def _ended(self, event: StepEnded) -> None:
        step = self.steps.get(event.n)
        if step is None:
            step = self.steps[event.n] = _Step(event.name, "tool")
            step.facts["arguments"] = _decode(event.args)
            step.facts["began_at"] = event.at
            step.facts["causes"] = self._ids(event.causes)
            step.facts["branch"] = event.branch
            step.facts["recorded_in"] = event.recorded_in
        step.status = event.status
        step.facts |= {
            "value": _decode(event.value),
            "error": event.error,
            "refusal": event.refusal,
            "took_s": event.took_s,
        }

    def _settled(self, event: DoubtSettled) -> None:
        what = {True: "applied", False: "not applied", None: "repeated"}[event.applied]
        step = self.steps[event.n]
        step.decisions.append(Decision(what, event.how, event.by, event.at))
        if event.how == "person":
            self._decided()
        if event.applied:
            step.status = StepStatus.OK
            step.facts["value"] = _decode(event.value)

    def _decided(self) -> None:
        """Somebody decided while nobody ran the turn: it waits for a process now."""
        if self.status in (TurnStatus.WAITING, TurnStatus.IN_DOUBT):
            self.status = TurnStatus.STOPPED

    def _mark_doubts(self, event: TurnParked) -> None:
        if event.status is TurnStatus.IN_DOUBT:
            for n in event.steps:
                if self.steps[n].status is not StepStatus.WAITING:
                    self.steps[n].status = StepStatus.IN_DOUBT

    def _abandon(self) -> None:
        """Count what was set aside for attempts that were cut off: nobody knows better."""
        for n, aside in self.reserved.items():
            told = AttemptSpent(
                n,
                "",
                aside.attempts,
                aside.time_us,
                aside.input_tokens,
                aside.output_tokens,
                aside.usd_nano,
            )
            self.spent.setdefault(n, []).insert(0, told)
        self.reserved.clear()

    def _close_life(self, at: float | None, how: str) -> None:
        if self.life_began is not None:
            self.lives.append(Life(self.life_began, at, how))
        self.life_began = None

    def _ids(self, numbers: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(step_id(self.steps[n].name, n) for n in numbers if n in self.steps)

    def trace(self) -> Trace | None:
        head, end = self.head, self.end
        if head is None:
            return None
        if self.life_began is not None:
            self._close_life(None, "running")
        steps = tuple(
            StepTrace(
                step_id=step_id(step.name, n),
                n=n,
                name=step.name,
                kind=step.kind,
                status=step.status,
                attempts=step.attempts,
                retries=tuple(step.retries),
                decisions=tuple(step.decisions),
                waits=tuple(self.early.get(n, ())),
                owned=tuple(step.owned),
                spent=_total(self.spent.get(n, ())),
                prompt_tokens=self.prompts.get(n),
                **step.facts,
            )
            for n, step in sorted(self.steps.items())
        )
        delivered = None
        if end is not None:
            told = self.steps[end.value_of].facts["value"] if end.value_of is not None else None
            delivered = told if end.value_of is not None else _decode(end.value)
        return Trace(
            turn_id=head.turn_id,
            kind=head.kind,
            target=head.target,
            session=head.session,
            status=self.status,
            input=_decode(head.input),
            began_at=head.at,
            ended_at=self.lives[-1].ended_at if self.lives else None,
            steps=steps,
            lives=tuple(self.lives),
            delivered=delivered,
            error=end.error if end else None,
            missing=end.missing if end else (),
            delivery=self.delivery,
        )


def _total(spent: Sequence[AttemptSpent]) -> Spent | None:
    """Return what the attempts of a step spent together."""
    if not spent:
        return None
    known = [one.usd_nano for one in spent if one.usd_nano is not None]
    return Spent(
        spent[-1].service,
        sum(one.attempts for one in spent),
        sum(one.time_us for one in spent) / 1e6,
        sum(one.input_tokens for one in spent),
        sum(one.output_tokens for one in spent),
        sum(known) / 1e9 if len(known) == len(spent) else None,
    )

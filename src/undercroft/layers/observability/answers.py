"""The six questions of an incident, answered from a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from undercroft.model.step import StepStatus
from undercroft.model.trace import StepTrace, Trace

QUESTIONS = (
    "What did it try to do?",
    "Which tools did it call?",
    "What succeeded?",
    "What failed?",
    "How long did each step take?",
    "What did the user actually see?",
)


@dataclass(frozen=True, slots=True)
class Answers:
    """Six answers about one turn.

    Attributes:
        tried: What it ran, on what input.
        called: Steps in the order in which they began, with their arguments.
        succeeded: Ids of steps that ended well.
        failed: Steps that did not: failed, refused, skipped, waiting, in doubt, or cut off.
        took_s: Seconds by step id; None where the step never ended.
        total_s: Seconds from the turn's begin to its end, waiting included; None while open.
        seen: What was delivered to the user; None where nothing was.
        delivered: Whether anything was delivered at all.
    """

    tried: str
    called: tuple[StepTrace, ...]
    succeeded: tuple[str, ...]
    failed: tuple[StepTrace, ...]
    took_s: dict[str, float | None]
    total_s: float | None
    seen: Any
    delivered: bool


def answer(trace: Trace) -> Answers:
    """Return the six answers about `trace`."""
    given = ", ".join(f"{name}={value!r}" for name, value in trace.input.items())
    over_at = trace.ended_at if trace.status.final else None
    return Answers(
        tried=f"{trace.kind} {trace.target}({given})",
        called=trace.steps,
        succeeded=tuple(s.step_id for s in trace.steps if s.status is StepStatus.OK),
        failed=tuple(s for s in trace.steps if s.status is not StepStatus.OK),
        took_s={s.step_id: s.took_s for s in trace.steps},
        total_s=None if over_at is None else over_at - trace.began_at,
        seen=trace.delivered,
        delivered=trace.status.final,
    )

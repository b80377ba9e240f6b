"""From what is new of a turn to measurements.

Keeps: what was measured at an earlier telling is not measured again; attributes have few values,
so no id, no key and no text stands in them, nor a name that a model made up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from undercroft.adapters.otel.drawn import Attributes, short
from undercroft.adapters.otel.talk import provider_of, used_tokens
from undercroft.model import genai
from undercroft.model.effect import Mode
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import MODEL, StepStatus
from undercroft.model.trace import StepTrace, Trace

_MODES = frozenset(Mode)
_OPEN = frozenset({StepStatus.RUNNING, StepStatus.WAITING})


@dataclass(frozen=True, slots=True)
class Measure:
    """One measurement: of which metric, how much, and of what."""

    metric: str
    value: float
    attributes: Attributes


def measure(trace: Trace, before: Trace | None) -> Iterator[Measure]:
    """Yield what is new in `trace` since `before`, what was told of the turn last."""
    was = {} if before is None else {step.n: step for step in before.steps}
    for step in trace.steps:
        yield from _step(trace, step, was.get(step.n))
    if trace.status.final or trace.status in {TurnStatus.WAITING, TurnStatus.IN_DOUBT}:
        yield _one(genai.TURNS, trace, {genai.TURN_STATUS: trace.status.value})


def _step(trace: Trace, step: StepTrace, was: StepTrace | None) -> Iterator[Measure]:
    service = step.service or (step.spent.service if step.spent is not None else "")
    for retry in step.retries[len(was.retries) if was else 0 :]:
        kind = retry.error.error_class.value
        yield _one(genai.RETRIES, trace, {genai.ERROR_CLASS: kind, genai.SERVICE: service})
    for wait in step.waits[len(was.waits) if was else 0 :]:
        claimed = wait.claim.partition(" ")[0] in _MODES
        at = Attributes()
        at.put("undercroft.wait.for", "claim" if claimed else "limit")
        yield Measure(genai.STEP_WAIT, max(wait.waited_s, 0.0), at)
    if step.status in _OPEN or (was is not None and was.status is step.status):
        return
    at = Attributes()
    at.put(genai.STEP_STATUS, step.status.value)
    at.put(genai.STEP_KIND, step.kind)
    if step.attempts:
        at.put(genai.TOOL_NAME, None if step.kind == MODEL else step.name)
    yield Measure(genai.STEPS, 1, at)
    if step.refusal is not None:
        yield _one(genai.REFUSALS, trace, {genai.RULE: step.refusal.rule})
    if step.attempts and step.took_s is not None:
        yield from _operation(step, service)


def _operation(step: StepTrace, service: str) -> Iterator[Measure]:
    """Yield what the conventions want measured of a call of a model or a tool."""
    model = step.kind == MODEL
    about = Attributes()
    about.put(genai.OPERATION, genai.CHAT if model else genai.EXECUTE_TOOL)
    whose = provider_of(service) or "_OTHER" if model else service or "undercroft"
    about.put(genai.PROVIDER, whose)
    if not model:
        about.put(genai.TOOL_NAME, step.name)
    timed = Attributes(about)
    if step.error is not None:
        timed.put(genai.ERROR_TYPE, step.error.type)
    yield Measure(genai.OPERATION_DURATION, max(step.took_s or 0.0, 0.0), timed)
    if model:
        sent, answered, _ = used_tokens(step)
        for kind, tokens in (("input", sent), ("output", answered)):
            if tokens is not None and tokens >= 0:
                counted = Attributes(about)
                counted.put(genai.TOKEN_TYPE, kind)
                yield Measure(genai.TOKEN_USAGE, tokens, counted)


def _one(metric: str, trace: Trace, about: dict[str, str]) -> Measure:
    at = Attributes()
    at.put(genai.TURN_KIND, trace.kind)
    for name, value in about.items():
        at.put(name, short(value))
    return Measure(metric, 1, at)

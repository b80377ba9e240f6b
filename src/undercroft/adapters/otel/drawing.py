"""From a turn's events to its spans: one for the turn, one for each step, under it.

Keeps: the same events give the same spans. Times are the journal's own: wall clock for the begin,
and how long it took by the monotonic clock. Arguments, results, prompts and what the user was told
stand in a span only where content is asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from undercroft.adapters.otel.drawn import (
    ROOT,
    Attributes,
    Drawn,
    Noted,
    as_json,
    as_text,
    end_of,
    nanos,
    short,
    span_id,
    trace_id,
)
from undercroft.adapters.otel.talk import (
    answer_of,
    asked_model,
    is_anew,
    messages_of,
    provider_of,
    tools_of,
    used_tokens,
)
from undercroft.model import genai
from undercroft.model.effect import Mode
from undercroft.model.event import (
    NIL_BYTES,
    AnyEvent,
    ApprovalAsked,
    ApprovalDecided,
    ApprovalVoided,
    ContextAlarmed,
    ContextCompacted,
    ContextOpened,
    DoubtSettled,
    PromptAssembled,
    ResourceOwned,
    StepRetried,
    StepWaited,
    VersionChecked,
)
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import MODEL, StepStatus
from undercroft.model.trace import StepTrace, Trace

_decode = msgspec.msgpack.Decoder().decode
_EVENTS_MAX = 128
_LINKS_MAX = 128
_MODES = frozenset(Mode)
_BAD = frozenset({StepStatus.FAILED, StepStatus.IN_DOUBT})


@dataclass(frozen=True, slots=True)
class _Telling:
    """What the spans of a turn's steps have in common.

    Attributes:
        numbers: Of steps, by their ids.
        window: Tokens that a prompt may have; None where that is not written down.
        by_number: Steps by their numbers, where content is told.
    """

    numbers: Mapping[str, int]
    window: int | None
    by_number: dict[int, StepTrace] | None


def draw(
    trace: Trace, events: Sequence[AnyEvent], *, content: bool, only: Iterable[int] | None = None
) -> Iterator[Drawn]:
    """Yield the spans of a turn, those of its steps first.

    Args:
        trace: What `events` add up to.
        events: All of the turn so far.
        content: Whether to tell what was said, given and returned.
        only: Numbers of the steps to draw; None: all.
    """
    wanted = None if only is None else set(only)
    noted = _notes(events)
    numbers = {step.step_id: step.n for step in trace.steps}
    by_number = {step.n: step for step in trace.steps}
    window = _window(events)
    for step in trace.steps:
        if wanted is None or step.n in wanted:
            told = _Telling(numbers, window, by_number if content else None)
            yield _step(trace, step, noted.get(step.n, ()), told)
    yield _root(trace, noted.get(ROOT, ()), content=content)


def _window(events: Iterable[AnyEvent]) -> int | None:
    """Return the size of the window, where the turn wrote its policy down."""
    for event in events:
        if isinstance(event, ContextOpened) and bytes(event.settings) != NIL_BYTES:
            settings = _decode(event.settings)
            limit = settings.get("limit_tokens") if isinstance(settings, Mapping) else None
            return limit if isinstance(limit, int) else None
    return None


def numbers_in(events: Iterable[AnyEvent]) -> set[int]:
    """Return the numbers of the steps that `events` tell something of."""
    return {n for event in events if isinstance(n := getattr(event, "n", None), int)}


# ---------------------------------------------------------------------------- the turn


def _root(trace: Trace, noted: Sequence[Noted], *, content: bool) -> Drawn:
    put = Attributes()
    handler = trace.kind != "workflow"
    put.put(genai.OPERATION, genai.INVOKE_AGENT if handler else genai.INVOKE_WORKFLOW)
    put.put(genai.AGENT_NAME if handler else genai.WORKFLOW_NAME, trace.target)
    put.put(genai.CONVERSATION, trace.session)
    put.put(genai.TURN_ID, trace.turn_id)
    put.put(genai.TURN_KIND, trace.kind)
    put.put(genai.TURN_STATUS, trace.status.value)
    put.put(genai.TURN_MISSING, trace.missing)
    put.put(genai.TURN_LIVES, len(trace.lives))
    failed = trace.status is TurnStatus.FAILED
    if trace.error is not None:
        put.put(genai.ERROR_TYPE, trace.error.type)
        put.put(genai.ERROR_CLASS, trace.error.error_class.value)
        put.put(genai.ERROR, str(trace.error))
    elif failed:
        put.put(genai.ERROR_TYPE, "_OTHER")
    if trace.delivery is not None:
        put.put(genai.DELIVERY, trace.delivery.status)
    if content:
        put.content(genai.TURN_INPUT, as_json(trace.input))
        if trace.status.final and trace.delivered is not None:
            put.content(genai.TURN_DELIVERED, as_text(trace.delivered))
    began = nanos(trace.began_at)
    return Drawn(
        name=short(f"{put[genai.OPERATION]} {trace.target}"),
        trace_id=trace_id(trace.turn_id),
        span_id=span_id(trace.turn_id, ROOT),
        parent_id=None,
        began_ns=began,
        ended_ns=max(began, nanos(_ended_at(trace))),
        attributes=put,
        events=tuple(noted[:_EVENTS_MAX]),
        failed=failed,
        message=short(str(trace.error)) if trace.error is not None else "",
    )


def _ended_at(trace: Trace) -> float:
    """Return the turn's end so far; of one that was cut off, the last end of a step."""
    if trace.ended_at is not None:
        return trace.ended_at
    ends = (step.began_at + (step.took_s or 0.0) for step in trace.steps if step.began_at)
    return max(ends, default=trace.began_at)


# ---------------------------------------------------------------------------- a step


def _step(
    trace: Trace,
    step: StepTrace,
    noted: Sequence[Noted],
    telling: _Telling,
) -> Drawn:
    put = Attributes()
    model = step.kind == MODEL
    put.put(genai.OPERATION, genai.CHAT if model else genai.EXECUTE_TOOL)
    put.put(genai.CONVERSATION, trace.session)
    put.put(genai.TURN_ID, trace.turn_id)
    put.put(genai.STEP_ID, step.step_id)
    put.put(genai.STEP_NUMBER, step.n)
    put.put(genai.STEP_KIND, step.kind)
    put.put(genai.STEP_STATUS, step.status.value)
    put.put(genai.BRANCH, step.branch)
    put.put(genai.ATTEMPT, step.attempts)
    service = step.service or (step.spent.service if step.spent is not None else "")
    put.put(genai.SERVICE, service)
    put.put(genai.BREAKER, step.breaker)
    if step.waits:
        put.put(genai.QUEUE_WAIT, sum(wait.waited_s for wait in step.waits))
    if step.spent is not None:
        put.put(genai.COST, step.spent.usd)
    _put_effect(put, step)
    _put_end(put, step)
    if model:
        put.put(genai.PROVIDER, provider_of(service) or MODEL)
        put.put(genai.REQUEST_MODEL, asked_model(step))
        put.put(genai.WINDOW, telling.window)
        put.put(genai.PROMPT_TOKENS, step.prompt_tokens)
        _put_usage(put, step)
    else:
        put.put(genai.TOOL_NAME, step.name)
        put.put(genai.TOOL_TYPE, "function")
    if telling.by_number is not None:
        _put_content(put, step, telling.by_number)
    about = asked_model(step) or service or MODEL
    began = nanos(trace.began_at if step.began_at is None else step.began_at)
    return Drawn(
        name=short(f"{put[genai.OPERATION]} {about if model else step.name}"),
        trace_id=trace_id(trace.turn_id),
        span_id=span_id(trace.turn_id, step.n),
        parent_id=span_id(trace.turn_id, ROOT),
        began_ns=began,
        ended_ns=end_of(began, step.took_s),
        attributes=put,
        events=tuple(noted[:_EVENTS_MAX]),
        links=tuple(
            span_id(trace.turn_id, telling.numbers[cause])
            for cause in step.causes[:_LINKS_MAX]
            if cause in telling.numbers
        ),
        client=model,
        failed=step.status in _BAD,
        message=short(_wrong(step)),
    )


def _put_effect(put: Attributes, step: StepTrace) -> None:
    if not step.attempts and step.kind != "approval":
        return  # of a call that never began, nobody looked up what it would have touched
    access = "write" if step.changes else "read" if step.claims else "neither"
    put.put(genai.ACCESS, access)
    put.put(genai.CLAIMS, tuple(f"{mode} {key}" for mode, key in step.claims))


def _put_end(put: Attributes, step: StepTrace) -> None:
    if step.error is not None:
        put.put(genai.ERROR_TYPE, step.error.type)
        put.put(genai.ERROR_CLASS, step.error.error_class.value)
        put.put(genai.ERROR, str(step.error))
    elif step.status in _BAD:
        put.put(genai.ERROR_TYPE, "_OTHER")
    if step.refusal is not None:
        put.put(genai.RULE, step.refusal.rule)
        put.put(genai.REFUSAL, step.refusal.message)


def _put_usage(put: Attributes, step: StepTrace) -> None:
    sent, answered, cached = used_tokens(step)
    put.put(genai.INPUT_TOKENS, sent)
    put.put(genai.OUTPUT_TOKENS, answered)
    put.put(genai.CACHED_TOKENS, cached)


def _put_content(put: Attributes, step: StepTrace, by_number: dict[int, StepTrace]) -> None:
    if step.kind == MODEL:
        offered = tools_of(step)
        if offered:
            put.content(genai.TOOL_DEFINITIONS, as_json(offered))
        put.content(genai.INPUT_MESSAGES, as_json(messages_of(step, by_number)))
        put[genai.PROMPT_DELTA] = not is_anew(step)
        answer = answer_of(step)
        if answer is not None:
            put.content(genai.OUTPUT_MESSAGES, as_json([answer]))
            put[genai.FINISH_REASONS] = (str(answer["finish_reason"]),)
        return
    if step.arguments is not None:
        put.content(genai.TOOL_ARGUMENTS, as_json(step.arguments))
    if step.status is StepStatus.OK:
        put.content(genai.TOOL_RESULT, as_text(step.value))


def _wrong(step: StepTrace) -> str:
    if step.status is StepStatus.IN_DOUBT:
        return "nobody can say whether it happened"
    return "" if step.error is None else str(step.error)


# ---------------------------------------------------------------------------- what guards did


def _notes(events: Sequence[AnyEvent]) -> dict[int, list[Noted]]:
    """Return what guards did, by the number of the step."""
    noted: dict[int, list[Noted]] = defaultdict(list)
    now = 0.0
    for event in events:
        now = max(now, getattr(event, "at", 0.0))
        name, act = genai.ACT, _act(event)
        if isinstance(event, ApprovalDecided):
            word = "approved" if event.granted else "rejected"
            name, act = genai.DECISION, ("", f"{word} by {event.by}")
        if act is None:
            continue
        put = Attributes()
        put.put(genai.ACT_RULE, act[0])
        put.put(genai.ACT_DETAIL, act[1])
        n = getattr(event, "n", ROOT)
        noted[n].append(Noted(name, nanos(getattr(event, "at", 0.0) or now), put))
    return noted


def _act(event: AnyEvent) -> tuple[str, str] | None:  # noqa: C901, PLR0911  one case an event
    """Return the rule of what a guard did, and what it did; None where it did nothing."""
    match event:
        case StepRetried():
            kind = event.error.error_class.value
            return "breakers.retry", f"attempt {event.attempt} failed ({kind}): {event.error}"
        case StepWaited():
            claimed = event.claim.partition(" ")[0] in _MODES
            rule = "conflicts.waited" if claimed else "parallelism.limited"
            behind = f" behind {event.behind}" if event.behind else ""
            return rule, f"{event.claim}: {event.waited_s:.3f} s{behind}"
        case ApprovalAsked():
            return "sequencing.approval", f"{event.name} waits for a person"
        case ApprovalVoided():
            return "sequencing.approval_void", event.why
        case VersionChecked() if not event.same:
            return "conflicts.changed", f"{', '.join(event.keys)}: {event.why}"
        case ResourceOwned() if event.taken_from:
            return "conflicts.taken_over", f"{', '.join(event.keys)} from {event.taken_from}"
        case DoubtSettled():
            said = {True: "applied", False: "not applied", None: "repeated"}[event.applied]
            return "sequencing.settled", f"{said}, by {event.how}"
        case ContextCompacted():
            return "context.compacted", f"{event.before} to {event.after} tokens: {event.why}"
        case PromptAssembled() if event.capped:
            return "context.capped", f"{len(event.capped)} items cut when they arrived"
        case ContextAlarmed():
            return "context.alarmed", event.why
    return None

"""OpenTelemetry: spans as OTLP JSON or as a backend exports them one by one.

By the GenAI conventions, old and new, OpenInference, OpenLLMetry and our own exporter.
Keeps: never raises; what no attribute says stays unknown.
Leaves to `spans`: what the spans of a run add up to, and what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from undercroft.doctor.arguments import as_text, read_arguments, read_value
from undercroft.doctor.importers import otlp_messages as messages
from undercroft.doctor.importers import spans as story
from undercroft.doctor.importers.form import Format
from undercroft.doctor.importers.otlp_own import Prompts, also_shown, finished_of, own, retold
from undercroft.doctor.importers.otlp_spans import (
    BAD,
    MISSING,
    Moment,
    Span,
    is_log,
    looks_like,
    read_log,
    read_span,
    spans_in,
    trace_id_of,
)
from undercroft.doctor.importers.said import read_answer, read_messages
from undercroft.doctor.importers.spans import Kind, assemble
from undercroft.doctor.importers.times import read_count
from undercroft.model import genai
from undercroft.model.case import CallStatus, Case, Facet

NAME = "otlp"
CAN_SHOW = frozenset(Facet)
_KINDS = {
    messages.TOOL: Kind.TOOL,
    messages.ASK: Kind.MODEL,
    messages.AGENT: Kind.AGENT,
    messages.OTHER: Kind.OTHER,
}
# Keys that make an object a schema of parameters and not the parameters.
_SCHEMA = frozenset({"type", "properties", "required", "$schema"})
# How Python passes arguments, and what stands beside them.
_CALLED, _FLAGS = frozenset({"args", "kwargs"}), frozenset({"sanitize_inputs_outputs"})
_RAW = ("startTimeUnixNano", "start_time_unix_nano")


def case(records: Sequence[Any], name: str) -> Case:
    """Return the run that the spans of one trace are.

    Args:
        records: Spans, in the order of the input.
        name: Of the run, where its spans do not say.
    """
    told: dict[str, list[Moment]] = {}
    for span_id, moment in (read_log(record) for record in records if is_log(record)):
        told.setdefault(span_id, []).append(moment)
    records = [record for record in records if not is_log(record)]
    read = [read_span(record, step) for step, record in enumerate(records)]
    for span in read:
        span.events += tuple(told.get(span.span_id, ()) if span.span_id else ())
    before = retold(read)
    prompts = Prompts(span for span in read if span.step not in before)
    turn = next((text for span in read if (text := span.text(genai.TURN_ID))), "")
    found = assemble(
        [_earlier(span, before[span.step]) if span.step in before else _span(span, prompts)
         for span in read],
        trace_id=turn or next((span.trace_id for span in read if span.trace_id), "") or name,
        name=NAME,
        can_show=CAN_SHOW,
        finished=finished_of(read),
        whole=all(isinstance(r, Mapping) and any(k in r for k in _RAW) for r in records),
    )  # fmt: skip
    return also_shown(found) if turn else found


def _span(span: Span, prompts: Prompts) -> story.Span:
    """Return a span as all systems' are read."""
    if not span.readable:
        return story.Span(kind=Kind.UNREADABLE, error="a record that is no span")
    kind = _KINDS[messages.kind_of(span)]
    fields: dict[str, Any] = {
        "kind": kind,
        "id": span.span_id,
        "parent": span.parent_id,
        "name": span.name,
        "began": span.began_at,
        "ended": span.ended_at,
        # A step of a graph that runs tools is nobody.
        "actor": span.text(*(genai.READ_ACTOR if kind is Kind.TOOL else genai.READ_AGENT)),
        **_ending(span, kind),
    }
    if kind is Kind.TOOL:
        fields |= _tool(span)
    elif kind is Kind.MODEL:
        fields |= _model(span, prompts)
    elif kind is Kind.AGENT:
        fields |= _agent(span)
    return story.Span(**{**fields, **own(span)})


def _earlier(span: Span, parent: str) -> story.Span:
    """Return what stands for a span that was told of again later."""
    return story.Span(
        id=f"{span.span_id} of an earlier telling", parent=parent, name=span.name,
        began=span.began_at, ended=span.ended_at,
    )  # fmt: skip


def _ending(span: Span, kind: Kind) -> dict[str, Any]:
    """Return how a span ended, and what went wrong."""
    raised = next((event for event in span.events if event.name == genai.EXCEPTION), None)
    said = span.message
    if raised is not None and not said:
        type_ = as_text(raised.attributes.get(genai.EXCEPTION_TYPE) or "")
        words = as_text(raised.attributes.get(genai.EXCEPTION_MESSAGE) or "")
        said = f"{type_}: {words}" if type_ and words else type_ or words
    wrong = span.text(genai.ERROR_TYPE)
    if span.code == BAD or wrong or (raised is not None and span.code <= 0):
        # What came back says more than a name, or than nothing.
        told = span.first(*genai.READ_RESULT) is not None and kind is Kind.TOOL
        error = said or ("" if told else wrong or "error")
        return {"status": CallStatus.FAILED, "error": error}
    # By the conventions a status that was not set means that nothing went wrong.
    ended = span.ended_at is not None and span.code != MISSING
    return {"status": CallStatus.OK if ended else CallStatus.UNKNOWN}


# ---------------------------------------------------------------------------- kinds of spans


def _tool(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": messages.tool_name(span),
        "call_id": span.text(*genai.READ_CALL_ID),
    }
    given = span.first(*genai.READ_ARGUMENTS)
    if given is None:
        given = _parameters(span.first(genai.READ_PARAMETERS))
    if given is not None:
        found["arguments"], found["raw"] = read_arguments(_bare(given))
    result = span.first(*genai.READ_RESULT)
    if result is not None:
        found |= _result(result)
    return found


def _bare(given: Any) -> Any:
    """Return arguments without what some libraries wrap round them."""
    held = read_value(given) if isinstance(given, str) else given
    if isinstance(held, Mapping):
        if isinstance(held.get("inputs"), Mapping) and "kwargs" in held:
            return held["inputs"]
        if _CALLED <= set(held) <= _CALLED | _FLAGS and isinstance(held["kwargs"], Mapping):
            return {"args": held["args"], **held["kwargs"]} if held["args"] else held["kwargs"]
    return given


def _parameters(given: Any) -> Any:
    """Return what should be the schema of a tool's parameters, where it is none."""
    if given is None:
        return None
    held, _ = read_arguments(given)
    return None if held is None or _SCHEMA & set(held) else held


def _result(raw: Any) -> dict[str, Any]:
    held = read_value(raw) if isinstance(raw, str) else raw
    if isinstance(held, str) and isinstance(raw, str) and raw.startswith('"'):
        return {"result": held}
    if isinstance(held, Mapping):
        inner = held["output"] if set(held) <= {"output", "kwargs"} and "output" in held else held
        said = read_messages(inner) if isinstance(inner, Mapping) else None
        if said and len(said) == 1 and said[0].role == "tool":
            told: dict[str, Any] = {"result": said[0].text}
            return told | ({"status": CallStatus.FAILED} if said[0].failed else {})
        if inner is not held:
            return {"result": as_text(inner)}
    return {"result": as_text(raw)}


def _model(span: Span, prompts: Prompts) -> dict[str, Any]:
    prompt = prompts.of(span) if genai.PROMPT_DELTA in span.attributes else messages.sent(span)
    answer, stop = messages.answered(span)
    return {
        "model": span.text(*genai.READ_MODEL),
        "prompt": prompt,
        "answer": answer,
        "stop": stop,
        "input_tokens": read_count(span.first(*genai.READ_INPUT_TOKENS)),
        "output_tokens": read_count(span.first(*genai.READ_OUTPUT_TOKENS)),
        "window_tokens": read_count(span.first(*genai.READ_WINDOW)),
        "offered": messages.tools_of(span),
    }


def _agent(span: Span) -> dict[str, Any]:
    """Return what an agent was given and gave back, where its span says so."""
    name = span.text(*genai.READ_AGENT) or span.text(genai.LOOP_NAME)
    found: dict[str, Any] = {"name": name or span.name.removeprefix(f"{genai.INVOKE_AGENT} ")}
    given = span.first(genai.INPUT_MESSAGES, *genai.READ_INPUTS)
    found["given"] = read_messages(given, "user") or ()
    raw = span.first(genai.OUTPUT_MESSAGES, "final_result", *genai.READ_OUTPUTS)
    if raw is not None:
        found["gave"] = next(_last_words(raw), None)
    return found


def _last_words(raw: Any) -> Iterator[str]:
    for said in reversed(read_answer(raw).said or ()):
        if said.text and said.role in {"assistant", "other"}:
            yield said.text


FORMAT = Format(
    name=NAME,
    title="OpenTelemetry spans (OTLP JSON)",
    can_show=CAN_SHOW,
    fits=looks_like,
    records=spans_in,
    trace_of=trace_id_of,
    case=case,
    containers=("resourceSpans", "resource_spans", "batches", "spans"),
)

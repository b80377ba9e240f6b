"""Langfuse: exports of traces and of their observations.

Reads what these give, with keys as of the API (`traceId`) and as of its tables (`trace_id`):
a trace of the API with its `observations` (`GET /api/public/traces/{id}`, v2 and v3), what the
page of a trace downloads (`{"trace": …, "observations": […]}`), lists of observations of the API
(v1 and v2), and lines of the export to blob storage (`observations`, and `observations_v2`, where
inputs and outputs are JSON texts and times are UTC without saying so).
Types of observations: SPAN, GENERATION, EVENT, and since 2025 AGENT, TOOL, CHAIN, RETRIEVER,
EVALUATOR, EMBEDDING, GUARDRAIL. Before there was TOOL, tools were recorded as SPAN: such a span is
taken for a call where a model proposed a call of its name, or where no model of the run is seen to
propose any and it looks like one: nothing under it, a name like a function's, named input.
Not shown: declared effects. A level of DEFAULT is what every observation has that nobody marked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from undercroft.doctor.arguments import as_text, read_arguments, read_value
from undercroft.doctor.importers.form import Format
from undercroft.doctor.importers.said import (
    Prompts,
    is_data,
    is_tool,
    last_answer,
    offered,
    read_answer,
    read_messages,
    read_usage,
    result_text,
)
from undercroft.doctor.importers.spans import Kind, Span, assemble
from undercroft.doctor.importers.times import read_count, read_time
from undercroft.doctor.importers.tree import read_id
from undercroft.model.case import CallStatus, Case, Facet

# Stands before what the records of one document have in common.
_TRACE = "undercroft.trace"
_TYPES = frozenset({
    "SPAN", "GENERATION", "EVENT", "AGENT", "TOOL", "CHAIN",
    "RETRIEVER", "EVALUATOR", "EMBEDDING", "GUARDRAIL",
})  # fmt: skip
_OWN = (
    "parentObservationId", "parent_observation_id", "statusMessage", "status_message",
    "usageDetails", "usage_details", "level", "completionStartTime",
)  # fmt: skip
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,99}\Z")
_BLOCKED = ("triggered", "tripwire_triggered", "blocked", "flagged")
_LONGEST_S = 1e9
_SURE, _LIKELY = 0.95, 0.6
CAN_SHOW = frozenset(Facet) - {Facet.EFFECTS}


def _get(raw: Mapping[str, Any], *names: str) -> Any:
    """Return the first of the fields of these names, in either spelling, that is there."""
    for name in names:
        for key in (name, _snake(name)):
            if raw.get(key) is not None:
                return raw[key]
    return None


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", name)


def _text(raw: Mapping[str, Any], *names: str) -> str:
    found = _get(raw, *names)
    return found if isinstance(found, str) else ""


def _is_observation(raw: object) -> bool:
    return (
        isinstance(raw, Mapping)
        and str(raw.get("type", "")).upper() in _TYPES
        and any(
            key in raw
            for key in ("traceId", "trace_id", "startTime", "start_time", "parentObservationId")
        )
    )


def fits(document: Any) -> float:
    """Return how much a document looks like an export of Langfuse, 0 to 1."""
    if not isinstance(document, Mapping):
        return 0.0
    observations = document.get("observations")
    if isinstance(observations, list):
        known = any(isinstance(one, Mapping) and _type(one) in _TYPES for one in observations[:20])
        return _SURE if known else _LIKELY * ("trace" in document or "timestamp" in document)
    if not _is_observation(document):
        return 0.0
    return _SURE if any(key in document for key in _OWN) else _LIKELY


def records(document: Any) -> Iterable[Any]:
    """Return the observations of a document; before them what is said of their trace."""
    if not isinstance(document, Mapping) or not isinstance(document.get("observations"), list):
        return [document]
    trace = document.get("trace")
    head = trace if isinstance(trace, Mapping) else document
    told = {key: value for key, value in head.items() if key != "observations"}
    # Lists of traces have the ids of observations only.
    rows: list[Any] = [one for one in document["observations"] if not isinstance(one, str)]
    named = read_id(told.get("id")) or next((n for one in rows if (n := trace_of(one))), "")
    found = [
        {**one, "traceId": named} if isinstance(one, Mapping) and not trace_of(one) else one
        for one in rows
    ]
    return [{_TRACE: told, "traceId": named}, *found] if told else found


def trace_of(record: Any) -> str | None:
    """Return the run to which a record belongs; None where its document is a run by itself."""
    found = read_id(_get(record, "traceId")) if isinstance(record, Mapping) else ""
    return found or None


def case(found: Sequence[Any], trace_id: str) -> Case:
    """Return the run that observations add up to."""
    heads = [one[_TRACE] for one in found if isinstance(one, Mapping) and _TRACE in one]
    rows = [one for one in found if not (isinstance(one, Mapping) and _TRACE in one)]
    head: Mapping[str, Any] = heads[0] if heads else {}
    known = [one for one in rows if isinstance(one, Mapping)]
    named = next((name for one in found if (name := trace_of(one))), "")
    trace_id = read_id(head.get("id")) or named or trace_id
    tools = _tools_among(known)
    prompts = Prompts()
    spans = [_span(row, tools, prompts) for row in rows]
    given, gave, error = _whole(head, known)
    return assemble(
        spans,
        trace_id=trace_id,
        name=FORMAT.name,
        can_show=CAN_SHOW,
        said=read_messages(_unwrapped(given)) or (),
        delivered=last_answer(gave),
        error=error,
        finished=True if is_data(gave) else None,
    )


def _whole(head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> tuple[Any, Any, str]:
    """Return what the run was given, what it gave back, and its error."""
    given, gave, error = _get(head, "input"), _get(head, "output"), ""
    ids = {read_id(one.get("id")) for one in rows}
    tops = [one for one in rows if read_id(_get(one, "parentObservationId")) not in ids]
    if len(tops) == 1 and _type(tops[0]) not in {"GENERATION", "TOOL", "EVENT"}:
        given = _get(tops[0], "input") if given is None else given
        gave = _get(tops[0], "output") if gave is None else gave
    if len(tops) == 1 and _text(tops[0], "level").upper() == "ERROR":
        error = _text(tops[0], "statusMessage") or "ERROR"
    return given, gave, error


def _unwrapped(given: Any) -> Any:
    """Return what a decorated function was given: `{"args": […], "kwargs": {…}}`."""
    if isinstance(given, str):
        read = read_value(given) if given.lstrip()[:1] == "{" else None
        given = read if isinstance(read, Mapping) else given
    if isinstance(given, Mapping) and given and set(given) <= {"args", "kwargs"}:
        args, kwargs = given.get("args") or [], given.get("kwargs") or {}
        if isinstance(kwargs, Mapping) and kwargs and not args:
            return kwargs
        if isinstance(args, list) and args and not kwargs:
            return args[0] if len(args) == 1 else {"args": args}
    return given


# ---------------------------------------------------------------------------- observations


def _type(row: Mapping[str, Any]) -> str:
    kind = row.get("type")
    return kind.upper() if isinstance(kind, str) else ""


def _tools_among(rows: Sequence[Mapping[str, Any]]) -> frozenset[int]:
    """Return the identities of spans that are calls of tools, of a time without TOOL."""
    proposed: set[str] = set()
    for row in rows:
        if _type(row) == "GENERATION":
            for said in read_answer(_get(row, "output")).said or ():
                proposed.update(call.name for call in said.calls)
    if not proposed and any(_type(row) in {"TOOL", "AGENT", "CHAIN"} for row in rows):
        return frozenset()  # who records so would have said TOOL
    above = {read_id(_get(row, "parentObservationId")) for row in rows if _type(row) != "EVENT"}
    found: set[int] = set()
    for row in rows:
        if _type(row) != "SPAN":
            continue
        name = _text(row, "name")
        if name in proposed or (
            not proposed and read_id(row.get("id")) not in above and _like_call(row)
        ):
            found.add(id(row))
    return frozenset(found)


def _like_call(row: Mapping[str, Any]) -> bool:
    given, _ = read_arguments(_unwrapped(_get(row, "input")))
    return (
        bool(given)
        and not {"messages", "message", "input", "args"} & set(given or ())
        and _get(row, "output") is not None
        and _FUNCTION.match(_text(row, "name")) is not None
    )


def _span(row: Any, tools: frozenset[int], prompts: Prompts) -> Span:
    if not isinstance(row, Mapping) or not _type(row):
        return Span(kind=Kind.UNREADABLE, error=as_text(row)[:500])
    kind = _type(row)
    level = _text(row, "level").upper()
    failed = level == "ERROR"
    message = _text(row, "statusMessage")
    began, ended = read_time(_get(row, "startTime")), read_time(_get(row, "endTime"))
    common: dict[str, Any] = {
        "id": read_id(row.get("id")),
        "parent": read_id(_get(row, "parentObservationId")),
        "name": _text(row, "name"),
        "began": began,
        "ended": ended,
        "took_s": None if ended is not None else _seconds(_get(row, "latency", "duration")),
        "status": CallStatus.FAILED if failed else CallStatus.UNKNOWN,
        "error": (message or "ERROR") if failed else "",
    }
    if kind == "EVENT":
        common["ended"] = common["ended"] or began
    if kind == "GENERATION":
        if level and not failed and common["ended"] is not None:
            common["status"] = CallStatus.OK
        return _generation(row, common, prompts)
    if kind in {"TOOL", "RETRIEVER"} or id(row) in tools:
        return _tool(row, common, plain=bool(level) and not failed)
    if kind == "AGENT":
        return Span(kind=Kind.AGENT, **common)
    if kind == "GUARDRAIL" and _blocked(_get(row, "output")):
        return Span(acts=(("guardrail.triggered", message or common["name"]),), **common)
    return Span(**common)


def _seconds(raw: object) -> float | None:
    number = isinstance(raw, int | float) and not isinstance(raw, bool)
    return float(raw) if number and -_LONGEST_S < raw < _LONGEST_S else None  # type: ignore[operator, arg-type]


def _tool(row: Mapping[str, Any], common: dict[str, Any], *, plain: bool) -> Span:
    given = _unwrapped(_get(row, "input"))
    arguments, raw = (None, "") if given is None else read_arguments(given)
    gave = _get(row, "output")
    result: str | None
    if isinstance(gave, str) and gave.lstrip()[:1] == "{":
        read = read_value(gave)  # a message as JSON text, or data
        result = result_text(read) if isinstance(read, Mapping) and "content" in read else gave
    else:
        result = None if gave is None else result_text(gave)
    if plain:
        common["status"] = CallStatus.OK
    if isinstance(gave, Mapping) and gave.get("type") == "tool" and gave.get("status") == "error":
        common["status"] = CallStatus.FAILED
    meta = _get(row, "metadata")
    ids = [meta, gave] if isinstance(meta, Mapping) else [gave]
    call_id = next(
        (
            found
            for held in ids
            if isinstance(held, Mapping) and (found := _text(held, "toolCallId", "callId"))
        ),
        "",
    )
    return Span(
        kind=Kind.TOOL, arguments=arguments, raw=raw, result=result, call_id=call_id, **common
    )


def _generation(row: Mapping[str, Any], common: dict[str, Any], prompts: Prompts) -> Span:
    given, gave = _get(row, "input"), _get(row, "output")
    answered = read_answer(gave)
    used = _get(row, "usageDetails"), _get(row, "usage")
    counts = [read_usage(read_value(one) if isinstance(one, str) else one) for one in used]
    counts.append((read_count(_get(row, "promptTokens", "inputUsage")),
                   read_count(_get(row, "completionTokens", "outputUsage"))))  # fmt: skip
    counts.append((answered.input_tokens, answered.output_tokens))
    if isinstance(given, str):
        read = read_value(given) if given.lstrip()[:1] in {"{", "["} else None
        given = read if isinstance(read, Mapping | list) else given
    meta = _get(row, "metadata")
    settings = _get(row, "modelParameters")
    tools = [offered(one) for one in (given, settings, meta) if isinstance(one, Mapping)]
    if isinstance(given, list):
        contents = [one.get("content") for one in given if isinstance(one, Mapping)]
        tools.append(offered([one for one in contents if is_tool(one)]))
    told = meta if isinstance(meta, Mapping) else {}
    why = answered.stop or _text(told, "finishReason", "stopReason")
    return Span(
        kind=Kind.MODEL,
        model=_text(row, "model", "providedModelName"),
        prompt=prompts.read(given),
        answer=answered.said,
        stop=why,
        input_tokens=next((one for one, _ in counts if one is not None), None),
        output_tokens=next((one for _, one in counts if one is not None), None),
        offered=next((one for one in tools if one is not None), None),
        **common,
    )


def _blocked(gave: Any) -> bool:
    if isinstance(gave, str):
        gave = read_value(gave)
    return isinstance(gave, Mapping) and any(gave.get(key) is True for key in _BLOCKED)


FORMAT = Format(
    name="langfuse",
    title="Langfuse export",
    can_show=CAN_SHOW,
    fits=fits,
    records=records,
    trace_of=trace_of,
    case=case,
    containers=("data", "traces"),
)

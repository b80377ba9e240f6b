"""OpenAI Agents SDK: traces as its exporters send them.

Reads `{"object": "trace", …}` and `{"object": "trace.span", …, "span_data": {"type": …}}` of
`openai-agents` 0.0 to 0.6 (Python and TypeScript): one a line, in a list, or under `data`, as they
are sent to the API. Steps are spans; what stands in a trace is no step.
Types of `span_data`: agent, generation, response, function, handoff, guardrail, custom (of which
`task` and `turn` are the SDK's own), mcp_tools, transcription, speech, speech_group.
A function's output is written with `str()`, and as null where it is empty: a function that ended
well without one gave nothing back, unless no function of the run shows anything at all, as when
sensitive data is left out. A `response` has only its id and usage, unless an exporter adds `input`
and `response`. Not shown: declared effects, and the guards of tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from undercroft.doctor.arguments import as_text, read_arguments
from undercroft.doctor.importers.form import Format
from undercroft.doctor.importers.said import (
    Prompts,
    offered,
    read_answer,
    read_messages,
    read_usage,
    result_text,
)
from undercroft.doctor.importers.spans import Kind, Span, assemble
from undercroft.doctor.importers.times import read_time
from undercroft.doctor.importers.tree import read_id
from undercroft.model.case import CallStatus, Case, Facet

_TRACE, _SPAN = "trace", "trace.span"
_SURE = 0.98
CAN_SHOW = frozenset(Facet) - {Facet.EFFECTS}


def _text(raw: Mapping[str, Any], *names: str) -> str:
    return next((raw[name] for name in names if isinstance(raw.get(name), str)), "")


def _is(document: object, kind: str) -> bool:
    return isinstance(document, Mapping) and document.get("object") == kind


def fits(document: Any) -> float:
    """Return how much a document looks like a trace or span of the SDK, 0 to 1."""
    if _is(document, _SPAN) and isinstance(document.get("span_data"), Mapping):
        return _SURE
    if _is(document, _TRACE) and ("workflow_name" in document or "group_id" in document):
        return _SURE
    if isinstance(document, Mapping) and isinstance(document.get("spans"), list):
        return _SURE if any(_is(one, _SPAN) for one in document["spans"][:20]) else 0.0
    return 0.0


def records(document: Any) -> Iterable[Any]:
    """Return the trace and spans of a document."""
    if not isinstance(document, Mapping) or not isinstance(document.get("spans"), list):
        return [document]
    trace = document.get("trace")
    head = trace if isinstance(trace, Mapping) else document
    told = {key: value for key, value in head.items() if key != "spans"}
    return [{**told, "object": _TRACE}, *document["spans"]]


def trace_of(record: Any) -> str | None:
    """Return the trace to which a record belongs."""
    if _is(record, _TRACE):
        return read_id(record.get("id")) or read_id(record.get("trace_id")) or None
    return read_id(record.get("trace_id")) or None if isinstance(record, Mapping) else None


def case(found: Sequence[Any], trace_id: str) -> Case:
    """Return the run that the spans of a trace add up to."""
    rows = [one for one in found if not _is(one, _TRACE)]
    named = next((name for one in found if (name := trace_of(one))), "")
    functions = [
        data for one in rows if (data := _data(one)) is not None and data.get("type") == "function"
    ]
    tells = any(data.get("output") or data.get("input") for data in functions)
    prompts = Prompts()
    return assemble(
        [_span(one, prompts, tells=tells) for one in rows],
        trace_id=named or trace_id,
        name=FORMAT.name,
        can_show=CAN_SHOW,
    )


def _data(row: object) -> Mapping[str, Any] | None:
    data = row.get("span_data") if isinstance(row, Mapping) else None
    if isinstance(data, Mapping):
        return data
    # One whose exporter left its data out is a span all the same.
    return {} if _is(row, _SPAN) and data is None else None


# ---------------------------------------------------------------------------- spans


def _span(row: Any, prompts: Prompts, *, tells: bool) -> Span:
    data = _data(row)
    if data is None:
        return Span(kind=Kind.UNREADABLE, error=as_text(row)[:500])
    kind = _text(data, "type")
    error = _error(row.get("error"))
    common: dict[str, Any] = {
        "id": read_id(row.get("id")) or read_id(row.get("span_id")),
        "parent": read_id(row.get("parent_id")),
        "name": _text(data, "name") or kind,
        "began": read_time(row.get("started_at")),
        "ended": read_time(row.get("ended_at")),
        "status": CallStatus.FAILED if error else CallStatus.UNKNOWN,
        "error": error,
    }
    if kind == "function":
        return _function(data, common, tells=tells)
    if kind in {"generation", "response"}:
        return _model(data, common, prompts)
    match kind:
        case "agent":
            common |= {"kind": Kind.AGENT, "offered": offered(data.get("tools"))}
        case "handoff":
            common |= {"name": "handoff", "actor": _text(data, "from_agent")}
        case "guardrail" if data.get("triggered") is True:
            common["acts"] = (("guardrail.triggered", common["name"]),)
        case "mcp_tools":
            common["offered"] = offered(data.get("result"))
        case "custom" if isinstance(data.get("data"), Mapping):
            common["actor"] = _text(data["data"], "agent_name")
        case _:
            pass
    return Span(**common)


def _error(raw: object) -> str:
    """Return a span's error in words; empty where there is none."""
    if not raw:
        return ""
    if not isinstance(raw, Mapping):
        return as_text(raw)[:500]
    data = raw.get("data")
    detail = _text(data, "error", "message") if isinstance(data, Mapping) else ""
    said = [text for text in (_text(raw, "message"), detail) if text]
    return ": ".join(said)[:2_000] or as_text(raw)[:500]


def _function(data: Mapping[str, Any], common: dict[str, Any], *, tells: bool) -> Span:
    given, gave = data.get("input"), data.get("output")
    arguments, raw = (None, "") if given is None else read_arguments(given)
    if given is None and tells and "input" in data:
        arguments = {}
    over = common["ended"] is not None and not common["error"]
    if over:
        common["status"] = CallStatus.OK
    result = None if gave is None else result_text(gave)
    if gave is None and "output" in data and tells and over:
        result = ""
    call_id = _text(data, "call_id", "tool_call_id")
    return Span(
        kind=Kind.TOOL, arguments=arguments, raw=raw, result=result, call_id=call_id, **common
    )


def _model(data: Mapping[str, Any], common: dict[str, Any], prompts: Prompts) -> Span:
    response = data.get("response") if isinstance(data.get("response"), Mapping) else {}
    held: Mapping[str, Any] = response if isinstance(response, Mapping) else {}
    gave = data.get("output")
    answered = read_answer(held.get("output") if gave is None else gave)
    used, spent = read_usage(data.get("usage")), read_usage(held.get("usage"))
    settings = data.get("model_config")
    tools = [offered(one) for one in (settings, held) if isinstance(one, Mapping)]
    system = _text(held, "instructions")
    prompt = prompts.read(data.get("input"))
    if prompt is not None and system:
        prompt = (*(read_messages(system, "system") or ()), *prompt)
    if common["ended"] is not None and not common["error"]:
        common["status"] = CallStatus.OK
    return Span(
        kind=Kind.MODEL,
        model=_text(data, "model") or _text(held, "model"),
        prompt=prompt,
        answer=answered.said,
        stop=answered.stop or read_answer(held).stop,
        input_tokens=used[0] if used[0] is not None else spent[0],
        output_tokens=used[1] if used[1] is not None else spent[1],
        offered=next((one for one in tools if one is not None), None),
        **common,
    )


FORMAT = Format(
    name="openai-agents",
    title="OpenAI Agents SDK trace",
    can_show=CAN_SHOW,
    fits=fits,
    records=records,
    trace_of=trace_of,
    case=case,
    containers=("data",),
)

"""LangSmith: runs, as its API, its SDK and its bulk exports give them.

Reads runs of the SDK's schema (`langsmith` 0.1 to 0.4: `run_type`, `trace_id`, `parent_run_id`,
`dotted_order`, `inputs`, `outputs`, `error`, `status`, `extra`), a run a line, in a list, under
`runs`, or one within the other (`child_runs`). Messages may be serialised by LangChain (`lc`),
plain dictionaries of its kinds, or a provider's own.
Types of runs: llm, chain, tool, retriever, embedding, prompt, parser.
A tool's input is often the text of a Python dictionary under `input`, and its output a message.
`GraphInterrupt` is how LangGraph waits for a person, `ParentCommand` how it hands over: neither
is a failure. Not shown: declared effects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from undercroft.doctor.arguments import as_text, read_arguments, read_value
from undercroft.doctor.importers.form import Format
from undercroft.doctor.importers.said import (
    Prompts,
    is_data,
    last_answer,
    offered,
    read_answer,
    read_messages,
    result_text,
)
from undercroft.doctor.importers.spans import Kind, Span, assemble
from undercroft.doctor.importers.times import read_count, read_time
from undercroft.doctor.importers.tree import read_id
from undercroft.model.case import CallStatus, Case, Facet

_TYPES = frozenset({"llm", "chain", "tool", "retriever", "embedding", "prompt", "parser"})
_OWN = ("dotted_order", "parent_run_id", "trace_id", "session_name", "child_runs", "session_id")
_STATUSES = {
    "error": CallStatus.FAILED,
    "success": CallStatus.OK,
    "interrupted": CallStatus.WAITING,
}
_SURE, _LIKELY = 0.97, 0.8
_DATA = ("inputs", "outputs", "extra")
_RUNS_MAX = 1_000_000
_ERROR_CHARS_MAX = 2_000
CAN_SHOW = frozenset(Facet) - {Facet.EFFECTS}


def _text(raw: Mapping[str, Any], *names: str) -> str:
    return next((raw[name] for name in names if isinstance(raw.get(name), str)), "")


def _inner(raw: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return the object that stands under `names`, one within the other."""
    for name in names:
        held = raw.get(name)
        raw = held if isinstance(held, Mapping) else {}
    return raw


def fits(document: Any) -> float:
    """Return how much a document looks like a run of LangSmith, 0 to 1."""
    if not isinstance(document, Mapping) or _text(document, "run_type") not in _TYPES:
        return 0.0
    return _SURE if any(key in document for key in _OWN) else _LIKELY


def records(document: Any) -> Iterable[Any]:
    """Return the runs of a document: the run itself, and those within it, parents first."""
    if not isinstance(document, Mapping) or not isinstance(document.get("child_runs"), list):
        return [document]
    return _flat(document)


def _flat(document: Mapping[str, Any]) -> Iterator[Any]:
    top = trace_of(document) or ""
    waiting: list[tuple[Any, str]] = [(document, "")]
    for count in range(_RUNS_MAX):
        if not waiting:
            return
        run, parent = waiting.pop()
        if not isinstance(run, Mapping):
            yield run
            continue
        told = {key: value for key, value in run.items() if key != "child_runs"}
        # Who stands in another one needs no id to be told apart.
        named = told["id"] = read_id(run.get("id")) or f"{parent or top}/{count}"
        if parent and not told.get("parent_run_id"):
            told["parent_run_id"] = parent
        if top and not told.get("trace_id"):
            told["trace_id"] = top
        yield told
        below = run.get("child_runs")
        if isinstance(below, list):
            waiting += [(one, named) for one in reversed(below)]


def trace_of(record: Any) -> str | None:
    """Return the run of which a record is a part: its trace."""
    if not isinstance(record, Mapping):
        return None
    named = read_id(record.get("trace_id"))
    if named:
        return named
    path = _path(record)
    if path:
        return path[0]
    # Who neither says it nor is at the top belongs to the file's one trace.
    return "" if record.get("parent_run_id") else _id(record)


def _path(run: Mapping[str, Any]) -> list[str]:
    """Return the ids from the top to a run, from `20240101T000000000000Z<id>.…`."""
    parts = [part.partition("Z")[2] for part in _text(run, "dotted_order").split(".")]
    return parts if all(parts) else []


def _id(run: Mapping[str, Any]) -> str:
    return read_id(run.get("id")) or read_id(run.get("run_id"))


def _parent(run: Mapping[str, Any]) -> str:
    named = read_id(run.get("parent_run_id"))
    return named or next(iter(_path(run)[-2:-1]), "")


def case(found: Sequence[Any], trace_id: str) -> Case:
    """Return the run that the runs of a trace add up to."""
    found = [_opened(one) for one in found]
    runs = [one for one in found if isinstance(one, Mapping)]
    by_id = {name: one for one in runs if (name := _id(one))}
    tops = [one for one in runs if _parent(one) not in by_id]
    named = next((top_id for one in runs if (top_id := trace_of(one))), None)
    prompts = Prompts()
    spans = [_span(one, by_id, prompts) for one in found]
    top: Mapping[str, Any] = tops[0] if len(tops) == 1 else {}
    whole = top if _text(top, "run_type") not in {"llm", "tool", "retriever"} else {}
    return assemble(
        spans,
        trace_id=named or trace_id,
        name=FORMAT.name,
        can_show=CAN_SHOW,
        said=read_messages(whole.get("inputs")) or (),
        delivered=last_answer(whole.get("outputs")),
        error=_error(top)[1],
        finished=True if is_data(whole.get("outputs")) else None,
    )


# ---------------------------------------------------------------------------- runs


def _opened(run: Any) -> Any:
    """Return a run whose data is no JSON text, as bulk exports write it."""
    if not isinstance(run, Mapping):
        return run
    told = {key: read_value(run[key]) for key in _DATA if isinstance(run.get(key), str)}
    return {**run, **{key: value for key, value in told.items() if value is not None}}


def _span(run: Any, by_id: Mapping[str, Mapping[str, Any]], prompts: Prompts) -> Span:
    if not isinstance(run, Mapping) or not isinstance(run.get("run_type"), str):
        return Span(kind=Kind.UNREADABLE, error=as_text(run)[:500])
    kind, name = run["run_type"], _text(run, "name")
    status, error = _error(run)
    metadata = _inner(run, "extra", "metadata")
    agent = _text(metadata, "lc_agent_name")
    common: dict[str, Any] = {
        "id": _id(run),
        "parent": _parent(run),
        "name": name,
        "began": read_time(run.get("start_time")),
        "ended": read_time(run.get("end_time")),
        "status": status,
        "error": error,
        "actor": agent,
    }
    if kind == "llm":
        return _model(run, common, prompts)
    above = by_id.get(common["parent"], {})
    if kind == "tool" or (kind == "retriever" and _text(above, "run_type") != "tool"):
        return _tool(run, common)
    if status is CallStatus.WAITING:
        common["error"] = ""
    return Span(kind=Kind.AGENT if agent and agent == name else Kind.OTHER, **common)


def _error(run: Mapping[str, Any]) -> tuple[CallStatus, str]:
    """Return how a run ended, as it says itself, and its error without the stack."""
    error = run.get("error")
    if error is not None and error != "":
        text = as_text(error)[:_ERROR_CHARS_MAX].split("Traceback (most recent call last)")[0]
        text = text.strip()
        if text.startswith("GraphInterrupt"):
            return CallStatus.WAITING, ""
        if text.startswith("ParentCommand"):
            return CallStatus.OK, ""
        return CallStatus.FAILED, text or "error"
    status = _STATUSES.get(_text(run, "status"), CallStatus.UNKNOWN)
    return status, "error" if status is CallStatus.FAILED else ""


def _tool(run: Mapping[str, Any], common: dict[str, Any]) -> Span:
    given, gave = run.get("inputs"), run.get("outputs")
    call_id, failed = "", False
    if isinstance(gave, Mapping):
        for said in read_messages(gave.get("output", gave), "tool") or ():
            if said.role == "tool" and said.call_id:
                call_id, failed = said.call_id, bool(said.failed)
    if failed and common["status"] in {CallStatus.OK, CallStatus.UNKNOWN}:
        common["status"] = CallStatus.FAILED
    arguments, raw = _arguments(given)
    waits = common["status"] is CallStatus.WAITING
    return Span(
        kind=Kind.TOOL,
        arguments=arguments,
        raw=raw,
        result=result_text(gave) if gave and not isinstance(gave, bool) else None,
        call_id=call_id or _text(_inner(run, "extra"), "tool_call_id"),
        acts=(("sequencing.approval", "GraphInterrupt"),) if waits else (),
        **common,
    )


def _arguments(given: object) -> tuple[Mapping[str, Any] | None, str]:
    """Return a tool's arguments from a run's inputs."""
    if given is None:
        return None, ""
    if isinstance(given, Mapping) and set(given) == {"input"}:
        inner = given["input"]
        if isinstance(inner, str):
            read, _ = read_arguments(inner)
            return (read, "") if read else (given, "")
        given = inner if isinstance(inner, Mapping) else given
    if isinstance(given, Mapping) and given.get("type") == "tool_call" and "args" in given:
        given = given["args"]
    return read_arguments(given)


def _model(run: Mapping[str, Any], common: dict[str, Any], prompts: Prompts) -> Span:
    answered = read_answer(run.get("outputs"))
    given = run.get("inputs")
    settings = _inner(run, "extra", "invocation_params")
    metadata = _inner(run, "extra", "metadata")
    usage = read_answer({"usage": metadata.get("usage_metadata")})
    counts = (
        (read_count(run.get("prompt_tokens")), read_count(run.get("completion_tokens"))),
        (answered.input_tokens, answered.output_tokens),
        (usage.input_tokens, usage.output_tokens),
    )
    tools = [offered(one) for one in (settings, given)]
    model = _text(settings, "model", "model_name") or _text(metadata, "ls_model_name")
    return Span(
        kind=Kind.MODEL,
        model=model or answered.model,
        prompt=prompts.read(given),
        answer=answered.said,
        stop=answered.stop,
        # The service counts 0 where nobody told it.
        input_tokens=next((one for one, _ in counts if one), None),
        output_tokens=next((one for _, one in counts if one), None),
        offered=next((one for one in tools if one is not None), None),
        **common,
    )


FORMAT = Format(
    name="langsmith",
    title="LangSmith runs",
    can_show=CAN_SHOW,
    fits=fits,
    records=records,
    trace_of=trace_of,
    case=case,
    containers=("runs",),
)

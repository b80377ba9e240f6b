"""Langfuse: what its exports say of a run, in all shapes that they come in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doctor.anything import check_sound, json_values
from tests.doctor.stories import Call, story
from tests.doctor.writers import langfuse
from undercroft.doctor.importers.langfuse import FORMAT
from undercroft.model.case import CallStatus, Case, Facet

TOLD = story(
    "Cancel order #A1001.",
    Call("get_order", {"order_id": "#A1001"}, {"order_id": "#A1001", "status": "pending"}),
    Call("cancel_order", {"order_id": "#A1001"}, error="the shop is closed"),
    "I could not cancel it.",
)


def trace() -> dict[str, Any]:
    """Return the run as the API gives it."""
    found: dict[str, Any] = langfuse(TOLD)[0]
    return found


def read(*documents: Any) -> Case:
    """Return the one run that documents tell of."""
    return FORMAT.case([one for document in documents for one in FORMAT.records(document)], "file")


def facts(case: Case) -> tuple[Any, ...]:
    """Return what a run says, apart from its own name for things."""
    calls = [(c.step, c.name, c.arguments, c.result, c.status, c.batch) for c in case.calls]
    texts = [(t.step, t.role, t.text, t.turn) for t in case.texts]
    return case.steps, calls, texts, [(a.step, a.input_tokens) for a in case.asks]


def snake(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with keys as tables have them."""
    return {re.sub(r"([A-Z])", lambda m: f"_{m[1].lower()}", key): v for key, v in row.items()}


def test_a_trace_tells_calls_texts_and_requests() -> None:
    """Calls come of tools' observations, texts and requests of generations, each once."""
    case = read(trace())

    assert [(c.name, c.step, c.ended, c.batch) for c in case.calls] == [
        ("get_order", 2, 2, 1),
        ("cancel_order", 4, 4, 3),
    ]
    assert [c.status for c in case.calls] == [CallStatus.OK, CallStatus.FAILED]
    assert case.calls[1].error == "the shop is closed"
    assert [(t.role, t.step) for t in case.texts] == [("system", 1), ("user", 1), ("assistant", 5)]
    assert [a.input_tokens is not None for a in case.asks] == [True] * 3
    assert case.delivered == "I could not cancel it."
    assert case.shows == FORMAT.can_show - {Facet.GUARDS}
    assert not case.flaws


@pytest.mark.parametrize("shape", ["lines", "page", "table", "texts"])
def test_every_shape_of_an_export_tells_the_same(shape: str) -> None:
    """Lines of observations, the page's download and tables say what the API says."""
    whole = trace()
    rows = whole["observations"]
    head = {key: value for key, value in whole.items() if key != "observations"}
    documents: list[Any] = {
        "lines": rows,
        "page": [{"trace": head, "observations": rows}],
        "table": [snake(row) for row in rows],
        "texts": [
            {k: json.dumps(v) if isinstance(v, dict) else v for k, v in snake(row).items()}
            for row in rows
        ],
    }[shape]

    assert facts(read(*documents)) == facts(read(whole))
    assert all(FORMAT.fits(document) > 0.5 for document in documents)
    assert {FORMAT.trace_of(r) for d in documents for r in FORMAT.records(d)} == {TOLD.name}


def test_spans_are_calls_where_a_model_proposed_them() -> None:
    """In a time without TOOL, a span of the name of a proposed call is that call."""
    whole = trace()
    for row in whole["observations"]:
        row["type"] = {"TOOL": "SPAN", "AGENT": "SPAN"}.get(row["type"], row["type"])

    assert facts(read(whole)) == facts(read(trace()))


def test_spans_with_named_input_are_calls_where_no_model_is_seen_to_propose() -> None:
    """A leaf with named input and an output is a call; what has spans below it is none."""
    rows: list[dict[str, Any]] = [
        {"id": "1", "type": "SPAN", "name": "run", "input": {"city": "Ghent"}, "output": "fine"},
        {"id": "2", "type": "SPAN", "name": "find_city", "input": {"city": "Ghent"}, "output": "x"},
        {"id": "3", "type": "SPAN", "name": "think", "input": "hm", "output": "x"},
    ]
    for row in rows:
        row |= {"traceId": "t", "parentObservationId": "1" if row["id"] != "1" else None}

    assert [call.name for call in read(*rows).calls] == ["find_city"]


def test_calls_without_observations_are_read_from_messages() -> None:
    """Where tools are not observed, calls and results come of what prompts and answers say."""
    whole = trace()
    whole["observations"] = [r for r in whole["observations"] if r["type"] != "TOOL"]

    case = read(whole)

    assert [(c.name, c.step, c.ended, c.batch) for c in case.calls] == [
        ("get_order", 1, 2, 1),
        ("cancel_order", 2, 3, 2),
    ]
    assert [c.status for c in case.calls] == [CallStatus.OK, CallStatus.FAILED]


def test_arguments_of_a_decorated_function_are_unwrapped() -> None:
    """The input `{"args": [], "kwargs": {…}}` of a decorated function is its keywords."""
    whole = trace()
    for row in whole["observations"]:
        if row["type"] == "TOOL":
            row["input"] = {"args": [], "kwargs": row["input"]}

    assert [call.arguments for call in read(whole).calls] == [{"order_id": "#A1001"}] * 2


def test_tools_on_offer_among_messages_are_no_results() -> None:
    """Some write the tools on offer as messages of tools: they answer no call."""
    whole = trace()
    function = {"name": "get_order", "description": "Look up", "parameters": {}}
    for row in whole["observations"]:
        if row["type"] == "GENERATION":
            offer = {"role": "tool", "content": {"type": "function", "function": function}}
            row["input"] = [*row["input"]["messages"], offer]

    assert facts(read(whole)) == facts(read(trace()))
    assert read(whole).tools == frozenset({"get_order"})


def test_a_tools_message_tells_its_call_and_its_failure() -> None:
    """Where a tool's output is a message, its text is the result, and its status counts."""
    whole = trace()
    tool = whole["observations"][2]
    tool["input"] = "{'order_id': '#A1001'}"
    tool["output"] = {"type": "tool", "content": "no", "tool_call_id": "call_1", "status": "error"}

    call = read(whole).calls[0]

    assert (call.id, call.result, call.status) == ("call_1", "no", CallStatus.FAILED)
    assert call.arguments == {"order_id": "#A1001"}


def test_a_guardrail_that_blocked_is_an_act() -> None:
    """What a guardrail held back is told; one that let pass is not."""
    row = {"id": "g", "traceId": "t", "type": "GUARDRAIL", "name": "no_secrets", "level": "DEFAULT"}
    acted = read({**row, "output": {"blocked": True}}, {**row, "id": "h", "output": {}})

    assert [(act.step, act.rule) for act in acted.acts] == [(0, "guardrail.triggered")]


def test_a_list_of_traces_without_observations_has_no_steps() -> None:
    """A trace of which only ids of observations are known is a run with no steps."""
    case = read({"id": "t", "timestamp": "2025-01-01T00:00:00Z", "observations": ["a", "b"]})

    assert case.steps == 0
    assert [flaw.kind for flaw in case.flaws] == ["no_steps"]


@settings(max_examples=60)
@given(st.lists(json_values, max_size=6))
def test_whatever_is_there_is_read(documents: list[Any]) -> None:
    """No input is an error, and all that is told lies within it."""
    check_sound(FORMAT, documents)


@settings(max_examples=60)
@given(st.data())
def test_whatever_becomes_of_a_trace_is_read(data: st.DataObject) -> None:
    """A trace with any of its values replaced by anything is still read."""
    whole = trace()
    rows = whole["observations"]
    for _ in range(data.draw(st.integers(1, 4))):
        row = data.draw(st.sampled_from(rows))
        row[data.draw(st.sampled_from(sorted(row)))] = data.draw(json_values)

    check_sound(FORMAT, [whole])

"""LangSmith: what runs say, in all shapes that they come in."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doctor.anything import check_sound, json_values
from tests.doctor.stories import Call, story
from tests.doctor.writers import langsmith
from undercroft.doctor.importers.langsmith import FORMAT
from undercroft.model.case import CallStatus, Case, Facet

TOLD = story(
    "Cancel order #A1001.",
    Call("get_order", {"order_id": "#A1001"}, {"order_id": "#A1001", "status": "pending"}),
    Call("cancel_order", {"order_id": "#A1001"}, error="the shop is closed"),
    "I could not cancel it.",
)


def runs() -> list[Any]:
    """Return the runs of the trace."""
    return langsmith(TOLD)


def read(*documents: Any) -> Case:
    """Return the one run that documents tell of."""
    return FORMAT.case([one for document in documents for one in FORMAT.records(document)], "file")


def facts(case: Case) -> tuple[Any, ...]:
    """Return what a run says, apart from its own name for things."""
    calls = [(c.step, c.name, c.arguments, c.result, c.status, c.batch) for c in case.calls]
    texts = [(t.step, t.role, t.text, t.turn) for t in case.texts]
    return case.steps, calls, texts, [(a.step, a.input_tokens) for a in case.asks]


def test_runs_tell_calls_texts_and_requests() -> None:
    """Calls come of tools' runs, texts and requests of models', each once."""
    case = read(*runs())

    assert [(c.name, c.step, c.batch, c.id) for c in case.calls] == [
        ("get_order", 2, 1, "call_1"),
        ("cancel_order", 4, 3, "call_2"),
    ]
    assert [c.arguments for c in case.calls] == [{"order_id": "#A1001"}] * 2
    assert [c.status for c in case.calls] == [CallStatus.OK, CallStatus.FAILED]
    assert [(t.role, t.step) for t in case.texts] == [("system", 1), ("user", 1), ("assistant", 5)]
    assert case.delivered == "I could not cancel it."
    assert case.finished is True
    assert case.shows == FORMAT.can_show - {Facet.GUARDS, Facet.ACTORS}
    assert not case.flaws
    assert {FORMAT.trace_of(run) for run in runs()} == {TOLD.name}
    assert all(FORMAT.fits(run) > 0.9 for run in runs())


def test_runs_within_runs_tell_the_same() -> None:
    """A run that holds its children says what the same runs in a list say."""
    top, *below = runs()
    for run in below:
        del run["trace_id"], run["parent_run_id"], run["dotted_order"]
    nested = {**top, "child_runs": below}

    assert facts(read(nested)) == facts(read(*runs()))
    assert {FORMAT.trace_of(one) for one in FORMAT.records(nested)} == {TOLD.name}


def test_runs_that_only_stand_in_each_other_need_no_ids() -> None:
    """Nested runs without ids are one trace, with what the outermost was given and gave back."""
    tool = {"name": "find", "run_type": "tool", "inputs": {"to": "LHR"}, "outputs": {"output": "5"}}
    nested = {
        "name": "AgentExecutor",
        "run_type": "chain",
        "inputs": {"input": "Find flights to LHR"},
        "outputs": {"output": "There are 5."},
        "child_runs": [tool],
    }
    case = read(nested)

    assert [(c.name, c.arguments, c.result, c.parent) for c in case.calls] == [
        ("find", {"to": "LHR"}, "5", 0)
    ]
    assert [t.text for t in case.texts if t.role == "user"] == ["Find flights to LHR"]
    assert case.delivered == "There are 5."


def test_runs_without_ids_in_one_file_are_one_trace() -> None:
    """Where nothing tells runs apart, a file has one trace."""
    assert {FORMAT.trace_of({"run_type": kind}) for kind in ("chain", "llm", "tool")} == {""}


def test_the_order_with_dots_tells_trace_and_parent() -> None:
    """Where ids of trace and parent are not there, the dotted order has them."""
    found = runs()
    for run in found:
        del run["trace_id"], run["parent_run_id"]
        time, _, _ = run["dotted_order"].partition("Z")
        top = f"{time}Z{TOLD.name}"
        run["dotted_order"] = top if run["id"] == TOLD.name else f"{top}.{time}Z{run['id']}"

    assert {FORMAT.trace_of(run) for run in found} == {TOLD.name}
    assert {call.parent for call in read(*found).calls} == {0}


def test_data_written_as_text_is_read() -> None:
    """Bulk exports write inputs and outputs as JSON texts: they say the same."""
    texts = [
        {
            key: json.dumps(value) if key in {"inputs", "outputs"} else value
            for key, value in r.items()
        }
        for r in runs()
    ]

    assert facts(read(*texts)) == facts(read(*runs()))


def test_deep_nesting_is_read() -> None:
    """However deep runs stand in each other, each is read, after the one that holds it."""
    nested: dict[str, Any] = {"id": "0", "run_type": "chain", "name": "0"}
    for n in range(1, 3_000):
        nested = {"id": str(n), "run_type": "chain", "name": str(n), "child_runs": [nested]}

    assert [one["id"] for one in FORMAT.records(nested)] == [str(n) for n in reversed(range(3_000))]


def test_errors_lose_their_stack_and_keep_their_words() -> None:
    """An error is what it says, without the stack; its class is told from it."""
    found = runs()
    found[4]["error"] = (
        "RateLimitError('429 too many requests')Traceback (most recent call last):\n\n  File \"x\""
    )

    call = read(*found).calls[1]

    assert call.error == "RateLimitError('429 too many requests')"
    assert call.error_class in {"overloaded", "transient"}


def test_waiting_for_a_person_is_no_failure() -> None:
    """A run that LangGraph interrupted waits; one that hands over went well."""
    found = runs()
    found[2] |= {"status": "error", "error": "ParentCommand(graph='x')"}
    found[4] |= {"status": "error", "error": "GraphInterrupt((Interrupt(value='ok?'),))"}
    found[4]["outputs"] = None

    case = read(*found)

    assert [c.status for c in case.calls] == [CallStatus.OK, CallStatus.WAITING]
    assert [act.rule for act in case.acts] == ["sequencing.approval"]


def test_what_a_framework_injects_is_no_argument() -> None:
    """A tool's own arguments are what the model asked for, also where state came with them."""
    found = runs()
    found[2]["inputs"] = {"order_id": "#A1001", "state": {"messages": []}}

    assert read(*found).calls[0].arguments == {"order_id": "#A1001"}


def test_a_request_recorded_twice_is_one() -> None:
    """A client library's run below a framework's is the same request."""
    found = runs()
    inner = {**found[1], "id": "inner", "parent_run_id": found[1]["id"], "name": "openai"}
    case = read(*found[:2], inner, *found[2:])

    assert len(case.asks) == 3
    assert [t.role for t in case.texts] == ["system", "user", "assistant"]


def test_a_sub_agents_prompt_is_not_the_user_speaking() -> None:
    """What an agent tells another one under a tool is nobody's word to the user."""
    found = runs()
    inner = {
        **found[1],
        "id": "inner",
        "parent_run_id": found[2]["id"],
        "inputs": {"messages": [[{"type": "human", "content": "Look the order up"}]]},
    }
    case = read(*found, inner)

    assert ("other", "Look the order up") in [(t.role, t.text) for t in case.texts]
    assert sum(t.role == "user" for t in case.texts) == 1


@settings(max_examples=60)
@given(st.lists(json_values, max_size=6))
def test_whatever_is_there_is_read(documents: list[Any]) -> None:
    """No input is an error, and all that is told lies within it."""
    check_sound(FORMAT, documents)


@settings(max_examples=60)
@given(st.data())
def test_whatever_becomes_of_runs_is_read(data: st.DataObject) -> None:
    """Runs with any of their values replaced by anything are still read."""
    found = runs()
    for _ in range(data.draw(st.integers(1, 4))):
        run = data.draw(st.sampled_from(found))
        run[data.draw(st.sampled_from(sorted(run)))] = data.draw(json_values)

    check_sound(FORMAT, found)

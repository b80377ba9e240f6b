"""OpenAI Agents SDK: what its traces and spans say."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doctor.anything import check_sound, json_values
from tests.doctor.stories import Call, story
from tests.doctor.writers import agents
from undercroft.doctor.importers.agents import FORMAT
from undercroft.model.case import CallStatus, Case, Facet

TOLD = story(
    "Cancel order #A1001.",
    Call("get_order", {"order_id": "#A1001"}, {"order_id": "#A1001", "status": "pending"}),
    Call("cancel_order", {"order_id": "#A1001"}, error="the shop is closed"),
    "I could not cancel it.",
)


def found_in(told: Any = TOLD) -> list[Any]:
    """Return the trace and its spans."""
    return agents(told)


def read(*documents: Any) -> Case:
    """Return the one run that documents tell of."""
    return FORMAT.case([one for document in documents for one in FORMAT.records(document)], "file")


def span(number: int, kind: str, **data: Any) -> dict[str, Any]:
    """Return a span under the agent's."""
    return {
        "object": "trace.span",
        "id": f"more_{number}",
        "trace_id": TOLD.name,
        "parent_id": "span_1",
        "started_at": f"2025-06-15T15:07:{number:02d}+00:00",
        "ended_at": f"2025-06-15T15:07:{number:02d}.500000+00:00",
        "span_data": {"type": kind, **data},
        "error": None,
    }


def test_spans_tell_calls_texts_and_requests() -> None:
    """Calls come of functions' spans, texts and requests of generations, each once."""
    case = read(*found_in())

    assert case.trace_id == TOLD.name
    assert case.steps == len(found_in()) - 1
    assert [(c.name, c.step, c.batch, c.id) for c in case.calls] == [
        ("get_order", 2, 1, "call_1"),
        ("cancel_order", 4, 3, "call_2"),
    ]
    assert [c.status for c in case.calls] == [CallStatus.OK, CallStatus.FAILED]
    assert case.calls[1].error == "Error running tool: the shop is closed"
    assert {c.actor for c in case.calls} == {"shop"}
    assert [(t.role, t.step) for t in case.texts] == [("system", 1), ("user", 1), ("assistant", 5)]
    assert case.delivered == "I could not cancel it."
    assert case.shows == FORMAT.can_show - {Facet.GUARDS}
    assert not case.flaws


def test_one_document_with_spans_tells_the_same() -> None:
    """A trace that holds its spans says what the same spans, each by itself, say."""
    head, *spans = found_in()

    assert read({**head, "spans": spans}) == read(*found_in())
    assert read({"trace": head, "spans": spans}) == read(*found_in())
    assert read({"trace": "?", "spans": spans}).calls == read(*found_in()).calls
    assert FORMAT.fits({"trace": head, "spans": spans}) > 0.9
    assert {FORMAT.trace_of(one) for one in found_in()} == {TOLD.name}


def test_an_empty_output_is_a_result_unless_outputs_are_not_recorded() -> None:
    """The SDK writes what is empty as null; where it writes no data at all, nothing is known."""
    found = found_in()
    found[3]["span_data"]["output"] = None
    told = read(*found).calls[0]
    for one in found:
        if one["object"] == "trace.span":
            one["span_data"] |= {"input": None, "output": None}
    silent = read(*found).calls[0]

    assert told.result == ""
    assert silent.result is None
    assert silent.arguments is None


def test_a_span_without_its_data_is_a_span() -> None:
    """An exporter may leave data out: what is left is no flaw."""
    case = read({"object": "trace.span", "id": "s", "trace_id": "t", "parent_id": None})

    assert (case.steps, case.flaws) == (1, ())


def test_a_guardrail_that_triggered_is_an_act() -> None:
    """What a guardrail held back is told; one that let pass is not."""
    case = read(
        *found_in(),
        span(1, "guardrail", name="no_secrets", triggered=True),
        span(2, "guardrail", name="polite", triggered=False),
    )

    assert [(act.step, act.rule, act.quote) for act in case.acts] == [
        (6, "guardrail.triggered", "no_secrets")
    ]


def test_a_handoff_is_no_call_and_changes_who_acts() -> None:
    """A call that hands over is none of a tool; from then on the other agent acts."""
    other = span(3, "agent", name="billing", handoffs=[], tools=["refund"], output_type="str")
    other["parent_id"] = None
    history = [{"role": "user", "content": "Cancel order #A1001."}]
    handing = {
        "id": "call_9",
        "type": "function",
        "function": {"name": "transfer_to_billing", "arguments": "{}"},
    }
    asked = {"role": "assistant", "content": None, "tool_calls": [handing]}
    result = {"role": "tool", "tool_call_id": "call_9", "content": '{"assistant": "billing"}'}
    refund = span(5, "function", name="refund", input="{}", output="refunded")
    refund["parent_id"] = "more_3"
    case = read(
        *found_in()[:2],
        span(1, "generation", model="m", input=history, output=[asked]),
        span(2, "handoff", from_agent="shop", to_agent="billing"),
        other,
        span(4, "generation", model="m", input=[*history, asked, result], output=[]),
        refund,
    )

    assert [(call.name, call.actor) for call in case.calls] == [("refund", "billing")]
    assert [text.text for text in case.texts] == ["Cancel order #A1001."]


def test_a_response_shows_its_prompt_where_an_exporter_adds_it() -> None:
    """Of a `response` there is only its usage, unless input and response were added."""
    bare = read(span(1, "response", response_id="r", usage={"input_tokens": 7}))
    items = [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]
    output = [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
    ]
    full = read(span(1, "response", input=items, response={"output": output, "model": "m"}))

    assert (bare.asks[0].prompt, bare.asks[0].input_tokens) == (None, 7)
    assert not bare.shown(Facet.PROMPTS)
    assert [(t.role, t.text) for t in full.texts] == [("user", "Hello"), ("assistant", "Hi")]
    assert full.asks[0].model == "m"


@settings(max_examples=60)
@given(st.lists(json_values, max_size=6))
def test_whatever_is_there_is_read(documents: list[Any]) -> None:
    """No input is an error, and all that is told lies within it."""
    check_sound(FORMAT, documents)


@settings(max_examples=60)
@given(st.data())
def test_whatever_becomes_of_spans_is_read(data: st.DataObject) -> None:
    """Spans with any of their values replaced by anything are still read."""
    found = found_in()
    for _ in range(data.draw(st.integers(1, 4))):
        one = data.draw(st.sampled_from(found))
        held = data.draw(st.sampled_from([one, one.get("span_data") or one]))
        if isinstance(held, dict) and held:
            held[data.draw(st.sampled_from(sorted(held)))] = data.draw(json_values)

    check_sound(FORMAT, found)

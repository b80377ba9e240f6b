"""Spans that are broken in any way are read as far as they can be, and what is wrong is told."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doctor.spanning import TRACE, document, read, span
from tests.doctor.test_otlp import new
from undercroft.doctor.importers.otlp import FORMAT
from undercroft.doctor.importers.otlp_spans import is_log
from undercroft.model.case import Case, Facet

TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get"}


def tools(*more: dict[str, Any]) -> list[dict[str, Any]]:
    """Return an agent's span, two calls under it, and more."""
    root = span(0, "agent", {"gen_ai.operation.name": "invoke_agent"}, took_s=9)
    return [root, span(1, "get", TOOL, parent=0), span(2, "get", TOOL, parent=0), *more]


def flaws(*spans: Any) -> dict[str, tuple[int, ...]]:
    """Return what is wrong with spans: by kind, the steps."""
    found: dict[str, tuple[int, ...]] = {}
    for flaw in read(document(*spans)).flaws:
        found[flaw.kind] = tuple(sorted((*found.get(flaw.kind, ()), *flaw.steps)))
    return found


def changed(made: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a span with other fields; without those that are None."""
    held = {**made, **fields}
    return {key: value for key, value in held.items() if value is not None}


def test_a_healthy_trace_has_no_flaw() -> None:
    """Nothing is wrong with spans in the order of their ends, or under a caller elsewhere."""
    made = tools()
    assert flaws(*made) == {}
    assert flaws(*made[1:], made[0]) == {}
    caller = changed(made[0], parentSpanId="ffffffffffffffff")
    assert flaws(caller, *made[1:]) == {}


def test_what_is_wrong_with_the_tree_is_told() -> None:
    """Cycles, parents that are not there, ids that are missing or there twice: each is a flaw."""
    one, two, three = tools()
    assert "cycle" in flaws(changed(one, parentSpanId=two["spanId"]), two, three)
    assert "cycle" in flaws(one, changed(two, parentSpanId=two["spanId"]), three)
    assert flaws(one, two, changed(three, parentSpanId="dead00000000beef")) == {"cut_off": (2,)}
    assert flaws(one, two, changed(three, spanId=None)) == {"missing_id": (2,)}
    assert "duplicate_id" in flaws(one, two, changed(three, spanId=two["spanId"]))
    assert flaws(one, "not a span", two, None) == {"unreadable": (1, 3)}


def test_what_is_wrong_with_times_is_told() -> None:
    """An end before the begin, or a begin before the parent's, is a flaw; no time is none."""
    one, two, three = tools()
    backwards = changed(three, endTimeUnixNano=str(int(three["startTimeUnixNano"]) - 10**9))
    assert flaws(one, two, backwards) == {"negative_duration": (2,)}
    case = read(document(one, two, backwards))
    assert case.calls[1].took_s is None
    early = changed(three, startTimeUnixNano=str(int(one["startTimeUnixNano"]) - 10**9))
    assert "out_of_order" in flaws(one, two, early)
    bare = [changed(s, startTimeUnixNano=None, endTimeUnixNano=None) for s in (one, two, three)]
    case = read(document(*bare))
    assert not case.flaws
    assert not case.shows & {Facet.TIMES, Facet.DURATIONS}
    assert case.finished is None


def test_a_span_that_was_sent_twice_is_one_call() -> None:
    """What a collector delivered twice did not happen twice."""
    one, two, three = tools()
    assert len(read(document(one, two, two, three)).calls) == 2


def test_nothing_at_all_is_told_as_such() -> None:
    """A run without spans has a flaw, and shows nothing."""
    case = FORMAT.case([], "a file")
    assert [flaw.kind for flaw in case.flaws] == ["no_steps"]
    assert not case.shows


@pytest.mark.parametrize("given_order", ["reversed", "by end"])
def test_the_order_in_a_file_is_not_the_order_of_time(given_order: str) -> None:
    """Calls come in the order in which they began, and each step has its place in the input."""
    made = new()
    shuffled = made[::-1] if given_order == "reversed" else [*made[1:], made[0]]
    case, meant = read(document(*shuffled)), read(document(*made))
    assert case.calls == meant.calls
    assert case.texts == meant.texts
    assert [shuffled[place]["spanId"] for place in case.places] == [s["spanId"] for s in made]


# ---------------------------------------------------------------------------- anything

NAMES = st.sampled_from(
    """resourceSpans resource_spans scopeSpans spans traceId trace_id spanId parentSpanId name
    attributes key value stringValue intValue arrayValue values kvlistValue events status code
    message startTimeUnixNano endTimeUnixNano start_time links context span_id body
    gen_ai.operation.name gen_ai.tool.name gen_ai.tool.call.arguments gen_ai.tool.call.result
    gen_ai.input.messages gen_ai.output.messages gen_ai.system_instructions role parts content
    tool_calls function arguments llm.input_messages.0.message.role openinference.span.kind
    llm.output_messages.0.message.tool_calls.0.tool_call.function.name input.value output.value
    gen_ai.prompt.0.role traceloop.span.kind undercroft.turn.id undercroft.step.id
    undercroft.step.kind undercroft.step.number undercroft.prompt.delta undercroft.effect.claims
    undercroft.turn.status undercroft.guard.rule gen_ai.usage.input_tokens error.type""".split()  # noqa: SIM905  a list would be a page
)  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([
        TRACE, "0000000000000001", "chat", "execute_tool", "TOOL", "LLM", "user", "tool", "[{",
        '[{"role": "user", "parts": [1]}]', "\ud800", "model", "1e400", "-1", "AGENT",
        '{"role": 5, "content": {"a": []}}', "gen_ai.choice", "gen_ai.user.message",
    ])
)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=30,
)


def check_in_range(case: Case, records: list[Any]) -> None:
    """Check that what a case names is there; records of logs are no steps."""
    steps = range(case.steps)
    assert case.steps == sum(not is_log(record) for record in records)
    assert sorted(case.places or steps) == list(steps)
    named = [text.step for text in case.texts] + [ask.step for ask in case.asks]
    for call in case.calls:
        named += [call.step, *call.causes]
        named += [one for one in (call.ended, call.parent) if one is not None]
        assert call.batch == -1 or call.batch in steps
        assert call.took_s is None or call.took_s >= 0
    named += [step for flaw in case.flaws for step in flaw.steps]
    named += [act.step for act in case.acts]
    assert all(step in steps for step in named)
    assert [call.step for call in case.calls] == sorted(call.step for call in case.calls)


@settings(max_examples=300)
@given(made=ANYTHING)
def test_anything_can_be_given(made: Any) -> None:
    """Whatever JSON a document is, reading it raises nothing and its steps are in range."""
    assert 0.0 <= FORMAT.fits(made) <= 1.0
    records = list(FORMAT.records(made))
    for record in records:
        assert isinstance(FORMAT.trace_of(record), str)
    check_in_range(FORMAT.case(records, "a file"), records)


@settings(max_examples=150)
@given(data=st.data())
def test_any_damage_to_a_trace_can_be_given(data: st.DataObject) -> None:
    """A real trace of which parts were replaced, dropped or doubled is still read."""
    made: list[Any] = json.loads(json.dumps(new()))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(made) - 1))
        match data.draw(st.sampled_from(["replace", "drop", "double", "lose", "other"])):
            case "replace" if isinstance(made[place], dict):
                made[place][data.draw(NAMES)] = data.draw(ANYTHING)
            case "drop" if isinstance(made[place], dict) and made[place]:
                made[place].pop(data.draw(st.sampled_from(sorted(made[place]))))
            case "double":
                made.insert(data.draw(st.integers(0, len(made))), made[place])
            case "lose" if len(made) > 1:
                made.pop(place)
            case _:
                made[place] = data.draw(ANYTHING)
    check_in_range(FORMAT.case(made, "a file"), made)


def nested(depth: int) -> Any:
    """Return a value that is nested deeper than anything is meant to be."""
    made: Any = "x"
    for _ in range(depth):
        made = {"kvlistValue": {"values": [{"key": "a", "value": made}]}}
    return made


def test_depth_and_size_have_bounds() -> None:
    """Values nested without end, and long runs, are read in time and without an error."""
    deep = span(0, "get", TOOL)
    deep["attributes"].append({"key": "a", "value": nested(200)})
    assert len(FORMAT.case([deep], "a file").calls) == 1
    lists: Any = []
    for _ in range(500):
        lists = [lists]
    assert len(list(FORMAT.records(lists))) <= 1
    many = [span(0, "agent", took_s=9_000)]
    many += [span(n, "get", TOOL, parent=n - 1) for n in range(1, 1_500)]
    began = time.monotonic()
    case = read(document(*many))
    assert time.monotonic() - began < 20
    assert len(case.calls) >= 1

"""OpenAI chat logs: what messages say, in all shapes that they come in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.doctor.importers.openai_chat import FORMAT
from undercroft.doctor.source import read_cases
from undercroft.model.case import Basis, CallStatus, Case, Facet

HI = {"role": "user", "content": "cancel #A1001"}
BYE = {"role": "assistant", "content": "It is done."}
ORDER = {"order_id": "#A1001"}


def call(name: str, arguments: Any = "{}", **more: Any) -> dict[str, Any]:
    """Return a call as a message proposes it."""
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


def asks(*calls: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return a message that proposes calls."""
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **more}


def result(content: Any, **more: Any) -> dict[str, Any]:
    """Return the message with a result."""
    return {"role": "tool", "content": content, **more}


def run(*messages: Any, **more: Any) -> Case:
    """Return the run of a document with these messages."""
    return FORMAT.case(list(FORMAT.records({"messages": list(messages), **more})), "file")


def ends(case: Case) -> list[tuple[str, int, int | None, str | None]]:
    """Return where the calls of a run began and ended."""
    return [(c.name, c.step, c.ended, c.result) for c in case.calls]


def kinds(case: Case) -> set[str]:
    """Return the kinds of the flaws of a record."""
    return {flaw.kind for flaw in case.flaws}


def test_results_belong_to_calls_by_their_ids() -> None:
    """Calls asked for together share a batch, and get their results by id, in any order."""
    case = run(
        HI,
        asks(call("a", id="1"), call("b", id="2")),
        result("of b", tool_call_id="2"),
        result("of a", tool_call_id="1"),
        BYE,
    )

    assert ends(case) == [("a", 1, 3, "of a"), ("b", 1, 2, "of b")]
    assert [c.batch for c in case.calls] == [1, 1]
    assert not case.flaws
    assert case.finished is True
    assert case.delivered == "It is done."


def test_results_without_ids_belong_to_calls_by_name_and_order() -> None:
    """Without ids a result belongs to the first call of its name that has none."""
    case = run(
        asks(call("a"), call("b"), call("a")),
        result("1", name="b"),
        result("2", name="a"),
        result("3", name="a"),
        asks(call("c")),
        result("4"),
    )

    assert ends(case) == [("a", 0, 2, "2"), ("b", 0, 1, "1"), ("a", 0, 3, "3"), ("c", 4, 5, "4")]
    assert not case.flaws


def test_results_without_ids_or_names_belong_to_calls_by_order() -> None:
    """However many calls are asked for together, each gets its result by order alone."""
    calls = asks(*(call(f"t{n % 7}") for n in range(1_500)))
    case = run(calls, *(result(f"of {n}") for n in range(1_500)), result("one too many"))

    assert [c.result for c in case.calls] == [f"of {n}" for n in range(1_500)]
    assert kinds(case) == {"orphan_result"}


@given(st.permutations([0, 1, 2, 3]))
def test_order_of_results_does_not_matter(order: list[int]) -> None:
    """Whatever order results come in, each call gets its own."""
    calls = asks(*(call(f"t{n}", id=str(n)) for n in range(4)))
    case = run(calls, *(result(f"of {n}", tool_call_id=str(n)) for n in order))

    assert [c.result for c in case.calls] == [f"of {n}" for n in range(4)]
    assert [c.ended for c in case.calls] == [1 + order.index(n) for n in range(4)]


def test_an_id_that_is_used_again_means_the_latest_call() -> None:
    """An id used twice is a flaw; each result belongs to the call that was asked for last."""
    case = run(
        asks(call("a", id="1")), result("x", tool_call_id="1"),
        asks(call("b", id="1")), result("y", tool_call_id="1"),
    )  # fmt: skip

    assert ends(case) == [("a", 0, 1, "x"), ("b", 2, 3, "y")]
    assert kinds(case) == {"duplicate_id"}


def test_what_belongs_to_no_call_is_a_flaw_and_stays_readable() -> None:
    """A result of no call, and a second one of a call, are flaws; what they say is kept."""
    case = run(
        result("lost", tool_call_id="9"),
        asks(call("a", id="1")),
        result("x", tool_call_id="1"),
        result("again", tool_call_id="1"),
    )

    assert ends(case) == [("a", 1, 2, "x")]
    assert {(f.kind, f.steps) for f in case.flaws} == {
        ("orphan_result", (0,)),
        ("duplicate_id", (3,)),
    }
    assert [(t.step, t.role, t.text) for t in case.texts] == [
        (0, "other", "lost"),
        (3, "other", "again"),
    ]


def test_ids_are_missing_only_where_others_have_them() -> None:
    """A call without an id is a flaw beside calls with ids, and none in a log without any."""
    assert kinds(run(asks(call("a"), call("b")))) == set()
    assert kinds(run(asks(call("a", id="1"), call("b")))) == {"missing_id"}


@pytest.mark.parametrize(
    "given_",
    ['{"order_id": "#A1001"}', "{'order_id': '#A1001'}", ORDER, json.dumps(json.dumps(ORDER))],
    ids=["json", "python", "object", "json twice"],
)
def test_arguments_are_read_as_they_are_written(given_: Any) -> None:
    """Arguments are the same as JSON, as a Python literal, as an object, and as JSON of JSON."""
    (found,) = run(asks(call("a", given_, id="1"))).calls
    assert found.arguments == ORDER
    assert found.raw == ""


def test_arguments_that_cannot_be_read_are_kept_as_they_are() -> None:
    """What is no object is kept as text, and counts as no arguments."""
    (found,) = run(asks(call("a", '{"order_id": ', id="1"))).calls
    assert found.arguments is None
    assert found.raw == '{"order_id":'


def test_functions_of_old_are_calls() -> None:
    """`function_call`, and the role `function`, are a call and its result."""
    case = run(
        HI,
        {"role": "assistant", "content": None, "function_call": {"name": "a", "arguments": "{}"}},
        {"role": "function", "name": "a", "content": "done"},
    )
    assert ends(case) == [("a", 1, 2, "done")]


def test_items_of_responses_are_messages() -> None:
    """Items of Responses are steps; calls up to the next result are one batch."""
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "cancel #A1001"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "1", "name": "a", "arguments": '{"n": 1}'},
        {"type": "function_call", "call_id": "2", "name": "b", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "2", "output": "of b"},
        {"type": "function_call_output", "call_id": "1", "output": "of a"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Done."}],
        },
    ]
    case = FORMAT.case(list(FORMAT.records(items)), "file")

    assert ends(case) == [("a", 2, 5, "of a"), ("b", 3, 4, "of b")]
    assert [c.batch for c in case.calls] == [2, 2]
    assert [(t.role, t.text, t.step) for t in case.texts] == [
        ("user", "cancel #A1001", 0),
        ("assistant", "Done.", 6),
    ]
    assert FORMAT.fits(items) > 0.9


def test_content_may_be_text_parts_nothing_or_a_refusal() -> None:
    """Parts are joined, a refusal is what the assistant says, and nothing is nothing."""
    case = run(
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "refusal": "I may not."},
        {"role": "user", "content": ""},
    )
    assert [(t.step, t.text) for t in case.texts][:2] == [(0, "a\nb"), (1, "I may not.")]
    assert case.steps == 3


def test_turns_are_counted_by_what_users_say() -> None:
    """The first turn is 0 and begins with the first message; each later one of a user adds one."""
    case = run(
        {"role": "system", "content": "s"}, HI, asks(call("a", id="1")), BYE, HI, asks(call("b"))
    )
    assert [t.turn for t in case.texts] == [0, 0, 0, 1]
    assert [c.turn for c in case.calls] == [0, 1]


def test_how_a_call_ended_is_told_from_its_words() -> None:
    """A result that says that it failed is a call that failed, by inference."""
    case = run(asks(call("a", id="1")), result("Error: user not found", tool_call_id="1"))
    (found,) = case.calls
    assert (found.status, found.status_basis) == (CallStatus.FAILED, Basis.INFERRED)
    assert (found.error, found.error_class) == ("Error: user not found", "domain")
    assert Facet.STATUSES not in case.shows


def test_a_run_that_said_nothing_says_why() -> None:
    """A document without messages is a run without steps, with the error that it states."""
    for document in (
        {"trace_id": "t", "messages": [], "run_error": "boom"},
        {"trace_id": "t", "messages": None, "error": {"message": "boom"}},
        {"trace_id": "t", "run_error": "boom"},
    ):
        assert FORMAT.fits(document) > 0.2
        case = FORMAT.case(list(FORMAT.records(document)), "file")
        assert (case.trace_id, case.steps, case.error) == ("t", 0, "boom")
        assert kinds(case) == {"no_steps"}
        assert not case.shows


def test_times_and_tokens_are_shown_where_messages_have_them() -> None:
    """Times and tokens come from messages that carry them; without any they are not shown."""
    timed = run(
        {**HI, "timestamp": "2025-01-01T00:00:00Z"},
        {
            **asks(call("a", id="1")),
            "timestamp": "2025-01-01T00:00:01Z",
            "usage": {"prompt_tokens": 7},
        },
        {**result("ok", tool_call_id="1"), "timestamp": "2025-01-01T00:00:03Z"},
    )
    assert [c.took_s for c in timed.calls] == [2.0]
    assert [(a.step, a.input_tokens) for a in timed.asks] == [(1, 7)]
    assert timed.shows >= {Facet.TIMES, Facet.DURATIONS, Facet.TOKENS}

    plain = run(HI, asks(call("a", id="1"), index=7), result("ok", tool_call_id="1", index=9))
    assert not plain.shows & {Facet.TIMES, Facet.DURATIONS, Facet.TOKENS, Facet.PROMPTS}
    assert [c.step for c in plain.calls] == [1]


def test_times_that_go_back_are_flaws() -> None:
    """Messages stay in the order of the input; a time that goes back is a flaw, not a duration."""
    case = run(
        {**asks(call("a", id="1")), "timestamp": 1_750_000_010},
        {**result("ok", tool_call_id="1"), "timestamp": 1_750_000_000},
    )
    assert kinds(case) == {"out_of_order", "negative_duration"}
    assert case.calls[0].took_s is None


@pytest.mark.parametrize(
    ("last", "finished"),
    [
        ([BYE], True),
        ([HI], None),
        ([{"role": "user", "content": "###STOP###"}], True),
        ([asks(call("get_order", id="1"))], False),
        ([asks(call("get_order", id="1")), result("x", tool_call_id="1")], False),
        ([asks(call("transfer_to_human_agents", id="1")), result("x", tool_call_id="1")], True),
        ([asks(call("submit_answer", id="1"))], True),
    ],
)
def test_a_run_is_finished_if_its_last_message_is_an_end(last: list[Any], finished: Any) -> None:
    """An answer ends a run, and so does handing over; a call or its result does not."""
    assert run(HI, *last).finished is finished


# --- logs of requests --------------------------------------------------------------------------


def exchange(prompt: list[Any], answer: Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
    """Return the record of a request and its answer."""
    record: dict[str, Any] = {"request": {"model": "gpt-5", "messages": prompt}, **more}
    if answer is not None:
        record["response"] = {
            "choices": [{"message": answer, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": 1},
        }
    return record


def conversation() -> tuple[list[dict[str, Any]], list[Any]]:
    """Return the records of a conversation, and its messages."""
    said: list[Any] = [{"role": "system", "content": "s"}, HI]
    first = asks(call("a", id="1"))
    after = [*said, first, result("ok", tool_call_id="1")]
    return [exchange(said, first), exchange(after, BYE)], [*after, BYE]


def test_requests_of_one_conversation_are_one_run() -> None:
    """What is sent again is the same step; requests stand at the steps of their answers."""
    records, messages = conversation()
    case = FORMAT.case([r for record in records for r in FORMAT.records(record)], "file")
    wanted = run(*messages)

    assert (case.texts, case.calls, case.steps) == (wanted.texts, wanted.calls, wanted.steps)
    assert [(a.step, a.input_tokens, a.stop, a.model) for a in case.asks] == [
        (2, 2, "stop", "gpt-5"),
        (4, 4, "stop", "gpt-5"),
    ]
    assert case.asks[1].prompt == (
        ("system", "s"), ("user", "cancel #A1001"), ("assistant", "a({})"), ("tool", "ok"),
    )  # fmt: skip
    assert case.shows >= {Facet.PROMPTS, Facet.TOKENS}
    assert all(FORMAT.fits(record) > 0.9 for record in records)


def test_a_request_that_leaves_some_out_is_of_the_same_run() -> None:
    """A prompt from which old messages are gone goes on from the last that it shares."""
    records, messages = conversation()
    records.append(exchange([messages[0], messages[-1], HI], BYE))
    case = FORMAT.case(records, "file")

    assert case.steps == len(messages) + 2
    assert len(case.asks[2].prompt or ()) == 3
    assert case.asks[2].step == len(messages) + 1


def test_a_request_that_failed_is_no_answer() -> None:
    """A request without an answer is a request that failed, in the words of the record."""
    case = FORMAT.case([exchange([HI], None, error={"message": "Rate limit reached"})], "file")
    (ask,) = case.asks
    assert (ask.status, ask.error_class, ask.answer) == (CallStatus.FAILED, "overloaded", None)
    assert case.steps == 1


def test_conversations_in_one_file_are_told_apart(tmp_path: Any) -> None:
    """Conversations mixed in a log are runs of their own, though they begin with the same words."""
    mine, _ = conversation()
    theirs, _ = conversation()
    text = json.dumps(theirs).replace('"a"', '"b"').replace('"1"', '"2"')
    mixed = [mine[0], json.loads(text)[0], mine[1], json.loads(text)[1]]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, mixed)))
    found = [one for one in read_cases(path) if isinstance(one, Case)]

    assert [(c.trace_id, [x.name for x in c.calls], c.steps) for c in found] == [
        ("log.jsonl:1", ["a"], 5),
        ("log.jsonl:2", ["b"], 5),
    ]


def test_a_log_that_names_its_conversations_is_parted_by_that(tmp_path: Any) -> None:
    """Requests of one session are one run under its name."""
    records, _ = conversation()
    path = tmp_path / "log.jsonl"
    lines = [{**r, "session_id": name} for r in records for name in ("one", "two")]
    path.write_text("\n".join(map(json.dumps, lines)))
    found = [one for one in read_cases(path) if isinstance(one, Case)]
    assert [(c.trace_id, c.steps, len(c.asks)) for c in found] == [("one", 5, 2), ("two", 5, 2)]


def test_requests_to_responses_are_exchanges() -> None:
    """`input` and `output` of Responses are a request and its answer."""
    record = {
        "request": {"model": "gpt-5", "instructions": "s", "input": "cancel #A1001"},
        "response": {
            "object": "response",
            "output": [{"type": "function_call", "call_id": "1", "name": "a", "arguments": "{}"}],
            "usage": {"input_tokens": 9, "output_tokens": 2},
        },
    }
    case = FORMAT.case([record], "file")
    assert [(c.name, c.step) for c in case.calls] == [("a", 1)]
    assert [(t.role, t.text, t.step) for t in case.texts] == [
        ("system", "s", 0),
        ("user", "cancel #A1001", 0),
    ]
    assert case.asks[0].input_tokens == 9

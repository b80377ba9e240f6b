"""Spans: the tree they stand in, the conversation that their prompts show, and their calls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.doctor.anything import steps_of
from undercroft.doctor.importers.said import Said, Wanted
from undercroft.doctor.importers.spans import Kind, Span, assemble
from undercroft.model.case import CallStatus, Case, Facet

EVERYTHING = frozenset(Facet)
USER, ASSISTANT = "user", "assistant"


def run(*spans: Span | None, whole: bool = False) -> Case:
    """Return the run of some spans."""
    return assemble(spans, trace_id="t", name="spans", can_show=EVERYTHING, whole=whole)


def asked(prompt: Sequence[Said], *answer: Said, began: float | None = None, n: str = "") -> Span:
    """Return a request to a model."""
    return Span(kind=Kind.MODEL, id=n, prompt=tuple(prompt), answer=answer, began=began)


def wants(name: str, call_id: str = "", **arguments: object) -> Said:
    """Return an answer that proposes a call."""
    return Said(ASSISTANT, "", calls=(Wanted(call_id, name, arguments),))


def gave(text: str, call_id: str = "") -> Said:
    """Return the result of a call."""
    return Said("tool", text, call_id=call_id)


def called(name: str, result: str | None = "ok", call_id: str = "", **arguments: object) -> Span:
    """Return a call of a tool."""
    return Span(
        kind=Kind.TOOL, name=name, result=result, call_id=call_id, arguments=arguments, id=name
    )


def texts(case: Case) -> list[tuple[int, str, str]]:
    """Return what was said, by steps."""
    return [(text.step, text.role, text.text) for text in case.texts]


# ---------------------------------------------------------------------------- the conversation


def test_each_message_is_told_once_though_every_prompt_repeats_it() -> None:
    """Of a prompt that repeats the conversation only its end is new."""
    hello, hi, yes = Said(USER, "Hello"), Said(ASSISTANT, "Hi"), Said(USER, "yes")
    case = run(asked([hello], hi), asked([hello, hi, yes], hi), asked([hello, hi, yes, hi, yes]))

    assert texts(case) == [
        (0, USER, "Hello"),
        (0, ASSISTANT, "Hi"),
        (1, USER, "yes"),
        (1, ASSISTANT, "Hi"),
        (2, USER, "yes"),
    ]
    assert [text.turn for text in case.texts] == [0, 0, 1, 1, 2]


def test_a_prompt_of_the_last_messages_only_tells_what_follows_them() -> None:
    """Where prompts show the end of the conversation, what they share with it is known."""
    said = [Said(USER, word) for word in ("one", "no", "two", "no")]
    case = run(asked(said[:2]), asked(said[1:3]), asked(said[2:4]))

    assert [text.text for text in case.texts] == ["one", "no", "two", "no"]


def test_a_compacted_prompt_repeats_nothing() -> None:
    """What a compacted prompt still shows was said before, in whatever order it stands."""
    said = [Said(USER, word) for word in ("one", "two", "three", "four")]
    case = run(asked(said[:3]), asked([Said(USER, "so far: 1"), said[1], said[0], said[3]]))

    assert [text.text for text in case.texts] == ["one", "two", "three", "so far: 1", "four"]


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=8), st.data())
def test_growing_prompts_tell_the_conversation(words: list[str], data: st.DataObject) -> None:
    """Prompts that each go on with the one before tell each message once, in its order."""
    said = [Said(USER if n % 2 else ASSISTANT, word) for n, word in enumerate(words)]
    cuts = sorted(data.draw(st.lists(st.integers(1, len(said)), max_size=4)))
    case = run(*(asked(said[:cut]) for cut in [*cuts, len(said)]))

    assert [(text.role, text.text) for text in case.texts] == [(s.role, s.text) for s in said]


def test_a_text_that_grows_is_one_user_speaking() -> None:
    """Where a prompt is one text that holds the last one, what follows that is new."""
    first = "Answer the question. Question: where is order #A1001?"
    grown = f"{first}\nLooked up: it is open.\nAnswer:"
    case = run(asked([Said(USER, first)]), asked([Said(USER, grown)]))

    assert texts(case) == [(0, USER, first), (1, "other", "Looked up: it is open.\nAnswer:")]


def test_an_agent_under_another_one_does_not_hear_the_user() -> None:
    """What an agent is told by the one above it is no user's word."""
    case = run(
        Span(kind=Kind.AGENT, id="a", name="shop"),
        Span(kind=Kind.MODEL, parent="a", prompt=(Said(USER, "where is it?"),), answer=()),
        Span(kind=Kind.AGENT, id="b", parent="a", name="finder"),
        Span(kind=Kind.MODEL, parent="b", prompt=(Said(USER, "find it"),), answer=()),
    )

    assert texts(case) == [(1, USER, "where is it?"), (3, "other", "find it")]


def test_an_agent_of_which_frameworks_make_several_hears_the_user() -> None:
    """Where no outer agent asks a model itself, the inner one is all that the user talks to."""
    case = run(
        Span(kind=Kind.AGENT, id="a", name="shop"),
        Span(kind=Kind.AGENT, id="b", parent="a", name="agent"),
        Span(kind=Kind.MODEL, parent="b", prompt=(Said(USER, "where is it?"),), answer=()),
    )

    assert texts(case) == [(2, USER, "where is it?")]


# ---------------------------------------------------------------------------- calls


def test_a_call_with_a_span_is_not_told_again_by_messages() -> None:
    """A call that has a span and stands in messages too is one, matched by id or arguments."""
    hello = Said(USER, "Hello")
    for call_id, own_id in (("c1", "c1"), ("c1", ""), ("", "")):
        first = wants("look", call_id, at="x")
        case = run(
            asked([hello], first),
            called("look", "seen", own_id, at="x"),
            asked([hello, first, gave("seen", call_id)], Said(ASSISTANT, "Seen.")),
        )

        assert [(c.name, c.step, c.batch, c.ended) for c in case.calls] == [("look", 1, 0, 1)]


def test_two_equal_calls_are_two() -> None:
    """Each span carries out one proposal, also where proposals are equal."""
    hello, twice = Said(USER, "Hello"), [wants("look", at="x"), wants("look", at="x")]
    case = run(
        asked([hello], twice[0]),
        called("look", at="x"),
        asked([hello, twice[0], gave("ok")], twice[1]),
        replace(called("look", at="x"), id="another"),
    )

    assert [(c.step, c.batch) for c in case.calls] == [(1, 0), (3, 2)]


def test_a_call_without_a_span_is_told_by_messages() -> None:
    """Where a call has no span, messages tell of it: from the answer to the next prompt."""
    hello, first = Said(USER, "Hello"), wants("look", "c1", at="x")
    failed = "Error: connection refused"
    case = run(asked([hello], first), asked([hello, first, gave(failed, "c1")]))

    (call,) = case.calls
    assert (call.step, call.ended, call.result) == (0, 1, failed)
    assert call.status is CallStatus.FAILED


def test_a_call_of_an_earlier_turn_is_told_where_a_prompt_shows_it() -> None:
    """History that a prompt begins with tells calls that were made before this run."""
    before = [Said(USER, "Hello"), wants("look", "c1", at="x"), gave("seen", "c1")]
    case = run(asked([*before, Said(USER, "go on")], Said(ASSISTANT, "Gone.")))

    (call,) = case.calls
    assert (call.step, call.ended, call.batch, call.turn) == (0, 0, -1, 1)


def test_a_call_that_nobody_answers_is_told_without_a_result() -> None:
    """The conversation went on without the result of a call: the call has none."""
    hello, first = Said(USER, "Hello"), wants("look", "c1", at="x")
    case = run(asked([hello], first), asked([hello, first, Said(USER, "Well?")]))

    assert [(c.name, c.ended, c.result) for c in case.calls] == [("look", None, None)]


def test_a_result_of_no_call_is_a_flaw() -> None:
    """A result whose id no call has is told as a flaw of the record."""
    case = run(asked([Said(USER, "Hello"), gave("seen", "c9")]))

    assert [(flaw.kind, flaw.steps) for flaw in case.flaws] == [("orphan_result", (0,))]


def test_the_result_of_a_span_without_one_is_taken_from_messages() -> None:
    """A span that does not hold its result has the one that the next prompt shows."""
    hello, first = Said(USER, "Hello"), wants("look", "c1", at="x")
    case = run(
        asked([hello], first),
        called("look", None, "c1", at="x"),
        asked([hello, first, gave("seen", "c1")]),
    )

    assert [call.result for call in case.calls] == ["seen"]


def test_the_arguments_of_a_span_without_any_are_those_that_were_proposed() -> None:
    """A span that does not hold its arguments has those of the proposal that it carries out."""
    bare = Span(kind=Kind.TOOL, id="b", name="look", call_id="c1", result="seen")
    case = run(asked([Said(USER, "Hello")], wants("look", "c1", at="x")), bare)

    assert [call.arguments for call in case.calls] == [{"at": "x"}]


# ---------------------------------------------------------------------------- the tree


def test_what_is_wrong_with_spans_is_told_and_the_rest_is_read() -> None:
    """Cycles, ids that are missing or given twice and negative durations are flaws."""
    case = run(
        Span(id="a", parent="b"),
        Span(id="b", parent="a"),
        Span(id="c", parent="c"),
        Span(id="d", began=5.0, ended=4.0),
        Span(id="d", name="another"),
        Span(kind=Kind.TOOL, name="look", result="ok"),
        Span(kind=Kind.UNREADABLE, error="17"),
    )

    assert {(flaw.kind, flaw.steps) for flaw in case.flaws} == {
        ("cycle", (0, 1)),
        ("cycle", (2,)),
        ("duplicate_id", (3, 4)),
        ("missing_id", (5,)),
        ("negative_duration", (3,)),
        ("unreadable", (6,)),
    }
    assert [call.name for call in case.calls] == ["look"]


def test_no_ids_at_all_are_no_flaw() -> None:
    """What a format does not give to any span is not missing in one."""
    assert not run(Span(name="a"), Span(name="b")).flaws


def test_no_spans_are_a_flaw() -> None:
    """A run with no steps is told as such."""
    assert [flaw.kind for flaw in run().flaws] == ["no_steps"]


def test_a_span_before_the_one_above_it_is_out_of_order() -> None:
    """A span cannot have begun before the span under which it stands."""
    case = run(Span(id="a", began=100.0), Span(id="b", parent="a", began=40.0))

    assert [(flaw.kind, flaw.steps) for flaw in case.flaws] == [("out_of_order", (1,))]


def test_a_parent_that_is_not_there_was_cut_off_or_called_from_outside() -> None:
    """One absent parent of all is who called the run; absent beside a head, it was cut off."""
    outside = run(Span(id="a", parent="x"), Span(id="b", parent="x"), whole=True)
    cut = run(Span(id="a"), Span(id="b", parent="x"), whole=True)

    assert not outside.flaws
    assert [(flaw.kind, flaw.steps) for flaw in cut.flaws] == [("cut_off", (1,))]


def test_a_span_that_was_exported_twice_counts_once() -> None:
    """An exact copy of a span is a flaw and no second call."""
    one = called("look", at="x")
    case = run(one, one)

    assert len(case.calls) == 1
    assert [flaw.kind for flaw in case.flaws] == ["duplicate_id"]


def test_a_call_that_its_server_records_too_is_one() -> None:
    """A tool's span under one of the same name and arguments is the same call."""
    outer = called("look", None, at="x")
    inner = Span(kind=Kind.TOOL, id="i", parent="look", name="look", result="seen")
    case = run(outer, inner)

    assert [(call.step, call.result) for call in case.calls] == [(0, "seen")]


def test_what_says_nothing_keeps_its_place() -> None:
    """A record that its importer left out is a step all the same."""
    case = run(None, called("look"))

    assert (case.steps, [call.step for call in case.calls]) == (2, [1])


def test_whether_a_run_ended_is_told_as_far_as_its_record_shows() -> None:
    """A run ended with an answer or an error; one that stopped at calls may have been given up."""
    top = Span(kind=Kind.AGENT, id="top", began=1.0, ended=9.0)
    ask = replace(asked([Said(USER, "Hello")], Said(ASSISTANT, "Hi"), began=2.0), parent="top")
    stopped = replace(ask, answer=(wants("look"),))

    assert run(top, ask).finished is True
    assert run(top, stopped).finished is None
    assert run(replace(top, error="boom"), stopped).finished is True
    assert run(replace(top, ended=None), replace(ask, ended=3.0)).finished is False
    assert run(Span(id="a"), Span(id="b")).finished is None


# ---------------------------------------------------------------------------- time


def timed(*spans: Span) -> list[Span]:
    """Return spans that begin one after the other, and end a little later."""
    return [replace(span, began=100.0 + n, ended=100.5 + n) for n, span in enumerate(spans)]


TALK = (
    Span(kind=Kind.AGENT, id="top", name="shop"),
    asked([Said(USER, "Hello")], wants("look", "c1", at="x"), n="m1"),
    replace(called("look", "seen", "c1", at="x"), parent="top"),
    asked([Said(USER, "Hello"), wants("look", "c1", at="x"), gave("seen", "c1")], n="m2"),
)


@given(st.permutations(range(len(TALK))))
def test_spans_in_any_order_tell_the_same(order: list[int]) -> None:
    """Steps are numbered by when spans began; their places in the input are told."""
    spans = timed(*TALK)
    case, straight = run(*(spans[n] for n in order)), run(*spans)

    assert replace(case, places=()) == straight
    assert case.places == (tuple(order.index(n) for n in range(len(order))) if case.places else ())
    assert bool(case.places) == (order != sorted(order))


def test_spans_at_one_time_keep_their_order_also_where_the_newest_is_first() -> None:
    """Of spans with one time the input's order decides, read in the direction that it runs."""
    spans = timed(*TALK)
    spans[2] = replace(spans[2], began=spans[1].began)
    backwards = run(*reversed(spans))

    assert [call.step for call in backwards.calls] == [2]
    assert backwards.places == (3, 2, 1, 0)


def test_a_span_without_a_time_stays_where_it_stands() -> None:
    """A span without a time comes after the one before it in the input."""
    spans = timed(*TALK)
    spans[2] = replace(spans[2], began=None, ended=None)

    assert run(*spans).places == ()
    assert [call.step for call in run(*reversed(spans)).calls] == [2]


spans = st.builds(
    Span,
    kind=st.sampled_from(Kind),
    id=st.sampled_from(["", "a", "b", "c"]),
    parent=st.sampled_from(["", "a", "b", "c", "x"]),
    name=st.sampled_from(["", "look", "find"]),
    began=st.none() | st.floats(1.0, 9.0),
    ended=st.none() | st.floats(1.0, 9.0),
    call_id=st.sampled_from(["", "c1"]),
    arguments=st.none() | st.just({"at": "x"}),
    result=st.none() | st.just("seen"),
    prompt=st.none()
    | st.lists(
        st.sampled_from([Said(USER, "a"), wants("look", "c1", at="x"), gave("seen", "c1")])
    ).map(tuple),
    answer=st.none() | st.sampled_from([(), (wants("look", "c1", at="x"),)]),
    causes=st.sampled_from([(), ("a",), ("x",)]),
)


@given(st.lists(st.none() | spans, max_size=8), st.booleans())
def test_any_spans_make_a_run(found: list[Span | None], whole: bool) -> None:  # noqa: FBT001  drawn
    """Whatever spans say, a run comes of it whose steps are theirs."""
    case = run(*found, whole=whole)

    assert case.steps == len(found)
    assert all(0 <= step < len(found) for step in steps_of(case))
    tools = [one for one in found if one is not None and one.kind is Kind.TOOL]
    proposals = sum(
        len(said.calls)
        for one in found
        if one is not None and one.kind is Kind.MODEL
        for said in (*(one.prompt or ()), *(one.answer or ()))
    )
    assert len(case.calls) <= len(tools) + proposals


def test_a_long_run_is_read_in_time_that_grows_with_what_it_says() -> None:
    """A run of thousands of calls and growing prompts takes seconds, not minutes."""
    said: list[Said] = [Said(USER, "Hello")]
    found: list[Span] = []
    for n in range(300):
        want = wants("look", f"c{n}", at=str(n))
        found += [asked(said, want), called("look", f"seen {n}", f"c{n}", at=str(n))]
        said = [*said, want, gave(f"seen {n}", f"c{n}")]
    began = time.perf_counter()
    case = run(*found)

    assert len(case.calls) == 300
    assert all(call.batch == call.step - 1 for call in case.calls)
    assert time.perf_counter() - began < 20

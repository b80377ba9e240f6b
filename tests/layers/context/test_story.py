"""The story of a session's window: what its events add up to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layers.context.sessions import BEGAN, OLD, POLICY, Session, any_event, example, long, raw
from undercroft.layers.context.items import Fate
from undercroft.layers.context.policy import Section
from undercroft.layers.context.story import CAPPED, tell
from undercroft.layers.context.story_rows import (
    AlarmRow,
    CompactionRow,
    OverflowRow,
    PolicyRow,
    PromptRow,
    Story,
)
from undercroft.layers.observability.state import fold
from undercroft.model.event import (
    NIL,
    AnyEvent,
    ContextCompacted,
    ContextOpened,
    PromptAssembled,
    StepEnded,
    TurnStarted,
    decode_frames,
    encode_frame,
)
from undercroft.model.message import Usage
from undercroft.model.step import Failure, StepStatus


def told(session: Session) -> Story:
    """Return the story of a session."""
    return tell(session.name, session.turns)


def of(story: Story, kind: type[Any]) -> list[Any]:
    """Return the rows of one kind."""
    return [row for row in story.rows if isinstance(row, kind)]


def test_what_happened_is_told_in_order() -> None:
    """Policies, prompts, compactions, alarms and overflows stand as they happened."""
    story = told(example())
    whats = [type(row).__name__.removesuffix("Row").lower() for row in story.rows]
    assert whats == [
        "policy", "prompt", "prompt", "prompt", "prompt", "prompt", "compaction", "prompt",
        "alarm", "policy", "prompt", "compaction", "prompt", "prompt", "overflow",
    ]  # fmt: skip
    assert [turn.turn_id for turn in story.turns] == ["t-000", "t-001", "t-002"]
    assert [t.quality.turn for t in story.turns if t.quality is not None] == [98, 71, None]
    assert story.quality is not None
    assert (story.quality.session, story.quality.seen) == (84, 26)
    assert story.quality.parts["re_asks"] == 0.5
    first = story.turns[0].quality
    assert first is not None
    assert first.parts["repeats"] is None


def test_a_prompt_says_what_it_weighs_and_what_was_cached() -> None:
    """Tokens by section, marks, what was new, hits as expected and as reported."""
    prompt = of(told(example()), PromptRow)[1]
    assert (prompt.step_id, prompt.turn, prompt.tokens, prompt.quality) == ("model.3", 0, 2170, 100)
    assert prompt.sections == {
        "system": 420, "tools": 610, "pins": 60, "ledger": 0, "summaries": 0, "recent": 0,
        "current": 1080,
    }  # fmt: skip
    assert (prompt.limit_tokens, prompt.high_tokens, prompt.low_tokens) == (8000, 6300, 3500)
    assert (prompt.new_items, prompt.new_tokens) == (2, 960)
    assert (prompt.cached_expected, prompt.cached_reported) == (1210, 1210)
    assert prompt.tokens_reported == 2170


def test_a_compaction_says_what_it_did_and_why_not_more() -> None:
    """Before and after, fates, the summary and what it took, why one failed, what fell short."""
    first, second = of(told(example()), CompactionRow)
    assert (first.before, first.after, first.target) == (6530, 4245, 3500)
    assert first.fates == {"elided": 1, "summarised": 3}
    assert first.summary == {"intent": "a refund"}
    assert first.summary_usage == Usage(2610, 240)
    assert [(item.name, item.tool) for item in first.items if item.tool] == [
        ("0.2", "find_orders"), ("0.4", "list_invoices"),
    ]  # fmt: skip
    assert (second.why, second.fates, second.summary) == (
        "overflow",
        {"elided": 3, "dropped": 2},
        None,
    )
    assert "nobody spoke of" in second.failed
    assert second.short.startswith("system, tools")


def test_every_item_is_accounted_for_once() -> None:
    """The last prompt's report has each item under one fate, and their tokens are the prompt's."""
    session = example()
    report = told(session).report
    assert report is not None
    assert [item.id for item in report.items] == sorted(session.items)
    assert sum(reason.items for reason in report.reasons) == len(session.items)
    shown = sum(reason.shown_tokens for reason in report.reasons)
    assert shown == sum(session.sections[5:])
    fates = [(r.fate, r.items, r.tokens, r.shown_tokens) for r in report.reasons]
    assert fates == [
        ("kept", 10, 8140, 8140), ("elided", 4, 3040, 180), ("summarised", 3, 12500, 0),
        ("dropped", 2, 300, 0),
    ]  # fmt: skip
    elided = report.items[2]
    assert (elided.kind, elided.tool, elided.handle) == ("result", "find_orders", "r0.2")


@settings(max_examples=60)
@given(st.data())
def test_any_session_adds_up(data: st.DataObject) -> None:
    """Whatever is added and left out, the report counts every item once and all its tokens."""
    session = Session()
    kinds = st.tuples(st.sampled_from(["user", "assistant", "result"]), st.integers(0, 900))
    for _ in range(data.draw(st.integers(1, 4))):
        session.turn()
        for _ in range(data.draw(st.integers(1, 4))):
            live = [item for item, shown in session.items.items() if shown.shown]
            leaving = data.draw(
                st.lists(st.sampled_from(live), unique=True) if live else st.just([])
            )
            for item in leaving:
                fate = data.draw(st.sampled_from(["elided", "summarised", "dropped"]))
                left = session.items[item].shown // 3 if fate == "elided" else 0
                session.leave([item], fate, OLD, left)
            if leaving:
                session.compact()
            session.prompt(data.draw(st.lists(kinds, max_size=3)))
    story = told(session)
    assert story == told(session)
    report = story.report
    assert report is not None
    assert [item.id for item in report.items] == sorted(session.items)
    assert sum(item.shown_tokens for item in report.items) == sum(session.sections[5:])
    assert sum(reason.tokens for reason in report.reasons) == sum(
        shown.tokens for shown in session.items.values()
    )
    assert of(story, PromptRow)[-1].tokens == sum(session.sections)


def test_what_was_cut_on_arrival_is_elided() -> None:
    """A result that came too large counts with what it had, and with what is shown of it."""
    session = Session()
    session.turn()
    session.prompt([("user", 10)], capped=[("result", 9_000, 1_500)])
    story = told(session)
    assert story.report is not None
    item = story.report.items[1]
    assert (item.fate, item.reason, item.handle) == ("elided", CAPPED, "r0.1")
    assert (item.tokens, item.shown_tokens) == (9_000, 1_500)
    assert of(story, PromptRow)[0].capped == (item,)


def test_a_compaction_that_no_prompt_followed_is_not_shown_by_the_last_one() -> None:
    """The report is that of the last prompt, whatever was decided for the next one."""
    session = Session()
    session.turn()
    session.prompt([("user", 10), ("result", 500)])
    session.leave([1], "dropped", OLD)
    session.compact()
    story = told(session)
    assert story.report is not None
    assert [item.fate for item in story.report.items] == ["kept", "kept"]
    session.prompt()
    report = told(session).report
    assert report is not None
    assert [item.fate for item in report.items] == ["kept", "dropped"]


def test_what_left_before_it_was_ever_shown_is_there_too() -> None:
    """An item that is new and left out with the same prompt has its kind and its fate."""
    session = Session()
    session.turn()
    session.prompt([("user", 10)])
    session.events.append(
        ContextCompacted(2, "overflow", 9000, 4000, 3500, BEGAN,
                         ((1, "dropped", 5000, 0, "the prompt would not fit", ""),))
    )  # fmt: skip
    session.prompt([("result", 5000)])
    report = told(session).report
    assert report is not None
    assert (report.items[1].kind, report.items[1].fate) == ("result", "dropped")
    assert (report.items[1].tokens, report.items[1].shown_tokens) == (5000, 0)


def test_what_a_resumed_turn_notes_again_counts_once() -> None:
    """A prompt, a compaction or an alarm of a step that is noted twice is one row."""
    session = Session()
    session.turn()
    session.prompt([("user", 10), ("result", 500)])
    session.leave([1], "dropped", OLD)
    session.compact()
    session.prompt([("user", 5)])
    session.alarm(50, "less")
    once = told(session)
    session.turns[0] += session.events[2:]
    again = told(session)
    assert [type(row) for row in again.rows] == [type(row) for row in once.rows]
    assert again.report == once.report


def test_only_a_change_of_the_policy_is_a_row() -> None:
    """A turn under the same policy says nothing new; a change names what is other than it was."""
    session = Session()
    for policy in (None, None, replace(POLICY, limit_tokens=9_000), POLICY, None):
        session.turn(policy)
        session.prompt([("user", 10)])
    first, second, third = of(told(session), PolicyRow)
    assert (first.was, first.changed, first.limit_tokens) == ("", {}, 8_000)
    assert second.was == first.hash
    assert second.changed == {"limit_tokens": (8_000, 9_000)}
    assert (third.hash, third.low_tokens) == (first.hash, first.low_tokens)
    assert [p.limit_tokens for p in of(told(session), PromptRow)] == [
        8_000, 8_000, 9_000, 8_000, 8_000,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "settings_of",
    [
        pytest.param(NIL, id="none"),
        pytest.param(raw(7), id="no-mapping"),
        pytest.param(raw({"limit_tokens": "many"}), id="other-names"),
        pytest.param(
            raw({"limit_tokens": -1, "reserved_tokens": 0, "high_share": 2, "low_share": 0.5}),
            id="impossible",
        ),
        pytest.param(msgspec.Raw(b"\xc1"), id="damaged"),
    ],
)
def test_a_policy_that_is_not_known_has_no_marks(settings_of: msgspec.Raw) -> None:
    """Where the journal does not say what a policy holds, nothing is made up."""
    events: list[AnyEvent] = [
        ContextOpened(0, "h", BEGAN, settings_of),
        PromptAssembled(1, 10, 0, (10, 0, 0, 0, 0, 0, 0)),
    ]
    policy, prompt = tell(None, [events]).rows
    assert isinstance(policy, PolicyRow)
    assert isinstance(prompt, PromptRow)
    assert policy.limit_tokens is policy.high_tokens is prompt.limit_tokens is None


def test_results_are_those_of_the_steps_that_a_prompt_names() -> None:
    """Whose a result is follows from the step; of one that an earlier turn left it is not known."""
    session = Session()
    session.turn()
    session.prompt([("result", 5), ("user", 1), ("result", 6)], tools=["get_order"])
    session.prompt([("result", 7)], tools=["get_order", "find_orders"])
    report = told(session).report
    assert report is not None
    assert [item.tool for item in report.items] == ["", "", "get_order", ""]


def test_branches_do_not_mix_with_the_turn_itself() -> None:
    """A branch has items of its own, with the same ids; the report is of the turn itself."""
    session = Session()
    session.turn()
    session.prompt([("user", 10)])
    sections = (1, 0, 0, 0, 0, 0, 70)
    for n in (2, 3):
        session.events.append(
            PromptAssembled(n, 71, 0, sections, ((0, 70, "result"),), branch=f"b{n}")
        )
    story = told(session)
    assert story.report is not None
    assert [(item.kind, item.tokens) for item in story.report.items] == [("user", 10)]
    assert [row.branch for row in of(story, PromptRow)] == ["", "b2", "b3"]


def test_where_only_branches_ask_the_last_of_them_is_reported() -> None:
    """A report is better than none."""
    events: list[AnyEvent] = [
        ContextOpened(0, "h", BEGAN),
        PromptAssembled(1, 5, 0, (0,) * 7, ((0, 5, "user"),), branch="b"),
    ]
    report = tell("s", [events]).report
    assert report is not None
    assert [item.name for item in report.items] == ["0.0"]


def test_a_prompt_that_did_not_fit_is_told() -> None:
    """A prompt that was not sent is marked, and why is told once; other failures are others."""
    story = told(example())
    (overflow,) = of(story, OverflowRow)
    assert (overflow.turn, overflow.n) == (2, 6)
    assert "does not fit" in overflow.error
    assert [row.sent for row in of(story, PromptRow)] == [True] * 8 + [False]
    session = Session()
    session.turn()
    session.prompt([("user", 1)], error=Failure("ValueError", "no"))
    session.end(Failure("ValueError", "no"))
    assert not of(told(session), OverflowRow)
    assert [(row.sent, row.status) for row in of(told(session), PromptRow)] == [(True, "failed")]


def test_an_overflow_without_a_prompt_is_told_by_the_end_of_the_turn() -> None:
    """Whatever the journal knows of it stands there."""
    session = Session()
    session.turn()
    session.end(Failure("ContextOverflowError", "too much"))
    (overflow,) = of(told(session), OverflowRow)
    assert (overflow.n, overflow.error) == (None, "too much")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(NIL, id="nothing"),
        pytest.param(raw("text"), id="text"),
        pytest.param(raw({"usage": "none"}), id="other-usage"),
        pytest.param(raw({"usage": {"input_tokens": "many"}}), id="no-number"),
        pytest.param(msgspec.Raw(b"\xc1"), id="damaged"),
    ],
)
def test_an_answer_without_usage_reports_nothing(value: msgspec.Raw) -> None:
    """What a provider did not say is None and not 0."""
    events: list[AnyEvent] = [
        ContextOpened(0, "h", BEGAN),
        PromptAssembled(1, 5, 0, (0,) * 7),
        StepEnded(1, StepStatus.OK, 1.0, value),
    ]
    prompt = of(tell("s", [events]), PromptRow)[0]
    assert (prompt.cached_reported, prompt.tokens_reported, prompt.status) == (None, None, "ok")
    assert (prompt.at, prompt.quality) == (None, None)


def test_turns_without_a_policy_are_counted_and_no_more() -> None:
    """A turn that assembles nothing under a policy has no rows."""
    session = example()
    bare: list[AnyEvent] = [TurnStarted("t", "workflow", "a:b", b"", raw({}), "s-1", BEGAN)]
    story = tell("s-1", [bare, *session.turns])
    assert (story.other_turns, len(story.turns)) == (1, 3)
    assert story.rows == told(session).rows
    empty = tell("s-1", [bare, []])
    assert (empty.other_turns, empty.rows, empty.report, empty.quality) == (2, (), None, None)


def test_a_story_of_nothing_is_empty() -> None:
    """No turns give no rows."""
    assert tell(None, []) == Story(None, (), 0, (), None, None)


@settings(max_examples=150)
@given(st.lists(st.lists(any_event(st.text(max_size=6)), max_size=8), max_size=4))
def test_any_events_have_a_story(turns: list[list[AnyEvent]]) -> None:
    """Whatever a journal holds, there is a story, and it has each item once."""
    story = tell("s", turns)
    msgspec.json.encode(story)
    if story.report is not None:
        ids = [item.id for item in story.report.items]
        assert len(set(ids)) == len(ids) == sum(reason.items for reason in story.report.reasons)
    for row in of(story, PromptRow):
        assert list(row.sections) == [section.value for section in Section]
        assert min(row.sections.values()) >= 0


def test_a_trace_takes_the_window_s_events_and_loses_nothing() -> None:
    """The record of a turn with a window has all its steps; prompts say how large they were."""
    for events in example().turns:
        frames = [encode_frame([event]) for event in events]
        trace = fold(decode_frames(frames))
        bare = fold(
            e for e in events if not type(e).__name__.startswith(("Context", "PromptAssembled"))
        )
        assert trace is not None
        assert bare is not None
        assert [s.step_id for s in trace.steps] == [s.step_id for s in bare.steps]
        prompts = {e.n: e.tokens for e in events if isinstance(e, PromptAssembled)}
        assert {s.n: s.prompt_tokens for s in trace.steps if s.prompt_tokens is not None} == prompts


def test_a_long_session_is_told_in_a_pass() -> None:
    """What was dropped early stays dropped, over any number of compactions."""
    session = long(120)
    story = told(session)
    assert story.report is not None
    assert len(story.report.items) == 240
    kept = [item for item in story.report.items if item.fate == Fate.KEPT]
    assert sum(item.tokens for item in kept) == sum(session.sections[5:])
    assert all(row.after < row.before for row in of(story, CompactionRow))
    assert not of(story, AlarmRow)

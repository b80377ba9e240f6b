"""The loss report of a prompt: every item once, with one fate, and tokens that add up."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from tests.layers.context.driven import Driven, Quarter, drive
from tests.layers.context.laws import each_item_has_one_fate, summarised_means_in_a_summary
from tests.layers.context.talks import TALKS, WRITERS, Ask, Move, Squeeze, Turn, User, policies
from tests.layers.context.test_compaction import ROOMY, long_talk, text, window
from undercroft.layers.context.counting import Counts
from undercroft.layers.context.items import Fate
from undercroft.layers.context.loss import LossReport
from undercroft.layers.context.policy import ContextPolicy, Section
from undercroft.layers.context.state import Window
from undercroft.model.message import Answer, ToolSpec, Usage
from undercroft.model.step import Call

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@settings(max_examples=60, suppress_health_check=SLOW)
@given(policies(), TALKS, WRITERS)
def test_every_item_is_accounted_for_once(
    policy: ContextPolicy, talk: list[Move], letters: str | None
) -> None:
    """Each is exactly one of kept, elided, summarised, dropped; what is shown adds up."""
    driven = Driven(policy, letters)
    for move in talk:
        driven.move(move)
        each_item_has_one_fate(driven)
        summarised_means_in_a_summary(driven)
        report = driven.window.report()
        by_fate = [line for fate in Fate for line in report.of(fate)]
        assert sorted(map(id, by_fate)) == sorted(map(id, report.lines))
        kept = [item for item in driven.window.items if item.shown is not None]
        named = [line for line in report.lines if line.shown_tokens]
        extra = len(driven.window.messages) - len(kept)
        heads = sum(report.sections[name] > 0 for name in ("ledger", "summaries"))
        assert len(named) == len(kept) + extra - heads


@settings(max_examples=30, suppress_health_check=SLOW)
@given(policies(), TALKS)
def test_fates_of_records_are_those_of_the_report(policy: ContextPolicy, talk: list[Move]) -> None:
    """What the journal says of items, one compaction after the other, is what the report says."""
    driven = drive(policy, talk)
    items = {item.id: item for item in driven.window.items}
    told: dict[int, tuple[str, int, str]] = {}
    for made in filter(None, driven.made):
        for number, fate, before, after, reason, _ in made.fates:
            was = told.get(number)
            if was is not None:
                assert before == was[1]
            elif items[number].tokens <= policy.result_max_tokens:
                assert before == items[number].tokens
            told[number] = (fate, after, reason)
    for number, (fate, tokens, reason) in told.items():
        item = items[number]
        assert (str(item.fate), item.shown_tokens, item.reason) == (fate, tokens, reason)
    for item in driven.window.items:
        assert item.id in told or item.fate is Fate.KEPT or item.handle


def test_a_report_is_plain_data() -> None:
    """It can be written as JSON, names included, and reads back as the same."""
    driven = drive(ROOMY, [*long_talk(30), Squeeze()], "i")
    plain = driven.window.report().plain()
    again = msgspec.json.decode(msgspec.json.encode(plain))
    assert again == plain
    assert {line["fate"] for line in again["items"]} >= {"kept", "summarised"}
    assert list(again["sections"]) == [str(section) for section in Section]
    assert sum(again["sections"].values()) == again["tokens"]


def test_it_names_system_texts_pins_and_tools() -> None:
    """What is never cut is in the report as well, each with its weight."""
    told = window()
    told.system("You help.")
    told.system("You are brief.")
    told.pin("Never promise a refund.")
    told.user("Hello.")
    told.offer([ToolSpec("get", "Gets it.", {"type": "object"})])
    report = told.report()
    assert [(line.item, line.kind, line.section) for line in report.lines] == [
        ("system 1", "system", Section.SYSTEM),
        ("system 2", "system", Section.SYSTEM),
        ("pin 1", "pin", Section.PINS),
        ("0.0", "user", Section.CURRENT),
    ]
    assert report.sections["tools"] > 0
    assert (report.limit_tokens, report.reserved_tokens) == (4_096, 0)


def test_a_result_that_was_cut_says_so() -> None:
    """What came too large is elided from the start: its tokens then and now, and its handle."""
    told = window()
    told.add_answer(Answer("", (Call("get", {}, "c"),)), 1)
    told.add_text_result(text(3_000), "c", "get", 2)
    line = told.report().lines[-1]
    assert (line.fate, line.handle) == (Fate.ELIDED, "r0.1")
    assert line.reason == "larger than a result may be"
    assert line.tokens > 3_000
    assert line.shown_tokens <= 1_024


def test_sections_follow_the_newest_user_message() -> None:
    """What was said before it is recent, and it and what follows is current."""
    driven = drive(ROOMY, [User("One."), Ask("Yes."), Turn(), User("Two."), Ask("Yes.")])
    sections = [line.section for line in driven.window.report().lines]
    assert sections == [Section.RECENT, Section.RECENT, Section.CURRENT, Section.CURRENT]


@pytest.mark.parametrize("factor", [1, 3])
def test_the_estimate_is_what_the_provider_would_count(factor: int) -> None:
    """Beside our count stands what follows from the provider's last report, if there is one."""
    told = window()
    told.user(text(100))
    told.delta()
    assert told.report().estimate == told.report().tokens
    told.asked()
    told.heard(Usage(told.counted_tokens * factor, 1, 0))
    assert told.report().estimate == told.counted_tokens * factor


def test_a_window_without_a_policy_reports_as_well() -> None:
    """Whatever was said is kept, and nobody has counted it."""
    told = Window()
    told.system("You help.")
    told.user("Hello.")
    report = told.report()
    assert isinstance(report, LossReport)
    assert [line.fate for line in report.lines] == [Fate.KEPT, Fate.KEPT]
    assert (report.tokens, report.limit_tokens) == (0, None)


def test_what_a_forgotten_summary_stood_for_is_dropped() -> None:
    """Once its summary is shown no more, nothing stands for an item: it counts as dropped."""
    driven = Driven(ROOMY, "i")
    forgot = 0
    for move in long_talk(200):
        driven.move(move)
        made = driven.made[-1] if driven.made else None
        forgot += made is not None and bool(made.forgot)
        summarised_means_in_a_summary(driven)
    assert forgot


def test_counts_are_those_of_the_messages() -> None:
    """A line's tokens are what its message weighs, as anybody counts it who has the counter."""
    driven = drive(ROOMY, long_talk(10))
    counts = Counts(Quarter())
    lines = [line for line in driven.window.report().lines if line.kind not in ("system", "pin")]
    for line, item in zip(lines, driven.window.items, strict=True):
        assert line.tokens == counts.message(item.message)
        assert line.shown_tokens == (0 if item.shown is None else counts.message(item.shown))

"""What leaves a window that is too full, in which order, and what must not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.layers.context.driven import JUNK, Driven, Quarter, drive
from tests.layers.context.ideal import ideal
from tests.layers.context.talks import (
    TALKS,
    WRITERS,
    Ask,
    Move,
    Results,
    Said,
    User,
    made_up,
    policies,
)
from undercroft.errors import ContextOverflowError
from undercroft.layers.context.counting import Counts
from undercroft.layers.context.items import Fate, Item
from undercroft.layers.context.memory import Memory
from undercroft.layers.context.policy import (
    Action,
    ContextPolicy,
    ContextRule,
    ContextShare,
    Kind,
    Section,
)
from undercroft.layers.context.state import Compaction, Window
from undercroft.layers.context.summaries.summary import Invalid, Summary
from undercroft.model.message import Answer, Usage
from undercroft.model.step import Call

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
NEED = ("the window would soon be full again", "the prompt would not fit")
PLAIN = "no numbers and no names stand here, only words that go on. "
STRENGTH = {action: place for place, action in enumerate(Action)}
LEAST = {
    Fate.ELIDED: Action.ELIDE,
    Fate.SUMMARISED: Action.SUMMARISE,
    Fate.DROPPED: Action.DROP,
}


def window(limit: int = 4_096, *, rules: Iterable[ContextRule] = (), **more: object) -> Window:
    """Return a window that counts four bytes as one token."""
    marks = {"reserved_tokens": 0, "high_share": 0.9, "low_share": 0.4, "rules": tuple(rules)}
    policy = ContextPolicy(limit_tokens=limit, **{**marks, **more})  # type: ignore[arg-type]
    return Window(policy, Counts(Quarter()), Memory())


def text(tokens: int) -> str:
    """Return a text of so many tokens, by four bytes each."""
    return (PLAIN * (tokens * 4 // len(PLAIN) + 1))[: tokens * 4]


def exchange(told: Window, tokens: int, number: int = 0, tool: str = "get") -> None:
    """Let the model call a tool, and see what it returns."""
    call = Call(tool, {}, f"c{number}")
    told.add_answer(Answer("", (call,)), number)
    told.add_text_result(text(tokens), f"c{number}", tool, number)
    sent(told)


def sent(told: Window) -> None:
    """Send the prompt as it is."""
    told.delta()
    told.asked()


def squeezed(told: Window, why: str = "high_water") -> Compaction:
    """Compact a window to which nobody writes summaries."""
    return told.compact(told.plan(why, summarised=False))


def fates(told: Window) -> list[Fate]:
    """Return what became of each item."""
    return [item.fate for item in told.items]


# ---------------------------------------------------------------------- rules


@settings(max_examples=60, suppress_health_check=SLOW)
@given(policies(shared=st.just(())), TALKS, WRITERS)
def test_no_more_is_done_than_the_rules_allow(
    policy: ContextPolicy, talk: list[Move], letters: str | None
) -> None:
    """Without need, content suffers at most what its rule names; what is pinned suffers nothing."""
    driven = drive(policy, talk, letters)
    items = {item.id: item for item in driven.window.items}
    for made in filter(None, driven.made):
        for number, fate, before, _, reason, _ in made.fates:
            item = items[number]
            allowed = policy.rule(item.kind, item.message.name or "")
            assert allowed.action != Action.PIN
            if reason == "over the high-water mark":
                assert STRENGTH[Action(allowed.action)] >= STRENGTH[LEAST[Fate(fate)]]
                if fate == Fate.ELIDED:
                    assert before > allowed.above_tokens


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("action", Action)
def test_each_action_for_each_kind(kind: Kind, action: Action) -> None:
    """What a rule allows is what happens under pressure; a tombstone only stands for no calls."""
    rules = [ContextRule(kind=k, action="pin") for k in Kind if k is not kind]
    rules.append(ContextRule(kind=kind, action=action, above_tokens=20))
    told = window(rules=rules, result_max_share=1.0)
    match kind:
        case Kind.USER:
            told.user(text(3_000))
        case Kind.ASSISTANT:
            told.assistant(text(3_000))
        case Kind.NOTICE:
            told.notice(text(3_000))
        case Kind.CALLS | Kind.RESULT:
            told.add_answer(Answer(text(1_500), (Call("get", {}, "c"),)), 1)
            told.add_text_result(text(1_500), "c", "get", 2)
    told.user("And?")
    sent(told)
    made = squeezed(told)
    first = next(item for item in told.items if item.kind == kind)
    # Calls have no tombstone, and are not dropped without their result, which is pinned.
    stays = action is Action.PIN or kind is Kind.CALLS
    if action is Action.KEEP:  # it fits, so it may be kept; it would soon be full, so need not
        assert first.fate in (Fate.KEPT, Fate.ELIDED)
    else:
        assert first.fate is (Fate.KEPT if stays else Fate.ELIDED)
    assert first.fate is not Fate.KEPT or made.short
    assert told.items[-1].fate is Fate.KEPT


def test_a_rule_for_one_tool_leaves_the_others_alone() -> None:
    """Results of a tool that are kept stay, while those of others go."""
    told = window(rules=[ContextRule(kind="result", action="pin", tool="read_policy")])
    told.user("Hello.")
    for number in range(4):
        exchange(told, 600, 2 * number, "read_policy" if number % 2 else "get")
    told.user("And?")
    sent(told)
    squeezed(told)
    results = [item for item in told.items if item.kind == Kind.RESULT]
    assert {i.fate for i in results if i.message.name == "read_policy"} == {Fate.KEPT}
    assert Fate.KEPT not in {i.fate for i in results if i.message.name == "get"}


def test_a_result_that_was_cut_may_still_be_elided() -> None:
    """What was cut on its arrival can give way to a tombstone, and need not be dropped for it."""
    told = window(rules=[ContextRule(kind="result", action="elide")])
    told.user("Hello.")
    for number in range(3):
        exchange(told, 5_000, number)
    told.user("And?")
    sent(told)
    made = squeezed(told)
    assert made.after <= 4_096 * 0.4
    assert Fate.DROPPED not in fates(told)
    for item in told.items:
        if item.handle:
            assert told.recall(item.handle) == item.message.content


# ---------------------------------------------------------------------- order


def test_large_results_go_before_anything_else() -> None:
    """Elide, then drop: where tombstones are enough, nothing leaves the prompt."""
    told = window()
    told.user("Hello.")
    for number in range(4):
        told.assistant(text(30))
        exchange(told, 900, number)
    told.user("And?")
    sent(told)
    squeezed(told)
    assert Fate.DROPPED not in fates(told)
    gone = [item for item in told.items if item.fate is not Fate.KEPT]
    assert gone == [item for item in told.items if item.kind == Kind.RESULT][: len(gone)]


def test_the_open_turn_is_cut_last() -> None:
    """What came after the newest user message stays as long as older things can go."""
    told = window()
    told.user("Hello.")
    for number in range(3):
        exchange(told, 700, number)
    told.user("And now?")
    for number in range(3, 5):
        exchange(told, 700, number)
    squeezed(told)
    opened = [item for item in told.items if item.kind == Kind.USER][-1]
    assert {item.fate for item in told.items if item.id >= opened.id} == {Fate.KEPT}
    assert Fate.ELIDED in fates(told)


@pytest.mark.parametrize("first", [Section.RECENT, Section.CURRENT])
def test_of_two_sections_the_one_with_the_smaller_number_is_cut_first(first: Section) -> None:
    """Priorities are those that were declared."""
    told = window(
        shares=tuple(
            ContextShare(section=section, priority=1 if section is first else 2)
            for section in (Section.RECENT, Section.CURRENT)
        )
    )
    told.user("Hello.")
    for number in range(2):
        exchange(told, 900, number)
    told.user("And now?")
    for number in range(2, 4):
        exchange(told, 900, number)
    before = told.sections()
    squeezed(told)
    after = told.sections()
    other = Section.CURRENT if first is Section.RECENT else Section.RECENT
    assert after[first] < before[first]
    assert after[other] == before[other] or after[first] < 200


@settings(max_examples=40, suppress_health_check=SLOW)
@given(policies(shared=st.just(())), TALKS, WRITERS)
def test_what_nobody_has_seen_is_the_last_to_go(
    policy: ContextPolicy, talk: list[Move], letters: str | None
) -> None:
    """A result that no prompt has shown yet is only touched where the prompt would not fit."""
    driven, seen = Driven(policy, letters), 0
    for move in talk:
        made = len(driven.made)
        sent_before = len(driven.sent)
        driven.move(move)
        results = {i.id for i in driven.window.items[seen:] if i.kind == Kind.RESULT}
        for one in filter(None, driven.made[made:]):
            touched = {f[0]: f[4] for f in one.fates if f[0] in results}
            assert set(touched.values()) <= {"the prompt would not fit"}
        if len(driven.sent) > sent_before:
            # Its answer came after it was sent.
            seen = len(driven.window.items) - 1


# ---------------------------------------------------------------------- shares


@pytest.mark.parametrize("section", [Section.RECENT, Section.CURRENT])
@pytest.mark.parametrize("least", [0.2, 0.4])
def test_a_section_keeps_its_minimum_while_others_can_be_cut(
    section: Section, least: float
) -> None:
    """A section is not cut below its minimum while the rest of the window can give way."""
    told = window(shares=(ContextShare(section=section, priority=1, min_share=least),))
    told.user("Hello.")
    for number in range(5):
        exchange(told, 380, number)
    told.user("And now?")
    for number in range(5, 10):
        exchange(told, 380, number)
    made = squeezed(told)
    assert told.sections()[section] >= least * 4_096
    assert made.after <= 0.4 * 4_096 or made.short


@settings(max_examples=30, suppress_health_check=SLOW)
@given(policies(), TALKS, WRITERS)
def test_minimums_give_way_only_where_the_prompt_would_not_fit(
    policy: ContextPolicy, talk: list[Move], letters: str | None
) -> None:
    """Compaction under the capacity leaves each section its minimum, or what it had of it."""
    driven = Driven(policy, letters)
    for move in talk:
        driven.move(Ask(move.text, move.calls) if isinstance(move, Ask) else move)
    made = [one for one in driven.made if one is not None]
    for one, (before, after) in zip(made, driven.sizes, strict=True):
        if one.why != "overflow" and not any(fate[4] == NEED[1] for fate in one.fates):
            for section in (Section.RECENT, Section.CURRENT, Section.SUMMARIES):
                least = int(policy.share(section).min_share * policy.capacity_tokens)
                assert after[section] >= min(before[section], least)


@pytest.mark.parametrize("section", [Section.RECENT, Section.CURRENT])
def test_a_section_above_its_maximum_is_cut_alone(section: Section) -> None:
    """Long before the window is full, a section gives way that takes more than its share."""
    told = window(
        32_000, shares=(ContextShare(section=section, priority=1, max_share=0.1),), high_share=1.0
    )
    told.user("Hello.")
    for number in range(8):
        exchange(told, 700, number)
    if section is Section.RECENT:
        told.user("And now?")
        sent(told)
    assert told.pressure() == "share"
    made = squeezed(told, told.pressure())
    assert made.why == "share"
    assert told.sections()[section] <= 0.1 * 32_000
    assert not told.pressure()


def test_a_section_that_cannot_be_cut_is_left_alone() -> None:
    """A share that the rules do not let be kept is tried once, with a reason, and not each time."""
    told = window(
        shares=(ContextShare(section="recent", priority=1, max_share=0.05),),
        rules=[ContextRule(kind="assistant", action="keep")],
    )
    for _ in range(6):
        told.assistant(text(100))
    told.user("Hello.")
    made = squeezed(told, told.pressure())
    assert made.short
    before = told.messages
    assert not told.pressure()
    told.assistant("Yes.")
    assert not told.pressure()
    assert told.messages[: len(before)] == before


# ---------------------------------------------------------------------- nothing is refused in vain


@settings(max_examples=60, suppress_health_check=SLOW)
@given(policies(), TALKS, WRITERS)
def test_a_prompt_is_refused_only_where_nothing_more_can_go(
    policy: ContextPolicy, talk: list[Move], letters: str | None
) -> None:
    """What is left of a prompt that does not fit is what may never be touched."""
    driven = Driven(policy, letters)
    for move in talk:
        refused = driven.overflows
        driven.move(move)
        if driven.overflows > refused:
            # It stands as it stood; but this would have been done if it had helped.
            would = driven.window.plan("overflow", summarised=False).changes
            left = [item for item in driven.window.items if item.id not in would]
            stuck = [item for item in left if item.shown is not None]
            groups: dict[int, list[Item]] = {}
            for item in stuck:
                groups.setdefault(item.group, []).append(item)
            assert all(_may_not_go(policy, group, stuck) for group in groups.values())


def _may_not_go(policy: ContextPolicy, group: Sequence[Item], stuck: Sequence[Item]) -> bool:
    rules = [policy.rule(item.kind, item.message.name or "") for item in group]
    users = [item for item in stuck if item.kind == Kind.USER]
    return any(rule.action == Action.PIN for rule in rules) or users[-1:] == list(group)


@pytest.mark.parametrize("letters", [None, "i", "f"])
def test_a_kind_that_may_be_summarised_blocks_nothing(letters: str | None) -> None:
    """Where there is no room for a summary of it, it goes another way before a prompt fails."""
    policy = ContextPolicy(
        limit_tokens=1_024,
        reserved_tokens=0,
        shares=(ContextShare(section="summaries", priority=1, max_share=0.01),),
        rules=tuple(ContextRule(kind=kind, action="summarise") for kind in Kind),
    )
    talk: list[Move] = []
    for _ in range(10):
        talk += [Said(text(150)), User("Go on."), Ask("Yes.")]
    driven = drive(policy, talk, letters)
    assert not driven.overflows


def test_a_message_larger_than_the_window_is_named() -> None:
    """The error says which message it is and what to do, and carries the numbers."""
    told = window(1_024)
    told.system("You help.")
    told.user(text(2_000))
    told.delta()
    squeezed(told, told.pressure())
    with pytest.raises(ContextOverflowError, match=r"Item 0\.0, a user message") as caught:
        told.check_fits()
    assert caught.value.tokens > caught.value.limit_tokens == 1_024
    told.user("Sorry: hello.")
    squeezed(told, told.pressure())
    told.check_fits()
    assert [message.content for message in told.messages][-1] == "Sorry: hello."


# ---------------------------------------------------------------------- summaries

ROOMY = ContextPolicy(
    limit_tokens=4_096,
    reserved_tokens=0,
    high_share=0.8,
    low_share=0.4,
    summarise_above_tokens=100,
    shares=(ContextShare(section="summaries", priority=30, max_share=0.3),),
)


def long_talk(exchanges: int) -> list[Move]:
    """Return a talk that fills a window again and again."""
    talk: list[Move] = []
    for number in range(exchanges):
        calls = (Call("get_order", {"order_id": f"#A{1000 + number}"}, "c"),)
        found = f"order #A{1000 + number} holds SKU{number}, " + text(60)
        talk += [User(f"What of #A{1000 + number}?"), Ask("", calls)]
        talk += [Results(((0, found),)), Ask(text(120))]
    return talk


def test_a_summary_stands_for_what_it_covers() -> None:
    """What was summarised is in one summary that is shown, and that is smaller than it was."""
    driven = drive(ROOMY, long_talk(60), "i")
    made = [one for one in driven.made if one is not None and one.summary is not None]
    assert made
    counts = driven.counts
    for one in made:
        assert one.summary is not None
        covered = [fate for fate in one.fates if fate[1] == Fate.SUMMARISED]
        assert {fate[0] for fate in covered} <= set(one.summary.covers)
        assert counts.text(str(one.summary.facts)) < sum(fate[2] for fate in covered) * 2
        assert one.after < one.before
    assert driven.window.sections()[Section.SUMMARIES] > 0


@pytest.mark.parametrize("letters", ["f", "j", "jf"])
def test_a_failed_summary_changes_nothing(letters: str) -> None:
    """Prompts are those of a window that nobody writes summaries for: elided and dropped."""
    talk = long_talk(40)
    with_failures, without = drive(ROOMY, talk, letters), drive(ROOMY, talk)
    assert [one.messages for one in with_failures.sent] == [one.messages for one in without.sent]
    failed = [one.failed for one in with_failures.made if one is not None and one.failed]
    assert len(failed) == ROOMY.summary_failures_max
    assert not with_failures.window.summaries


@settings(max_examples=40, suppress_health_check=SLOW)
@given(policies(), TALKS, st.sampled_from(("f", "j")))
def test_no_failed_summary_ever_changes_anything(
    policy: ContextPolicy, talk: list[Move], letters: str
) -> None:
    """As above, of any talk and under any policy."""
    with_failures, without = drive(policy, talk, letters), drive(policy, talk)
    if any(one is not None and one.failed for one in with_failures.made):
        assert not with_failures.window.summaries
    assert with_failures.told == without.told
    assert [item.message for item in with_failures.window.items] == with_failures.told


@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_no_summary(junk: str) -> None:
    """Nothing, prose, inventions, orders and endless texts are refused, and change nothing."""
    driven = Driven(ROOMY)
    told = driven.window
    for move in long_talk(60):
        driven.move(move)
        if told.counted_tokens > ROOMY.high_tokens * 0.9:
            break
    plan = told.plan("high_water", summarised=True)
    assert plan.covered
    before = told.messages, told.report(), fates(told), told.tokens
    found = told.read_summary(plan, junk)
    assert isinstance(found, Invalid)
    assert found.problem
    assert (told.messages, told.report(), fates(told), told.tokens) == before
    good = told.read_summary(plan, ideal(told.summary_request(plan), count=Quarter().count))
    assert isinstance(good, Summary)


def test_three_failures_in_a_row_stop_the_trying() -> None:
    """After so many failures nobody is asked again, and the window goes on without."""
    driven = drive(ROOMY, long_talk(80), "f")
    assert driven.writer is not None
    assert driven.writer.asked == ROOMY.summary_failures_max
    assert not driven.window.may_summarise
    assert not driven.overflows


def test_a_good_summary_begins_the_count_anew() -> None:
    """Two failures, a good one, and so on: the trying never stops."""
    driven = drive(ROOMY, long_talk(160), "ffi")
    assert driven.writer is not None
    assert driven.writer.asked > 2 * ROOMY.summary_failures_max
    assert driven.window.may_summarise
    failed = [one.failed for one in driven.made if one is not None and one.failed]
    assert set(failed) == {"the model gave no answer"}


def test_older_summaries_are_merged_when_there_is_no_room() -> None:
    """However long the talk, summaries keep to their share, and nothing is covered twice."""
    driven = drive(ROOMY, long_talk(200), "i")
    summaries = driven.window.summaries
    assert len({one.id for one in summaries}) == len(summaries)
    covered = [item for one in summaries for item in one.covers]
    assert len(set(covered)) == len(covered)
    assert driven.window.sections()[Section.SUMMARIES] <= 0.3 * 4_096
    assert any(one is not None and one.forgot for one in driven.made)


# ---------------------------------------------------------------------- usage


@pytest.mark.parametrize("usage", ["none", "true", "zero", "half", "negative", "absurd", "huge"])
def test_no_report_of_a_provider_empties_a_window(usage: str) -> None:
    """Reports that cannot be true change no prompt of a talk that fits."""
    talk: list[Move] = []
    for number in range(20):
        talk += [User(f"Question {number}?"), Ask(text(20), (), usage)]
    driven = drive(ContextPolicy(limit_tokens=8_192, reserved_tokens=0), talk)
    assert not any(driven.made)
    assert len(driven.sent) == 20


def test_what_the_provider_counts_more_is_believed() -> None:
    """Where the provider counts half as much again, a window is compacted that much earlier."""
    told = window()
    for _ in range(26):
        told.assistant(text(100))
    told.user("Hello.")
    sent(told)
    assert not told.pressure()
    told.heard(Usage(told.counted_tokens * 3 // 2, 1, 0))
    assert told.pressure()
    made = squeezed(told, told.pressure())
    assert made.after <= 4_096 * 0.4
    assert told.counted_tokens < 4_096 * 0.4 / 1.4


# ---------------------------------------------------------------------- speed


class Counting(Quarter):
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def count(self, text: str) -> int:
        """Return the tokens."""
        self.asked += 1
        return super().count(text)


@pytest.mark.parametrize("size", [200, 800])
def test_compaction_counts_no_more_than_there_is(size: int) -> None:
    """A plan and what it does ask for tokens a few times an item, however many items there are."""
    counter = Counting()
    told = Window(
        ContextPolicy(limit_tokens=40 * size, reserved_tokens=0), Counts(counter), Memory()
    )
    for number in range(size):
        told.user(f"Number {number}?")
        exchange(told, 70, number)
    asked, items = counter.asked, len(told.items)
    squeezed(told)
    assert counter.asked - asked <= 8 * items


def test_a_talk_of_many_turns_is_kept_small() -> None:
    """Many turns under a small window: never over, never refused."""
    driven = drive(ContextPolicy(limit_tokens=2_048, reserved_tokens=128), made_up(3, 150), "i")
    assert driven.turn > 10
    assert not driven.overflows
    assert all(one.tokens <= 1_920 for one in driven.sent)

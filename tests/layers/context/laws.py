"""What holds of every window after every move: each law is a function that asserts it."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.layers.context.driven import Driven
from undercroft.layers.context.items import Fate
from undercroft.layers.context.loss import Line
from undercroft.layers.context.policy import Action, Section
from undercroft.layers.context.summaries.record import entries
from undercroft.model.message import Message

_HANDLE = re.compile(r"^r\d+\.\d+$")


def history_is_intact(driven: Driven) -> None:
    """What was told is kept as it was told, whatever the prompt shows of it."""
    assert [item.message for item in driven.window.items] == driven.told


def fits_or_was_refused(driven: Driven) -> None:
    """What is sent has at most the capacity, as counted by somebody else."""
    if driven.sent:
        assert driven.sent[-1].tokens + driven.policy.reserved_tokens <= driven.policy.limit_tokens
    window, counts = driven.window, driven.counts
    counted = counts.base + sum(counts.message(message) for message in window.messages)
    assert window.counted_tokens - window.sections()[Section.TOOLS] == counted
    assert sum(window.sections().values()) == window.counted_tokens


def no_orphans(driven: Driven) -> None:
    """Each result follows its call, and each call has its result, unless it is open still."""
    pending: list[str | None] = []
    for message in driven.window.messages:
        pending += [call.id for call in message.calls]
        if message.role == "tool":
            assert message.call_id in pending, "a result without its call"
            pending.remove(message.call_id)
    assert sorted(map(str, pending)) == sorted(driven.open), "a call without its result"


def open_calls_are_untouched(driven: Driven) -> None:
    """What proposes a call that has no result yet is in the prompt as it came."""
    for item in driven.window.items:
        if item.pending:
            assert item.fate is Fate.KEPT
            assert item.message in driven.window.messages


def pins_once_and_identical(driven: Driven) -> None:
    """System texts come first, then each pin, once, byte for byte, in the order in which they came.

    A pin that a system text says already is not said again.
    """
    said = [m.content for m in driven.window.messages if m.role == "system"]
    assert said == [*driven.said, *(pin for pin in driven.pins if pin not in driven.said)]
    assert [m.role for m in driven.window.messages[: len(said)]] == ["system"] * len(said)


def order_is_kept(driven: Driven) -> None:
    """What is shown of the conversation stands in its order, each item once."""
    window = driven.window
    live = [item.shown for item in window.items if item.shown is not None]
    messages = list(window.messages)
    assert messages[len(messages) - len(live) :] == live
    kept = [item.message for item in window.items if item.fate is Fate.KEPT]
    places = iter(messages)
    assert all(message in places for message in kept)  # a subsequence


def newest_user_is_verbatim(driven: Driven) -> None:
    """What the user said last stands in the prompt as it was said."""
    if driven.newest_user is not None:
        assert Message("user", driven.newest_user) in driven.window.messages


def identity_without_pressure(driven: Driven) -> None:
    """A window that was never too full shows the conversation itself."""
    window = driven.window
    capped = any(item.handle for item in window.items)
    if not capped and not any(driven.made):
        head = [m for m in window.messages if m.role == "system"]
        assert list(window.messages) == [*head, *driven.told]


def prefix_is_stable(driven: Driven) -> None:
    """Until the window is compacted, or its head is another, prompts only grow at their end."""
    if driven.sent and not driven.headed:
        before = driven.sent[-1].messages
        assert driven.window.messages[: len(before)] == before


def each_item_has_one_fate(driven: Driven) -> None:
    """A loss report names each item once, and what it says of tokens adds up."""
    window = driven.window
    report = window.report()
    lines = [line for line in report.lines if line.kind not in ("system", "pin")]
    assert [line.item for line in lines] == [item.name for item in window.items]
    for line in report.lines:
        _line_is_true(line, driven)
    sections = report.sections
    assert sum(sections.values()) == report.tokens == window.counted_tokens
    by_section = dict.fromkeys(Section, 0)
    for line in report.lines:
        by_section[line.section] += line.shown_tokens
    assert by_section[Section.SYSTEM] + driven.counts.base == sections["system"]
    for section in (Section.PINS, Section.RECENT, Section.CURRENT):
        assert by_section[section] == sections[section], section


def _line_is_true(line: Line, driven: Driven) -> None:
    match line.fate:
        case Fate.KEPT:
            assert line.shown_tokens == line.tokens
            assert not line.reason
        case Fate.ELIDED:
            assert 0 < line.shown_tokens < line.tokens
            assert line.reason
            assert driven.turn or _HANDLE.match(line.handle)
        case _:
            assert not line.shown_tokens
            assert line.reason


def summarised_means_in_a_summary(driven: Driven) -> None:
    """An item counts as summarised as long as a summary that is shown stands for it."""
    window = driven.window
    told = [item.id for item in window.items if item.fate is Fate.SUMMARISED]
    covered = [item for summary in window.summaries for item in summary.covers]
    assert sorted(covered) == told


def facts_cite_what_exists(driven: Driven) -> None:
    """Each entry of a summary cites items that exist and that it stands for."""
    known = {item.id for item in driven.window.items}
    for summary in driven.window.summaries:
        assert known.issuperset(summary.covers)
        for placed in entries(summary):
            assert placed.entry.sources
            assert set(placed.entry.sources) <= set(summary.covers)


def handles_resolve(driven: Driven) -> None:
    """A handle that a loss report names stands for all that was left out, whole or in pieces."""
    window = driven.window
    texts = {item.name: item.message.content for item in window.items}
    for line in window.report().lines:
        if line.handle:
            text = texts[line.item]
            middle = len(text) // 2
            assert window.recall(line.handle) == text
            pieces = window.recall(line.handle, 0, middle), window.recall(line.handle, middle)
            assert "".join(pieces) == text


def low_water_or_a_reason(driven: Driven) -> None:
    """After a compaction the window is down to its low-water mark, or it says why not."""
    made = driven.made[-1] if driven.made else None
    if made is not None:
        assert made.after <= driven.policy.low_tokens or made.short


def groups_go_as_one(driven: Driven) -> None:
    """A call and its results leave the prompt together."""
    gone: dict[int, set[bool]] = {}
    for item in driven.window.items:
        left = item.fate in (Fate.DROPPED, Fate.SUMMARISED)
        gone.setdefault(item.group, set()).add(left)
    assert all(len(left) == 1 for left in gone.values())


def compaction_makes_no_prompt_larger(driven: Driven) -> None:
    """What was compacted is no larger than it was, as we count."""
    for before, after in driven.sizes:
        assert sum(after.values()) <= sum(before.values())


def sections_keep_their_maximum(driven: Driven) -> None:
    """What we write into a prompt ourselves takes no more of it than its share."""
    sections, policy = driven.window.sections(), driven.policy
    for section in (Section.LEDGER, Section.SUMMARIES):
        most = policy.share(section).max_share * policy.capacity_tokens
        assert sections[section] <= most, section


def pinned_kinds_are_untouched(driven: Driven) -> None:
    """What a rule pins stands in the prompt as it came."""
    for item in driven.window.items:
        rule = driven.policy.rule(item.kind, item.message.name or "")
        if rule.action == Action.PIN:
            assert item.fate is Fate.KEPT


def cached_tokens_are_of_a_common_prefix(driven: Driven) -> None:
    """What is said to be cached is no more than what the last prompt and this one begin with."""
    window, counts = driven.window, driven.counts
    if not driven.frozen:
        return  # the turn has not said yet how its prompts begin
    before = driven.sent[-1].messages if driven.sent else ()
    common = counts.base + window.sections()[Section.TOOLS]
    for old, new in zip(before, window.messages, strict=False):
        if old != new:
            break
        common += counts.message(new)
    assert 0 <= window.cached_tokens <= common


def breakpoints_are_places(driven: Driven) -> None:
    """What is worth caching ends at the last message, and at that of the prompt before."""
    places, size = driven.window.breakpoints, len(driven.window.messages)
    assert list(places) == sorted(set(places))
    assert len(places) <= 4
    if size:
        assert places[-1] == size - 1
        assert places[0] >= 0
    if driven.sent and not driven.headed and driven.sent[-1].messages:
        assert len(driven.sent[-1].messages) - 1 in places


LAWS: tuple[Callable[[Driven], None], ...] = (
    history_is_intact,
    fits_or_was_refused,
    no_orphans,
    open_calls_are_untouched,
    pins_once_and_identical,
    order_is_kept,
    newest_user_is_verbatim,
    identity_without_pressure,
    prefix_is_stable,
    each_item_has_one_fate,
    summarised_means_in_a_summary,
    facts_cite_what_exists,
    handles_resolve,
    low_water_or_a_reason,
    groups_go_as_one,
    compaction_makes_no_prompt_larger,
    sections_keep_their_maximum,
    pinned_kinds_are_untouched,
    cached_tokens_are_of_a_common_prefix,
    breakpoints_are_places,
)

"""What was left out can be fetched back, the same bytes, for as long as was declared."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layers.context.driven import Quarter
from tests.layers.context.talks import LARGE, TEXTS
from undercroft.errors import ContextError
from undercroft.layers.context.counting import Counts
from undercroft.layers.context.items import Fate, Item, item_id, item_name
from undercroft.layers.context.memory import Memory
from undercroft.layers.context.policy import ContextPolicy, ContextRule, Kind
from undercroft.layers.context.state import Window
from undercroft.layers.context.tombstone import (
    EXCERPT_CHARS,
    capped,
    handle_of,
    item_of,
    piece,
    telling_words,
    tombstone,
)
from undercroft.model.message import Answer, Message
from undercroft.model.step import Call

IDS = st.builds(item_id, st.integers(0, 10**6), st.integers(0, 2**20 - 1))
HANDLE = re.compile(r'recall\(handle="(r\d+\.\d+)"(?:, start=(\d+))?\)')
COUNT = Quarter().count


def window(limit: int = 2_048, **more: object) -> Window:
    """Return a window in which anything may be elided."""
    rules = tuple(ContextRule(kind=kind, action="elide", above_tokens=1) for kind in Kind)
    settings_ = {"reserved_tokens": 0, "high_share": 0.9, "low_share": 0.2, "rules": rules}
    policy = ContextPolicy(limit_tokens=limit, **{**settings_, **more})  # type: ignore[arg-type]
    return Window(policy, Counts(Quarter()), Memory())


def result(told: Window, text: str, number: int = 0) -> None:
    """Add the result of a call."""
    told.add_answer(Answer("", (Call("get", {}, f"c{number}"),)), number)
    told.add_text_result(text, f"c{number}", "get", number)


def squeeze(told: Window) -> None:
    """Compact the window, needed or not."""
    told.delta()
    told.asked()
    told.compact(told.plan("high_water", summarised=False))


# ---------------------------------------------------------------------- handles


@given(IDS)
def test_a_handle_stands_for_its_item(item: int) -> None:
    """Every item has one handle, and every handle one item."""
    assert item_of(handle_of(item)) == item
    assert item_of(f"  {handle_of(item)}\n") == item
    assert handle_of(item) == f"r{item_name(item)}"


@given(st.text(max_size=12) | st.sampled_from(["r1", "1.2", "r1.2.3", "r-1.2", "r1.-2", "R1.2"]))
def test_what_is_no_handle_stands_for_nothing(text: str) -> None:
    """A text that a model made up is no item, and no error but the typed one."""
    item = item_of(text)
    if item is None:
        with pytest.raises(ContextError, match="nothing was left out under that handle"):
            window().recall(text)
    else:
        assert re.fullmatch(r"\s*r\d+\.\d+\s*", text)


@pytest.mark.parametrize(
    "text", ["r0.9999999", f"r0.{2**20}", "r" + "9" * 5_000 + ".1", "r0.1" * 9]
)
def test_a_handle_beyond_all_items_stands_for_nothing(text: str) -> None:
    """No handle reaches into the numbers of another turn."""
    assert item_of(text) is None


def test_only_what_was_left_out_can_be_recalled() -> None:
    """An item that stands in the prompt needs no handle, and has none."""
    told = window()
    told.user("Hello.")
    result(told, "all of it")
    for handle in ("r0.0", "r0.1", "r0.2", "r7.7", ""):
        with pytest.raises(ContextError):
            told.recall(handle)


# ---------------------------------------------------------------------- the same bytes


@settings(max_examples=80)
@given(st.lists(LARGE, min_size=1, max_size=4), st.booleans())
def test_handles_stand_for_the_same_bytes(texts: list[str], recall: bool) -> None:  # noqa: FBT001
    """What was elided or cut comes back whole, surrogates, NUL and all, or in pieces."""
    told = window(recall=recall)
    for number, text in enumerate(texts):
        result(told, text, number)
    told.user("And?")
    squeeze(told)
    for item in told.items:
        if item.fate is Fate.ELIDED:
            text = item.message.content
            assert item.handle
            assert told.recall(item.handle) == text
            size = max(1, len(text) // 3)
            cuts = [told.recall(item.handle, at, min(at + size, len(text)))
                    for at in range(0, len(text), size)]  # fmt: skip
            assert "".join(cuts) == text
            if recall and item.shown is not None:
                assert f'handle="{item.handle}"' in item.shown.content
            assert (
                recall
                or item.shown is None
                or HANDLE.search(item.shown.content) is None
                or (HANDLE.search(text) is not None)
            )


@settings(max_examples=80)
@given(LARGE.filter(bool), st.sampled_from((256, 1_024, 4_096)))
def test_pieces_that_a_model_reads_are_the_whole(text: str, limit: int) -> None:
    """Whoever follows what each piece says of the next one reads every character once."""
    told = window(limit, result_max_share=0.25)
    result(told, text)
    if not told.items[-1].handle:
        return
    handle, start, read = told.items[-1].handle, 0, ""
    for _ in range(len(text) + 1):
        given_ = told.recalled(handle, start)
        note = "\n[undercroft: the next begins at start="
        body, found, rest = given_.rpartition(note)
        if not found or text[start:] == given_:
            read += given_
            break
        assert Quarter().count(body) <= told.policy.result_max_tokens  # type: ignore[union-attr]
        assert int(rest.removesuffix("]")) == start + len(body) > start
        read += body
        start += len(body)
    assert read == text


@pytest.mark.parametrize("limit", [1_024, 4_096, 32_000])
def test_what_was_recalled_is_not_cut_again(limit: int) -> None:
    """A piece that was fetched fits where a result fits."""
    told = window(limit)
    result(told, "a long story, and so on; " * limit)
    handle = told.items[-1].handle
    told.add_answer(Answer("", (Call("recall", {"handle": handle}, "call_0123456789abcdef"),)), 1)
    told.add_text_result(told.recalled(handle), "call_0123456789abcdef", "recall", 2)
    assert told.items[-1].fate is Fate.KEPT


@pytest.mark.parametrize(
    ("start", "end"), [(-1, None), (5, 4), (101, None), (101, 102), (-5, -1), (0, -1)]
)
def test_a_range_outside_of_the_text_is_refused(start: int, end: int | None) -> None:
    """The error names the range that there is."""
    with pytest.raises(ContextError, match="within 0 to 100"):
        piece("x" * 100, "r0.1", start, end)


@given(st.text(max_size=40), st.integers(0, 40), st.integers(0, 60))
def test_ranges_are_those_of_python(text: str, start: int, more: int) -> None:
    """A range that begins within the text is its characters, also where it ends beyond."""
    if start <= len(text):
        assert piece(text, "r0.1", start, start + more) == text[start : start + more]
        assert piece(text, "r0.1", start, None) == text[start:]


def test_a_handle_expires() -> None:
    """It is good for as many turns as was declared, counted from when the item was left out."""
    told = window(recall_turns=2)
    told.assistant("The code is 77123, and so on. " * 60)
    told.user("Hello.")
    for turn in range(1, 6):
        told.next_turn(turn)
        told.user(f"And {turn}?")
    squeeze(told)
    handle = told.items[0].handle
    assert told.items[0].fate is Fate.ELIDED
    for turn in (5, 6, 7):
        if turn > 5:
            told.next_turn(turn)
        assert told.recall(handle) == told.items[0].message.content
        assert told.report().lines[0].handle == handle
    told.next_turn(8)
    with pytest.raises(ContextError, match="expired"):
        told.recall(handle)
    assert told.report().lines[0].handle == ""


# ---------------------------------------------------------------------- what stands there


@settings(max_examples=80)
@given(TEXTS, st.sampled_from(Kind), st.sampled_from((None, "get_order")), st.booleans())
def test_a_tombstone_says_what_is_left_out(
    text: str,
    kind: Kind,
    name: str | None,
    recall: bool,  # noqa: FBT001
) -> None:
    """It says what it stands for, how long that is, and how it is fetched, where it can be."""
    item = Item(item_id(3, 14), Message("tool", text, (), "c", name), kind, 5)
    stone = tombstone(item, "r3.14", recall=recall)
    assert f"{len(text):,} characters" in stone
    assert ('recall(handle="r3.14") returns it' in stone) is recall
    assert len(stone) < 200 + EXCERPT_CHARS
    assert stone == tombstone(item, "r3.14", recall=recall)


@settings(max_examples=80)
@given(LARGE, st.integers(1, 400), st.booleans())
def test_a_result_that_is_cut_shows_its_beginning(
    text: str,
    room: int,
    recall: bool,  # noqa: FBT001
) -> None:
    """It begins as the result does, says how to go on, and has the tokens that it may have."""
    shown = capped(text, item_id(0, 1), "get", room, COUNT, recall=recall)
    kept, _, note = shown.rpartition("\n[undercroft: cut here, ")
    assert text.startswith(kept)
    assert f"of {len(text):,} characters of the result of get" in note
    assert COUNT(shown) <= room or not kept
    found = HANDLE.search(note)
    assert (found is not None) is recall
    if found is not None:
        assert (found[1], int(found[2])) == ("r0.1", len(kept))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("order #A1001 of ada@example.com to JFK", "#A1001, ada@example.com, JFK"),
        ("12 is too short, 123 is not", "123"),
        ("#A1001 #A1001 #A1001", "#A1001"),
        ("nothing to tell", ""),
        ("", ""),
    ],
)
def test_a_tombstone_names_what_may_be_asked_for(text: str, words: str) -> None:
    """Ids, addresses and codes are named, each once, the first ones first."""
    assert telling_words(text, 160) == words


@settings(max_examples=80)
@given(LARGE, st.integers(0, 200))
def test_what_it_names_is_bounded(text: str, most: int) -> None:
    """However many there are, the words take no more than they may."""
    words = telling_words(text, most)
    assert len(words) <= most
    assert all(word in text for word in words.split(", ") if word)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit", ["a", "_", "1", "1.", "a@", "A", "AB ", "#", "a1-", "@.", "\ud800", "密", "x\n"]
)
def test_no_text_makes_it_slow(unit: str) -> None:
    """A megabyte of whatever a tool returned is looked at in no time."""
    text = unit * (1_000_000 // len(unit))
    assert len(telling_words(text, 160)) <= 160
    capped(text, 1, "get", 100, COUNT, recall=True)

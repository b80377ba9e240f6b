"""The ledger: no value that a user stated is lost, and no contradiction is overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.layers.context.identifiers.extract import Identifier
from undercroft.layers.context.identifiers.ledger import Ledger
from undercroft.layers.context.identifiers.words import Words

PLENTY = 100_000


def count(text: str) -> int:
    """Count a token a word or mark: longer texts never have fewer."""
    return len(text.split())


def rendered(ledger: Ledger, tokens_max: int = PLENTY, **given: Any) -> str:
    """Return the ledger as it reads where a prompt holds nothing of it."""
    return ledger.render(tokens_max, count, lambda _: True, **given)


def said(*texts: str) -> Ledger:
    """Return a ledger that heard a user say these, as items 1, 2, ..."""
    ledger = Ledger()
    for item, text in enumerate(texts, 1):
        ledger.user(item, text)
    return ledger


def read(*results: object, changed: bool | None = False) -> Ledger:
    """Return a ledger that heard a tool return these, as items 1, 2, ..."""
    ledger = Ledger()
    for item, result in enumerate(results, 1):
        text = result if isinstance(result, str) else json.dumps(result)
        ledger.result(item, "get", text, changed=changed)
    return ledger


def disputed(ledger: Ledger) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return what is in conflict, without where it was said."""
    return [conflict[:3] for conflict in ledger.conflicts()]


# What is kept.


def test_what_the_user_states_is_kept_and_what_tools_return_only_once_it_is_used() -> None:
    """A user's value has an entry at once, a tool's with the first call that is given it."""
    ledger = said("My order is #A1001")
    ledger.result(2, "get", '{"order_id": "#A1001", "item_id": "5551"}')
    assert list(ledger.entries) == ["#a1001"]

    uses = ledger.call(3, "send", {"order": "#A1001", "items": ["5551", "7777"]})

    assert [(use.value, use.parameter, use.origin) for use in uses] == [
        ("#A1001", "order", "user"),
        ("5551", "items", "tool"),
        ("7777", "items", "nobody"),
    ]
    assert uses[2].entry is None
    assert list(ledger.entries) == ["#a1001", "5551"]
    assert [entry.uses for entry in ledger.entries.values()] == [1, 1]


def test_an_entry_knows_whose_and_what_it_is() -> None:
    """A used value of a record belongs to the record's id and is called what it is there."""
    ledger = read({"order_id": "#A1001", "items": [{"item_id": "5551", "sku": "XK-7"}]})
    ledger.call(2, "send", {"x": "XK-7", "y": "5551"})
    sku, item = ledger.entries["xk-7"], ledger.entries["5551"]
    assert (sku.entity, sku.attribute) == ("5551", "sku")
    assert (item.entity, item.attribute) == ("#A1001", "item_id")


def test_what_users_say_of_themselves_is_theirs() -> None:
    """A phrase with a known form gives the entity and the attribute."""
    ledger = said("My name is Ada Byron, my zip code is 19122 and my email: ada@example.com")
    stated = {e.attribute: e.value for e in ledger.entries.values() if e.entity == "user"}
    assert stated == {"name": "Ada Byron", "zip": "19122", "email": "ada@example.com"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"order": {"id": "#A1001", "lines": [{"n": 3}]}},
        '{"order": {"id": "#A1001", "lines": [{"n": 3}]}}',
        "{'order': {'id': '#A1001', 'lines': [{'n': 3, 'x': None, 'y': True,},]}}",
        {"order": "['#A1001', '3']"},
        {"order": '{"id": "#A1001", "n": 3}'},
        [["#A1001"], (3,)],
    ],
    ids=str,
)
def test_arguments_are_taken_apart_however_they_are_written(arguments: Any) -> None:
    """Values are found in nested data, in JSON text, and in Python literals, also within texts."""
    ledger = said("order #A1001 with 3 bags")
    assert {use.value for use in ledger.call(2, "x", arguments)} == {"#A1001", "3"}


@pytest.mark.parametrize(
    ("text", "argument", "value"),
    [
        ("on May 20, please", "2024-05-20", "May 20"),
        ("on the 3rd of June", "2024-06-03", "3rd of June"),
        ("on 5/20", "2024-05-20", "5/20"),
        ("about $1,200 each", 1200, "1,200"),
        ("it was 12.50", 12.5, "12.50"),
        ("in cabin Economy", "economy", "economy"),
    ],
)
def test_a_value_is_the_users_in_other_spellings_too(text: str, argument: Any, value: str) -> None:
    """A date or an amount that a call is given comes from the user who wrote it otherwise."""
    (use,) = said(text).call(2, "x", {"a": argument})
    assert use.origin == "user"
    assert use.entry is not None
    assert use.entry.value.casefold() == value.casefold()


def test_prose_in_an_argument_counts_by_its_identifiers() -> None:
    """Of a long text only what somebody stated is a use; the text itself is nobody's value."""
    ledger = said("order #A1001")
    uses = ledger.call(2, "note", {"text": "The customer wants order #A1001 to be sent on day 77"})
    assert [(use.value, use.origin) for use in uses] == [("#A1001", "user")]


def test_only_what_was_said_before_counts() -> None:
    """A value that is first said after a call was not the call's source."""
    ledger = Ledger()
    ledger.user(5, "it is #A1001")
    (use,) = ledger.call(3, "x", {"id": "#A1001"})
    assert use.origin == "nobody"


def test_what_the_assistant_says_is_no_source() -> None:
    """A value that only the assistant wrote was stated by nobody."""
    ledger = Ledger()
    ledger.assistant(1, "I shall take #A1001")
    assert ledger.call(2, "x", {"id": "#A1001"})[0].origin == "nobody"


def test_the_windows_index_serves_the_ledger() -> None:
    """With an index of the window, the ledger asks that one and adds nothing to it."""
    words = Words()
    ledger = Ledger(words=words)
    words.add(1, "#A1001")
    ledger.result(1, "get", "#A1001")
    words.add(2, '{"id": "#A1001"}')
    assert ledger.call(2, "x", {"id": "#A1001"})[0].origin == "tool"
    assert words.holders("#A1001") == [2, 1]


def test_more_extractors_find_more() -> None:
    """What a user's own extractor finds is kept like anything else."""

    def colours(text: str) -> list[Identifier]:
        return [Identifier(word, "colour") for word in text.split() if word == "teal"]

    ledger = Ledger([colours])
    ledger.user(1, "the teal one")
    assert "colour: teal" in rendered(ledger)


# What contradicts.


def test_a_contradiction_is_marked_and_both_values_stay() -> None:
    """Two values of one attribute of one entity are a conflict until one is taken back."""
    ledger = said("my zip is 19122", "my zip is 85001")
    (conflict,) = ledger.conflicts()
    assert (conflict.attribute, conflict.values, conflict.items) == (
        "zip",
        ("19122", "85001"),
        (1, 2),
    )
    assert ledger.entries["19122"].conflict
    assert ledger.entries["85001"].conflict
    assert "19122" in rendered(ledger)
    assert "Contradictory" in rendered(ledger)


@pytest.mark.parametrize(
    "second",
    [
        "Actually, my zip is 85001.",
        "Sorry! My zip code is 85001",
        "my zip is actually 85001",
        "my new zip is 85001",
        "Please change my zip to 85001",
        "Actually, it's 85001.",
        "Oh, sorry, I meant 85001",
        "It's 85001, not 19122.",
        "not 19122 but 85001",
    ],
)
def test_a_correction_supersedes(second: str) -> None:
    """What the user takes back is superseded, kept, and no conflict."""
    ledger = said("my zip is 19122", second)
    assert ledger.conflicts() == []
    assert ledger.entries["19122"].superseded
    assert not ledger.entries["85001"].superseded
    assert "Corrected since:\n- zip: 19122" in rendered(ledger)


@pytest.mark.parametrize(
    "texts",
    [
        ("my zip is 19122", "my zip is 19122."),
        ("my zip is 19122 or my zip is 85001",),
        ("my name is Ada", "my name is Ada Byron"),
        ("my name is Ada Byron, my zip is 19122", "my name is Max Born, my zip is 85001"),
        ("order #A1001", "order #A1002"),
        ("my email is ada@example.com", "My email is ADA@example.com"),
        ("is my zip right?", "my zip is not there"),
        ("my name is Ada", "my name is on the order, my user id is not known"),
        ("my birthday is 1 May", "my birthday is next week"),
    ],
)
def test_what_is_no_contradiction(texts: tuple[str, ...]) -> None:
    """The same again, alternatives in one message, and somebody else are no conflict."""
    assert said(*texts).conflicts() == []


def test_records_contradict_by_entity_and_attribute() -> None:
    """Two reads of one record that differ, with no write between, are a conflict."""
    ledger = read({"order_id": "#A1", "status": "pending"}, {"order_id": "#A1", "status": "sent"})
    assert disputed(ledger) == [("#A1", "status", ("pending", "sent"))]
    assert "Contradictory:\n- status of #A1: pending; sent" in rendered(ledger)


@pytest.mark.parametrize(
    "results",
    [
        ({"id": "#A1", "status": "pending"}, {"id": "#A2", "status": "sent"}),
        ({"id": "#A1", "tags": ["a"]}, {"id": "#A1", "tags": ["b"]}),
        ([{"id": "#A1", "price": 1}], [{"id": "#A1", "price": 2}]),
        ({"id": "#A1", "read_at": "10:00"}, {"id": "#A1", "read_at": "11:00"}),
        ({"status": "pending"}, {"status": "sent"}),
        ({"id": "#A1", "of": {"id": "x", "n": 1}}, {"id": "#A2", "of": {"id": "x", "n": 2}}),
        ("pending", "sent"),
        ("{not json", "['neither'"),
    ],
    ids=str,
)
def test_records_that_do_not_contradict(results: tuple[object, ...]) -> None:
    """Other entities, lists, times, and what names no entity are no conflict."""
    assert read(*results).conflicts() == []


def test_a_read_after_a_write_supersedes() -> None:
    """What a write returns, and what is read after it, supersedes what was read before."""
    ledger = read({"id": "#A1", "status": "pending"})
    ledger.result(2, "cancel", '{"id": "#A1", "status": "cancelled"}', changed=True)
    assert ledger.conflicts() == []
    ledger.result(3, "pay", "ok", changed=True)
    ledger.result(4, "get", '{"id": "#A1", "status": "refunded"}', changed=False)
    assert ledger.conflicts() == []
    ledger.result(5, "get", '{"id": "#A1", "status": "pending"}', changed=False)
    assert disputed(ledger) == [("#A1", "status", ("refunded", "pending"))]


def test_where_nobody_knows_what_writes_the_newer_read_supersedes() -> None:
    """Without word of what a call changes, a difference between reads is taken for a change."""
    reads = ({"id": "#A1", "status": "pending"}, {"id": "#A1", "status": "sent"})
    assert read(*reads, changed=None).conflicts() == []


def test_a_summary_may_supersede() -> None:
    """A value that is said to be superseded settles a conflict, and is kept."""
    ledger = said("my zip is 19122", "my zip is 85001")
    assert ledger.supersede("19122", 3)
    assert not ledger.supersede("55555", 3)
    assert ledger.conflicts() == []
    assert ledger.entries["19122"].superseded


# How it reads.


def test_only_what_is_absent_is_rendered() -> None:
    """A value that the prompt shows anyway is left out, and nothing is no text."""
    ledger = said("#A1001 and #A1002")
    assert "#A1001" not in ledger.render(PLENTY, count, lambda value: value != "#A1001")
    assert ledger.render(PLENTY, count, lambda _: False) == ""
    assert Ledger().render(PLENTY, count, lambda _: True) == ""


def test_the_most_important_goes_first() -> None:
    """Where not all fits: what was stated and used, what was stated, then what tools returned."""
    ledger = said("#A1001 then #A1002")
    ledger.result(2, "get", '{"item_id": "5551", "other_id": "6661"}')
    ledger.call(3, "x", {"order_id": "#A1001", "item_id": "5551"})
    room = count(rendered(ledger))
    order = []
    for tokens_max in range(room + 1):
        text = rendered(ledger, tokens_max)
        order += [v for v in ("#A1001", "#A1002", "5551", "6661") if v in text and v not in order]
    assert order == ["#A1001", "#A1002", "5551", "6661"]
    assert "6661" not in rendered(ledger, offers_max=0)


def test_a_value_stands_once() -> None:
    """A value that is part of a longer one is not repeated."""
    ledger = said("I'm Ada Byron")
    ledger.call(2, "x", {"first_name": "Ada", "last_name": "Byron"})
    text = rendered(ledger)
    assert text.count("Ada") == text.count("Byron") == 1


def test_a_value_breaks_no_line() -> None:
    """No value can begin a line, turn the direction of writing, or fail to be written."""

    def all_of_it(text: str) -> list[Identifier]:
        return [Identifier(text, "all")]

    ledger = Ledger([all_of_it])
    ledger.user(1, "a\nSaid by user: b\u2028\u202ec\x00d\ud800e")
    text = rendered(ledger)
    assert len(text.splitlines()) <= 3
    assert text.isprintable() or set(text) - set("\n") <= set(map(chr, range(32, 0x3000)))
    assert text.encode()


PARTS = st.one_of(
    st.sampled_from(
        ["#A1001", "#A1002", "my zip is 12345", "my zip is 54321", "actually", "Ada Byron", "JFK",
         "ada@example.com", "May 20", "$5.50", "{'id': '#A1', 's': 1}", "\ud800", "not", "but"]
    ),
    st.text(max_size=12),
)  # fmt: skip
MOVES = st.lists(
    st.tuples(
        st.sampled_from(["user", "assistant", "tool", "call", "wrote"]), st.lists(PARTS, max_size=5)
    ),
    max_size=10,
)


def play(moves: list[tuple[str, list[str]]]) -> Ledger:
    """Return a ledger that heard all of it."""
    ledger = Ledger()
    for item, (who, parts) in enumerate(moves, 1):
        text = " ".join(parts)
        if who == "user":
            ledger.user(item, text)
        elif who == "assistant":
            ledger.assistant(item, text)
        elif who == "call":
            ledger.call(item, "x", {"text": text, "parts": parts})
        else:
            ledger.result(item, "x", text, changed=who == "wrote")
    return ledger


@settings(max_examples=100)
@given(moves=MOVES, tokens_max=st.integers(-1, 60))
def test_it_never_takes_more_than_it_may(
    moves: list[tuple[str, list[str]]], tokens_max: int
) -> None:
    """Whatever was said, the text fits; and with room for all, no stated value is lost."""
    ledger = play(moves)
    counts: tuple[Callable[[str], int], ...] = (count, len, lambda text: len(text) // 3)
    for counting in counts:
        text = ledger.render(tokens_max, counting, lambda _: True)
        assert text == "" or counting(text) <= tokens_max
    whole = rendered(ledger).casefold()
    for who, parts in moves:
        for part in parts if who == "user" else []:
            if part in {"#A1001", "#A1002", "JFK", "ada@example.com", "$5.50"}:
                assert part.casefold() in whole


@settings(max_examples=60)
@given(MOVES)
def test_it_is_the_same_after_it_was_dumped_and_loaded(moves: list[tuple[str, list[str]]]) -> None:
    """The same was said, the same are its bytes; and what is loaded goes on as what was dumped."""
    ledger, again = play(moves), play(moves)
    data = ledger.dump()
    assert again.dump() == data
    words = Words()
    for item, (who, parts) in enumerate(moves, 1):
        if who != "call":
            words.add(item, " ".join(parts))
    loaded = Ledger.load(data, words=words)
    assert loaded.dump() == data
    assert loaded.conflicts() == ledger.conflicts()
    assert rendered(loaded) == rendered(ledger)
    for one in (loaded, ledger):
        one.user(99, "my zip is 77777, #A1001")
    words.add(99, "my zip is 77777, #A1001")
    assert loaded.conflicts() == ledger.conflicts()
    assert loaded.call(100, "x", ["#A1001", "77777"]) == ledger.call(100, "x", ["#A1001", "77777"])


def test_nothing_depends_on_the_order_of_hashes() -> None:
    """Another process, with another seed of hashes, makes the same bytes and the same text."""
    program = (
        "from undercroft.layers.context.identifiers.ledger import Ledger\n"
        "import hashlib\n"
        "ledger = Ledger()\n"
        "ledger.user(1, 'my name is Ada Byron, my zip is 19122, #A1001 #A1002 JFK May 20 red')\n"
        'ledger.result(2, \'x\', \'{"id": "#A1", "a": 1, "b": "c", "item_ids": ["55555"]}\')\n'
        "ledger.call(3, 'x', {'a': '#A1', 'b': 'red', 'c': 55555})\n"
        "ledger.user(4, 'my zip is 19123')\n"
        "text = ledger.render(50, lambda text: len(text.split()), lambda value: True)\n"
        "print(hashlib.sha256(ledger.dump() + text.encode()).hexdigest(), ledger.conflicts())\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def endless() -> list[Any]:
    """Return a list that holds itself many times."""
    held: list[Any] = []
    held += [held] * 50
    return held


@pytest.mark.parametrize(
    "arguments",
    [None, 5, "", "x", "{", "[" * 100_000, {"a": {1: {2.5: None}}}, endless(), 10**5000,
     float("nan"), {"a": object()}, b"bytes", "'" * 100_000, "{'a': '" + "\\'" * 100_000],
    ids=lambda value: repr(value)[:10] if not isinstance(value, int) else "int",
)  # fmt: skip
def test_arguments_of_any_shape_do_no_harm(arguments: Any) -> None:
    """What is no data, too deep, or holds itself is taken as far as it goes."""
    ledger = said("#A1001")
    ledger.call(2, "x", arguments)
    assert "#A1001" in rendered(ledger)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 100_000,
        "{'a': " * 100_000,
        '{"id": "x", ' + ", ".join(f'"k{n}": "{n}"' for n in range(50_000)) + "}",
        "[" + "1," * 300_000 + "1]",
        "{" + "'\\" * 300_000,
        "(" * 300_000,
        '{"id": ' + "9" * 100_000 + "}",
        '{"id": "\ud800", "x": "\ud800"}',
        '{"id": "' + "x" * 300_000 + '", "a": 1}',
    ],
    ids=lambda text: repr(text[:12]),
)
def test_results_of_any_shape_do_no_harm(text: str) -> None:
    """A result that is huge, deep or broken says what it can, in time."""
    ledger = Ledger()
    ledger.result(1, "x", text, changed=False)
    ledger.result(2, "x", text, changed=False)
    assert ledger.conflicts() == []
    assert Ledger.load(ledger.dump()).dump() == ledger.dump()
    rendered(ledger, 100)


@pytest.mark.parametrize(
    "shape", ["my zip is 1{n} ", "it is a{n}, not b{n}. ", "my name is A{n}b. "]
)
def test_a_user_who_never_ends_does_no_harm(shape: str) -> None:
    """A message with thousands of statements is heard in time, and its values are kept."""
    text = "".join(shape.format(n=n) for n in range(5000))
    ledger = said(text, text)
    assert len(ledger.entries) >= 5000
    assert count(rendered(ledger, 200)) <= 200

"""The index of words: a value is found in whichever message holds it whole, and never lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.layers.context.identifiers.words import Words

MEGABYTE = 1_000_000


def index(*texts: str) -> Words:
    """Return an index of items 1, 2, ... with these texts."""
    words = Words()
    for item, text in enumerate(texts, 1):
        words.add(item, text)
    return words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("#A1001", "It is order #A1001, please."),
        ("a1001", "(#A1001)"),
        ("ada@example.com", "mail:ada@example.com."),
        ("1,234.50", '{"total": "1,234.50"}'),
        ("1234.5", '{"total":1234.5,"n":2}'),
        ("2", '{"total":1234.5,"n":2}'),
        ("7", "[1,7,3]"),
        ("2024-05-20", "on 2024-05-20"),
        ("2024-05-20", '{"at":"2024-05-20T10:00:00"}'),
        ("New York", "from new\n  york to Rome"),
        ("new\tyork", "New York"),
        ("STRASSE", "die Straße"),
        ("Müller", "MÜLLER, Anna"),
        ("credit_card_99", '"credit_card_99"'),
        ("订单", "我的订单号是A1001谢谢"),
        ("A1001", "我的订单号是A1001谢谢"),
        ("订单号是 A1001", "我的订单号是 A1001谢谢"),
        ("서울", "서울에서"),
        ("ใบเสร็จ", "ขอใบเสร็จด้วย"),
        ("->", "a -> b"),
        ("C:\\x\\y.txt", "in C:\\x\\y.txt."),
        ("\ud800", "half \ud800 pair"),
        ("a\x00b", "x a\x00b y"),
    ],
)
def test_a_value_is_found_whole(value: str, text: str) -> None:
    """A value is found as a whole, in any case, with its punctuation, in any script."""
    assert index("nothing", text, "nothing").holders(value) == [2]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("12", "123"),
        ("12", "a12"),
        ("9.5", "9.55"),
        ("9", "9.55"),
        ("55", "9.55"),
        ("york", "yorkshire"),
        ("#A100", "#A1001"),
        ("card_99", "credit_card_99"),
        ("a@b.co", "a@b.com"),
        ("New York", "New Yorkers"),
        ("New York", "york new"),
        ("", "anything"),
        (" \n", "anything"),
        ("x" * 5000, "x" * 5000),
    ],
)
def test_a_part_of_a_longer_word_is_no_value(value: str, text: str) -> None:
    """What stands inside of a longer word or number is not found, nor is nothing."""
    assert index(text).holders(value) == []


def test_newest_first_and_each_item_once() -> None:
    """Items come newest first, each once, however many texts they have, in whatever order added."""
    words = Words()
    for item in (5, 3, 9, 3, 5):
        words.add(item, f"red {item}")
    assert words.holders("red") == [9, 5, 3]
    assert words.text(3) == "red 3\nred 3"
    words.add(7, "red")
    assert words.holders("RED") == [9, 7, 5, 3]
    assert words.text(8) == ""


def test_several_texts_of_an_item_stand_together() -> None:
    """An item's text is all that was added of it."""
    words = index("one", "two")
    words.add(2, "three")
    assert words.text(2) == "two\nthree"
    assert words.holders("three") == [2]


VOCABULARY = ("red", "Red", "#A1", "A1", "a1b", "1", "1.5", "15", "New", "York", "x-y", "über", "ü")
TEXTS = st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=6).map(" ".join), max_size=12)
VALUES = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=2).map(" ".join)


@settings(max_examples=150)
@given(
    texts=TEXTS, values=st.lists(VALUES, min_size=1, max_size=6), asks=st.sets(st.integers(0, 11))
)
def test_it_finds_what_a_search_of_every_text_finds(
    texts: list[str], values: list[str], asks: set[int]
) -> None:
    """The index answers as a search through all texts, whenever it was asked before."""
    words = Words()
    for item, text in enumerate(texts):
        words.add(item, text)
        if item in asks:
            words.holders(values[0])
    for value in values:
        whole = re.compile(rf"(?<![\w])(?<!\d\.){re.escape(value.casefold())}(?!\w|\.\d)")
        expected = [n for n in range(len(texts)) if whole.search(texts[n].casefold())]
        assert words.holders(value) == expected[::-1]


@settings(max_examples=100)
@given(text=st.text(max_size=60), other=st.text(max_size=60))
def test_whatever_is_asked_of_whatever_it_answers(text: str, other: str) -> None:
    """A whole text is found in itself if there is a word in it, and no text makes it stumble."""
    words = index(text, other)
    if any(map(str.isalnum, text)):
        assert 1 in words.holders(text)
    assert set(words.holders(other)) <= {1, 2}


@pytest.mark.parametrize(
    "text",
    [
        "a" * MEGABYTE,
        "1" * MEGABYTE,
        "1." * (MEGABYTE // 2),
        "a-" * (MEGABYTE // 2),
        "\u4e00" * MEGABYTE,
        '"' * MEGABYTE,
        "a " * (MEGABYTE // 2),
        "-12t10" * (MEGABYTE // 6),
    ],
    ids=lambda text: repr(text[:6]),
)
def test_a_megabyte_of_anything_takes_no_longer(text: str) -> None:
    """Time is linear in a text, also where a value almost stands in it everywhere."""
    words = index(text, "last words")
    for value in ("a-a-b", "1.1.2", "aa b", "\u4e00\u4e01", '""x', "12", text[:1500] + "z"):
        words.holders(value)
    assert words.holders("last") == [2]


@pytest.mark.parametrize("value", ["a1001", "#A1001", "new york", "a-b", "日本", "&"])
def test_what_came_since_a_question_is_found_by_the_next(value: str) -> None:
    """Who asks for the same value again is told of the texts that came meanwhile, too."""
    words = index(f"It is {value}.", "Nothing.")
    assert words.holders(value) == [1]
    words.add(3, f"({value})")
    words.add(4, f'"{value}", and no more')
    assert words.holders(value) == [4, 3, 1]

"""What is found in a text: every identifier that a user may state, as it is written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.layers.context.identifiers.extract import IDENTIFIERS_MAX, extract

MEGABYTE = 1_000_000


def kinds(text: str) -> dict[str, str]:
    """Return what is found in a text, and of what kind it is."""
    return dict(extract(text))


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("write to ada@example.com.", "ada@example.com", "email"),
        ("email:ada@example.com", "ada@example.com", "email"),
        ("Order #A1001, please", "#A1001", "id"),
        ("(ref=AB-12-CD)", "AB-12-CD", "id"),
        ("it's ada_byron_12", "ada_byron_12", "id"),
        ("set basic_economy", "basic_economy", "id"),
        ("call parseJson now", "parseJson", "id"),
        ("see foo.bar", "foo.bar", "id"),
        ("use --force", "--force", "id"),
        ("my zip:12345", "12345", "number"),
        ("12,345.60 in all", "12,345.60", "number"),
        ("take 3 bags", "3", "number"),
        ("50% of it", "50%", "number"),
        ("a 17-inch screen", "17-inch", "id"),
        ("from JFK to rome", "JFK", "code"),
        ("ABC/DEF", "ABC/DEF", "code"),
        ("$1,200.50 at most", "$1,200.50", "money"),
        ("100 dollars", "100 dollars", "money"),
        ("20 EUR", "20 EUR", "money"),
        ("at 10:30 am", "10:30 am", "time"),
        ("at 3pm", "3pm", "time"),
        ("on 2024-05-20", "2024-05-20", "date"),
        ("on 5/20/2024", "5/20/2024", "date"),
        ("on 20.05.2024", "20.05.2024", "date"),
        ("on May 20th, 2024", "May 20th, 2024", "date"),
        ("on may 20", "may 20", "date"),
        ("the 20th of May 2024", "20th of May 2024", "date"),
        ("20 May works", "20 May", "date"),
        ("see you Tuesday", "Tuesday", "date"),
        ("2024\u5e745\u670820\u65e5", "2024\u5e745\u670820\u65e5", "date"),
        ("call +1 (555) 010-4567", "+1 (555) 010-4567", "phone"),
        ("call 555-010-4567", "555-010-4567", "phone"),
        ("card 4111 1111 1111 1111", "4111 1111 1111 1111", "phone"),
        ("at 12 Elm Street, Denver", "12 Elm Street", "address"),
        ("I'm Ada Byron", "Ada Byron", "name"),
        ("I live in New York City", "New York City", "name"),
        ("with Option A", "Option A", "name"),
        ("it is O'Brien's", "O'Brien", "name"),
        (
            "\u041c\u0435\u043d\u044f \u0437\u043e\u0432\u0443\u0442 \u0410\u043d\u043d\u0430",
            "\u0410\u043d\u043d\u0430",
            "name",
        ),
        ("https://example.com/a?b=1,2", "https://example.com/a?b=1,2", "url"),
        ("in /etc/hosts", "/etc/hosts", "path"),
        ("in C:\\x\\y", "C:\\x\\y", "path"),
        ("in src/main.py", "src/main.py", "path"),
        ('the "blue one" please', "blue one", "quote"),
        ("the 'blue one' please", "blue one", "quote"),
        ("\u201cblue one\u201d", "blue one", "quote"),
        ("\u6211\u7684\u8ba2\u5355\u53f7\u662fA1001\u8c22\u8c22", "A1001", "id"),
        ("\u200f#A1001\u200f", "#A1001", "id"),
        ("done.###A1001###", "A1001", "id"),
        ("\u0661\u0662\u0663\u0664\u0665", "\u0661\u0662\u0663\u0664\u0665", "number"),
    ],
)
def test_what_is_found(text: str, value: str, kind: str) -> None:
    """Each kind of value is found as it is written, without the punctuation around it."""
    assert kinds(text).get(value) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "please cancel it and send me a refund",
        "Sure, I'd like that. Yes! However, it's fine.",
        "I can't. Don't you? We're here; they won't.",
        "either/or, e.g. this, i.e. that",
        "... --- !!! ???",
    ],
)
def test_plain_prose_has_no_identifiers(text: str) -> None:
    """Ordinary words are not identifiers, also with a capital at the head of a sentence."""
    assert extract(text) == []


def test_a_text_in_capitals_marks_nothing_with_them() -> None:
    """Where everything is in capitals, ordinary words are not codes, and ids still are found."""
    found = kinds("PLEASE CANCEL MY ORDER ABC123 NOW AND SEND THE REFUND TO LISBON THANKS")
    assert "ABC123" in found
    assert "LISBON" in found
    assert not {"PLEASE", "CANCEL", "ORDER", "THANKS"} & set(found)


def test_ids_in_a_row_are_told_apart() -> None:
    """A list of numbers is a list of values, and groups of one number are one."""
    assert list(kinds("1151293680, 4983901480 and 4983901481 4983901482")) == [
        "1151293680",
        "4983901480",
        "4983901481",
        "4983901482",
    ]


MARKED = st.one_of(
    st.from_regex(r"#[A-Z][0-9]{3,8}", fullmatch=True),
    st.from_regex(r"[a-z]{1,8}_[a-z]{1,8}_[0-9]{1,5}", fullmatch=True),
    st.from_regex(r"[a-z]{1,9}[0-9]{0,3}@[a-z]{2,9}\.(?:com|org)", fullmatch=True),
    st.from_regex(r"[A-Z]{3,6}", fullmatch=True),
    st.from_regex(r"[0-9]{1,12}", fullmatch=True),
    st.from_regex(r"[A-Za-z]{0,3}[0-9]{1,4}[A-Za-z]{0,3}", fullmatch=True),
    st.from_regex(r"\$[1-9][0-9]{0,4}\.[0-9]{2}", fullmatch=True),
    st.from_regex(r"[0-9]{4}-0[1-9]-1[0-9]", fullmatch=True),
)
JOINTS = st.sampled_from(
    [" ", ", ", " and ", ". ", "\n- ", " (", ") ", "; ", ": ", " \u2014 ", '" "']
)


@settings(max_examples=200)
@given(
    values=st.lists(MARKED, min_size=1, max_size=6), joints=st.lists(JOINTS, min_size=6, max_size=6)
)
def test_no_marked_value_is_lost(values: list[str], joints: list[str]) -> None:
    """Whatever has a digit, a mark or capitals is in a value that is found, wherever it stands."""
    text = "it is " + "".join(value + joint for value, joint in zip(values, joints, strict=False))
    found = "\n".join(value for value, _ in extract(text))
    for value in values:
        assert value in found


@settings(max_examples=200)
@given(st.text(max_size=300))
def test_what_is_found_stands_in_the_text(text: str) -> None:
    """Every value stands in the text as it is given, each once, and the same each time."""
    found = extract(text)
    assert all(value and value in text for value, _ in found)
    assert len({value.casefold() for value, _ in found}) == len(found)
    assert extract(text) == found


@pytest.mark.parametrize(
    "shape",
    [
        "a", "A", "1", "@", "#", ".", "'", '"', "`", "_", "-", "/", "\\", ":", ",", " ", "\n",
        "\x00", "a@", "a.", "1,", "1.", "1-", "1 ", "A ", "Aa ", "a_", "://", "a://", "May 1 ",
        "'a ",
        '"a ',
        "my zip is ", "not a but ", "\u4e00", "\u4e001", "\ud800", "\u202e", "+1 (", "1 Aa ", "#a#",
    ],
)  # fmt: skip
def test_a_megabyte_of_anything_takes_no_longer(shape: str) -> None:
    """Time is linear in the text, whatever it is made of, and the number found has a limit."""
    text = shape * (MEGABYTE // len(shape) // (4 if " " in shape else 1))
    assert len(extract(text)) <= IDENTIFIERS_MAX

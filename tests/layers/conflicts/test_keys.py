"""Keys name resources: one value, one key; and nothing that a value holds changes the path."""

from __future__ import annotations

import enum
import unicodedata
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from undercroft.layers.conflicts.keys import (
    TEMPLATE_CHARS_MAX,
    VALUE_CHARS_MAX,
    KeyProblem,
    Template,
    covers,
    parse,
)


class Plan(enum.StrEnum):
    """Text of a few kinds."""

    GOLD = "gold/1"


class Floor(enum.Enum):
    """A number of a few."""

    CELLAR = -1
    NOWHERE = None


class Masked(str):
    """Text that shows itself as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "***"


# Templates


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("crm", ()),
        ("crm/{account_id}", ("account_id",)),
        ("crm/{a}/notes/{b}", ("a", "b")),
        ("crm/{a}/copy-of-{a}", ("a",)),
        ("{a}", ("a",)),
        ("*", ()),
        ("crm/*/notes", ()),
        ("a-b_c.d~e@f:g+h/0", ()),
        ("{_a1}", ("_a1",)),
        ("...", ()),
        ("x" * TEMPLATE_CHARS_MAX, ()),
    ],
)
def test_a_template_is_a_path(text: str, parameters: tuple[str, ...]) -> None:
    """Segments hold what a path may hold; parameters are named once, in their order."""
    template = parse(text)
    assert template.text == text
    assert template.parameters == parameters
    assert "/".join(template.segments) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "/crm", "crm/", "crm//7", ".", "..", "crm/..", "./crm", "crm 7", "crm/ü"),
        *("{}", "{a", "a}", "{a}}", "{a b}", "{1a}", "{a.b}", "{a[0]}", "{ü}", "crm/**", "a*"),
        *("*{a}", "crm\n", "crm/7\n", "crm\0", "crm?x", "crm#x", "crm/%20", "\ud800"),
        "x" * (TEMPLATE_CHARS_MAX + 1),
    ],
    ids=lambda text: repr(text)[:20],
)
def test_what_is_no_path_is_refused(text: str) -> None:
    """A template that breaks the grammar is refused with a reason that a person can act on."""
    with pytest.raises(KeyProblem, match=r"must have|dot segment|may hold"):
        parse(text)


# Values


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("7", "crm/7"),
        (7, "crm/7"),
        (-7, "crm/-7"),
        (0, "crm/0"),
        (2**64, f"crm/{2**64}"),
        ("Ada", "crm/Ada"),
        ("ada", "crm/ada"),
        ("a b", "crm/a%20b"),
        ("a/b", "crm/a%2Fb"),
        ("../x", "crm/..%2Fx"),
        ("a%2Fb", "crm/a%252Fb"),
        ("*", "crm/%2A"),
        ("{a}", "crm/%7Ba%7D"),
        ("...", "crm/..."),
        ("ada@example.com", "crm/ada%40example.com"),
        ("a:b+c", "crm/a%3Ab%2Bc"),
        ("\n", "crm/%0A"),
        ("é", "crm/%C3%A9"),
        ("e\u0301", "crm/%C3%A9"),
        ("日本", "crm/%E6%97%A5%E6%9C%AC"),
        ("😀", "crm/%F0%9F%98%80"),
        (Plan.GOLD, "crm/gold%2F1"),
        (Floor.CELLAR, "crm/-1"),
        (Masked("secret"), "crm/secret"),
        (UUID(int=5), "crm/00000000-0000-0000-0000-000000000005"),
        ("x" * VALUE_CHARS_MAX, "crm/" + "x" * VALUE_CHARS_MAX),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_value_stands_in_a_key_as_it_is_or_encoded(value: Any, key: str) -> None:
    """Text is normalised and percent-encoded; numbers and the like are spelled; case is kept."""
    template = parse("crm/{id}")
    assert template.render({"id": value, "other": object()}) == key
    assert template.may_yield(key)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "cannot name a resource"),
        (".", "cannot name a resource"),
        ("..", "cannot name a resource"),
        ("a\0b", "cannot name a resource"),
        ("x" * (VALUE_CHARS_MAX + 1), "cannot name a resource"),
        ("é" * (VALUE_CHARS_MAX + 1), "cannot name a resource"),
        ("\ud800", "not text"),
        (10**600, "cannot name a resource"),
        (10**5_000, "too long"),
        (True, "is a bool; a key takes text, an integer or a UUID"),
        (None, "is a NoneType"),
        (1.0, "is a float"),
        (b"x", "is a bytes"),
        ([1], "is a list"),
        ({"a": 1}, "is a dict"),
        (Floor.NOWHERE, "is a NoneType"),
    ],
    ids=lambda value: repr(value)[:24] if not isinstance(value, int) else "number",
)
def test_what_cannot_name_a_resource_is_refused(value: Any, problem: str) -> None:
    """A value that is empty, a dot segment, too long or no scalar is refused by its name."""
    with pytest.raises(KeyProblem, match=problem) as caught:
        parse("crm/{account_id}").render({"account_id": value})
    assert "{account_id}" in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_value_that_is_missing_is_refused() -> None:
    """A key is rendered whole or not at all."""
    with pytest.raises(KeyProblem, match=r"\{b\} has no value yet"):
        parse("crm/{a}/{b}").render({"a": 1})


# Any template, any values

LITERALS = st.text("abz09-._~@:+", min_size=1, max_size=4).filter(lambda s: s not in {".", ".."})
SCALARS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.text("./%*{}ae\u0301é ", max_size=6),
    st.integers(),
    st.uuids(),
)


@st.composite
def segments(draw: st.DrawFn, name: str) -> str:
    """Draw a segment with at most one parameter."""
    if draw(st.booleans()):
        return draw(LITERALS)
    # Short, so that literals and a value never make up a dot segment of their own.
    return f"{draw(st.just('') | LITERALS)}{{{name}}}{draw(st.just('') | LITERALS)}"


@st.composite
def templates(draw: st.DrawFn) -> Template:
    """Draw a template of up to four segments with at most one parameter each."""
    names = ["a", "b", "c", "d"][: draw(st.integers(1, 4))]
    return parse("/".join(draw(segments(name)) for name in names))


VALUES = st.fixed_dictionaries(dict.fromkeys("abcd", SCALARS))


def rendered(template: Template, values: dict[str, Any]) -> str:
    """Return the key for values that can stand in one."""
    try:
        return template.render(values)
    except KeyProblem:
        assume(condition=False)
        raise


def normal(template: Template, values: dict[str, Any]) -> list[str]:
    """Return what a template takes of the values, in normal form."""
    return [unicodedata.normalize("NFC", str(values[name])) for name in template.parameters]


@given(templates(), VALUES, VALUES)
def test_distinct_values_have_distinct_keys(
    template: Template, one: dict[str, Any], two: dict[str, Any]
) -> None:
    """Two sets of values share a key exactly if they are the same in normal form."""
    same_key = rendered(template, one) == rendered(template, two)
    assert same_key == (normal(template, one) == normal(template, two))


@given(templates(), VALUES)
def test_a_value_never_leaves_its_segment(template: Template, values: dict[str, Any]) -> None:
    """A key has the segments of its template, each of them plain and beginning as written."""
    key = rendered(template, values)
    parts = key.split("/")
    assert len(parts) == len(template.segments)
    assert not {"", ".", ".."} & set(parts)
    assert key.isascii()
    assert key.isprintable()
    for part, segment in zip(parts, template.segments, strict=True):
        before, brace, after = segment.partition("{")
        assert part.startswith(before)
        assert part.endswith(after.partition("}")[2]) if brace else part == segment
    for place in range(1, len(parts)):
        assert covers("/".join(parts[:place]), key)


@given(templates(), VALUES)
def test_what_is_rendered_may_be_yielded(template: Template, values: dict[str, Any]) -> None:
    """A template may yield every key that it renders."""
    assert template.may_yield(rendered(template, values))


@given(templates(), templates(), VALUES)
def test_what_may_be_yielded_can_be_rendered(
    mine: Template, theirs: Template, values: dict[str, Any]
) -> None:
    """A template may yield another's key exactly if some values of its own render to it."""
    key = rendered(theirs, values)
    found: dict[str, str] = {}
    for segment, part in zip(mine.segments, key.split("/"), strict=False):
        before, brace, after = segment.partition("{")
        name, _, after = after.partition("}")
        if brace:
            found[name] = unquote(part[len(before) : len(part) - len(after)])
    try:
        yields = mine.render(found) == key
    except KeyProblem:
        yields = False
    if yields or not any(value in {".", ".."} for value in found.values()):
        assert mine.may_yield(key) is yields


@pytest.mark.parametrize(
    ("text", "key", "may"),
    [
        ("crm/{id}", "crm/7", True),
        ("crm/{id}", "crm/7/notes", False),
        ("crm/{id}/notes", "crm/7/notes", True),
        ("crm/{id}/notes", "crm/7/mails", False),
        ("crm/*", "crm/7", True),
        ("crm/*", "crm", False),
        ("{a}", "crm", True),
        ("{a}", "crm/7", False),
        ("crm/acc-{id}", "crm/acc-7", True),
        ("crm/acc-{id}", "crm/acc-", False),
        ("crm/acc.{id}", "crm/acc-7", False),
    ],
)
def test_who_may_yield_a_key(text: str, key: str, *, may: bool) -> None:
    """A star stands for any segment, a parameter for at least one character of one."""
    assert parse(text).may_yield(key) is may


# Subtrees


@pytest.mark.parametrize(
    ("outer", "inner", "covered"),
    [
        ("crm/7", "crm/7", True),
        ("crm/7", "crm/7/notes", True),
        ("crm", "crm/7/notes", True),
        ("crm/7", "crm/70", False),
        ("crm/7", "crm", False),
        ("crm", "crm7", False),
    ],
)
def test_a_key_covers_itself_and_what_lies_below(outer: str, inner: str, *, covered: bool) -> None:
    """Paths are compared by segments, never by letters."""
    assert covers(outer, inner) is covered


PARTS = st.sampled_from(["crm", "7", "70", "notes", "%2F", "x"])
PATHS = st.lists(PARTS, min_size=1, max_size=4)


@given(PATHS, PATHS)
def test_a_key_covers_its_subtree(outer: list[str], inner: list[str]) -> None:
    """A key covers itself and what lies below, segment by segment, and nothing else."""
    assert covers("/".join(outer), "/".join(inner)) == (inner[: len(outer)] == outer)

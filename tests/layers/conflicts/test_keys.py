"""Keys name resources: one value, one key; and nothing that a value holds changes the path."""

from __future__ import annotations

import enum
import itertools
import unicodedata
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from undercroft.layers.conflicts.keys import (
    KEY_CHARS_MAX,
    KEYS_MAX,
    TEMPLATE_CHARS_MAX,
    VALUE_CHARS_MAX,
    KeyProblem,
    Template,
    anything,
    covers,
    may_overlap,
    normal_key,
    overlap,
    parse,
    within,
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
        ("a-b_c.d~/0", ()),
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
        *("{a}{b}", "crm/{a}-{b}", "{a}.{a}"),
        *("", "/", "/crm", "crm/", "crm//7", ".", "..", "crm/..", "./crm", "crm 7", "crm/ü"),
        *("{}", "{a", "a}", "{a}}", "{a b}", "{1a}", "{a.b}", "{a[0]}", "{ü}", "crm/**", "a*"),
        *("*{a}", "crm\n", "crm/7\n", "crm\0", "crm?x", "crm#x", "crm/%20", "\ud800"),
        "x" * (TEMPLATE_CHARS_MAX + 1),
    ],
    ids=lambda text: repr(text)[:20],
)
def test_what_is_no_path_is_refused(text: str) -> None:
    """A template that breaks the grammar is refused with a reason that a person can act on."""
    with pytest.raises(KeyProblem, match=r"must have|dot segment|may hold|more than one parameter"):
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
    """A key has the segments of its template, each of them plain and beginning as it does."""
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


# Spellings


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("crm/ada@example.com", "crm/ada%40example.com"),
        ("crm/a:b+c", "crm/a%3Ab%2Bc"),
        ("crm/x@{id}", "crm/x%407"),
    ],
)
def test_a_literal_is_spelled_like_a_value(text: str, key: str) -> None:
    """What a template says in letters and what a value says are one key where they are one."""
    assert parse(text).render({"id": 7}) == key
    assert parse("crm/{id}").render({"id": unquote(key[4:])}) == key
    assert parse(text).may_yield(key)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("crm/7", "crm/7"),
        ("crm/*/notes", "crm/*/notes"),
        ("crm/a*", "crm/a%2A"),
        ("crm/%2a", "crm/%2A"),
        ("crm/a b", "crm/a%20b"),
        ("crm/a%20b", "crm/a%20b"),
        ("crm/a%2fb", "crm/a%2Fb"),
        ("crm/%41da", "crm/Ada"),
        ("crm/Ada", "crm/Ada"),
        ("crm/e\u0301", "crm/%C3%A9"),
        ("crm/e%CC%81", "crm/%C3%A9"),
        ("crm/100%", "crm/100%25"),
        ("crm/%zz", "crm/%25zz"),
        ("crm/%2541", "crm/%2541"),
        ("crm/%ff", "crm/%FF"),
        ("!service/crm", "%21service/crm"),
        ("crm/ada@example.com", "crm/ada%40example.com"),
    ],
)
def test_a_path_has_one_spelling(text: str, key: str) -> None:
    """A path that a function returns is brought to the form that a template would render."""
    assert normal_key(text) == key


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "crm/", "/crm", "crm//7", ".", "crm/..", "crm/./7", "crm/%2e%2e", "crm/%2E"),
        *("crm/a\0b", "crm/%00", "crm/\ud800", f"crm/{'x' * (VALUE_CHARS_MAX + 1)}"),
        *("x/" * 6_000 + "x", "/".join(["é" * 500] * 4), f"crm/{'%41' * (VALUE_CHARS_MAX + 1)}"),
    ],
    ids=lambda text: repr(text)[:20],
)
def test_a_path_that_names_nothing_is_refused(text: str) -> None:
    """Empty, dot and endless segments are refused however they are spelled, in a short message."""
    with pytest.raises(KeyProblem) as caught:
        normal_key(text)
    assert len(str(caught.value)) < 250


WILD_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(st.text("a%4f2eE.*é\u0301/@\0 ~-", min_size=1), min_size=1) | st.lists(WILD_TEXT))
def test_a_normal_path_stays_as_it_is(parts: list[str]) -> None:
    """Normal form is a fixed point: what is in it is not encoded again."""
    try:
        key = normal_key("/".join(parts))
    except KeyProblem:
        return
    assert normal_key(key) == key
    assert key.isascii()
    assert not {"", ".", ".."} & set(key.split("/"))


@given(templates(), VALUES)
def test_what_is_rendered_is_normal(template: Template, values: dict[str, Any]) -> None:
    """Functions and templates that mean the same resource make the same key."""
    # A mark without a letter of its own would join the literal before it.
    assume(not any(unicodedata.combining(text[0]) for text in normal(template, values) if text))
    key = rendered(template, values)
    assert normal_key(key) == key


def test_a_key_as_a_whole_has_a_limit() -> None:
    """Values that are each short enough may be too long together; the message says how long."""
    template = parse("{a}/{b}")
    assert len(template.render({"a": "é" * 500, "b": "x"})) < KEY_CHARS_MAX
    for render in (template.render, template.known):
        with pytest.raises(KeyProblem, match="a key may have 8,192"):
            render({"a": "😀" * 400, "b": "😀" * 400})


# What is known so far


@pytest.mark.parametrize(
    ("text", "values", "known"),
    [
        ("crm/{a}/notes/{b}", {"a": 7, "b": 8}, "crm/7/notes/8"),
        ("crm/{a}/notes/{b}", {"a": 7}, "crm/7/notes"),
        ("crm/{a}/notes/{b}", {"a": 7, "b": None}, "crm/7/notes"),
        ("crm/{a}/notes/{b}", {"b": 8}, "crm"),
        ("crm/x-{a}", {}, "crm"),
        ("{a}/x", {}, ""),
        ("{a}/x", {"a": ["p", "q"]}, ""),
        ("*/x", {}, "*/x"),
        ("x", {}, "x"),
    ],
)
def test_the_longest_known_prefix_is_claimed(text: str, values: dict[str, Any], known: str) -> None:
    """A key ends before the first segment that is not known; without any it is everything."""
    assert parse(text).known(values) == known


@pytest.mark.parametrize("value", ["", "..", "a\0b", "x" * 10_000, 1.0, b"x"])
def test_a_bad_value_is_no_unknown_one(value: Any) -> None:
    """What is there and cannot name a resource is refused, and never claims more instead."""
    with pytest.raises(KeyProblem, match=r"\{a\}"):
        parse("crm/{a}/{b}").known({"a": value})


@given(templates(), VALUES, st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd")))
def test_a_claim_only_narrows(
    template: Template, values: dict[str, Any], first: set[str], later: set[str]
) -> None:
    """Whatever is rendered with more values lies within what was claimed with fewer."""
    whole = rendered(template, values)
    early = template.known({name: values[name] for name in first})
    late = template.known({name: values[name] for name in first | later})
    assert within(late, early)
    assert within(whole, late)
    assert template.known(values) == whole


# Lists


def test_a_list_stands_for_a_key_an_item() -> None:
    """Each item makes a key; a set always in the same order; two lists make all pairs."""
    template = parse("crm/{a}/{b}")
    assert template.keys({"a": ["y", "x"], "b": 1}) == ["crm/y/1", "crm/x/1"]
    assert template.keys({"a": {"y", "x"}, "b": 1}) == ["crm/x/1", "crm/y/1"]
    assert template.keys({"a": (1, 2), "b": [3, 4]}) == [
        *("crm/1/3", "crm/1/4"),
        *("crm/2/3", "crm/2/4"),
    ]
    assert template.keys({"a": [], "b": 1}) == []
    assert template.keys({"a": ["x", "y"]}) == ["crm/x", "crm/y"]
    for items in (["x", ""], [["x"]], [{"x": 1}]):
        with pytest.raises(KeyProblem, match=r"\{a\}"):
            template.keys({"a": items, "b": 1})


@pytest.mark.parametrize(
    ("values", "count"),
    [({"a": range(10_000), "b": 1}, "10,000"), ({"a": range(40), "b": range(40)}, "1,600")],
)
def test_a_list_has_a_limit(values: dict[str, Any], count: str) -> None:
    """A step that would claim thousands of keys is told how many, before any is made."""
    values = {name: list(v) if isinstance(v, range) else v for name, v in values.items()}
    with pytest.raises(KeyProblem, match=f"{count} keys; a step may claim {KEYS_MAX:,}"):
        parse("crm/{a}/{b}").keys(values)


# Overlaps

WILD_PATHS = st.lists(st.sampled_from(["crm", "7", "notes", "*"]), max_size=4).map("/".join)


def instances(key: str) -> set[str]:
    """Return all paths of up to four segments that a key covers."""
    words = ["crm", "7", "notes", "other"]
    paths = {""} | {"/".join(p) for n in range(1, 5) for p in itertools.product(words, repeat=n)}
    wanted = key.split("/") if key else []
    return {
        path
        for path in paths
        if len(found := path.split("/") if path else []) >= len(wanted)
        and all(w in (f, "*") for w, f in zip(wanted, found, strict=False))
    }


@settings(max_examples=60)
@given(WILD_PATHS, WILD_PATHS)
def test_keys_overlap_where_something_lies_in_both(one: str, other: str) -> None:
    """Two keys overlap exactly if some path is covered by both, whichever is asked first."""
    assert overlap(one, other) == overlap(other, one) == bool(instances(one) & instances(other))


@settings(max_examples=60)
@given(WILD_PATHS, WILD_PATHS)
def test_a_key_lies_within_another_where_all_of_it_does(one: str, other: str) -> None:
    """One key lies within another exactly if the other covers all that it covers."""
    assert within(one, other) == (instances(one) <= instances(other))


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ("crm/{a}", "crm/{b}/notes", True),
        ("crm/{a}", "mail/{a}", False),
        ("crm/acct-{a}", "crm/b-{x}", False),
        ("crm/acct-{a}", "crm/a{x}", True),
        ("crm/acct-{a}", "crm/acct-", False),
        ("crm/acct-{a}", "crm/acct-7", True),
        ("crm/{a}-x", "crm/{b}-y", False),
        ("crm/{a}.x", "crm/{b}x", True),
        ("crm/*/x", "crm/{b}/y", False),
        ("crm/*/x", "crm/{b}", True),
        ("{a}", "crm/7/notes", True),
    ],
)
def test_templates_that_may_overlap(one: str, other: str, *, may: bool) -> None:
    """Segments are compared by what stands before and after their parameter."""
    assert may_overlap(parse(one), parse(other)) is may
    assert may_overlap(parse(other), parse(one)) is may
    assert may_overlap(parse(one), anything("<f>"))


@given(templates(), templates(), VALUES, VALUES)
def test_templates_whose_keys_overlap_may_overlap(
    one: Template, other: Template, mine: dict[str, Any], theirs: dict[str, Any]
) -> None:
    """The answer is never no where some values make keys that overlap, known or half known."""
    if overlap(rendered(one, mine), rendered(other, theirs)):
        assert may_overlap(one, other)
        assert may_overlap(other, one)


PLAIN = st.sampled_from(["x", "y", "xy", "x-y", "-"])


@given(
    st.lists(st.sampled_from(["x", "{a}", "x{a}", "{a}y", "x-{a}", "*"]), min_size=1, max_size=3),
    st.lists(st.sampled_from(["x", "{b}", "x{b}", "{b}y", "-{b}", "*"]), min_size=1, max_size=3),
    PLAIN,
    PLAIN,
)
def test_templates_of_few_words_that_overlap_may_overlap(
    one: list[str], other: list[str], a: str, b: str
) -> None:
    """The same, where keys often do overlap."""
    mine, theirs = parse("/".join(one)), parse("/".join(other))
    if overlap(mine.render({"a": a}), theirs.render({"b": b})):
        assert may_overlap(mine, theirs)


def test_a_template_of_anything_claims_everything() -> None:
    """What nobody can foresee may yield every key."""
    template = anything("<keys>", ("a",))
    assert template.may_yield("crm/7/notes")
    assert template.render({}) == template.known({}) == ""
    assert template.parameters == ("a",)

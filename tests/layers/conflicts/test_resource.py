"""A resource has one key, however it is spelled; what cannot be told apart is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.errors import DeclarationError, SettingError
from undercroft.layers.conflicts.keys import KeyProblem, overlap, parse, within
from undercroft.layers.conflicts.policy import declare
from undercroft.layers.conflicts.resource import NO_RESOURCES, Resource, Resources
from undercroft.model.effect import Mode, Strength

ACCOUNT = Resource("crm/{id}", aliases=["customers/{id}", "legacy/acc-{id}/card"])
MAIL = Resource("mail/{to}", aliases=["inbox/{to}"], normal={"to": str.lower})
KNOWN = Resources((ACCOUNT, MAIL))


# Declaring


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"key": "crm//x"}, id="bad-key"),
        pytest.param({"key": ""}, id="empty-key"),
        pytest.param({"key": 7}, id="no-text"),
        pytest.param({"key": "crm/*"}, id="star"),
        pytest.param({"key": "crm/{a}/{a}"}, id="twice"),
        pytest.param({"key": "crm/{a}-{b}"}, id="two-in-one"),
        pytest.param({"key": "crm/{id}", "aliases": "c/{id}"}, id="aliases-is-text"),
        pytest.param({"key": "crm/{id}", "aliases": 7}, id="aliases-is-no-list"),
        pytest.param({"key": "crm/{id}", "aliases": ["c//{id}"]}, id="bad-alias"),
        pytest.param({"key": "crm/{id}", "aliases": ["c/{name}"]}, id="other-parameters"),
        pytest.param({"key": "crm/{id}", "aliases": ["c"]}, id="no-parameters"),
        pytest.param({"key": "crm/{id}", "aliases": ["crm/{id}"]}, id="same"),
        pytest.param({"key": "crm/{id}", "aliases": ["crm/acc-{id}"]}, id="alias-may-be-key"),
        pytest.param({"key": "crm/{id}", "aliases": ["crm/by-name/{id}"]}, id="alias-in-key"),
        pytest.param({"key": "c/{id}", "aliases": ["a/{id}", "a/x{id}"]}, id="aliases-alike"),
        pytest.param({"key": "crm/{id}", "normal": {"to": str.lower}}, id="normal-of-nothing"),
        pytest.param({"key": "crm/{id}", "normal": {"id": "lower"}}, id="normal-no-function"),
        pytest.param({"key": "crm/{id}", "normal": str.lower}, id="normal-no-mapping"),
    ],
)
def test_a_bad_resource_fails_where_it_is_written(given: dict[str, Any]) -> None:
    """A resource whose spellings cannot be read, or told apart, is refused at birth."""
    with pytest.raises(DeclarationError, match="resource"):
        Resource(**given)


@pytest.mark.parametrize(
    ("fence", "delay_s"),
    [
        ("strong", 0.0),
        ("", 0.0),
        ("delay", 0.0),
        ("delay", -1.0),
        ("delay", math.nan),
        ("delay", math.inf),
        ("checked", 5.0),
        (None, 5.0),
        ("delay", "5"),
        ("delay", True),
    ],
)
def test_a_fence_says_how_strong_it_is(fence: str | None, delay_s: Any) -> None:
    """A fence is one of four; a delay has a length, and nothing else has."""
    with pytest.raises(SettingError):
        Resource("crm/{id}", fence=fence, delay_s=delay_s)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(Resource("crm/{id}"), Resource("crm/{name}"), id="one-key-twice"),
        pytest.param(
            Resource("crm/{id}", aliases=["c/{id}"]), Resource("c/{x}"), id="alias-is-a-key"
        ),
        pytest.param(
            Resource("a/{id}", aliases=["c/{id}"]),
            Resource("b/{id}", aliases=["c/{id}"]),
            id="one-alias-twice",
        ),
        pytest.param(
            Resource("a/{id}", aliases=["c/{id}"]), Resource("c/{id}/notes"), id="key-in-alias"
        ),
        pytest.param(Resource("a/{id}", aliases=["c/{id}"]), Resource("c"), id="alias-in-key"),
        pytest.param(
            Resource("a/{id}", normal={"id": str.lower}), Resource("a/ME"), id="not-normal"
        ),
    ],
)
def test_a_spelling_belongs_to_one_resource(one: Resource, other: Resource) -> None:
    """Two resources of which one key may be either are refused, in either order."""
    for pair in ((one, other), (other, one)):
        with pytest.raises(DeclarationError, match="resource"):
            Resources(pair)


def test_only_resources_are_resources() -> None:
    """Anything else is an error of the caller's."""
    texts: Any = ("crm/{id}",)
    with pytest.raises(DeclarationError, match="is not a resource"):
        Resources(texts)


def test_resources_may_lie_in_each_other() -> None:
    """A part of a resource may have a fence of its own; the most specific one counts."""
    known = Resources(
        (
            Resource("bank/{id}", fence="checked"),
            Resource("bank/{id}/card", fence="delay", delay_s=5),
            Resource("bank/main", fence="version"),
            Resource("bank/{id}/notes"),
        )
    )
    assert known.strength("bank/7") is Strength.CHECKED
    assert known.strength("bank/main") is Strength.VERSION
    assert known.strength("bank/7/card/x") is Strength.DELAY
    assert known.strength("bank/7/notes") is Strength.CHECKED
    assert known.strength("bank") is None
    assert known.strength("mail/7") is None
    assert (known.delay_s("bank/7/card"), known.delay_s("bank/7"), known.delay_s("x")) == (5, 0, 0)


# Spelling


@pytest.mark.parametrize(
    ("template", "canonical"),
    [
        ("crm/{x}", "crm/{x}"),
        ("customers/{x}", "crm/{x}"),
        ("customers/{x}/notes", "crm/{x}/notes"),
        ("customers/7/notes", "crm/7/notes"),
        ("customers/a-{x}", "crm/a-{x}"),
        ("customers/*", "crm/*"),
        ("customers/*/notes/{y}", "crm/*/notes/{y}"),
        ("legacy/acc-{x}/card", "crm/{x}"),
        ("legacy/acc-7/card/front", "crm/7/front"),
        ("legacy/b-{x}/card", "legacy/b-{x}/card"),
        ("legacy/acc-{x}/other", "legacy/acc-{x}/other"),
        ("customers", "customers"),
        ("other/{x}", "other/{x}"),
        ("inbox/Ada", "mail/ada"),
        ("mail/Ada/drafts", "mail/ada/drafts"),
        ("mail/Ada@X.com", "mail/ada%40x.com"),
        ("mail/*", "mail/*"),
        ("MAIL/Ada", "MAIL/Ada"),
    ],
)
def test_a_template_is_brought_to_one_spelling(template: str, canonical: str) -> None:
    """Literals, parameters and what lies below are carried over to the resource's own key."""
    assert KNOWN.canonical(parse(template)).text == canonical
    if "{" not in template:
        assert KNOWN.canonical_key(template.replace("@", "%40")) == canonical


SPELLINGS = ["crm/{id}", "customers/{id}", "legacy/acc-{id}/card"]
IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(st.sampled_from(SPELLINGS), st.sampled_from(SPELLINGS), IDS, st.sampled_from(["", "/a"]))
def test_all_spellings_of_a_resource_are_one_key(
    one: str, other: str, value: str, below: str
) -> None:
    """Whichever spelling two tools use, for one value they claim one key."""
    keys = set()
    for text in (one, other):
        declared = declare({Mode.WRITE: text + below}, pure=False).under(KNOWN)
        try:
            keys.add(declared.pairs({"id": value}))
        except KeyProblem:
            keys.add(())
    assert len(keys) == 1


@given(st.sampled_from(["mail/{to}", "inbox/{to}"]), IDS)
def test_values_are_normalised_before_they_are_claimed(text: str, value: str) -> None:
    """What `normal=` makes one, is one: by template, by literal and by function."""
    declared = declare({Mode.READ: text}, pure=False).under(KNOWN)
    try:
        pairs = declared.pairs({"to": value})
    except KeyProblem:
        return
    assert pairs == declare({Mode.READ: "mail/{to}"}, pure=False).pairs({"to": value.lower()})
    raw = declare({Mode.READ: text}, pure=False).pairs({"to": value})[0][1]
    assert KNOWN.canonical_key(raw) == pairs[0][1]
    assert KNOWN.canonical_key(pairs[0][1]) == pairs[0][1]


def test_what_lies_above_an_alias_covers_the_resource_too() -> None:
    """Whoever claims all customers claims every account, under whichever name."""
    declared = declare({Mode.WRITE: "customers"}, pure=False).under(KNOWN)
    assert declared.pairs({}) == (("write", "customers"), ("write", "crm"))
    legacy = declare({Mode.WRITE: "legacy/{x}"}, pure=False).under(KNOWN)
    assert legacy.pairs({"x": "acc-7"}) == (("write", "legacy/acc-7"), ("write", "crm/7"))
    assert legacy.pairs({"x": "other"}) == (("write", "legacy/other"),)
    assert legacy.pairs({}) == (("write", "legacy"), ("write", "crm"))


@pytest.mark.parametrize(
    ("text", "values", "keys"),
    [
        ("{ns}/{x}", {"ns": "customers", "x": 7}, ["crm/7"]),
        ("{ns}/{x}", {"ns": "crm", "x": 7}, ["crm/7"]),
        ("{ns}/{x}", {"ns": "inbox", "x": "Ada"}, ["mail/ada"]),
        ("{ns}/{x}", {"ns": "customers"}, ["customers", "crm"]),
        ("{ns}/{x}", {}, [""]),
        ("mail/a-{x}", {"x": "B"}, ["mail/a-b"]),
        ("mail/{x}", {"x": ["A", "B", "a"]}, ["mail/a", "mail/b"]),
    ],
)
def test_where_the_values_decide_they_are_waited_for(
    text: str, values: dict[str, Any], keys: list[str]
) -> None:
    """A template that only may be an alias is looked at when its key is known."""
    declared = declare({Mode.WRITE: text}, pure=False).under(KNOWN)
    assert [key for _, key in declared.pairs(values)] == keys
    for key in keys:
        assert any(t.may_yield(key) or not values for t in declared.templates)


def test_what_a_function_returns_is_respelled() -> None:
    """Keys from a function are resources like any other."""
    declared = declare({Mode.WRITE: lambda who: [f"customers/{who}", f"inbox/{who}"]}, pure=False)
    assert declared.under(KNOWN).pairs({"who": "Ada"}) == (
        ("write", "crm/Ada"),
        ("write", "mail/ada"),
    )


PARTS = st.sampled_from(["customers", "crm", "legacy", "acc-7", "card", "inbox", "mail", "A", "*"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@given(PATHS, PATHS)
def test_keys_that_overlap_overlap_in_any_spelling(one: str, other: str) -> None:
    """Respelling loses no conflict: whatever overlapped before, does so after."""
    if overlap(one, other):
        mine, theirs = KNOWN.canonical_keys(one), KNOWN.canonical_keys(other)
        assert any(overlap(a, b) for a in mine for b in theirs)


@given(PATHS, st.integers(1, 4))
def test_a_respelled_claim_only_narrows(path: str, count: int) -> None:
    """What is claimed while less was known covers what is claimed when all is."""
    early = KNOWN.canonical_keys("/".join(path.split("/")[:count]))
    for key in KNOWN.canonical_keys(path):
        assert any(within(key, claimed) for claimed in early)


@given(PATHS.filter(lambda path: "*" not in path))
def test_the_spelling_of_a_spelling_is_the_same(path: str) -> None:
    """A key in its spelling stays as it is."""
    for key in KNOWN.canonical_keys(path):
        assert KNOWN.canonical_keys(key)[0] == key


# Costs nothing, and fails well


def test_without_resources_nothing_changes() -> None:
    """An empty set of resources, or one that only has fences, leaves a declaration alone."""
    declared = declare({Mode.READ: "customers/{id}"}, pure=False)
    assert declared.under(NO_RESOURCES) is declared
    assert declared.under(Resources((Resource("x", fence="checked"),))) is declared
    assert declared.under(Resources((MAIL,))) is declared
    assert not NO_RESOURCES
    assert NO_RESOURCES.canonical_key("a/b") == "a/b"
    assert NO_RESOURCES.strength("a/b") is None


def test_a_resource_stands_for_its_key() -> None:
    """A resource may be given wherever a template may, and is remembered."""
    declared = declare({Mode.READ: ACCOUNT, Mode.WRITE: ["log", MAIL, ACCOUNT]}, pure=False)
    assert declared.used == (ACCOUNT, MAIL)
    assert declared.pairs({"id": 7, "to": "A"}) == (
        *(("read", "crm/7"), ("write", "log")),
        *(("write", "mail/A"), ("write", "crm/7")),
    )


def test_what_a_normal_raises_is_a_key_problem() -> None:
    """A function that fails, or returns no text, is told with the parameter's name."""

    def fails(text: str) -> str:
        raise LookupError(text)

    known = Resources((Resource("a/{x}", normal={"x": fails}),))
    with pytest.raises(KeyProblem, match=r"\{x\} is '7', and its normal= raised LookupError"):
        declare({Mode.READ: "a/{x}"}, pure=False).under(known).pairs({"x": "7"})
    with pytest.raises(KeyProblem, match="normal= raised LookupError"):
        declare({Mode.READ: "a/7"}, pure=False).under(known)
    odd: Any = len
    known = Resources((Resource("a/{x}", normal={"x": odd}),))
    with pytest.raises(KeyProblem, match="returned a int, not text"):
        declare({Mode.READ: "a/{x}"}, pure=False).under(known).pairs({"x": "7"})

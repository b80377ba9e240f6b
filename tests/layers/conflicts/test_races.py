"""Steps that nothing orders and that may touch the same are found before anything runs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.conflicts.keys import anything, overlap, parse
from undercroft.layers.conflicts.matrix import compatible
from undercroft.layers.conflicts.policy import declare
from undercroft.layers.conflicts.races import (
    RACES_MAX,
    Claimant,
    Claimed,
    find_fan_out_races,
    find_races,
    redundant,
)
from undercroft.model.effect import Mode

MODES = [mode.value for mode in Mode]


def claimed(*claims: str) -> tuple[Claimed, ...]:
    """Return claims that are written as `write crm/{id}`."""
    split = (claim.partition(" ") for claim in claims)
    return tuple((mode, parse(key)) for mode, _, key in split)


def step(  # noqa: PLR0913, PLR0917  what a step is made of
    name: str,
    claims: Sequence[Claimed],
    causes: Sequence[int] = (),
    order: int = 0,
    item: str | None = None,
    scalars: Sequence[str] = (),
) -> Claimant:
    """Return a step."""
    return Claimant(name, tuple(claims), tuple(causes), order, item, frozenset(scalars))


def pairs(steps: Sequence[Claimant]) -> list[tuple[str, str]]:
    """Return the names of the steps that race, the one that should come first first."""
    return [(steps[race.first].name, steps[race.second].name) for race in find_races(steps)]


@pytest.mark.parametrize(
    ("mine", "theirs", "race"),
    [
        ("write crm/{a}", "write crm/{a}", True),
        ("write crm/{a}", "read crm/{b}/notes", True),
        ("write crm/{a}/notes", "read crm/{b}", True),
        ("write crm/{a}", "write mail/{a}", False),
        ("write crm/{a}/x", "write crm/{a}/y", False),
        ("read crm/{a}", "read crm/{a}", False),
        ("append crm/{a}", "append crm/{a}", False),
        ("append crm/{a}", "read crm/{a}", True),
        ("write crm/{a}", "append crm/{a}", True),
        ("write crm/{a}", "peek crm/{a}", False),
        ("exclusive crm/{a}", "peek crm/{a}", True),
        ("write crm/*/x", "read crm/{a}/x", True),
        ("write crm/*/x", "read crm/{a}/y", False),
        ("write {a}", "read x/y/z", True),
        ("write crm/acct-{a}", "write crm/b-{b}", False),
        ("write crm/{a}", "write crm/{a}-old", False),
        ("write crm/{a}", "write crm/{b}-old", True),
        ("write crm/{list}", "write crm/{list}-old", True),
    ],
)
def test_unordered_steps_race_where_their_claims_do(mine: str, theirs: str, *, race: bool) -> None:
    """One name is one value in both steps; different names may be the same."""
    one = step("one", claimed(mine), scalars=["a", "b"])
    other = step("other", claimed(theirs), scalars=["a", "b"])
    assert pairs([one, other]) == ([("one", "other")] if race else [])
    assert pairs([other, one]) == ([("other", "one")] if race else [])


def test_an_edge_ends_a_race() -> None:
    """Steps of which one waits for the other, however far away, never race."""
    first, middle = step("first", claimed("write x")), step("middle", (), [0])
    assert pairs([first, middle, step("last", claimed("write x"), [1])]) == []
    assert pairs([first, middle, step("last", claimed("write x"), [])]) == [("first", "last")]


def test_the_edge_never_runs_backwards() -> None:
    """The step of the earlier phase comes first; within a phase, the earlier one of the plan."""
    late = step("late", claimed("write x"), order=5)
    early = step("early", claimed("read x"), order=1)
    assert pairs([late, early]) == [("early", "late")]
    (race,) = find_races([late, early])
    assert (race.mine[0], race.theirs[0]) == ("read", "write")


def test_two_steps_race_once() -> None:
    """However many of their claims meet, one edge would order them."""
    both = claimed("write x", "read y", "write y", "read x", "write z/{a}")
    assert pairs([step("one", both), step("other", both)]) == [("one", "other")]


def test_what_is_not_declared_races_with_all_of_its_service() -> None:
    """A step that says nothing is exclusive over its service, or over everything."""
    silent = declare({}, pure=False, service="crm").claims
    same = declare({Mode.PEEK: "a"}, pure=True, service="crm").claims
    other = declare({Mode.PEEK: "b"}, pure=True, service="mail").claims
    steps = [step("silent", silent), step("same", same), step("other", other), step("none", ())]
    assert pairs(steps) == [("silent", "same")]
    steps[0] = step("silent", declare({}, pure=False).claims)
    assert pairs(steps) == [("silent", "same"), ("silent", "other")]
    keys = declare({Mode.WRITE: lambda a: f"x/{a}"}, pure=False).claims
    assert pairs([step("one", keys), step("two", claimed("read y"))]) == [("one", "two")]


TEMPLATES = st.sampled_from(
    ["x", "x/y", "x/{a}", "x/{b}", "x/{a}/y", "x/{a}-y", "x/y-{b}", "{a}", "{b}/y", "*/y", "y/{a}"]
)
CLAIMS = st.lists(st.tuples(st.sampled_from(MODES), TEMPLATES.map(parse)), max_size=2)
VALUES = ["x", "y", "x-y", "y-x", "y-y"]


@st.composite
def graphs(draw: st.DrawFn) -> list[Claimant]:
    """Draw up to five steps with edges from earlier ones."""
    steps = []
    for place in range(draw(st.integers(2, 5))):
        causes = [cause for cause in range(place) if draw(st.integers(0, 3)) == 0]
        steps.append(
            step(f"s{place}", draw(CLAIMS), causes, draw(st.integers(0, 2)), scalars=["a"])
        )
    return steps


def reaches(steps: Sequence[Claimant], one: int, other: int) -> bool:
    """Whether `other` waits for `one`."""
    causes = steps[other].causes
    return one in causes or any(reaches(steps, one, cause) for cause in causes)


def meet(one: Claimed, other: Claimed) -> bool:
    """Whether some values make the claims of two steps incompatible; `a` is one value for both."""
    if compatible(one[0], other[0]):
        return False
    return any(
        overlap(one[1].render({"a": a, "b": b}), other[1].render({"a": a, "b": c}))
        for a, b, c in itertools.product(VALUES, repeat=3)
    )


@given(graphs())
def test_every_race_is_found(steps: list[Claimant]) -> None:
    """Where some values let unordered steps clash, they are named; where none do, they are not."""
    found = {frozenset((race.first, race.second)) for race in find_races(steps)}
    expected = {
        frozenset((one, other))
        for one, other in itertools.combinations(range(len(steps)), 2)
        if not reaches(steps, one, other)
        and any(meet(mine, theirs) for mine in steps[one].claims for theirs in steps[other].claims)
    }
    assert found == expected


@given(graphs())
def test_the_edge_that_is_named_makes_no_circle(steps: list[Claimant]) -> None:
    """An edge from the first to the second goes with all others, and not against the phases."""
    for race in find_races(steps):
        assert not reaches(steps, race.second, race.first)
        assert steps[race.first].order <= steps[race.second].order


def test_a_graph_of_thousands_of_steps_is_checked_at_once() -> None:
    """Steps on keys of their own are not compared with each other, and neither are reads."""
    steps = [
        step(f"s{n}", claimed(f"write crm/{n}/{{a}}", "read common", "append log"))
        for n in range(3_000)
    ]
    began_s = time.perf_counter()
    assert find_races(steps) == []
    assert time.perf_counter() - began_s < 5
    steps = [step(f"s{n}", claimed("write x")) for n in range(1_000)]
    assert len(find_races(steps)) == RACES_MAX


# Fan-outs


@pytest.mark.parametrize(
    ("claims", "race"),
    [
        (["write crm/{item}"], False),
        (["write crm/{item}/notes"], False),
        (["write crm/x-{item}"], False),
        (["write crm/{account}"], True),
        (["write crm"], True),
        (["exclusive crm"], True),
        (["append crm"], False),
        (["read crm"], False),
        (["write crm/{item}", "read crm"], True),
        (["write crm/{item}", "peek crm"], False),
        (["write crm/{item}", "read crm/{item}/notes"], False),
        (["write crm/{item}/a", "read crm/{account}/b"], False),
        (["write crm/{item}/a", "read crm/{account}/a"], True),
        (["write crm/{item}", "write log/{account}"], True),
        (["write crm/{account}/{item}"], False),
    ],
)
def test_items_race_where_the_key_does_not_tell_them_apart(
    claims: list[str], *, race: bool
) -> None:
    """Items of a fan-out run beside each other, so each must write something of its own."""
    fan = step("fan", claimed(*claims), item="item", scalars=["account"])
    assert bool(find_fan_out_races([fan])) is race
    assert find_fan_out_races([step("one", claimed(*claims))]) == []


def test_items_and_functions() -> None:
    """A function that is given the item tells items apart; one that is not does not."""
    knows = ("write", anything("<f>", ("item",)))
    ignores = ("write", anything("<f>", ("account",)))
    assert find_fan_out_races([step("fan", [knows], item="item")]) == []
    assert find_fan_out_races([step("fan", [ignores], item="item")])
    assert find_fan_out_races([step("fan", [knows, ("read", parse("x"))], item="item")])


# Claims of one step


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        (["write crm", "write crm/{a}"], ["write crm/{a}"]),
        (["write crm/{a}", "write crm/{a}"], ["write crm/{a}"]),
        (["write crm/*", "append crm/{a}/x"], ["append crm/{a}/x"]),
        (["read crm", "peek crm/{a}"], ["peek crm/{a}"]),
        (["exclusive crm", "write crm"], ["write crm"]),
        (["read crm/{a}", "write crm/{a}"], []),
        (["read crm", "write crm/{a}"], []),
        (["write crm/{a}", "write crm/{b}"], []),
        (["write crm/{a}", "write crm"], ["write crm/{a}"]),
        (["peek crm", "write crm/{a}"], []),
        (["append crm/{a}", "append mail/{a}"], []),
    ],
)
def test_a_claim_that_says_nothing_is_found(claims: list[str], said: list[str]) -> None:
    """A claim within one of the same or a stronger mode is redundant; a read says something."""
    found = [f"{mode} {template.text}" for (mode, template), _ in redundant(claimed(*claims))]
    assert found == said


def test_nothing_is_redundant_beside_a_function() -> None:
    """What a function will return covers nothing for certain."""
    claims = [("write", anything("<f>")), ("write", anything("<f>")), *claimed("write x")]
    assert list(redundant(claims)) == []

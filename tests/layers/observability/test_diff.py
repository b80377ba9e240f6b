"""Two turns beside each other: aligned in their order, and the same only where they are."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.observability.diff import aligned, compare
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import StepStatus
from undercroft.model.trace import StepTrace, Trace

keys = st.lists(st.sampled_from("abc"), max_size=9)


def turn(*names: str, **given_: object) -> Trace:
    """Return a turn of steps called so, each with its name as argument."""
    steps = tuple(
        StepTrace(f"{name}.{n}", n, name, "tool", StepStatus.OK, arguments=dict(given_))
        for n, name in enumerate(names, 1)
    )
    return Trace(
        "t-1", "handler", "app:x", None, TurnStatus.DONE, {}, 0.0, 1.0, steps, (), delivered="yes"
    )


def longest(a: list[str], b: list[str]) -> int:
    """Return the length of a longest common subsequence, by its definition."""

    @cache
    def of(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        if a[i] == b[j]:
            return 1 + of(i + 1, j + 1)
        return max(of(i + 1, j), of(i, j + 1))

    return of(0, 0)


@given(a=keys, b=keys)
def test_steps_are_aligned_as_well_as_can_be(a: list[str], b: list[str]) -> None:
    """Pairs are alike, in the order of both, and no more of them could be found."""
    pairs = aligned(a, b)
    assert all(a[i] == b[j] for i, j in pairs)
    assert all(one[0] < two[0] and one[1] < two[1] for one, two in pairwise(pairs))
    assert len(pairs) == longest(a, b)


@given(a=keys, b=keys)
def test_every_step_is_told_once_and_in_order(a: list[str], b: list[str]) -> None:
    """Whatever the turns, each step of each is in one pair; only equal turns are the same."""
    first, second = turn(*a), turn(*b)
    found = compare(first, second)
    assert tuple(pair.a for pair in found.pairs if pair.a) == first.steps
    assert tuple(pair.b for pair in found.pairs if pair.b) == second.steps
    assert found.same == (a == b)
    assert (found.first is None) == (a == b)


def test_what_differs_of_a_step_is_named() -> None:
    """Its status, its result and its arguments; a duration is no difference."""
    was = turn("read", "write", "read", order=1)
    write = replace(was.steps[1], status=StepStatus.FAILED, value="no", took_s=7.0)
    now = replace(was, steps=(was.steps[0], write, was.steps[2]))
    found = compare(was, now)
    assert found.first == 1
    assert [one.what for one in found.pairs[1].differs] == ["status", "value"]
    slower = tuple(replace(step, took_s=9.0, began_at=5.0) for step in was.steps)
    assert compare(was, replace(was, turn_id="t-2", steps=slower, began_at=4.0)).same
    other = replace(was.steps[1], arguments={"order": True})
    changed = compare(was, replace(was, steps=(was.steps[0], other, was.steps[2])))
    assert [one.what for one in changed.pairs[1].differs] == ["arguments"]
    assert len(changed.pairs) == 3


def test_what_differs_of_the_turns_is_named() -> None:
    """What they were asked, how they ended and what the user was told."""
    was = turn("read")
    now = replace(was, status=TurnStatus.DEGRADED, missing=("crm",), delivered="no", input={"a": 1})
    named = [one.what for one in compare(was, now).turn]
    assert named == ["input", "status", "missing", "delivered"]


def test_long_turns_are_compared_in_no_time() -> None:
    """Thousands of steps, with differences all over."""
    a = turn(*(f"s{n % 97}" for n in range(5_000)))
    b = turn(*(f"s{n % 97}" for n in range(5_000) if n % 13))
    found = compare(a, b)
    assert sum(pair.b is None for pair in found.pairs) == len(a.steps) - len(b.steps)


def test_what_is_no_plain_data_is_compared_all_the_same() -> None:
    """A number that is none is the same as itself."""
    odd = turn("read", value=float("nan"))
    assert compare(odd, odd).same

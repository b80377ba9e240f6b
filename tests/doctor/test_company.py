"""What the other calls of a run say of one whose name and arguments say too little."""

from __future__ import annotations

import json
from typing import Any

import pytest

from undercroft.doctor.company import in_company
from undercroft.doctor.effects import infer
from undercroft.model.case import Access, Case, CaseCall


def inferred(*calls: tuple[str, dict[str, Any], Any]) -> list[tuple[Access, list[str]]]:
    """Return what each call did, and to what."""
    case = Case(
        trace_id="t",
        format="test",
        steps=len(calls),
        calls=tuple(
            CaseCall(step=n, name=name, ended=n, arguments=given, result=json.dumps(result))
            for n, (name, given, result) in enumerate(calls)
        ),
    )
    return [
        (call.access, [f"{touch.mode} {touch.key}" for touch in call.touches])
        for call in infer(case).calls
    ]


def test_a_field_that_has_changed_was_written() -> None:
    """Whoever is given 85 for a field that was empty, and returns 85, has set it."""
    one = {"submission": "SB-310"}
    assert inferred(
        ("submission", one, {**one, "points": None}),
        ("adjudge", {**one, "points": 85}, {**one, "points": 85}),
        ("submission", one, {**one, "points": 85}),
    ) == [
        (Access.READ, ["read submission/SB-310"]),
        (Access.WRITE, ["write submission/SB-310"]),
        (Access.READ, ["read submission/SB-310"]),
    ]


@pytest.mark.parametrize(
    "after", [{"submission": "SB-310", "points": 70}, {"submission": "SB-310", "by": "Ada"}]
)
def test_a_field_that_was_only_asked_by_was_not(after: dict[str, Any]) -> None:
    """Where the result does not show what was given as the new state, nothing is known to be."""
    one = {"submission": "SB-310"}
    first, then = inferred(
        ("submission", one, {**one, "points": 70}),
        ("verdicts", {**one, "points": 70 if "points" in after else 85}, [after]),
    )
    assert (first[0], then) == (Access.READ, (Access.READ, []))


def test_what_a_read_was_asked_by_is_what_a_change_is_made_to() -> None:
    """A house by its number, a page by its title, a service by its name: the same to both."""
    for name, value in (("house", 4), ("title", "Onboarding"), ("service", "checkout")):
        one = {name: value}
        read, write = inferred(
            ("read_state", one, {**one, "level": 1}), ("adjust_level", {**one, "to": 2}, "ok")
        )
        assert read == (Access.READ, [f"read {name}/{value}"])
        assert write == (Access.WRITE, [f"write {name}/{value}"])


@pytest.mark.parametrize(
    ("read", "write"),
    [
        # Of a search nobody knows which of the things found was meant.
        (("search_rooms", {"floor": 4}), ("adjust_level", {"floor": 4, "to": 2})),
        # Two words for a read: which of them is the thing?
        (("read_state", {"house": 4, "day": 2}), ("adjust_level", {"house": 4, "to": 2})),
        # A value that is set in several things is none of them.
        (("get_weather", {"city": "Ely"}), ("change_address", {"city": "Ely", "zip": "1"})),
        (("read_state", {"house": 5}), ("adjust_level", {"house": 4, "to": 2})),
    ],
)
def test_what_only_looks_alike_is_left_alone(
    read: tuple[str, dict[str, Any]], write: tuple[str, dict[str, Any]]
) -> None:
    """Where it may be something else, no resource is made up."""
    assert inferred((*read, {"a": 1}), (*write, "ok"))[1] == (Access.WRITE, [])


def test_what_names_begin_with_together_is_no_verb() -> None:
    """A server's name stands before each of its tools, and says nothing of what they do."""
    names = ["lms_get_submission", "lms_grade_submission", "grade_submission", "user_order_items"]
    assert in_company(names) == {
        "lms_get_submission": "lms_get_submission",
        "lms_grade_submission": "grade_submission",
        "grade_submission": "grade_submission",
        "user_order_items": "user_order_items",
    }
    read, write = inferred(
        ("lms_get_submission", {"id": "SB-310"}, {}),
        ("lms_grade_submission", {"id": "SB-310", "points": 3}, "ok"),
    )
    assert (read[0], write[0]) == (Access.READ, Access.WRITE)
    assert read[1][0].removeprefix("read ") == write[1][0].removeprefix("write ")

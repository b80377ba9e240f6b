"""What may stand in for a step, and what is refused where it is declared."""

from __future__ import annotations

from typing import Any

import pytest

import undercroft as uc
from undercroft.errors import DeclarationError


async def wants_more(i: int, region: str) -> str:
    """Take something that the tool does not."""
    return region


@uc.tool(reads="b", approval=True)
async def asks_first() -> str:
    """Ask a person."""
    return ""


@uc.tool(writes="b")
async def writes_b() -> str:
    """Change something."""
    return ""


class NoData:
    """What cannot be written."""


def declare_one(what: str, fallback: Any) -> None:
    """Declare a tool, or a step of a workflow."""
    if what == "tool":

        @uc.tool(reads="a/{i}", fallback=fallback)
        async def tool(i: int) -> str:
            return ""

        return
    flow = uc.Workflow("flow")

    @flow.read("a/{i}", fallback=fallback)
    async def get(i: int) -> str:
        return ""


@pytest.mark.parametrize(
    ("fallback", "words"),
    [
        (wants_more, "region"),
        (asks_first, "person"),
        (NoData(), "recorded"),
        ({"a": [NoData()]}, "recorded"),
    ],
)
def test_a_fallback_that_cannot_stand_in_is_refused_where_it_is_declared(
    fallback: Any, words: str
) -> None:
    """The error names the tool or step, and what is wrong."""
    for what in ("tool", "workflow"):
        with pytest.raises(DeclarationError, match=words):
            declare_one(what, fallback)


def test_a_workflow_takes_no_fallback_that_changes_the_world() -> None:
    """Such is a step of its own; and nothing stands in for a person."""
    flow = uc.Workflow("flow")
    with pytest.raises(DeclarationError, match="changes the world"):

        @flow.execute(writes="a", fallback=writes_b)
        async def put() -> str:
            return ""

    with pytest.raises(DeclarationError, match="person"):

        @flow.approve(fallback=True)
        async def gate() -> bool:
            return True

"""Which turns wait for an owner, and which are refused at once so that none wait in a ring."""

from __future__ import annotations

import asyncio
import itertools

import pytest

import undercroft as uc
from undercroft.testing import run_virtual


class InOrder:
    """Ids in the order of asking, and no jitter."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def turn(self, at: float) -> str:
        """Return the next id."""
        del at
        return f"t-{next(self._numbers):06}"

    def jitter(self) -> float:
        """Return the least."""
        return 0.0


@pytest.mark.parametrize(
    ("first", "status"), [("nothing", "ok"), ("note", "ok"), ("put", "refused")]
)
def test_only_who_owns_something_is_refused_by_an_older_turn(first: str, status: str) -> None:
    """A younger turn waits for an older owner, unless it owns something itself.

    What it only appended to does not count: that was let go of with the step.
    """

    @uc.tool(writes="r/{key}")
    async def put(key: str) -> str:
        return key

    @uc.tool(appends="notes")
    async def note() -> None:
        """Add a note."""

    @uc.handler(tools=[put, note])
    async def older(turn: uc.Turn) -> None:
        await turn.calls([uc.Call("put", {"key": "x"})])
        await asyncio.sleep(5)

    @uc.handler(tools=[put, note])
    async def younger(turn: uc.Turn) -> str:
        if first == "note":
            await turn.calls([uc.Call("note")])
        if first == "put":
            await turn.calls([uc.Call("put", {"key": "y"})])
        (result,) = await turn.calls([uc.Call("put", {"key": "x"})])
        if result.refusal is not None:
            assert result.refusal.rule == "conflicts.owned"
            assert "ring" in result.refusal.message
        return str(result.status)

    async def main() -> str:
        async with uc.Runtime(ids=InOrder()) as rt:
            before = asyncio.ensure_future(rt.run(older))
            await asyncio.sleep(0.1)
            outcome = await rt.run(younger)
            await before
            return str(outcome.value)

    assert run_virtual(main()) == status

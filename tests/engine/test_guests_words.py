"""People's words on calls of guests: brought along by their loop, or wanted by tools themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from undercroft.errors import ApprovalNeededError, DecisionError
from undercroft.model.foreign import ForeignTool, Hints
from undercroft.model.step import StepStatus

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}}
PAY, NOTE = uc.Call("pay", {"n": 1}, "a"), uc.Call("note", {"n": 2}, "b")


def tools(*, asks: bool) -> list[ForeignTool]:
    """Return two tools that conflict."""
    return [
        ForeignTool("pay", schema=SCHEMA, hints=Hints(approval=asks)),
        ForeignTool("note", schema=SCHEMA),
    ]


class World:
    """What was done; `pay` itself wants a person's word unless it has one."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.agreed = False

    async def pay(self) -> str:
        """Pay, if somebody agreed."""
        if not self.agreed:
            raise ApprovalNeededError("somebody has to agree")
        self.did.append("pay")
        return "paid"

    async def note(self) -> str:
        """Write a note."""
        self.did.append("note")
        return "noted"


async def test_a_tool_may_want_a_word_once_it_is_called() -> None:
    """It is asked about as if it had been declared so, and what conflicts is held meanwhile."""
    world = World()
    async with uc.Runtime() as rt:
        guest = rt.guest(rt.toolset("g", tools(asks=False)), session="s")
        await guest.saw([PAY, NOTE])
        first, second = await asyncio.gather(
            guest.call(PAY, world.pay), guest.call(NOTE, world.note)
        )
        assert (first.status, second.status) == (StepStatus.WAITING, StepStatus.WAITING)
        asked = guest.question(PAY)
        assert asked is not None
        assert asked.arguments == {"n": 1}
        assert guest.question(NOTE) is None
        await guest.decide(PAY, granted=True, by="ada")
        world.agreed = True
        first, second = await asyncio.gather(
            guest.call(PAY, world.pay), guest.call(NOTE, world.note)
        )
        assert (first.value, second.value) == ("paid", "noted")
        assert world.did == ["pay", "note"]
        await guest.end("done")


async def test_the_word_that_it_wants_may_come_in_another_life(tmp_path: Path) -> None:
    """The question is in the journal: who goes on brings the answer along, before any call."""
    world = World()
    async with uc.Runtime(tmp_path / "j.db") as rt:
        guest = rt.guest(rt.toolset("g", tools(asks=False)), session="s")
        await guest.saw([PAY])
        assert (await guest.call(PAY, world.pay)).status is StepStatus.WAITING
        await guest.pause()
    world.agreed = True
    async with uc.Runtime(tmp_path / "j.db") as rt:
        guest = rt.guest(rt.toolset("g", tools(asks=False)), session="s")
        await guest.saw([PAY])
        await guest.decide(PAY, granted=True, by="ada")
        assert (await guest.call(PAY, world.pay)).value == "paid"
        outcome = await guest.end("done")
    assert world.did == ["pay"]
    assert outcome is not None
    assert outcome.status == "done"


@pytest.mark.parametrize("granted", [True, False])
async def test_a_word_may_be_said_before_the_call_is_asked_for(*, granted: bool) -> None:
    """A loop that goes on after a pause knows the answers before it comes to the calls."""
    world = World()
    world.agreed = True
    async with uc.Runtime() as rt:
        guest = rt.guest(rt.toolset("g", tools(asks=True)), session="s")
        await guest.saw([PAY, NOTE])
        await guest.decide(PAY, granted=granted, by="ada", reason="so")
        second, first = await asyncio.gather(
            guest.call(NOTE, world.note), guest.call(PAY, world.pay)
        )
        assert first.status is (StepStatus.OK if granted else StepStatus.REFUSED)
        assert second.value == "noted"
        assert world.did == (["pay", "note"] if granted else ["note"])
        await guest.end("done")


async def test_a_word_on_a_call_that_wants_none_is_refused() -> None:
    """Of a call that is only held behind another one, nobody's word counts."""
    async with uc.Runtime() as rt:
        guest = rt.guest(rt.toolset("g", tools(asks=True)), session="s")
        await guest.saw([PAY, NOTE])
        with pytest.raises(DecisionError):
            await guest.decide(NOTE, granted=True, by="ada")
        await guest.end("done")


async def test_what_an_approver_saw_is_read_again_and_nothing_else_is_done() -> None:
    """Before a call that was agreed to the read is repeated, by what carried it out."""
    did: list[str] = []
    made = [ForeignTool("look", schema=SCHEMA), *tools(asks=True)]
    effects = {"look": {"reads": "acc/{n}"}, "pay": {"writes": "acc/{n}"}}
    look = uc.Call("look", {"n": 1}, "l")

    async def looks() -> int:
        did.append("look")
        return 5

    async def pays() -> str:
        did.append("pay")
        return "paid"

    async with uc.Runtime() as rt:
        guest = rt.guest(rt.toolset("g", made, effects), session="s")
        await guest.saw([look, PAY])
        assert (await guest.call(look, looks)).value == 5
        assert (await guest.call(PAY, pays)).status is StepStatus.WAITING
        await guest.decide(PAY, granted=True, by="ada")
        assert (await guest.call(PAY, pays)).value == "paid"
        assert did == ["look", "look", "pay"]
        await guest.end("done")

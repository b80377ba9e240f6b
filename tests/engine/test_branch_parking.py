"""A turn parks once none of its branches can go on, and not before."""

from __future__ import annotations

import asyncio

import undercroft as uc
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import run_virtual


class Slow:
    """A model that takes its time."""

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Answer after a while."""
        del request
        await asyncio.sleep(5)
        return uc.Answer("said")


@uc.tool(writes="money", approval=True, read_first=False)
async def pay() -> str:
    """Pay."""
    return "paid"


@uc.handler(tools=[pay])
async def work(turn: uc.Turn) -> list[str]:
    """Pay and ask, side by side."""

    async def pays() -> str:
        async with turn.branch("a") as own:
            (result,) = await own.calls([uc.Call("pay")])
            return str(result.value)

    async def asks() -> str:
        async with turn.branch("b") as own:
            own.context.user("hello")
            return (await own.model()).text

    return list(await asyncio.gather(pays(), asks()))


def test_a_branch_that_waits_does_not_cut_off_another_one_on_a_resume() -> None:
    """On a replay it waits at once, before the other one has begun to ask again."""

    async def main() -> uc.Outcome:
        journal = MemoryJournal()
        async with uc.Runtime(MemoryStore(journal), model=Slow(), targets=[work]) as rt:
            running = asyncio.ensure_future(rt.run(work))
            await asyncio.sleep(2)  # one waits for a person, the other for its model
            running.cancel()
            await asyncio.wait([running])
            (head,) = rt.turns()
        async with uc.Runtime(MemoryStore(journal), model=Slow(), targets=[work]) as rt:
            parked = await rt.resume(head.turn_id)
            assert [waiting.name for waiting in parked.waiting] == ["pay"]
            return await rt.approve(head.turn_id, by="ada")

    outcome = run_virtual(main())
    assert (outcome.status, outcome.value) == ("done", ["paid", "said"]), outcome.error

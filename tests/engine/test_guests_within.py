"""Agents as tools: a loop within a call of another one works on its behalf."""

from __future__ import annotations

import asyncio
from typing import Any

import undercroft as uc
from tests.engine.guesting import foreign, returns, statuses
from undercroft.errors import PausedError
from undercroft.testing import run_virtual


def _noting(log: list[str], what: str) -> Any:
    async def work() -> str:
        log.append(what)
        await asyncio.sleep(0.1)
        return what

    return work


def test_a_loop_within_a_call_works_as_a_branch_and_waits_for_nobody() -> None:
    """An agent as a tool: its calls are of the same turn, and what the call held is free."""
    order: list[str] = []

    async def main() -> uc.Trace:
        async with uc.Runtime() as rt:
            outer = rt.guest([foreign("delegate")], session="s", name="outer")

            def delegate(name: str) -> Any:
                async def work() -> str:
                    inner = rt.guest([foreign("look"), foreign("put")], session="s", name="inner")
                    batch = [uc.Call("look", {}, f"{name}1"), uc.Call("put", {}, f"{name}2")]
                    await inner.saw(batch)
                    for call in batch:
                        await inner.call(call, _noting(order, f"{name} {call.name}"))
                    await inner.end("done")
                    return name

                return work

            batch = [uc.Call("delegate", {"note": n}, n) for n in "AB"]
            await outer.saw(batch)
            done = await asyncio.gather(*(outer.call(c, delegate(str(c.id))) for c in batch))
            assert statuses(list(done)) == ["ok", "ok"]
            turn_id = outer.turn_id
            await outer.end()
            return rt.trace(turn_id)

    trace = run_virtual(main())
    assert sorted(order) == ["A look", "A put", "B look", "B put"]
    assert {step.branch for step in trace.steps} == {"", "delegate.1", "delegate.2"}


def test_a_loop_within_a_call_may_write_what_the_line_outside_wrote() -> None:
    """It works on behalf of that line; two that work side by side are kept apart."""

    async def main() -> None:
        async with uc.Runtime() as rt:
            put = foreign("put", writes="r/{account}", read_first=False)
            outer = rt.guest([put, foreign("delegate")], session="s")
            first = uc.Call("put", {"account": "1"}, "p")
            await outer.saw([first])
            assert (await outer.call(first, returns(1))).status == "ok"

            async def work(key: str) -> uc.Result:
                inner = rt.guest([put])
                call = uc.Call("put", {"account": "1"}, key)
                result = await inner.call(call, _noting([], key))
                await asyncio.sleep(1)
                await inner.end()
                return result

            batch = [uc.Call("delegate", {"note": n}, n) for n in "AB"]
            await outer.saw(batch)
            found: dict[str, uc.Result] = {}

            def run(name: str) -> Any:
                async def inside() -> str:
                    found[name] = await work(name)
                    return name

                return inside

            await asyncio.gather(*(outer.call(c, run(str(c.id))) for c in batch))
            assert sorted(str(r.status) for r in found.values()) == ["ok", "refused"]
            # What the branch owned fell back to the line outside.
            last = uc.Call("put", {"account": "1"}, "q")
            await outer.saw([last])
            assert (await outer.call(last, returns(1))).status == "ok"
            await outer.end()

    run_virtual(main())


def test_a_call_within_which_somebody_is_asked_waits_and_is_gone_on_with() -> None:
    """The agent inside of a call paused: the call waits too, and what it had done is not redone."""
    paid: list[str] = []

    async def pay() -> str:
        paid.append("x")
        return "paid"

    async def main() -> None:
        async with uc.Runtime() as rt:
            tool = foreign("pay", writes="r/{account}", approval=True, read_first=False)
            outside = foreign("delegate")

            async def life(*, say: bool) -> uc.Result:
                outer = rt.guest([outside], session="s")
                call = uc.Call("delegate", {}, "d")

                async def inside() -> str:
                    inner = rt.guest([tool])
                    mine = uc.Call("pay", {"account": "1"}, "p")
                    result = await inner.call(mine, pay)
                    if result.status == "waiting":
                        if not say:
                            await inner.pause()
                            raise PausedError("delegate", "somebody is asked", "Decide.")
                        await inner.decide(mine, granted=True, by="ada")
                        result = await inner.call(mine, pay)
                    await inner.end()
                    return result.text

                await outer.saw([call])
                result = await outer.call(call, inside)
                await (outer.pause() if result.status == "waiting" else outer.end())
                return result

            assert (await life(say=False)).status == "waiting"
            result = await life(say=True)
            assert (result.status, result.value, paid) == ("ok", "paid", ["x"])

    run_virtual(main())

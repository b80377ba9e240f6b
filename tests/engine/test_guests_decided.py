"""What people said of calls of a loop that is somebody else's, over its lives."""

from __future__ import annotations

import asyncio
from typing import Any

import undercroft as uc
from tests.engine.guesting import foreign
from undercroft.engine.guest import Guest
from undercroft.errors import PausedError
from undercroft.testing import run_virtual

PAY = [uc.Call("pay", {"account": "1"}, "c-pay")]
LOOK = [uc.Call("look", {"account": "1"}, "c-look")]


def tools() -> list[Any]:
    """Return a read, and a payment that somebody must agree to."""
    look = foreign("look", reads="account/{account}")
    pay = foreign("pay", writes="account/{account}", approval=True, read_first=False)
    return [look, pay]


def test_a_yes_to_what_changed_is_asked_for_again_in_the_same_life() -> None:
    """The question says what changed, and the next word counts."""
    balance, paid = [100], []

    async def look() -> int:
        return balance[0]

    async def pay() -> str:
        paid.append(balance[0])
        return "paid"

    async def main() -> None:
        async with uc.Runtime() as rt:
            guest: Guest = rt.guest(tools(), session="s")
            await guest.saw(LOOK)
            await guest.call(LOOK[0], look)
            await guest.saw(PAY)
            assert (await guest.call(PAY[0], pay)).status == "waiting"
            balance[0] = 60
            await guest.decide(PAY[0], granted=True, by="ada")
            assert (await guest.call(PAY[0], pay)).status == "waiting"
            question = guest.question(PAY[0])
            assert question is not None
            assert question.void == "changed"
            assert [(one.key, one.was, one.now) for one in question.changed] == [
                ("account/1", 100, 60)
            ]
            await guest.decide(PAY[0], granted=True, by="ada")
            assert (await guest.call(PAY[0], pay)).status == "ok"
            assert paid == [60]
            await guest.end("done")

    run_virtual(main())


def test_a_no_stays_a_no_when_the_batch_is_run_again() -> None:
    """A framework runs a whole node again: nobody is asked twice about what was refused."""

    async def pay() -> str:
        raise AssertionError("it was refused")

    async def main() -> None:
        async with uc.Runtime() as rt:
            given = tools()
            guest: Guest = rt.guest(given, session="s")
            await guest.saw(PAY)
            await guest.call(PAY[0], pay)
            await guest.decide(PAY[0], granted=False, by="ada", reason="too much")
            first = await guest.call(PAY[0], pay)
            await guest.pause()
            again: Guest = rt.guest(given, session="s")
            await again.saw(PAY)
            second = await again.call(PAY[0], pay)
            assert (first.status, second.status) == ("refused", "refused")
            assert first.text == second.text
            assert "too much" in second.text
            await again.end("done")

    run_virtual(main())


def test_a_loop_can_tell_a_question_of_an_earlier_life_from_a_new_one() -> None:
    """No answer can be there to what nobody was asked before."""

    async def pay() -> str:
        return "paid"

    async def main() -> None:
        async with uc.Runtime() as rt:
            given = tools()
            guest: Guest = rt.guest(given, session="s")
            assert not guest.asked_before(PAY[0])
            await guest.saw(PAY)
            assert (await guest.call(PAY[0], pay)).status == "waiting"
            assert not guest.asked_before(PAY[0])
            await guest.pause()
            again: Guest = rt.guest(given, session="s")
            await again.saw(PAY)
            assert again.asked_before(PAY[0])
            assert (await again.call(PAY[0], pay)).status == "waiting"
            assert again.asked_before(PAY[0])
            await again.decide(PAY[0], granted=True, by="ada")
            assert (await again.call(PAY[0], pay)).status == "ok"
            await again.end("done")

    run_virtual(main())


def test_what_is_recorded_within_a_call_is_not_done_again_when_the_call_runs_anew() -> None:
    """The loop within paused after it had paid: its outer call has another number by then."""
    paid: list[str] = []
    free = foreign("pay", writes="account/{account}", read_first=False)
    asks = foreign("close", writes="book/{account}", approval=True, read_first=False)
    outer = uc.Call("delegate", {}, "c-outer")
    inner = [uc.Call("pay", {"account": "1"}, "c-1"), uc.Call("close", {"account": "1"}, "c-2")]

    async def work() -> str:
        paid.append("x")
        return "done"

    async def life(rt: uc.Runtime, *, yes: bool) -> uc.Result:
        outside: Guest = rt.guest([foreign("delegate")], session="s")

        async def within() -> str:
            guest: Guest = rt.guest([free, asks])
            await guest.saw(inner[:1])
            first = await guest.call(inner[0], work)
            await guest.saw(inner[1:])
            second = await guest.call(inner[1], work)
            assert guest.asked_before(inner[1]) == yes
            if not yes:
                await guest.pause()
                raise PausedError("delegate", "somebody is asked", "Answer.")
            await guest.decide(inner[1], granted=True, by="ada")
            second = await guest.call(inner[1], work)
            await guest.end()
            return f"{first.text} {second.text}"

        await outside.saw([outer])
        result = await outside.call(outer, within)
        await (outside.end() if yes else outside.pause())
        return result

    async def main() -> None:
        async with uc.Runtime() as rt:
            assert (await life(rt, yes=False)).status == "waiting"
            assert (await life(rt, yes=True)).value == "done done"
            assert paid == ["x", "x"]

    run_virtual(main())


def test_a_call_that_was_changed_before_it_ran_runs_and_claims_as_it_is_asked_for() -> None:
    """A person edited it in the framework's own way: its sibling holds its place."""
    log: list[str] = []
    given = [foreign("pay", writes="account/{account}", read_first=False), foreign("other")]
    batch = [uc.Call("pay", {"account": n}, f"c-{n}") for n in ("a", "b")]
    edited = uc.Call("pay", {"account": "a", "note": "edited"}, "c-b")

    def work(name: str) -> Any:
        async def run() -> str:
            log.append(f"begin {name}")
            await asyncio.sleep(1)
            log.append(f"end {name}")
            return name

        return run

    async def main() -> None:
        async with uc.Runtime() as rt:
            guest: Guest = rt.guest(given, session="s")
            await guest.saw(batch)

            async def one(call: uc.Call, name: str) -> uc.Result:
                await guest.saw(batch)
                return await guest.call(call, work(name))

            done = await asyncio.gather(one(batch[0], "first"), one(edited, "edited"))
            assert [result.status for result in done] == ["ok", "ok"]
            assert log == ["begin first", "end first", "begin edited", "end edited"]
            swapped = [uc.Call("pay", {"account": "z"}, "c-z")]
            await guest.saw(swapped)
            result = await guest.call(uc.Call("other", {}, "c-z"), work("other"))
            assert (result.status, result.name) == ("ok", "other")
            turn_id = guest.turn_id
            await guest.end("done")
            steps = rt.trace(turn_id).steps
            assert [(s.name, str(s.status), s.arguments) for s in steps] == [
                ("pay", "ok", {"account": "a"}),
                ("pay", "skipped", {"account": "b"}),
                ("pay", "ok", {"account": "a", "note": "edited"}),
                ("pay", "skipped", {"account": "z"}),
                ("other", "ok", {}),
            ]

    run_virtual(main())

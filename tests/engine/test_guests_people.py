"""People and the turns of loops that are somebody else's: a word counts once, whoever gives it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.engine.guesting import foreign, returns, statuses
from undercroft.errors import GuestError
from undercroft.testing import run_virtual


def test_a_loop_that_asks_one_after_the_other_meets_an_approval() -> None:
    """Held behind it, a call is given back as waiting although a third was not asked for yet."""

    async def main() -> None:
        async with uc.Runtime() as rt:
            pay = foreign("pay", writes="r/{account}", approval=True, read_first=False)
            note = foreign("note", writes="r/{account}", read_first=False)
            look = foreign("look", reads="other")
            guest = rt.guest([pay, note, look], session="s")
            batch = [uc.Call(n, {"account": "1"}, n) for n in ("pay", "note", "look")]
            ran: list[str] = []

            def run(name: str) -> Any:
                async def work() -> str:
                    ran.append(name)
                    return name

                return work

            await guest.saw(batch)
            results = [await guest.call(call, run(call.name)) for call in batch]
            assert statuses(results) == ["waiting", "waiting", "ok"]
            question = guest.question(batch[0])
            assert question is not None
            assert (question.name, question.arguments) == ("pay", {"account": "1"})
            assert guest.question(batch[1]) is None
            outcome = await guest.pause()
            assert outcome is not None
            assert [w.name for w in outcome.waiting] == ["pay"]

            # Another life of the same loop.
            again = rt.guest([pay, note, look], session="s")
            await again.saw(batch)
            assert statuses([await again.call(batch[0], run("pay"))]) == ["waiting"]
            assert again.turn_id == outcome.turn_id
            await again.decide(batch[0], granted=True, by="ada")
            done = await asyncio.gather(*(again.call(c, run(c.name)) for c in reversed(batch)))
            assert statuses(list(done)) == ["ok"] * 3
            assert ran == ["look", "pay", "note"]
            ended = await again.end("paid")
            assert ended is not None
            assert (ended.status, ended.value) == ("done", "paid")

    run_virtual(main())


def test_a_no_refuses_the_call_and_lets_the_others_go_on() -> None:
    """The model reads who said no and why."""

    async def main() -> None:
        async with uc.Runtime() as rt:
            pay = foreign("pay", writes="r/{account}", approval=True, read_first=False)
            note = foreign("note", writes="r/{account}", read_first=False)
            guest = rt.guest([pay, note])
            batch = [uc.Call(n, {"account": "1"}, n) for n in ("pay", "note")]
            await guest.saw(batch)
            first = await asyncio.gather(*(guest.call(c, returns(c.name)) for c in batch))
            assert statuses(list(first)) == ["waiting", "waiting"]
            await guest.decide(batch[0], granted=False, by="ada", reason="too much")
            done = await asyncio.gather(*(guest.call(c, returns(c.name)) for c in batch))
            assert statuses(list(done)) == ["refused", "ok"]
            assert "ada rejected pay: too much" in done[0].text
            await guest.end()

    run_virtual(main())


def test_a_saved_approval_answered_twice_pays_once() -> None:
    """The second answer comes after the turn ended: the recorded result is given again."""
    paid: list[str] = []

    async def pay() -> str:
        paid.append("x")
        return "paid"

    async def answer(rt: uc.Runtime) -> tuple[str, uc.Result]:
        guest = rt.guest([tool], session="s")
        await guest.saw(batch)
        result = await guest.call(batch[0], pay)
        if result.status == "waiting":
            await guest.decide(batch[0], granted=True, by="ada")
            result = await guest.call(batch[0], pay)
        turn_id = guest.turn_id
        await guest.end("done")
        return turn_id, result

    tool = foreign("pay", writes="r/{account}", approval=True, read_first=False)
    batch = [uc.Call("pay", {"account": "1"}, "c1")]

    async def main() -> None:
        async with uc.Runtime() as rt:
            guest = rt.guest([tool], session="s")
            await guest.saw(batch)
            assert (await guest.call(batch[0], pay)).status == "waiting"
            await guest.pause()
            first, one = await answer(rt)
            second, two = await answer(rt)
            assert (one.value, two.value, paid) == ("paid", "paid", ["x"])
            assert first != second
            step = rt.trace(second).steps[0]
            assert step.recorded_in == f"{first}/pay.1"

    run_virtual(main())


def test_an_approval_answered_at_the_same_time_pays_once() -> None:
    """Two loops of one session answer at once: one runs the turn, the other finds its result."""
    paid: list[str] = []

    async def pay() -> str:
        paid.append("x")
        await asyncio.sleep(1)
        return "paid"

    async def answer(rt: uc.Runtime) -> uc.Result:
        guest = rt.guest([tool], session="s")
        await guest.saw(batch)
        result = await guest.call(batch[0], pay)
        if result.status == "waiting":
            await guest.decide(batch[0], granted=True, by="ada")
            result = await guest.call(batch[0], pay)
        await guest.end("done")
        return result

    tool = foreign("pay", writes="r/{account}", approval=True, read_first=False)
    batch = [uc.Call("pay", {"account": "1"}, "c1")]

    async def main() -> None:
        async with uc.Runtime() as rt:
            guest = rt.guest([tool], session="s")
            await guest.saw(batch)
            await guest.call(batch[0], pay)
            await guest.pause()
            one, two = await asyncio.gather(answer(rt), answer(rt))
            assert (one.value, two.value, paid) == ("paid", "paid", ["x"])

    run_virtual(main())


def test_people_decide_about_a_guest_as_about_any_turn() -> None:
    """Approved from outside, its loop finds the word when it goes on; only that can go on."""

    async def main() -> None:
        async with uc.Runtime() as rt:
            tool = foreign("pay", writes="r/{account}", approval=True, read_first=False)
            batch = [uc.Call("pay", {"account": "1"}, "c1")]
            guest = rt.guest([tool], session="s")
            await guest.saw(batch)
            await guest.call(batch[0], returns("paid"))
            outcome = await guest.pause()
            assert outcome is not None
            said = await rt.approve(outcome.turn_id, by="ada")
            assert str(said.status) == "waiting"
            assert said.waiting == ()

            again = rt.guest([tool], session="s")
            await again.saw(batch)
            assert (await again.call(batch[0], returns("paid"))).value == "paid"
            assert again.turn_id == outcome.turn_id
            await again.end()

    run_virtual(main())


def test_a_doubt_of_a_guest_can_be_settled_by_a_person() -> None:
    """It happened, with this result: the loop is given that when it goes on."""

    async def hang() -> str:
        await asyncio.sleep(3_600)
        return "late"

    async def main() -> None:
        async with uc.Runtime() as rt:
            tool = foreign("pay", writes="r/{account}", read_first=False)
            batch = [uc.Call("pay", {"account": "1"}, "c1")]
            guest = rt.guest([tool], session="s")
            await guest.saw(batch)
            paying = asyncio.create_task(guest.call(batch[0], hang))
            await asyncio.sleep(1)
            paying.cancel()
            await asyncio.sleep(0.1)
            outcome = await guest.end("not sure")
            assert outcome is not None
            assert [doubt.name for doubt in outcome.in_doubt] == ["pay"]
            await rt.settle(outcome.turn_id, applied=True, by="ada", value="paid by hand")

            again = rt.guest([tool], session="s")
            await again.saw(batch)
            result = await again.call(batch[0], hang)
            assert (str(result.status), result.value) == ("ok", "paid by hand")
            ended = await again.end("settled")
            assert ended is not None
            assert str(ended.status) == "done"

    run_virtual(main())


def test_nobody_else_can_go_on_with_a_guest(tmp_path: Path) -> None:
    """Whoever tries is told where it goes on; recovering the others is no harder for it."""
    path = tmp_path / "journal.db"

    async def main() -> None:
        async with uc.Runtime(path) as rt:
            guest = rt.guest([foreign("work")], session="s", name="support")
            await guest.saw([uc.Call("work", {}, "1")])
            turn_id = guest.turn_id
            await guest.stop()
            with pytest.raises(GuestError, match=r"its loop \(support\) is somebody else's"):
                await rt.resume(turn_id)
            found = await rt.recover()
            assert isinstance(found[turn_id], GuestError)
            with pytest.raises(GuestError, match="cannot be run without it"):
                await uc.replay(path, turn_id)

    run_virtual(main())


def test_a_word_that_counts_no_more_can_be_given_anew_in_the_same_life() -> None:
    """The record changed before the yes: it is asked again, and may be answered."""
    version = ["1"]

    async def main() -> None:
        async with uc.Runtime() as rt:
            look = foreign("look", reads="r/{account}", version=lambda value: value)
            pay = foreign("pay", writes="r/{account}", approval=True)
            call, other = uc.Call("pay", {"account": "1"}, "p"), uc.Call("look", {"account": "1"})

            async def see() -> str:
                return version[0]

            guest = rt.guest([look, pay], session="s")
            await guest.call(other, see)
            assert (await guest.call(call, returns("paid"))).status == "waiting"
            await guest.pause()
            # Somebody else changes it.
            stranger = rt.guest([look, foreign("put", writes="r/{account}")], session="t")
            await stranger.call(other, see)
            await stranger.call(uc.Call("put", {"account": "1"}), returns("put"))
            await stranger.end()

            guest = rt.guest([look, pay], session="s")
            assert await guest.asked(["p"]) == [("pay", "p")]
            assert (await guest.call(call, returns("paid"))).status == "waiting"
            await guest.decide(call, granted=True, by="ada")
            assert (await guest.call(call, returns("paid"))).status == "waiting"
            question = guest.question(call)
            assert question is not None
            assert question.void == "changed"
            await guest.decide(call, granted=False, by="ada")
            assert (await guest.call(call, returns("paid"))).status == "refused"
            await guest.end()

    run_virtual(main())


def test_whether_somebody_is_asked_at_all_is_known_of_tools() -> None:
    """A loop whose tools ask nobody need not look for questions."""
    rt = uc.Runtime()
    assert rt.toolset("a", [foreign("pay", writes="r", approval=True)]).asks
    assert not rt.toolset("b", [foreign("look", reads="r")]).asks

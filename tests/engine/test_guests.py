"""The seam for loops of others: a batch is seen before its calls run, whatever the loop does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from tests.engine.guesting import Bank, asked, foreign, returns, running, statuses, take
from undercroft.engine.guestrun import ARRIVE_S
from undercroft.errors import LoopError
from undercroft.model.message import Answer, Message
from undercroft.testing import run_virtual

BATCH = [take(30, "c1"), take(50, "c2")]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_withdrawals_of_one_batch_follow_each_other(order: tuple[int, ...]) -> None:
    """Nothing is declared, and the loop asks for the second call first: both are subtracted."""
    bank = Bank(a=100)

    async def main() -> list[uc.Result]:
        async with uc.Runtime() as rt:
            guest = rt.guest([foreign("withdraw")])
            await guest.saw(BATCH)
            done = await asyncio.gather(
                *(guest.call(BATCH[k], running(bank, BATCH[k])) for k in order)
            )
            await guest.end("done")
            return list(done)

    results = run_virtual(main())
    assert statuses(results) == ["ok", "ok"]
    assert bank.balances == {"a": 20}
    assert bank.log == ["begin 30", "end 30", "begin 50", "end 50"]


@settings(max_examples=60, deadline=None)
@given(
    keys=st.lists(st.sampled_from("abc"), min_size=1, max_size=8),
    modes=st.lists(st.sampled_from(["read", "write"]), min_size=8, max_size=8),
    data=st.data(),
)
def test_conflicting_calls_run_in_the_order_of_proposal(
    keys: list[str], modes: list[str], data: st.DataObject
) -> None:
    """Whatever the order in which a loop asks, and however long each takes."""
    arrival = data.draw(st.permutations(range(len(keys))))
    took = data.draw(st.lists(st.integers(1, 9), min_size=len(keys), max_size=len(keys)))
    begun: list[int] = []
    under_way: set[int] = set()

    def clash(one: int, other: int) -> bool:
        return keys[one] == keys[other] and "write" in (modes[one], modes[other])

    async def work(k: int) -> int:
        assert not any(clash(k, other) for other in under_way)
        begun.append(k)
        under_way.add(k)
        await asyncio.sleep(took[k] / 10)
        under_way.discard(k)
        return k

    async def main() -> None:
        tools = [
            foreign("read", reads="r/{account}"),
            foreign("write", writes="r/{account}", read_first=False),
        ]
        async with uc.Runtime() as rt:
            guest = rt.guest(tools)
            batch = [
                uc.Call(mode, {"account": key, "note": k}, f"c{k}")
                for k, (mode, key) in enumerate(zip(modes, keys, strict=False))
            ]
            await guest.saw(batch)

            async def one(k: int) -> uc.Result:
                return await guest.call(batch[k], lambda: work(k))

            done = await asyncio.gather(*(one(k) for k in arrival))
            assert statuses(list(done)) == ["ok"] * len(batch)
            await guest.end()

    run_virtual(main())
    for place, k in enumerate(begun):
        assert not any(clash(k, later) and later < k for later in begun[place + 1 :])


def test_what_the_loop_never_asks_for_holds_nobody_up() -> None:
    """A guard of the framework stopped the first call: the second waits a moment, and runs."""
    bank = Bank(a=100)

    async def main() -> tuple[uc.Result, float, uc.Trace]:
        async with uc.Runtime() as rt:
            guest = rt.guest([foreign("withdraw")])
            await guest.saw(BATCH)
            began_s = asyncio.get_running_loop().time()
            done = await guest.call(BATCH[1], running(bank, BATCH[1]))
            took_s = asyncio.get_running_loop().time() - began_s
            turn_id = guest.turn_id
            await guest.end()
            return done, took_s, rt.trace(turn_id)

    done, took_s, trace = run_virtual(main())
    assert done.status == "ok"
    assert ARRIVE_S <= took_s < 2 * ARRIVE_S
    assert [str(step.status) for step in trace.steps] == ["skipped", "ok"]
    assert trace.steps[0].refusal is not None
    assert "did not ask for it" in trace.steps[0].refusal.message


def test_a_call_that_comes_late_still_waits_for_whom_it_conflicts_with() -> None:
    """It was passed over, and finds another one at work."""
    bank = Bank(a=100)

    async def main() -> None:
        async with uc.Runtime() as rt:
            guest = rt.guest([foreign("withdraw")])
            batch = [take(1, "c1"), take(2, "c2")]
            await guest.saw(batch)
            second = asyncio.create_task(guest.call(batch[1], running(bank, batch[1])))
            await asyncio.sleep(2.1 * ARRIVE_S / 2)
            assert bank.log == ["begin 2"]
            await asyncio.gather(second, guest.call(batch[0], running(bank, batch[0])))
            await guest.end()

    run_virtual(main())
    assert bank.balances == {"a": 97}
    assert bank.log == ["begin 2", "end 2", "begin 1", "end 1"]


def test_calls_without_ids_are_told_apart() -> None:
    """The same call twice, without an id: both run, and each has a result of its own."""

    async def main() -> None:
        async with uc.Runtime() as rt:
            guest = rt.guest([foreign("look", reads="r")])
            batch = [uc.Call("look", {}), uc.Call("look", {})]
            await guest.saw(batch)
            done = await asyncio.gather(
                guest.call(batch[0], returns(1)), guest.call(batch[1], returns(2))
            )
            assert [result.value for result in done] == [1, 2]
            assert len({result.step_id for result in done}) == 2
            await guest.end()

    run_virtual(main())


def test_two_calls_with_one_id_are_told_apart_by_their_arguments() -> None:
    """A provider that repeats an id does not make one call of two."""
    bank = Bank(a=100)

    async def main() -> None:
        async with uc.Runtime() as rt:
            guest = rt.guest([foreign("withdraw")], session="s")
            batch = [take(30, "same"), take(50, "same")]
            await guest.saw(batch)
            done = await asyncio.gather(*(guest.call(c, running(bank, c)) for c in batch))
            assert [result.value for result in done] == [70, 20]
            await guest.end()

    run_virtual(main())


def test_refusals_are_values_and_no_errors() -> None:
    """A tool that is not there, arguments that are no object, an order that is not kept."""

    async def main() -> None:
        async with uc.Runtime() as rt:
            get = foreign("get", reads="r/{account}")
            put = foreign("put", writes="r/{account}")
            guest = rt.guest([get, put])
            batch = [
                uc.Call("delete", {}, "1"),
                uc.Call("put", "{no json", "2"),
                uc.Call("put", {"account": "7"}, "3"),
            ]
            await guest.saw(batch)
            done = [await guest.call(call, returns("ran")) for call in batch]
            assert [r.refusal.rule for r in done if r.refusal is not None] == [
                "sequencing.unknown_tool",
                "sequencing.arguments_not_json",
                "sequencing.read_first",
            ]
            more = [uc.Call("get", {"account": "7"}, "4"), uc.Call("put", {"account": "7"}, "5")]
            await guest.saw(more)
            assert statuses([await guest.call(c, returns("ran")) for c in more]) == ["ok", "ok"]
            await guest.end()

    run_virtual(main())


def test_the_same_failing_call_again_and_again_ends_the_loop() -> None:
    """First it is refused, so that the model may mend its plan; then the loop is ended."""
    calls = 0

    async def fails() -> str:
        nonlocal calls
        calls += 1
        msg = "no such thing"
        raise ValueError(msg)

    async def main() -> int:
        async with uc.Runtime() as rt:
            guest = rt.guest([foreign("work")])
            for k in range(1_000):
                call = uc.Call("work", {"account": "1"}, f"c{k}")
                try:
                    await guest.saw([call])
                    await guest.call(call, fails)
                except LoopError as error:
                    await guest.fail(error)
                    return k
            return 1_000

    assert run_virtual(main()) < 50
    assert calls < 20


def test_a_cancelled_call_that_only_reads_has_failed_and_a_write_is_in_doubt() -> None:
    """The framework gave up waiting: the record says what is known, and the loop is told."""

    async def hang() -> str:
        await asyncio.sleep(3_600)
        return "late"

    async def main() -> tuple[uc.Trace, Any]:
        async with uc.Runtime() as rt:
            guest = rt.guest([foreign("look", reads="r"), foreign("work", writes="w")])
            batch = [uc.Call("look", {}, "1"), uc.Call("work", {}, "2")]
            await guest.saw(batch)
            tasks = [asyncio.create_task(guest.call(call, hang)) for call in batch]
            await asyncio.sleep(1)
            for task in tasks:
                task.cancel()
            gone = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in gone)
            await asyncio.sleep(1)
            turn_id = guest.turn_id
            outcome = await guest.end()
            return rt.trace(turn_id), outcome

    trace, outcome = run_virtual(main())
    assert [str(step.status) for step in trace.steps] == ["failed", "in_doubt"]
    assert outcome.status == "in_doubt"


def test_a_call_that_waits_can_be_called_off_before_it_began() -> None:
    """It leaves its place, and nothing of it ever ran."""
    ran: list[str] = []

    async def slow() -> str:
        ran.append("first")
        await asyncio.sleep(5)
        return "first"

    async def second() -> str:
        ran.append("second")
        return "second"

    async def main() -> uc.Trace:
        async with uc.Runtime() as rt:
            guest = rt.guest([foreign("withdraw")])
            await guest.saw(BATCH)
            one = asyncio.create_task(guest.call(BATCH[0], slow))
            two = asyncio.create_task(guest.call(BATCH[1], second))
            await asyncio.sleep(1)
            two.cancel()
            await asyncio.sleep(0.1)
            await one
            turn_id = guest.turn_id
            await guest.end()
            return rt.trace(turn_id)

    trace = run_virtual(main())
    assert ran == ["first"]
    assert [str(step.status) for step in trace.steps] == ["ok", "skipped"]


def test_one_session_runs_one_turn_at_a_time() -> None:
    """A second loop of the session waits for the first one, and is refused after a while."""

    async def main() -> None:
        async with uc.Runtime(ownership=uc.Ownership(wait_s=2)) as rt:
            one = rt.guest([foreign("work")], session="s")
            call = uc.Call("work", {}, "1")
            await one.saw([call])
            hanging = asyncio.create_task(one.call(call, lambda: asyncio.sleep(60)))
            await asyncio.sleep(0.1)
            with pytest.raises(uc.BusyError, match="session 's'"):
                await rt.guest([foreign("work")], session="s").saw([uc.Call("work", {}, "2")])
            await hanging
            await one.end()
            await rt.guest([foreign("work")], session="s").saw([uc.Call("work", {}, "3")])

    run_virtual(main())


def test_what_an_earlier_loop_left_behind_does_not_block_its_session() -> None:
    """A framework that failed said nothing: its turn is stopped when the next one begins."""

    async def main() -> None:
        async with uc.Runtime() as rt:
            one = rt.guest([foreign("work")], session="s")
            await one.saw([uc.Call("work", {}, "1")])
            await one.call(uc.Call("work", {}, "1"), returns(1))
            left = one.turn_id
            two = rt.guest([foreign("work")], session="s")
            await two.saw([uc.Call("work", {}, "2")])
            assert rt.trace(left).status == "stopped"
            assert rt.trace(left).lives[-1].ended == "stopped"
            await two.end()

    run_virtual(main())


def test_the_turn_of_a_guarded_loop_ends_with_its_task() -> None:
    """Two lines in a loop of one's own: nobody says when it is over, and the record is whole."""

    async def look(note: str) -> str:
        """Look."""
        return note

    async def agent(rt: uc.Runtime) -> str:
        guarded = uc.guard([look], runtime=rt)
        [result] = await guarded.calls([uc.Call("look", {"note": "hello"})])
        assert result.text == "hello"
        return guarded.turn_id

    async def main() -> None:
        async with uc.Runtime() as rt:
            turn_id = await asyncio.create_task(agent(rt))
            await asyncio.sleep(0.1)
            assert rt.trace(turn_id).status == "done"

    run_virtual(main())


def test_a_breaker_that_opens_withdraws_the_tools_of_its_service() -> None:
    """They are not offered with the next prompt, and the model is told; others stay."""

    async def down() -> str:
        raise ConnectionRefusedError

    async def main() -> None:
        policy = uc.BreakerPolicy(calls_min=3, window_calls=3)
        async with uc.Runtime(services=[uc.Service("crm", breaker=policy)], loops=None) as rt:
            tools = [foreign("get", reads="r", service="crm"), foreign("other", reads="x")]
            guest = rt.guest(tools)
            said = [Message("user", "go")]
            for k in range(4):
                call = uc.Call("get", {}, f"c{k}")
                sending = await asked(guest, said, Answer("", (call,)))
                assert {t.name for t in sending.request.tools} == (
                    {"get", "other"} if k < 3 else {"other"}
                )
                await guest.saw([call])
                result = await guest.call(call, down)
                said += [
                    Message("assistant", "", (call,)),
                    Message("tool", result.text, call_id=call.id, name="get"),
                ]
            assert result.refusal is not None
            assert result.refusal.rule.startswith("breakers.")
            assert "crm" in sending.request.messages[-1].content
            assert sending.places[-1] is None
            assert guest.withdrawn() == {"get"}
            outcome = await guest.end("could not")
            assert outcome is not None
            assert outcome.status == "degraded"

    run_virtual(main())


def test_a_loop_that_ends_while_a_call_runs_cuts_it_off_and_says_so() -> None:
    """What it had begun to write is in doubt, and that is how the turn ended."""

    async def hang() -> str:
        await asyncio.sleep(3_600)
        return "late"

    async def main() -> uc.Trace:
        async with uc.Runtime() as rt:
            guest = rt.guest([foreign("work", writes="r"), foreign("look", reads="x")])
            batch = [uc.Call("work", {}, "1"), uc.Call("look", {}, "2")]
            await guest.saw(batch)
            tasks = [asyncio.create_task(guest.call(call, hang)) for call in batch]
            await asyncio.sleep(1)
            turn_id = guest.turn_id
            outcome = await guest.end("done")
            assert outcome is not None
            assert str(outcome.status) == "in_doubt"
            await asyncio.gather(*tasks, return_exceptions=True)
            return rt.trace(turn_id)

    trace = run_virtual(main())
    assert [str(step.status) for step in trace.steps] == ["in_doubt", "failed"]
    assert str(trace.status) == "in_doubt"


def test_a_new_batch_does_not_free_what_a_running_call_holds() -> None:
    """A loop that runs two batches side by side still writes one after the other."""
    bank = Bank(a=100)

    async def main() -> None:
        async with uc.Runtime() as rt:
            guest = rt.guest([foreign("withdraw")])
            one, two = take(1, "c1"), take(2, "c2")
            await guest.saw([one])
            first = asyncio.create_task(guest.call(one, running(bank, one)))
            await asyncio.sleep(0.1)
            await guest.saw([two])
            await asyncio.gather(first, guest.call(two, running(bank, two)))
            await guest.end()

    run_virtual(main())
    assert bank.balances == {"a": 97}


def test_a_new_message_begins_a_new_turn_even_after_a_doubt() -> None:
    """The history shows calls of a turn that is in doubt, but the user has spoken since."""

    async def main() -> None:
        async with uc.Runtime() as rt:
            tool = foreign("work", writes="r")
            call = uc.Call("work", {}, "1")
            guest = rt.guest([tool], session="s")
            said = [Message("user", "go")]
            await asked(guest, said, Answer("", (call,)))
            await guest.saw([call])
            hanging = asyncio.create_task(guest.call(call, lambda: asyncio.sleep(60)))
            await asyncio.sleep(0.1)
            hanging.cancel()
            await asyncio.sleep(0.1)
            first = guest.turn_id
            await guest.end("not sure")
            said += [
                Message("assistant", "", (call,)),
                Message("tool", "not sure", (), "1", "work"),
                Message("assistant", "not sure"),
            ]
            again = rt.guest([tool], session="s")
            await asked(again, [*said, Message("user", "and now?")], Answer("well"))
            assert again.turn_id != first
            await again.end("well")

    run_virtual(main())

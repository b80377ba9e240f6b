"""Two lines in a loop of one's own: `uc.guard(tools)`, and one call in place of a gather."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

import undercroft as uc
from tests.engine.guesting import Bank
from undercroft.engine.parts.proposed import calls_of
from undercroft.testing import run_virtual

ARGUMENTS = '{"account": "a", "amount": 30}'
CHAT = {"id": "c1", "type": "function", "function": {"name": "withdraw", "arguments": ARGUMENTS}}
RESPONSE = {"type": "function_call", "name": "withdraw", "arguments": ARGUMENTS, "call_id": "c1"}
BLOCK = {
    "type": "tool_use",
    "id": "c1",
    "name": "withdraw",
    "input": {"account": "a", "amount": 30},
}


def as_object(value: Any) -> Any:
    """Return a dict as client libraries give it: an object with attributes."""
    if not isinstance(value, dict):
        return value
    keep = {"input"}
    return SimpleNamespace(**{k: v if k in keep else as_object(v) for k, v in value.items()})


@pytest.mark.parametrize("given", [CHAT, RESPONSE, BLOCK])
@pytest.mark.parametrize("shape", [dict, as_object])
def test_calls_are_taken_as_client_libraries_give_them(given: Any, shape: Any) -> None:
    """Of a chat completion, of a response, of a message; as dicts and as objects."""
    [call] = calls_of([shape(given)])
    assert (call.name, call.id) == ("withdraw", "c1")
    assert call.arguments in (ARGUMENTS, {"account": "a", "amount": 30})


def test_other_parts_of_an_answer_are_left_out_and_what_is_no_call_is_an_error() -> None:
    """A whole `response.output` or `message.content` may be given."""
    other = [{"type": "text", "text": "hm"}, {"type": "reasoning", "summary": []}]
    assert [call.id for call in calls_of([*other, BLOCK])] == ["c1"]
    for wrong in ("withdraw", 3, {"name": "withdraw"}, {"function": {"name": None}}):
        with pytest.raises(uc.DeclarationError, match="is no call"):
            calls_of([wrong])


def test_a_loop_of_ones_own_loses_no_withdrawal() -> None:
    """Where `asyncio.gather` loses one of two, the guarded loop subtracts both."""
    batch = [CHAT, {**CHAT, "id": "c2", "function": {"name": "withdraw", "arguments": "{}"}}]
    batch[1]["function"] = {
        "name": "withdraw",
        "arguments": '{"account": "a", "amount": 50}',
    }

    async def before() -> int:
        bank = Bank(a=100)
        await asyncio.gather(bank.withdraw("a", 30), bank.withdraw("a", 50))
        return bank.balances["a"]

    async def after() -> int:
        bank = Bank(a=100)
        guarded = uc.guard([bank.withdraw])
        results = await guarded.calls(batch)
        assert [result.text for result in results] == ["70", "20"]
        assert [result.call_id for result in results] == ["c1", "c2"]
        return bank.balances["a"]

    assert (run_virtual(before()), run_virtual(after())) == (70, 20)


def test_a_guard_asks_a_person_and_goes_on() -> None:
    """What waits is decided by its result; what was held behind it runs then."""

    async def main() -> None:
        ran: list[str] = []

        @uc.tool(writes="r", approval=True, read_first=False)
        async def pay() -> str:
            """Pay."""
            ran.append("pay")
            return "paid"

        @uc.tool(writes="r", read_first=False)
        async def note() -> str:
            """Note."""
            ran.append("note")
            return "noted"

        guarded = uc.guard([pay, note])
        results = await guarded.calls([uc.Call("pay"), uc.Call("note")])
        assert [str(r.status) for r in results] == ["waiting", "waiting"]
        done = await guarded.approve(results[0], by="ada")
        assert [r.text for r in done] == ["paid", "noted"]
        assert ran == ["pay", "note"]
        again = await guarded.calls([uc.Call("pay", {}, "2")])
        [refused] = await guarded.reject(again[0], by="ada", reason="enough")
        assert "ada rejected pay: enough" in refused.text

    run_virtual(main())


def test_a_block_ends_the_turn_as_it_ended() -> None:
    """Well, with an error, or cut off."""

    async def look() -> str:
        """Look."""
        return "seen"

    async def main() -> None:
        async with uc.Runtime() as rt:
            ids: list[str] = []

            async def loop(error: BaseException | None) -> None:
                async with uc.guard([look], runtime=rt) as guarded:
                    await guarded.calls([uc.Call("look")])
                    ids.append(guarded.turn_id)
                    if error is not None:
                        raise error

            await loop(None)
            with pytest.raises(ValueError, match="no"):
                await loop(ValueError("no"))
            with pytest.raises(asyncio.CancelledError):
                await loop(asyncio.CancelledError())
            assert [str(rt.trace(i).status) for i in ids] == ["done", "failed", "stopped"]

    run_virtual(main())


def test_what_is_no_runtime_is_refused_where_it_is_given() -> None:
    """And not by the first call."""
    with pytest.raises(ValueError, match=r"runtime is 3; it must be an uc\.Runtime"):
        uc.guard([], runtime=3)  # type: ignore[arg-type]  # what is tried


def test_an_empty_batch_begins_nothing() -> None:
    """A model that proposes nothing is no turn."""

    async def main() -> None:
        guarded = uc.guard([])
        assert await guarded.calls([]) == []
        assert guarded.turn_id == ""
        assert await guarded.end() is None

    run_virtual(main())

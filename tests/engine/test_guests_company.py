"""Loops that propose call by call, several at once, and tools of other libraries in handlers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import undercroft as uc
from undercroft.engine.check import check
from undercroft.engine.tool import Tool
from undercroft.errors import DeclarationError, UnknownOutcomeError
from undercroft.model.foreign import ForeignTool, Hints
from undercroft.model.step import StepStatus
from undercroft.testing import ScriptedModel

SCHEMA = {
    "type": "object",
    "properties": {"account": {"type": "string"}},
    "required": ["account"],
}


async def test_a_batch_does_not_end_calls_that_run() -> None:
    """A loop that proposes one call after the other waits for several: none is given up for it."""
    gate = asyncio.Event()
    began = asyncio.Event()

    @uc.tool(peeks="x/{name}")
    async def look(name: str) -> str:
        """Look."""
        began.set()
        if name == "slow":
            await gate.wait()
        return name

    async with uc.Runtime() as rt:
        guest = rt.guest([look])
        slow = asyncio.create_task(guest.call(uc.Call("look", {"name": "slow"}, "1")))
        await began.wait()
        quick = await guest.call(uc.Call("look", {"name": "quick"}, "2"))
        gate.set()
        late = await slow
        outcome = await guest.end()
        assert outcome is not None
        steps = rt.trace(outcome.turn_id).steps
    assert (quick.value, late.value) == ("quick", "slow")
    assert [step.status for step in steps] == [StepStatus.OK, StepStatus.OK]


async def test_calls_that_conflict_keep_the_order_of_their_arrival() -> None:
    """What comes later waits for what runs, although each is a batch of its own."""
    done: list[int] = []
    gate = asyncio.Event()

    @uc.tool(writes="account/{account}", read_first=False)
    async def pay(account: str, amount: int) -> int:
        """Pay."""
        if amount == 1:
            await gate.wait()
        done.append(amount)
        return amount

    async with uc.Runtime() as rt:
        guest = rt.guest([pay])
        calls = [
            asyncio.create_task(guest.call(uc.Call("pay", {"account": "a", "amount": n}, str(n))))
            for n in (1, 2, 3)
        ]
        await asyncio.sleep(0.01)
        assert done == []
        gate.set()
        results = await asyncio.gather(*calls)
        await guest.end()
    assert [result.value for result in results] == [1, 2, 3]
    assert done == [1, 2, 3]


async def test_a_call_that_is_called_off_before_it_began_keeps_nobody_waiting() -> None:
    """A loop that asks, and at once wants it no more, leaves no place behind."""

    @uc.tool(writes="account/{account}", read_first=False)
    async def pay(account: str, amount: int) -> int:
        """Pay."""
        return amount

    async with uc.Runtime() as rt:
        guest = rt.guest([pay])
        calls = [uc.Call("pay", {"account": "a", "amount": n}, str(n)) for n in (1, 2)]
        await guest.saw(calls)
        first = asyncio.create_task(guest.call(calls[0]))
        # It has begun to wait, and what it waits for has not begun.
        asyncio.get_running_loop().call_soon(first.cancel)
        second = await guest.call(calls[1])
        await asyncio.gather(first, return_exceptions=True)
        third = await guest.call(uc.Call("pay", {"account": "a", "amount": 3}, "3"))
        await guest.end()
    assert (second.value, third.value) == (2, 3)


async def test_nobody_waits_behind_what_is_in_doubt() -> None:
    """A write in doubt is told to its loop; a conflicting one of its batch goes on after it."""

    @uc.tool(writes="account/{account}", read_first=False)
    async def pay(account: str, amount: int) -> int:
        """Pay."""
        if amount == 1:
            raise UnknownOutcomeError
        return amount

    async with uc.Runtime() as rt:
        guest = rt.guest([pay])
        lost, paid = await guest.calls(
            [uc.Call("pay", {"account": "a", "amount": n}, str(n)) for n in (1, 2)]
        )
        await guest.end()
    assert lost.status is StepStatus.IN_DOUBT
    assert paid.value == 2


def foreign(name: str, **more: Any) -> ForeignTool:
    """Return a tool of another library."""

    async def call(arguments: dict[str, Any]) -> Any:
        return f"{name} {arguments['account']}"

    return ForeignTool(name, f"Do {name}.", SCHEMA, call, "bank", **more)


async def test_a_handler_takes_tools_of_other_libraries() -> None:
    """They stand beside tools of ours; what a mapping declares counts more than `uc.declare`."""
    look, pay = foreign("look"), foreign("pay")
    uc.declare(look, reads="account/{account}")
    uc.declare(pay, peeks="nothing")

    @uc.tool(peeks="time")
    def now() -> str:
        """Tell the time."""
        return "noon"

    @uc.handler(tools=[look, now, pay], effects={"pay": {"writes": "account/{account}"}})
    async def assist(turn: uc.Turn, message: str) -> str:
        turn.context.user(message)
        while True:
            answer = await turn.model()
            if not answer.calls:
                return answer.text
            await turn.calls(answer.calls)

    calls = [uc.Call(name, {"account": "a"}, name) for name in ("look", "pay")]
    model = ScriptedModel([[calls[1]], [*calls, uc.Call("now", {}, "now")], "done"])
    async with uc.Runtime(model=model) as rt:
        outcome = await rt.run(assist, message="go")
        steps = [s for s in rt.trace(outcome.turn_id).steps if s.name in {"look", "pay", "now"}]
    assert outcome.value == "done"
    assert [(step.name, step.status) for step in steps] == [
        ("pay", StepStatus.REFUSED),
        ("look", StepStatus.OK),
        ("pay", StepStatus.OK),
        ("now", StepStatus.OK),
    ]


def test_what_is_no_tool_is_refused_where_it_is_written() -> None:
    """A handler takes no plain functions, and no two tools of one name."""
    with pytest.raises(DeclarationError, match="is not a tool"):
        uc.handler(tools=[print])(_loop)  # type: ignore[list-item]
    with pytest.raises(DeclarationError, match="two tools are called 'look'"):
        uc.handler(tools=[foreign("look"), foreign("look")])(_loop)


async def _loop(turn: uc.Turn) -> None: ...


def _happened(account: str) -> bool:
    return bool(account)


def test_what_destroys_by_its_own_word_is_to_be_approved_or_verified() -> None:
    """A destructive hint is a finding, until somebody has to agree or can say what became of it."""

    def rules(hints: Hints, **words: Any) -> set[str]:
        made = uc.handler(tools=[foreign("wipe", hints=hints)], effects={"wipe": words})(_loop)
        return {finding.rule for finding in check(made)}

    rule = "sequencing.unapproved_destructive"
    destroys = Hints(destructive=True)
    assert rule in rules(destroys)
    assert rule in rules(destroys, writes="account/{account}")
    assert rule not in rules(Hints(), writes="account/{account}")
    assert rule not in rules(destroys, writes="account/{account}", approval=True)
    assert rule not in rules(destroys, writes="account/{account}", verify=_happened)
    assert rule not in rules(destroys, reads="account/{account}")


def test_hints_decide_where_nothing_is_declared() -> None:
    """Read-only changes nothing; idempotent may be done again; a declaration counts more."""

    def made(hints: Hints, **words: Any) -> Tool[..., Any]:
        effects = {"act": words} if words else {}
        return uc.handler(tools=[foreign("act", hints=hints)], effects=effects)(_loop).tools["act"]

    assert made(Hints()).body.changes
    assert not made(Hints(read_only=True)).body.changes
    assert made(Hints(read_only=True), writes="a").body.changes
    assert made(Hints(idempotent=True)).repeatable
    assert not made(Hints(idempotent=True), idempotent=False).repeatable

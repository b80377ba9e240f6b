"""Loops of others in the small: what stands for a framework in the tests of the seam."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import undercroft as uc
from undercroft.engine.guest import Guest
from undercroft.model.foreign import ForeignTool, Sending
from undercroft.model.message import Answer, Message

OBJECT = {"type": "object", "properties": {"account": {}, "amount": {}, "note": {}}}


class Bank:
    """Accounts as a careless tool keeps them: read, wait, write."""

    def __init__(self, **balances: int) -> None:
        self.balances = balances
        self.log: list[str] = []

    async def withdraw(self, account: str, amount: int) -> int:
        """Take money; who takes less takes longer."""
        had = self.balances[account]
        self.log.append(f"begin {amount}")
        await asyncio.sleep(1 / amount)
        self.balances[account] = had - amount
        self.log.append(f"end {amount}")
        return self.balances[account]


def foreign(name: str, **words: Any) -> ForeignTool:
    """Return a tool that only its framework can call."""
    made = ForeignTool(name, f"Does {name}.", OBJECT)
    if words:
        uc.declare(made, **words)
    return made


def take(amount: int, call_id: str, account: str = "a") -> uc.Call:
    """Return a withdrawal as a model proposes it."""
    return uc.Call("withdraw", {"account": account, "amount": amount}, call_id)


def running(bank: Bank, call: uc.Call) -> Callable[[], Awaitable[int]]:
    """Return what carries out a withdrawal in the framework's own way."""
    assert isinstance(call.arguments, dict)
    return lambda: bank.withdraw(**call.arguments)  # type: ignore[arg-type]  # a mapping by now


async def asked(
    guest: Guest, messages: Sequence[Message], answer: Answer, tools: Sequence[str] = ()
) -> Sending:
    """Ask the loop's model, which gives `answer`; return what was sent."""
    sent: list[Sending] = []

    async def ask(sending: Sending) -> Answer:
        sent.append(sending)
        return answer

    specs = [spec for spec in guest.handler.specs if not tools or spec.name in tools]
    await guest.ask(messages, specs, ask, name="tiny-1")
    return sent[-1]


def statuses(results: Sequence[uc.Result]) -> list[str]:
    """Return how calls ended."""
    return [str(result.status) for result in results]


def returns(value: Any) -> Callable[[], Awaitable[Any]]:
    """Return what carries out a call at once, with this value."""

    async def work() -> Any:
        return value

    return work

"""What the tests of this adapter share: a bank, models of plain rules, ways to run agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
)
from openai import AsyncOpenAI

import undercroft as uc
from tests.provider import Answer, Call, Provider, Request
from undercroft.model.turn import TurnHead

MODELS = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}
# What the bank's tools do, for whoever declares it.
EFFECTS: dict[str, dict[str, Any]] = {
    "get_balance": {"reads": "accounts/{account}"},
    "withdraw": {"writes": "accounts/{account}", "read_first": False},
    "pay": {"writes": "accounts/{account}", "read_first": False},
    "add_interest": {"writes": "accounts/{account}", "read_first": False},
    "write_note": {"appends": "notes"},
}


class Bank:
    """Accounts, and what happened to them in its order."""

    def __init__(self) -> None:
        self.held = {"ada": 100}
        self.log: list[str] = []

    async def get_balance(self, account: str) -> str:
        """Look at an account."""
        await asyncio.sleep(0)
        self.log.append("get_balance")
        return str(self.held[account])

    async def withdraw(self, account: str, amount: int) -> str:
        """Withdraw from an account."""
        held = self.held[account]
        # The larger sum is taken first, if nothing keeps the order.
        for _ in range(200 - amount):
            await asyncio.sleep(0)
        self.held[account] = held - amount
        self.log.append(f"withdraw {amount}")
        return f"{account} has {self.held[account]}"

    async def pay(self, account: str, amount: int) -> str:
        """Pay from an account."""
        await asyncio.sleep(0)
        self.held[account] -= amount
        self.log.append(f"pay {amount}")
        return f"paid {amount}"

    async def add_interest(self, account: str, percent: int) -> str:
        """Add interest to an account."""
        await asyncio.sleep(0)
        self.held[account] += self.held[account] * percent // 100
        self.log.append("add_interest")
        return f"{account} has {self.held[account]}"

    async def write_note(self, text: str) -> str:
        """Write a note."""
        await asyncio.sleep(0)
        self.log.append(f"note {text}")
        return "noted"

    def tools(self, *names: str, asking: Sequence[str] = ()) -> list[Any]:
        """Return some of its tools as the SDK's."""
        return [function_tool(getattr(self, n), needs_approval=n in asking) for n in names]


def rules(*batches: Sequence[Call]) -> Callable[[Request], Answer]:
    """Return a model that proposes one batch after the other, then quotes the last results."""

    def model(request: Request) -> Answer:
        done = sum(1 for one in request.said if one.calls)
        if done < len(batches):
            return Answer(calls=batches[done])
        return Answer(text="; ".join(shown.text for shown in request.results))

    return model


@asynccontextmanager
async def agent_of(
    provider: Provider, tools: Sequence[Any], dialect: str = "responses", **more: Any
) -> AsyncIterator[Agent[Any]]:
    """Yield an agent that talks to a provider."""
    url = f"{provider.url}/v1"
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        model = MODELS[dialect]("gpt-scripted", openai_client=client)
        yield Agent(**{"name": "teller", "model": model, "tools": list(tools), **more})


async def ran(agent: Agent[Any], prompt: Any = "go", *, stream: bool = False, **more: Any) -> Any:
    """Return the result of a run, streamed or not."""
    if not stream:
        return await Runner.run(agent, prompt, **more)
    result = Runner.run_streamed(agent, prompt, **more)
    async for _ in result.stream_events():
        pass
    return result


def heads(rt: uc.Runtime) -> list[TurnHead]:
    """Return the turns of a journal, newest first."""
    return rt._store.heads()  # noqa: SLF001  one in memory has no other reader


def traced(rt: uc.Runtime) -> uc.Trace:
    """Return the newest turn."""
    return rt.trace(heads(rt)[0].turn_id)

"""A bank that agents of pydantic-ai act on, and what its model is told to propose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from pydantic_ai import Agent, DeferredToolRequests, Tool
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import undercroft as uc
from tests.provider import Answer, Call, Model, Provider, Reply, Request
from undercroft.adapters.frameworks.pydantic_ai import Undercroft

EFFECTS: dict[str, Any] = {
    "withdraw": {"writes": "account/{account}", "read_first": False},
    "pay": {"writes": "account/{account}", "read_first": False},
    "balance": {"reads": "account/{account}"},
    "note": {"appends": "notes"},
}


class Bank:
    """Accounts, and what was done to them in which order."""

    def __init__(self) -> None:
        self.held = {"ada": 100, "bob": 100}
        self.did: list[str] = []
        self.working = 0
        self.together = 0

    async def withdraw(self, account: str, amount: int) -> str:
        """Withdraw an amount from an account."""
        held = self.held[account]
        await self._work(f"withdraw {amount}")
        self.held[account] = held - amount
        return f"{account} has {held - amount}"

    async def pay(self, account: str, amount: int) -> str:
        """Pay an amount from an account."""
        held = self.held[account]
        await self._work(f"pay {amount}")
        self.held[account] = held - amount
        return f"paid {amount}"

    async def balance(self, account: str) -> int:
        """Say what an account holds."""
        await self._work(f"balance {account}")
        return self.held[account]

    async def note(self, text: str) -> str:  # noqa: ARG002  what the model is shown
        """Write a note."""
        await self._work("note")
        return "noted"

    async def _work(self, what: str) -> None:
        self.working += 1
        self.together = max(self.together, self.working)
        for _ in range(5):
            await asyncio.sleep(0)
        self.working -= 1
        self.did.append(what)

    def tools(self, *asking: str) -> list[Tool[Any]]:
        """Return its tools; those named need somebody's yes."""
        made = (self.withdraw, self.pay, self.balance, self.note)
        return [Tool(fn, requires_approval=fn.__name__ in asking) for fn in made]


def proposes(*calls: Call) -> Model:
    """Return a model that proposes a batch once, and then quotes what it came to."""

    def model(request: Request) -> Reply:
        if not request.fresh:
            return Answer(calls=list(calls))
        return Answer(text="; ".join(shown.text for shown in request.fresh) or "nothing")

    return model


def chat(provider: Provider) -> tuple[AsyncOpenAI, OpenAIChatModel]:
    """Return a client that asks the scripted provider, and a model on it."""
    client = AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="none", max_retries=0)
    return client, OpenAIChatModel("gpt-scripted", provider=OpenAIProvider(openai_client=client))


@asynccontextmanager
async def model_at(provider: Provider) -> AsyncIterator[OpenAIChatModel]:
    """Yield a model that asks the scripted provider."""
    client, model = chat(provider)
    async with client:
        yield model


def agent_of(
    model: Any,
    tools: Sequence[Tool[Any] | Callable[..., Any]],
    store: Path | None = None,
    *,
    runtime: uc.Runtime | None = None,
    **settings: Any,
) -> Agent[Any, Any]:
    """Return an agent with Undercroft under it, which may pause for people."""
    given = settings.pop("undercroft", {})
    given.setdefault("effects", EFFECTS)
    settings.setdefault("output_type", [str, DeferredToolRequests])
    under = Undercroft(runtime or uc.Runtime(store), **given)
    others = settings.pop("capabilities", [])
    return Agent(model, tools=tools, capabilities=[*others, under], **settings)

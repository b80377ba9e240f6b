"""Agents that tools of other agents run: one turn, no waiting for each other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ToolCallPart

import undercroft as uc
from tests.frameworks.pydantic_ai.bank import Bank, agent_of, model_at, proposes
from tests.provider import Answer, Call, Provider, Reply, Request

TWO = [
    Call("withdraw", {"account": "ada", "amount": 30}),
    Call("withdraw", {"account": "ada", "amount": 50}),
]


def by_agent(request: Request) -> Reply:
    """Answer the inner agent, which has `withdraw`, and the outer one, which has `ask_clerk`."""
    if request.fresh:
        return Answer(text="; ".join(one.text for one in request.fresh))
    if "withdraw" in request.tools:
        return Answer(calls=TWO)
    return Answer(calls=[Call("ask_clerk", {"what": "withdraw"})])


@pytest.mark.parametrize("shares", [True, False])
async def test_an_agent_within_a_tool_does_not_wait_for_it(tmp_path: Path, *, shares: bool) -> None:
    """The outer call is exclusive, since undeclared, and still its agent may work."""
    bank = Bank()
    async with uc.Runtime(tmp_path / "j.db") as rt:
        with Provider(by_agent) as provider:
            async with model_at(provider) as model:
                inner: Agent[Any, Any] = (
                    agent_of(model, [bank.withdraw], runtime=rt, undercroft={"effects": None})
                    if shares
                    else Agent(model, tools=[bank.withdraw])
                )

                async def ask_clerk(what: str) -> str:
                    return str((await inner.run(what)).output)

                outer = agent_of(model, [ask_clerk], runtime=rt)
                result = await outer.run("go")
        if shares:
            assert result.output == "ada has 70; ada has 20"
            (turn,) = rt.turns()
            steps = rt.trace(turn.turn_id).steps
            assert [step.name for step in steps if step.kind == "tool"] == [
                "ask_clerk",
                "withdraw",
                "withdraw",
            ]
        else:
            assert bank.held["ada"] in {50, 70}


@pytest.mark.parametrize("beside", [True, False])
async def test_several_delegations_come_to_their_end(*, beside: bool) -> None:
    """Beside each other each with its own account, or one after the other with the same."""
    bank = Bank()
    asked = [Call("ask_clerk", {"what": "ada"}), Call("ask_clerk", {"what": "bob"})]

    def model(request: Request) -> Reply:
        who = request.said[0].text
        if "withdraw" in request.tools and not request.fresh:
            return Answer(calls=[Call("withdraw", {"account": who, "amount": 30})])
        if "withdraw" in request.tools or (beside and request.fresh) or len(request.results) == 2:
            return Answer(text="; ".join(one.text for one in request.results))
        return Answer(calls=asked if beside else [Call("ask_clerk", {"what": "ada"})])

    runtime = uc.Runtime()
    with Provider(model) as provider:
        async with model_at(provider) as chat:
            inner = agent_of(chat, [bank.withdraw], runtime=runtime)

            async def ask_clerk(what: str) -> str:
                return str((await inner.run(what)).output)

            result = await agent_of(chat, [ask_clerk], runtime=runtime).run("go")
    then = "bob has 70" if beside else "ada has 40"
    assert result.output == f"ada has 70; {then}"


async def test_a_tool_may_call_others_of_its_run() -> None:
    """Such as one that runs code: its calls are a loop within it, and its siblings stay."""
    bank = Bank()

    async def both(ctx: RunContext[Any]) -> str:
        manager = ctx.tool_manager
        assert manager is not None
        amounts = {"account": "ada", "amount": 30}, {"account": "ada", "amount": 50}
        parts = [ToolCallPart("withdraw", amount, f"in{n}") for n, amount in enumerate(amounts)]
        done = await asyncio.gather(*(manager.handle_call(part) for part in parts))
        return ", ".join(str(one) for one in done)

    batch = [
        Call("both", {}),
        Call("note", {"text": "x"}),
        Call("withdraw", {"account": "ada", "amount": 5}),
    ]
    with Provider(proposes(*batch)) as provider:
        async with model_at(provider) as model:
            agent = agent_of(model, [both, *bank.tools()])
            await agent.run("go")
    assert sorted(bank.did) == ["note", "withdraw 30", "withdraw 5", "withdraw 50"]
    assert bank.held["ada"] == 15

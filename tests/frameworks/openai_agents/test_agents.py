"""Agents that lead to others: handoffs, agents as tools, servers; one turn for all of them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from agents import Agent, Runner, RunState, function_tool, handoff
from agents.mcp import MCPServerStdio

import undercroft as uc
from tests.frameworks.openai_agents.bank import EFFECTS, Bank, agent_of, heads, ran, rules, traced
from tests.provider import Answer, Call, Provider, Request
from undercroft.adapters.frameworks.openai_agents import tools_of, undercroft_agent

SERVER = '''
import asyncio
from mcp.server import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("bank")
held = {"ada": 100}

@server.tool(annotations=ToolAnnotations(read_only_hint=False))
async def withdraw(account: str, amount: int) -> str:
    """Withdraw from an account."""
    have = held[account]
    await asyncio.sleep(2 / amount)
    held[account] = have - amount
    return f"{account} has {held[account]}"

server.run("stdio")
'''


def once(request: Request, *calls: Call, text: str = "") -> Answer:
    """Propose some calls, and then quote what they came to."""
    if not any(one.calls for one in request.said):
        return Answer(calls=calls)
    return Answer(text=text or "; ".join(shown.text for shown in request.results))


@pytest.mark.parametrize("made", [False, True])
async def test_a_handoff_leads_to_a_guarded_agent_in_the_same_turn(*, made: bool) -> None:
    """The tools of the agent that takes over are under the guards, and the turn is one."""
    bank = Bank()

    def model(request: Request) -> Answer:
        names = {tool["name"] for tool in request.body.get("tools", [])}
        if "transfer_to_cashier" in names:
            return Answer(calls=[Call("transfer_to_cashier", {})])
        if not any(c.name == "withdraw" for one in request.said for c in one.calls):
            two = [Call("withdraw", {"account": "ada", "amount": n}) for n in (30, 50)]
            return Answer(calls=two)
        return Answer(text="done")

    with Provider(model) as provider:
        async with agent_of(provider, bank.tools("withdraw"), name="cashier") as cashier:
            to = handoff(cashier) if made else cashier
            desk = Agent[Any](name="desk", model=cashier.model, handoffs=[to])
            async with uc.Runtime() as rt:
                guarded = undercroft_agent(desk, rt)
                result = await ran(guarded)
                assert len(heads(rt)) == 1
                trace = traced(rt)
            assert [tool.name for tool in tools_of(desk)] == ["withdraw"]
            assert desk.handoffs == [to]
    assert (bank.held["ada"], result.final_output) == (20, "done")
    assert result.last_agent.name == "cashier"
    assert [s.name for s in trace.steps].count("withdraw") == 2
    assert trace.status == "done"


async def test_an_agent_as_a_tool_works_within_its_call() -> None:
    """What it calls is a branch of the turn, and waits for nobody; two of them as well."""
    bank = Bank()

    def model(request: Request) -> Answer:
        names = {tool["name"] for tool in request.body.get("tools", [])}
        if "cashier" in names:
            return once(request, *(Call("cashier", {"input": n}) for n in ("a", "b")))
        two = [Call("withdraw", {"account": "ada", "amount": n}) for n in (10, 20)]
        return once(request, *two)

    with Provider(model) as provider:
        async with agent_of(provider, bank.tools("withdraw"), name="inner") as inner:
            tool = inner.as_tool("cashier", "Does what a cashier does.")
            desk = Agent[Any](name="desk", model=inner.model, tools=[tool])
            async with uc.Runtime() as rt:
                await ran(undercroft_agent(desk, rt))
                assert len(heads(rt)) == 1
                trace = traced(rt)
            assert [one.name for one in tools_of(desk)] == ["cashier", "withdraw"]
            assert desk.tools == [tool]
    assert bank.held["ada"] == 40
    branches = {step.branch for step in trace.steps if step.name == "withdraw"}
    assert len(branches) == 2
    assert "" not in branches
    assert trace.status == "done"


@pytest.mark.parametrize("saved", [False, True])
async def test_a_person_is_asked_within_an_agent_that_is_a_tool(
    tmp_path: Path, *, saved: bool
) -> None:
    """The inner payment waits; after the yes it is made once, also from a saved state twice."""
    bank = Bank()

    def model(request: Request) -> Answer:
        names = {tool["name"] for tool in request.body.get("tools", [])}
        if "cashier" in names:
            return once(request, Call("cashier", {"input": "pay"}, "call_outer"))
        return once(request, Call("pay", {"account": "ada", "amount": 50}, "call_inner"))

    with Provider(model) as provider:
        tools = bank.tools("pay", asking=["pay"])
        async with agent_of(provider, tools, name="inner") as inner:
            desk = Agent[Any](
                name="desk", model=inner.model, tools=[inner.as_tool("cashier", "A cashier.")]
            )
            async with uc.Runtime(tmp_path / "journal.db") as rt:
                guarded = undercroft_agent(desk, rt)
                result = await ran(guarded)
                assert [one.name for one in result.interruptions] == ["pay"]
                assert bank.log == []
                text = result.to_state().to_string()
                for _ in range(2 if saved else 1):
                    state = (
                        await RunState.from_string(guarded, text) if saved else result.to_state()
                    )
                    state.approve(state.get_interruptions()[0])
                    done = await Runner.run(guarded, state)
                    assert done.final_output == "paid 50"
    assert bank.log == ["pay 50"]


async def test_two_agents_may_have_two_tools_of_one_name() -> None:
    """The second is known by its agent's name; each runs its own function."""
    seen: list[str] = []

    def tool(name: str) -> Any:
        @function_tool(name_override="look")
        async def look() -> str:
            """Look."""
            seen.append(name)
            return name

        return look

    def model(request: Request) -> Answer:
        if "transfer_to_second" in {t["name"] for t in request.body.get("tools", [])}:
            if not any(one.calls for one in request.said):
                return Answer(calls=[Call("look", {})])
            return Answer(calls=[Call("transfer_to_second", {})])
        if sum(c.name == "look" for one in request.said for c in one.calls) < 2:
            return Answer(calls=[Call("look", {})])
        return Answer(text="seen")

    with Provider(model) as provider:
        async with agent_of(provider, [tool("second")], name="second") as second:
            first = Agent[Any](
                name="first", model=second.model, tools=[tool("first")], handoffs=[second]
            )
            async with uc.Runtime() as rt:
                await ran(undercroft_agent(first, rt))
                trace = traced(rt)
    assert seen == ["first", "second"]
    assert [s.name for s in trace.steps if s.kind == "tool"] == ["look", "second.look"]


async def test_tools_of_servers_are_guarded(tmp_path: Path) -> None:
    """Two withdrawals of one batch at a server are both there."""
    (tmp_path / "server.py").write_text(SERVER)
    two = [Call("withdraw", {"account": "ada", "amount": n}) for n in (30, 50)]
    with Provider(rules(two)) as provider:
        params = {"command": sys.executable, "args": [str(tmp_path / "server.py")]}
        server: Any = MCPServerStdio(
            cast("Any", params), name="bank", client_session_timeout_seconds=30
        )
        async with (
            server,
            agent_of(provider, [], mcp_servers=[server]) as agent,
            uc.Runtime() as rt,
        ):
            result = await ran(undercroft_agent(agent, rt))
            trace = traced(rt)
    assert "ada has 20" in result.final_output
    assert [s.service for s in trace.steps if s.kind == "tool"] == ["mcp/bank"] * 2


async def test_a_clone_of_a_guarded_agent_is_guarded() -> None:
    """What `clone` is given is put under the guards, too."""
    bank = Bank()
    two = [Call("withdraw", {"account": "ada", "amount": n}) for n in (30, 50)]
    with Provider(rules(two)) as provider:
        async with agent_of(provider, []) as agent, uc.Runtime() as rt:
            clone = undercroft_agent(agent, rt).clone(name="other", tools=bank.tools("withdraw"))
            await ran(clone)
    assert bank.held["ada"] == 20


async def test_runs_side_by_side_are_turns_of_their_own() -> None:
    """One guarded agent serves many runs at once: each has its turn, none waits for another."""
    bank = Bank()
    look = [Call("get_balance", {"account": "ada"})]
    with Provider(rules(look)) as provider:
        async with agent_of(provider, bank.tools("get_balance")) as agent, uc.Runtime() as rt:
            effects = {"get_balance": EFFECTS["get_balance"]}
            guarded = undercroft_agent(agent, rt, effects=effects)
            done = await asyncio.gather(*(ran(guarded) for _ in range(5)))
            found = [head.status for head in heads(rt)]
    assert [one.final_output for one in done] == ["100"] * 5
    assert found == ["done"] * 5

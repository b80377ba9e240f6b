"""Agents within agents: as tools, as nodes of a graph, and side by side, in one turn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

import undercroft as uc
from tests.frameworks.langchain.stage import THREAD, State, agent_of, asked, chat, hold
from tests.provider import Answer, Call, Provider, Request
from undercroft.adapters.frameworks.langchain import Undercroft

TIMEOUT_S = 20


def outer_and_inner(request: Request) -> Answer:
    """Play both models: the inner one is asked by 'Please'."""
    first = next(one.text for one in request.said if one.role == "user")
    if not any(one.calls for one in request.said):
        if first.startswith("Please"):
            return Answer(calls=[Call("pay", {"account": "a"}, "in-1")])
        return Answer(calls=[Call("delegate", {"task": "Please pay."}, "out-1")])
    return Answer(text="; ".join(shown.text for shown in request.results))


@pytest.mark.parametrize("how", ["ainvoke", "invoke"])
@pytest.mark.parametrize("approval", [False, True])
async def test_an_agent_as_a_tool_works_within_its_call(
    how: str,
    approval: bool,  # noqa: FBT001  a parameter of the test
    tmp_path: Path,
) -> None:
    """Nothing is declared, and the call holds everything: its own agent waits for nobody."""
    paid: list[str] = []
    path = str(tmp_path / "journal.db")
    host = uc.Runtime(path)

    def pay(account: str) -> str:
        """Pay."""
        paid.append(account)
        return "paid"

    with Provider(outer_and_inner) as provider:
        effects = {"pay": {"writes": "r/{account}", "approval": approval}}
        inner: Any = create_agent(
            chat(provider), [pay], middleware=[Undercroft(host, effects=effects)], name="inner"
        )

        def delegate(task: str) -> str:
            """Delegate."""
            return str(inner.invoke({"messages": [("user", task)]})["messages"][-1].text)

        async def adelegate(task: str) -> str:
            """Delegate."""
            said = await inner.ainvoke({"messages": [("user", task)]})
            return str(said["messages"][-1].text)

        adelegate.__name__ = "delegate"
        agent = agent_of(provider, host, [adelegate if how == "ainvoke" else delegate])
        async with asyncio.timeout(TIMEOUT_S):
            said = await hold(agent, "Go.", how)
            if approval:
                assert not paid
                (question,) = await asked(agent)
                assert question.value["tool"] == "pay"
                said = await hold(agent, Command(resume=True), how)
    assert paid == ["a"]
    assert said[-1].text == "paid"
    async with uc.Runtime(path) as rt:
        (head,) = rt.turns()
        trace = rt.trace(head.turn_id)
    assert str(trace.status) == "done"
    assert trace.delivered == "paid"
    assert {step.branch for step in trace.steps if step.name == "pay"} != {""}


async def test_a_tool_that_asks_by_itself_pauses_and_goes_on() -> None:
    """LangGraph's own `interrupt` in a tool, beside a call that is asked about by us."""
    paid: list[str] = []

    @tool
    async def choose(options: str) -> str:
        """Ask the user."""
        return f"chose {interrupt({'choose': options})}"

    async def pay(account: str) -> str:
        """Pay."""
        paid.append(account)
        return "paid"

    def model(request: Request) -> Answer:
        if not any(one.calls for one in request.said):
            calls = [Call("choose", {"options": "x y"}, "c1"), Call("pay", {"account": "a"}, "c2")]
            return Answer(calls=calls)
        return Answer(text="; ".join(shown.text for shown in request.results))

    effects = {
        "choose": {"reads": "user"},
        "pay": {"writes": "r/{account}", "approval": True},
    }
    with Provider(model) as provider:
        agent = agent_of(provider, uc.Runtime(), [choose, pay], effects)
        await hold(agent, "Go.")
        questions = {("choose" in one.value): one.id for one in await asked(agent)}
        assert sorted(questions) == [False, True]
        await hold(agent, Command(resume={questions[True]: "y"}))
        assert not paid
        said = await hold(agent, Command(resume=True))
    assert said[-1].text == "chose y; paid"


async def test_agents_side_by_side_in_one_graph_share_a_turn(tmp_path: Path) -> None:
    """Two nodes of a graph are agents with one runtime: none waits for the other's session."""
    path = str(tmp_path / "journal.db")
    host = uc.Runtime(path)
    ran: list[str] = []

    def work(who: str) -> str:
        """Work."""
        ran.append(who)
        return f"{who} worked"

    def model(request: Request) -> Answer:
        if request.results:
            return Answer(text=request.results[-1].text)
        who = next(one.text for one in request.said if one.role == "system")
        return Answer(calls=[Call("work", {"who": who}, f"c-{who}")])

    with Provider(model) as provider:

        def node(who: str) -> Any:
            return create_agent(
                chat(provider), [work], system_prompt=who, middleware=[Undercroft(host)], name=who
            )

        graph = StateGraph(State)
        for who in ("left", "right"):
            graph.add_node(who, node(who))
            graph.add_edge(START, who)
            graph.add_edge(who, END)
        made: Any = graph.compile(checkpointer=InMemorySaver())
        async with asyncio.timeout(TIMEOUT_S):
            await made.ainvoke({"messages": [("user", "Go.")]}, THREAD)
    assert sorted(ran) == ["left", "right"]
    async with uc.Runtime(path) as rt:
        (head,) = rt.turns()
        assert str(head.status) == "done"

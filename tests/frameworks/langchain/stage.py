"""Agents of LangChain's with Undercroft under them, a scripted provider, and a careless bank."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.messages import AnyMessage, BaseMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import Interrupt

import undercroft as uc
from tests.provider import Answer, Call, Model, Provider, Request
from undercroft.adapters.frameworks.langchain import Undercroft

THREAD: RunnableConfig = {"configurable": {"thread_id": "t-1"}}
HOWS = ("invoke", "ainvoke", "stream", "astream")


class Bank:
    """Accounts as careless tools keep them: read, wait, write."""

    def __init__(self, **balances: int) -> None:
        self.balances = balances
        self.log: list[str] = []

    def tools(self, *, sync: bool = False) -> dict[str, Callable[..., Any]]:
        """Return its tools; who takes less takes longer."""

        def withdraw(account: str, amount: int) -> str:
            """Withdraw an amount from an account."""
            had = self.balances[account]
            self.log.append(f"begin {amount}")
            time.sleep(1 / amount)
            self.balances[account] = had - amount
            self.log.append(f"end {amount}")
            return f"{self.balances[account]} left"

        async def awithdraw(account: str, amount: int) -> str:
            """Withdraw an amount from an account."""
            had = self.balances[account]
            self.log.append(f"begin {amount}")
            await asyncio.sleep(1 / amount)
            self.balances[account] = had - amount
            self.log.append(f"end {amount}")
            return f"{self.balances[account]} left"

        def note(text: str) -> str:
            """Write a note."""
            self.log.append(f"note {text}")
            return "noted"

        awithdraw.__name__ = "withdraw"
        return {"withdraw": withdraw if sync else awithdraw, "note": note}


def take(amount: int, call_id: str, account: str = "a") -> Call:
    """Return a withdrawal as the model proposes it."""
    return Call("withdraw", {"account": account, "amount": amount}, call_id)


def proposes(*calls: Call) -> Model:
    """Return a model that proposes a batch once, and then quotes what came of it."""

    def model(request: Request) -> Answer:
        if not any(one.calls for one in request.said):
            return Answer(calls=calls)
        return Answer(text="; ".join(shown.text for shown in request.results))

    return model


def chat(provider: Provider, **more: Any) -> ChatOpenAI:
    """Return the model behind a scripted provider."""
    more = {"model": "gpt-scripted", "api_key": "none", "max_retries": 0, **more}
    return ChatOpenAI(base_url=f"{provider.url}/v1", **more)


def agent_of(  # noqa: PLR0913  what an agent is made of
    provider: Provider,
    host: uc.Runtime,
    tools: Sequence[Any],
    effects: dict[str, Any] | None = None,
    *,
    middleware: Sequence[Any] = (),
    kept: Any = None,
    **more: Any,
) -> Any:
    """Return an agent as a user writes it."""
    return create_agent(
        chat(provider),
        list(tools),
        middleware=[*middleware, Undercroft(host, effects=effects)],
        checkpointer=kept or InMemorySaver(),
        **more,
    )


class State(TypedDict):
    """Of a graph of one's own."""

    messages: Annotated[list[AnyMessage], add_messages]
    seen: Annotated[list[str], operator.add]


def graph_of(
    provider: Provider,
    host: uc.Runtime,
    tools: Sequence[Any],
    effects: dict[str, Any] | None = None,
    *,
    kept: Any = None,
    **more: Any,
) -> Any:
    """Return a graph of one's own: a model node without any hook, and a `ToolNode` with both."""
    under = Undercroft(host, effects=effects)
    node = ToolNode(
        list(tools),
        wrap_tool_call=under.wrap_tool_call,
        awrap_tool_call=under.awrap_tool_call,
        **more,
    )
    model = chat(provider).bind_tools(list(node.tools_by_name.values()))

    def ask(state: State) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def aask(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def after(state: State) -> str:
        return "tools" if getattr(state["messages"][-1], "tool_calls", None) else END

    graph = StateGraph(State)
    graph.add_node("model", RunnableLambda(ask, aask))
    graph.add_node("tools", node)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", after, ["tools", END])
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=kept or InMemorySaver())


MAKERS = {"agent": agent_of, "graph": graph_of}


async def hold(
    agent: Any, given: Any, how: str = "ainvoke", thread: Any = None
) -> list[BaseMessage]:
    """Hold a conversation until its answer or pause; return all that was said."""
    config = thread or THREAD
    told = {"messages": [("user", given)]} if isinstance(given, str) else given
    if how == "ainvoke":
        await agent.ainvoke(told, config)
    elif how == "astream":
        async for _ in agent.astream(told, config, stream_mode="updates"):
            pass
    elif how == "invoke":
        await asyncio.to_thread(agent.invoke, told, config)
    else:
        await asyncio.to_thread(lambda: list(agent.stream(told, config, stream_mode="updates")))
    said: list[BaseMessage] = (await agent.aget_state(config)).values["messages"]
    return said


async def asked(agent: Any, thread: Any = None) -> list[Interrupt]:
    """Return what people are asked now."""
    return list((await agent.aget_state(thread or THREAD)).interrupts)

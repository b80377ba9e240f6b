"""The programs in LangChain: `create_agent`, middleware for approvals, LangGraph's checkpoints."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

import undercroft as uc  # +undercroft
from bench.frameworks.programs import Framework, Place
from bench.frameworks.running import main
from bench.frameworks.world import Tool, tools
from undercroft.adapters.frameworks.langchain import Undercroft  # +undercroft

THREAD = {"configurable": {"thread_id": "ada-1"}}
YES = {"type": "approve"}


def agent_of(place: Place, *, asks: bool = False, kept: Any = None) -> Any:
    """Return the agent, as a user writes it; where it `asks`, a person says yes to `pay`."""
    model = ChatOpenAI(
        model="gpt-scripted", base_url=f"{place.url}/v1", api_key="none", max_retries=0
    )
    made = tools(place.world)
    return create_agent(
        model,
        list(made.values()),
        middleware=[*asking(place, asks=asks), *under(place, made, asks=asks)],  # +undercroft
        checkpointer=kept,
    )


def under(place: Place, made: dict[str, Tool], *, asks: bool) -> list[AgentMiddleware]:
    """Return what puts Undercroft under an agent: nothing, without it."""
    if not place.guarded:
        return []
    uc.declare(made["pay"], writes="account/{account}", approval=asks)  # +undercroft
    uc.declare(made["write_note"], appends="notes")  # +undercroft
    return [Undercroft(uc.Runtime(str(place.world.folder / "undercroft.db")))]


def asking(place: Place, *, asks: bool) -> list[AgentMiddleware]:
    """Return what asks a person before `pay`; with Undercroft, that does."""
    if place.guarded or not asks:
        return []
    return [HumanInTheLoopMiddleware({"pay": True}, interrupt_mode=place.mode or "batched")]


def checkpoints(place: Place) -> AbstractAsyncContextManager[AsyncSqliteSaver]:
    """Return the file that the agent's state is kept in."""
    file = str(place.world.folder / "checkpoints.db")
    kept: AbstractAsyncContextManager[AsyncSqliteSaver] = AsyncSqliteSaver.from_conn_string(file)
    return kept


def text_of(state: Any) -> str:
    """Return what the user is told."""
    return str(state["messages"][-1].text)


async def answer(place: Place, prompt: str) -> str:
    """Hold a conversation that nothing is kept of."""
    state = await agent_of(place).ainvoke({"messages": [("user", prompt)]})
    return text_of(state)


async def pause(place: Place, prompt: str) -> None:
    """Hold it until a person is asked."""
    async with checkpoints(place) as kept:
        agent = agent_of(place, asks=True, kept=kept)
        state = await agent.ainvoke({"messages": [("user", prompt)]}, THREAD)
        if "__interrupt__" not in state:
            raise RuntimeError("nobody was asked")


async def approve(place: Place) -> str:
    """Say yes, and hold it to its end."""
    async with checkpoints(place) as kept:
        agent = agent_of(place, asks=True, kept=kept)
        yes: Any = {"decisions": [YES]}
        if place.mode == "per_call":
            state = await agent.aget_state(THREAD)
            yes = {one.id: YES for one in state.interrupts}
        return text_of(await agent.ainvoke(Command(resume=yes), THREAD))


async def begin(place: Place, prompt: str) -> str:
    """Hold it with checkpoints."""
    async with checkpoints(place) as kept:
        state = await agent_of(place, kept=kept).ainvoke({"messages": [("user", prompt)]}, THREAD)
        return text_of(state)


async def resume(place: Place) -> str:
    """Go on from the last checkpoint: no new input, same thread."""
    async with checkpoints(place) as kept:
        return text_of(await agent_of(place, kept=kept).ainvoke(None, THREAD))


FRAMEWORK = Framework(
    name="LangChain",
    module="bench.frameworks.langchain_programs",
    packages=("langchain", "langgraph", "langgraph-checkpoint-sqlite", "langchain-openai"),
    answer=answer,
    pause=pause,
    approve=approve,
    begin=begin,
    resume=resume,
    modes=("batched", "per_call"),
)

if __name__ == "__main__":
    main(FRAMEWORK)

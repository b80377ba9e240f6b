"""The programs in the OpenAI Agents SDK: `Runner`, interruptions, saved run states, sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agents import (
    Agent,
    OpenAIResponsesModel,
    Runner,
    RunState,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

import undercroft as uc  # +undercroft
from bench.frameworks.programs import Framework, Place
from bench.frameworks.running import main
from bench.frameworks.world import tools
from undercroft.adapters.frameworks.openai_agents import undercroft_agent  # +undercroft

# What is said of the tools, in a file of its own or here.
EFFECTS = {  # +undercroft
    "withdraw": {"writes": "accounts/{account}"},
    "pay": {"writes": "accounts/{account}"},
    "add_interest": {"writes": "accounts/{account}"},
    "write_note": {"appends": "notes"},
    "charge": {"writes": "cards/{card}"},
}

set_tracing_disabled(disabled=True)  # traces would leave the machine


def under(place: Place, agent: Agent[Any]) -> Agent[Any]:
    """Return an agent with Undercroft under it, if it is to be."""
    if not place.guarded:
        return agent
    journal = place.world.folder / "undercroft.db"
    return undercroft_agent(agent, uc.Runtime(journal), effects=EFFECTS)  # +undercroft


@asynccontextmanager
async def agent_of(place: Place, *, asking: bool = False) -> AsyncIterator[Any]:
    """Yield the agent, as a user writes it."""
    held = [
        function_tool(tool, needs_approval=asking and name == "pay")
        for name, tool in tools(place.world).items()
    ]
    async with AsyncOpenAI(base_url=f"{place.url}/v1", api_key="none", max_retries=0) as client:
        agent = Agent[Any](
            name="teller",
            model=OpenAIResponsesModel("gpt-scripted", openai_client=client),
            tools=list(held),
        )
        yield under(place, agent)


def saved(place: Place) -> Path:
    """Return the file that a run's state is kept in."""
    return place.world.folder / "state.json"


def session(place: Place) -> SQLiteSession:
    """Return the session that a conversation is kept in."""
    return SQLiteSession("ada-1", place.world.folder / "session.db")


async def answer(place: Place, prompt: str) -> str:
    """Hold a conversation that nothing is kept of."""
    async with agent_of(place) as agent:
        return str((await Runner.run(agent, prompt)).final_output)


async def pause(place: Place, prompt: str) -> None:
    """Hold it until a person is asked."""
    async with agent_of(place, asking=True) as agent:
        result = await Runner.run(agent, prompt)
    if not result.interruptions:
        raise RuntimeError("nobody was asked")
    saved(place).write_text(result.to_state().to_string())


async def approve(place: Place) -> str:
    """Say yes, and hold it to its end."""
    async with agent_of(place, asking=True) as agent:
        state = await RunState.from_string(agent, saved(place).read_text())
        for one in state.get_interruptions():
            state.approve(one)
        return str((await Runner.run(agent, state)).final_output)


async def begin(place: Place, prompt: str) -> str:
    """Hold it in a session."""
    async with agent_of(place) as agent:
        return str((await Runner.run(agent, prompt, session=session(place))).final_output)


async def resume(place: Place) -> str:
    """Go on with what the session has: no new input."""
    async with agent_of(place) as agent:
        return str((await Runner.run(agent, [], session=session(place))).final_output)


FRAMEWORK = Framework(
    name="OpenAI Agents",
    module="bench.frameworks.openai_agents_programs",
    packages=("openai-agents", "openai"),
    answer=answer,
    pause=pause,
    approve=approve,
    begin=begin,
    resume=resume,
)

if __name__ == "__main__":
    main(FRAMEWORK)

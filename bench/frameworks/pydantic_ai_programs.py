"""The programs in pydantic-ai: `Agent`, deferred tools for approvals, message histories."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from anthropic import AsyncAnthropic
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, Tool
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

import undercroft as uc  # +undercroft
from bench.frameworks.programs import Framework, Place
from bench.frameworks.running import main
from bench.frameworks.world import tools
from undercroft.adapters.frameworks.pydantic_ai import Undercroft  # +undercroft

EFFECTS = Path(__file__).with_name("undercroft.toml")


def under(place: Place) -> list[Any]:
    """Return what puts Undercroft under an agent: nothing, without it."""
    if not place.guarded:
        return []
    runtime = uc.Runtime(place.world.folder / "undercroft.db")  # +undercroft
    return [Undercroft(runtime, effects=EFFECTS)]  # +undercroft


@asynccontextmanager
async def agent_of(place: Place, *, asking: bool = False) -> AsyncIterator[Any]:
    """Yield the agent, as a user writes it."""
    held = [
        Tool(tool, requires_approval=asking and name == "pay")
        for name, tool in tools(place.world).items()
    ]
    async with AsyncAnthropic(base_url=place.url, api_key="none", max_retries=0) as client:
        provider = AnthropicProvider(anthropic_client=client)
        yield Agent(
            AnthropicModel("claude-scripted", provider=provider),
            tools=held,
            output_type=[str, DeferredToolRequests] if asking else str,
            capabilities=under(place),  # +undercroft
        )


def history(place: Place) -> Path:
    """Return the file that messages are kept in."""
    return place.world.folder / "messages.json"


def kept(place: Place) -> Sequence[ModelMessage]:
    """Return the messages that were kept."""
    messages: Sequence[ModelMessage] = ModelMessagesTypeAdapter.validate_json(
        history(place).read_bytes()
    )
    return messages


async def answer(place: Place, prompt: str) -> str:
    """Hold a conversation that nothing is kept of."""
    async with agent_of(place) as agent:
        return str((await agent.run(prompt)).output)


async def pause(place: Place, prompt: str) -> None:
    """Hold it until a person is asked."""
    async with agent_of(place, asking=True) as agent:
        result = await agent.run(prompt)
    if not isinstance(result.output, DeferredToolRequests):
        raise TypeError("nobody was asked")
    history(place).write_bytes(result.all_messages_json())


async def approve(place: Place) -> str:
    """Say yes, and hold it to its end."""
    messages = kept(place)
    asked = [call for call in messages_calls(messages) if call.tool_name == "pay"]
    yes = DeferredToolResults(approvals={call.tool_call_id: True for call in asked})
    async with agent_of(place, asking=True) as agent:
        result = await agent.run(message_history=messages, deferred_tool_results=yes)
        return str(result.output)


def messages_calls(messages: Sequence[ModelMessage]) -> list[Any]:
    """Return the calls that the model proposed last."""
    return next(list(one.tool_calls) for one in reversed(messages) if one.kind == "response")


async def begin(place: Place, prompt: str) -> str:
    """Hold it, and keep the messages before each of its steps."""
    async with agent_of(place) as agent, agent.iter(prompt) as run:
        async for _ in run:
            history(place).write_bytes(run.all_messages_json())
        return str(run.result.output)


async def resume(place: Place) -> str:
    """Go on from the messages: no new prompt."""
    async with agent_of(place) as agent:
        return str((await agent.run(message_history=kept(place))).output)


FRAMEWORK = Framework(
    name="pydantic-ai",
    module="bench.frameworks.pydantic_ai_programs",
    packages=("pydantic-ai-slim", "anthropic"),
    answer=answer,
    pause=pause,
    approve=approve,
    begin=begin,
    resume=resume,
)

if __name__ == "__main__":
    main(FRAMEWORK)

"""What Undercroft adds to a tool call of the OpenAI Agents SDK; see `costs`."""

from __future__ import annotations

import asyncio
import platform
import tempfile
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

import undercroft as uc
from bench.frameworks.costs import MEMORY, OWN, READ, WRITE, Once, measured, said
from undercroft.adapters.frameworks.openai_agents import undercroft_agent

set_tracing_disabled(disabled=True)  # traces would leave the machine

CALLS = 60
# So many calls are a run: they are one batch, and what the rest of a run takes is theirs as well.
BATCH = 50


async def _look(n: int) -> str:
    """Look at something."""
    return f"page {n}"


async def _put(n: int) -> str:
    """Change something."""
    return f"page {n}"


look = function_tool(_look, name_override="look")
put = function_tool(_put, name_override="put")


class Proposing(Model):  # type: ignore[misc]  # where the SDK is missing
    """A model without a wire: it proposes one batch, and then ends.

    Args:
        name: Of the tool.
    """

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, 0

    async def get_response(self, *_: Any, **given: Any) -> ModelResponse:
        """Answer at once."""
        self.asked += 1
        output: list[Any] = [
            ResponseOutputMessage(
                id="m",
                type="message",
                role="assistant",
                status="completed",
                content=[ResponseOutputText(type="output_text", text="end", annotations=[])],
            )
        ]
        if len(given["input"]) == 1:
            output = [
                ResponseFunctionToolCall(
                    type="function_call",
                    call_id=f"call_{self.asked}_{n}",
                    name=self.name,
                    arguments=f'{{"n": {n}}}',
                )
                for n in range(BATCH)
            ]
        return ModelResponse(output=output, usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Nobody streams here."""
        raise NotImplementedError


def agent(name: str) -> Agent[Any]:
    """Return an agent that calls one of the tools."""
    return Agent(name="a", model=Proposing(name), tools=[look, put])


def running(made: Agent[Any]) -> Once:
    """Return what runs an agent once."""

    async def once(n: int) -> object:
        return await Runner.run(made, f"go {n}")

    return once


async def main() -> None:
    """Measure, and say what was found."""
    uc.declare(look, reads="page/{n}")
    uc.declare(put, writes="page/{n}", read_first=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        async with uc.Runtime() as memory, uc.Runtime(path) as file:
            ways = {
                OWN: running(agent("look")),
                MEMORY: running(undercroft_agent(agent("look"), memory)),
                READ: running(undercroft_agent(agent("look"), file)),
                WRITE: running(undercroft_agent(agent("put"), file)),
            }
            found = await measured(ways, calls=CALLS, warm_up=10)
    each = {way: {key: took / BATCH for key, took in one.items()} for way, one in found.items()}
    package = "openai-agents"
    said("OpenAI Agents", {package: version(package), "python": platform.python_version()}, each)


if __name__ == "__main__":
    asyncio.run(main())

"""What Undercroft adds to a tool call of a pydantic-ai agent; see `costs`.

A call is what a run's own tool manager makes of one: its arguments are checked, its hooks are
run, and the tool. The run is the same from the first call to the last.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

import undercroft as uc
from bench.frameworks.costs import MEMORY, OWN, READ, WRITE, Once, measured, said
from undercroft.adapters.frameworks.pydantic_ai import Undercroft

CALLS = 1_000
EFFECTS = {"look": {"reads": "page/{n}"}, "put": {"writes": "page/{n}", "read_first": False}}


async def look(n: int) -> str:
    """Look at something."""
    return f"page {n}"


async def put(n: int) -> str:
    """Change something."""
    return f"page {n}"


def propose(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:  # noqa: ARG001
    """Propose a call, so that the run stands before it."""
    return ModelResponse(parts=[ToolCallPart("look", {"n": 0}, "first")])


async def under(stack: AsyncExitStack, runtime: uc.Runtime | None, name: str) -> Once:
    """Return what makes a call in a run that stands before its tools."""
    capabilities = [] if runtime is None else [Undercroft(runtime, effects=EFFECTS)]
    agent = Agent(FunctionModel(propose), tools=[look, put], capabilities=capabilities)
    run = await stack.enter_async_context(agent.iter("go"))
    node: Any = run.next_node
    while not Agent.is_call_tools_node(node):
        node = await run.next(node)
    manager = run.ctx.deps.tool_manager

    async def once(n: int) -> object:
        call = ToolCallPart(name, {"n": n}, f"c{n}")
        return await manager.execute_tool_call(await manager.validate_tool_call(call))

    return once


async def main() -> None:
    """Measure, and say what was found."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        async with uc.Runtime() as memory, uc.Runtime(path) as file, AsyncExitStack() as stack:
            ways = {
                OWN: await under(stack, None, "look"),
                MEMORY: await under(stack, memory, "look"),
                READ: await under(stack, file, "look"),
                WRITE: await under(stack, file, "put"),
            }
            found = await measured(ways, calls=CALLS)
    said("pydantic-ai", {"pydantic-ai-slim": version("pydantic-ai-slim")}, found)


if __name__ == "__main__":
    asyncio.run(main())

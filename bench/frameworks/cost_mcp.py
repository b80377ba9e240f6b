"""What Undercroft adds to a call of an MCP server's tool; see `costs`.

One server in a second process, by standard input and output. The first way is the SDK's own client;
the second only `connect`, without a loop; the others are the calls of a loop with `connect`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters, types
from mcp.server import Server
from mcp.server.stdio import stdio_server

import undercroft as uc
from bench.frameworks.costs import MEMORY, OWN, READ, WRITE, Once, measured, said
from undercroft.adapters.mcp import connect

CALLS = 1_000
# So many calls are a turn: as many as turns have.
TURN_CALLS = 50
BARE = "connect, without a loop"
EFFECTS = {
    "look": {"reads": "page/{n}"},
    "put": {"writes": "page/{n}", "read_first": False},
}


async def serve() -> None:
    """Serve two tools that do nothing."""

    async def listed(_ctx: object, _params: object) -> types.ListToolsResult:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
        return types.ListToolsResult(
            tools=[types.Tool(name=name, input_schema=schema) for name in EFFECTS]
        )

    async def called(_ctx: object, params: types.CallToolRequestParams) -> types.CallToolResult:
        return types.CallToolResult(content=[types.TextContent(text=f"page {params.arguments}")])

    server: Server[Any] = Server("cost", on_list_tools=listed, on_call_tool=called)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def under(rt: uc.Runtime, tools: list[Any], name: str) -> Once:
    """Return what makes a call with Undercroft under the loop."""
    guest = rt.guest(rt.toolset("cost", tools, EFFECTS))

    async def once(n: int) -> object:
        [result] = await guest.calls([uc.Call(name, {"n": n}, f"c{n}")])
        if n % TURN_CALLS == 0:
            await guest.end()
        return result

    return once


async def main() -> None:
    """Measure, and say what was found."""
    command = [sys.executable, "-m", "bench.frameworks.cost_mcp", "--serve"]
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    place = StdioServerParameters(command=command[0], args=command[1:], env=environment)
    async with AsyncExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "journal.db"
        own = await stack.enter_async_context(Client(place))
        await own.list_tools()
        server = await stack.enter_async_context(connect(command, service="cost", env=environment))
        tools = await server.tools()
        memory = await stack.enter_async_context(uc.Runtime())
        file = await stack.enter_async_context(uc.Runtime(path))

        async def direct(n: int) -> object:
            return await own.call_tool("look", {"n": n})

        async def bare(n: int) -> object:
            return await server.call("look", {"n": n})

        ways: dict[str, Once] = {
            OWN: direct,
            BARE: bare,
            MEMORY: under(memory, tools, "look"),
            READ: under(file, tools, "look"),
            WRITE: under(file, tools, "put"),
        }
        found = await measured(ways, calls=CALLS)
    said("MCP client", {"mcp": version("mcp")}, found)


if __name__ == "__main__":
    asyncio.run(serve() if "--serve" in sys.argv else main())

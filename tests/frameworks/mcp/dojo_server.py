"""The tools of a suite of `agentdojo` as an MCP server, on one environment at a time.

    python -m tests.frameworks.mcp.dojo_server SUITE

Two tools are not of the suite: `begin` sets the stage for a task, `digest` says what became of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mcp import types
from mcp.server import Server
from mcp.server.stdio import stdio_server

from tests.real.dojo import Stage, load_suite

SUITE = load_suite(sys.argv[1]) if len(sys.argv) > 1 else load_suite("banking")
STAGE: dict[str, Stage] = {}
ANY: dict[str, Any] = {"type": "object", "properties": {"task": {"type": "string"}}}


async def list_tools(ctx: object, params: object) -> types.ListToolsResult:
    """Answer `tools/list`."""
    tools = [
        types.Tool(
            name=tool.name,
            description=tool.description,
            input_schema=tool.schema,
            annotations=types.ToolAnnotations(read_only_hint=tool.effect.kind == "read"),
        )
        for tool in SUITE.tools.values()
    ]
    own = [types.Tool(name=name, input_schema=ANY) for name in ("begin", "digest")]
    return types.ListToolsResult(tools=tools + own)


async def call_tool(ctx: object, params: types.CallToolRequestParams) -> types.CallToolResult:
    """Answer `tools/call`."""
    arguments = params.arguments or {}
    result: Any
    try:
        if params.name == "begin":
            STAGE["now"] = SUITE.stage(arguments["task"])
            result = ""
        elif params.name == "digest":
            result = STAGE["now"].digest().sha256
        else:
            result = STAGE["now"].call(params.name, arguments)
    except Exception as error:  # noqa: BLE001  whatever a tool raises is its answer
        text = f"{type(error).__name__}: {error}"
        return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)
    text = result if isinstance(result, str) else json.dumps(result)
    return types.CallToolResult(content=[types.TextContent(text=text)])


async def main() -> None:
    """Serve."""
    server: Server[Any] = Server("dojo", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main())

"""The Model Context Protocol, both ways. Extra `undercroft[mcp]`.

Tools of MCP servers as tools of ours, wherever tools are given:

    async with connect(["python", "crm_server.py"], service="crm") as crm:
        guarded = uc.guard(await crm.tools())

Tools of ours as an MCP server:

    await serve_stdio(mcp_server([get_account, set_tier], uc.Runtime("undercroft.db"), name="crm"))

`limits.py` says how much a server may send; `listing.py` and `results.py` translate, `calling.py`
makes one call; `connection.py` keeps a server at hand, by way of `stdio.py` or `web.py`;
`server.py` and `clients.py` are the other way round, `serving.py` opens its doors.
"""

from undercroft.adapters.versions import require

require("mcp", at_least="2.3", below="3", extra="mcp")

from undercroft.adapters.mcp.connection import (  # noqa: E402  only once the version is known
    Connection,
    Refreshing,
    ServerUnreachableError,
    connect,
)
from undercroft.adapters.mcp.limits import McpLimits  # noqa: E402
from undercroft.adapters.mcp.listing import mcp_tools  # noqa: E402
from undercroft.adapters.mcp.server import mcp_server  # noqa: E402
from undercroft.adapters.mcp.serving import serve_http, serve_stdio  # noqa: E402

__all__ = [
    "Connection",
    "McpLimits",
    "Refreshing",
    "ServerUnreachableError",
    "connect",
    "mcp_server",
    "mcp_tools",
    "serve_http",
    "serve_stdio",
]

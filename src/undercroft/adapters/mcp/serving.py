"""The doors by which clients come to a server of ours: standard input and output, or HTTP.

Keeps: nobody beyond this machine is let in. To serve others is a decision about who may ask, so it
is made where that can be checked: `server.streamable_http_app()` is an ASGI app for that.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import uvicorn
from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings

from undercroft.errors import SettingError

GRACE_S = 2


async def serve_stdio(server: Server[Any]) -> None:
    """Serve whoever started this process, until it closes our standard input."""
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def serve_http(
    server: Server[Any],
    *,
    port: int,
    host: str = "127.0.0.1",
    path: str = "/mcp",
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve clients on this machine by streamable HTTP, until cancelled.

    Args:
        server: As `mcp_server` returned it.
        port: 0 takes any that is free.
        host: An address of this machine that no other can reach.
        path: Of the endpoint.
        ready: Told the URL, once clients may come.

    Raises:
        SettingError: Others could reach that address.
        OSError: The port is taken.
    """
    if not _is_loopback(host):
        raise SettingError("host", host, "a loopback address, such as 127.0.0.1")
    shown = f"[{host}]" if ":" in host else host
    # A page of another origin must not speak to it by way of somebody's browser.
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[f"{shown}:*"],
        allowed_origins=[f"http://{shown}:*"],
    )
    app = server.streamable_http_app(streamable_http_path=path, transport_security=security)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
        door.listen()
        if ready is not None:
            ready(f"http://{shown}:{door.getsockname()[1]}{path}")
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=GRACE_S,
        )
        running = _Quiet(config)
        task = asyncio.ensure_future(running.serve([door]))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            # The turns of its clients end in order.
            running.should_exit = True
            await task
            raise


class _Quiet(uvicorn.Server):
    """One that leaves the signals of the process to whoever owns it."""

    def capture_signals(self) -> Any:
        """Take none."""
        return nullcontext()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

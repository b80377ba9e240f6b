"""Servers behind HTTP that mean no good: bounded, named, and never the end of the loop."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

import undercroft as uc
from undercroft.adapters.mcp import McpLimits, connect
from undercroft.model.step import ErrorClass, StepStatus

LIMIT = 200_000
ACTS = ("well", "status", "html", "accepted", "packed", "endless", "event", "cut", "away", "hang")


def message(number: Any, result: Any) -> bytes:
    """Return an answer."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()


def head(status: str, *lines: str) -> bytes:
    """Return what stands before a body."""
    return "\r\n".join([f"HTTP/1.1 {status}", "connection: close", *lines, "", ""]).encode()


JSON = "content-type: application/json"
STREAM = "content-type: text/event-stream"


class Web:
    """A server by hand, on loopback."""

    url = ""
    sent = 0

    async def answer(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        number, method = asked.get("id"), asked.get("method")
        if number is None:
            writer.write(head("202 Accepted", "content-length: 0"))
        elif method == "initialize":
            said = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "web", "version": "1"},
            }
            writer.write(head("200 OK", JSON) + message(number, said))
        elif method == "tools/list":
            schema = {"type": "object"}
            tools = [{"name": name, "inputSchema": schema} for name in ACTS]
            writer.write(head("200 OK", JSON) + message(number, {"tools": tools}))
        elif method == "tools/call":
            await self.act(asked["params"]["name"], number, writer)
        else:
            writer.write(head("404 Not Found", "content-length: 0"))

    async def act(self, name: str, number: Any, writer: asyncio.StreamWriter) -> None:
        """Do what a tool is for."""
        well = message(number, {"content": [{"type": "text", "text": "done"}]})
        if name == "well":
            writer.write(head("200 OK", JSON) + well)
        elif name == "status":
            writer.write(head("503 Busy", "content-type: text/plain") + b"busy")
        elif name == "html":
            writer.write(head("200 OK", "content-type: text/html") + b"<p>done</p>")
        elif name == "accepted":
            writer.write(head("202 Accepted", "content-length: 0"))
        elif name == "packed":
            body = gzip.compress(b" " * 50_000_000 + well)
            writer.write(head("200 OK", JSON, "content-encoding: gzip") + body)
        elif name == "endless":
            writer.write(head("200 OK", JSON) + b'{"x":"')
            await self.flood(writer)
        elif name == "event":
            writer.write(head("200 OK", STREAM) + b"data: ")
            await self.flood(writer)
        elif name == "cut":
            writer.write(head("200 OK", STREAM) + b"event: message\ndata: {")
        elif name == "away":
            writer.write(head("307 Away", "location: http://evil.example/mcp"))
        else:
            await asyncio.Event().wait()

    async def flood(self, writer: asyncio.StreamWriter) -> None:
        """Send for as long as anybody listens."""
        for _ in range(5_000):
            writer.write(b"x" * 10_000)
            self.sent += 10_000
            await writer.drain()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        try:
            top = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if not top.startswith("post"):
                writer.write(head("405 No", "content-length: 0"))
                return
            size = int(top.split("content-length:")[1].split("\r\n")[0])
            await self.answer(json.loads(await reader.readexactly(size)), writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """Return a server."""
    made = Web()
    open_now: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_now.add(task)
        try:
            await made.serve(reader, writer)
        finally:
            open_now.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    yield made
    server.close()
    for task in list(open_now):
        task.cancel()
    await asyncio.gather(*open_now, return_exceptions=True)


@pytest.mark.parametrize("act", ACTS[1:])
async def test_an_answer_that_is_none(web: Web, act: str) -> None:
    """A read fails and may be tried again, a write is in doubt; then all is well again."""
    effects = {"hang": {"timeout_s": 0.3}}
    limits = McpLimits(message_bytes=LIMIT)
    async with connect(web.url, service="web", limits=limits) as server, uc.Runtime() as rt:
        tools = await server.tools()
        calls = [uc.Call(act, {}, "1"), uc.Call("well", {}, "2")]
        outcomes = []
        for words in ({"peeks": "x"}, {"writes": "x"}):
            told = {**effects.get(act, {}), **words}
            guest = rt.guest(rt.toolset("loop", tools, {act: told}))
            failed, well = [(await guest.calls([call]))[0] for call in calls]
            assert well.value == "done"
            outcomes.append(failed)
            await guest.end()
    read, write = outcomes
    assert read.error is not None
    if act == "away":
        # It was not followed, and what it answers to was not done.
        assert read.error.error_class is ErrorClass.PERMANENT
        assert write.status is StepStatus.FAILED
        return
    assert read.error.error_class is ErrorClass.TRANSIENT, read.error
    assert write.status is StepStatus.IN_DOUBT, write
    assert web.sent < 20_000_000  # nobody listened to all of it

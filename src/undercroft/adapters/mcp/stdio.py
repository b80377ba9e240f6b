"""A server that is a process of its own, spoken to by its standard input and output.

Keeps: of what it writes never more than one message is held, and one that is too long is passed
over and its call answered with an error; the process and its children end with the block.
Source: Model Context Protocol, "Transports: stdio" and "Lifecycle: Shutdown". The SDK's own
transport keeps lines of any length.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp import types
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

EXIT_S = 2.0
CHUNK_BYTES = 1 << 16
# So many lines in a row that are no messages, and the other side is no server.
GARBAGE_MAX = 1_000
_HEAD_BYTES = 4_096
# The id of an answer, where nothing nested stands before it.
_ID = re.compile(rb'^[^{]*\{[^{}]*?"id"\s*:\s*(\d{1,18}|"[^"\\]{1,200}")')

Streams = tuple[Any, Any]


@asynccontextmanager
async def stdio_transport(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    limit_bytes: int,
    over: Callable[[str], None],
) -> AsyncGenerator[Streams, None]:
    """Start a server, and end it with the block.

    Args:
        command: The program and its arguments.
        env: What it is told of the environment, besides what is safe to tell any program.
        cwd: Where it works.
        limit_bytes: Of one message.
        over: Told why, when nothing more will come.

    Raises:
        OSError: It cannot be started.
    """
    process = await _started(command, env, cwd)
    # No awaits until the task group is there: a cancelled start would leave the process behind.
    incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    lines = Lines(incoming.send, limit_bytes)

    async def listen() -> None:
        assert process.stdout is not None  # noqa: S101  it was asked for
        why = "its process ended"
        async with incoming:
            try:
                while why and (chunk := await process.stdout.read(CHUNK_BYTES)):
                    why = await lines.take(chunk) or why
                    if lines.broken:
                        break
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                return  # nobody listens any more
            finally:
                over(why)

    async def speak() -> None:
        assert process.stdin is not None  # noqa: S101  it was asked for
        try:
            async with outgoing:
                async for message in outgoing:
                    text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    process.stdin.write(f"{text}\n".encode())
                    await process.stdin.drain()
        except (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError):
            await incoming.aclose()
            over("its process takes nothing more")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        tasks.start_soon(speak)
        try:
            yield read, write
        finally:
            with anyio.CancelScope(shield=True):
                read.close()
                write.close()
                await _end(process)
            tasks.cancel_scope.cancel()


class Lines:
    """Takes bytes, and hands on the messages that their lines are.

    Attributes:
        broken: Whether nothing more can be made of what comes.
    """

    def __init__(self, send: Callable[[SessionMessage | Exception], Any], limit_bytes: int) -> None:
        self._send, self._limit = send, limit_bytes
        self._held = bytearray()
        self._passing_over = False
        self._garbage = 0
        self.broken = False

    @property
    def held_bytes(self) -> int:
        """How much of a message is held."""
        return len(self._held)

    async def take(self, chunk: bytes) -> str:
        """Take the next bytes; return why nothing can be made of what comes, or nothing."""
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            if self._passing_over:
                self._passing_over = False
                continue
            self._held += end
            line = bytes(self._held)
            self._held.clear()
            await self._line(line)
            if self._garbage > GARBAGE_MAX:
                self.broken = True
                return f"it sent {GARBAGE_MAX:,} lines that are no messages"
        if not self._passing_over:
            self._held += rest
            if len(self._held) > self._limit:
                await self._pass_over()
        return ""

    async def _line(self, line: bytes) -> None:
        if len(line) > self._limit:
            self._held += line
            await self._pass_over()
            self._passing_over = False
            return
        if not line.strip():
            return
        try:
            message = jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            self._garbage += 1
            if b'"method"' not in line[:_HEAD_BYTES]:
                await self._tell(line, "cannot be read")
            return
        self._garbage = 0
        await self._send(SessionMessage(message))

    async def _pass_over(self) -> None:
        """Read no more of a message, and tell its call."""
        head = bytes(self._held[:_HEAD_BYTES])
        self._held.clear()
        self._passing_over = True
        await self._tell(head, f"has more than {self._limit:,} bytes, and was not read")

    async def _tell(self, line: bytes, what: str) -> None:
        """Tell the call that a line answers what is wrong with it."""
        found = _ID.match(line[:_HEAD_BYTES])
        if found is None:
            return  # it answers none; or one that its own time limit will end
        text = found[1].decode(errors="replace")
        told = types.ErrorData(code=types.PARSE_ERROR, message=f"Its answer {what}.")
        number: int | str = text.strip('"') if text.startswith('"') else int(text)
        await self._send(SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=number, error=told)))


async def _started(
    command: Sequence[str], env: Mapping[str, str] | None, cwd: str | Path | None
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=sys.stderr if _has_number(sys.stderr) else asyncio.subprocess.DEVNULL,
        env={**get_default_environment(), **(env or {})},
        cwd=cwd,
        start_new_session=True,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process as the protocol asks: its input first, then words, then force."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    for sign in (None, signal.SIGTERM, signal.SIGKILL):
        if sign is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, sign)
        if await _exited(process):
            break
    # Children of it may live on; and a pipe that they hold open would never end.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


async def _exited(process: asyncio.subprocess.Process) -> bool:
    # `wait` would also wait for the end of pipes that children may hold.
    deadline_s = asyncio.get_running_loop().time() + EXIT_S
    while process.returncode is None:
        if asyncio.get_running_loop().time() > deadline_s:
            return False
        await asyncio.sleep(0.01)
    return True


def _has_number(stream: Any) -> bool:
    try:
        stream.fileno()
    except (OSError, ValueError, AttributeError):
        return False
    return True

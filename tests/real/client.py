"""A client of a world process, and the reference that its digest is compared with.

Keeps: nothing is ever sent twice. A connection that breaks after a request went out
is a `WorldGoneError`, and whoever called decides what that means; the next request
opens a new connection.
Leaves to others: retries, and starting the world (`world.start_world`).

    reference = direct_run("banking", "user_task_3")
    async with World(port) as world:
        await world.reset("banking", "user_task_3")
        for n, (name, arguments) in enumerate(task.calls):
            await world.call(name, arguments, key=f"step-{n}")
        assert await world.digest() == reference
        assert all(entry.applied for entry in await world.log())

A tool of the library under test is then no more than:

    async def send_money(recipient: str, amount: float, …, *, key: IdempotencyKey):
        return await world.call("send_money", {…}, key=str(key))

A client belongs to the event loop that first used it. It does not import the benchmark
until `direct_run` is called, so a process that only talks to a world starts fast.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from .dojo import Digest, Json, load_suite
from .world import HOST, LINE_LIMIT_BYTES, Entry


class ToolRaisedError(Exception):
    """The tool, or the world, answered with an error; nothing was changed.

    Attributes:
        kind: Name of the exception in the world's process.
        text: Its text.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind, self.text = kind, text

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class WorldGoneError(ConnectionError):
    """The connection ended before the answer; the call may or may not be applied."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the world knows of an idempotency key.

    Attributes:
        times: How often a call with it was applied; 0 if never, above 1 if repeated.
        result: What the first of them returned.
    """

    times: int
    result: Json


@dataclass(frozen=True, slots=True)
class Clients:
    """Who is connected to a world.

    Attributes:
        connected: All connections.
        held: Those whose call is being held.
    """

    connected: int
    held: int


class World:
    """A few connections to one world process; calls may be concurrent."""

    def __init__(self, port: int, *, connections_max: int = 8, timeout_s: float = 30.0) -> None:
        self.port = port
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(connections_max)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; a later request opens new ones."""
        while self._idle:
            _, out = self._idle.pop()
            out.close()
            with contextlib.suppress(OSError):
                await out.wait_closed()

    async def call(
        self,
        tool: str,
        args: Mapping[str, Json],
        key: str | None = None,
        step: Json = None,
    ) -> Json:
        """Call a tool and return its result.

        Raises:
            ToolRaisedError: The tool failed, and nothing was changed.
            WorldGoneError: The connection ended before the answer.
            TimeoutError: No answer in time; the call may yet be applied.
        """
        return await self._ask(
            {"op": "call", "tool": tool, "args": dict(args), "key": key, "step": step}
        )

    async def digest(self) -> Digest:
        """Return the digest of the world's environment."""
        return Digest(**await self._ask({"op": "digest"}))

    async def log(self) -> list[Entry]:
        """Return every call since the last reset, in order of application."""
        return [Entry(**entry) for entry in await self._ask({"op": "log"})]

    async def reset(self, suite: str, task: str | None = None) -> None:
        """Give the world a fresh environment, an empty log and no delay."""
        await self._ask({"op": "reset", "suite": suite, "task": task})

    async def seen(self, key: str) -> Seen:
        """Ask whether a call with this idempotency key was applied."""
        return Seen(**await self._ask({"op": "seen", "key": key}))

    async def delay(self, ms: float, *, at: str = "answer") -> None:
        """Hold every later call: before it is applied, or before it is answered."""
        await self._ask({"op": "delay", "ms": ms, "at": at})

    async def clients(self) -> Clients:
        """Return how many connections the world has, this one included."""
        return Clients(**await self._ask({"op": "clients"}))

    async def _ask(self, request: Json) -> Json:
        async with asyncio.timeout(self._timeout_s), self._slots:
            reader, out = await self._connection()
            try:
                out.write(json.dumps(request).encode() + b"\n")
                await out.drain()
                answer = await reader.readuntil()
            except BaseException as error:
                # Whatever happened, an answer may be on its way, and it must not be
                # taken for the answer to the next request.
                out.transport.abort()
                if isinstance(error, OSError | asyncio.IncompleteReadError):
                    raise WorldGoneError(str(error)) from error
                raise
            self._idle.append((reader, out))
        said = json.loads(answer)
        if "error" in said:
            raise ToolRaisedError(said["type"], said["error"])
        return said["ok"]

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, out = self._idle.pop()
            if not (reader.at_eof() or out.is_closing()):
                return reader, out
            out.close()
        return await asyncio.open_connection(HOST, self.port, limit=LINE_LIMIT_BYTES)


def direct_run(suite: str, task: str) -> Digest:
    """Apply a task's ground truth in this process, and return the digest."""
    loaded = load_suite(suite)
    stage = loaded.stage(task)
    for name, arguments in loaded.tasks[task].calls:
        stage.call(name, arguments)
    return stage.digest()

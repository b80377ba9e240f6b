"""A service on loopback that fails in every way in which a real one does.

Keeps: it speaks HTTP in raw bytes, so there is nothing that it cannot do wrong; what it was
asked and what it did is written down, request by request; a write with a key that it has seen
is not done again.
Leaves to `asking`: how to call it. To the test: what must have come of it.

    async with Faulty() as service:
        service.does(reset_late, times=1)
        ...
        assert [seen.fault for seen in service.seen] == ["reset_late", "well"]
        assert service.doubled == []

A fault is a function of an `Exchange`: it may read the rest of the request, do the write, and
answer, or not. `GET /done/ID` is never at fault, and says whether write ID was done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from types import MappingProxyType
from typing import Any, Final, Self, TypeAlias

HOST: Final = "127.0.0.1"
DRIBBLE_S: Final = 0.01
# What the model says, word by word.
WORDS: Final = ("It ", "is ", "done.")
_REASONS: Final = MappingProxyType({200: "OK", 429: "Too Many Requests", 503: "Unavailable"})
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(slots=True)
class Seen:
    """One request, as the service met it.

    Attributes:
        write: Id of the effect that was asked for; empty for a read.
        key: Under which it was asked for; empty without one.
        fault: Name of what the service did.
        at_s: When its head had been read, in seconds of the loop.
        answered_s: When it had answered as far as it would; None: never.
        did: Whether it did the write, now and not before.
    """

    method: str
    path: str
    write: str
    key: str
    fault: str
    at_s: float
    answered_s: float | None = None
    did: bool = False


class Exchange:
    """One request, and the connection on which it came."""

    def __init__(
        self,
        service: Faulty,
        seen: Seen,
        body: bytes,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.service, self.seen, self.body = service, seen, body
        self.reader, self.writer = streams

    def do(self) -> None:
        """Do the write that is asked for, unless it was done under its key."""
        seen, service = self.seen, self.service
        if seen.write and (not seen.key or seen.key not in service.keys):
            service.keys.add(seen.key)
            service.done[seen.write] += 1
            seen.did = True

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(
        self, status: int = 200, body: Any = None, headers: Mapping[str, str] = _NOTHING
    ) -> None:
        """Answer as a service should."""
        data = json.dumps({"value": "well"} if body is None else body).encode()
        await self.send(head(status, {"Content-Length": str(len(data)), **headers}) + data)

    async def gone(self) -> None:
        """Wait until the client has given up."""
        with contextlib.suppress(ConnectionError):
            await self.reader.read()

    def reset(self) -> None:
        """End the connection with a reset instead of a farewell."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault: TypeAlias = Callable[[Exchange], Awaitable[None]]


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Return the head of an answer; nothing else is sent on its connection."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'As It Is')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode()


@dataclass(slots=True)
class Faulty:
    """The service; each connection carries one request.

    Attributes:
        seen: Every request but those for `/done/`, oldest first.
        done: How often each write was done, by its id.
        keys: Under which writes were done.
        open: Connections that are open now.
        asked: How often somebody asked whether a write was done.
    mute: Whether that, too, is left without an answer.
        mute: Whether that, too, is left without an answer.
    """

    seen: list[Seen] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    open: int = 0
    asked: int = 0
    mute: bool = False
    port: int = 0
    _plan: list[tuple[Fault, int | None]] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _held: socket.socket | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        """Begin to listen, on a port of its own."""
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of everything."""
        await self._close()
        if self._held is not None:
            self._held.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def listen(self) -> None:
        """Take connections, on the same port as before."""
        if self._server is None:
            raw, self._held = self._held or _bound(self.port), None
            self.port = raw.getsockname()[1]
            self._server = await asyncio.start_server(self._connected, sock=raw)

    async def refuse(self) -> None:
        """Refuse connections, and keep the port, so that nobody else listens there."""
        await self._close()
        self._held = self._held or _bound(self.port)

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    # ------------------------------------------------------------------ what it does

    def does(self, *faults: Fault, times: int | None = 1) -> None:
        """Do these, one after another, each so often; None: from then on for ever."""
        self._plan = [(fault, times) for fault in faults]

    @property
    def doubled(self) -> list[str]:
        """Writes that were done more than once."""
        return [write for write, times in self.done.items() if times > 1]

    @property
    def posts(self) -> list[Seen]:
        """Requests for a write."""
        return [seen for seen in self.seen if seen.write]

    def _next(self) -> Fault:
        while self._plan:
            fault, times = self._plan[0]
            if times is None:
                return fault
            if times > 0:
                self._plan[0] = (fault, times - 1)
                return fault
            del self._plan[0]
        return well

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.open += 1
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client gave up: that is what this is about
        except asyncio.CancelledError:
            pass  # the test is over; Python 3.11 would complain of a task that was cancelled
        finally:
            self.open -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = await reader.readuntil(b"\r\n\r\n")
        first, *rest = raw.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = dict(line.lower().split(": ", 1) for line in rest if line)
        if path.startswith("/done/"):
            self.asked += 1
            nobody = Seen(method, path, "", "", "well", 0.0)
            exchange = Exchange(self, nobody, b"", (reader, writer))
            if self.mute:
                await exchange.gone()
                return
            await exchange.answer(body={"done": self.done[path.removeprefix("/done/")] > 0})
            return
        fault, now_s = self._next(), asyncio.get_running_loop().time
        write, key = headers.get("x-write", ""), headers.get("idempotency-key", "")
        seen = Seen(method, path, write, key, fault.__name__, now_s())
        self.seen.append(seen)
        body = b""
        if fault is not reset_early:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        await fault(Exchange(self, seen, body, (reader, writer)))
        seen.answered_s = now_s()


def _bound(port: int) -> socket.socket:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    raw.bind((HOST, port))
    return raw


# ---------------------------------------------------------------------- well


async def well(to: Exchange) -> None:
    """Do what is asked for, and say so."""
    to.do()
    if to.seen.path == "/stream":
        await to.send(head(200, {"Content-Type": "text/event-stream"}) + events(*WORDS) + END)
    else:
        await to.answer(body={"value": "".join(WORDS) if to.seen.path == "/ask" else "well"})


END: Final = b"data: [DONE]\n\n"


def events(*words: str) -> bytes:
    """Return words as the events of a stream."""
    return b"".join(b"data: %s\n\n" % json.dumps({"word": word}).encode() for word in words)


def slow(took_s: float) -> Fault:
    """Return what does all that is asked for, but not at once."""

    async def slow(to: Exchange) -> None:
        await asyncio.sleep(took_s)
        await well(to)

    return slow


def together(count: int) -> Fault:
    """Return what answers once so many have asked, and nobody before."""
    barrier = asyncio.Barrier(count)

    async def together(to: Exchange) -> None:
        await barrier.wait()
        await well(to)

    return together


# ---------------------------------------------------------------------- connections


async def reset_early(to: Exchange) -> None:
    """Reset the connection in the middle of the request; nothing is done."""
    to.reset()


async def reset_late(to: Exchange) -> None:
    """Do it, and reset the connection in the middle of the answer."""
    to.do()
    await to.send(head(200, {"Content-Length": "100"}) + b'{"val')
    to.reset()


async def hang_up(to: Exchange) -> None:
    """Do it, and close the connection without a word."""
    to.do()


async def hang(to: Exchange) -> None:
    """Take the request, and do and say nothing any more."""
    await to.gone()


async def too_late(to: Exchange) -> None:
    """Do it once the client has given up, and answer nobody."""
    await to.gone()
    to.do()
    await to.answer()


async def dribble_head(to: Exchange) -> None:
    """Do it, and answer with headers that never come to their end."""
    to.do()
    await to.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await to.send(b"X-Wait: a while\r\n")
        await asyncio.sleep(DRIBBLE_S)


async def dribble_body(to: Exchange) -> None:
    """Do it, and answer with a body that never comes to its end, byte by byte."""
    to.do()
    kind = "text/event-stream" if to.seen.path == "/stream" else "application/json"
    await to.send(head(200, {"Content-Type": kind, "Content-Length": "1000000000"}))
    while True:
        await to.send(b" ")
        await asyncio.sleep(DRIBBLE_S)


# ---------------------------------------------------------------------- answers that are none


async def cut_length(to: Exchange) -> None:
    """Do it, and promise a longer body than is sent."""
    to.do()
    await to.send(head(200, {"Content-Length": "100"}) + b'{"value": "we')


async def cut_chunks(to: Exchange) -> None:
    """Do it, and leave the last chunk of the body out."""
    to.do()
    data = events(*WORDS[:2]) if to.seen.path == "/stream" else b'{"value": "we'
    await to.send(head(200, {"Transfer-Encoding": "chunked"}) + b"%x\r\n%s\r\n" % (len(data), data))


async def cut_stream(to: Exchange) -> None:
    """Do it, and end a stream before its end, as though all were well."""
    to.do()
    await to.send(head(200, {"Content-Type": "text/event-stream"}) + events(*WORDS[:2]))


async def garbage(to: Exchange) -> None:
    """Do it, and answer with what is no HTTP."""
    to.do()
    await to.send(b"\x00\xff NOT HTTP AT ALL\r\n\r\n")


async def no_json(to: Exchange) -> None:
    """Do it, and answer with a page for people."""
    to.do()
    data = b"<html><body>Welcome to the proxy</body></html>"
    await to.send(head(200, {"Content-Length": str(len(data)), "Content-Type": "text/html"}) + data)


# ---------------------------------------------------------------------- answers that say no

OPENAI_ERROR: Final = MappingProxyType(
    {
        "message": "The server had an error while processing your request.",
        "type": "server_error",
        "param": None,
        "code": None,
    }
)
ANTHROPIC_ERROR: Final = MappingProxyType({"type": "overloaded_error", "message": "Overloaded"})
QUOTA_ERROR: Final = MappingProxyType(
    {
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
    }
)


def status(number: int, headers: Mapping[str, str] = _NOTHING, error: Any = None) -> Fault:
    """Return what answers with a status, and does nothing."""

    async def fault(to: Exchange) -> None:
        body = {"error": dict(error)} if error is not None else {"detail": "no"}
        await to.answer(number, body, headers)

    fault.__name__ = f"status_{number}"
    return fault


def in_seconds(hint_s: float) -> dict[str, str]:
    """Return the headers of a service that wants to be left alone for a while, in seconds."""
    return {"Retry-After": f"{hint_s:g}"}


def in_milliseconds(hint_s: float) -> dict[str, str]:
    """Return the same in milliseconds, as OpenAI says it."""
    return {"Retry-After-Ms": f"{hint_s * 1000:g}"}


def as_date(hint_s: float) -> dict[str, str]:
    """Return the same as a date, by the clock of a service that lives in another year."""
    now = 1_000_000_000.0
    return {"Date": formatdate(now, usegmt=True), "Retry-After": formatdate(now + hint_s)}


async def broke_after(to: Exchange) -> None:
    """Do it, and answer 500."""
    to.do()
    await to.answer(500, {"error": dict(OPENAI_ERROR)})


async def openai_error(to: Exchange) -> None:
    """Answer 200, and in the body that it failed."""
    await to.answer(200, {"error": dict(OPENAI_ERROR)})


async def anthropic_error(to: Exchange) -> None:
    """Answer 200, and in the body that it is too much."""
    await to.answer(200, {"type": "error", "error": dict(ANTHROPIC_ERROR)})


async def openai_event(to: Exchange) -> None:
    """Begin to answer, and break off with an error in the stream."""
    said = json.dumps({"error": dict(OPENAI_ERROR)}).encode()
    await to.send(head(200, {"Content-Type": "text/event-stream"}) + events(WORDS[0]))
    await to.send(b"data: %s\n\n" % said)


async def anthropic_event(to: Exchange) -> None:
    """Begin to answer, and break off with an error in the stream, as an event of its own."""
    said = json.dumps({"type": "error", "error": dict(ANTHROPIC_ERROR)}).encode()
    await to.send(head(200, {"Content-Type": "text/event-stream"}) + events(WORDS[0]))
    await to.send(b"event: error\ndata: %s\n\n" % said)

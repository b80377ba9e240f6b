"""A scripted provider of models: a real HTTP server on loopback that speaks three protocols.

OpenAI's chat completions and Responses and Anthropic's Messages, each whole or streamed. A script
is a list of answers, or a function of the request, so that a "model" can be plain rules over the
conversation it is shown. Faults stand where answers do. What was received is kept, byte for byte.

The package `llmock` is near, but its answers cannot depend on what a request says or come from a
script per conversation, it cannot hang until it is released or close before the first byte, and it
needs FastAPI in every environment; this needs the standard library only.

    def model(request: Request) -> Reply:
        if not request.fresh:
            return Answer(calls=[Call("withdraw", {"sum": 30}), Call("withdraw", {"sum": 50})])
        return Answer(text="; ".join(result.text for result in request.fresh))

    with Provider(model) as provider:
        client = OpenAI(base_url=provider.url + "/v1", api_key="none")

Anthropic's client takes `provider.url` itself. The server has a thread and a loop of its own, so
sync and async programs may use it; scripts are called in that thread, one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from http import HTTPStatus
from typing import Any, Self

from tests.provider_script import (
    PATHS,
    Answer,
    Call,
    Close,
    Cut,
    Dialect,
    ErrorEvent,
    Garbage,
    Hang,
    Model,
    Reply,
    Request,
    Said,
    Script,
    Shown,
    Status,
    Usage,
    parsed,
)
from tests.provider_wire import encoded, error_body, error_event, events, whole

__all__ = [
    "Answer",
    "Call",
    "Close",
    "Cut",
    "ErrorEvent",
    "Garbage",
    "Hang",
    "Model",
    "Provider",
    "ProviderError",
    "Reply",
    "Request",
    "Said",
    "Script",
    "Shown",
    "Status",
    "Usage",
]

HEAD_BYTES = 64 * 1024
BODY_BYTES = 64 * 1024 * 1024
NO_RETRY = {"x-should-retry": "false"}


class ProviderError(AssertionError):
    """Something was asked of the provider that its script does not have."""


class _ClosedError(Exception):
    """The connection is to be closed as it stands."""


class Provider:
    """A server that answers by a script, from `with` until its end.

    Args:
        script: Answers in their order, or a function of the request; or such a script for each
            conversation, by its key.
        conversation: The key of the conversation that a request belongs to. A list of answers
            begins anew for each.
        requests_max: How many requests are taken; more get a status of 400, which no client
            retries, and are a problem.
        deadline_s: Seconds after which nothing is answered any more and what hangs is let go.
        piece_chars: How much text an event of a stream carries at most.
        strict: Whether leaving `with` raises what went wrong (`problems`).

    Attributes:
        requests: As they came, those that were answered with a fault too.
        problems: What was asked that could not be answered.
        url: The address, without a path.

    Raises:
        ProviderError: On leaving, if there were problems and the provider is strict.
    """

    def __init__(  # noqa: PLR0913  each has a default that will do
        self,
        script: Script | Mapping[Any, Script],
        *,
        conversation: Callable[[Request], Hashable] | None = None,
        requests_max: int = 1_000,
        deadline_s: float = 60.0,
        piece_chars: int = 16,
        strict: bool = True,
    ) -> None:
        self.requests: list[Request] = []
        self.problems: list[str] = []
        self.url = ""
        self._script = script
        self._conversation = conversation
        self._requests_max = requests_max
        self._deadline_s = deadline_s
        self._piece_chars = piece_chars
        self._strict = strict
        self._said: dict[Hashable, int] = {}
        self._begun_s = time.monotonic()
        self._news = threading.Condition()
        self._listening = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="provider", daemon=True)

    # -------------------------------------------------------------- what a test does

    def __enter__(self) -> Self:
        """Listen on a free port."""
        self._thread.start()
        self._listening.wait()
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Close everything, and say what went wrong."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        if self._failed is not None and kind is None:
            raise self._failed
        if self.problems and self._strict and kind is None:
            raise ProviderError("; ".join(self.problems))

    def release(self) -> None:
        """Let go of all that hangs, now and later."""
        self._loop.call_soon_threadsafe(self._released.set)

    def wait(self, count: int, *, timeout_s: float = 30.0) -> None:
        """Wait until so many requests have come; what they are answered may be still on its way.

        Raises:
            ProviderError: They did not come in time.
        """
        with self._news:
            if not self._news.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise ProviderError(f"{len(self.requests)} requests came, not {count}")

    # -------------------------------------------------------------- its thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  raised again where the test is
            self._failed = error
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over, self._released = asyncio.Event(), asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=HEAD_BYTES)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._begun_s = time.monotonic()
        self._listening.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), self._deadline_s)
        self._released.set()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        # The address stays until `with` ends, so that a late request is refused, not misled.
        await self._over.wait()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._converse(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = (ConnectionError, asyncio.IncompleteReadError, _ClosedError)
        try:
            while await self._exchange(reader, _Wire(writer)):
                pass
        except gone:
            writer.transport.abort()
        finally:
            writer.close()
            with contextlib.suppress(*gone):
                await writer.wait_closed()

    # -------------------------------------------------------------- one request

    async def _exchange(self, reader: asyncio.StreamReader, wire: _Wire) -> bool:
        """Take one request and answer it; False when the client has gone."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.LimitOverrunError:
            await wire.json(431, {}, {})
            return False
        line, *lines = head.split("\r\n")
        method, target, _ = line.split(" ", 2)
        pairs = (line.split(":", 1) for line in lines if line)
        headers = {name.lower(): value.strip() for name, value in pairs}
        size = int(headers.get("content-length", 0))
        if size > BODY_BYTES or "transfer-encoding" in headers:
            await wire.json(413, {}, {})
            return False
        raw = await reader.readexactly(size)
        path = target.partition("?")[0]
        dialect = PATHS.get(path)
        if dialect is None or method != "POST":
            self.problems.append(f"{method} {path} is not spoken here")
            body = error_body("chat", 404, self.problems[-1])
            await wire.json(404, body, NO_RETRY)
            return True
        request = self._received(path, dialect, headers, raw)
        await self._answer(request, wire)
        request.forget()
        return True

    def _received(
        self, path: str, dialect: Dialect, headers: dict[str, str], raw: bytes
    ) -> Request:
        if parsed(raw) is None:
            self.problems.append(f"the body of request {len(self.requests)} is no JSON object")
        request = Request(
            number=len(self.requests),
            path=path,
            dialect=dialect,
            headers=headers,
            raw=raw,
            at_s=time.monotonic() - self._begun_s,
        )
        with self._news:
            self.requests.append(request)
            self._news.notify_all()
        return request

    async def _answer(self, request: Request, wire: _Wire) -> None:
        try:
            reply = self._replied(request)
        except Exception as error:  # noqa: BLE001  a script is a test's own code
            said = f"request {request.number}: {error!r}"
            self.problems.append(said)
            await wire.json(400, error_body(request.dialect, 400, said), NO_RETRY)
            return
        await self._send(reply, request, wire)

    def _replied(self, request: Request) -> Reply:
        if request.number >= self._requests_max:
            raise ProviderError(f"more than {self._requests_max} requests came")
        key = None if self._conversation is None else self._conversation(request)
        script = self._script[key] if isinstance(self._script, Mapping) else self._script
        if callable(script):
            return script(request)
        at = self._said.get(key, 0)
        if at >= len(script):
            raise ProviderError(f"the script has {len(script)} answers and no more")
        self._said[key] = at + 1
        return script[at]

    async def _send(self, reply: Reply, request: Request, wire: _Wire) -> None:
        match reply:
            case Close():
                raise _ClosedError
            case Status(status=status, headers=headers, body=None):
                await wire.json(
                    status, error_body(request.dialect, status, phrase(status)), headers
                )
            case Status(status=status, headers=headers, body=bytes() as body):
                await wire.whole(status, body, headers)
            case Hang() if not request.stream or not reply.events:
                await self._released.wait()
                if reply.answer is None:
                    raise _ClosedError
                await self._send(reply.answer, request, wire)
            case ErrorEvent() if not request.stream:
                await self._send(Status(status=500), request, wire)
            case Garbage() if not request.stream:
                await wire.whole(200, reply.data, {})
            case Cut() if not request.stream:
                body = json.dumps(whole(reply.answer, request)).encode()
                await wire.whole(200, body, {}, sent=len(body) // 2)
                raise _ClosedError
            case Answer() if not request.stream:
                await wire.json(200, whole(reply, request), {})
            case _:
                await self._stream(reply, request, wire)

    async def _stream(self, reply: Reply, request: Request, wire: _Wire) -> None:
        answer = reply if isinstance(reply, Answer) else getattr(reply, "answer", None)
        said = list(events(answer or Answer(text=""), request, self._piece_chars))
        count = len(said) if isinstance(reply, Answer) else getattr(reply, "events", 0)
        await wire.begin_stream()
        for event in said[:count]:
            await wire.chunk(encoded(event))
        match reply:
            case Cut(clean=False):
                raise _ClosedError
            case ErrorEvent():
                await wire.chunk(encoded(error_event(request.dialect, reply.body)))
            case Garbage():
                name = said[min(count, len(said) - 1)][0]
                head = f"event: {name}\n".encode() if name else b""
                await wire.chunk(head + b"data: " + reply.data + b"\n\n")
            case Hang():
                await self._released.wait()
                if reply.answer is None:
                    raise _ClosedError
                for event in said[count:]:
                    await wire.chunk(encoded(event))
            case _:
                pass
        await wire.end_stream()


def phrase(status: int) -> str:
    """Return what HTTP calls a status; 529, which it does not know, is an overloaded model's."""
    return HTTPStatus(status).phrase if status in _KNOWN else "Overloaded"


_KNOWN = frozenset(HTTPStatus)


class _Wire:
    """One connection, as HTTP has it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def json(self, status: int, body: object, headers: Mapping[str, str]) -> None:
        await self.whole(status, json.dumps(body, ensure_ascii=False).encode(), headers)

    async def whole(
        self, status: int, body: bytes, headers: Mapping[str, str], *, sent: int | None = None
    ) -> None:
        """Send a body; only its first `sent` bytes, if given, whatever its length says."""
        self._head(status, {"content-length": str(len(body)), **headers}, "application/json")
        self._writer.write(body[:sent])
        await self._writer.drain()

    async def begin_stream(self) -> None:
        self._head(200, {"transfer-encoding": "chunked"}, "text/event-stream; charset=utf-8")
        await self._writer.drain()

    async def chunk(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()

    async def end_stream(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def _head(self, status: int, headers: Mapping[str, str], kind: str) -> None:
        lines = [f"HTTP/1.1 {status} {phrase(status)}", *(f"{k}: {v}" for k, v in headers.items())]
        if "content-type" not in {name.lower() for name in headers}:
            lines.append(f"content-type: {kind}")
        lines += ["request-id: req_scripted", "x-request-id: req_scripted"]
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

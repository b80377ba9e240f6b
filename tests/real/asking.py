"""Clients of a faulty service, as people write them, and tools and a model made of them.

Keeps: a client never tries again by itself, but for `Sdk`, which does so as the client
libraries of providers do; what it raises is what such a client raises; whoever is cancelled
leaves no connection behind.
Leaves to `faulty`: what goes wrong.

    client = Plain(service.port, [uc.wire_attempt])
    await client.send("POST", "/write", write="w1", key=key)
"""

from __future__ import annotations

import asyncio
import importlib
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from http.client import BadStatusLine, RemoteDisconnected
from typing import Any, Final, Protocol, TypeAlias

import undercroft as uc
from undercroft.engine.tool import Tool

from .faulty import HOST

Json: TypeAlias = Any
Hook: TypeAlias = Callable[[Any], Awaitable[None]]
# Attempts of a client that tries again by itself, the first included.
SDK_TRIES: Final = 3
_BODY: Final = b'{"please": true}'


class Client(Protocol):
    """Asks the service; each call is one request."""

    async def send(self, method: str, path: str, *, write: str = "", key: str = "") -> Json:
        """Return the answer; raises if there is none, or it says no."""

    def lines(self, path: str) -> AsyncGenerator[str, None]:
        """Yield an answer line by line, as it comes."""

    async def close(self) -> None:
        """Let go of connections."""


class StatusError(Exception):
    """The service answered with a status that says no.

    Attributes:
        status: Of HTTP.
        headers: By name, in lower case.
        body: As it came.
    """

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(status, headers, body)
        self.status, self.headers, self.body = status, headers, body

    def __str__(self) -> str:
        return f"the service answered {self.status}"


@dataclass(frozen=True, slots=True)
class Request:
    """What a hook is told of a request."""

    method: str
    url: str


def _headers(write: str, key: str) -> dict[str, str]:
    headers = {"Idempotency-Key": key} if key else {}
    return headers | ({"X-Write": write} if write else {})


class Plain:
    """A client of nothing but the standard library."""

    def __init__(
        self, port: int, hooks: Sequence[Hook] = (), timeout_s: float | None = None
    ) -> None:
        self._port, self._hooks, self._timeout_s = port, hooks, timeout_s

    async def send(self, method: str, path: str, *, write: str = "", key: str = "") -> Json:
        """Return the answer, as data."""
        async with (
            asyncio.timeout(self._timeout_s),
            self._sent(method, path, _headers(write, key)) as (reader, headers),
        ):
            return json.loads(await _body(reader, headers))

    async def lines(self, path: str) -> AsyncGenerator[str, None]:
        """Yield an answer line by line."""
        async with self._sent("POST", path, {}) as (reader, headers):
            rest = b""
            async for piece in _pieces(reader, headers):
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    yield line.decode()
            if rest:
                yield rest.decode()

    async def close(self) -> None:
        """Nothing is kept open."""

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, headers: dict[str, str]
    ) -> AsyncIterator[tuple[asyncio.StreamReader, dict[str, str]]]:
        """Send a request, and read the head of the answer."""
        for hook in self._hooks:
            await hook(Request(method, f"http://{HOST}:{self._port}{path}"))
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(_BODY)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join([*lines, "", ""]).encode() + _BODY)
            await writer.drain()
            status, found = await _head(reader)
            if status >= 400:
                raise StatusError(status, found, await _body(reader, found))
            yield reader, found
        finally:
            # Whatever is still on its way, in either direction, is of no interest any more.
            writer.transport.abort()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first = await reader.readline()
    if not first:
        raise RemoteDisconnected("the service hung up without an answer")
    if not first.startswith(b"HTTP/1."):
        raise BadStatusLine(repr(first))
    headers = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode().partition(": ")
        headers[name.lower()] = value
    return int(first.split()[1]), headers


async def _pieces(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """Yield a body as it comes.

    Raises:
        asyncio.IncompleteReadError: It ended before its end.
    """
    if headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        return
    left = int(headers.get("content-length", "-1"))
    while left and (piece := await reader.read(65536 if left < 0 else left)):
        left -= len(piece) if left > 0 else 0
        yield piece
    if left > 0:
        raise asyncio.IncompleteReadError(b"", left)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    return b"".join([piece async for piece in _pieces(reader, headers)])


@cache
def _nobody_trusted() -> ssl.SSLContext:
    """Return what is quickly made: nothing here is encrypted."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Httpx:
    """The same with `httpx`, which must be installed."""

    def __init__(
        self, port: int, hooks: Sequence[Hook] = (), timeout_s: float | None = None
    ) -> None:
        httpx: Any = importlib.import_module("httpx")
        self._http = httpx.AsyncClient(
            base_url=f"http://{HOST}:{port}",
            timeout=timeout_s,
            trust_env=False,
            verify=_nobody_trusted(),
            event_hooks={"request": list(hooks)},
        )

    async def send(self, method: str, path: str, *, write: str = "", key: str = "") -> Json:
        """Return the answer, as data."""
        headers = _headers(write, key)
        answer = await self._http.request(method, path, content=_BODY, headers=headers)
        answer.raise_for_status()
        return answer.json()

    async def lines(self, path: str) -> AsyncGenerator[str, None]:
        """Yield an answer line by line."""
        async with self._http.stream("POST", path, content=_BODY) as answer:
            if answer.is_error:
                await answer.aread()
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                yield line

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()


class SdkError(Exception):
    """All that a client library says of the error that it gave up on."""


class Sdk:
    """A client that tries again by itself, after whatever error, and says so to nobody."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def send(self, method: str, path: str, *, write: str = "", key: str = "") -> Json:
        """Return the answer of the first attempt that is given one."""
        for attempt in range(1, SDK_TRIES + 1):
            try:
                return await self._client.send(method, path, write=write, key=key)
            except StatusError as error:
                final = error.status != 429 and error.status < 500
                if final or attempt == SDK_TRIES:
                    raise
            except Exception as error:
                if attempt == SDK_TRIES:
                    raise SdkError("Connection error.") from error
        raise AssertionError

    def lines(self, path: str) -> AsyncGenerator[str, None]:
        """Yield an answer line by line; this is tried once."""
        return self._client.lines(path)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()


# ---------------------------------------------------------------------- tools and a model


def tools(client: Client) -> list[Tool[..., Any]]:
    """Return one tool of each kind: a read, and writes with and without key and verify."""

    @uc.tool(reads="crm/{account}", service="crm")
    async def read(account: str) -> Json:
        """Read an account."""
        return await client.send("GET", f"/read/{account}")

    @uc.tool(writes="crm/{account}", service="crm", read_first=False)
    async def write(account: str) -> Json:
        """Change an account."""
        return await client.send("POST", "/write", write=account)

    @uc.tool(writes="crm/{account}", service="crm", read_first=False)
    async def keyed(account: str, key: uc.IdempotencyKey) -> Json:
        """Change an account, once under a key."""
        return await client.send("POST", "/write", write=account, key=key)

    async def was_done(account: str) -> bool:
        """Ask whether an account was changed."""
        answer = await client.send("GET", f"/done/{account}")
        return bool(answer["done"])

    @uc.tool(writes="crm/{account}", service="crm", read_first=False, verify=was_done)
    async def verified(account: str) -> Json:
        """Change an account, of which one can ask whether it was."""
        return await client.send("POST", "/write", write=account)

    return [read, write, keyed, verified]


class CutError(EOFError):
    """A stream ended before its end."""


class Model:
    """A model behind the service, asked for a stream of words or for a whole answer."""

    service = "llm"
    name = "teller"

    def __init__(self, client: Client, *, streams: bool = True) -> None:
        self._client, self._streams = client, streams

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:  # noqa: ARG002  it says the same to all
        """Return what it says.

        Raises:
            uc.ServiceError: It answered that it failed.
            CutError: It stopped in the middle.
        """
        if not self._streams:
            answer = _checked(await self._client.send("POST", "/ask"))
            return uc.Answer(answer["value"])
        words: list[str] = []
        async with aclosing(self._client.lines("/stream")) as lines:
            async for line in lines:
                # A service that fails may forget that it was asked for a stream.
                data = line if line.startswith("{") else line.partition("data: ")[2]
                if data == "[DONE]":
                    return uc.Answer("".join(words))
                if data:
                    words.append(_checked(json.loads(data))["word"])
        raise CutError("the stream ended before its end")


def _checked(answer: Json) -> Json:
    """Return an answer that is none of an error."""
    error = answer.get("error")
    if isinstance(error, dict):
        raise uc.ServiceError(Model.service, error["message"], None, error["type"])
    return answer

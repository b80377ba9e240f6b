"""A server that is spoken to by streamable HTTP.

Keeps: of an answer never more than the limit is held, packed or not.
Leaves to the SDK: the protocol; it bounds the events of a stream itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client.streamable_http import streamable_http_client

CONNECT_S = 30.0
# Our own limits end a call; this one ends what a server holds open although nobody asks.
SILENT_S = 3_600.0


class AnswerTooLongError(httpx2.StreamError):
    """A server answered with more than is taken in."""


class _Counted(httpx2.AsyncByteStream):
    """Bytes of an answer, up to a limit."""

    def __init__(self, inner: httpx2.AsyncByteStream, limit_bytes: int) -> None:
        self._inner, self._limit = inner, limit_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        taken = 0
        async for chunk in self._inner:
            taken += len(chunk)
            if taken > self._limit:
                raise AnswerTooLongError(
                    f"Its answer has more than {self._limit:,} bytes, and was not read."
                )
            yield chunk

    async def aclose(self) -> None:
        """Let go of it."""
        await self._inner.aclose()


class _Counting(httpx2.AsyncBaseTransport):
    """Hands on requests, and bounds what comes back."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, limit_bytes: int) -> None:
        self._inner, self._limit = inner, limit_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        response = await self._inner.handle_async_request(request)
        stream: Any = response.stream
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            # A few bytes may unpack to any number of them; and nobody asked for it.
            await stream.aclose()
            raise httpx2.DecodingError("The answer is packed, which was not asked for.")
        if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            return response
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Counted(stream, self._limit),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._inner.aclose()


@asynccontextmanager
async def http_transport(
    url: str, *, headers: Mapping[str, str] | None = None, limit_bytes: int
) -> AsyncGenerator[Any, None]:
    """Speak to the server at `url`.

    Args:
        url: Of its endpoint.
        headers: That are sent along, such as who is asking.
        limit_bytes: Of one answer.
    """
    counting = _Counting(httpx2.AsyncHTTPTransport(), limit_bytes)
    async with (
        httpx2.AsyncClient(
            transport=counting,
            headers={**(headers or {}), "accept-encoding": "identity"},
            timeout=httpx2.Timeout(CONNECT_S, read=SILENT_S),
        ) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=limit_bytes) as streams,
    ):
        yield streams

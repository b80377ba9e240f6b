"""A server that is kept at hand: started or reached when it is needed, and again once it is gone.

Keeps: what is under way when a server goes is never sent again by itself, for nobody knows whether
it happened; the next call finds a new server. A list of tools that changed is seen by the next
one who asks. All of the SDK's scopes are entered and left in one task of the server's own.
Leaves to the engine: deadlines, the breaker of the server, and whether anything is called again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mcp import Client, MCPError, types
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from undercroft.adapters.mcp.calling import call_tool
from undercroft.adapters.mcp.limits import LIMITS, McpLimits
from undercroft.adapters.mcp.listing import Terms, list_all, translate
from undercroft.adapters.mcp.results import read_result
from undercroft.adapters.mcp.stdio import stdio_transport
from undercroft.adapters.mcp.web import http_transport
from undercroft.errors import DeclarationError, DomainError
from undercroft.model.foreign import ForeignTool
from undercroft.ports import Guest, Host

CONNECT_S = 30.0
_NAMES_CHARS = 500
# The server is there, and knows nothing of us any more: it did not even look at the request.
_FORGOTTEN = "Session terminated"

# Opens the streams to a server; told why, when nothing more will come.
Opening = Callable[[Callable[[str], None]], AbstractAsyncContextManager[Any]]


class ServerUnreachableError(ConnectionRefusedError):
    """A server could not be started or reached, so nothing was asked of it.

    Attributes:
        service: Its name.
        problem: What is known of why.
    """

    def __init__(self, service: str, problem: str) -> None:
        super().__init__(service, problem)
        self.service, self.problem = service, problem

    def __str__(self) -> str:
        return f"MCP server {self.service!r} cannot be reached: {self.problem}"


def connect(  # noqa: PLR0913  each keyword is one setting
    server: str | Sequence[str],
    *,
    service: str,
    prefix: str = "",
    only: Collection[str] | None = None,
    timeout_s: float = 60.0,
    trust_hints: bool = True,
    media: bool = False,
    limits: McpLimits = LIMITS,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    headers: Mapping[str, str] | None = None,
    **callbacks: Any,
) -> Connection:
    """Return a server that is kept at hand, for an `async with` block.

    Args:
        server: The URL of one that speaks streamable HTTP; or the program and its arguments of
            one that speaks by its standard input and output.
        service: Its name: for its breaker, and in errors.
        prefix: What the names of its tools begin with here.
        only: The names that are taken, as the server has them; all if left out.
        timeout_s: Seconds that a call may take, where nothing else is declared.
        trust_hints: Whether it is believed that a tool changes nothing, or may be repeated.
        media: Whether the bytes of images and sounds are kept, as base64.
        limits: How much is taken in of what it sends.
        env: What a program is told of the environment, besides what is safe for any.
        cwd: Where a program works.
        headers: What is sent along to a URL, such as who asks.
        callbacks: Those of `mcp.Client` that answer what a server asks back, such as
            `elicitation_callback`; what none answers is declined.

    Raises:
        SettingError: A setting is outside its range.
        DeclarationError: It is neither a URL nor a program.
    """
    terms = Terms(
        service=service,
        prefix=prefix,
        only=only,
        timeout_s=timeout_s,
        trust_hints=trust_hints,
        media=media,
        limits=limits,
    )
    size = limits.message_bytes
    opening: Opening
    if isinstance(server, str):
        if not server.startswith(("http://", "https://")):
            raise DeclarationError(
                terms.place,
                f"{server!r:.200} is no URL",
                'Give http://…, or a program as a list: ["python", "server.py"].',
            )
        url = server

        def opening(_: Callable[[str], None]) -> AbstractAsyncContextManager[Any]:
            return http_transport(url, headers=headers, limit_bytes=size)

    else:
        command = [str(part) for part in server]
        if not command:
            raise DeclarationError(terms.place, "no program is named", "Name one, as a list.")

        def opening(over: Callable[[str], None]) -> AbstractAsyncContextManager[Any]:
            return stdio_transport(command, env=env, cwd=cwd, limit_bytes=size, over=over)

    return Connection(opening, terms, callbacks)


class _Life:
    """One life of a server: from its start until it is gone."""

    def __init__(self, opening: Opening, heard: Callable[[], None], callbacks: Any) -> None:
        self._opening, self._heard, self._callbacks = opening, heard, callbacks
        self._closing = asyncio.Event()
        self.ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        # Whoever waits for it asks; if nobody does, it is no news.
        self.ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.why = ""
        self.hears = False
        self._task = asyncio.get_running_loop().create_task(self._live())

    @property
    def over(self) -> bool:
        """Whether nothing can be asked of it any more."""
        return self._closing.is_set() or self._task.done()

    def end(self, why: str = "") -> None:
        """Let it go, without waiting."""
        self.why = self.why or why
        self._closing.set()

    async def ended(self) -> None:
        """Let it go, and wait until it is."""
        self.end()
        if not self.ready.done():
            self._task.cancel()
        await asyncio.wait({self._task})

    async def _live(self) -> None:
        listening: asyncio.Task[None] | None = None
        try:
            client = Client(
                self._opening(self.end),
                message_handler=self._hear,
                client_info=types.Implementation(name="undercroft", version=""),
                cache=None,
                **self._callbacks,
            )
            async with client:
                # A server whose list never changes, by its own word, need not be listened to.
                offered = client.server_capabilities.tools
                changes = offered is not None and bool(offered.list_changed)
                if changes and client.protocol_version in MODERN_PROTOCOL_VERSIONS:
                    listening = asyncio.get_running_loop().create_task(self._listen(client))
                else:
                    self.hears = True
                self.ready.set_result(client)
                await self._closing.wait()
        except asyncio.CancelledError:
            if not self.ready.done():
                self.ready.set_exception(ConnectionRefusedError("it took too long"))
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        except BaseException as error:  # noqa: BLE001  of whatever kind, it is why the server is gone
            self.why = self.why or _first(error)
            if not self.ready.done():
                self.ready.set_exception(error)
        finally:
            self._closing.set()
            if listening is not None:
                listening.cancel()

    async def _hear(self, message: types.ServerNotification | Exception) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._heard()

    async def _listen(self, client: Client) -> None:
        """Hear of changes where the protocol wants that to be asked for."""
        # Where it ends, in whatever way, the list is asked for each time.
        with contextlib.suppress(Exception):
            async with client.listen(tools_list_changed=True) as events:
                self.hears = bool(events.honored.tools_list_changed)
                # What changed before we listened nobody told us.
                self._heard()
                async for _ in events:
                    self._heard()
        self.hears = False


class Connection:
    """A server that is kept at hand; made by `connect`, and used with `async with`."""

    def __init__(self, opening: Opening, terms: Terms, callbacks: Mapping[str, Any]) -> None:
        self._opening, self._terms, self._callbacks = opening, terms, dict(callbacks)
        self._life: _Life | None = None
        self._open = False
        self._stale = True
        self._listing = asyncio.Lock()
        self._tools: list[ForeignTool] = []
        self._theirs: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<undercroft MCP server {self.service!r}: {len(self._tools)} tools>"

    @property
    def service(self) -> str:
        """Its name."""
        return self._terms.service

    async def __aenter__(self) -> Self:
        """Start or reach the server.

        Raises:
            ServerUnreachableError: It cannot be.
            DeclarationError: It speaks no version of the protocol that the SDK speaks.
        """
        self._open = True
        try:
            await self._reach()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of it; a server that is a program ends."""
        await self._close()

    async def _close(self) -> None:
        self._open = False
        life, self._life = self._life, None
        if life is not None:
            await life.ended()

    # ------------------------------------------------------------------ its tools

    async def tools(self) -> list[ForeignTool]:
        """Return the tools that it has now; the same list as long as they are the same.

        Raises:
            ServerUnreachableError: It is gone, and cannot be reached again.
            DeclarationError: There are too many tools, two share a name, or one is too large.
            MCPError: It could not be asked.
        """
        life, client = await self._reach()
        async with self._listing:
            if self._stale or not life.hears:
                # Before it is asked: what changes meanwhile is to be seen next time.
                self._stale = False
                try:
                    async with asyncio.timeout(self._terms.timeout_s):
                        listed = await list_all(client.session, self._terms)
                except BaseException as error:
                    self._stale = True
                    if isinstance(error, MCPError) and error.code == types.CONNECTION_CLOSED:
                        life.end(error.message)
                    raise
                before = {tool.name: tool for tool in self._tools}
                made = translate(listed, self._terms, self.call, before)
                self._theirs = frozenset(tool.name for tool in listed)
                if len(made) != len(before) or any(
                    old is not new for old, new in zip(self._tools, made, strict=True)
                ):
                    self._tools = made
            return self._tools

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Call a tool by the name that the server has for it; return plain data.

        Raises:
            DomainError: It answered that it failed, or it has no such tool any more.
            ServerUnreachableError: It is gone, and cannot be reached again: nothing was called.
            ServiceError: Its answer cannot be read.
            MCPError: It answered with an error of the protocol, or not at all.
        """
        life, client = await self._reach()
        if self._stale and self._tools:
            life, client = await self._looked_up(name)
        try:
            return await self._call(client, name, arguments)
        except MCPError as error:
            failed = error
        if failed.code == types.HEADER_MISMATCH or failed.message == _FORGOTTEN:
            # It says that it did not look at the call, for want of what we can give it now.
            if failed.message == _FORGOTTEN:
                life.end(_FORGOTTEN)
            self._stale = True
            _, client = await self._looked_up(name)
            return await self._call(client, name, arguments)
        if failed.code == types.CONNECTION_CLOSED:
            life.end(failed.message)
            why = life.why or failed.message
            raise MCPError(failed.code, f"MCP server {self.service!r} is gone: {why}")
        raise failed

    async def _call(self, client: Client, name: str, arguments: dict[str, Any]) -> Any:
        answer = await call_tool(client.session, self.service, name, arguments)
        return read_result(answer, self._terms.limits, media=self._terms.media)

    async def _looked_up(self, name: str) -> tuple[_Life, Client]:
        """Return the server, once its list of tools is known and has the one that is meant."""
        problem = ""
        try:
            await self.tools()
        except (MCPError, TimeoutError, ValidationError) as error:
            problem = _first(error)
        if problem:
            # Not as it came: that would leave open whether the call was made.
            raise ServerUnreachableError(self.service, f"it did not list its tools: {problem}")
        if name not in self._theirs:
            there = ", ".join(sorted(self._theirs)) or "none"
            raise DomainError(
                f"{name!r:.80} is no tool of {self.service!r} any more; it has: "
                f"{there:.{_NAMES_CHARS}}."
            )
        return await self._reach()

    # ------------------------------------------------------------------ the server

    async def _reach(self) -> tuple[_Life, Client]:
        """Return the server, started or reached anew if it was gone."""
        if not self._open:
            raise DeclarationError(
                self._terms.place, "it is not connected", "Use it within `async with connect(…)`."
            )
        life = self._life
        if life is None or life.over:
            self._stale = True
            life = self._life = _Life(self._opening, self._changed, self._callbacks)
        if life.ready.done() and life.ready.exception() is None:
            return life, life.ready.result()
        error: BaseException
        try:
            async with asyncio.timeout(CONNECT_S):
                return life, await asyncio.shield(life.ready)
        except TimeoutError:
            await life.ended()
            error = TimeoutError(f"it did not answer within {CONNECT_S:g} s")
        except asyncio.CancelledError:
            raise
        except BaseException as failed:  # noqa: BLE001  of whatever kind, it is why
            error = failed
        # Raised here, so that nothing but this error says what became of the call.
        if _speaks_otherwise(error):
            raise DeclarationError(
                self._terms.place,
                f"it speaks another version of the protocol: {_first(error)}",
                "Update the server, or this SDK: pip install --upgrade mcp.",
            )
        raise ServerUnreachableError(self.service, life.why or _first(error))

    def _changed(self) -> None:
        self._stale = True


class Refreshing:
    """The tools of a loop, some of them of servers whose lists may change.

        kept = Refreshing(rt, "support", [crm, mail], tools=[remember])
        guest = rt.guest(await kept.toolset())
        ...
        await kept.refresh(guest)        # before the model is asked again

    Args:
        host: A runtime.
        name: Of the loop.
        servers: Their tools in this order.
        tools: All others.
        effects: What tools do, as `Runtime.toolset` takes it.
    """

    def __init__(
        self,
        host: Host,
        name: str,
        servers: Iterable[Connection],
        *,
        tools: Iterable[object] = (),
        effects: Any = None,
    ) -> None:
        self._host, self._name, self._effects = host, name, effects
        self._servers, self._tools = list(servers), list(tools)
        self._lists: list[list[ForeignTool]] = []
        self._made: Any = None

    async def toolset(self) -> Any:
        """Return what `Runtime.guest` and `Guest.use` take; the same as long as nothing changed.

        Raises:
            DeclarationError: Two tools share a name, or a declaration cannot be met.
            ServerUnreachableError: A server is gone, and cannot be reached again.
        """
        lists = [await server.tools() for server in self._servers]
        known = len(lists) == len(self._lists) and all(
            new is old for new, old in zip(lists, self._lists, strict=True)
        )
        if self._made is None or not known:
            given = [*self._tools, *(tool for tools in lists for tool in tools)]
            self._made = self._host.toolset(self._name, given, self._effects)
            self._lists = lists
        return self._made

    async def refresh(self, guest: Guest) -> None:
        """Have a guest go on with the tools that there are now."""
        guest.use(await self.toolset())


def _first(error: BaseException) -> str:
    """Return in words what is at the bottom of an error of the SDK's."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:_NAMES_CHARS]


def _speaks_otherwise(error: BaseException) -> bool:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MCPError):
        return error.code == types.UNSUPPORTED_PROTOCOL_VERSION
    # The SDK has no class of its own for it.
    return isinstance(error, RuntimeError) and "protocol version" in str(error)

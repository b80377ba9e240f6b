"""What tools a server has, as tools of ours.

Keeps: a listing is bounded in pages, tools and bytes, and one that does not end is an error; a
tool that did not change stays the same object, and one that did is known by what was declared of
it before. What a server says of its tools is a hint, and its words are passed on as they are.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from mcp import Client, ClientSession, types

from undercroft.adapters.mcp.calling import call_tool
from undercroft.adapters.mcp.limits import LIMITS, McpLimits
from undercroft.adapters.mcp.results import read_result
from undercroft.errors import DeclarationError, SettingError
from undercroft.model.foreign import NO_HINTS, ForeignTool, Hints

PAGES_MAX = 1_000
# What every provider takes for the name of a tool.
_NAME_CHARS = 64
_OTHER = re.compile(r"[^A-Za-z0-9_-]")
_EARLIER_MAX = 8

# Calls a tool by the name that its server knows.
Calling = Callable[[str, dict[str, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the tools of a server are taken.

    Attributes:
        service: The server, for its breaker and its errors.
        prefix: What the names of its tools begin with here, so that those of two servers differ.
        only: The names that are taken, as the server has them; None: all.
        timeout_s: Seconds that a call may take, where nothing else is declared.
        trust_hints: Whether a server is believed that a tool changes nothing, or may be repeated.
            That it destroys something is always believed.
        media: Whether the bytes of images and sounds are kept.
        limits: How much is taken in.
    """

    service: str
    prefix: str = ""
    only: Collection[str] | None = None
    timeout_s: float = 60.0
    trust_hints: bool = True
    media: bool = False
    limits: McpLimits = LIMITS

    def __post_init__(self) -> None:
        if not self.service:
            raise SettingError("service", self.service, "a name")
        if _OTHER.search(self.prefix):
            raise SettingError("prefix", self.prefix, "letters, digits, _ and -")
        if not 0 < self.timeout_s < float("inf"):
            raise SettingError("timeout_s", self.timeout_s, "above 0, and not endless")

    @property
    def place(self) -> str:
        """The server, for errors."""
        return f"MCP server {self.service!r}"


async def mcp_tools(  # noqa: PLR0913  each keyword is one setting
    session: ClientSession | Client,
    *,
    service: str = "",
    prefix: str = "",
    only: Collection[str] | None = None,
    timeout_s: float = 60.0,
    trust_hints: bool = True,
    media: bool = False,
    limits: McpLimits = LIMITS,
) -> list[ForeignTool]:
    """Return the tools that a server has now, for wherever tools are given.

    The session stays its owner's: it must be open while the tools are used, and this lists anew
    each time it is called. `connect` keeps a server at hand itself.

    Args:
        session: Of the SDK, open and past its handshake.
        service: Name of the server, for its breaker; what it calls itself if left out.
        prefix: What the names of its tools begin with here.
        only: The names that are taken, as the server has them; all if left out.
        timeout_s: Seconds that a call may take, where nothing else is declared.
        trust_hints: Whether the server is believed that a tool changes nothing, or may be repeated.
        media: Whether the bytes of images and sounds are kept, as base64.
        limits: How much is taken in of what the server sends.

    Raises:
        DeclarationError: There are too many, two share a name, or one is too large.
        MCPError: The server could not be asked.
    """
    inner = session.session if isinstance(session, Client) else session
    named = service or (inner.server_info.name if inner.server_info is not None else "") or "mcp"
    terms = Terms(
        service=named[:_NAME_CHARS],
        prefix=prefix,
        only=only,
        timeout_s=timeout_s,
        trust_hints=trust_hints,
        media=media,
        limits=limits,
    )

    async def call(name: str, arguments: dict[str, Any]) -> Any:
        result = await call_tool(inner, terms.service, name, arguments)
        return read_result(result, limits, media=media)

    return translate(await list_all(inner, terms), terms, call, {})


async def list_all(session: ClientSession, terms: Terms) -> list[types.Tool]:
    """Return all tools that a server lists, page by page.

    Raises:
        DeclarationError: There are too many, or the pages do not end.
        MCPError: The server could not be asked.
    """
    found: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(PAGES_MAX):
        params = None if cursor is None else types.PaginatedRequestParams(cursor=cursor)
        page = await session.list_tools(params=params)
        found += page.tools
        if len(found) > terms.limits.tools_max:
            raise DeclarationError(
                terms.place,
                f"it lists more than {terms.limits.tools_max:,} tools",
                "Raise limits=McpLimits(tools_max=…) if that is meant.",
            )
        if page.next_cursor is None:
            return found
        if page.next_cursor == cursor:
            break
        cursor = page.next_cursor
    raise DeclarationError(
        terms.place, "the pages of its list of tools do not end", "Mend the server."
    )


def translate(
    listed: list[types.Tool], terms: Terms, call: Calling, before: Mapping[str, ForeignTool]
) -> list[ForeignTool]:
    """Return tools of a server as tools of ours.

    Args:
        listed: As the server lists them.
        terms: How they are taken.
        call: Calls one of them.
        before: What was returned last, by name.

    Raises:
        DeclarationError: Two share a name, one is too large, or one that is asked for is not
            there.
    """
    made: dict[str, ForeignTool] = {}
    theirs: dict[str, str] = {}
    for tool in listed:
        if terms.only is not None and tool.name not in terms.only:
            continue
        new = _translated(tool, terms, call)
        if new.name in made:
            raise DeclarationError(
                terms.place,
                f"its tools {theirs[new.name]!r:.80} and {tool.name!r:.80} are both {new.name!r}",
                "Name those that are wanted, with only=[…].",
            )
        made[new.name] = _same(new, before.get(new.name))
        theirs[new.name] = tool.name
    missing = sorted(set(terms.only or ()) - set(theirs.values()))
    if missing and not before:
        there = ", ".join(sorted(tool.name for tool in listed)[:20]) or "none"
        raise DeclarationError(
            terms.place, f"it has no tool {', '.join(missing)}", f"It has: {there:.500}."
        )
    return list(made.values())


def _translated(tool: types.Tool, terms: Terms, call: Calling) -> ForeignTool:
    limits = terms.limits
    size = len(msgspec.json.encode(tool.input_schema))
    if size > limits.schema_bytes:
        raise DeclarationError(
            terms.place,
            f"the schema of its tool {tool.name!r:.80} takes {size:,} bytes",
            "Leave it out with only=[…], or raise limits=McpLimits(schema_bytes=…).",
        )
    description = tool.description or tool.title or ""
    if len(description) > limits.description_chars:
        description = f"{description[: limits.description_chars]}… (cut)"
    name = _OTHER.sub("_", f"{terms.prefix}{tool.name}")[:_NAME_CHARS] or "_"
    return ForeignTool(
        name=name,
        description=description,
        schema=tool.input_schema,
        call=partial(call, tool.name),
        service=terms.service,
        hints=_hints(tool.annotations, trusted=terms.trust_hints),
        timeout_s=terms.timeout_s,
    )


def _hints(said: types.ToolAnnotations | None, *, trusted: bool) -> Hints:
    if said is None:
        return NO_HINTS
    read_only = trusted and said.read_only_hint is True
    return Hints(
        read_only=read_only,
        # These say something only of a tool that changes something.
        destructive=said.destructive_hint is True and not read_only,
        idempotent=trusted and said.idempotent_hint is True and not read_only,
    )


def _same(new: ForeignTool, old: ForeignTool | None) -> ForeignTool:
    """Return the tool of before if it is the same; else the new one, known as what it was."""
    if old is None:
        return new
    if (new.description, new.schema, new.hints) == (old.description, old.schema, old.hints):
        return old
    first, *later = (*old.origins, old)
    return ForeignTool(
        new.name,
        new.description,
        new.schema,
        new.call,
        new.service,
        new.hints,
        (first, *later[-_EARLIER_MAX:]),
        new.timeout_s,
    )

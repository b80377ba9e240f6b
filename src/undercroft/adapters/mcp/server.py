"""Tools of ours, served by the Model Context Protocol.

Keeps: a client's calls pass the same layers as any loop's; what is refused comes back as a result
that says it is an error, with the refusal as data. Annotations say what the declared effects say.
Leaves to `clients`: what a turn is. To `serving`: by which door clients come.

Where a person has to agree, the protocol offers one thing: to ask the client (elicitation), if it
can. What comes back is the client's word that somebody agreed; nobody can prove it. Where that is
not enough, `approvals="elsewhere"`: then the client is told how to have it approved.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

import msgspec
from mcp import MCPError, types
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.shared.message import ServerMessageMetadata
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from undercroft.adapters.mcp.clients import Line, Said, Word
from undercroft.adapters.mcp.schemas import output_schema
from undercroft.errors import SettingError
from undercroft.model.effect import Mode
from undercroft.model.step import StepStatus
from undercroft.ports import Host

LINES_MAX = 1_000
ASK_S = 600.0
_KEY = "approve"
_SESSION = "mcp-session-id"
_SHOWN_CHARS = 2_000

Context: TypeAlias = ServerRequestContext[Any, Any]
Approvals: TypeAlias = Literal["ask", "elsewhere"]
Answer: TypeAlias = types.CallToolResult | types.InputRequiredResult


def mcp_server(  # noqa: PLR0913  each keyword is one setting
    tools: Iterable[object],
    host: Host,
    *,
    name: str,
    effects: Any = None,
    approvals: Approvals = "ask",
    turn_idle_s: float = 60.0,
    who: Callable[[Context], str] | None = None,
    instructions: str | None = None,
) -> Server[Any]:
    """Return a server of the SDK that serves tools of ours.

    Args:
        tools: Tools of ours, plain functions, or tools of other libraries.
        host: A runtime, open or not.
        name: Of the server, and of the loops of its clients.
        effects: What tools do, as `Runtime.toolset` takes it.
        approvals: Where a person has to agree: `ask` the client, if it can, and take its word; or
            `elsewhere`, which is `undercroft approve`.
        turn_idle_s: Seconds of silence of a client that end its turn. Until then it owns what it
            wrote, and what it read counts.
        who: Returns who asks. If left out: the process on the other side; or the session, where
            HTTP has one; or, where it has none, the name that the client gives itself: clients of
            one name share a turn.
        instructions: What a client is told of the server.

    Raises:
        DeclarationError: Two tools share a name, or a declaration cannot be met.
        SettingError: A setting is outside its range.
    """
    if not 0 < turn_idle_s < math.inf:
        raise SettingError("turn_idle_s", turn_idle_s, "above 0, and not endless")
    if approvals not in ("ask", "elsewhere"):
        raise SettingError("approvals", approvals, "'ask' or 'elsewhere'")
    served = _Served(host, host.toolset(name, tools, effects), name, turn_idle_s, who)
    served.asks = approvals == "ask"
    return Server(
        name,
        instructions=instructions,
        lifespan=served.lifespan,
        on_list_tools=served.list_tools,
        on_call_tool=served.call_tool,
    )


class _Served:
    """The tools that are served, and the clients that they are served to."""

    def __init__(
        self,
        host: Host,
        toolset: Any,
        name: str,
        idle_s: float,
        who: Callable[[Context], str] | None,
    ) -> None:
        self._host, self._toolset, self._name = host, toolset, name
        self._idle_s, self._who = idle_s, who or self._who_asks
        self._lines: dict[str, Line] = {}
        # Of the process on the other side, where there is one; and of this life of the server.
        self._life = uuid.uuid4().hex[:12]
        self.asks = True
        self._schemas = {
            tool.name: output_schema(tool.returns) if tool.stand_in is None else None
            for tool in toolset.tools.values()
        }
        self._listed = types.ListToolsResult(
            tools=[self._tool(tool) for tool in toolset.tools.values()]
        )

    @asynccontextmanager
    async def lifespan(self, _: Server[Any]) -> AsyncIterator[dict[str, Any]]:
        """End all turns when the server ends."""
        try:
            yield {}
        finally:
            lines, self._lines = self._lines, {}
            for line in lines.values():
                await line.close()

    # ------------------------------------------------------------------ what there is

    async def list_tools(
        self,
        _ctx: Context,
        _params: types.PaginatedRequestParams | None,
    ) -> types.ListToolsResult:
        """Answer `tools/list`."""
        return self._listed

    def _tool(self, tool: Any) -> types.Tool:
        schema = self._schemas[tool.name]
        return types.Tool(
            name=tool.name,
            description=tool.description or None,
            input_schema=tool.schema,
            output_schema=None if schema is None else schema.schema,
            annotations=_annotations(tool),
        )

    # ------------------------------------------------------------------ one call

    async def call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> Answer:
        """Answer `tools/call`."""
        line = self._line(ctx)
        said = await self._answered(line, params)
        if said is None:
            said = await line.call(params.name, params.arguments or {})
        if said.question is not None and self.asks and _can_be_asked(ctx):
            asked = _asking(said)
            if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
                # The client makes the call again, with the answer.
                request = types.ElicitRequest(params=asked)
                return types.InputRequiredResult(
                    input_requests={_KEY: request}, request_state=said.call.id
                )
            word = await self._word(ctx, asked)
            if word is not None:
                call = line.parked(said.call.id or "")
                if call is not None:
                    said = await line.go_on(call, word)
        return self._result(said)

    async def _answered(self, line: Line, params: types.CallToolRequestParams) -> Said | None:
        """Go on with a call about which the client was asked; None: it is another one."""
        given = (params.input_responses or {}).get(_KEY)
        if not isinstance(given, types.ElicitResult) or not params.request_state:
            return None
        call = line.parked(params.request_state)
        if call is None or (call.name, call.arguments) != (params.name, params.arguments or {}):
            return None
        word = _word(given)
        if word is None:
            # Nobody decided: it is told how else it can be.
            said = await line.go_on(call, None)
            return Said(said.call, said.result, said.text, None, said.turn_id)
        return await line.go_on(call, word)

    @staticmethod
    async def _word(ctx: Context, asked: types.ElicitRequestFormParams) -> Word | None:
        try:
            given = await ctx.session.send_request(
                types.ElicitRequest(params=asked),
                types.ElicitResult,
                request_read_timeout_seconds=ASK_S,
                metadata=ServerMessageMetadata(related_request_id=ctx.request_id),
            )
        except MCPError:
            return None  # it could not be asked after all
        return _word(given)

    def _result(self, said: Said) -> types.CallToolResult:
        result = said.result
        if result is not None and result.status is StepStatus.OK:
            schema = self._schemas.get(result.name)
            if schema is None:
                return types.CallToolResult(content=[types.TextContent(text=result.text)])
            return types.CallToolResult(
                content=[types.TextContent(text=result.text)],
                structured_content=schema.wrap(_plain(result.data)),
            )
        text, data = said.text, None
        if result is not None and result.status is StepStatus.WAITING:
            data = _waits(said)
            text = msgspec.json.encode(data).decode()
        elif result is not None and result.refusal is not None:
            data = _plain({"refused": msgspec.to_builtins(result.refusal)})
        return types.CallToolResult(
            content=[types.TextContent(text=text)], structured_content=data, is_error=True
        )

    # ------------------------------------------------------------------ who asks

    def _line(self, ctx: Context) -> Line:
        who = self._who(ctx)
        line = self._lines.get(who)
        if line is None:
            while len(self._lines) >= LINES_MAX:
                self._lines.pop(next(iter(self._lines)))
            # What a client is known by may be all that it needs to be let in.
            known = hashlib.sha256(who.encode()).hexdigest()[:16]
            session = f"mcp/{self._name}/{known}"
            line = self._lines[who] = Line(
                self._host, self._toolset, session, self._idle_s, lambda: self._forget(who)
            )
        return line

    def _forget(self, who: str) -> None:
        self._lines.pop(who, None)

    def _who_asks(self, ctx: Context) -> str:
        if ctx.request is None:
            return f"process {self._life}"
        session = ctx.request.headers.get(_SESSION)
        if session:
            return f"session {session}"
        said = ctx.session.client_params
        return f"client {said.client_info.name if said is not None else ''} {self._life}"


def _annotations(tool: Any) -> types.ToolAnnotations | None:
    """Return what the declared effect of a tool says of it; nothing where nothing was declared."""
    effect, hints = tool.effect, tool.hints
    if not effect.declared:
        return types.ToolAnnotations(destructive_hint=True) if hints.destructive else None
    if not effect.changes:
        return types.ToolAnnotations(read_only_hint=True)
    return types.ToolAnnotations(
        read_only_hint=False,
        # What is only added to is not lost.
        destructive_hint=hints.destructive or bool(effect.keys(Mode.WRITE, Mode.EXCLUSIVE)),
        idempotent_hint=tool.repeatable,
    )


def _can_be_asked(ctx: Context) -> bool:
    can = ctx.session.client_capabilities
    if can is None or can.elicitation is None:
        return False
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS or ctx.session.can_send_request


def _asking(said: Said) -> types.ElicitRequestFormParams:
    question = said.question
    assert question is not None  # noqa: S101  whoever asks has one
    shown = msgspec.json.encode(question.arguments, enc_hook=str).decode()
    if len(shown) > _SHOWN_CHARS:
        shown = f"{shown[:_SHOWN_CHARS]}… ({len(shown):,} characters)"
    again = f" Asked again: {question.void}." if question.void else ""
    return types.ElicitRequestFormParams(
        message=f"May {question.name} be called with {shown}?{again}",
        requested_schema={
            "type": "object",
            "properties": {
                "approve": {"type": "boolean", "title": "Approve this call"},
                "by": {"type": "string", "title": "Who decides"},
                "reason": {"type": "string", "title": "Why"},
            },
            "required": ["approve"],
        },
    )


def _word(given: types.ElicitResult) -> Word | None:
    """Return what a person said; None: nothing."""
    if given.action == "cancel":
        return None
    content = given.content or {}
    by, reason = (
        str(content.get("by") or "somebody at the client"),
        str(content.get("reason") or ""),
    )
    granted = given.action == "accept" and content.get("approve") is True
    return Word(granted, f"mcp: {by}"[:200], reason[:_SHOWN_CHARS])


def _waits(said: Said) -> dict[str, Any]:
    result = said.result
    assert result is not None  # noqa: S101  it waits
    command = f"undercroft approve {said.turn_id} {result.step_id} --by NAME"
    return {
        "refused": {
            "rule": "sequencing.approval",
            "message": f"{result.name} was not called: a person has to agree first.",
            "next": f"Ask somebody to run `{command}` where this server keeps its journal, then "
            "make the same call again.",
            "facts": {"turn_id": said.turn_id, "step_id": result.step_id},
        }
    }


def _plain(data: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(data, enc_hook=str))

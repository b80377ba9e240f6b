"""One run of a pydantic-ai agent, as its guest sees it: batches, calls, and people's words.

Keeps: nothing is decided here. What the framework proposes, asks for and is told is handed on,
and what comes back is said in the framework's own words.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    ModelRetry,
    SkipToolExecution,
    ToolFailed,
    ToolFailedError,
    ToolRetryError,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.tools import DeferredToolResults, ToolApproved, ToolDenied

from undercroft.adapters.frameworks.pydantic_ai.messages import Translated, call_of
from undercroft.adapters.frameworks.pydantic_ai.results import plain, put_off, rebuilt
from undercroft.adapters.frameworks.pydantic_ai.toolsets import RUNNING, Toolsets
from undercroft.errors import (
    ApprovalNeededError,
    DecisionError,
    DomainError,
    UnknownOutcomeError,
)
from undercroft.model.foreign import Ask
from undercroft.model.message import Answer, Message, ToolSpec
from undercroft.model.step import Call, Result, StepStatus
from undercroft.ports import Guest, Host

METADATA = "undercroft"
_NOBODY = "whoever ran the agent"
# Answers with no, and not that it broke.
_NOES = (ToolRetryError, ToolFailedError, ModelRetry, ToolFailed)

Handler = Callable[[dict[str, Any]], Awaitable[Any]]


class AgentRun:
    """One run of an agent.

    Args:
        host: Takes the guest in.
        toolsets: Of the agent, made ready.
        name: Of the agent.
        session: The conversation, or None.
    """

    def __init__(self, host: Host, toolsets: Toolsets, name: str, session: str | None) -> None:
        self._host, self._toolsets = host, toolsets
        self._name, self._session = name, session
        self._guest: Guest | None = None
        self._tools: Mapping[str, Any] | None = None
        self._toolset: Any = None
        self.translated = Translated()
        # The response whose calls were seen last, and the kinds of their tools.
        self._seen: ModelResponse | None = None
        self._ids: frozenset[str] = frozenset()
        self._lock = asyncio.Lock()
        # Calls that the framework itself asks a person about, until they have been heard of.
        self._arriving: dict[str, asyncio.Task[Result]] = {}
        self._asides: set[asyncio.Task[Result]] = set()
        # What a person said, before the calls are there; by whom.
        self._said: DeferredToolResults | None = None
        self._paused_at: ModelResponse | None = None
        self._open: Sequence[ToolCallPart] = ()
        self._decided: set[str] = set()
        # What handlers of the agent's agreed to within the run, and what they left undecided.
        self._agreed: set[str] = set()
        self._undecided: frozenset[str] = frozenset()
        self._last: RunContext[Any] | None = None

    # ------------------------------------------------------------------ its guest

    def _ready(self, ctx: RunContext[Any]) -> Guest:
        """Return the guest, with the tools that the run has in this step."""
        manager = ctx.tool_manager
        tools = manager.tools if manager is not None else None
        guest = self._guest
        if guest is not None and tools is self._tools:
            return guest  # the framework keeps them for as long as a step lasts
        self._tools = tools
        toolset = self._toolset = self._toolsets.of(self._name, tools or {})
        if guest is None:
            guest = self._guest = self._host.guest(toolset, session=self._session)
        else:
            guest.use(toolset)
        return guest

    def step(self, ctx: RunContext[Any]) -> None:
        """Take note of the step that the run is at, before its model is asked."""
        self._last = ctx
        self._ready(ctx)

    async def end(self, value: Any) -> None:
        """Say what the run ended with."""
        await self._rest()
        if self._guest is not None:
            await self._guest.end(plain(value))

    async def pause(self) -> None:
        """Say that the run waits for somebody."""
        await self._rest()
        if self._guest is not None:
            await self._guest.pause()

    async def fail(self, error: BaseException) -> None:
        """Say that the run ended with an error."""
        await self._rest()
        if self._guest is not None:
            await self._guest.fail(error)

    async def stop(self) -> None:
        """Say that the run was cut off."""
        for task in (*self._arriving.values(), *self._asides):
            task.cancel()
        if self._guest is not None:
            await self._guest.stop()

    async def _rest(self) -> None:
        """Wait for what was told on the side."""
        tasks = [*self._arriving.values(), *self._asides]
        if tasks:
            await asyncio.wait(tasks)

    # ------------------------------------------------------------------ its model

    async def ask(
        self, messages: list[Message], specs: list[ToolSpec], ask: Ask, model: Model
    ) -> Answer:
        """Have a model asked past the guards; raises what asking it raised."""
        assert self._last is not None  # noqa: S101  a step begins before its model is asked
        guest = self._ready(self._last)
        if self._said is not None:
            await self._take_up(guest, self._last)
        await self._rest()
        return await guest.ask(messages, specs, ask, name=model.model_name, service=model.system)

    async def answered(self, response: ModelResponse, parameters: ModelRequestParameters) -> None:
        """Be told what a model said, before anything comes of it."""
        assert self._guest is not None  # noqa: S101  it was asked through it
        kinds = {tool.name: tool.kind for tool in parameters.function_tools}
        kinds.update((tool.name, "output") for tool in parameters.output_tools)
        async with self._lock:
            await self._saw(self._guest, response, response.tool_calls, kinds)

    # ------------------------------------------------------------------ its batches

    async def _saw(
        self,
        guest: Guest,
        response: ModelResponse,
        calls: Sequence[ToolCallPart],
        kinds: Mapping[str, str],
    ) -> None:
        """Tell of the calls of a response, before any of them runs."""
        self._seen = response
        self._ids = frozenset(call.tool_call_id for call in response.tool_calls)
        self._arriving.clear()
        self._agreed.clear()
        self._undecided = frozenset()
        mine = [
            (call, kinds.get(call.tool_name))
            for call in calls
            if kinds.get(call.tool_name) not in ("output", "external")
        ]
        if not mine:
            return
        await guest.saw([call_of(call) for call, _ in mine])
        for call, kind in mine:
            # The framework asks about these last; what conflicts with them is held from now on.
            if kind == "unapproved" and call.tool_call_id not in self._decided:
                self._arriving[call.tool_call_id] = self._aside(guest, call)

    async def known(self, ctx: RunContext[Any], call: ToolCallPart) -> Guest:
        """Return the guest once it has seen the batch that a call is of."""
        guest = self._ready(ctx)
        within = WITHIN.get()
        if within is not None and within.of is self:
            # A tool that calls others of the run, such as one that runs code: a loop within it.
            if within.guest is None:
                within.guest = self._host.guest(self._toolset)
            return within.guest
        async with self._lock:
            if self._said is not None:
                await self._take_up(guest, ctx)
            elif call.tool_call_id not in self._ids:
                found = _last_response(ctx.messages)
                if found is not None and _holds(found, call):
                    # Of a history that was saved, or that another capability made.
                    await self._saw(guest, found, _open_calls(ctx.messages), _kinds(ctx))
        return guest

    def _aside(self, guest: Guest, part: ToolCallPart) -> asyncio.Task[Result]:
        """Ask for a call of which the framework asks somebody else first."""
        call = guest.call(call_of(part), _ask_first)
        task = asyncio.ensure_future(call)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)
        return task

    # ------------------------------------------------------------------ people

    def said(
        self, results: DeferredToolResults, messages: Sequence[ModelMessage]
    ) -> DeferredToolResults:
        """Take note of what the run was given to go on with; return that, and what it lacks.

        The framework wants a word on each call that was put off. On one that is only held behind
        another nobody need say any: whether it runs, that other one decides.
        """
        self._said = results
        # Now, since what is not to be run is answered in the messages before we hear of it.
        self._paused_at, self._open = _last_response(messages), _open_calls(messages)
        held = () if self._paused_at is None else _marked(self._paused_at)
        lacking = {
            call.tool_call_id: ToolApproved()
            for call in self._open
            if call.tool_call_id in held and call.tool_call_id not in results.approvals
        }
        if not lacking:
            return results
        return replace(results, approvals={**results.approvals, **lacking})

    async def _take_up(self, guest: Guest, ctx: RunContext[Any]) -> None:
        """Hand on what people said, now that the tools are known."""
        results, self._said = self._said, None
        response = self._paused_at
        if results is None or response is None:
            return
        words = results.to_tool_call_results()
        self._decided.update(words)
        kinds = dict(_kinds(ctx))
        parts = []
        for part in self._open:
            word = words.get(part.tool_call_id)
            changed = isinstance(word, ToolApproved) and word.override_args is not None
            parts.append(_overridden(part, word) if changed else part)
            if part.tool_call_id in results.calls and kinds.get(part.tool_name) == "external":
                kinds[part.tool_name] = "given"
        await self._saw(guest, response, parts, kinds)
        for part in parts:
            word = words.get(part.tool_call_id)
            by = results.answered_by.get(part.tool_call_id, _NOBODY)
            if isinstance(word, ToolApproved):
                await self._decide(guest, part, granted=True, by=by)
            elif isinstance(word, ToolDenied):
                await self._decide(guest, part, granted=False, by=by, reason=word.message)
            elif kinds.get(part.tool_name) == "given":
                self._given(guest, part, results.calls[part.tool_call_id])

    async def _decide(
        self,
        guest: Guest,
        part: ToolCallPart,
        *,
        granted: bool,
        by: str,
        reason: str = "",
    ) -> None:
        call = call_of(part)
        # Of a call that is only held behind another one nobody's word is wanted.
        with suppress(DecisionError):
            await guest.decide(call, granted=granted, by=by, reason=reason)
            if not granted:
                self._aside(guest, part)

    def _given(self, guest: Guest, part: ToolCallPart, word: Any) -> None:
        """Write down what came of a call that was carried out elsewhere."""

        async def given() -> Any:
            if isinstance(word, ModelRetry | ToolFailed):
                raise DomainError(word.message)
            if getattr(word, "part_kind", "") == "retry-prompt":
                raise DomainError(word.model_response())
            return plain(word)

        task = asyncio.ensure_future(guest.call(call_of(part), given))
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def approved(self, ctx: RunContext[Any], part: ToolCallPart) -> None:
        """Take note that a call was approved, if nobody said so yet."""
        guest = await self.known(ctx, part)
        if part.tool_call_id in self._decided:
            return
        self._decided.add(part.tool_call_id)
        self._agreed.add(part.tool_call_id)
        await self._rest()
        await self._decide(guest, part, granted=True, by="a handler of the agent's")

    def undecided(self, ids: Iterable[str]) -> None:
        """Take note of the calls that no handler of the agent's decided."""
        self._undecided = frozenset(ids)

    async def _take_noes(self, guest: Guest) -> None:
        """Take note of what handlers of the agent's refused: what they left undecided is known."""
        left = self._undecided
        for call in guest.held():
            known = call.id is None or call.id in self._decided or call.id in left
            if known or guest.question(call) is None:
                continue
            self._decided.add(call.id or "")
            part = ToolCallPart(call.name, call.arguments, call.id or "")
            await self._decide(guest, part, granted=False, by="a handler of the agent's")

    async def question(self, part: ToolCallPart) -> None:
        """Let the framework ask about a call, with what is known of it.

        Raises:
            ApprovalRequired: As the framework would have asked.
            ToolFailed: It may not run, whatever anybody says.
        """
        task = self._arriving.get(part.tool_call_id)
        if task is None or self._guest is None:
            return
        result = await asyncio.shield(task)
        if result.status is StepStatus.WAITING:
            raise ApprovalRequired(self._asked(self._guest, call_of(part)))
        if result.status is not StepStatus.OK:
            raise ToolFailed(result.text)

    def _asked(self, guest: Guest, call: Call) -> dict[str, Any]:
        """Return what whoever decides about a call is told."""
        asked = guest.question(call)
        if asked is None:
            behind = [
                other.id
                for other in guest.held()
                if other.id != call.id and guest.question(other) is not None
            ]
            return {METADATA: {"held_behind": behind}}
        told: dict[str, Any] = {
            "step_id": asked.step_id,
            "fingerprint": asked.fingerprint,
        }
        if asked.void:
            told["void"] = asked.void
            told["changed"] = [[one.key, one.was, one.now] for one in asked.changed]
        if asked.expires_at is not None:
            told["expires_at"] = asked.expires_at
        return {METADATA: told}

    # ------------------------------------------------------------------ calls

    async def execute(
        self,
        ctx: RunContext[Any],
        part: ToolCallPart,
        args: dict[str, Any],
        handler: Handler,
    ) -> Any:
        """Return what comes of a call, when it is its turn.

        Raises:
            ApprovalRequired: A person has to decide about it, or about one that it is held behind.
            ToolFailedError: It may not run, or nobody knows what came of it; the model is told.
            Exception: Whatever the tool raised.
        """
        guest = await self.known(ctx, part)
        if part.tool_call_id in self._agreed:
            await self._take_noes(guest)
        call, live = call_of(part), _Live(self, handler, args)
        RUNNING.set(ctx)
        within = WITHIN.get()
        if within is not None and within.guest is guest:
            # Nobody says which of them were proposed together: each is a batch, in its turn.
            async with within.turn:
                result = await guest.call(call, live.run)
        else:
            result = await guest.call(call, live.run)
        match result.status:
            case StepStatus.OK if live.ran:
                if live.error is not None:
                    raise live.error
                return live.value
            case StepStatus.OK:
                return result.text if result.stood_in else rebuilt(result.data)
            case StepStatus.FAILED if live.error is not None:
                raise live.error
            case StepStatus.WAITING:
                if guest.question(call) is None and self._seen is not None:
                    _mark(self._seen, part.tool_call_id)
                own = live.error.metadata if isinstance(live.error, ApprovalRequired) else None
                raise ApprovalRequired({**(own or {}), **self._asked(guest, call)})
            case _:
                raise ToolFailedError(_told(part, result))

    async def refused(self, ctx: RunContext[Any], part: ToolCallPart, error: Exception) -> None:
        """Take note that the framework found the arguments of a call wrong."""
        guest = await self.known(ctx, part)

        async def wrong() -> Any:
            raise DomainError(str(error))

        task = asyncio.ensure_future(guest.call(call_of(part), wrong))
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)


class _Live:
    """A tool as it was called in this process: what came of it itself, besides its record."""

    __slots__ = ("_args", "_handler", "error", "guest", "of", "ran", "turn", "value")

    def __init__(self, of: AgentRun, handler: Handler, args: dict[str, Any]) -> None:
        self.of, self._handler, self._args = of, handler, args
        self.guest: Guest | None = None
        self.turn = asyncio.Lock()
        self.ran = False
        self.value: Any = None
        self.error: Exception | None = None

    async def run(self) -> Any:
        """Call it once; return what to write down."""
        self.ran, self.value, self.error = False, None, None
        try:
            self.value = await self._within()
        except SkipToolExecution as skipped:
            self.value = skipped.result
        except ApprovalRequired as error:
            self.error = error
            raise ApprovalNeededError("it asks for a person's word") from error
        except CallDeferred as error:
            self.error, self.ran = error, True
            return put_off(error)
        except _NOES as error:
            self.error = error
            if _timed_out(error):
                # It may still be at work, and may have done it.
                raise UnknownOutcomeError(str(error)) from error
            raise DomainError(str(error)) from error
        except Exception as error:
            self.error = error
            raise
        self.ran = True
        if isinstance(self.value, Iterator):
            self.value = list(self.value)  # it can be read only once, and two want to
        try:
            return plain(self.value)
        except Exception as error:
            self.error = error  # as the framework would raise it, somewhat later
            raise

    async def _within(self) -> Any:
        token = WITHIN.set(self)
        try:
            return await self._handler(self._args)
        finally:
            WITHIN.reset(token)
            guest, self.guest = self.guest, None
            if guest is not None:
                await guest.end()


def _timed_out(error: Exception) -> bool:
    """Whether a retry is asked for since the framework gave up waiting for a tool."""
    return str(error.__cause__ or error).startswith("Timed out after")


def _told(part: ToolCallPart, result: Result) -> ToolReturnPart:
    """Return what the model is told of a call that came to nothing, in the framework's words."""
    return ToolReturnPart(
        part.tool_name, json.loads(result.text), part.tool_call_id, outcome="failed"
    )


# The call that is carried out here.
WITHIN: ContextVar[_Live | None] = ContextVar("undercroft_pydantic_ai_call", default=None)


async def _ask_first() -> Any:
    raise ApprovalNeededError("it asks for a person's word")


def _overridden(part: ToolCallPart, word: Any) -> ToolCallPart:
    return ToolCallPart(part.tool_name, word.override_args, part.tool_call_id)


def _mark(response: ModelResponse, call_id: str) -> None:
    """Keep with a response that one of its calls is held behind another, and wants no word."""
    held = [*_marked(response), call_id]
    response.metadata = {**(response.metadata or {}), METADATA: {"held": held}}


def _marked(response: ModelResponse) -> Sequence[str]:
    told = (response.metadata or {}).get(METADATA)
    held = told.get("held") if isinstance(told, dict) else None
    return held if isinstance(held, list) else ()


def _last_response(messages: Sequence[ModelMessage]) -> ModelResponse | None:
    return next((m for m in reversed(messages) if isinstance(m, ModelResponse)), None)


def _holds(response: ModelResponse, call: ToolCallPart) -> bool:
    return any(one.tool_call_id == call.tool_call_id for one in response.tool_calls)


def _open_calls(messages: Sequence[ModelMessage]) -> list[ToolCallPart]:
    """Return the calls of the last response that no later message answers."""
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ModelResponse):
            return [call for call in message.tool_calls if call.tool_call_id not in answered]
        if isinstance(message, ModelRequest):
            answered.update(getattr(part, "tool_call_id", "") or "" for part in message.parts)
    return []


def _kinds(ctx: RunContext[Any]) -> dict[str, str]:
    manager = ctx.tool_manager
    tools = manager.tools if manager is not None else None
    return {name: tool.tool_def.kind for name, tool in (tools or {}).items()}

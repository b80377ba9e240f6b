"""A model of the SDK with the engine round it: each prompt passes the guards, whole or streamed.

Keeps: the model that the user chose is asked, with what the SDK would send; tools whose service is
given up are not offered; which calls it proposed together is said before the SDK sees the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from agents import FunctionTool, Handoff, Model, ModelProvider, ModelResponse, Tool

# The SDK's own models learn by it which run asks them; there is no public way.
from agents.models._run_context import get_model_run_owner

from undercroft.adapters.frameworks.openai_agents.outputs import field_of
from undercroft.adapters.frameworks.openai_agents.running import RUN, Run
from undercroft.adapters.frameworks.openai_agents.talk import (
    answer_of,
    call_of,
    marked_item,
)
from undercroft.model.foreign import Sending
from undercroft.model.message import Answer, ToolSpec
from undercroft.model.step import Call

# So many events of a stream wait for whoever reads it.
_EVENTS_MAX = 256


class Shared(Protocol):
    """What all agents share that one run may come to; see `guards.Guard`."""

    @property
    def models(self) -> ModelProvider:
        """What finds models by their names."""

    @property
    def owned(self) -> MutableMapping[object, Run]:
        """Runs that asked a model, by what stands for them in the SDK."""

    def name_of(self, tool: FunctionTool) -> str:
        """Return the name by which the engine knows a tool."""

    def stand_in(self, name: str) -> FunctionTool:
        """Return what answers a call to a tool that is not there."""


class GuardedModel(Model):
    """What stands round one model of the SDK.

    Args:
        guard: What is shared by all agents of a run.
        given: The model, or its name, as its user has it.
    """

    def __init__(self, guard: Shared, given: Model | str | None) -> None:
        self._guard, self._given = guard, given
        self._inner = given if isinstance(given, Model) else None

    def __getattr__(self, name: str) -> Any:
        """Return what only some models have, such as `model`, the name."""
        if name.startswith("__") or name in {"_guard", "_given", "_inner"}:
            raise AttributeError(name)
        return getattr(self.inner, name)

    @property
    def inner(self) -> Model:
        """The model that is asked."""
        if self._inner is None:
            given = self._given
            assert not isinstance(given, Model)  # noqa: S101  it would be the inner one
            self._inner = self._guard.models.get_model(given)
        return self._inner

    async def close(self) -> None:
        """Let go of what the model holds."""
        await self.inner.close()

    def get_retry_advice(self, request: Any) -> Any:
        """Say what the model says of trying again."""
        return self.inner.get_retry_advice(request)

    async def _cleanup_on_run_end(self, owner: object) -> None:
        run = self._guard.owned.pop(owner, None)
        if run is not None:
            await run.close()
        if self._inner is not None:
            await self._inner._cleanup_on_run_end(owner)  # noqa: SLF001  it is one of them

    async def get_response(  # noqa: PLR0913, PLR0917  as the SDK has it
        self,
        system_instructions: str | None,
        input: Any,  # noqa: A002  as the SDK has it
        model_settings: Any,
        tools: list[Tool],
        output_schema: Any,
        handoffs: list[Handoff[Any, Any]],
        tracing: Any,
        **more: Any,
    ) -> ModelResponse:
        """Ask the model."""
        run = RUN.get()
        if run is None or run.over:
            return await self.inner.get_response(
                system_instructions=system_instructions,
                input=input,
                model_settings=model_settings,
                tools=tools,
                output_schema=output_schema,
                handoffs=handoffs,
                tracing=tracing,
                **more,
            )
        asking = _Asking(self._guard, run, system_instructions, input, tools, handoffs)

        async def send(sending: Sending) -> Answer:
            said, items, offered, ways = asking.sent(sending)
            response = asking.response = await self.inner.get_response(
                system_instructions=said,
                input=items,
                model_settings=model_settings,
                tools=offered,
                output_schema=output_schema,
                handoffs=ways,
                tracing=tracing,
                **more,
            )
            return answer_of(response.output, response.usage)

        await asking.ask(send, self._name)
        response = asking.response
        assert response is not None  # noqa: S101  whoever is not answered raises
        output = [marked_item(item, run.token) for item in response.output]
        await asking.saw(output)
        return replace(response, output=output)

    async def stream_response(  # noqa: PLR0913, PLR0917  as the SDK has it
        self,
        system_instructions: str | None,
        input: Any,  # noqa: A002  as the SDK has it
        model_settings: Any,
        tools: list[Tool],
        output_schema: Any,
        handoffs: list[Handoff[Any, Any]],
        tracing: Any,
        **more: Any,
    ) -> AsyncIterator[Any]:
        """Ask the model, and hand on what it says as it says it."""
        given = (model_settings, output_schema, tracing, more)
        run = RUN.get()
        if run is None or run.over:
            stream = self.inner.stream_response(
                system_instructions,
                input,
                model_settings,
                tools,
                output_schema,
                handoffs,
                tracing,
                **more,
            )
            async for event in stream:
                yield event
            return
        asking = _Asking(self._guard, run, system_instructions, input, tools, handoffs)
        queue: asyncio.Queue[Any] = asyncio.Queue(_EVENTS_MAX)
        task = asyncio.create_task(self._streamed(asking, given, queue))
        try:
            while (event := await queue.get()) is not _END:
                yield _marked_event(event, run.token)
            await task
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _streamed(
        self,
        asking: _Asking,
        given: tuple[Any, Any, Any, dict[str, Any]],
        queue: asyncio.Queue[Any],
    ) -> None:
        """Ask the model, and put what it says into a queue."""
        settings, schema, tracing, more = given
        spoken = _Spoken(queue)

        async def send(sending: Sending) -> Answer:
            spoken.check()
            said, items, offered, ways = asking.sent(sending)
            stream = self.inner.stream_response(
                said, items, settings, offered, schema, ways, tracing, **more
            )
            asking.last = await spoken.hand_on(stream)
            response = field_of(asking.last, "response")
            output = field_of(response, "output") or spoken.done
            return answer_of(output, field_of(response, "usage"))

        try:
            await asking.ask(send, self._name)
            response = field_of(asking.last, "response")
            if response is not None:
                await asking.saw(response.output or [])
                await queue.put(asking.last)
        except asyncio.CancelledError:
            raise  # nobody reads any more
        except BaseException:
            await queue.put(_END)
            raise
        await queue.put(_END)

    @property
    def _name(self) -> str:
        found = getattr(self.inner, "model", None)
        return str(found) if found is not None else type(self.inner).__name__


_END = object()


class _Spoken:
    """What a model says in a stream, as it is handed on.

    Args:
        queue: Of events, for whoever reads them.

    Attributes:
        done: Items that are complete, for streams whose end does not repeat them.
    """

    def __init__(self, queue: asyncio.Queue[Any]) -> None:
        self._queue, self.done = queue, list[Any]()
        self._begun = False
        self._broke: Exception | None = None

    def check(self) -> None:
        """Raise what broke off a stream of which some was handed on: that cannot be taken back."""
        if self._begun and self._broke is not None:
            raise self._broke

    async def hand_on(self, stream: AsyncIterator[Any]) -> Any:
        """Hand on all events but the last, which is returned; None where it did not come."""
        last: Any = None
        try:
            async for event in stream:
                kind = field_of(event, "type")
                if kind == "response.completed":
                    last = event
                    continue
                if kind == "response.output_item.done":
                    self.done.append(field_of(event, "item"))
                await self._queue.put(event)
                self._begun = True
        except Exception as error:
            self._broke = error
            raise
        return last


class _Asking:
    """One prompt on its way to a model."""

    def __init__(  # noqa: PLR0913, PLR0917  what a prompt is made of
        self,
        guard: Shared,
        run: Run,
        instructions: str | None,
        given: Any,
        tools: list[Tool],
        handoffs: list[Handoff[Any, Any]],
    ) -> None:
        self._guard, self._run = guard, run
        owner = get_model_run_owner()
        if owner is not None:
            guard.owned[owner] = run
        items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
        self._tools, self._handoffs = tools, handoffs
        self._instructions, self._items = instructions, items
        self._names: dict[str, str] | None = None
        self.response: ModelResponse | None = None
        self.last: Any = None

    async def ask(self, send: Any, name: str) -> None:
        """Have it sent by `send`, past the guards."""
        run = self._run
        last = self._items[-1] if self._items else None
        if str(field_of(last, "type")).endswith("_output"):
            # A run that goes on: the answers to its calls are the last that was said.
            run.know(field_of(last, "call_id") or "")
            await self._rejected()
        messages = run.prompts.read(self._instructions, self._items)
        await run.ask(messages, self._specs(), send, name)

    async def _rejected(self) -> None:
        """Hand on a person's no to calls of a saved run: the SDK answers those by itself."""
        run, context = self._run, self._run.context
        if run.asked or context is None:
            return
        answered: set[str] = set()
        for item in reversed(self._items):
            call_id = field_of(item, "call_id")
            if str(field_of(item, "type")).endswith("_output"):
                answered.add(call_id)
                continue
            call = call_of(item)
            if call is None or call_id not in answered:
                break
            if call.id in run.proposed:
                continue
            if context.is_tool_approved(call.name, call_id) is False:
                reason = context.get_rejection_message(call.name, call_id) or ""
                await run.refused(self._named(call), reason)

    def _specs(self) -> list[ToolSpec]:
        found = [
            ToolSpec(self._guard.name_of(tool), tool.description, tool.params_json_schema)
            for tool in self._tools
            if isinstance(tool, FunctionTool)
        ]
        found += [
            ToolSpec(one.tool_name, one.tool_description, one.input_json_schema)
            for one in self._handoffs
        ]
        return found

    def sent(
        self, sending: Sending
    ) -> tuple[str | None, list[Any], list[Tool], list[Handoff[Any, Any]]]:
        """Return the instructions, items, tools and handoffs that are to go out."""
        said, items = self._run.prompts.sent(sending)
        offered = {spec.name for spec in sending.request.tools}
        tools = [
            tool
            for tool in self._tools
            if not isinstance(tool, FunctionTool) or self._guard.name_of(tool) in offered
        ]
        return said, items, tools, self._handoffs

    async def saw(self, output: Sequence[Any]) -> None:
        """Say which calls of tools were proposed, and see to it that unknown ones are answered."""
        others = {one.tool_name for one in self._handoffs}
        calls = list(self._function_calls(output, others))
        known = {tool.qualified_name for tool in self._tools if isinstance(tool, FunctionTool)}
        for call in calls:
            if call.name not in known:
                known.add(call.name)
                self._tools.append(self._guard.stand_in(call.name))
        await self._run.saw([self._named(call) for call in calls])

    def _named(self, call: Call) -> Call:
        """Return a call with the name by which the engine knows its tool."""
        if self._names is None:
            tools = [tool for tool in self._tools if isinstance(tool, FunctionTool)]
            self._names = {tool.qualified_name: self._guard.name_of(tool) for tool in tools}
        name = self._names.get(call.name, call.name)
        return call if name == call.name else Call(name, call.arguments, call.id)

    @staticmethod
    def _function_calls(output: Iterable[Any], others: set[str]) -> Iterable[Call]:
        for item in output:
            call = call_of(item) if field_of(item, "type") == "function_call" else None
            if call is not None and call.name not in others:
                yield call


def _marked_event(event: Any, token: str) -> Any:
    """Return an event of a stream with the ids of calls as the SDK is told them."""
    item = field_of(event, "item")
    if item is not None and field_of(item, "call_id"):
        return event.model_copy(update={"item": marked_item(item, token)})
    response = field_of(event, "response")
    output = field_of(response, "output")
    if not output or not any(field_of(one, "call_id") for one in output):
        return event
    made = [marked_item(one, token) for one in output]
    return event.model_copy(update={"response": response.model_copy(update={"output": made})})

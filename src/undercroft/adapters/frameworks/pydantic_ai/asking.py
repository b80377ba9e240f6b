"""The model of a pydantic-ai run, asked past the guards: whole or streamed.

Keeps: a stream is opened, read and closed by whoever reads it, in one task; the guards are told
what came of it when it is over. What continues an answer that a provider suspended goes by.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from undercroft.adapters.frameworks.pydantic_ai.messages import Translated, sent
from undercroft.errors import UnknownOutcomeError
from undercroft.model.foreign import Ask, Sending
from undercroft.model.message import Answer, Message, ToolSpec

# Sends messages with parameters; returns the answer, or raises.
Send = Callable[[list[ModelMessage], ModelRequestParameters], Awaitable[ModelResponse]]


class Asking(Protocol):
    """The run that asks."""

    translated: Translated

    async def ask(
        self, messages: list[Message], specs: list[ToolSpec], ask: Ask, model: Model
    ) -> Answer:
        """Have a model asked past the guards; raises what asking it raised."""

    async def answered(self, response: ModelResponse, parameters: ModelRequestParameters) -> None:
        """Be told what a model said, before anything comes of it."""


class GuardedModel(WrapperModel):
    """The model of a run, as the capability gives it to the framework."""

    def __init__(self, wrapped: Model, run: Asking) -> None:
        super().__init__(wrapped)
        self._run = run

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask for a whole answer."""
        if _continues(messages):
            return await self.wrapped.request(messages, model_settings, model_request_parameters)

        async def send(
            out: list[ModelMessage], parameters: ModelRequestParameters
        ) -> ModelResponse:
            return await self.wrapped.request(out, model_settings, parameters)

        response = await asked(self._run, self.wrapped, messages, model_request_parameters, send)
        await self._run.answered(response, model_request_parameters)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Ask for an answer as a stream."""
        if _continues(messages):
            async with self.wrapped.request_stream(
                messages, model_settings, model_request_parameters, run_context
            ) as stream:
                yield stream
            return
        relay = _Relay()
        task = asyncio.ensure_future(
            asked(self._run, self.wrapped, messages, model_request_parameters, relay.send)
        )
        try:
            while True:
                out, parameters = await relay.asked(task)
                opening = self.wrapped.request_stream(out, model_settings, parameters, run_context)
                try:
                    stream = await opening.__aenter__()
                except Exception as error:  # noqa: BLE001  whoever asked judges it
                    relay.failed(error)
                    continue
                break
        except BaseException:
            await _ended(task)
            raise
        try:
            yield stream
        except BaseException as error:  # noqa: BLE001  raised again, unless the stream takes it
            relay.broke(error)
            try:
                if not await opening.__aexit__(type(error), error, error.__traceback__):
                    raise
            finally:
                await _ended(task)
        else:
            await opening.__aexit__(None, None, None)
            relay.answered(stream.get())
            response = await task
            await self._run.answered(response, model_request_parameters)


def _continues(messages: list[ModelMessage]) -> bool:
    """Whether a request goes on with an answer that the provider suspended."""
    return bool(messages) and getattr(messages[-1], "state", "") == "suspended"


async def asked(
    run: Asking,
    model: Model,
    messages: list[ModelMessage],
    parameters: ModelRequestParameters,
    send: Send,
) -> ModelResponse:
    """Have a model asked past the guards of a run; raises what asking it raised."""
    told, places = run.translated.messages(messages, parameters)
    specs = _specs(parameters)
    last: ModelResponse | None = None

    async def ask(sending: Sending) -> Answer:
        nonlocal last
        out, narrowed = sent(sending, messages, places), _offered(parameters, specs, sending)
        last = await send(out, narrowed)
        return run.translated.answer(last)

    await run.ask(told, specs, ask, model)
    if last is None:
        raise RuntimeError("an answer came from nowhere")
    return last


def _specs(parameters: ModelRequestParameters) -> list[ToolSpec]:
    """Return the tools that the model is shown."""
    shown = [
        tool
        for tool in parameters.function_tools
        if not tool.defer_loading or tool.name in parameters.revealed_tool_names
    ]
    return [
        ToolSpec(tool.name, tool.description or "", tool.parameters_json_schema)
        for tool in [*shown, *parameters.output_tools]
    ]


def _offered(
    parameters: ModelRequestParameters, specs: list[ToolSpec], sending: Sending
) -> ModelRequestParameters:
    """Return the parameters of a request without the tools that were withdrawn."""
    away = {spec.name for spec in specs} - {spec.name for spec in sending.request.tools}
    if not away:
        return parameters
    kept = [tool for tool in parameters.function_tools if tool.name not in away]
    return replace(parameters, function_tools=kept)


class _Relay:
    """Between whoever reads a stream and the guards, which run in a task of their own."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._out: asyncio.Future[tuple[list[ModelMessage], ModelRequestParameters]]
        self._out = loop.create_future()
        self._in: asyncio.Future[ModelResponse] = loop.create_future()

    async def send(
        self, out: list[ModelMessage], parameters: ModelRequestParameters
    ) -> ModelResponse:
        """Have the reader send a request; return what the stream came to."""
        self._in = asyncio.get_running_loop().create_future()
        if self._out.done():
            raise RuntimeError("the stream has been read already")
        self._out.set_result((out, parameters))
        return await self._in

    async def asked(
        self, task: asyncio.Future[ModelResponse]
    ) -> tuple[list[ModelMessage], ModelRequestParameters]:
        """Return what to send; raises why nothing may be."""
        either: set[asyncio.Future[Any]] = {self._out, task}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._out.done():
            task.result()
            raise RuntimeError("an answer came from nowhere")
        return self._out.result()

    def failed(self, error: Exception) -> None:
        """Say that the stream never began; it may be asked for again."""
        self._out = asyncio.get_running_loop().create_future()
        self._in.set_exception(error)

    def broke(self, error: BaseException) -> None:
        """Say that the stream was not read to its end: what was read cannot be read again."""
        if not self._in.done():
            words = str(error) or type(error).__name__
            self._in.set_exception(UnknownOutcomeError(f"the stream broke off: {words}"))

    def answered(self, response: ModelResponse) -> None:
        """Say what the stream came to."""
        if not self._in.done():
            self._in.set_result(response)


async def _ended(task: asyncio.Future[ModelResponse]) -> None:
    """Let the guards write down what came of it, or stop them where nothing did."""
    if not task.done():
        await asyncio.wait({task}, timeout=1.0)
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # the reader has it already

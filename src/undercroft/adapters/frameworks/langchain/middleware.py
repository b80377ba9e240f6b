"""Undercroft under LangChain's agents: the hooks of an agent, and of a `ToolNode` alone.

Keeps: it only translates. What may run, when and how often, the engine decides; how a tool is
called, how a person is asked and what the model is sent, LangChain does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.config import get_config
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from undercroft import errors
from undercroft.adapters.frameworks.langchain.calling import Calling, LoopError
from undercroft.adapters.frameworks.langchain.messages import text_of
from undercroft.adapters.frameworks.langchain.prompting import Prompting, model_of
from undercroft.adapters.frameworks.langchain.runs import (
    ROOT,
    ROOTS,
    WITHIN,
    Config,
    Run,
    Toolsets,
    namespace,
)
from undercroft.adapters.frameworks.langchain.tools import spec_of
from undercroft.model.foreign import Ask, Sending
from undercroft.model.message import Answer
from undercroft.ports import Host

Returned: TypeAlias = ToolMessage | Command[Any]


class Undercroft(AgentMiddleware[Any, Any, Any]):
    """Middleware that puts Undercroft under an agent; last in the list, so nearest to the tools.

        agent = create_agent(model, tools, middleware=[Undercroft(uc.Runtime("undercroft.db"))])

    For a graph of your own: `ToolNode(tools, wrap_tool_call=u.wrap_tool_call,
    awrap_tool_call=u.awrap_tool_call)`.

    Args:
        host: A runtime, open or not.
        effects: Path of a TOML file that declares what tools do, or a mapping like it.
        name: Of the agent, for the record, where it has no name of its own.
    """

    def __init__(
        self, host: Host, *, effects: str | Mapping[str, Any] | None = None, name: str = "agent"
    ) -> None:
        super().__init__()
        self._host, self._title = host, name
        self._toolsets = Toolsets(host, effects)

    def _run(self, config: Config) -> Run:
        """Return the run that a hook belongs to, begun if it was not."""
        root, within = ROOT.get(), WITHIN.get()
        if within is not None:
            runs = within.runs
        elif root is not None:
            runs = ROOTS.runs.setdefault(root.id, [])
        else:
            runs = []
        for run in runs:
            if run.host is self._host:
                return run
        thread = config.get("configurable", {}).get("thread_id")
        name = config.get("metadata", {}).get("lc_agent_name") or self._title
        run = Run(self._host, None if thread is None else str(thread), name)
        runs.append(run)
        return run

    # ------------------------------------------------------------------ its model

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Have the model asked, past the guards."""
        config = get_config()
        run, prompting = self._run(config), Prompting(request)
        caller = run.caller()

        async def ask(sending: Sending) -> Answer:
            made = prompting.request_of(sending)
            return prompting.took(await caller.lend(lambda: handler(made))())

        run.wait(caller, lambda: self._ask(run, config, prompting, ask))
        return prompting.answered()

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Have the model asked, past the guards."""
        config = get_config()
        run, prompting = self._run(config), Prompting(request)
        back = run.back()

        async def ask(sending: Sending) -> Answer:
            made = prompting.request_of(sending)
            return prompting.took(await back(lambda: handler(made)))

        await run.here(lambda: self._ask(run, config, prompting, ask))
        return prompting.answered()

    async def _ask(self, run: Run, config: Config, prompting: Prompting, ask: Ask) -> None:
        request = prompting.given
        line = run.line(namespace(config))
        tools = {tool.name: tool for tool in request.tools if isinstance(tool, BaseTool)}
        guest = run.use(tools, self._toolsets)
        name, service = model_of(request.model)
        await guest.ask(
            prompting.messages(line.messages),
            [spec_of(tool) for tool in request.tools],
            ask,
            name=name,
            service=service,
            branch=line.branch,
        )

    # ------------------------------------------------------------------ its end

    def after_agent(self, state: Any, runtime: Any) -> None:  # noqa: ARG002  the hook's
        """Take note of what the user is told."""
        config = get_config()
        run, text = self._run(config), _last_text(state)
        run.wait(run.caller(), lambda: run.finished(namespace(config), text))

    async def aafter_agent(self, state: Any, runtime: Any) -> None:  # noqa: ARG002  the hook's
        """Take note of what the user is told."""
        config = get_config()
        run, text = self._run(config), _last_text(state)
        await run.here(lambda: run.finished(namespace(config), text))

    # ------------------------------------------------------------------ its tools

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Returned]
    ) -> Returned:
        """Have one call of a tool carried out, when it is its turn."""
        run = self._run(request.runtime.config)
        calling = Calling(run, self._toolsets, request)
        caller = run.caller()
        carry_out = calling.while_open(caller.lend(lambda: calling.inside(handler)))
        try:
            waiting = run.wait(caller, lambda: calling.carry(carry_out))
            while waiting is not None:
                word = calling.word(waiting)
                if word is None:
                    break
                waiting = run.wait(caller, partial(calling.decided, word, carry_out))
        except errors.LoopError as error:
            raise LoopError(error) from error
        finally:
            run.wait(caller, calling.settled)
        came: Returned = calling.returned()
        return came

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Returned]]
    ) -> Returned:
        """Have one call of a tool carried out, when it is its turn."""
        run = self._run(request.runtime.config)
        calling = Calling(run, self._toolsets, request)
        back = run.back()

        carry_out = calling.while_open(lambda: back(lambda: calling.ainside(handler)))
        try:
            waiting = await run.here(lambda: calling.carry(carry_out))
            while waiting is not None:
                word = calling.word(waiting)
                if word is None:
                    break
                waiting = await run.here(partial(calling.decided, word, carry_out))
        except errors.LoopError as error:
            raise LoopError(error) from error
        finally:
            await run.here(calling.settled)
        came: Returned = calling.returned()
        return came


def _last_text(state: Any) -> str:
    """Return what an agent said last."""
    messages = state["messages"] if isinstance(state, Mapping) else state.messages
    last = messages[-1] if messages else None
    return text_of(last) if isinstance(last, AIMessage | ToolMessage) else ""

"""The capability that puts Undercroft under an agent of pydantic-ai.

Keeps: one object for an agent, a state of its own for each of its runs; every hook is one that
the framework documents.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic_ai import RunContext
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolDefinition

from undercroft.adapters.frameworks.pydantic_ai.asking import GuardedModel
from undercroft.adapters.frameworks.pydantic_ai.run import AgentRun
from undercroft.adapters.frameworks.pydantic_ai.toolsets import Toolsets
from undercroft.ports import Host

Session = str | Callable[[RunContext[Any]], str | None] | None


def by_conversation(ctx: RunContext[Any]) -> str | None:
    """Return the framework's own id of the conversation that a run belongs to.

    It is kept in its messages, so that a run that goes on from saved ones finds its records.
    """
    found: str | None = ctx.conversation_id
    return found


class Undercroft(AbstractCapability[Any]):
    """Has the runs of an agent go through Undercroft.

        Agent(model, tools=[…], capabilities=[Undercroft(uc.Runtime("undercroft.db"))])

    Args:
        runtime: An `undercroft.Runtime`, open or not.
        session: The conversation that a run belongs to, by which one that goes on finds what was
            recorded; or a function that returns it. As the framework has it, if left out. None:
            nothing is found again, and runs of one conversation do not wait for each other.
        effects: What tools do, by their names: a path of a TOML file, or a mapping.
        name: Of the agent, in records; its own, if left out.
    """

    id: str | None = "undercroft"

    def __init__(
        self,
        runtime: Host,
        *,
        session: Session = by_conversation,
        effects: Any = None,
        name: str | None = None,
    ) -> None:
        self._host, self._session, self._name = runtime, session, name
        self._toolsets = Toolsets(runtime, effects)
        self._run: AgentRun | None = None

    @classmethod
    def combine(cls, capabilities: Sequence[AbstractCapability[Any]]) -> AbstractCapability[Any]:
        """Return which of several counts: the last."""
        return capabilities[-1]

    @classmethod
    def get_serialization_name(cls) -> str | None:
        """Return that no file describes it: a runtime is no data."""
        return None

    def get_ordering(self) -> CapabilityOrdering | None:
        """Stand next to the model and the tools, inside whatever else an agent has."""
        return CapabilityOrdering(position="innermost")

    def for_agent(self, agent: AbstractAgent[Any, Any]) -> AbstractCapability[Any]:
        """Return it with the name of its agent."""
        if self._name is not None or not agent.name:
            return self
        return self._with(_name=agent.name)

    async def for_run(self, ctx: RunContext[Any]) -> AbstractCapability[Any]:
        """Return it with a state of its own for one run."""
        session = self._session
        found = session(ctx) if callable(session) else session
        agent = ctx.agent
        name = self._name or (agent.name if agent is not None else None) or "agent"
        return self._with(_run=AgentRun(self._host, self._toolsets, name, found))

    def _with(self, **given: Any) -> Undercroft:
        made = copy.copy(self)
        for name, value in given.items():
            setattr(made, name, value)
        return made

    @property
    def _at(self) -> AgentRun:
        assert self._run is not None  # noqa: S101  hooks are those of what `for_run` returned
        return self._run

    # ------------------------------------------------------------------ the run

    async def wrap_run(
        self,
        ctx: RunContext[Any],  # noqa: ARG002  the framework's
        *,
        handler: Any,
    ) -> AgentRunResult[Any]:
        """Be there for a run until it ends or pauses."""
        run = self._at
        try:
            result: AgentRunResult[Any] = await handler()
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt):
            await run.stop()
            raise
        except BaseException as error:
            await run.fail(error)
            raise
        if isinstance(result.output, DeferredToolRequests):
            await run.pause()
        else:
            await run.end(result.output)
        return result

    async def before_node_run(self, ctx: RunContext[Any], *, node: Any) -> Any:
        """Hear what a run was given to go on with."""
        results = getattr(node, "deferred_tool_results", None)
        if isinstance(results, DeferredToolResults):
            filled = self._at.said(results, ctx.messages)
            if filled is not results:
                return replace(node, deferred_tool_results=filled)
        return node

    # ------------------------------------------------------------------ its model

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Know which tools a run has in this step."""
        self._at.step(ctx)
        return request_context

    def get_wrapper_model(self, model: Model) -> Model | None:
        """Have the model asked past the guards."""
        return None if self._run is None else GuardedModel(model, self._run)

    # ------------------------------------------------------------------ its tools

    async def wrap_tool_validate(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: Any,
        handler: Any,
    ) -> dict[str, Any]:
        """Hear of a call before any of its batch runs, and who agreed to it."""
        run = self._at
        try:
            validated: dict[str, Any] = await handler(args)
        except (ValidationError, ModelRetry) as error:
            await run.refused(ctx, call, error)
            raise
        if ctx.tool_call_approved:
            await run.approved(ctx, call)
        elif tool_def.kind == "unapproved":
            await run.known(ctx, call)
            await run.question(call)
        return validated

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,  # noqa: ARG002  the framework's
        args: dict[str, Any],
        handler: Any,
    ) -> Any:
        """Run a call when it is its turn."""
        return await self._at.execute(ctx, call, args, handler)

    async def handle_deferred_tool_calls(
        self,
        ctx: RunContext[Any],  # noqa: ARG002  the framework's
        *,
        requests: DeferredToolRequests,
    ) -> DeferredToolResults | None:
        """Hear which calls nobody has decided about; decide nothing."""
        self._at.undecided([call.tool_call_id for call in requests.approvals])
        return None

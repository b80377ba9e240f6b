"""A tool of the SDK with the engine round it: asked for in its turn, carried out as before.

Keeps: what the SDK makes of a tool's exception or of its taking too long reaches the model as it
did; what was refused reaches it as the call's output, with the id of the call.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from agents import FunctionTool, ToolTimeoutError
from agents.agent_tool_state import drop_agent_tool_run_result, get_agent_tool_state_scope
from agents.tool import (
    default_tool_timeout_error_message,
    invoke_function_tool,
    maybe_invoke_function_tool_failure_error_function,
    resolve_function_tool_failure_error_function,
    set_function_tool_failure_error_function,
)
from agents.tool_guardrails import (
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolInputGuardrailData,
)

from undercroft.adapters.frameworks.openai_agents.outputs import plain
from undercroft.adapters.frameworks.openai_agents.running import (
    BY_POLICY,
    NEST,
    RUN,
    AgentLoopError,
    Nest,
    Pending,
    Run,
)
from undercroft.adapters.frameworks.openai_agents.talk import unmarked
from undercroft.errors import PausedError
from undercroft.model.foreign import ForeignTool, Hints
from undercroft.model.step import Call, Result, StepStatus


class _Caught:
    """What a tool raised, while the SDK made a text for the model of it."""

    error: Exception | None = None


_CAUGHT: ContextVar[_Caught | None] = ContextVar("undercroft_agents_caught", default=None)


class ToolFailedError(Exception):
    """A call failed, and not in its tool: it took too long, or its service is given up."""


def foreign_tool(tool: FunctionTool, name: str) -> ForeignTool:
    """Return a tool of the SDK as the engine knows it.

    Args:
        tool: As its user made it.
        name: By which the engine knows it; the tool's own, unless two agents use it for two tools.
    """
    hints = Hints(approval=tool.needs_approval is not False)
    origin = getattr(tool, "_mcp_tool_binding", None)
    service = None
    noted = tool.mcp_annotations
    if origin is not None:
        service = f"mcp/{origin[0]}"
    if noted is not None:
        hints = Hints(
            read_only=bool(_noted(noted, "read_only")),
            destructive=bool(_noted(noted, "destructive")),
            idempotent=bool(_noted(noted, "idempotent")),
            approval=hints.approval,
        )
    function = getattr(tool, "__wrapped__", None)
    return ForeignTool(
        name,
        tool.description,
        tool.params_json_schema,
        service=service,
        hints=hints,
        origins=(tool,) if function is None else (tool, function),
    )


def _noted(annotations: Any, name: str) -> Any:
    """Return a hint of a server's, by either of the two spellings that releases of MCP have had."""
    first, *rest = name.split("_")
    camel = first + "".join(part.title() for part in rest) + "Hint"
    found = getattr(annotations, f"{name}_hint", None)
    return getattr(annotations, camel, None) if found is None else found


class Invoker:
    """What the SDK calls in a tool's place; it says at once what it takes, for it is asked often.

    Args:
        guarded: What stands round the tool.
    """

    __slots__ = ("guarded",)
    __signature__ = inspect.Signature(
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in ("context", "arguments")]
    )

    def __init__(self, guarded: GuardedTool) -> None:
        self.guarded = guarded

    def __call__(self, context: Any, arguments: str) -> Awaitable[Any]:
        """Carry a call out in its turn."""
        return self.guarded.invoke(context, arguments)


class GuardedTool:
    """What stands round one tool of the SDK.

    Attributes:
        name: By which the engine knows it.
        given: The tool as its user made it.
        made: What the SDK is given in its place.
    """

    def __init__(self, given: FunctionTool, name: str) -> None:
        self.given, self.name = given, name
        self.foreign = foreign_tool(given, name)
        self._inner = self._core(given)
        made = self.made = copy.copy(given)
        made.on_invoke_tool = Invoker(self)
        made.timeout_seconds = None  # it counts from when the call begins, not from its asking
        self.typed = given.output_json_schema is not None
        if given.tool_input_guardrails:
            made.tool_input_guardrails = [
                self._watching(one) for one in given.tool_input_guardrails
            ]
        if self.typed:
            # What is refused has not the shape that was promised; the SDK sends it as it is here.
            last: ToolInputGuardrail[Any] = ToolInputGuardrail(self._refused, name="undercroft")
            made.tool_input_guardrails = [*(made.tool_input_guardrails or []), last]

    @property
    def served(self) -> bool:
        """Whether a server of the Model Context Protocol has it."""
        return getattr(self.given, "_mcp_tool_binding", None) is not None

    def is_like(self, other: FunctionTool) -> bool:
        """Whether a tool that was listed anew is the same as before."""
        mine = self.given
        return self.served and (
            getattr(mine, "_mcp_tool_binding", None) == getattr(other, "_mcp_tool_binding", None)
            and mine.description == other.description
            and mine.params_json_schema == other.params_json_schema
            and mine.mcp_annotations == other.mcp_annotations
        )

    def renewed(self, other: FunctionTool) -> FunctionTool:
        """Return this one round a tool that was listed anew, which calls its server by itself."""
        self.given, self._inner = other, self._core(other)
        return self.made

    def ask_people(self) -> None:
        """Let the engine say which calls wait for a person."""
        self.made.needs_approval = self.needs_approval

    def _core(self, given: FunctionTool) -> FunctionTool:
        """Return the tool as it is carried out: what it raises is noticed on its way."""
        inner = copy.copy(given)
        # The SDK's own wrappers of functions take what any tool is given.
        own = hasattr(inner.on_invoke_tool, "__agents_bind_function_tool__")
        self._direct = own and inner.timeout_seconds is None
        if inner.timeout_seconds is not None:
            inner.timeout_behavior = "raise_exception"

        async def notice(context: Any, error: Exception) -> Any:
            caught = _CAUGHT.get()
            if caught is not None:
                caught.error = error
            return await maybe_invoke_function_tool_failure_error_function(
                function_tool=given, context=context, error=error
            )

        if resolve_function_tool_failure_error_function(given) is not None:
            set_function_tool_failure_error_function(inner, notice)
        return inner

    # ------------------------------------------------------------------ before it runs

    def _call(self, call_id: str, arguments: Any) -> Call:
        given = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return Call(self.name, given, unmarked(call_id))

    async def needs_approval(self, context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        """Say whether a call waits for a person, or behind one that does."""
        run = RUN.get()
        if run is None or run.over:
            return await _asked(self.given.needs_approval, context, arguments, call_id)
        pending = await run.meet(self._call(call_id, arguments), context, call_id)
        if await run.settled(pending) or not run.waits(pending):
            return False
        policy = self.given.needs_approval
        if run.guest.question(pending.call) is None or not callable(policy):
            return True
        if await _asked(policy, context, arguments, call_id):
            return True
        await run.decide(pending, granted=True, by=BY_POLICY, reason="no person is needed")
        return not await run.settled(pending) and run.waits(pending)

    def _watching(self, guardrail: ToolInputGuardrail[Any]) -> ToolInputGuardrail[Any]:
        """Return a guardrail that tells when it keeps a call from being carried out."""

        async def watch(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
            found = await guardrail.run(data)
            if found.behavior["type"] != "allow":
                run = RUN.get()
                pending = (
                    None if run is None else run.pending.get(unmarked(data.context.tool_call_id))
                )
                if pending is not None:
                    pending.give_up(f"the guardrail {guardrail.get_name()!r} said no")
            return found

        return ToolInputGuardrail(watch, name=guardrail.get_name())

    async def _refused(self, data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        """Refuse in the SDK's own way what the engine refuses."""
        run = RUN.get()
        if run is None or run.over:
            return ToolGuardrailFunctionOutput.allow()
        context = data.context
        call = self._call(context.tool_call_id, context.tool_arguments)
        pending = await run.meet(call, context, context.tool_call_id)
        if await run.settled(pending) or pending.result is None:
            return ToolGuardrailFunctionOutput.allow()
        if pending.result.status in (StepStatus.OK, StepStatus.FAILED):
            return ToolGuardrailFunctionOutput.allow()
        return ToolGuardrailFunctionOutput.reject_content(self._text(run, pending))

    # ------------------------------------------------------------------ while it runs

    async def invoke(self, context: Any, arguments: str) -> Any:
        """Carry a call out in its turn, as the SDK would."""
        run = RUN.get()
        if run is None or run.over:
            return await self.given.on_invoke_tool(context, arguments)
        call_id = context.tool_call_id
        pending = await run.meet(self._call(call_id, arguments), context, call_id)
        if pending.blocked:
            return self._held("It is held behind a call that waits for a person.")

        async def body() -> Any:
            return await self._carry_out(run, pending, context, arguments)

        result = await run.work(pending, body, context)
        return await self._given_back(run, pending, result, context)

    async def _carry_out(self, run: Run, pending: Pending, context: Any, arguments: str) -> Any:
        caught = _Caught()
        token = _CAUGHT.set(caught)
        nest = Nest()
        inside = NEST.set(nest)
        try:
            if self._direct:
                value = await self._inner.on_invoke_tool(context, arguments)
            else:
                value = await invoke_function_tool(
                    function_tool=self._inner, context=context, arguments=arguments
                )
        except BaseException as error:
            pending.raised = error
            raise
        finally:
            _CAUGHT.reset(token)
            NEST.reset(inside)
        if caught.error is not None:
            pending.raised, pending.handled = caught.error, value
            if isinstance(caught.error, AgentLoopError):
                run.stopped = caught.error
            raise caught.error
        pending.value, pending.live = value, True
        if nest.inner is not None and nest.inner.paused:
            raise PausedError(self.given.name, "somebody is asked inside of it", "Decide there.")
        return plain(value, typed=self.typed)

    # ------------------------------------------------------------------ after it ran

    async def _given_back(self, run: Run, pending: Pending, result: Result, context: Any) -> Any:
        """Return what the SDK is to have of a call, or raise what it would have met."""
        if result.status is StepStatus.OK:
            if pending.live and not result.stood_in:
                return pending.value
            if context.tool_call is not None:
                # What an agent asked inside of it was answered before: the SDK would ask again.
                scope = get_agent_tool_state_scope(context)
                drop_agent_tool_run_result(context.tool_call, scope_id=scope)
            return result.data if not result.stood_in else result.text
        if pending.live and run.waits(pending):
            return pending.value  # the SDK has the questions of the agent inside
        doubt = result.status is StepStatus.IN_DOUBT and pending.raised is not None
        if result.status is not StepStatus.FAILED and not doubt:
            return self._text(run, pending)
        if run.stopped is not None:
            raise run.stopped
        if pending.live:
            return pending.value  # it returned, and what it returned could not be kept
        said = await self._failed(pending, result, context)
        # As before, and that nobody knows whether it happened.
        return f"{said}\n{result.text}" if doubt else said

    async def _failed(self, pending: Pending, result: Result, context: Any) -> Any:
        error = pending.raised
        if isinstance(error, ToolTimeoutError) and self.given.timeout_seconds is not None:
            return await self._late(error, context)
        if pending.handled is not None:
            return pending.handled
        if error is None:
            error = ToolFailedError(str(result.error))
            said = await maybe_invoke_function_tool_failure_error_function(
                function_tool=self.given, context=context, error=error
            )
            if said is not None:
                return said
        raise error

    async def _late(self, error: ToolTimeoutError, context: Any) -> Any:
        """Do with a call that took too long what its user said."""
        given = self.given
        if given.timeout_behavior == "raise_exception":
            raise error
        said = given.timeout_error_function
        if said is None:
            return default_tool_timeout_error_message(
                tool_name=given.name, timeout_seconds=given.timeout_seconds or 0.0
            )
        found: Any = said(context, error)
        return await found if isinstance(found, Awaitable) else found

    def _text(self, run: Run, pending: Pending) -> str:
        """Return what the model reads of a call that did not run."""
        assert pending.result is not None  # noqa: S101  it settled
        if not run.waits(pending):
            return pending.result.text
        question = run.guest.question(pending.call)
        why = (
            "It is held behind a call that waits for a person."
            if question is None
            else "What was agreed to has changed since."
        )
        return self._held(why)

    def _held(self, why: str) -> str:
        refusal = {
            "rule": "sequencing.approval",
            "message": f"{self.given.name} did not run. {why}",
            "next": "Propose it again if it is still wanted.",
        }
        return json.dumps({"refused": refusal})


async def _asked(
    policy: bool | Callable[..., Any],  # noqa: FBT001  as the SDK has it
    context: Any,
    arguments: dict[str, Any],
    call_id: str,
) -> bool:
    """Return what a tool's user says of a call: whether a person is to be asked."""
    if isinstance(policy, bool):
        return policy
    said = policy(context, arguments, call_id)
    return bool(await said if isinstance(said, Awaitable) else said)

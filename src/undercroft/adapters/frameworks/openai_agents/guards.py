"""Clones of agents under the guards: their tools, their models, and the agents that they call.

Keeps: an agent of the user's is never changed; all agents that a run may come to share one turn.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, TypeVar, cast

from agents import Agent, AgentHooks, FunctionTool, Handoff, ModelProvider, RunContextWrapper, Tool
from agents.models.multi_provider import MultiProvider

from undercroft.adapters.frameworks.openai_agents.asking import GuardedModel
from undercroft.adapters.frameworks.openai_agents.running import NEST, RUN, Run
from undercroft.adapters.frameworks.openai_agents.tooling import GuardedTool, Invoker, foreign_tool
from undercroft.errors import DeclarationError
from undercroft.model.foreign import ForeignTool
from undercroft.ports import Host

Session = str | Callable[[RunContextWrapper[Any]], str | None] | None
A = TypeVar("A", bound="Agent[Any]")


def undercroft_agent(
    agent: A,
    runtime: Host,
    *,
    session: Session = None,
    effects: str | Mapping[str, Any] | None = None,
    model_provider: ModelProvider | None = None,
) -> A:
    """Return a clone of an agent with the six layers under it.

    Args:
        agent: With its handoffs, MCP servers and agents that are its tools; it stays as it is.
        runtime: `uc.Runtime(…)`, open or not.
        session: The conversation that its runs belong to, or a function of the run's context that
            returns it. A session has one run at a time. Without one each run is on its own, and is
            found again from its saved state.
        effects: What its tools do: a TOML file with `[tools.NAME]`, or such a mapping.
        model_provider: What finds models by their names; give it here if your `RunConfig` has one.

    Raises:
        DeclarationError: Something that is declared of a tool cannot be met by it.
    """
    guard = Guard(agent.name, runtime, session, effects, model_provider)
    made = guard.agent(agent)
    guard.refresh()
    return made


def tools_of(agent: Agent[Any] | FunctionTool) -> list[ForeignTool]:
    """Return the tools of an agent, of those that it hands off to, and of those that it uses.

    Of a tool by itself it is that one.

    Those of its MCP servers are not among them: a server says what it has once it is connected.
    """
    found: dict[int, FunctionTool] = {}
    known = [agent] if isinstance(agent, FunctionTool) else []
    for tools in [known] if known else [one.tools for one in _agents(cast("Any", agent))]:
        for tool in tools:
            if isinstance(tool, FunctionTool):
                found.setdefault(id(tool), tool)
    taken: set[str] = set()
    made: list[ForeignTool] = []
    for tool in found.values():
        given = _given(tool)
        if given.qualified_name not in taken:
            taken.add(given.qualified_name)
            made.append(foreign_tool(given, given.qualified_name))
    return made


def _agents(agent: Agent[Any]) -> list[Agent[Any]]:
    """Return all agents that a run may come to, this one first."""
    seen: dict[int, Agent[Any]] = {}
    queue = [agent]
    while queue:
        one = queue.pop(0)
        if id(one) in seen:
            continue
        seen[id(one)] = one
        queue += [found for h in one.handoffs if (found := _target(h)) is not None]
        for tool in one.tools:
            inner = getattr(tool, "_agent_instance", None)
            if isinstance(inner, Agent):
                queue.append(inner)
    return list(seen.values())


def _target(given: Any) -> Agent[Any] | None:
    """Return the agent that a handoff leads to, if that is known before it is made."""
    if isinstance(given, Agent):
        return given
    found = getattr(given, "_agent_ref", None)
    made = found() if found is not None else None
    return made if isinstance(made, Agent) else None


def _given(tool: FunctionTool) -> FunctionTool:
    """Return the tool as its user made it."""
    invoker = tool.on_invoke_tool
    return invoker.guarded.given if isinstance(invoker, Invoker) else tool


class Guard:
    """What all agents share that one run may come to.

    Attributes:
        models: What finds models by their names.
        owned: Runs that asked a model, by what stands for them in the SDK.
    """

    def __init__(
        self,
        name: str,
        host: Host,
        session: Session,
        effects: str | Mapping[str, Any] | None,
        models: ModelProvider | None,
    ) -> None:
        self._name, self._host, self._session, self._effects = name, host, session, effects
        self.models = models or MultiProvider()
        # By the identity of what was given, with that itself, so that no other has its identity.
        self._agents: dict[int, tuple[Agent[Any], Agent[Any]]] = {}
        self._tools: dict[int, tuple[FunctionTool, GuardedTool]] = {}
        self._names: dict[str, GuardedTool] = {}
        self._kinds: dict[type, type] = {}
        self._runs: weakref.WeakKeyDictionary[RunContextWrapper[Any], Run] = (
            weakref.WeakKeyDictionary()
        )
        self.owned: weakref.WeakKeyDictionary[object, Run] = weakref.WeakKeyDictionary()
        self._toolset: Any = None
        self._stale = True

    # ------------------------------------------------------------------ agents

    def agent(self, given: A) -> A:
        """Return the clone of an agent."""
        if isinstance(given, Guarded):
            return given
        found = self._agents.get(id(given))
        if found is None:
            made: Any = object.__new__(self._kind(type(given)))
            made.__dict__.update(given.__dict__)
            found = self._agents[id(given)] = given, made
            self.adopt(made)
        return found[1]  # type: ignore[return-value]

    def _kind(self, kind: type) -> type:
        found = self._kinds.get(kind)
        if found is None:
            body = {"undercroft_guard": self, "__module__": kind.__module__}
            found = self._kinds[kind] = type(kind.__name__, (Guarded, kind), body)
        return found

    def adopt(self, agent: Agent[Any]) -> None:
        """Put the guards round all that an agent has; what is under them stays."""
        agent.tools = [self.tool(tool, agent) for tool in agent.tools]
        agent.handoffs = [self._handoff(given) for given in agent.handoffs]
        if not isinstance(agent.model, GuardedModel):
            agent.model = GuardedModel(self, agent.model)
        if not isinstance(agent.hooks, GuardedHooks):
            agent.hooks = GuardedHooks(agent.hooks)

    def _handoff(self, given: Any) -> Any:
        if isinstance(given, Agent):
            return self.agent(given)
        if not isinstance(given, Handoff) or hasattr(given.on_invoke_handoff, "undercroft_guard"):
            return given
        invoke = given.on_invoke_handoff

        async def lead(context: RunContextWrapper[Any], arguments: str) -> Any:
            return self.agent(await invoke(context, arguments))

        lead.undercroft_guard = self  # type: ignore[attr-defined]
        made = copy.copy(given)
        made.on_invoke_handoff = lead
        target = _target(given)
        if target is not None:
            made._agent_ref = weakref.ref(self.agent(target))  # noqa: SLF001  saved runs need it
        return made

    # ------------------------------------------------------------------ tools

    def tool(self, given: Tool, agent: Agent[Any]) -> Tool:
        """Return a tool with the guards round it; what the SDK does not run itself stays."""
        if not isinstance(given, FunctionTool) or _given(given) is not given:
            return given
        found = self._tools.get(id(given))
        if found is None:
            tool = given
            if isinstance(inner := getattr(given, "_agent_instance", None), Agent):
                tool = _used_by(given, inner, self.agent(inner))
            found = self._tools[id(given)] = given, self._add(given, tool, agent)
        return found[1].made

    def _add(self, given: FunctionTool, tool: FunctionTool, agent: Agent[Any]) -> GuardedTool:
        name = given.qualified_name
        if name in self._names:
            name = f"{agent.name}.{name}"
        if name in self._names:
            raise DeclarationError(
                f"tool {given.name!r} of agent {agent.name!r}",
                "two tools have this name",
                "Give one another name: function_tool(name_override=…).",
            )
        made = self._names[name] = GuardedTool(tool, name)
        self._stale = True
        return made

    def listed(self, given: FunctionTool, agent: Agent[Any]) -> FunctionTool:
        """Return a tool of a server, which the SDK makes anew each time that it is listed."""
        name = given.qualified_name
        known = self._names.get(name)
        if known is not None and known.is_like(given):
            return known.renewed(given)
        if known is not None and not known.served:
            name = f"{agent.name}.{name}"
        made = self._names[name] = GuardedTool(given, name)
        self._stale = True
        return made.made

    def stand_in(self, name: str) -> FunctionTool:
        """Return what answers a call to a tool that is not there: with the engine's refusal."""

        async def nothing(_context: Any, _arguments: str) -> str:
            return f"There is no tool {name!r}."

        made = FunctionTool(name, "", {"type": "object"}, nothing, strict_json_schema=False)
        return GuardedTool(made, name).made

    def name_of(self, tool: FunctionTool) -> str:
        """Return the name by which the engine knows a tool."""
        invoker = tool.on_invoke_tool
        return invoker.guarded.name if isinstance(invoker, Invoker) else tool.qualified_name

    def refresh(self) -> Any:
        """Return the tools of all agents, made ready."""
        if self._stale:
            tools = [one.foreign for one in self._names.values()]
            self._toolset = self._host.toolset(self._name, tools, self._effects)
            self._stale = False
        if self._toolset.asks:
            for one in self._names.values():
                one.ask_people()
        return self._toolset

    # ------------------------------------------------------------------ runs

    def enter(self, context: RunContextWrapper[Any]) -> Run:
        """Take note that a run comes to an agent; return the run."""
        toolset = self.refresh()
        run = self._runs.get(context)
        if run is None or run.over:
            session = self._session
            if callable(session):
                session = session(context)
            nest = NEST.get()
            run = self._runs[context] = Run(self._host, toolset, context, session)
            if nest is not None:
                nest.inner = run
        run.use(toolset)
        RUN.set(run)
        return run


class Guarded:
    """What a guarded agent is besides what it was."""

    undercroft_guard: Guard

    def __post_init__(self) -> None:
        """Guard what is new, where a guarded agent is cloned."""
        super().__post_init__()  # type: ignore[misc]
        self.undercroft_guard.adopt(self)  # type: ignore[arg-type]

    async def get_mcp_tools(self, run_context: RunContextWrapper[Any]) -> list[Tool]:
        """Return the tools of its servers, guarded."""
        tools = await super().get_mcp_tools(run_context)  # type: ignore[misc]
        guard: Any = self.undercroft_guard
        return [guard.listed(t, self) if isinstance(t, FunctionTool) else t for t in tools]

    async def get_all_tools(self, run_context: RunContextWrapper[Any]) -> list[Tool]:
        """Return its tools; the SDK asks in the task of the run, before each prompt."""
        tools: list[Tool] = await super().get_all_tools(run_context)  # type: ignore[misc]
        self.undercroft_guard.enter(run_context)
        return tools


class GuardedHooks(AgentHooks[Any]):
    """The hooks of an agent's user, and what they tell of a run's end.

    Args:
        given: The user's own, or None.
    """

    def __init__(self, given: Any) -> None:
        self._given = given if given is not None else AgentHooks()

    def __getattr__(self, name: str) -> Any:
        """Return what only the user's own hooks have."""
        if name.startswith("__") or name == "_given":
            raise AttributeError(name)
        return getattr(self._given, name)

    async def on_start(self, *args: Any, **kwargs: Any) -> None:
        """Hand on that an agent begins."""
        await self._given.on_start(*args, **kwargs)

    async def on_end(self, context: Any, agent: Any, output: Any) -> None:
        """Hand on that an agent ended, and take note of what the user is told."""
        await self._given.on_end(context, agent, output)
        run = RUN.get()
        if run is not None and not run.over:
            await run.said(output)

    async def on_handoff(self, *args: Any, **kwargs: Any) -> None:
        """Hand on that an agent was handed off to."""
        await self._given.on_handoff(*args, **kwargs)

    async def on_tool_start(self, *args: Any, **kwargs: Any) -> None:
        """Hand on that a tool begins."""
        await self._given.on_tool_start(*args, **kwargs)

    async def on_tool_end(self, *args: Any, **kwargs: Any) -> None:
        """Hand on that a tool ended."""
        await self._given.on_tool_end(*args, **kwargs)

    async def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        """Hand on that a model is asked."""
        await self._given.on_llm_start(*args, **kwargs)

    async def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        """Hand on that a model answered."""
        await self._given.on_llm_end(*args, **kwargs)


def _used_by(given: FunctionTool, inner: Agent[Any], guarded: Agent[Any]) -> FunctionTool:
    """Return a tool that an agent was made into, made of its clone.

    `Agent.as_tool` keeps its agent in the function that runs it, and nowhere else.
    """
    if guarded is inner:
        return given
    invoker = given.on_invoke_tool
    run = getattr(invoker, "_invoke_tool_impl", None)
    cells = getattr(run, "__closure__", None) or ()
    if not isinstance(run, FunctionType) or not any(cell.cell_contents is inner for cell in cells):
        raise DeclarationError(
            f"tool {given.name!r}",
            f"it cannot be seen how it runs agent {inner.name!r}",
            "Make it of the guarded agent: undercroft_agent(inner, runtime).as_tool(…).",
        )
    swapped = tuple(_cell(guarded) if cell.cell_contents is inner else cell for cell in cells)
    made = FunctionType(run.__code__, run.__globals__, run.__name__, run.__defaults__, swapped)
    made.__kwdefaults__ = run.__kwdefaults__
    tool = copy.copy(given)
    new_invoker = copy.copy(invoker)
    new_invoker._invoke_tool_impl = made  # type: ignore[attr-defined]  # noqa: SLF001
    new_invoker._function_tool = None  # type: ignore[attr-defined]  # noqa: SLF001
    tool.on_invoke_tool = new_invoker.__agents_bind_function_tool__(tool)  # type: ignore[attr-defined]
    tool._agent_instance = guarded  # noqa: SLF001
    return tool


def _cell(value: Any) -> Any:
    """Return a cell of a closure that holds a value."""
    return (lambda: value).__closure__[0]  # type: ignore[index]

"""Tools of a pydantic-ai agent as tools that Undercroft knows.

Keeps: a tool is known by its function, by the `Tool` made of it, and by nothing that is made
anew for each step; what a server says of a tool of its own is a hint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from pydantic_ai import Agent, RunContext, Tool
from pydantic_ai.toolsets import (
    AbstractToolset,
    CombinedToolset,
    FunctionToolset,
    PrefixedToolset,
    RenamedToolset,
    WrapperToolset,
)

from undercroft.adapters.frameworks.pydantic_ai.results import plain
from undercroft.errors import DeclarationError
from undercroft.model.foreign import ForeignCall, ForeignTool, Hints
from undercroft.ports import Host

# What the framework's own tools do is reveal tools and instructions.
_OWN_KINDS = frozenset({"tool-search", "capability-load"})
_SETS_MAX = 64
# The run whose call is carried out here.
RUNNING: ContextVar[RunContext[Any] | None] = ContextVar("undercroft_pydantic_ai", default=None)
_WRAPPED_MAX = 32


class Toolsets:
    """The sets of tools that an agent came with, each made ready once.

    Args:
        host: Makes them ready.
        effects: What is declared of tools by their names.
    """

    def __init__(self, host: Host, effects: Any) -> None:
        self._host, self._effects = host, effects
        # By what tells a set from others; with the tools, whose identities must stay their own.
        self._made: dict[Any, tuple[Any, list[ForeignTool]]] = {}

    def of(self, name: str, tools: Mapping[str, Any]) -> Any:
        """Return the set that an agent called `name` has in a step.

        Raises:
            DeclarationError: A declaration cannot be met by its tool.
        """
        kept = {key: tool for key, tool in tools.items() if tool.tool_def.kind != "output"}
        at = (name, *[_identity(tool) for tool in kept.values()])
        found = self._made.get(at)
        if found is None:
            foreign = [foreign_of(tool) for tool in kept.values()]
            if len(self._made) >= _SETS_MAX:
                del self._made[next(iter(self._made))]
            found = self._host.toolset(name, foreign, self._effects), foreign
            self._made[at] = found
        return found[0]


def _identity(tool: Any) -> tuple[Any, ...]:
    told = tool.tool_def
    return told.name, told.kind, id(told.parameters_json_schema), id(_schema_of(tool))


def foreign_of(tool: Any) -> ForeignTool:
    """Return what Undercroft is told of a tool of a toolset, a `ToolsetTool`."""
    told = tool.tool_def
    return ForeignTool(
        told.name,
        told.description or "",
        told.parameters_json_schema,
        call=_calling(told.name),
        service=_service(tool),
        hints=_hints(told),
        origins=tuple(_origins(tool)),
    )


def _calling(name: str) -> ForeignCall:
    """Return what calls a tool beside the run that is at work, to see whether anything changed."""

    async def call(arguments: dict[str, Any]) -> Any:
        ctx = RUNNING.get()
        manager = ctx.tool_manager if ctx is not None else None
        if ctx is None or manager is None or manager.tools is None:
            raise DeclarationError(
                f"tool {name!r}", "no run of its agent is at work", "Call it in one."
            )
        tool = manager.tools[name]
        args = tool.args_validator.validate_python(arguments, context=ctx.validation_context)
        aside = replace(ctx, tool_name=name, retry=0, max_retries=tool.max_retries)
        return plain(await manager.toolset.call_tool(name, args, aside, tool))

    return call


def _hints(told: Any) -> Hints:
    said = (told.metadata or {}).get("annotations")
    said = said if isinstance(said, Mapping) else {}
    return Hints(
        read_only=said.get("readOnlyHint") is True or told.tool_kind in _OWN_KINDS,
        destructive=said.get("destructiveHint") is True,
        idempotent=said.get("idempotentHint") is True,
        approval=told.kind == "unapproved",
    )


def _service(tool: Any) -> str | None:
    """Return the server that a tool is of, if it is of one."""
    inner = _inner(tool)
    metadata = inner.tool_def.metadata or {}
    if "annotations" not in metadata:
        return None
    return inner.tool_def.toolset_id or getattr(inner.toolset, "id", None)


def _inner(tool: Any) -> Any:
    for _ in range(_WRAPPED_MAX):
        source = getattr(tool, "source_tool", None)
        if source is None:
            break
        tool = source
    return tool


def _schema_of(tool: Any) -> Any:
    """Return what a tool made of a function is called by, the same in every step."""
    return getattr(getattr(_inner(tool), "call_func", None), "__self__", None)


def _origins(tool: Any) -> Iterable[object]:
    inner = _inner(tool)
    schema = _schema_of(tool)
    if schema is None:
        return
    holder = inner.toolset
    for _ in range(_WRAPPED_MAX):
        if isinstance(holder, FunctionToolset):
            made = holder.tools.get(inner.original_name or inner.tool_def.name)
            if made is not None:
                yield made
                if made.function is not schema.function:
                    yield made.function
            break
        holder = getattr(holder, "wrapped", None)
    yield schema.function


def tools_of(agent: Agent[Any, Any]) -> list[ForeignTool]:
    """Return the tools of an agent, for `undercroft check`.

    Tools that are known only once a run has begun, such as those of a server or of a toolset that
    depends on the run, are left out.
    """
    found: dict[str, ForeignTool] = {}
    for toolset in agent.toolsets:
        for name, tool in _listed(toolset, 0):
            told = tool.tool_def
            found.setdefault(
                name,
                ForeignTool(
                    name,
                    told.description or "",
                    told.parameters_json_schema,
                    hints=_hints(told),
                    origins=(tool, tool.function),
                ),
            )
    return list(found.values())


def _listed(toolset: AbstractToolset[Any], depth: int) -> Iterator[tuple[str, Tool[Any]]]:
    """Yield the functions of a toolset, by the names that a model knows them by."""
    if depth > _WRAPPED_MAX:
        return
    match toolset:
        case FunctionToolset():
            yield from toolset.tools.items()
        case CombinedToolset():
            for one in toolset.toolsets:
                yield from _listed(one, depth + 1)
        case PrefixedToolset():
            for name, tool in _listed(toolset.wrapped, depth + 1):
                yield f"{toolset.prefix}_{name}", tool
        case RenamedToolset():
            names = {old: new for new, old in toolset.name_map.items()}
            for name, tool in _listed(toolset.wrapped, depth + 1):
                yield names.get(name, name), tool
        case WrapperToolset():
            yield from _listed(toolset.wrapped, depth + 1)
        case _:
            return

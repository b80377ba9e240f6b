"""LangChain's tools as the engine knows them: name, schema, and what they were made of.

Keeps: a tool is translated once for as long as it lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.prebuilt import ToolNode

from undercroft.adapters.frameworks.langchain.messages import text_of
from undercroft.adapters.frameworks.langchain.results import data_of
from undercroft.errors import DeclarationError, DomainError
from undercroft.model.foreign import ForeignTool, Hints
from undercroft.model.message import ToolSpec

# By the identity of a tool, which need not be hashable: what it is in our words.
_KNOWN: dict[int, tuple[BaseTool, ForeignTool]] = {}
_KNOWN_MAX = 10_000


def foreign(given: BaseTool) -> ForeignTool:
    """Return a tool in our words."""
    found = _KNOWN.get(id(given))
    if found is not None and found[0] is given:
        return found[1]
    if len(_KNOWN) >= _KNOWN_MAX:
        _KNOWN.clear()
    made = _foreign(given)
    _KNOWN[id(given)] = given, made
    return made


def _foreign(given: BaseTool) -> ForeignTool:
    told = convert_to_openai_tool(given)["function"]
    parts = [getattr(given, name, None) for name in ("func", "coroutine")]
    origins = [part for part in parts if part is not None]

    async def call(arguments: dict[str, Any]) -> Any:
        asked = {"name": given.name, "args": arguments, "id": "", "type": "tool_call"}
        came = await given.ainvoke(asked)
        if isinstance(came, ToolMessage) and came.status == "error":
            raise DomainError(text_of(came))
        return data_of(came)

    return ForeignTool(
        given.name,
        told.get("description", ""),
        told.get("parameters") or {"type": "object", "properties": {}},
        call,
        hints=_hints(given.metadata or {}),
        # The function first: two agents make two tools of one function.
        origins=(*origins, given),
    )


def _hints(told: Mapping[str, Any]) -> Hints:
    """Return what the author of a tool says, in the words of MCP's annotations."""
    return Hints(
        read_only=told.get("readOnlyHint") is True,
        destructive=told.get("destructiveHint") is True,
        idempotent=told.get("idempotentHint") is True,
    )


def spec_of(given: BaseTool | dict[str, Any]) -> ToolSpec:
    """Return what a model is told of a tool, one of a provider's own included."""
    if isinstance(given, BaseTool):
        made = foreign(given)
        return ToolSpec(made.name, made.description, dict(made.schema))
    function = given.get("function")
    told = function if isinstance(function, dict) else given
    parameters = told.get("parameters") or told.get("input_schema") or {}
    return ToolSpec(name_of(given), str(told.get("description", "")), dict(parameters))


def name_of(given: BaseTool | dict[str, Any]) -> str:
    """Return the name by which a tool is offered."""
    if isinstance(given, BaseTool):
        return given.name
    function = given.get("function")
    told = function if isinstance(function, dict) else given
    return str(told.get("name") or told.get("type") or "")


def tools_of(agent: Any) -> list[ForeignTool]:
    """Return the tools of an agent in our words, as `undercroft check` wants them.

    Args:
        agent: What `create_agent` returned or any compiled graph with a `ToolNode`, a
            `ToolNode`, or a list of tools and functions.

    Raises:
        DeclarationError: It is none of these, or has no tools.
    """
    asks: set[str] = set()
    found: list[BaseTool] = []
    if isinstance(agent, ToolNode):
        found = list(agent.tools_by_name.values())
    elif hasattr(agent, "nodes"):
        for node in agent.nodes.values():
            bound = getattr(node, "bound", None)
            if isinstance(bound, ToolNode):
                found += bound.tools_by_name.values()
            asks |= _asked_for(bound)
    elif isinstance(agent, Iterable) and not isinstance(agent, str | bytes | Mapping):
        found = [one if isinstance(one, BaseTool) else tool(one) for one in agent]
    if not found:
        raise DeclarationError(
            f"tools of {type(agent).__name__}",
            "there is no ToolNode in it",
            "Give what create_agent returned, a ToolNode, or a list of tools.",
        )
    return [_asking(foreign(one)) if one.name in asks else foreign(one) for one in found]


def _asked_for(bound: Any) -> set[str]:
    """Return the tools that a node of `HumanInTheLoopMiddleware` asks a person about."""
    owner = getattr(getattr(bound, "func", None), "__self__", None)
    return set(owner.interrupt_on) if isinstance(owner, HumanInTheLoopMiddleware) else set()


def _asking(told: ForeignTool) -> ForeignTool:
    hints = Hints(
        told.hints.read_only, told.hints.destructive, told.hints.idempotent, approval=True
    )
    return ForeignTool(
        told.name, told.description, told.schema, told.call, hints=hints, origins=told.origins
    )

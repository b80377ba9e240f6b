"""Agents of frameworks named on the command line: their tools, as far as somebody declared them.

Keeps: a framework is known by the modules of its classes, so that none is imported in vain.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from undercroft.cli.problem import CannotRunError
from undercroft.engine.declaring import read_effects
from undercroft.engine.foreign import tools_of
from undercroft.engine.guesthandler import guest_handler
from undercroft.engine.handler import Handler
from undercroft.engine.hosting import ran
from undercroft.errors import DeclarationError
from undercroft.model.foreign import ForeignTool

# By the first part of the modules of its classes, the adapter that reads its agents.
_ADAPTERS = {
    "langchain": "langchain",
    "langchain_core": "langchain",
    "langgraph": "langchain",
    "pydantic_ai": "pydantic_ai",
    "agents": "openai_agents",
}


def handler_of(text: str, value: object, effects: str | None) -> Handler[..., Any] | None:
    """Return the tools of an agent of a framework; None where `value` is no agent that we know.

    Args:
        text: As it was named on the command line.
        value: An agent, or a list of tools and plain functions.
        effects: Path of a file that declares what tools do.

    Raises:
        CannotRunError: The framework, or the file, cannot be used.
    """
    try:
        found = _tools(value)
        if found is None:
            return None
        said = read_effects(effects)
        names = {str(getattr(t, "name", getattr(t, "__name__", ""))) for t in found}
        unknown = sorted(set(said) - names)
        if unknown:
            raise CannotRunError(
                str(Path(effects or "")),
                f"it declares {unknown[0]!r}, which {text} has not",
                f"Its tools: {', '.join(sorted(names)) or 'none'}.",
            )
        return guest_handler(_name(text, value), tools_of(found, said))
    except DeclarationError as error:
        raise CannotRunError(error.place, error.problem, error.mend) from error


def _tools(value: object) -> list[Any] | None:
    if isinstance(value, list | tuple):
        found: list[Any] = []
        for one in value:
            inner = _of_framework(one)
            found += [one] if inner is None else inner
        return found if all(isinstance(t, ForeignTool) or callable(t) for t in found) else None
    return _of_framework(value)


def _of_framework(value: object) -> list[Any] | None:
    for kind in type(value).__mro__:
        adapter = _ADAPTERS.get(kind.__module__.partition(".")[0])
        if adapter is not None:
            module = importlib.import_module(f"undercroft.adapters.frameworks.{adapter}")
            tools: Iterable[ForeignTool] = ran(module.tools_of(value))
            return list(tools)
    return None


def _name(text: str, value: object) -> str:
    name = getattr(value, "name", None)
    return name if isinstance(name, str) and name else text.rpartition(":")[2]

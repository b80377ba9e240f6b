"""Finding the code of a turn again: a journal keeps its import name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from undercroft.engine.handler import Handler
from undercroft.engine.workflow import Workflow
from undercroft.errors import DeclarationError, TargetError

Target = Workflow | Handler[..., Any]
_KINDS = (Workflow, Handler)


def checked(target: object) -> Target:
    """Return `target` if a runtime can run it.

    Raises:
        DeclarationError: It is neither a workflow nor a handler.
    """
    if isinstance(target, _KINDS):
        return target
    raise DeclarationError(
        f"target {getattr(target, '__name__', target)!r}",
        "it is neither a workflow nor a handler",
        "Give a uc.Workflow, or a function declared with @uc.handler(tools=…).",
    )


def import_name(target: Target) -> str:
    """Return `module:name`, under which another process can import `target`."""
    if not target.import_name:
        target.import_name = _import_name(target)
    return target.import_name


def _import_name(target: Target) -> str:
    if isinstance(target, Handler):
        return f"{_module(target.module)}:{target.fn.__qualname__}"
    module = sys.modules.get(target.module)
    for name, value in vars(module).items() if module else ():
        if value is target:
            return f"{_module(target.module)}:{name}"
    return f"{_module(target.module)}:{target.name}"


def _module(name: str) -> str:
    if name != "__main__":
        return name
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name.removesuffix(".__main__"))
    return Path(getattr(main, "__file__", None) or "__main__").stem


def imported(turn_id: str, name: str) -> Target:
    """Return the target that is imported as `name`.

    Raises:
        TargetError: There is no such thing; the message says what to pass.
    """
    module_name, _, path = name.partition(":")
    mend = "Pass it to the runtime: targets=[…], or run where it can be imported."
    if "<locals>" in path:
        raise TargetError(turn_id, f"it runs {name}, which is local to a function", mend)
    try:
        value: Any = importlib.import_module(module_name)
        for part in path.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError) as error:
        raise TargetError(
            turn_id, f"it runs {name}, which cannot be imported here ({error})", mend
        ) from error
    if not isinstance(value, Workflow | Handler):
        raise TargetError(turn_id, f"{name} is no workflow and no handler any more", mend)
    return value

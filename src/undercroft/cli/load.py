"""Code named on the command line: `path/to/app.py:flow` or `package.module:flow`.

Keeps: a file is imported under the name by which its neighbours would import it, so that a
turn can be resumed from the same folder; a file never stands in for another module.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from undercroft.cli.problem import CannotRunError
from undercroft.engine.handler import Handler
from undercroft.engine.targets import Target, checked
from undercroft.engine.workflow import Workflow
from undercroft.errors import DeclarationError
from undercroft.ports import ModelClient

_EXAMPLE = "Write it as path/to/app.py:flow or package.module:flow"


def load_target(text: str) -> Target:
    """Return the workflow or handler that `text` names.

    Raises:
        CannotRunError: There is none; the message says what there is.
    """
    module, value = _load(text)
    try:
        return checked(value)
    except DeclarationError as error:
        raise CannotRunError(
            text,
            f"it is a {type(value).__name__}, neither a workflow nor a handler",
            f"{_offer(module)}",
        ) from error


def load_any(text: str) -> Any:
    """Return what `text` names, whatever it is.

    Raises:
        CannotRunError: There is nothing of that name.
    """
    return _load(text)[1]


def load_targets(texts: Iterable[str]) -> list[Target]:
    """Return what each of `texts` names."""
    return [load_target(text) for text in texts]


def load_model(text: str | None) -> ModelClient | Sequence[ModelClient] | None:
    """Return the model client that `text` names: an object, what makes one when called, or a list.

    Raises:
        CannotRunError: It is not one.
    """
    if text is None:
        return None
    _, value = _load(text)
    if isinstance(value, type) or (callable(value) and not hasattr(value, "complete")):
        try:
            value = value()
        except Exception as error:
            raise CannotRunError(
                text, f"making it failed: {_described(error)}", "Name one that needs no arguments."
            ) from error
    several = isinstance(value, list | tuple) and bool(value)
    if not all(hasattr(one, "complete") for one in (value if several else [value])):
        raise CannotRunError(
            text,
            f"it is a {type(value).__name__}, not a model client",
            "Name an object with `async def complete(self, request) -> uc.Answer`.",
        )
    client: ModelClient = value
    return client


def importable_from_here() -> None:
    """Let modules of the current folder be imported, as `python -m` would."""
    _on_path(Path.cwd())


def _load(text: str) -> tuple[ModuleType, Any]:
    place, colon, name = text.rpartition(":")
    if not colon:
        place, name = text, ""
    if not place:
        raise CannotRunError(text, "it names no module", f"{_EXAMPLE}.")
    importable_from_here()
    is_file = place.endswith(".py") or os.sep in place
    module = _import_file(text, place) if is_file else _import(text, place)
    if not name:
        raise CannotRunError(text, "it does not say what to take from the module", _offer(module))
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
        if value is None:
            near = difflib.get_close_matches(name, _targets(module), n=1) or _near_names(
                module, name
            )
            hint = f"Did you mean {near[0]}?" if near else _offer(module)
            raise CannotRunError(text, f"{place} has no {name!r}", hint)
    return module, value


def _import_file(text: str, place: str) -> ModuleType:
    path = Path(place).resolve()
    if not path.is_file():
        raise CannotRunError(text, f"there is no file {place}", f"{_EXAMPLE}.")
    folder, name = path.parent, path.stem
    # A file of a package is imported as its package's, or its relative imports would fail.
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder, name = folder.parent, f"{folder.name}.{name}"
    _on_path(folder)
    module = _import(text, name)
    origin = getattr(module, "__file__", None)
    if origin is None or Path(origin).resolve() != path:
        raise CannotRunError(
            text,
            f"a module {name!r} is there already ({origin or 'built in'})",
            f"Give {path.name} another name.",
        )
    return module


def _import(text: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise CannotRunError(
                text, f"there is no module {error.name!r} here", f"{_EXAMPLE}."
            ) from error
        raise _broken(text, name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(text, name, error) from error


def _broken(text: str, name: str, error: BaseException) -> CannotRunError:
    mend = "Mend the module; undercroft --traceback … shows the way there."
    if isinstance(error, SystemExit):
        mend = 'Put what it does when run behind `if __name__ == "__main__":`.'
    return CannotRunError(text, f"importing {name} failed: {_described(error)}", mend)


def _described(error: BaseException) -> str:
    """Return an error and the place in the user's code that it comes from."""
    said = " ".join(str(error).split())
    what = f"{type(error).__name__}: {said}".removesuffix(": ").removesuffix(".")
    if isinstance(error, SyntaxError):
        return what
    inside = Path(__file__).parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and Path(frame.filename).parent != inside
    ]
    outside = [frame for frame in frames if "undercroft" not in Path(frame.filename).parts]
    if not outside:
        return what
    return f"{what} ({Path(outside[-1].filename).name}, line {outside[-1].lineno})"


def _targets(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, Workflow | Handler)]


def _near_names(module: ModuleType, name: str) -> list[str]:
    """Return what in a module is called nearly so, such as an agent or a list of tools."""
    public = [
        known
        for known, value in vars(module).items()
        if not (known.startswith("_") or isinstance(value, ModuleType | type))
    ]
    return difflib.get_close_matches(name, public, n=1)


def _offer(module: ModuleType) -> str:
    names = _targets(module)
    if not names:
        return "It declares no uc.Workflow and no @uc.handler."
    return f"It declares: {', '.join(names)}."


def _on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()

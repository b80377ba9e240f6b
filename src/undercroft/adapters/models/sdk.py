"""The client libraries: whether they are there, are of a version that was tried, and are async.

Keeps: nothing is imported before a model is made; what does not fit is said in words that mend it.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

from undercroft.errors import DeclarationError

# First version that was tried, and the first that was not; as in the extras of pyproject.toml.
RANGES = {"openai": ((3, 0), (4, 0)), "anthropic": ((2, 0), (3, 0))}


def library(name: str, place: str) -> Any:
    """Return a client library.

    Args:
        name: Of the library, which is that of its extra.
        place: Who needs it.

    Raises:
        DeclarationError: It is not installed, or of a version that was not tried.
    """
    least, below = RANGES[name]
    wanted = f"{name}>={_dotted(least)},<{_dotted(below)}"
    mend = f"Install the one that goes with it: pip install 'undercroft[{name}]' ({wanted})."
    try:
        found: Any = import_module(name)
    except ImportError as error:
        raise DeclarationError(place, f"{name} cannot be imported ({error})", mend) from error
    version = str(getattr(found, "__version__", ""))
    if not least <= version_of(version) < below:
        problem = f"{name} {version or 'of no known version'} is none that it was tried with"
        raise DeclarationError(place, problem, mend)
    return found


def version_of(text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with."""
    begin = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in begin[0].split(".")) if begin else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def quiet(client: Any, name: str, place: str) -> Any:
    """Return an async client of a library, with retries of its own off.

    Raises:
        DeclarationError: It is of another library, or not async.
    """
    if not any(base.__module__.partition(".")[0] == name for base in type(client).__mro__):
        raise DeclarationError(
            place,
            f"{client!r:.80} is no client of {name}",
            f"Give it {_ASYNC[name]}(…).",
        )
    if not inspect.iscoroutinefunction(getattr(client, "post", None)):
        raise DeclarationError(
            place,
            f"{type(client).__name__} is not async, and would hold up all turns of the process",
            f"Give it {_ASYNC[name]}(…).",
        )
    # One place owns retries, and counts attempts.
    return client.with_options(max_retries=0)


_ASYNC = {"openai": "openai.AsyncOpenAI", "anthropic": "anthropic.AsyncAnthropic"}

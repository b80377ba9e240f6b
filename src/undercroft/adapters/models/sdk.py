"""The client libraries: whether they are there, are of a version that was tried, and are async.

Keeps: nothing is imported before a model is made; what does not fit is said in words that mend it.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from undercroft.adapters.versions import require
from undercroft.errors import DeclarationError

# First version that was tried, and the first that was not; as in the extras of pyproject.toml.
RANGES = {"openai": ("3.0", "4"), "anthropic": ("2.0", "3")}
_ASYNC = {"openai": "openai.AsyncOpenAI", "anthropic": "anthropic.AsyncAnthropic"}


def library(name: str) -> Any:
    """Return a client library by its name, which is that of its extra.

    Raises:
        DeclarationError: It is not installed, or of a version that was not tried.
    """
    at_least, below = RANGES[name]
    require(name, at_least=at_least, below=below, extra=name)
    return import_module(name)


def quiet(client: Any, name: str, place: str) -> Any:
    """Return an async client of a library, with retries of its own off.

    Raises:
        DeclarationError: It is of another library, or not async.
    """
    mend = f"Give it {_ASYNC[name]}(…)."
    if not any(base.__module__.partition(".")[0] == name for base in type(client).__mro__):
        raise DeclarationError(place, f"{client!r:.80} is no client of {name}", mend)
    if not inspect.iscoroutinefunction(getattr(client, "post", None)):
        problem = f"{type(client).__name__} is not async, and would hold up every turn"
        raise DeclarationError(place, problem, mend)
    # One place owns retries, and counts attempts.
    return client.with_options(max_retries=0)

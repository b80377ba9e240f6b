"""What providers report of a prompt's tokens, in their own words.

Keeps: input tokens are those of the whole prompt, what was cached included; what is no number is
left out; whether a number can be true is for others to say.
Source: the references of OpenAI's chat completions and responses, and of Anthropic's Messages API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from undercroft.model.message import Usage

# Anthropic counts apart what was read from its cache, and what was written there.
_APART = ("cache_read_input_tokens", "cache_creation_input_tokens")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details")


def read_usage(given: Any) -> Usage | None:
    """Return a provider's usage, a mapping or an object; None where it says nothing of input."""
    if given is None or isinstance(given, Usage):
        return given
    output = _first(given, "completion_tokens", "output_tokens") or 0
    prompt = _number(_of(given, "prompt_tokens"))
    details = next((d for name in _INPUT_DETAILS if (d := _of(given, name)) is not None), None)
    if prompt is None and details is None:
        return _apart(given, output)
    tokens = prompt if prompt is not None else _number(_of(given, "input_tokens"))
    cached = _number(_of(details, "cached_tokens")) or 0
    return None if tokens is None else Usage(tokens, output, cached)


def _apart(given: Any, output: int) -> Usage | None:
    fresh = _number(_of(given, "input_tokens"))
    read, written = (_number(_of(given, name)) for name in _APART)
    if fresh is None and read is None and written is None:
        return None
    return Usage((fresh or 0) + (read or 0) + (written or 0), output, read or 0)


def _first(given: Any, *names: str) -> int | None:
    return next((n for name in names if (n := _number(_of(given, name))) is not None), None)


def _of(given: Any, name: str) -> Any:
    if isinstance(given, Mapping):
        return given.get(name)
    return getattr(given, name, None)


def _number(value: object) -> int | None:
    # Beyond 64 bits nothing can be written down, and nothing is true.
    return value if type(value) is int and abs(value) < 1 << 62 else None

"""Sizes: how many tokens the windows of well-known models hold, where a record does not say.

Keeps: a prompt that is larger than the size here shows that the model had a larger window, so
nothing is said of it.
Source: the model pages of OpenAI, Anthropic and Google, as of 2025.
"""

from __future__ import annotations

from undercroft.model.case import CaseAsk

# By how the names begin, the longest first.
_SIZES: tuple[tuple[str, int], ...] = (
    ("gpt-3.5-turbo-instruct", 4_096),
    ("gpt-3.5", 16_385),
    ("gpt-4-32k", 32_768),
    ("gpt-4-turbo", 128_000),
    ("gpt-4-1106", 128_000),
    ("gpt-4-0125", 128_000),
    ("gpt-4.1", 1_047_576),
    ("gpt-4o", 128_000),
    ("gpt-4", 8_192),
    ("gpt-5", 400_000),
    ("o1-mini", 128_000),
    ("o1-preview", 128_000),
    ("o1", 200_000),
    ("o3", 200_000),
    ("o4-mini", 200_000),
    ("claude-2.0", 100_000),
    ("claude", 200_000),
    ("gemini-1.5-pro", 2_097_152),
    ("gemini-1.5", 1_048_576),
    ("gemini-2", 1_048_576),
)
_OVER_SHARE = 1.02


def window_of(ask: CaseAsk) -> int:
    """Return the size of the window that a prompt was made for; 0 where that is not known."""
    name = ask.model.casefold().rsplit("/", 1)[-1].removeprefix("anthropic.")
    size = next((size for begin, size in _SIZES if name.startswith(begin)), 0)
    return 0 if (ask.input_tokens or 0) > _OVER_SHARE * size else size

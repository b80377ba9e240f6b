"""The judge's count of tokens: exact, of OpenAI's vocabulary `o200k_base`.

Keeps: what a prompt is held to is counted by one rule, whatever made the prompt: the text, the
names and the JSON arguments of every message, and what OpenAI's chat format puts around them.
Ids of calls are not counted, since nobody says whether the model is shown them.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

VOCABULARY = "o200k_base"
# As OpenAI's cookbook counts them: around a message with its role, and before the answer.
MESSAGE_TOKENS, ANSWER_TOKENS = 4, 3


class NotInstalledError(Exception):
    """The exact counter is not installed, and nothing can be judged without."""

    def __str__(self) -> str:
        return "The judge counts exactly: pip install bpe-openai"


@cache
def _tokenizer() -> Callable[[str], int]:
    try:
        library = importlib.import_module("bpe_openai")
    except ImportError:
        raise NotInstalledError from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it opens its files by a function that is deprecated
        encode = library.get_encoding(VOCABULARY).encode_ordinary
    return lambda text: len(encode(text))


@cache
def text_tokens(text: str) -> int:
    """Return the tokens of a text."""
    return _tokenizer()(text)


def message_tokens(message: dict[str, Any]) -> int:
    """Return the tokens of a message in OpenAI's form, with what is put around it."""
    tokens = MESSAGE_TOKENS
    content = message.get("content")
    if isinstance(content, str):
        tokens += text_tokens(content)
    else:
        tokens += sum(text_tokens(part.get("text", "")) for part in content or ())
    if name := message.get("name"):
        tokens += text_tokens(name) + 1
    for call in message.get("tool_calls") or ():
        function = call["function"]
        tokens += text_tokens(function["name"]) + text_tokens(function["arguments"])
    return tokens


def tokens_of(messages: Iterable[dict[str, Any]]) -> int:
    """Return the tokens of messages."""
    return sum(map(message_tokens, messages))


def prompt_tokens(messages: Iterable[dict[str, Any]]) -> int:
    """Return the tokens of a prompt: its messages, and what begins the answer."""
    return tokens_of(messages) + ANSWER_TOKENS

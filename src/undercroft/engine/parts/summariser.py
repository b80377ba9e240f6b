"""Whoever writes summaries for a context that is used alone: asked once, for so long.

Keeps: whatever they do, what comes back is text or why there is none; one that does not let
itself be cut off is left behind.
Leaves to `layers/context/summary.py`: what is asked, and whether the text is any good.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from undercroft.engine.parts.blocks import check_async
from undercroft.errors import DeclarationError
from undercroft.model.message import Answer, Message, ModelRequest
from undercroft.ports import ModelClient

Summarise: TypeAlias = Callable[[list[dict[str, str]]], Awaitable[str]]

# What did not stop when it was cut off; held so that it is not collected half way.
_behind: set[asyncio.Future[Any]] = set()


class Summariser:
    """Writes summaries.

    Args:
        ask: An async function from messages, each with role and content, to text; or a client
            of a model.
        timeout_s: For so many seconds one summary is waited for.

    Raises:
        DeclarationError: `ask` is neither.
    """

    __slots__ = ("_ask", "_timeout_s")

    def __init__(self, ask: Summarise | ModelClient, timeout_s: float) -> None:
        complete = getattr(ask, "complete", None)
        self._ask: Callable[[Sequence[Message]], Awaitable[Any]]
        if callable(complete):
            check_async(complete, "a summariser")
            self._ask = functools.partial(_complete, complete)
        elif callable(ask):
            check_async(ask, "a summariser")
            self._ask = functools.partial(_call, ask)
        else:
            raise DeclarationError(
                "Context(summarise=…)",
                f"it is of type {type(ask).__name__}",
                "Give an async function from messages to text, or a client of a model.",
            )
        self._timeout_s = timeout_s

    async def write(self, messages: Sequence[Message]) -> tuple[str, str]:
        """Return a summary and no problem, or no summary and why there is none."""
        task = asyncio.ensure_future(self._ask(messages))
        try:
            await asyncio.wait({task}, timeout=self._timeout_s)
        finally:
            if not task.done():
                task.cancel()
                _behind.add(task)
                task.add_done_callback(_forget)
        if not task.done():
            return "", f"it took longer than {self._timeout_s:g} s"
        if task.cancelled():
            return "", "it cancelled itself"
        try:
            text = task.result()
        except Exception as error:  # noqa: BLE001  a user's function
            return "", f"{type(error).__name__}: {str(error)[:200]}"
        if not isinstance(text, str):
            return "", f"it returned {type(text).__name__}, and not text"
        return text, ""


async def _call(ask: Callable[[Any], Awaitable[Any]], messages: Sequence[Message]) -> Any:
    return await ask([{"role": each.role, "content": each.content} for each in messages])


async def _complete(
    complete: Callable[[ModelRequest], Awaitable[Any]], messages: Sequence[Message]
) -> Any:
    answer = await complete(ModelRequest(tuple(messages)))
    return answer.text if isinstance(answer, Answer) else answer


def _forget(task: asyncio.Future[Any]) -> None:
    _behind.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, so that nobody is warned of it

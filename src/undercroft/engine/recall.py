"""The tool that fetches back what was left out of a window; each line of code has its own."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from undercroft.engine.tool import Tool, tool
from undercroft.errors import DeclarationError
from undercroft.layers.context.policy import ContextPolicy
from undercroft.layers.context.state import Window
from undercroft.layers.context.tombstone import RECALL


@tool(name=RECALL, peeks="window/{handle}", polls=True)
async def recall(handle: str, start: int = 0, end: int | None = None) -> str:
    """Return what was left out of the conversation, by the handle that stands in its place.

    Where it is long, ask for a part of it: characters `start` up to `end`.
    """
    del handle, start, end
    raise DeclarationError(RECALL, "there is no window here", "It is called by the model.")


def recall_of(window: Window) -> Tool[..., Any]:
    """Return the tool that fetches back what `window` left out."""

    async def fetch(handle: str, start: int = 0, end: int | None = None) -> str:
        return window.recalled(handle, start, end)

    made: Tool[..., Any] = copy.copy(recall)
    made.fn = fetch
    made.body = replace(recall.body, fn=fetch)
    return made


def check_names(name: str, policy: ContextPolicy, tools: Collection[str]) -> None:
    """Raise if a handler's tools take the name that the window needs.

    Raises:
        DeclarationError: One does.
    """
    if policy.recall and RECALL in tools:
        raise DeclarationError(
            f"handler {name!r}",
            f"its tool {RECALL!r} has the name of the one that fetches back what was left out",
            "Give it another name=, or say ContextPolicy(recall=False).",
        )

"""Handlers of loops that are somebody else's: their tools, without code of ours to run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from undercroft.engine.handler import Handler
from undercroft.engine.tool import Tool
from undercroft.engine.turn import Turn
from undercroft.errors import DeclarationError
from undercroft.layers.sequencing.signature import Signature


def guest_handler(name: str, tools: Sequence[Tool[..., Any]]) -> Handler[..., Any]:
    """Return what a loop that is somebody else's may call.

    Raises:
        DeclarationError: Two resources that its tools name share a spelling.
    """

    async def loop(turn: Turn) -> None:
        raise DeclarationError(
            f"guest {turn.name!r}", "its loop is not ours to run", "Go on with it there."
        )

    loop.__name__ = loop.__qualname__ = name
    signature = Signature(f"guest {name!r}", (), {}, Any, is_async=True)
    made: Handler[..., Any] = Handler(loop, signature, tools, None)
    made.guest, made.import_name = True, name
    return made

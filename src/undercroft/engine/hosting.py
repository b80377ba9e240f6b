"""Where guests live: a runtime in each event loop that asks for one, closed with its loop.

Keeps: whoever brings a loop of their own need not know of ours; what is opened is closed when
its event loop is, or with the process.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from undercroft.engine.caller import BACKGROUND, Caller
from undercroft.engine.guests import GuestRunner
from undercroft.errors import DeclarationError

Opened = AbstractAsyncContextManager[GuestRunner]

# What is open in event loops that may never be closed, such as those that libraries keep for
# callers without one; with each the loop, or nobody could close it.
_open: dict[AsyncGenerator[GuestRunner, None], asyncio.AbstractEventLoop] = {}


class _Lodging:
    """What runs the guests of one event loop."""

    __slots__ = ("kept", "opening", "runner")

    def __init__(self) -> None:
        self.opening = asyncio.Lock()
        self.runner: GuestRunner | None = None
        # An event loop that is closed closes its generators first, and with it what they hold.
        self.kept: AsyncGenerator[GuestRunner, None] | None = None


class Hosting:
    """Opens what runs guests, once for each event loop.

    Args:
        make: Returns what opens another one with the same settings.
    """

    def __init__(self, make: Callable[[], Opened]) -> None:
        self._make = make
        self._lodgings: dict[asyncio.AbstractEventLoop, _Lodging] = {}

    async def runner(self) -> GuestRunner:
        """Return what runs guests in the event loop that runs now."""
        loop = asyncio.get_running_loop()
        lodging = self._lodgings.get(loop)
        if lodging is None:
            for closed in [other for other in self._lodgings if other.is_closed()]:
                del self._lodgings[closed]
            lodging = self._lodgings[loop] = _Lodging()
        if lodging.runner is None:
            async with lodging.opening:
                if lodging.runner is None:
                    await self._open(loop, lodging)
        assert lodging.runner is not None  # noqa: S101  it was opened just now
        return lodging.runner

    async def _open(self, loop: asyncio.AbstractEventLoop, lodging: _Lodging) -> None:
        lodging.kept = kept = self._keep(loop)
        lodging.runner = await anext(kept)
        _open[kept] = loop
        if loop is BACKGROUND.running:
            BACKGROUND.on_close(lodging.kept.aclose)

    async def _keep(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[GuestRunner, None]:
        try:
            async with self._make() as runner:
                yield runner
        finally:
            lodging = self._lodgings.pop(loop, None)
            if lodging is not None and lodging.kept is not None:
                _open.pop(lodging.kept, None)


def _close_left() -> None:
    """Close what is open in event loops that rest, before the process ends."""
    for kept, loop in list(_open.items()):
        if not loop.is_closed() and not loop.is_running():
            loop.run_until_complete(kept.aclose())


atexit.register(_close_left)


def caller_of(open_in: asyncio.AbstractEventLoop | None) -> Caller:
    """Return what a thread without an event loop waits with.

    Args:
        open_in: The event loop in which the runtime is open; None: in none yet.

    Raises:
        DeclarationError: It is that of this very thread, which would wait for itself.
    """
    if open_in is None or open_in.is_closed():
        return Caller(BACKGROUND.loop)
    if open_in is _running():
        raise DeclarationError(
            "runtime",
            "it is open in the event loop that this call would block",
            "Use the async API of your framework here, such as ainvoke; or give it a runtime "
            "that is not open: uc.Runtime(path).",
        )
    return Caller(open_in)


def ran(made: Any) -> Any:
    """Return `made`, or what it returns where it is a coroutine; for code without an event loop."""
    if not asyncio.iscoroutine(made):
        return made
    return asyncio.run_coroutine_threadsafe(made, BACKGROUND.loop).result()


def _running() -> Any:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None

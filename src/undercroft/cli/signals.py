"""Ctrl-C and SIGTERM end a command with its turns stopped, so that each can be resumed.

The first signal cancels the command: writes under way may end, nothing new begins. A second
Ctrl-C ends it at once; then the turns are as after a crash, which is no harm either.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from undercroft.cli.problem import StoppedError

T = TypeVar("T")


def run_until_stopped(
    main: Callable[[], Coroutine[Any, Any, T]], on_stop: Callable[[], None] = lambda: None
) -> T:
    """Run `main` on an event loop of its own and return its result.

    Args:
        main: What to run.
        on_stop: Called on the loop when the first signal arrives.

    Raises:
        StoppedError: A signal ended it.
        KeyboardInterrupt: A second Ctrl-C did.
    """
    received: list[int] = []

    async def guarded() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            on_stop()
            if task is not None:
                task.cancel()

        def handle(number: int, frame: FrameType | None) -> None:
            del frame
            if received and number == signal.SIGINT:
                # With the default handler in place the engine takes it for a person's.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                raise KeyboardInterrupt
            if not received:
                received.append(number)
                # Not here: a signal may arrive in the middle of a write to the terminal.
                loop.call_soon_threadsafe(stop)

        # Handlers of Python, not of the loop: they are called also while a step blocks it.
        before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            return await main()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        if received:
            raise StoppedError(received[0]) from None
        raise

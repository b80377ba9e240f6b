"""Functions that are not async run in threads that cannot keep a process from ending.

The threads of `asyncio.to_thread` are joined when the interpreter exits, so that one call
that never returns would hang the process for ever; these are daemons.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any


async def in_thread(fn: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
    """Return `fn(**kwargs)`, run in a thread of its own with this context.

    Cancelling stops the waiting, not the thread: what it returns later is dropped.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def work() -> None:
        hand_over(loop, done, lambda: context.run(fn, **kwargs))

    threading.Thread(target=work, name=f"undercroft-{fn.__name__}", daemon=True).start()
    return await done


def hand_over(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[Any], work: Callable[[], Any]
) -> None:
    """Do `work` in this thread, and settle a future of an event loop with what came of it."""

    def settle(value: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(value)
        elif isinstance(error, StopIteration):
            # A future cannot carry it.
            done.set_exception(RuntimeError("the function raised StopIteration"))
        else:
            done.set_exception(error)

    value, error = None, None
    try:
        value = work()
    except BaseException as raised:  # noqa: BLE001  whatever it is, it is the step's
        error = raised
    # Where the loop is closed by now, nobody is waiting any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(settle, value, error)

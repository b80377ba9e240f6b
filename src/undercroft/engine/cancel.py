"""Telling a step that cancels itself, or is cancelled by a tool, from one that is stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


async def caught(call: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """Await `call` in a task of its own; its error is a value.

    A task that raises SystemExit or KeyboardInterrupt would end the event loop.
    """
    try:
        value = await call
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            await take_back_cancel(task)
    except BaseException as error:  # noqa: BLE001  handed on by the caller
        return None, error
    return value, None


async def take_back_cancel(task: asyncio.Task[Any]) -> None:
    """Take back a cancellation that a step asked for on its own task and never met."""
    while task.cancelling():
        task.uncancel()
    try:
        # Where the request is still pending this is where it strikes, and not in a bystander.
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        log.debug("a step cancelled its own task and returned all the same")


def loop_runs() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def may_be_a_person() -> bool:
    """Whether a KeyboardInterrupt may come from the keyboard and not from a tool.

    Under `asyncio.run` Ctrl-C cancels the main task, so the exception itself is a tool's.
    """
    main = threading.current_thread() is threading.main_thread()
    return main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def ended_in(task: asyncio.Task[Any], limit_s: float) -> bool:
    """Wait for `task` for at most `limit_s` seconds; return whether it ended by then.

    As `asyncio.wait` does it, in three quarters of the time: most steps with a timeout pass here.
    """
    if task.done():
        return True
    loop = asyncio.get_running_loop()
    over: asyncio.Future[bool] = loop.create_future()

    def ended(_task: asyncio.Task[Any]) -> None:
        if not over.done():
            over.set_result(True)

    task.add_done_callback(ended)
    timer = loop.call_later(limit_s, _late, over)
    try:
        return await over
    finally:
        timer.cancel()
        task.remove_done_callback(ended)


def _late(over: asyncio.Future[bool]) -> None:
    if not over.done():
        over.set_result(False)

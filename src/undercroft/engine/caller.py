"""Threads that are not the event loop's, and ask it all the same.

Keeps: what a thread lends itself for runs in that thread, with its context, while it waits.

    caller = Caller(loop)
    result = caller.wait(lambda: guest.call(call, caller.lend(lambda: tool(request))))
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from undercroft.engine.inside import INSIDE
from undercroft.engine.threads import hand_over

T = TypeVar("T")
CLOSE_S = 10.0


class Caller:
    """One wait of a thread for what an event loop of another thread does.

    Args:
        loop: It runs in another thread.
    """

    __slots__ = ("_loop", "_work")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def wait(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what a coroutine returns that runs in the loop; raises what it raises."""
        future = asyncio.run_coroutine_threadsafe(_made(make), self._loop)
        future.add_done_callback(lambda _: self._work.put(None))
        try:
            while (work := self._work.get()) is not None:
                work()
        except BaseException:
            future.cancel()
            raise
        return future.result()

    def lend(self, fn: Callable[[], T]) -> Callable[[], Awaitable[T]]:
        """Return what has `fn` run in the thread that waits, from the loop."""

        async def run() -> T:
            loop = asyncio.get_running_loop()
            inside = INSIDE.get()
            done: asyncio.Future[T] = loop.create_future()

            def work() -> None:
                stopped: list[BaseException] = []

                def carried() -> T:
                    token = INSIDE.set(inside)
                    try:
                        return fn()
                    except (KeyboardInterrupt, SystemExit) as raised:
                        # It is this thread that is stopped; the call was cut off by that.
                        stopped.append(raised)
                        raise asyncio.CancelledError from raised
                    finally:
                        INSIDE.reset(token)

                hand_over(loop, done, carried)
                if stopped:
                    raise stopped[0]

            self._work.put(work)
            return await done

        return run


async def _made(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return await make()


class BackgroundLoop:
    """An event loop in a thread of its own, for code that has none; one for the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closers: list[Callable[[], Coroutine[Any, Any, None]]] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, which is begun when it is first asked for."""
        with self._lock:
            if self._loop is None:
                ready = threading.Event()
                threading.Thread(
                    target=self._run, args=(ready,), name="undercroft-loop", daemon=True
                ).start()
                ready.wait()
                atexit.register(self.close)
            assert self._loop is not None  # noqa: S101  the thread set it
            return self._loop

    @property
    def running(self) -> asyncio.AbstractEventLoop | None:
        """The loop, if it was begun."""
        return self._loop

    def on_close(self, closer: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have `closer` run in the loop before the process ends."""
        self._closers.append(closer)

    def _run(self, ready: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._loop = loop
        loop.call_soon(ready.set)
        loop.run_forever()
        loop.close()

    def close(self) -> None:
        """Let everything come to its end; for the end of the process."""
        loop = self._loop
        if loop is None or not loop.is_running():
            return
        closers, self._closers = self._closers, []

        async def run() -> None:
            for closer in closers:
                await closer()

        future = asyncio.run_coroutine_threadsafe(run(), loop)
        with contextlib.suppress(TimeoutError):
            future.result(CLOSE_S)
        loop.call_soon_threadsafe(loop.stop)


BACKGROUND = BackgroundLoop()

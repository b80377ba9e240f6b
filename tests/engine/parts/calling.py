"""A service, a clock that stands still, and ways to let a call through a breaker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from undercroft.engine.parts.breaker import Breaker
from undercroft.layers.breakers.policy import BreakerPolicy
from undercroft.layers.breakers.state import BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
# Opens at the first failure and asks one probe after 5 s.
TOUCHY = BreakerPolicy(failure_rate=None, failures_max=1, open_s=5.0, probes=1)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


class Service:
    """Something to call that does as it is told.

    Attributes:
        calls: How many have begun.
        error: Raised by each call, if given.
        gate: Waited for by each call.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.error: BaseException | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self, value: int = 0, *, more: int = 0) -> int:
        """Answer with the sum."""
        self.calls += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return value + more


async def raiser(error: BaseException) -> None:
    """Raise `error`."""
    raise error


async def fails(breaker: Breaker, error: Exception) -> None:
    """Let one call raise `error`."""
    with pytest.raises(type(error)):
        await breaker(raiser)(error)


async def through(breaker: Breaker, way: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Let one call through, in one of three ways."""
    if way == "decorator":
        await breaker(call)()
    elif way == "block":
        async with breaker:
            await call()
    else:
        async with breaker.call():
            await call()


async def half_open(breaker: Breaker, clock: Clock) -> None:
    """Open a touchy breaker and let its wait pass."""
    await fails(breaker, ConnectionError())
    assert breaker.state is OPEN
    clock.now_s += 5.0

"""A service of a runtime for code of one's own: the same breaker that its steps pass.

Keeps: a call passes the limit and the breaker of its service, and each permit is given back.
Leaves to whoever calls: retries, budgets and deadlines.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from undercroft.engine.parts.blocks import Blocks, check_async
from undercroft.engine.services import Gate

P = ParamSpec("P")
T = TypeVar("T")


class Guarded:
    """Lets calls pass what the steps of a runtime pass that talk to the same service.

        crm = rt.guard("crm")

        @crm
        async def ping() -> str: ...

        async with crm:
            ...  # one call, likewise

    Args:
        gate: Of the service.
        probe: Whether a call may be one that finds out whether the service is well again; not
            if it is a write that would happen twice if it were repeated.
    """

    def __init__(self, gate: Gate, *, probe: bool = True) -> None:
        self._gate, self._probe = gate, probe
        self._blocks: Blocks[AbstractAsyncContextManager[None]] = Blocks()

    def __repr__(self) -> str:
        return f"<Guarded {self._gate.name!r} {self._gate.circuit.state}>"

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """Guard `function`; its calls raise as the block does.

        Raises:
            DeclarationError: It is not an async function.
        """
        check_async(function, f"service {self._gate.name!r}")

        @functools.wraps(function)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            async with self._gate.passing("this call", math.inf, probe=self._probe):
                return await function(*args, **kwargs)

        return guarded

    async def __aenter__(self) -> None:
        """Begin a call.

        Raises:
            BreakerOpenError: The service keeps failing, and is left alone.
            OverloadedError: It asked to be left alone for longer than we wait.
            BudgetError: What may be spent on it is spent.
        """
        block = self._gate.passing("this call", math.inf, probe=self._probe)
        await block.__aenter__()
        self._blocks.enter(block)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; what it raised goes on."""
        await self._blocks.leave().__aexit__(kind, error, traceback)

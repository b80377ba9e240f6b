"""A service of a runtime for code of one's own: the same breaker that its steps pass.

Keeps: a call passes the limit and the breaker of its service, and each permit is given back.
Leaves to whoever calls: retries, budgets and deadlines.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from undercroft.engine.parts.blocks import Blocks, check_async
from undercroft.engine.services import Gate
from undercroft.errors import BreakerOpenError, OverloadedError
from undercroft.model.step import Refusal
from undercroft.ports import Clock

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
        clock: Time.
        probe: Whether a call may be one that finds out whether the service is well again; not
            if it is a write that would happen twice if it were repeated.
    """

    def __init__(self, gate: Gate, clock: Clock, *, probe: bool = True) -> None:
        self._gate, self._clock, self._probe = gate, clock, probe
        self._blocks: Blocks[tuple[int, float]] = Blocks()

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
            permit, began_s = await self._enter()
            try:
                value = await function(*args, **kwargs)
            except BaseException as error:
                self._leave(permit, began_s, error)
                raise
            said = self._gate.table.judge_value(value, service=self._gate.name)
            self._leave(permit, began_s, said)
            return value

        return guarded

    async def __aenter__(self) -> None:
        """Begin a call.

        Raises:
            BreakerOpenError: The service keeps failing, and is left alone.
            OverloadedError: It asked to be left alone for longer than we wait.
        """
        self._blocks.enter(await self._enter())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; what it raised goes on."""
        permit, began_s = self._blocks.leave()
        self._leave(permit, began_s, error)

    async def _enter(self) -> tuple[int, float]:
        gate = self._gate
        entered = await gate.enter("this call", probe=self._probe, left_s=math.inf)
        if not isinstance(entered, Refusal):
            gate.calls += 1
            return entered, self._clock.now_s()
        kind = BreakerOpenError if entered.rule == "breakers.open" else OverloadedError
        facts = entered.facts
        wait_s = facts.get("retry_in_s", facts.get("pause_s"))
        raise kind(gate.name, entered.message.removesuffix("."), "Ask again later.", wait_s)

    def _leave(self, permit: int, began_s: float, error: BaseException | None) -> None:
        gate, took_s = self._gate, self._clock.now_s() - began_s
        gate.took(1, None)
        if error is None:
            gate.succeeded(permit, took_s)
        elif isinstance(error, Exception):
            judged = gate.table.judge(error, changes=False, wall_s=self._clock.wall_s())
            gate.failed(permit, judged, error, took_s)
        else:
            gate.released(permit)

"""A time limit for any async code.

Keeps: an inner limit never outlasts an outer one; who cancels from outside sees a cancellation;
what was cut off has cleaned up before anybody is told.
Leaves to `asyncio.timeout`: cutting off, and telling its own cancellation from another's.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from undercroft.engine.parts.blocks import Blocks, check_async
from undercroft.errors import DeadlineError
from undercroft.layers.breakers.policy import checked_number

P = ParamSpec("P")
T = TypeVar("T")


class _Scope:
    """Code under a limit."""

    __slots__ = ("at_s", "over")

    def __init__(self, at_s: float) -> None:
        self.at_s, self.over = at_s, False


class _Block(_Scope):
    """The same, cut off by `timer`."""

    __slots__ = ("timer",)

    def __init__(self, at_s: float, timer: asyncio.Timeout) -> None:
        super().__init__(at_s)
        self.timer = timer


# The limits that this code runs under, those of its callers included.
_scopes: ContextVar[tuple[_Scope, ...]] = ContextVar("_scopes", default=())


def remaining_s() -> float:
    """Return the seconds that the innermost `Timeout` and those around it leave; else infinity."""
    # A task that outlives the block in which it was begun is not bound by it any more.
    ends = [scope.at_s for scope in _scopes.get() if not scope.over]
    if not ends:
        return math.inf
    return max(min(ends) - asyncio.get_running_loop().time(), 0.0)


class ending_in:  # noqa: N801  a block: `with ending_in(3.0): ...`
    """Lets code that is begun inside know that it is cut off in so many seconds, by others."""

    __slots__ = ("_scope", "_token")

    def __init__(self, limit_s: float) -> None:
        self._scope = _Scope(asyncio.get_running_loop().time() + limit_s)

    def __enter__(self) -> None:
        """Begin to say so."""
        self._token = _scopes.set((*_scopes.get(), self._scope))

    def __exit__(self, *_raised: object) -> None:
        """Say so no more."""
        self._scope.over = True
        _scopes.reset(self._token)


class Timeout:
    """Lets code take so many seconds, and no more.

        @uc.Timeout(5)
        async def get_account(account_id: str) -> Account: ...

        async with uc.Timeout(5):
            ...

    What takes longer is cancelled, and `DeadlineError` is raised in its place, whose cause shows
    where it stood. Retries inside end in time: no attempt is begun that would be cut off. Where
    an outer limit ends first, it is that one which raises.

    Args:
        seconds: Above 0.
        name: As the error says it; of a function, its own name.

    Raises:
        SettingError: `seconds` is not above 0, or endless.
    """

    __slots__ = ("_blocks", "name", "seconds")

    def __init__(self, seconds: float, *, name: str = "") -> None:
        checked_number("seconds", seconds, above=0)
        self.seconds, self.name = float(seconds), name
        self._blocks: Blocks[_Block] = Blocks()

    def __repr__(self) -> str:
        return f"<Timeout {self.name or 'of'} {self.seconds:g} s>"

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """Let each call of `function` take so long.

        Raises:
            DeclarationError: It is not an async function.
        """
        check_async(function, "a timeout")
        named = Timeout(self.seconds, name=self.name or getattr(function, "__name__", ""))

        @functools.wraps(function)
        async def limited(*args: P.args, **kwargs: P.kwargs) -> T:
            async with named:
                return await function(*args, **kwargs)

        return limited

    def remaining_s(self) -> float:
        """Return the seconds that are left here, under this limit and those around it."""
        return remaining_s()

    async def __aenter__(self) -> Self:
        """Begin a block that may take so long."""
        outer = [scope.at_s for scope in _scopes.get() if not scope.over]
        at_s = asyncio.get_running_loop().time() + self.seconds
        # An outer limit that ends first, or at once, cuts off both.
        timer = asyncio.timeout_at(at_s if at_s < min(outer, default=math.inf) else None)
        await timer.__aenter__()
        scope = _Block(min([at_s, *outer]), timer)
        self._blocks.enter(scope)
        _scopes.set((*_scopes.get(), scope))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End the block.

        Raises:
            DeadlineError: It took too long, and was cut off.
        """
        scope = self._blocks.leave()
        scope.over = True
        _scopes.set(tuple(other for other in _scopes.get() if other is not scope))
        try:
            await scope.timer.__aexit__(kind, error, at)
        except TimeoutError as late:
            raise DeadlineError(
                self.name or "(a block)",
                f"it took longer than {self.seconds:g} s and was cut off",
                "Give it longer, or have it do less.",
            ) from late

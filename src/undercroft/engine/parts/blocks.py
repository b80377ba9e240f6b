"""What the parts share: blocks that are entered and left, and functions that can be guarded.

Keeps: one part may guard many blocks at a time, in as many tasks, and each is left once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from undercroft.errors import DeclarationError, SettingError

B = TypeVar("B")


class Blocks(Generic[B]):
    """The blocks of one part that are entered now."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: list[B] = []

    def enter(self, block: B) -> None:
        """Remember `block`, entered by this task."""
        self._open.append(block)
        _entered.set((*_entered.get(), (self, block)))

    def leave(self) -> B:
        """Forget the block that this task entered last, and return it.

        Raises:
            RuntimeError: None was entered.
        """
        mine = [block for owner, block in _entered.get() if owner is self]
        mine = [block for block in mine if any(block is other for other in self._open)]
        if not mine and not self._open:
            msg = "a block is left that was never entered"
            raise RuntimeError(msg)
        # Another task may leave it, as happens to generators: then it is the oldest.
        block: B = mine[-1] if mine else self._open[0]
        self._open = [other for other in self._open if other is not block]
        _entered.set(tuple(pair for pair in _entered.get() if pair[1] is not block))
        return block


# Blocks that this task entered and has not left, over all parts.
_entered: ContextVar[tuple[tuple[Blocks[Any], Any], ...]] = ContextVar("_entered", default=())


def check_async(function: object, part: str) -> None:
    """Raise unless calls of `function` are awaited.

    Raises:
        DeclarationError: They are not.
    """
    called = getattr(type(function), "__call__", None)  # noqa: B004  its own, not that of its class
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
        return
    raise DeclarationError(
        getattr(function, "__qualname__", repr(function)),
        f"{part} is for async functions",
        "Write it with async def.",
    )


def check_on(on: Any) -> None:
    """Raise unless `on` says which errors are meant.

    Raises:
        SettingError: It is no type of error, tuple of them, function or None.
    """
    kinds = on if isinstance(on, tuple) else (on,)
    if on is None or all(isinstance(k, type) and issubclass(k, Exception) for k in kinds):
        return
    if isinstance(on, tuple | type) or not callable(on):
        raise SettingError("on", on, "a type of Exception, a tuple of them, a function, or None")


def meant(on: Any, error: Exception) -> bool:
    """Whether `on` means `error`; a function that fails on it does not."""
    if on is None:
        return False
    if isinstance(on, tuple | type):
        return isinstance(error, on)
    says: Callable[[Exception], object] = on
    try:
        return bool(says(error))
    except Exception:  # noqa: BLE001  a user's function; the error itself matters more
        return False

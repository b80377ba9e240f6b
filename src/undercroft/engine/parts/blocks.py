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


class _Entry(Generic[B]):
    """A block that is entered; one of its own even where blocks are equal."""

    __slots__ = ("block",)

    def __init__(self, block: B) -> None:
        self.block = block


# Blocks that this task entered and has not left, over all parts.
_entered: ContextVar[tuple[_Entry[Any], ...]] = ContextVar("_entered", default=())


class Blocks(Generic[B]):
    """The blocks of one part that are entered now."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[_Entry[B], None] = {}

    def enter(self, block: B) -> None:
        """Remember `block`, entered by this task."""
        entry = _Entry(block)
        self._open[entry] = None
        _entered.set((*_entered.get(), entry))

    def leave(self) -> B:
        """Forget the block that this task entered last, and return it.

        Raises:
            RuntimeError: None was entered.
        """
        if not self._open:
            msg = "a block is left that was never entered"
            raise RuntimeError(msg)
        entered = _entered.get()
        # Another task may leave it, as happens to generators: then it is the oldest.
        entry = next((e for e in reversed(entered) if e in self._open), next(iter(self._open)))
        del self._open[entry]
        _entered.set(tuple(e for e in entered if e is not entry))
        return entry.block


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

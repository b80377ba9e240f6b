"""One part guards many blocks at a time, and each is left once."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from undercroft.engine.parts.blocks import Blocks, check_async, check_on, meant
from undercroft.errors import DeclarationError, SettingError


async def test_the_innermost_of_this_task_is_left_first() -> None:
    """Blocks of other tasks and of other parts are not mixed up with it, even if they are equal."""
    blocks: Blocks[str] = Blocks()
    other: Blocks[str] = Blocks()

    async def work(name: str) -> list[str]:
        left = []
        for n in range(3):
            blocks.enter(f"{name}{n}")
            other.enter("same")
            other.enter("same")
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
            left.append(blocks.leave())
            assert (other.leave(), other.leave()) == ("same", "same")
        return left

    left = await asyncio.gather(work("a"), work("b"))
    assert list(left) == [["a2", "a1", "a0"], ["b2", "b1", "b0"]]
    with pytest.raises(RuntimeError, match="never entered"):
        blocks.leave()


async def test_another_task_may_leave_a_block() -> None:
    """As happens to a generator that is closed elsewhere: still each is left once."""
    blocks: Blocks[int] = Blocks()

    async def enter(number: int) -> None:
        blocks.enter(number)

    await asyncio.create_task(enter(1))
    await asyncio.create_task(enter(2))
    assert [blocks.leave(), blocks.leave()] == [1, 2]
    blocks.enter(3)
    assert blocks.leave() == 3


class Callable:
    """Awaited when it is called."""

    async def __call__(self) -> None:
        """Be called."""


async def function() -> None:
    """Be called."""


def test_what_is_awaited_is_async() -> None:
    """Functions, methods, partial ones and objects; but no generators."""
    for awaited in (function, Callable(), Callable().__call__, functools.partial(function)):
        check_async(awaited, "a part")

    async def generator() -> Any:
        yield 1

    for other in (len, print, generator, Callable, 7):
        with pytest.raises(DeclarationError, match="a part is for async functions"):
            check_async(other, "a part")


def test_on_says_which_errors_are_meant() -> None:
    """A type, a tuple of them, or a function; one that fails means nothing."""
    error = KeyError("no")
    assert meant(LookupError, error)
    assert meant((ValueError, KeyError), error)
    assert meant(lambda e: "no" in str(e), error)
    assert not meant(None, error)
    assert not meant((), error)
    assert not meant(lambda _: 1 / 0, error)
    for good in (None, KeyError, (), (KeyError,), print):
        check_on(good)
    for bad in (int, "KeyError", (KeyError, 1), BaseException, 7):
        with pytest.raises(SettingError):
            check_on(bad)

"""Code takes so long, and no longer; who cancels from outside sees a cancellation."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.engine.parts.timeout import Timeout, remaining_s
from undercroft.errors import DeadlineError, DeclarationError, SettingError
from undercroft.testing.clock import run_virtual


def now_s() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


def virtual(main: Any) -> Any:
    """Run a test on virtual time."""

    def run() -> None:
        made: Coroutine[Any, Any, None] = main()
        run_virtual(made)

    run.__doc__ = main.__doc__
    return run


@virtual
async def test_what_takes_too_long_is_cut_off() -> None:
    """At the deadline `DeadlineError` is raised, and its cause shows where the code stood."""

    @Timeout(5)
    async def hang() -> None:
        await asyncio.sleep(99)

    with pytest.raises(DeadlineError, match="hang: it took longer than 5 s") as caught:
        await hang()
    assert now_s() == 5
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert isinstance(caught.value.__cause__.__cause__, asyncio.CancelledError)
    with pytest.raises(DeadlineError):
        async with Timeout(5):
            await asyncio.sleep(99)
    assert now_s() == 10
    with pytest.raises(DeadlineError, match="import"):
        async with Timeout(1, name="import"):
            await asyncio.sleep(99)


@virtual
async def test_what_is_in_time_is_left_alone() -> None:
    """Results and errors pass, a `TimeoutError` of the code's own among them."""

    @Timeout(5)
    async def ask(answer: int) -> int:
        """Ask."""
        await asyncio.sleep(4.9)
        return answer

    assert await ask(7) == 7
    assert (ask.__name__, ask.__doc__) == ("ask", "Ask.")
    for error in (ValueError, TimeoutError, asyncio.CancelledError):
        with pytest.raises(error):
            async with Timeout(5):
                raise error
    await asyncio.sleep(99)


@virtual
async def test_what_is_cut_off_cleans_up_first() -> None:
    """Whoever is told of the deadline may rely on the cleaning up, which may take its time."""
    seen = []

    async def work() -> None:
        try:
            await asyncio.sleep(99)
        finally:
            await asyncio.sleep(1)
            seen.append(now_s())

    with pytest.raises(DeadlineError):
        await Timeout(5)(work)()
    assert seen == [6]
    # A limit inside that ends in the meantime does not cut it short.
    with pytest.raises(DeadlineError):
        async with Timeout(2):
            await Timeout(2.5)(work)()
    assert seen == [6, 9]


@virtual
async def test_cancelling_from_outside_stays_a_cancellation() -> None:
    """Only our own cancelling becomes a `DeadlineError`."""

    @Timeout(5)
    async def hang() -> None:
        await asyncio.sleep(99)

    task = asyncio.create_task(hang())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    # Even if it comes while it cleans up after our own.
    async def slow() -> None:
        try:
            await asyncio.sleep(99)
        finally:
            await asyncio.sleep(5)

    task = asyncio.create_task(Timeout(5)(slow)())
    await asyncio.sleep(6)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # And whoever was cut off once can be cancelled again, and go on.
    async with Timeout(100):
        with suppress(DeadlineError):
            async with Timeout(1):
                await asyncio.sleep(99)
        await asyncio.sleep(1)


@virtual
async def test_an_inner_limit_never_outlasts_an_outer_one() -> None:
    """The one that ends first cuts off, and it is that one which raises."""
    for outer_s, inner_s in ((2, 5), (5, 2), (3, 3)):
        began_s = now_s()
        told = []
        try:
            async with Timeout(outer_s, name="outer"):
                try:
                    async with Timeout(inner_s, name="inner"):
                        await asyncio.sleep(99)
                except DeadlineError as error:
                    told.append(error.step)
                    raise
        except DeadlineError as error:
            told.append(error.step)
        assert now_s() - began_s == min(outer_s, inner_s)
        assert told == (["inner", "inner"] if inner_s < outer_s else ["outer"])


@virtual
async def test_what_is_left_can_be_asked() -> None:
    """Inside it is the least of all limits around; outside it is endless."""
    assert remaining_s() == math.inf
    async with Timeout(10) as outer:
        await asyncio.sleep(1)
        async with Timeout(20) as inner:
            assert (remaining_s(), inner.remaining_s(), outer.remaining_s()) == (9, 9, 9)
        async with Timeout(3):
            assert remaining_s() == 3
        assert remaining_s() == 9
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(99)
        assert remaining_s() == 0
    assert remaining_s() == math.inf


@virtual
async def test_a_task_is_bound_by_the_block_that_began_it_while_that_lasts() -> None:
    """Children know the limit; who outlives it is free."""
    seen = []

    async def child() -> None:
        seen.append(remaining_s())
        await asyncio.sleep(5)
        seen.append(remaining_s())

    async with Timeout(3):
        task = asyncio.create_task(child())
        await asyncio.sleep(1)
    await task
    assert seen == [3, math.inf]


@virtual
async def test_one_timeout_serves_many_blocks() -> None:
    """Side by side, and one inside the other, each has its own time."""
    shared = Timeout(5)

    async def work(wait_s: float) -> str:
        await asyncio.sleep(wait_s)
        try:
            async with shared:
                await asyncio.sleep(wait_s)
                async with shared:
                    assert remaining_s() == 5 - wait_s
                    await asyncio.sleep(wait_s)
        except DeadlineError:
            return "late"
        return "done"

    done = await asyncio.gather(*(work(wait_s) for wait_s in (1, 2, 3, 4)))
    assert done == ["done", "done", "late", "late"]
    assert remaining_s() == math.inf


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 12))
def test_nested_limits_hold_together(limits: list[int], takes_s: int) -> None:
    """However limits are nested, the code inside has the least of them."""

    async def nest(rest: list[int]) -> None:
        if not rest:
            await asyncio.sleep(takes_s + 0.5)
            return
        async with Timeout(rest[0]):
            await nest(rest[1:])

    async def main() -> float:
        with suppress(DeadlineError):
            await nest(limits)
        return now_s()

    assert run_virtual(main()) == min(takes_s + 0.5, *limits)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, True, "5", None])
def test_a_bad_setting_fails_where_it_is_written(seconds: Any) -> None:
    """What is no limit names itself."""
    with pytest.raises(SettingError) as caught:
        Timeout(seconds)
    assert caught.value.name == "seconds"


def test_only_async_functions_can_be_cut_off() -> None:
    """What cannot be awaited is refused where it is declared."""
    sync: Any = lambda: 1  # noqa: E731  as a user may write it
    with pytest.raises(DeclarationError, match="a timeout is for async functions"):
        Timeout(1)(sync)

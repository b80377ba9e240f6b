"""What a client library sends inside one call is counted, and its attempts have an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from undercroft.engine.parts.wire import (
    REQUESTS_MAX,
    Wire,
    counting,
    wire_attempt,
    wire_attempt_sync,
)
from undercroft.errors import BudgetError


@dataclass(frozen=True)
class Request:
    """What a client hands to its hooks."""

    method: str
    url: str


ASK = Request("POST", "https://example.test/ask")


async def library(retries: int, request: object = ASK) -> int:
    """Stand for a client that tries again by itself, whatever it is told; return what it sent."""
    sent = 0
    for _ in range(1 + retries):
        try:
            await wire_attempt(request)
        except BudgetError:
            continue
        sent += 1
    return sent


async def test_outside_of_a_call_nothing_is_counted() -> None:
    """A hook that is installed once does no harm where nobody counts."""
    assert await library(3) == 4


async def test_retries_of_a_library_are_counted_and_end() -> None:
    """However often a library tries, no more goes over the wire than the call may send."""
    with counting(Wire(3, service="model")) as wire:
        assert await library(9) == 3
        with pytest.raises(BudgetError, match=r"model: it was not asked again.* 3 attempts"):
            await wire_attempt(ASK)
    assert (wire.count, wire.repeats, wire.refused) == (3, 3, 8)


async def test_a_repeated_request_is_told_from_another() -> None:
    """A call that sends many requests may send each as often as one."""
    with counting(Wire(repeats_allowed=2)) as wire:
        for page in range(5):
            assert await library(9, Request("GET", f"https://example.test/?page={page}")) == 2
        assert await library(9, Request("PUT", "https://example.test/?page=0")) == 2
        assert await library(9, None) == 2
        assert await library(9, object()) == 0
    assert (wire.count, wire.repeats) == (14, 2)


async def test_what_is_kept_of_requests_is_bounded() -> None:
    """A call of very many requests still counts them all."""
    with counting(Wire()) as wire:
        for n in range(REQUESTS_MAX + 10):
            await wire_attempt(Request("GET", str(n)))
        await library(4, Request("GET", "0"))
    assert (wire.count, wire.repeats) == (REQUESTS_MAX + 15, 6)


async def test_somebody_may_be_asked_for_more() -> None:
    """For each attempt after the first; not for one that is not allowed anyway."""
    asked = 0

    def more() -> str | None:
        nonlocal asked
        asked += 1
        return None if asked < 3 else "the budget is used up"

    with counting(Wire(more=more)) as wire:
        assert await library(2) == 3
        with pytest.raises(BudgetError, match="since the budget is used up"):
            await wire_attempt(ASK)
    assert (wire.count, wire.refused, asked) == (3, 1, 3)
    asked = 0
    with counting(Wire(more=more)) as outer, counting(Wire(1)):
        assert await library(5) == 1
    assert (outer.count, asked) == (1, 0)


async def test_whoever_counts_around_counts_too() -> None:
    """An attempt counts in every call around it, and is not made if one of them refuses."""
    with counting(Wire(3)) as outer:
        with counting(Wire(2)) as inner:
            assert await library(9) == 2
        with counting(Wire(2)) as other:
            assert await library(9) == 1
    assert (outer.count, inner.count, other.count) == (3, 2, 1)
    with counting(outer), counting(outer):
        pass
    assert await library(0) == 1


async def test_tasks_and_threads_count_for_the_call_that_began_them() -> None:
    """What a call does in parallel, or in a thread, is its own."""
    with counting(Wire()) as wire:
        await asyncio.gather(library(1), library(1))
        await asyncio.to_thread(wire_attempt_sync, ASK)
    assert wire.count == 5
    with counting(Wire()) as one, counting(Wire()):
        pass
    assert one.count == 0


async def test_calls_side_by_side_do_not_mix() -> None:
    """Two calls in flight count each their own."""

    async def call(retries: int) -> int:
        with counting(Wire()) as wire:
            await asyncio.sleep(0)
            await library(retries)
            await asyncio.sleep(0)
            return wire.count

    assert list(await asyncio.gather(call(0), call(3), call(5))) == [1, 4, 6]


async def test_a_generator_may_be_left_in_another_task() -> None:
    """That is of no concern to whoever leaves it."""

    async def rows() -> AsyncIterator[int]:
        with counting(Wire()) as wire:
            await wire_attempt()
            yield wire.count

    async def step(made: AsyncIterator[int]) -> int:
        return await anext(made)

    made = rows()
    assert await asyncio.create_task(step(made)) == 1
    with pytest.raises(StopAsyncIteration):
        await asyncio.create_task(step(made))

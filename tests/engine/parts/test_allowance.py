"""An allowance by itself: nothing begins for which too little is left, and every way out pays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.engine.parts.allowance import Allowance, Bill
from undercroft.engine.parts.wire import wire_attempt
from undercroft.errors import BudgetError, DeclarationError, SettingError
from undercroft.layers.breakers.policy import NO_BUDGET, Budget
from undercroft.layers.breakers.spend import NOTHING, Amount, Left
from undercroft.testing.clock import run_virtual


async def within(bill: Bill, took_s: float = 0.0) -> None:
    """Spend what is set aside, and some time."""
    async with bill:
        await asyncio.sleep(took_s)


# As a decorator


def test_each_call_takes_an_attempt_and_its_time() -> None:
    """A decorated function is called as often as there are attempts, and its seconds add up."""

    async def main() -> None:
        allowance = Allowance(Budget(attempts=3), name="research")

        @allowance
        async def work(took_s: float, *, plus: int = 0) -> int:
            """Say what was given."""
            await asyncio.sleep(took_s)
            return int(took_s) + plus

        assert work.__name__ == "work"
        assert work.__doc__ == "Say what was given."
        assert list(await asyncio.gather(work(1), work(2), work(3, plus=1))) == [1, 2, 4]
        assert allowance.spent == Amount(attempts=3, time_us=6_000_000)
        with pytest.raises(BudgetError) as caught:
            await work(1)
        assert caught.value.service == "research"
        assert str(caught.value) == (
            "research: the budget of 'research' is 3 attempts: 0 left, and this call may take 1. "
            "Ask for less, or raise attempts= of that budget."
        )

    run_virtual(main())


def test_only_so_many_of_many_at_once_begin() -> None:
    """Of a hundred calls at the same moment exactly as many run as there are attempts."""
    ran = 0

    async def main() -> list[Any]:
        allowance = Allowance(Budget(attempts=7))

        @allowance
        async def work() -> None:
            nonlocal ran
            ran += 1
            await asyncio.sleep(1)

        return list(await asyncio.gather(*[work() for _ in range(100)], return_exceptions=True))

    results = run_virtual(main())
    assert ran == 7
    assert sum(isinstance(result, BudgetError) for result in results) == 93


def test_a_call_that_fails_counts() -> None:
    """Errors pass as they are, and the attempt and its time are spent."""

    async def main() -> None:
        allowance = Allowance(NO_BUDGET)

        @allowance
        async def work() -> None:
            await asyncio.sleep(2)
            raise KeyError("no")

        with pytest.raises(KeyError):
            await work()
        assert allowance.spent == Amount(attempts=1, time_us=2_000_000)

    run_virtual(main())


@pytest.mark.parametrize("fn", [len, lambda: None, 7])
def test_an_allowance_is_for_async_functions(fn: Any) -> None:
    """What cannot be awaited is refused where it is decorated."""
    with pytest.raises(DeclarationError, match="async"):
        Allowance(NO_BUDGET)(fn)


@pytest.mark.parametrize("budget", [None, 3, {"attempts": 3}])
def test_an_allowance_is_of_a_budget(budget: Any) -> None:
    """What is no budget fails where it is given."""
    with pytest.raises(SettingError, match="budget"):
        Allowance(budget)


# As a block


def test_a_bill_says_what_was_taken() -> None:
    """What was set aside and not taken comes back when the block is left."""

    async def main() -> None:
        allowance = Allowance(Budget(output_tokens=1_000, usd=1.0))
        async with allowance.spend(output_tokens=900, usd=0.5) as bill:
            assert allowance.left == Left(output_tokens=100, usd=0.5)
            bill.settle(output_tokens=300, usd=0.125)
            bill.settle(input_tokens=70)
            assert allowance.left == Left(output_tokens=100, usd=0.5)
        assert allowance.spent == Amount(1, 0, 70, 300, 125_000_000)
        assert allowance.left == Left(output_tokens=700, usd=0.875)

    run_virtual(main())


@pytest.mark.parametrize("way", ["return", "raise", "cancel"])
def test_without_a_bill_all_that_was_set_aside_counts(way: str) -> None:
    """Nobody gets back what may have been taken, whatever way the block was left."""

    async def main() -> None:
        allowance = Allowance(NO_BUDGET)

        async def work() -> None:
            async with allowance.spend(input_tokens=5, output_tokens=10, usd=0.25):
                await asyncio.sleep(1)
                if way == "raise":
                    raise ValueError
                await asyncio.sleep(9)

        task = asyncio.ensure_future(work())
        await asyncio.sleep(4)
        if way == "cancel":
            task.cancel()
        await asyncio.wait([task])
        took_us = {"return": 10, "raise": 1, "cancel": 4}[way] * 1_000_000
        assert allowance.spent == Amount(1, took_us, 5, 10, 250_000_000)

    run_virtual(main())


def test_a_failed_call_that_was_not_charged_gives_back() -> None:
    """A bill that was settled before the error counts as it was settled."""

    async def main() -> None:
        allowance = Allowance(NO_BUDGET)

        async def work() -> None:
            async with allowance.spend(output_tokens=10, usd=0.25) as bill:
                bill.settle(output_tokens=0, usd=0)
                raise KeyError

        with pytest.raises(KeyError):
            await work()
        assert allowance.spent == Amount(attempts=1)

    run_virtual(main())


def test_what_was_taken_beyond_is_recorded() -> None:
    """A call that took more than was set aside is recorded as it was, and the next is refused."""

    async def main() -> None:
        allowance = Allowance(Budget(output_tokens=100))
        async with allowance.spend(output_tokens=50) as bill:
            bill.settle(output_tokens=130)
        assert allowance.spent.output_tokens == 130
        assert allowance.overrun == Amount(output_tokens=30)
        assert allowance.left == Left(output_tokens=0)
        with pytest.raises(BudgetError, match="0 left"):
            await within(allowance.spend(output_tokens=1))

    run_virtual(main())


def test_attempts_of_a_client_library_count() -> None:
    """A client that retries inside is stopped when no attempt is left."""

    async def main() -> None:
        allowance = Allowance(Budget(attempts=3))
        tries = 0

        async def work() -> None:
            nonlocal tries
            async with allowance.spend() as bill:
                bill.settle(output_tokens=1)
                while True:
                    tries += 1
                    bill.attempt()

        with pytest.raises(BudgetError):
            await work()
        assert tries == 3
        assert allowance.spent.attempts == 3

    run_virtual(main())


def test_attempts_on_the_wire_count() -> None:
    """What a client library sends is counted by its hook, and refused when no attempt is left."""

    async def main() -> None:
        allowance, sent = Allowance(Budget(attempts=5), name="vendor"), 0

        async def request(times: int) -> None:
            nonlocal sent
            for _ in range(times):
                await wire_attempt()
                sent += 1

        request_often = allowance(request)
        await request_often(0)
        await request_often(1)
        assert allowance.spent.attempts == 2, "what is called and sends once took one attempt"
        async with allowance.spend(attempts=2):
            await request(2)
        assert allowance.spent.attempts == 4
        with pytest.raises(BudgetError, match="5 attempts: 0 left"):
            await request_often(3)
        assert sent == 4
        assert allowance.spent.attempts == 5
        await request(3)
        assert allowance.spent.attempts == 5, "outside of a block nothing is counted"

    run_virtual(main())


def test_a_block_left_by_another_task_is_paid_for() -> None:
    """A block within a generator that is closed elsewhere ends as any other."""

    async def main() -> None:
        allowance = Allowance(NO_BUDGET)

        async def numbers() -> AsyncIterator[int]:
            async with allowance.spend():
                yield 1
                yield 2

        made = numbers()
        assert await asyncio.ensure_future(anext(made)) == 1
        assert await asyncio.ensure_future(anext(made)) == 2
        with pytest.raises(StopAsyncIteration):
            await anext(made)
        assert allowance.spent.attempts == 1
        assert allowance.spent.time_us == 0

    run_virtual(main())


def test_a_bill_is_for_one_block() -> None:
    """A bill is entered once, and its attempts are counted within."""

    async def main() -> None:
        bill = Allowance(NO_BUDGET).spend()
        with pytest.raises(RuntimeError, match="within"):
            bill.attempt()
        await within(bill)
        with pytest.raises(RuntimeError, match="one block"):
            await within(bill)
        with pytest.raises(RuntimeError, match="settled"):
            bill.attempt()

    run_virtual(main())


@pytest.mark.parametrize("unit", ["attempts", "input_tokens", "output_tokens", "usd"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1"])
def test_senseless_amounts_are_refused(unit: str, value: Any) -> None:
    """Less than nothing can neither be asked for nor be taken, and the error names the unit."""

    async def main() -> None:
        allowance = Allowance(NO_BUDGET)
        with pytest.raises(SettingError, match=unit):
            allowance.spend(**{unit: value})
        with pytest.raises(SettingError, match=unit):
            async with allowance.spend(attempts=2) as bill:
                bill.settle(**{unit: value})
        assert allowance.spent == Amount(attempts=2)

    run_virtual(main())


# Seconds


def test_seconds_of_calls_side_by_side_add_up() -> None:
    """Four calls at once use four seconds a second, and are cut off when all are used."""

    async def main() -> None:
        allowance = Allowance(Budget(time_s=10.0), name="slow")
        calls = [within(allowance.spend(), 100) for _ in range(4)]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert str(error) == (
                "slow: the budget of 'slow' is 10 s: 0 s left. "
                "Ask for less, or raise time_s= of that budget."
            )
            assert isinstance(error, BudgetError)
        assert asyncio.get_running_loop().time() == pytest.approx(2.5)
        assert allowance.spent == Amount(attempts=4, time_us=10_000_000)
        with pytest.raises(BudgetError, match="0 s left"):
            await within(allowance.spend())

    run_virtual(main())


def test_a_call_that_does_not_stop_is_counted() -> None:
    """A block that ignores being cut off keeps its result, and its time is recorded."""

    async def main() -> None:
        allowance = Allowance(Budget(time_s=2.0))
        async with allowance.spend():
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                await asyncio.sleep(3)
        assert allowance.spent.time_us == 5_000_000
        assert allowance.overrun == Amount(time_us=3_000_000)

    run_virtual(main())


def test_being_cancelled_is_not_being_cut_off() -> None:
    """Cancelling from outside stays a cancellation, and an own timeout stays one."""

    async def main() -> None:
        allowance = Allowance(Budget(time_s=10.0))
        task = asyncio.ensure_future(within(allowance.spend(), 100))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        with pytest.raises(TimeoutError):
            async with allowance.spend():
                raise TimeoutError
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), allowance.spend():
                await asyncio.sleep(100)
        assert allowance.spent == Amount(attempts=3, time_us=2_000_000)

    run_virtual(main())


blocks = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 8), st.booleans()), min_size=1, max_size=8
)


@given(blocks, st.integers(1, 40))
def test_seconds_are_never_overshot(blocks: list[tuple[int, int, bool]], limit_s: int) -> None:
    """Whatever overlaps: what is spent is the sum of what ran, cut off exactly at the limit."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        allowance, ran_s = Allowance(Budget(time_s=limit_s)), 0.0

        async def work(at_s: int, took_s: int, fails: bool) -> None:  # noqa: FBT001  one of a tuple
            nonlocal ran_s
            await asyncio.sleep(at_s)
            async with allowance.spend():
                begun_s = loop.time()
                try:
                    await asyncio.sleep(took_s)
                finally:
                    ran_s += loop.time() - begun_s
                if fails:
                    raise KeyError

        works = [work(*block) for block in blocks]
        for error in await asyncio.gather(*works, return_exceptions=True):
            assert error is None or isinstance(error, KeyError | BudgetError)
        assert allowance.spent.time_s == pytest.approx(ran_s, abs=1e-5)
        assert ran_s <= limit_s + 1e-5
        wanted_s = sum(took_s for _, took_s, _ in blocks)
        assert ran_s == pytest.approx(min(wanted_s, limit_s), abs=1e-5)

    run_virtual(main())


# Over several lives


def test_an_allowance_outlives_its_process() -> None:
    """What an earlier life spent is spent, and is not changed below calls under way."""

    async def main() -> None:
        allowance = Allowance(Budget(attempts=5))
        allowance.restore(Amount(attempts=4))
        async with allowance.spend():
            with pytest.raises(BudgetError, match="under way"):
                allowance.restore(NOTHING)
        with pytest.raises(BudgetError):
            await within(allowance.spend())

    run_virtual(main())


def test_an_allowance_goes_from_loop_to_loop() -> None:
    """One after the other, several event loops may spend of the same allowance."""
    allowance = Allowance(Budget(time_s=5.0))
    for _ in range(2):
        run_virtual(within(allowance.spend(), 2))
        assert allowance.spent.time_us % 2_000_000 == 0
    assert allowance.left == Left(time_s=1.0)
    with pytest.raises(BudgetError):
        run_virtual(within(allowance.spend(), 2))
    assert allowance.left == Left(time_s=0.0)


async def test_an_object_that_is_called_like_an_async_function_is_one() -> None:
    """Whatever is awaited when it is called can be decorated."""

    class Tool:
        async def __call__(self, number: int) -> int:
            return 2 * number

    work = Allowance(NO_BUDGET)(Tool())
    assert await work(4) == 8

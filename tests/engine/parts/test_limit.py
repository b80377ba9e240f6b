"""So many calls are in flight, the others wait their turn, and a service may say "too many"."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.engine.parts.limit import Limit
from undercroft.errors import DeclarationError, OverloadedError, ServiceError, SettingError
from undercroft.layers.breakers.policy import LimitPolicy
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


class Service:
    """Takes a second for each call, and counts."""

    def __init__(self, takes_s: float = 1.0) -> None:
        self.takes_s, self.flying, self.most = takes_s, 0, 0
        self.began: list[int] = []

    async def __call__(self, number: int = 0) -> int:
        """Be called."""
        self.began.append(number)
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.flying -= 1
        return number


@virtual
async def test_no_more_than_that_are_in_flight() -> None:
    """The others begin as places become free, in the order in which they came."""
    service = Service()
    ask = Limit(3)(service)
    assert await asyncio.gather(*map(ask, range(10))) == list(range(10))
    assert service.most == 3
    assert service.began == list(range(10))
    assert now_s() == 4


@virtual
async def test_without_a_limit_nobody_waits() -> None:
    """As long as the service does not complain, any number may be in flight."""
    service = Service()
    limit = Limit()
    await asyncio.gather(*map(limit(service), range(500)))
    assert (service.most, now_s(), limit.most, limit.in_flight) == (500, 1, None, 0)


@virtual
async def test_a_block_is_a_call() -> None:
    """`async with` takes a place and gives it back, however it ends, also one inside another."""
    limit = Limit(2)
    async with limit:
        async with limit:
            assert limit.in_flight == 2
        with pytest.raises(ValueError, match="no"):
            async with limit:
                raise ValueError("no")
        assert limit.in_flight == 1
    assert limit.in_flight == 0
    with pytest.raises(RuntimeError, match="never entered"):
        await limit.__aexit__(None, None, None)


@virtual
async def test_a_wait_has_an_end() -> None:
    """Who finds no place in time is refused, and was not called."""
    service = Service(takes_s=60)
    limit = Limit(1, wait_s=5, name="crm")
    ask = limit(service)
    task = asyncio.create_task(ask(0))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match=r"crm: it was not called.* 5 s did not") as caught:
        await ask(1)
    assert (now_s(), caught.value.retry_in_s) == (5, None)
    assert (await task, service.began, limit.waiting) == (0, [0], 0)
    impatient = Limit(1, wait_s=0)
    async with impatient:
        with pytest.raises(OverloadedError):
            await impatient.__aenter__()


@virtual
async def test_not_too_many_wait() -> None:
    """Beyond `waiting_max` a call is refused at once."""
    limit = Limit(1, waiting_max=2)
    ask = limit(Service())
    tasks = [asyncio.create_task(ask(n)) for n in range(3)]
    await asyncio.sleep(0)
    assert (limit.in_flight, limit.waiting) == (1, 2)
    with pytest.raises(OverloadedError):
        await ask(3)
    assert now_s() == 0
    assert await asyncio.gather(*tasks) == [0, 1, 2]


@virtual
async def test_cancelled_calls_leave_no_hole() -> None:
    """Who is cancelled in flight or while waiting gives his place to the next."""
    service = Service()
    limit = Limit(2)
    tasks = [asyncio.create_task(limit(service)(n)) for n in range(6)]
    await asyncio.sleep(0.5)
    tasks[0].cancel()
    tasks[2].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [n for n in results if isinstance(n, int)] == [1, 3, 4, 5]
    assert service.began == [0, 1, 3, 4, 5]
    assert (limit.in_flight, limit.waiting, service.most) == (0, 0, 2)


@virtual
async def test_a_place_that_came_too_late_goes_to_the_next() -> None:
    """A place that was given in the very moment in which its waiter gave up is not lost."""
    limit = Limit(1, wait_s=1)
    ask = limit(Service(takes_s=1))
    first, second, third = (asyncio.create_task(ask(n)) for n in range(3))
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert (limit.in_flight, limit.waiting) == (0, 0)
    task = asyncio.create_task(ask(3))
    other = asyncio.create_task(ask(4))
    await asyncio.sleep(0.5)
    # In the same tick: the place is given, and its waiter is cancelled.
    asyncio.get_running_loop().call_at(now_s() + 0.5, other.cancel)
    await asyncio.gather(task, other, return_exceptions=True)
    assert (limit.in_flight, limit.waiting) == (0, 0)
    assert await ask(5) == 5


def too_many(hint_s: float | None = None) -> ServiceError:
    """Return what a service says that has enough of us."""
    return ServiceError("crm", "too many", 429, "", hint_s)


@virtual
async def test_too_many_halves_it_and_it_recovers() -> None:
    """A service that takes 8 at a time is soon given about that, and is asked ever less in vain."""
    capacity = 8
    flying = refused = 0
    limit = Limit(name="crm", wait_s=600, waiting_max=10_000)

    @limit
    async def ask() -> None:
        nonlocal flying, refused
        if flying >= capacity:
            refused += 1
            await asyncio.sleep(0.01)
            raise too_many()
        flying += 1
        try:
            await asyncio.sleep(1)
        finally:
            flying -= 1

    await asyncio.gather(*(ask() for _ in range(40)), return_exceptions=True)
    assert refused == 32
    assert limit.most is not None
    assert limit.most < 40
    before = refused
    answers = await asyncio.gather(*(ask() for _ in range(800)), return_exceptions=True)
    assert refused - before < 60
    assert sum(answer is None for answer in answers) > 740
    # At eight a second, eight hundred calls take a hundred seconds; probing costs some.
    assert now_s() < 200


@virtual
async def test_a_pause_is_kept_and_ends_by_itself() -> None:
    """Nothing begins before the service wants it; then who waits goes on by himself."""
    limit = Limit(wait_s=30)
    with pytest.raises(ServiceError):
        async with limit:
            raise too_many(5.0)
    assert limit.pause_s() == 5
    began = []

    async def ask() -> None:
        async with limit:
            began.append(now_s())

    await asyncio.gather(ask(), ask())
    assert began == [5, 5]
    with pytest.raises(ServiceError):
        async with limit:
            raise too_many(40.0)
    with pytest.raises(OverloadedError, match="asked to be left alone") as caught:
        await ask()
    assert (caught.value.retry_in_s, now_s()) == (40, 5)


@virtual
async def test_only_too_many_lowers_it() -> None:
    """Other failures, used up quotas and refusals say nothing about how many it takes."""
    limit = Limit()
    for error in (
        TimeoutError(),
        ServiceError("s", "p", 503),
        ServiceError("s", "p", 429, "insufficient_quota"),
        OverloadedError("s", "p", "m"),
        ValueError("no"),
    ):
        with pytest.raises(type(error)):
            async with limit:
                raise error
        assert (limit.most, limit.in_flight) == (None, 0)

    @limit
    async def ask() -> dict[str, Any]:
        return {"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down."}}

    await ask()
    assert limit.most == 1


@virtual
async def test_it_need_not_follow() -> None:
    """With `adaptive=False` it is what was declared; with a policy, it is lowered by that."""
    fixed = Limit(4, adaptive=False)
    with pytest.raises(ServiceError):
        async with fixed:
            raise too_many(5.0)
    assert (fixed.most, fixed.pause_s()) == (4, 0)
    gentle = Limit(10, adaptive=LimitPolicy(backoff=0.9, least=2))
    with pytest.raises(ServiceError):
        async with gentle:
            raise too_many()
    assert gentle.most == 2
    assert "at most 2, 0 in flight, 0 waiting" in repr(gentle)


@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(
            st.integers(0, 20), st.integers(1, 9), st.sampled_from(["ok", "fail", "off", "many"])
        ),
        max_size=25,
    ),
)
def test_whatever_happens_places_are_neither_lost_nor_doubled(
    most: int, calls: list[tuple[int, int, str]]
) -> None:
    """Calls that come, end, fail, are cancelled or complained about at any time leave all free."""

    async def main() -> None:
        limit = Limit(most, wait_s=7)
        flying = 0

        @limit
        async def ask(takes: int, how: str) -> None:
            nonlocal flying
            flying += 1
            assert flying <= most
            try:
                await asyncio.sleep(takes)
            finally:
                flying -= 1
            if how == "fail":
                raise ValueError("no")
            if how == "many":
                raise too_many(float(takes))

        async def come(at: int, takes: int, how: str) -> None:
            await asyncio.sleep(at)
            task = asyncio.create_task(ask(takes, how))
            if how == "off":
                await asyncio.sleep(takes // 2)
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or not isinstance(task.exception(), AssertionError)

        await asyncio.gather(*(come(*call) for call in calls))
        assert (limit.in_flight, limit.waiting, flying) == (0, 0, 0)
        await asyncio.sleep(limit.pause_s())
        async with limit:
            assert now_s() < 1_000

    run_virtual(main())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("most", 0),
        ("most", 1.5),
        ("most", math.nan),
        ("most", True),
        ("adaptive", None),
        ("adaptive", 0.5),
        ("wait_s", -1),
        ("wait_s", math.inf),
        ("waiting_max", -1),
        ("table", {}),
    ],
)
def test_a_bad_setting_fails_where_it_is_written(setting: str, value: Any) -> None:
    """Settings that make no sense name themselves."""
    with pytest.raises(SettingError) as caught:
        Limit(**{setting: value})
    assert caught.value.name == setting


def test_only_async_functions_are_limited() -> None:
    """What cannot be awaited is refused where it is declared."""
    sync: Any = lambda: 1  # noqa: E731  as a user may write it
    with pytest.raises(DeclarationError, match="a limit is for async functions"):
        Limit(1)(sync)

"""Calls that wait for room at a service that said: too many."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from tests.engine.vendor import Jitter, Vendor, batch, check_given_back, gate, virtual
from undercroft.errors import ServiceError
from undercroft.testing import run_virtual


def caller(vendor: Vendor, **options: Any) -> Any:
    """Return a tool that calls `vendor`, once for each number."""

    @uc.tool(peeks="a/{i}", service="vendor", **options)
    async def call(i: int) -> Any:
        return await vendor()

    return call


def one(vendor: Vendor, i: int = 0, **options: Any) -> Any:
    """Return a handler that calls `vendor` once."""
    return batch([caller(vendor, **options)], uc.Call("call", {"i": i}))


def limited(rt: uc.Runtime, *, flying: int = 2, pause_s: float | None = None) -> None:
    """Have the service say "too many" to as many calls as are in flight."""
    limit, now_s = gate(rt, "vendor").limit, asyncio.get_running_loop().time()
    for _ in range(flying):
        limit.began()
    limit.overloaded(now_s, now_s, pause_s)
    for _ in range(flying - 1):
        limit.released()


@virtual
async def test_whoever_asked_first_goes_first() -> None:
    """Turns wait for room in the order in which they came, whichever turn they are."""
    order: list[int] = []

    @uc.tool(peeks="a/{i}", service="vendor")
    async def call(i: int) -> str:
        order.append(i)
        await asyncio.sleep(1)
        return ""

    async with uc.Runtime() as rt:
        limited(rt)
        assert gate(rt, "vendor").limit.limit == 1
        running = []
        for i in range(6):
            handler = batch([call], uc.Call("call", {"i": i}))
            running.append(asyncio.ensure_future(rt.run(handler)))
            await asyncio.sleep(0.01)
        outcomes = await asyncio.gather(*running)
        assert all(outcome.value == ["ok"] for outcome in outcomes)
        assert order == list(range(6))
        check_given_back(rt, "vendor")


@virtual
async def test_whoever_gives_up_waiting_lets_the_next_one_go() -> None:
    """A turn that is cancelled, or out of time, at the head of the queue is not waited for."""
    vendor = Vendor(took_s=10)
    async with uc.Runtime() as rt:
        limited(rt)
        first = asyncio.ensure_future(rt.run(one(vendor)))
        await asyncio.sleep(1)
        cancelled = asyncio.ensure_future(rt.run(one(vendor)))
        await asyncio.sleep(1)
        late = asyncio.ensure_future(rt.run(one(vendor), timeout_s=3))
        await asyncio.sleep(1)
        last = asyncio.ensure_future(rt.run(one(vendor)))
        await asyncio.sleep(1)
        cancelled.cancel()
        assert (await first).value == ["ok"]
        assert (await late).status in ("failed", "degraded")
        assert (await last).value == ["ok"]
        assert vendor.calls == [0.0, 10.0]
        await asyncio.gather(cancelled, return_exceptions=True)
        check_given_back(rt, "vendor")


@pytest.mark.parametrize("pause_s", [5.0, 50.0])
def test_a_pause_is_waited_for_and_then_all_go(pause_s: float) -> None:
    """When it is over those that waited go as the limit lets them, and none is left behind."""

    @virtual
    async def main() -> None:
        vendor = Vendor(took_s=1)
        async with uc.Runtime() as rt:
            limited(rt, flying=6, pause_s=pause_s)
            assert gate(rt, "vendor").limit.limit == 3
            outcomes = await asyncio.gather(*(rt.run(one(vendor, i)) for i in range(9)))
            assert [outcome.value for outcome in outcomes] == [["ok"]] * 9
            assert min(vendor.calls) >= pause_s
            assert vendor.most >= 3
            assert asyncio.get_running_loop().time() < pause_s + 4
            check_given_back(rt, "vendor")

    main()


@virtual
async def test_nobody_waits_for_longer_than_it_is_worth() -> None:
    """Refused as overloaded once the patience of the policy, or of the turn, would be used up."""
    vendor = Vendor(took_s=1_000)
    limit = uc.LimitPolicy(pause_max_s=20)
    async with uc.Runtime(services=[uc.Service("vendor", limit=limit)]) as rt:
        limited(rt)
        slow = asyncio.ensure_future(rt.run(one(vendor)))
        await asyncio.sleep(1)
        outcome = await rt.run(one(vendor))
        assert outcome.value == ["breakers.overloaded"]
        assert (outcome.status, outcome.missing) == ("degraded", ("call",))
        assert asyncio.get_running_loop().time() == pytest.approx(21, abs=0.1)
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        check_given_back(rt, "vendor")


class Busy(Vendor):
    """A service that takes so many calls at a time, and says so to all others."""

    takes = 3

    async def __call__(self) -> Any:
        """Do what is next, or say that it is too much."""
        if self.running >= self.takes:
            self.calls.append(asyncio.get_running_loop().time())
            raise ServiceError("vendor", "too many", 429)
        return await super().__call__()


@settings(max_examples=40, deadline=None)
@given(
    turns=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.1, 1.0, 7.0]),
            st.integers(1, 6),
            st.sampled_from([None, None, 0.5, 4.0]),
            st.sampled_from([None, None, None, 0.7]),
        ),
        min_size=1,
        max_size=10,
    ),
    takes=st.integers(1, 4),
    took_s=st.sampled_from([0.0, 0.3, 2.0]),
    attempts=st.integers(1, 4),
)
def test_every_turn_ends_and_leaves_its_place(
    turns: list[tuple[float, int, float | None, float | None]],
    takes: int,
    took_s: float,
    attempts: int,
) -> None:
    """Whatever comes, waits, is cut off or is told to slow down: at rest the service is free."""

    async def main() -> None:
        vendor = Busy(took_s=took_s)
        vendor.takes = takes
        service = uc.Service("vendor", ratio=uc.RetryRatio(ratio=1, saved_max=100))
        async with uc.Runtime(services=[service], ids=Jitter(0.5)) as rt:
            running, cancels = [], []
            for wait_s, size, timeout_s, cancel_s in turns:
                await asyncio.sleep(wait_s)
                tool = caller(vendor, retry=uc.Retry(attempts=attempts, wait_s=0.2))
                handler = batch([tool], *[uc.Call("call", {"i": i}) for i in range(size)])
                task = asyncio.ensure_future(rt.run(handler, timeout_s=timeout_s))
                running.append(task)
                if cancel_s is not None:
                    cancels.append(asyncio.get_running_loop().call_later(cancel_s, task.cancel))
            done, pending = await asyncio.wait(running, timeout=1_000)
            assert not pending
            await asyncio.sleep(100)
            check_given_back(rt, "vendor")
            assert vendor.most <= takes
            assert gate(rt, "vendor").circuit.state == "closed"
            # And it is open to whoever comes next.
            assert (await rt.run(one(vendor))).value == ["ok"]
            for task in done:
                if not task.cancelled():
                    assert task.result().status in ("done", "degraded", "failed")

    run_virtual(main())

"""What a call passes before it is made: in which order, and what is given back afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

import undercroft as uc
from tests.engine.vendor import (
    Jitter,
    Vendor,
    batch,
    check_given_back,
    events,
    gate,
    settled,
    sweep,
    virtual,
)
from undercroft.errors import DomainError, ServiceError, UnknownOutcomeError
from undercroft.model.event import StepStarted
from undercroft.storage.memory import MemoryStore

ONE_FAILURE = uc.BreakerPolicy(failures_max=1, failure_rate=None, open_s=10, probes=1)
CALL = uc.Call("call")


def caller(vendor: Vendor, kind: str = "read", **options: Any) -> Any:
    """Return a tool that calls `vendor`: a read, a write, or one with a key."""
    if kind == "read":

        @uc.tool(reads="a", service="vendor", **options)
        async def call() -> Any:
            return await vendor()

    elif kind == "write":

        @uc.tool(writes="a", service="vendor", **options)
        async def call() -> Any:
            return await vendor()
    else:

        @uc.tool(writes="a", service="vendor", **options)
        async def call(key: uc.IdempotencyKey) -> Any:
            assert key
            return await vendor()

    return call


def one(vendor: Vendor, kind: str = "read", **options: Any) -> Any:
    """Return a handler that calls `vendor` once."""
    return batch([caller(vendor, kind, **options)], CALL)


# ---------------------------------------------------------------------- order


@virtual
async def test_a_budget_speaks_before_the_limit_and_the_limit_before_the_breaker() -> None:
    """Deadline, budget, limit, breaker: the first that says no is the one that is told."""
    vendor = Vendor()
    service = uc.Service("vendor", budget=uc.Budget(attempts=1))
    async with uc.Runtime(services=[service]) as rt:
        found = gate(rt, "vendor")
        assert (await rt.run(one(vendor))).value == ["ok"]
        now_s = asyncio.get_running_loop().time()
        rt.force_open("vendor", by="ada")
        found.limit.began()
        found.limit.overloaded(now_s, now_s, 50.0)
        assert (await rt.run(one(vendor))).value == ["breakers.budget"]
    async with uc.Runtime(services=[uc.Service("vendor")]) as rt:
        found = gate(rt, "vendor")
        now_s = asyncio.get_running_loop().time()
        rt.force_open("vendor", by="ada")
        assert (await rt.run(one(vendor))).value == ["breakers.open"]
        found.limit.began()
        found.limit.overloaded(now_s, now_s, 50.0)
        assert (await rt.run(one(vendor), timeout_s=20)).value == ["breakers.overloaded"]
        check_given_back(rt, "vendor")
    assert len(vendor.calls) == 1


@pytest.mark.parametrize("why", ["open", "budget", "overloaded", "unpaid"])
@pytest.mark.parametrize("kind", ["write", "keyed"])
def test_a_refused_write_was_never_begun(why: str, kind: str) -> None:
    """Wherever the process dies, a write that was refused leaves no doubt and no intent."""
    rules = {"overloaded": "breakers.overloaded", "open": "breakers.open"}

    def close_off(rt: uc.Runtime) -> None:
        if why == "open":
            rt.force_open("vendor", by="ada")
        if why == "overloaded":
            found = gate(rt, "vendor")
            found.limit.began()
            now_s = asyncio.get_running_loop().time()
            found.limit.overloaded(now_s, now_s, 1e4)

    budget = {"budget": uc.Budget(attempts=0), "unpaid": uc.Budget(usd=0.01)}.get(why)

    @virtual
    async def main() -> None:
        ends = await sweep(
            lambda vendor: one(vendor, kind, usd=0.02 if why == "unpaid" else 0.0),
            Vendor,
            first=close_off,
            services=[uc.Service("vendor", limit=uc.LimitPolicy(pause_max_s=1e4))],
            budgets=uc.Budgets(turn=budget or uc.Budget()),
            turn_timeout_s=1e3,
        )
        assert len(ends) > 2
        for end in ends:
            rule = rules.get(why, "breakers.budget")
            assert (end.outcome.status, end.outcome.value) == ("degraded", [rule])
            assert end.outcome.missing == ("call",)
            assert end.world.calls == []
            begun = events(end.store, StepStarted)
            assert not [e for e in begun if isinstance(e, StepStarted) and e.changes]

    main()


# ---------------------------------------------------------------------- given back

OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
ENDS: dict[str, Any] = {
    "fine": "fine",
    "no data": object(),
    "failed": ConnectionError("reset"),
    "refused": ConnectionRefusedError("nobody there"),
    "bug": ValueError("a bug"),
    "no": DomainError("no such account"),
    "unknown": UnknownOutcomeError("who knows"),
    "429": ServiceError("vendor", "slow down", 429, retry_after_s=3),
    "503": ServiceError("vendor", "down", 503),
    "quota": ServiceError("vendor", "pay", 429, "insufficient_quota"),
    "body": OVERLOADED,
    "stray": asyncio.CancelledError(),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "generator": GeneratorExit(),
    "group": ExceptionGroup("two", [ConnectionError("a"), ValueError("b")]),
}
BUDGET = uc.Budget(attempts=50, time_s=500)


@pytest.mark.parametrize("kind", ["read", "write", "keyed"])
@pytest.mark.parametrize("end", sorted(ENDS))
@pytest.mark.parametrize("way", ["short", "long"])
def test_whatever_a_call_comes_to_everything_is_given_back(end: str, kind: str, way: str) -> None:
    """Permit, place and reservation come back once, and the next turn gets through."""

    @virtual
    async def main() -> None:
        vendor, well = Vendor([ENDS[end]]), Vendor()
        service = uc.Service(
            "vendor",
            breaker=uc.BreakerPolicy(failures_max=50, failure_rate=None),
            retry=uc.Retry(attempts=2) if way == "long" else None,
            budget=BUDGET if way == "long" else uc.Budget(),
            timeout_s=5 if way == "long" else None,
        )
        async with uc.Runtime(services=[service], ownership=uc.Ownership(wait_s=1)) as rt:
            await asyncio.wait_for(rt.run(one(vendor, kind)), 100)
            assert vendor.calls
            check_given_back(rt, "vendor")
            await asyncio.sleep(70)
            assert (await rt.run(one(well))).value == ["ok"]
            check_given_back(rt, "vendor")
            if way == "long":
                spent = gate(rt, "vendor").account.spent
                assert spent.attempts == len(vendor.calls) + len(well.calls)

    main()


@pytest.mark.parametrize("end", sorted(ENDS))
@pytest.mark.parametrize("kind", ["read", "keyed"])
def test_a_probe_gives_its_permit_back_whatever_it_comes_to(end: str, kind: str) -> None:
    """After a probe the circuit is closed or open, or the permit is there for the next one."""

    @virtual
    async def main() -> None:
        vendor = Vendor([ConnectionRefusedError("down"), ENDS[end], "fine"])
        breaker = uc.BreakerPolicy(failures_max=1, failure_rate=None, open_s=10, probes=1)
        async with uc.Runtime(services=[uc.Service("vendor", breaker=breaker)]) as rt:
            await rt.run(one(vendor))
            assert gate(rt, "vendor").circuit.state == "open"
            await asyncio.sleep(10)
            await rt.run(one(vendor, kind))
            assert len(vendor.calls) >= 2
            check_given_back(rt, "vendor")
            await asyncio.sleep(20)
            assert (await rt.run(one(vendor))).value == ["ok"]

    main()


@pytest.mark.parametrize("kind", ["read", "write", "keyed"])
@pytest.mark.parametrize("budget", [None, uc.Budget(attempts=50)])
@pytest.mark.parametrize("how", ["cancelled", "timed out", "closed", "all stopped"])
@pytest.mark.parametrize("where", ["calling", "waiting for room", "waiting for a retry", "queued"])
def test_a_turn_that_is_cut_off_gives_everything_back(
    kind: str, budget: uc.Budget | None, how: str, where: str
) -> None:
    """Cancelled, out of time or stopped: whatever it was doing, nothing stays behind."""

    @virtual
    async def main() -> None:
        script = [ConnectionRefusedError("x")] if where == "waiting for a retry" else ["fine"]
        vendor = Vendor(script, took_s=0 if where == "waiting for a retry" else 100)
        service = uc.Service(
            "vendor",
            retry=uc.Retry(attempts=2, wait_s=100, wait_max_s=100),
            budget=budget or uc.Budget(),
            limit=uc.LimitPolicy(pause_max_s=200),
        )
        ids = Jitter(0.9)
        async with uc.Runtime(services=[service], ids=ids) as rt:
            found = gate(rt, "vendor")
            turns = 3 if where == "queued" else 1
            if where == "waiting for room":
                found.limit.began()
                found.limit.overloaded(0.0, 0.0, 150.0)
            if where == "queued":
                found.limit.began()
                found.limit.overloaded(0.0, 0.0)
            running = [
                asyncio.ensure_future(
                    rt.run(one(vendor, kind), timeout_s=5 if how == "timed out" else None)
                )
                for _ in range(turns)
            ]
            await asyncio.sleep(1)
            assert len(vendor.calls) == (0 if where == "waiting for room" else 1)
            if how == "cancelled":
                for task in running:
                    task.cancel()
            if how == "closed":
                await rt._runner.stop()  # noqa: SLF001  as leaving the runtime does
            if how == "all stopped":
                stopping = asyncio.ensure_future(rt._runner.stop())  # noqa: SLF001  likewise
                await asyncio.sleep(0.1)
                stopping.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await settled(rt, "vendor")

    main()


@virtual
async def test_a_read_that_meets_a_turn_being_stopped_gives_everything_back() -> None:
    """Between the permit and the begin a turn may be stopped: the permit is not lost."""
    slow = Vendor(took_s=3)

    @uc.tool(writes="a", service="slow")
    async def write() -> Any:
        return await slow()

    @uc.tool(reads="b", service="vendor")
    async def read() -> str:
        return "x"

    @uc.handler(tools=[write, read])
    async def both(turn: uc.Turn) -> str:
        async def later() -> None:
            await asyncio.sleep(2)
            async with turn.branch("b") as branch:
                await branch.calls([uc.Call("read")])

        await asyncio.gather(turn.calls([uc.Call("write")]), later())
        return ""

    for budget in (uc.Budget(), uc.Budget(attempts=3)):
        async with uc.Runtime(services=[uc.Service("vendor", budget=budget)]) as rt:
            running = asyncio.ensure_future(rt.run(both))
            await asyncio.sleep(1)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await settled(rt, "vendor", "slow")


@virtual
async def test_a_body_that_ignores_its_end_does_not_keep_its_place() -> None:
    """What is left behind with its turn holds no permit and no place any more."""
    go = asyncio.Event()

    @uc.tool(reads="a", service="vendor")
    async def stubborn() -> str:
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()
        return ""

    for budget in (uc.Budget(), uc.Budget(attempts=3)):
        go.clear()
        async with uc.Runtime(services=[uc.Service("vendor", budget=budget)]) as rt:
            outcome = await rt.run(batch([stubborn], uc.Call("stubborn")), timeout_s=1)
            assert outcome.status == "failed"
            try:
                await settled(rt, "vendor")
            finally:
                go.set()
                await asyncio.sleep(1)
            check_given_back(rt, "vendor")


def owning(seconds: float) -> Any:
    """Return a handler that owns `a` for some seconds."""

    @uc.tool(writes="a")
    async def take() -> str:
        return ""

    @uc.handler(tools=[take])
    async def own(turn: uc.Turn) -> str:
        await turn.calls([uc.Call("take")])
        await asyncio.sleep(seconds)
        return ""

    return own


@virtual
async def test_a_write_that_its_owner_refuses_gives_everything_back() -> None:
    """Refused after it had passed: nothing is held, and nothing counts as spent."""
    vendor = Vendor()
    budgets = uc.Budgets(session=uc.Budget(attempts=1))
    service = uc.Service("vendor", budget=uc.Budget(attempts=1))
    async with uc.Runtime(
        services=[service], budgets=budgets, ownership=uc.Ownership(wait_s=1)
    ) as rt:
        owner = asyncio.ensure_future(rt.run(owning(5)))
        await asyncio.sleep(0.1)
        refused = await rt.run(one(vendor, "write"), session="s")
        assert refused.value == ["conflicts.owned"]
        check_given_back(rt, "vendor")
        await owner
        assert (await rt.run(one(vendor, "write"), session="s")).value == ["ok"]
        assert (await rt.run(one(vendor, "write"), session="s")).value == ["breakers.budget"]


@virtual
async def test_waiting_for_an_owner_is_no_slowness_of_a_service() -> None:
    """What a write waits for before it is made counts neither as slow nor as time spent."""
    vendor = Vendor(took_s=0.5)
    breaker = uc.BreakerPolicy(slow_s=1, slow_rate=0.5, calls_min=1)
    async with uc.Runtime(
        services=[uc.Service("vendor", breaker=breaker)],
        budgets=uc.Budgets(turn=uc.Budget(time_s=100)),
    ) as rt:
        owner = asyncio.ensure_future(rt.run(owning(5)))
        await asyncio.sleep(0.1)
        outcome = await rt.run(one(vendor, "write"))
        await owner
        assert outcome.value == ["ok"]
        assert gate(rt, "vendor").circuit.state == "closed"
        (step,) = rt.trace(outcome.turn_id).steps
        assert step.spent is not None
        assert step.spent.time_s == pytest.approx(0.5)


@virtual
async def test_a_write_that_waits_for_an_owner_does_not_keep_the_only_probe() -> None:
    """Whoever waits holds no permit that others need."""
    vendor = Vendor([ConnectionError("down"), "fine"])
    async with uc.Runtime(services=[uc.Service("vendor", breaker=ONE_FAILURE)]) as rt:
        await rt.run(one(vendor))
        await asyncio.sleep(10)
        owner = asyncio.ensure_future(rt.run(owning(20)))
        await asyncio.sleep(0.1)
        write = asyncio.ensure_future(rt.run(one(vendor, "keyed")))
        await asyncio.sleep(5)

        @uc.tool(reads="b", service="vendor")
        async def look() -> Any:
            return await vendor()

        assert (await rt.run(batch([look], uc.Call("look")))).value == ["ok"]
        await owner
        assert (await write).value == ["ok"]


@pytest.mark.parametrize("way", ["short", "long"])
@pytest.mark.parametrize("kind", ["write", "keyed"])
def test_a_write_that_waited_meets_the_breaker_as_it_is_then(way: str, kind: str) -> None:
    """While it waited for an owner its service was given up: it is refused, and never began."""

    @virtual
    async def main() -> None:
        vendor, store = Vendor(), MemoryStore()
        budget = uc.Budget(attempts=9) if way == "long" else uc.Budget()
        async with uc.Runtime(store, services=[uc.Service("vendor", budget=budget)]) as rt:
            owner = asyncio.ensure_future(rt.run(owning(5)))
            await asyncio.sleep(0.1)
            write = asyncio.ensure_future(rt.run(one(vendor, kind)))
            await asyncio.sleep(1)
            rt.force_open("vendor", by="ada")
            await owner
            outcome = await write
            assert outcome.value == ["breakers.open"]
            assert (outcome.status, outcome.missing) == ("degraded", ("call",))
            assert vendor.calls == []
            begun = [e for e in events(store, StepStarted) if isinstance(e, StepStarted)]
            assert [e.name for e in begun if e.changes] == ["take"]
            check_given_back(rt, "vendor")
            if way == "long":
                assert gate(rt, "vendor").account.spent.attempts == 0

    main()

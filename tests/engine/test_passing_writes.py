"""Writes of which nobody knows whether they happened, on their way through a breaker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

import undercroft as uc
from tests.engine.test_passing import ONE_FAILURE, one
from tests.engine.vendor import (
    Crashed,
    Jitter,
    Vendor,
    batch,
    check_given_back,
    settled,
    sweep,
    virtual,
)
from undercroft.storage.memory import MemoryJournal, MemoryStore


@pytest.mark.parametrize("error", [TimeoutError("t"), ConnectionResetError("r")])
def test_a_write_of_unknown_outcome_is_not_made_again(error: Exception) -> None:
    """Without a key it is in doubt after one call, whatever the retry policy says."""

    @virtual
    async def main() -> None:
        vendor = Vendor([error, "fine"])
        async with uc.Runtime() as rt:
            outcome = await rt.run(one(vendor, "write", retry=uc.Retry(attempts=5)))
            assert outcome.status == "in_doubt"
            assert len(vendor.calls) == 1
            assert (await rt.resume(outcome.turn_id)).status == "in_doubt"
            assert len(vendor.calls) == 1
            check_given_back(rt, "vendor")

    main()


@pytest.mark.parametrize("later", ["open", "budget"])
def test_a_doubt_is_never_taken_for_a_refusal(later: str) -> None:
    """A keyed write that may not be repeated now stays in doubt, in every later process too."""

    @virtual
    async def main() -> None:
        vendor, journal = Vendor([TimeoutError("t"), "fine"]), MemoryJournal()
        handler = one(vendor, "keyed")
        breaker = ONE_FAILURE if later == "open" else uc.BreakerPolicy()
        options: dict[str, Any] = {
            "services": [uc.Service("vendor", breaker=breaker)],
            "budgets": uc.Budgets(turn=uc.Budget(attempts=1) if later == "budget" else uc.Budget()),
            "targets": [handler],
        }
        async with uc.Runtime(MemoryStore(journal), **options) as rt:
            outcome = await rt.run(handler)
            assert outcome.status == "in_doubt"
        for _ in range(2):
            async with uc.Runtime(MemoryStore(journal), **options) as rt:
                if later == "open":
                    rt.force_open("vendor", by="ada")
                again = await rt.resume(outcome.turn_id)
                assert again.status == "in_doubt", again
                assert [w.step_id for w in again.in_doubt] == ["call.1"]
        assert len(vendor.calls) == 1
        options["budgets"] = uc.Budgets()
        async with uc.Runtime(MemoryStore(journal), **options) as rt:
            rt.reset_breaker("vendor", by="ada")
            await asyncio.sleep(1)
            again = await rt.resume(outcome.turn_id)
            assert (again.status, again.value) == ("done", ["ok"])
        assert len(vendor.calls) == 2

    main()


@virtual
async def test_a_keyed_write_is_repeated_only_through_the_breaker() -> None:
    """The breaker that its first failure opened keeps the repetition back."""
    vendor = Vendor([TimeoutError("t")])
    async with uc.Runtime(services=[uc.Service("vendor", breaker=ONE_FAILURE)]) as rt:
        outcome = await rt.run(one(vendor, "keyed"))
        assert outcome.status == "in_doubt"
        assert len(vendor.calls) == 1
        check_given_back(rt, "vendor")


@virtual
async def test_repeating_keyed_writes_is_no_storm() -> None:
    """Repetitions under a key are retries: they stay a share of the calls."""
    vendor = Vendor([TimeoutError("t")])

    @uc.tool(appends="a/{i}", service="vendor")
    async def call(i: int, key: uc.IdempotencyKey) -> Any:
        assert key
        return await vendor()

    calls = [uc.Call("call", {"i": i}) for i in range(200)]
    service = uc.Service("vendor", breaker=None, ratio=uc.RetryRatio(floor_per_min=0))
    async with uc.Runtime(services=[service]) as rt:
        await rt.run(batch([call], *calls))
        # A tenth of the calls, and what was saved up before.
        assert len(vendor.calls) <= 200 + 20 + 10
        check_given_back(rt, "vendor")


@virtual
async def test_a_verify_passes_the_breaker_of_its_own_service() -> None:
    """What finds out about a write is a call like any other: not made while its service is shut."""
    looks = Vendor([1])

    @uc.tool(reads="x", service="reader")
    async def look() -> Any:
        return await looks()

    @uc.tool(writes="x", service="vendor", verify=look, read_first=False)
    async def put() -> int:
        raise TimeoutError("t")

    async with uc.Runtime() as rt:
        rt.force_open("reader", by="ada")
        outcome = await rt.run(batch([look, put], uc.Call("put")))
        assert outcome.status == "in_doubt"
        assert looks.calls == []
        check_given_back(rt, "vendor", "reader")


@virtual
async def test_reading_again_before_a_write_passes_the_breaker() -> None:
    """A record that cannot be looked at again is not overwritten, and its service left alone."""
    looks, puts = Vendor([1]), Vendor()

    @uc.tool(reads="x", service="reader")
    async def look() -> Any:
        return await looks()

    @uc.tool(writes="x", service="vendor")
    async def put() -> Any:
        return await puts()

    @uc.handler(tools=[look, put])
    async def change(turn: uc.Turn) -> list[str]:
        results = await turn.calls([uc.Call("look")])
        await asyncio.sleep(5)
        results += await turn.calls([uc.Call("put")])
        return [r.refusal.rule if r.refusal else str(r.status) for r in results]

    meddle = uc.Workflow("meddle")

    @meddle.execute(writes="x")
    async def other() -> int:
        return 2

    async with uc.Runtime() as rt:
        running = asyncio.ensure_future(rt.run(change))
        await asyncio.sleep(1)
        await rt.run(meddle)
        rt.force_open("reader", by="ada")
        outcome = await running
        assert outcome.value is not None
        assert outcome.value[0] == "ok"
        assert outcome.value[1].startswith("conflicts.")
        assert (len(looks.calls), len(puts.calls)) == (1, 0)
        check_given_back(rt, "vendor", "reader")


def doubtful(vendor: Vendor) -> Any:
    """Return a handler whose keyed write is of unknown outcome the first time."""
    vendor.script = [TimeoutError("t"), "fine"]
    return one(vendor, "keyed", retry=uc.Retry(attempts=3, wait_s=0.1))


def check_keyed(end: Crashed) -> None:
    """Assert that a keyed write was done, or is in doubt, and nothing else."""
    if end.outcome.status == "done":
        assert end.outcome.value == ["ok"]
        assert len(end.world.calls) >= 2
    else:
        assert end.outcome.status == "in_doubt", end


@virtual
async def test_a_keyed_write_of_unknown_outcome_survives_a_crash_at_every_commit() -> None:
    """Done under its key or in doubt: never refused, never failed, never forgotten."""
    for kind in (uc.BreakerPolicy(), ONE_FAILURE):
        ends = await sweep(
            doubtful,
            Vendor,
            services=[uc.Service("vendor", breaker=kind)],
            budgets=uc.Budgets(turn=uc.Budget(attempts=10)),
        )
        assert len(ends) > 6
        for end in ends:
            check_keyed(end)


@pytest.mark.parametrize("cut", ["crash", "closed", "cancelled"])
@pytest.mark.parametrize("kind", ["write", "keyed"])
def test_a_write_that_surely_failed_is_in_no_doubt_while_it_waits(kind: str, cut: str) -> None:
    """Cut off between two attempts it is made again: the first is known not to have happened."""

    @virtual
    async def main() -> None:
        vendor, journal = Vendor([ConnectionRefusedError("x"), "fine"]), MemoryJournal()
        handler = one(vendor, kind, retry=uc.Retry(attempts=3, wait_s=50, wait_max_s=50))
        store = MemoryStore(journal)
        async with uc.Runtime(store, targets=[handler], ids=Jitter(0.9)) as rt:
            running = asyncio.ensure_future(rt.run(handler))
            await asyncio.sleep(1)
            assert len(vendor.calls) == 1
            if cut == "crash":
                journal.fenced.add(store.runtime)
            if cut == "cancelled":
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await settled(rt, "vendor")
            if cut == "crash":
                await asyncio.gather(running, return_exceptions=True)
                await settled(rt, "vendor")
                journal.alive.discard(store.runtime)
        await asyncio.gather(running, return_exceptions=True)
        calls = len(vendor.calls)
        async with uc.Runtime(MemoryStore(journal), targets=[handler], ids=Jitter(0.9)) as rt:
            outcome = await rt.resume(rt.turns()[0].turn_id)
            assert (outcome.status, outcome.value) == ("done", ["ok"])
            assert len(vendor.calls) == calls + 1 == 2

    main()


@dataclass
class Ledger:
    """Who wrote, and whether the process of whoever writes is dead."""

    puts: list[str] = field(default_factory=list)
    dead: bool = False


def branching(world: Ledger) -> Any:
    """Return a handler of two branches that want to write to the same."""

    @uc.tool(peeks="z", service="reads")
    async def look() -> str:
        await asyncio.sleep(10)
        return ""

    @uc.tool(writes="y", service="vendor")
    async def put(who: str) -> str:
        if world.dead:
            raise ConnectionError("whoever calls is dead")
        world.puts.append(who)
        if who == "first":
            await asyncio.sleep(5)
            raise TimeoutError("t")
        return who

    @uc.handler(tools=[look, put])
    async def both(turn: uc.Turn) -> list[str]:
        async def one_branch() -> list[uc.Result]:
            async with turn.branch("a") as branch:
                calls = [uc.Call("put", {"who": who}) for who in ("first", "second")]
                return await branch.calls(calls)

        async def other_branch() -> list[uc.Result]:
            async with turn.branch("b") as branch:
                await branch.calls([uc.Call("look")])
                return await branch.calls([uc.Call("put", {"who": "third"})])

        ends = await asyncio.gather(one_branch(), other_branch())
        return [str(result.status) for results in ends for result in results]

    return both


@virtual
async def test_a_write_in_doubt_is_not_lost_to_another_branch() -> None:
    """Whoever comes first on a resume: what may have happened stays in doubt, and nobody else's."""
    for end in await sweep(branching, Ledger):
        if "first" in end.world.puts:
            assert end.outcome.status == "in_doubt", (end.commit, end.outcome)
            assert end.world.puts == ["first"], end.commit

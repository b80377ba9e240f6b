"""Budgets over crashes, resumes and processes: what was spent is never forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from tests.engine.vendor import (
    Crashed,
    Jitter,
    Vendor,
    batch,
    caller,
    each_in_turn,
    recorded,
    settled,
    spending,
    sweep,
    virtual,
)
from tests.engine.vendor import (
    numbered as call,
)
from undercroft.model.event import AttemptReserved, AttemptSpent
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.storage.sqlite import SqliteStore
from undercroft.testing import run_virtual


def slowly(vendor: Vendor) -> Any:
    """Return a handler of four calls, two of them side by side."""
    vendor.took_s = 1
    tool = caller(vendor, retry=uc.Retry(attempts=2, wait_s=0.1))

    @uc.handler(tools=[tool])
    async def some(turn: uc.Turn) -> list[str]:
        results = await turn.calls([call(1), call(2)])
        results += await turn.calls([call(3)])
        results += await turn.calls([call(4)])
        return [r.refusal.rule if r.refusal else str(r.status) for r in results]

    return some


def check_never_more(end: Crashed, limit: int) -> None:
    """Assert that no more calls were made than a budget has, and that each is on record."""
    made, total = len(end.world.calls), recorded(end.journal).attempts
    assert made <= limit, f"{made} calls (commit {end.commit})"
    assert made <= total <= limit, f"{made} calls, {total} on record (commit {end.commit})"


@pytest.mark.parametrize("limit", [2, 4, 5])
@pytest.mark.parametrize("script", [["fine"], [ConnectionError("x"), "fine"]])
def test_a_budget_survives_a_crash_at_every_commit(limit: int, script: list[Any]) -> None:
    """What was made or may have been is on record in all later lives, and never overshoots."""

    async def start(rt: uc.Runtime, target: Any) -> uc.Outcome:
        return await rt.run(target, budget=uc.Budget(attempts=limit))

    @virtual
    async def main() -> None:
        ends = await sweep(slowly, lambda: Vendor(script), start, ids=Jitter(0.5))
        assert len(ends) > 8
        for end in ends:
            if end.commit == 0:
                assert len(end.world.calls) == min(limit, 4 if script == ["fine"] else 5)
            check_never_more(end, limit)

    main()


def keyed(vendor: Vendor) -> Any:
    """Return a handler of two writes under keys."""

    @uc.tool(writes="a/{i}", service="vendor")
    async def call(i: int, key: uc.IdempotencyKey) -> Any:
        assert key
        return await vendor()

    return each_in_turn([call], uc.Call("call", {"i": 1}), uc.Call("call", {"i": 2}))


@virtual
async def test_a_budget_of_writes_survives_a_crash_at_every_commit() -> None:
    """Set aside with the intent, and so never less on record than was done."""
    for script in (["fine"], [TimeoutError("t"), "fine"]):

        async def start(rt: uc.Runtime, target: Any) -> uc.Outcome:
            return await rt.run(target, budget=uc.Budget(attempts=3))

        ends = await sweep(keyed, lambda script=script: Vendor(script), start)  # type: ignore[misc]
        assert len(ends) > 6
        for end in ends:
            check_never_more(end, 3)


def chatty(vendor: Vendor) -> Any:
    """Return a handler whose tool sends three times for each call, as libraries do."""

    @uc.tool(peeks="a/{i}", service="vendor")
    async def call(i: int) -> str:
        for _ in range(3):
            await uc.wire_attempt()
            await vendor()
        return "fine"

    return each_in_turn([call], uc.Call("call", {"i": 1}), uc.Call("call", {"i": 2}))


@virtual
async def test_what_a_library_sent_is_on_record_after_a_crash_at_every_commit() -> None:
    """Attempts that were set aside while a call was under way are not forgotten either."""

    async def start(rt: uc.Runtime, target: Any) -> uc.Outcome:
        return await rt.run(target, budget=uc.Budget(attempts=6))

    for end in await sweep(chatty, lambda: Vendor(took_s=1), start):
        made, total = len(end.world.calls), recorded(end.journal).attempts
        # Of the one that was sent while the process died nobody may have heard.
        assert made <= total + 1 <= 7, end.commit


@virtual
async def test_the_budget_of_a_service_survives_a_crash_at_every_commit() -> None:
    """A process that died has spent what it may have spent."""
    for took_s in (0.0, 1.0):
        ends = await sweep(
            lambda vendor: batch([caller(vendor)], *[call(i) for i in range(6)]),
            lambda took_s=took_s: Vendor(took_s=took_s),  # type: ignore[misc]
            services=[uc.Service("vendor", budget=uc.Budget(attempts=4))],
        )
        for end in ends:
            assert len(end.world.calls) <= 4, (took_s, end.commit)


@virtual
async def test_a_session_remembers_through_two_crashes() -> None:
    """A call that was cut off twice was made three times, and the session knows."""
    journal, vendor = MemoryJournal(), Vendor(took_s=10)
    handler = batch([caller(vendor)], call(1))
    budgets = uc.Budgets(session=uc.Budget(attempts=4))
    for life in range(3):
        async with uc.Runtime(MemoryStore(journal), targets=[handler], budgets=budgets) as rt:
            going = rt.resume(rt.turns()[0].turn_id) if life else rt.run(handler, session="s")
            running = asyncio.ensure_future(going)
            await asyncio.sleep(1)
        await asyncio.gather(running, return_exceptions=True)
    assert len(vendor.calls) == 3
    assert recorded(journal).attempts == 3
    async with uc.Runtime(MemoryStore(journal), targets=[handler], budgets=budgets) as rt:
        assert (await rt.resume(rt.turns()[0].turn_id)).value == ["ok"]
        assert (await rt.run(handler, session="s")).value == ["breakers.budget"]
        assert (await rt.run(handler, session="other")).value == ["ok"]
    assert len(vendor.calls) == 5


async def test_a_session_is_one_purse_in_all_processes(tmp_path: Path) -> None:
    """A second runtime on the same file, while the first still runs, spends from what is left."""
    vendor = Vendor()
    handler = batch([caller(vendor)], call(1))
    budgets = uc.Budgets(session=uc.Budget(attempts=3))
    path = tmp_path / "journal.db"
    async with (
        uc.Runtime(SqliteStore(path), budgets=budgets) as first,
        uc.Runtime(SqliteStore(path), budgets=budgets) as second,
    ):
        said = []
        for rt in (first, second, first, second, first):
            outcome = await rt.run(handler, session="s")
            assert outcome.value is not None
            said += outcome.value
        assert said == ["ok"] * 3 + ["breakers.budget"] * 2
    assert len(vendor.calls) == 3


@virtual
async def test_a_parked_turn_and_its_session_share_a_purse() -> None:
    """What others of the session spend while a turn waits is gone when it goes on."""
    vendor = Vendor()
    tool = caller(vendor)

    @uc.tool(reads="b", approval=True)
    async def ask() -> str:
        return "yes"

    waits = each_in_turn([tool, ask], call(1), uc.Call("ask"), call(2), call(3))
    other = each_in_turn([tool], call(7), call(8))
    budgets = uc.Budgets(session=uc.Budget(attempts=5))
    journal = MemoryJournal()
    async with uc.Runtime(MemoryStore(journal), targets=[waits], budgets=budgets) as rt:
        parked = await rt.run(waits, session="s")
        assert parked.status == "waiting"
        assert (await rt.run(other, session="s")).value == ["ok", "ok"]
    async with uc.Runtime(MemoryStore(journal), targets=[waits], budgets=budgets) as rt:
        outcome = await rt.approve(parked.turn_id, by="ada")
        # 1 before, 2 of the other turn, the approved one and one more.
        assert outcome.value == ["ok", "ok", "ok", "breakers.budget"]
        assert outcome.status == "degraded"
    assert len(vendor.calls) == 4


@virtual
async def test_the_budget_of_a_service_lives_as_long_as_the_journal() -> None:
    """It is spent by all turns and all processes together, killed ones included."""
    journal, vendor = MemoryJournal(), Vendor()
    handler = batch([caller(vendor)], call(1))
    service = uc.Service("vendor", budget=uc.Budget(attempts=3))
    said = []
    for _ in range(5):
        async with uc.Runtime(MemoryStore(journal), services=[service]) as rt:
            outcome = await rt.run(handler)
            assert outcome.value is not None
            said += outcome.value
    assert said == ["ok"] * 3 + ["breakers.budget"] * 2
    assert len(vendor.calls) == 3


@virtual
async def test_processes_at_once_do_not_overshoot_a_service() -> None:
    """Two runtimes with twenty calls each share ten attempts, and hold nothing afterwards."""
    vendor, journal = Vendor(took_s=1), MemoryJournal()
    services = [uc.Service("vendor", budget=uc.Budget(attempts=10))]
    handler = batch([caller(vendor)], *[call(i) for i in range(20)])
    async with (
        uc.Runtime(MemoryStore(journal), services=services) as one,
        uc.Runtime(MemoryStore(journal), services=services) as two,
    ):
        outcomes = await asyncio.gather(one.run(handler), two.run(handler))
        values = [value for outcome in outcomes for value in outcome.value or ()]
        assert values.count("ok") == len(vendor.calls) <= 10
        assert set(values) <= {"ok", "breakers.budget"}
        await settled(one, "vendor")
        await settled(two, "vendor")
        # Whoever comes next has what is left, and no more.
        for rt in (one, two):
            await rt.run(handler)
            await settled(rt, "vendor")
    assert len(vendor.calls) == 10


# ---------------------------------------------------------------------- any of it


@settings(max_examples=40, deadline=None)
@given(
    limit=st.integers(0, 8),
    turns=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    words=st.text(alphabet="fcdt", min_size=1, max_size=8),
    cuts=st.lists(st.sampled_from([None, 0.5, 3.0]), min_size=4, max_size=4),
    attempts=st.integers(1, 3),
)
def test_a_session_never_spends_more_than_it_has(
    limit: int, turns: list[int], words: str, cuts: list[float | None], attempts: int
) -> None:
    """Any turns with any ends, cut off anywhere: calls made ≤ on record ≤ the limit."""
    errors = {
        "f": "fine",
        "c": ConnectionError("x"),
        "d": uc.DomainError("no"),
        "t": TimeoutError("t"),
    }

    async def main() -> None:
        vendor = Vendor([errors[word] for word in words], took_s=1)
        tool = caller(vendor, retry=uc.Retry(attempts=attempts, wait_s=0.1))
        journal, ended = MemoryJournal(), 0
        budgets = uc.Budgets(session=uc.Budget(attempts=limit))
        for size, cut in zip(turns, cuts, strict=False):
            async with uc.Runtime(MemoryStore(journal), budgets=budgets, ids=Jitter(0.5)) as rt:
                handler = batch([tool], *[call(i) for i in range(size)])
                outcome = await rt.run(handler, session="s", timeout_s=cut)
                ended += outcome.status in ("done", "degraded", "failed")
                await settled(rt, "vendor")
        total = recorded(journal).attempts
        assert len(vendor.calls) <= total <= limit
        assert ended == min(len(turns), len(cuts))
        events = spending(MemoryStore(journal))
        assert all(isinstance(e, AttemptReserved | AttemptSpent) for e in events)

    run_virtual(main())

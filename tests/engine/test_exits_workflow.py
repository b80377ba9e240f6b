"""Workflows that go on without some of their steps: what stands in, what is missing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from tests.engine.vendor import sweep, virtual
from tests.engine.world import World
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore, run_virtual


@dataclass
class Invoice:
    """A record."""

    id: str


def typed_flow(fallback: Any) -> uc.Workflow:
    """Return a workflow that is parked behind a step for which something stood in."""
    flow = uc.Workflow("typed")

    @flow.read("x", service="vendor", fallback=fallback)
    async def invoices() -> list[Invoice]:
        raise ConnectionRefusedError("nobody there")

    @flow.approve
    async def gate(invoices: list[Invoice]) -> bool:
        return True

    @flow.confirm
    async def said(invoices: list[Invoice], gate: uc.Approval) -> list[str]:
        return [invoice.id for invoice in invoices]

    return flow


async def stand_in_invoices() -> list[Invoice]:
    """Return what is known."""
    return [Invoice("0")]


async def untyped_invoices() -> Any:
    """Return the same, and do not say so."""
    return [Invoice("0")]


@pytest.mark.parametrize("fallback", [[Invoice("0")], stand_in_invoices, untyped_invoices])
@virtual
async def test_what_stands_in_is_read_back_as_the_step_is(fallback: Any) -> None:
    """Dependents are given the type that the step declares, before and after a resume."""
    flow, journal = typed_flow(fallback), MemoryJournal()
    async with uc.Runtime(MemoryStore(journal), targets=[flow]) as rt:
        outcome = await rt.run(flow)
        assert outcome.status == "waiting"
    async with uc.Runtime(MemoryStore(journal), targets=[flow]) as rt:
        outcome = await rt.approve(outcome.turn_id, by="ada")
        assert outcome.error is None
        assert (outcome.status, outcome.value) == ("degraded", ["0"])
        assert outcome.missing == ("invoices",)


@virtual
async def test_an_outcome_that_stood_in_is_the_same_when_it_is_asked_for_again() -> None:
    """The value of a turn is typed the same way in its own life and later."""
    flow = uc.Workflow("flow")

    @flow.read("x", service="vendor", fallback=Invoice("0"))
    async def invoice() -> Invoice:
        raise ConnectionRefusedError("nobody there")

    async with uc.Runtime() as rt:
        outcome = await rt.run(flow)
        again = await rt.resume(outcome.turn_id)
        assert outcome.value == Invoice("0")
        assert (again.value, again.missing) == (outcome.value, outcome.missing)


@virtual
async def test_a_recorded_fallback_is_no_change_of_the_code() -> None:
    """A workflow that has a step more than it had goes on all the same."""

    def made(*, more: bool) -> uc.Workflow:
        flow = uc.Workflow("flow")

        @flow.read("x", service="vendor", fallback=3)
        async def a() -> int:
            raise ConnectionRefusedError("nobody there")

        @flow.approve
        async def gate(a: int) -> bool:
            return True

        @flow.confirm
        async def said(a: int, gate: uc.Approval) -> int:
            return a

        if more:

            @flow.read("z")
            async def another() -> int:
                return 1

        return flow

    journal, before, after = MemoryJournal(), made(more=False), made(more=True)
    async with uc.Runtime(MemoryStore(journal), targets=[before]) as rt:
        outcome = await rt.run(before)
    after.import_name = before.import_name
    async with uc.Runtime(MemoryStore(journal), targets=[after]) as rt:
        outcome = await rt.approve(outcome.turn_id, by="ada")
        assert (outcome.status, outcome.missing) == ("degraded", ("a",))


def lacking_flow(world: World) -> uc.Workflow:
    """Return a workflow whose optional parts fail in several ways."""
    flow = uc.Workflow("lacking")

    @flow.read("a", service="vendor", optional=True)
    async def score() -> int:
        world.log.append(("score", "", 0))
        raise ConnectionRefusedError("nobody there")

    @flow.read("b", service="vendor", fallback=[1, 2])
    async def rates() -> list[int]:
        raise ConnectionRefusedError("nobody there")

    @flow.gather(each="rates", service="vendor", fallback=0)
    async def rounded(rate: int) -> int:
        if rate == 2:
            raise ConnectionRefusedError("nobody there")
        return rate

    @flow.prepare(optional=True)
    async def graded(score: int | None, missing: uc.Missing) -> str:
        assert dict(missing)
        raise ValueError(f"no grade without {', '.join(missing)}")

    @flow.prepare
    async def untouched() -> str:
        return "whole"

    @flow.execute(appends="mail")
    async def send(
        graded: str | None,
        rounded: list[int],
        untouched: str,
        missing: uc.Missing,
        key: uc.IdempotencyKey,
    ) -> list[str]:
        world.add("mail", 1, key)
        return sorted(missing)

    @flow.confirm
    async def said(send: list[str], untouched: str, missing: uc.Missing) -> str:
        return f"{untouched}; {send}; {sorted(missing)}; {rounded}"[:60]

    return flow


@virtual
async def test_what_is_missing_is_named_to_dependents_and_to_the_user() -> None:
    """Also what is missing further up; a step that uses nothing absent is told of nothing."""
    ends = await sweep(lacking_flow, World)
    assert len(ends) > 8
    names = ["graded", "rates", "rounded", "score"]
    for end in ends:
        assert end.outcome.status == "degraded", end.outcome.error
        assert sorted(end.outcome.missing) == names, end.commit
        assert str(end.outcome.value).startswith(f"whole; {names}"), end.commit
        assert end.world.records == {"mail": 1}


@virtual
async def test_a_fan_out_says_why_it_is_missing() -> None:
    """Whichever item failed: the reason is told, and not only that there is one."""

    async def run(bad: int) -> str:
        flow = uc.Workflow("flow")

        @flow.resolve
        async def items() -> list[int]:
            return [0, 1, 2]

        @flow.gather(each="items", service="vendor", optional=True)
        async def got(item: int) -> int:
            await asyncio.sleep(item)
            if item == bad:
                raise ConnectionRefusedError("nobody there")
            return item

        @flow.confirm
        async def said(got: list[int] | None, missing: uc.Missing) -> str:
            return str(missing)

        async with uc.Runtime() as rt:
            outcome = await rt.run(flow)
            assert (outcome.status, outcome.missing) == ("degraded", ("got",))
            return str(outcome.value)

    for bad in range(3):
        assert "nobody there" in await run(bad)


@virtual
async def test_a_step_whose_causes_are_whole_is_told_of_nothing() -> None:
    """`uc.Missing` is about what a step uses, not about the rest of the turn."""
    flow, seen = uc.Workflow("flow"), dict[str, dict[str, str]]()

    @flow.read("a", optional=True)
    async def broken() -> int:
        raise ConnectionRefusedError("nobody there")

    @flow.read("b")
    async def whole(missing: uc.Missing) -> int:
        seen["whole"] = dict(missing)
        return 1

    @flow.prepare
    async def uses(broken: int | None, whole: int, missing: uc.Missing) -> int:
        seen["uses"] = dict(missing)
        assert broken is None
        return whole

    @flow.confirm
    async def said(uses: int, missing: uc.Missing) -> str:
        seen["said"] = dict(missing)
        return str(missing)

    async with uc.Runtime() as rt:
        outcome = await rt.run(flow)
        assert seen["whole"] == {}
        assert list(seen["uses"]) == list(seen["said"]) == ["broken"]
        assert "nobody there" in seen["said"]["broken"]
        assert outcome.value == f"broken: {seen['said']['broken']}"
        assert outcome.missing == ("broken",)


@virtual
async def test_a_reader_that_asks_what_is_missing_can_be_asked_again() -> None:
    """A read that is checked before a write is given what the step was given."""
    flow, other, seen = uc.Workflow("flow"), uc.Workflow("other"), list[bool]()

    @flow.read("x")
    async def found(missing: uc.Missing) -> int:
        seen.append(bool(missing))
        return 1

    @flow.prepare
    async def think(found: int) -> int:
        await asyncio.sleep(5)
        return found

    @flow.execute(writes="x")
    async def change(think: int) -> int:
        return think

    @other.execute(writes="x")
    async def meddle() -> int:
        return 2

    async with uc.Runtime() as rt:
        running = asyncio.ensure_future(rt.run(flow))
        await asyncio.sleep(1)
        await rt.run(other)
        outcome = await running
        assert (outcome.status, outcome.error) == ("done", None)
        assert seen == [False, False]


@virtual
async def test_a_turn_that_waits_says_what_it_lacks() -> None:
    """What is missing is known while a person is asked, and asked for later as well."""
    flow = uc.Workflow("flow")

    @flow.read("a", optional=True)
    async def broken() -> int:
        raise ConnectionRefusedError("nobody there")

    @flow.approve
    async def gate(broken: int | None) -> bool:
        return True

    @flow.confirm
    async def said(gate: uc.Approval) -> str:
        return "said"

    async with uc.Runtime() as rt:
        outcome = await rt.run(flow)
        assert (outcome.status, outcome.missing) == ("waiting", ("broken",))
        assert (await rt.resume(outcome.turn_id)).missing == ("broken",)
        assert (await rt.approve(outcome.turn_id, by="ada")).missing == ("broken",)


# ---------------------------------------------------------------------- any of it

KINDS = ["fine", "optional", "fallback", "function", "bare"]
ERRORS: dict[str, type[Exception] | None] = {
    "f": None,
    "r": ConnectionRefusedError,
    "d": uc.DomainError,
}


async def other_than_usual() -> int:
    """Stand in."""
    return -1


def any_flow(  # noqa: C901  one function a step
    world: World, kinds: list[str], words: str
) -> uc.Workflow:
    """Return a workflow of five reads, a fan-out and a write, each of some kind and end."""
    flow = uc.Workflow("any")

    def options(at: int) -> dict[str, Any]:
        kind = kinds[at]
        if kind == "fallback":
            return {"fallback": at}
        if kind == "function":
            return {"fallback": other_than_usual}
        return {"optional": kind == "optional"}

    def work(at: int) -> int:
        error = None if kinds[at] == "fine" else ERRORS[words[at]]
        if error is not None:
            raise error(f"step {at}")
        return at * 10

    @flow.read("a", service="s", **options(0))
    async def a() -> int:
        return work(0)

    @flow.read("b", service="s", **options(1))
    async def b(a: int | None) -> int:
        return work(1)

    @flow.read("c", service="s", **options(2))
    async def c() -> list[int]:
        work(2)
        return [1, 2, 3]

    @flow.gather(each="c", service="s", **options(3))
    async def d(item: int) -> int:
        return work(3) + item if item == 2 else item

    @flow.prepare(**options(4))
    async def e(b: int | None, d: list[int] | None, missing: uc.Missing) -> str:
        work(4)
        return f"{b} {d} {sorted(missing)}"

    @flow.execute(appends="mail", optional=kinds[5] == "optional")
    async def f(e: str | None, key: uc.IdempotencyKey) -> int:
        return world.add("mail", 1, key)

    @flow.confirm
    async def g(a: int | None, e: str | None, f: int | None, missing: uc.Missing) -> str:
        return f"{a} / {e} / {f} / {sorted(missing)}"

    return flow


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=6, max_size=6),
    words=st.text(alphabet="".join(ERRORS), min_size=5, max_size=5),
    crashes=st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=1, max_size=3),
)
def test_what_is_missing_is_the_same_however_often_the_process_dies(
    kinds: list[str], words: str, crashes: list[tuple[bool, int]]
) -> None:
    """Any mixture of optional steps and fallbacks ends as it would have without the crashes."""

    async def one_turn(cuts: list[tuple[bool, int]]) -> tuple[Any, ...]:
        world, journal = World(), MemoryJournal()
        flow = any_flow(world, kinds, words)
        service = uc.Service("s", breaker=None)
        outcome = None
        for before, commit in [*cuts, (False, 0)]:
            store = CrashingStore(journal, **{f"crash_{'before' if before else 'after'}": commit})
            async with uc.Runtime(store, targets=[flow], services=[service]) as rt:
                heads = rt.turns()
                try:
                    outcome = await (rt.resume(heads[0].turn_id) if heads else rt.run(flow))
                    break
                except uc.StoreError:
                    await asyncio.sleep(1)
        assert outcome is not None
        return (
            outcome.status,
            outcome.value,
            sorted(outcome.missing),
            outcome.error is None,
            world.records,
        )

    async def main() -> None:
        assert await one_turn(crashes) == await one_turn([])

    run_virtual(main())

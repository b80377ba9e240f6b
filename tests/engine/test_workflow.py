"""Workflows from declaration to outcome."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest

import undercroft as uc
from tests.engine.conftest import MakeRuntime
from undercroft.errors import DecisionError, InputError
from undercroft.testing import run_virtual


@dataclass
class Account:
    """A record."""

    id: str
    tier: str


def renewal(*, ask: bool = True) -> uc.Workflow:
    """Return the workflow of the README, in small."""
    flow = uc.Workflow("renewal")

    @flow.resolve
    async def account(email: str) -> str:
        return f"acc-{email.partition('@')[0]}"

    @flow.read("crm/{account}")
    async def record(account: str) -> Account:
        return Account(account, "gold")

    @flow.read("billing/{account}")
    async def invoices(account: str) -> list[int]:
        return [3, 1, 2]

    @flow.gather(each="invoices")
    async def disputes(invoice: int) -> list[str]:
        await asyncio.sleep(invoice / 1000)
        return [f"dispute-{invoice}"]

    @flow.prepare
    async def draft(record: Account, disputes: list[list[str]]) -> str:
        return f"{record.tier}: {disputes}"

    @flow.approve
    async def gate(draft: str) -> bool:
        return ask

    @flow.execute(appends="mail/{account}", service="smtp")
    async def send(draft: str, gate: uc.Approval) -> str:
        return f"{draft} by {gate.by or 'nobody'}"

    @flow.confirm
    async def confirm(send: str) -> str:
        return f"Sent {send}."

    return flow


async def test_a_turn_waits_for_approval_and_goes_on(runtime: MakeRuntime) -> None:
    """A gate parks the turn; approving it, any number of times, runs the rest once."""
    flow = renewal()
    async with runtime() as rt:
        outcome = await rt.run(flow, email="ada@example.com", session="s-1")
        assert outcome.status == "waiting"
        (waiting,) = outcome.waiting
        assert waiting.name == "gate"
        assert waiting.arguments == {"draft": "gold: [['dispute-3'], ['dispute-1'], ['dispute-2']]"}
        first = await rt.approve(outcome.turn_id, waiting.step_id, by="ada")
        again = await rt.approve(outcome.turn_id, waiting.step_id, by="bob")
        assert first.status == again.status == "done"
        assert first.value == again.value
        assert first.value.endswith("by ada.")
        trace = rt.trace(outcome.turn_id)
    assert [s.name for s in trace.steps if s.name == "send"] == ["send"]
    assert trace.delivered == first.value


async def test_a_fan_out_joins_in_the_order_of_its_list(runtime: MakeRuntime) -> None:
    """However its items finish, the joined list is in the order of the list it came from."""
    async with runtime() as rt:
        outcome = await rt.run(renewal(ask=False), email="ada@example.com")
    assert "[['dispute-3'], ['dispute-1'], ['dispute-2']]" in outcome.value


async def test_a_gate_that_asks_nobody_lets_the_turn_through(runtime: MakeRuntime) -> None:
    """A gate that returns False needs nobody, and says so to who depends on it."""
    async with runtime() as rt:
        outcome = await rt.run(renewal(ask=False), email="ada@example.com")
    assert outcome.status == "done"
    assert outcome.value.endswith("by nobody.")


async def test_a_rejected_gate_ends_the_turn(runtime: MakeRuntime) -> None:
    """After a no nothing that depends on the gate runs, and a later yes is refused."""
    flow = renewal()
    async with runtime() as rt:
        outcome = await rt.run(flow, email="ada@example.com")
        step = outcome.waiting[0].step_id
        rejected = await rt.reject(outcome.turn_id, step, by="ada", reason="too early")
        assert rejected.status == "failed"
        assert rejected.error is not None
        assert "ada rejected gate: too early" in rejected.error.message
        assert await rt.reject(outcome.turn_id, step, by="bob") == rejected
        with pytest.raises(DecisionError, match="rejected by ada already"):
            await rt.approve(outcome.turn_id, step, by="bob")
        steps = {s.name: s for s in rt.trace(outcome.turn_id).steps}
    assert steps["send"].status == steps["confirm"].status == "skipped"
    assert steps["gate"].step_id in steps["send"].causes
    assert steps["confirm"].causes == (steps["send"].step_id,)


def test_steps_overlap_unless_their_claims_conflict() -> None:
    """Reads overlap, and writes to other things; a write overlaps nothing on its own record."""
    running: set[str] = set()
    seen: list[frozenset[str]] = []
    flow = uc.Workflow("overlap")

    async def work(name: str) -> str:
        running.add(name)
        seen.append(frozenset(running))
        await asyncio.sleep(1)
        seen.append(frozenset(running))
        running.discard(name)
        return name

    @flow.resolve
    async def start() -> int:
        return 1

    @flow.read("a")
    async def a(start: int) -> str:
        return await work("a")

    @flow.read("b")
    async def b(start: int) -> str:
        return await work("b")

    @flow.execute(writes="c")
    async def c(start: int) -> str:
        return await work("c")

    @flow.execute(writes="c/part")
    async def d(start: int) -> str:
        return await work("d")

    async def main() -> uc.Outcome:
        async with uc.Runtime() as rt:
            return await rt.run(flow)

    assert run_virtual(main()).status == "done"
    assert frozenset({"a", "b", "c"}) in seen
    assert not any({"c", "d"} <= group for group in seen)


async def test_a_failed_step_does_not_stop_its_siblings(runtime: MakeRuntime) -> None:
    """One failure fails the turn and skips what depends on it, and nothing else."""
    ran: list[str] = []
    flow = uc.Workflow("siblings")

    @flow.resolve
    async def start() -> int:
        return 1

    @flow.read("bad")
    async def bad(start: int) -> str:
        raise ValueError("no such record")

    @flow.read("good")
    async def good(start: int) -> str:
        await asyncio.sleep(0.01)
        ran.append("good")
        return "good"

    @flow.prepare
    async def after_good(good: str) -> str:
        ran.append("after_good")
        return good

    @flow.prepare
    async def after_bad(bad: str) -> str:
        ran.append("after_bad")
        return bad

    async with runtime() as rt:
        outcome = await rt.run(flow)
        statuses = {s.name: s.status for s in rt.trace(outcome.turn_id).steps}
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.step) == ("ValueError", "bad")
    assert ran == ["good", "after_good"]
    assert statuses["after_bad"] == "skipped"


async def test_an_optional_step_degrades_the_turn(runtime: MakeRuntime) -> None:
    """A turn goes on without an optional step, with None in its place and its name told."""
    flow = uc.Workflow("degraded")

    @flow.resolve
    async def start() -> int:
        return 1

    @flow.read("extras", optional=True)
    async def extras(start: int) -> list[str]:
        raise ConnectionError("vendor is down")

    @flow.confirm
    async def told(start: int, extras: list[str] | None) -> str:
        return "without extras" if extras is None else "with extras"

    async with runtime() as rt:
        outcome = await rt.run(flow)
        again = await rt.resume(outcome.turn_id)
    assert (outcome.status, outcome.value, outcome.missing) == (
        "degraded",
        "without extras",
        ("extras",),
    )
    assert again == outcome


async def test_an_empty_fan_out_is_an_empty_list(runtime: MakeRuntime) -> None:
    """Fanning out over nothing joins to nothing, and the turn goes on."""
    flow = uc.Workflow("empty")

    @flow.resolve
    async def items() -> list[int]:
        return []

    @flow.gather(each="items")
    async def details(item: int) -> str:
        return str(item)

    @flow.confirm
    async def told(details: list[str]) -> int:
        return len(details)

    async with runtime() as rt:
        outcome = await rt.run(flow)
    assert (outcome.status, outcome.value) == ("done", 0)


async def test_inputs_are_checked_before_a_turn_begins() -> None:
    """A missing, unknown or unrecordable input is an error that names it; nothing is journaled."""
    flow = renewal()
    async with uc.Runtime() as rt:
        with pytest.raises(InputError, match="'email' is missing"):
            await rt.run(flow)
        with pytest.raises(InputError, match="no input 'mail'"):
            await rt.run(flow, email="a", mail="b")
        with pytest.raises(InputError, match="email"):
            await rt.run(flow, email=object())
        assert rt.turns() == []


async def test_a_typed_value_comes_back_typed(runtime: MakeRuntime) -> None:
    """What a resumed turn returns has the type that the live one returned."""
    flow = uc.Workflow("typed")

    @flow.resolve
    async def record() -> Account:
        return Account("a", "gold")

    async with runtime() as rt:
        outcome = await rt.run(flow)
        assert outcome.value == Account("a", "gold")
        assert (await rt.resume(outcome.turn_id)).value == Account("a", "gold")


def test_a_fan_out_takes_as_long_as_its_slowest_item() -> None:
    """Fifty reads of 10 ms take 10 ms; beyond the limit of the turn they queue."""

    async def main(limit: int) -> float:
        flow = uc.Workflow("wide")

        @flow.resolve
        async def items() -> list[int]:
            return list(range(50))

        @flow.gather(each="items")
        async def read(item: int) -> int:
            await asyncio.sleep(0.010)
            return item

        async with uc.Runtime(limits=uc.Limits(turn_max=limit)) as rt:
            began = asyncio.get_running_loop().time()
            outcome = await rt.run(flow)
            assert outcome.value == list(range(50))
            return asyncio.get_running_loop().time() - began

    assert run_virtual(main(64)) == pytest.approx(0.010)
    assert run_virtual(main(10)) == pytest.approx(0.050)


async def test_steps_that_are_not_async_run_beside_the_loop(runtime: MakeRuntime) -> None:
    """A plain function runs in a thread: the event loop goes on meanwhile."""
    flow = uc.Workflow("threads")
    both = threading.Barrier(2, timeout=10)

    @flow.resolve
    def left() -> str:
        both.wait()
        return threading.current_thread().name

    @flow.resolve
    def right() -> str:
        both.wait()
        return threading.current_thread().name

    async with runtime() as rt:
        outcome = await rt.run(flow)
    assert outcome.status == "done"
    assert set(outcome.value) == {"left", "right"}


def test_a_declared_function_is_still_a_function() -> None:
    """The decorators return what they were given; calling it runs just it."""
    flow = uc.Workflow("plain")

    @flow.resolve
    async def twice(n: int) -> int:
        return 2 * n

    assert asyncio.run(twice(4)) == 8


async def test_a_long_chain_may_fail_at_its_begin(runtime: MakeRuntime) -> None:
    """However many steps depend on one that failed, each is skipped and the turn ends."""
    flow = uc.Workflow("long")
    names: dict[str, Any] = {}
    exec("async def s0() -> int:\n    raise ValueError('no')", names)  # noqa: S102  made here
    flow.resolve(names["s0"])
    for k in range(1, 2_000):
        exec(f"async def s{k}(s{k - 1}: int) -> int:\n    return {k}", names)  # noqa: S102  made here
        flow.resolve(names[f"s{k}"])

    async with runtime() as rt:
        outcome = await rt.run(flow)
        steps = rt.trace(outcome.turn_id).steps
    assert outcome.status == "failed"
    assert [step.status for step in steps] == ["failed", *["skipped"] * 1_999]


async def test_an_input_left_to_its_default_names_a_resource_too(runtime: MakeRuntime) -> None:
    """A key may name an input that was not given: its default stands in the key."""
    flow = uc.Workflow("default")

    @flow.read("crm/{tenant}")
    async def record(tenant: str = "main") -> str:
        return tenant

    async with runtime() as rt:
        outcome = await rt.run(flow)
        (step,) = rt.trace(outcome.turn_id).steps
    assert (outcome.value, step.claims) == ("main", (("read", "crm/main"),))


def test_steps_agree_on_what_an_input_is() -> None:
    """One input cannot be text for one step and a number for another."""
    flow = uc.Workflow("torn")

    @flow.resolve
    async def one(who: str) -> str:
        return who

    @flow.resolve
    async def other(who: int) -> int:
        return who

    with pytest.raises(uc.GraphError, match="'who' is str for step 'one' and int for 'other'"):
        flow.build()

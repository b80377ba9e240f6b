"""Code of one's own passes what steps pass; people may say how a service stands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import undercroft as uc
from tests.engine.vendor import virtual
from undercroft.engine.check import check

OPENS = uc.Service("crm", breaker=uc.BreakerPolicy(failures_max=2, open_s=10))


@uc.tool(reads="x", service="crm")
async def get() -> str:
    """Read it."""
    return "x"


@uc.handler(tools=[get])
async def ask(turn: uc.Turn) -> str:
    """Ask once, and say what came of it."""
    (result,) = await turn.calls([uc.Call("get")])
    return result.refusal.rule if result.refusal else str(result.value)


async def state(rt: uc.Runtime, service: str = "crm") -> str:
    """Return how a service stands, as the board says."""
    rows = await rt.breakers()
    return next(row.state for row in rows if row.service == service)


@virtual
async def test_what_a_guard_sees_counts_for_steps() -> None:
    """A block and a decorated function fail: the breaker opens for the turns of the runtime."""
    async with uc.Runtime(services=[OPENS]) as rt:
        crm = rt.guard("crm")

        @crm
        async def ping() -> None:
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await ping()
        with pytest.raises(ConnectionError):
            async with crm:
                raise ConnectionError
        with pytest.raises(uc.BreakerOpenError, match="crm keeps failing") as raised:
            await ping()
        assert raised.value.retry_in_s == 10
        outcome = await rt.run(ask)
        assert (outcome.status, outcome.value) == ("degraded", "breakers.open")
        (row,) = await rt.breakers()
        assert (row.service, row.state, row.attempts) == ("crm", "open", 2)


@virtual
async def test_what_is_cancelled_counts_neither_way() -> None:
    """A guarded call that is called off gives its permit back."""
    async with uc.Runtime(services=[OPENS]) as rt:
        crm = rt.guard("crm")

        async def hang() -> None:
            async with crm:
                await asyncio.sleep(60)

        for _ in range(3):
            task = asyncio.ensure_future(hang())
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        (row,) = await rt.breakers()
        assert (row.state, row.in_flight, row.calls) == ("closed", 0, 0)


@virtual
async def test_a_guard_pays_from_the_budget_of_its_service() -> None:
    """What may be spent on a service is spent by whoever calls it."""
    async with uc.Runtime(services=[uc.Service("crm", budget=uc.Budget(attempts=2))]) as rt:
        crm = rt.guard("crm")
        for _ in range(2):
            async with crm:
                pass
        with pytest.raises(uc.BudgetError, match="0 left"):
            async with crm:
                pass
        outcome = await rt.run(ask)
        assert outcome.value == "breakers.budget"


@virtual
async def test_a_person_says_how_a_service_stands() -> None:
    """Forced open refuses, forced closed lets failures pass, a reset begins anew."""
    async with uc.Runtime(services=[OPENS]) as rt:
        rt.force_open("crm", by="ada")
        assert (await rt.run(ask)).value == "breakers.open"
        (row,) = await rt.breakers()
        assert (row.state, row.by) == ("forced_open", "ada")
        rt.force_closed("crm", by="ada")
        crm = rt.guard("crm")
        for _ in range(5):
            with pytest.raises(ConnectionError):
                async with crm:
                    raise ConnectionError
        assert await state(rt) == "observe_only"
        assert (await rt.run(ask)).value == "x"
        rt.reset_breaker("crm", by="ada")
        assert await state(rt) == "closed"
        with pytest.raises(uc.UndercroftError, match="Say who decides"):
            rt.force_open("crm", by="")


def test_a_runtime_says_which_setting_makes_no_sense() -> None:
    """A setting of another kind is named where the runtime is made."""
    wrong: list[tuple[str, Any, str]] = [
        ("budgets", uc.Budget(usd=1), "an uc.Budgets"),
        ("loops", 3, "an uc.LoopPolicy, or None"),
        ("prices", 0.25, "a mapping"),
        ("prices", {"small-1": 0.25}, "an uc.Price"),
    ]
    for name, value, expected in wrong:
        with pytest.raises(ValueError, match=expected) as raised:
            uc.Runtime(**{name: value})
        assert name in str(raised.value)
    given: Any = {"crm": {}}
    with pytest.raises(uc.DeclarationError, match="is not a service"):
        uc.Runtime(services=given)


@virtual
async def test_a_budget_of_a_turn_is_a_budget() -> None:
    """A number would be of nobody knows what."""
    money: Any = 0.5
    async with uc.Runtime() as rt:
        with pytest.raises(ValueError, match="an uc"):
            await rt.run(ask, budget=money)


@virtual
async def test_a_guard_is_for_async_functions() -> None:
    """A plain function would pass before it was called."""
    plain: Any = len
    async with uc.Runtime() as rt:
        with pytest.raises(uc.DeclarationError, match="is for async functions"):
            rt.guard("crm")(plain)


async def test_a_runtime_that_is_closed_guards_nothing() -> None:
    """Its board is gone."""
    rt = uc.Runtime()
    with pytest.raises(uc.DeclarationError, match="it is not open"):
        rt.guard("crm")


@virtual
async def test_a_retry_inside_a_tool_ends_with_its_step() -> None:
    """A tool's own retries begin nothing that the timeout of the step would cut off."""
    tries: list[float] = []

    @uc.Retry(attempts=10, wait_s=2, wait_max_s=2)
    async def flaky() -> None:
        tries.append(asyncio.get_running_loop().time())
        raise ConnectionRefusedError

    @uc.tool(reads="x", timeout_s=3)
    async def patient() -> None:
        await flaky()

    @uc.handler(tools=[patient])
    async def once(turn: uc.Turn) -> str:
        (result,) = await turn.calls([uc.Call("patient")])
        return result.error.type if result.error else ""

    async with uc.Runtime() as rt:
        began_s = asyncio.get_running_loop().time()
        outcome = await rt.run(once)
        assert outcome.value == "ConnectionRefusedError"
        assert tries[-1] - began_s < 3
        assert len(tries) < 10


@virtual
async def test_a_retry_that_is_not_made_is_given_back() -> None:
    """What was granted and then refused by the breaker is no retry, and costs no token."""
    fails = uc.Service("crm", breaker=uc.BreakerPolicy(failures_max=1, open_s=100))

    @uc.tool(reads="x", service="crm", retry=uc.Retry(attempts=3))
    async def broken() -> None:
        raise ConnectionRefusedError

    @uc.handler(tools=[broken])
    async def once(turn: uc.Turn) -> str:
        (result,) = await turn.calls([uc.Call("broken")])
        return result.error.message if result.error else ""

    async with uc.Runtime(services=[fails]) as rt:
        outcome = await rt.run(once)
        assert "not tried again: broken was not called: crm keeps failing" in outcome.value
        (row,) = await rt.breakers()
        assert (row.attempts, row.retries) == (1, 0)


def test_check_finds_a_fallback_on_the_same_service() -> None:
    """It would be refused together with the tool that it stands in for."""

    @uc.tool(reads="x", service="crm", fallback=get)
    async def first() -> str:
        """Read it another way."""
        return "x"

    @uc.handler(tools=[first])
    async def asks(turn: uc.Turn) -> str:
        return turn.id

    assert [finding.rule for finding in check(asks)] == ["breakers.same_service"]

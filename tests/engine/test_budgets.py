"""Budgets in real turns: set aside before a call, paid after it, never overshot."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import undercroft as uc
from tests.engine.vendor import (
    Vendor,
    assistant,
    batch,
    caller,
    check_given_back,
    each_in_turn,
    gate,
    recorded,
    settled,
    virtual,
)
from tests.engine.vendor import (
    numbered as call,
)
from undercroft.errors import BudgetError, ModelError
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import ScriptedModel

WHERE = ["step", "turn", "run", "session", "service"]


def placed(where: str, budget: uc.Budget) -> dict[str, Any]:
    """Return the settings of a runtime that has a budget somewhere."""
    if where == "service":
        return {"services": [uc.Service("vendor", budget=budget)]}
    if where in ("turn", "session", "step"):
        limits: dict[str, Any] = {where: budget}
        return {"budgets": uc.Budgets(**limits)}
    return {}


# ---------------------------------------------------------------------- never overshot


@pytest.mark.parametrize("where", ["turn", "run", "session", "service"])
@pytest.mark.parametrize("shape", ["one batch", "branches", "turns"])
def test_fifty_calls_at_once_do_not_overshoot(where: str, shape: str) -> None:
    """Of fifty calls side by side exactly as many are made as the budget has attempts."""
    if shape == "turns" and where in ("turn", "run", "session"):
        return  # each turn has its own, and a session runs one turn at a time
    vendor = Vendor(took_s=1)
    budget = uc.Budget(attempts=7)

    @uc.handler(tools=[caller(vendor)])
    async def many(turn: uc.Turn, at: int = 0) -> list[str]:
        async def alone(i: int) -> list[uc.Result]:
            async with turn.branch(f"b{i}") as branch:
                return await branch.calls([call(i)])

        if shape == "one batch":
            results = await turn.calls([call(i) for i in range(50)])
        elif shape == "branches":
            results = [r for rs in await asyncio.gather(*map(alone, range(50))) for r in rs]
        else:
            results = await turn.calls([call(at)])
        return [r.refusal.rule if r.refusal else str(r.status) for r in results]

    @virtual
    async def main() -> None:
        async with uc.Runtime(**placed(where, budget)) as rt:
            said: dict[str, Any] = {"session": "s" if where == "session" else None}
            if where == "run":
                said["budget"] = budget
            turns = 50 if shape == "turns" else 1
            outcomes = await asyncio.gather(*(rt.run(many, at=i, **said) for i in range(turns)))
            values = [value for outcome in outcomes for value in outcome.value]
            assert values.count("ok") == 7
            assert values.count("breakers.budget") == 43
            assert len(vendor.calls) == 7
            assert any(o.status == "degraded" and o.missing == ("call",) for o in outcomes)
            check_given_back(rt, "vendor")

    main()


class Talker:
    """A model that says how long its answers are, and remembers what it was told."""

    name, service, provider = "talker-1", "model", "acme"

    def __init__(self, usage: uc.Usage | None, *, took_s: float = 0.0, fails: bool = False) -> None:
        self.usage, self.took_s, self.fails = usage, took_s, fails
        self.requests: list[uc.ModelRequest] = []

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Answer."""
        self.requests.append(request)
        await asyncio.sleep(self.took_s)
        if self.fails:
            raise ConnectionError("in the middle")
        usage = self.usage
        if usage is not None and request.output_tokens_max is not None:
            most = min(usage.output_tokens, request.output_tokens_max)
            usage = uc.Usage(usage.input_tokens, most)
        return uc.Answer("fine", usage=usage)


@uc.handler(tools=[])
async def branches(turn: uc.Turn, count: int) -> list[str]:
    """Ask a model in many branches at once."""

    async def ask(i: int) -> str:
        async with turn.branch(f"b{i}") as branch:
            branch.context.user(f"question {i}")
            try:
                return (await branch.model()).text
            except ModelError as error:
                return error.rule or str(error)

    return list(await asyncio.gather(*map(ask, range(count))))


@pytest.mark.parametrize("where", ["turn", "session", "service"])
@pytest.mark.parametrize(
    ("budget", "unit"),
    [
        (uc.Budget(attempts=6), "attempts"),
        (uc.Budget(output_tokens=1_000), "output_tokens"),
        (uc.Budget(input_tokens=400), "input_tokens"),
        (uc.Budget(usd=0.01), "usd"),
    ],
)
def test_fifty_branches_of_a_model_do_not_overshoot(
    where: str, budget: uc.Budget, unit: str
) -> None:
    """What models may read, say and cost is set aside before they are asked."""

    @virtual
    async def main() -> None:
        model = Talker(uc.Usage(15, 100_000), took_s=1)
        options = placed(where, budget)
        if where == "service":
            options = {"services": [uc.Service("model", budget=budget)]}
        budgets = options.pop("budgets", uc.Budgets())
        budgets = uc.Budgets(turn=budgets.turn, session=budgets.session, answer_tokens=300)
        prices = {"talker-1": uc.Price(1.0, 10.0)}
        async with uc.Runtime(
            MemoryStore(journal := MemoryJournal()),
            model=model,
            prices=prices,
            budgets=budgets,
            **options,
        ) as rt:
            outcome = await rt.run(branches, count=50, session="s")
            assert outcome.value is not None, outcome.error
            assert set(outcome.value) == {"fine", "breakers.budget"}
            spent = recorded(journal)
            limit = getattr(budget, unit)
            assert 0 < getattr(spent, unit) <= limit
            if where == "service":
                assert 0 < getattr(gate(rt, "model").account.spent, unit) <= limit
            check_given_back(rt, "model")

    main()


@virtual
async def test_a_model_is_told_how_long_its_answer_may_be() -> None:
    """The longest answer that is left is what it is asked for; without a limit, nothing."""
    model = Talker(uc.Usage(10, 400))

    @uc.handler(tools=[])
    async def talk(turn: uc.Turn) -> list[str]:
        said = []
        for i in range(4):
            turn.context.user(str(i))
            try:
                said.append((await turn.model()).text)
            except ModelError as error:
                said.append(error.rule)
        return said

    budgets = uc.Budgets(turn=uc.Budget(output_tokens=1_000), answer_tokens=500)
    async with uc.Runtime(model=model, budgets=budgets) as rt:
        assert (await rt.run(talk)).value == ["fine", "fine", "fine", "breakers.budget"]
    assert [request.output_tokens_max for request in model.requests] == [500, 500, 200]
    async with uc.Runtime(model=model) as rt:
        assert (await rt.run(talk)).value == ["fine"] * 4
    assert {request.output_tokens_max for request in model.requests[3:]} == {None}


@virtual
async def test_money_shortens_an_answer_before_it_forbids_it() -> None:
    """Under a budget of money a model is asked for what it pays for, and then refused."""
    model = Talker(uc.Usage(10, 100_000))
    prices = uc.PriceTable({"talker-1": uc.Price(0.0, 10.0)})  # 100,000 tokens a dollar
    budgets = uc.Budgets(turn=uc.Budget(usd=0.01), answer_tokens=600)
    async with uc.Runtime(model=model, budgets=budgets, prices=prices) as rt:
        outcome = await rt.run(branches, count=5)
        assert [request.output_tokens_max for request in model.requests] == [600, 400]
        assert outcome.value == ["fine", "fine", *["breakers.budget"] * 3]
        spent = [s.spent.usd for s in rt.trace(outcome.turn_id).steps if s.spent]
        assert sum(usd or 0 for usd in spent) == pytest.approx(0.01)


@virtual
async def test_a_model_without_a_price_is_not_asked_under_a_budget_of_money() -> None:
    """The refusal names the model, and says where its price would stand."""
    model = Talker(uc.Usage(10, 10))
    for prices in (None, {"other": uc.Price(1, 1)}, {"talker-1-mini": uc.Price(1, 1)}):
        async with uc.Runtime(
            model=model, budgets=uc.Budgets(session=uc.Budget(usd=5)), prices=prices
        ) as rt:

            @uc.handler(tools=[])
            async def ask(turn: uc.Turn) -> str:
                turn.context.user("hello")
                return (await turn.model()).text

            outcome = await rt.run(ask, session="s")
            assert outcome.status == "failed"
            assert outcome.error is not None
            assert outcome.error.type == "ModelError"
            assert "talker-1" in outcome.error.message
            (step,) = rt.trace(outcome.turn_id).steps
            assert step.refusal is not None
            assert step.refusal.rule == "breakers.unpriced"
            assert "PriceTable" in step.refusal.facts["mend"]
    assert model.requests == []


@virtual
async def test_a_model_that_says_no_usage_pays_what_was_set_aside() -> None:
    """Nobody knows better, so the next one is refused rather than the budget overshot."""
    for model in (Talker(None), Talker(uc.Usage(1, 1), fails=True)):
        budgets = uc.Budgets(turn=uc.Budget(output_tokens=1_000), answer_tokens=600)
        services = [uc.Service("model", retry=uc.Retry(attempts=1))]
        async with uc.Runtime(model=model, budgets=budgets, services=services) as rt:
            await rt.run(branches, count=1)

            @uc.handler(tools=[])
            async def thrice(turn: uc.Turn) -> list[str]:
                said = []
                for i in range(3):
                    turn.context.user(str(i))
                    try:
                        said.append((await turn.model()).text)
                    except ModelError as error:
                        said.append(error.rule or "failed")
                return said

            model.requests.clear()
            outcome = await rt.run(thrice)
            assert [request.output_tokens_max for request in model.requests] == [600, 400]
            assert outcome.value is not None
            assert outcome.value[2] == "breakers.budget"


# ---------------------------------------------------------------------- attempts and time


@virtual
async def test_every_attempt_counts() -> None:
    """Retries are attempts: where the budget ends, so do they, and the error says why."""
    for where in WHERE:
        vendor = Vendor([ConnectionError("x")])
        budget = uc.Budget(attempts=3)
        handler = batch([caller(vendor, retry=uc.Retry(attempts=10, wait_s=0.1))], call(1))
        async with uc.Runtime(**placed(where, budget)) as rt:
            outcome = await rt.run(handler, session="s", budget=budget if where == "run" else None)
            assert len(vendor.calls) == 3, where
            (step,) = rt.trace(outcome.turn_id).steps
            assert step.error is not None
            assert "budget" in step.error.message
            assert step.spent is not None
            assert step.spent.attempts == 3
            assert (outcome.status, outcome.missing) == ("degraded", ("call",))
            check_given_back(rt, "vendor")


@pytest.mark.parametrize("where", WHERE)
def test_a_client_library_that_tries_again_by_itself_is_counted(where: str) -> None:
    """What it sends is counted as it is sent, and stopped where the budget ends."""
    sent = 0

    @uc.tool(reads="a", service="vendor")
    async def call() -> str:
        nonlocal sent
        for _ in range(10):
            try:
                await uc.wire_attempt()
            except BudgetError:
                continue  # a library that tries again whatever it is told
            sent += 1
        return "fine"

    @virtual
    async def main() -> None:
        budget = uc.Budget(attempts=4)
        async with uc.Runtime(**placed(where, budget)) as rt:
            handler = batch([call], uc.Call("call"))
            said = budget if where == "run" else None
            outcome = await rt.run(handler, session="s", budget=said)
            assert sent == 4
            (step,) = rt.trace(outcome.turn_id).steps
            assert step.spent is not None
            assert step.spent.attempts == 4

    main()


class Post:
    """A request, as a client library has it."""

    method, url = "POST", "http://127.0.0.1/"


@pytest.mark.parametrize("way", ["short", "long"])
def test_a_library_does_not_send_a_write_twice(way: str) -> None:
    """Without a key the second attempt of the same request is kept back, and it is in doubt."""
    sent = []

    @uc.tool(writes="a", service="vendor")
    async def put() -> str:
        for _ in range(3):
            await uc.wire_attempt(Post())
            sent.append(1)
        return "fine"

    @virtual
    async def main() -> None:
        budget = uc.Budget(attempts=9) if way == "long" else uc.Budget()
        async with uc.Runtime(services=[uc.Service("vendor", budget=budget)]) as rt:
            outcome = await rt.run(batch([put], uc.Call("put")))
            assert outcome.status == "in_doubt"
            assert len(sent) == 1
            check_given_back(rt, "vendor")

    main()


@virtual
async def test_libraries_side_by_side_do_not_overshoot_together() -> None:
    """Attempts that calls at once make on the wire come out of one budget."""
    sent = 0

    @uc.tool(peeks="a/{i}", service="vendor")
    async def call(i: int) -> str:
        nonlocal sent
        for _ in range(5):
            await uc.wire_attempt()
            sent += 1
            await asyncio.sleep(0.1)
        return "fine"

    async with uc.Runtime(budgets=uc.Budgets(turn=uc.Budget(attempts=12))) as rt:
        calls = [uc.Call("call", {"i": i}) for i in range(10)]
        outcome = await rt.run(batch([call], *calls))
        assert outcome.value is not None
        assert sent <= 12
        check_given_back(rt, "vendor")


@pytest.mark.parametrize("where", WHERE)
def test_time_is_cut_where_its_budget_ends(where: str) -> None:
    """A call without a timeout may take what is left, and is ended then."""

    @virtual
    async def main() -> None:
        vendor = Vendor(took_s=4)
        budget = uc.Budget(time_s=10)
        said = budget if where == "run" else None
        async with uc.Runtime(**placed(where, budget)) as rt:
            handler = each_in_turn([caller(vendor)], call(1), call(2), call(3), call(4))
            outcome = await rt.run(handler, session="s", budget=said)
            now_s = asyncio.get_running_loop().time()
            if where == "step":
                assert outcome.value == ["ok"] * 4
            else:
                assert outcome.value == ["ok", "ok", "DeadlineError", "breakers.budget"]
                assert now_s < 11.5
            check_given_back(rt, "vendor")

    main()


@pytest.mark.parametrize("where", ["turn", "session", "service"])
@pytest.mark.parametrize("took_s", [0.4, 4.0, 40.0])
def test_calls_at_once_do_not_take_more_time_than_there_is(where: str, took_s: float) -> None:
    """Of ten seconds fifty calls side by side together use no more, and some get through."""

    @virtual
    async def main() -> None:
        vendor, journal = Vendor(took_s=took_s), MemoryJournal()
        options = placed(where, uc.Budget(time_s=10))
        async with uc.Runtime(MemoryStore(journal), **options) as rt:
            handler = batch([caller(vendor)], *[call(i) for i in range(50)])
            outcome = await rt.run(handler, session="s")
            assert outcome.value is not None
            spent_s = recorded(journal).time_us / 1e6
            assert 0 < spent_s <= 10.001
            if took_s < 1:
                assert outcome.value.count("ok") >= 5
            if where == "service":
                assert gate(rt, "vendor").account.spent.time_s <= 10.001
            check_given_back(rt, "vendor")

    main()


@virtual
async def test_a_tool_knows_when_its_attempt_will_be_ended() -> None:
    """`uc.Deadline` is the earliest end of all: of the tool, the service, the budget, the turn."""
    seen = []

    @uc.tool(reads="a", service="vendor")
    async def call(deadline: uc.Deadline) -> str:
        seen.append(deadline.remaining_s)
        return ""

    handler = batch([call], uc.Call("call"))
    async with uc.Runtime(services=[uc.Service("vendor", timeout_s=5)]) as rt:
        await rt.run(handler)
    async with uc.Runtime(budgets=uc.Budgets(turn=uc.Budget(time_s=7))) as rt:
        await rt.run(handler)
    async with uc.Runtime(services=[uc.Service("vendor", timeout_s=50)]) as rt:
        await rt.run(handler, timeout_s=3)
    assert seen == pytest.approx([5, 7, 3], abs=0.2)


@virtual
async def test_what_was_called_and_cut_off_is_spent() -> None:
    """A call that a deadline or a person cut off was made, and is paid for everywhere."""
    vendor = Vendor(took_s=10)
    budget = uc.Budget(attempts=2)
    async with uc.Runtime(services=[uc.Service("vendor", budget=budget)]) as rt:
        handler = batch([caller(vendor)], call(1))
        assert (await rt.run(handler, timeout_s=1)).status == "failed"
        running = asyncio.ensure_future(rt.run(handler))
        await asyncio.sleep(1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert (await rt.run(handler)).value == ["breakers.budget"]
        assert len(vendor.calls) == 2
        await settled(rt, "vendor")


@virtual
async def test_money_of_tools_is_spent_as_it_was_declared() -> None:
    """`usd=` counts for each attempt, in the trace as well, with or without a service."""

    @uc.tool(peeks="a/{i}", usd=0.3)
    async def paid(i: int) -> str:
        return ""

    handler = each_in_turn([paid], *[uc.Call("paid", {"i": i}) for i in range(5)])
    async with uc.Runtime(budgets=uc.Budgets(turn=uc.Budget(usd=1))) as rt:
        outcome = await rt.run(handler)
        assert outcome.value == ["ok"] * 3 + ["breakers.budget"] * 2
        assert outcome.status == "degraded"
    async with uc.Runtime() as rt:
        outcome = await rt.run(handler)
        spent = [step.spent.usd for step in rt.trace(outcome.turn_id).steps if step.spent]
        assert spent == pytest.approx([0.3] * 5)


@virtual
async def test_code_of_ones_own_spends_what_its_service_has() -> None:
    """What `rt.guard` lets pass is a call like those of steps."""
    vendor = Vendor()
    async with uc.Runtime(services=[uc.Service("vendor", budget=uc.Budget(attempts=2))]) as rt:
        guarded = rt.guard("vendor")(vendor.__call__)
        assert (await rt.run(batch([caller(vendor)], call(1)))).value == ["ok"]
        await guarded()
        with pytest.raises(BudgetError):
            await guarded()
        assert (await rt.run(batch([caller(vendor)], call(2)))).value == ["breakers.budget"]
        assert len(vendor.calls) == 2
        check_given_back(rt, "vendor")


# ---------------------------------------------------------------------- what the user is told


@virtual
async def test_a_budget_that_ends_in_a_tool_is_a_refused_result() -> None:
    """The model reads which budget, how much is left and where it is declared."""
    model = ScriptedModel([[call(1)], [call(2)], "That is all I could find."])
    vendor = Vendor()
    async with uc.Runtime(model=model) as rt:

        @uc.handler(tools=[caller(vendor)])
        async def assist(turn: uc.Turn) -> str:
            turn.context.user("go on")
            while True:
                answer = await turn.model()
                if not answer.calls:
                    return answer.text
                results = await turn.calls(answer.calls)
                assert all(r.status in ("ok", "refused") for r in results)

        outcome = await rt.run(assist, budget=uc.Budget(attempts=4))
        # model, call, model, call: and the fifth is refused.
        assert outcome.status == "failed"
        assert outcome.error is not None
        assert outcome.error.type == "ModelError"
        assert "the turn" in outcome.error.message

        model.requests.clear()
        tool = caller(vendor, budget=uc.Budget(attempts=0))
        outcome = await rt.run(assistant([tool]))
        assert (outcome.status, outcome.missing) == ("degraded", ("call",))
        text = model.requests[1].messages[-1].content
        assert "breakers.budget" in text
        assert "budget= of call" in text


@virtual
async def test_a_workflow_names_the_step_that_was_not_paid_for() -> None:
    """An optional step without budget is missing; another one fails the turn, and says why."""
    vendor = Vendor()
    flow, strict = uc.Workflow("flow"), uc.Workflow("strict")

    @flow.read("a", service="vendor", budget=uc.Budget(attempts=0), optional=True)
    @strict.read("a", service="vendor", budget=uc.Budget(attempts=0))
    async def found() -> str:
        return str(await vendor())

    @flow.confirm
    @strict.confirm
    async def confirm(found: str | None) -> str:
        return f"found {found}"

    async with uc.Runtime() as rt:
        outcome = await rt.run(flow)
        assert (outcome.status, outcome.missing) == ("degraded", ("found",))
        assert outcome.value == "found None"
        outcome = await rt.run(strict)
        assert outcome.status == "failed"
        assert outcome.error is not None
        assert "budget" in outcome.error.message
    assert vendor.calls == []

"""What was spent, as the journal tells it: to traces, to later lives and to later turns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import undercroft as uc
from tests.engine.vendor import Vendor, batch, each_in_turn, events, sweep, virtual
from undercroft.engine.accounts import spent_before, turn_account
from undercroft.engine.memo import recall
from undercroft.layers.breakers.spend import Amount
from undercroft.model.event import (
    AttemptReserved,
    AttemptSpent,
    StepStarted,
    TurnResumed,
    TurnStarted,
    decode_frames,
)
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import ScriptedModel

START = TurnStarted("t", "handler", "x:y", b"", b"\xc0", None, 0.0)  # type: ignore[arg-type]


def aside(n: int, attempts: int = 1, output_tokens: int = 0) -> AttemptReserved:
    """Return a reservation."""
    return AttemptReserved(n, attempts, 0, 0, output_tokens)


def paid(n: int, attempts: int = 1, output_tokens: int = 0) -> AttemptSpent:
    """Return what an attempt took."""
    return AttemptSpent(n, "s", attempts, 0, 0, output_tokens)


@pytest.mark.parametrize(
    ("story", "attempts"),
    [
        ([aside(1), paid(1)], 1),
        ([aside(1)], 1),
        ([aside(1, 5), paid(1, 2)], 2),
        ([aside(1), paid(1), aside(1), paid(1)], 2),
        ([aside(1), aside(2), paid(2)], 2),
        ([aside(1), TurnResumed(2, 0.0), aside(1), paid(1)], 2),
        ([aside(1), TurnResumed(2, 0.0), aside(1)], 2),
        ([aside(1), TurnResumed(2, 0.0), TurnResumed(3, 0.0), aside(1), paid(1)], 2),
        ([aside(1), TurnResumed(2, 0.0), aside(1), TurnResumed(3, 0.0), aside(1), paid(1)], 3),
        ([aside(1, 4), TurnResumed(2, 0.0), aside(1, 4), paid(1, 1)], 5),
    ],
)
def test_what_was_set_aside_and_never_paid_counts_as_spent(story: list[Any], attempts: int) -> None:
    """In every later life, also where the same step was set aside for again."""
    memo = recall([START, *story])
    spent, left = spent_before(memo)
    assert sum(amount.attempts for amount in (spent, *left)) == attempts
    account = turn_account(memo, uc.Budget(attempts=10))
    assert account is not None
    assert account.spent == Amount(attempts)
    assert account.reserved == Amount()


def test_a_step_is_told_what_it_spent_itself() -> None:
    """Other steps of the turn are none of its business."""
    memo = recall([START, aside(1), paid(1), aside(2, 3), paid(2, 3), aside(1, 2)])
    spent, left = spent_before(memo, 1)
    assert (spent.attempts, [amount.attempts for amount in left]) == (1, [2])
    spent, left = spent_before(memo, 2)
    assert (spent.attempts, left) == (3, [])


@virtual
async def test_a_trace_shows_what_each_step_spent() -> None:
    """Attempts, seconds, tokens and money, with the service; and nothing where nothing was."""
    vendor = Vendor([ConnectionError("x"), "fine"], took_s=2)

    @uc.tool(peeks="a", service="vendor", retry=uc.Retry(attempts=2, wait_s=0.1), usd=0.25)
    async def get() -> Any:
        return await vendor()

    @uc.tool(peeks="b")
    async def free() -> str:
        return ""

    class Model:
        name, provider = "m-1", "acme"

        async def complete(self, request: uc.ModelRequest) -> uc.Answer:
            usage = uc.Usage(1_000, 100)
            if any(m.role == "assistant" for m in request.messages):
                return uc.Answer("end", usage=usage)
            return uc.Answer(calls=(uc.Call("get"), uc.Call("free")), usage=usage)

    @uc.handler(tools=[get, free])
    async def assist(turn: uc.Turn) -> str:
        turn.context.user("go on")
        answer = await turn.model()
        await turn.calls(answer.calls)
        return (await turn.model()).text

    for budgets in (uc.Budgets(), uc.Budgets(turn=uc.Budget(usd=5, attempts=50))):
        vendor.calls.clear()
        prices = {"m-1": uc.Price(1.0, 10.0)}
        async with uc.Runtime(model=Model(), prices=prices, budgets=budgets) as rt:
            outcome = await rt.run(assist)
            assert outcome.value == "end"
            steps = {step.step_id: step.spent for step in rt.trace(outcome.turn_id).steps}
        model, tool = steps["model.1"], steps["get.2"]
        assert model is not None
        assert (model.service, model.attempts) == ("model", 1)
        assert (model.input_tokens, model.output_tokens) == (1_000, 100)
        assert model.usd == pytest.approx(0.002)
        assert tool is not None
        assert (tool.service, tool.attempts) == ("vendor", 2)
        assert tool.time_s == pytest.approx(4)
        assert tool.usd == pytest.approx(0.5)
        assert (steps["free.3"] is None) is not bool(budgets.turn)


@virtual
async def test_a_write_is_paid_for_with_its_intent() -> None:
    """What a write may spend is in the journal no later than that it begins."""
    seen = list[type]()
    store = MemoryStore()

    @uc.tool(writes="a", service="vendor")
    async def put(key: uc.IdempotencyKey) -> str:
        seen.extend(type(e) for e in events(store, AttemptReserved, StepStarted, AttemptSpent))
        return ""

    async with uc.Runtime(store, budgets=uc.Budgets(turn=uc.Budget(attempts=3))) as rt:
        await rt.run(batch([put], uc.Call("put")))
    assert seen == [AttemptReserved, StepStarted]


@virtual
async def test_a_read_is_paid_for_before_it_begins() -> None:
    """A read that may run ahead of the journal does not run ahead of its budget."""
    seen = list[type]()
    store = MemoryStore()

    @uc.tool(reads="a", service="vendor")
    async def get() -> str:
        seen.extend(type(e) for e in events(store, AttemptReserved))
        return ""

    async with uc.Runtime(store, budgets=uc.Budgets(turn=uc.Budget(attempts=3))) as rt:
        await rt.run(batch([get], uc.Call("get")))
    assert seen == [AttemptReserved]


@virtual
async def test_a_turn_keeps_its_own_budget_over_all_its_lives() -> None:
    """What `rt.run` was told holds on a resume, whatever the runtime says by then."""
    vendor, journal = Vendor(), MemoryJournal()

    @uc.tool(peeks="a/{i}", service="vendor")
    async def get(i: int) -> Any:
        return await vendor()

    @uc.tool(peeks="b", approval=True)
    async def ask() -> str:
        return "yes"

    calls = [uc.Call("get", {"i": i}) for i in range(4)]
    target = each_in_turn([get, ask], calls[0], uc.Call("ask"), *calls[1:])
    for said, value in (
        (uc.Budget(attempts=3), ["ok", "ok", "ok", "breakers.budget", "breakers.budget"]),
        (uc.Budget(), ["ok"] * 5),
    ):
        first, later = uc.Budgets(turn=uc.Budget(attempts=1)), uc.Budgets()
        if not said:
            first, later = later, uc.Budgets(turn=uc.Budget(attempts=1))
        async with uc.Runtime(MemoryStore(journal), targets=[target], budgets=first) as rt:
            outcome = await rt.run(target, budget=said)
            assert outcome.status == "waiting"
        async with uc.Runtime(MemoryStore(journal), targets=[target], budgets=later) as rt:
            outcome = await rt.approve(outcome.turn_id, by="ada")
            assert outcome.value == value


@virtual
async def test_a_step_keeps_its_own_budget_over_all_its_lives() -> None:
    """A step that is begun again after a crash has what is left of its attempts."""
    ends = await sweep(
        lambda vendor: batch([stepwise(vendor)], uc.Call("get")),
        lambda: Vendor([ConnectionError("x")], took_s=1),
    )
    assert len(ends) > 5
    for end in ends:
        assert len(end.world.calls) <= 3, end.commit
    assert len(ends[0].world.calls) == 3


def stepwise(vendor: Vendor) -> Any:
    """Return a tool that is tried three times at most."""

    @uc.tool(
        peeks="a",
        service="vendor",
        retry=uc.Retry(attempts=9, wait_s=0.1),
        budget=uc.Budget(attempts=3),
    )
    async def get() -> Any:
        return await vendor()

    return get


@virtual
async def test_turns_without_a_session_pay_for_nobody_else() -> None:
    """The budget of sessions is of sessions, one by one."""
    vendor = Vendor()

    @uc.tool(peeks="a", service="vendor")
    async def get() -> Any:
        return await vendor()

    handler = batch([get], uc.Call("get"))
    async with uc.Runtime(budgets=uc.Budgets(session=uc.Budget(attempts=1))) as rt:
        said = [
            (await rt.run(handler, session=session)).value[0]
            for session in (None, None, "a", "b", "a", None, "b")
        ]
    assert said == ["ok", "ok", "ok", "ok", "breakers.budget", "ok", "breakers.budget"]


@virtual
async def test_a_model_step_that_was_cut_off_is_paid_for_when_it_is_asked_again() -> None:
    """Tokens that were set aside before a crash are gone, and the next answer is shorter."""
    journal = MemoryJournal()

    class Slow(ScriptedModel):
        name = "m-1"
        wait_s = 100.0

        async def complete(self, request: uc.ModelRequest) -> uc.Answer:
            answer = await super().complete(request)
            await asyncio.sleep(self.wait_s)
            return answer

    @uc.handler(tools=[])
    async def ask(turn: uc.Turn) -> str:
        turn.context.user("hello")
        return (await turn.model()).text

    model = Slow([uc.Answer("end", usage=uc.Usage(10, 10))])
    budgets = uc.Budgets(turn=uc.Budget(output_tokens=1_000), answer_tokens=600)
    options: dict[str, Any] = {"model": model, "targets": [ask], "budgets": budgets}
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        running = asyncio.ensure_future(rt.run(ask))
        await asyncio.sleep(1)
    await asyncio.gather(running, return_exceptions=True)
    model.wait_s = 0.0
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        outcome = await rt.resume(rt.turns()[0].turn_id)
        assert outcome.value == "end"
    assert [request.output_tokens_max for request in model.requests] == [600, 400]
    (turn,) = journal.turns.values()
    spent, left = spent_before(recall(decode_frames(turn.data())))
    assert sum(amount.output_tokens for amount in (spent, *left)) == 610

"""Approvals by the SDK's own interruptions: held siblings, saved states, words that are no."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, RunState, function_tool

import undercroft as uc
from tests.frameworks.openai_agents.bank import EFFECTS, Bank, agent_of, heads, ran, rules, traced
from tests.provider import Call, Provider
from undercroft.adapters.frameworks.openai_agents import undercroft_agent

BATCH = [
    Call("pay", {"account": "ada", "amount": 50}),
    Call("add_interest", {"account": "ada", "percent": 10}),
    Call("write_note", {"text": "why"}),
]
NAMES = ("pay", "add_interest", "write_note")
SAID = {name: EFFECTS[name] for name in NAMES}


async def saved(agent: Agent[Any], *, stream: bool = False, **more: Any) -> str:
    """Run until a person is asked; return the state as a user would save it."""
    result = await ran(agent, stream=stream, **more)
    assert result.interruptions
    return str(result.to_state().to_string())


async def answered(
    agent: Agent[Any], text: str, *, no: tuple[str, ...] = (), only: Any = None
) -> Any:
    """Go on with a saved state: yes to all, but for those that get a no, or `only` to some."""
    state = await RunState.from_string(agent, text)
    for one in state.get_interruptions():
        if only is not None and one.name not in only:
            continue
        if one.name in no:
            state.reject(one, rejection_message="not today")
        else:
            state.approve(one)
    return await Runner.run(agent, state)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["responses", "chat"])
async def test_siblings_that_conflict_are_held_and_follow_in_order(
    dialect: str, *, stream: bool
) -> None:
    """The note runs at once; interest waits behind the payment, and comes after it."""
    bank = Bank()
    with Provider(rules(BATCH)) as provider:
        tools = bank.tools(*NAMES, asking=["pay"])
        async with agent_of(provider, tools, dialect) as agent, uc.Runtime() as rt:
            guarded = undercroft_agent(agent, rt, effects=SAID)
            result = await ran(guarded, stream=stream)
            assert [one.name for one in result.interruptions] == ["pay", "add_interest"]
            assert bank.log == ["note why"]
            [head] = heads(rt)
            assert head.status == "waiting"
            result = await answered(guarded, result.to_state().to_string())
            assert bank.log == ["note why", "pay 50", "add_interest"]
            assert (bank.held["ada"], result.final_output) == (55, "noted; paid 50; ada has 55")
            [head] = heads(rt)
            trace = traced(rt)
    assert trace.status == "done"
    paid = next(step for step in trace.steps if step.name == "pay" and step.decisions)
    assert [(d.what, d.by) for d in paid.decisions] == [("approved", "run state")]


async def test_a_saved_approval_that_is_answered_twice_pays_once(tmp_path: Path) -> None:
    """The second answer meets the record, in the same runtime and in another one."""
    bank, path = Bank(), tmp_path / "journal.db"
    with Provider(rules(BATCH[:1])) as provider:
        tools = bank.tools("pay", asking=["pay"])
        async with agent_of(provider, tools) as agent:
            async with uc.Runtime(path) as rt:
                guarded = undercroft_agent(agent, rt)
                text = await saved(guarded)
                first = await answered(guarded, text)
                second = await answered(guarded, text)
            async with uc.Runtime(path) as rt:
                third = await answered(undercroft_agent(agent, rt), text)
    assert bank.log == ["pay 50"]
    assert {r.final_output for r in (first, second, third)} == {"paid 50"}


async def test_a_no_reaches_the_model_in_the_sdks_words_and_the_journal() -> None:
    """The payment does not run, the note did; what was held behind it follows."""
    bank = Bank()
    with Provider(rules(BATCH)) as provider:
        tools = bank.tools(*NAMES, asking=["pay"])
        async with agent_of(provider, tools) as agent, uc.Runtime() as rt:
            guarded = undercroft_agent(agent, rt, effects=SAID)
            result = await answered(guarded, await saved(guarded), no=("pay",))
            trace = traced(rt)
    assert bank.log == ["note why", "add_interest"]
    assert "not today" in result.final_output
    decisions = [(d.what, d.reason) for step in trace.steps for d in step.decisions]
    assert decisions == [("rejected", "not today")]
    assert trace.status == "done"


async def test_a_word_on_a_held_call_alone_does_not_let_it_overtake() -> None:
    """Only the interest got a yes: it does not run before the payment is decided."""
    bank = Bank()
    with Provider(rules(BATCH)) as provider:
        tools = bank.tools(*NAMES, asking=["pay"])
        async with agent_of(provider, tools) as agent, uc.Runtime() as rt:
            guarded = undercroft_agent(agent, rt, effects=SAID)
            result = await answered(guarded, await saved(guarded), only=("add_interest",))
            assert bank.log == ["note why"]
            assert [one.name for one in result.interruptions] == ["pay"]
            result = await answered(guarded, result.to_state().to_string())
    assert bank.log == ["note why", "pay 50"]
    assert "held behind" in result.final_output


async def test_one_word_at_a_time_pauses_again_and_goes_on() -> None:
    """Two payments, decided in two steps: each runs once, in the order of proposal."""
    bank = Bank()
    two = [Call("pay", {"account": "ada", "amount": n}, f"call_{n}") for n in (10, 20)]
    with Provider(rules(two)) as provider:
        tools = bank.tools("pay", asking=["pay"])
        async with agent_of(provider, tools) as agent, uc.Runtime() as rt:
            guarded = undercroft_agent(agent, rt)
            result = await ran(guarded)
            for _ in range(4):
                if not result.interruptions:
                    break
                state = result.to_state()
                state.approve(result.interruptions[0])
                result = await Runner.run(guarded, state)
    assert bank.log == ["pay 10", "pay 20"]
    assert result.final_output == "paid 10; paid 20"


async def test_a_function_that_decides_whether_to_ask_is_asked_for_each_call() -> None:
    """Small sums need no person: the journal says who said so."""
    bank = Bank()

    async def large(_context: Any, arguments: dict[str, Any], _call_id: str) -> bool:
        return bool(arguments["amount"] > 10)

    two = [Call("pay", {"account": "ada", "amount": n}) for n in (5, 50)]
    with Provider(rules(two)) as provider:
        tools = [function_tool(bank.pay, needs_approval=large)]
        async with agent_of(provider, tools) as agent, uc.Runtime() as rt:
            guarded = undercroft_agent(agent, rt, effects={"pay": EFFECTS["pay"]})
            result = await ran(guarded)
            assert bank.log == ["pay 5"]
            assert [json.loads(one.arguments)["amount"] for one in result.interruptions] == [50]
            await answered(guarded, result.to_state().to_string())
            trace = traced(rt)
    assert bank.log == ["pay 5", "pay 50"]
    found = [d.by for step in trace.steps for d in step.decisions]
    assert found == ["needs_approval", "run state"]


async def test_a_declared_approval_pauses_the_sdk() -> None:
    """The SDK's own tool says nothing of it; the user's declaration does."""
    bank = Bank()
    with Provider(rules(BATCH[:1])) as provider:
        async with agent_of(provider, bank.tools("pay")) as agent, uc.Runtime() as rt:
            effects: dict[str, Any] = {"pay": {**EFFECTS["pay"], "approval": True}}
            guarded = undercroft_agent(agent, rt, effects=effects)
            text = await saved(guarded)
            assert bank.log == []
            result = await answered(guarded, text)
    assert (bank.log, result.final_output) == (["pay 50"], "paid 50")


async def test_what_a_person_agreed_to_is_asked_again_if_it_changed() -> None:
    """Another turn wrote the record meanwhile: the yes is void, and nothing is paid."""
    bank = Bank()
    effects: dict[str, Any] = {
        "get_balance": EFFECTS["get_balance"],
        "pay": {"writes": "accounts/{account}"},
    }
    effects["withdraw"] = EFFECTS["withdraw"]
    look = [Call("get_balance", {"account": "ada"})]
    with (
        Provider(rules(look, BATCH[:1])) as provider,
        Provider(rules([Call("withdraw", {"account": "ada", "amount": 90})])) as other,
    ):
        tools = bank.tools("get_balance", "pay", "withdraw", asking=["pay"])
        async with (
            agent_of(provider, tools) as agent,
            agent_of(other, tools) as second,
            uc.Runtime() as rt,
        ):
            guarded = undercroft_agent(agent, rt, effects=effects)
            text = await saved(guarded)
            await ran(undercroft_agent(second, rt, effects=effects))
            result = await answered(guarded, text)
    assert "pay 50" not in bank.log
    assert "refused" in result.final_output

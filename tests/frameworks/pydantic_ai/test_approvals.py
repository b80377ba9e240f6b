"""People's words: the framework's own pause, siblings, and words that count no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import (
    ApprovalRequired,
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolApproved,
    ToolDenied,
)
from pydantic_ai.capabilities import HandleDeferredToolCalls
from pydantic_ai.messages import ModelMessagesTypeAdapter

import undercroft as uc
from tests.frameworks.pydantic_ai.bank import Bank, agent_of, model_at, proposes
from tests.provider import Call, Provider

BATCH = (
    Call("pay", {"account": "ada", "amount": 50}, id="p"),
    Call("withdraw", {"account": "ada", "amount": 10}, id="w"),
    Call("note", {"text": "x"}, id="n"),
)


def saved(result: Any) -> Any:
    """Return the messages of a run as they come back from disk."""
    return ModelMessagesTypeAdapter.validate_json(result.all_messages_json())


async def test_siblings_that_conflict_are_held_and_others_run(tmp_path: Path) -> None:
    """After the yes the payment goes first, and then what was held behind it."""
    bank = Bank()
    with Provider(proposes(*BATCH)) as provider:
        async with model_at(provider) as model:
            first = await agent_of(model, bank.tools("pay"), tmp_path / "j.db").run("go")
            assert isinstance(first.output, DeferredToolRequests)
            assert bank.did == ["note"]
            assert {call.tool_call_id for call in first.output.approvals} == {"p", "w"}
            told = first.output.metadata
            assert told["w"] == {"undercroft": {"held_behind": ["p"]}}
            assert told["p"]["undercroft"]["step_id"].startswith("pay.")
            agent = agent_of(model, bank.tools("pay"), tmp_path / "j.db")
            yes = first.output.build_results(approve_all=True)
            result = await agent.run(message_history=saved(first), deferred_tool_results=yes)
    assert bank.did == ["note", "pay 50", "withdraw 10"]
    assert bank.held["ada"] == 40
    assert result.output == "paid 50; ada has 40; noted"


async def test_nobody_need_say_a_word_on_what_is_only_held(tmp_path: Path) -> None:
    """The framework wants a word on all that was put off; on held calls there is none to say."""
    bank = Bank()
    with Provider(proposes(*BATCH)) as provider:
        async with model_at(provider) as model:
            agent = agent_of(model, bank.tools("pay"), tmp_path / "j.db")
            first = await agent.run("go")
            yes = DeferredToolResults(approvals={"p": True})
            await agent.run(message_history=saved(first), deferred_tool_results=yes)
    assert bank.did == ["note", "pay 50", "withdraw 10"]


async def test_a_yes_on_what_is_held_is_none_on_what_holds_it(tmp_path: Path) -> None:
    """A no to the payment lets the withdrawal go on, and the model is told of both."""
    bank = Bank()
    with Provider(proposes(*BATCH)) as provider:
        async with model_at(provider) as model:
            agent = agent_of(model, bank.tools("pay"), tmp_path / "j.db")
            first = await agent.run("go")
            no = DeferredToolResults(
                approvals={"p": ToolDenied("too much"), "w": True}, answered_by={"p": "ada"}
            )
            result = await agent.run(message_history=saved(first), deferred_tool_results=no)
    assert bank.did == ["note", "withdraw 10"]
    assert "too much" in result.output
    assert "ada has 90" in result.output


async def test_a_saved_approval_answered_twice_pays_once(tmp_path: Path) -> None:
    """Who answers the same pause again is given what came of it the first time."""
    bank = Bank()
    with Provider(proposes(BATCH[0])) as provider:
        async with model_at(provider) as model:
            agent = agent_of(model, bank.tools("pay"), tmp_path / "j.db")
            first = await agent.run("go")
            outputs = []
            for _ in range(2):
                result = await agent.run(
                    message_history=saved(first),
                    deferred_tool_results=first.output.build_results(approve_all=True),
                )
                outputs.append(result.output)
    assert outputs == ["paid 50", "paid 50"]
    assert bank.did == ["pay 50"]


async def test_a_declared_approval_pauses_by_the_frameworks_own_means(tmp_path: Path) -> None:
    """What the framework knows as a plain tool may need a yes by declaration."""
    bank = Bank()
    effects = {"pay": {"writes": "account/{account}", "approval": True, "read_first": False}}
    with Provider(proposes(*BATCH[:2])) as provider:
        async with model_at(provider) as model:
            given: dict[str, Any] = {"undercroft": {"effects": effects}}
            agent = agent_of(model, bank.tools(), tmp_path / "j.db", **given)
            first = await agent.run("go")
            assert [call.tool_call_id for call in first.output.approvals] == ["p", "w"]
            assert bank.did == []
            agent = agent_of(model, bank.tools(), tmp_path / "j.db", **given)
            yes = DeferredToolResults(approvals={"p": True})
            await agent.run(message_history=saved(first), deferred_tool_results=yes)
    assert bank.did == ["pay 50", "withdraw 10"]


async def test_a_tool_that_asks_once_it_is_called_holds_its_siblings_too(tmp_path: Path) -> None:
    """`ApprovalRequired` out of a tool is a question like one that was declared."""
    bank = Bank()

    async def pay(ctx: RunContext[None], account: str, amount: int) -> str:
        if not ctx.tool_call_approved:
            raise ApprovalRequired({"limit": 10})
        return await bank.pay(account, amount)

    tools: list[Any] = [pay, bank.withdraw, bank.note]
    with Provider(proposes(*BATCH)) as provider:
        async with model_at(provider) as model:
            first = await agent_of(model, tools, tmp_path / "j.db").run("go")
            assert {call.tool_call_id for call in first.output.approvals} == {"p", "w"}
            assert first.output.metadata["p"]["limit"] == 10
            assert bank.did == ["note"]
            agent = agent_of(model, tools, tmp_path / "j.db")
            yes = DeferredToolResults(approvals={"p": True})
            await agent.run(message_history=saved(first), deferred_tool_results=yes)
    assert bank.did == ["note", "pay 50", "withdraw 10"]


@pytest.mark.parametrize("yes", [True, False])
async def test_a_handler_within_the_run_decides_in_order_too(*, yes: bool) -> None:
    """A capability that answers at once is somebody like any other."""
    bank = Bank()

    def handle(ctx: RunContext[None], requests: DeferredToolRequests) -> DeferredToolResults:
        asked = {call.tool_call_id: yes for call in requests.approvals if call.tool_name == "pay"}
        held = {c.tool_call_id: True for c in requests.approvals if c.tool_name != "pay"}
        return DeferredToolResults(approvals={**asked, **held})

    with Provider(proposes(*BATCH)) as provider:
        async with model_at(provider) as model:
            agent = agent_of(
                model,
                bank.tools("pay"),
                capabilities=[HandleDeferredToolCalls(handle)],
                output_type=str,
            )
            await agent.run("go")
    assert bank.did == ["note", *(["pay 50"] if yes else []), "withdraw 10"]


async def test_arguments_that_the_approver_changed_are_those_that_run(tmp_path: Path) -> None:
    """The word binds to what the approver wrote, and claims follow it."""
    bank = Bank()
    with Provider(proposes(*BATCH[:2])) as provider:
        async with model_at(provider) as model:
            agent = agent_of(model, bank.tools("pay"), tmp_path / "j.db")
            first = await agent.run("go")
            less = ToolApproved(override_args={"account": "ada", "amount": 5})
            await agent.run(
                message_history=saved(first),
                deferred_tool_results=DeferredToolResults(approvals={"p": less}),
            )
    assert bank.did == ["pay 5", "withdraw 10"]


@pytest.mark.parametrize("changed", [True, False])
async def test_a_yes_to_what_has_changed_since_is_asked_for_again(
    tmp_path: Path, *, changed: bool
) -> None:
    """The approver saw an account with 100: of one with 7 nobody has said anything."""
    bank = Bank()
    batch = [Call("balance", {"account": "ada"}, id="b"), BATCH[0]]
    with Provider(proposes(*batch)) as provider:
        async with model_at(provider) as model:
            first = await agent_of(model, bank.tools("pay"), tmp_path / "j.db").run("go")
            if changed:
                bank.held["ada"] = 7
            agent = agent_of(model, bank.tools("pay"), tmp_path / "j.db")
            yes = first.output.build_results(approve_all=True)
            second = await agent.run(message_history=saved(first), deferred_tool_results=yes)
            if not changed:
                assert second.output == "100; paid 50"
                return
            assert isinstance(second.output, DeferredToolRequests)
            told = second.output.metadata["p"]["undercroft"]
            assert told["void"] == "changed"
            assert told["changed"] == [["account/ada", 100, 7]]
            assert "pay 50" not in bank.did
            again = second.output.build_results(approve_all=True)
            await agent.run(message_history=saved(second), deferred_tool_results=again)
    assert bank.did.count("pay 50") == 1


async def test_a_no_alone_is_recorded_and_told(tmp_path: Path) -> None:
    """The framework tells the model by itself; the record says who refused, and why."""
    bank, store = Bank(), tmp_path / "j.db"
    with Provider(proposes(BATCH[0])) as provider:
        async with model_at(provider) as model:
            agent = agent_of(model, bank.tools("pay"), store)
            first = await agent.run("go")
            no = DeferredToolResults(
                approvals={"p": ToolDenied("too much")}, answered_by={"p": "ada"}
            )
            result = await agent.run(message_history=saved(first), deferred_tool_results=no)
    assert "too much" in result.output
    assert bank.did == []
    async with uc.Runtime(store) as rt:
        (turn,) = rt.turns()
        (pay,) = [step for step in rt.trace(turn.turn_id).steps if step.name == "pay"]
    assert pay.status == "refused"
    assert [(one.what, one.by, one.reason) for one in pay.decisions] == [
        ("rejected", "ada", "too much")
    ]

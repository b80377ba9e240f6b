"""The record of a run: what was asked and answered, done, agreed to and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import BinaryContent, DeferredToolResults, ModelRetry, RunContext
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_ai.toolsets import FunctionToolset

import undercroft as uc
from tests.frameworks.pydantic_ai.bank import Bank, agent_of, model_at
from tests.provider import Answer, Call, Provider, Reply, Request, Usage
from undercroft.adapters.frameworks.pydantic_ai import tools_of
from undercroft.diagnosis import diagnose
from undercroft.doctor.report import Diagnosis
from undercroft.queries import read_prompt

BATCH = [
    Call("balance", {"account": "ada"}, id="b"),
    Call("pay", {"account": "ada", "amount": 50}, id="p"),
]


async def test_a_run_and_its_pause_are_told_in_full(tmp_path: Path) -> None:
    """Prompts can be rebuilt, each step has its place, and what the user read is there."""
    bank, store = Bank(), tmp_path / "j.db"

    def model(request: Request) -> Reply:
        usage = Usage(input_tokens=100 + request.number, output_tokens=7)
        if not request.fresh:
            return Answer(calls=BATCH, usage=usage)
        return Answer(text="you have 50", usage=usage)

    with Provider(model) as provider:
        async with model_at(provider) as chat:
            agent = agent_of(chat, bank.tools("pay"), store, instructions="Be brief.")
            picture = BinaryContent(b"\x89PNG", media_type="image/png")
            first = await agent.run(["pay 50", picture])
            kept = ModelMessagesTypeAdapter.validate_json(first.all_messages_json())
            yes = DeferredToolResults(approvals={"p": True}, answered_by={"p": "ada"})
            result = await agent.run(message_history=kept, deferred_tool_results=yes)
    assert result.output == "you have 50"
    async with uc.Runtime(store) as rt:
        (turn,) = rt.turns()
        assert turn.status == "done"
        trace = rt.trace(turn.turn_id)
    assert [(step.name, step.status) for step in trace.steps] == [
        ("model", "ok"),
        ("balance", "ok"),
        ("pay", "ok"),
        ("model", "ok"),
    ]
    asked, _, pay, told = trace.steps
    assert [(one.by, one.what) for one in pay.decisions] == [("ada", "approved")]
    prompts = [read_prompt(str(store), turn.turn_id, step.n) for step in (asked, told)]
    assert all(prompt is not None and prompt.verified for prompt in prompts)
    assert prompts[1] is not None
    assert [m.role for m in prompts[1].messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
    ]
    assert "image/png" in prompts[1].messages[1].content
    assert trace.delivered == "you have 50"
    (said,) = diagnose([str(store)])
    assert isinstance(said, Diagnosis)
    assert said.cause == "none", said


class Receipt(BaseModel):
    """What an agent is to answer."""

    paid: int


async def test_output_tools_and_retries_of_the_output_keep_working(tmp_path: Path) -> None:
    """A structured answer is a call to the framework, and none of ours."""
    bank = Bank()

    def model(request: Request) -> Reply:
        if request.number == 0:
            return Answer(calls=[Call("note", {"text": "x"})])
        paid: Any = "much" if request.number == 1 else 5
        return Answer(calls=[Call("final_result", {"paid": paid})])

    store = tmp_path / "j.db"
    with Provider(model) as provider:
        async with model_at(provider) as chat:
            agent = agent_of(chat, bank.tools(), store, output_type=Receipt)

            @agent.output_validator
            def check(ctx: RunContext[Any], value: Receipt) -> Receipt:
                if value.paid > 10:
                    raise ModelRetry("too much")
                return value

            assert (await agent.run("go")).output == Receipt(paid=5)
    async with uc.Runtime(store) as rt:
        (turn,) = rt.turns()
        assert [s.name for s in rt.trace(turn.turn_id).steps if s.kind == "tool"] == ["note"]


def test_the_tools_of_an_agent_are_known_before_it_runs() -> None:
    """Each by its function, so that what was declared of it is found."""
    bank = Bank()
    more = FunctionToolset([bank.note]).renamed({"jot": "note"}).prefixed("my")
    agent = agent_of("test", bank.tools("pay"), toolsets=[more])
    found = {tool.name: tool for tool in tools_of(agent)}
    assert set(found) == {"withdraw", "pay", "balance", "note", "my_jot"}
    assert found["pay"].hints.approval
    assert bank.note in found["note"].origins


def named(ctx: RunContext[Any]) -> str:
    """Return the name of a conversation."""
    return "mine"


@pytest.mark.parametrize("session", ["mine", None])
async def test_a_conversation_may_have_another_name(tmp_path: Path, session: str | None) -> None:
    """By a string or a function of the run; None: nothing is found again."""
    with Provider([Answer(text="hello")]) as provider:
        async with model_at(provider) as model:
            given = {"session": session if session is None else named}
            await agent_of(model, [], tmp_path / "j.db", undercroft=given).run("hi")
    async with uc.Runtime(tmp_path / "j.db") as rt:
        (turn,) = rt.turns()
        assert turn.session == session

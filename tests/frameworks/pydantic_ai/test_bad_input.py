"""Tools, providers and programs as they should not be: guarded all the same, or told clearly."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, CallDeferred, DeferredToolRequests, DeferredToolResults, Tool
from pydantic_ai.exceptions import ModelHTTPError, UnexpectedModelBehavior, UserError
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ExternalToolset, FunctionToolset
from pydantic_core import PydanticSerializationError

import undercroft as uc
from tests.frameworks.pydantic_ai.bank import Bank, agent_of, model_at, proposes
from tests.provider import Answer, Call, Provider, Status


async def run(tools: list[Any], *batch: Call, **settings: Any) -> Any:
    """Return what a run comes to whose model proposes a batch."""
    with Provider(proposes(*batch), strict=False) as provider:
        async with model_at(provider) as model:
            return (await agent_of(model, tools, **settings).run("go")).output


async def test_a_tool_may_have_no_docstring_and_take_anything() -> None:
    """What it takes by `**` is not declared, and comes through."""

    def anything(first: int, /, second: int = 2, **more: Any) -> str:
        return f"{first} {second} {more}"

    assert await run([anything], Call("anything", {"first": 1, "third": 3})) == "1 2 {'third': 3}"


async def test_a_tool_may_be_sync_and_two_of_them_run_in_order() -> None:
    """A plain function runs in a thread, past the same guards."""
    did: list[int] = []

    def slow(n: int) -> int:
        did.append(n)
        return n

    assert await run([slow], Call("slow", {"n": 1}), Call("slow", {"n": 2})) == "1; 2"
    assert did == [1, 2]


async def test_what_a_tool_returns_may_be_read_only_once() -> None:
    """The record and the framework are both shown all of a generator."""

    def pages() -> Any:
        yield 1
        yield 2

    assert await run([pages], Call("pages", {})) == "[1,2]"


async def test_what_a_tool_returns_may_be_no_data() -> None:
    """What cannot be told to a model raises what the framework would raise."""

    def thing() -> Any:
        return object()

    with pytest.raises(PydanticSerializationError):
        await run([thing], Call("thing", {}))


async def test_two_calls_with_one_id_are_the_frameworks_to_refuse() -> None:
    """Neither of them runs."""
    bank = Bank()
    twice = [Call("withdraw", {"account": "ada", "amount": n}, id="same") for n in (1, 2)]
    with pytest.raises(UnexpectedModelBehavior, match="unique"):
        await run(bank.tools(), *twice)
    assert bank.did == []


async def test_arguments_that_are_no_json_are_told_to_the_model() -> None:
    """As the framework tells it, and nothing runs."""
    bank = Bank()
    output = await run(bank.tools(), Call("withdraw", '{"account": "ada", "amo'))
    assert "Invalid JSON" in output
    assert bank.did == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(text="", stop="length"), "exceeded before any response"),
        (Answer(text="", stop="filter"), "[Cc]ontent filter"),
        (
            Answer(calls=[Call("withdraw", '{"account": "ada", "amo')], stop="length"),
            "token limit|incomplete|exceeded",
        ),
    ],
    ids=["length", "filter", "length within a call"],
)
async def test_answers_that_were_cut_off_end_as_ever(answer: Answer, error: str) -> None:
    """The framework says so; the turn has failed, and nothing was done."""
    bank = Bank()
    async with uc.Runtime() as rt:
        with Provider([answer, answer, answer], strict=False) as provider:
            async with model_at(provider) as model:
                with pytest.raises(UnexpectedModelBehavior, match=error):
                    await agent_of(model, bank.tools(), runtime=rt).run("go")
        (turn,) = rt.turns()
    assert turn.status == "failed"
    assert bank.did == []


async def test_an_error_of_the_provider_keeps_its_type() -> None:
    """Who catches the framework's errors goes on doing so."""
    with Provider([Status(status=401)] * 4) as provider:
        async with model_at(provider) as model:
            with pytest.raises(ModelHTTPError):
                await agent_of(model, []).run("go")
        assert len(provider.requests) == 1


async def test_a_call_that_is_carried_out_elsewhere_is_recorded(tmp_path: Path) -> None:
    """`CallDeferred` pauses as ever, and what came of it goes to the model and the record."""

    async def print_page(page: int) -> str:
        raise CallDeferred({"queue": "printer"})

    with Provider(proposes(Call("print_page", {"page": 1}, id="a"))) as provider:
        async with model_at(provider) as model:
            agent = agent_of(model, [print_page], tmp_path / "j.db")
            first = await agent.run("go")
            assert isinstance(first.output, DeferredToolRequests)
            assert first.output.metadata == {"a": {"queue": "printer"}}
            kept = ModelMessagesTypeAdapter.validate_json(first.all_messages_json())
            done = DeferredToolResults(calls={"a": "printed"})
            result = await agent.run(message_history=kept, deferred_tool_results=done)
    assert result.output == "printed"
    async with uc.Runtime(tmp_path / "j.db") as rt:
        steps = [step for turn in rt.turns() for step in rt.trace(turn.turn_id).steps]
    assert [step.status for step in steps if step.name == "print_page"] == ["ok"]


async def test_what_came_of_a_tool_elsewhere_is_recorded(tmp_path: Path) -> None:
    """A tool that only others can call is none of ours until they say what came of it."""
    told = ToolDefinition(name="print_page")
    outside: ExternalToolset[Any] = ExternalToolset([told])
    batch = [Call("print_page", {}, id="a"), Call("note", {"text": "x"}, id="b")]
    bank = Bank()
    with Provider(proposes(*batch)) as provider:
        async with model_at(provider) as model:
            agent = agent_of(model, bank.tools(), tmp_path / "j.db", toolsets=[outside])
            first = await agent.run("go")
            assert [call.tool_call_id for call in first.output.calls] == ["a"]
            assert bank.did == ["note"]
            kept = ModelMessagesTypeAdapter.validate_json(first.all_messages_json())
            done = DeferredToolResults(calls={"a": "printed"})
            result = await agent.run(message_history=kept, deferred_tool_results=done)
    assert result.output == "printed; noted"
    async with uc.Runtime(tmp_path / "j.db") as rt:
        steps = [step for turn in rt.turns() for step in rt.trace(turn.turn_id).steps]
    assert [step.value for step in steps if step.name == "print_page"] == ["printed"]


@pytest.mark.parametrize("reads", [True, False])
async def test_a_tool_that_the_framework_gave_up_on_may_have_done_it(*, reads: bool) -> None:
    """Of a write nobody knows, and the model is told so; a read it may try again."""

    async def slow() -> str:
        await asyncio.Event().wait()
        return "never"

    effects = {"slow": {"reads": "page"} if reads else {"writes": "page"}}
    tool = Tool(slow, timeout=0.01)
    output = await run([tool], Call("slow", {}), undercroft={"effects": effects})
    assert ("Timed out after" if reads else "in_doubt") in output


async def test_a_pause_that_the_agent_cannot_say_is_told_clearly() -> None:
    """Where a declaration asks and the agent has no such output, the framework says what to do."""
    bank = Bank()
    effects = {"note": {"approval": True, "appends": "notes"}}
    with pytest.raises(UserError, match="DeferredToolRequests"):
        await run(
            bank.tools(),
            Call("note", {"text": "x"}),
            output_type=str,
            undercroft={"effects": effects},
        )
    assert bank.did == []


async def test_a_run_that_is_cancelled_can_go_on(tmp_path: Path) -> None:
    """Its turn stops, and nothing that runs on is left."""
    begun = asyncio.Event()

    async def hang() -> str:
        begun.set()
        await asyncio.Event().wait()
        return "never"

    async with uc.Runtime(tmp_path / "j.db") as rt:
        with Provider(proposes(Call("hang", {}))) as provider:
            async with model_at(provider) as model:
                task = asyncio.ensure_future(agent_of(model, [hang], runtime=rt).run("go"))
                await begun.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        (turn,) = rt.turns()
    assert turn.status in {"stopped", "in_doubt"}


async def test_toolsets_with_prefixes_are_found_by_their_functions() -> None:
    """`uc.declare` of a function holds under the name that a toolset gives it."""
    bank = Bank()

    async def draw(account: str, amount: int) -> str:
        return await bank.withdraw(account, amount)

    uc.declare(draw, writes="account/{account}", approval=True)
    toolset: FunctionToolset[Any] = FunctionToolset([draw])
    with Provider(proposes(Call("bank_draw", {"account": "ada", "amount": 1}))) as provider:
        async with model_at(provider) as model:
            agent: Agent[Any, Any] = agent_of(model, [], toolsets=[toolset.prefixed("bank")])
            result = await agent.run("go")
    assert isinstance(result.output, DeferredToolRequests)
    assert bank.did == []


def test_another_version_of_the_framework_is_told_at_once() -> None:
    """Who imports the adapter learns what is installed, what it knows, and what to do."""
    program = (
        "import importlib.metadata as m\n"
        "m.version = lambda name: '1.9.0'\n"
        "import undercroft.adapters.frameworks.pydantic_ai\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "pydantic-ai-slim 1.9.0 is installed" in done.stderr
    assert "pip install 'undercroft[pydantic-ai]'" in done.stderr

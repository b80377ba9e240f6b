"""What may not run: the model reads why, in the framework's own messages, and the run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.exceptions import UnexpectedModelBehavior

import undercroft as uc
from tests.frameworks.pydantic_ai.bank import Bank, agent_of, model_at, proposes
from tests.provider import Answer, Call, Provider, Reply, Request


def names(request: Request) -> set[str]:
    """Return the tools that a request offers."""
    return {tool["function"]["name"] for tool in request.body.get("tools", [])}


async def test_a_write_without_its_read_is_refused_to_the_model() -> None:
    """The refusal is the result of that call and of no other."""
    bank = Bank()
    effects = {"balance": {"reads": "account/{account}"}, "pay": {"writes": "account/{account}"}}
    batch = [
        Call("pay", {"account": "ada", "amount": 5}, id="a"),
        Call("balance", {"account": "bob"}, id="b"),
    ]
    with Provider(proposes(*batch)) as provider:
        async with model_at(provider) as model:
            await agent_of(model, bank.tools(), undercroft={"effects": effects}).run("go")
        pay, balance = provider.requests[1].fresh
    assert pay.call is not None
    assert (pay.call.name, pay.call.id) == ("pay", "a")
    assert "sequencing.read_first" in pay.text
    assert balance.text == "100"
    assert bank.did == ["balance bob"]


async def test_an_unknown_tool_is_the_frameworks_own_matter(tmp_path: Path) -> None:
    """It tells the model, by its budget of retries; the record tells it too."""
    bank = Bank()
    batch = [Call("pya", {"account": "ada"}, id="a"), Call("note", {"text": "x"}, id="b")]
    async with uc.Runtime(tmp_path / "j.db") as rt:
        with Provider(proposes(*batch)) as provider:
            async with model_at(provider) as model:
                result = await agent_of(model, bank.tools(), runtime=rt).run("go")
        assert "Unknown tool name: 'pya'" in result.output
        assert bank.did == ["note"]
        (turn,) = rt.turns()
        steps = {step.name: step.status for step in rt.trace(turn.turn_id).steps}
    assert steps["pya"] == "refused"


async def test_wrong_arguments_are_the_frameworks_own_matter(tmp_path: Path) -> None:
    """Its check of types decides; what waits behind such a call does not wait for it."""
    bank = Bank()
    batch = [
        Call("withdraw", {"account": "ada", "amount": "a lot"}, id="a"),
        Call("withdraw", {"account": "ada", "amount": 5}, id="b"),
    ]
    async with uc.Runtime(tmp_path / "j.db") as rt:
        with Provider(proposes(*batch)) as provider:
            async with model_at(provider) as model:
                result = await agent_of(model, bank.tools(), runtime=rt).run("go")
        assert "valid integer" in result.output
        assert bank.did == ["withdraw 5"]
        (turn,) = rt.turns()
        trace = rt.trace(turn.turn_id)
    assert [s.status for s in trace.steps if s.name == "withdraw"] == ["failed", "ok"]


async def test_a_retry_that_a_tool_asks_for_is_asked_for() -> None:
    """`ModelRetry` reaches the model and counts on the framework's own budget."""
    tried = 0

    async def guess(n: int) -> str:
        nonlocal tried
        tried += 1
        raise ModelRetry(f"not {n}")

    def model(request: Request) -> Reply:
        return Answer(calls=[Call("guess", {"n": request.number})])

    with Provider(model) as provider:
        async with model_at(provider) as chat:
            agent = agent_of(chat, [guess])
            with pytest.raises(UnexpectedModelBehavior, match="exceeded max retries count of 1"):
                await agent.run("go")
    assert tried == 2


async def test_what_a_tool_raises_ends_the_run_as_ever() -> None:
    """An error of a tool is the caller's, with its own type."""

    async def broken() -> str:
        raise KeyError("card")

    with Provider(proposes(Call("broken", {}))) as provider:
        async with model_at(provider) as model:
            with pytest.raises(KeyError, match="card"):
                await agent_of(model, [broken]).run("go")


async def test_a_tool_that_fails_the_same_way_for_ever_is_stopped() -> None:
    """The model is told, and if it goes on, the run ends with a typed error."""
    called = 0

    async def charge(card: str) -> str:
        nonlocal called
        called += 1
        return "declined"

    def model(request: Request) -> Reply:
        return Answer(calls=[Call("charge", {"card": "4242"})])

    with Provider(model) as provider:
        async with model_at(provider) as chat:
            with pytest.raises(uc.LoopError):
                await agent_of(chat, [charge]).run("go")
        told = json.dumps(provider.requests[-1].body)
    assert called <= 10
    assert "came to" in told


async def test_tools_of_a_service_that_was_given_up_are_not_offered() -> None:
    """After its breaker opened the next request lacks them, and says so."""

    async def ship(order: int) -> str:
        raise ConnectionError(f"no route for {order}")

    async def note(text: str) -> str:
        return "noted"

    effects: dict[str, Any] = {
        "ship": {"service": "depot", "peeks": "depot"},
        "note": {"appends": "notes"},
    }
    runtime = uc.Runtime(services=[uc.Service("depot", breaker=uc.BreakerPolicy(failures_max=2))])

    def model(request: Request) -> Reply:
        if request.number < 2:
            return Answer(calls=[Call("ship", {"order": request.number})])
        return Answer(text="I gave up")

    with Provider(model) as provider:
        async with model_at(provider) as chat:
            agent = agent_of(chat, [ship, note], runtime=runtime, undercroft={"effects": effects})
            for _ in range(2):
                with pytest.raises(ConnectionError):
                    await agent.run("go")
            assert (await agent.run("go")).output == "I gave up"
        assert names(provider.requests[0]) == {"ship", "note"}
        assert names(provider.requests[-1]) == {"note"}
        assert "depot" in json.dumps(provider.requests[-1].body["messages"])


async def test_agents_without_tools_are_guests_too() -> None:
    """A conversation of texts goes through as it is."""
    with Provider([Answer(text="hello")]) as provider:
        async with model_at(provider) as model:
            agent: Agent[Any, Any] = agent_of(model, [])
            assert (await agent.run("hi")).output == "hello"

"""Refusals, failures and bad input of models and tools: what the model reads of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver

import undercroft as uc
from tests.frameworks.langchain.stage import MAKERS, Bank, agent_of, chat, graph_of, hold, proposes
from tests.provider import Answer, Call, Provider, Request
from undercroft.errors import DomainError

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"


def results(said: list[BaseMessage]) -> dict[str, ToolMessage]:
    """Return the results in a conversation, by the ids of their calls."""
    return {one.tool_call_id: one for one in said if isinstance(one, ToolMessage)}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("how", ["ainvoke", "invoke"])
async def test_refusals_reach_the_model_as_results_of_their_calls(maker: str, how: str) -> None:
    """A tool that is not there, arguments that do not fit, and an order that was not kept."""
    bank = Bank(a=100)

    def look(account: str) -> str:
        """Look at an account."""
        return f"{bank.balances[account]}"

    effects = {
        "look": {"reads": "account/{account}"},
        "withdraw": {"writes": "account/{account}"},
    }
    batch = [
        Call("nothing", {}, "c1"),
        Call("look", {"account": ["no", "text"]}, "c2"),
        Call("withdraw", {"account": "a", "amount": 5}, "c3"),
    ]
    tools = [look, bank.tools(sync=True)["withdraw"]]
    with Provider(proposes(*batch)) as provider:
        agent = MAKERS[maker](provider, uc.Runtime(), tools, effects)
        found = results(await hold(agent, "Go.", how))
    assert {one.status for one in found.values()} == {"error"}
    assert "nothing" in found["c1"].text
    assert "account" in found["c2"].text
    assert "look" in found["c3"].text
    assert bank.balances == {"a": 100}


async def test_what_a_tool_raised_comes_out_as_it_was_once_its_siblings_are_done() -> None:
    """The framework meets the tool's own exception, and nothing was cut off in its middle."""
    log: list[str] = []

    class OwnError(Exception):
        pass

    async def break_(account: str) -> str:
        """Break."""
        raise OwnError(account)

    bank = Bank(a=100)
    batch = [
        Call("break_", {"account": "b"}, "c1"),
        Call("withdraw", {"account": "a", "amount": 5}, "c2"),
    ]
    effects: dict[str, Any] = {
        name: {"writes": "account/{account}", "read_first": False}
        for name in ("break_", "withdraw")
    }
    with Provider(proposes(*batch)) as provider:
        agent = agent_of(provider, uc.Runtime(), [break_, bank.tools()["withdraw"]], effects)
        with pytest.raises(OwnError, match="b"):
            await hold(agent, "Go.")
    assert bank.log == ["begin 5", "end 5"]
    assert not log


@pytest.mark.parametrize("how", ["ainvoke", "invoke"])
async def test_an_error_as_a_value_is_given_back_as_it_is_and_recorded_as_a_failure(
    how: str, tmp_path: Path
) -> None:
    """A node that makes messages of errors does so still; the record knows the tool's own."""

    def connect(n: int) -> str:
        """Connect."""
        raise ConnectionError(f"no route {n}")

    path = str(tmp_path / "journal.db")
    reads = {"connect": {"reads": "net"}}
    with Provider(proposes(Call("connect", {"n": 1}, "c1"))) as provider:
        graph = graph_of(provider, uc.Runtime(path), [connect], reads, handle_tool_errors=True)
        found = results(await hold(graph, "Go.", how))
    assert found["c1"].status == "error"
    assert "no route 1" in found["c1"].text
    async with uc.Runtime(path) as rt:
        (head,) = rt.turns()
        step = next(one for one in rt.trace(head.turn_id).steps if one.name == "connect")
    assert step.error is not None
    assert step.error.type == "ConnectionError"


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("how", ["ainvoke", "invoke"])
async def test_a_tool_that_fails_the_same_way_for_ever_is_stopped(maker: str, how: str) -> None:
    """Also where its node makes messages of errors, of ours too: tens of calls at the most."""
    calls = 0

    def charge(card: str) -> str:
        """Charge a card."""
        nonlocal calls
        calls += 1
        return "error: declined"

    def model(request: Request) -> Answer:
        return Answer(calls=[Call("charge", {"card": "4242"}, f"c{request.number}")])

    more: dict[str, Any] = {"handle_tool_errors": True} if maker == "graph" else {}
    with Provider(model) as provider:
        agent = MAKERS[maker](provider, uc.Runtime(), [charge], **more)
        with pytest.raises(uc.LoopError, match="same arguments"):
            await hold(agent, "Go.", how)
        assert len(provider.requests) < 20
    assert calls < 10


def plain(x: int, *more: int, **words: Any) -> str:  # noqa: D103  a tool without a docstring
    return f"{x} {more} {words}"


@tool(description="No docstring, and takes what it is given.")
def loose(**words: Any) -> str:  # noqa: D103  as its description says
    return repr(sorted(words["words"].items() if "words" in words else words.items()))


def generating(n: int) -> Iterator[int]:
    """Generate."""
    yield from range(n)


def picture() -> list[dict[str, Any]]:
    """Return an image."""
    return [
        {"type": "text", "text": "here"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]


def nested() -> dict[str, Any]:
    """Return what is no text."""
    return {"a": [1, None, {"b": 2.5}], "c": "ü"}


@pytest.mark.parametrize("how", ["ainvoke", "invoke"])
async def test_odd_tools_come_to_what_they_come_to_without_us(how: str, tmp_path: Path) -> None:
    """No docstring, **kwargs, generators, images, and values that are no text."""
    only = StructuredTool.from_function(plain, name="plain", description="Add.")
    tools: list[Any] = [only, loose, generating, picture, nested]
    batch = [
        Call("plain", {"x": 1}, "c1"),
        Call("loose", {"words": {"k": 1}}, "c2"),
        Call("generating", {"n": 3}, "c3"),
        Call("picture", {}, "c4"),
        Call("nested", {}, "c5"),
    ]

    def model(request: Request) -> Answer:
        if not any(one.calls for one in request.said):
            return Answer(calls=batch)
        return Answer(text="seen")

    found = {}
    for guarded in (True, False):
        with Provider(model) as provider:
            if guarded:
                agent = agent_of(provider, uc.Runtime(str(tmp_path / "journal.db")), tools)
            else:
                agent = create_agent(chat(provider), tools, checkpointer=InMemorySaver())
            said = await hold(agent, "Go.", how)
            found[guarded] = {key: one.content for key, one in results(said).items()}
    with_us, without = found[True], found[False]
    assert str(with_us.pop("c3")).startswith("<generator")
    assert str(without.pop("c3")).startswith("<generator")
    assert with_us == without


@pytest.mark.parametrize(
    "answer",
    [
        Answer(calls=[Call("note", '{"text": "cut', "c1")]),
        Answer(calls=[Call("note", '{"text": "cut', "c1")], stop="length"),
        Answer(refusal="I will not."),
        Answer(text="", stop="filter"),
        Answer(text="half a sent", stop="length"),
    ],
    ids=["malformed", "length in a call", "refusal", "filter", "length"],
)
async def test_odd_answers_of_providers_come_to_what_they_come_to_without_us(
    answer: Answer, tmp_path: Path
) -> None:
    """The framework decides what they mean; the record has them, and the turn ends."""
    path = str(tmp_path / "journal.db")
    bank = Bank()
    with Provider([answer]) as provider:
        agent = agent_of(provider, uc.Runtime(path), [bank.tools()["note"]])
        said = await hold(agent, "Go.")
    assert isinstance(said[-1], AIMessage)
    assert not bank.log
    async with uc.Runtime(path) as rt:
        (head,) = rt.turns()
        assert str(head.status) == "done"


async def test_an_empty_choice_is_the_frameworks_own_error(tmp_path: Path) -> None:
    """It comes out as it was, and the turn has failed."""
    path = str(tmp_path / "journal.db")
    with Provider([Answer(empty=True)]) as provider:
        agent = agent_of(provider, uc.Runtime(path), [Bank().tools()["note"]])
        with pytest.raises(Exception, match=r".") as caught:
            await hold(agent, "Go.")
    assert not isinstance(caught.value, uc.UndercroftError)
    async with uc.Runtime(path) as rt:
        (head,) = rt.turns()
        assert str(head.status) == "failed"


async def test_domain_errors_are_no_fault_of_the_service() -> None:
    """A tool that says no again and again does not open its breaker."""

    async def buy(n: int) -> str:
        """Buy."""
        raise DomainError(f"sold out {n}")

    def model(request: Request) -> Answer:
        n = request.number
        return Answer(calls=[Call("buy", {"n": n}, f"c{n}")]) if n < 12 else Answer(text="no")

    with Provider(model) as provider:
        graph = graph_of(
            provider,
            uc.Runtime(),
            [buy],
            {"buy": {"writes": "item/{n}", "service": "shop", "read_first": False}},
            handle_tool_errors=True,
        )
        said = await hold(graph, "Go.")
    assert all("sold out" in one.text for one in results(said).values())

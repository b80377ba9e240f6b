"""A batch of LangChain's is seen before its calls run: order and claims hold, however it is run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.frameworks.langchain.stage import HOWS, MAKERS, Bank, hold, proposes, take
from tests.provider import Answer, Call, Provider
from undercroft.adapters.frameworks.langchain.runs import COMES_WITHIN_S, Batch


def results(said: list[Any]) -> list[str]:
    """Return what the results in a conversation say."""
    return [message.text for message in said if message.type == "tool"]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("sync", [False, True])
async def test_withdrawals_of_one_batch_follow_each_other(
    maker: str,
    how: str,
    sync: bool,  # noqa: FBT001  a parameter of the test
    tmp_path: Path,
) -> None:
    """Nothing is declared: both are subtracted, though the first takes longer."""
    if not sync and how in {"invoke", "stream"}:
        pytest.skip("a tool without a sync function needs the async API")
    bank = Bank(a=100)
    with Provider(proposes(take(30, "c1"), take(50, "c2"))) as provider:
        host = uc.Runtime(str(tmp_path / "journal.db"))
        tool = bank.tools(sync=sync)["withdraw"]
        said = await hold(MAKERS[maker](provider, host, [tool]), "Take 30 and 50.", how)
    assert results(said) == ["70 left", "20 left"]
    assert said[-1].text == "70 left; 20 left"
    assert bank.balances == {"a": 20}
    assert bank.log == ["begin 30", "end 30", "begin 50", "end 50"]


@pytest.mark.parametrize("how", ["ainvoke", "invoke"])
async def test_a_write_waits_for_an_earlier_read_of_the_same_key(how: str) -> None:
    """Declared by key: what is about another account runs beside it."""
    log: list[str] = []

    def look(account: str) -> str:
        """Look at an account."""
        log.append(f"look {account}")
        Bank(a=1).tools(sync=True)["withdraw"](account="a", amount=10)
        log.append(f"looked {account}")
        return "seen"

    def write(account: str) -> str:
        """Write to an account."""
        log.append(f"write {account}")
        return "written"

    batch = [
        Call("look", {"account": "a"}, "c1"),
        Call("write", {"account": "a"}, "c2"),
        Call("write", {"account": "b"}, "c3"),
    ]
    effects = {
        "look": {"reads": "account/{account}"},
        "write": {"writes": "account/{account}", "read_first": False},
    }
    with Provider(proposes(*batch)) as provider:
        agent = MAKERS["agent"](provider, uc.Runtime(), [look, write], effects)
        await hold(agent, "Go.", how)
    assert log.index("looked a") < log.index("write a")
    assert log.index("write b") < log.index("looked a")


@pytest.mark.parametrize("maker", MAKERS)
async def test_two_calls_with_one_id_both_run_once(maker: str) -> None:
    """A provider may send one id twice: each call has its own result."""
    bank = Bank(a=100)
    with Provider(proposes(take(30, "same"), take(50, "same"))) as provider:
        agent = MAKERS[maker](provider, uc.Runtime(), [bank.tools()["withdraw"]])
        await hold(agent, "Go.")
    assert bank.balances == {"a": 20}


async def test_tokens_are_streamed_past_the_guards(tmp_path: Path) -> None:
    """With stream_mode "messages" the user sees the answer as it comes."""
    text = "a long answer in several pieces, one after the other, as it is written"
    with Provider([Answer(text=text)]) as provider:
        host = uc.Runtime(str(tmp_path / "journal.db"))
        agent = MAKERS["agent"](provider, host, [Bank().tools()["note"]])
        seen = [
            chunk.text
            async for chunk, _ in agent.astream(
                {"messages": [("user", "Say.")]},
                {"configurable": {"thread_id": "t"}},
                stream_mode="messages",
            )
        ]
    assert len([piece for piece in seen if piece]) > 2
    assert "".join(seen) == text


@dataclass(eq=False)
class Begun:
    """A call of a node, as its batch sees it."""

    call: uc.Call
    width: int = 3
    task: str = "tools"

    def is_beside(self, other: Begun) -> bool:
        """Whether it takes up a thread of the same node."""
        return self.task == other.task

    def begins_another(self, begun: int) -> bool:
        """Whether the node has a thread left."""
        return begun < self.width


@pytest.mark.parametrize("ends", ["may_ask", "quiet"])
async def test_a_node_is_not_given_up_before_its_threads_have_begun(ends: str) -> None:
    """Who raises first would have the calls cut off whose threads come a little later."""
    calls = [uc.Call("pay", {}, "c1"), uc.Call("note", {}, "c2")]
    batch, (pay, note) = Batch(calls), map(Begun, calls)
    batch.begin(pay)
    batch.settle(pay, asks=True)
    waits = asyncio.ensure_future(getattr(batch, ends)(pay))
    await asyncio.sleep(0.01)
    assert not waits.done()
    batch.begin(note)
    await asyncio.sleep(0)
    assert not waits.done()
    batch.settle(note, asks=False)
    await waits


async def test_a_node_without_a_thread_left_is_given_up_at_once() -> None:
    """What cannot begin before this call is over is not waited for."""
    calls = [uc.Call("pay", {}, "c1"), uc.Call("note", {}, "c2")]
    batch, pay = Batch(calls), Begun(calls[0], width=1)
    batch.begin(pay)
    batch.settle(pay, asks=True)
    assert await asyncio.wait_for(batch.may_ask(pay), COMES_WITHIN_S / 2)

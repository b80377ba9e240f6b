"""Batches of calls: their order, and what runs together, however an agent is run."""

from __future__ import annotations

import pytest
from pydantic_ai import Agent

from tests.frameworks.pydantic_ai.bank import Bank, agent_of, chat, model_at, proposes
from tests.provider import Call, Provider

TWO = (
    Call("withdraw", {"account": "ada", "amount": 30}),
    Call("withdraw", {"account": "ada", "amount": 50}),
)


async def test_two_withdrawals_of_a_batch_both_count() -> None:
    """Writes to one account run one after the other, in the order of proposal."""
    bank = Bank()
    with Provider(proposes(*TWO)) as provider:
        async with model_at(provider) as model:
            result = await agent_of(model, bank.tools()).run("go")
    assert result.output == "ada has 70; ada has 20"
    assert bank.held["ada"] == 20


def test_so_they_do_without_an_event_loop() -> None:
    """A program without an event loop of its own has the same guards."""
    bank = Bank()
    with Provider(proposes(*TWO)) as provider:
        _, model = chat(provider)
        agent = agent_of(model, bank.tools())
        assert agent.run_sync("go").output == "ada has 70; ada has 20"


async def test_so_they_do_in_a_stream() -> None:
    """The text of the last answer streams; the batch before it was guarded."""
    bank = Bank()
    with Provider(proposes(*TWO)) as provider:
        async with model_at(provider) as model:
            agent = agent_of(model, bank.tools())
            async with agent.run_stream("go") as stream:
                pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
    assert "".join(pieces) == "ada has 70; ada has 20"
    assert len(pieces) > 1
    assert bank.held["ada"] == 20


@pytest.mark.parametrize("streams", [False, True])
async def test_so_they_do_node_by_node(*, streams: bool) -> None:
    """Whoever leads the run node by node, streaming each or not, has the same guards."""
    bank = Bank()
    with Provider(proposes(*TWO)) as provider:
        async with model_at(provider) as model:
            agent = agent_of(model, bank.tools())
            async with agent.iter("go") as run:
                async for node in run:
                    if streams and (
                        Agent.is_model_request_node(node) or Agent.is_call_tools_node(node)
                    ):
                        async with node.stream(run.ctx) as events:
                            async for _ in events:
                                pass
            assert run.result is not None
            assert run.result.output == "ada has 70; ada has 20"
    assert bank.held["ada"] == 20


async def test_reads_run_together_and_a_write_waits_for_them() -> None:
    """Independent reads share the time; a write after a read of the same account waits."""
    bank = Bank()
    batch = (
        Call("balance", {"account": "ada"}),
        Call("balance", {"account": "bob"}),
        Call("withdraw", {"account": "ada", "amount": 30}),
        Call("note", {"text": "x"}),
    )
    with Provider(proposes(*batch)) as provider:
        async with model_at(provider) as model:
            result = await agent_of(model, bank.tools()).run("go")
    assert bank.together == 3
    assert bank.did.index("withdraw 30") > bank.did.index("balance ada")
    assert result.output == "100; 100; ada has 70; noted"

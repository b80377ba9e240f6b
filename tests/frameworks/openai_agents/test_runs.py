"""Runs of the OpenAI Agents SDK under the guards: order, refusals, breakers, traces."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from agents import (
    AgentHooks,
    ModelSettings,
    RunConfig,
    Runner,
    SQLiteSession,
    function_tool,
)
from agents.exceptions import AgentsException

import undercroft as uc
from tests.frameworks.openai_agents.bank import EFFECTS, Bank, agent_of, heads, ran, rules, traced
from tests.provider import Answer, Call, Provider, Request, Usage
from undercroft.adapters.frameworks.openai_agents import undercroft_agent
from undercroft.diagnosis import diagnose
from undercroft.doctor.report import Diagnosis
from undercroft.queries import read_prompt

TWO = [
    Call("withdraw", {"account": "ada", "amount": 30}),
    Call("withdraw", {"account": "ada", "amount": 50}),
]


async def test_without_it_one_of_two_withdrawals_is_lost() -> None:
    """What the guards are for: the SDK runs a batch all at once."""
    bank = Bank()
    with Provider(rules(TWO)) as provider:
        async with agent_of(provider, bank.tools("withdraw")) as agent:
            await Runner.run(agent, "go")
    assert bank.held["ada"] != 20


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["responses", "chat"])
@pytest.mark.parametrize("effects", [None, EFFECTS])
async def test_two_withdrawals_of_one_batch_are_both_there(
    dialect: str, *, stream: bool, effects: Mapping[str, Any] | None
) -> None:
    """Calls that conflict run in the order of proposal, declared or not, streamed or not."""
    bank = Bank()
    with Provider(rules(TWO)) as provider:
        async with agent_of(provider, bank.tools("withdraw"), dialect) as agent, uc.Runtime() as rt:
            effects = effects and {"withdraw": effects["withdraw"]}
            guarded = undercroft_agent(agent, rt, effects=effects)
            result = await ran(guarded, stream=stream)
            assert (result.final_output, bank.held["ada"]) == ("ada has 70; ada has 20", 20)
            assert bank.log == ["withdraw 30", "withdraw 50"]
            assert heads(rt)[0].status == "done"
            steps = [(s.name, str(s.status)) for s in traced(rt).steps]
            assert steps == [
                ("model", "ok"),
                ("withdraw", "ok"),
                ("withdraw", "ok"),
                ("model", "ok"),
            ]
        # What was put behind the ids of calls never leaves the process.
        assert not any(b"_uc" in request.raw for request in provider.requests)


def test_run_sync_keeps_the_order_too() -> None:
    """The SDK's API without an event loop: the runtime opens by itself."""
    bank = Bank()

    with Provider(rules(TWO)) as provider:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            manager = agent_of(provider, bank.tools("withdraw"))
            agent = loop.run_until_complete(manager.__aenter__())
            guarded = undercroft_agent(agent, uc.Runtime())
            assert Runner.run_sync(guarded, "go").final_output == "ada has 70; ada has 20"
            loop.run_until_complete(manager.__aexit__(None, None, None))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def test_independent_reads_run_together() -> None:
    """Two reads of a batch are in flight at once; a write after them waits for both."""
    inside, most, order = 0, 0, []

    @function_tool
    async def look(key: str) -> str:
        """Look."""
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        for _ in range(20):
            await asyncio.sleep(0)
        inside -= 1
        order.append("look")
        return key

    @function_tool
    async def put(key: str) -> str:
        """Put."""
        order.append("put")
        return key

    batch = [Call("look", {"key": "a"}), Call("look", {"key": "a"}), Call("put", {"key": "a"})]
    effects = {"look": {"reads": "r/{key}"}, "put": {"writes": "r/{key}"}}
    with Provider(rules(batch)) as provider:
        async with agent_of(provider, [look, put]) as agent, uc.Runtime() as rt:
            result = await ran(undercroft_agent(agent, rt, effects=effects))
    assert (most, order, result.final_output) == (2, ["look", "look", "put"], "a; a; a")


async def test_refusals_reach_the_model_as_outputs_of_their_calls() -> None:
    """A write without a read, and a tool that is not there, are answered under their ids."""
    bank = Bank()
    batch = [
        Call("withdraw", {"account": "ada", "amount": 1}, "call_a"),
        Call("fly", {"to": "mars"}, "call_b"),
        Call("withdraw", "{not json", "call_c"),
    ]
    effects = {"get_balance": {"reads": "accounts/{account}"}}
    effects["withdraw"] = {"writes": "accounts/{account}"}
    with Provider(rules(batch)) as provider:
        tools = bank.tools("get_balance", "withdraw")
        async with agent_of(provider, tools) as agent, uc.Runtime() as rt:
            await ran(undercroft_agent(agent, rt, effects=effects))
        shown = {one.call.id: one.text for one in provider.requests[-1].results if one.call}
    assert bank.log == []
    assert sorted(map(str, shown)) == ["call_a", "call_b", "call_c"]
    assert "sequencing." in shown["call_a"]
    assert "unknown" in shown["call_b"]
    assert all("refused" in text for text in shown.values())


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_that_fails_the_same_way_for_ever_is_stopped(*, stream: bool) -> None:
    """The loop guard says so once; whoever goes on ends with a typed error of both families."""
    tries = 0

    @function_tool
    async def charge(card: str) -> str:
        """Charge a card."""
        nonlocal tries
        tries += 1
        return "error: declined"

    with Provider(lambda _: Answer(calls=[Call("charge", {"card": "1"})])) as provider:
        async with agent_of(provider, [charge]) as agent, uc.Runtime() as rt:
            with pytest.raises(uc.LoopError) as caught:
                await ran(undercroft_agent(agent, rt), stream=stream, max_turns=100)
            assert isinstance(caught.value, AgentsException)
            assert heads(rt)[0].status == "failed"
    assert tries < 20


async def test_a_tool_whose_service_is_given_up_is_not_offered() -> None:
    """Once its breaker opens it is not in the next request, and the model is told."""

    @function_tool(failure_error_function=None)
    async def quote(symbol: str) -> str:
        """Quote a price."""
        raise ConnectionError(symbol)

    @function_tool
    async def other(text: str) -> str:
        """Do something else."""
        return text

    def tools(request: Request) -> list[str]:
        return sorted(str(tool["name"]) for tool in request.body.get("tools", []))

    def model(request: Request) -> Answer:
        if "quote" in tools(request):
            return Answer(calls=[Call("quote", {"symbol": f"s{request.number}"})])
        return Answer(text="without it")

    services = [uc.Service("prices", breaker=uc.BreakerPolicy(failures_max=2))]
    with Provider(model) as provider:
        soft = function_tool(quote.__wrapped__, name_override="quote")
        async with agent_of(provider, [soft, other]) as agent, uc.Runtime(services=services) as rt:
            effects = {"quote": {"reads": "prices/{symbol}", "service": "prices"}}
            result = await ran(undercroft_agent(agent, rt, effects=effects), max_turns=30)
        assert result.final_output == "without it"
        assert tools(provider.requests[0]) == ["other", "quote"]
        assert tools(provider.requests[-1]) == ["other"]
        assert b"quote" in provider.requests[-1].raw


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["responses", "chat"])
async def test_the_trace_tells_prompts_usage_calls_and_what_was_said(
    tmp_path: Path, dialect: str, *, stream: bool
) -> None:
    """Each prompt can be rebuilt and verified; what is missing in a good run, nothing, is said."""
    bank, path = Bank(), str(tmp_path / "journal.db")
    batch = [Call("get_balance", {"account": "ada"})]

    def model(request: Request) -> Answer:
        usage = Usage(input_tokens=11, output_tokens=3, cached_tokens=2)
        if any(one.calls for one in request.said):
            return Answer(text="You have 100.", usage=usage)
        return Answer(text="Let me look.", calls=batch, usage=usage)

    with Provider(model) as provider:
        tools = bank.tools("get_balance")
        settings = ModelSettings(include_usage=True)
        more: dict[str, Any] = {"instructions": "Be kind.", "model_settings": settings}
        async with agent_of(provider, tools, dialect, **more) as agent, uc.Runtime(path) as rt:
            effects = {"get_balance": EFFECTS["get_balance"]}
            await ran(undercroft_agent(agent, rt, effects=effects), "How much?", stream=stream)
            trace = traced(rt)
    assert (trace.status, trace.delivered) == ("done", "You have 100.")
    models = [step for step in trace.steps if step.kind == "model"]
    assert [s.spent.input_tokens for s in models if s.spent is not None] == [11, 11]
    prompts = [read_prompt(path, trace.turn_id, step.n) for step in models]
    assert [p is not None and p.verified for p in prompts] == [True, True]
    said = [(m.role, m.content) for p in prompts[1:] if p is not None for m in p.messages]
    assert said == [
        ("system", "Be kind."),
        ("user", "How much?"),
        ("assistant", "Let me look."),
        ("tool", "100"),
    ]
    [diagnosis] = list(diagnose([path]))
    assert isinstance(diagnosis, Diagnosis)
    assert [one for one in diagnosis.layers if one.verdict == "missing"] == []


async def test_hooks_of_its_user_are_called_as_before() -> None:
    """What an agent's hooks hear is what they heard without the guards."""

    class Heard(AgentHooks[Any]):
        def __init__(self) -> None:
            self.log: list[str] = []

        async def on_start(self, *_: Any) -> None:
            self.log.append("start")

        async def on_end(self, *_: Any) -> None:
            self.log.append("end")

        async def on_tool_start(self, *_: Any) -> None:
            self.log.append("tool")

        async def on_tool_end(self, *_: Any) -> None:
            self.log.append("tool end")

        async def on_llm_start(self, *_: Any) -> None:
            self.log.append("llm")

        async def on_llm_end(self, *_: Any) -> None:
            self.log.append("llm end")

    heard: list[list[str]] = []
    for guarded in (False, True):
        hooks, bank = Heard(), Bank()
        with Provider(rules([Call("get_balance", {"account": "ada"})])) as provider:
            tools = bank.tools("get_balance")
            async with agent_of(provider, tools, hooks=hooks) as agent, uc.Runtime() as rt:
                await ran(undercroft_agent(agent, rt) if guarded else agent)
        heard.append(hooks.log)
    assert heard[0] == heard[1]
    assert heard[1]


async def test_a_model_that_the_run_is_given_is_not_seen_and_its_calls_are() -> None:
    """`RunConfig` names another model: its prompts pass by, the order of its calls holds."""
    bank = Bank()
    with Provider(rules(TWO)) as provider:
        async with agent_of(provider, bank.tools("withdraw")) as agent, uc.Runtime() as rt:
            config = RunConfig(model=agent.model)
            result = await ran(undercroft_agent(agent, rt), run_config=config)
            trace = traced(rt)
    assert (result.final_output, bank.held["ada"]) == ("ada has 70; ada has 20", 20)
    assert [step.kind for step in trace.steps] == ["tool", "tool"]
    assert (trace.status, trace.delivered) == ("done", "ada has 70; ada has 20")


async def test_a_session_that_is_given_has_one_run_at_a_time_and_its_turns() -> None:
    """The ids of calls are the provider's then; a function of the context may name it."""
    bank = Bank()
    look = [Call("get_balance", {"account": "ada"}, "call_1")]
    with Provider(rules(look)) as provider:
        async with agent_of(provider, bank.tools("get_balance")) as agent, uc.Runtime() as rt:
            guarded = undercroft_agent(agent, rt, session=lambda run: str(run.context["user"]))
            kept = SQLiteSession("kept")
            for _ in range(2):
                result = await ran(guarded, context={"user": "ada"}, session=kept)
            items = result.to_input_list()
            found = [(head.session, str(head.status)) for head in heads(rt)]
            kept.close()
    assert {item.get("call_id") for item in items if item.get("type") == "function_call"} == {
        "call_1"
    }
    assert found == [("ada", "done")] * 2


async def test_a_stream_that_nobody_reads_to_its_end_leaves_nothing_running() -> None:
    """Whoever cancels a streamed run leaves a turn that is not running, and no task."""
    many = Answer(text="word " * 2_000)
    with Provider([many]) as provider:
        async with agent_of(provider, []) as agent, uc.Runtime() as rt:
            result = Runner.run_streamed(undercroft_agent(agent, rt), "go")
            async for _ in result.stream_events():
                result.cancel()
                break
            if result.run_loop_task is not None:
                await asyncio.wait([result.run_loop_task], timeout=10)
            assert "_streamed" not in repr(asyncio.all_tasks())
            assert [str(head.status) for head in heads(rt)] in ([], ["stopped"], ["failed"])

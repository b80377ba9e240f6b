"""AgentDojo's tasks through an agent of OpenAI's SDK: the worlds that direct calls leave."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents import FunctionTool

import undercroft as uc
from tests.frameworks.openai_agents.bank import agent_of, ran
from tests.provider import Answer, Call, Provider, Request
from tests.real.dojo import SUITES, Stage, Suite, load_suite
from undercroft.adapters.frameworks.openai_agents import undercroft_agent


def tools_on(suite: Suite, stage: Stage) -> list[FunctionTool]:
    """Return a suite's tools as the SDK has them, acting on one environment."""

    def made(name: str) -> FunctionTool:
        async def call(_context: Any, arguments: str) -> str:
            return json.dumps(stage.call(name, json.loads(arguments)))

        told = suite.tools[name]
        schema = dict(told.schema)
        return FunctionTool(name, told.description, schema, call, strict_json_schema=False)

    return [made(name) for name in suite.tools]


@pytest.mark.parametrize("name", SUITES)
async def test_every_task_leaves_the_world_that_direct_calls_leave(name: str) -> None:
    """The ground truth of each, proposed in one batch: nothing declared, so in its order."""
    suite = load_suite(name)
    tried = 0
    async with uc.Runtime() as rt:
        for task in suite.tasks.values():
            stage, direct = suite.stage(task.id), suite.stage(task.id)
            for call in task.calls:
                direct.call(call.tool, call.arguments)
            batch = [Call(c.tool, c.arguments, f"{task.id}-{n}") for n, c in enumerate(task.calls)]

            def model(request: Request, batch: list[Call] = batch) -> Answer:
                if batch and not any(one.calls for one in request.said):
                    return Answer(calls=batch)
                return Answer(text="done")

            with Provider(model) as provider:
                async with agent_of(provider, tools_on(suite, stage)) as agent:
                    await ran(undercroft_agent(agent, rt), task.prompt)
            assert stage.digest() == direct.digest(), task.id
            assert stage.solved(), task.id
            tried += 1
    assert tried == len(suite.tasks) > 10

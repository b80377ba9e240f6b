"""AgentDojo's tasks through an agent of LangChain's: the worlds that direct calls leave."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool

import undercroft as uc
from tests.frameworks.langchain.stage import agent_of, hold
from tests.provider import Answer, Call, Provider, Request
from tests.real.dojo import SUITES, Stage, Suite, load_suite


def tools_on(suite: Suite, stage: Stage) -> list[BaseTool]:
    """Return a suite's tools as LangChain has them, acting on one environment."""

    def made(name: str) -> BaseTool:
        def call(**arguments: Any) -> str:
            return json.dumps(stage.call(name, arguments))

        told = suite.tools[name]
        return StructuredTool(
            name=name, description=told.description, args_schema=told.schema, func=call
        )

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
                agent = agent_of(provider, rt, tools_on(suite, stage))
                thread = {"configurable": {"thread_id": f"{name}-{task.id}"}}
                await hold(agent, task.prompt, thread=thread)
            assert stage.digest() == direct.digest(), task.id
            assert stage.solved(), task.id
            tried += 1
    assert tried == len(suite.tasks) > 10

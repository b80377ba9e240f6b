"""The tasks of AgentDojo by agents of pydantic-ai: the same worlds as by direct calls."""

from __future__ import annotations

from typing import Any, Final

import pytest
from pydantic_ai import Agent, Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

import undercroft as uc
from tests.real.dojo import SUITES, Stage, load_suite
from undercroft.adapters.frameworks.pydantic_ai import Undercroft

# Of each suite every so many tasks, and all calls of a task as one batch.
EVERY: Final = 4


def tools(stage: Stage, names: set[str]) -> list[Tool[Any]]:
    """Return the tools of a stage that a task calls, as the framework takes them from a schema."""

    def made(name: str) -> Tool[Any]:
        async def call(**arguments: Any) -> Any:
            return stage.call(name, arguments)

        schema = {"type": "object", "properties": {}, "additionalProperties": True}
        return Tool.from_schema(call, name, name, schema)

    return [made(name) for name in sorted(names)]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("together", [True, False])
async def test_worlds_end_as_by_direct_calls(suite: str, *, together: bool) -> None:
    """Whether the calls of a task come in one batch or one by one."""
    loaded = load_suite(suite)
    async with uc.Runtime() as rt:
        for task_id in list(loaded.tasks)[::EVERY]:
            calls = loaded.tasks[task_id].calls
            direct = loaded.stage(task_id)
            for call in calls:
                direct.call(call.tool, call.arguments)
            stage = loaded.stage(task_id)
            parts = [
                ToolCallPart(call.tool, dict(call.arguments), f"c{n}")
                for n, call in enumerate(calls)
            ]
            batches = [parts] if together else [[part] for part in parts]

            def model(
                messages: list[ModelMessage],
                info: AgentInfo,
                batches: list[list[ToolCallPart]] = batches,
            ) -> ModelResponse:
                said = sum(isinstance(message, ModelResponse) for message in messages)
                if said < len(batches):
                    return ModelResponse(parts=batches[said])
                return ModelResponse(parts=[TextPart("done")])

            agent: Agent[Any, Any] = Agent(
                FunctionModel(model),
                tools=tools(stage, {call.tool for call in calls}),
                capabilities=[Undercroft(rt)],
            )
            await agent.run("go")
            assert stage.digest() == direct.digest(), (suite, task_id)

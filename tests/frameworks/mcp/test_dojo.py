"""Real tools behind an MCP server: by our client they leave the same worlds as called directly."""

from __future__ import annotations

import json
from typing import Any

import pytest

import undercroft as uc
from tests.frameworks.mcp.conftest import PLACES, ROOT, module
from tests.real.dojo import SUITES, load_suite
from undercroft.adapters.mcp import connect
from undercroft.model.step import StepStatus


@pytest.mark.parametrize("name", SUITES)
async def test_the_same_worlds(name: str) -> None:
    """Every task of a suite: each result and the final world are those of direct calls."""
    suite = load_suite(name)
    server = connect(module("dojo_server", name), service="dojo", cwd=ROOT, env=PLACES)
    made = 0
    async with server, uc.Runtime() as rt:
        tools = rt.toolset(name, await server.tools())
        for task in suite.tasks.values():
            stage = suite.stage(task.id)
            await server.call("begin", {"task": task.id})
            guest = rt.guest(tools)
            for number, call in enumerate(task.calls):
                direct, said = _direct(stage, call.tool, call.arguments)
                (result,) = await guest.calls(
                    [uc.Call(call.tool, dict(call.arguments), str(number))]
                )
                assert (result.status is StepStatus.OK) is (said == ""), (task.id, result)
                text = direct if isinstance(direct, str) else json.dumps(direct)
                assert said or result.value == text
                made += 1
            await guest.end()
            assert await server.call("digest", {}) == stage.digest().sha256, task.id
    assert made > len(suite.tasks)


def _direct(stage: Any, tool: str, arguments: Any) -> tuple[Any, str]:
    """Return what a tool answers when it is called directly, or how it fails."""
    try:
        return stage.call(tool, arguments), ""
    except Exception as error:  # noqa: BLE001  whatever it raises is compared
        return None, f"{type(error).__name__}: {error}"

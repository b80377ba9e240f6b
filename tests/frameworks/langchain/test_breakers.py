"""Services that are given up: their tools are offered no more, and the model is told."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents.middleware import ToolErrorMiddleware

import undercroft as uc
from tests.frameworks.langchain.stage import agent_of, hold
from tests.provider import Answer, Call, Provider, Request, Status

EFFECTS: dict[str, Any] = {
    "get": {"reads": "crm/{n}", "service": "crm"},
    "other": {"reads": "other/{n}"},
}


@pytest.mark.parametrize("how", ["ainvoke", "invoke"])
async def test_tools_of_a_service_that_is_given_up_are_withdrawn(how: str) -> None:
    """At the provider: they are in the requests before, and in none after."""

    def get(n: int) -> str:
        """Get."""
        raise ConnectionRefusedError

    def other(n: int) -> str:
        """Do something else."""
        return "fine"

    def model(request: Request) -> Answer:
        n = request.number
        if n < 4:
            return Answer(calls=[Call("get", {"n": n}, f"c{n}")])
        if n == 4:
            return Answer(calls=[Call("other", {"n": n}, f"c{n}")])
        return Answer(text="done")

    policy = uc.BreakerPolicy(calls_min=3, window_calls=3)
    host = uc.Runtime(services=[uc.Service("crm", breaker=policy)], loops=None)
    with Provider(model) as provider:
        agent = agent_of(
            provider,
            host,
            [get, other],
            EFFECTS,
            middleware=[ToolErrorMiddleware(lambda error, _: type(error).__name__)],
        )
        await hold(agent, "Go.", how)
        bodies = [request.body for request in provider.requests]
    offered = [sorted(one["function"]["name"] for one in body["tools"]) for body in bodies]
    assert offered[:3] == [["get", "other"]] * 3
    assert offered[3:] == [["other"]] * 3
    notices = [m["content"] for m in bodies[3]["messages"] if "crm" in str(m["content"])]
    assert notices


async def test_the_model_has_a_breaker_too() -> None:
    """A provider that is down is not asked on and on; the error that comes out is its own."""
    with Provider(lambda _: Status(status=503)) as provider:
        policy = uc.BreakerPolicy(calls_min=3, window_calls=3)
        host = uc.Runtime(services=[uc.Service("openai", breaker=policy)])
        agent = agent_of(provider, host, [])
        errors = []
        for n in range(6):
            with pytest.raises(Exception, match=r".") as caught:
                await hold(agent, "Go.", thread={"configurable": {"thread_id": f"t{n}"}})
            errors.append(type(caught.value).__name__)
    assert errors[0] == "OpenAIAPIError"
    assert errors[-1] == "ModelError"
    assert len(provider.requests) < 6

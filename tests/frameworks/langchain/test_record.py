"""What the journal has of an agent's turn: all of it, so that the doctor misses nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.types import Command

import undercroft as uc
from tests.frameworks.langchain.stage import THREAD, Bank, agent_of, hold, proposes, take
from tests.provider import Answer, Call, Provider, Request, Usage
from undercroft import queries

EFFECTS: dict[str, Any] = {
    "withdraw": {"writes": "account/{account}", "read_first": False, "service": "bank"},
    "note": {"appends": "notes", "service": "notes"},
}


@pytest.mark.parametrize("how", ["ainvoke", "invoke", "astream"])
async def test_a_turn_is_recorded_whole(how: str, tmp_path: Path) -> None:
    """Model steps with usage and prompts, tool steps, what the user was told; two turns of it."""
    path = tmp_path / "journal.db"

    def model(request: Request) -> Answer:
        used = Usage(input_tokens=100 + request.number, output_tokens=7, cached_tokens=5)
        if request.number == 0:
            return Answer(calls=[take(30, "c1"), Call("note", {"text": "x"}, "c2")], usage=used)
        return Answer(text=f"answer {request.number}", usage=used)

    with Provider(model) as provider:
        tools = list(Bank(a=100).tools(sync=True).values())
        agent = agent_of(
            provider, uc.Runtime(str(path)), tools, EFFECTS, system_prompt="Be kind.", name="teller"
        )
        await hold(agent, "Take 30.", how)
        await hold(agent, "Thanks.", how)
        sent = [json.loads(request.raw) for request in provider.requests]
    async with uc.Runtime(str(path)) as rt:
        second, first = rt.turns()
        traces = [rt.trace(turn.turn_id) for turn in (first, second)]
    assert [str(one.status) for one in traces] == ["done", "done"]
    assert sorted(step.name for step in traces[0].steps) == ["model", "model", "note", "withdraw"]
    assert [one.delivered for one in traces] == ["answer 1", "answer 2"]
    prompts = [
        queries.read_prompt(str(path), trace.turn_id, step.n)
        for trace in traces
        for step in trace.steps
        if step.name == "model"
    ]
    assert len(prompts) == len(sent) == 3
    for prompt, body in zip(prompts, sent, strict=True):
        assert prompt is not None
        assert prompt.verified
        told = [(m.role, m.content) for m in prompt.messages]
        assert told == [(m["role"], m["content"] or "") for m in body["messages"]]


async def test_the_doctor_finds_nothing_missing_in_a_good_run(tmp_path: Path) -> None:
    """`undercroft doctor` on the journal of an agent that did all right."""
    path = tmp_path / "journal.db"
    batch = [take(30, "c1"), take(50, "c2"), Call("note", {"text": "x"}, "c3")]
    effects = {**EFFECTS, "note": {**EFFECTS["note"], "approval": True}}
    with Provider(proposes(*batch)) as provider:
        tools = list(Bank(a=100).tools(sync=True).values())
        agent = agent_of(provider, uc.Runtime(str(path)), tools, effects)
        await hold(agent, "Take 30 and 50, and note it.")
        await hold(agent, Command(resume={"type": "approve", "by": "ada"}))
    line = [sys.executable, "-m", "undercroft", "doctor", str(path), "--json"]
    done = await asyncio.to_thread(
        subprocess.run, line, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    async with uc.Runtime(str(path)) as rt:
        (head,) = rt.turns()
        assert str(head.status) == "done"


async def test_images_have_a_mark_and_go_out_untouched(tmp_path: Path) -> None:
    """The journal does not hold them; the provider is sent them."""
    path = tmp_path / "journal.db"
    url = "data:image/png;base64,AAAA"
    with Provider([Answer(text="a cat")]) as provider:
        agent = agent_of(provider, uc.Runtime(str(path)), [Bank().tools()["note"]])
        asked = HumanMessage(
            [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}]
        )
        await agent.ainvoke({"messages": [asked]}, THREAD)
        assert url in provider.requests[0].raw.decode()
    assert b"base64,AAAA" not in path.read_bytes()

"""Handlers whose models are asked over HTTP, and what the journal tells of their turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

import undercroft as uc
from tests.models.talking import Flavour
from tests.provider import Answer, Call, Provider, Reply, Request
from undercroft.engine.prompts import Prompt
from undercroft.model.event import StepEnded, StepStarted
from undercroft.queries import read_events, read_prompt

POLICY = uc.ContextPolicy(limit_tokens=8_000, reserved_tokens=500, pins=("Never guess.",))


@uc.tool(reads="shelf/{key}", service="shelf")
async def look(key: str) -> str:
    """Look something up."""
    if key == "none":
        raise KeyError(key)
    return f"{key} is here"


@uc.tool(writes="shelf/{key}", service="shelf")
async def put(key: str, count: int, *, once: uc.IdempotencyKey) -> dict[str, int]:
    """Put something there."""
    return {key: count}


HEARD: list[str] = []


@uc.handler(tools=[look, put])
async def assist(turn: uc.Turn, message: str) -> str:
    """Do what the model says."""
    turn.context.system("You keep a shelf.")
    turn.context.user(message)
    while True:
        answer = await turn.model(on_text=HEARD.append)
        if not answer.calls:
            return answer.text
        await turn.calls(answer.calls)


def keeper(request: Request) -> Reply:
    """Answer by rules over the conversation: look twice, put, and say what came of it."""
    results = request.results
    if not results:
        calls = [Call("look", {"key": "tea"}), Call("look", '{"key": oops'), Call("nothing", {})]
        return Answer(text="Let me see.", calls=calls)
    if len(results) == 3:
        calls = [Call("look", {"key": "none"}), Call("put", {"key": "tea", "count": 2})]
        return Answer(calls=calls)
    return Answer(text=f"Done: {results[0].text}, {results[-1].text}.")


ASKS = 3


def quick(*services: str) -> list[uc.Service]:
    """Return services that are tried again at once, twice."""
    retry = uc.Retry(attempts=3, wait_s=0.001, wait_max_s=0.01)
    return [uc.Service(name, retry=retry) for name in services]


async def run(path: Any, model: Any, message: str = "tea?", **settings: Any) -> uc.Outcome:
    """Run one turn on a journal."""
    settings.setdefault("context", POLICY)
    async with uc.Runtime(path, model=model, **settings) as rt:
        return await rt.run(assist, message=message, session="s")


def prompts(path: Path, turn_id: str) -> list[Prompt]:
    """Return what each step sent that asked a model and began, in their order."""
    events = read_events(str(path), turn_id)
    found = [
        read_prompt(str(path), turn_id, event.n)
        for event in events
        if isinstance(event, StepStarted) and event.kind == "model" and event.attempt == 1
    ]
    return [prompt for prompt in found if prompt is not None]


def check_bodies(path: Path, outcome: uc.Outcome, provider: Provider) -> None:
    """Assert that the journal tells every body as the provider received it."""
    told = prompts(path, outcome.turn_id)
    assert len(told) == len(provider.requests)
    for prompt, request in zip(told, provider.requests, strict=True):
        assert prompt.same_body is True, prompt.doubts
        assert json.loads(msgspec.json.encode(prompt.body)) == json.loads(request.raw)
        # In the same order, too: what a provider caches is a beginning of the text.
        assert list(prompt.body or ()) == list(json.loads(request.raw))


def story(path: Path, turn_id: str) -> list[Any]:
    """Return what a journal says of a turn's steps, without ids of calls, usage and times."""
    told: list[Any] = []
    for event in read_events(str(path), turn_id):
        if isinstance(event, StepStarted):
            told.append(("begun", event.n, event.name, event.kind, event.causes, event.claims))
        if isinstance(event, StepEnded):
            value = msgspec.msgpack.decode(event.value)
            if isinstance(value, dict) and "calls" in value:
                value = {key: value[key] for key in ("text", "stop", "model", "native", "cut")} | {
                    "calls": [(call["name"], call["arguments"]) for call in value["calls"]]
                }
            rule = event.refusal.rule if event.refusal is not None else ""
            error = event.error.type if event.error is not None else ""
            told.append(("ended", event.n, event.status, value, rule, error))
    return told


def keys(flavour: Flavour, *names: str) -> list[str]:
    """Return the services of models by their names."""
    return [f"{'anthropic' if flavour.anthropic else 'openai'}/{name}" for name in names]

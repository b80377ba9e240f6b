"""A prompt that is rebuilt from the journal is the one that the model was sent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import undercroft as uc
from tests.engine.talking import (
    TIGHT,
    InOrder,
    Model,
    Summariser,
    look,
    order_tools,
    talker,
    written,
)
from undercroft.engine.prompts import Prompt
from undercroft.layers.context.policy import ContextPolicy
from undercroft.model.event import StepEnded, StepStarted
from undercroft.model.step import MODEL, SUMMARY
from undercroft.queries import read_events, read_prompt
from undercroft.storage.sqlite import SqliteStore

SCRIPTS: dict[str, Any] = {
    "look": [[look("#A1001"), look("#A1002")], [look("#A1001")], "They are open."],
    "branch": [[look("#B1"), look("#B2")], "The branch is done."],
}
SMALL = ContextPolicy(limit_tokens=700, reserved_tokens=100, pins=("Be kind.",))


def sent(path: Path, turn_ids: Sequence[str], name: str = MODEL) -> list[Prompt]:
    """Return the prompts of some turns as the journal tells them, in the order of their begin."""
    found = []
    for turn_id in turn_ids:
        for event in read_events(str(path), turn_id):
            if isinstance(event, StepStarted) and event.name == name:
                prompt = read_prompt(str(path), turn_id, event.n)
                assert prompt is not None
                found.append(prompt)
    return found


def check(prompts: Sequence[Prompt], requests: Sequence[uc.ModelRequest]) -> None:
    """Assert that prompts are the requests, byte for byte, and known to be so."""
    for prompt, request in zip(prompts, requests, strict=True):
        assert prompt.verified
        assert not prompt.doubts
        assert msgspec.json.encode(prompt.messages) == msgspec.json.encode(request.messages)
        assert (prompt.breakpoints, prompt.place) == (request.breakpoints, request.place)
        assert prompt.tools == request.tools


@pytest.mark.parametrize("policy", [None, TIGHT, SMALL], ids=["no limit", "tight", "small"])
@pytest.mark.parametrize("apart", [False, True], ids=["one process", "many"])
async def test_a_prompt_is_rebuilt_byte_for_byte(
    tmp_path: Path, policy: ContextPolicy | None, *, apart: bool
) -> None:
    """Over compactions, pins, parallel calls and the turns of a session, in any process."""
    path, model = tmp_path / "journal.db", Model(SCRIPTS)
    options: dict[str, Any] = {"model": model, "context": policy, "ids": InOrder()}
    target, ids, says = talker(order_tools()), [], [f"look again, time {n}" for n in range(4)]
    for part in [[text] for text in says] if apart else [says]:
        async with uc.Runtime(SqliteStore(str(path)), **options) as rt:
            for text in part:
                outcome = await rt.run(target, message=text, session="s-1")
                assert outcome.status == "done", outcome.error
                ids.append(outcome.turn_id)
    prompts = sent(path, ids)
    check(prompts, model.requests)
    assert all((prompt.loss is None) == (policy is None) for prompt in prompts)
    if policy is not None:
        fates = {line.fate for prompt in prompts if prompt.loss for line in prompt.loss.lines}
        assert len(fates) > 1, "nothing was left out, so nothing was tried"


async def test_a_request_for_a_summary_is_rebuilt(tmp_path: Path) -> None:
    """As it was sent to whoever summarises, where the compaction that it was for was made."""
    path, model, summariser = tmp_path / "journal.db", Model(SCRIPTS), Summariser()
    options: dict[str, Any] = {"context": TIGHT, "summariser": summariser, "ids": InOrder()}
    ids = []
    async with uc.Runtime(SqliteStore(str(path)), model=model, **options) as rt:
        for place in range(4):
            outcome = await rt.run(talker(order_tools()), message=f"look {place}", session="s-1")
            ids.append(outcome.turn_id)
    prompts = sent(path, ids, SUMMARY)
    assert prompts
    assert [p.messages for p in prompts] == [r.messages for r in summariser.requests]


def branches() -> Any:
    """Return a handler of branches side by side, and of one whose name is used again."""

    async def loop(line: uc.Turn) -> str:
        while True:
            answer = await line.model()
            if not answer.calls:
                return answer.text
            await line.calls(answer.calls)

    @uc.handler(tools=order_tools())
    async def work(turn: uc.Turn, message: str) -> str:
        async def branch(name: str) -> str:
            async with turn.branch(name) as own:
                own.context.system(f"You are {name}.")
                own.context.user(f"branch {name}")
                return await loop(own)

        turn.context.user(message)
        await asyncio.gather(branch("a"), branch("b"), loop(turn))
        return await branch("a")

    return work


@pytest.mark.parametrize("policy", [None, SMALL], ids=["no limit", "small"])
async def test_each_branch_has_its_own_prompts(
    tmp_path: Path, policy: ContextPolicy | None
) -> None:
    """Side by side, and also where one branch is given the name of another that is closed."""
    path, model = tmp_path / "journal.db", Model(SCRIPTS)
    async with uc.Runtime(SqliteStore(str(path)), model=model, context=policy) as rt:
        outcome = await rt.run(branches(), message="look at both")
    assert outcome.status == "done", outcome.error
    prompts = sent(path, [outcome.turn_id])
    assert {prompt.branch for prompt in prompts} == {"", "a", "b"}
    assert all(prompt.verified for prompt in prompts)
    assert sorted(written(replace(p, tools=()).request) for p in prompts) == sorted(
        written(uc.ModelRequest(r.messages, (), breakpoints=r.breakpoints, place=r.place))
        for r in model.requests
    )


async def test_a_turn_that_waited_has_all_its_prompts(tmp_path: Path) -> None:
    """What was asked before and after a person decided is rebuilt alike."""

    @uc.tool(writes="money/{order}", approval=True, read_first=False)
    async def pay(order: str, key: uc.IdempotencyKey) -> str:
        """Pay."""
        del key
        return f"paid {order}"

    path = tmp_path / "journal.db"
    model = Model({"pay": [[look("#A1"), uc.Call("pay", {"order": "#A1"})], "Paid."]})
    target = talker([*order_tools(), pay])
    options: dict[str, Any] = {"model": model, "context": TIGHT, "targets": [target]}
    async with uc.Runtime(SqliteStore(str(path)), **options) as rt:
        parked = await rt.run(target, message="pay it")
    async with uc.Runtime(SqliteStore(str(path)), **options) as rt:
        outcome = await rt.approve(parked.turn_id, by="ada")
    assert outcome.value == "Paid."
    check(sent(path, [outcome.turn_id]), model.requests)


async def test_a_prompt_that_did_not_fit_is_shown_as_not_sent(tmp_path: Path) -> None:
    """It was written down like any other, and no model saw it."""
    path, model = tmp_path / "journal.db", Model(SCRIPTS)
    async with uc.Runtime(SqliteStore(str(path)), model=model, context=SMALL) as rt:
        outcome = await rt.run(talker(), message="word " * 3_000)
    assert outcome.status == "failed"
    ended = [e for e in read_events(str(path), outcome.turn_id) if isinstance(e, StepEnded)]
    prompt = read_prompt(str(path), outcome.turn_id, ended[-1].n)
    assert prompt is not None
    assert (prompt.sent, prompt.verified, model.requests) == (False, True, [])
    assert prompt.messages[-1].content == "word " * 3_000


async def test_only_steps_that_ask_a_model_have_a_prompt(tmp_path: Path) -> None:
    """A tool's step has none, nor has a number that no step has."""
    path, model = tmp_path / "journal.db", Model(SCRIPTS)
    async with uc.Runtime(SqliteStore(str(path)), model=model) as rt:
        outcome = await rt.run(talker(order_tools()), message="look")
    events = read_events(str(path), outcome.turn_id)
    asked = {e.n for e in events if isinstance(e, StepStarted) and e.kind == MODEL}
    for n in range(12):
        assert (read_prompt(str(path), outcome.turn_id, n) is not None) == (n in asked)


async def test_secrets_are_missing_from_a_rebuilt_prompt_and_nothing_else(tmp_path: Path) -> None:
    """They were never written down, so it is said how many, and the rest is as it was sent."""
    key = "sk-live-1234567890abcdef1234567890"
    path, model = tmp_path / "journal.db", Model()
    async with uc.Runtime(SqliteStore(str(path)), model=model) as rt:
        outcome = await rt.run(talker(), message=f"My key is {key}, and again {key}.")
    (prompt,) = sent(path, [outcome.turn_id])
    assert (prompt.verified, prompt.redacted, prompt.doubts) == (True, 1, ())
    said, was = prompt.messages[-1].content, model.requests[0].messages[-1].content
    assert key in was
    assert key not in said
    assert was.split(key) == re.split(r"\[redacted:[0-9a-f]{16}\]", said)

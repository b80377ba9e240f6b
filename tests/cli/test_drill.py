"""Drilling down into a step: the prompt as it was sent, bodies in full, and what people saw."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.cli.conftest import Face
from tests.cli.shop import EVIL
from tests.cli.test_show import fits, harmless
from undercroft.storage.sqlite import SqliteStore
from undercroft.testing import ScriptedModel

TALK = ("--input", '{"message": "hi"}', "--model", "app.py:model")


@pytest.fixture
def talked(face: Face) -> str:
    """Return the id of a turn in which a model proposed what waits for a person."""
    turn_id: str = face.json("run", "app.py:assist", *TALK)["turn_id"]
    return turn_id


def test_the_prompt_of_a_step_is_shown_as_it_was_sent(face: Face, talked: str) -> None:
    """Messages in their order, each with its role, its calls, and the tools on offer."""
    step = face.json("show", talked)["steps"][-2]["step_id"]
    assert step.startswith("look")
    page = face.use("show", talked, "--step", "4", "--prompt").stdout
    places = [page.index(f"{place} {role}") for place, role in enumerate(
        ("user", "assistant", "tool nope", "tool change"))]  # fmt: skip
    assert places == sorted(places)
    assert "→ change" in page
    assert "2 tools on offer" in page
    assert "Change a record." in page
    assert "the fingerprint of what was sent matches" in page
    assert harmless(page)
    assert fits(page)
    said = face.json("show", talked, "--step", "4", "--prompt")
    assert [message["role"] for message in said["messages"]] == [
        "user", "assistant", "tool", "tool",
    ]  # fmt: skip
    assert said["verified"]
    assert [tool["name"] for tool in said["tools"]] == ["look", "change"]
    short = face.use("show", talked, "--step", "4").stdout
    assert "--prompt shows it" in " ".join(short.split())
    assert fits(short)


def test_a_body_is_shown_in_full(face: Face) -> None:
    """However long; where it was cut, the page says what shows all of it."""
    words = "word " * 5_000
    face.use("run", "app.py:evil", "--input", f'{{"name": "{words}"}}')
    assert "--body has all" in face.use("show", "last", "--step", "text").stdout
    body = face.use("show", "last", "--step", "text", "--body").stdout
    assert body.count("word ") >= 4_999
    assert EVIL[0] not in body
    assert harmless(body)


def test_what_cannot_be_drilled_into_is_said(face: Face, talked: str) -> None:
    """A step that asked no model has no prompt, and no step has neither: exit code 2."""
    tool = face.use("show", talked, "--step", "look", "--prompt")
    assert (tool.exit_code, tool.stdout) == (2, "")
    assert "it asked no model" in tool.stderr
    for option in ("--prompt", "--body"):
        alone = face.use("show", talked, option)
        assert (alone.exit_code, alone.stdout) == (2, "")
        assert "--step" in alone.stderr


def test_a_step_tells_what_people_saw_and_said(face: Face, talked: str) -> None:
    """When they were asked, of what, at which version, and who decided why."""
    face.use(
        "approve", talked, "--by", "ada", "--reason", "it is due", "--model", "app.py:model",
        "--target", "app.py:assist",
    )  # fmt: skip
    page = face.use("show", talked, "--step", "change.6").stdout
    assert "approved by ada: it is due" in page
    assert page.count("decided") == 1
    assert "crm/a-1 at version" in page
    assert fits(page)


async def _delivered(path: Path) -> str:
    """Run a turn whose calls fail at first, and say that it reached nobody."""
    tries: list[str] = []

    @uc.tool(reads="crm/{account}", service="crm", retry=uc.Retry(attempts=3, wait_s=0.001))
    async def crm(account: str) -> str:
        """Read an account."""
        tries.append(account)
        if len(tries) < 2:
            raise ConnectionError("reset by peer")
        return "gold"

    @uc.handler(tools=[crm])
    async def assist(turn: uc.Turn, message: str) -> str:
        turn.context.user(message)
        while True:
            answer = await turn.model()
            if not answer.calls:
                return answer.text
            await turn.calls(answer.calls)

    model = ScriptedModel([[uc.Call("crm", {"account": "a-1"})], "You are gold."])
    options: dict[str, Any] = {"model": model, "context": uc.ContextPolicy(limit_tokens=2_000)}
    async with uc.Runtime(SqliteStore(str(path)), **options) as rt:
        outcome = await rt.run(assist, message="What am I?")
        await rt.delivered(outcome.turn_id, reached=False, detail="the socket was \x1b[31mclosed")
    return outcome.turn_id


def test_attempts_context_and_delivery_are_told(face: Face) -> None:
    """Of an attempt its error and class, of a prompt what it shows, of a turn what arrived."""
    asyncio.run(_delivered(face.folder / "undercroft.db"))
    page = face.use("show", "last").stdout
    assert "delivery failed" in page
    assert "the socket was \\x1b[31mclosed" in page
    tool = face.use("show", "last", "--step", "crm").stdout
    assert "service     crm" in tool
    assert "ConnectionError: reset by peer (transient" in " ".join(tool.split())
    model = face.use("show", "last", "--step", "1").stdout
    assert "are shown as they came" in model
    assert "tokens of 2,000" in model
    for said in (page, tool, model):
        assert harmless(said)
        assert fits(said)

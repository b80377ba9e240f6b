"""`sessions`: how conversations fare, and what changed in one since its last good turn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.cli.conftest import Face
from tests.cli.test_show import fits, harmless
from undercroft.storage.sqlite import SqliteStore
from undercroft.testing import ScriptedModel


async def _hold(path: Path) -> list[str]:
    """Hold a session of which the third turn meets a service that is down, and other code."""
    down: list[str] = []

    @uc.tool(reads="crm/{account}", service="crm")
    async def crm(account: str) -> str:
        """Read an account."""
        if down:
            raise ConnectionError("reset by peer")
        return f"{account} is gold"

    @uc.tool(peeks="time")
    async def clock() -> str:
        """Tell the time."""
        return "noon"

    def assist(*tools: Any) -> Any:
        @uc.handler(tools=tools)
        async def assist(turn: uc.Turn, message: str) -> str:
            turn.context.user(message)
            while True:
                answer = await turn.model()
                if not answer.calls:
                    return answer.text
                await turn.calls(answer.calls)

        return assist

    calls: list[Any] = [[uc.Call("crm", {"account": f"a-{n}"}) for n in range(4)], "It is gold."]
    breaker = uc.BreakerPolicy(failure_rate=None, failures_max=2)
    options: dict[str, Any] = {"services": [uc.Service("crm", breaker=breaker)]}
    options["context"] = uc.ContextPolicy(limit_tokens=4_000)
    ids = []
    for turn in range(4):
        down[:] = ["down"] if turn > 1 else []
        target = assist(crm) if turn < 3 else assist(crm, clock)
        model = ScriptedModel(calls)
        async with uc.Runtime(SqliteStore(str(path)), model=model, **options) as rt:
            outcome = await rt.run(target, message=f"time {turn}", session="s-1")
            ids.append(outcome.turn_id)
            if turn == 1:
                await rt.delivered(outcome.turn_id)
    return ids


@pytest.fixture
def held(face: Face) -> list[str]:
    """Return the turns of a session."""
    return asyncio.run(_hold(face.folder / "undercroft.db"))


def test_a_session_is_a_row_with_what_came_of_it(face: Face, held: list[str]) -> None:
    """Turns, outcomes, quality, trips, refusals; the session with the newest turn first."""
    face.use("run", "app.py:evil", "--input", '{"name": "x"}', "--session", "\x1b[1mbold")
    face.use("run", "app.py:many", "--input", '{"count": 1}')
    rows = face.json("sessions")
    assert [row["session"] for row in rows] == ["\x1b[1mbold", "s-1"]
    row = rows[1]
    assert (row["turns"], row["last_turn"]) == (4, held[-1])
    assert row["outcomes"] == {"degraded": 2, "done": 2}
    assert row["trips"] == {"crm": 1}
    assert row["errors"]["ConnectionError"] >= 2
    assert row["refusals"]["breakers.open"] >= 2
    page = face.use("sessions")
    assert harmless(page.stdout)
    assert fits(page.stdout)
    assert "tripped crm 1x" in page.stdout
    for columns in (60, 100):
        for words in (["sessions"], ["sessions", "s-1"]):
            assert fits(face.at(columns, *words).stdout, columns)
    assert "--limit" in face.use("sessions", "--limit", "1").stderr
    assert len(face.json("sessions", "--limit", "1")) == 1


def test_what_changed_since_the_last_good_turn_is_told(face: Face, held: list[str]) -> None:
    """As facts, each with the turns concerned, oldest first."""
    story = face.json("sessions", "s-1")
    assert story["last_good"] == held[1]
    facts = {(fact["what"], fact["said"]): fact["turns"] for fact in story["changed"]}
    assert facts["outcome", "2 degraded"] == held[2:]
    assert facts["service", "breaker of crm opened, once"] == [held[2]]
    (tools,) = (said for what, said in facts if what == "tools")
    assert "new: clock" in tools
    assert facts["tools", tools] == [held[3]]
    assert [turns for (what, _), turns in facts.items() if what == "code"] == [[held[3]]]
    assert any("ConnectionError" in said for what, said in facts if what == "error")
    page = face.use("sessions", "s-1").stdout
    assert f"Since {held[1]}, which ended well:" in page
    assert f"undercroft diff {held[1]} {held[3]}" in page
    assert fits(page)


def test_a_session_whose_last_turn_is_good_has_no_changes(face: Face) -> None:
    """Nor has one of which no turn was good anything to compare with."""
    face.use("run", "app.py:many", "--input", '{"count": 1}', "--session", "s-1")
    face.use("run", "app.py:wrong", "--input", '{"name": "x"}', "--session", "s-2")
    assert face.json("sessions", "s-1")["changed"] == []
    assert "ended well" in face.use("sessions", "s-1").stdout
    story = face.json("sessions", "s-2")
    assert story["last_good"] == ""
    assert [fact["what"] for fact in story["changed"]] == ["outcome", "error"]
    assert "No turn of it ended well" in face.use("sessions", "s-2").stdout


def test_a_session_that_is_not_there(face: Face, waiting: str) -> None:
    """It is exit code 2; a journal without sessions says so."""
    assert waiting
    assert face.use("sessions", "s-9").exit_code == 2
    assert "No turn belongs to a session." in face.use("sessions").stdout
    assert face.json("sessions") == []

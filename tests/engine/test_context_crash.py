"""Processes that die at every commit of a session: nothing is lost, asked twice, or different."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import (
    TIGHT,
    InOrder,
    Model,
    Summariser,
    Talk,
    assert_same,
    change,
    check_crashes,
    events,
    look,
    order_tools,
    talker,
    whole,
    written,
)
from undercroft.model.event import ContextCompacted
from undercroft.storage.sqlite import SqliteStore

SCRIPTS: dict[str, Any] = {
    "look": [[look("#A1001")], "It is open."],
    "both": [[look("#A1002"), look("#A1003")], [change("#A1002", "shipped")], "Shipped."],
}
SAYS = [
    "look at #A1001 please, I am ada@example.com",
    "both #A1002 and #A1003",
    "look again",
    "both again",
]


@pytest.mark.parametrize(
    "summaries",
    [None, (None,), ("prose", "", ValueError("no"), None)],
    ids=["none", "ideal", "failing"],
)
async def test_a_session_survives_a_crash_at_every_commit(summaries: Any) -> None:
    """The model gets the prompts of the undisturbed session, each of them once."""
    talk = Talk(lambda: talker(order_tools()), SAYS, SCRIPTS, TIGHT, summaries)
    held = await check_crashes(talk)
    assert sum(len(events(held.store, o.turn_id, ContextCompacted)) for o in held.outcomes) > 1


CHILD = """
import asyncio, sys
import undercroft as uc
from tests.engine.talking import TIGHT, InOrder, Model, Summariser, order_tools, talker
from tests.engine.test_context_crash import LOOKS, Telling, times
from undercroft.testing import FaultyStore

async def main(path, commit):
    model, target = Telling(LOOKS, TIGHT), talker(order_tools())
    store = FaultyStore(path, kill_after=commit, sync="never")
    options = {"model": model, "context": TIGHT, "summariser": Summariser()}
    async with uc.Runtime(store, ids=InOrder(), **options) as rt:
        for text in times(6):
            await rt.run(target, message=text, session="s-1")

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


LOOKS: dict[str, Any] = {"look": [[look("#A1002"), look("#A1003")], "They are open."]}


def times(many: int) -> list[str]:
    """Return what is said so many times."""
    return [f"look at #A1002, time {i}" for i in range(many)]


class Telling(Model):
    """A model that tells its parent what it was sent."""

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Answer by the prompt."""
        sys.stdout.write(json.dumps(written(request)) + "\n")
        sys.stdout.flush()
        return await super().complete(request)


class Later(InOrder):
    """Ids after those of another process."""

    def turn(self, at: float) -> str:
        """Return a new id."""
        return super().turn(at).replace("t-0", "t-1")


@pytest.mark.parametrize("commit", [4, 9, 13])
async def test_a_session_goes_on_after_its_process_was_killed(tmp_path: Path, commit: int) -> None:
    """By the kernel, at once, in the middle of it: the next process goes on with the file."""
    path = tmp_path / "journal.db"
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, str(path), str(commit)), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    calm = await whole(Talk(lambda: talker(order_tools()), times(6), LOOKS, TIGHT, (None,)))
    before = [json.loads(line) for line in said.decode().splitlines()]
    assert_same(before, calm.sent[: len(before)])
    model, target = Model(LOOKS, TIGHT), talker(order_tools())
    options: dict[str, Any] = {"model": model, "context": TIGHT, "targets": [target]}
    options |= {"summariser": Summariser(), "ids": Later()}
    async with uc.Runtime(SqliteStore(path, sync="never"), **options) as rt:
        for outcome in (await rt.recover()).values():
            assert isinstance(outcome, uc.Outcome), outcome
            assert outcome.status == "done"
        for text in times(6)[len(rt.turns()) :]:
            await rt.run(target, message=text, session="s-1")
    model.check()
    assert model.sent
    assert_same(model.sent, calm.sent[len(calm.sent) - len(model.sent) :])
    assert calm.asked
    # At most one prompt was sent and not recorded.
    assert len(before) + len(model.sent) - len(calm.sent) in {0, 1}

"""What ships for users' tests keeps its own promises."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import undercroft as uc
from undercroft import queries
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import (
    CrashingStore,
    FaultyStore,
    ScriptedModel,
    ScriptEndedError,
    run_virtual,
)


def request(answers: int) -> uc.ModelRequest:
    """Return a request whose prompt holds that many answers."""
    history = [uc.Message("user", "hello"), *[uc.Message("assistant", "…")] * answers]
    return uc.ModelRequest(tuple(history))


async def test_a_script_is_read_by_the_prompt_and_not_by_the_clock() -> None:
    """The answer depends on the answers in the prompt, so a resumed turn goes on in the script."""
    call = uc.Call("look", {"x": 1})
    model = ScriptedModel([[call], ValueError("overloaded"), uc.Answer("well"), "done"])
    assert (await model.complete(request(0))).calls == (call,)
    assert (await model.complete(request(3))).text == "done"
    assert (await model.complete(request(2))).text == "well"
    assert (await model.complete(request(0))).calls == (call,)
    with pytest.raises(ValueError, match="overloaded"):
        await model.complete(request(1))
    with pytest.raises(ScriptEndedError, match="has 4 answers, and number 5"):
        await model.complete(request(4))
    assert len(model.requests) == 6


def test_virtual_time_jumps_from_timer_to_timer() -> None:
    """Waiting takes no time; timers fire in order and at their time; what is ready goes first."""
    log: list[tuple[str, float]] = []

    async def wait(name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        log.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        await asyncio.gather(wait("day", 86_400), wait("second", 1), wait("now", 0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        log.append(("later", asyncio.get_running_loop().time()))

    run_virtual(main())
    assert log == [("now", 0.0), ("second", 1.0), ("day", 86_400.0), ("later", 90_000.0)]


def one_write(done: list[str]) -> uc.Workflow:
    """Return a workflow of one write and one word."""
    flow = uc.Workflow("one")

    @flow.execute(writes="x")
    async def put(key: uc.IdempotencyKey) -> str:
        done.append(key)
        return "put"

    @flow.confirm
    async def told(put: str) -> str:
        return put

    return flow


@pytest.mark.parametrize("when", ["crash_before", "crash_after"])
async def test_a_crashed_store_writes_nothing_more(when: str) -> None:
    """After its crash a store refuses whatever it is given, and another sees a dead runtime."""
    journal, done = MemoryJournal(), list[str]()
    flow = one_write(done)
    async with uc.Runtime(CrashingStore(journal, **{when: 2}), targets=[flow]) as rt:
        with pytest.raises(uc.StoreError, match="its process died"):
            await rt.run(flow)
        frames = sum(len(turn.frames) for turn in journal.turns.values())
        with pytest.raises(uc.StoreError):
            await rt.run(flow)
        assert sum(len(turn.frames) for turn in journal.turns.values()) == frames
    async with uc.Runtime(MemoryStore(journal), targets=[flow]) as rt:
        for outcome in (await rt.recover()).values():
            assert isinstance(outcome, uc.Outcome)
            assert outcome.value == "put"
    assert len(set(done)) == 1


CHILD = """
import asyncio, sys
import undercroft as uc
from undercroft.testing import FaultyStore

flow = uc.Workflow("child")

@flow.execute(writes="x")
async def put() -> str:
    return "put"

async def main() -> None:
    async with uc.Runtime(FaultyStore(sys.argv[1], **{sys.argv[2]: int(sys.argv[3])})) as rt:
        await rt.run(flow)

asyncio.run(main())
"""


@pytest.mark.parametrize(("when", "statuses"), [("kill_before", []), ("kill_after", ["running"])])
def test_a_faulty_store_kills_its_process(when: str, statuses: list[str], tmp_path: Path) -> None:
    """Just before a commit nothing of it is in the file; just after, all of it is."""
    path = tmp_path / "journal.db"
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), when, "1"],
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(uc.__file__).parents[1])},
    )
    assert child.returncode == -signal.SIGKILL
    assert [head.status for head in queries.list_turns(str(path))] == statuses
    assert len(queries.unfinished_turns(str(path))) == len(statuses)


async def test_a_faulty_store_fails_one_commit(tmp_path: Path) -> None:
    """A commit that fails is told to whoever waits for it, and the journal stays usable."""
    error = sqlite3.OperationalError("disk I/O error")
    flow = one_write([])
    store = FaultyStore(tmp_path / "journal.db", fail_at=1, error=error)
    async with uc.Runtime(store, targets=[flow]) as rt:
        with pytest.raises(uc.StoreError, match="disk I/O error"):
            await rt.run(flow)
        assert (await rt.run(flow)).value == "put"
        assert len(rt.turns()) == 1

"""A real process that is paused for longer than its lease, and then goes on.

    python -m tests.engine.test_ownership_paused JOURNAL WORLD LEASE_S

is that process: it begins a turn, says when it is about to write, and goes on when told.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from undercroft.engine.audit import audit_frames
from undercroft.storage.sqlite import SqliteStore

pytestmark = pytest.mark.alone  # A lease of this length is short on a busy machine.

LEASE_S = 0.4
ROOT = Path(__file__).parents[2]


class World:
    """A counter in a file that remembers the largest fence, and refuses any smaller one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def made(self) -> World:
        """Make the file."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE counter(value INTEGER, fence INTEGER)")
            connection.execute("INSERT INTO counter VALUES(0, 0)")
        return self

    def read(self) -> int:
        """Return the value."""
        with closing(sqlite3.connect(self.path)) as connection:
            return int(connection.execute("SELECT value FROM counter").fetchone()[0])

    def write(self, value: int, fence: int) -> bool:
        """Set the value, unless a later owner did before."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            changed = connection.execute(
                "UPDATE counter SET value=?, fence=? WHERE fence < ?", (value, fence, fence)
            )
            return changed.rowcount == 1


def counting(world: World, before: Any = None) -> Any:
    """Return a handler that adds 1 to the counter, however often it has to look again."""

    @uc.tool(reads="counter")
    async def look() -> int:
        return world.read()

    async def was_put(value: int) -> bool:
        return False  # the world refused it, or never heard of it

    @uc.tool(writes="counter", verify=was_put)
    async def put(value: int, fence: uc.Fence) -> str:
        if before is not None:
            await before()
        return "written" if world.write(value, fence) else "refused by the world"

    @uc.handler(tools=[look, put])
    async def count(turn: uc.Turn) -> list[str]:
        said = []
        for _ in range(5):
            (seen,) = await turn.calls([uc.Call("look")])
            (done,) = await turn.calls([uc.Call("put", {"value": seen.value + 1})])
            said.append(done.refusal.rule if done.refusal else str(done.value))
            if said[-1] == "written":
                break
        return said

    count.fn.__qualname__ = "count"
    return count


def runtime(journal: str | Path, target: Any, lease_s: float) -> uc.Runtime:
    """Return a runtime whose leases are short."""
    store = SqliteStore(journal, sync="never", lease_s=lease_s)
    return uc.Runtime(store, targets=[target], ownership=uc.Ownership(lease_s=lease_s))


async def pausing(journal: str, world: str, lease_s: str) -> None:
    """Run a turn that waits for a word before it writes; say what came of it."""

    async def before() -> None:
        say("writing")
        await asyncio.to_thread(sys.stdin.readline)

    target = counting(World(Path(world)), before)
    async with runtime(journal, target, float(lease_s)) as rt:
        try:
            outcome = await rt.run(target)
        except uc.StoreError as error:
            say(type(error).__name__)
        else:
            say(outcome.value)
        # It is as well as any: another turn of it goes through.
        say((await rt.run(counting(World(Path(world))))).value)


def say(word: Any) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


@contextmanager
def process(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start the process that is going to be paused."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.test_ownership_paused", *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield child
    finally:
        child.kill()
        child.wait(30)
        child.stdin.close()
        child.stdout.close()


def heard(child: subprocess.Popen[str]) -> Any:
    """Return what the process says next."""
    assert child.stdout is not None
    return json.loads(child.stdout.readline())


@pytest.mark.parametrize("alive", [False, True], ids=["over", "alive"])
async def test_who_was_paused_beyond_its_lease_records_nothing(
    tmp_path: Path, *, alive: bool
) -> None:
    """Paused in the middle of a write, a process is replaced, and cannot record when it wakes.

    The world refuses its write by the fence, its turn can be resumed, and nothing is lost.
    """
    journal, world = tmp_path / "journal.db", World(tmp_path / "world.db").made()
    target = counting(world)
    async with runtime(journal, target, LEASE_S) as rt:
        with process(journal, world.path, LEASE_S) as child:
            assert await asyncio.to_thread(heard, child) == "writing"
            child.send_signal(signal.SIGSTOP)
            began_s = asyncio.get_running_loop().time()
            taker = await rt.run(target)
            took_s = asyncio.get_running_loop().time() - began_s
            assert taker.value == ["written"]
            assert LEASE_S / 2 <= took_s <= LEASE_S + 1

            child.send_signal(signal.SIGCONT)
            assert child.stdin is not None
            child.stdin.write("go on\n")
            child.stdin.flush()

            assert await asyncio.to_thread(heard, child) == "LapsedError"
            assert world.read() == 1, "the world refused it"
            assert await asyncio.to_thread(heard, child) == ["written"]
            if alive:
                (outcome,) = (await rt.recover()).values()
        if not alive:
            (outcome,) = (await rt.recover()).values()
        assert isinstance(outcome, uc.Outcome)
        # What it had read is out of date; it looked again.
        assert outcome.value == ["conflicts.stale_write", "written"]
        assert world.read() == 3
        assert {head.status for head in rt.turns()} == {"done"}
    with closing(sqlite3.connect(journal)) as connection:
        frames = connection.execute("SELECT seq, turn, data FROM frame ORDER BY seq").fetchall()
    assert audit_frames(frames) == []


if __name__ == "__main__":
    asyncio.run(pausing(*sys.argv[1:]))

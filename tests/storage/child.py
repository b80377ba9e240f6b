"""What another process does to a journal: `python -m tests.storage.child WHAT PATH …`.

It says a line of JSON at a time. Run it with `run`, or with `Child` where both processes go on
at the same time.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.storage.places import dense, noted
from undercroft.errors import StoreError
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import Claimed, TurnHead
from undercroft.storage import alive
from undercroft.storage.read import open_reader
from undercroft.storage.schema import MIGRATIONS, connect, prepare
from undercroft.storage.sqlite import SqliteStore

NOBODY = 65_534
TIMEOUT_S = 60
ROOT = Path(__file__).parents[2]


def run(what: str, path: Path, *arguments: object) -> dict[str, Any]:
    """Let another process do `what`, wait until it is done, and return what it said last."""
    with Child(what, path, *arguments) as child:
        said = child.hear()
        while (more := child.hear_or_end()) is not None:
            said = more
        return said


class Child:
    """Another process, which says how far it came and waits to be told to go on."""

    def __init__(self, what: str, path: Path, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.storage.child", what, str(path), *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> dict[str, Any]:
        """Return what it says next."""
        said = self.hear_or_end()
        assert said is not None, f"it ended without a word, with code {self.process.wait()}"
        return said

    def hear_or_end(self) -> dict[str, Any] | None:
        """Return what it says next, or None where it ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def tell(self, word: str = "go on") -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, and wait until it has had its effect."""
        self.process.send_signal(number)
        if number is signal.SIGKILL:
            self.process.wait(TIMEOUT_S)
        elif number is signal.SIGSTOP:
            os.waitpid(self.process.pid, os.WUNTRACED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


# ---------------------------------------------------------------------- in the other process


def say(**words: Any) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


async def told() -> str:
    """Wait for a word of the parent."""
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.strip()


def head(turn_id: str) -> TurnHead:
    """Return the row of a turn that begins."""
    return TurnHead(turn_id, "handler", "shop:assist", None, TurnStatus.RUNNING, 1.0)


async def write(path: str, name: str, count: str) -> None:
    """Run `count` turns, a few at a time, each frame in two halves of one tick."""
    store = SqliteStore(path, sync="never")
    await store.open()
    say(ready=True)
    await told()

    async def turn(k: int) -> None:
        num = store.begin(head(f"t-{name}-{k:04}"))
        for step in range(3):
            store.append(num, noted(f"{name} {k} {step} a"))
            store.append(num, noted(f"{name} {k} {step} b"))
            await (store.durable() or asyncio.sleep(0))
        store.mark(num, TurnStatus.DONE, 2.0)
        await (store.durable() or asyncio.sleep(0))

    for first in range(0, int(count), 5):
        await asyncio.gather(*(turn(k) for k in range(first, min(first + 5, int(count)))))
    say(done=True)
    await store.close()


async def hold(path: str, count: str) -> None:
    """Begin turns and hold them; when told, write to the first and say whether one may.

    Told to lapse, it lets everybody take it for dead, as if its lock had been lost.
    """
    store = SqliteStore(path)
    await store.open()
    nums = []
    for k in range(int(count)):
        nums.append(store.begin(head(f"t-{k}")))
        store.append(nums[-1], noted("one"))
    await (store.durable(sync=True) or asyncio.sleep(0))
    say(ready=True, pid=os.getpid(), runtime=store.runtime)
    while True:
        if await told() == "lapse":
            alive.release(path, store.runtime)
            say(lapsed=True)
            continue
        try:
            store.append(nums[0], noted("more"))
            await (store.durable() or asyncio.sleep(0))
        except StoreError as error:
            say(error=type(error).__name__)
        else:
            say(error=None)


async def watch(path: str) -> None:
    """Read while somebody writes, until told to stop; say what was seen."""
    stop = asyncio.ensure_future(told())
    reads, halves, backwards, most = 0, 0, 0, 0
    say(ready=True)
    last = False
    while not last:
        # The last look begins after the word to stop, and so sees everything.
        last = stop.done()
        with open_reader(path) as reader:
            turns = [row.turn_id for row in reader.heads(limit=10_000)]
            backwards += len(turns) < most
            most = max(most, len(turns))
            for turn_id in turns[:20]:
                halves += len(reader.frames(turn_id) or ()) % 2
        reads += 1
        await asyncio.sleep(0)
    say(reads=reads, halves=halves, backwards=backwards, most=most)


async def grow(path: str) -> None:
    """Run into a limit on the size of files, and go on once it is lifted."""
    store = SqliteStore(path)
    await store.open()
    num, kept = store.begin(head("t-1")), 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        while True:
            store.append(num, noted(dense(f"{kept}", 10_000)))
            await (store.durable() or asyncio.sleep(0))
            kept += 1
    except StoreError as error:
        words = {"error": type(error).__name__, "text": str(error), "committed": kept}
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    answer = await store.claim("t-1", 2.0)
    assert isinstance(answer, Claimed)
    store.append(num, noted("goes on"))
    await (store.durable(sync=True) or asyncio.sleep(0))
    await store.close()
    with open_reader(path) as reader:
        after = len(reader.frames("t-1") or ())
    say(**words, claimed=len(answer.frames), after=after)


async def unprivileged(path: str) -> None:
    """As nobody in particular, try to write and to read; say what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        # Whatever is imported late is imported now: nobody may not read our sources.
        warm = SqliteStore(f"{folder}/warm.db")
        await warm.open()
        await warm.close()
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    words: dict[str, str] = {}
    try:
        store = SqliteStore(path)
        await store.open()
        store.append(store.begin(head("t-new")), noted("x"))
        await (store.durable() or asyncio.sleep(0))
    except StoreError as error:
        words["write"] = f"{type(error).__name__}: {error}"
    try:
        with open_reader(path) as reader:
            words["read"] = ",".join(row.turn_id for row in reader.heads() if row.held)
    except StoreError as error:
        words["read"] = f"{type(error).__name__}: {error}"
    say(**words)


async def migrate(path: str, *further: str) -> None:
    """Bring a journal forward, as soon as told."""
    connection = connect(path)
    say(ready=True)
    await told()
    tries, error = 0, "busy"
    while error == "busy":
        tries += 1
        try:
            prepare(connection, path, (*MIGRATIONS, *further))
            error = ""
        except StoreError as raised:
            error = "busy" if type(raised).__name__ == "StoreBusyError" else str(raised)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    say(error=error, version=version)


WHAT: dict[str, Callable[..., Awaitable[None]]] = {
    "write": write,
    "hold": hold,
    "watch": watch,
    "grow": grow,
    "unprivileged": unprivileged,
    "migrate": migrate,
}


async def main(what: str, *arguments: str) -> None:
    """Do what was asked."""
    await WHAT[what](*arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

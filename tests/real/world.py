"""A process of its own that owns a world, and counts everything done to it.

Keeps: calls are applied one at a time and whole; a client that dies changes nothing
of the world; an answer is sent only after the call is in the log, and in the state
file if there is one.
Leaves to others: deciding what to call, retrying, and every opinion on what the log
shows.

    python -m tests.real.world --suite banking --task user_task_3 --state FILE

prints one line, `{"port": …, "pid": …}`, and serves 127.0.0.1 until it is stopped.
From a test:

    with start_world("banking", "user_task_3", dedupe=True) as running:
        async with World(running.port) as world:      # tests.real.client
            await world.call("get_iban", {})

One request a line, one answer a line, both JSON:

    {"op": "call", "tool": …, "args": {…}, "key": K|null, "step": …}
        → {"ok": result, "deduplicated": bool}  or  {"error": text, "type": name}
    {"op": "digest"}  → {"ok": {"sha256", "content_sha256", "canonical"}}
    {"op": "log"}     → {"ok": [entry, …]}, an entry being the fields of `Entry`
    {"op": "seen", "key": K}  → {"ok": {"times": n, "result": …}}
    {"op": "reset", "suite": …, "task": …|null}  → {"ok": null}
    {"op": "delay", "ms": n, "at": "apply"|"answer"}  → {"ok": null}
    {"op": "clients"} → {"ok": {"connected": n, "held": n}}

An idempotency key counts for tools that append or write. Without `--dedupe` the world
applies a repeated key again, so that a test can catch whoever repeats it. With it, the
first result is the answer, and the same key for another call is a `KeyReusedError`.
A call that fails applies nothing and uses up no key. `seen` serves as a tool's `verify`:
`times` is how often a call with that key was applied.

`delay` holds every later call, each by itself: `apply` before the call is applied, the
window in which a client may die with nothing done; `answer` after it is applied and
before it is answered, the window in which the client cannot know. Held calls do
not hold up others. `reset` clears the log, the keys and the delay, and lets go of what
is held: what was not applied by then never is.

`clients` counts connections, and those of them that wait for a held call. What a client
sent that died is still read, so the log is only final once nobody else is connected.

With a state file, a world started on the same file is the same world again, whatever
suite and task its command line names. The clock stands still (see `dojo`).
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .dojo import SUITES, Call, Json, Stage, canonical, load_suite
from .effects import EFFECTS

LINE_LIMIT_BYTES: Final = 16 * 1024 * 1024
HOST: Final = "127.0.0.1"
_DELAY_MAX_MS: Final = 60_000
_STARTED_IN_S: Final = 30.0
_STOPPED_IN_S: Final = 5.0
_HUNG_UP = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
_ROOT = Path(__file__).resolve().parents[2]


class WorldError(Exception):
    """The world cannot do what it was asked; the message says why."""


class KeyReusedError(WorldError):
    """An idempotency key came back with another call than its first."""

    def __init__(self, key: str, first: Call, second: Call) -> None:
        super().__init__(key, first, second)
        self.key, self.first, self.second = key, first, second

    def __str__(self) -> str:
        return f"Key {self.key!r} was used for {self.first}, now for {self.second}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One call that reached the world.

    Attributes:
        n: Its number, from 1.
        tool: What was called.
        args: With these arguments.
        key: The idempotency key, if the caller gave one.
        step: Whatever the caller said about itself.
        kind: `read`, `append` or `write`; `unknown` for a tool that is not there.
        applied: Whether the tool ran and returned; false if it failed or if its
            answer came from an earlier call with the same key.
        deduplicated: Whether the answer came from an earlier call.
        error: Name of the exception, if the call failed.
    """

    n: int
    tool: str
    args: dict[str, Json]
    key: str | None
    step: Json
    kind: str
    applied: bool
    deduplicated: bool = False
    error: str | None = None


class Book:
    """The world itself: an environment, its log and the keys that it has seen.

    Plain and synchronous: what is called while the event loop cannot turn is atomic.
    """

    def __init__(
        self, suite: str, task: str | None, *, dedupe: bool, state: Path | None = None
    ) -> None:
        self._dedupe = dedupe
        self._state = state
        self.stage: Stage
        self.log: list[Entry]
        self._first: dict[str, tuple[Call, Json]]
        self._times: dict[str, int]
        if state is None or not self._restore(state):
            self.reset(suite, task)

    def reset(self, suite: str, task: str | None) -> None:
        """Begin again with a fresh environment and an empty log."""
        loaded = load_suite(suite)
        if task is not None and task not in loaded.tasks:
            msg = f"There is no task {task!r} in the suite {suite!r}."
            raise WorldError(msg)
        self.stage = loaded.stage(task)
        self.log, self._first, self._times = [], {}, {}
        self._remember({"op": "reset", "suite": suite, "task": task}, fresh=True)

    def call(
        self, tool: str, args: dict[str, Json], key: str | None, step: Json
    ) -> tuple[Json, bool]:
        """Apply one call; return its result, and whether an earlier call gave it.

        Raises:
            Exception: Whatever the tool raised; nothing is then changed.
        """
        effect = EFFECTS.get(tool)
        entry = Entry(
            n=len(self.log) + 1,
            tool=tool,
            args=args,
            key=key,
            step=step,
            kind="unknown" if effect is None else effect.kind,
            applied=False,
        )
        call = Call(tool, args)
        keyed = key if entry.kind in {"append", "write"} else None
        try:
            if self._dedupe and keyed is not None and keyed in self._first:
                result = self._recall(keyed, call)
                entry = dataclasses.replace(entry, deduplicated=True)
            else:
                result = self.stage.call(tool, args)
                entry = dataclasses.replace(entry, applied=True)
        except Exception as error:
            self._write_down(dataclasses.replace(entry, error=type(error).__name__))
            raise
        self._write_down(entry)
        self._settle(entry, result)
        return result, entry.deduplicated

    def seen(self, key: str) -> Json:
        """Say how often a call with this key was applied, and its first result."""
        _, result = self._first.get(key, (None, None))
        return {"times": self._times.get(key, 0), "result": result}

    def _recall(self, key: str, call: Call) -> Json:
        first, result = self._first[key]
        if first != call:
            raise KeyReusedError(key, first, call)
        return result

    def _settle(self, entry: Entry, result: Json) -> None:
        if entry.applied and entry.key is not None and entry.kind != "read":
            self._first.setdefault(entry.key, (Call(entry.tool, entry.args), result))
            self._times[entry.key] = self._times.get(entry.key, 0) + 1

    def _write_down(self, entry: Entry) -> None:
        self.log.append(entry)
        self._remember({"op": "call", "entry": dataclasses.asdict(entry)})

    def _remember(self, line: Json, *, fresh: bool = False) -> None:
        if self._state is None:
            return
        with self._state.open("w" if fresh else "a", encoding="utf-8") as file:
            file.write(canonical(line) + "\n")

    def _restore(self, state: Path) -> bool:
        """Do again what the state file says was done; false if it says nothing."""
        raw = state.read_bytes() if state.exists() else b""
        whole, end, _torn = raw.rpartition(b"\n")
        if not end:
            return False
        # A line cut short by a kill belongs to a call that was never answered.
        os.truncate(state, len(whole) + len(end))
        self._state = None  # What is done again is not written down again.
        for text in whole.split(b"\n"):
            line = json.loads(text)
            if line["op"] == "reset":
                self.reset(line["suite"], line["task"])
                continue
            entry = Entry(**line["entry"])
            result = self.stage.call(entry.tool, entry.args) if entry.applied else None
            self._write_down(entry)
            self._settle(entry, result)
        self._state = state
        return True


class Server:
    """The thin shell: lines in, lines out, and the holding of calls."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._hold_s = {"apply": 0.0, "answer": 0.0}
        self._connected = self._held = 0
        # Set, and replaced, by the next reset.
        self._reset = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        """Answer one client until it goes away."""
        # What is left to do for a client that died is done all the same: only the
        # sending of the answer can fail, and that ends this client alone.
        self._connected += 1
        with contextlib.suppress(*_HUNG_UP):
            while line := await reader.readuntil():
                answer = await self._answer(line)
                out.write(canonical(answer).encode() + b"\n")
                await out.drain()
        self._connected -= 1
        out.close()
        with contextlib.suppress(ConnectionError):
            await out.wait_closed()

    async def _answer(self, line: bytes) -> Json:
        try:
            request = json.loads(line)
            if request["op"] == "call":
                return await self._call(request)
            return {"ok": self._other(request)}
        except Exception as error:  # noqa: BLE001 - whatever is raised is the answer
            return {"error": str(error), "type": type(error).__name__}

    async def _call(self, request: Json) -> Json:
        # Read both now: a later `delay` is for later calls.
        hold_s = dict(self._hold_s)
        answer: Json
        reset = self._reset
        await self._hold(hold_s["apply"], reset)
        if reset.is_set():
            msg = "The world was reset while this call was held."
            raise WorldError(msg)
        try:
            result, deduplicated = self._book.call(
                request["tool"],
                request.get("args") or {},
                request.get("key"),
                request.get("step"),
            )
            answer = {"ok": result, "deduplicated": deduplicated}
        except Exception as error:  # noqa: BLE001 - what a tool raises is its answer
            answer = {"error": str(error), "type": type(error).__name__}
        await self._hold(hold_s["answer"], reset)
        return answer

    async def _hold(self, hold_s: float, reset: asyncio.Event) -> None:
        if not hold_s:
            return
        self._held += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(hold_s):
                await reset.wait()
        self._held -= 1

    def _other(self, request: Json) -> Json:
        match request["op"]:
            case "digest":
                return dataclasses.asdict(self._book.stage.digest())
            case "log":
                return [dataclasses.asdict(entry) for entry in self._book.log]
            case "seen":
                return self._book.seen(request["key"])
            case "clients":
                return {"connected": self._connected, "held": self._held}
            case "reset":
                self._book.reset(request["suite"], request.get("task"))
                self._hold_s = {"apply": 0.0, "answer": 0.0}
                self._reset.set()
                self._reset = asyncio.Event()
                return None
            case "delay":
                return self._delay(request["ms"], request.get("at", "answer"))
            case op:
                msg = f"There is no op {op!r}."
                raise WorldError(msg)

    def _delay(self, ms: float, at: str) -> None:
        if at not in self._hold_s or not 0 <= ms <= _DELAY_MAX_MS:
            msg = f"A delay is 0 to {_DELAY_MAX_MS} ms at apply or answer."
            raise WorldError(msg)
        self._hold_s[at] = ms / 1000


async def _run(server: Server, *, lifetime_s: float, with_parent: bool) -> None:
    stop = asyncio.Event()
    if with_parent:
        _when_stdin_ends(asyncio.get_running_loop(), stop.set)
    listening = await asyncio.start_server(server.serve, HOST, 0, limit=LINE_LIMIT_BYTES)
    port = listening.sockets[0].getsockname()[1]
    sys.stdout.write(canonical({"port": port, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    # A world that nobody stops ends by itself.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(lifetime_s):
            await stop.wait()
    listening.close()


def _when_stdin_ends(loop: asyncio.AbstractEventLoop, then: Callable[[], object]) -> None:
    """Call `then` when whoever started this process closes its stdin, or dies."""

    def wait() -> None:
        # Not `sys.stdin`: its lock, held by a thread, breaks the interpreter's exit.
        while os.read(0, 1024):
            pass
        with contextlib.suppress(RuntimeError):  # The loop may have ended meanwhile.
            loop.call_soon_threadsafe(then)

    threading.Thread(target=wait, daemon=True).start()


@dataclass(frozen=True, slots=True)
class Running:
    """A world process that is up."""

    port: int
    pid: int


@contextlib.contextmanager
def start_world(
    suite: str,
    task: str | None = None,
    *,
    dedupe: bool = False,
    state: Path | None = None,
) -> Iterator[Running]:
    """Start a world process, and stop it on leaving; it also ends if we die."""
    command = [sys.executable, "-m", "tests.real.world", "--with-parent"]
    command += ["--suite", suite]
    command += ["--task", task] if task is not None else []
    command += ["--state", str(state.resolve())] if state is not None else []
    command += ["--dedupe"] if dedupe else []
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _wait_until_up(process)
        finally:
            process.terminate()
            try:
                process.wait(_STOPPED_IN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_STOPPED_IN_S)


def _wait_until_up(process: subprocess.Popen[str]) -> Running:
    out = process.stdout
    if out is None:
        msg = "The world was started without a pipe on its stdout."
        raise WorldError(msg)
    # The read itself has no limit; killing the process ends it.
    limit = threading.Timer(_STARTED_IN_S, process.kill)
    limit.start()
    try:
        line = out.readline()
    finally:
        limit.cancel()
    if not line:
        msg = f"The world did not come up in {_STARTED_IN_S} s; see its stderr."
        raise WorldError(msg)
    said = json.loads(line)
    return Running(port=said["port"], pid=said["pid"])


def main(argv: list[str] | None = None) -> None:
    """Serve one world until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.world")
    parser.add_argument("--suite", choices=SUITES, required=True)
    parser.add_argument("--task", help="a task id; without it the default environment")
    parser.add_argument("--state", type=Path, help="keep the world in this file")
    parser.add_argument("--dedupe", action="store_true", help="honour repeated keys")
    parser.add_argument("--lifetime-s", type=float, default=900.0)
    parser.add_argument("--with-parent", action="store_true", help="end when stdin is closed")
    options = parser.parse_args(argv)
    book = Book(options.suite, options.task, dedupe=options.dedupe, state=options.state)
    asyncio.run(
        _run(
            Server(book),
            lifetime_s=options.lifetime_s,
            with_parent=options.with_parent,
        )
    )


if __name__ == "__main__":
    main()

"""Lives of turns, each in a process of its own that may be killed at any journal write.

Keeps: a life is a fork of a process that never opened a journal, a socket or an event loop,
so it shares nothing with the lives before it but the file and the world.
Leaves to others: what is to be true of the journal and the world afterwards.

    python -m tests.real.turn

reads one order a line and answers each with one line, both JSON: `{"start": [job, …]}` forks
a life for each job and answers with their process ids; `{"wait": pid}` answers with an
`Ended`. Importing what a life needs takes half a second, forking it some milliseconds.
From a test:

    with start_lives() as lives:
        ended = lives.run(Job(…, acts=(Act(op="run"),), kill_after=7))
        assert ended.killed
        one, other = lives.start(job, job)      # both go on at the same moment
        assert lives.wait(one).report.said == lives.wait(other).report.said
"""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

import msgspec

import undercroft as uc
from undercroft.model.outcome import TurnStatus
from undercroft.testing import FaultyStore, ScriptedModel

from .bindings import HANDLERS, Mode, reaching, script
from .client import World
from .dojo import load_suite

# A life that hangs ends by itself; the runtime waits 30 s for a turn that is held.
_LIFE_MAX_S: Final = 60
_STOPPED_IN_S: Final = 5.0
_REPORT_MAX_BYTES: Final = 1 << 20
_ROOT = Path(__file__).resolve().parents[2]


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to ask of a runtime.

    Attributes:
        op: `run` begins the turn; the others are the runtime's own.
        step: For `approve` and `settle`.
        applied: For `settle`.
        value: For `settle`.
    """

    op: Literal["run", "resume", "recover", "approve", "settle"]
    turn: str = ""
    step: str | None = None
    applied: bool = False
    value: Any = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a life is for.

    Attributes:
        journal: Path of the journal.
        port: Of the world.
        handler: A name in `HANDLERS`.
        acts: One after another.
        together: All acts at once instead, in this one process.
        runtimes: How many runtimes on the journal the acts are shared among, in turn.
        kill_before: Number of the journal write before which the life is killed, from 1.
        kill_after: The same, just after it.
        kill_once: The life is killed just after the journal says that the turn is this.
    """

    journal: str
    port: int
    suite: str
    task: str
    mode: Mode
    handler: str
    acts: tuple[Act, ...]
    together: bool = False
    runtimes: int = 1
    kill_before: int = 0
    kill_after: int = 0
    kill_once: str = ""


class Said(msgspec.Struct, frozen=True):
    """What the runtime answered: an outcome, or what it raised."""

    status: str = ""
    value: Any = None
    waiting: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()
    error: str = ""
    raised: str = ""


class Report(msgspec.Struct, frozen=True):
    """What a life that came to its end says of itself.

    Attributes:
        said: One for each act; `recover` gives one for each turn.
        writes: How often the journal was written, the runtime's own registration included.
        asked: How often the model was asked.
    """

    said: tuple[Said, ...]
    writes: int
    asked: int


class Ended(msgspec.Struct, frozen=True):
    """How a life ended."""

    code: int
    report: Report | None

    @property
    def killed(self) -> bool:
        """Whether it was killed, as it was told to be."""
        return self.code == -signal.SIGKILL


class SweptStore(FaultyStore):
    """A `FaultyStore` that also counts what is written besides the frames of turns.

    These are the registration of a runtime, the claim of a turn and a person's word.
    """

    kill_once = ""

    def mark(self, num: int, status: TurnStatus, at: float) -> None:
        """Queue a new status, and the end of this life with it if it is to be the last."""
        if status == self.kill_once:
            self._kill_after = self.commits + 1
        super().mark(num, status, at)

    async def _exclusively(self, work: Any) -> Any:
        self.commits += 1
        number = self.commits
        if number == self._kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = await super()._exclusively(work)
        if number == self._kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


class FixedIds:
    """The same ids in every run; one journal takes one turn of a name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def turn(self, at: float) -> str:
        """Return the name."""
        del at
        return self._name

    def jitter(self) -> float:
        """Return the middle."""
        return 0.5


# The life


async def live(job: Job, gate: "Gate | None" = None) -> Report:
    """Do the job; everything but the outcome is the runtime's business."""
    task = load_suite(job.suite).tasks[job.task]
    model = ScriptedModel(script(task, job.mode))
    stores = [_store(job) for _ in range(job.runtimes)]
    async with contextlib.AsyncExitStack() as stack:
        world = await stack.enter_async_context(World(job.port))
        stack.enter_context(reaching(world))
        # What the world saw is compared with what is written, word for word.
        options: dict[str, Any] = {"model": model, "redaction": uc.Redaction(defaults=False)}
        runtimes = [
            await stack.enter_async_context(uc.Runtime(store, ids=FixedIds(job.task), **options))
            for store in stores
        ]
        if gate is not None:
            gate.pass_through()
        doing = [
            _act(runtimes[place % len(runtimes)], job, act, task.prompt)
            for place, act in enumerate(job.acts)
        ]
        if job.together:
            said = await asyncio.gather(*doing)
        else:
            said = [await act for act in doing]
    return Report(
        tuple(one for some in said for one in some),
        sum(store.commits for store in stores),
        len(model.requests),
    )


def _store(job: Job) -> SweptStore:
    store = SweptStore(job.journal, kill_before=job.kill_before, kill_after=job.kill_after)
    store.kill_once = job.kill_once
    return store


async def _act(rt: uc.Runtime, job: Job, act: Act, prompt: str) -> list[Said]:
    try:
        match act.op:
            case "run":
                outcome = await rt.run(getattr(HANDLERS, job.handler), message=prompt)
            case "resume":
                outcome = await rt.resume(act.turn)
            case "recover":
                return [_said(each) for each in (await rt.recover()).values()]
            case "approve":
                outcome = await rt.approve(act.turn, act.step, by="ada")
            case "settle":
                outcome = await rt.settle(
                    act.turn, act.step, applied=act.applied, by="ada", value=act.value
                )
    except uc.UndercroftError as error:
        return [_said(error)]
    return [_said(outcome)]


def _said(outcome: uc.Outcome | Exception) -> Said:
    if isinstance(outcome, Exception):
        return Said(raised=f"{type(outcome).__name__}: {outcome}")
    return Said(
        outcome.status,
        outcome.value,
        tuple(step.step_id for step in outcome.waiting),
        tuple(step.step_id for step in outcome.in_doubt),
        str(outcome.error or ""),
    )


# The process that forks them


class Gate:
    """Where lives that are to go on at the same moment wait for each other."""

    def __init__(self, ready: int, opened: int) -> None:
        self._ready, self._opened = ready, opened

    def pass_through(self) -> None:
        """Say that this life is ready, and wait until all are."""
        os.write(self._ready, b"\n")
        # Blocks the loop, on which nothing runs yet; ends when the other end is closed.
        os.read(self._opened, 1)


class _Order(msgspec.Struct, frozen=True):
    """One line from whoever started this process."""

    start: tuple[Job, ...] = ()
    wait: int = 0


class _Forker:
    """Forks lives and waits for them; it has no thread, no loop and no journal."""

    def __init__(self) -> None:
        self._reports: dict[int, int] = {}

    def start(self, jobs: tuple[Job, ...]) -> list[int]:
        """Fork a life for each job; several pass the gate together."""
        for job in jobs:
            # Made here, so that a life is born with them.
            getattr(HANDLERS, job.handler)
        opened, keep_shut = os.pipe()
        reports = [os.pipe() for _ in jobs]
        pids = []
        for job, (_, out) in zip(jobs, reports, strict=True):
            pid = os.fork()
            if not pid:
                os.close(keep_shut)
                _be_born(job, out, Gate(out, opened) if len(jobs) > 1 else None)
            pids.append(pid)
        for pid, (report, out) in zip(pids, reports, strict=True):
            os.close(out)
            self._reports[pid] = report
            if len(jobs) > 1:
                os.read(report, 1)
        os.close(opened)
        os.close(keep_shut)
        return pids

    def wait(self, pid: int) -> Ended:
        """Wait until a life has ended."""
        with os.fdopen(self._reports.pop(pid), "rb") as pipe:
            report = pipe.read(_REPORT_MAX_BYTES)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, msgspec.json.decode(report, type=Report) if report else None)


def _be_born(job: Job, out: int, gate: Gate | None) -> NoReturn:
    """Live, report, and end without the parent's clean-up."""
    code = 1
    try:
        signal.alarm(_LIFE_MAX_S)
        report = msgspec.json.encode(asyncio.run(live(job, gate)))
        os.write(out, report)
        code = 0
    except BaseException:  # noqa: BLE001 - the parent's code must not go on in here
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    """Take orders until there are no more."""
    forker = _Forker()
    # What is there before a fork is never collected in a child, so its pages stay shared.
    gc.freeze()
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=_Order)
        answer = forker.wait(order.wait) if order.wait else forker.start(order.start)
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


# For tests


class Lives:
    """The process that forks lives, as a test sees it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def start(self, *jobs: Job) -> list[int]:
        """Start lives, at the same moment; return their process ids."""
        return msgspec.json.decode(self._ask(_Order(start=jobs)), type=list[int])

    def wait(self, pid: int) -> Ended:
        """Wait until a life has ended."""
        return msgspec.json.decode(self._ask(_Order(wait=pid)), type=Ended)

    def run(self, *jobs: Job) -> list[Ended]:
        """Start lives, at the same moment, and wait until all have ended."""
        return [self.wait(pid) for pid in self.start(*jobs)]

    def _ask(self, order: _Order) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@contextlib.contextmanager
def start_lives() -> Iterator[Lives]:
    """Start the process that forks lives, and stop it on leaving; it also ends if we die."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.real.turn"],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield Lives(process)
        finally:
            process.terminate()
            try:
                process.wait(_STOPPED_IN_S)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    main()

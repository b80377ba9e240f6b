"""One turn of a suite's task through kills and resumes, and what must be true of it after.

Keeps: the test never says what the runtime should have done by looking into the runtime. It
lays the journal, as anybody may read it, beside the world's log, and both beside the calls
of the task made directly.
Leaves to others: where to kill (`test_dojo`), living (`turn`), and the order of calls (`order`).

    trial = Trial(lives, world, case, journal)
    await trial.reset()
    assert await trial.kill(Act(op="run"), before=7)
    await trial.run_out()
    await trial.check()
"""

import asyncio
import functools
import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from undercroft.model.event import (
    AnyEvent,
    DoubtSettled,
    StepEnded,
    StepStarted,
    TurnEnded,
    TurnParked,
)
from undercroft.model.trace import StepTrace, Trace
from undercroft.queries import list_turns, read_events, read_trace, unfinished_turns

from . import dojo
from .bindings import STATES, told
from .client import World, direct_run
from .dojo import Digest, Json, load_suite
from .journals import check_journal
from .order import (
    Case,
    answers,
    by_place,
    calls_of,
    check_serial,
    held_up,
    pairs_in_order,
    proposed,
)
from .turn import Act, Ended, Job, Lives, Said
from .world import Entry

# A turn that is killed once can stop in doubt once, if of several writes, and killed twice, twice.
_SETTLED_MAX: Final = 4
_QUIET_POLLS_MAX: Final = 2_000
_QUIET_POLL_S: Final = 0.005


class Way(NamedTuple):
    """How a turn is taken up: by how many at once.

    Attributes:
        processes: So many of them.
        calls: In each of them, so many at a time.
        runtimes: Spread over so many runtimes of the process.
    """

    processes: int = 1
    calls: int = 1
    runtimes: int = 1

    def __str__(self) -> str:
        return "-".join(
            f"{n} {what}" for what, n in self._asdict().items() if n > 1 or what == "processes"
        )


ALONE: Final = Way()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What comes of the calls of a task when they are made directly.

    Attributes:
        digest: Of the environment at the end.
        results: Of the calls, in order.
    """

    task: dojo.Task
    digest: Digest
    results: tuple[Json, ...]


@functools.cache
def wanted(suite: str, task: str) -> Wanted:
    """Return what comes of a task."""
    loaded = load_suite(suite)
    stage = loaded.stage(task)
    results = tuple(stage.call(*call) for call in loaded.tasks[task].calls)
    digest = stage.digest()
    assert digest == direct_run(suite, task)
    return Wanted(task=loaded.tasks[task], digest=digest, results=results)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the journal and the world hold while nobody runs the turn.

    Attributes:
        trace: The journal's record of the turn; None where it holds none.
        doubts: Ids of writes that it saw begin, and neither end nor settled by a person.
        open: Whether the turn is neither over nor parked, going by what was written last.
        log: The world's.
    """

    trace: Trace | None
    doubts: tuple[str, ...]
    open: bool
    log: tuple[Entry, ...]

    def applied(self, step: str) -> bool:
        """Whether the world did what the step asked for."""
        return any(entry.step == step and entry.applied for entry in self.log)


@dataclass(slots=True)
class Trial:
    """One turn on one journal and one world; everything that is asked of it is remembered."""

    lives: Lives
    world: World
    case: Case
    journal: Path
    snapshots: list[Snapshot] = field(default_factory=list)
    kills: int = 0
    # How often the model was asked since the last snapshot.
    asked: int = 0

    async def reset(self) -> None:
        """Begin again: a fresh world, and no journal."""
        self.forget()
        self.snapshots.clear()
        self.kills = self.asked = 0
        await self.world.reset(self.case.suite, self.case.task)

    def forget(self) -> None:
        """Remove the journal."""
        for file in self.journal.parent.glob(f"{self.journal.name}*"):
            file.unlink()

    def job(self, *acts: Act, way: Way = ALONE, kill_before: int = 0, kill_after: int = 0) -> Job:
        """Return the job of one life."""
        return Job(
            journal=str(self.journal),
            port=self.world.port,
            suite=self.case.suite,
            task=self.case.task,
            mode=self.case.mode,
            handler=self.case.handler,
            acts=acts * way.calls,
            together=way.calls > 1,
            runtimes=way.runtimes,
            kill_before=kill_before,
            kill_after=kill_after,
        )

    # Lives

    async def kill(self, *acts: Act, before: int = 0, after: int = 0) -> bool:
        """Do what is asked and be killed at a journal write; False if it never comes."""
        [ended] = self.lives.run(self.job(*acts, kill_before=before, kill_after=after))
        if ended.killed:
            self.kills += 1
            await self.look()
        else:
            self.heard(ended)
        return ended.killed

    def kill_now(self, pid: int) -> None:
        """Kill a life wherever it is."""
        os.kill(pid, signal.SIGKILL)
        assert self.lives.wait(pid).killed
        self.kills += 1

    async def look(self) -> Snapshot:
        """Remember what journal and world hold, which is the beginning of what they will."""
        found = await self._snapshot()
        self.snapshots.append(found)
        self.asked = 0
        return found

    def ask(self, *acts: Act, way: Way = ALONE) -> Said:
        """Ask for the turn; whoever asks at the same moment is told the same."""
        said = self.ask_each(*acts, way=way)
        assert said == said[:1] * len(said)
        return said[0]

    def ask_each(self, *acts: Act, way: Way = ALONE) -> list[Said]:
        """Return what each of those who ask is told at last."""
        jobs = [self.job(*acts, way=way)] * way.processes
        return [said for ended in self.lives.run(*jobs) for said in self.heard(ended)]

    def heard(self, ended: Ended) -> Sequence[Said]:
        """Return what a life says that came to its end, and count what it asked the model."""
        assert ended.code == 0, ended
        assert ended.report is not None
        self.asked += ended.report.asked
        return ended.report.said

    # To the end

    async def run_out(self, *, way: Way = ALONE, recover: bool = False) -> None:
        """Take the turn up and see it to its end; a person says what the world says."""
        found = self.snapshots[-1]
        trace = found.trace
        if trace is None:
            # Killed before it was written that the turn exists: nobody knows of it.
            assert found.log == ()
            assert self.ask(Act(op="run")) == self._done
            return
        act = Act(op="recover" if recover and found.open else "resume", turn=trace.turn_id)
        said = self.ask(act, way=way)
        for _ in range(_SETTLED_MAX):
            if said.status != "in_doubt":
                break
            said = await self._settle(said, way)
        assert said == self._done

    @property
    def _done(self) -> Said:
        return Said(status="done", value=told(self._wanted.task))

    @property
    def _wanted(self) -> Wanted:
        return wanted(self.case.suite, self.case.task)

    async def _settle(self, said: Said, way: Way) -> Said:
        """Have a person settle what the turn stopped for; it must have had to."""
        found = self.snapshots[-1]
        parked = await self.look()
        trace = parked.trace
        assert trace is not None
        assert not parked.open
        left = [step for step in found.doubts if not self._may_settle(trace, step)]
        assert sorted(said.in_doubt) == sorted(parked.doubts) == sorted(left)
        check_held(self.case, parked, said.in_doubt)
        # Asking again changes nothing, and calls nothing but to verify.
        assert self.ask(Act(op="resume", turn=trace.turn_id), way=way) == said
        assert proposed((await self._snapshot()).log) == proposed(parked.log)
        for step in said.in_doubt:
            told_each = self.ask_each(self.settlement(step), way=way)
            # Whoever is too late is told that nothing is in doubt any more.
            heard = [one for one in told_each if not one.raised.startswith("DecisionError")]
            assert heard == heard[:1] * len(heard)
            said = heard[0]
        return said

    def settlement(self, step: str) -> Act:
        """Return what a person says of a write in doubt who knows the world."""
        found = self.snapshots[-1]
        assert found.trace is not None
        applied = found.applied(step)
        return Act(
            op="settle",
            turn=found.trace.turn_id,
            step=step,
            applied=applied,
            value=answers(self.case, found.log)[step] if applied else None,
        )

    def _may_settle(self, trace: Trace, step: str) -> str:
        """Return how the runtime may settle a write in doubt by itself, if at all."""
        if self.case.protocol in {"verify", "key"}:
            return self.case.protocol
        name = step.rpartition(".")[0]
        reader = STATES.get(name)
        was_read = any(call.name == reader and call.status == "ok" for call in calls_of(trace))
        return "verify" if self.case.protocol == "state" and was_read else ""

    # What is true in the end

    async def check(self) -> None:
        """Hold the end, and every snapshot on the way, against the promises."""
        end = await self._snapshot()
        trace = end.trace
        assert trace is not None
        check_done(self.case, trace, end.log, await self.world.digest())
        assert self.kills or len(proposed(end.log)) == len(calls_of(trace))
        for found in self.snapshots:
            check_kept(found, trace, end.log)
        self._check_asked(trace)
        if self.kills == 1:
            self._check_settled(self.snapshots[0], trace)

    def _check_asked(self, trace: Trace) -> None:
        """The model is not asked again for what the journal holds of it."""
        answers = sum(step.kind == "model" for step in trace.steps)
        last = self.snapshots[-1].trace if self.snapshots else None
        held = [s for s in last.steps if s.kind == "model" and _has_ended(s)] if last else []
        assert self.asked == answers - len(held)

    def _check_settled(self, found: Snapshot, trace: Trace) -> None:
        """What was in doubt was settled by whoever could, and as the world has it."""
        steps = {step.step_id: step for step in trace.steps}
        for step in found.doubts:
            how = self._may_settle(trace, step)
            what = "applied" if found.applied(step) else "not applied"
            said = {(d.what, d.how) for d in steps[step].decisions if d.what != "approved"}
            assert said == {("repeated" if how == "key" else what, how or "person")}

    async def _snapshot(self) -> Snapshot:
        await self._quiet()
        log = tuple(await self.world.log())
        path = str(self.journal)
        heads = list_turns(path)
        assert len(heads) <= 1
        if not heads:
            return Snapshot(trace=None, doubts=(), open=False, log=log)
        assert not heads[0].held
        turn = heads[0].turn_id
        events = read_events(path, turn)
        check_journal(self.journal)
        is_open = not isinstance(events[-1], TurnParked | TurnEnded)
        # So whoever comes along to take up what was left behind finds it.
        assert unfinished_turns(path) == [turn] * is_open
        return Snapshot(trace=read_trace(path, turn), doubts=_doubts(events), open=is_open, log=log)

    async def _quiet(self) -> None:
        """Wait until the world has read all that the dead have sent; a held call it has."""
        for _ in range(_QUIET_POLLS_MAX):
            clients = await self.world.clients()
            if clients.connected - clients.held == 1:
                return
            await asyncio.sleep(_QUIET_POLL_S)
        raise AssertionError(clients)


def _doubts(events: Sequence[AnyEvent]) -> tuple[str, ...]:
    """Return the writes of which the journal holds a begin, and no word after it."""
    doubts: dict[int, str] = {}
    for event in events:
        match event:
            case StepStarted(changes=True):
                doubts[event.n] = f"{event.name}.{event.n}"
            case StepEnded():
                doubts.pop(event.n, None)
            case DoubtSettled(how="person"):
                doubts.pop(event.n, None)
            case _:
                pass
    return tuple(doubts.values())


def _has_ended(step: StepTrace) -> bool:
    return step.took_s is not None


def check_done(case: Case, trace: Trace, log: Sequence[Entry], digest: Digest) -> None:
    """The turn did the calls of its task, each once and well, and as if one by one."""
    task = load_suite(case.suite).tasks[case.task]
    found = by_place(trace, task.calls)
    steps = [step for step in found if step is not None]
    assert len(steps) == len(found)
    assert {step.status for step in trace.steps} == {"ok"}
    assert trace.status == "done"
    assert trace.delivered == told(task)
    check_world(trace, log)
    check_serial(case, steps, log, digest)


def check_world(trace: Trace, log: Sequence[Entry]) -> None:
    """The world applied each write of the turn once, and did nothing else for it."""
    assert all(entry.error is None for entry in log)
    writes = Counter(str(e.step) for e in log if e.applied and e.kind != "read")
    assert writes == Counter(s.step_id for s in trace.steps if s.changes)
    keys = Counter(e.key for e in log if e.applied and e.kind != "read" and e.key)
    assert set(keys.values()) <= {1}
    asked = proposed(log)
    assert all(entry in asked or entry.kind == "read" for entry in log)
    # A read that a life was killed before it could note may have a new number in the next.
    calls = {call.step_id: call for call in calls_of(trace)}
    lost = [entry for entry in asked if entry.step not in calls]
    assert {entry.step for entry in asked if entry not in lost} == set(calls)
    again = [(call.name, call.arguments) for call in calls.values()]
    assert all(entry.kind == "read" and (entry.tool, entry.args) in again for entry in lost)


def check_held(case: Case, parked: Snapshot, standing: Sequence[str]) -> None:
    """A turn that waits for a person has done all but what waits with it, and none of that.

    Args:
        case: Of the turn.
        parked: What it left behind.
        standing: The steps that somebody has to decide.
    """
    assert parked.trace is not None
    steps = by_place(parked.trace, load_suite(case.suite).tasks[case.task].calls)
    stands = [n for n, step in enumerate(steps) if step is not None and step.step_id in standing]
    assert len(stands) == len(standing)
    held = held_up(pairs_in_order(case), stands)
    for n, step in enumerate(steps):
        if step is None or n in held:
            # Asked about perhaps, ahead of its turn, and not begun.
            assert n in held
            assert step is None or (n in stands and not parked.applied(step.step_id))
        else:
            assert n in stands or step.status == "ok"


def check_kept(found: Snapshot, trace: Trace, log: Sequence[Entry]) -> None:
    """Nothing was done without an intent, and what had ended at a kill was not done again."""
    assert tuple(log[: len(found.log)]) == found.log
    began = {s.step_id for s in found.trace.steps if s.changes} if found.trace else set()
    assert {e.step for e in found.log if e.kind != "read"} <= began
    ended = [s for s in found.trace.steps if _has_ended(s)] if found.trace else []
    later = {entry.step for entry in log[len(found.log) :]}
    assert not later & {step.step_id for step in ended}
    # The record of what had ended is what it was.
    now = {step.step_id: step for step in trace.steps}
    assert all(now[step.step_id].value == step.value for step in ended)

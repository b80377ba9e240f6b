"""Every store against a model of it: dictionaries, and no disk, loop or locks."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.storage.places import MemoryPlace, Place, SqlitePlace, head, noted
from undercroft.errors import FencedError
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import Claimed, Held, Over
from undercroft.ports import Store

T = TypeVar("T")

PROCESSES = range(3)
SESSIONS = st.sampled_from([None, "s-1", "s-2"])
FRAMES = st.text(max_size=24).map(noted)
PARKED = (TurnStatus.WAITING, TurnStatus.IN_DOUBT)


@dataclass
class Turn:
    """A turn as the model knows it; `holder` is a runtime's number."""

    num: int
    session: str | None
    holder: int | None
    status: TurnStatus = TurnStatus.RUNNING
    frames: list[bytes] = field(default_factory=list)
    words: int = 0
    known: dict[int, int] = field(default_factory=dict)

    def parked_as(self, status: TurnStatus, number: int) -> TurnStatus:
        """Return what a mark by runtime `number` comes to."""
        known = self.known.get(number, 0)
        if status.final:
            self.known.pop(number, None)
        return TurnStatus.STOPPED if status in PARKED and self.words > known else status


@dataclass
class Process:
    """An open store, and what it has queued."""

    store: Store
    number: int
    alive: bool = True
    fenced: bool = False
    queue: list[Callable[[], None]] = field(default_factory=list)
    waiters: list[asyncio.Future[int]] = field(default_factory=list)


class Journal(RuleBasedStateMachine):
    """Three processes share one journal; any of them may die, or be taken for dead."""

    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = self.make_place()
        self.turns: dict[str, Turn] = {}
        self.waiting: list[Process] = []
        self.processes = [self.started() for _ in PROCESSES]

    def make_place(self) -> Place:
        """Return where the journal is kept."""
        raise NotImplementedError

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`; whatever was queued before is committed meanwhile."""
        return self.runner.run(work)

    def started(self) -> Process:
        """Return a new process."""
        store = self.place.store()
        self.run(store.open())
        self.committed()
        return Process(store, store.runtime)

    def committed(self) -> None:
        """Let the model take note of what is now committed, in the order of asking."""
        for process in self.waiting:
            for work in () if process.fenced else process.queue:
                work()
            process.queue.clear()
            # Whoever waits is told how it went.
            for waiter in process.waiters:
                assert waiter.done()
                assert isinstance(waiter.exception(), FencedError) == process.fenced
            process.waiters.clear()
        self.waiting.clear()

    def tick(self) -> None:
        """Give the loop its turn."""
        for process in self.waiting:
            waiter = process.store.durable()
            if waiter is not None:
                process.waiters.append(asyncio.ensure_future(waiter, loop=self.runner.get_loop()))

        async def settle() -> None:
            waiters = [waiter for process in self.waiting for waiter in process.waiters]
            if waiters:
                await asyncio.wait(waiters)

        self.run(settle())
        self.committed()

    def queued(self, process: Process, ask: Callable[[], object], work: Callable[[], None]) -> None:
        """Ask a store for something that takes effect later, by `work`."""
        try:
            ask()
        except FencedError:
            assert process.fenced
            return
        process.queue.append(work)
        if process not in self.waiting:
            self.waiting.append(process)

    def held(self) -> list[tuple[Process, str]]:
        """Return the turns that are held by a process that goes on, with that process."""
        return [
            (process, turn_id)
            for process in self.processes
            for turn_id, turn in self.turns.items()
            if turn.holder == process.number
        ]

    def dead(self, number: int | None) -> bool:
        """Whether a runtime has ended, as far as anybody can see."""
        return not any(p.number == number and p.alive for p in self.processes)

    # ------------------------------------------------------------------ what happens

    @rule(k=st.sampled_from(PROCESSES), session=SESSIONS, frames=st.lists(FRAMES, max_size=2))
    def begin(self, k: int, session: str | None, frames: list[bytes]) -> None:
        """A process begins a turn."""
        process, turn_id = self.processes[k], f"t-{len(self.turns):03}"
        if process.fenced:
            return
        num = process.store.begin(head(turn_id, session=session))
        for frame in frames:
            process.store.append(num, frame)
        turn = self.turns[turn_id] = Turn(num, session, process.number)
        self.queued(process, lambda: None, lambda: turn.frames.extend(frames))
        self.tick()

    @precondition(lambda self: self.held())
    @rule(frame=FRAMES, data=st.data())
    def append(self, frame: bytes, data: st.DataObject) -> None:
        """A process queues a frame of a turn that it runs, or believes to run."""
        process, turn_id = data.draw(st.sampled_from(self.held()))
        self.append_to(process, self.turns[turn_id], frame)

    def append_to(self, process: Process, turn: Turn, frame: bytes) -> None:
        """Let a process queue a frame."""
        self.queued(
            process,
            lambda: process.store.append(turn.num, frame),
            lambda: turn.frames.append(frame),
        )

    @precondition(lambda self: self.held())
    @rule(status=st.sampled_from([*PARKED, *TurnStatus]), data=st.data())
    def mark(self, status: TurnStatus, data: st.DataObject) -> None:
        """A process says how a turn that it runs stands."""
        process, turn_id = data.draw(st.sampled_from(self.held()))
        turn = self.turns[turn_id]

        def work() -> None:
            turn.status = turn.parked_as(status, process.number)
            turn.holder = process.number if status is TurnStatus.RUNNING else None

        self.queued(process, lambda: process.store.mark(turn.num, status, 2.0), work)
        self.tick()

    @rule()
    def wait(self) -> None:
        """Everybody's queue is committed."""
        self.tick()

    @precondition(lambda self: self.turns)
    @rule(k=st.sampled_from(PROCESSES), data=st.data())
    def claim(self, k: int, data: st.DataObject) -> None:
        """A process tries to take a turn."""
        self.take(self.processes[k], data.draw(st.sampled_from(sorted(self.turns))))

    def take(self, process: Process, turn_id: str) -> None:
        """Let a process claim a turn."""
        self.tick()
        turn = self.turns[turn_id]
        if process.fenced:
            with pytest.raises(FencedError):
                self.run(process.store.claim(turn_id, 3.0))
            return
        if not process.alive:
            return  # it would take its own turns from itself, which nobody promises
        answer = self.run(process.store.claim(turn_id, 3.0))
        if turn.status.final:
            assert answer == Over(turn.frames)
        elif turn.holder is not None and not self.dead(turn.holder):
            assert isinstance(answer, Held)
        else:
            assert isinstance(answer, Claimed)
            assert (answer.num, answer.frames) == (turn.num, turn.frames)
            for other in self.processes:
                other.fenced |= other.number == turn.holder
            turn.holder, turn.status = process.number, TurnStatus.RUNNING
            turn.known[process.number] = turn.words

    @precondition(lambda self: self.turns)
    @rule(k=st.sampled_from(PROCESSES), frame=st.none() | FRAMES, data=st.data())
    def amend(self, k: int, frame: bytes | None, data: st.DataObject) -> None:
        """Somebody says something about a turn, most of the time about one that waits for it."""
        self.tick()
        parked = [turn_id for turn_id, turn in self.turns.items() if turn.status in PARKED]
        turn_id = data.draw(st.sampled_from(parked or sorted(self.turns)))
        turn, shown = self.turns[turn_id], []

        def decide(frames: list[bytes]) -> bytes | None:
            shown.append(frames)
            return frame

        assert self.run(self.processes[k].store.amend(turn_id, decide))
        assert shown == [turn.frames]
        if frame is not None:
            turn.frames.append(frame)
            turn.words += 1
            if turn.status in PARKED:
                turn.status = TurnStatus.STOPPED

    @rule(k=st.sampled_from(PROCESSES))
    def end(self, k: int) -> None:
        """A process ends, whatever it still held, and another begins."""
        self.tick()
        self.run(self.processes[k].store.close())
        self.processes[k].alive = False
        self.processes[k] = self.started()

    @precondition(lambda self: self.held())
    @rule(k=st.sampled_from(PROCESSES), frame=FRAMES, data=st.data())
    def lapse(self, k: int, frame: bytes, data: st.DataObject) -> None:
        """Nobody believes a process any more, somebody takes a turn of it, and it goes on."""
        process, turn_id = data.draw(st.sampled_from(self.held()))
        if process.alive:
            self.place.declare_dead(process.store)
            process.alive = False
        turn = self.turns[turn_id]
        self.append_to(process, turn, frame)
        self.take(self.processes[k], turn_id)
        self.append_to(process, turn, frame)

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def agree(self) -> None:
        """Every process reads what the model says is committed."""
        newest = sorted(self.turns, reverse=True)
        for process in self.processes:
            store = process.store
            for turn_id, turn in self.turns.items():
                assert store.frames(turn_id) == turn.frames
            rows = store.heads()
            assert [row.turn_id for row in rows] == newest
            for row in rows:
                turn = self.turns[row.turn_id]
                held = turn.holder is not None and not self.dead(turn.holder)
                assert (row.status, row.session, row.held) == (turn.status, turn.session, held)
            assert store.unfinished() == [
                turn_id
                for turn_id, turn in sorted(self.turns.items())
                if turn.status in (TurnStatus.RUNNING, TurnStatus.STOPPED)
                and self.dead(turn.holder)
            ]

    def teardown(self) -> None:
        """Close what is open."""
        for process in self.processes:
            self.run(process.store.close())
        self.runner.close()


class InMemory(Journal):
    """On a journal in memory."""

    def make_place(self) -> Place:
        """Return where the journal is kept."""
        return MemoryPlace()


class InFile(Journal):
    """On a journal in a file."""

    def make_place(self) -> Place:
        """Return where the journal is kept."""
        self.folder = Path(tempfile.mkdtemp())
        return SqlitePlace(self.folder / "journal.db")

    def teardown(self) -> None:
        """Close what is open, and leave nothing behind."""
        super().teardown()
        shutil.rmtree(self.folder)


TestInMemory = InMemory.TestCase
TestInMemory.settings = settings(max_examples=60, stateful_step_count=40)
TestInFile = InFile.TestCase
TestInFile.settings = settings(max_examples=25, stateful_step_count=40)

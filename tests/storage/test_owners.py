"""Ownership on every store against a model of it: who may write where, whoever dies or sleeps.

The model is strict about what must not happen and lenient where a turn was taken from a
process that goes on: its other leases may be kept until that turn has ended.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.storage.places import (
    MemoryPlace,
    Place,
    SqlitePlace,
    asked,
    began,
    claimed,
    committed,
    finished,
    halted,
    noted,
)
from undercroft.errors import LapsedError
from undercroft.model.lease import Denied, Granted
from undercroft.model.outcome import TurnStatus
from undercroft.ports import Store

T = TypeVar("T")

PROCESSES = range(3)
KEYS = ["a", "a/1", "a/2", "b", ""]
MODES = ["append", "write", "exclusive"]
HALTS = [TurnStatus.DONE, TurnStatus.FAILED, TurnStatus.WAITING, TurnStatus.STOPPED]


def overlapping(one: str, other: str) -> bool:
    """Whether one of two keys lies within the other."""
    return not one or not other or f"{one}/".startswith(f"{other}/") or other.startswith(f"{one}/")


@dataclass
class Lease:
    """What a turn owns; `open` are the steps that write there and have no outcome."""

    appends: bool
    open: set[int] = field(default_factory=set)


@dataclass
class Turn:
    """A turn as the model knows it; `runtime` runs it, or did before it died."""

    turn_id: str
    num: int
    runtime: int | None
    steps: int = 0
    leases: dict[str, Lease] = field(default_factory=dict)
    # Of steps without an outcome, what they claimed.
    open: dict[int, tuple[str, str]] = field(default_factory=dict)
    # What it might still own in the eyes of some process, since it was taken from one.
    shades: set[str] = field(default_factory=set)
    since: int = 0
    over: bool = False


class Owning(RuleBasedStateMachine):
    """Three processes, silent all the time, and their turns, which die, sleep and are resumed."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = self.make_place()
        self.turns: list[Turn] = []
        self.fence = 0
        # Of each key the position and turn of its last write.
        self.writes: dict[str, tuple[int, str]] = {}
        self.stores: list[Store] = [self.started() for _ in PROCESSES]

    def make_place(self) -> Place:
        """Return where the journal is kept."""
        raise NotImplementedError

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end."""
        return self.runner.run(work)

    def started(self) -> Store:
        """Return the store of a new process."""
        store = self.place.store(beats=False)
        self.run(store.open())
        return store

    def store_of(self, turn: Turn) -> Store | None:
        """Return the store of the live process that runs a turn."""
        return next((s for s in self.stores if s.runtime == turn.runtime), None)

    def running(self) -> list[Turn]:
        """Return the turns that a live process runs."""
        return [t for t in self.turns if not t.over and self.store_of(t) is not None]

    def drawn(self, data: st.DataObject) -> tuple[Turn, Store]:
        """Return one of the turns that run, and its store."""
        turn = data.draw(st.sampled_from(self.running()))
        store = self.store_of(turn)
        assert store is not None
        return turn, store

    def in_the_way(self, turn: Turn, mode: str, key: str) -> Iterator[tuple[Turn, str, Lease]]:
        """Yield the leases of others that keep a turn from owning a key."""
        for other in self.turns:
            for theirs, lease in other.leases.items():
                shared = mode == "append" and lease.appends
                if other is not turn and overlapping(key, theirs) and not shared:
                    yield other, theirs, lease

    # ------------------------------------------------------------------ what happens

    @rule(k=st.sampled_from(PROCESSES))
    def begin(self, k: int) -> None:
        """A process begins a turn."""
        store, turn_id = self.stores[k], f"t-{len(self.turns):03}"
        num = self.run(began(store, turn_id))
        self.turns.append(Turn(turn_id, num, store.runtime, since=store.position))

    @precondition(lambda self: self.running())
    @rule(
        data=st.data(), mode=st.sampled_from(MODES), key=st.sampled_from(KEYS), takes=st.booleans()
    )
    def intend(self, data: st.DataObject, mode: str, key: str, *, takes: bool) -> None:
        """A turn wants to write, and takes over from all others or from none."""
        turn, store = self.drawn(data)
        lapsed = {t.runtime: 1 for t in self.turns if t.runtime is not None} if takes else {}
        turn.steps += 1
        answer = self.run(asked(store, turn.num, f"{mode} {key}", n=turn.steps, lapsed=lapsed))
        owners = list(self.in_the_way(turn, mode, key))
        if isinstance(answer, Denied):
            shades = {o.turn_id for o in self.turns if any(overlapping(key, s) for s in o.shades)}
            known = {o.turn_id for o, _, _ in owners} if not takes else set()
            assert answer.owner in known | shades
            return
        assert takes or not owners, "two owners"
        told = {(t.turn_id, t.key): t.dirty for t in answer.taken}
        for other, theirs, lease in owners:
            assert told.get((other.turn_id, theirs)) is bool(lease.open)
            self.lose(other, theirs)
        self.grant(turn, store, mode, key, answer)

    def lose(self, turn: Turn, key: str) -> None:
        """A lease of a turn was taken over, and with it the turn from its process."""
        turn.leases.pop(key)
        turn.shades |= {key, *turn.leases}
        if self.store_of(turn) is not None:
            store = self.store_of(turn)
            assert store is not None
            self.run(self.refused(store, turn))
        turn.runtime = None

    async def refused(self, store: Store, turn: Turn) -> None:
        """See that a process cannot record anything for a turn that was taken from it."""

        async def record() -> None:
            store.append(turn.num, noted("late"))
            await (store.durable(num=turn.num) or asyncio.sleep(0))

        before = store.frames(turn.turn_id)
        with pytest.raises(LapsedError):
            await record()
        assert store.frames(turn.turn_id) == before

    def grant(self, turn: Turn, store: Store, mode: str, key: str, answer: Granted) -> None:
        """A turn became the owner of a key, or was."""
        assert answer.position > self.fence, "fences grow"
        assert store.position >= answer.position
        self.fence = answer.position
        lease = turn.leases.get(key)
        if lease is None:
            assert key in answer.owned or key in turn.shades
            lease = turn.leases[key] = Lease(mode == "append")
        if key in answer.owned:
            heard = {wrote.key: wrote for wrote in answer.wrote}
            for written, (at, by) in self.writes.items():
                if overlapping(written, key) and by != turn.turn_id and at > turn.since:
                    assert heard[written].position >= at, "told of every write of others"
        lease.appends &= mode == "append"
        lease.open.add(turn.steps)
        turn.open[turn.steps] = (mode, key)

    @precondition(lambda self: any(t.open for t in self.running()))
    @rule(data=st.data(), wrote=st.booleans())
    def finish(self, data: st.DataObject, *, wrote: bool) -> None:
        """A write of a turn has its outcome, maybe in a later life of the turn."""
        turn = data.draw(st.sampled_from([t for t in self.running() if t.open]))
        store = self.store_of(turn)
        assert store is not None
        n = data.draw(st.sampled_from(sorted(turn.open)))
        mode, key = turn.open.pop(n)

        async def outcome() -> int:
            finished(store, turn.num, n, f"{mode} {key}", wrote=wrote)
            at = await committed(store)
            assert at is not None
            return at

        at = self.run(outcome())
        if wrote:
            self.writes[key] = (at, turn.turn_id)
        lease = turn.leases.get(key)
        if lease is not None:
            lease.open.discard(n)
            if lease.appends and not lease.open:
                del turn.leases[key]

    @precondition(lambda self: self.running())
    @rule(data=st.data(), status=st.sampled_from(HALTS))
    def halt(self, data: st.DataObject, status: TurnStatus) -> None:
        """A turn ends, parks or stops."""
        turn, store = self.drawn(data)
        self.run(halted(store, turn.num, status))
        turn.leases.clear()
        turn.shades.clear()
        turn.runtime, turn.over = None, status.final

    @precondition(lambda self: any(not t.over for t in self.turns))
    @rule(data=st.data(), k=st.sampled_from(PROCESSES))
    def resume(self, data: st.DataObject, k: int) -> None:
        """A process takes up a turn that no live one runs."""
        idle = [t for t in self.turns if not t.over and self.store_of(t) is None]
        if not idle:
            return
        turn, store = data.draw(st.sampled_from(idle)), self.stores[k]
        known = max([0, *(at for at, by in self.writes.values() if by == turn.turn_id)])
        turn.num = self.run(claimed(store, turn.turn_id))
        turn.runtime = store.runtime
        turn.since = max(turn.since, known)

    @rule(k=st.sampled_from(PROCESSES))
    def die(self, k: int) -> None:
        """A process ends, whatever its turns own, and another begins."""
        self.run(self.stores[k].close())
        self.stores[k] = self.started()

    @rule(k=st.sampled_from(PROCESSES))
    def note(self, k: int) -> None:
        """A process writes something that concerns nobody else."""
        store = self.stores[k]

        async def write() -> None:
            for turn in self.running():
                if turn.runtime == store.runtime:
                    store.append(turn.num, noted("beside"))
            await committed(store)

        self.run(write())

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def nobody_shares(self) -> None:
        """Of any two leases that overlap both append, or they are of one turn."""
        for turn in self.turns:
            for key, lease in turn.leases.items():
                mode = "append" if lease.appends else "write"
                assert not list(self.in_the_way(turn, mode, key))

    def teardown(self) -> None:
        """Close what is open."""
        for store in self.stores:
            self.run(store.close())
        self.runner.close()


class InMemory(Owning):
    """On a journal in memory."""

    def make_place(self) -> Place:
        """Return where the journal is kept."""
        return MemoryPlace()


class InFile(Owning):
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
TestInMemory.settings = settings(max_examples=100, stateful_step_count=40)
TestInFile = InFile.TestCase
TestInFile.settings = settings(max_examples=8, stateful_step_count=30)

"""A journal tells the checker what happened in which order, and no more than it proves."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from undercroft.engine.audit import audit_events, audit_frames, history_of
from undercroft.layers.conflicts.history import Operation, Rechecked
from undercroft.layers.conflicts.keys import overlap
from undercroft.model.event import (
    NIL,
    AnyEvent,
    ApprovalVoided,
    DoubtSettled,
    HandedOver,
    ResourceOwned,
    StepEnded,
    StepStarted,
    TurnEnded,
    TurnParked,
    TurnResumed,
    TurnStarted,
    TurnStopped,
    VersionChecked,
    encode_frame,
)
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import StepStatus
from undercroft.testing import run_virtual

Told = tuple[str, AnyEvent]
CHANGING = ("append", "write", "exclusive")
KEYS = ["a", "a/1", "a/1/x", "a/2", "b", "a/*/x"]


def began(turn: str, runtime: int = 1) -> Told:
    """Return the begin of a turn."""
    return turn, TurnStarted(turn, "handler", "m:h", b"", NIL, None, 0.0, runtime)


def ended(turn: str) -> Told:
    """Return the end of a turn."""
    return turn, TurnEnded(TurnStatus.DONE, 0.0)


def start(turn: str, n: int, mode: str, key: str, tick: int = 0, **more: Any) -> Told:
    """Return the begin of a step."""
    changes = mode in CHANGING
    fields: dict[str, Any] = {
        "changes": changes,
        "fp": b"f",
        "claims": ((mode, key),),
        "tick": tick,
    } | more
    return turn, StepStarted(n, "s", "tool", 0.0, **fields)


def end(turn: str, n: int, tick: int = 0, status: StepStatus = StepStatus.OK, **more: Any) -> Told:
    """Return the end of a step."""
    return turn, StepEnded(n, status, 0.0, tick=tick, **more)


def step(turn: str, n: int, mode: str, key: str, tick: int = 0, **more: Any) -> list[Told]:
    """Return a step that begins at a tick and ends at the next."""
    return [start(turn, n, mode, key, tick), end(turn, n, tick and tick + 1, **more)]


def found(*told: Any) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    """Return the rules and steps of the anomalies in what was told, one by one or in lists."""
    events: list[Told] = []
    for item in told:
        if isinstance(item, tuple):
            events.append(item)
        else:
            events += item
    anomalies = audit_events(events)
    frames = [(place, turn, encode_frame([event])) for place, (turn, event) in enumerate(events)]
    assert audit_frames(frames) == anomalies
    return [(a.rule.removeprefix("conflicts."), a.steps) for a in anomalies]


# ---------------------------------------------------------------------- each anomaly, by hand


def two(runtime: int = 1) -> list[Told]:
    """Return the begins of two turns, the second on another runtime."""
    return [began("A"), began("B", runtime)]


@pytest.mark.parametrize("ticks", [True, False], ids=["ticks", "older journal"])
@pytest.mark.parametrize("runtime", [1, 2], ids=["one process", "two"])
def test_a_lost_update_is_found(runtime: int, *, ticks: bool) -> None:
    """A write is named that rests on a read which another turn outdated, with or without ticks."""
    t = int(ticks)
    story = [
        two(runtime if ticks else 0),
        step("A", 1, "read", "z", 1 * t),
        step("B", 1, "write", "z", 3 * t),
        ended("B"),
        step("A", 2, "write", "z", 5 * t),
    ]
    steps = (("A", "s.1"), ("B", "s.1"), ("A", "s.2"))
    assert ("lost_update", steps) in found(*story)


def test_a_recheck_makes_a_write_good() -> None:
    """What was read again before the write, or in it, is not lost."""
    again = ("A", VersionChecked(2, ("z",), same=True, why="written", at=0, took_s=0, tick=6))
    before = [two(), step("A", 1, "read", "z", 1), step("B", 1, "write", "z", 3), ended("B")]
    assert found(*before, again, step("A", 2, "write", "z", 7)) == []
    write, done = step("A", 2, "write", "z", 5)
    assert found(*before, write, again, done) == []


def test_a_stale_write_is_found() -> None:
    """By version, or by hash for the same question, and never across different questions."""
    for same, one, other in (
        (False, {"version": "v1"}, {"version": "v2"}),
        (True, {"version": "v1"}, {"version": "v1"}),
        (False, {"value": msgspec.Raw(b"\x01")}, {"value": msgspec.Raw(b"\x02")}),
        (True, {"value": msgspec.Raw(b"\x01")}, {"value": msgspec.Raw(b"\x01")}),
        (True, {"value": msgspec.Raw(b"\x01")}, {"version": "v2"}),
    ):
        anomalies = found(
            two(),
            step("A", 1, "read", "z", 1, **one),
            step("B", 1, "read", "z", 3, **other),
            step("A", 2, "write", "z", 5),
        )
        steps = (("A", "s.1"), ("B", "s.1"), ("A", "s.2"))
        assert anomalies == ([] if same else [("stale_write", steps)])


def test_a_write_against_its_own_recheck_is_found() -> None:
    """A re-check that said no forbids the step, unless it was asked about anew."""
    no = ("A", VersionChecked(2, ("z",), same=False, why="approved", at=0, took_s=0, tick=3))
    void = ("A", ApprovalVoided(2, "changed", 0.0))
    read, write = step("A", 1, "read", "z", 1), step("A", 2, "write", "z", 4)
    assert found(began("A"), read, no, write) == [("stale_write", (("A", "s.2"),))]
    assert found(began("A"), read, no, void, write) == []


def test_a_write_by_a_non_owner_is_found() -> None:
    """Until its turn ends, parks, stops or is taken over, what a turn wrote is its own."""
    mine, theirs = step("A", 1, "write", "z", 1), step("B", 1, "write", "z/7", 3)
    guilty = [("not_owner", (("A", "s.1"), ("B", "s.1")))]
    parked = ("A", TurnParked(TurnStatus.WAITING, (), 0.0))
    stopped = ("A", TurnStopped("", 0.0))
    taken = ("B", ResourceOwned(1, ("z/7",), 2, ("advisory",), 0.0, taken_from="A"))
    for runtime in (1, 2):
        assert found(two(runtime), mine, theirs) == guilty
        assert found(two(runtime), mine, stopped, theirs) == []
        assert found(two(runtime), mine, ended("A"), theirs) == []
        assert found(two(runtime), mine, parked, theirs) == []
        assert found(two(runtime), mine, taken, theirs) == []
        assert found(two(runtime), mine, theirs[0], taken, theirs[1]) == []


def test_a_branch_writes_only_what_it_was_handed() -> None:
    """A branch does not write what another branch of its turn owns."""
    mine = step("A", 1, "write", "z", 1)
    theirs = [start("A", 2, "write", "z", 3, branch="x"), end("A", 2, 4)]
    handed = ("A", HandedOver("z", "", "x", 0.0))
    assert found(began("A"), mine, theirs) == [("not_owner", (("A", "s.1"), ("A", "s.2")))]
    assert found(began("A"), mine, handed, theirs) == []


def test_conflicting_steps_at_the_same_time_are_found() -> None:
    """By ticks in one process; across processes, of writes only, by what was durable when."""
    one, other = step("A", 1, "read", "z", 1), step("B", 1, "write", "z", 2)
    woven = [one[0], other[0], end("A", 1, 3), end("B", 1, 4)]
    steps = (("A", "s.1"), ("B", "s.1"))
    assert found(two(), woven) == [("unordered", steps)]
    assert found(two(2), woven) == []
    # The read's end was recorded late; its tick says that it was over.
    assert found(two(), one[0], step("B", 1, "write", "z", 3), end("A", 1, 2)) == []
    writes = [start("A", 1, "append", "z", 1), start("B", 1, "write", "z", 1)]
    assert found(two(2), writes, end("A", 1, 2), end("B", 1, 2)) == [("unordered", steps)]


def test_a_cycle_is_found() -> None:
    """Turns that each came before the other, also of two processes."""
    for runtime in (1, 2):
        anomalies = found(
            two(runtime),
            step("A", 1, "read", "x", 1),
            step("B", 1, "read", "y", 3),
            step("B", 2, "write", "x", 5),
            ended("B"),
            step("A", 2, "write", "y", 7),
        )
        assert [rule for rule, _ in anomalies] == ["cycle"]
        assert {turn for turn, _ in anomalies[0][1]} == {"A", "B"}


# ---------------------------------------------------------------------- what is not proven


def test_a_read_is_in_no_order_with_a_write_elsewhere_that_is_not_proven() -> None:
    """A read recorded after another process's write may have happened before or after it."""
    early = step("A", 1, "read", "z", 1)
    foreign = [*step("B", 1, "write", "z", 1), ended("B")]
    assert found(two(2), early[0], foreign, early[1], step("A", 2, "write", "z", 3)) == []
    # A write of its process that began after the read, and was durable before, proves it.
    proof = [began("C"), *step("C", 1, "write", "c", 3)]
    lost = found(two(2), early[0], proof, foreign, early[1], step("A", 2, "write", "z", 5))
    assert ("lost_update", (("A", "s.1"), ("B", "s.1"), ("A", "s.2"))) in lost


def test_what_was_cut_off_only_began() -> None:
    """A step without an end took effect only if it is a write; then it may have."""
    turn: list[Told] = [
        began("A"),
        start("A", 1, "read", "r", 1),
        start("A", 2, "write", "w", 2),
        ("A", TurnStopped("", 0.0)),
        ("A", TurnResumed(2, 0.0)),
        start("A", 1, "read", "r", 1),
        end("A", 1, 2),
    ]
    ops = [record for record in history_of(turn) if isinstance(record, Operation)]
    assert [(op.n, op.runtime, op.end, op.ok) for op in ops] == [
        (1, 1, None, False),
        (2, 1, None, True),
        (1, 2, 2, True),
    ]
    no = ("A", DoubtSettled(2, applied=False, how="person", by="ann", at=0.0))
    assert [op.ok for op in history_of([*turn, no]) if isinstance(op, Operation)] == [
        False,
        False,
        True,
    ]
    # Others may use what a stopped turn was reading.
    others = [began("B"), *step("B", 1, "write", "r", 3), ended("B")]
    assert found(turn, others) == []


def test_a_refused_or_failed_write_changed_nothing() -> None:
    """Only what took effect can be lost, and only who took effect owns."""
    for status in (StepStatus.FAILED, StepStatus.REFUSED):
        theirs = [start("B", 1, "write", "z", 3), end("B", 1, 4, status), ended("B")]
        assert (
            found(two(), step("A", 1, "read", "z", 1), theirs, step("A", 2, "write", "z", 5)) == []
        )


def test_marks_and_operations_come_in_the_order_of_their_begins() -> None:
    """A history begins with what began first, whatever was recorded first."""
    told = [*two(), start("A", 1, "read", "z", 1), *step("B", 1, "read", "z", 2), end("A", 1, 4)]
    again = ("A", VersionChecked(2, ("z",), same=True, why="written", at=0, took_s=0, tick=5))
    kinds = [r.turn if isinstance(r, Operation) else type(r) for r in history_of([*told, again])]
    assert kinds == ["A", "B", Rechecked]


# ---------------------------------------------------------------------- correct journals


class World:
    """Processes that keep the rules, and journals that are written as late as allowed."""

    def __init__(self, random: Any) -> None:
        self.random = random
        self.journal: list[Told] = []
        self.late: dict[str, list[Told]] = {}
        self.ticks = {1: 0, 2: 0, 3: 0}
        self.at: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        # By turn, what it owns, and what it knows since when.
        self.owned: dict[str, set[str]] = {}
        self.known: dict[str, dict[str, int]] = {}
        self.wrote: list[tuple[int, str, str]] = []
        self.now = 0

    def begin(self, turn: str) -> None:
        """Begin a turn on any process."""
        self.at[turn] = self.random.choice(sorted(self.ticks))
        self.steps[turn], self.owned[turn], self.known[turn] = 0, set(), {}
        self.late[turn] = [began(turn, self.at[turn])]

    def tick(self, turn: str) -> int:
        """Return the next tick of the process of a turn."""
        self.ticks[self.at[turn]] += 1
        return self.ticks[self.at[turn]]

    def flush(self, turn: str) -> None:
        """Commit what a turn has noted."""
        self.journal += self.late[turn]
        self.late[turn].clear()

    def use(self, turn: str, mode: str, key: str) -> None:
        """Do one step, unless the rules forbid it."""
        self.now += 1
        n = self.steps[turn] = self.steps[turn] + 1
        late = self.late[turn]
        if mode in CHANGING:
            for other, owned in self.owned.items():
                if other != turn and any(overlap(key, o) for o in owned):
                    return
            stale = [
                known
                for known, since in self.known[turn].items()
                if any(
                    at > since and who != turn and overlap(known, k) for at, who, k in self.wrote
                )
                and overlap(known, key)
            ]
            if stale:
                tick = self.tick(turn)
                late.append(
                    (turn, VersionChecked(n, tuple(stale), True, "written", 0, 0, tick))  # noqa: FBT003
                )
                self.known[turn].update(dict.fromkeys(stale, self.now))
        late.append(start(turn, n, mode, key, self.tick(turn)))
        if mode in CHANGING:
            self.flush(turn)
            self.owned[turn].add(key)
            self.wrote.append((self.now, turn, key))
            for known in self.known[turn]:
                if overlap(known, key):
                    self.known[turn][known] = self.now
        elif mode == "read":
            self.known[turn][key] = self.now
        late.append(end(turn, n, self.tick(turn)))
        if self.random.random() < 0.3:
            self.flush(turn)

    def end(self, turn: str) -> None:
        """End a turn, or park it: all it did is durable, and it owns nothing."""
        parks = self.random.random() < 0.3
        parked = (turn, TurnParked(TurnStatus.WAITING, (), 0.0))
        self.late[turn].append(parked if parks else ended(turn))
        self.flush(turn)
        self.owned[turn] = set()

    def move(self, turn: str) -> None:
        """Take a turn up in another process, knowing what it knew."""
        self.at[turn] = self.random.choice(sorted(self.ticks))
        self.late[turn] = [(turn, TurnResumed(self.at[turn], 0.0))]


@settings(max_examples=300)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_a_correct_run_has_no_anomaly_however_late_it_was_written(random: Any, size: int) -> None:
    """Steps of several processes, one at a time and by the rules, prove nothing wrong."""
    world = World(random)
    turns: list[str] = []
    for number in range(size):
        if len(turns) < 3:
            turns.append(f"t{number}")
            world.begin(turns[-1])
        turn = random.choice(turns)
        match random.random():
            case x if x < 0.1 and not world.late[turn]:
                world.move(turn)
            case x if x < 0.2:
                world.end(turn)
                turns.remove(turn)
            case _:
                mode = random.choice(["peek", "read", "read", "append", "write", "exclusive"])
                world.use(turn, mode, random.choice(KEYS))
    for turn in turns:
        world.end(turn)
    # Turns that keep the rules may still form cycles: a rule speaks of one resource at a time.
    assert [a for a in audit_events(world.journal) if a.rule != "conflicts.cycle"] == []


def shop() -> Any:
    """Return a handler that looks, changes and notes, on accounts that several turns share."""
    tiers: dict[str, int] = {}

    @uc.tool(reads="crm/{account_id}", service="crm")
    async def get_tier(account_id: str) -> int:
        """Look a tier up."""
        await asyncio.sleep(0.001)
        return tiers.get(account_id, 0)

    @uc.tool(writes="crm/{account_id}", service="crm")
    async def set_tier(account_id: str, tier: int) -> int:
        """Change a tier."""
        await asyncio.sleep(0.001)
        tiers[account_id] = tier
        return tier

    @uc.tool(appends="log", service="log")
    async def note(text: str) -> str:
        """Write something down."""
        return text

    @uc.handler(tools=[get_tier, set_tier, note])
    async def raise_tiers(turn: uc.Turn, accounts: list[str]) -> int:
        seen = await turn.calls([uc.Call("get_tier", {"account_id": a}) for a in accounts])
        for account, result in zip(accounts, seen, strict=True):
            await turn.calls(
                [
                    uc.Call("set_tier", {"account_id": account, "tier": result.value + 1}),
                    uc.Call("note", {"text": account}),
                ]
            )
        return len(seen)

    return raise_tiers


def test_journals_of_the_runtime_have_no_anomaly(tmp_path: Path) -> None:
    """Turns that the runtime ran one after another, in two processes, did nothing wrong."""
    path = tmp_path / "journal.db"

    async def run() -> None:
        handler = shop()
        for accounts in (["1", "2"], ["2", "3"], ["1"]):
            async with uc.Runtime(path) as rt:
                for _ in range(2):
                    outcome = await rt.run(handler, accounts=accounts)
                    assert outcome.status is TurnStatus.DONE

    run_virtual(run())
    with closing(sqlite3.connect(path)) as connection:
        frames = connection.execute("SELECT seq, turn, data FROM frame ORDER BY seq").fetchall()
    events = [event for _, _, data in frames for event in msgspec.msgpack.decode(data)]
    assert sum(event[0] == "start" for event in events) == 6 * 5
    assert audit_frames(frames) == []

"""Ownership between real turns: of one runtime, and of several on one journal."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from undercroft.engine.audit import audit_events
from undercroft.engine.system import SystemIds
from undercroft.layers.conflicts.anomalies import CYCLE
from undercroft.model.event import decode_frames
from undercroft.ports import Store
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.storage.sqlite import SqliteStore
from undercroft.testing import run_virtual

Said = list[dict[str, Any]]
MakeStore = Callable[..., Store]
POLL_S = 0.25


@dataclass
class World:
    """Records outside, who touched them in which order, and gates at which turns wait."""

    values: dict[str, int] = field(default_factory=dict)
    etags: dict[str, int] = field(default_factory=dict)
    log: list[tuple[Any, ...]] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)

    def gate(self, name: str) -> asyncio.Event:
        """Return a gate, closed at first."""
        return self.gates.setdefault(name, asyncio.Event())

    def count(self, what: str) -> int:
        """Return how many calls of a kind there were."""
        return sum(entry[0] == what for entry in self.log)


class OrderedIds:
    """Ids in the order of asking, and no jitter."""

    numbers = itertools.count(1)

    def turn(self, at: float) -> str:
        """Return a new id."""
        del at
        return f"t-{next(self.numbers):06}"

    def jitter(self) -> float:
        """Return 0."""
        return 0.0


def told(result: uc.Result) -> dict[str, Any]:
    """Return what came of a call, as data."""
    refusal = result.refusal
    return {
        "said": refusal.rule if refusal else str(result.status),
        "facts": dict(refusal.facts) if refusal else {},
        "at": now_s(),
        "value": result.value,
    }


def acting(world: World) -> Any:  # noqa: C901  six tools and who calls them
    """Return a handler that does what it is told, one call after another."""

    @uc.tool(reads="acct/{key}")
    async def look(key: str) -> int:
        world.log.append(("look", key))
        return world.values.get(key, 0)

    @uc.tool(reads="acct/{key}", version=lambda found: found["etag"])
    async def tagged(key: str) -> dict[str, int]:
        world.log.append(("tagged", key))
        return {"value": world.values.get(key, 0), "etag": world.etags.get(key, 0)}

    @uc.tool(writes="acct/{key}", read_first=False)
    async def put(key: str, value: int, fence: uc.Fence, gate: str = "") -> int:
        world.log.append(("put", key, value, int(fence)))
        if gate:
            world.gate(f"{gate} begun").set()
            await world.gate(gate).wait()
        world.values[key] = value
        return value

    @uc.tool(writes="acct/{key}", read_first=False)
    async def sure(key: str, value: int, idem: uc.IdempotencyKey, gate: str = "") -> int:
        if gate:
            world.gate(f"{gate} begun").set()
            await world.gate(gate).wait()
        world.values[key] = value
        return value

    @uc.tool(appends="acct/{key}")
    async def add(key: str) -> int:
        world.log.append(("add", key))
        await asyncio.sleep(1)
        return 1

    @uc.tool(writes="asked/{key}", approval=True)
    async def confirm(key: str) -> str:
        return f"confirmed {key}"

    @uc.handler(tools=[look, tagged, put, sure, add, confirm])
    async def act(turn: uc.Turn, plan: list[list[Any]]) -> Said:
        said: Said = []
        for name, *rest in plan:
            if name == "pause":
                await asyncio.sleep(rest[0])
            elif name == "gate":
                world.gate(f"{rest[0]} begun").set()
                await world.gate(rest[0]).wait()
            else:
                arguments = dict(zip(("key", "value", "gate"), rest, strict=False))
                said.append(told(*await turn.calls([uc.Call(name, arguments)])))
        return said

    # Resumed by this name in every runtime.
    act.fn.__qualname__ = "act"
    return act


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Return what makes stores; all of a test share one journal."""
    journal = MemoryJournal()

    def make(**options: Any) -> Store:
        if request.param == "memory":
            return MemoryStore(journal, **options)
        return SqliteStore(tmp_path / "journal.db", sync="never", **options)

    return make


@asynccontextmanager
async def runtimes(
    world: World, *stores: Store, wait_s: float = 30.0, **options: Any
) -> AsyncIterator[list[uc.Runtime]]:
    """Open a runtime on each store; in the end nobody holds or waits for anything."""
    act = acting(world)
    policy = uc.Ownership(wait_s=wait_s)
    async with AsyncExitStack() as stack:
        opened = []
        for each in stores:
            rt = uc.Runtime(
                each, targets=[act], ownership=policy, ids=options.get("ids", OrderedIds()),
                clock=options.get("clock"),
            )  # fmt: skip
            opened.append(await stack.enter_async_context(rt))
        yield opened
        for gate in world.gates.values():
            gate.set()
    for rt in opened:
        assert at_desk(rt) == 0


def at_desk(rt: uc.Runtime) -> int:
    """Return how many steps of a runtime hold claims, or wait for some."""
    return len(rt._runner._setting.desk)  # noqa: SLF001  nobody else can tell


async def done(rt: uc.Runtime, world: World, *plan: tuple[Any, ...], **options: Any) -> Said:
    """Run a turn to its end; return what came of each call."""
    outcome = await rt.run(acting(world), plan=[list(step) for step in plan], **options)
    assert outcome.status == "done", outcome
    said: Said = outcome.value
    return said


def begin(
    rt: uc.Runtime, world: World, *plan: tuple[Any, ...], **options: Any
) -> asyncio.Task[Said]:
    """Let a turn run beside."""
    return asyncio.ensure_future(done(rt, world, *plan, **options))


def words(said: Said) -> list[str]:
    """Return the status of each call, or the rule by which it was refused."""
    return [each["said"] for each in said]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something, at most a few seconds."""
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about")


def now_s() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


def events(rt: uc.Runtime, turn_id: str) -> list[Any]:
    """Return what the journal holds of a turn."""
    return list(decode_frames(rt._store.frames(turn_id) or []))  # noqa: SLF001  as it is written


class Silent(MemoryStore):
    """A journal in memory whose process never says that it is well."""

    def _beat(self) -> None:
        """Say nothing."""


apart = pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])


# Owning and waiting


@apart
def test_the_first_write_owns_until_the_turn_ends(store: MakeStore, *, apart: bool) -> None:
    """Another turn's write waits until the owner has ended, and then goes through."""

    async def main() -> None:
        world = World()
        async with runtimes(world, store(), store()) as (one, two):
            owner = begin(one, world, ("put", "a", 1), ("pause", 5), ("put", "b", 1))
            await asyncio.sleep(1)
            (said,) = await done(two if apart else one, world, ("put", "a", 2))
            assert words(await owner) == ["ok", "ok"]
            assert said["said"] == "ok"
            assert 5 <= said["at"] <= 5 + POLL_S
            assert [entry[1:3] for entry in world.log] == [("a", 1), ("b", 1), ("a", 2)]

    run_virtual(main())


@apart
def test_a_turn_that_parks_owns_nothing(store: MakeStore, *, apart: bool) -> None:
    """While a person is waited for, others may write; once taken up the turn owns again."""

    async def main() -> None:
        world = World()
        async with runtimes(world, store(), store()) as (one, two):
            other = two if apart else one
            plan = [["put", "a", 1], ["confirm", "x"], ["put", "a", 3], ["pause", 5]]
            parked = await one.run(acting(world), plan=plan)
            assert parked.status == "waiting"
            assert words(await done(other, world, ("put", "a", 2))) == ["ok"]
            resumed = asyncio.ensure_future(one.approve(parked.turn_id, by="Ada"))
            await until(lambda: world.values["a"] != 2)
            began_s = now_s()
            (said,) = await done(other, world, ("put", "a", 4))
            assert (said["said"], said["at"] - began_s > 4) == ("ok", True)
            # It never read `a`, so its word on it stands.
            assert words((await resumed).value) == ["ok", "ok", "ok"]

    run_virtual(main())


@apart
@pytest.mark.parametrize("wait_s", [0.0, 3.0])
def test_who_waits_too_long_is_refused(store: MakeStore, *, apart: bool, wait_s: float) -> None:
    """A write waits for an owner as long as was set, and is then refused; the turn goes on."""

    async def main() -> None:
        world = World()
        async with runtimes(world, store(), store(), wait_s=wait_s) as (one, two):
            owner = begin(one, world, ("put", "a", 1), ("pause", 60))
            await asyncio.sleep(1)
            said = await done(two if apart else one, world, ("put", "a", 2), ("put", "b", 2))
            assert words(said) == ["conflicts.owned", "ok"]
            assert said[0]["facts"]["key"] == "acct/a"
            assert said[0]["facts"]["owner"] == one.turns()[-1].turn_id
            assert 1 + wait_s <= said[0]["at"] <= 1 + wait_s + POLL_S
            assert world.count("put") == 2
            await owner

    run_virtual(main())


def test_appends_share_and_writes_do_not(store: MakeStore) -> None:
    """Turns that only add to a resource go on side by side; who writes it waits for them."""

    async def main() -> None:
        world = World()
        async with runtimes(world, store(), store()) as (one, two):
            adds = [begin(rt, world, ("add", "a"), ("pause", 10)) for rt in (one, two, one)]
            await asyncio.sleep(0.5)
            (said,) = await done(two, world, ("put", "a", 1))
            assert 1 <= said["at"] <= 1 + 2 * POLL_S, "their outcomes are there, and they go on"
            assert not any(task.done() for task in adds)
            await asyncio.gather(*adds)

    run_virtual(main())


@given(
    plans=st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from([0.0, 0.0, 0.3, 1.0]),
            st.lists(
                st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 0.2, 1.5])), max_size=4
            ),
        ),
        min_size=2,
        max_size=6,
    )
)
@settings(max_examples=80)
def test_no_ring_of_turns_waits_for_ever(
    plans: list[tuple[int, float, list[tuple[str, float]]]],
) -> None:
    """Whatever turns write in whatever order, all end, long before twice the longest wait."""

    async def main() -> None:
        world, journal = World(), MemoryJournal()
        async with runtimes(world, MemoryStore(journal), MemoryStore(journal), wait_s=20) as rts:

            async def turn(place: int, delay_s: float, writes: list[tuple[str, float]]) -> Said:
                await asyncio.sleep(delay_s)
                steps = [(("put", key, 1), ("pause", pause_s)) for key, pause_s in writes]
                return await done(rts[place], world, *itertools.chain(*steps))

            said = await asyncio.gather(*(turn(*plan) for plan in plans))
            assert now_s() < 40
            assert set(itertools.chain(*map(words, said))) <= {"ok", "conflicts.owned"}
            # A turn that owns nothing yet is never sent away.
            assert all(words(each)[0] == "ok" for each in said if each)
        assert not any(journal.owners.of(num) for num in journal.turns)
        assert found(journal) == []

    run_virtual(main())


def found(journal: MemoryJournal) -> list[Any]:
    """Return what a journal proves to have gone wrong, rings of mere reads apart."""
    frames = [
        (at, turn.head.turn_id, data) for turn in journal.turns.values() for at, data in turn.frames
    ]
    told = ((turn, event) for _, turn, data in sorted(frames) for event in decode_frames([data]))
    return [anomaly for anomaly in audit_events(told) if anomaly.rule != CYCLE]


# Knowing


@apart
def test_a_stale_write_is_refused_with_the_fresh_value(store: MakeStore, *, apart: bool) -> None:
    """A write that rests on what another turn changed since is refused, and says what is now.

    Proposed again it goes through: its turn knows the fresh value.
    """

    async def main() -> None:
        world = World()
        async with runtimes(world, store(), store()) as (one, two):
            late = begin(one, world, ("look", "a"), ("gate", "go"), *[("put", "a", 1)] * 2)
            await world.gate("go begun").wait()
            assert words(await done(two if apart else one, world, ("put", "a", 7))) == ["ok"]
            world.gate("go").set()
            said = await late
            assert words(said) == ["ok", "conflicts.stale_write", "ok"]
            assert said[1]["facts"]["seen"] == 0
            assert said[1]["facts"]["fresh"] == 7
            assert [entry[:3] for entry in world.log][-2:] == [("look", "a"), ("put", "a", 1)]

    run_virtual(main())


@apart
def test_what_turned_out_the_same_is_no_obstacle(store: MakeStore, *, apart: bool) -> None:
    """Where others wrote and the value is as the turn knew it, the write goes through."""

    async def main() -> None:
        world = World()
        async with runtimes(world, store(), store()) as (one, two):
            late = begin(one, world, ("look", "a"), ("gate", "go"), ("put", "a", 1))
            await world.gate("go begun").wait()
            await done(two if apart else one, world, ("put", "a", 7), ("put", "a", 0))
            world.gate("go").set()
            assert words(await late) == ["ok", "ok"]
            assert world.count("look") == 2

    run_virtual(main())


def test_own_writes_refresh_what_a_turn_knows(store: MakeStore) -> None:
    """A turn is never refused for what it changed itself, and nothing is read again for it."""

    async def main() -> None:
        world = World()
        async with runtimes(world, store()) as (rt,):
            plan = [("look", "a"), ("put", "a", 1), ("put", "a", 2), ("put", "a", 3)]
            assert words(await done(rt, world, *plan)) == ["ok"] * 4
            assert world.count("look") == 1

    run_virtual(main())


@pytest.mark.parametrize(("etag", "said"), [(0, "ok"), (1, "conflicts.stale_write")])
def test_a_version_says_what_counts(store: MakeStore, etag: int, said: str) -> None:
    """Where a tool declares a version it alone is compared, and before each write.

    So what changed behind the runtime's back is noticed too.
    """

    async def main() -> None:
        world = World()
        async with runtimes(world, store()) as (rt,):
            turn = begin(rt, world, ("tagged", "a"), ("gate", "go"), ("put", "a", 1))
            await world.gate("go begun").wait()
            world.values["a"], world.etags["a"] = 99, etag
            world.gate("go").set()
            assert words(await turn) == ["ok", said]

    run_virtual(main())


# What goes wrong around it


@pytest.mark.parametrize("owner", ["between", "inside"])
@pytest.mark.parametrize("cancelled_s", [0.0, 0.001, 0.015, 0.1, 3.0])
@apart
def test_who_gives_up_waiting_leaves_nothing_behind(
    store: MakeStore, owner: str, cancelled_s: float, *, apart: bool
) -> None:
    """A turn that is cancelled while it waits for an owner holds nothing afterwards.

    Its turn can be resumed, and then goes through.
    """

    async def main() -> None:
        world = World()
        inside = ("put", "a", 1, "hold") if owner == "inside" else ("put", "a", 1)
        async with runtimes(world, store(), store()) as (one, two):
            holding = begin(one, world, inside, ("gate", "hold"))
            await world.gate("hold begun").wait()
            other = two if apart else one
            act = acting(world)
            waiter = asyncio.ensure_future(other.run(act, plan=[["put", "a", 2]]))
            await asyncio.sleep(cancelled_s)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            world.gate("hold").set()
            await holding
            assert at_desk(one) == at_desk(two) == 0
            assert words(await done(one, world, ("put", "a", 3))) == ["ok"]
            for outcome in (await other.recover()).values():
                assert isinstance(outcome, uc.Outcome)
                assert outcome.status == "done"
                assert outcome.value[0]["said"] == "ok"
            assert words(await done(two, world, ("put", "a", 4))) == ["ok"]

    run_virtual(main())


class JumpyClock:
    """A clock whose wall is set back an hour at every other look."""

    def __init__(self) -> None:
        self._looks = 0
        self.now_s = asyncio.get_running_loop().time

    def wall_s(self) -> float:
        """Return seconds since 1970, more or less."""
        self._looks += 1
        return 1_800_000_000.0 + self.now_s() - 3_600.0 * (self._looks % 2) * self._looks

    async def sleep(self, duration_s: float) -> None:
        """Return after `duration_s` seconds."""
        await asyncio.sleep(duration_s)


def test_a_clock_that_is_set_back_changes_nothing() -> None:
    """Who owns, waits and takes over does not depend on the wall clock; fences still grow."""

    async def main() -> None:
        world, journal = World(), MemoryJournal()
        stores = Silent(journal, lease_s=10.0), MemoryStore(journal)
        options: dict[str, Any] = {"clock": JumpyClock(), "ids": SystemIds()}
        async with runtimes(world, *stores, **options) as (one, two):
            owner = begin(two, world, ("put", "a", 1), ("pause", 5))
            await asyncio.sleep(0.1)
            (said,) = await done(one, world, ("put", "a", 2))
            assert 5 <= said["at"] <= 5 + POLL_S
            await owner
            plans = [[("put", key, 1), ("pause", 0.3)] for key in "abcab"]
            turns = [
                begin(rts, world, *plans[k], *plans[-k])
                for k, rts in enumerate((one, two, one, two, two))
            ]
            assert {*itertools.chain(*map(words, await asyncio.gather(*turns)))} <= {
                "ok",
                "conflicts.owned",
            }
            plan = [["put", "a", 1], ["gate", "sleep"]]
            sleeper = asyncio.ensure_future(one.run(acting(world), plan=plan))
            await world.gate("sleep begun").wait()
            began_s = now_s()
            (said,) = await done(two, world, ("put", "a", 2))
            assert said["at"] - began_s <= 10 + 2 * POLL_S
            world.gate("sleep").set()
            with pytest.raises(uc.StoreError, match="took over"):
                await sleeper
            for key in "abc":
                fences = [entry[3] for entry in world.log if entry[:2] == ("put", key)]
                assert fences == sorted(set(fences))
        assert found(journal) == []

    run_virtual(main())


def together(work: Coroutine[Any, Any, None]) -> None:
    """Run on a loop of the wall clock, for what other threads and connections do."""
    asyncio.run(work)


def test_a_store_that_is_gone_for_a_while_loses_nothing(tmp_path: Path) -> None:
    """While the journal is locked for longer than a lease turns wait; then all of them end.

    None is refused for it, and no update is lost.
    """

    async def main() -> None:
        path, world = tmp_path / "journal.db", World()
        stores = [SqliteStore(path, sync="never", lease_s=0.2) for _ in range(2)]
        async with runtimes(world, *stores) as rts:
            plans = [("look", "a"), ("pause", 0.05), ("put", "a", 1), ("put", "b", 1)]
            running = [
                asyncio.ensure_future(rts[k % 2].run(acting(world), plan=[*map(list, plans)]))
                for k in range(6)
            ]
            await asyncio.sleep(0.06)
            lock = sqlite3.connect(path, isolation_level=None, timeout=5)
            lock.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(1.0)
            assert not all(task.done() for task in running)
            lock.execute("ROLLBACK")
            lock.close()
            ended = await asyncio.gather(*running, return_exceptions=True)
            # Whoever seemed silent for the whole of it may have been replaced: then it says so.
            assert {type(each).__name__ for each in ended} <= {"Outcome", "LapsedError"}
            outcomes = [each for each in ended if isinstance(each, uc.Outcome)]
            for recovered in [*(await rts[0].recover()).values()]:
                assert isinstance(recovered, uc.Outcome)
                outcomes.append(recovered)
            assert len(outcomes) == 6
            said = [words(each.value) for each in outcomes]
            assert {each[-1] for each in said} == {"ok"}
            assert [each[1] for each in said].count("ok") >= 1
            assert {each[1] for each in said} <= {"ok", "conflicts.stale_write"}
        connection = sqlite3.connect(path)
        frames = connection.execute("SELECT seq, turn, data FROM frame ORDER BY seq").fetchall()
        connection.close()
        told = ((turn, event) for _, turn, data in frames for event in decode_frames([data]))
        assert [anomaly for anomaly in audit_events(told) if anomaly.rule != CYCLE] == []

    together(main())

"""The task suites of AgentDojo on Undercroft: every task, and turns killed wherever it hurts.

Keeps: under 90 s on two cores; every life that is killed is a process of its own.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import pytest

import undercroft as uc
from undercroft.testing import ScriptedModel

from .bindings import (
    HANDLERS,
    MODES,
    UNREAD,
    Mode,
    Protocol,
    bind,
    make_handler,
    reaching,
    script,
    told,
)
from .client import World
from .dojo import SUITES, Json, load_suite
from .trial import ALONE, Case, Trial, Way, check_calls, check_world, wanted
from .turn import Act, FixedIds, Lives, start_lives
from .world import Running, start_world

TASKS: Final = [
    (suite, f"user_task_{n}")
    for suite, count in (("banking", 16), ("slack", 21), ("travel", 20), ("workspace", 40))
    for n in range(count)
]

# Of each suite two tasks with as many writes as any, of as many kinds.
SAMPLE: Final = [
    ("banking", "user_task_15"),
    ("banking", "user_task_12"),
    ("slack", "user_task_16"),
    ("slack", "user_task_11"),
    ("travel", "user_task_0"),
    ("travel", "user_task_3"),
    ("workspace", "user_task_25"),
    ("workspace", "user_task_13"),
]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("verify", "key", "bare")

# Each with every protocol, and each protocol with both modes.
SWEPT: Final = [
    Case(*task, MODES[(place + turn) % 2], protocol)
    for place, task in enumerate(SAMPLE)
    for turn, protocol in enumerate(PROTOCOLS)
] + [
    # Writes that a read can vouch for, and one that was not read and so stays in doubt.
    Case("banking", "user_task_12", "single", "state"),
    Case("workspace", "user_task_35", "batch", "state"),
    Case("banking", "user_task_15", "single", "state"),
]
SWEPT_SLOWLY: Final = [
    Case(*task, mode, PROTOCOLS[(place + turn) % 3])
    for place, task in enumerate(TASKS)
    for turn, mode in enumerate(MODES)
]
# One write among few calls.
SMALL: Final = [
    Case("travel", "user_task_0", mode, protocol)
    for mode, protocol in zip(itertools.cycle(MODES), PROTOCOLS, strict=False)
]
WRITES_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Ground:
    """What the turns of this module stand on.

    Attributes:
        lives: Forks the processes that run them.
        plain: A world that applies whatever comes.
        dedupe: A world that honours idempotency keys.
    """

    lives: Lives
    plain: Running
    dedupe: Running

    @asynccontextmanager
    async def trial(self, case: Case, folder: Path) -> AsyncIterator[Trial]:
        """Return a trial of `case` on the world that its protocol counts on."""
        running = self.dedupe if case.protocol == "key" else self.plain
        async with World(running.port) as world:
            trial = Trial(self.lives, world, case, folder / "journal.db")
            await trial.reset()
            yield trial
            # What a failed test leaves is kept.
            trial.forget()


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """Start both worlds and the process that forks lives; any of them serves every suite."""
    with (
        start_world("banking") as plain,
        start_world("banking", dedupe=True) as dedupe,
        start_lives() as lives,
    ):
        yield Ground(lives, plain, dedupe)


Make: TypeAlias = Callable[[Case], AbstractAsyncContextManager[Trial]]


@pytest.fixture
def trials(ground: Ground, tmp_path: Path) -> Make:
    """Return what makes a trial of a case."""
    return lambda case: ground.trial(case, tmp_path)


def cases(given: list[Case]) -> pytest.MarkDecorator:
    """Parametrise a test by cases."""
    return pytest.mark.parametrize("case", given, ids=str)


# The tools


def untitled(schema: Json) -> Json:
    """Return a schema without the titles that pydantic makes of names."""
    if isinstance(schema, list):
        return [untitled(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: untitled(part)
        for name, part in schema.items()
        if not (name == "title" and isinstance(part, str))
    }


@pytest.mark.parametrize("suite", SUITES)
def test_a_tool_offers_the_schema_of_its_function(suite: str) -> None:
    """A model sees of a function what its signature says, and nothing that is injected."""
    theirs = load_suite(suite).tools
    bound = bind(suite, "verify")

    assert {tool.name for tool in bound} == set(theirs)
    for tool in bound:
        expected = untitled(theirs[tool.name].schema)
        expected.pop("description", None)
        assert untitled(tool.schema) == expected | {"additionalProperties": False}
        assert tool.description == theirs[tool.name].description
        assert tool.effect.changes == (theirs[tool.name].effect.kind != "read")


# Every task


async def run_here(
    world: World, case: Case, store: Path | None, *, strict: bool = False
) -> uc.Trace:
    """Run a task in this process on a fresh world; return its record."""
    task = load_suite(case.suite).tasks[case.task]
    handler = getattr(HANDLERS, case.handler)
    if strict:
        handler = make_handler(bind(case.suite, case.protocol, strict=True), "strict")
    await world.reset(case.suite, case.task)
    model = ScriptedModel(script(task, case.mode))
    ids = FixedIds(f"{case.task}-{case.mode}")
    async with uc.Runtime(store, model=model, ids=ids) as rt:
        with reaching(world):
            outcome = await rt.run(handler, message=task.prompt)
        if not strict:
            assert outcome.status == "done"
            assert outcome.value == told(task)
        return rt.trace(outcome.turn_id)


@pytest.mark.parametrize("kept", ["memory", "file"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("suite", "task"), TASKS)
async def test_a_task_ends_as_its_calls_do(  # noqa: PLR0913 - one for each thing that varies
    ground: Ground, tmp_path: Path, suite: str, task: str, mode: Mode, kept: str
) -> None:
    """Calls that run under a turn do what they do without it: same results, same world."""
    store = tmp_path / "journal.db" if kept == "file" else None
    case = Case(suite, task, mode, "key")
    async with World(ground.plain.port) as world:
        trace = await run_here(world, case, store)

        log = await world.log()
        assert await world.digest() == wanted(suite, task).digest
        check_calls(trace, wanted(suite, task))
        check_world(trace, log)
        # What changes the world does so in the order of proposal, whatever ran beside it.
        assert [(e.tool, e.args) for e in log if e.kind != "read"] == [
            (s.name, s.arguments) for s in trace.steps if s.changes
        ]


async def refused_unread(ground: Ground, mode: Mode) -> set[str]:
    """Return the tasks in which a write is refused where every tool needs a read first."""
    refused = set()
    async with World(ground.plain.port) as world:
        for suite, task in TASKS:
            trace = await run_here(world, Case(suite, task, mode, "key"), None, strict=True)
            for step in trace.steps:
                if step.refusal is not None and step.refusal.rule == "sequencing.read_first":
                    refused.add(f"{step.name} {suite} {task}")
    return refused


async def test_a_write_is_refused_only_where_its_resource_was_not_read(ground: Ground) -> None:
    """What no ground truth reads before it writes is all that the rule may refuse.

    It is also all that the bindings except from the rule.
    """
    unread = {f"{tool} {task}" for tool, tasks in UNREAD.items() for task in tasks}

    assert await refused_unread(ground, "single") <= unread
    assert await refused_unread(ground, "batch") <= unread


# Killed at every journal write

Side: TypeAlias = Literal["before", "after"]
SIDES: Final[tuple[Side, ...]] = ("before", "after")


def kill_points() -> Iterator[tuple[int, Side]]:
    """Return every journal write of a turn, and the moments before and after it."""
    yield from itertools.product(range(1, WRITES_MAX), SIDES)


async def killed_at(trial: Trial, number: int, side: Side, *acts: Act) -> bool:
    """Kill the trial's turn at one journal write; False if there are not so many."""
    at = {side: number}
    return await trial.kill(*acts, **at)


async def sweep(trial: Trial, way: Way = ALONE) -> int:
    """Kill a turn at each of its journal writes and take it up again; return how often."""
    kills = 0
    for number, side in kill_points():
        await trial.reset()
        if not await killed_at(trial, number, side, Act(op="run")):
            # The run that is not killed is held to the same.
            await trial.check()
            break
        kills += 1
        # Whoever comes back may know the turn, or take up whatever was left behind.
        await trial.run_out(way=way, recover=side == "before")
        await trial.check()
    # The registration, an intent for each write, and the end.
    calls = load_suite(trial.case.suite).tasks[trial.case.task].calls
    tools = load_suite(trial.case.suite).tools
    writes = sum(tools[call.tool].effect.kind != "read" for call in calls)
    assert 2 * (writes + 2) <= kills < 2 * WRITES_MAX - 2
    return kills


@cases(SWEPT)
async def test_a_turn_survives_a_kill_at_any_journal_write(trials: Make, case: Case) -> None:
    """A turn that is killed and resumed does what it does undisturbed, each write once.

    A write in doubt is settled by asking, by its key, or by a person; never by trying.
    """
    async with trials(case) as trial:
        await sweep(trial)


@pytest.mark.slow
@cases(SWEPT_SLOWLY)
async def test_every_task_survives_a_kill_at_any_journal_write(trials: Make, case: Case) -> None:
    """A turn that is killed and resumed does what it does undisturbed, each write once."""
    async with trials(case) as trial:
        await sweep(trial)

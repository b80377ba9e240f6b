"""The task suites of AgentDojo on Undercroft: every task, and turns killed wherever it hurts.

Keeps: under 90 s on two cores; every life that is killed is a process of its own.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
import pytest

import undercroft as uc
from undercroft.storage.memory import MemoryStore
from undercroft.testing import ScriptedModel

from .bindings import (
    HANDLERS,
    MODES,
    UNREAD,
    Protocol,
    bind,
    make_handler,
    reaching,
    script,
    told,
)
from .client import World
from .dojo import SUITES, Json, load_suite
from .ground import Ground, Make, cases
from .journals import check_journal
from .order import Case, calls_of, longest_chain
from .trial import ALONE, Trial, Way, check_done, check_held, wanted
from .turn import Act, FixedIds, Said

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
    # Several writes at once, each of which a person has to say something about.
    Case("slack", "user_task_16", "batch", "bare"),
    Case("workspace", "user_task_25", "batch", "bare"),
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
# Three writes, of which none waits for another.
AT_ONCE: Final = [Case("slack", "user_task_17", "batch", protocol) for protocol in PROTOCOLS]
WAYS: Final = [Way(processes=2), Way(calls=3), Way(calls=4, runtimes=2)]
# Begins with a write, so that a slow world holds up nothing else.
FIRST: Final = [
    Case("banking", "user_task_15", mode, protocol)
    for mode, protocol in zip(itertools.cycle(MODES), PROTOCOLS, strict=False)
]
WRITES_MAX: Final = 200
# Longer than any test needs to kill whoever waits for an answer.
NEVER_MS: Final = 30_000


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
    world: World, case: Case, store: Path | MemoryStore, *, strict: bool = False
) -> uc.Trace:
    """Run a task in this process on a fresh world; return its record."""
    task = load_suite(case.suite).tasks[case.task]
    handler = getattr(HANDLERS, case.handler)
    if strict:
        handler = make_handler(bind(case.suite, case.protocol, strict=True), "strict")
    await world.reset(case.suite, case.task)
    model = ScriptedModel(script(task, case.mode))
    ids = FixedIds(f"{case.task}-{case.mode}")
    # What the world saw is compared with what is written, word for word.
    whole = uc.Redaction(defaults=False)
    async with uc.Runtime(store, model=model, ids=ids, redaction=whole) as rt:
        with reaching(world):
            outcome = await rt.run(handler, message=task.prompt)
        if not strict:
            assert outcome.status == "done"
            assert outcome.value == told(task)
        trace = rt.trace(outcome.turn_id)
    check_journal(store)
    return trace


@pytest.mark.parametrize(
    ("case", "kept"),
    [
        # One by one in memory, and as one batch on disk; the other way round for the patient.
        pytest.param(
            Case(*task, mode, "key"),
            kept,
            id=f"{Case(*task, mode, 'key')}-{kept}",
            marks=[pytest.mark.slow] * ((mode == MODES[0]) == (kept == "file")),
        )
        for task in TASKS
        for mode in MODES
        for kept in ("memory", "file")
    ],
)
async def test_a_task_ends_as_its_calls_do(
    ground: Ground, tmp_path: Path, case: Case, kept: str
) -> None:
    """Calls that run under a turn do what they do without it: same results, same world."""
    store = tmp_path / "journal.db" if kept == "file" else MemoryStore()
    task = load_suite(case.suite).tasks[case.task]
    async with World(ground.plain.port) as world:
        trace = await run_here(world, case, store)

        log = await world.log()
        check_done(case, trace, log, await world.digest())
        assert len(log) == len(task.calls)
        assert [(step.name, step.arguments) for step in calls_of(trace)] == list(task.calls)


async def test_a_write_is_refused_only_where_its_resource_was_not_read(ground: Ground) -> None:
    """What no ground truth reads before it writes is all that the rule may refuse.

    It is also all that the bindings except from the rule.
    """
    refused = set()
    async with World(ground.plain.port) as world:
        for suite, task in TASKS:
            loaded = load_suite(suite)
            if all(loaded.tools[c.tool].effect.kind != "write" for c in loaded.tasks[task].calls):
                continue
            trace = await run_here(
                world, Case(suite, task, "single", "key"), MemoryStore(), strict=True
            )
            for step in trace.steps:
                if step.refusal is not None and step.refusal.rule == "sequencing.read_first":
                    refused.add((step.name, f"{suite} {task}"))

    assert refused
    assert refused <= {(tool, task) for tool, tasks in UNREAD.items() for task in tasks}


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
    # The registration, the intents of writes that wait for each other, and the end.
    assert 2 * (longest_chain(trial.case) + 2) <= kills < 2 * WRITES_MAX - 2
    return kills


async def sweep_doubts(trial: Trial) -> int:
    """Kill a turn where that leaves a doubt, and again at each write of whoever mends it."""
    kills = 0
    for number, side in kill_points():
        await trial.reset()
        if not await killed_at(trial, number, side, Act(op="run")):
            break
        if trial.snapshots[-1].doubts:
            kills += await sweep_resume(trial, number, side)
    return kills


async def sweep_resume(trial: Trial, number: int, side: Side) -> int:
    """Kill a turn at one journal write, and again at each of its next life."""
    for again, (later, later_side) in enumerate(kill_points()):
        await trial.reset()
        await killed_at(trial, number, side, Act(op="run"))
        acts = [Act(op="resume", turn=trial.case.task)]
        if trial.case.protocol == "bare":
            acts += [trial.settlement(step) for step in trial.snapshots[-1].doubts]
        killed = await killed_at(trial, later, later_side, *acts)
        await trial.run_out()
        await trial.check()
        if not killed:
            return again
    pytest.fail("The second life never came to its end.")


@cases(SWEPT, quick=2)
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


@pytest.mark.parametrize(
    "case",
    [SMALL[0], *(pytest.param(case, marks=pytest.mark.slow) for case in (*SMALL[1:], AT_ONCE[-1]))],
    ids=str,
)
async def test_a_turn_survives_another_kill_while_it_is_mended(trials: Make, case: Case) -> None:
    """Settling a doubt is journaled like anything else: killed in it, it is gone on with."""
    async with trials(case) as trial:
        assert await sweep_doubts(trial) > 10


@pytest.mark.parametrize("way", [ALONE, Way(processes=2)], ids=str)
@cases(AT_ONCE)
async def test_writes_in_doubt_at_once_are_settled_one_by_one(
    trials: Make, case: Case, way: Way
) -> None:
    """A process may die with several writes under way; none of them is taken for another."""
    calls = len(load_suite(case.suite).tasks[case.task].calls)
    async with trials(case) as trial:

        async def applied() -> bool:
            return (await trial.world.clients()).held == calls

        await trial.world.delay(NEVER_MS)
        [first] = trial.lives.start(trial.job(Act(op="run")))
        await until(applied)
        await trial.world.delay(0)
        trial.kill_now(first)
        found = await trial.look()
        assert len(found.doubts) == calls
        assert all(map(found.applied, found.doubts))
        await trial.run_out(way=way)
        await trial.check()


# Taken up by several


@pytest.mark.parametrize(
    ("way", "case"),
    [
        # Each way and each protocol once; what the two make together is for the patient.
        pytest.param(way, case, id=f"{way}-{case}", marks=[pytest.mark.slow] * (turn != place))
        for turn, way in enumerate(WAYS)
        for place, case in enumerate(SMALL)
    ],
)
async def test_a_killed_turn_taken_up_by_several_goes_on_once(
    trials: Make, case: Case, way: Way
) -> None:
    """Resuming a turn twice at the same moment is resuming it once; all are told the same."""
    async with trials(case) as trial:
        await sweep(trial, way)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds, and not for ever."""
    for _ in range(1000):
        if await holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail("It never held.")


def wrote(trial: Trial) -> Callable[[], Awaitable[bool]]:
    """Return what asks whether the world applied any write."""

    async def any_write() -> bool:
        return any(e.applied and e.kind != "read" for e in await trial.world.log())

    return any_write


@cases([Case("slack", "user_task_16", mode, "bare") for mode in MODES])
async def test_a_resume_waits_for_a_turn_that_still_runs(trials: Make, case: Case) -> None:
    """A turn that a live process runs is left to it; who asks for it is told how it ended."""
    resume = Act(op="resume", turn=case.task)
    async with trials(case) as trial:
        await trial.world.delay(100)
        [first] = trial.lives.start(trial.job(Act(op="run")))
        await until(wrote(trial))
        others = trial.lives.start(*[trial.job(resume, way=Way(calls=2))] * 2)
        said = [one for pid in (first, *others) for one in trial.heard(trial.lives.wait(pid))]

        assert said == [Said(status="done", value=told(wanted(*case[:2]).task))] * 5
        await trial.check()
        found = await trial.look()
        assert found.trace is not None
        assert len(found.trace.lives) == 1


@cases([Case("slack", "user_task_16", "single", "bare")])
async def test_a_resume_joins_a_turn_of_its_own_process(trials: Make, case: Case) -> None:
    """A turn is run once however often its own process asks for it meanwhile."""
    resume = Act(op="resume", turn=case.task)
    async with trials(case) as trial:
        job = trial.job(Act(op="run"), resume, resume)
        [ended] = trial.lives.run(msgspec.structs.replace(job, together=True))

        assert len({one.status for one in trial.heard(ended)}) == 1
        await trial.check()


@cases(FIRST)
async def test_whoever_waits_takes_over_from_who_dies(trials: Make, case: Case) -> None:
    """A process that dies in a call is followed by those who waited, and the call by none."""
    resume = Act(op="resume", turn=case.task)
    async with trials(case) as trial:
        await trial.world.delay(NEVER_MS)
        [first] = trial.lives.start(trial.job(Act(op="run")))
        await until(wrote(trial))
        others = trial.lives.start(*[trial.job(resume)] * 2)
        await trial.world.delay(0)
        trial.kill_now(first)
        said = [one for pid in others for one in trial.heard(trial.lives.wait(pid))]

        assert said[0] == said[1]
        assert said[0].status == ("in_doubt" if case.protocol == "bare" else "done")
        await trial.look()
        await trial.run_out()
        await trial.check()


# A write that nothing runs beside, and three of which none waits for another.
@cases(
    [
        Case("banking", "user_task_15", "single", "key"),
        Case("slack", "user_task_17", "batch", "key"),
    ]
)
async def test_a_request_that_outlives_its_process_is_one_with_its_repetition(
    trials: Make, case: Case
) -> None:
    """What a dead process had sent off arrives late, and under the key that was repeated."""
    calls = len(load_suite(case.suite).tasks[case.task].calls)
    at_once = 1 if case.mode == "single" else calls
    async with trials(case) as trial:

        async def sent() -> bool:
            return (await trial.world.clients()).held == at_once

        async def arrived() -> bool:
            return len(await trial.world.log()) == calls + at_once

        await trial.world.delay(1500, at="apply")
        [first] = trial.lives.start(trial.job(Act(op="run")))
        await until(sent)
        await trial.world.delay(0, at="apply")
        trial.kill_now(first)
        found = await trial.look()
        assert len(found.doubts) == at_once
        assert not found.log
        await trial.run_out()
        await until(arrived)
        await trial.check()


# Approved by a person


APPROVED: Final = [
    Case("banking", "user_task_12", "single", "verify", "update_scheduled_transaction"),
    Case("slack", "user_task_16", "batch", "verify", "send_direct_message"),
    Case("travel", "user_task_0", "batch", "verify", "reserve_hotel"),
    Case("workspace", "user_task_25", "single", "verify", "send_email"),
    Case("workspace", "user_task_25", "batch", "verify", "send_email"),
]


async def approve_all(trial: Trial, said: Said, way: Way = ALONE, *, times: int = 1) -> int:
    """Approve whatever waits, step by step, until the turn is done; return how often.

    What is in doubt beside it is settled first.
    """
    approved = 0
    for _ in range(2 * WRITES_MAX):
        if said.status == "done":
            assert said == Said(status="done", value=told(wanted(*trial.case[:2]).task))
            return approved
        parked = await trial.look()
        # No process, no lock, and nothing done ahead of the word.
        assert not parked.open
        assert not any(parked.applied(step) for step in said.waiting)
        assert parked.trace is not None
        waiting = [s.step_id for s in parked.trace.steps if s.status == "waiting"]
        assert sorted(said.waiting) == sorted(waiting)
        assert sorted(said.in_doubt) == sorted(parked.doubts)
        assert said.status == ("in_doubt" if said.in_doubt else "waiting")
        check_held(trial.case, parked, (*said.in_doubt, *said.waiting))
        if said.in_doubt:
            said = trial.ask(trial.settlement(said.in_doubt[-1]), way=way)
        else:
            yes = Act(op="approve", turn=trial.case.task, step=said.waiting[0])
            said = trial.ask(*[yes] * times, way=way)
            approved += 1
    pytest.fail("Something always waits.")


@pytest.mark.parametrize("way", [ALONE, *WAYS], ids=str)
@cases(APPROVED)
async def test_a_call_approved_by_several_runs_once(trials: Make, case: Case, way: Way) -> None:
    """A word given twice, or by several at the same moment, counts once."""
    tools = [call.tool for call in load_suite(case.suite).tasks[case.task].calls]
    async with trials(case) as trial:
        said = trial.ask(Act(op="run"))
        times = 2 if way == ALONE else 1
        assert await approve_all(trial, said, way, times=times) == tools.count(case.approval)
        await trial.check()


# Where a person has both to approve, and to say what became of a write.
BOTH: Final = [
    Case("slack", "user_task_16", "batch", "bare", "send_direct_message"),
    Case("workspace", "user_task_25", "batch", "bare", "send_email"),
]


@cases([*APPROVED[:4], *BOTH], quick=2)
async def test_an_approval_survives_a_kill_at_any_journal_write(trials: Make, case: Case) -> None:
    """A word that was kept is acted on without being given again; one that was not, is not."""
    async with trials(case) as trial:
        for number, side in kill_points():
            await trial.reset()
            said = trial.ask(Act(op="run"))
            first = said.waiting[0]
            yes = Act(op="approve", turn=case.task, step=first)
            if not await killed_at(trial, number, side, yes):
                break
            found = trial.snapshots[-1]
            assert found.trace is not None
            steps = {step.step_id: step for step in found.trace.steps}
            word = [(decision.what, decision.by) for decision in steps[first].decisions]
            op: Literal["recover", "resume"] = "recover" if found.open else "resume"
            said = trial.ask(Act(op=op, turn=case.task))
            assert word == [("approved", "ada")] * (first not in said.waiting)
            await approve_all(trial, said)
            await trial.check()
        assert number > 3


@cases(BOTH[:1])
async def test_a_turn_can_be_in_doubt_and_wait_at_once(trials: Make, case: Case) -> None:
    """A doubt keeps nobody from being asked about other calls, nor the other way round."""
    both = 0
    async with trials(case) as trial:
        for number, side in kill_points():
            await trial.reset()
            if not await killed_at(trial, number, side, Act(op="run")):
                break
            begun = trial.snapshots[-1].trace is not None
            said = trial.ask(Act(op="resume", turn=case.task) if begun else Act(op="run"))
            both += bool(said.in_doubt and said.waiting)
            await approve_all(trial, said)
            await trial.check()
    assert both


async def test_a_word_on_a_doubt_is_not_one_on_its_repetition(trials: Make) -> None:
    """A person settles the attempt that was in doubt, never the one that is under way.

    Said again while the write is being repeated, the word must not let it be repeated once
    more, should the process that does so die.
    """
    case = Case("travel", "user_task_0", "single", "bare")
    async with trials(case) as trial:
        assert await doubtful(trial)
        step = trial.snapshots[-1].doubts[0]
        assert trial.ask(Act(op="resume", turn=case.task)).in_doubt == (step,)
        not_applied = trial.settlement(step)
        assert not not_applied.applied
        await trial.world.delay(NEVER_MS)
        [first] = trial.lives.start(trial.job(not_applied))
        await until(wrote(trial))
        # Dies right after its word was kept, if it is.
        [second] = trial.lives.run(trial.job(not_applied, kill_after=2))
        trial.kill_now(first)
        await trial.world.delay(0)
        await trial.look()

        assert trial.ask(Act(op="resume", turn=case.task)).in_doubt == (step,)
        assert [one.raised.partition(":")[0] for one in trial.heard(second)] == ["DecisionError"]
        assert trial.ask(trial.settlement(step)).status == "done"
        await trial.check()


async def doubtful(trial: Trial) -> bool:
    """Kill the turn where it has the intent of a write, and the write is not made."""
    for number, _ in kill_points():
        await trial.reset()
        if not await trial.kill(Act(op="run"), after=number):
            return False
        if trial.snapshots[-1].doubts:
            return True
    return False


@pytest.mark.parametrize("kill_once", ["", "waiting"])
async def test_a_word_given_while_another_is_acted_on_is_not_lost(
    trials: Make, kill_once: str
) -> None:
    """An approval wakes its turn, though whoever gave it died, and while the turn ran.

    Also where the process that ran it dies as soon as it has parked it.
    """
    case = Case("workspace", "user_task_25", "batch", "verify", "send_email")
    async with trials(case) as trial:
        waiting = trial.ask(Act(op="run")).waiting
        one, other, last = (Act(op="approve", turn=case.task, step=step) for step in waiting)
        await trial.world.delay(1500)
        job = msgspec.structs.replace(trial.job(one), kill_once=kill_once)
        [first] = trial.lives.start(job)
        await until(wrote(trial))
        # Dies right after its word was kept.
        [second] = trial.lives.run(trial.job(other, kill_after=2))
        assert second.killed
        await trial.world.delay(0)
        ended = trial.lives.wait(first)
        assert ended.killed == bool(kill_once)

        # By whoever ran the turn, or by whoever looks after what was left behind.
        said = [] if ended.killed else list(trial.heard(ended))
        said += trial.ask_each(Act(op="recover"))
        found = await trial.look()
        assert [found.applied(step) for step in waiting] == [True, True, False]
        assert said[-1].waiting == waiting[2:]
        assert trial.ask(last).status == "done"
        await trial.check()

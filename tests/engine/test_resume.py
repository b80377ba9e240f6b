"""Crash and resume: what was recorded never runs again, and what was not runs once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import undercroft as uc
from tests.engine.conftest import MakeRuntime
from tests.engine.world import World, crash_sweep
from undercroft.errors import ReplayError, TargetError, TurnNotFoundError
from undercroft.model.event import StepStarted, decode_frames
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore, ScriptedModel


def transfer_flow(world: World) -> uc.Workflow:
    """Return a workflow with reads beside each other, a fan-out and two writes."""
    flow = uc.Workflow("transfer")

    @flow.resolve
    async def who() -> str:
        return "ada"

    @flow.read("bank/{who}")
    async def balance(who: str) -> int:
        return world.read(who)

    @flow.read("limits/{who}")
    async def limits(who: str) -> list[int]:
        return [world.read("limit"), 2, 3]

    @flow.gather(each="limits")
    async def checks(limit: int) -> int:
        return world.read(f"check-{limit}")

    @flow.execute(writes="bank/{who}")
    async def withdraw(who: str, balance: int, checks: list[int], key: uc.IdempotencyKey) -> int:
        return world.add(who, -30, key)

    @flow.execute(appends="mail/{who}")
    async def tell(withdraw: int, key: uc.IdempotencyKey) -> str:
        world.add("mail", 1, key)
        return f"left: {withdraw}"

    @flow.confirm
    async def confirm(tell: str) -> str:
        return tell

    return flow


async def test_a_workflow_survives_a_crash_at_every_commit() -> None:
    """Wherever it is stopped, a resumed workflow ends as the one that was not, effects once."""
    ends = await crash_sweep(transfer_flow)
    assert len(ends) > 10
    for outcome, world in ends:
        assert (outcome.status, outcome.value) == ("done", "left: -30")
        assert world.records == {"ada": -30, "mail": 1}


def bank_handler(world: World, *, keyed: bool = True, verified: bool = False) -> Any:
    """Return a handler in which a model reads and writes twice."""

    @uc.tool(reads="bank/{name}")
    async def balance(name: str) -> int:
        return world.read(name)

    if keyed:

        @uc.tool(writes="bank/{name}")
        async def add(name: str, amount: int, key: uc.IdempotencyKey) -> int:
            return world.add(name, amount, key)
    elif verified:

        @uc.tool(writes="bank/{name}", verify=balance)
        async def add(name: str, amount: int) -> int:
            return world.add(name, amount)
    else:

        @uc.tool(writes="bank/{name}")
        async def add(name: str, amount: int) -> int:
            return world.add(name, amount)

    @uc.handler(tools=[balance, add])
    async def assist(turn: uc.Turn) -> str:
        turn.context.user("move 30")
        while True:
            answer = await turn.model()
            if not answer.calls:
                return answer.text
            await turn.calls(answer.calls)

    return assist


SCRIPT: list[list[uc.Call] | str] = [
    [uc.Call("balance", {"name": "a"}), uc.Call("balance", {"name": "b"})],
    [
        uc.Call("add", {"name": "a", "amount": -30}),
        uc.Call("add", {"name": "b", "amount": 30}),
    ],
    "Moved.",
]


async def test_a_handler_survives_a_crash_at_every_commit() -> None:
    """A resumed handler meets its own steps again and ends as the one that was not stopped."""
    ends = await crash_sweep(bank_handler, model=ScriptedModel(SCRIPT))
    for outcome, world in ends:
        assert (outcome.status, outcome.value) == ("done", "Moved.")
        assert world.records == {"a": -30, "b": 30}


async def test_a_write_in_doubt_is_settled_by_the_state_that_it_changed() -> None:
    """`verify` by a reading tool: changed means applied, unchanged means it may be done."""
    ends = await crash_sweep(
        lambda world: bank_handler(world, keyed=False, verified=True), model=ScriptedModel(SCRIPT)
    )
    for outcome, world in ends:
        # Without a key the world would count a second application.
        assert world.records in ({"a": -30, "b": 30}, {"a": -30}), outcome
        if world.records == {"a": -30}:
            assert outcome.status == "in_doubt"
        else:
            assert outcome.status in ("done", "in_doubt")
    assert sum(outcome.status == "done" for outcome, _ in ends) > len(ends) / 2


async def test_a_write_that_nobody_can_settle_is_left_to_a_person() -> None:
    """With neither verify nor key the turn stops in doubt; a person's word is carried out."""

    async def settle(rt: uc.Runtime, outcome: uc.Outcome, world: World) -> uc.Outcome:
        # Both writes were under way together, so both may be in doubt.
        while outcome.status == "in_doubt":
            doubt = outcome.in_doubt[0]
            name, amount = doubt.arguments["name"], doubt.arguments["amount"]
            happened = world.records.get(name) == amount
            again = await rt.resume(outcome.turn_id)
            assert again.status == "in_doubt", "never repeated silently"
            outcome = await rt.settle(
                outcome.turn_id, doubt.step_id, applied=happened, by="ada", value=amount
            )
        return outcome

    ends = await crash_sweep(
        lambda world: bank_handler(world, keyed=False),
        model=ScriptedModel(SCRIPT),
        settle=settle,
    )
    for outcome, world in ends:
        assert (outcome.status, outcome.value) == ("done", "Moved.")
        assert world.records == {"a": -30, "b": 30}
        assert world.count("add") == 2


def gated_flow(world: World) -> uc.Workflow:
    """Return a workflow that reads, asks and writes."""
    flow = uc.Workflow("gated")

    @flow.read("x")
    async def found() -> int:
        return world.read("x")

    @flow.approve
    async def gate(found: int) -> bool:
        return True

    @flow.execute(writes="x")
    async def change(gate: uc.Approval, key: uc.IdempotencyKey) -> str:
        world.add("x", 1, key)
        return gate.by

    return flow


async def test_an_approval_survives_a_crash_at_every_commit() -> None:
    """A turn that waits is decided once, wherever its process died."""

    async def start(rt: uc.Runtime, target: Any) -> uc.Outcome:
        return await decide(rt, await rt.run(target), World())

    async def decide(rt: uc.Runtime, outcome: uc.Outcome, _: World) -> uc.Outcome:
        if outcome.status == "waiting":
            return await rt.approve(outcome.turn_id, by="ada")
        return outcome

    ends = await crash_sweep(gated_flow, start, settle=decide)
    assert len(ends) > 8
    for outcome, world in ends:
        assert (outcome.status, outcome.value) == ("done", "ada")
        assert world.records == {"x": 1}


async def test_resume_is_safe_at_any_time_any_number_of_times(runtime: MakeRuntime) -> None:
    """Resuming what runs joins it; resuming what is over says how it ended."""
    world = World()
    go = asyncio.Event()
    flow = uc.Workflow("slow")

    @flow.read("x")
    async def wait() -> int:
        await go.wait()
        return world.read("x")

    @flow.execute(writes="x")
    async def change(wait: int) -> int:
        return world.add("x", 1)

    async with runtime() as rt:
        running = asyncio.ensure_future(rt.run(flow))
        await asyncio.sleep(0.01)
        (head,) = rt.turns()
        others = [asyncio.ensure_future(rt.resume(head.turn_id)) for _ in range(3)]
        await asyncio.sleep(0.01)
        go.set()
        outcomes = await asyncio.gather(running, *others)
        outcomes.append(await rt.resume(head.turn_id))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert world.log == [("read", "x", 0), ("add", "x", 1)]


async def test_two_runtimes_on_one_journal_do_not_run_one_turn_twice(
    runtime: MakeRuntime,
) -> None:
    """While one runtime runs a turn another waits for it, and is told the same outcome."""
    world = World()
    flow = uc.Workflow("slow")

    @flow.read("x")
    async def wait() -> int:
        await asyncio.sleep(0.1)
        return world.read("x")

    @flow.execute(writes="x")
    async def change(wait: int) -> int:
        return world.add("x", 1)

    async with runtime(targets=[flow]) as first, runtime(targets=[flow]) as second:
        running = asyncio.ensure_future(first.run(flow))
        await asyncio.sleep(0.02)
        (head,) = second.turns()
        assert head.held
        resumed = await second.resume(head.turn_id)
        assert await running == resumed
        assert await second.recover() == {}
    assert world.records == {"x": 1}


async def test_closing_the_runtime_stops_a_turn_that_can_be_resumed(runtime: MakeRuntime) -> None:
    """Leaving the runtime lets a write end, records that the turn stopped, and loses nothing."""
    world = World()
    flow = uc.Workflow("stopped")

    @flow.execute(writes="x")
    async def change() -> int:
        await asyncio.sleep(0.05)
        return world.add("x", 1)

    @flow.confirm
    async def slow(change: int) -> int:
        await asyncio.sleep(0.05)
        return change

    async with runtime() as rt:
        running = asyncio.ensure_future(rt.run(flow))
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await running
    async with runtime(targets=[flow]) as rt:
        (head,) = rt.turns()
        assert head.status == "stopped"
        outcomes = await rt.recover()
        recovered = outcomes[head.turn_id]
        assert isinstance(recovered, uc.Outcome)
        assert recovered.value == 1
        trace = rt.trace(head.turn_id)
    assert world.log == [("add", "x", 1)]
    assert [life.ended for life in trace.lives] == ["stopped", "ended"]


async def test_cancelling_the_caller_stops_the_turn(runtime: MakeRuntime) -> None:
    """A caller that goes away takes its turn with it, and the turn can be resumed."""
    flow = uc.Workflow("cancelled")
    tries: list[int] = []

    @flow.read("x")
    async def slow() -> int:
        tries.append(1)
        if len(tries) == 1:
            await asyncio.sleep(60)
        return len(tries)

    async with runtime(targets=[flow]) as rt:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rt.run(flow), 0.05)
        (head,) = rt.turns()
        assert head.status == "stopped"
        assert (await rt.resume(head.turn_id)).value == 2


async def test_branches_that_finish_in_another_order_meet_their_own_results() -> None:
    """A memo is found by name and input: on resume the slow branch may well come first."""

    def scenario(world: World) -> Any:
        @uc.tool(reads="x/{name}")
        async def look(name: str, pause_s: float) -> str:
            await asyncio.sleep(pause_s)
            world.read(name)
            return f"saw {name}"

        @uc.tool(writes="x/{name}")
        async def change(name: str, text: str, key: uc.IdempotencyKey) -> str:
            world.add(name, 1, key)
            return f"{name}:{text}"

        @uc.handler(tools=[look, change])
        async def branches(turn: uc.Turn) -> list[str]:
            async def branch(name: str, pause_s: float) -> str:
                arguments = {"name": name, "pause_s": pause_s}
                (seen,) = await turn.calls([uc.Call("look", arguments)])
                (done,) = await turn.calls([uc.Call("change", {"name": name, "text": seen.value})])
                return str(done.value)

            pauses = {"a": 0.012, "b": 0.004, "c": 0.008}
            return list(await asyncio.gather(*(branch(*p) for p in pauses.items())))

        return branches

    ends = await crash_sweep(scenario)
    for outcome, world in ends:
        assert outcome.value == ["a:saw a", "b:saw b", "c:saw c"]
        assert world.records == {"a": 1, "b": 1, "c": 1}


async def crashed(target: Any, *, after: int, model: Any = None) -> MemoryJournal:
    """Return a journal in which a turn of `target` died after a commit."""
    journal = MemoryJournal()
    store = CrashingStore(journal, crash_after=after)
    async with uc.Runtime(store, model=model, targets=[target]) as rt:
        with pytest.raises(uc.StoreError):
            await rt.run(target)
    return journal


def two_writes(first: str, second: str) -> Any:
    """Return a handler named `work` that writes twice."""

    @uc.tool(writes="x/{name}")
    async def put(name: str, key: uc.IdempotencyKey) -> str:
        return name

    @uc.handler(tools=[put])
    async def work(turn: uc.Turn) -> str:
        await turn.calls([uc.Call("put", {"name": first})])
        await turn.calls([uc.Call("put", {"name": second})])
        return "done"

    return work


async def test_a_handler_whose_code_changed_is_told_which_step() -> None:
    """Asking for something else than the journal holds is a ReplayError; nothing is lost."""
    journal = await crashed(two_writes("a", "b"), after=2)
    changed = two_writes("c", "b")
    async with uc.Runtime(MemoryStore(journal), targets=[changed]) as rt:
        (head,) = rt.turns()
        with pytest.raises(ReplayError, match=r"'put.1' is recorded here.*other arguments"):
            await rt.resume(head.turn_id)
        assert rt.turns()[0].status == "stopped"
    same = two_writes("a", "b")
    async with uc.Runtime(MemoryStore(journal), targets=[same]) as rt:
        assert (await rt.resume(head.turn_id)).value == "done"


async def test_a_handler_that_asks_for_less_is_told_which_step() -> None:
    """Returning without having asked for a recorded step is a ReplayError too."""
    journal = await crashed(two_writes("a", "b"), after=3)

    @uc.handler(tools=[])
    async def work(turn: uc.Turn) -> str:
        return "nothing to do"

    name = "tests.engine.test_resume:two_writes.<locals>.work"
    work.fn.__qualname__ = "two_writes.<locals>.work"
    async with uc.Runtime(MemoryStore(journal), targets=[work]) as rt:
        (head,) = rt.turns()
        assert head.target == name
        with pytest.raises(ReplayError, match="returned without asking"):
            await rt.resume(head.turn_id)


async def test_a_workflow_whose_steps_changed_is_told_which_step() -> None:
    """A recorded step that is gone, or is fed by other steps, is a ReplayError that names it."""

    def make(step: str) -> uc.Workflow:
        flow = uc.Workflow("changing")

        async def body() -> int:
            return 1

        async def last() -> int:
            return 2

        body.__name__ = step
        flow.execute(writes="x")(body)
        flow.confirm(last)
        return flow

    journal = await crashed(make("before"), after=1)
    async with uc.Runtime(MemoryStore(journal), targets=[make("after")]) as rt:
        (head,) = rt.turns()
        with pytest.raises(ReplayError, match="'before' is recorded, but") as caught:
            await rt.resume(head.turn_id)
    assert caught.value.step == "before"


async def test_code_that_cannot_be_found_is_an_error_that_says_what_to_pass() -> None:
    """A turn whose code is local to a function is resumed only with `targets=`."""
    journal = await crashed(two_writes("a", "b"), after=2)
    async with uc.Runtime(MemoryStore(journal)) as rt:
        (head,) = rt.turns()
        with pytest.raises(TargetError, match="targets="):
            await rt.resume(head.turn_id)
        outcomes = await rt.recover()
        assert isinstance(outcomes[head.turn_id], TargetError)
        with pytest.raises(TurnNotFoundError, match="no such turn"):
            await rt.resume("t-nothing")


class KilledAtIntent(CrashingStore):
    """Dies once the intent of a write is in the journal."""

    def _commit(self, work: Any) -> None:
        super()._commit(work)
        frames = [data for _, item in work if (data := getattr(item, "frame", None))]
        if any(isinstance(e, StepStarted) and e.changes for e in decode_frames(frames)):
            self._crash()


async def test_the_trace_of_a_killed_turn_tells_what_happened() -> None:
    """A trace read after a crash shows what began, what ended and that the life was cut off."""
    world, journal = World(), MemoryJournal()
    flow = transfer_flow(world)
    # The intent of `withdraw` is the last thing that the first process said.
    async with uc.Runtime(KilledAtIntent(journal), targets=[flow]) as rt:
        with pytest.raises(uc.StoreError):
            await rt.run(flow)
    async with uc.Runtime(MemoryStore(journal), targets=[flow]) as rt:
        (head,) = rt.turns()
        before = rt.trace(head.turn_id)
        await rt.recover()
        after = rt.trace(head.turn_id)
    assert before.status == "running"
    assert before.delivered is None
    assert [(s.name, s.status) for s in before.steps][-1] == ("withdraw", "running")
    assert [life.ended for life in after.lives] == ["killed", "ended"]
    assert after.delivered == "left: -30"
    assert [s.step_id for s in after.steps[: len(before.steps)]] == [
        s.step_id for s in before.steps
    ]

"""Tools and a model behind a real service that fails in every way: nothing hangs or doubles."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import undercroft as uc
from undercroft import queries
from undercroft.engine.parts.wire import wire_attempt_sync
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import ErrorClass, StepStatus

from . import faulty
from .asking import SDK_TRIES
from .faults import (
    CASES,
    COUNTED,
    DEADLINE_S,
    DEGRADED,
    DONE,
    FAILED,
    IN_DOUBT,
    MARGIN_S,
    OPS,
    OVERLOADED,
    TIMEOUT_S,
    WORDS,
    Case,
    World,
    attempts,
    each,
    error_of,
    judged,
    made,
    runtime,
    together,
    turn,
    within,
)
from .faulty import Faulty

pytestmark = pytest.mark.alone  # How late something may be is measured in tenths of a second.

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


# ------------------------------------------------------------------ every fault, every call


@every_case
async def test_what_fails_once_is_mended_or_named(kind: str, case: Case) -> None:
    """A read is tried again; a write only where nothing can have happened, or under its key."""

    async def fails_once(world: World, op: str) -> None:
        await world.fail(case, once=True)
        began_s = time.monotonic()
        async with runtime(case) as rt:
            outcome, step = await turn(rt, world, op)
        assert time.monotonic() - began_s < 2 * TIMEOUT_S + MARGIN_S

        again = op in {"read", "model", "keyed"} or case.sure
        requests = 2 if again else 1
        assert len(world.sent) == attempts(step) == requests
        reached = requests - (case.fault is None)
        await within(lambda: len(world.service.seen) >= reached, "a request got lost")
        assert len(world.service.seen) == reached
        if again or (op == "verified" and case.does):
            assert outcome.status is DONE
            expected = WORDS if op == "model" else {"value": "well"}
            assert outcome.value == (expected if again else None)
        elif op != "verified" or case.does is not None:
            assert outcome.status is IN_DOUBT
        if outcome.status is IN_DOUBT:
            assert judged(step) == (ErrorClass.UNKNOWN, case.blame)
            assert [waiting.step_id for waiting in outcome.in_doubt] == [step.step_id]
        if op in {"write", "keyed"} and outcome.status is DONE:
            assert world.service.done.total() == 1

    await each(kind, fails_once)


@every_case
async def test_what_always_fails_ends_in_time(kind: str, case: Case) -> None:
    """A turn ends, says which class of error it was and whose, and counts what it sent."""

    async def fails(world: World, op: str) -> None:
        await world.fail(case, once=False)
        began_s = time.monotonic()
        async with runtime(case, retry=uc.Retry(attempts=2, wait_s=0.01)) as rt:
            outcome, step = await turn(rt, world, op)
        assert time.monotonic() - began_s < 3 * TIMEOUT_S + MARGIN_S

        sent = len(world.sent)
        assert sent == attempts(step)
        reached = 0 if case.fault is None else sent
        await within(lambda: len(world.service.seen) >= reached, "a request got lost")
        assert len(world.service.seen) == reached
        if op == "verified" and case.does is not False and outcome.status is DONE:
            assert sent == 1
            return
        if op in {"read", "model"} or case.sure:
            kind = (op == "model" and case.kind_of_model) or case.kind
            assert sent == 2
            assert outcome.status is (FAILED if op == "model" else DEGRADED)
            assert step.status is StepStatus.FAILED
            assert judged(step) == (kind, case.blame)
            assert [retry.error.error_class for retry in step.retries] == [kind]
        else:
            assert (outcome.status, step.status) == (IN_DOUBT, StepStatus.IN_DOUBT)
            assert judged(step) == (ErrorClass.UNKNOWN, case.blame)
            assert sent == 1 or op == "keyed"
            assert len({seen.key for seen in world.service.posts}) == 1

    await each(kind, fails)


@pytest.mark.parametrize("case", [c for c in CASES if c.hangs], ids=lambda case: case.name)
async def test_a_turn_ends_at_its_deadline(kind: str, case: Case) -> None:
    """Where nothing else limits a call the turn's own timeout does; a write is in doubt then."""

    async def hangs(world: World, op: str) -> None:
        await world.fail(case, once=False)
        began_s = time.monotonic()
        async with runtime(timeout_s=None) as rt:
            outcome, step = await turn(rt, world, op, timeout_s=DEADLINE_S)
            await within(lambda: not world.service.open, "the call went on after its turn")
        assert time.monotonic() - began_s < DEADLINE_S + MARGIN_S
        assert len(world.sent) == len(world.service.seen) == attempts(step) == 1
        assert outcome.status is (IN_DOUBT if step.changes else FAILED)
        assert step.status is (StepStatus.IN_DOUBT if step.changes else StepStatus.FAILED)

    await each(kind, hangs)


@pytest.mark.parametrize("owner", ["client", "service"])
async def test_whoever_owns_the_timeout_it_means_the_same(world: World, owner: str) -> None:
    """A timeout of the client's own, too: a read is tried again, a write is in doubt."""
    world.service.does(faulty.hang, faulty.well, faulty.too_late)
    client = world.client(TIMEOUT_S if owner == "client" else None)
    async with runtime(timeout_s=TIMEOUT_S if owner == "service" else None) as rt:
        read, _ = await turn(rt, world, "read", client=client)
        write, step = await turn(rt, world, "write", client=client)
    assert read.status is DONE
    assert write.status is IN_DOUBT
    assert error_of(step).error_class is ErrorClass.UNKNOWN
    await within(lambda: world.service.done.total() == 1, "nobody gave the service the time")
    assert len(world.sent) == 3


async def test_a_storm_of_everything_doubles_nothing(world: World) -> None:
    """Turns of every kind at once, each request with another fault: all end, no write doubles."""
    faults = [case.fault for case in CASES if case.fault is not None and not case.hangs]
    world.service.does(*itertools.islice(itertools.cycle(faults), 120))
    async with runtime(breaker=None, ratio=uc.RetryRatio(saved_max=1000.0)) as rt:
        ops = list(itertools.islice(itertools.cycle(OPS), 60))
        ended = await asyncio.gather(*(turn(rt, world, op) for op in ops))
    assert len(world.sent) == len(world.service.seen) == sum(attempts(s) for _, s in ended)
    for op, (outcome, step) in zip(ops, ended, strict=True):
        assert outcome.status in {DONE, DEGRADED, FAILED, IN_DOUBT}
        assert outcome.status is not IN_DOUBT or step.changes, op


# ------------------------------------------------------------------ hints


async def test_a_service_is_not_asked_before_it_wants_to_be(kind: str) -> None:
    """Retry-After in seconds, as a date, in milliseconds: the next attempt comes after it."""

    async def one(number: int, hint_s: float, headers: dict[str, str], op: str) -> None:
        async with made(kind) as world, runtime() as rt:
            world.service.does(faulty.status(number, headers))
            outcome, _ = await turn(rt, world, op)
        assert outcome.status is DONE
        first, second = world.service.seen
        assert first.answered_s is not None
        assert hint_s - 0.002 <= second.at_s - first.answered_s < hint_s + MARGIN_S

    numbers = (429, 503, 529)
    await together(
        *(one(number, 1.0, faulty.in_seconds(1.0), "read") for number in numbers),
        *(one(number, 1.0, faulty.as_date(1.0), "write") for number in numbers),
        *(one(number, 0.3, faulty.in_milliseconds(0.3), "model") for number in numbers),
        # Of these a write is in doubt, and under its key it is repeated; but not before.
        one(500, 0.3, faulty.in_milliseconds(0.3), "read"),
        one(500, 0.3, faulty.in_milliseconds(0.3), "keyed"),
        one(408, 0.3, faulty.in_milliseconds(0.3), "keyed"),
    )


async def test_other_calls_wait_for_a_hint_too(world: World) -> None:
    """Told "too many", nobody of this account asks before the hint is over; then all may."""
    world.service.does(faulty.status(429, faulty.in_milliseconds(0.3)))
    async with runtime() as rt:
        first = asyncio.ensure_future(turn(rt, world, "read"))
        await within(lambda: bool(world.service.seen), "nothing was asked")
        await within(lambda: world.service.seen[0].answered_s is not None, "no answer")
        await asyncio.sleep(0.02)  # by then the answer has arrived
        ended = [await first, await turn(rt, world, "keyed")]
    assert [outcome.status for outcome, _ in ended] == [DONE, DONE]
    told, *later = world.service.seen
    assert told.answered_s is not None
    assert min(seen.at_s for seen in later) - told.answered_s >= 0.298


@pytest.mark.parametrize("number", [429, 503])
async def test_a_hint_that_is_too_long_is_not_waited_for(world: World, number: int) -> None:
    """A service that wants an hour is not asked again by this turn, which ends at once."""
    world.service.does(faulty.status(number, faulty.in_seconds(3600)), times=None)
    began_s = time.monotonic()
    async with runtime() as rt:
        outcome, step = await turn(rt, world, "read")
        assert outcome.status is DEGRADED
        assert error_of(step).error_class is OVERLOADED
        if number == 429:
            again, step = await turn(rt, world, "read", timeout_s=TIMEOUT_S)
            assert again.status is DEGRADED
            assert step.refusal is not None
            assert step.refusal.rule == "breakers.overloaded"
    assert time.monotonic() - began_s < TIMEOUT_S + MARGIN_S
    assert len(world.sent) == 1


# ------------------------------------------------------------------ called off


@pytest.mark.parametrize("how", ["cancelled", "closed"])
async def test_what_is_called_off_leaves_nothing_behind(
    kind: str, how: str, tmp_path: Path
) -> None:
    """A turn that is stopped lets go of its connection, and its journal can be read back."""

    async def stops(world: World, op: str) -> None:
        world.service.does(faulty.hang, times=None)
        path = tmp_path / f"{op}.db"
        call, ask = world.handlers()
        async with runtime(store=path, timeout_s=TIMEOUT_S, retry=None) as rt:
            run = rt.run(ask) if op == "model" else rt.run(call, op=op, account="a")
            running = asyncio.ensure_future(run)
            await within(lambda: bool(world.service.seen), "nothing was asked")
            if how == "cancelled":
                running.cancel()
                await asyncio.wait({running})
                await within(lambda: not world.service.open, "the call went on")
        await asyncio.wait({running}, timeout=MARGIN_S)
        assert running.done()
        await within(lambda: not world.service.open, "the call went on")
        trace = queries.read_trace(str(path), "last")
        (step,) = trace.steps
        assert trace.status in {TurnStatus.STOPPED, IN_DOUBT}
        assert step.status in {StepStatus.RUNNING, StepStatus.IN_DOUBT}
        assert len(world.service.seen) == 1

    await each(kind, stops)


async def test_what_was_cut_off_was_asked_all_the_same(world: World) -> None:
    """An attempt that the end of its turn cut off counts, in budgets and on the board."""
    world.service.does(faulty.hang, times=None)
    async with runtime(timeout_s=None, budget=uc.Budget(attempts=3)) as rt:
        for _ in range(5):
            await turn(rt, world, "read", timeout_s=0.05)
        assert len(world.service.seen) == 3
        assert rt._gates.gates["crm"].attempts == 3  # noqa: SLF001  the board shows it later


async def test_a_tool_in_a_thread_is_bound_by_the_same_deadline() -> None:
    """One that blocks is left behind when its time is up; what it sent is counted."""
    async with Faulty() as service:
        service.does(faulty.hang, times=None)

        @uc.tool(reads="crm", service="crm")
        def read() -> str:
            wire_attempt_sync()
            with urlopen(f"http://{faulty.HOST}:{service.port}/read") as answer:
                return str(answer.read())

        @uc.handler(tools=[read])
        async def call(turn: uc.Turn) -> str:
            (result,) = await turn.calls([uc.Call("read")])
            return str(result.status)

        began_s = time.monotonic()
        async with runtime(timeout_s=TIMEOUT_S, retry=uc.Retry(attempts=2, wait_s=0.01)) as rt:
            outcome = await rt.run(call, budget=COUNTED)
            (step,) = rt.trace(outcome.turn_id).steps
        assert time.monotonic() - began_s < 2 * TIMEOUT_S + MARGIN_S
        assert outcome.status is DEGRADED
        assert attempts(step) == len(service.seen) == 2
        assert judged(step) == (ErrorClass.TRANSIENT, "vendor")


async def test_what_was_left_behind_sends_nothing_more() -> None:
    """A client in a thread that tries again by itself is stopped once its step has ended."""
    over = threading.Event()
    async with Faulty() as service:
        service.does(faulty.hang)

        @uc.tool(writes="crm", service="crm")
        def write() -> None:
            try:
                for _ in range(SDK_TRIES):
                    wire_attempt_sync()
                    with contextlib.suppress(TimeoutError):
                        urlopen(
                            Request(f"http://{faulty.HOST}:{service.port}/write", b"please"),
                            timeout=2 * TIMEOUT_S,
                        ).close()
            finally:
                over.set()

        @uc.handler(tools=[write])
        async def call(turn: uc.Turn) -> None:
            await turn.calls([uc.Call("write")])

        async with runtime(timeout_s=TIMEOUT_S) as rt:
            outcome = await rt.run(call)
            await within(over.is_set, "it never ended", 3 * TIMEOUT_S + MARGIN_S)
        assert outcome.status is IN_DOUBT
        assert len(service.seen) == 1


@pytest.mark.parametrize("number", [429, 503])
async def test_who_waits_for_a_hint_can_be_stopped(world: World, number: int) -> None:
    """A runtime closes at once, whatever its turns wait for, and nobody asks after that."""
    world.service.does(faulty.status(number, faulty.in_seconds(20)), times=None)
    async with runtime() as rt:
        first = asyncio.ensure_future(turn(rt, world, "read"))
        await within(lambda: bool(world.service.seen), "nothing was asked")
        await asyncio.sleep(0.02)
        second = asyncio.ensure_future(turn(rt, world, "model"))
        third = asyncio.ensure_future(turn(rt, world, "write"))
        if number == 503:
            await within(lambda: bool(world.service.posts), "nothing was written")
        await asyncio.sleep(0.05)
        sent, began_s = len(world.sent), time.monotonic()
    assert time.monotonic() - began_s < MARGIN_S
    ended = await asyncio.gather(first, second, third, return_exceptions=True)
    assert all(isinstance(error, asyncio.CancelledError) for error in ended)
    assert len(world.sent) == sent


async def test_a_write_that_waits_to_be_tried_again_is_not_in_doubt(
    world: World, tmp_path: Path
) -> None:
    """Stopped while it waits after an answer that says no, it is simply made when resumed."""
    world.service.does(faulty.status(503, faulty.in_seconds(20)))
    call, _ = world.handlers()
    path = tmp_path / "journal.db"
    async with runtime(store=path) as rt:
        running = asyncio.ensure_future(rt.run(call, op="write", account="a"))
        await within(lambda: bool(world.service.posts), "nothing was written")
        await asyncio.sleep(0.05)
    await asyncio.wait({running}, timeout=MARGIN_S)
    async with runtime(store=path, targets=[call]) as rt:
        (outcome,) = (await rt.recover()).values()
    assert isinstance(outcome, uc.Outcome)
    assert outcome.status is DONE
    assert world.service.done == {"a": 1}


# ------------------------------------------------------------------ doubts


async def test_a_write_repeated_under_its_key_is_a_retry(world: World) -> None:
    """It waits like one, is counted like one, and where no retries are left it is not made."""
    world.service.does(faulty.reset_late, times=None)
    none = uc.RetryRatio(ratio=0.0, floor_per_min=0.0, saved_max=1.0)
    async with runtime(ratio=none) as rt:
        outcome, step = await turn(rt, world, "keyed")
        gate = rt._gates.gates["crm"]  # noqa: SLF001  the board shows it later
        assert (gate.calls, gate.retries, gate.attempts) == (1, 1, 2)
    assert outcome.status is IN_DOUBT
    assert len(world.sent) == attempts(step) == 2


async def test_asking_whether_a_write_was_done_ends_in_time(world: World) -> None:
    """A verify that hangs has the time that an attempt has, and settles nothing."""
    world.service.does(faulty.reset_late)
    world.service.mute = True
    began_s = time.monotonic()
    async with runtime(timeout_s=TIMEOUT_S) as rt:
        outcome, _ = await turn(rt, world, "verified", timeout_s=3.0)
    assert outcome.status is IN_DOUBT
    assert time.monotonic() - began_s < TIMEOUT_S + MARGIN_S


async def test_asking_whether_a_write_was_done_is_counted(world: World) -> None:
    """What the board says was asked is what the service was asked."""
    world.service.does(faulty.reset_late)
    async with runtime() as rt:
        await turn(rt, world, "verified")
        assert world.service.asked == 1
        assert rt._gates.gates["crm"].attempts == 2  # noqa: SLF001  the board shows it later

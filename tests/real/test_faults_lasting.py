"""Services that keep failing, clients that try again by themselves, and what the board says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import undercroft as uc
from undercroft import queries
from undercroft.model.step import ErrorClass

from . import faulty
from .asking import SDK_TRIES, Model, Sdk
from .faults import (
    AMPLE_S,
    CASES,
    DEGRADED,
    DONE,
    FAILED,
    IN_DOUBT,
    SOON,
    TOUCHY,
    WORDS,
    Ahead,
    Case,
    World,
    attempts,
    error_of,
    judged,
    refused,
    runtime,
    turn,
    within,
)
from .faulty import Exchange, Fault

# -------------------------------------------------- services that keep failing

BREAKS = [case for case in CASES if case.blame == "vendor"]


@pytest.mark.parametrize("case", BREAKS, ids=lambda case: case.name)
async def test_what_keeps_failing_is_left_alone(world: World, case: Case) -> None:
    """An open breaker lets nothing through, and no write is what finds out if it is back."""
    await world.fail(case, once=False)
    clock = Ahead()
    limit_s = 0.05 if case.hangs else AMPLE_S
    async with runtime(clock=clock, breaker=TOUCHY, retry=None, timeout_s=limit_s) as rt:
        for op in ("read", "write", "read"):
            await turn(rt, world, op)
        for op in ("read", "keyed", "verified"):
            await refused(rt, world, op)
        assert len(world.sent) == 3
        clock.by_s += 61.0
        await turn(rt, world, "read")
        assert len(world.sent) == 4, "nothing found out whether it is back"
        await refused(rt, world, "keyed")

        clock.by_s += 61.0
        world.service.does()
        await world.service.listen()
        await refused(rt, world, "write")
        assert len(world.sent) == 4, "a write found out whether it is back"
        for op in ("read", "write"):
            outcome, _ = await turn(rt, world, op)
            assert outcome.status is DONE


async def test_a_model_that_keeps_failing_is_left_alone(world: World) -> None:
    """A handler that asks it is told at once, by which rule; and it is tried again later."""
    world.service.does(faulty.cut_chunks, times=3)
    clock = Ahead()
    async with runtime(clock=clock, breaker=TOUCHY, retry=uc.Retry(attempts=1)) as rt:
        for _ in range(3):
            await turn(rt, world, "model")
        outcome, step = await turn(rt, world, "model")
        assert outcome.status is FAILED
        assert outcome.error is not None
        assert outcome.error.type == "ModelError"
        assert step.refusal is not None
        assert step.refusal.rule == "breakers.open"
        assert len(world.sent) == 3
        clock.by_s += 61.0
        outcome, _ = await turn(rt, world, "model")
        assert outcome.value == WORDS


async def test_too_many_of_ours_opens_no_breaker(world: World) -> None:
    """429 is about this account: each call is still made, and the breaker stays closed."""
    world.service.does(faulty.status(429), times=10)
    async with runtime(breaker=TOUCHY, retry=None) as rt:
        for _ in range(10):
            _, step = await turn(rt, world, "read")
            assert error_of(step).blame == "account"
        outcome, _ = await turn(rt, world, "read")
    assert outcome.status is DONE
    assert len(world.service.seen) == 11


async def test_a_slow_service_is_left_alone_until_it_is_fast(world: World) -> None:
    """Answers that take too long open a breaker as failures do; a fast one closes it again."""
    policy = uc.BreakerPolicy(
        slow_s=0.05, slow_rate=1.0, window_calls=3, calls_min=3, open_s=60.0, probes=1
    )
    clock = Ahead()
    world.service.does(faulty.slow(0.06), times=3)
    async with runtime(clock=clock, breaker=policy) as rt:
        for _ in range(3):
            outcome, _ = await turn(rt, world, "read")
            assert outcome.status is DONE
        await refused(rt, world, "read")
        assert len(world.service.seen) == 3
        clock.by_s += 61.0
        assert [(await turn(rt, world, "read"))[0].status for _ in range(3)] == [DONE] * 3


async def test_a_crowded_service_is_given_as_much_as_it_takes(world: World) -> None:
    """Told "too many", calls in flight fall to what it takes; all are made, each of them once."""
    inside = 0
    told: list[int] = []

    async def crowded(to: Exchange) -> None:
        nonlocal inside
        inside += 1
        try:
            if inside > 4:
                told[-1] += 1
                await faulty.status(429)(to)
            else:
                await asyncio.sleep(0.02)
                await faulty.well(to)
        finally:
            inside -= 1

    world.service.does(crowded, times=None)
    many = uc.RetryRatio(saved_max=100.0)
    async with runtime(retry=uc.Retry(attempts=5, wait_s=0.05), ratio=many) as rt:
        for _ in range(2):
            told.append(0)
            ops = ("read", "write", "keyed") * 8
            ended = await asyncio.gather(*(turn(rt, world, op) for op in ops))
            assert {outcome.status for outcome, _ in ended} == {DONE}
    first, second = told
    assert second < first / 2, "nothing was learned"
    assert world.service.done.total() == 32


# ------------------------------------------------------------------ clients that try again


async def test_attempts_inside_a_client_are_counted(world: World) -> None:
    """Of a client that tries again by itself each attempt is told by the journal."""
    world.service.does(faulty.status(500), times=None)
    async with runtime(retry=None) as rt:
        _, step = await turn(rt, world, "read", client=Sdk(world.client()))
        assert rt._gates.gates["crm"].attempts == SDK_TRIES  # noqa: SLF001  the board is late
    assert attempts(step) == len(world.service.seen) == SDK_TRIES


@pytest.mark.parametrize("where", ["turn", "service"])
@pytest.mark.parametrize("fault", [faulty.reset_late, faulty.broke_after])
async def test_a_budget_holds_on_the_wire(world: World, fault: Fault, where: str) -> None:
    """A client that tries again by itself gets no further than the budget does."""
    world.service.does(fault, times=None)
    two = uc.Budget(attempts=2)
    async with runtime(budget=two if where == "service" else uc.Budget()) as rt:
        client = Sdk(world.client())
        options = {"budget": two} if where == "turn" else {}
        outcome, step = await turn(rt, world, "read", client=client, **options)
    assert len(world.service.seen) == 2
    assert attempts(step) == 2
    assert outcome.status is DEGRADED
    assert step.error is not None or step.refusal is not None


async def test_turns_side_by_side_do_not_overshoot_a_budget(world: World) -> None:
    """Calls at once, each with a client that tries again by itself, share what there is."""
    world.service.does(faulty.reset_late, times=None)
    async with runtime(budget=uc.Budget(attempts=5), breaker=None) as rt:
        client = Sdk(world.client())
        await asyncio.gather(*(turn(rt, world, "read", client=client) for _ in range(6)))
    assert len(world.service.seen) == 5


async def test_no_client_repeats_a_write_in_doubt(world: World) -> None:
    """A client that would send a write without a key again is kept from doing so."""
    world.service.does(faulty.reset_late, times=None)
    async with runtime() as rt:
        outcome, _ = await turn(rt, world, "write", client=Sdk(world.client()))
    assert outcome.status is IN_DOUBT
    assert len(world.service.posts) == 1


# ------------------------------------------------------------------ the model


@pytest.mark.parametrize("fault", [faulty.openai_error, faulty.anthropic_error, faulty.no_json])
async def test_a_model_that_fails_with_200_is_asked_again(world: World, fault: Fault) -> None:
    """An error in the body of a good answer is an error."""
    world.service.does(fault)
    async with runtime() as rt:
        whole = Model(world.client(), streams=False)

        @uc.handler(model=whole)
        async def ask(turn: uc.Turn) -> str:
            return (await turn.model()).text

        outcome = await rt.run(ask)
    assert (outcome.status, outcome.value) == (DONE, WORDS)
    assert len(world.service.seen) == 2


@pytest.mark.parametrize("number", [400, 401, 403])
async def test_a_model_that_rejects_us_is_asked_once(world: World, number: int) -> None:
    """What is wrong with our request is not mended by asking again, nor held against it."""
    world.service.does(faulty.status(number), times=10)
    async with runtime(breaker=TOUCHY) as rt:
        for _ in range(5):
            outcome, step = await turn(rt, world, "model")
            assert outcome.status is FAILED
            assert judged(step) == (ErrorClass.PERMANENT, "caller")
    assert len(world.service.seen) == 5


async def test_a_used_up_quota_is_a_person_s_problem(world: World) -> None:
    """It is not tried again, slows nobody down, and opens no breaker."""
    spent = faulty.status(429, faulty.in_seconds(30), faulty.QUOTA_ERROR)
    world.service.does(spent, times=4)
    async with runtime(breaker=TOUCHY) as rt:
        for _ in range(4):
            outcome, step = await turn(rt, world, "model")
            assert outcome.status is FAILED
            assert judged(step) == (ErrorClass.PERMANENT, "account")
        assert len(world.service.seen) == 4
        # Nobody is answered before all have asked: after the hint, or one by one, is too late.
        world.service.does(faulty.together(8), times=None)
        async with asyncio.timeout(AMPLE_S):
            ended = await asyncio.gather(*(turn(rt, world, "model") for _ in range(8)))
        assert [outcome.value for outcome, _ in ended] == [WORDS] * 8


# ------------------------------------------------------------------ the board


async def test_the_board_tells_what_the_service_saw(world: World, tmp_path: Path) -> None:
    """Attempts, retries and the last error, as another process reads them within a second."""
    path = tmp_path / "journal.db"
    world.service.does(faulty.status(503, SOON), faulty.reset_late, faulty.cut_chunks)
    async with runtime(store=path) as rt:
        for _ in range(2):
            await turn(rt, world, "read")

        def told() -> bool:
            (row,) = queries.read_services(str(path))
            return (row.attempts, row.retries) == (len(world.service.seen), 2)

        await within(told, "the board does not say what the service saw", 2.0)
        (row,) = queries.read_services(str(path))
        assert row.last_error is not None
        assert row.last_error.error_class == ErrorClass.TRANSIENT
        assert (row.state, row.calls, row.failures) == ("closed", 4, 3)

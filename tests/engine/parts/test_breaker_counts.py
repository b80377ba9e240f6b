"""What counts against a breaker, what for it, and what not at all."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any

import pytest

from tests.engine.parts.calling import (
    CLOSED,
    HALF_OPEN,
    TOUCHY,
    Clock,
    Service,
    fails,
    half_open,
    raiser,
    through,
)
from undercroft.engine.parts.breaker import Breaker
from undercroft.errors import (
    BreakerOpenError,
    DomainError,
    ServiceError,
)
from undercroft.layers.breakers.classes import Blame, ErrorRule, ErrorTable, Judged
from undercroft.layers.breakers.policy import BreakerPolicy
from undercroft.model.step import ErrorClass

# ------------------------------------------------------------------ what counts


@pytest.mark.parametrize("way", ["decorator", "block", "call"])
@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt(), SystemExit(1)],
    ids=repr,
)
async def test_being_stopped_is_neutral(clock: Clock, way: str, error: BaseException) -> None:
    """Cancelled, closed, interrupted, told to exit: the probe's permit is free again."""
    breaker = Breaker("crm", TOUCHY, clock=clock)
    await half_open(breaker, clock)
    with pytest.raises(type(error)):
        await through(breaker, way, functools.partial(raiser, error))
    seen = breaker.metrics()
    assert (breaker.state, seen.calls, seen.in_flight) == (HALF_OPEN, 0, 0)
    assert breaker.admit()


@pytest.mark.parametrize("way", ["decorator", "block", "call"])
async def test_a_cancelled_probe_frees_its_permit(clock: Clock, service: Service, way: str) -> None:
    """Whether it was cancelled in its body or before it began."""
    breaker = Breaker("crm", TOUCHY, clock=clock)

    await half_open(breaker, clock)
    service.gate.clear()
    for ticks in (0, 1, 2):
        task = asyncio.create_task(through(breaker, way, service.call))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert breaker.metrics().in_flight == 0
    service.gate.set()
    await through(breaker, way, service.call)
    assert breaker.state is CLOSED


async def test_a_coroutine_that_is_thrown_away_frees_its_permit(
    clock: Clock, service: Service
) -> None:
    """Closed before it began or in the middle, it leaves nothing behind."""
    breaker = Breaker("crm", TOUCHY, clock=clock)
    guarded = breaker(service.call)
    service.gate.clear()
    await half_open(breaker, clock)
    guarded().close()
    coroutine = guarded()
    coroutine.send(None)
    assert breaker.metrics().in_flight == 1
    coroutine.close()
    assert breaker.metrics().in_flight == 0
    assert breaker.admit()


async def test_a_timeout_counts_where_it_raises(clock: Clock, service: Service) -> None:
    """Inside it is a failure, outside it cancels the call, and that is neutral."""
    breaker = Breaker("crm", BreakerPolicy(window_calls=10), clock=clock)
    service.gate.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001), breaker:
            await service.call()
    assert breaker.metrics().calls == 0
    with pytest.raises(TimeoutError):
        async with breaker, asyncio.timeout(0.001):
            await service.call()
    assert breaker.metrics().failures == 1


@pytest.mark.parametrize(
    ("error", "calls", "failures"),
    [
        (ConnectionError(), 1, 1),
        (TimeoutError(), 1, 1),
        (ServiceError("crm", "overloaded", 529), 1, 1),
        (ValueError("a bug"), 1, 1),
        (ServiceError("crm", "too many", 429), 0, 0),
        (ServiceError("crm", "no such account", 404), 1, 0),
        (DomainError("no"), 1, 0),
        (BreakerOpenError("another", "open", "Wait."), 0, 0),
        (ExceptionGroup("all", [ConnectionError(), ConnectionError()]), 1, 1),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_errors_count_by_whose_failure_they_are(
    error: Exception, calls: int, failures: int
) -> None:
    """Of the service or unknown: a failure. Of the caller: no failure. Of the account: neither."""
    for way in ("decorator", "block"):
        breaker = Breaker("crm")
        if way == "decorator":
            await fails(breaker, error)
        else:
            with pytest.raises(type(error)):
                async with breaker:
                    raise error
        seen = breaker.metrics()
        assert (seen.calls, seen.failures, seen.in_flight) == (calls, failures, 0)


async def test_ignored_errors_count_for_nothing(clock: Clock) -> None:
    """Neither as failure nor as success; as a probe it returns its permit."""
    breaker = Breaker("crm", TOUCHY, clock=clock, ignore=(KeyError, ValueError))
    await half_open(breaker, clock)
    await fails(breaker, ValueError())
    await fails(breaker, KeyError())
    assert (breaker.state, breaker.metrics().calls) == (HALF_OPEN, 0)
    single = Breaker("crm", ignore=LookupError)
    await fails(single, KeyError())
    assert single.metrics().calls == 0


async def test_a_judge_decides_before_the_table() -> None:
    """By a blame, by its word, by all that is known of it; None leaves it to the table."""
    said: list[Any] = []
    breaker = Breaker("crm", judge=lambda _: said[0])
    for answer, calls, failures in (
        (Blame.CALLER, 1, 0),
        ("vendor", 2, 1),
        (Judged(ErrorClass.OVERLOADED, Blame.ACCOUNT), 2, 1),
        (None, 3, 2),
    ):
        said[:] = [answer]
        await fails(breaker, ConnectionError())
        seen = breaker.metrics()
        assert (seen.calls, seen.failures) == (calls, failures)


@pytest.mark.parametrize("bad", [ZeroDivisionError(), "nonsense"])
async def test_a_judge_that_fails_breaks_nothing(
    bad: Exception | str, caplog: pytest.LogCaptureFixture
) -> None:
    """The built-in table decides, the caller sees the error of the call, one warning is logged."""

    def judge(error: BaseException) -> Any:
        if isinstance(bad, Exception):
            raise bad
        return bad

    breaker = Breaker("crm", judge=judge)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await fails(breaker, ConnectionError())
            await fails(breaker, DomainError("no"))
    seen = breaker.metrics()
    assert (seen.calls, seen.failures) == (6, 3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_table_of_ones_own() -> None:
    """Rules of a user say whose failure it is."""
    table = ErrorTable([ErrorRule(ValueError, ErrorClass.DOMAIN)])
    breaker = Breaker("crm", table=table)
    await fails(breaker, ValueError())
    assert (breaker.metrics().calls, breaker.metrics().failures) == (1, 0)


async def test_an_answer_that_says_it_failed_is_a_failure() -> None:
    """A provider's error in place of an answer counts, and is returned as it came."""
    answers: list[Any] = [
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        {"error": "a word that is not a provider's"},
        {"type": BreakerOpenError},
    ]
    breaker = Breaker("crm")

    @breaker
    async def ask() -> Any:
        return answers[0]

    for failures in (1, 1, 1):
        assert await ask() is answers[0]
        assert breaker.metrics().failures == failures
        answers.pop(0)
    assert breaker.metrics().calls == 3


async def test_a_value_that_cannot_be_looked_at_is_a_value() -> None:
    """Whatever is in a returned dict, the call went well."""

    class Sly:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

    breaker = Breaker("crm")

    @breaker
    async def ask() -> Any:
        return {"type": Sly(), "error": Sly()}

    assert await ask()
    assert (breaker.metrics().calls, breaker.metrics().failures) == (1, 0)

"""Where a call fails something else answers, but never for a write that may have happened."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from undercroft.engine.parts.breaker import Breaker
from undercroft.engine.parts.fallback import Fallback
from undercroft.engine.parts.retry import Retry
from undercroft.errors import (
    BreakerOpenError,
    BudgetError,
    DeclarationError,
    DomainError,
    ServiceError,
    SettingError,
    UnknownOutcomeError,
)
from undercroft.layers.breakers.classes import ErrorRule, ErrorTable
from undercroft.layers.breakers.policy import BreakerPolicy
from undercroft.model.step import ErrorClass


def fails(error: BaseException, fallback: Fallback) -> Any:
    """Return a function that fails, with something to fall back to."""

    @fallback
    async def ask(_question: str = "") -> Any:
        raise error

    return ask


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ServiceError("s", "p", 503),
        ServiceError("s", "p", 429),
        ServiceError("s", "p", 402),
        BreakerOpenError("s", "p", "m"),
        BudgetError("s", "p", "m"),
    ],
    ids=lambda e: getattr(e, "status", None) or type(e).__name__,
)
async def test_it_answers_where_a_service_cannot(error: Exception) -> None:
    """For now failed, overloaded, refused or not paid for: the fallback answers."""
    assert await fails(error, Fallback("instead"))() == "instead"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        RuntimeError("no"),
        DomainError("no"),
        ServiceError("s", "p", 404),
        UnknownOutcomeError("who knows"),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
    ],
    ids=lambda e: getattr(e, "status", None) or type(e).__name__,
)
async def test_other_errors_pass(error: BaseException) -> None:
    """A bug, a no and a cancellation are not papered over."""
    with pytest.raises(type(error)) as caught:
        await fails(error, Fallback("instead"))()
    assert caught.value is error


async def test_on_names_further_errors_but_no_doubt() -> None:
    """What may have happened is never done in another way as well, whoever asks for it."""
    assert await fails(ValueError("no"), Fallback(1, on=ValueError))() == 1
    assert await fails(ValueError("no"), Fallback(1, on=lambda e: "no" in str(e)))() == 1
    for fallback in (Fallback(1, on=Exception), Fallback(1, on=lambda _: True)):
        with pytest.raises(UnknownOutcomeError):
            await fails(UnknownOutcomeError("who knows"), fallback)()
    with pytest.raises(TimeoutError):
        await fails(TimeoutError(), Fallback(1, on=Exception, changes=True))()
    assert await fails(ConnectionRefusedError(), Fallback(1, changes=True))() == 1


async def test_a_function_is_given_the_arguments() -> None:
    """Sync or async, it answers in place of the call."""

    async def slow(question: str) -> str:
        await asyncio.sleep(0)
        return f"slow {question}"

    assert await fails(TimeoutError(), Fallback(slow))("why") == "slow why"
    assert await fails(TimeoutError(), Fallback(str.upper))("why") == "WHY"


async def test_a_value_is_everybody_s_own() -> None:
    """Who changes what he was given changes nothing for the next."""
    ask = fails(TimeoutError(), Fallback({"rows": []}))
    first = await ask()
    first["rows"].append(1)
    assert await ask() == {"rows": []}


async def test_a_fallback_that_fails_too_shows_both() -> None:
    """Its error is raised from the one that led to it."""
    first, second = TimeoutError("first"), ValueError("second")

    def broken(_question: str = "") -> None:
        raise second

    with pytest.raises(ValueError, match="second") as caught:
        await fails(first, Fallback(broken))()
    assert caught.value is second
    assert second.__cause__ is first

    def same(_question: str = "") -> None:
        raise first

    with pytest.raises(TimeoutError) as again:
        await fails(first, Fallback(same))()
    assert again.value is first
    assert first.__cause__ is None


async def test_a_cancelled_fallback_is_cancelled() -> None:
    """A cancellation is never turned into something else."""

    async def hang(_question: str = "") -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(fails(TimeoutError(), Fallback(hang))())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_table_of_one_s_own_decides() -> None:
    """What a user says errors mean comes before what we know."""
    table = ErrorTable([ErrorRule(KeyError, ErrorClass.TRANSIENT)])
    assert await fails(KeyError("later"), Fallback(1, table=table))() == 1


async def test_it_is_the_exit_of_a_retry_over_a_breaker() -> None:
    """Stacked, the parts end in the fallback, with as many attempts as the breaker lets through."""
    calls = 0

    async def no_wait(_wait_s: float) -> None:
        pass

    @Fallback("instead")
    @Retry(attempts=7, sleep=no_wait)
    @Breaker("s", BreakerPolicy(failures_max=3))
    async def ask() -> str:
        nonlocal calls
        calls += 1
        raise TimeoutError

    assert [await ask(), await ask()] == ["instead", "instead"]
    assert calls == 3


@pytest.mark.parametrize(
    ("setting", "value"), [("on", int), ("on", "ValueError"), ("changes", 1), ("table", None)]
)
def test_a_bad_setting_fails_where_it_is_written(setting: str, value: Any) -> None:
    """Settings that make no sense name themselves."""
    with pytest.raises(SettingError) as caught:
        Fallback(1, **{setting: value})
    assert caught.value.name == setting


def test_only_async_functions_have_a_fallback() -> None:
    """What cannot be awaited is refused where it is declared."""
    sync: Any = lambda: 1  # noqa: E731  as a user may write it
    with pytest.raises(DeclarationError, match="a fallback is for async functions"):
        Fallback(1)(sync)

"""A failed call is tried again, by one owner, with or without a runtime."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.engine.parts.breaker import Breaker
from undercroft.engine.parts.retry import Retry
from undercroft.engine.parts.timeout import Timeout
from undercroft.engine.parts.wire import wire_attempt
from undercroft.errors import (
    BreakerOpenError,
    BudgetError,
    DeadlineError,
    DeclarationError,
    DomainError,
    ServiceError,
    SettingError,
)
from undercroft.layers.breakers.classes import ErrorRule, ErrorTable
from undercroft.layers.breakers.policy import BreakerPolicy, RetryPolicy, RetryRatio
from undercroft.layers.breakers.waits import RetryTokens
from undercroft.model.step import ErrorClass
from undercroft.testing.clock import run_virtual


class Time:
    """A clock that is moved by sleeping."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits: list[float] = []

    async def sleep(self, wait_s: float) -> None:
        """Return at once, later."""
        self.waits.append(wait_s)
        self.now_s += wait_s

    def retry(self, **settings: Any) -> Retry:
        """Return a retry on this clock, with the longest waits that there are."""
        own: dict[str, Any] = {"jitter": lambda: 1.0, "wall": lambda: 0.0}
        return Retry(**own | {"sleep": self.sleep, "clock": lambda: self.now_s} | settings)


class Service:
    """Fails as told, then answers with how often it was asked."""

    def __init__(
        self, *fails: BaseException | Callable[[], BaseException], forever: bool = False
    ) -> None:
        self.fails, self.forever, self.calls = list(fails), forever, 0

    async def __call__(self) -> int:
        """Be asked."""
        self.calls += 1
        place = min(self.calls, len(self.fails)) if self.forever else self.calls
        if place <= len(self.fails):
            fail = self.fails[place - 1]
            raise fail if isinstance(fail, BaseException) else fail()
        return self.calls


async def by_decorator(retry: Retry, service: Service) -> int:
    """Call through the decorator."""

    @retry
    async def ask() -> int:
        return await service()

    return await ask()


async def by_loop(retry: Retry, service: Service) -> int:
    """Call through the loop."""
    answer = 0
    async for attempt in retry:
        with attempt:
            answer = await service()
    return answer


both = pytest.mark.parametrize("ask", [by_decorator, by_loop])


@both
async def test_what_fails_for_now_is_tried_again(ask: Any) -> None:
    """Waits double up to their bound, and the first answer is the answer."""
    time = Time()
    service = Service(*[TimeoutError()] * 5)
    assert await ask(time.retry(attempts=7, wait_s=1.0, wait_max_s=4.0), service) == 6
    assert time.waits == [1, 2, 4, 4, 4]


@both
async def test_attempts_end_with_the_last_error_unchanged(ask: Any) -> None:
    """It is the very error that was raised last, with its cause, and a note of what was tried."""
    time = Time()
    cause = ValueError("below")
    last = TimeoutError("last")
    last.__cause__ = cause
    service = Service(TimeoutError("first"), TimeoutError("second"), last)
    with pytest.raises(TimeoutError) as caught:
        await ask(time.retry(attempts=3, wait_s=1.0), service)
    assert caught.value is last
    assert (last.__cause__, last.__context__) == (cause, None)
    assert last.__notes__ == ["Tried 3 times in 3 s; all attempts are used up."]
    assert service.calls == 3


@both
@pytest.mark.parametrize(
    "error", [ValueError("no"), DomainError("no"), RuntimeError("no"), ServiceError("s", "p", 402)]
)
async def test_what_will_not_change_is_not_tried_again(ask: Any, error: Exception) -> None:
    """Bugs, refusals of the business and used up quotas are raised at once, and without a note."""
    service = Service(error, forever=True)
    with pytest.raises(type(error)) as caught:
        await ask(Time().retry(attempts=9), service)
    assert service.calls == 1
    assert not hasattr(caught.value, "__notes__")


@both
async def test_a_write_in_doubt_is_not_tried_again(ask: Any) -> None:
    """Of code that changes the world only what surely did not happen is tried again."""
    for error, calls in ((TimeoutError(), 1), (ConnectionRefusedError(), 3)):
        service = Service(error, forever=True)
        with pytest.raises(type(error)):
            await ask(Time().retry(attempts=3, changes=True), service)
        assert service.calls == calls
    with pytest.raises(TimeoutError):
        await ask(Time().retry(changes=True, on=Exception), service := Service(TimeoutError()))
    assert service.calls == 1


@both
async def test_cancelling_ends_it(ask: Any) -> None:
    """A cancellation is no failure, neither in an attempt nor in a wait."""
    service = Service(asyncio.CancelledError(), forever=True)
    with pytest.raises(asyncio.CancelledError):
        await ask(Time().retry(attempts=9, on=Exception), service)
    assert service.calls == 1
    service = Service(TimeoutError(), forever=True)
    task = asyncio.create_task(ask(Retry(wait_s=60.0, wait_max_s=60.0, jitter=lambda: 1), service))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert service.calls == 1


@both
async def test_a_hint_is_obeyed(ask: Any) -> None:
    """Not before the service wants it; and not at all if that is too long."""
    time = Time()
    assert await ask(time.retry(wait_s=0.1), Service(ServiceError("s", "p", 429, "", 20.0))) == 2
    assert time.waits == [20.1]
    week = Service(ServiceError("s", "p", 429, "", 604_800.0), forever=True)
    with pytest.raises(ServiceError) as caught:
        await ask(time.retry(), week)
    assert week.calls == 1
    assert "left alone for longer than we wait" in caught.value.__notes__[0]


@both
async def test_further_errors_are_named_by_on(ask: Any) -> None:
    """A type, several, or a function; a function that fails names nothing."""
    broken: Any = lambda _: 1 / 0  # noqa: E731  as a user may write it
    for on, calls in (
        (ValueError, 3),
        ((KeyError, ValueError), 3),
        (lambda e: "again" in str(e), 3),
        (KeyError, 1),
        (broken, 1),
    ):
        service = Service(ValueError("again"), forever=True)
        with pytest.raises(ValueError, match="again"):
            await ask(Time().retry(attempts=3, on=on), service)
        assert service.calls == calls


@both
async def test_a_table_of_one_s_own_decides(ask: Any) -> None:
    """What a user says errors mean comes before what we know."""
    table = ErrorTable([ErrorRule(KeyError, ErrorClass.TRANSIENT)])
    assert await ask(Time().retry(table=table), Service(KeyError("later"))) == 2


# --------------------------------------------------------------------------- with other parts


@both
async def test_over_an_open_breaker_it_ends(ask: Any) -> None:
    """Seven attempts over a breaker of three: the body runs three times, and "open" is raised.

    Not even asked to try every error again does it hammer on an open breaker.
    """
    for settings in ({}, {"on": Exception}):
        time = Time()
        breaker = Breaker(
            "s",
            BreakerPolicy(failures_max=3, open_s=5.0),
            clock=lambda time=time: time.now_s,  # type: ignore[misc]
        )
        service = Service(TimeoutError, forever=True)
        guarded: Any = breaker(service.__call__)
        with pytest.raises(BreakerOpenError) as caught:
            await ask(time.retry(attempts=7, **settings), guarded)
        assert service.calls == 3
        assert "Tried 4 times" in caught.value.__notes__[0]


async def test_an_open_breaker_is_waited_for_by_who_says_so() -> None:
    """`on` may name the refusal: then the next attempt comes when a call may be made."""
    time = Time()
    service = Service(BreakerOpenError("s", "p", "m", 5.0), BreakerOpenError("s", "p", "m", 90.0))
    with pytest.raises(BreakerOpenError):
        await by_loop(time.retry(on=BreakerOpenError, wait_s=1.0), service)
    assert time.waits == [6]
    assert service.calls == 2


def test_no_attempt_is_begun_that_would_be_cut_off() -> None:
    """Inside of a timeout what would not be over in time, as far as is known, is not begun."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls = 0

        @Retry(attempts=50, wait_s=1.0, wait_max_s=1.0, jitter=lambda: 0.5, clock=loop.time)
        async def ask() -> None:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise TimeoutError
            await asyncio.sleep(2)

        async with Timeout(5):
            # From now on it knows how long a success takes.
            await ask()
            with pytest.raises(TimeoutError) as caught:
                await ask()
        # At 2.0, 2.5 and, with the two seconds that it takes just in time, not at 3.0.
        assert (calls, loop.time()) == (3, 2.5)
        assert "could not come to its end in time" in caught.value.__notes__[0]

    run_virtual(main())


def test_whatever_is_tried_a_timeout_around_it_holds() -> None:
    """Nothing hangs past its deadline, however many attempts are left."""

    async def main() -> None:
        async def hang() -> None:
            async with Timeout(1):
                await asyncio.sleep(99)

        retry = Retry(attempts=100, wait_s=0.1, jitter=lambda: 0.5)
        with pytest.raises(DeadlineError):
            await Timeout(5)(retry(hang))()
        assert asyncio.get_running_loop().time() <= 5

    run_virtual(main())


async def test_retries_are_a_share_of_the_calls() -> None:
    """Functions that are given the same tokens share what there is."""
    time = Time()
    tokens = RetryTokens(RetryRatio(ratio=0.1, floor_per_min=0, saved_max=2))
    retry = time.retry(attempts=3, ratio=tokens)
    services = [Service(TimeoutError, forever=True) for _ in range(12)]
    errors: list[BaseException] = []
    for n, service in enumerate(services):
        with pytest.raises(TimeoutError) as caught:
            await (by_decorator if n % 2 else by_loop)(retry, service)
        errors.append(caught.value)
    # Two saved up, and one of twelve calls.
    assert sum(service.calls for service in services) == 12 + 3
    assert "retries that its service is given are used up" in errors[-1].__notes__[0]
    own = time.retry(ratio=RetryRatio(ratio=0, floor_per_min=0, saved_max=1))
    service = Service(TimeoutError, forever=True)
    with pytest.raises(TimeoutError):
        await by_decorator(own, service)
    assert service.calls == 2


class Library:
    """A client that tries again by itself, as often as it likes."""

    def __init__(self, retries: int) -> None:
        self.retries, self.sent, self.calls = retries, 0, 0

    async def __call__(self) -> int:
        """Ask, and ask again."""
        self.calls += 1
        for attempt in range(1 + self.retries):
            try:
                await wire_attempt()
            except BudgetError as error:
                # As the client of Anthropic does with whatever a hook raises.
                wrapped = type("APIConnectionError", (Exception,), {"__module__": "anthropic"})
                if attempt == self.retries:
                    raise wrapped from error
                continue
            self.sent += 1
        raise TimeoutError


@both
@pytest.mark.parametrize(("retries", "calls", "sent"), [(0, 3, 3), (1, 2, 3), (2, 1, 3), (9, 1, 3)])
async def test_what_a_library_tries_again_counts(
    ask: Any, retries: int, calls: int, sent: int
) -> None:
    """However the attempts are spread over calls and the library, there are no more of them."""
    library: Any = Library(retries)
    with pytest.raises(Exception) as caught:  # noqa: PT011  the library's or its own
        await ask(Time().retry(attempts=3), library)
    assert (library.calls, library.sent) == (calls, sent)
    if retries in {1, 2}:
        assert "3 attempts on the wire" in caught.value.__notes__[0] or retries == 1


KINDS: dict[str, Callable[[], Exception]] = {
    "timeout": TimeoutError,
    "refused": ConnectionRefusedError,
    "busy": lambda: ServiceError("s", "p", 503, "", 2.0),
    "week": lambda: ServiceError("s", "p", 503, "", 604_800.0),
    "no": lambda: DomainError("no"),
    "bug": lambda: ValueError("no"),
    "open": lambda: BreakerOpenError("s", "p", "m", 0.1),
    "quota": lambda: ServiceError("s", "p", 402),
}
FOR_NOW = {"timeout", "refused", "busy"}


@given(
    st.lists(st.sampled_from(sorted(KINDS)), max_size=8),
    st.integers(1, 6),
    st.booleans(),
    st.booleans(),
    st.sampled_from([by_decorator, by_loop]),
)
def test_whatever_fails_it_is_tried_as_often_as_it_is_worth(
    kinds: list[str],
    attempts: int,
    changes: bool,  # noqa: FBT001  a property's argument
    everything: bool,  # noqa: FBT001  a property's argument
    ask: Any,
) -> None:
    """The number of calls, and what comes of them, are those of a count by hand."""
    expected, ends = 0, ""
    for kind in kinds:
        expected += 1
        ends = kind
        again = kind in FOR_NOW and not (kind == "timeout" and changes)
        again = again or (everything and kind in {"no", "bug"})
        if not again or expected == attempts:
            break
    else:
        expected, ends = expected + 1, ""
    time = Time()
    retry = time.retry(attempts=attempts, changes=changes, on=Exception if everything else None)
    service = Service(*(KINDS[kind]() for kind in kinds))
    answer, caught = None, None
    try:
        answer = asyncio.run(ask(retry, service))
    except Exception as error:  # noqa: BLE001  compared below
        caught = error
    assert caught is (service.fails[expected - 1] if ends else None)
    assert answer == (None if ends else expected)
    assert service.calls == expected
    assert len(time.waits) == expected - 1
    # After an error that asked for two seconds, at least so long.
    waits = zip(kinds, time.waits, strict=False)
    assert all(wait_s >= 2 for kind, wait_s in waits if kind == "busy")


# --------------------------------------------------------------------------- decorator and loop


async def test_the_decorator_keeps_the_function() -> None:
    """Arguments, result and name pass through."""

    @Retry()
    async def add(a: int, *, b: int = 1) -> int:
        """Add."""
        return a + b

    assert await add(1, b=2) == 3
    assert (add.__name__, add.__doc__) == ("add", "Add.")


async def test_calls_of_one_function_do_not_mix() -> None:
    """Each call has all its attempts, also side by side."""
    seen: dict[int, int] = {}

    @Time().retry(attempts=3)
    async def ask(n: int) -> int:
        seen[n] = seen.get(n, 0) + 1
        await asyncio.sleep(0)
        if seen[n] < 3:
            raise TimeoutError
        return n

    assert await asyncio.gather(*map(ask, range(50))) == list(range(50))
    assert set(seen.values()) == {3}


async def test_an_answer_that_is_an_error_is_tried_again() -> None:
    """A dict in the shape of a provider's error counts as one; the last is returned."""
    failed = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    answers: list[Any] = [failed, {"text": "hello"}]

    @Time().retry(attempts=2)
    async def ask() -> Any:
        return answers.pop(0)

    assert await ask() == {"text": "hello"}
    answers += [failed, failed, failed]
    assert await ask() == failed
    assert len(answers) == 1


async def test_the_loop_counts_and_stops() -> None:
    """Attempts are numbered; one that went well, or that nobody entered, is the last."""
    numbers = []
    async for attempt in Time().retry(attempts=5):
        with attempt:
            numbers.append(attempt.number)
            if attempt.number < 3:
                raise TimeoutError
    assert numbers == [1, 2, 3]
    numbers += [attempt.number async for attempt in Time().retry()]
    assert numbers == [1, 2, 3, 1]
    retry = Time().retry()
    for _ in range(2):
        async for attempt in retry:
            with attempt:
                break
        assert attempt.number == 1


async def test_an_error_that_takes_no_notes_is_raised_all_the_same() -> None:
    """What is only said must not get in the way of what is raised."""

    class MuteError(TimeoutError):
        def add_note(self, note: str, /) -> None:
            raise RuntimeError(note)

    with pytest.raises(MuteError):
        await by_decorator(Time().retry(), Service(MuteError(), forever=True))


def test_it_is_a_policy() -> None:
    """What is declared on a tool is the same thing, frozen and comparable."""
    retry = Retry(attempts=5)
    assert isinstance(retry, RetryPolicy)
    assert retry == Retry(attempts=5)
    assert hash(retry) == hash(Retry(attempts=5))
    assert "attempts=5" in repr(retry)
    assert " at 0x" not in repr(retry)
    with pytest.raises(AttributeError):
        retry.attempts = 6  # type: ignore[misc]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("attempts", 0),
        ("attempts", math.nan),
        ("wait_s", -1),
        ("wait_max_s", math.inf),
        ("hint_max_s", -1),
        ("on", int),
        ("on", asyncio.CancelledError),
        ("on", (ValueError, "KeyError")),
        ("on", "ValueError"),
        ("changes", 1),
        ("table", {}),
        ("ratio", 0.1),
        ("sleep", 1.0),
        ("clock", None),
        ("jitter", 0.5),
    ],
)
def test_a_bad_setting_fails_where_it_is_written(setting: str, value: Any) -> None:
    """Settings that make no sense name themselves."""
    with pytest.raises(SettingError) as caught:
        Retry(**{setting: value})
    assert caught.value.name == setting


def test_only_async_functions_are_tried_again() -> None:
    """What cannot be awaited is refused where it is declared."""
    sync: Any = lambda: 1  # noqa: E731  as a user may write it
    with pytest.raises(DeclarationError, match="a retry is for async functions"):
        Retry()(sync)

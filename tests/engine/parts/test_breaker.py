"""A breaker round async code: what it lets through, what it counts, what cannot break it."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import math
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from tests.engine.parts.calling import CLOSED, OPEN, TOUCHY, Clock, Service, fails, half_open
from tests.layers.breakers.size import size_bytes
from undercroft.engine.parts.breaker import Breaker
from undercroft.errors import (
    BreakerOpenError,
    DeclarationError,
    SettingError,
)
from undercroft.layers.breakers.policy import DEFAULT_BREAKER, BreakerPolicy
from undercroft.layers.breakers.state import BreakerState, Transition

# ------------------------------------------------------------------ one call


async def test_a_guarded_function_stays_what_it_was(service: Service) -> None:
    """Arguments, result, name, signature; and it is still an async function."""
    guarded = Breaker("crm")(service.call)
    assert await guarded(1, more=2) == 3
    assert guarded.__name__ == "call"
    assert inspect.signature(guarded) == inspect.signature(service.call)
    assert inspect.iscoroutinefunction(guarded)
    with pytest.raises(TypeError, match="less"):
        await guarded(1, less=2)  # type: ignore[call-arg]


async def test_a_method_can_be_guarded() -> None:
    """The decorator does in a class what it does outside."""
    breaker = Breaker()

    class Client:
        def __init__(self, name: str) -> None:
            self.name = name

        @breaker
        async def get(self) -> str:
            """Return the name."""
            return self.name

    assert await Client("a").get() == "a"
    assert breaker.metrics().calls == 1


async def test_an_open_breaker_refuses_and_says_when(clock: Clock, service: Service) -> None:
    """The body is not begun; the error names the service and the time."""
    breaker = Breaker("crm", TOUCHY, clock=clock)
    guarded = breaker(service.call)
    await fails(breaker, ConnectionError())
    clock.now_s += 2.0
    with pytest.raises(BreakerOpenError, match="crm") as raised:
        await guarded()
    assert (raised.value.service, raised.value.retry_in_s) == ("crm", 3.0)
    assert "in 3 s" in str(raised.value)
    assert service.calls == 0
    assert breaker.metrics().refused == 1
    clock.now_s += 3.0
    assert await guarded(1) == 1
    assert breaker.state is CLOSED


async def test_each_state_that_refuses_says_why(clock: Clock) -> None:
    """An opening, probes on their way and a person's hand are told apart."""
    breaker = Breaker("crm", TOUCHY, clock=clock)
    said = []
    await fails(breaker, ConnectionError())
    for step in ("open", "half open", "forced open"):
        if step == "half open":
            clock.now_s += 5.0
        elif step == "forced open":
            breaker.force_open()
        breaker.admit()
        with pytest.raises(BreakerOpenError) as raised:
            async with breaker:
                pass
        said.append((raised.value.problem, raised.value.retry_in_s))
    assert len({problem for problem, _ in said}) == 3
    assert [retry_in_s for _, retry_in_s in said] == [5.0, None, None]


async def test_more_attempts_than_the_breaker_takes(clock: Clock, service: Service) -> None:
    """Seven attempts over a breaker of three: the body runs three times, then it is open."""
    policy = BreakerPolicy(failure_rate=None, failures_max=3)
    guarded = Breaker("crm", policy, clock=clock)(service.call)
    service.error = ConnectionError()
    errors: list[Exception] = []
    for _ in range(7):
        try:
            await guarded()
        except (ConnectionError, BreakerOpenError) as error:
            errors.append(error)
    assert service.calls == 3
    assert [type(error) for error in errors] == [ConnectionError] * 3 + [BreakerOpenError] * 4


async def test_low_level_calls_raise_nothing(clock: Clock) -> None:
    """`admit` says 0 where a block would raise, and permits go back by hand."""
    breaker = Breaker("crm", TOUCHY, clock=clock)
    breaker.succeeded(breaker.admit(), took_s=1.0)
    assert (breaker.metrics().calls, breaker.metrics().p50_s) == (1, 1.0)
    breaker.released(breaker.admit())
    assert (breaker.metrics().calls, breaker.metrics().in_flight) == (1, 0)
    breaker.failed(breaker.admit(), took_s=1.0)
    assert breaker.state is OPEN
    assert breaker.admit() == 0
    clock.now_s += 5.0
    assert breaker.admit(probe=False) == 0
    assert breaker.admit() > 0
    assert breaker.admit() == 0


async def test_a_write_is_never_a_probe(clock: Clock, service: Service) -> None:
    """Guarded with `probe=False` it is refused until something else has found out."""
    breaker = Breaker("crm", TOUCHY, clock=clock)
    write = functools.partial(breaker.guard, probe=False)(service.call)
    await half_open(breaker, clock)
    with pytest.raises(BreakerOpenError):
        await write()
    with pytest.raises(BreakerOpenError):
        async with breaker.call(probe=False):
            pass
    assert (breaker.state, service.calls) == (OPEN, 0)
    async with breaker.call():
        pass
    assert await write(1) == 1


# ------------------------------------------------------------------ many calls


async def test_one_permit_for_a_hundred_callers(clock: Clock, service: Service) -> None:
    """A hundred at once, half open with one permit: one runs, the others are refused."""
    breaker = Breaker("crm", TOUCHY, clock=clock)
    guarded = breaker(service.call)
    await half_open(breaker, clock)
    service.gate.clear()
    tasks = [asyncio.create_task(guarded()) for _ in range(100)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert service.calls == 1
    service.gate.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(one, BreakerOpenError) for one in ended) == 99
    assert (service.calls, breaker.state) == (1, CLOSED)


async def test_refusals_do_not_pile_up(clock: Clock, service: Service) -> None:
    """A hundred refusals keep one stack depth, and none remembers another."""
    breaker = Breaker("crm", TOUCHY, clock=clock)
    guarded = breaker(service.call)
    await fails(breaker, ConnectionError())
    depths, seen = set(), set()
    for _ in range(100):
        with pytest.raises(BreakerOpenError) as raised:
            await guarded()
        error = raised.value
        depths.add(len(traceback.extract_tb(error.__traceback__)))
        seen.add(id(error))
        assert error.__context__ is None
        assert error.__cause__ is None
    assert len(depths) == 1
    assert len(gc.get_referrers(error)) < 5


async def test_calls_at_a_time_are_kept_apart(clock: Clock) -> None:
    """Blocks of many tasks that end in any order: each has its own beginning."""
    policy = BreakerPolicy(failure_rate=None, slow_s=10.0, slow_rate=1.0, window_calls=100)
    breaker = Breaker("crm", policy, clock=clock)
    gates = [asyncio.Event() for _ in range(4)]

    async def use(gate: asyncio.Event) -> None:
        async with breaker:
            await gate.wait()

    tasks = []
    for gate in gates:
        tasks.append(asyncio.create_task(use(gate)))
        await asyncio.sleep(0)
        clock.now_s += 4.0
    # They began 16, 12, 8 and 4 s ago.
    for at in (2, 0, 3, 1):
        gates[at].set()
        await tasks[at]
    seen = breaker.metrics()
    assert (seen.calls, seen.slow, seen.in_flight) == (4, 2, 0)
    assert (seen.p50_s, seen.p99_s) == (8.0, 16.0)


async def test_blocks_may_lie_within_each_other(clock: Clock) -> None:
    """Of one breaker and of several, in one task and in tasks that it starts."""
    outer, inner = Breaker("a", clock=clock), Breaker("b", clock=clock)

    async def child() -> None:
        async with outer:
            clock.now_s += 1.0

    async with outer:
        async with inner, outer:
            clock.now_s += 1.0
        await asyncio.gather(child(), child())
        assert outer.metrics().in_flight == 1
    assert (outer.metrics().calls, outer.metrics().in_flight) == (4, 0)
    assert (inner.metrics().calls, inner.metrics().in_flight) == (1, 0)
    assert outer.metrics().p99_s == 3.0


async def test_blocks_may_be_left_in_any_order_and_by_anybody(clock: Clock) -> None:
    """Entered by one task and left by another, as generators are: each permit comes back."""
    a, b = Breaker("a", clock=clock), Breaker("b", clock=clock)
    await a.__aenter__()
    await b.__aenter__()
    await a.__aexit__(None, None, None)
    await b.__aexit__(None, None, None)

    async def held() -> AsyncGenerator[None, None]:
        async with a:
            yield

    generator = held()

    async def step() -> None:
        await anext(generator)

    await asyncio.create_task(step())
    assert a.metrics().in_flight == 1
    with pytest.raises(StopAsyncIteration):
        await generator.asend(None)
    assert (a.metrics().in_flight, a.metrics().calls) == (0, 2)
    with pytest.raises(RuntimeError, match="never entered"):
        await a.__aexit__(None, None, None)


async def test_a_block_is_one_call(clock: Clock) -> None:
    """`breaker.call()` may be used again, but not while it is under way."""
    breaker = Breaker("crm", TOUCHY, clock=clock)
    block = breaker.call()
    for _ in range(2):
        async with block:
            with pytest.raises(RuntimeError, match="under way"):
                await block.__aenter__()
    assert (breaker.metrics().calls, breaker.metrics().in_flight) == (2, 0)


# ------------------------------------------------------------------ time


async def test_the_wall_clock_means_nothing(
    monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    """It jumps an hour forth and back, and nothing changes."""
    breaker = Breaker("crm", BreakerPolicy(failures_max=1, window_s=20.0))
    guarded = breaker(service.call)
    wall_s = time.time()
    await guarded()
    for jump_s in (3_600.0, -3_600.0, math.nan):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: wall_s + jump_s)
        await guarded()
        assert breaker.state is CLOSED
    assert breaker.metrics().calls == 4
    await fails(breaker, ConnectionError())
    for jump_s in (3_600.0, -3_600.0):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: wall_s + jump_s)
        with pytest.raises(BreakerOpenError):
            await guarded()
    assert (breaker.state, service.calls) == (OPEN, 4)


async def test_calls_are_timed() -> None:
    """What a call takes is what the clock says between its beginning and its end."""
    ticks = iter([0.0, 1.0, 3.5, 10.0])
    breaker = Breaker("crm", clock=lambda: next(ticks))

    @breaker
    async def slowly() -> None:
        pass

    await slowly()
    assert breaker.metrics().p50_s == 2.5


# ------------------------------------------------------------------ by hand, and who watches


async def test_forced_states(clock: Clock, service: Service) -> None:
    """Open refuses all, closed refuses none and counts, disabled counts nothing."""
    told: list[Transition] = []
    breaker = Breaker("crm", TOUCHY, clock=clock, on_transition=told.append)
    guarded = breaker(service.call)
    breaker.force_open(by="ada")
    with pytest.raises(BreakerOpenError):
        await guarded()
    breaker.force_closed(by="bob")
    await fails(breaker, ConnectionError())
    assert (breaker.state, breaker.metrics().failures) == (BreakerState.OBSERVE_ONLY, 1)
    breaker.disable(by="cy")
    await fails(breaker, ConnectionError())
    assert (breaker.state, breaker.metrics().calls) == (BreakerState.DISABLED, 0)
    breaker.reset(by="di")
    assert breaker.state is CLOSED
    assert [(str(one.now), one.why, one.by) for one in told] == [
        ("forced_open", "forced", "ada"),
        ("observe_only", "forced", "bob"),
        ("disabled", "forced", "cy"),
        ("closed", "reset", "di"),
    ]
    breaker.force_open()
    breaker.force_open()
    assert len(told) == 5


async def test_one_event_a_transition(clock: Clock, service: Service) -> None:
    """However many calls see it, an opening, a probing and a closing are told once each."""
    told: list[Transition] = []
    breaker = Breaker("crm", TOUCHY, clock=clock, on_transition=told.append)
    guarded = breaker(service.call)
    service.error = ConnectionError()
    await asyncio.gather(*[guarded() for _ in range(10)], return_exceptions=True)
    service.error = None
    clock.now_s += 5.0
    await asyncio.gather(*[guarded() for _ in range(10)], return_exceptions=True)
    assert [str(one.now) for one in told] == ["open", "half_open", "closed"]


async def test_a_watcher_that_fails_breaks_nothing(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The transition has happened, the caller sees its own error, and it is logged."""

    def watch(transition: Transition) -> None:
        raise ZeroDivisionError(transition.now)

    breaker = Breaker("crm", TOUCHY, clock=clock, on_transition=watch)
    await fails(breaker, ConnectionError())
    assert breaker.state is OPEN
    assert "watcher" in caplog.text


def test_a_breaker_shows_itself() -> None:
    """Name, state, and what it has seen."""
    breaker = Breaker("crm")
    breaker.failed(breaker.admit())
    assert repr(breaker) == "<Breaker 'crm' closed: 1 of 1 failed>"
    assert (breaker.name, breaker.policy, breaker.suspect) == ("crm", DEFAULT_BREAKER, False)
    assert repr(Breaker()) == "<Breaker closed: 0 of 0 failed>"


# ------------------------------------------------------------------ bad input


def plain() -> None:
    """Not an async function."""


async def stream() -> AsyncIterator[int]:
    """Nor is this one call."""
    yield 1


class Asked:
    """What can be called and awaited is as good as an async function."""

    async def __call__(self) -> int:
        """Answer."""
        return 7


@pytest.mark.parametrize("function", [plain, stream, len, None, 3, functools.partial(plain), Asked])
def test_only_async_functions_can_be_guarded(function: Any) -> None:
    """Anything else fails where it is declared."""
    with pytest.raises(DeclarationError, match="a breaker is for async functions"):
        Breaker("crm")(function)


async def test_what_is_as_good_as_an_async_function(service: Service) -> None:
    """Partials, bound methods and objects with an async `__call__`."""
    breaker = Breaker("crm")
    assert await breaker(functools.partial(service.call, 2))(more=1) == 3
    assert await breaker(Asked())() == 7
    assert breaker.metrics().calls == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("name", 3),
        ("policy", {"failures_max": 3}),
        ("table", []),
        ("judge", 3),
        ("ignore", "ValueError"),
        ("ignore", (ValueError, 3)),
        ("clock", None),
        ("on_transition", "print"),
    ],
)
def test_nonsense_fails_at_declaration(setting: str, value: Any) -> None:
    """The error names the setting."""
    with pytest.raises(SettingError) as raised:
        Breaker(**{setting: value})
    assert raised.value.name == setting


# ------------------------------------------------------------------ size


@pytest.mark.parametrize(
    "policy",
    [DEFAULT_BREAKER, BreakerPolicy(window_s=60.5, slow_s=1.5, slow_rate=0.5), TOUCHY],
)
async def test_a_breaker_is_small(policy: BreakerPolicy) -> None:
    """At most 2 KB with all that belongs to it, also after many calls."""
    breaker = Breaker("crm", policy)
    use: Callable[[], Any] = breaker.call
    for _ in range(3_000):
        async with use():
            pass
    assert size_bytes(breaker) <= 2_048

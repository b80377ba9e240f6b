"""Other circuit breakers, each as its own documentation has it used, and what each of them keeps.

They are asked through what they offer: a library that has no word for something is "n/a" there,
and one that has a word and does otherwise is "no". Nothing is read out of their insides.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from itertools import count
from types import TracebackType
from typing import Any

import undercroft as uc

OPEN_S = 0.05
CALLERS = 100
HOUR_S = 3_600.0
_number = count()

Call = Callable[[], Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a breaker is to do; `failures` in a row open it, if no rate is given.

    `closed_only`: it need not do anything but let calls through.
    """

    failures: int = 1
    open_s: float = OPEN_S
    ignore: type[Exception] | None = None
    rate: float | None = None
    calls_min: int = 1
    slow_s: float | None = None
    half_open_s: float | None = None
    growth: float = 1.0
    events: bool = False
    closed_only: bool = False

    @property
    def plain(self) -> bool:
        """Whether any breaker can be asked for it."""
        return (self.rate, self.slow_s, self.half_open_s, self.growth) == (None, None, None, 1.0)


@dataclass(slots=True)
class Guard:
    """A breaker and how a call goes through it.

    Attributes:
        breaker: Whatever the library calls so.
        wrap: Guards an async function.
        events: Names of the states that it told of, as it went there.
        admit: Asks without an exception, where there is a way.
    """

    breaker: Any
    wrap: Callable[[Call], Call]
    events: list[str] = field(default_factory=list)
    admit: Callable[[], int] | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """A library.

    Attributes:
        name: As it is installed.
        make: Makes a breaker, or None for what it has no word for.
        refused: What it raises instead of a call.
        wall: Where it takes `datetime` from, if it does.
    """

    name: str
    make: Callable[[Wanted], Awaitable[Guard | None]]
    refused: type[BaseException]
    wall: Any = None

    @property
    def version(self) -> str:
        """As it is installed; ours is the one that lies here."""
        return "" if self is OURS else version(self.name)


# ------------------------------------------------------------------ the libraries


async def ours(wanted: Wanted) -> Guard:
    """Undercroft."""
    policy = uc.BreakerPolicy(
        failure_rate=wanted.rate,
        failures_max=None if wanted.rate or wanted.slow_s else wanted.failures,
        calls_min=wanted.calls_min,
        slow_s=wanted.slow_s,
        slow_rate=wanted.slow_s and 0.5,
        open_s=wanted.open_s,
        open_growth=wanted.growth,
        probes=1,
        half_open_s=wanted.half_open_s or 60.0,
    )
    events: list[str] = []
    told = (lambda one: events.append(one.now)) if wanted.events else None
    breaker = uc.Breaker("x", policy, ignore=wanted.ignore or (), on_transition=told)
    return Guard(breaker, breaker, events, breaker.admit)


def purgatory() -> Peer:
    """Return it: a factory of breakers with an in-memory store."""
    library = importlib.import_module("purgatory")
    model = importlib.import_module("purgatory.domain.model")

    async def make(wanted: Wanted) -> Guard | None:
        if not wanted.plain:
            return None
        name = f"x{next(_number)}"
        factory = library.AsyncCircuitBreakerFactory(
            default_threshold=wanted.failures,
            default_ttl=wanted.open_s,
            exclude=[wanted.ignore] if wanted.ignore else None,
        )
        events: list[str] = []
        if wanted.events:

            def listen(_: str, kind: str, event: Any) -> None:
                if kind == "state_changed":
                    events.append(event.state)

            factory.add_listener(listen)
        await factory.initialize()
        return Guard(factory, factory(name), events)

    return Peer("purgatory", make, model.OpenedState)


def circuitbreaker() -> Peer:
    """Return it."""
    library = importlib.import_module("circuitbreaker")

    async def make(wanted: Wanted) -> Guard | None:
        if not wanted.plain or wanted.events:
            return None
        ignore = wanted.ignore
        breaker = library.CircuitBreaker(
            failure_threshold=wanted.failures,
            recovery_timeout=wanted.open_s,
            expected_exception=(lambda kind, _: not issubclass(kind, ignore)) if ignore else None,
            name=f"x{next(_number)}",
        )
        return Guard(breaker, breaker)

    return Peer("circuitbreaker", make, library.CircuitBreakerError)


def aiobreaker() -> Peer:
    """Return it."""
    library = importlib.import_module("aiobreaker")

    async def make(wanted: Wanted) -> Guard | None:
        if not wanted.plain:
            return None
        events: list[str] = []

        class Listener(library.CircuitBreakerListener):  # type: ignore[misc,name-defined]
            def state_change(self, _: Any, old: Any, new: Any) -> None:  # noqa: ARG002
                events.append(new.state.name)

        breaker = library.CircuitBreaker(
            fail_max=wanted.failures,
            timeout_duration=timedelta(seconds=wanted.open_s),
            exclude=[wanted.ignore] if wanted.ignore else None,
            listeners=[Listener()] if wanted.events else None,
        )
        return Guard(breaker, breaker, events)

    wall = importlib.import_module("aiobreaker.state")
    return Peer("aiobreaker", make, library.CircuitBreakerError, wall)


def pybreaker() -> Peer:
    """Return it: its async calls need tornado, so blocks of `calling()` stand round the await."""
    library = importlib.import_module("pybreaker")

    async def make(wanted: Wanted) -> Guard | None:
        if not wanted.plain:
            return None
        events: list[str] = []

        class Listener(library.CircuitBreakerListener):  # type: ignore[misc,name-defined]
            def state_change(self, _: Any, old: Any, new: Any) -> None:  # noqa: ARG002
                events.append(new.name)

        breaker = library.CircuitBreaker(
            fail_max=wanted.failures,
            reset_timeout=wanted.open_s,
            exclude=[wanted.ignore] if wanted.ignore else None,
            listeners=[Listener()] if wanted.events else None,
        )

        def wrap(function: Call) -> Call:
            async def guarded() -> Any:
                with breaker.calling():
                    return await function()

            return guarded

        return Guard(breaker, wrap, events)

    return Peer("pybreaker", make, library.CircuitBreakerError, library)


def stamina() -> Peer:
    """Return it: retries, and no breaker, so that only the way through can be measured."""
    library = importlib.import_module("stamina")

    async def make(wanted: Wanted) -> Guard | None:
        if not wanted.closed_only:
            return None
        return Guard(None, library.retry(on=ConnectionError, attempts=3))

    return Peer("stamina", make, ConnectionError)


OURS = Peer("undercroft", ours, uc.BreakerOpenError)
PEERS = {
    each.__name__: each for each in (purgatory, circuitbreaker, aiobreaker, pybreaker, stamina)
}


def installed() -> tuple[list[Peer], list[str]]:
    """Return what can be measured, ours first, and the names of what is not installed."""
    there, missing = [OURS], []
    for name, peer in PEERS.items():
        try:
            there.append(peer())
        except ImportError:
            missing.append(name)
    return there, missing


# ------------------------------------------------------------------ what they keep


class Body:
    """What is called.

    Attributes:
        began: So many calls were let through.
        error: Raised by each, if given.
        gate: Waited for by each.
    """

    def __init__(self, error: Exception | None = None, *, shut: bool = False) -> None:
        self.began, self.error = 0, error
        self.gate = asyncio.Event()
        if not shut:
            self.gate.set()

    async def __call__(self) -> None:
        """Do as told."""
        self.began += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error


def plain(body: Body) -> Call:
    """Return a function, since not all of them guard anything else."""

    async def call() -> None:
        await body()

    return call


async def passes(guard: Guard, error: Exception | None = None) -> bool:
    """Make a call that fails if an error is given; return whether it was let through."""
    body = Body(error)
    with contextlib.suppress(Exception):
        await guard.wrap(plain(body))()
    return body.began == 1


async def settle() -> None:
    """Let every task go as far as it goes."""
    for _ in range(10):
        await asyncio.sleep(0)


async def rate_needs_calls(peer: Peer) -> bool | None:
    """50 % of at least five: F F F S passes, and the fifth opens."""
    guard = await peer.make(Wanted(rate=0.5, calls_min=5))
    if guard is None:
        return None
    early = [await passes(guard, ConnectionError() if how == "F" else None) for how in "FFFSS"]
    return all(early) and not await passes(guard)


async def few_probes(peer: Peer) -> bool | None:
    """A hundred at once when the wait is over: one runs."""
    guard = await peer.make(Wanted())
    if guard is None:
        return None
    await passes(guard, ConnectionError())
    await asyncio.sleep(OPEN_S * 1.5)
    body = Body(shut=True)
    call = guard.wrap(plain(body))
    tasks = [asyncio.create_task(call()) for _ in range(CALLERS)]
    await settle()
    began = body.began
    body.gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    return began == 1


async def late_results(peer: Peer) -> bool | None:
    """What began before the opening: its success does not close, its failure does not extend."""
    closing, extending = await peer.make(Wanted()), await peer.make(Wanted())
    if closing is None or extending is None:
        return None
    late = Body(shut=True)
    task = asyncio.create_task(closing.wrap(plain(late))())
    await settle()
    await passes(closing, ConnectionError())
    late.gate.set()
    await asyncio.gather(task, return_exceptions=True)
    if await passes(closing):
        return False
    late = Body(ConnectionError(), shut=True)
    task = asyncio.create_task(extending.wrap(plain(late))())
    await settle()
    await passes(extending, ConnectionError())
    await asyncio.sleep(OPEN_S * 0.7)
    late.gate.set()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(OPEN_S * 0.5)
    return await passes(extending)


async def cancelled(guard: Guard) -> None:
    """Let a call be cancelled in its middle."""
    task = asyncio.create_task(guard.wrap(plain(Body(shut=True)))())
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def cancelling_is_neutral(peer: Peer) -> bool | None:
    """Neither failure nor success: it does not open, F - F still does, a probe's place is free."""
    touchy, between = await peer.make(Wanted()), await peer.make(Wanted(failures=2))
    if touchy is None or between is None:
        return None
    await cancelled(touchy)
    if not await passes(touchy):
        return False
    await passes(between, ConnectionError())
    await cancelled(between)
    await passes(between, ConnectionError())
    if await passes(between):
        return False
    await passes(touchy, ConnectionError())
    await asyncio.sleep(OPEN_S * 1.5)
    await cancelled(touchy)
    return await passes(touchy)


async def ignoring_is_neutral(peer: Peer) -> bool | None:
    """An ignored error is neither failure nor success: F I F opens at two in a row."""
    guard = await peer.make(Wanted(failures=2, ignore=KeyError))
    if guard is None:
        return None
    for error in (KeyError(), KeyError(), ConnectionError(), KeyError(), ConnectionError()):
        if not await passes(guard, error):
            return False
    return not await passes(guard)


async def slow_calls_open(peer: Peer) -> bool | None:
    """Calls that go well, but slowly, open it."""
    guard = await peer.make(Wanted(slow_s=0.01, calls_min=2))
    if guard is None:
        return None

    async def slowly() -> None:
        await asyncio.sleep(0.02)

    for _ in range(2):
        await guard.wrap(slowly)()
    return not await passes(guard)


async def half_open_has_its_time(peer: Peer) -> bool | None:
    """A probe that hangs does not keep it half open: refused again, then tried again."""
    guard = await peer.make(Wanted(half_open_s=OPEN_S))
    if guard is None:
        return None
    await passes(guard, ConnectionError())
    await asyncio.sleep(OPEN_S * 1.2)
    hanging = Body(shut=True)
    task = asyncio.create_task(guard.wrap(plain(hanging))())
    await asyncio.sleep(OPEN_S * 1.2)
    refused = not await passes(guard)
    await asyncio.sleep(OPEN_S)
    tried = await passes(guard)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return refused and tried and hanging.began == 1


async def waits_grow(peer: Peer) -> bool | None:
    """The second opening lasts twice as long."""
    guard = await peer.make(Wanted(growth=2.0))
    if guard is None:
        return None
    await passes(guard, ConnectionError())
    await asyncio.sleep(OPEN_S * 1.2)
    await passes(guard, ConnectionError())
    await asyncio.sleep(OPEN_S * 1.3)
    refused = not await passes(guard)
    await asyncio.sleep(OPEN_S)
    return refused and await passes(guard)


@contextlib.contextmanager
def wall_clock_off(peer: Peer, by_s: float) -> Iterator[None]:
    """Put the wall clock forward or back, as far as `peer` looks at it."""
    real = time.time

    class Elsewhen(datetime):
        """The time, `by_s` away."""

        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=by_s)

        @classmethod
        def utcnow(cls) -> datetime:  # type: ignore[override]
            return datetime.utcnow() + timedelta(seconds=by_s)  # noqa: DTZ003  as the peer does

    time.time = lambda: real() + by_s
    if peer.wall is not None:
        peer.wall.datetime = Elsewhen
    try:
        yield
    finally:
        time.time = real
        if peer.wall is not None:
            peer.wall.datetime = datetime


async def time_is_monotonic(peer: Peer) -> bool | None:
    """The wall clock jumps an hour: open stays open, and closes no later."""
    guard = await peer.make(Wanted())
    if guard is None:
        return None
    await passes(guard, ConnectionError())
    with wall_clock_off(peer, HOUR_S):
        early = await passes(guard)
    await asyncio.sleep(OPEN_S * 1.5)
    with wall_clock_off(peer, -HOUR_S):
        return not early and await passes(guard)


async def one_event_each(peer: Peer) -> bool | None:
    """Ten calls at once fail, later ten at once go well: open, half open, closed are told once."""
    guard = await peer.make(Wanted(events=True))
    if guard is None:
        return None
    for error in (ConnectionError(), None):
        call = guard.wrap(plain(Body(error)))
        await asyncio.gather(*[call() for _ in range(10)], return_exceptions=True)
        await asyncio.sleep(OPEN_S * 1.5)
    told = [state.lower().replace("-", "_").replace("ed", "") for state in guard.events]
    return told == ["open", "half_open", "clos"]


def depth(trace: TracebackType | None) -> int:
    """Return the length of a traceback."""
    frames = 0
    while trace is not None:
        frames, trace = frames + 1, trace.tb_next
    return frames


async def refusals_do_not_pile_up(peer: Peer) -> bool | None:
    """A hundred refusals keep one stack depth."""
    guard = await peer.make(Wanted(open_s=60.0))
    if guard is None:
        return None
    await passes(guard, ConnectionError())
    call, depths = guard.wrap(plain(Body())), set()
    for _ in range(CALLERS):
        try:
            await call()
        except peer.refused as error:
            depths.add((depth(error.__traceback__), error.__context__ is None))
    return len(depths) == 1


BEHAVIOURS: dict[str, Callable[[Peer], Awaitable[bool | None]]] = {
    "rate over a window, none below a minimum": rate_needs_calls,
    "slow calls open it": slow_calls_open,
    "100 callers, one permitted probe: one runs": few_probes,
    "late results change nothing": late_results,
    "cancellation is neutral": cancelling_is_neutral,
    "ignored errors are neutral": ignoring_is_neutral,
    "half open has its time": half_open_has_its_time,
    "the wait grows": waits_grow,
    "monotonic time only": time_is_monotonic,
    "one event a transition": one_event_each,
    "100 refusals, one stack depth": refusals_do_not_pile_up,
}

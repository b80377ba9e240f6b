"""A service that cannot keep up for a while, and the clients that make it worse or better.

Keeps: all that is random comes from the seed, and every client of a seed meets the same requests
at the same moments; time is virtual.
Leaves to whoever asks: what must be true of the figures.

The server works one request after the other in the order in which they came, at a rate, never
idle while something waits. Nobody tells it that a client gave up: abandoned work is done like any
other. That is what keeps a collapse alive after its cause is gone: once a request waits longer
than its client does, all work is for nobody, each call makes three of it, and 240 a second is more
than the 100 that could be done. The queue holds ten seconds of work, and who finds it full is told
so; it is the wait that matters, and any bound above a second's work shows the same.
Source: Bronson et al., "Metastable Failures in Distributed Systems", HotOS 2021.

    figures = simulate("naive", seed=1)
"""

from __future__ import annotations

import asyncio
import math
import random
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, TypeAlias

import undercroft as uc
from undercroft.layers.breakers.state import BreakerState, Circuit
from undercroft.testing import run_virtual

WALL_S: Final = 1_700_000_000.0
# Recovery is looked for in windows of a second, a tenth of a second apart.
WINDOW_S: Final = 1.0
STEP_S: Final = 0.1


def dice_of(what: str, seed: int) -> random.Random:
    """Return where the chance of one thing comes from, whatever others draw."""
    return random.Random(f"{what} {seed}")  # noqa: S311  guards nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of the server, and what it can do.

    Attributes:
        per_s: Requests, which come at random and wait for nobody.
        well_per_s: What the server can do; at random too, this much on average.
        ill_per_s: What it can do from `ill_s` to `well_s`.
        end_s: When the last request comes.
        timeout_s: What a client waits for one attempt.
        attempts: Of each request, at most.
        queue_max: Requests that may wait.
    """

    per_s: float = 80.0
    well_per_s: float = 100.0
    ill_per_s: float = 30.0
    ill_s: float = 20.0
    well_s: float = 40.0
    end_s: float = 100.0
    timeout_s: float = 1.0
    attempts: int = 3
    queue_max: int = 1_000


LOAD: Final = Load()


class Server:
    """Does one request after the other, also those that nobody waits for any more.

    Attributes:
        asked_s: When each attempt came in.
    """

    def __init__(self, load: Load, dice: random.Random) -> None:
        self._load, self._dice = load, dice
        self._now_s = asyncio.get_running_loop().time
        self._free_s = 0.0
        self._ends: deque[float] = deque()
        self.asked_s: list[float] = []

    async def ask(self) -> None:
        """Return once the work is done.

        Raises:
            ServiceError: The queue is full.
        """
        now_s, load = self._now_s(), self._load
        self.asked_s.append(now_s)
        while self._ends and self._ends[0] <= now_s:
            self._ends.popleft()
        if len(self._ends) > load.queue_max:
            raise uc.ServiceError("vendor", "the queue is full", status=503)
        # In the order of coming, so when it will be done is known at once.
        begin_s = max(now_s, self._free_s)
        ill = load.ill_s <= begin_s < load.well_s
        self._free_s = begin_s + self._dice.expovariate(load.ill_per_s if ill else load.well_per_s)
        self._ends.append(self._free_s)
        await asyncio.sleep(self._free_s - now_s)


# ---------------------------------------------------------------------- clients


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a client stands.

    Attributes:
        policy: Of its breaker; None: the one that a service has about which nothing was said.
    """

    load: Load
    server: Server
    dice: random.Random
    policy: uc.BreakerPolicy | None = None

    async def attempt(self) -> None:
        """Ask the server once, for as long as a client waits."""
        async with asyncio.timeout(self.load.timeout_s):
            await self.server.ask()


# Whether one request, by its number, was answered in the end.
Request: TypeAlias = Callable[[int], Awaitable[bool]]
Client: TypeAlias = Callable[[Place], AbstractAsyncContextManager[Request]]


class LoopClock:
    """The virtual clock, for both people and measuring."""

    def __init__(self) -> None:
        self.now_s = asyncio.get_running_loop().time

    def wall_s(self) -> float:
        """Return seconds since 1970."""
        return WALL_S + self.now_s()

    async def sleep(self, duration_s: float) -> None:
        """Return after `duration_s` seconds."""
        await asyncio.sleep(duration_s)


class SeededIds:
    """Names in order, and jitter from a seed."""

    def __init__(self, dice: random.Random) -> None:
        self.jitter = dice.random
        self._count = 0

    def turn(self, at: float) -> str:
        """Return the next name."""
        self._count += 1
        return f"t-{int(at * 1000):011x}-{self._count:012x}"


@asynccontextmanager
async def naive(place: Place) -> AsyncIterator[Request]:
    """Try three times, after waits that are random and double: as most clients do."""

    async def request(_: int) -> bool:
        for attempt in range(place.load.attempts):
            if attempt:
                await asyncio.sleep(place.dice.uniform(0, 0.2 * 2 ** (attempt - 1)))
            try:
                await place.attempt()
            except (TimeoutError, uc.ServiceError):
                continue
            return True
        return False

    yield request


@asynccontextmanager
async def once(place: Place) -> AsyncIterator[Request]:
    """Try once."""

    async def request(_: int) -> bool:
        try:
            await place.attempt()
        except (TimeoutError, uc.ServiceError):
            return False
        return True

    yield request


def alone(*, breaker: bool, ratio: bool) -> Client:
    """Return a client made of the parts that stand alone."""

    @asynccontextmanager
    async def parts(place: Place) -> AsyncIterator[Request]:
        now_s = asyncio.get_running_loop().time
        guarded = uc.Timeout(place.load.timeout_s)(place.server.ask)
        if breaker:
            guarded = uc.Breaker("vendor", place.policy, clock=now_s)(guarded)
        retry = uc.Retry(
            attempts=place.load.attempts,
            ratio=uc.RetryRatio() if ratio else None,
            clock=now_s,
            jitter=place.dice.random,
        )
        ask = retry(guarded)

        async def request(_: int) -> bool:
            try:
                await ask()
            except uc.UndercroftError:
                return False
            return True

        yield request

    return parts


@asynccontextmanager
async def runtime(place: Place) -> AsyncIterator[Request]:
    """Ask in a turn of its own, with a tool that reads: all else is the runtime's."""

    @uc.tool(
        reads="vendor/{number}",
        service="vendor",
        timeout_s=place.load.timeout_s,
        retry=uc.Retry(attempts=place.load.attempts),
    )
    async def look(number: int) -> int:
        """Ask the server."""
        await place.server.ask()
        return number

    @uc.handler(tools=[look])
    async def answer(turn: uc.Turn, number: int) -> bool:
        (result,) = await turn.calls([uc.Call("look", {"number": number})])
        return result.status == "ok"

    services = [uc.Service("vendor", place.policy)] if place.policy is not None else []
    rt = uc.Runtime(services=services, clock=LoopClock(), ids=SeededIds(place.dice))
    async with rt:

        async def request(number: int) -> bool:
            outcome = await rt.run(answer, number=number)
            # A turn that was not answered says so.
            assert outcome.status == ("done" if outcome.value else "degraded"), outcome
            return bool(outcome.value)

        yield request


CLIENTS: Final[dict[str, Client]] = {
    "naive": naive,
    "once": once,
    "breaker": alone(breaker=True, ratio=False),
    "ratio": alone(breaker=False, ratio=True),
    "parts": alone(breaker=True, ratio=True),
    "runtime": runtime,
}


# ---------------------------------------------------------------------- figures


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and what became of it."""

    at_s: float
    took_s: float
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came of one run.

    Attributes:
        well_share: Answered of what was asked before the outage.
        answered_per_s: Goodput: of what was asked in the outage.
        attempts_ratio: Attempts that came to the server in the outage, to requests in it.
        attempts_after: The same of the time after it.
        recovered_95_s: Seconds after the outage from which 95 % of what is asked within any
            second is answered; infinity: not before the end.
        recovered_99_s: The same of 99 %.
        p50_s: From asking to knowing, answered or not, of what was asked in the outage.
        p99_s: The same.
    """

    well_share: float
    answered_per_s: float
    attempts_ratio: float
    attempts_after: float
    recovered_95_s: float
    recovered_99_s: float
    p50_s: float
    p99_s: float


@dataclass(slots=True)
class _Run:
    load: Load
    asked: list[Asked] = field(default_factory=list)

    def figures(self, attempts_s: list[float]) -> Figures:
        load = self.load
        self.asked.sort(key=lambda one: one.at_s)
        before = self._between(0.0, load.ill_s)
        ill = self._between(load.ill_s, load.well_s)
        after = self._between(load.well_s, load.end_s)
        took = sorted(one.took_s for one in ill)

        def attempts(begin_s: float, end_s: float) -> int:
            return bisect_left(attempts_s, end_s) - bisect_left(attempts_s, begin_s)

        return Figures(
            well_share=sum(one.ok for one in before) / len(before),
            answered_per_s=sum(one.ok for one in ill) / (load.well_s - load.ill_s),
            attempts_ratio=attempts(load.ill_s, load.well_s) / len(ill),
            attempts_after=attempts(load.well_s, load.end_s) / len(after),
            recovered_95_s=self._recovered_s(0.95),
            recovered_99_s=self._recovered_s(0.99),
            p50_s=took[len(took) // 2],
            p99_s=took[math.ceil(0.99 * len(took)) - 1],
        )

    def _between(self, begin_s: float, end_s: float) -> list[Asked]:
        return [one for one in self.asked if begin_s <= one.at_s < end_s]

    def _recovered_s(self, share: float) -> float:
        """Return how long after the outage the last window with too few answers begins."""
        load = self.load
        times = [one.at_s for one in self.asked]
        answered = [0, *accumulate(one.ok for one in self.asked)]
        windows = round((load.end_s - load.well_s - WINDOW_S) / STEP_S)
        for at in range(windows, -1, -1):
            begin_s = load.well_s + at * STEP_S
            low, high = bisect_left(times, begin_s), bisect_left(times, begin_s + WINDOW_S)
            if answered[high] - answered[low] < share * (high - low):
                return (at + 1) * STEP_S if at < windows else math.inf
        return 0.0


async def _simulate(
    client: Client, load: Load, seed: int, policy: uc.BreakerPolicy | None
) -> Figures:
    loop, arrivals, run = asyncio.get_running_loop(), dice_of("arrivals", seed), _Run(load)
    server = Server(load, dice_of("work", seed))
    place = Place(load=load, server=server, dice=dice_of("client", seed), policy=policy)
    async with client(place) as request, asyncio.TaskGroup() as tasks:

        async def ask(number: int) -> None:
            began_s = loop.time()
            ok = await request(number)
            run.asked.append(Asked(began_s, loop.time() - began_s, ok))

        number = 0
        while (wait_s := arrivals.expovariate(load.per_s)) + loop.time() < load.end_s:
            await asyncio.sleep(wait_s)
            tasks.create_task(ask(number))
            number += 1
    return run.figures(server.asked_s)


def simulate(
    client: str, *, seed: int, load: Load = LOAD, policy: uc.BreakerPolicy | None = None
) -> Figures:
    """Run one client, by its name in `CLIENTS`, from beginning to end."""
    return run_virtual(_simulate(CLIENTS[client], load, seed, policy))


# ---------------------------------------------------------------------- the change detector


def _watched(seed: int) -> tuple[Circuit, random.Random]:
    """Return a breaker that opens for nobody, and where chance comes from."""
    policy = uc.Service("vendor").breaker
    assert policy is not None
    return Circuit(policy, 0.0, initial=BreakerState.OBSERVE_ONLY), dice_of("calls", seed)


def calls_to_mark(*, seed: int, times: int = 1_000, before: float = 0.005) -> float:
    """Return how many calls of a service that begins to fail half of them it takes to mark it.

    Args:
        seed: Of what fails.
        times: The mean is taken of.
        before: Share of calls that failed until then, for a hundred calls.
    """
    calls = 0
    circuit, dice = _watched(seed)
    for _ in range(times):
        circuit.reset(0.0)
        circuit.to(BreakerState.OBSERVE_ONLY, 0.0)
        for number in range(100):
            _call(circuit, number * 0.1, fails=dice.random() < before)
        while not circuit.suspect:
            calls += 1
            _call(circuit, 10.0 + calls * 0.1, fails=dice.random() < 0.5)
    return calls / times


def wrong_marks(*, seed: int, calls: int, fails: float) -> int:
    """Return how often a service is marked that fails so many calls, day in, day out."""
    circuit, dice = _watched(seed)
    marks, marked = 0, False
    for number in range(calls):
        _call(circuit, number * 0.1, fails=dice.random() < fails)
        if circuit.suspect is not marked:
            marked = not marked
            marks += marked
    return marks


def _call(circuit: Circuit, now_s: float, *, fails: bool) -> None:
    (circuit.failed if fails else circuit.succeeded)(circuit.admit(now_s), now_s, 0.05)

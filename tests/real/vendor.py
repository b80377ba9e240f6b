"""A vendor that is ill for a part of the day, and the turns that need it all day long.

Keeps: all that is random comes from the seed, time is virtual, and the vendor has a book of its
own: what it did, how often, and under which key, whatever anybody was told of it.
Leaves to whoever asks: what must be true of the figures.

While it is ill, most of its answers are bad, in one of these ways or all of them by turns:

- fails: it says 503 and did nothing, or the connection breaks, half of the time after it did it.
- hangs: nothing happens, and nobody answers.
- slow: it does what it is asked, long after whoever asked gave up.
- late: it does so at once, and answers long after whoever asked gave up.

    report = spend(Day(every_s=10.0), seed=1)
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import undercroft as uc
from undercroft.model.outcome import TurnStatus
from undercroft.testing import run_virtual

from .overload import LoopClock, SeededIds, dice_of

How: TypeAlias = Literal["mixed", "fails", "hangs", "slow", "late"]
HOWS: Final[tuple[How, ...]] = ("fails", "hangs", "slow", "late")
TIMEOUT_S: Final = 3.0
SLOW_S, LATE_S = 9.0, 30.0
# How long after the end nothing new begins, so that what is late is done before all is counted.
REST_S: Final = 120.0
EDGE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """When the vendor is ill and how, and how often it is needed.

    Attributes:
        every_s: Seconds between two turns, on average; they come at random.
        edge_every_s: The same around the moments in which it falls ill and gets well, so that
            what is asked in seconds shows in seconds.
        bad_share: Of its answers, while it is ill.
    """

    end_s: float = 4 * 3600.0
    ill_s: float = 100 * 60.0
    well_s: float = 140 * 60.0
    every_s: float = 8.0
    edge_every_s: float = 1.0
    how: How = "mixed"
    bad_share: float = 0.7

    def ill(self, at_s: float) -> bool:
        """Whether the vendor is ill then."""
        return self.ill_s <= at_s < self.well_s

    def next_s(self, at_s: float, dice: random.Random) -> float:
        """Return when the turn after `at_s` begins."""
        edges = (self.ill_s, self.well_s)
        # Drawn from the busier of both, and left out as often as it takes: Lewis and Shedler.
        busiest_s = min(self.every_s, self.edge_every_s)
        while True:
            at_s += dice.expovariate(1 / busiest_s)
            near = any(-EDGE_S <= at_s - edge_s < 2 * EDGE_S for edge_s in edges)
            every_s = self.edge_every_s if near else self.every_s
            if dice.random() < busiest_s / every_s:
                return at_s


class Vendor:
    """What all depends on.

    Attributes:
        done: How often each effect happened.
        asked_s: When each attempt came in.
    """

    def __init__(self, day: Day, dice: random.Random) -> None:
        self._day, self._dice = day, dice
        self._loop = asyncio.get_running_loop()
        self._keys: set[str] = set()
        self.done: Counter[str] = Counter()
        self.asked_s: list[float] = []

    async def look(self) -> int:
        """Answer a question."""
        await self._answer(lambda: None)
        return 7

    async def do(self, effect: str, key: str = "") -> str:
        """Do something to the world; under one key once."""

        def apply() -> None:
            if not key or key not in self._keys:
                self._keys.add(key)
                self.done[effect] += 1

        await self._answer(apply)
        return effect

    async def _answer(self, apply: Callable[[], None]) -> None:
        loop, dice, day = self._loop, self._dice, self._day
        self.asked_s.append(loop.time())
        if not day.ill(loop.time()) or dice.random() >= day.bad_share:
            await asyncio.sleep(dice.uniform(0.05, 0.3))
            apply()
            return
        how = dice.choice(HOWS) if day.how == "mixed" else day.how
        if how == "fails":
            await asyncio.sleep(dice.uniform(0.05, 0.3))
            if dice.random() < 0.5:
                raise uc.ServiceError("vendor", "it is overloaded", status=503)
            if dice.random() < 0.5:
                apply()
            raise ConnectionResetError("connection reset by peer")
        if how == "late":
            apply()
        elif how == "slow":
            # Whoever asked may be gone by then; it is done all the same.
            loop.call_later(SLOW_S, apply)
        await (loop.create_future() if how == "hangs" else asyncio.sleep(LATE_S))


# ---------------------------------------------------------------------- who needs it


def wants_of(number: int) -> tuple[str, str]:
    """Return what a turn is to do at the vendor: two in three are handlers."""
    return ("book", "notify") if number % 3 < 2 else ("hold", "tell")


class Clerk:
    """A model that works an order off, stage by stage.

    One that `obeys` proposes only what is on offer, and says what was not; another one proposes
    everything.
    """

    stages = (("rate",), ("book", "note"), ("notify",))

    def __init__(self, *, obeys: bool) -> None:
        self._obeys = obeys

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Propose the next stage that is left, or say that all is done."""
        order = request.messages[0].content
        offered = {tool.name for tool in request.tools}
        asked = {call.name for message in request.messages for call in message.calls}
        left_out = set[str]()
        await asyncio.sleep(0.5)
        for stage in self.stages:
            names = [name for name in stage if name not in asked]
            if self._obeys:
                left_out |= set(names) - offered
                names = [name for name in names if name in offered]
            if names:
                calls = [uc.Call(name, {"order": order}) for name in names]
                return uc.Answer(calls=tuple(calls))
        return uc.Answer(f"{order} without {', '.join(sorted(left_out))}" if left_out else order)


def tools(vendor: Vendor, crm: Counter[str]) -> list[Any]:
    """Return the tools of the handlers."""

    def as_of_yesterday() -> int:
        return 6

    @uc.tool(
        reads="vendor/rates",
        service="vendor",
        timeout_s=TIMEOUT_S,
        retry=uc.Retry(attempts=3),
        fallback=as_of_yesterday,
    )
    async def rate(order: str) -> int:
        """Look the rate up."""
        del order
        return await vendor.look()

    @uc.tool(
        writes="vendor/bookings/{order}",
        service="vendor",
        timeout_s=TIMEOUT_S,
        retry=uc.Retry(attempts=3),
    )
    async def book(order: str, key: uc.IdempotencyKey) -> str:
        """Book it, once under its key."""
        return await vendor.do(f"book {order}", key)

    @uc.tool(
        appends="vendor/mail/{order}",
        service="vendor",
        timeout_s=TIMEOUT_S,
        retry=uc.Retry(attempts=3),
    )
    async def notify(order: str) -> str:
        """Send a mail, each time that it is asked to."""
        return await vendor.do(f"notify {order}")

    @uc.tool(appends="crm/{order}", service="crm")
    async def note(order: str) -> str:
        """Write it down, at a service that is well."""
        await asyncio.sleep(0.02)
        crm[f"note {order}"] += 1
        return order

    return [rate, book, notify, note]


async def _work_off(turn: uc.Turn, order: str) -> str:
    turn.context.user(order)
    while (answer := await turn.model()).calls:
        await turn.calls(answer.calls)
    return f"{answer.text}; missing: {turn.missing}"


def handlers(vendor: Vendor, crm: Counter[str]) -> list[Any]:
    """Return two handlers of the same tools: one with an obedient model, one with another."""
    offered = tools(vendor, crm)

    @uc.handler(tools=offered, model=Clerk(obeys=True))
    async def clerk(turn: uc.Turn, order: str) -> str:
        return await _work_off(turn, order)

    @uc.handler(tools=offered, model=Clerk(obeys=False))
    async def stubborn(turn: uc.Turn, order: str) -> str:
        return await _work_off(turn, order)

    return [clerk, stubborn]


def workflow(vendor: Vendor, crm: Counter[str]) -> Any:
    """Return a workflow that needs the vendor, and can do without."""
    flow = uc.Workflow("restock")

    @flow.read(
        "vendor/stock",
        service="vendor",
        timeout_s=TIMEOUT_S,
        retry=uc.Retry(attempts=3),
        optional=True,
    )
    async def stock(order: str) -> int:
        del order
        return await vendor.look()

    @flow.execute(
        writes="vendor/holds/{order}",
        service="vendor",
        timeout_s=TIMEOUT_S,
        retry=uc.Retry(attempts=3),
        optional=True,
    )
    async def hold(order: str, stock: int | None, key: uc.IdempotencyKey) -> str:
        del stock
        return await vendor.do(f"hold {order}", key)

    @flow.execute(
        appends="vendor/mail/{order}", service="vendor", timeout_s=TIMEOUT_S, optional=True
    )
    async def tell(order: str, hold: str | None) -> str:
        del hold
        return await vendor.do(f"tell {order}")

    @flow.execute(appends="crm/{order}", service="crm")
    async def record(order: str, tell: str | None, missing: uc.Missing) -> str:
        await asyncio.sleep(0.02)
        crm[f"record {order}"] += 1
        return f"{order} {tell or ''}; missing: {', '.join(missing)}"

    return flow


# ---------------------------------------------------------------------- figures


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of one turn, as its caller was told.

    Attributes:
        wants: What it is to do at the vendor.
    """

    order: str
    wants: tuple[str, str]
    began_s: float
    took_s: float
    outcome: uc.Outcome


@dataclass(slots=True)
class Report:
    """What came of a day.

    Attributes:
        turns: In the order of their ends.
        later: What turns in doubt came to once the vendor was well, by order.
        settled: The same once a person had looked into the vendor's book.
        board: What the board said of the vendor, and when.
        done: As the vendor's own book has it.
        crm: The same of the service that was well.
        asked_s: When attempts came to the vendor.
    """

    day: Day
    turns: list[Turn] = field(default_factory=list)
    later: dict[str, uc.Outcome] = field(default_factory=dict)
    settled: dict[str, uc.Outcome] = field(default_factory=dict)
    board: list[tuple[float, str, bool]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    crm: Counter[str] = field(default_factory=Counter)
    asked_s: list[float] = field(default_factory=list)

    @property
    def doubled(self) -> list[str]:
        """Effects that happened more than once."""
        return [effect for effect, times in (self.done + self.crm).items() if times > 1]

    @property
    def statuses(self) -> Counter[str]:
        """How many turns ended how."""
        return Counter(str(turn.outcome.status) for turn in self.turns)

    @property
    def opened_s(self) -> float:
        """Seconds from falling ill until the board said that the vendor is open."""
        return self._first(self.day.ill_s, lambda state: state == "open")

    @property
    def closed_s(self) -> float:
        """Seconds from being well until the board said closed for good."""
        away = [at_s for at_s, state, _ in self.board if state != "closed"]
        last_s = max((at_s for at_s in away if at_s >= self.day.well_s), default=self.day.well_s)
        return last_s - self.day.well_s

    @property
    def told_share(self) -> float:
        """Of the time from the first opening till the vendor was well: open or half open."""
        begin_s = self.day.ill_s + self.opened_s
        states = [state for at_s, state, _ in self.board if begin_s <= at_s < self.day.well_s]
        return sum(state in ("open", "half_open") for state in states) / max(1, len(states))

    def asked(self, *, ill: bool) -> int:
        """Return how many attempts came to the vendor while it was ill, or was not."""
        return sum(self.day.ill(at_s) == ill for at_s in self.asked_s)

    def _first(self, begin_s: float, holds: Callable[[str], bool]) -> float:
        found = (at_s for at_s, state, _ in self.board if at_s >= begin_s and holds(state))
        return next(found, float("inf")) - begin_s


async def _all_day(
    day: Day, seed: int, work: Callable[[int, str], Coroutine[Any, Any, None]]
) -> None:
    """Begin turns at random all day; return when the last one is over, and what is late done."""
    loop, dice, number = asyncio.get_running_loop(), dice_of("arrivals", seed), 0
    async with asyncio.TaskGroup() as tasks:
        while (at_s := day.next_s(loop.time(), dice)) < day.end_s:
            await asyncio.sleep(at_s - loop.time())
            tasks.create_task(work(number, f"order-{number}"))
            number += 1
    await asyncio.sleep(REST_S)


async def _watch(rt: uc.Runtime, day: Day, report: Report, every_s: float) -> None:
    """Look at the board as a person would who knows when to look often."""
    loop = asyncio.get_running_loop()
    while True:
        at_s = loop.time()
        for row in await rt.breakers():
            if row.service == "vendor":
                report.board.append((at_s, row.state, row.suspect))
        # Often where it matters to the second.
        near = at_s - day.ill_s <= 120.0 if day.ill(at_s) else 0 <= at_s - day.well_s <= 900.0
        await asyncio.sleep(every_s if near else 10.0)


async def _spend(day: Day, seed: int, path: Path | None, policy: uc.BreakerPolicy | None) -> Report:
    loop, report = asyncio.get_running_loop(), Report(day)
    vendor = Vendor(day, dice_of("vendor", seed))
    targets = [*handlers(vendor, report.crm), workflow(vendor, report.crm)]
    rt = uc.Runtime(
        path,
        sync="never",
        targets=targets,
        services=[] if policy is None else [uc.Service("vendor", policy)],
        clock=LoopClock(),
        ids=SeededIds(dice_of("client", seed)),
    )

    async def work(number: int, order: str) -> None:
        began_s = loop.time()
        outcome = await rt.run(targets[number % len(targets)], order=order)
        took_s = loop.time() - began_s
        report.turns.append(Turn(order, wants_of(number), began_s, took_s, outcome))

    async with rt:
        # A board on disk costs a look at the disk each time.
        watch = loop.create_task(_watch(rt, day, report, 1.0 if path is None else 5.0))
        await _all_day(day, seed, work)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        for turn in report.turns:
            if turn.outcome.in_doubt:
                later = report.later[turn.order] = await rt.resume(turn.outcome.turn_id)
                report.settled[turn.order] = await _settled(rt, vendor, turn.order, later)
    report.done, report.asked_s = vendor.done, vendor.asked_s
    return report


async def _settled(rt: uc.Runtime, vendor: Vendor, order: str, outcome: uc.Outcome) -> uc.Outcome:
    """Say of each write in doubt what the vendor's own book has, as a person would."""
    while outcome.in_doubt:
        doubt = outcome.in_doubt[0]
        effect = f"{doubt.name} {order}"
        applied = effect in vendor.done
        outcome = await rt.settle(
            outcome.turn_id,
            doubt.step_id,
            applied=applied,
            by="ada",
            value=effect if applied else None,
        )
    return outcome


def spend(
    day: Day, *, seed: int, path: Path | None = None, policy: uc.BreakerPolicy | None = None
) -> Report:
    """Run a day of turns in a runtime, on a journal in memory or in a file."""
    return run_virtual(_spend(day, seed, path, policy))


async def _spend_plainly(day: Day, seed: int) -> Report:
    """Run the same day without a runtime: each call in a loop of three tries."""
    loop, report, dice = asyncio.get_running_loop(), Report(day), dice_of("client", seed)
    vendor = Vendor(day, dice_of("vendor", seed))

    async def tried(call: Callable[[], Awaitable[Any]]) -> None:
        for attempt in range(3):
            if attempt:
                await asyncio.sleep(dice.uniform(0, 0.2 * 2 ** (attempt - 1)))
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await call()
            except (TimeoutError, ConnectionError, uc.ServiceError):
                continue
            return
        raise ConnectionError("all tries failed")

    async def work(number: int, order: str) -> None:
        began_s, status = loop.time(), TurnStatus.DONE
        try:
            await tried(vendor.look)
            for word in wants_of(number):
                await tried(partial(vendor.do, f"{word} {order}"))
        except ConnectionError:
            status = TurnStatus.FAILED
        outcome, took_s = uc.Outcome(order, status), loop.time() - began_s
        report.turns.append(Turn(order, wants_of(number), began_s, took_s, outcome))

    await _all_day(day, seed, work)
    report.done, report.asked_s = vendor.done, vendor.asked_s
    return report


def spend_plainly(day: Day, *, seed: int) -> Report:
    """Run the same day with a loop of three tries round each call, and nothing else."""
    return run_virtual(_spend_plainly(day, seed))

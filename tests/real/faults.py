"""Turns that call a faulty service: the faults, what is known of each, and how one is run.

Keeps: a service of which a connection is left open, or a write was done twice, fails the test,
whatever the test is about; every attempt is counted by the client, the service and the journal.
Leaves to the tests: what must come of a turn.

    async with made("plain") as world, runtime() as rt:
        await world.fail(case, once=True)
        outcome, step = await turn(rt, world, "read")
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import undercroft as uc
from undercroft.engine.handler import Handler
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import ErrorClass, Failure
from undercroft.model.trace import StepTrace

from . import faulty
from .asking import Client, Httpx, Model, Plain, tools
from .faulty import Fault, Faulty

# How long an attempt may take where the service lets it wait, and where it does not.
TIMEOUT_S: Final = 0.3
AMPLE_S: Final = 10.0
# How much later than it should be something may end on a machine that is busy.
MARGIN_S: Final = 1.0
# Of a turn, in which its call has yet to begin: on a busy machine that takes some of it.
DEADLINE_S: Final = 0.6
RETRY: Final = uc.Retry(attempts=3, wait_s=0.01)
# Limits nothing, and has each attempt written down.
COUNTED: Final = uc.Budget(attempts=1000)
# Left alone after three failures, for a minute.
TOUCHY: Final = uc.BreakerPolicy(failure_rate=None, failures_max=3, open_s=60.0, probes=1)
WORDS: Final = "".join(faulty.WORDS)

DONE, DEGRADED, FAILED = TurnStatus.DONE, TurnStatus.DEGRADED, TurnStatus.FAILED
IN_DOUBT: Final = TurnStatus.IN_DOUBT


@dataclass(frozen=True)
class Case:
    """A fault, and what is known of it.

    Attributes:
        fault: None: connections are refused.
        sure: Whether whoever asked can tell that nothing was done, so that a write may be
            tried again.
        does: Whether the write is done all the same; None: perhaps, later.
        hangs: Whether only a deadline ends it.
        kind: Class of the error for a read.
        kind_of_model: The same of a stream, where it is another one.
    """

    fault: Fault | None
    sure: bool = False
    does: bool | None = True
    hangs: bool = False
    kind: ErrorClass = ErrorClass.TRANSIENT
    kind_of_model: ErrorClass | None = None
    blame: str = "vendor"

    @property
    def name(self) -> str:
        """What the test is called."""
        return self.fault.__name__ if self.fault is not None else "refused"

    @property
    def timeout_s(self) -> float:
        """Seconds that an attempt may take."""
        return TIMEOUT_S if self.hangs else AMPLE_S


SOON: Final = faulty.in_milliseconds(0.02)
OVERLOADED: Final = ErrorClass.OVERLOADED
CASES: Final = [
    Case(None, sure=True, does=False),
    Case(faulty.reset_early, does=False),
    Case(faulty.reset_late),
    Case(faulty.hang_up),
    Case(faulty.hang, does=False, hangs=True),
    Case(faulty.too_late, does=None, hangs=True),
    Case(faulty.dribble_head, hangs=True),
    Case(faulty.dribble_body, hangs=True),
    Case(faulty.cut_length),
    Case(faulty.cut_chunks),
    Case(faulty.cut_stream),
    Case(faulty.garbage),
    Case(faulty.no_json),
    Case(faulty.broke_after),
    Case(faulty.status(429, SOON), sure=True, does=False, kind=OVERLOADED, blame="account"),
    Case(faulty.status(503, SOON), sure=True, does=False, kind=OVERLOADED),
    Case(faulty.status(529, SOON), sure=True, does=False, kind=OVERLOADED),
    Case(faulty.openai_error, does=False),
    Case(faulty.anthropic_error, sure=True, does=False, kind=OVERLOADED),
    Case(faulty.openai_event, does=False),
    Case(faulty.anthropic_event, does=False, kind_of_model=OVERLOADED),
]
OPS: Final = ["read", "write", "keyed", "verified", "model"]
CLIENTS: dict[str, Callable[..., Client]] = {"plain": Plain, "httpx": Httpx}


@dataclass
class World:
    """A faulty service, and a client of it.

    Attributes:
        sent: Requests that went out, or tried to.
        opens_at: Of these, the one before which a service that refuses listens again.
    """

    service: Faulty
    kind: str
    sent: list[Any] = field(default_factory=list)
    opens_at: int = 0
    clients: list[Client] = field(default_factory=list)
    names: itertools.count[int] = field(default_factory=itertools.count)

    async def _note(self, request: Any) -> None:
        if "/done/" in str(request.url):
            return
        self.sent.append(request)
        if len(self.sent) == self.opens_at:
            await self.service.listen()

    def client(self, timeout_s: float | None = None) -> Client:
        """Return a client, of which each attempt is counted."""
        made = CLIENTS[self.kind](self.service.port, [uc.wire_attempt, self._note], timeout_s)
        self.clients.append(made)
        return made

    async def fail(self, case: Case, *, once: bool) -> None:
        """Have the service fail, once or for ever."""
        if case.fault is not None:
            self.service.does(case.fault, times=1 if once else None)
        else:
            self.opens_at = len(self.sent) + 2 if once else 0
            await self.service.refuse()

    def handlers(self, client: Client | None = None) -> tuple[Handler[..., Any], Handler[..., Any]]:
        """Return a handler that makes one call, and one that asks a model."""
        if client is None and not self.clients:
            self.client()
        said = client or self.clients[0]

        @uc.handler(tools=tools(said))
        async def call(turn: uc.Turn, op: str, account: str) -> Any:
            (result,) = await turn.calls([uc.Call(op, {"account": account})])
            return result.value

        @uc.handler(model=Model(said))
        async def ask(turn: uc.Turn) -> str:
            turn.context.user("is it done?")
            return (await turn.model()).text

        return call, ask


@asynccontextmanager
async def made(kind: str) -> AsyncIterator[World]:
    """Make a service that is well, and see to it that no connection is left, and no write twice."""
    async with Faulty() as service:
        world = World(service, kind)
        yield world
        for client in world.clients:
            await client.close()
        # Of a connection the service is told by the kernel, which may take a moment.
        await within(lambda: not service.open, "a connection was left open")
        assert service.doubled == [], "a write was done twice"


async def each(kind: str, do: Callable[[World, str], Awaitable[None]]) -> None:
    """Do something for every kind of call, side by side, with a service each."""

    async def one(op: str) -> None:
        async with made(kind) as world:
            await do(world, op)

    await together(*(one(op) for op in OPS))


async def together(*todo: Coroutine[Any, Any, None]) -> None:
    """Do all side by side; where one fails the others are called off."""
    async with asyncio.TaskGroup() as group:
        for one in todo:
            group.create_task(one)


async def within(true: Callable[[], bool], what: str, limit_s: float = MARGIN_S) -> None:
    """Wait until something is so."""
    give_up_s = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < give_up_s, what
        await asyncio.sleep(0.005)


@asynccontextmanager
async def runtime(
    case: Case | None = None,
    *,
    store: Path | None = None,
    clock: Ahead | None = None,
    targets: Iterable[Handler[..., Any]] = (),
    **setting: Any,
) -> AsyncIterator[uc.Runtime]:
    """Open a runtime that knows both services under the same settings."""
    timeout_s = case.timeout_s if case is not None else AMPLE_S
    options: dict[str, Any] = {"retry": RETRY, "timeout_s": timeout_s, **setting}
    services = [uc.Service(name, **options) for name in ("crm", "llm")]
    async with uc.Runtime(store, services=services, clock=clock, targets=targets) as rt:
        yield rt


class Ahead:
    """The clocks of this machine, and a way to be later at once.

    Attributes:
        by_s: Seconds that it is ahead.
    """

    def __init__(self) -> None:
        self.by_s = 0.0

    def wall_s(self) -> float:
        """Return seconds since 1970."""
        return time.time() + self.by_s

    def now_s(self) -> float:
        """Return seconds from any start."""
        return asyncio.get_running_loop().time() + self.by_s

    async def sleep(self, duration_s: float) -> None:
        """Sleep."""
        await asyncio.sleep(duration_s)


async def turn(
    rt: uc.Runtime, world: World, op: str, *, client: Client | None = None, **options: Any
) -> tuple[uc.Outcome, StepTrace]:
    """Run a turn of one step; return its outcome and its record."""
    call, ask = world.handlers(client)
    options = {"budget": COUNTED, **options}
    if op == "model":
        outcome = await rt.run(ask, **options)
    else:
        outcome = await rt.run(call, op=op, account=f"a{next(world.names)}", **options)
    (step,) = rt.trace(outcome.turn_id).steps
    return outcome, step


def attempts(step: StepTrace) -> int:
    """Return how many wire attempts the journal tells of."""
    return step.spent.attempts if step.spent is not None else 0


def error_of(step: StepTrace) -> Failure:
    """Return the error that the journal tells of."""
    assert step.error is not None, step
    return step.error


def judged(step: StepTrace) -> tuple[ErrorClass, str]:
    """Return the class of that error, and whose it was."""
    return error_of(step).error_class, error_of(step).blame


async def refused(rt: uc.Runtime, world: World, op: str) -> None:
    """Make a call that is refused, since the service keeps failing."""
    outcome, step = await turn(rt, world, op)
    assert outcome.status is DEGRADED
    assert step.refusal is not None
    assert step.refusal.rule == "breakers.open"
    assert attempts(step) == 0

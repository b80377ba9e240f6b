"""A service outside of the runtime: it fails as it is told, and knows when it was called."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import undercroft as uc
from undercroft.engine.accounts import spent_before
from undercroft.engine.memo import recall
from undercroft.engine.services import Gate
from undercroft.errors import StoreError
from undercroft.layers.breakers.spend import NOTHING, Amount
from undercroft.model.event import AnyEvent, AttemptReserved, AttemptSpent, decode_frames
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore, run_virtual


@dataclass
class Vendor:
    """What a service does, call by call.

    Attributes:
        script: What its calls come to: an error is raised, anything else returned; the last one
            goes on for ever.
        took_s: Seconds that each call takes.
        calls: When each call began, in seconds of the loop.
        running: Calls under way.
        most: The most that ever were.
        dead: Whether the process that calls is dead, so that its calls reach nobody.
    """

    script: Sequence[Any] = ("fine",)
    took_s: float = 0.0
    calls: list[float] = field(default_factory=list)
    running: int = 0
    most: int = 0
    dead: bool = False

    async def __call__(self) -> Any:
        """Do what is next."""
        if self.dead:
            raise ConnectionError("whoever calls is dead")
        place = min(len(self.calls), len(self.script) - 1)
        self.calls.append(asyncio.get_running_loop().time())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.took_s:
                await asyncio.sleep(self.took_s)
        finally:
            self.running -= 1
        said = self.script[place]
        if isinstance(said, BaseException):
            # Anew each time: what is raised twice remembers what it met the first time.
            raise copy.copy(said)
        return said


def caller(vendor: Vendor, **options: Any) -> Any:
    """Return a tool that calls `vendor`, once for each number."""

    @uc.tool(peeks="a/{i}", service="vendor", **options)
    async def call(i: int) -> Any:
        return await vendor()

    return call


def numbered(i: int) -> uc.Call:
    """Propose a call."""
    return uc.Call("call", {"i": i})


class Jitter:
    """Ids whose jitter is always the same."""

    # Of all processes: no two turns have one id.
    _turns = count(1)

    def __init__(self, jitter: float = 0.0) -> None:
        self._jitter = jitter

    def turn(self, at: float) -> str:
        """Return a new id; they sort."""
        return f"t-{int(at):011x}-{next(self._turns):012x}"

    def jitter(self) -> float:
        """Return the same number again."""
        return self._jitter


def gate(rt: uc.Runtime, service: str) -> Gate:
    """Return how a service stands in this runtime."""
    return rt._gates.gate(service)  # noqa: SLF001  what a person sees of it is rounded


def check_given_back(rt: uc.Runtime, *services: str) -> None:
    """Assert that nothing of any service is held by anybody."""
    for name in services:
        found = gate(rt, name)
        held = (found.circuit.in_flight, found.limit.in_flight, sum(found.account.reserved))
        assert held == (0, 0, 0), f"{name}: (permits, places, reserved) still held: {held}"


async def settled(rt: uc.Runtime, *services: str) -> None:
    """Assert that nothing is held once everything that is cancelled had its time."""
    await asyncio.sleep(30)
    check_given_back(rt, *services)


def events(store: MemoryStore, *kinds: type[AnyEvent]) -> list[AnyEvent]:
    """Return what a journal holds of all turns, of some kinds."""
    return [
        event
        for turn in store.journal.turns.values()
        for event in decode_frames(turn.data())
        if isinstance(event, kinds or object)
    ]


def spending(store: MemoryStore) -> list[AnyEvent]:
    """Return what was set aside and paid, in order."""
    return events(store, AttemptReserved, AttemptSpent)


def recorded(journal: MemoryJournal) -> Amount:
    """Return what all turns of a journal spent, as a new process would read it."""
    total = NOTHING
    for turn in journal.turns.values():
        spent, left = spent_before(recall(decode_frames(turn.data())))
        for amount in (spent, *left):
            total = total.plus(amount)
    return total


def batch(tools: Sequence[Any], *calls: uc.Call) -> Any:
    """Return a handler of one batch, which returns what each call came to."""

    @uc.handler(tools=tools)
    async def once(turn: uc.Turn) -> list[str]:
        results = await turn.calls(list(calls))
        return [
            r.refusal.rule if r.refusal else (r.error.type if r.error else str(r.status))
            for r in results
        ]

    return once


def each_in_turn(tools: Sequence[Any], *calls: uc.Call) -> Any:
    """Return a handler that makes one call after another."""

    @uc.handler(tools=tools)
    async def onebyone(turn: uc.Turn) -> list[str]:
        said = []
        for call in calls:
            (r,) = await turn.calls([call])
            said.append(
                r.refusal.rule if r.refusal else (r.error.type if r.error else str(r.status))
            )
        return said

    return onebyone


def assistant(tools: Sequence[Any]) -> Any:
    """Return the usual loop round a model."""

    @uc.handler(tools=tools)
    async def assist(turn: uc.Turn) -> str:
        turn.context.user("go on")
        while True:
            answer = await turn.model()
            if not answer.calls:
                return answer.text
            await turn.calls(answer.calls)

    return assist


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on the loop on which waiting costs no time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_virtual(test(*args, **kwargs))

    return run


class Dying(CrashingStore):
    """A journal whose process dies, and says so to the world."""

    def __init__(self, journal: MemoryJournal, world: Any, **crash: int) -> None:
        super().__init__(journal, **crash)
        self._world = world

    def _crash(self) -> None:
        self._world.dead = True
        super()._crash()


@dataclass
class Crashed:
    """How a turn ended that was cut off at one of its commits.

    Attributes:
        outcome: Of the turn, after it was recovered.
        world: What it was about.
        journal: What both processes wrote.
        commit: After or before which it was cut off; 0: it was not.
    """

    outcome: uc.Outcome
    world: Any
    journal: MemoryJournal
    commit: int = 0

    @property
    def store(self) -> MemoryStore:
        """A store on its journal, to read it by."""
        return MemoryStore(self.journal)


async def run_it(rt: uc.Runtime, target: Any) -> uc.Outcome:
    """Run a turn without inputs."""
    return await rt.run(target)


async def sweep(  # noqa: PLR0913  each keyword is one part of a story
    scenario: Callable[[Any], Any],
    world: Callable[[], Any],
    start: Callable[[uc.Runtime, Any], Awaitable[uc.Outcome]] = run_it,
    *,
    first: Callable[[uc.Runtime], None] = lambda _: None,
    second: Callable[[uc.Runtime], None] | None = None,
    then: Callable[[uc.Runtime, uc.Outcome], Awaitable[uc.Outcome]] | None = None,
    **options: Any,
) -> list[Crashed]:
    """Cut a turn off before and after each of its commits, and recover it in another process.

    The first of the list was not cut off.

    Args:
        scenario: Makes the target, of a world.
        world: Makes a world.
        start: Runs it.
        first: Prepares the runtime that is cut off.
        second: Prepares the one that goes on; the same if left out.
        then: What is done about the outcome of a turn that was recovered.
        options: Of both runtimes.
    """
    ends: list[Crashed] = []
    commit, commits, when = 0, 0, ""
    while True:
        made, journal = world(), MemoryJournal()
        target = scenario(made)
        store = Dying(journal, made, **({when: commit} if when else {}))
        crashed = False
        async with uc.Runtime(store, targets=[target], **options) as rt:
            first(rt)
            try:
                ends.append(Crashed(await start(rt, target), made, journal, commit))
            except StoreError:
                crashed = True
                # A journal that cannot be written keeps nothing of any service either.
                await settled(rt, *rt._gates.gates)  # noqa: SLF001  whichever were called
        if crashed:
            made.dead = False
            async with uc.Runtime(MemoryStore(journal), targets=[target], **options) as rt:
                (second or first)(rt)
                for recovered in (await rt.recover()).values():
                    if isinstance(recovered, Exception):
                        raise recovered
                heads = rt.turns()
                outcome = await (rt.resume(heads[0].turn_id) if heads else start(rt, target))
                if then is not None:
                    outcome = await then(rt, outcome)
                ends.append(Crashed(outcome, made, journal, commit))
        if not when:
            commits, commit, when = store.commits, 1, "crash_before"
        elif when == "crash_before":
            when = "crash_after"
        else:
            commit, when = commit + 1, "crash_before"
        if commit > commits:
            return ends

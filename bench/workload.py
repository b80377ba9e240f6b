"""What every case runs: seven no-op steps that return 1 KB each, and the clock round them.

Keeps: floor and house run these same functions, so what differs is the runtime alone.
Leaves to `child`: which of it a process runs; to `run`: processes, rounds and kills.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

Body: TypeAlias = dict[str, Any]
Numbers: TypeAlias = dict[str, float]

STEP_COUNT = 7
FAN_COUNT = 50
FAN_READ_S = 0.010
SLEEPER = 3  # the step that sleeps in a run which is to be killed
SLEEPER_S = 0.020
EFFECT = 5  # the step that writes

_TEXT = "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod " * 3


def payload(turn_no: int, at: int) -> Body:
    """Return a fresh object, 1 KB as JSON: flat fields, a list of objects, some text."""
    return {
        "turn": turn_no,
        "step": at,
        "status": "ok",
        "text": _TEXT,
        "items": [
            {"id": k, "name": f"item-{k}", "price": k * 1.25, "tags": ["a", "b"]} for k in range(12)
        ],
        "meta": {"source": "bench", "attempt": 1, "cached": False, "cost": 0.0},
    }


class Conditions:
    """What a run asks of its steps besides doing nothing; asks nothing until told so.

    Attributes:
        paused_s: Seconds that each step sleeps.
    """

    def __init__(self) -> None:
        self.harsh = False
        self.paused_s = (0.0,) * STEP_COUNT
        self.log: int | None = None

    def pace(self) -> None:
        """From here on, every step takes as long as a read."""
        self.harsh, self.paused_s = True, (FAN_READ_S,) * STEP_COUNT

    def doom(self, log: Path) -> None:
        """From here on, one step sleeps and each is logged, in a file that outlives `kill -9`."""
        self.harsh = True
        self.paused_s = tuple(SLEEPER_S if at == SLEEPER else 0.0 for at in range(STEP_COUNT))
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    async def meet(self, turn_no: int, at: int) -> None:
        """Sleep and log as asked; a line that sat in a buffer would die with the process."""
        if self.paused_s[at]:
            await asyncio.sleep(self.paused_s[at])
        if self.log is not None:
            os.write(self.log, b"%d %d\n" % (turn_no, at))


CONDITIONS = Conditions()


def executions(path: Path) -> list[tuple[int, int]]:
    """Return the (turn, step) pairs of an execution log, in the order in which they ran."""
    if not path.exists():
        return []
    whole = path.read_bytes().split(b"\n")[:-1]
    return [(int(turn), int(step)) for turn, step in (line.split() for line in whole)]


async def step(turn_no: int, at: int) -> Body:
    """Do nothing, but meet the conditions of a harsh run first."""
    if CONDITIONS.harsh:
        await CONDITIONS.meet(turn_no, at)
    return payload(turn_no, at)


# The seven steps. A parameter is the name of the step before, as a workflow reads it.


async def resolve(turn_no: int) -> Body:
    """Step 0."""
    return await step(turn_no, 0)


async def read(resolve: Body) -> Body:
    """Step 1."""
    return await step(resolve["turn"], 1)


async def gather(read: Body) -> Body:
    """Step 2."""
    return await step(read["turn"], 2)


async def prepare(gather: Body) -> Body:
    """Step 3, the one that sleeps in a run which is to be killed."""
    return await step(gather["turn"], 3)


async def review(prepare: Body) -> Body:
    """Step 4, where a workflow would ask for approval."""
    return await step(prepare["turn"], 4)


async def execute(review: Body) -> Body:
    """Step 5, the effect."""
    return await step(review["turn"], 5)


async def confirm(execute: Body) -> Body:
    """Step 6."""
    return await step(execute["turn"], 6)


FIRST = resolve
REST: tuple[Callable[[Body], Awaitable[Body]], ...] = (
    read,
    gather,
    prepare,
    review,
    execute,
    confirm,
)


async def slow_read(item: int) -> Body:
    """Do one read of the fan-out."""
    await asyncio.sleep(FAN_READ_S)
    return payload(0, item)


class Subject(Protocol):
    """What is measured: the floor, or Undercroft itself, over one folder of files."""

    async def __aenter__(self) -> Self:
        """Open the journal."""
        ...

    async def __aexit__(self, *_: object) -> None:
        """Close it; all that was awaited is on disk."""
        ...

    async def chain(self, turn_no: int) -> None:
        """Run the seven steps, one after another."""
        ...

    async def fan(self, turn_no: int) -> None:
        """Run one step, then 50 reads of 10 ms beside each other, then one step."""
        ...

    async def loop(self, turn_no: int, count: int) -> None:
        """Run `count` steps one after another in one turn, asked for as it goes."""
        ...

    async def graph(self, turn_no: int, count: int) -> None:
        """Run `count` steps one after another in one turn, known ahead."""
        ...

    async def finish(self, turns: int, in_flight: int) -> Numbers:
        """Second life: finish the turns that were cut off, then run those that never began."""
        ...


def quantile(values: list[float], share: float) -> float:
    """Return the value below which `share` of `values` lie; NaN of nothing."""
    if not values:
        return float("nan")
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def drive(
    turn_nos: Iterable[int], in_flight: int, turn: Callable[[int], Awaitable[None]]
) -> Numbers:
    """Run `turn` for each number, `in_flight` at a time, and time it."""
    waiting = iter(turn_nos)
    took_s: list[float] = []
    clock = time.perf_counter

    async def worker() -> None:
        for turn_no in waiting:
            began_s = clock()
            await turn(turn_no)
            took_s.append(clock() - began_s)

    gc.collect()
    cpu_s, wall_s = time.process_time(), clock()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    wall_s, cpu_s = clock() - wall_s, time.process_time() - cpu_s
    return {
        "turns": len(took_s),
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "turn_p50_ms": 1e3 * quantile(took_s, 0.5),
        "turn_p99_ms": 1e3 * quantile(took_s, 0.99),
    }

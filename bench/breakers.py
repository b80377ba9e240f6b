"""What a breaker costs, beside others: `python -m bench.breakers [--rounds 9] [--quick]`.

Each round measures each library once, every second round backwards; the table shows the median
of the rounds, in time of the processor, so that what else the machine does counts less. The peers
are not needed: one that is not installed is left out. Get them with
`pip install purgatory circuitbreaker aiobreaker pybreaker stamina`.

- closed: a call through the decorator of a closed breaker, less a bare await of the same
  function, in the same round.
- refused: a call that is refused, with the exception that says so and its handling; ours also
  without one, by `admit()`.
- size: what a breaker with a hundred calls behind it holds on to, as `tracemalloc` sees it.
- the rest: whether the library keeps the rule, tried out through its own interface; `n/a` where it
  has no word for that. `stamina` retries and has no breaker: it is there for the way through.

Then the change detector, simulated: how many calls it takes to mark a service that fails half of
them, and wrong marks in a million calls of one that is well.

Exit codes: 0 all targets met and all rules kept, 1 one not. A quick run's figures are not for
quoting.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import undercroft as uc
from bench.peers import BEHAVIOURS, OURS, Call, Guard, Peer, Wanted, installed
from undercroft.layers.breakers.suspect import Suspicion

CLOSED_US_MAX = 1.5
REFUSED_US_MAX = 1.0
SIZE_BYTES_MAX = 2_048
MARKED_CALLS_MAX = 10.0
WRONG_MARKS_MAX = 20.0
BREAKERS = 50
CALLS_EACH = 100
NAME_WIDTH, WIDTH = 44, 15
# The dearest that can be asked for: time, rates of both kinds, failures in a row.
DEAR = uc.BreakerPolicy(window_s=60.0, failures_max=5, slow_s=1.0, slow_rate=0.5)
CLOSED = "closed: us over a bare await"
CLOSED_DEAR = "the same, 60 s window, slow calls"
REFUSED = "refused: us with its exception"
ADMIT = "refused: us without an exception"
SIZE = "size: bytes a breaker"
SIZE_DEAR = "size with a 60 s window and slow calls"
AT_MOST = {
    CLOSED: CLOSED_US_MAX,
    CLOSED_DEAR: CLOSED_US_MAX,
    ADMIT: REFUSED_US_MAX,
    SIZE: SIZE_BYTES_MAX,
    SIZE_DEAR: SIZE_BYTES_MAX,
}

# By row, then by library.
Table = dict[str, dict[str, list[float]]]


async def bare() -> int:
    """Be called."""
    return 1


async def failing() -> None:
    """Fail."""
    raise ConnectionError


# ------------------------------------------------------------------ what it costs


async def per_call_us(call: Call, count: int) -> float:
    """Return the microseconds of an awaited call."""
    began = time.process_time()
    for _ in range(count):
        await call()
    return (time.process_time() - began) / count * 1e6


async def per_refusal_us(call: Call, refused: type[BaseException], count: int) -> float:
    """Return the microseconds of a call that raises, caught."""
    began = time.process_time()
    for _ in range(count):
        try:  # noqa: SIM105  a context manager would be measured as well
            await call()
        except refused:
            pass
    return (time.process_time() - began) / count * 1e6


def per_admit_us(admit: Callable[[], int], count: int) -> float:
    """Return the microseconds of a refusal without an exception."""
    began = time.process_time()
    for _ in range(count):
        admit()
    return (time.process_time() - began) / count * 1e6


async def dear(wanted: Wanted) -> Guard:  # noqa: ARG001  always the same
    """Return a breaker of ours that does all it can."""
    breaker = uc.Breaker("dear", DEAR)
    return Guard(breaker, breaker)


async def size_bytes(peer: Peer) -> float | None:
    """Return what a breaker holds on to after some calls, what guards functions left out."""
    kept: list[Any] = []
    # Once before, so that what they share is not counted.
    for measured in (False, True):
        gc.collect()
        tracemalloc.start()
        for _ in range(BREAKERS):
            guard = await peer.make(Wanted(failures=5, open_s=60.0))
            if guard is None:
                tracemalloc.stop()
                return None
            call = guard.wrap(bare)
            for _ in range(CALLS_EACH):
                await call()
            kept.append(guard.breaker)
        del guard, call
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        if measured:
            return held / BREAKERS
        kept.clear()
    return None


async def measure(peer: Peer, count: int, table: Table) -> None:
    """Add what `peer` costs to the table."""

    def put(row: str, value: float) -> None:
        table.setdefault(row, {}).setdefault(peer.name, []).append(value)

    closed = await peer.make(Wanted(failures=5, open_s=60.0, closed_only=True))
    if closed is not None:
        call = closed.wrap(bare)
        await per_call_us(call, count // 10)
        base = await per_call_us(bare, count)
        put(CLOSED, await per_call_us(call, count) - base)
    if peer is OURS:
        call = uc.Breaker("dear", DEAR)(bare)
        base = await per_call_us(bare, count)
        put(CLOSED_DEAR, await per_call_us(call, count) - base)
    refusing = await peer.make(Wanted(open_s=600.0))
    if refusing is not None:
        call = refusing.wrap(failing)
        with suppress(Exception):
            await call()
        put(REFUSED, await per_refusal_us(call, peer.refused, count // 10))
        if refusing.admit is not None:
            put(ADMIT, per_admit_us(refusing.admit, count))


# ------------------------------------------------------------------ the change detector


def calls_until_marked(failing_share: float, services: int) -> float:
    """Return the calls that it takes on average to mark a service."""
    chance, calls = random.Random(1).random, 0  # noqa: S311
    for _ in range(services):
        suspicion = Suspicion()
        while not suspicion.marked:
            calls += 1
            if chance() < failing_share:
                suspicion.failed()
            else:
                suspicion.succeeded()
    return calls / services


def wrong_marks(failing_share: float, calls: int) -> float:
    """Return how often a service is marked in a million calls."""
    chance, suspicion, marks = random.Random(2).random, Suspicion(), 0  # noqa: S311
    failed, succeeded = suspicion.failed, suspicion.succeeded
    for _ in range(calls):
        if chance() < failing_share:
            was = suspicion.marked
            failed()
            marks += suspicion.marked and not was
        else:
            succeeded()
    return marks / calls * 1e6


def simulated(*, quick: bool) -> list[tuple[str, float, float]]:
    """Return the rows of the change detector: name, value, target."""
    part = 10 if quick else 1
    rows = [
        ("suspect: calls until marked, 50 % fail", calls_until_marked(0.5, 50_000 // part)),
        ("suspect: marks in a million, 1 % fail", wrong_marks(0.01, 5_000_000 // part)),
        ("suspect: marks in a million, 2 % fail", wrong_marks(0.02, 5_000_000 // part)),
    ]
    most = (MARKED_CALLS_MAX, WRONG_MARKS_MAX, WRONG_MARKS_MAX)
    return [(name, value, at_most) for (name, value), at_most in zip(rows, most, strict=True)]


# ------------------------------------------------------------------ the table


def line(name: str, cells: Sequence[str], verdict: str = "") -> str:
    """Lay out one line."""
    row = "".join(cell.rjust(WIDTH) for cell in cells)
    return f"{name.ljust(NAME_WIDTH)}{row}  {verdict}".rstrip()


def judged(value: float, at_most: float | None) -> tuple[str, bool]:
    """Return what is said of a value beside its target, and whether it is met."""
    if at_most is None:
        return "", True
    met = value <= at_most
    return f"<= {at_most:g} {'met' if met else 'MISSED'}", met


def print_costs(peers: Sequence[Peer], table: Table) -> bool:
    """Print what was measured; return whether all targets are met."""
    good = True
    for row in (CLOSED, CLOSED_DEAR, REFUSED, ADMIT, SIZE, SIZE_DEAR):
        figures = {name: statistics.median(some) for name, some in table.get(row, {}).items()}
        shown = "{:,.0f}" if row in {SIZE, SIZE_DEAR} else "{:.2f}"
        cells = [shown.format(figures[p.name]) if p.name in figures else "n/a" for p in peers]
        verdict, met = judged(figures[OURS.name], AT_MOST.get(row))
        good &= met
        print(line(row, cells, verdict))
    return good


async def print_behaviours(peers: Sequence[Peer]) -> bool:
    """Try out every rule with every library, and print it; return whether ours keeps all."""
    good = True
    words = {True: "yes", False: "no", None: "n/a"}
    for name, keeps in BEHAVIOURS.items():
        answers = [await keeps(peer) for peer in peers]
        good &= answers[0] is True
        print(line(name, [words[answer] for answer in answers]))
    return good


async def run(given: argparse.Namespace) -> bool:
    """Measure, try out, simulate and print; return whether everything is as it should be."""
    peers, missing = installed()
    count = 5_000 if given.quick else 50_000
    table: Table = {}
    for number in range(given.rounds):
        for peer in peers if number % 2 == 0 else peers[::-1]:
            gc.collect()
            await measure(peer, count, table)
        print(f"  round {number + 1} of {given.rounds} done", file=sys.stderr, flush=True)
    for peer in peers:
        size = await size_bytes(peer)
        if size is not None:
            table.setdefault(SIZE, {})[peer.name] = [size]
    largest = await size_bytes(replace(OURS, make=dear))
    table[SIZE_DEAR] = {OURS.name: [largest or 0.0]}
    for name in missing:
        print(f"{name}: not installed")
    print(line("", [peer.name for peer in peers]))
    print(line("", [peer.version for peer in peers]))
    good = print_costs(peers, table)
    good &= await print_behaviours(peers)
    for name, value, at_most in simulated(quick=given.quick):
        verdict, met = judged(value, at_most)
        good &= met
        print(line(name, [f"{value:.2f}"], verdict))
    return good


def main() -> int:
    """Measure everything; print a line for each row."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.breakers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    return int(not asyncio.run(run(given)))


if __name__ == "__main__":
    sys.exit(main())

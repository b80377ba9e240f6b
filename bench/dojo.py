"""What batches gain from running together: `python -m bench.dojo [--ms 50]`, in virtual time.

The ground-truth calls of every AgentDojo task, proposed as one batch, each call taking as
long as any other. Four times of each batch:

- serial: one call after the other.
- naive: consecutive reads together, each call that changes anything alone.
- measured: what the runtime took, on the clock of a virtual-time loop.
- least: the longest chain of calls that conflict, which no schedule can beat.

A ratio over 1 says how many times faster the runtime was. The median is over tasks, of each
task's own ratio; the total is of all tasks run one after the other. The first column counts
the tasks; those in brackets are the ones in which naive is not the least already.
Exit codes: 0, or 1 if some batch took longer than naive.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.real.dojo import SUITES
from tests.real.races import all_tasks, load_batch, measure, rounds_least, rounds_naive

if TYPE_CHECKING:
    from collections.abc import Sequence

# What floats lose on the way.
TOLERANCE_S = 1e-6
HEAD = ("suite", "tasks", "serial", "naive", "measured", "least", "over serial", "over naive")
WIDTHS = (10, 8, 9, 9, 9, 9, 14, 14)


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long one batch takes, in virtual seconds."""

    serial_s: float
    naive_s: float
    measured_s: float
    least_s: float


def times(suite: str, task: str, call_s: float) -> Times:
    """Run a batch and compute what it is compared with."""
    batch = load_batch(suite, task)
    return Times(
        serial_s=len(batch.calls) * call_s,
        naive_s=rounds_naive(batch) * call_s,
        measured_s=measure(batch, call_s),
        least_s=rounds_least(batch) * call_s,
    )


def cells(name: str, taken: Sequence[Times]) -> tuple[str, ...]:
    """Return a line of the table: totals in seconds, ratios as median and total."""
    serial_s = sum(one.serial_s for one in taken)
    naive_s = sum(one.naive_s for one in taken)
    measured_s = sum(one.measured_s for one in taken)
    least_s = sum(one.least_s for one in taken)
    over_serial = statistics.median(one.serial_s / one.measured_s for one in taken)
    over_naive = statistics.median(one.naive_s / one.measured_s for one in taken)
    room = sum(one.naive_s > one.least_s + TOLERANCE_S for one in taken)
    return (
        name,
        f"{len(taken)} ({room})",
        *(f"{total_s:.2f} s" for total_s in (serial_s, naive_s, measured_s, least_s)),
        f"{over_serial:.2f} {serial_s / measured_s:.2f}x",
        f"{over_naive:.2f} {naive_s / measured_s:.2f}x",
    )


def line(shown: Sequence[str]) -> str:
    """Lay out one line: the name to the left, figures to the right."""
    first, *others = (
        cell.rjust(width) if at else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(shown, WIDTHS, strict=True))
    )
    return " ".join((first, *others))


def main() -> int:
    """Measure every task; print a line for each suite, and one for all."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.dojo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ms", type=float, default=50.0, help="of each call (default: 50)")
    call_s = parser.parse_args().ms / 1000
    if not call_s > 0:
        parser.error("--ms must be above 0")
    print(f"one batch a task, {call_s * 1000:g} ms a call, virtual time; ratios: median, total")
    print(line(HEAD))
    by_suite: dict[str, list[Times]] = {suite: [] for suite in SUITES}
    slower = []
    for suite, task in all_tasks():
        taken = times(suite, task, call_s)
        by_suite[suite].append(taken)
        if taken.measured_s > taken.naive_s + TOLERANCE_S:
            slower.append(f"{suite} {task}")
    every = [one for taken in by_suite.values() for one in taken]
    for suite, taken_all in by_suite.items():
        print(line(cells(suite, taken_all)))
    print(line(cells("all", every)))
    roomy = [one for one in every if one.naive_s > one.least_s + TOLERANCE_S]
    if roomy:
        print(line(cells("roomy", roomy)))
        print("roomy: the tasks in brackets, where claims can gain over naive")
    for name in slower:
        print(f"slower than naive: {name}")
    return int(bool(slower))


if __name__ == "__main__":
    sys.exit(main())

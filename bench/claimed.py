"""What claims cost a step: the chain with none, with one on every step, and with a write.

    python -m bench.claimed

Keeps: each round runs every kind once, one after the other, so a ratio is between neighbours in
time; the table shows the median of the rounds with the least and the most.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import undercroft as uc
from bench import workload

TURNS = 1_200
WARM = 8
# What is to be left of the rate, at the least.
RATE_MIN = 0.85
WORDS = {
    "none": "no claims",
    "reads": "a read claim on every step",
    "write": "a write claim on one of seven",
    "every": "a claim on every step, one of them a write",
}


def chain(kind: str) -> uc.Workflow:
    """Return the seven steps with claims of a kind."""
    flow = uc.Workflow(f"claimed-{kind}")
    key = "bench/{turn_no}"
    read: dict[str, Any] = {"reads": key} if kind in {"reads", "every"} else {}
    flow.resolve(**read)(workload.resolve)
    flow.read(**read)(workload.read)
    flow.gather(**read)(workload.gather)
    flow.prepare(**read)(workload.prepare)
    flow.prepare(**read)(workload.review)
    if kind in {"write", "every"}:
        flow.execute(writes=key)(workload.execute)
    else:
        flow.prepare(**read)(workload.execute)
    flow.confirm(**read)(workload.confirm)
    return flow


async def measured(folder: Path, flow: uc.Workflow, in_flight: int, turns: int) -> float:
    """Return the microseconds of a step."""
    numbers = iter(range(10**9))

    async def run(count: int) -> None:
        for _ in range(count):
            outcome = await rt.run(flow, turn_no=next(numbers))
            if outcome.status != "done":
                raise RuntimeError(outcome)

    async with uc.Runtime(folder / f"{flow.name}-{in_flight}.db", sync="never") as rt:
        await asyncio.gather(*(run(WARM) for _ in range(in_flight)))
        gc.collect()
        began_s = time.perf_counter()
        each = turns // in_flight
        await asyncio.gather(*(run(each) for _ in range(in_flight)))
        took_s = time.perf_counter() - began_s
    return took_s / (each * in_flight * workload.STEP_COUNT) * 1e6


Chain = Callable[[str], uc.Workflow]
Ratios = dict[tuple[int, str], float]


def compared(chain: Chain, words: Mapping[str, str], about: str) -> Ratios:
    """Print what chains of all kinds cost, beside the first one; return the ratios to it.

    Args:
        chain: Makes a chain of a kind.
        words: By kind, what it is.
        about: What the command says of itself.
    """
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    first, medians = next(iter(words)), {}
    print(f"{'':44}{'µs a step':>10}{'ratio':>9}{'least-most':>13}")
    for in_flight in (1, 64):
        found: dict[str, list[float]] = {kind: [] for kind in words}
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                for kind in words:
                    took = asyncio.run(measured(Path(folder), chain(kind), in_flight, TURNS))
                    found[kind].append(took)
        for kind, said in words.items():
            ratios = [a / b for a, b in zip(found[kind], found[first], strict=True)]
            spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
            row = f"{in_flight:>3} in flight, {said}"
            print(f"{row:44.44}{median(found[kind]):10.1f}{median(ratios):9.2f}{spread:>13}")
            medians[in_flight, kind] = median(ratios)
    return medians


def main() -> int:
    """Print the table; 1 where the rate falls by more than 15 %."""
    ratios = compared(chain, WORDS, __doc__ or "")
    return int(any(1 / ratios[in_flight, "every"] < RATE_MIN for in_flight in (1, 64)))


if __name__ == "__main__":
    sys.exit(main())

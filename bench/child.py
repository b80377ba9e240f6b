"""One case in one process: open the subject, run one measure, print its numbers.

    python -m bench.child house chain --in-flight 64 --sync never

`run` starts it; by hand it is what to put under a profiler.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.workload import CONDITIONS, STEP_COUNT, Numbers, Subject, drive, quantile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RESULT = "RESULT "
TICK_S = 0.005
WARM_UP = 10_000_000  # turn numbers of the warm-up start here
FAN_TURNS_WARM = 2


def resident_mb() -> float:
    """Return the memory that this process holds now (its most so far where /proc is missing)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return pages * resource.getpagesize() / 1e6


def flushes() -> int:
    """Return the flushes so far: 0 unless the shim is preloaded."""
    try:
        count = ctypes.CDLL(None).bench_flushes
    except (AttributeError, OSError):
        return 0
    count.restype = ctypes.c_long
    return int(count())


def size_bytes(folder: Path, pattern: str = "*") -> int:
    """Return the size of the files in `folder`, those in folders of it left out."""
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file())


class Watch:
    """While it runs: how late a 5 ms ticker wakes, and how large the write-ahead log gets."""

    def __init__(self, folder: Path) -> None:
        """Watch the files in `folder`."""
        self.folder = folder
        self.late_ms: list[float] = []
        self.wal_bytes = 0

    async def tick(self) -> None:
        """Wake every 5 ms until cancelled."""
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(TICK_S)
            self.late_ms.append(1e3 * (time.perf_counter() - began_s - TICK_S))
            self.wal_bytes = max(self.wal_bytes, size_bytes(self.folder, "*-wal"))

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Run the ticker beside the block."""
        ticker = asyncio.create_task(self.tick())
        try:
            yield
        finally:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker

    def numbers(self) -> Numbers:
        """Say what was seen."""
        return {"lag_p99_ms": quantile(self.late_ms, 0.99), "wal_mb": self.wal_bytes / 1e6}


async def chain(subject: Subject, asked: argparse.Namespace) -> Numbers:
    """Seven steps a turn: time and flushes a step."""
    warm = min(20, asked.turns)
    await drive(range(WARM_UP, WARM_UP + warm), min(asked.in_flight, 8), subject.chain)
    flushed = flushes()
    got = await drive(range(asked.turns), asked.in_flight, subject.chain)
    flushed = flushes() - flushed
    steps = asked.turns * STEP_COUNT
    return got | {
        "us_step": 1e6 * got["wall_s"] / steps,
        "cpu_us_step": 1e6 * got["cpu_s"] / steps,
        "flushes_turn": flushed / asked.turns,
        "flushes_step": flushed / steps,
        "steps_stored": steps + warm * STEP_COUNT,
    }


async def watched(subject: Subject, asked: argparse.Namespace) -> Numbers:
    """Run `chain` with the ticker beside it."""
    watch = Watch(asked.folder)
    async with watch.watching():
        got = await chain(subject, asked)
    return got | watch.numbers()


async def paced(subject: Subject, asked: argparse.Namespace) -> Numbers:
    """Run `watched` with steps that take 10 ms, as steps do that wait for others."""
    CONDITIONS.pace()
    return await watched(subject, asked)


async def memory(subject: Subject, asked: argparse.Namespace) -> Numbers:
    """Many turns: how much the memory grows after the first tenth."""
    watch, warm = Watch(asked.folder), asked.turns // 10
    async with watch.watching():
        first = await drive(range(warm), asked.in_flight, subject.chain)
        before_mb = resident_mb()
        got = await drive(range(warm, asked.turns), asked.in_flight, subject.chain)
    grown = {
        "steps_stored": asked.turns * STEP_COUNT,
        "rss_mb": resident_mb(),
        "rss_growth_mb": resident_mb() - before_mb,
        "us_step_first_tenth": 1e6 * first["wall_s"] / first["turns"] / STEP_COUNT,
        "us_step": 1e6 * got["wall_s"] / got["turns"] / STEP_COUNT,
    }
    return got | watch.numbers() | grown


async def fan(subject: Subject, asked: argparse.Namespace) -> Numbers:
    """Fifty reads of 10 ms: time of the whole turn."""
    await drive(range(WARM_UP, WARM_UP + FAN_TURNS_WARM), 1, subject.fan)
    return await drive(range(asked.turns), asked.in_flight, subject.fan)


async def long(subject: Subject, asked: argparse.Namespace) -> Numbers:
    """Turns of `--steps` steps, one turn at a time: time of a step."""
    graph = asked.measure == "graph"
    turn, warm = (subject.graph, asked.steps) if graph else (subject.loop, 5)
    await turn(WARM_UP, warm)  # the graph is built here, outside the time
    got = await drive(range(asked.turns), 1, lambda no: turn(no, asked.steps))
    steps = asked.turns * asked.steps
    return got | {"us_step": 1e6 * got["wall_s"] / steps, "steps_stored": steps + warm}


async def doomed(subject: Subject, asked: argparse.Namespace) -> Numbers:
    """First life of a run that is to be killed."""
    return await drive(range(asked.turns), asked.in_flight, subject.chain)


async def finish(subject: Subject, asked: argparse.Namespace) -> Numbers:
    """Second life: finish what the first one left."""
    return await subject.finish(asked.turns, asked.in_flight)


MEASURES = {
    "chain": chain,
    "watched": watched,
    "paced": paced,
    "memory": memory,
    "fan": fan,
    "loop": long,
    "graph": long,
    "doomed": doomed,
    "finish": finish,
}


def subject_of(asked: argparse.Namespace) -> Subject:
    """Return what is measured; Undercroft is imported only where it is."""
    if asked.subject == "floor":
        from bench.floor import Floor  # noqa: PLC0415

        return Floor(asked.folder, flushes=asked.sync != "never")
    from bench.house import House  # noqa: PLC0415

    return House(asked.folder, sync=asked.sync, log=asked.log)


async def measured(asked: argparse.Namespace) -> Numbers:
    """Open, measure, close; then weigh the files."""
    opened = subject_of(asked)
    began_s = time.perf_counter()
    async with opened as subject:
        got = await MEASURES[asked.measure](subject, asked)
        got["open_to_end_s"] = time.perf_counter() - began_s
    if stored := got.get("steps_stored"):
        got["disk_bytes_step"] = size_bytes(asked.folder) / stored
    return got


def main() -> None:
    """Print the numbers of one case, as JSON, on one line."""
    parser = argparse.ArgumentParser(prog="python -m bench.child", description=__doc__)
    parser.add_argument("subject", choices=("floor", "house"))
    parser.add_argument("measure", choices=MEASURES)
    parser.add_argument("--sync", choices=("never", "writes", "always"), default="never")
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="keep the files here instead of nowhere")
    parser.add_argument("--log", type=Path, help="log each step that runs")
    asked = parser.parse_args()
    if asked.log:
        CONDITIONS.doom(asked.log)
    with tempfile.TemporaryDirectory() as scratch:
        asked.folder = asked.folder or Path(scratch)
        numbers = asyncio.run(measured(asked))
    sys.stdout.write(RESULT + json.dumps(numbers) + os.linesep)


if __name__ == "__main__":
    main()

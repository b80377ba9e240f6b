"""What a tool call costs under Undercroft, beside what it costs in each framework by itself.

    python -m bench.frameworks.costs --env langchain=PY --env pydantic-ai=PY …

Each framework is measured in an environment of its own, by a module `cost_NAME` here: in one run
and in turns, a call as the framework makes it, the same with Undercroft under it and a journal in
memory, and with one in a file, of a tool that reads and of one that writes. What is printed are
medians of a call's time, and what each adds to the framework's own, as the median of the
differences between stretches of calls that were made one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

ROOT = Path(__file__).parents[2]
# Of one framework, in the order in which they are printed.
NAMES: Final = ("raw", "langchain", "pydantic_ai", "openai_agents", "mcp")
OWN, MEMORY, READ, WRITE = "own", "memory", "file, reads", "file, writes"
TIMEOUT_S = 580
STRETCH = 25
REST_S = 0.02

Once: TypeAlias = Callable[[int], Awaitable[object]]


async def measured(
    ways: Mapping[str, Once], *, calls: int, warm_up: int = 50
) -> dict[str, dict[str, float]]:
    """Return for each way to make a call its median, and what it adds to the first way.

    The ways take turns, a stretch of calls each, as a turn would make them.

    Args:
        ways: By name, what makes call number n.
        calls: How many of each.
        warm_up: How many before that, which do not count.
    """
    took: dict[str, list[list[float]]] = {name: [] for name in ways}
    for first in range(0, calls + warm_up, STRETCH):
        for name, once in ways.items():
            # What the stretch before left to be done must not count for this one.
            await asyncio.sleep(REST_S)
            stretch = []
            for n in range(first, min(first + STRETCH, calls + warm_up)):
                began_s = time.perf_counter()
                await once(n)
                stretch.append(time.perf_counter() - began_s)
            if first >= warm_up:
                took[name].append(stretch)
    medians = {name: [statistics.median(one) for one in found] for name, found in took.items()}
    own = medians[next(iter(ways))]
    return {
        name: {
            "median_us": statistics.median([s for one in took[name] for s in one]) * 1e6,
            "added_us": statistics.median(
                [mine - theirs for mine, theirs in zip(found, own, strict=True)]
            )
            * 1e6,
        }
        for name, found in medians.items()
    }


def said(framework: str, versions: Mapping[str, str], found: Mapping[str, Any]) -> None:
    """Print what was measured of one framework, for whoever asked."""
    print(json.dumps({"framework": framework, "versions": versions, "ways": found}))


def rendered(reports: Sequence[Mapping[str, Any]]) -> str:
    """Return the table in Markdown."""
    ways = (OWN, MEMORY, READ, WRITE)
    lines = [
        ["framework", "its own call", *(f"added, {way}" for way in ways[1:])],
        ["---", *("---:" for _ in ways)],
    ]
    for report in reports:
        version = next(iter(report["versions"].values()), "")
        found = report["ways"]
        cells = [f"{report['framework']} {version}".strip()]
        for way in ways:
            one = found.get(way)
            key = "median_us" if way == OWN else "added_us"
            cells.append("-" if one is None else f"{one[key] / 1_000:.3f} ms")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Measure in each environment that is named, and print one table."""
    parser = argparse.ArgumentParser(description="What a call costs, framework by framework.")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    pythons = {"raw": sys.executable}
    for one in given.env:
        name, _, python = one.partition("=")
        pythons[name.replace("-", "_")] = python
    reports = []
    for name in NAMES:
        if name in pythons:
            done = subprocess.run(  # noqa: S603  the Python that its user named
                [pythons[name], "-m", f"bench.frameworks.cost_{name}", "--json"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=TIMEOUT_S,
            )
            reports.append(json.loads(done.stdout.splitlines()[-1]))
    print(json.dumps(reports) if given.json else rendered(reports))
    return 0


if __name__ == "__main__":
    sys.exit(main())

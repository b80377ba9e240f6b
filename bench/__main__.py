"""Run the benchmark: `python -m bench [SUITE ...]`; one line for each requirement.

Exit codes: 0 all targets met, 1 one missed, 2 something could not be run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.rows import Case, suites
from bench.run import HERE, Round, Runner, compiled_shim, rounds

if TYPE_CHECKING:
    from bench.rows import Row, Suite

LATEST = HERE / "results" / "latest.json"
QUICK_ROUNDS = 2
HEAD = ("requirement", "median", "min - max", "", "target", "", "survives")
WIDTHS = (54, 7, 17, 9, 9, 6, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A row with its values, one a round."""

    row: Row
    values: list[float]

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one, or without a value."""
        if self.row.at_most is None or not self.values:
            return None
        return (max(self.values) if self.row.worst else self.median) <= self.row.at_most

    def cells(self) -> tuple[str, ...]:
        """Return the line of the table."""
        row = self.row
        if not self.values:
            return (row.name, "", "", "", "", "NO RUN", row.durability)
        return (
            row.name,
            shown(self.median),
            f"{shown(min(self.values))} - {shown(max(self.values))}",
            row.unit,
            "" if row.at_most is None else f"<= {shown(row.at_most)}",
            {True: "met", False: "MISSED", None: ""}[self.met],
            row.durability,
        )

    def record(self) -> dict[str, object]:
        """Return what the results file keeps."""
        row = self.row
        return {
            "requirement": row.name,
            "median": self.median if self.values else None,
            "values": self.values,
            "unit": row.unit,
            "at_most": row.at_most,
            "judged_by": "worst" if row.worst else "median",
            "met": self.met,
            "survives": row.durability,
        }


def shown(value: float) -> str:
    """Return three digits that matter."""
    if value == int(value) or abs(value) >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.2f}"  # noqa: PLR2004


def line(cells: tuple[str, ...]) -> str:
    """Lay out one line: names to the left, numbers to the right."""
    name, median, spread, unit, target, verdict, survives = (
        cell.ljust(width) if at in (0, 3, 5, 6) else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
    )
    return f"{name} {median} {spread} {unit} {target} {verdict} {survives}".rstrip()


def figure(row: Row, measured: list[Round]) -> Figure:
    """Take the row's ratio within each round."""
    values = []
    for numbers in measured:
        needed = [case.label for case in (row.of, row.to) if isinstance(case, Case)]
        if not all(label in numbers for label in needed):
            continue
        base = numbers[row.to.label][row.field] if isinstance(row.to, Case) else row.to
        values.append(numbers[row.of.label][row.field] / base)
    return Figure(row=row, values=values)


def run_suite(
    name: str, suite: Suite, count: int, runner: Runner
) -> tuple[list[Figure], list[Round]]:
    """Run a suite and print its lines."""
    measured: list[Round] = []
    for numbers in rounds(suite, count, runner):
        measured.append(numbers)
        print(f"  {name}: round {len(measured)} done", file=sys.stderr, flush=True)
    figures = [figure(row, measured) for row in suite.rows]
    for one in figures:
        print(line(one.cells()), flush=True)
    return figures, measured


def asked() -> argparse.Namespace:
    """Read the command line."""
    names = list(suites(quick=False))
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("suite", nargs="*", metavar="SUITE", help=f"of: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, two rounds")
    parser.add_argument("--json", type=Path, default=LATEST, metavar="FILE", help="results")
    parser.add_argument("--scratch", type=Path, help="a folder on the disk to measure")
    given = parser.parse_args()
    if unknown := [name for name in given.suite if name not in names]:
        parser.error(f"no suite {unknown[0]!r}; there are: {', '.join(names)}")
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    return given


def main() -> int:
    """Run what was asked for; print the table, write the results."""
    given = asked()
    count = min(given.rounds, QUICK_ROUNDS) if given.quick else given.rounds
    figures: list[Figure] = []
    raw: dict[str, list[Round]] = {}
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        shim = compiled_shim(Path(folder))
        runner = Runner(Path(folder), shim)
        print(line(HEAD))
        for name, suite in suites(quick=given.quick).items():
            if given.suite and name not in given.suite:
                continue
            if shim is None and any(case.flush_us is not None for case in suite.cases):
                print(f"{name}: skipped, there is no C compiler (cc) to build shim.c with")
                continue
            more, raw[name] = run_suite(name, suite, count, runner)
            figures += more
    record = {
        "machine": {
            "system": platform.system(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
        },
        "quick": given.quick,
        "rows": [one.record() for one in figures],
        "failures": runner.failures,
        "rounds": raw,
    }
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for failure in runner.failures:
        print(f"could not run: {failure}")
    if runner.failures:
        return 2
    return int(any(one.met is False for one in figures))


if __name__ == "__main__":
    sys.exit(main())

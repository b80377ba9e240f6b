"""What breakers are for, beside clients without: `python -m bench.overload [--seeds 10] [--quick]`.

All in virtual time and from seeds: who runs it again sees the same figures. Each cell of the first
and third table is the median over the seeds, then the worst of them.

1. Overload. 80 requests/s meet a server that does 100/s, for 20 s only 30/s, then 100/s again;
   timeout 1 s, three attempts (`tests/real/overload.py` says what the server does and why that
   collapses). Good/s: answered, of what was asked in the outage. Attempts: that came to the
   server in the outage, to requests in it; then the same of the minute after it. Well 95 %, 99 %:
   seconds after the outage from which that share of what is asked within any second is
   answered, `never` if not within the minute. p99: from asking to knowing, in the outage.
   - naive: three attempts, jittered waits that double, nothing else; once: one attempt.
   - retry budget, breaker: `uc.Retry` and `uc.Timeout` with one of the two.
   - parts: `uc.Retry`, `uc.Breaker`, `uc.Timeout` round an async function.
   - runtime: a turn for each request, with a tool that reads; nothing said of its service.
   - any length: the parts, through outages of 16 to 25 s: none ends where a probe is due.
2. Change detector. Calls until a service is suspect that begins to fail half of them; and wrong
   marks in a million calls of one that always fails so many.
3. A bad vendor. Four hours of turns, of which for forty minutes 70 % of the vendor's answers
   fail, hang, or come after whoever asked gave up, the write done or not
   (`tests/real/vendor.py`). Doubled: writes that happened twice. Failed: turns. Doubt: turns
   that stop for a write of which nobody knows; then those that still do once the vendor is well,
   for a person. Open, closed: seconds until the board says so after the vendor fell ill, and
   after it was well; told: the share of its illness after that in which it does. Attempts: that
   came to the vendor while it was ill.
   - plain: a loop of three tries round each call, no keys; which is all that it says of a doubt.
   - runtime: handlers and workflows, nothing said of the vendor; on disk: on a journal in a file.

Exit codes: 0 all targets met, 1 one missed. A quick run's figures are not for quoting.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.real.overload import LOAD, Figures, Load, calls_to_mark, simulate, wrong_marks
from tests.real.vendor import Day, Report, spend, spend_plainly

ATTEMPTS_MAX, RECOVERED_S_MAX = 1.1, 10.0
MARKED_CALLS_MAX, WRONG_MARKS_MAX = 10.0, 20.0
OPENED_S_MAX = 10.0
# The longest wait before a probe, and the probes.
CLOSED_S_MAX = 75.0
FAILS = (0.0, 0.005, 0.01, 0.02)
DAY = Day()
NAME_WIDTH, WIDTH = 26, 15
FIRST = (
    "1 overload",
    "good/s",
    "attempts",
    "and after",
    "well 95 %, s",
    "well 99 %, s",
    "p99, s",
    "",
)
SECOND = ("2 change detector", "figure", "target", "")
THIRD = (
    "3 a bad vendor",
    "turns",
    "degraded",
    "failed",
    "doubled",
    "doubt",
    "and still",
    "open, s",
    "closed, s",
    "told, %",
    "attempts",
    "",
)


@dataclass(frozen=True, slots=True)
class Column:
    """A figure over the seeds."""

    of: Callable[[Figures], float]
    digits: int
    least: bool = False


COLUMNS = (
    Column(lambda f: f.answered_per_s, 1, least=True),
    Column(lambda f: f.attempts_ratio, 2),
    Column(lambda f: f.attempts_after, 2),
    Column(lambda f: f.recovered_95_s, 1),
    Column(lambda f: f.recovered_99_s, 1),
    Column(lambda f: f.p99_s, 2),
)


def cell(values: Iterable[float], digits: int = 0, *, least: bool = False) -> str:
    """Return the median of the values and the worst of them."""
    values = list(values)
    worst = min(values) if least else max(values)
    shown = ["never" if math.isinf(v) else f"{v:.{digits}f}" for v in (_median(values), worst)]
    return ", ".join(shown)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def line(cells: Sequence[str], width: int = WIDTH) -> str:
    """Lay out one line: the name to the left, figures to the right."""
    first, *others = cells
    return f"{first:<{NAME_WIDTH}}{''.join(cell.rjust(width) for cell in others)}".rstrip()


def met(*, holds: bool) -> str:
    """Say whether a target was met."""
    return "met" if holds else "MISSED"


# ---------------------------------------------------------------------- the tables


def overload(seeds: Sequence[int]) -> bool:
    """Print the first table; return whether its targets are met."""
    print(line(FIRST))
    every = True
    rows: list[tuple[str, str, bool, Callable[[int], Load]]] = [
        ("naive", "naive", False, _usual),
        ("once", "once", False, _usual),
        ("retry budget", "ratio", False, _usual),
        ("breaker", "breaker", False, _usual),
        ("parts", "parts", True, _usual),
        ("runtime", "runtime", True, _usual),
        ("parts, any length", "parts", True, _any_length),
    ]
    for name, client, judged, load in rows:
        runs = [simulate(client, seed=seed, load=load(seed)) for seed in seeds]
        holds = all(
            run.attempts_ratio <= ATTEMPTS_MAX and run.recovered_99_s <= RECOVERED_S_MAX
            for run in runs
        )
        every &= holds or not judged
        cells = [cell(map(c.of, runs), c.digits, least=c.least) for c in COLUMNS]
        print(line((name, *cells, met(holds=holds) if judged else "")), flush=True)
    print(
        f"targets of the last three, each seed: attempts <= {ATTEMPTS_MAX:g}, well 99 % <= "
        f"{RECOVERED_S_MAX:g} s\n"
    )
    return every


def _usual(_: int) -> Load:
    return LOAD


def _any_length(seed: int) -> Load:
    longer_s = (seed - 1) % 10 - 4.0
    return replace(LOAD, well_s=LOAD.well_s + longer_s, end_s=LOAD.end_s + longer_s)


def detector(seeds: Sequence[int], calls: int) -> bool:
    """Print the second table; return whether its targets are met."""
    print(line(SECOND))
    mean = statistics.fmean(calls_to_mark(seed=seed) for seed in seeds)
    every = mean <= MARKED_CALLS_MAX
    name = "calls to mark, fails 50 %"
    print(line((name, f"{mean:.2f}", f"<= {MARKED_CALLS_MAX:g}", met(holds=every))))
    for fails in FAILS:
        marks = sum(wrong_marks(seed=seed, calls=calls, fails=fails) for seed in seeds)
        in_million = marks * 1e6 / (calls * len(seeds))
        holds = in_million < WRONG_MARKS_MAX
        every &= holds
        target = f"< {WRONG_MARKS_MAX:g}"
        shown = (f"marks/million at {fails:.1%}", f"{in_million:.2f}", target, met(holds=holds))
        print(line(shown), flush=True)
    print()
    return every


def vendor(seeds: Sequence[int], day: Day) -> bool:
    """Print the third table; return whether its targets are met."""
    width = 11
    print(line(THIRD, width))
    plain = [spend_plainly(day, seed=seed) for seed in seeds]
    print(line(("plain", *_counts(plain), "", "", "", _attempts(plain), ""), width), flush=True)
    every = True
    for name, on_disk in (("runtime", False), ("runtime, on disk", True)):
        # The disk costs real time and changes nothing of what is decided, so three have to do.
        reports = [_spent(day, seed, on_disk=on_disk) for seed in (seeds[:3] if on_disk else seeds)]
        opened = [report.opened_s for report in reports]
        cells = (
            *_counts(reports),
            cell(opened),
            cell(report.closed_s for report in reports),
            cell((100 * report.told_share for report in reports), least=True),
            _attempts(reports),
        )
        holds = on_disk or _median(opened) <= OPENED_S_MAX
        holds &= not any(
            report.doubled or report.statuses["failed"] or report.closed_s > CLOSED_S_MAX
            for report in reports
        )
        every &= holds
        print(line((name, *cells, met(holds=holds)), width), flush=True)
    print(
        f"targets: open <= {OPENED_S_MAX:g} s in the median of ten; closed <= {CLOSED_S_MAX:g} s, "
        "doubled and failed 0, each seed"
    )
    return every


def _spent(day: Day, seed: int, *, on_disk: bool) -> Report:
    if not on_disk:
        return spend(day, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        return spend(day, seed=seed, path=Path(folder) / "journal.db")


def _counts(reports: Sequence[Report]) -> tuple[str, ...]:
    still = [sum(bool(o.in_doubt) for o in report.later.values()) for report in reports]
    return (
        cell(len(report.turns) for report in reports),
        *(cell(report.statuses[status] for report in reports) for status in ("degraded", "failed")),
        cell(len(report.doubled) for report in reports),
        cell(report.statuses["in_doubt"] for report in reports),
        cell(still),
    )


def _attempts(reports: Sequence[Report]) -> str:
    return cell(report.asked(ill=True) for report in reports)


def main() -> int:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.overload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--quick", action="store_true", help="two seeds, and less of each")
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error("--seeds must be at least 1")
    seeds = range(1, (2 if given.quick else given.seeds) + 1)
    print(f"{len(seeds)} seeds, virtual time; cells: median, worst\n")
    holds = [
        overload(seeds),
        detector(seeds, 100_000 if given.quick else 1_000_000),
        vendor(seeds, replace(DAY, every_s=20.0) if given.quick else DAY),
    ]
    return int(not all(holds))


if __name__ == "__main__":
    sys.exit(main())

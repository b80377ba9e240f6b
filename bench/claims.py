"""What claims cost: `python -m bench.claims [--rounds 5] [--quick]`, in real time.

Each round measures each row once, every second round backwards; the table shows the median of
the rounds with the least and the most. `to a dict` is the same figure within the same round
over what inserting a key into a plain dict and deleting it takes: it says more than the
microseconds do on a machine that is busy or slow. Targets are those of the project's plan, and
a row without one shows what stands beside or behind a row with one.

- uncontended: ask and release, of claims on keys of three segments that nobody else wants.
- in a crowd: the same while two others wait for each other elsewhere.
- drain: so many tickets claim one key for writing, and each is released when its turn comes.
- lease: `Store.intent` on a new key until it is granted and committed (SQLite, no flush), then
  also until its outcome is; beside a plain frame until it is committed.
- checker: `audit` over a history without anomalies, of seven operations a turn; one turn after
  the other, or 64 side by side.

Exit codes: 0 all targets met, 1 one missed. A quick run's figures are not for quoting.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import undercroft as uc
from undercroft.layers.conflicts.audit import audit
from undercroft.layers.conflicts.history import GivenUp, Operation, Record
from undercroft.layers.conflicts.state import ClaimTable
from undercroft.layers.conflicts.tree import Pairs
from undercroft.model.lease import Granted
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import TurnHead
from undercroft.storage.sqlite import SqliteStore

HEAD = ("row", "median", "min - max", "", "to a dict", "target", "")
WIDTHS = (52, 8, 18, 3, 10, 9, 6)
HELD = 10_000
# Of the keys that are asked for; fewer than what the table remembers of paths.
KEYS = 512
STEPS = 7
TOGETHER = 64
CHECK_ROUNDS = 3
FRAME = b"x" * 200

Figures = dict[str, float]
Measure = Callable[[], Figures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table."""

    name: str
    unit: str
    at_most: float | None = None
    to_dict: bool = False


@dataclass(slots=True)
class Values:
    """What the rounds made of a row."""

    row: Row
    figures: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None without one."""
        if self.row.at_most is None:
            return None
        return statistics.median(self.figures) <= self.row.at_most

    def cells(self) -> tuple[str, ...]:
        """Return the line of the table."""
        row, figures = self.row, self.figures
        return (
            row.name,
            f"{statistics.median(figures):.3g}",
            f"{min(figures):.3g} - {max(figures):.3g}",
            row.unit,
            f"{statistics.median(self.ratios):.1f}x" if row.to_dict else "",
            "" if row.at_most is None else f"<= {row.at_most:g}",
            {True: "met", False: "MISSED", None: ""}[self.met],
        )


ROWS = {
    "dict": Row(name="insert and delete in a plain dict", unit="us"),
    "one": Row(name="uncontended, one claim", unit="us", at_most=5.0, to_dict=True),
    "four": Row(name="uncontended, four claims", unit="us", at_most=15.0, to_dict=True),
    "held": Row(name="uncontended, one claim, 10,000 held", unit="us", at_most=6.0, to_dict=True),
    "crowd": Row(name="in a crowd, one claim", unit="us", to_dict=True),
    "crowd held": Row(name="in a crowd, one claim, 10,000 held", unit="us", to_dict=True),
    "mixed": Row(name="10,000 held, one in 300 conflicts: mean", unit="us", to_dict=True),
    "mixed worst": Row(name="10,000 held, one in 300 conflicts: slowest", unit="ms"),
    "narrow": Row(name="ask, narrow and release, 10,000 held", unit="us", to_dict=True),
    "block": Row(name="a block of uc.Claims, one key made of a value", unit="us", to_dict=True),
    "drain": Row(name="drain of 1,000 waiters on one key, a waiter", unit="us", to_dict=True),
    "linear": Row(name="drain of 4,000 to 1,000, a waiter (linear is 1)", unit="x", at_most=1.25),
    "gaps": Row(name="the same after every second gave up", unit="x", at_most=1.25),
    "lease p50": Row(name="lease granted, committed: p50", unit="ms", at_most=0.2),
    "lease p99": Row(name="lease granted, committed: p99", unit="ms"),
    "both p50": Row(name="lease and outcome, committed: p50", unit="ms"),
    "both p99": Row(name="lease and outcome, committed: p99", unit="ms"),
    "append p50": Row(name="plain frame, committed: p50", unit="ms"),
    "append p99": Row(name="plain frame, committed: p99", unit="ms"),
    "lease to append": Row(name="lease to plain frame, p50", unit="x"),
    "serial": Row(name="checker, 1 M operations, turn after turn", unit="s", at_most=15.0),
    "interleaved": Row(name="checker, 1 M operations, 64 turns together", unit="s", at_most=15.0),
}


# ------------------------------------------------------------------ the claim table


def asked(count: int) -> list[Pairs]:
    """Return what is asked for by turns: so many claims each."""
    modes = ("write", "read", "append", "read")
    return [
        tuple((modes[at], f"crm{at}/{number}/notes") for at in range(count))
        for number in range(KEYS)
    ]


def table_with(count: int) -> ClaimTable:
    """Return a table in which so many claims are held that are in nobody's way."""
    table = ClaimTable()
    for number in range(count):
        table.ask((("write", f"crm0/held-{number}/notes"),))
    return table


def crowded(table: ClaimTable) -> ClaimTable:
    """Let somebody wait in it, in nobody else's way."""
    table.ask((("write", "other"),))
    table.ask((("write", "other"),))
    return table


def ask_and_release(table: ClaimTable, claims: Sequence[Pairs], count: int) -> float:
    """Return the microseconds that asking and releasing take."""
    ask, release = table.ask, table.release
    for pairs in claims:
        release(ask(pairs))
    began = time.perf_counter()
    for _ in range(count // len(claims)):
        for pairs in claims:
            release(ask(pairs))
    return (time.perf_counter() - began) / (count // len(claims) * len(claims)) * 1e6


def plain(count: int) -> Figures:
    """Insert keys into a dict and delete them."""
    keys = [pairs[0][1] for pairs in asked(1)]
    table: dict[str, object] = {}
    began = time.perf_counter()
    for _ in range(count // KEYS):
        for key in keys:
            table[key] = None
            del table[key]
    return {"dict": (time.perf_counter() - began) / (count // KEYS * KEYS) * 1e6}


def narrowing(count: int) -> float:
    """Ask for what is not known yet, narrow and release, beside many that hold."""
    table = table_with(HELD)
    began = time.perf_counter()
    for number in range(count):
        claim = "write", f"crm1/{number % KEYS}"
        ticket = table.ask((claim,))
        table.narrow(ticket, claim, f"crm1/{number % KEYS}/notes")
        table.release(ticket)
    return (time.perf_counter() - began) / count * 1e6


def mixed(count: int) -> Figures:
    """Ask and release beside many that hold, where one in 300 has to wait for a moment."""
    table, claims = table_with(HELD), asked(1)
    took: list[float] = []
    for number in range(count):
        began = time.perf_counter()
        if number % 300 == 0:
            first, second = table.ask(claims[0]), table.ask(claims[0])
            table.release(first)
            table.release(second)
        else:
            table.release(table.ask(claims[number % KEYS]))
        took.append(time.perf_counter() - began)
    return {"mixed": statistics.fmean(took) * 1e6, "mixed worst": max(took) * 1e3}


def drained(size: int, *, gaps: bool = False) -> float:
    """Return the microseconds that each of so many waiters on one key takes to go."""
    table = ClaimTable()
    tickets = [table.ask((("write", "crm/7"),)) for _ in range(size)]
    if gaps:
        for ticket in tickets[1::2]:
            table.release(ticket)
        tickets = tickets[::2]
    gc.collect()
    began = time.perf_counter()
    for ticket in tickets:
        table.release(ticket)
    took = time.perf_counter() - began
    if len(table):
        raise RuntimeError(table)
    return took / len(tickets) * 1e6


def drains() -> Figures:
    """Drain queues of both lengths, several times: each is short."""

    def median(size: int, count: int, *, gaps: bool = False) -> float:
        return statistics.median(drained(size, gaps=gaps) for _ in range(count))

    short = median(1_000, 8)
    return {
        "drain": short,
        "linear": median(4_000, 2) / short,
        "gaps": median(4_000, 1, gaps=True) / median(1_000, 2, gaps=True),
    }


def block(count: int) -> Figures:
    """Enter and leave a block of `uc.Claims`."""

    async def main() -> float:
        claims = uc.Claims()
        began = time.perf_counter()
        for number in range(count):
            async with claims.hold(writes="crm/{account}/notes", account=number % KEYS):
                pass
        return (time.perf_counter() - began) / count * 1e6

    return {"block": asyncio.run(main())}


# ------------------------------------------------------------------ the store


async def leases(path: Path, count: int) -> Figures:
    """Own new resources and append plain frames by turns; each turn owns seven, then ends."""
    store = SqliteStore(path, sync="never")
    await store.open()
    lease, both, append = list[float](), list[float](), list[float]()
    now = time.perf_counter
    for turn in range(count // STEPS):
        head = TurnHead(f"t-{turn:08}", "handler", "bench:x", None, TurnStatus.RUNNING, 1.0)
        num = store.begin(head)
        for step in range(STEPS):
            wants = (("write", f"crm/{(turn * STEPS + step) % HELD}/notes"),)
            began = now()
            answer = await store.intent(num, FRAME, wants)
            granted = now()
            store.append(num, FRAME, outcomes=[(wants, True)])
            await committed(store)
            ended = now()
            store.append(num, FRAME)
            await committed(store)
            append.append(now() - ended)
            lease.append(granted - began)
            both.append(ended - began)
            if not isinstance(answer, Granted):
                raise TypeError(answer)
        store.mark(num, TurnStatus.DONE, 2.0)
        await committed(store)
    await store.close()
    figures: Figures = {}
    for name, took in (("lease", lease), ("both", both), ("append", append)):
        cuts = statistics.quantiles(took, n=100)
        figures |= {f"{name} p50": cuts[49] * 1e3, f"{name} p99": cuts[98] * 1e3}
    return figures | {"lease to append": figures["lease p50"] / figures["append p50"]}


async def committed(store: SqliteStore) -> None:
    """Wait until what is queued is committed."""
    waiter = store.durable()
    if waiter is not None:
        await waiter


# ------------------------------------------------------------------ the checker


def turn_of(number: int, place: int, apart: int) -> Iterator[Operation]:
    """Yield the operations of a turn: it reads three accounts and writes to each of them.

    Its times begin at `place` and lie `apart` from each other, so that others fit between.
    """
    turn = f"t-{number:07}"
    # Accounts of their own for turns that are under way together.
    accounts = [f"crm/{number % 4_096}/{at}" for at in range(3)]
    work = [(mode, key) for key in accounts for mode in ("read", "write")]
    for n, (mode, key) in enumerate([*work, ("peek", "crm")], start=1):
        at = place + 2 * (n - 1) * apart
        version = f"v{number}" if mode == "read" else ""
        yield Operation(turn, n, "step", mode, key, at, at + apart, version=version, source="crm")


def history(operations: int, together: int) -> list[Record]:
    """Return a history without anomalies in which so many turns are under way at a time."""
    records: list[Record] = []
    place = 0
    for first in range(0, operations // STEPS, together):
        numbers = range(first, min(first + together, operations // STEPS))
        several = [turn_of(number, place + at, together) for at, number in enumerate(numbers)]
        for row in zip(*several, strict=True):
            records += row
        place += 2 * STEPS * together
        records += [GivenUp(f"t-{number:07}", place) for number in numbers]
        place += 1
    return records


def checked(operations: int, together: int) -> float:
    """Return the seconds that the checker takes for a history, made before."""
    records = history(operations, together)
    gc.collect()
    began = time.perf_counter()
    found = audit(records)
    took = time.perf_counter() - began
    if found:
        raise RuntimeError(found[0])
    return took


# ------------------------------------------------------------------ rounds


def measures(folder: Path, *, quick: bool) -> tuple[list[Measure], list[Measure]]:
    """Return what each round measures, and what only the first few do."""
    part = 10 if quick else 1
    count, operations = 40_960 // part, 1_000_000 // part
    one, four = asked(1), asked(4)

    def lease() -> Figures:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            return asyncio.run(leases(Path(name) / "bench.db", 3_500 // part))

    short: list[Measure] = [
        lambda: plain(10 * count),
        lambda: {"one": ask_and_release(ClaimTable(), one, count)},
        lambda: {"four": ask_and_release(ClaimTable(), four, count // 4)},
        lambda: {"held": ask_and_release(table_with(HELD), one, count)},
        lambda: {"crowd": ask_and_release(crowded(ClaimTable()), one, count)},
        lambda: {"crowd held": ask_and_release(crowded(table_with(HELD)), one, count)},
        lambda: mixed(6_000),
        lambda: {"narrow": narrowing(2_000 // part)},
        lambda: block(count // 2),
        drains,
        lease,
    ]
    long: list[Measure] = [
        lambda: {"serial": checked(operations, 1)},
        lambda: {"interleaved": checked(operations, TOGETHER)},
    ]
    return short, long


def measured(given: argparse.Namespace, folder: Path) -> dict[str, Values]:
    """Measure round by round; return what came of each row."""
    values = {name: Values(row) for name, row in ROWS.items()}
    short, long = measures(folder, quick=given.quick)
    for number in range(given.rounds):
        todo = short + (long if number < CHECK_ROUNDS else [])
        figures: Figures = {}
        for measure in todo if number % 2 == 0 else todo[::-1]:
            gc.collect()
            figures |= measure()
        for name, figure in figures.items():
            values[name].figures.append(figure)
            if ROWS[name].to_dict:
                values[name].ratios.append(figure / figures["dict"])
        print(f"  round {number + 1} of {given.rounds} done", file=sys.stderr, flush=True)
    return values


def line(cells: Sequence[str]) -> str:
    """Lay out one line: names, units and verdicts to the left, numbers to the right."""
    return " ".join(
        cell.ljust(width) if at in (0, 3, 6) else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
    ).rstrip()


def main() -> int:
    """Measure everything; print a line for each row."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.claims",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--scratch", type=Path, help="a folder on the disk to measure")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        values = measured(given, Path(folder))
    if given.quick:
        print("quick: a tenth of the work, the checker's histories included; not for quoting")
    print(line(HEAD))
    for one in values.values():
        print(line(one.cells()))
    return int(any(one.met is False for one in values.values()))


if __name__ == "__main__":
    sys.exit(main())

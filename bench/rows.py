"""What is measured and what it must come to: each suite's cases, and the rows made of them.

A ratio is taken between two cases of the same round, so that what the machine does besides
hits both. A row without a target stands beside one that has it, so that the figure can be read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Sync: TypeAlias = Literal["never", "writes"]

PROCESS = "process"
POWER = "power (effects)"
DISK_1_MS = "power (effects), 1 ms flush"
SAVING = {"never": PROCESS, "writes": POWER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One process: which subject, which measure, how much of it.

    Attributes:
        flush_us: Microseconds that a flush takes under the shim; None: the real disk.
    """

    subject: Literal["floor", "house"]
    measure: str
    sync: Sync = "never"
    turns: int
    in_flight: int = 1
    steps: int = 0
    flush_us: int | None = None

    @property
    def label(self) -> str:
        """Name the case within its suite."""
        parts = [self.subject, self.measure, f"sync={self.sync}", f"in_flight={self.in_flight}"]
        return " ".join(parts + ([f"steps={self.steps}"] if self.steps else []))

    def arguments(self) -> list[str]:
        """Return what `bench.child` is started with."""
        named = {
            "--sync": self.sync,
            "--turns": self.turns,
            "--in-flight": self.in_flight,
            "--steps": self.steps,
        }
        return [self.subject, self.measure, *(str(word) for pair in named.items() for word in pair)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        of: The case whose number it is.
        field: Which of its numbers.
        to: What it is divided by: a case of the same round, or a number.
        at_most: The target; None: shown without one.
        worst: The target holds for every round, not for the median.
    """

    name: str
    of: Case
    field: str = "us_step"
    to: Case | float = 1.0
    at_most: float | None = None
    unit: str = "x"
    durability: str = PROCESS
    worst: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Cases that are interleaved with each other.

    Attributes:
        rounds_max: A cap on the rounds, for what takes minutes.
    """

    cases: tuple[Case, ...]
    rows: tuple[Row, ...]
    rounds_max: int | None = None


def _chain(in_flight: int, turns: int, at_most: float) -> Suite:
    floor = Case(subject="floor", measure="chain", turns=turns, in_flight=in_flight)
    house = replace(floor, subject="house")
    floor_synced, house_synced = replace(floor, sync="writes"), replace(house, sync="writes")
    name = f"chain, {in_flight} in flight"
    return Suite(
        cases=(floor, house, house_synced, floor_synced),
        rows=(
            Row(name=f"{name} / floor", of=house, to=floor, at_most=at_most),
            Row(name=f"{name} / floor, CPU time", of=house, field="cpu_us_step", to=floor),
            Row(name=f"{name}, default sync / floor", of=house_synced, to=floor, durability=POWER),
            Row(
                name=f"{name}, default sync / synced floor",
                of=house_synced,
                to=floor_synced,
                durability=POWER,
            ),
            Row(name=f"{name}: floor", of=floor, unit="us a step"),
            Row(name=f"{name}: Undercroft", of=house, unit="us a step"),
        ),
    )


def _fan(turns: int) -> Suite:
    floor = Case(subject="floor", measure="fan", turns=turns)
    house = replace(floor, subject="house")
    return Suite(
        cases=(floor, house),
        rows=(
            Row(
                name="50 reads of 10 ms / 10 ms", of=house, field="turn_p50_ms", to=10.0,
                at_most=1.25,
            ),
            Row(name="50 reads of 10 ms / 10 ms: floor", of=floor, field="turn_p50_ms", to=10.0),
        ),
    )  # fmt: skip


def _growth(long: int, short: int) -> Suite:
    cases: list[Case] = []
    rows: list[Row] = []
    for subject, measure, name in (
        ("house", "loop", "handler"),
        ("house", "graph", "workflow"),
        ("floor", "loop", "floor"),
    ):
        one = Case(subject=subject, measure=measure, turns=1, steps=long)  # type: ignore[arg-type]
        many = replace(one, turns=long // short, steps=short)
        some = replace(one, turns=10, steps=long // 10)
        held = subject == "house"
        cases += [many, some, one]
        rows += [
            Row(
                name=f"{name}: a step in {long:,} / in {short}",
                of=one, to=many, at_most=1.3 if held else None,
            ),
            Row(name=f"{name}: a step in {long:,} / in {long // 10}", of=one, to=some),
            Row(
                name=f"{name}: disk a step",
                of=one, field="disk_bytes_step", unit="B", at_most=1400 if held else None,
            ),
        ]  # fmt: skip
    return Suite(cases=tuple(cases), rows=tuple(rows))


def _memory(turns: int) -> Suite:
    floor = Case(subject="floor", measure="memory", turns=turns, in_flight=64)
    house = replace(floor, subject="house")

    def rows(case: Case, name: str, *, held: bool) -> tuple[Row, ...]:
        shown = (
            ("memory grown after the first tenth", "rss_growth_mb", "MB", 8.0),
            ("largest write-ahead log", "wal_mb", "MB", 64.0),
            ("disk a step", "disk_bytes_step", "B", 1400.0),
        )
        return tuple(
            Row(name=f"{turns:,} turns: {what}{name}", of=case, field=field, unit=unit,
                at_most=most if held else None)
            for what, field, unit, most in shown
        )  # fmt: skip

    return Suite(
        cases=(floor, house),
        rows=(*rows(house, "", held=True), *rows(floor, ": floor", held=False)),
        rounds_max=1,
    )


def _flush(alone: int, beside: int) -> Suite:
    floor_1 = Case(subject="floor", measure="watched", sync="writes", turns=alone, flush_us=1000)
    floor_64 = replace(floor_1, turns=beside, in_flight=64)
    house_1, house_64 = replace(floor_1, subject="house"), replace(floor_64, subject="house")
    paced = replace(floor_64, measure="paced", turns=beside // 8)
    paced_house = replace(paced, subject="house")

    def row(name: str, case: Case, field: str, unit: str, most: float | None = None) -> Row:
        return Row(name=name, of=case, field=field, unit=unit, at_most=most, durability=DISK_1_MS)

    return Suite(
        cases=(floor_1, house_1, floor_64, house_64, paced, paced_house),
        rows=(
            row("flushes, 1 in flight", house_1, "flushes_turn", "a turn", 3.1),
            row("flushes, 1 in flight: floor", floor_1, "flushes_turn", "a turn"),
            row("flushes, 64 in flight", house_64, "flushes_step", "a step", 0.03),
            row("flushes, 64 in flight: floor", floor_64, "flushes_step", "a step"),
            row("loop lag p99, 64 in flight", house_64, "lag_p99_ms", "ms", 5.0),
            row("loop lag p99, 64 in flight: floor", floor_64, "lag_p99_ms", "ms"),
            row("loop lag p99, 64 in flight, 10 ms steps", paced_house, "lag_p99_ms", "ms"),
            row("loop lag p99, 64 in flight, 10 ms steps: floor", paced, "lag_p99_ms", "ms"),
            Row(name="flushed chain, 1 in flight / synced floor", of=house_1, to=floor_1,
                durability=DISK_1_MS),
            Row(name="flushed chain, 64 in flight / synced floor", of=house_64, to=floor_64,
                durability=DISK_1_MS),
        ),
    )  # fmt: skip


def _kill(turns: int, in_flight: int) -> Suite:
    floor = Case(subject="floor", measure="doomed", turns=turns, in_flight=in_flight)
    house = replace(floor, subject="house")
    cases = (floor, house, replace(house, sync="writes"))

    def rows(case: Case, name: str) -> tuple[Row, ...]:
        held = case.subject == "house"
        shown = (
            ("turns missing", "missing", 0.0),
            ("turns that could not be resumed", "not_resumed", 0.0),
            ("steps repeated", "repeated", float(in_flight)),
            ("effects repeated", "effects_repeated", 0.0),
            ("turns left in doubt", "in_doubt", None),
        )
        return tuple(
            Row(name=f"kill -9: {what}{name}", of=case, field=field, unit="",
                at_most=most if held else None, worst=True, durability=SAVING[case.sync])
            for what, field, most in shown
        )  # fmt: skip

    return Suite(
        cases=cases,
        rows=(
            Row(name="kill -9: resume / floor", of=house, field="open_to_end_s", to=floor,
                at_most=1.5),
            Row(name="kill -9: resume / floor, default sync", of=cases[2], field="open_to_end_s",
                to=floor, durability=POWER),
            *rows(house, ""),
            *rows(cases[2], ", default sync"),
            *rows(floor, ": floor"),
        ),
    )  # fmt: skip


def suites(*, quick: bool) -> dict[str, Suite]:
    """Return every suite by name; `quick` runs a fifth of it, to see that all works."""
    part = 5 if quick else 1
    return {
        "chain1": _chain(1, 2000 // part, 1.5),
        "chain64": _chain(64, 2000 // part, 1.7),
        "chain256": _chain(256, 5000 // part, 1.7),
        "fan": _fan(40 // part),
        "growth": _growth(5000 // part, 10),
        "memory": _memory(100_000 // part),
        "flush": _flush(300 // part, 8000 // part),
        "kill": _kill(1000 // part, 64),
    }

"""Part `real`: recorded runs with rewards, and how many of the failed and the passed have findings.

Rules are developed on one half of the tasks, by a hash of the task's name, and both halves are
shown, so that rules which fit one half only are seen.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from bench.doctor.diagnosed import Said, diagnose
from bench.doctor.runs import labels, lines
from bench.doctor.tables import met, share, table, title

FOLDERS = ("tau_airline", "tau_retail")
EXTRA = "agentrx_tau_retail"
FAILED_MIN, RIGHT_MIN, PASSED_MAX = 0.30, 0.70, 0.05


@dataclass(frozen=True, slots=True)
class Rated:
    """A recorded run, what became of it, and what the doctor says."""

    trace_id: str
    folder: str
    half: str
    passed: bool
    said: Said


def half_of(group: str) -> str:
    """Return which half of the tasks a task belongs to."""
    return "first half" if hashlib.sha256(group.encode()).digest()[0] % 2 else "second half"


def rated(folders: tuple[str, ...] = FOLDERS) -> Iterator[Rated]:
    """Yield every recorded run with what is said of it."""
    for folder in folders:
        known = labels(folder)
        for document in lines(folder, "traces"):
            label = known[document["trace_id"]]
            yield Rated(
                trace_id=document["trace_id"],
                folder=folder,
                half=half_of(document["group_id"]),
                passed=float(label.get("reward") or 0.0) == 1.0,
                said=diagnose(document, "openai"),
            )


def _row(name: str, each: list[Rated]) -> tuple[object, ...]:
    failed = [one for one in each if not one.passed]
    passed = [one for one in each if one.passed]
    hits = sum(bool(one.said.missing) for one in failed)
    alarms = sum(bool(one.said.missing) for one in passed)
    return (
        name,
        f"{hits}/{len(failed)}",
        share(hits, len(failed)),
        share(hits, hits + alarms),
        f"{alarms}/{len(passed)}",
        share(alarms, len(passed)),
    )


def report(each: list[Rated]) -> tuple[str, bool]:
    """Return the tables, and whether the targets are met."""
    groups = {"all": each}
    for one in each:
        groups.setdefault(one.folder, []).append(one)
        groups.setdefault(one.half, []).append(one)
    heads = ("runs", "failed with", "share", "P(fail|f)", "passed with", "share")
    lines_ = [title("Real failures: runs with findings")]
    lines_.append(table(heads, [_row(name, those) for name, those in groups.items()]))
    failed = [one for one in each if not one.passed]
    passed = [one for one in each if one.passed]
    hits = sum(bool(one.said.missing) for one in failed)
    alarms = sum(bool(one.said.missing) for one in passed)
    found, right = hits / max(1, len(failed)), hits / max(1, hits + alarms)
    false = alarms / max(1, len(passed))
    lines_.append(
        f"targets: failed >= {FAILED_MIN} ({met(found, FAILED_MIN)}), P(fail|finding) >= "
        f"{RIGHT_MIN} ({met(right, RIGHT_MIN)}), passed <= {PASSED_MAX} "
        f"({met(false, PASSED_MAX, least=False)})"
    )
    fired: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for one in each:
        fired.update(one.said.rules)
        if one.passed:
            wrong.update(one.said.rules)
    rows = [
        (rule, n, n - wrong[rule], wrong[rule], share(n - wrong[rule], n))
        for rule, n in sorted(fired.items(), key=lambda item: (-item[1], item[0]))
    ]
    lines_ += ["", table(("rule", "fired", "failed", "passed", "P(fail)"), rows)]
    good = found >= FAILED_MIN and right >= RIGHT_MIN and false <= PASSED_MAX
    return "\n".join(lines_), good


def extra() -> str:
    """Return what is said of the failed runs that are no part of the figures above."""
    rows = []
    for one in lines(EXTRA, "traces"):
        said = diagnose(one, "openai")
        rows.append((one["trace_id"], said.cause, ", ".join(sorted(said.rules))))
    heads = ("failed runs of another collection", "cause", "rules")
    return "\n" + table(heads, rows)

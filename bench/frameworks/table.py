"""The table "before / after": what each program did without Undercroft, and with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

Report: TypeAlias = Mapping[str, Any]
"""What `bench.frameworks.running.run` returns."""

NOTHING = "-"


def _siblings(told: Report) -> str:
    modes = {"": told} if "order" in told else told
    cells = []
    for mode, one in modes.items():
        early = list(one["order"][: one["order"].index("yes")])
        ran = ", ".join(early) if early else "nothing"
        cells.append(f"{mode + ': ' if mode else ''}{ran} before the yes, {one['balance']} left")
    return "; ".join(cells)


def _twice(told: Report) -> str:
    return f"{_times(told['one_by_one']['paid'])}; at once {_times(told['at_once']['paid'])}"


def _times(count: int) -> str:
    return "paid once" if count == 1 else f"paid {count} times"


ROWS: tuple[tuple[str, str, str, Callable[[Report], str]], ...] = (
    (
        "two_withdrawals",
        "30 and 50 from 100, in one batch",
        "20 left",
        lambda told: f"{told['balance']} left",
    ),
    (
        "approval_with_siblings",
        "a batch: 50 paid after a yes, then 10 % on the same account, and a note",
        "the note before the yes, 55 left",
        _siblings,
    ),
    ("approval_answered_twice", "a saved approval, answered twice", "paid once", _twice),
    (
        "effect_before_a_crash",
        "killed after a payment, then resumed",
        "paid once, or not known and said so",
        lambda told: _times(told["paid"]),
    ),
    (
        "fails_for_ever",
        "a tool that fails the same way for ever",
        "a few calls",
        lambda told: (
            f"{told['calls']} calls, then {told['stopped'] or 'the end of the measurement'}"
        ),
    ),
)


def rendered(before: Sequence[Report], after: Sequence[Report]) -> str:
    """Return the table in Markdown.

    Args:
        before: A report for each framework, without Undercroft.
        after: Those with it; a framework that has none gets a dash.
    """
    with_it = {report["framework"]: report for report in after}
    head = ["program", "right"]
    for report in before:
        name = f"{report['framework']} {next(iter(report['versions'].values()))}"
        head += [f"{name}, before", "after"]
    lines = [head, ["---"] * len(head)]
    for program, asked, right, cell in ROWS:
        line = [asked, right]
        for report in before:
            told = (report, with_it.get(report["framework"], {}))
            line += [_cell(one, program, cell) for one in told]
        lines.append(line)
    changed = ["lines that a user changes", "at most 5"]
    for report in before:
        guarded = with_it.get(report["framework"])
        changed += [NOTHING, str(guarded["lines"]) if guarded else NOTHING]
    table = "\n".join("| " + " | ".join(line) + " |" for line in [*lines, changed])
    return f"{table}\n\n{_versions(before)}\n"


def _cell(report: Report, program: str, cell: Callable[[Report], str]) -> str:
    told = report.get("programs", {}).get(program)
    return NOTHING if told is None else cell(told)


def _versions(reports: Sequence[Report]) -> str:
    pythons = sorted({report["python"] for report in reports})
    held = [f"{name} {version}" for one in reports for name, version in one["versions"].items()]
    return f"Python {', '.join(pythons)}; {', '.join(dict.fromkeys(held))}."

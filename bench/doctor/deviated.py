"""Part `deviation`: the first step that went wrong, on logs in which people marked it.

Who&When counts steps from 0; AgentRx counts them from 1, and marks one root and other failures.
The signs were chosen with all of these logs in sight (there are 57), so the figures are in-sample;
how much chance there is in them, the interval says: 90 % of 2,000 draws of as many logs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.doctor.diagnosed import diagnose
from bench.doctor.runs import labels, lines
from bench.doctor.tables import share, table, title

FOLDER, ROOTS = "who_and_when", "agentrx_tau_retail"
# What the published logs that we do not have score by the trivial rules.
TRIVIAL = {"Algorithm-Generated": 0.267, "Hand-Crafted": 0.162}
DRAWS = 2_000
Guess = Callable[[Mapping[str, Any]], int | None]


@dataclass(frozen=True, slots=True)
class Marked:
    """A log with the step that was marked in it, and guesses at it by name."""

    trace_id: str
    subset: str
    steps: int
    marked: tuple[int, ...]
    guesses: Mapping[str, int | None]


def step_one(document: Mapping[str, Any]) -> int:
    """Guess the second message, always."""
    return min(1, len(document["messages"]) - 1)


def first_surfer(document: Mapping[str, Any]) -> int:
    """Guess the first message of the agent with the browser."""
    for n, message in enumerate(document["messages"]):
        if "WebSurfer" in (message.get("name") or message["role"]) and "(" not in message["role"]:
            return n
    return step_one(document)


def doctor(document: Mapping[str, Any]) -> int | None:
    """Return what the doctor says."""
    return diagnose(document).deviation


GUESSES: Mapping[str, Guess] = {
    "the doctor": doctor,
    "always step 1": step_one,
    "first WebSurfer turn": first_surfer,
}


def marked() -> list[Marked]:
    """Return every log with a mark."""
    known = labels(FOLDER)
    made = [
        Marked(
            one["trace_id"],
            one["subset"],
            len(one["messages"]),
            (int(known[one["trace_id"]]["mistake_step"]),),
            {name: guess(one) for name, guess in GUESSES.items()},
        )
        for one in lines(FOLDER, "traces")
    ]
    roots = labels(ROOTS)
    for one in lines(ROOTS, "traces"):
        label = roots[one["trace_id"]]
        steps = {f["failure_id"]: int(f["step_number"]) - 1 for f in label["failures"]}
        root = steps.get(label["root_cause"]["failure_id"])
        first = tuple(dict.fromkeys(([root] if root is not None else []) + list(steps.values())))
        made.append(
            Marked(
                one["trace_id"],
                "AgentRx, the root",
                len(one["messages"]),
                first[:1],
                {name: guess(one) for name, guess in GUESSES.items()},
            )
        )
        made.append(
            Marked(made[-1].trace_id, "AgentRx, any", made[-1].steps, first, made[-1].guesses)
        )
    return made


def _hits(each: list[Marked], name: str, near: int) -> int:
    return sum(
        any(guess is not None and abs(guess - step) <= near for step in one.marked)
        for one in each
        for guess in (one.guesses[name],)
    )


def _interval(each: list[Marked], name: str) -> str:
    chance = random.Random(name)  # noqa: S311  nothing is secret here
    hits = [_hits([one], name, 0) for one in each]
    means = sorted(sum(chance.choices(hits, k=len(hits))) / len(hits) for _ in range(DRAWS))
    return f"{means[DRAWS // 20]:.2f}-{means[-DRAWS // 20]:.2f}"


def report(each: list[Marked]) -> tuple[str, bool]:
    """Return the table, and whether the trivial rules are beaten."""
    groups: dict[str, list[Marked]] = {}
    for one in each:
        groups.setdefault(one.subset, []).append(one)
    rows: list[tuple[object, ...]] = []
    good = True
    for subset, those in groups.items():
        for name in GUESSES:
            hits = _hits(those, name, 0)
            rows.append(
                (
                    f"{subset}: {name}",
                    len(those),
                    share(hits, len(those)),
                    _interval(those, name),
                    share(_hits(those, name, 1), len(those)),
                )
            )
            if name == "the doctor" and subset in TRIVIAL:
                good &= hits / len(those) > TRIVIAL[subset]
        rows.append(
            (
                f"{subset}: at random",
                len(those),
                f"{sum(len(o.marked) / o.steps for o in those) / len(those):.2f}",
                "",
                "",
            )
        )
    heads = ("logs: guess", "n", "exact", "90 %", "within 1")
    lines_ = [title("First deviation (in-sample)"), table(heads, rows)]
    lines_.append("to beat, on the logs that are not here: step 1 .267, first WebSurfer turn .162")
    return "\n".join(lines_), good

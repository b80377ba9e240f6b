"""Part `abstention`: runs whose root cause, as people labelled it, no runtime layer could stop.

A layer could have stopped a root cause if its label speaks of what a layer guards against: being
cut off or a system's failure, an action repeated with nothing changed, something forgotten or lost
from the prompt, a record changed unread or twice, a call that failed and was told as done. What
is left is reasoning, plans, policies misread, requests that were unclear, wrong facts and bad
searches: a runtime runs them as well as right ones. So the rule reads the label's words only:

- AgentRx: the category of the root; `System Failure` is for a runtime, all others are not.
- Who&When: `STOPPABLE`, searched in the reason of the mistake.

Abstaining is a cause of "none", or of null where nothing could be judged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.doctor.diagnosed import diagnose
from bench.doctor.runs import labels, lines
from bench.doctor.tables import met, share, table, title

ABSTAINED_MIN = 0.90
STOPPABLE = re.compile(
    r"\brepeat|\bloop|again and again|\binterrupt|\bcrash|system (?:error|failure)|timed? ?out"
    r"|\bforgot|\bforget|\blost\b|\btruncat|\btwice\b|\bduplicate",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A failed run with what people say was wrong, and what the doctor says."""

    trace_id: str
    folder: str
    stoppable: bool
    cause: str | None
    rules: tuple[str, ...]


def labelled() -> list[Labelled]:
    """Return the runs with a labelled root cause."""
    made = []
    for folder in ("agentrx_tau_retail", "who_and_when"):
        known = labels(folder)
        for one in lines(folder, "traces"):
            label = known[one["trace_id"]]
            if folder == "who_and_when":
                stoppable = bool(STOPPABLE.search(label["mistake_reason"]))
            else:
                root = label["root_cause"]["failure_id"]
                kinds = {f["failure_id"]: f["failure_category"] for f in label["failures"]}
                stoppable = kinds.get(root) == "System Failure"
            said = diagnose(one)
            made.append(
                Labelled(one["trace_id"], folder, stoppable, said.cause, tuple(sorted(said.rules)))
            )
    return made


def report(each: list[Labelled]) -> tuple[str, bool]:
    """Return the table, and whether the doctor abstains often enough."""
    rows = []
    for folder in ("agentrx_tau_retail", "who_and_when"):
        for stoppable in (False, True):
            those = [o for o in each if o.folder == folder and o.stoppable == stoppable]
            quiet = sum(one.cause in {None, "none"} for one in those)
            kind = "a layer could have stopped it" if stoppable else "no layer could"
            rows.append((f"{folder}: {kind}", len(those), quiet, share(quiet, len(those))))
    those = [one for one in each if not one.stoppable]
    quiet = sum(one.cause in {None, "none"} for one in those)
    value = quiet / max(1, len(those))
    lines_ = [title("Abstention"), table(("root cause", "n", "abstained", "share"), rows)]
    lines_.append(
        f"target: of those that no layer could have stopped, >= {ABSTAINED_MIN}: "
        f"{share(quiet, len(those))} of {len(those)} ({met(value, ABSTAINED_MIN)})"
    )
    lines_ += [
        f"  {one.trace_id}: {one.cause}, by {', '.join(one.rules)}"
        for one in those
        if one.cause not in {None, "none"}
    ]
    return "\n".join(lines_), value >= ABSTAINED_MIN

"""What the doctor says of one run, as a value: all that a report, a page or a program shows.

Keeps: everything quoted is as the record has it; making it harmless is for whoever shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from undercroft.doctor.problems import Problem
from undercroft.model.case import Case, Facet, Flaw
from undercroft.model.symptom import Rule, Sign

# In the order in which reports name them.
LAYERS = ("sequencing", "parallelism", "conflicts", "breakers", "context", "observability")

# A cause that is no layer: something could be judged, and every layer that was needed was there.
NONE = "none"


class Verdict(StrEnum):
    """What is said of one layer.

    `MISSING`: something happened that it would have stopped. `GUARD_FIRED`: a guard of its kind
    was there and acted. `NOT_EXERCISED`: it was looked for, and nothing called for it.
    `NOT_OBSERVABLE`: the record cannot show it, whether it was there or not.
    """

    MISSING = "missing"
    GUARD_FIRED = "guard_fired"
    NOT_EXERCISED = "not_exercised"
    NOT_OBSERVABLE = "not_observable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A symptom, with what is known of its rule.

    Attributes:
        rule: What the layer looked for.
        steps: Where it shows, the step that violates the rule first.
        quote: What is there.
        precision: How often the rule was right where that was measured; None where not.
        measured_on: On how many firings.
    """

    rule: Rule
    steps: tuple[int, ...]
    quote: str
    sign: Sign
    precision: float | None = None
    measured_on: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """What is said of one layer.

    Attributes:
        findings: What the verdict rests on; empty for the two verdicts that say nothing was seen.
        held: Where it is missing, what guards of its kind held back all the same.
        hints: Worth knowing, and never the cause.
        unseen: Rules that the record cannot show to be kept or broken.
    """

    layer: str
    verdict: Verdict
    findings: tuple[Evidence, ...] = ()
    held: tuple[Evidence, ...] = ()
    hints: tuple[Evidence, ...] = ()
    unseen: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is said of one run.

    Attributes:
        trace: The record's own name of the run; or its file and place.
        format: Name of the format it was read as.
        guess: How that was found out, in words; empty where it needs none.
        steps: How many messages or spans the record has.
        layers: All six, in the order of `LAYERS`.
        first_deviation: The earliest step at which the run left the good path, or None.
        cause: The missing layer from which the others follow; `none` where no layer was missing;
            None where nothing could be judged.
        names: Of the steps that are named above: what each is, for people.
        flaws: What is wrong with the record itself.
        shows: What the record shows.
        place: The file that it came from.
    """

    trace: str
    format: str
    steps: int
    layers: tuple[LayerReport, ...]
    first_deviation: int | None = None
    cause: str | None = None
    names: Mapping[int, str]
    flaws: tuple[Flaw, ...] = ()
    shows: frozenset[Facet] = frozenset()
    place: str = ""
    guess: str = ""

    @property
    def name(self) -> str:
        """What people call the run: the file where it is all that is in it, else its own name."""
        whole = self.place.endswith(self.trace)
        return (self.place if whole else self.trace) or "a run without a name"

    @property
    def missing(self) -> tuple[LayerReport, ...]:
        """The layers that were missing."""
        return tuple(one for one in self.layers if one.verdict is Verdict.MISSING)

    def layer(self, name: str) -> LayerReport:
        """Return what is said of a layer."""
        return self.layers[LAYERS.index(name)]


def contract(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as the `--json` of the command promises it; more keys come after."""
    return {
        "format": diagnosis.format,
        "steps": diagnosis.steps,
        "layers": {one.layer: _layer(one) for one in diagnosis.layers},
        "first_deviation": diagnosis.first_deviation,
        "cause": diagnosis.cause,
        "trace": diagnosis.trace,
        "file": diagnosis.place,
        "shows": sorted(diagnosis.shows),
        "problems": [
            {"kind": flaw.kind, "steps": list(flaw.steps), "evidence": flaw.quote}
            for flaw in diagnosis.flaws
        ],
    }


def contract_unread(problems: Sequence[Problem]) -> dict[str, Any]:
    """Return what `--json` says where nothing could be read: the same keys, and no cause."""
    nothing = LayerReport(layer="", verdict=Verdict.NOT_OBSERVABLE)
    return {
        "format": "unknown",
        "steps": 0,
        "layers": {layer: _layer(nothing) for layer in LAYERS},
        "first_deviation": None,
        "cause": None,
        "trace": problems[0].place if problems else "",
        "problems": [
            {"kind": "unreadable", "steps": [], "evidence": f"{one.place}: {one.problem}"}
            for one in problems
        ],
    }


def _layer(report: LayerReport) -> dict[str, Any]:
    return {
        "verdict": report.verdict.value,
        "findings": [_finding(one) for one in report.findings],
        "held": [_finding(one) for one in report.held],
        "hints": [_finding(one) for one in report.hints],
        "unseen": [rule.name for rule in report.unseen],
    }


def _finding(one: Evidence) -> dict[str, Any]:
    return {
        "rule": one.rule.name,
        "steps": list(one.steps),
        "evidence": one.quote,
        "precision": one.precision,
        "measured_on": one.measured_on,
        "says": one.rule.says,
        "would": one.rule.would,
    }


def named(case: Case, steps: frozenset[int]) -> dict[int, str]:
    """Return what each of some steps is, for people: the call, or who speaks."""
    calls: dict[int, list[str]] = {}
    for call in case.calls:
        if call.step in steps:
            # A message may propose several calls: all of them are that step.
            calls.setdefault(call.step, []).append(call.name)
    found = {step: ", ".join(dict.fromkeys(names)) for step, names in calls.items()}
    for call in case.calls:
        if call.ended is not None and call.ended in steps:
            found.setdefault(call.ended, f"result of {call.name}")
    for ask in case.asks:
        if ask.step in steps:
            found.setdefault(ask.step, f"model {ask.model}".strip())
    for text in case.texts:
        if text.step in steps:
            found.setdefault(text.step, text.actor or text.role)
    return found

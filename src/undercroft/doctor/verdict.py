"""From what six layers see in a run to what is said of it: verdicts, the cause, the deviation.

Keeps: only symptoms of what was missing make a layer missing, and only a missing layer can be the
cause. Hints and guards that acted never are, and what a record cannot show is never absent.
Leaves to the layers what a symptom is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from undercroft.doctor.deviation import first_deviation
from undercroft.doctor.measured import MEASURED, precision_of
from undercroft.doctor.report import (
    LAYERS,
    NONE,
    Diagnosis,
    Evidence,
    LayerReport,
    Verdict,
    named,
)
from undercroft.layers.breakers import symptoms as breakers
from undercroft.layers.conflicts import symptoms as conflicts
from undercroft.layers.context import symptoms as context
from undercroft.layers.observability import symptoms as observability
from undercroft.layers.parallelism import symptoms as parallelism
from undercroft.layers.sequencing import symptoms as sequencing
from undercroft.model.case import Case
from undercroft.model.symptom import Looked, Rule, Sign, Symptom

# What a layer looks for, by layer, in the order of reports.
RULES: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "sequencing": sequencing.RULES,
        "parallelism": parallelism.RULES,
        "conflicts": conflicts.RULES,
        "breakers": breakers.RULES,
        "context": context.RULES,
        "observability": observability.RULES,
    }
)
_BY_NAME = {rule.name: rule for rules in RULES.values() for rule in rules}


def examine(case: Case, *, place: str = "", guess: str = "") -> Diagnosis:
    """Return what is said of a run.

    Args:
        case: The run, with the effects of its calls worked out.
        place: The file that it came from.
        guess: How its format was found out, in words.
    """
    looked = {
        "sequencing": sequencing.look(case),
        "parallelism": parallelism.look(case),
        "conflicts": conflicts.look(case),
        "breakers": breakers.look(case),
        "context": context.look(case),
        "observability": observability.look(case),
    }
    layers = tuple(report(layer, looked[layer]) for layer in LAYERS)
    deviation = first_deviation(case, looked)
    found = Diagnosis(
        trace=case.trace_id,
        format=case.format,
        steps=case.steps,
        layers=layers,
        first_deviation=deviation,
        cause=root(layers),
        names=named(case, _steps(layers, deviation)),
        flaws=case.flaws,
        shows=case.shows,
        place=place,
        guess=guess,
    )
    return _placed(found, case.places) if case.places else found


def _steps(layers: Iterable[LayerReport], deviation: int | None) -> frozenset[int]:
    """Return every step that a diagnosis names."""
    seen = (each for one in layers for each in (*one.findings, *one.held, *one.hints))
    steps = {step for each in seen for step in each.steps}
    return frozenset(steps if deviation is None else steps | {deviation})


def _placed(found: Diagnosis, places: Sequence[int]) -> Diagnosis:
    """Return a diagnosis whose steps are where the input has them, not in the order of time."""

    def place(step: int) -> int:
        return places[step] if 0 <= step < len(places) else step

    def moved(seen: Iterable[Evidence]) -> tuple[Evidence, ...]:
        return tuple(replace(one, steps=tuple(map(place, one.steps))) for one in seen)

    deviation = found.first_deviation
    return replace(
        found,
        layers=tuple(
            replace(
                one,
                findings=moved(one.findings),
                held=moved(one.held),
                hints=moved(one.hints),
            )
            for one in found.layers
        ),
        first_deviation=None if deviation is None else place(deviation),
        names={place(step): name for step, name in found.names.items()},
        flaws=tuple(replace(one, steps=tuple(map(place, one.steps))) for one in found.flaws),
    )


def report(layer: str, looked: Looked) -> LayerReport:
    """Return what is said of one layer: what was missing outweighs a guard that acted."""
    signs = {symptom.sign for symptom in looked.symptoms}
    if Sign.MISSING in signs:
        verdict, counts = Verdict.MISSING, Sign.MISSING
    elif Sign.FIRED in signs:
        verdict, counts = Verdict.GUARD_FIRED, Sign.FIRED
    else:
        verdict = Verdict.NOT_EXERCISED if looked.observable else Verdict.NOT_OBSERVABLE
        counts = None
    seen = sorted(
        looked.symptoms,
        key=lambda one: (one.steps[:1] or (-1,), one.rule, one.steps, one.evidence),
    )
    return LayerReport(
        layer=layer,
        verdict=verdict,
        findings=tuple(_evidence(one) for one in seen if one.sign is counts),
        held=tuple(
            _evidence(one) for one in seen if one.sign is Sign.FIRED and verdict is Verdict.MISSING
        ),
        hints=tuple(_evidence(one) for one in seen if one.sign is Sign.HINT),
        unseen=tuple(rule_of(name) for name in looked.unseen),
    )


def _evidence(symptom: Symptom) -> Evidence:
    return Evidence(
        rule=rule_of(symptom.rule),
        steps=symptom.steps,
        quote=symptom.evidence,
        sign=symptom.sign,
        precision=precision_of(symptom.rule),
        measured_on=MEASURED.get(symptom.rule, (0, 0))[0],
    )


def rule_of(name: str) -> Rule:
    """Return the rule of a name; a guard that acted may have named one that no layer looks for."""
    known = _BY_NAME.get(name)
    if known is not None:
        return known
    return Rule(name=name, says="A guard of the recorded system acted.", would="", lines="")


def _in_a_loop(report: LayerReport, missing: Sequence[LayerReport]) -> bool:
    """Whether all that a layer found is part of a cycle that another one tells of."""
    rings = [
        set(found.steps)
        for one in missing
        for found in one.findings
        if one.layer == "breakers" and found.rule.name == "breakers.cycle"
    ]
    return all(any(found.steps[0] in ring for ring in rings) for found in report.findings)


def root(layers: tuple[LayerReport, ...]) -> str | None:
    """Return the layer whose absence the other missing ones follow from.

    A runtime stops a turn where its first rule is broken, and what came after would not have
    happened. So the root is the missing layer whose rule was broken first. Where two were broken
    at one step, it is the one that comes first in the order of reports, which is the order in
    which a call passes them. Observability is the root only where nothing else was missing: its
    absence hides what goes wrong, and makes nothing go wrong.
    """
    missing = [one for one in layers if one.verdict is Verdict.MISSING]
    if not missing:
        seen = any(one.verdict is not Verdict.NOT_OBSERVABLE for one in layers)
        return NONE if seen else None
    first = min(
        missing,
        key=lambda one: (
            one.layer == "observability",
            # Where something else went wrong, having no end is what came of it.
            all(found.rule.name == "breakers.no_end_state" for found in one.findings),
            # What a loop did over and over would not have come to that had it been broken.
            one.layer == "context" and _in_a_loop(one, missing),
            # A finding about the whole run, such as one without an end, names no step.
            min((found.steps[0] for found in one.findings if found.steps), default=1 << 62),
            LAYERS.index(one.layer),
        ),
    )
    return first.layer

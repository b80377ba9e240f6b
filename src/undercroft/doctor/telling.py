"""A diagnosis in sentences: the words that every face shares.

Keeps: plain text; what is quoted in it is as the record has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from undercroft.doctor.report import NONE, Diagnosis, Evidence, LayerReport, Verdict
from undercroft.model.case import Facet, Flaw
from undercroft.model.symptom import Rule

_NAMES = MappingProxyType(
    {
        "sequencing": "sequencing",
        "parallelism": "the parallelism layer",
        "conflicts": "the conflicts layer",
        "breakers": "the breakers",
        "context": "the context layer",
        "observability": "observability",
    }
)

# By verdict: its sign where there is no room for the word.
SIGNS = MappingProxyType(
    {
        Verdict.MISSING: "✗",
        Verdict.GUARD_FIRED: "⊘",
        Verdict.NOT_EXERCISED: "·",
        Verdict.NOT_OBSERVABLE: "?",
    }
)

# By what a record may show: what to record for it.
RECORD = MappingProxyType(
    {
        Facet.CALLS: "calls of tools as data, with their names",
        Facet.ARGUMENTS: "what each call was given",
        Facet.RESULTS: "what each call returned",
        Facet.STATUSES: "how each call ended, in a field of its own",
        Facet.TIMES: "when each step began",
        Facet.DURATIONS: "how long each step took",
        Facet.PROMPTS: "each prompt as it was sent",
        Facet.TOKENS: "how many tokens each prompt had",
        Facet.USERS: "what users said",
        Facet.DELIVERED: "what the user was told at the end",
        Facet.ACTORS: "who acted, by name",
        Facet.EFFECTS: "what each tool reads and writes",
        Facet.GUARDS: "what guards held back",
    }
)


def conclusion(diagnosis: Diagnosis) -> str:
    """Return in one or two sentences what was the cause."""
    if diagnosis.cause is None:
        return "Nothing can be said of this run: its record shows nothing that a layer looks for."
    if diagnosis.cause == NONE:
        return "No runtime layer was the cause."
    layer = diagnosis.layer(diagnosis.cause)
    found = layer.findings[0]
    where = f" at {steps_of(found.steps[:1])}" if found.steps else ""
    name = _NAMES[layer.layer]
    verb = "were" if layer.layer == "breakers" else "was"
    return f"{name[0].upper()}{name[1:]} {verb} missing{where}. {found.rule.says}"


def also(diagnosis: Diagnosis) -> str:
    """Return what else was missing, or nothing."""
    others = [one for one in diagnosis.missing if one.layer != diagnosis.cause]
    if not others:
        return ""
    return f"Missing too: {_listed(others)}."


def would(rule: Rule) -> str:
    """Return what Undercroft would have done, as a sentence."""
    said = rule.would.strip()
    if not said or said.startswith("Undercroft"):
        return said
    return f"Undercroft would have {said[0].lower()}{said[1:]}"


def what_adds(layer: str) -> str:
    """Return a layer as it is named in the middle of a sentence."""
    return _NAMES[layer]


def _listed(layers: Sequence[LayerReport]) -> str:
    names = []
    for one in layers:
        steps = one.findings[0].steps[:1]
        names.append(f"{one.layer} ({steps_of(steps)})" if steps else one.layer)
    return ", ".join(names)


def blind(diagnosis: Diagnosis) -> str:
    """Return of which layers the record shows nothing, in a sentence, or nothing."""
    unseen = [one.layer for one in diagnosis.layers if one.verdict is Verdict.NOT_OBSERVABLE]
    if not unseen or diagnosis.cause is None:
        return ""
    return f"The record shows nothing of {_and(unseen)}, for or against."


def deviation(diagnosis: Diagnosis) -> str:
    """Return where the run left the good path, in a sentence, or nothing."""
    step = diagnosis.first_deviation
    if step is None:
        return ""
    name = diagnosis.names.get(step)
    where = f"step {step}, {name}" if name else f"step {step}"
    return f"First deviation: {where}. That is where the run left the good path, not why."


def lacking(diagnosis: Diagnosis) -> list[tuple[Facet | None, list[Rule]]]:
    """Return what the record does not show, each with the rules that would need it to be judged.

    Rules that lack nothing that a record could show come last, under None.
    """
    groups: dict[Facet | None, list[Rule]] = {}
    unseen = [rule for layer in diagnosis.layers for rule in layer.unseen]
    for rule in unseen:
        wants: list[Facet | None] = [
            facet for facet in Facet if facet.value in rule.needs and facet not in diagnosis.shows
        ]
        for facet in wants or [None]:
            groups.setdefault(facet, []).append(rule)
    order = list(Facet)
    return sorted(
        groups.items(), key=lambda group: order.index(group[0]) if group[0] else len(order)
    )


def steps_of(steps: Sequence[int], *, most: int = 8) -> str:
    """Return steps as `step 3` or `steps 3, 5, 9`, and how many more there are."""
    if not steps:
        return "the whole run"
    # Without a comma in a number: they stand in a list.
    shown = ", ".join(str(step) for step in steps[:most])
    more = f" and {len(steps) - most:,} more" if len(steps) > most else ""
    return f"{'step' if len(steps) == 1 else 'steps'} {shown}{more}"


def shown_at(one: Evidence) -> str:
    """Return the step that broke the rule, and those that it broke it with."""
    if len(one.steps) < 2:  # noqa: PLR2004  it broke it alone
        return steps_of(one.steps)
    return f"step {one.steps[0]} (with {steps_of(one.steps[1:]).partition(' ')[2]})"


def untold(diagnosis: Diagnosis) -> list[Flaw]:
    """Return what is wrong with the record itself and is no finding or hint already."""
    told = {
        (seen.steps, word)
        for one in diagnosis.layers
        for seen in (*one.findings, *one.hints)
        for word in (
            seen.quote.partition(":")[0].replace(" ", "_"),
            seen.rule.name.partition(".")[2],
        )
    }
    return [flaw for flaw in diagnosis.flaws if (flaw.steps, flaw.kind) not in told]


def by_rule(found: Iterable[Evidence]) -> list[list[Evidence]]:
    """Return evidence by its rule, in the order in which the rules were broken first."""
    groups: dict[str, list[Evidence]] = {}
    for one in found:
        groups.setdefault(one.rule.name, []).append(one)
    return list(groups.values())


def by_weight(diagnosis: Diagnosis) -> list[LayerReport]:
    """Return the layers with findings: the cause, what else was missing, and guards that fired."""
    found = [one for one in diagnosis.layers if one.findings]
    return sorted(
        found, key=lambda one: (one.layer != diagnosis.cause, one.verdict is not Verdict.MISSING)
    )


def sure(precision: float | None, measured_on: int) -> str:
    """Return how often a rule was right."""
    if precision is None:
        return "precision not measured"
    return f"precision {precision:.2f} of {measured_on:,}"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

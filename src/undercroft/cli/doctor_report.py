"""The report of one run for people: six layers, what shows it, and what would have helped.

Keeps: a page of 80 columns, however hostile the trace; the cause first and hints last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from undercroft.cli.console import columns, put, say
from undercroft.cli.safe import cut, safe
from undercroft.doctor.report import NONE, Diagnosis, Evidence, LayerReport, Verdict
from undercroft.doctor.telling import (
    RECORD,
    SIGNS,
    also,
    blind,
    by_rule,
    by_weight,
    conclusion,
    deviation,
    lacking,
    shown_at,
    steps_of,
    sure,
    untold,
    what_adds,
    would,
)
from undercroft.model.case import Facet

COLOURS = {
    Verdict.MISSING: "red",
    Verdict.GUARD_FIRED: "yellow",
    Verdict.NOT_EXERCISED: "green",
    Verdict.NOT_OBSERVABLE: "dim",
}
_LAYER, _VERDICT = 17, 18
_FACET = 13
# Of one rule in a report; `--all` shows the rest.
_SHOWN_MAX = 3
_HINTS_MAX = 4
_FLAWS_MAX = 4
_RULES_MAX = 3


def print_report(console: Console, diagnosis: Diagnosis, *, everything: bool = False) -> None:
    """Print what is said of one run."""
    _print_head(console, diagnosis)
    put(console, [Text(), *(_row(one, diagnosis, console.width) for one in diagnosis.layers)])
    _print_conclusion(console, diagnosis)
    for one in by_weight(diagnosis):
        _print_layer(console, one, everything=everything)
    _print_unseen(console, diagnosis, everything=everything)
    _print_flaws(console, diagnosis, everything=everything)
    _print_hints(console, diagnosis, everything=everything)


def word(verdict: Verdict) -> str:
    """Return a verdict as people read it."""
    return verdict.value.replace("_", " ")


# ---------------------------------------------------------------------- the head


def _print_head(console: Console, diagnosis: Diagnosis) -> None:
    put(console, [Text(cut(safe(diagnosis.name), console.width), style="bold")])
    count = "1 step" if diagnosis.steps == 1 else f"{diagnosis.steps:,} steps"
    guess = f", {safe(diagnosis.guess)}" if diagnosis.guess else ""
    say(console, f"{count}, read as {safe(diagnosis.format)}{guess}", 0, "dim")
    if diagnosis.place and diagnosis.place != diagnosis.name:
        say(console, f"from {safe(diagnosis.place)}", 0, "dim")


def _row(one: LayerReport, diagnosis: Diagnosis, width: int) -> Text:
    style = COLOURS[one.verdict]
    verdict = Text.assemble((SIGNS[one.verdict], style), " ", (word(one.verdict), style))
    room = width - _LAYER - _VERDICT - 2
    cause = one.layer == diagnosis.cause
    return columns(
        (Text(f"  {one.layer}", style="bold" if cause else ""), _LAYER + 2),
        (verdict, _VERDICT),
        (Text(cut(_first(one, diagnosis), room), style="" if one.findings else "dim"), room),
    )


def _first(one: LayerReport, diagnosis: Diagnosis) -> str:
    """Return the first evidence of a layer, or why there is none."""
    if one.findings:
        first = one.findings[0]
        return f"{steps_of(first.steps[:1])}: {safe(first.quote)}"
    if one.verdict is Verdict.NOT_OBSERVABLE:
        wants = {name for rule in one.unseen for name in rule.needs} - set(diagnosis.shows)
        names = [facet.value for facet in Facet if facet.value in wants]
        return f"not recorded: {', '.join(names)}" if names else ""
    return ""


def _print_conclusion(console: Console, diagnosis: Diagnosis) -> None:
    style = "bold green" if diagnosis.cause == NONE else "bold"
    put(console, [Text()])
    say(console, Text(safe(conclusion(diagnosis)), style=style))
    for text in (also(diagnosis), blind(diagnosis)):
        if text:
            say(console, safe(text))
    if text := deviation(diagnosis):
        put(console, [Text()])
        say(console, safe(text))


# ---------------------------------------------------------------------- findings


def _print_layer(console: Console, one: LayerReport, *, everything: bool) -> None:
    missing = one.verdict is Verdict.MISSING
    for found in by_rule(one.findings):
        put(console, [Text()])
        _print_rule(console, found, everything=everything)
    lines = one.findings[0].rule.lines.strip("\n")
    if missing and lines:
        put(console, [Text()])
        say(console, f"What adds {what_adds(one.layer)}:", 2, "bold")
        put(console, [Text(f"    {line}".rstrip(), style="cyan") for line in lines.splitlines()])


def _print_rule(console: Console, found: Sequence[Evidence], *, everything: bool) -> None:
    one = found[0]
    verdict = Verdict.MISSING if one.sign == "missing" else Verdict.GUARD_FIRED
    head = Text.assemble((f"{SIGNS[verdict]} ", COLOURS[verdict]), (one.rule.name, "bold"))
    if verdict is Verdict.MISSING:
        head.append(f"  {sure(one.precision, one.measured_on)}", style="dim")
    put(console, [head])
    say(console, one.rule.says, 2)
    shown = found if everything or len(found) <= _SHOWN_MAX + 1 else found[:_SHOWN_MAX]
    for each in shown:
        _print_evidence(console, each)
    if left := len(found) - len(shown):
        say(console, f"… {left:,} more like it: --all", 4, "dim")
    if verdict is Verdict.MISSING:
        say(console, would(one.rule), 2)


def _print_evidence(console: Console, one: Evidence) -> None:
    say(console, Text.assemble((shown_at(one), "bold"), f"  {safe(one.quote)}"), 4)


# ---------------------------------------------------------------------- what is left to say


def _print_unseen(console: Console, diagnosis: Diagnosis, *, everything: bool) -> None:
    groups = lacking(diagnosis)
    if not groups:
        return
    put(console, [Text()])
    say(console, "What this record does not show, and which rules need it", style="bold")
    for facet, rules in groups:
        many = len(rules) > _RULES_MAX and not everything
        who = f"{len(rules)} rules" if many else ", ".join(rule.name for rule in rules)
        label = Text(f"  {'other' if facet is None else facet.value}", style="bold")
        what = "nothing that calls for them" if facet is None else RECORD[facet]
        body = Text(f"{what}; for {who}")
        for line in body.wrap(console, max(console.width - _FACET, 20)):
            line.rstrip()
            put(console, [columns((label, _FACET), (line, 1_000))])
            label = Text()


def _print_flaws(console: Console, diagnosis: Diagnosis, *, everything: bool) -> None:
    flaws = untold(diagnosis)
    if not flaws:
        return
    put(console, [Text()])
    say(console, "What is wrong with the record itself", style="bold")
    shown = flaws if everything or len(flaws) <= _FLAWS_MAX + 1 else flaws[:_FLAWS_MAX]
    for flaw in shown:
        where = f"{steps_of(flaw.steps)}: " if flaw.steps else ""
        quote = f" {safe(flaw.quote)}" if flaw.quote else ""
        say(console, f"{where}{safe(flaw.kind).replace('_', ' ')}{quote}", 2)
    if left := len(flaws) - len(shown):
        say(console, f"… {left:,} more: --all", 2, "dim")


def _print_hints(console: Console, diagnosis: Diagnosis, *, everything: bool) -> None:
    hints: list[Evidence] = [hint for one in diagnosis.layers for hint in one.hints]
    if not hints:
        return
    put(console, [Text()])
    say(console, "Hints, which are never the cause", style="bold")
    for hint in _bounded(hints, everything=everything):
        text = f"{hint.rule.name}, {steps_of(hint.steps, most=3)}: {safe(hint.quote)}"
        put(console, [Text(f"  {cut(text, console.width - 2)}", style="dim")])
    if not everything and len(hints) > _HINTS_MAX + 1:
        say(console, f"… {len(hints) - _HINTS_MAX:,} more: --all", 2, "dim")


def _bounded(hints: Sequence[Evidence], *, everything: bool) -> Iterable[Evidence]:
    return hints if everything or len(hints) <= _HINTS_MAX + 1 else hints[:_HINTS_MAX]

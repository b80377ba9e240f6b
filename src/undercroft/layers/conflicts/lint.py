"""What is missing in a declared effect, and which steps race.

Keeps: a finding names the steps, their claims, and what would mend it.
"""

from __future__ import annotations

from collections.abc import Sequence

from undercroft.layers.conflicts.policy import SERVICES
from undercroft.layers.conflicts.races import (
    RACES_MAX,
    Claimant,
    Claimed,
    find_fan_out_races,
    find_races,
    redundant,
)
from undercroft.model.effect import Effect
from undercroft.model.finding import Finding, Severity

_WORDS = 'reads="…", writes="…", appends="…" or peeks="…"'
_FOREIGN = (
    'Say what it touches: uc.declare({name}, reads="…", writes="…", …); or in a file of effects: '
    '[tools.{name}] writes = "…".'
)


def lint_effect(
    place: str, effect: Effect, service: str | None, *, foreign: str = ""
) -> list[Finding]:
    """Return what `check` says of one tool's or step's effect.

    Args:
        place: The tool or step.
        effect: As it was declared.
        service: What it talks to.
        foreign: Name of a tool of another library, which is declared elsewhere.
    """
    if effect.declared:
        return []
    scope = f"service {service!r}" if service else "everything"
    return [
        Finding(
            rule="conflicts.undeclared_effect",
            severity=Severity.WARNING,
            place=place,
            message=f"declares no effect, so it counts as exclusive over {scope} and runs alone.",
            mend=_FOREIGN.format(name=foreign) if foreign else f"Say what it touches: {_WORDS}.",
        )
    ]


def lint_overlap(place: str, claims: Sequence[Claimed]) -> list[Finding]:
    """Return what `check` says of claims of one step that say nothing beside another."""
    return [
        Finding(
            rule="conflicts.self_overlap",
            severity=Severity.WARNING,
            place=place,
            message=f"claims {_spelled(claim)}, which lies within its own {_spelled(other)}.",
            mend="Drop the one that says nothing more, or narrow the other.",
        )
        for claim, other in redundant(claims)
    ]


def lint_races(flow: str, steps: Sequence[Claimant]) -> list[Finding]:
    """Return the races of a workflow: what `check` proves not to be there otherwise.

    Args:
        flow: Its name.
        steps: In an order in which they can run.
    """
    findings: list[Finding] = []
    races = find_races(steps)
    for race in races:
        first, second = steps[race.first].name, steps[race.second].name
        findings.append(
            Finding(
                rule="conflicts.race",
                severity=Severity.ERROR,
                place=f"steps {first!r} and {second!r} of workflow {flow!r}",
                message=f"nothing orders them, and {first!r} claims {_spelled(race.mine)} while "
                f"{second!r} claims {_spelled(race.theirs)}.",
                mend=f"Give {second!r} the parameter `{first}`, so that it waits; or let them "
                "claim keys that cannot overlap.",
            )
        )
    if len(races) == RACES_MAX:
        findings.append(
            Finding(
                rule="conflicts.race",
                severity=Severity.ERROR,
                place=f"workflow {flow!r}",
                message=f"only {RACES_MAX} of its races are listed.",
                mend="Mend these, then check again.",
            )
        )
    for race in find_fan_out_races(steps):
        step = steps[race.first]
        what = f"claims {_spelled(race.mine)}"
        if race.mine != race.theirs:
            what += f" while another may claim {_spelled(race.theirs)}"
        findings.append(
            Finding(
                rule="conflicts.fan_out_race",
                severity=Severity.ERROR,
                place=f"step {step.name!r} of workflow {flow!r}",
                message=f"its items run beside each other, and each {what}: the key does not "
                "tell them apart.",
                mend=f"Put the item into the key, as in …/{{{step.item}}}; or let one step go "
                "through the whole list.",
            )
        )
    return findings


def _spelled(claim: Claimed) -> str:
    mode, template = claim
    service = template.text.removeprefix(f"{SERVICES}/")
    if service != template.text:
        return f"{mode} all of service {service!r}" if mode != "peek" else f"service {service!r}"
    return f"{mode} {template.text or 'everything'}"

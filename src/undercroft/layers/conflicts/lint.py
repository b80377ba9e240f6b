"""What is missing in a declared effect."""

from __future__ import annotations

from undercroft.model.effect import Effect
from undercroft.model.finding import Finding, Severity


def lint_effect(place: str, effect: Effect, service: str | None) -> list[Finding]:
    """Return what `check` says of one tool's or step's effect."""
    if effect.declared:
        return []
    scope = f"service {service!r}" if service else "everything"
    return [
        Finding(
            rule="conflicts.undeclared_effect",
            severity=Severity.WARNING,
            place=place,
            message=f"declares no effect, so it counts as exclusive over {scope} and runs alone.",
            mend='Say what it touches: reads="…", writes="…", appends="…" or peeks="…".',
        )
    ]

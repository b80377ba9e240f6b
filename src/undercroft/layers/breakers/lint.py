"""What is missing in how a call ends: exits that lead nowhere."""

from __future__ import annotations

from undercroft.model.finding import Finding, Severity


def lint_fallback(place: str, service: str | None, other: str | None, name: str) -> list[Finding]:
    """Return what `check` says of what stands in for a step.

    Args:
        place: The step.
        service: What it talks to.
        other: What its fallback talks to.
        name: Of the fallback.
    """
    if service is None or service != other:
        return []
    return [
        Finding(
            rule="breakers.same_service",
            severity=Severity.WARNING,
            place=place,
            message=f"falls back on {name}, which calls the same service: once {service} is "
            "given up, both are refused.",
            mend="Fall back on something that does without it, such as the last known value.",
        )
    ]

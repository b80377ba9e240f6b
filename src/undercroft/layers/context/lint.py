"""What is missing in how a window is declared: content that can only rot, or never leaves."""

from __future__ import annotations

from undercroft.layers.context.policy import Action, ContextPolicy, Kind
from undercroft.model.finding import Finding, Severity

# Marks nearer to each other than this part of the capacity are met again after a few messages.
BETWEEN_MIN = 0.2
_STAY = (Action.PIN, Action.KEEP)


def lint_context(place: str, policy: ContextPolicy) -> list[Finding]:
    """Return what `check` says of a policy for windows.

    Args:
        place: Who declares it.
        policy: As it is declared.
    """
    findings = []
    result = policy.rule(Kind.RESULT).action
    if result not in _STAY and not policy.recall:
        findings.append(
            Finding(
                rule="context.no_recall",
                severity=Severity.WARNING,
                place=place,
                message="results of tools may be left out of its prompts, and with recall=False "
                "the model cannot fetch them back.",
                mend="Leave out recall=False, or keep results: "
                "ContextRule(kind='result', action='keep').",
            )
        )
    if result in _STAY:
        findings.append(
            Finding(
                rule="context.results_stay",
                severity=Severity.WARNING,
                place=place,
                message="results of tools never leave its window while anything else can: what "
                "people said leaves first.",
                mend="Let results be elided, and name the tools whose results must stay: "
                "ContextRule(kind='result', action='keep', tool='…').",
            )
        )
    between = policy.high_share - policy.low_share
    if between < BETWEEN_MIN:
        findings.append(
            Finding(
                rule="context.marks_too_close",
                severity=Severity.WARNING,
                place=place,
                message=f"its water marks are only {between:.0%} of the capacity apart: the "
                "window is compacted after every few messages, and nothing stays cached.",
                mend=f"Set low_share to at most {policy.high_share - BETWEEN_MIN:g}.",
            )
        )
    return findings

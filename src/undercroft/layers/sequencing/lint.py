"""What is missing in the order that a workflow or a handler declares."""

from __future__ import annotations

from undercroft.layers.sequencing.graph import Plan
from undercroft.model.finding import Finding, Severity
from undercroft.model.step import Phase


def lint_plan(plan: Plan) -> list[Finding]:
    """Return what `check` says of a graph that holds together."""
    findings: list[Finding] = []
    place = f"workflow {plan.name!r}"
    steps = [s.node for s in plan.steps]
    if any(node.changes for node in steps) and not any(
        node.phase in (Phase.RESOLVE, Phase.READ) for node in steps
    ):
        findings.append(
            Finding(
                "sequencing.write_without_read",
                Severity.WARNING,
                place,
                "changes the world without having read anything.",
                "Read the record that it changes in a @flow.read step.",
            )
        )
    if any(node.changes for node in steps) and not any(
        node.phase is Phase.CONFIRM for node in steps
    ):
        findings.append(
            Finding(
                "sequencing.no_confirm",
                Severity.WARNING,
                place,
                "changes the world but has no step that says what was done.",
                "End it with a @flow.confirm step that takes the receipts.",
            )
        )
    for step in plan.steps:
        findings += _lint_step(plan, step.index)
    return findings


def _lint_step(plan: Plan, index: int) -> list[Finding]:
    step = plan.steps[index]
    node = step.node
    place = f"step {node.name!r} of workflow {plan.name!r}"
    findings: list[Finding] = []
    if node.phase is Phase.APPROVE and not any(
        plan.steps[k].node.changes for k in step.dependents
    ):
        findings.append(
            Finding(
                "sequencing.gate_guards_nothing",
                Severity.ERROR,
                place,
                "asks for approval, but no step that changes the world depends on it.",
                f"Give the execute step a parameter `{node.name}: uc.Approval`.",
            )
        )
    if node.phase is not Phase.CONFIRM and not step.dependents and not node.changes:
        findings.append(
            Finding(
                "sequencing.unused",
                Severity.WARNING,
                place,
                "provides a value that no step uses.",
                "Remove the step, or name it as a parameter where it is needed.",
            )
        )
    return findings


def lint_needs(tool: str, needs: tuple[str, ...], offered: set[str]) -> list[Finding]:
    """Return what `check` says of the tools that a tool needs but nobody can call."""
    return [
        Finding(
            "sequencing.needs_unoffered",
            Severity.ERROR,
            f"tool {tool!r}",
            f"needs {needed!r}, which the handler does not offer.",
            f"Add {needed} to the handler's tools, or drop it from needs=.",
        )
        for needed in needs
        if needed not in offered
    ]

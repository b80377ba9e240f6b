"""What is missing in the order that a workflow or a handler declares."""

from __future__ import annotations

from undercroft.errors import GraphError
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
    if node.phase is Phase.APPROVE and not any(plan.steps[k].node.changes for k in step.dependents):
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


def lint_write(
    place: str, *, changes: bool, verified: bool, keyed: bool, foreign: bool = False
) -> list[Finding]:
    """Return what `check` says of a write that nobody can settle after a crash.

    Args:
        place: The tool or step.
        changes: Whether it may change the world.
        verified: Whether something can say if it did.
        keyed: Whether doing it again is safe.
        foreign: Whether it is a tool of another library.
    """
    if not changes or verified or keyed:
        return []
    return [
        Finding(
            "sequencing.unsettled_write",
            Severity.WARNING,
            place,
            "changes the world, and after a crash in its middle only a person can say whether "
            "it happened.",
            "Declare verify=…; or idempotent=True, where doing it again changes nothing more."
            if foreign
            else "Give it verify=…, or a parameter `key: uc.IdempotencyKey` to repeat it safely.",
        )
    ]


def lint_destructive(
    place: str, *, destructive: bool, changes: bool, approved: bool, verified: bool
) -> list[Finding]:
    """Return what `check` says of a tool whose own author says that it destroys what was there."""
    if not (destructive and changes) or approved or verified:
        return []
    return [
        Finding(
            "sequencing.unapproved_destructive",
            Severity.WARNING,
            place,
            "destroys what was there, by the word of its own author, and nobody has to agree.",
            "Declare it with approval=True, or with verify=… to know what became of it.",
        )
    ]


def lint_value(place: str, *, used: bool, annotated: bool) -> list[Finding]:
    """Return what `check` says of a value that a resume could not give back as it was."""
    if not used or annotated:
        return []
    return [
        Finding(
            "sequencing.untyped_value",
            Severity.WARNING,
            place,
            "does not say what it returns, so after a resume whoever uses its value is given "
            "plain data.",
            "Annotate it: `-> Account`, or `-> Any` where plain data is meant.",
        )
    ]


def lint_description(tool: str, description: str) -> list[Finding]:
    """Return what `check` says of a tool that a model would have to guess at."""
    if description.strip():
        return []
    return [
        Finding(
            "sequencing.undescribed_tool",
            Severity.WARNING,
            f"tool {tool!r}",
            "has no docstring, so the model is told nothing but its name and its arguments.",
            "Say in a docstring what it does and when to call it.",
        )
    ]


def graph_finding(error: GraphError) -> Finding:
    """Return a graph that does not hold together as a finding."""
    return Finding("sequencing.graph", Severity.ERROR, error.place, f"{error.problem}.", error.mend)

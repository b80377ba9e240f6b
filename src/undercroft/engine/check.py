"""What is missing in a workflow or a handler, said before anything runs.

Only composes: each rule stands in the `lint.py` of the layer that it belongs to.
"""

from __future__ import annotations

from undercroft.engine.handler import Handler
from undercroft.engine.targets import checked
from undercroft.engine.workflow import Op, Workflow
from undercroft.errors import GraphError
from undercroft.layers.conflicts.lint import lint_effect
from undercroft.layers.sequencing.lint import (
    graph_finding,
    lint_description,
    lint_needs,
    lint_plan,
    lint_value,
    lint_write,
)
from undercroft.model.finding import Finding


def check(target: object) -> list[Finding]:
    """Return what is missing in a workflow or a handler, in the order in which it is declared.

    Raises:
        DeclarationError: It is neither.
    """
    target = checked(target)
    return _workflow(target) if isinstance(target, Workflow) else _handler(target)


def _workflow(flow: Workflow) -> list[Finding]:
    try:
        program = flow.build()
    except GraphError as error:
        return [graph_finding(error)]
    findings = lint_plan(program.plan)
    services = {d.node.name: d.service for d in flow._declarations}  # noqa: SLF001  one package
    for op in program.ops:
        place = f"step {op.name!r} of workflow {flow.name!r}"
        findings += lint_effect(place, op.declared.effect, services[op.name])
        findings += lint_write(
            place,
            changes=op.body.changes,
            verified=op.body.verify is not None,
            keyed=op.body.keyed,
        )
        findings += lint_value(place, used=_used(op), annotated=_annotated(op))
    return findings


def _used(op: Op) -> bool:
    """Whether another step takes its value; what a gate returns goes to the runtime."""
    return bool(op.plan.dependents) and not op.gate


def _annotated(op: Op) -> bool:
    return "return" in getattr(op.body.fn, "__annotations__", {})


def _handler(handler: Handler[..., object]) -> list[Finding]:
    findings: list[Finding] = []
    for tool in handler.tools.values():
        place = f"tool {tool.name!r}"
        findings += lint_effect(place, tool.effect, tool.service)
        findings += lint_needs(tool.name, tool.rules.needs, set(handler.tools))
        findings += lint_write(
            place,
            changes=tool.body.changes,
            verified=tool.body.verify is not None,
            keyed=tool.body.keyed,
        )
        findings += lint_description(tool.name, tool.description)
    return findings

"""What is missing in a workflow or a handler, said before anything runs.

Only composes: each rule stands in the `lint.py` of the layer that it belongs to.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from enum import Enum
from typing import Any, Union, get_args, get_origin
from uuid import UUID

from undercroft.engine.handler import Handler
from undercroft.engine.standin import StandIn
from undercroft.engine.targets import checked
from undercroft.engine.workflow import Op, Program, Workflow
from undercroft.errors import DeclarationError, GraphError
from undercroft.layers.breakers.lint import lint_fallback
from undercroft.layers.conflicts.keys import Template
from undercroft.layers.conflicts.lint import lint_effect, lint_overlap, lint_races
from undercroft.layers.conflicts.races import Claimant
from undercroft.layers.conflicts.strength import ResourceRow
from undercroft.layers.context.lint import lint_context
from undercroft.layers.sequencing.graph import Source, SourceKind
from undercroft.layers.sequencing.lint import (
    graph_finding,
    lint_description,
    lint_destructive,
    lint_needs,
    lint_plan,
    lint_value,
    lint_write,
)
from undercroft.layers.sequencing.signature import plain
from undercroft.model.effect import Strength
from undercroft.model.finding import Finding, Severity


def check(target: object) -> list[Finding]:
    """Return what is missing in a workflow or a handler, in the order in which it is declared.

    Raises:
        DeclarationError: It is neither.
    """
    target = checked(target)
    return _workflow(target) if isinstance(target, Workflow) else _handler(target)


def resources_of(target: object) -> list[ResourceRow]:
    """Return every resource that a workflow or a handler writes, and how strong its fence is.

    Raises:
        DeclarationError: It is neither.
    """
    target = checked(target)
    if isinstance(target, Handler):
        return list(target.strengths.rows)
    try:
        return list(target.build().strengths.rows)
    except DeclarationError:
        return []  # `check` says what is wrong with it


def strengths(target: object) -> Callable[[str], Strength]:
    """Return what says how a lapsed owner is kept from writing to a key.

    Raises:
        DeclarationError: It is neither a workflow nor a handler, or a graph that does not hold.
    """
    target = checked(target)
    return target.strength if isinstance(target, Handler) else target.build().strength


def _workflow(flow: Workflow) -> list[Finding]:
    try:
        program = flow.build()
    except GraphError as error:
        return [graph_finding(error)]
    except DeclarationError as error:
        rule = "conflicts.ambiguous_resource"
        return [Finding(rule, Severity.ERROR, error.place, f"{error.problem}.", error.mend)]
    findings = lint_plan(program.plan)
    for op in program.ops:
        place = f"step {op.name!r} of workflow {flow.name!r}"
        findings += lint_effect(place, op.declared.effect, op.body.service)
        findings += lint_overlap(place, op.declared.modes)
        findings += lint_write(
            place,
            changes=op.body.changes,
            verified=op.body.verify is not None,
            keyed=op.body.keyed,
        )
        findings += _fallback(place, op.body.service, op.stand_in)
        findings += lint_value(place, used=_used(op), annotated=_annotated(op))
    return findings + lint_races(flow.name, [_claimant(program, op) for op in program.ops])


def _claimant(program: Program, op: Op) -> Claimant:
    """Return a step as far as races are concerned."""
    kinds = {name: _annotation(program, source) for name, source in op.plan.key_sources.items()}
    scalars = frozenset(name for name, kind in kinds.items() if _is_scalar(kind))
    unsure = {name for name, kind in kinds.items() if _may_be_none(kind)}
    return Claimant(
        op.name,
        tuple((mode, _certain(template, unsure)) for mode, template in op.declared.claims),
        op.plan.causes,
        op.phase.order,
        op.item,
        scalars,
    )


def _certain(template: Template, unsure: set[str]) -> Template:
    """Return `template` up to the first parameter that may be None: so far it is claimed then."""
    for place, part in enumerate(template.parts):
        if part.name in unsure:
            return Template(template.text, template.parameters, template.parts[:place])
    return template


def _annotation(program: Program, source: Source) -> Any:
    """Return the type of what a key takes; None in it where there may be no value."""
    if source.kind is SourceKind.ITEM:
        return Any  # another one in each item
    if source.kind is SourceKind.INPUT:
        parameter = program.plan.inputs[source.name]
        kind = plain(parameter.annotation)
        return kind | None if parameter.default is None and kind is not Any else kind
    node = program.plan.steps[source.index].node
    kind = list if node.each else plain(node.signature.returns)
    return Union[kind, None] if node.optional and kind is not Any else kind  # noqa: UP007


def _is_scalar(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, str | int | UUID | Enum)


def _may_be_none(kind: Any) -> bool:
    if get_origin(kind) in (Union, types.UnionType):
        return any(_may_be_none(part) for part in get_args(kind))
    return kind is None or kind is type(None)


def _used(op: Op) -> bool:
    """Whether another step takes its value; what a gate returns goes to the runtime."""
    return bool(op.plan.dependents) and not op.gate


def _annotated(op: Op) -> bool:
    return "return" in getattr(op.body.fn, "__annotations__", {})


def _fallback(place: str, service: str | None, other: StandIn | None) -> list[Finding]:
    if other is None:
        return []
    return lint_fallback(place, service, other.body.service, other.name)


def _handler(handler: Handler[..., object]) -> list[Finding]:
    findings: list[Finding] = []
    if handler.context is not None:
        findings += lint_context(f"handler {handler.name!r}", handler.context)
    for tool in handler.tools.values():
        place = f"tool {tool.name!r}"
        foreign = tool.name if handler.guest and tool.source is not tool.fn else ""
        findings += lint_effect(place, tool.effect, tool.service, foreign=foreign)
        findings += lint_overlap(place, handler.declared[tool.name].modes)
        findings += lint_needs(tool.name, tool.rules.needs, set(handler.tools))
        findings += lint_write(
            place,
            changes=tool.body.changes,
            verified=tool.body.verify is not None,
            keyed=tool.body.keyed,
            foreign=bool(foreign),
        )
        findings += lint_destructive(
            place,
            destructive=tool.hints.destructive,
            changes=tool.body.changes,
            approved=tool.rules.approval,
            verified=tool.body.verify is not None,
        )
        findings += _fallback(place, tool.service, tool.stand_in)
        findings += lint_description(tool.name, tool.description)
    return findings

"""The graph of a workflow, checked when it is built.

Keeps: every name is a step or an input, no edge runs in a circle or backwards through the
phases, types fit along every edge, and only `execute` changes the world. An error names the
steps of the edge and how to mend it.
Source of the ordering: Kahn, "Topological sorting of large networks", CACM 5(11), 1962.
"""

from __future__ import annotations

import difflib
import types
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

from undercroft.errors import GraphError
from undercroft.layers.sequencing.fits import fits, item_type, spelled
from undercroft.layers.sequencing.signature import REQUIRED, Parameter, Signature
from undercroft.model.inject import Approval
from undercroft.model.step import Phase


class SourceKind(StrEnum):
    """Where the value of a parameter comes from."""

    INPUT = "input"
    STEP = "step"
    ITEM = "item"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the value of one parameter comes from.

    Attributes:
        name: Of the input or the step.
        index: Of the step in the plan; -1 otherwise.
    """

    kind: SourceKind
    name: str
    index: int = -1


@dataclass(frozen=True, slots=True)
class Node:
    """A step as declared.

    Attributes:
        key_names: Names that its key templates take values from.
        each: Name of the list over which it fans out.
    """

    name: str
    phase: Phase
    signature: Signature
    key_names: tuple[str, ...] = ()
    changes: bool = False
    optional: bool = False
    each: str | None = None


@dataclass(frozen=True, slots=True)
class PlanStep:
    """A step in its place.

    Attributes:
        sources: By parameter.
        key_sources: By name in its key templates.
        each: Where the list comes from, for a fan-out.
        causes: Indices of the steps that must have ended, in order.
        dependents: Indices of the steps that wait for it.
    """

    node: Node
    index: int
    sources: dict[str, Source]
    key_sources: dict[str, Source]
    each: Source | None
    causes: tuple[int, ...]
    dependents: tuple[int, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow's graph, in an order in which it can run.

    Attributes:
        inputs: Parameters of the workflow itself; those with a default may be left out.
        results: Indices of the steps whose values the workflow returns.
    """

    name: str
    steps: tuple[PlanStep, ...]
    inputs: dict[str, Parameter]
    results: tuple[int, ...]


def build(name: str, nodes: Sequence[Node]) -> Plan:
    """Return the checked plan of `nodes`, given in the order of their declaration.

    Raises:
        GraphError: The graph does not hold together.
    """
    return _Builder(name, nodes).plan()


class _Builder:
    """The checks, in the order in which their errors are the most useful."""

    def __init__(self, name: str, nodes: Sequence[Node]) -> None:
        self.place = f"workflow {name!r}"
        self.name = name
        self.nodes = {node.name: node for node in nodes}
        if not nodes:
            raise GraphError(self.place, "it has no steps", "Declare one, such as @flow.read.")
        if len(self.nodes) < len(nodes):
            names = [node.name for node in nodes]
            twice = next(name for name in names if names.count(name) > 1)
            raise GraphError(
                self.place,
                f"two steps are called {twice!r}",
                "Rename one of the functions.",
                (twice, twice),
            )
        self.inputs = self._inputs()

    def plan(self) -> Plan:
        needs = {node.name: self._needs(node) for node in self.nodes.values()}
        order = self._order(needs)
        for node in self.nodes.values():
            for cause in needs[node.name]:
                self._check_phases(self.nodes[cause], node)
        for name in self.inputs:
            self._check_input(name)
        index = {name: place for place, name in enumerate(order)}
        steps = [self._placed(self.nodes[name], index, needs[name]) for name in order]
        self._check_key_names(needs)
        dependents: dict[int, list[int]] = {place: [] for place in range(len(steps))}
        for step in steps:
            for place in step.causes:
                dependents[place].append(step.index)
        placed = tuple(
            PlanStep(
                s.node,
                s.index,
                s.sources,
                s.key_sources,
                s.each,
                s.causes,
                tuple(dependents[s.index]),
            )
            for s in steps
        )
        return Plan(self.name, placed, self.inputs, self._results(placed))

    def _inputs(self) -> dict[str, Parameter]:
        """Names that the first steps ask for and no step provides."""
        first = min(node.phase.order for node in self.nodes.values())
        inputs: dict[str, Parameter] = {}
        for node in self.nodes.values():
            for p in node.signature.parameters:
                # What a fan-out needs and nobody provides may be its item.
                opens = not p.required or (
                    node.phase.order in (first, Phase.RESOLVE.order) and node.each in (None, p.name)
                )
                # One step that cannot do without it decides for all.
                decides = p.name not in inputs or p.required
                if (
                    opens
                    and decides
                    and p.name not in self.nodes
                    and not self._is_item(node, p.name)
                ):
                    inputs[p.name] = p
            if node.each and node.each not in self.nodes and node.phase.order == first:
                inputs.setdefault(node.each, Parameter(node.each, Any, REQUIRED))
        return inputs

    def _check_input(self, name: str) -> None:
        """Every step that takes an input must be able to take the same."""
        users = [
            (node, p)
            for node in self.nodes.values()
            for p in node.signature.parameters
            if p.name == name and p.name not in self.nodes
        ]
        for (one, mine), (other, theirs) in pairwise(users):
            if not fits(mine.annotation, theirs.annotation) and not fits(
                theirs.annotation, mine.annotation
            ):
                raise GraphError(
                    self.place,
                    f"input {name!r} is {spelled(mine.annotation)} for step {one.name!r} and "
                    f"{spelled(theirs.annotation)} for {other.name!r}",
                    "Make the annotations agree, or rename one of the parameters.",
                    (one.name, other.name),
                )

    def _is_item(self, node: Node, parameter: str) -> bool:
        if node.each is None or parameter == node.each:
            return False
        free = self._free(node)
        return free == [parameter]

    def _free(self, node: Node) -> list[str]:
        """Parameters of a fan-out that no step provides: one of them must be the item."""
        return [p.name for p in node.signature.parameters if p.name not in self.nodes]

    def _item(self, node: Node) -> str:
        free = [name for name in self._free(node) if name not in self.inputs]
        if len(free) != 1:
            found = ", ".join(free) or "none"
            raise GraphError(
                self.place,
                f"step {node.name!r} fans out over {node.each!r} but has not exactly one "
                f"parameter for the item (found: {found})",
                f"Give {node.name!r} one parameter that is no step's and no input's name, such "
                "as `item`.",
                (node.name, node.each or ""),
            )
        return free[0]

    def _needs(self, node: Node) -> tuple[str, ...]:
        """Names of the steps that `node` uses, each once, in the order of its parameters."""
        asked = [p.name for p in node.signature.parameters]
        if node.each:
            item = self._item(node)
            asked = [node.each, *(name for name in asked if name != item)]
        asked += [name for name in node.key_names if name in self.nodes]
        for name in asked:
            if name not in self.nodes and name not in self.inputs:
                raise self._unknown(node, name)
        return tuple(dict.fromkeys(name for name in asked if name in self.nodes))

    def _unknown(self, node: Node, name: str) -> GraphError:
        known = [*self.nodes, *self.inputs]
        near = difflib.get_close_matches(name, known, n=1)
        mend = (
            f"Did you mean {near[0]!r}?"
            if near
            else f"Declare a step {name!r}, or take it as an input in a resolve step. "
            f"Known: {', '.join(known)}."
        )
        return GraphError(
            self.place,
            f"step {node.name!r} asks for {name!r}, which is neither a step nor an input",
            mend,
            (node.name, name),
        )

    def _order(self, needs: dict[str, tuple[str, ...]]) -> list[str]:
        left = {name: len(causes) for name, causes in needs.items()}
        users: dict[str, list[str]] = {name: [] for name in needs}
        for name, causes in needs.items():
            for cause in causes:
                users[cause].append(name)
        ready = deque(name for name, count in left.items() if not count)
        order: list[str] = []
        while ready:
            name = ready.popleft()
            order.append(name)
            for user in users[name]:
                left[user] -= 1
                if not left[user]:
                    ready.append(user)
        if len(order) < len(needs):
            raise self._cycle({n: c for n, c in needs.items() if n not in order})
        return order

    def _cycle(self, needs: dict[str, tuple[str, ...]]) -> GraphError:
        seen: list[str] = []
        name = next(iter(needs))
        while name not in seen:
            seen.append(name)
            name = next(cause for cause in needs[name] if cause in needs)
        ring = [*seen[seen.index(name) :], name]
        return GraphError(
            self.place,
            f"steps depend on each other in a circle: {' needs '.join(ring)}",
            f"Remove parameter {ring[1]!r} from step {ring[0]!r}, or split the step.",
            (ring[0], ring[1]),
        )

    def _check_phases(self, cause: Node, node: Node) -> None:
        if cause.phase.order > node.phase.order:
            raise GraphError(
                self.place,
                f"step {node.name!r} ({node.phase}) uses {cause.name!r} ({cause.phase}), "
                "which comes in a later phase",
                f"Move {node.name!r} to phase {cause.phase} or later, or {cause.name!r} to "
                f"{node.phase} or earlier.",
                (cause.name, node.name),
            )

    def _placed(self, node: Node, index: dict[str, int], needs: tuple[str, ...]) -> PlanStep:
        each, item = None, None
        if node.each:
            item = self._item(node)
            each = self._source(node.each, index)
        sources: dict[str, Source] = {}
        for p in node.signature.parameters:
            if p.name == item:
                sources[p.name] = Source(SourceKind.ITEM, p.name)
            else:
                sources[p.name] = self._source(p.name, index)
            self._check_type(node, p, is_item=p.name == item)
        key_sources: dict[str, Source] = {}
        for name in node.key_names:
            if name == item:
                key_sources[name] = Source(SourceKind.ITEM, name)
            elif name in self.nodes or name in self.inputs:
                key_sources[name] = self._source(name, index)
        causes = tuple(sorted(index[name] for name in needs))
        return PlanStep(node, index[node.name], sources, key_sources, each, causes)

    def _source(self, name: str, index: dict[str, int]) -> Source:
        if name in index:
            return Source(SourceKind.STEP, name, index[name])
        return Source(SourceKind.INPUT, name)

    def _check_type(self, node: Node, parameter: Parameter, *, is_item: bool) -> None:
        name = node.each if is_item and node.each else parameter.name
        if name not in self.nodes:
            return
        given = self._provides(self.nodes[name])
        if is_item:
            item = item_type(given)
            if item is None:
                raise GraphError(
                    self.place,
                    f"step {node.name!r} fans out over {name!r}, which returns "
                    f"{spelled(given)} and not a list",
                    f"Return a list from {name!r}, or drop each={name!r}.",
                    (name, node.name),
                )
            given = item
        if not fits(given, parameter.annotation):
            raise GraphError(
                self.place,
                f"step {name!r} provides {spelled(given)}, but {node.name!r} takes "
                f"{parameter.name}: {spelled(parameter.annotation)}",
                f"Make the annotations agree: change what {name!r} returns, or parameter "
                f"{parameter.name!r} of {node.name!r}.",
                (name, node.name),
            )

    def _provides(self, node: Node) -> Any:
        """The type that dependents of `node` are given."""
        if node.phase is Phase.APPROVE:
            return Approval
        returns = node.signature.returns
        if node.each:
            returns = Any if returns is Any else types.GenericAlias(list, (returns,))
        return returns | None if node.optional and returns is not Any else returns

    def _check_key_names(self, needs: dict[str, tuple[str, ...]]) -> None:
        for node in self.nodes.values():
            known = {*self.inputs, *needs[node.name]}
            if node.each:
                known.add(self._item(node))
            for name in node.key_names:
                if name not in known:
                    raise GraphError(
                        self.place,
                        f"a key of step {node.name!r} names {{{name}}}, which is neither a "
                        "step nor an input",
                        f"Known: {', '.join(sorted({*self.nodes, *self.inputs}))}.",
                        (node.name, name),
                    )

    def _results(self, steps: tuple[PlanStep, ...]) -> tuple[int, ...]:
        """What the user is told: the confirm steps, else whatever nobody else uses."""
        confirm = [s.index for s in steps if s.node.phase is Phase.CONFIRM]
        return tuple(confirm or [s.index for s in steps if not s.dependents])

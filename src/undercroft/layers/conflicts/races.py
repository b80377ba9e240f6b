"""Races found on paper: steps that nothing orders, and that may claim the same.

Keeps: where no race is found there is none; what cannot be told from templates counts as one.
Leaves to `lint.py`: how it is said; to the claims at run time: that it never does harm.

Only a step that changes something is compared, and only with what lies on the way of its keys
in a tree of all claims, so a graph of thousands of steps on keys of their own is checked at
once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from undercroft.layers.conflicts.keys import WILD, Segment, Template, may_meet
from undercroft.layers.conflicts.matrix import compatible
from undercroft.model.effect import Mode

# As many as anyone reads; a graph with more has another problem.
RACES_MAX = 100

Claimed = tuple[str, Template]

_RANK = {mode.value: rank for rank, mode in enumerate(Mode)}


@dataclass(frozen=True, slots=True)
class Claimant:
    """A step of a workflow, as far as races are concerned.

    Attributes:
        claims: The mode and the template of each, those because of the service included.
        causes: Places of the steps that it waits for, all of them earlier ones.
        order: Of its phase; no edge may run backwards.
        item: The parameter that is another one in each item of a fan-out, or None.
        scalars: The parameters that are one value, the same in every step that names them.
    """

    name: str
    claims: tuple[Claimed, ...]
    causes: tuple[int, ...]
    order: int
    item: str | None = None
    scalars: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Race:
    """Two steps that nothing orders and that may claim the same.

    Attributes:
        first: Place of the one that should come first; of the fan-out, where its own items race.
        second: Place of the other one.
        mine: The claim of the first, as mode and template.
        theirs: The claim of the second.
    """

    first: int
    second: int
    mine: Claimed
    theirs: Claimed


@dataclass(slots=True)
class _Node:
    """Claims whose templates begin alike."""

    literals: dict[str, _Node] = field(default_factory=dict)
    patterns: dict[Segment, _Node] = field(default_factory=dict)
    here: dict[str, list[tuple[int, Claimed]]] = field(default_factory=dict)


def find_races(steps: Sequence[Claimant]) -> list[Race]:
    """Return the pairs of unordered steps that may claim the same, at most `RACES_MAX`.

    Args:
        steps: In an order in which they can run.
    """
    root = _tree(steps)
    before = _ancestors(steps)
    races: dict[tuple[int, int], Race] = {}
    for place, step in enumerate(steps):
        for claim in step.claims:
            if not Mode(claim[0]).changes:
                continue
            for other, theirs in _beside(root, claim):
                pair = (min(place, other), max(place, other))
                if other == place or pair in races or _ordered(before, place, other):
                    continue
                if unify(claim[1], theirs[1], step.scalars & steps[other].scalars):
                    races[pair] = _directed(steps, place, claim, other, theirs)
        if len(races) >= RACES_MAX:
            break
    return [races[pair] for pair in sorted(races)][:RACES_MAX]


def find_fan_out_races(steps: Sequence[Claimant]) -> list[Race]:
    """Return the fan-outs of which one item may claim the same as another."""
    races: list[Race] = []
    for place, step in enumerate(steps):
        if step.item is None:
            continue
        pairs = (
            Race(place, place, mine, theirs)
            for at, mine in enumerate(step.claims)
            for theirs in step.claims[at:]
            if not compatible(mine[0], theirs[0])
            and not _told_apart(mine[1], theirs[1], step.item)
            and unify(mine[1], theirs[1], step.scalars)
        )
        race = next(pairs, None)
        if race is not None:
            races.append(race)
    return races


def redundant(claims: Sequence[Claimed]) -> Iterator[tuple[Claimed, Claimed]]:
    """Yield the claims of one step that say nothing, each with the one that covers it.

    A read beside a stronger claim says something: that the step looks before it writes.
    """
    for at, claim in enumerate(claims):
        for place, other in enumerate(claims):
            stronger = _RANK[other[0]] > _RANK[claim[0]] and claim[0] != Mode.READ
            # Of two that are the same, the second one says nothing.
            said = stronger or (claim[0] == other[0] and (claim != other or place < at))
            if place != at and said and _always_covers(other[1], claim[1]):
                yield claim, other
                break


def unify(one: Template, other: Template, same: frozenset[str] = frozenset()) -> bool:
    """Whether some values make keys of which one covers the other.

    Args:
        one: A template.
        other: Another one.
        same: Names that stand for one and the same value in both; others may be anything.
    """
    return all(
        may_meet(a, b) and (a.name not in same or a.name != b.name or _same_size(a, b))
        for a, b in zip(one.parts, other.parts, strict=False)
    )


def _same_size(one: Segment, other: Segment) -> bool:
    """Whether one and the same value can make both segments the same text."""
    if one.normal is not None or other.normal is not None:
        return True
    return len(one.before + one.after) == len(other.before + other.after)


def _told_apart(one: Template, other: Template, item: str) -> bool:
    """Whether different items make different keys, neither of which covers the other.

    Where they make the same key, as equal items do, the claims keep them apart at run time.
    """
    if not one.parts:
        return one is other and item in one.parameters
    return any(a.name == item and a == b for a, b in zip(one.parts, other.parts, strict=False))


def _always_covers(outer: Template, inner: Template) -> bool:
    """Whether `inner` lies within `outer`, whatever the values."""
    return 0 < len(outer.parts) <= len(inner.parts) and all(
        a in (b, Segment(WILD)) for a, b in zip(outer.parts, inner.parts, strict=False)
    )


def _directed(
    steps: Sequence[Claimant], place: int, claim: Claimed, other: int, theirs: Claimed
) -> Race:
    """Let that one come first that may: by phase, then by its place in the plan.

    There is no path between them, so an edge either way makes no circle.
    """
    mine = (steps[place].order, place)
    if mine <= (steps[other].order, other):
        return Race(place, other, claim, theirs)
    return Race(other, place, theirs, claim)


def _ancestors(steps: Sequence[Claimant]) -> list[int]:
    """Return the places of all steps before each one, as bits."""
    before: list[int] = []
    for step in steps:
        bits = 0
        for cause in step.causes:
            bits |= before[cause] | 1 << cause
        before.append(bits)
    return before


def _ordered(before: Sequence[int], one: int, other: int) -> bool:
    return bool(before[one] >> other & 1 or before[other] >> one & 1)


def _tree(steps: Sequence[Claimant]) -> _Node:
    root = _Node()
    for place, step in enumerate(steps):
        for mode, template in step.claims:
            node = root
            for part in template.parts:
                if part.name or part.before == WILD:
                    node = node.patterns.setdefault(part, _Node())
                else:
                    node = node.literals.setdefault(part.before, _Node())
            node.here.setdefault(mode, []).append((place, (mode, template)))
    return root


def _beside(root: _Node, claim: Claimed) -> Iterator[tuple[int, Claimed]]:
    """Yield the claims that cannot go with `claim`, and of which either may cover the other."""
    mode, template = claim
    nodes = [root]
    for part in template.parts:
        for node in nodes:
            yield from _here(node, mode)
        nodes = [below for node in nodes for below in _next(node, part)]
    while nodes:
        node = nodes.pop()
        yield from _here(node, mode)
        nodes += [*node.literals.values(), *node.patterns.values()]


def _here(node: _Node, mode: str) -> Iterator[tuple[int, Claimed]]:
    for other, claims in node.here.items():
        if not compatible(mode, other):
            yield from claims


def _next(node: _Node, part: Segment) -> Iterator[_Node]:
    if part.name or part.before == WILD:
        yield from (n for text, n in node.literals.items() if may_meet(part, Segment(text)))
    elif part.before in node.literals:
        yield node.literals[part.before]
    yield from (n for other, n in node.patterns.items() if may_meet(part, other))

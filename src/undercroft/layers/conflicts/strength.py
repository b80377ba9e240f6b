"""How strong the fence of each written resource is: declared, or worked out from its users.

Keeps: nothing counts as stronger than its weakest writer.
Leaves to others: leases, and what is done about a lapsed owner.
Source of the fence: Kleppmann, "Designing Data-Intensive Applications", ch. 8.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from undercroft.layers.conflicts.keys import Template, may_overlap
from undercroft.layers.conflicts.policy import Declared
from undercroft.layers.conflicts.resource import NO_RESOURCES, Resources
from undercroft.model.effect import Mode, Strength

_WRITING = frozenset({Mode.WRITE.value, Mode.EXCLUSIVE.value})
_WEAKEST_LAST = {strength: place for place, strength in enumerate(Strength)}


@dataclass(frozen=True, slots=True)
class Use:
    """What a tool or step does with resources, as far as fences are concerned.

    Attributes:
        name: Of the tool or step.
        declared: Its effect, in the spelling under which keys are claimed.
        fenced: Whether it takes a `uc.Fence`, and so can hand it to the resource.
        versioned: Whether it has a `version=`.
    """

    name: str
    declared: Declared
    fenced: bool
    versioned: bool


@dataclass(frozen=True, slots=True)
class ResourceRow:
    """A resource that is written, as `check` lists it.

    Attributes:
        key: Its template, or the name of the function that makes its keys.
        writers: Names of the tools or steps that write it.
        strength: How a lapsed owner is kept from writing.
        delay_s: How long a new owner waits, where that is how; else 0.
    """

    key: str
    writers: tuple[str, ...]
    strength: Strength
    delay_s: float = 0.0


class Strengths:
    """The strength of the fence of every key that some tool or step writes."""

    __slots__ = ("_by_first", "_only", "_resources", "_rest", "rows")

    def __init__(self, uses: Iterable[Use], resources: Resources = NO_RESOURCES) -> None:
        uses = tuple(uses)
        self._resources = resources
        writes = [
            (use, template)
            for use in uses
            for mode, template in use.declared.modes
            if mode in _WRITING
        ]
        versions = [
            template
            for use in uses
            if use.versioned
            for mode, template in use.declared.modes
            if mode == Mode.READ
        ]
        alike: dict[object, tuple[Template, dict[str, None], Strength]] = {}
        for use, template in writes:
            strength = _worked_out(use, template, versions)
            shape = tuple(part._replace(name="-") for part in template.parts) or template.text
            first, names, known = alike.setdefault(shape, (template, {}, strength))
            names[use.name] = None
            alike[shape] = (first, names, _weaker(known, strength))
        # Looked up at every first write, so by the first segment where there is one.
        self._by_first: dict[str, list[tuple[Template, Strength]]] = {}
        self._rest: list[tuple[Template, Strength]] = []
        rows = []
        for template, names, strength in alike.values():
            first_part = template.parts[0] if template.parts else None
            if first_part is None or first_part.name or first_part.before == "*":
                self._rest.append((template, strength))
            else:
                self._by_first.setdefault(first_part.before, []).append((template, strength))
            example = _example(template)
            said = resources.strength(example) if example else None
            delay_s = resources.delay_s(example) if example else 0.0
            rows.append(ResourceRow(template.text, tuple(names), said or strength, delay_s))
        self.rows = tuple(rows)
        # Where all are alike there is nothing to look up.
        kinds = {strength for _, _, strength in alike.values()}
        self._only = None if resources else next(iter(kinds), Strength.ADVISORY)
        if len(kinds) > 1:
            self._only = None

    def __call__(self, key: str) -> Strength:
        """Return the strength for a written key, in the spelling under which it is claimed."""
        if key and self._only is not None:
            return self._only
        said = self._resources.strength(key)
        if said is not None:
            return said
        found: Strength | None = None
        for known in (self._by_first.get(key.partition("/")[0], ()), self._rest):
            for template, strength in known:
                if _may_write(template, key):
                    found = strength if found is None else _weaker(found, strength)
        return found or Strength.ADVISORY


def _worked_out(use: Use, template: Template, versions: list[Template]) -> Strength:
    if use.fenced:
        return Strength.CHECKED
    if any(
        len(read.parts) <= len(template.parts) and may_overlap(read, template) for read in versions
    ):
        return Strength.VERSION
    return Strength.ADVISORY


def _may_write(template: Template, key: str) -> bool:
    """Whether `template` may yield `key`, or a shorter one while not all of it was known."""
    if template.may_yield(key):
        return True
    count = key.count("/") + 1
    shorter = Template("", (), template.parts[:count])
    return count < len(template.parts) and shorter.may_yield(key)


def _weaker(one: Strength, other: Strength) -> Strength:
    return max(one, other, key=_WEAKEST_LAST.__getitem__)


def _example(template: Template) -> str:
    """Return a key that `template` may yield, as far as it has literals to go by."""
    return "/".join(f"{p.before}x{p.after}" if p.name else p.before for p in template.parts)

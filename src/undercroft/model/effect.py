"""What a step may do to the world: modes, claims on resource keys, and the effect made of them.

Keeps: an effect that nobody declared counts as the strongest one.
Leaves to the conflicts layer: what a key template means and which claims may run together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Mode(StrEnum):
    """How a step uses a resource, from weakest to strongest."""

    PEEK = "peek"
    READ = "read"
    APPEND = "append"
    WRITE = "write"
    EXCLUSIVE = "exclusive"

    @property
    def changes(self) -> bool:
        """Whether this mode may change the resource."""
        return self in _CHANGING


_CHANGING = frozenset({Mode.APPEND, Mode.WRITE, Mode.EXCLUSIVE})


@dataclass(frozen=True, slots=True)
class Claim:
    """A mode on a resource: `key` is a template when declared, a path when rendered."""

    mode: Mode
    key: str

    def __str__(self) -> str:
        return f"{self.mode} {self.key}"


@dataclass(frozen=True, slots=True)
class Effect:
    """All claims of a step.

    Attributes:
        claims: In the order in which they were declared.
        declared: False where the author said nothing, which counts as exclusive.
        changes: Whether the step may change the world, and so needs a durable intent.
    """

    claims: tuple[Claim, ...] = ()
    declared: bool = True
    changes: bool = field(init=False)

    def __post_init__(self) -> None:
        changes = not self.declared or any(claim.mode.changes for claim in self.claims)
        object.__setattr__(self, "changes", changes)

    def keys(self, *modes: Mode) -> tuple[str, ...]:
        """Return the keys that are claimed in one of `modes`."""
        return tuple(claim.key for claim in self.claims if claim.mode in modes)


class Strength(StrEnum):
    """How a lapsed owner of a resource is kept from writing to it, from strongest to weakest."""

    CHECKED = "checked"
    VERSION = "version"
    DELAY = "delay"
    ADVISORY = "advisory"


PURE = Effect()
UNDECLARED = Effect(declared=False)

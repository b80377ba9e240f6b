"""What the runtime can put into a tool's parameters, hidden from the model; and what it hides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

T = TypeVar("T")


class SecretMark:
    """Says of an annotation that its values are never written down."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret"


SECRET: Final = SecretMark()
# `uc.Secret[str]`: of a parameter, a field or a result. The function gets the value itself; in the
# journal stands a keyed hash of it.
Secret = Annotated[T, SECRET]


class IdempotencyKey(str):
    """Stands for one effect of one turn; the same again when that effect is repeated."""

    __slots__ = ()


class Fence(int):
    """A number that only grows over the life of a journal; a later owner's is larger.

    A resource that remembers the largest fence it saw can refuse a writer who lapsed.
    Source: Kleppmann, "Designing Data-Intensive Applications", ch. 8, fencing tokens.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the step must have returned, on the clock of the event loop.

    Attributes:
        at_s: Loop time, or infinity where there is no limit.
        remaining_s: Seconds left when the step began.
    """

    at_s: float
    remaining_s: float


@dataclass(frozen=True, slots=True)
class TurnInfo:
    """Where a step stands, for logs and headers of the tool's own."""

    turn_id: str
    step_id: str
    session: str | None
    attempt: int


class Missing(Mapping[str, str]):
    """Steps that a step uses and that are absent: by name, why, in words.

    True where anything is missing; `str` names it for a reader.
    """

    __slots__ = ("_why",)

    def __init__(self, why: Mapping[str, str] | None = None) -> None:
        self._why = dict(why or {})

    def __getitem__(self, name: str) -> str:
        return self._why[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._why)

    def __len__(self) -> int:
        return len(self._why)

    def __repr__(self) -> str:
        return f"Missing({self._why!r})"

    def __str__(self) -> str:
        return "; ".join(f"{name}: {why}" for name, why in self._why.items())


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's word on a gate.

    Attributes:
        granted: False never reaches a step: what depends on a rejected gate does not run.
        required: False where the gate itself said that nobody need be asked.
        by: Who said so; empty where nobody was asked.
        at: Seconds since 1970.
    """

    granted: bool
    required: bool = True
    by: str = ""
    at: float = 0.0
    reason: str = ""

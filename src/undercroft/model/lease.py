"""Ownership of resources across turns and processes, as a store grants or denies it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wrote:
    """Who changed a resource last, as the journal knows it.

    Attributes:
        position: Journal position of the outcome, or of the moment it was found cut off.
        turn_id: The turn that did.
        dirty: Whether that turn was cut off in the middle of a write.
    """

    key: str
    position: int
    turn_id: str
    dirty: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """A lease that was taken over from a turn whose process died or fell silent."""

    key: str
    turn_id: str
    dirty: bool


@dataclass(frozen=True, slots=True)
class Granted:
    """The intent is written, and the turn owns what it asked for.

    Attributes:
        position: Journal position of the intent, which is also the fence: it only grows.
        owned: Keys that the turn did not own before.
        wrote: What others did last to those keys and to what overlaps with them.
        taken: Whose leases were taken over.
    """

    position: int
    owned: tuple[str, ...] = ()
    wrote: tuple[Wrote, ...] = ()
    taken: tuple[Taken, ...] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """Another turn owns one of the resources; nothing was written.

    Attributes:
        key: Of the owner's lease.
        owner: Id of the turn that owns it.
        runtime: Number of the process that runs it.
        beat: Grows for as long as that process is alive and well.
        lease_s: Seconds without a beat after which the lease may be taken over.
        dead: Whether the process is known to have ended; its leases may be taken over at once.
    """

    key: str
    owner: str
    runtime: int
    beat: int
    lease_s: float
    dead: bool = False

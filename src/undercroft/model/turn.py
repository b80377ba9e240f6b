"""A turn as a list shows it: one row, without its events."""

from __future__ import annotations

from dataclasses import dataclass

from undercroft.model.outcome import TurnStatus


@dataclass(frozen=True, slots=True)
class TurnHead:
    """The row of a turn.

    Attributes:
        status: `running` also where the process died; `held` tells the two apart.
        began_at: Seconds since 1970.
        ended_at: Of its end or of its last parking; None while it runs.
        held: Whether a live process is running it now.
    """

    turn_id: str
    kind: str
    target: str
    session: str | None
    status: TurnStatus
    began_at: float
    ended_at: float | None = None
    held: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """The turn is this process's to run; `frames` is its journal so far, up to `position`."""

    num: int
    frames: list[bytes]
    position: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """A live process is running the turn; `holder` names it for people."""

    holder: str


@dataclass(frozen=True, slots=True)
class Over:
    """The turn has ended and will not run again."""

    frames: list[bytes]


@dataclass(frozen=True, slots=True)
class Told:
    """What an exporter is told of a turn that ended, parked or stopped.

    Attributes:
        frames: All that is committed of it so far, redacted, in the order in which it was noted.
        new_from: How many of them are of earlier lives.
    """

    turn_id: str
    frames: tuple[bytes, ...]
    new_from: int = 0

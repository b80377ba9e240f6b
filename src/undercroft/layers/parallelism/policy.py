"""How much of a turn may be in flight at once."""

from __future__ import annotations

from dataclasses import dataclass

from undercroft.errors import SettingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps on what runs at the same time.

    Attributes:
        turn_max: Steps of one turn in flight; at least 1.
    """

    turn_max: int = 64

    def __post_init__(self) -> None:
        if self.turn_max < 1:
            raise SettingError("turn_max", self.turn_max, "at least 1")

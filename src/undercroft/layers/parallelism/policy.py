"""How much may be in flight at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from undercroft.errors import SettingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps on what runs at the same time.

    Attributes:
        turn_max: Steps of one turn in flight; at least 1.
        services: By name of a service, its steps in flight, of all turns of the runtime
            together; at least 1 each.
        service_max: For services that are not named; None for no limit.
    """

    turn_max: int = 64
    services: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    service_max: int | None = None

    def __post_init__(self) -> None:
        if self.turn_max < 1:
            raise SettingError("turn_max", self.turn_max, "at least 1")
        if self.service_max is not None and self.service_max < 1:
            raise SettingError("service_max", self.service_max, "at least 1, or None")
        for name, limit in self.services.items():
            if limit < 1:
                raise SettingError(f"services[{name!r}]", limit, "at least 1")

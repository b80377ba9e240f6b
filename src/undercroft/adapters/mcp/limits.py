"""How much of what a server sends is taken in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from undercroft.errors import SettingError


@dataclass(frozen=True, slots=True, kw_only=True)
class McpLimits:
    """How much of what a server sends is taken in; each at least 1.

    Attributes:
        result_bytes: Of one result, as JSON; what is longer is cut, and says so.
        message_bytes: Of one message; what is longer is not read, and its call fails.
        tools_max: How many tools a server may list.
        description_chars: Of a tool's description; the rest is cut off.
        schema_bytes: Of the schema of a tool's arguments, as JSON.
    """

    result_bytes: int = 1 << 20
    message_bytes: int = 16 << 20
    tools_max: int = 500
    description_chars: int = 8_192
    schema_bytes: int = 1 << 18

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value: Any = getattr(self, name)
            if type(value) is not int or value < 1:
                raise SettingError(name, value, "a whole number, at least 1")


LIMITS = McpLimits()

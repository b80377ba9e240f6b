"""What a lint says of a declaration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Whether it would go wrong, or only might."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is missing or wrong in a declaration.

    Attributes:
        rule: `layer.reason`, stable.
        place: The tool, step or workflow concerned.
        mend: What to write instead.
    """

    rule: str
    severity: Severity
    place: str
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message} {self.mend} [{self.rule}]"

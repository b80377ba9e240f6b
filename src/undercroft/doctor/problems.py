"""What could not be read, in words for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be read.

    Attributes:
        place: The file, and the line or element of it where that is known.
        problem: What is the matter, without a final stop.
        mend: What to do, as whole sentences; empty where nothing can be done.
    """

    place: str
    problem: str
    mend: str = ""

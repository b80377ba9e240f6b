"""In which call of which guest this code runs: so that a loop within a call knows of that.

An agent that a tool runs is a loop of its own within a call of another one: it works on behalf
of that call, as a branch of the same turn.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, NamedTuple


class Inside(NamedTuple):
    """A call that is being carried out.

    Attributes:
        run: The life of the guest.
        lead: The line that asked for it.
        slot: The call.
    """

    run: Any
    lead: Any
    slot: Any


INSIDE: ContextVar[Inside | None] = ContextVar("undercroft_inside", default=None)

"""What a user declares about order: what must come before a call, and who must agree to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallRules:
    """The rules that a proposed call of one tool must meet.

    Attributes:
        tool: Its name.
        needs: Names of tools that must have succeeded in this turn for the same arguments.
        shared: By needed tool, the parameters that both have.
        read_first: Whether a write needs a read of the same resource in this turn, where
            some tool of the turn reads it.
        approval: Whether a person must agree before it runs.
        expires_s: Seconds for which that word counts; for ever if None.
    """

    tool: str
    needs: tuple[str, ...] = ()
    shared: tuple[tuple[str, ...], ...] = ()
    read_first: bool = True
    approval: bool = False
    expires_s: float | None = None

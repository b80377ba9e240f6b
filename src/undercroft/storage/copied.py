"""A turn copied out of a journal, into one in memory: to be run once more, and harm nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import TurnHead
from undercroft.storage.memory import MemoryJournal, MemoryStore

TURNS_MAX = 1 << 40


class Source(Protocol):
    """What is read of the journal that is copied from."""

    def frames(self, turn_id: str) -> list[bytes] | None:
        """Return the committed frames of a turn, in order; None where there is none."""

    def heads(self, *, session: str | None = None, limit: int = 100) -> list[TurnHead]:
        """Return turns, newest first."""


def copied(source: Source, turn_id: str, head: TurnHead, frames: Sequence[bytes]) -> MemoryStore:
    """Return a store with a turn that can be taken up, and the other turns of its session.

    Args:
        source: Where those are.
        turn_id: The turn.
        head: Its row.
        frames: As much of it as the copy is to hold.
    """
    journal = MemoryJournal()
    heads = [head]
    if head.session is not None:
        heads = list(reversed(source.heads(session=head.session, limit=TURNS_MAX)))
    for num, one in enumerate(heads, 1):
        mine = one.turn_id == turn_id
        taken = list(frames) if mine else source.frames(one.turn_id) or []
        status = TurnStatus.STOPPED if mine else one.status
        # Of turns that somebody runs right now, this is all that is known.
        row = replace(one, status=status, held=False, ended_at=None if mine else one.ended_at)
        journal.put(num, row, taken)
    return MemoryStore(journal)

"""What the journals that tests leave behind prove to have gone wrong: nothing.

Keeps: the offline checker is asked, which knows only what is written and by whom.
"""

from pathlib import Path
from typing import Final

from undercroft.engine.audit import audit_events, audit_frames
from undercroft.layers.conflicts.anomalies import Anomaly
from undercroft.queries import list_turns, read_events
from undercroft.storage.memory import MemoryStore

_SHOWN_MAX: Final = 5


def anomalies(journal: MemoryStore | Path) -> list[Anomaly]:
    """Return what a journal proves; one in a file may hold one turn at most."""
    if isinstance(journal, MemoryStore):
        turns = journal.journal.turns.items()
        return audit_frames(
            sorted((at, num, data) for num, turn in turns for at, data in turn.frames)
        )
    path = str(journal)
    turn_ids = [head.turn_id for head in list_turns(path)]
    # Events of one turn are in the order of the journal; of several, nobody tells here.
    assert len(turn_ids) <= 1
    return audit_events([(turn, event) for turn in turn_ids for event in read_events(path, turn)])


def check_journal(journal: MemoryStore | Path) -> None:
    """No journal proves that steps were in each other's way, or rested on what was not so."""
    found = anomalies(journal)
    assert not found, found[:_SHOWN_MAX]

"""What the journals that tests leave behind prove to have gone wrong: nothing.

Keeps: whatever is said is said by what is written: by the order of each turn's own events, and
by the offline checker.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from undercroft.engine.audit import audit_events
from undercroft.layers.conflicts.anomalies import Anomaly
from undercroft.model.event import AnyEvent, StepEnded, StepStarted, decode_frames
from undercroft.model.step import StepStatus
from undercroft.queries import list_turns, read_events
from undercroft.storage.memory import MemoryStore

_SHOWN_MAX: Final = 5


def events_of(journal: MemoryStore | Path) -> Iterator[tuple[str, AnyEvent]]:
    """Yield (turn, event) in the order of the journal; one in a file may hold one turn at most."""
    if isinstance(journal, MemoryStore):
        turns = journal.journal.turns.values()
        frames = [(at, turn.head.turn_id, data) for turn in turns for at, data in turn.frames]
        for _, turn_id, data in sorted(frames):
            yield from ((turn_id, event) for event in decode_frames([data]))
        return
    path = str(journal)
    turn_ids = [head.turn_id for head in list_turns(path)]
    # Events of one turn are in the order of the journal; of several, nobody tells here.
    assert len(turn_ids) <= 1
    for turn_id in turn_ids:
        yield from ((turn_id, event) for event in read_events(path, turn_id))


def anomalies(journal: MemoryStore | Path) -> list[Anomaly]:
    """Return what a journal proves to have gone wrong between its steps."""
    return audit_events(events_of(journal))


def check_journal(journal: MemoryStore | Path) -> None:
    """No journal proves that steps were in each other's way, or ended before they began."""
    begun: set[tuple[str, int]] = set()
    for turn, event in events_of(journal):
        if isinstance(event, StepStarted):
            begun.add((turn, event.n))
        elif isinstance(event, StepEnded) and event.status is not StepStatus.REFUSED:
            assert (turn, event.n) in begun, event
    found = anomalies(journal)
    assert not found, found[:_SHOWN_MAX]

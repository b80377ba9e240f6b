"""The read side, shared by every face: turns, traces, answers and services from a journal on disk.

Reading never runs anything, takes no turn over and needs no runtime. The one thing that is written
here is a person's word on a service, which the processes that call it follow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from undercroft.engine.audit import audit_frames
from undercroft.engine.traces import trace_of
from undercroft.errors import TurnNotFoundError
from undercroft.layers.breakers.board import BoardRow, decode_gauges, rows, storable
from undercroft.layers.conflicts.anomalies import Anomaly
from undercroft.layers.context.story import tell
from undercroft.layers.context.story_rows import Story
from undercroft.layers.observability.answers import Answers, answer
from undercroft.model.circuit import CLOSED, FORCED_OPEN, OBSERVE_ONLY, CircuitChanged
from undercroft.model.event import AnyEvent, TurnStarted, decode_frames
from undercroft.model.outcome import TurnStatus
from undercroft.model.trace import Trace
from undercroft.model.turn import TurnHead
from undercroft.storage.circuits import order
from undercroft.storage.read import SqliteReader, open_reader

# What a person may say of a service, with the state and the reason that are recorded.
ORDERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "force-open": (FORCED_OPEN, "forced"),
        "force-closed": (OBSERVE_ONLY, "forced"),
        "reset": (CLOSED, "reset"),
    }
)

# More than any session has.
_TURNS_MAX = 1 << 40


def list_turns(
    path: str,
    *,
    statuses: tuple[TurnStatus, ...] = (),
    session: str | None = None,
    limit: int = 50,
) -> list[TurnHead]:
    """Return turns of the journal at `path`, newest first.

    Raises:
        StoreError: It cannot be read.
    """
    with open_reader(path) as reader:
        return reader.heads(statuses=statuses, session=session, limit=limit)


def unfinished_turns(path: str) -> list[str]:
    """Return the ids of turns that could be resumed, oldest first."""
    with open_reader(path) as reader:
        return reader.unfinished()


def read_events(path: str, turn_id: str) -> list[AnyEvent]:
    """Return the events of a turn as they were written.

    Args:
        path: Of the journal.
        turn_id: The turn's id or an unambiguous beginning of it; `last` for the newest turn.

    Raises:
        TurnNotFoundError: There is no such turn, or more than one.
        StoreError: The journal cannot be read.
    """
    with open_reader(path) as reader:
        found = reader.matching(turn_id)
        if len(found) != 1:
            problem = "there is no such turn" if not found else f"{len(found)} turns begin so"
            raise TurnNotFoundError(turn_id, problem, "List them: undercroft turns.")
        return decode_frames(reader.frames(found[0]) or [])


def read_trace(path: str, turn_id: str) -> Trace:
    """Return the record of a turn; arguments and errors as `read_events`."""
    trace = trace_of(read_events(path, turn_id))
    if trace is None:
        raise TurnNotFoundError(turn_id, "its journal is empty", "List turns: undercroft turns.")
    return trace


def read_context(path: str, name: str) -> Story:
    """Return what the window of a session held, from its first turn to its last.

    Args:
        path: Of the journal.
        name: Of the session; or as of `read_events`, a turn, which stands for its session.

    Raises:
        TurnNotFoundError: There is no such session, and no such turn.
        StoreError: The journal cannot be read.
    """
    with open_reader(path) as reader:
        ids, session = _turns_of(reader, name), name
        if not ids:
            found = reader.matching(name)
            if len(found) != 1:
                none = "there is no such session, and no such turn"
                problem = none if not found else f"{len(found)} turns begin so"
                raise TurnNotFoundError(name, problem, "List them: undercroft turns.")
            events = _events_of(reader, found[0])
            named = next((e.session for e in events if isinstance(e, TurnStarted)), None)
            if named is None:
                return tell(None, [events])
            ids, session = _turns_of(reader, named), named
        return tell(session, (_events_of(reader, turn_id) for turn_id in ids))


def _turns_of(reader: SqliteReader, session: str) -> list[str]:
    """Return the ids of all turns of a session, oldest first."""
    heads = reader.heads(session=session, limit=_TURNS_MAX)
    return [head.turn_id for head in reversed(heads)]


def _events_of(reader: SqliteReader, turn_id: str) -> list[AnyEvent]:
    return decode_frames(reader.frames(turn_id) or [])


def audit_journal(path: str) -> list[Anomaly]:
    """Return what the turns of a journal did to each other that they must not.

    Lost updates, stale writes, writes by a turn that was not the owner, conflicting steps that
    nothing ordered, and turns that no order explains. The whole journal is read.

    Raises:
        StoreError: The journal cannot be read.
    """
    with open_reader(path) as reader:
        return audit_frames(reader.all_frames())


def six_answers(trace: Trace) -> Answers:
    """Return the six answers about a turn."""
    return answer(trace)


def read_services(path: str) -> list[BoardRow]:
    """Return how every service stands that was called on the journal at `path`, by name.

    Figures are those of live processes, up to a second old.

    Raises:
        StoreError: The journal cannot be read.
    """
    with open_reader(path) as reader:
        return rows(decode_gauges(reader.gauges()), reader.circuits())


def read_transitions(
    path: str, service: str | None = None, *, limit: int = 50
) -> list[CircuitChanged]:
    """Return the last transitions of breakers, of one service or of all, oldest first.

    Raises:
        StoreError: The journal cannot be read.
    """
    with open_reader(path) as reader:
        return [stored.change for stored in reader.circuit_history(service, limit=limit)]


def order_service(
    path: str, service: str, what: str, *, by: str, reason: str = ""
) -> tuple[CircuitChanged, bool]:
    """Say that calls to a service must stop, must go through, or are to be counted anew.

    Live processes follow within a second, others when they begin.

    Args:
        path: Of the journal.
        service: Its name; one that nobody called yet may be named too.
        what: `force-open`, `force-closed` or `reset`.
        by: Who says so, for the record.
        reason: Why, for the record.

    Returns:
        What is recorded now, and whether it was not so before.

    Raises:
        StoreError: There is no such journal, or it cannot be written.
    """
    now, why = ORDERS[what]
    change = CircuitChanged(
        storable(service),
        CLOSED,
        now,
        why,
        time.time(),
        by=storable(by),
        reason=storable(reason),
    )
    last, written = order(path, change)
    if last is None:
        return change, written
    if not written:
        return last.change, written
    return msgspec.structs.replace(change, was=last.change.now), written

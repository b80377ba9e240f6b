"""The read side, shared by every face: turns, traces, answers and services from a journal on disk.

Reading never runs anything, takes no turn over and needs no runtime. The one thing that is written
here is a person's word on a service, which the processes that call it follow.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, zip_longest
from types import MappingProxyType
from typing import TypeGuard

import msgspec

from undercroft.adapters.models.bodies import body_of
from undercroft.adapters.tokens import counter
from undercroft.engine.audit import audit_frames
from undercroft.engine.prompts import Journal, Prompt, prompt_of, told_policy
from undercroft.engine.traces import trace_of
from undercroft.errors import TurnNotFoundError, UndercroftError
from undercroft.layers.breakers.board import BoardRow, decode_gauges, rows, storable
from undercroft.layers.conflicts.anomalies import Anomaly
from undercroft.layers.context.counting import Counter, Estimate
from undercroft.layers.context.policy import ContextPolicy
from undercroft.layers.context.story import tell
from undercroft.layers.context.story_rows import Story
from undercroft.layers.observability.answers import Answers, answer
from undercroft.layers.observability.diff import TurnDiff, compare
from undercroft.layers.observability.search import Search
from undercroft.layers.observability.sessions import (
    SessionRow,
    SessionStory,
    TurnFacts,
    facts_of,
    row_of,
    story_of,
)
from undercroft.model.circuit import CLOSED, FORCED_OPEN, OBSERVE_ONLY, OPEN, CircuitChanged
from undercroft.model.event import (
    NIL_BYTES,
    AnyEvent,
    ContextOpened,
    StepStarted,
    TurnStarted,
    decode_frames,
)
from undercroft.model.message import Message
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import MODEL
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
# Of so many prompts that may differ, the first that does is looked for.
_PROMPTS_MAX = 20
_TRANSITIONS_MAX = 10_000


def list_turns(  # noqa: PLR0913  what there is to narrow a list by
    path: str,
    *,
    statuses: tuple[TurnStatus, ...] = (),
    session: str | None = None,
    since: float | None = None,
    until: float | None = None,
    service: str | None = None,
    text: str | None = None,
    limit: int = 50,
) -> list[TurnHead]:
    """Return turns of the journal at `path`, newest first.

    Args:
        path: Of the journal.
        statuses: Only turns that stand like one of these; all if empty.
        session: Only turns of this one.
        since: Only turns that began at this time or later, in seconds since 1970.
        until: Only turns that began before.
        service: Only turns that called it. This one and the next read the turns themselves,
            newest first, until there are enough.
        text: Only turns that say so, in any case: in inputs, arguments, results, errors, or what
            the user was told.
        limit: At most so many.

    Raises:
        StoreError: It cannot be read.
    """
    with open_reader(path) as reader:
        found = reader.each_head(
            statuses=statuses,
            session=session,
            since=since,
            until=until,
            limit=limit if service is None and text is None else -1,
        )
        if service is None and text is None:
            return list(found)
        search = Search(text, service)
        return list(
            islice((h for h in found if search.finds(reader.frames(h.turn_id) or [])), limit)
        )


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
        return _events_of(reader, _one_turn(reader, turn_id))


def _one_turn(reader: SqliteReader, turn_id: str) -> str:
    """Return the whole id of the turn that is meant."""
    found = reader.matching(turn_id)
    if len(found) != 1:
        problem = "there is no such turn" if not found else f"{len(found)} turns begin so"
        raise TurnNotFoundError(turn_id, problem, "List them: undercroft turns.")
    return found[0]


def read_trace(path: str, turn_id: str) -> Trace:
    """Return the record of a turn; arguments and errors as `read_events`."""
    return read_turn(path, turn_id)[1]


def read_turn(path: str, turn_id: str) -> tuple[list[AnyEvent], Trace]:
    """Return the events of a turn and its record; arguments and errors as `read_events`."""
    events = read_events(path, turn_id)
    trace = trace_of(events)
    if trace is None:
        raise TurnNotFoundError(turn_id, "its journal is empty", "List turns: undercroft turns.")
    return events, trace


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


def read_prompt(
    path: str, turn_id: str, n: int, *, events: Sequence[AnyEvent] | None = None
) -> Prompt | None:
    """Return what step number `n` of a turn sent to a model; None where it asked none.

    It is rebuilt from the journal alone, from this turn and those before it in its session, and
    checked against the fingerprint that was written down when it was sent.

    Args:
        path: Of the journal.
        turn_id: As of `read_events`.
        n: Number of the step within the turn.
        events: Of the turn, if they were read already.

    Raises:
        TurnNotFoundError: There is no such turn, or more than one.
        StoreError: The journal cannot be read.
    """
    with open_reader(path) as reader:
        if events is None:
            events = _events_of(reader, _one_turn(reader, turn_id))
        policies = partial(_policy_event, reader, events)
        return prompt_of(reader, events, n, policies=policies, counter=_counter, bodies=body_of)


def policy_of(source: Journal, turn_id: str, opened: ContextOpened) -> ContextPolicy | None:
    """Return the context policy that a turn ran under; None where the journal does not say.

    Args:
        source: The journal, open.
        turn_id: The turn.
        opened: What the turn wrote down of it: the settings, or only their hash where an earlier
            turn of the session had told them.
    """
    events = decode_frames(source.frames(turn_id) or [])
    return told_policy(opened, partial(_policy_event, source, events))


def _policy_event(source: Journal, events: Iterable[AnyEvent], policy: str) -> ContextOpened | None:
    """Return where a session was told the settings of a policy, looking back from its end."""
    session = next((e.session for e in events if isinstance(e, TurnStarted)), None)
    heads = [] if session is None else source.heads(session=session, limit=_TURNS_MAX)
    told = (e for head in heads for e in decode_frames(source.frames(head.turn_id) or []))
    return next((e for e in chain(events, told) if _says(e, policy)), None)


def _says(event: AnyEvent, policy: str) -> TypeGuard[ContextOpened]:
    """Whether an event tells the settings of a policy."""
    return (
        isinstance(event, ContextOpened)
        and event.policy == policy
        and bytes(event.settings) != NIL_BYTES
    )


def _counter(vocabulary: str) -> Counter | None:
    """Return what counts in a vocabulary; None where that is not installed, or not ours."""
    if vocabulary == Estimate.name:
        return Estimate()
    try:
        return counter(vocabulary)
    except (ImportError, UndercroftError):
        return None


@dataclass(frozen=True, slots=True)
class PromptDiff:
    """The first prompt in which two turns differ.

    Attributes:
        place: Of the pair of steps that sent it.
        where: What differs first, in words.
        message: Place of the first message that differs; None where the messages are the same.
        a: What stands there in the first turn; None where nothing does.
        b: What stands there in the second.
    """

    place: int
    where: str
    message: int | None = None
    a: str | None = None
    b: str | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """Two turns beside each other.

    Attributes:
        prompt: The first prompt in which they differ; None: in none that both sent.
    """

    a: Trace
    b: Trace
    diff: TurnDiff
    prompt: PromptDiff | None = None

    @property
    def same(self) -> bool:
        """Whether they did the same, to the same end."""
        return self.diff.same and self.prompt is None


def compare_turns(path: str, first: str, second: str) -> Compared:
    """Return what two turns of a journal did differently; arguments and errors as `read_events`."""
    (events_a, a), (events_b, b) = (read_turn(path, name) for name in (first, second))
    diff = compare(a, b)
    sent_a, sent_b = _sent(events_a), _sent(events_b)
    asked = [
        (place, pair.a.n, pair.b.n)
        for place, pair in enumerate(diff.pairs)
        if pair.a is not None and pair.b is not None and pair.a.kind == pair.b.kind == MODEL
    ]
    # A fingerprint stands for all that the turn had said by then, and not for earlier turns.
    doubtful = asked[:1] + [one for one in asked[1:] if sent_a.get(one[1]) != sent_b.get(one[2])]
    for place, n_a, n_b in doubtful[:_PROMPTS_MAX]:
        found = _prompt_diff(
            place,
            read_prompt(path, a.turn_id, n_a, events=events_a),
            read_prompt(path, b.turn_id, n_b, events=events_b),
        )
        if found is not None:
            return Compared(a, b, diff, found)
    return Compared(a, b, diff)


def _sent(events: Iterable[AnyEvent]) -> dict[int, bytes]:
    """Return the fingerprints of prompts, by step."""
    return {e.n: e.fp for e in events if isinstance(e, StepStarted) and e.kind == MODEL}


def _prompt_diff(place: int, a: Prompt | None, b: Prompt | None) -> PromptDiff | None:
    """Return the first thing in which two prompts differ."""
    if a is None or b is None:
        return None
    for at, (x, y) in enumerate(zip_longest(a.messages, b.messages)):
        if x != y:
            return PromptDiff(place, f"message {at}", at, _message_text(x), _message_text(y))
    if a.tools is not None and b.tools is not None and a.tools != b.tools:
        names = [", ".join(tool.name for tool in tools) for tools in (a.tools, b.tools)]
        return PromptDiff(place, "the tools on offer", None, *names)
    if a.model != b.model:
        return PromptDiff(place, "the model", None, a.model, b.model)
    return None


def _message_text(message: Message | None) -> str | None:
    if message is None:
        return None
    whose = message.role if not message.name else f"{message.role} {message.name}"
    given = [msgspec.json.encode(call.arguments, enc_hook=str).decode() for call in message.calls]
    called = zip(message.calls, given, strict=True)
    calls = [f"→ {call.name} {text}" for call, text in called]
    return " ".join([f"{whose}:", *([message.content] if message.content else []), *calls])


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


def list_sessions(path: str, *, limit: int = 20) -> list[SessionRow]:
    """Return sessions of the journal at `path`, the one with the newest turn first.

    Raises:
        StoreError: It cannot be read.
    """
    with open_reader(path) as reader:
        opened = _opened(reader)
        names = reader.sessions(limit=limit)
        return [row_of(name, _facts(reader, name, opened)) for name in names]


def read_session(path: str, name: str) -> SessionStory:
    """Return one session: its turns, and what changed since the last good one.

    Raises:
        TurnNotFoundError: There is no such session.
        StoreError: The journal cannot be read.
    """
    with open_reader(path) as reader:
        facts = _facts(reader, name, _opened(reader))
        if not facts:
            raise TurnNotFoundError(
                name, "there is no such session", "List them: undercroft sessions."
            )
        return story_of(name, facts)


def _opened(reader: SqliteReader) -> list[CircuitChanged]:
    """Return the last transitions of breakers by which one opened."""
    history = reader.circuit_history(limit=_TRANSITIONS_MAX)
    return [stored.change for stored in history if stored.change.now == OPEN]


def _facts(reader: SqliteReader, session: str, opened: Sequence[CircuitChanged]) -> list[TurnFacts]:
    """Return what is told of the turns of a session, oldest first."""
    heads = reader.heads(session=session, limit=_TURNS_MAX)
    return [facts_of(head, _events_of(reader, head.turn_id), opened) for head in reversed(heads)]

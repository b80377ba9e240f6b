"""From a journal to the history of what its turns did to resources, for the offline checker.

Keeps: no order is made up. Two operations are in order, or at the same time, only where the
journal proves it; so a journal of a correct run has no anomaly, however late it was written.
Leaves to `layers/conflicts/audit.py`: what is wrong with a history.

There are two orders, and every operation carries its interval in both.

**The clock of one process.** Ticks grow with each begin and end of a step in it, so between
operations of one process they are exact.

**The journal,** which all processes share; a place in it is 2 for every event before. It orders
commits, not steps: an event is recorded after it happened, a read's possibly much later. So an
operation carries the last place that is known to have been committed before it had an effect
(`since`) and the first that is known to have been committed after (`until`):

- what changes something had its intent committed first, so `since` is the place of the intent;
- whatever happened in a process by tick t came before the commit of any event of a later tick;
- and after the commit of every intent whose step had ended by tick t, since that step waited
  for it, and after all that a turn had recorded when it was taken up there.

Across processes, two writes were at the same time where neither outcome was committed before
the intent of the other; by the rules of ownership that never is.

What no process counted, in journals of older versions, has the places of its own turn for a
clock: a turn notes its events as they happen.
"""

from __future__ import annotations

import gc
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import NamedTuple

from undercroft.layers.conflicts.anomalies import Anomaly
from undercroft.layers.conflicts.audit import ANOMALIES_MAX, audit
from undercroft.layers.conflicts.history import (
    GivenUp,
    Handed,
    Operation,
    Rechecked,
    Record,
    TakenOver,
)
from undercroft.layers.conflicts.versions import version_of
from undercroft.model.effect import Mode
from undercroft.model.event import (
    NIL_BYTES,
    AnyEvent,
    ApprovalVoided,
    DoubtSettled,
    HandedOver,
    ResourceOwned,
    StepEnded,
    StepStarted,
    TurnEnded,
    TurnParked,
    TurnResumed,
    TurnStarted,
    TurnStopped,
    VersionChecked,
    decode_frames,
)
from undercroft.model.step import StepStatus

TurnKey = int | str


def audit_frames(
    frames: Iterable[tuple[int, TurnKey, bytes]], *, anomalies_max: int = ANOMALIES_MAX
) -> list[Anomaly]:
    """Return what the frames of a journal prove to have gone wrong between its turns.

    Args:
        frames: All of a journal as (position, number or id of the turn, data), by position.
        anomalies_max: How many of each rule are reported; at least 1.

    Raises:
        msgspec.DecodeError: A frame is not what this version writes.
    """
    events = ((turn, event) for _, turn, data in frames for event in decode_frames((data,)))
    return audit_events(events, anomalies_max=anomalies_max)


def audit_events(
    events: Iterable[tuple[TurnKey, AnyEvent]], *, anomalies_max: int = ANOMALIES_MAX
) -> list[Anomaly]:
    """Return what events prove to have gone wrong; they come as (turn, event) in journal order."""
    with _uncollected():
        return audit(history_of(events), anomalies_max=anomalies_max)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leave out the search for rings of garbage: millions of values are kept, and none is one."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def history_of(events: Iterable[tuple[TurnKey, AnyEvent]]) -> list[Record]:
    """Return what events tell of resources: operations in the order of their begins, and marks."""
    return _Reader(events).records()


class _Row(NamedTuple):
    """One attempt at a step, before its interval in the journal is known.

    Attributes:
        clock: Number of the runtime; below 0 where an older journal does not say.
        begin: By that clock; likewise `end`, which is None where it was cut off.
        place: Of its begin in the journal.
        until: Of its end.
        floor: All that lies before this place was committed when it began.
    """

    turn: str
    started: StepStarted
    clock: int
    begin: int
    end: int | None
    place: int
    until: int | None
    floor: int
    ok: bool
    version: str = ""
    source: str = ""


class _Turn:
    """A turn as far as it has been read."""

    def __init__(self, key: TurnKey, number: int) -> None:
        self.id, self.number = str(key), number
        self.runtime = 0
        self.floor = 0
        # Steps under way: their begins, and where those stand.
        self.open: dict[int, tuple[StepStarted, int]] = {}
        # Steps of which it is not known whether they took effect, as places of their rows.
        self.doubts: dict[int, list[int]] = {}
        self.rechecks: dict[int, int] = {}

    def clock(self, tick: int) -> int:
        """Return by which clock an event with this tick was timed."""
        if not tick:
            return -2 * self.number - 1
        return self.runtime or -2 * self.number - 2


class _Reader:
    """Reads events in journal order."""

    def __init__(self, events: Iterable[tuple[TurnKey, AnyEvent]]) -> None:
        self._turns: dict[TurnKey, _Turn] = {}
        self._rows: list[_Row] = []
        self._marks: list[tuple[int, Record]] = []
        for place, (key, event) in zip(_even(), events, strict=False):
            turn = self._turns.get(key)
            if turn is None:
                turn = self._turns[key] = _Turn(key, len(self._turns))
            match event:
                case StepStarted():
                    self._started(turn, event, place)
                case StepEnded():
                    self._ended(turn, event, place)
                case _:
                    self._take(turn, event, place)
        for turn in self._turns.values():
            self._cut_off(turn)

    def _take(self, turn: _Turn, event: AnyEvent, place: int) -> None:  # noqa: C901  a case an event
        match event:
            case TurnStarted():
                turn.id, turn.runtime = event.turn_id, event.runtime
            case TurnResumed():
                self._cut_off(turn)
                turn.runtime, turn.floor = event.runtime, place - 1
            case TurnStopped() | TurnParked() | TurnEnded():
                self._cut_off(turn)
                self._marks.append((place, GivenUp(turn.id, place)))
            case ResourceOwned(taken_from=source) if source:
                # Taken over before the write that it was for, whatever was noted first.
                at = turn.open[event.n][1] - 1 if event.n in turn.open else place
                self._marks.append((at, TakenOver(turn.id, event.keys, source, at)))
            case HandedOver():
                handed = Handed(turn.id, event.key, event.giver, event.taker, place)
                self._marks.append((place, handed))
            case VersionChecked():
                self._rechecked(turn, event, place)
            case ApprovalVoided() if event.n in turn.rechecks:
                # It is asked again, so the last answer forbids the step no more.
                index = turn.rechecks.pop(event.n)
                at, mark = self._marks[index]
                if isinstance(mark, Rechecked):
                    again = Rechecked(
                        mark.turn, mark.keys, mark.same, 0, at, mark.runtime, mark.tick
                    )
                    self._marks[index] = (at, again)
            case DoubtSettled(applied=False):
                for index in turn.doubts.pop(event.n, ()):
                    self._rows[index] = self._rows[index]._replace(ok=False)
            case _:
                pass  # says nothing of resources

    def _started(self, turn: _Turn, event: StepStarted, place: int) -> None:
        if event.n in turn.open:
            self._close(turn, event.n, None, place)
        if event.claims:
            turn.open[event.n] = (event, place)

    def _ended(self, turn: _Turn, event: StepEnded, place: int) -> None:
        if event.n in turn.open:
            self._close(turn, event.n, event, place)

    def _cut_off(self, turn: _Turn) -> None:
        for n in list(turn.open):
            self._close(turn, n, None, 0)

    def _close(self, turn: _Turn, n: int, ended: StepEnded | None, place: int) -> None:
        """Add the row of an attempt that ended, or was cut off."""
        started, since = turn.open.pop(n)
        clock = turn.clock(started.tick)
        begin = started.tick or since
        end, until, version, source = None, None, "", ""
        if ended is not None:
            ok = ended.status is StepStatus.OK
            end, until = (ended.tick if started.tick else place) or None, place
            if ok and any(mode == Mode.READ for mode, _ in started.claims):
                version, source = _version(started, ended)
        else:
            ok = False
        if started.changes and (ended is None or ended.status is StepStatus.IN_DOUBT):
            ok = True
            turn.doubts.setdefault(n, []).append(len(self._rows))
        self._rows.append(
            _Row(turn.id, started, clock, begin, end, since, until, turn.floor, ok, version, source)
        )

    def _rechecked(self, turn: _Turn, event: VersionChecked, place: int) -> None:
        turn.rechecks[event.n] = len(self._marks)
        clock = turn.clock(event.tick)
        mark = Rechecked(
            turn.id, event.keys, event.same, event.n, place, clock, event.tick or place
        )
        self._marks.append((place, mark))

    # ------------------------------------------------------------------ the order of the journal

    def records(self) -> list[Record]:
        """Return the operations of all rows, and the marks, in the order of their begins."""
        clocks: dict[int, list[_Row]] = {}
        for row in self._rows:
            clocks.setdefault(row.clock, []).append(row)
        bounds = {clock: _Bounds(rows) for clock, rows in clocks.items()}
        placed = self._marks
        for row in self._rows:
            placed += _operations(row, bounds[row.clock])
        placed.sort(key=_place)
        return [record for _, record in placed]


class _Bounds:
    """What the journal proves of the time of a clock's ticks."""

    def __init__(self, rows: list[_Row]) -> None:
        # By tick, where it was recorded; and what had been committed by then.
        told: list[tuple[int, int]] = []
        known: list[tuple[int, int]] = [(-1, 0)]
        floor = 0
        for row in rows:
            told.append((row.begin, row.place))
            if row.floor != floor:
                floor = row.floor
                known.append((row.begin, floor))
            if row.end is not None and row.until is not None:
                told.append((row.end, row.until))
                if row.started.changes:
                    known.append((row.end, row.place))
        told.sort()
        known.sort()
        self._told = [tick for tick, _ in told]
        self._known = [tick for tick, _ in known]
        places = [place for _, place in reversed(told)]
        self._first = list(accumulate(places, min))[::-1]
        self._last = list(accumulate((place for _, place in known), max))

    def since(self, tick: int) -> int:
        """Return a place that was committed before the tick."""
        return self._last[bisect_right(self._known, tick) - 1]

    def until(self, tick: int) -> int:
        """Return a place that was committed after the tick; there is one."""
        return self._first[bisect_left(self._told, tick)]


def _operations(row: _Row, bounds: _Bounds) -> Iterator[tuple[int, Record]]:
    """Yield the operations of a row, one for each claim."""
    started = row.started
    since = row.place if started.changes else bounds.since(row.begin)
    until = None if row.end is None else max(since, bounds.until(row.end))
    for mode, key in started.claims:
        reads = mode == Mode.READ
        yield (
            row.place,
            Operation(
                row.turn,
                started.n,
                started.name,
                mode,
                key,
                row.begin,
                row.end,
                row.ok,
                started.branch,
                row.clock,
                row.version if reads else "",
                row.source if reads else "",
                since,
                until,
            ),
        )


def _version(started: StepStarted, ended: StepEnded) -> tuple[str, str]:
    """Return what a read saw, and what such versions can be compared with.

    A hash says something only beside that of the same question; what a tool calls a version
    says something of the resource itself.
    """
    if ended.version:
        return ended.version, started.name
    args = bytes(started.args)
    if not started.fp and args == NIL_BYTES:
        return "", ""  # the input is named by causes, and may have been any
    asked = started.fp.hex() or version_of(None, args)
    return version_of(None, bytes(ended.value)), f"{started.name} {asked}"


def _even() -> Iterator[int]:
    place = 0
    while True:
        place += 2
        yield place


def _place(placed: tuple[int, Record]) -> int:
    return placed[0]

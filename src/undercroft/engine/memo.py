"""What a journal holds of a turn, arranged for going on with it.

Keeps: a recorded step is found by its name and the fingerprint of its input, never by its
position, so branches that finish in another order still meet their own results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from undercroft.errors import ReplayError
from undercroft.model.event import (
    AnyEvent,
    ApprovalAsked,
    ApprovalDecided,
    ApprovalVoided,
    AttemptReserved,
    AttemptSpent,
    CallsProposed,
    ContextCompacted,
    ContextOpened,
    DoubtSettled,
    StepEnded,
    StepRetried,
    StepStarted,
    TurnEnded,
    TurnParked,
    TurnResumed,
    TurnStarted,
)
from undercroft.model.step import StepStatus, step_id


@dataclass(slots=True)
class Record:
    """All that was recorded of one step."""

    n: int
    name: str
    fp: bytes
    causes: tuple[int, ...] = ()
    attempts: int = 0
    started: StepStarted | None = None
    asked: ApprovalAsked | None = None
    decided: ApprovalDecided | None = None
    voided: ApprovalVoided | None = None
    settled: DoubtSettled | None = None
    ended: StepEnded | None = None
    # Whether its last attempt failed for sure and no other was begun.
    resting: bool = False

    @property
    def in_doubt(self) -> bool:
        """Whether it is a write that began and of which no end is known."""
        begun = self.ended is None and self.started is not None and not self.resting
        return begun and self.started is not None and self.started.changes

    @property
    def waiting(self) -> bool:
        """Whether it waits for a person's word."""
        return self.asked is not None and self.decided is None and self.ended is None


@dataclass(slots=True)
class Memo:
    """The records of one turn."""

    started: TurnStarted | None = None
    over: TurnEnded | None = None
    # What its prompts are assembled under; and by step, what was done to the window before it.
    context: ContextOpened | None = None
    compacted: dict[int, list[ContextCompacted]] = field(default_factory=dict)
    parked: TurnParked | None = None
    lives: int = 1
    records: dict[int, Record] = field(default_factory=dict)
    # What attempts spent; and by step, what was set aside for one of which no end is known.
    spent: list[AttemptSpent] = field(default_factory=list)
    reserved: dict[int, AttemptReserved] = field(default_factory=dict)
    # The same of earlier lives: these attempts were cut off.
    abandoned: list[AttemptReserved] = field(default_factory=list)
    # By the provider's id, the numbers of the calls that had it.
    called: dict[str, list[int]] = field(default_factory=dict)
    _by_key: dict[tuple[str, bytes], deque[Record]] = field(default_factory=dict)
    _left: int = 0

    @property
    def last_n(self) -> int:
        """The largest number of any step."""
        return max(self.records, default=0)

    def take(self, name: str, fp: bytes) -> Record | None:
        """Return the next record of that step and forget it; None where there is none."""
        queue = self._by_key.get((name, fp))
        if not queue:
            return None
        self._left -= 1
        return queue.popleft()

    def holds(self, name: str, fp: bytes) -> bool:
        """Whether there is a record of that step that nobody has taken yet."""
        return bool(self._by_key.get((name, fp)))

    @property
    def left(self) -> int:
        """How many records nobody has taken yet."""
        return self._left

    def first_left(self) -> Record | None:
        """Return the earliest record that nobody has taken yet."""
        heads = [queue[0] for queue in self._by_key.values() if queue]
        return min(heads, key=lambda record: record.n, default=None)

    def forget(self) -> None:
        """Take every record for asked for: whoever goes on looks for them in another way."""
        self._by_key, self._left = {}, 0

    def index(self) -> None:
        """Make every record available to `take`, in the order of their numbers."""
        self._by_key = {}
        for n in sorted(self.records):
            record = self.records[n]
            self._by_key.setdefault((record.name, record.fp), deque()).append(record)
        self._left = len(self.records)


def recall(events: Iterable[AnyEvent]) -> Memo:  # noqa: C901  one case an event
    """Return what `events` of one turn amount to."""
    memo = Memo()
    for event in events:
        match event:
            case TurnStarted():
                memo.started = event
            case TurnResumed():
                memo.lives += 1
                memo.parked = None
                memo.abandoned += memo.reserved.values()
                memo.reserved.clear()
            case TurnParked():
                memo.parked = event
            case TurnEnded():
                memo.over = event
            case ContextOpened():
                memo.context = event
            case ContextCompacted():
                memo.compacted.setdefault(event.n, []).append(event)
            case AttemptReserved():
                memo.reserved[event.n] = event
            case AttemptSpent():
                memo.spent.append(event)
                memo.reserved.pop(event.n, None)
            case CallsProposed():
                _recall_calls(memo.called, event)
            case _:
                _recall_step(memo.records, event)
    memo.index()
    return memo


def _recall_calls(called: dict[str, list[int]], event: CallsProposed) -> None:
    for n, call_id in zip(event.steps, event.ids, strict=True):
        called.setdefault(call_id, []).append(n)


def _recall_step(records: dict[int, Record], event: AnyEvent) -> None:
    match event:
        case StepStarted():
            record = records.setdefault(event.n, Record(event.n, event.name, event.fp))
            record.started, record.causes = event, event.causes
            record.attempts += 1
            record.resting = False
            # Begun once more: what was said of the last attempt is no word on this one.
            record.settled = None
        case StepRetried():
            record = records[event.n]
            record.resting = event.rests
            record.attempts = event.attempt + (not event.rests)
        case StepEnded(status=StepStatus.IN_DOUBT):
            pass  # says why there is a doubt, and ends nothing
        case StepEnded():
            record = records.setdefault(event.n, Record(event.n, event.name, event.fp))
            record.ended = event
        case ApprovalAsked():
            record = records.setdefault(event.n, Record(event.n, event.name, event.fp))
            record.asked = event
        case ApprovalVoided():
            records[event.n].voided, records[event.n].decided = event, None
        case ApprovalDecided():
            records[event.n].decided = event
        case DoubtSettled():
            records[event.n].settled = event
        case _:
            pass  # events of the turn itself


def diverged(turn_id: str, memo: Memo, asked: str) -> ReplayError:
    """Return what to say of code that asks for something else than the journal holds."""
    record = memo.first_left()
    name = record.name if record is not None else ""
    recorded = step_id(name, record.n) if record is not None else "nothing"
    if not asked:
        did = "returned without asking for it"
    elif asked == name:
        did = f"asks for {asked!r} with other arguments"
    else:
        did = f"asks for {asked!r}"
    return ReplayError(
        turn_id,
        f"step {recorded!r} is recorded here, but the handler {did}",
        "Resume it with the code that it began with, or start a new turn.",
        name,
    )

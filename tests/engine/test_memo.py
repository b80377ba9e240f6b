"""A recorded step is found by its name and input, and never by its position."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from undercroft.engine.memo import recall
from undercroft.model.event import (
    NIL,
    AnyEvent,
    ApprovalAsked,
    ApprovalDecided,
    DoubtSettled,
    StepEnded,
    StepRetried,
    StepStarted,
    TurnEnded,
    TurnParked,
    TurnResumed,
    TurnStarted,
    TurnStopped,
)
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import Failure, StepStatus

STEPS = st.lists(
    st.tuples(st.sampled_from(["get", "send", "model"]), st.sampled_from([b"", b"1", b"2"])),
    max_size=8,
)


def raw(value: Any) -> msgspec.Raw:
    """Return a value as events carry it."""
    return msgspec.Raw(msgspec.msgpack.encode(value))


def started(n: int, name: str, fp: bytes = b"", *, changes: bool = False) -> StepStarted:
    """Return the begin of a step."""
    return StepStarted(n, name, "tool", 1.0, changes, fp)


@given(STEPS, st.data())
def test_a_step_is_found_in_whatever_order_it_is_asked_for(
    steps: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    """Branches that come back in another order each meet their own records, each once.

    Of equal ones the earliest comes first.
    """
    events: list[AnyEvent] = [started(n, name, fp) for n, (name, fp) in enumerate(steps, 1)]
    memo = recall(events)
    assert memo.left == len(steps)
    assert memo.last_n == len(steps)
    taken: list[int] = []
    for name, fp in data.draw(st.permutations(steps)):
        first = memo.first_left()
        assert first is not None
        assert first.n == min(set(range(1, len(steps) + 1)) - set(taken))
        record = memo.take(name, fp)
        assert record is not None
        assert (record.name, record.fp) == (name, fp)
        assert not [n for n in taken if n > record.n and steps[n - 1] == (name, fp)]
        taken.append(record.n)
        assert memo.left == len(steps) - len(taken)
    assert sorted(taken) == list(range(1, len(steps) + 1))
    assert memo.first_left() is None


@given(STEPS, st.sampled_from(["get", "send", "nobody"]), st.sampled_from([b"", b"1", b"9"]))
def test_what_was_not_recorded_is_not_found(
    steps: list[tuple[str, bytes]], name: str, fp: bytes
) -> None:
    """A step is found as often as it was recorded with that very input, and no more."""
    memo = recall([started(n, *step) for n, step in enumerate(steps, 1)])
    found = 0
    while memo.take(name, fp) is not None:
        found += 1
    assert found == Counter(steps)[name, fp]
    assert memo.left == len(steps) - found


def test_a_record_gathers_all_that_was_said_of_a_step() -> None:
    """Begin, attempts, questions, words and end of a step stand in one record."""
    asked = ApprovalAsked(1, "send", 1.0, b"fp", raw({"to": "ada"}))
    decided = ApprovalDecided(1, granted=True, by="ada", at=2.0)
    begun = StepStarted(1, "send", "tool", 3.0, changes=True, fp=b"fp", causes=(7,))
    ended = StepEnded(1, StepStatus.OK, 0.5, raw("sent"))
    retried = StepRetried(1, 1, 4.0, 0.1, Failure("ValueError", "bad"))
    memo = recall([asked, decided, begun, retried, ended])
    record = memo.take("send", b"fp")
    assert record is not None
    assert (record.asked, record.decided, record.started, record.ended) == (
        asked,
        decided,
        begun,
        ended,
    )
    assert (record.attempts, record.causes) == (2, (7,))
    assert not record.waiting
    assert not record.in_doubt


def test_a_question_without_a_word_waits() -> None:
    """Who was asked about and not decided waits for a person, until it is decided or ended."""
    asked = ApprovalAsked(1, "send", 1.0, b"", NIL)
    decided = ApprovalDecided(1, granted=False, by="ada", at=2.0)
    ended = StepEnded(1, StepStatus.REFUSED, 0.0)
    assert recall([asked]).records[1].waiting
    assert not recall([asked, decided]).records[1].waiting
    assert not recall([asked, ended]).records[1].waiting


def test_a_write_without_an_end_is_in_doubt() -> None:
    """Only a write that began and did not end is in doubt; a read is simply done again."""
    end = StepEnded(1, StepStatus.OK, 0.5)
    assert recall([started(1, "send", changes=True)]).records[1].in_doubt
    assert not recall([started(1, "send", changes=True), end]).records[1].in_doubt
    assert not recall([started(1, "get")]).records[1].in_doubt
    assert not recall([ApprovalAsked(1, "send", 1.0, b"", NIL)]).records[1].in_doubt


def test_a_word_on_an_attempt_is_no_word_on_the_next() -> None:
    """Once a write is begun again, what was said of it before says nothing any more."""
    settled = DoubtSettled(1, None, "key", "", 2.0)
    begun = started(1, "send", changes=True)
    assert recall([begun, settled]).records[1].settled == settled
    again = recall([begun, settled, begun]).records[1]
    assert again.settled is None
    assert again.attempts == 2
    assert again.in_doubt


def test_a_refused_call_is_recorded_by_what_it_asked() -> None:
    """A step that ended without a begin is found like any other."""
    end = StepEnded(1, StepStatus.REFUSED, 0.0, name="get", fp=b"1", args=raw({"id": 7}))
    memo = recall([end])
    record = memo.take("get", b"1")
    assert record is not None
    assert record.ended == end
    assert record.started is None


def test_the_turn_itself_is_recalled() -> None:
    """How a turn began, how many lives it had, and how the last one ended, are known."""
    begun = TurnStarted("t-1", "handler", "shop:assist", b"", raw({}), None, 1.0)
    parked = TurnParked(TurnStatus.WAITING, (1,), 2.0)
    ended = TurnEnded(TurnStatus.DONE, 4.0)
    assert recall([]).started is None
    waiting = recall([begun, parked])
    assert (waiting.started, waiting.parked, waiting.lives, waiting.over) == (
        begun,
        parked,
        1,
        None,
    )
    resumed = recall([begun, parked, TurnResumed(2, 3.0)])
    assert (resumed.parked, resumed.lives) == (None, 2)
    stopped = recall([begun, TurnStopped("closed", 3.0), TurnResumed(2, 3.0), ended])
    assert (stopped.over, stopped.lives, stopped.left, stopped.last_n) == (ended, 2, 0, 0)

"""What was written can be read, by this version and by those to come."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.model.event import (
    NIL,
    NIL_BYTES,
    AnyEvent,
    ApprovalAsked,
    ApprovalDecided,
    ApprovalVoided,
    AttemptReserved,
    AttemptSpent,
    CallsProposed,
    ContextAlarmed,
    ContextCompacted,
    ContextLeft,
    ContextOpened,
    ContextScored,
    DoubtSettled,
    HandedOver,
    PromptAssembled,
    ResourceOwned,
    SecretsSealed,
    StepEnded,
    StepRetried,
    StepStarted,
    StepWaited,
    TurnDelivered,
    TurnEnded,
    TurnParked,
    TurnResumed,
    TurnStarted,
    TurnStopped,
    VersionChecked,
    decode_frames,
    encode_frame,
)
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import ErrorClass, Failure, Refusal, StepStatus

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(0, 2**40)
TIMES = st.floats(allow_nan=False)
BYTES = st.binary(max_size=16)
PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | TEXT | BYTES
BODIES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.integers(-9, 9), inner, max_size=3)
    ),
    max_leaves=6,
).map(lambda value: msgspec.Raw(msgspec.msgpack.encode(value)))
FAILURES = st.builds(Failure, TEXT, TEXT, st.sampled_from(ErrorClass), TEXT)
REFUSALS = st.builds(Refusal, TEXT, TEXT, TEXT, st.dictionaries(TEXT, PLAIN, max_size=2))
MANY = st.lists(NUMBERS, max_size=3).map(tuple)
TEXTS = st.lists(TEXT, max_size=2).map(tuple)
CLAIMS = st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple)

EVENTS: dict[type, st.SearchStrategy[Any]] = {
    TurnStarted: st.builds(
        TurnStarted, TEXT, TEXT, TEXT, BYTES, BODIES, st.none() | TEXT, TIMES, NUMBERS
    ),
    TurnResumed: st.builds(TurnResumed, NUMBERS, TIMES),
    StepStarted: st.builds(
        StepStarted,
        NUMBERS,
        TEXT,
        TEXT,
        TIMES,
        st.booleans(),
        BYTES,
        MANY,
        CLAIMS,
        BODIES,
        NUMBERS,
        TEXT,
        NUMBERS,
    ),
    StepWaited: st.builds(StepWaited, NUMBERS, TIMES, TEXT, TEXT),
    StepRetried: st.builds(StepRetried, NUMBERS, NUMBERS, TIMES, TIMES, FAILURES, st.booleans()),
    StepEnded: st.builds(
        StepEnded,
        NUMBERS,
        st.sampled_from(StepStatus),
        TIMES,
        BODIES,
        st.none() | FAILURES,
        st.none() | REFUSALS,
        TEXT,
        BYTES,
        BODIES,
        TIMES,
        NUMBERS,
        TEXT,
        MANY,
        TEXT,
        TEXT,
    ),
    CallsProposed: st.builds(
        CallsProposed,
        MANY,
        st.lists(TEXT, max_size=3).map(tuple),
        st.lists(TEXT, max_size=3).map(tuple),
        TIMES,
    ),
    ApprovalAsked: st.builds(
        ApprovalAsked,
        NUMBERS,
        TEXT,
        TIMES,
        BYTES,
        BODIES,
        MANY,
        CLAIMS,
        TEXT,
        st.none() | TIMES,
    ),
    ApprovalVoided: st.builds(ApprovalVoided, NUMBERS, TEXT, TIMES, BODIES),
    ResourceOwned: st.builds(
        ResourceOwned, NUMBERS, TEXTS, NUMBERS, TEXTS, TIMES, TEXT, st.booleans()
    ),
    VersionChecked: st.builds(
        VersionChecked, NUMBERS, TEXTS, st.booleans(), TEXT, TIMES, TIMES, NUMBERS
    ),
    AttemptReserved: st.builds(
        AttemptReserved, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS
    ),
    AttemptSpent: st.builds(
        AttemptSpent, NUMBERS, TEXT, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.none() | NUMBERS
    ),
    HandedOver: st.builds(HandedOver, TEXT, TEXT, TEXT, TIMES),
    ApprovalDecided: st.builds(ApprovalDecided, NUMBERS, st.booleans(), TEXT, TIMES, TEXT),
    DoubtSettled: st.builds(
        DoubtSettled, NUMBERS, st.none() | st.booleans(), TEXT, TEXT, TIMES, BODIES
    ),
    ContextOpened: st.builds(
        ContextOpened,
        NUMBERS,
        TEXT,
        TIMES,
        BODIES,
        TEXT,
        TEXT,
        st.lists(st.tuples(TEXT, NUMBERS), max_size=2).map(tuple),
    ),
    PromptAssembled: st.builds(
        PromptAssembled,
        NUMBERS,
        NUMBERS,
        NUMBERS,
        MANY,
        st.lists(st.tuples(NUMBERS, NUMBERS, TEXT), max_size=2).map(tuple),
        st.lists(st.tuples(NUMBERS, NUMBERS, TEXT), max_size=2).map(tuple),
        NUMBERS,
        st.booleans(),
        st.integers(-1, 99),
        TEXT,
    ),
    ContextCompacted: st.builds(
        ContextCompacted,
        NUMBERS,
        TEXT,
        NUMBERS,
        NUMBERS,
        NUMBERS,
        TIMES,
        st.lists(st.tuples(NUMBERS, TEXT, NUMBERS, NUMBERS, TEXT, TEXT), max_size=2).map(tuple),
        TEXT,
        BODIES,
        TEXT,
        TEXT,
        TEXT,
        MANY,
        NUMBERS,
    ),
    ContextLeft: st.builds(ContextLeft, BODIES, TIMES),
    ContextScored: st.builds(
        ContextScored,
        st.integers(-1, 99),
        st.integers(-1, 99),
        st.lists(TIMES, max_size=5).map(tuple),
        NUMBERS,
        TIMES,
    ),
    ContextAlarmed: st.builds(ContextAlarmed, NUMBERS, st.integers(-1, 99), TIMES, TEXT, TIMES),
    TurnParked: st.builds(TurnParked, st.sampled_from(TurnStatus), MANY, TIMES, TEXTS),
    TurnStopped: st.builds(TurnStopped, TEXT, TIMES),
    TurnDelivered: st.builds(TurnDelivered, TEXT, TIMES, TEXT),
    SecretsSealed: st.builds(
        SecretsSealed, st.lists(st.tuples(TEXT, BYTES, st.booleans()), max_size=2).map(tuple)
    ),
    TurnEnded: st.builds(
        TurnEnded,
        st.sampled_from(TurnStatus),
        TIMES,
        BODIES,
        st.none() | NUMBERS,
        st.none() | FAILURES,
        st.lists(TEXT, max_size=2).map(tuple),
    ),
}
ANY = st.one_of(*EVENTS.values())


def told(event: Any) -> list[tuple[str, Any]]:
    """Return the fields of an event, bodies as their bytes, so that they can be compared."""
    return [
        (name, bytes(value) if isinstance(value, msgspec.Raw) else value)
        for name in event.__struct_fields__
        for value in [getattr(event, name)]
    ]


def test_every_event_is_tried() -> None:
    """No event was added without a test of what it writes."""
    assert set(EVENTS) == set(AnyEvent.__args__)


@given(st.lists(st.lists(ANY, max_size=4), max_size=3))
def test_events_come_back_as_they_were_written(frames: list[list[AnyEvent]]) -> None:
    """Events of all frames come back in order, of their own kinds, with their very bodies."""
    back = decode_frames([encode_frame(frame) for frame in frames])
    events = [event for frame in frames for event in frame]
    assert [type(event) for event in back] == [type(event) for event in events]
    assert [told(event) for event in back] == [told(event) for event in events]


@given(ANY, st.lists(PLAIN, min_size=1, max_size=3))
def test_a_newer_house_may_say_more(event: AnyEvent, more: list[Any]) -> None:
    """Fields that this version does not know, at the end of an event, do no harm."""
    parts = msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=list[msgspec.Raw])
    longer = encode_frame([[*parts, *more]])
    (back,) = decode_frames([longer])
    assert told(back) == told(event)


@given(ANY)
def test_an_older_house_said_less(event: AnyEvent) -> None:
    """Fields with a default may be missing at the end of an event, and have it then."""
    defaults = type(event).__struct_defaults__
    names = type(event).__struct_fields__
    parts = msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=list[msgspec.Raw])
    for missing in range(1, len(defaults) + 1):
        (back,) = decode_frames([encode_frame([parts[:-missing]])])
        kept = len(names) - missing
        assert told(back)[:kept] == told(event)[:kept]
        for name, default in zip(names[kept:], defaults[-missing:], strict=True):
            value = getattr(back, name)
            assert bytes(value) == NIL_BYTES if default is NIL else value == default


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_tags_and_fields_are_never_changed(kind: Any) -> None:
    """What stands in journals is found under its old name and in its old place."""
    assert (kind.__struct_config__.tag, *kind.__struct_fields__[: len(WRITTEN[kind]) - 1]) == (
        WRITTEN[kind]
    )
    # What comes later has a default, or older journals could not be read.
    assert len(kind.__struct_fields__) - len(kind.__struct_defaults__) <= len(WRITTEN[kind]) - 1


WRITTEN: dict[Any, tuple[str, ...]] = {
    TurnStarted: ("turn", "turn_id", "kind", "target", "code", "input", "session", "at", "runtime"),
    TurnResumed: ("resumed", "runtime", "at"),
    StepStarted: (
        *("start", "n", "name", "kind", "at", "changes", "fp", "causes", "claims", "args"),
        *("attempt", "branch", "tick"),
    ),
    StepWaited: ("waited", "n", "waited_s", "claim", "behind"),
    StepRetried: ("retry", "n", "attempt", "at", "wait_s", "error", "rests"),
    StepEnded: (
        *("end", "n", "status", "took_s", "value", "error", "refusal", "name", "fp", "args"),
        *("at", "tick", "version", "causes", "branch", "recorded_in"),
    ),
    CallsProposed: ("proposed", "steps", "names", "ids", "at"),
    ApprovalAsked: (
        *("asked", "n", "name", "at", "fp", "args", "causes", "versions", "journal"),
        "expires_at",
    ),
    ApprovalVoided: ("voided", "n", "why", "at", "changed"),
    ResourceOwned: (*("owned", "n", "keys", "fence", "strength", "at", "taken_from", "dirty"),),
    VersionChecked: ("checked", "n", "keys", "same", "why", "at", "took_s", "tick"),
    AttemptReserved: (
        "reserved",
        "n",
        "attempts",
        "time_us",
        "input_tokens",
        "output_tokens",
        "usd_nano",
    ),
    AttemptSpent: (
        "spent",
        "n",
        "service",
        "attempts",
        "time_us",
        "input_tokens",
        "output_tokens",
        "usd_nano",
    ),
    HandedOver: ("handed", "key", "giver", "taker", "at"),
    ApprovalDecided: ("decided", "n", "granted", "by", "at", "reason"),
    DoubtSettled: ("settled", "n", "applied", "how", "by", "at", "value"),
    ContextOpened: ("context", "turn", "policy", "at", "settings", "was", "vocabulary", "seen"),
    PromptAssembled: (
        *("prompt", "n", "tokens", "reserved", "sections", "new", "capped", "cached"),
        *("anchored", "score", "branch"),
    ),
    ContextCompacted: (
        *("compacted", "n", "why", "before", "after", "target", "at", "fates", "ledger"),
        *("summary", "failed", "short", "branch", "forgot", "summary_n"),
    ),
    ContextLeft: ("left", "entries", "at"),
    ContextScored: ("scored", "turn", "session", "parts", "seen", "at"),
    ContextAlarmed: ("alarm", "n", "score", "level", "why", "at"),
    TurnParked: ("parked", "status", "steps", "at", "missing"),
    TurnStopped: ("stopped", "why", "at"),
    TurnDelivered: ("delivered", "status", "at", "detail"),
    SecretsSealed: ("sealed", "values"),
    TurnEnded: ("ended", "status", "at", "value", "value_of", "error", "missing"),
}


@pytest.mark.parametrize(
    "frame",
    [
        *(b"", b"\xc1", b"garbage", msgspec.msgpack.encode({"a": 1}), msgspec.msgpack.encode([1])),
        msgspec.msgpack.encode([["nobody", 1]]),
        msgspec.msgpack.encode([["resumed", "text", 1.0]]),
        msgspec.msgpack.encode([["resumed"]]),
        encode_frame([TurnResumed(1, 2.0)])[:-1],
    ],
)
def test_what_is_no_frame_is_an_error(frame: bytes) -> None:
    """A frame that this version did not write is told, and never half read."""
    with pytest.raises(msgspec.DecodeError):
        decode_frames([encode_frame([TurnResumed(1, 2.0)]), frame])


@given(ANY)
def test_an_event_is_never_changed(event: AnyEvent) -> None:
    """What was written stays what it was."""
    with pytest.raises(AttributeError):
        setattr(event, event.__struct_fields__[0], None)

"""The facts that a journal holds, one class each; a turn is the list of its events.

Keeps: an event is never changed once written; new fields go last and have defaults, so
that a newer Undercroft reads older journals.
Encoding: msgpack arrays (compact, and NaN, bytes and integer keys survive). Bodies are
`msgspec.Raw`, decoded only by who asks for them.
Units: `at` is seconds since 1970 by the wall clock, for people; `took_s` is monotonic.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from undercroft.model.outcome import TurnStatus
from undercroft.model.step import Failure, Refusal, StepStatus

NIL_BYTES = b"\xc0"
NIL = msgspec.Raw(NIL_BYTES)


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Root of all events."""


class TurnStarted(Event, frozen=True, array_like=True, gc=False, tag="turn"):
    """A turn began: what it runs, on what input.

    Attributes:
        kind: `workflow` or `handler`.
        target: Import name of the code.
        code: Fingerprint of the graph, or of the handler's tools.
        input: The named arguments, encoded.
    """

    turn_id: str
    kind: str
    target: str
    code: bytes
    input: msgspec.Raw
    session: str | None
    at: float


class TurnResumed(Event, frozen=True, array_like=True, gc=False, tag="resumed"):
    """A process took the turn up again."""

    runtime: int
    at: float


class StepStarted(Event, frozen=True, array_like=True, gc=False, tag="start"):
    """A step began. Where it changes the world this is its intent, durable before it runs.

    Attributes:
        n: The step's number within the turn.
        kind: `step`, `tool`, `approval` or `model`.
        fp: Fingerprint of the input; empty where the input is named by `causes`.
        args: The arguments of a call, or the delta of a prompt.
        claims: Rendered claims as (mode, key).
        causes: Numbers of the steps whose results it uses.
        changes: Whether it may change the world.
        attempt: 1, and more where a doubt was settled by doing it again.
    """

    n: int
    name: str
    kind: str
    at: float
    changes: bool = False
    fp: bytes = b""
    causes: tuple[int, ...] = ()
    claims: tuple[tuple[str, str], ...] = ()
    args: msgspec.Raw = NIL
    attempt: int = 1


class StepRetried(Event, frozen=True, array_like=True, gc=False, tag="retry"):
    """An attempt failed and another follows after `wait_s`."""

    n: int
    attempt: int
    at: float
    wait_s: float
    error: Failure


class StepEnded(Event, frozen=True, array_like=True, gc=False, tag="end"):
    """A step came to its end; it never runs again, except out of doubt."""

    n: int
    status: StepStatus
    took_s: float
    value: msgspec.Raw = NIL
    error: Failure | None = None
    refusal: Refusal | None = None
    # Only for steps that never started, such as a refused call.
    name: str = ""
    fp: bytes = b""
    args: msgspec.Raw = NIL
    at: float = 0.0


class ApprovalAsked(Event, frozen=True, array_like=True, gc=False, tag="asked"):
    """A step waits for a person; `fp` is what the answer will be bound to."""

    n: int
    name: str
    at: float
    fp: bytes
    args: msgspec.Raw
    causes: tuple[int, ...] = ()


class ApprovalDecided(Event, frozen=True, array_like=True, gc=False, tag="decided"):
    """A person said yes or no; the first word counts."""

    n: int
    granted: bool
    by: str
    at: float
    reason: str = ""


class DoubtSettled(Event, frozen=True, array_like=True, gc=False, tag="settled"):
    """What became of a write whose outcome was unknown.

    Attributes:
        applied: Whether the write had happened; None where it is done again under its key.
        how: `verify`, `key` or `person`.
        by: The person, or the name of the verifying tool.
    """

    n: int
    applied: bool | None
    how: str
    by: str
    at: float
    value: msgspec.Raw = NIL


class TurnParked(Event, frozen=True, array_like=True, gc=False, tag="parked"):
    """Nothing more can run until somebody decides; `steps` are what it waits for."""

    status: TurnStatus
    steps: tuple[int, ...]
    at: float


class TurnStopped(Event, frozen=True, array_like=True, gc=False, tag="stopped"):
    """The process was told to stop; the turn can be resumed."""

    why: str
    at: float


class TurnEnded(Event, frozen=True, array_like=True, gc=False, tag="ended"):
    """The turn is over.

    Attributes:
        value: What the user was told, encoded; nil where it is the value of step `value_of`.
        missing: Optional steps that failed.
    """

    status: TurnStatus
    at: float
    value: msgspec.Raw = NIL
    value_of: int | None = None
    error: Failure | None = None
    missing: tuple[str, ...] = ()


AnyEvent = (
    TurnStarted
    | TurnResumed
    | StepStarted
    | StepRetried
    | StepEnded
    | ApprovalAsked
    | ApprovalDecided
    | DoubtSettled
    | TurnParked
    | TurnStopped
    | TurnEnded
)

encode_frame = msgspec.msgpack.Encoder().encode
_decode_frame = msgspec.msgpack.Decoder(list[AnyEvent]).decode


def decode_frames(frames: Iterable[bytes]) -> list[AnyEvent]:
    """Return the events of a turn's frames, in order.

    Raises:
        msgspec.DecodeError: A frame is not what this version writes.
    """
    return [event for frame in frames for event in _decode_frame(frame)]

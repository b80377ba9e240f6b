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
        kind: `workflow`, `handler`, or `guest`: the loop is somebody else's.
        target: Import name of the code.
        code: Fingerprint of the graph, or of the handler's tools.
        input: The named arguments, encoded.
        runtime: Number of the process that began it; 0 where an older one did not say.
        budget: What the turn may spend, if that was said of this one, encoded.
    """

    turn_id: str
    kind: str
    target: str
    code: bytes
    input: msgspec.Raw
    session: str | None
    at: float
    runtime: int = 0
    budget: msgspec.Raw = NIL


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
        branch: Name of the branch of the handler's code; empty for the turn itself.
        tick: Grows with every begin and end of a step in one process: of two ticks of one
            process, the smaller came first. 0 where an older journal did not count.
        service: What the attempt calls; empty where that has no name.
        breaker: State of that service's breaker when it let the attempt pass; empty where it
            was closed, or there is none.
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
    branch: str = ""
    tick: int = 0
    service: str = ""
    breaker: str = ""


class StepWaited(Event, frozen=True, array_like=True, gc=False, tag="waited"):
    """A step was ready and had to wait before it began.

    Attributes:
        claim: The claim of its own that kept it waiting, as `write crm/7`; or a limit, as
            `service crm`.
        behind: Id of the step of this turn, or id of the turn, that it waited for.
    """

    n: int
    waited_s: float
    claim: str
    behind: str


class AttemptReserved(Event, frozen=True, array_like=True, gc=False, tag="reserved"):
    """What an attempt of a step may spend was set aside, before it was begun.

    If no `AttemptSpent` follows, because the process died, it counts as spent.

    Attributes:
        time_us: Microseconds of calls under way.
        usd_nano: Money, in billionths of a dollar.
        body: Digest of the request's JSON body, where a budget limits the answer to
            `output_tokens`: it stands in the place of the `body` in what the step was given.
    """

    n: int
    attempts: int
    time_us: int
    input_tokens: int = 0
    output_tokens: int = 0
    usd_nano: int = 0
    body: str = ""


class AttemptSpent(Event, frozen=True, array_like=True, gc=False, tag="spent"):
    """What an attempt of a step did spend.

    Attributes:
        service: What was called; empty where that has no name.
        attempts: On the wire, those of a client library included.
        time_us: Microseconds of calls under way.
        usd_nano: Money, in billionths of a dollar; None where the price is not known.
    """

    n: int
    service: str
    attempts: int
    time_us: int
    input_tokens: int = 0
    output_tokens: int = 0
    usd_nano: int | None = None


class StepRetried(Event, frozen=True, array_like=True, gc=False, tag="retry"):
    """An attempt failed for sure, and another follows after `wait_s`.

    Attributes:
        rests: Whether that one says itself when it begins, as each attempt of a write does.
        breaker: State of the service's breaker after it; empty where it stayed closed, or
            there is none.
    """

    n: int
    attempt: int
    at: float
    wait_s: float
    error: Failure
    rests: bool = False
    breaker: str = ""


class StepEnded(Event, frozen=True, array_like=True, gc=False, tag="end"):
    """A step came to its end; it never runs again, except out of doubt.

    Attributes:
        tick: As of `StepStarted`.
        version: What a tool's `version=` made of the value; empty where there is none, and
            the fingerprint of the value stands for it.
        causes: As of `StepStarted`, where there is none; and so is `branch`.
        recorded_in: Where the call was carried out, as `turn/step`, if that was an earlier turn
            of the session, and its result was only given again.
    """

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
    tick: int = 0
    version: str = ""
    causes: tuple[int, ...] = ()
    branch: str = ""
    recorded_in: str = ""


class CallsProposed(Event, frozen=True, array_like=True, gc=False, tag="proposed"):
    """Calls were proposed to a loop of somebody else's, before any of them ran.

    Attributes:
        steps: Numbers of their steps, in the order of proposal.
        names: Of the tools.
        ids: The provider's ids of the calls; empty where there was none.
    """

    steps: tuple[int, ...]
    names: tuple[str, ...]
    ids: tuple[str, ...]
    at: float


class ApprovalAsked(Event, frozen=True, array_like=True, gc=False, tag="asked"):
    """A step waits for a person; `fp` is what the answer will be bound to.

    Attributes:
        versions: Of what the turn had read of the resources concerned, as (key, version).
        journal: Which copy of the journal the question stands in.
        expires_at: Seconds since 1970 after which a word on it counts for nothing, or None.
    """

    n: int
    name: str
    at: float
    fp: bytes
    args: msgspec.Raw
    causes: tuple[int, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    journal: str = ""
    expires_at: float | None = None


class ApprovalVoided(Event, frozen=True, array_like=True, gc=False, tag="voided"):
    """A word on a step counts for nothing any more, and a new `ApprovalAsked` follows.

    Attributes:
        why: `changed`, `expired` or `copied`.
        changed: What is not as the approver saw it: a list of [key, was, now], encoded.
    """

    n: int
    why: str
    at: float
    changed: msgspec.Raw = NIL


class ResourceOwned(Event, frozen=True, array_like=True, gc=False, tag="owned"):
    """The turn became the owner of resources, before its first write to them.

    Attributes:
        n: The step that writes.
        fence: The lease's token; a later owner's is larger.
        strength: By key, how a lapsed owner is kept out: `checked`, `version`, `delay` or
            `advisory`.
        taken_from: Id of the turn whose lease lapsed, or empty.
        dirty: Whether that turn was cut off in the middle of a write.
    """

    n: int
    keys: tuple[str, ...]
    fence: int
    strength: tuple[str, ...]
    at: float
    taken_from: str = ""
    dirty: bool = False


class VersionChecked(Event, frozen=True, array_like=True, gc=False, tag="checked"):
    """What the turn had read was read again before a write, since it might have changed.

    Attributes:
        n: The step that writes.
        keys: What was read again.
        same: Whether all of it was as the turn knew it; if not, the write is refused.
        why: Why it was in question: `written`, `dirty`, `resumed`, `version` or `approved`.
    """

    n: int
    keys: tuple[str, ...]
    same: bool
    why: str
    at: float
    took_s: float
    tick: int = 0


class HandedOver(Event, frozen=True, array_like=True, gc=False, tag="handed"):
    """A branch of the turn gave what it owns to another one; empty names are the turn itself."""

    key: str
    giver: str
    taker: str
    at: float


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


class ContextOpened(Event, frozen=True, array_like=True, gc=False, tag="context"):
    """A turn assembles its first prompt under a context policy.

    Attributes:
        turn: Number of the turn in its session, from 0: the first part of the ids of its items.
        policy: Hash of the policy.
        settings: The policy itself; nil where the session's turn before had the same.
        was: Hash of the policy before, where it has changed; else empty.
        vocabulary: Of what counts tokens.
        seen: Earlier turns of the session that were not over, as (id, frames): what they had
            come to is what this one knows of them.
        hidden: Marks of redacted values in earlier turns that this one did not know: they went
            to the model as they stand.
    """

    turn: int
    policy: str
    at: float
    settings: msgspec.Raw = NIL
    was: str = ""
    vocabulary: str = ""
    seen: tuple[tuple[str, int], ...] = ()
    hidden: tuple[str, ...] = ()


class PromptAssembled(Event, frozen=True, array_like=True, gc=False, tag="prompt"):
    """What a model is about to be sent, by weight: the part of a loss report that is new.

    What it does not name is as the prompt before had it.

    Attributes:
        n: The step that asks the model.
        tokens: Of the whole prompt, as counted.
        reserved: Kept free for the answer.
        sections: Tokens of the seven sections, in their order.
        new: Items that this prompt adds, as (id, tokens, kind).
        capped: Those of them that were cut when they arrived, as (id, tokens shown, handle).
        cached: Tokens of the prompt that the model was sent before, and might have cached.
        anchored: Whether `tokens` rests on what the provider reported last.
        score: Quality of the context, 0 to 100; -1 where too little is known.
        branch: Of the handler's code; empty for the turn itself.
    """

    n: int
    tokens: int
    reserved: int
    sections: tuple[int, ...]
    new: tuple[tuple[int, int, str], ...] = ()
    capped: tuple[tuple[int, int, str], ...] = ()
    cached: int = 0
    anchored: bool = False
    score: int = -1
    branch: str = ""


class ContextCompacted(Event, frozen=True, array_like=True, gc=False, tag="compacted"):
    """The window was made smaller before a prompt.

    Attributes:
        n: The step that asks the model; of a summary that came of it, see `summary`.
        why: `high_water`, or `overflow` where the prompt would not have fitted.
        before: Tokens of the prompt as it was.
        after: Tokens of it as it is.
        target: Tokens of the low-water mark.
        fates: What became of items, as (id, fate, tokens before, after, reason, handle).
        ledger: What the ledger reads from now on; empty where there is none.
        summary: The summary that was made, encoded; nil where none was.
        failed: Why a summary that was asked for was not used.
        short: Why the low-water mark was not reached; empty where it was.
        branch: Of the handler's code; empty for the turn itself.
        forgot: Ids of summaries that are shown no more.
        summary_n: The step that made the summary; 0 where none was asked for.
    """

    n: int
    why: str
    before: int
    after: int
    target: int
    at: float
    fates: tuple[tuple[int, str, int, int, str, str], ...] = ()
    ledger: str = ""
    summary: msgspec.Raw = NIL
    failed: str = ""
    short: str = ""
    branch: str = ""
    forgot: tuple[int, ...] = ()
    summary_n: int = 0


class ContextLeft(Event, frozen=True, array_like=True, gc=False, tag="left"):
    """What a turn said after its last prompt, when it ended or parked.

    Where more prompts of the turn follow, they say it, and this counts for nothing.

    Attributes:
        entries: As the delta of a prompt, encoded.
    """

    entries: msgspec.Raw
    at: float


class ContextScored(Event, frozen=True, array_like=True, gc=False, tag="scored"):
    """How good the context was, at the end of a turn or when it parks.

    Attributes:
        turn: Score of the turn, 0 to 100; -1 where too little was seen.
        session: Score of the session so far.
        parts: Support, liveness, repeats, re-asks and contradiction of the session, each 0 to
            1; -1 where nothing was seen.
        seen: Observations that the session's score rests on.
    """

    turn: int
    session: int
    parts: tuple[float, ...]
    seen: int
    at: float


class ContextAlarmed(Event, frozen=True, array_like=True, gc=False, tag="alarm"):
    """The quality of the context fell, and more than by chance.

    Attributes:
        n: The step that asks the model.
        score: Of the session, 0 to 100; -1 where too little is known.
        level: Of the detector, whose threshold is 1.
        why: What fell most, in words.
    """

    n: int
    score: int
    level: float
    why: str
    at: float


class TurnParked(Event, frozen=True, array_like=True, gc=False, tag="parked"):
    """Nothing more can run until somebody decides.

    Attributes:
        steps: What it waits for.
        missing: What it had to do without so far.
    """

    status: TurnStatus
    steps: tuple[int, ...]
    at: float
    missing: tuple[str, ...] = ()


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


class TurnDelivered(Event, frozen=True, array_like=True, gc=False, tag="delivered"):
    """The application says whether what the turn ended with reached the user.

    Of several, the last one counts.

    Attributes:
        status: `delivered` or `failed`.
        detail: How, or why not, in the application's words.
    """

    status: str
    at: float
    detail: str = ""


class SecretsSealed(Event, frozen=True, array_like=True, gc=False, tag="sealed"):
    """What was redacted in this frame, under the key of the journal.

    Attributes:
        values: As (hash in the mark, sealed value, whether it is looked for in every text).
    """

    values: tuple[tuple[str, bytes, bool], ...]


AnyEvent = (
    TurnStarted
    | TurnResumed
    | StepStarted
    | StepWaited
    | AttemptReserved
    | AttemptSpent
    | StepRetried
    | StepEnded
    | CallsProposed
    | ApprovalAsked
    | ApprovalVoided
    | ApprovalDecided
    | ResourceOwned
    | VersionChecked
    | HandedOver
    | DoubtSettled
    | ContextOpened
    | PromptAssembled
    | ContextCompacted
    | ContextLeft
    | ContextScored
    | ContextAlarmed
    | TurnParked
    | TurnStopped
    | TurnEnded
    | TurnDelivered
    | SecretsSealed
)

encode_frame = msgspec.msgpack.Encoder().encode
_decode_frame = msgspec.msgpack.Decoder(list[AnyEvent]).decode


def decode_frames(frames: Iterable[bytes]) -> list[AnyEvent]:
    """Return the events of a turn's frames, in order.

    Raises:
        msgspec.DecodeError: A frame is not what this version writes.
    """
    return [event for frame in frames for event in _decode_frame(frame)]

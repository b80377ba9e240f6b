"""A session told by its turns: outcomes, quality, spend, trips, refusals; and what changed.

Keeps: what is counted is what the journal says; where it says nothing, that is None or empty and
never nought. What changed is told as facts, with the turns concerned, and never as a cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from undercroft.model.circuit import CLOSED, OPEN, CircuitChanged
from undercroft.model.event import (
    AnyEvent,
    AttemptSpent,
    ContextCompacted,
    ContextOpened,
    ContextScored,
    StepEnded,
    StepRetried,
    StepStarted,
    TurnDelivered,
    TurnStarted,
)
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import MODEL
from undercroft.model.turn import TurnHead

# By so many points the quality may change without that being told.
QUALITY_DROP = 10
_LISTED_MAX = 20
_decode = msgspec.msgpack.Decoder().decode


class TurnFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a session is told of one of its turns.

    Attributes:
        code: Fingerprint of the code that ran, as hex.
        policy: Hash of the context policy; empty where there was none.
        model: Name of the model; empty where nobody said.
        tools: That were on offer with its first prompt; None where the journal does not say.
        services: That were called.
        usd: None where no price was known.
        quality: Of the session by then, 0 to 100; None where too little was seen.
        refusals: By rule, how often.
        errors: By type, how often a step failed with it.
        trips: By service, how often its breaker opened while the turn ran that called it.
        undelivered: Whether the application said that it did not reach the user.
    """

    turn_id: str
    target: str
    status: str
    began_at: float
    ended_at: float | None
    code: str = ""
    policy: str = ""
    model: str = ""
    tools: tuple[str, ...] | None = None
    services: tuple[str, ...] = ()
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None
    quality: int | None = None
    compactions: int = 0
    refusals: dict[str, int] = {}
    errors: dict[str, int] = {}
    trips: dict[str, int] = {}
    undelivered: bool = False

    @property
    def good(self) -> bool:
        """Whether it ended as it should."""
        return self.status == TurnStatus.DONE and not self.undelivered


class Fact(msgspec.Struct, frozen=True):
    """One thing that is not as it was at the last good turn.

    Attributes:
        what: `code`, `tools`, `policy`, `model`, `service`, `error`, `refusal`, `quality`,
            `delivery` or `outcome`.
        said: What, in words.
        turns: Ids of the turns concerned, oldest first.
    """

    what: str
    said: str
    turns: tuple[str, ...]


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A session as a list shows it.

    Attributes:
        outcomes: By status, how many turns stand like that.
        quality: Of the session after each turn that says it, oldest first.
        usd: None where no price was known.
        trips: By service, how often its breaker opened while a turn ran that called it.
    """

    session: str
    turns: int
    outcomes: dict[str, int]
    began_at: float
    last_at: float
    last_turn: str
    last_status: str
    quality: tuple[int, ...]
    attempts: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    trips: dict[str, int]
    refusals: dict[str, int]
    errors: dict[str, int]


class SessionStory(msgspec.Struct, frozen=True, kw_only=True):
    """A session with its turns, and what changed since the last good one.

    Attributes:
        last_good: Id of the last turn that ended as it should; empty where none did.
        changed: What is not as it was then; empty where that is the last turn.
    """

    row: SessionRow
    turns: tuple[TurnFacts, ...]
    last_good: str
    changed: tuple[Fact, ...]


def facts_of(  # noqa: C901  one case an event
    head: TurnHead, events: Iterable[AnyEvent], opened: Sequence[CircuitChanged] = ()
) -> TurnFacts:
    """Return what a session is told of a turn.

    Args:
        head: Of the turn.
        events: Of the turn.
        opened: Transitions of breakers, of any service and time.
    """
    code = policy = model = ""
    tools: tuple[str, ...] | None = None
    services: set[str] = set()
    spent, usd = [0, 0, 0], []
    quality: int | None = None
    compactions, undelivered = 0, False
    refusals: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for event in events:
        match event:
            case TurnStarted():
                code = event.code.hex()
            case ContextOpened():
                policy = event.policy
            case StepStarted():
                services |= {event.service} - {""}
                if event.kind == MODEL and event.name == MODEL and tools is None:
                    tools, model = _offered(event)
            case AttemptSpent():
                services |= {event.service} - {""}
                spent[0] += event.attempts
                spent[1] += event.input_tokens
                spent[2] += event.output_tokens
                usd += [] if event.usd_nano is None else [event.usd_nano]
            case StepRetried():
                errors[event.error.type] += 1
            case StepEnded():
                errors.update([event.error.type] if event.error is not None else [])
                refusals.update([event.refusal.rule] if event.refusal is not None else [])
            case ContextScored():
                quality = event.session if event.session >= 0 else quality
            case ContextCompacted():
                compactions += 1
            case TurnDelivered():
                undelivered = event.status == "failed"
            case _:
                pass
    return TurnFacts(
        turn_id=head.turn_id,
        target=head.target,
        status=str(head.status),
        began_at=head.began_at,
        ended_at=head.ended_at,
        code=code,
        policy=policy,
        model=model,
        tools=tools,
        services=tuple(sorted(services)),
        attempts=spent[0],
        input_tokens=spent[1],
        output_tokens=spent[2],
        usd=sum(usd) / 1e9 if usd else None,
        quality=quality,
        compactions=compactions,
        refusals=dict(sorted(refusals.items())),
        errors=dict(sorted(errors.items())),
        trips=_trips(head, services, opened),
        undelivered=undelivered,
    )


def _offered(event: StepStarted) -> tuple[tuple[str, ...] | None, str]:
    """Return the names of the tools that went with a prompt, and of the model."""
    said: Any = _decode(event.args)
    if not isinstance(said, dict) or "tools" not in said:
        return None, ""
    return tuple(sorted(str(tool[0]) for tool in said["tools"])), str(said.get("model", ""))


def _trips(head: TurnHead, services: set[str], opened: Sequence[CircuitChanged]) -> dict[str, int]:
    until = head.ended_at if head.ended_at is not None else float("inf")
    counts = Counter(
        change.service
        for change in opened
        if change.now == OPEN
        and change.was == CLOSED
        and change.service in services
        and head.began_at <= change.at <= until
    )
    return dict(sorted(counts.items()))


def row_of(session: str, turns: Sequence[TurnFacts]) -> SessionRow:
    """Return a session as a list shows it; `turns` are oldest first, and at least one."""
    known = [turn.usd for turn in turns if turn.usd is not None]
    return SessionRow(
        session=session,
        turns=len(turns),
        outcomes=dict(sorted(Counter(turn.status for turn in turns).items())),
        began_at=turns[0].began_at,
        last_at=turns[-1].ended_at or turns[-1].began_at,
        last_turn=turns[-1].turn_id,
        last_status=turns[-1].status,
        quality=tuple([turn.quality for turn in turns if turn.quality is not None]),
        attempts=sum(turn.attempts for turn in turns),
        input_tokens=sum(turn.input_tokens for turn in turns),
        output_tokens=sum(turn.output_tokens for turn in turns),
        usd=sum(known) if known else None,
        trips=_sum(turn.trips for turn in turns),
        refusals=_sum(turn.refusals for turn in turns),
        errors=_sum(turn.errors for turn in turns),
    )


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def story_of(session: str, turns: Sequence[TurnFacts]) -> SessionStory:
    """Return a session, and what changed in it since its last good turn."""
    places = [place for place, turn in enumerate(turns) if turn.good]
    good = turns[places[-1]] if places else None
    later = turns[places[-1] + 1 :] if places else turns
    return SessionStory(
        row=row_of(session, turns),
        turns=tuple(turns),
        last_good="" if good is None else good.turn_id,
        changed=tuple(_changes(good, later)),
    )


def _changes(good: TurnFacts | None, later: Sequence[TurnFacts]) -> Iterable[Fact]:
    """Yield what is not as it was; where no turn was good, what the first one was is compared."""
    if not later:
        return
    bad = Counter(turn.status for turn in later)
    said = ", ".join(f"{count:,} {status.replace('_', ' ')}" for status, count in bad.items())
    yield Fact("outcome", said, _ids(later))
    base = good or later[0]
    yield from _settings(base, later)
    yield from _counts("service", "breaker of {} opened", "trips", good, later)
    yield from _counts("error", "{}", "errors", good, later)
    yield from _counts("refusal", "{}", "refusals", good, later)
    worse = [
        turn
        for turn in later
        if turn.quality is not None
        and base.quality is not None
        and turn.quality <= base.quality - QUALITY_DROP
    ]
    if worse:
        lowest = min(turn.quality for turn in worse if turn.quality is not None)
        yield Fact("quality", f"context quality {base.quality} → {lowest}", _ids(worse))
    lost = [turn for turn in later if turn.undelivered]
    if lost:
        yield Fact("delivery", "did not reach the user", _ids(lost))


def _settings(base: TurnFacts, later: Sequence[TurnFacts]) -> Iterable[Fact]:
    """Yield what ran otherwise than before: other code, tools, policy or model."""
    for what, words in (
        ("target", "what runs"),
        ("code", "code"),
        ("policy", "context policy"),
        ("model", "model"),
    ):
        was = getattr(base, what)
        for turn in later:
            now = getattr(turn, what)
            # A turn that was over before its first prompt says nothing of these.
            silent = what in ("policy", "model") and (not now or not was)
            if now == was or silent:
                continue
            short = 12 if what in ("code", "policy") else 80
            yield Fact(what, f"{words} {was[:short]} → {now[:short]}", (turn.turn_id,))
            was = now
    tools = base.tools
    for turn in later:
        if turn.tools is None or tools is None or turn.tools == tools:
            continue
        new, gone = sorted({*turn.tools} - {*tools}), sorted({*tools} - {*turn.tools})
        said = [f"new: {', '.join(new)}"] if new else []
        said += [f"gone: {', '.join(gone)}"] if gone else []
        yield Fact("tools", f"tools on offer, {'; '.join(said)}", (turn.turn_id,))
        tools = turn.tools


def _counts(
    what: str, words: str, field: str, good: TurnFacts | None, later: Sequence[TurnFacts]
) -> Iterable[Fact]:
    """Yield what happened since and had not happened in the good turn."""
    known = set(getattr(good, field)) if good is not None else set()
    total = _sum(getattr(turn, field) for turn in later)
    for name, count in total.items():
        if name not in known:
            turns = [turn for turn in later if name in getattr(turn, field)]
            times = "once" if count == 1 else f"{count:,} times"
            yield Fact(what, f"{words.format(name)}, {times}", _ids(turns))


def _ids(turns: Sequence[TurnFacts]) -> tuple[str, ...]:
    return tuple([turn.turn_id for turn in turns[:_LISTED_MAX]])

"""What the story of a window is made of: policies, prompts, compactions, alarms, the last report.

Keeps: names stay as they are, since programs read them; what is not known is None.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from undercroft.model.message import Usage


class PolicyRow(msgspec.Struct, frozen=True, tag_field="what", tag="policy"):
    """A policy that held from here on.

    Attributes:
        was: Hash of the one before; empty for the first.
        changed: By name, what a setting was and what it is.
        limit_tokens: None, as the next ones, where the journal does not say.
    """

    turn_id: str
    turn: int
    hash: str
    was: str
    at: float
    limit_tokens: int | None
    reserved_tokens: int | None
    high_tokens: int | None
    low_tokens: int | None
    changed: dict[str, tuple[Any, Any]]
    settings: dict[str, Any]


class ItemRow(msgspec.Struct, frozen=True, gc=False):
    """What became of an item.

    Attributes:
        name: Its id as people read it.
        kind: What it is; empty where the journal does not say.
        tool: Of a result: whose.
        tokens: As it was.
        shown_tokens: As it is shown.
        handle: By which it can be fetched back; empty where it cannot.
    """

    id: int
    name: str
    kind: str
    tool: str
    tokens: int
    shown_tokens: int
    fate: str
    reason: str
    handle: str


class PromptRow(msgspec.Struct, frozen=True, tag_field="what", tag="prompt"):
    """One prompt.

    Attributes:
        branch: Of the handler's code; empty for the turn itself.
        at: Seconds since 1970; None where the step never began.
        tokens: As counted before it was sent.
        sections: Tokens by section.
        new_items: How many items it added, and `new_tokens` of them.
        cached_expected: Tokens of it that the model was sent before.
        cached_reported: Tokens of it that the provider read from its cache, as it says.
        tokens_reported: Tokens of it as the provider counted them.
        quality: Of the context, 0 to 100; None where too little is known.
        status: What became of the step that sent it; empty where nothing is known.
        sent: Whether it was; not so where it did not fit.
    """

    turn_id: str
    turn: int
    n: int
    step_id: str
    branch: str
    at: float | None
    policy: str
    limit_tokens: int | None
    reserved_tokens: int
    high_tokens: int | None
    low_tokens: int | None
    tokens: int
    sections: dict[str, int]
    new_items: int
    new_tokens: int
    capped: tuple[ItemRow, ...]
    cached_expected: int
    cached_reported: int | None
    tokens_reported: int | None
    anchored: bool
    quality: int | None
    status: str
    sent: bool


class CompactionRow(msgspec.Struct, frozen=True, tag_field="what", tag="compaction"):
    """The window was made smaller before the prompt of step `n`.

    Attributes:
        fates: By fate, how many items came to it.
        items: Each of them; `tokens` are those that were shown before.
        summary: The summary that was made, as plain data; None where none was.
        summary_step: Id of the step that was to make it; empty where none was asked for.
        summary_usage: What that took, as the provider reported it.
        failed: Why a summary that was asked for was not used.
        short: Why the low-water mark was not reached; empty where it was.
        forgot: Numbers of summaries that are shown no more.
    """

    turn_id: str
    turn: int
    n: int
    branch: str
    at: float
    why: str
    before: int
    after: int
    target: int
    fates: dict[str, int]
    items: tuple[ItemRow, ...]
    ledger: str
    summary: Any
    summary_step: str
    summary_usage: Usage | None
    failed: str
    short: str
    forgot: tuple[int, ...]


class AlarmRow(msgspec.Struct, frozen=True, tag_field="what", tag="alarm"):
    """The quality of the context fell, and more than by chance."""

    turn_id: str
    turn: int
    n: int
    at: float
    quality: int | None
    level: float
    why: str


class OverflowRow(msgspec.Struct, frozen=True, tag_field="what", tag="overflow"):
    """A prompt was not sent, since nothing could make it fit; `n` is None where none was noted."""

    turn_id: str
    turn: int
    n: int | None
    error: str


Row: TypeAlias = PolicyRow | PromptRow | CompactionRow | AlarmRow | OverflowRow


class QualityRow(msgspec.Struct, frozen=True):
    """How good the context was at the end of a turn.

    Attributes:
        turn: 0 to 100; None where too little was seen, as in `session`.
        parts: By name, 0 to 1; None where nothing was seen.
        seen: Observations that the session's score rests on.
    """

    turn: int | None
    session: int | None
    parts: dict[str, float | None]
    seen: int
    at: float


class TurnRow(msgspec.Struct, frozen=True):
    """A turn that assembled prompts under a policy."""

    turn_id: str
    turn: int
    at: float
    policy: str
    quality: QualityRow | None


class ReasonRow(msgspec.Struct, frozen=True):
    """Items that have one fate for one reason; the reason is empty where none is needed."""

    fate: str
    reason: str
    items: int
    tokens: int
    shown_tokens: int
    recallable: int


class ReportRow(msgspec.Struct, frozen=True):
    """What the last prompt shows of everything that was said: each item once."""

    turn_id: str
    turn: int
    step_id: str
    tokens: int
    reasons: tuple[ReasonRow, ...]
    items: tuple[ItemRow, ...]


class Story(msgspec.Struct, frozen=True):
    """The window of a session over time.

    Attributes:
        session: None for a turn that belongs to none.
        other_turns: How many turns of the session assembled nothing under a policy.
        rows: Policies, prompts, compactions, alarms and overflows, as they happened.
        quality: As it was last; None where no turn has come so far.
        report: Of the last prompt; None where there is none.
    """

    session: str | None
    turns: tuple[TurnRow, ...]
    other_turns: int
    rows: tuple[Row, ...]
    quality: QualityRow | None
    report: ReportRow | None

"""What may be declared about a window: its size, its water marks, and what may leave it how.

Keeps: a policy is frozen before the first prompt and has a hash; minimums that cannot all be
met fail where they are written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from undercroft.errors import SettingError
from undercroft.model.ids import fingerprint

LIMIT_TOKENS_MAX = 100_000_000
# The vocabulary of what counts where nobody says which.
ESTIMATE = "estimate"
SHARES_TOGETHER_MAX = 1.0


class Section(StrEnum):
    """Where in a prompt something stands, in the order in which they stand."""

    SYSTEM = "system"
    TOOLS = "tools"
    PINS = "pins"
    LEDGER = "ledger"
    SUMMARIES = "summaries"
    RECENT = "recent"
    CURRENT = "current"


# Those that compaction may make smaller; the others stand as they are.
COMPACTED = (Section.LEDGER, Section.SUMMARIES, Section.RECENT, Section.CURRENT)


class Kind(StrEnum):
    """What a message of a conversation is, for the rules."""

    USER = "user"
    ASSISTANT = "assistant"
    CALLS = "calls"
    RESULT = "result"
    NOTICE = "notice"


class Action(StrEnum):
    """What may be done to content of one kind when the window fills up.

    Each may also be done what stands before it: what may be dropped may be summarised.
    """

    PIN = "pin"
    KEEP = "keep"
    ELIDE = "elide"
    SUMMARISE = "summarise"
    DROP = "drop"


def _within(value: Any, least: float, most: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and least <= value <= most  # NaN is within nothing


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _has_halves(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def _one_of(kind: type[StrEnum], name: str, value: Any) -> StrEnum:
    try:
        return kind(value)
    except ValueError:
        raise SettingError(name, value, f"one of {', '.join(map(repr, map(str, kind)))}") from None


def _tuple_of(kind: type, name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, tuple | list):
        raise SettingError(name, value, f"a tuple of {kind.__name__}")
    for one in value:
        if not isinstance(one, kind):
            raise SettingError(name, one, f"a {kind.__name__}")
    return tuple(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextShare:
    """How much of the capacity one section may take, and which gives way first.

    Attributes:
        section: `ledger`, `summaries`, `recent` or `current`: the others are never cut.
        priority: Of two sections the one with the smaller number is cut first.
        min_share: Of the capacity: it is not cut below this while others can be; 0 to 1.
        max_share: Of the capacity: it never takes more; above 0, to 1.
    """

    section: str
    priority: int
    min_share: float = 0.0
    max_share: float = 1.0

    def __post_init__(self) -> None:
        if self.section not in COMPACTED:
            wanted = "'ledger', 'summaries', 'recent' or 'current'"
            raise SettingError("section", self.section, wanted)
        object.__setattr__(self, "section", Section(self.section))
        if not _whole(self.priority, -1_000_000, 1_000_000):
            raise SettingError("priority", self.priority, "a whole number")
        if not _within(self.min_share, 0, 1):
            raise SettingError("min_share", self.min_share, "from 0 to 1")
        if not _within(self.max_share, self.min_share, 1) or self.max_share == 0:
            raise SettingError("max_share", self.max_share, "above 0, from min_share to 1")
        for name in ("min_share", "max_share"):
            object.__setattr__(self, name, float(getattr(self, name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRule:
    """What may be done to content of one kind.

    Attributes:
        kind: `user`, `assistant`, `calls` (an assistant's message that proposes calls),
            `result` or `notice`.
        action: `pin`: nothing, ever. `keep`: only after all that may go besides.
            `elide`: a tombstone may stand for it. `summarise`: that, or a summary.
            `drop`: all of that, or nothing at all.
        above_tokens: What is smaller than this is not elided; at least 0.
        tool: Only results of this tool; empty for all.
    """

    kind: str
    action: str
    above_tokens: int = 0
    tool: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", _one_of(Kind, "kind", self.kind))
        object.__setattr__(self, "action", _one_of(Action, "action", self.action))
        if not _whole(self.above_tokens, 0, LIMIT_TOKENS_MAX):
            raise SettingError("above_tokens", self.above_tokens, "a whole number, at least 0")
        tool: object = self.tool
        if not isinstance(tool, str) or (tool and self.kind != Kind.RESULT):
            raise SettingError("tool", self.tool, "a name, and empty unless the kind is 'result'")


SHARES = (
    ContextShare(section=Section.RECENT, priority=10),
    ContextShare(section=Section.CURRENT, priority=20),
    ContextShare(section=Section.SUMMARIES, priority=30, max_share=0.25),
    ContextShare(section=Section.LEDGER, priority=40, max_share=0.10),
)

RULES = (
    ContextRule(kind=Kind.USER, action=Action.KEEP),
    ContextRule(kind=Kind.ASSISTANT, action=Action.DROP),
    ContextRule(kind=Kind.CALLS, action=Action.DROP),
    ContextRule(kind=Kind.RESULT, action=Action.DROP, above_tokens=60),
    ContextRule(kind=Kind.NOTICE, action=Action.DROP),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPolicy:
    """How large a window is, and what leaves it when it fills up.

    Attributes:
        limit_tokens: The model's window; at least 256.
        reserved_tokens: Kept free for the answer; at least 0, below the limit.
        high_share: Of the capacity, which is the limit without what is reserved: above this
            the window is compacted; above 0, to 1.
        low_share: Of the capacity: down to this; above 0, below `high_share`.
        shares: Of sections; those that are not named are as in `SHARES`.
        rules: Of kinds of content; the last one that fits counts, before it those of `RULES`.
        result_max_share: Of the capacity: a larger result of a tool is cut when it arrives,
            and the rest can be recalled; above 0, to 1.
        pins: Texts that stand in every prompt.
        recall: Whether the model is offered the tool that fetches back what was elided.
        recall_turns: For how many turns it can be fetched; at least 1.
        summarise_above_tokens: Less than this is not worth a summary; at least 1.
        summary_failures_max: After so many failed summaries in a row none is asked for; at
            least 1.
        alarm: Whether an event says so when the quality falls.
        vocabulary: Name of what counts tokens: `estimate`, or as its adapter says.
    """

    limit_tokens: int
    reserved_tokens: int = 1024
    high_share: float = 1.0
    low_share: float = 0.35
    shares: tuple[ContextShare, ...] = ()
    rules: tuple[ContextRule, ...] = ()
    result_max_share: float = 0.25
    pins: tuple[str, ...] = ()
    recall: bool = True
    recall_turns: int = 50
    summarise_above_tokens: int = 400
    summary_failures_max: int = 3
    alarm: bool = True
    vocabulary: str = ESTIMATE

    def __post_init__(self) -> None:
        self._check_sizes()
        for name in ("recall_turns", "summarise_above_tokens", "summary_failures_max"):
            if not _whole(getattr(self, name), 1, LIMIT_TOKENS_MAX):
                raise SettingError(name, getattr(self, name), "a whole number, at least 1")
        for name in ("recall", "alarm"):
            if not isinstance(getattr(self, name), bool):
                raise SettingError(name, getattr(self, name), "True or False")
        if not self.vocabulary or not isinstance(self.vocabulary, str):
            raise SettingError("vocabulary", self.vocabulary, "a name, such as 'estimate'")
        for name in ("high_share", "low_share", "result_max_share"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 1 and 1.0 are one policy
        object.__setattr__(self, "shares", _tuple_of(ContextShare, "shares", self.shares))
        object.__setattr__(self, "rules", _tuple_of(ContextRule, "rules", self.rules))
        object.__setattr__(self, "pins", _tuple_of(str, "pins", self.pins))
        self._check_shares()
        if len(set(self.pins)) < len(self.pins) or not all(self.pins):
            raise SettingError("pins", self.pins, "texts, none of them empty or there twice")
        if any(_has_halves(pin) for pin in self.pins):
            raise SettingError("pins", ascii(self.pins), "texts without lone surrogates")

    def _check_sizes(self) -> None:
        if not _whole(self.limit_tokens, 256, LIMIT_TOKENS_MAX):
            raise SettingError("limit_tokens", self.limit_tokens, "a whole number, at least 256")
        if not _whole(self.reserved_tokens, 0, self.limit_tokens - 1):
            wanted = "a whole number, at least 0, below limit_tokens"
            raise SettingError("reserved_tokens", self.reserved_tokens, wanted)
        if not _within(self.high_share, 0, 1) or self.high_share == 0:
            raise SettingError("high_share", self.high_share, "above 0, to 1")
        if not _within(self.low_share, 0, 1) or not 0 < self.low_share < self.high_share:
            raise SettingError("low_share", self.low_share, "above 0, below high_share")
        if not _within(self.result_max_share, 0, 1) or self.result_max_share == 0:
            raise SettingError("result_max_share", self.result_max_share, "above 0, to 1")

    def _check_shares(self) -> None:
        named = [share.section for share in self.shares]
        if len(set(named)) < len(named):
            raise SettingError("shares", self.shares, "at most one of each section")
        together = math.fsum(self.share(section).min_share for section in COMPACTED)
        if together > SHARES_TOGETHER_MAX + 1e-9:
            wanted = f"minimums of at most 1 together, and not {together:g}"
            raise SettingError("shares", self.shares, wanted)

    @property
    def capacity_tokens(self) -> int:
        """How many tokens a prompt may have: the limit without what is reserved."""
        return self.limit_tokens - self.reserved_tokens

    @property
    def high_tokens(self) -> int:
        """Above this the window is compacted."""
        return math.floor(self.capacity_tokens * self.high_share)

    @property
    def low_tokens(self) -> int:
        """Compaction goes down to this."""
        return math.floor(self.capacity_tokens * self.low_share)

    @property
    def result_max_tokens(self) -> int:
        """A larger result of a tool is cut when it arrives."""
        return max(1, math.floor(self.capacity_tokens * self.result_max_share))

    @property
    def hash(self) -> str:
        """What stands for the policy: the same for equal ones, in every process."""
        return fingerprint(self.settings).hex()[:16]

    @property
    def settings(self) -> dict[str, Any]:
        """The policy as plain data."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        named["shares"] = [
            [s.section, s.priority, s.min_share, s.max_share]
            for s in (self.share(section) for section in COMPACTED)
        ]
        named["rules"] = [[r.kind, r.action, r.above_tokens, r.tool] for r in self.all_rules]
        return named

    @property
    def all_rules(self) -> tuple[ContextRule, ...]:
        """The rules that are there anyway, and those that were given."""
        return RULES + self.rules

    def share(self, section: Section) -> ContextShare:
        """Return what is said of a section that compaction may make smaller."""
        for share in (*self.shares, *SHARES):
            if share.section == section:
                return share
        raise SettingError("section", section, "one that compaction may make smaller")

    def counted_by(self, vocabulary: str) -> ContextPolicy:
        """Return the policy with the vocabulary of what counts for it.

        Raises:
            SettingError: It names another one.
        """
        if self.vocabulary == vocabulary:
            return self
        if self.vocabulary != ESTIMATE:
            wanted = (
                f"that of the counter, which is {vocabulary!r}; or give another one, such as "
                f"counter=undercroft.adapters.tokens.counter({self.vocabulary!r})"
            )
            raise SettingError("vocabulary", self.vocabulary, wanted)
        return replace(self, vocabulary=vocabulary)

    def rule(self, kind: Kind, tool: str = "") -> ContextRule:
        """Return the rule for content of a kind: the last one that fits."""
        for rule in reversed(self.all_rules):
            if rule.kind == kind and rule.tool in ("", tool):
                return rule
        raise SettingError("kind", kind, "one that some rule is about")

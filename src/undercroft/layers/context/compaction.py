"""Which items leave a window that is too full, and how: decided whole before anything changes.

Keeps: a group goes as one; calls without a result, what the model has not seen yet and the
newest user message stay until nothing else is left to take; what must stay stays. Oldest
first; large results before anything else, the open turn after what is older.
Leaves to the window: what the ledger then reads, and whoever writes summaries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from undercroft.layers.context.items import Fate, Item
from undercroft.layers.context.policy import COMPACTED, Action, ContextPolicy, Kind, Section

# A tombstone must save at least this much of what it stands for.
SAVING_MIN = 0.4
# What the rules keep may take this part of what lies between the water marks: that much more
# is kept of it, and the window is full again only a little sooner.
KEPT_SHARE = 0.1
# A message that takes more of the capacity than this stands in the way of all others.
GIANT_SHARE = 0.5
# What a summary is planned to take of what it replaces.
SUMMARY_SHARE = 1 / 3
# One that may have less than this could hardly say anything.
SUMMARY_MIN_TOKENS = 120

# What would stand for an item, and its tokens.
Stone = Callable[[Item], int]


class Scene(NamedTuple):
    """A window as compaction sees it.

    Attributes:
        items: Those of which the prompt shows something, oldest first.
        open_at: Place of the newest user message: there the open turn begins.
        unseen_at: Place of the first item that no prompt has shown yet.
        fixed: Tokens of what is never cut: system, tools, pins, and what frames them.
        ledger: Tokens that the ledger will take at the most.
        summaries: Tokens of the summaries that are there, oldest first.
        factor: What the provider counts for one token of ours, as far as it is known.
    """

    items: Sequence[Item]
    open_at: int
    unseen_at: int
    fixed: int
    ledger: int
    summaries: tuple[int, ...]
    factor: float = 1.0


class Change(NamedTuple):
    """What becomes of an item."""

    item: Item
    fate: Fate
    tokens: int
    reason: str


@dataclass(slots=True)
class Plan:
    """What a compaction will do.

    Attributes:
        why: `high_water` or `overflow`.
        before: Tokens of the prompt as it is.
        target: Tokens of the low-water mark.
        after: Tokens that it will have, at the most.
        changes: By item, what becomes of it.
        covered: Items that a summary is to stand for; empty where none is wanted.
        merged: How many of the oldest summaries the new one replaces.
        summary_max: Tokens that the new summary may have.
        forgotten: How many of the oldest summaries are shown no more.
        ledger_max: Tokens that the ledger may take, as a message.
        short: Why the target is not reached; empty where it is.
    """

    why: str
    before: int
    target: int
    after: int
    changes: dict[int, Change] = field(default_factory=dict)
    covered: list[Item] = field(default_factory=list)
    merged: int = 0
    summary_max: int = 0
    forgotten: int = 0
    ledger_max: int = 0
    short: str = ""


def make_plan(
    scene: Scene, policy: ContextPolicy, stone: Stone, *, why: str, summarised: bool
) -> Plan:
    """Return what is to be done to bring a window down to its low-water mark.

    Args:
        scene: The window.
        policy: What may be done.
        stone: Says how many tokens a tombstone for an item would have.
        why: What made it necessary.
        summarised: Whether somebody can write a summary; else what would be is dropped.
    """
    work = _Work(scene, policy, stone, why, summarised=summarised)
    work.take_giants()
    left = {Section.RECENT, Section.CURRENT}
    for section in sorted(COMPACTED, key=lambda section: policy.share(section).priority):
        match section:
            case Section.RECENT:
                work.shrink(section, work.units(0, scene.open_at))
            case Section.CURRENT:
                work.shrink(section, work.units(scene.open_at, scene.unseen_at))
            case Section.SUMMARIES:
                work.forget()
            case _:
                work.cut_ledger()
        left.discard(section)
        if not left:
            work.take_kept()
    work.make_fit()
    if work.little or (summarised and work.total > work.capacity):
        # Too little for a summary, or no use: rather drop it, as far as that is allowed.
        return make_plan(scene, policy, stone, why=why, summarised=False)
    return work.done()


class _Work:
    """A plan in the making."""

    def __init__(
        self, scene: Scene, policy: ContextPolicy, stone: Stone, why: str, *, summarised: bool
    ) -> None:
        self.scene, self.policy, self.stone, self.summarised = scene, policy, stone, summarised
        factor = max(scene.factor, 0.01)
        self.capacity = int(policy.capacity_tokens / factor)
        self.low = int(policy.low_tokens / factor)
        self.high = int(policy.high_tokens / factor)
        self.summaries = sum(scene.summaries)
        shown = sum(item.shown_tokens for item in scene.items)
        before = scene.fixed + scene.ledger + self.summaries + shown
        self.plan = Plan(why, before, self.low, before)
        self.plan.ledger_max = scene.ledger
        self.total = before
        self.covered_tokens = 0
        self.in_section = {
            Section.RECENT: sum(i.shown_tokens for i in scene.items[: scene.open_at]),
            Section.CURRENT: sum(i.shown_tokens for i in scene.items[scene.open_at :]),
        }
        # The group of the newest calls, if no prompt has shown what came of them.
        self.awaited = next(
            (i.group for i in reversed(scene.items[scene.unseen_at :]) if i.kind is Kind.RESULT),
            None,
        )
        self.open_from = scene.items[scene.open_at].id if self._has_open else None

    @property
    def _has_open(self) -> bool:
        return self.scene.open_at < len(self.scene.items)

    # ------------------------------------------------------------------ what goes as one

    def units(self, start: int, stop: int, *, unseen: bool = False) -> list[list[Item]]:
        """Return the groups that lie wholly within a range and may be touched, oldest first.

        Args:
            start: Place of the first item.
            stop: Place behind the last one.
            unseen: Whether results may go that the model has asked for and not seen yet.
        """
        within: dict[int, list[Item]] = {}
        for item in self.scene.items[start:stop]:
            within.setdefault(item.group, []).append(item)
        outside = {item.group for item in self.scene.items[stop:]}
        outside.update(item.group for item in self.scene.items[:start])
        if not unseen and self.awaited is not None:
            outside.add(self.awaited)
        return [
            unit
            for group, unit in within.items()
            if group not in outside and group != self.open_from and _free(unit)
        ]

    def _touchable(self, item: Item, least: Action) -> bool:
        """Whether the rules allow it, without need."""
        allowed = self.policy.rule(item.kind, item.message.name or "").action
        return _ORDER[allowed] >= _ORDER[least]

    def _enough(self, section: Section) -> bool:
        share, held = self.policy.share(section), self.in_section[section]
        floor = share.min_share * self.capacity
        ceiling = share.max_share * self.capacity
        return held <= floor or (self.total <= self.low and held <= ceiling)

    # ------------------------------------------------------------------ elide, summarise, drop

    def shrink(self, section: Section, units: list[list[Item]]) -> None:
        """Elide what is large, then summarise or drop, until there is room."""
        for unit in units:
            for item in unit:
                if self._enough(section):
                    return
                self._elide(item, section, "over the high-water mark")
        for unit in units:
            if self._enough(section):
                return
            if self._above_floor(section, unit):
                self._take(unit, section, "over the high-water mark", self._leaves)

    def _above_floor(self, section: Section, unit: Sequence[Item]) -> bool:
        """Whether the section keeps its minimum without a unit."""
        left = self.in_section[section] - sum(self._tokens(item) for item in unit)
        return left >= self.policy.share(section).min_share * self.capacity

    def _elide(
        self,
        item: Item,
        section: Section,
        reason: str,
        *,
        least: Action = Action.ELIDE,
        at_all_costs: bool = False,
    ) -> bool:
        """Let a tombstone stand for an item, if the rules allow it and something is saved."""
        # Also for one that was cut when it arrived: a tombstone is smaller still.
        if item.id in self.plan.changes or item.message.calls:
            return False
        rule = self.policy.rule(item.kind, item.message.name or "")
        large = item.kind is Kind.RESULT or rule.above_tokens > 0
        if least is Action.ELIDE and (not large or item.tokens <= rule.above_tokens):
            return False
        if not self._touchable(item, least):
            return False
        tokens = self.stone(item)
        if tokens > item.shown_tokens * (1 - SAVING_MIN):
            return False
        left = self.in_section[section] - item.shown_tokens + tokens
        if not at_all_costs and left < self.policy.share(section).min_share * self.capacity:
            return False
        self._change(item, Fate.ELIDED, tokens, reason, section)
        return True

    @property
    def _leaves(self) -> Action:
        """What the rules must allow at least, for an item to leave the prompt."""
        return Action.SUMMARISE if self.summarised else Action.DROP

    def _take(self, unit: Sequence[Item], section: Section, reason: str, least: Action) -> None:
        """Take a unit out of the prompt, if the rules allow it: into a summary, or for good."""
        if not all(self._touchable(item, least) for item in unit):
            return
        for item in unit:
            self.covered_tokens += self._tokens(item)
            fate = Fate.SUMMARISED if self.summarised else Fate.DROPPED
            self._change(item, fate, 0, reason, section)
        if self.summarised:
            self.plan.covered += unit
            self._plan_summary()

    def _plan_summary(self) -> None:
        """Set aside what the summary will take; older ones are merged into it where they must."""
        plan, held = self.plan, sum(self.scene.summaries)
        room = int(self.policy.share(Section.SUMMARIES).max_share * self.capacity)
        wanted = min(room, int(self.covered_tokens * SUMMARY_SHARE))
        plan.merged = len(self.scene.summaries) if held + wanted > room else 0
        plan.summary_max = min(room, wanted + held) if plan.merged else wanted
        now = plan.summary_max + (0 if plan.merged else held)
        self.total += now - self.summaries
        self.summaries = now

    def _change(self, item: Item, fate: Fate, tokens: int, reason: str, section: Section) -> None:
        saved = self._tokens(item) - tokens
        self.plan.changes[item.id] = Change(item, fate, tokens, reason)
        self.total -= saved
        if section in self.in_section:
            self.in_section[section] -= saved

    def _tokens(self, item: Item) -> int:
        change = self.plan.changes.get(item.id)
        return item.shown_tokens if change is None else change.tokens

    # ------------------------------------------------------------------ the other sections

    def forget(self) -> None:
        """Show the oldest summaries no more, down to what the section is granted."""
        floor = self.policy.share(Section.SUMMARIES).min_share * self.capacity
        if self.plan.merged:
            return
        for tokens in self.scene.summaries:
            if self.total <= self._middle or self.summaries - tokens < floor:
                return
            self.plan.forgotten += 1
            self.summaries -= tokens
            self.total -= tokens

    def cut_ledger(self) -> None:
        """Let the ledger take less, down to what the section is granted."""
        share = self.policy.share(Section.LEDGER)
        floor = int(share.min_share * self.capacity)
        if self.total > self.capacity:
            less = max(floor, self.plan.ledger_max - (self.total - self.capacity))
            self.total -= max(0, self.plan.ledger_max - less)
            self.plan.ledger_max = min(self.plan.ledger_max, less)

    @property
    def _middle(self) -> int:
        return (self.low + self.high) // 2

    # ------------------------------------------------------------------ when that is not enough

    def take_giants(self) -> None:
        """Elide what is larger than all else may be together, before that gives way to it."""
        for item in self.scene.items:
            if item.shown_tokens > self.capacity * GIANT_SHARE and item.id != self.open_from:
                section, reason = self._section_of([item]), "larger than half of the window"
                self._elide(item, section, reason, least=Action.KEEP, at_all_costs=True)

    def take_kept(self) -> None:
        """Take what the rules keep: tombstones for what is large, then the oldest."""
        reason = "the window would soon be full again"
        enough = self.low + int((self.high - self.low) * KEPT_SHARE)
        units = self.units(0, self.scene.unseen_at)
        for unit in units:
            section = self._section_of(unit)
            for item in unit:
                if self.total <= enough:
                    return
                self._elide(item, section, reason, least=Action.KEEP)
        for unit in units:
            if self.total <= enough:
                return
            section = self._section_of(unit)
            if any(map(self._tokens, unit)) and self._above_floor(section, unit):
                self._take(unit, section, reason, Action.KEEP)

    def make_fit(self) -> None:
        """Take even what the model has not seen yet, largest first, before the prompt fails."""
        if self.total <= self.capacity:
            return
        rest = [
            item
            for item in self.scene.items
            if item.id not in self.plan.changes and self._touchable(item, Action.KEEP)
        ]
        for item in sorted(rest, key=lambda item: (-item.shown_tokens, item.id)):
            if self.total <= self.capacity:
                return
            if item.id != self.open_from:
                section, reason = self._section_of([item]), "the prompt would not fit"
                self._elide(item, section, reason, least=Action.KEEP, at_all_costs=True)
        for unit in self.units(0, len(self.scene.items), unseen=True):
            if self.total <= self.capacity:
                return
            if any(self._tokens(item) for item in unit):
                self._take(unit, self._section_of(unit), "the prompt would not fit", Action.KEEP)
        if self.total > self.capacity and not self.plan.covered:
            self.plan.forgotten = len(self.scene.summaries)
            self.total -= self.summaries
            self.summaries = 0

    def _section_of(self, unit: Sequence[Item]) -> Section:
        opened = self.open_from is not None and unit[0].id >= self.open_from
        return Section.CURRENT if opened else Section.RECENT

    @property
    def little(self) -> bool:
        """Whether what was taken is too little for a summary."""
        little = self.covered_tokens < self.policy.summarise_above_tokens
        small = little or self.plan.summary_max < SUMMARY_MIN_TOKENS
        return bool(self.plan.covered) and small

    def done(self) -> Plan:
        """Return the plan, and say why it falls short if it does."""
        plan = self.plan
        plan.after = self.total
        if self.total > self.low:
            kept = self.total - self.scene.fixed
            plan.short = (
                f"system, tools and pins take {self.scene.fixed:,} tokens, and what may not be "
                f"taken yet {kept:,}; the low-water mark is {self.low:,}"
            )
        return plan


_ORDER: dict[str, int] = {action: place for place, action in enumerate(Action)}


def _free(unit: Sequence[Item]) -> bool:
    return all(not item.pending for item in unit)

"""What can be wrong with a history, in words; and what all rules that look for it share.

Keeps: each anomaly is reported once, with the steps that prove it; of each rule no more than
was asked for.
Leaves to `audit.py`: the rules, and where their ideas come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product

import msgspec

from undercroft.layers.conflicts.history import Mark, Step
from undercroft.layers.conflicts.precedence import AGAINST, GROUP_OF
from undercroft.layers.conflicts.timeline import History, Line

UNORDERED = "conflicts.unordered"
NOT_OWNER = "conflicts.not_owner"
LOST_UPDATE = "conflicts.lost_update"
STALE_WRITE = "conflicts.stale_write"
CYCLE = "conflicts.cycle"

Take = Callable[[int], None]


class Anomaly(msgspec.Struct, frozen=True):
    """Something that must not happen, and where it did.

    Attributes:
        rule: `conflicts.reason`, stable.
        steps: The steps that make it, as (turn, step id), in the order of the message.
        key: The resource, as the last of them named it.
        message: What happened.
    """

    rule: str
    steps: tuple[Step, ...]
    key: str
    message: str


class Rule:
    """What goes along a line: told of each begin, of each end, and of each mark, in order."""

    # Whether it also looks at what no other turn could come between.
    within_turn = False

    def __init__(self, line: Line, found: Found) -> None:
        history = line.history
        self.line, self.found, self.history = line, found, history
        self.ops, self.keys, self.kinds = history.ops, history.keys, history.kinds
        self.turns = history.turn_of
        self.posts, self.asks = history.overlaps.posts, history.overlaps.asks
        self.size = history.overlaps.size
        self.starts, self.stops = line.starts, line.stops
        # By kind of operation, what takes note of its begin and of its end.
        self.begins: dict[int, Take] = {}
        self.ends: dict[int, Take] = {}

    def mark(self, mark: Mark, at: int) -> None:
        """Take note of a mark."""


class Found:
    """The anomalies, each once, with what is to be said of them."""

    def __init__(self, history: History, anomalies_max: int) -> None:
        self.anomalies: dict[tuple[str, tuple[Step, ...]], Anomaly] = {}
        self.line: Line
        self._history, self._max = history, anomalies_max
        self._counts: dict[str, int] = {}
        self._by_turn: dict[int, list[int]] = {}

    def full(self, rule: str) -> bool:
        """Whether no more of this rule are wanted."""
        return self._counts.get(rule, 0) >= self._max

    def _add(self, rule: str, numbers: Iterable[int], say: Callable[..., str]) -> None:
        if self.full(rule):
            return
        ops = [self._history.ops[number] for number in numbers]
        steps = tuple(op.step for op in ops)
        if (rule, steps) in self.anomalies:
            return
        self._counts[rule] = self._counts.get(rule, 0) + 1
        key = ops[-1].key
        message = say(*(f"{name} of {turn}" for turn, name in steps), key or "everything")
        self.anomalies[rule, steps] = Anomaly(rule, steps, key, message)

    def unordered(self, first: int, second: int) -> None:
        """Two operations overlapped that must not."""
        # The same pair is met once more in another order, perhaps the other way round.
        first, second = min(first, second), max(first, second)
        modes = [self._history.ops[number].mode for number in (first, second)]
        self._add(
            UNORDERED,
            (first, second),
            lambda a, b, key: f"{a} ({modes[0]}) and {b} ({modes[1]}) used {key} at the same time.",
        )

    def not_owner(self, first: int, second: int) -> None:
        """An operation changed what another owned."""
        self._add(
            NOT_OWNER,
            (first, second),
            lambda a, b, key: f"{b} changed {key}, which was owned since {a} wrote it.",
        )

    def lost(self, read: int, other: int, write: int) -> None:
        """A write rested on a read that another write had outdated."""
        self._add(
            LOST_UPDATE,
            (read, other, write),
            lambda a, b, c, key: (
                f"{c} wrote {key}, resting on {a}; {b} had changed it in between, unseen."
            ),
        )

    def stale(self, read: int, other: int, write: int) -> None:
        """A write rested on a version that another turn had seen replaced."""
        self._add(
            STALE_WRITE,
            (read, other, write),
            lambda a, b, c, key: (
                f"{c} wrote {key}, resting on {a}; {b} had seen another version since."
            ),
        )

    def refused(self, write: int) -> None:
        """A write took effect though its re-check found another state."""
        self._add(
            STALE_WRITE,
            (write,),
            lambda a, key: f"{a} wrote {key}, though its own re-check found it changed.",
        )

    def cycle(self, turns: Sequence[int]) -> None:
        """Turns precede each other in a ring."""
        if self.full(CYCLE):
            return
        mine = self._operations()
        pairs = [
            self._pair(mine[turn], mine[after])
            for turn, after in zip(turns, [*turns[1:], turns[0]], strict=True)
        ]
        numbers = [number for pair in pairs for number in pair]
        said = [[self._history.ops[number].step for number in pair] for pair in pairs]
        edges = ", ".join(
            f"{first} of {turn} before {second} of {other}"
            for (turn, first), (other, second) in said
        )
        self._add(CYCLE, numbers, lambda *_: f"No order of the turns explains this: {edges}.")

    def _operations(self) -> dict[int, list[int]]:
        """Return, by turn, the operations that count in cycles; gathered when first wanted."""
        if not self._by_turn:
            history = self._history
            for number, turn in enumerate(history.turn_of):
                if history.kinds[number] in GROUP_OF:
                    self._by_turn.setdefault(turn, []).append(number)
        return self._by_turn

    def _pair(self, before: list[int], after: list[int]) -> tuple[int, int]:
        """Return a conflicting pair of operations of two turns, of which the first came first."""
        history = self._history
        # By cell, group and clock, when the first to end did, and which it was.
        first: dict[tuple[int, int, int | None], tuple[int, int]] = {}
        for number in before:
            group = GROUP_OF[history.kinds[number]]
            for clock, _, stop in history.clocks(number):
                if stop is not None:
                    for cell in history.overlaps.posts[history.keys[number]]:
                        place = (cell, group, clock)
                        first[place] = min(first.get(place, (stop, number)), (stop, number))
        for number in after:
            groups = AGAINST[GROUP_OF[history.kinds[number]]]
            cells = history.overlaps.asks[history.keys[number]]
            for clock, start, _ in history.clocks(number):
                for place in product(cells, groups, (clock,)):
                    stop, other = first.get(place, (start, -1))
                    if stop < start:
                        return other, number
        msg = "an edge of the graph has no pair of operations"
        raise AssertionError(msg)

"""The offline checker: what is wrong with a history of operations on resources.

Keeps: nothing is said that the order of the history does not prove, and positions that tie
prove nothing; the cost grows with the operations and with what is found.
Leaves to the engine: reading a history from a journal.
Source: lost update (P4) and the cycles of Adya, "Weak Consistency", 1999; looking for them in
a recorded history, Kingsbury and Alvaro, "Elle", 2020.

| rule | what happened |
|---|---|
| `conflicts.unordered` | two steps held claims that do not go together at the same time |
| `conflicts.not_owner` | a write to what another turn, or another branch, had written and owned |
| `conflicts.lost_update` | read, changed by another turn, written by the first without a new look |
| `conflicts.stale_write` | a write though another turn saw another version, or a re-check said no |
| `conflicts.cycle` | turns that each came before the next, and the last before the first |

A read that its turn replaced by a later read or re-check of the same key is no part of a
cycle, since nothing rests on it any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from undercroft.errors import SettingError
from undercroft.layers.conflicts.anomalies import Anomaly, Found, Rule, Take
from undercroft.layers.conflicts.history import Record
from undercroft.layers.conflicts.holds import Owners, Together
from undercroft.layers.conflicts.precedence import GROUP_OF, Precedence
from undercroft.layers.conflicts.rests import Rests
from undercroft.layers.conflicts.timeline import KINDS_MAX, History, Line

ANOMALIES_MAX = 1_000


def audit(records: Iterable[Record], *, anomalies_max: int = ANOMALIES_MAX) -> list[Anomaly]:
    """Return what is wrong with a history.

    Args:
        records: Operations in the order in which they began, and marks among them. Either all
            operations have `since`, or none has and all clocks are one.
        anomalies_max: How many of each rule are reported; at least 1. The first are.

    Raises:
        SettingError: `anomalies_max` is below 1.
        ValueError: An operation has an unknown mode.
    """
    if anomalies_max < 1:
        raise SettingError("anomalies_max", anomalies_max, "at least 1")
    history = History(records)
    found = Found(history, anomalies_max)
    order = Precedence(history)
    for line in history.lines():
        found.line = line
        _run(line, _rules(line, found, order))
    for cycle in order.cycles():
        found.cycle(cycle)
    return list(found.anomalies.values())


def _rules(line: Line, found: Found, order: Precedence) -> list[Rule]:
    rules: list[Rule] = []
    if line.shared:
        rules.append(Owners(line, found))
    if line.own or not line.alone:
        rules += [Together(line, found), Rests(line, found), Before(line, found, order)]
    return rules


def _run(line: Line, rules: Sequence[Rule]) -> None:
    """Go along a line; what ends strictly before another begins is told of first."""
    kinds = [
        kind + KINDS_MAX * apart for kind, apart in zip(line.history.kinds, line.apart, strict=True)
    ]
    begin = _takes([(rule.begins, rule.within_turn) for rule in rules])
    end = _takes([(rule.ends, rule.within_turn) for rule in rules])
    never = float("inf")
    closing, marking = iter(line.closed), iter(line.marks)
    closed, mark = next(closing, None), next(marking, None)
    stop: float = never if closed is None else line.stops[closed]
    mark_at: float = never if mark is None else mark[0]
    for number in line.order:
        start = line.starts[number]
        while stop < start:
            assert closed is not None  # noqa: S101  only then is there a stop
            for take in end[kinds[closed]]:
                take(closed)
            closed = next(closing, None)
            stop = never if closed is None else line.stops[closed]
        while mark_at <= start:
            assert mark is not None  # noqa: S101  likewise
            for rule in rules:
                rule.mark(mark[1], mark[0])
            mark = next(marking, None)
            mark_at = never if mark is None else mark[0]
        for take in begin[kinds[number]]:
            take(number)


def _takes(tables: Sequence[tuple[dict[int, Take], bool]]) -> list[tuple[Take, ...]]:
    """Return, by kind of operation, who wants to know; after that, of those that stand apart."""
    return [
        tuple(
            table[kind] for table, within_turn in tables if kind in table and within_turn >= apart
        )
        for apart in (False, True)
        for kind in range(KINDS_MAX)
    ]


class Before(Rule):
    """Which turn came before which, for cycles.

    Reads that were replaced are no part of it: nothing rests on them any more.
    """

    def __init__(self, line: Line, found: Found, order: Precedence) -> None:
        super().__init__(line, found)
        order.follow(line.fresh)
        self.begins = dict.fromkeys(GROUP_OF, order.began)
        self.ends = dict.fromkeys(GROUP_OF, order.ended)

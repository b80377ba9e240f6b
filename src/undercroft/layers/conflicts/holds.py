"""Two rules on who holds what: claims at the same time, and writes to what another owns.

Keeps: the cost grows with what is held at once and does not go together, not with what is held.
Leaves to `matrix.py`: which modes go together.
"""

from __future__ import annotations

from undercroft.layers.conflicts.anomalies import UNORDERED, Found, Rule
from undercroft.layers.conflicts.history import GivenUp, Handed, Mark, Rechecked, TakenOver
from undercroft.layers.conflicts.keys import overlap, within
from undercroft.layers.conflicts.timeline import (
    APPEND,
    CLASHING,
    EXCLUSIVE,
    KINDS_MAX,
    READ,
    VOID,
    WRITE,
    Line,
)


class Together(Rule):
    """Steps that held claims at the same time that do not go together."""

    within_turn = True

    def __init__(self, line: Line, found: Found) -> None:
        super().__init__(line, found)
        self._live: dict[int, dict[int, None]] = {}
        self._count = 0
        self._busy = self._in_company()
        # Of two runtimes only what changes something is known well enough in the shared order.
        self._foreign = not line.own
        kinds = [kind for kind in range(KINDS_MAX) if not self._foreign or kind % VOID > READ]
        self.begins = dict.fromkeys(kinds, self._begin)
        self.ends = dict.fromkeys(kinds, self._end)

    def _in_company(self) -> bytearray:
        """Return, by operation, whether any other was under way at the same time."""
        busy = bytearray(len(self.ops))
        starts, stops = self.starts, self.stops
        reach, last = -1, 0
        for number in self.line.order:
            if starts[number] < reach:
                busy[number] = busy[last] = 1
            if stops[number] > reach:
                reach, last = stops[number], number
        return busy

    def _begin(self, number: int) -> None:
        if not self._busy[number]:
            return
        mode, key = self.kinds[number] % VOID, self.keys[number]
        if self._count and not self.found.full(UNORDERED):
            self._compare(number, mode, key)
        if self.stops[number] > self.starts[number]:
            live = self._live
            self._count += 1
            for cell in self.posts[key]:
                place = 5 * cell + mode
                known = live.get(place)
                if known is None:
                    live[place] = {number: None}
                else:
                    known[number] = None

    def _end(self, number: int) -> None:
        if not self._busy[number] or self.stops[number] == self.starts[number]:
            return
        self._count -= 1
        mode = self.kinds[number] % VOID
        for cell in self.posts[self.keys[number]]:
            known = self._live[5 * cell + mode]
            if len(known) == 1:
                del self._live[5 * cell + mode]
            else:
                del known[number]

    def _compare(self, number: int, mode: int, key: int) -> None:
        live = self._live
        for cell in self.asks[key]:
            for other_mode in CLASHING[mode]:
                for other in live.get(5 * cell + other_mode, ()):
                    if self._overlap(other, number):
                        self.found.unordered(other, number)

    def _overlap(self, other: int, number: int) -> bool:
        starts, stops = self.starts, self.stops
        if not (stops[other] > starts[number] and starts[other] < stops[number]):
            return False
        mine, theirs = self.ops[number], self.ops[other]
        if self._foreign and mine.runtime == theirs.runtime:
            return False
        return mine.n != theirs.n or mine.turn != theirs.turn


class Owners(Rule):
    """Writes to what another turn, or another branch of the same, has written and owns.

    What such a write touches it does not come to own.
    """

    within_turn = True

    def __init__(self, line: Line, found: Found) -> None:
        super().__init__(line, found)
        # By cell and turn, the keys that it owns there, and the operation that made it so.
        self._owners: dict[int, dict[int, dict[int, int]]] = {}
        # By turn and key, the branch that owns it.
        self._owned: dict[int, dict[int, str]] = {}
        self._branched: set[int] = set()
        # By step, the last word of a re-check before it.
        self._verdicts: dict[tuple[str, int], bool] = {
            step: marks[-1].same for step, marks in self.history.rechecks.items()
        }
        self.begins = dict.fromkeys((APPEND, WRITE, EXCLUSIVE), self._begin)

    def mark(self, mark: Mark, at: int) -> None:
        """Take note of a mark."""
        del at
        if isinstance(mark, Rechecked):
            return
        turns, names = self.history.turns, self.history.names
        match mark:
            case GivenUp(turn=turn):
                for key in self._owned_by(turns.get(turn)):
                    self._drop(turns[turn], key)
            case TakenOver(source=source, keys=taken):
                for key in self._owned_by(turns.get(source)):
                    if any(overlap(names[key], other) for other in taken):
                        self._drop(turns[source], key)
            case Handed(turn=turn):
                if turn in turns:
                    self._hand(turns[turn], mark)

    def _owned_by(self, turn: int | None) -> list[int]:
        return [] if turn is None else list(self._owned.get(turn, ()))

    def _drop(self, turn: int, key: int) -> None:
        del self._owned[turn][key]
        for cell in self.posts[key]:
            owners = self._owners[cell]
            del owners[turn][key]
            if not owners[turn]:
                del owners[turn]

    def _own(self, turn: int, key: int, number: int, branch: str) -> None:
        self._owned.setdefault(turn, {})[key] = branch
        if branch:
            self._branched.add(turn)
        for cell in self.posts[key]:
            self._owners.setdefault(cell, {}).setdefault(turn, {})[key] = number

    def _hand(self, turn: int, mark: Handed) -> None:
        owned, names = self._owned.get(turn, {}), self.history.names
        self._branched.add(turn)
        number = -1
        for key in [key for key, branch in owned.items() if branch == mark.giver]:
            if within(names[key], mark.key):
                owned[key] = mark.taker
            elif overlap(names[key], mark.key):
                number = self._owners[key][turn][key]
        if number >= 0:
            # A part of what the giver goes on owning.
            self._own(turn, self.history.overlaps.numbers[mark.key], number, mark.taker)

    def _begin(self, number: int) -> None:
        turn, key = self.turns[number], self.keys[number]
        op = self.ops[number]
        kind = self.kinds[number]
        if kind != APPEND and self._verdicts and not self._verdicts.get((op.turn, op.n), True):
            self.found.refused(number)
        guilty = False
        for cell in self.asks[key]:
            for other, keys in self._owners.get(cell, {}).items():
                if other != turn:
                    self.found.not_owner(next(iter(keys.values())), number)
                    guilty = True
                elif not guilty and (op.branch or turn in self._branched):
                    guilty = self._of_other_branch(number, turn, key, keys)
        if not guilty and kind != APPEND and key not in self._owned.get(turn, ()):
            self._own(turn, key, number, op.branch)

    def _of_other_branch(self, number: int, turn: int, key: int, keys: dict[int, int]) -> bool:
        """Whether another branch of the turn owns one of `keys`; if so it is reported."""
        owned, branch, names = self._owned[turn], self.ops[number].branch, self.history.names
        for other, first in keys.items():
            if owned[other] != branch and not any(
                held == branch
                and within(names[key], names[part])
                and within(names[part], names[other])
                for part, held in owned.items()
            ):
                self.found.not_owner(first, number)
                return True
        return False

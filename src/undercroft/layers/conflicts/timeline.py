"""A history made ready for checking: numbers for what it names, and the orders it can be told in.

Keeps: an order tells of each operation once, with its marks in place; what is cut off begins
and, as far as anybody knows, does no more.
Leaves to `anomalies.py`: what is looked for along an order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from undercroft.layers.conflicts.history import Handed, Mark, Operation, Overlaps, Rechecked, Record
from undercroft.layers.conflicts.matrix import CLASHES
from undercroft.model.effect import Mode

MODES = tuple(Mode)
PEEK, READ, APPEND, WRITE, EXCLUSIVE = range(5)
# Added to the kind of an operation that took no effect; it still held its claim.
VOID = 5
# A read that a later one of the same turn and key, or a re-check, replaced.
REPLACED = 2 * VOID + READ
KINDS_MAX = 3 * VOID
_PLACES = {mode.value: place for place, mode in enumerate(MODES)}
CLASHING = tuple(tuple(_PLACES[other] for other in CLASHES[mode]) for mode in MODES)


class History:
    """The operations of a history, with numbers for their turns, keys and kinds.

    Attributes:
        ops: In the order in which they began; an operation's number is its place here.
        turns: The number of each turn.
        turn_of: By operation, the number of its turn; likewise `kinds` and `keys`.
        names: By number of a key, the key.
        rechecks: By turn and step, what was read again for it.
        observed: By operation, a number for its key and the source of its version; -1 without.
        sources: By key, those numbers.
        apart: By operation, whether no other turn ever used its resource.
        split: Whether there are two orders: each runtime's clock, and the one they all share.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.ops: list[Operation] = []
        self.marks: list[Mark] = []
        self.turn_of: list[int] = []
        self.kinds: list[int] = []
        self.turns: dict[str, int] = {}
        self.rechecks: dict[tuple[str, int], list[Rechecked]] = {}
        keys: list[str] = []
        # By turn, its last read of each key.
        last: dict[int, dict[str, int]] = {}
        turns, kinds = self.turns, self.kinds
        for record in records:
            if not isinstance(record, Operation):
                self._mark(record, last)
                continue
            key = record.key
            if key.startswith("!"):
                continue
            kind = _PLACES.get(record.mode)
            if kind is None:
                msg = f"{record.mode!r} is no mode"
                raise ValueError(msg)
            turn = turns.setdefault(record.turn, len(turns))
            if not record.ok:
                kind += VOID
            elif kind == READ:
                reads = last.setdefault(turn, {})
                if key in reads:
                    kinds[reads[key]] = REPLACED
                reads[key] = len(keys)
            keys.append(key)
            self.turn_of.append(turn)
            kinds.append(kind)
            self.ops.append(record)
        del last
        handed = [mark.key for mark in self.marks if isinstance(mark, Handed)]
        again = [key for mark in self.marks if isinstance(mark, Rechecked) for key in mark.keys]
        self.overlaps = Overlaps([*keys, *handed, *again])
        self.names = list(self.overlaps.numbers)
        self.keys = [self.overlaps.numbers[key] for key in keys]
        self.split = bool(self.ops) and self.ops[0].since is not None
        self.sources: dict[int, list[int]] = {}
        self.observed = self._observed()
        self.apart = self._apart()

    def _apart(self) -> bytearray:
        posts, asks = self.overlaps.posts, self.overlaps.asks
        nobody, several = -1, -2
        users = [nobody] * (2 * self.overlaps.size)
        for turn, key in zip(self.turn_of, self.keys, strict=True):
            for cell in posts[key]:
                if users[cell] != turn:
                    users[cell] = turn if users[cell] == nobody else several
        apart = bytearray(self.overlaps.size)
        for key, cells in enumerate(asks):
            found = {users[cell] for cell in cells} - {nobody}
            apart[key] = len(found) == 1 and several not in found
        return bytearray([apart[key] for key in self.keys])

    def _observed(self) -> list[int]:
        numbers: dict[str, dict[int, int]] = {}
        made = 0
        observed = [-1] * len(self.ops)
        for number, op in enumerate(self.ops):
            if op.version and self.kinds[number] % (2 * VOID) == READ:
                by_key = numbers.setdefault(op.source, {})
                key = self.keys[number]
                known = by_key.get(key)
                if known is None:
                    known = by_key[key] = made
                    self.sources.setdefault(key, []).append(made)
                    made += 1
                observed[number] = known
        return observed

    def _mark(self, mark: Mark, last: dict[int, dict[str, int]]) -> None:
        self.marks.append(mark)
        if isinstance(mark, Rechecked):
            turn = self.turns.setdefault(mark.turn, len(self.turns))
            for key in mark.keys:
                number = last.get(turn, {}).pop(key, None)
                if number is not None:
                    self.kinds[number] = REPLACED
            if mark.n:
                self.rechecks.setdefault((mark.turn, mark.n), []).append(mark)

    def clocks(self, number: int) -> Iterator[tuple[int | None, int, int | None]]:
        """Yield the clocks that an operation was timed by, with its begin and end."""
        op = self.ops[number]
        yield (op.runtime if self.split else 0), op.begin, op.end
        if op.since is not None:
            yield None, op.since, op.until

    def lines(self) -> Iterator[Line]:
        """Yield the orders in which the operations are to be gone through."""
        ops, everything = self.ops, range(len(self.ops))
        ticks = Times(self, [op.begin for op in ops], [op.end for op in ops])
        marks = [(mark.at, mark) for mark in self.marks]
        if not self.split:
            yield Line(self, ticks, everything, marks, own=True, shared=True, alone=True)
            return
        runtimes: dict[int, list[int]] = {}
        for number, op in enumerate(ops):
            runtimes.setdefault(op.runtime, []).append(number)
        rechecks: dict[int, list[tuple[int, Mark]]] = {}
        for mark in self.marks:
            if isinstance(mark, Rechecked) and mark.tick is not None:
                rechecks.setdefault(mark.runtime, []).append((mark.tick, mark))
        alone = len(runtimes) == 1
        for runtime, mine in runtimes.items():
            known = rechecks.get(runtime, [])
            yield Line(self, ticks, mine, known, own=True, shared=False, alone=alone)
        del ticks
        places = Times(
            self,
            [op.begin if op.since is None else op.since for op in ops],
            [op.until for op in ops],
        )
        if alone:
            # The clock has told the rest, and better.
            everything_else = [n for n in everything if APPEND <= self.kinds[n] < VOID]
            yield Line(self, places, everything_else, marks, own=False, shared=True, alone=True)
        else:
            yield Line(self, places, everything, marks, own=False, shared=True, alone=False)


class Times:
    """When each operation begins and ends, in one or several orders that do not meet.

    Attributes:
        stops: Where it was cut off, it is only known to have begun.
        ranks: What to sort by: where two begin together, reads come before what changes
            something, since one step may do both.
    """

    def __init__(self, history: History, starts: list[int], ends: list[int | None]) -> None:
        self.starts, self.ends = starts, ends
        self.stops = [
            start if end is None else end for start, end in zip(starts, ends, strict=True)
        ]
        self.ranks = [
            2 * start + (kind % VOID > READ)
            for start, kind in zip(starts, history.kinds, strict=True)
        ]


class Line:
    """One order of operations: from begin to begin, with the ends and marks between them.

    Attributes:
        order: The operations as they begin.
        closed: Those that ended, as they end.
        marks: With their places, in order.
        own: Whether it is the clock of one runtime, or the only one, and so is exact.
        shared: Whether it is the order that all runtimes share.
        alone: Whether no other order says anything of these turns.
        fresh: By operation, whether all turns before it were over when it began.
        apart: By operation, whether no other turn was at work in all the time of its own turn,
            or ever used its resource: nothing can come between its turn's steps there.
    """

    def __init__(  # noqa: PLR0913  what a line is made of
        self,
        history: History,
        times: Times,
        numbers: Sequence[int],
        marks: list[tuple[int, Mark]],
        *,
        own: bool,
        shared: bool,
        alone: bool,
    ) -> None:
        self.history = history
        self.starts, self.stops = times.starts, times.stops
        self.own, self.shared, self.alone = own, shared, alone
        self.order = sorted(numbers, key=times.ranks.__getitem__)
        self.fresh = bytearray(len(history.ops))
        self.apart = bytearray(history.apart)
        if alone:
            self._find_epochs()
        closed = [number for number in numbers if times.ends[number] is not None]
        self.closed = sorted(closed, key=times.stops.__getitem__)
        self.marks = sorted(marks, key=_place)

    def _find_epochs(self) -> None:
        """Divide the line where every turn that has begun is over."""
        until: dict[int, int] = {}
        turns, starts, stops = self.history.turn_of, self.starts, self.stops
        for number in self.order:
            turn = turns[number]
            if stops[number] > until.get(turn, -1):
                until[turn] = stops[number]
        reach, first, turn, single = -1, 0, -1, False
        for place, number in enumerate(self.order):
            if starts[number] > reach:
                self.fresh[number] = 1
                if single:
                    self._set_apart(first, place)
                first, turn, single = place, turns[number], True
            elif turns[number] != turn:
                single = False
            reach = max(reach, until[turns[number]])
        if single:
            self._set_apart(first, len(self.order))

    def _set_apart(self, first: int, last: int) -> None:
        for place in range(first, last):
            self.apart[self.order[place]] = 1


def _place(marked: tuple[int, Mark]) -> int:
    return marked[0]

"""What a write rests on: whether its turn had seen what it overwrote, by order or by version.

Keeps: any later look of the turn at an overlapping key, a re-check or a write of its own
included, counts as having seen; so what is reported was not seen at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from undercroft.layers.conflicts.anomalies import Found, Rule
from undercroft.layers.conflicts.history import Mark, Rechecked
from undercroft.layers.conflicts.keys import within
from undercroft.layers.conflicts.timeline import APPEND, EXCLUSIVE, READ, REPLACED, WRITE, Line

# How far back a write looks for another turn's among those to overlapping keys. Only keys with
# a `*` that lie across each other need to look further than the last.
LOOK_BACK_MAX = 1_000


class _Known:
    """What one turn knows of resources, by a line.

    Attributes:
        seen: By cell, when the turn last read, re-read or changed something there.
        read: By key, its last read of it.
        below: By cell that lies below a key, the keys that it read there.
        saw: By key and source, the read that last observed a version, or -1.
        again: Likewise, when a re-check found that still to be so.
    """

    __slots__ = ("again", "below", "read", "saw", "seen")

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}
        self.read: dict[int, int] = {}
        self.below: dict[int, dict[int, None]] = {}
        self.saw: dict[int, int] = {}
        self.again: dict[int, int] = {}


class Rests(Rule):
    """Writes that rest on what their turn had not seen, by order or by version."""

    def __init__(self, line: Line, found: Found) -> None:
        super().__init__(line, found)
        self._known: dict[int, _Known] = {}
        # By cell, what changed it; by key and source, who observed a version; as they ended.
        self._wrote: dict[int, list[int]] = {}
        self._observed: dict[int, list[int]] = {}
        self._sources, self._source_of = self.history.sources, self.history.observed
        write, changed = self._write, self._changed
        self.begins = {READ: self._read, REPLACED: self._read, APPEND: self._append}
        self.begins |= {WRITE: write, EXCLUSIVE: write}
        self.ends = {READ: self._saw, REPLACED: self._saw, APPEND: changed}
        self.ends |= {WRITE: changed, EXCLUSIVE: changed}

    def mark(self, mark: Mark, at: int) -> None:
        """Take note of a mark."""
        if isinstance(mark, Rechecked):
            self._recheck(mark, at)

    # -------------------------------------------------------------- what a turn knows

    def _refresh(self, number: int) -> _Known:
        turn, stop, key = self.turns[number], self.stops[number], self.keys[number]
        known = self._known.get(turn)
        if known is None:
            known = self._known[turn] = _Known()
        seen, posts = known.seen, self.posts[key]
        if len(posts) == 1:
            if stop > seen.get(key, -1):
                seen[key] = stop
        else:
            for cell in posts:
                if stop > seen.get(cell, -1):
                    seen[cell] = stop
        return known

    def _append(self, number: int) -> None:
        self._refresh(number)

    def _read(self, number: int) -> None:
        known, key, source = self._refresh(number), self.keys[number], self._source_of[number]
        known.read[key] = number
        posts = self.posts[key]
        if len(posts) > 1:
            for cell in posts[1:]:
                if cell in known.below:
                    known.below[cell][key] = None
                else:
                    known.below[cell] = {key: None}
        if source >= 0:
            known.saw[source] = number

    def _recheck(self, mark: Rechecked, at: int) -> None:
        known = self._known.get(self.history.turns[mark.turn])
        if known is None:
            return  # what it knew was read by another clock
        for name in mark.keys:
            key = self.history.overlaps.numbers[name]
            for cell in self.posts[key]:
                known.seen[cell] = max(at, known.seen.get(cell, at))
            for source in self._sources.get(key, ()):
                read = known.saw.get(source, -1)
                if read >= 0 and self.stops[read] < at:
                    # Not the same: what it saw then is what it knows no longer.
                    known.saw[source] = read if mark.same else -1
                    known.again[source] = at

    def _changed(self, number: int) -> None:
        for cell in self.posts[self.keys[number]]:
            wrote = self._wrote.get(cell)
            if wrote is None:
                self._wrote[cell] = [number]
            else:
                wrote.append(number)

    def _saw(self, number: int) -> None:
        source = self._source_of[number]
        if source >= 0:
            observed = self._observed.get(source)
            if observed is None:
                self._observed[source] = [number]
            else:
                observed.append(number)

    # -------------------------------------------------------------- what a write rests on

    def _write(self, number: int) -> None:
        known = self._known.get(self.turns[number])
        if known is not None and known.read:
            if self.history.rechecks:
                self._own_rechecks(number)
            self._compare(number, known)
        self._refresh(number)

    def _own_rechecks(self, number: int) -> None:
        """Take note of what was read again for this very step, whatever stands first."""
        op = self.ops[number]
        rechecks = self.history.rechecks.get((op.turn, op.n), ())
        for mark in rechecks:
            at = mark.at if self.line.shared else mark.tick
            if at is not None and (self.line.shared or mark.runtime == op.runtime):
                self._recheck(mark, at)

    def _compare(self, number: int, known: _Known) -> None:
        key, newest = self.keys[number], -1
        for cell in self.asks[key]:
            wrote = self._wrote.get(cell)
            if wrote is not None:
                newest = max(newest, self.stops[wrote[-1]])
        if newest > known.seen.get(key, -1):
            for cell in self.asks[key]:
                below = known.below.get(cell, ()) if cell >= self.size else (cell,)
                for read in below:
                    if read in known.read and self._lost(number, key, read, known):
                        return
        for source in self._sources.get(key, ()):
            if source in known.saw:
                self._stale(number, key, source, known)

    def _seen(self, key: int, known: _Known) -> int:
        seen, asks = known.seen, self.asks[key]
        if len(asks) == 1:
            return seen.get(key, -1)
        return max([seen.get(cell, -1) for cell in asks])

    def _lost(self, number: int, key: int, read: int, known: _Known) -> bool:
        """Whether another turn changed what `read` showed, unseen; if so it is reported."""
        narrow, across = key, False
        if read != key:
            names = self.history.names
            if within(names[read], names[key]):
                narrow = read
            elif not within(names[key], names[read]):
                across = True
        seen, turn = self._seen(read, known), self.turns[number]
        for cell in self.asks[narrow]:
            for other in self._since(self._wrote.get(cell), seen, turn):
                if not across or self.history.overlaps.meet(self.keys[other], read):
                    self.found.lost(known.read[read], other, number)
                    return True
        return False

    def _since(self, numbers: list[int] | None, seen: int, turn: int) -> Iterator[int]:
        """Yield, the last first, what other turns did wholly after `seen`."""
        for number in islice(reversed(numbers or ()), LOOK_BACK_MAX):
            if self.stops[number] <= seen:
                return
            if self.starts[number] > seen and self.turns[number] != turn:
                yield number

    def _stale(self, number: int, key: int, source: int, known: _Known) -> None:
        read = known.saw[source]
        if read < 0:
            return
        at = max(self.stops[read], known.again.get(source, -1))
        if self._seen(key, known) > at:
            return
        version = self.ops[read].version
        for other in self._since(self._observed.get(source), at, self.turns[number]):
            if self.ops[other].version != version:
                self.found.stale(read, other, number)
                return

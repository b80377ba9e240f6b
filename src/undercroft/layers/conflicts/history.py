"""What happened to resources, as a checker reads it: operations, marks, and what overlaps.

Keeps: two operations are compared by the clock of their process where they share one, and
else by the order that all processes share, where an interval is only known to contain the
operation; so whatever is said to come first did.
Leaves to `anomalies.py` what is wrong with a history, and to the engine how to read one from a
journal.
Source: interval orders and real time as of Herlihy and Wing, "Linearizability", 1990.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from undercroft.layers.conflicts.keys import WILD
from undercroft.layers.conflicts.ownership import paths_above
from undercroft.model.step import step_id

Step: TypeAlias = tuple[str, str]


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One claim of one attempt at a step: what a turn did to a resource, and when.

    Attributes:
        turn: Id of the turn.
        n: Number of the step.
        name: Name of the step.
        mode: `peek`, `read`, `append`, `write` or `exclusive`.
        key: Canonical path; a key covers its subtree, `*` is any one segment, and the empty
            one is everything. One that begins with `!` is the house's own and is passed over.
        begin: When it began, by the clock of its runtime.
        end: When it ended, by the same clock; None where it was cut off.
        ok: Whether it took effect, or may have.
        branch: Name of the branch of the turn; empty for the turn itself.
        runtime: Number of the process whose clock it is.
        version: What a read saw, or empty where that is not known.
        source: What made the version; only versions of one source can be compared.
        since: In the order that all runtimes share, a place before which it had no effect; None
            where the clock of all runtimes is one. For what changes something, the place of its
            intent.
        until: Likewise, a place after which it had none; None where it was cut off.
    """

    turn: str
    n: int
    name: str
    mode: str
    key: str
    begin: int
    end: int | None
    ok: bool = True
    branch: str = ""
    runtime: int = 0
    version: str = ""
    source: str = ""
    since: int | None = None
    until: int | None = None

    @property
    def step(self) -> Step:
        """The turn and the public id of the step."""
        return (self.turn, step_id(self.name, self.n))


class GivenUp(msgspec.Struct, frozen=True):
    """The turn ended or parked, and owns nothing from here on.

    Attributes:
        at: Where, in the order that all runtimes share; so for all marks.
    """

    turn: str
    at: int


class TakenOver(msgspec.Struct, frozen=True):
    """The turn took resources over from `source`, whose lease had lapsed."""

    turn: str
    keys: tuple[str, ...]
    source: str
    at: int


class Handed(msgspec.Struct, frozen=True):
    """A branch of the turn gave what it owns of `key` to another; empty names are the turn."""

    turn: str
    key: str
    giver: str
    taker: str
    at: int


class Rechecked(msgspec.Struct, frozen=True):
    """The turn read again what it knew of `keys`, before or in step `n`.

    Attributes:
        same: Whether all of it was as the turn knew it; if not, step `n` must not write.
        n: The step that wants to write; 0 where it no longer matters which.
        runtime: Whose clock `tick` is by.
        tick: When, by the clock of the runtime; None where there is only one clock.
    """

    turn: str
    keys: tuple[str, ...]
    same: bool
    n: int
    at: int
    runtime: int = 0
    tick: int | None = None


Mark: TypeAlias = GivenUp | TakenOver | Handed | Rechecked
Record: TypeAlias = Operation | Mark


class Overlaps:
    """Which of a set of keys overlap, by shared cells instead of by comparing all pairs.

    Each key posts to some cells and asks some cells, such that what a key asks holds exactly
    what was posted under keys that overlap with it. Cell k is the home of key number k: only
    that key posts there. Cell `size + k` lies below key k: whatever is posted under keys that k
    covers or, where k has a `*`, meets. A key without relatives has its home and nothing else,
    so a flat set of keys costs one cell a key.

    Attributes:
        numbers: The number of each key.
        size: How many keys there are.
        posts: By key, where it posts; its home first.
        asks: By key, where it asks; its home first.
    """

    __slots__ = ("asks", "numbers", "posts", "size")

    def __init__(self, keys: Iterable[str]) -> None:
        self.numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        self.size = size = len(self.numbers)
        self.posts: list[tuple[int, ...]] = [(number,) for number in range(size)]
        self.asks: list[tuple[int, ...]] = [(number,) for number in range(size)]
        wild = {key: number for key, number in self.numbers.items() if WILD in key.split("/")}
        trie = _trie(wild)
        covered: set[int] = set()
        for key, number in self.numbers.items():
            if key in wild:
                continue
            above = [self.numbers[path] for path in paths_above(key) if path in self.numbers]
            if wild:
                above += _meeting(trie, key)
            if above:
                covered.update(above)
                self.posts[number] += tuple(size + other for other in above)
                self.asks[number] += tuple(above)
        for key, number in wild.items():
            self.asks[number] += tuple(n for n in _meeting(trie, key) if n != number)
        for number in covered:
            self.asks[number] += (size + number,)

    def meet(self, one: int, other: int) -> bool:
        """Whether two keys overlap, by their numbers."""
        return not set(self.asks[one]).isdisjoint(self.posts[other])


_Trie: TypeAlias = dict[str | None, Any]


def _trie(keys: dict[str, int]) -> _Trie:
    """Return keys by their segments; the number of a key stands under None."""
    root: _Trie = {}
    for key, number in keys.items():
        node = root
        for segment in key.split("/"):
            node = node.setdefault(segment, {})
        node[None] = number
    return root


def _meeting(trie: _Trie, key: str) -> Iterator[int]:
    """Yield the keys of `trie` that overlap with `key`."""
    segments = key.split("/") if key else []
    todo = [(trie, 0)]
    while todo:
        node, depth = todo.pop()
        if None in node:
            yield node[None]
        below = depth >= len(segments)
        if below or segments[depth] == WILD:
            children = [node[segment] for segment in node if segment is not None]
        else:
            children = [node[part] for part in (segments[depth], WILD) if part in node]
        todo += [(child, depth + 1) for child in children]

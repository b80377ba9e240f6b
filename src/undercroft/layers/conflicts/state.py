"""Who holds which resources now, and who waits: claims are granted all or none, in turn.

Keeps: no two holders are incompatible on keys of which one covers the other; a ticket gets
all its claims or none; nobody overtakes an earlier ticket that it conflicts with; whoever
holds never waits, so nothing deadlocks.
Leaves to the engine: whom a ticket stands for, how it waits, and for how long.

The table is a tree of paths. Each node knows, by mode and in the order of tickets, who
claims exactly it and who claims something below it, so a claim is checked against its
ancestors and its own subtree in as many steps as its path has segments.
A ticket that has to wait watches one earlier ticket that it conflicts with, and looks for
another one when that is gone: a queue of n on one key is drained in linear time.
Source of the watching: the watched literals of Moskewicz et al., "Chaff", DAC 2001; of the
hierarchy: Gray et al., "Granularity of Locks and Degrees of Consistency", 1976.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from undercroft.layers.conflicts.keys import overlap, within
from undercroft.layers.conflicts.matrix import CLASHES
from undercroft.model.effect import Effect, Mode

Pairs = Sequence[tuple[str, str]]

_BIT = {mode.value: 1 << place for place, mode in enumerate(Mode)}
_CLASH = {
    mode.value: sum(_BIT[other.value] for other in clashes) for mode, clashes in CLASHES.items()
}
_BELOW = len(_BIT)
_PATHS_MAX = 4_096


class Ticket:
    """A place in the queue, with all the claims of one step.

    Attributes:
        number: Smaller ones asked earlier.
        claims: As (mode, key).
        granted: Whether it holds its claims now.
        present: Whether it holds or waits.
        behind: The earlier ticket that it waits for, as far as is known; None once granted.
        stands_for: Whatever the caller put there; None once it is released.
    """

    __slots__ = (
        "_after",
        "_entries",
        "_watchers",
        "behind",
        "claims",
        "granted",
        "number",
        "present",
        "stands_for",
    )

    def __init__(self, number: int, claims: Pairs, stands_for: Any) -> None:
        self.number = number
        self.claims = claims
        self.stands_for = stands_for
        self.granted = self.present = True
        self.behind: Ticket | None = None
        self._entries: list[_Entry] = []
        self._watchers: list[Ticket] | None = None
        self._after: Sequence[Ticket] | None = None

    def __repr__(self) -> str:
        claims = ", ".join(f"{mode} {key or 'everything'}" for mode, key in self.claims)
        return f"<ticket {self.number}: {claims or 'nothing'}>"


class _Entry:
    """One claim of a ticket, as it stands in the tree."""

    __slots__ = ("bit", "clash", "key", "nodes", "path", "ticket", "wild")

    def __init__(self, ticket: Ticket, mode: str, key: str) -> None:
        self.ticket = ticket
        self.bit = _BIT[mode]
        self.clash = _CLASH[mode]
        self.key = key
        self.wild = "*" in key
        self.path = _path_of(key)
        # From the root down to the node that it stands at.
        self.nodes: list[_Node] = []


_Queue = OrderedDict[_Entry, None]


class _Node:
    """One path: who claims exactly it, and who claims something below it.

    Attributes:
        queues: By bit of mode who is here, and by that bit shifted by `_BELOW` who is below,
            each in the order of tickets.
        mask: Which queues there are.
        wild: Claims with a `*`, of which this is the path before the first one. They count
            as being below.
    """

    __slots__ = ("mask", "queues", "wild")

    def __init__(self) -> None:
        self.mask = 0
        self.queues: dict[int, _Queue] = {}
        self.wild: _Queue | None = None


class ClaimTable:
    """Who holds what, and who waits for it.

    `ask`, `release` and `narrow` cost time in the claims of the ticket and the segments of
    their keys, and a constant amount for each ticket that they move; claims with a `*`, also
    in how many others lie below their beginning.
    """

    __slots__ = ("_count", "_next", "_nodes", "_root", "_tops", "_wild")

    def __init__(self) -> None:
        self._root = _Node()
        self._tops: dict[str, _Node] = {}
        self._nodes: dict[str, _Node] = {}
        self._next = 0
        self._count = 0
        self._wild = 0

    def __len__(self) -> int:
        """How many tickets hold or wait."""
        return self._count

    def ask(
        self, claims: Pairs, stands_for: Any = None, after: Sequence[Ticket] | None = None
    ) -> Ticket:
        """Return a ticket for all of `claims`, granted at once or waiting its turn.

        Args:
            claims: As (mode, key); keys in normal form.
            stands_for: Whatever the caller wants to find again on the ticket.
            after: Tickets that must be gone first, whatever they claim.
        """
        self._next = number = self._next + 1
        self._count += 1
        ticket = Ticket(number, claims, stands_for)
        blocker: Ticket | None = None
        entries = ticket._entries  # noqa: SLF001  one file, one structure
        for mode, key in claims:
            entry = _Entry(ticket, mode, key)
            entries.append(entry)
            if self._may_conflict(entry):
                found = self._conflict(entry, latest=True)
                if found is not None and (blocker is None or found.number > blocker.number):
                    blocker = found
        # Only now, so that no claim of a ticket stands in the way of another of its own.
        for entry in entries:
            self._insert(entry)
        if after:
            ticket._after = after  # noqa: SLF001
            blocker = blocker or _still_there(after)
        if blocker is not None:
            ticket.granted = False
            _watch(ticket, blocker)
        return ticket

    def release(self, ticket: Ticket) -> list[Ticket]:
        """Take `ticket` out, granted or waiting; return those that are granted now, in turn.

        A ticket that is gone already is left alone.
        """
        if not ticket.present:
            return []
        ticket.present = ticket.granted = False
        ticket.behind = None
        self._count -= 1
        for entry in ticket._entries:  # noqa: SLF001
            self._remove(entry)
        # Rings of references would be left to the garbage collector, which takes longer.
        ticket._entries = []  # noqa: SLF001
        ticket.stands_for = None
        return self._moved_up(ticket) if ticket._watchers else []  # noqa: SLF001

    def narrow(self, ticket: Ticket, old: str, new: str) -> list[Ticket]:
        """Let go of all of `old` but `new`, which lies within; return those granted now.

        Raises:
            ValueError: `new` would claim what `old` does not, or `old` is not claimed.
        """
        if not within(new, old):
            msg = f"{new!r} does not lie within {old!r}: a claim never widens while it is held"
            raise ValueError(msg)
        found = [entry for entry in ticket._entries if entry.key == old]  # noqa: SLF001
        if not found or not ticket.present:
            msg = f"{ticket!r} does not claim {old!r}"
            raise ValueError(msg)
        for entry in found:
            self._remove(entry)
            entry.key, entry.wild, entry.path = new, "*" in new, _path_of(new)
            self._insert(entry)
            for queue in _queues(entry):
                _put_in_order(queue, entry)
        ticket.claims = [(mode, new if key == old else key) for mode, key in ticket.claims]
        return self._moved_up(ticket)

    # ------------------------------------------------------------------ waiting

    def _moved_up(self, gone: Ticket) -> list[Ticket]:
        """Look again at those that waited for `gone`; return those that need wait no more."""
        watchers, gone._watchers = gone._watchers, None  # noqa: SLF001
        granted: list[Ticket] = []
        for ticket in watchers or ():
            if not ticket.present or ticket.granted:
                continue
            blocker = self._blocker(ticket)
            if blocker is None:
                ticket.granted, ticket.behind = True, None
                granted.append(ticket)
            else:
                _watch(ticket, blocker)
        if len(granted) > 1:
            granted.sort(key=_number)
        return granted

    def _blocker(self, ticket: Ticket) -> Ticket | None:
        """Return an earlier ticket that keeps `ticket` waiting."""
        for entry in ticket._entries:  # noqa: SLF001
            found = self._conflict(entry, latest=False)
            if found is not None:
                return found
        after = ticket._after  # noqa: SLF001
        return _still_there(after) if after else None

    # ------------------------------------------------------------------ the tree

    def _may_conflict(self, entry: _Entry) -> bool:
        """Find the nodes that `entry` concerns; return whether any of them is in its way."""
        known, nodes, clash, root = self._nodes, entry.nodes, entry.clash, self._root
        met = root.mask & clash or root.wild or self._wild
        for at in entry.path:
            node = known.get(at)
            if node is None:
                return bool(met)  # nothing is claimed below it either
            nodes.append(node)
            met = met or node.mask & clash
        return bool(met) or not nodes or nodes[-1].mask & clash << _BELOW > 0

    def _conflict(self, entry: _Entry, *, latest: bool) -> Ticket | None:
        """Return an earlier ticket with a claim that is incompatible with `entry`.

        With `latest` every ticket in the table is an earlier one, and the last is returned.
        """
        clash, best = entry.clash, None
        for node in (self._root, *entry.nodes):
            best = _first(node, clash, entry, best, latest=latest)
            if node.wild:
                best = _first_of_each(node.wild, entry, best, latest=latest)
        if not entry.path:  # everything, or `*` first: the root does not know what is below
            for node in self._tops.values():
                both = clash | clash << _BELOW
                best = _first(node, both, entry, best, latest=latest)
        elif len(entry.nodes) == len(entry.path):
            best = _first(entry.nodes[-1], clash << _BELOW, entry, best, latest=latest)
        return best

    def _insert(self, entry: _Entry) -> None:
        nodes, bit = entry.nodes, entry.bit
        missing = len(entry.path) - len(nodes)
        if missing:
            known = self._nodes
            for at in entry.path[-missing:]:
                node = known.get(at)
                if node is None:
                    node = known[at] = _Node()
                    if not nodes:
                        self._tops[at] = node
                nodes.append(node)
        elif not nodes:
            nodes.append(self._root)
        if entry.wild:
            self._wild += 1
            node = nodes[-1]
            if node.wild is None:
                node.wild = OrderedDict()
            node.wild[entry] = None
            bit <<= _BELOW
        for node in reversed(nodes):
            if node.mask & bit:
                node.queues[bit][entry] = None
            else:
                node.mask |= bit
                node.queues[bit] = OrderedDict(((entry, None),))
            bit = entry.bit << _BELOW

    def _remove(self, entry: _Entry) -> None:
        nodes, bit = entry.nodes, entry.bit
        if entry.wild:
            self._wild -= 1
            wild = nodes[-1].wild
            if wild is not None:
                del wild[entry]
            bit <<= _BELOW
        at = len(nodes)
        entry.nodes = []
        for node in reversed(nodes):
            at -= 1
            queue = node.queues[bit]
            del queue[entry]
            if not queue:
                del node.queues[bit]
                node.mask ^= bit
                if not node.mask and entry.path:
                    del self._nodes[entry.path[at]]
                    if not at:
                        del self._tops[entry.path[0]]
            bit = entry.bit << _BELOW


@lru_cache(maxsize=_PATHS_MAX)
def _path_of(key: str) -> tuple[str, ...]:
    """Return the paths from the first segment down to `key`, or to its first `*`."""
    if "*" in key:
        segments = key.split("/")
        key = "/".join(segments[: segments.index("*")])
    at = key.find("/")
    if at < 0:
        return (key,) if key else ()
    paths = []
    while at >= 0:
        paths.append(key[:at])
        at = key.find("/", at + 1)
    return (*paths, key)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        bit = mask & -mask
        yield bit
        mask ^= bit


def _queues(entry: _Entry) -> Iterator[_Queue]:
    """Yield every queue that `entry` stands in."""
    for node in entry.nodes:
        for bit in (entry.bit, entry.bit << _BELOW):
            if entry in node.queues.get(bit, ()):
                yield node.queues[bit]
        if node.wild and entry in node.wild:
            yield node.wild


def _first(
    node: _Node, clash: int, entry: _Entry, best: Ticket | None, *, latest: bool
) -> Ticket | None:
    """Return the ticket to wait for among the queues of `clash` at `node`, or `best`."""
    mine = entry.ticket.number
    for bit in _bits(node.mask & clash):
        queue = node.queues[bit]
        if entry.wild and bit >> _BELOW:
            best = _first_of_each(queue, entry, best, latest=latest)
            continue
        found = next(reversed(queue) if latest else iter(queue)).ticket
        if found.number < mine and (best is None or found.number > best.number):
            best = found
    return best


def _first_of_each(
    queue: _Queue, entry: _Entry, best: Ticket | None, *, latest: bool
) -> Ticket | None:
    """As `_first`, for a queue in which each entry has to be compared with `entry`."""
    mine = entry.ticket.number
    for other in reversed(queue) if latest else queue:
        number = other.ticket.number
        if number < mine and other.bit & entry.clash and overlap(other.key, entry.key):
            return other.ticket if best is None or number > best.number else best
    return best


def _put_in_order(queue: _Queue, entry: _Entry) -> None:
    """Move those that asked later behind `entry`, which came to this queue late."""
    mine = entry.ticket.number
    for other in [other for other in queue if other.ticket.number > mine]:
        queue.move_to_end(other)


def _watch(ticket: Ticket, blocker: Ticket) -> None:
    ticket.behind = blocker
    if blocker._watchers is None:  # noqa: SLF001
        blocker._watchers = []  # noqa: SLF001
    blocker._watchers.append(ticket)  # noqa: SLF001


def _still_there(tickets: Sequence[Ticket]) -> Ticket | None:
    return next((ticket for ticket in reversed(tickets) if ticket.present), None)


def _number(ticket: Ticket) -> int:
    return ticket.number


def runs_alone(effect: Effect) -> bool:
    """Whether nothing else of the turn may run beside a step with this effect."""
    return effect.changes

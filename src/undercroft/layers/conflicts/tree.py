"""Claims as a tree of paths: who is in the way of whom, in a crowd.

Each node knows, by mode and in the order of tickets, who claims exactly it and who claims
something below it, so a claim is checked against its ancestors and its own subtree in as many
steps as its path has segments.
Source: the intention locks of Gray et al., "Granularity of Locks and Degrees of
Consistency", 1976.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from undercroft.layers.conflicts.keys import overlap
from undercroft.layers.conflicts.matrix import CLASHES
from undercroft.model.effect import Mode

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
        # Only in a crowd; none of those that are merely counted.
        self._entries: Sequence[Entry] = ()
        self._watchers: dict[Ticket, None] | None = None
        self._after: Sequence[Ticket] | None = None

    def __repr__(self) -> str:
        claims = ", ".join(f"{mode} {key or 'everything'}" for mode, key in self.claims)
        return f"<ticket {self.number}: {claims or 'nothing'}>"


class Entry:
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


_Queue = OrderedDict[Entry, None]


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


class ClaimTree:
    """Where every claim of a crowd stands.

    A claim costs time in the segments of its key; one with a `*`, also in how many others lie
    below its beginning.
    """

    __slots__ = ("_nodes", "_root", "_tops", "_wild")

    def __init__(self) -> None:
        self._root = _Node()
        self._tops: dict[str, _Node] = {}
        self._nodes: dict[str, _Node] = {}
        self._wild = 0

    def plant(self, ticket: Ticket) -> Ticket | None:
        """Put all claims of a new ticket in; return the last of those that it has to wait for."""
        blocker: Ticket | None = None
        entries: list[Entry] = []
        ticket._entries = entries  # noqa: SLF001  one package, one structure
        for mode, key in ticket.claims:
            entry = Entry(ticket, mode, key)
            entries.append(entry)
            if self._may_conflict(entry):
                found = self._conflict(entry, latest=True)
                if found is not None and (blocker is None or found.number > blocker.number):
                    blocker = found
        # Only now, so that no claim of a ticket stands in the way of another of its own.
        for entry in entries:
            self._insert(entry)
        return blocker

    def uproot(self, ticket: Ticket) -> None:
        """Take all claims of a ticket out."""
        for entry in ticket._entries:  # noqa: SLF001
            self._remove(entry)
        # Rings of references would be left to the garbage collector, which takes longer.
        ticket._entries = ()  # noqa: SLF001

    def replant(self, ticket: Ticket, mode: str, old: str, new: str) -> None:
        """Move a claim of a ticket from `old` to `new`."""
        bit = _BIT[mode]
        for entry in ticket._entries:  # noqa: SLF001
            if entry.key != old or entry.bit != bit:
                continue
            self._remove(entry)
            entry.key, entry.wild, entry.path = new, "*" in new, _path_of(new)
            self._insert(entry)
            for queue in _queues(entry):
                _put_in_order(queue, entry)

    @staticmethod
    def clash(ticket: Ticket, other: Ticket) -> bool:
        """Whether two tickets cannot hold their claims at the same time."""
        return any(
            mine.bit & theirs.clash and overlap(mine.key, theirs.key)
            for mine in ticket._entries  # noqa: SLF001
            for theirs in other._entries  # noqa: SLF001
        )

    def blocker(self, ticket: Ticket) -> Ticket | None:
        """Return an earlier ticket that keeps one in the tree waiting."""
        for entry in ticket._entries:  # noqa: SLF001
            found = self._conflict(entry, latest=False)
            if found is not None:
                return found
        return None

    def _may_conflict(self, entry: Entry) -> bool:
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

    def _conflict(self, entry: Entry, *, latest: bool) -> Ticket | None:
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

    def _insert(self, entry: Entry) -> None:
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

    def _remove(self, entry: Entry) -> None:
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


def _queues(entry: Entry) -> Iterator[_Queue]:
    """Yield every queue that `entry` stands in."""
    for node in entry.nodes:
        for bit in (entry.bit, entry.bit << _BELOW):
            if entry in node.queues.get(bit, ()):
                yield node.queues[bit]
        if node.wild and entry in node.wild:
            yield node.wild


def _first(
    node: _Node, clash: int, entry: Entry, best: Ticket | None, *, latest: bool
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
    queue: _Queue, entry: Entry, best: Ticket | None, *, latest: bool
) -> Ticket | None:
    """As `_first`, for a queue in which each entry has to be compared with `entry`."""
    mine = entry.ticket.number
    for other in reversed(queue) if latest else queue:
        number = other.ticket.number
        if number < mine and other.bit & entry.clash and overlap(other.key, entry.key):
            return other.ticket if best is None or number > best.number else best
    return best


def _put_in_order(queue: _Queue, entry: Entry) -> None:
    """Move those that asked later behind `entry`, which came to this queue late."""
    mine, later = entry.ticket.number, []
    for other in reversed(queue):
        if other is not entry:
            if other.ticket.number < mine:
                break
            later.append(other)
    for other in reversed(later):
        queue.move_to_end(other)

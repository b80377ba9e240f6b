"""Who came before whom: the graph of turns that conflicting operations make, and its cycles.

Keeps: the graph grows linearly with the operations, and one turn reaches another in it exactly
if it does in the graph of all conflicting pairs.
Leaves to `anomalies.py`: the order of the operations, and which of them count.
Source: conflict serialisability, Bernstein, Hadzilacos and Goodman 1987, ch. 2; direct
serialisation graphs, Adya 1999; strongly connected components, Tarjan 1972, without recursion.

All pairs would be too many: a thousand reads before a thousand writes make a million. So what
is posted to a cell is gathered in a node of its own, a crowd: turn → crowd → turn stands for
all pairs. Once somebody has asked a crowd it takes no more turns, since whoever is posted later
did not come before; a new crowd follows it. A write of exactly the key stands for all before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from undercroft.layers.conflicts.timeline import APPEND, EXCLUSIVE, READ, WRITE, History

# Operations by what they conflict with; a peek need not be stable and makes no order.
READS, APPENDS, WRITES = range(3)
GROUP_OF = {READ: READS, APPEND: APPENDS, WRITE: WRITES, EXCLUSIVE: WRITES}
AGAINST = ((APPENDS, WRITES), (READS, WRITES), (READS, APPENDS, WRITES))


class Places:
    """Where operations post and ask, by `3 * key + group`; a place is `3 * cell + group`.

    Only places where somebody asks for what somebody posts are kept.
    """

    def __init__(self, history: History) -> None:
        cells = history.overlaps
        used = {
            3 * key + GROUP_OF[kind]
            for key, kind in zip(history.keys, history.kinds, strict=True)
            if kind in GROUP_OF
        }
        posts = {n: [3 * cell + n % 3 for cell in cells.posts[n // 3]] for n in used}
        asks = {
            n: [3 * cell + group for cell in cells.asks[n // 3] for group in AGAINST[n % 3]]
            for n in used
        }
        posted = {place for places in posts.values() for place in places}
        asked = {place for places in asks.values() for place in places}
        self.posts = {n: tuple([p for p in places if p in asked]) for n, places in posts.items()}
        self.asks = {n: tuple([p for p in places if p in posted]) for n, places in asks.items()}


class Precedence:
    """The graph, gathered from operations as they begin and end.

    Its nodes are the turns, by number, and after them the crowds.
    """

    def __init__(self, history: History) -> None:
        self._turns = len(history.turns)
        self._turn_of = history.turn_of
        # By operation, the places of its key and group.
        self._uses = [
            3 * key + GROUP_OF.get(kind, 0)
            for key, kind in zip(history.keys, history.kinds, strict=True)
        ]
        places = Places(history)
        self._posts, self._asks = places.posts, places.asks
        self._edges = Edges(self._turns)
        # Crowds that somebody asked: they take no more turns.
        self._asked: set[int] = set()
        self.follow(bytearray(len(history.ops)))

    def follow(self, fresh: bytearray) -> None:
        """Begin an order of the operations.

        Args:
            fresh: By operation, whether all turns before it were over when it began, so that
                none of them can come after a later one.
        """
        self._fresh = fresh
        self._restart()

    def _restart(self) -> None:
        self._nodes: dict[int, int] = {}
        # How many operations had ended when a write began, and when a key was last used.
        self._begun: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._ended = 0

    def began(self, number: int) -> None:
        """Take note that an operation began: what conflicts and has ended came before it."""
        if self._fresh[number]:
            self._restart()
        nodes, use, turn = self._nodes, self._uses[number], self._turn_of[number]
        for place in self._asks[use]:
            node = nodes.get(place)
            if node is not None and node != turn:
                self._edges.add(node, turn)
                if node >= self._turns:
                    self._asked.add(node)
        if use % 3 == WRITES:
            self._begun[number] = self._ended

    def ended(self, number: int) -> None:
        """Take note that an operation ended, before all that begin from now on."""
        nodes, use, turn = self._nodes, self._uses[number], self._turn_of[number]
        group = use % 3
        home = use - group
        self._ended += 1
        if group == WRITES and self._last.get(home, 0) <= self._begun.pop(number):
            # All that was posted here came before this write, so it stands for them.
            nodes.pop(home, None)
            nodes.pop(home + 1, None)
            nodes.pop(home + 2, None)
        self._last[home] = self._ended
        for place in self._posts[use]:
            node = nodes.get(place)
            if node is None:
                nodes[place] = turn
            elif node != turn:
                if node < self._turns or node in self._asked:
                    crowd = self._edges.node()
                    self._edges.add(node, crowd)
                    nodes[place] = node = crowd
                self._edges.add(turn, node)

    def cycles(self) -> Iterator[list[int]]:
        """Yield one short cycle of turns for each set of turns that all precede each other."""
        for component in _components(self._edges):
            turns = sorted(node for node in component if node < self._turns)
            if len(turns) > 1:
                yield self._cycle(set(component), turns)

    def _cycle(self, component: set[int], turns: list[int]) -> list[int]:
        """Return a short cycle through the first of `turns`, each turn once."""
        start = turns[0]
        after = {
            node: [other for other in self._edges.of(node) if other in component]
            for node in component
        }
        before: dict[int, list[int]] = {node: [] for node in component}
        for node, others in after.items():
            for other in others:
                before[other].append(node)
        away, back = _paths(start, after), _paths(start, before)
        _, other = min((len(away[turn]) + len(back[turn]), turn) for turn in turns[1:])
        walk = [node for node in away[other][:-1] + back[other][::-1] if node < self._turns]
        cycle: list[int] = []
        for turn in walk[:-1]:
            if turn in cycle:  # a smaller cycle hangs on the way
                return cycle[cycle.index(turn) :]
            cycle.append(turn)
        return cycle


class Edges:
    """A directed graph in three lists of numbers: millions of small ones would cost too much."""

    __slots__ = ("first", "next", "to")

    def __init__(self, nodes: int) -> None:
        # By node, its newest edge; by edge, where it leads, and the edge before it; -1 for none.
        self.first = [-1] * nodes
        self.to: list[int] = []
        self.next: list[int] = []

    def node(self) -> int:
        """Return a new node."""
        self.first.append(-1)
        return len(self.first) - 1

    def add(self, node: int, other: int) -> None:
        """Add an edge, unless it was the last to be added there."""
        edge = self.first[node]
        if edge < 0 or self.to[edge] != other:
            self.first[node] = len(self.to)
            self.to.append(other)
            self.next.append(edge)

    def of(self, node: int) -> Iterator[int]:
        """Yield where the edges of a node lead."""
        edge = self.first[node]
        while edge >= 0:
            yield self.to[edge]
            edge = self.next[edge]


def _paths(start: int, after: dict[int, list[int]]) -> _Paths:
    """Return how to come from `start` to every node, by few edges."""
    came: dict[int, int] = {start: start}
    todo = deque([start])
    while todo:
        node = todo.popleft()
        for other in after[node]:
            if other not in came:
                came[other] = node
                todo.append(other)
    return _Paths(start, came)


class _Paths:
    """Paths from one node, each made when it is asked for."""

    def __init__(self, start: int, came: dict[int, int]) -> None:
        self._start, self._came = start, came

    def __getitem__(self, node: int) -> list[int]:
        path = [node]
        while path[-1] != self._start:
            path.append(self._came[path[-1]])
        return path[::-1]


def _components(edges: Edges) -> Iterator[list[int]]:
    """Yield the strongly connected components of two nodes and more."""
    cursor = list(edges.first)
    low = [0] * len(cursor)  # the earliest node met that is known to be reached, from 1
    order = [0] * len(cursor)
    met = 0
    stack: list[int] = []
    for root in range(len(cursor)):
        work = [] if low[root] or cursor[root] < 0 else [root]
        while work:
            node = work[-1]
            if not order[node]:
                met += 1
                low[node] = order[node] = met
                stack.append(node)
            new = _advance(edges, cursor, low, node)
            if new >= 0:
                work.append(new)
                continue
            work.pop()
            if work:
                low[work[-1]] = min(low[work[-1]], low[node])
            if low[node] == order[node]:
                at = len(stack) - 1
                while stack[at] != node:
                    at -= 1
                component = stack[at:]
                del stack[at:]
                for member in component:
                    low[member] = len(low) + 1  # done: not reached from what is met later
                if len(component) > 1:
                    yield component


def _advance(edges: Edges, cursor: list[int], low: list[int], node: int) -> int:
    """Follow the edges of `node` up to the next node that is new, or to the end: -1."""
    edge, lowest = cursor[node], low[node]
    new = -1
    while edge >= 0 and new < 0:
        other = edges.to[edge]
        edge = edges.next[edge]
        if not low[other]:
            new = other
        elif low[other] < lowest:
            lowest = low[other]
    cursor[node], low[node] = edge, lowest
    return new

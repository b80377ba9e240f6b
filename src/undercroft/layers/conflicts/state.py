"""Who holds which resources now, and who waits: claims are granted all or none, in turn.

Keeps: no two holders are incompatible on keys of which one covers the other; a ticket gets
all its claims or none; nobody overtakes an earlier ticket that it conflicts with; whoever
holds never waits, so nothing deadlocks.
Leaves to the engine: whom a ticket stands for, how it waits, and for how long.

As long as nobody is in anybody's way, claims are only counted, by path and mode. The first
conflict plants all of them in a tree (`tree.py`), which knows who is in whose way, and after
a calm while they are counted again.
A ticket that has to wait watches one earlier ticket that it conflicts with, and looks for
another one when that is gone: a queue of n on one key is drained in linear time.
Source of the watching: the watched literals of Moskewicz et al., "Chaff", DAC 2001.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from undercroft.layers.conflicts.keys import within
from undercroft.layers.conflicts.matrix import CLASHES
from undercroft.layers.conflicts.tree import ClaimTree, Pairs, Ticket
from undercroft.model.effect import Mode

# A count for each mode, side by side in one integer: of those who claim exactly a path, and
# above them of those who claim something below it.
_WIDTH = 16
_UNIT = {mode.value: 1 << (_WIDTH * place) for place, mode in enumerate(Mode)}
_FIELD = (1 << _WIDTH) - 1
_CLASH = {
    mode.value: sum(_UNIT[other.value] * _FIELD for other in clashes)
    for mode, clashes in CLASHES.items()
}
_BELOW = _WIDTH * len(_UNIT)
_BOTH = {mode: clash | clash << _BELOW for mode, clash in _CLASH.items()}
_PATHS_MAX = 4_096
# More are never counted: planting them would hold everybody up.
_COUNTED_MAX = 1_024
# So many tickets leave a tree in which nobody waits before claims are counted again.
_CALM = 256


class ClaimTable:
    """Who holds what, and who waits for it.

    `ask`, `release` and `narrow` cost time in the claims of the ticket and the segments of
    their keys, and a constant amount for each ticket that they move; claims with a `*`, also
    in how many others lie below their beginning.
    """

    __slots__ = ("_calm", "_counted", "_counts", "_next", "_tickets", "_tree", "_waiting")

    def __init__(self) -> None:
        self._counts: dict[str, int] | None = {}
        # How many claims are counted: never more than fit into one field.
        self._counted = 0
        self._tree = ClaimTree()
        # All that hold or wait, in the order of asking.
        self._tickets: dict[Ticket, None] = {}
        self._next = 0
        self._waiting = 0
        self._calm = 0

    def __len__(self) -> int:
        """How many tickets hold or wait."""
        return len(self._tickets)

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
        ticket = Ticket(number, claims, stands_for)
        if self._counts is not None:
            if not after and self._count(claims):
                self._tickets[ticket] = None
                return ticket
            self._crowd()
        blocker = self._tree.plant(ticket)
        self._tickets[ticket] = None
        if after:
            ticket._after = after  # noqa: SLF001  one package, one structure
            blocker = blocker or _still_there(after)
        if blocker is not None:
            ticket.granted = False
            self._waiting += 1
            _watch(ticket, blocker)
        return ticket

    def release(self, ticket: Ticket) -> list[Ticket]:
        """Take `ticket` out, granted or waiting; return those that are granted now, in turn.

        A ticket that is gone already is left alone.
        """
        if not ticket.present:
            return []
        del self._tickets[ticket]
        ticket.present = False
        ticket.stands_for = ticket._after = None  # noqa: SLF001
        counts = self._counts
        if counts is not None:
            ticket.granted = False
            self._counted -= len(ticket.claims)
            _discount(counts, ticket.claims)
            return []
        before = ticket.behind
        if not ticket.granted:
            self._waiting -= 1
            _unwatch(ticket)
        ticket.granted = False
        self._tree.uproot(ticket)
        moved = self._moved_up(ticket, before) if ticket._watchers else []  # noqa: SLF001
        self._calm = 0 if moved or self._waiting else self._calm + 1
        if self._calm >= _CALM or not self._tickets:
            self._disperse()
        return moved

    def narrow(self, ticket: Ticket, claim: tuple[str, str], key: str) -> list[Ticket]:
        """Let go of all of a claim but `key`, which lies within; return those granted now.

        Costs time also in the tickets that asked for something in the same place later.

        Raises:
            ValueError: `key` would claim what `claim` does not, or that is not claimed.
        """
        mode, old = claim
        if not within(key, old):
            msg = f"{key!r} does not lie within {old!r}: a claim never widens while it is held"
            raise ValueError(msg)
        if not ticket.present or claim not in ticket.claims:
            msg = f"{ticket!r} does not claim {mode} {old!r}"
            raise ValueError(msg)
        claims = [(mode, key) if each == claim else each for each in ticket.claims]
        counts = self._counts
        if counts is not None and _above(key) is not None:
            # Nobody is in its way, and nobody waits for what it lets go of.
            _discount(counts, ticket.claims)
            ticket.claims = claims
            _recount(counts, claims)
            return []
        if counts is not None:
            self._crowd()
        self._tree.replant(ticket, mode, old, key)
        ticket.claims = claims
        moved = self._moved_up(ticket, None)
        if not ticket.granted:
            _unwatch(ticket)
            if self._look(ticket, None):
                # Whoever waited for it asked later.
                moved.insert(0, ticket)
        return moved

    # ------------------------------------------------------------------ counting

    def _count(self, claims: Pairs) -> bool:
        """Count `claims` if nobody is in their way; False if somebody may be."""
        counts = self._counts
        if counts is None or len(self._tickets) >= _COUNTED_MAX:
            return False
        if self._counted + len(claims) > _FIELD:
            return False
        get = counts.get
        for mode, key in claims:
            above = _above(key)
            if above is None or get(key, 0) & _BOTH[mode]:
                return False
            clash = _CLASH[mode]
            for path in above:
                if get(path, 0) & clash:
                    return False
        self._counted += len(claims)
        _recount(counts, claims)
        return True

    def _crowd(self) -> None:
        """Plant all claims in the tree, since somebody may be in somebody's way."""
        self._counts, self._calm = None, 0
        for ticket in self._tickets:
            self._tree.plant(ticket)

    def _disperse(self) -> None:
        """Count claims again, if all of them can be counted."""
        self._calm = 0
        if len(self._tickets) >= _COUNTED_MAX:
            return
        claims = [key for ticket in self._tickets for _, key in ticket.claims]
        if len(claims) > _COUNTED_MAX or any(_above(key) is None for key in claims):
            return
        self._counts, self._counted = {}, 0
        for ticket in self._tickets:
            self._tree.uproot(ticket)
            if not ticket.granted or not self._count(ticket.claims):
                raise AssertionError(ticket)  # nobody waits, so nobody is in the way

    # ------------------------------------------------------------------ waiting

    def _moved_up(self, gone: Ticket, before: Ticket | None) -> list[Ticket]:
        """Look again at those that waited for `gone`; return those that need wait no more.

        Where `gone` only waited itself, for `before`, most of them wait for the same now: or
        all behind somebody who gave up would look at the whole queue, each time it moves.
        """
        watchers, gone._watchers = gone._watchers, None  # noqa: SLF001
        granted = [t for t in watchers or () if t.present and self._look(t, before)]
        if len(granted) > 1:
            granted.sort(key=_number)
        return granted

    def _look(self, ticket: Ticket, before: Ticket | None) -> bool:
        """Grant a waiting ticket if nobody is in its way any more; else let it watch somebody."""
        blocker = None
        if before is not None and before.present and self._tree.clash(ticket, before):
            blocker = before
        if blocker is None:
            blocker = self._tree.blocker(ticket)
        if blocker is None and ticket._after:  # noqa: SLF001
            blocker = _still_there(ticket._after)  # noqa: SLF001
        if blocker is not None:
            _watch(ticket, blocker)
            return False
        ticket.granted, ticket.behind, ticket._after = True, None, None  # noqa: SLF001
        self._waiting -= 1
        return True


def _recount(counts: dict[str, int], claims: Pairs) -> None:
    get = counts.get
    for mode, key in claims:
        unit = _UNIT[mode]
        counts[key] = get(key, 0) + unit
        unit <<= _BELOW
        for path in _above(key) or ():
            counts[path] = get(path, 0) + unit


def _discount(counts: dict[str, int], claims: Pairs) -> None:
    for mode, key in claims:
        unit = _UNIT[mode]
        left = counts[key] - unit
        if left:
            counts[key] = left
        else:
            del counts[key]
        unit <<= _BELOW
        for path in _above(key) or ():
            left = counts[path] - unit
            if left:
                counts[path] = left
            else:
                del counts[path]


@lru_cache(maxsize=_PATHS_MAX)
def _above(key: str) -> tuple[str, ...] | None:
    """Return the proper beginnings of `key`; None where it cannot be counted."""
    if not key or "*" in key:
        return None
    at = key.find("/")
    if at < 0:
        return ()
    paths = [key[:at]]
    while (at := key.find("/", at + 1)) >= 0:
        paths.append(key[:at])
    return tuple(paths)


def _watch(ticket: Ticket, blocker: Ticket) -> None:
    ticket.behind = blocker
    if blocker._watchers is None:  # noqa: SLF001
        blocker._watchers = {}  # noqa: SLF001
    blocker._watchers[ticket] = None  # noqa: SLF001


def _unwatch(ticket: Ticket) -> None:
    blocker, ticket.behind = ticket.behind, None
    if blocker is not None and blocker._watchers is not None:  # noqa: SLF001
        blocker._watchers.pop(ticket, None)  # noqa: SLF001


def _still_there(tickets: Sequence[Ticket]) -> Ticket | None:
    return next((ticket for ticket in reversed(tickets) if ticket.present), None)


def _number(ticket: Ticket) -> int:
    return ticket.number

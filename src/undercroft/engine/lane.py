"""The order in which the steps of one turn may run: that of asking, as far as they conflict.

Keeps: a step begins when every earlier one of the turn that it conflicts with has left; a
step that stands, because somebody has to decide about it, holds up those and no others; at
most so many run at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from undercroft.engine.desk import reason
from undercroft.layers.conflicts.state import ClaimTable
from undercroft.layers.conflicts.tree import Pairs, Ticket


class Place:
    """A step's place in the lane.

    Attributes:
        claims: As (mode, key).
        stands_for: Whatever the caller put there.
        who: Id of the step, in words.
        admitted: Whether it may run now.
        present: Whether it has not left yet.
        claim: The claim that kept it waiting, since `asked_s`; or empty.
        behind: Who had that.
    """

    # Not set one by one: there is a place for each step, and most need none of this.
    ticket: Ticket | None = None
    present = True
    claim = behind = ""
    asked_s = 0.0

    def __init__(self, claims: Pairs, stands_for: Any, who: str, *, admitted: bool) -> None:
        self.claims, self.stands_for, self.who = claims, stands_for, who
        self.admitted = admitted


class Lane:
    """Who of one turn runs now, and who waits.

    Args:
        limit: How many may run at a time.
        now_s: The clock, for how long those wait who have to.
    """

    __slots__ = ("_limit", "_now_s", "_only", "_present", "_ready", "_table", "_waiting", "running")

    def __init__(self, limit: int, now_s: Callable[[], float]) -> None:
        self._limit, self._now_s = limit, now_s
        self.running = 0
        self._present = 0
        # While a step is the only one, nothing need be compared with anything.
        self._only: Place | None = None
        self._table: ClaimTable | None = None
        self._ready: deque[Place] = deque()
        self._waiting: dict[Place, None] = {}

    @property
    def idle(self) -> bool:
        """Whether nobody runs, waits or stands."""
        return not self._present

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def ask(
        self, claims: Pairs, stands_for: Any = None, who: str = "", after: Sequence[Place] = ()
    ) -> Place:
        """Return a place, admitted at once or when `leave` says so.

        Args:
            claims: As (mode, key).
            stands_for: Whatever the caller wants to find again on the place.
            who: Id of the step.
            after: Steps that must have left first, whatever they claim.
        """
        self._present += 1
        if self._present == 1:
            place = self._only = Place(claims, stands_for, who, admitted=True)
            self.running += 1
            return place
        place = Place(claims, stands_for, who, admitted=False)
        table = self._table
        if table is None:
            table = self._table = ClaimTable()
        only = self._only
        if only is not None:
            self._only = None
            only.ticket = table.ask(only.claims, only)
        tickets = [other.ticket for other in after if other.present and other.ticket is not None]
        ticket = place.ticket = table.ask(claims, place, tickets)
        if ticket.granted and self.running < self._limit and not self._ready:
            place.admitted = True
            self.running += 1
            return place
        self._waiting[place] = None
        place.asked_s = self._now_s()
        if ticket.granted:
            self._ready.append(place)
            place.claim = "limit turn_max"
        else:
            place.claim, place.behind = reason(ticket)
        return place

    def leave(self, place: Place) -> list[Place]:
        """Take note that a step ended, or is wanted no more; return those admitted now."""
        if not place.present:
            return []
        place.present = False
        place.stands_for = None  # or it would be in a ring with whoever holds the place
        self._present -= 1
        if place.admitted:
            self.running -= 1
        else:
            self._waiting.pop(place, None)
        if place is self._only:
            self._only = None
            return []
        if place.ticket is not None and self._table is not None:
            self._ready.extend(t.stands_for for t in self._table.release(place.ticket))
        return self._admit() if self._ready else []

    def stand(self, place: Place) -> list[Place]:
        """Let a step stand where it is: it runs no more, and keeps its claims."""
        place.admitted = False
        self.running -= 1
        return self._admit() if self._ready else []

    def rise(self, place: Place) -> None:
        """Let a step that stands run after all, since somebody decided."""
        place.admitted = True
        self.running += 1

    def withdraw(self) -> list[Place]:
        """Take out all that wait, since nothing runs that they could wait for; return them."""
        gone = list(self._waiting)
        self._waiting.clear()
        self._ready.clear()
        for place in gone:
            place.present = False
            self._present -= 1
            if place.ticket is not None and self._table is not None:
                self._table.release(place.ticket)
        return gone

    def _admit(self) -> list[Place]:
        admitted: list[Place] = []
        ready = self._ready
        while ready and self.running < self._limit:
            place = ready.popleft()
            if not place.present:
                continue
            del self._waiting[place]
            place.admitted = True
            self.running += 1
            admitted.append(place)
        return admitted

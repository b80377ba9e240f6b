"""Where every step of a runtime takes its claims and its place at a service, and gives them back.

Keeps: a step that runs holds all its claims; who waits holds nothing that another one needs
to go on; whoever is cancelled while waiting leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from typing import Any

from undercroft.layers.conflicts.keys import overlap
from undercroft.layers.conflicts.matrix import CLASHES
from undercroft.layers.conflicts.state import ClaimTable
from undercroft.layers.conflicts.tree import Pairs, Ticket
from undercroft.layers.parallelism.policy import Limits
from undercroft.layers.parallelism.state import Slots
from undercroft.model.effect import Mode


class Hold:
    """What one step holds at the desk, or waits for.

    Attributes:
        who: Whom it is for, in words: the id of a step or turn.
        ready: Whether it holds all that it asked for.
        claim: What kept it waiting: a claim of its own, or its service.
        behind: Who had that.
    """

    claim = behind = ""
    _queued = False
    _go: asyncio.Future[bool] | None = None

    def __init__(self, service: str | None, who: str) -> None:
        self.service, self.who = service, who
        self.ticket: Ticket
        self.ready = False


class Desk:
    """Claims and services of one runtime."""

    def __init__(self, limits: Limits) -> None:
        self._table = ClaimTable()
        self._slots: Slots[Hold] = Slots(limits.services, limits.service_max)

    def __len__(self) -> int:
        """How many hold or wait."""
        return len(self._table)

    def limits(self, service: str) -> bool:
        """Whether only so many steps may be under way at a service."""
        return self._slots.limit_of(service) is not None

    def enter(self, claims: Pairs, service: str | None, who: str) -> Hold:
        """Return a hold on all of `claims` and a place at `service`, ready or to be waited for."""
        hold = Hold(service, who)
        ticket = hold.ticket = self._table.ask(claims, hold)
        if ticket.granted and service is None:
            hold.ready = True
        elif ticket.granted:
            self._granted(hold)
        else:
            hold.claim, hold.behind = reason(ticket)
        return hold

    async def wait(self, hold: Hold, wait_s: float) -> bool:
        """Wait until `hold` is ready; False, and it is gone, after `wait_s` seconds."""
        if hold.ready:
            return True
        loop = asyncio.get_running_loop()
        go = hold._go = loop.create_future()  # noqa: SLF001  one file, one structure
        timer = loop.call_later(wait_s, _expire, go)
        try:
            ready: bool = await go
        except BaseException:
            self.leave(hold)
            raise
        finally:
            timer.cancel()
        if not ready:
            self.leave(hold)
        return ready

    def leave(self, hold: Hold) -> None:
        """Give back what `hold` has, or take it out of the queue; once more does nothing."""
        if not hold.ticket.present:
            return
        if hold.service is not None:
            if hold.ready:
                follower = self._slots.leave(hold.service)
                if follower is not None:
                    follower._queued = False  # noqa: SLF001
                    self._wake(follower)
            elif hold._queued:  # noqa: SLF001
                self._slots.withdraw(hold.service, hold)
        hold.ready = False
        for ticket in self._table.release(hold.ticket):
            self._granted(ticket.stands_for)

    def narrow(self, hold: Hold, claim: tuple[str, str], key: str) -> None:
        """Let go of all of a claim but `key`.

        Raises:
            ValueError: `key` does not lie within it.
        """
        for ticket in self._table.narrow(hold.ticket, claim, key):
            self._granted(ticket.stands_for)

    def _granted(self, hold: Hold) -> None:
        """`hold` has its claims; it is ready once it has its place too."""
        service = hold.service
        if service is None or self._slots.ask(service, hold):
            self._wake(hold)
        else:
            hold._queued = True  # noqa: SLF001
            hold.claim, hold.behind = f"service {service}", ""

    @staticmethod
    def _wake(hold: Hold) -> None:
        hold.ready = True
        go = hold._go  # noqa: SLF001
        if go is not None and not go.done():
            go.set_result(True)


def reason(ticket: Ticket) -> tuple[str, str]:
    """Return the claim that keeps `ticket` waiting, in words, and who has what it needs."""
    behind = ticket.behind
    if behind is None:
        return "", ""
    who: Any = behind.stands_for
    for mode, key in ticket.claims:
        clashes = CLASHES[Mode(mode)]
        if any(Mode(m) in clashes and overlap(k, key) for m, k in behind.claims):
            return f"{mode} {key or 'everything'}", getattr(who, "who", "")
    return "", getattr(who, "who", "")


def _expire(go: asyncio.Future[bool]) -> None:
    if not go.done():
        go.set_result(False)

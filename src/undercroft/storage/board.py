"""What processes share of breakers: the rules of every store, and the board of one in memory.

Keeps: a transition is written behind the last one that its writer knew, or not at all; one
process at a time has the right to try a service.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from undercroft.model.circuit import (
    HALF_OPEN,
    OPEN,
    Account,
    Ask,
    Chain,
    News,
    Post,
    Prober,
    Spent,
    Stored,
)

HISTORY_MAX = 10_000


class Right(NamedTuple):
    """Who may try a service; it counts as long as `epoch` is that of its last transition."""

    epoch: int
    runtime: int
    beat: int


def granted(
    ask: Ask,
    last: Stored | None,
    right: Right | None,
    runtime: int,
    is_alive: Callable[[int], bool],
) -> Right | None:
    """Return the right to try a service as process `runtime` gets it; None where it must not.

    Args:
        ask: What it knows of the service, and of who has the right.
        last: The last transition of the service.
        right: The right as it was given last.
        runtime: Number of the process that asks.
        is_alive: Whether another process still runs.
    """
    epoch = last.epoch if last is not None else 0
    if ask.epoch != epoch or (last is not None and last.change.now not in (OPEN, HALF_OPEN)):
        return None
    if right is None:
        return Right(epoch, runtime, 1)
    holder = Prober(right.runtime, right.beat)
    free = right.epoch != epoch or right.runtime == runtime or ask.silent == holder
    if free or not is_alive(right.runtime):
        return Right(epoch, runtime, right.beat + 1)
    return None


def after(chain: Chain, epoch: int, right: Right | None, runtime: int) -> Right | None:
    """Return the right to try a service once `chain` is written, up to `epoch`."""
    if chain.changes[-1].now != HALF_OPEN:
        return None
    return Right(epoch, runtime, right.beat + 1 if right is not None else 1)


def holding(right: Right | None, epoch: int) -> Prober | None:
    """Return who has the right to try a service whose last transition is of `epoch`."""
    if right is None or right.epoch != epoch:
        return None
    return Prober(right.runtime, right.beat)


@dataclass(slots=True)
class Shared:
    """What the boards of one journal in memory share."""

    position: int = 0
    # By service: its last transition, with its position.
    last: dict[str, tuple[int, Stored]] = field(default_factory=dict)
    history: deque[Stored] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    rights: dict[str, Right] = field(default_factory=dict)
    gauges: dict[int, dict[str, bytes]] = field(default_factory=dict)
    spent: dict[Account, Spent] = field(default_factory=dict)
    listeners: dict[int, Callable[[], None]] = field(default_factory=dict)


class MemoryBoard:
    """The `Board` of one store in memory.

    Args:
        shared: What it shares with the boards of other stores.
        runtime: The number under which it tells.
        alive: Numbers of the processes that run, this one included.
    """

    def __init__(self, shared: Shared, runtime: int, alive: Collection[int]) -> None:
        self._shared, self._runtime, self._alive = shared, runtime, alive

    @property
    def runtime(self) -> int:
        """The number under which this process tells."""
        return self._runtime

    async def exchange(self, post: Post) -> News:
        """Tell and be told."""
        shared, before = self._shared, self._shared.position
        for service, chain in post.chains.items():
            self._write(service, chain)
        for service in post.gives_back:
            right = shared.rights.get(service)
            if right is not None and right.runtime == self._runtime:
                del shared.rights[service]
        self._try(post)
        mine = shared.gauges.setdefault(self._runtime, {})
        for service, data in post.gauges.items():
            if data:
                mine[service] = data
            else:
                mine.pop(service, None)
        for account, amount in post.spends.items():
            shared.spent[account] = shared.spent.get(account, Spent()).plus(amount)
        if shared.position != before:
            self._wake()
        return News(
            upto=shared.position,
            last={s: stored for s, (at, stored) in shared.last.items() if at > post.since},
            probers=self._probers((*post.asks, *post.beats)),
            totals={account: shared.spent.get(account, Spent()) for account in post.totals},
        )

    def _write(self, service: str, chain: Chain) -> None:
        shared = self._shared
        epoch = self._epoch(service)
        if chain.epoch != epoch or not chain.changes:
            return
        for change in chain.changes:
            epoch += 1
            shared.position += 1
            stored = Stored(epoch, change)
            shared.last[service] = (shared.position, stored)
            shared.history.append(stored)
        right = after(chain, epoch, shared.rights.pop(service, None), self._runtime)
        if right is not None:
            shared.rights[service] = right

    def _try(self, post: Post) -> None:
        shared = self._shared
        for service in post.beats:
            right = shared.rights.get(service)
            if right is not None and right.runtime == self._runtime:
                shared.rights[service] = right._replace(beat=right.beat + 1)
        for service, ask in post.asks.items():
            _, last = shared.last.get(service, (0, None))
            right = shared.rights.get(service)
            right = granted(ask, last, right, self._runtime, self._alive.__contains__)
            if right is not None:
                shared.rights[service] = right

    def _epoch(self, service: str) -> int:
        found = self._shared.last.get(service)
        return found[1].epoch if found is not None else 0

    def _probers(self, services: tuple[str, ...]) -> dict[str, Prober]:
        held = {s: holding(self._shared.rights.get(s), self._epoch(s)) for s in services}
        return {service: prober for service, prober in held.items() if prober is not None}

    def _wake(self) -> None:
        for runtime, wake in self._shared.listeners.items():
            if runtime != self._runtime:
                wake()

    async def gauges(self) -> list[tuple[int, bytes]]:
        """Return the figures of all live processes; those that are old are told anew, soon."""
        self._wake()
        return [
            (runtime, data)
            for runtime, mine in sorted(self._shared.gauges.items())
            if runtime in self._alive
            for _, data in sorted(mine.items())
        ]

    def listen(self, wake: Callable[[], None]) -> bool:
        """Have `wake` called when others wrote a transition, or want to see figures."""
        self._shared.listeners[self._runtime] = wake
        return True

    async def close(self) -> None:
        """Take back all figures and rights of this process."""
        shared = self._shared
        shared.listeners.pop(self._runtime, None)
        shared.gauges.pop(self._runtime, None)
        for service, right in list(shared.rights.items()):
            if right.runtime == self._runtime:
                del shared.rights[service]

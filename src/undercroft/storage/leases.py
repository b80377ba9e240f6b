"""Ownership of resources, as the journal tells it: who may write to which, and who wrote last.

Keeps: an intent is written only by the owner of what it changes; an owner that died or fell
silent is replaced, and what it left in the middle of a write counts as dirty.
Leaves to each store: writing frames, knowing which processes live, reading what others wrote.

Nothing is kept beside the journal: a turn owns what its intents claimed, until it ends or
parks, or until another turn's intent shows that it was taken over. So owning costs no write,
and whoever opens a journal knows the owners from the turns that have not ended.
All of it happens inside the transaction of a commit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from undercroft.errors import LapsedError
from undercroft.layers.conflicts.ownership import CHANGING, Lease, Owners, paths_above
from undercroft.model.effect import Mode
from undercroft.model.event import (
    AnyEvent,
    ResourceOwned,
    StepEnded,
    StepStarted,
    TurnEnded,
    TurnParked,
    TurnResumed,
    TurnStarted,
    TurnStopped,
    encode_frame,
)
from undercroft.model.lease import Denied, Granted, Taken, Wrote
from undercroft.model.step import StepStatus
from undercroft.ports import Wants

_WRITES_MIN = 1_024
# The answer to an intent that nobody waits for any more; a turn that was stopped must own nothing.
WITHDRAWN = Denied("", "", 0, 0, 0.0)


class Writes:
    """Who changed which resource last: by key where, by whom, and whether it was cut off."""

    __slots__ = ("_below", "_last", "_max")

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int, bool]] = {}
        self._below: dict[str, dict[str, None]] = {}
        self._max = _WRITES_MIN

    def note(self, key: str, position: int, turn: int, *, dirty: bool = False) -> None:
        """Take note of a write, or of one that was cut off."""
        known = self._last.get(key)
        if known is not None and known[0] > position:
            return
        if known is None:
            for path in paths_above(key):
                self._below.setdefault(path, {})[key] = None
        self._last[key] = (position, turn, dirty)

    def clean(self, key: str, turn: int) -> None:
        """Take note that what a turn left dirty is settled."""
        position, last, dirty = self._last.get(key, (0, 0, False))
        if dirty and last == turn:
            self._last[key] = (position, turn, False)

    def first_dirty(self) -> int | None:
        """Return where the oldest write stands that was cut off and not settled since."""
        return min((at for at, _, dirty in self._last.values() if dirty), default=None)

    def about(self, key: str) -> Iterable[tuple[str, int, int, bool]]:
        """Yield the last writes to what overlaps with `key`, which holds no `*`."""
        last = self._last
        for path in (*paths_above(key), key, *self._below.get(key, ())):
            if path in last:
                yield (path, *last[path])

    def forget(self, position: int) -> bool:
        """Forget writes up to `position`, once there are many; return whether it did."""
        if len(self._last) <= self._max:
            return False
        old = [k for k, (at, _, dirty) in self._last.items() if at <= position and not dirty]
        for key in old:
            del self._last[key]
            for path in paths_above(key):
                below = self._below[path]
                del below[key]
                if not below:
                    del self._below[path]
        self._max = max(_WRITES_MIN, 2 * len(self._last))
        return True


class LeaseBook(ABC):
    """The leases of a journal, as one process sees and changes them.

    Attributes:
        runtime: Number of this process.
        owners: What is owned now.
        writes: What was written last.
    """

    def __init__(self) -> None:
        self.runtime = 0
        self.owners = Owners()
        self.writes = Writes()
        # Intents that have no outcome yet, of turns that other processes run: (turn, step).
        self._open: dict[tuple[int, int], Wants] = {}
        # Turns that are not run by the process that began them.
        self._runtimes: dict[int, int] = {}
        # Turns that were stopped by a grant, of which the journal is still to be told.
        self.detached: list[int] = []

    def stops(self, at: float) -> list[tuple[int, bytes]]:
        """Return what the journal is to be told of turns that a grant stopped, once."""
        detached, self.detached = self.detached, []
        why = "its process was silent or gone, and another turn took over what it owned"
        return [(num, encode_frame([TurnStopped(why, at)])) for num in detached]

    @property
    def leasing(self) -> bool:
        """Whether this process holds any lease."""
        return self.owners.by_runtime(self.runtime) > 0

    # ------------------------------------------------------------------ of this process

    def grant(
        self, num: int, wants: Wants, lapsed: Mapping[int, int], position: int, *, opens: bool
    ) -> Granted | Denied:
        """Make turn `num` the owner of `wants`, or say who is in the way.

        Args:
            num: The turn.
            wants: As (mode, key).
            lapsed: Processes that may be taken for dead, unless they went on beating since.
            position: Where the intent will stand in the journal.
            opens: Whether a write begins that was not begun before.
        """
        owners = self.owners
        in_the_way: list[Lease] = []
        for mode, key in wants:
            for lease in owners.others(num, key, appends=mode == Mode.APPEND):
                if not self._may_take(lease, lapsed):
                    return self._denied(lease)
                if lease not in in_the_way:
                    in_the_way.append(lease)
        taken = tuple([self._taken(lease) for lease in in_the_way])
        for lease in in_the_way:
            self._take_over(lease, position)
        fresh: list[str] = []
        wrote: list[Wrote] = []
        for mode, key in wants:
            held = owners.held(num, key)
            if held is None:
                fresh.append(key)
                # What was begun before, by a turn that lost it, is open all the same.
                appends, opened = mode == Mode.APPEND, int(key[:1] != "!")
                owners.add(Lease(key, num, self.runtime, appends, opened, position))
                for path, at, turn, dirty in self.writes.about(noted_at(key)):
                    if turn != num:
                        wrote.append(Wrote(path, at, self.turn_id(turn), dirty=dirty))
                continue
            held.opened += opens
            held.appends = held.appends and mode == Mode.APPEND
        return Granted(position, tuple(fresh), tuple(wrote), taken)

    def _may_take(self, lease: Lease, lapsed: Mapping[int, int]) -> bool:
        if lease.runtime not in lapsed:
            return False
        return not self.is_alive(lease.runtime) or (
            lapsed[lease.runtime] == self.beat_of(lease.runtime)[0]
        )

    def _denied(self, lease: Lease) -> Denied:
        beat, lease_s = self.beat_of(lease.runtime)
        dead = not self.is_alive(lease.runtime)
        return Denied(lease.key, self.turn_id(lease.turn), lease.runtime, beat, lease_s, dead)

    def _taken(self, lease: Lease) -> Taken:
        return Taken(lease.key, self.turn_id(lease.turn), bool(lease.opened))

    def _take_over(self, lease: Lease, position: int) -> None:
        """End the leases of a turn whose process died or fell silent, all of them."""
        if self.owners.held(lease.turn, lease.key) is None:
            return  # with another one of the same turn
        self.release(lease.turn, position)
        # Should that process wake up, the turn is not its own any more.
        if self.detach(lease.turn, lease.runtime):
            self.detached.append(lease.turn)

    def close(self, num: int, wants: Wants, position: int, *, wrote: bool) -> None:
        """Take note of the outcome of an intent, at `position` of the journal."""
        for _, key in wants:
            if wrote:
                self.writes.note(noted_at(key), position, num)
            lease = self.owners.held(num, key)
            if lease is None:
                continue
            lease.opened = max(0, lease.opened - 1)
            if not lease.opened:
                self.writes.clean(noted_at(key), num)
                if lease.appends:
                    self.owners.drop(lease)

    def release(self, num: int, position: int) -> None:
        """End all leases of a turn that ended or parked; what it left open is dirty."""
        for lease in self.owners.of(num):
            self._end(lease, position)

    def adopt(self, num: int) -> None:
        """Go on with the leases of a turn that another process left behind."""
        self._moved(num, self.runtime)
        for turn, n in list(self._open):
            if turn == num:
                del self._open[turn, n]

    def _moved(self, num: int, runtime: int) -> None:
        """Take note that a process took a turn up."""
        if runtime != num >> 32:
            self._runtimes[num] = runtime
        for lease in self.owners.of(num):
            self.owners.drop(lease)
            lease.runtime = runtime
            self.owners.add(lease)

    def forget(self) -> None:
        """Forget who owns what, to be told of it anew; what was written stays known."""
        self.owners = Owners()
        self._open.clear()

    def _end(self, lease: Lease, position: int) -> None:
        if lease.opened:
            self.writes.note(noted_at(lease.key), position, lease.turn, dirty=True)
        self.owners.drop(lease)

    # ------------------------------------------------------------------ of other processes

    def tell(self, num: int, position: int, events: Iterable[AnyEvent]) -> None:
        """Take note of what another process wrote about turn `num` at `position`."""
        for event in events:
            match event:
                case StepStarted(changes=True):
                    self._begun(num, position, event)
                case StepEnded():
                    wants = self._open.get((num, event.n))
                    # In doubt is no end; and what was never begun has none.
                    if wants is not None and event.status is not StepStatus.IN_DOUBT:
                        del self._open[num, event.n]
                        wrote = event.status is not StepStatus.REFUSED
                        self.close(num, wants, position, wrote=wrote)
                case TurnStarted() | TurnResumed():
                    if event.runtime:
                        self._moved(num, event.runtime)
                case ResourceOwned(n=0):
                    self._own(num, position, [(Mode.WRITE.value, key) for key in event.keys], 0)
                case TurnEnded() | TurnParked() | TurnStopped():
                    self.release(num, position)
                    self._runtimes.pop(num, None)
                case _:
                    pass

    def _begun(self, num: int, position: int, event: StepStarted) -> None:
        wants = tuple([claim for claim in event.claims if claim[0] in CHANGING])
        opens = (num, event.n) not in self._open
        self._open[num, event.n] = wants
        self._own(num, position, wants, int(opens))

    def _own(self, num: int, position: int, wants: Iterable[tuple[str, str]], opens: int) -> None:
        for mode, key in wants:
            appends = mode == Mode.APPEND
            # It was granted, so whoever had it before was taken over.
            for lease in list(self.owners.others(num, key, appends=appends)):
                self._end(lease, position)
            held = self.owners.held(num, key)
            if held is None:
                runtime = self._runtimes.get(num, num >> 32)
                self.owners.add(Lease(key, num, runtime, appends, opens, position))
            else:
                held.opened += opens
                held.appends = held.appends and appends

    # ------------------------------------------------------------------ of each store

    @abstractmethod
    def detach(self, num: int, runtime: int) -> bool:
        """Take turn `num` from a process that may come back, and leave it to be resumed.

        Returns False where it was not that process's any more.
        """

    @abstractmethod
    def turn_id(self, num: int) -> str:
        """Return the id of a turn."""

    @abstractmethod
    def is_alive(self, runtime: int) -> bool:
        """Whether that process still runs."""

    @abstractmethod
    def beat_of(self, runtime: int) -> tuple[int, float]:
        """Return the beat of a process, and the seconds of silence after which it lapses."""


def lapsed(path: str, lease_s: float) -> LapsedError:
    """Return what a process is told that fell silent for too long."""
    return LapsedError(
        path,
        f"this process was silent for more than {lease_s:g} s, and another one took over what "
        "the turn owned",
        "Resume the turn: it goes on from its last recorded step. Nothing was lost.",
    )


def noted_at(key: str) -> str:
    """Return where a write to `key` is noted: before the first `*`, since it may be any."""
    if "*" not in key:
        return key
    segments = key.split("/")
    return "/".join(segments[: segments.index("*")])

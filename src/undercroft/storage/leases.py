"""Ownership of resources in a journal: who may write to which, and who wrote last.

Keeps: an intent is written only by the owner of what it changes; an owner that died or fell
silent is replaced, and what it left in the middle of a write is marked as dirty.
Leaves to each store: keeping leases and writes, by the few methods at the end.

All of it happens inside the transaction of a commit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from undercroft.layers.conflicts.ownership import Lease, Owners
from undercroft.model.effect import Mode
from undercroft.model.lease import Denied, Granted, Taken, Wrote
from undercroft.ports import Wants


class LeaseBook(ABC):
    """The leases of a journal, as one process sees and changes them.

    Attributes:
        runtime: Number of this process.
        owners: What is owned now.
    """

    def __init__(self, owners: Owners) -> None:
        self.runtime = 0
        self.owners = owners

    @property
    def leasing(self) -> bool:
        """Whether this process holds any lease."""
        return self.owners.by_runtime(self.runtime) > 0

    def grant(  # noqa: PLR0913  an intent has as many parts
        self,
        num: int,
        frame: bytes | None,
        wants: Wants,
        lapsed: Mapping[int, int],
        position: int,
        *,
        again: bool,
    ) -> Granted | Denied:
        """Make turn `num` the owner of `wants` and write its intent, or say who is in the way.

        Args:
            num: The turn.
            frame: The intent, or None.
            wants: As (mode, key).
            lapsed: Processes that may be taken for dead, unless they went on beating since.
            position: Of the last frame in the journal.
            again: Whether the same write was begun before and never ended.
        """
        self.refresh()
        in_the_way: list[Lease] = []
        for mode, key in wants:
            for lease in self.owners.others(num, key, appends=mode == Mode.APPEND):
                if not self._may_take(lease, lapsed):
                    return self._denied(lease)
                if lease not in in_the_way:
                    in_the_way.append(lease)
        taken = tuple(self._take_over(lease, position) for lease in in_the_way)
        if frame is not None:
            position = self.insert_frame(num, frame)
        fresh: list[str] = []
        wrote: dict[str, Wrote] = {}
        for mode, key in wants:
            held = self.owners.held(num, key)
            if held is None:
                fresh.append(key)
                appends, opened = mode == Mode.APPEND, int(frame is not None)
                held = Lease(key, num, self.runtime, appends, opened, position)
                self.owners.add(held)
                self.insert(held)
                wrote |= {last.key: last for last in self.last_writes(noted_at(key), num)}
                continue
            if frame is not None and not again:
                held.opened += 1
            held.appends = held.appends and mode == Mode.APPEND
            self.update(held)
        return Granted(position, tuple(fresh), tuple(wrote.values()), taken)

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

    def _take_over(self, lease: Lease, position: int) -> Taken:
        """End the lease of a turn whose process died or fell silent."""
        turn_id = self.turn_id(lease.turn)
        if lease.opened:
            self.mark_dirty(noted_at(lease.key), position + 1, lease.turn)
        self._drop(lease)
        # Should that process wake up, the turn is not its own any more.
        self.detach(lease.turn, lease.runtime)
        return Taken(lease.key, turn_id, bool(lease.opened))

    def close(self, num: int, wants: Wants, position: int, *, wrote: bool) -> None:
        """Take note of the outcome of an intent, at `position` of the journal."""
        self.refresh()
        for _, key in wants:
            if wrote:
                self.mark_written(noted_at(key), position, num)
            lease = self.owners.held(num, key)
            if lease is None:
                continue
            lease.opened = max(0, lease.opened - 1)
            if lease.appends and not lease.opened:
                self._drop(lease)
            else:
                self.update(lease)
            if not lease.opened:
                self.mark_clean(noted_at(key), num)

    def release(self, num: int, position: int) -> None:
        """End all leases of a turn that ended or parked; what it left open is dirty."""
        self.refresh()
        for lease in self.owners.of(num):
            if lease.opened:
                self.mark_dirty(noted_at(lease.key), position, num)
            self._drop(lease)

    def adopt(self, num: int) -> None:
        """Go on with the leases of a turn that another process left behind."""
        self.refresh()
        for lease in self.owners.of(num):
            self.owners.drop(lease)
            lease.runtime = self.runtime
            self.owners.add(lease)
            self.update(lease)

    def _drop(self, lease: Lease) -> None:
        self.owners.drop(lease)
        self.delete(lease)

    # ------------------------------------------------------------------ of each store

    @abstractmethod
    def refresh(self) -> None:
        """Make sure that `owners` is what the journal says."""

    @abstractmethod
    def insert(self, lease: Lease) -> None:
        """Write a new lease."""

    @abstractmethod
    def update(self, lease: Lease) -> None:
        """Write what changed of a lease."""

    @abstractmethod
    def delete(self, lease: Lease) -> None:
        """Remove a lease."""

    @abstractmethod
    def insert_frame(self, num: int, frame: bytes) -> int:
        """Write a frame; return its position."""

    @abstractmethod
    def last_writes(self, key: str, num: int) -> Iterable[Wrote]:
        """Return the last writes of turns but `num` to what overlaps with `key`."""

    @abstractmethod
    def mark_written(self, key: str, position: int, num: int) -> None:
        """Take note that turn `num` changed `key`; whatever was dirty is known again."""

    @abstractmethod
    def mark_dirty(self, key: str, position: int, num: int) -> None:
        """Take note that turn `num` was cut off while it changed `key`."""

    @abstractmethod
    def mark_clean(self, key: str, num: int) -> None:
        """Take note that what turn `num` left dirty is settled."""

    @abstractmethod
    def detach(self, num: int, runtime: int) -> None:
        """Take turn `num` from a process that may come back, and leave it to be resumed."""

    @abstractmethod
    def turn_id(self, num: int) -> str:
        """Return the id of a turn."""

    @abstractmethod
    def is_alive(self, runtime: int) -> bool:
        """Whether that process still runs."""

    @abstractmethod
    def beat_of(self, runtime: int) -> tuple[int, float]:
        """Return the beat of a process, and the seconds of silence after which it lapses."""


def noted_at(key: str) -> str:
    """Return where a write to `key` is noted: before the first `*`, since it may be any."""
    if "*" not in key:
        return key
    segments = key.split("/")
    return "/".join(segments[: segments.index("*")])

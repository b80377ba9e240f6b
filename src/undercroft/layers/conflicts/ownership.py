"""Who owns which resource for the time of a turn, and whether a turn may wait for an owner.

Keeps: no two turns own overlapping keys, unless both only append to them; a turn that owns
something waits only for a younger one, so turns never wait for each other in a ring.
Leaves to the stores: where this is written down, and which owners are dead.
Source of the waiting rule: wait-die of Rosenkrantz, Stearns and Lewis, 1978.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from undercroft.errors import SettingError
from undercroft.layers.conflicts.keys import overlap
from undercroft.model.effect import Mode

# Keys of the house's own; no key of a user begins so.
SESSION = "!session/"
# The modes, as text, whose claims make a turn an owner.
CHANGING = frozenset({Mode.APPEND.value, Mode.WRITE.value, Mode.EXCLUSIVE.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """What a turn does about a resource that another turn owns.

    Attributes:
        wait_s: Seconds that a step waits for it before it is refused; 0 refuses at once.
        lease_s: Seconds of silence after which another process takes a lease over; one that
            died is not waited for. Above 0.
    """

    wait_s: float = 30.0
    lease_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.wait_s < float("inf"):
            raise SettingError("wait_s", self.wait_s, "0 or more, and finite")
        if not 0 < self.lease_s < float("inf"):
            raise SettingError("lease_s", self.lease_s, "above 0, and finite")


def may_wait(turn_id: str, owner_id: str, *, owns: bool) -> bool:
    """Whether a turn may wait for an owner; ids sort by age, the oldest first."""
    return not owns or owner_id > turn_id


@dataclass(slots=True)
class Lease:
    """A resource that a turn owns.

    Attributes:
        turn: Number of the turn.
        runtime: Number of the process that runs it.
        appends: Whether it is only appended to, and so may be shared with others who do.
        opened: How many writes to it have begun and not ended.
        fence: Grows from owner to owner.
    """

    key: str
    turn: int
    runtime: int
    appends: bool
    opened: int = 0
    fence: int = 0


class Owners:
    """The leases of a journal, found by the paths that they overlap with."""

    __slots__ = ("_above", "_by_key", "_by_runtime", "_by_turn", "_wild")

    def __init__(self) -> None:
        self._by_key: dict[str, dict[int, Lease]] = {}
        self._by_turn: dict[int, dict[str, Lease]] = {}
        self._by_runtime: dict[int, int] = {}
        # By path, how many keys lie below it.
        self._above: dict[str, dict[str, None]] = {}
        self._wild: dict[str, None] = {}

    def of(self, turn: int) -> list[Lease]:
        """Return what a turn owns."""
        return list(self._by_turn.get(turn, {}).values())

    def by_runtime(self, runtime: int) -> int:
        """Return how many leases the turns of a process have."""
        return self._by_runtime.get(runtime, 0)

    def held(self, turn: int, key: str) -> Lease | None:
        """Return a turn's lease on exactly `key`."""
        owned = self._by_turn.get(turn)
        return None if owned is None else owned.get(key)

    def others(self, turn: int, key: str, *, appends: bool) -> Iterator[Lease]:
        """Yield the leases of other turns that keep `turn` from owning `key`."""
        for path in self._overlapping(key):
            for lease in self._by_key[path].values():
                if lease.turn != turn and not (appends and lease.appends):
                    yield lease

    def add(self, lease: Lease) -> None:
        """Take note of a lease."""
        key = lease.key
        leases = self._by_key.get(key)
        if leases is None:
            leases = self._by_key[key] = {}
            for path in paths_above(key):
                self._above.setdefault(path, {})[key] = None
            if "*" in key:
                self._wild[key] = None
        leases[lease.turn] = lease
        self._by_runtime[lease.runtime] = self._by_runtime.get(lease.runtime, 0) + 1
        self._by_turn.setdefault(lease.turn, {})[key] = lease

    def drop(self, lease: Lease) -> None:
        """Forget a lease."""
        key = lease.key
        leases = self._by_key[key]
        del leases[lease.turn]
        owned = self._by_turn[lease.turn]
        del owned[key]
        if not owned:
            del self._by_turn[lease.turn]
        left = self._by_runtime[lease.runtime] - 1
        if left:
            self._by_runtime[lease.runtime] = left
        else:
            del self._by_runtime[lease.runtime]
        if leases:
            return
        del self._by_key[key]
        self._wild.pop(key, None)
        for path in paths_above(key):
            below = self._above[path]
            del below[key]
            if not below:
                del self._above[path]

    def _overlapping(self, key: str) -> list[str]:
        if "*" in key:
            return [other for other in self._by_key if overlap(other, key)]
        found = [path for path in (*paths_above(key), key) if path in self._by_key]
        below = self._above.get(key)
        if below:
            found += below
        if self._wild:
            found += [w for w in self._wild if w not in found and overlap(w, key)]
        return found


@lru_cache(maxsize=4_096)
def paths_above(key: str) -> tuple[str, ...]:
    """Return the proper beginnings of a key, everything first; none above everything."""
    if not key:
        return ()
    paths, at = [""], key.find("/")
    while at >= 0:
        paths.append(key[:at])
        at = key.find("/", at + 1)
    return tuple(paths)

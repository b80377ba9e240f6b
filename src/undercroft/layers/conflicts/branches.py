"""Which branch of a turn owns which resource: the first one that writes to it.

Keeps: of two branches that run side by side, only one writes to a resource, unless it was
handed over; what a branch owned falls to the one that it came from when it closes.
"""

from __future__ import annotations

from undercroft.layers.conflicts.keys import meet, overlap, within
from undercroft.layers.conflicts.ownership import paths_above


class Branches:
    """The owners within one turn, by branch; the turn itself has no name."""

    __slots__ = ("_below", "_owner", "_wild")

    def __init__(self) -> None:
        self._owner: dict[str, str] = {}
        self._below: dict[str, dict[str, None]] = {}
        self._wild = False

    def foreign(self, key: str, branch: str) -> tuple[str, str] | None:
        """Return a key that overlaps with `key` and the other branch that owns it, or None.

        Of the owners of what `key` lies in, the nearest counts.
        """
        around, within_it = self._overlapping(key)
        for path in (*around[-1:], *within_it):
            owner = self._owner[path]
            if owner != branch:
                return path, owner
        return None

    def own(self, key: str, branch: str) -> None:
        """Make `branch` the owner of `key`."""
        if key not in self._owner:
            for path in paths_above(key):
                self._below.setdefault(path, {})[key] = None
        # Last, since of several that cover one key with a `*` the one given last counts.
        self._owner.pop(key, None)
        self._owner[key] = branch
        self._wild = self._wild or "*" in key

    def hand_over(self, key: str, giver: str, taker: str) -> str | None:
        """Give all that `giver` owns within `key`, and `key` itself, to `taker`.

        Returns the name of the branch that stands in the way because it owns some of it.
        """
        found = self.foreign(key, giver)
        if found is not None:
            return found[1]
        for path in self._overlapping(key)[1]:
            if within(path, key):
                self._owner[path] = taker
        self.own(key, taker)
        return None

    def close(self, branch: str, heir: str) -> list[str]:
        """Give all that a branch owns to the one that it came from; return the keys."""
        keys = [key for key, owner in self._owner.items() if owner == branch]
        for key in keys:
            self._owner[key] = heir
        return keys

    def _overlapping(self, key: str) -> tuple[list[str], list[str]]:
        """Return the owned keys that cover `key`, the widest first, and the others."""
        if self._wild or "*" in key:
            found: list[str] = []
            met: list[str] = []
            for path in reversed(self._owner):
                common = meet(path, key) if overlap(path, key) else None
                if common is None or any(within(common, other) for other in met):
                    continue  # what they have in common was given to somebody else since
                found.append(path)
                met.append(path)
            return [], found
        around = [path for path in (*paths_above(key), key) if path in self._owner]
        return around, list(self._below.get(key, ()))

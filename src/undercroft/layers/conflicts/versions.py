"""What a turn knows of the resources that it read, and whether that may still be true.

Keeps: a write rests on the state that the turn saw last, by a read or by a write of its own;
where somebody else may have changed it since, it is read again before the write, and where
it has changed the write is refused with the fresh value.
Leaves to the engine: reading again, and asking the journal who wrote last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from undercroft.layers.conflicts.keys import may_overlap, overlap
from undercroft.layers.conflicts.ownership import paths_above
from undercroft.layers.conflicts.policy import Declared
from undercroft.model.effect import Mode
from undercroft.model.lease import Wrote

VERSION_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Seen:
    """What a turn saw of a resource.

    Attributes:
        version: What tells this state from others; empty after a write of the turn's own,
            which changed it to something that nobody has read yet.
        position: Of the journal, when it was read or written: whatever was written up to
            there by others, the turn has seen.
        reader: What read it, for reading it again; None where nothing can.
        declared: Whether `version` comes from the tool's own `version=`.
        value: What was read, encoded.
    """

    key: str
    version: str
    position: int
    reader: Any = None
    declared: bool = False
    value: bytes = b""


class Known:
    """The resources that one turn, or one branch of it, knows. Costs grow with none of it."""

    __slots__ = ("_above", "_seen")

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}
        self._above: dict[str, dict[str, None]] = {}

    def note(self, seen: Seen) -> None:
        """Take note of what was just read or written."""
        key = seen.key
        if key not in self._seen:
            for path in paths_above(key):
                self._above.setdefault(path, {})[key] = None
        self._seen[key] = seen

    def wrote(self, key: str, position: int) -> None:
        """Take note that the turn itself changed `key`: what it knew of it is no more."""
        for seen in self.about(key):
            self._seen[seen.key] = Seen(seen.key, "", position, seen.reader, seen.declared)

    def about(self, key: str) -> list[Seen]:
        """Return what is known of `key`, of what it lies in, and of what lies in it."""
        if "*" in key:
            return [seen for seen in self._seen.values() if overlap(seen.key, key)]
        found = [self._seen[path] for path in (*paths_above(key), key) if path in self._seen]
        found += [self._seen[below] for below in self._above.get(key, ())]
        return found


def watched(declared: Mapping[str, Declared]) -> frozenset[str]:
    """Return the names of those that read what some other of them may write."""
    writes = [
        template
        for effect in declared.values()
        for mode, template in effect.modes
        if mode in (Mode.WRITE, Mode.EXCLUSIVE)
    ]
    return frozenset(
        name
        for name, effect in declared.items()
        if any(
            mode == Mode.READ and any(may_overlap(template, write) for write in writes)
            for mode, template in effect.modes
        )
    )


def version_of(value: object, raw: bytes, extract: Any = None) -> str:
    """Return what tells the state that a read saw from others: what `extract` says, or a hash."""
    if extract is None:
        return blake2b(raw, digest_size=16).hexdigest()
    return str(extract(value))[:VERSION_CHARS_MAX]


def in_question(seen: Seen, wrote: Iterable[Wrote], turn_id: str) -> str:
    """Return why what was seen may be out of date: `dirty`, `written`, `version`, or empty."""
    for last in wrote:
        if last.turn_id != turn_id and overlap(last.key, seen.key):
            if last.dirty:
                return "dirty"
            if last.position > seen.position:
                return "written"
    return "version" if seen.declared and seen.version and seen.reader is not None else ""

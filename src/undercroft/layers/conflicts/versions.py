"""What a turn knows of the resources that it read, and whether that may still be true.

Keeps: a write rests on the state that the turn saw last, by a read or by a write of its own;
where somebody else may have changed it since, it is read again before the write, and where
it has changed the write is refused with the fresh value.
Leaves to the engine: reading again, and asking the journal who wrote last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from undercroft.layers.conflicts.keys import may_overlap, overlap, within
from undercroft.layers.conflicts.ownership import paths_above
from undercroft.layers.conflicts.policy import Declared
from undercroft.model.effect import Mode
from undercroft.model.lease import Wrote

VERSION_CHARS_MAX = 200


class Seen(NamedTuple):
    """What a turn saw of a resource.

    Attributes:
        version: What tells this state from others: what the tool's `version=` made of it, or
            a hash; empty after a write of the turn's own, which changed it to something that
            nobody has read yet, and where `value` still has to be hashed.
        position: Of the journal, when it was read or written: whatever was written up to
            there by others, the turn has seen. Negative where that is not known any more.
        reader: What read it, for reading it again; None where nothing can.
        declared: Whether `version` comes from the tool's own `version=`.
        value: What was read, encoded; empty where it is too large to be kept.
    """

    key: str
    version: str
    position: int
    reader: Any = None
    declared: bool = False
    value: bytes = b""

    @property
    def identity(self) -> str:
        """Its version, worked out where nobody has asked for it yet."""
        return self.version or (hashed(self.value) if self.value else "")


class Known:
    """The resources that one turn, or one branch of it, knows. Costs grow with none of it."""

    __slots__ = ("_below", "_new", "_seen", "_wild")

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}
        self._below: dict[str, list[str]] = {}
        # Keys that `_below` has not been told of: most turns read more than they write.
        self._new: list[str] = []
        self._wild = False

    def note(self, seen: Seen) -> None:
        """Take note of what was just read or written."""
        key = seen.key
        if key not in self._seen:
            self._new.append(key)
            self._wild = self._wild or "*" in key
        self._seen[key] = seen

    def wrote(self, key: str, position: int) -> None:
        """Take note that the turn itself changed `key`: what it knew of it is no more."""
        for seen in self.about(key):
            # Of what it lies in, the rest may have been changed by others since it was read.
            at = position if within(seen.key, key) else seen.position
            self._seen[seen.key] = Seen(seen.key, "", at, seen.reader, seen.declared)

    def about(self, key: str) -> list[Seen]:
        """Return what is known of `key`, of what it lies in, and of what lies in it."""
        if self._wild or "*" in key:
            return [seen for seen in self._seen.values() if overlap(seen.key, key)]
        for new in self._new:
            for path in paths_above(new):
                self._below.setdefault(path, []).append(new)
        self._new.clear()
        found = [self._seen[path] for path in (*paths_above(key), key) if path in self._seen]
        found += [self._seen[below] for below in self._below.get(key, ())]
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
    """Return what tells the state that a read saw from others: what `extract` says, or a hash.

    Where it says nothing the hash of the value counts, and of a long text its hash.
    """
    said = None if extract is None else extract(value)
    if said is None or said == "":
        return hashed(raw)
    text = str(said)
    return text if len(text) <= VERSION_CHARS_MAX else hashed(text.encode(errors="replace"))


def hashed(raw: bytes) -> str:
    """Return what stands for a value that says nothing of its version."""
    return blake2b(raw, digest_size=16).hexdigest()


def in_question(seen: Seen, wrote: Iterable[Wrote], turn_id: str) -> str:
    """Return why what was seen may be out of date, or empty.

    It is `dirty`, `written`, `resumed` (it was read in an earlier life of the turn) or
    `version` (the tool declares one, so that comparing is what it is for).
    """
    for last in wrote:
        if last.turn_id != turn_id and overlap(last.key, seen.key):
            if last.dirty:
                return "dirty"
            if last.position > seen.position:
                return "written"
    if seen.reader is None or not seen.identity:
        return ""
    if seen.position < 0:
        return "resumed"
    return "version" if seen.declared else ""

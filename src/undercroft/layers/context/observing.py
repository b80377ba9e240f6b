"""Observing: from the messages of a conversation to what its quality is made of.

Keeps: what may have another reason is not held against the context: a read after a write, a poll,
a retry after a failure, an answer that has changed meanwhile, a question about somebody else.
Leaves to others: which values are identifiers (`ledger.py`), where they stand (`words.py`), what
a prompt shows (the window), and what all of it weighs (`quality.py`).

What is observed of an answer is observed against the prompt that the model was given: whatever
has come since does not excuse it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from itertools import chain, islice
from typing import Any, Protocol

import msgspec

from undercroft.layers.context.items import Fate
from undercroft.layers.context.quality import Alarm, Quality
from undercroft.layers.context.slots import SLOTS, Ask, Slot, Slots, complains
from undercroft.layers.context.words import holds
from undercroft.model.step import Call

# Later than every item.
NOW = 1 << 62
# Of one value so many of the newest and of the oldest items are looked at.
HOLDERS_MAX = 64
# How many values, reads and values of one slot are remembered; the oldest are let go.
VALUES_MAX = 20_000
READS_MAX = 10_000
SLOT_VALUES_MAX = 4
# So many values that had left are looked for again before each prompt.
LOST_CHECKED_MAX = 100
# Shorter ones are found everywhere, longer ones are texts: neither says anything.
VALUE_CHARS_MIN = 3
VALUE_CHARS_MAX = 200

# First words of names of tools that only look, where nobody has declared what a tool does.
READING = frozenset(
    ("calculate", "check", "count", "describe", "fetch", "find", "get", "has", "is", "list")
    + ("load", "lookup", "look", "query", "read", "retrieve", "search", "show", "view", "think")
)


class Seen(Enum):
    """Where a value is, for the model."""

    PRESENT = "present"
    RECOVERABLE = "recoverable"
    GONE = "gone"


class Sight(Protocol):
    """What the prompt shows."""

    def find(self, value: str, before: int = NOW) -> Seen:
        """Say where a value is, of what came before item `before`."""

    def fate(self, item: int) -> Fate:
        """Say what the prompt shows of an item."""


class Known(Protocol):
    """A value that must not be lost, as the ledger has it."""

    value: str
    superseded: bool


class WindowSight:
    """What a window's prompt shows.

    Args:
        holders: Items whose text holds a value whole, newest first.
        fate: Of an item.
        shown: The text that stands in the prompt for an item; asked for the elided ones.
        headed: Whether the ledger or a summary holds a value, as the prompt has them.
    """

    __slots__ = ("_headed", "_holders", "_shown", "fate")

    def __init__(
        self,
        holders: Callable[[str], Sequence[int]],
        fate: Callable[[int], Fate],
        shown: Callable[[int], str],
        headed: Callable[[str], bool],
    ) -> None:
        self._holders, self.fate, self._shown, self._headed = holders, fate, shown, headed

    def find(self, value: str, before: int = NOW) -> Seen:
        """Say where a value is, of what came before item `before`."""
        items = self._holders(value)
        if len(items) > 2 * HOLDERS_MAX:
            # The oldest too: what users say stays when the results of tools have left.
            items = [*islice(items, HOLDERS_MAX), *items[-HOLDERS_MAX:]]
        elided: list[int] = []
        for item in items:
            if item >= before:
                continue
            fate = self.fate(item)
            if fate is Fate.KEPT:
                return Seen.PRESENT
            if fate is Fate.ELIDED:
                elided.append(item)
        if self._headed(value):
            return Seen.PRESENT
        folded = value.casefold()
        if any(holds(self._shown(item).casefold(), folded) for item in elided):
            return Seen.PRESENT
        return Seen.RECOVERABLE if elided else Seen.GONE


class _Read:
    """The newest result of one read."""

    __slots__ = ("digest", "item", "polled", "writes")

    def __init__(self, item: int, digest: bytes, writes: int, *, polled: bool) -> None:
        self.item, self.digest, self.writes, self.polled = item, digest, writes, polled


class Observer:
    """Watches one session. Whoever owns the window calls it, in the order of the items.

    Before each prompt `prompt`; after it `answer`, then `result` for each call; `user` for what
    users say; `compacted` after every compaction.

    Args:
        known: What users stated and calls used, as it grows: new values come last.
    """

    def __init__(
        self,
        quality: Quality,
        sight: Sight,
        known: Mapping[str, Known],
        slots: Sequence[Slot] = SLOTS,
    ) -> None:
        self.quality, self._sight, self._known, self._slots = quality, sight, known, Slots(slots)
        self._heard = 0
        self._where: dict[str, Seen] = {}
        self._lost: dict[str, None] = {}
        self._present = self._recoverable = 0
        self._reads: dict[bytes, _Read] = {}
        self._again: dict[bytes, _Read] = {}
        self._writes = 0
        self._filled: dict[str, dict[str, None]] = {}
        self._asked: tuple[str, ...] = ()
        self._again_asked: list[Ask] = []

    # ------------------------------------------------------------------ what is said

    def user(self, text: str) -> None:
        """Take in what a user said."""
        told = self._slots.told(text, self._asked)
        if self._again_asked and not self._is_repetition(text, told):
            for _ in self._again_asked:
                self.quality.excused()
        self._asked = ()
        self._again_asked.clear()
        for name, values in told.items():
            self._fill(name, values)

    def answer(
        self, item: int, text: str, calls: Sequence[Call] = (), used: Iterable[str] = ()
    ) -> None:
        """Take in what the model said, before its own item can be found.

        Args:
            item: The id of it.
            text: What it said.
            calls: What it proposed.
            used: Identifiers among their arguments that users or tools had said before.
        """
        held = gone = 0
        for value in dict.fromkeys(used):
            if not _is_identifier(value):
                continue
            if self._sight.find(value, item) is Seen.PRESENT:
                held += 1
            else:
                gone += 1
        if held or gone:
            self.quality.used(held, gone)
        for key in dict.fromkeys(map(_key, calls)):
            read = self._reads.get(key)
            if read is not None:
                self._repeat(key, read)
        if text:
            self._questions(item, text)

    def result(
        self, item: int, call: Call, text: str, *, changed: bool | None = None, ok: bool = True
    ) -> None:
        """Take in the result of a call.

        Args:
            item: The id of it.
            call: As it was proposed.
            text: The result as it came, before anything was cut.
            changed: Whether the call may have changed anything; None: nobody has declared it.
            ok: Whether it went well.
        """
        if changed is None:
            changed = _first_word(call.name) not in READING
        if changed:
            self._writes += 1
            return
        key = _key(call)
        again = self._again.pop(key, None)
        if not ok:
            self._reopen(call)
            return
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        same = again is not None and again.digest == digest
        polled = again is not None and (again.polled or not same)
        if again is None or not same:
            self.quality.read(because_gone=False)
        else:
            self.quality.read(because_gone=not again.polled)
        self._reads.pop(key, None)
        self._reads[key] = _Read(item, digest, self._writes, polled=polled)
        if len(self._reads) > READS_MAX:
            del self._reads[next(iter(self._reads))]
        for name, values in self._slots.returned(text).items():
            self._fill(name, values)

    def compacted(self) -> None:
        """Look for every identifier anew: the window was made smaller."""
        self._where.clear()
        self._lost.clear()
        self._present = self._recoverable = self._heard = 0

    def prompt(self, *, pins: bool = True, conflicts: int = 0, slots: int = 0) -> Alarm | None:
        """End what was observed since the prompt before, as the next one is about to be sent.

        Args:
            pins: Whether each stands in it whole, and once.
            conflicts: Slots that hold several values at once, none of them superseded.
            slots: That there are.
        """
        self._look()
        if self._where:
            self.quality.live(self._present, self._recoverable, len(self._where))
        self.quality.conflicts(conflicts, slots)
        self.quality.pins(whole=pins)
        return self.quality.step()

    # ------------------------------------------------------------------ inside

    def _look(self) -> None:
        """Find what is new, and what had left and may have been said again.

        What is in the prompt stays there until the window is compacted.
        """
        for key in list(islice(self._lost, LOST_CHECKED_MAX)):
            del self._lost[key]
            if known := self._known.get(key):
                self._place(key, known)
        if len(self._known) > self._heard:
            fresh = list(islice(self._known.items(), self._heard, VALUES_MAX))
            self._heard = len(self._known)
            for key, known in fresh:
                self._place(key, known)

    def _place(self, key: str, known: Known) -> None:
        was = self._where.pop(key, None)
        self._present -= was is Seen.PRESENT
        self._recoverable -= was is Seen.RECOVERABLE
        if not _is_identifier(known.value):
            return
        seen = self._sight.find(known.value)
        if seen is not Seen.PRESENT:
            if known.superseded:  # nobody needs it
                return
            self._lost[key] = None
        self._where[key] = seen
        self._present += seen is Seen.PRESENT
        self._recoverable += seen is Seen.RECOVERABLE

    def _repeat(self, key: bytes, read: _Read) -> None:
        fate = self._sight.fate(read.item)
        if fate is Fate.KEPT:
            read.polled = True
        self._again[key] = read
        if read.writes != self._writes:
            read.polled = False
            self._again.pop(key)

    def _fill(self, name: str, values: Iterable[str]) -> None:
        known = self._filled.setdefault(name, {})
        for value in values:
            known.pop(value, None)
            known[value] = None
        while len(known) > SLOT_VALUES_MAX:
            del known[next(iter(known))]

    def _reopen(self, call: Call) -> None:
        """Forget what a call failed with: asking for it again has a reason."""
        text = str(call.arguments).casefold()
        for known in self._filled.values():
            for value in [v for v in known if v.casefold() in text]:
                del known[value]

    def _questions(self, item: int, text: str) -> None:
        asks = self._slots.asked(text)
        self._asked = tuple(dict.fromkeys(chain.from_iterable(asks)))
        self._again_asked.clear()
        for ask in asks:
            filled = all(self._is_filled(name, item) for name in ask)
            self.quality.asked(filled=filled)
            if filled:
                self._again_asked.append(ask)

    def _is_repetition(self, text: str, told: Mapping[str, Sequence[str]]) -> bool:
        """Say whether a user had to say again what was asked for once more.

        Who gives another value, or none and does not complain, was asked about something else.
        """
        known = {value.casefold() for values in self._filled.values() for value in values}
        values = [value.casefold() for values in told.values() for value in values]
        if values:
            return all(value in known for value in values)
        return complains(text)

    def _is_filled(self, name: str, item: int) -> bool:
        values = self._filled.get(name)
        if not values:
            return False
        if not self._slots.table[name].many:
            return True
        return all(self._sight.find(value, item) is not Seen.PRESENT for value in values)


def _is_identifier(value: str) -> bool:
    short = len(value) < VALUE_CHARS_MIN and value.isascii()
    return not short and len(value) <= VALUE_CHARS_MAX


def _first_word(name: str) -> str:
    return name.partition("_")[0].partition("-")[0].casefold()


def _key(call: Call) -> bytes:
    """Return what is equal for calls of one tool with equal arguments."""
    arguments: Any = call.arguments
    try:
        if isinstance(arguments, str):
            arguments = msgspec.json.decode(arguments)
        plain = msgspec.json.encode(arguments, order="sorted", enc_hook=repr)
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError, UnicodeError):
        plain = repr(call.arguments).encode("utf-8", "surrogatepass")
    named = call.name.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(named + b"\0" + plain, digest_size=16).digest()

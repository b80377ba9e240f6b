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
import re
from collections.abc import Callable, Iterable, Mapping, Reversible, Sequence
from enum import Enum
from itertools import chain, islice
from typing import Any, Protocol

import msgspec

from undercroft.layers.context.identifiers.words import holds
from undercroft.layers.context.items import Fate
from undercroft.layers.context.quality.questions import complains, questions_of
from undercroft.layers.context.quality.score import Alarm, Quality
from undercroft.layers.context.quality.slots import SLOTS, Slot
from undercroft.model.step import Call

# Of so many values, the newest, it is observed where they are.
LIVE_MAX = 500
# Later than every item.
NOW = 1 << 62
# Of one value so many of the newest items are looked at, and as many of the oldest.
HOLDERS_MAX = 16
# So many tombstones are read for a value: one that shows it is seldom far.
TOMBSTONES_MAX = 4
# How many values, reads and values of one slot are remembered; the oldest reads are let go.
VALUES_MAX = 20_000
READS_MAX = 10_000
SLOT_VALUES_MAX = 4
# So many values that had left are looked for again before each prompt, besides those just used.
LOST_CHECKED_MAX = 10
# Shorter ones are found everywhere, longer ones are texts: neither says anything.
VALUE_CHARS_MIN = 3
VALUE_CHARS_MAX = 200
ARGUMENTS_MAX = 100_000

# First words of names of tools that only look, where nobody has declared what a tool does.
READING = frozenset(
    {"calculate", "check", "count", "describe", "fetch", "find", "get", "has", "is", "list"}
    | {"load", "look", "lookup", "query", "read", "recall", "retrieve", "search", "show"}
    | {"think", "view"}
)
_SPACE_OF_NAMES = re.compile(r".*(?:[./:]|__)", re.DOTALL)
_FIRST_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# How results begin that say that the call did not do what it should.
_FAILED = re.compile(
    r"\W{0,4}(?:error|failed|failure|exception|traceback|refused)\b", re.IGNORECASE
)


class Seen(Enum):
    """Where a value is, for the model."""

    PRESENT = "present"
    RECOVERABLE = "recoverable"
    GONE = "gone"


class Sight(Protocol):
    """What the prompt shows."""

    def find(self, value: str, before: int = NOW, after: int = -1) -> Seen:
        """Say where a value is, of what came before one item and after another."""

    def fate(self, item: int) -> Fate:
        """Say what the prompt shows of an item."""


class Known(Protocol):
    """A value that must not be lost, as the ledger has it."""

    value: str
    superseded: bool


class KnownValues(Protocol):
    """Values that must not be lost, by their keys; new ones come last."""

    def __len__(self) -> int: ...

    def get(self, key: str, /) -> Known | None:
        """Return the value of a key."""

    def items(self) -> Reversible[tuple[str, Known]]:
        """Return all of them, in order."""


class WindowSight:
    """What a window's prompt shows.

    Args:
        holders: Items whose text holds a value whole, newest first.
        fate: Of an item.
        shown: The text that stands in the prompt for an item; asked for the elided ones.
        headed: Whether the ledger or a summary holds a value, as the prompt has them.
    """

    __slots__ = ("_found", "_headed", "_holders", "_shown", "fate")

    def __init__(
        self,
        holders: Callable[[str], Sequence[int]],
        fate: Callable[[int], Fate],
        shown: Callable[[int], str],
        headed: Callable[[str], bool],
    ) -> None:
        self._holders, self.fate, self._shown, self._headed = holders, fate, shown, headed
        # Where a value was found last: mostly it is still there.
        self._found: dict[str, int] = {}

    def find(self, value: str, before: int = NOW, after: int = -1) -> Seen:
        """Say where a value is, of what came before one item and after another."""
        found = self._found.get(value, NOW)
        if after < found < before and self.fate(found) is Fate.KEPT:
            return Seen.PRESENT
        items = self._holders(value)
        if len(items) > 2 * HOLDERS_MAX:
            # The oldest too: what users say stays when the results of tools have left.
            items = [*items[:HOLDERS_MAX], *items[-HOLDERS_MAX:]]
        elided: list[int] = []
        for item in items:
            if item <= after:
                break
            if item < before:
                fate = self.fate(item)
                if fate is Fate.KEPT:
                    if len(self._found) < VALUES_MAX:
                        self._found[value] = item
                    return Seen.PRESENT
                if fate is Fate.ELIDED:
                    elided.append(item)
        if (after < 0 and self._headed(value)) or self._in_tombstone(value, elided):
            return Seen.PRESENT
        return Seen.RECOVERABLE if elided else Seen.GONE

    def _in_tombstone(self, value: str, elided: Sequence[int]) -> bool:
        folded = value.casefold()
        return any(holds(self._shown(at).casefold(), folded) for at in elided[:TOMBSTONES_MAX])


class _Read:
    """The newest result of one read.

    Attributes:
        digest: Of the text.
        writes: How many there had been before it.
        polled: Whether it was made again although its result was there.
    """

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

    __slots__ = (
        "_again",
        "_asked",
        "_failed",
        "_filled",
        "_heard",
        "_known",
        "_lost",
        "_newest",
        "_present",
        "_questions",
        "_reads",
        "_reasked",
        "_recoverable",
        "_sight",
        "_used",
        "_where",
        "_writes",
        "quality",
    )

    def __init__(
        self,
        quality: Quality,
        sight: Sight,
        known: KnownValues,
        slots: Sequence[Slot] = SLOTS,
    ) -> None:
        self.quality, self._sight, self._known = quality, sight, known
        self._questions = questions_of(tuple(slots))
        # Where the known values are, by their keys; of those that are not in the prompt, which
        # item was the newest when they were looked for.
        self._where: dict[str, Seen] = {}
        self._lost: dict[str, int] = {}
        self._newest = -1
        self._used: tuple[str, ...] = ()
        self._heard = self._present = self._recoverable = 0
        # Reads by tool and arguments; those that were asked for again, until their result comes.
        self._reads: dict[bytes, _Read] = {}
        self._again: dict[bytes, _Read] = {}
        self._writes = 0
        self._failed = False
        # What slots are filled with; what was asked for last, and what of it for no new reason.
        self._filled: dict[str, dict[str, None]] = {}
        self._asked: tuple[str, ...] = ()
        self._reasked = 0

    # ------------------------------------------------------------------ what is said

    def user(self, text: str) -> None:
        """Take in what a user said."""
        told = self._questions.told(text, self._asked)
        if self._reasked and not self._says_again(text, told):
            for _ in range(self._reasked):
                self.quality.excused()
        self._asked, self._reasked = (), 0
        for slot, values in told.items():
            self._fill(slot, values)

    def answer(
        self, item: int, text: str, calls: Sequence[Call] = (), used: Iterable[str] = ()
    ) -> None:
        """Take in what the model said to the last prompt.

        Args:
            item: The id of it; it does not count as a place where a value was found.
            text: What it said.
            calls: What it proposed.
            used: Identifiers among their arguments that users or tools had said before.
        """
        self._newest = max(self._newest, item)
        wanted = [value for value in dict.fromkeys(used) if _is_identifier(value)]
        held = sum(self._sight.find(value, item) is Seen.PRESENT for value in wanted)
        self._used = tuple(map(str.casefold, wanted))
        if wanted:
            self.quality.used(held, len(wanted) - held)
        # What follows a failure may be what the failure told it to do.
        if not self._failed:
            for key in dict.fromkeys(map(_key, calls)):
                if key is not None and (read := self._reads.get(key)):
                    self._repeat(key, read)
        self._failed = False
        if text:
            self._ask(item, text)

    def result(
        self, item: int, call: Call, text: str, *, changed: bool | None = None, ok: bool = True
    ) -> None:
        """Take in the result of a call.

        Args:
            item: The id of it.
            call: As it was proposed.
            text: The result as it came, before anything was cut.
            changed: Whether the call may have changed anything; None: nobody has declared it.
            ok: Whether it went well; a text that begins with an error did not.
        """
        self._newest = max(self._newest, item)
        key = _key(call)
        again = None if key is None else self._again.pop(key, None)
        failed = not ok or _FAILED.match(text) is not None
        if failed:
            self._failed = True
            self._reopen(call)
        if not _is_reading(call.name) if changed is None else changed:
            self._writes += 1
        elif key is not None and not failed:
            self._read(item, key, text, again)

    def compacted(self) -> None:
        """Look for every identifier anew before the next prompt: the window was made smaller."""
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
        self.quality.live(self._present, self._recoverable, len(self._where))
        self.quality.conflicts(conflicts, slots)
        self.quality.pins(whole=pins)
        return self.quality.step()

    # ------------------------------------------------------------------ identifiers

    def _look(self) -> None:
        """Find what is new, and what had left and may have been said again.

        What is in the prompt stays there until the window is compacted.
        """
        lost: dict[str, None] = {}
        if self._lost:
            first = [key for key in self._used if key in self._lost]
            lost = dict.fromkeys([*first, *islice(self._lost, LOST_CHECKED_MAX)])
        self._used = ()
        for key in lost:
            after = self._lost.pop(key)
            known = self._known.get(key)
            if known is None:
                continue
            if self._sight.find(known.value, after=after) is Seen.GONE and not known.superseded:
                self._lost[key] = self._newest  # as it was, and to be looked for once more
            else:
                self._place(key, known)
        count = len(self._known)
        if count > self._heard:
            # After a compaction all of them are new; of very many the newest stand for all.
            newest = list(islice(reversed(self._known.items()), min(count - self._heard, LIVE_MAX)))
            self._heard = count
            for key, known in reversed(newest):
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
            self._lost[key] = self._newest
        self._where[key] = seen
        self._present += seen is Seen.PRESENT
        self._recoverable += seen is Seen.RECOVERABLE

    # ------------------------------------------------------------------ reads

    def _repeat(self, key: bytes, read: _Read) -> None:
        """Note that a read is asked for again, if nothing but its absence can be the reason."""
        if read.writes != self._writes:
            return
        if self._sight.fate(read.item) is Fate.KEPT:
            read.polled = True
        if len(self._again) < READS_MAX:
            self._again[key] = read

    def _read(self, item: int, key: bytes, text: str, again: _Read | None) -> None:
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        # Another answer than before was worth asking for, whatever the prompt showed.
        polled = again is not None and (again.polled or again.digest != digest)
        self.quality.read(because_gone=again is not None and not polled)
        self._reads.pop(key, None)
        self._reads[key] = _Read(item, digest, self._writes, polled=polled)
        if len(self._reads) > READS_MAX:
            del self._reads[next(iter(self._reads))]
        for slot, values in self._questions.returned(text).items():
            self._fill(slot, values)

    # ------------------------------------------------------------------ questions

    def _ask(self, item: int, text: str) -> None:
        asks = self._questions.asked(text)
        self._asked = tuple(dict.fromkeys(chain.from_iterable(asks)))
        self._reasked = 0
        for ask in asks:
            filled = all(self._is_filled(slot, item) for slot in ask)
            self.quality.asked(filled=filled)
            self._reasked += filled

    def _is_filled(self, slot: str, item: int) -> bool:
        values = self._filled.get(slot)
        if not values:
            return False
        if not self._questions.table[slot].many:
            return True
        # Of which people have several, they are asked for one of the others.
        return all(self._sight.find(value, item) is not Seen.PRESENT for value in values)

    def _fill(self, slot: str, values: Iterable[str]) -> None:
        known = self._filled.setdefault(slot, {})
        for value in values:
            known.pop(value, None)
            known[value] = None
        while len(known) > SLOT_VALUES_MAX:
            del known[next(iter(known))]

    def _reopen(self, call: Call) -> None:
        """Forget what a call failed with: asking for it again has a reason."""
        arguments = (_written(call) or "").casefold()
        for known in self._filled.values():
            for value in [v for v in known if v.casefold() in arguments]:
                del known[value]

    def _says_again(self, text: str, told: Mapping[str, Sequence[str]]) -> bool:
        """Say whether a user had to say once more what was asked for.

        Who gives another value, or none and does not complain, was asked about something else.
        """
        known = {v.casefold() for values in self._filled.values() for v in values}
        values = [v.casefold() for values in told.values() for v in values]
        return known.issuperset(values) if values else complains(text)


def _is_identifier(value: str) -> bool:
    short = len(value) < VALUE_CHARS_MIN and value.isascii()
    return not short and len(value) <= VALUE_CHARS_MAX


def _is_reading(tool: str) -> bool:
    """Say whether a tool only looks, by the first word of its name: `crm.get_user` does."""
    word = _FIRST_WORD.search(_SPACE_OF_NAMES.sub("", tool[:VALUE_CHARS_MAX], count=1))
    return word is not None and word[0].lower() in READING


def _key(call: Call) -> bytes | None:
    """Return what is equal for calls of one tool with equal arguments; None if none can be."""
    written = _written(call)
    if written is None:
        return None
    text = f"{call.name}\0{written}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _written(call: Call) -> str | None:
    """Return the arguments of a call as text, the same for equal ones; None if they are no data."""
    arguments: Any = call.arguments
    try:
        if isinstance(arguments, str):
            if len(arguments) > ARGUMENTS_MAX:
                return arguments
            arguments = msgspec.json.decode(arguments)
        return msgspec.json.encode(arguments, order="sorted").decode()
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError):
        # No JSON: then only the very same text is equal.
        return arguments if isinstance(arguments, str) else None

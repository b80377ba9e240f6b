"""What must not be lost when messages leave the window: values that users state and tools return.

Keeps: a value that the user stated has an entry for good; a contradiction is marked and both sides
stay; what is rendered never takes more tokens than it may.
Leaves to the window: which messages are shown, and so which values are absent.

It works without a model. What users say is found by rules (`extract.py`) and by what is later used:
an argument of a call that stands in what a user said or a tool returned gets an entry. Who says
what of whom (entity, attribute, value) comes from records that tools return (`facts.py`) and from
phrases such as "my email is ...".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import msgspec

from undercroft.layers.context.identifiers.extract import (
    VALUE_CHARS_MAX,
    Extractor,
    Identifier,
    extract,
)
from undercroft.layers.context.identifiers.facts import leaves, offers, record, spellings, where
from undercroft.layers.context.identifiers.listing import Line, Listing
from undercroft.layers.context.identifiers.statements import (
    put_right,
    shape,
    statements,
    taken_back,
)
from undercroft.layers.context.identifiers.words import Words

Origin = Literal["user", "tool", "nobody"]

_USER, _ASSISTANT, _TOOL = 0, 1, 2

# What tools offered and nobody used yet fills the room that is left, from so many results at most.
OFFERS_MAX = 100
OFFERING_MAX = 40
# Of one attribute of one entity; the values of any more are kept as entries only.
CLAIMS_MAX = 32
# Of what records contradict each other about, so much is shown.
DISPUTED_MAX = 8
# How many of the last statements a bare "actually, it is ..." may be about.
RECENT_MAX = 8
# A text that is longer is no value but prose, and only the identifiers in it count.
PROSE_WORDS_MIN = 8

# What identifies a person: another one is another person, not a contradiction.
# Values of these kinds show what they are.
_TELLING = frozenset({"id", "name", "code", "number", "quote", "url", "path", "email", "money"})
_IDENTITY = frozenset({"name", "user id", "customer id"})


class Entry(msgspec.Struct, array_like=True, gc=False):
    """A value that must not be lost.

    Attributes:
        value: As it was written first.
        kind: What kind of value it is, as the extractor says; of arguments their parameter.
        origin: `user` or `tool`: who stated it first.
        item: Where it was stated first.
        last: Where it was stated or used last.
        uses: How many calls had it as an argument.
        entity: Whose it is: the id of a record, or `user`; empty where nobody knows.
        attribute: What it is of that entity, or the parameter that it was used as.
        conflict: Whether another value is said to be the same attribute of the same entity.
        superseded: Whether it was corrected or changed since.
    """

    value: str
    kind: str
    origin: str
    item: int
    last: int
    uses: int = 0
    entity: str = ""
    attribute: str = ""
    conflict: bool = False
    superseded: bool = False


class Use(NamedTuple):
    """A value that a call has as an argument, or in one.

    Attributes:
        origin: Who stated it before: `user`, `tool` or `nobody`.
        entry: Of the ledger; None where nobody stated it.
    """

    value: str
    parameter: str
    origin: Origin
    entry: Entry | None


class Conflict(NamedTuple):
    """Two or more values that are said to be the same attribute of one entity.

    Attributes:
        items: Where each of `values` was said.
    """

    entity: str
    attribute: str
    values: tuple[str, ...]
    items: tuple[int, ...]


class _Claim(msgspec.Struct, array_like=True, gc=False):
    value: str
    item: int
    origin: str
    superseded: bool = False


class _Kept(msgspec.Struct, array_like=True):
    entries: list[Entry]
    slots: list[tuple[str, str, list[_Claim]]]
    roles: list[tuple[int, int]]
    recent: list[tuple[str, str, str]]
    person: str
    changed: int


class Ledger:
    """Values that were stated and used, whose they are, and which of them contradict each other.

    Args:
        extractors: What finds identifiers in what users say, besides the default.
        words: The window's index; whoever passes one adds every text to it before the ledger
            hears of it. Without one the ledger has its own.
    """

    def __init__(self, extractors: Sequence[Extractor] = (), words: Words | None = None) -> None:
        self.entries: dict[str, Entry] = {}
        self._extractors = (extract, *extractors)
        self._words = Words() if words is None else words
        self._own = words is None
        self._roles: dict[int, int] = {}
        self._slots: dict[tuple[str, str], list[_Claim]] = {}
        self._unread: list[tuple[int, str, bool | None]] = []
        self._recent: list[tuple[str, str, str]] = []
        self._person = "user"
        self._changed = -1
        self._open: set[tuple[str, str]] = set()
        # The slots that were said to have a value; what was said lately is not in it yet.
        self._holders: dict[str, set[tuple[str, str]]] = {}
        self._told: list[tuple[tuple[str, str], str]] = []
        # What the results offer that were looked at last.
        self._offers: dict[int, list[tuple[str, Line]]] = {}

    def user(self, item: int, text: str) -> None:
        """Hear what the user said."""
        self._hear(item, text, _USER)
        found = list(dict.fromkeys(one for find in self._extractors for one in find(text)))
        for value, kind in found:
            self._enter(value, kind, "user", item)
        mended = self._state(item, text)
        for old, new in taken_back(text, found):
            self._replace(old, new, item)
        if not mended and (right := put_right(text, found)) is not None:
            self._put_right(item, right)

    def assistant(self, item: int, text: str) -> None:
        """Hear what the assistant said: it states nothing, but it is no longer unheard of."""
        self._hear(item, text, _ASSISTANT)

    def result(self, item: int, tool: str, text: str, *, changed: bool | None = None) -> None:
        """Hear what a tool returned; a value of it gets an entry once it is used.

        Args:
            item: Id of the message.
            tool: The tool's name.
            text: What it returned: JSON, a Python literal, or plain text.
            changed: Whether the call changed the world, so that what it returns supersedes what
                was read before; None where nobody knows: then the newer always supersedes.
        """
        del tool
        self._hear(item, text, _TOOL)
        self._unread.append((item, text, changed))

    def call(self, item: int, tool: str, arguments: Any) -> list[Use]:
        """Hear what a call is given; return those of its values that are not prose."""
        del tool
        uses: list[Use] = []
        for parameter, value in leaves(arguments):
            use = self._use(item, parameter, value)
            uses += [use] if use is not None else self._uses_within(item, value)
        return uses

    def conflicts(self) -> list[Conflict]:
        """Return what is said to have several values at once, oldest first."""
        self._read()
        found = []
        for entity, attribute in sorted(self._open):
            claims = [c for c in self._slots[entity, attribute] if not c.superseded]
            told = sorted(claims, key=lambda claim: claim.item)
            values, items = [c.value for c in told], [c.item for c in told]
            found.append(Conflict(entity, attribute, tuple(values), tuple(items)))
        return sorted(found, key=lambda conflict: (conflict.items, conflict.attribute))

    @property
    def slots(self) -> int:
        """How many attributes of entities have a value."""
        self._read()
        return len(self._slots)

    def supersede(self, old: str, item: int, new: str = "") -> bool:
        """Mark a value as corrected or changed; return whether it was known.

        Args:
            old: The value that is right no more; it is kept, and marked.
            item: The message that says so.
            new: What it is now; empty where nobody says.
        """
        self._read()
        old, new = _encodable(old), _encodable(new)
        entry = self.entries.get(old.casefold())
        known = entry is not None
        if entry is not None:
            entry.superseded = True
        for slot in self._holding(old):
            hits = [c for c in self._slots[slot] if _same(c.value, old) and c.item <= item]
            if hits:
                known = True
                for claim in hits:
                    claim.superseded = True
                if new:
                    self._claim(slot, new, item, "user")
                else:
                    self._judge(slot)
        return known

    def _holding(self, value: str) -> list[tuple[str, str]]:
        """Return the slots that were ever said to have a value, oldest first."""
        for slot, told in self._told:
            self._holders.setdefault(told.casefold(), set()).add(slot)
        self._told.clear()
        found = self._holders.get(value.casefold(), set())
        return [slot for slot in self._slots if slot in found] if len(found) > 1 else list(found)

    # What is said.

    def _hear(self, item: int, text: str, role: int) -> None:
        self._roles[item] = role
        if self._own:
            self._words.add(item, text)

    def _enter(self, value: str, kind: str, origin: str, item: int) -> Entry | None:
        value = _encodable(value.strip())
        if not value or len(value) > VALUE_CHARS_MAX:
            return None
        key = value.casefold()
        entry = self.entries.get(key)
        if entry is None:
            entry = self.entries[key] = Entry(value, _encodable(kind), origin, item, item)
        else:
            entry.last = max(entry.last, item)
            if origin == "user" and entry.origin != "user":
                entry.origin = "user"
        return entry

    def _state(self, item: int, text: str) -> bool:
        """Note what a user says of themselves; return whether it replaces what they said before."""
        said = statements(text)
        for attribute, value, mended in said:
            if attribute in _IDENTITY and not mended:
                self._meet(attribute, value)
        replaced = False
        for attribute, value, mended in said:
            entry = self._enter(value, attribute, "user", item)
            if entry is None:
                continue
            slot = (self._person, attribute)
            entry.entity, entry.attribute = "user", attribute
            if attribute == "name" and not mended and self._slots.get(slot):
                continue  # the same person by a shorter or longer name
            if mended:
                replaced = self._outdate(slot, item, entry.value) or replaced
            self._claim(slot, entry.value, item, "user")
            self._recent = [one for one in self._recent if one[:2] != slot][1 - RECENT_MAX :]
            self._recent.append((*slot, shape(entry.value)))
        return replaced

    def _meet(self, attribute: str, value: str) -> None:
        """Take what is said from now on to be of somebody else, if who speaks is another."""
        known = [c.value for c in self._slots.get((self._person, attribute), ())]
        same = _same_name if attribute == "name" else _same
        if known and not any(same(one, value) for one in known):
            self._person = _encodable(f"user {value}")

    def _put_right(self, item: int, right: Identifier) -> None:
        """Take a bare "actually, it is ..." to be about the last statement of the same form."""
        form = shape(right.value)
        for entity, attribute, known in reversed(self._recent):
            if entity == self._person and known == form:
                slot = (entity, attribute)
                self._outdate(slot, item, right.value)
                self._claim(slot, _encodable(right.value), item, "user")
                return

    def _replace(self, old: str, new: str, item: int) -> None:
        """Note that the user says that it is not `old` but `new`."""
        entry = self.entries.get(old.casefold())
        if entry is not None and entry.item < item:
            self.supersede(old, item, new)

    def _outdate(self, slot: tuple[str, str], item: int, value: str) -> bool:
        """Mark what was said to be in a slot as superseded; return whether that was another."""
        changed = False
        for claim in self._slots.get(slot, ()):
            if claim.item < item and not _same(claim.value, value):
                claim.superseded = changed = True
                if entry := self._entry_of(slot, claim.value):
                    entry.superseded = True
        return changed

    def _entry_of(self, slot: tuple[str, str], value: str) -> Entry | None:
        """Return the entry of a slot's value, unless that value is also somebody else's."""
        entry = self.entries.get(value.casefold())
        if entry is None or entry.attribute != slot[1].rpartition(".")[2]:
            return None
        whose = slot[0].rpartition("/")[2]
        mine = entry.entity == whose or (entry.entity == "user" and whose.startswith("user "))
        return entry if mine else None

    def _claim(self, slot: tuple[str, str], value: str, item: int, origin: str) -> None:
        claims = self._slots.get(slot)
        if claims is None:
            self._slots[slot] = [_Claim(value, item, origin)]
            self._told.append((slot, value))
            return
        for claim in claims:
            if claim.value == value or _same(claim.value, value):
                if claim.superseded and claim.item < item:
                    claim.superseded = False
                    if entry := self._entry_of(slot, value):
                        entry.superseded = False
                claim.item = max(claim.item, item)
                break
        else:
            if len(claims) < CLAIMS_MAX:
                claims.append(_Claim(value, item, origin))
                self._told.append((slot, value))
        if len(claims) > 1:
            self._judge(slot)

    def _judge(self, slot: tuple[str, str]) -> None:
        """Mark the entries of a slot: in conflict, or no more."""
        live = [claim for claim in self._slots[slot] if not claim.superseded]
        # Two values of one message are alternatives: whoever names both, tells them apart.
        against = len({claim.value.casefold() for claim in live}) > 1
        against = against and len({claim.item for claim in live}) > 1
        (self._open.add if against else self._open.discard)(slot)
        for claim in self._slots[slot]:
            if entry := self._entry_of(slot, claim.value):
                entry.conflict = against and not claim.superseded

    def _read(self) -> None:
        """Note what tools said since the last time."""
        for item, text, changed in self._unread:
            for fact in record(text):
                slot = (_encodable(fact.entity), _encodable(fact.attribute))
                value = _encodable(fact.value)
                told = self._slots.get(slot, ())
                if len(told) == 1 and told[0].value == value and not told[0].superseded:
                    told[0].item = max(told[0].item, item)  # most often: it is as it was
                    continue
                if told and (changed is not False or self._stale(slot)):
                    self._outdate(slot, item, value)
                self._claim(slot, value, item, "tool")
            if changed:
                self._changed = item
        self._unread.clear()

    def _stale(self, slot: tuple[str, str]) -> bool:
        """Say whether the world was changed since a slot was read last."""
        return all(claim.item < self._changed for claim in self._slots[slot])

    # What is used.

    def _use(self, item: int, parameter: str, value: str) -> Use | None:
        if len(value) > VALUE_CHARS_MAX:
            return None
        entry = self.entries.get(value.casefold())
        if entry is None or entry.item >= item:
            stated = self._stated(value, item)
            if stated is None:
                prose = len(value.split(None, PROSE_WORDS_MIN)) >= PROSE_WORDS_MIN
                return None if prose else Use(value, parameter, "nobody", None)
            spelling, origin, first = stated
            entry = self._enter(spelling, parameter or "id", origin, first)
            if entry is None:
                return None
        entry.uses += 1
        entry.last = max(entry.last, item)
        if not entry.attribute:
            entry.attribute = _encodable(parameter)
        if entry.uses == 1 and entry.origin == "tool":
            self._place(entry, entry.item)
        return Use(value, parameter, "user" if entry.origin == "user" else "tool", entry)

    def _uses_within(self, item: int, value: str) -> list[Use]:
        """Return the identifiers in an argument that is prose, as far as somebody stated them."""
        uses = []
        for part, _ in extract(value):
            if any(character.isdigit() for character in part) and self._origin(part, item):
                use = self._use(item, "", part)
                uses += [use] if use is not None else []
        return uses

    def _stated(self, value: str, before: int) -> tuple[str, Origin, int] | None:
        """Return how a value was written when it was stated first, by whom and where."""
        told = self._origin(value, before)
        if told is not None:
            return value, *told
        for spelling in spellings(value):
            told = self._origin(spelling, before)
            if told is not None:
                return spelling, *told
        return None

    def _origin(self, value: str, before: int) -> tuple[Origin, int] | None:
        """Return who stated a value before an item, users first, and where the first time."""
        told: tuple[Origin, int] | None = None
        roles = self._roles
        for holder in reversed(self._words.holders(value)):
            if holder >= before:
                break
            role = roles.get(holder)
            if role == _USER:
                return "user", holder
            if role == _TOOL and told is None:
                told = "tool", holder
        return told

    def _place(self, entry: Entry, item: int) -> None:
        """Note of which record's attribute a tool's value is."""
        found = where(self._words.text(item), entry.value)
        if found is not None:
            entry.entity = _encodable(found.entity)
            entry.attribute = _encodable(found.attribute) or entry.attribute

    # What is shown.

    def ranked(self) -> list[Entry]:
        """Return the entries, most important first."""
        return sorted(self.entries.values(), key=_rank)

    def render(
        self,
        tokens_max: int,
        count: Callable[[str], int],
        absent: Callable[[str], bool],
        offers_max: int = OFFERS_MAX,
    ) -> str:
        """Return the values that a prompt lacks, most important first, in so many tokens.

        Args:
            tokens_max: What the text may take.
            count: Tokens of a text.
            absent: Whether a value stands nowhere else in the prompt.
            offers_max: So many ids, codes and dates that tools returned and nobody used yet may
                fill the room that is left; 0 for none.
        """
        self._read()
        wanted = (entry for entry in self.ranked() if absent(entry.value))
        # One takes three tokens or more, but for the shortest: what comes after these has no room.
        enough = max(0, tokens_max) // 3 + 1
        lines = [Line(_part(e), _label(e), e.value) for e in islice(wanted, enough)]
        lines += self._disputed(absent)
        lines += self._offered(absent, offers_max)
        listing = Listing(lines)
        low, high = 0, len(lines)
        while low < high:
            middle = (low + high + 1) // 2
            if count(listing.text(middle)) <= tokens_max:
                low = middle
            else:
                high = middle - 1
        # A longer value can stand for several short ones, so more lines may be fewer tokens.
        while low and count(listing.text(low)) > tokens_max:
            low -= 1
        return listing.text(low) if low else ""

    def _disputed(self, absent: Callable[[str], bool]) -> list[Line]:
        """Return what records contradict each other about, the newest first."""
        lines = []
        for conflict in self.conflicts()[: -DISPUTED_MAX - 1 : -1]:
            known = [self.entries.get(value.casefold()) for value in conflict.values]
            marked = any(entry is not None and entry.conflict for entry in known)
            if not marked and any(map(absent, conflict.values)):
                label = f"{conflict.attribute} of {conflict.entity}"
                lines += [Line(0, label, value) for value in conflict.values]
        return lines

    def _offered(self, absent: Callable[[str], bool], offers_max: int) -> list[Line]:
        """Return what tools offered and nobody used yet, from the newest result back."""
        found: dict[str, Line] = {}
        read: dict[int, list[tuple[str, Line]]] = {}
        results = (item for item, role in reversed(self._roles.items()) if role == _TOOL)
        for item in islice(results, OFFERING_MAX):
            if (offered := self._offers.get(item)) is None:
                named = offers(self._words.text(item))
                offered = [(value.casefold(), Line(4, name, value)) for name, value in named]
            read[item] = offered
            for key, line in offered:
                if key not in found and key not in self.entries and absent(line.value):
                    found[key] = line
            if len(found) >= offers_max:
                break
        self._offers = read
        return list(found.values())[:offers_max]

    def dump(self) -> bytes:
        """Return all of it as bytes: the same bytes for the same content."""
        self._read()
        slots = [(entity, name, claims) for (entity, name), claims in self._slots.items()]
        kept = _Kept(
            list(self.entries.values()),
            slots,
            list(self._roles.items()),
            self._recent,
            self._person,
            self._changed,
        )
        return msgspec.msgpack.encode(kept)

    @classmethod
    def load(
        cls, data: bytes, extractors: Sequence[Extractor] = (), words: Words | None = None
    ) -> Ledger:
        """Return the ledger that was dumped; `words` has the texts that were added to its index."""
        kept = msgspec.msgpack.decode(data, type=_Kept)
        ledger = cls(extractors, words)
        ledger.entries = {entry.value.casefold(): entry for entry in kept.entries}
        ledger._slots = {(entity, name): claims for entity, name, claims in kept.slots}
        ledger._roles = dict(kept.roles)
        ledger._recent = list(kept.recent)
        ledger._person, ledger._changed = kept.person, kept.changed
        for slot, claims in ledger._slots.items():
            ledger._told += [(slot, claim.value) for claim in claims]
            if len(claims) > 1:
                ledger._judge(slot)
        return ledger


def _encodable(text: str) -> str:
    """Return a text that can be written as UTF-8: half of a pair of surrogates cannot."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _same_name(one: str, other: str) -> bool:
    """Say whether two names may be one person's: Ada is Ada Byron, who is not Ada Lovelace."""
    first, second = set(one.casefold().split()), set(other.casefold().split())
    return first <= second or second <= first


def _rank(entry: Entry) -> tuple[int, int]:
    if entry.origin == "user":
        importance = 2 if entry.superseded else 0 if entry.uses or entry.conflict else 1
    else:
        importance = 4 if entry.superseded else 3
    return importance, -entry.last


def _part(entry: Entry) -> int:
    if entry.superseded:
        return 3
    if entry.conflict:
        return 0
    return 1 if entry.origin == "user" else 2


def _label(entry: Entry) -> str:
    """Return what a value is, if that says more than the value itself."""
    if entry.attribute:
        return entry.attribute
    return "" if entry.kind in _TELLING else entry.kind

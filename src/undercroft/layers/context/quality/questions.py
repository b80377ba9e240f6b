"""Questions: which slots an assistant asks for, and which ones users and tools have filled.

Keeps: a confirmation is no question for a value ("is your zip 19122?"), nor is an offer ("I can
provide your order id") or a question about another one ("another e-mail address", "the name of
each passenger"); a slot is filled by a value, never by its name alone ("I lost my order number").
Leaves to `observing.py`: what to make of a slot that is asked for again.

It would rather miss a question than see one that is none: what it sees counts against the context.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from undercroft.layers.context.quality.slots import SLOTS, Slot

# What is longer is looked at in part: a question is at the end of a text, and an answer to it at
# the beginning.
TEXT_MAX = 4_000
RESULT_MAX = 100_000
SENTENCE_MAX = 600
VALUES_MAX = 8
MENTIONS_MAX = 60
# Words: of "And your zip code?", and between "what is" and what is asked for.
BRIEF_MAX = 7
BETWEEN_MAX = 3
# Characters before and after the name of a slot that say what is meant by it.
BEFORE_CHARS = 40
AFTER_CHARS = 80

_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_LISTED = re.compile(r"\s{0,20}(?:[-•]|\d{1,3}[.)])")
# Without one of these nothing is asked for.
_HINTS = ("?", "please", "need", "require", "kindly")
# What asks for a value; what stands after it is what is asked for.
_MARKS = re.compile(
    r"\b(?:(?P<give>provide|share|supply|specify|enter|submit|give (?:me|us)|tell (?:me|us)|"
    r"send (?:me|us)|let (?:me|us) know|remind (?:me|us))"
    r"|(?P<need>(?:may|can|could|might) (?:i|we) (?:please |also |just )?(?:have|get|ask for)|"
    r"(?:i|we)(?:'ll| will| would| do)?(?: first| also| still| just)? (?:need|require)"
    r"|do you (?:have|know|remember))"
    r"|(?P<what>what(?:'s| is| was| are))"
    r"|(?P<other>confirm|verify|check|correct|update|change|if|whether|once|unless))\b"
)
# "I can provide": the assistant offers to.
_OFFERS = re.compile(
    r"\b(?:(?:i|we)(?:'ll|'d|'ve| will| can| could| may| have| am)?(?: also| then| now| gladly)?"
    r"|(?:me|us) to|able to) $"
)
# What may stand before the name of a slot for it to be the person's own.
_OWN = re.compile(
    r"(?:^|[(,:;/&]\s?|\b(?:your|the|an?|and|or|either|both|also|full|complete|current|valid|own|"
    r"registered|preferred)\s)$"
)
_ELSEWHERE = re.compile(
    r"\b(?:of|to|at|in|on|from|by|with|using|about|via|under|into|changed?) (?:your |the |an? )?$"
)
_YOURS = re.compile(r"(?:and |also,? )?(?:your|the) $")
_WHOSE = re.compile(
    r"\s(?:\w{1,30}\s){0,2}(?:of|for|from)\s"
    r"(?:(?:the|your|this|that|each|every|all|both|another|any|his|her|their)\s)?"
    r"(?P<whose>\w{1,30})"
)
# Of these a person has one: the name on the account is the person's own.
_ONE = frozenset(
    {"account", "booking", "file", "identity", "me", "order", "orders", "profile", "purposes"}
    | {"records", "reservation", "security", "us", "verification", "you", "yourself"}
)
_LACKS = re.compile(
    r"\b(?:don't|dont|do not|can't|cannot|can not|forgot|forgotten|lost|without|no)\b"
)
_COMPLAINS = re.compile(
    r"\b(?:already|told you|(?:i|i've|have) (?:just )?(?:said|given|gave|provided|mentioned)|"
    r"as i said|like i said|said (?:that )?before|asked (?:me )?(?:that )?before|same as before)\b"
)
_OR = re.compile(r"\bor\b")
_VALUE = re.compile(r'\s{0,8}:\s{0,8}(?:"([^"\\]{1,120})"|(\d{1,20}))')
# A value that can be told from a word.
_TELLING = re.compile(r"[\d@_]")

# Names of slots; one will do where several are asked for with "or" between them.
Ask = tuple[str, ...]


class _Name(NamedTuple):
    """One of the names of a slot."""

    text: str
    slot: str


class _Mention(NamedTuple):
    """Where a slot is named."""

    start: int
    end: int
    slot: str


class Questions:
    """A table of slots, ready to be looked up."""

    __slots__ = ("_after", "_keys", "_names", "_shapes", "_signs", "_stems", "table")

    def __init__(self, table: Sequence[Slot] = SLOTS) -> None:
        self.table = {slot.name: slot for slot in table}
        self._shapes = {slot.name: re.compile(slot.shape) for slot in table}
        self._signs = [(slot.name, slot.sign) for slot in table if slot.sign]
        self._after = [(s.name, re.compile(f"{s.after}({s.shape})")) for s in table if s.after]
        self._keys = [(f'"{key}"', slot.name) for slot in table for key in slot.keys]
        names = [_Name(name, slot.name) for slot in table for name in slot.asked]
        # Longest first: who asks for an "email address" asks for no address.
        names.sort(key=lambda name: (-len(name.text), name.text))
        self._names = names
        self._stems = _stems([name.text for name in names])

    # ------------------------------------------------------------------ what is asked for

    def asked(self, text: str) -> list[Ask]:
        """Return what an assistant's text asks for."""
        plain = _plain(text[-TEXT_MAX:])
        if not any(hint in plain for hint in _HINTS):
            return []
        names = self._named(plain)
        if not names:
            return []
        asks: list[Ask] = []
        listing = False
        for line in plain.splitlines():
            if listing and (not line.strip() or _LISTED.match(line)):
                asks += self._in_list(line[:SENTENCE_MAX], names)
                continue
            listing = line.rstrip().endswith(":") and any(
                _asks(line, mark) for mark in _MARKS.finditer(line[:SENTENCE_MAX])
            )
            if not any(name.text in line for name in names):
                continue
            for sentence in _SENTENCES.split(line):
                asks += self._in_sentence(sentence[:SENTENCE_MAX], names)
        return asks

    def _in_sentence(self, sentence: str, names: Sequence[_Name]) -> list[Ask]:
        mentions = _mentions(sentence, names)
        if not mentions or not any(self._is_own(sentence, one) for one in mentions):
            return []
        marks = [
            mark
            for mark in _MARKS.finditer(sentence)
            if not any(one.start <= mark.start() < one.end for one in mentions)
        ]
        # "The first name and date of birth for each passenger": of the other ones, too.
        elsewhere = any(
            _is_another(sentence[one.end : one.end + AFTER_CHARS if more is None else more.start])
            for one, more in itertools.pairwise([*mentions, None])
            if one is not None
        )
        slots: dict[str, int] = {}
        for one in mentions:
            mark = next((m for m in reversed(marks) if m.end() <= one.start), None)
            if elsewhere and not self.table[one.slot].many:
                continue
            if self._is_own(sentence, one) and _is_asked(sentence, mark, one, chained=bool(slots)):
                slots.setdefault(one.slot, one.start)
        if slots and _OR.search(sentence, min(slots.values())):
            return [tuple(slots)]
        return [(slot,) for slot in slots]

    def _in_list(self, line: str, names: Sequence[_Name]) -> list[Ask]:
        bare = _LISTED.sub("", line, count=1).lstrip()
        mentions = [
            one
            for one in _mentions(bare, names)
            if self._is_own(bare, one) and not _is_another(bare[one.end :])
        ]
        slots = tuple(dict.fromkeys(one.slot for one in mentions))
        return [slots] if slots else []

    def _is_own(self, sentence: str, one: _Mention) -> bool:
        """Say whether a slot of the person is named, and not with its value."""
        before = sentence[max(0, one.start - BEFORE_CHARS) : one.start]
        if not _OWN.search(before) or _ELSEWHERE.search(before):
            return False
        # Plain text has lost its capitals, and some shapes want them.
        after = sentence[one.end : one.end + AFTER_CHARS]
        values = (self._shapes[one.slot].search(text) for text in (after, after.upper()))
        return not any(value and _TELLING.search(value[0]) for value in values)

    def _named(self, plain: str) -> list[_Name]:
        near = [at for stem, places in self._stems.items() if stem in plain for at in places]
        if not near:
            return []
        return [self._names[at] for at in sorted(near) if self._names[at].text in plain]

    # ------------------------------------------------------------------ what was said

    def told(self, text: str, asked: Collection[str] = ()) -> dict[str, list[str]]:
        """Return which slots a user's text fills, and with what.

        Args:
            text: What the user said.
            asked: Slots that the user was asked for just before.
        """
        text = text[:TEXT_MAX]
        filled: dict[str, list[str]] = {}
        for slot, sign in self._signs:
            if sign in text and (values := self._shapes[slot].findall(text)):
                filled[slot] = values[:VALUES_MAX]
                # So that no part of it is taken for something else.
                text = self._shapes[slot].sub(" ", text)
        for slot, pattern in self._after:
            if found := pattern.search(text):
                filled[slot] = [found[1]]
        plain = _plain(text)
        names = self._named(plain)
        mentions = _mentions(plain, names) if names else []
        lacking = {one.slot for one in mentions if _is_lacking(plain, one)}
        for slot in dict.fromkeys([*asked, *(one.slot for one in mentions)]):
            if slot not in filled and slot not in lacking:
                values = [found[0] for found in self._shapes[slot].finditer(text)]
                if values:
                    filled[slot] = values[:VALUES_MAX]
        return filled

    def returned(self, text: str) -> dict[str, list[str]]:
        """Return which slots a tool's result fills: those of which it has one value only."""
        if "{" not in text:
            return {}
        lower = text[:RESULT_MAX].lower()
        filled: dict[str, list[str]] = {}
        for key, slot in self._keys:
            values: dict[str, None] = {}
            start = lower.find(key)
            while start >= 0 and len(values) <= 1:
                start += len(key)
                found = _VALUE.match(lower, start)
                if found is not None:
                    values[found[1] or found[2]] = None
                start = lower.find(key, start)
            if len(values) == 1:
                filled.setdefault(slot, []).extend(values)
        return filled


@lru_cache(8)
def questions_of(table: tuple[Slot, ...]) -> Questions:
    """Return a table ready to be looked up, one for all windows: making it takes a while."""
    return Questions(table)


def complains(text: str) -> bool:
    """Say whether a user says that it was said before."""
    return _COMPLAINS.search(_plain(text[:TEXT_MAX])) is not None


def _places(text: str, name: str) -> Iterator[int]:
    """Return where a name begins that is no part of a longer word."""
    size, at = len(name), text.find(name)
    while at >= 0:
        end = at + size
        whole = not (_inner(text[at - 1 : at]) or _inner(text[end : end + 1]))
        if whole:
            yield at
        at = text.find(name, end if whole else at + 1)


def _inner(character: str) -> bool:
    return character.isalnum() or character in {"_", "-"}


def _stems(names: Sequence[str]) -> dict[str, list[int]]:
    """Return few words of which each name has one, and the places of the names that are under it.

    Looking for these is quicker than looking for every name.
    """
    words = sorted({word for name in names for word in re.findall(r"\w{2,}", name)})
    left = dict(enumerate(names))
    stems: dict[str, list[int]] = {}
    while left:
        under = {word: [at for at, name in left.items() if word in name] for word in words}
        # A name without any word in it is its own.
        first = next(iter(left))
        stem = max(words, key=lambda word: (len(under[word]), len(word), word), default="")
        if not under.get(stem):
            stem, under = names[first], {names[first]: [first]}
        stems.setdefault(stem, []).extend(under[stem])
        for at in under[stem]:
            del left[at]
    return stems


def _plain(text: str) -> str:
    """Return a text in lower case, without marks of typesetting."""
    return text.lower().replace("\u2019", "'").replace("*", "").replace("`", "")


def _mentions(text: str, names: Sequence[_Name]) -> list[_Mention]:
    """Return where slots are named, in order; no name is taken for part of a longer one."""
    found: list[_Mention] = []
    for name in names:
        for start in _places(text, name.text):
            end = start + len(name.text)
            if not any(one.start < end and start < one.end for one in found):
                found.append(_Mention(start, end, name.slot))
            if len(found) >= MENTIONS_MAX:
                return sorted(found)
    return sorted(found)


def _is_lacking(text: str, one: _Mention) -> bool:
    """Say whether a slot is named to say that there is no value of it at hand."""
    return _LACKS.search(text, max(0, one.start - BEFORE_CHARS), one.end) is not None


def _asks(sentence: str, mark: re.Match[str]) -> bool:
    """Say whether a mark asks the person for something."""
    if mark["need"] or mark["what"]:
        return True
    if not mark["give"]:
        return False
    before = sentence[max(0, mark.start() - BEFORE_CHARS) : mark.start()]
    if _OFFERS.search(before):
        return False
    begins = not before.strip(" -,")
    return begins or any(word in sentence for word in ("?", "please", "kindly"))


def _is_asked(sentence: str, mark: re.Match[str] | None, one: _Mention, *, chained: bool) -> bool:
    """Say whether a named slot is asked for, by the last mark before it if there is one."""
    if mark is None:  # "And your zip code?"
        asking = sentence.rstrip().endswith("?") and len(sentence.split()) <= BRIEF_MAX
        return asking and (chained or _YOURS.match(sentence[: one.start]) is not None)
    if not _asks(sentence, mark):
        return False
    near = len(sentence[mark.end() : one.start].split()) <= BETWEEN_MAX
    return near or chained or not mark["what"]


def _is_another(after: str) -> bool:
    """Say by what follows it whether a slot is named of somebody or something else."""
    whose = _WHOSE.match(after)
    return whose is not None and whose["whose"] not in _ONE

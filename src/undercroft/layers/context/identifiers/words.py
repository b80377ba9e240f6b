"""Which messages hold a value: an index of words over the whole conversation.

Keeps: what was added is found for as long as the index lives; adding costs a list's append, and a
text is looked at once, when the first question after it is asked.

Matching ignores case and asks for whole words: `12` is not in `123`, nor `9.5` in `9.55`. Scripts
that are written without spaces (Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese) have no
words to look up: a value in one of them is searched for in what is not plain ASCII, and whatever
stands beside it counts as a boundary. Texts are compared as they are written: two spellings of one
letter in Unicode (composed or not) are different letters here; any blank equals any other.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice, pairwise

# Of a character class of `re`: letters of scripts that are written without spaces.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc"
    "\U00020000-\U0003ffff"
)
VALUE_CHARS_MAX = 2000
# Of one text: so many places where a value stands inside of longer words, and it is given up.
TRIES_MAX = 1000
# With fewer blanks than one in so many characters a text is data, and is taken apart.
CHUNK_CHARS_MAX = 40
FEW = 4
# So many values that were asked for are remembered.
ASKED_MAX = 1 << 14

# Round a word; what is left, if it has nothing else in it, is one. A hyphen may be part of a day.
_ROUND = "\"'.,:;!?()[]{}<>#$%*/&+=`~|@^\\"
_APART = re.compile(r"[\"{}\[\]()<>]+")
_POINT = re.compile(r"\d\.\d")
_BLANKS = re.compile(r"[^\S ]|  ")
_ALONE = re.compile(f"[{UNSPACED}]")
# A number with a point in it is one word, and so is the day in an ISO timestamp. Alternatives take
# all that they have looked at, so a text is passed through once.
_NUMBER = r"(?<=-)\d\d(?=t\d\d:)|\d++(?:\.\d++)++"
_PLAIN = re.compile(rf"{_NUMBER}|\w++", re.ASCII)
_WORD = re.compile(rf"{_NUMBER}|[^\W{UNSPACED}]++")


def words_of(folded: str) -> list[str]:
    """Return the words of a text that is case-folded already, in order."""
    return (_PLAIN if folded.isascii() else _WORD).findall(folded)


def holds(folded: str, value: str) -> bool:
    """Say whether a text holds a value whole; both are case-folded already."""
    start = -1
    for _ in range(TRIES_MAX):
        start = folded.find(value, start + 1)
        if start < 0:
            return False
        if not (_joined(folded, start) or _joined(folded, start + len(value))):
            return True
    return False


class _Asked:
    """A value that was asked for: which of the chunks that may hold it do, as they come."""

    __slots__ = ("_chunks", "_found", "_seen", "_value")

    def __init__(self, value: str, chunks: Sequence[str]) -> None:
        self._value, self._chunks, self._seen = value, chunks, 0
        self._found: list[str] = []

    def holding(self) -> Sequence[str]:
        if self._seen < len(self._chunks):
            fresh = self._chunks[self._seen :]
            self._found += [chunk for chunk in fresh if holds(chunk, self._value)]
            self._seen = len(self._chunks)
        return self._found


class Words:
    """Which items hold a value; built as items come, O(words) an item.

    Texts repeat themselves: what stands between two blanks is looked at when it is met first.
    The texts are kept too, which costs nothing where somebody keeps them anyway.
    """

    __slots__ = ("_asked", "_chunks", "_foreign", "_grows", "_items", "_read", "_texts", "_words")

    def __init__(self) -> None:
        self._items: list[int] = []
        self._texts: list[str] = []
        self._read = 0
        # Of each chunk, which is what stands between two blanks, the places of the texts with it.
        self._chunks: defaultdict[str, list[int]] = defaultdict(list)
        # Of each word, the chunks that it stands in; and the chunks that are not ASCII.
        self._words: defaultdict[str, list[str]] = defaultdict(list)
        self._foreign: list[str] = []
        # What was asked for lately, as it is asked for again and again.
        self._asked: dict[str, _Asked] = {}
        self._grows = True

    def add(self, item: int, text: str) -> None:
        """Add a text of an item; an item may have several."""
        if text:
            self._items.append(item)
            self._texts.append(text)

    def holders(self, value: str) -> list[int]:
        """Return the ids of items whose text holds `value` whole, newest first."""
        if self._read < len(self._texts):
            self._index()
        if len(value) > VALUE_CHARS_MAX:
            return []
        parts = value.casefold().split()
        if not parts:
            return []
        places = self._within(parts[0]) if len(parts) == 1 else self._across(parts)
        items = self._items
        if len(places) == 1:
            return [items[places[0]]]
        if self._grows:
            return list(dict.fromkeys([items[place] for place in reversed(places)]))
        return sorted({items[place] for place in places}, reverse=True)

    def text(self, item: int) -> str:
        """Return the texts of an item, one a line."""
        if self._read < len(self._texts):
            self._index()
        if not self._grows:
            return "\n".join(t for i, t in zip(self._items, self._texts, strict=True) if i == item)
        first, last = bisect_left(self._items, item), bisect_right(self._items, item)
        return "\n".join(self._texts[first:last])

    def _within(self, value: str) -> list[int]:
        """Return the places of texts that hold a value without blanks, in order."""
        return self._places(self._holding(value))

    def _holding(self, value: str) -> Sequence[str]:
        """Return the chunks that hold a value."""
        if value in self._words and (value.isalnum() or words_of(value) == [value]):
            return self._words[value]
        asked = self._asked.get(value)
        if asked is None:
            words, known = words_of(value), self._words
            if any(word not in known for word in words):
                return ()
            if words:
                chunks = min((known[word] for word in words), key=len)
            elif value.isascii():  # all punctuation
                return [chunk for chunk in self._chunks if holds(chunk, value)]
            else:  # all of a script without spaces
                chunks = self._foreign
            if len(self._asked) >= ASKED_MAX:
                self._asked.clear()
            asked = self._asked[value] = _Asked(value, chunks)
        return asked.holding()

    def _across(self, parts: list[str]) -> list[int]:
        """Return the places of texts that hold a value of several parts, in order."""
        found: list[list[int]] = []
        for word in dict.fromkeys(words_of(" ".join(parts))):
            if word not in self._words:
                return []
            found.append(self._places(self._words[word]))
        found.sort(key=len)
        fewest = found[0] if found else self._within(parts[0])
        for other in found[1:]:
            if len(fewest) <= FEW:
                break  # comparing the few texts that are left is cheaper
            among = set(other)
            fewest = [place for place in fewest if place in among]
        value, texts = " ".join(parts), self._texts
        return [place for place in fewest if _reads(texts[place].casefold(), value)]

    def _places(self, chunks: Iterable[str]) -> list[int]:
        lists = [self._chunks[chunk] for chunk in chunks]
        return lists[0] if len(lists) == 1 else sorted(set().union(*lists))

    def _index(self) -> None:
        """Look at what was added since the last question."""
        chunks, items = self._chunks, self._items
        known = len(chunks)
        for place in range(self._read, len(self._texts)):
            text = self._texts[place].casefold()
            parts = text.split()
            if len(text) > CHUNK_CHARS_MAX * len(parts):
                parts = _APART.sub(" ", text).split()
            for chunk in set(parts):  # in whatever order: a chunk has a list of its own
                chunks[chunk].append(place)
        words = self._words
        # From the end: what was there before is not passed through again.
        for chunk in islice(reversed(chunks), len(chunks) - known):
            if chunk.isascii():
                core = chunk.strip(_ROUND)
                if core.isalnum() or core.isidentifier():
                    words[core].append(chunk)
                    continue
                found = _PLAIN.findall(chunk)
            else:
                found = _WORD.findall(chunk)
                self._foreign.append(chunk)
            for word in found if len(found) <= 1 else dict.fromkeys(found):
                words[word].append(chunk)
        if self._grows:
            fresh = items[max(self._read - 1, 0) :]
            self._grows = all(one <= other for one, other in pairwise(fresh))
        self._read = len(self._texts)


def _reads(folded: str, value: str) -> bool:
    """Say whether a text holds a value of several parts, whatever blanks are between them."""
    if holds(folded, value):
        return True
    other = _BLANKS.search(folded) is not None
    return other and holds(" ".join(folded.split()), value)


def _joined(folded: str, at: int) -> bool:
    """Say whether the characters on both sides of a place belong to one word."""
    if not 0 < at < len(folded):
        return False
    left, right = folded[at - 1], folded[at]
    if _inner(left) and _inner(right):
        # The day of an ISO timestamp ends where its time begins.
        return not (right == "t" and left.isdigit() and folded[at + 3 : at + 4] == ":")
    # The point inside of a number joins what stands around it.
    if right == ".":
        return _POINT.match(folded, at - 1) is not None
    return left == "." and _POINT.match(folded, max(at - 2, 0)) is not None


def _inner(character: str) -> bool:
    word = character.isalnum() or character == "_"
    return word and (character < "\u0e00" or not _ALONE.match(character))

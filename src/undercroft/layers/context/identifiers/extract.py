"""What in a text is an identifier or a value that must not be lost: found by rule, without a model.

Keeps: the same text gives the same identifiers, in the order in which they stand, as they are
written; time is linear in the text, since every pattern is bounded and reads a character once.

It is generous: whatever has a digit in it, addresses of mail and web, paths, ids with a mark,
`snake_case` and `CamelCase`, codes in capitals, names, dates in several spellings, money, phone
numbers and what stands in quotes. In scripts without capitals and spaces, only what is not made of
letters alone is found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from undercroft.layers.context.identifiers.ordinary import (
    CURRENCIES,
    FUNCTION,
    JOINING,
    LABELS,
    LINKS,
    MONTHS,
    OPENING,
    UNITS,
    WEEKDAYS,
)
from undercroft.layers.context.identifiers.words import UNSPACED

VALUE_CHARS_MAX = 500
IDENTIFIERS_MAX = 10_000
# Of one text, so many parts that are no plain words are looked at: more than a window holds.
PIECES_MAX = 20_000
# So many pieces of at most so many characters are not looked at again.
KNOWN_MAX = 1 << 13
KNOWN_CHARS_MAX = 40
NAME_WORDS_MAX = 6
SHOUTED_WORDS_MIN = 8
CODE_CHARS_MIN = 3
GAP_CHARS_MAX = 2
GROUPS_MAX = 6
# Of a day, after a time.
HALVES = frozenset({"am", "pm", "a.m", "p.m"})
PHONE_DIGITS_MIN, PHONE_DIGITS_MAX = 7, 19


class Identifier(NamedTuple):
    """A value as it is written, and what kind of value it is.

    Attributes:
        kind: `email`, `url`, `path`, `phone`, `money`, `date`, `time`, `address`, `number`, `id`
            (anything else with a digit or a mark in it), `code` (capitals), `name`, `quote`.
    """

    value: str
    kind: str


Extractor = Callable[[str], Iterable[Identifier]]


class _Look(NamedTuple):
    """What a piece is, looked at alone.

    Attributes:
        skip: Characters of punctuation before it.
        text: The piece without punctuation around it; empty where there is nothing else.
        lower: The same in lower case.
        kind: As above; `word` for a word like any other, `Word` for one with a capital.
        alone: What it is without what follows; empty for nothing.
        rule: By which what follows is taken with it; `small` for what is no piece at all.
        ends: Whether it ends a sentence.
    """

    skip: int
    text: str
    lower: str
    kind: str
    alone: str
    rule: str
    ends: bool


class _Piece(NamedTuple):
    start: int
    end: int
    text: str
    lower: str
    kind: str
    alone: str
    rule: str
    begins: bool  # a sentence, or what looks like one


# What ends a piece, besides space: brackets, quotes, separators and marks that cannot be seen, a
# comma that is not within a number, and several # in a row. Letters of a script without spaces are
# in no piece.
_PLAIN_ENDS = r"\s;|=<>()\[\]{}\""
_ENDS = _PLAIN_ENDS + (
    r"“”„«»「」『』…—\u2013\uff0c。\uff1b\uff1a、\uff01\uff1f\uff08\uff09→⇒،؛؟।"
    r"\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff"
)
_URL = r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s<>\"“”«»]{1,2000}"
_WITHIN = r"(?<=\d),(?=\d\d\d(?!\d))|(?<!#)#(?!#)"


def _joining() -> str:
    """Return a pattern of the small words that may be part of a value, by their first letters."""
    rests: dict[str, list[str]] = {}
    for word in sorted(word for word in JOINING if word.isalpha()):
        rests.setdefault(word[0], []).append(word[1:])
    return "|".join(f"{first}(?:{'|'.join(rests[first])})" for first in rests)


def _piece_pattern(ends: str) -> re.Pattern[str]:
    """Return a pattern of a piece and what stands before it; the piece is empty at the end.

    Args:
        ends: What ends a piece, of a character class, besides a comma and a #.
    """
    gap = rf"(?:[{ends}]++|,(?!(?<=\d,)\d\d\d(?!\d))|#(?=#)|(?<=#)#)*+"
    # Most of a text is small words, which are skipped here, a run at once.
    small = rf"(?!(?:{_joining()})\b)[a-z]++(?:['\u2019][a-z]++)?+[.!?:]*+(?=[,{ends}]|\Z)"
    piece = rf"[^,#{ends}]++(?:{_WITHIN}|[^,#{ends}]++)*+|(?:{_WITHIN}|[^,#{ends}]++)++"
    return re.compile(rf"((?:[,{ends}]*+{small})*+){gap}({_URL}|{piece}|)")


_PLAIN_PIECE = _piece_pattern(_PLAIN_ENDS)
_PIECE = _piece_pattern(_ENDS + UNSPACED)
_QUOTE = re.compile(
    r"\"([^\"\n]{1,80})\"|“([^”\n]{1,80})”|«([^»\n]{1,80})»|「([^」\n]{1,80})」|『([^』\n]{1,80})』"
    # What must not stand before a quote is looked at after it: so is found quickly where one is.
    r"|'(?<!\w')([^'\n]{1,80})'(?!\w)|\u2018(?<!\w\u2018)([^\u2019\n]{1,80})\u2019(?!\w)"
    r"|`([^`\n]{1,80})`"
)
_BEFORE = "'\u2018\u2019`*~.:!?¿¡•·^&"
_AFTER = "'\u2018\u2019`*~.:!?-^&\\/#"
_ENDING = frozenset(".!?:\n\r。\uff01\uff1f\uff1a")

_EMAIL = re.compile(r"[^@\s]{1,128}@[^@\s]{1,190}\.[^@\s.]{2,24}")
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_DATE = re.compile(
    rf"\d{{4}}[-/.](?:0?[1-9]|1[0-2])[-/.]{_DAY}(?:[T_]\d\d:\d\d\S{{0,20}})?"
    rf"|{_DAY}[-/.]{_DAY}[-/.](?:\d{{4}}|\d\d)|{_DAY}/{_DAY}"
)
_TIME = re.compile(r"\d{1,2}:\d\d(?::\d\d)?(?:[ap]\.?m)?|\d{1,2}[ap]\.?m", re.IGNORECASE)
_MONEY = re.compile(
    r"[-+~]?(?:[A-Z]{1,3})?[$€£¥₹₽₩₪₺฿]\d[\d,.]{0,20}[kKmM]?|[-+]?\d[\d,.]{0,20}[$€£¥₹₽₩]"
)
_NUMBER = re.compile(r"[-+~±]?\d[\d,.]{0,30}%?|\d{1,4}(?:st|nd|rd|th)")
_DAY_WORD = re.compile(r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?", re.IGNORECASE)
_YEAR = re.compile(r"(?:1[89]|2[01])\d\d")
_GROUP = re.compile(r"\+?\d{1,8}|\+?\d{1,4}(?:[-.]\d{1,4}){1,3}")
_PHONE = re.compile(r"\+\d[\d.-]{6,20}|\d{3}[-.]\d{3,4}[-.]\d{4}|\d{3}-\d{4}")
_HOUSE = re.compile(r"\d{1,6}[A-Za-z]?")
_DIGIT = re.compile(r"\d")
_DAY_OF = re.compile(r"(?:\d{2,4}[年년] ?)?\d{1,2}[月월] ?\d{1,2}[日일号]").finditer
_DOTTED = re.compile(r"\w\.\w")
_CAMEL = re.compile(r"[a-z][A-Z]")


def extract(text: str) -> list[Identifier]:
    """Return the identifiers of a text, each once, in the order in which they stand."""
    scan = _Scan(text)
    found = scan.found()
    if scan.shouted():
        found = [
            one for one in found if one[1].kind != "code" or one[1].value.lower() not in OPENING
        ]
    for match in _QUOTE.finditer(text):
        inner = match.group(match.lastindex or 0).strip(" .,;:!?")
        if any(map(str.isalnum, inner)):
            found.append((match.start(), Identifier(inner, "quote")))
    if "月" in text or "월" in text:
        found += [(match.start(), Identifier(match.group(), "date")) for match in _DAY_OF(text)]
    seen: dict[str, Identifier] = {}
    for _, identifier in sorted(found, key=itemgetter(0)):
        if len(identifier.value) <= VALUE_CHARS_MAX:
            seen.setdefault(identifier.value.casefold(), identifier)
    return list(seen.values())[:IDENTIFIERS_MAX]


def _pieces(text: str) -> list[_Piece]:
    """Return the parts of a text that may matter, in order: not its plain small words."""
    pieces: list[_Piece] = []
    begins = True
    for match in (_PLAIN_PIECE if text.isascii() else _PIECE).finditer(text):
        raw = match[2]
        if not raw:
            break
        before, last = match.span(1)
        start = match.start(2)
        if last > before:
            begins = False
            last -= 1  # the small word may end a sentence
        if start > last and not begins:
            begins = not _ENDING.isdisjoint(text[last:start])
        if len(raw) <= KNOWN_CHARS_MAX:
            skip, core, lower, kind, alone, rule, ends = _known(raw)
        else:
            skip, core, lower, kind, alone, rule, ends = _look(raw)
        if rule == "small":
            begins = ends
        elif core:
            if len(pieces) >= PIECES_MAX:
                break
            start += skip
            end = start + len(core)
            pieces.append(_Piece(start, end, core, lower, kind, alone, rule, begins))
            begins = ends
        else:
            begins = begins or ends
    return pieces


def _look(raw: str) -> _Look:
    """Return what a piece is, with the punctuation around it."""
    ends = raw[-1] in _ENDING
    skip, core = _core(raw)
    if not core:
        return _Look(skip, "", "", "", "", "", ends)
    lower, kind = core.lower(), _kind(core)
    alone, rule = "" if kind in {"word", "Word"} else kind, ""
    if lower in MONTHS:
        rule = "month"
    elif lower in WEEKDAYS:
        alone = "date"
    elif kind == "Word":
        known = lower in FUNCTION and lower not in JOINING
        rule = "small" if known else "name"
    elif kind == "word" and lower not in JOINING and lower not in HALVES:
        rule = "small"
    elif kind in {"number", "phone", "id", "time"} and core[0] in "+0123456789":
        rule = "counted"
    return _Look(skip, core, lower, kind, alone, rule, ends)


_known = lru_cache(KNOWN_MAX)(_look)


def _core(raw: str) -> tuple[int, str]:
    """Return how much punctuation stands before a piece, and the piece without it."""
    core = raw.lstrip(_BEFORE)
    skip = len(raw) - len(core)
    core = core.rstrip(_AFTER)
    if core[-2:] in {"'s", "\u2019s"}:
        core = core[:-2]
    if core[:1] == core[-1:] == "_":
        skip += 1
        core = core.strip("_")
    if ":" in core:
        label, _, after = core.partition(":")
        if after and label.lower() in LABELS:
            return skip + len(label) + 1, after
    return skip, core


def _kind(core: str) -> str:
    """Return what a piece is, looked at alone."""
    if core.isalpha():
        return _lettered(core)
    if "@" in core:
        return "email" if _EMAIL.fullmatch(core) else "id"
    if "://" in core or core[:4].lower() == "www.":
        return "url"
    return _numeric(core) if _DIGIT.search(core) else _marked(core)


def _lettered(core: str) -> str:
    """Return the kind of a piece of letters alone."""
    if core.islower():
        return "word"
    if core.isupper():
        code = len(core) >= CODE_CHARS_MIN or (len(core) > 1 and core.lower() not in OPENING)
        return "code" if code else "Word"
    if _CAMEL.search(core):
        return "id"
    return "Word" if core[0].isupper() else "word"


def _numeric(core: str) -> str:
    """Return the kind of a piece with a digit in it."""
    if _NUMBER.fullmatch(core):
        return "date" if _DATE.fullmatch(core) else "number"
    for kind, pattern in (("date", _DATE), ("time", _TIME), ("money", _MONEY), ("phone", _PHONE)):
        if pattern.fullmatch(core):
            return kind
    return "path" if core.count("/") > 1 or core[:2] in {"./", "~/"} else "id"


def _marked(core: str) -> str:
    """Return the kind of a piece that has other characters in it than letters, and no digit."""
    if "/" in core or "\\" in core:
        rooted = core[0] in "/~.\\" or core[1:2] == ":" or _DOTTED.search(core)
        if rooted or core.count("/") + core.count("\\") > 1:
            return "path"
        return "code" if core.isupper() else "word"
    inner = core.strip("_-#&+.")
    if not any(map(str.isalpha, inner)):
        return "word"
    dotted = _DOTTED.search(core) and core.lower() not in FUNCTION
    if dotted or "_" in inner or "#" in core or core[:2] == "--":
        return "id"
    capitals = inner.isupper() and len(inner) >= CODE_CHARS_MIN and inner.lower() not in FUNCTION
    return "code" if capitals else "Word" if inner[0].isupper() else "word"


class _Scan:
    """Puts together the pieces of a text that are one value."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pieces = _pieces(text)

    def found(self) -> list[tuple[int, Identifier]]:
        """Return what is found, and where it begins."""
        found: list[tuple[int, Identifier]] = []
        pieces, place = self.pieces, 0
        while place < len(pieces):
            piece = pieces[place]
            taken, kind = self._with_next(place) if piece.rule else (1, piece.alone)
            if kind:
                value = piece.text
                if taken > 1:
                    value = self.text[piece.start : pieces[place + taken - 1].end]
                found.append((piece.start, Identifier(value, kind)))
            place += taken
        return found

    def shouted(self) -> bool:
        """Say whether the text is in capitals as a whole, so that they mark nothing."""
        if len([piece for piece in self.pieces if piece.kind == "code"]) < SHOUTED_WORDS_MIN:
            return False
        return sum(map(str.isupper, self.text)) > sum(map(str.islower, self.text))

    def _with_next(self, place: int) -> tuple[int, str]:
        """Return how many pieces from `place` belong together, and their kind; "" for none."""
        piece = self.pieces[place]
        if piece.rule == "counted":
            return self._counted(place)
        if piece.rule == "month":
            if taken := self._month_first(place):
                return taken, "date"
            if piece.kind not in {"Word", "code"}:
                return 1, piece.alone
        taken = self._name(place)
        return max(taken, 1), "name" if taken else ""

    def _counted(self, place: int) -> tuple[int, str]:
        """Return what begins with a number at `place`, as `_at` does."""
        if not self._near(place, " .()"):
            return 1, self.pieces[place].kind
        for kind, rule in (
            ("date", self._day_first),
            ("phone", self._phone),
            ("address", self._address),
        ):
            if taken := rule(place):
                return taken, kind
        after = self.pieces[place + 1].lower if self._near(place) else ""
        if after in CURRENCIES:
            return 2, "money"
        if after in HALVES:
            return 2, "time"
        return 1, self.pieces[place].kind

    def _text(self, place: int) -> str:
        return self.pieces[place].text if place < len(self.pieces) else ""

    def _lower(self, place: int) -> str:
        return self.pieces[place].lower if place < len(self.pieces) else ""

    def _near(self, place: int, between: str = " ") -> bool:
        """Say whether nothing but a blank or so stands between a piece and the next."""
        if place + 1 >= len(self.pieces):
            return False
        gap = self.text[self.pieces[place].end : self.pieces[place + 1].start]
        return len(gap) <= GAP_CHARS_MAX and all(character in between for character in gap)

    def _month_first(self, place: int) -> int:
        """Return how many pieces `May 20th, 2024`, `May 20` or `May 2024` takes; 0 for none."""
        if not self._near(place, " ."):
            return 0
        if _YEAR.fullmatch(self._text(place + 1)):
            return 2
        if not _DAY_WORD.fullmatch(self._text(place + 1)):
            return 0
        return 3 if self._year_after(place + 1) else 2

    def _day_first(self, place: int) -> int:
        """Return how many pieces `20 May 2024` or `20th of May` takes; 0 for none."""
        month = place + 2 if self._lower(place + 1) == "of" else place + 1
        if self._lower(month) not in MONTHS or not _DAY_WORD.fullmatch(self._text(place)):
            return 0
        if not all(self._near(one, " .") for one in range(place, month)):
            return 0
        return month - place + (2 if self._year_after(month) else 1)

    def _year_after(self, place: int) -> bool:
        year = _YEAR.fullmatch(self._text(place + 1))
        return year is not None and self._near(place, " ,")

    def _phone(self, place: int) -> int:
        """Return how many pieces a number in groups takes, a phone's or a card's; 0 for none."""
        end = place + 1
        while _GROUP.fullmatch(self._text(end)) and end < place + GROUPS_MAX:
            if not self._near(end - 1, " ()"):
                break
            end += 1
        groups = [piece.text for piece in self.pieces[place:end]]
        digits = sum(map(str.isdigit, "".join(groups)))
        # Ids in a row are no groups of one number.
        whole = len(groups) > 1 and all(map(_GROUP.fullmatch, groups))
        return len(groups) if whole and PHONE_DIGITS_MIN <= digits <= PHONE_DIGITS_MAX else 0

    def _address(self, place: int) -> int:
        """Return how many pieces `12 Elm Street` takes; 0 where no name follows the number."""
        if not _HOUSE.fullmatch(self._text(place)):
            return 0
        end = place + 1
        while self._near(end - 1) and end - place <= NAME_WORDS_MAX:
            piece = self.pieces[end]
            room = self.pieces[end - 1].lower in UNITS and piece.kind in {"number", "id"}
            named = piece.kind == "Word" and piece.lower not in FUNCTION
            if piece.begins or not (room or named):
                break
            end += 1
        return end - place if end - place > 1 else 0

    def _name(self, place: int) -> int:
        """Return how many pieces the name at `place` takes; 0 where an ordinary word stands."""
        piece = self.pieces[place]
        lower = piece.lower.replace("\u2019", "'")
        if len(lower) == 1 or lower in (OPENING if piece.begins else FUNCTION):
            return 0
        end = last = place + 1
        while self._near(end - 1) and end - place < NAME_WORDS_MAX:
            after = self.pieces[end]
            if after.begins:
                break
            if after.kind == "Word" and after.lower not in FUNCTION:
                last = end + 1
            elif after.text not in LINKS:
                break
            end += 1
        return last - place

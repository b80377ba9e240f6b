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
from typing import NamedTuple

from undercroft.layers.context.ordinary import (
    CURRENCIES,
    FUNCTION,
    LABELS,
    LINKS,
    MONTHS,
    OPENING,
    UNITS,
    WEEKDAYS,
)
from undercroft.layers.context.words import UNSPACED

VALUE_CHARS_MAX = 300
IDENTIFIERS_MAX = 20_000
NAME_WORDS_MAX = 6
SHOUTED_WORDS_MIN = 8


class Identifier(NamedTuple):
    """A value as it is written, and what kind of value it is.

    Attributes:
        kind: `email`, `url`, `path`, `phone`, `money`, `date`, `time`, `address`, `number`, `id`
            (anything else with a digit or a mark in it), `code` (capitals), `name`, `quote`.
    """

    value: str
    kind: str


Extractor = Callable[[str], Iterable[Identifier]]


class _Piece(NamedTuple):
    start: int
    end: int
    text: str
    kind: str  # as above; "word" for a word like any other, "Word" for one with a capital
    begins: bool  # a sentence, or what looks like one


# What ends a piece, besides space: brackets, quotes and separators; a comma within a number is none,
# nor is a single #. Letters of a script without spaces are in no piece.
_ENDS = r"\s,;|=<>()\[\]{}\"#“”„«»「」『』…—–，。；：、！？（）→⇒،؛؟।\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff"
_URL = r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s<>\"“”«»]{1,2000}"
_WITHIN = r"(?<=\d),(?=\d\d\d(?!\d))|(?<!#)#(?!#)"
_PLAIN_PIECE = re.compile(rf"{_URL}|(?:[^{_ENDS}]|{_WITHIN})++")
_PIECE = re.compile(rf"{_URL}|(?:[^{_ENDS}{UNSPACED}]|{_WITHIN})++")
_QUOTE = re.compile(
    r"\"([^\"\n]{1,80})\"|“([^”\n]{1,80})”|«([^»\n]{1,80})»|「([^」\n]{1,80})」|『([^』\n]{1,80})』"
    r"|(?<!\w)'([^'\n]{1,80})'(?!\w)|(?<!\w)‘([^’\n]{1,80})’(?!\w)|`([^`\n]{1,80})`"
)
_BEFORE = "'‘’`*~.:!?¿¡•·^&"
_AFTER = "'‘’`*~.:!?-^&\\/#"
_ENDING = frozenset(".!?:\n\r。！？：")

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
_PHONE_PART = re.compile(r"\+?\d{1,12}(?:[-.]\d{1,8}){0,4}")
_PHONE = re.compile(r"\+\d[\d.-]{6,20}|\d{3}[-.]\d{3,4}[-.]\d{4}|\d{3}-\d{4}")
_HOUSE = re.compile(r"\d{1,6}[A-Za-z]?")
_DIGIT = re.compile(r"\d")
_CJK_DATE = re.compile(r"(?:\d{2,4}[年년] ?)?\d{1,2}[月월] ?\d{1,2}[日일号]")
_DOTTED = re.compile(r"\w\.\w")
_CAMEL = re.compile(r"[a-z][A-Z]")


def extract(text: str) -> list[Identifier]:
    """Return the identifiers of a text, each once, in the order in which they stand."""
    pieces = _pieces(text)
    shouted = _shouted(pieces)
    spans = [(m.start(m.lastindex or 0), m.group(m.lastindex or 0)) for m in _QUOTE.finditer(text)]
    found = [
        (start, Identifier(quote.strip(" .,;:!?"), "quote"))
        for start, quote in spans
        if _worth(quote)
    ]
    found += [(m.start(), Identifier(m.group(), "date")) for m in _CJK_DATE.finditer(text)]
    place = 0
    while place < len(pieces):
        taken, identifier = _at(text, pieces, place)
        if shouted and identifier is not None and identifier.kind == "code":
            identifier = identifier if identifier.value.lower() not in OPENING else None
        if identifier is not None:
            found.append((pieces[place].start, identifier))
        place += taken
    seen: dict[str, Identifier] = {}
    for _, identifier in sorted(found, key=lambda one: one[0]):
        if len(identifier.value) <= VALUE_CHARS_MAX:
            seen.setdefault(identifier.value.casefold(), identifier)
            if len(seen) >= IDENTIFIERS_MAX:
                break
    return list(seen.values())


def _worth(quote: str) -> bool:
    return any(character.isalnum() for character in quote)


def _shouted(pieces: list[_Piece]) -> bool:
    """Say whether the text is in capitals as a whole, so that they mark nothing."""
    codes = sum(piece.kind == "code" for piece in pieces)
    return codes >= SHOUTED_WORDS_MIN and 2 * codes > len(pieces)


def _pieces(text: str) -> list[_Piece]:
    pieces: list[_Piece] = []
    last = 0
    begins = True
    for match in (_PLAIN_PIECE if text.isascii() else _PIECE).finditer(text):
        raw = match.group()
        start = match.start()
        if start > last and not begins:
            begins = "\n" in text[last:start] or not _ENDING.isdisjoint(text[last:start])
        last = match.end()
        core = raw.lstrip(_BEFORE)
        start += len(raw) - len(core)
        core = core.rstrip(_AFTER)
        if core[-2:] in {"'s", "’s"}:
            core = core[:-2]
        if core[:1] == core[-1:] == "_":
            start += 1
            core = core.strip("_")
        label, colon, after = core.partition(":")
        if colon and after and label.lower() in LABELS:
            start += len(label) + 1
            core = after
        if core:
            pieces.append(_Piece(start, start + len(core), core, _kind(core), begins))
            begins = False
        begins = begins or raw[-1] in _ENDING
    return pieces


def _kind(core: str) -> str:
    """Return what a piece is, looked at alone."""
    if core.isalpha():
        if core.islower():
            return "word"
        if core.isupper():
            code = len(core) > 2 or (len(core) == 2 and core.lower() not in OPENING)
            return "code" if code else "Word"
        if core[0].isupper():
            return "id" if _CAMEL.search(core) else "Word"
        return "id" if _CAMEL.search(core) else "word"
    if "@" in core:
        return "email" if _EMAIL.fullmatch(core) else "id"
    if "://" in core or core[:4].lower() == "www.":
        return "url"
    if _DIGIT.search(core):
        return _numeric(core)
    return _marked(core)


def _numeric(core: str) -> str:
    if _NUMBER.fullmatch(core):
        return "date" if _DATE.fullmatch(core) else "number"
    for kind, pattern in (("date", _DATE), ("time", _TIME), ("money", _MONEY), ("phone", _PHONE)):
        if pattern.fullmatch(core):
            return kind
    return "path" if core.count("/") > 1 or core[:2] in {"./", "~/"} else "id"


def _marked(core: str) -> str:
    """Return the kind of a piece that has other characters in it than letters, and no digit."""
    if "/" in core or "\\" in core:
        if core[0] in "/~.\\" or core[1:2] == ":" or core.count("/") + core.count("\\") > 1:
            return "path"
        return "path" if _DOTTED.search(core) else "code" if core.isupper() else "word"
    inner = core.strip("_-#&+.")
    if "_" in inner or "#" in core or core[:2] == "--":
        return "id" if inner else "word"
    if _DOTTED.search(core) and core.lower() not in FUNCTION:
        return "id"
    if not inner or not any(character.isalpha() for character in inner):
        return "word"
    if inner.isupper() and len(inner) > 2 and inner.lower() not in FUNCTION:
        return "code"
    return "Word" if inner[0].isupper() else "word"


def _at(text: str, pieces: list[_Piece], place: int) -> tuple[int, Identifier | None]:
    """Return how many pieces from `place` belong together, and what they are."""
    piece = pieces[place]
    lower = piece.text.lower()
    if piece.kind == "word":
        if lower in WEEKDAYS:
            return 1, Identifier(piece.text, "date")
        taken = _month_first(text, pieces, place) if lower in MONTHS else 0
        return (taken, _span(text, pieces, place, taken, "date")) if taken else (1, None)
    if piece.kind in {"number", "phone", "id", "time"} and piece.text[0] in "+0123456789":
        for kind, rule in (("date", _day_first), ("phone", _phone), ("address", _address)):
            if taken := rule(text, pieces, place):
                return taken, _span(text, pieces, place, taken, kind)
        if kind := _unit(text, pieces, place):
            return 2, _span(text, pieces, place, 2, kind)
    if piece.kind == "Word" or (piece.kind == "code" and lower in MONTHS):
        if lower in MONTHS and (taken := _month_first(text, pieces, place)):
            return taken, _span(text, pieces, place, taken, "date")
        if lower in WEEKDAYS:
            return 1, Identifier(piece.text, "date")
        return _name(text, pieces, place)
    return 1, Identifier(piece.text, piece.kind)


def _unit(text: str, pieces: list[_Piece], place: int) -> str:
    """Return what a number is with the word after it: `money`, `time`, or nothing else."""
    if place + 1 >= len(pieces) or not _near(text, pieces[place], pieces[place + 1]):
        return ""
    after = pieces[place + 1].text.lower()
    if after in CURRENCIES:
        return "money"
    return "time" if after in {"am", "pm", "a.m", "p.m"} else ""


def _span(text: str, pieces: list[_Piece], place: int, taken: int, kind: str) -> Identifier:
    return Identifier(text[pieces[place].start : pieces[place + taken - 1].end], kind)


def _near(text: str, one: _Piece, other: _Piece, between: str = " ") -> bool:
    gap = text[one.end : other.start]
    return len(gap) <= 2 and all(character in between for character in gap)


def _month_first(text: str, pieces: list[_Piece], place: int) -> int:
    """Return how many pieces a date such as `May 20th, 2024` or `May 2024` takes; 0 for none."""
    after = pieces[place + 1 : place + 3]
    if not after or not _near(text, pieces[place], after[0], " ."):
        return 0
    if _YEAR.fullmatch(after[0].text):
        return 2
    if not _DAY_WORD.fullmatch(after[0].text):
        return 0
    year = len(after) > 1 and _YEAR.fullmatch(after[1].text) and _near(text, *after, " ,")
    return 3 if year else 2


def _day_first(text: str, pieces: list[_Piece], place: int) -> int:
    """Return how many pieces a date such as `20 May 2024` or `20th of May` takes; 0 for none."""
    if not _DAY_WORD.fullmatch(pieces[place].text):
        return 0
    at = place + 1
    if at < len(pieces) and pieces[at].text.lower() == "of":
        at += 1
    if at >= len(pieces) or pieces[at].text.lower() not in MONTHS:
        return 0
    if not all(_near(text, pieces[n], pieces[n + 1], " .") for n in range(place, at)):
        return 0
    after = at + 1
    if after < len(pieces) and _YEAR.fullmatch(pieces[after].text):
        if _near(text, pieces[at], pieces[after], " ,"):
            return after - place + 1
    return at - place + 1


def _phone(text: str, pieces: list[_Piece], place: int) -> int:
    """Return how many pieces a number in groups takes, such as a phone's or a card's; 0 for none."""
    end = place
    digits = 0
    while end < len(pieces) and end < place + 6 and _PHONE_PART.fullmatch(pieces[end].text):
        if end > place and not _near(text, pieces[end - 1], pieces[end], " ()"):
            break
        digits += sum(character.isdigit() for character in pieces[end].text)
        end += 1
    whole = end - place > 1 and 7 <= digits <= 19
    # Ids in a row are no groups of one number.
    grouped = all(len(piece.text) < 9 for piece in pieces[place:end])
    return end - place if whole and grouped else 0


def _address(text: str, pieces: list[_Piece], place: int) -> int:
    """Return how many pieces `12 Elm Street` takes; 0 where no name follows the number."""
    if not _HOUSE.fullmatch(pieces[place].text):
        return 0
    end = place + 1
    while end < len(pieces) and end - place <= NAME_WORDS_MAX:
        piece = pieces[end]
        if not _near(text, pieces[end - 1], piece):
            break
        room = pieces[end - 1].text.lower() in UNITS and piece.kind in {"number", "id"}
        named = piece.kind == "Word" and piece.text.lower() not in FUNCTION
        if piece.begins or not (room or named):
            break
        end += 1
    return end - place if end - place > 1 else 0


def _name(text: str, pieces: list[_Piece], place: int) -> tuple[int, Identifier | None]:
    """Return the words with a capital that begin at `place`, without ordinary ones before."""
    piece = pieces[place]
    lower = piece.text.lower()
    if lower in (OPENING if piece.begins else FUNCTION) or lower.replace("’", "'") in FUNCTION:
        return 1, None
    if len(piece.text) == 1:
        return 1, None
    end = place + 1
    last = end
    while end < len(pieces) and end - place < NAME_WORDS_MAX:
        after = pieces[end]
        if after.begins or not _near(text, pieces[end - 1], after):
            break
        if after.kind == "Word" and after.text.lower() not in FUNCTION:
            last = end + 1
        elif after.text not in LINKS:
            break
        end += 1
    return last - place, _span(text, pieces, place, last - place, "name")

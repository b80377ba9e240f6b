"""What users say of themselves, and what they take back: phrases with a known form.

Keeps: only what has a plain form is taken for a statement, so that a contradiction found with it
is one. Time is linear in the text: every pattern is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from undercroft.layers.context.identifiers.extract import Identifier


class Statement(NamedTuple):
    """What a user says of themselves.

    Attributes:
        mended: Whether the words say that it was otherwise before.
    """

    attribute: str
    value: str
    mended: bool


_WORDS = r"[^\W\d_][\w.'\u2019-]{0,40}(?: [^\W\d_][\w.'\u2019-]{0,40}){0,3}"
_MARK = r"(?=[\w#.@+-]{0,40}[\d_@])[A-Za-z0-9#][\w#.@+-]{0,60}"
_CODE = r"(?=[\w#-]{0,20}\d)[A-Za-z0-9#][\w#-]{1,40}"
_SHAPES = {
    "name": _WORDS,
    "first name": r"[^\W\d_][\w.'\u2019-]{0,40}",
    "last name": _WORDS,
    "email": r"[^\s@,;<>()\"“…]{1,64}@[\w.-]{1,180}",
    "zip": r"(?=[A-Za-z -]{0,4}\d)[A-Za-z0-9]{2,5}(?:[ -]\d[A-Za-z0-9]{1,3})?",
    "phone": r"[+(]?\d[\d ().-]{5,24}\d",
    "address": r"\d{1,6}[A-Za-z]? [^\n;!?]{2,80}",
    "city": _WORDS,
    "birthday": r"(?=[\w ,./-]{0,20}\d)\w[\w ,./-]{4,24}",
    "user id": _MARK,
    "customer id": _CODE,
    "account number": _CODE,
    "budget": r"[$€£]?\d[\d,.]{0,15}[kK]?",
}
_SPELT = {
    "full name": "name",
    "first name": "first name",
    "last name": "last name",
    "surname": "last name",
    "name": "name",
    "email address": "email",
    "e-mail address": "email",
    "email": "email",
    "e-mail": "email",
    "zip code": "zip",
    "zipcode": "zip",
    "zip": "zip",
    "postal code": "zip",
    "postcode": "zip",
    "phone number": "phone",
    "phone": "phone",
    "telephone": "phone",
    "address": "address",
    "city": "city",
    "date of birth": "birthday",
    "birthday": "birthday",
    "dob": "birthday",
    "user id": "user id",
    "user_id": "user id",
    "userid": "user id",
    "username": "user id",
    "customer id": "customer id",
    "customer number": "customer id",
    "account number": "account number",
    "budget": "budget",
}
_NAMES = "|".join(re.escape(name) for name in sorted(_SPELT, key=lambda one: (-len(one), one)))
_FILLER = (
    r"[ \t]{0,3}(?:(?:(?:uh|um|uhm|hmm|well|it's|it\u2019s|actually|now|really|still|is)\b|[.…,:])"
    r"[ ,.…]{0,4}){0,3}"
)
_MINE = (
    rf"(?P<fresh> new| correct| actual| real| updated)? (?P<mine>{_NAMES})"
    rf" ?(?:is|was|=|:|'s|\u2019s|to)(?P<filler>{_FILLER})"
)
_BARE = rf"(?:^|[\n,;(]|\band )[ *-]{{0,4}}(?P<bare>{_NAMES}) ?[:=](?P<gap>{_FILLER})"
_STATED = re.compile(rf"\b(?:my|our){_MINE}|{_BARE}", re.IGNORECASE)
# Without a colon or so in the text: such a pattern finds its first letter quickly.
_SAID = re.compile(rf"[MmOo](?<!\w[MmOo])(?i:(?:(?<=m)y|(?<=o)ur){_MINE}(?P<bare>(?!))?)")
_VALUES = {
    name: re.compile(f"[\"'“*`]?({shape})", re.IGNORECASE) for name, shape in _SHAPES.items()
}
# A name of several words ends where the sentence goes on.
_ON = re.compile(
    r"\s(?:and|but|or|so|which|my|for|in|with|not|from|because|please|i|is|if|on|at|to|as|by)\b"
    r"|[.!?]\s",
    re.IGNORECASE,
)
_MENDED = re.compile(
    r"\b(?:actually|correction|i meant|i mean|sorry|apolog\w{1,6}|mistaken?|mistyped?|typo|misspoke"
    r"|wrong|incorrect|changed?|updated?|new|moved|no longer|not|rather|instead|scratch that"
    r"|mixed)\b",
    re.IGNORECASE,
)
# Cheap to look for; without one of these there is nothing.
_MARKS = re.compile(r"[:=]")
_STEMS = (
    *("name", "mail", "zip", "post", "phone", "address", "city", "birth", "dob", "user"),
    *("customer", "account", "budget"),
)
STATEMENTS_MAX = 1000
_NAMED = frozenset({"name", "first name", "last name", "city"})
# Whoever corrects a value writes a short message.
CORRECTION_CHARS_MAX = 2000
_SENTENCE = re.compile(r"[.!?](?=\s)|\n")
SENTENCE_CHARS_MAX = 300
# A sentence before the statement that is longer is about something else.
ASIDE_CHARS_MAX = 80


def statements(text: str) -> list[Statement]:
    """Return what a user says of themselves, in the order in which it stands."""
    found: list[Statement] = []
    if not any(map(text.casefold().__contains__, _STEMS)):
        return found
    stated = _STATED if _MARKS.search(text) else _SAID
    for match in islice(stated.finditer(text), STATEMENTS_MAX):
        attribute = _SPELT[(match["mine"] or match["bare"]).lower()]
        value = _VALUES[attribute].match(text, match.end())
        if value is None:
            continue
        said = value.group(1)
        if attribute in {"name", "last name", "city", "birthday", "address"}:
            stop = _ON.search(said)
            said = said[: stop.start()] if stop else said
        said = said.strip(" .,'\u2019-")
        # Not "my name is on the order"; a name all in small letters stands alone.
        named = any(part[:1].isupper() for part in said.split())
        alone = value.end() >= len(text.rstrip(" .!"))
        if said and (named or alone or attribute not in _NAMED):
            found.append(Statement(attribute, said, _mended(text, match)))
    return found


def _mended(text: str, match: re.Match[str]) -> bool:
    if match["fresh"] or match.group().lower().rstrip().endswith(" to"):
        return True
    start = max(0, match.start() - SENTENCE_CHARS_MAX)
    before = _SENTENCE.split(text[start : match.start()])
    # "Oh, sorry! My zip is 10001": what is taken back is taken back just before.
    near = " ".join(
        part for part in before[-2:] if len(part) < ASIDE_CHARS_MAX or part is before[-1]
    )
    return _MENDED.search(near) is not None or "actually" in match.group().lower()


_DIGIT = re.compile(r"\d")
_LETTERS = re.compile(r"[^\W\d_]+")
_REST = r"(?:[^.!?\n]|\.(?=\S))"
_NOT = re.compile(
    r"\b(?:it(?:'s|\u2019s| is| was| should be)|that(?:'s|\u2019s| is)|should be|should have been"
    r"|i meant?|is|are)"
    rf" {_REST}{{1,80}}?,? (?:and )?(?P<not>not) {_REST}{{1,80}}"
    rf"|\bnot {_REST}{{1,80}}?,? but {_REST}{{1,80}}",
    re.IGNORECASE,
)
_SHORTLY = re.compile(
    r"\b(?:actually|correction|sorry|i meant|i mean|typo|mistake|wrong|misspoke|mistyped)\b"
    r"[^\n]{0,60}?\b(?:it's|it\u2019s|its|it is|that's|that\u2019s|should be|should read|meant|mean"
    r"|to|correction|is|number is)[: ]{1,2}",
    re.IGNORECASE,
)

_SORRY = (
    *("actually", "correction", "sorry", "i mean", "typo", "mistake", "wrong", "misspoke"),
    "mistyped",
)


def taken_back(text: str, found: Sequence[Identifier]) -> list[tuple[str, str]]:
    """Return (old, new) for "it is X, not Y" and "not Y but X", where both have one form."""
    pairs: list[tuple[str, str]] = []
    if not found or len(text) > CORRECTION_CHARS_MAX or " not " not in f" {text.lower()}":
        return pairs
    if not _may_pair(text, found):
        return pairs
    for match in _NOT.finditer(text):
        said = match.group()
        at = match.start("not") - match.start() if match["not"] else -1
        where = said.lower().find(" but ", 4) if at < 0 else at
        head = [one for one in found if one.value in said[:where]]
        tail = [one for one in found if one.value in said[where:]]
        old, new = (head, tail) if at < 0 else (tail, head)
        if len(old) == len(new) == 1 and shape(old[0].value) == shape(new[0].value):
            pairs.append((old[0].value, new[0].value))
    return pairs


def _may_pair(text: str, found: Sequence[Identifier]) -> bool:
    """Say whether two values have one form, or one stands there twice."""
    forms: set[str] = set()
    for value, _ in found:
        form = shape(value)
        if form in forms or text.count(value) > 1:
            return True
        forms.add(form)
    return False


@lru_cache(1 << 12)
def shape(value: str) -> str:
    """Return the form of a value: a zip has five digits, whichever they are."""
    return _LETTERS.sub("a", _DIGIT.sub("0", value))


def put_right(text: str, found: Sequence[Identifier]) -> Identifier | None:
    """Return the one value of a message that says "actually, it is ..." and nothing of what."""
    if not found or len(text) > CORRECTION_CHARS_MAX:
        return None
    if not any(map(text.casefold().__contains__, _SORRY)):
        return None
    match = _SHORTLY.search(text)
    if match is None:
        return None
    after = [one for one in found if text.find(one.value, match.start()) >= 0]
    return after[0] if len(after) == 1 else None

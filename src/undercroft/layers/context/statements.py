"""What users say of themselves, and what they take back: phrases with a known form.

Keeps: only what has a plain form is taken for a statement, so that a contradiction found with it
is one. Time is linear in the text: every pattern is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from undercroft.layers.context.extract import Identifier


class Statement(NamedTuple):
    """What a user says of themselves.

    Attributes:
        mended: Whether the words say that it was otherwise before.
    """

    attribute: str
    value: str
    mended: bool


_WORDS = r"[^\W\d_][\w.'’-]{0,40}(?: [^\W\d_][\w.'’-]{0,40}){0,3}"
_MARK = r"[A-Za-z0-9#][\w#.@+-]{0,60}"
_CODE = r"(?=[\w#-]{0,20}\d)[A-Za-z0-9#][\w#-]{1,40}"
_SHAPES = {
    "name": _WORDS,
    "first name": r"[^\W\d_][\w.'’-]{0,40}",
    "last name": _WORDS,
    "email": r"[^\s@,;<>()\"“…]{1,64}@[\w.-]{1,180}",
    "zip": r"(?=[A-Za-z -]{0,4}\d)[A-Za-z0-9]{2,5}(?:[ -]\d[A-Za-z0-9]{1,3})?",
    "phone": r"[+(]?\d[\d ().-]{5,24}\d",
    "address": r"\d{1,6}[A-Za-z]? [^\n;!?]{2,80}",
    "city": _WORDS,
    "birthday": r"[\w][\w ,./-]{4,24}",
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
_FILLER = r"[ \t]{0,3}(?:(?:(?:uh|um|uhm|hmm|well|it's|it’s|actually|now|really|still|is)\b|[.…,:])[ ,.…]{0,4}){0,3}"
_STATED = re.compile(
    rf"\b(?:my|our)(?P<fresh> new| correct| actual| real| updated)? (?P<mine>{_NAMES})"
    rf" ?(?:is|was|=|:|'s|’s|to)(?P<filler>{_FILLER})"
    rf"|(?:^|[\n,;(]|\band )[ *-]{{0,4}}(?P<bare>{_NAMES}) ?[:=](?P<gap>{_FILLER})",
    re.IGNORECASE,
)
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
_SENTENCE = re.compile(r"[.!?](?=\s)|\n")
SENTENCE_CHARS_MAX = 300


def statements(text: str) -> list[Statement]:
    """Return what a user says of themselves, in the order in which it stands."""
    found = []
    for match in _STATED.finditer(text):
        attribute = _SPELT[(match["mine"] or match["bare"]).lower()]
        value = _VALUES[attribute].match(text, match.end())
        if value is None:
            continue
        said = value.group(1)
        if attribute in {"name", "last name", "city", "birthday", "address"}:
            stop = _ON.search(said)
            said = said[: stop.start()] if stop else said
        said = said.strip(" .,'’-")
        if attribute in {"name", "city"} and not any(part[:1].isupper() for part in said.split()):
            # Not "my name is on the order"; a name all in small letters stands alone.
            if len(said.split()) > 2 or value.end() < len(text.rstrip(" .!")):
                continue
        if said:
            found.append(Statement(attribute, said, _mended(text, match)))
    return found


def _mended(text: str, match: re.Match[str]) -> bool:
    if match["fresh"] or match.group().lower().rstrip().endswith(" to"):
        return True
    start = max(0, match.start() - SENTENCE_CHARS_MAX)
    before = _SENTENCE.split(text[start : match.start()])
    # "Oh, sorry! My zip is 10001": what is taken back is taken back just before.
    near = " ".join(part for part in before[-2:] if len(part) < 80 or part is before[-1])
    return _MENDED.search(near) is not None or "actually" in match.group().lower()


_REST = r"(?:[^.!?\n]|\.(?=\S))"
_NOT = re.compile(
    r"\b(?:it(?:'s|’s| is| was| should be)|that(?:'s|’s| is)|should be|should have been|i meant?|is|are)"
    rf" {_REST}{{1,80}}?,? (?:and )?(?P<not>not) {_REST}{{1,80}}"
    rf"|\bnot {_REST}{{1,80}}?,? but {_REST}{{1,80}}",
    re.IGNORECASE,
)
_SHORTLY = re.compile(
    r"\b(?:actually|correction|sorry|i meant|i mean|typo|mistake|wrong|misspoke|mistyped)\b"
    r"[^\n]{0,60}?\b(?:it's|it’s|its|it is|that's|that’s|should be|should read|meant|mean|to"
    r"|correction|is|number is)[: ]{1,2}",
    re.IGNORECASE,
)


def taken_back(text: str, found: Sequence[Identifier]) -> list[tuple[str, str]]:
    """Return (old, new) for "it is X, not Y" and "not Y but X", where both are of one kind."""
    pairs = []
    for match in _NOT.finditer(text):
        said = match.group()
        at = match.start("not") - match.start() if match["not"] else -1
        where = said.lower().find(" but ", 4) if at < 0 else at
        head = [one for one in found if one.value in said[:where]]
        tail = [one for one in found if one.value in said[where:]]
        old, new = (head, tail) if at < 0 else (tail, head)
        if len(old) == len(new) == 1 and old[0].kind == new[0].kind and old != new:
            pairs.append((old[0].value, new[0].value))
    return pairs


def put_right(text: str, found: Sequence[Identifier]) -> Identifier | None:
    """Return the one value of a message that says "actually, it is ..." and nothing of what."""
    match = _SHORTLY.search(text)
    if match is None:
        return None
    after = [one for one in found if text.find(one.value, match.start()) >= 0]
    return after[0] if len(after) == 1 else None

"""Slots: what an assistant asks people for, and whether it has been told already.

Keeps: a confirmation is no question for a value ("is your zip 19122?"); nor is a question about
another one ("another e-mail address", "the name of each passenger").
Leaves to `observing.py`: what to make of a slot that is asked for again.

Words are those of English; a table of one's own covers other languages and trades.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from undercroft.errors import SettingError

# What is longer is looked at in part only: questions and answers to them are short.
TEXT_MAX = 8_000
RESULT_MAX = 100_000
SENTENCE_MAX = 600
VALUES_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One thing that people are asked for.

    Attributes:
        name: Of the slot.
        asked: How it is called in a question, in lower case; words parted by one blank.
        keys: Under which keys a tool's JSON has it, in lower case.
        shape: Pattern of a value of it.
        told: Whether a value is told by its shape alone, whatever stands around it.
        after: Pattern of what comes before a value of it, where people do not name the slot.
        many: Whether one person may have several: then it is asked for with reason as long as
            a value of it is still to be seen.
    """

    name: str
    asked: tuple[str, ...]
    keys: tuple[str, ...] = ()
    shape: str
    told: bool = False
    after: str = ""
    many: bool = False

    def __post_init__(self) -> None:
        if not self.asked or not all(isinstance(a, str) and a.strip() for a in self.asked):
            raise SettingError("asked", self.asked, "names of the slot, at least one")
        try:
            re.compile(self.shape)
        except re.error:
            raise SettingError("shape", self.shape, "a regular expression") from None


_DIGIT = r"(?=[\w-]{0,30}\d)"
_CAPITAL = r"[^\W\d_a-z\u00df-\u00ff]"

SLOTS = (
    Slot(
        name="email",
        asked=("email", "e-mail", "email address", "e-mail address"),
        keys=("email", "email_address"),
        shape=r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}",
        told=True,
    ),
    Slot(
        name="phone",
        asked=("phone", "phone number", "telephone number", "mobile number", "contact number"),
        keys=("phone", "phone_number"),
        shape=r"\+?\d[\d ().-]{6,18}\d",
    ),
    Slot(
        name="zip",
        asked=("zip", "zip code", "zipcode", "postal code", "postcode", "post code"),
        keys=("zip", "zip_code", "postal_code", "postcode"),
        shape=r"\b\d{5}(?:-\d{4})?\b|\b[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}\b",
    ),
    Slot(
        name="user id",
        asked=("user id", "userid", "user name", "username", "customer id", "account id"),
        keys=("user_id", "customer_id", "account_id"),
        shape=r"\b(?=\w{0,40}[\d_])(?=\w{0,40}[a-z])[A-Za-z]\w{3,40}\b",
    ),
    Slot(
        name="order id",
        asked=("order id", "order number"),
        shape=rf"#?\b{_DIGIT}[A-Za-z0-9][\w-]{{2,30}}\b",
        many=True,
    ),
    Slot(
        name="reservation id",
        asked=(
            "reservation id",
            "reservation number",
            "reservation code",
            "booking id",
            "booking number",
            "booking reference",
            "confirmation number",
            "confirmation code",
        ),
        shape=rf"#?\b{_DIGIT}[A-Z0-9]{{5,12}}\b|\b[A-Z]{{6}}\b",
        many=True,
    ),
    Slot(
        name="payment method",
        asked=("payment method", "payment method id", "card number"),
        shape=r"\b[a-z_]{4,20}_\d{4,10}\b|(?i:\b(?:(?:credit|gift|debit) card|paypal|visa)\b)",
        many=True,
    ),
    Slot(
        name="date of birth",
        asked=("date of birth", "birth date", "birthdate", "birthday", "dob"),
        keys=("dob", "date_of_birth", "birth_date", "birthdate"),
        shape=(
            r"\b\d{4}-\d{1,2}-\d{1,2}\b|\b\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b"
            r"|\b[A-Z][a-z]{2,8}\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}\b"
        ),
    ),
    Slot(
        name="address",
        asked=(
            "address",
            "home address",
            "street address",
            "mailing address",
            "billing address",
            "shipping address",
            "delivery address",
        ),
        keys=("address1", "street_address"),
        shape=rf"\b\d{{1,6}} {_CAPITAL}\w{{1,30}} {_CAPITAL}\w{{1,30}}\b",
    ),
    Slot(
        name="name",
        asked=("name", "full name", "first name", "last name", "surname", "first and last name"),
        keys=("first_name", "full_name", "last_name"),
        shape=rf"\b{_CAPITAL}[\w'’-]{{1,30}} {_CAPITAL}[\w'’-]{{1,30}}\b",
        after=r"\b(?:[Nn]ame is|[Nn]ame's|I['’]m|I am|[Tt]his is|[Nn]ame:) ",
    ),
)

_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_LISTED = re.compile(r"\s{0,20}(?:[-•]|\d{1,3}[.)])")
# What is looked for at all: without one of these nothing is asked for.
_HINTS = ("?", "please", "need", "require", "kindly")
# What asks for a value; what comes after it is what is asked for.
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
# Which words may stand before the name of a slot for it to be the person's own.
_BEFORE = re.compile(
    r"(?:^|[(,:;/&]\s?|\b(?:your|the|an?|and|or|either|both|also|full|complete|current|valid|own|"
    r"registered|preferred)\s)$"
)
_FOR_ANOTHER = re.compile(
    r"(?:\b(?:of|to|at|in|on|from|by|with|using|about|via|under|into)|\bchange[sd]?) "
    r"(?:your |the |an? )?$"
)
_WHOSE = re.compile(
    r"^[^,;.?!]{0,30}?\b(?:of|for|from)\s(?:the\s|your\s|this\s|that\s|each\s|every\s|all\s|both\s|"
    r"another\s|any\s|his\s|her\s|their\s)?(?P<whose>\w{1,30})"
)
# Of these a person has one: the name on the account is the person's own.
_OWN = frozenset(
    ("account", "profile", "order", "orders", "reservation", "booking", "verification", "identity")
    + ("records", "file", "me", "us", "you", "yourself", "purposes", "security")
)
_NOT = re.compile(
    r"\b(?:don't|dont|do not|can't|cannot|can not|forgot|forgotten|lost|without|no)\b"
)
_COMPLAINS = re.compile(
    r"\b(?:already|told you|(?:i|i've|have) (?:just )?(?:said|given|gave|provided|mentioned)|"
    r"as i said|like i said|said (?:that )?before|asked (?:me )?(?:that )?before|same as before)\b"
)
_JSON_VALUE = re.compile(r'\s{0,8}:\s{0,8}(?:"([^"\\]{1,120})"|(\d{1,20}))')
_TELLING = re.compile(r"[\d@_]")


class Ask(tuple[str, ...]):
    """Names of the slots of one question; of several with "or" between them one will do."""

    __slots__ = ()


class Slots:
    """A table of slots, ready to be looked up."""

    __slots__ = ("_after", "_aliases", "_keys", "_shapes", "table")

    def __init__(self, table: Sequence[Slot] = SLOTS) -> None:
        self.table = {slot.name: slot for slot in table}
        self._shapes = {slot.name: re.compile(slot.shape) for slot in table}
        self._after = {s.name: re.compile(f"{s.after}({s.shape})") for s in table if s.after}
        # Longest first: "email address" is asked for, and not an address.
        self._aliases = sorted(
            (
                (a, s.name, re.compile(rf"(?<![\w-]){re.escape(a)}(?![\w-])"))
                for s in table
                for a in s.asked
            ),
            key=lambda one: (-len(one[0]), one[0]),
        )
        self._keys = [(f'"{key}"', slot.name) for slot in table for key in slot.keys]

    # ------------------------------------------------------------------ questions

    def asked(self, text: str) -> list[Ask]:
        """Return what an assistant's text asks for."""
        text = text[-TEXT_MAX:]
        plain = _plain(text)
        if not any(hint in plain for hint in _HINTS):
            return []
        present = [one for one in self._aliases if one[0] in plain]
        if not present:
            return []
        found: list[Ask] = []
        listing = False
        for line in plain.splitlines():
            if listing and (not line.strip() or _LISTED.match(line)):
                found += self._listed(line[:SENTENCE_MAX], present)
                continue
            listing = line.rstrip().endswith(":") and any(
                _serious(line, mark) for mark in _MARKS.finditer(line[:SENTENCE_MAX])
            )
            for sentence in _SENTENCES.split(line):
                found += self._in_sentence(sentence[:SENTENCE_MAX], present)
        return found

    def _in_sentence(
        self, piece: str, present: Sequence[tuple[str, str, re.Pattern[str]]]
    ) -> list[Ask]:
        spans = _spans(piece, present)
        if not spans:
            return []
        marks = [
            mark
            for mark in _MARKS.finditer(piece)
            if not any(start <= mark.start() < end for start, end, _ in spans)
        ]
        names: list[str] = []
        first = len(piece)
        chained = 0
        for start, end, name in spans:
            mark = next((m for m in reversed(marks) if m.end() <= start), None)
            if not self._is_asked(piece, mark, start, end, name, chained):
                continue
            chained = end
            first = min(first, start)
            if name not in names:
                names.append(name)
        if not names:
            return []
        if re.search(r"\bor\b", piece[first:]):
            return [Ask(names)]
        return [Ask((name,)) for name in names]

    def _is_asked(
        self, piece: str, mark: re.Match[str] | None, start: int, end: int, name: str, chained: int
    ) -> bool:
        before, after = piece[:start], piece[end:]
        if not _BEFORE.search(before[-40:]) or _FOR_ANOTHER.search(before[-40:]):
            return False
        whose = _WHOSE.match(after[:80])
        if whose and whose["whose"] not in _OWN:
            return False
        if mark is None:  # "And your zip code?"
            short = len(piece.split()) <= 7 and piece.rstrip().endswith("?")
            if not (short and re.match(r"(?:and |also,? )?(?:your|the) $", before)):
                return False
        elif not _serious(piece, mark):
            return False
        elif mark["what"] and not chained and len(piece[mark.end() : start].split()) > 3:
            return False
        said = self._shapes[name].search(after[:80].upper())
        return not (said and _TELLING.search(said[0]))

    def _listed(self, piece: str, present: Sequence[tuple[str, str, re.Pattern[str]]]) -> list[Ask]:
        names = []
        for start, end, name in _spans(piece, present):
            whose = _WHOSE.match(piece[end : end + 80])
            before = _LISTED.sub("", piece[:start], count=1).lstrip()
            if (whose and whose["whose"] not in _OWN) or not _BEFORE.search(before[-40:]):
                continue
            if name not in names and not _TELLING.search(piece[end : end + 80]):
                names.append(name)
        return [Ask(names)] if names else []

    # ------------------------------------------------------------------ answers

    def told(self, text: str, asked: Collection[str] = ()) -> dict[str, list[str]]:
        """Return which slots a user's text fills, and with what.

        Args:
            asked: Slots that the user was asked for just before.
        """
        text = text[:TEXT_MAX]
        plain = _plain(text)
        filled: dict[str, list[str]] = {}
        present = [one for one in self._aliases if one[0] in plain]
        spans = _spans(plain, present) if present else []
        rest = text
        for name, slot in self.table.items():
            if slot.told:
                values = self._shapes[name].findall(rest)[:VALUES_MAX]
                rest = self._shapes[name].sub(" ", rest)
            else:
                values = self._near(name, rest, plain, spans, asked)
            if values:
                filled[name] = values
        return filled

    def _near(
        self,
        name: str,
        text: str,
        plain: str,
        spans: Sequence[tuple[int, int, str]],
        asked: Collection[str],
    ) -> list[str]:
        if name in self._after and (found := self._after[name].search(text)):
            return [found[1]]
        mentions = [(start, end) for start, end, whose in spans if whose == name]
        if not mentions and name not in asked:
            return []
        for start, end in mentions:
            around = plain[max(0, start - 60) : end + 10]
            if _NOT.search(around):  # "I don't have my order number"
                return []
        values = [found[0] for found in self._shapes[name].finditer(text)]
        return values[:VALUES_MAX]

    def returned(self, text: str) -> dict[str, list[str]]:
        """Return which slots a tool's result fills: those of which it holds one value only."""
        text = text[:RESULT_MAX]
        if "{" not in text:
            return {}
        lower = text.lower()
        filled: dict[str, list[str]] = {}
        for key, name in self._keys:
            start = lower.find(key)
            if start < 0:
                continue
            values: list[str] = []
            for _ in range(VALUES_MAX):
                found = _JSON_VALUE.match(text, start + len(key))
                value = (found[1] or found[2]) if found else ""
                if value and value not in values:
                    values.append(value)
                start = lower.find(key, start + len(key))
                if start < 0:
                    break
            if len(values) == 1:
                filled.setdefault(name, []).extend(values)
        return filled


def complains(text: str) -> bool:
    """Say whether a user says that it was said before."""
    return _COMPLAINS.search(_plain(text[:TEXT_MAX])) is not None


def _plain(text: str) -> str:
    """Return a text in lower case, without marks of typesetting; some are dropped."""
    return text.lower().replace("\u2019", "'").replace("*", "").replace("`", "")


def _spans(
    piece: str, present: Sequence[tuple[str, str, re.Pattern[str]]]
) -> list[tuple[int, int, str]]:
    """Return where names of slots stand, in order; none inside of a longer one."""
    spans: list[tuple[int, int, str]] = []
    for alias, name, pattern in present:
        if alias not in piece:
            continue
        for found in pattern.finditer(piece):
            start, end = found.span()
            if not any(s < end and start < e for s, e, _ in spans):
                spans.append((start, end, name))
    return sorted(spans)


def _serious(piece: str, mark: re.Match[str]) -> bool:
    """Say whether a mark asks the person for something."""
    if mark["need"] or mark["what"]:
        return True
    if not mark["give"] or _OFFERS.search(piece[max(0, mark.start() - 40) : mark.start()]):
        return False
    begins = not piece[: mark.start()].strip(" -,")
    return begins or "?" in piece or "please" in piece or "kindly" in piece

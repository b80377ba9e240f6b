"""What tools return and are given, as data: the records, whose they are, and the values in them.

Keeps: what cannot be read as data says nothing and is no error; depth and number are bounded, and
time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from undercroft.layers.context.identifiers.extract import extract

DEPTH_MAX = 16
LEAVES_MAX = 4000
RECORD_CHARS_MAX = 1_000_000
OFFERING_CHARS_MAX = 100_000
FACT_CHARS_MAX = 120
OFFER_CHARS_MAX = 60

# A float of which every digit is meant.
WHOLE_MAX = 1e15
# A value with so many digits is an id, whatever it is called.
ID_DIGITS_MIN = 4
ID_CHARS_MIN = 5

# Names of attributes whose values are given to other tools.
_NAMING = re.compile(
    r"(?i)(?:^|_)(?:id|ids|number|code|key|ref|sku|email|date|dob|name|origin|destination|path|url)$"
)


# Written here once: a union would be made anew at each look.
_CONTAINERS = (dict, list)
_ARGUMENTS = (dict, list, tuple)
_NUMBERS = (int, float)
_IDS = (str, int)
_WITHOUT_DIGITS = dict.fromkeys(map(ord, "0123456789"))


class Fact(NamedTuple):
    """One attribute of one entity; the entity is empty where a value is nobody's."""

    entity: str
    attribute: str
    value: str


def read(text: str) -> Any:
    """Return the data that a text is, as JSON or as a Python literal; None where it is neither."""
    head = text[:200].lstrip()[:1]
    if head not in {"{", "["} or len(text) > RECORD_CHARS_MAX:
        return None
    for plain in (str, _json):
        try:
            return msgspec.json.decode(plain(text))
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            continue
    return None


# A string that is never closed is taken to the end, so that the text is passed through once.
_LITERAL = re.compile(
    r"'((?:[^'\\]|\\.)*+)(?:'|\\?\Z)|\"((?:[^\"\\]|\\.)*+)(?:\"|\\?\Z)|\b(?:True|False|None|nan)\b|[()]"
    r"|,(?=\s{0,20}[\])}])",
    re.DOTALL,
)
_NAMED = {
    "True": "true",
    "False": "false",
    "None": "null",
    "nan": "null",
    "(": "[",
    ")": "]",
    ",": "",
}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\n": ""}


def _json(literal: str) -> str:
    return _LITERAL.sub(_as_json, literal)


def _as_json(match: re.Match[str]) -> str:
    whole = match.group()
    if whole in _NAMED:
        return _NAMED[whole]
    inner = match.group(1) if match.group(1) is not None else match.group(2) or ""
    return msgspec.json.encode(_ESCAPE.sub(_unescaped, inner) if "\\" in inner else inner).decode()


def _unescaped(match: re.Match[str]) -> str:
    code = match.group(1)
    return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPED.get(code, code)


def leaves(arguments: Any) -> list[tuple[str, str]]:
    """Return what a call is given as (parameter, value): texts and numbers, however deep.

    A text that is data itself, such as a list that a model wrote in quotes, is read as that.
    """
    found: list[tuple[str, str]] = []
    stack: list[tuple[str, Any, int]] = [("", arguments, 0)]
    left = LEAVES_MAX
    while stack and left:
        left -= 1
        name, value, depth = stack.pop()
        data = read(value) if isinstance(value, str) else None
        value = value if data is None else data
        if isinstance(value, _ARGUMENTS):
            if depth < DEPTH_MAX:
                stack += _parts(name, value, depth)
        elif said := _said(value):
            found.append((name, said))
    return found


def _parts(name: str, held: Any, depth: int) -> list[tuple[str, Any, int]]:
    """Return what a container holds, last first, under the name that each has there."""
    if isinstance(held, dict):
        return [(str(key), part, depth + 1) for key, part in reversed(list(held.items()))]
    return [(name, part, depth + 1) for part in reversed(held)]


def _said(value: Any) -> str:
    """Return a text or a number as it would be written; empty for anything else."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < WHOLE_MAX:
        return str(int(value))
    try:
        return str(value)
    except ValueError:  # more digits than Python converts
        return ""


_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_AMOUNT = re.compile(r"-?(\d{1,15})(?:\.(\d{1,6}))?")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)


def spellings(value: str) -> list[str]:
    """Return other ways in which people write a date or an amount."""
    if date := _DATE.fullmatch(value):
        year, month, day = date.group(1), int(date.group(2)), int(date.group(3))
        if not 1 <= month <= len(_MONTHS):
            return []
        ending = {1: "st", 2: "nd", 3: "rd"}.get(day % 10 if day not in {11, 12, 13} else 0, "th")
        days = (str(day), f"{day}{ending}")
        names = (_MONTHS[month - 1], _MONTHS[month - 1][:3])
        found = [f"{name} {written}" for name in names for written in days]
        found += [f"{written} {name}" for name in names for written in days]
        found += [f"{written} of {names[0]}" for written in days]
        found += [f"{month}/{day}", f"{month:02}/{day:02}", f"{month:02}/{day:02}/{year}"]
        found += [f"{month}/{day}/{year}", f"{day:02}.{month:02}.{year}", f"{day}.{month}.{year}"]
        return found
    if amount := _AMOUNT.fullmatch(value):
        whole, cents = int(amount.group(1)), (amount.group(2) or "").rstrip("0")
        written = (str(whole), f"{whole:,}")
        endings = [f".{cents}", f".{cents:0<2}"] if cents else ["", ".00", ".0"]
        found = [f"{one}{ending}" for one in written for ending in endings]
        return [one for one in dict.fromkeys(found) if one != value]
    return []


# What may change by itself between two reads, so that a difference contradicts nothing.
_PASSING = re.compile(
    r"(?:[a-z_]{0,40}_)?(?:at|time|timestamp|now|today|age|ttl|etag|version|revision|cursor|page"
    r"|token|nonce|count|total|elapsed|expires|updated|modified|request_id|trace_id)"
)


def record(text: str) -> list[Fact]:
    """Return what a result says of the entities that it names by an id.

    Lists say nothing: search results are offers under conditions, and repeated attributes are
    no contradictions. Nor does what changes by itself, such as times and counts.
    """
    data = read(text)
    return list(_facts(data)) if isinstance(data, dict) else []


def _facts(data: dict[str, Any]) -> Iterator[Fact]:
    stack: list[tuple[str, str, dict[str, Any], str, int]] = [("", "", data, "", 0)]
    made = 0
    while stack and made < LEAVES_MAX:
        scope, prefix, held, container, depth = stack.pop()
        own = _entity(held, container)
        if own:
            # An item of two orders is two things: what is said of it in one is not of the other.
            scope, prefix = (f"{scope}/{own}" if scope else own), ""
        for key, value in islice(held.items(), LEAVES_MAX):
            if isinstance(value, dict):
                if depth < DEPTH_MAX:
                    stack.append((scope, f"{prefix}{key}.", value, str(key), depth + 1))
            elif scope and not isinstance(value, list):
                said = _said(value)
                if said and len(said) <= FACT_CHARS_MAX and not _PASSING.fullmatch(str(key)):
                    yield Fact(scope, f"{prefix}{key}", said)
                    made += 1


def _entity(held: dict[str, Any], container: str) -> str:
    """Return the id of a record: `id`, the key that it stands under, or the first `..._id`."""
    first = ""
    for key, value in held.items():
        if isinstance(value, _IDS) and not isinstance(value, bool):
            said = _said(value)
            if not 0 < len(said) <= OFFER_CHARS_MAX:
                continue
            name = str(key).lower()
            if name == "id" or said == container:
                return said
            if not first and name.endswith(("_id", "_number", "_code", "orderid", "userid")):
                first = said
    return first


def where(text: str, value: str) -> Fact | None:
    """Return whose attribute a value is in a result; None where the result is no data."""
    wanted = value.casefold()
    stack: list[tuple[str, str, Any, int]] = [("", "", read(text), 0)]
    left = LEAVES_MAX
    while stack and left:
        left -= 1
        entity, name, held, depth = stack.pop()
        if isinstance(held, _CONTAINERS):
            if depth >= DEPTH_MAX:
                continue
            if isinstance(held, dict):
                if any(str(key).casefold() == wanted for key in held):
                    return Fact(entity, name, value)
                own = _entity(held, name)
                entity = own if own and own.casefold() != wanted else entity
            stack += [(entity, *part) for part in _parts(name, held, depth)]
        elif _said(held).casefold() == wanted:
            return Fact(entity, name, value)
    return None


def offers(text: str) -> list[tuple[str, str]]:
    """Return what a result offers as arguments of later calls, as (attribute, value).

    Ids, codes and dates; from plain text, the identifiers in it.
    """
    data = read(text) if len(text) <= OFFERING_CHARS_MAX else None
    if data is None:
        found = extract(text[:OFFER_CHARS_MAX]) if len(text) <= OFFER_CHARS_MAX else []
        return [("", value) for value, kind in found if kind in {"id", "email", "code", "date"}]
    named: dict[str, str] = {}
    keys: set[str] = set()
    stack: list[tuple[str, Any, int]] = [("", data, 0)]
    left = LEAVES_MAX
    while stack and left:
        left -= 1
        name, held, depth = stack.pop()
        if isinstance(held, _CONTAINERS):
            if depth < DEPTH_MAX:
                stack += _parts(name, held, depth)
                if isinstance(held, dict):
                    # Records of one kind have the same keys, which are looked at once.
                    for key in [key for key in map(str, held) if key not in keys]:
                        keys.add(key)
                        if _marked(key):
                            named.setdefault(key, name)
        else:
            said = _said(held)
            if said not in named and (_marked(said) or (_offered(said) and _NAMING.search(name))):
                named[said] = name
    return [(name, value) for value, name in named.items()]


def _marked(said: str) -> bool:
    """Say whether a value looks like an id, whatever it is called."""
    if (
        not ID_CHARS_MIN <= len(said) <= OFFER_CHARS_MAX
        or said.isalpha()
        or " " in said
        or ":" in said
        or "." in said[-4:]
    ):
        return False
    if said.isascii():
        digits = len(said) - len(said.translate(_WITHOUT_DIGITS))
    else:
        digits = sum(map(str.isdigit, said))
    return digits >= ID_DIGITS_MIN or (digits > 0 and ("_" in said or said.isupper()))


def _offered(said: str) -> bool:
    """Say whether a value can be an id, where it is called one."""
    return 1 < len(said) <= OFFER_CHARS_MAX and " " not in said and ":" not in said

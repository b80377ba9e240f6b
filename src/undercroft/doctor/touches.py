"""What a call touches: keys of resources, read out of the names of its tool and arguments.

Keeps: a key is `kind/value`, such as `order/#A1001`, spelled alike wherever it comes from; what
cannot be told is left out, so that no rule judges it.

What a call writes is one resource: the one after which its tool is named (`cancel_order` and
`order_id`), or the only one that its arguments name. The others (`payment_method_id`, several
`item_ids`) it only refers to, which is a peek. What it adds something to is an append; what
it creates, or a file that it writes whole, is exclusive to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from undercroft.doctor.naming import Named, read_name, singular, words_of
from undercroft.model.case import Access, Touch

VALUE_CHARS_MAX = 200
KEYS_MAX = 100

# Ends of parameters' names that say: this identifies something.
ENDINGS = frozenset(
    [
        "id",
        "ids",
        "uuid",
        "uuids",
        "guid",
        "number",
        "numbers",
        "no",
        "key",
        "keys",
        "ref",
        "refs",
        "reference",
        "references",
        "code",
        "slug",
        "sku",
        "name",
        "handle",
    ]
)
# Of these, what identifies only where the rest of the name is what the tool is named after.
_WEAK = frozenset({"number", "numbers", "no", "code", "name", "reference", "handle"})
# Parameters that identify something by themselves, and what.
WHOLE: Mapping[str, str] = {
    "path": "file",
    "file_path": "file",
    "filepath": "file",
    "filename": "file",
    "file_name": "file",
    "file": "file",
    "old_path": "file",
    "new_path": "file",
    "src": "file",
    "dst": "file",
    "url": "url",
    "uri": "url",
    "email": "email",
    "account": "account",
    "username": "user",
    "iban": "account",
}
# Said before what is identified: of which it is one among several.
_SIDES = frozenset(
    ["from", "to", "source", "target", "src", "dst", "destination", "sender", "recipient", "old"]
)
_PLACES = frozenset({"source", "destination", "src", "dst", "target"})
_FILES = frozenset({"file", "folder", "directory", "document"})
_GIVEN_TO = frozenset({"to", "target", "dst", "destination", "recipient"})


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Parameters that name the call itself, who makes it, or the world at large.
ABOUT = _set(
    "request idempotency session trace correlation conversation cursor next_page region country "
    "zip postal postal_code promo coupon discount currency language locale"
)
# Parameters that name what is only used, wherever something else is named too.
USED = _set(
    "payment_method payment card gift_card credit_card assignee author owner approver actor agent "
    "reviewer parent tenant tracking transaction phone flight thread page api run batch version "
    "template category type tool call reason"
)
# What a tool may be named after, and is never a thing by itself.
FIELDS = _set(
    "zip date time name status state stage type query text message amount quantity address limit "
    "phone price title subject body content reason priority role seat size city country language "
    "email password description note comment"
)
# Verbs whose object comes into being, under the name that the call gives it.
CREATING = _set(
    "create new register signup mkdir add insert upload clone copy duplicate open enroll put"
)
# Verbs that need nothing to have been there, of files.
OVERWRITING = frozenset({"write", "save", "put", "overwrite"})
_ORDINARY = frozenset({"me", "self", "current", "all", "any", "default", "none", "null", "*"})
_BLANK = re.compile(r"\s")


# How surely a parameter names a resource: by its name, by its name and what its value looks
# like, or only because the tool is named after it; where a surer one is there, the last is a field.
_SURE, _LIKELY, _FIELD = 3, 2, 1
_LOOKS = re.compile(r"[A-Za-z#@_./:-]*\d[\w#@./:-]*|[\w.-]{1,64}@[\w.-]{3,128}")
_DATED = re.compile(r"\d{4}-\d\d?-\d\d?.{0,40}|\d{1,2}[/.:]\d{1,2}(?:[/.:]\d{1,4})?.{0,10}")
_SMALL = 3


class _Named(NamedTuple):
    """An argument that identifies something.

    Attributes:
        several: Whether it is a list, or called like one.
        given_to: Whether it is the one that receives something.
        new: Whether it is what something is changed to.
        matches: Whether the tool is named after it.
        rank: How surely it identifies something.
    """

    kind: str
    values: tuple[str, ...]
    several: bool
    given_to: bool
    new: bool
    matches: bool
    rank: int


def spelled(key: str) -> str:
    """Return a key as all keys of a case are spelled: not percent-encoded, but for slashes."""
    return "/".join(
        unquote(part).replace("/", "%2F") if "%" in part else part for part in key.split("/")
    )


def key_of(kind: str, value: str) -> str:
    """Return the key of what `value` identifies."""
    value = value.strip()
    if kind in {"file", "url"}:
        return f"{kind}/{value.strip('/')}"
    return f"{kind}/{value.replace('/', '%2F')}"


def infer_touches(
    name: str,
    arguments: Mapping[str, Any] | None,
    access: Access,
    shared: frozenset[str] = frozenset(),
) -> tuple[Touch, ...]:
    """Return what a call touches, as far as its arguments say.

    Args:
        name: Of its tool.
        arguments: What it was given.
        access: What it does, which must be known.
        shared: Parameters that identify something in a read of the same run.
    """
    if not arguments or access in {Access.NEITHER, Access.UNKNOWN}:
        return ()
    named = read_name(name)
    found = list(_identifying(arguments, named, shared))[:KEYS_MAX]
    found = _without_fields(found)
    touches = _reads(named, found) if access is Access.READ else _writes(named, found)
    return tuple(dict.fromkeys(touches))[:KEYS_MAX]


def _without_fields(found: list[_Named]) -> list[_Named]:
    """Return what identifies something, without what is only set in it.

    `seat` of change_seat(booking_ref, seat) is set, and so is `limit` of set_limit(card, limit).
    """
    best = max((one.rank for one in found), default=0)
    sure = next(
        (place for place, one in enumerate(found) if one.rank == _SURE and _may_be_meant(one)),
        len(found),
    )
    return [
        one
        for place, one in enumerate(found)
        if one.rank == _SURE
        or (one.rank == best and best == _FIELD)
        or (one.rank == _LIKELY and place < sure)
    ]


def looks_like_id(value: str) -> bool:
    """Whether a value is spelled as identifiers are: with a digit, and not as dates are."""
    if not _LOOKS.fullmatch(value) or _DATED.fullmatch(value):
        return False
    return not value.isdecimal() or len(value) >= _SMALL


def _identifying(
    arguments: Mapping[str, Any], named: Named, shared: frozenset[str]
) -> Iterable[_Named]:
    for place, (parameter, value) in enumerate(arguments.items()):
        values = _values(value)
        words = words_of(str(parameter))
        if not values or not words:
            continue
        kind, rank = _kind(words, named, values)
        by_read = not kind and parameter in shared and all(map(looks_like_id, values))
        if by_read:
            kind, rank = singular("_".join(words)), _LIKELY
        # `label` of add_label(issue, label) is what is set; what it is set in comes first.
        if not kind or (place and rank == _FIELD):
            continue
        plural = words[-1] in ENDINGS and words[-1].endswith("s")
        yield _Named(
            kind=kind,
            values=values,
            several=isinstance(value, list | tuple) or plural,
            given_to=words[0] in _GIVEN_TO and len(words) > 1,
            new=words[0] == "new",
            matches=by_read or _matches(kind, named),
            rank=rank,
        )


def _values(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else (value,)
    texts = [
        str(item).strip()
        for item in items[:KEYS_MAX]
        if isinstance(item, str | int) and not isinstance(item, bool) and _short(item)
    ]
    # A list that was written as text names nothing by itself.
    plain = (text for text in texts if text[:1] not in {"[", "{"} and "\0" not in text)
    return tuple(text for text in plain if text and text.lower() not in _ORDINARY)


def _short(value: str | int) -> bool:
    if isinstance(value, int):
        return -(10**30) < value < 10**30  # Python spells no integer of thousands of digits
    return len(value) <= VALUE_CHARS_MAX and "\n" not in value


def _kind(words: tuple[str, ...], named: Named, values: tuple[str, ...]) -> tuple[str, int]:
    """Return what kind of thing a parameter identifies, and how surely; nothing for none."""
    whole = WHOLE.get("_".join(words), "")
    if not whole and len(words) == 1 and words[0] in _PLACES and _FILES & set(named.nouns):
        whole = "file"
    if words[-2:] == ("reply", "to"):
        plain = all(looks_like_id(value) and "@" not in value for value in values)
        return ("message", _SURE) if plain else ("", 0)
    words = words[1:] if len(words) > 1 and words[0] in _SIDES | {"new"} else words
    if whole := whole or WHOLE.get("_".join(words), ""):
        return whole, _LIKELY
    if words[-1] not in ENDINGS:
        return _bare(singular("_".join(words)), named, values)
    if len(words) == 1:
        return _alone(words[0], named, values)
    return _ended(singular("_".join(words[:-1])), words[-1], named, values)


def _bare(kind: str, named: Named, values: tuple[str, ...]) -> tuple[str, int]:
    """Return what a parameter is after which the tool is named: `ticket` of close_ticket."""
    spaced = any(_BLANK.search(value) for value in values)
    if kind not in named.nouns or kind in FIELDS or spaced:
        return "", 0
    return kind, _LIKELY if all(map(looks_like_id, values)) else _FIELD


def _alone(end: str, named: Named, values: tuple[str, ...]) -> tuple[str, int]:
    """Return what `id`, `ref` and the like identify: what the tool is named after."""
    if end == "sku":
        return "item", _SURE
    if end in _WEAK and not all(map(looks_like_id, values)):
        return "", 0
    return named.nouns[0] if named.nouns else "record", _SURE


def _ended(kind: str, end: str, named: Named, values: tuple[str, ...]) -> tuple[str, int]:
    """Return what `order_id`, `flight_number` and the like identify."""
    if end in _WEAK and not _matches(kind, named) and not all(map(looks_like_id, values)):
        return "", 0
    # A person's name, or a title, is no id.
    spaced = end in {"name", "code"} and any(_BLANK.search(value) for value in values)
    return ("", 0) if spaced else (kind, _SURE)


def _matches(kind: str, named: Named) -> bool:
    """Whether a tool is named after a kind of thing."""
    if kind in named.nouns:
        return True
    parts = tuple(kind.split("_"))
    size = len(parts)
    return size > 1 and any(
        named.nouns[at : at + size] == parts for at in range(len(named.nouns) - size + 1)
    )


def _may_be_meant(one: _Named) -> bool:
    return one.matches or one.kind not in ABOUT | USED


def _meant(found: list[_Named]) -> list[_Named]:
    """Return what a call is about, without what it only uses; that, where there is nothing else."""
    return [one for one in found if _may_be_meant(one)] or [
        one for one in found if one.kind not in ABOUT
    ]


def _reads(named: Named, found: list[_Named]) -> list[Touch]:
    """Return the touches of a read: what it is named after is read, the rest is looked by."""
    plain = _meant(found)
    mine = [one for one in plain if one.matches]
    if named.kind == "list":
        # Looked up by its own id it is a read like any other; else a search.
        mine = [one for one in mine if one.rank == _SURE and one.kind != "email"]
    elif not mine:
        mine = plain
    return [
        Touch("read" if one in mine else "peek", key_of(one.kind, value))
        for one in found
        for value in one.values
    ]


def _writes(named: Named, found: list[_Named]) -> list[Touch]:
    """Return the touches of a write: its target, and what it refers to."""
    touches = []
    targets = _targets(named, found)
    if len(targets) > 1 and not all(one.kind == targets[0].kind for one in targets):
        # A relation of two things, such as a member of a group: neither of them is changed.
        pair = "/".join(key_of(one.kind, one.values[0]) for one in targets)
        touches.append(Touch("write", pair))
        targets = []
    for one in found:
        mode = "peek"
        if one in targets:
            mode = "peek" if one.given_to and len(targets) > 1 else "write"
            if named.kind == "create":
                new = named.verb in CREATING and one.kind == named.nouns[-1]
                mode = "exclusive" if new else "append"
            elif one.kind == "file" and named.verb in OVERWRITING:
                mode = "exclusive"
        elif named.kind == "create" and one in _meant(found) and not targets and not touches:
            mode = "peek" if one.several else "append"
        touches += [Touch(mode, key_of(one.kind, value)) for value in one.values]
    return touches


def _targets(named: Named, found: list[_Named]) -> list[_Named]:
    """Return what a write changes."""
    plain = [one for one in _meant(found) if not one.new]
    mine = [one for one in plain if one.matches] or (plain if named.kind != "create" else [])
    single = [one for one in mine if not one.several] or mine
    if (
        len(single) > 1
        and len({one.kind for one in single}) > 1
        and not _named_twice(named, single)
    ):
        # Named after none of them, or after more than one: the first that is named.
        first = next((one for one in single if one.matches), None)
        return [one for one in single if first is not None and one.kind == first.kind]
    return single


def _named_twice(named: Named, found: list[_Named]) -> bool:
    return len({one.kind for one in found if one.matches}) > 1 and "to" in named.nouns

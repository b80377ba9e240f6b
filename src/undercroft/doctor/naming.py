"""What the name of a tool says: which verb it has, and after what it is named.

Keeps: the same name always says the same; where no verb is known the access is `UNKNOWN`.
The tables are in `verbs`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from undercroft.doctor.verbs import (
    ALSO_NOUNS,
    NOUNS,
    ON_STATES,
    PEOPLE,
    PHRASES,
    STATES,
    THINGS,
    VERBS,
    Verbs,
)
from undercroft.model.case import Access

NAME_CHARS_MAX = 200

_HANDING = frozenset({"transfer", "escalate", "forward"})
_ASKED = frozenset({"user", "human"})
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORDS = re.compile(r"[^\W_]+")
_SPACES = re.compile(r"__|[./:]")
_PARTICLES = frozenset({"up", "in", "out", "on", "off", "over"})
# What `deploy_status` asks for: how it went.
_WENT = frozenset({"status", "history"})
_EITHER = NOUNS | ALSO_NOUNS
# Verbs that stand after whatever they are done to: `plan_get`; not so `start_export`.
_PLAIN = frozenset(
    (
        *("get", "fetch", "read", "retrieve", "show", "describe", "lookup", "create", "add"),
        *("insert", "upsert", "update", "set", "edit", "modify", "save", "write", "rename"),
        *("delete", "remove", "cancel", "enable", "disable", "assign", "close", "approve"),
    )
)
# Nouns that are not spelled like the others of their kind.
_PLURAL_CHARS_MIN = 4
# `addresses`, `boxes`, `batches`, `statuses`; not `purchases`, `caches`, `houses`.
_ES = re.compile(r"(?:ss|x|[^a]ch|[eo]ach|sh|(?<![ao])us)es$")
_ODD = {"movies": "movie", "cookies": "cookie", "series": "series", "species": "species"}


class Named(NamedTuple):
    """What the name of a tool says.

    Attributes:
        kind: As of `Verbs`; empty where no verb is known.
        verb: The word that decided.
        nouns: Its other words, in order, in the singular.
    """

    access: Access
    kind: str
    verb: str
    nouns: tuple[str, ...]


_BY_WORD: Mapping[str, Verbs] = {word: row for row in VERBS for word in sorted(row.words)}


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name in whatever case it is written, in lower case."""
    return tuple(word.lower() for word in _WORDS.findall(_CAMEL.sub("_", name[:NAME_CHARS_MAX])))


def singular(word: str) -> str:
    """Return a noun in the singular, as far as its spelling tells."""
    if len(word) < _PLURAL_CHARS_MIN or word in _ODD:  # `gas` is one
        return _ODD.get(word, word)
    if word.endswith("ies") and len(word) > _PLURAL_CHARS_MIN:
        return f"{word[:-3]}y"
    if _ES.search(word) and len(word) > _PLURAL_CHARS_MIN:
        return word[:-2]
    ends = word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if ends else word


@lru_cache(1 << 12)
def read_name(name: str) -> Named:
    """Return what the name of a tool says; of `crm__get_account` or `crm.get_account` its end."""
    parts = [words_of(part) for part in _SPACES.split(name[:NAME_CHARS_MAX])]
    before = tuple(word for part in parts[:-1] for word in part)
    for place in range(len(parts) - 1, -1, -1):
        named = _of_words(parts[place])
        if named.kind:
            # What stands before is a server, or the kind of thing, as in `orders.cancel`.
            nouns = named.nouns or tuple(
                singular(word) for part in parts[:place] for word in part[-1:]
            )
            return named._replace(nouns=nouns)
    return Named(Access.UNKNOWN, "", "", tuple(singular(w) for w in (*before, *parts[-1])))


def _of_words(words: tuple[str, ...]) -> Named:
    if not words:
        return Named(Access.UNKNOWN, "", "", ())
    access, kind, places = _verb(words)
    used = set(places)
    others = [word for place, word in enumerate(words) if place not in used and len(word) > 1]
    nouns = tuple(singular(word) for word in others if word not in STATES or word in THINGS)
    return Named(access, kind, words[places[0]] if places else "", nouns)


def _verb(words: tuple[str, ...]) -> tuple[Access, str, tuple[int, ...]]:
    """Return what the words do, and the places of the words that say so."""
    for place in dict.fromkeys((0, len(words) - 2)) if len(words) > 1 else ():
        pair = PHRASES.get((words[place], words[place + 1]))
        if pair is not None:
            both = words[place + 1] in _PARTICLES
            return (*pair, (place, place + 1) if both else (place,))
    if words[0] in _BY_WORD and not _leads(words):
        return _first(words)
    # `user-lookup`, `order_cancel`: a verb at the end. Several that disagree say nothing.
    places = [place for place, word in enumerate(words) if word in _BY_WORD and place]
    if words[-1] in STATES and (not places or words[places[0]] in NOUNS):
        return Access.READ, "get", ()
    kinds = {_BY_WORD[words[place]].kind for place in places}
    if len(kinds) > 1:
        # `playlist_remove_track`: what can be nothing but a verb decides.
        places = [place for place in places if words[place] not in _EITHER] or places
        kinds = {_BY_WORD[words[place]].kind for place in places}
    if len(kinds) == 1 and not (words[places[-1]] in NOUNS and len(words) - 1 != places[-1]):
        row = _BY_WORD[words[places[-1]]]
        return row.access, row.kind, (places[-1],)
    return Access.UNKNOWN, "", ()


def _leads(words: tuple[str, ...]) -> bool:
    """Whether the first word is what a tool is named after, though it might be a verb.

    As `order` is in `order_cancel` and `order_cancel_item`, `plan` in `plan_get`.
    """
    sure = [
        place
        for place, word in enumerate(words)
        if word in _BY_WORD and word not in _EITHER | STATES
    ]
    if words[0] not in _EITHER or not sure or words[1] in {"or", "and"}:
        return False
    return words[0] in NOUNS or words[-1] in _PLAIN


def _first(words: tuple[str, ...]) -> tuple[Access, str, tuple[int, ...]]:
    """Return what words do of which the first is a verb."""
    first = words[0]
    row = _BY_WORD[first]
    rest = frozenset(words[1:])
    if first in NOUNS and len(words) > 1 and words[-1] in STATES:
        return Access.READ, "get", ()
    if first in ALSO_NOUNS and words[1:] == ("list",):
        return Access.READ, "list", (1,)
    if row.access is Access.WRITE and words[-1] in _WENT and first not in ON_STATES:
        return Access.READ, "get", ()
    handed = first in _HANDING and (rest & PEOPLE or words[1:2] == ("to",))
    if handed or ("input" in rest and rest & _ASKED):
        return Access.NEITHER, "speak", (0,)
    # `get_or_create_user`, `search_and_replace`: what may write, writes.
    for place, word in enumerate(words[:-1]):
        other = _BY_WORD.get(words[place + 1])
        if word in {"or", "and"} and other is not None and other.access is Access.WRITE:
            return other.access, other.kind, (0, place, place + 1)
    return row.access, row.kind, (0,)

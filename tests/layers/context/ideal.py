"""A summariser that is ideal and no model: it copies every identifier that it is shown.

Keeps: the same request gives the same answer; what it must copy is always there, and what it
may copy as far as there is room.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from undercroft.model.message import Message

_CUT = re.compile(r"\[… \d{1,12} characters cut …\]")
_WORD = re.compile(r"[#$]?[\w@.+/:-]{2,120}")
# Of what is condensed, the most that a summary should have: it would be of no use otherwise.
_SHARE_MAX = 0.6
_SPARE_TOKENS = 24
_ROLE_ORDER = ("user", "assistant")


def marked(text: str) -> list[str]:
    """Return the words of a text that have a digit or an at sign in them."""
    words = (word.strip(".-/+:") for word in _WORD.findall(text))
    return [word for word in words if "@" in word or any(map(str.isdigit, word))]


def ideal(
    messages: Sequence[Message],
    *,
    count: Callable[[str], int] | None = None,
    finds: Callable[[str], Iterable[str]] = marked,
) -> str:
    """Return a summary, as JSON, for a request that `ask` made.

    Args:
        messages: The request.
        count: Tokens of a text; without it three bytes count as one.
        finds: What finds the identifiers that may be copied besides those that must: those of
            earlier summaries first, then of users, then of all others.
    """
    count = count or (lambda text: len(text.encode()) // 3 + 1)
    data = json.loads(messages[-1].content)
    shown = [*_entries(data["earlier"]), *_messages(data["messages"])]
    folded = [(name, text.casefold()) for name, _, text in shown]
    room = min(data["tokens_max"], int(_SHARE_MAX * count(messages[-1].content))) - _SPARE_TOKENS
    copied: dict[str, str] = {}
    places: dict[str, list[str]] = {}

    def copy(value: str) -> None:
        nonlocal room
        room -= count(value) + 1
        copied[value.casefold()] = value
        places.setdefault(_holder(value, folded), []).append(value)

    for value in data["identifiers"]:
        if value.casefold() not in copied:
            copy(value)
    for _, _, text in sorted(shown, key=lambda one: _order(one[1])):
        for value in finds(text):
            if value.casefold() not in copied and room > count(value):
                copy(value)
    facts = [
        {"text": "; ".join(places[name]), "sources": [name]}
        for name, _, _ in shown
        if name in places
    ]
    if not facts:
        facts = [{"text": "nothing that has an identifier", "sources": [shown[0][0]]}]
    return json.dumps({"facts": facts}, ensure_ascii=False)


def _entries(earlier: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for summary in earlier:
        for entries in summary.values():
            for one in entries if isinstance(entries, list) else ():
                said = (one.get(key, "") for key in ("name", "text", "why"))
                yield one["id"], "earlier", " ".join(filter(None, said))


def _messages(messages: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for one in messages:
        yield (
            one["id"],
            one["role"],
            " ".join([_CUT.sub("", one["text"]), *one.get("cut_identifiers", ())]),
        )


def _order(role: str) -> int:
    known = ("earlier", *_ROLE_ORDER)
    return known.index(role) if role in known else len(known)


def _holder(value: str, folded: Sequence[tuple[str, str]]) -> str:
    sought = value.casefold()
    return next((name for name, text in folded if _stands(sought, text)), folded[0][0])


def _stands(value: str, text: str) -> bool:
    at = text.find(value)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(value) : at + len(value) + 1]
        if not before.isalnum() and not after.isalnum():
            return True
        at = text.find(value, at + 1)
    return False

"""What the other calls of a run say of a call whose own name and arguments say too little.

Keeps: only what a run shows counts: that a value is another one after a call than before, that
a read and a change were given the same thing. What is declared or told is left as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from undercroft.doctor.naming import read_name, singular, words_of
from undercroft.doctor.touches import ABOUT, ENDINGS, FIELDS, USED, key_of, looks_like_id
from undercroft.model.case import Access, Basis, CallStatus, CaseCall, Touch

VALUE_CHARS_MAX = 80
RESULT_CHARS_MAX = 20_000
_NEEDED = 2
# A server, a verb, and what it is done to.
_PREFIXED_MIN = 3
# Fields that name what they stand in, where nothing else does.
_TITLES = frozenset({"title", "name", "subject"})
_CHANGED = frozenset({"write", "append", "exclusive"})


def in_company(names: Iterable[str]) -> dict[str, str]:
    """Return by the name of each tool the part of it that says what it does.

    What several names of a run begin with is a server, or a product: `lms` of
    `lms_get_submission` and `lms_grade_submission`.
    """
    parts = {name: words_of(name) for name in names}
    begun = Counter(words[0] for words in parts.values() if len(words) >= _PREFIXED_MIN)
    return {
        name: "_".join(words[1:])
        if len(words) >= _PREFIXED_MIN and begun[words[0]] > 1 and not read_name(name).kind
        else name
        for name, words in parts.items()
    }


def by_company(calls: tuple[CaseCall, ...], names: Mapping[str, str]) -> tuple[CaseCall, ...]:
    """Return calls with what the company that they keep says of them.

    A call of unknown effect wrote, where a field that an earlier result showed has the value that
    this call was given, in its own result. A change whose resource no name gives away is of
    what a read of one thing was asked by, under the same name: `house` of read_sensors(house=4)
    and adjust_vents(house=4, percent=30).

    Args:
        calls: As their own names and arguments let infer.
        names: As of `in_company`.
    """
    kinds = {call.name: read_name(names[call.name]).kind for call in calls}
    calls = tuple(_changing(calls, kinds))
    wanted = {
        pair
        for call in calls
        if _is_change(call, kinds) and not any(touch.mode in _CHANGED for touch in call.touches)
        for pair in _first_pair(call)
    }
    shared = {
        pair
        for call in calls
        if call.access is Access.READ and call.access_basis is Basis.INFERRED
        for pair in _asked_by(call, kinds)
        if pair in wanted
    }
    return tuple(_with(call, shared, kinds) for call in calls) if shared else calls


def _changing(calls: tuple[CaseCall, ...], kinds: Mapping[str, str]) -> Iterator[CaseCall]:
    """Yield calls, of which those of unknown effect are writes that are seen to have written."""
    unclear = {call.name for call in calls if _is_unclear(call, kinds)}
    if not unclear:
        yield from calls
        return
    wrote = {call.name for call in _wrote(calls, unclear)}
    for call in calls:
        ids = _ids(call) if call.name in wrote else []
        if not ids or call.access_basis is not Basis.INFERRED:
            yield call
            continue
        kind = "_".join(word for word in words_of(ids[0][0]) if word not in ENDINGS)
        key = key_of(singular(kind or "record"), ids[0][1])
        yield replace(call, access=Access.WRITE, touches=(Touch("write", key),))


def _wrote(calls: tuple[CaseCall, ...], unclear: Collection[str]) -> Iterator[CaseCall]:
    """Yield the calls of `unclear` tools after which a field is as they were given it."""
    before: dict[tuple[str, str], dict[str, Any]] = {}
    for call in calls:
        given, fields, ids = call.arguments or {}, _fields(call), _ids(call)
        if call.name in unclear and any(
            name in known and known[name] != value and fields.get(name) == value
            for one in ids
            for known in [before.get(one, {})]
            for name, value in given.items()
        ):
            yield call
        for one in ids:
            before.setdefault(one, {}).update(fields)


def _is_unclear(call: CaseCall, kinds: Mapping[str, str]) -> bool:
    """Whether nothing but what came back could say what a call does."""
    unclear = call.access in {Access.UNKNOWN, Access.READ}
    return unclear and call.access_basis is Basis.INFERRED and not kinds[call.name]


def _ids(call: CaseCall) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, value in (call.arguments or {}).items()
        if isinstance(value, str) and looks_like_id(value)
    ]


def _fields(call: CaseCall) -> Mapping[str, Any]:
    result = call.result or ""
    if call.status is CallStatus.FAILED or len(result) > RESULT_CHARS_MAX:
        return {}
    try:
        data = json.loads(result) if result.lstrip()[:1] == "{" else None
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _is_change(call: CaseCall, kinds: Mapping[str, str]) -> bool:
    inferred = call.access is Access.WRITE and call.access_basis is Basis.INFERRED
    return inferred and kinds[call.name] == "change"


def _first_pair(call: CaseCall) -> Iterator[tuple[str, str]]:
    """Yield the first argument of a call, if it may name something that others are set in."""
    arguments = call.arguments or {}
    for name, value in list(arguments.items())[: 1 if len(arguments) >= _NEEDED else 0]:
        yield from _pair(name, value)


def _asked_by(call: CaseCall, kinds: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the only argument of a read that is no search."""
    if kinds[call.name] == "list":
        return
    for name, value in (call.arguments or {}).items() if len(call.arguments or {}) == 1 else ():
        yield from _pair(name, value)


def _pair(name: str, value: object) -> Iterator[tuple[str, str]]:
    word = singular("_".join(words_of(name)))
    if not isinstance(value, str | int) or isinstance(value, bool) or not word:
        return
    text = str(value) if isinstance(value, str) or abs(value) < 10**VALUE_CHARS_MAX else ""
    if word in (ABOUT | USED | FIELDS) - _TITLES or not 0 < len(text.strip()) <= VALUE_CHARS_MAX:
        return
    if "\n" not in text:
        yield word, text.strip()


def _with(call: CaseCall, shared: set[tuple[str, str]], kinds: Mapping[str, str]) -> CaseCall:
    if call.access_basis is not Basis.INFERRED:
        return call
    if call.access is Access.READ:
        pairs, mode = [pair for pair in _asked_by(call, kinds) if pair in shared], "read"
    elif _is_change(call, kinds) and not any(touch.mode in _CHANGED for touch in call.touches):
        pairs, mode = [pair for pair in _first_pair(call) if pair in shared], "write"
    else:
        return call
    found = tuple(Touch(mode, key_of(*pair)) for pair in pairs)
    return replace(call, touches=tuple(dict.fromkeys((*call.touches, *found)))) if found else call

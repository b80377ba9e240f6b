"""What each call of a run read and wrote: declared, else told, else inferred.

Keeps: what the record declares goes before what a user told, and that before what names,
arguments and results let infer; what is not clear stays `UNKNOWN`, with nothing touched.
`naming` (over the tables of `verbs`), `access` and `touches` judge a call alone, `company` beside
others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from undercroft.doctor.access import infer_access
from undercroft.doctor.company import by_company, in_company
from undercroft.doctor.naming import read_name, singular, words_of
from undercroft.doctor.told import Told, ToldTool
from undercroft.doctor.touches import infer_touches, looks_like_id, spelled
from undercroft.layers.conflicts.keys import KeyProblem, parse
from undercroft.model.case import Access, Basis, Case, CaseCall, ToolRules, Touch

_READS = frozenset({"peek", "read"})
_parsed = lru_cache(1 << 10)(parse)
_PLACE = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")


def infer(case: Case, told: Told | None = None) -> Case:
    """Return `case` with access and touches of every call, and what calls must keep to."""
    told = told or Told()
    shared = _identifying(case)
    names = in_company(call.name for call in case.calls)
    calls = tuple(
        _with_effect(call, names[call.name], case.declared or {}, told, shared)
        for call in case.calls
    )
    calls = _one_name(by_company(calls, names))
    rules = dict(case.rules or {})
    for name in sorted({call.name for call in calls} | (case.tools or frozenset())):
        tool = told.of(name)
        if tool is not None and name not in rules:
            rules[name] = ToolRules(
                needs=tool.needs, consent=tool.consent, idempotent=tool.idempotent
            )
    return replace(case, calls=calls, rules=rules or None, pins=case.pins or told.pins)


def _identifying(case: Case) -> frozenset[str]:
    """Return the parameters by which some read of one thing of the run finds it."""
    found: set[str] = set()
    for call in case.calls:
        named = read_name(call.name)
        several = any(
            word not in named.nouns and singular(word) in named.nouns
            for word in words_of(call.name)
        )
        if named.kind == "get" and not several and len(call.arguments or {}) == 1:
            found.update(
                name
                for name, value in (call.arguments or {}).items()
                if isinstance(value, str) and looks_like_id(value) and "@" not in value
            )
    return frozenset(found)


def _one_name(calls: tuple[CaseCall, ...]) -> tuple[CaseCall, ...]:
    """Return calls in which what was read under one name of its kind is written under the same.

    `get_booking(ref)` and `change_seat(ref, seat)` are about one thing, though their tools are
    named after two.
    """
    kinds: dict[str, str] = {}
    keys = set()
    for call in calls:
        for touch in call.touches:
            kind, _, value = touch.key.partition("/")
            if touch.mode == "read" and value and looks_like_id(value):
                keys.add(touch.key)
                # Read under two names it may be two things.
                kinds[value] = kind if kinds.get(value, kind) == kind else ""

    def renamed(call: CaseCall, touch: Touch) -> Touch:
        value = touch.key.partition("/")[2]
        if call.access_basis is not Basis.INFERRED or touch.key in keys or not kinds.get(value):
            return touch
        return Touch(touch.mode, f"{kinds[value]}/{value}")

    return tuple(
        replace(call, touches=tuple(dict.fromkeys(renamed(call, t) for t in call.touches)))
        if any(kinds.get(touch.key.partition("/")[2]) for touch in call.touches)
        else call
        for call in calls
    )


def _with_effect(
    call: CaseCall,
    name: str,
    declared: Mapping[str, tuple[Touch, ...]],
    told: Told,
    shared: frozenset[str],
) -> CaseCall:
    call = replace(call, verb=read_name(name).verb)
    if call.access is not Access.UNKNOWN and call.access_basis is not Basis.INFERRED:
        touches = _renamed(call.touches, told)
        return replace(call, touches=touches)
    if call.touches:
        touches = _renamed(call.touches, told)
        return replace(call, access=_access(touches), access_basis=Basis.DECLARED, touches=touches)
    if call.name in declared:
        touches = _renamed(_rendered(declared[call.name], call.arguments or {}), told)
        return replace(
            call,
            access=_access(declared[call.name]),
            access_basis=Basis.DECLARED,
            touches=touches,
        )
    tool = told.of(call.name)
    if tool is not None and (tool.claims or tool.neither):
        return _as_told(call, tool, told)
    access = infer_access(name, call.arguments, call.result)
    touches = _renamed(infer_touches(name, call.arguments, access, shared), told)
    return replace(call, access=access, access_basis=Basis.INFERRED, touches=touches)


def _as_told(call: CaseCall, tool: ToldTool, told: Told) -> CaseCall:
    claims = tuple(Touch(mode, template.text if template else "") for mode, template in tool.claims)
    touches = _rendered([claim for claim in claims if claim.key], call.arguments or {})
    return replace(
        call,
        access=_access(claims),
        access_basis=Basis.TOLD,
        touches=_renamed(touches, told),
    )


def _access(touches: Iterable[Touch]) -> Access:
    modes = {touch.mode for touch in touches}
    if not modes:
        return Access.NEITHER
    return Access.READ if modes <= _READS else Access.WRITE


def _rendered(claims: Iterable[Touch], arguments: Mapping[str, Any]) -> tuple[Touch, ...]:
    """Return what claims are of one call; a key as far as its arguments go."""
    touches = []
    for claim in claims:
        if not _PLACE.search(claim.key):
            touches.append(claim)
            continue
        try:
            keys = _parsed(claim.key).keys(arguments)
        except KeyProblem:
            continue
        touches += [Touch(claim.mode, key) for key in keys if key]
    return tuple(touches)


def _renamed(touches: Iterable[Touch], told: Told) -> tuple[Touch, ...]:
    """Return touches with their keys spelled alike, by the names that the user chose."""
    renamed = []
    for touch in touches:
        kind, slash, rest = spelled(touch.key).partition("/")
        renamed.append(Touch(touch.mode, f"{told.resources.get(kind, kind)}{slash}{rest}"))
    return tuple(dict.fromkeys(renamed))

"""Ids that a finished run used before anybody could know them.

Keeps: a value is unknown only where all that was shown before stands in the record; what its
caller may have made up, such as the name of a file or of a request, counts only where another call
under way returned it. A placeholder that names the call whose result it stands for was early.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from undercroft.layers.sequencing.shown import (
    CALLERS,
    RESULT_CHARS_MAX,
    Given,
    Shown,
    given_ids,
)
from undercroft.model.case import CallStatus, CaseCall
from undercroft.model.symptom import Symptom, quoted

# Kinds that people spell as they like, and kinds whose names are often put together.
_SAID = frozenset({"email", "zip", "phone", "filter", "query", "date"})
_MADE_UP = frozenset({"file", "url"})
ID_DIGITS_MIN = 2
# What looks like the number of something, whatever the parameter is called.
_NUMBERED = re.compile(r"#?[A-Za-z]{1,12}[-_]?\d[\w-]{2,40}")
_PLACEHOLDER = re.compile(r"\W{0,3}[<{\[$][^<>{}\n]{2,80}[>}\]]\W{0,3}")
_WORDS = re.compile(r"[^\W_]+")


def early_and_unknown(shown: Shown, used_early: str, unknown: str) -> Iterator[Symptom]:
    """Yield calls with ids that nothing had shown before they began.

    Args:
        shown: The run.
        used_early: Rule to tell by what another call was still to return.
        unknown: Rule to tell by what nobody had mentioned.
    """
    told: set[str] = set()
    given_to = {id(call): _given(call) for call in shown.calls}
    makers = _makers(shown, given_to)
    created = _Created()
    for call in shown.calls:
        created.note(call)
        if call.arguments is None or call.status is CallStatus.REFUSED:
            continue
        yield from _placeholders(shown, call, used_early)
        for given in given_to[id(call)]:
            if given.value in told or created.by_caller(given.value):
                continue
            if shown.before(given.value, call):
                continue
            told.add(given.value)
            maker = makers.get(given.value.casefold())
            early = maker is not None and _in_flight(shown, maker, call)
            if (given.loose or given.name in _MADE_UP) and not early:
                continue
            if not shown.all_shown(call):
                continue
            if maker is not None and maker is not call:
                yield _early(call, given, maker, used_early)
            else:
                yield Symptom(
                    rule=unknown,
                    steps=(call.step,),
                    evidence=quoted(
                        f"{spelled(call)}: {given.name}={given.value} was in no message or result "
                        "before"
                    ),
                )


def _placeholders(shown: Shown, call: CaseCall, rule: str) -> Iterator[Symptom]:
    """Yield arguments that stand for what another call was still to return."""
    for name, value in (call.arguments or {}).items():
        if not isinstance(value, str) or not _PLACEHOLDER.fullmatch(value[:200]):
            continue
        beside = {o.name for o in shown.calls if o is not call and _in_flight(shown, o, call)}
        named = [one for one in sorted(beside) if one in value]
        if named:
            evidence = quoted(f"{spelled(call)}: {name} stands for what {named[0]} had to return")
            yield Symptom(rule=rule, steps=(call.step,), evidence=evidence)


def _given(call: CaseCall) -> list[Given]:
    """Return what a call names by id, be it by the name of the parameter or as what it touches."""
    found = {given.value: given for given in given_ids(call.arguments or {})}
    for touch in call.touches:
        kind, _, value = touch.key.partition("/")
        value = value.replace("%2F", "/")
        long = len(re.findall(r"\d", value)) >= ID_DIGITS_MIN
        # Only named beside what the call is about, it may be a name that its caller made up.
        callers = touch.mode == "peek" and not CALLERS.isdisjoint(kind.split("_"))
        if touch.mode != "exclusive" and kind not in _SAID and long and "/" not in kind:
            found.setdefault(value, Given(kind, value, loose=callers))
    for name, value in (call.arguments or {}).items():
        if isinstance(value, str) and _NUMBERED.fullmatch(value):
            found.setdefault(value, Given(str(name)[:60], value, loose=True))
    return list(found.values())


def _in_flight(shown: Shown, maker: CaseCall, call: CaseCall) -> bool:
    """Whether a call began while the one that returns what it uses had not ended."""
    ended = shown.ended(maker)
    began = shown.began(call)
    return ended is not None and shown.began(maker) <= began < ended


def _early(call: CaseCall, given: Given, maker: CaseCall, rule: str) -> Symptom:
    where = "the same batch" if maker.batch == call.batch >= 0 else "another step"
    return Symptom(
        rule=rule,
        steps=(call.step,),
        evidence=quoted(
            f"{spelled(call)}: {given.name}={given.value} is what {maker.name} of {where} "
            "returned only afterwards"
        ),
    )


class _Created:
    """Ids that calls gave to what they created."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def note(self, call: CaseCall) -> None:
        for touch in call.touches:
            if touch.mode == "exclusive":
                self._values.add(touch.key.partition("/")[2].replace("%2F", "/"))

    def by_caller(self, value: str) -> bool:
        return value in self._values


def _makers(shown: Shown, given_to: Mapping[int, list[Given]]) -> dict[str, CaseCall]:
    """Return, for ids that calls used before they were shown, the call that returned them."""
    wanted = {
        given.value.casefold(): call
        for call in shown.calls
        if call.arguments is not None
        for given in given_to[id(call)]
        if not shown.before(given.value, call)
    }
    by_word: dict[str, list[str]] = {}
    for value in wanted:
        # An id is found by its longest part.
        by_word.setdefault(max(_WORDS.findall(value), key=len, default=value), []).append(value)
    makers: dict[str, CaseCall] = {}
    for call in shown.calls if wanted else ():
        if not call.result or call.status is CallStatus.FAILED:
            continue
        folded = call.result[:RESULT_CHARS_MAX].casefold()
        found = by_word.keys() & set(_WORDS.findall(folded))
        own = {given.value.casefold() for given in given_to[id(call)]} if found else set()
        for value in [value for word in sorted(found) for value in by_word[word]]:
            if value not in makers and value not in own and value in folded:
                makers[value] = call
    return makers


def spelled(call: CaseCall) -> str:
    """Return a call as it would be written, as evidence."""
    arguments = ", ".join(
        f"{name}={value!r}"[:60] for name, value in (call.arguments or {}).items()
    )
    return f"{call.name}({arguments[:140]})"

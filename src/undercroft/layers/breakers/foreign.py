"""Foreign guards: how breakers, limits and loop guards of other systems show in a run.

Keeps: a guard counts as seen only where the record itself speaks of it: as a refusal, as an act,
or in the words that the libraries of others use. Who speaks of circuit breakers is no guard.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from undercroft.model.case import CallStatus, Case, CaseCall
from undercroft.model.symptom import Sign, Symptom, quoted

_HEAD_CHARS = 400
_TAIL_CHARS = 400
# Longer waits than a day are dates, or nonsense.
_WAIT_MAX_S = 86_400.0

_OPEN = re.compile(
    r"circuit ?breaker(?:error| (?:is|was|has) (?:now )?(?:open|tripped)| open)"
    r"|\bcircuit (?:is |was )?open\b|breaker (?:is |was )?open\b|\bbulkhead (?:is )?full"
    r"|retry budget (?:is )?(?:exhausted|exceeded)|brokencircuitexception|callnotpermitted",
    re.IGNORECASE,
)
_LOOP = re.compile(
    r"\bloop detected|repeated (?:tool )?calls? (?:was |were )?(?:detected|blocked|refused)"
    r"|duplicate (?:tool )?call (?:was )?(?:detected|blocked|refused|skipped)",
    re.IGNORECASE,
)
_STOPPED = re.compile(
    r"\A\W{0,4}i(?:'ve| have) (?:reached|hit) (?:the|my) (?:maximum|max|step|iteration|limit)",
    re.IGNORECASE,
)
_HINT = re.compile(
    r"(?:retry[- _]?after|try again (?:in|after)|retry in|wait(?: for)?)\W{0,4}"
    r"(\d{1,6}(?:\.\d{1,6})?)\s{0,2}(ms|milliseconds?|s\b|sec|minutes?|m\b|\Z|\W)",
    re.IGNORECASE,
)


def asked_wait_s(text: str) -> float:
    """Return the seconds that a service wants to be left alone; 0 where it says nothing."""
    found = _HINT.search(text[: 2 * _HEAD_CHARS])
    if found is None:
        return 0.0
    unit = found[2].lower()
    scale = 0.001 if unit.startswith(("ms", "mil")) else 60.0 if unit.startswith("m") else 1.0
    return min(float(found[1]) * scale, _WAIT_MAX_S)


def guards(case: Case, calls: Sequence[CaseCall], rule: str) -> Iterator[Symptom]:
    """Return where something like this layer acted.

    Args:
        case: The run.
        calls: Its calls, in the order in which they began.
        rule: The name to report foreign guards under; our own have theirs.
    """
    for act in case.acts:
        if act.rule.startswith("breakers."):
            yield Symptom(
                rule=act.rule, steps=(act.step,), evidence=quoted(act.quote), sign=Sign.FIRED
            )
    for call in calls:
        if call.rule.startswith("breakers."):
            words = quoted(call.error or call.result or call.rule)
            yield Symptom(rule=call.rule, steps=(call.step,), evidence=words, sign=Sign.FIRED)
        elif call.status in {CallStatus.FAILED, CallStatus.REFUSED}:
            words = (call.error or call.result or "")[:_HEAD_CHARS]
            if _OPEN.search(words) or _LOOP.search(words):
                yield Symptom(
                    rule=rule, steps=(call.step,), evidence=quoted(words), sign=Sign.FIRED
                )
    yield from _obeyed(calls, rule)
    said = [text for text in case.texts if text.role in {"assistant", "other"}]
    if said and _STOPPED.match(said[-1].text[:_TAIL_CHARS]):
        last = said[-1]
        yield Symptom(rule=rule, steps=(last.step,), evidence=quoted(last.text), sign=Sign.FIRED)


def _obeyed(calls: Sequence[CaseCall], rule: str) -> Iterator[Symptom]:
    """Find waits as long as the service had asked for."""
    wants: dict[str, tuple[CaseCall, float]] = {}
    for call in calls:
        asked = wants.pop(call.name, None)
        if asked is not None and call.began_at is not None:
            first, wait_s = asked
            waited_s = call.began_at - (first.began_at or 0.0) - max(0.0, first.took_s or 0.0)
            if waited_s >= wait_s:
                words = f"{call.name} waited {waited_s:.1f} s: {first.error or first.result}"
                yield Symptom(
                    rule=rule,
                    steps=(call.step, first.step),
                    evidence=quoted(words),
                    sign=Sign.FIRED,
                )
        if call.status is CallStatus.FAILED and call.began_at is not None:
            wait_s = asked_wait_s(call.error or call.result or "")
            if wait_s >= 1:
                wants[call.name] = (call, wait_s)

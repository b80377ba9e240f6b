"""How the absence of ordered parallelism looks in a finished run: what ran side by side wrongly.

Keeps: calls of one batch ran side by side unless their times say that they did not; what may
have waited for each other is no fault. Reads that could have run together cost time and are
never the cause of anything: a hint.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from undercroft.model.case import Access, CallStatus, Case, CaseCall, Facet
from undercroft.model.symptom import Looked, Rule, Sign, Symptom, quoted

BESIDE_MAX = 16
PER_RULE_MAX = 50
WORDS_MAX = 40
RUN_MAX = 50
# Clocks of different machines disagree by so much without meaning it.
SLACK_S = 0.001

_CLAIMS = """\
@uc.tool(writes="order/{order_id}")  # writes to one order take turns
async def change_city(order_id: str, city: str) -> str:
    \"\"\"Change where an order goes.\"\"\"
    return city


@uc.tool(writes="order/{order_id}")
async def change_payment(order_id: str, method: str) -> str:
    \"\"\"Change how an order is paid.\"\"\"
    return method
"""
_READS = """\
@uc.tool(reads="order/{order_id}")  # reads of a batch run side by side
async def get_order(order_id: str) -> dict[str, str]:
    \"\"\"Return an order.\"\"\"
    return {"state": "open"}
"""

OVERLAP = Rule(
    name="parallelism.overlapping_writes",
    says="Two writes to one resource ran side by side.",
    would="Held the second write until the first had ended, in the order of proposal.",
    lines=_CLAIMS,
    needs=(Facet.CALLS, Facet.ARGUMENTS),
)
SERIAL = Rule(
    name="parallelism.serial_reads",
    says="Reads ran one after another, though all that they needed was known before the first.",
    would="Run the reads side by side, since none of them writes what another one reads.",
    lines=_READS,
    needs=(Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS),
)
REFUSED = Rule(
    name="parallelism.refused",
    says="A guard held back a call that would have run beside another.",
    would="Held the call until the other one had ended.",
    lines=_CLAIMS,
    needs=(Facet.CALLS,),
)
RULES: tuple[Rule, ...] = (OVERLAP, SERIAL, REFUSED)

_REFUSALS = re.compile(
    r"\b(?:(?:another|an?) (?:\w{1,20} ){0,2}(?:operation|request|update|call|transaction) "
    r"(?:\w{1,20} ){0,4}(?:is )?(?:already |still |currently )?(?:in progress|running|under way)|"
    r"already in progress|concurrent (?:requests?|calls?|operations?) (?:are |is )?not "
    r"(?:allowed|supported|permitted)|too many concurrent|lock (?:wait )?timeout|"
    r"could not (?:acquire|obtain) (?:a |the )?lock)",
    re.IGNORECASE,
)
_HELD = frozenset({CallStatus.REFUSED, CallStatus.WAITING})
_WRITES = frozenset({"write", "exclusive"})
# Arguments of which one follows from the page before.
_PAGING = frozenset({"page", "cursor", "offset", "start", "after", "before", "page_token", "next"})


def look(case: Case) -> Looked:
    """Return what shows in `case` of calls that ran side by side, or could have."""
    unseen = [rule.name for rule in RULES if not case.shown(*map(Facet, rule.needs))]
    beside = case.shown(Facet.TIMES, Facet.DURATIONS) or any(call.batch >= 0 for call in case.calls)
    unknown = bool(case.calls) and all(call.access is Access.UNKNOWN for call in case.calls)
    if OVERLAP.name not in unseen and (unknown or (case.calls and not beside)):
        unseen.append(OVERLAP.name)
    symptoms = list(_refused(case))
    if OVERLAP.name not in unseen:
        symptoms += islice(_overlapping(case), PER_RULE_MAX)
    if SERIAL.name not in unseen:
        symptoms += islice(_serial(case), PER_RULE_MAX)
    return Looked(
        symptoms=tuple(sorted(symptoms, key=lambda one: (one.steps[:1], one.rule))),
        unseen=tuple(rule.name for rule in RULES if rule.name in unseen),
        observable=OVERLAP.name not in unseen or bool(symptoms),
    )


def _refused(case: Case) -> Iterator[Symptom]:
    for call in case.calls:
        words = call.error or call.result or ""
        if call.rule.startswith("parallelism."):
            evidence = quoted(f"{call.name}: {call.rule}: {words}")
        elif call.rule or call.status is CallStatus.OK or not _REFUSALS.search(words[:1_000]):
            continue
        else:
            evidence = quoted(f"{call.name}: {words}")
        yield Symptom(rule=REFUSED.name, steps=(call.step,), evidence=evidence, sign=Sign.FIRED)
    for act in case.acts:
        if act.rule.startswith("parallelism."):
            evidence = quoted(f"{act.rule}: {act.quote}")
            yield Symptom(rule=REFUSED.name, steps=(act.step,), evidence=evidence, sign=Sign.FIRED)


def _overlapping(case: Case) -> Iterator[Symptom]:
    """Yield pairs of writes to one resource that ran at the same time."""
    by_key: dict[str, list[CaseCall]] = defaultdict(list)
    for call in case.calls:
        if call.access is Access.WRITE and call.status not in _HELD:
            for touch in call.touches:
                if touch.mode in _WRITES | {"append"}:
                    # What lies in a resource is changed with it: kept by its first two names.
                    by_key["/".join(touch.key.split("/")[:2])].append(call)
    told: set[tuple[int, int]] = set()
    for calls in by_key.values():
        calls.sort(key=lambda call: (_began(call), call.step))
        for place, call in enumerate(calls):
            for other in calls[place + 1 : place + 1 + BESIDE_MAX]:
                pair = (id(call), id(other))
                if pair in told or not _beside(call, other):
                    continue
                key = _shared(call, other)
                if not key:
                    continue
                told.add(pair)
                yield Symptom(
                    rule=OVERLAP.name,
                    steps=tuple(sorted({call.step, other.step})),
                    evidence=quoted(
                        f"{_spelled(call)} and {_spelled(other)} {_how(call, other)} {key}"
                    ),
                )


def _shared(one: CaseCall, other: CaseCall) -> str:
    """Return what two calls both write, or nothing; what covers a resource shares it."""
    modes = _WRITES | {"append"}
    mine = [touch for touch in one.touches if touch.mode in modes]
    theirs = [touch for touch in other.touches if touch.mode in modes]
    for first in mine:
        for second in theirs:
            a, b = first.key, second.key
            # What is only added goes together, in whatever order.
            if first.mode == second.mode == "append":
                continue
            if a == b or a.startswith(f"{b}/") or b.startswith(f"{a}/"):
                return max(a, b, key=len)
    return ""


def _began(call: CaseCall) -> float:
    return float("-inf") if call.began_at is None else call.began_at


def _beside(one: CaseCall, other: CaseCall) -> bool:
    """Whether two calls ran at the same time, as far as the record shows it."""
    spans = _span(one), _span(other)
    if spans[0] is not None and spans[1] is not None:
        (began, ended), (began_other, ended_other) = spans[0], spans[1]
        return min(ended, ended_other) - max(began, began_other) > SLACK_S
    # Proposed together, with nothing that would say that one waited for the other.
    return one.batch >= 0 and one.batch == other.batch


def _span(call: CaseCall) -> tuple[float, float] | None:
    if call.began_at is None or call.took_s is None or call.took_s < 0:
        return None
    return call.began_at, call.began_at + call.took_s


def _how(one: CaseCall, other: CaseCall) -> str:
    first, second = _span(one), _span(other)
    if first is not None and second is not None:
        shared = min(first[1], second[1]) - max(first[0], second[0])
        return f"overlap by {shared:.3g} s on"
    return "stand in one batch and write"


def _serial(case: Case) -> Iterator[Symptom]:
    """Yield runs of reads, one after another, that could have been made at once."""
    spoken = sorted(text.step for text in case.texts if text.role in {"user", "other"})
    run: list[CaseCall] = []
    for call in case.calls:
        if call.access is Access.NEITHER:
            continue
        if run and _goes_on(run, call, spoken) and _known_before(call, run):
            run.append(call)
            continue
        if len(run) > 1:
            yield _hint(run)
        run = [call] if _is_read(call) else []
    if len(run) > 1:
        yield _hint(run)


def _is_read(call: CaseCall) -> bool:
    # Of a search nobody knows what made the model choose its words.
    plain = call.access is Access.READ and any(touch.mode == "read" for touch in call.touches)
    return plain and call.status not in _HELD and not (_PAGING & set(call.arguments or {}))


def _goes_on(run: list[CaseCall], call: CaseCall, spoken: list[int]) -> bool:
    """Whether a call follows the reads before it with no word between, and not beside them."""
    last = run[-1]
    if not _is_read(call) or call.actor != last.actor:
        return False
    if call.turn != last.turn or (call.batch >= 0 and call.batch == last.batch):
        return False
    if (call.name, call.arguments) == (last.name, last.arguments):
        return False
    return not _beside(last, call) and not (spoken and _any_between(spoken, last.step, call.step))


def _any_between(steps: list[int], one: int, other: int) -> bool:
    place = bisect_right(steps, one)
    return place < len(steps) and steps[place] < other


def _known_before(call: CaseCall, run: list[CaseCall]) -> bool:
    """Whether nothing that `call` was given had to be looked up by the reads before it."""
    values = [str(value) for value in _leaves(call.arguments or {})]
    results = [before.result or "" for before in run]
    return len(run) < RUN_MAX and not any(
        value in result for value in values if len(value) > 1 for result in results
    )


def _leaves(value: Mapping[str, Any]) -> Iterator[object]:
    for inner in list(value.values())[:WORDS_MAX]:
        yield from inner[:WORDS_MAX] if isinstance(inner, list) else (inner,)


def _hint(run: list[CaseCall]) -> Symptom:
    names = ", ".join(_spelled(call) for call in run[:3]) + (", …" if len(run) > 3 else "")  # noqa: PLR2004
    took = [call.took_s for call in run if call.took_s is not None and call.took_s >= 0]
    cost = ""
    if len(took) == len(run):
        cost = f"; {sum(took) - max(took):.3g} s could have been saved"
    return Symptom(
        rule=SERIAL.name,
        steps=tuple(call.step for call in run[:PER_RULE_MAX]),
        evidence=quoted(f"{len(run)} reads in a row: {names}{cost}"),
        sign=Sign.HINT,
    )


def _spelled(call: CaseCall) -> str:
    arguments = ", ".join(f"{k}={v!r}"[:50] for k, v in (call.arguments or {}).items())
    return f"{call.name}({arguments[:80]})"

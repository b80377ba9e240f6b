"""Symptoms: how it shows in a finished run that nobody could explain it afterwards.

Keeps: a gap is one only where the record shows the same of other calls; a run's last call, a
question to a person and a hand-over need no result. What is odd in a record and leaves the turn
readable is worth knowing, and no more.
Leaves to `claims.py` what a user was told that did not happen.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator

from undercroft.layers.observability.claims import unfounded
from undercroft.model.case import Access, Basis, CallStatus, Case, CaseAsk, CaseCall, Facet, Flaw
from undercroft.model.symptom import Looked, Rule, Sign, Symptom, quoted

# So many calls must show something before one that does not is a gap.
OTHERS_MIN = 2
# Of one kind of gap so many steps are named.
STEPS_MAX = 20

_JOURNAL = 'rt = uc.Runtime("undercroft.db")'

NO_RESULT = Rule(
    name="observability.no_result",
    says="A call has no recorded result, and the run went on.",
    would="Undercroft would have written its outcome before anything that depends on it went on.",
    lines=_JOURNAL,
    needs=("calls", "results"),
)
NO_STATUS = Rule(
    name="observability.no_status",
    says="A call has a result and no status, while others have one.",
    would="Undercroft would have written how it ended, and with which class of error.",
    lines=_JOURNAL,
    needs=("calls", "statuses"),
)
NO_TIME = Rule(
    name="observability.no_time",
    says="A call has no time or no duration, while others have one.",
    would="Undercroft would have written when it began, by the wall clock, and how long it took.",
    lines=_JOURNAL,
    needs=("calls", "times"),
)
NO_PROMPT = Rule(
    name="observability.no_prompt",
    says="A request to a model was recorded without what was sent, while others have it.",
    would="Undercroft would have written the request as it went to the model, by reference.",
    lines=_JOURNAL,
    needs=("prompts",),
)
TOLD = Rule(
    name="observability.success_told",
    says="The user was told of a change whose write had failed, or was never made.",
    would=(
        "Undercroft would have shown the reply beside what came of its calls: the turn ends "
        "`degraded`, and `outcome.missing` names what did not happen, so that the reply can."
    ),
    lines=(
        "async def answer(rt: uc.Runtime, target: object, message: str) -> str:\n"
        "    outcome = await rt.run(target, message=message)\n"
        "    if outcome.missing:\n"
        '        return f"Not done: {sorted(outcome.missing)}"\n'
        "    return str(outcome.value)"
    ),
    needs=("calls", "results"),
)
NO_STEPS = Rule(
    name="observability.no_steps",
    says="Nothing was recorded of what the run did, or nothing but the error that ended it.",
    would="Undercroft would have written each intent before its step began: a crash leaves them.",
    lines=_JOURNAL,
)
BROKEN = Rule(
    name="observability.broken_record",
    says="The record contradicts itself, so that what happened cannot be put together from it.",
    would="Undercroft would have numbered each step and named its causes, in one transaction.",
    lines=_JOURNAL,
)
RULES: tuple[Rule, ...] = (NO_RESULT, NO_STATUS, NO_TIME, NO_PROMPT, TOLD, NO_STEPS, BROKEN)

# Calls that need no result: a person goes on, or it is over.
_LAST = re.compile(
    r"\A(?:transfer_?to|hand_?(?:off|over)|escalat|end_|stop|ask|request_|complete|submit|finish)"
    r"|human|approval|final|terminat|respond|reply|answer|(?:\b|_)(?:exit|done|finish)(?:\b|_)",
    re.IGNORECASE,
)
_GETS = re.compile(
    r"(?:[a-z]{1,20}[._/]{1,2}){0,3}(?:get|fetch|describe|load|show|view)", re.IGNORECASE
)
_FATAL = frozenset({"cycle"})


def look(case: Case) -> Looked:
    """Return what a run's record lacks, and what its user was told wrongly."""
    unseen = [r.name for r in RULES if not case.shown(*(Facet(need) for need in r.needs))]
    if TOLD.name in unseen and case.tools and any(t.role == "assistant" for t in case.texts):
        # Tools were on offer and none was called: then nothing was changed.
        unseen.remove(TOLD.name)
    found = [*_guards(case), *_empty(case), *_flaws(case)]
    if NO_RESULT.name not in unseen:
        found += _results(case)
    if NO_STATUS.name not in unseen:
        found += _statuses(case)
    if NO_TIME.name not in unseen:
        found += _times(case)
    if NO_PROMPT.name not in unseen:
        found += _prompts(case)
    if TOLD.name not in unseen:
        found += _told(case)
    return Looked(tuple(sorted(found, key=lambda one: one.steps[:1])), tuple(unseen))


def _one(rule: Rule, steps: list[int], words: str, sign: Sign = Sign.MISSING) -> Symptom:
    return Symptom(
        rule=rule.name, steps=tuple(steps[:STEPS_MAX]), evidence=quoted(words), sign=sign
    )


def _told(case: Case) -> Iterator[Symptom]:
    errors = {call.step: call.error or call.result or "" for call in case.calls}
    for claim in unfounded(case):
        why = f"{errors[claim.failed[-1]][:80]}" if claim.failed else "no write was made"
        yield _one(TOLD, [claim.step, *claim.failed], f"“{claim.sentence[:150]}”: {why}")


# ---------------------------------------------------------------------- gaps


def _results(case: Case) -> Iterator[Symptom]:
    """Find calls without a result after which the run went on."""
    if any(flaw.kind == "orphan_result" for flaw in case.flaws):
        # The results are there, and it is not known whose they are: that is told of the record.
        return
    users = sorted(text.step for text in case.texts if text.role == "user")
    others = sorted(
        [text.step for text in case.texts if text.role in {"assistant", "other"}]
        + [call.step for call in case.calls]
        + [ask.step for ask in case.asks]
    )
    # What one kind of call never has is how that system is: nobody waits for it.
    has = Counter(call.name for call in case.calls if call.result)
    lacks = Counter(call.name for call in case.calls if not call.result)
    gaps = [
        call
        for call in case.calls
        if (call.result is None or _is_void(case, call, has))
        and _wants_result(call)
        and not _LAST.search(call.name[:80])
        and (has[call.name] or lacks[call.name] == 1)
        and _went_on(call.step, users, others)
    ]
    if gaps and len(gaps) <= sum(has.values()):
        names = ", ".join(dict.fromkeys(call.name for call in gaps))
        yield _one(NO_RESULT, [call.step for call in gaps], f"no result of {names}")


def _wants_result(call: CaseCall) -> bool:
    """Say whether a call lacks more than a word of why it failed, or waits."""
    if call.status is CallStatus.FAILED:
        return call.result is None and not call.error
    return call.status in {CallStatus.UNKNOWN, CallStatus.OK}


def _is_void(case: Case, call: CaseCall, has: Counter[str]) -> bool:
    """Say whether a span of a call that must have returned something holds nothing.

    A search may find nothing; whoever gets one thing gets it, or an error.
    """
    gets = has[call.name] > 0 or _GETS.match(call.name[:80]) is not None
    read = call.access is Access.READ and call.result == ""
    return read and gets and case.shown(Facet.TIMES) and has.total() > 0


def _went_on(step: int, users: list[int], others: list[int]) -> bool:
    """Say whether an agent went on after a step, before the user said anything."""
    after = bisect_right(others, step)
    if after == len(others):
        return False
    place = bisect_right(users, step)
    return place == len(users) or others[after] < users[place]


def _gaps(
    case: Case, shows: Callable[[CaseCall], bool], counts: Callable[[CaseCall], bool]
) -> list[CaseCall]:
    """Return the few calls that do not show what the many do."""
    calls = [call for call in case.calls if counts(call)]
    gaps = [call for call in calls if not shows(call)]
    shown = len(calls) - len(gaps)
    return gaps if shown >= OTHERS_MIN and len(gaps) < shown else []


def _ended(call: CaseCall) -> bool:
    return call.result is not None and call.status is not CallStatus.WAITING


def _statuses(case: Case) -> Iterator[Symptom]:
    """Find calls without a status, where others are said to have gone well."""
    well = [
        call
        for call in case.calls
        if call.status is CallStatus.OK and call.status_basis is not Basis.INFERRED
    ]
    if len(well) < OTHERS_MIN:
        # Many say only what failed.
        return
    # A text may say more than the format: that it failed. Then the format did not leave it out.
    gaps = _gaps(
        case,
        lambda call: call.status_basis is not Basis.INFERRED,
        lambda call: _ended(call) and call.status is not CallStatus.FAILED,
    )
    if gaps:
        names = ", ".join(dict.fromkeys(call.name for call in gaps))
        yield _one(NO_STATUS, [call.step for call in gaps], f"no status of {names}")


def _times(case: Case) -> Iterator[Symptom]:
    """Find calls without a time."""
    gaps = _gaps(case, lambda call: call.began_at is not None, lambda _: True)
    if case.shown(Facet.DURATIONS):
        broken = {s for flaw in case.flaws if flaw.kind == "negative_duration" for s in flaw.steps}
        lasting = _gaps(case, lambda call: call.took_s is not None, _ended)
        gaps += [c for c in lasting if c not in gaps and c.step not in broken]
    if gaps:
        gaps.sort(key=lambda call: call.step)
        names = ", ".join(dict.fromkeys(call.name for call in gaps))
        yield _one(NO_TIME, [call.step for call in gaps], f"no time of {names}")


def _prompts(case: Case) -> Iterator[Symptom]:
    """Find requests whose prompt was not written down."""

    def counts(ask: CaseAsk) -> bool:
        return ask.answer is not None or ask.status is CallStatus.FAILED

    asks = [ask for ask in case.asks if counts(ask)]
    gaps = [ask for ask in asks if ask.prompt is None]
    if gaps and OTHERS_MIN <= len(asks) - len(gaps) > len(gaps):
        yield _one(NO_PROMPT, [ask.step for ask in gaps], "a request without its prompt")


# ---------------------------------------------------------------------- the record itself


def _empty(case: Case) -> Iterator[Symptom]:
    """Find runs of which nothing is known."""
    flaw = next((flaw for flaw in case.flaws if flaw.kind == "no_steps"), None)
    did = case.calls or case.asks or any(t.role in {"assistant", "other"} for t in case.texts)
    if did or not (flaw or case.error or not case.steps):
        return
    words = case.error or (flaw.quote if flaw else "") or "the run has no steps"
    yield _one(NO_STEPS, [0] if case.steps else [], words)


def _flaws(case: Case) -> Iterator[Symptom]:
    """Find what is wrong with a record, and whether the turn can be put together nevertheless."""
    kinds: dict[str, list[Flaw]] = {}
    for flaw in case.flaws:
        if flaw.kind != "no_steps":
            kinds.setdefault(flaw.kind, []).append(flaw)
    for kind, flaws in kinds.items():
        steps = sorted({step for flaw in flaws for step in flaw.steps})
        words = f"{kind.replace('_', ' ')}: {flaws[0].quote}"
        sign = Sign.MISSING if _is_fatal(case, kind) else Sign.HINT
        yield _one(BROKEN, steps, words, sign)


def _is_fatal(case: Case, kind: str) -> bool:
    """Say whether what happened cannot be known for a flaw."""
    if kind == "orphan_result":
        # Where calls lack results, the orphans may be theirs; else nobody knows what was called.
        return all(call.result is not None for call in case.calls)
    return kind in _FATAL


def _guards(case: Case) -> Iterator[Symptom]:
    for act in case.acts:
        if act.rule.startswith("observability."):
            yield Symptom(
                rule=act.rule, steps=(act.step,), evidence=quoted(act.quote), sign=Sign.FIRED
            )
    for call in case.calls:
        if call.rule.startswith("observability."):
            words = quoted(call.error or call.rule)
            yield Symptom(rule=call.rule, steps=(call.step,), evidence=words, sign=Sign.FIRED)

"""How the absence of sequencing looks in a finished run: steps taken before their time.

Keeps: a rule fires only where the record shows both what was done and that what it needed had
not been there; whatever may have been known counts as known.

A write needs a read only where the run, by its tools, could read that kind of resource. An
id that its user gave is no read of it; a list that shows its state is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from undercroft.layers.sequencing.consent import Talk, applies, demanded_by, demands_of_change
from undercroft.layers.sequencing.early import early_and_unknown, spelled
from undercroft.layers.sequencing.reads import (
    NEEDING,
    SENTENCES,
    TEXT_CHARS_MAX,
    Reads,
    in_bulk,
    readable,
    value_of,
)
from undercroft.layers.sequencing.shown import (
    Shown,
    words_of,
)
from undercroft.model.case import Access, CallStatus, Case, CaseCall, Facet, ToolRules, Touch
from undercroft.model.symptom import Looked, Rule, Sign, Symptom, quoted

PER_RULE_MAX = 50

_READ = """\
@uc.tool(reads="order/{order_id}")
async def get_order(order_id: str) -> dict[str, str]:
    \"\"\"Return an order.\"\"\"
    return {"state": "open"}


"""
_READ_FIRST = (
    _READ
    + """\
@uc.tool(writes="order/{order_id}")  # refused until get_order has run
async def cancel_order(order_id: str) -> str:
    \"\"\"Cancel an order.\"\"\"
    return "cancelled"
"""
)
_NEEDS = (
    _READ
    + """\
@uc.tool(writes="order/{order_id}", needs=[get_order])  # of the same order
async def cancel_order(order_id: str) -> str:
    \"\"\"Cancel an order.\"\"\"
    return "cancelled"
"""
)
_APPROVED = """\
@uc.tool(writes="order/{order_id}", approval=True)  # parks until approved
async def cancel_order(order_id: str) -> str:
    \"\"\"Cancel an order.\"\"\"
    return "cancelled"
"""
_FLOW = """\
flow = uc.Workflow("refund")


@flow.read("order/{order_id}")
async def order(order_id: str) -> dict[str, str]:
    return {"state": "open"}


@flow.execute(writes="order/{order_id}")
async def refund(order: dict[str, str], order_id: str) -> str:
    return "refunded"  # began when `order` had ended, since it asks for it
"""

READ_FIRST = Rule(
    name="sequencing.write_before_read",
    says="A resource was written that had not been read before, though it could have been.",
    would="Refused the write as `sequencing.read_first` and told the model which tool reads it.",
    lines=_READ_FIRST,
    needs=(Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS),
)
UNKNOWN_ID = Rule(
    name="sequencing.unknown_id",
    says="A call named an id that nobody had mentioned and no tool had returned.",
    would="Refused the call until the tool that reads that id had succeeded for it.",
    lines=_NEEDS,
    needs=(Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS, Facet.USERS),
)
STALE_READ = Rule(
    name="sequencing.stale_read",
    says="A write failed, since an earlier write of the run had changed what it was planned on.",
    would="Refused the second write until the record had been read again as the first one left it.",
    lines=_READ_FIRST,
    needs=(Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS),
)
USED_EARLY = Rule(
    name="sequencing.used_early",
    says="A call used the result of another before that one had ended.",
    would="Held the call until the one whose result it uses had ended.",
    lines=_FLOW,
    needs=(Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS),
)
NO_CONSENT = Rule(
    name="sequencing.no_consent",
    says="A write that needs a user's consent was made without it.",
    would="Parked the turn before the write until somebody had approved exactly these arguments.",
    lines=_APPROVED,
    needs=(Facet.CALLS, Facet.USERS),
)
UNMET = Rule(
    name="sequencing.needs_unmet",
    says="A call was made before a call that it is declared to need.",
    would="Refused the call as `sequencing.needs` and told the model what to call first.",
    lines=_NEEDS,
    needs=(Facet.CALLS, Facet.ARGUMENTS),
)
REFUSED = Rule(
    name="sequencing.refused",
    says="A guard held back a call whose turn had not come.",
    would="Refused the call with the rule, the facts and the next move.",
    lines=_NEEDS,
    needs=(Facet.CALLS,),
)
RULES: tuple[Rule, ...] = (
    READ_FIRST,
    STALE_READ,
    UNKNOWN_ID,
    USED_EARLY,
    NO_CONSENT,
    UNMET,
    REFUSED,
)

_REFUSALS = re.compile(
    r"\b(?:approval (?:is )?(?:required|needed|pending)|(?:requires|needs|awaiting|pending) "
    r"(?:\w{1,20} )?(?:approval|confirmation|consent)|confirmation (?:is )?(?:required|needed)|"
    r"not (?:yet )?(?:been )?(?:approved|confirmed)|"
    r"must (?:first )?(?:be )?(?:read|fetch|verif)\w{0,4} |read (?:it|the \w{1,20}) first|"
    r"prerequisite|must be called (?:first|before))",
    re.IGNORECASE,
)
_STATE = re.compile(
    r"\b(?:cannot|can't|can not|could not|not (?:allowed|possible|permitted|eligible|pending|open|"
    r"active|available)|no longer|already|non-\w{1,20}|invalid state|wrong state|must be|"
    r"only \w{1,20} \w{1,20} can|is (?:closed|cancell?ed|locked|final|processed|shipped))\b",
    re.IGNORECASE,
)
# What is done to a record as it stands, so that it must be known how it stands.
_CHANGES = frozenset(
    (
        *("update", "modify", "change", "edit", "cancel", "delete", "remove", "refund", "return"),
        *("exchange", "close", "reopen", "renew", "extend", "reschedule", "resize", "terminate"),
        *("approve", "reject", "amend", "adjust", "archive", "void", "rename", "replace", "patch"),
        *("reassign", "withdraw", "deactivate", "upgrade", "downgrade", "erase", "merge", "rebook"),
        *(
            "assign",
            "move",
            "suspend",
            "pause",
            "retire",
            "demote",
            "promote",
            "discharge",
            "split",
        ),
        *("revise", "reverse", "redact", "reroute", "relocate", "reprice", "dismiss", "grade"),
        *("swap", "resolve", "complete", "correct", "postpone", "transfer", "drop", "detach"),
    )
)
_CALL_FIRST = re.compile(r"\b(?:before|prior to)\b", re.IGNORECASE)
_TOOL_NAME = re.compile(r"[A-Za-z]\w{2,60}")
_HELD = frozenset({CallStatus.REFUSED, CallStatus.WAITING})
_FILES = frozenset({"url", "email"})


def look(case: Case) -> Looked:
    """Return what shows in `case` of steps taken before their time."""
    unseen = [rule.name for rule in RULES if not case.shown(*map(Facet, rule.needs))]
    if case.calls and all(call.access is Access.UNKNOWN for call in case.calls):
        # Which of them write is not known, so who should have read is not known either.
        unseen += [r.name for r in (READ_FIRST, STALE_READ, NO_CONSENT) if r.name not in unseen]
    demands = demanded_by(case)
    rules = case.rules or {}
    if not demands and not any(rule.consent for rule in rules.values()):
        unseen = [name for name in unseen if name != NO_CONSENT.name or not case.texts]
    if not any(rule.needs for rule in rules.values()) and not _demanded_tools(case):
        unseen = [name for name in unseen if name != UNMET.name]
    symptoms = list(_refused(case))
    shown = Shown(case)
    if shown.unsaid and NO_CONSENT.name not in unseen:
        unseen.append(NO_CONSENT.name)
    looks: tuple[tuple[Rule, Iterable[Symptom]], ...] = (
        (READ_FIRST, _unread(case, shown)),
        (STALE_READ, _unread_since(shown)),
        (UNKNOWN_ID, early_and_unknown(shown, USED_EARLY.name, UNKNOWN_ID.name)),
        (NO_CONSENT, _without_consent(case, demands)),
        (UNMET, _unmet(shown, rules)),
        (UNMET, _unverified(case, shown)),
    )
    for rule, found in looks:
        if rule.name not in unseen:
            symptoms += islice(found, PER_RULE_MAX)
    symptoms = [one for one in symptoms if one.rule not in unseen]
    judged = {rule.name for rule in (READ_FIRST, STALE_READ, UNKNOWN_ID, USED_EARLY)} - set(unseen)
    return Looked(
        symptoms=tuple(sorted(symptoms, key=lambda one: (one.steps[:1], one.rule))),
        unseen=tuple(rule.name for rule in RULES if rule.name in unseen),
        observable=bool(judged or symptoms),
    )


def _refused(case: Case) -> Iterator[Symptom]:
    for call in case.calls:
        words = call.error or call.result or ""
        if call.rule.startswith("sequencing."):
            evidence = quoted(f"{call.name}: {call.rule}: {words}")
        elif (
            call.status is CallStatus.OK
            or not _REFUSALS.search(words[:1_000])
            or (call.rule and not call.rule.startswith("sequencing."))
        ):
            continue
        else:
            evidence = quoted(f"{call.name}: {words}")
        yield Symptom(rule=REFUSED.name, steps=(call.step,), evidence=evidence, sign=Sign.FIRED)
    for act in case.acts:
        if act.rule.startswith("sequencing."):
            evidence = quoted(f"{act.rule}: {act.quote}")
            yield Symptom(rule=REFUSED.name, steps=(act.step,), evidence=evidence, sign=Sign.FIRED)


def _unread(case: Case, shown: Shown) -> Iterator[Symptom]:
    """Yield writes to what had not been read, where something reads that kind of resource.

    Where nothing does, an id that only stood in a list is judged too: its record was never seen.
    """
    kinds = readable(case, shown)
    wanted = frozenset(
        value_of(touch.key)
        for call in shown.calls
        for touch in call.touches
        if touch.mode in NEEDING
    )
    if not wanted:
        return
    reads = any(call.access is Access.READ for call in shown.calls)
    read = Reads(shown, wanted)
    many = in_bulk(shown)
    told: set[str] = set()
    for call in shown.calls:
        if call.access is Access.WRITE and call.status not in _HELD and shown.placed(call):
            began = shown.began(call)
            for touch in call.touches:
                kind = touch.key.partition("/")[0]
                if touch.mode not in NEEDING or touch.key in told or kind in _FILES:
                    continue
                listed = touch.mode == "write" and call.name not in many
                known = kind in kinds or (
                    _must_be_there(touch) and (reads or _is_blind(case, call))
                )
                if not known and not (listed and read.listed(touch.key, began)):
                    continue
                if read.made(touch.key, began):
                    continue
                if read.has(touch.key, began, ties=shown.spans):
                    continue
                told.add(touch.key)
                yield Symptom(
                    rule=READ_FIRST.name,
                    steps=(call.step,),
                    evidence=quoted(f"{spelled(call)} writes {touch.key}, which no call had read"),
                )
        read.note(call)


def _must_be_there(touch: Touch) -> bool:
    """Whether a write changes something that exists, named by a number of its own."""
    return touch.mode == "write" and any(char.isdigit() for char in value_of(touch.key))


def _is_blind(case: Case, call: CaseCall) -> bool:
    """Whether a run that reads nothing changes what it should have looked at.

    Whoever only switches something on, or pays, need not have; and where it is known what tools
    were on offer, and none reads that kind, nothing could have.
    """
    return case.tools is None and not _CHANGES.isdisjoint(words_of(call.name))


def _unread_since(shown: Shown) -> Iterator[Symptom]:
    """Yield writes that failed for what an earlier write, not looked at since, had made of it.

    One that succeeds later with other arguments had been given wrong ones, and is left out.
    """
    wrote: dict[str, CaseCall] = {}
    failed: dict[tuple[str, str], tuple[CaseCall, CaseCall]] = {}
    for call in shown.calls:
        if call.access is Access.READ and call.status is not CallStatus.FAILED:
            for touch in call.touches:
                wrote.pop(touch.key, None)
        if call.access is not Access.WRITE or call.status in _HELD:
            continue
        for key in [touch.key for touch in call.touches if touch.mode == "write"]:
            before = wrote.get(key)
            if call.status is not CallStatus.FAILED:
                failed.pop((call.name, key), None)
                wrote[key] = call
            elif before is not None and not _alike(before, call) and _of_its_state(call):
                failed.setdefault((call.name, key), (before, call))
    for (_, key), (before, call) in failed.items():
        yield Symptom(
            rule=STALE_READ.name,
            steps=(call.step, before.step),
            evidence=quoted(
                f"{spelled(call)} after {before.name} of {key}, not read between: "
                f"{call.error or call.result or ''}"
            ),
        )


def _alike(before: CaseCall, call: CaseCall) -> bool:
    return (before.name, before.arguments) == (call.name, call.arguments)


def _of_its_state(call: CaseCall) -> bool:
    """Whether a write failed for the state of its record, and not for the moment or its form."""
    words = (call.error or call.result or "")[:1_000]
    passing = call.error_class in {"transient", "overloaded"}
    return not passing and _STATE.search(words) is not None and _REFUSALS.search(words) is None


def _without_consent(case: Case, demands: tuple[str, ...]) -> Iterator[Symptom]:
    """Yield writes that needed a user's word and did not get it."""
    told = {name for name, rule in (case.rules or {}).items() if rule.consent}
    talk = Talk(case)
    since, last = -1, False
    for call in case.calls:
        if (call.access is not Access.WRITE and call.name not in told) or call.status in _HELD:
            continue
        verb = call.verb or (words_of(call.name) or [""])[0]
        why = talk.refused(call, since, verb)
        why = why and f"though the user had said: {why}"
        if demands or told:
            agreed = talk.agreed(call, since, [value_of(touch.key) for touch in call.touches])
            agreed = last if agreed is None else agreed
            changes = any(touch.mode in NEEDING for touch in call.touches)
            demand = next((d for d in demands if applies(d, verb, changes=changes)), "")
            if not why and not agreed and (demand or call.name in told):
                demand = f"the system demands: {demand}" if demand else "its declaration demands it"
                why = f"without a user's yes; {demand}"
            last = agreed if call.status is not CallStatus.FAILED else last
        if why:
            evidence = quoted(f"{spelled(call)} {why}")
            yield Symptom(rule=NO_CONSENT.name, steps=(call.step,), evidence=evidence)
        if call.status is not CallStatus.FAILED:
            since = call.step


def _unmet(shown: Shown, rules: Mapping[str, ToolRules]) -> Iterator[Symptom]:
    """Yield calls whose declared needs had not succeeded for the same arguments."""
    needs = {name: rule.needs for name, rule in rules.items() if rule.needs}
    done: dict[str, list[CaseCall]] = {}
    for call in shown.calls:
        for needed in needs.get(call.name, ()):
            if call.status in _HELD or any(_fits(call, before) for before in done.get(needed, ())):
                continue
            yield Symptom(
                rule=UNMET.name,
                steps=(call.step,),
                evidence=quoted(f"{spelled(call)} before any {needed} had succeeded for it"),
            )
        if call.status not in _HELD and call.status is not CallStatus.FAILED:
            done.setdefault(call.name, []).append(call)


def _demanded_tools(case: Case) -> dict[str, str]:
    """Return the tools that the system's text demands before changes, with its sentences."""
    found: dict[str, str] = {}
    known = {call.name for call in case.calls} | (case.tools or frozenset())
    for text in case.texts:
        if text.role != "system":
            continue
        for sentence in SENTENCES.findall(text.text[:TEXT_CHARS_MAX]):
            if not (_CALL_FIRST.search(sentence) and demands_of_change(sentence)):
                continue
            # Before "before" stands what is to be called; after it what it is called before.
            first = _CALL_FIRST.split(sentence, maxsplit=1)[0]
            for name in _TOOL_NAME.findall(first):
                if name in known or "_" in name:
                    found.setdefault(name, " ".join(sentence.split()))
    return found


def _unverified(case: Case, shown: Shown) -> Iterator[Symptom]:
    """Yield the first write before a call that the system's text demands before changes."""
    demanded = _demanded_tools(case)
    done: set[str] = set()
    for call in shown.calls:
        if not demanded or call.status in _HELD:
            continue
        names = any(touch.mode in NEEDING for touch in call.touches)
        if call.access is Access.WRITE and call.name not in demanded and names:
            for name in [name for name in demanded if name not in done]:
                evidence = quoted(f"{spelled(call)} before {name}; {demanded.pop(name)}")
                yield Symptom(rule=UNMET.name, steps=(call.step,), evidence=evidence)
        if call.status is not CallStatus.FAILED:
            done.add(call.name)


def _fits(call: CaseCall, before: CaseCall) -> bool:
    if call.arguments is None or before.arguments is None:
        return True
    shared = call.arguments.keys() & before.arguments.keys()
    return all(call.arguments[name] == before.arguments[name] for name in shared)

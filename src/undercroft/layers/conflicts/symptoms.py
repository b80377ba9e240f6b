"""How the absence of ownership looks in a finished run: writes that undo or repeat each other.

Keeps: only writes that succeeded count, one after another; those that ran side by side are
parallelism's. Who read a resource again before writing, was handed it, or was told by a user
to do it once more, did nothing wrong.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from undercroft.model.case import Access, CallStatus, Case, CaseCall, CaseText, Facet
from undercroft.model.symptom import Looked, Rule, Sign, Symptom, quoted

PER_RULE_MAX = 50
WORDS_CHARS_MAX = 120
# A text for people that is no longer is set to this or to that, and not worked on.
NOTE_CHARS = 40
KEYS_MAX = 40
BETWEEN_MAX = 500
# So many writes to one resource are remembered.
STAND_MAX = 50
TEXT_CHARS_MAX = 20_000
SLACK_S = 0.001
RESULT_CHARS_MAX = 100_000

_VERSIONED = """\
@uc.tool(reads="order/{order_id}", version=lambda order: order["etag"])
async def get_order(order_id: str) -> dict[str, str]:
    \"\"\"Return an order.\"\"\"
    return {"etag": "7", "city": "Ely"}


@uc.tool(writes="order/{order_id}")  # refused where what was read is stale
async def change_city(order_id: str, city: str) -> str:
    \"\"\"Change where an order goes.\"\"\"
    return city
"""
_KEYED = """\
@uc.tool(writes="order/{order_id}")
async def pay(order_id: str, cents: int, *, key: uc.IdempotencyKey) -> str:
    \"\"\"Pay for an order; the same key is paid once.\"\"\"
    return key
"""
_HANDED = """\
async def settle(turn: uc.Turn, calls: list[uc.Call]) -> None:
    async with turn.branch("billing") as billing:
        turn.hand_over("order/A1001", to=billing)  # else it is refused
        await billing.calls(calls)
"""

SAME_FIELD = Rule(
    name="conflicts.same_field",
    says="A field was written twice in one turn, with different values and no word between.",
    would="Kept the second write back until the first one's value had been read again.",
    lines=_VERSIONED,
    needs=(Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS),
)
TWICE = Rule(
    name="conflicts.write_twice",
    says="The same write succeeded twice.",
    would="Made the write once under its idempotency key, and answered its repetition from that.",
    lines=_KEYED,
    needs=(Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS),
)
TWO_ACTORS = Rule(
    name="conflicts.two_actors",
    says="Two actors wrote one resource, and neither had handed it to the other.",
    would="Refused the second actor's write as `conflicts.owned_by_branch` until it was handed it.",
    lines=_HANDED,
    needs=(Facet.CALLS, Facet.ARGUMENTS, Facet.ACTORS),
)
STALE = Rule(
    name="conflicts.stale_write",
    says="A write rested on a state that another write had changed since it was read.",
    would="Refused the write as `conflicts.stale_write` and showed the model the fresh value.",
    lines=_VERSIONED,
    needs=(Facet.CALLS, Facet.ARGUMENTS),
)
REFUSED = Rule(
    name="conflicts.refused",
    says="A guard held back a write that would have undone or repeated another.",
    would="Refused the write with the fresh value, for the model to look at.",
    lines=_VERSIONED,
    needs=(Facet.CALLS,),
)
RULES: tuple[Rule, ...] = (SAME_FIELD, TWICE, TWO_ACTORS, STALE, REFUSED)

_REFUSALS = re.compile(
    r"\b(?:version (?:conflict|mismatch)|(?:http |status |code |error )409|409 conflict|"
    r"412 precondition|precondition failed|etag (?:mismatch|does not match)|"
    r"stale (?:version|write|data|object|revision)|edit conflict|optimistic lock\w{0,4}|"
    r"(?:has been|was) (?:modified|changed|updated) (?:by|since)|"
    r"(?:was|been|is) already (?:cancell?ed|refunded|paid|processed|applied|returned|exchanged)|"
    r"already (?:cancell?ed|refunded|paid|processed|booked)|"
    r"duplicate (?:request|transaction|write)|"
    r"(?:locked|owned|held) by (?:another|someone|turn|agent|user)|resource is locked)\b",
    re.IGNORECASE,
)
_HELD = frozenset({CallStatus.REFUSED, CallStatus.WAITING, CallStatus.FAILED})
_READ_MODES = frozenset({"read", "write", "exclusive"})
_AGAIN = re.compile(
    r"\b(?:again|another|once more|one more|more|twice|repeat|second|still|redo|re-?do|retry|"
    r"re-?send|didn't|did not|hasn't|not (?:yet|received|arrived|there)|same|extra|additional)\b",
    re.IGNORECASE,
)
_HANDING = re.compile(
    r"hand(?:ing|ed)?[ _-]?(?:off|over)|transfer|delegat|escalat|assign|over to you|your turn|"
    r"take over|takes over|passing (?:this|it)",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# What a parameter's name ends in that says which part is meant, not what becomes of it.
_PARTS = _set(
    "id ids uuid key keys sku number numbers path file line lines row rows column cell range "
    "item items field name url section slot date day index seat passenger product position "
    "recipient to tag label old_string old_str find"
)
# What is used or says why, and is no part of what is written.
_USED = frozenset({"payment", "method", "card", "assignee", "reviewer", "approver", "new"})
# Fields that go through several values in the course of one job, other calls being between.
_MOVING = _set(
    "status state stage progress step percent phase x y timestamp time cursor offset page"
)
# Words for people, of which a second version is a revision.
_PROSE = _set(
    "content contents body text note notes comment message description summary thought code patch "
    "diff new_string new_str old_string command query html data reasoning log"
)
# What adds up, so that a second value does not undo the first.
_ADDING = _set(
    "add append insert transfer pay deposit withdraw charge refund send increase decrease "
    "increment decrement click type press scroll drag log record note "
    "comment post create book tag label link attach invite remove delete untag share"
)
# What may add up, and the fields in which it does.
_STEPWISE = frozenset({"adjust", "move", "shift", "scale", "raise", "lower", "credit", "debit"})
_STEPS = _set("amount delta by qty quantity x y dx dy offset change count direction steps points")
_COUNTING = _set("add append increment decrement increase decrease press click next")
# What stays done, whatever else is done after it.
_LASTING = _set(
    "send post reply email notify message pay transfer book charge refund order purchase buy "
    "create invite submit donate sms tweet publish reserve"
)
# What takes something back, or puts it where it was.
_UNDOING = _set(
    "undo revert restore rollback remove delete cancel reset clear disable enable reopen unassign "
    "unlock unarchive deactivate void withdraw untag unpin unblock stop uninstall release"
)
_THEN = re.compile(
    r"\b(?:then|afterwards|first|for a (?:moment|while|minute|second)|temporar\w{2,4}|until"
    r"|back)\b",
    re.IGNORECASE,
)
_ONCE = frozenset({"idempotency", "dedup", "deduplication", "nonce"})
_VERSIONS = frozenset(
    {"version", "etag", "revision", "rev", "if_match", "expected_version", "expected_etag"}
)


def look(case: Case) -> Looked:
    """Return what shows in `case` of writes that undo, repeat or overtake each other."""
    unseen = [rule.name for rule in RULES if not case.shown(*map(Facet, rule.needs))]
    if case.calls and all(call.access is Access.UNKNOWN for call in case.calls):
        unseen += [r.name for r in RULES[:-1] if r.name not in unseen]
    symptoms = list(_refused(case))
    if case.calls:
        calls = _in_order(case)
        looks = (_twice(case, calls), _same_field(case, calls), _among_actors(case, calls))
        for found in looks:
            symptoms += islice(found, PER_RULE_MAX)
        symptoms += islice(_old_versions(calls), PER_RULE_MAX)
    symptoms = [one for one in symptoms if one.rule not in unseen]
    judged = {rule.name for rule in RULES[:-1]} - set(unseen)
    return Looked(
        symptoms=tuple(sorted(symptoms, key=lambda one: (one.steps[:1], one.rule))),
        unseen=tuple(rule.name for rule in RULES if rule.name in unseen),
        observable=bool(judged or symptoms),
    )


def _in_order(case: Case) -> list[CaseCall]:
    """Return the calls in the order in which they began."""
    timed = all(call.began_at is not None for call in case.calls)
    return sorted(
        case.calls, key=lambda call: ((call.began_at or 0.0) if timed else 0.0, call.step)
    )


def _refused(case: Case) -> Iterator[Symptom]:
    for call in case.calls:
        words = call.error or call.result or ""
        if call.rule.startswith("conflicts."):
            evidence = quoted(f"{call.name}: {call.rule}: {words}")
        elif (
            call.rule
            or call.access is Access.READ
            or call.status not in _HELD
            or not _REFUSALS.search(words[:1_000])
        ):
            continue
        else:
            evidence = quoted(f"{call.name}: {words}")
        yield Symptom(rule=REFUSED.name, steps=(call.step,), evidence=evidence, sign=Sign.FIRED)
    for act in case.acts:
        if act.rule.startswith("conflicts."):
            evidence = quoted(f"{act.rule}: {act.quote}")
            yield Symptom(rule=REFUSED.name, steps=(act.step,), evidence=evidence, sign=Sign.FIRED)


def _succeeded(call: CaseCall) -> bool:
    if call.status is CallStatus.UNKNOWN:
        return call.result is not None
    return call.status is CallStatus.OK


def _keys(call: CaseCall, *modes: str) -> list[str]:
    return [touch.key for touch in call.touches if touch.mode in modes][:KEYS_MAX]


def _beside(one: CaseCall, other: CaseCall) -> bool:
    """Whether two calls ran at the same time; what they did to each other is parallelism's."""
    if None in (one.began_at, other.began_at, one.took_s, other.took_s):
        return one.batch >= 0 and one.batch == other.batch
    assert one.began_at is not None and other.began_at is not None  # noqa: S101, PT018  see above
    ends = one.began_at + (one.took_s or 0.0), other.began_at + (other.took_s or 0.0)
    return min(ends) - max(one.began_at, other.began_at) > SLACK_S


_Name = tuple[str, str]


class _Done:
    """The writes that stand: that succeeded, and were not taken back or looked at in vain."""

    def __init__(self) -> None:
        self._calls: dict[_Name, CaseCall] = {}
        self._by_key: dict[str, dict[_Name, None]] = defaultdict(dict)
        # Of those that name nothing: what is said or bought stays so, the rest may not.
        self._passing: dict[str, set[_Name]] = defaultdict(set)
        self._seen: dict[str, str] = {}

    def before(self, name: _Name) -> CaseCall | None:
        """Return the same write, if it was made before and still stands."""
        return self._calls.get(name)

    def add(self, name: _Name, call: CaseCall) -> None:
        """Take note of a write, and of those that it may have taken back."""
        keys = _changed_keys(call)
        if name not in self._calls:
            if not keys and _UNDOING & set(_words(call.name)):
                self._calls.clear()
            for key in keys:
                self._drop(
                    one
                    for one in self._by_key[key]
                    if one in self._calls and _may_undo(call, self._calls[one])
                )
            for tool in [tool for tool in self._passing if tool != call.name]:
                self._drop(self._passing.pop(tool))
        self._calls[name] = call
        for key in keys:
            self._by_key[key][name] = None
            if len(self._by_key[key]) > STAND_MAX:
                self._drop([next(iter(self._by_key[key]))])
        if not keys and not _LASTING & set(_words(call.name)):
            self._passing[call.name].add(name)

    def look(self, read: CaseCall) -> None:
        """Let go of the writes of which a read shows nothing: to make them again is right."""
        if read.status is CallStatus.FAILED:
            return
        for key in _changed_keys(read):
            was, now = self._seen.get(key, ""), read.result or ""
            self._drop(
                one
                for one in self._by_key.get(key, ())
                if one in self._calls and not _in_place(self._calls[one], key, now, was)
            )
            self._seen[key] = now

    def _drop(self, names: Iterable[_Name]) -> None:
        for name in list(names):
            call = self._calls.pop(name, None)
            for key in _changed_keys(call) if call else ():
                self._by_key[key].pop(name, None)


def _changed_keys(call: CaseCall) -> list[str]:
    return [touch.key for touch in call.touches if touch.mode != "peek"][:KEYS_MAX]


def _twice(case: Case, calls: list[CaseCall]) -> Iterator[Symptom]:
    """Yield writes that had succeeded with the same arguments before, with no reason between."""
    asked = _asked(case)
    harmless = {name for name, rule in (case.rules or {}).items() if rule.idempotent}
    done = _Done()
    for call in calls:
        if call.access is not Access.WRITE:
            done.look(call)
            continue
        if not _succeeded(call) or not call.arguments:
            continue
        name = (call.name, _canonical(call.arguments))
        before = done.before(name)
        done.add(name, call)
        if before is None or call.name in harmless or _once(call.arguments):
            continue
        if _COUNTING & set(_words(call.name)) and before.result != call.result:
            continue  # one more each time
        side = _beside(before, call) and _keys(call, "write", "exclusive")
        if side and not _LASTING & set(_words(call.name)):
            continue  # to set the same twice does no harm but that of running side by side
        if not _wanted_again(asked, before, call):
            yield Symptom(
                rule=TWICE.name,
                steps=(call.step, before.step) if before.step != call.step else (call.step,),
                evidence=quoted(f"{_spelled(call)} succeeded, and again: {call.result or ''}"),
            )


def _may_undo(call: CaseCall, before: CaseCall) -> bool:
    """Whether a write may have taken back an earlier one, so that this may be made again."""
    words = set(_words(call.name)) | set(_words(before.name))
    if call.name == before.name or _UNDOING & words:
        return True
    mine, other = call.arguments or {}, before.arguments or {}
    return any(name in mine and mine[name] != value for name, value in other.items())


def _in_place(write: CaseCall, key: str, result: str, was: str) -> bool:
    """Whether a read shows what was written, and did not before."""
    values = [
        str(value).casefold()
        for value in (write.arguments or {}).values()
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value) not in key
    ]
    now, then = result[:RESULT_CHARS_MAX].casefold(), was[:RESULT_CHARS_MAX].casefold()
    return any(_holds(now, value) and not _holds(then, value) for value in values if value)


def _holds(text: str, value: str) -> bool:
    at = text.find(value)
    while at >= 0:
        end = at + len(value)
        if not (text[at - 1 : at].isalnum() or text[end : end + 1].isalnum()):
            return True
        at = text.find(value, at + 1)
    return False


def _asked(case: Case) -> dict[int, str]:
    """Return what users said, by turn."""
    said: dict[int, str] = defaultdict(str)
    for text in case.texts:
        if text.role == "user":
            said[text.turn] += f"\n{text.text}"
    return said


def _wanted_again(asked: Mapping[int, str], before: CaseCall, call: CaseCall) -> bool:
    """Whether a user, having spoken since, may have wanted the same once more."""
    said = " ".join(asked.get(turn, "") for turn in range(before.turn + 1, call.turn + 1))
    if not said:
        return False
    if _AGAIN.search(said) or not _keys(call, "write", "exclusive"):
        return True
    verb = _verb(call)
    named = any(key.partition("/")[2] in said for key in _keys(call, "write", "exclusive"))
    return named or (len(verb) > 2 and verb[: max(4, len(verb) - 2)] in said.casefold())  # noqa: PLR2004


def _once(arguments: Mapping[str, Any]) -> bool:
    """Whether a call says by a key of its own that it is to happen once."""
    return any(_ONCE & set(_words(name)) for name in arguments)


def _canonical(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments, sort_keys=True, default=repr)


def _verb(call: CaseCall) -> str:
    return call.verb or (_words(call.name) or [""])[0]


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", _CAMEL.sub("_", name[:200]).lower())


def _same_field(case: Case, calls: list[CaseCall]) -> Iterator[Symptom]:
    """Yield writes of a field that the write before, in the same turn, had set otherwise."""
    asked = _asked(case)
    last: dict[str, dict[str, tuple[int, CaseCall]]] = defaultdict(dict)
    for place, call in enumerate(calls):
        if call.access is Access.READ:
            for key in _keys(call, "read"):
                last.pop(key, None)
        if call.access is not Access.WRITE or not _succeeded(call) or not call.arguments:
            continue
        if _verb(call) in _ADDING:
            continue
        for key in _keys(call, "write"):
            if key.startswith("file/"):
                continue  # of which another part is written each time
            at, before = last[key].get(call.name, (place, call))
            last[key][call.name] = (place, call)
            apart = before.turn == call.turn and not _beside(before, call)
            # Who writes over another's value is among `_among_actors`.
            if before is call or not apart or before.actor != call.actor:
                continue
            was = before.arguments or {}
            field = _changed(was, call.arguments, near=place - at == 1)
            field = "" if _is_a_step(call, field) else field
            said = asked.get(call.turn, "")
            if field and not _in_turns(said, was[field], call.arguments[field]):
                values = f"{was[field]!r}"[:80], f"{call.arguments[field]!r}"[:80]
                yield Symptom(
                    rule=SAME_FIELD.name,
                    steps=(call.step, before.step),
                    evidence=quoted(f"{call.name} of {key}: {field} {values[0]}, then {values[1]}"),
                )
                break


def _is_a_step(call: CaseCall, field: str) -> bool:
    """Whether a field says by how much, so that two values add up."""
    return _verb(call) in _STEPWISE and not _STEPS.isdisjoint({field, *_words(field)[-1:]})


def _in_turns(said: str, one: object, other: object) -> bool:
    """Whether a user wanted a field to be one thing first, and then another."""
    if not _THEN.search(said):
        return False
    low = said.casefold()
    named = all(str(value).casefold() in low for value in (one, other))
    return named or (isinstance(one, bool) and isinstance(other, bool))


def _changed(before: Mapping[str, Any], after: Mapping[str, Any], *, near: bool) -> str:
    """Return the field to which two calls give different values, or nothing."""
    differing = [name for name in after if name in before and before[name] != after[name]]
    if before.keys() != after.keys() and not differing:
        return ""
    fields = []
    alone = len(after) <= 2  # noqa: PLR2004  what is written, and what is written there
    for name in differing:
        words = _words(name)
        used = words and _USED & set(words)
        if words and not used and not alone and (words[-1] in _PARTS or name in _PARTS):
            return ""  # another part of the resource
        long = any(_long(value) for value in (before[name], after[name]))
        moving = not near and {words[-1], name} & _MOVING if words else True
        prose = {words[-1], name} & _PROSE if words else False
        short = near and all(len(str(value)) <= NOTE_CHARS for value in (before[name], after[name]))
        if not long and not moving and (short or not prose):
            fields.append(name)
    return fields[0] if fields else ""


def _long(value: object) -> bool:
    return isinstance(value, str) and (len(value) > WORDS_CHARS_MAX or "\n" in value)


def _among_actors(case: Case, calls: list[CaseCall]) -> Iterator[Symptom]:
    """Yield writes to what another actor had written, not handed over and not read since."""
    wrote: dict[str, CaseCall] = {}
    read: dict[tuple[str, str], CaseCall] = {}
    hands = _Hands(case)
    for call in calls:
        if not call.actor or call.status in _HELD:
            continue
        if call.access is Access.READ:
            read.update(((call.actor, key), call) for key in _keys(call, *_READ_MODES))
        if call.access is not Access.WRITE or not _succeeded(call):
            continue
        for key in _keys(call, "write", "append"):
            before = wrote.get(key)
            adds = key not in _keys(call, "write")
            if not adds:
                wrote[key] = call
            seen = read.get((call.actor, key))
            read[call.actor, key] = call
            if before is None or before.actor == call.actor or (seen is None and adds):
                continue
            fresh = seen is not None and _later(seen, before)
            if not fresh and not _beside(before, call) and not hands.over(before, call):
                yield _taken(key, before, call, seen)


def _taken(key: str, before: CaseCall, call: CaseCall, seen: CaseCall | None) -> Symptom:
    how = "with no hand-over between" if seen is None else f"as {seen.name} had shown it before"
    return Symptom(
        rule=(TWO_ACTORS if seen is None else STALE).name,
        steps=(call.step, before.step),
        evidence=quoted(
            f"{before.actor} wrote {key} by {before.name}, then {call.actor} by {_spelled(call)}, "
            f"{how}"
        ),
    )


def _later(read: CaseCall, write: CaseCall) -> bool:
    """Whether a read began after a write."""
    if read.began_at is not None and write.began_at is not None:
        return read.began_at >= write.began_at
    return read.step > write.step


class _Hands:
    """Who handed work to whom."""

    def __init__(self, case: Case) -> None:
        self._texts: list[CaseText] = sorted(case.texts, key=lambda text: text.step)
        self._steps = [text.step for text in self._texts]
        self._calls = {call.step: call for call in case.calls}

    def over(self, before: CaseCall, call: CaseCall) -> bool:
        """Whether something between two calls may have handed the resource over."""
        parent = self._calls.get(call.parent) if call.parent is not None else None
        if parent is not None and parent.actor == before.actor:
            return True
        first, last = sorted((before.step, call.step))
        if last - first > BETWEEN_MAX:
            return True  # too far apart to say what came of it
        between = (self._calls.get(step) for step in range(first + 1, last))
        if any(one is not None and _HANDING.search(one.name[:200]) for one in between):
            return True
        texts = self._texts[bisect_right(self._steps, first) : bisect_left(self._steps, last)]
        return any(_hands(text, call.actor) for text in texts)


def _hands(text: CaseText, actor: str) -> bool:
    words = text.text[:TEXT_CHARS_MAX]
    named = actor.casefold() in words.casefold() or _HANDING.search(words) is not None
    return named or (text.role == "other" and text.actor != actor)


def _old_versions(calls: list[CaseCall]) -> Iterator[Symptom]:
    """Yield writes that name a version which was not the latest one shown."""
    shown: dict[str, list[str]] = defaultdict(list)
    for call in calls:
        keys = _keys(call, *_READ_MODES)
        if call.access is Access.WRITE and _succeeded(call):
            named = {n: str(v) for n, v in (call.arguments or {}).items() if n.lower() in _VERSIONS}
            for key in keys:
                seen = shown[key]
                old = [n for n, v in named.items() if v in seen and v != seen[-1]]
                if old:
                    yield Symptom(
                        rule=STALE.name,
                        steps=(call.step,),
                        evidence=quoted(
                            f"{_spelled(call)} names {old[0]} {named[old[0]]} of {key}; the latest "
                            f"shown before was {seen[-1]}"
                        ),
                    )
                    break
        if call.status not in _HELD and call.result:
            for key in keys:
                shown[key] += _versions_in(call.result)


def _versions_in(result: str) -> list[str]:
    if result.lstrip()[:1] != "{" or len(result) > 1_000_000:  # noqa: PLR2004  no record is larger
        return []
    try:
        data = json.loads(result)
    except (ValueError, RecursionError):
        return []
    if not isinstance(data, dict):
        return []
    return [str(v) for n, v in data.items() if n.lower() in _VERSIONS and isinstance(v, str | int)][
        :1
    ]


def _spelled(call: CaseCall) -> str:
    arguments = ", ".join(
        f"{name}={value!r}"[:60] for name, value in (call.arguments or {}).items()
    )
    return f"{call.name}({arguments[:120]})"

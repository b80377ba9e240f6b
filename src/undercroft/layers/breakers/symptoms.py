"""Symptoms: how it shows in a finished run that its calls had no budget and no exit.

Keeps: a call comes *after* another only where it was asked for once the other's result was there;
what a batch holds was asked for at once, and nobody could have known better.
Something *changed* with a write that may have happened, a new word of the user, a wait, a new
login. A failure that a retry mended was transient, whatever it said. What was looked up under
another name each time is searching, and what is corrected each time is learning: neither is a
failure *in a row*, unless the service itself is away.
Leaves to `endings.py` how a run ended, and to whoever reads the trace which calls read, which
write, and what their errors mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile

from undercroft.layers.breakers.endings import endings
from undercroft.layers.breakers.foreign import asked_wait_s, guards
from undercroft.model.case import Access, CallStatus, Case, CaseCall, Facet
from undercroft.model.symptom import Looked, Rule, Symptom, quoted

# Attempts at one call that a transient error is worth: what `uc.Retry` makes by itself.
TRIES_MAX = 3
# Failures in a row after which a service is to be left alone.
ROW_MAX = 3
# The same, where arguments are corrected, or where nobody knows what the call does.
LEARNING_MAX = 5
# Stands for all tools, where the service that they call is away.
_SERVICE = ""
# Calls in a cycle, and how often it is made before it is one.
CYCLE_MAX = 4
CYCLES_MAX = 3
# The same one call so often: before, it is something that was read again.
REPEATS_MAX = 5
# Whoever asks for the same and gets "not yet" is polling; so often without a wait is too often.
POLLS_MAX = 12
# A wait between two attempts that was meant as one.
WAITED_S = 0.5
# A wait between two calls that no model takes to answer.
PAUSE_S = 10.0
_CAUSE_CHARS = 160
_KEY_CHARS_MAX = 20_000
# A result that says no more than how far something is.
_SHORT_CHARS = 300

REPEATED = Rule(
    name="breakers.repeat_after_failure",
    says="A call that had failed was made again, identical, with nothing changed between.",
    would=(
        "Undercroft would have refused the second call (`breakers.repeat`) and told the model what "
        "the first came to, so that it does something else; after two more the turn ends."
    ),
    lines='rt = uc.Runtime("undercroft.db", loops=uc.LoopPolicy(repeats_max=1))',
    needs=("calls", "arguments", "results"),
)
ROW = Rule(
    name="breakers.failures_in_row",
    says="Three calls in a row failed for the same cause, and the run went on calling.",
    would=(
        "Undercroft would have opened the breaker of the service at the third failure: the next "
        "call comes back at once as a refusal (`breakers.open`), and the tool is no longer offered."
    ),
    lines=(
        "breaker = uc.BreakerPolicy(failures_max=3, open_s=30)\n"
        'shop = uc.Service("shop", breaker=breaker)\n'
        'rt = uc.Runtime("undercroft.db", services=[shop])'
    ),
    needs=("calls", "results"),
)
HOPELESS = Rule(
    name="breakers.retried_permanent",
    says="A call was repeated after an error that no retry mends.",
    would=(
        "Undercroft would have classed the error as permanent and made no second attempt, and "
        "refused the call when the model asked for it again (`breakers.repeat`)."
    ),
    lines='rt = uc.Runtime("undercroft.db", loops=uc.LoopPolicy(repeats_max=1))',
    needs=("calls", "arguments", "results"),
)
BLIND = Rule(
    name="breakers.blind_rewrite",
    says="A write of which nobody knew whether it had happened was made again, unchecked.",
    would=(
        "Undercroft would have held the second write: the first is settled by `verify=`, else "
        "repeated under its idempotency key, else the turn stops in doubt and a person decides."
    ),
    lines=(
        '@uc.tool(reads="order/{order_id}")\n'
        "async def get_order(order_id: str) -> str:\n"
        '    """Look up an order."""\n'
        "    return order_id\n\n\n"
        '@uc.tool(writes="order/{order_id}", verify=get_order)\n'
        "async def cancel_order(order_id: str, *, key: uc.IdempotencyKey) -> str:\n"
        '    """Cancel an order."""\n'
        "    return key"
    ),
    needs=("calls", "arguments", "results"),
)
NO_END = Rule(
    name="breakers.no_end_state",
    says="The run stopped in the middle: on a failure, without an answer, or at a limit.",
    would=(
        "Undercroft would have ended the turn with a typed outcome, `degraded` or `failed`, that "
        "names what is missing, so that the user is told so."
    ),
    lines=(
        "budgets = uc.Budgets(turn=uc.Budget(attempts=40))\n"
        'rt = uc.Runtime("undercroft.db", budgets=budgets, turn_timeout_s=300)'
    ),
    needs=("calls",),
)
CYCLE = Rule(
    name="breakers.cycle",
    says="The same few calls came to the same results again and again.",
    would=(
        "Undercroft would have refused the call that goes on with it (`breakers.cycle`), told the "
        "model to do something that was not tried yet, and ended the turn had it gone on."
    ),
    lines=(
        "loops = uc.LoopPolicy(repeats_max=2, cycles_max=2)\n"
        'rt = uc.Runtime("undercroft.db", loops=loops)'
    ),
    needs=("calls", "arguments", "results"),
)
GUARD = Rule(
    name="breakers.guard",
    says="A breaker, budget, limit or loop guard of the recorded system held a call back.",
    would="Undercroft would have done the same.",
    lines="",
    needs=("calls",),
)
RULES: tuple[Rule, ...] = (REPEATED, ROW, HOPELESS, BLIND, NO_END, CYCLE, GUARD)

_DIGITS = re.compile(r"\d+")
# An error that says nothing but that there was one: nobody can learn from it.
_BLANK_WORDS = frozenset(
    {"a", "an", "the", "error", "errors", "failed", "failure", "exception", "internal", "server"}
    | {"unexpected", "unknown", "something", "went", "wrong", "occurred", "has", "code", "status"}
    | {"system", "service", "tool", "call", "execution", "request", "operation", "runtime", "e"}
    | {"oops", "sorry", "fatal", "backend", "upstream", "unavailable", "api", "http", "command"}
)
_WORDS = re.compile(r"[^\W\d_]+")
_AWAY = frozenset({"transient", "overloaded"})
# What a write leaves open that ended so: it may have happened.
_OPEN = re.compile(
    r"time[d -]{0,2}out|deadline.exceeded|broken pipe|no (?:response|reply)|unexpected eof"
    r"|end of stream|(?:lost|dropped|closed) (?:the |its )?connection|hang up|hung up"
    r"|did(?: not|n't) (?:respond|answer|reply)|waiting for (?:the |a )?(?:response|reply|answer)"
    r"|connection (?:was |has been )?(?:reset|lost|closed|aborted|dropped|interrupted)"
    r"|\b(?:http|status|error|code)\W{0,3}50[024]\b|\A\W{0,3}50[024]\b|internal server error"
    r"|bad gateway|gateway time|(?:unknown|uncertain) (?:outcome|whether)|outcome (?:is )?unknown"
    r"|econnreset|etimedout|remote ?disconnected",
    re.IGNORECASE,
)
# What did not get as far as to happen.
_UNSENT = re.compile(
    r"connect(?:ion)? ?time|refused|rate.?limit|too many requests|unavailable|\b(?:429|503)\b"
    r"|temporar|try again|busy|queue|lock|acquir"
    r"|rolled back|not (?:been )?(?:applied|sent|started|charged|created)",
    re.IGNORECASE,
)
# How a result begins that says that something was done.
_RECEIPT = re.compile(
    r"\W{0,4}(?:ok|done|success|saved|updated|created|sent|moved|deleted)\b"
    r'|\{.{0,200}"(?:success|ok|saved|updated|created|deleted|done|changed|sent|moved)"\s{0,3}:'
    r'|\{.{0,200}"(?:status|result|state)"\s{0,3}:\s{0,3}"(?:success|ok\b|done|updated|created)',
    re.IGNORECASE | re.DOTALL,
)
_KEYS = re.compile(r"idempot|request_?id|client_?(?:token|ref|request)|dedup|nonce", re.IGNORECASE)
# Whoever runs code meets the same kind of error on the way.
_RUNS = re.compile(r"run|exec|code|shell|bash|python|command|script|test|build", re.IGNORECASE)
_LOGIN = re.compile(
    r"(?:\b|_)(?:log_?in|login|sign_?in|auth(?:enticate|orize)?|refresh|connect|reconnect|reset"
    r"|restart|install|wait|sleep|pause)",
    re.IGNORECASE,
)
_UNDERWAY = re.compile(
    r"\b(?:pending|running|in[ _-]?progress|queued|processing|scheduled|waiting|not (?:yet )?"
    r"(?:ready|done|finished)|starting|building|uploading|syncing)\b"
    r'|"(?:state|status|phase|stage)"\s{0,3}:\s{0,3}"\w{2,20}ing"',
    re.IGNORECASE,
)
# Whoever has no name of its own.
_NOBODY = frozenset({"", "assistant"})


def look(case: Case) -> Looked:
    """Return what shows of breakers, retries and exits in a run."""
    unseen = tuple(r.name for r in RULES if not case.shown(*(Facet(need) for need in r.needs)))
    if len(unseen) == len(RULES):
        # A run that says what ended it, and shows no call, still has no end state.
        ends = tuple(_ends(case, ()))
        return Looked(ends, unseen, observable=bool(ends))
    calls = in_order(case.calls)
    found = [*guards(case, calls, GUARD.name), *_ends(case, calls)]
    if REPEATED.name not in unseen:
        found += _repeats(calls)
        found += _cycles(calls, {s for f in found if f.rule == REPEATED.name for s in f.steps})
    if ROW.name not in unseen:
        found += _rows(calls)
    # `sorted` keeps the order of equal ones.
    return Looked(tuple(sorted(found, key=lambda one: one.steps[:1])), unseen)


def in_order(calls: Sequence[CaseCall]) -> list[CaseCall]:
    """Return calls as they began, where all say when; else as they stand in the record."""
    if any(call.began_at is None for call in calls):
        return list(calls)
    return sorted(calls, key=lambda call: (call.began_at or 0.0, call.step))


def _key(call: CaseCall) -> str | None:
    """Return what equal calls have in common; None where nothing can be said."""
    if call.arguments is None:
        return f"{call.name}\0{call.raw[:_KEY_CHARS_MAX]}" if call.raw else None
    try:
        text = json.dumps(call.arguments, sort_keys=True, default=str, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError):
        return None
    return f"{call.name}\0{text}"


def _known_before(first: CaseCall, then: CaseCall) -> bool:
    """Say whether a call's end was known to whoever asked for another, when asking."""
    if first.batch >= 0 and first.batch == then.batch:
        return False
    if first.actor != then.actor and {first.actor, then.actor}.isdisjoint(_NOBODY):
        return False
    if first.began_at is not None and then.began_at is not None and first.took_s is not None:
        return first.began_at + max(0.0, first.took_s) <= then.began_at + 1e-3
    ended = first.step if first.ended is None else first.ended
    return first.step < then.step and ended <= then.step


def _waited_s(first: CaseCall, then: CaseCall) -> float | None:
    """Return the time between the end of a call and the next; None where it is not shown."""
    if first.began_at is None or then.began_at is None:
        return None
    return then.began_at - first.began_at - max(0.0, first.took_s or 0.0)


def _failed(call: CaseCall) -> bool:
    return call.status is CallStatus.FAILED


def _error(call: CaseCall) -> str:
    return call.error or call.result or ""


def _is_away(call: CaseCall) -> bool:
    """Say whether a call failed for the moment, or for nothing that it was given."""
    if call.error_class in _AWAY:
        return True
    words = set(_WORDS.findall(_error(call)[:_CAUSE_CHARS].casefold()))
    return call.error_class != "permanent" and bool(words) and words <= _BLANK_WORDS


def _cause(call: CaseCall) -> str:
    """Return what failures of one cause have in common."""
    if _is_away(call):
        return "away"
    return _DIGITS.sub("0", " ".join(_error(call)[:_CAUSE_CHARS].casefold().split()))


def _changes(call: CaseCall) -> bool:
    """Say whether a call may have changed what the next one meets."""
    if _LOGIN.search(call.name[:80]):
        return True
    if call.access in {Access.READ, Access.NEITHER}:
        return False
    if call.status is CallStatus.REFUSED:
        return False
    return not _failed(call) or _is_open(call)


def _is_open(call: CaseCall) -> bool:
    """Say whether nobody can know if a failed write did what it should."""
    return call.access is Access.WRITE and _may_be_open(call)


def _may_be_open(call: CaseCall) -> bool:
    """Say whether nobody can know if a failed call did what it should, if that is a write."""
    text = _error(call)[:500]
    if call.access in {Access.READ, Access.NEITHER} or not _failed(call) or _UNSENT.search(text):
        return False
    # Transient, and not turned away: it broke off in the middle, in whatever words.
    return _OPEN.search(text) is not None or call.error_class == "transient"


def _quote(*calls: CaseCall) -> str:
    """Return what calls were and came to, as evidence."""
    parts = []
    for call in calls:
        given = call.raw or json.dumps(call.arguments or {}, default=str)[:120]
        parts.append(f"{call.name}({given[:120]}) → {_error(call)[:160] or call.status}")
    return quoted("; then ".join(parts))


# ---------------------------------------------------------------------- the same call again


def _repeats(calls: Sequence[CaseCall]) -> Iterator[Symptom]:
    """Find identical calls after a failure."""
    # By call, the places of its failures since anything changed, and what had changed by then.
    tried: dict[str, list[int]] = {}
    since: dict[str, tuple[int, int]] = {}
    told: set[str] = set()
    changes = 0
    for place, call in enumerate(calls):
        key = _key(call)
        if key is None:
            changes += _changes(call)
            continue
        if key in tried and since[key] != (changes, call.turn):
            del tried[key]
            told.discard(key)
        before = [calls[one] for one in tried.get(key, ())]
        if before and key not in told and _known_before(before[-1], call):
            between = calls[tried[key][-1] + 1 : place]
            rule = _judged(before, call, between)
            if rule is not None:
                told.add(key)
                steps = (call.step, *(one.step for one in before))
                yield Symptom(rule=rule.name, steps=steps, evidence=_quote(before[-1], call))
        # A write that is open is no reason to make the same one again.
        changes += _changes(call) and not _is_open(call)
        if _failed(call):
            tried.setdefault(key, []).append(place)
            since[key] = (changes, call.turn)
        else:
            tried.pop(key, None)


def _judged(before: Sequence[CaseCall], call: CaseCall, between: Sequence[CaseCall]) -> Rule | None:
    """Return the rule that a call breaks which failed before, or None."""
    last = before[-1]
    if _is_open(last) or (_may_be_open(last) and _RECEIPT.match((call.result or "")[:400])):
        return None if _is_checked(last, between) or _has_key(last, call) else BLIND
    if not _failed(call):
        # It went well this time, or nobody knows: then something had changed by itself.
        return None
    if last.error_class in _AWAY or call.error_class in _AWAY:
        return REPEATED if _too_soon(before, call) else None
    return HOPELESS if last.error_class == "permanent" else REPEATED


def _too_soon(before: Sequence[CaseCall], call: CaseCall) -> bool:
    """Say whether a transient failure was retried more often, or sooner, than makes sense."""
    if len(before) >= TRIES_MAX:
        return True
    waited = _waited_s(before[-1], call)
    if waited is None:
        return False
    asked = asked_wait_s(_error(before[-1]))
    return waited < 0.8 * asked if asked else len(before) > 1 and waited < WAITED_S


def _has_key(last: CaseCall, call: CaseCall) -> bool:
    """Say whether a write was repeated under the key of the first."""
    keys = [name for name in call.arguments or {} if _KEYS.search(str(name)[:80])]
    return any((last.arguments or {}).get(name) == (call.arguments or {})[name] for name in keys)


def _is_checked(last: CaseCall, between: Sequence[CaseCall]) -> bool:
    """Say whether somebody looked at what an open write did before it was repeated."""
    keys = {touch.key for touch in last.touches}
    for one in between:
        if one.access is Access.READ and one.status is CallStatus.OK:
            seen = {touch.key for touch in one.touches}
            if not keys or not seen or any(_meet(a, b) for a in keys for b in seen):
                return True
    return False


def _meet(one: str, other: str) -> bool:
    """Say whether two keys name a resource and a part of it, or the same."""
    first, second = one.split("/"), other.split("/")
    size = min(len(first), len(second))
    return first[:size] == second[:size]


# ---------------------------------------------------------------------- failures in a row


def _rows(calls: Sequence[CaseCall]) -> Iterator[Symptom]:
    """Find failures in a row: of one tool, and of all that was called while a service was away.

    Calls of other tools between do not mend a tool, nor do words of the user.
    """
    rows: dict[str, list[CaseCall]] = {}
    told: set[str] = set()
    for call in calls:
        if call.status not in {CallStatus.OK, CallStatus.FAILED}:
            continue
        for name in (call.name, _SERVICE):
            row = rows.setdefault(name, [])
            away = _is_away(call)
            if not _failed(call) or (name == _SERVICE and not away):
                row.clear()
                told.discard(name)
                continue
            if row and not _known_before(row[-1], call):
                continue  # asked for at once: nobody could have known
            row.append(call)
            one = name == _SERVICE and len({other.name for other in row[-ROW_MAX:]}) == 1
            steps = () if one or name in told else _too_many(row)
            if steps:
                told.add(name)
                yield Symptom(rule=ROW.name, steps=steps, evidence=_quote(*row[-ROW_MAX:]))


def _too_many(row: Sequence[CaseCall]) -> tuple[int, ...]:
    """Return the steps of the failures that are too many, the last first; empty where none are."""
    last = row[-1]
    cause = _cause(last)
    alike = list(takewhile(lambda call: _cause(call) == cause, reversed(row)))
    if not _is_away(last):
        # Of another thing the answer may be no as well; that is nobody's failure.
        row = [call for call in row if _is_of_same(call, last)]
        alike = [call for call in alike if _is_of_same(call, last)]
    if _is_away(last) or len({_key(call) for call in alike}) == 1:
        enough = len(alike) >= ROW_MAX
    elif last.error_class in {"permanent", "unknown"} and not _RUNS.search(last.name[:80]):
        # The same complaint each time, whatever it was given: nothing is learned from it.
        enough = len(alike) >= ROW_MAX
    elif last.access is Access.WRITE:
        # Arguments that are corrected meet another complaint each time; but not for ever.
        enough = len(alike) >= ROW_MAX or len(row) >= LEARNING_MAX
    else:
        # Looked for under one name after the other: that is what looking for is.
        looks = last.access is Access.READ and last.error_class in {"domain", "", "unknown"}
        enough = not looks and len(alike) >= LEARNING_MAX
    if not enough:
        return ()
    shown = alike if len(alike) >= ROW_MAX else list(reversed(row))
    return (shown[0].step, *(call.step for call in reversed(shown[1:])))


def _is_of_same(call: CaseCall, last: CaseCall) -> bool:
    """Say whether two calls of one tool are about the same thing."""
    if call is last or _key(call) == _key(last):
        return True
    keys = {touch.key for touch in last.touches}
    if keys and any(touch.key in keys for touch in call.touches):
        return True
    given, also = call.arguments or {}, last.arguments or {}
    equal = sum(name in also and bool(also[name] == value) for name, value in given.items())
    return 2 * equal >= max(len(given), len(also), 1)


def _ends(case: Case, calls: Sequence[CaseCall]) -> Iterator[Symptom]:
    """Find what shows that a run had no end."""
    for one in endings(case, calls):
        words = quoted(one.words) if one.call is None else _quote(one.call)
        yield Symptom(rule=NO_END.name, steps=tuple(dict.fromkeys(one.steps)), evidence=words)


# ---------------------------------------------------------------------- cycles


def _cycles(calls: Sequence[CaseCall], told: set[int]) -> Iterator[Symptom]:
    """Find the same few calls with the same results, over and over."""
    ends: list[tuple[str, str, int] | None] = []
    for call in calls:
        key = _key(call)
        known = key is not None and call.result is not None
        ends.append((key or "", (call.result or "")[:4_000], call.turn) if known else None)
    # By period, how many calls in a row were as the one that long before.
    runs = [0] * (CYCLE_MAX + 1)
    quiet = 0
    for at, end in enumerate(ends):
        for period in range(1, CYCLE_MAX + 1):
            before = ends[at - period] if at >= period else None
            alike = (
                end is not None and end == before and _known_before(calls[at - period], calls[at])
            )
            runs[period] = runs[period] + 1 if alike else 0
        period = next((p for p in range(2, CYCLE_MAX + 1) if runs[p] >= p * (CYCLES_MAX - 1)), 0)
        if runs[1]:
            period = 1 if runs[1] >= REPEATS_MAX - 1 else 0
        if not period or at < quiet:
            continue
        ring = calls[at - (REPEATS_MAX if period == 1 else CYCLES_MAX * period) + 1 : at + 1]
        if any(one.step in told for one in ring) or not _says_nothing_new(ring[-period:]):
            continue
        if _is_polling(calls, at, runs[period], period):
            continue
        quiet = at + CYCLES_MAX * period
        steps = (calls[at].step, *(one.step for one in ring[:-1]))
        yield Symptom(rule=CYCLE.name, steps=steps, evidence=_quote(*ring[-period:]))


def _says_nothing_new(ring: Sequence[CaseCall]) -> bool:
    """Say whether the results of a cycle show that it leads nowhere.

    Whoever scrolls or clicks gets the same "ok" each time and is somewhere else nevertheless.
    """
    if len(ring) == 1:
        looks = ring[0].access is Access.READ
        return not _failed(ring[0]) and (looks or _is_thought(ring[0]))
    return any(one.access is Access.READ for one in ring)


def _is_thought(call: CaseCall) -> bool:
    return call.access is Access.NEITHER and bool(call.arguments)


def _is_polling(calls: Sequence[CaseCall], at: int, run: int, period: int) -> bool:
    """Say whether a cycle waits for something that is under way."""
    ring = calls[at - period + 1 : at + 1]
    if any(_LOGIN.search(one.name[:80]) for one in ring):
        return True
    waits = [_waited_s(one, two) for one, two in pairwise(calls[at - period : at + 1])]
    if any(wait is not None and wait >= PAUSE_S for wait in waits):
        return True
    underway = any(
        one.status is CallStatus.WAITING
        or (len(one.result or "") <= _SHORT_CHARS and _UNDERWAY.search(one.result or ""))
        for one in ring
    )
    return underway and run < POLLS_MAX * period

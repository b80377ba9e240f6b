"""Symptoms: how it shows in a finished run that nobody looked after what the model saw.

Keeps: what was read is read *again* only where the same was asked for in one turn of the user, by
the same actor, with the same result, and nothing was written, failed or was compacted between:
in a later turn it may have changed. A result was *used* cut off only where what it said turns up
in an answer or a write, and nobody fetched the rest.
Leaves to `cut.py` what was cut off, to `reasked.py` questions for what was known, to `gone.py`
what prompts lost.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace

from undercroft.layers.context.compacted import is_summary
from undercroft.layers.context.cut import cut_used
from undercroft.layers.context.gone import gone, unpinned
from undercroft.layers.context.reasked import forgotten, reasked
from undercroft.layers.context.sizes import window_of
from undercroft.model.case import Access, CallStatus, Case, CaseCall, Facet
from undercroft.model.symptom import Looked, Rule, Sign, Symptom, quoted

# Above this share of its size a window is nearly full.
FULL_SHARE = 0.95
# So many times the same in a row is a loop, of which others speak.
LOOP_MIN = 5
_KEY_CHARS_MAX = 20_000
_END_CHARS = 300
_ERROR_CHARS = 2_000
# Whoever has no name of its own.
_NOBODY = frozenset({"", "assistant"})
# So many texts and prompts are read for marks of a compaction.
_MARKS_MAX = 50

_POLICY = (
    "policy = uc.ContextPolicy(limit_tokens=128_000)\n"
    'rt = uc.Runtime("undercroft.db", context=policy)'
)

READ_AGAIN = Rule(
    name="context.read_again",
    says="The same was read again, with the same result and no write between.",
    would=(
        "Undercroft would have kept the first result in the window, or left a tombstone whose "
        "handle fetches it back, so that the model has what it read and need not ask."
    ),
    lines=_POLICY,
    needs=("calls", "arguments", "results"),
)
ASKED_AGAIN = Rule(
    name="context.asked_again",
    says="The user was asked for something that had been given before.",
    would=(
        "Undercroft would have kept what users state in the ledger of the window, in every prompt, "
        "whatever else leaves it: the model would have had the value before it."
    ),
    lines=_POLICY,
    needs=("users",),
)
FULL = Rule(
    name="context.window_full",
    says="The window was nearly full, or a prompt was too large for it.",
    would=(
        "Undercroft would have compacted the window from its high-water mark down to the low one "
        "before the prompt was sent; one that cannot fit is a typed error and is not sent."
    ),
    lines=(
        "policy = uc.ContextPolicy(limit_tokens=128_000, high_share=0.8)\n"
        'rt = uc.Runtime("undercroft.db", context=policy)'
    ),
)
PIN_GONE = Rule(
    name="context.pin_gone",
    says="The system text or the user's request had left a prompt of the same conversation.",
    would=(
        "Undercroft would have put the system text and what is pinned into every prompt, and kept "
        "the newest request until nothing else was left to take."
    ),
    lines=(
        'pins = ("Refunds above 50 need a person.",)\n'
        "policy = uc.ContextPolicy(limit_tokens=128_000, pins=pins)\n"
        'rt = uc.Runtime("undercroft.db", context=policy)'
    ),
    needs=("prompts",),
)
CUT_USED = Rule(
    name="context.cut_result_used",
    says="A result that says it was cut off was used, and nobody fetched the rest.",
    would=(
        "Undercroft would have cut the result by rule, told the model so with a handle, and "
        "offered `recall` to fetch the rest."
    ),
    lines=(
        "policy = uc.ContextPolicy(limit_tokens=128_000, result_max_share=0.5)\n"
        'rt = uc.Runtime("undercroft.db", context=policy)'
    ),
    needs=("calls", "results"),
)
CUT_ANSWER = Rule(
    name="context.cut_answer",
    says="A model's answer was cut off at its limit, in the middle of a call or of the reply.",
    would=(
        "Undercroft would have reserved the room for the answer before the prompt was sent, and "
        "refused the call whose arguments broke off (`sequencing.arguments_not_json`)."
    ),
    lines=(
        "policy = uc.ContextPolicy(limit_tokens=128_000, reserved_tokens=8_000)\n"
        'rt = uc.Runtime("undercroft.db", context=policy)'
    ),
    needs=("prompts",),
)
GUARD = Rule(
    name="context.guard",
    says="The recorded system compacted its window, or refused what did not fit.",
    would="Undercroft would have done the same.",
    lines="",
)
RULES: tuple[Rule, ...] = (
    READ_AGAIN, ASKED_AGAIN, FULL, PIN_GONE, CUT_USED, CUT_ANSWER, GUARD,
)  # fmt: skip

_OVERFLOW = re.compile(
    r"context_length_exceeded|(?:maximum|max) context (?:length|window|size)|prompt is too long"
    r"|input is too long|contextwindowexceeded|contextoverflow"
    r"|context (?:window|length|size|limit)(?: limit| size)? (?:was |is |has been )?"
    r"(?:of [\w ,.-]{1,40} )?(?:exceeded|overflow|full|too)"
    r"|(?:exceed(?:s|ed)?|overflow(?:s|ed)?|larger than|longer than|too (?:long|large|big) for) "
    r"(?:the |its |this )?(?:model'?s? )?(?:maximum |max )?(?:allowed )?(?:context|input) "
    r"(?:length|window|size|limit|tokens?)"
    r"|reduce the length of the (?:messages|prompt)|prompt too (?:large|long)"
    r"|input tokens?[\w ()]{0,30} exceeds? the (?:maximum number of tokens|configured limit|limit)"
    r"|(?:too many|number of) (?:input )?tokens[\w ,()]{0,40}(?:exceed|context|window|maximum)",
    re.IGNORECASE,
)
# A limit on how much a minute, and not on how much at once.
_RATE = re.compile(
    r"per[- ]min|per[- ]day|\b[tr]p[md]\b|rate.?limit|try again in|retry after", re.IGNORECASE
)
_SPOKEN_ERROR = re.compile(
    r"\A\W{0,4}(?:error code: 4|.{0,80}\bcontext_length_exceeded|error: .{0,60}maximum context)",
    re.IGNORECASE,
)
_SPOKEN_CHARS_MAX = 400
_PROVIDER = re.compile(
    r"\A\W{0,4}(?:[\w .]{0,40}(?:error|exception)\b|this model's maximum context length is)"
    r"|\d tokens? > \d|however,? you requested \d|\Arequested tokens"
    r"|\A[^.?!]{0,80}\d{4}[^.?!]{0,80}\.?\Z",
    re.IGNORECASE,
)
_BARE_ERROR_CHARS, _LEAD_CHARS = 120, 30
# Somebody says so of something, and it is no error by itself.
_SPEAKS = re.compile(
    r"\b(?:i|we|he|she|you|your|if|when|because|so|please|was|were|will|would|can|could)\b|\?",
    re.IGNORECASE,
)
_LENGTHS = frozenset(
    {"length", "max_tokens", "max_output_tokens", "maxtokens", "token_limit", "model_length"}
)
_UNDERWAY = re.compile(
    r"\b(?:pending|running|in[ _-]?progress|queued|processing|waiting|not (?:yet )?(?:ready|done)"
    r"|starting|building|uploading|syncing)\b"
    r'|"(?:state|status|phase|stage)"\s{0,3}:\s{0,3}"\w{2,20}ing"',
    re.IGNORECASE,
)
_JOB = re.compile(
    r"progress|percent|%|\beta\b|job|task|operation|build|deploy|import|export|step|\brun(?:_?id)?\b"
    r"|queue|pipeline|workflow|execution|\A\W{0,3}running\W{0,3}\Z",
    re.IGNORECASE,
)
# Whole words of a tool's name: what it returns changes by itself.
# A short result that speaks of a failure is one, whatever the format says.
_FAILS = re.compile(
    r"\berror|exception|\bfail|unavailable|unable|denied|forbidden|timed? ?out|not found|no such"
    r"|\bno \w{1,20} named|refused|unauthori|rate limit|lost connection|cannot",
    re.IGNORECASE,
)
_POLLS = re.compile(
    r"(?:\A|[^A-Za-z]|(?<=[a-z])(?=[A-Z]))"
    r"(?i:poll|wait|progress|heartbeat|ping|next|refresh|tail|clock|now)(?![a-z])"
)
# Calls after which the same may be read again: time has passed, or somebody else goes on.
_PASSES = re.compile(
    r"wait|sleep|pause|delay|transfer_?to|hand_?(?:off|over)|delegat|route_?to|switch_?agent",
    re.IGNORECASE,
)
_DATA_CHARS_MIN = 24
_BARE_CHARS = 40
# Whoever runs something again wants it to happen again.
_RUNS = re.compile(r"run|exec|code|shell|bash|python|command|script|test|build", re.IGNORECASE)
_RECEIPT = re.compile(
    r"\A\W{0,4}(?:ok|done|success|saved|updated|created|sent|moved|deleted|added|clicked|typed|set)\b"
    r'|"(?:success|ok|saved|updated|created|deleted|done|changed|sent|moved)"\s{0,3}:'
    r'|"(?:status|result|state|message)"\s{0,3}:\s{0,3}"(?:success|ok\b|done|updated|created|saved)'
    r"|\b(?:successfully|updated|created|saved|deleted|executed)\b",
    re.IGNORECASE,
)


def look(case: Case) -> Looked:
    """Return what shows of windows, and of what models did not see, in a run."""
    unseen = [r.name for r in RULES if not case.shown(*(Facet(need) for need in r.needs))]
    shows_windows = any(a.window_tokens or a.error for a in case.asks) or bool(case.error)
    shows_texts = bool(case.texts or case.calls)
    if not (shows_windows or shows_texts):
        unseen += [name for name in (FULL.name, GUARD.name) if name not in unseen]
    calls = in_order(case.calls)
    guards = list(_guards(case))
    found = [*guards, *_full(case)]
    if READ_AGAIN.name not in unseen:
        marks = sorted(step for one in guards for step in one.steps)
        found += _read_again(calls, marks)
    if ASKED_AGAIN.name not in unseen:
        found += _asked_again(case)
        found += _forgotten(case)
    if PIN_GONE.name not in unseen:
        found += _pins(case)
    if CUT_USED.name not in unseen:
        found += _cut_used(case, calls)
    if any(ask.stop for ask in case.asks):
        found += _cut_answers(case)
        unseen = [name for name in unseen if name != CUT_ANSWER.name]
    judged = set(unseen) < {rule.name for rule in RULES if rule is not GUARD and rule is not FULL}
    ordered = tuple(sorted(found, key=lambda one: one.steps[:1]))
    return Looked(ordered, tuple(unseen), observable=judged or bool(found))


def in_order(calls: Sequence[CaseCall]) -> list[CaseCall]:
    """Return calls as they began, where all say when; else as they stand in the record."""
    if any(call.began_at is None for call in calls):
        return list(calls)
    return sorted(calls, key=lambda call: (call.began_at or 0.0, call.step))


def _given(call: CaseCall) -> str:
    try:
        return json.dumps(call.arguments or {}, sort_keys=True, default=str)[:_KEY_CHARS_MAX]
    except (TypeError, ValueError, RecursionError):
        return ""


def _ended(call: CaseCall) -> int:
    return call.step if call.ended is None else call.ended


def _known_before(first: CaseCall, then: CaseCall) -> bool:
    """Say whether a call's result was there when another was asked for."""
    if first.batch >= 0 and first.batch == then.batch:
        return False
    if first.began_at is not None and then.began_at is not None and first.took_s is not None:
        return first.began_at + max(0.0, first.took_s) <= then.began_at + 1e-3
    return first.step < then.step and _ended(first) <= then.step


# ---------------------------------------------------------------------- reads


def _read_again(calls: Sequence[CaseCall], marks: Sequence[int]) -> Iterator[Symptom]:
    """Find reads whose result was there."""
    last: dict[str, tuple[CaseCall, int]] = {}
    times: dict[str, int] = {}
    most: dict[str, int] = {}
    told: set[str] = set()
    found: dict[str, Symptom] = {}
    changes = 0
    for place, call in enumerate(calls):
        quiet = call.access in {Access.READ, Access.NEITHER} and call.status is CallStatus.OK
        looks = call.access is Access.READ or _is_data(call)
        before = changes
        if not quiet or _PASSES.search(call.name[:80]):
            # A write; or what nobody knows the effect of; or a failure, which may say: look again.
            changes += 1
        if not looks or call.status is not CallStatus.OK or call.arguments is None:
            continue
        key = f"{call.name}\0{_given(call)}"
        first, then = last.get(key, (None, 0))
        last[key] = (call, changes)
        if first is None or then != before or not _is_same(first, call):
            times[key] = 1
            continue
        times[key] += 1
        most[key] = max(most.get(key, 0), times[key])
        if bisect_right(marks, call.step) > bisect_right(marks, first.step):
            continue
        stutters = _is_bare(call) and calls[place - 1] is first
        later = first.turn != call.turn or stutters
        if not later and key in told:
            continue
        if not later:
            told.add(key)
        words = f"{call.name}({_given(call)[:100]}) again → {(call.result or '')[:80]}"
        one = Symptom(
            rule=READ_AGAIN.name,
            steps=(call.step, first.step),
            evidence=quoted(words),
            sign=Sign.HINT if later else Sign.MISSING,
        )
        if later:
            yield one
        else:
            found[key] = one
    for key, one in found.items():
        # So often it is a loop that nobody broke, whatever the window held.
        yield replace(one, sign=Sign.HINT) if most[key] >= LOOP_MIN else one


def _is_data(call: CaseCall) -> bool:
    """Say whether a call of which nobody knows what it does returned a record, and no receipt."""
    text = (call.result or "").lstrip()
    if call.access is not Access.UNKNOWN or len(text) < _DATA_CHARS_MIN:
        return False
    if _RUNS.search(call.name[:80]):
        return False
    return _RECEIPT.search(text[:_END_CHARS]) is None and any(c.isdigit() for c in text)


def _is_bare(call: CaseCall) -> bool:
    """Say whether a read returned one short word: an id, a number.

    Whoever asks for it twice in one go has it before its eyes; it left no window.
    """
    text = (call.result or "").strip()
    return len(text) <= _BARE_CHARS and text[:1] not in {"{", "["} and not re.search(r"\s", text)


def _is_same(first: CaseCall, call: CaseCall) -> bool:
    """Say whether a read came to the same as another whose result was known, and polls nothing."""
    result = (call.result or "").strip()
    if not result or result != (first.result or "").strip() or not _known_before(first, call):
        return False
    if first.actor != call.actor and {first.actor, call.actor}.isdisjoint(_NOBODY):
        return False
    short = len(result) <= _END_CHARS
    if short and _FAILS.search(result):
        return False
    return not (_POLLS.search(call.name[:80]) or (short and _is_underway(result)))


def _is_underway(result: str) -> bool:
    """Say whether a short result tells of something that goes on by itself.

    A machine that is "running" stays so; a job that is has other signs of being one.
    """
    found = [one.group().casefold() for one in _UNDERWAY.finditer(result)]
    return bool(found) and (
        any("running" not in one for one in found) or _JOB.search(result) is not None
    )


# ---------------------------------------------------------------------- questions, prompts


def _asked_again(case: Case) -> Iterator[Symptom]:
    said = {text.step: text.text for text in case.texts if text.role == "assistant"}
    for one in reasked(case):
        words = f"asks for the {one.slot}, which was given as {one.value!r}: {said[one.step]}"
        again = () if one.again is None else (one.again,)
        yield Symptom(
            rule=ASKED_AGAIN.name,
            steps=(one.step, one.known, *again),
            evidence=quoted(words),
        )


def _forgotten(case: Case) -> Iterator[Symptom]:
    said = {text.step: text.text for text in case.texts}
    for step, known in forgotten(case):
        words = f"asks for the request again: {said[step][:100]}; it was: {said[known]}"
        yield Symptom(rule=ASKED_AGAIN.name, steps=(step, known), evidence=quoted(words))


def _pins(case: Case) -> Iterator[Symptom]:
    for one in gone(case):
        words = f"the {one.what} of step {one.before} is gone: {one.text}"
        yield Symptom(rule=PIN_GONE.name, steps=(one.step, one.before), evidence=quoted(words))
    for one in unpinned(case):
        words = f"the {one.what} does not stand in the prompt: {one.text}"
        yield Symptom(rule=PIN_GONE.name, steps=(one.step,), evidence=quoted(words))


def _full(case: Case) -> Iterator[Symptom]:
    """Find windows that were nearly full, and prompts that did not fit."""
    told = False
    for ask in case.asks:
        tokens, window = ask.input_tokens or 0, ask.window_tokens or window_of(ask)
        if window > 0 and tokens >= FULL_SHARE * window and not told:
            told = True
            words = f"{tokens} of {window} tokens"
            yield Symptom(rule=FULL.name, steps=(ask.step,), evidence=words)
    errors = [(ask.step, ask.error) for ask in case.asks if ask.error]
    errors += [
        (_ended(call), call.error or call.result or "")
        for call in case.calls
        if call.status is CallStatus.FAILED
    ]
    said = [text for text in case.texts if text.role in {"assistant", "other"}]
    errors += [(t.step, t.text) for t in said if _SPOKEN_ERROR.match(t.text[:_END_CHARS])]
    # A provider's error that stands where the answer should.
    if said and _is_error(said[-1].text):
        errors.append((said[-1].step, said[-1].text))
    if case.error:
        errors.append((max(0, case.steps - 1), case.error))
    for step, error in sorted(errors):
        head = error[:_ERROR_CHARS]
        if _OVERFLOW.search(head) and not _RATE.search(head):
            yield Symptom(rule=FULL.name, steps=(step,), evidence=quoted(error))
            return


def _is_error(text: str) -> bool:
    """Say whether a last message is a provider's error: by how it is put, or nothing else."""
    if len(text) <= _SPOKEN_CHARS_MAX and _PROVIDER.search(text):
        return True
    found = _OVERFLOW.search(text) if len(text) <= _BARE_ERROR_CHARS else None
    return found is not None and found.start() <= _LEAD_CHARS and not _SPEAKS.search(text)


# ---------------------------------------------------------------------- what was cut off


def _cut_used(case: Case, calls: Sequence[CaseCall]) -> Iterator[Symptom]:
    """Find results that were cut off, and used as if they had not been."""
    for one in cut_used(case, calls):
        yield Symptom(
            rule=CUT_USED.name,
            steps=(one.step, _ended(one.call)),
            evidence=quoted(f"{one.call.name} → …{one.mark}"),
            sign=Sign.HINT if one.whole else Sign.MISSING,
        )


def _cut_answers(case: Case) -> Iterator[Symptom]:
    """Find answers of models that broke off."""
    for place, ask in enumerate(case.asks):
        if ask.stop.casefold().replace("-", "_") not in _LENGTHS:
            continue
        broken = next((c for c in case.calls if c.batch == ask.step and c.arguments is None), None)
        if broken is not None:
            words = f"{broken.name}({broken.raw[-100:]} broke off: {ask.stop}"
            steps = (ask.step,) if broken.step == ask.step else (ask.step, broken.step)
            yield Symptom(rule=CUT_ANSWER.name, steps=steps, evidence=quoted(words))
            continue
        asks_on = any(a.actor == ask.actor and a.turn == ask.turn for a in case.asks[place + 1 :])
        if ask.answer and not asks_on:
            words = f"{ask.stop}: …{ask.answer[-150:]}"
            yield Symptom(rule=CUT_ANSWER.name, steps=(ask.step,), evidence=quoted(words))


# ---------------------------------------------------------------------- guards


def _guards(case: Case) -> Iterator[Symptom]:
    """Find where something like this layer acted."""
    for act in case.acts:
        if act.rule.startswith("context."):
            yield _fired(act.rule, act.step, act.quote)
    for call in case.calls:
        if call.rule.startswith("context."):
            yield _fired(call.rule, call.step, call.error or call.result or call.rule)
    marks = [(text.step, text.text) for text in case.texts if is_summary(text.text)]
    last: dict[str, tuple[tuple[str, str], ...]] = {}
    for ask in case.asks:
        if len(marks) >= _MARKS_MAX:
            break
        prompt, known = ask.prompt or (), last.get(ask.actor, ())
        new = prompt[len(known) :] if prompt[: len(known)] == known else prompt
        marks += [(ask.step, text) for _, text in new if is_summary(text)]
        last[ask.actor] = prompt
    seen: set[str] = set()
    for step, text in sorted(marks)[:_MARKS_MAX]:
        if text[:_END_CHARS] not in seen:
            seen.add(text[:_END_CHARS])
            yield _fired(GUARD.name, step, text)


def _fired(rule: str, step: int, words: str) -> Symptom:
    return Symptom(rule=rule, steps=(step,), evidence=quoted(words), sign=Sign.FIRED)

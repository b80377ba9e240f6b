"""Where a run left the good path first, apart from whose absence made that possible.

Where calls are recorded it is the first step that broke a layer's rule, or a write that made a
later one impossible. Where agents only talk it is a guess, by signs that need no model: a task
that is none, code that fails before anything else was done, a result that rests on nothing that
ran, data that somebody made up, an answer that never came, an action that changed nothing. The
first sign counts; where there is none, the first thing that an agent did.
Keeps: the same answer for the same run; None where calls are recorded and nothing went wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from undercroft.model.case import Access, CallStatus, Case, CaseCall
from undercroft.model.symptom import Looked, Sign

# More of a message is not read.
_READ_CHARS = 20_000
_REMARK_CHARS = 40
# A sign that comes later than so many actions is not the first thing that went wrong.
_ACTIONS_MAX = 5
_ALIKE_MIN = 0.3
_STEM_CHARS = 5
# A lead speaks at least once for every so many messages.
_LED_MAX = 2
# As much of a message says which of its lead's usual ones it is.
_OPENING_CHARS = 14

_RAN = re.compile(r"\s*exit ?code: *(\d+)", re.IGNORECASE)
_OUTPUT = re.compile(r"output:", re.IGNORECASE)
_IDLE = re.compile(r"there is no code from", re.IGNORECASE)
_FAILED = re.compile(r"exit ?code: *[1-9]|execution failed|traceback \(most", re.IGNORECASE)
_CODE = re.compile(r"```(?:python|py|sh|bash|shell)\b")
_STATES = re.compile(
    r"TERMINATE|\bconclu(?:sion|ded?)\b|\bfindings\b|\bfinal (?:answer|list|result)"
    r"|\bhere (?:is|are) the\b|\bbased on (?:the|our|my)\b|\bthe answer is\b|\bis accurate\b"
    r"|\bmanual(?:ly)? (?:verif|analy|review|inspect|search|check)|\bconfirmed\b"
    r"|\btask (?:is )?complete",
    re.IGNORECASE,
)
_MADE_UP = re.compile(
    r"\bhypothetical|\blet'?s assume|\bassuming we\b|\bassume (?:that|there|the|\d)|\bmock\b"
    r"|\bsimulat|\bplaceholder",
    re.IGNORECASE,
)
_TASK = re.compile(r"^#+ *(?:general )?task\b.*$", re.IGNORECASE | re.MULTILINE)
_ASSIGNED = re.compile(r"^#+ *task description\b.*$", re.IGNORECASE | re.MULTILINE)
_HEADING = re.compile(r"^#+ ", re.MULTILINE)
_WORD = re.compile(r"[a-z]{4,}")
_COMMON = frozenset(
    (
        *("please", "solve", "problem", "carefully", "task", "description", "provide", "answer"),
        *("with", "from", "that", "this", "would", "which", "what", "your", "have", "been"),
        *("were", "will"),
    )
)
_PAGE = re.compile(r"\]\((https?://[^)\s]{1,2000})\)")
_SCROLLS = re.compile(r"\W*I scroll", re.IGNORECASE)
_DOMAIN = frozenset({"domain", "permanent", "unknown", ""})


@dataclass(frozen=True, slots=True)
class _Said:
    """A message of an agent, or what came back of a program that it had run.

    Attributes:
        actor: Without what stands behind it in brackets.
        ran: `failed`, `empty` or `ok` for output; empty for words.
    """

    step: int
    actor: str
    text: str
    ran: str = ""


def first_deviation(case: Case, looked: Mapping[str, Looked]) -> int | None:
    """Return the earliest step at which the run left the good path, or None.

    Args:
        case: The run, with the effects of its calls worked out.
        looked: What the layers saw in it, by layer.
    """
    said = tuple(_said(case))
    if any(text.role == "other" for text in case.texts) and said and not _acts(case):
        return _in_talk(said, given=any(t.role == "user" and not t.actor for t in case.texts))
    steps = [
        symptom.steps[0]
        for one in looked.values()
        for symptom in one.symptoms
        if symptom.sign is Sign.MISSING and symptom.steps
    ]
    spoilt = _spoilt(case)
    return min([*steps, *([] if spoilt is None else [spoilt])], default=None)


def _acts(case: Case) -> bool:
    """Whether calls are recorded as data, and not only read out of what somebody said."""
    said = {text.step for text in case.texts if text.role == "other" or text.actor}
    return any(call.step not in said for call in case.calls)


def _spoilt(case: Case) -> int | None:
    """Return the first write that failed as the world was, or the one that had made it so."""
    done: dict[str, int] = {}
    for call in case.calls:
        if call.access is not Access.WRITE:
            continue
        keys = [touch.key for touch in call.touches]
        if call.status is CallStatus.FAILED and call.error_class in _DOMAIN:
            return min((done[key] for key in keys if key in done), default=call.step)
        if call.status is CallStatus.OK:
            for key in keys:
                done.setdefault(key, call.step)
    return None


def _said(case: Case) -> Iterator[_Said]:
    """Yield what agents said and what programs printed, in the order of the steps."""
    pieces: list[_Said] = []
    for text in case.texts:
        named = text.actor or text.role
        if text.role == "system" or (text.role == "user" and not text.actor):
            continue
        actor = named.split(" (", maxsplit=1)[0]
        words = text.text[:_READ_CHARS]
        pieces.append(_Said(text.step, actor, words, _ran(words)))
    told = {one.step for one in pieces}
    pieces += [
        _Said(call.ended, call.name, call.result[:_READ_CHARS], ran=_ended(call))
        for call in case.calls
        if call.result is not None and call.ended is not None and call.ended not in told
    ]
    yield from sorted(pieces, key=lambda one: one.step)


def _ran(text: str) -> str:
    found = _RAN.match(text)
    if found is None:
        return ""
    if found[1] != "0":
        return "failed"
    output = _OUTPUT.split(text, maxsplit=1)
    return "ok" if output[-1].strip() and len(output) > 1 else "empty"


def _ended(call: CaseCall) -> str:
    known = _ran(call.result or "")
    if known:
        return known
    if call.status is CallStatus.FAILED:
        return "failed"
    return "ok" if (call.result or "").strip() else "empty"


def _in_talk(said: Sequence[_Said], *, given: bool) -> int:
    """Return where agents that only talk went wrong, by the first sign of it.

    Args:
        said: What was said, in order.
        given: Whether somebody who is none of them gave them the task.
    """
    first = said[0]
    if _no_task(first.text):
        return first.step
    lead = _lead(said) if given else ""
    if lead:
        return _led(said, lead)
    if _CODE.search(first.text) and len(said) > 1 and said[1].ran in {"failed", "empty"}:
        return first.step
    return _among_equals(said)


def _no_task(text: str) -> bool:
    """Whether a run is given an error for a task, or a plan for another task."""
    if _FAILED.search(text):
        return True
    task, assigned = _TASK.search(text), _ASSIGNED.search(text)
    if task is None or assigned is None or task.end() > assigned.start():
        return False
    wanted = _stems(_section(text, task.end()))
    planned = _stems(_section(text, assigned.end()))
    return bool(wanted and planned) and len(wanted & planned) < _ALIKE_MIN * len(planned)


def _section(text: str, start: int) -> str:
    end = _HEADING.search(text, start)
    return text[start : end.start() if end else len(text)]


def _stems(text: str) -> frozenset[str]:
    words = (word for word in _WORD.findall(text.casefold()) if word not in _COMMON)
    return frozenset(word[:_STEM_CHARS] for word in words)


def _among_equals(said: Sequence[_Said]) -> int:
    """Return the first sign in a talk in which whoever likes runs code and states results."""
    failed = None
    words = [n for n, one in enumerate(said) if n and not one.ran and not _IDLE.search(one.text)]
    for n in words:
        one = said[n]
        if len(one.text) < _REMARK_CHARS:
            continue
        came = said[n + 1].ran if n + 1 < len(said) else ""
        if came == "empty" or (_MADE_UP.search(one.text) and "```" in one.text):
            return one.step
        if came == "failed" and failed is None:
            failed = one.step
        waits = n + 1 == len(said) and _CODE.search(one.text)
        if not came and not waits and _STATES.search(one.text):
            return one.step
    if failed is not None:
        return failed
    return said[words[0]].step if words else said[0].step


def _lead(said: Sequence[_Said]) -> str:
    """Return who asks the others to act: speaks as often as they all do, and runs nothing."""
    if any(one.ran for one in said):
        return ""
    first = said[0].actor
    spoken = sum(one.actor == first for one in said)
    return first if len(said) <= _LED_MAX * spoken else ""


def _led(said: Sequence[_Said], lead: str) -> int:
    """Return the first sign in a talk in which one asks and the others act."""
    acts = [one for one in said if one.actor != lead]
    if not acts:
        return said[0].step
    horizon = acts[min(_ACTIONS_MAX, len(acts)) - 1].step
    signs = [step for step in (_unanswered(said, lead), _unmoved(acts)) if step is not None]
    signs = [step for step in signs if step <= horizon]
    if signs:
        return min(signs)
    # Who gives the result at the end and is not the one who looked things up made it up.
    if acts[-1].actor != acts[0].actor and len(acts) <= _ACTIONS_MAX:
        return acts[-1].step
    return acts[0].step


def _unanswered(said: Sequence[_Said], lead: str) -> int | None:
    """Return the last action before the lead began over, as nobody had answered."""
    last = None
    openings: set[str] = set()
    for one in said:
        if one.actor != lead:
            last = one.step
            openings.clear()
            continue
        opening = one.text[:_OPENING_CHARS]
        if opening in openings and last is not None:
            return last
        openings.add(opening)
    return None


def _unmoved(acts: Sequence[_Said]) -> int | None:
    """Return the first action after which the same page was shown as before it."""
    before = ""
    for one in acts:
        found = _PAGE.search(one.text)
        if found is None:
            continue
        if found[1] == before and not _SCROLLS.match(one.text):
            return one.step
        before = found[1]
    return None

"""Endings: how it shows in a finished run that it stopped in the middle, and nobody was told.

Keeps: a run has ended where an answer, a hand-over or a wait for a person is its last thing, or an
error of its own is written down. What is given as its error and is that of a call which was mended
tells nothing of how it ended; nor does a text that a framework puts in the place of an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from undercroft.model.case import CallStatus, Case, CaseCall, Facet

_CAUSE_CHARS = 160
_GIVES_UP_CHARS_MAX = 200
# What a framework says in the place of an answer when it has had enough.
_GIVES_UP = re.compile(
    r"\A\W{0,4}(?:agent (?:was )?stopped due to|sorry, need more steps to process"
    r"|stopped: (?:the )?(?:maximum|max))",
    re.IGNORECASE,
)
# Calls after which nothing of the agent's need follow: somebody else goes on, or it is over.
_LAST = re.compile(
    r"\A(?:transfer_?to|hand_?(?:off|over)|escalat|end_|stop|ask|request|complete|submit|finish)"
    r"|human|approval|final|terminat|respond|reply|answer|(?:\b|_)(?:exit|done|finish)(?:\b|_)",
    re.IGNORECASE,
)
# What ended a run that went on until somebody's patience did, or for want of another attempt.
_LIMITS = re.compile(
    r"recursion.?limit|recursionerror|(?:max(?:imum)?|limit of|too many)[ _]?(?:\w{1,12}[ _]){0,3}"
    r"(?:iteration|turn|step|call|round|attempt|retr)|maxturns|(?:iteration|step|turn)s? limit"
    r"|time[d -]{0,2}out|deadline.exceeded|rate.?limit|too many requests|overloaded|unavailable"
    r"|try again in|connection (?:was |has been )?(?:reset|refused|aborted|lost|error)"
    r"|(?:http|status|code)\W{0,3}(?:429|50[0234]|529)\b",
    re.IGNORECASE,
)
_ERROR_CHARS = 1_000
_SPEAKS = re.compile(r"send|notif|post|message|publish|speak|say|email|mail", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a run stopped in the middle.

    Attributes:
        words: What is there; empty where the call itself says it.
        call: The failed call that it stopped with.
    """

    steps: tuple[int, ...]
    words: str
    call: CaseCall | None = None


def endings(case: Case, calls: Sequence[CaseCall]) -> Iterator[Ending]:
    """Return what shows that a run had no end; none where it had one, or nobody can tell.

    Args:
        case: The run.
        calls: Its calls, in the order in which they began.
    """
    # Of a run of which nothing was recorded another layer speaks; one whose guards speak ended
    # as they say.
    if not case.steps or case.shown(Facet.GUARDS):
        return
    said = [text for text in case.texts if text.role in {"assistant", "other"}]
    if said and _gives_up(said[-1].text):
        yield Ending((said[-1].step,), said[-1].text)
        return
    error = _error(case, calls)
    if calls and _LIMITS.search(error[:_ERROR_CHARS]):
        yield Ending((case.steps - 1,), error)
    elif calls and not (error or _is_ended(case, calls[-1]) or _is_answered(case, calls[-1])):
        found = _stopped_with(case, calls[-1])
        if found is not None:
            yield found


def _error(case: Case, calls: Sequence[CaseCall]) -> str:
    """Return what ended a run and is not what one of its calls came to; or nothing."""
    own = "" if _is_mended(case) or (calls and _is_of_last(case, calls[-1])) else case.error
    return own or (_failed_ask(case, calls[-1]) if calls else "")


def _stopped_with(case: Case, call: CaseCall) -> Ending | None:
    """Say how a run that has no end stopped with its last call; None where nobody can tell."""
    if _failed(call):
        return Ending((_ended(call), call.step), "", call)
    if call.status in {CallStatus.WAITING, CallStatus.REFUSED} or _LAST.search(call.name[:80]):
        return None
    if call.result is None and case.shown(Facet.RESULTS) and call.status is CallStatus.UNKNOWN:
        words = f"{call.name} is the last thing that was asked for, and it has no result"
        return Ending((call.step,), words)
    if _is_left(case, call):
        words = f"{call.name} came to {call.result!r}, and nobody was told"
        return Ending((_ended(call), call.step), words)
    if case.finished is False:
        words = f"the record ends after {call.name}, and the run did not"
        return Ending((_ended(call),), words)
    return None


def _gives_up(text: str) -> bool:
    """Say whether a last text is not an answer, but what a framework puts there at its limit."""
    return len(text) <= _GIVES_UP_CHARS_MAX and _GIVES_UP.match(text) is not None


def _failed_ask(case: Case, call: CaseCall) -> str:
    """Return the error of the model that was asked last, after the last call; or nothing."""
    last = max(case.asks, key=lambda ask: ask.step, default=None)
    later = last is not None and last.step > _ended(call) and not last.answer
    return last.error if last is not None and later else ""


def _failed(call: CaseCall) -> bool:
    return call.status is CallStatus.FAILED


def _ended(call: CaseCall) -> int:
    return call.step if call.ended is None else call.ended


def _is_mended(case: Case) -> bool:
    """Say whether what is given as the error of a run was that of a call, and the run went on."""
    begun = max((call.step for call in case.calls), default=0)
    words = " ".join(case.error[:_CAUSE_CHARS].split())
    return bool(words) and any(
        words in " ".join(f"{call.error} {call.result or ''}"[:_ERROR_CHARS].split())
        and (begun > _ended(call) or _is_answered(case, call))
        for call in case.calls
        if _failed(call)
    )


def _is_of_last(case: Case, last: CaseCall) -> bool:
    """Say whether what ended a run is no more than what its last call came to."""
    said = " ".join(f"{last.error} {last.result or ''}"[:_ERROR_CHARS].split())
    return _failed(last) and " ".join(case.error[:_CAUSE_CHARS].split()) in said


def _breaks_off(case: Case, last: CaseCall) -> bool:
    """Say whether somebody who was talked to before was left after a call, without a word."""
    talked = any(text.role == "assistant" and text.step < last.step for text in case.texts)
    later = any(ask.step > _ended(last) for ask in case.asks)
    return case.shown(Facet.USERS) and (talked or _failed(last)) and not later


def _is_ended(case: Case, last: CaseCall) -> bool:
    """Say whether a run had an end, or a record that does not tell."""
    # An error that ended it is how it ended; whatever it was, it is written down.
    if case.error and not (_is_of_last(case, last) or _is_mended(case)):
        return True
    if any(flaw.kind == "cut_off" for flaw in case.flaws):
        return True
    if case.error or case.finished:
        # An error that was mended tells no more of the end than one that never was.
        return not (_breaks_off(case, last) or _is_mended(case))
    # Among several agents whoever is next is not known to be missing.
    return case.finished is None and any(text.role == "other" for text in case.texts)


def _is_left(case: Case, call: CaseCall) -> bool:
    """Say whether a conversation breaks off after a result that answers nobody.

    Spans may leave out what was said, and a task may end with a message to somebody.
    """
    asked = case.shown(Facet.USERS) and call.result is not None and case.finished is not False
    told = not case.asks or case.shown(Facet.PROMPTS)
    return asked and told and not _SPEAKS.search(call.name[:80])


def _is_answered(case: Case, call: CaseCall) -> bool:
    """Say whether anybody said anything after a call, or was told how it all ended."""
    if case.delivered and not any(text.role == "assistant" for text in case.texts):
        return True
    ended = _ended(call)
    said = [text.step for text in case.texts if text.role != "system"]
    if any(step > ended for step in said):
        return True
    proposed = {one.batch for one in case.calls}
    return _is_later(case, call) or any(
        ask.step > ended and ask.answer and ask.step not in proposed for ask in case.asks
    )


def _is_later(case: Case, call: CaseCall) -> bool:
    """Say whether a model answered after a call, by the times of both."""
    if call.began_at is None:
        return False
    # A span that stands around a call ends after it, too: what counts is when it began.
    ended = call.began_at + max(0.0, call.took_s or 0.0)
    return any(
        ask.began_at is not None and ask.answer and ask.began_at >= ended - 1e-3
        for ask in case.asks
    )

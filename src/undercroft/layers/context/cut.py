"""Cut: results in a finished run that were cut off, and used as if they had not been.

Keeps: cut off is what says so, by a mark at its end or a field of its own; a page that says that
there are more is cut only where an answer speaks of all. Used it is where what it said turns up
in an answer or a write, or an answer counts what it holds; not where the rest was fetched, by the
same tool from another place on, and not where the answer says that it is a part.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from undercroft.model.case import Access, CallStatus, Case, CaseCall, CaseText

_END_CHARS = 300
_USED_CHARS = 4_000
_KEY_CHARS_MAX = 20_000
_NEAR_CALLS = 40
# What is left of a longer text is a text; it may well be enough.
_CUT_CHARS_MAX = 4_000
_CUT = re.compile(
    r"(?:\[|<|\(|\.\.\.|…|\*\*|--)\W{0,6}(?:the )?"
    r"(?:(?:output|result|content|response|text|file|rest|data|tool output)\W{1,3})?"
    r"(?:was |is |has been )?(?:truncated|cut(?:[ -]?off)?|clipped|shortened|omitted|elided"
    r"|abridged)\b"
    r"|(?:\.\.\.|…|\[)\W{0,4}(?:and )?\d[\d,.]{0,12} (?:more |other |remaining |further )?"
    r"(?:characters?|chars|bytes|[km]b|tokens|lines|rows|words|items|results|entries|records)\b"
    r"[^\n]{0,20}(?:more|omitted|truncated|not shown|left|remaining|skipped|cut|\Z|\])"
    r"|(?:output|result|response|content|text) (?:was |has been |is )?"
    r"(?:truncated|too (?:long|large))\b"
    r"|showing (?:the )?first [\d,]{1,12} of [\d,]{1,12} (?:characters?|chars|bytes|lines)"
    r"|\d ?(?:characters?|chars|bytes|[kmg]i?b|tokens|lines) (?:were |was )?"
    r"(?:omitted|truncated|cut)\b",
    re.IGNORECASE,
)
_RECEIPT = re.compile(
    r"\A\W{0,4}(?:ok|done|success|saved|updated|created|sent|moved|deleted|added|clicked|typed|set)\b"
    r'|"(?:success|ok|saved|updated|created|deleted|done|changed|sent|moved)"\s{0,3}:'
    r'|"(?:status|result|state|message)"\s{0,3}:\s{0,3}"(?:success|ok\b|done|updated|created|saved)'
    r"|\b(?:successfully|updated|created|saved|deleted|executed)\b",
    re.IGNORECASE,
)
_FLAG = re.compile(
    r'"(?:is_?)?(?:truncated|clipped|cut_?off|incomplete(?:_?results)?)"\s{0,3}:\s{0,3}true\b',
    re.IGNORECASE,
)
_MORE = re.compile(
    r'"(?:has_?(?:more|next(?:_?page)?)|more_?(?:available|results)|next_?(?:page|cursor|token'
    r'|page_?token|offset|link))"\s{0,3}:\s{0,3}(?:true\b|"\w|[1-9])',
    re.IGNORECASE,
)
_WORD = re.compile(r"[#@\w][\w@.:/#-]{3,60}")
_FETCHES = re.compile(r"recall|fetch|read|more|rest|page|offset|full|continue|next", re.IGNORECASE)
# Arguments that say from where on, or how much.
_PLACE = re.compile(
    r"(?:\A|[^A-Za-z]|(?<=[a-z])(?=[A-Z]))(?i:pages?|offset|cursor|start|begin|skip|from|after|since"
    r"|limit|next|token|lines?|end|range|size|count|max|top|head|tail|until|to|full|parts?|chunk"
    r"|position|index|first|last)(?![a-z])"
)
_COUNT = r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|no|\d{1,6})"
# Asked of a whole, and answered of it.
_OF_ALL = re.compile(
    r"\bhow many\b|\ball\b|\bevery\b|\bcount\b|\btotal\b|\bwhich (?:of|\w{2,30}s)\b"
    r"|\bany\b|\blist\b|\bnumber of\b|\bonly\b|\bmost\b|\bleast\b",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    rf"\b(?:only|none|nobody|in total|altogether|a total of|exactly|all of (?:them|these|the))\b"
    rf"|\bthere (?:is|are|was|were) {_COUNT}\b|\A\W{{0,3}}{_COUNT} \w{{2,30}}"
    rf"|\b(?:have|has|found|are) {_COUNT} \w{{2,30}}s\b",
    re.IGNORECASE,
)
_A_PART = re.compile(
    r"\btruncat|\bcut\b|incomplete|\bpart(?:s|ial|ially|ly)?\b|\bfirst\b|\bat least\b|\bso far\b"
    r"|\bmore\b|\bamong\b|\bnot (?:all|shown|complete)|\bpage\b|\btop\b|\bfor example\b"
    r"|\bremaining\b|\bsuch as\b|\bonly (?:see|saw|shows?|showed|have|got|part)\b"
    r"|\bcould(?: not|n't)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Cut:
    """A result that was cut off, and used.

    Attributes:
        step: Where it was used.
        call: Whose result it was.
        mark: The words that say that it was cut off.
        whole: Whether it was so long that what is left may well have been enough.
    """

    step: int
    call: CaseCall
    mark: str
    whole: bool


def cut_used(case: Case, calls: Sequence[CaseCall]) -> Iterator[Cut]:
    """Return the results that were cut off, and used as if they had not been."""
    steps = [text.step for text in case.texts]
    for place, call in enumerate(calls):
        result = call.result
        if result is None or call.access is not Access.READ or call.status is not CallStatus.OK:
            continue
        end = result[-_END_CHARS:]
        mark = _CUT.search(end) or _FLAG.search(end) or _FLAG.search(result[:_END_CHARS])
        more = mark or _MORE.search(end) or _MORE.search(result[:_END_CHARS])
        if more is None:
            continue
        words = _words(result) - _words(_given(call)) if mark else set()
        used = _use(case, calls[place + 1 : place + _NEAR_CALLS], call, words, steps)
        if used is not None:
            words_of = result[-_END_CHARS:][mark.start() :] if mark else more.group()
            yield Cut(used, call, words_of, len(result) > _CUT_CHARS_MAX)


def _words(text: str) -> set[str]:
    """Return the words of a text that may tell it from others."""
    return {word.rstrip(".:/-").casefold() for word in _WORD.findall(text[:_USED_CHARS])}


def _given(call: CaseCall) -> str:
    try:
        return json.dumps(call.arguments or {}, sort_keys=True, default=str)[:_KEY_CHARS_MAX]
    except (TypeError, ValueError, RecursionError):
        return ""


def _ended(call: CaseCall) -> int:
    return call.step if call.ended is None else call.ended


def _after(case: Case, steps: Sequence[int], step: int) -> Sequence[CaseText]:
    """Return the next few texts after a step."""
    place = bisect_right(steps, step)
    return case.texts[place : place + _NEAR_CALLS]


def _use(
    case: Case, later: Sequence[CaseCall], call: CaseCall, words: set[str], steps: Sequence[int]
) -> int | None:
    """Return the step at which what a cut result said was used; None where the rest was fetched."""
    told = next(
        (
            text
            for text in _after(case, steps, _ended(call))
            if text.role in {"assistant", "other"}
            and text.turn == call.turn
            # What is said with a call is on the way to an answer.
            and not any(one.step == text.step for one in later)
        ),
        None,
    )
    end = None if told is None or not _tells(case, words, told) else told.step
    for one in later:
        if end is not None and one.step > end:
            break
        if _is_rest(call, one):
            return None
        here = one.turn == call.turn and _share(words, _given(one))
        if _writes(one) and (here or _meets(call, one)):
            return one.step
    return end


def _tells(case: Case, words: set[str], told: CaseText) -> bool:
    """Say whether an answer makes use of a cut result, and does not say that it is a part."""
    if _A_PART.search(told.text[:_USED_CHARS]):
        return False
    if _share(words, told.text):
        return True
    wish = next((t for t in reversed(case.texts) if t.role == "user" and t.step < told.step), None)
    return (
        wish is not None
        and _OF_ALL.search(wish.text[:_USED_CHARS]) is not None
        and _CONCLUDES.search(told.text[:_USED_CHARS]) is not None
    )


def _is_rest(call: CaseCall, one: CaseCall) -> bool:
    """Say whether a call goes and gets what another's result lacked."""
    if one.access not in {Access.READ, Access.UNKNOWN}:
        return False
    given, also = call.arguments or {}, one.arguments or {}
    if one.name == call.name and given != also:
        # From another place on, and else the same.
        return all(
            given.get(name) == also.get(name)
            for name in {**given, **also}
            if not _PLACE.search(str(name)[:80])
        )
    if one.name != call.name and not _FETCHES.search(one.name[:80]):
        return False
    shared = {str(value)[:200] for value in given.values()}
    return not shared or not shared.isdisjoint(str(value)[:200] for value in also.values())


def _writes(call: CaseCall) -> bool:
    """Say whether a call changed something, or has a receipt for it."""
    if call.access is Access.UNKNOWN:
        return _RECEIPT.search((call.result or "")[:_END_CHARS]) is not None
    return call.access is Access.WRITE


def _meets(call: CaseCall, write: CaseCall) -> bool:
    """Say whether a write changes what a read, which was cut off, had shown."""
    keys = {touch.key for touch in call.touches}
    if keys and write.touches:
        return any(touch.key in keys for touch in write.touches)
    # Nobody knows what they touch: then by what both were given that has a digit, as names have.
    also = write.arguments or {}
    return any(
        isinstance(value, str) and any(c.isdigit() for c in value) and also.get(name) == value
        for name, value in (call.arguments or {}).items()
    )


def _share(words: set[str], text: str) -> bool:
    """Say whether a text says something that stands in a result."""
    found = _words(text) & words
    return any(len(word) > 6 or any(c.isdigit() for c in word) for word in found)  # noqa: PLR2004

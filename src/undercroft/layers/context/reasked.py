"""Asked again: questions in a finished run for what the user had already said.

Keeps: only a value that the user stated is held against a question, or that a tool returned and
nobody wanted to verify; only until a call failed with it; and only where what follows shows that
nothing else was meant: the user says the same once more, or says that it was said.
Leaves to `quality`: what is a question for something, and what is an answer to it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from undercroft.layers.context.quality.questions import Questions, complains, questions_of
from undercroft.layers.context.quality.slots import SLOTS, Slot
from undercroft.model.case import Access, CallStatus, Case, CaseCall, CaseText

_ID = r"#?\b(?=[\w/-]{0,30}\d)[A-Za-z0-9][\w/-]{2,30}\b"
_NUMBERED = (
    "account", "agreement", "case", "claim", "contract", "employee", "incident", "invoice",
    "issue", "member", "membership", "order reference", "payment", "policy", "project", "request",
    "serial", "shipment", "subscription", "ticket", "tracking", "transaction",
)  # fmt: skip


def _number_of(what: str) -> Slot:
    ends = ("number", "id", "no.", "reference", "key", "code")
    asked = tuple(f"{what} {end}" for end in ends)
    return Slot(name=f"{what} number", asked=asked, shape=_ID, many=True)


# What else people are asked for by number.
_MORE = tuple(map(_number_of, _NUMBERED))
_NOUN = re.compile(
    r"\b(?:your|the|which|what)(?: [a-z]{3,15})? (?P<noun>[a-z]{3,15}) "
    r"(?:number|id|no\.|reference|code)\b",
    re.IGNORECASE,
)
_NOUNS_MAX = 20
_WHICH = re.compile(
    r"\b(?:which|what) (?P<noun>[a-z]{3,20})(?: (?:number|id|no\.|reference|code))?\b[^.?!]{0,80}\?"
)
_AN_ID = re.compile(_ID)
# Between the name of a thing and its number.
_NEAR_CHARS = 24
_TABLE = (*SLOTS, *_MORE)
# Of these a person may be asked for another, or for the same for another purpose.
_VAGUE = frozenset({"address", "name", "payment method"})
_VERIFIES = re.compile(
    r"verif|authenticat|security|confirm|identity|safety|double.?check|correct\b|match",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"\W{0,4}(?:none|null|false|nothing)?\W{0,4}\Z|.{0,120}\b(?:not found|no (?:match|result|such|"
    r"user|customer|account|order|record)|does(?: not|n't) (?:match|exist)|invalid|unknown)\b",
    re.IGNORECASE | re.DOTALL,
)
_MISSED = re.compile(
    r"\b(?:not found|no|match(?:es)?|exists?|unknown|wrong|incorrect)\b", re.IGNORECASE
)
_FORGETS = re.compile(
    r"\b(?:remind me|repeat|say again|tell me again|restate|lost track)\b[^.?!]{0,60}"
    r"\b(?:request|question|task|problem|issue|what you|what it was|what i|asked|wanted|need)"
    r"|\bwhat (?:was|were) (?:your|the) (?:request|question|task|problem|issue)\b"
    r"|\bwhat (?:was it|is it) (?:that )?you (?:wanted|asked|needed)"
    r"|\bwhat (?:did|had) you (?:want|need|ask)(?:ed)?(?: (?:me to do|help with|for|from me))?"
    r"(?: again)?\W{0,3}(?=\Z|\n| [A-Z])"
    r"|\b(?:no longer have|forgot|forgotten|lost) (?:your|the|what) [^.?!]{0,60}",
    re.IGNORECASE,
)
# Asked by whoever has forgotten, and by whoever has done all: what is answered tells which.
_ANYTHING = re.compile(
    r"\bwhat (?:should|shall|can|may|would you like me to|do you want me to) (?:i )?do\b"
    r"|\bhow (?:can|may) i help\b|\bwhat (?:do|would) you (?:need|want|like)\b",
    re.IGNORECASE,
)
_WISH_CHARS_MIN = 20
_AGAIN_SHARE = 0.7
_PLAIN_WORD = re.compile(r"\w{2,40}")
_WORD = re.compile(r"#?\w[\w@./-]{2,60}")
_KIND = re.compile(r"#?[^\W\d_]{1,6}[-_/.:](?=\d)")
_DIGITS = re.compile(r"\d+")
_LETTERS = re.compile(r"[^\W\d_]+")
_CALL_CHARS = 20_000
_TEXT_CHARS = 4_000
_SHORT_CHARS = 400
# So many of a user's texts are looked at for a value, the first and the last.
_SAID_MAX = 50
# So many failed calls are remembered.
_VAIN_MAX = 200


@dataclass(frozen=True, slots=True)
class Reasked:
    """A question for what was known.

    Attributes:
        step: Of the question.
        known: Where the value had been given.
        slot: What was asked for.
        value: What it was.
        again: Step at which the user answered it once more; None where nobody did.
    """

    step: int
    known: int
    slot: str
    value: str
    again: int | None


class _Heard:
    """What was said and returned so far, and what of it was of no use."""

    def __init__(self, table: Questions) -> None:
        self.table = table
        # By slot and value, the steps at which it was given first and last.
        self.told: dict[str, dict[str, tuple[int, int]]] = {}
        self.returned: dict[str, dict[str, tuple[int, int]]] = {}
        # What users said, for values that they gave without saying what they are.
        self._said: list[tuple[int, str]] = []
        self._in_vain: list[str] = []

    def user(self, text: CaseText, asked: tuple[str, ...]) -> None:
        """Take in what a user said."""
        self._said.append((text.step, text.text[:_TEXT_CHARS].casefold()))
        for slot, values in self.table.told(text.text, asked).items():
            _note(self.told.setdefault(slot, {}), values, text.step)

    def result(self, call: CaseCall) -> None:
        """Take in what a call came to: what it returned, or which values it failed with."""
        result = call.result or ""
        nothing = len(result) < _SHORT_CHARS and _NOTHING.match(result) is not None
        away = call.error_class in {"transient", "overloaded"}
        if (_is_no(call) and not away) or (nothing and call.access is Access.READ):
            given = _given(call, _blamed(call))
            self._in_vain.append(given)
            for known in (*self.told.values(), *self.returned.values()):
                for value in [one for one in known if one in given]:
                    del known[value]
            return
        for slot, values in self.table.returned(result).items():
            _note(self.returned.setdefault(slot, {}), values, _ended(call))

    def named(self, slot: str, value: str, *, complaint: bool) -> tuple[int, int] | None:
        """Return where the user had said a value, if it was the only one of its kind.

        Who complains means the one that was said, however many there were.
        """
        if any(value in given for given in self._in_vain[-_VAIN_MAX:]):
            return None
        form = _form(value)
        kin: set[str] = set()
        steps: list[int] = []
        most = len(self._said) > 2 * _SAID_MAX
        heard = [*self._said[:_SAID_MAX], *self._said[-_SAID_MAX:]] if most else self._said
        for step, text in heard:
            for one in _WORD.findall(text):
                word = one.rstrip(".")
                if word == value:
                    steps.append(step)
                if _form(word) == form:
                    kin.add(word)
        if not steps or (len(kin) > 1 and not complaint) or not any(c.isdigit() for c in value):
            return None
        return (steps[0], steps[-1]) if slot not in _VAGUE else None

    def called(self, noun: str, value: str) -> bool:
        """Say whether a user had said what a value names, right before it."""
        for _, text in self._said[:_SAID_MAX]:
            at = text.find(value)
            if at >= 0 and noun in text[max(0, at - _NEAR_CHARS) : at]:
                return True
        return False


def reasked(case: Case) -> Iterator[Reasked]:
    """Return the questions of a run that it need not have asked, in order."""
    texts = [text for text in case.texts if text.role in {"user", "assistant"}]
    table = questions_of((*_TABLE, *_numbers_of(texts)))
    asked: dict[int, list[tuple[str, ...]]] = {}
    for place, text in enumerate(texts):
        if text.role == "assistant":
            asks = table.asked(text.text)
            if asks or _WHICH.search(text.text[-_TEXT_CHARS:].lower()):
                asked[place] = asks
    if not asked:
        return
    met = _met(texts)
    heard = _Heard(table)
    calls = sorted((c for c in case.calls if c.ended is not None), key=_ended)
    at = 0
    slots: tuple[str, ...] = ()
    for place, text in enumerate(texts):
        while at < len(calls) and _ended(calls[at]) < text.step:
            heard.result(calls[at])
            at += 1
        if text.role == "user":
            heard.user(text, slots)
            slots = ()
            continue
        asks = asked.get(place, [])
        slots = tuple(dict.fromkeys(slot for ask in asks for slot in ask))
        answer = texts[place + 1] if place + 1 < len(texts) else None
        judged = (_judged(heard, ask, text, answer, met[text.actor]) for ask in asks)
        found = next((one for one in judged if one is not None), None)
        if found is None and place in asked:
            found = _which(heard, text, answer, met[text.actor])
        if found is not None:
            yield found


def _which(heard: _Heard, text: CaseText, answer: CaseText | None, met: int) -> Reasked | None:
    """Return a question for which one of a kind, where the user had named one, and names it again.

    Whoever says some of their numbers in asking lets the user choose.
    """
    if answer is None or answer.role != "user":
        return None
    asked = text.text[-_TEXT_CHARS:].casefold()
    values = [_plain(one) for one in _AN_ID.findall(answer.text[:_TEXT_CHARS])]
    for found in _WHICH.finditer(asked):
        for value in values:
            at = heard.named(found["noun"], value, complaint=complains(answer.text))
            if at is None or value in asked or at[1] <= met:
                continue
            if heard.called(found["noun"].removesuffix("s"), value):
                return Reasked(text.step, at[0], found["noun"], value, answer.step)
    return None


def _numbers_of(texts: list[CaseText]) -> tuple[Slot, ...]:
    """Return slots for the numbers of whatever else assistants ask for: "your loan number"."""
    known = {name for slot in _TABLE for name in slot.asked}
    nouns = dict.fromkeys(
        found["noun"].casefold()
        for text in texts
        if text.role == "assistant"
        for found in _NOUN.finditer(text.text[-_TEXT_CHARS:])
    )
    return tuple(
        _number_of(noun) for noun in list(nouns)[:_NOUNS_MAX] if f"{noun} number" not in known
    )


def forgotten(case: Case) -> Iterator[tuple[int, int]]:
    """Return where users were asked what it was that they wanted, and where they had said it.

    Only after calls were made for it: a request that was not understood is asked for again at once.
    """
    texts = [text for text in case.texts if text.role in {"user", "assistant"}]
    begun = sorted(call.step for call in case.calls)
    wishes: list[CaseText] = []
    for place, text in enumerate(texts):
        if text.role == "user":
            wishes.append(text)
            continue
        end = text.text[-_TEXT_CHARS:]
        asks = _FORGETS.search(end) is not None
        if not wishes or not (asks or _ANYTHING.search(end)):
            continue
        worked = bisect_left(begun, text.step) > bisect_left(begun, wishes[-1].step)
        wish = next((one for one in wishes if len(one.text) >= _WISH_CHARS_MIN), None)
        if not worked or wish is None:
            continue
        answer = texts[place + 1] if place + 1 < len(texts) else None
        if answer is None or answer.role != "user":
            if asks:
                yield text.step, wish.step
            continue
        said = [one for one in wishes if _is_again(one.text, answer.text)]
        if said or (asks and complains(answer.text)):
            yield text.step, (said[0] if said else wish).step


def _is_again(wish: str, answer: str) -> bool:
    """Say whether an answer says once more what was said before, by most of its words."""
    words = set(_PLAIN_WORD.findall(wish[:_TEXT_CHARS].casefold()))
    also = set(_PLAIN_WORD.findall(answer[:_TEXT_CHARS].casefold()))
    return len(wish) >= _WISH_CHARS_MIN and len(words & also) >= _AGAIN_SHARE * len(words)


def _met(texts: list[CaseText]) -> dict[str, int]:
    """Return from when on each assistant has heard what was said."""
    met: dict[str, int] = {}
    for text in texts:
        if text.role == "assistant":
            # Whoever is first has heard all; whoever comes later may have to make sure.
            met.setdefault(text.actor, text.step if met else -1)
    return met


def _judged(
    heard: _Heard, ask: tuple[str, ...], text: CaseText, answer: CaseText | None, met: int
) -> Reasked | None:
    """Return what was asked for again with one question, or None."""
    if answer is not None and answer.role != "user":
        answer = None
    said = {} if answer is None else heard.table.told(answer.text, ask)
    again = {_plain(value) for slot in ask for value in said.get(slot, ())}
    complaint = answer is not None and complains(answer.text)
    first: tuple[str, str, int] | None = None
    # One will do where several are asked for with "or"; all of them were known.
    for slot in ask:
        values = _known(heard, slot, text, again, complaint=complaint)
        values = {value: at for value, at in values.items() if at[1] > met}
        if not values:
            return None
        told = slot in heard.told or answer is not None
        if again - values.keys() or not (
            complaint or _is_the_same(heard.table.table[slot], values, again, told=told)
        ):
            return None
        value = next((one for one in values if one in again), next(iter(values)))
        first = first or (slot, value, values[value][0])
    if first is None or (answer is not None and not again and not complaint):
        return None
    slot, value, known = first
    return Reasked(text.step, known, slot, value, None if answer is None else answer.step)


def _known(
    heard: _Heard, slot: str, text: CaseText, again: set[str], *, complaint: bool
) -> dict[str, tuple[int, int]]:
    """Return the values of a slot that were known when it was asked for."""
    values = dict(heard.told.get(slot, {}))
    for value in sorted(again):
        at = heard.named(slot, value, complaint=complaint)
        if at is not None and value not in values:
            values[value] = at
    if not values and not _VERIFIES.search(text.text[-_TEXT_CHARS:]):
        values = dict(heard.returned.get(slot, {}))
    return values


def _is_the_same(
    slot: Slot, values: dict[str, tuple[int, int]], again: set[str], *, told: bool
) -> bool:
    """Say whether a question that nobody complains of can only have meant what was known."""
    if slot.name in _VAGUE or (slot.many and len(values) > 1):
        return False
    # Where nobody answered, it must have been the user who said it, and there is one only.
    return bool(again) or (told and not slot.many)


def _note(values: dict[str, tuple[int, int]], found: list[str], step: int) -> None:
    for value in map(_plain, found):
        first, _ = values.get(value, (step, step))
        values[value] = (first, step)


def _plain(value: str) -> str:
    return value.casefold().strip()


def _form(value: str) -> str:
    """Return what values of one kind have in common: where they have digits, and where letters.

    Letters set apart before a number say of what kind it is, as in TRK-88214 and PLY-5.
    """
    kind = _KIND.match(value)
    if kind is not None:
        return f"{kind.group()}{_form(value[kind.end() :])}"
    return _LETTERS.sub("a", _DIGITS.sub("0", value))


def _ended(call: CaseCall) -> int:
    return call.step if call.ended is None else call.ended


def _is_no(call: CaseCall) -> bool:
    return call.status in {CallStatus.FAILED, CallStatus.REFUSED}


def _blamed(call: CaseCall) -> Mapping[str, Any] | None:
    """Return the arguments of a failed call that its error names; all where it names none.

    Where nothing was found, nobody knows which of them was wrong.
    """
    if _MISSED.search((call.error or call.result or "")[:_SHORT_CHARS]):
        return call.arguments
    words = set(_PLAIN_WORD.findall((call.error or call.result or "")[:_SHORT_CHARS].casefold()))
    named = {k: v for k, v in (call.arguments or {}).items() if str(k).casefold() in words}
    return named or call.arguments


def _given(call: CaseCall, arguments: Mapping[str, Any] | None) -> str:
    try:
        text = json.dumps(arguments, default=str, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = call.raw
    return f"{text[:_CALL_CHARS]} {call.raw[:_CALL_CHARS]}".casefold()

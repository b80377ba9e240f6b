"""Wished: what users had asked to be done, and where a text says that just this was done.

Keeps: it counts where no call of a run changed anything; then a verb of the wish, told in the past
or as how things are, is a claim, and so is a bare "done". What needs no tool, such as looking,
reckoning and writing, is no change. The words are English; each pattern is bounded.
Leaves to `claims.py` whether a record bears it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from undercroft.layers.observability.sentences import (
    DENIED,
    ID,
    OWN,
    SPLIT,
    STEMS,
    THINGS,
    UNREAL,
    WORDY,
    telling,
)

_TEXT_CHARS = 8_000
_SENTENCE_CHARS = 500
_YES_CHARS_MAX = 80
_STEM_MIN = 3
# Verbs whose past has no "-ed"; those that people also use of looking and writing are left out.
_PAST_OF = {
    "set": "set", "reset": "reset", "put": "put", "cut": "cut", "shut": "shut", "sent": "send",
    "paid": "pay", "bought": "buy", "sold": "sell", "lent": "lend", "hidden": "hide",
    "withdrew": "withdraw", "withdrawn": "withdraw", "froze": "freeze", "frozen": "freeze",
    "undone": "undo", "undid": "undo", "overridden": "override", "hung": "hang", "laid": "lay",
    "thrown": "throw", "woken": "wake", "lit": "light", "fed": "feed",
}  # fmt: skip
_IRREGULAR = "|".join(sorted(_PAST_OF, key=lambda word: (-len(word), word)))
# Any verb in the past, of which a user's wish tells whether it is a change that was asked for.
_PAST = re.compile(
    r"\b(?P<how>was|were|been|is now|are now|is|are|i|i've|i have|we|we've|we have) "
    rf"(?:\w{{2,16}}ly |now |just |all ){{0,2}}(?P<past>[a-z]{{2,18}}ed|{_IRREGULAR})\b"
)
# What needs no write: looking, reckoning and saying.
_LOOKED = re.compile(
    r"review|verif|check|look|search|list|expla|transl|analy|compar|calcul|comput|summar|research"
    r"|locat|retriev|fetch|read|show|descri|identif|confirm|investigat|estimat|evaluat|draft|compos"
    r"|outlin|answer|help|assist|provid|gather|collect|count|track|monitor|inspect|examin|consider"
    r"|convert|solv|prepar|generat|display|format|sort|filter|explor|discuss|recommend|suggest"
    r"|clarif|extract|pars|classif|test|debug|not|authentic|need|want|ask|request|mention|offer"
    r"|determin|deriv|simplif|rank|explor|quot|detail|includ|bas|us|deliver|shipp|receiv"
)
# With these nothing is bidden that a call's name could bear out.
LOOKING = frozenset(
    {"check", "find", "list", "look", "read", "search", "show", "tell", "with", "that", "this"}
    | {"your", "mine", "what", "when", "order", "book", "account", "user", "item", "from", "into"}
)
# How things are as a rule, or would be: nothing that was done.
_HABIT = re.compile(
    r"\b(?:automatically|usually|always|normally|generally|typically|every|each|within|by|for a"
    r"|once|when|if|until|after|upon|already|still|scheduled|at the|only|any)\b"
)
_AGREES = re.compile(
    r"\W{0,3}(?:yes|yep|yeah|sure|ok(?:ay)?|please do|go ahead|correct|confirmed|i confirm|do it"
    r"|proceed|absolutely|sounds good|that's (?:right|fine|correct))\b"
    r"(?!.{0,60}\b(?:but|not|wait|don't)\b)"
)
_OFFERS = re.compile(
    r"\bshall i\b|\bshould i\b|do you confirm|please confirm|reply yes|say yes|\(yes/no\)"
    r"|would you like me to (?:go ahead|proceed)|do you want me to (?:go ahead|proceed)"
    r"|(?:may|can) i (?:go ahead|proceed)|to proceed|is that (?:correct|right|ok|okay)"
)
_DONE = re.compile(
    r"\W{0,6}(?:(?:all |it'?s |it is |that'?s |that is |ok(?:ay)?,? )?(?:all )?(?:done|set)"
    r"|consider it done)\s{0,2}(?:[.!,:;\u2013\u2014-]|\Z)"
)
_BIDS = re.compile(
    r"(?:\A|[,;:] |\band (?:then |also )?|\bthen )"
    r"(?:(?:please|kindly|now|ok|okay|hi|hello|hey|yes|sure|can you|could you|would you|will you"
    r"|can i|could i|may i|i want you to|i(?:'d| would) like (?:you )?to|i want to"
    r"|i need (?:you )?to|go ahead and|just|also)[, ]{1,2}){0,4}(?P<verb>[a-z]{3,18})\b"
)
_NOW = re.compile(r"\b(?:is|are|has|have)\b.{0,60}\bnow\b|\bnow [a-z]{2,15}s\b")
_CLAUSE = re.compile(
    r"[,;:()\u2013\u2014]| but | while | however | although "
    r"| and (?=(?:\S{1,30} ){1,2}(?:is|are|has|have)\b)"
)
# What was wished for, without its name.
_IT = re.compile(r" (?:it|them|that|this|those|these|both)\b")
_FIRM = tuple(sorted(stem for stem in STEMS if stem not in WORDY and len(stem) > _STEM_MIN))


@dataclass(frozen=True, slots=True)
class Told:
    """A sentence that says of a wish that it was done.

    Attributes:
        sentence: As it stands.
        word: The verb, in the past.
        stem: What it has in common with other forms of it.
        is_state: Whether it says how things are, and not what was done.
        values: Words with a digit that stand in the sentence and in the wish.
    """

    sentence: str
    word: str
    stem: str
    is_state: bool
    values: frozenset[str]


def told_of(text: str, wanted: str) -> Iterator[Told]:
    """Return the sentences of a text that tell as done what a user had wished for.

    Args:
        text: What the user was told.
        wanted: What users had asked for, in lower case.
    """
    words = frozenset(re.findall(r"[a-z]+", wanted))
    bids = frozenset(bidden(wanted))
    for sentence in SPLIT.split(text[:_TEXT_CHARS]):
        low = " ".join(sentence[:_SENTENCE_CHARS].lower().split()).replace("\u2019", "'")
        if low.endswith("?") or DENIED.search(low):
            continue
        for found in _PAST.finditer(low):
            past = found["past"]
            if _LOOKED.match(past) or UNREAL.search(low[: found.start()]):
                continue
            state = found["how"] in {"is", "are"}
            stem = _PAST_OF.get(past) or _stem(past)
            wished = any(_is_form(word, stem, past) for word in (bids if state else words))
            if not wished or len(stem) < _STEM_MIN or (state and _HABIT.search(low)):
                continue
            values = frozenset(_numbers(low) & _numbers(wanted))
            meant = (
                found["how"].startswith(("i", "we")) and not state and _IT.match(low[found.end() :])
            )
            it = meant and bool(_numbers(wanted))
            if values or it or is_of_somebody(low) or _is_theirs(low, words):
                yield Told(sentence, past, stem, state or past == stem, values)
                break


def _stem(past: str) -> str:
    stem = past[:-2]
    return stem[:-1] if len(stem) > _STEM_MIN and stem[-1] == stem[-2] else stem


def _is_form(word: str, stem: str, past: str) -> bool:
    if past in _PAST_OF:
        return word == stem
    return word.startswith(stem) and len(word) <= len(past) + 2


def _numbers(text: str) -> set[str]:
    """Return the words of a text that have a digit."""
    return {word for word in telling(text) if any(c.isdigit() for c in word)}


def _is_theirs(low: str, words: frozenset[str]) -> bool:
    """Say whether a sentence is about something of the user's that the user had named."""
    return any(word in words for word in re.findall(r"\byour (?:\w{2,20} )?(\w{3,20})", low))


def is_of_somebody(low: str) -> bool:
    """Say whether a sentence is about something that has a number, or is somebody's."""
    numbered = any(any(c.isdigit() for c in word) for word in ID.findall(low))
    return numbered or (THINGS.search(low) is not None and OWN.search(low) is not None)


def bidden(low: str) -> Iterator[str]:
    """Return what a user bids somebody do: the verbs with which wishes begin."""
    for line in low.splitlines():
        for sentence in SPLIT.split(line[:_SENTENCE_CHARS]):
            for found in _BIDS.finditer(sentence):
                yield found["verb"]


def says_done(text: str) -> bool:
    """Say whether a text begins with a bare "done"."""
    return _DONE.match(text[:_SENTENCE_CHARS].lower()) is not None


def wants_change(text: str) -> bool:
    """Say whether a user bids somebody change something in the books."""
    low = text[:_TEXT_CHARS].lower()
    verbs = set(bidden(low))
    if any(verb.startswith(stem) for verb in verbs for stem in _FIRM):
        return True
    changes = any(verb.startswith(stem) for verb in verbs for stem in STEMS)
    return (changes or not verbs.isdisjoint(_PAST_OF.values())) and is_of_somebody(low)


def told_now(text: str, wanted: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Return what a text says to be so now: a sentence, and the names in it that a wish had too."""
    named = _numbers(wanted)
    for sentence in SPLIT.split(text[:_TEXT_CHARS]) if named else ():
        low = " ".join(sentence[:_SENTENCE_CHARS].lower().split()).replace("\u2019", "'")
        if low.endswith("?") or DENIED.search(low) or UNREAL.search(low):
            continue
        for clause in _CLAUSE.split(low):
            names = _numbers(clause) & named if _NOW.search(clause) else set()
            if names:
                yield sentence, frozenset(names)


def agrees(text: str) -> bool:
    """Say whether a short answer is a yes, and nothing else."""
    low = text[:_YES_CHARS_MAX].lower()
    return len(text) < _YES_CHARS_MAX and _AGREES.match(low) is not None and "?" not in low


def offers_change(text: str) -> bool:
    """Say whether a text asks for a user's word before something in the books is changed."""
    low = text[-_TEXT_CHARS:].lower()
    if not _OFFERS.search(low):
        return False
    words = set(re.findall(r"[a-z]+", low))
    changes = any(word.startswith(stem) for word in words for stem in _FIRM)
    return changes or (is_of_somebody(low) and any(w.startswith(s) for w in words for s in STEMS))

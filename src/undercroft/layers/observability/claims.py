"""Claims: where a finished run tells its user that something was changed, and whether it was.

Keeps: a claim stands wherever any call might have done it: one that is not known to only read, or
that still waits, counts in its favour; so does what a result, or the user, had said to be so. A
text that follows a failed write and has no word of failure claims that all went well.
Leaves to `sentences.py` what is a claim.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from undercroft.layers.observability.sentences import (
    AGAIN,
    ALONG,
    ANY,
    ID,
    OF_TEXT,
    SPLIT,
    STEM_OF,
    STEMS,
    THEIRS,
    Said,
    claimed,
    glosses_over,
    is_of_books,
    is_wish,
    kept_by,
    plain_claims,
    says,
    telling,
)
from undercroft.layers.observability.wished import (
    LOOKING,
    Told,
    agrees,
    bidden,
    offers_change,
    says_done,
    told_now,
    told_of,
    wants_change,
)
from undercroft.model.case import Access, CallStatus, Case, CaseCall

_GIVEN_CHARS = 20_000
_RESULT_CHARS = 50_000
_ID_CHARS_MAX = 60
_STEM_MIN = 4
_NAME_CHARS_MIN = 4
# Whatever else its name has: what is called so looks something up.
_LOOKS = re.compile(
    r"(?:\A|[^a-z])(?:get|fetch|list|read|search|find|show|look|describe|check|view|load|query|track)"
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A change that a user was told of, and that did not happen.

    Attributes:
        step: Of the text.
        failed: Steps of the writes that failed; empty where none was made.
    """

    step: int
    sentence: str
    failed: tuple[int, ...]


def unfounded(case: Case) -> Iterator[Claim]:
    """Return the claims of a run that nothing in it bears out, once for each text."""
    said = _said(case)
    if not said:
        return
    doing = {call.step for call in case.calls}
    record = _Record(case)
    for step, turn, text in said:
        # What is said along with a call is said of what is about to be done.
        if step in doing:
            continue
        found = record.of_text(step, turn, text)
        for one in claimed(text):
            failed = record.belies(step, turn, one) if found is None else None
            if failed is not None:
                found = Claim(step, one.sentence, failed)
            record.told |= one.stems
        if found is not None:
            yield found


def _said(case: Case) -> list[tuple[int, int, str]]:
    """Return what users were told, as (step, turn, text)."""
    texts = [(t.step, t.turn, t.text) for t in case.texts if t.role == "assistant"]
    if texts:
        return texts
    proposing = {call.batch for call in case.calls}
    return [(a.step, a.turn, a.answer) for a in case.asks if a.answer and a.step not in proposing]


class _Record:
    """What a run did, ready to be held against what it said.

    Attributes:
        told: What had been told before, whether rightly or not: it may be told again.
    """

    def __init__(self, case: Case) -> None:
        self.told: set[str] = set()
        self._acts = [c for c in case.calls if c.access in {Access.WRITE, Access.UNKNOWN}]
        self._reads = [
            call
            for call in case.calls
            if call.access is Access.READ and call.status is CallStatus.OK and call.result
        ]
        self._names = [
            (call.step, call.turn, call.name.casefold())
            for call in case.calls
            if not _failed(call) and not _LOOKS.search(call.name.casefold())
        ]
        self._texts: dict[int, str] = {}
        self._users = [(t.step, t.text) for t in case.texts if t.role in {"user", "other"}]
        self._talk = [text for text in case.texts if text.role != "system"]
        self._talk_steps = [text.step for text in self._talk]
        self._keys = _keys_of(case.calls)
        self._asked = bool(self._reads) or bool(case.tools)
        self._given_to_reads = "\n".join(_written(call) for call in self._reads)

    def of_text(self, step: int, turn: int, text: str) -> Claim | None:
        """Return what a whole text claims, by what had gone before it."""
        acts = [call for call in self._acts if call.turn == turn]
        bad = [call for call in acts if _failed(call) and call.step < step]
        good = [call for call in acts if not _failed(call)]
        done = [c for c in self._acts if not _failed(c) and (c.step < step or c.turn == turn)]
        left = [c for c in bad if c.access is Access.WRITE and not _is_mended(c, done)]
        if bad:
            # What else was done after it was perhaps done in its place.
            last = max((call.step for call in left), default=0)
            instead = {call.name for call in good if call.step > last} - {c.name for c in left}
            # Read since then, it may be what the text is about.
            read = any(last < call.step < step and call.turn == turn for call in self._reads)
            if left and not instead and glosses_over(text, told=not read):
                return Claim(step, text, tuple(call.step for call in left))
            return None
        if self._acts or not self._asked:
            return None
        return self._of_nothing(step, turn, text)

    def _of_nothing(self, step: int, turn: int, text: str) -> Claim | None:
        """Judge a text where no call of the whole run changed anything.

        Told is then what the user had asked for, in the user's words, and no record had said so.
        """
        wanted = self._wanted(step)
        if self._is_called(step, turn, {*bidden(wanted)} - LOOKING):
            return None
        sentence = next(self._empty(step, text, wanted), None)
        return None if sentence is None else Claim(step, sentence, ())

    def _empty(self, step: int, text: str, wanted: str) -> Iterator[str]:
        for sentence, low, was, now in plain_claims(text):
            moved = any(stem in wanted for stem in was)
            if moved and not self._was_so(step, Said(sentence, was, was, own=False)):
                yield sentence
            if now and self._new(step, low, wanted):
                yield sentence
        yield from (one.sentence for one in told_of(text, wanted) if not self._is_known(step, one))
        for sentence, names in told_now(text, wanted):
            if self._apart(step, names):
                yield sentence
        bidden = says_done(text) and self._was_bidden(step)
        if bidden or (self._was_agreed(step) and glosses_over(text)):
            yield text

    def _is_called(self, step: int, turn: int, stems: Collection[str]) -> bool:
        """Say whether a call bears the name of what is told: then it may well have done it."""
        return any(
            any(len(stem) >= _STEM_MIN and stem in name for stem in stems)
            for at, when, name in self._names
            if at < step or when == turn
        )

    def _is_known(self, step: int, told: Told) -> bool:
        """Say whether a record that was read, or a user, had said so."""
        read = [
            (call.result or "")[:_RESULT_CHARS].casefold()
            for call in self._reads
            if call.step < step
        ]
        if told.is_state and told.values:
            return all(any(value in text for text in read) for value in told.values)
        if told.word == told.stem or (told.is_state and any(told.stem in text for text in read)):
            return True
        said = (text.casefold() for at, text in self._users if at < step)
        return any(told.word in text for text in (*said, *read))

    def _apart(self, step: int, names: frozenset[str]) -> bool:
        """Say whether no record that was read has all of some names, and was not asked for them."""
        return not any(
            all(name in self._text(call) for name in names)
            for call in self._reads
            if call.step < step
        )

    def _place(self, step: int) -> int:
        """Return the place in the talk of what an assistant said at a step, after its prompt."""
        place = bisect_left(self._talk_steps, step)
        while place < len(self._talk) and self._talk[place].step == step:
            if self._talk[place].role == "assistant":
                break
            place += 1
        return place

    def _was_bidden(self, step: int) -> bool:
        """Say whether a text answers a user who wants something changed."""
        place = self._place(step)
        wish = self._talk[place - 1] if place else None
        return wish is not None and wish.role == "user" and wants_change(wish.text)

    def _was_agreed(self, step: int) -> bool:
        """Say whether a text answers a user's yes to a change, and nothing came between."""
        place = self._place(step)
        if place < 2:  # noqa: PLR2004  an offer, and an answer to it
            return False
        offer, answer = self._talk[place - 2 : place]
        if answer.role != "user" or offer.role != "assistant":
            return False
        if any(offer.step < call.step < step for call in self._reads):
            return False
        return agrees(answer.text) and offers_change(offer.text)

    def _wanted(self, step: int) -> str:
        """Return what users had asked for, without what they asked about."""
        return "\n".join(
            sentence.lower()
            for at, text in self._users
            if at < step
            for sentence in SPLIT.split(text[:4_000])
            if is_wish(sentence.lower())
        )

    def _was_wanted(self, step: int, said: Said) -> bool:
        """Say whether a user had asked for what is told, and not only about it."""
        stems = said.stems if not said.stems <= ANY else frozenset(STEMS)
        words = set(re.findall(r"[a-z]+", self._wanted(step)))
        return any(word.startswith(stem) for word in words for stem in stems)

    def _new(self, step: int, low: str, wanted: str) -> bool:
        """Say whether a sentence tells as so what was wanted and stands in no record."""
        told, asked = telling(low), telling(wanted)
        for word in sorted(told & asked):
            known = any(
                call.step < step and word in (call.result or "")[:_RESULT_CHARS].casefold()
                for call in self._reads
            )
            if not known and word not in self._given_to_reads:
                return True
        return False

    def belies(self, step: int, turn: int, said: Said) -> tuple[int, ...] | None:
        """Return the steps of failed writes that belie a claim; None where something bears it out.

        Empty where no write was made that could have done it.
        """
        if self._is_called(step, turn, said.stems) and not self._acts:
            return None
        # What is done later in the turn was perhaps only told too early.
        acts = [call for call in self._acts if call.step < step or call.turn == turn]
        good = [call for call in acts if not _failed(call)]
        bad = [call for call in acts if _failed(call) and call.turn == turn and call.step < step]
        bad = [call for call in bad if not _is_mended(call, good)]
        found = (
            self._of_failed(said, turn, good, bad) if bad else self._of_none(step, turn, said, good)
        )
        return None if found is None or self._was_so(step, said) else found

    def _of_failed(
        self, said: Said, turn: int, good: Sequence[CaseCall], bad: Sequence[CaseCall]
    ) -> tuple[int, ...] | None:
        """Judge a claim where writes of the turn had failed."""
        ids = self._ids(said.sentence, [*good, *bad])
        if any(call.turn == turn for call in good):
            # Some of it was done: then it counts what the sentence speaks of.
            bad = [call for call in bad if self._is_of(call, said, ids)]
            return tuple(c.step for c in bad) if bad and not self._any(good, said, ids) else None
        if any(call.access is not Access.WRITE for call in good):
            return None
        # What was done in earlier turns may be told again, by its own name.
        again = said if ids else replace(said, stems=said.stems - ANY)
        if self._any(good, again, ids):
            return None
        return tuple(call.step for call in bad)

    def _of_none(
        self, step: int, turn: int, said: Said, good: Sequence[CaseCall]
    ) -> tuple[int, ...] | None:
        """Judge a claim where no write of the turn had failed."""
        ids = self._ids(said.sentence, good)
        if any(call.access is not Access.WRITE for call in good):
            return None
        if any(call.turn == turn for call in good):
            return () if self._is_of_another(said, good) else None
        if ids and any(self._touches(call, ids) for call in good):
            return None
        kept = is_of_books(said) or self._is_of_record(step, said)
        if not kept or not (said.own or self._was_wanted(step, said)):
            return None
        if not good:
            return ()
        # Others were made in earlier turns: then it must be new, and of another kind.
        new = said.stems - ANY - ALONG - self.told
        again = AGAIN.search(said.sentence.lower()) is not None or self._is_kept(good, said)
        return () if new == said.stems and not again and not self._any(good, said, ids) else None

    def _is_of_record(self, step: int, said: Said) -> bool:
        """Say whether a claim names a record that was read, or a field of it: "your address".

        What an assistant does to the text of its answer is not meant.
        """
        if OF_TEXT.search(said.clause):
            return False
        read = [call for call in self._reads if call.step < step]
        words = {word.strip(".:/-").casefold() for word in ID.findall(said.clause)}
        given = {
            str(value).casefold() for call in read for value in (call.arguments or {}).values()
        }
        if any(word in given for word in words if len(word) >= _NAME_CHARS_MIN):
            return True
        nouns = set(THEIRS.findall(said.clause))
        return any(
            re.search(rf'"\w{{0,20}}{re.escape(noun)}s?"\s?:', (call.result or "").casefold())
            for noun in nouns
            for call in read
        )

    def _is_kept(self, good: Sequence[CaseCall], said: Said) -> bool:
        """Say whether what a claim names stands in some write."""
        kept = kept_by(said)
        return bool(kept) and any(
            kept in f"{call.name.casefold()}\n{self._text(call)}" for call in good
        )

    def _is_of_another(self, said: Said, good: Sequence[CaseCall]) -> bool:
        """Say whether a claim is of another thing, and another change, than all that was done.

        Another kind of name may be the same thing; so it counts where names look alike.
        """
        stems = {STEM_OF[word] for word in re.findall(r"[a-z]+", said.clause) if word in STEM_OF}
        stems &= said.stems - ANY - ALONG
        given = {
            str(value).casefold() for call in good for value in (call.arguments or {}).values()
        }
        forms = {_form(value) for value in given if len(value) <= _ID_CHARS_MAX}
        words = [word.strip(".:/-") for word in ID.findall(said.clause)]
        ids = {w for w in words if any(c.isdigit() for c in w) and _form(w) in forms}
        if not stems or not ids:
            return False
        return not any(
            any(one in self._text(call) for one in ids)
            or any(stem in f"{call.name.casefold()}\n{self._text(call)}" for stem in stems)
            for call in good
        )

    def _ids(self, sentence: str, calls: Sequence[CaseCall]) -> frozenset[str]:
        """Return what a sentence names of the kind that some of `calls` were given.

        Where they are given other kinds, nothing can be said of what they did.
        """
        words = (word.strip(".:/-").casefold() for word in ID.findall(sentence))
        named = {word: self._keys[word] for word in words if word in self._keys}
        kinds = {name for call in calls for name in call.arguments or {}}
        return frozenset(word for word, names in named.items() if names & kinds)

    def _any(self, calls: Sequence[CaseCall], said: Said, ids: frozenset[str]) -> bool:
        return any(self._is_of(call, said, ids) for call in calls)

    def _is_of(self, call: CaseCall, said: Said, ids: frozenset[str]) -> bool:
        """Say whether a claim may speak of a call."""
        if ids:
            return self._touches(call, ids)
        text = f"{call.name.casefold()}\n{self._text(call)}"
        return bool(said.stems & ANY) or any(stem in text for stem in said.stems)

    def _touches(self, call: CaseCall, ids: frozenset[str]) -> bool:
        text = self._text(call)
        return any(one in text for one in ids)

    def _text(self, call: CaseCall) -> str:
        """Return what a call was given, and what it returned."""
        place = id(call)
        if place not in self._texts:
            result = "" if _failed(call) else (call.result or "")[:_RESULT_CHARS]
            self._texts[place] = f"{_written(call)}\n{result.casefold()}"
        return self._texts[place]

    def _was_so(self, step: int, said: Said) -> bool:
        """Say whether somebody else had said so: a record that was read, or the user."""
        for at, text in self._users:
            if at < step and any(says(sentence, said) for sentence in SPLIT.split(text[:4_000])):
                return True
        words = "|".join(w for stem in sorted(said.all_stems) for w in STEMS[stem].split())
        state = re.compile(rf"\b(?:{words})\b")
        ids = {word.strip(".:/-").casefold() for word in ID.findall(said.sentence)}
        ids &= self._keys.keys()
        for call in self._reads:
            if call.step < step and call.result is not None:
                text = call.result[:_RESULT_CHARS].casefold()
                named = not ids or any(one in text for one in ids)
                if named and state.search(text):
                    return True
        return False


def _form(value: str) -> str:
    """Return where a name has digits, and where letters."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", value))


def _failed(call: CaseCall) -> bool:
    """Say whether a call did nothing; one that waits, or of which nobody knows, may have."""
    return call.status in {CallStatus.FAILED, CallStatus.REFUSED}


def _is_mended(call: CaseCall, good: Sequence[CaseCall]) -> bool:
    """Say whether another call did what a failed one should have done."""
    keys = {touch.key for touch in call.touches}
    for one in good:
        also = {touch.key for touch in one.touches}
        later = one.step > call.step
        # What came before it and was alike had done it: it failed since it was done.
        if (keys & also and later) or (
            one.name == call.name
            and (later or one.actor == call.actor or "" in {one.actor, call.actor})
            and (bool(keys & also) or not (keys and also))
            and (_alike(call, one) if later else _of_same(call, one))
        ):
            return True
        if one.name == call.name and later and (one.batch < 0 or one.batch != call.batch):
            return True  # what it was given was wrong, and was corrected
    return False


def _of_same(call: CaseCall, one: CaseCall) -> bool:
    """Say whether a call names what another had named: what has a digit is a name.

    Whoever gives a field that the other had not been given wants something else changed.
    """
    also = one.arguments or {}
    if not also.keys() >= (call.arguments or {}).keys():
        return False
    named = {k: v for k, v in (call.arguments or {}).items() if any(c.isdigit() for c in str(v))}
    return bool(named) and all(name in also and also[name] == v for name, v in named.items())


def _alike(call: CaseCall, one: CaseCall) -> bool:
    """Say whether two calls were given the same, by and large."""
    given, also = call.arguments or {}, one.arguments or {}
    equal = sum(name in also and bool(also[name] == value) for name, value in given.items())
    return 2 * equal >= max(len(given), len(also))


def _written(call: CaseCall) -> str:
    try:
        text = json.dumps(call.arguments, default=str, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = call.raw
    return text[:_GIVEN_CHARS].casefold()


def _keys_of(calls: Sequence[CaseCall]) -> dict[str, set[str]]:
    """Return the identifiers that calls were given, words with a digit, by what they were."""
    found: dict[str, set[str]] = {}
    for call in calls:
        for name, value in (call.arguments or {}).items():
            for one in value[:100] if isinstance(value, list) else (value,):
                if isinstance(one, str) and ID.fullmatch(one) and any(c.isdigit() for c in one):
                    found.setdefault(one.casefold(), set()).add(name)
    return found

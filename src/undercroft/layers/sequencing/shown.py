"""What the calls of a finished run could have known: what was shown to them, and when.

Keeps: where spans have times these decide what came before, since spans stand in a file in any
order; in a conversation the order of its messages decides. What may have been shown counts
as shown.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from undercroft.model.case import Access, Case, CaseCall, CaseText

DEPTH_MAX = 8
IDS_MAX = 200
RESULT_CHARS_MAX = 2_000_000
ID_CHARS_MIN, ID_CHARS_MAX = 3, 100

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_STRONG = frozenset(["id", "ids", "uuid", "uuids", "guid", "guids"])
_WEAK = frozenset(
    [
        "number",
        "numbers",
        "no",
        "ref",
        "refs",
        "reference",
        "references",
        "code",
        "sku",
        "key",
        "keys",
    ]
)
# Parameters that look alike and name no record: of the call itself, or of the world at large.
CALLERS = frozenset(
    [
        "idempotency",
        "request",
        "session",
        "trace",
        "correlation",
        "thread",
        "conversation",
        "run",
        "client",
        "api",
        "model",
        "phone",
        "zip",
        "postal",
        "country",
        "currency",
        "language",
        "promo",
        "coupon",
        "discount",
        "page",
        "line",
        "house",
        "serial",
        "batch",
        "chunk",
        "sequence",
        "row",
        "column",
        "random",
        "seed",
        "new",
        "tool",
        "call",
        "agent",
        "template",
        "nonce",
    ]
)
_WORDS = re.compile(r"[^\W_]+")
TRIES_MAX = 1_000
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?(?:[T ][0-9:.+Z-]{0,30})?|\d\d?[/.]\d\d?[/.]\d{2,4}")
_AMOUNT = re.compile(r"[-+$€£]{0,2}\d{1,15}[.,]\d{1,6}")
_DIGITS = re.compile(r"\d{3,40}")
_CUT = re.compile(
    r"(?:\.\.\.|…)\W{0,9}\Z|\b(?:truncated|omitted|elided|cut off|shortened)\b|"
    r"\b\d{1,12} more (?:characters|chars|lines|bytes|items|rows|tokens|words)",
    re.IGNORECASE,
)
_STATE_FIELDS_MIN = 2
# Python spells no integer of thousands of digits.
_INTEGER_MAX = 10**30
TEXT_CHARS_MAX, AFTER_CHARS = 200_000, 200
_TOKEN = re.compile(r"[\w#@./:-]++")
_MARKED = re.compile(r"[\d/]")
# With so few ids to look for, a text without any of them is not taken apart.
FEW = 50
_WORD = re.compile(r"[^\W\d_]{2,40}")


class Places:
    """Where values stand in texts: found by their words, without a look at all of the text.

    Args:
        pieces: Texts in order, as (rank, text).
    """

    def __init__(self, pieces: Iterable[tuple[int, str]]) -> None:
        self._ranks: list[int] = []
        self._starts: list[int] = []
        self._words: dict[str, int] = {}
        texts: list[str] = []
        at = 0
        for rank, text in pieces:
            folded = text.casefold()
            self._ranks.append(rank)
            self._starts.append(at)
            texts.append(folded)
            at += len(folded) + 1
        # From the last to the first, so that where a word stands first is what stays.
        for start, text in zip(reversed(self._starts), reversed(texts), strict=True):
            self._words.update(dict.fromkeys(_WORDS.findall(text), start))
        self._text = "\n".join(texts)

    def first(self, value: str) -> int | None:
        """Return the rank of the first text in which `value` stands as a whole; None if none."""
        wanted = value.casefold().strip()
        start = 0
        for match in _WORDS.finditer(wanted):
            at = self._words.get(match.group())
            if at is None:
                return None
            start = max(start, at)
        at = start - 1
        for _ in range(TRIES_MAX if _WORDS.search(wanted) else 0):
            at = self._text.find(wanted, at + 1)
            if at < 0:
                return None
            if _whole(self._text, at, at + len(wanted)):
                return self._ranks[bisect_right(self._starts, at) - 1]
        return None


def _whole(text: str, start: int, end: int) -> bool:
    """Whether what stands there is no part of a longer word."""
    opens = start == 0 or not (text[start - 1].isalnum() and text[start].isalnum())
    return opens and not (text[end - 1].isalnum() and text[end : end + 1].isalnum())


class Given(NamedTuple):
    """An identifier among the arguments of a call.

    Attributes:
        loose: Whether it may as well be none, or be the caller's own.
    """

    name: str
    value: str
    loose: bool = False


def given_ids(arguments: Mapping[str, Any]) -> list[Given]:
    """Return the identifiers among arguments, at any depth, each value once."""
    found: dict[str, Given] = {}
    for name, value in _leaves(arguments, "", 0):
        text = str(value).strip()
        if len(found) < IDS_MAX and _is_id(name, text):
            found.setdefault(text, Given(name, text))
    return list(found.values())


def _leaves(value: object, name: str, depth: int) -> Iterator[tuple[str, str | int]]:
    if depth > DEPTH_MAX:
        return
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        value = _within(value)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, str(key), depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value[: 4 * IDS_MAX]:
            yield from _leaves(inner, name, depth + 1)
    elif isinstance(value, str):
        yield name, value[: 4 * ID_CHARS_MAX]
    elif type(value) is int and abs(value) < _INTEGER_MAX:
        yield name, value


def _within(text: str) -> object:
    """Return what a list or an object holds that was written as text; None if it is none."""
    if len(text) > TEXT_CHARS_MAX:
        return None
    try:
        return json.loads(text.replace("'", '"'))
    except (ValueError, RecursionError):
        return None


def words_of(name: str) -> list[str]:
    """Return the words of a parameter's name."""
    return list(_split(name[:ID_CHARS_MAX]))


@lru_cache(1 << 12)
def _split(name: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9]+", _CAMEL.sub("_", name).lower()))


def _is_id(name: str, value: str) -> bool:
    words = words_of(name)
    if not words or not ID_CHARS_MIN <= len(value) <= ID_CHARS_MAX or re.search(r"\s", value):
        return False
    end = words[-1]
    if end not in _STRONG | _WEAK or (len(words) > 1 and words[-2] in CALLERS):
        return False
    if words in (["new", "id"], ["key"], ["no"], ["number"], ["code"], ["numbers"]):
        return False
    if _DATE.fullmatch(value) or _AMOUNT.fullmatch(value):
        return False
    digits = sum(map(str.isdigit, value))
    if end in _WEAK:
        return digits >= ID_CHARS_MIN and not _AMOUNT.fullmatch(value)
    return digits > 0 or (value.isupper() and len(value) > 4)  # noqa: PLR2004  an acronym is less


class Shown:
    """What was shown in a run, and the order in which its calls began and ended.

    Attributes:
        began: By place in `calls`, when each began, as a number that only orders.
        ended: When its result was there; None where none is recorded.
        calls: All calls, in the order in which they began.
    """

    def __init__(self, case: Case) -> None:
        self.spans = any(call.ended == call.step for call in case.calls)
        order = sorted(
            range(len(case.calls)), key=lambda i: (self._start(case.calls[i]), case.calls[i].step)
        )
        self.calls = tuple(case.calls[i] for i in order)
        self._said = _said(case)
        prompts = [ask.prompt is not None for ask in case.asks]
        # Where a prompt is missing, what it said first stands in a later one.
        self.unsaid = any(prompts) and not all(prompts)
        pieces: list[tuple[float, str]] = [(self._text_at(t), t.text) for t in self._said]
        pieces += [(at, text) for at, text in _asked(case, spans=self.spans)]
        results = [(self._end(call), call.result) for call in self.calls]
        pieces += [(at, text[:RESULT_CHARS_MAX]) for at, text in results if at is not None and text]
        # By time first: `_start` of what a call knew at its beginning is looked up among these.
        pieces.sort(key=lambda piece: piece[0])
        self._times = sorted({at for at, _ in pieces})
        ranks = {at: rank for rank, at in enumerate(self._times)}
        self._places = Places((ranks[at], text) for at, text in pieces)
        self._firsts: dict[str, float | None] = {}
        self.hidden_from = self._first_hidden()

    def first(self, value: str) -> float | None:
        """Return when a value, however it was marked, was shown first; None if never."""
        if value not in self._firsts:
            self._firsts[value] = self._first(value)
        return self._firsts[value]

    def _first(self, value: str) -> float | None:
        core = value.strip("#").strip()
        ranks = [self._places.first(value), self._places.first(core)]
        runs = _DIGITS.findall(core)
        if runs:
            parts = [self._places.first(run) for run in runs]
            # Said without its letters, as people do: order 1001 for ORD-1001.
            known = [part for part in parts if part is not None]
            if len(known) == len(parts):
                ranks.append(max(known))
        seen = [rank for rank in ranks if rank is not None]
        return self._times[min(seen)] if seen else None

    def before(self, value: str, call: CaseCall) -> bool:
        """Whether a value had been shown when `call` began."""
        first = self.first(value)
        start = self._start(call)
        if not self.placed(call):
            return True
        # What a prompt says comes before what its answer proposes, and stands at the same step.
        return first is not None and first <= start

    def placed(self, call: CaseCall) -> bool:
        """Whether it is known when a call was made; else it may have known anything."""
        return not self.spans or call.began_at is not None

    def began(self, call: CaseCall) -> float:
        """Return when a call began, as a number that only orders."""
        return self._start(call)

    def ended(self, call: CaseCall) -> float | None:
        """Return when its result was there; None where none is recorded."""
        return self._end(call)

    def all_shown(self, call: CaseCall) -> bool:
        """Whether everything that `call` may have known stands in the record."""
        return self._start(call) <= self.hidden_from

    def _first_hidden(self) -> float:
        """Return when a call began whose result is not there, or not all of it."""
        hidden = [
            self._start(call)
            for call in self.calls
            if call.result is None
            or (not call.result.strip() and call.access in {Access.READ, Access.UNKNOWN})
            or is_cut(call.result)
            or len(call.result) > RESULT_CHARS_MAX
        ]
        return min(hidden, default=float("inf"))

    def _start(self, call: CaseCall) -> float:
        if not self.spans:
            return float(call.step)
        return float("-inf") if call.began_at is None else call.began_at

    def _end(self, call: CaseCall) -> float | None:
        if not self.spans:
            return None if call.ended is None else float(call.ended)
        if call.began_at is None:
            return float("-inf")
        return call.began_at + max(call.took_s or 0.0, 0.0)

    def _text_at(self, text: CaseText) -> float:
        if not self.spans:
            return float(text.step)
        return float("-inf") if text.at is None or self.unsaid else text.at


def is_cut(result: str) -> bool:
    """Whether a result was cut off somewhere, so that it may have shown more."""
    tail = result[-120:].rstrip()
    if _CUT.search(tail):
        return True
    start = result.lstrip()[:1]
    return start in {"[", "{"} and tail[-1:] not in {"]", "}"}


def _said(case: Case) -> list[CaseText]:
    return [text for text in case.texts if text.role != "assistant"]


def _asked(case: Case, *, spans: bool) -> Iterable[tuple[float, str]]:
    """Return what prompts showed besides the texts of the case, each text once."""
    seen: set[str] = {text.text for text in case.texts}
    for ask in case.asks:
        for role, text in ask.prompt or ():
            if role == "assistant" or text in seen:
                continue
            seen.add(text)
            at = float(ask.step) if not spans else ask.began_at
            yield (float("-inf") if at is None else at), text


def records(result: str, wanted: Collection[str]) -> set[str]:
    """Return which of the `wanted` ids a result shows with the state of what they name.

    A record is an object with several fields; its id is the first of them that is one, or
    the key under which it stands. In plain text an id has words of its own after it. A bare id
    shows nothing of what it names.
    """
    if len(result) > RESULT_CHARS_MAX:
        return set()
    if len(wanted) <= FEW and not any(value in result for value in wanted):
        return set()
    try:
        data = json.loads(result) if result.lstrip()[:1] in {"[", "{"} else None
    except (ValueError, RecursionError):
        data = None
    return (_in_text(result) if data is None else _in_data(data)) & set(wanted)


def _in_data(data: object) -> set[str]:
    found: set[str] = set()
    stack: list[tuple[object, int]] = [(data, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > 2 * DEPTH_MAX:
            continue
        if isinstance(value, dict):
            found.update(_own_ids(value))
            for key, inner in value.items():
                if isinstance(inner, dict) and inner:
                    found.add(key)
                stack.append((inner, depth + 1))
        elif isinstance(value, list):
            stack += [(inner, depth + 1) for inner in value]
    return found


def _in_text(text: str) -> set[str]:
    found: set[str] = set()
    tokens = [
        token
        for token in _TOKEN.finditer(text[:TEXT_CHARS_MAX])
        if _MARKED.search(token.group()[:ID_CHARS_MAX])
    ]
    for place, token in enumerate(tokens):
        end = tokens[place + 1].start() if place + 1 < len(tokens) else len(text)
        after = text[token.end() : min(end, token.end() + AFTER_CHARS)].partition("\n\n")[0]
        if len(_WORD.findall(after)) >= _STATE_FIELDS_MIN:
            found.add(token.group().strip(".,:;!?/"))
    return found


def _own_ids(record: Mapping[str, Any]) -> list[str]:
    if len(record) < _STATE_FIELDS_MIN:
        return []
    own = []
    for key, value in record.items():
        words = words_of(key)
        named = words and (words[-1] in _STRONG | _WEAK or words[-1] in {"name", "path", "email"})
        if named and isinstance(value, str | int) and not isinstance(value, bool):
            own.append(str(value))
            if words[-1] in _STRONG | {"number", "path"}:
                break
    return own

"""What of the resources that a finished run wrote had been read before, by whatever showed it.

Keeps: whatever may have shown a resource counts as a read of it; a bare id shows nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from undercroft.layers.sequencing.shown import (
    RESULT_CHARS_MAX,
    Places,
    Shown,
    records,
    words_of,
)
from undercroft.model.case import Access, CallStatus, Case, CaseCall

BARE_CHARS = 20
BULK_MIN = 3
TEXT_CHARS_MAX = 200_000
# Modes of a write that needs a read of what it names.
NEEDING = frozenset({"write", "append"})
_READERS = frozenset({"get", "read", "fetch", "retrieve", "show", "view", "describe"})
SENTENCES = re.compile(r"[^.\n!?]{10,1000}")
_LOOK_FIRST = re.compile(
    r"\b(?:check|verify|review|look (?:[\w']{1,20} ){0,4}up|retrieve|fetch|read"
    r"|inspect)\b[^.]{0,200}\bbefore\b"
    r"|\bbefore\b[^.]{0,200}\b(?:check|verify|review|look (?:[\w']{1,20} ){0,4}up|retrieve"
    r"|fetch|read|inspect)\b",
    re.IGNORECASE,
)
_SPELLED = re.compile(r"[\d/]")
_HELD = frozenset({CallStatus.REFUSED, CallStatus.WAITING})


class Reads:
    """What had been read or written so far.

    Args:
        wanted: Ids of what is written.
    """

    def __init__(self, shown: Shown, wanted: frozenset[str]) -> None:
        self._shown = shown
        self._keys: set[str] = set()
        self._records: dict[str, float] = {}
        for call in shown.calls:
            ended = shown.ended(call)
            if call.result is None or ended is None or call.status is CallStatus.FAILED:
                continue
            for value in records(call.result, wanted):
                self._records[value] = min(ended, self._records.get(value, ended))
        asked = [
            (shown.began(call), text)
            for call in shown.calls
            if call.access in {Access.READ, Access.UNKNOWN} and call.status is not CallStatus.FAILED
            for text in _texts_in(call.arguments or {})
        ]
        asked.sort(key=lambda one: one[0])
        self._asked = Places((place, text) for place, (_, text) in enumerate(asked))
        self._asked_at = [at for at, _ in asked]

    @cached_property
    def _texts(self) -> tuple[Places, list[float]]:
        """What results that are no data said, and when they were there."""
        texts = [
            (ended, call.result[:RESULT_CHARS_MAX])
            for call in self._shown.calls
            if call.result is not None and len(call.result) > BARE_CHARS
            if (ended := self._shown.ended(call)) is not None
            if call.status is not CallStatus.FAILED and call.result.lstrip()[:1] not in {"[", "{"}
        ]
        texts.sort(key=lambda one: one[0])
        places = Places((place, text) for place, (_, text) in enumerate(texts))
        return places, [ended for ended, _ in texts]

    def note(self, call: CaseCall) -> None:
        """Take note of a call that began."""
        if call.status not in _HELD and call.status is not CallStatus.FAILED:
            self._keys.update(t.key for t in call.touches if t.mode != "peek")

    def has(self, key: str, at: float, *, ties: bool) -> bool:
        """Whether the resource had been seen, in whatever way, at `at`."""
        outer = key
        while outer:
            if outer in self._keys:
                return True
            outer = outer.rpartition("/")[0]
        value = key.partition("/")[2].replace("%2F", "/")
        if _in_time(self._records.get(value), at, ties=ties):
            return True
        # A search or a command that named it may have shown it.
        place = self._asked.first(value)
        if place is not None and _in_time(self._asked_at[place], at, ties=ties):
            return True
        # A name that is spelled like a word is looked for in what was said of it.
        return not _SPELLED.search(value) and self._in_text(value, at, ties=ties)

    def listed(self, key: str, at: float) -> bool:
        """Whether a read had brought up the id of the resource at `at`."""
        value = value_of(key)
        if not _SPELLED.search(value):
            return False
        return _stood(self._lists, value, at)

    def made(self, key: str, at: float) -> bool:
        """Whether a write of the run had given the resource its id at `at`."""
        return _stood(self._receipts, value_of(key), at)

    @cached_property
    def _lists(self) -> tuple[Places, list[float]]:
        """What reads returned, and when it was there."""
        return self._returned(Access.READ)

    @cached_property
    def _receipts(self) -> tuple[Places, list[float]]:
        """What writes returned, and when it was there."""
        return self._returned(Access.WRITE)

    def _returned(self, access: Access) -> tuple[Places, list[float]]:
        texts = [
            (ended, call.result[:RESULT_CHARS_MAX])
            for call in self._shown.calls
            if call.result is not None and call.access is access
            if (ended := self._shown.ended(call)) is not None
            if call.status is not CallStatus.FAILED
        ]
        texts.sort(key=lambda one: one[0])
        places = Places((place, text) for place, (_, text) in enumerate(texts))
        return places, [ended for ended, _ in texts]

    def _in_text(self, value: str, at: float, *, ties: bool) -> bool:
        places, ends = self._texts
        place = places.first(value)
        return place is not None and _in_time(ends[place], at, ties=ties)


def _stood(texts: tuple[Places, list[float]], value: str, at: float) -> bool:
    places, ends = texts
    place = places.first(value)
    return place is not None and ends[place] <= at


def _in_time(when: float | None, at: float, *, ties: bool) -> bool:
    return when is not None and (when <= at if ties else when < at)


def _texts_in(arguments: Mapping[str, Any]) -> list[str]:
    return [str(value)[:TEXT_CHARS_MAX] for value in arguments.values()]


def readable(case: Case, shown: Shown) -> set[str]:
    """Return the kinds of resources that a read was made of, is on offer for, or demanded."""
    kinds = {
        touch.key.partition("/")[0]
        for call in shown.calls
        for touch in call.touches
        if touch.mode == "read" and call.access is Access.READ
    }
    written = {
        touch.key.partition("/")[0]
        for call in shown.calls
        for touch in call.touches
        if touch.mode in NEEDING
    }
    offered = [words_of(name) for name in sorted(case.tools or ())]
    demands = [
        sentence.casefold()
        for text in case.texts
        if text.role == "system"
        for sentence in SENTENCES.findall(text.text[:TEXT_CHARS_MAX])
        if _LOOK_FIRST.search(sentence)
    ]
    for kind in written - kinds:
        words = kind.split("_")
        by_tool = any(name[:1] and name[0] in _READERS and words[-1] in name for name in offered)
        if by_tool or any(re.search(rf"\b{re.escape(words[-1])}s?\b", one) for one in demands):
            kinds.add(kind)
    return kinds


def value_of(key: str) -> str:
    """Return the id that a key names a resource by."""
    return key.partition("/")[2].replace("%2F", "/")


def in_bulk(shown: Shown) -> frozenset[str]:
    """Return the tools that write to many things alike, as they were found by a search."""
    keys: dict[str, set[str]] = {}
    for call in shown.calls:
        if call.access is Access.WRITE:
            keys.setdefault(call.name, set()).update(
                touch.key for touch in call.touches if touch.mode == "write"
            )
    return frozenset(name for name, those in keys.items() if len(those) >= BULK_MIN)

"""Recorded sessions, gone through as if their window had lost some of the facts.

What a fact is, is found by `scored.py`: what users state and what calls are given, by rules and
from the calls, not as Undercroft finds it. A fact that is dropped leaves the window one to eight
messages after it was first said. Either for good, as with a summariser or a filter that never
takes it over; or until it is said again.

What is simulated is the window, and what is observed of it. The agents are recorded ones, who had
everything before them: they use what they had, so that a *miss* is a call given a value that the
window of that moment no longer held. A real agent would have asked again, read again or guessed;
that shows in other parts of the score, which these recordings hardly exercise.

Keeps: a score sees nothing but what came before it; the same seed drops the same facts, and a
higher rate drops those of a lower one too.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from bench.context import sessions
from bench.context.scored import Wanted, has, text_of, wanted_of
from bench.context.sessions import Chat, Session, arguments_of
from undercroft.layers.context.identifiers.ledger import Entry, Ledger
from undercroft.layers.context.identifiers.words import Words
from undercroft.layers.context.items import Fate
from undercroft.layers.context.quality.observing import NOW, Observer, Seen
from undercroft.layers.context.quality.score import Quality, Score
from undercroft.model.step import Call

DELAY_MAX = 8
CHARS_PER_TOKEN = 4


@dataclass(slots=True)
class Heard:
    """A session, and what there is to know of it that no dropping changes.

    Attributes:
        used: By place of an answer, the identifiers that its calls were given.
        known: By place of an answer, how many entries the ledger had before it.
        disputes: Likewise, how many conflicts and slots.
        places: By fact, where it is said.
    """

    session: Session
    words: Words = field(default_factory=Words)
    entries: dict[str, Entry] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    used: dict[int, list[str]] = field(default_factory=dict)
    known: dict[int, int] = field(default_factory=dict)
    disputes: dict[int, tuple[int, int]] = field(default_factory=dict)
    wanted: Wanted = field(default_factory=lambda: Wanted({}, {}))
    places: dict[str, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Played:
    """A session gone through with some facts dropped.

    Attributes:
        scores: Before each answer, its place and the session's score.
        misses: Places of answers with a call that was given what the window no longer held.
        alarms: Places of the answers before which an alarm was raised.
    """

    scores: list[tuple[int, Score]] = field(default_factory=list)
    misses: list[int] = field(default_factory=list)
    alarms: list[int] = field(default_factory=list)


# ------------------------------------------------------------------ sessions


def shuffled(domain: str, shuffles: int, traces: Path) -> list[list[Heard]]:
    """Stitch all conversations of a domain into sessions, in several orders."""
    rows = (
        row
        for folder in sessions.DOMAINS[domain]
        for row in sessions.rows_of(traces / folder / "traces.jsonl.gz")
    )
    usable = [
        sessions.conversation_of(row)
        for row in rows
        if row.get("messages") and sessions.sendable(row["messages"])
    ]
    found = []
    for shuffle in range(shuffles):
        order = random.Random(f"{domain} {shuffle}")  # noqa: S311  the same ones each time
        names = [f"{place:04d}" for place in range(len(usable))]
        order.shuffle(names)
        renamed = [replace(one, name=name) for one, name in zip(usable, names, strict=True)]
        made, _ = sessions.stitch(domain, renamed, _tokens)
        found.append([hear(replace(one, name=f"{one.name}/{shuffle}")) for one in made])
    return found


def _tokens(messages: Any) -> int:
    return sum(len(text_of(one)) for one in messages) // CHARS_PER_TOKEN


def hear(session: Session) -> Heard:
    """Go through a session once, with everything in the window."""
    heard = Heard(session, wanted=wanted_of(session))
    ledger = Ledger(words=heard.words)
    heard.entries = ledger.entries
    texts = [text_of(one) for one in session.messages]
    for at, one in _said(session):
        if one["role"] == "assistant":
            heard.known[at] = len(ledger.entries)
            heard.disputes[at] = len(ledger.conflicts()), ledger.slots
        heard.words.add(at, texts[at])
        text = one.get("content") or ""
        if one["role"] == "user":
            ledger.user(at, text)
        elif one["role"] == "assistant":
            ledger.assistant(at, text)
            heard.used[at] = []
            for call in one.get("tool_calls") or ():
                name, arguments = call["function"]["name"], arguments_of(call)
                heard.calls[call["id"]] = Call(name, arguments, call["id"])
                uses = ledger.call(at, name, arguments)
                heard.used[at] += [use.value for use in uses if use.entry is not None]
        else:
            ledger.result(at, one.get("name") or "", text)
    for fact in sorted(heard.wanted.every):
        heard.places[fact] = [at for at, text in enumerate(texts) if at and has(text, fact)]
    return heard


def _said(session: Session) -> Iterator[tuple[int, Chat]]:
    return islice(enumerate(session.messages), 1, None)


# ------------------------------------------------------------------ the window


class _First:
    """The first so many entries of a ledger: those of that moment."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries
        self._items = list(entries.items())
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def get(self, key: str, /) -> Entry | None:
        """Return the entry of a value."""
        return self._entries.get(key)

    def items(self) -> list[tuple[str, Entry]]:
        """Return the entries that there are so far."""
        return self._items[: self.count]


class _Lossy:
    """What a window shows that has lost facts: nothing of what it shows came after `now`."""

    def __init__(self, heard: Heard, drops: Mapping[str, int], *, again: bool) -> None:
        self._heard, self._drops, self._again = heard, drops, again
        self._within: dict[str, list[int]] = {}
        self.now = 0

    def find(self, value: str, before: int = NOW, after: int = -1) -> Seen:
        end = min(before, self.now + 1)
        items = [at for at in self._heard.words.holders(value) if after < at < end]
        left = [at for at in self._left(value) if at <= self.now]
        if not items:
            return Seen.GONE if after >= 0 else Seen.PRESENT
        if not left or (self._again and max(items) >= max(left)):
            return Seen.PRESENT
        return Seen.GONE

    def fate(self, item: int) -> Fate:
        del item
        return Fate.KEPT

    def _left(self, value: str) -> list[int]:
        """Return when facts left that a value consists of."""
        folded = value.casefold()
        if folded not in self._within:
            left = [at for fact, at in self._drops.items() if has(folded, fact)]
            self._within[folded] = left
        return self._within[folded]


def drops_of(heard: Heard, rate: float, seed: int, since: int) -> dict[str, int]:
    """Choose which facts leave the window, and when."""
    drops = {}
    for fact, places in heard.places.items():
        chance = random.Random(f"{heard.session.name} {fact} {seed}")  # noqa: S311  likewise
        if chance.random() < rate and places:
            drops[fact] = max(since, places[0] + chance.randint(1, DELAY_MAX))
    return drops


def play(heard: Heard, rate: float, seed: int, *, again: bool = False, since: int = 0) -> Played:
    """Go through a session as if its window had lost a share of the facts.

    Args:
        heard: The session.
        rate: Which share.
        seed: Of which facts it are.
        again: Whether a fact is back when it is said again.
        since: No fact leaves before this place.
    """
    drops = drops_of(heard, rate, seed, since)
    played = Played()
    sight = _Lossy(heard, drops, again=again)
    known = _First(heard.entries)
    quality = Quality()
    observer = Observer(quality, sight, known)
    leaving = set(drops.values())
    for at, one in _said(heard.session):
        text = one.get("content") or ""
        sight.now = at
        if at in leaving:
            observer.compacted()
        if one["role"] == "user":
            quality.begin_turn()
            observer.user(text)
        elif one["role"] == "assistant":
            sight.now, known.count = at - 1, heard.known[at]
            conflicts, slots = heard.disputes[at]
            if observer.prompt(conflicts=conflicts, slots=slots) is not None:
                played.alarms.append(at)
            played.scores.append((at, quality.session()))
            calls = [heard.calls[call["id"]] for call in one.get("tool_calls") or ()]
            observer.answer(at, text, calls, heard.used[at])
            facts = heard.wanted.used.get(at, ())
            if any(_is_missed(heard, drops, fact, at, again=again) for fact in facts):
                played.misses.append(at)
        elif call := heard.calls.get(one.get("tool_call_id", "")):
            observer.result(at, call, text)
    return played


def _is_missed(heard: Heard, drops: Mapping[str, int], fact: str, at: int, *, again: bool) -> bool:
    left = drops.get(fact)
    if left is None or left >= at:
        return False
    places = heard.places[fact]
    return not again or bisect_left(places, at) == bisect_left(places, left)

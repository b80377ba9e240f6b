"""Requests to a model as conversations: which belong together, and what each adds.

Keeps: a message that is sent again is the same step; what a request sends beyond what is known so
far is added; a request that shares nothing with a conversation begins another one. To part a log
costs memory for what may still go on, not for its texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, TypeAlias, overload

import msgspec

from undercroft.doctor.arguments import as_text
from undercroft.doctor.importers.chat import About, Line, build, id_of, read_line
from undercroft.doctor.importers.exchanges import Exchange, is_exchange, read_exchange
from undercroft.doctor.importers.said import Said, Wanted
from undercroft.doctor.importers.transcripts import messages_of
from undercroft.model.case import Case, CaseAsk, Facet

# So many of the last messages are looked for in a request that leaves some out.
_TAIL = 8
# Conversations that may still go on, at most.
_OPEN_MAX = 1_000
_READ_MAX = 10_000

Key: TypeAlias = tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...]


def _key(line: Line) -> Key:
    """Return what makes a message the same when it is sent again."""
    return tuple(
        (s.role, s.text.strip(), s.call_id, tuple((c.id, c.name) for c in s.calls))
        for s in line.said
    )


def _particular(key: Key) -> bool:
    """Whether a message is a call, a result, or a model's words: nobody else's are the same."""
    return any(role == "assistant" or call_id or calls for role, _, call_id, calls in key)


class _Reader:
    """Reads messages; one that is sent again is not read again."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Line, Key]] = {}
        self._encoder = msgspec.msgpack.Encoder()

    def read(self, raw: object) -> tuple[Line, Key]:
        """Return a message, and what makes it the same as another."""
        try:
            digest = blake2b(self._encoder.encode(raw), digest_size=16).digest()
        except (ValueError, TypeError, OverflowError, RecursionError):
            line = read_line(raw)
            return line, _key(line)
        found = self._known.get(digest)
        if found is None:
            if len(self._known) >= _READ_MAX:
                self._known.clear()
            line = read_line(raw)
            found = self._known[digest] = (line, _key(line))
        return found


# --- one conversation --------------------------------------------------------------------------


@dataclass(slots=True)
class _Conversation:
    """What is known of a conversation so far."""

    keys: list[Key] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    asks: list[CaseAsk] = field(default_factory=list)
    preface: list[Line] = field(default_factory=list)
    tools: frozenset[str] | None = None
    texts: dict[Key, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    def add(self, exchange: Exchange, reader: _Reader) -> None:
        """Add what a request and its answer say that is new."""
        prompt = [reader.read(raw) for raw in exchange.prompt]
        start = self._new_from([key for _, key in prompt])
        known = set(self.keys) if start is None else set[Key]()
        sent: list[tuple[str, str]] = []
        for line in exchange.preface:
            sent += self._said(_key(line), line)
        for n, (line, key) in enumerate(prompt):
            sent += self._said(key, line)
            if n >= (start or 0) and key not in known:
                self._append(key, line)
        self.preface = self.preface or exchange.preface
        self.tools = self.tools or exchange.tools
        answer = [reader.read(raw) for raw in exchange.answer]
        step = len(self.keys) if answer else max(len(self.keys) - 1, 0)
        text = "\n".join(s.text for line, _ in answer for s in line.said if s.text)
        ask = replace(exchange.ask, step=step, prompt=tuple(sent), answer=text if answer else None)
        self.asks.append(ask)
        for line, key in answer:
            self._append(key, line)

    def _new_from(self, prompt: Sequence[Key]) -> int | None:
        """Return from where on a prompt says something new; None where it shares nothing."""
        if self.keys == list(prompt[: len(self.keys)]):
            return len(self.keys)
        places = {key: n for n, key in enumerate(prompt)}
        for key in reversed(self.keys[-_TAIL:]):
            # What anybody might have said, in any conversation, proves nothing.
            if key in places and _particular(key):
                return places[key] + 1
        return None

    def _append(self, key: Key, line: Line) -> None:
        self.keys.append(key)
        self.lines.append(line)

    def _said(self, key: Key, line: Line) -> tuple[tuple[str, str], ...]:
        # Kept once, however often it is sent.
        if key not in self.texts:
            self.texts[key] = tuple((s.role, _spoken(s)) for s in line.said)
        return self.texts[key]

    def other(self, record: object) -> None:
        """Add what is no exchange: messages, as they are."""
        found = messages_of(record)
        for raw in [record] if found is None else found:
            line = read_line(raw)
            self._append(_key(line), line)


def _spoken(said: Said) -> str:
    """Return what a message says, its calls included."""
    calls = (f"{call.name}({_given(call)})" for call in said.calls)
    return "\n".join(filter(None, (said.text, *calls)))


def _given(call: Wanted) -> str:
    return call.raw if call.arguments is None else as_text(call.arguments)


def read(records: Sequence[Any], trace_id: str, *, form: str, can_show: AbstractSet[Facet]) -> Case:
    """Return the run that consists of requests and their answers."""
    conversation, reader = _Conversation(), _Reader()
    for record in records:
        if is_exchange(record):
            conversation.add(read_exchange(record), reader)
        else:
            conversation.other(record)
    about = About(
        trace_id,
        tools=conversation.tools,
        asks=tuple(conversation.asks),
        preface=tuple(conversation.preface),
    )
    return build(conversation.lines, about, form=form, can_show=can_show)


# --- many of them in one log -------------------------------------------------------------------


class _Part(Sequence[Any]):
    """Some records of a log, which may be anywhere."""

    def __init__(self, records: Sequence[Any]) -> None:
        self._records = records
        self.places: list[int] = []

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._records[place] for place in self.places[index]]
        return self._records[self.places[index]]


class _Open:
    """A conversation that may go on; its messages are known by their hashes only."""

    def __init__(self, part: _Part) -> None:
        self.part = part
        self.hashes: list[int] = []
        self.particular: list[bool] = []

    def is_begin(self, hashes: Sequence[int]) -> bool:
        """Whether a prompt says all of this again, and goes on from there."""
        return hashes[: len(self.hashes)] == self.hashes

    def shares(self, one: int) -> bool:
        """Whether a message that nobody else would have said stands at the end of this."""
        tail = zip(self.hashes[-_TAIL:], self.particular[-_TAIL:], strict=True)
        return any(ours == one and particular for ours, particular in tail)


def parted(records: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Part a log into its conversations; what names its conversation has been grouped by that."""
    if not records or id_of(records[0]) or not is_exchange(records[0]):
        return [records]
    parts: list[_Part] = []
    tails: dict[int, _Open] = {}
    open_: dict[_Open, None] = {}
    reader = _Reader()
    for n, record in enumerate(records):
        if not is_exchange(record):
            parts.append(_Part(records))
            parts[-1].places.append(n)
            continue
        exchange = read_exchange(record)
        keys = [reader.read(raw)[1] for raw in exchange.prompt]
        hashes = [hash(key) for key in keys]
        held = _goes_on(hashes, tails)
        if held is None:
            parts.append(_Part(records))
            held = _Open(parts[-1])
        held.part.places.append(n)
        _close(held, open_, tails)
        keys += [reader.read(raw)[1] for raw in exchange.answer]
        held.hashes = [hash(key) for key in keys]
        held.particular = [_particular(key) for key in keys]
        open_[held] = None
        tails.update(dict.fromkeys(held.hashes[-_TAIL:], held))
        if len(open_) > _OPEN_MAX:
            _close(next(iter(open_)), open_, tails)
    return parts


def _goes_on(hashes: Sequence[int], tails: Mapping[int, _Open]) -> _Open | None:
    """Return the conversation that a prompt goes on with, whole or from where it was cut."""
    shared: _Open | None = None
    for one in reversed(hashes):
        held = tails.get(one)
        if held is not None and held.is_begin(hashes):
            return held
        if shared is None and held is not None and held.shares(one):
            shared = held
    return shared


def _close(held: _Open, open_: dict[_Open, None], tails: dict[int, _Open]) -> None:
    open_.pop(held, None)
    for one in held.hashes[-_TAIL:]:
        if tails.get(one) is held:
            del tails[one]

"""Secrets out of frames, before they are written; and back in, for who knows them.

Keeps: what a frame says of the turn itself (names, numbers, states) is never changed; the same
secret is always replaced by the same mark, under one key; whatever else looks like a mark comes
back as it was and never turns into a secret; what was met in one session is not looked for in
others.
Leaves to the engine: where the key is kept, and which parameters are annotated.
Source of the keyed hash: BLAKE2, RFC 7693.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from undercroft.layers.observability.lens import BEGIN, Finder, Lens, span_of
from undercroft.layers.observability.named import Names, is_value
from undercroft.layers.observability.opened import OPEN, OPEN_NAMES
from undercroft.layers.observability.policy import FIELDS, PATTERNS, Redaction
from undercroft.layers.observability.sealing import seal, unseal
from undercroft.model.event import Event, SecretsSealed

_HASH_BYTES = 8
_MARK = re.compile(rb"\[redacted:([0-9a-f]{16})\]")
# Of others: with one colon more than they had, so that none is a mark of ours.
_FOREIGN = re.compile(rb"\[redacted(:+)(?=[0-9a-f]{16}\])")
_ANY = re.compile(rb"(\"?)\[redacted(:+)([0-9a-f]{16})\](\"?)")
# Shorter ones are replaced only under a name that says that they are secret; and of what merely
# stands under such a name, what is no word and no plain number, or long.
LEARNT_CHARS_MIN = 6
_NUMBER_CHARS_MIN = 12
# Words of the record itself; a secret like that is hidden under its own name only.
_WORDS = frozenset(
    (
        *("system", "assistant", "developer", "function", "summary", "handler", "notice"),
        *("transient", "overloaded", "permanent", "domain", "unknown", "closed"),
        *("vendor", "account", "caller", "unsure", "nobody"),
    )
)
# Of one session: secrets that are remembered, and those that are looked for in every text.
_KNOWN_MAX, _TEXTS_MAX = 10_000, 200
_SESSIONS_MAX = 2_000
_DEPTH_MAX = 200
_LITERAL = 1

# The tag of what is sealed, as it is written.
_SEALED = msgspec.msgpack.encode("sealed")
_read_sealed = msgspec.msgpack.Decoder(list[tuple[str, bytes, bool]]).decode
_fields = msgspec.msgpack.Decoder(list[list[msgspec.Raw]]).decode
_decode = msgspec.msgpack.Decoder().decode
_encode = msgspec.msgpack.Encoder().encode


class Secrets:
    """What is secret for all turns of a process; the redactors of sessions come from here.

    Args:
        policy: What is.
        key: Returns the key of the hash; asked for once, when the first secret is met.
    """

    def __init__(self, policy: Redaction, key: Callable[[], bytes]) -> None:
        self._fields = (*(FIELDS if policy.defaults else ()), *policy.fields)
        known = PATTERNS if policy.defaults else ()
        self.finders = [Finder(needles, re.compile(pattern)) for needles, pattern in known]
        self.patterns = [re.compile(pattern.encode()) for pattern in policy.patterns]
        self._make_key, self._key, self._sealed = key, b"", policy.sealed
        self._sessions: dict[str, _Memory] = {}
        self._lenses: dict[frozenset[str], Lens] = {}
        self._given = policy.values
        self._shared: Redactor | None = None

    def _lens(self, named: frozenset[str]) -> Lens:
        """Return what is looked for where these names are annotated, too."""
        found = self._lenses.get(named)
        if found is None:
            names = Names()
            names.add(self._fields)
            names.add(sorted(named), sure=True)
            found = self._lenses[named] = Lens(names, self.finders)
        return found

    def learn(self, values: Iterable[Any]) -> None:
        """Take values for secret, in all turns."""
        shared = self.all()
        for value in values:
            shared.learn(value)

    def all(self) -> Redactor:
        """Return what is known of all turns."""
        if self._shared is None:
            self._shared = Redactor(self, _Memory(), None, self._lens(frozenset()))
            for value in self._given:
                self._shared.learn(value, least=1)
        return self._shared

    def of(
        self, session: str | None, turn_id: str, named: frozenset[str] = frozenset()
    ) -> Redactor:
        """Return what takes out the secrets of a session, or of a turn that belongs to none.

        Args:
            session: The session.
            turn_id: The turn.
            named: Fields that its code annotates: what stands under them is secret everywhere.
        """
        name = f"turn {turn_id}" if session is None else f"session {session}"
        memory = self._sessions.pop(name, None) or _Memory()
        while len(self._sessions) >= _SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[name] = memory
        return Redactor(self, memory, self.all(), self._lens(named))

    def mark_of(self, raw: bytes) -> str:
        """Return the hash of an encoded secret, in hex."""
        return blake2b(raw, digest_size=_HASH_BYTES, key=self._own_key()[:64]).hexdigest()

    def sealed(self, raw: bytes) -> bytes | None:
        """Return an encoded secret under the key; None where none is kept."""
        return seal(raw, self._own_key()) if self._sealed else None

    def unsealed(self, sealed: bytes) -> bytes | None:
        """Return the encoded secret that was sealed; None where it was under another key."""
        return unseal(sealed, self._own_key())

    def _own_key(self) -> bytes:
        if not self._key:
            self._key = self._make_key()
        return self._key


class _Memory:
    """What was met in one session.

    Attributes:
        values: By the hash of a secret, its value, encoded.
        texts: Secrets to be found in any text, longest first, with the hash of each.
        whole: Encoded values that are secret as a whole.
    """

    __slots__ = ("texts", "values", "whole")

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.texts: dict[bytes, str] = {}
        self.whole: dict[bytes, None] = {}


class Redactor:
    """Takes the secrets of one session out of frames, and puts them back.

    Args:
        secrets: What is secret for all turns.
        memory: What was met in the session.
        shared: What is known of all turns; None for that itself.
        lens: What is looked for.
    """

    def __init__(
        self, secrets: Secrets, memory: _Memory, shared: Redactor | None, lens: Lens
    ) -> None:
        self._secrets, self._memory, self._shared, self._lens = secrets, memory, shared, lens
        self._learning = True
        # Marks whose values the turn's frames hold, sealed.
        self._kept: set[str] = set()

    # ------------------------------------------------------------------ what is secret

    def learn(self, value: Any, *, least: int = LEARNT_CHARS_MIN) -> None:
        """Take a value for secret wherever it stands; of lists and objects, each part of it."""
        if isinstance(value, dict):
            for part in value.values():
                self.learn(part, least=least)
        elif isinstance(value, list | tuple):
            for part in value:
                self.learn(part, least=least)
        elif value is not None and not isinstance(value, bool):
            self._marked(value, sure=True, least=least, told=True)
            if isinstance(value, str):
                escaped = json.dumps(value)[1:-1]
                if escaped != value:
                    self._marked(escaped, sure=True, least=least, told=True)  # as it stands in JSON

    def hide(self, raw: bytes) -> None:
        """Take an encoded value for secret as a whole."""
        self._memory.whole[raw] = None
        self.learn(_decode(raw))

    # ------------------------------------------------------------------ out

    def is_clean(self, events: Iterable[Event]) -> bool:
        """Whether nothing in events is like a secret; sooner told of them than of their frame."""
        for event in events:
            bodies, others = OPEN_NAMES[type(event)]
            for name in others:
                if getattr(event, name):
                    return False
            for name in bodies:
                raw = bytes(getattr(event, name))
                if len(raw) > 1 and self._suspicious(raw):
                    return False
        return True

    def redact(self, frame: bytes) -> bytes:
        """Return a frame without secrets; the same one where it holds none."""
        if not self._suspicious(frame):
            return frame
        known = len(self._memory.texts)
        written = self._redacted(frame)
        # What was met at its end may stand at its beginning, too.
        if len(self._memory.texts) != known:
            written = self._redacted(frame)
        return self._with_sealed(written)

    def _with_sealed(self, frame: bytes) -> bytes:
        """Return a frame with what its marks stand for, under the key."""
        values: list[tuple[str, bytes, bool]] = []
        marks = {mark for texts in self._all_texts() for mark in texts.values()}
        for found in _MARK.finditer(frame):
            name = found[1].decode()
            raw = None if name in self._kept else self.known(name)
            sealed = None if raw is None else self._secrets.sealed(raw)
            if sealed is not None:
                self._kept.add(name)
                values.append((name, sealed, name in marks))
        if not values:
            return frame
        return _encode([*_fields(frame), SecretsSealed(tuple(values))])

    def _unseal(self, frames: Iterable[bytes]) -> None:
        """Learn what frames hold under the key."""
        for frame in frames:
            if _SEALED not in frame:
                continue
            for event in _fields(frame):
                if bytes(event[0]) == _SEALED:
                    for name, sealed, everywhere in _read_sealed(event[1]):
                        raw = self._secrets.unsealed(sealed)
                        if raw is not None:
                            self._remember(name, raw, everywhere=everywhere)

    def _remember(self, name: str, raw: bytes, *, everywhere: bool) -> None:
        """Take in a secret that another process met."""
        self._kept.add(name)
        self._memory.values.setdefault(name, raw)
        value = _decode(raw)
        if everywhere and isinstance(value, str | bytes):
            self._look_for(value, name, told=True)

    def _redacted(self, frame: bytes) -> bytes:
        events, changed = _fields(frame), False
        for event in events:
            for place in OPEN.get(_decode(event[0]), ()):
                if place >= len(event):
                    break
                raw = bytes(event[place])
                cleaned = self.raw(raw)
                if cleaned != raw:
                    event[place], changed = msgspec.Raw(cleaned), True
        return _encode(events) if changed else frame

    def raw(self, raw: bytes) -> bytes:
        """Return an encoded value without secrets."""
        if not self._suspicious(raw):
            return raw
        value = _decode(raw)
        if raw in self._memory.whole:
            return _encode(self._marked(value))
        cleaned = self._clean(value, 0)
        return raw if cleaned is value else _encode(cleaned)

    def fixed(self, raw: bytes) -> bytes:
        """Return an encoded value without what is secret by name or make, for a fingerprint.

        The same whatever else was met before, and so in every process.
        """
        low = raw.lower()
        if not self._hinted(low):
            return raw
        learning, self._learning = self._learning, False
        try:
            value = _decode(raw)
            cleaned = self._clean(value, 0)
        finally:
            self._learning = learning
        return raw if cleaned is value else _encode(cleaned)

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        data = text.encode("utf-8", "surrogatepass")
        cleaned = self._clean_text(data)
        return text if cleaned is data else cleaned.decode("utf-8", "surrogatepass")

    def argument(self, name: str, value: Any) -> Any:
        """Return what may be written in the clear of an argument, as part of a key."""
        if self._lens.names.are_secret(name) and is_value(value):
            return self._marked(value, sure=self._lens.names.are_sure(name))
        return self.text(value) if isinstance(value, str) else value

    def _hinted(self, low: bytes) -> bool:
        """Whether there is anything in lower-case bytes that secrets have."""
        if self._secrets.patterns:
            return True
        return self._lens.hint.search(low) is not None

    def _suspicious(self, data: bytes) -> bool:
        """Whether it is worth looking into: most frames hold nothing like a secret."""
        if self._hinted(data.lower()):
            return True
        if any(raw in data for raw in self._memory.whole):
            return True
        return any(known in data for texts in self._all_texts() for known in texts)

    def _all_texts(self) -> Iterator[Mapping[bytes, str]]:
        """Yield what is looked for in every text: of the session, and of all turns."""
        yield self._memory.texts
        if self._shared is not None:
            yield from self._shared._all_texts()  # noqa: SLF001  its own kind

    def _clean(self, value: Any, depth: int) -> Any:
        """Return `value` without secrets: itself where it has none."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self._clean_text(value)
        if not isinstance(value, dict | list):
            return value
        if depth >= _DEPTH_MAX:
            return self._marked(value)  # nobody looks that deep
        if isinstance(value, list):
            parts = [self._clean(part, depth + 1) for part in value]
            same = all(new is old for new, old in zip(parts, value, strict=True))
            return value if same else parts
        return self._clean_object(value, depth)

    def _clean_object(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        names = self._lens.names
        # As headers and settings are listed: a field says the name of the other one.
        said = next((value[k] for k in ("name", "key", "field") if k in value), None)
        changed = False
        cleaned: dict[Any, Any] = {}
        for key, part in value.items():
            name = said if key == "value" and isinstance(said, str) else key
            if isinstance(name, str) and names.are_secret(name) and is_value(part):
                new = self._marked(part, sure=names.are_sure(name))
            else:
                new = self._clean(part, depth + 1)
            shown = self.text(key) if isinstance(key, str) else key
            changed = changed or new is not part or shown is not key
            cleaned[shown] = new
        return cleaned if changed else value

    def _clean_text(self, data: bytes) -> bytes:
        """Return bytes without secrets: themselves where they have none."""
        now = data
        if self._learning:
            if BEGIN in now:
                now = _FOREIGN.sub(rb"[redacted:\1", now)
            for texts in self._all_texts():
                for secret, mark in texts.items():
                    if secret in now:
                        now = now.replace(secret, f"[redacted:{mark}]".encode())
        now = self._clean_known(now)
        for pattern in self._secrets.patterns:
            now = self._replaced(now, [(*span_of(m), False, False) for m in pattern.finditer(now)])
        return data if now == data else now

    def _clean_known(self, now: bytes) -> bytes:
        """Return a text without what stands under a secret name, or is of a known make."""
        low = now.lower()
        if not self._hinted(low):
            return now
        cleaned = self._replaced(now, sorted(self._lens.names.in_text(now, low)))
        if cleaned is not now:
            now, low = cleaned, cleaned.lower()
        for finder in self._secrets.finders:
            spans = [(*span, False, False) for span in finder.spans(now, low)]
            if spans:
                now = self._replaced(now, sorted(spans))
                low = now.lower()
        return now

    def _replaced(self, text: bytes, spans: Sequence[tuple[int, int, bool, bool]]) -> bytes:
        """Return a text with marks in place of what stands at `spans`, which are in order."""
        parts, last = [], 0
        for begin, end, bare, sure in spans:
            if begin < last or begin == end:
                continue
            secret = text[begin:end]
            if secret.startswith(BEGIN):
                continue
            mark = self._marked_text(secret, bare=bare, sure=sure).encode()
            parts += [text[last:begin], b'"%b"' % mark if bare else mark]
            last = end
        return b"".join((*parts, text[last:])) if parts else text

    def _marked_text(self, secret: bytes, *, bare: bool, sure: bool) -> str:
        """Return the mark of what stands in a text; of a number in JSON, that of the number."""
        # As it was before marks of others in it were changed.
        secret = _ANY.sub(_less, secret) if BEGIN[:-1] in secret else secret
        if bare:
            try:
                number = json.loads(secret)
            except ValueError:
                number = None
            if isinstance(number, int | float) and json.dumps(number).encode() == secret:
                return self._marked(number)
            return self._marked(msgspec.msgpack.Ext(_LITERAL, secret))
        try:
            return self._marked(secret.decode(), sure=sure)
        except UnicodeDecodeError:
            return self._marked(secret, sure=sure)

    def _marked(
        self,
        value: Any,
        *,
        sure: bool = False,
        least: int = LEARNT_CHARS_MIN,
        told: bool = False,
    ) -> str:
        """Return the mark of a secret, and remember it.

        Args:
            value: The secret.
            sure: Whether it is one wherever else it stands.
            least: Characters that it must have for that.
            told: Whether somebody said so, and it is never forgotten.
        """
        raw = _encode(value)
        name = self._secrets.mark_of(raw)
        if self._learning:
            values = self._memory.values
            if name not in values:
                if len(values) >= _KNOWN_MAX and not told:
                    del values[next(iter(values))]
                values[name] = raw
            if isinstance(value, str | bytes):
                if _stands_out(value, sure=sure, least=least):
                    self._look_for(value, name, told=told or sure)
            elif sure and isinstance(value, int) and len(str(value)) >= least:
                self._look_for(str(value), name, told=True)
        return f"[redacted:{name}]"

    def _look_for(self, value: str | bytes, name: str, *, told: bool) -> None:
        text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        texts = self._memory.texts
        if BEGIN in text:
            return  # it is spelled otherwise when it is written
        # What was told counts for good; of what was met, the first so many.
        if text not in texts and (told or len(texts) < _TEXTS_MAX):
            texts[text] = name
            # Longest first: one may be part of another.
            self._memory.texts = dict(sorted(texts.items(), key=lambda one: -len(one[0])))

    # ------------------------------------------------------------------ back in

    def known(self, name: str) -> bytes | None:
        """Return the encoded value of a mark's hash, if it is known here."""
        found = self._memory.values.get(name)
        if found is None and self._shared is not None:
            return self._shared.known(name)
        return found

    def restore(self, frames: Sequence[bytes], apart: Collection[str] = ()) -> list[bytes]:
        """Return frames with the secrets that are known here in place of their marks.

        Args:
            frames: As they were written.
            apart: Marks to be left as they are.
        """
        self._unseal(frames)
        return [self._restored(one, apart) if b"[redacted:" in one else one for one in frames]

    def unknown(self, frames: Iterable[bytes]) -> tuple[str, ...]:
        """Return the marks in frames of secrets that are not known here, each once."""
        frames = list(frames)
        self._unseal(frames)
        marks: dict[str, None] = {}
        for frame in frames:
            if BEGIN in frame:
                for found in _MARK.finditer(frame):
                    if self.known(found[1].decode()) is None:
                        marks[found[0].decode()] = None
        return tuple(marks)

    def _restored(self, frame: bytes, apart: Collection[str]) -> bytes:
        events = [event for event in _fields(frame) if bytes(event[0]) != _SEALED]
        for event in events:
            for place in OPEN.get(_decode(event[0]), ()):
                if place < len(event):
                    raw = bytes(event[place])
                    if BEGIN in raw:
                        value = self._put_back(_decode(raw), apart, 0)
                        event[place] = msgspec.Raw(_encode(value))
        return _encode(events)

    def _put_back(self, value: Any, apart: Collection[str], depth: int) -> Any:
        if isinstance(value, str):
            return self._text_back(value, apart)
        if isinstance(value, bytes):
            return self._bytes_back(value, apart)
        if depth > _DEPTH_MAX:
            return value
        if isinstance(value, dict):
            return {
                self._put_back(key, apart, depth + 1): self._put_back(part, apart, depth + 1)
                for key, part in value.items()
            }
        if isinstance(value, list):
            return [self._put_back(part, apart, depth + 1) for part in value]
        return value

    def _text_back(self, value: str, apart: Collection[str]) -> Any:
        if "[redacted:" not in value:
            return value
        data = value.encode("utf-8", "surrogatepass")
        whole = _MARK.fullmatch(data)
        if whole is not None and value not in apart:
            known = self.known(whole[1].decode())
            return value if known is None else _decode(known)
        return self._bytes_back(data, apart).decode("utf-8", "surrogatepass")

    def _bytes_back(self, data: bytes, apart: Collection[str]) -> bytes:
        def back(found: re.Match[bytes]) -> bytes:
            before, colons, name, after = found.groups()
            if len(colons) > 1:
                return _less(found)
            known = self.known(name.decode())
            if known is None or f"[redacted:{name.decode()}]" in apart:
                return found[0]
            value = _decode(known)
            if isinstance(value, msgspec.msgpack.Ext):
                literal = bytes(value.data)
            elif isinstance(value, str):
                literal = value.encode("utf-8", "surrogatepass")
            elif isinstance(value, bytes):
                literal = value
            else:
                literal = json.dumps(value).encode()
            quoted = isinstance(value, str | bytes) or not (before and after)
            return before + literal + after if quoted else literal

        return _ANY.sub(back, data)


def _less(found: re.Match[bytes]) -> bytes:
    """Return a mark of somebody else's as it was before it was written."""
    before, colons, name, after = found.groups()
    fewer = colons[1:] if len(colons) > 1 else colons
    return b"%b[redacted%b%b]%b" % (before, fewer, name, after)


def _stands_out(value: str | bytes, *, sure: bool, least: int) -> bool:
    """Whether a secret is to be found wherever it stands, and not by its name alone."""
    if len(value) < least or (isinstance(value, str) and value.lower() in _WORDS):
        return False
    if sure:
        return True
    digits = sum(48 <= one <= 57 for one in (value.encode() if isinstance(value, str) else value))  # noqa: PLR2004  0 to 9
    return bool(digits) and (digits < len(value) or digits >= _NUMBER_CHARS_MIN)


def nothing_secret() -> Redactor:
    """Return what takes nothing for secret."""
    return Secrets(Redaction(defaults=False), lambda: b"").all()

"""Secrets out of frames, before they are written; and back in, for who knows them.

Keeps: what a frame says of the turn itself (names, numbers, states) is never changed; the same
secret is always replaced by the same mark, under one key; what only looks like a mark is changed
so that it never turns into a secret.
Leaves to the engine: where the key is kept, and which parameters are annotated.
Source of the keyed hash: BLAKE2, RFC 7693.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, get_args

import msgspec

from undercroft.layers.observability.policy import (
    FIELDS,
    PATTERNS,
    Redaction,
    normal,
)
from undercroft.model.event import AnyEvent
from undercroft.model.step import Failure, Refusal

_HASH_BYTES = 8
_BEGIN = "[redacted:"
_MARK = re.compile(r"\[redacted:([0-9a-f]{16})\]")
_IN_JSON = re.compile(r'"\[redacted:([0-9a-f]{16})\]"')
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
_KNOWN_MAX = 4_096
_DEPTH_MAX = 100
_JSON_CHARS_MAX = 200_000
# In place of a value stands its mark; a schema of a parameter is no value.
_SCHEMA = frozenset(["type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"])

_fields = msgspec.msgpack.Decoder(list[list[msgspec.Raw]]).decode
_decode = msgspec.msgpack.Decoder().decode
_encode = msgspec.msgpack.Encoder().encode

# Texts of events in people's words; all other texts are names, numbers and states.
_SAID = frozenset(
    ["args", "detail", "reason", "failed", "short", "ledger", "why", "versions", "version"]
)
# Of an event, which word `why` is one of a fixed few.
_CODED = frozenset(["voided", "checked", "compacted"])


def _open_fields() -> dict[str, tuple[int, ...]]:
    """Return by the tag of an event the places of what may hold a secret."""
    places: dict[str, tuple[int, ...]] = {}
    for kind in get_args(AnyEvent):
        config, found = kind.__struct_config__, []
        for place, one in enumerate(msgspec.structs.fields(kind), 1):
            coded = one.name == "why" and config.tag in _CODED
            parts = (one.type, *get_args(one.type))
            bodies = any(part in (msgspec.Raw, Failure, Refusal) for part in parts)
            if bodies or (one.name in _SAID and not coded):
                found.append(place)
            if config.tag == "asked" and one.name == "args":
                found.remove(place)  # without secrets since the question was put
        places[str(config.tag)] = tuple(found)
    return places


_OPEN = _open_fields()


class Redactor:
    """Knows what is secret, and what was.

    Args:
        policy: What is.
        key: Returns the key of the hash; asked for once, when the first secret is met.
    """

    def __init__(self, policy: Redaction, key: Callable[[], bytes]) -> None:
        self._exact: set[str] = set()
        # Of these, whatever stands under them is secret everywhere.
        self._sure: set[str] = set()
        self._ends: tuple[str, ...] = ()
        known = PATTERNS if policy.defaults else ()
        self._patterns = [(needles, re.compile(pattern)) for needles, pattern in known]
        # One of the user's fits who knows what, so every frame is looked at.
        self._patterns += [(("",), re.compile(pattern)) for pattern in policy.patterns]
        # Parts of names and of patterns, in lower case: where there is none of them, there is
        # no secret that was not met before.
        self._needles = {needle for needles, _ in self._patterns for needle in needles}
        # By name as it was met, whether it is secret.
        self._names: dict[str, bool] = {}
        self._make_key, self._key = key, b""
        # By the hash of a secret, its value, encoded; and secrets to be found in any text.
        self._values: dict[str, bytes] = {}
        self._texts: dict[str, None] = {}
        self._learnt: tuple[bytes, ...] = ()
        for name in (*(FIELDS if policy.defaults else ()), *policy.fields):
            self._name(name)
        self._hint = _any_of(self._needles)
        self._given = policy.values
        self._ready = not policy.values

    # ------------------------------------------------------------------ what is secret

    def name(self, names: Iterable[str]) -> None:
        """Take fields of these names for secret from now on, and their values wherever they are."""
        for name in names:
            self._name(name)
            self._sure.add(normal(name))
        self._hint = _any_of(self._needles)

    def _name(self, name: str) -> None:
        plain = normal(name)
        self._names.clear()
        if plain.startswith("*"):
            if plain[1:] not in self._ends:
                self._ends = (*self._ends, plain[1:])
        elif plain in self._exact:
            return
        else:
            self._exact.add(plain)
        # Separators stand anywhere in a name, so only its longest part is looked for.
        parts = re.split(r"[^A-Za-z0-9]+", name.strip("*"))
        self._needles.add(max(parts, key=len).lower())

    def learn(self, value: Any) -> None:
        """Take a value for secret, wherever it stands; of lists and objects, each text in it."""
        if isinstance(value, str):
            self._marked(value, sure=True)
            escaped = json.dumps(value)[1:-1]
            if escaped != value:
                self._marked(escaped, sure=True)  # as it stands in a text that is JSON
        elif isinstance(value, dict):
            for part in value.values():
                self.learn(part)
        elif isinstance(value, list | tuple):
            for part in value:
                self.learn(part)
        elif value is not None:
            self._marked(value)

    def _begin(self) -> None:
        """Learn what was given, once there is an event loop to read the key in."""
        self._ready = True
        self.learn(list(self._given))

    def is_secret(self, name: str) -> bool:
        """Whether fields of that name are secret."""
        known = self._names.get(name)
        if known is None:
            plain = normal(name)
            known = plain in self._exact or plain.endswith(self._ends)
            if len(self._names) < _KNOWN_MAX:
                self._names[name] = known
        return known

    # ------------------------------------------------------------------ out

    def redact(self, frame: bytes) -> bytes:
        """Return a frame without secrets; the same one where it holds none."""
        if not self._suspicious(frame):
            return frame
        known = len(self._texts)
        written = self._redacted(frame)
        # What was met at its end may stand at its beginning, too.
        return written if len(self._texts) == known else self._redacted(frame)

    def _redacted(self, frame: bytes) -> bytes:
        events, changed = _fields(frame), False
        for event in events:
            tag = _decode(event[0])
            for place in _OPEN.get(tag, ()):
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
        cleaned = self._clean(value, 0)
        return raw if cleaned is value else _encode(cleaned)

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        found = self._clean_text(text)
        return text if found is None else found

    def _suspicious(self, data: bytes) -> bool:
        """Whether it is worth looking into: most frames hold nothing like a secret."""
        if not self._ready:
            self._begin()
        for learnt in self._learnt:
            if learnt in data:
                return True
        return self._hint.search(data.lower()) is not None

    def _clean(self, value: Any, depth: int) -> Any:
        """Return `value` without secrets: itself where it has none."""
        if isinstance(value, str):
            return self.text(value)
        if depth >= _DEPTH_MAX:
            return value
        if isinstance(value, dict):
            changed: dict[Any, Any] = {}
            for key, part in value.items():
                if isinstance(key, str) and self.is_secret(key) and _is_value(part):
                    cleaned: Any = self._marked(part, sure=normal(key) in self._sure)
                else:
                    cleaned = self._clean(part, depth + 1)
                if cleaned is not part:
                    changed[key] = cleaned
            return {**value, **changed} if changed else value
        if isinstance(value, list):
            parts = [self._clean(part, depth + 1) for part in value]
            same = all(new is old for new, old in zip(parts, value, strict=True))
            return value if same else parts
        return value

    def _clean_text(self, text: str) -> str | None:
        """Return `text` without secrets; None where it has none."""
        now = _MARK.sub(self._no_mark, text) if _BEGIN in text else text
        if now[:1] in ("{", "["):
            now = self._clean_json(now)
        for secret in self._texts:
            if secret in now:
                now = now.replace(secret, self._mark_of(secret))
        low = now.lower()
        if self._hint.search(low.encode("utf-8", "replace")) is not None:
            for needles, pattern in self._patterns:
                for needle in needles:
                    if needle in low:
                        now = pattern.sub(self._sub, now)
                        break
        return None if now == text else now

    def _clean_json(self, text: str) -> str:
        """Return text that may be an object, as models write arguments, without secrets.

        Only the secrets change, so that the text comes back as it was written.
        """
        if len(text) > _JSON_CHARS_MAX:
            return text
        try:
            secrets = list(self._named(json.loads(text), 0))
        except (ValueError, RecursionError):
            return text
        now = text
        for secret, sure in secrets:
            if isinstance(secret, str):
                self._marked(secret, sure=sure)
                for spelled in {json.dumps(secret), json.dumps(secret, ensure_ascii=False)}:
                    now = now.replace(spelled, f'"{self._marked(spelled[1:-1], sure=sure)}"')
            else:
                number = rf"(:\s{{0,9}}){re.escape(json.dumps(secret))}(?=\s{{0,9}}[,}}])"
                now = re.sub(number, rf'\1"{self._marked(secret, sure=sure)}"', now)
        return now

    def _named(self, value: Any, depth: int, *, within: bool = False, sure: bool = False) -> Any:
        """Yield the single values that stand under secret names, and whether that is sure."""
        if depth >= _DEPTH_MAX:
            return
        if isinstance(value, dict):
            for key, part in value.items():
                hides = within or (self.is_secret(key) and _is_value(part))
                named = sure or normal(key) in self._sure
                yield from self._named(part, depth + 1, within=hides, sure=named)
        elif isinstance(value, list):
            for part in value:
                yield from self._named(part, depth + 1, within=within, sure=sure)
        elif within and _is_value(value):
            yield value, sure

    def _sub(self, found: re.Match[str]) -> str:
        group = 1 if found.re.groups and found[1] is not None else 0
        secret = found[group]
        if not secret or _MARK.fullmatch(secret) or secret.startswith(_BEGIN):
            return found[0]
        begin, end = found.span(group)
        at = found.start()
        return f"{found[0][: begin - at]}{self._marked(secret)}{found[0][end - at :]}"

    def _no_mark(self, found: re.Match[str]) -> str:
        """Return what somebody wrote who wants it to become a secret of ours; else itself."""
        return f"[redacted: {found[1]}]" if found[1] in self._values else found[0]

    def _marked(self, value: Any, *, sure: bool = False) -> str:
        """Return the mark of a secret, and remember it.

        Args:
            value: The secret.
            sure: Whether it is one wherever else it stands.
        """
        looks = _MARK.fullmatch(value) if isinstance(value, str) else None
        if looks is not None:
            return self._no_mark(looks)
        mark = self._mark_of(value)
        name = mark[len(_BEGIN) : -1]
        if name not in self._values:
            if len(self._values) >= _KNOWN_MAX:
                del self._values[next(iter(self._values))]
            self._values[name] = _encode(value)
        if isinstance(value, str) and value not in self._texts and _stands_out(value, sure=sure):
            self._texts[value] = None
            if len(self._texts) > _KNOWN_MAX:
                del self._texts[next(iter(self._texts))]
            # Longest first: one may be part of another.
            self._texts = dict.fromkeys(sorted(self._texts, key=len, reverse=True))
            self._learnt = tuple(text.encode("utf-8", "replace") for text in self._texts)
        return mark

    def _mark_of(self, value: Any) -> str:
        if not self._key:
            self._key = self._make_key()
        raw = _encode(value)
        return f"{_BEGIN}{blake2b(raw, digest_size=_HASH_BYTES, key=self._key[:64]).hexdigest()}]"

    # ------------------------------------------------------------------ back in

    def restore(self, frames: Sequence[bytes]) -> list[bytes]:
        """Return frames with the secrets that are known here in place of their marks."""
        if not self._ready:
            self._begin()
        return [self._restored(frame) if b"[redacted:" in frame else frame for frame in frames]

    def unknown(self, frames: Iterable[bytes]) -> list[str]:
        """Return the marks in frames of secrets that are not known here, each once."""
        marks: dict[str, None] = {}
        for frame in frames:
            if b"[redacted:" in frame:
                for found in _MARK.finditer(frame.decode("utf-8", "replace")):
                    if found[1] not in self._values:
                        marks[found[0]] = None
        return list(marks)

    def _restored(self, frame: bytes) -> bytes:
        events = _fields(frame)
        for event in events:
            tag = _decode(event[0])
            for place in _OPEN.get(tag, ()):
                if place < len(event):
                    raw = bytes(event[place])
                    if b"[redacted:" in raw:
                        event[place] = msgspec.Raw(_encode(self._put_back(_decode(raw), 0)))
        return _encode(events)

    def _put_back(self, value: Any, depth: int) -> Any:
        if isinstance(value, str) and _BEGIN in value:
            whole = _MARK.fullmatch(value)
            if whole is not None:
                known = self._values.get(whole[1])
                return value if known is None else _decode(known)
            return _MARK.sub(self._value_of, _IN_JSON.sub(self._number_of, value))
        if depth >= _DEPTH_MAX:
            return value
        if isinstance(value, dict):
            return {key: self._put_back(part, depth + 1) for key, part in value.items()}
        if isinstance(value, list):
            return [self._put_back(part, depth + 1) for part in value]
        return value

    def _number_of(self, found: re.Match[str]) -> str:
        """Return what stood in a text that is JSON, where that was no text."""
        known = self._values.get(found[1])
        value = "" if known is None else _decode(known)
        return found[0] if isinstance(value, str) else json.dumps(value)

    def _value_of(self, found: re.Match[str]) -> str:
        known = self._values.get(found[1])
        value = None if known is None else _decode(known)
        return found[0] if value is None else str(value)


def _any_of(needles: Iterable[str]) -> re.Pattern[bytes]:
    """Return what finds any of `needles`, or what looks like a mark."""
    texts = sorted({_BEGIN, *needles})
    return re.compile(b"|".join(re.escape(text.encode()) for text in texts))


def _stands_out(value: str, *, sure: bool) -> bool:
    """Whether a secret is to be found wherever it stands, and not by its name alone."""
    if len(value) < LEARNT_CHARS_MIN or value.lower() in _WORDS:
        return False
    if sure:
        return True
    digits = sum(map(str.isdigit, value))
    return bool(digits) and (digits < len(value) or digits >= _NUMBER_CHARS_MIN)


def _is_value(part: Any) -> bool:
    """Whether there is anything to hide: nothing, yes and no, and schemas are not."""
    if part is None or part == "" or isinstance(part, bool):
        return False
    return not (isinstance(part, dict) and not _SCHEMA.isdisjoint(part))


def nothing_secret() -> Redactor:
    """Return what takes nothing for secret."""
    return Redactor(Redaction(defaults=False), lambda: b"")

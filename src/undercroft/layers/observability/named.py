"""Which names say that what stands under them is secret, in data and in running text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from undercroft.layers.observability.policy import HEADERS, NOT_SECRET, normal

_KNOWN_MAX = 4_096
_SHORT = 5
# What names of secrets end in; a name is looked for by this part of it.
_STEMS: tuple[str, ...] = (
    *("password", "passwd", "passphrase", "passcode", "secret", "key", "token", "cookie"),
    *("authorization", "credential", "confirmation"),
)
_BEFORE = re.compile(rb"[A-Za-z0-9_.-]{0,60}\Z")
_AFTER = re.compile(rb"[A-Za-z0-9_-]{0,20}")
_WORDLESS = frozenset([b"null", b"true", b"false", b"none", b"undefined", b"string", b"nil"])
_QUOTED = rb"\"(?P<double>(?:[^\"\\]|\\.){1,4000})\"|'(?P<single>(?:[^'\\]|\\.){1,4000})'"
# After a name: as in JSON and in what Python prints; as in settings and addresses; in a sentence;
# in markup; as a header of HTTP.
_AS_DATA = re.compile(
    rb"\\{0,6}[\"']\s{0,3}[:=]\s{0,3}(?:"
    + _QUOTED
    + rb"|(?P<escape>\\{1,6})[\"'](?P<inner>(?:(?!(?P=escape)[\"'])[^\n]){1,4000}?)(?P=escape)[\"']"
    + rb"|(?P<bare>-?[0-9][0-9.eE+-]{0,40}|[A-Za-z0-9_./+-]{1,500}))",
    re.DOTALL,
)
_AS_SETTING = re.compile(
    rb"\s{0,3}=\s{0,3}(?:" + _QUOTED + rb"|(?P<value>[^\s\"'<>,;&}{)\]]{1,500}))", re.DOTALL
)
_AS_SENTENCE = re.compile(
    rb"\s{0,3}(?::|\s(?:is|was)\s)\s{0,3}(?:"
    + _QUOTED
    + rb"|(?P<value>[^\s\"'<>,;&}{)\]]{4,500}))",
    re.DOTALL,
)
# A list or an object of JSON, up to its end.
_AS_WHOLE = re.compile(rb"[\"']\s{0,3}:\s{0,3}[\[{]")
_BRACKETS = re.compile(rb"\"(?:[^\"\\]|\\.){0,4000}\"|[\[\]{}]", re.DOTALL)
_WHOLE_BYTES_MAX, _WHOLES_MAX = 20_000, 100
# What may stand after a name that a value follows.
_FOLLOWS = frozenset([b'"', b"'", b"\\", b":", b"=", b">", b" ", b"\t", b"\n"])
_AS_MARKUP = re.compile(rb">(?P<value>[^<]{1,500})</")
_SPELLINGS = ("double", "single", "bare", "value")
_AS_HEADER = re.compile(rb"\s{0,3}:\s{0,3}([^\r\n\"'{}\[\]]{4,4000})")


class Names:
    """Names of secret fields."""

    def __init__(self) -> None:
        self._exact: set[str] = set()
        # Of these, whatever stands under them is secret everywhere.
        self._sure: set[str] = set()
        self._ends: tuple[str, ...] = ()
        # By name as it was met, whether it is secret.
        self._met: dict[str, bool] = {}
        # Parts of names by which they are found in a text, in lower case.
        self.stems: tuple[bytes, ...] = ()
        self._wholes_left = 0

    def add(self, names: Iterable[str], *, sure: bool = False) -> bool:
        """Take fields of these names for secret; return whether any was not before."""
        new = False
        for name in names:
            plain = normal(name)
            if sure:
                self._sure.add(plain)
            if plain in self._exact or plain.lstrip("*") in self._ends:
                continue
            new = True
            if plain.startswith("*"):
                self._ends = (*self._ends, plain[1:])
            else:
                self._exact.add(plain)
            self._add_stem(name)
        if new:
            self._met.clear()
        return new

    def _add_stem(self, name: str) -> None:
        parts = re.split(r"[^a-z0-9]+", name.strip("*").lower())
        shared = [stem for stem in _STEMS if stem in normal(name)]
        stem = (shared or [max(parts, key=len)])[-1].encode()
        if stem not in self.stems:
            self.stems = (*self.stems, stem)

    def are_secret(self, name: str) -> bool:
        """Whether fields of that name are secret."""
        known = self._met.get(name)
        if known is None:
            known = self._judge(normal(name))
            if len(self._met) < _KNOWN_MAX:
                self._met[name] = known
        return known

    def _judge(self, plain: str) -> bool:
        if plain in self._exact:
            return True
        plain = plain.rstrip("0123456789")
        if not plain or plain.endswith(NOT_SECRET):
            return False
        # `pins` are something else than several times a `pin`.
        singular = plain.removesuffix("s") if len(plain) > _SHORT else plain
        return any(one in self._exact or one.endswith(self._ends) for one in (plain, singular))

    def are_sure(self, name: str) -> bool:
        """Whether what stands under that name is secret wherever else it stands."""
        return normal(name) in self._sure

    def in_text(self, text: bytes, low: bytes) -> Iterator[tuple[int, int, bool, bool]]:
        """Yield where secrets stand in a text under their names.

        As (begin, end, whether it is a number of JSON, whether it is secret everywhere).

        Args:
            text: The text.
            low: The same in lower case.
        """
        self._wholes_left = _WHOLES_MAX
        for stem in self.stems:
            at = low.find(stem)
            while at >= 0:
                end = at + len(stem)
                found = self._at(text, at, end)
                if found is not None and found[1] > found[0]:
                    yield found
                    end = max(end, found[1])
                at = low.find(stem, end)

    def _at(self, text: bytes, at: int, end: int) -> tuple[int, int, bool, bool] | None:
        after = _AFTER.match(text, end)
        last = after.end() if after is not None else end
        if text[last : last + 1] not in _FOLLOWS:
            return None
        before = _BEFORE.search(text, max(0, at - 60), at)
        begin = before.start() if before is not None else at
        name = text[begin:last].strip(b".-").decode("ascii", "replace")
        if not self.are_secret(name):
            return None
        sure = self.are_sure(name)
        if normal(name).endswith(HEADERS):
            header = _AS_HEADER.match(text, last)
            if header is not None:
                return (*header.span(1), False, sure)
        for shape in (_AS_DATA, _AS_SETTING, _AS_SENTENCE, _AS_MARKUP):
            found = shape.match(text, last)
            if found is not None:
                return self._value(found, shape, sure=sure)
        whole = _AS_WHOLE.match(text, last)
        if whole is not None and self._wholes_left:
            # To find where it ends costs as much as it is long.
            self._wholes_left -= 1
            until = _closed(text, whole.end() - 1)
            if until:
                return whole.end() - 1, until, True, sure
        return None

    @staticmethod
    def _value(
        found: re.Match[bytes], shape: re.Pattern[bytes], *, sure: bool
    ) -> tuple[int, int, bool, bool] | None:
        parts = {name: part for name, part in found.groupdict().items() if part is not None}
        group = next(name for name in ("inner", *_SPELLINGS) if name in parts)
        value = parts[group]
        if value.lower() in _WORDLESS or value.startswith(b"[redacted:"):
            return None
        return (*found.span(group), group == "bare" and shape is _AS_DATA, sure)


def _closed(text: bytes, begin: int) -> int:
    """Return where a list or object of JSON ends that begins there; 0 where it is none to hide."""
    depth = 0
    for found in _BRACKETS.finditer(text, begin, begin + _WHOLE_BYTES_MAX):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(found[0], 0)
        if not depth:
            try:
                part = json.loads(text[begin : found.end()])
            except ValueError:
                return 0
            return found.end() if is_value(part) else 0
    return 0


def is_value(part: Any) -> bool:
    """Whether there is anything to hide: nothing, yes and no, and schemas are not."""
    if part is None or isinstance(part, bool) or part in ("", [], {}):
        return False
    return not (isinstance(part, dict) and _is_schema(part))


_TYPES = frozenset(["string", "object", "integer", "number", "boolean", "array", "null"])
_REFERS = frozenset(["$ref", "anyOf", "oneOf", "allOf"])


def _is_schema(part: dict[Any, Any]) -> bool:
    kind = part.get("type")
    said = isinstance(kind, str) and kind in _TYPES
    return said or isinstance(kind, list) or not _REFERS.isdisjoint(part)

"""Resource keys: paths that name what a step touches, and the templates they come from.

Grammar of a template:

    template = segment *( "/" segment )
    segment  = "*" / 1*literal / *literal "{" name "}" *literal
    literal  = letters, digits and - . _ ~ @ : +

At most one parameter stands in a segment, since of `{a}-{b}` nobody could tell `x-y`, `z` from
`x`, `y-z`: give each a segment of its own.

A rendered key is in normal form: text in NFC, percent-encoded except for unreserved
characters (RFC 3986), whether it stood in the template, came from a value or was returned by
a function. Case is significant and kept: `crm/Ada` and `crm/ada` are two resources, unless
the `normal=` of a `Resource` makes them one. `*` stands for any one segment. A key covers its
whole subtree: `crm/7` covers `crm/7/notes`, and does not cover `crm/70`. The empty key covers
everything; only what is not known yet, or not declared, claims it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple
from urllib.parse import quote, unquote, unquote_to_bytes
from uuid import UUID

VALUE_CHARS_MAX = 512
TEMPLATE_CHARS_MAX = 1_024
KEY_CHARS_MAX = 8_192
KEYS_MAX = 1_000
WILD = "*"
EVERYTHING = ""
_INTEGER_MAX = 2**64
_SHOWN_MAX = 40
# Values that stand for one key each.
_SEVERAL = (list, tuple, set, frozenset)

Normal = Callable[[str], str]

_SEGMENT = re.compile(r"(?:[A-Za-z0-9\-._~@:+]|\{[A-Za-z_][A-Za-z0-9_]*\})+\Z")
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# What a percent-encoded value is made of, and what needs no encoding.
_encoded_whole = re.compile(r"(?:[A-Za-z0-9\-._~]|%[0-9A-F]{2})+").fullmatch
_plain = re.compile(rf"[A-Za-z0-9\-_~]{{1,{VALUE_CHARS_MAX}}}\Z").match


class KeyProblem(ValueError):  # noqa: N818  a reason that the caller turns into its own error
    """Why a template cannot be read, or a value cannot stand in a key."""


class Segment(NamedTuple):
    """One part of a template between slashes, its literals in normal form.

    Attributes:
        before: What stands before the parameter; all of the segment where there is none.
        name: The parameter, or empty.
        after: What stands after it.
        normal: What is done to the parameter's text before it is encoded.
    """

    before: str
    name: str = ""
    after: str = ""
    normal: Normal | None = None

    @property
    def text(self) -> str:
        """The segment as it is written in a template."""
        return f"{self.before}{{{self.name}}}{self.after}" if self.name else self.before

    @property
    def bare(self) -> bool:
        """Whether it is a parameter and nothing else."""
        return bool(self.name) and not self.before and not self.after


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed key template.

    Attributes:
        text: As written.
        parameters: The names that it takes its values from, in order, each once.
        parts: Its segments; none where it may yield any key.
        segments: The same as text.
    """

    text: str
    parameters: tuple[str, ...]
    parts: tuple[Segment, ...]
    segments: tuple[str, ...] = field(init=False)
    _head: str = field(init=False, repr=False, compare=False)
    _rest: tuple[tuple[str, Normal | None, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Flat, since a key is rendered at every step: a literal, then parameters and literals.
        literals, names = [""], []
        for place, part in enumerate(self.parts):
            literals[-1] += f"/{part.before}" if place else part.before
            if part.name:
                names.append((part.name, part.normal))
                literals.append(part.after)
        rest = tuple((*name, after) for name, after in zip(names, literals[1:], strict=True))
        object.__setattr__(self, "_head", literals[0])
        object.__setattr__(self, "_rest", rest)
        object.__setattr__(self, "segments", tuple(part.text for part in self.parts))

    def render(self, values: Mapping[str, object]) -> str:
        """Return the key for `values`.

        Raises:
            KeyProblem: A value is missing, empty, a dot segment, too long or not a scalar.
        """
        key = self._head
        for name, normal, literal in self._rest:
            if name not in values:
                msg = f"{{{name}}} has no value yet"
                raise KeyProblem(msg)
            value = values[name]
            # What most values are, spelled out here because this runs at every step.
            if type(value) is str and normal is None and _plain(value):
                key += value + literal
            else:
                key += _encoded(name, value, normal) + literal
        return key if len(key) <= KEY_CHARS_MAX else _too_long(key)

    def known(self, values: Mapping[str, object]) -> str:
        """Return the key as far as `values` go: the longest prefix of whole segments.

        A parameter that is missing, None or a list is not known. Where that is the first
        segment the prefix is empty, and claims everything. Whatever is rendered later with
        more values lies within what is returned now.

        Raises:
            KeyProblem: A value cannot stand in a key.
        """
        segments: list[str] = []
        for before, name, after, normal in self.parts:
            if not name:
                segments.append(before)
                continue
            value = values.get(name)
            if value is None or isinstance(value, _SEVERAL):
                break
            segments.append(before + _encoded(name, value, normal) + after)
        key = "/".join(segments)
        return key if len(key) <= KEY_CHARS_MAX else _too_long(key)

    def keys(self, values: Mapping[str, object]) -> list[str]:
        """Return the keys for `values`, as far as they go: a list stands for one key an item.

        Raises:
            KeyProblem: A value cannot stand in a key, or there are more than `KEYS_MAX`.
        """
        names = [name for name in self.parameters if isinstance(values.get(name), _SEVERAL)]
        if not names:
            return [self.known(values)]
        lists = [_in_order(name, values[name]) for name in names]
        refuse_too_many(self.text, prod(len(items) for items in lists))
        return [
            self.known({**values, **dict(zip(names, chosen, strict=True))})
            for chosen in product(*lists)
        ]

    def may_yield(self, key: str) -> bool:
        """Whether some values of its parameters render to exactly `key`."""
        if not self.parts:
            return True
        found = key.split("/")
        return len(found) == len(self.parts) and all(
            _may_be(mine, theirs) for mine, theirs in zip(self.parts, found, strict=True)
        )


def parse(text: str) -> Template:
    """Return the template that `text` spells.

    Raises:
        KeyProblem: It breaks the grammar; the message says where.
    """
    if not text or len(text) > TEMPLATE_CHARS_MAX:
        msg = f"a key must have 1 to {TEMPLATE_CHARS_MAX} characters"
        raise KeyProblem(msg)
    parts = []
    for segment in text.split("/"):
        if segment in ("", ".", ".."):
            msg = f"{text!r} has an empty or a dot segment"
            raise KeyProblem(msg)
        if segment == WILD:
            parts.append(Segment(WILD))
            continue
        if not _SEGMENT.match(segment):
            msg = (
                f"segment {segment!r} of {text!r} may hold letters, digits, - . _ ~ @ : + "
                "and {parameter}"
            )
            raise KeyProblem(msg)
        before, *more = _PARAMETER.split(segment)
        if len(more) > 2:  # noqa: PLR2004  one name and what follows it
            apart = "/".join(f"{{{name}}}" for name in more[::2])
            msg = (
                f"segment {segment!r} of {text!r} holds more than one parameter, so different "
                f"values could make one key; give each a segment of its own, as in {apart}"
            )
            raise KeyProblem(msg)
        name, after = more or ("", "")
        parts.append(Segment(quote(before, safe=""), name, quote(after, safe="")))
    return Template(text, _names(parts), tuple(parts))


def template_of(parts: Iterable[Segment]) -> Template:
    """Return the template made of `parts`."""
    parts = tuple(parts)
    return Template("/".join(part.text for part in parts), _names(parts), parts)


def anything(text: str, parameters: tuple[str, ...] = ()) -> Template:
    """Return a template, shown as `text`, that may yield any key and claims everything."""
    return Template(text, parameters, ())


def normal_key(text: str) -> str:
    """Return a concrete path in normal form; one that is in it already stays as it is.

    What is percent-encoded is taken for what it stands for, so that `%41da`, `Ada` and
    `%2e%2e` mean what they look like. A segment `*` stands for any one segment.

    Raises:
        KeyProblem: It or a segment is empty, a dot segment, too long or not text.
    """
    if not text:
        msg = "a key must not be empty"
        raise KeyProblem(msg)
    if len(text) > KEY_CHARS_MAX:
        _too_long(text)
    key = "/".join(
        [s if s == WILD or _plain(s) else _normal_segment(s, text) for s in text.split("/")]
    )
    return key if len(key) <= KEY_CHARS_MAX else _too_long(key)


def covers(outer: str, inner: str) -> bool:
    """Whether `inner` is `outer` or lies in its subtree."""
    return inner == outer or inner.startswith(outer + "/")


def overlap(one: str, other: str) -> bool:
    """Whether one of two keys covers the other; `*` is any one segment, `""` is everything."""
    if not one or not other:
        return True
    mine, theirs = one.split("/"), other.split("/")
    return all(a == b or "*" in (a, b) for a, b in zip(mine, theirs, strict=False))


def meet(one: str, other: str) -> str:
    """Return the key of what two overlapping keys have in common; `*` is any one segment."""
    mine, theirs = one.split("/") if one else [], other.split("/") if other else []
    if len(mine) < len(theirs):
        mine, theirs = theirs, mine
    theirs += ["*"] * (len(mine) - len(theirs))
    return "/".join(b if a == "*" else a for a, b in zip(mine, theirs, strict=True))


def within(inner: str, outer: str) -> bool:
    """Whether whatever `inner` claims is claimed by `outer` too; `*` is any one segment."""
    if not outer:
        return True
    mine, theirs = inner.split("/"), outer.split("/")
    return len(mine) >= len(theirs) and all(
        b in (a, "*") for a, b in zip(mine, theirs, strict=False)
    )


def may_overlap(one: Template, other: Template) -> bool:
    """Whether some values make keys of which one covers the other.

    Never says no where there are such values; the same name in both templates counts as two
    different parameters.
    """
    return all(may_meet(a, b) for a, b in zip(one.parts, other.parts, strict=False))


def may_meet(one: Segment, other: Segment) -> bool:
    """Whether two segments may be rendered alike, or one of them is `*`."""
    if WILD in (one.before, other.before):
        return True
    if one.normal is not None or other.normal is not None:
        return True
    if not one.name:
        return one.before == other.before if not other.name else _may_be(other, one.before)
    if not other.name:
        return _may_be(one, other.before)
    return _agree(one.before, other.before, str.startswith) and _agree(
        one.after, other.after, str.endswith
    )


@lru_cache(maxsize=1_024)
def encoded_text(text: str) -> str:
    """Return the text of one value as it stands in a key.

    Raises:
        KeyProblem: It is empty, a dot segment, too long or not text.
    """
    text = unicodedata.normalize("NFC", text)
    if text in ("", ".", "..") or "\0" in text or len(text) > VALUE_CHARS_MAX:
        msg = f"{_shown(text)}, which cannot name a resource"
        raise KeyProblem(msg)
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        msg = f"{_shown(text)}, which holds characters that are not text"
        raise KeyProblem(msg) from None


def normalised(text: str, normal: Normal) -> str:
    """Return what `normal` makes of the text of a value.

    Raises:
        KeyProblem: It raised something or returned no text.
    """
    try:
        made = normal(text)
    except Exception as error:
        msg = f"{_shown(text)}, and its normal= raised {type(error).__name__}: {error}"
        raise KeyProblem(msg) from error
    if not isinstance(made, str):
        msg = f"{_shown(text)}, and its normal= returned a {type(made).__name__}, not text"
        raise KeyProblem(msg)
    return made


def refuse_too_many(what: str, count: int) -> None:
    """Raise if a step would claim too many keys.

    Raises:
        KeyProblem: It would; the message says how many.
    """
    if count > KEYS_MAX:
        msg = (
            f"{what} makes {count:,} keys; a step may claim {KEYS_MAX:,}. Claim what they "
            "lie in, or work in smaller portions"
        )
        raise KeyProblem(msg)


def _encoded(name: str, value: object, normal: Normal | None) -> str:
    if normal is None and type(value) is int and -_INTEGER_MAX <= value <= _INTEGER_MAX:
        return str(value)
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool) or not isinstance(value, str | int | UUID):
        msg = f"{{{name}}} is a {type(value).__name__}; a key takes text, an integer or a UUID"
        raise KeyProblem(msg)
    try:
        text = str.__str__(value) if isinstance(value, str) else str(value)
    except ValueError:  # Python spells no integer of thousands of digits
        msg = f"{{{name}}} is an integer too long to name a resource"
        raise KeyProblem(msg) from None
    try:
        if normal is not None:
            text = normalised(text, normal)
        return text if _plain(text) else encoded_text(text)
    except KeyProblem as problem:
        msg = f"{{{name}}} is {problem}"
        raise KeyProblem(msg) from problem.__cause__


def _normal_segment(segment: str, whole: str) -> str:
    try:
        try:
            text = unquote(segment, errors="strict")
        except UnicodeDecodeError:
            # Bytes that are no text are another system's name for something; kept as they are.
            return quote(unquote_to_bytes(segment), safe="")
        return encoded_text(text)
    except (KeyProblem, UnicodeEncodeError) as problem:
        why = problem if isinstance(problem, KeyProblem) else f"{_shown(segment)}, not text"
        msg = f"a segment of key {_shown(whole)} is {why}"
        raise KeyProblem(msg) from None


def _names(parts: Iterable[Segment]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.name for part in parts if part.name))


def _may_be(part: Segment, found: str) -> bool:
    """Whether some value makes `part` the segment `found`."""
    before, name, after, normal = part
    if not name:
        return before in (found, WILD)
    if normal is not None:
        return True
    return (
        len(found) > len(before) + len(after)
        and found.startswith(before)
        and found.endswith(after)
        and _encoded_whole(found, len(before), len(found) - len(after)) is not None
    )


def _agree(one: str, other: str, at_end: Callable[[str, str], bool]) -> bool:
    return at_end(one, other) or at_end(other, one)


def _in_order(name: str, items: object) -> Sequence[object]:
    """Return the items of a list as they are, of a set always in the same order."""
    assert isinstance(items, _SEVERAL)  # noqa: S101  the caller looked
    if any(isinstance(item, _SEVERAL) for item in items):
        msg = f"{{{name}}} is a list of lists; a key takes text, an integer or a UUID, or some"
        raise KeyProblem(msg)
    return sorted(items, key=_spelled) if isinstance(items, set | frozenset) else tuple(items)


def _spelled(item: object) -> tuple[str, str]:
    return (type(item).__name__, repr(item)[:VALUE_CHARS_MAX])


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…")


def _too_long(key: str) -> str:
    msg = (
        f"key {_shown(key)} has {len(key):,} characters; a key may have {KEY_CHARS_MAX:,}. "
        "Name the resource by an id, or by a hash of its name"
    )
    raise KeyProblem(msg)

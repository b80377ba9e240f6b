"""Resource keys: paths that name what a step touches, and the templates they come from.

Grammar of a template:

    template = segment *( "/" segment )
    segment  = "*" / 1*( literal / "{" name "}" )
    literal  = letters, digits and - . _ ~ @ : +

A rendered key has every parameter replaced by its value in normal form NFC, percent-encoded
except for unreserved characters (RFC 3986); case is kept. A key covers its whole subtree:
`crm/7` covers `crm/7/notes`, and does not cover `crm/70`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote
from uuid import UUID

_SEGMENT = re.compile(r"(?:[A-Za-z0-9\-._~@:+]|\{[A-Za-z_][A-Za-z0-9_]*\})+\Z")
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# What a percent-encoded value is made of.
_ENCODED = r"[A-Za-z0-9\-._~%]+"
_PLAIN = re.compile(r"[A-Za-z0-9\-_~]+\Z")

VALUE_CHARS_MAX = 512
TEMPLATE_CHARS_MAX = 1_024
_INTEGER_MAX = 2**64


class KeyProblem(ValueError):  # noqa: N818  a reason that the caller turns into its own error
    """Why a template cannot be read, or a value cannot stand in a key."""


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed key template.

    Attributes:
        text: As written.
        parameters: The names that it takes its values from, in order, each once.
        segments: Its parts between slashes.
        pieces: Literals and names in turn, beginning and ending with a literal.
    """

    text: str
    parameters: tuple[str, ...]
    segments: tuple[str, ...]
    pieces: tuple[str, ...]

    def render(self, values: Mapping[str, object]) -> str:
        """Return the key for `values`.

        Raises:
            KeyProblem: A value is missing, empty, a dot segment, too long or not a scalar.
        """
        pieces = self.pieces
        key = pieces[0]
        for place in range(1, len(pieces), 2):
            key += _encoded(pieces[place], values) + pieces[place + 1]
        return key

    def may_yield(self, key: str) -> bool:
        """Whether some values of its parameters render to exactly `key`."""
        parts = key.split("/")
        return len(parts) == len(self.segments) and all(
            _segment_matches(mine, theirs)
            for mine, theirs in zip(self.segments, parts, strict=True)
        )


def parse(text: str) -> Template:
    """Return the template that `text` spells.

    Raises:
        KeyProblem: It breaks the grammar; the message says where.
    """
    if not text or len(text) > TEMPLATE_CHARS_MAX:
        msg = f"a key must have 1 to {TEMPLATE_CHARS_MAX} characters"
        raise KeyProblem(msg)
    segments = tuple(text.split("/"))
    for segment in segments:
        if segment in ("", ".", ".."):
            msg = f"{text!r} has an empty or a dot segment"
            raise KeyProblem(msg)
        if segment != "*" and not _SEGMENT.match(segment):
            msg = (
                f"segment {segment!r} of {text!r} may hold letters, digits, - . _ ~ @ : + "
                "and {parameter}"
            )
            raise KeyProblem(msg)
    parameters = tuple(dict.fromkeys(_PARAMETER.findall(text)))
    return Template(text, parameters, segments, tuple(_PARAMETER.split(text)))


def covers(outer: str, inner: str) -> bool:
    """Whether `inner` is `outer` or lies in its subtree."""
    return inner == outer or inner.startswith(outer + "/")


def _encoded(name: str, values: Mapping[str, object]) -> str:
    if name not in values:
        msg = f"{{{name}}} has no value yet"
        raise KeyProblem(msg)
    value = values[name]
    if type(value) is int and -_INTEGER_MAX <= value <= _INTEGER_MAX:
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
    if _PLAIN.match(text) and len(text) <= VALUE_CHARS_MAX:
        return text
    text = unicodedata.normalize("NFC", text)
    if text in ("", ".", "..") or "\0" in text or len(text) > VALUE_CHARS_MAX:
        shown = text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004
        msg = f"{{{name}}} is {shown!r}, which cannot name a resource"
        raise KeyProblem(msg)
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        msg = f"{{{name}}} holds characters that are not text"
        raise KeyProblem(msg) from None


def _segment_matches(template: str, part: str) -> bool:
    if template == "*":
        return True
    pattern = "".join(
        _ENCODED if piece.startswith("{") else re.escape(piece)
        for piece in re.split(r"(\{[^}]*\})", template)
    )
    return re.fullmatch(pattern, part) is not None

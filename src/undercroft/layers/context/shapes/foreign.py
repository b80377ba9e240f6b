"""Foreign messages: dicts as providers want them, and what they are as messages of ours.

Keeps: what was given is kept as given; where no provider would take it, a copy that is mended goes
out in its stead and says what was mended.
Leaves to `openai_shape.py` and `anthropic_shape.py`: how a message is read and written; to
`pairing.py`: which result belongs to which call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from undercroft.errors import MessageError
from undercroft.model.message import Message

DEPTH_MAX = 100
INTEGER_MAX = 2**63 - 1
NAME_CHARS_MAX = 80
EMPTY_TOKENS = 6

OPENAI = "openai"
ANTHROPIC = "anthropic"

_encode = msgspec.json.Encoder().encode
_CONTAINERS = frozenset({dict, list})
_SCALARS = frozenset({str, int, float, bool, type(None)})


class Part(NamedTuple):
    """A message of ours that a foreign one holds.

    Attributes:
        message: What of it everybody understands; what is not text is there as a mark.
        media_tokens: What the marks stand for, at a guess that is rather too high.
        unseen: Text that is sent and is not in `message`, such as a model's thinking.
        sealed: Of `unseen`, what is sent even where the content is replaced.
        blocks: Places of its blocks in the list of contents; empty where that is a text.
        stray: Whether it is a result that belongs to no call, told in the user's place.
        failed: Whether it is the result of a call that went wrong, as far as it says so.
    """

    message: Message
    media_tokens: int = 0
    unseen: str = ""
    sealed: str = ""
    blocks: tuple[int, ...] = ()
    stray: bool = False
    failed: bool = False


class Foreign:
    """One message as it was given, and what became of it.

    Attributes:
        original: As it was given, but for objects of a client library, which are data here.
        shown: As it is sent: `original` itself wherever a provider takes it.
        shapes: The shapes in which `shown` stands as it is.
        parts: What it is in messages of ours, in their order.
        mends: What was mended, in words; empty where `shown` is `original`.
    """

    __slots__ = ("mends", "original", "parts", "shapes", "shown")

    def __init__(
        self,
        original: dict[str, Any],
        shown: dict[str, Any],
        shapes: tuple[str, ...],
        parts: tuple[Part, ...],
        mends: tuple[str, ...] = (),
    ) -> None:
        self.original, self.shown, self.shapes = original, shown, shapes
        self.parts, self.mends = parts, mends

    def __repr__(self) -> str:
        roles = ", ".join(part.message.role for part in self.parts)
        return f"<Foreign {roles}: {'; '.join(self.mends) or 'as given'}>"


class Shown(NamedTuple):
    """A message of a prompt, and where it came from.

    Attributes:
        message: What the prompt shows: of a foreign one, or what stands in its place.
        foreign: What it is a part of; None where it is ours.
        part: Which part of that.
    """

    message: Message
    foreign: Foreign | None = None
    part: int = 0

    @property
    def changed(self) -> bool:
        """Whether something else stands in its place, or it never was foreign."""
        if self.foreign is None:
            return True
        was = self.foreign.parts[self.part].message
        return self.message is not was and self.message != was


def weighs(shown: Shown) -> tuple[int, str]:
    """Return what a message weighs beyond its own text: tokens, and text to be counted."""
    if not shown.message.content and not shown.message.calls:
        # Where empty content is refused, a word stands for it.
        return EMPTY_TOKENS, ""
    if shown.foreign is None:
        return 0, ""
    part = shown.foreign.parts[shown.part]
    if shown.message.content == part.message.content:
        return part.media_tokens, part.unseen
    return 0, part.sealed


def as_data(given: object, place: str) -> dict[str, Any]:
    """Return a message as plain data; a plain dict as it is.

    Objects with a `model_dump`, as client libraries answer with, become dicts; lone surrogates,
    which no text on the wire may hold, become U+FFFD; integers beyond 64 bits become text.

    Raises:
        MessageError: It is no mapping, is nested deeper than 100, or holds what is not data.
    """
    if type(given) is dict and _is_plain(given):
        return given
    if not isinstance(given, Mapping) and not hasattr(given, "model_dump"):
        raise MessageError(
            place,
            f"it is of type {type(given).__name__}, and not a message",
            "Give a dict with a role and content, as the provider's API takes it.",
        )
    data = _plain(given, place, 0)
    if not isinstance(data, dict):
        raise MessageError(place, "it does not dump as a mapping", "Give a dict.")
    return data


def text_of(value: object) -> str:
    """Return any plain value as text: a text as it is, nothing as an empty one, else JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else _encode(value).decode()


def label(value: object) -> str:
    """Return a name that somebody gave as one bounded line."""
    return _encode(str(value)[:NAME_CHARS_MAX]).decode()


def _is_plain(given: dict[str, Any]) -> bool:
    """Whether it can be sent as it is: UTF-8, plain types, not too deep."""
    level: list[Any] = [given]
    for _ in range(DEPTH_MAX):
        below: list[Any] = []
        for value in level:
            if type(value) is dict:
                if any(type(key) is not str for key in value):
                    return False
                inner: Any = value.values()
            else:
                inner = value
            for each in inner:
                if type(each) in _CONTAINERS:
                    below.append(each)
                elif type(each) not in _SCALARS:
                    return False
        if not below:
            return _is_writable(given)
        level = below
    return False


def _is_writable(given: dict[str, Any]) -> bool:
    try:
        _encode(given)
    except (ValueError, OverflowError):  # lone surrogates; integers beyond 64 bits
        return False
    return True


def _plain(value: Any, place: str, depth: int) -> Any:
    if depth > DEPTH_MAX:
        problem = f"it is nested deeper than {DEPTH_MAX}"
        raise MessageError(place, problem, "Give flat content, or the JSON text of it.")
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool | float | None):
        return value
    if isinstance(value, int):
        # What is larger cannot be written down as a number everywhere.
        return value if -INTEGER_MAX <= value <= INTEGER_MAX else str(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _plain(each, place, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, place, depth + 1) for each in value]
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return _plain(_dumped(dump, place), place, depth + 1)
    raise MessageError(
        place,
        f"it holds a value of type {type(value).__name__}, which is not data",
        "Give texts, numbers, lists and dicts; bytes as base64.",
    )


def _dumped(dump: Any, place: str) -> Any:
    try:
        return dump(mode="json", exclude_none=True)
    except Exception as error:
        problem = f"an object in it cannot be dumped ({type(error).__name__})"
        raise MessageError(place, problem, "Give a dict.") from error


def clean(text: str) -> str:
    """Return `text` with U+FFFD for each lone surrogate."""
    if text.isascii():
        return text[:]  # of a subclass, such as an enum: the text itself
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

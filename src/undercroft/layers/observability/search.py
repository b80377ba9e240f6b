"""Which turns say something: a text in what went in and came out, or a service that was called.

Keeps: what is found is found in a field of an event, never across two, and whatever its case; a
turn that is not found holds it nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from undercroft.model.event import AnyEvent, StepStarted, decode_frames

_decode = msgspec.msgpack.Decoder().decode
_ASCII_LETTER = re.compile(r"[a-z]")
_PARTS_MAX = 1_000_000


class Search:
    """What is looked for in turns; all of it has to be there.

    Args:
        text: Anywhere in inputs, arguments, results, delivered text and errors.
        service: That was called.
    """

    __slots__ = ("_service", "_sure", "_text")

    def __init__(self, text: str | None = None, service: str | None = None) -> None:
        self._text = None if text is None else text.lower()
        self._service = service
        # What must stand in the bytes as it is; numbers stand there otherwise, and so may letters
        # that are not ASCII, once they are large.
        self._sure: tuple[bytes, ...] = ()
        if self._text is not None and self._text.isascii() and _ASCII_LETTER.search(self._text):
            self._sure += (self._text.encode(),)
        if service is not None:
            self._sure += (service.lower().encode("utf-8", "surrogatepass"),)

    def finds(self, frames: Iterable[bytes]) -> bool:
        """Whether the frames of a turn hold all that is looked for."""
        frames = list(frames)
        # Most turns are told apart without being decoded.
        if self._sure and not self._may_hold(frames):
            return False
        events = decode_frames(frames)
        if self._service is not None and not any(map(self._calls, events)):
            return False
        text = self._text
        return text is None or any(
            text in said.lower() for event in events for said in said_in(event)
        )

    def _may_hold(self, frames: Iterable[bytes]) -> bool:
        lower = [frame.lower() for frame in frames]
        return all(any(part in frame for frame in lower) for part in self._sure)

    def _calls(self, event: AnyEvent) -> bool:
        return getattr(event, "service", None) == self._service


def said_in(event: AnyEvent) -> Iterator[str]:
    """Yield what an event says in words and numbers: its bodies, errors and refusals."""
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, msgspec.Raw):
            body = _decode(value)
            if isinstance(event, StepStarted) and isinstance(body, dict) and "prompt" in body:
                # What a model may call is the same in each prompt, and no part of what happened.
                body = {key: part for key, part in body.items() if key not in ("tools", "model")}
            yield from texts_of(body)
        elif name in ("error", "refusal") and value is not None:
            yield str(value)
            yield getattr(value, "rule", "") or getattr(value, "type", "")
        elif name in ("reason", "detail", "missing"):
            yield from texts_of(value)


def texts_of(value: Any) -> Iterator[str]:
    """Yield the texts and numbers in plain data, keys included."""
    stack, left = [value], _PARTS_MAX
    while stack and left:
        left -= 1
        part = stack.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            stack.extend(part.values())
            stack.extend(part)
        elif isinstance(part, list | tuple):
            stack.extend(part)
        elif isinstance(part, int | float) and not isinstance(part, bool):
            yield str(part)

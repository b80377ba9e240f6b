"""Values that grow from a stream of JSON's parts, so that what is cut off is not lost.

Keeps: no recursion: what is nested too deeply is left out; a list at the top, or under a container
key of a large object, is given out element by element, and never held as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import ijson

DEPTH_MAX = 200
# An object larger than this is not held as a whole, if its documents are a list under a key of it.
HELD_BYTES_MAX = 8 * 1024 * 1024
# Depth of a list under a key of the object at the top.
_IN_LIST = 2
_STARTS = frozenset({"start_map", "start_array"})
_ENDS = frozenset({"end_map", "end_array"})


@dataclass(frozen=True, slots=True)
class Grown:
    """A value at the top, or an element of the list there.

    Attributes:
        index: Of an element; None for a value at the top.
    """

    value: Any
    index: int | None = None


class Grower:
    """Makes values of events.

    Args:
        events: As `ijson.basic_parse` gives them.
        containers: Keys of a large object at the top, under which its documents are a list.
        read_bytes: Returns how much has been read.

    Attributes:
        broken: Why the stream ended early; empty where it did not.
        too_deep: Whether anything was left out since it is nested too deeply.
    """

    def __init__(
        self,
        events: Iterable[tuple[str, Any]],
        containers: frozenset[str] = frozenset(),
        read_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._events = events
        self._containers = containers
        self._read_bytes = read_bytes
        self._stack: list[Any] = []
        self._keys: list[str] = []
        # Depth of the list that is given out element by element; 0 where there is none.
        self._streamed = 0
        self._count = 0
        self._begun_bytes = 0
        self._skipping = 0
        # Whether the object at the top has been given out in parts.
        self._gone = False
        self.broken = ""
        self.too_deep = False

    def __iter__(self) -> Iterator[Grown]:
        try:
            for event, value in self._events:
                # Nearly all events are deep within a document, where nothing has to be decided.
                if len(self._stack) <= _IN_LIST or not self._deep(event, value):
                    yield from self._take(event, value)
        # Whatever a parser makes of somebody else's bytes, what came before still counts.
        except (ijson.JSONError, ValueError) as error:
            self.broken = _line(error) or type(error).__name__

    def rest(self) -> Grown | None:
        """Return what had been read of a value when the stream ended; None where nothing had."""
        stack, least = self._stack, self._streamed
        while len(stack) > max(least, 1):
            value = stack.pop()
            self._keys.pop()
            if len(stack) == least and least:
                return Grown(value, self._count) if value else None
            if value:
                self._put(value, self._keys[-1])
        # What streams is given out already.
        return Grown(stack[0]) if stack and not least and stack[0] else None

    def _deep(self, event: str, value: Any) -> bool:
        """Add an event within a value; says whether that is all that there is to do."""
        stack, keys = self._stack, self._keys
        if event == "map_key":
            if not self._skipping:
                keys[-1] = value
            return True
        if self._skipping or len(stack) >= DEPTH_MAX:
            return False
        if event in _STARTS:
            stack.append({} if event == "start_map" else [])
            keys.append("")
            return True
        if event in _ENDS:
            if len(stack) == _IN_LIST + 1:
                return False
            value = stack.pop()
            keys.pop()
        top = stack[-1]
        if top.__class__ is list:
            top.append(value)
        else:
            top[keys[-1]] = value
        return True

    def _take(self, event: str, value: Any) -> Iterator[Grown]:
        """Add one event; yields what it completes."""
        if event == "map_key":
            if not self._skipping:
                self._keys[-1] = value
            return
        if event in _STARTS:
            if self._skipping or len(self._stack) >= DEPTH_MAX:
                self._skipping += 1
                self.too_deep = True
            else:
                self._push({} if event == "start_map" else [])
            return
        if event in _ENDS:
            if self._skipping:
                self._skipping -= 1
                return
            value = self._stack.pop()
            self._keys.pop()
            if len(self._stack) < self._streamed:
                self._streamed = 0
                self._gone = bool(self._stack)
                return
        elif self._skipping:
            return
        yield from self._done(value)

    def _push(self, value: Any) -> None:
        if not self._stack:
            self._begun_bytes, self._count, self._gone = self._read_bytes(), 0, False
            if isinstance(value, list):
                self._streamed = 1
        self._stack.append(value)
        self._keys.append("")

    def _done(self, value: Any) -> Iterator[Grown]:
        """Put a complete value where it belongs; yields what need not be held any longer."""
        depth = len(self._stack)
        if depth == 0:
            if not self._gone:
                yield Grown(value)
            return
        if depth == self._streamed:
            yield self._element(value)
            return
        self._put(value, self._keys[-1])
        # The object's own key is that of its frame, and names the list that stands on it.
        if depth == _IN_LIST and isinstance(self._stack[1], list) and self._is_large():
            held, self._stack[1] = self._stack[1], []
            self._streamed = _IN_LIST
            for item in held:
                yield self._element(item)

    def _is_large(self) -> bool:
        contained = self._keys[0] in self._containers
        return contained and self._read_bytes() - self._begun_bytes > HELD_BYTES_MAX

    def _element(self, value: Any) -> Grown:
        self._count += 1
        return Grown(value, self._count - 1)

    def _put(self, value: Any, key: str) -> None:
        top = self._stack[-1]
        if isinstance(top, list):
            top.append(value)
        else:
            top[key] = value


def _line(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return text.partition("\n")[0][:200]

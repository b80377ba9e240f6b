"""Calls that wait for their results, and which of them a result belongs to.

Keeps: an id decides, where there is one; else name and order do. What was asked for last is
answered first, and of calls that were asked for together the first. Each question costs the same,
however many calls wait.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import TypeAlias

# How many calls are looked at for one that has no id, where others have.
_SEARCHED_MAX = 100

# Numbers of calls, in order, by an id or by a name.
_Calls: TypeAlias = dict[str, OrderedDict[int, None]]


class Pending:
    """Calls by their numbers, as they are asked for and answered."""

    def __init__(self) -> None:
        self._asked: dict[int, tuple[str, str]] = {}
        self._by_id: _Calls = {}
        self._by_name: _Calls = {}
        self._batch_by_id: _Calls = {}
        self._batch_by_name: _Calls = {}

    def begin_batch(self) -> None:
        """Say that what follows is asked for together."""
        self._batch_by_id, self._batch_by_name = {}, {}

    def knows(self, call_id: str) -> bool:
        """Whether any call had this id."""
        return call_id in self._by_id

    def ask(self, n: int, call_id: str, name: str) -> None:
        """Add a call."""
        self._asked[n] = (call_id, name)
        for calls, key in self._places(call_id, name):
            calls.setdefault(key, OrderedDict())[n] = None

    def answer(self, call_id: str, name: str) -> int | None:
        """Return the call that a result belongs to, which waits no longer; None if none does.

        Args:
            call_id: As the result states it; may be empty.
            name: Of the tool, as the result states it; may be empty.
        """
        n = next(self._fitting(call_id, name), None)
        if n is not None:
            for calls, key in self._places(*self._asked.pop(n)):
                # Of an earlier batch it is not among those of this one.
                calls.get(key, OrderedDict[int, None]()).pop(n, None)
        return n

    def _places(self, call_id: str, name: str) -> Iterator[tuple[_Calls, str]]:
        # The empty name stands for all of a batch.
        for key in {name, ""}:
            yield self._batch_by_name, key
        yield self._by_name, name
        if call_id:
            yield self._batch_by_id, call_id
            yield self._by_id, call_id

    def _fitting(self, call_id: str, name: str) -> Iterator[int]:
        if self.knows(call_id):
            yield from self._batch_by_id.get(call_id, ())
            yield from self._by_id[call_id]
            return
        yield from self._nameable(self._batch_by_name.get(name), call_id)
        if name:
            yield from self._nameable(self._by_name.get(name), call_id)

    def _nameable(self, calls: OrderedDict[int, None] | None, call_id: str) -> Iterator[int]:
        for n in islice(calls or (), _SEARCHED_MAX):
            # What has an id of its own is not answered under another.
            if not (call_id and self._asked[n][0]):
                yield n

"""Where in a run something was seen first: who could have known it, and from when.

Keeps: a value counts as seen where it stands as a whole word; case and spacing do not matter.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from undercroft.model.case import Case


class Sightings:
    """What was said and returned in a run, searchable by step.

    Args:
        pieces: Texts in the order in which they came up, as (place, text). A step has two
            places: what a prompt says (`2 * step`) comes before what its answer proposes, and
            what a span itself returns (`2 * step + 1`) after it.
    """

    def __init__(self, pieces: Iterable[tuple[int, str]]) -> None:
        self._places: list[int] = []
        self._starts: list[int] = []
        texts: list[str] = []
        at = 0
        for place, text in pieces:
            folded = text.casefold()
            self._places.append(place)
            self._starts.append(at)
            texts.append(folded)
            at += len(folded) + 1
        self._text = "\n".join(texts)
        self._known: dict[str, int | None] = {}

    @classmethod
    def of(cls, case: Case, *, assistants: bool = False) -> Sightings:
        """Return what users, systems, other agents and tools said; on wish, assistants too."""
        pieces = [
            (2 * text.step, text.text)
            for text in case.texts
            if assistants or text.role != "assistant"
        ]
        pieces += [
            (2 * call.ended + (call.ended == call.step), call.result)
            for call in case.calls
            if call.ended is not None and call.result is not None
        ]
        if case.asks and not case.texts:
            pieces += [(2 * a.step, text) for a in case.asks for _, text in a.prompt or ()]
        return cls(sorted(pieces, key=lambda piece: piece[0]))

    def first(self, value: str) -> int | None:
        """Return the step at which `value` was seen first, or None."""
        place = self._first(value)
        return None if place is None else place // 2

    def _first(self, value: str) -> int | None:
        wanted = value.casefold().strip()
        if not wanted:
            return None
        if wanted not in self._known:
            self._known[wanted] = self._find(wanted)
        return self._known[wanted]

    def before(self, value: str, step: int) -> bool:
        """Whether `value` was seen before `step`, or in what was said to it."""
        place = self._first(value)
        return place is not None and place <= 2 * step

    def _find(self, wanted: str) -> int | None:
        text, at = self._text, -1
        while (at := text.find(wanted, at + 1)) >= 0:
            end = at + len(wanted)
            opens = at == 0 or not (text[at - 1].isalnum() and wanted[0].isalnum())
            closes = end == len(text) or not (text[end].isalnum() and wanted[-1].isalnum())
            if opens and closes:
                return self._places[bisect_right(self._starts, at) - 1]
        return None

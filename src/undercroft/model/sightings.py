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
        pieces: Texts in the order in which they came up, as (step, text).
    """

    def __init__(self, pieces: Iterable[tuple[int, str]]) -> None:
        self._steps: list[int] = []
        self._starts: list[int] = []
        texts: list[str] = []
        at = 0
        for step, text in pieces:
            folded = text.casefold()
            self._steps.append(step)
            self._starts.append(at)
            texts.append(folded)
            at += len(folded) + 1
        self._text = "\n".join(texts)
        self._known: dict[str, int | None] = {}

    @classmethod
    def of(cls, case: Case, *, assistants: bool = False) -> Sightings:
        """Return what users, systems, other agents and tools said; on wish, assistants too."""
        pieces = [
            (text.step, text.text) for text in case.texts if assistants or text.role != "assistant"
        ]
        pieces += [
            (call.ended, call.result)
            for call in case.calls
            if call.ended is not None and call.result is not None
        ]
        if case.asks and not case.texts:
            pieces += [(a.step, text) for a in case.asks for _, text in a.prompt or ()]
        return cls(sorted(pieces, key=lambda piece: piece[0]))

    def first(self, value: str) -> int | None:
        """Return the step at which `value` was seen first, or None."""
        wanted = value.casefold().strip()
        if not wanted:
            return None
        if wanted not in self._known:
            self._known[wanted] = self._find(wanted)
        return self._known[wanted]

    def before(self, value: str, step: int) -> bool:
        """Whether `value` was seen before `step`."""
        first = self.first(value)
        return first is not None and first < step

    def _find(self, wanted: str) -> int | None:
        text, at = self._text, -1
        while (at := text.find(wanted, at + 1)) >= 0:
            end = at + len(wanted)
            opens = at == 0 or not (text[at - 1].isalnum() and wanted[0].isalnum())
            closes = end == len(text) or not (text[end].isalnum() and wanted[-1].isalnum())
            if opens and closes:
                return self._steps[bisect_right(self._starts, at) - 1]
        return None

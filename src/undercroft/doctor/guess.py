"""Which format a file is in: what its first documents look like, and how sure that is.

Keeps: the format that fits best is taken, and said; what fits none is no guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from undercroft.doctor.importers.form import Format
from undercroft.model.symptom import quoted

# Below this a document is not taken for one of the format at all.
FITS_MIN = 0.2
_KEYS_SHOWN = 6
_TEXT_SHOWN = 60
_SURE, _LIKELY = 0.9, 0.5


@dataclass(frozen=True, slots=True)
class Guess:
    """The format that a file is read as.

    Attributes:
        format: Name of the format.
        title: For people.
        sure: How well the first documents fit, from 0 to 1.
        why: In a few words: what was seen.
        told: Whether somebody said which format it is.
    """

    format: str
    title: str
    sure: float
    why: str = ""
    told: bool = False

    @property
    def word(self) -> str:
        """How sure it is, as a word."""
        if self.told:
            return "as told"
        return "sure" if self.sure >= _SURE else "likely" if self.sure >= _LIKELY else "perhaps"


def fits(form: Format, document: Any) -> float:
    """Return how much a document looks like a format."""
    try:
        found = float(form.fits(document))
    except RecursionError:
        return 0.0
    return min(max(found, 0.0), 1.0)


def guess(documents: Sequence[Any], formats: Iterable[Format]) -> tuple[Format, Guess] | None:
    """Return the format that documents fit best; None where they fit none.

    Args:
        documents: The first of a file.
        formats: Of two that fit as well the first is taken.
    """
    best: tuple[float, Format] | None = None
    for form in formats:
        score = _score(form, documents)
        if score > 0 and (best is None or score > best[0]):
            best = (score, form)
    if best is None:
        return None
    score, form = best
    return form, Guess(form.name, form.title, round(score, 2), seen(documents[:1]))


def _score(form: Format, documents: Sequence[Any]) -> float:
    """Return how well documents fit together; 0 where none does."""
    # Who several messages are from says more than each of them alone.
    together = fits(form, list(documents)) if len(documents) > 1 else 0.0
    if together >= FITS_MIN:
        return together
    fitting = [score for one in documents if (score := fits(form, one)) >= FITS_MIN]
    if not fitting:
        return 0.0
    # A header or a bad line among them does not make the others look like much less.
    share = len(fitting) / len(documents)
    return sum(fitting) / len(fitting) * (1 + share) / 2


def seen(documents: Sequence[Any]) -> str:
    """Say in a few words what documents are."""
    if not documents:
        return "nothing"
    first = documents[0]
    if isinstance(first, Mapping):
        keys = [quoted(str(key)) for key in list(first)[:_KEYS_SHOWN]]
        more = ", …" if len(first) > _KEYS_SHOWN else ""
        return f"an object with {', '.join(keys)}{more}" if keys else "an empty object"
    if isinstance(first, list):
        return f"a list of {len(first)}, of {seen(first[:1])}" if first else "an empty list"
    if isinstance(first, str):
        return f"text that begins {quoted(first[:_TEXT_SHOWN])!r}"
    return "null" if first is None else f"{quoted(str(first)[:_TEXT_SHOWN])}"

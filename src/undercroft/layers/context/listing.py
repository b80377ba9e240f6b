"""How a ledger reads: its entries in few tokens, grouped by who said them and what they are.

Keeps: a value stands once, and not at all where it stands within another; no value can begin a
line or hide what follows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from undercroft.layers.context.words import holds

HEAD = "Values from earlier messages, which may no longer be shown:"
SEPARATOR = "; "
LABEL_CHARS_MAX = 40

# Of the longer values that share a word, so many are looked at.
LONGER_MAX = 32


class Line(NamedTuple):
    """A value and the lines that it belongs to.

    Attributes:
        part: Number of the part of the listing.
        label: What the value is; empty where nobody knows.
    """

    part: int
    label: str
    value: str


PARTS = (
    "Contradictory",
    "Said by user",
    "From tools, used",
    "Corrected since",
    "From tools, not used yet",
)

# What would break a line, turn the direction of what follows, or is no character at all.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def plain(text: str) -> str:
    """Return a text in one line, without characters that cannot be seen."""
    if text.isascii() and text.isprintable():
        return text
    return " ".join(_UNSEEN.sub(" ", text).split())


class Listing:
    """Values, of which any number of the first ones can be written down.

    What stands whole within a longer value is left out, as soon as the longer one is there.
    """

    __slots__ = ("_rows", "_until")

    def __init__(self, lines: Sequence[Line]) -> None:
        labels: dict[str, str] = {}
        self._rows: list[Line] = []
        for part, label, value in lines:
            if label not in labels:
                labels[label] = plain(label)[:LABEL_CHARS_MAX]
            self._rows.append(Line(part, labels[label], plain(value)))
        # Of each value, with how many lines it is left out.
        self._until = _covered([row.value.casefold() for row in self._rows])

    def text(self, first: int) -> str:
        """Return the text of so many values, of which the first of a label stand first."""
        parts: dict[int, dict[str, list[str]]] = {}
        for (part, label, value), until in zip(self._rows[:first], self._until, strict=False):
            if first <= until:
                parts.setdefault(part, {}).setdefault(label, []).append(value)
        text = [HEAD]
        for part in sorted(parts):
            labels = parts[part]
            bare = labels.pop("", None)
            text.append(f"{PARTS[part]}: {SEPARATOR.join(bare)}" if bare else f"{PARTS[part]}:")
            text += [f"- {label}: {SEPARATOR.join(labels[label])}" for label in sorted(labels)]
        return "\n".join(text)


def listing(lines: Sequence[Line]) -> str:
    """Return the text of all these values."""
    return Listing(lines).text(len(lines))


def _covered(values: Sequence[str]) -> list[int]:
    """Return of each value how many lines leave no longer one that holds it whole."""
    within: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        if " " in value:
            for word in dict.fromkeys(value.split()):
                longer = within.setdefault(word.strip(",.;:"), [])
                if len(longer) < LONGER_MAX:
                    longer.append(place)
    return [_first_longer(value, values, within) for value in values]


def _first_longer(value: str, values: Sequence[str], within: Mapping[str, Sequence[int]]) -> int:
    words = value.split(None, 1)
    if not words:
        return 0
    for place in within.get(words[0].strip(",.;:"), ()):
        other = values[place]
        if len(other) > len(value) and holds(other, value):
            return place
    return len(values)

"""How a ledger reads: its entries in few tokens, grouped by who said them and what they are.

Keeps: a value stands once, and not at all where it stands within another; no value can begin a
line or hide what follows it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from undercroft.layers.context.identifiers.words import holds

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


class _Group(NamedTuple):
    """The values of one label, in order: of each its place and with how many lines it goes."""

    part: int
    label: str
    places: list[int]
    until: list[int]
    values: list[str]


class Listing:
    """Values, of which any number of the first ones can be written down.

    What stands whole within a longer value is left out, as soon as the longer one is there.
    """

    __slots__ = ("_groups",)

    def __init__(self, lines: Sequence[Line]) -> None:
        values = [plain(line.value) for line in lines]
        until = _covered([value.casefold() for value in values])
        shown: dict[str, str] = {}
        groups: dict[tuple[int, str], _Group] = {}
        for place, (part, label, _) in enumerate(lines):
            if label not in shown:
                shown[label] = plain(label)[:LABEL_CHARS_MAX]
            key = (part, shown[label])
            if key not in groups:
                groups[key] = _Group(*key, [], [], [])
            _, _, places, ends, there = groups[key]
            places.append(place)
            ends.append(until[place])
            there.append(values[place])
        self._groups = [groups[key] for key in sorted(groups)]

    def text(self, first: int) -> str:
        """Return the text of so many values, of which the first of a label stand first."""
        text = [HEAD]
        last = -1
        for part, label, places, until, values in self._groups:
            some = zip(values[: bisect_left(places, first)], until, strict=False)
            there = SEPARATOR.join([value for value, end in some if first <= end])
            if not there:
                continue
            if part != last:
                text.append(f"{PARTS[part]}:" if label else f"{PARTS[part]}: {there}")
                last = part
            if label:
                text.append(f"- {label}: {there}")
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
    if not value or value.isspace():
        return 0
    for place in within.get(value.split(None, 1)[0].strip(",.;:"), ()) if within else ():
        other = values[place]
        if len(other) > len(value) and holds(other, value):
            return place
    return len(values)

"""How a ledger reads: its entries in few tokens, grouped by who said them and what they are.

Keeps: a value stands once, and not at all where it stands within another; no value can begin a
line or hide what follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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


def listing(lines: Sequence[Line]) -> str:
    """Return the text of these values, of which the first of a label stand first."""
    parts: dict[int, dict[str, list[str]]] = {}
    for line in _once(lines):
        label = plain(line.label)[:LABEL_CHARS_MAX]
        parts.setdefault(line.part, {}).setdefault(label, []).append(line.value)
    text = [HEAD]
    for part in sorted(parts):
        labels = parts[part]
        bare = labels.pop("", None)
        text.append(f"{PARTS[part]}: {SEPARATOR.join(bare)}" if bare else f"{PARTS[part]}:")
        text += [f"- {label}: {SEPARATOR.join(labels[label])}" for label in sorted(labels)]
    return "\n".join(text)


def _once(lines: Iterable[Line]) -> list[Line]:
    """Leave out what stands whole within a longer value of the same part."""
    kept = [line._replace(value=plain(line.value)) for line in lines]
    within: dict[str, list[str]] = {}
    for line in kept:
        if " " in line.value:
            folded = line.value.casefold()
            for word in dict.fromkeys(folded.split()):
                longer = within.setdefault(word.strip(",.;:"), [])
                if len(longer) < LONGER_MAX:
                    longer.append(folded)
    result = []
    for line in kept:
        folded = line.value.casefold()
        head = folded.split(None, 1)[0].strip(",.;:") if folded else ""
        others = (other for other in within.get(head, ()) if len(other) > len(folded))
        if folded and not any(holds(other, folded) for other in others):
            result.append(line)
    return result

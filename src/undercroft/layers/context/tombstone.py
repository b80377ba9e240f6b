"""What stands in the place of content that was elided, and how it is fetched back.

Keeps: a handle stands for the same bytes for as long as it is kept; pieces of what it stands
for, put together, are the original.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from undercroft.errors import ContextError
from undercroft.layers.context.items import Item, item_name

RECALL = "recall"
# Beyond this nobody reads on: what is recalled is cut into ranges.
EXCERPT_CHARS = 160
# What may matter later of what is left out: words that hold a digit or look like a name of
# something, as `#A1001`, `ada_lovelace_7`, `ada@example.com`, `JFK`.
_WORD = re.compile(r"[#\w][\w:./@-]{2,80}")
_TELLING = re.compile(r"\d|\w@\w|^[A-Z]{3,8}$")
# They are looked for in the first part of a text only.
_LOOKED_AT_CHARS = 8_192

Count = Callable[[str], int]


def handle_of(item: int) -> str:
    """Return the handle of an item: the same on every replay."""
    return f"r{item_name(item)}"


def item_of(handle: str) -> int | None:
    """Return the item that a handle stands for; None where it is no handle."""
    found = re.fullmatch(r"r(\d{1,9})\.(\d{1,7})", handle.strip())
    if found is None:
        return None
    turn, place = int(found[1]), int(found[2])
    return (turn << 20) + place if place < 1 << 20 else None


def tombstone(item: Item, handle: str, *, recall: bool) -> str:
    """Return what stands for an item that is left out.

    Args:
        item: What is left out.
        handle: By which it is fetched back.
        recall: Whether the model can do so.
    """
    text = item.message.content
    what = (
        f"the result of {item.message.name}" if item.message.name else f"this {item.kind} message"
    )
    back = f'; {RECALL}(handle="{handle}") returns it' if recall else ""
    head = f"[undercroft: {what} is left out, {len(text):,} characters{back}"
    telling = telling_words(text, EXCERPT_CHARS)
    return f"{head}. It mentions: {telling}]" if telling else f"{head}]"


def capped(  # noqa: PLR0913  what a note of a cut says
    text: str, item: int, name: str, tokens_max: int, count: Count, *, recall: bool
) -> str:
    """Return the beginning of a result that is too large, with a note of where the rest is.

    Args:
        text: The result.
        item: Its id.
        name: Of the tool.
        tokens_max: What may be shown of it, the note included.
        count: Of tokens.
        recall: Whether the model can fetch the rest.
    """
    size = max(1, len(text) * tokens_max // max(1, count(text)))
    while True:
        kept = text[:size]
        back = f'{RECALL}(handle="{handle_of(item)}", start={len(kept)})' if recall else ""
        rest = f"; {back} returns more" if back else ""
        whole = f"of {len(text):,} characters of the result of {name or 'this call'}"
        note = f"\n[undercroft: cut here, after {len(kept):,} {whole}{rest}]"
        if size == 0 or count(kept + note) <= tokens_max:
            return kept + note
        size = size * 3 // 4


def telling_words(text: str, chars_max: int) -> str:
    """Return words of a text that may be asked for later, first ones first, within bounds."""
    found: dict[str, None] = {}
    left = chars_max
    for whole in dict.fromkeys(_WORD.findall(text[:_LOOKED_AT_CHARS])):
        if whole.isalpha() and whole.islower():
            continue  # most words, and looked at the soonest
        word = whole.rstrip(".:-/")
        if word in found or len(word) < 3 or not _TELLING.search(word):  # noqa: PLR2004  17 says nothing
            continue
        left -= len(word) + 2
        if left < 0:
            break
        found[word] = None
    return ", ".join(found)


def piece(text: str, handle: str, start: int, end: int | None) -> str:
    """Return characters `start` to `end` of what a handle stands for.

    Raises:
        ContextError: The range lies outside of it.
    """
    stop = len(text) if end is None else end
    if not 0 <= start <= stop or start > len(text):
        raise ContextError(
            f"{RECALL}({handle!r})",
            f"characters {start} to {stop} are no range of its {len(text)}",
            f"Ask for a range within 0 to {len(text)}.",
        )
    return text[start:stop]

"""A prompt as Anthropic's API takes it: system apart, turns in order, places to cache at.

Keeps: results stand first in the message after their calls, all of them together; messages that
came as the API takes them, and that nothing has to be put next to, go out as the very dicts.
Leaves to `anthropic_shape.py`: what one message looks like.
Source: Anthropic's reference of the Messages API, and its guide to prompt caching.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from undercroft.layers.context.shapes.anthropic_shape import (
    NO_CONTENT,
    THOUGHTS,
    Blocks,
    blocks_of,
)
from undercroft.layers.context.shapes.foreign import ANTHROPIC, Foreign, Shown

BREAKPOINTS_MAX = 4
# The API wants the user to speak first; where what came first has left the prompt, this does.
OPENING = "(The conversation goes on.)"
OPENING_TOKENS = 16

_EPHEMERAL = {"type": "ephemeral"}

System = str | Blocks


class _Turn:
    """A message of the view: which of the prompt's messages it is made of."""

    __slots__ = ("_told", "places", "role", "shown", "whole")

    def __init__(self, role: str, place: int, shown: Shown) -> None:
        self.role, self.places, self.shown = role, [place], [shown]
        self.whole: dict[str, Any] | None = None
        self._told: dict[str, Any] | None = None

    def close(self) -> None:
        """Note whether it is a message as it came, now that all of its parts are here."""
        foreign = self.shown[0].foreign
        if (
            foreign is not None
            and ANTHROPIC in foreign.shapes
            and len(self.shown) == len(foreign.parts)
            and not any(each.changed for each in self.shown)
        ):
            self.whole = foreign.shown

    def take(self, other: _Turn) -> None:
        """Be one message with the one that follows."""
        self.whole = self._told = None
        self.places += other.places
        self.shown += other.shown

    def message(self) -> dict[str, Any]:
        """Return it without any mark."""
        if self.whole is not None:
            return self.whole
        if self._told is None:
            blocks, _ = self.blocks()
            bare = len(blocks) == 1 and blocks[0].keys() == {"type", "text"}
            self._told = {"role": self.role, "content": blocks[0]["text"] if bare else blocks}
        return self._told

    def marked(self, places: set[int]) -> dict[str, Any]:
        """Return it with marks after those of its messages whose places are wanted."""
        blocks, own = self.blocks()
        _mark(blocks, own, places)
        return {"role": self.role, "content": blocks}

    def blocks(self) -> tuple[Blocks, list[int]]:
        """Return its blocks, results first, and for each the place of its message."""
        pairs = [
            (block, place)
            for place, shown in zip(self.places, self.shown, strict=True)
            for block in blocks_of(shown)
        ]
        if self.role == "user":
            pairs.sort(key=lambda pair: pair[0].get("type") != "tool_result")
        if not pairs:
            pairs = [({"type": "text", "text": NO_CONTENT}, self.places[-1])]
        return [block for block, _ in pairs], [place for _, place in pairs]


class AnthropicView:
    """A prompt as Anthropic's API takes it, which is not written anew where it only grows."""

    __slots__ = ("_done", "_front", "_given", "_of", "_starts", "_turns")

    def __init__(self) -> None:
        self._of: Sequence[Shown] | None = None
        self._done = self._front = self._given = 0
        self._turns: list[_Turn] = []
        # Place of the first message of each turn.
        self._starts: list[int] = []

    def show(
        self,
        prompt: Sequence[Shown],
        breakpoints: Sequence[int] = (),
        breakpoints_max: int = BREAKPOINTS_MAX,
    ) -> tuple[System, list[dict[str, Any]]]:
        """Return a prompt's system, empty where it has none, and its messages.

        Args:
            prompt: Its messages, in order; those of role `system` at its front are its system,
                later ones are said in the user's place. The same list as before may only have
                grown.
            breakpoints: Places in `prompt` after which it is worth caching.
            breakpoints_max: The API takes so many, those in the tools included. Marks that are
                in the messages already count too; where there are too many the last are kept.
        """
        if prompt is not self._of:
            self._of = prompt
            self._done = self._front = self._given = 0
            self._turns, self._starts = [], []
        self._read(prompt)
        places = sorted({place for place in breakpoints if 0 <= place < len(prompt)})
        left = max(0, breakpoints_max - self._given)
        wanted = set(places[len(places) - left :]) if left < len(places) else set(places)
        messages = [turn.message() for turn in self._turns]
        for place in wanted:
            if place >= self._front:
                at = bisect_right(self._starts, place) - 1
                messages[at] = self._turns[at].marked(wanted)
        if messages and messages[0]["role"] != "user":
            messages.insert(0, {"role": "user", "content": OPENING})
        return _system(prompt[: self._front], wanted), messages

    def _read(self, prompt: Sequence[Shown]) -> None:
        """Take in what the prompt has grown by."""
        while self._done == self._front < len(prompt):
            if prompt[self._front].message.role != "system":
                break
            self._given += _marks(prompt[self._front].foreign)
            self._front += 1
            self._done += 1
        fresh: list[_Turn] = []
        foreign: Foreign | None = None
        for place in range(self._done, len(prompt)):
            shown = prompt[place]
            if foreign is not None and shown.foreign is foreign and shown.part:
                fresh[-1].places.append(place)
                fresh[-1].shown.append(shown)
                continue
            foreign = shown.foreign
            self._given += _marks(foreign)
            role = "assistant" if shown.message.role == "assistant" else "user"
            fresh.append(_Turn(role, place, shown))
        self._done = len(prompt)
        for turn in fresh:
            turn.close()
            if self._turns and _belong_together(self._turns[-1], turn):
                self._turns[-1].take(turn)
            else:
                self._turns.append(turn)
                self._starts.append(turn.places[0])


def _belong_together(before: _Turn, turn: _Turn) -> bool:
    """Whether two messages must be one: both the user's, and not both as they came."""
    if before.role != "user" or turn.role != "user":
        return False
    if before.whole is None or turn.whole is None:
        return True
    return turn.shown[0].message.role == "tool"


def _system(front: Sequence[Shown], wanted: set[int]) -> System:
    """Return the system as it came where it is one message, else as text or blocks."""
    blocks: Blocks = []
    places: list[int] = []
    for place, shown in enumerate(front):
        own = _system_blocks(shown)
        blocks += own
        places += [place] * len(own)
    marked = wanted.intersection(places)
    if not marked and len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        content = front[0].foreign.shown["content"] if front[0].foreign else ""
        return content if isinstance(content, list) and len(front) == 1 else blocks[0]["text"]
    if not blocks:
        return ""
    _mark(blocks, places, marked)
    return blocks


def _system_blocks(shown: Shown) -> Blocks:
    content = None
    if shown.foreign is not None and not shown.changed:
        content = shown.foreign.shown["content"]
    if isinstance(content, list) and all(block.get("type") == "text" for block in content):
        return list(content)
    text = shown.message.content
    return [{"type": "text", "text": text}] if text.strip() else []


def _mark(blocks: Blocks, places: list[int], marked: set[int]) -> None:
    """Mark the last block of each wanted message; thoughts cannot be marked."""
    for place in marked:
        for at in reversed(range(len(blocks))):
            if places[at] == place and blocks[at].get("type") not in THOUGHTS:
                # A copy, since the block may be the caller's.
                blocks[at] = blocks[at] | {"cache_control": dict(_EPHEMERAL)}
                break


def _marks(foreign: Foreign | None) -> int:
    """Return how many marks a message brings along."""
    content = None if foreign is None else foreign.shown.get("content")
    if not isinstance(content, list):
        return 0
    return sum(isinstance(block, dict) and "cache_control" in block for block in content)

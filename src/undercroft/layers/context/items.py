"""What a window is made of: items, their groups, and what became of them.

Keeps: an item has one fate; a call and all its results are one group.
"""

from __future__ import annotations

from enum import StrEnum

from undercroft.layers.context.policy import Kind
from undercroft.model.message import Message

# An item's id is its turn's number in the session, and its own within the turn.
TURN_SHIFT = 20
ITEMS_PER_TURN_MAX = 1 << TURN_SHIFT
# From here on its own number says that it answers a call of which no result is known.
CLOSED_FROM = ITEMS_PER_TURN_MAX >> 1


class Fate(StrEnum):
    """What a prompt shows of an item; exactly one of these."""

    KEPT = "kept"
    ELIDED = "elided"
    SUMMARISED = "summarised"
    DROPPED = "dropped"


class Item:
    """One message of the conversation, as it came, and what the window shows of it.

    Attributes:
        id: Grows along the conversation; the same on every replay.
        message: As it came.
        kind: What it is, for the rules.
        tokens: Of `message`, its share of seams included; 0 where nobody counts.
        step: Number of the step whose answer or result it is; None for a literal message.
        notice: Whether it is ours: the model is told something that nobody said.
        fate: What the prompt shows of it.
        shown: What stands in the prompt for it; None where nothing does.
        shown_tokens: Of that.
        reason: Why it is not as it came; empty where it is.
        handle: By which what was elided is fetched back; empty where nothing was.
        left_in: Number of the turn in which it was.
        group: Id of the item that proposed the calls which this belongs to; else its own.
        pending: Ids of calls that it proposes and that have no result yet.
        literal: Whether it is a result of which the step's value does not tell the text.
        ok: Whether the call that it is the result of went well.
        changed: Whether that call may have changed anything; None: nobody has declared it.
    """

    __slots__ = (
        "changed",
        "fate",
        "group",
        "handle",
        "id",
        "kind",
        "left_in",
        "literal",
        "message",
        "notice",
        "ok",
        "pending",
        "reason",
        "shown",
        "shown_tokens",
        "step",
        "tokens",
    )

    def __init__(  # noqa: PLR0913  made in one place, once a message
        self,
        item_id: int,
        message: Message,
        kind: Kind,
        tokens: int = 0,
        step: int | None = None,
        *,
        notice: bool = False,
    ) -> None:
        self.id, self.message, self.kind, self.tokens = item_id, message, kind, tokens
        self.group = item_id
        self.step, self.notice = step, notice
        self.fate = Fate.KEPT
        self.shown: Message | None = message
        self.shown_tokens = tokens
        self.reason = self.handle = ""
        self.left_in = 0
        self.pending: set[str] | None = None
        self.literal, self.ok = False, True
        self.changed: bool | None = None

    def show(self, fate: Fate, shown: Message | None, tokens: int, reason: str) -> None:
        """Have the prompt show something else of it."""
        self.fate, self.shown, self.shown_tokens, self.reason = fate, shown, tokens, reason

    @property
    def name(self) -> str:
        """The id as people read it: `3.14` is item 14 of turn 3."""
        return item_name(self.id)


def item_id(turn: int, place: int) -> int:
    """Return the id of item `place` of a session's turn `turn`."""
    return (turn << TURN_SHIFT) + place


def item_name(item: int) -> str:
    """Return an item's id as people read it."""
    return f"{item >> TURN_SHIFT}.{item & (ITEMS_PER_TURN_MAX - 1)}"

"""What a prompt shows of the conversation, item by item: the loss report.

Keeps: every item is there once, with one fate; tokens add up to those of the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from undercroft.layers.context.items import Fate, Item
from undercroft.layers.context.policy import Section
from undercroft.layers.context.view import View


class Line(NamedTuple):
    """What a prompt shows of one item.

    Attributes:
        item: Its id as people read it, such as `3.14`; of the system text `system`, of a pin
            `pin 1`.
        kind: What it is: a kind of content, `system` or `pin`.
        section: Where it stands, or would.
        fate: What became of it.
        tokens: Of it as it came.
        shown_tokens: Of what the prompt shows of it.
        reason: Why it is not as it came; empty where it is.
        handle: By which it is fetched back; empty where there is none.
    """

    item: str
    kind: str
    section: Section
    fate: Fate
    tokens: int
    shown_tokens: int
    reason: str = ""
    handle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossReport:
    """What one prompt shows, and what it does not.

    Attributes:
        tokens: Of the prompt, as counted.
        estimate: The same, as the provider's last report has it; `tokens` where there is none.
        limit_tokens: The window; None where nobody said.
        reserved_tokens: Of it, kept free for the answer.
        sections: Tokens by section, in their order.
        lines: All items, in the order of the conversation.
    """

    tokens: int
    estimate: int
    limit_tokens: int | None
    reserved_tokens: int
    sections: dict[str, int]
    lines: tuple[Line, ...]

    def of(self, fate: Fate) -> Sequence[Line]:
        """Return the items of one fate."""
        return [line for line in self.lines if line.fate is fate]

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "tokens": self.tokens,
            "estimate": self.estimate,
            "limit_tokens": self.limit_tokens,
            "reserved_tokens": self.reserved_tokens,
            "sections": dict(self.sections),
            "items": [line._asdict() for line in self.lines],
        }


def lines_of(
    view: View, items: Sequence[Item], reachable: Callable[[Item], bool]
) -> tuple[Line, ...]:
    """Return what a prompt shows of the system texts, the pins, and all that was ever said.

    Args:
        view: The prompt.
        items: All that was said.
        reachable: Whether an item can be fetched back by its handle.
    """
    lines = [
        Line(f"{kind} {place}", kind, section, Fate.KEPT, view.weigh(m), view.weigh(m))
        for kind, section, messages in (
            ("system", Section.SYSTEM, view.system),
            ("pin", Section.PINS, view.pins),
        )
        for place, m in enumerate(messages, 1)
    ]
    opened = view.live[view.open_at].id if view.has_user else None
    for item in items:
        current = opened is not None and item.id >= opened
        section = Section.CURRENT if current else Section.RECENT
        if item.fate is Fate.SUMMARISED:
            section = Section.SUMMARIES
        lines.append(
            Line(
                item.name,
                str(item.kind),
                section,
                item.fate,
                item.tokens,
                item.shown_tokens,
                item.reason,
                item.handle if reachable(item) else "",
            )
        )
    return tuple(lines)

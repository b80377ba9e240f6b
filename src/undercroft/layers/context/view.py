"""The prompt as it stands: what is at its head, what follows, and what each section weighs.

Keeps: between compactions the prompt only grows at its end; sections stand in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from undercroft.layers.context.items import Fate, Item
from undercroft.layers.context.policy import Kind, Section
from undercroft.model.message import Message

# How many places in a prompt a provider is told of, as worth caching up to: as many as
# Anthropic takes.
BREAKPOINTS_MAX = 4

Weigh = Callable[[Message], int]


def _weightless(message: Message) -> int:
    del message
    return 0


class View:
    """A prompt in the making.

    Attributes:
        live: Items of which it shows something, oldest first.
        seen: How many of those some prompt has shown.
    """

    __slots__ = (
        "_all_pins",
        "_head",
        "_ledger",
        "_ledger_tokens",
        "_live_tokens",
        "_messages",
        "_newest_user",
        "_pins",
        "_pins_tokens",
        "_recent_tokens",
        "_summaries",
        "_summaries_tokens",
        "_system",
        "_system_tokens",
        "_weigh",
        "base_tokens",
        "live",
        "seen",
        "tools_tokens",
    )

    def __init__(self, weigh: Weigh | None = None, base_tokens: int = 0) -> None:
        self._weigh = weigh or _weightless
        self._system: list[Message] = []
        self._all_pins: list[Message] = []
        self._pins: list[Message] = []
        self._ledger: Message | None = None
        self._summaries: Message | None = None
        self._system_tokens = self._pins_tokens = 0
        self._ledger_tokens = self._summaries_tokens = 0
        self.tools_tokens, self.base_tokens = 0, base_tokens
        self.live: list[Item] = []
        self.seen = 0
        self._live_tokens = 0
        # Tokens of what stands before the newest user message, and its place.
        self._recent_tokens = 0
        self._newest_user = 0
        self._head: list[Message] = []
        self._messages: list[Message] = []

    # ------------------------------------------------------------------ what is there

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt."""
        return (*self._head, *self._messages)

    @property
    def system(self) -> Sequence[Message]:
        """The system texts."""
        return self._system

    @property
    def pins(self) -> Sequence[Message]:
        """What stands in every prompt."""
        return self._pins

    @property
    def head(self) -> Sequence[Message]:
        """What stands before the conversation."""
        return self._head

    @property
    def fixed_tokens(self) -> int:
        """Of what compaction never takes."""
        return self.base_tokens + self._system_tokens + self.tools_tokens + self._pins_tokens

    @property
    def tokens(self) -> int:
        """Of the whole prompt, as counted."""
        head = self.fixed_tokens + self._ledger_tokens + self._summaries_tokens
        return head + self._live_tokens

    @property
    def ledger(self) -> str:
        """What the ledger reads; empty where there is none."""
        return "" if self._ledger is None else self._ledger.content

    @property
    def open_at(self) -> int:
        """Place among the items of the newest user message; there the open turn begins."""
        return self._newest_user if self.has_user else len(self.live)

    @property
    def has_user(self) -> bool:
        """Whether the prompt shows a user message at all."""
        at = self._newest_user
        return at < len(self.live) and self.live[at].kind is Kind.USER

    def sections(self) -> dict[Section, int]:
        """Return the tokens of each section, in their order."""
        recent = self._recent_tokens if self.has_user else self._live_tokens
        return {
            Section.SYSTEM: self.base_tokens + self._system_tokens,
            Section.TOOLS: self.tools_tokens,
            Section.PINS: self._pins_tokens,
            Section.LEDGER: self._ledger_tokens,
            Section.SUMMARIES: self._summaries_tokens,
            Section.RECENT: recent,
            Section.CURRENT: self._live_tokens - recent,
        }

    def breakpoints(self) -> tuple[int, ...]:
        """Return the places of messages after which the prompt stays as it is for a while."""
        fixed = len(self._system) + len(self._pins)
        head, end = len(self._head), len(self._head) + len(self._messages)
        before = head + self.seen
        places = [at - 1 for at in (fixed, head, before, end) if at]
        return tuple(dict.fromkeys(places))[-BREAKPOINTS_MAX:]

    # ------------------------------------------------------------------ what changes it

    def set_system(self, texts: Iterable[str]) -> None:
        """Have other system texts."""
        self._system = [Message("system", text) for text in texts]
        self._system_tokens = sum(map(self._weigh, self._system))
        self._set_head()

    def set_pins(self, texts: Iterable[str]) -> None:
        """Have other pins."""
        self._all_pins = [Message("system", text) for text in texts]
        self._set_head()

    def set_notes(self, ledger: str, summaries: str) -> None:
        """Have another ledger, and other summaries; empty texts for none."""
        self._ledger = Message("user", ledger) if ledger else None
        self._summaries = Message("user", summaries) if summaries else None
        self._ledger_tokens = self._weigh(self._ledger) if self._ledger else 0
        self._summaries_tokens = self._weigh(self._summaries) if self._summaries else 0
        self._set_head()

    def _set_head(self) -> None:
        # What a system text says already is said once.
        self._pins = [pin for pin in self._all_pins if pin not in self._system]
        self._pins_tokens = sum(map(self._weigh, self._pins))
        notes = [m for m in (self._ledger, self._summaries) if m is not None]
        self._head = [*self._system, *self._pins, *notes]

    def add(self, item: Item) -> None:
        """Show one more item, at the end."""
        if item.shown is None:
            return
        if item.kind is Kind.USER:
            self._newest_user, self._recent_tokens = len(self.live), self._live_tokens
        self.live.append(item)
        self._messages.append(item.shown)
        self._live_tokens += item.shown_tokens

    def show(self, items: Sequence[Item]) -> None:
        """Show these items, in this order."""
        seen = {item.id for item in self.live[: self.seen]}
        self.live, self._messages = [], []
        self._live_tokens = self._recent_tokens = self._newest_user = 0
        for item in items:
            self.add(item)
        self.seen = sum(item.id in seen for item in self.live)

    def weigh(self, message: Message) -> int:
        """Return the tokens of a message."""
        return self._weigh(message)

    def without_gone(self) -> list[Item]:
        """Return the items that the prompt still shows something of."""
        return [item for item in self.live if item.fate in (Fate.KEPT, Fate.ELIDED)]

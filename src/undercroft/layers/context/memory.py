"""What a window keeps beside its messages: identifiers, which items hold them, and its quality.

Keeps: whatever a user stated or a call used is known for as long as the session lasts; what is
observed depends on the conversation and on what was compacted, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from undercroft.layers.context.extract import Extractor, extract
from undercroft.layers.context.items import Fate, Item
from undercroft.layers.context.ledger import Ledger
from undercroft.layers.context.observing import Observer, WindowSight
from undercroft.layers.context.policy import Kind
from undercroft.layers.context.quality import Alarm, Quality, Score
from undercroft.layers.context.words import Words, holds
from undercroft.model.step import Call

# Of the tokens of a summary, what the identifiers that it must copy may take.
REQUIRED_SHARE = 0.6

Count = Callable[[str], int]


class Memory:
    """The identifiers of a session, and how well its context holds them.

    Args:
        extractors: What finds identifiers besides those that are found anyway.
    """

    __slots__ = ("_by_id", "_extractors", "_head", "_observer", "_words", "ledger", "quality")

    def __init__(self, extractors: Sequence[Extractor] = ()) -> None:
        self._extractors = (extract, *extractors)
        self._words = Words()
        self.ledger = Ledger(extractors, self._words)
        self.quality = Quality()
        self._by_id: Mapping[int, Item] = {}
        self._head = ""
        sight = WindowSight(self._words.holders, self._fate, self._shown, self._headed)
        self._observer = Observer(self.quality, sight, self.ledger.entries)

    def watch(self, items: Mapping[int, Item]) -> None:
        """Know which items there are, by id; the window adds to them."""
        self._by_id = items

    def _fate(self, item: int) -> Fate:
        return self._by_id[item].fate

    def _shown(self, item: int) -> str:
        shown = self._by_id[item].shown
        return "" if shown is None else shown.content

    def _headed(self, value: str) -> bool:
        return bool(self._head) and holds(self._head, value.casefold())

    # ------------------------------------------------------------------ what happens

    def note(self, item: Item, *, changed: bool | None = None, ok: bool = True) -> None:
        """Take in a new item.

        Args:
            item: The newest of the window.
            changed: Of a result: whether its call may have changed anything; None: who knows.
            ok: Of a result: whether it went well.
        """
        number, message = item.id, item.message
        text = message.content
        if not message.calls:
            self._words.add(number, text)
        match item.kind:
            case Kind.USER:
                self.ledger.user(number, text)
                self._observer.user(text)
            case Kind.ASSISTANT:
                self.ledger.assistant(number, text)
                self._observer.answer(number, text)
            case Kind.CALLS:
                self._propose(item)
            case Kind.RESULT:
                self._return(item, changed=changed, ok=ok)
            case _:
                pass  # what we say ourselves states nothing

    def _propose(self, item: Item) -> None:
        message = item.message
        given = [_readable(call) for call in message.calls]
        self._words.add(item.id, "\n".join([message.content, *map(_written, given)]))
        self.ledger.assistant(item.id, message.content)
        used: list[str] = []
        for call, arguments in zip(message.calls, given, strict=True):
            uses = self.ledger.call(item.id, call.name, arguments)
            used += [use.value for use in uses if use.entry is not None]
        self._observer.answer(item.id, message.content, message.calls, used)

    def _return(self, item: Item, *, changed: bool | None, ok: bool) -> None:
        message = item.message
        name = message.name or ""
        self.ledger.result(item.id, name, message.content, changed=changed)
        caller = self._by_id.get(item.group)
        calls = () if caller is None else caller.message.calls
        call = next((call for call in calls if call.id == message.call_id), None)
        if call is not None:
            self._observer.result(item.id, call, message.content, changed=changed, ok=ok)

    def begin_turn(self) -> None:
        """Begin another turn of the session."""
        self.quality.begin_turn()

    def compacted(self, head: str) -> None:
        """Take in that the window was made smaller, and what its ledger and summaries read."""
        self._head = head.casefold()
        self._observer.compacted()

    def prompt(self, *, pins: bool) -> Alarm | None:
        """End what was observed since the prompt before; return an alarm if the quality fell.

        Args:
            pins: Whether each of them stands in the prompt, whole and once.
        """
        conflicts = len(self.ledger.conflicts())
        return self._observer.prompt(pins=pins, conflicts=conflicts, slots=self.ledger.slots)

    @property
    def turn_score(self) -> Score:
        """How good the context was in this turn."""
        return self.quality.turn()

    @property
    def session_score(self) -> Score:
        """How good the context is, as far as the session shows."""
        return self.quality.session()

    # ------------------------------------------------------------------ what must not be lost

    def render(self, tokens_max: int, count: Count, absent: Callable[[str], bool]) -> str:
        """Return what the ledger reads, of what is `absent`, in so many tokens."""
        return self.ledger.render(tokens_max, count, absent)

    def absent_without(self, leaves: AbstractSet[int], still: str) -> Callable[[str], bool]:
        """Return what says whether a value stands nowhere in a prompt.

        Args:
            leaves: Items that the prompt will no longer show as they came.
            still: What else it will show.
        """
        folded = still.casefold()

        def absent(value: str) -> bool:
            for item in self._words.holders(value):
                if item not in leaves and self._by_id[item].fate is Fate.KEPT:
                    return False
            return not holds(folded, value.casefold())

        return absent

    def identifiers(self, text: str) -> list[str]:
        """Return the identifiers in a text."""
        return [value for one in self._extractors for value, _ in one(text)]

    def knows(self, value: str) -> bool:
        """Whether the ledger has a value."""
        return value.casefold() in self.ledger.entries

    def required(self, texts: Iterable[str], tokens_max: int, count: Count) -> list[str]:
        """Return the identifiers that a summary of `texts` must copy, newest texts first.

        Those that the ledger has need not be; of the others as many as may be asked for
        without leaving too little room for what they mean.
        """
        found: dict[str, str] = {}
        for text in reversed(list(texts)):
            for value in self.identifiers(text):
                if not self.knows(value):
                    found.setdefault(value.casefold(), value)
        room = int(tokens_max * REQUIRED_SHARE)
        taken: list[str] = []
        for value in found.values():
            room -= count(value) + 1
            if room < 0:
                break
            taken.append(value)
        return taken


def _readable(call: Call) -> object:
    """Return the arguments of a call as data, where they are."""
    arguments = call.arguments
    if not isinstance(arguments, str):
        return arguments
    try:
        return msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return arguments  # no JSON: as the model wrote it


def _written(arguments: object) -> str:
    if isinstance(arguments, str):
        return arguments
    try:
        return msgspec.json.encode(arguments, enc_hook=str).decode()
    except (TypeError, ValueError, RecursionError, UnicodeError):
        return str(arguments)

"""What a window keeps beside its messages: identifiers, which items hold them, and its quality.

Keeps: whatever a user stated or a call used is known for as long as the session lasts; what is
observed depends on the conversation and on what was compacted, and on nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial

import msgspec

from undercroft.layers.context.identifiers.extract import Extractor, Identifier, extract
from undercroft.layers.context.identifiers.facts import leaves
from undercroft.layers.context.identifiers.ledger import Ledger
from undercroft.layers.context.identifiers.words import Words, holds
from undercroft.layers.context.items import Fate, Item
from undercroft.layers.context.policy import Kind
from undercroft.layers.context.quality.observing import Observer, WindowSight
from undercroft.layers.context.quality.score import Alarm, Quality, Score
from undercroft.layers.context.summaries.record import Fact
from undercroft.model.step import Call

# Of the tokens of a summary, what the identifiers that it must copy may take.
REQUIRED_SHARE = 0.6
# What is copied only from what a person said: a model quotes, and tools return texts.
LOOSE = frozenset({"quote", "name", "word"})

Count = Callable[[str], int]


class Memory:
    """The identifiers of a session, and how well its context holds them.

    What happens is taken in when somebody asks, in the order in which it happened: a session
    that is read back from its journal costs that only once it goes on.

    Args:
        extractors: What finds identifiers besides those that are found anyway.
    """

    __slots__ = (
        "_alarm",
        "_by_id",
        "_extractors",
        "_fates",
        "_head",
        "_ledger",
        "_observer",
        "_quality",
        "_shown",
        "_todo",
        "_words",
    )

    def __init__(self, extractors: Sequence[Extractor] = ()) -> None:
        self._extractors = (extract, *extractors)
        self._words = Words()
        self._ledger = Ledger(extractors, self._words)
        self._quality = Quality()
        self._by_id: Mapping[int, Item] = {}
        self._head = ""
        self._todo: deque[Item | Callable[[], None]] = deque()
        self._alarm: Alarm | None = None
        # What a prompt shows of items that it does not show as they came, as far as that was
        # taken in: what the items themselves say may be of a later time.
        self._fates: dict[int, Fate] = {}
        self._shown: dict[int, str] = {}
        sight = WindowSight(self._words.holders, self._fate, self._shown_of, self._headed)
        self._observer = Observer(self._quality, sight, self._ledger.entries)

    def watch(self, items: Mapping[int, Item]) -> None:
        """Know which items there are, by id; the window adds to them."""
        self._by_id = items

    def _fate(self, item: int) -> Fate:
        return self._fates.get(item, Fate.KEPT)

    def _shown_of(self, item: int) -> str:
        return self._shown.get(item, "")

    def _headed(self, value: str) -> bool:
        return bool(self._head) and holds(self._head, value.casefold())

    def _catch_up(self) -> None:
        """Take in what has happened since somebody last asked."""
        todo = self._todo
        while todo:
            what = todo.popleft()
            if isinstance(what, Item):
                self._noted(what)
            else:
                what()

    @property
    def ledger(self) -> Ledger:
        """What must not be lost."""
        self._catch_up()
        return self._ledger

    @property
    def quality(self) -> Quality:
        """How good the context is."""
        self._catch_up()
        return self._quality

    # ------------------------------------------------------------------ what happens

    def note(self, item: Item, *, changed: bool | None = None, ok: bool = True) -> None:
        """Take in a new item.

        Args:
            item: The newest of the window.
            changed: Of a result: whether its call may have changed anything; None: who knows.
            ok: Of a result: whether it went well.
        """
        item.changed, item.ok = changed, ok
        if item.fate is not Fate.KEPT and item.shown is not None:
            self._todo.append(partial(self._cut, item.id, item.fate, item.shown.content))
        # As it is: of a session of many items each further object costs what it costs to track.
        self._todo.append(item)

    def _cut(self, number: int, fate: Fate, shown: str) -> None:
        self._fates[number], self._shown[number] = fate, shown

    def _noted(self, item: Item) -> None:
        number, message = item.id, item.message
        text = message.content
        if not message.calls:
            self._words.add(number, text)
        match item.kind:
            case Kind.USER:
                self._ledger.user(number, text)
                self._observer.user(text)
            case Kind.ASSISTANT:
                self._ledger.assistant(number, text)
                self._observer.answer(number, text)
            case Kind.CALLS:
                self._propose(item)
            case Kind.RESULT:
                self._return(item)
            case _:
                pass  # what we say ourselves states nothing

    def _propose(self, item: Item) -> None:
        message = item.message
        given = [_readable(call) for call in message.calls]
        self._words.add(item.id, "\n".join([message.content, *map(_written, given)]))
        self._ledger.assistant(item.id, message.content)
        used: list[str] = []
        for call, arguments in zip(message.calls, given, strict=True):
            uses = self._ledger.call(item.id, call.name, arguments)
            used += [use.value for use in uses if use.entry is not None]
        self._observer.answer(item.id, message.content, message.calls, used)

    def _return(self, item: Item) -> None:
        changed, ok = item.changed, item.ok
        message = item.message
        name = message.name or ""
        self._ledger.result(item.id, name, message.content, changed=changed)
        caller = self._by_id.get(item.group)
        calls = () if caller is None else caller.message.calls
        call = next((call for call in calls if call.id == message.call_id), None)
        if call is not None:
            self._observer.result(item.id, call, message.content, changed=changed, ok=ok)

    def begin_turn(self) -> None:
        """Begin another turn of the session."""
        self._todo.append(self._quality.begin_turn)

    def compacted(self, notes: Iterable[str], items: Iterable[Item]) -> None:
        """Take in that the window was made smaller.

        Args:
            notes: What its ledger and summaries read.
            items: Of which it shows something else than before.
        """
        head = "\n".join(notes)
        seen = [(i.id, i.fate, "" if i.shown is None else i.shown.content) for i in items]
        self._todo.append(partial(self._made_smaller, head, seen))

    def _made_smaller(self, head: str, seen: Sequence[tuple[int, Fate, str]]) -> None:
        self._head = head.casefold()
        for number, fate, shown in seen:
            self._fates[number], self._shown[number] = fate, shown
        self._observer.compacted()

    def prompt(self, *, pins: bool, later: bool = False) -> Alarm | None:
        """End what was observed since the prompt before; return an alarm if the quality fell.

        Args:
            pins: Whether each of them stands in the prompt, whole and once.
            later: Whether that may wait, since it is about the past.
        """
        self._todo.append(partial(self._prompted, pins=pins))
        if later:
            return None
        self._catch_up()
        return self._alarm

    def _prompted(self, *, pins: bool) -> None:
        conflicts = len(self._ledger.conflicts())
        self._alarm = self._observer.prompt(
            pins=pins, conflicts=conflicts, slots=self._ledger.slots
        )

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

    def absent_without(
        self, leaves: AbstractSet[int], still: Iterable[str]
    ) -> Callable[[str], bool]:
        """Return what says whether a value stands nowhere in a prompt.

        Args:
            leaves: Items that the prompt will no longer show as they came.
            still: What else it will show.
        """
        self._catch_up()
        folded = "\n".join(still).casefold()

        def absent(value: str) -> bool:
            for item in self._words.holders(value):
                if item not in leaves and self._by_id[item].fate is Fate.KEPT:
                    return False
            return not holds(folded, value.casefold())

        return absent

    def identifiers(self, text: str) -> list[str]:
        """Return the identifiers in a text."""
        return [value for value, _ in self._found(text)]

    def knows(self, value: str) -> bool:
        """Whether the ledger has a value."""
        return value.casefold() in self.ledger.entries

    def required(
        self, items: Sequence[Item], earlier: Iterable[str], tokens_max: int, count: Count
    ) -> list[str]:
        """Return the identifiers that a summary must copy, newest first.

        Those that the ledger has need not be; of the others as many as may be asked for
        without leaving too little room for what they mean.

        Args:
            items: What it is to stand for.
            earlier: Texts of the summaries that it replaces.
            tokens_max: What it may have.
            count: Of tokens.
        """
        found: dict[str, str] = {}
        for text, loose in [*map(_stated, reversed(items)), *((text, False) for text in earlier)]:
            for value, kind in self._found(text):
                if (loose or kind not in LOOSE) and not self.knows(value):
                    found.setdefault(value.casefold(), value)
        room = int(tokens_max * REQUIRED_SHARE)
        taken: list[str] = []
        for value in found.values():
            room -= count(value) + 1
            if room < 0:
                break
            taken.append(value)
        return taken

    def _found(self, text: str) -> list[Identifier]:
        return [found for one in self._extractors for found in one(text)]

    def supersede(self, pairs: Sequence[tuple[Fact, Fact]], covers: Sequence[int]) -> None:
        """Take in what facts of a summary say of earlier ones: their values hold no more."""
        if pairs:
            self._todo.append(partial(self._superseded, pairs, covers))

    def _superseded(self, pairs: Sequence[tuple[Fact, Fact]], covers: Sequence[int]) -> None:
        for old, new in pairs:
            still = new.text.casefold()
            for value in self.identifiers(old.text):
                if not holds(still, value.casefold()):
                    self._ledger.supersede(value, max(new.sources or covers, default=0))


def _stated(item: Item) -> tuple[str, bool]:
    """Return what an item says, and whether a person said it."""
    given = [str(value) for call in item.message.calls for _, value in leaves(call.arguments)]
    return "\n".join([item.message.content, *given]), item.kind is Kind.USER


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

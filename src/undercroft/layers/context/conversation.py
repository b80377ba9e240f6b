"""A conversation: what was said, called and answered, and the prompt that shows it.

Keeps: system texts come first and are fixed once a prompt was assembled; each entry can be
journaled by reference to the step it came from; no prompt holds a result without its call.
"""

from __future__ import annotations

import copy
import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from undercroft.errors import ContextError, DeclarationError
from undercroft.layers.context.counting import Anchor, Counts
from undercroft.layers.context.items import CLOSED_FROM, Fate, Item, item_id
from undercroft.layers.context.memory import Memory
from undercroft.layers.context.policy import Action, ContextPolicy, Kind
from undercroft.layers.context.results import named_calls
from undercroft.layers.context.tombstone import capped, handle_of
from undercroft.layers.context.view import View
from undercroft.model.message import Answer, Message
from undercroft.model.step import Call, Result, StepStatus, render_result

# What stands in a journaled prompt for the role of what is none: a notice of ours, a pin, a
# result of ours for a call that has none.
NOTICE = "notice"
PIN = "pin"
CLOSED = "closed"
# And of a message that somebody else's loop said, of which no step tells all.
WHOLE = "whole"
_HALVES = re.compile("[\ud800-\udfff]")
NO_RESULT = '{"status":"unknown","note":"no result of this call is known"}'


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of a prompt, and where it came from.

    Attributes:
        step: Number of the step whose answer or result it is; None for a literal message.
        notice: Whether it is ours: the model is told something that nobody said.
        pin: Whether it stands in every prompt.
        literal: Whether it is a result of which the step's value does not tell the text.
        ok: Whether the call that it is the result of went well.
        whole: Whether it is a call or a result of which no step of the turn tells.
    """

    message: Message
    step: int | None = None
    notice: bool = False
    pin: bool = False
    literal: bool = False
    ok: bool = True
    whole: bool = False


class Mark(NamedTuple):
    """How far a conversation was sent."""

    sent: int
    listed: int
    pins: int
    frozen: bool


class Conversation:
    """What was said, and the prompt that shows it; the part of a window that needs no policy."""

    __slots__ = (
        "_anchor",
        "_by_id",
        "_call_ids",
        "_counts",
        "_fresh",
        "_frozen",
        "_items",
        "_known",
        "_listed",
        "_memory",
        "_open",
        "_over",
        "_pins",
        "_pins_sent",
        "_place",
        "_policy",
        "_said",
        "_said_before",
        "_sent",
        "_stable",
        "_turn",
        "_view",
        "said_tokens",
        "told",
    )

    def __init__(
        self,
        policy: ContextPolicy | None,
        counts: Counts | None,
        memory: Memory | None,
        turn: int,
    ) -> None:
        self._policy, self._counts, self._memory = policy, counts, memory
        self._turn, self._place = turn, 0
        weigh = None if counts is None else counts.message
        self._view = View(weigh, 0 if counts is None else counts.base)
        self._items: list[Item] = []
        self._by_id: dict[int, Item] = {}
        self._open: dict[str, Item] = {}
        self._call_ids: set[str] = set()
        self._sent = 0
        # How many of them some prompt was said to add.
        self._listed = 0
        self._fresh: list[Item] = []
        self._said: list[str] = []
        self._said_before: list[str] = []
        self._pins: list[str] = list(policy.pins) if policy is not None else []
        self._pins_sent = len(self._pins)
        self._view.set_pins(self._pins)
        self._frozen = self._over = False
        self._known: deque[int] = deque()
        if memory is not None:
            memory.watch(self._by_id)
        self._anchor = Anchor()
        # Tools that the model knows to be withdrawn, by service.
        self.told: dict[str, list[str]] = {}
        # Of all that was ever said.
        self.said_tokens = 0
        # Tokens of the prompt that the model was sent before just so.
        self._stable = 0

    # ------------------------------------------------------------------ what is said

    def system(self, text: str) -> None:
        """Say what the model is; only before the first prompt of the turn.

        Raises:
            DeclarationError: A prompt was assembled already.
        """
        if self._frozen:
            raise DeclarationError(
                "turn.context.system",
                "the first prompt was sent already",
                "Set the system text before the first turn.model(), or say it as user().",
            )
        self._said.append(clean(text))
        self._view.set_system(self._said)

    def pin(self, text: str) -> None:
        """Have a text in every prompt from now on, after the system texts, once and unchanged.

        It has the weight of a system text: never pin what a tool or a user wrote.

        Raises:
            DeclarationError: It is empty.
        """
        if not text:
            raise DeclarationError("turn.context.pin", "the text is empty", "Pin what must stay.")
        self._check_open()
        text = clean(text)
        if text not in self._pins:
            self._pins.append(text)
            self._view.set_pins(self._pins)
            # The head of the prompt is another one now.
            self._forget_prompt()

    def user(self, text: str) -> None:
        """Add what the user said."""
        self._add(Message("user", clean(text)), Kind.USER)

    def assistant(self, text: str) -> None:
        """Add what was said to the user earlier."""
        self._add(Message("assistant", clean(text)), Kind.ASSISTANT)

    def notice(self, text: str) -> Entry:
        """Tell the model something with the prompt that is being assembled; return the entry."""
        item = self._add(Message("user", clean(text)), Kind.NOTICE, notice=True)
        self._fresh.append(item)
        self._listed = len(self._items)
        self._mark_sent()
        return Entry(item.message, notice=True)

    def named(self, answer: Answer, step: int) -> Answer:
        """Return `answer` with an id for every call that no other call here has."""
        return named_calls(answer, step, self._call_ids, self._turn)

    def add_answer(self, answer: Answer, step: int | None) -> Item:
        """Add what the model said in step `step`; its calls are now open."""
        kind = Kind.CALLS if answer.calls else Kind.ASSISTANT
        item = self._add(
            Message("assistant", answer.text, answer.calls, native=answer.native), kind, step
        )
        self._open = {call.id: item for call in answer.calls if call.id}
        self._call_ids.update(self._open)
        item.pending = set(self._open) or None
        return item

    def add_result(
        self, result: Result, data: object, step: int, *, changed: bool | None = None
    ) -> None:
        """Add the result of a call that is open; that of any other call is no business of it.

        Args:
            result: What came of the call.
            data: Its value as it was recorded, so that a replay renders the same text.
            step: Number of the step.
            changed: Whether the call may have changed anything; None: nobody has declared it.
        """
        call_id = result.call_id
        if call_id is not None and call_id in self._open:
            text, ok = render_result(result, data), result.status is StepStatus.OK
            literal = not ok or bool(result.stood_in)
            self.add_text_result(
                text, call_id, result.name, step, changed=changed, ok=ok, literal=literal
            )

    def add_text_result(  # noqa: PLR0913  what there is to know of a result
        self,
        text: str,
        call_id: str,
        name: str | None,
        step: int | None = None,
        *,
        changed: bool | None = None,
        ok: bool = True,
        literal: bool = False,
    ) -> Item | None:
        """Add the text of a result, if its call is open; return its item.

        Args:
            text: As the model reads it.
            call_id: Of its call.
            name: Of the tool.
            step: Number of the step that it came of.
            changed: Whether the call may have changed anything; None: nobody has declared it.
            ok: Whether it went well.
            literal: Whether the step's own value is not what it reads.
        """
        caller = self._open.pop(call_id, None)
        if caller is None:
            return None
        if caller.pending is not None:
            caller.pending.discard(call_id)
        message = Message("tool", text, (), call_id, name)
        item = self._add(message, Kind.RESULT, step, group=caller.id, changed=changed, ok=ok)
        item.literal = literal
        return item

    def add_foreign(self, message: Message) -> Item | None:
        """Add what was said in a loop of somebody else's, of which no step of the turn tells.

        Returns None for the result of a call that is not open, which no prompt may hold.
        """
        if message.role == "user":
            return self._add(_cleaned(message), Kind.USER)
        if message.role == "tool":
            call_id = message.call_id or ""
            return self.add_text_result(clean(message.content), call_id, message.name)
        return self.add_answer(Answer(clean(message.content), message.calls), None)

    def anew(self) -> None:
        """Begin the conversation anew: whoever leads it has another one now."""
        pins, place, told = self._pins, self._place, self.told
        Conversation.__init__(self, self._policy, self._counts, self._memory, self._turn)
        self._pins, self._place, self.told = pins, place, told
        self._view.set_pins(pins)

    def close_calls(self) -> None:
        """Answer calls that have no result, so that no prompt holds a call without one."""
        for call_id in list(self._open):
            caller = self._open[call_id]
            name = next((c.name for c in caller.message.calls if c.id == call_id), None)
            self.add_text_result(NO_RESULT, call_id, name)

    def _add(  # noqa: PLR0913  what there is to know of an item
        self,
        message: Message,
        kind: Kind,
        step: int | None = None,
        *,
        notice: bool = False,
        group: int | None = None,
        changed: bool | None = None,
        ok: bool = True,
    ) -> Item:
        self._check_open()
        if self._place == CLOSED_FROM and message.content != NO_RESULT:
            raise ContextError(
                "turn.context",
                f"a turn has more than {CLOSED_FROM:,} messages",
                "Begin a new turn of the session.",
            )
        number = item_id(self._turn, self._place)
        self._place += 1
        item = Item(number, message, kind, self._weigh(message), step, notice=notice)
        if group is not None:
            item.group = group
        if kind is Kind.RESULT and self._policy is not None:
            self._cap(item, self._policy)
        self.said_tokens += item.tokens
        self._items.append(item)
        self._by_id[number] = item
        self._view.add(item)
        item.ok = ok
        if self._memory is not None:
            self._memory.note(item, changed=changed, ok=ok)
        return item

    def _weigh(self, message: Message) -> int:
        if self._counts is None:
            return 0
        return self._known.popleft() if self._known else self._counts.message(message)

    def expect(self, tokens: Iterable[int]) -> None:
        """Say how many tokens the items have that come next, as they were counted before."""
        self._known.extend(tokens)

    def expect_no_more(self) -> None:
        """Count what comes from now on."""
        self._known.clear()

    def calls_open(self) -> list[Call]:
        """Return the calls that have no result yet."""
        return [
            call
            for item in dict.fromkeys(self._open.values())
            for call in item.message.calls
            if call.id in self._open
        ]

    def _cap(self, item: Item, policy: ContextPolicy) -> None:
        """Cut a result that would take too much of the window by itself."""
        most, name = policy.result_max_tokens, item.message.name or ""
        if item.tokens <= most or policy.rule(item.kind, name).action is Action.PIN:
            return
        assert self._counts is not None  # noqa: S101  there is a policy
        spare = item.tokens - self._counts.text(item.message.content)
        room = max(1, most - spare)
        text = capped(
            item.message.content, item.id, name, room, self._counts.text, recall=policy.recall
        )
        shown = with_text(item.message, text)
        tokens = self._counts.message(shown)
        if tokens < item.tokens:
            item.show(Fate.ELIDED, shown, tokens, "larger than a result may be")
            item.handle, item.left_in = handle_of(item.id), self._turn

    # ------------------------------------------------------------------ prompts

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as it would be sent now."""
        return self._view.messages

    @property
    def items(self) -> Sequence[Item]:
        """All of the conversation, oldest first."""
        return self._items

    @property
    def open_calls(self) -> tuple[str, ...]:
        """Ids of calls that the model proposed and that have no result yet."""
        return tuple(self._open)

    @property
    def breakpoints(self) -> tuple[int, ...]:
        """Places of messages after which the prompt stays as it is for a while."""
        return self._view.breakpoints() if self._policy is not None else ()

    def delta(self) -> list[Entry]:
        """Return the entries that the next prompt adds to the last one, and mark them sent."""
        fresh: list[Entry] = []
        if not self._frozen:
            fresh = [Entry(Message("system", text)) for text in self._said]
            if self._said != self._said_before:
                self._forget_prompt()
            self._said_before = self._said
        fresh += self.unsent()
        self._fresh = self._items[self._listed :]
        self._listed = len(self._items)
        self._frozen = True
        self._mark_sent()
        return fresh

    def mark(self) -> Mark:
        """Return how far the conversation was sent."""
        return Mark(self._sent, self._listed, self._pins_sent, self._frozen)

    def put_back(self, mark: Mark) -> bool:
        """Take what was said since for not sent; return False where it is of no use any more.

        A notice of ours is no longer news in the next prompt, and cannot be taken back.
        """
        if any(item.notice for item in self._items[mark.sent :]):
            return False
        self._sent, self._listed, self._pins_sent, self._frozen = mark
        return True

    def unsent(self) -> list[Entry]:
        """Return what the turn said since its last prompt, system texts apart."""
        pins = [Entry(Message("system", t), pin=True) for t in self._pins[self._pins_sent :]]
        items = [
            Entry(i.message, i.step, i.notice, literal=i.literal, ok=i.ok, whole=_is_whole(i))
            for i in self._items[self._sent :]
        ]
        return pins + items

    def _mark_sent(self) -> None:
        self._sent, self._pins_sent = len(self._items), len(self._pins)

    @property
    def fresh(self) -> Sequence[Item]:
        """The items that the last prompt added to the one before."""
        return self._fresh

    def next_turn(self, turn: int) -> None:
        """Begin another turn of the session, which says its own system text."""
        # In numbers that no other item of the turn before will have: it may yet be resumed, and
        # what later turns did to these answers is not done to its results.
        self._place = CLOSED_FROM
        self.close_calls()
        self._turn, self._place = turn, 0
        # What was said before is told by the turns that said it.
        self._mark_sent()
        self._frozen = False
        self._said = []
        self._view.set_system(())
        # Known only to the process that ran the turn before: no prompt may depend on it.
        self._anchor.forget()
        if self._memory is not None:
            self._memory.begin_turn()

    def hand_over(self) -> Self:
        """Return the window for the next turn of the session; nothing is added to this one."""
        other = copy.copy(self)
        self._over = True
        return other

    def _check_open(self) -> None:
        if self._over:
            raise DeclarationError(
                "turn.context", "the turn is over", "Say it while the turn runs, or in another."
            )

    @property
    def turn(self) -> int:
        """Number of the turn in its session."""
        return self._turn

    def _forget_prompt(self) -> None:
        """What was sent before is no longer how a prompt begins."""
        self._anchor.forget()
        self._stable = 0


def with_text(message: Message, text: str) -> Message:
    """Return a message that is like another one but for its text."""
    return Message(message.role, text, message.calls, message.call_id, message.name)


def _is_whole(item: Item) -> bool:
    """Whether nothing but the message itself tells what an item says."""
    message = item.message
    if item.step is not None or item.notice:
        return False
    foreign_result = message.role == "tool" and message.content != NO_RESULT
    return bool(message.calls) or foreign_result or bool(message.name and message.role == "user")


def _cleaned(message: Message) -> Message:
    text = clean(message.content)
    return message if text is message.content else with_text(message, text)


def clean(text: str) -> str:
    """Return a text that can be written down: halves of a character become U+FFFD."""
    return text if text.isascii() else _HALVES.sub("\ufffd", text)

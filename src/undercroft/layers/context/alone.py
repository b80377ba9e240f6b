"""A window over foreign messages, without a runtime: what it is told, and its log.

Keeps: the log, done again, gives a window whose next prompt has the same bytes; each message of a
prompt can be traced to the foreign one that it came in.
Leaves to `engine/parts/context.py`: asking for summaries; to `shapes.py`: what a message is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from undercroft.errors import ContextError
from undercroft.layers.context.compaction import Plan
from undercroft.layers.context.counting import Counts
from undercroft.layers.context.items import Item
from undercroft.layers.context.memory import Memory
from undercroft.layers.context.policy import ContextPolicy, Kind
from undercroft.layers.context.quality.score import Alarm
from undercroft.layers.context.shapes.anthropic_view import OPENING_TOKENS
from undercroft.layers.context.shapes.foreign import Foreign, Shown, weighs
from undercroft.layers.context.shapes.media import WEIGHTS, Weights
from undercroft.layers.context.shapes.shapes import Intake, read_system
from undercroft.layers.context.state import Compaction, Window
from undercroft.layers.context.summaries.summary import Summary
from undercroft.model.message import Answer, ToolSpec, Usage

VERSION = 1


class Added(msgspec.Struct, frozen=True, array_like=True, tag="add"):
    """Foreign messages were added."""

    messages: list[dict[str, Any]]


class Instructed(msgspec.Struct, frozen=True, array_like=True, tag="system"):
    """A system text, or blocks of it, were said."""

    content: str | list[Any]


class Pinned(msgspec.Struct, frozen=True, array_like=True, tag="pin"):
    """A text was pinned."""

    text: str


class Offered(msgspec.Struct, frozen=True, array_like=True, tag="tools"):
    """Other tools go with the prompt, each as (name, description, parameters)."""

    tools: list[tuple[str, str, dict[str, Any]]]


class Settled(msgspec.Struct, frozen=True, array_like=True, tag="settled"):
    """Calls without a result were answered."""


class Asked(msgspec.Struct, frozen=True, array_like=True, tag="asked"):
    """The prompt was assembled as it was then."""


class Heard(msgspec.Struct, frozen=True, array_like=True, tag="heard"):
    """The provider reported what it had counted."""

    usage: Usage | None


class Compacted(msgspec.Struct, frozen=True, array_like=True, tag="compacted"):
    """The window was made smaller."""

    record: Compaction


Logged: TypeAlias = Added | Instructed | Pinned | Offered | Settled | Asked | Heard | Compacted


class Dump(msgspec.Struct, frozen=True):
    """All that a window was told.

    Attributes:
        version: Of this format.
        policy: Hash of the policy under which it was.
        counter: Name of what counted tokens.
        tokens: Of each item, as counted.
        log: What it was told, in order.
    """

    version: int
    policy: str
    counter: str
    tokens: list[int]
    log: list[Logged]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Dump).decode


class Alone(Window):
    """A window that is told foreign messages, and keeps a log of what it was told.

    Each message of the user begins a turn; for so many of those what was left out can be
    recalled. The calls of one turn may go on in the next, unlike those of a runtime's turns.

    Args:
        policy: How large it is, and what leaves it when it fills up.
        counts: What counts tokens.
        memory: What keeps identifiers and watches the quality.
        weights: Of content that is not text.

    Attributes:
        mends: What had to be mended, as (item, what).
        compactions: How often it was made smaller, since it was made or loaded.
    """

    __slots__ = (
        "_head",
        "_intake",
        "_log",
        "_looked",
        "_own_counts",
        "_prompt",
        "_shown",
        "_systems",
        "compactions",
        "mends",
    )

    def __init__(
        self,
        policy: ContextPolicy,
        counts: Counts,
        memory: Memory,
        weights: Weights = WEIGHTS,
    ) -> None:
        super().__init__(policy, counts, memory)
        self._own_counts = counts
        # One view of a prompt may open with a word of ours.
        self._view.base_tokens += OPENING_TOKENS
        self._intake = Intake(weights)
        self._systems: list[Foreign | None] = []
        self._shown: dict[int, Shown] = {}
        self._log: list[Logged] = []
        # How much of the log the last assembled prompt rests on.
        self._looked = -1
        # The prompt as it was shown last, and how many of it come before the conversation.
        self._prompt: list[Shown] | None = None
        self._head = 0
        self.mends: list[tuple[str, str]] = []
        self.compactions = 0

    # ------------------------------------------------------------------ what is said

    def add(self, messages: Iterable[object]) -> None:
        """Add foreign messages, all of them or none.

        Raises:
            MessageError: One is no message that we know.
        """
        shown, given = self._intake.take(messages)
        if given:
            self._log.append(Added(given))
        for each in shown:
            self._enter(each)

    def instruct(self, content: object) -> None:
        """Say what the model is; only before the first prompt, as often as need be.

        Raises:
            MessageError: It is neither text nor a list of blocks of text.
            ContextError: A prompt was assembled already.
        """
        shown = read_system(content)
        if self._frozen:
            raise ContextError(
                "context.system",
                "the first prompt was assembled already",
                "Say it before that, or pin() it, or add() a message of role system.",
            )
        said = shown.message.content if shown.foreign is None else shown.foreign.shown["content"]
        self._log.append(Instructed(said))
        self._say_system(shown)

    def pin(self, text: str) -> None:
        """Have a text in every prompt from now on, after the system texts, once and unchanged."""
        super().pin(text)
        self._log.append(Pinned(text))
        self._prompt = None

    def offer(self, tools: Sequence[ToolSpec]) -> None:
        """Say which tools go with the prompt."""
        if tuple(tools) == self._tools:
            return
        super().offer(tools)
        rows = [(tool.name, tool.description, tool.parameters) for tool in tools]
        self._log.append(Offered(rows))

    def settle(self) -> None:
        """Answer calls that have no result."""
        shown = self._intake.settle()
        if shown:
            self._log.append(Settled())
        for each in shown:
            self._enter(each)

    def look(self, *, later: bool = False) -> Alarm | None:
        """Take note that the prompt goes to the model; once, as long as nothing changes.

        Args:
            later: As of `prompt`.
        """
        if self._looked == len(self._log):
            return None
        self._frozen = True
        self.asked()
        self._log.append(Asked())
        self._looked = len(self._log)
        return self.prompt(later=later)

    def heard(self, usage: Usage | None) -> str:
        """Take note of what the provider counted; return why it was not believed, if it was not."""
        self._log.append(Heard(usage))
        self._looked = len(self._log) if self._looked == len(self._log) - 1 else self._looked
        return super().heard(usage)

    def apply(self, record: Compaction, *, counted: bool = True) -> None:
        """Do what a compaction did."""
        super().apply(record, counted=counted)
        self._prompt = None

    def compact(self, plan: Plan, summary: Summary | None = None, failed: str = "") -> Compaction:
        """Do what was planned; return the record of it."""
        record = super().compact(plan, summary, failed)
        self._log.append(Compacted(record))
        self.compactions += 1
        return record

    def _enter(self, shown: Shown) -> None:
        message, foreign = shown.message, shown.foreign
        part = None if foreign is None else foreign.parts[shown.part]
        if foreign is not None and not shown.part:
            self.mends += [(self._next_name(message.role), mend) for mend in foreign.mends]
        if message.role == "system" and not self._items and not self._frozen:
            self._say_system(shown)
            return
        if message.role == "user" and not (part is not None and part.stray):
            self._begin_turn()
        self._expect(shown)
        item = self._add_shown(shown, failed=part is None or part.failed)
        self._shown[item.id] = shown

    def _add_shown(self, shown: Shown, *, failed: bool) -> Item:
        message, foreign = shown.message, shown.foreign
        if message.role == "assistant":
            return self.add_answer(Answer(message.content, message.calls), None)
        if message.role == "tool":
            call_id = message.call_id or ""
            item = self.add_text_result(message.content, call_id, message.name, ok=not failed)
            assert item is not None  # noqa: S101  the intake lets none pass without its call
            return item
        stray = foreign is not None and foreign.parts[shown.part].stray
        return self._add(message, Kind.NOTICE if stray else Kind.USER, notice=stray)

    def _expect(self, shown: Shown) -> None:
        """Count what weighs more than its text, unless it was counted before."""
        if not self._known:
            tokens, unseen = weighs(shown)
            if tokens or unseen:
                tokens += self._own_counts.text(unseen)
                self.expect([self._own_counts.message(shown.message) + tokens])

    def _say_system(self, shown: Shown) -> None:
        self._prompt = None
        self._systems.append(shown.foreign)
        super().system(shown.message.content)

    def _begin_turn(self) -> None:
        if not self._place:
            return
        self._turn, self._place = self._turn + 1, 0
        if self._memory is not None:
            self._memory.begin_turn()

    def _next_name(self, role: str) -> str:
        turn, place = self._turn, self._place
        if role == "user" and place:
            turn, place = turn + 1, 0
        return f"{turn}.{place}"

    # ------------------------------------------------------------------ what is shown

    def shown(self) -> Sequence[Shown]:
        """Return the prompt as it is, and where each of its messages came from.

        It is the same list as before where it has only grown.
        """
        live, prompt = self._view.live, self._prompt
        if prompt is None:
            messages = self.messages
            self._head = len(messages) - len(live)
            prompt = [Shown(message) for message in messages[: self._head]]
            for place, foreign in enumerate(self._systems):
                prompt[place] = Shown(prompt[place].message, foreign)
            self._prompt = prompt
        for place in range(len(prompt) - self._head, len(live)):
            item = live[place]
            assert item.shown is not None  # noqa: S101  those that are not shown are not live
            _, foreign, part = self._shown[item.id]
            prompt.append(Shown(item.shown, foreign, part))
        return prompt

    # ------------------------------------------------------------------ keeping it

    def dump(self, counter: str) -> bytes:
        """Return all that it was told, as bytes."""
        policy = "" if self._policy is None else self._policy.hash
        tokens = [item.tokens for item in self._items]
        return _encode(Dump(VERSION, policy, counter, tokens, self._log))

    def load(self, data: bytes, counter: str) -> None:
        """Do again all that a window was told, which `dump` returned.

        Raises:
            ContextError: It is no dump, or one of a newer version; or this window was told
                something already.
        """
        if self._log:
            raise ContextError(
                "context.load", "something was said here already", "Load into a new context."
            )
        dump = read_dump(data)
        if dump.counter == counter:
            self.expect(dump.tokens)
        for logged in dump.log:
            self._again(logged)
        self.expect_no_more()

    def _again(self, logged: Logged) -> None:
        match logged:
            case Added(messages):
                self.add(messages)
            case Instructed(content):
                self.instruct(content)
            case Pinned(text):
                self.pin(text)
            case Offered(tools):
                self.offer([ToolSpec(*tool) for tool in tools])
            case Settled():
                self.settle()
            case Asked():
                self.look(later=True)
            case Heard(usage):
                self.heard(usage)
            case Compacted(record):
                self.apply(record)
                self._log.append(logged)


def read_dump(data: bytes) -> Dump:
    """Return what a dump holds.

    Raises:
        ContextError: It is no dump, or one of a newer version.
    """
    try:
        dump = _decode(data)
    except (msgspec.DecodeError, TypeError, RecursionError) as error:
        problem = "the data is no dump of a context, or was damaged"
        raise ContextError("context.load", problem, "Give what dump() returned.") from error
    if dump.version > VERSION:
        raise ContextError(
            "context.load",
            f"the dump is of version {dump.version}, and this Undercroft knows {VERSION}",
            "Load it with the Undercroft that wrote it, or a newer one.",
        )
    return dump

"""A window over plain messages of OpenAI's or Anthropic's API, with or without a runtime.

Keeps: what is sent fits the window, and holds no call without its result; what was not changed is
sent as the very dict that was added; a summary that fails leaves everything as it was.
Leaves to `layers/context`: what is left out, and in what order; to `summariser.py`: asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from undercroft.engine.parts.summariser import Summarise, Summariser
from undercroft.errors import MessageError, SettingError
from undercroft.layers.context.alone import Alone
from undercroft.layers.context.counting import Counter, Counts, Estimate
from undercroft.layers.context.guard import check_pins
from undercroft.layers.context.identifiers.extract import Extractor
from undercroft.layers.context.loss import LossReport
from undercroft.layers.context.memory import Memory
from undercroft.layers.context.policy import ContextPolicy
from undercroft.layers.context.quality.score import Alarm, Score
from undercroft.layers.context.shapes import tool_shapes
from undercroft.layers.context.shapes.anthropic_view import BREAKPOINTS_MAX, AnthropicView
from undercroft.layers.context.shapes.foreign import OPENAI, clean
from undercroft.layers.context.shapes.media import WEIGHTS, Weights
from undercroft.layers.context.shapes.openai_shape import OpenAIView
from undercroft.layers.context.shapes.usage_shapes import read_usage
from undercroft.layers.context.state import Compaction
from undercroft.layers.context.summaries.summary import Summary
from undercroft.model.message import Message, ToolSpec
from undercroft.ports import ModelClient

ESTIMATE = "estimate"
TIMEOUT_S_MAX = 86_400.0


class CacheUse(NamedTuple):
    """How much of a prompt the provider might have had in its cache, and had.

    Attributes:
        expected_tokens: Of the prompt, sent just so before; as we count.
        reported_tokens: Of the prompt, read from the cache, as the provider says.
    """

    expected_tokens: int
    reported_tokens: int


class Context:
    """What a model is shown of a conversation that is longer than its window.

        ctx = uc.Context(uc.ContextPolicy(limit_tokens=8_000))
        ctx.add(messages)  # as they go to OpenAI or Anthropic
        await ctx.compact()  # with a summariser, before a prompt
        client.chat.completions.create(messages=ctx.openai(), ...)

    While there is room, what comes out is what was added. When the window fills up, contents of
    old results give way to short notes, then old messages to a summary, or they are left out; what
    is left out is told by `report()`, and its identifiers stand in a ledger in the prompt.

    A message that no provider would take is mended, as `mends` says; one that is no message at all
    is refused. Do not change a message after it was added. One context is for one conversation,
    in one thread.

    Args:
        policy: How large the window is, and what leaves it.
        counter: What counts tokens; None: a documented estimate, rather too high.
        summarise: Writes summaries: an async function from messages to text, or a client of a
            model. None: nobody does, and what would be summarised is left out.
        summary_timeout_s: For so many seconds one summary is waited for; above 0, to a day.
        extractors: What finds identifiers, besides those that are found anyway.
        image_tokens: What one image weighs; as a default what the dearest large model charges.
        page_tokens: What a page of a document weighs; likewise.

    Raises:
        SettingError: One is outside its range, or the policy names a vocabulary that the counter
            does not have.
        DeclarationError: `summarise` is not async.
    """

    __slots__ = (
        "_alarm",
        "_anthropic",
        "_cache",
        "_compacting",
        "_counter",
        "_loop",
        "_openai",
        "_summariser",
        "_window",
    )

    def __init__(  # noqa: PLR0913  each is a word of a declaration
        self,
        policy: ContextPolicy,
        *,
        counter: Counter | None = None,
        summarise: Summarise | ModelClient | None = None,
        summary_timeout_s: float = 60.0,
        extractors: Sequence[Extractor] = (),
        image_tokens: int = WEIGHTS.image_tokens,
        page_tokens: int = WEIGHTS.page_tokens,
    ) -> None:
        if not isinstance(policy, ContextPolicy):
            raise SettingError("policy", policy, "an uc.ContextPolicy")
        weights = Weights(image_tokens=image_tokens, page_tokens=page_tokens)
        # Written so that NaN fails too.
        if isinstance(summary_timeout_s, bool) or not 0 < summary_timeout_s <= TIMEOUT_S_MAX:
            raise SettingError("summary_timeout_s", summary_timeout_s, "above 0, to a day")
        self._counter = Estimate() if counter is None else counter
        policy = _counted_by(policy, self._counter)
        memory, counts = Memory(tuple(extractors)), Counts(self._counter)
        check_pins(policy, counts)
        self._window = Alone(policy, counts, memory, weights)
        self._summariser = None
        if summarise is not None:
            self._summariser = Summariser(summarise, summary_timeout_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._compacting = asyncio.Lock()
        self._alarm: Alarm | None = None
        self._cache = CacheUse(0, 0)
        self._openai, self._anthropic = OpenAIView(), AnthropicView()

    def __repr__(self) -> str:
        limit = self.policy.limit_tokens
        return f"<Context {len(self._window.items)} messages: {self.tokens:,} of {limit:,} tokens>"

    # ------------------------------------------------------------------ what is said

    def add(self, messages: object) -> None:
        """Add a message, or several, as they go to OpenAI or Anthropic or came from there.

        Raises:
            MessageError: One is no message that we know; none of them was added.
        """
        several = not isinstance(messages, Mapping | str) and isinstance(messages, Iterable)
        # Objects of client libraries can be iterated over: by their fields.
        if several and hasattr(messages, "model_dump"):
            several = False
        self._window.add(messages if several else [messages])  # type: ignore[arg-type]

    def system(self, content: str | list[dict[str, Any]]) -> None:
        """Say what the model is: text, or blocks as Anthropic's API takes them.

        Raises:
            MessageError: It is neither.
            ContextError: A prompt was assembled already.
        """
        self._window.instruct(content)

    def user(self, text: str) -> None:
        """Add what the user said."""
        self.add({"role": "user", "content": text})

    def assistant(self, text: str) -> None:
        """Add what was said to the user."""
        self.add({"role": "assistant", "content": text})

    def pin(self, text: str) -> None:
        """Have a text in every prompt from now on, after the system texts, once and unchanged.

        It has the weight of a system text: never pin what a tool or a user wrote.

        Raises:
            MessageError: It is no text.
            DeclarationError: It is empty.
        """
        if not isinstance(text, str):
            raise MessageError("context.pin", f"it is {type(text).__name__}", "Pin a text.")
        self._window.pin(clean(text))

    def offer(self, tools: Iterable[ToolSpec | Mapping[str, Any]]) -> None:
        """Say which tools go with the prompts, in either shape, so that they are counted."""
        self._window.offer(tool_shapes.read_tools(tools))

    def heard(self, usage: object) -> str:
        """Take note of what the provider counted for the last prompt.

        The next prompt is then estimated from that, and only what it adds is counted by us.

        Args:
            usage: As OpenAI or Anthropic answers with it, or an `uc.Usage`; None if there was none.

        Returns:
            Why it was not believed; empty where it was.
        """
        read = read_usage(usage)
        expected = self._window.cached_tokens
        problem = self._window.heard(read)
        self._cache = CacheUse(expected, 0 if read is None else read.cached_tokens)
        return problem

    # ------------------------------------------------------------------ prompts

    async def compact(self) -> Compaction | None:
        """Make room if the window is too full, with a summary where somebody writes one.

        What is added meanwhile stays as it is.

        Returns:
            What was done; None where there was room enough.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # a lock serves one event loop only
            self._loop, self._compacting = loop, asyncio.Lock()
        async with self._compacting:
            window = self._window
            why = window.pressure()
            if not why:
                return None
            summariser = self._summariser
            if summariser is None or not window.may_summarise:
                return self._make_room(why)
            plan = window.plan(why, summarised=True)
            if not plan.covered:
                return window.compact(plan)
            before = window.compactions
            text, failed = await summariser.write(window.summary_request(plan))
            if window.compactions != before:
                return None  # a prompt was wanted sooner than the summary came
            if not failed:
                found = window.read_summary(plan, text)
                if isinstance(found, Summary):
                    return window.compact(plan, found)
                failed = found.problem
            return self._make_room(why, failed)

    def _make_room(self, why: str, failed: str = "") -> Compaction:
        plan = self._window.plan(why, summarised=False)
        return self._window.compact(plan, failed=failed)

    def prompt(self) -> tuple[Message, ...]:
        """Assemble the next prompt, which fits; return it as messages of ours.

        Where the window is too full still, contents give way and messages are left out, without
        a summary. Calls that have no result are answered with that.

        Raises:
            ContextOverflowError: It does not fit, whatever is left out.
        """
        self._assemble()
        return self._window.messages

    def openai(self) -> list[dict[str, Any]]:
        """Assemble the next prompt, and return it as OpenAI's chat API takes it.

        Raises:
            ContextOverflowError: It does not fit, whatever is left out.
        """
        self._assemble()
        return self._openai.show(self._window.shown())

    def anthropic(
        self, *, breakpoints_max: int = BREAKPOINTS_MAX
    ) -> tuple[str | list[dict[str, Any]], list[dict[str, Any]]]:
        """Assemble the next prompt; return its system and messages as Anthropic's API takes them.

        Args:
            breakpoints_max: So many places to cache at are marked at the most; of the four that
                the API takes, leave out those that you mark in the tools. 0: none.

        Raises:
            ContextOverflowError: It does not fit, whatever is left out.
        """
        self._assemble()
        window = self._window
        return self._anthropic.show(window.shown(), window.breakpoints, breakpoints_max)

    def _assemble(self) -> None:
        window = self._window
        window.settle()
        why = window.pressure()
        if why:
            self._make_room(why)
        window.check_fits()
        self._alarm = window.look() or self._alarm

    # ------------------------------------------------------------------ what was left out

    def recall(self, handle: str, start: int = 0, end: int | None = None) -> str:
        """Return what a handle stands for, or characters `start` to `end` of it.

        Raises:
            ContextError: There is no such handle, it has expired, or the range lies outside.
        """
        return self._window.recall(handle, start, end)

    @staticmethod
    def recall_tool(shape: str = OPENAI) -> dict[str, Any]:
        """Return the tool by which a model fetches back what was left out, to go with the others.

        Args:
            shape: `openai` or `anthropic`.

        Raises:
            SettingError: It is neither.
        """
        return tool_shapes.recall_tool(shape)

    @staticmethod
    def is_recall(call: object) -> bool:
        """Whether a model's call, in either shape, is one of that tool."""
        return tool_shapes.is_recall(call)

    def answer_recall(self, call: object) -> dict[str, Any]:
        """Return the message that answers a model's call of that tool; add it like any other.

        Args:
            call: One of OpenAI's `tool_calls`, or a block `tool_use` of Anthropic's.

        Raises:
            MessageError: It is no call of that tool.
        """
        return tool_shapes.answer_recall(call, self._window.recalled)

    def report(self) -> LossReport:
        """Return what the prompt shows of each message, and what it does not."""
        return self._window.report()

    # ------------------------------------------------------------------ how it stands

    @property
    def policy(self) -> ContextPolicy:
        """How large the window is, and what leaves it."""
        policy = self._window.policy
        assert policy is not None  # noqa: S101  a context always has one
        return policy

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as it is now, not made to fit."""
        return self._window.messages

    @property
    def tokens(self) -> int:
        """Of the prompt as it is now: what the provider would count, as far as it is known."""
        return self._window.tokens

    @property
    def pressure(self) -> str:
        """Why the window should be compacted now; empty where it need not be."""
        return self._window.pressure()

    @property
    def mends(self) -> Sequence[tuple[str, str]]:
        """What had to be mended, so that a provider takes it: where, and what."""
        return self._window.mends

    @property
    def quality(self) -> Score:
        """How good the context is, as far as the conversation shows."""
        return self._memory.session_score

    @property
    def turn_quality(self) -> Score:
        """The same, since the user's last message."""
        return self._memory.turn_score

    @property
    def alarm(self) -> Alarm | None:
        """When the quality fell last; None if it did not."""
        return self._alarm

    @property
    def cache(self) -> CacheUse:
        """How much of the last prompt was expected in the provider's cache, and was there."""
        return self._cache

    @property
    def _memory(self) -> Memory:
        memory = self._window.memory
        assert memory is not None  # noqa: S101  a context always has one
        return memory

    # ------------------------------------------------------------------ keeping it

    def dump(self) -> bytes:
        """Return the context as bytes of plain data, all messages included."""
        return self._window.dump(self._counter.name)

    def load(self, data: bytes) -> Self:
        """Take in the conversation that was dumped, and return the context, which must be new.

        Under the same policy, and with the same counter, its next prompt has the same bytes. Under
        another one what was left out to make room stays so, and the other counts from now on.

        Args:
            data: As `dump` returned it.

        Raises:
            ContextError: It is no dump, was damaged, or is of a newer version; or something was
                said here already.
        """
        self._window.load(data, self._counter.name)
        return self


def _counted_by(policy: ContextPolicy, counter: Counter) -> ContextPolicy:
    """Return the policy as it names what counts.

    Raises:
        SettingError: It names another vocabulary, or `counter` is none.
    """
    name = getattr(counter, "name", None)
    if not callable(getattr(counter, "count", None)) or not isinstance(name, str):
        raise SettingError("counter", counter, "what counts tokens: a name, and count(text)")
    return policy.counted_by(name)

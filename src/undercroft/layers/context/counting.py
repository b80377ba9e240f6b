"""How many tokens a message, the tools and the next prompt have.

Keeps: no count is below what OpenAI's chat format costs, given a counter that is not below; what
a provider reports is believed only where it can be true.
Leaves to `estimate`: what a text costs without a vocabulary; to `undercroft.adapters.tokens`: what
it costs with one.
Source: "How to count tokens with tiktoken", OpenAI Cookbook: 3 tokens a message, its role (1), 1
more with a name, and 3 that begin the answer; for calls and tools it gives no such rule for all
models, so these are charged more than was seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from undercroft.errors import MessageError
from undercroft.layers.context.estimate import Estimate
from undercroft.model.message import Message, ToolSpec, Usage
from undercroft.model.step import Call

__all__ = ["Anchor", "Counter", "Counts", "Estimate"]

# The answer begins with `<|start|>assistant<|message|>`.
_BASE: Final = 3
# 3 round every message, 1 for its role, and 1 for the seam to the next: cut at other places, two
# texts may have one token more than as one.
_MESSAGE: Final = 5
_NAME: Final = 1
# Of a message with calls: up to 4 where it has a text as well.
_CALLS: Final = 4
# A call is wrapped in up to 8, and its name is there twice.
_CALL: Final = 8
# Several results in a prompt were seen to cost 13 more together.
_RESULT: Final = 7
_TOOLS: Final = 16
_TOOL: Final = 16

_CACHED_TEXTS_MAX: Final = 1 << 14
_CACHED_CHARS_MAX: Final = 1 << 23
# Shorter texts are counted sooner than looked up; longer ones would push out all the others.
_CACHED_FROM_CHARS: Final = 16
_CACHED_TO_CHARS: Final = _CACHED_CHARS_MAX // 8


class Counter(Protocol):
    """What counts the tokens of a text; of equal texts equally many, and 0 of none.

    Attributes:
        name: Of the vocabulary.
        exact: Whether it counts; else it estimates.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def exact(self) -> bool: ...  # noqa: D102

    def count(self, text: str) -> int:
        """Return how many tokens the text has; it takes every text, lone surrogates included."""


class Counts:
    """Counts texts, messages and tools; what was counted lately is remembered by its content.

    It remembers at most 32,768 texts and 16 million characters.

    Attributes:
        base: Tokens of a prompt besides its messages and tools.
        counter: What counts.
    """

    __slots__ = ("_chars", "_fresh", "_stale", "base", "counter")

    def __init__(self, counter: Counter | None = None) -> None:
        self.counter: Counter = Estimate() if counter is None else counter
        self.base = _BASE
        # Two generations: when the fresh one is full, the stale one is forgotten.
        self._fresh: dict[str, int] = {}
        self._stale: dict[str, int] = {}
        self._chars = 0

    def text(self, text: str) -> int:
        """Return the tokens of a text."""
        size = len(text)
        if not _CACHED_FROM_CHARS <= size <= _CACHED_TO_CHARS:
            return self.counter.count(text) if text else 0
        tokens = self._fresh.get(text)
        if tokens is None:
            tokens = self._stale.get(text)
            if tokens is None:
                tokens = self.counter.count(text)
            if self._chars + size > _CACHED_CHARS_MAX or len(self._fresh) >= _CACHED_TEXTS_MAX:
                self._stale, self._fresh, self._chars = self._fresh, {}, 0
            self._fresh[text] = tokens
            self._chars += size
        return tokens

    def message(self, message: Message) -> int:
        """Return the tokens of a message in a prompt, its seam included.

        Ids of calls are counted as well; OpenAI does not charge for them, others may.

        Raises:
            MessageError: The arguments of a call cannot be written as JSON.
        """
        tokens = _MESSAGE + self.text(message.content)
        if message.name:
            tokens += _NAME + self.text(message.name)
        if message.call_id:
            tokens += self.text(message.call_id)
        if message.role == "tool":
            tokens += _RESULT
        if message.calls:
            tokens += _CALLS + sum([self._call(call) for call in message.calls])
        if message.native is not None:
            # Rather too much: providers charge less for what they sealed than it is long.
            tokens += sum([self._native(part) for part in message.native.parts])
        return tokens

    def tools(self, specs: Sequence[ToolSpec]) -> int:
        """Return the tokens of the tools on offer; 0 without any.

        A schema is charged as its JSON, with one more for each comma; OpenAI shows a model the
        shorter text of a TypeScript type.

        Raises:
            MessageError: A tool's parameters cannot be written as JSON.
        """
        return _TOOLS + sum([self._tool(spec) for spec in specs]) if specs else 0

    def _call(self, call: Call) -> int:
        arguments = call.arguments
        if not isinstance(arguments, str):
            arguments = _json(arguments, f"Call {call.name!r}", "arguments")
        tokens = _CALL + 2 * self.text(call.name) + self.text(arguments)
        return tokens + self.text(call.id) if call.id else tokens

    def _native(self, part: Mapping[str, Any]) -> int:
        # What stands for text and calls of the message was counted with them.
        if "type" not in part:
            return 0
        return self.text(_json(part, "A message", "native parts"))

    def _tool(self, spec: ToolSpec) -> int:
        schema = _json(spec.parameters, f"Tool {spec.name!r}", "parameters")
        named = self.text(spec.name) + self.text(spec.description)
        return _TOOL + named + self.text(schema) + schema.count(",")


def _json(data: Any, place: str, what: str) -> str:
    try:
        # As people write it, with blanks: providers render it anew. Surrogates stay as they are.
        return json.dumps(data, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"its {what} cannot be written as JSON ({error!r})"
        mend = "Use plain data: dicts with texts as keys, lists, texts, numbers, true, false, null."
        raise MessageError(place, problem, mend) from error


# A provider's count is believed from a half of ours on: less would be one that leaves out what was
# cached, or of something else. An estimate that is as high as that is none of a conversation.
_BELIEVED_FROM: Final = 2
# And up to this, since pictures and what a provider adds are not counted here.
_BELIEVED_TIMES: Final = 8
_BELIEVED_MORE: Final = 1_024
# Up to this, more than we counted means that other text will be more as well; beyond it there is
# something in the prompt that is not text.
_SHORT_TIMES: Final = 2


class Anchor:
    """From what the provider said of the last prompt to how many tokens the next one has.

    The next prompt is the last one and a delta; only the delta is counted by us, the answer that
    the last prompt brought included. Where the provider counted more than we did, up to twice as
    much, our counter is taken to be short, and deltas grow in proportion, also after `forget`;
    where it counted less, deltas do not shrink.
    """

    __slots__ = ("_counted", "_reported", "_short")

    def __init__(self) -> None:
        self._reported = self._counted = 0
        # By how much our counter is short, as (reported, counted); (1, 1) where it is not.
        self._short = (1, 1)

    @property
    def anchored(self) -> bool:
        """Whether an estimate rests on what the provider reported."""
        return self._counted > 0

    def heard(self, usage: Usage | None, counted: int) -> str:
        """Take in what the provider reported of a prompt that we counted as `counted`.

        Returns why it was ignored, and what was known stays; empty where it was taken.
        """
        ignored = _why_ignored(usage, counted)
        if usage is None or ignored:
            return ignored
        reported = usage.input_tokens
        self._reported, self._counted = reported, counted
        short = counted < reported <= counted * _SHORT_TIMES
        self._short = (reported, counted) if short else (1, 1)
        return ""

    def estimate(self, counted: int) -> int:
        """Return the tokens of a prompt that we count as `counted`; never below half of that."""
        if not self._counted:
            return self._scaled(counted)
        delta = counted - self._counted
        if delta >= 0:
            return self._reported + self._scaled(delta)
        # Something left the prompt: as much as we counted, or its share of what was reported,
        # whichever leaves more.
        share = -(-self._reported * counted // self._counted)
        return max(share, self._reported + delta, 0)

    def forget(self) -> None:
        """Let go of the last prompt: it was compacted, or the model or the tools are others.

        Only whether our counter is short is remembered, until the next report.
        """
        self._reported = self._counted = 0

    def _scaled(self, counted: int) -> int:
        reported, of = self._short
        return -(-counted * reported // of)


def _why_ignored(usage: Usage | None, counted: int) -> str:
    if usage is None:
        return "the provider reported no usage"
    reported, cached = usage.input_tokens, usage.cached_tokens
    if not (_is_count(reported) and _is_count(cached)):
        return "what the provider reported is not a number of tokens"
    why = ""
    if reported == 0:
        why = "the provider reported no tokens of the prompt"
    elif counted <= 0:
        why = "the prompt was not counted"
    elif cached > reported:
        why = f"more tokens were cached ({cached}) than the prompt had ({reported})"
    elif reported * _BELIEVED_FROM < counted:
        why = f"{reported} tokens were reported of a prompt of about {counted}: too few"
    elif reported > counted * _BELIEVED_TIMES + _BELIEVED_MORE:
        why = f"{reported} tokens were reported of a prompt of about {counted}: too many"
    return why


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

"""Conversations of OpenAI's and Anthropic's APIs: taken in message by message, and given back.

`Intake` takes foreign messages and says what they are in ours; `openai` and `anthropic` give a
prompt back in either shape, whatever shape its messages came in. What was not changed in between
comes out as the very dict that came in. What each shape's oddities become stands in
`openai_shape.py` and `anthropic_shape.py`; those of a conversation as a whole:

- A message of an unknown role, or that is no message: `MessageError`, which says where; nothing of
  what was given with it is taken, and whatever comes later is.
- A result before its call, one of no call, a second one of a call: a framed note in the user's
  place. While other calls wait for their results it is held back until they have them.
- A call without a result when something else is said: a result that says so, at that place. What
  comes later for it is a note.
- An id that an earlier call had: our own differs, so that results find their calls.

Keeps: a conversation that a provider takes is given back to it the same; one that it would refuse
is mended, so that the next message can go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from undercroft.errors import MessageError
from undercroft.layers.context.shapes import anthropic_shape, openai_shape
from undercroft.layers.context.shapes.anthropic_view import BREAKPOINTS_MAX, AnthropicView, System
from undercroft.layers.context.shapes.foreign import (
    ANTHROPIC,
    OPENAI,
    Foreign,
    Part,
    Shown,
    as_data,
    label,
)
from undercroft.layers.context.shapes.media import WEIGHTS, Weights, read_block
from undercroft.layers.context.shapes.pairing import NO_RESULT, Open, Pairing
from undercroft.model.message import Message

_ANTHROPIC_BLOCKS = frozenset(
    {
        "container_upload",
        "document",
        "image",
        "redacted_thinking",
        "search_result",
        "thinking",
    }
)
_ANTHROPIC_KEYS = frozenset({"cache_control", "citations"})


class Taken(NamedTuple):
    """What foreign messages are.

    Attributes:
        shown: In messages of ours, in their order.
        given: As they were given, as plain data.
    """

    shown: list[Shown]
    given: list[dict[str, Any]]


class Intake:
    """What a conversation is, message by message, in messages of ours.

    Args:
        weights: Of content that is not text.
    """

    __slots__ = ("_held", "_weights", "pairing")

    def __init__(self, weights: Weights = WEIGHTS) -> None:
        self._weights = weights
        self._held: list[Shown] = []
        self.pairing = Pairing()

    @property
    def open(self) -> tuple[Open, ...]:
        """The calls that wait for a result, oldest first."""
        return self.pairing.open

    def take(self, given: Iterable[object], place: str = "messages") -> Taken:
        """Return what foreign messages are, one after the other; all of them or none.

        Args:
            given: In OpenAI's or Anthropic's shape, also mixed.
            place: What the caller calls them.

        Raises:
            MessageError: One is no message that we know.
        """
        checked: list[dict[str, Any]] = []
        for number, each in enumerate(given):
            where = f"{place}[{number}]"
            data = as_data(each, where)
            _check_role(data, where)
            checked.append(data)
        taken: list[Shown] = []
        for data in checked:
            taken += self._take(data)
        return Taken(taken, checked)

    def settle(self) -> list[Shown]:
        """Return what stands for results that did not come; nothing waits for them any more."""
        if not self.pairing.waits:
            return []
        told = []
        for call in self.pairing.settle():
            if call.shape == OPENAI:
                told.append(openai_shape.unanswered(call))
            else:
                told.append(Shown(Message("tool", NO_RESULT, (), call.id, call.name)))
        return told + self._release()

    def _take(self, given: dict[str, Any]) -> list[Shown]:
        anthropic = shape_of(given) == ANTHROPIC
        shape: Any = anthropic_shape if anthropic else openai_shape
        if not _may_answer(given):
            before = self.settle()
            return [*before, *_shown(shape.read(given, self.pairing, self._weights))]
        read: Foreign = shape.read(given, self.pairing, self._weights)
        taken = _shown(read)
        if self.pairing.waits and taken[0].message.role != "tool":
            # Between a call and its result nothing may stand.
            self._held += taken
            return []
        return taken if self.pairing.waits else taken + self._release()

    def _release(self) -> list[Shown]:
        held, self._held = self._held, []
        return held


def read_system(given: object, weights: Weights = WEIGHTS) -> Shown:
    """Return a system text, or the list of blocks that Anthropic's API takes as such.

    Raises:
        MessageError: It is neither.
    """
    if isinstance(given, str | list):
        data = as_data({"role": "system", "content": given}, "system")
        content = data["content"]
        if isinstance(content, str):
            return Shown(Message("system", content))
        if all(isinstance(block, dict) and block.get("type") == "text" for block in content):
            text = "\n".join(read_block(block, weights).text for block in content)
            part = Part(Message("system", text))
            return Shown(part.message, Foreign(data, data, (ANTHROPIC,), (part,)))
    raise MessageError(
        "system", f"it is {type(given).__name__}", "Give a text, or a list of blocks of type text."
    )


def shape_of(given: Mapping[str, Any]) -> str:
    """Return the shape of a message; plain text, which both take, is OpenAI's."""
    if given.get("role") not in anthropic_shape.ROLES:
        return OPENAI
    if given.get("tool_calls") or given.get("function_call") or given.get("tool_call_id"):
        return OPENAI
    if given.get("type") == "message":
        return ANTHROPIC
    content = given.get("content")
    if not isinstance(content, list):
        return OPENAI
    return ANTHROPIC if any(_is_anthropic(block) for block in content) else OPENAI


def openai(prompt: Sequence[Shown]) -> list[dict[str, Any]]:
    """Return a prompt as OpenAI's API takes it."""
    return openai_shape.OpenAIView().show(prompt)


def anthropic(
    prompt: Sequence[Shown],
    breakpoints: Sequence[int] = (),
    breakpoints_max: int = BREAKPOINTS_MAX,
) -> tuple[System, list[dict[str, Any]]]:
    """Return a prompt as Anthropic's API takes it: its system, and its messages.

    Args:
        prompt: Its messages, in order.
        breakpoints: Places in `prompt` after which it is worth caching: the last block there is
            marked with `cache_control`.
        breakpoints_max: The API takes so many, those in the tools included.
    """
    return AnthropicView().show(prompt, breakpoints, breakpoints_max)


def _shown(foreign: Foreign) -> list[Shown]:
    return [Shown(part.message, foreign, place) for place, part in enumerate(foreign.parts)]


def _check_role(given: Mapping[str, Any], place: str) -> None:
    role = given.get("role")
    if isinstance(role, str) and role in openai_shape.ROLES:
        return
    if "choices" in given:
        mend = "Give the message in it: response.choices[0].message."
        raise MessageError(place, "it is a whole answer of OpenAI's API", mend)
    problem = f"its role is {label(role)}" if "role" in given else "it has no role"
    raise MessageError(
        place,
        problem,
        "Make it system, developer, user, assistant, tool or function. "
        "None of the messages given with it was added.",
    )


def _may_answer(given: Mapping[str, Any]) -> bool:
    """Whether a message can hold results of calls."""
    if given["role"] in {"tool", "function"}:
        return True
    content = given.get("content")
    return (
        given["role"] == "user"
        and isinstance(content, list)
        and any(isinstance(block, dict) and block.get("type") == "tool_result" for block in content)
    )


def _is_anthropic(block: object) -> bool:
    if not isinstance(block, dict):
        return False
    kind = block.get("type")
    if not isinstance(kind, str):
        return False
    if kind in _ANTHROPIC_BLOCKS or not _ANTHROPIC_KEYS.isdisjoint(block):
        return True
    return kind.endswith(("tool_use", "tool_result"))

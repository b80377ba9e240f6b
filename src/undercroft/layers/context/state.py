"""The window of one turn: an append-only conversation from which prompts are assembled.

Keeps: system messages come first and are fixed once a prompt was assembled; every prompt
extends the one before; each entry can be journaled by reference to the step it came from.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from undercroft.errors import DeclarationError
from undercroft.model.message import Answer, Message
from undercroft.model.step import Call, Result, StepStatus

# What stands for the role of a notice in a journaled prompt.
NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message and where it came from.

    Attributes:
        step: Number of the step whose answer or result it is; None for a literal message.
        notice: Whether it is ours: the model is told something that nobody said.
    """

    message: Message
    step: int | None = None
    notice: bool = False


class Window:
    """The conversation of a turn. What a handler writes to it is `turn.context`."""

    __slots__ = ("_entries", "_frozen", "_open", "_sent", "_system")

    def __init__(self) -> None:
        self._system: list[Entry] = []
        self._entries: list[Entry] = []
        self._open: dict[str, str] = {}
        self._sent = 0
        self._frozen = False

    def system(self, text: str) -> None:
        """Say what the model is; only before the first prompt.

        Raises:
            DeclarationError: A prompt was assembled already.
        """
        if self._frozen:
            raise DeclarationError(
                "turn.context.system",
                "the first prompt was sent already",
                "Set the system text before the first turn.model(), or say it as user().",
            )
        self._system.append(Entry(Message("system", text)))

    def user(self, text: str) -> None:
        """Add what the user said."""
        self._entries.append(Entry(Message("user", text)))

    def assistant(self, text: str) -> None:
        """Add what was said to the user earlier."""
        self._entries.append(Entry(Message("assistant", text)))

    def notice(self, text: str) -> Entry:
        """Tell the model something with the prompt that is being assembled; return the entry."""
        entry = Entry(Message("user", text), notice=True)
        self._entries.append(entry)
        self._sent = len(self._entries)
        return entry

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as it would be sent now."""
        return tuple([e.message for e in self._system] + [e.message for e in self._entries])

    @property
    def open_calls(self) -> tuple[str, ...]:
        """Ids of calls that the model proposed and that have no result yet."""
        return tuple(self._open)

    def delta(self) -> list[Entry]:
        """Return the entries that the next prompt adds to the last one, and mark them sent."""
        fresh = [] if self._frozen else list(self._system)
        fresh += self._entries[self._sent :]
        self._frozen = True
        self._sent = len(self._entries)
        return fresh

    def add_answer(self, answer: Answer, step: int) -> None:
        """Add what the model said in step `step`; its calls are now open."""
        self._entries.append(Entry(Message("assistant", answer.text, answer.calls), step))
        self._open = {call.id: call.name for call in answer.calls if call.id}

    def add_result(self, result: Result, data: object, step: int) -> None:
        """Add the result of a call that is open; that of any other call is no business of it.

        Args:
            result: What came of the call.
            data: Its value as it was recorded, so that a replay renders the same text.
            step: Number of the step.
        """
        call_id = result.call_id
        if call_id is None or self._open.pop(call_id, None) is None:
            return
        text = render_result(result, data)
        self._entries.append(Entry(Message("tool", text, (), call_id, result.name), step))


def named_calls(answer: Answer, step: int) -> Answer:
    """Return `answer` with an id for every call, so that results can be told apart.

    An id that is absent, or given twice, is replaced by one made of the step and the position.
    """
    seen: set[str] = set()
    calls: list[Call] = []
    for place, call in enumerate(answer.calls):
        call_id = call.id or f"call-{step}-{place}"
        if call_id in seen:
            call_id = f"call-{step}-{place}"
        while call_id in seen:  # the provider chose the very same
            call_id += "-again"
        seen.add(call_id)
        calls.append(call if call_id == call.id else msgspec.structs.replace(call, id=call_id))
    return msgspec.structs.replace(answer, calls=tuple(calls))


def render_result(result: Result, data: object) -> str:
    """Return the text that a model reads as the result of its call; `data` is its plain value."""
    if result.status == StepStatus.OK:
        if result.stood_in:
            note = f"{result.name} failed; this is what stood in for it"
            return _json({"value": data, "note": note})
        return data if isinstance(data, str) else _json(data)
    if result.refusal is not None:
        return _json({"refused": msgspec.to_builtins(result.refusal)})
    if result.error is not None:
        return _json({"error": str(result.error)})
    return _json({"status": result.status})


def _json(data: object) -> str:
    return msgspec.json.encode(data, enc_hook=str).decode()

"""What a person is asked by an interrupt of LangGraph's, and what their answer means.

Keeps: only an answer that is clear counts, and only for the question that it was given to.

LangGraph hands answers to whoever calls `interrupt()` first, and hands them out again to a run
that goes on without a new one. So a question has an id of its own here, and an answer is read
from the `Command` that the run was given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from threading import Lock
from typing import Any, Final, NamedTuple

import msgspec
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.types import Command, Interrupt, interrupt

from undercroft.errors import InputError
from undercroft.model.outcome import Waiting

_YES = frozenset({"approve", "approved", "accept", "yes"})
_NO = frozenset({"reject", "rejected", "deny", "no"})
# What LangGraph takes for the id of an interrupt.
_ID = re.compile(r"[0-9a-f]{32}")
NOTHING: Final = object()


class AnswerError(InputError, GraphBubbleUp):
    """An answer may mean anything; no `ToolNode` makes a message for the model of this."""


class Word(NamedTuple):
    """A person's word on a call.

    Attributes:
        by: Whose it is, as far as the answer says.
    """

    granted: bool
    by: str = ""
    reason: str = ""


def question_of(waiting: Waiting, turn_id: str, call_id: str | None) -> Interrupt:
    """Return what a person is asked; its id is that of the question, in every process."""
    asked: dict[str, Any] = {
        "type": "approval",
        "tool": waiting.name,
        "arguments": waiting.arguments,
        "tool_call_id": call_id,
        "fingerprint": waiting.fingerprint,
    }
    if waiting.void:
        asked["void"] = waiting.void
        asked["changed"] = msgspec.to_builtins(waiting.changed, enc_hook=str)
    which = f"{turn_id} {waiting.step_id} {waiting.fingerprint} {waiting.asked_at!r}"
    return Interrupt(asked, blake2b(which.encode(), digest_size=16).hexdigest())


class Resume:
    """What a graph was given to go on with.

    Args:
        given: A map of answers by the ids of interrupts; or one answer, to the one question
            that is open, since LangGraph refuses it where there are more.
    """

    __slots__ = ("_given", "_lock")

    def __init__(self, given: object) -> None:
        self._given = given
        self._lock = Lock()

    def answer_to(self, question: Interrupt) -> object:
        """Return what was answered to a question, once, or NOTHING."""
        given = self._given
        if isinstance(given, Mapping) and given and all(_is_id(key) for key in given):
            return given.get(question.id, NOTHING)
        with self._lock:
            given, self._given = self._given, NOTHING
        if given is not NOTHING:
            # LangGraph keeps it for whoever asks next, such as a tool: that must be nobody.
            with suppress(GraphInterrupt):
                while True:
                    interrupt(question.value)
        return given


def resume_of(given: object) -> Resume | None:
    """Return what a run was given to go on with, or None."""
    if isinstance(given, Command) and given.resume is not None:
        return Resume(given.resume)
    return None


def _is_id(key: object) -> bool:
    return isinstance(key, str) and _ID.fullmatch(key) is not None


def word_of(answer: object, tool: str) -> Word:
    """Return what an answer means.

    Raises:
        AnswerError: It may mean anything.
    """
    told = answer
    if isinstance(told, Mapping):
        decisions = told.get("decisions")
        if isinstance(decisions, list) and len(decisions) == 1:
            told = decisions[0]
    more: Mapping[str, Any] = {}
    if isinstance(told, Mapping):
        more, told = told, told.get("type")
    said = told.strip().lower() if isinstance(told, str) else told
    if isinstance(said, bool):
        return Word(said, _text(more, "by"), _text(more, "message"))
    if isinstance(said, str) and said in _YES | _NO:
        return Word(said in _YES, _text(more, "by"), _text(more, "message"))
    raise AnswerError(
        f"Command(resume={answer!r:.80})",
        f"it is no clear answer to whether {tool} may run, and nothing was done",
        'Give True or False, "approve" or "reject", {"type": "approve"}, {"type": "reject", '
        '"message": "why"}, or {"decisions": [one of these]}.',
    )


def _text(more: Mapping[str, Any], key: str) -> str:
    told = more.get(key)
    return told if isinstance(told, str) else ""

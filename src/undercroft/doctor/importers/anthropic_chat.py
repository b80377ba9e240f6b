"""Chat logs as Anthropic's API writes them: messages with blocks, and logs of requests.

Reads documents with `messages` and `system`, lists of messages, a message a line (also wrapped, as
coding agents keep their sessions), and requests with their answers.
Keeps: `system` is no step of its own; whether a call failed is what `is_error` says, and where
that is not set, what its words say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from undercroft.doctor.importers import exchanges, transcripts
from undercroft.doctor.importers.form import Format
from undercroft.doctor.importers.openai_chat import blocks_of, read_chat, trace_of
from undercroft.model.case import Case, Facet

NAME = "anthropic-chat"
CAN_SHOW = frozenset({
    Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS, Facet.STATUSES, Facet.TIMES, Facet.DURATIONS,
    Facet.PROMPTS, Facet.TOKENS, Facet.USERS, Facet.DELIVERED, Facet.ACTORS,
})  # fmt: skip
_SURE, _LIKELY, _PERHAPS, _BARELY = 0.95, 0.8, 0.3, 0.25
_BLOCKS = frozenset({"tool_use", "tool_result", "thinking", "redacted_thinking", "server_tool_use"})
_ROLES = frozenset({"user", "assistant", "system"})
_OTHERS = ("tool_calls", "function_call", "tool_call_id", "refusal")


def fits(document: Any) -> float:
    """Say how much `document` looks like Anthropic's."""
    if exchanges.is_exchange(document):
        return _fits_exchange(document)
    messages = list(transcripts.sampled(document))
    if not messages:
        return 0.0
    apart = isinstance(document, Mapping) and isinstance(document.get("system"), str | list)
    return _fits_messages(messages, system_apart=apart)


def _fits_exchange(document: Any) -> float:
    answer, request = exchanges.answer_of(document), exchanges.request_of(document)
    if isinstance(answer, Mapping):
        if "choices" in answer or "output" in answer:
            return 0.0
        if answer.get("stop_reason") is not None or blocks_of(answer):
            return _SURE
    messages = list(transcripts.sampled(dict(request)))
    return _fits_messages(messages, system_apart="system" in request) if messages else 0.0


def _fits_messages(messages: Sequence[Mapping[str, Any]], *, system_apart: bool) -> float:
    if any(blocks_of(message) & _BLOCKS for message in messages):
        return _SURE
    if any(str(message.get("role")) not in _ROLES for message in messages) or any(
        message.get(key) for message in messages for key in _OTHERS
    ):
        return 0.0
    if system_apart or any("stop_reason" in message for message in messages):
        return _LIKELY
    # Words alone are the same in every format.
    return _PERHAPS if any("text" in blocks_of(message) for message in messages) else _BARELY


def _case(records: Sequence[Any], trace_id: str) -> Case:
    return read_chat(records, trace_id, form=NAME, can_show=CAN_SHOW)


def _records(document: Any) -> Iterable[Any]:
    return transcripts.records(document)


FORMAT = Format(
    name=NAME,
    title="Anthropic chat messages",
    can_show=CAN_SHOW,
    fits=fits,
    records=_records,
    trace_of=trace_of,
    case=_case,
    containers=("conversations", "traces", "sessions", "runs", "data", "logs"),
)

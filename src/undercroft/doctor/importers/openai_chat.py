"""Chat logs as OpenAI's and compatible APIs write them, and as most frameworks keep them.

Reads documents with `messages`, lists of messages, a message a line, items of Responses, and logs
of requests with their answers; those of one conversation become one run.
Keeps: an `index` in a message is never its step; arguments may be JSON text, a Python literal or
an object; what a message lacks, such as a time, is not shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from undercroft.doctor.importers import chat, conversations, exchanges, transcripts
from undercroft.doctor.importers.form import Format
from undercroft.model.case import Case, Facet

NAME = "openai-chat"
CAN_SHOW = frozenset({
    Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS, Facet.STATUSES, Facet.TIMES, Facet.DURATIONS,
    Facet.PROMPTS, Facet.TOKENS, Facet.USERS, Facet.DELIVERED, Facet.ACTORS,
})  # fmt: skip
_SURE, _LIKELY, _PERHAPS, _HARDLY = 0.95, 0.6, 0.3, 0.1
_ROLES = frozenset("system developer user human assistant ai model tool function".split())  # noqa: SIM905  as they are typed
_OWN_KEYS = ("tool_calls", "function_call", "tool_call_id", "refusal")
_ITEMS = frozenset({"function_call", "function_call_output", "reasoning"})
_BLOCKS = frozenset({"tool_use", "tool_result", "thinking"})


def fits(document: Any) -> float:
    """Say how much `document` looks like OpenAI's."""
    if exchanges.is_exchange(document):
        return _fits_exchange(document)
    found = transcripts.messages_of(document)
    if found is not None and not found:
        empty = isinstance(document, Mapping) and "messages" in document
        return _LIKELY if empty else _PERHAPS
    messages = list(transcripts.sampled(document))
    if not messages:
        return 0.0
    return fits_messages(messages)


def fits_messages(messages: Sequence[Mapping[str, Any]]) -> float:
    """Say how much messages look like OpenAI's."""
    if any(blocks_of(message) & _BLOCKS for message in messages):
        return _HARDLY
    if any(_is_own(message) for message in messages):
        return _SURE
    roles = [message["role"] for message in messages if isinstance(message.get("role"), str)]
    known = all(role in _ROLES for role in roles) and (roles or "lc" in messages[0])
    named = {message["name"] for message in messages if isinstance(message.get("name"), str)}
    if not known:
        return _HARDLY
    return _PERHAPS if len(named) > 1 else _LIKELY


def _is_own(message: Mapping[str, Any]) -> bool:
    if any(message.get(key) is not None for key in _OWN_KEYS):
        return True
    return str(message.get("type")) in _ITEMS or str(message.get("role")) in {"tool", "function"}


def blocks_of(message: Mapping[str, Any]) -> set[str]:
    """Return the kinds of the parts of a message."""
    content = message.get("content")
    if not isinstance(content, list):
        return set()
    kinds = (part.get("type") for part in content if isinstance(part, Mapping))
    return {kind for kind in kinds if isinstance(kind, str)}


def _fits_exchange(document: Any) -> float:
    answer = exchanges.answer_of(document)
    request = exchanges.request_of(document)
    if isinstance(answer, Mapping):
        if isinstance(answer.get("choices"), list) or answer.get("object") == "response":
            return _SURE
        if isinstance(answer.get("output"), list):
            return _SURE
        if blocks_of(answer) or "stop_reason" in answer:
            return _HARDLY
    elif isinstance(answer, list):
        return _SURE
    if "system" in request:
        return _PERHAPS
    messages = list(transcripts.sampled(dict(request)))
    return fits_messages(messages) if messages else _LIKELY


def read_chat(
    records: Sequence[Any], trace_id: str, *, form: str, can_show: frozenset[Facet]
) -> Case:
    """Return the run that consists of messages, documents with messages, or exchanges."""
    if any(exchanges.is_exchange(record) for record in records):
        return conversations.read(records, trace_id, form=form, can_show=can_show)
    return transcripts.read(records, trace_id, form=form, can_show=can_show)


def trace_of(record: Any) -> str | None:
    """Return the conversation of a message or an exchange; None where a record is a run."""
    if exchanges.is_exchange(record):
        return chat.id_of(record)
    return transcripts.trace_of(record)


def _case(records: Sequence[Any], trace_id: str) -> Case:
    return read_chat(records, trace_id, form=NAME, can_show=CAN_SHOW)


def _records(document: Any) -> Iterable[Any]:
    return transcripts.records(document)


FORMAT = Format(
    name=NAME,
    title="OpenAI chat messages",
    can_show=CAN_SHOW,
    fits=fits,
    records=_records,
    trace_of=trace_of,
    case=_case,
    containers=("conversations", "traces", "sessions", "threads", "runs", "data", "logs", "items"),
)

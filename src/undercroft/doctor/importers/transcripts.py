"""Where messages are in a document, and what the document says of their run.

Keeps: never raises; what is no message stays where it stands, so that steps count as in the input.
Leaves to `chat` what the messages say, and to `exchanges` logs of requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

from undercroft.doctor.importers.chat import (
    ITEMS,
    About,
    Line,
    build,
    error_of,
    id_of,
    read_line,
    tools_of,
)
from undercroft.doctor.importers.said import text_of
from undercroft.model.case import Case, Facet

_LISTS = (
    *("messages", "conversation", "conversations", "history", "trajectory", "traj", "chat"),
    *("turns", "dialog", "dialogue", "transcript", "chat_history", "items"),
)
_MESSAGE_KEYS = ("content", "tool_calls", "function_call", "parts", "refusal", "tool_call_id")
_SAMPLED = 50
_OWN_ID_CHARS = 200


def is_message(raw: object) -> bool:
    """Whether `raw` is a message by itself, or an item of Responses."""
    if not isinstance(raw, dict):
        return False
    if isinstance(raw.get("role"), str):
        return any(key in raw for key in _MESSAGE_KEYS)
    kind = raw.get("type")
    if isinstance(kind, str) and (kind in ITEMS or (kind == "message" and "content" in raw)):
        return True
    return _inner(raw) is not None or ("lc" in raw and "kwargs" in raw)


def _inner(raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the message that a line of a session log wraps, or None where it wraps none."""
    inner = raw.get("message")
    if "choices" in raw or not isinstance(inner, dict):
        return None
    wraps = isinstance(inner.get("role"), str) and any(key in inner for key in _MESSAGE_KEYS)
    return inner if wraps else None


def opened(raw: object) -> object:
    """Return the message that `raw` wraps, with the time that stands beside it; else `raw`."""
    if not isinstance(raw, dict):
        return raw
    inner = _inner(raw)
    if inner is None:
        return raw
    beside = {key: raw[key] for key in ("timestamp", "created_at", "time") if key in raw}
    return {**beside, **inner}


def messages_of(document: object) -> Sequence[Any] | None:
    """Return the messages that a document holds, or None where it holds none."""
    if isinstance(document, list):
        return document if any(map(is_message, document[:_SAMPLED])) else None
    if not isinstance(document, dict) or is_message(document):
        return None
    for key in _LISTS:
        found = document.get(key)
        if isinstance(found, list) and any(map(is_message, found[:_SAMPLED])):
            return found
    return _without(document)


def _without(document: Mapping[str, Any]) -> Sequence[Any] | None:
    """Return the messages of a run that said nothing, or nothing that can be read."""
    found = document.get("messages")
    if isinstance(found, list):
        return found
    failed = "messages" not in document and bool(id_of(document)) and bool(error_of(document))
    return [] if failed or ("messages" in document and found is None) else None


def sampled(document: object) -> Iterator[Mapping[str, Any]]:
    """Yield the first messages of a document, or the message that it is."""
    found = messages_of(document)
    held: Iterable[Any] = (document,) if found is None and is_message(document) else found or ()
    for raw in islice(held, _SAMPLED):
        message = opened(raw)
        if isinstance(message, Mapping):
            yield message


def records(document: object) -> Iterable[Any]:
    """Return the records of a document: itself, and a list of messages as one run."""
    if isinstance(document, list):
        return [{"messages": document}] if messages_of(document) is not None else document
    return [document]


def trace_of(record: object) -> str | None:
    """Return the run that a message belongs to; None where a record is a run by itself."""
    return None if messages_of(record) is not None else id_of(record)


def read(
    records_: Sequence[Any], trace_id: str, *, form: str, can_show: AbstractSet[Facet]
) -> Case:
    """Return the run that consists of documents or messages."""
    lines: list[Line] = []
    preface: list[Line] = []
    error, tools, own = "", None, ""
    for record in records_:
        found = messages_of(record)
        if found is None:
            lines.append(read_line(opened(record)))
            continue
        lines += [read_line(opened(raw)) for raw in found]
        if isinstance(record, Mapping):
            error = error or error_of(record)
            tools = tools or tools_of(record)
            own = own or id_of(record) or _own_id(record)
            preface += system_of(record)
    about = About(own or trace_id, error, tools, preface=tuple(preface))
    return build(lines, about, form=form, can_show=can_show)


def _own_id(document: Mapping[str, Any]) -> str:
    for key in ("id", "uuid", "task_id", "name"):
        named = document.get(key)
        if isinstance(named, str | int) and not isinstance(named, bool) and named != "":
            return str(named)[:_OWN_ID_CHARS]
    return ""


def system_of(document: Mapping[str, Any]) -> list[Line]:
    """Return what stands beside messages as the system's words; it is no step of its own."""
    said = document.get("system") or document.get("instructions")
    if not isinstance(said, str | list):
        return []
    text = text_of(said)
    return [read_line({"role": "system", "content": text})] if text else []

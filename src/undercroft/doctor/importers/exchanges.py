"""A request to a model with what came back, as a record of a log.

Keeps: which provider's it is does not matter; a request that failed is one without an answer.
Leaves to `conversations` which requests belong together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from undercroft.doctor.importers.chat import Line, tools_of
from undercroft.doctor.importers.said import read_answer
from undercroft.doctor.importers.times import read_time
from undercroft.doctor.importers.transcripts import is_message, system_of
from undercroft.doctor.statuses import error_class_of, said_error
from undercroft.model.case import CallStatus, CaseAsk

_REQUESTS = ("request", "req", "request_body", "body", "params", "kwargs", "input", "inputs")
_RESPONSES = ("response", "resp", "response_body", "completion", "output", "outputs", "result")
_PROMPTS = ("messages", "input", "contents", "prompt")
_TIMES = ("timestamp", "created_at", "started_at", "start_time", "startTime", "time", "ts", "date")
_TOOK = (
    *(("latency_ms", 1e-3), ("duration_ms", 1e-3), ("elapsed_ms", 1e-3), ("latencyMs", 1e-3)),
    *(("durationMs", 1e-3), ("latency_s", 1.0), ("duration_s", 1.0), ("latency", 1.0)),
    *(("duration", 1.0), ("elapsed", 1.0)),
)
# Beyond this a number is no time that anything took.
_LONG = 1e12
# So many of the last messages are looked for in a request that leaves some out.
_TAIL = 8
# Conversations that may still go on, at most.
_OPEN_MAX = 1_000

Key: TypeAlias = tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...]


def _request(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the request of a log's record; None where it holds none."""
    for key in _REQUESTS:
        held = document.get(key)
        if isinstance(held, dict):
            inner = held.get("body")
            held = inner if isinstance(inner, dict) else held
            if any(isinstance(held.get(k), list | str) for k in _PROMPTS):
                return held
    asks = any(isinstance(document.get(key), list) for key in _PROMPTS)
    return document if asks or isinstance(document.get("input"), str) else None


def _response(document: Mapping[str, Any]) -> object:
    """Return the answer of a log's record; None where it holds none."""
    if isinstance(document.get("choices"), list):
        return document
    for key in _RESPONSES:
        held = document.get(key)
        if isinstance(held, dict):
            inner = held.get("body")
            held = inner if isinstance(inner, dict) else held
            if _answers(held):
                return held
        elif (isinstance(held, list) and any(map(is_message, held))) or (
            isinstance(held, str) and key in {"response", "completion"}
        ):
            return held
    return None


def _answers(held: Mapping[str, Any]) -> bool:
    lists = any(isinstance(held.get(key), list) for key in ("choices", "output", "candidates"))
    return lists or is_message(held) or bool(held.get("error"))


def is_exchange(document: object) -> bool:
    """Whether `document` is a request to a model with what came back."""
    # A message is none; most of what is asked about is one.
    if not isinstance(document, dict) or isinstance(document.get("role"), str):
        return False
    request = _request(document)
    if request is None:
        return False
    apart = request is not document
    return _response(document) is not None or (apart and bool(document.get("error")))


def answer_of(document: object) -> object:
    """Return the answer of an exchange, as its provider wrote it."""
    return _response(document) if isinstance(document, Mapping) else None


def request_of(document: object) -> Mapping[str, Any]:
    """Return the request of an exchange, as it was sent."""
    return (_request(document) or {}) if isinstance(document, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer, read.

    Attributes:
        preface: What the request says before its messages.
        prompt: Messages that it sends, as they stand in it.
        answer: Messages that came back, as they stand there.
        ask: The request, without its prompt and its step.
    """

    preface: list[Line]
    prompt: list[Any]
    answer: list[Any]
    tools: frozenset[str] | None
    ask: CaseAsk


def read_exchange(document: Mapping[str, Any]) -> Exchange:
    """Return the request and the answer that a record holds."""
    request, response = request_of(document), _response(document)
    prompt: list[Any] = []
    for key in _PROMPTS:
        held = request.get(key)
        if isinstance(held, str):
            held = [{"role": "user", "content": held}]
        if isinstance(held, list):
            prompt = [_named(raw) for raw in held]
            break
    answer = list(_answer_messages(response))
    answered = read_answer(response)
    error = document.get("error")
    if isinstance(response, Mapping) and not error:
        error = response.get("error")
    words = said_error(error) if error else ""
    at = next((t for k in _TIMES if (t := read_time(document.get(k))) is not None), None)
    if at is None and isinstance(response, Mapping):
        at = read_time(response.get("created") or response.get("created_at"))
    model = request.get("model")
    ask = CaseAsk(
        step=0,
        model=answered.model or (model if isinstance(model, str) else ""),
        answer=None,
        stop=answered.stop,
        input_tokens=answered.input_tokens,
        output_tokens=answered.output_tokens,
        status=CallStatus.FAILED if words else CallStatus.OK,
        error=words,
        error_class=error_class_of(words) if words else "",
        began_at=at,
        took_s=_took(document),
    )
    return Exchange(system_of(request), prompt, answer, tools_of(request), ask)


def _named(raw: object) -> object:
    """Give a message that has no role but stands in a prompt the user's: so APIs mean it."""
    if isinstance(raw, Mapping) and "role" not in raw and "type" not in raw and "content" in raw:
        return {**raw, "role": "user"}
    return raw


def _answer_messages(response: object) -> Iterator[object]:
    if isinstance(response, str):
        yield {"role": "assistant", "content": response}
    elif isinstance(response, list):
        yield from response
    elif isinstance(response, Mapping):
        choices = response.get("choices")
        if isinstance(choices, list):
            first = choices[0] if choices and isinstance(choices[0], Mapping) else {}
            held = first.get("message")
            text = first.get("text")
            if isinstance(held, dict):
                yield {"role": "assistant", **held}
            elif isinstance(text, str):
                yield {"role": "assistant", "content": text}
        elif isinstance(response.get("output"), list):
            yield from response["output"]
        elif is_message(response):
            # Its id and its kind are the answer's, and not those of an item.
            yield {k: v for k, v in response.items() if k not in {"type", "usage"}}


def _took(document: Mapping[str, Any]) -> float | None:
    for key, unit_s in _TOOK:
        raw = document.get(key)
        if isinstance(raw, int | float) and not isinstance(raw, bool) and 0 <= raw < _LONG:
            return raw * unit_s
    return None

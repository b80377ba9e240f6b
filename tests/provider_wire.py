"""How the three protocols write down what a scripted model says: whole, as events, and as an error.

Sources: the types of OpenAI's and Anthropic's own clients, whose readers the events are tried with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from tests.provider_script import Answer, Call, Dialect, Request, Stop, Usage

CREATED_S = 1_750_000_000
BYTES_PER_TOKEN = 4

Fields: TypeAlias = dict[str, Any]
Event: TypeAlias = tuple[str | None, Fields | str]


def whole(answer: Answer, request: Request) -> Fields:
    """Return the body of an answer that is not streamed."""
    return _WHOLE[request.dialect](answer, request)


def events(answer: Answer, request: Request, piece_chars: int) -> Iterator[Event]:
    """Yield the events of a streamed answer: name, if the protocol has any, and data.

    Args:
        answer: What is said.
        request: What it answers.
        piece_chars: How long a piece of text is at most.
    """
    return _EVENTS[request.dialect](answer, request, piece_chars)


def encoded(event: Event) -> bytes:
    """Return an event as it goes over the wire."""
    name, data = event
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {text}\n\n".encode()


def error_body(dialect: Dialect, status: int, message: str) -> Fields:
    """Return what the protocol says beside a status that is an error."""
    kind = _ERROR_KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    if dialect == "messages":
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def error_event(dialect: Dialect, fields: Mapping[str, Any] | None) -> Event:
    """Return the event of a stream that breaks off."""
    said = fields or {"type": "overloaded_error", "message": "Overloaded"}
    if dialect == "messages":
        return "error", {"type": "error", "error": dict(said)}
    if dialect == "chat":
        return None, {"error": dict(said)}
    failed = {"code": said.get("type"), "message": said.get("message"), "param": None}
    return "error", {"type": "error", "sequence_number": 99, **failed}


_ERROR_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def usage_of(answer: Answer, request: Request) -> Usage:
    """Return what an answer is billed as."""
    if answer.usage is not None:
        return answer.usage
    said = answer.text or answer.refusal or ""
    spoken = len(said) + sum(len(call.name) + len(call.text) for call in answer.calls)
    return Usage(
        input_tokens=max(1, len(request.raw) // BYTES_PER_TOKEN),
        output_tokens=max(1, spoken // BYTES_PER_TOKEN),
    )


def _ids(answer: Answer, request: Request) -> list[tuple[str, Call]]:
    kind = "toolu" if request.dialect == "messages" else "call"
    return [
        (call.id if call.id is not None else f"{kind}_{request.number:04}_{at}", call)
        for at, call in enumerate(answer.calls)
    ]


def _pieces(text: str, piece_chars: int) -> list[str]:
    return [text[at : at + piece_chars] for at in range(0, len(text), piece_chars)]


# ------------------------------------------------------------------ chat completions

_CHAT_STOPS: dict[Stop, str] = {
    "stop": "stop",
    "calls": "tool_calls",
    "length": "length",
    "filter": "content_filter",
}


def _chat_usage(usage: Usage) -> Fields:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _chat_head(request: Request, kind: str) -> Fields:
    return {
        "id": f"chatcmpl-{request.number:04}",
        "object": kind,
        "created": CREATED_S,
        "model": request.model,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }


def _chat_whole(answer: Answer, request: Request) -> Fields:
    message: Fields = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
    message["annotations"] = []
    if answer.calls:
        message["tool_calls"] = [
            {"id": id_, "type": "function", "function": {"name": call.name, "arguments": call.text}}
            for id_, call in _ids(answer, request)
        ]
    ended = _CHAT_STOPS[answer.ended]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": ended}
    return {
        **_chat_head(request, "chat.completion"),
        "choices": [] if answer.empty else [choice],
        "usage": _chat_usage(usage_of(answer, request)),
    }


def _chat_deltas(answer: Answer, request: Request, piece_chars: int) -> Iterator[Fields]:
    yield {"role": "assistant", "content": None if answer.calls else "", "refusal": None}
    yield from ({"content": piece} for piece in _pieces(answer.text or "", piece_chars))
    yield from ({"refusal": piece} for piece in _pieces(answer.refusal or "", piece_chars))
    for at, (id_, call) in enumerate(_ids(answer, request)):
        begun = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": at, "id": id_, "type": "function", "function": begun}]}
        for piece in _pieces(call.text, piece_chars):
            yield {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}


def _chat_events(answer: Answer, request: Request, piece_chars: int) -> Iterator[Event]:
    head = _chat_head(request, "chat.completion.chunk")
    asked = (request.body.get("stream_options") or {}).get("include_usage")
    if asked:
        head["usage"] = None
    if not answer.empty:
        for delta in _chat_deltas(answer, request, piece_chars):
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
            yield None, {**head, "choices": [choice]}
        ended = _CHAT_STOPS[answer.ended]
        last = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": ended}
        yield None, {**head, "choices": [last]}
    if asked:
        yield None, {**head, "choices": [], "usage": _chat_usage(usage_of(answer, request))}
    yield None, "[DONE]"


# ------------------------------------------------------------------ Responses

_RESPONSES_CUT: dict[Stop, str] = {"length": "max_output_tokens", "filter": "content_filter"}


def _responses_items(answer: Answer, request: Request) -> list[Fields]:
    cut = answer.stop in _RESPONSES_CUT
    status = "incomplete" if cut else "completed"
    items: list[Fields] = []
    if answer.empty:
        return items
    content: list[Fields] = []
    if answer.text is not None:
        text = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        content.append(text)
    if answer.refusal is not None:
        content.append({"type": "refusal", "refusal": answer.refusal})
    if content or not answer.calls:
        said = {"type": "message", "id": f"msg_{request.number:04}", "role": "assistant"}
        items.append({**said, "status": status, "content": content})
    items += [
        {
            "type": "function_call",
            "id": f"fc_{request.number:04}_{at}",
            "call_id": id_,
            "name": call.name,
            "arguments": call.text,
            "status": status,
        }
        for at, (id_, call) in enumerate(_ids(answer, request))
    ]
    return items


def _responses_object(answer: Answer, request: Request, status: str) -> Fields:
    body = request.body
    cut = _RESPONSES_CUT.get(answer.stop) if answer.stop else None
    over = status == "completed"
    usage = usage_of(answer, request)
    return {
        "id": f"resp_{request.number:04}",
        "object": "response",
        "created_at": CREATED_S,
        "completed_at": CREATED_S if over and not cut else None,
        "status": "incomplete" if over and cut else status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": cut} if over and cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "model": request.model,
        "output": _responses_items(answer, request) if over else [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {
                "cached_tokens": usage.cached_tokens,
                "cache_write_tokens": 0,
            },
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
        if over
        else None,
    }


def _responses_whole(answer: Answer, request: Request) -> Fields:
    return _responses_object(answer, request, "completed")


def _responses_events(answer: Answer, request: Request, piece_chars: int) -> Iterator[Event]:
    for at, (name, fields) in enumerate(_responses_steps(answer, request, piece_chars)):
        yield name, {"type": name, "sequence_number": at, **fields}


def _responses_steps(
    answer: Answer, request: Request, piece_chars: int
) -> Iterator[tuple[str, Fields]]:
    begun = _responses_object(answer, request, "in_progress")
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for at, item in enumerate(_responses_items(answer, request)):
        place = {"item_id": item["id"], "output_index": at}
        empty: Fields = {"content": []} if item["type"] == "message" else {"arguments": ""}
        added = {**item, **empty, "status": "in_progress"}
        yield "response.output_item.added", {"output_index": at, "item": added}
        if item["type"] == "message":
            for index, part in enumerate(item["content"]):
                yield from _responses_part(part, {**place, "content_index": index}, piece_chars)
        else:
            for piece in _pieces(item["arguments"], piece_chars):
                yield "response.function_call_arguments.delta", {**place, "delta": piece}
            done = {**place, "name": item["name"], "arguments": item["arguments"]}
            yield "response.function_call_arguments.done", done
        yield "response.output_item.done", {"output_index": at, "item": item}
    ended = _responses_object(answer, request, "completed")
    yield f"response.{ended['status']}", {"response": ended}


def _responses_part(part: Fields, place: Fields, piece_chars: int) -> Iterator[tuple[str, Fields]]:
    kind = part["type"]
    key = "text" if kind == "output_text" else "refusal"
    more: Fields = {"logprobs": []} if kind == "output_text" else {}
    yield "response.content_part.added", {**place, "part": {**part, key: ""}}
    for piece in _pieces(part[key], piece_chars):
        yield f"response.{kind}.delta", {**place, "delta": piece, **more}
    yield f"response.{kind}.done", {**place, key: part[key], **more}
    yield "response.content_part.done", {**place, "part": part}


# ------------------------------------------------------------------ Messages

_MESSAGES_STOPS: dict[Stop, str] = {
    "stop": "end_turn",
    "calls": "tool_use",
    "length": "max_tokens",
    "filter": "refusal",
}


def _messages_usage(usage: Usage) -> Fields:
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": usage.output_tokens,
        "service_tier": "standard",
    }


def _messages_blocks(answer: Answer, request: Request) -> list[Fields]:
    if answer.empty:
        return []
    said = answer.text if answer.text is not None else answer.refusal
    blocks: list[Fields] = [] if said is None else [{"type": "text", "text": said}]
    for id_, call in _ids(answer, request):
        given = call.arguments
        # Whole, the protocol has an object here; text that is no JSON goes out as text.
        try:
            held = json.loads(given) if isinstance(given, str) else dict(given)
        except ValueError:
            held = given
        blocks.append({"type": "tool_use", "id": id_, "name": call.name, "input": held})
    return blocks


def _messages_whole(answer: Answer, request: Request) -> Fields:
    refused = answer.refusal is not None
    return {
        "id": f"msg_{request.number:04}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": _messages_blocks(answer, request),
        "stop_reason": "refusal" if refused else _MESSAGES_STOPS[answer.ended],
        "stop_sequence": None,
        "usage": _messages_usage(usage_of(answer, request)),
    }


def _messages_events(answer: Answer, request: Request, piece_chars: int) -> Iterator[Event]:
    for name, fields in _messages_steps(answer, request, piece_chars):
        yield name, {"type": name, **fields}


def _messages_steps(
    answer: Answer, request: Request, piece_chars: int
) -> Iterator[tuple[str, Fields]]:
    message = _messages_whole(answer, request)
    usage = message["usage"]
    begun: Fields = {"content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield "message_start", {"message": {**message, **begun}}
    yield "ping", {}
    # By place: two calls may have one id.
    inputs = iter([call.text for call in answer.calls])
    for at, block in enumerate(message["content"]):
        if block["type"] == "text":
            yield "content_block_start", {"index": at, "content_block": {**block, "text": ""}}
            kind, key, text = "text_delta", "text", block["text"]
        else:
            yield "content_block_start", {"index": at, "content_block": {**block, "input": {}}}
            kind, key, text = "input_json_delta", "partial_json", next(inputs)
        for piece in _pieces(text, piece_chars):
            yield "content_block_delta", {"index": at, "delta": {"type": kind, key: piece}}
        yield "content_block_stop", {"index": at}
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"delta": delta, "usage": {"output_tokens": usage["output_tokens"]}}
    yield "message_stop", {}


_WHOLE: dict[Dialect, Callable[[Answer, Request], Fields]] = {
    "chat": _chat_whole,
    "responses": _responses_whole,
    "messages": _messages_whole,
}
_EVENTS: dict[Dialect, Callable[[Answer, Request, int], Iterator[Event]]] = {
    "chat": _chat_events,
    "responses": _responses_events,
    "messages": _messages_events,
}

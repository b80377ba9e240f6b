"""OpenAI's Responses: the body of a request, and what an answer says.

Keeps: nothing is left with the provider (`store` is false), so that each request holds the whole
prompt; what it reasoned goes back to it as it came, sealed.
Source: OpenAI's reference of the Responses API, and its guide to reasoning without a state.
"""

from __future__ import annotations

from typing import Any

from undercroft.adapters.models.chat import whole_calls
from undercroft.adapters.models.orderly import orderly
from undercroft.adapters.models.reading import (
    call_of,
    checked,
    empty,
    ended,
    failure_of,
    mapping,
    native_of,
    objects,
    text,
    usage_of,
)
from undercroft.errors import ServiceError
from undercroft.layers.context.shapes.foreign import text_of
from undercroft.layers.context.shapes.openai_shape import call_id
from undercroft.model.message import Answer, Message, ModelRequest, Native, Stop, ToolSpec, Wire
from undercroft.model.step import Call

FORM = "openai.responses"
Items = list[dict[str, Any]]
_INCOMPLETE = {"max_output_tokens": Stop.LENGTH, "content_filter": Stop.FILTER}
_OVER = frozenset({"response.completed", "response.incomplete"})
_FAILED = frozenset({"response.failed", "error"})
_TEXTS = frozenset({"response.output_text.delta", "response.refusal.delta"})


def body(request: ModelRequest, wire: Wire) -> dict[str, Any]:
    """Return the JSON body of a request."""
    made: dict[str, Any] = dict(wire.parameters)
    items: Items = []
    for placed in orderly(request.messages):
        items += _items(placed.message, wire.provider)
    made["input"] = items
    if request.tools:
        made["tools"] = [_tool(spec) for spec in request.tools]
    most = request.output_tokens_max
    if most is not None:
        made["max_output_tokens"] = min(most, made.get("max_output_tokens", most))
    return made


def _tool(spec: ToolSpec) -> dict[str, Any]:
    return {
        "type": "function",
        "name": spec.name,
        "description": spec.description,
        "parameters": spec.parameters,
        # Else the API changes the schema, and every parameter is required.
        "strict": False,
    }


def _items(message: Message, provider: str) -> Items:
    if message.role == "tool":
        sent = call_id(message.call_id or "")
        return [{"type": "function_call_output", "call_id": sent, "output": message.content}]
    if message.role != "assistant":
        return [{"role": message.role, "content": message.content}]
    native = message.native
    if native is not None and native.provider == provider:
        items = _natively(message, native)
        if items is not None:
            return items
    items = [_said(message.content)] if message.content.strip() else []
    return items + [_called(call) for call in message.calls]


def _natively(message: Message, native: Native) -> Items | None:
    """Return a message as the provider gave it; None where it is not that message any more."""
    items: Items = []
    at, called = 0, 0
    for part in native.parts:
        if "type" in part:
            items.append(part)
            continue
        more = {key: value for key, value in part.items() if key not in ("text", "call")}
        if "text" in part:
            size = part["text"]
            items.append(_said(message.content[at : at + size]) | more)
            at += size
        elif part["call"] == called < len(message.calls):
            items.append(_called(message.calls[called]) | more)
            called += 1
        else:
            return None
    return items if at == len(message.content) and called == len(message.calls) else None


def _said(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def _called(call: Call) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call_id(call.id or ""),
        "name": call.name,
        "arguments": text_of(call.arguments),
    }


def answer(data: Any, wire: Wire, service: str) -> Answer:
    """Return what an answer says; see `chat.answer`.

    Raises:
        ServiceError: It tells of an error, or holds no answer.
    """
    data = checked(data, service)
    if data.get("status") in ("failed", "cancelled"):
        raise failure_of(data, service)
    output = objects(data.get("output"))
    if not output:
        raise empty(service, "no output in it")
    said: list[str] = []
    calls: list[Call] = []
    parts: Items = []
    refused = False
    for item in output:
        match item.get("type"):
            case "message":
                for part in objects(item.get("content")):
                    piece = text(part.get("text")) + text(part.get("refusal"))
                    refused = refused or part.get("type") == "refusal"
                    said.append(piece)
                    parts.append({"text": len(piece)} | _phase(item))
            case "function_call" | "custom_tool_call":
                arguments = item.get("arguments", item.get("input"))
                parts.append({"call": len(calls)})
                calls.append(call_of(item.get("name"), arguments, item.get("call_id")))
            case "reasoning" if not item.get("encrypted_content"):
                pass  # the provider keeps none of it, and would not know it again
            case _:
                parts.append(item)
    why = mapping(data.get("incomplete_details")).get("reason")
    stop = None
    if data.get("status") == "incomplete":
        stop = _INCOMPLETE.get(why, Stop.OTHER) if isinstance(why, str) else Stop.OTHER
    stop = Stop.REFUSAL if refused else ended(stop, calls)
    kept, cut = whole_calls(calls, stop)
    dropped = [len(kept)] if cut else []
    asked = str(wire.parameters.get("model", ""))
    return Answer(
        "".join(said),
        tuple(kept),
        usage_of(data.get("usage")),
        stop,
        text(data.get("model")),
        native_of(wire.provider, asked, parts, dropped),
        cut,
    )


def _phase(item: dict[str, Any]) -> dict[str, Any]:
    """Return what the provider says of a text, and wants to be told again."""
    phase = item.get("phase")
    return {"phase": phase} if isinstance(phase, str) else {}


class Gathered:
    """The events of a streamed answer, of which the last one holds all of it.

    Attributes:
        done: Whether the provider said that it is over.
    """

    def __init__(self, service: str) -> None:
        self.service, self.done = service, False
        self._whole: dict[str, Any] = {}

    def take(self, event: Any) -> str:
        """Take one event; return the text that it adds.

        Raises:
            ServiceError: It tells of an error.
        """
        if not isinstance(event, dict):
            return text(checked(event, self.service).get("delta"))
        kind = event.get("type")
        if kind in _FAILED:
            raise self._failure(event)
        if kind in _OVER:
            self._whole, self.done = mapping(event.get("response")), True
        return text(event.get("delta")) if kind in _TEXTS else ""

    def _failure(self, event: dict[str, Any]) -> ServiceError:
        return failure_of(mapping(event.get("response")) or event, self.service)

    @property
    def over(self) -> bool:
        """Whether the answer is complete."""
        return self.done

    def whole(self) -> dict[str, Any]:
        """Return the answer as it would have come whole."""
        return self._whole

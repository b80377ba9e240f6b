"""OpenAI's chat completions: the body of a request, and what an answer says.

Keeps: what is sent is a function of the request and the settings alone.
Source: OpenAI's reference of chat completions; the types of its client library.
"""

from __future__ import annotations

from typing import Any

from undercroft.adapters.models.orderly import orderly
from undercroft.adapters.models.reading import (
    call_of,
    checked,
    empty,
    ended,
    is_whole,
    mapping,
    objects,
    text,
    usage_of,
)
from undercroft.layers.context.shapes.foreign import Shown
from undercroft.layers.context.shapes.openai_shape import OpenAIView
from undercroft.model.message import Answer, ModelRequest, Stop, ToolSpec, Wire
from undercroft.model.step import Call

FORM = "openai.chat"
_STOPS = {
    "stop": Stop.END,
    "tool_calls": Stop.CALLS,
    "function_call": Stop.CALLS,
    "length": Stop.LENGTH,
    "content_filter": Stop.FILTER,
}
# After these the last call may be the beginning of one.
_CUTTING = frozenset({Stop.LENGTH, Stop.FILTER})


def body(request: ModelRequest, wire: Wire) -> dict[str, Any]:
    """Return the JSON body of a request."""
    shown = [Shown(placed.message) for placed in orderly(request.messages)]
    made: dict[str, Any] = dict(wire.parameters)
    made["messages"] = OpenAIView().show(shown)
    if request.tools:
        made["tools"] = [_tool(spec) for spec in request.tools]
    if request.output_tokens_max is not None:
        # Other services that speak like this know only the older name.
        name = "max_tokens" if "max_tokens" in made else "max_completion_tokens"
        made[name] = min(request.output_tokens_max, made.get(name, request.output_tokens_max))
    return made


def _tool(spec: ToolSpec) -> dict[str, Any]:
    function = {
        "name": spec.name,
        "description": spec.description,
        "parameters": spec.parameters,
    }
    return {"type": "function", "function": function}


def answer(data: Any, wire: Wire, service: str) -> Answer:
    """Return what an answer says.

    Args:
        data: Its body; of a stream, what `Gathered` made of it.
        wire: Of the client.
        service: Its name, for errors.

    Raises:
        ServiceError: It tells of an error, or holds no answer.
    """
    del wire
    data = checked(data, service)
    choices = objects(data.get("choices"))
    if not choices:
        raise empty(service, "no choice in it")
    choice = choices[0]
    message = mapping(choice.get("message"))
    calls = [_call(each) for each in objects(message.get("tool_calls"))]
    content, refusal = _content(message.get("content")), text(message.get("refusal"))
    reason = choice.get("finish_reason")
    stop = ended(_STOPS.get(reason, Stop.OTHER) if isinstance(reason, str) else None, calls)
    if refusal:
        content, stop = content + refusal, Stop.REFUSAL
    calls, cut = whole_calls(calls, stop)
    return Answer(
        content,
        tuple(calls),
        usage_of(data.get("usage")),
        stop,
        text(data.get("model")),
        None,
        cut,
    )


def whole_calls(calls: list[Call], stop: Stop) -> tuple[list[Call], tuple[str, ...]]:
    """Return the calls that are whole, and the name of one that was cut off."""
    if stop in _CUTTING and calls and not is_whole(calls[-1]):
        return calls[:-1], (calls[-1].name,)
    return calls, ()


def _call(given: dict[str, Any]) -> Call:
    function = mapping(given.get("function"))
    custom = mapping(given.get("custom"))
    if custom and not function:
        return call_of(custom.get("name"), custom.get("input"), given.get("id"))
    return call_of(function.get("name"), function.get("arguments"), given.get("id"))


def _content(given: Any) -> str:
    if isinstance(given, str):
        return text(given)
    return "".join(text(part.get("text")) for part in objects(given))


class Gathered:
    """The pieces of a streamed answer, put together as it would have come whole.

    Attributes:
        done: Whether the provider said that it is over.
    """

    def __init__(self, service: str) -> None:
        self.service, self.done = service, False
        self._model: Any = ""
        self._usage: Any = None
        self._content: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[Any, dict[str, Any]] = {}
        self._reason: Any = None
        self._chosen = False

    def take(self, event: Any) -> str:
        """Take one event; return the text that it adds.

        Raises:
            ServiceError: It tells of an error.
        """
        data = checked(event, self.service)
        self._model = data.get("model") or self._model
        self._usage = data.get("usage") or self._usage
        said = ""
        for choice in objects(data.get("choices")):
            if choice.get("index") not in (0, None):
                continue
            self._chosen = True
            delta = mapping(choice.get("delta"))
            for key, parts in (("content", self._content), ("refusal", self._refusal)):
                piece = _content(delta.get(key))
                if piece:
                    parts.append(piece)
                    said += piece
            for call in objects(delta.get("tool_calls")):
                self._take_call(call)
            if choice.get("finish_reason"):
                self._reason, self.done = choice["finish_reason"], True
        return said

    def _take_call(self, given: dict[str, Any]) -> None:
        at = given.get("index")
        if not isinstance(at, int):
            # Some services number nothing: what has an id of its own is another call.
            at = ("new", len(self._calls)) if given.get("id") else next(reversed(self._calls), 0)
        call = self._calls.setdefault(at, {"id": None, "function": {"name": "", "arguments": ""}})
        call["id"] = call["id"] or given.get("id")
        function = mapping(given.get("function"))
        held = call["function"]
        held["name"] = held["name"] or text(function.get("name"))
        piece = function.get("arguments")
        if piece is not None:
            held["arguments"] += (
                piece if isinstance(piece, str) else call_of("", piece, "").arguments
            )

    @property
    def over(self) -> bool:
        """Whether nothing was chosen at all, so that the end of the stream is the whole answer."""
        return self.done or not self._chosen

    def whole(self) -> dict[str, Any]:
        """Return the answer as it would have come whole."""
        message = {
            "content": "".join(self._content),
            "refusal": "".join(self._refusal),
            "tool_calls": [self._calls[at] for at in self._calls],
        }
        choice = {"message": message, "finish_reason": self._reason}
        choices = [choice] if self._chosen else []
        return {"model": self._model, "choices": choices, "usage": self._usage}

"""A model behind a client library: one request out, one answer in, whole or streamed.

Keeps: what is sent is what `body` returns; the library's errors pass as they are, so that the
table of errors judges them; a stream that breaks in its middle raises an error of its own.
Leaves to the engine: retries, timeouts (the call is cancelled), breakers, budgets, the journal. The
timeout of the library's client stays as its user set it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import msgspec

from undercroft.adapters.models.reading import empty
from undercroft.adapters.models.sdk import library, quiet
from undercroft.errors import SettingError, StreamBrokenError, StreamShownError
from undercroft.model.message import Answer, ModelRequest, Wire

# What a body says of the conversation, which is not for settings to say.
_OURS = frozenset(
    {"conversation", "input", "messages", "model", "n", "previous_response_id", "stream"}
    | {"stream_options", "system", "tools"}
)


class Gathering(Protocol):
    """The events of a stream, put together."""

    @property
    def over(self) -> bool:
        """Whether the answer is complete."""

    def take(self, event: Any) -> str:
        """Take one event; return the text that it adds."""

    def whole(self) -> dict[str, Any]:
        """Return the answer as it would have come whole."""


class Api(NamedTuple):
    """One API of a provider."""

    form: str
    path: str
    body: Callable[[ModelRequest, Wire], dict[str, Any]]
    answer: Callable[[Any, Wire, str], Answer]
    gathering: Callable[[str], Gathering]


class SdkModel:
    """What the models behind client libraries share; a `ModelClient` that says what it sends.

    Attributes:
        name: Of the model, as it is asked for.
        provider: Of the model, as price tables name it.
        service: What its breaker, limits and budgets go by.
        stream: Whether answers are streamed.
        wire: How its requests are written.
    """

    LIBRARY: ClassVar[str]

    def __init__(  # noqa: PLR0913  what a model is made of
        self,
        client: Any,
        model: str,
        api: Api,
        *,
        stream: bool,
        provider: str,
        service: str | None,
        parameters: Mapping[str, Any],
    ) -> None:
        place = type(self).__name__
        sdk = library(self.LIBRARY)
        self._client = quiet(client, self.LIBRARY, place)
        self._streams = sdk.AsyncStream[object]
        if not model:
            raise SettingError("model", model, "the name of a model")
        self.name, self.provider, self.stream = model, provider, stream
        self.service = f"{provider}/{model}" if service is None else service
        self._api = api
        self.wire = Wire(api.form, provider, _checked(model, parameters, stream=stream, api=api))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def body(self, request: ModelRequest, wire: Wire) -> dict[str, Any]:
        """Return the JSON body of a request under the settings of `wire`: a pure function."""
        return self._api.body(request, wire)

    async def complete(self, request: ModelRequest) -> Answer:
        """Answer one request.

        Raises:
            ServiceError: A status of 200, and what came is an error, or no answer.
            StreamBrokenError: The answer broke off in its middle; nothing of it was shown.
            StreamShownError: The same, and the request's listener was told some of it.
            Exception: Whatever the client library raises.
        """
        body = self.body(request, self.wire)
        if not self.stream:
            data = await self._client.post(self._api.path, cast_to=object, body=body)
            return self._api.answer(data, self.wire, self.service)
        return await self._streamed(body, request)

    async def _streamed(self, body: dict[str, Any], request: ModelRequest) -> Answer:
        events = await self._client.post(
            self._api.path, cast_to=object, body=body, stream=True, stream_cls=self._streams
        )
        if not hasattr(events, "__aiter__"):
            return self._api.answer(events, self.wire, self.service)
        try:
            return await self._gathered(events, request)
        finally:
            await events.close()

    async def _gathered(self, events: Any, request: ModelRequest) -> Answer:
        gathered, said, began, shown = self._api.gathering(self.service), _Said(), False, False
        pieces = aiter(events)
        while True:
            try:
                piece = gathered.take(await anext(pieces))
            except StopAsyncIteration:
                break
            except Exception as error:
                if not began:
                    raise
                raise self._broken(str(error) or type(error).__name__, said, shown) from error
            began = True
            if piece:
                said.add(piece)
                if request.on_text is not None:
                    shown = True
                    told = request.on_text(piece)
                    if inspect.isawaitable(told):
                        await told
        if not began:
            raise empty(self.service, "no event in its stream")
        if not gathered.over:
            raise self._broken("its stream ended before the answer did", said, shown)
        return self._api.answer(gathered.whole(), self.wire, self.service)

    def _broken(self, problem: str, said: _Said, shown: bool) -> StreamBrokenError:  # noqa: FBT001
        kind = StreamShownError if shown else StreamBrokenError
        return kind(self.service, problem, said.text, said.chars)


class _Said:
    """The beginning of a text that comes in pieces, and how long it is."""

    __slots__ = ("chars", "text")

    def __init__(self) -> None:
        self.text, self.chars = "", 0

    def add(self, piece: str) -> None:
        self.chars += len(piece)
        if len(self.text) < StreamBrokenError.TEXT_CHARS_MAX:
            self.text += piece


def _checked(
    model: str, parameters: Mapping[str, Any], *, stream: bool, api: Api
) -> dict[str, Any]:
    """Return the parameters of a body, in their order.

    Raises:
        SettingError: One is not a setting's to say, or is no plain data.
    """
    for name, value in parameters.items():
        if name in _OURS:
            raise SettingError(name, value, "left out: each request says it anew")
        try:
            msgspec.json.encode(value)
        except (TypeError, ValueError, RecursionError):
            raise SettingError(name, value, "plain data, as JSON has it") from None
    made: dict[str, Any] = {"model": model, **parameters}
    if stream:
        made["stream"] = True
        if api.form == "openai.chat":
            made["stream_options"] = {"include_usage": True}
    return made

"""Models behind OpenAI's client library: chat completions and Responses.

Needs the extra `undercroft[openai]`.
"""

from __future__ import annotations

from typing import Any, Literal

from undercroft.adapters.models import chat, responses
from undercroft.adapters.models.client import Api, SdkModel
from undercroft.errors import SettingError

_APIS = {
    "chat": Api(chat.FORM, "/chat/completions", chat.body, chat.answer, chat.Gathered),
    "responses": Api(
        responses.FORM, "/responses", responses.body, responses.answer, responses.Gathered
    ),
}
SEALED = "reasoning.encrypted_content"


class OpenAIModel(SdkModel):
    """A model of OpenAI's, or of anybody who speaks like them.

        uc.Runtime(…, model=OpenAIModel(AsyncOpenAI(), "gpt-…"))

    The client's own retries are off here; its timeout, headers and key stay as they are. What is
    reasoned under the API `responses` goes back with the next request, sealed, if `effort` or
    `reasoning` is set.

    Args:
        client: An `AsyncOpenAI`, or what is derived from it.
        model: Its name, as the provider has it.
        api: `chat` for chat completions, `responses` for the Responses API, without state.
        stream: Whether answers are streamed, to whoever listens (`turn.model(on_text=…)`).
        temperature: As the provider has it.
        effort: How much it reasons, in the provider's words.
        output_tokens_max: The most that an answer may have; None: as much as the model can.
        provider: Who it is, for prices, and for whom reasoning goes back to.
        service: What breaker, limits and budgets go by; None: `provider/model`.
        parameters: Whatever else goes into the body, as the provider has it.

    Raises:
        DeclarationError: The library is not there, of a version that was not tried, or `client`
            is none of its async clients.
        SettingError: A parameter is no plain data, or belongs to the conversation.
    """

    LIBRARY = "openai"

    def __init__(  # noqa: PLR0913  each keyword is one setting
        self,
        client: Any,
        model: str,
        *,
        api: Literal["chat", "responses"] = "chat",
        stream: bool = False,
        temperature: float | None = None,
        effort: str | None = None,
        output_tokens_max: int | None = None,
        provider: str = "openai",
        service: str | None = None,
        **parameters: Any,
    ) -> None:
        if api not in _APIS:
            raise SettingError("api", api, "'chat' or 'responses'")
        settings: dict[str, Any] = {}
        if api == "responses":
            settings["store"] = False
            most = "max_output_tokens"
            if effort is not None:
                settings["reasoning"] = {"effort": effort}
            if effort is not None or "reasoning" in parameters:
                settings["include"] = [SEALED]
        else:
            most = "max_completion_tokens"
            if effort is not None:
                settings["reasoning_effort"] = effort
        if temperature is not None:
            settings["temperature"] = temperature
        if output_tokens_max is not None:
            settings[most] = output_tokens_max
        super().__init__(
            client,
            model,
            _APIS[api],
            stream=stream,
            provider=provider,
            service=service,
            parameters=settings | parameters,
        )

"""Models behind Anthropic's client library.

Needs the extra `undercroft[anthropic]`.
"""

from __future__ import annotations

from typing import Any

from undercroft.adapters.models import messages
from undercroft.adapters.models.client import Api, SdkModel
from undercroft.errors import SettingError

_API = Api(messages.FORM, "/v1/messages", messages.body, messages.answer, messages.Gathered)
# Every model takes as much, and most answers need less.
OUTPUT_TOKENS_MAX = 8_192


class AnthropicModel(SdkModel):
    """A model of Anthropic's.

        uc.Runtime(…, model=AnthropicModel(AsyncAnthropic(), "claude-…"))

    The client's own retries are off here; its timeout, headers and key stay as they are. Places
    that the window says are worth caching are marked, at most four. What the model thought goes
    back with the next request, as it was signed.

    Args:
        client: An `AsyncAnthropic`, or one of its kind for another cloud.
        model: Its name, as the provider has it.
        stream: Whether answers are streamed, to whoever listens (`turn.model(on_text=…)`).
        temperature: As the provider has it.
        effort: How much it thinks, in the provider's words.
        output_tokens_max: The most that an answer may have, thoughts included; at least 1.
        provider: Who it is, for prices, and for whom thoughts go back to.
        service: What breaker, limits and budgets go by; None: `provider/model`.
        parameters: Whatever else goes into the body, as the provider has it; `thinking`, say.

    Raises:
        DeclarationError: The library is not there, of a version that was not tried, or `client`
            is none of its async clients.
        SettingError: A parameter is no plain data, or belongs to the conversation.
    """

    LIBRARY = "anthropic"

    def __init__(  # noqa: PLR0913  each keyword is one setting
        self,
        client: Any,
        model: str,
        *,
        stream: bool = False,
        temperature: float | None = None,
        effort: str | None = None,
        output_tokens_max: int = OUTPUT_TOKENS_MAX,
        provider: str = "anthropic",
        service: str | None = None,
        **parameters: Any,
    ) -> None:
        if type(output_tokens_max) is not int or output_tokens_max < 1:
            raise SettingError("output_tokens_max", output_tokens_max, "at least 1")
        settings: dict[str, Any] = {"max_tokens": output_tokens_max}
        if temperature is not None:
            settings["temperature"] = temperature
        if effort is not None:
            settings["output_config"] = {"effort": effort}
        super().__init__(
            client,
            model,
            _API,
            stream=stream,
            provider=provider,
            service=service,
            parameters=settings | parameters,
        )

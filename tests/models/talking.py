"""Models of both providers, whole and streamed, that ask a scripted provider on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import openai

import undercroft as uc
from tests.provider import Provider
from undercroft.adapters.models import AnthropicModel, OpenAIModel
from undercroft.adapters.models.client import SdkModel
from undercroft.layers.breakers.classes import DEFAULT_TABLE, Judged
from undercroft.model.message import ToolSpec

KEY = "sk-test-0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Flavour:
    """One API of one provider, whole or streamed."""

    api: str
    stream: bool

    def __str__(self) -> str:
        return f"{self.api}-{'streamed' if self.stream else 'whole'}"

    @property
    def anthropic(self) -> bool:
        """Whether it is Anthropic's."""
        return self.api == "messages"

    @asynccontextmanager
    async def model(self, url: str, name: str = "m-1", **settings: Any) -> AsyncIterator[SdkModel]:
        """Return a model that asks the provider at `url`."""
        client: Any
        if self.anthropic:
            client = anthropic.AsyncAnthropic(base_url=url, api_key=KEY)
            model: SdkModel = AnthropicModel(client, name, stream=self.stream, **settings)
        else:
            client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY)
            api: Any = self.api
            model = OpenAIModel(client, name, api=api, stream=self.stream, **settings)
        async with client:
            yield model


FLAVOURS = [
    Flavour(api, stream) for api in ("chat", "responses", "messages") for stream in (False, True)
]
STREAMED = [flavour for flavour in FLAVOURS if flavour.stream]
WHOLE = [flavour for flavour in FLAVOURS if not flavour.stream]

HELLO = uc.ModelRequest((uc.Message("system", "Be kind."), uc.Message("user", "Hello?")))
LOOK = ToolSpec(
    "look",
    "Look something up.",
    {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
)


async def asked(
    flavour: Flavour,
    reply: Any,
    request: uc.ModelRequest = HELLO,
    *,
    seen: Callable[[Provider], None] | None = None,
    **settings: Any,
) -> uc.Answer:
    """Return what a model says of one request, to which the provider replies so."""
    with Provider([reply]) as provider:
        try:
            async with flavour.model(provider.url, **settings) as model:
                return await model.complete(request)
        finally:
            provider.release()
            if seen is not None:
                seen(provider)


async def failed(flavour: Flavour, reply: Any, **settings: Any) -> tuple[Exception, Judged]:
    """Return what a request fails by, and what that means."""
    try:
        answer = await asked(flavour, reply, **settings)
    except Exception as error:  # noqa: BLE001  whichever it is
        return error, DEFAULT_TABLE.judge(error, changes=False)
    raise AssertionError(answer)

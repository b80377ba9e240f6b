"""One prompt of an agent: what it would send, what is sent, and what came back.

Keeps: what nobody touched goes out as the agent made it.
"""

from __future__ import annotations

from typing import Any

from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, AnyMessage

from undercroft.adapters.frameworks.langchain.messages import Translated, answer_of, theirs
from undercroft.adapters.frameworks.langchain.tools import name_of
from undercroft.errors import ModelError
from undercroft.model.foreign import Sending
from undercroft.model.message import Answer, Message
from undercroft.model.step import MODEL


class Prompting:
    """One call of a model by an agent."""

    def __init__(self, given: ModelRequest[Any]) -> None:
        self.given = given
        self._response: ModelResponse[Any] | None = None

    def messages(self, translated: Translated) -> list[Message]:
        """Return all that the agent would send in our words."""
        system = self.given.system_message
        front = [] if system is None else [system]
        return translated.all([*front, *self.given.messages])

    def request_of(self, sending: Sending) -> ModelRequest[Any]:
        """Return what is sent in the agent's words."""
        given = self.given
        if sending.plain:
            return given
        first = 0 if given.system_message is None else 1
        messages: list[AnyMessage] = []
        for message, place in zip(sending.request.messages, sending.places, strict=True):
            if place is None:
                messages.append(theirs(message))
            elif place >= first:
                messages.append(given.messages[place - first])
        offered = {tool.name for tool in sending.request.tools}
        tools = [tool for tool in given.tools if name_of(tool) in offered]
        return given.override(messages=messages, tools=tools)

    def took(self, response: ModelResponse[Any]) -> Answer:
        """Return what the model answered in our words.

        Raises:
            ModelError: There is no answer in what came back.
        """
        self._response = response
        for message in response.result:
            if isinstance(message, AIMessage):
                return answer_of(message)
        raise ModelError("model", "it answered with no message", "Ask it again.")

    def answered(self) -> ModelResponse[Any]:
        """Return what came back as the agent wants it."""
        assert self._response is not None  # noqa: S101  or an error was raised
        return self._response


def model_of(model: Any) -> tuple[str, str]:
    """Return the name of a model, by which prices are looked up, and of its provider."""
    name = getattr(model, "model_name", None) or getattr(model, "model", None)
    params = getattr(model, "_get_ls_params", None)
    told = params() if callable(params) else {}
    named = name if isinstance(name, str) else told.get("ls_model_name") or ""
    return named, told.get("ls_provider") or MODEL

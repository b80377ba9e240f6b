"""The models that a turn may ask, in their order; and what of a request each of them is sent.

Keeps: each model has a service, and so a breaker, of its own; of what goes over the wire the
journal gets a digest that anybody can check who rebuilds it, and never a secret.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from undercroft.engine.codec import decode, encode
from undercroft.engine.rehearsal import Digest
from undercroft.errors import DeclarationError
from undercroft.layers.observability.redaction import Redactor
from undercroft.model.message import Listener, ModelRequest, Wire
from undercroft.model.step import MODEL
from undercroft.ports import ModelClient, WireClient

log = logging.getLogger(__name__)

_DIGEST_BYTES = 8
_json = msgspec.json.Encoder().encode


def models_of(given: Any) -> tuple[ModelClient, ...]:
    """Return the models that `model=` of a declaration means, the one to be asked first in front.

    Args:
        given: A client, a function that makes one, several in a list, or None.

    Raises:
        DeclarationError: The list is empty, holds something else, or two of it share a service.
    """
    if given is None:
        return ()
    listed = list(given) if isinstance(given, Sequence) else [given]
    models = tuple(one if _is_client(one) else one() if callable(one) else one for one in listed)
    if not models or not all(map(_is_client, models)):
        raise DeclarationError(
            "model",
            f"{given!r:.80} holds no model client, or something else",
            "Give a client, or a list of them: model=[first, second].",
        )
    services = [service_of(model, place) for place, model in enumerate(models)]
    twice = next((name for name in services if services.count(name) > 1), None)
    if twice is not None:
        raise DeclarationError(
            "model",
            f"two models share the service {twice!r}, and so a breaker",
            "Give one of them another service=.",
        )
    return models


def _is_client(given: Any) -> bool:
    return not isinstance(given, type) and hasattr(given, "complete")


def service_of(model: ModelClient, place: int = 0) -> str:
    """Return the service that a model is, which stands at `place` of those that may be asked."""
    return str(getattr(model, "service", "") or (MODEL if not place else f"{MODEL}.{place + 1}"))


def name_of(model: ModelClient) -> str:
    """Return the name of a model; empty where its client does not say."""
    return str(getattr(model, "name", "") or "")


def provider_of(model: ModelClient) -> str:
    """Return whose a model is, as price tables name it; empty where its client does not say."""
    return str(getattr(model, "provider", "") or "")


class Listening:
    """A listener to an answer's text, which cannot break the answer.

    Attributes:
        any: Whether it was told anything.
    """

    __slots__ = ("_broken", "_listener", "any")

    def __init__(self, listener: Listener) -> None:
        self._listener, self.any, self._broken = listener, False, False

    async def __call__(self, text: str) -> None:
        """Pass a piece of text on."""
        if self._broken:
            return
        self.any = True
        try:
            told = self._listener(text)
            if inspect.isawaitable(told):
                await told
        except Exception:
            # It has heard some of it, and the rest would make no sense to it.
            self._broken = True
            log.exception("on_text of a model's answer failed, and is told no more")


class Sent(NamedTuple):
    """A request as it may be written down: without secrets, and by which client it is sent."""

    client: WireClient
    request: ModelRequest
    wire: Wire

    def digest(self, output_tokens_max: int | None = None) -> str:
        """Return what stands for the JSON body, in hex; empty where the client cannot make it.

        Args:
            output_tokens_max: What a budget leaves for the answer, where it sets a limit.
        """
        request = self.request
        if output_tokens_max is not None:
            request = replace(request, output_tokens_max=output_tokens_max)
        try:
            return body_digest(self.client.body(request, self.wire))
        except Exception:
            # The same will happen where it is sent, and be its failure there.
            log.exception("the body of a request to %r cannot be made", self.client)
            return ""

    @property
    def plain(self) -> list[Any]:
        """The wire as it is given to the journal, which takes secrets out like everywhere."""
        wire = self.client.wire
        return [wire.form, wire.provider, wire.parameters]


def sent_by(
    client: ModelClient, request: ModelRequest, redactor: Redactor, seen: Digest
) -> Sent | None:
    """Return a request as it may be written down; None where the client does not say what it sends.

    Args:
        client: The model.
        request: As it goes there.
        redactor: What knows the secrets.
        seen: What may have read the request's messages already.
    """
    if not isinstance(client, WireClient) or not isinstance(client.wire, Wire):
        return None
    seen.of(request, redactor)
    wire = client.wire
    raw = encode(wire.parameters)
    hidden = redactor.raw(raw)
    if hidden is not raw:
        wire = replace(wire, parameters=decode(hidden))
    return Sent(client, seen.hidden(request, redactor), wire)


def body_digest(body: Any) -> str:
    """Return what stands for a JSON body, in hex."""
    return blake2b(_json(body), digest_size=_DIGEST_BYTES).hexdigest()


def read_wire(plain: Any) -> Wire | None:
    """Return the wire that a journal keeps; None where it is of no kind that we know."""
    match plain:
        case [str(form), str(provider), dict(parameters)]:
            return Wire(form, provider, parameters)
        case _:
            return None

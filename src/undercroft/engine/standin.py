"""What stands in for a step that failed: another tool, a function, or a value.

Keeps: it is given nothing that the step itself was not; what it is for a write is a step of its
own, with an intent of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from undercroft.engine.body import Body, Decoder, Terms, make_body
from undercroft.engine.codec import ENCODE_ERRORS, decoder, describe_problem, encode
from undercroft.errors import DeclarationError
from undercroft.layers.breakers.policy import ONCE
from undercroft.layers.conflicts.policy import Declared, declare
from undercroft.layers.sequencing.signature import Signature, read_signature
from undercroft.model.step import FALLBACK


@dataclass(frozen=True, slots=True)
class StandIn:
    """What is called where a step failed.

    Attributes:
        name: Of the tool or function; empty of a value.
        body: What it runs.
        declared: What that does to the world.
        parameters: Of the step, those that it takes too.
        defaults: Of its own parameters, by name.
        decode_step: What reads the value of the step itself back.
    """

    name: str
    body: Body
    declared: Declared
    parameters: tuple[str, ...]
    defaults: Mapping[str, Any]
    decode_step: Decoder

    def decode(self, raw: bytes) -> Any:
        """Read its recorded value back: as the step's own would be, if it is like that."""
        try:
            return self.decode_step(raw)
        except ENCODE_ERRORS:
            return self.body.decode(raw)


def make_stand_in(
    place: str, step: str, given: Any, signature: Signature, names: Mapping[str, Any]
) -> StandIn | None:
    """Return what `fallback=` of a declaration means; None where there is none.

    Args:
        place: How errors name the step.
        step: Its name.
        given: A tool, a function, or the value itself.
        signature: Of the step.
        names: Local names that annotations may use.

    Raises:
        DeclarationError: It asks for an argument that the step does not have, for a person's
            word, or is no data.
    """
    if given is None:
        return None
    title, own = step + FALLBACK, decoder(signature.returns)
    if not callable(given):
        return _value(place, title, given, own)
    fn = getattr(given, "fn", given)
    taken = read_signature(fn, f"fallback of {place}", names)
    known = {p.name for p in signature.parameters}
    for p in taken.parameters:
        if p.required and p.name not in known:
            raise DeclarationError(
                place,
                f"its fallback takes {p.name!r}, which it does not take itself",
                f"Use only its own parameters: {', '.join(sorted(known)) or 'none'}.",
            )
    parameters = tuple(p.name for p in taken.parameters if p.name in known)
    defaults = {p.name: p.default for p in taken.parameters if not p.required}
    declared = getattr(given, "declared", None)
    if declared is None:  # a plain function, which is taken at its word that it changes nothing
        pure = declare({}, pure=True, service=None, known=[])
        body = make_body(title, fn, taken, pure, Terms(), names=names)
        return StandIn(fn.__name__, body, pure, parameters, defaults, own)
    if given.rules.approval:
        raise DeclarationError(
            place,
            f"its fallback {given.name!r} needs a person's word",
            "Name a tool that needs none, or let the model propose that one.",
        )
    return StandIn(given.name, replace(given.body, name=title), declared, parameters, defaults, own)


def _value(place: str, title: str, value: Any, own: Decoder) -> StandIn:
    value = getattr(value, "value", value) if type(value).__name__ == "Fallback" else value
    try:
        encode(value)
    except ENCODE_ERRORS as error:
        raise DeclarationError(
            place,
            f"its fallback cannot be recorded ({describe_problem(value, error)})",
            "Give plain data, a function or a tool.",
        ) from None

    async def stand_in() -> Any:
        return value

    kind = type(value) if value is not None else Any
    body = Body(
        name=title,
        fn=stand_in,
        is_async=True,
        injected={},
        changes=False,
        timeout_s=None,
        retry=ONCE,
        verify=None,
        keyed=False,
        plain=True,
        decode=decoder(kind),
    )
    return StandIn("", body, declare({}, pure=True, service=None, known=[]), (), {}, own)


def is_changing(given: Any) -> bool:
    """Whether a fallback, as it was given, may change the world."""
    effect = getattr(given, "effect", None)
    return bool(effect is not None and effect.changes)

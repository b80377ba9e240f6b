"""The inputs of a turn: checked before it begins, and read back typed when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from undercroft.engine.body import Decoder
from undercroft.engine.codec import ENCODE_ERRORS, decode, describe_problem, encode
from undercroft.engine.handler import Handler
from undercroft.engine.targets import Target
from undercroft.errors import InputError

_raw_inputs = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode


def parameters(target: Target) -> dict[str, bool]:
    """The inputs of a target, and whether each must be given."""
    if isinstance(target, Handler):
        return {p.name: p.required for p in target.signature.parameters}
    return {name: p.required for name, p in target.build().plan.inputs.items()}


def encoded_inputs(target: Target, inputs: dict[str, Any]) -> bytes:
    """Return the inputs as the journal keeps them.

    Raises:
        InputError: One is missing, unknown, or cannot be written as data.
    """
    place = target.name
    known = parameters(target)
    for name in inputs:
        if name not in known:
            raise InputError(
                place, f"it takes no input {name!r}", f"It takes: {', '.join(known) or 'none'}."
            )
    for name, required in known.items():
        if required and name not in inputs:
            raise InputError(place, f"input {name!r} is missing", f"Pass {name}=….")
    try:
        return encode(inputs)
    except ENCODE_ERRORS as error:
        raise InputError(
            place,
            f"an input cannot be recorded ({describe_problem(inputs, error)})",
            "Pass plain data, dataclasses or pydantic models.",
        ) from error


def decoded_inputs(target: Target, raw: msgspec.Raw) -> dict[str, Any]:
    """Return recorded inputs as the target's annotations say."""
    decoders: Mapping[str, Decoder]
    decoders = (
        target.input_decoders if isinstance(target, Handler) else target.build().input_decoders
    )
    return {name: decoders.get(name, decode)(value) for name, value in _raw_inputs(raw).items()}

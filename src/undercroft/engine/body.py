"""The body of a step: what is called, and the declared policies that surround the call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from undercroft.errors import DeclarationError
from undercroft.layers.breakers.policy import ONCE, Retry, checked_timeout
from undercroft.layers.sequencing.signature import Signature, read_signature
from undercroft.model.inject import IdempotencyKey

Decoder = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Body:
    """What a step runs.

    Attributes:
        name: As the journal names it.
        injected: Parameters that the runtime fills in, by name.
        changes: Whether it may change the world.
        verify: What can say whether this write happened.
        keyed: Whether it takes an idempotency key, so that repeating it is safe.
        plain: Whether nothing surrounds the call: async, no injection, retry or timeout.
        decode: Reads a recorded value back as the function's annotation says.
    """

    name: str
    fn: Callable[..., Any]
    is_async: bool
    injected: Mapping[str, type]
    changes: bool
    timeout_s: float | None
    retry: Retry
    verify: Verify | None
    keyed: bool
    plain: bool
    decode: Decoder


@dataclass(frozen=True, slots=True)
class Verify:
    """What says whether a write happened.

    Attributes:
        name: Of the function or tool.
        parameters: Those that it shares with the write, by name.
        reads: Whether it is a tool that reads a resource and takes no idempotency key: then
            its answer is a state, to be compared with the one that the turn saw before.
    """

    name: str
    fn: Callable[..., Any]
    is_async: bool
    parameters: tuple[str, ...]
    injected: Mapping[str, type]
    reads: bool


def make_body(  # noqa: PLR0913  one place where a declaration comes together
    name: str,
    fn: Callable[..., Any],
    signature: Signature,
    decode: Decoder,
    *,
    changes: bool,
    timeout_s: float | None,
    retry: Retry | None,
    verify: Verify | None,
) -> Body:
    """Return the body of a step.

    Raises:
        SettingError: The timeout is not above 0.
    """
    policy = retry or ONCE
    limit_s = checked_timeout(timeout_s)
    return Body(
        name=name,
        fn=fn,
        is_async=signature.is_async,
        injected=signature.injected,
        changes=changes,
        timeout_s=limit_s,
        retry=policy,
        verify=verify,
        keyed=IdempotencyKey in signature.injected.values(),
        plain=(
            signature.is_async and not signature.injected and limit_s is None and policy is ONCE
        ),
        decode=decode,
    )


def make_verify(
    place: str, verify: Any, signature: Signature, names: Mapping[str, Any]
) -> Verify | None:
    """Return what `verify=` of a declaration means, checked against the write it is for.

    Raises:
        DeclarationError: It asks for an argument that the write does not have.
    """
    if verify is None:
        return None
    fn = getattr(verify, "fn", verify)
    if not callable(fn):
        raise DeclarationError(place, f"verify={verify!r} is not a function", "Give a function.")
    name = getattr(verify, "name", fn.__name__)
    asked = read_signature(fn, f"verify {name!r} of {place}", names)
    known = {p.name for p in signature.parameters}
    for p in asked.parameters:
        if p.name not in known and p.required:
            raise DeclarationError(
                place,
                f"its verify {name!r} takes {p.name!r}, which the write does not",
                f"Use only parameters of the write: {', '.join(sorted(known)) or 'none'}.",
            )
    keyed = IdempotencyKey in asked.injected.values()
    effect = getattr(verify, "effect", None)
    return Verify(
        name=name,
        fn=fn,
        is_async=inspect.iscoroutinefunction(fn),
        parameters=tuple(p.name for p in asked.parameters if p.name in known),
        injected=asked.injected,
        reads=effect is not None and not keyed,
    )

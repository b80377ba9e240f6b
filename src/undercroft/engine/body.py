"""The body of a step: what is called, and the declared policies that surround the call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from undercroft.engine.codec import decoder
from undercroft.errors import DeclarationError, SettingError
from undercroft.layers.breakers.policy import (
    NO_BUDGET,
    Budget,
    RetryPolicy,
    checked_number,
    checked_timeout,
)
from undercroft.layers.breakers.spend import to_nano
from undercroft.layers.conflicts.keys import KeyProblem
from undercroft.layers.conflicts.policy import Declared
from undercroft.layers.conflicts.resource import Resource, Resources
from undercroft.layers.conflicts.strength import Use
from undercroft.layers.observability.annotated import is_secret, secret_fields
from undercroft.layers.sequencing.signature import Signature, read_signature
from undercroft.model.effect import Mode
from undercroft.model.inject import Fence, IdempotencyKey
from undercroft.ports import ModelClient

Decoder = Callable[[Any], Any]
Version = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Body:
    """What a step runs.

    Attributes:
        name: As the journal names it.
        injected: Parameters that the runtime fills in, by name.
        changes: Whether it may change the world.
        verify: What can say whether this write happened.
        keyed: Whether it takes an idempotency key, so that repeating it is safe.
        retry: When to try again; None: as its service has it.
        plain: Whether nothing of its own surrounds the call but a timeout: async, no
            injection, retry or budget.
        decode: Reads a recorded value back as the function's annotation says.
        service: Name of what it talks to, or None.
        version: What makes of its result what tells one state of a resource from another.
        budget: For all attempts of one step; what the runtime says if nothing is limited.
        usd_nano: What an attempt costs, in billionths of a dollar.
        secrets: Names of parameters and fields that are annotated `uc.Secret`.
        secret: Whether what it returns is.
        model: Whom it asks, if it asks a model.
        digest: Returns what stands for what that is sent, by the most that it may answer.
    """

    name: str
    fn: Callable[..., Any]
    is_async: bool
    injected: Mapping[str, type]
    changes: bool
    timeout_s: float | None
    retry: RetryPolicy | None
    verify: Verify | None
    keyed: bool
    plain: bool
    decode: Decoder
    service: str | None = None
    version: Version | None = None
    budget: Budget = NO_BUDGET
    usd_nano: int = 0
    secrets: frozenset[str] = frozenset()
    secret: bool = False
    model: ModelClient | None = None
    digest: Callable[[int | None], str] | None = None


@dataclass(frozen=True, slots=True)
class Verify:
    """What says whether a write happened.

    Attributes:
        name: Of the function or tool.
        parameters: Those that it shares with the write, by name.
        reads: Whether it is a tool that reads a resource and takes no idempotency key: then
            its answer is a state, to be compared with the one that the turn saw before.
        service: What it talks to, if it is a tool that says so; else that of the write.
    """

    name: str
    fn: Callable[..., Any]
    is_async: bool
    parameters: tuple[str, ...]
    injected: Mapping[str, type]
    reads: bool
    service: str | None


class Terms(NamedTuple):
    """What a declaration says of its calls; see `undercroft.tool`."""

    service: str | None = None
    timeout_s: float | None = None
    retry: RetryPolicy | None = None
    verify: Callable[..., Any] | None = None
    version: Version | None = None
    budget: Budget | None = None
    usd: float = 0.0


def make_body(  # noqa: PLR0913  one place where a declaration comes together
    name: str,
    fn: Callable[..., Any],
    signature: Signature,
    declared: Declared,
    terms: Terms,
    *,
    names: Mapping[str, Any],
) -> Body:
    """Return the body of a step.

    Raises:
        DeclarationError: Its verify or its version cannot be used, or a key names a secret.
        SettingError: The timeout is not above 0, or the price is below it.
    """
    service, timeout_s, retry, verify, version, budget, usd = terms
    checked_number("usd", usd, least=0)
    if not isinstance(budget, Budget | None):
        raise SettingError("budget", budget, "an uc.Budget")
    if not isinstance(retry, RetryPolicy | None):
        raise SettingError("retry", retry, "an uc.Retry")
    limit_s = checked_timeout(timeout_s)
    place = signature.place
    secrets = secrets_of(signature)
    _check_keys(place, secrets, declared)
    reads = bool(declared.effect.keys(Mode.READ))
    return Body(
        name=name,
        fn=fn,
        is_async=signature.is_async,
        injected=signature.injected,
        changes=declared.effect.changes,
        timeout_s=limit_s,
        retry=retry,
        verify=make_verify(place, verify, signature, names),
        keyed=IdempotencyKey in signature.injected.values(),
        plain=(
            signature.is_async
            and not signature.injected
            and retry is None
            and not budget
            and not usd
        ),
        decode=decoder(signature.returns),
        service=service,
        version=checked_version(place, version, reads=reads),
        budget=budget or NO_BUDGET,
        usd_nano=to_nano(usd),
        secrets=secrets,
        secret=is_secret(signature.returns),
    )


def secrets_of(signature: Signature) -> frozenset[str]:
    """Return the names of secret parameters of a function, and of secret fields in its types."""
    named = {p.name for p in signature.parameters if is_secret(p.annotation)}
    return frozenset(named) | secret_fields(
        [signature.returns, *(p.annotation for p in signature.parameters)]
    )


def _check_keys(place: str, secrets: frozenset[str], declared: Declared) -> None:
    for parameter in declared.parameters:
        if parameter in secrets:
            raise DeclarationError(
                place,
                f"a key names {{{parameter}}}, which is annotated uc.Secret",
                "Name the resource by something that may be read: keys are written in the clear.",
            )


def checked_version(place: str, version: Any, *, reads: bool) -> Version | None:
    """Return what `version=` of a declaration says.

    Raises:
        DeclarationError: It is no plain function, or there is nothing of which it could be.
    """
    if version is None:
        return None
    if not callable(version) or inspect.iscoroutinefunction(inspect.unwrap(version)):
        raise DeclarationError(
            place,
            f"version={version!r} is not a plain function",
            "Give one that takes the result: version=lambda record: record.etag.",
        )
    if not reads:
        raise DeclarationError(
            place,
            "it has a version=, but declares no reads=",
            'Say which resource its result is a state of: reads="crm/{account_id}".',
        )
    made: Version = version
    return made


def checked_expiry(expires_s: Any, *, asks: bool) -> float | None:
    """Return the seconds for which a person's word counts.

    Raises:
        SettingError: It is not above 0, or nobody is asked.
    """
    if expires_s is None:
        return None
    if not asks:
        raise SettingError("expires_s", expires_s, "left out where nobody has to approve")
    # Written so that NaN fails too.
    if isinstance(expires_s, bool) or not isinstance(expires_s, int | float) or not expires_s > 0:
        raise SettingError("expires_s", expires_s, "above 0")
    return float(expires_s)


def known_resources(
    place: str, given: Sequence[Resource], declared: Iterable[Declared]
) -> Resources:
    """Return the resources that were given, and those that a tool or step names as such.

    Raises:
        DeclarationError: Two of them may be meant by one key, or something else was given.
    """
    if not isinstance(given, Sequence):
        raise DeclarationError(
            place, f"resources={given!r} is not a list", "Give a list: resources=[account]."
        )
    named = (resource for effect in declared for resource in effect.used)
    # Nothing is said twice by naming it in several places.
    found: list[Resource] = []
    for resource in (*given, *named):
        if resource not in found:
            found.append(resource)
    return Resources(tuple(found))


def respelled(place: str, declared: Declared, resources: Resources) -> Declared:
    """Return an effect in the spelling under which `resources` claim its keys.

    Raises:
        DeclarationError: A `normal=` fails on a literal of a key.
    """
    try:
        return declared.under(resources)
    except KeyProblem as problem:
        raise DeclarationError(place, str(problem), "Mend the normal= of its resource.") from None


def use_of(name: str, declared: Declared, body: Body) -> Use:
    """Return what a tool or step does with resources, as far as fences are concerned."""
    fenced = Fence in body.injected.values()
    return Use(name, declared, fenced, body.version is not None)


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
        service=getattr(verify, "service", None),
    )

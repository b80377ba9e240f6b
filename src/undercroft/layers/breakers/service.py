"""What may be declared about a service: everything that tools talk to, models included.

Keeps: a service about which nothing was said has a breaker all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from undercroft.errors import DeclarationError, SettingError
from undercroft.layers.breakers.classes import Classify, ErrorRule
from undercroft.layers.breakers.policy import (
    DEFAULT_BREAKER,
    DEFAULT_LIMIT,
    DEFAULT_RATIO,
    NO_BUDGET,
    BreakerPolicy,
    Budget,
    LimitPolicy,
    RetryPolicy,
    RetryRatio,
    checked_timeout,
)

# Of a model, whose failures are seldom more than a moment's: its answers have no effect.
MODEL_RETRY = RetryPolicy(attempts=4, wait_s=0.5, wait_max_s=20.0)


@dataclass(frozen=True, slots=True)
class Service:
    """A service by its name, as `service=` of a tool has it.

    Attributes:
        name: `model`, or the client's own `service`, for what `turn.model()` asks.
        breaker: When to stop calling it; None: never, and nothing is counted.
        retry: For its tools that have no retry of their own; None: they are tried once, and
            models four times.
        ratio: How many retries it is given, beside its calls.
        limit: How calls in flight are limited once it says that they are too many.
        budget: Of all calls to it, of all turns and processes, as long as the journal lives.
            Each call asks the store about it first; where that does not answer within a
            quarter of a second, the process goes on by itself.
        timeout_s: Seconds for an attempt of a tool that has none of its own; above 0.
        errors: What its errors mean, looked at before the table of ours.
        classify: The same as a function: of an error, its class, or None.

    Raises:
        SettingError: A setting is outside its range.
    """

    name: str
    breaker: BreakerPolicy | None = DEFAULT_BREAKER
    retry: RetryPolicy | None = None
    ratio: RetryRatio = DEFAULT_RATIO
    limit: LimitPolicy = DEFAULT_LIMIT
    budget: Budget = NO_BUDGET
    timeout_s: float | None = None
    errors: Sequence[ErrorRule] = ()
    classify: Classify | None = None

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise SettingError("name", self.name, "the name of a service")
        kinds = (
            ("breaker", BreakerPolicy, True),
            ("retry", RetryPolicy, True),
            ("ratio", RetryRatio, False),
            ("limit", LimitPolicy, False),
            ("budget", Budget, False),
        )
        for field, kind, optional in kinds:
            value = getattr(self, field)
            if not isinstance(value, kind) and not (optional and value is None):
                expected = f"an uc.{kind.__name__.replace('RetryPolicy', 'Retry')}"
                raise SettingError(field, value, f"{expected}, or None" if optional else expected)
        checked_timeout(self.timeout_s)
        fits = isinstance(self.errors, Sequence)
        if not fits or not all(isinstance(rule, ErrorRule) for rule in self.errors):
            raise SettingError("errors", self.errors, "a list of uc.ErrorRule")
        if self.classify is not None and not callable(self.classify):
            raise SettingError("classify", self.classify, "a function, or None")


def named(services: Iterable[Service]) -> dict[str, Service]:
    """Return services by their names.

    Raises:
        DeclarationError: Something else was given, or one twice.
    """
    found: dict[str, Service] = {}
    for service in services:
        if not isinstance(service, Service):
            raise DeclarationError(
                "services", f"{service!r} is not a service", 'Give uc.Service("crm", …).'
            )
        if service.name in found:
            raise DeclarationError(
                "services", f"{service.name!r} is given twice", "Say all of it in one."
            )
        found[service.name] = service
    return found

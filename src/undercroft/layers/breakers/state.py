"""What an error means for another attempt, and how long to wait before it.

Keeps: a write of which nobody can say whether it happened is `unknown`, never `transient`.
Source of the wait: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015
(full jitter).
"""

from __future__ import annotations

from undercroft.errors import DeadlineError, UnknownOutcomeError
from undercroft.layers.breakers.policy import RetryPolicy
from undercroft.model.step import ErrorClass

_RETRIED = frozenset({ErrorClass.TRANSIENT, ErrorClass.OVERLOADED})


def classify(error: BaseException, *, changes: bool) -> ErrorClass:
    """Return the class of `error`, raised by a step that `changes` the world or only reads."""
    match error:
        case UnknownOutcomeError():
            return ErrorClass.UNKNOWN
        case ConnectionRefusedError():
            # The request never reached anybody, so even a write did not happen.
            return ErrorClass.TRANSIENT
        case TimeoutError() | ConnectionError() | DeadlineError():
            return ErrorClass.UNKNOWN if changes else ErrorClass.TRANSIENT
        case _:
            return ErrorClass.PERMANENT


def next_wait_s(
    policy: RetryPolicy, error_class: ErrorClass, *, attempt: int, jitter: float
) -> float | None:
    """Return how long to wait before the attempt after `attempt`; None for no more.

    Args:
        policy: How often, how long.
        error_class: Of the attempt that failed.
        attempt: The one that failed, from 1.
        jitter: From 0 to below 1.
    """
    if attempt >= policy.attempts or error_class not in _RETRIED:
        return None
    bound_s: float = min(policy.wait_max_s, policy.wait_s * 2.0 ** (attempt - 1))
    return bound_s * jitter

"""What is left when a call came to nothing: something that stands in, or a turn that says so.

Keeps: an answer that is no is an answer, and no reason to look elsewhere; a write of which
nobody knows whether it happened is no failure yet.
"""

from __future__ import annotations

from undercroft.layers.breakers.known import Blame
from undercroft.model.step import ErrorClass, Failure, Refusal, StepStatus

# Rules by which a call is not made although nothing is wrong with it.
GIVEN_UP = frozenset(
    {
        "breakers.open",
        "breakers.overloaded",
        "breakers.budget",
        "breakers.unpriced",
        "breakers.deadline",
    }
)
_THEIRS = (Blame.VENDOR, Blame.ACCOUNT)
_RETRIED = (ErrorClass.TRANSIENT, ErrorClass.OVERLOADED)


def came_to_nothing(status: StepStatus, error: Failure | None, refusal: Refusal | None) -> bool:
    """Whether a call failed, or was not made, for a reason that is not its own."""
    if refusal is not None:
        return refusal.rule in GIVEN_UP
    return status is StepStatus.FAILED and error is not None and error.blame in _THEIRS


def is_missing(
    status: StepStatus, error: Failure | None, refusal: Refusal | None, service: str | None
) -> bool:
    """Whether the turn has to do without what was called, and should say so.

    Of a tool that names no service only what was tried again counts: nobody said that it calls
    anything.
    """
    if not came_to_nothing(status, error, refusal):
        return False
    return (
        service is not None
        or refusal is not None
        or (error is not None and error.error_class in _RETRIED)
    )


def in_words(error: Failure | None, refusal: Refusal | None) -> str:
    """Return why something is missing."""
    if refusal is not None:
        return refusal.message
    return str(error) if error is not None else "it failed"

"""What the engine asks before it takes a turn up: is all that it goes on with known here?"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from undercroft.errors import RedactedError
from undercroft.layers.observability.redaction import Redactor

_MEND = (
    "Give what it was to the process that resumes it: rt.resume(turn_id, secrets=[…]) or "
    "uc.Runtime(…, redaction=uc.Redaction(values=[…])), with the journal's -key file beside it; "
    "or begin a new turn."
)


def check_known(
    turn_id: str, frames: Iterable[bytes], redactor: Redactor, apart: Collection[str] = ()
) -> None:
    """Raise if `frames`, with which the turn goes on, hold marks of secrets unknown here.

    Args:
        turn_id: The turn.
        frames: All that it goes on with.
        redactor: What knows its secrets.
        apart: Marks that it need not know.

    Raises:
        RedactedError: They do.
    """
    count = sum(mark not in apart for mark in redactor.unknown(frames))
    if count:
        values = "a value" if count == 1 else f"{count} values"
        problem = f"{values} it goes on with was redacted, and is not known here"
        raise RedactedError(turn_id, problem, _MEND)

"""What an approval binds to, and when a word on it counts for nothing any more.

Keeps: a person agrees to exact arguments and to the state of what they saw; neither may have
changed when the step runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from undercroft.model.event import ApprovalAsked
from undercroft.model.ids import fingerprint


def binding(asked: ApprovalAsked) -> bytes:
    """Return what a word on `asked` binds to: arguments, versions read, and the journal."""
    versions: Sequence[Sequence[str]] = [list(pair) for pair in asked.versions]
    return fingerprint([asked.name, bytes(asked.args), versions, asked.journal, asked.at])


def lapsed(asked: ApprovalAsked, *, at: float, copy_id: str) -> str:
    """Return why a word on `asked` counts for nothing at time `at`: `copied`, `expired` or empty.

    A journal that was copied may have been acted upon where it was copied from.
    """
    if asked.journal and asked.journal != copy_id:
        return "copied"
    if asked.expires_at is not None and at > asked.expires_at:
        return "expired"
    return ""

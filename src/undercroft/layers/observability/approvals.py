"""What a person was shown who decided on a step, each time that somebody was asked.

Keeps: what is told is what was written down when the question was put, and not what the record
has become since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from undercroft.model.event import AnyEvent, ApprovalAsked, ApprovalDecided, ApprovalVoided

_decode = msgspec.msgpack.Decoder().decode


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to a person, and what came of it.

    Attributes:
        n: Number of the step.
        arguments: Exactly what would be done.
        versions: Of what the turn had read, as (key, version).
        fingerprint: Hex of what the answer is bound to.
        expires_at: After which a word on it counts for nothing, or None.
        word: `approved`, `rejected`, `void`, or empty where nobody has said anything.
        by: Who said it.
        why: The reason that was given; of what is void, `changed`, `expired` or `copied`.
    """

    n: int
    name: str
    at: float
    arguments: Any
    versions: tuple[tuple[str, str], ...]
    fingerprint: str
    expires_at: float | None = None
    word: str = ""
    by: str = ""
    decided_at: float | None = None
    why: str = ""


def questions(events: Iterable[AnyEvent]) -> tuple[Asked, ...]:
    """Return every question that a turn put to a person, in their order."""
    found: list[Asked] = []
    last: dict[int, int] = {}
    for event in events:
        match event:
            case ApprovalAsked():
                last[event.n] = len(found)
                found.append(
                    Asked(
                        event.n,
                        event.name,
                        event.at,
                        _decode(event.args),
                        event.versions,
                        event.fp.hex(),
                        event.expires_at,
                    )
                )
            case ApprovalDecided() if event.n in last:
                word = "approved" if event.granted else "rejected"
                _answer(found, last[event.n], word, event.by, event.at, event.reason)
            case ApprovalVoided() if event.n in last:
                was = found[last[event.n]]
                _answer(found, last[event.n], "void", was.by, event.at, event.why)
            case _:
                pass
    return tuple(found)


def _answer(  # noqa: PLR0913, PLR0917  what a word has
    found: list[Asked], place: int, word: str, by: str, at: float, why: str
) -> None:
    was = found[place]
    found[place] = Asked(
        was.n,
        was.name,
        was.at,
        was.arguments,
        was.versions,
        was.fingerprint,
        was.expires_at,
        word,
        by,
        at,
        why,
    )

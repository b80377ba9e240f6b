"""Questions to a person: how they are asked, and asked again where the answer counts no more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from undercroft.engine.codec import encode
from undercroft.engine.owning import Owner, Read
from undercroft.layers.sequencing.approval import binding, lapsed
from undercroft.model.event import NIL, NIL_BYTES, ApprovalAsked, ApprovalVoided
from undercroft.model.outcome import Changed, Waiting
from undercroft.model.step import step_id

_decode = msgspec.msgpack.Decoder().decode


def question(asked: ApprovalAsked, voided: ApprovalVoided | None = None) -> Waiting:
    """Return what an outcome says of a step that waits for a person."""
    changed: tuple[Changed, ...] = ()
    if voided is not None and bytes(voided.changed) != NIL_BYTES:
        changed = tuple(Changed(*each) for each in _decode(voided.changed))
    return Waiting(
        step_id(asked.name, asked.n),
        asked.name,
        _decode(asked.args),
        asked.at,
        binding(asked).hex(),
        voided.why if voided is not None else "",
        changed,
        asked.expires_at,
    )


def in_order(waiting: Iterable[Waiting]) -> tuple[Waiting, ...]:
    """Return questions in the order of their steps, whoever asked them first."""
    return tuple(sorted(waiting, key=lambda each: int(each.step_id.rpartition(".")[2])))


async def voided(
    asked: ApprovalAsked, owner: Owner, read: Read, *, at: float, copy_id: str
) -> ApprovalVoided | None:
    """Return why a yes to `asked` counts for nothing now, or None where it holds."""
    why = lapsed(asked, at=at, copy_id=copy_id)
    if why:
        return ApprovalVoided(asked.n, why, at)
    changed = await owner.changes(asked.n, asked.versions, read)
    if not changed:
        return None
    return ApprovalVoided(asked.n, "changed", at, _told(changed))


def _told(changed: list[Changed]) -> msgspec.Raw:
    told: list[Any] = [[each.key, each.was, each.now] for each in changed]
    return msgspec.Raw(encode(told)) if told else NIL

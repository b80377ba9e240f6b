"""What guards did in a turn of ours, other than refuse a call, told from its events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from undercroft.model.effect import Mode
from undercroft.model.event import (
    NIL_BYTES,
    AnyEvent,
    ApprovalAsked,
    ApprovalVoided,
    ContextAlarmed,
    ContextCompacted,
    ContextOpened,
    DoubtSettled,
    PromptAssembled,
    ResourceOwned,
    StepRetried,
    StepWaited,
    VersionChecked,
)

_MODES = frozenset(str(mode) for mode in Mode)
_decode = msgspec.msgpack.Decoder().decode


def waited_rule(claim: str) -> str:
    """Return the rule by which a step waited: for a claim, or for a place under a limit."""
    waits = claim.split(" ", 1)[0] in _MODES
    return "conflicts.waited" if waits else "parallelism.limited"


def acts_of(events: Iterable[AnyEvent]) -> Iterator[tuple[int, str, str]]:  # noqa: C901  one case an event
    """Yield what guards did, as (number of the step, rule, words)."""
    for event in events:
        match event:
            case StepRetried():
                words = f"attempt {event.attempt} failed: {event.error}"
                yield event.n, "breakers.retry", words
            case StepWaited():
                yield event.n, waited_rule(event.claim), f"{event.claim} behind {event.behind}"
            case ApprovalAsked():
                yield event.n, "sequencing.approval", event.name
            case ApprovalVoided():
                yield event.n, "sequencing.approval_void", event.why
            case VersionChecked(same=False):
                yield event.n, "conflicts.changed", f"{', '.join(event.keys)}: {event.why}"
            case ResourceOwned() if event.taken_from:
                words = f"{', '.join(event.keys)} from {event.taken_from}"
                yield event.n, "conflicts.taken_over", words
            case DoubtSettled():
                yield event.n, "sequencing.settled", f"{event.how} by {event.by}"
            case ContextCompacted():
                words = f"{event.why}: {event.before} to {event.after} tokens"
                yield event.n, "context.compacted", words
            case PromptAssembled() if event.capped:
                words = f"{len(event.capped)} results cut when they arrived"
                yield event.n, "context.capped", words
            case ContextAlarmed():
                yield event.n, "context.alarmed", event.why
            case _:
                pass


def window_of(events: Iterable[AnyEvent]) -> int | None:
    """Return the size of the model's window, where the turn wrote its policy down."""
    for event in events:
        if isinstance(event, ContextOpened) and bytes(event.settings) != NIL_BYTES:
            settings = _decode(event.settings)
            limit = settings.get("limit_tokens") if isinstance(settings, Mapping) else None
            return limit if isinstance(limit, int) else None
    return None

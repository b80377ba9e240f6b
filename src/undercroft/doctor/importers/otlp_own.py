"""What only our own exporter says on a span: claims, refusals, guards, and prompts as they grow.

Keeps: what the journal held comes back as the same facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from undercroft.doctor.arguments import as_text, read_value
from undercroft.doctor.importers import otlp_messages as messages
from undercroft.doctor.importers.otlp_spans import Span
from undercroft.doctor.importers.said import Said
from undercroft.doctor.importers.spans import Kind
from undercroft.doctor.importers.times import read_count
from undercroft.model import genai
from undercroft.model.case import Access, Basis, CallStatus, Case, Facet, Touch

_STATUSES = {
    "ok": CallStatus.OK,
    "failed": CallStatus.FAILED,
    "refused": CallStatus.REFUSED,
    "waiting": CallStatus.WAITING,
}
_ACCESS = {one.value: one for one in Access}
_ENDED = frozenset({"done", "degraded", "failed", "waiting"})
_CHARS_MAX = 100_000
_MESSAGES_MAX = 2_000_000


def own(span: Span) -> dict[str, Any]:
    """Return what our exporter says on a span, as fields; nothing of others' spans."""
    if span.first(genai.TURN_ID) is None:
        return {}
    acts = tuple(
        (rule, _text(event.attributes.get(genai.ACT_DETAIL)))
        for event in span.events
        if (rule := _text(event.attributes.get(genai.ACT_RULE)))
    )
    found: dict[str, Any] = {"acts": acts}
    if span.first(genai.STEP_ID) is None:
        delivered = span.attributes.get(genai.TURN_DELIVERED)
        failed = span.first(genai.TURN_STATUS) == "failed"
        error = span.text(genai.ERROR) if failed else ""
        return found | {
            # The turn itself is nobody: whoever acted is a branch of it, or it has no name.
            "kind": Kind.OTHER,
            "actor": "",
            "given": tuple(_given(span.attributes.get(genai.TURN_INPUT))),
            "gave": None if delivered is None else _text(delivered),
            "error": error,
        }
    status = span.text(genai.STEP_STATUS)
    access = _ACCESS.get(span.text(genai.ACCESS))
    return found | {
        "status": _STATUSES.get(status, CallStatus.UNKNOWN),
        "declared": True,
        "error": span.text(genai.ERROR) or span.text(genai.REFUSAL),
        "error_class": span.text(genai.ERROR_CLASS),
        "rule": span.text(genai.RULE),
        "attempt": max(1, read_count(span.first(genai.ATTEMPT)) or 1),
        "actor": span.text(genai.BRANCH),
        "access": access,
        "touches": _touches(span.attributes.get(genai.CLAIMS)),
        "causes": span.links,
    }


def retold(spans: Sequence[Span]) -> dict[int, str]:
    """Return which spans tell of what a later one tells of again, and the span that takes over.

    A turn that parks is told of when it does, and again when it goes on.
    """
    last: dict[tuple[str, str], Span] = {}
    found: dict[int, str] = {}
    for span in spans:
        turn = span.text(genai.TURN_ID)
        if not turn or not span.span_id:
            continue
        key = (turn, span.text(genai.STEP_ID))
        known = last.get(key)
        if known is not None and known.span_id == span.span_id:
            found[known.step] = span.span_id
        last[key] = span
    return found


def finished_of(spans: Iterable[Span]) -> bool | None:
    """Return whether the turn came to an end or waits for a person; None: not ours."""
    found = None
    for span in spans:
        status = span.text(genai.TURN_STATUS)
        if status:
            found = status in _ENDED
    return found


class Prompts:
    """The prompts of a turn, put together again from what each added to the one before.

    Args:
        spans: Of one trace; those of others' are left alone.
    """

    def __init__(self, spans: Iterable[Span]) -> None:
        self._whole: dict[int, tuple[Said, ...] | None] = {}
        lines: dict[str, tuple[Said, ...] | None] = {}
        asks = [span for span in spans if genai.PROMPT_DELTA in span.attributes]
        held = 0
        for span in sorted(asks, key=lambda one: read_count(one.first(genai.STEP_NUMBER)) or 0):
            branch = span.text(genai.BRANCH)
            before = lines.get(branch, ())
            added = messages.sent(span)
            # What a compaction left of a prompt, its spans do not say.
            shrunk = any(
                event.attributes.get(genai.ACT_RULE) == "context.compacted" for event in span.events
            )
            if before is None or added is None or shrunk or held > _MESSAGES_MAX:
                lines[branch] = self._whole[span.step] = None
                continue
            lines[branch] = self._whole[span.step] = (*before, *added)
            held += len(before) + len(added)

    def of(self, span: Span) -> tuple[Said, ...] | None:
        """Return all that a model was sent; None where that cannot be told."""
        return self._whole.get(span.step)


def _touches(raw: Any) -> tuple[Touch, ...]:
    claims = raw if isinstance(raw, list) else ()
    pairs = (claim.partition(" ") for claim in claims if isinstance(claim, str))
    return tuple(Touch(mode, _plain(key)) for mode, _, key in pairs if mode)


def _plain(key: str) -> str:
    """Return a key with its parts as results and texts spell them."""
    return "/".join(unquote(part).replace("/", "%2F") for part in key.split("/"))


def _given(raw: Any) -> Iterator[Said]:
    """Yield what a turn was given: somebody said it, if no prompt says that."""
    held = read_value(raw) if isinstance(raw, str) else None
    if isinstance(held, dict):
        yield from (Said("user", text) for value in held.values() if (text := as_text(value)))


def also_shown(case: Case) -> Case:
    """Return a turn of ours with what its record shows even where nothing of it happened.

    That no guard acted, and that a step touches nothing, is told as well; and what a model is shown
    of a call that did not end well is no result of it.
    """
    calls = tuple(
        call if call.status is CallStatus.OK else replace(call, result=None) for call in case.calls
    )
    declared = [call for call in case.calls if call.access_basis is Basis.DECLARED]
    facets = {Facet.GUARDS} | ({Facet.EFFECTS} if declared else set())
    by_tool: dict[str, dict[Touch, None]] = {}
    for call in declared:
        by_tool.setdefault(call.name, {}).update(dict.fromkeys(call.touches))
    known = {name: tuple(touches) for name, touches in by_tool.items()}
    return replace(case, calls=calls, shows=case.shows | facets, declared=known or None)


def _text(raw: Any) -> str:
    return raw[:_CHARS_MAX] if isinstance(raw, str) else ""

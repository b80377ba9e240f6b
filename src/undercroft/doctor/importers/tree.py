"""One span as its importer read it, and the tree that spans stand in.

Keeps: nothing is an exception: cycles are cut, what is wrong with ids and times is a `Flaw`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from undercroft.doctor.importers.said import Said
from undercroft.model.case import Access, CallStatus, Flaw, Touch
from undercroft.model.symptom import quoted

# Clocks of two machines are rarely further apart.
_SKEW_S = 0.05


def read_id(raw: object) -> str:
    """Return an id as text; empty where there is none."""
    if isinstance(raw, str):
        return raw
    return str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else ""


class Kind(StrEnum):
    """What a span records."""

    MODEL = "model"
    TOOL = "tool"
    AGENT = "agent"
    OTHER = "other"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One record, as its importer read it; what it does not say is None or empty.

    Attributes:
        kind: See `Kind`.
        parent: Id of the span under which it stands.
        began: Seconds since 1970.
        took_s: Where the record says it apart from when it ended.
        status: As the record says; `UNKNOWN` where only its result may tell.
        error: In the record's words; of what is unreadable, what is there.
        error_class: Where the record says it itself.
        declared: Whether `status` is what the recording system decided, so that no text of a
            result can tell it better.
        actor: Who acted; of an agent's span, the agent. Empty: the agent above it.
        call_id: Of a tool's span: of the call that it carries out.
        arguments: Of a tool's span; None where not recorded or not readable, see `raw`.
        result: Of a tool's span, as text.
        prompt: Of a model's span.
        answer: Of a model's span.
        offered: Names of the tools that were on offer.
        given: Of the span at the top, where it has them: messages that the run was given.
        gave: Of the span at the top: what the user was told.
        causes: Ids of spans whose results a call was declared to use.
        access: As declared; None where the record declares nothing.
        touches: As declared.
        rule: Of the guard that refused a call.
        acts: Of guards that acted otherwise, as (rule, words), such as `guardrail.triggered`.
    """

    kind: Kind = Kind.OTHER
    id: str = ""
    parent: str = ""
    name: str = ""
    began: float | None = None
    ended: float | None = None
    took_s: float | None = None
    status: CallStatus = CallStatus.UNKNOWN
    error: str = ""
    error_class: str = ""
    declared: bool = False
    actor: str = ""
    call_id: str = ""
    arguments: Mapping[str, Any] | None = None
    raw: str = ""
    result: str | None = None
    model: str = ""
    prompt: tuple[Said, ...] | None = None
    answer: tuple[Said, ...] | None = None
    stop: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    window_tokens: int | None = None
    offered: frozenset[str] | None = None
    given: tuple[Said, ...] = ()
    gave: str | None = None
    attempt: int = 1
    causes: tuple[str, ...] = ()
    access: Access | None = None
    touches: tuple[Touch, ...] = ()
    rule: str = ""
    acts: tuple[tuple[str, str], ...] = ()


class Tree:
    """Which span stands under which, and what is wrong with that."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.by_id: dict[str, list[int]] = {}
        for step, span in enumerate(spans):
            if span.id:
                self.by_id.setdefault(span.id, []).append(step)
        self.parents: list[int | None] = [self._parent(step) for step in range(len(spans))]
        self.cycles = self._cut_cycles()
        self.early = {step for step in range(len(spans)) if self._is_early(step)}

    def _parent(self, step: int) -> int | None:
        span = self.spans[step]
        found = self.by_id.get(span.parent) if span.parent else None
        if found is None:
            return None
        # Of two with that id, one that is not the span itself.
        return next((one for one in found if one != step), step)

    def _cut_cycles(self) -> list[tuple[int, ...]]:
        """Return the steps of each cycle of parents, and cut it open."""
        cycles: list[tuple[int, ...]] = []
        done: set[int] = set()
        for step in range(len(self.spans)):
            path: dict[int, int] = {}
            at: int | None = step
            while at is not None and at not in done and at not in path:
                path[at] = len(path)
                at = self.parents[at]
            if at is not None and at in path:
                round_trip = sorted(one for one, place in path.items() if place >= path[at])
                cycles.append(tuple(round_trip))
                for one in round_trip:  # nobody can tell which of them is on top
                    self.parents[one] = None
            done.update(path)
        return cycles

    def _is_early(self, step: int) -> bool:
        """Whether a span began before the one under which it stands."""
        parent, began = self.parents[step], self.spans[step].began
        above = None if parent is None else self.spans[parent].began
        return began is not None and above is not None and began < above - _SKEW_S

    def order(self) -> list[int]:
        """Return the places of spans in the order in which they began.

        A span without a time, or with one that cannot be, stands where the input has it: after
        the one before it.
        """
        times = [None if s in self.early else span.began for s, span in enumerate(self.spans)]
        known = [at for at in times if at is not None]
        steps = range(len(self.spans))
        falls = sum(after < before for before, after in pairwise(known))
        rises = sum(after > before for before, after in pairwise(known))
        if not falls:
            return list(steps)
        given = list(reversed(steps)) if falls > rises else list(steps)
        keys: dict[int, float] = {}
        last = min(known)
        for step in given:
            at = times[step]
            keys[step] = last if at is None else at
            last = keys[step]
        return sorted(given, key=lambda step: keys[step])

    def _cut_off(self) -> Iterator[Flaw]:
        """Yield what is missing of the tree.

        One parent that all spans at the top name is no part of the run: it called it.
        """
        absent: dict[str, int] = {}
        for step, span in enumerate(self.spans):
            if span.parent and span.parent not in self.by_id:
                absent.setdefault(span.parent, step)
        head = any(not span.parent and span.kind is not Kind.UNREADABLE for span in self.spans)
        if len(absent) > 1 or (absent and head):
            for one, step in absent.items():
                yield Flaw(kind="cut_off", steps=(step,), quote=quoted(f"no span {one}"))

    def flaws(self, *, whole: bool) -> tuple[Flaw, ...]:
        """Return what is wrong with the spans."""
        found: list[Flaw] = list(self._cut_off()) if whole else []
        for one, steps in self.by_id.items():
            if len(steps) > 1:
                found.append(Flaw(kind="duplicate_id", steps=tuple(steps), quote=quoted(one)))
        found += [
            Flaw(kind="cycle", steps=steps, quote=quoted(self.spans[steps[0]].id))
            for steps in self.cycles
        ]
        for step, span in enumerate(self.spans):
            if span.kind is Kind.UNREADABLE:
                found.append(Flaw(kind="unreadable", steps=(step,), quote=quoted(span.error)))
                continue
            if not span.id and self.by_id:
                found.append(Flaw(kind="missing_id", steps=(step,), quote=quoted(span.name)))
            took = span.took_s
            if took is None and span.began is not None and span.ended is not None:
                took = span.ended - span.began
            if took is not None and took < 0:
                quote = quoted(f"{span.name} took {took:g} s")
                found.append(Flaw(kind="negative_duration", steps=(step,), quote=quote))
            if step in self.early:
                quote = quoted(f"{span.name} began before the span under which it stands")
                found.append(Flaw(kind="out_of_order", steps=(step,), quote=quote))
        return tuple(sorted(found, key=lambda flaw: (flaw.steps[:1], flaw.kind)))

"""Spans as all systems of observability record them, and the run that they add up to.

An importer of such a system says of each record what it is (`Span`, of `tree`); `assemble` does
the rest, for all of them alike. What prompts say is read in `talk`.
Keeps: nothing is an exception: what is wrong with a record is a `Flaw`, and the rest is read.
Steps are numbered in the order in which spans began, since exporters write them by their ends, or
the newest first; where that is not the order of the input, `Case.places` tells where they stand.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from undercroft.doctor.importers.facets import shown
from undercroft.doctor.importers.said import Said
from undercroft.doctor.importers.talk import Exchange, Talk, Tool, Wish, canonical
from undercroft.doctor.importers.tree import Kind, Span, Tree
from undercroft.doctor.statuses import infer_status
from undercroft.model.case import (
    Access,
    Basis,
    CallStatus,
    Case,
    CaseAsk,
    CaseCall,
    Facet,
    Flaw,
    GuardAct,
)
from undercroft.model.symptom import quoted

__all__ = ["Kind", "Span", "assemble"]

_HANDOFF = "transfer_to_"


def assemble(  # noqa: PLR0913  what a record may say of a run as a whole
    spans: Sequence[Span | None],
    *,
    trace_id: str,
    name: str,
    can_show: AbstractSet[Facet],
    said: Sequence[Said] = (),
    delivered: str | None = None,
    error: str = "",
    finished: bool | None = None,
    whole: bool = False,
) -> Case:
    """Return the run that spans add up to.

    Args:
        spans: In the order of the input; None stands for a record that says nothing of its own.
        trace_id: The record's name of the run.
        name: Of the format.
        can_show: What the format can carry.
        said: What the run as a whole was given, for where no prompt tells what the user said.
        delivered: What it gave back, where the record says so.
        error: What ended it, where the record says so of the run as a whole.
        finished: Whether it ended, where the record says so apart from its spans.
        whole: Whether an export of this format has all spans of a run, so that a parent that
            is not there was cut off.
    """
    if not spans:
        return Case(trace_id=trace_id, format=name, steps=0, flaws=(Flaw(kind="no_steps"),))
    return _Run([one or Span() for one in spans], whole=whole).case(
        trace_id, name, can_show, said, delivered, error, finished=finished
    )


class _Run:
    """The spans of one run, in the order of time."""

    def __init__(self, spans: Sequence[Span], *, whole: bool) -> None:
        given = Tree(spans)
        self.places = given.order()
        tree = Tree([spans[place] for place in self.places])
        self.spans, self.parents = list(tree.spans), tree.parents
        self.by_id, self.flaws = tree.by_id, tree.flaws(whole=whole)
        self._fold_copies()
        self.actors = [self._actor(step) for step in range(len(self.spans))]
        self.user_steps: list[int] = []

    def case(  # noqa: PLR0913, PLR0917  as `assemble`
        self,
        trace_id: str,
        name: str,
        can_show: AbstractSet[Facet],
        said: Sequence[Said],
        delivered: str | None,
        error: str,
        *,
        finished: bool | None,
    ) -> Case:
        tops = [step for step, parent in enumerate(self.parents) if parent is None]
        opening = [(0, one) for one in said]
        opening = opening or [(step, one) for step in tops for one in self.spans[step].given]
        talk = Talk(opening, self._exchanges(), self._tools())
        self.user_steps = [text.step for text in talk.texts if text.role == "user"]
        calls = sorted(self._calls(talk), key=lambda call: call.step)
        roots = [self.spans[step] for step in tops]
        gave = [delivered, *(root.gave for root in reversed(roots)), talk.last_word]
        told = next((text for text in gave if text is not None), None)
        case = Case(
            trace_id=trace_id,
            format=name,
            steps=len(self.spans),
            texts=tuple(replace(text, at=self._began(text.step)) for text in talk.texts),
            calls=tuple(calls),
            asks=tuple(self._asks()),
            acts=tuple(
                GuardAct(step=step, rule=rule, quote=quoted(words))
                for step, span in enumerate(self.spans)
                for rule, words in span.acts
            ),
            flaws=(*self.flaws, *talk.flaws),
            error=error or next((root.error for root in roots if root.error), ""),
            finished=finished if finished is not None else self._finished(roots, told),
            delivered=told,
            tools=self._offered(),
        )
        declared = any(
            span.kind is Kind.TOOL and span.status is not CallStatus.UNKNOWN for span in self.spans
        )
        moved = self.places != list(range(len(self.places)))
        return replace(
            case,
            shows=shown(case, can_show, statuses=declared),
            places=tuple(self.places) if moved else (),
        )

    # ------------------------------------------------------------------ what spans say

    def _began(self, step: int) -> float | None:
        return self.spans[step].began

    def _took(self, step: int) -> float | None:
        span = self.spans[step]
        took = span.took_s
        if took is None and span.began is not None and span.ended is not None:
            took = span.ended - span.began
        # Finer than a microsecond is only what is left of a difference of large numbers.
        return None if took is None or took < 0 else round(took, 6)

    def _above(self, step: int) -> Iterator[int]:
        """Yield the steps above one, the nearest first."""
        parent = self.parents[step]
        while parent is not None:
            yield parent
            parent = self.parents[parent]

    def _actor(self, step: int) -> str:
        for one in (step, *self._above(step)):
            span = self.spans[one]
            if span.actor:
                return span.actor
            if span.kind is Kind.AGENT and span.name:
                return span.name
        return ""

    def _inner(self) -> set[int]:
        """Return requests of agents that work for another one, not for the user.

        They stand under a tool, or under more agents than the requests of the outermost do:
        frameworks take the parts of one agent for agents, too.
        """
        deep: dict[int, int] = {}
        inner: set[int] = set()
        for step, span in enumerate(self.spans):
            if span.kind is not Kind.MODEL:
                continue
            above = [self.spans[one] for one in self._above(step)]
            deep[step] = len({one.name for one in above if one.kind is Kind.AGENT})
            if any(one.kind is Kind.TOOL for one in above):
                inner.add(step)
        least = min((depth for step, depth in deep.items() if step not in inner), default=0)
        return inner | {step for step, depth in deep.items() if depth > least}

    def _fold_copies(self) -> None:
        """Let each call and each request count once, however often it was instrumented.

        A framework's span and that of the client library below it, or of the server of a tool,
        record one thing; an export that was read twice has each span twice.
        """
        for copies in self.by_id.values():
            first = self.spans[copies[0]]
            for step in copies[1:]:
                if self.spans[step] == first:
                    self.spans[step] = _emptied(first)
        for step, span in enumerate(self.spans):
            if span.kind not in {Kind.MODEL, Kind.TOOL}:
                continue
            over = next((one for one in self._above(step) if self._same(one, span)), None)
            if over is not None:
                self.spans[over] = _filled(self.spans[over], span)
                self.spans[step] = _emptied(span)

    def _same(self, over: int, span: Span) -> bool:
        """Whether the span above another one records the same as it."""
        above = self.spans[over]
        if above.kind is not span.kind or span.kind is Kind.MODEL:
            return above.kind is span.kind
        bare = not span.arguments and not span.raw
        key = canonical(span.arguments, span.raw)
        return above.name == span.name and (bare or canonical(above.arguments, above.raw) == key)

    def _turn(self, step: int) -> int:
        return max(0, bisect_right(self.user_steps, step) - 1)

    def _offered(self) -> frozenset[str] | None:
        known = [span.offered for span in self.spans if span.offered is not None]
        return frozenset().union(*known) if known else None

    def _finished(self, roots: Sequence[Span], told: str | None) -> bool | None:
        """Say whether the run ended; None where it stopped and nobody can tell whether it meant to.

        A run that stopped while its model wanted calls may have been given up.
        """
        if all(span.ended is None for span in self.spans):
            return None
        if not any(root.ended is not None or root.error for root in roots):
            return False
        asked = any(span.kind is Kind.MODEL for span in self.spans)
        return True if told is not None or not asked or any(r.error for r in roots) else None

    def _exchanges(self) -> Iterator[Exchange]:
        inner = self._inner()
        for step, span in enumerate(self.spans):
            if span.kind is Kind.MODEL:
                yield Exchange(
                    step, span.prompt, span.answer, self.actors[step], inner=step in inner
                )

    def _tools(self) -> list[Tool]:
        return [
            Tool(step, span.name, span.call_id, span.arguments, span.raw, span.result)
            for step, span in enumerate(self.spans)
            if span.kind is Kind.TOOL
        ]

    # ------------------------------------------------------------------ calls and asks

    def _calls(self, talk: Talk) -> Iterator[CaseCall]:
        for tool, wish in talk.done:
            yield self._call_of_span(tool, wish)
        handed = any(span.name.startswith("handoff") for span in self.spans)
        for wish in talk.left:
            if not (handed and wish.wanted.name.startswith(_HANDOFF)):
                yield self._call_of_wish(wish)

    def _call_of_span(self, tool: Tool, wish: Wish | None) -> CaseCall:
        step, span = tool.step, self.spans[tool.step]
        result = span.result
        if result is None and wish is not None and wish.result is not None:
            result = wish.result
        failed = wish.failed if wish is not None else None
        arguments, raw = span.arguments, span.raw
        if wish is not None and _injected(arguments, wish.wanted.arguments):
            arguments = wish.wanted.arguments
        if wish is not None and arguments is None and not raw:
            arguments, raw = wish.wanted.arguments, wish.wanted.raw
        status, basis, error, error_class = _ending(span, result, failed=failed)
        return CaseCall(
            step=step,
            name=span.name,
            ended=None if result is None and not error and span.ended is None else step,
            id=span.call_id or ("" if wish is None else wish.wanted.id),
            arguments=arguments,
            raw=raw,
            result=result,
            status=status,
            status_basis=basis,
            error=error,
            error_class=error_class,
            actor=self.actors[step],
            batch=-1 if wish is None or wish.past else wish.step,
            parent=self.parents[step],
            causes=tuple(self.by_id[one][0] for one in span.causes if one in self.by_id),
            began_at=span.began,
            took_s=self._took(step),
            access=span.access or Access.UNKNOWN,
            access_basis=Basis.INFERRED if span.access is None else Basis.DECLARED,
            touches=span.touches,
            rule=span.rule,
            attempt=span.attempt,
            turn=self._turn(step),
        )

    def _call_of_wish(self, wish: Wish) -> CaseCall:
        """Return a call of which only messages tell."""
        step, wanted = wish.step, wish.wanted
        found = Span(kind=Kind.TOOL, name=wanted.name)
        status, basis, error, error_class = _ending(found, wish.result, failed=wish.failed)
        began, took = self._bounds(wish)
        return CaseCall(
            step=step,
            name=wanted.name,
            ended=wish.ended,
            id=wanted.id,
            arguments=wanted.arguments,
            raw=wanted.raw,
            result=wish.result,
            status=status,
            status_basis=basis,
            error=error,
            error_class=error_class,
            actor=self.actors[step],
            batch=-1 if wish.past else step,
            parent=self.parents[step],
            began_at=began,
            took_s=took,
            turn=self._turn(step),
        )

    def _bounds(self, wish: Wish) -> tuple[float | None, float | None]:
        """Return when a call of which only messages tell began, and how long it took at most.

        It was not before the answer that proposes it, and over when a prompt showed its result;
        what a prompt tells of the past was over before that.
        """
        asked = self.spans[wish.step].began
        if asked is None or wish.past:
            return asked, None if asked is None else 0.0
        began = asked + (self._took(wish.step) or 0.0)
        over = None if wish.ended is None else self.spans[wish.ended].began
        return began, None if over is None else round(max(0.0, over - began), 6)

    def _asks(self) -> Iterator[CaseAsk]:
        told: dict[int, tuple[str, str]] = {}
        for step, span in enumerate(self.spans):
            if span.kind is not Kind.MODEL:
                continue
            said = None
            if span.prompt is not None:
                # One pair for a message, in however many prompts it stands.
                said = tuple(told.setdefault(id(m), (m.role, m.text)) for m in span.prompt)
            answer = None
            if span.answer is not None:
                answer = "\n".join(m.text for m in span.answer if m.text)
            failed = span.status is CallStatus.FAILED
            error_class = span.error_class
            if failed and span.error and not error_class:
                error_class = infer_status(span.error, name=span.name).error_class
            yield CaseAsk(
                step=step,
                model=span.model,
                actor=self.actors[step],
                prompt=said,
                answer=answer,
                stop=span.stop,
                input_tokens=span.input_tokens,
                output_tokens=span.output_tokens,
                window_tokens=span.window_tokens,
                status=span.status,
                error=span.error,
                error_class=error_class,
                began_at=span.began,
                took_s=self._took(step),
                parent=self.parents[step],
                turn=self._turn(step),
            )


def _ending(
    span: Span, result: str | None, *, failed: bool | None
) -> tuple[CallStatus, Basis, str, str]:
    """Return how a call ended, how that is known, its error and the error's class."""
    status = span.status
    if span.declared:
        return status, Basis.DECLARED, span.error, span.error_class
    if status is CallStatus.UNKNOWN and failed:
        status = CallStatus.FAILED
    text = result or ""
    if status not in {CallStatus.UNKNOWN, CallStatus.OK}:
        error = span.error or text[:500]
        known = span.error_class or infer_status(error, name=span.name).error_class
        return status, Basis.DECLARED, error, known
    if result is None:
        basis = Basis.INFERRED if status is CallStatus.UNKNOWN else Basis.DECLARED
        return status, basis, span.error, ""
    # A tool that catches its errors and returns them as text is well as far as a span knows.
    told = infer_status(text, name=span.name)
    if told.status in {CallStatus.UNKNOWN, CallStatus.OK} and status is CallStatus.OK:
        return status, Basis.DECLARED, "", ""
    return told.status, Basis.INFERRED, told.error, told.error_class


def _injected(given: Mapping[str, Any] | None, asked: Mapping[str, Any] | None) -> bool:
    """Whether a framework added to what the model asked for, such as its own state."""
    return (
        asked is not None
        and given is not None
        and len(given) > len(asked)
        and all(key in given and given[key] == value for key, value in asked.items())
    )


_FILLED = (
    "arguments", "raw", "result", "prompt", "answer", "stop", "model",
    "input_tokens", "output_tokens", "window_tokens", "offered", "call_id",
)  # fmt: skip


def _filled(over: Span, under: Span) -> Span:
    """Return a span with what only the one below it says of the same thing."""
    told = {name: getattr(under, name) for name in _FILLED if not getattr(over, name)}
    return replace(over, **told)


def _emptied(span: Span) -> Span:
    """Return what is left of a span where another one says what it records."""
    return Span(id=span.id, parent=span.parent, name=span.name, began=span.began, ended=span.ended)

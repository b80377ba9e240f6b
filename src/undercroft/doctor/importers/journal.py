"""Our own journal: a turn, and what `undercroft show TURN --json` prints of one.

Everything in it is declared: claims, statuses, refusals with their rules, what guards did.
A step is the place of a step in the trace's list, from 0, in the order of their numbers.
Keeps: what a guard refused did not happen, and is no failure; attempts that failed and were made
again are one call, of which an act tells. Without events, as in the JSON of a trace, prompts and
what happened to windows are not shown.
Prompts are rebuilt from what is written down of each by reference. That is near what was sent and
not byte for byte: who wants that asks `undercroft.queries.read_prompt`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import msgspec

from undercroft.doctor.arguments import as_text
from undercroft.doctor.importers.facets import shown
from undercroft.doctor.importers.form import Format
from undercroft.doctor.importers.journal_acts import acts_of, waited_rule, window_of
from undercroft.doctor.importers.journal_prompts import prompts_of
from undercroft.model.case import (
    Access,
    Basis,
    CallStatus,
    Case,
    CaseAsk,
    CaseCall,
    CaseText,
    Facet,
    Flaw,
    GuardAct,
    Touch,
)
from undercroft.model.event import AnyEvent
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import ANOTHER, MODEL, StepStatus
from undercroft.model.symptom import quoted
from undercroft.model.trace import StepTrace, Trace

CAN_SHOW = frozenset(Facet)
_STATUSES = {
    StepStatus.OK: CallStatus.OK,
    StepStatus.FAILED: CallStatus.FAILED,
    StepStatus.REFUSED: CallStatus.REFUSED,
    StepStatus.WAITING: CallStatus.WAITING,
}
_APPROVAL = "approval"


def case_of(
    trace: Trace,
    events: Sequence[AnyEvent] = (),
    *,
    earlier: Iterable[Sequence[AnyEvent]] = (),
    form: str = "undercroft",
) -> Case:
    """Return a turn as the doctor reads any run.

    Args:
        trace: Of the turn.
        events: Of the turn, for its prompts and what happened to its window.
        earlier: Events of turns that went before it in its session, oldest first: what was said
            and found out there is known here.
        form: Name of the format.
    """
    return _Turn(trace, events, earlier).case(form)


class _Turn:
    def __init__(
        self, trace: Trace, events: Sequence[AnyEvent], earlier: Iterable[Sequence[AnyEvent]]
    ) -> None:
        self.trace, self.events = trace, events
        self.places = {step.n: place for place, step in enumerate(trace.steps)}
        self.by_id = {step.step_id: place for place, step in enumerate(trace.steps)}
        self.sent = {self.places[n]: one for n, one in prompts_of(events) if n in self.places}
        self.before = [text for turn in earlier for _, one in prompts_of(turn) for text in one.new]
        self.texts = list(self._texts())
        self.users = [text.step for text in self.texts if text.role == "user"]
        self.window_tokens = window_of(events)
        self.asked: dict[str, list[int]] = {}
        for place, step in enumerate(trace.steps):
            if step.kind == MODEL and step.name == MODEL:
                self.asked.setdefault(step.branch, []).append(place)

    def case(self, form: str) -> Case:
        trace = self.trace
        calls = tuple(
            self._call(place, step) for place, step in enumerate(trace.steps) if step.kind != MODEL
        )
        asks = tuple(
            self._ask(place, step) for place, step in enumerate(trace.steps) if step.kind == MODEL
        )
        final = trace.status.final
        offered = [one.offered for one in self.sent.values() if one.offered]
        case = Case(
            trace_id=trace.turn_id,
            format=form,
            steps=len(trace.steps),
            texts=tuple(self.texts),
            calls=calls,
            asks=asks,
            acts=tuple(self._acts()),
            flaws=() if trace.steps else (Flaw(kind="no_steps"),),
            error=str(trace.error) if trace.error is not None else "",
            finished=final or trace.status is TurnStatus.WAITING,
            delivered=as_text(trace.delivered) if final and trace.delivered is not None else None,
            tools=frozenset().union(*offered) if offered else None,
            declared=_declared(calls),
        )
        facets = shown(case, CAN_SHOW, statuses=bool(calls)) | {Facet.GUARDS}
        if any(call.access_basis is Basis.DECLARED for call in calls):
            facets |= {Facet.EFFECTS}
        return replace(case, shows=facets)

    # ------------------------------------------------------------------ what was said

    def _texts(self) -> Iterator[CaseText]:
        known = "\n".join(text for one in self.sent.values() for _, text in one.new)
        for role, text in self.before:
            yield CaseText(step=0, role="other" if role == "tool" else role, text=text)
        given = [text for value in self.trace.input.values() if (text := as_text(value))]
        said = any(role == "user" for one in self.sent.values() for role, _ in one.new)
        # What a turn was given was said by whoever asked for it, if no prompt says so.
        fresh = [text for text in given if not said or text not in known]
        users = sum(role == "user" for role, _ in self.before)
        for text in fresh:
            yield CaseText(step=0, role="other" if said else "user", text=text, turn=users)
        for place, step in enumerate(self.trace.steps):
            if step.kind != MODEL:
                continue
            one = self.sent.get(place)
            for role, text in () if one is None else one.new:
                if role in {"user", "system"}:
                    users += role == "user"
                    turn = max(0, users - 1)
                    yield CaseText(step=place, role=role, text=text, at=step.began_at, turn=turn)
            answer = _answer(step)
            if answer and step.name in {MODEL, ANOTHER}:
                yield CaseText(
                    step=place,
                    role="assistant",
                    text=answer,
                    actor=step.branch,
                    at=step.began_at,
                    turn=max(0, users - 1),
                )

    def _turn(self, place: int) -> int:
        return max(0, bisect_right(self.users, place) - 1)

    def _proposed(self, place: int, step: StepTrace, causes: Sequence[int]) -> int:
        """Return the step whose answer proposed a call; -1 where none did."""
        for cause in causes:
            if self.trace.steps[cause].kind == MODEL:
                return cause
        if step.kind != "tool" or causes:
            return -1
        # A call that was refused before it began names no causes.
        before = self.asked.get(step.branch, [])
        found = bisect_left(before, place)
        return before[found - 1] if found else -1

    # ------------------------------------------------------------------ what was done

    def _call(self, place: int, step: StepTrace) -> CaseCall:
        status = _STATUSES.get(step.status, CallStatus.UNKNOWN)
        began = step.attempts > 0 or step.kind == _APPROVAL
        causes = [self.by_id[one] for one in step.causes if one in self.by_id]
        over = step.took_s is not None or status is CallStatus.REFUSED
        error = "" if step.error is None else str(step.error)
        if step.refusal is not None:
            error = step.refusal.message
        arguments = step.arguments if isinstance(step.arguments, Mapping) else None
        return CaseCall(
            step=place,
            name=step.name,
            ended=place if over else None,
            id=step.step_id,
            arguments=arguments,
            raw="" if arguments is not None or step.arguments is None else as_text(step.arguments),
            result=as_text(step.value) if step.status is StepStatus.OK else None,
            status=status,
            status_basis=Basis.DECLARED,
            error=error,
            error_class="" if step.error is None else str(step.error.error_class),
            actor=step.branch,
            batch=self._proposed(place, step, causes),
            causes=tuple(causes),
            began_at=step.began_at,
            took_s=step.took_s,
            access=_access(step) if began else Access.UNKNOWN,
            access_basis=Basis.DECLARED if began else Basis.INFERRED,
            touches=tuple(Touch(str(mode), _plain(key)) for mode, key in step.claims),
            rule="" if step.refusal is None else step.refusal.rule,
            attempt=max(1, step.attempts),
            turn=self._turn(place),
        )

    def _ask(self, place: int, step: StepTrace) -> CaseAsk:
        one = self.sent.get(place)
        value = step.value if isinstance(step.value, Mapping) else {}
        usage = value.get("usage")
        used = usage if isinstance(usage, Mapping) else {}
        counted = used.get("input_tokens") or step.prompt_tokens
        failed = step.error or step.refusal
        return CaseAsk(
            step=place,
            model=step.service if step.service != MODEL else "",
            actor=step.branch,
            prompt=None if one is None or not one.prompt else one.prompt,
            answer=_answer(step) if step.status is StepStatus.OK else None,
            input_tokens=counted if isinstance(counted, int) else None,
            output_tokens=used.get("output_tokens"),
            window_tokens=self.window_tokens,
            status=_STATUSES.get(step.status, CallStatus.UNKNOWN),
            error="" if failed is None else str(failed),
            error_class="" if step.error is None else str(step.error.error_class),
            began_at=step.began_at,
            took_s=step.took_s,
            turn=self._turn(place),
        )

    def _acts(self) -> Iterator[GuardAct]:
        """Yield what guards did: as events say, or as far as the trace does."""
        found = acts_of(self.events) if self.events else _acts_of_trace(self.trace)
        for n, rule, words in found:
            yield GuardAct(step=self.places.get(n, 0), rule=rule, quote=quoted(words))


def _answer(step: StepTrace) -> str:
    text = step.value.get("text") if isinstance(step.value, Mapping) else None
    return text if isinstance(text, str) else ""


def _access(step: StepTrace) -> Access:
    if step.changes:
        return Access.WRITE
    return Access.READ if step.claims else Access.NEITHER


def _plain(key: str) -> str:
    """Return a key with its parts as results and texts spell them."""
    return "/".join(unquote(part).replace("/", "%2F") for part in key.split("/"))


def _declared(calls: Sequence[CaseCall]) -> Mapping[str, tuple[Touch, ...]] | None:
    """Return by tool what its calls claimed."""
    found: dict[str, dict[Touch, None]] = {}
    for call in calls:
        if call.access_basis is Basis.DECLARED:
            found.setdefault(call.name, {}).update(dict.fromkeys(call.touches))
    return {name: tuple(touches) for name, touches in found.items()} or None


def _acts_of_trace(trace: Trace) -> Iterator[tuple[int, str, str]]:
    for step in trace.steps:
        for retry in step.retries:
            yield step.n, "breakers.retry", str(retry.error)
        for wait in step.waits:
            yield step.n, waited_rule(wait.claim), f"{wait.claim} behind {wait.behind}"
        if step.kind == _APPROVAL or any(one.how == "person" for one in step.decisions):
            yield step.n, "sequencing.approval", step.name
        for one in step.owned:
            if one.taken_from:
                yield step.n, "conflicts.taken_over", f"{one.keys} from {one.taken_from}"


# ---------------------------------------------------------------------------- the JSON of a trace


def fits(document: Any) -> float:
    """Return how much a document looks like the JSON of a trace of ours, 0 to 1."""
    own = {"turn_id", "kind", "target", "status", "lives", "steps", "delivered"}
    return 0.99 if isinstance(document, Mapping) and own <= set(document) else 0.0


def records(document: Any) -> Iterable[Any]:
    """Return the one trace that a document is."""
    return [document]


def trace_of(record: Any) -> str | None:  # noqa: ARG001  as every format's
    """Return None: each document is a turn by itself."""
    return None


def case(found: Sequence[Any], trace_id: str) -> Case:
    """Return the turn that the JSON of its trace tells of."""
    for one in found:
        try:
            trace = msgspec.convert(one, Trace, strict=False)
        except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
            flaw = Flaw(kind="unreadable", quote=quoted(str(error)))
            steps = one.get("steps") if isinstance(one, Mapping) else None
            count = len(steps) if isinstance(steps, list) else 0
            return Case(trace_id=trace_id, format=FORMAT.name, steps=count, flaws=(flaw,))
        return case_of(trace, form=FORMAT.name)
    return Case(trace_id=trace_id, format=FORMAT.name, steps=0, flaws=(Flaw(kind="no_steps"),))


FORMAT = Format(
    name="undercroft-json",
    title="Undercroft trace (show --json)",
    can_show=CAN_SHOW - {Facet.PROMPTS},
    fits=fits,
    records=records,
    trace_of=trace_of,
    case=case,
)

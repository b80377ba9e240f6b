"""What a journal tells of a turn's prompts: which step asked what, of whom, and after which others.

Leaves to `prompts.py`: what the windows held, and so what the prompts were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from undercroft.engine.codec import decode
from undercroft.engine.models import read_wire
from undercroft.model.event import (
    AnyEvent,
    AttemptReserved,
    ContextCompacted,
    ContextLeft,
    ContextOpened,
    PromptAssembled,
    StepEnded,
    StepStarted,
    TurnStarted,
)
from undercroft.model.message import ToolSpec, Wire
from undercroft.model.step import ANOTHER, MODEL, StepStatus


@dataclass(frozen=True, slots=True)
class AskingStep:
    """What is known of a step that asked a model."""

    name: str
    kind: str
    branch: str


class ToldTurn:
    """The events of a turn, as far as its prompts are concerned."""

    def __init__(self, events: Sequence[AnyEvent]) -> None:
        self.events = events
        opened: ContextOpened | None = None
        self.id, self.session = "", None
        # By step, what its last attempt was assembled under: a turn may outlive its policy.
        self.under: dict[int, ContextOpened | None] = {}
        self.started: dict[int, StepStarted] = {}
        self.ended: dict[int, StepEnded] = {}
        self.prompts: dict[int, PromptAssembled] = {}
        self.compactions: list[ContextCompacted] = []
        # By step, what stands for its body where a budget limited the answer, and to what.
        self.limited: dict[int, tuple[str, int | None]] = {}
        for event in events:
            match event:
                case TurnStarted():
                    self.id, self.session = event.turn_id, event.session
                case ContextOpened():
                    opened = event
                case StepStarted():
                    self.started[event.n] = event
                    self.under[event.n] = opened
                case StepEnded():
                    self.ended[event.n] = event
                    self.under.setdefault(event.n, opened)
                case PromptAssembled():
                    self.prompts[event.n] = event
                case ContextCompacted():
                    self.compactions.append(event)
                case AttemptReserved() if event.body:
                    self.limited[event.n] = event.body, event.output_tokens
                case _:
                    pass

    def first(self, n: int) -> int:
        """Return the step that asked the first model, where `n` asked another one."""
        for _ in range(len(self.started) + len(self.ended)):
            event = self.started.get(n) or self.ended.get(n)
            if event is None or event.name != ANOTHER or not event.causes:
                break
            n = event.causes[0]
        return n

    def others(self, n: int) -> Iterable[int]:
        """Yield the steps that asked other models what step `n` had asked."""
        asked = {event.n for event in self.started.values() if event.name == ANOTHER}
        asked |= {event.n for event in self.ended.values() if event.name == ANOTHER}
        return (other for other in sorted(asked) if self.first(other) == n)

    def body(self, n: int) -> tuple[str, int | None]:
        """Return what stands for the JSON body of a step, and how much its answer might have."""
        digest = self.said(n).get("body")
        return self.limited.get(n, (digest if isinstance(digest, str) else "", None))

    def wire(self, n: int, branch: str) -> Wire | None:
        """Return how the client of a step wrote its requests; None where nobody said."""
        steps = reversed(self._asked(branch, n)) if self.first(n) == n else ()
        told = (self.said(step).get("wire") for step in (n, *steps))
        return next((read_wire(plain) for plain in told if plain is not None), None)

    def step(self, n: int) -> AskingStep | None:
        """Return the step; one that was never sent, since it did not fit, has only an end."""
        started, ended, prompt = self.started.get(n), self.ended.get(n), self.prompts.get(n)
        if started is not None:
            return AskingStep(started.name, started.kind, started.branch)
        if ended is not None and (prompt is not None or n in self._refused(n)):
            return AskingStep(ended.name, MODEL, "" if prompt is None else prompt.branch)
        return None

    def opened(self, n: int) -> ContextOpened | None:
        """Return what a prompt was assembled under; None where its window had no limit."""
        return self.under.get(n) if n in self.prompts else None

    def candidates(self, branch: str, last: int) -> Iterable[Sequence[int]]:
        """Yield which steps may have made the window of step `last`, the likeliest first.

        The journal does not say of which line a prompt was that was refused before it was sent,
        and a name may be given to one branch after another, each with a window of its own.
        """
        sent, refused = self._asked(branch, last), self._refused(last)
        yield sorted({*sent, *refused} if not branch or last in refused else sent)
        yield sorted({*sent, *(n for n in refused if n == last)})
        for first in range(1, len(sent)) if branch else ():
            yield sent[first:]

    def _asked(self, branch: str, last: int) -> list[int]:
        """Return the steps by which a line asked its model, up to number `last`."""
        sent = {
            n
            for n, step in self.started.items()
            if step.kind == MODEL and step.name == MODEL and step.branch == branch
        }
        lost = {
            n
            for n, prompt in self.prompts.items()
            if n not in self.started and n in self.ended and prompt.branch == branch
        }
        return sorted(n for n in sent | lost if n <= last)

    def _refused(self, last: int) -> set[int]:
        """Return the steps that were refused before they began, where no prompt was noted."""
        return {
            n
            for n, step in self.ended.items()
            if n <= last
            and step.name == MODEL
            and n not in self.started
            and n not in self.prompts
            and "prompt" in self.said(n)
        }

    def fingerprint(self, n: int) -> bytes:
        """Return what stands for the prompt of a step."""
        started = self.started.get(n)
        return started.fp if started is not None else self.ended[n].fp

    def is_answered(self, n: int) -> bool:
        """Whether the model answered."""
        ends = (self.ended.get(step) for step in (n, *self.others(n)))
        return any(end is not None and end.status is StepStatus.OK for end in ends)

    def withdrawn(self, n: int) -> Mapping[str, Sequence[str]]:
        """Return the tools that were not offered, by service."""
        found = self.said(n).get("withdrawn", {})
        return found if isinstance(found, dict) else {}

    def said(self, n: int) -> Mapping[str, Any]:
        """Return what was written down of what a step asked."""
        started, ended = self.started.get(n), self.ended.get(n)
        raw = started.args if started is not None else ended.args if ended is not None else None
        said = decode(raw) if raw is not None else None
        return said if isinstance(said, dict) else {}

    def tools(self, asked: Sequence[int]) -> tuple[ToolSpec, ...] | None:
        """Return the tools that were on offer with the last prompt of a line.

        They are written down where they are others than before; None where they never were.
        """
        for n in reversed(asked):
            told = self.said(n).get("tools")
            if told is not None:
                return tuple(ToolSpec(*one) for one in told)
        return None

    def model(self, asked: Sequence[int]) -> str:
        """Return the name of the model that was asked; empty where it is not known."""
        return next((m for n in reversed(asked) if (m := self.said(n).get("model"))), "")

    def upto(self, branch: str, asked: Sequence[int]) -> Iterable[AnyEvent]:
        """Yield the events that make the window of a line, as if it were the turn's own."""
        chosen = set(asked)
        for event in self.events:
            match event:
                case StepStarted() if event.kind == MODEL and event.name == MODEL:
                    if event.n in chosen:
                        yield _as_own(event, branch)
                case PromptAssembled() | ContextCompacted():
                    if event.n in chosen and event.branch == branch:
                        yield _as_own(event, branch)
                case ContextLeft():
                    pass  # what was said later
                case StepEnded() if event.n in chosen and event.n not in self.started:
                    if event.n not in self.prompts:
                        yield StepStarted(event.n, MODEL, MODEL, event.at, args=event.args)
                    yield event
                case _:
                    # Whose code called a tool makes no difference to what its result reads.
                    yield event


def _as_own(
    event: StepStarted | PromptAssembled | ContextCompacted, branch: str
) -> StepStarted | PromptAssembled | ContextCompacted:
    return msgspec.structs.replace(event, branch="") if branch else event

"""What was in the prompts of a turn of ours, rebuilt from what its events say of each.

Keeps: what a compaction left out is not in the prompts after it; what it elided is a tombstone.
Prompts of the session's earlier turns are not known here: a prompt begins with this turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from undercroft.doctor.arguments import as_text
from undercroft.layers.context.conversation import CLOSED, NO_RESULT, NOTICE, PIN, WHOLE
from undercroft.layers.context.items import ITEMS_PER_TURN_MAX, Fate
from undercroft.model.event import (
    NIL_BYTES,
    AnyEvent,
    ContextCompacted,
    ContextOpened,
    StepEnded,
    StepStarted,
)
from undercroft.model.step import ANOTHER, MODEL, Result, StepStatus, render_result

_decode = msgspec.msgpack.Decoder().decode


@dataclass(frozen=True, slots=True)
class Sent:
    """A prompt.

    Attributes:
        prompt: All of it, as (role, text).
        new: What it adds to the one before, answers apart.
        offered: Names of the tools that went with it, where that was written down.
    """

    prompt: tuple[tuple[str, str], ...]
    new: tuple[tuple[str, str], ...]
    offered: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Line:
    """What one line of a handler's code and its model said to each other so far.

    Attributes:
        head: System texts and pins.
        items: By their numbers, the rest.
    """

    head: list[tuple[str, str]] = field(default_factory=list)
    items: dict[int, tuple[str, str]] = field(default_factory=dict)
    next: int = 0

    def add(self, role: str, text: str) -> tuple[str, str]:
        self.items[self.next] = (role, text)
        self.next += 1
        return role, text

    def compact(self, event: ContextCompacted) -> None:
        """Leave out what a compaction left out."""
        for item, fate, before, _, _, handle in event.fates:
            place = item % ITEMS_PER_TURN_MAX
            if place not in self.items:
                continue
            if fate == Fate.ELIDED:
                role, _ = self.items[place]
                self.items[place] = (role, f"[elided: {before} tokens, see {handle}]")
            elif fate in {Fate.DROPPED, Fate.SUMMARISED}:
                del self.items[place]
        self.head = [one for one in self.head if one[0] != "user"]
        summary = "" if bytes(event.summary) == NIL_BYTES else as_text(_decode(event.summary))
        self.head += [("user", text) for text in (event.ledger, summary) if text]


def prompts_of(events: Iterable[AnyEvent]) -> Iterator[tuple[int, Sent]]:
    """Yield each prompt of a turn with the number of the step that sent it, in their order."""
    known = list(events)
    told = _Told(
        {event.n: event for event in known if isinstance(event, StepEnded)},
        {event.n: event.name for event in known if isinstance(event, StepStarted)},
        {
            event.causes[0]: event.n
            for event in known
            if isinstance(event, StepStarted | StepEnded) and event.name == ANOTHER and event.causes
        },
    )
    lines: dict[str, _Line] = {}
    compacted: list[ContextCompacted] = []
    asked: set[int] = set()
    pins: list[str] = []
    for event in known:
        if isinstance(event, ContextOpened):
            pins = _pins(event)
        elif isinstance(event, ContextCompacted):
            compacted.append(event)
        elif isinstance(event, StepStarted | StepEnded) and event.n not in asked:
            said = told.said(event)
            if said is None:
                continue
            asked.add(event.n)
            branch = event.branch if isinstance(event, StepStarted) else ""
            if said.get("anew"):
                lines.pop(branch, None)
            line = lines.setdefault(branch, _Line([("system", pin) for pin in pins]))
            new = [one for entry in said.get("prompt", ()) if (one := told.entry(line, entry))]
            for change in compacted:
                line.compact(change)
            compacted.clear()
            prompt = (*line.head, *line.items.values())
            yield event.n, Sent(prompt, tuple(new), _names(said.get("tools")))
            for n in told.others(event.n):
                yield n, Sent(prompt, (), frozenset())
                told.answered(line, n)
            told.answered(line, event.n)


@dataclass(frozen=True, slots=True)
class _Told:
    """What the turn's events say of its steps, by their numbers."""

    ended: Mapping[int, StepEnded]
    names: Mapping[int, str]
    # By the step that gave no answer, the one that asked another model.
    after: Mapping[int, int]

    def others(self, n: int) -> Iterator[int]:
        """Yield the steps that asked other models what step `n` had asked."""
        while (other := self.after.get(n, n)) > n:
            yield other
            n = other

    def said(self, event: StepStarted | StepEnded) -> Mapping[str, Any] | None:
        """Return what was written down of a prompt; None of a step that sent none."""
        if event.name != MODEL or (isinstance(event, StepStarted) and event.kind != MODEL):
            return None
        said = _decode(event.args)
        return said if isinstance(said, Mapping) else None

    def entry(self, line: _Line, entry: Sequence[Any]) -> tuple[str, str] | None:
        """Add one entry of a prompt to a line, and return it as (role, text)."""
        match entry:
            case [kind, str(text)] if kind in {PIN, "system"}:
                line.head.append(("system", text))
                return "system", text
            case ["user" | "assistant" as role, str(text)]:
                found = role, text
            case [kind, str(text)] if kind == NOTICE:
                found = "user", text
            case [kind, {"role": str(role), "content": str(text)}] if kind == WHOLE:
                found = role, text
            case [kind, *_] if kind == CLOSED:
                found = "tool", NO_RESULT
            case ["tool", int(), _, str(text), *_]:
                found = "tool", text
            case ["tool", int(n), *_]:
                found = "tool", self._result(n)
            case _:
                return None  # an answer, which was added when it came
        return line.add(*found)

    def _result(self, n: int) -> str:
        event = self.ended.get(n)
        if event is None:
            return NO_RESULT
        data = _decode(event.value) if event.status is StepStatus.OK else None
        name = self.names.get(n, event.name)
        result = Result(event.status, None, event.error, event.refusal, name=name)
        return render_result(result, data)

    def answered(self, line: _Line, n: int) -> None:
        """Add what a model answered to a line."""
        event = self.ended.get(n)
        if event is not None and event.status is StepStatus.OK:
            answer = _decode(event.value)
            text = answer.get("text") if isinstance(answer, Mapping) else ""
            line.add("assistant", text if isinstance(text, str) else "")


def _pins(event: ContextOpened) -> list[str]:
    """Return the pins of a policy, where the turn wrote it down."""
    settings = None if bytes(event.settings) == NIL_BYTES else _decode(event.settings)
    pins = settings.get("pins") if isinstance(settings, Mapping) else None
    return [pin for pin in pins if isinstance(pin, str)] if isinstance(pins, list) else []


def _names(tools: object) -> frozenset[str]:
    if not isinstance(tools, list):
        return frozenset()
    return frozenset(
        one[0] for one in tools if isinstance(one, list) and one and isinstance(one[0], str)
    )

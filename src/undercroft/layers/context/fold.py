"""From the journal of earlier turns to the window of their session.

Keeps: the same events give the same window as the turns themselves had; what a compaction did
is done again as it was written down, and not decided anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from undercroft.layers.context.conversation import CLOSED, NOTICE, PIN, WHOLE
from undercroft.layers.context.items import TURN_SHIFT
from undercroft.layers.context.state import Compaction, Window
from undercroft.layers.context.summaries.summary import Summary
from undercroft.model.event import (
    NIL_BYTES,
    AnyEvent,
    ContextCompacted,
    ContextLeft,
    ContextOpened,
    PromptAssembled,
    StepEnded,
    StepStarted,
)
from undercroft.model.message import Answer, Message
from undercroft.model.step import ANOTHER, MODEL, Call, Result, StepStatus

_decode = msgspec.msgpack.Decoder().decode
_read_answer = msgspec.msgpack.Decoder(Answer).decode
_read_summary = msgspec.msgpack.Decoder(Summary).decode


@dataclass(slots=True)
class _Turn:
    """What the journal says of one turn, as far as its window is concerned."""

    opened: ContextOpened | None = None
    started: dict[int, StepStarted] = field(default_factory=dict)
    ended: dict[int, StepEnded] = field(default_factory=dict)
    prompts: dict[int, PromptAssembled] = field(default_factory=dict)
    compacted: dict[int, list[ContextCompacted]] = field(default_factory=dict)
    # By the step that gave no answer, the one that asked another model.
    others: dict[int, int] = field(default_factory=dict)
    left: ContextLeft | None = None

    def take(self, event: AnyEvent) -> None:
        match event:
            case ContextOpened():
                self.opened = event
            case StepStarted():
                self.started[event.n] = event
                self._note_other(event)
                if _asks(event):
                    self.left = None
            case ContextLeft():
                self.left = event
            case StepEnded():
                self.ended[event.n] = event
                self._note_other(event)
            case PromptAssembled() if not event.branch:
                self.prompts[event.n] = event
            case ContextCompacted() if not event.branch:
                self.compacted.setdefault(event.n, []).append(event)
            case _:
                pass

    def _note_other(self, event: StepStarted | StepEnded) -> None:
        if event.name == ANOTHER and event.causes:
            self.others[event.causes[0]] = event.n

    def asking(self, n: int) -> list[int]:
        """Return the steps that sent the prompt of step `n`, to one model after another."""
        found = [n]
        while (other := self.others.get(found[-1])) is not None and other > found[-1]:
            found.append(other)
        return found

    def call(self, n: int) -> tuple[str, bool]:
        """Return the name of the tool that step `n` called, and whether it may change anything."""
        started, ended = self.started.get(n), self.ended.get(n)
        if started is not None:
            return started.name, started.changes
        return ("" if ended is None else ended.name), False

    def asked(self) -> Sequence[int]:
        """Return the numbers of steps that asked the model of the turn itself, in their order."""
        sent = [n for n, step in self.started.items() if _asks(step)]
        # And of those that would not have fitted.
        refused = [n for n in self.prompts if n not in self.started and n in self.ended]
        return sorted(sent + refused)

    def said(self, n: int) -> Mapping[str, Any]:
        """Return what was written down of the prompt of step `n`."""
        started = self.started.get(n)
        found: Mapping[str, Any] = _decode(self.ended[n].args if started is None else started.args)
        return found


def _asks(step: StepStarted) -> bool:
    """Whether a step asks the model of the turn itself; a summary has a name of its own."""
    return step.kind == MODEL and step.name == MODEL and not step.branch


def compaction_of(event: ContextCompacted) -> Compaction:
    """Return what a window does to do again what was written down."""
    summary = None
    if bytes(event.summary) != NIL_BYTES:
        summary = _read_summary(event.summary)
    return Compaction(
        event.why,
        event.before,
        event.after,
        event.target,
        event.fates,
        event.ledger,
        summary,
        event.forgot,
        event.failed,
        event.short,
    )


def fold_turn(window: Window, events: Iterable[AnyEvent], turn: int) -> ContextOpened | None:
    """Let a window go through a turn that was; return what the turn was opened with.

    Args:
        window: As the turns before left it.
        events: Of the turn.
        turn: Its number in the session.
    """
    told = _Turn()
    for event in events:
        told.take(event)
    asked = told.asked()
    opened, policy = told.opened, window.policy
    counted = opened is not None and policy is not None and opened.vocabulary == policy.vocabulary
    window.next_turn(turn)
    if counted and len(told.prompts) == len(asked):
        # The first prompt also adds what the turn before ended with, which is there already.
        added = (one for n in asked for one in told.prompts[n].new)
        window.expect([tokens for item, tokens, _ in added if item >> TURN_SHIFT == turn])
    for n in asked:
        _ask(window, told, n, counted=counted)
    if told.left is not None:
        for entry in _decode(told.left.entries):
            _enter(window, told, entry)
    else:  # its process was killed
        _trailing(window, told, told.asking(asked[-1])[-1] if asked else 0)
    window.expect_no_more()
    return told.opened


def _ask(window: Window, told: _Turn, n: int, *, counted: bool) -> None:
    """Do what one prompt did to the window, and what its answer did."""
    notices = []
    said = told.said(n)
    window.told = said.get("withdrawn", {})
    if said.get("anew"):
        window.anew()
    for entry in said["prompt"]:
        if entry[0] == NOTICE:
            notices.append(entry[1])
        else:
            _enter(window, told, entry)
    window.close_calls()  # where nobody had to, since there was no policy
    window.delta()
    for text in notices:
        window.notice(text)
    prompt = told.prompts.get(n)
    if prompt is not None:
        window.offered(prompt.sections[1])
    for compacted in told.compacted.get(n, ()):
        window.apply(compaction_of(compacted), counted=counted)
    window.prompt(later=True)
    asking = told.asking(n)
    if any(step in told.started for step in asking):
        window.asked()
    n = asking[-1]
    ended = told.ended.get(n)
    if ended is not None and ended.status is StepStatus.OK:
        answer = window.named(_read_answer(ended.value), n)
        window.heard(answer.usage)
        window.add_answer(answer, n)


def _enter(window: Window, told: _Turn, entry: Sequence[Any]) -> None:
    """Add one entry of a journaled prompt."""
    match entry:
        case ["system", str(text)]:
            window.system(text)
        case ["user", str(text)]:
            window.user(text)
        case ["assistant", str(text)]:
            window.assistant(text)
        case [kind, str(text)] if kind == PIN:
            window.pin(text)
        case [kind, message] if kind == WHOLE:
            window.add_foreign(msgspec.convert(message, Message))
        case [kind, *_] if kind == CLOSED:
            window.close_calls()
        case ["tool", int(step), call_id]:
            _add_result(window, told, step, call_id)
        case ["tool", int(step), str(call_id), str(text), bool(ok)]:
            name, changed = told.call(step)
            window.add_text_result(text, call_id, name, step, changed=changed, ok=ok, literal=True)
        case _:
            pass  # an answer, which was added when it came


def _add_result(window: Window, told: _Turn, n: int, call_id: str | None) -> None:
    ended = told.ended.get(n)
    if ended is None:
        return
    name, changed = told.call(n)
    result = Result(ended.status, None, ended.error, ended.refusal, name=name, call_id=call_id)
    data = _decode(ended.value) if ended.status is StepStatus.OK else None
    window.add_result(result, data, n, changed=changed)


def _trailing(window: Window, told: _Turn, last: int) -> None:
    """Add results of the last answer that no prompt showed any more."""
    open_calls = window.calls_open()
    steps = sorted(n for n in {*told.started, *told.ended} if n > last)
    for call in open_calls:
        for n in steps:
            if _carries_out(told, n, call, last):
                steps.remove(n)
                _add_result(window, told, n, call.id)
                break


def _carries_out(told: _Turn, n: int, call: Call, last: int) -> bool:
    """Whether a step is that of a call, as far as its name and arguments tell."""
    started, ended = told.started.get(n), told.ended.get(n)
    if ended is None or ended.status is StepStatus.IN_DOUBT:
        return False
    name = started.name if started is not None else ended.name
    if name != call.name or (started is not None and started.branch):
        return False
    if started is not None and last not in started.causes:
        return False
    args = started.args if started is not None else ended.args
    given: Any = call.arguments
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return True  # it was refused as it stood
    return bool(_decode(args) == given) or started is None

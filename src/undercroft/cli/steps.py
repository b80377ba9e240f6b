"""One step of a turn, drilled into: everything that the journal says of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from undercroft.cli.console import colour, put, say, sign, word
from undercroft.cli.outcome import bounded
from undercroft.cli.problem import CannotRunError
from undercroft.cli.prompt import print_loss, prompt_words
from undercroft.cli.safe import clock, cut, pretty, safe, took
from undercroft.cli.spending import spent_words
from undercroft.engine.prompts import Prompt
from undercroft.layers.observability.approvals import Asked
from undercroft.model.effect import Strength
from undercroft.model.trace import Decision, Owned, StepTrace, Trace

_LABEL = 12
_LISTED_MAX = 20
_NAMES_MAX = 8

# How a lapsed owner is kept from writing.
_KEPT_OUT: dict[str, str] = {
    Strength.CHECKED: "which the resource checks",
    Strength.VERSION: "held by the version written to",
    Strength.DELAY: "held by waiting out the lease",
    Strength.ADVISORY: "advisory: nothing holds a lapsed owner back",
}
_VOID: dict[str, str] = {
    "changed": "the record has changed since",
    "expired": "it was given too late",
    "copied": "it was asked for in another copy of the journal",
}


def find_step(trace: Trace, text: str) -> StepTrace:
    """Return the step called `text`: its id, its number, or its name where that is unique.

    Raises:
        CannotRunError: There is none, or more than one.
    """
    for step in trace.steps:
        if text in (step.step_id, str(step.n)):
            return step
    called = [step for step in trace.steps if step.name == text]
    if len(called) == 1:
        return called[0]
    place = f"Turn {trace.turn_id}"
    if called:
        which = ", ".join(step.step_id for step in called[:_NAMES_MAX])
        more = ", …" if len(called) > _NAMES_MAX else ""
        raise CannotRunError(
            place, f"{len(called):,} of its steps are called {text!r}", f"Say which: {which}{more}."
        )
    near = difflib.get_close_matches(text, [step.step_id for step in trace.steps], n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else "undercroft show lists them."
    raise CannotRunError(place, f"it has no step {text!r}", hint)


@dataclass(frozen=True, slots=True)
class Detail:
    """What a step's own record does not say of it.

    Attributes:
        prompt: What it sent, where it asked a model.
        questions: What people were asked of it, and what they saw.
        everything: Whether lists are shown in full.
    """

    prompt: Prompt | None = None
    questions: Sequence[Asked] = ()
    everything: bool = False


def print_step(
    console: Console, trace: Trace, step: StepTrace, detail: Detail | None = None
) -> None:
    """Print one step in full."""
    detail = detail or Detail()
    status = step.status
    head = Text.assemble(
        sign(status), " ", (cut(safe(step.step_id), console.width - 16), "bold"), "  "
    )
    put(console, [head.append(word(status), style=colour(status))])
    say(console, f"of turn {safe(trace.turn_id)}, {safe(trace.target)}", 0, "dim")
    console.print()
    _print_facts(console, trace, step)
    _print_history(console, step, asked=bool(detail.questions))
    for asked in detail.questions:
        _print_question(console, asked)
    if step.refusal is not None:
        _row(console, "refused by", step.refusal.rule, style="yellow")
        _row(console, "", step.refusal.message)
        _row(console, "next move", step.refusal.next)
        if step.refusal.facts:
            _body(console, "facts", dict(step.refusal.facts))
    if detail.prompt is not None:
        _print_sent(console, detail.prompt, everything=detail.everything)
    elif step.arguments is not None:
        _body(console, "arguments", step.arguments)
    if step.value is not None:
        _body(console, "value", step.value)


def _print_sent(console: Console, prompt: Prompt, *, everything: bool) -> None:
    """Print what a model was sent, in a few lines."""
    _row(console, "prompt", f"{prompt_words(prompt)}: --prompt shows it")
    if prompt.tools is not None:
        names = [tool.name for tool in prompt.tools]
        _row(console, "tools", _listed(names) if names else "none on offer")
    for doubt in prompt.doubts:
        _row(console, "", doubt, style="yellow")
    if prompt.loss is not None:
        print_loss(console, prompt.loss, everything=everything)


def _print_question(console: Console, asked: Asked) -> None:
    """Print what a person was asked, what they saw, and what they said."""
    until = "" if asked.expires_at is None else f", until {clock(asked.expires_at, date=True)}"
    _row(console, "asked", f"{clock(asked.at, date=True)}{until}, of {asked.fingerprint[:8]}")
    for place, (key, version) in enumerate(asked.versions[:_NAMES_MAX]):
        _row(console, "" if place else "saw", f"{key} at version {cut(version, 16)}")
    if len(asked.versions) > _NAMES_MAX:
        _row(console, "", f"… and {len(asked.versions) - _NAMES_MAX:,} more; --json has all")
    if asked.word and asked.word != "void":
        because = f": {asked.why}" if asked.why else ""
        when = "" if asked.decided_at is None else f"{clock(asked.decided_at, date=True)}  "
        _row(console, "decided", f"{when}{asked.word} by {asked.by}{because}")
    elif asked.word:
        _row(console, "decided", f"void, and asked again: {_VOID.get(asked.why, asked.why)}")


def _print_facts(console: Console, trace: Trace, step: StepTrace) -> None:
    _row(console, "kind", f"{step.kind}{', changes the world' if step.changes else ''}")
    if step.branch:
        _row(console, "branch", step.branch)
    if step.claims:
        _row(console, "claims", ", ".join(f"{mode} {key}" for mode, key in step.claims))
    if step.causes:
        _row(console, "uses", _listed(step.causes))
    used = [other.step_id for other in trace.steps if step.step_id in other.causes]
    if used:
        _row(console, "used by", _listed(used))
    if step.began_at is not None:
        tries = f", attempt {step.attempts}" if step.attempts > 1 else ""
        _row(console, "began", f"{clock(step.began_at, date=True)}{tries}")
    _row(console, "took", took(step.took_s) or "not known: it has no recorded end")
    _print_cost(console, step)
    for owned in step.owned:
        _print_owned(console, owned)


def _print_cost(console: Console, step: StepTrace) -> None:
    """Print what it called, what that cost, and what it waited for."""
    if step.service:
        state = f", its breaker {word(step.breaker)}" if step.breaker else ""
        _row(console, "service", f"{step.service}{state}")
    if step.prompt_tokens is not None:
        _row(console, "sent", f"about {step.prompt_tokens:,} tokens")
    if step.spent is not None:
        _row(console, "spent", spent_words(step.spent))
    for place, wait in enumerate(step.waits[:_LISTED_MAX]):
        after = f", behind {wait.behind}" if wait.behind else ""
        _row(console, "" if place else "waited", f"{took(wait.waited_s)} for {wait.claim}{after}")
    if len(step.waits) > _LISTED_MAX:
        _row(console, "", f"… and {len(step.waits) - _LISTED_MAX:,} more; --json has all")


def _print_owned(console: Console, owned: Owned) -> None:
    """Print what the turn became the owner of, and what holds everybody else back."""
    label = "owns"
    for key, strength in list(zip(owned.keys, owned.strength, strict=False))[:_NAMES_MAX]:
        held = _KEPT_OUT.get(strength, strength)
        _row(console, label, f"{key}, fence {owned.fence:,}, {held}")
        label = ""
    if len(owned.keys) > _NAMES_MAX:
        _row(console, "", f"… and {len(owned.keys) - _NAMES_MAX:,} more; --json has all")
    if owned.taken_from:
        _row(console, "", f"taken over from turn {owned.taken_from}, whose lease had lapsed")
    if owned.dirty:
        text = "dirty: that turn was cut off in the middle of a write to it"
        _row(console, "", text, style="yellow")


def _print_history(console: Console, step: StepTrace, *, asked: bool = False) -> None:
    for retry in step.retries[:_LISTED_MAX]:
        of = word(retry.error.error_class) + (f", {retry.error.blame}" if retry.error.blame else "")
        text = f"attempt {retry.attempt} failed, waited {took(retry.wait_s)}: {retry.error}  ({of})"
        if retry.breaker:
            text += f", the breaker then {word(retry.breaker)}"
        _row(console, "retry", text)
    if len(step.retries) > _LISTED_MAX:
        _row(console, "", f"… and {len(step.retries) - _LISTED_MAX:,} more; --json has all")
    for said in () if asked else step.decisions:
        _row(console, "decided", f"{clock(said.at, date=True)}  {_word(said)}")
    if step.error is not None:
        of = word(step.error.error_class) + (f", {step.error.blame}" if step.error.blame else "")
        _row(console, "error", f"{step.error}  ({of})", style="red")


def _word(said: Decision) -> str:
    """Say what was decided, by whom and why."""
    if said.what == "void":
        return f"void, and asked again: {_VOID.get(said.how, said.how)}"
    by = f"by {said.by}" if said.how == "person" else f"says {said.by} ({said.how})"
    return f"{said.what} {by}{f': {said.reason}' if said.reason else ''}"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NAMES_MAX:,} more" if len(names) > _NAMES_MAX else ""
    return ", ".join(names[:_NAMES_MAX]) + more


def _row(console: Console, label: str, text: str, style: str = "") -> None:
    body = Text(bounded(safe(text, lines=True)), style=style)
    lines = list(body.wrap(console, console.width - _LABEL - 2))
    for place, line in enumerate(lines):
        line.rstrip()
        head = f"  {label if not place else '':<{_LABEL}}"
        lines[place] = Text.assemble((head, "dim"), line)
    put(console, lines)


def _body(console: Console, label: str, value: object) -> None:
    console.print()
    say(console, label, 2, "dim")
    say(console, bounded(pretty(value), more="--body"), 4)

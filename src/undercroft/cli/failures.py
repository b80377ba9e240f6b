"""What did not go well in a turn, and the next move for it: who decides what, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from undercroft.cli.console import print_command, say, sign, word
from undercroft.cli.outcome import bounded, print_doubts, print_waiting
from undercroft.cli.safe import clock, cut, safe
from undercroft.cli.timeline import outcome_lost
from undercroft.cli.where import Where
from undercroft.model.outcome import TurnStatus, Waiting
from undercroft.model.step import StepStatus
from undercroft.model.trace import StepTrace, Trace

LISTED_MAX = 8
_NAMES_MAX = 6
_TEXT_CHARS_MAX = 400


def print_failures(console: Console, trace: Trace, *, alive: bool, everything: bool) -> None:
    """Print what failed, was refused, never ran, or went well only after all."""
    steps = trace.steps

    def mended(console: Console, step: StepTrace) -> None:
        _print_mended(console, trace, step)

    lists: list[tuple[Callable[[Console, StepTrace], None], list[StepTrace]]] = [
        (_print_failed, [s for s in steps if s.status is StepStatus.FAILED]),
        (_print_refused, [s for s in steps if s.status is StepStatus.REFUSED]),
        (_print_doubt, [s for s in steps if s.status is StepStatus.IN_DOUBT]),
        (_print_cut, [s for s in steps if s.status is StepStatus.RUNNING and not alive]),
        (mended, [s for s in steps if s.status is StepStatus.OK and _was_mended(s)]),
    ]
    skipped = [s for s in steps if s.status is StepStatus.SKIPPED]
    waiting = [s for s in steps if s.status is StepStatus.WAITING and not s.decisions]
    decided = [s for s in steps if s.status is StepStatus.WAITING and s.decisions]
    if not (any(found for _, found in lists) or skipped or waiting or decided or trace.error):
        console.print(Text("  Nothing."))
        return
    told = {(s.error.type, s.error.message) for s in steps if s.error is not None}
    if trace.error is not None and (trace.error.type, trace.error.message) not in told:
        say(console, f"The turn: {_short(str(trace.error))}", 2, "red")
    for show, found in lists:
        shown = found if everything else found[:LISTED_MAX]
        for step in shown:
            show(console, step)
        if len(found) > len(shown):
            left = len(found) - len(shown)
            console.print(Text(f"    … {left:,} more like that: --all", style="dim"))
    _print_names(console, skipped, "skipped, since something that it needs did not succeed")
    _print_names(console, waiting, "waiting for a person")
    _print_names(console, decided, "decided, but nobody has gone on with the turn since")


def _print_failed(console: Console, step: StepTrace) -> None:
    tries = f" after {step.attempts} attempts" if step.attempts > 1 else ""
    _head(console, step, f"failed{tries}")
    if step.error is not None:
        _line(console, f"{_short(str(step.error))} ({word(step.error.error_class)})")


def _print_refused(console: Console, step: StepTrace) -> None:
    refusal = step.refusal
    _head(console, step, f"refused: {refusal.rule}" if refusal else "refused")
    if refusal is not None:
        _line(console, _short(refusal.message))
        _line(console, f"Next move: {_short(refusal.next)}", style="dim")


def _print_doubt(console: Console, step: StepTrace) -> None:
    _head(console, step, "in doubt: it may have happened or not")
    if step.error is not None:
        _line(console, _short(str(step.error)))


def _print_cut(console: Console, step: StepTrace) -> None:
    if step.changes:
        how = "was cut off in its middle; it may have happened or not"
    else:
        how = "was cut off in its middle; it changes nothing, so it just runs again"
    _head(console, step, how, sign("cut off"))


def _was_mended(step: StepTrace) -> bool:
    return bool(step.retries) or any(
        said.how in ("verify", "key", "person")
        and said.what in ("applied", "not applied", "repeated")
        for said in step.decisions
    )


def _print_mended(console: Console, trace: Trace, step: StepTrace) -> None:
    """Print what went wrong in a step that succeeded in the end."""
    mark = Text("↻", style="yellow")
    for said in step.decisions:
        cut_off = outcome_lost(trace, step, said) == "cut off"
        lost = "was cut off in its middle" if cut_off else "lost the answer"
        if said.what == "applied":
            how = f"{lost}; it had happened, so it was not done again"
        elif said.what == "not applied":
            how = f"{lost}; it had not happened, so it was done then"
        elif said.what == "repeated":
            how = f"{lost}, and was done again under the same key"
        else:
            continue
        _head(console, step, how, mark)
        by = said.by if said.how == "person" else f"{said.how} {said.by}"
        if said.how != "key":
            _line(console, f"says {safe(by)}, {clock(said.at)}", style="dim")
    if step.retries:
        times = "once" if len(step.retries) == 1 else f"{len(step.retries)} times"
        _head(console, step, f"failed {times}, then succeeded", mark)
        _line(console, _short(str(step.retries[-1].error)), style="dim")


def _print_names(console: Console, steps: Sequence[StepTrace], what: str) -> None:
    if not steps:
        return
    names = ", ".join(safe(step.step_id) for step in steps[:_NAMES_MAX])
    more = f" and {len(steps) - _NAMES_MAX:,} more" if len(steps) > _NAMES_MAX else ""
    text = Text.assemble(sign(steps[0].status), f" {names}{more}: {what}")
    say(console, text, 2)


def _head(console: Console, step: StepTrace, what: str, mark: Text | None = None) -> None:
    name = cut(safe(step.step_id), console.width // 2)
    mark = mark or sign(step.status)
    text = Text.assemble(mark, " ", (name, "bold"), " ")
    say(console, text.append(what, style=mark.style), 2)


def _line(console: Console, text: str, style: str = "") -> None:
    say(console, text, 6, style)


def _short(text: str) -> str:
    text = safe(text)
    if len(text) <= _TEXT_CHARS_MAX:
        return text
    return f"{text[:_TEXT_CHARS_MAX]}… ({len(text):,} characters)"


# ------------------------------------------------------------------ what to do now


def print_moves(console: Console, trace: Trace, where: Where, *, alive: bool) -> None:
    """Print what would take the turn further, where anything would."""
    waits = [
        Waiting(step.step_id, step.name, step.arguments)
        for step in trace.steps
        if step.status is StepStatus.WAITING and not step.decisions
    ]
    doubts = [
        Waiting(step.step_id, step.name, step.arguments)
        for step in trace.steps
        if step.status is StepStatus.IN_DOUBT and trace.status is TurnStatus.IN_DOUBT
    ]
    if alive or trace.status.final:
        return
    console.print()
    console.print(Text("What now?", style="bold"))
    if trace.status is TurnStatus.WAITING and waits:
        print_waiting(console, trace.turn_id, waits, where)
    elif trace.status is TurnStatus.IN_DOUBT and doubts:
        print_doubts(console, trace.turn_id, doubts, where)
    else:
        why = {
            TurnStatus.RUNNING: "Its process is gone. Go on where it was:",
            TurnStatus.STOPPED: "It was stopped. Go on where it was:",
        }.get(trace.status, "It was decided. Go on with it:")
        console.print(Text(f"  {bounded(why)}"))
        print_command(console, where.resuming("resume", trace.turn_id), "    ")

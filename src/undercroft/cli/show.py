"""A turn on one page: the six questions of an incident, answered at a glance.

Keeps: a page of 80 columns, whatever the turn; long lists lose their middle and say how much,
and how to see it. Nothing is run and no model is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

from undercroft.cli.console import colour, columns, put, say, sign, word
from undercroft.cli.failures import print_failures, print_moves
from undercroft.cli.outcome import bounded, print_text
from undercroft.cli.safe import brief, clock, cut, named, safe, took
from undercroft.cli.spending import spent_words, total_spent
from undercroft.cli.timeline import Scale, ends, outcome_lost, pace_lines, scale_line
from undercroft.cli.where import Where
from undercroft.layers.observability.answers import QUESTIONS, Answers
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import StepStatus
from undercroft.model.trace import Delivery, StepTrace, Trace

T = TypeVar("T")

HEAD_MAX, TAIL_MAX = 12, 4
_MARK = "◆"
SIGN_COLUMNS, NAME_COLUMNS, DURATION_COLUMNS = 4, 22, 11


@dataclass(frozen=True, slots=True)
class Page:
    """What is shown, and how.

    Attributes:
        alive: Whether a process is running the turn now.
        everything: Whether lists are shown in full.
    """

    console: Console
    trace: Trace
    answers: Answers
    where: Where
    alive: bool
    everything: bool

    @property
    def room(self) -> int:
        """Columns beside the name of a step."""
        return self.console.width - SIGN_COLUMNS - NAME_COLUMNS - 1


def print_page(page: Page) -> None:
    """Print the page of a turn."""
    if page.trace.status is TurnStatus.RUNNING and not page.alive:
        lives = (*page.trace.lives[:-1], replace(page.trace.lives[-1], ended="killed"))
        page = replace(page, trace=replace(page.trace, lives=lives))
    _print_head(page)
    parts: tuple[Callable[[Page], None], ...] = (
        _tried,
        _called,
        _succeeded,
        _failed,
        _took,
        _seen,
    )
    for question, part in zip(QUESTIONS, parts, strict=True):
        page.console.print()
        page.console.print(Text(question, style="bold"))
        part(page)
    print_moves(page.console, page.trace, page.where, alive=page.alive)


def _print_head(page: Page) -> None:
    trace = page.trace
    status = str(trace.status)
    if trace.status is TurnStatus.RUNNING and not page.alive:
        status = "killed"
    head = Text.assemble(sign(status), " ", (safe(trace.turn_id), "bold"), "  ")
    page.console.print(head.append(word(status), style=f"bold {colour(status)}"))
    facts = [f"began {clock(trace.began_at, date=True)}"]
    if page.answers.total_s is not None and trace.status.final:
        facts.append(f"took {took(page.answers.total_s)}")
    if trace.session is not None:
        facts.append(f"session {safe(trace.session)}")
    page.console.print(Text(cut(", ".join(facts), page.console.width), style="dim"))


# ------------------------------------------------------------------ the six answers


def _tried(page: Page) -> None:
    trace = page.trace
    say(page.console, f"{trace.kind} {safe(trace.target)}", 2)
    _rows(
        page,
        list(trace.input.items()),
        lambda item: _row(Text(), Text(safe(item[0])), Text(brief(item[1], page.room))),
    )


def _called(page: Page) -> None:
    if not page.answers.called:
        say(page.console, "None.", 2)
    _rows(page, page.answers.called, lambda step: _step_row(page, step, _what(step, page.room)))


def _what(step: StepTrace, width: int) -> Text:
    """Say what a step was asked to do: its arguments, its claims, or whom it used."""
    if step.kind == "model":
        return Text(cut(_proposed(step.value), width))
    if isinstance(step.arguments, dict) and step.arguments:
        return Text(named(step.arguments, width))
    if step.arguments not in (None, {}):
        return Text(brief(step.arguments, width))
    text = Text(", ".join(f"{mode} {safe(key)}" for mode, key in step.claims))
    if step.causes:
        names = [safe(name) for name in step.causes[:HEAD_MAX]]
        more = f" and {len(step.causes) - HEAD_MAX:,} more" if len(step.causes) > HEAD_MAX else ""
        text.append("  " if text else "").append(f"uses {', '.join(names)}{more}", style="dim")
    return text


def _proposed(answer: Any) -> str:
    """Say what a model said."""
    if not isinstance(answer, dict):
        return ""
    calls = answer.get("calls") or []
    if calls:
        names = [safe(str(call.get("name", ""))) for call in calls if isinstance(call, dict)]
        return f"proposes {', '.join(names)}"
    return f"says {brief(answer.get('text', ''), 400)}"


def _succeeded(page: Page) -> None:
    done = [step for step in page.trace.steps if step.status is StepStatus.OK]
    count, total = len(done), len(page.trace.steps)
    said = f"{count:,} of {total:,} steps."
    if count == total:
        said = f"All {total:,} steps." if total > 1 else "Its one step."
    say(page.console, said if total else "Nothing ran.", 2)
    shown = [step for step in done if step.kind != "model"]
    _rows(page, shown, lambda step: _step_row(page, step, Text(_gave(step, page.room))))


def _gave(step: StepTrace, width: int) -> str:
    """Say what a step came to."""
    said = next((d for d in step.decisions if d.what == "approved"), None)
    if step.kind == "approval" and said is not None:
        because = f": {said.reason}" if said.reason else ""
        return cut(safe(f"approved by {said.by}{because}"), width)
    if step.kind == "approval" and isinstance(step.value, dict):
        return "nobody had to be asked"
    return brief(step.value, width)


def _failed(page: Page) -> None:
    print_failures(page.console, page.trace, alive=page.alive, everything=page.everything)


def _took(page: Page) -> None:
    now_s = time.time()
    scale = Scale(page.trace, page.room - DURATION_COLUMNS - 1, now_s=now_s)

    critical = _critical(page)

    def row(step: StepTrace) -> Text:
        name = _name(step)
        if step.step_id in critical:
            name = Text(f"{cut(name.plain, NAME_COLUMNS - 2):<{NAME_COLUMNS - 1}}")
            name.append(_MARK, style="yellow")
        return _row(Text(), name, scale.bar(step), _duration(page, scale, step))

    if page.trace.steps:
        legend = Text(f"{_MARK} critical path" if critical else "", style="dim")
        put(page.console, [_row(Text(), legend, scale_line(scale))])
    _rows(page, page.trace.steps, row)
    _print_lives(page, now_s)
    _print_pace(page)
    spent = total_spent(page.trace.steps)
    if spent is not None:
        put(page.console, [Text(), Text(f"    spent {spent_words(spent)}", style="dim")])


def _critical(page: Page) -> frozenset[str]:
    """Return the steps on the critical path, where that is not all that ran."""
    said = page.trace.parallelism
    ran = sum(bool(step.took_s) for step in page.trace.steps)
    if said is None or len(said.critical_path) >= ran:
        return frozenset()
    return frozenset(said.critical_path)


def _duration(page: Page, scale: Scale, step: StepTrace) -> Text:
    if scale.was_cut(step):
        return Text(outcome_lost(page.trace, step), style="magenta")
    if step.status in (StepStatus.RUNNING, StepStatus.WAITING):
        return Text(word(step.status), style=colour(step.status))
    if step.attempts == 0 and not step.took_s:
        return Text("never ran", style="dim")
    return Text(took(step.took_s))


def _print_lives(page: Page, now_s: float) -> None:
    lives, until = page.trace.lives, ends(page.trace, now_s)
    if len(lives) < 2 and (not lives or lives[0].ended == "ended"):  # noqa: PLR2004  nothing to tell
        return
    lines = []
    for place, life in enumerate(lives):
        how = life.ended
        text = Text(f"process {place + 1}", style="dim")
        text.append(f" began {clock(life.began_at)}")
        if place:
            text.append(f", {took(life.began_at - until[place - 1])} later")
        if how == "running":
            text.append(", still running")
        else:
            text.append(", ").append(how, style="red" if how == "killed" else "dim")
            least = "at least " if life.ended_at is None else ""
            text.append(f" after {least}{took(until[place] - life.began_at)}")
        lines.append(Text.assemble("    ", text))
    head, left_out, tail = _ends(lines, everything=page.everything)
    between = [Text(f"    … {left_out:,} more: --all", style="dim")] if left_out else []
    put(page.console, [*head, *between, *tail])


def _print_pace(page: Page) -> None:
    said = page.trace.parallelism
    if said is None or sum(bool(step.took_s) for step in page.trace.steps) < 2:  # noqa: PLR2004  side by side
        return
    width = page.console.width - SIGN_COLUMNS
    lines = pace_lines(said, page.console, width, full=page.everything)
    put(page.console, [Text(), *(Text.assemble(" " * SIGN_COLUMNS, line) for line in lines)])


def _seen(page: Page) -> None:
    trace = page.trace
    if trace.status is TurnStatus.FAILED:
        say(page.console, "Nothing: the turn failed before it could answer.", 2)
    elif not page.answers.delivered:
        say(page.console, "Nothing yet.", 2)
    elif trace.delivered is None:
        say(page.console, "Nothing: the turn ended without saying anything.", 2)
    else:
        print_text(page.console, trace.delivered)
    if trace.delivery is not None:
        _print_delivery(page, trace.delivery)
    if trace.missing:
        say(page.console, f"without {bounded(safe(', '.join(trace.missing)))}", 2, "yellow")


def _print_delivery(page: Page, delivery: Delivery) -> None:
    """Print whether it reached the user, as the application says."""
    reached = delivery.status == "delivered"
    text = f"{word(delivery.status)} {clock(delivery.at, date=True)}"
    if not reached:
        text = f"delivery {text}"
    if delivery.detail:
        text += f": {cut(safe(delivery.detail), 400)}"
    say(page.console, text, 2, "dim" if reached else "red")


# ------------------------------------------------------------------ rows and lists


def _step_row(page: Page, step: StepTrace, text: Text) -> Text:
    is_cut = step.status is StepStatus.RUNNING and not page.alive
    return _row(sign("cut off" if is_cut else step.status), _name(step), text)


def _name(step: StepTrace) -> Text:
    return Text(cut(safe(step.step_id), NAME_COLUMNS))


def _row(mark: Text, name: Text, text: Text, duration: Text | None = None) -> Text:
    """Return one line: a sign, a name, and what is said of it."""
    first = (Text.assemble("  ", mark), SIGN_COLUMNS), (name, NAME_COLUMNS + 1)
    if duration is None:
        return columns(*first, (text, 1_000))
    duration = Text.assemble(" " * (DURATION_COLUMNS - duration.cell_len), duration)
    return columns(*first, (text, text.cell_len + 1), (duration, DURATION_COLUMNS))


def _rows(page: Page, items: Sequence[T], line: Callable[[T], Text]) -> None:
    """Print one line an item, without the middle of a long list."""
    head, left_out, tail = _ends(items, everything=page.everything)
    between = []
    if left_out:
        text = Text(f"… {left_out:,} more: --all, or --step STEP for one", style="dim")
        between.append(Text.assemble("    ", text))
    lines = [*map(line, head), *between, *map(line, tail)]
    for one in lines:
        one.truncate(page.console.width, overflow="ellipsis")
    put(page.console, lines)


def _ends(items: Sequence[T], *, everything: bool) -> tuple[Sequence[T], int, Sequence[T]]:
    """Return the beginning of a list, how many are left out, and its end."""
    left_out = len(items) - HEAD_MAX - TAIL_MAX
    if everything or left_out <= 1:
        return items, 0, ()
    return items[:HEAD_MAX], left_out, items[-TAIL_MAX:]

"""When each step ran, as bars on one scale, and how much of it ran side by side.

Keeps: the time in which no process ran the turn takes one column, however long it was; what
the journal does not say is not drawn as if it did.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from undercroft.cli.console import colour
from undercroft.cli.safe import cut, safe, took
from undercroft.model.step import StepStatus
from undercroft.model.trace import Decision, Life, Parallelism, StepTrace, Trace

GAPS_MAX = 8
_GAP = "┊"
_BAR, _WAIT, _CUT, _NEVER = "━", "┄", "✗", "·"
_LABEL = 10
_WAITS_MAX = 3
# Below this, more parallelism than there was is no news.
_MORE = 0.05


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which some process ran the turn, and the columns that show it."""

    from_s: float
    to_s: float
    column: int
    columns: int


class Scale:
    """From moments to columns."""

    def __init__(self, trace: Trace, columns: int, *, now_s: float) -> None:
        """Spread the lives of `trace` over `columns`; a life still going on lasts to `now_s`."""
        self.now_s = now_s
        last = trace.lives[-1] if trace.lives else None
        self._alive_from_s = last.began_at if last and last.ended == "running" else math.inf
        spans = [
            (life.began_at, end) for life, end in zip(trace.lives, ends(trace, now_s), strict=True)
        ]
        if len(spans) > GAPS_MAX:
            spans = [(spans[0][0], spans[-1][1])]
        self.columns = columns
        self.stretches: list[Stretch] = []
        gaps = len(spans) - 1
        total_s = sum(to - start for start, to in spans)
        room, column = columns - gaps, 0
        for place, (start, to) in enumerate(spans):
            left = len(spans) - place - 1
            share = (to - start) / total_s if total_s > 0 else 1 / len(spans)
            width = max(1, min(round(share * room), columns - column - 2 * left))
            if not left:
                width = columns - column
            self.stretches.append(Stretch(start, to, column, width))
            column += width + 1
        self.gaps = [s.column - 1 for s in self.stretches[1:]]

    @property
    def shown_s(self) -> float:
        """Seconds that the bars show, gaps left out."""
        return sum(s.to_s - s.from_s for s in self.stretches)

    def column(self, at: float) -> int:
        """Return the column that shows the moment `at`."""
        for stretch in self.stretches:
            if at <= stretch.to_s or stretch is self.stretches[-1]:
                length_s = stretch.to_s - stretch.from_s
                share = (at - stretch.from_s) / length_s if length_s > 0 else 0.0
                inside = int(max(0.0, min(share, 1.0)) * stretch.columns)
                return stretch.column + min(inside, stretch.columns - 1)
        return 0

    def bar(self, step: StepTrace) -> Text:
        """Return the bar of one step."""
        cells = [" "] * self.columns
        for gap in self.gaps:
            cells[gap] = _GAP
        text = Text(no_wrap=True)
        if step.began_at is None:
            return text.append("".join(cells), style="dim")
        first = self.column(step.began_at)
        ready = self._ready(step, first)
        end_s, is_cut = self._end(step)
        last = max(first, self.column(end_s))
        mark = _WAIT if step.kind == "approval" else _BAR
        if not step.attempts and not step.took_s and step.status is not StepStatus.WAITING:
            mark = _NEVER
        bar = [mark] * (last - first + 1)
        if is_cut:
            bar[-1] = _CUT
        text.append("".join(cells[:ready]), style="dim")
        text.append(_WAIT * (first - ready), style="yellow")
        text.append("".join(bar), style=colour(step.status) or "blue")
        return text.append("".join(cells[last + 1 :]), style="dim")

    def _ready(self, step: StepTrace, first: int) -> int:
        """Return the column from which a step that begins in `first` waited for its claims."""
        waited_s = sum(wait.waited_s for wait in step.waits)
        if not waited_s or step.began_at is None:
            return first
        stretch = next((s for s in reversed(self.stretches) if s.column <= first), None)
        # What it waited for in an earlier life is not drawn over the time between.
        earliest = stretch.column if stretch is not None else 0
        return min(first, max(earliest, self.column(step.began_at - waited_s)))

    def was_cut(self, step: StepTrace) -> bool:
        """Whether its process died in it, and it was not begun again."""
        if step.began_at is None:
            return False
        if step.status is StepStatus.RUNNING:
            return step.began_at < self._alive_from_s
        return step.status is StepStatus.IN_DOUBT or any(
            said.what == "applied" for said in step.decisions
        )

    def _end(self, step: StepTrace) -> tuple[float, bool]:
        """When a step's bar ends, and whether it was cut off there."""
        began_s = step.began_at or 0.0
        if self.was_cut(step):
            inside = [s.to_s for s in self.stretches if s.from_s <= began_s <= s.to_s]
            return (inside[-1] if inside else began_s), True
        return (self.now_s if step.took_s is None else began_s + step.took_s), False


def outcome_lost(trace: Trace, step: StepTrace, said: Decision | None = None) -> str:
    """Say how the outcome of a step was lost: with its process, or on the way back to it.

    With `said` it is about the attempt before that decision; else about the last one.
    """
    if said is None or said.what == "applied":
        life = _life_at(trace, step.began_at or 0.0)
    else:
        # Begun anew since, so its first beginning is no longer known: the life before tells.
        life = _life_at(trace, said.at)
        life = trace.lives[max(trace.lives.index(life) - 1, 0)] if life else None
    lived = life is not None and life.ended in ("parked", "ended")
    return "answer lost" if lived else "cut off"


def _life_at(trace: Trace, at: float) -> Life | None:
    """Return the last life that had begun by then."""
    return next((life for life in reversed(trace.lives) if life.began_at <= at), None)


def ends(trace: Trace, now_s: float) -> list[float]:
    """Return when each life ended; of a killed one, when it was last heard of."""
    found: list[float] = []
    for place, life in enumerate(trace.lives):
        if life.ended_at is not None:
            found.append(max(life.began_at, life.ended_at))
        elif life.ended == "running":
            found.append(max(life.began_at, now_s))
        else:
            following = trace.lives[place + 1 : place + 2]
            until = following[0].began_at if following else now_s
            found.append(_last_heard(trace.steps, life, until))
    return found


def _last_heard(steps: Sequence[StepTrace], life: Life, until_s: float) -> float:
    heard = life.began_at
    for step in steps:
        moments = [retry.at for retry in step.retries]
        if step.began_at is not None:
            moments += [step.began_at, step.began_at + (step.took_s or 0.0)]
        heard = max([heard, *(at for at in moments if life.began_at <= at <= until_s)])
    return heard


def scale_line(scale: Scale) -> Text:
    """Return the line above the bars: from 0 to the whole."""
    whole = took(scale.shown_s)
    cells = [" "] * scale.columns
    for gap in scale.gaps:
        cells[gap] = _GAP
    line = "0" + "".join(cells[1 : scale.columns - len(whole)]) + whole
    return Text(cut(line, scale.columns), style="dim", no_wrap=True)


# ------------------------------------------------------------------ side by side


def pace_lines(said: Parallelism, console: Console, width: int, *, full: bool) -> list[Text]:
    """Say how parallel a turn was, which steps it could not have done without, what it lost."""

    def fact(label: str, lead: str, text: str) -> list[Text]:
        room = width - _LABEL - cell_len(lead)
        # A claim may be long, and a list that is not shown in full has few lines.
        body = Text(text if full else cut(text, 2 * room))
        return _hung(label, lead, body.wrap(console, room))

    if not said.waits and said.possible < 1 + _MORE:
        return fact("parallel", "", "nothing to gain: each step used the one before it")
    pace = f"{_times(said.achieved)} steps at a time, {_times(said.possible)} possible"
    seconds = f"{took(said.critical_s)}  "
    room = width - _LABEL - len(seconds)
    path = _path(said.critical_path, room, lines_max=len(said.critical_path) if full else 2)
    lost = took(said.lost_s) if said.lost_s > _MORE * said.elapsed_s else "next to nothing"
    lines = [
        *fact("parallel", "", f"{pace}: {took(said.work_s)} of work in {took(said.elapsed_s)}"),
        *_hung("critical", seconds, map(Text, path)),
        *fact("lost", "", lost + ("; what steps waited for:" if said.waits else "")),
    ]
    waits = said.waits if full else said.waits[:_WAITS_MAX]
    for claim, waiter, behind, waited_s in waits:
        after = f", behind {behind}" if behind else ""
        lines += fact("", f"{took(waited_s):>7}  ", safe(f"{waiter} for {claim}{after}"))
    if len(said.waits) > len(waits):
        lines += fact("", "", f"… {len(said.waits) - len(waits):,} more: --all")
    return lines


def _path(names: Sequence[str], width: int, *, lines_max: int) -> list[str]:
    """Return a path as lines, without its middle where that does not fit: its ends say most."""
    # A name has a letter, a dot and a digit at least, and an arrow.
    fit_max = lines_max * (width // 6 + 1)
    for left_out in range(max(0, len(names) - fit_max), len(names)):
        head = (len(names) - left_out + 1) // 2
        tail = len(names) - left_out - head
        gap = [f"… {left_out:,} more …"] if left_out else []
        lines = [""]
        for piece in [*map(safe, names[:head]), *gap, *map(safe, names[len(names) - tail :])]:
            longer = f"{lines[-1]} → {piece}" if lines[-1] else piece
            if cell_len(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(f"→ {piece}")
        if len(lines) <= lines_max and all(cell_len(line) <= width for line in lines):
            return lines
    return [cut(" → ".join(map(safe, names[:fit_max])), width)]


def _times(count: float) -> str:
    return f"{count:.1f}" if count < 100 else f"{count:,.0f}"  # noqa: PLR2004  three digits do


def _hung(label: str, lead: str, texts: Iterable[Text]) -> list[Text]:
    """Return lines below each other, behind a label and what leads the first of them."""
    lines = []
    for place, text in enumerate(texts):
        text.rstrip()
        margin = f"{'':<{_LABEL}}" + " " * cell_len(lead)
        head = Text.assemble((f"{label:<{_LABEL}}", "dim"), lead) if not place else Text(margin)
        lines.append(head.append_text(text))
    return lines

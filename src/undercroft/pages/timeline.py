"""When each step of a turn ran, drawn as bars on one scale, by branch.

Keeps: time in which no process ran the turn takes the same little room, however long it was; a
bar that has no known end is drawn to where its process was last heard of, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from undercroft.model.step import StepStatus
from undercroft.model.trace import Life, StepTrace, Trace
from undercroft.pages.html import Markup, join, tag
from undercroft.pages.words import counted, took

LOOKS: dict[str, str] = {
    StepStatus.OK: "good",
    StepStatus.FAILED: "bad",
    StepStatus.REFUSED: "warn",
    StepStatus.WAITING: "info",
    StepStatus.SKIPPED: "faint",
    StepStatus.IN_DOUBT: "doubt",
    StepStatus.RUNNING: "info",
}

_LABELS, _BARS, _RIGHT = 190, 620, 90
_ROW, _TOP, _GAP = 18, 26, 14
_NAME_CHARS = 28
_HEAD_MAX, _TAIL_MAX = 120, 40
_BRANCHES_MAX = 40


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A time in which some process ran the turn, and where it is drawn."""

    from_s: float
    to_s: float
    left: float
    width: float


class _Axis:
    """From moments to places."""

    def __init__(self, trace: Trace) -> None:
        spans = [(life.began_at, self._end(trace, at)) for at, life in enumerate(trace.lives)]
        spans = spans or [(trace.began_at, trace.began_at)]
        total_s = sum(to - start for start, to in spans)
        room = max(_BARS / 2, _BARS - _GAP * (len(spans) - 1))
        gap = (_BARS - room) / max(1, len(spans) - 1)
        left = float(_LABELS)
        self.stretches: list[_Stretch] = []
        for start, to in spans:
            share = (to - start) / total_s if total_s > 0 else 1 / len(spans)
            self.stretches.append(_Stretch(start, to, left, share * room))
            left += share * room + gap
        self.shown_s = total_s

    @staticmethod
    def _end(trace: Trace, place: int) -> float:
        life: Life = trace.lives[place]
        if life.ended_at is not None:
            return max(life.began_at, life.ended_at)
        following = trace.lives[place + 1 : place + 2]
        until = following[0].began_at if following else float("inf")
        heard = life.began_at
        for step in trace.steps:
            for at in _moments(step):
                if life.began_at <= at <= until:
                    heard = max(heard, at)
        return heard

    def x(self, at: float) -> float:
        """Return where a moment is drawn."""
        for stretch in self.stretches:
            if at <= stretch.to_s or stretch is self.stretches[-1]:
                length_s = stretch.to_s - stretch.from_s
                share = (at - stretch.from_s) / length_s if length_s > 0 else 0.0
                return stretch.left + max(0.0, min(share, 1.0)) * stretch.width
        return float(_LABELS)

    def end_of(self, step: StepTrace) -> float:
        """Return when the bar of a step ends."""
        began_s = step.began_at or 0.0
        if step.took_s is not None:
            return began_s + max(0.0, step.took_s)
        inside = [s.to_s for s in self.stretches if s.from_s <= began_s <= s.to_s]
        return inside[-1] if inside else began_s


def _moments(step: StepTrace) -> Iterable[float]:
    if step.began_at is not None:
        yield step.began_at
        yield step.began_at + (step.took_s or 0.0)
    yield from (retry.at for retry in step.retries)


def draw_timeline(trace: Trace, *, everything: bool = False) -> Markup:
    """Return the timeline of a turn, and in words what of it is not drawn."""
    if not trace.steps:
        return tag("p", "No step ran.")
    axis = _Axis(trace)
    critical = frozenset(trace.parallelism.critical_path if trace.parallelism else ())
    shown, left_out = _shown(trace.steps, everything=everything)
    rows: list[Markup] = []
    y = _TOP
    for branch, steps in _by_branch(shown):
        if branch:
            label = tag("text", _cut(branch), x="0", y=str(y + 12), class_="faint")
            rows.append(label)
            y += _ROW
        for step in steps:
            rows.append(_row(axis, step, y, is_critical=step.step_id in critical))
            y += _ROW
    width, height = _LABELS + _BARS + _RIGHT, y + 6
    drawing = tag(
        "svg",
        tag("title", f"Timeline of {counted(len(shown), 'step')}"),
        _scale(axis, height),
        *rows,
        viewBox=f"0 0 {width} {height}",
        width=str(width),
        height=str(height),
        role="img",
    )
    notes = []
    if critical:
        notes.append("Outlined: the critical path, which no parallelism could have shortened.")
    if len(trace.lives) > 1:
        notes.append("A gap: no process ran the turn.")
    if left_out:
        notes.append(f"Not drawn: {left_out:,} steps in the middle; --all draws them.")
    said = tag("p", " ".join(notes), class_="faint") if notes else None
    return join(tag("div", drawing, class_="wide"), said)


def _shown(steps: Sequence[StepTrace], *, everything: bool) -> tuple[Sequence[StepTrace], int]:
    left_out = len(steps) - _HEAD_MAX - _TAIL_MAX
    if everything or left_out <= 0:
        return steps, 0
    return (*steps[:_HEAD_MAX], *steps[-_TAIL_MAX:]), left_out


def _by_branch(steps: Sequence[StepTrace]) -> Iterable[tuple[str, list[StepTrace]]]:
    """Yield the steps of each branch together; of many, as they began."""
    found: dict[str, list[StepTrace]] = {}
    for step in steps:
        found.setdefault(step.branch, []).append(step)
    if len(found) > _BRANCHES_MAX:
        return [("", list(steps))]
    return found.items()


def _row(axis: _Axis, step: StepTrace, y: int, *, is_critical: bool) -> Markup:
    name = tag(
        "a",
        tag("text", _cut(step.step_id), x="0", y=str(y + 12)),
        href=f"#step-{step.n}",
    )
    if step.began_at is None:
        return tag("g", name)
    left = axis.x(step.began_at)
    width = max(2.0, axis.x(axis.end_of(step)) - left)
    waited_s = sum(wait.waited_s for wait in step.waits)
    ready = max(float(_LABELS), axis.x(step.began_at - waited_s)) if waited_s else left
    said = took(step.took_s) if step.took_s is not None else "no recorded end"
    bar = tag(
        "rect",
        tag("title", f"{step.step_id}: {step.status.replace('_', ' ')}, {said}"),
        x=f"{left:.1f}",
        y=str(y + 3),
        width=f"{width:.1f}",
        height=str(_ROW - 7),
        rx="2",
        class_=f"bar {LOOKS.get(step.status, 'faint')}",
    )
    outline = tag(
        "rect",
        x=f"{left - 1.5:.1f}",
        y=f"{y + 1.5}",
        width=f"{width + 3:.1f}",
        height=str(_ROW - 4),
        rx="3",
        class_="critical-mark",
    )
    wait = tag(
        "rect",
        tag("title", f"waited {took(waited_s)}"),
        x=f"{ready:.1f}",
        y=str(y + 6),
        width=f"{max(0.0, left - ready):.1f}",
        height=str(_ROW - 13),
        class_="wait",
    )
    lasted = tag(
        "text", said if step.took_s is not None else "", x=str(_LABELS + _BARS + 8),
        y=str(y + 12), class_="faint",
    )  # fmt: skip
    return tag("g", name, wait if waited_s else None, bar, outline if is_critical else None, lasted)


def _scale(axis: _Axis, height: int) -> Markup:
    """Return the line above the bars, and where a process ended and another went on."""
    parts = [
        tag("text", "0", x=str(_LABELS), y="12", class_="faint"),
        tag(
            "text", took(axis.shown_s), x=str(_LABELS + _BARS), y="12", class_="faint",
            text_anchor="end",
        ),
    ]  # fmt: skip
    edges = {stretch.left for stretch in axis.stretches}
    edges |= {stretch.left + stretch.width for stretch in axis.stretches}
    parts += [
        tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1="18", y2=str(height), class_="grid")
        for x in sorted(edges)
    ]
    return tag("g", *parts)


def _cut(text: str) -> str:
    return text if len(text) <= _NAME_CHARS else text[: _NAME_CHARS - 1] + "…"

"""Which step used whose result, drawn from top to bottom.

Keeps: a step stands below all whose results it used; a cycle, which only a damaged record can
hold, is drawn and ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from undercroft.model.trace import StepTrace, Trace
from undercroft.pages.html import Markup, join, tag
from undercroft.pages.timeline import LOOKS

# More than these nobody can read.
_NODES_MAX = 80
_NODES_ALL_MAX = 1_000
_WIDTH, _HEIGHT, _ACROSS, _DOWN = 150, 26, 168, 54
_COLUMNS_MAX = 12
_NAME_CHARS = 20


def draw_graph(trace: Trace, *, everything: bool = False) -> Markup:
    """Return the graph of causes, and in words what of it is not drawn."""
    chosen = _chosen(trace, _NODES_ALL_MAX if everything else _NODES_MAX)
    if not any(step.causes for step in chosen):
        return tag("p", "No step used the result of another.", class_="faint")
    places, columns, rows = _places(chosen)
    critical = tuple(trace.parallelism.critical_path) if trace.parallelism else ()
    lines = frozenset(pairwise(critical))
    edges = [
        _edge(places[cause], places[step.step_id], is_critical=(cause, step.step_id) in lines)
        for step in chosen
        for cause in step.causes
        if cause in places
    ]
    nodes = [_node(step, *places[step.step_id], is_critical=step.step_id in critical)
             for step in chosen]  # fmt: skip
    width, height = columns * _ACROSS, rows * _DOWN
    drawing = tag(
        "svg",
        tag("title", "Which step used whose result"),
        *edges,
        *nodes,
        viewBox=f"0 0 {width} {height}",
        width=str(width),
        height=str(height),
        role="img",
    )
    said = None
    if len(chosen) < len(trace.steps):
        text = f"Drawn: {len(chosen):,} of {len(trace.steps):,} steps, the critical path first."
        said = tag("p", text, class_="faint")
    return join(tag("div", drawing, class_="wide"), said)


def _chosen(trace: Trace, most: int) -> Sequence[StepTrace]:
    """Return the steps that are drawn: all, or the critical path and what it used."""
    if len(trace.steps) <= most:
        return trace.steps
    by_id = {step.step_id: step for step in trace.steps}
    path = list(trace.parallelism.critical_path) if trace.parallelism else []
    wanted = dict.fromkeys([*path[: most // 4], *path[-most // 4 :]])
    for step_id in list(wanted):
        for cause in by_id[step_id].causes if step_id in by_id else ():
            if len(wanted) < most:
                wanted[cause] = None
    for step in trace.steps:
        if len(wanted) >= most:
            break
        wanted[step.step_id] = None
    return [step for step in trace.steps if step.step_id in wanted]


def _places(steps: Sequence[StepTrace]) -> tuple[dict[str, tuple[int, int]], int, int]:
    """Return the place of each step, and how many columns and rows there are."""
    ids = {step.step_id for step in steps}
    depth: dict[str, int] = {}
    # Steps are in the order of their numbers, and so are causes and what follows from them.
    for step in steps:
        above = [depth.get(cause, -1) for cause in step.causes if cause in ids]
        depth[step.step_id] = max(above, default=-1) + 1
    places: dict[str, tuple[int, int]] = {}
    filled: dict[int, int] = {}
    offset, starts = 0, {}
    for level in range(max(depth.values(), default=0) + 1):
        starts[level] = offset
        count = sum(1 for one in depth.values() if one == level)
        # A wide row goes on below itself.
        offset += max(1, -(-count // _COLUMNS_MAX))
    for step in steps:
        level = depth[step.step_id]
        at = filled.get(level, 0)
        filled[level] = at + 1
        places[step.step_id] = (at % _COLUMNS_MAX, starts[level] + at // _COLUMNS_MAX)
    widest = max((x for x, _ in places.values()), default=0) + 1
    return places, widest, offset


def _node(step: StepTrace, x: int, y: int, *, is_critical: bool) -> Markup:
    left, top = x * _ACROSS + 4, y * _DOWN + 4
    name = step.step_id
    short = name if len(name) <= _NAME_CHARS else name[: _NAME_CHARS - 1] + "…"
    look = LOOKS.get(step.status, "faint")
    return tag(
        "a",
        tag("title", f"{name}: {step.status.replace('_', ' ')}"),
        tag(
            "rect",
            x=str(left),
            y=str(top),
            width=str(_WIDTH),
            height=str(_HEIGHT),
            rx="4",
            class_="box critical" if is_critical else "box",
        ),
        tag("rect", x=str(left), y=str(top), width="5", height=str(_HEIGHT), class_=f"bar {look}"),
        tag("text", short, x=str(left + 12), y=str(top + 17)),
        href=f"#step-{step.n}",
    )


def _edge(cause: tuple[int, int], effect: tuple[int, int], *, is_critical: bool) -> Markup:
    x1, y1 = cause[0] * _ACROSS + 4 + _WIDTH // 2, cause[1] * _DOWN + 4 + _HEIGHT
    x2, y2 = effect[0] * _ACROSS + 4 + _WIDTH // 2, effect[1] * _DOWN + 4
    middle = (y1 + y2) / 2
    return tag(
        "path",
        d=f"M{x1} {y1} C{x1} {middle:.0f} {x2} {middle:.0f} {x2} {y2}",
        class_="edge critical" if is_critical else "edge",
    )

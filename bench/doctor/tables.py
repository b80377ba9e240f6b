"""Tables of what was measured, at eighty columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

WIDTH = 80


def share(part: float, whole: float) -> str:
    """Return a share with two digits, or a dash of nothing."""
    return f"{part / whole:.2f}" if whole else "-"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], first: int = 0) -> str:
    """Lay out rows under their heads: the first column to the left, the others to the right."""
    each = [[str(cell) for cell in row] for row in rows]
    lines = [list(heads), *each]
    widths = [max(len(line[n]) for line in lines) for n in range(len(heads))]
    widths[0] = max(widths[0], first)
    made = []
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        made.append("  ".join(cells)[:WIDTH].rstrip())
    return "\n".join(made)


def title(text: str) -> str:
    """Return a heading."""
    return f"\n{text}\n{'-' * min(WIDTH, len(text))}"


def met(value: float, limit: float, *, least: bool = True) -> str:
    """Say whether a figure meets its target."""
    good = value >= limit if least else value <= limit
    return "met" if good else "MISSED"

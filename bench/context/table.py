"""The table of what each loses: a row for each way to make prompts, a column for each figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.context.scored import Score

NAME_WIDTH, WIDTH = 46, 10


@dataclass(frozen=True, slots=True)
class Column:
    """A figure.

    Attributes:
        head: In two lines.
        of: What is shown, in percent where it is a share.
        digits: After the point.
    """

    head: tuple[str, str]
    of: Callable[[Score], float]
    digits: int = 1


def percent(part: float, whole: float) -> float:
    """Return a share in percent; 0 of nothing."""
    return 100 * part / whole if whole else 0.0


COLUMNS = {
    "orphans": Column(("orphans", "%"), lambda s: percent(s.orphaned, s.prompts)),
    "over": Column(("over", "budget %"), lambda s: percent(s.over, s.prompts)),
    "lost": Column(("stated", "lost %"), lambda s: percent(s.lost, s.stated)),
    "lost_back": Column(("of it", "recall %"), lambda s: percent(s.lost_back, s.stated)),
    "each": Column(("lost, all", "prompts %"), lambda s: percent(s.lost_each, s.stated_each)),
    "missing": Column(("used", "missing %"), lambda s: percent(s.missing, s.used)),
    "missing_back": Column(("of it", "recall %"), lambda s: percent(s.missing_back, s.used)),
    "prefix": Column(("prefix", "tokens %"), lambda s: percent(s.kept_tokens, s.former_tokens)),
    "whole": Column(("whole", "pairs %"), lambda s: percent(s.kept_pairs, s.pairs)),
    "tokens": Column(("tokens a", "prompt"), lambda s: s.tokens / max(1, s.prompts), 0),
}


def head() -> str:
    """Return the two lines above the table."""
    lines = ["".join(column.head[at].rjust(WIDTH) for column in COLUMNS.values()) for at in (0, 1)]
    return "\n".join(" " * NAME_WIDTH + line for line in lines)


def row(name: str, score: Score, missed: list[str] | None = None) -> str:
    """Lay out one row; `missed` are the targets that it misses, None where it has none."""
    cells = "".join(f"{c.of(score):,.{c.digits}f}".rjust(WIDTH) for c in COLUMNS.values())
    verdict = "" if missed is None else "  met" if not missed else f"  MISSED: {', '.join(missed)}"
    return f"{name:<{NAME_WIDTH}}{cells}{verdict}"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure must be: at most, or at least, so much."""

    column: str
    limit: float
    least: bool = False

    def met(self, score: Score) -> bool:
        """Say whether it is."""
        value = COLUMNS[self.column].of(score)
        return value >= self.limit if self.least else value <= self.limit

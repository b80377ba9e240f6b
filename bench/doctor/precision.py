"""What was measured of each rule, and the file that keeps it for reports.

A firing is right in a run that holds a fault of the rule's layer, or that failed for real; it is
wrong in an untouched run, in one that holds another layer's fault, and in one that passed. A rule
counts once a run. Faults are put in as often as we like, so recorded runs say more: both are kept
together, and the share is only as good as that mixture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import undercroft.doctor
from bench.doctor.faulted import Shown
from bench.doctor.real import Rated

FILE = Path(undercroft.doctor.__file__).with_name("measured.py")
_TEXT = '''"""How often each rule was right, on runs that people or programs had labelled.

Written by `python -m bench.doctor --write` {day}, from {runs:,} runs: not by hand.
Keeps: a figure is a share of at least so many firings as `FIRED_MIN`; below, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FIRED_MIN = 5

# By rule: how often it fired on labelled and injected runs, and how often it was right.
MEASURED: Mapping[str, tuple[int, int]] = MappingProxyType(
    {{
{rows}
    }}
)


def precision_of(rule: str) -> float | None:
    """Return the share of the rule's firings that were right; None where too few were seen."""
    fired, right = MEASURED.get(rule, (0, 0))
    return right / fired if fired >= FIRED_MIN else None
'''


class Kept:
    """Counts of firings, by rule."""

    def __init__(self) -> None:
        self.fired: Counter[str] = Counter()
        self.right: Counter[str] = Counter()
        self.runs = 0

    def injected(self, each: Iterable[Shown]) -> list[Shown]:
        """Count what fired on runs with and without faults, and hand them on."""
        held = list(each)
        for one in held:
            self._count(one.said.rules, {r for r in one.said.rules if r.startswith(one.layer)})
        return held

    def recorded(self, each: Iterable[Rated]) -> list[Rated]:
        """Count what fired on recorded runs, and hand them on."""
        held = list(each)
        for one in held:
            self._count(one.said.rules, set() if one.passed else set(one.said.rules))
        return held

    def _count(self, fired: Iterable[str], right: Iterable[str]) -> None:
        self.runs += 1
        self.fired.update(fired)
        self.right.update(right)


def write(kept: Kept, day: str, path: Path = FILE) -> Path:
    """Write what was counted as a module; return where."""
    rows = "\n".join(
        f'        "{rule}": ({fired}, {kept.right[rule]}),'
        for rule, fired in sorted(kept.fired.items())
    )
    path.write_text(_TEXT.format(day=day, runs=kept.runs, rows=rows), encoding="utf-8")
    return path

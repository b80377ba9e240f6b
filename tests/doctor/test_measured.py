"""What was measured of each rule is about rules that there are, and can be written anew."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from bench.doctor.precision import Kept, write
from undercroft.doctor.measured import FIRED_MIN, MEASURED, precision_of
from undercroft.doctor.verdict import RULES


def test_measured_rules_are_rules() -> None:
    """Every figure is about a rule that some layer looks for, and right no more than it fired."""
    known = {rule.name for rules in RULES.values() for rule in rules}
    assert set(MEASURED) <= known
    assert all(0 <= right <= fired for fired, right in MEASURED.values())


@pytest.mark.parametrize(("fired", "right", "share"), [(0, 0, None), (4, 4, None), (8, 6, 0.75)])
def test_a_share_is_of_enough_firings(
    fired: int, right: int, share: float | None, tmp_path: Path
) -> None:
    """A rule that fired too seldom has no precision; what is written says what was counted."""
    kept = Kept()
    kept.fired["context.read_again"] = fired
    kept.right["context.read_again"] = right
    module = runpy.run_path(str(write(kept, "today", tmp_path / "measured.py")))
    assert module["precision_of"]("context.read_again") == share
    assert module["FIRED_MIN"] == FIRED_MIN
    assert precision_of("no.such_rule") is None

"""Four processes on one journal, of which one after another is killed: nothing is lost."""

from pathlib import Path

import pytest

from .stress import LEASE_S, Figures, stress


def check(figures: Figures) -> None:
    """Hold a run to what must be true of each, and show its figures."""
    print(figures)  # noqa: T201  pytest shows it with -s, and where the test fails
    assert not figures.problems, figures.problems[:10]
    assert not figures.errors, figures.errors
    assert not figures.unclaimed
    assert figures.took_over_s, "Nobody died while it owned anything: this tested nothing."
    assert max(figures.took_over_s) <= LEASE_S + 1.0
    assert figures.resumed
    assert figures.rechecks


def test_no_update_is_lost_while_processes_are_killed(tmp_path: Path) -> None:
    """Every write that was applied is counted, by its key's owner, and nothing stays owned."""
    figures = stress(tmp_path, run_s=5.0)
    check(figures)
    assert figures.kills == 4


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_update_is_lost_in_a_minute_of_killing(tmp_path: Path) -> None:
    """Every write that was applied is counted, by its key's owner, and nothing stays owned."""
    figures = stress(tmp_path, run_s=60.0)
    check(figures)
    assert figures.kills == 59
    assert figures.dirty, "Nobody died in the middle of a write."

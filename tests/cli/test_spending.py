"""What calls spent, as a person reads it."""

from __future__ import annotations

import pytest

from undercroft.cli.spending import money, spent_words, total_spent
from undercroft.model.step import StepStatus
from undercroft.model.trace import Spent, StepTrace


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        (0.0, "$0.00"),
        (0.000_02, "<$0.0001"),
        (0.0123, "$0.0123"),
        (1.0, "$1.00"),
        (1_234.5, "$1,234.50"),
    ],
)
def test_money_is_told_as_fine_as_it_matters(usd: float, said: str) -> None:
    """Cents where it is much, and never nothing where it is little."""
    assert money(usd) == said


def test_only_what_there_was_is_told() -> None:
    """A tool without a price or tokens says neither."""
    assert spent_words(Spent("crm", 1, 0.0)) == "1 attempt"
    words = spent_words(Spent("model", 2, 1.5, 1_200, 40, 0.002))
    assert words == "2 attempts, 1.50 s, 1,200 tokens in, 40 out, $0.0020"


def test_what_has_no_price_takes_none_from_the_sum() -> None:
    """Of several steps those add up that are known; of none, nothing is said."""

    def step(n: int, spent: Spent | None) -> StepTrace:
        return StepTrace(f"get.{n}", n, "get", "tool", StepStatus.OK, spent=spent)

    assert total_spent([step(1, None)]) is None
    total = total_spent([step(1, Spent("a", 1, 1.0)), step(2, Spent("b", 2, 0.5, 3, 4, 0.25))])
    assert total == Spent("", 3, 1.5, 3, 4, 0.25)

"""The programs tell what happened in the world, whatever the loop under test says of it."""

from __future__ import annotations

from bench.frameworks.programs import (
    approval_answered_twice,
    approval_with_siblings,
    effect_before_a_crash,
    fails_for_ever,
    two_withdrawals,
)
from tests.bench.raw_loop import FRAMEWORK, TURNS_MAX


async def test_a_loop_that_runs_a_batch_together_loses_a_withdrawal() -> None:
    """Both read 100, and the 30 is written last."""
    measured = await two_withdrawals(FRAMEWORK, guarded=False)
    assert measured["balance"] == 70
    assert measured["said"] == "withdrew 30, ada has 70; withdrew 50, ada has 50"


async def test_a_loop_that_holds_the_batch_for_an_approval_is_seen_to_hold_it() -> None:
    """What ran before the yes and after it is told from the ledger."""
    measured = await approval_with_siblings(FRAMEWORK, guarded=False)
    assert measured["held"] == ["add_interest", "write_note"]
    assert measured["order"] == ["yes", "write_note", "add_interest", "pay"]
    assert measured["balance"] == 50


async def test_each_yes_to_what_was_saved_pays() -> None:
    """Two processes that say yes to the same file pay twice, one by one or at once."""
    measured = await approval_answered_twice(FRAMEWORK, guarded=False)
    assert [measured[how]["paid"] for how in ("one_by_one", "at_once")] == [2, 2]
    assert [measured[how]["balance"] for how in ("one_by_one", "at_once")] == [0, 50]


async def test_a_payment_before_a_kill_is_repeated() -> None:
    """The killed process had paid, and the one that resumes it pays again."""
    measured = await effect_before_a_crash(FRAMEWORK, guarded=False)
    assert (measured["paid"], measured["balance"]) == (2, 0)
    assert measured["resumed"] == {"said": "paid 50, ada has 0"}


async def test_a_call_that_fails_for_ever_is_counted_until_the_loop_stops() -> None:
    """The calls are counted in the world, and how the loop stopped is told."""
    measured = await fails_for_ever(FRAMEWORK, guarded=False)
    assert (measured["calls"], measured["stopped"]) == (TURNS_MAX, "TurnsError")

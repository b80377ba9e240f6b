"""What `check` says of a policy for windows."""

from __future__ import annotations

import pytest

import undercroft as uc
from undercroft.engine.check import check
from undercroft.layers.context.lint import lint_context
from undercroft.layers.context.policy import ContextPolicy, ContextRule


def rules(policy: ContextPolicy) -> list[str]:
    """Return the rules that find something in a policy."""
    return [finding.rule for finding in lint_context("handler 'assist'", policy)]


def test_a_policy_as_it_comes_has_nothing_amiss() -> None:
    """The defaults need no mending."""
    assert rules(ContextPolicy(limit_tokens=8_000)) == []


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (ContextPolicy(limit_tokens=8_000, recall=False), "context.no_recall"),
        (
            ContextPolicy(limit_tokens=8_000, rules=(ContextRule(kind="result", action="keep"),)),
            "context.results_stay",
        ),
        (
            ContextPolicy(limit_tokens=8_000, rules=(ContextRule(kind="result", action="pin"),)),
            "context.results_stay",
        ),
        (
            ContextPolicy(limit_tokens=8_000, high_share=0.9, low_share=0.8),
            "context.marks_too_close",
        ),
    ],
)
def test_what_can_only_rot_is_found(policy: ContextPolicy, rule: str) -> None:
    """What leaves and cannot be fetched back, what never leaves, and marks that are met at once."""
    assert rules(policy) == [rule]


def test_results_that_stay_need_no_recall() -> None:
    """Without recall nothing is amiss where results are kept; that they are is said."""
    kept = (ContextRule(kind="result", action="keep"),)
    policy = ContextPolicy(limit_tokens=8_000, recall=False, rules=kept)
    assert rules(policy) == ["context.results_stay"]


def test_a_rule_for_one_tool_is_no_rule_for_all() -> None:
    """Results of one tool may stay."""
    kept = (ContextRule(kind="result", action="pin", tool="get_contract"),)
    assert rules(ContextPolicy(limit_tokens=8_000, rules=kept)) == []


def test_check_says_it_of_a_handler() -> None:
    """A handler's own policy is part of its declaration."""

    @uc.handler(context=uc.ContextPolicy(limit_tokens=8_000, recall=False))
    async def assist(turn: uc.Turn) -> str:
        return turn.id

    (finding,) = check(assist)
    assert (finding.rule, finding.place) == ("context.no_recall", "handler 'assist'")

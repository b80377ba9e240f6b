"""What a failure leaves open, and what a refusal tells a model."""

from __future__ import annotations

import pytest

from undercroft.layers.breakers.exits import GIVEN_UP, came_to_nothing, in_words, is_missing
from undercroft.layers.breakers.guard import is_open, out_of_time, over_budget, withdrawn
from undercroft.layers.breakers.lint import lint_fallback
from undercroft.layers.breakers.policy import Budget
from undercroft.layers.breakers.spend import Account, Amount, Short, reserve
from undercroft.model.finding import Severity
from undercroft.model.step import ErrorClass, Failure, Refusal, StepStatus

FAILED, REFUSED = StepStatus.FAILED, StepStatus.REFUSED


def failed(error_class: ErrorClass, blame: str) -> Failure:
    """Return a failure of that class and blame."""
    return Failure("Error", "it broke", error_class, "get", blame)


@pytest.mark.parametrize(
    ("blame", "error_class", "nothing", "missing"),
    [
        ("vendor", ErrorClass.TRANSIENT, True, True),
        ("account", ErrorClass.OVERLOADED, True, True),
        ("vendor", ErrorClass.PERMANENT, True, False),
        ("caller", ErrorClass.DOMAIN, False, False),
        ("unsure", ErrorClass.PERMANENT, False, False),
        ("", ErrorClass.PERMANENT, False, False),
    ],
)
def test_only_what_others_failed_at_leaves_a_gap(
    blame: str, error_class: ErrorClass, *, nothing: bool, missing: bool
) -> None:
    """An answer that is no is an answer; a bug is no reason to look elsewhere.

    Of a tool without a service only what was tried again leaves one: nobody said that it calls
    anything.
    """
    error = failed(error_class, blame)
    assert came_to_nothing(FAILED, error, None) is nothing
    assert is_missing(FAILED, error, None, None) is missing
    assert is_missing(FAILED, error, None, "crm") is nothing


def test_a_write_in_doubt_is_no_failure_yet() -> None:
    """Nothing stands in for what may have happened."""
    error = failed(ErrorClass.UNKNOWN, "vendor")
    assert not came_to_nothing(StepStatus.IN_DOUBT, error, None)
    assert not came_to_nothing(StepStatus.OK, None, None)


def test_only_refusals_of_this_layer_leave_a_gap() -> None:
    """A call that its own arguments made impossible is the model's to mend."""
    for rule in GIVEN_UP:
        refusal = Refusal(rule, "It was not called.", "Go on.")
        assert came_to_nothing(REFUSED, None, refusal)
        assert is_missing(REFUSED, None, refusal, None)
        assert in_words(None, refusal) == "It was not called."
    mine = Refusal("sequencing.unknown_tool", "There is none.", "Choose another.")
    assert not came_to_nothing(REFUSED, None, mine)


def test_a_refusal_says_what_would_mend_the_plan() -> None:
    """Rule, facts and next move; seconds as a person reads them."""
    refusal = is_open("get", "crm", "open", 4.98765)
    assert refusal.rule == "breakers.open"
    assert "crm keeps failing; it is tried again in 4.99 s" in refusal.message
    assert refusal.facts["retry_in_s"] == 4.988
    assert "closed off by a person" in is_open("get", "crm", "forced_open", None).message
    assert "0 s are left" in out_of_time("get", -3.0).message
    short = reserve([Account("the turn", Budget(attempts=1))], Amount(2))
    assert isinstance(short, Short)
    spent = over_budget("get", short)
    assert spent.rule == "breakers.budget"
    assert (spent.facts["budget"], spent.facts["unit"], spent.facts["limit"]) == (
        "the turn",
        "attempts",
        1,
    )


def test_a_model_is_told_what_is_not_on_offer() -> None:
    """By service, with its tools; and when nothing is missing any more."""
    said = withdrawn([("crm", ["get", "put"]), ("fx", ["rate"])])
    assert "crm (get, put); fx (rate)" in said
    assert "on offer again" in withdrawn([])
    assert said.startswith("[undercroft]")


def test_a_fallback_on_the_same_service_is_found() -> None:
    """Once the service is given up both are refused."""
    (finding,) = lint_fallback("tool 'get'", "crm", "crm", "other")
    assert (finding.rule, finding.severity) == ("breakers.same_service", Severity.WARNING)
    assert "other" in finding.message
    assert not lint_fallback("tool 'get'", "crm", "cache", "other")
    assert not lint_fallback("tool 'get'", None, None, "other")

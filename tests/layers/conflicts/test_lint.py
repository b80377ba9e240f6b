"""What `check` says of claims is in the words of the declaration, and bounded."""

from __future__ import annotations

from undercroft.layers.conflicts.keys import parse
from undercroft.layers.conflicts.lint import lint_overlap, lint_races
from undercroft.layers.conflicts.policy import declare
from undercroft.layers.conflicts.races import RACES_MAX, Claimant
from undercroft.model.effect import Mode
from undercroft.model.finding import Severity

WRITE = ("write", parse("crm/{a}"))


def test_a_race_is_said_with_both_claims_and_an_edge() -> None:
    """Whoever reads it knows which steps, why, and what to write instead."""
    silent = declare({}, pure=False, service="crm").claims
    shared = declare({Mode.READ: "crm/{a}"}, pure=True, service="crm").claims
    steps = [Claimant("one", shared, (), 1), Claimant("two", silent, (), 5)]
    (finding,) = lint_races("flow", steps)
    assert str(finding) == (
        "steps 'one' and 'two' of workflow 'flow': nothing orders them, and 'one' claims service "
        "'crm' while 'two' claims exclusive all of service 'crm'. Give 'two' the parameter `one`, "
        "so that it waits; or let them claim keys that cannot overlap. [conflicts.race]"
    )


def test_a_fan_out_race_names_the_item() -> None:
    """Whoever reads it knows what to put into the key."""
    steps = [Claimant("fan", (WRITE, ("read", parse("crm/{item}"))), (), 1, "item")]
    (finding,) = lint_races("flow", steps)
    assert (finding.rule, finding.severity) == ("conflicts.fan_out_race", Severity.ERROR)
    assert "each claims write crm/{a}: the key" in finding.message
    assert "…/{item}" in finding.mend
    both = (("write", parse("crm/{item}")), ("read", parse("crm/{b}")))
    (finding,) = lint_races("flow", [Claimant("fan", both, (), 1, "item")])
    assert "write crm/{item} while another may claim read crm/{b}" in finding.message


def test_a_graph_full_of_races_is_told_so_in_bounds() -> None:
    """No more are listed than anyone reads, and that there are more is said."""
    steps = [Claimant(f"s{n}", (WRITE,), (), 1) for n in range(100)]
    findings = lint_races("flow", steps)
    assert len(findings) == RACES_MAX + 1
    assert "only 100 of its races are listed" in findings[-1].message
    assert lint_races("flow", steps[:1]) == []


def test_an_overlap_is_a_warning() -> None:
    """It harms nobody, and is most likely a mistake."""
    (finding,) = lint_overlap("tool 'x'", [WRITE, ("append", parse("crm/{a}/notes"))])
    assert (finding.rule, finding.severity) == ("conflicts.self_overlap", Severity.WARNING)
    assert "append crm/{a}/notes" in finding.message
    assert lint_overlap("tool 'x'", [WRITE]) == []

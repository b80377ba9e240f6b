"""What is missing in a declaration is said before anything runs, with the mend."""

from __future__ import annotations

import pytest

from tests.layers.sequencing.steps import step
from undercroft.errors import GraphError
from undercroft.layers.sequencing.graph import Node, build
from undercroft.layers.sequencing.lint import (
    graph_finding,
    lint_description,
    lint_needs,
    lint_plan,
    lint_value,
    lint_write,
)
from undercroft.model.finding import Finding, Severity
from undercroft.model.step import Phase

RESOLVE, READ, GATHER, PREPARE, APPROVE, EXECUTE, CONFIRM = Phase

SOUND = [
    step("record", READ, ("account",)),
    step("draft", PREPARE, ("record",)),
    step("gate", APPROVE, ("draft",), bool),
    step("send", EXECUTE, ("draft", "gate"), changes=True),
    step("confirm", CONFIRM, ("send",)),
]


def rules(findings: list[Finding]) -> dict[str, Severity]:
    """Return which rules were broken, each finding complete."""
    for finding in findings:
        assert finding.rule.startswith("sequencing.")
        assert all((finding.place, finding.message, finding.mend))
        assert str(finding) == (
            f"{finding.place}: {finding.message} {finding.mend} [{finding.rule}]"
        )
    return {finding.rule: finding.severity for finding in findings}


def test_a_sound_workflow_has_no_findings() -> None:
    """Where order is declared there is nothing to say."""
    assert lint_plan(build("renewal", SOUND)) == []


@pytest.mark.parametrize(
    ("nodes", "found", "place"),
    [
        pytest.param(
            [
                step("draft", PREPARE, ("text",)),
                step("send", EXECUTE, ("draft",), changes=True),
                step("confirm", CONFIRM, ("send",)),
            ],
            {"sequencing.write_without_read": Severity.WARNING},
            "workflow 'renewal'",
            id="a-write-without-a-read",
        ),
        pytest.param(
            [step("record", READ), step("send", EXECUTE, ("record",), changes=True)],
            {"sequencing.no_confirm": Severity.WARNING},
            "workflow 'renewal'",
            id="no-confirm",
        ),
        pytest.param(
            [
                *SOUND[:3],
                step("send", EXECUTE, ("draft",), changes=True),
                step("confirm", CONFIRM, ("send", "gate")),
            ],
            {"sequencing.gate_guards_nothing": Severity.ERROR},
            "step 'gate' of workflow 'renewal'",
            id="a-gate-that-nobody-waits-for",
        ),
        pytest.param(
            [*SOUND, step("notes", GATHER, ("record",))],
            {"sequencing.unused": Severity.WARNING},
            "step 'notes' of workflow 'renewal'",
            id="a-value-that-nobody-uses",
        ),
    ],
)
def test_what_a_workflow_lacks_is_named(
    nodes: list[Node], found: dict[str, Severity], place: str
) -> None:
    """Each gap in the declared order is one finding, where it is, and as bad as it is."""
    findings = lint_plan(build("renewal", nodes))
    assert rules(findings) == found
    assert [finding.place for finding in findings] == [place]


def test_a_workflow_that_only_reads_needs_no_confirm() -> None:
    """The rules for changes are for workflows that change something."""
    assert lint_plan(build("w", [step("a", PREPARE), step("b", CONFIRM, ("a",))])) == []


def test_a_needed_tool_that_nobody_can_call_is_an_error() -> None:
    """A call that needs what is not offered could never run."""
    findings = lint_needs("send", ("get", "find"), {"send", "get"})
    assert rules(findings) == {"sequencing.needs_unoffered": Severity.ERROR}
    assert findings[0].place == "tool 'send'"
    assert "'find'" in findings[0].message
    assert lint_needs("send", ("get",), {"get"}) == []


@pytest.mark.parametrize("changes", [True, False])
@pytest.mark.parametrize("verified", [True, False])
@pytest.mark.parametrize("keyed", [True, False])
def test_a_write_that_nobody_could_settle_is_named(
    *, changes: bool, verified: bool, keyed: bool
) -> None:
    """A write needs a way to find out, or to repeat it safely; one of the two is enough."""
    findings = lint_write("tool 'send'", changes=changes, verified=verified, keyed=keyed)
    expected = {"sequencing.unsettled_write": Severity.WARNING}
    assert rules(findings) == (expected if changes and not verified and not keyed else {})


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("annotated", [True, False])
def test_a_value_without_a_type_is_named(*, used: bool, annotated: bool) -> None:
    """A value that somebody uses says of what type it is, so that a resume can give it back."""
    findings = lint_value("step 'a'", used=used, annotated=annotated)
    expected = {"sequencing.untyped_value": Severity.WARNING}
    assert rules(findings) == (expected if used and not annotated else {})


@pytest.mark.parametrize(("text", "bad"), [("", True), (" \n", True), ("Send it.", False)])
def test_a_tool_says_what_it_does(text: str, *, bad: bool) -> None:
    """A model is told what a tool is for."""
    findings = lint_description("send", text)
    expected = {"sequencing.undescribed_tool": Severity.WARNING}
    assert rules(findings) == (expected if bad else {})


def test_a_graph_that_does_not_hold_together_is_a_finding_too() -> None:
    """`check` reports a wrong graph with the same words as the error, instead of stopping."""
    with pytest.raises(GraphError) as caught:
        build("w", [step("a", PREPARE, ("a",))])
    finding = graph_finding(caught.value)
    assert rules([finding]) == {"sequencing.graph": Severity.ERROR}
    assert caught.value.problem in finding.message
    assert (finding.place, finding.mend) == (caught.value.place, caught.value.mend)

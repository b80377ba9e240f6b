"""From what the layers see to what is said: verdicts, the cause, and the promised JSON."""

from __future__ import annotations

import ast
import importlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.doctor.problems import Problem
from undercroft.doctor.report import (
    LAYERS,
    NONE,
    Diagnosis,
    LayerReport,
    Verdict,
    contract,
    contract_unread,
)
from undercroft.doctor.telling import also, blind, conclusion, lacking, would
from undercroft.doctor.verdict import RULES, examine, report, root, rule_of
from undercroft.model.case import CallStatus, Case, CaseCall, Facet
from undercroft.model.symptom import Looked, Rule, Sign, Symptom

NAMES = {layer: [rule.name for rule in rules] for layer, rules in RULES.items()}
STEPS = st.lists(st.integers(0, 50), max_size=3).map(tuple)


def symptoms(layer: str) -> st.SearchStrategy[list[Symptom]]:
    """Return anything that a layer may see."""
    one = st.builds(
        Symptom,
        rule=st.sampled_from(NAMES[layer]),
        steps=STEPS,
        evidence=st.text(max_size=5),
        sign=st.sampled_from(Sign),
    )
    return st.lists(one, max_size=6)


def looked(layer: str) -> st.SearchStrategy[Looked]:
    """Return anything that a layer may say."""
    unseen = st.lists(st.sampled_from(NAMES[layer]), unique=True).map(tuple)
    return st.builds(Looked, symptoms(layer).map(tuple), unseen, st.booleans())


REPORTS = st.tuples(*(st.builds(report, st.just(layer), looked(layer)) for layer in LAYERS))


def saw(layer: str, *signs: Sign, step: int = 3, observable: bool = True) -> LayerReport:
    """Return the report of a layer that saw one symptom of each sign."""
    rule = NAMES[layer][0]
    found = tuple(Symptom(rule=rule, steps=(step,), evidence="x", sign=sign) for sign in signs)
    return report(layer, Looked(found, (), observable))


def all_six(**seen: LayerReport) -> tuple[LayerReport, ...]:
    """Return six reports, of which those not given saw nothing."""
    return tuple(seen.get(layer, saw(layer)) for layer in LAYERS)


def said(*layers: LayerReport, **more: Any) -> Diagnosis:
    """Return a diagnosis of these reports."""
    return Diagnosis(
        trace="t", format="plain", steps=9, layers=layers, cause=root(layers), names={}, **more
    )


# ---------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("signs", "observable", "verdict"),
    [
        ((Sign.MISSING, Sign.FIRED, Sign.HINT), True, Verdict.MISSING),
        ((Sign.FIRED, Sign.HINT), True, Verdict.GUARD_FIRED),
        ((Sign.FIRED,), False, Verdict.GUARD_FIRED),
        ((Sign.HINT,), True, Verdict.NOT_EXERCISED),
        ((), True, Verdict.NOT_EXERCISED),
        ((), False, Verdict.NOT_OBSERVABLE),
    ],
)
def test_what_was_missing_outweighs_a_guard_that_fired(
    signs: tuple[Sign, ...],
    observable: bool,  # noqa: FBT001  a parameter of the table above
    verdict: Verdict,
) -> None:
    """Missing, then fired, then whether anything could be judged; a hint makes no verdict."""
    assert saw("breakers", *signs, observable=observable).verdict is verdict


@settings(max_examples=60)
@given(st.data(), st.sampled_from(LAYERS))
def test_the_order_of_symptoms_does_not_matter(data: st.DataObject, layer: str) -> None:
    """A report is the same, whatever order the symptoms came in, and stands in order of steps."""
    seen = data.draw(symptoms(layer))
    shuffled = data.draw(st.permutations(seen))
    first = report(layer, Looked(tuple(seen)))
    assert {**contract(said(first))["layers"]} == {
        **contract(said(report(layer, Looked(tuple(shuffled)))))["layers"]
    }
    starts = [found.steps[0] if found.steps else -1 for found in first.findings]
    assert starts == sorted(starts)


@settings(max_examples=60)
@given(st.sampled_from(LAYERS).flatmap(lambda of: looked(of).map(lambda s: (s, report(of, s)))))
def test_findings_are_what_the_verdict_rests_on(pair: tuple[Looked, LayerReport]) -> None:
    """Each symptom is told once: as finding, as held back, or as hint; hints never count."""
    seen, told = pair
    signs = {found.sign for found in told.findings}
    assert signs <= {Sign.MISSING if told.verdict is Verdict.MISSING else Sign.FIRED}
    assert bool(told.findings) == (told.verdict in (Verdict.MISSING, Verdict.GUARD_FIRED))
    assert len(told.findings) + len(told.held) + len(told.hints) == len(seen.symptoms)


# ---------------------------------------------------------------------- the cause


@settings(max_examples=60)
@given(REPORTS)
def test_only_a_missing_layer_is_a_cause(layers: tuple[LayerReport, ...]) -> None:
    """The cause is a missing layer, `none` where none is missing, null where nothing is seen."""
    cause = root(layers)
    missing = [one.layer for one in layers if one.verdict is Verdict.MISSING]
    if missing:
        assert cause in missing
    elif all(one.verdict is Verdict.NOT_OBSERVABLE for one in layers):
        assert cause is None
    else:
        assert cause == NONE


@settings(max_examples=60)
@given(REPORTS)
def test_what_hides_is_the_cause_only_alone(layers: tuple[LayerReport, ...]) -> None:
    """Observability is never the cause while another layer is missing."""
    missing = [one.layer for one in layers if one.verdict is Verdict.MISSING]
    assert (root(layers) == "observability") == (missing == ["observability"])


def test_the_layer_that_would_have_stopped_it_first_is_the_cause() -> None:
    """Of two missing layers, the one whose rule was broken at the earlier step is the root."""
    late, early = saw("sequencing", Sign.MISSING, step=9), saw("breakers", Sign.MISSING, step=4)
    assert root(all_six(sequencing=late, breakers=early)) == "breakers"
    same = saw("breakers", Sign.MISSING, step=9)
    assert root(all_six(sequencing=late, breakers=same)) == "sequencing"


def test_a_finding_about_a_whole_run_comes_last() -> None:
    """A finding that names no step is not before one that does."""
    whole = report(
        "sequencing", Looked((Symptom(rule=NAMES["sequencing"][0], steps=(), evidence="x"),))
    )
    assert root(all_six(sequencing=whole, context=saw("context", Sign.MISSING))) == "context"
    assert root(all_six(sequencing=whole)) == "sequencing"


# ---------------------------------------------------------------------- JSON


@settings(max_examples=60)
@given(REPORTS)
def test_the_json_is_as_promised(layers: tuple[LayerReport, ...]) -> None:
    """Programs find the promised keys first, with the promised types, and six layers in order."""
    document = json.loads(json.dumps(contract(said(*layers, first_deviation=4))))
    assert list(document)[:5] == ["format", "steps", "layers", "first_deviation", "cause"]
    assert tuple(document["layers"]) == LAYERS
    assert document["cause"] in (*LAYERS, NONE, None)
    for one in document["layers"].values():
        assert list(one)[:2] == ["verdict", "findings"]
        assert one["verdict"] in list(Verdict)
        for found in one["findings"]:
            assert list(found)[:4] == ["rule", "steps", "evidence", "precision"]
            assert all(isinstance(step, int) for step in found["steps"])
            assert found["precision"] is None or 0 <= found["precision"] <= 1


def test_what_could_not_be_read_has_the_same_keys() -> None:
    """Where nothing could be read, every layer is not observable and the cause is null."""
    document = contract_unread([Problem("a.json", "it is empty", "Record something.")])
    assert list(document)[:5] == list(contract(said(*all_six())))[:5]
    assert {one["verdict"] for one in document["layers"].values()} == {"not_observable"}
    assert (document["cause"], document["first_deviation"]) == (None, None)
    assert "a.json" in document["problems"][0]["evidence"]


# ---------------------------------------------------------------------- the rules themselves


@pytest.mark.parametrize("layer", LAYERS)
def test_every_rule_says_what_a_report_needs(layer: str) -> None:
    """A rule is named after its layer, says and would do something, and needs known facets."""
    for rule in RULES[layer]:
        assert rule.name.startswith(f"{layer}.")
        assert rule_of(rule.name) is rule
        assert rule.says.endswith(".")
        assert would(rule).endswith(".")
        assert {Facet(name) for name in rule.needs} <= set(Facet)


def test_the_lines_of_rules_are_python_of_this_package() -> None:
    """What adds a layer is code that compiles, fits a page, and names what `uc` has."""
    front = importlib.import_module("undercroft")
    for rule in (rule for rules in RULES.values() for rule in rules):
        tree = ast.parse(rule.lines)
        assert all(len(line) <= 76 for line in rule.lines.splitlines()), rule.name
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.value.id != "uc" or hasattr(front, node.attr), (rule.name, node.attr)


def test_a_guard_may_name_a_rule_of_its_own() -> None:
    """A guard that acted by a rule that no layer looks for is told like any other."""
    act = Symptom(rule="breakers.newer", steps=(2,), evidence="held", sign=Sign.FIRED)
    told = report("breakers", Looked((act,)))
    assert told.verdict is Verdict.GUARD_FIRED
    assert (told.findings[0].rule.name, told.findings[0].rule.lines) == ("breakers.newer", "")
    assert told.findings[0].rule.says.endswith(".")


# ---------------------------------------------------------------------- words and whole cases


def test_a_record_without_anything_is_examined() -> None:
    """A run of which nothing is recorded is examined like any other, and told as such."""
    found = examine(Case(trace_id="t", format="plain", steps=0))
    assert found.first_deviation is None
    assert conclusion(found)
    assert contract(found)["steps"] == 0


def test_an_uneventful_run_has_no_cause() -> None:
    """A run in which a read came to a result is nobody's fault."""
    call = CaseCall(
        step=1, ended=2, id="c", name="get_order", arguments={"id": "#A1001"}, result="ok"
    )
    shows = frozenset({Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS})
    found = examine(Case(trace_id="t", format="plain", steps=4, calls=(call,), shows=shows))
    assert not found.missing
    assert found.cause == NONE
    assert conclusion(found) == "No runtime layer was the cause."


def failing(**more: Any) -> Case:
    """Return a run in which one broken call was made three times."""
    calls = tuple(
        CaseCall(
            step=2 * n,
            ended=2 * n + 1,
            id=f"c{n}",
            name="get_order",
            arguments={"id": "#A1001"},
            result="Error: not found",
            status=CallStatus.FAILED,
        )
        for n in range(3)
    )
    shows = frozenset({Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS})
    return Case(trace_id="t", format="plain", steps=6, calls=calls, shows=shows, **more)


def test_steps_are_where_the_input_has_them() -> None:
    """A record that is not in the order of time is judged by time, and told by its own places."""
    plain, turned = examine(failing()), examine(failing(places=(5, 4, 3, 2, 1, 0)))
    assert plain.cause == turned.cause == "breakers"
    for before, after in zip(plain.layers, turned.layers, strict=True):
        for one, other in zip(before.findings, after.findings, strict=True):
            assert other.steps == tuple(5 - step for step in one.steps)
    assert plain.first_deviation is not None
    assert turned.first_deviation == 5 - plain.first_deviation
    assert turned.names[turned.first_deviation] == "get_order"


def test_what_was_not_seen_is_said() -> None:
    """A layer of which nothing is recorded is named, with what would show it."""
    rule = next(rule for rule in RULES["context"] if rule.needs)
    dark = LayerReport(layer="context", verdict=Verdict.NOT_OBSERVABLE, unseen=(rule,))
    told = said(*all_six(context=dark))
    assert "context" in blind(told)
    assert {facet.value for facet, _ in lacking(told) if facet} == set(rule.needs)


def test_every_missing_layer_is_named() -> None:
    """The cause is named with its step, and whatever else was missing after it."""
    told = said(
        *all_six(
            breakers=saw("breakers", Sign.MISSING, step=4), context=saw("context", Sign.MISSING)
        )
    )
    assert told.cause == "context"
    assert conclusion(told).startswith("The context layer was missing at step 3.")
    assert also(told) == "Missing too: breakers (step 4)."


def test_what_would_have_been_done_is_a_sentence() -> None:
    """What Undercroft would have done reads the same, however a rule begins it."""
    for text in ("Refused it.", "refused it.", "Undercroft would have refused it."):
        rule = Rule(name="breakers.x", says="x.", would=text, lines="")
        assert would(rule) == "Undercroft would have refused it."

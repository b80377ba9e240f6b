"""A workflow's graph holds together, or it cannot be built."""

from __future__ import annotations

import graphlib
import pickle
from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.layers.sequencing.steps import step
from undercroft.errors import GraphError
from undercroft.layers.sequencing.graph import Node, Source, SourceKind, build
from undercroft.model.inject import Approval
from undercroft.model.step import Phase

RESOLVE, READ, GATHER, PREPARE, APPROVE, EXECUTE, CONFIRM = Phase


# What cannot be built

WRONG: dict[str, tuple[list[Node], tuple[str, ...], str, str]] = {
    "no-steps": ([], (), "it has no steps", "Declare one"),
    "two-of-one-name": (
        [step("load", READ), step("draft"), step("load", GATHER)],
        ("load", "load"),
        "two steps are called 'load'",
        "Rename",
    ),
    "a-circle-of-one": (
        [step("draft", asks=("draft",))],
        ("draft", "draft"),
        "in a circle: draft needs draft",
        "Remove parameter 'draft' from step 'draft'",
    ),
    "a-circle-of-two": (
        [step("draft", asks=("check",)), step("check", asks=("draft",))],
        ("draft", "check"),
        "in a circle: draft needs check needs draft",
        "Remove parameter 'check' from step 'draft'",
    ),
    "a-circle-of-three-and-who-waits-for-it": (
        [
            step("last", CONFIRM, ("a",)),
            step("a", asks=("b",)),
            step("b", asks=("c",)),
            step("c", asks=("a",)),
        ],
        ("a", "b"),
        "in a circle: a needs b needs c needs a",
        "Remove parameter 'b' from step 'a'",
    ),
    "a-circle-through-a-key": (
        [step("a", READ, keys=("b",)), step("b", READ, ("a",))],
        ("a", "b"),
        "in a circle",
        "Remove parameter",
    ),
    "a-circle-through-a-fan-out": (
        [step("a", READ, ("item",), each="b"), step("b", READ, ("a",))],
        ("a", "b"),
        "in a circle",
        "Remove parameter",
    ),
    "an-unknown-name-that-is-nearly-known": (
        [step("record", READ), step("draft", asks=("recrod",))],
        ("draft", "recrod"),
        "step 'draft' asks for 'recrod', which is neither a step nor an input",
        "Did you mean 'record'?",
    ),
    "an-unknown-name-near-an-input": (
        [step("account", RESOLVE, ("email",)), step("draft", asks=("account", "emial"))],
        ("draft", "emial"),
        "asks for 'emial'",
        "Did you mean 'email'?",
    ),
    "an-unknown-name": (
        [step("record", READ), step("draft", asks=("weather",))],
        ("draft", "weather"),
        "asks for 'weather'",
        "Declare a step 'weather', or take it as an input in a resolve step. Known: record, draft.",
    ),
    "an-unknown-list": (
        [step("record", READ), step("notes", GATHER, ("note",), each="recrods")],
        ("notes", "recrods"),
        "asks for 'recrods'",
        "Did you mean 'record'?",
    ),
    "an-edge-backwards": (
        [step("send", EXECUTE), step("draft", PREPARE, ("send",))],
        ("send", "draft"),
        "step 'draft' (prepare) uses 'send' (execute), which comes in a later phase",
        "Move 'draft' to phase execute or later, or 'send' to prepare or earlier.",
    ),
    "an-edge-to-the-very-next-phase": (
        [step("notes", GATHER), step("record", READ, ("notes",))],
        ("notes", "record"),
        "step 'record' (read) uses 'notes' (gather)",
        "Move 'record' to phase gather or later, or 'notes' to read or earlier.",
    ),
    "a-key-that-runs-backwards": (
        [step("record", READ, keys=("receipt",)), step("receipt", EXECUTE)],
        ("receipt", "record"),
        "'record' (read) uses 'receipt' (execute)",
        "Move 'record'",
    ),
    "a-key-of-no-step-and-no-input": (
        [
            step("account", RESOLVE, ("email",)),
            step("record", READ, ("account",), keys=("acount",)),
        ],
        ("record", "acount"),
        "a key of step 'record' names {acount}, which is neither a step nor an input",
        "Known: account, email, record.",
    ),
    "a-key-of-somebody-else's-item": (
        [
            step("rows", READ),
            step("one", GATHER, ("row",), each="rows"),
            step("two", GATHER, ("rows",), keys=("row",)),
        ],
        ("two", "row"),
        "a key of step 'two' names {row}",
        "Known: one, rows, two.",
    ),
    "types-that-do-not-fit": (
        [step("record", READ, (), str), step("draft", PREPARE, {"record": int})],
        ("record", "draft"),
        "step 'record' provides str, but 'draft' takes record: int",
        "change what 'record' returns, or parameter 'record' of 'draft'",
    ),
    "what-an-optional-step-may-lack": (
        [step("record", READ, (), str, optional=True), step("draft", PREPARE, {"record": str})],
        ("record", "draft"),
        "provides str | None, but 'draft' takes record: str",
        "Make the annotations agree",
    ),
    "a-fan-out-taken-for-one": (
        [
            step("rows", READ, (), list[int]),
            step("half", GATHER, {"row": int}, float, each="rows"),
            step("draft", PREPARE, {"half": float}),
        ],
        ("half", "draft"),
        "provides list[float], but 'draft' takes half: float",
        "Make the annotations agree",
    ),
    "a-gate-taken-for-a-bool": (
        [step("gate", APPROVE, (), bool), step("send", EXECUTE, {"gate": bool}, changes=True)],
        ("gate", "send"),
        "provides Approval, but 'send' takes gate: bool",
        "Make the annotations agree",
    ),
    "a-fan-out-over-no-list": (
        [step("record", READ, (), int), step("notes", GATHER, ("note",), each="record")],
        ("record", "notes"),
        "fans out over 'record', which returns int and not a list",
        "Return a list from 'record', or drop each='record'.",
    ),
    "a-fan-out-over-text": (
        [step("record", READ, (), str), step("notes", GATHER, ("note",), each="record")],
        ("record", "notes"),
        "returns str and not a list",
        "Return a list",
    ),
    "an-item-that-does-not-fit": (
        [step("rows", READ, (), list[str]), step("notes", GATHER, {"row": int}, each="rows")],
        ("rows", "notes"),
        "step 'rows' provides str, but 'notes' takes row: int",
        "Make the annotations agree",
    ),
    "no-place-for-the-item": (
        [step("rows", READ, (), list[str]), step("notes", GATHER, (), each="rows")],
        ("notes", "rows"),
        "fans out over 'rows' but has not exactly one parameter for the item (found: none)",
        "Give 'notes' one parameter",
    ),
    "two-places-for-the-item": (
        [step("rows", READ, (), list[str]), step("notes", GATHER, ("row", "line"), each="rows")],
        ("notes", "rows"),
        "(found: row, line)",
        "Give 'notes' one parameter",
    ),
    "two-places-for-the-item-of-an-input": (
        [step("notes", RESOLVE, ("row", "line"), each="rows")],
        ("notes", "rows"),
        "(found: row, line)",
        "Give 'notes' one parameter",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_graph_is_an_error_that_names_the_edge_and_the_mend(name: str) -> None:
    """Whatever does not hold together names its workflow, the steps concerned and the mend."""
    nodes, steps, problem, mend = WRONG[name]
    with pytest.raises(GraphError) as caught:
        build("renewal", nodes)
    error = caught.value
    assert error.steps == steps
    assert problem in error.problem
    assert mend in error.mend
    assert str(error).startswith("workflow 'renewal': ")
    assert all(part in str(error) for part in (*steps, error.problem, error.mend))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert (str(again), again.steps) == (str(error), steps)


# What can be built


def test_a_plan_says_where_each_value_comes_from() -> None:
    """Inputs, steps, items and the names in keys each know their source."""
    plan = build(
        "renewal",
        [
            step("account", RESOLVE, {"email": str}, str),
            step("invoices", READ, {"account": str}, list[int], keys=("account",)),
            step(
                "disputes",
                GATHER,
                {"invoice": int, "account": str},
                str,
                each="invoices",
                keys=("account", "invoice"),
            ),
            step("draft", PREPARE, {"disputes": list[str]}, str),
            step("gate", APPROVE, {"draft": str}, bool),
            step(
                "send",
                EXECUTE,
                {"draft": str, "gate": Approval},
                int,
                keys=("account", "email"),
                changes=True,
            ),
            step("confirm", CONFIRM, {"send": int}, str),
        ],
    )
    by_name = {s.node.name: s for s in plan.steps}
    index = {name: s.index for name, s in by_name.items()}

    def from_step(name: str) -> Source:
        return Source(SourceKind.STEP, name, index[name])

    assert set(plan.inputs) == {"email"}
    assert by_name["account"].sources == {"email": Source(SourceKind.INPUT, "email")}
    disputes = by_name["disputes"]
    assert disputes.each == from_step("invoices")
    assert disputes.sources == {
        "invoice": Source(SourceKind.ITEM, "invoice"),
        "account": from_step("account"),
    }
    assert disputes.key_sources == {
        "invoice": Source(SourceKind.ITEM, "invoice"),
        "account": from_step("account"),
    }
    send = by_name["send"]
    assert send.key_sources == {
        "account": from_step("account"),
        "email": Source(SourceKind.INPUT, "email"),
    }
    # A name in a key is a dependency like any other.
    assert send.causes == tuple(sorted(index[n] for n in ("account", "draft", "gate")))
    assert plan.results == (index["confirm"],)


def test_without_a_confirm_step_the_last_values_are_the_result() -> None:
    """What nobody uses is what the workflow returns."""
    plan = build("w", [step("a"), step("b", asks=("a",)), step("c", asks=("a",))])
    assert [plan.steps[k].node.name for k in plan.results] == ["b", "c"]


@pytest.mark.parametrize(
    ("nodes", "required", "optional"),
    [
        pytest.param([step("a", READ, ("x",))], {"x"}, set(), id="first-phase-opens"),
        pytest.param(
            [step("a", RESOLVE), step("b", READ, ("a", "x"), defaults={"x": 1})],
            set(),
            {"x"},
            id="a-default-opens-anywhere",
        ),
        pytest.param(
            [step("a", RESOLVE, ("x",)), step("b", READ, ("a", "x"))],
            {"x"},
            set(),
            id="later-steps-share",
        ),
        pytest.param(
            [step("a", RESOLVE, ("x",), defaults={"x": 1}), step("b", RESOLVE, ("x",))],
            {"x"},
            set(),
            id="one-that-needs-it-decides",
        ),
        pytest.param(
            [step("a", RESOLVE, ("x",)), step("b", RESOLVE, ("x",), defaults={"x": 1})],
            {"x"},
            set(),
            id="in-either-order",
        ),
        pytest.param(
            [step("a", RESOLVE, ("one",), each="many")], {"many"}, set(), id="a-list-to-fan-out"
        ),
        pytest.param(
            [step("a", RESOLVE, ("many", "one"), each="many")],
            {"many"},
            set(),
            id="a-list-to-fan-out-that-is-also-asked-for",
        ),
        pytest.param(
            [step("a", RESOLVE, ("one", "limit"), each="many", defaults={"limit": 9})],
            {"many"},
            {"limit"},
            id="a-default-beside-the-item",
        ),
        pytest.param(
            [step("z", RESOLVE, ("region",)), step("a", RESOLVE, ("one", "region"), each="many")],
            {"many", "region"},
            set(),
            id="an-input-beside-the-item",
        ),
    ],
)
def test_what_no_step_provides_is_asked_of_the_caller(
    nodes: list[Node], required: set[str], optional: set[str]
) -> None:
    """Inputs are what opening steps ask for; only what every step can do without is optional."""
    plan = build("w", nodes)
    assert {name for name, p in plan.inputs.items() if p.required} == required
    assert {name for name, p in plan.inputs.items() if not p.required} == optional


@pytest.mark.parametrize(
    ("returns", "item"),
    [
        (list[int], int),
        (tuple[int, ...], int),
        (tuple[int, str], int | str),
        (set[str], str),
        (list[int] | None, int),
        (list[int] | tuple[str, ...], int | str),
        (list, Any),
        (Any, Any),
        (list[Literal["a"]], str),
    ],
)
def test_a_fan_out_takes_whatever_has_items(returns: Any, item: Any) -> None:
    """Any collection will do, also one that may be missing, and its items meet the parameter."""
    optional = step("rows", READ, (), returns)
    plan = build("w", [optional, step("notes", GATHER, {"row": item}, each="rows")])
    assert plan.steps[1].each == Source(SourceKind.STEP, "rows", 0)


def test_a_fan_out_over_an_optional_step_is_none_of_anybody_s_business() -> None:
    """Where an optional step failed there is nothing to fan out over, so it may be fanned out."""
    rows = step("rows", READ, (), list[int], optional=True)
    build("w", [rows, step("notes", GATHER, {"row": int}, each="rows")])


# Graphs of any shape

NAMES = [f"s{k}" for k in range(8)]
Edges = list[tuple[str, str]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Phase], Edges]:
    """Draw steps with their phases, and (cause, step) edges between any two."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique=True))
    # Few phases, or nearly every graph has an edge backwards.
    phases = {name: draw(st.sampled_from([READ, READ, GATHER, EXECUTE])) for name in names}
    pairs = st.tuples(st.sampled_from(names), st.sampled_from(names))
    return phases, draw(st.lists(pairs, max_size=10, unique=True))


def declared(phases: dict[str, Phase], edges: Edges) -> list[Node]:
    """Return the steps of a graph as they would be declared."""
    return [
        step(name, phase, tuple(cause for cause, user in edges if user == name))
        for name, phase in phases.items()
    ]


def circular(edges: Edges) -> bool:
    """Whether a step needs itself, by any way; the standard library says so."""
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for cause, user in edges:
        sorter.add(user, cause)
    try:
        sorter.prepare()
    except graphlib.CycleError:
        return True
    return False


def reaches(edges: Edges, start: str, end: str) -> bool:
    """Whether `end` needs `start`, by any way of at least one edge."""
    seen: set[str] = set()
    todo = [user for cause, user in edges if cause == start]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [user for cause, user in edges if cause == name]
    return end in seen


@given(graphs())
def test_a_graph_builds_unless_it_runs_in_a_circle_or_backwards(
    graph: tuple[dict[str, Phase], Edges],
) -> None:
    """Every other graph builds; an error names an edge of the graph that is really at fault."""
    phases, edges = graph
    backwards = {(c, u) for c, u in edges if phases[c].order > phases[u].order}
    if circular(edges) or backwards:
        with pytest.raises(GraphError) as caught:
            build("w", declared(phases, edges))
        if circular(edges):
            user, cause = caught.value.steps
            assert (cause, user) in edges
            assert cause == user or reaches(edges, user, cause)
        else:
            assert caught.value.steps in backwards
        return

    plan = build("w", declared(phases, edges))
    assert sorted(s.node.name for s in plan.steps) == sorted(phases)
    for place, planned in enumerate(plan.steps):
        assert planned.index == place
        causes = {plan.steps[k].node.name for k in planned.causes}
        assert causes == {cause for cause, user in edges if user == planned.node.name}
        assert all(cause < place for cause in planned.causes)
        assert set(planned.dependents) == {s.index for s in plan.steps if place in s.causes}


@given(graphs(), st.data())
def test_a_planted_circle_is_always_found(
    graph: tuple[dict[str, Phase], Edges], data: st.DataObject
) -> None:
    """However large the sound part of a graph, a circle in it is named by its members."""
    phases, edges = graph
    assume(not circular(edges))
    ring = data.draw(st.lists(st.sampled_from(sorted(phases)), min_size=1, unique=True))
    planted = {*edges, *zip(ring, [*ring[1:], ring[0]], strict=True)}
    with pytest.raises(GraphError, match="in a circle") as caught:
        build("w", declared(phases, sorted(planted)))
    user, cause = caught.value.steps
    assert (cause, user) in planted
    assert cause == user or reaches(sorted(planted), user, cause)


@given(graphs(), st.permutations(NAMES))
def test_the_order_of_declaration_does_not_matter(
    graph: tuple[dict[str, Phase], Edges], order: list[str]
) -> None:
    """A graph builds or not, with the same edges, however its steps are written down."""
    phases, edges = graph
    assume(not circular(edges))
    assume(all(phases[c].order <= phases[u].order for c, u in edges))
    shuffled = {name: phases[name] for name in order if name in phases}

    def causes(nodes: list[Node]) -> dict[str, set[str]]:
        plan = build("w", nodes)
        return {s.node.name: {plan.steps[k].node.name for k in s.causes} for s in plan.steps}

    assert causes(declared(shuffled, edges)) == causes(declared(phases, edges))

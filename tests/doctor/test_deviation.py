"""Where a run went wrong first: by what broke a rule, else by signs in what agents say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from undercroft.doctor.deviation import first_deviation
from undercroft.model.case import Access, CallStatus, Case, CaseCall, CaseText, Touch
from undercroft.model.symptom import Looked, Sign, Symptom

TASK = (
    "# Task\nHow many bridges are there in Ely?\n## Task description\nCount the bridges of Ely.\n"
)
RAN = "exitcode: 0 (execution succeeded)\nCode output: 12"
FAILED = "exitcode: 1 (execution failed)\nCode output: NameError"
CODE = "I will count them now, with a small program.\n```python\nprint(count())\n```"


def talk(*said: tuple[str, str]) -> Case:
    """Return a talk of agents, as (actor, text)."""
    texts = tuple(
        CaseText(
            step=n,
            role="user" if actor == "human" else "other",
            text=text,
            actor="" if actor == "human" else actor,
        )
        for n, (actor, text) in enumerate(said)
    )
    return Case(trace_id="t", format="plain", steps=len(texts), texts=texts)


def write(step: int, *, ok: bool, key: str = "order/#A1001") -> CaseCall:
    """Return a write to an order."""
    return CaseCall(
        step=step,
        name="modify_order",
        arguments={"order_id": key},
        status=CallStatus.OK if ok else CallStatus.FAILED,
        error_class="" if ok else "domain",
        access=Access.WRITE,
        touches=(Touch("write", key),),
    )


def acted(*calls: CaseCall) -> Case:
    """Return a run with calls."""
    return Case(trace_id="t", format="openai-chat", steps=9, calls=calls)


def broke(*steps: int, sign: Sign = Sign.MISSING) -> dict[str, Looked]:
    """Return what a layer saw at those steps."""
    return {"context": Looked((Symptom(rule="context.x", steps=steps, evidence="", sign=sign),))}


def test_nothing_is_named_in_a_run_that_goes_well() -> None:
    """Where calls are recorded and none broke a rule, there is no deviation."""
    assert first_deviation(acted(write(2, ok=True)), {}) is None
    assert first_deviation(acted(write(2, ok=True)), broke(4, sign=Sign.HINT)) is None
    assert first_deviation(Case(trace_id="t", format="plain", steps=0), {}) is None


def test_the_earliest_broken_rule_counts() -> None:
    """Of several signs in a run with calls the first counts, whatever layer saw it."""
    seen = {**broke(7, 1), "breakers": Looked((Symptom(rule="b", steps=(5,), evidence=""),))}
    assert first_deviation(acted(write(2, ok=True)), seen) == 5


def test_what_made_a_write_impossible_comes_before_it() -> None:
    """A write that fails after another to the same record points at that; else at itself."""
    assert first_deviation(acted(write(2, ok=True), write(6, ok=False)), {}) == 2
    other = write(2, ok=True, key="order/#A1002")
    assert first_deviation(acted(other, write(6, ok=False)), {}) == 6


def test_an_error_is_no_task() -> None:
    """A run that is given an error, or another task's plan, went wrong with that."""
    assert first_deviation(talk(("A", f"Your task:\n{FAILED}"), ("B", CODE), ("C", RAN)), {}) == 0
    other = "# Task\nHow many bridges are in Ely?\n## Task description\nSort numbers quickly.\n"
    assert first_deviation(talk(("A", other), ("B", CODE), ("C", RAN)), {}) == 0


def test_a_result_without_a_source_counts() -> None:
    """The first statement of a result that no program printed is the deviation."""
    case = talk(
        ("A", TASK),
        ("B", "Let us plan this: first we look for a list of them, then we count."),
        ("A", "Here is the number that you asked for: there are 14 bridges in Ely."),
        ("B", "Confirmed, that is the final answer. TERMINATE"),
    )
    assert first_deviation(case, {}) == 2


def test_code_that_fails_counts_where_nothing_was_stated() -> None:
    """Without a statement the first code that failed is the deviation, or made-up data."""
    case = talk(("A", TASK), ("B", CODE), ("T", RAN), ("B", CODE), ("T", FAILED))
    assert first_deviation(case, {}) == 3
    made = CODE.replace("small program", "mock list, as there is none")
    assert first_deviation(talk(("A", TASK), ("B", made), ("T", RAN), ("B", CODE)), {}) == 1


def led(*said: tuple[str, str]) -> Case:
    """Return a talk in which one asks and another acts."""
    return talk(("human", "Find it."), ("Lead (thought)", "a plan"), *said)


def page(name: str, act: str = "clicked") -> str:
    """Return what an agent with a browser reports."""
    return f"I {act} 'it'. Here is a screenshot of [{name}](https://example.org/{name})."


def test_an_action_that_changes_nothing_counts() -> None:
    """In a talk with a lead, an action after which the same page is shown is the deviation."""
    ask = ("Lead (-> Surfer)", "Open it.")
    case = led(ask, ("Surfer", page("a")), ask, ("Surfer", page("b")), ask, ("Surfer", page("b")))
    assert first_deviation(case, {}) == 7
    moved = led(ask, ("Surfer", page("a")), ask, ("Surfer", page("b")), ask, ("Surfer", page("c")))
    assert first_deviation(moved, {}) == 3


def test_an_answer_that_never_came_counts() -> None:
    """Whoever acted last before somebody was asked in vain is where it began."""
    ask = ("Lead (-> Surfer)", "Open it.")
    case = led(ask, ("Surfer", page("a")), ask, ("Lead (thought)", "nothing came back"), ask)
    assert first_deviation(case, {}) == 3


@given(
    st.lists(
        st.tuples(st.sampled_from(["A", "B", "human", "Lead (-> B)"]), st.text(max_size=60)),
        max_size=12,
    )
)
def test_it_is_a_step_of_the_run_or_none(said: list[tuple[str, str]]) -> None:
    """Whatever is said, the answer is a step of the run or None, and the same again."""
    case = talk(*said)
    found = first_deviation(case, {})
    assert found is None or 0 <= found < case.steps
    assert first_deviation(case, {}) == found

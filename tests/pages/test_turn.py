"""The page of a turn says what the record says, whatever is in it, and opens anywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from tests.pages.test_html import HOSTILE, anything, read
from undercroft.engine.prompts import Prompt
from undercroft.layers.observability.answers import QUESTIONS, answer
from undercroft.layers.observability.approvals import Asked
from undercroft.layers.parallelism.report import report
from undercroft.model.message import Message, ToolSpec
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import Call, ErrorClass, Failure, Refusal, StepStatus
from undercroft.model.trace import Delivery, Life, Retry, Spent, StepTrace, Trace, Wait
from undercroft.pages.turn import TurnView, turn_page
from undercroft.pages.words import safe

FOUND = {"html", "head", "meta", "title", "style", "body", "header", "nav", "main", "footer",
         "section", "h1", "h2", "h4", "p", "dl", "dt", "dd", "pre", "details", "summary", "span",
         "strong", "small", "a", "code", "blockquote", "div", "table", "thead", "tbody", "tr",
         "th", "td", "svg", "g", "text", "rect", "line", "path"}  # fmt: skip


def trace_of(said: str, count: int = 6) -> Trace:
    """Return a turn in which everything that can be text is this text."""
    failure = Failure(said, said, ErrorClass.TRANSIENT, said, said)
    steps = []
    for n in range(1, count + 1):
        before = (f"{said}.{n - 1}",) if n > 1 else ()
        status = list(StepStatus)[n % len(StepStatus)]
        steps.append(
            StepTrace(
                f"{said}.{n}", n, said, "model" if n % 2 else "tool", status, changes=True,
                causes=before, claims=((said, said),), arguments={said: said}, value=[said],
                error=failure, refusal=Refusal(said, said, said, {said: said}), attempts=2,
                began_at=float(n), took_s=0.5, retries=(Retry(1, n + 0.1, 0.1, failure, said),),
                branch=said if n % 3 else "", waits=(Wait(0.2, said, said),),
                spent=Spent(said, 1, 0.1, 10, 2, 0.01), service=said, breaker=said,
            )
        )  # fmt: skip
    trace = Trace(
        said, said, said, said, TurnStatus.DONE, {said: said}, 0.0, 9.0, tuple(steps),
        (Life(0.0, 4.0, said), Life(5.0, None, said)), delivered=said, error=failure,
        missing=(said,), delivery=Delivery(said, 9.0, said),
    )  # fmt: skip
    return replace(trace, parallelism=report(trace.steps))


def view_of(trace: Trace, said: str, **options: Any) -> TurnView:
    """Return what a page is made of."""
    prompt = Prompt(
        said, 1, said,
        (Message("user", said), Message("tool", said, (Call(said, said, said),), said, said)),
        tools=(ToolSpec(said, said, {said: said}),), withdrawn={said: [said]}, doubts=(said,),
        model=said,
    )  # fmt: skip
    asked = Asked(2, said, 1.0, said, ((said, said),), said, 2.0, "approved", said, 3.0, said)
    return TurnView(
        trace,
        answer(trace),
        lambda step: prompt if step.kind == "model" else None,
        (asked,),
        **options,
    )


@settings(max_examples=25)
@given(said=anything)
def test_whatever_a_turn_says_its_page_only_says_it(said: str) -> None:
    """No text of the record becomes an element, an attribute, or a link that leads away."""
    document = turn_page(view_of(trace_of(said), said))
    document.encode()
    found = read(document)
    assert {name for name, _ in found.elements} <= FOUND
    assert all(
        value is not None and value.startswith("#")
        for _, attributes in found.elements
        for name, value in attributes.items()
        if name == "href"
    )
    assert not any(name.startswith("on") for _, given_ in found.elements for name in given_)
    assert safe(said, lines=True) in "".join(found.said)
    # Whatever is opened is closed, so nothing of it ends up elsewhere.
    opened = [name for name, _ in found.elements if name not in ("meta", "br", "hr")]
    assert sorted(opened) == sorted(found.closed)


@pytest.mark.parametrize("said", HOSTILE)
def test_hostile_text_is_shown_as_it_is(said: str) -> None:
    """Scripts, broken attributes, drawings and halves of characters are text."""
    document = turn_page(view_of(trace_of(said), said, everything=True))
    assert not re.search(r"<(script|img|math|!--|!\[)", document)
    assert document.count("<svg") == document.count("</svg>") == 2
    assert document.count("<style") == document.count("</style") == 1
    assert safe(said, lines=True) in "".join(read(document).said)


def test_the_page_answers_the_six_questions() -> None:
    """In their order, with a link from each step that is named to its place."""
    trace = trace_of("look")
    document = turn_page(view_of(trace, "look"))
    found = read(document)
    whole = "".join(found.said)
    places = [whole.index(question) for question in QUESTIONS]
    assert places == sorted(places)
    ids = {attributes.get("id") for _, attributes in found.elements}
    links = {given_["href"] for _, given_ in found.elements if "href" in given_}
    assert {f"step-{step.n}" for step in trace.steps} <= ids
    assert {str(link)[1:] for link in links} <= ids


def test_a_long_turn_is_a_page_of_bounded_size() -> None:
    """Of thousands of steps; what is left out is counted, and what shows it is named."""
    text = "a long result, " * 200
    steps = tuple(
        StepTrace(f"look.{n}", n, "look", "tool", StepStatus.OK, value=text, arguments=text,
                  began_at=float(n), took_s=0.5, causes=(f"look.{n - 1}",))
        for n in range(1, 2_001)
    )  # fmt: skip
    trace = Trace("t-1", "handler", "app:x", None, TurnStatus.DONE, {}, 0.0, 9.0, steps, ())
    trace = replace(trace, parallelism=report(steps))
    document = turn_page(TurnView(trace, answer(trace), lambda _: None))
    assert len(document) < 8_000_000
    assert "Not drawn: 1,840 steps in the middle; --all draws them." in document
    assert "80 of 2,000 steps, the critical path first." in document
    assert "and 1,940 more: --all" in document
    assert f"({len(text):,} characters)" in document


def test_a_turn_without_steps_is_a_page() -> None:
    """So is one that is still running, and one whose causes go round in circles."""
    trace = replace(trace_of("x"), steps=(), lives=(), parallelism=None, status=TurnStatus.RUNNING)
    assert "No step ran." in turn_page(view_of(trace, "x"))
    steps = (
        StepTrace("a.1", 1, "a", "tool", StepStatus.OK, causes=("b.2", "a.1")),
        StepTrace("b.2", 2, "b", "tool", StepStatus.RUNNING, causes=("a.1",), began_at=-5.0),
    )
    document = turn_page(view_of(replace(trace, steps=steps), "x"))
    assert "no recorded end" in document

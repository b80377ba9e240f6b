"""Every prompt of a turn extends the one before, and holds results only for open calls."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.errors import DeclarationError
from undercroft.layers.context.conversation import Entry
from undercroft.layers.context.results import named_calls
from undercroft.layers.context.state import Window
from undercroft.model.message import Answer, Message
from undercroft.model.step import (
    Call,
    ErrorClass,
    Failure,
    Refusal,
    Result,
    StepStatus,
    render_result,
)

IDS = st.sampled_from([None, "", "a", "b", "c", "call-1-0", "call-1-1", "call-2-0"])
CALLS = st.lists(st.builds(Call, st.sampled_from(["get", "send"]), id=IDS), max_size=4).map(tuple)
TEXTS = st.text(max_size=6)

MOVES = st.one_of(
    st.tuples(st.just("user"), TEXTS),
    st.tuples(st.just("assistant"), TEXTS),
    st.tuples(st.just("system"), TEXTS),
    st.tuples(st.just("answer"), st.builds(Answer, TEXTS, CALLS)),
    st.tuples(st.just("result"), st.one_of(IDS, st.integers(0, 3))),
    st.tuples(st.just("prompt"), st.none()),
)


@dataclass
class Talk:
    """A window, and what is known of it from outside."""

    window: Window = field(default_factory=Window)
    prompts: list[tuple[Message, ...]] = field(default_factory=list)
    sent: list[Entry] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    answered: int = 0
    step: int = 0

    def move(self, what: str, value: Any) -> None:
        """Let something happen."""
        window = self.window
        match what:
            case "user" | "assistant":
                getattr(window, what)(value)
            case "system" if self.prompts:
                with pytest.raises(DeclarationError, match="the first prompt was sent already"):
                    window.system(value)
            case "system":
                window.system(value)
            case "answer":
                self.step += 1
                answer = named_calls(value, self.step)
                window.add_answer(answer, self.step)
                self.open = [call.id for call in answer.calls if call.id]
            case "result":
                self.settle(value)
            case _:
                self.sent += window.delta()
                self.prompts.append(window.messages)

    def settle(self, which: str | int | None) -> None:
        """Add the result of an open call, by its place, or of any other, by its id."""
        if isinstance(which, int):
            which = self.open[which] if which < len(self.open) else None
        before = len(self.window.messages)
        self.step += 1
        result = Result(StepStatus.OK, "value", name="get", call_id=which)
        self.window.add_result(result, "value", self.step)
        if which in self.open:
            self.open.remove(which)
            self.answered += 1
            assert len(self.window.messages) == before + 1
            assert self.window.messages[-1] == Message("tool", "value", (), which, "get")
        else:
            assert len(self.window.messages) == before


@given(st.lists(MOVES, max_size=25))
def test_every_prompt_extends_the_one_before(moves: list[tuple[str, Any]]) -> None:
    """Prompts only grow at their end, system messages first, so that caches hit.

    What is said to be new at each prompt adds up to the prompt.
    """
    talk = Talk()
    for what, value in [*moves, ("prompt", None)]:
        talk.move(what, value)
        assert set(talk.window.open_calls) == set(talk.open)

    for before, after in zip(talk.prompts, talk.prompts[1:], strict=False):
        assert after[: len(before)] == before
    assert tuple(entry.message for entry in talk.sent) == talk.prompts[-1]
    roles = [message.role for message in talk.prompts[-1]]
    assert roles == sorted(roles, key=lambda role: role != "system")
    assert roles.count("tool") == talk.answered


@given(st.lists(MOVES, max_size=25))
def test_each_result_answers_an_open_call_once(moves: list[tuple[str, Any]]) -> None:
    """Of every tool message the call stands in an answer before it, and no call has two."""
    talk = Talk()
    for what, value in moves:
        talk.move(what, value)
    proposed: list[str | None] = []
    for message in talk.window.messages:
        proposed += [call.id for call in message.calls]
        if message.role == "tool":
            assert message.call_id in proposed
            proposed.remove(message.call_id)


def test_an_entry_knows_the_step_it_came_from() -> None:
    """Answers and results are journaled by reference, and what was said literally is not."""
    window = Window()
    window.system("Be kind.")
    window.user("Hello.")
    window.add_answer(Answer("One moment.", (Call("get", {}, "a"),)), 3)
    window.add_result(Result(StepStatus.OK, 7, name="get", call_id="a"), 7, 4)
    assert [(entry.message.role, entry.step) for entry in window.delta()] == [
        ("system", None),
        ("user", None),
        ("assistant", 3),
        ("tool", 4),
    ]
    assert window.delta() == []


# Ids of calls


@given(CALLS, st.integers(0, 3))
def test_every_call_gets_an_id_of_its_own(calls: tuple[Call, ...], step: int) -> None:
    """Ids are there and differ, whatever the provider sent; nothing else of a call changes."""
    named = named_calls(Answer("text", calls), step)
    ids = [call.id for call in named.calls]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    assert [msgspec.structs.replace(call, id=None) for call in named.calls] == [
        msgspec.structs.replace(call, id=None) for call in calls
    ]
    assert named.text == "text"


@given(CALLS)
def test_an_id_that_is_good_is_kept(calls: tuple[Call, ...]) -> None:
    """The first call of an id keeps it, since the provider knows the call by it."""
    named = named_calls(Answer("", calls), 9)
    seen: set[str] = set()
    for before, after in zip(calls, named.calls, strict=True):
        if before.id and before.id not in seen:
            assert after.id == before.id
            seen.add(before.id)


def test_an_id_that_looks_like_ours_is_no_danger() -> None:
    """A provider may send the very id that would have been made up."""
    answer = Answer("", (Call("a", {}, "call-1-1"), Call("b"), Call("c", {}, "call-1-1")))
    ids = [call.id for call in named_calls(answer, 1).calls]
    assert ids[0] == "call-1-1"
    assert len(set(ids)) == 3


# What a model reads

DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    | st.binary(max_size=4)
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
            | st.integers(-(2**63), 2**63)
            | st.booleans()
            | st.none()
            | st.binary(max_size=3)
            | st.tuples(st.integers(0, 9)),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(DATA)
def test_any_recorded_value_can_be_shown(data: Any) -> None:
    """Whatever a tool could return, a model reads text: itself, or JSON."""
    text = render_result(Result(StepStatus.OK, None), data)
    if isinstance(data, str):
        assert text == data
    else:
        json.loads(text)


@pytest.mark.parametrize(
    ("result", "data", "text"),
    [
        (Result(StepStatus.OK), "plain text", "plain text"),
        (Result(StepStatus.OK), None, "null"),
        (Result(StepStatus.OK), {"a": [1, 2.5, True]}, '{"a":[1,2.5,true]}'),
        (Result(StepStatus.OK), {7: math.nan}, '{"7":null}'),
        (Result(StepStatus.OK), datetime(2024, 5, 6, tzinfo=UTC), '"2024-05-06T00:00:00Z"'),
        (
            Result(StepStatus.REFUSED, refusal=Refusal("a.b", "No.", "Do this.", {"k": 1})),
            None,
            '{"refused":{"rule":"a.b","message":"No.","next":"Do this.","facts":{"k":1}}}',
        ),
        (
            Result(StepStatus.FAILED, error=Failure("ValueError", "bad", ErrorClass.PERMANENT)),
            None,
            '{"error":"ValueError: bad"}',
        ),
        (
            Result(StepStatus.IN_DOUBT),
            None,
            (
                '{"status":"in_doubt","note":"Nobody knows whether it happened. Do not do it '
                'again; say that it is not known."}'
            ),
        ),
    ],
)
def test_a_result_is_shown_as_what_came_of_it(result: Result, data: Any, text: str) -> None:
    """A value is shown as it is; a refusal with its mend; an error with its kind."""
    assert render_result(result, data) == text

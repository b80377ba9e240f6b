"""Prompts that cannot fit, and results that are too large: who is told, and what goes on."""

from __future__ import annotations

from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import (
    COUNTS,
    TIGHT,
    InOrder,
    Model,
    Summariser,
    Talk,
    apart,
    assert_same,
    check_crashes,
    check_journal,
    events,
    talker,
    whole,
)
from undercroft.layers.context.policy import ContextPolicy
from undercroft.model.event import ContextCompacted, PromptAssembled, StepEnded

TINY = ContextPolicy(limit_tokens=900, reserved_tokens=100)
HUGE = "huge " + "word after word " * 400


def careful() -> Any:
    """Return a handler that says it shorter where it does not fit."""

    @uc.handler()
    async def talk(turn: uc.Turn, message: str) -> str:
        turn.context.user(message)
        try:
            return (await turn.model()).text
        except uc.ContextOverflowError as error:
            turn.context.user(f"short {len(str(error)) > 40}")
            return (await turn.model()).text

    return talk


def careless() -> Any:
    """Return a handler that says whatever it is given."""

    @uc.handler()
    async def talk(turn: uc.Turn, message: str) -> str:
        turn.context.user(message)
        return (await turn.model()).text

    return talk


async def test_what_does_not_fit_fails_the_turn_and_nothing_is_sent() -> None:
    """The outcome names the error; the message says what is too large and what to do."""
    model = Model(policy=TINY)
    async with uc.Runtime(model=model, context=TINY, ids=InOrder()) as rt:
        target = careless()
        outcome = await rt.run(target, message=HUGE, session="s-1")
        assert outcome.status == "failed"
        assert outcome.error is not None
        assert outcome.error.type == "ContextOverflowError"
        assert "Item 0.0, a user message" in outcome.error.message
        assert model.requests == []
        assert (await rt.resume(outcome.turn_id)).error == outcome.error
        later = await rt.run(target, message="hello", session="s-1")
        assert (later.status, later.value) == ("done", "You said: hello")
        model.check()


async def test_the_error_has_its_facts() -> None:
    """Code that catches it can reckon with the numbers, in the first life and in any other."""
    caught: list[uc.ContextOverflowError] = []

    @uc.tool(peeks="a", approval=True)
    async def ask() -> str:
        return "yes"

    @uc.handler(tools=[ask])
    async def talk(turn: uc.Turn, message: str) -> str:
        turn.context.user(message)
        try:
            await turn.model()
        except uc.ContextOverflowError as error:
            caught.append(error)
        await turn.calls([uc.Call("ask")])
        return "done"

    async with uc.Runtime(model=Model(), context=TINY) as rt:
        outcome = await rt.run(talk, message=HUGE, session="s-1")
        await rt.approve(outcome.turn_id, by="ada")
    assert len(caught) == 2
    for error in caught:
        assert error.tokens > 800
        assert (error.limit_tokens, error.reserved_tokens) == (900, 100)
        assert not str(error).endswith(" ")
        assert ". ." not in str(error)
    assert str(caught[0]) == str(caught[1])


@pytest.mark.parametrize("make", [careful, careless])
async def test_turns_after_an_overflow_are_the_same_in_every_process(make: Any) -> None:
    """What did not fit is part of the conversation, or it is not: in one process as in another."""
    says = ["hello", HUGE, "look here", HUGE + "again", "bye", "once more"]
    talk = Talk(make, says, policy=TINY)
    one = await whole(talk)
    assert_same((await apart(talk)).sent, one.sent)


@pytest.mark.parametrize("make", [careful, careless])
async def test_an_overflow_survives_a_crash(make: Any) -> None:
    """At every commit: the same end, and the same prompts after it."""
    held = await check_crashes(Talk(make, ["hello", HUGE, "bye"], policy=TINY))
    ends = ["failed" if make is careless else "done"]
    assert [status for status, _ in held.ends] == ["done", *ends, "done"]


@pytest.mark.parametrize("make", [careful, careless])
async def test_what_did_not_fit_is_written_down_as_any_prompt(make: Any) -> None:
    """The journal tells of the prompt that was not sent, and of its step that failed."""
    held = await whole(Talk(make, ["hello", HUGE], policy=TINY))
    turn_id = held.outcomes[-1].turn_id
    failed = [e for e in events(held.store, turn_id, StepEnded) if e.error is not None]
    assert [e.error.type for e in failed] == ["ContextOverflowError"]
    (first, *_) = events(held.store, turn_id, PromptAssembled)
    assert first.n == failed[0].n
    assert first.tokens > TINY.capacity_tokens


def rows() -> list[Any]:
    """Return a tool whose results are as large as they are asked to be."""

    @uc.tool(peeks="rows")
    async def rows(size: int) -> str:
        """Return rows."""
        return "".join(f"row {i} of #R{i:05d}\n" for i in range(size))

    return [rows]


BIG = ContextPolicy(limit_tokens=3000, reserved_tokens=200, result_max_share=0.2)


async def test_a_huge_result_is_cut_and_the_rest_can_be_recalled() -> None:
    """Also from a later turn, in another process, piece by piece: the very same characters."""
    whole_text = "".join(f"row {i} of #R{i:05d}\n" for i in range(3000))
    found: list[str] = []

    def fetch(request: uc.ModelRequest) -> Any:
        """Recall what comes next, as the last result says, until there is no more."""
        last = request.messages[-1]
        if last.role == "tool" and last.name == "recall":
            text, _, note = last.content.partition("\n[undercroft: the next begins at start=")
            found.append(text)
            if not note:
                return "all"
            return [uc.Call("recall", {"handle": "r0.2", "start": int(note.rstrip("]"))})]
        return [uc.Call("recall", {"handle": "r0.2"})]

    scripts: dict[str, Any] = {"rows": [[uc.Call("rows", {"size": 3000})], "many"], "fetch": fetch}
    talk = Talk(lambda: talker(rows()), ["rows of it", "fetch them"], scripts, BIG)
    for hold in (whole, apart):
        found.clear()
        held = await hold(talk)
        assert held.outcomes[-1].value == "all", held.outcomes[-1].error
        assert "".join(found) == whole_text
        for prompt in held.sent:
            assert COUNTS.text(prompt) < 2 * BIG.limit_tokens


async def test_many_huge_results_at_once_fit() -> None:
    """However many calls a batch has, the prompt after it fits."""
    scripts: dict[str, Any] = {
        "rows": [[uc.Call("rows", {"size": 900 + i}) for i in range(12)], "many"]
    }
    talk = Talk(lambda: talker(rows()), ["rows of it", "bye", "rows again"], scripts, BIG)
    one = await whole(talk)
    assert [o.status for o in one.outcomes] == ["done"] * 3
    assert_same((await apart(talk)).sent, one.sent)
    assert any(events(one.store, o.turn_id, ContextCompacted) for o in one.outcomes)


async def test_a_window_too_small_for_its_tools_says_so() -> None:
    """Before anything is sent, with the sections that take the room."""
    held = await whole(
        Talk(
            lambda: talker(rows()),
            ["hello"],
            policy=ContextPolicy(limit_tokens=300, reserved_tokens=10),
        )
    )
    (outcome,) = held.outcomes
    assert outcome.error is not None
    assert outcome.error.type == "ContextOverflowError"
    assert "tools" in outcome.error.message
    check_journal(held.store, outcome.turn_id)


@pytest.mark.parametrize("summaries", [False, True], ids=["none", "ideal"])
async def test_nothing_is_left_out_for_what_cannot_fit_anyway(*, summaries: bool) -> None:
    """What users said before stands as it stood, and nobody summarises it in vain."""
    policy = ContextPolicy(limit_tokens=2000, reserved_tokens=100, low_share=0.7)
    model = Model(policy=policy)
    summariser = Summariser()
    options: dict[str, Any] = {"model": model, "context": policy, "ids": InOrder()}
    options["summariser"] = summariser if summaries else None
    async with uc.Runtime(**options) as rt:
        target = careless()
        for i in range(6):
            text = f"order {i}: #B{i}, " + "and so on " * 30
            assert (await rt.run(target, message=text, session="s-1")).status == "done"
        said = {m for m in model.requests[-1].messages if m.role == "user"}
        huge = await rt.run(target, message="word after word " * 3000, session="s-1")
        assert huge.status == "failed"
        assert (await rt.run(target, message="bye", session="s-1")).status == "done"
    model.check()
    assert said <= set(model.requests[-1].messages)
    assert summariser.requests == []


async def test_a_summary_is_never_what_does_not_fit() -> None:
    """Where a prompt would fit without the summary that was made for it, it goes without."""
    policy = ContextPolicy(limit_tokens=2000, reserved_tokens=100, rules=TIGHT.rules)
    scripts: dict[str, Any] = {"rows": [[uc.Call("rows", {"size": 30})], "ok"]}
    for words in range(300, 420, 8):
        says = ["rows one", "rows two", "say " + "words " * words * 3, "bye"]
        talk = Talk(lambda: talker(rows()), says, scripts, policy, (None,))
        held = await whole(talk)
        failed = [o.error.message for o in held.outcomes if o.error is not None]
        assert not any("summaries" in one for one in failed), failed

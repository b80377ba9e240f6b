"""Policies of windows: whose counts, when one changes, what it is measured by, and names."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import (
    InOrder,
    Model,
    check_prompt,
    events,
    look,
    order_tools,
    talker,
)
from undercroft.errors import DeclarationError, SettingError
from undercroft.layers.context.policy import ContextPolicy
from undercroft.model.event import (
    NIL_BYTES,
    ContextCompacted,
    ContextOpened,
    PromptAssembled,
)
from undercroft.storage.memory import MemoryJournal, MemoryStore

WIDE = ContextPolicy(limit_tokens=6000, reserved_tokens=100)
NARROW = ContextPolicy(limit_tokens=1200, reserved_tokens=100)
SCRIPTS: dict[str, Any] = {
    "look": [[look("#A1001")], [look("#A1002")], [look("#A1003")], "All are open."],
}


class Words:
    """A counter that counts letters, which are more than tokens."""

    name, exact = "letters", False

    def count(self, text: str) -> int:
        """Return how many there are."""
        return len(text)


def opened(journal: MemoryJournal, outcome: uc.Outcome) -> list[ContextOpened]:
    """Return under what a turn was opened."""
    return events(MemoryStore(journal), outcome.turn_id, ContextOpened)


async def test_a_change_of_policy_is_written_down_with_what_it_was() -> None:
    """The policy itself stands where it is new; a turn with the same one only names it."""
    journal, model = MemoryJournal(), Model(SCRIPTS)
    target = talker(order_tools())
    ends = []
    for policy in (WIDE, WIDE, NARROW, WIDE):
        options: dict[str, Any] = {"model": model, "context": policy, "ids": InOrder()}
        async with uc.Runtime(MemoryStore(journal), **options) as rt:
            ends.append(await rt.run(target, message="look at them", session="s-1"))
        check_prompt(model.requests[-1], policy)
    found = [opened(journal, end) for end in ends]
    assert [len(one) for one in found] == [1] * 4
    (first,), (second,), (third,), (fourth,) = found
    assert [e.turn for (e,) in found] == [0, 1, 2, 3]
    assert [e.policy for (e,) in found] == [WIDE.hash, WIDE.hash, NARROW.hash, WIDE.hash]
    assert (first.was, second.was) == ("", "")
    assert (third.was, fourth.was) == (WIDE.hash, NARROW.hash)
    assert [bytes(e.settings) != NIL_BYTES for (e,) in found] == [True, False, True, True]


async def test_a_handler_has_a_policy_of_its_own() -> None:
    """It goes before the runtime's, and its turns share the session's conversation."""
    journal, model = MemoryJournal(), Model(SCRIPTS)
    own = talker(order_tools(), context=NARROW)
    options: dict[str, Any] = {"model": model, "context": WIDE, "ids": InOrder()}
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        first = await rt.run(own, message="look at them", session="s-1")
        second = await rt.run(talker(), message="hello", session="s-1")
        third = await rt.run(own, message="and now", session="s-1")
    assert [opened(journal, end)[0].policy for end in (first, second, third)] == [
        NARROW.hash,
        WIDE.hash,
        NARROW.hash,
    ]
    assert events(MemoryStore(journal), first.turn_id, ContextCompacted)
    last = [m.content for m in model.requests[-1].messages]
    assert "You said: hello" in last
    check_prompt(model.requests[-1], NARROW)


async def test_a_turn_resumed_under_another_policy_says_so() -> None:
    """Its prompts fit the new one, and the journal tells from which on."""

    @uc.tool(peeks="a", approval=True)
    async def ask() -> str:
        return "yes"

    journal = MemoryJournal()
    model = Model({"look": [[look("#A1001")], [uc.Call("ask")], [look("#A1002")], "end"]})
    target = talker([*order_tools(), ask])
    options: dict[str, Any] = {"model": model, "targets": [target]}
    async with uc.Runtime(MemoryStore(journal), context=WIDE, **options) as rt:
        outcome = await rt.run(target, message="look at it", session="s-1")
    async with uc.Runtime(MemoryStore(journal), context=NARROW, **options) as rt:
        outcome = await rt.approve(outcome.turn_id, by="ada")
        assert outcome.status == "done"
    found = opened(journal, outcome)
    assert [e.policy for e in found] == [WIDE.hash, NARROW.hash]
    assert found[-1].was == WIDE.hash


async def test_prompts_fit_by_the_counter_that_is_in_use() -> None:
    """What another counter said of earlier turns counts no more."""
    journal, model = MemoryJournal(), Model(SCRIPTS)
    target = talker(order_tools())
    policy = ContextPolicy(limit_tokens=5000, reserved_tokens=100)
    options: dict[str, Any] = {"model": model, "context": policy, "ids": InOrder()}
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        for _ in range(3):
            await rt.run(target, message="look at them", session="s-1")
    async with uc.Runtime(MemoryStore(journal), counter=Words(), **options) as rt:
        outcome = await rt.run(target, message="thanks", session="s-1")
        assert outcome.status == "done", outcome.error
    letters = sum(len(m.content) for m in model.requests[-1].messages)
    (prompt,) = events(MemoryStore(journal), outcome.turn_id, PromptAssembled)
    assert prompt.tokens >= letters
    assert letters <= policy.capacity_tokens


async def test_a_counter_of_another_vocabulary_than_the_policy_names_is_refused() -> None:
    """Before the turn begins."""
    policy = ContextPolicy(limit_tokens=5000, vocabulary="o200k_base")
    model = Model()
    own = talker(context=policy)
    async with uc.Runtime(model=model, counter=Words()) as rt:
        with pytest.raises(SettingError, match="o200k_base"):
            await rt.run(own, message="hello")
        assert rt.turns() == []


@uc.tool(peeks="a")
async def recall(what: str) -> str:
    """Remember."""
    return what


def test_a_tool_may_not_have_the_name_of_ours() -> None:
    """A handler with a policy says so when it is declared, unless it does without ours."""
    with pytest.raises(DeclarationError, match="recall"):
        talker([recall], context=WIDE)
    talker([recall])
    talker([recall], context=ContextPolicy(limit_tokens=5000, recall=False))


async def test_a_tool_of_that_name_meets_the_policy_of_the_runtime() -> None:
    """Nothing of such a turn begins, so that nothing is left to resume."""
    async with uc.Runtime(model=Model(), context=WIDE) as rt:
        with pytest.raises(DeclarationError, match="recall"):
            await rt.run(talker([recall]), message="hello")
        assert rt.turns() == []
        assert await rt.recover() == {}


async def test_without_recall_nothing_of_it_is_offered_or_mentioned() -> None:
    """Neither the tool nor, where something was cut or left out, its name."""
    policy = ContextPolicy(limit_tokens=1500, reserved_tokens=100, recall=False)
    model = Model({**SCRIPTS, "recall": [[uc.Call("recall", {"handle": "r0.2"})], "end"]}, policy)
    async with uc.Runtime(model=model, context=policy, ids=InOrder()) as rt:
        for _ in range(3):
            await rt.run(talker(order_tools()), message="look at them", session="s-1")
        outcome = await rt.run(talker(order_tools()), message="recall it", session="s-1")
        assert outcome.status == "done"
    model.check()
    for request in model.requests[:-1]:
        assert "recall" not in [spec.name for spec in request.tools]
        assert not any("recall(" in m.content for m in request.messages)
    assert "unknown_tool" in model.requests[-1].messages[-1].content


@pytest.mark.parametrize("name", ["model", "summary"])
async def test_tools_and_steps_may_be_called_as_steps_of_ours(name: str) -> None:
    """Later turns of the session are none the worse for it."""

    @uc.tool(name=name, peeks="cars/{car}")
    async def about(car: str) -> str:
        """Look up the model of a car."""
        return f"{car} is a wagon"

    flow = uc.Workflow("order")

    async def step(order: str) -> str:
        return order

    step.__name__ = name
    flow.read("orders/{order}")(step)
    target = talker([about])
    journal, model = MemoryJournal(), Model({"car": [[uc.Call(name, {"car": "c1"})], "A wagon."]})
    outcome: uc.Outcome | None = None
    for _ in range(2):
        options: dict[str, Any] = {"model": model, "context": WIDE, "ids": InOrder()}
        async with uc.Runtime(MemoryStore(journal), **options) as rt:
            outcome = await rt.run(target, message="car c1", session="s-1")
            assert outcome.value == "A wagon.", outcome.error
            outcome = await rt.run(flow, order="o1", session="s-1")
            assert outcome.value == "o1"
            outcome = await rt.run(target, message="car c2", session="s-1")
            assert outcome.value == "A wagon.", outcome.error
    assert outcome is not None
    check_prompt(model.requests[-1], WIDE)


async def test_turns_of_a_session_that_had_no_policy_are_part_of_it() -> None:
    """Also where they left calls open and asked again, which nothing forbade."""
    journal = MemoryJournal()
    model = Model({"open": [[look("#A1001")], "no matter"], "rest": ["", "rested"]})

    @uc.handler(tools=order_tools())
    async def loose(turn: uc.Turn, message: str) -> str:
        turn.context.user(message)
        answer = await turn.model()
        turn.context.user("rest")
        await turn.model()
        return answer.text

    async with uc.Runtime(MemoryStore(journal), model=model, ids=InOrder()) as rt:
        outcome = await rt.run(loose, message="open it", session="s-1")
        assert outcome.status == "done", outcome.error
    options: dict[str, Any] = {"model": model, "context": WIDE, "ids": InOrder()}
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        await rt.run(talker(order_tools()), message="hello", session="s-1")
    assert any(m.content == "open it" for m in model.requests[-1].messages)
    check_prompt(model.requests[-1], WIDE)


class Backwards(InOrder):
    """Ids of turns that began in one millisecond, or before the clock was set back."""

    def __init__(self) -> None:
        self._left = count(0xFFFFFF, -1)

    def turn(self, at: float) -> str:
        """Return a new id, below the one before."""
        del at
        return f"t-{next(self._left):012x}"


@pytest.mark.parametrize("apart", [False, True], ids=["one process", "many"])
async def test_a_session_is_in_the_order_in_which_its_turns_began(*, apart: bool) -> None:
    """Whatever their ids: two in one millisecond are in no order, and clocks are set back."""
    journal, model, ids = MemoryJournal(), Model(), Backwards()
    texts = [f"text {i}" for i in range(4)]
    options: dict[str, Any] = {"model": model, "context": WIDE, "ids": ids}
    if apart:
        for text in texts:
            async with uc.Runtime(MemoryStore(journal), **options) as rt:
                await rt.run(talker(), message=text, session="s-1")
    else:
        async with uc.Runtime(MemoryStore(journal), **options) as rt:
            for text in texts:
                await rt.run(talker(), message=text, session="s-1")
    said = [m.content for m in model.requests[-1].messages if m.role == "user"]
    assert said == texts


async def test_each_turn_says_its_own_system_text_and_pins_stay() -> None:
    """Of several that are said within a turn all count; what is pinned is there from then on."""
    model = Model(policy=WIDE)

    @uc.handler()
    async def talk(turn: uc.Turn, systems: list[str], message: str) -> str:
        for text in systems:
            turn.context.system(text)
        if message == "pin":
            turn.context.pin("Ada is a customer.")
        turn.context.user(message)
        answer = await turn.model()
        if message == "pin":
            turn.context.pin("She is kind.")
            await turn.model()
        return answer.text

    async with uc.Runtime(model=model, context=WIDE, ids=InOrder()) as rt:
        for systems, message in ((["A.", "B."], "hi"), (["C."], "pin"), (["D."], "ho"), ([], "x")):
            outcome = await rt.run(talk, systems=systems, message=message, session="s-1")
            assert outcome.status == "done", outcome.error
    model.check()
    found = [[m.content for m in r.messages if m.role == "system"] for r in model.requests]
    pins = ["Ada is a customer.", "She is kind."]
    assert found[:4] == [["A.", "B."], ["C.", pins[0]], ["C.", *pins], ["D.", *pins]]
    assert found[4] == pins, "a turn that says no system text has that of the one before"

"""Approvals by LangGraph's own interrupt: siblings, order, a no, a change, and answers twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import BaseMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

import undercroft as uc
from tests.frameworks.langchain.stage import MAKERS, agent_of, asked, hold, proposes
from tests.provider import Answer, Call, Provider, Request
from undercroft.errors import InputError

PAY = {"writes": "account/{account}", "approval": True, "read_first": False}
EFFECTS = {
    "pay": PAY,
    "interest": {"writes": "account/{account}", "read_first": False},
    "note": {"appends": "notes"},
    "look": {"reads": "account/{account}"},
}
BATCH = [
    Call("pay", {"account": "a", "amount": 50}, "c1"),
    Call("interest", {"account": "a"}, "c2"),
    Call("note", {"text": "hi"}, "c3"),
]
SYNC = ["ainvoke", "invoke"]


class Book:
    """Accounts, and all that was done to them in order."""

    def __init__(self) -> None:
        self.balance = 100
        self.log: list[str] = []

    def tools(self) -> list[Any]:
        """Return tools that write to it."""

        def pay(account: str, amount: int) -> str:
            """Pay."""
            self.balance -= amount
            self.log.append(f"pay {amount} of {account}")
            return f"paid {amount}"

        def interest(account: str) -> str:
            """Add ten percent."""
            self.balance += self.balance // 10
            self.log.append(f"interest on {account}")
            return "added"

        def note(text: str) -> str:
            """Write a note."""
            self.log.append(f"note {text}")
            return "noted"

        def look(account: str) -> int:
            """Look."""
            self.log.append(f"look at {account}")
            return self.balance

        return [pay, interest, note, look]


def results(said: list[BaseMessage]) -> dict[str, str]:
    """Return what the results in a conversation say, by the ids of their calls."""
    return {one.tool_call_id: one.text for one in said if isinstance(one, ToolMessage)}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("how", SYNC)
@pytest.mark.parametrize(
    "yes",
    [
        True,
        "approve",
        {"type": "approve"},
        {"type": "approve", "by": "ada"},
        {"decisions": [{"type": "approve"}]},
    ],
)
async def test_siblings_run_at_once_or_after_the_yes_in_order(
    maker: str, how: str, yes: Any, tmp_path: Path
) -> None:
    """What is independent runs; what conflicts is held, and runs in the order of proposal."""
    book = Book()
    host = uc.Runtime(str(tmp_path / "journal.db"))
    with Provider(proposes(*BATCH)) as provider:
        agent = MAKERS[maker](provider, host, book.tools(), EFFECTS)
        await hold(agent, "Go.", how)
        assert book.log == ["note hi"]
        (question,) = await asked(agent)
        assert question.value["tool"] == "pay"
        assert question.value["arguments"] == {"account": "a", "amount": 50}
        assert question.value["tool_call_id"] == "c1"
        assert len(question.value["fingerprint"]) >= 32
        said = await hold(agent, Command(resume=yes), how)
    assert book.log == ["note hi", "pay 50 of a", "interest on a"]
    assert book.balance == 55
    assert results(said) == {"c1": "paid 50", "c2": "added", "c3": "noted"}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("how", SYNC)
async def test_a_no_refuses_the_call_and_lets_the_others_go_on(maker: str, how: str) -> None:
    """The model reads that, and why; what was held behind it runs."""
    book = Book()
    with Provider(proposes(*BATCH)) as provider:
        agent = MAKERS[maker](provider, uc.Runtime(), book.tools(), EFFECTS)
        await hold(agent, "Go.", how)
        no = {"type": "reject", "message": "not this month"}
        said = await hold(agent, Command(resume=no), how)
    assert book.log == ["note hi", "interest on a"]
    told = results(said)
    assert "not this month" in told["c1"]
    assert told["c2"] == "added"
    assert next(m.status for m in said if isinstance(m, ToolMessage)) == "error"


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("how", SYNC)
@pytest.mark.parametrize("wrong", ["perhaps", {"type": "edit"}, 7, {"decisions": []}])
async def test_an_answer_that_may_mean_anything_is_an_error_and_nothing_is_lost(
    maker: str, how: str, wrong: Any
) -> None:
    """It is told what may be answered, and the same question is open."""
    book = Book()
    with Provider(proposes(*BATCH)) as provider:
        agent = MAKERS[maker](provider, uc.Runtime(), book.tools(), EFFECTS)
        await hold(agent, "Go.", how)
        with pytest.raises(InputError, match="True or False"):
            await hold(agent, Command(resume=wrong), how)
        assert book.log == ["note hi"]
        said = await hold(agent, Command(resume=True), how)
    assert book.log == ["note hi", "pay 50 of a", "interest on a"]
    assert results(said)["c1"] == "paid 50"


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("how", SYNC)
async def test_two_payments_are_asked_about_one_after_the_other(maker: str, how: str) -> None:
    """They conflict: the yes to the first is none to the second."""
    book = Book()
    batch = [Call("pay", {"account": "a", "amount": n}, f"c{n}") for n in (1, 2, 3)]
    with Provider(proposes(*batch)) as provider:
        agent = MAKERS[maker](provider, uc.Runtime(), book.tools(), EFFECTS)
        await hold(agent, "Go.", how)
        for n in (1, 2, 3):
            (question,) = await asked(agent)
            assert question.value["arguments"]["amount"] == n
            await hold(agent, None, how)  # nobody said anything: the same is asked again
            (question,) = await asked(agent)
            assert question.value["arguments"]["amount"] == n
            said = await hold(agent, Command(resume=n != 2), how)
    assert book.log == ["pay 1 of a", "pay 3 of a"]
    assert "refused" in results(said)["c2"]


@pytest.mark.parametrize("how", SYNC)
async def test_independent_payments_are_asked_about_at_once_by_their_ids(how: str) -> None:
    """LangGraph wants a map of answers then; some may be given, and the rest asked again."""
    book = Book()
    batch = [Call("pay", {"account": name, "amount": 1}, f"c-{name}") for name in "abc"]
    with Provider(proposes(*batch)) as provider:
        agent = agent_of(provider, uc.Runtime(), book.tools(), EFFECTS)
        await hold(agent, "Go.", how)
        questions = {one.value["arguments"]["account"]: one.id for one in await asked(agent)}
        assert sorted(questions) == ["a", "b", "c"]
        await hold(agent, Command(resume={questions["b"]: True, questions["c"]: False}), how)
        assert book.log == ["pay 1 of b"]
        (question,) = await asked(agent)
        assert question.value["arguments"]["account"] == "a"
        said = await hold(agent, Command(resume={question.id: True}), how)
    assert book.log == ["pay 1 of b", "pay 1 of a"]
    assert [text.startswith('{"refused"') for text in results(said).values()] == [
        False,
        False,
        True,
    ]


async def test_in_one_node_independent_payments_are_asked_about_in_order() -> None:
    """A node can ask one question at a time; each answer counts for the one that was asked."""
    book = Book()
    batch = [Call("pay", {"account": name, "amount": 1}, f"c-{name}") for name in "abc"]
    with Provider(proposes(*batch)) as provider:
        graph = MAKERS["graph"](provider, uc.Runtime(), book.tools(), EFFECTS)
        await hold(graph, "Go.")
        for name, yes in (("a", True), ("b", False), ("c", True)):
            (question,) = await asked(graph)
            assert question.value["arguments"]["account"] == name
            await hold(graph, None)
            said = await hold(graph, Command(resume=yes))
    assert book.log == ["pay 1 of a", "pay 1 of c"]
    assert "refused" in results(said)["c-b"]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("how", SYNC)
async def test_what_changed_since_is_asked_about_again(
    maker: str, how: str, tmp_path: Path
) -> None:
    """The yes was to another balance: the next question says what changed."""
    book = Book()

    def model(request: Request) -> Answer:
        done = len(request.results)
        if done == 0:
            return Answer(calls=[Call("look", {"account": "a"}, "c0")])
        if done == 1:
            return Answer(calls=BATCH[:1])
        return Answer(text="done")

    host = uc.Runtime(str(tmp_path / "journal.db"))
    with Provider(model) as provider:
        agent = MAKERS[maker](provider, host, book.tools(), EFFECTS)
        await hold(agent, "Go.", how)
        book.balance = 60
        await hold(agent, Command(resume=True), how)
        assert "pay 50 of a" not in book.log
        (question,) = await asked(agent)
        assert question.value["void"] == "changed"
        (change,) = question.value["changed"]
        assert (change["key"], change["was"], change["now"]) == ("account/a", "100", "60")
        await hold(agent, None, how)
        assert "pay 50 of a" not in book.log
        said = await hold(agent, Command(resume=True), how)
    assert book.log.count("pay 50 of a") == 1
    assert said[-1].text == "done"


@pytest.mark.parametrize("maker", MAKERS)
async def test_a_saved_approval_answered_twice_pays_once(maker: str, tmp_path: Path) -> None:
    """Two runtimes, one checkpoint: both go on from it, at once."""
    book = Book()
    path = str(tmp_path / "journal.db")
    kept = InMemorySaver()
    with Provider(proposes(BATCH[0])) as provider:
        agents = [
            MAKERS[maker](provider, uc.Runtime(path), book.tools(), EFFECTS, kept=kept)
            for _ in range(3)
        ]
        await hold(agents[0], "Go.")
        both = await asyncio.gather(*(hold(one, Command(resume=True)) for one in agents[1:]))
    assert book.log == ["pay 50 of a"]
    assert all(results(said)["c1"] == "paid 50" for said in both)


@pytest.mark.parametrize("mode", ["batched", "per_call"])
@pytest.mark.parametrize("how", SYNC)
async def test_their_own_middleware_for_approvals_keeps_working_beside_ours(
    mode: Any, how: str, tmp_path: Path
) -> None:
    """It asks, we keep the order; an edit is what runs, and what is recorded."""
    book = Book()
    path = str(tmp_path / "journal.db")
    theirs = HumanInTheLoopMiddleware({"interest": True}, interrupt_mode=mode)
    effects = {**EFFECTS, "pay": {**PAY, "approval": False}}
    with Provider(proposes(*BATCH)) as provider:
        agent = agent_of(provider, uc.Runtime(path), book.tools(), effects, middleware=[theirs])
        await hold(agent, "Go.", how)
        assert len(await asked(agent)) == 1
        yes = {"type": "edit", "edited_action": {"name": "interest", "args": {"account": "b"}}}
        answer = {"decisions": [yes]} if mode == "batched" else yes
        said = await hold(agent, Command(resume=answer), how)
    assert sorted(book.log) == ["interest on b", "note hi", "pay 50 of a"]
    assert results(said)["c2"].endswith("added")
    async with uc.Runtime(path) as rt:
        (head,) = rt.turns()
        ran = [s for s in rt.trace(head.turn_id).steps if (s.name, s.status) == ("interest", "ok")]
    assert [step.arguments for step in ran] == [{"account": "b"}]

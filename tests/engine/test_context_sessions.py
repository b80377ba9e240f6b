"""Sessions under a context policy: one conversation, whichever process holds which turn."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import (
    InOrder,
    Model,
    Summariser,
    Talk,
    apart,
    assert_same,
    change,
    check_prompt,
    events,
    look,
    order_tools,
    prompts_of,
    talker,
    whole,
    written,
)
from tests.engine.vendor import virtual
from undercroft.layers.context.policy import ContextPolicy
from undercroft.model.event import ContextCompacted
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.storage.sqlite import SqliteStore
from undercroft.testing import FaultyStore, ScriptedModel

SMALL = ContextPolicy(limit_tokens=1600, reserved_tokens=100, pins=("Never promise a refund.",))
SCRIPTS: dict[str, Any] = {
    "look": [[look("#A1001")], "It is open."],
    "both": [[look("#A1002"), look("#A1003")], [change("#A1002", "shipped")], "Shipped."],
    "again": [[look("#A1002")], [look("#A1003")], [look("#A1001")], "All three."],
}
SAYS = [
    "look at #A1001 please, I am ada@example.com",
    "both #A1002 and #A1003, ship the first",
    "thanks",
    "again all of them " + "and take your time " * 20,
    "look once more at #A1001",
    "both once more",
    "bye",
]
ORDERS = Talk(lambda: talker(order_tools()), SAYS, SCRIPTS, SMALL)


@pytest.mark.parametrize("summaries", [None, (None,)])
async def test_a_session_is_the_same_in_one_process_and_in_many(
    tmp_path: Path, summaries: Any
) -> None:
    """The very same prompts, on every store, and the same is written down of them."""
    talk = Talk(lambda: talker(order_tools()), SAYS, SCRIPTS, SMALL, summaries)
    one, many = await whole(talk), await apart(talk)
    path = tmp_path / "journal.db"
    file = await apart(talk, lambda: SqliteStore(path, sync="never"))
    assert_same(many.sent, one.sent)
    assert_same(file.sent, one.sent)
    assert_same(many.asked, one.asked)
    assert one.ends == many.ends == file.ends
    for warm, cold in zip(one.outcomes, many.outcomes, strict=True):
        written = prompts_of(one.store, warm.turn_id)
        assert written == prompts_of(many.store, cold.turn_id)
    assert sum(len(events(one.store, o.turn_id, ContextCompacted)) for o in one.outcomes) > 1


async def test_turns_may_alternate_between_processes() -> None:
    """Each reads what the other one said since."""
    one = await whole(ORDERS)
    held: list[Any] = []
    journal = MemoryJournal()
    model = Model(SCRIPTS, SMALL)
    options: dict[str, Any] = {"model": model, "context": SMALL, "ids": InOrder()}
    target = talker(order_tools())
    async with (
        uc.Runtime(MemoryStore(journal), **options) as here,
        uc.Runtime(MemoryStore(journal), **options) as there,
    ):
        for place, text in enumerate(SAYS):
            rt = there if place in {1, 2, 5} else here
            held.append(await rt.run(target, message=text, session="s-1"))
    model.check()
    assert_same(model.sent, one.sent)


@pytest.mark.parametrize("many", [False, True], ids=["one process", "two"])
async def test_two_turns_of_a_session_at_once_are_one_after_the_other(*, many: bool) -> None:
    """Or one is refused; the conversation has them in one order, in every process."""
    journal, model = MemoryJournal(), Model(SCRIPTS, SMALL)
    options: dict[str, Any] = {"model": model, "context": SMALL, "ids": InOrder()}
    target = talker(order_tools())
    async with (
        uc.Runtime(MemoryStore(journal), **options) as here,
        uc.Runtime(MemoryStore(journal), **options) as there,
    ):
        await here.run(target, message="hello", session="s-1")
        first, second = await asyncio.gather(
            here.run(target, message="look at one", session="s-1"),
            (there if many else here).run(target, message="both of two", session="s-1"),
        )
        assert "done" in {str(first.status), str(second.status)}
        await here.run(target, message="thanks", session="s-1")
        warm = [m.content for m in model.requests[-1].messages]
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        await rt.run(target, message="bye", session="s-1")
    cold = [m.content for m in model.requests[-1].messages]
    assert cold[: len(warm)] == warm
    model.check()


async def test_no_two_calls_of_a_session_have_one_id() -> None:
    """Whatever the provider gives: none, the same in each answer, or the same in each turn."""
    policy = ContextPolicy(limit_tokens=12_000, reserved_tokens=100)
    same = [
        uc.Call("look", {"order": "#A1"}, "call_0"),
        uc.Call("look", {"order": "#A2"}, "call_1"),
    ]
    none = [look("#A1"), look("#A2")]
    prompts = []
    for calls in (same, none):
        for many in (False, True):
            script = ScriptedModel([calls, calls, "end"])
            seen: list[uc.ModelRequest] = script.requests
            journal = MemoryJournal()
            options: dict[str, Any] = {"model": script, "context": policy, "ids": InOrder()}
            target = talker(order_tools())
            if many:
                for i in range(3):
                    async with uc.Runtime(MemoryStore(journal), **options) as rt:
                        await rt.run(target, message=f"turn {i}", session="s-1")
            else:
                async with uc.Runtime(MemoryStore(journal), **options) as rt:
                    for i in range(3):
                        await rt.run(target, message=f"turn {i}", session="s-1")
            for request in seen:
                check_prompt(request, policy)
            prompts.append([written(request) for request in seen])
    assert_same(prompts[1], prompts[0])
    assert_same(prompts[3], prompts[2])


async def test_a_session_goes_on_after_its_journal_could_not_be_written(tmp_path: Path) -> None:
    """What was not recorded was not said, also for the process that said it."""
    full = sqlite3.OperationalError("database or disk is full")
    calm = await whole(ORDERS)
    for commit in (3, 5, 8, 12):
        store = FaultyStore(tmp_path / f"{commit}.db", fail_at=commit, error=full, sync="never")
        model, target = Model(SCRIPTS, SMALL), talker(order_tools())
        options: dict[str, Any] = {"model": model, "context": SMALL, "targets": [target]}
        async with uc.Runtime(store, ids=InOrder(), **options) as rt:
            for text in SAYS:
                try:
                    outcome = await rt.run(target, message=text, session="s-1")
                except uc.StoreError:
                    begun = [head for head in rt.turns() if head.status in {"running", "stopped"}]
                    if begun:
                        outcome = await rt.resume(begun[0].turn_id)
                    else:
                        outcome = await rt.run(target, message=text, session="s-1")
                assert outcome.status == "done", outcome.error
        model.check()
        assert [*dict.fromkeys(model.sent)] == [*dict.fromkeys(calm.sent)]


@uc.tool(writes="orders/{order}", name="change", read_first=False)
async def change_nothing(order: str, state: str, key: uc.IdempotencyKey) -> str:
    """Say that an order was changed."""
    return f"{order} is {state}"


class Slowly(Model):
    """A model that takes its time, more for some prompts than for others."""

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Answer by the prompt."""
        await asyncio.sleep(len(written(request)) % 7)
        return await super().complete(request)


@virtual
async def test_many_sessions_side_by_side_are_as_each_alone() -> None:
    """What is counted, kept and summarised for one has nothing to do with another."""
    names = [f"s-{i}" for i in range(12)]

    async def hold(rt: uc.Runtime, target: Any, name: str) -> None:
        for text in SAYS:
            said = f"{text}; says {name}"
            outcome = await rt.run(target, message=said, session=name)
            assert outcome.status == "done", outcome.error

    async def sent(*groups: list[str]) -> dict[str, list[str]]:
        model = Slowly(SCRIPTS, SMALL)
        options: dict[str, Any] = {"model": model, "context": SMALL}
        options["summariser"] = Summariser(took_s=3)
        async with uc.Runtime(ids=InOrder(), **options) as rt:
            for group in groups:
                reads = [tool for tool in order_tools() if tool.name == "look"]
                target = talker([*reads, change_nothing])
                await asyncio.gather(*(hold(rt, target, name) for name in group))
        model.check()
        return {name: [one for one in model.sent if f'; says {name}"' in one] for name in names}

    together, alone = await sent(names), await sent(*([name] for name in names))
    for name in names:
        assert_same(together[name], alone[name], name)
        assert len(together[name]) >= len(SAYS)

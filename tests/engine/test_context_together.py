"""Windows beside everything else: breakers, notices, budgets, circles, timeouts, workflows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import (
    TIGHT,
    InOrder,
    Model,
    Talk,
    apart,
    assert_same,
    check_journal,
    check_prompt,
    look,
    newest_user,
    order_tools,
    talker,
    whole,
    written,
)
from tests.engine.vendor import Vendor, virtual
from undercroft.layers.context.policy import ContextPolicy
from undercroft.storage.memory import MemoryJournal, MemoryStore

ROOM = ContextPolicy(limit_tokens=6000, reserved_tokens=100)
OPENS = uc.Service(
    "crm", breaker=uc.BreakerPolicy(failures_max=1, failure_rate=None, open_s=50, open_max_s=50)
)


def vendor_tools(vendor: Vendor) -> list[Any]:
    """Return a tool of a service, and one that takes its time."""

    @uc.tool(peeks="a/{i}", service="crm")
    async def get(i: int) -> Any:
        return await vendor()

    @uc.tool(peeks="b")
    async def rest(i: int) -> str:
        await asyncio.sleep(20)
        return f"rested {i}; " + "and rested, " * 40

    return [get, rest]


def ours(request: uc.ModelRequest) -> list[str]:
    """Return the notices of a request."""
    return [m.content for m in request.messages if m.content.startswith("[undercroft] ")]


def rest(i: int) -> list[uc.Call]:
    """Propose to rest."""
    return [uc.Call("rest", {"i": i})]


GET = [uc.Call("get", {"i": 1})]


@virtual
async def test_a_tool_that_is_withdrawn_changes_what_the_tools_weigh() -> None:
    """What is offered is weighed anew with each prompt, and the notices are part of it."""
    vendor = Vendor([ConnectionError("x"), "fine"])
    model = Model({"go": [GET, *[rest(i) for i in range(12)], "end"]}, TIGHT)
    store = MemoryStore()
    async with uc.Runtime(store, model=model, context=TIGHT, services=[OPENS]) as rt:
        outcome = await rt.run(talker(vendor_tools(vendor)), message="go", session="s-1")
        assert outcome.status == "degraded", outcome.error
        check_journal(store, outcome.turn_id)
    model.check()
    offered = [[spec.name for spec in r.tools] for r in model.requests]
    assert ["rest", "recall"] in offered
    assert offered[-1] == ["get", "rest", "recall"]


async def test_notices_are_the_same_in_another_process() -> None:
    """What a turn was told is part of the session."""
    plan = (("hello", False), ("go", True), ("on", True), ("back", False), ("bye", False))
    prompts = []
    for many in (False, True):
        calls: list[Any] = [[look("#A1")], [look("#A2")], "end"]
        model = Model({"go": calls, "on": calls, "back": calls}, ROOM)
        target, journal = talker([*vendor_tools(Vendor()), *order_tools()]), MemoryJournal()
        options: dict[str, Any] = {"model": model, "context": ROOM, "ids": InOrder()}
        rt = uc.Runtime(MemoryStore(journal), **options)
        await rt.__aenter__()
        for text, shut in plan:
            if many:
                await rt.__aexit__(None, None, None)
                rt = uc.Runtime(MemoryStore(journal), **options)
                await rt.__aenter__()
            rt.force_open("crm", by="ada") if shut else rt.reset_breaker("crm", by="ada")
            await rt.run(target, message=text, session="s-1")
        await rt.__aexit__(None, None, None)
        model.check()
        assert len(ours(model.requests[-1])) >= 1
        prompts.append(model.sent)
    assert_same(prompts[1], prompts[0])


@virtual
async def test_a_session_that_was_told_of_a_service_is_told_when_it_is_back() -> None:
    """Also if that is only in a later turn: the conversation says that it is gone."""
    vendor = Vendor([ConnectionError("x"), "fine"])
    model = Model({"go": [GET, rest(1), "end"]}, ROOM)
    target = talker(vendor_tools(vendor))
    async with uc.Runtime(model=model, context=ROOM, services=[OPENS], ids=InOrder()) as rt:
        await rt.run(target, message="go", session="s-1")
        assert len(ours(model.requests[-1])) == 1
        await asyncio.sleep(100)
        await rt.run(target, message="hello", session="s-1")
    assert [spec.name for spec in model.requests[-1].tools] == ["get", "rest", "recall"]
    said = ours(model.requests[-1])
    assert "on offer again" in said[-1]


@pytest.mark.parametrize("caught", [False, True])
@virtual
async def test_a_model_that_may_not_be_asked_leaves_the_session_as_it_is(*, caught: bool) -> None:
    """Refused by its breaker: the next turns are the same in every process."""

    @uc.handler()
    async def talk(turn: uc.Turn, message: str) -> str:
        turn.context.user(message)
        try:
            return (await turn.model()).text
        except uc.ModelError:
            if not caught:
                raise
            return "by rule"

    prompts = []
    for many in (False, True):
        model, journal = Model({}, ROOM), MemoryJournal()
        options: dict[str, Any] = {"model": model, "context": ROOM, "ids": InOrder()}
        rt = uc.Runtime(MemoryStore(journal), **options)
        await rt.__aenter__()
        for text in ("hello", "refused", "refused again", "back", "bye"):
            if many:
                await rt.__aexit__(None, None, None)
                rt = uc.Runtime(MemoryStore(journal), **options)
                await rt.__aenter__()
            if text.startswith("refused"):
                rt.force_open("model", by="ada")
            else:
                rt.reset_breaker("model", by="ada")
            await asyncio.sleep(5)
            outcome = await rt.run(talk, message=text, session="s-1")
            wrong = text.startswith("refused") and not caught
            assert outcome.status == ("failed" if wrong else "done"), outcome.error
            check_journal(MemoryStore(journal), outcome.turn_id)
        await rt.__aexit__(None, None, None)
        prompts.append(model.sent)
    assert_same(prompts[1], prompts[0])


async def test_a_turn_without_budget_for_its_model_leaves_the_session_as_it_is() -> None:
    """Spent: the next turn goes on, the same in every process."""
    prompts = []
    for many in (False, True):
        model, journal = (
            Model({"look": [[look("#A1")], [look("#A2")], "end"]}, ROOM),
            MemoryJournal(),
        )
        options: dict[str, Any] = {"model": model, "context": ROOM, "ids": InOrder()}
        target = talker(order_tools())
        plan = (("look one", 2), ("look two", 3), ("hello", None), ("bye", None))
        if many:
            for text, attempts in plan:
                async with uc.Runtime(MemoryStore(journal), **options) as rt:
                    budget = uc.Budget(attempts=attempts)
                    await rt.run(target, message=text, session="s-1", budget=budget)
        else:
            async with uc.Runtime(MemoryStore(journal), **options) as rt:
                for text, attempts in plan:
                    budget = uc.Budget(attempts=attempts)
                    await rt.run(target, message=text, session="s-1", budget=budget)
        model.check()
        prompts.append(model.sent)
    assert_same(prompts[1], prompts[0])


async def test_tokens_that_a_budget_has_are_of_the_whole_prompt() -> None:
    """Ledger, pins and what earlier turns said count as well."""
    model = Model({}, ROOM, usage=lambda r: uc.Usage(sum(len(m.content) for m in r.messages), 1))
    budgets = uc.Budgets(session=uc.Budget(input_tokens=2000))
    ends = []
    async with uc.Runtime(model=model, context=ROOM, budgets=budgets, ids=InOrder()) as rt:
        for i in range(8):
            outcome = await rt.run(talker(), message=f"hello {i} " * 20, session="s-1")
            ends.append(str(outcome.status))
    assert ends[0] == "done"
    assert ends[-1] == "failed"
    model.check()


@pytest.mark.parametrize("way", ["calls", "words"])
async def test_a_turn_that_goes_round_in_circles_leaves_the_session_as_it_is(way: str) -> None:
    """It is told, then ended; the next turns are the same in every process."""

    def circling(request: uc.ModelRequest) -> Any:
        return [look("#A1001")] if way == "calls" else "I will see."

    @uc.handler(tools=order_tools())
    async def talk(turn: uc.Turn, message: str) -> str:
        turn.context.user(message)
        while True:
            answer = await turn.model()
            if message != "circle":
                return answer.text
            if answer.calls:
                await turn.calls(answer.calls)

    policy = ContextPolicy(limit_tokens=20_000)
    says = ["hello", "circle", "and now", "bye"]
    talked = Talk(lambda: talk, says, {"circle": circling}, policy)
    one = await whole(talked)
    assert [str(o.status) for o in one.outcomes] == ["done", "failed", "done", "done"]
    assert_same((await apart(talked)).sent, one.sent)


@virtual
async def test_a_turn_that_runs_out_of_time_leaves_the_session_as_it_is() -> None:
    """In its model, or in its calls: the next turns are the same in every process."""

    @uc.tool(peeks="a")
    async def quick() -> str:
        return "quickly"

    @uc.tool(peeks="b")
    async def forever() -> str:
        await asyncio.sleep(1e6)
        return "at last"

    class Slow(Model):
        """A model that thinks about some things for ever."""

        async def complete(self, request: uc.ModelRequest) -> uc.Answer:
            answer = await super().complete(request)
            if newest_user(request) == "think":
                await asyncio.sleep(1e6)
            return answer

    prompts = []
    for many in (False, True):
        model = Slow({"call": [[uc.Call("quick"), uc.Call("forever")], "end"]}, ROOM)
        journal, target = MemoryJournal(), talker([quick, forever])
        options: dict[str, Any] = {
            "model": model,
            "context": ROOM,
            "ids": InOrder(),
            "turn_timeout_s": 30,
        }
        ends = []
        rt = uc.Runtime(MemoryStore(journal), **options)
        await rt.__aenter__()
        for text in ("hello", "call", "think", "hello again", "bye"):
            if many:
                await rt.__aexit__(None, None, None)
                rt = uc.Runtime(MemoryStore(journal), **options)
                await rt.__aenter__()
            outcome = await rt.run(target, message=text, session="s-1")
            ends.append(str(outcome.status))
        await rt.__aexit__(None, None, None)
        assert ends == ["done", "failed", "failed", "done", "done"]
        model.check()
        prompts.append(model.sent)
    assert_same(prompts[1], prompts[0])


@virtual
async def test_a_turn_that_was_cancelled_can_be_resumed_after_others() -> None:
    """They read of it what it had said by then; it goes on with what it said itself."""
    model = Model({"slow": [rest(1), rest(2), "end"]}, ROOM)
    vendor, journal = Vendor(), MemoryJournal()
    target = talker(vendor_tools(vendor))
    options: dict[str, Any] = {"model": model, "context": ROOM, "ids": InOrder()}
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        await rt.run(target, message="hello", session="s-1")
        running = asyncio.ensure_future(rt.run(target, message="slow", session="s-1"))
        await asyncio.sleep(30)
        running.cancel()
        await asyncio.wait([running])
        await rt.run(target, message="in between", session="s-1")
        assert any(m.content == "slow" for m in model.requests[-1].messages)
        (stopped,) = [head for head in rt.turns() if head.status == "stopped"]
        outcome = await rt.resume(stopped.turn_id)
        assert outcome.value == "end", outcome.error
        assert "in between" not in written(model.requests[-1])
        await rt.run(target, message="bye", session="s-1")
        warm = written(model.requests[-1]).replace("bye", "")
        for text in ("slow", "in between", "You said: in between"):
            assert text in warm
    model.check()


async def test_workflows_of_a_session_are_no_part_of_its_conversation() -> None:
    """And do not disturb it."""
    flow = uc.Workflow("order")

    @flow.read("orders/{order}")
    async def see(order: str) -> str:
        return f"seen {order}"

    model, journal = Model({}, ROOM), MemoryJournal()
    options: dict[str, Any] = {"model": model, "context": ROOM, "ids": InOrder()}
    for _ in range(2):
        async with uc.Runtime(MemoryStore(journal), **options) as rt:
            for text in ("one", "two"):
                await rt.run(talker(), message=text, session="s-1")
                outcome = await rt.run(flow, order="o1", session="s-1")
                assert outcome.value == "seen o1"
    said = [m.content for m in model.requests[-1].messages if m.role == "user"]
    assert said == ["one", "two", "one", "two"]
    assert "seen o1" not in written(model.requests[-1])
    check_prompt(model.requests[-1], ROOM)


async def test_without_a_policy_a_session_is_as_it_was() -> None:
    """A window holds one turn; nothing of it is written down, and nothing is offered."""
    model, store = Model({"look": [[look("#A1")], "end"]}), MemoryStore()
    async with uc.Runtime(store, model=model, ids=InOrder()) as rt:
        for text in ("look one", "look two"):
            outcome = await rt.run(talker(order_tools()), message=text, session="s-1")
            assert outcome.status == "done"
            trace = rt.trace(outcome.turn_id)
            assert [step.kind for step in trace.steps] == ["model", "tool", "model"]
    assert len(model.requests[-1].messages) == 4
    assert [spec.name for spec in model.requests[-1].tools] == ["look", "change"]
    assert all(r.place is None and r.breakpoints == () for r in model.requests)


async def test_a_trace_tells_of_summaries_as_of_steps() -> None:
    """By kind and name, with their prompt's step after them."""
    says = [f"look at #A1001, time {i}" for i in range(4)]
    scripts: dict[str, Any] = {"look": [[look("#A1001"), look("#A1002")], "They are open."]}
    talk = Talk(lambda: talker(order_tools()), says, scripts, TIGHT, (None,))
    held = await whole(talk)
    async with uc.Runtime(held.store) as rt:
        steps = [s for o in held.outcomes for s in rt.trace(o.turn_id).steps]
    summaries = [s for s in steps if s.name == "summary"]
    assert summaries
    assert {s.name for s in summaries} == {"summary"}
    assert {str(s.status) for s in summaries} == {"ok"}


class Busy(Model):
    """A model that thinks for long about some things."""

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Answer by the prompt."""
        answer = await super().complete(request)
        if newest_user(request) == "busy":
            await asyncio.sleep(50)
        return answer


def impatient() -> Any:
    """Return a handler that waits for the model for some seconds only, and says so."""

    @uc.handler(tools=order_tools())
    async def talk(turn: uc.Turn, message: str) -> str:
        turn.context.user(message)
        if message == "impatient":
            async with turn.branch("other") as other:
                other.context.user("busy")
                beside = asyncio.ensure_future(other.model())
                await asyncio.sleep(0)
                try:
                    async with asyncio.timeout(5):
                        await turn.model()
                except TimeoutError:
                    turn.context.user("and quickly")
                await beside
        while (answer := await turn.model()).calls:
            await turn.calls(answer.calls)
        return answer.text

    return talk


@virtual
async def test_a_question_that_is_given_up_is_asked_with_the_next_one() -> None:
    """What the model was not sent, since the code would not wait, it is sent later; once."""
    prompts = []
    for many in (False, True):
        model, journal = Busy(policy=ROOM), MemoryJournal()
        options: dict[str, Any] = {"model": model, "context": ROOM, "ids": InOrder()}
        options["limits"] = uc.Limits(services={"model": 1})
        rt = uc.Runtime(MemoryStore(journal), **options)
        await rt.__aenter__()
        for text in ("look one", "impatient", "hello", "bye"):
            if many:
                await rt.__aexit__(None, None, None)
                rt = uc.Runtime(MemoryStore(journal), **options)
                await rt.__aenter__()
            outcome = await rt.run(impatient(), message=text, session="s-1")
            assert outcome.status == "done", outcome.error
            check_journal(MemoryStore(journal), outcome.turn_id)
        await rt.__aexit__(None, None, None)
        model.check()
        prompts.append(model.sent)
        (asked,) = [r for r in model.requests if newest_user(r) == "and quickly"]
        said = [m.content for m in asked.messages if m.role == "user"]
        assert said[-2:] == ["impatient", "and quickly"]
    assert_same(prompts[1], prompts[0])

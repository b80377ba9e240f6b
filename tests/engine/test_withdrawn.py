"""Tools of a service that is given up: not on offer, said once, and the same in every life."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import undercroft as uc
from tests.engine.vendor import Vendor, assistant, sweep, virtual
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import ScriptedModel

OPENS = uc.Service(
    "crm", breaker=uc.BreakerPolicy(failures_max=1, failure_rate=None, open_s=50, open_max_s=50)
)
GET, FIND = [uc.Call("get", {"i": 1})], [uc.Call("find", {"i": 1})]
REST, ASK = [uc.Call("rest")], [uc.Call("ask")]
GONE = "not on offer: crm (get, find)"
BACK = "on offer again"


def tools(vendor: Vendor) -> list[Any]:
    """Return two tools of one service, one of another, and one that takes its time."""

    @uc.tool(peeks="a/{i}", service="crm")
    async def get(i: int) -> Any:
        return await vendor()

    @uc.tool(peeks="a/{i}", service="crm")
    async def find(i: int) -> Any:
        return await vendor()

    @uc.tool(peeks="a/{i}", service="crm", fallback="stale")
    async def backed(i: int) -> Any:
        return await vendor()

    @uc.tool(peeks="b", service="billing")
    async def rest() -> str:
        await asyncio.sleep(20)
        return "rested"

    return [get, find, backed, rest]


def offers(model: ScriptedModel) -> list[list[str]]:
    """Return the tools of each request."""
    return [[spec.name for spec in request.tools] for request in model.requests]


def notices(request: uc.ModelRequest) -> list[str]:
    """Return what the engine told the model."""
    return [m.content for m in request.messages if m.content.startswith("[undercroft]")]


ALL = ["get", "find", "backed", "rest"]


@virtual
async def test_the_tools_of_an_open_service_are_not_offered_until_it_is_back() -> None:
    """The model is told once that they are gone, and once that they are there again."""
    vendor = Vendor([ConnectionError("x"), "fine"])
    model = ScriptedModel([GET, REST, REST, REST, REST, GET, "end"])
    async with uc.Runtime(model=model, services=[OPENS]) as rt:
        outcome = await rt.run(assistant(tools(vendor)))
        assert outcome.status == "done"
    left = ["backed", "rest"]
    assert offers(model) == [ALL, left, left, left, ALL, ALL, ALL]
    said = notices(model.requests[-1])
    assert len(said) == 2
    assert GONE in said[0]
    assert BACK in said[1]
    prompts = [[(m.role, m.content) for m in r.messages] for r in model.requests]
    assert all(prompts[-1][: len(prompt)] == prompt for prompt in prompts)


@virtual
async def test_a_withdrawn_tool_that_is_called_all_the_same_is_refused() -> None:
    """By the breaker, so that nothing is called; the model reads why."""
    vendor = Vendor([ConnectionError("x"), "fine"])
    model = ScriptedModel([GET, FIND, "end"])
    async with uc.Runtime(model=model, services=[OPENS]) as rt:
        outcome = await rt.run(assistant(tools(vendor)))
        assert outcome.status == "degraded"
        assert sorted(outcome.missing) == ["find", "get"]
        assert len(vendor.calls) == 1
        assert "breakers.open" in model.requests[-1].messages[-1].content
        assert len(notices(model.requests[-1])) == 1


@virtual
async def test_a_person_may_close_a_service_off() -> None:
    """Forced open counts as open, from before the first prompt; forced closed does not."""
    vendor = Vendor()
    model = ScriptedModel(["end"])
    async with uc.Runtime(model=model, services=[OPENS]) as rt:
        rt.force_open("crm", by="ada")
        await rt.run(assistant(tools(vendor)))
        rt.force_closed("crm", by="ada")
        await rt.run(assistant(tools(vendor)))
    assert offers(model) == [["backed", "rest"], ALL]
    assert [len(notices(request)) for request in model.requests] == [1, 0]


@virtual
async def test_two_services_come_and_go_by_themselves() -> None:
    """Each change is said, with what is gone after it."""
    vendor = Vendor()
    model = ScriptedModel([REST, REST, REST, "end"])
    async with uc.Runtime(model=model, services=[OPENS, uc.Service("billing")]) as rt:

        async def person() -> None:
            await asyncio.sleep(10)
            rt.force_open("crm", by="ada")
            await asyncio.sleep(20)
            rt.force_open("billing", by="ada")
            await asyncio.sleep(5)
            rt.reset_breaker("crm", by="ada")

        running = asyncio.ensure_future(person())
        await rt.run(assistant(tools(vendor)))
        await running
    said = notices(model.requests[-1])
    assert GONE in said[0]
    assert "billing (rest)" in said[1]
    assert "crm" not in said[1]


@virtual
async def test_each_branch_is_told_by_itself() -> None:
    """A branch that begins while a service is open is told with its first prompt."""
    vendor = Vendor([ConnectionError("x")])
    model = ScriptedModel(["end"])

    @uc.handler(tools=tools(vendor))
    async def several(turn: uc.Turn) -> str:
        await turn.calls(GET)
        for name in ("a", "b"):
            async with turn.branch(name) as branch:
                branch.context.user(name)
                await branch.model()
        return ""

    async with uc.Runtime(model=model, services=[OPENS]) as rt:
        await rt.run(several)
    assert [len(notices(request)) for request in model.requests] == [1, 1]
    assert offers(model) == [["backed", "rest"]] * 2


@virtual
async def test_another_process_withdraws_what_is_open() -> None:
    """A service that another process found broken is not offered here either."""
    journal, vendor = MemoryJournal(), Vendor([ConnectionError("x")])
    first, second = ScriptedModel([GET, "end"]), ScriptedModel(["end"])
    async with (
        uc.Runtime(MemoryStore(journal), model=first, services=[OPENS]) as one,
        uc.Runtime(MemoryStore(journal), model=second, services=[OPENS]) as two,
    ):
        await one.run(assistant(tools(vendor)))
        await asyncio.sleep(1)
        await two.run(assistant(tools(vendor)))
        async with uc.Runtime(MemoryStore(journal), model=second, services=[OPENS]) as three:
            await three.run(assistant(tools(vendor)))
        assert offers(second) == [["backed", "rest"]] * 2
    assert len(vendor.calls) == 1


def parked(vendor: Vendor) -> Any:
    """Return a loop whose tools include one that a person has to approve."""

    @uc.tool(peeks="b", approval=True)
    async def ask() -> str:
        return "yes"

    return assistant([*tools(vendor), ask])


@virtual
async def test_a_turn_that_goes_on_elsewhere_is_told_the_truth() -> None:
    """While the service is still open nobody says that it answers again; later they do."""
    for later_s, gone in ((1, True), (100, False)):
        journal, vendor = MemoryJournal(), Vendor([ConnectionError("x")])
        model = ScriptedModel([GET, ASK, "end"])
        target = parked(vendor)
        options: dict[str, Any] = {"model": model, "services": [OPENS], "targets": [target]}
        async with uc.Runtime(MemoryStore(journal), **options) as first:
            outcome = await first.run(target)
            assert outcome.status == "waiting"
            model.requests.clear()
            async with uc.Runtime(MemoryStore(journal), **options) as rt:
                await asyncio.sleep(later_s)
                outcome = await rt.approve(outcome.turn_id, by="ada")
                assert outcome.status == "degraded"
        (request,) = model.requests
        said = notices(request)
        assert GONE in said[0]
        assert ("get" not in [spec.name for spec in request.tools]) is gone
        if gone:
            assert said[1:] == []
        else:
            assert BACK in said[1]


@pytest.mark.parametrize("second", ["open", "well"])
@pytest.mark.parametrize("first", ["open", "well"])
def test_what_was_said_is_said_again_after_a_crash_at_every_commit(first: str, second: str) -> None:
    """Resumed where services stand otherwise, a turn meets its own prompts, and goes on."""

    def ways(how: str) -> Any:
        def prepare(rt: uc.Runtime) -> None:
            if how == "open":
                rt.force_open("crm", by="ada")
            else:
                rt.reset_breaker("crm", by="ada")

        return prepare

    @virtual
    async def main() -> None:
        model = ScriptedModel([REST, FIND, REST, "end"])
        prompts: dict[int, list[Any]] = {}

        class Seen:
            async def complete(self, request: uc.ModelRequest) -> uc.Answer:
                place = sum(m.role == "assistant" for m in request.messages)
                said = [(m.role, m.content) for m in request.messages]
                prompts.setdefault(place, []).append(said)
                return await model.complete(request)

        ends = await sweep(
            lambda vendor: assistant(tools(vendor)),
            Vendor,
            first=ways(first),
            second=ways(second),
            model=Seen(),
            services=[OPENS],
        )
        assert len(ends) > 8
        for end in ends:
            assert end.outcome.value == "end", end.outcome.error
            (turn,) = end.journal.turns.values()
            assert turn.head.status in ("done", "degraded")
        for said in prompts[max(prompts)]:
            told = [text for _, text in said if text.startswith("[undercroft]")]
            kinds = [BACK in text for text in told]
            # Gone and back take turns: nobody is told the same twice, or of a return first.
            assert kinds == [bool(at % 2) for at in range(len(kinds))], told

    main()


@virtual
async def test_a_refused_model_step_is_replayed_with_what_it_said() -> None:
    """Also where the model could not be asked the next prompt knows what was told before."""
    journal, vendor = MemoryJournal(), Vendor([ConnectionError("x")])
    model = ScriptedModel(["end", "end"])

    @uc.tool(peeks="b", approval=True)
    async def ask() -> str:
        return "yes"

    @uc.handler(tools=[*tools(vendor), ask])
    async def assist(turn: uc.Turn) -> str:
        await turn.calls(GET)
        turn.context.user("first")
        try:
            await turn.model()
        except uc.ModelError as error:
            turn.context.user(error.rule)
        await turn.calls(ASK)
        turn.context.user("second")
        return (await turn.model()).text

    options: dict[str, Any] = {"model": model, "services": [OPENS], "targets": [assist]}
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        rt.force_open("model", by="ada")
        outcome = await rt.run(assist)
        assert outcome.status == "waiting"
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        rt.reset_breaker("model", by="ada")
        rt.reset_breaker("crm", by="ada")
        await asyncio.sleep(1)
        outcome = await rt.approve(outcome.turn_id, by="ada")
        assert outcome.value == "end", outcome.error
    said = notices(model.requests[-1])
    assert [BACK in text for text in said] in ([], [False, True])

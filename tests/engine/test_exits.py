"""What is left when a call comes to nothing: something stands in, or it is missing, and named."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import undercroft as uc
from tests.engine.conftest import MakeRuntime
from tests.engine.vendor import (
    Vendor,
    assistant,
    check_given_back,
    events,
    gate,
    settled,
    sweep,
    virtual,
)
from tests.engine.world import World
from undercroft.errors import ServiceError
from undercroft.model.event import StepStarted
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import ScriptedModel

DOWN = ConnectionRefusedError("nobody there")
CALL = uc.Call("get", {"i": 1})


def once(tools: list[Any], *calls: uc.Call) -> Any:
    """Return a handler of one batch that returns what it was given, and what is missing."""

    @uc.handler(tools=tools)
    async def ask(turn: uc.Turn) -> list[Any]:
        results = await turn.calls(list(calls) or [CALL])
        return [[[str(r.status), r.value, r.stood_in] for r in results], dict(turn.missing)]

    return ask


def getter(error: Any, fallback: Any, *, took_s: float = 0, **options: Any) -> Any:
    """Return a tool that comes to nothing, and has something that stands in."""
    vendor = Vendor([error], took_s=took_s)

    @uc.tool(reads="a/{i}", service="vendor", fallback=fallback, **options)
    async def get(i: int) -> Any:
        return await vendor()

    return get


# ---------------------------------------------------------------------- what stands in


async def from_cache(i: int) -> str:
    """Return what was known."""
    return f"cached {i}"


def in_a_thread() -> str:
    """Take nothing of what the tool takes."""
    return "plain"


@uc.tool(reads="b/{i}", service="other")
async def another(i: int) -> str:
    """Ask somebody else."""
    return f"other {i}"


@pytest.mark.parametrize(
    ("fallback", "value", "name"),
    [
        ("stale", "stale", "a value"),
        (0, 0, "a value"),
        ({"a": [1, 2]}, {"a": [1, 2]}, "a value"),
        ([], [], "a value"),
        (from_cache, "cached 1", "from_cache"),
        (in_a_thread, "plain", "in_a_thread"),
        (another, "other 1", "another"),
    ],
)
async def test_a_value_a_function_or_a_tool_stands_in(
    runtime: MakeRuntime, fallback: Any, value: Any, name: str
) -> None:
    """The result is ok, says what stood in, and the turn is degraded and names the tool."""
    model = ScriptedModel([[CALL], "done"])
    async with runtime(model) as rt:
        outcome = await rt.run(once([getter(DOWN, fallback)]))
        assert outcome.value is not None
        (said,), missing = outcome.value
        assert said == ["ok", value, name]
        assert list(missing) == ["get"]
        assert "nobody there" in missing["get"]
        assert (outcome.status, outcome.missing) == ("degraded", ("get",))
        again = await rt.resume(outcome.turn_id)
        assert (again.status, again.value, again.missing) == (
            outcome.status,
            outcome.value,
            outcome.missing,
        )
        outcome = await rt.run(assistant([getter(DOWN, fallback)]))
        assert outcome.status == "degraded"
        assert "stood in for it" in model.requests[-1].messages[-1].content
        kinds = [step.kind for step in rt.trace(outcome.turn_id).steps]
        assert kinds == ["model", "tool", "fallback", "model"]


@pytest.mark.parametrize(
    "error",
    [
        uc.DomainError("no such account"),
        ServiceError("vendor", "not found", 404),
        ServiceError("vendor", "bad request", 400),
        ValueError("a bug"),
    ],
)
@virtual
async def test_an_answer_that_is_no_is_an_answer(error: Exception) -> None:
    """Nothing stands in for what the business or a bug said, and nothing is missing."""
    stood = Vendor()

    async def instead(i: int) -> Any:
        return await stood()

    async with uc.Runtime() as rt:
        outcome = await rt.run(once([getter(error, instead)]))
        assert outcome.value is not None
        assert outcome.value[0] == [["failed", None, ""]]
        assert (outcome.status, outcome.missing) == ("done", ())
        assert stood.calls == []


@pytest.mark.parametrize(
    "why", ["open", "budget", "overloaded", "failed", "429", "timed out", "quota"]
)
def test_something_stands_in_for_each_way_of_coming_to_nothing(why: str) -> None:
    """Failed, refused by the breaker, out of budget, overloaded: the fallback is asked."""
    errors = {
        "failed": DOWN,
        "429": ServiceError("vendor", "slow", 429),
        "quota": ServiceError("vendor", "pay", 429, "insufficient_quota"),
    }

    @virtual
    async def main() -> None:
        async def instead(i: int) -> str:
            return f"instead {i}"

        for fallback, value in ((instead, "instead 1"), ("value", "value")):
            get = getter(
                errors.get(why, "fine"),
                fallback,
                took_s=100 if why == "timed out" else 0,
                timeout_s=5 if why == "timed out" else None,
                budget=uc.Budget(attempts=0) if why == "budget" else None,
            )
            async with uc.Runtime() as rt:
                if why == "open":
                    rt.force_open("vendor", by="ada")
                if why == "overloaded":
                    now_s = asyncio.get_running_loop().time()
                    gate(rt, "vendor").limit.began()
                    gate(rt, "vendor").limit.overloaded(now_s, now_s, 50.0)
                outcome = await rt.run(once([get]), timeout_s=40)
                assert outcome.value is not None, outcome.error
                assert outcome.value[0][0][:2] == ["ok", value]
                assert outcome.missing == ("get",)
                check_given_back(rt, "vendor")

    main()


@virtual
async def test_a_value_stands_in_also_where_nothing_is_left_to_spend() -> None:
    """What calls nobody costs nothing: the end of a budget is what it is there for."""

    def known(i: int) -> str:
        return f"known {i}"

    for fallback, value in (("stale", "stale"), (known, "known 2")):

        @uc.tool(reads="a/{i}", service="vendor", fallback=fallback)
        async def get(i: int) -> str:
            return f"fresh {i}"

        for budget in (uc.Budget(attempts=1), uc.Budget(attempts=1, time_s=100)):
            async with uc.Runtime(budgets=uc.Budgets(turn=budget)) as rt:
                outcome = await rt.run(
                    once([get], uc.Call("get", {"i": 1}), uc.Call("get", {"i": 2}))
                )
                assert outcome.value is not None
                assert [said[1] for said in outcome.value[0]] == ["fresh 1", value]
                assert (outcome.status, outcome.missing) == ("degraded", ("get",))


@virtual
async def test_a_fallback_that_fails_too_is_named_as_well() -> None:
    """The failure of the tool is the failure, and says what became of what was to stand in."""

    async def instead() -> str:
        raise KeyError("empty cache")

    @uc.tool(reads="b", service="other")
    async def second() -> str:
        raise TimeoutError("also slow")

    for fallback, words in ((instead, "empty cache"), (second, "also slow")):
        async with uc.Runtime() as rt:
            for what in ("handler", "workflow"):
                if what == "handler":
                    outcome = await rt.run(once([getter(DOWN, fallback)]))
                    error = rt.trace(outcome.turn_id).steps[0].error
                    assert outcome.status == "degraded"
                    text = outcome.value[1]["get"] if outcome.value else ""
                else:
                    flow = uc.Workflow("flow")

                    @flow.read("a", service="vendor", fallback=fallback)
                    async def get() -> str:
                        raise ConnectionRefusedError("nobody there")

                    outcome = await rt.run(flow)
                    assert outcome.status == "failed"
                    text, error = str(outcome.error), outcome.error
                assert error is not None
                assert error.type == "ConnectionRefusedError"
                assert "nobody there" in text
                assert words in text
            check_given_back(rt, "vendor", "other")


def putter(error: Any, fallback: Any, *, keyed: bool) -> Any:
    """Return a tool that writes and fails, and has something that stands in."""
    vendor = Vendor([error])
    if keyed:

        @uc.tool(writes="a", service="vendor", fallback=fallback)
        async def put(key: uc.IdempotencyKey) -> Any:
            return await vendor()

    else:

        @uc.tool(writes="a", service="vendor", fallback=fallback)
        async def put() -> Any:
            return await vendor()

    return put


@pytest.mark.parametrize("keyed", [True, False])
def test_nothing_stands_in_for_a_write_that_may_have_happened(*, keyed: bool) -> None:
    """A write in doubt is in doubt; only one that surely failed is stood in for."""
    stood = Vendor()

    async def instead() -> Any:
        return await stood()

    @virtual
    async def main() -> None:
        for error in (TimeoutError("t"), uc.UnknownOutcomeError("?"), ConnectionResetError("r")):
            async with uc.Runtime() as rt:
                put = putter(error, instead, keyed=keyed)
                outcome = await rt.run(once([put], uc.Call("put")))
                assert outcome.status == "in_doubt"
                assert stood.calls == []
                await settled(rt, "vendor")
        async with uc.Runtime() as rt:
            put = putter(DOWN, instead, keyed=keyed)
            assert (await rt.run(once([put], uc.Call("put")))).status == "degraded"
            assert len(stood.calls) == 1

    main()


# ---------------------------------------------------------------------- a fallback that writes


def writing(world: World) -> Any:
    """Return a handler whose queue is down, so that it writes to a file, and then once more."""

    @uc.tool(reads="file")
    async def look() -> int:
        return world.read("file")

    @uc.tool(writes="file", read_first=False)
    async def note(key: uc.IdempotencyKey) -> int:
        return world.add("file", 1, key)

    @uc.tool(writes="file")
    async def more(key: uc.IdempotencyKey) -> int:
        return world.add("file", 10, key)

    @uc.tool(peeks="queue", service="vendor", fallback=note)
    async def send() -> int:
        world.log.append(("send", "queue", 0))
        raise ConnectionRefusedError("nobody there")

    @uc.handler(tools=[look, send, more])
    async def tell(turn: uc.Turn) -> list[Any]:
        results = []
        for name in ("look", "send", "more", "send"):
            results += await turn.calls([uc.Call(name)])
        return [[str(r.status), r.value, r.stood_in] for r in results]

    return tell


@virtual
async def test_a_fallback_that_writes_survives_a_crash_at_every_commit() -> None:
    """Its effect happens once, wherever the process dies, and the turn ends the same."""
    ends = await sweep(writing, World)
    assert len(ends) > 8
    for end in ends:
        assert end.outcome.status == "degraded", end
        assert end.outcome.value == [
            ["ok", 0, ""],
            ["ok", 1, "note"],
            ["ok", 11, ""],
            ["ok", 12, "note"],
        ], end.commit
        assert end.world.records == {"file": 12}
        assert end.outcome.missing == ("send",)


def twins(world: World) -> Any:
    """Return a handler that proposes the same call three times at once, each with a fallback."""

    @uc.tool(appends="file")
    async def note(key: uc.IdempotencyKey) -> int:
        await asyncio.sleep(0.1)
        return world.add("file", 1, key)

    @uc.tool(peeks="queue", service="vendor", fallback=note)
    async def send() -> int:
        await asyncio.sleep(0.1 * len(world.log))
        raise ConnectionRefusedError("nobody there")

    return once([send], *[uc.Call("send")] * 3)


@virtual
async def test_equal_calls_fall_back_each_for_itself() -> None:
    """Three times the same in one batch: three effects, wherever the process dies."""
    for end in await sweep(twins, World):
        assert end.outcome.status == "degraded"
        assert end.outcome.value is not None
        said, _ = end.outcome.value
        assert sorted(value for _, value, _ in said) == [1, 2, 3], end.commit
        assert end.world.records == {"file": 3}


def approved(world: World) -> Any:
    """Return a handler whose call a person approves, which fails, and is stood in for."""

    @uc.tool(appends="file")
    async def note(i: int, key: uc.IdempotencyKey) -> int:
        return world.add("file", i, key)

    @uc.tool(peeks="queue", service="vendor", approval=True, fallback=note)
    async def get(i: int) -> int:
        world.log.append(("get", "queue", i))
        raise ConnectionRefusedError("nobody there")

    return once([get])


@virtual
async def test_an_approved_call_falls_back_once_wherever_the_process_dies() -> None:
    """The yes was for the call; what stands in for it needs none, and happens once."""

    async def start(rt: uc.Runtime, target: Any) -> uc.Outcome:
        return await then(rt, await rt.run(target))

    async def then(rt: uc.Runtime, outcome: uc.Outcome) -> uc.Outcome:
        if outcome.status == "waiting":
            return await rt.approve(outcome.turn_id, by="ada")
        return outcome

    ends = await sweep(approved, World, start, then=then)
    assert len(ends) > 8
    for end in ends:
        assert end.outcome.status == "degraded", end
        assert end.outcome.value is not None
        assert end.outcome.value[0] == [["ok", 1, "note"]]
        assert end.world.records == {"file": 1}


def unsure(world: World) -> Any:
    """Return a handler whose write surely fails, and is stood in for."""

    @uc.tool(appends="file")
    async def note(key: uc.IdempotencyKey) -> int:
        return world.add("file", 1, key)

    @uc.tool(appends="queue", service="vendor", fallback=note)
    async def get(i: int, key: uc.IdempotencyKey) -> int:
        world.log.append(("get", "queue", i))
        raise ConnectionRefusedError("nobody there")

    return once([get])


@virtual
async def test_a_batch_in_which_something_stood_in_can_be_resumed() -> None:
    """Also where other calls of it wait for a person, or never got so far."""
    journal = MemoryJournal()

    @uc.tool(writes="c", approval=True)
    async def put() -> str:
        return "put"

    @uc.tool(writes="c")
    async def then() -> str:
        return "then"

    target = once([getter(DOWN, "stale"), put, then], CALL, uc.Call("put"), uc.Call("then"))
    async with uc.Runtime(MemoryStore(journal), targets=[target]) as rt:
        outcome = await rt.run(target)
        assert outcome.status == "waiting"
    async with uc.Runtime(MemoryStore(journal), targets=[target]) as rt:
        outcome = await rt.approve(outcome.turn_id, by="ada")
        assert outcome.value is not None, outcome.error
        assert [said[1] for said in outcome.value[0]] == ["stale", "put", "then"]
        assert (outcome.status, outcome.missing) == ("degraded", ("get",))


@virtual
async def test_nothing_stands_in_for_a_write_that_a_crash_left_open() -> None:
    """It may have happened before the crash, so that a later no says nothing of that."""
    ends = await sweep(unsure, World)
    said = {str(end.outcome.status) for end in ends}
    assert said == {"degraded", "in_doubt"}
    for end in ends:
        if end.outcome.status == "degraded":
            assert end.world.records == {"file": 1}
        else:
            assert end.world.records == {}
            assert [w.step_id for w in end.outcome.in_doubt] == ["get.1"]


@virtual
async def test_a_fallback_that_writes_is_in_doubt_like_any_write() -> None:
    """Without a key and of unknown outcome: a person decides, and the turn goes on with that."""
    notes = Vendor([TimeoutError("t")])

    @uc.tool(writes="file")
    async def note() -> Any:
        return await notes()

    async def start(rt: uc.Runtime, target: Any) -> uc.Outcome:
        outcome = await rt.run(target)
        assert outcome.status == "in_doubt"
        assert [w.name for w in outcome.in_doubt] == ["get.fallback"]
        assert (await rt.resume(outcome.turn_id)).status == "in_doubt"
        return await rt.settle(outcome.turn_id, applied=True, by="ada", value="noted")

    async with uc.Runtime() as rt:
        outcome = await start(rt, once([getter(DOWN, note)]))
        assert (outcome.status, outcome.missing) == ("degraded", ("get",))
        assert outcome.value is not None
        assert outcome.value[0] == [["ok", "noted", "note"]]
        assert len(notes.calls) == 1


@virtual
async def test_a_fallback_writes_only_where_its_branch_may() -> None:
    """Of two branches one writes to a resource, also where the other has a fallback that would."""
    world = World()

    @uc.tool(writes="file")
    async def note() -> int:
        return world.add("file", 1)

    @uc.tool(writes="queue", service="vendor", fallback=note)
    async def send() -> int:
        raise ConnectionRefusedError("nobody there")

    @uc.handler(tools=[note, send])
    async def both(turn: uc.Turn) -> list[str]:
        async with turn.branch("a") as a, turn.branch("b") as b:
            results = await a.calls([uc.Call("note")])
            results += await b.calls([uc.Call("send")])
            results += await b.calls([uc.Call("note")])
            return [str(r.status) for r in results]

    async with uc.Runtime() as rt:
        outcome = await rt.run(both)
        assert outcome.value is not None
        assert outcome.value[0] == "ok"
        assert outcome.value[1] != "ok"
        assert outcome.value[2] == "refused"
        assert world.records == {"file": 1}


# ---------------------------------------------------------------------- handlers


@virtual
async def test_what_came_after_all_is_not_missing() -> None:
    """A call that failed and went well later, with the same arguments, is there."""
    vendor = Vendor([DOWN, "fine"])

    @uc.tool(reads="a/{i}", service="vendor")
    async def get(i: int) -> Any:
        return await vendor()

    seen = []

    @uc.handler(tools=[get])
    async def twice(turn: uc.Turn) -> str:
        await turn.calls([CALL])
        seen.append(dict(turn.missing))
        await turn.calls([CALL])
        seen.append(dict(turn.missing))
        return "fine"

    async with uc.Runtime() as rt:
        outcome = await rt.run(twice)
        assert (outcome.status, outcome.missing) == ("done", ())
        assert [list(said) for said in seen] == [["get"], []]


@virtual
async def test_one_of_two_that_came_after_all_leaves_the_other_missing() -> None:
    """With other arguments it is another call."""
    vendor = Vendor([DOWN, DOWN, "fine"])

    @uc.tool(reads="a/{i}", service="vendor")
    async def get(i: int) -> Any:
        return await vendor()

    @uc.handler(tools=[get])
    async def some(turn: uc.Turn) -> str:
        for i in (1, 2, 1):
            await turn.calls([uc.Call("get", {"i": i})])
        return str(turn.missing)

    async with uc.Runtime() as rt:
        outcome = await rt.run(some)
        assert (outcome.status, outcome.missing) == ("degraded", ("get",))


def lacking_handler(vendor: Vendor) -> Any:
    """Return a handler that lacks one thing, and has another after all."""
    get = getter(DOWN, None)

    @uc.tool(reads="b", service="other")
    async def late() -> Any:
        return await vendor()

    @uc.handler(tools=[get, late])
    async def assist(turn: uc.Turn) -> list[list[str]]:
        seen = []
        for call in (CALL, uc.Call("late"), uc.Call("late")):
            await turn.calls([call])
            seen.append(sorted(turn.missing))
        return seen

    return assist


@virtual
async def test_what_a_handler_lacks_is_the_same_after_a_crash_at_every_commit() -> None:
    """`turn.missing` comes out the same in each life, and so does the outcome."""
    ends = await sweep(lacking_handler, lambda: Vendor([DOWN, "fine"]))
    for end in ends[:1]:
        assert end.outcome.value == [["get"], ["get", "late"], ["get"]]
    for end in ends:
        assert (end.outcome.status, end.outcome.missing) == ("degraded", ("get",)), end.commit
        assert end.outcome.value in ([["get"], ["get", "late"], ["get"]], [["get"]] * 3)


@virtual
async def test_a_refused_fallback_never_began() -> None:
    """A fallback whose own service is given up is not called, and leaves no intent."""
    called = Vendor()

    @uc.tool(writes="b", service="other")
    async def second() -> Any:
        return await called()

    store = MemoryStore()
    async with uc.Runtime(store) as rt:
        rt.force_open("other", by="ada")
        outcome = await rt.run(once([getter(DOWN, second)]))
        assert outcome.value is not None
        assert outcome.value[0] == [["failed", None, ""]]
        assert "other" in outcome.value[1]["get"]
        assert called.calls == []
        begun = [e for e in events(store, StepStarted) if isinstance(e, StepStarted)]
        assert not [e for e in begun if e.changes]

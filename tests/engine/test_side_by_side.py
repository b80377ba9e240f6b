"""What runs beside what in a real turn: branches, aliases, undeclared tools, services."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

import undercroft as uc
from undercroft.testing import ScriptedModel, run_virtual


@dataclass
class Watch:
    """Which calls were under way together."""

    now: list[str] = field(default_factory=list)
    together: set[frozenset[str]] = field(default_factory=set)

    async def work(self, name: str) -> str:
        """Take a second."""
        self.now.append(name)
        self.together.add(frozenset(self.now))
        await asyncio.sleep(1)
        self.now.remove(name)
        return name

    @property
    def most(self) -> int:
        """How many were under way at most."""
        return max(len(group) for group in self.together)


def ran(target: Any, **settings: Any) -> Any:
    """Run a handler on virtual time; return what it returned."""

    async def main() -> Any:
        async with uc.Runtime(**settings) as rt:
            outcome = await rt.run(target)
            assert outcome.status == "done", outcome
            return outcome.value

    return run_virtual(main())


@uc.tool(writes="r/{key}")
async def put(key: str, value: int) -> int:
    """Write a value."""
    return value


def write(key: str, value: int = 1) -> list[uc.Call]:
    """Return a batch that writes once."""
    return [uc.Call("put", {"key": key, "value": value})]


def test_of_two_branches_one_writes() -> None:
    """The first that writes owns the resource; the other may write to it once it is handed over."""

    @uc.handler(tools=[put])
    async def work(turn: uc.Turn) -> list[str]:
        a, b = turn.branch("a"), turn.branch("b")
        (one,), (two,) = await asyncio.gather(a.calls(write("x")), b.calls(write("x")))
        (other,) = await b.calls(write("y"))
        a.hand_over("r/x", to=b)
        (taken,), (given,) = await b.calls(write("x")), await a.calls(write("x"))
        assert two.refusal is not None
        assert two.refusal.rule == "conflicts.owned_by_branch"
        return [str(r.status) for r in (one, two, other, taken, given)]

    assert ran(work) == ["ok", "refused", "ok", "ok", "refused"]


def test_a_sub_agent_does_not_write_what_its_parent_owns() -> None:
    """Neither while it is open nor by the way; what it owned falls to its parent in the end."""

    @uc.handler(tools=[put])
    async def work(turn: uc.Turn) -> list[str]:
        await turn.calls(write("x"))
        async with turn.branch("agent") as agent:
            (parents,) = await agent.calls(write("x"))
            (own,) = await agent.calls(write("y"))
            (held,) = await turn.calls(write("y"))
        (back,) = await turn.calls(write("y"))
        with pytest.raises(uc.DeclarationError, match="closed"):
            await agent.calls(write("z"))
        return [str(r.status) for r in (parents, own, held, back)]

    assert ran(work) == ["refused", "ok", "refused", "ok"]


def test_branches_are_told_apart_in_the_trace_and_have_their_own_conversations() -> None:
    """Each step says which branch asked for it; a branch's model sees that branch's words only."""
    model = ScriptedModel([write("x"), "done"])

    @uc.handler(tools=[put])
    async def work(turn: uc.Turn) -> str:
        turn.context.user("main")
        async with turn.branch("agent") as agent:
            agent.context.user("find out")
            await agent.calls((await agent.model()).calls)
            return (await agent.model()).text

    async def main() -> tuple[Any, list[tuple[str, str]]]:
        async with uc.Runtime(model=model) as rt:
            outcome = await rt.run(work)
            return outcome.value, [(s.name, s.branch) for s in rt.trace(outcome.turn_id).steps]

    value, steps = run_virtual(main())
    assert (value, steps) == ("done", [("model", "agent"), ("put", "agent"), ("model", "agent")])
    assert all("main" not in str(request) for request in model.requests)


@pytest.mark.parametrize("aliases", [[], ["customers/{id}"]], ids=["two-things", "one-thing"])
def test_two_spellings_of_one_resource_conflict_alike(aliases: list[str]) -> None:
    """Declared as one they keep their order; else nothing says that they are the same."""
    watch = Watch()

    @uc.tool(writes="crm/{account}")
    async def one(account: str) -> str:
        return await watch.work("one")

    @uc.tool(writes="customers/{number}")
    async def two(number: str) -> str:
        return await watch.work("two")

    @uc.handler(tools=[one, two], resources=[uc.Resource("crm/{id}", aliases=aliases)])
    async def work(turn: uc.Turn) -> None:
        await turn.calls([uc.Call("one", {"account": "7"}), uc.Call("two", {"number": "7"})])

    ran(work)
    assert watch.most == (1 if aliases else 2)


def test_a_tool_that_declares_nothing_has_its_service_to_itself() -> None:
    """It runs beside what talks to another service, and beside nothing of its own."""
    watch = Watch()

    @uc.tool(service="crm")
    async def bare() -> str:
        return await watch.work("bare")

    @uc.tool(reads="crm/{key}", service="crm")
    async def same(key: str) -> str:
        return await watch.work("same")

    @uc.tool(reads="mail/{key}", service="mail")
    async def other(key: str) -> str:
        return await watch.work("other")

    @uc.handler(tools=[bare, same, other])
    async def work(turn: uc.Turn) -> None:
        key = {"key": "a"}
        await turn.calls([uc.Call("bare"), uc.Call("same", key), uc.Call("other", key)])

    ran(work)
    assert frozenset({"bare", "other"}) in watch.together
    assert not any({"bare", "same"} <= group for group in watch.together)


def test_a_service_is_asked_by_so_many_at_once() -> None:
    """Of all turns of a runtime together no more than its limit are under way at a service."""
    watch = Watch()

    @uc.tool(reads="crm/{key}", service="crm")
    async def look(key: str) -> str:
        return await watch.work(key)

    @uc.handler(tools=[look])
    async def work(turn: uc.Turn, name: str) -> list[str]:
        calls = [uc.Call("look", {"key": f"{name}{at}"}) for at in range(4)]
        return [str(result.value) for result in await turn.calls(calls)]

    async def main() -> float:
        async with uc.Runtime(limits=uc.Limits(services={"crm": 3})) as rt:
            ends = await asyncio.gather(*(rt.run(work, name=name) for name in "ab"))
        assert [end.value for end in ends] == [[f"{n}{k}" for k in range(4)] for n in "ab"]
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(3.0)
    assert watch.most == 3


@pytest.mark.parametrize("key", ["", "..", "a\0b", "x" * 10_000])
def test_a_key_that_names_nothing_is_a_refusal_and_stops_nobody(key: str) -> None:
    """The call is refused with a reason, and its siblings run."""

    @uc.handler(tools=[put])
    async def work(turn: uc.Turn) -> list[str]:
        results = await turn.calls([*write(key), *write("good")])
        assert results[0].refusal is not None
        assert results[0].refusal.rule == "sequencing.unusable_key"
        return [str(result.status) for result in results]

    assert ran(work) == ["refused", "ok"]


def test_ten_thousand_keys_are_a_refusal() -> None:
    """A list claims a key for each item; more than a step may claim are refused at once."""

    @uc.tool(writes="r/{keys}")
    async def many(keys: list[str]) -> int:
        return len(keys)

    @uc.handler(tools=[many])
    async def work(turn: uc.Turn) -> list[str]:
        calls = [uc.Call("many", {"keys": [str(k) for k in range(count)]}) for count in (10_000, 3)]
        results = await turn.calls(calls)
        assert results[0].refusal is not None
        assert "10,000" in results[0].refusal.message
        return [str(result.status) for result in results]

    assert ran(work) == ["refused", "ok"]

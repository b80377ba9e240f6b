"""Handlers: a model proposes, the engine decides what runs, when, and what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

import undercroft as uc
from tests.engine.conftest import MakeRuntime
from undercroft.errors import DeclarationError
from undercroft.testing import ScriptedModel, run_virtual


@dataclass
class Account:
    """A record."""

    id: str
    tier: str


class Desk:
    """Tools over a small world, and a log of what ran when."""

    def __init__(self) -> None:
        self.tiers: dict[str, str] = {}
        self.log: list[str] = []
        self.running: set[str] = set()
        self.overlaps: list[frozenset[str]] = []

        @uc.tool(reads="crm/{account_id}", service="crm")
        async def get_account(account_id: str) -> Account:
            """Look an account up."""
            await self._work(f"get {account_id}")
            return Account(account_id, self.tiers.get(account_id, "basic"))

        @uc.tool(writes="crm/{account_id}", service="crm")
        async def set_tier(account_id: str, tier: str) -> str:
            """Change the tier of an account."""
            await self._work(f"set {account_id} {tier}")
            self.tiers[account_id] = tier
            return tier

        @uc.tool(appends="mail/{to}", service="smtp", needs=[get_account])
        async def send_email(to: str, account_id: str) -> str:
            """Write to a customer."""
            await self._work(f"mail {to}")
            return "sent"

        @uc.tool(peeks="crm")
        async def search(text: str) -> list[str]:
            """Find accounts."""
            await self._work(f"search {text}")
            if text == "boom":
                raise ValueError("no index")
            return ["a", "b"]

        self.tools: list[Any] = [get_account, set_tier, send_email, search]

    async def _work(self, what: str) -> None:
        self.log.append(what)
        self.running.add(what)
        self.overlaps.append(frozenset(self.running))
        await asyncio.sleep(0.01)
        self.running.discard(what)

    def handler(self) -> Any:
        """Return the loop of the README."""

        @uc.handler(tools=self.tools)
        async def assist(turn: uc.Turn, message: str) -> str:
            turn.context.user(message)
            while True:
                answer = await turn.model()
                if not answer.calls:
                    return answer.text
                await turn.calls(answer.calls)

        return assist

    def batch(self, *calls: uc.Call) -> Any:
        """Return a handler of one batch, which returns what came of each call."""

        @uc.handler(tools=self.tools)
        async def once(turn: uc.Turn) -> list[str]:
            self.results = await turn.calls(list(calls))
            return [result.status for result in self.results]

        return once


def get(account: str) -> uc.Call:
    """Propose a read."""
    return uc.Call("get_account", {"account_id": account})


def put(account: str, tier: str) -> uc.Call:
    """Propose a write."""
    return uc.Call("set_tier", {"account_id": account, "tier": tier})


async def test_a_model_reads_results_and_answers(runtime: MakeRuntime) -> None:
    """Each prompt extends the one before; results stand behind the calls that asked for them."""
    desk = Desk()
    model = ScriptedModel([[get("a")], [put("a", "gold"), get("a")], "Upgraded."])
    async with runtime(model) as rt:
        outcome = await rt.run(desk.handler(), message="upgrade me", session="s-1")
        trace = rt.trace(outcome.turn_id)
    assert (outcome.status, outcome.value) == ("done", "Upgraded.")
    assert desk.log == ["get a", "set a gold", "get a"]
    prompts = [request.messages for request in model.requests]
    assert all(after[: len(before)] == before for before, after in pairwise(prompts))
    assert [m.role for m in prompts[-1]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
        "tool",
    ]
    assert prompts[-1][2].content == '{"id":"a","tier":"basic"}'
    assert prompts[-1][5].content == '{"id":"a","tier":"gold"}'
    assert [tool.name for tool in model.requests[0].tools] == [t.name for t in desk.tools]
    assert [s.kind for s in trace.steps] == ["model", "tool", "model", "tool", "tool", "model"]
    assert trace.delivered == "Upgraded."


async def test_results_come_in_the_order_of_proposal(runtime: MakeRuntime) -> None:
    """One result a call, in order, whatever ran first and whatever was refused."""
    desk = Desk()
    calls = (get("a"), put("a", "gold"), uc.Call("nope"), put("b", "gold"), get("b"))
    async with runtime() as rt:
        outcome = await rt.run(desk.batch(*calls))
        steps = rt.trace(outcome.turn_id).steps
    assert outcome.value == ["ok", "ok", "refused", "refused", "ok"]
    assert [r.name for r in desk.results] == [c.name for c in calls]
    assert desk.results[0].value == Account("a", "basic")
    assert desk.results[1].value == "gold"
    assert [r.step_id for r in desk.results] == [s.step_id for s in steps]


def test_calls_of_a_batch_overlap_unless_they_conflict() -> None:
    """What has nothing to do with each other overlaps; calls on one record keep their order."""
    desk = Desk()
    calls = (get("a"), get("b"), put("a", "1"), put("b", "2"), get("a"), put("a", "3"))

    async def main() -> uc.Outcome:
        async with uc.Runtime() as rt:
            return await rt.run(desk.batch(*calls))

    assert run_virtual(main()).value == ["ok"] * 6
    assert frozenset({"get a", "get b"}) in desk.overlaps
    assert frozenset({"set a 1", "set b 2"}) in desk.overlaps
    on_a = [w for w in desk.log if w.split()[1] == "a"]
    assert on_a == ["get a", "set a 1", "get a", "set a 3"]
    assert not any(len([w for w in o if w.split()[1] == "a"]) > 1 for o in desk.overlaps)


async def test_a_refusal_says_which_rule_what_and_how_to_mend(runtime: MakeRuntime) -> None:
    """Whatever may not run comes back as rule, facts and next move, and the others run."""
    desk = Desk()
    calls = (
        uc.Call("get_acount", {"account_id": "a"}),
        uc.Call("get_account", {}),
        uc.Call("get_account", {"account_id": "a", "colour": "red"}),
        uc.Call("get_account", {"account_id": 7}),
        uc.Call("get_account", "{not json"),
        uc.Call("get_account", '["a"]'),
        uc.Call("get_account", {"account_id": ""}),
        uc.Call("get_account", {"account_id": "x" * 5_000_000}),
        put("b", "gold"),
        uc.Call("send_email", {"to": "x@y", "account_id": "z"}),
        get("a"),
    )
    async with runtime() as rt:
        outcome = await rt.run(desk.batch(*calls))
    refusals = [r.refusal for r in desk.results[:-1]]
    assert outcome.value == ["refused"] * 10 + ["ok"]
    assert [r.rule for r in refusals if r] == [
        "sequencing.unknown_tool",
        *["sequencing.arguments"] * 3,
        *["sequencing.arguments_not_json"] * 2,
        "sequencing.unusable_key",
        "sequencing.arguments_too_large",
        "sequencing.read_first",
        "sequencing.needs",
    ]
    assert all(r and r.message and r.next for r in refusals)
    assert "get_account" in str(refusals[0])
    assert desk.log == ["get a"]


async def test_a_refused_call_is_recorded_with_its_causes(runtime: MakeRuntime) -> None:
    """What never ran stands in the record beside what did: after which answer it was proposed."""
    desk = Desk()
    model = ScriptedModel([[get("a")], [put("b", "gold"), uc.Call("get_acount", {})], "sorry"])

    @uc.handler(tools=desk.tools)
    async def assist(turn: uc.Turn) -> str:
        while True:
            answer = await turn.model()
            if not answer.calls:
                return answer.text
            await turn.calls(answer.calls)

    async with runtime(model=model) as rt:
        outcome = await rt.run(assist)
        steps = {step.name: step for step in rt.trace(outcome.turn_id).steps}
    assert steps["set_tier"].status == steps["get_acount"].status == "refused"
    assert steps["set_tier"].causes == steps["get_acount"].causes == ("model.3",)


async def test_a_predecessor_in_the_same_batch_counts(runtime: MakeRuntime) -> None:
    """A need or a read that is proposed before, in the same batch, meets the rule."""
    desk = Desk()
    calls = (
        get("a"),
        put("a", "gold"),
        uc.Call("send_email", {"to": "x@y", "account_id": "a"}),
    )
    async with runtime() as rt:
        outcome = await rt.run(desk.batch(*calls))
    assert outcome.value == ["ok", "ok", "ok"]
    assert desk.log == ["get a", "set a gold", "mail x@y"]


async def test_a_failing_predecessor_does_not_count(runtime: MakeRuntime) -> None:
    """What a call needs must have succeeded, for the same arguments."""
    desk = Desk()
    calls = (get("other"), uc.Call("send_email", {"to": "x@y", "account_id": "a"}))
    async with runtime() as rt:
        outcome = await rt.run(desk.batch(*calls))
    assert outcome.value == ["ok", "refused"]
    refusal = desk.results[1].refusal
    assert refusal is not None
    assert refusal.facts == {"needs": "get_account", "arguments": {"account_id": "a"}}


async def test_a_tool_that_fails_is_a_result(runtime: MakeRuntime) -> None:
    """A tool's error never raises through the loop and never cancels its siblings."""
    desk = Desk()
    calls = (uc.Call("search", {"text": "boom"}), uc.Call("search", {"text": "x"}), get("a"))
    async with runtime() as rt:
        outcome = await rt.run(desk.batch(*calls))
    assert outcome.status == "done"
    assert outcome.value == ["failed", "ok", "ok"]
    assert desk.results[0].error is not None
    assert str(desk.results[0].error) == "ValueError: no index"


async def test_a_model_that_fails_fails_the_turn(runtime: MakeRuntime) -> None:
    """A model that does not answer is the turn's failure, unless the code handles it."""
    desk = Desk()
    async with runtime(ScriptedModel([ValueError("no such model")])) as rt:
        outcome = await rt.run(desk.handler(), message="hello")
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert "no such model" in outcome.error.message


async def test_a_handler_without_a_model_says_so(runtime: MakeRuntime) -> None:
    """Asking a model where there is none is a mistake to mend; the turn can be resumed."""
    desk = Desk()
    async with runtime() as rt:
        with pytest.raises(DeclarationError, match="there is none"):
            await rt.run(desk.handler(), message="hello")
        (head,) = rt.turns()
        assert head.status == "stopped"


async def test_an_approval_holds_nothing_that_it_has_nothing_to_do_with(
    runtime: MakeRuntime,
) -> None:
    """A call that needs a person parks the turn; its siblings ran all the same, once."""
    log: list[str] = []

    @uc.tool(reads="a/{x}")
    async def look(x: str) -> str:
        log.append(f"look {x}")
        return x

    @uc.tool(appends="b/{x}", approval=True)
    async def pay(x: str) -> str:
        log.append(f"pay {x}")
        return f"paid {x}"

    @uc.handler(tools=[look, pay])
    async def work(turn: uc.Turn) -> list[str]:
        names = [("look", "1"), ("pay", "2"), ("look", "3"), ("pay", "4")]
        results = await turn.calls([uc.Call(name, {"x": x}) for name, x in names])
        return [r.status if r.refusal is None else r.refusal.rule for r in results]

    async with runtime(targets=[work]) as rt:
        outcome = await rt.run(work)
        assert outcome.status == "waiting"
        assert [(w.name, w.arguments) for w in outcome.waiting] == [
            ("pay", {"x": "2"}),
            ("pay", {"x": "4"}),
        ]
        assert log == ["look 1", "look 3"]
        still = await rt.resume(outcome.turn_id)
        assert still == outcome
    async with runtime(targets=[work]) as rt:
        second = await rt.approve(outcome.turn_id, outcome.waiting[0].step_id, by="ada")
        assert second.status == "waiting"
        assert log == ["look 1", "look 3", "pay 2"]
        done = await rt.reject(outcome.turn_id, second.waiting[0].step_id, by="ada")
        assert done.value == ["ok", "ok", "ok", "sequencing.rejected"]
    assert log == ["look 1", "look 3", "pay 2"]


async def test_branches_of_a_handler_may_ask_at_once(runtime: MakeRuntime) -> None:
    """Code that gathers several batches gets each its own results."""
    desk = Desk()

    @uc.handler(tools=desk.tools)
    async def both(turn: uc.Turn) -> list[list[str]]:
        async def branch(name: str) -> list[str]:
            first = await turn.calls([get(name)])
            second = await turn.calls([put(name, "gold")])
            return [first[0].value.id, second[0].value]

        return list(await asyncio.gather(*(branch(n) for n in "abc")))

    async with runtime() as rt:
        outcome = await rt.run(both)
    assert outcome.value == [[n, "gold"] for n in "abc"]


async def test_injected_parameters_are_hidden_and_filled(runtime: MakeRuntime) -> None:
    """What the runtime injects is not in the schema and cannot be proposed."""
    seen: list[tuple[str, int, float, uc.TurnInfo]] = []

    @uc.tool(writes="x/{name}", timeout_s=60)
    async def write(
        name: str,
        *,
        key: uc.IdempotencyKey,
        fence: uc.Fence,
        deadline: uc.Deadline,
        info: uc.TurnInfo,
    ) -> str:
        seen.append((key, fence, deadline.remaining_s, info))
        return name

    assert list(write.schema["properties"]) == ["name"]

    @uc.handler(tools=[write])
    async def work(turn: uc.Turn) -> list[str]:
        results = await turn.calls(
            [
                uc.Call("write", {"name": "a"}),
                uc.Call("write", {"name": "a"}),
                uc.Call("write", {"name": "a", "key": "mine"}),
            ]
        )
        return [r.status for r in results]

    async with runtime() as rt:
        outcome = await rt.run(work, session="s")
    assert outcome.value == ["ok", "ok", "refused"]
    (key1, fence1, left1, info1), (key2, fence2, _, _) = seen
    assert key1 != key2
    assert 0 < fence1 < fence2
    assert 0 < left1 <= 60
    assert (info1.turn_id, info1.session, info1.attempt) == (outcome.turn_id, "s", 1)


async def test_retries_are_counted_and_only_of_what_may_be_tried_again() -> None:
    """A read that fails transiently is tried again; a permanent error and a lost write are not."""
    tries = {"flaky": 0, "wrong": 0, "lost": 0}

    @uc.tool(reads="a", retry=uc.Retry(attempts=3))
    async def flaky() -> str:
        tries["flaky"] += 1
        if tries["flaky"] < 3:
            raise ConnectionResetError("try again")
        return "at last"

    @uc.tool(reads="b", retry=uc.Retry(attempts=3))
    async def wrong() -> str:
        tries["wrong"] += 1
        raise ValueError("never")

    @uc.tool(writes="c", retry=uc.Retry(attempts=3))
    async def lost() -> str:
        tries["lost"] += 1
        raise ConnectionResetError("who knows")

    @uc.handler(tools=[flaky, wrong, lost])
    async def work(turn: uc.Turn) -> list[str]:
        results = await turn.calls([uc.Call("flaky"), uc.Call("wrong")])
        await turn.calls([uc.Call("lost")])
        return [r.status for r in results]

    async with uc.Runtime() as rt:
        outcome = await rt.run(work)
        steps = {s.name: s for s in rt.trace(outcome.turn_id).steps}
    assert outcome.status == "in_doubt"
    assert [w.name for w in outcome.in_doubt] == ["lost"]
    assert tries == {"flaky": 3, "wrong": 1, "lost": 1}
    assert [r.attempt for r in steps["flaky"].retries] == [1, 2]
    assert steps["flaky"].attempts == 3

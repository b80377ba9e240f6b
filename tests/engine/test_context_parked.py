"""Turns of one session that wait while later ones run, or are resumed after them."""

from __future__ import annotations

from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import (
    TIGHT,
    InOrder,
    Model,
    check_journal,
    look,
    order_tools,
    written,
)
from undercroft.layers.context.policy import ContextPolicy
from undercroft.storage.memory import MemoryJournal, MemoryStore

ROOM = ContextPolicy(limit_tokens=4000, reserved_tokens=100)
SCRIPTS: dict[str, Any] = {
    "pay": [[look("#A1001")], [uc.Call("pay", {"order": "#A1001"})], "Paid."],
    "pay_b": [[uc.Call("pay", {"order": "#B1"})], "Paid b."],
    "look": [[look("#A1002")], [look("#A1003")], "Both are open."],
}


def handler() -> Any:
    """Return the usual loop with a tool that a person has to approve."""

    @uc.tool(writes="money/{order}", approval=True, read_first=False)
    async def pay(order: str, key: uc.IdempotencyKey) -> str:
        """Pay an order."""
        return f"paid {order}"

    @uc.handler(tools=[*order_tools(), pay])
    async def talk(turn: uc.Turn, message: str) -> str:
        turn.context.system("You look after orders.")
        turn.context.user(message)
        while True:
            answer = await turn.model()
            if not answer.calls:
                return answer.text
            await turn.calls(answer.calls)

    return talk


class Session:
    """One session over several runtimes on one journal."""

    def __init__(self, policy: ContextPolicy = ROOM) -> None:
        self.journal, self.policy, self.target = MemoryJournal(), policy, handler()
        self.model = Model(SCRIPTS, policy)

    def runtime(self, **options: Any) -> uc.Runtime:
        """Return another process."""
        return uc.Runtime(
            MemoryStore(self.journal),
            model=self.model,
            context=self.policy,
            targets=[self.target],
            ids=InOrder(),
            **options,
        )

    async def say(self, rt: uc.Runtime, text: str) -> uc.Outcome:
        """Run a turn."""
        outcome = await rt.run(self.target, message=text, session="s-1")
        assert outcome.error is None, outcome.error
        return outcome

    def check(self, *outcomes: uc.Outcome) -> None:
        """Assert that every prompt was sound, and is written down once."""
        self.model.check()
        for outcome in outcomes:
            check_journal(MemoryStore(self.journal), outcome.turn_id)

    @property
    def last(self) -> str:
        """The last prompt."""
        return written(self.model.requests[-1])


@pytest.mark.parametrize("policy", [ROOM, TIGHT], ids=["room", "tight"])
async def test_a_turn_that_waits_is_resumed_after_later_ones(policy: ContextPolicy) -> None:
    """It goes on with its own conversation; later turns are no part of it, but of the next."""
    session = Session(policy)
    async with session.runtime() as rt:
        await session.say(rt, "hello")
        parked = await session.say(rt, "pay #A1001")
        assert parked.status == "waiting"
        other = await session.say(rt, "look at the others")
        paid = await rt.approve(parked.turn_id, by="ada")
        assert (paid.status, paid.value) == ("done", "Paid.")
        assert "look at the others" not in session.last
        await session.say(rt, "thanks")
        warm = session.last
        assert "#A1001" in warm
        session.check(parked, other, paid)
    async with session.runtime() as rt:
        await session.say(rt, "thanks")
    session.check()


@pytest.mark.parametrize("again", [False, True], ids=["one process", "two"])
@pytest.mark.parametrize("policy", [ROOM, TIGHT], ids=["room", "tight"])
async def test_two_turns_of_a_session_wait_and_the_first_is_decided_first(
    policy: ContextPolicy, *, again: bool
) -> None:
    """The second goes on as well: what the first said since is none of its business."""
    session = Session(policy)
    async with session.runtime() as rt:
        first = await session.say(rt, "pay #A1001")
        second = await session.say(rt, "pay_b #B1")
        assert (first.status, second.status) == ("waiting", "waiting")
        if not again:
            assert (await rt.approve(first.turn_id, by="ada")).value == "Paid."
            assert (await rt.approve(second.turn_id, by="ada")).value == "Paid b."
    if again:
        async with session.runtime() as rt:
            assert (await rt.approve(first.turn_id, by="ada")).value == "Paid."
        async with session.runtime() as rt:
            assert (await rt.approve(second.turn_id, by="ada")).value == "Paid b."
    session.check(first, second)


async def test_a_later_turn_reads_the_same_wherever_the_first_was_resumed() -> None:
    """A process that kept the window learns that another one resumed an earlier turn."""
    prompts = []
    for resumed_here in (True, False):
        session = Session()
        async with session.runtime() as here:
            parked = await session.say(here, "pay #A1001")
            await session.say(here, "hello")
            if resumed_here:
                await here.approve(parked.turn_id, by="ada")
            else:
                async with session.runtime() as there:
                    await there.approve(parked.turn_id, by="ada")
            await session.say(here, "thanks")
            prompts.append(session.last)
        async with session.runtime() as rt:
            await session.say(rt, "thanks")
    assert prompts[0] == prompts[1]
    assert "Paid." in prompts[0]


async def test_compaction_of_a_later_turn_hits_its_own_items_once_the_first_is_done() -> None:
    """Items keep their ids when an earlier turn goes on."""
    session = Session(TIGHT)
    async with session.runtime() as rt:
        first = await session.say(rt, "pay #A1001")
        later = await session.say(rt, "look at the others")
        last = await session.say(rt, "look again at the others")
        paid = await rt.approve(first.turn_id, by="ada")
        assert paid.value == "Paid."
        for text in ("look once more", "hello", "thanks"):
            await session.say(rt, text)
        session.check(first, later, last)
    async with session.runtime() as rt:
        await session.say(rt, "thanks again")
    session.check()

"""Turns of one session that wait while later ones run, or are resumed after them."""

from __future__ import annotations

from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import (
    TIGHT,
    InOrder,
    Model,
    Summariser,
    check_journal,
    check_prompt,
    look,
    order_tools,
    talker,
    written,
)
from undercroft.layers.context.policy import ContextPolicy
from undercroft.storage.memory import MemoryJournal, MemoryStore

ROOM = ContextPolicy(limit_tokens=4000, reserved_tokens=100)
PLAIN = ContextPolicy(limit_tokens=4000, reserved_tokens=100, recall=False)
SCRIPTS: dict[str, Any] = {
    "pay": [[look("#A1001")], [uc.Call("pay", {"order": "#A1001"})], "Paid."],
    "fetch": [
        [uc.Call("recall", '{"handle": "r0.1"}'), uc.Call("look", '{"order": "#A1"}')],
        [uc.Call("pay", '{"order": "#A1001"}')],
        "Paid.",
    ],
    "pay_b": [[uc.Call("pay", {"order": "#B1"})], "Paid b."],
    "look": [[look("#A1002")], [look("#A1003")], "Both are open."],
}


def handler() -> Any:
    """Return the usual loop with a tool that a person has to approve."""

    @uc.tool(writes="money/{order}", approval=True, read_first=False)
    async def pay(order: str, key: uc.IdempotencyKey) -> str:
        """Pay an order."""
        return f"paid {order}; receipt R-777-{order}"

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


@pytest.mark.parametrize("summaries", [False, True], ids=["none", "ideal"])
async def test_what_an_earlier_turn_learnt_late_is_not_lost(*, summaries: bool) -> None:
    """Though a later turn had compacted it before it was there: it is shown, or can be recalled."""
    session = Session(TIGHT)
    async with session.runtime(summariser=Summariser() if summaries else None) as rt:
        first = await session.say(rt, "pay #A1001")
        await session.say(rt, "look at the others")
        await session.say(rt, "look again at the others")
        assert (await rt.approve(first.turn_id, by="ada")).value == "Paid."
        await session.say(rt, "thanks")
    session.check(first)
    shown = session.last
    handles = [part.partition('"')[0] for part in shown.split('recall(handle=\\"')[1:]]
    assert "R-777" in shown or "r0.4" in handles, shown


@pytest.mark.parametrize("text", ["pay #A1001", "fetch it, then pay"])
@pytest.mark.parametrize(
    ("before", "after"),
    [(None, ROOM), (ROOM, None), (ROOM, TIGHT), (TIGHT, ROOM), (ROOM, PLAIN)],
    ids=["comes", "goes", "shrinks", "grows", "without recall"],
)
async def test_a_turn_that_waits_outlives_a_change_of_policy(
    before: ContextPolicy | None, after: ContextPolicy | None, text: str
) -> None:
    """Also where there was none, or is none any more: what was asked is not asked again."""
    session = Session()
    target, model = session.target, session.model
    model.policy = None
    options: dict[str, Any] = {"model": model, "targets": [target], "ids": InOrder()}
    async with uc.Runtime(MemoryStore(session.journal), context=before, **options) as rt:
        await session.say(rt, "hello")
        await session.say(rt, "look at the others")
        parked = await session.say(rt, text)
    asked = len(model.requests)
    async with uc.Runtime(MemoryStore(session.journal), context=after, **options) as rt:
        outcome = await rt.approve(parked.turn_id, by="ada")
        assert (outcome.status, outcome.value) == ("done", "Paid."), outcome.error
        assert len(model.requests) == asked + 1
        later = await session.say(rt, "thanks")
        if after is not None:
            for request in model.requests[asked:]:
                check_prompt(request, after)
            check_journal(MemoryStore(session.journal), later.turn_id)


@pytest.mark.parametrize("many", [False, True], ids=["one process", "many"])
@pytest.mark.parametrize("policy", [ROOM, TIGHT], ids=["room", "tight"])
async def test_a_turn_in_doubt_is_settled_after_later_ones(
    policy: ContextPolicy, *, many: bool
) -> None:
    """What a person says of it is the result that its model reads, and later turns."""

    @uc.tool(writes="wires/{order}", read_first=False)
    async def wire(order: str) -> str:
        """Send money."""
        raise ConnectionResetError("lost")

    target = talker([*order_tools(), wire])
    scripts = {**SCRIPTS, "wire": [[look("#A7"), uc.Call("wire", {"order": "#A7"})], "Wired."]}
    model, journal = Model(scripts, policy), MemoryJournal()
    options: dict[str, Any] = {"model": model, "context": policy, "targets": [target]}
    options["ids"] = InOrder()
    rt = uc.Runtime(MemoryStore(journal), **options)
    await rt.__aenter__()
    doubtful: uc.Outcome | None = None
    for text in ("hello", "wire it", "look at the others", "SETTLE", "thanks"):
        if many:
            await rt.__aexit__(None, None, None)
            rt = uc.Runtime(MemoryStore(journal), **options)
            await rt.__aenter__()
        if text == "SETTLE":
            assert doubtful is not None
            outcome = await rt.settle(doubtful.turn_id, applied=True, by="ada", value="wired 7")
            assert outcome.value == "Wired.", outcome.error
            assert any(m.content == "wired 7" for m in model.requests[-1].messages)
        else:
            outcome = await rt.run(target, message=text, session="s-1")
            doubtful = outcome if outcome.status == "in_doubt" else doubtful
    await rt.__aexit__(None, None, None)
    assert doubtful is not None
    check_journal(MemoryStore(journal), doubtful.turn_id)
    model.check()
    if policy is ROOM:
        assert any(m.content == "Wired." for m in model.requests[-1].messages)

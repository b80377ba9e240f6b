"""What providers report of a prompt, what a prompt costs, and what a turn costs a process."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import (
    TIGHT,
    InOrder,
    Model,
    Summariser,
    Talk,
    apart,
    assert_same,
    check_crashes,
    counted,
    events,
    look,
    order_tools,
    prompts_of,
    talker,
    whole,
)
from undercroft.layers.context.policy import ContextPolicy
from undercroft.model.event import ContextAlarmed, ContextCompacted, ContextScored, PromptAssembled
from undercroft.storage.memory import MemoryStore
from undercroft.testing import ScriptedModel

SCRIPTS: dict[str, Any] = {"look": [[look("#A1001"), look("#A1002")], "They are open."]}
SAYS = [f"look at #A1001, time {i}" for i in range(8)]
ROOM = ContextPolicy(limit_tokens=20_000, reserved_tokens=1000)

Usage = Callable[[uc.ModelRequest], uc.Usage | None]


def times(factor: float, cached: int = 0) -> Usage:
    """Report so many times what we count."""
    return lambda request: uc.Usage(int(counted(request) * factor), 5, cached)


REPORTS: dict[str, Usage] = {
    "exact": times(1.0),
    "less": times(0.7),
    "more": times(1.6),
    "absent": lambda _: None,
    "zero": lambda _: uc.Usage(0, 0, 0),
    "far too few": times(0.01),
    "far too many": times(10_000.0),
    "pictures": times(5.0),
    "negative": lambda _: uc.Usage(-5, -7, -1),
    "more cached than there is": times(1.0, cached=1 << 40),
    "64 bits": lambda _: uc.Usage((1 << 64) - 1, 0, 0),
}


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("policy", [TIGHT, ROOM], ids=["tight", "room"])
async def test_whatever_is_reported_turns_go_on_and_are_the_same(
    name: str, policy: ContextPolicy
) -> None:
    """In one process as in many; every prompt fits as we count it, or as the provider does."""
    talk = Talk(
        lambda: talker(order_tools()),
        SAYS,
        SCRIPTS,
        policy,
        usage=REPORTS[name],
        checked=name != "less",
    )
    one = await whole(talk)
    assert {str(o.status) for o in one.outcomes} == {"done"}, one.outcomes[-1].error
    assert_same((await apart(talk)).sent, one.sent)


@pytest.mark.parametrize(
    "usage",
    [
        uc.Usage(1.5, 0, 0),  # type: ignore[arg-type]
        uc.Usage("12", 0, 0),  # type: ignore[arg-type]
        uc.Usage(None, None, None),  # type: ignore[arg-type]
        uc.Usage(1 << 70, 0, 0),
        uc.Usage(float("nan"), 0, 0),  # type: ignore[arg-type]
    ],
    ids=["fraction", "text", "none", "huge", "nan"],
)
async def test_what_is_no_number_of_tokens_fails_no_turn(usage: uc.Usage) -> None:
    """It is as though nothing had been reported."""
    talk = Talk(talker, ["hello", "bye"], policy=ROOM, usage=lambda _: usage)
    held = await whole(talk)
    assert [str(o.status) for o in held.outcomes] == ["done", "done"], held.outcomes[0].error


async def test_an_estimate_rests_on_what_was_reported() -> None:
    """Of the prompt before, in the same turn; what is added is counted."""
    talk = Talk(lambda: talker(order_tools()), SAYS[:1], SCRIPTS, ROOM, usage=times(1.2))
    held = await whole(talk)
    first, second = prompts_of(held.store, held.outcomes[0].turn_id)
    assert (first.anchored, second.anchored) == (False, True)
    added = sum(tokens for _, tokens, _ in second.new)
    reported = int(first.tokens * 1.2)
    assert reported + added <= second.tokens <= reported + added * 1.3


async def test_after_a_compaction_nothing_rests_on_what_was_reported_before() -> None:
    """The prompt is another one."""
    talk = Talk(lambda: talker(order_tools()), SAYS, SCRIPTS, TIGHT, usage=times(1.0))
    held = await whole(talk)
    found = 0
    for outcome in held.outcomes:
        compacted = {e.n for e in events(held.store, outcome.turn_id, ContextCompacted)}
        for prompt in prompts_of(held.store, outcome.turn_id):
            if prompt.n in compacted:
                found += 1
                assert not prompt.anchored
    assert found


async def test_what_is_expected_in_the_cache_is_what_was_sent_before() -> None:
    """Where a prompt extends the last one, all of that; after a compaction only the head."""
    talk = Talk(lambda: talker(order_tools()), SAYS, SCRIPTS, TIGHT)
    held = await whole(talk)
    prompts = [
        (prompt, {e.n for e in events(held.store, o.turn_id, ContextCompacted)})
        for o in held.outcomes
        for prompt in prompts_of(held.store, o.turn_id)
    ]
    assert prompts[0][0].cached == 0
    for (before, _), (after, compacted) in pairwise(prompts):
        whole_before = sum(before.sections)
        head = sum(after.sections[:3])
        assert after.cached == (head if after.n in compacted else whole_before)


async def test_between_compactions_each_prompt_begins_with_the_one_before() -> None:
    """Also from turn to turn, byte for byte; and the places worth caching up to are in it."""
    talk = Talk(lambda: talker(order_tools()), SAYS, SCRIPTS, TIGHT)
    held = await whole(talk)
    compacted = [
        prompt.n in {e.n for e in events(held.store, o.turn_id, ContextCompacted)}
        for o in held.outcomes
        for prompt in prompts_of(held.store, o.turn_id)
    ]
    assert len(compacted) == len(held.sent)
    assert any(compacted)
    for (before, after), made in zip(pairwise(held.sent), compacted[1:], strict=True):
        shown, grown = before.split("\n")[:-1], after.split("\n")[:-1]
        assert (grown[: len(shown)] == shown) is not made


async def test_breakpoints_are_places_of_the_prompt() -> None:
    """At most four, in order; the last is the end, one is the end of the prompt before."""
    model = Model(SCRIPTS, TIGHT)
    async with uc.Runtime(model=model, context=TIGHT, ids=InOrder()) as rt:
        for text in SAYS:
            await rt.run(talker(order_tools()), message=text, session="s-1")
    model.check()
    for request in model.requests:
        assert 1 <= len(request.breakpoints) <= 4
        assert request.breakpoints[-1] == len(request.messages) - 1
    for before, after in pairwise(model.requests):
        if after.messages[: len(before.messages)] == before.messages:
            assert len(before.messages) - 1 in after.breakpoints


async def test_a_script_is_read_by_the_turns_own_answers() -> None:
    """However much of them the prompt shows: in sessions, and after compactions."""
    script = [[look(f"#A{i}")] for i in range(6)]
    model = ScriptedModel([*script, "end"])
    async with uc.Runtime(model=model, context=TIGHT, ids=InOrder()) as rt:
        for text in SAYS[:4]:
            outcome = await rt.run(talker(order_tools()), message=text, session="s-1")
            assert outcome.value == "end", outcome.error
    assert [r.place for r in model.requests] == [*range(7)] * 4
    async with uc.Runtime(model=(model := ScriptedModel(["end"]))) as rt:
        await rt.run(talker(), message="hello")
    assert model.requests[0].place is None
    assert model.requests[0].breakpoints == ()


# ---------------------------------------------------------------------- what a turn costs


class Counting(MemoryStore):
    """A journal that knows how often it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def frames(self, turn_id: str) -> list[bytes] | None:
        """Return the frames of a turn."""
        self.reads.append("frames")
        return super().frames(turn_id)

    def heads(self, **given: Any) -> Any:
        """Return turns."""
        self.reads.append(f"heads {given.get('limit')}")
        return super().heads(**given)


@pytest.mark.parametrize("summaries", [None, Summariser()], ids=["none", "ideal"])
async def test_a_turn_costs_the_same_however_many_there_were(summaries: Any) -> None:
    """A process that ran the turn before reads no turn again."""
    store, model = Counting(), Model(SCRIPTS, TIGHT)
    options: dict[str, Any] = {"model": model, "context": TIGHT, "summariser": summaries}
    reads: list[list[str]] = []
    async with uc.Runtime(store, ids=InOrder(), **options) as rt:
        target = talker(order_tools())
        for i in range(25):
            await rt.run(target, message=f"look at #A1001, time {i}", session="s-1")
            reads.append(list(store.reads))
            store.reads.clear()
    model.check()
    assert all(one == reads[1] for one in reads[1:])
    assert "frames" not in reads[1]
    assert len(reads[1]) <= 2


async def test_a_turn_that_waits_does_not_make_later_ones_dear() -> None:
    """However long nobody decides."""

    @uc.tool(peeks="a", approval=True)
    async def ask() -> str:
        return "yes"

    store, model = Counting(), Model({"ask": [[uc.Call("ask")], "end"]}, TIGHT)
    reads: list[int] = []
    async with uc.Runtime(store, model=model, context=TIGHT, ids=InOrder()) as rt:
        target = talker([ask])
        await rt.run(target, message="hello", session="s-1")
        parked = await rt.run(target, message="ask for it", session="s-1")
        for i in range(12):
            store.reads.clear()
            await rt.run(target, message=f"time {i}", session="s-1")
            reads.append(len(store.reads))
        await rt.approve(parked.turn_id, by="ada")
        await rt.run(target, message="bye", session="s-1")
    assert any(m.content == "ask for it" for m in model.requests[-1].messages)
    assert max(reads[2:]) <= reads[2]


@pytest.mark.parametrize("how", ["fails", "overflows", "is refused"])
async def test_a_turn_after_one_that_went_wrong_is_cheap_again_soon(how: str) -> None:
    """At most one turn reads the session again, whatever came of the one before."""
    store = Counting()
    model = Model({"fails": [ValueError("x")]}, ROOM)
    async with uc.Runtime(store, model=model, context=ROOM, ids=InOrder()) as rt:
        target = talker(order_tools())
        for text in ("one", "two"):
            await rt.run(target, message=text, session="s-1")
        if how == "fails":
            await rt.run(target, message="fails", session="s-1")
        elif how == "overflows":
            await rt.run(target, message="word " * 50_000, session="s-1")
        else:
            rt.force_open("model", by="ada")
            await rt.run(target, message="refused", session="s-1")
            rt.reset_breaker("model", by="ada")
        await rt.run(target, message="three", session="s-1")
        store.reads.clear()
        outcome = await rt.run(target, message="four", session="s-1")
        assert outcome.status == "done"
    assert "frames" not in store.reads


async def test_two_sessions_at_once_know_nothing_of_each_other() -> None:
    """Nor does a turn without a session know anything."""
    model = Model(SCRIPTS, TIGHT)
    async with uc.Runtime(model=model, context=TIGHT, ids=InOrder()) as rt:
        target = talker(order_tools())
        for i in range(4):
            for session in ("s-1", "s-2", None):
                text = f"look for {session}, time {i}"
                outcome = await rt.run(target, message=text, session=session)
                assert outcome.status == "done"
    model.check()
    for request in model.requests:
        said = [m.content for m in request.messages if m.content.startswith("look for")]
        owner = said[-1].split(",")[0]
        assert all(text.startswith(owner) for text in said)
        if "None" in owner:
            assert len(said) == 1


# ---------------------------------------------------------------------- quality


async def test_each_turn_ends_with_a_score() -> None:
    """Once a life, and in every process the same."""
    talk = Talk(lambda: talker(order_tools()), SAYS, SCRIPTS, TIGHT)
    scores = []
    for held in (await whole(talk), await apart(talk)):
        found = [events(held.store, o.turn_id, ContextScored) for o in held.outcomes]
        assert [len(one) for one in found] == [1] * len(SAYS)
        scores.append([(e.turn, e.session, e.parts, e.seen) for (e,) in found])
        prompts = [p for o in held.outcomes for p in prompts_of(held.store, o.turn_id)]
        assert all(-1 <= prompt.score <= 100 for prompt in prompts)
    assert scores[0] == scores[1]
    assert scores[0][0][1] == -1 or scores[0][0][3] >= 5
    assert all(-1 <= part <= 1 for _, _, parts, _ in scores[0] for part in parts)
    assert all(len(parts) == 5 for _, _, parts, _ in scores[0])


def forgetful(request: uc.ModelRequest) -> Any:
    """Read the same again and again, since its result has gone."""
    if request.place == 0:
        return [look(f"#A{i}") for i in range(4)]
    return "Could you tell me your order number and your email address again, please?"


@pytest.mark.parametrize("alarm", [True, False])
async def test_an_alarm_is_written_down_once_it_is_one(*, alarm: bool) -> None:
    """With the prompt before which it was noticed, the same in every process; or never."""
    policy = ContextPolicy(
        limit_tokens=TIGHT.limit_tokens, reserved_tokens=100, rules=TIGHT.rules, alarm=alarm
    )
    says = ["My orders are #A0 and #A1, #A2 and #A3, I am ada@example.com"] + [
        f"go on, {i}" for i in range(30)
    ]
    scripts: dict[str, Any] = {"My": forgetful, "go": forgetful}
    talk = Talk(lambda: talker(order_tools()), says, scripts, policy)
    found = []
    for held in (await whole(talk), await apart(talk)):
        alarms = [e for o in held.outcomes for e in events(held.store, o.turn_id, ContextAlarmed)]
        found.append([(e.n, e.score, e.level, e.why) for e in alarms])
        for o in held.outcomes:
            prompts = {e.n for e in events(held.store, o.turn_id, PromptAssembled)}
            assert {e.n for e in events(held.store, o.turn_id, ContextAlarmed)} <= prompts
    assert found[0] == found[1]
    assert bool(found[0]) is alarm


async def test_usage_and_summaries_survive_a_crash_together() -> None:
    """What was reported is part of what is recorded."""
    talk = Talk(lambda: talker(order_tools()), SAYS[:4], SCRIPTS, TIGHT, (None,), usage=times(1.15))
    held = await check_crashes(talk)
    assert held.asked

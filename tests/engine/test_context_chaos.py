"""Sessions of any shape: turns that go oddly, wait, crash and are resumed, in any order."""

from __future__ import annotations

import asyncio
import contextlib
import random
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
    check_crash,
    check_journal,
    check_prompt,
    check_weights,
    commits_of,
    look,
    order_tools,
    prompts_of,
    whole,
)
from tests.engine.test_context_endings import CALLS, ODD, ROOM, odd_handler, odd_tools
from undercroft.errors import StoreError
from undercroft.layers.context.policy import ContextPolicy
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore

# Those whose results depend on who is first are left out.
LEFT_OUT = {"cut_short", "at_once", "calls_beside", "misses_model", "model_fails", "outlives"} | {
    name for name in ODD if name.startswith("cannot_")
}
NAMES = sorted(set(ODD) - LEFT_OUT)
SMALL = ContextPolicy(limit_tokens=3200, reserved_tokens=100, result_max_share=0.2)
SUMMARIES: list[Any] = [None, (None,), ("prose", None, "", "{}", None)]


def seeds(quick: int) -> list[Any]:
    """Return so many seeds, and more for whoever has the time."""
    slow = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(quick, 10 * quick)]
    return [*range(quick), *slow]


def any_calls(rng: random.Random) -> list[uc.Call]:
    """Return some calls, of any kind."""
    # A write that fails again when it is repeated leaves its turn in doubt.
    pool = [c for calls in CALLS.values() for c in calls if c.name != "backed_write"]
    pool += [look(f"#A{rng.randrange(1000)}") for _ in range(8)]
    return [rng.choice(pool) for _ in range(rng.randrange(4))]


def any_talk(seed: int) -> Talk:
    """Return a session of odd and ordinary turns."""
    rng = random.Random(seed)  # noqa: S311  the same each time
    says, scripts = [], dict[str, Any]()
    for i in range(rng.randrange(3, 7)):
        if rng.random() < 0.4:
            name = f"turn{i}"
            scripts[name] = [*(any_calls(rng) for _ in range(rng.randrange(1, 4))), f"end {i}"]
        else:
            name = rng.choice(NAMES)
            two = [look(f"#A{i}"), *any_calls(rng)] if rng.random() < 0.5 else [look("#A1")]
            scripts.setdefault(name, [two, "end", "end"])
            scripts.setdefault("rest", lambda _: "rest is said")
        says.append(f"{name} number {i} " + "and so on " * rng.randrange(60))
    policy = rng.choice([ROOM, SMALL, SMALL])
    return Talk(odd_handler, says, scripts, policy, rng.choice(SUMMARIES))


@pytest.mark.parametrize("seed", seeds(12))
async def test_any_session_is_the_same_in_one_process_and_in_many(seed: int) -> None:
    """Prompt by prompt, and summary by summary."""
    one, many = await whole(any_talk(seed)), await apart(any_talk(seed))
    assert_same(many.sent, one.sent)
    assert_same(many.asked, one.asked)
    assert many.ends == one.ends
    check_weights(one.store, [o.turn_id for o in one.outcomes], one.requests)
    for warm, cold in zip(one.outcomes, many.outcomes, strict=True):
        assert prompts_of(one.store, warm.turn_id) == prompts_of(many.store, cold.turn_id)


@pytest.mark.parametrize("seed", seeds(8))
async def test_any_session_survives_a_crash(seed: int) -> None:
    """At a few of its commits, any of them."""
    rng = random.Random(seed)  # noqa: S311  the same each time
    calm = await whole(any_talk(seed))
    commits = await commits_of(any_talk(seed))
    for _ in range(4):
        when = rng.choice(["crash_before", "crash_after"])
        await check_crash(any_talk(seed), calm, rng.randint(1, commits), when)


class Waiting:
    """Turns of one session that may wait for a person, begun and decided in any order.

    Args:
        seed: What happens.
        many: Whether each thing happens in a process of its own.
    """

    def __init__(self, seed: int, *, many: bool) -> None:
        rng = random.Random(seed)  # noqa: S311  the same each time
        self.many, self.journal = many, MemoryJournal()
        self.policy = rng.choice([TIGHT, SMALL, ROOM])
        summaries = rng.choice(SUMMARIES)
        self.summariser = None if summaries is None else Summariser(summaries)
        scripts: dict[str, Any] = {}
        self.plan: list[tuple[str, int]] = []
        self.kinds: list[str] = []
        for i in range(rng.randrange(4, 9)):
            script: list[Any] = [self._batch(rng) for _ in range(rng.randrange(1, 4))]
            scripts[f"turn{i}"] = [*script, f"end {i}"]
            self.kinds.append(rng.choice(["want", "want", "first", "never"]))
            self.plan.append(("say", i))
            if rng.random() < 0.5:
                self.plan.append(("decide", rng.randrange(8)))
        self.plan += [("decide", rng.randrange(8)) for _ in range(12)]
        self.plan += [("say", 99)]
        self.model = Model(scripts, self.policy)
        self.target = self._handler()
        self.waiting: list[str] = []
        self.ends: list[Any] = []

    def _batch(self, rng: random.Random) -> list[uc.Call]:
        calls = [look(f"#A{rng.randrange(50)}") for _ in range(rng.randrange(3))]
        if rng.random() < 0.5:
            calls.insert(
                rng.randrange(len(calls) + 1), uc.Call("pay", {"order": f"#P{rng.randrange(50)}"})
            )
        return calls or [look("#A1")]

    def _handler(self) -> Any:
        @uc.tool(writes="money/{order}", approval=True, read_first=False)
        async def pay(order: str, key: uc.IdempotencyKey) -> str:
            """Pay an order."""
            return f"paid {order}"

        @uc.handler(tools=[*order_tools(), *odd_tools(), pay])
        async def talk(turn: uc.Turn, message: str) -> str:
            turn.context.system(f"You look after orders ({len(message) % 2}).")
            turn.context.user(message)
            kind = message.rpartition(" ")[2]
            if kind == "first":
                # Waits before it asks anything.
                await turn.calls([uc.Call("pay", {"order": "#P0"})])
            elif kind == "never":
                turn.context.assistant("By rule: no.")
                return "never"
            while True:
                answer = await turn.model()
                if not answer.calls:
                    turn.context.assistant(f"Told: {answer.text}")
                    return answer.text
                await turn.calls(answer.calls)

        return talk

    def runtime(self, store: Any = None) -> uc.Runtime:
        """Return a process."""
        return uc.Runtime(
            store or MemoryStore(self.journal),
            model=self.model,
            context=self.policy,
            summariser=self.summariser,
            targets=[self.target],
            ids=InOrder(),
        )

    async def do(self, rt: uc.Runtime, what: str, which: int) -> None:
        """Let one thing happen."""
        if what == "say":
            kind = self.kinds[which] if which < len(self.kinds) else "want"
            text = f"turn{which} is what I {kind}"
            self.took(await rt.run(self.target, message=text, session="s-1"))
        elif self.waiting:
            turn_id = self.waiting.pop(which % len(self.waiting))
            outcome = await rt.resume(turn_id)
            step = outcome.waiting[0].step_id
            if which % 3:
                outcome = await rt.approve(turn_id, step, by="ada")
            else:
                outcome = await rt.reject(turn_id, step, by="ada", reason="no")
            self.took(outcome)

    def took(self, outcome: uc.Outcome) -> None:
        """Take note of how a turn stands."""
        if outcome.status == "waiting":
            self.waiting.append(outcome.turn_id)
        else:
            assert outcome.status == "done", outcome.error
            self.ends.append(outcome.value)
            check_journal(MemoryStore(self.journal), outcome.turn_id)

    async def go_on(self, store: Any, start: int) -> int:
        """Let things happen from `start` on, until the process dies; return when it did."""
        try:
            async with self.runtime(store) as rt:
                for at in range(start, len(self.plan)):
                    await self.do(rt, *self.plan[at])
        except StoreError:
            await asyncio.sleep(0)
            return at
        return len(self.plan)

    async def recovered(self, rt: uc.Runtime, fault: Any) -> None:
        """Resume what was cut off."""
        for found in (await rt.recover()).values():
            assert isinstance(found, uc.Outcome), f"{fault}: {found}"
        heads = reversed(rt.turns(limit=1000))
        self.waiting = [head.turn_id for head in heads if head.status == "waiting"]

    async def all(self) -> list[str]:
        """Let all of it happen; return what was sent."""
        if self.many:
            for what, which in self.plan:
                async with self.runtime() as rt:
                    await self.do(rt, what, which)
        else:
            async with self.runtime() as rt:
                for what, which in self.plan:
                    await self.do(rt, what, which)
        self.model.check()
        store = MemoryStore(self.journal)
        ids = [head.turn_id for head in store.heads(limit=1000)]
        check_weights(store, ids, self.model.requests)
        return self.model.sent


@pytest.mark.parametrize("seed", seeds(12))
async def test_turns_that_wait_are_the_same_in_one_process_and_in_many(seed: int) -> None:
    """In whatever order they are decided, and however many wait."""
    one, many = Waiting(seed, many=False), Waiting(seed, many=True)
    assert_same(await many.all(), await one.all())
    assert many.ends == one.ends


async def _crashing(seed: int, fault: dict[str, int], *, late: bool = False) -> int:
    """Let all of it happen, with a process that dies, and is followed by another one.

    Args:
        seed: What happens.
        fault: When it dies.
        late: Whether what was cut off is resumed only after everything else, and the next
            process dies as well.
    """
    run = Waiting(seed, many=False)
    crashing = CrashingStore(run.journal, **fault)
    at = await run.go_on(crashing, 0)
    if late and at < len(run.plan):
        at = await run.go_on(CrashingStore(run.journal, **fault), at + 1)
    if at < len(run.plan):
        async with run.runtime() as rt:
            if not late:
                await run.recovered(rt, fault)
            for what, which in run.plan[at + 1 :]:
                await run.do(rt, what, which)
            await run.recovered(rt, fault)
            while run.waiting:
                await run.do(rt, "decide", 1)
            for head in rt.turns(limit=1000):
                assert head.status == "done", (fault, head)
                check_journal(MemoryStore(run.journal), head.turn_id)
    try:
        run.model.check()
    except AssertionError as error:
        raise AssertionError(f"{fault}: {error}") from error
    return crashing.commits


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("seed", seeds(4))
async def test_turns_that_wait_survive_a_crash(seed: int, *, late: bool) -> None:
    """Nothing is stuck, nothing orphaned, and each prompt fits."""
    rng = random.Random(seed)  # noqa: S311  the same each time
    commits = await _crashing(seed, {})
    for _ in range(4):
        when = rng.choice(["crash_before", "crash_after"])
        await _crashing(seed, {when: rng.randint(1, commits)}, late=late)


POLICIES: list[ContextPolicy | None] = [
    ROOM,
    SMALL,
    None,
    ContextPolicy(limit_tokens=2600, reserved_tokens=300, recall=False, pins=("Be kind.",)),
    ContextPolicy(limit_tokens=3600, high_share=0.5, low_share=0.3, result_max_share=0.05),
]


async def changing(seed: int, *, many: bool) -> tuple[list[str], list[Any]]:
    """Hold a session whose turns each have some policy; return what was sent, and the ends."""
    rng = random.Random(seed)  # noqa: S311  the same each time
    talk = any_talk(seed)
    chosen = [rng.randrange(len(POLICIES)) for _ in talk.says]
    journal, target, model = MemoryJournal(), odd_handler(), Model(talk.scripts)
    summariser = None if talk.summaries is None else Summariser(talk.summaries)
    ids = InOrder()
    ends = []

    def runtime(place: int) -> uc.Runtime:
        return uc.Runtime(
            MemoryStore(journal),
            model=model,
            context=POLICIES[place],
            summariser=summariser,
            targets=[target],
            ids=ids,
        )

    async with contextlib.AsyncExitStack() as stack:
        kept: dict[int, uc.Runtime] = {}
        for text, place in zip(talk.says, chosen, strict=True):
            begun = len(model.requests)
            if many:
                async with runtime(place) as rt:
                    outcome = await rt.run(target, message=text, session="s-1")
            else:
                if place not in kept:
                    kept[place] = await stack.enter_async_context(runtime(place))
                outcome = await kept[place].run(target, message=text, session="s-1")
            ends.append((str(outcome.status), outcome.value))
            policy = POLICIES[place]
            if policy is not None:
                check_journal(MemoryStore(journal), outcome.turn_id)
                for request in model.requests[begun:]:
                    check_prompt(request, policy)
    return model.sent, ends


@pytest.mark.parametrize("seed", seeds(8))
async def test_policies_may_change_with_every_turn(seed: int) -> None:
    """Each prompt keeps to the one of its turn, and is the same in every process."""
    sent, ends = await changing(seed, many=False)
    again, others = await changing(seed, many=True)
    assert_same(again, sent)
    assert others == ends

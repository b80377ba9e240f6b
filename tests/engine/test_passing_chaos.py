"""Anything at once: failing services, budgets, loops, fallbacks, and processes that die."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from tests.engine.vendor import Jitter, assistant, recorded, settled
from undercroft.errors import ServiceError, StoreError
from undercroft.storage.memory import MemoryJournal
from undercroft.testing import CrashingStore, ScriptedModel, run_virtual

# What a call may come to; those in capitals happened all the same.
ERRORS: dict[str, Callable[[], BaseException] | None] = {
    "f": None,
    "r": lambda: ConnectionRefusedError("nobody"),
    "t": lambda: TimeoutError("t"),
    "T": lambda: TimeoutError("t, but it happened"),
    "d": lambda: uc.DomainError("no"),
    "o": lambda: ServiceError("s", "busy", 503),
    "m": lambda: ServiceError("s", "slow down", 429, retry_after_s=1),
    "C": lambda: ConnectionResetError("in the middle"),
}
# After these nobody can say whether a write happened.
UNSURE = "tTC"


class World:
    """What was really done, by step."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.calls = 0
        # Of writes: how often each happened, how often it was called, and by key.
        self.happened = Counter[str]()
        self.called = Counter[str]()
        self.surely_not = Counter[str]()
        self.keys: set[str] = set()
        retry = uc.Retry(attempts=2, wait_s=0.5)

        @uc.tool(peeks="a/{i}", service="reads", retry=retry, fallback="stale")
        async def read(i: int) -> str:
            await self._call()
            return f"read {i}"

        @uc.tool(appends="note", service="notes")
        async def note(i: int, info: uc.TurnInfo, key: uc.IdempotencyKey) -> str:
            return await self._write(info, key)

        @uc.tool(writes="k/{i}", service="writes", retry=retry, fallback=note)
        async def keyed(i: int, info: uc.TurnInfo, key: uc.IdempotencyKey) -> str:
            return await self._write(info, key)

        @uc.tool(writes="u/{i}", service="writes", retry=retry)
        async def plain(i: int, info: uc.TurnInfo) -> str:
            return await self._write(info, "")

        self.handler = assistant([read, keyed, plain])

    async def _call(self) -> str:
        word = self.words[self.calls % len(self.words)]
        self.calls += 1
        await asyncio.sleep(0.3)
        made = ERRORS[word]
        if made is not None and word.islower():
            raise made()
        return word

    async def _write(self, info: uc.TurnInfo, key: str) -> str:
        step = info.step_id
        self.called[step] += 1
        try:
            word = await self._call()
        except (ConnectionRefusedError, uc.DomainError, ServiceError):
            self.surely_not[step] += 1
            raise
        if not key or key not in self.keys:
            self.happened[step] += 1
            self.keys.add(key)
        made = ERRORS[word]
        if made is not None:
            raise made()
        return "written"


async def person(rt: uc.Runtime, outcome: uc.Outcome, world: World) -> uc.Outcome:
    """Say of each write in doubt what really happened; after a while do it by hand."""
    tries = Counter[str]()
    while outcome.status == "in_doubt":
        step = outcome.in_doubt[0].step_id
        tries[step] += 1
        if world.happened[step] or tries[step] > 3:
            word: dict[str, Any] = {"applied": True, "value": "written"}
        else:
            # From here on it is as if it had not been called.
            world.surely_not[step] = world.called[step]
            word = {"applied": False}
        outcome = await rt.settle(outcome.turn_id, step, by="ada", **word)
    return outcome


CALLS = st.builds(
    lambda name, i: uc.Call(name, {"i": i}),
    st.sampled_from(["read", "keyed", "plain"]),
    st.integers(0, 2),
)


async def one_life(
    rt: uc.Runtime, world: World, budget: uc.Budget, stop_s: float | None
) -> uc.Outcome | None:
    """Run or resume the turn; None where its process died, or was closed after some seconds."""

    async def going() -> uc.Outcome:
        heads = rt.turns()
        if heads:
            outcome = await rt.resume(heads[0].turn_id)
        else:
            outcome = await rt.run(world.handler, budget=budget, session="s")
        return await person(rt, outcome, world)

    running = asyncio.ensure_future(going())
    await asyncio.wait({running}, timeout=stop_s)
    if not running.done():
        running.cancel()
    try:
        return await running
    except (StoreError, asyncio.CancelledError):
        return None


def check(world: World, outcome: uc.Outcome, spent: int, limit: int) -> None:
    """Assert what holds however a turn went."""
    assert outcome.status in ("done", "degraded", "failed"), outcome
    if outcome.status == "failed":
        assert outcome.error is not None
        assert outcome.error.type in ("ModelError", "LoopError"), outcome.error
    for step, happened in world.happened.items():
        assert happened <= 1, f"{step} happened {happened} times"
    for step, called in world.called.items():
        if step.startswith("plain"):
            # Called again only where it surely had not happened.
            assert called - world.surely_not[step] <= 1, f"{step}: {called} calls"
    assert world.calls <= spent <= limit, f"{world.calls} calls, {spent} on record"


@settings(max_examples=120, deadline=None)
@given(
    script=st.lists(st.lists(CALLS, min_size=1, max_size=4), min_size=1, max_size=6),
    words=st.text(alphabet="".join(ERRORS), min_size=1, max_size=10),
    ends=st.lists(
        st.tuples(st.sampled_from(["before", "after", "stop"]), st.integers(1, 25)), max_size=4
    ),
    limit=st.sampled_from([3, 8, 500]),
    breaker=st.sampled_from([1, 3, 50]),
)
def test_whatever_happens_no_write_is_doubled_and_no_budget_overshot(
    script: list[list[uc.Call]],
    words: str,
    ends: list[tuple[str, int]],
    limit: int,
    breaker: int,
) -> None:
    """However often it dies: each effect at most once, each call paid for, and it ends."""

    async def main() -> None:
        world, journal = World(words), MemoryJournal()
        policy = uc.BreakerPolicy(failures_max=breaker, failure_rate=None, open_s=2, probes=1)
        names = ("reads", "writes", "notes")
        options: dict[str, Any] = {
            "model": ScriptedModel([*script, "end"]),
            "targets": [world.handler],
            "services": [uc.Service(name, breaker=policy) for name in names],
            "ids": Jitter(0.5),
        }
        outcome = None
        for how, at in [*ends, ("", 0)]:
            crash = {} if how in ("", "stop") else {f"crash_{how}": at}
            async with uc.Runtime(CrashingStore(journal, **crash), **options) as rt:
                stop_s = at / 10 if how == "stop" else None
                outcome = await one_life(rt, world, uc.Budget(attempts=limit), stop_s)
                await settled(rt, *names)
            if outcome is not None and outcome.status != "in_doubt":
                break
        assert outcome is not None
        check(world, outcome, recorded(journal).attempts, limit)

    run_virtual(main())

"""A world outside of the runtime: it counts what was done to it, and by which key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import undercroft as uc
from undercroft.errors import StoreError
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore


@dataclass
class World:
    """Records with balances, and a log of every call that reached them."""

    records: dict[str, int] = field(default_factory=dict)
    log: list[tuple[str, str, int]] = field(default_factory=list)
    by_key: dict[str, int] = field(default_factory=dict)

    def read(self, name: str) -> int:
        """Return a record."""
        self.log.append(("read", name, self.records.get(name, 0)))
        return self.records.get(name, 0)

    def add(self, name: str, amount: int, key: str = "") -> int:
        """Add to a record; under one key at most once."""
        self.log.append(("add", name, amount))
        if key and key in self.by_key:
            return self.by_key[key]
        self.records[name] = self.records.get(name, 0) + amount
        if key:
            self.by_key[key] = self.records[name]
        return self.records[name]

    def count(self, what: str, name: str | None = None) -> int:
        """Return how many calls of a kind there were."""
        return sum(w == what and name in (None, n) for w, n, _ in self.log)


Scenario = Callable[[World], Any]
Start = Callable[[uc.Runtime, Any], Awaitable[uc.Outcome]]


async def one_turn(rt: uc.Runtime, target: Any) -> uc.Outcome:
    """Run a turn without inputs."""
    return await rt.run(target)


async def crash_sweep(
    scenario: Scenario,
    start: Start = one_turn,
    *,
    model: Any = None,
    settle: Callable[[uc.Runtime, uc.Outcome, World], Awaitable[uc.Outcome]] | None = None,
) -> list[tuple[uc.Outcome, World]]:
    """Crash a turn before and after every one of its commits, recover it, return how it ended.

    The first of the list is the run that did not crash.
    """
    world, store = World(), CrashingStore(MemoryJournal())
    target = scenario(world)
    async with uc.Runtime(store, model=model, targets=[target]) as rt:
        ends = [(await start(rt, target), world)]
    for commit in range(1, store.commits + 1):
        for when in ("crash_before", "crash_after"):
            world, journal = World(), MemoryJournal()
            target = scenario(world)
            crashing = CrashingStore(journal, **{when: commit})
            async with uc.Runtime(crashing, model=model, targets=[target]) as rt:
                try:
                    ends.append((await start(rt, target), world))
                except StoreError:
                    # The moment after a crash must not leak into the next life.
                    await asyncio.sleep(0)
                else:
                    continue
            async with uc.Runtime(MemoryStore(journal), model=model, targets=[target]) as rt:
                for recovered in (await rt.recover()).values():
                    if isinstance(recovered, Exception):
                        raise recovered
                heads = rt.turns()
                # Where nothing of the turn was durable yet, whoever asked asks again.
                outcome = await rt.resume(heads[0].turn_id) if heads else await start(rt, target)
                if settle is not None:
                    outcome = await settle(rt, outcome, world)
                ends.append((outcome, world))
    return ends

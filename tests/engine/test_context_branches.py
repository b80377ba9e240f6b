"""Branches of a turn have windows of their own: compacted apart, in any order, in every life."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import (
    TIGHT,
    InOrder,
    Model,
    Summariser,
    check_journal,
    events,
    look,
    order_tools,
    written,
)
from tests.engine.vendor import virtual
from undercroft.errors import StoreError
from undercroft.layers.context.policy import ContextPolicy
from undercroft.model.event import ContextCompacted, PromptAssembled
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore

ROOM = ContextPolicy(limit_tokens=6000, reserved_tokens=100)
# A branch needs more than one compaction.
SCRIPT = [[look(f"#B{i}"), look(f"#B{i + 50}")] for i in range(4)]
SCRIPTS: dict[str, Any] = {
    **{f"do-{name}": [*SCRIPT, f"{name} is done"] for name in "abc"},
    "main": [[look("#A1001"), look("#A1002")], [look("#A1003")], "The turn is done."],
}


def several(pause: bool = False) -> Any:  # noqa: FBT001, FBT002  a part of a scenario
    """Return a handler of three branches side by side, beside its own conversation."""

    @uc.handler(tools=order_tools())
    async def work(turn: uc.Turn, message: str) -> list[str]:
        turn.context.system("You look after orders.")
        turn.context.user(message)

        async def branch(name: str) -> str:
            async with turn.branch(name) as own:
                own.context.system(f"You are {name}.")
                own.context.user(f"do-{name} " + message)
                return await loop(own)

        async def loop(line: uc.Turn) -> str:
            while True:
                answer = await line.model()
                if not answer.calls:
                    return answer.text
                await line.calls(answer.calls)

        return list(await asyncio.gather(*map(branch, "abc"), loop(turn)))

    return work


class Slowly(Model):
    """A model that takes its time, more for some prompts than for others."""

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Answer by the prompt."""
        await asyncio.sleep(len(written(request)) % 7)
        return await super().complete(request)


ENDS = ["a is done", "b is done", "c is done", "The turn is done."]


@virtual
async def test_branches_are_compacted_apart() -> None:
    """Side by side, each by its own window, and written down under its own name."""
    store, model = MemoryStore(), Slowly(SCRIPTS, TIGHT)
    options: dict[str, Any] = {"model": model, "context": TIGHT, "summariser": Summariser()}
    async with uc.Runtime(store, ids=InOrder(), **options) as rt:
        outcome = await rt.run(several(), message="main", session="s-1")
        assert outcome.value == ENDS, outcome.error
        check_journal(store, outcome.turn_id)
        compacted = events(store, outcome.turn_id, ContextCompacted)
        assert {e.branch for e in compacted} >= {"a", "b", "c"}
        for name in ("", "a", "b", "c"):
            prompts = [
                e for e in events(store, outcome.turn_id, PromptAssembled) if e.branch == name
            ]
            assert len(prompts) == (3 if not name else 5)
        for request in model.requests:
            said = {m.content for m in request.messages if m.content.startswith("You are")}
            assert len(said) <= 1
        # The next turn reads what the turn itself said, and nothing of its branches.
        await rt.run(several(), message="main again", session="s-1")
    model.check()
    later = [r for r in model.requests if any(m.content == "main again" for m in r.messages)]
    assert not any(m.content.startswith("do-") for r in later[:1] for m in r.messages)


async def _held(options: dict[str, Any], fault: dict[str, int]) -> Any:
    """Run three branches, and resume them if their process dies; return all that was sent."""
    journal, model = MemoryJournal(), Slowly(SCRIPTS, TIGHT)
    target, summariser = several(), Summariser(took_s=3)
    said: dict[str, Any] = {
        "model": model,
        "context": TIGHT,
        "summariser": summariser,
        "targets": [target],
        **options,
    }
    store: MemoryStore = CrashingStore(journal, **fault)
    outcome = None
    async with uc.Runtime(store, ids=InOrder(), **said) as rt:
        try:
            outcome = await rt.run(target, message="main", session="s-1")
        except StoreError:
            # What was begun must not leak into the next life.
            await asyncio.sleep(100)
    commits = getattr(store, "commits", 0)
    if outcome is None:
        store = MemoryStore(journal)
        async with uc.Runtime(store, ids=InOrder(), **said) as rt:
            for found in (await rt.recover()).values():
                assert isinstance(found, uc.Outcome), f"{fault}: {found}"
            heads = rt.turns()
            if heads:
                outcome = await rt.resume(heads[0].turn_id)
            else:
                outcome = await rt.run(target, message="main", session="s-1")
    assert outcome.value == ENDS, (fault, outcome.error)
    try:
        check_journal(store, outcome.turn_id)
        model.check()
    except AssertionError as error:
        raise AssertionError(f"{fault}: {error}") from error
    return Counter(model.sent), Counter(map(written, summariser.requests)), commits


@pytest.mark.parametrize("limited", [False, True], ids=["free", "one at a time"])
@virtual
async def test_branches_survive_a_crash_at_every_commit(*, limited: bool) -> None:
    """Each prompt of each branch is sent as it would have been; none is made up anew."""
    limits = uc.Limits(services={"model": 1, "summaries": 1}) if limited else None
    options: dict[str, Any] = {"limits": limits}
    calm, asked, commits = await _held(options, {})
    for commit in range(1, commits + 1):
        sent, summaries, _ = await _held(options, {"crash_after": commit})
        assert set(sent) == set(calm), commit
        assert set(summaries) == set(asked), commit


@virtual
async def test_a_branch_recalls_its_own() -> None:
    """Handles are of a window: the same one means something else in another."""

    @uc.tool(peeks="rows")
    async def rows(of: str) -> str:
        """Return rows."""
        return f"row of {of}; " * 800

    scripts: dict[str, Any] = {
        f"do-{name}": [
            [uc.Call("rows", {"of": name})],
            [uc.Call("recall", {"handle": "r0.2", "start": 0, "end": 9})],
            "end",
        ]
        for name in "ab"
    }

    @uc.handler(tools=[rows])
    async def work(turn: uc.Turn) -> list[str]:
        async def branch(name: str) -> str:
            async with turn.branch(name) as own:
                own.context.user(f"do-{name}")
                while (answer := await own.model()).calls:
                    results = await own.calls(answer.calls)
                return str(results[0].value)

        return list(await asyncio.gather(branch("a"), branch("b")))

    async with uc.Runtime(model=Model(scripts, TIGHT), context=TIGHT) as rt:
        outcome = await rt.run(work)
    assert outcome.value == ["row of a;", "row of b;"], outcome.error


def waiting_handler() -> Any:
    """Return a handler of branches in which people have to approve."""

    @uc.tool(writes="money/{order}", approval=True, read_first=False)
    async def pay(order: str, key: uc.IdempotencyKey) -> str:
        """Pay an order."""
        return f"paid {order}; " + "at length, " * 20

    @uc.handler(tools=[*order_tools(), pay])
    async def work(turn: uc.Turn, message: str) -> list[str]:
        turn.context.user(message)

        async def branch(name: str) -> str:
            async with turn.branch(name) as own:
                own.context.user(f"do-{name} " + message)
                return await loop(own)

        async def loop(line: uc.Turn) -> str:
            while (answer := await line.model()).calls:
                await line.calls(answer.calls)
            return answer.text

        return list(await asyncio.gather(*map(branch, "ab"), loop(turn)))

    return work


SEEDS = [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 40))]


def any_scripts(rng: random.Random) -> dict[str, Any]:
    """Return what is asked of each branch; none pays what another one does."""
    scripts: dict[str, Any] = {}
    for name in ("do-a", "do-b", "main"):
        batches: list[Any] = []
        for step in range(rng.randrange(2, 6)):
            calls = [look(f"#{name}{rng.randrange(9)}") for _ in range(rng.randrange(3))]
            if rng.random() < 0.4:
                calls.append(uc.Call("pay", {"order": f"#{name}-{step}"}))
            batches.append(calls or [look("#A1")])
        scripts[name] = [*batches, f"{name} is done"]
    return scripts


async def decided(seed: int, fault: dict[str, int]) -> tuple[Counter[str], list[str], int]:
    """Run branches that wait, decide one thing after the other, each in a process of its own."""
    rng = random.Random(seed)  # noqa: S311  the same each time
    scripts, policy = any_scripts(rng), rng.choice([TIGHT, ROOM])
    journal, model, target = MemoryJournal(), Slowly(scripts, policy), waiting_handler()
    said: dict[str, Any] = {
        "model": model,
        "context": policy,
        "summariser": Summariser(took_s=2),
        "targets": [target],
        "limits": uc.Limits(services={"model": rng.choice([1, 3])}),
    }
    store: MemoryStore = CrashingStore(journal, **fault)
    commits, turn_id, value = 0, "", None
    for _ in range(40):
        async with uc.Runtime(store, ids=InOrder(), **said) as rt:
            try:
                if not turn_id:
                    outcome = await rt.run(target, message="main", session="s-1")
                else:
                    outcome = await rt.resume(turn_id)
                turn_id = outcome.turn_id
                if outcome.status == "waiting":
                    step = rng.choice(outcome.waiting).step_id
                    outcome = await rt.approve(turn_id, step, by="ada")
            except StoreError:
                await asyncio.sleep(100)
            else:
                assert outcome.status in {"done", "waiting"}, outcome.error
                value = outcome.value
        commits = max(commits, getattr(store, "commits", 0))
        store = MemoryStore(journal)
        if value is not None:
            break
        turn_id = next((turn.head.turn_id for turn in journal.turns.values()), "")
    assert value == ["do-a is done", "do-b is done", "main is done"], fault
    check_journal(store, turn_id)
    model.check()
    return Counter(model.sent), value, commits


@pytest.mark.parametrize("seed", SEEDS)
@virtual
async def test_branches_that_wait_survive_a_crash(seed: int) -> None:
    """Decided in any order, in as many processes: every prompt is one of the undisturbed turn."""
    calm, _, commits = await decided(seed, {})
    rng = random.Random(seed)  # noqa: S311  the same each time
    for _ in range(4):
        fault = {rng.choice(["crash_before", "crash_after"]): rng.randint(1, commits)}
        sent, _, _ = await decided(seed, fault)
        assert set(sent) == set(calm), fault

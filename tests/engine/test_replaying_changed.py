"""Random turns, replayed with the code that they ran with and with code that was changed."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Sequence
from typing import Any

import pytest

import undercroft as uc
from tests.engine.vendor import virtual
from undercroft.replays import replay
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import ScriptedModel

CALLED: list[str] = []
CHANGED: list[str] = []


@uc.tool(reads="crm/{account}", service="crm")
async def get(account: str) -> dict[str, str]:
    """Read an account."""
    CALLED.append("get")
    if account == "none":
        msg = "no such account"
        raise uc.DomainError(msg)
    return {"id": account, "notes": "long " * 20}


@uc.tool(writes="crm/{account}", service="crm", read_first=False)
async def put(account: str, tier: str, *, key: uc.IdempotencyKey) -> str:
    """Set a tier."""
    del key
    CHANGED.append("put")
    return f"{account} is {tier}"


@uc.tool(appends="log")
async def note(text: str) -> str:
    """Write a note."""
    CHANGED.append("note")
    return f"noted {text}"


@uc.tool(reads="rates", fallback="as yesterday")
async def rates(day: str) -> str:
    """Fail, and be stood in for."""
    CALLED.append("rates")
    msg = f"no rates of {day}"
    raise ConnectionRefusedError(msg)


Op = list[Any]


def proposed(rng: random.Random) -> tuple[str, dict[str, str]]:
    """Return a call, which may be refused or fail."""
    account = rng.choice(("1", "2", "3", "none"))
    return rng.choice(
        [
            ("get", {"account": account}),
            ("put", {"account": account, "tier": rng.choice("xyz")}),
            ("note", {"text": account}),
            ("rates", {"day": account}),
            ("get", {"nobody": account}),
            ("nothing", {"account": account}),
        ]
    )


def program(rng: random.Random, *, branches: bool = True) -> list[Op]:
    """Return what a handler does: it talks to its model, calls tools itself, and branches."""
    ops: list[Op] = []
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(("talk", "talk", "calls", "branches" if branches else "talk"))
        if kind == "talk":
            ops.append([kind, f"say {rng.randint(0, 99)}"])
        elif kind == "calls":
            ops.append([kind, [proposed(rng) for _ in range(rng.randint(1, 3))]])
        else:
            lines = [
                (f"line-{len(ops)}-{k}", program(rng, branches=False))
                for k in range(rng.randint(1, 2))
            ]
            ops.append([kind, lines])
    return ops


def handler(ops: list[Op], end: str = ".") -> Any:
    """Return a handler that does so."""

    async def line(turn: uc.Turn, ops: list[Op]) -> str:
        said: list[str] = []
        for kind, what in ops:
            if kind == "talk":
                turn.context.user(what)
                while (answer := await turn.model()).calls:
                    await turn.calls(answer.calls)
                said.append(answer.text)
            elif kind == "calls":
                results = await turn.calls([uc.Call(name, dict(given)) for name, given in what])
                said.append(str([result.status for result in results]))
            else:
                said += await asyncio.gather(*(branch(turn, *one) for one in what))
        return " ".join(said)

    async def branch(turn: uc.Turn, name: str, ops: list[Op]) -> str:
        async with turn.branch(name) as side:
            return await line(side, ops)

    @uc.handler(tools=[get, put, note, rates])
    async def assist(turn: uc.Turn) -> str:
        return await line(turn, ops) + end

    return assist


def scripted(rng: random.Random) -> ScriptedModel:
    """Return a model that goes on for long enough."""
    script: list[Any] = []
    for _ in range(40):
        calls = [uc.Call(*proposed(rng)) for _ in range(rng.randint(1, 3))]
        script.append(calls if rng.random() < 0.5 else f"answer {rng.randint(0, 9)}")
    return ScriptedModel(script)


def changes(rng: random.Random, ops: list[Op]) -> Sequence[list[Op]]:
    """Return a program with each kind of change, at a place of its own each."""
    found = []
    for kind in ("alter", "insert", "ask", "delete"):
        changed = copy.deepcopy(ops)
        places = [(changed, at) for at in range(len(changed))]
        for _, what in [op for op in changed if op[0] == "branches"]:
            places += [(line, at) for _, line in what for at in range(len(line))]
        line, at = rng.choice(places)
        if kind == "insert":
            line.insert(at, ["calls", [("get", {"account": "77"})]])
        elif kind == "ask":
            line.insert(at, ["talk", "and more"])
        elif kind == "delete":
            del line[at]
        elif line[at][0] == "talk":
            line[at][1] += "!"
        elif line[at][0] == "calls":
            name, given = line[at][1][-1]
            line[at][1][-1] = (name, {key: f"{value}9" for key, value in given.items()})
        else:
            name, inner = line[at][1][0]
            line[at][1][0] = (f"{name}x", inner)
        found.append(changed)
    return found


async def recorded(seed: int) -> tuple[list[Op], MemoryJournal, str, random.Random]:
    """Run a random turn; return what it did, its journal and its id."""
    rng = random.Random(seed)  # noqa: S311  not for secrets
    ops, journal = program(rng), MemoryJournal()
    async with uc.Runtime(MemoryStore(journal), model=scripted(rng), loops=None) as rt:
        outcome = await rt.run(handler(ops))
    assert outcome.status in ("done", "degraded"), outcome.error
    CALLED.clear()
    CHANGED.clear()
    return ops, journal, outcome.turn_id, rng


def held(journal: MemoryJournal, turn_id: str) -> list[bytes]:
    """Return what a journal holds of a turn."""
    return list(MemoryStore(journal).frames(turn_id) or [])


SEEDS = [*range(12), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(12, 120))]


@pytest.mark.parametrize("seed", SEEDS)
@virtual
async def test_any_change_of_the_code_is_a_divergence(seed: int) -> None:
    """The same code is the same; with one thing changed it is not, and nothing is ever called."""
    ops, journal, turn_id, rng = await recorded(seed)
    before = held(journal, turn_id)
    found = await replay(MemoryStore(journal), turn_id, target=handler(ops), loops=None)
    assert (found.same, found.divergence) == (True, None)
    for changed in changes(rng, ops):
        target = handler(changed)
        found = await replay(MemoryStore(journal), turn_id, target=target, loops=None)
        assert found.same is False, (ops, changed)
        assert found.divergence is not None
        assert found.divergence.step
    found = await replay(MemoryStore(journal), turn_id, target=handler(ops, "!"), loops=None)
    assert found.divergence is not None
    assert found.divergence.what == "reply"
    assert not CALLED
    assert not CHANGED
    assert held(journal, turn_id) == before


@pytest.mark.parametrize("seed", SEEDS)
@virtual
async def test_from_every_step_on_it_runs_and_changes_nothing(seed: int) -> None:
    """Wherever it goes on live, it comes to an end, the record stays, and no effect is done."""
    ops, journal, turn_id, rng = await recorded(seed)
    before = held(journal, turn_id)
    async with uc.Runtime(MemoryStore(journal)) as rt:
        steps = [step.step_id for step in rt.trace(turn_id).steps]
    if len(steps) > 10:
        steps = [*steps[:4], *rng.sample(steps[4:-2], 4), *steps[-2:]]
    model = scripted(rng)
    for step in steps:
        found = await replay(
            MemoryStore(journal),
            turn_id,
            target=handler(ops),
            from_step=step,
            model=model,
            loops=None,
        )
        assert (found.same, found.divergence) == (None, None)
        assert found.outcome is not None
        assert found.outcome.status in ("done", "degraded"), found.outcome.error
        assert not CHANGED
    assert held(journal, turn_id) == before

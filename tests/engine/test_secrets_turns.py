"""Turns with secrets in them, over lives, sessions and processes: nothing leaks, all go on."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.engine.vendor import virtual
from undercroft.errors import RedactedError, SettingError, StoreError
from undercroft.model.message import ModelRequest
from undercroft.replays import replay
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore, ScriptedModel

SECRET = "Zx7LmN2bTyR4"  # noqa: S105  a made one
LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"

# Nothing is kept of what was redacted: another process must be told.
TOLD = uc.Redaction(sealed=False)


class Planted:
    """Secrets of one story, each by what it is for."""

    def __init__(self, seed: int) -> None:
        self.seed, self.known = seed, dict[str, None]()

    def __call__(self, purpose: str) -> str:
        """Return the secret for a purpose: always the same."""
        rng = random.Random(f"{self.seed}-{purpose}")  # noqa: S311  not for secrets
        secret = "Q" + "".join(rng.choices(LETTERS, k=12)) + "7"
        self.known[secret] = None
        return secret


@dataclass
class Session:
    """What logging in returns."""

    user: str
    ticket: uc.Secret[str]


def tools(plant: Planted) -> list[Any]:
    """Return tools that take, return and spill secrets."""

    @uc.tool(reads="sessions/{user}")
    async def log_in(user: str, phrase: uc.Secret[str]) -> Session:
        return Session(user, plant(f"ticket of {user} {len(phrase)}"))

    @uc.tool(reads="vault/{name}")
    async def fetch(name: str) -> uc.Secret[str]:
        return plant(f"vault {name}")

    @uc.tool(reads="rows/{name}")
    async def rows(name: str) -> str:
        return json.dumps({"rows": [{"password": plant(name), "id": name}], "text": "word " * 60})

    @uc.tool(reads="pay/{name}", service="pay")
    async def pay(name: str, api_key: str) -> str:
        msg = f"{api_key} of {name} was refused"
        raise ValueError(msg)

    @uc.tool(writes="mail/{to}", approval=True, read_first=False)
    async def send(to: str, password: str, body: str) -> str:
        return f"{body} to {to} with {password}"

    @uc.tool(writes="orders/{name}", read_first=False)
    async def order(name: str, token: str) -> str:
        msg = f"who knows whether {token} ordered {name}"
        raise TimeoutError(msg)

    return [log_in, fetch, rows, pay, send, order]


class Model:
    """Answers by how often it was asked in a turn, with calls that hold secrets."""

    def __init__(self, plant: Planted) -> None:
        self._plant = plant

    async def complete(self, request: ModelRequest) -> Any:
        """Return calls, or a text."""
        place = request.place
        if place is None:
            place = sum(message.role == "assistant" for message in request.messages)
        rng = random.Random(f"{self._plant.seed}-{place}")  # noqa: S311  not for secrets
        if place % 7 < 5 and rng.random() < 0.8:
            return uc.Answer(calls=tuple(self._call(rng) for _ in range(rng.randint(1, 3))))
        return uc.Answer("Done.")

    def _call(self, rng: random.Random) -> uc.Call:
        name = str(rng.randint(1, 3))
        secret = self._plant(name)
        found: Sequence[tuple[str, Any]] = (
            ("log_in", {"user": name, "phrase": secret}),
            ("fetch", {"name": name}),
            ("rows", {"name": name}),
            ("pay", {"name": name, "api_key": secret}),
            ("pay", json.dumps({"name": name, "api_key": secret})),
            ("send", {"to": name, "password": secret, "body": f"I am {secret}"}),
            ("order", {"name": name, "token": secret}),
        )
        return uc.Call(*rng.choice(found))


def handler(plant: Planted) -> Any:
    """Return a handler that does as the model says, and says again who it is in a branch."""

    @uc.handler(tools=tools(plant))
    async def assist(turn: uc.Turn, message: str, password: str, pin: uc.Secret[str]) -> Any:
        turn.context.user(f"{message}; I am {password}, and my pin is {pin}")
        while (answer := await turn.model()).calls:
            await turn.calls(answer.calls)
        async with turn.branch("side") as side:
            side.context.user(f"again: {password}")
            await side.calls((await side.model()).calls)
        return {"text": answer.text, "password": password}

    return assist


def leaks(journal: MemoryJournal, plant: Planted) -> list[str]:
    """Return the secrets that some frame holds."""
    store = MemoryStore(journal)
    frames = [frame for head in store.heads() for frame in store.frames(head.turn_id) or []]
    return [one for one in plant.known if any(one.encode() in frame for frame in frames)]


async def story(seed: int) -> tuple[MemoryJournal, Planted, Any]:
    """Run turns of a session that crash, park and go on elsewhere, until all have ended."""
    rng = random.Random(seed)  # noqa: S311  not for secrets
    journal, plant = MemoryJournal(), Planted(seed)
    target, model = handler(plant), Model(plant)
    options: dict[str, Any] = {"targets": [target], "loops": None, "model": model}
    if rng.random() < 0.6:
        limit = rng.choice((3_000, 6_000))
        options["context"] = uc.ContextPolicy(limit_tokens=limit, reserved_tokens=200)
    for turn in range(rng.randint(1, 3)):
        given: dict[str, Any] = {"password": plant(f"password {turn}"), "pin": plant(f"pin {turn}")}
        after = rng.choice((0, rng.randint(3, 25)))
        store = CrashingStore(journal, crash_after=after) if after else MemoryStore(journal)
        try:
            async with uc.Runtime(store, **options) as rt:
                await rt.run(target, message=f"do {turn}", session="s-1", **given)
        except StoreError:
            pass
        for _ in range(8):
            left = [one for one in MemoryStore(journal).heads() if not one.status.final]
            if not left:
                break
            async with uc.Runtime(MemoryStore(journal), **options) as rt:
                outcome = await rt.resume(left[0].turn_id, secrets=plant.known)
                if outcome.waiting:
                    decide = rt.approve if rng.random() < 0.7 else rt.reject
                    await decide(outcome.turn_id, outcome.waiting[0].step_id, by="ada")
                elif outcome.in_doubt:
                    step, value = outcome.in_doubt[0].step_id, f"by {plant('password 0')}"
                    applied = rng.random() < 0.5
                    await rt.settle(outcome.turn_id, step, applied=applied, by="ada", value=value)
    return journal, plant, target


SEEDS = [*range(12), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(12, 150))]


@pytest.mark.parametrize("seed", SEEDS)
@virtual
async def test_no_story_leaves_a_secret_behind_and_each_is_replayed(seed: int) -> None:
    """Whatever happens to turns, no frame holds a secret; who knows them sees the same again."""
    journal, plant, target = await story(seed)
    assert leaks(journal, plant) == []
    for head in MemoryStore(journal).heads():
        found = await replay(
            MemoryStore(journal), head.turn_id, target=target, loops=None, secrets=plant.known
        )
        assert found.same, found.divergence
    assert leaks(journal, plant) == []


@uc.tool(writes="mail/{to}", approval=True, read_first=False)
async def send(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


@uc.tool(reads="airports/{code}")
async def airport(code: str) -> dict[str, str]:
    """Look an airport up."""
    return {"code": code, "city": "Boston"}


@uc.tool(reads="doors")
async def enter(code: uc.Secret[str]) -> str:
    """Enter by a code that nobody may know."""
    return f"entered with {code}"


@uc.handler(tools=[airport, send])
async def travel(turn: uc.Turn, message: str) -> str:
    """Do as the model says."""
    turn.context.user(message)
    while (answer := await turn.model()).calls:
        await turn.calls(answer.calls)
    return answer.text


@uc.handler(tools=[enter])
async def visit(turn: uc.Turn, code: uc.Secret[str]) -> str:
    """Enter."""
    turn.context.user("hello")
    (result,) = await turn.calls([uc.Call("enter", {"code": code})])
    return str(result.value)


TRIP: list[Any] = [
    [uc.Call("airport", {"code": "BOS-01"})],
    [uc.Call("send", {"to": "ada"})],
    "Done.",
]
ASK: list[Any] = [[uc.Call("send", {"to": "ada"})], "Done."]
POLICY = uc.ContextPolicy(limit_tokens=50_000)


@pytest.mark.parametrize("same_process", [True, False])
async def test_what_one_handler_calls_secret_is_nothing_to_another(
    tmp_path: Path, *, same_process: bool
) -> None:
    """A name that is annotated somewhere changes no record of code that does not say so."""
    path = tmp_path / "journal.db"
    async with uc.Runtime(path, model=ScriptedModel(TRIP), targets=[travel]) as rt:
        outcome = await rt.run(travel, message="to Boston")
        if same_process:
            assert (await rt.run(visit, code=SECRET)).value == f"entered with {SECRET}"
            outcome = await rt.approve(outcome.turn_id, by="ada")
    async with uc.Runtime(path, model=ScriptedModel(TRIP), targets=[travel]) as rt:
        await rt.run(visit, code=SECRET)
        if not same_process:
            outcome = await rt.approve(outcome.turn_id, by="ada")
        assert (outcome.status, outcome.value) == ("done", "Done."), outcome.error
        steps = {step.name: step for step in rt.trace(outcome.turn_id).steps}
        assert steps["airport"].arguments == {"code": "BOS-01"}
    assert SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize("knows", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_session_goes_on_where_nobody_knows_what_was_said(
    tmp_path: Path, *, elsewhere: bool, knows: bool
) -> None:
    """A later turn is sent marks, and parks and goes on with them, whoever takes it up."""
    path = tmp_path / "journal.db"
    async with uc.Runtime(
        path, model=ScriptedModel(["Hello."]), context=POLICY, redaction=TOLD
    ) as rt:
        await rt.run(travel, message=f"my password is {SECRET}", session="s-1")
    model = ScriptedModel(ASK)
    options: dict[str, Any] = {"context": POLICY, "targets": [travel], "redaction": TOLD}
    async with uc.Runtime(path, model=model, **options) as rt:
        outcome = await rt.run(travel, message="and now?", session="s-1")
        assert outcome.status == "waiting"
        if not elsewhere:
            outcome = await rt.approve(outcome.turn_id, by="ada")
    if elsewhere:
        model = ScriptedModel(ASK)
        async with uc.Runtime(path, model=model, **options) as rt:
            rt.learn([SECRET] if knows else [])
            outcome = await rt.approve(outcome.turn_id, by="ada")
    assert (outcome.status, outcome.value) == ("done", "Done.")
    said = [str(message.content) for message in model.requests[-1].messages]
    assert said[0].startswith("my password is [redacted:")
    found = await replay(path, outcome.turn_id, target=travel, secrets=[SECRET] if knows else [])
    assert (found.same, found.prompts) == (True, 2)


async def test_a_journal_in_memory_has_a_key_of_its_own() -> None:
    """What one runtime hid there, another one that is told it finds again; so does a replay."""
    journal = MemoryJournal()
    async with uc.Runtime(MemoryStore(journal), model=ScriptedModel(ASK), redaction=TOLD) as rt:
        outcome = await rt.run(travel, message=f"my password is {SECRET}")
    store = MemoryStore(journal)
    async with uc.Runtime(store, model=ScriptedModel(ASK), targets=[travel], redaction=TOLD) as rt:
        with pytest.raises(RedactedError):
            await rt.approve(outcome.turn_id, by="ada")
        outcome = await rt.resume(outcome.turn_id, secrets=[SECRET])
    assert outcome.value == "Done."
    found = await replay(MemoryStore(journal), outcome.turn_id, target=travel, secrets=[SECRET])
    assert found.same is True


async def test_all_that_is_told_is_looked_for(tmp_path: Path) -> None:
    """However many values a process is told, each is found; a text is no list of values."""
    path = tmp_path / "journal.db"
    known = [f"{SECRET}{number}x" for number in range(1_000)]
    async with uc.Runtime(path, model=ScriptedModel(["Hello."] * 2)) as rt:
        rt.learn(known)
        outcome = await rt.run(travel, message=f"{known[0]} {known[500]} {known[999]}")
        assert rt.trace(outcome.turn_id).input["message"].count("[redacted:") == 3
        with pytest.raises(SettingError, match="a list of values"):
            await rt.resume(outcome.turn_id, secrets=SECRET)
    assert SECRET.encode() not in path.read_bytes()

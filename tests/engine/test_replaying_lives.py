"""Turns of several lives are replayed: whoever ended them, whatever was open, what was redacted."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.engine.vendor import virtual
from undercroft.errors import StoreError
from undercroft.replays import replay
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore, ScriptedModel

CALLED: list[str] = []
SECRET = "Zx7LmN2bTyR4"  # noqa: S105  a made one


@uc.tool(reads="crm/{account}")
async def get(account: str) -> str:
    """Read an account."""
    CALLED.append(f"get {account}")
    return f"notes on {account}: " + "word " * 60


@uc.tool(writes="wires/{to}", read_first=False)
async def wire(to: str) -> str:
    """Send money, perhaps."""
    CALLED.append(f"wire {to}")
    raise TimeoutError


@uc.tool(writes="mail/{to}", approval=True, read_first=False)
async def send(to: str) -> str:
    """Send a mail."""
    CALLED.append(f"send {to}")
    return f"sent to {to}"


@uc.tool(reads="clock")
async def slow() -> str:
    """Take a long time."""
    CALLED.append("slow")
    await asyncio.sleep(1_000)
    return "late"


async def talk(turn: uc.Turn, *said: str) -> str:
    """Do as the model says."""
    for text in said:
        turn.context.user(text)
    while (answer := await turn.model()).calls:
        await turn.calls(answer.calls)
    return answer.text


@uc.handler(tools=[get, wire, send, slow])
async def assist(turn: uc.Turn, message: str) -> str:
    """Do as the model says."""
    return await talk(turn, message)


@uc.handler(tools=[get, wire, send, slow])
async def patient(turn: uc.Turn, message: str) -> str:
    """Do as the model says, whatever becomes of it."""
    turn.context.user(message)
    with suppress(uc.ModelError):
        await turn.calls([uc.Call("slow", {})])
        await turn.model()
    return "I tried."


def call(name: str, **given: str) -> uc.Call:
    """Return a call."""
    return uc.Call(name, given)


async def again(journal: MemoryJournal, turn_id: str, target: Any = assist, **more: Any) -> Any:
    """Replay a turn; nothing is called, and the record stays."""
    CALLED.clear()
    before = list(MemoryStore(journal).frames(turn_id) or [])
    found = await replay(MemoryStore(journal), turn_id, target=target, **more)
    assert not CALLED
    assert list(MemoryStore(journal).frames(turn_id) or []) == before
    return found


@pytest.mark.parametrize("writes", [1, 2, 3])
@virtual
async def test_a_turn_in_doubt_is_the_same_and_settled_it_is_too(writes: int) -> None:
    """However many writes of a batch are open, and whatever a person says of each."""
    journal = MemoryJournal()
    batch = [call("wire", to=str(number)) for number in range(writes)]
    model = ScriptedModel([[call("get", account="1")], [*batch, call("get", account="2")], "Done."])
    async with uc.Runtime(MemoryStore(journal), model=model, targets=[assist]) as rt:
        outcome = await rt.run(assist, message="pay them")
        assert len(outcome.in_doubt) == writes
        found = await again(journal, outcome.turn_id)
        assert (found.same, found.ends, found.divergence) == (True, "parked", None)
        for open_one in outcome.in_doubt:
            outcome = await rt.settle(
                outcome.turn_id, open_one.step_id, applied=True, by="ada", value="paid"
            )
            found = await again(journal, outcome.turn_id)
            assert (found.same, found.divergence) == (True, None)
    assert (outcome.status, found.ends) == ("done", "ended")


@pytest.mark.parametrize("after", range(2, 12))
@virtual
async def test_a_batch_that_was_cut_off_is_met_as_far_as_it_came(after: int) -> None:
    """Whichever calls of a batch had begun or ended when the process died."""
    journal = MemoryJournal()
    batch = [call("wire", to="1"), call("get", account="1"), call("wire", to="2")]
    model = ScriptedModel([[call("get", account="3")], [*batch, call("get", account="2")], "Done."])
    with suppress(StoreError):
        async with uc.Runtime(CrashingStore(journal, crash_after=after), model=model) as rt:
            await rt.run(assist, message="pay them")
    for head in MemoryStore(journal).heads():
        found = await again(journal, head.turn_id)
        assert (found.same, found.divergence) == (True, None)


NARROW = uc.ContextPolicy(limit_tokens=1_500, reserved_tokens=100, low_share=0.3)
WIDE = uc.ContextPolicy(limit_tokens=50_000)


@pytest.mark.parametrize("after", [None, 4, 6, 8, 10, 12])
@pytest.mark.parametrize(
    ("first", "second"),
    [(None, WIDE), (WIDE, None), (NARROW, WIDE), (WIDE, NARROW), (NARROW, NARROW)],
    ids=["comes", "goes", "grows", "shrinks", "stays"],
)
@virtual
async def test_each_life_is_replayed_under_its_own_policy(
    first: uc.ContextPolicy | None, second: uc.ContextPolicy | None, after: int | None
) -> None:
    """A turn that is resumed under another policy, or is killed, is the same in all its lives."""
    journal = MemoryJournal()
    reads: list[Any] = [[call("get", account=str(number))] for number in range(6)]
    script = [*reads, [call("send", to="ada")], *reads, "Done."]
    options: dict[str, Any] = {"targets": [assist], "loops": None}
    options["model"] = ScriptedModel(script)
    store = MemoryStore(journal) if after is None else CrashingStore(journal, crash_after=after)
    with suppress(StoreError):
        async with uc.Runtime(store, context=first, **options) as rt:
            await rt.run(assist, message="look at them", session="s-1")
    for head in MemoryStore(journal).heads():
        async with uc.Runtime(MemoryStore(journal), context=second, **options) as rt:
            outcome = await rt.resume(head.turn_id)
            found = await again(journal, head.turn_id, loops=None)
            assert (found.same, found.divergence) == (True, None)
            outcome = await rt.approve(outcome.turn_id, by="ada")
            assert outcome.status == "done", outcome.error
            found = await again(journal, head.turn_id, loops=None)
            assert (found.same, found.divergence, found.prompts) == (True, None, 14)


@pytest.mark.parametrize("target", [assist, patient])
@virtual
async def test_a_turn_that_ran_out_of_time_is_the_same(target: Any) -> None:
    """Who ended it was not its code, so it does not count what the code would have done next."""
    journal = MemoryJournal()
    model = ScriptedModel([[call("get", account="1")], [call("slow")], "Done."])
    async with uc.Runtime(MemoryStore(journal), model=model) as rt:
        outcome = await rt.run(target, message="hurry", timeout_s=5)
    assert outcome.status == "failed"
    found = await again(journal, outcome.turn_id, target)
    assert (found.same, found.divergence) == (True, None)


@virtual
async def test_a_turn_whose_session_was_in_use_is_the_same() -> None:
    """It never came to run its code, and does not now."""
    journal, model = MemoryJournal(), ScriptedModel([[call("slow")], "Done."])
    impatient = uc.Ownership(wait_s=0)
    async with uc.Runtime(MemoryStore(journal), model=model, ownership=impatient) as rt:
        first = asyncio.ensure_future(rt.run(assist, message="one", session="s-1", timeout_s=9))
        await asyncio.sleep(1)
        outcome = await rt.run(assist, message="two", session="s-1")
        assert outcome.error is not None
        assert outcome.error.type == "SessionBusy"
        await first
    found = await again(journal, outcome.turn_id)
    assert (found.same, found.divergence) == (True, None)


async def test_a_divergence_beside_a_secret_is_named_and_shows_none(tmp_path: Path) -> None:
    """The message that was changed is told, and not the one that is redacted; nothing leaks."""
    path = tmp_path / "journal.db"

    def made(said: str) -> Any:
        @uc.handler(tools=[])
        async def log_in(turn: uc.Turn, password: str) -> str:
            return await talk(turn, f"I am {password}", f"hello {said}{password}")

        return log_in

    async with uc.Runtime(path, model=ScriptedModel(["Hello."])) as rt:
        outcome = await rt.run(made(""), password=SECRET)
    found = await replay(path, outcome.turn_id, target=made("again "), secrets=[SECRET])
    assert found.divergence is not None
    assert (found.divergence.what, found.divergence.message) == ("prompt", 1)
    assert "hello again" in found.divergence.now
    assert SECRET not in str(found.divergence)


async def test_who_knows_more_secrets_than_were_known_sees_the_same(tmp_path: Path) -> None:
    """A pattern, a name or a value that is new since changes nothing of what was recorded."""
    path = tmp_path / "journal.db"
    async with uc.Runtime(path, model=ScriptedModel([f"It is {SECRET}, number n-4711-x."])) as rt:
        outcome = await rt.run(assist, message=f"what is {SECRET}?")
    for more in (
        {"secrets": [SECRET]},
        {"redaction": uc.Redaction(patterns=(r"n-\d+-x",))},
        {"redaction": uc.Redaction(fields=("message",))},
        {"redaction": uc.Redaction(values=(SECRET,))},
    ):
        found = await replay(path, outcome.turn_id, target=assist, **more)
        assert (found.same, found.divergence) == (True, None)

"""A recorded turn is run once more without a model or tool, and says where it goes another way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from undercroft.errors import RedactedError, StoreError, TurnNotFoundError
from undercroft.replays import replay
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore, ScriptedModel

CALLED: list[str] = []


@uc.tool(reads="crm/{account_id}", service="crm")
async def get_account(account_id: str) -> dict[str, Any]:
    """Read an account."""
    CALLED.append(f"get {account_id}")
    if account_id == "none":
        msg = "no such account"
        raise uc.DomainError(msg)
    return {"id": account_id, "tier": "silver", "notes": "long " * 400}


@uc.tool(writes="crm/{account_id}", service="crm")
async def set_tier(account_id: str, tier: str, *, key: uc.IdempotencyKey) -> str:
    """Set a tier."""
    del key
    CALLED.append(f"set {account_id}")
    return f"{account_id} is {tier}"


@uc.tool(writes="mail/{to}", approval=True, read_first=False)
async def send(to: str, body: str) -> str:
    """Send a mail."""
    CALLED.append(f"send {to}")
    return f"sent {body} to {to}"


TOOLS: list[Any] = [get_account, set_tier, send]


def handler(said: str = "", *, extra: bool = False, add: str = "", twice: bool = False) -> Any:
    """Return the handler, or one that was changed since."""

    @uc.handler(tools=TOOLS)
    async def assist(turn: uc.Turn, message: str) -> str:
        turn.context.user(message + said)
        if extra:
            await turn.calls([uc.Call("get_account", {"account_id": "9"})])
        while (answer := await turn.model()).calls:
            await turn.calls(answer.calls)
        if twice:
            await turn.model()
        return answer.text + add

    return assist


READ = [uc.Call("get_account", {"account_id": "7"}), uc.Call("get_account", {"account_id": "none"})]
WRITE = [uc.Call("set_tier", {"account_id": "7", "tier": "gold"}), uc.Call("nothing", {})]
SEND = [uc.Call("send", {"to": "ada@example.com", "body": "hi"})]
SCRIPT: Sequence[Any] = [READ, WRITE, "It is gold."]


async def recorded(path: Path, script: Sequence[Any] = SCRIPT, **settings: Any) -> uc.Outcome:
    """Run a turn and return how it ended."""
    async with uc.Runtime(path, model=ScriptedModel(script), **settings) as rt:
        outcome = await rt.run(handler(), message="gold for 7", session="s-1")
    CALLED.clear()
    return outcome


async def again(path: Path, turn_id: str, target: Any = None, **settings: Any) -> Any:
    """Replay a turn; nothing may have been called."""
    found = await replay(path, turn_id, target=target or handler(), **settings)
    if "from_step" not in settings:
        assert not CALLED
    return found


async def test_a_turn_says_again_what_it_said(tmp_path: Path) -> None:
    """Reads, failures, refusals and writes are met in the journal; prompts are the same bytes."""
    path = tmp_path / "journal.db"
    outcome = await recorded(path)
    before = path.read_bytes()
    found = await again(path, outcome.turn_id)
    assert (found.same, found.divergence, found.ends) == (True, None, "ended")
    assert (found.prompts, found.steps) == (3, 7)
    assert (found.outcome.status, found.outcome.value) == (outcome.status, outcome.value)
    assert path.read_bytes() == before


CONTEXT = uc.ContextPolicy(limit_tokens=1_800, reserved_tokens=200, low_share=0.35)


async def test_a_window_that_was_compacted_is_compacted_again(tmp_path: Path) -> None:
    """Elisions and summaries are done again as they were, and every prompt is the same bytes."""
    path = tmp_path / "journal.db"
    script = [[uc.Call("get_account", {"account_id": str(k)})] for k in range(9)] + ["Done."]
    settings = {"context": CONTEXT, "loops": None}
    ids = [(await recorded(path, script, **settings)).turn_id for _ in range(2)]
    async with uc.Runtime(path) as rt:
        assert len(rt.trace(ids[1]).steps) > 15
    for turn_id in ids:
        found = await again(path, turn_id, loops=None)
        assert (found.same, found.prompts) == (True, 10), found.divergence


@pytest.mark.parametrize(
    ("changed", "what", "step", "now"),
    [
        ({"said": "!"}, "prompt", "model.1", "gold for 7!"),
        ({"extra": True}, "step", "model.1", "get_account"),
        ({"add": "!"}, "reply", "", "It is gold.!"),
        ({"twice": True}, "step", "model", "model"),
    ],
)
async def test_the_first_divergence_is_named(
    tmp_path: Path, changed: Any, what: str, step: str, now: str
) -> None:
    """Code that asks for something else, or says something else, is told apart from the record."""
    path = tmp_path / "journal.db"
    outcome = await recorded(path)
    found = await again(path, outcome.turn_id, handler(**changed))
    assert found.same is False
    assert found.divergence is not None
    assert found.divergence.what == what
    assert found.divergence.step.startswith(step.partition(".")[0])
    assert now in str(found.divergence)


async def test_other_tools_are_another_prompt(tmp_path: Path) -> None:
    """A prompt with other tools is not the one that was sent, though its messages are."""
    path = tmp_path / "journal.db"
    outcome = await recorded(path, ["Hello."])

    @uc.handler(tools=TOOLS[:1])
    async def assist(turn: uc.Turn, message: str) -> str:
        turn.context.user(message)
        return (await turn.model()).text

    found = await again(path, outcome.turn_id, assist)
    assert found.divergence is not None
    assert (found.divergence.what, found.divergence.step) == ("prompt", "model.1")
    assert "get_account" in str(found.divergence)


async def test_a_turn_that_waits_waits_again(tmp_path: Path) -> None:
    """What nobody has decided is asked again, and once decided and done it is met."""
    path = tmp_path / "journal.db"
    outcome = await recorded(path, [READ, SEND, "Sent."])
    assert outcome.status == "waiting"
    found = await again(path, outcome.turn_id)
    assert (found.same, found.ends, found.outcome.status) == (True, "parked", "waiting")
    async with uc.Runtime(
        path, model=ScriptedModel([READ, SEND, "Sent."]), targets=[handler()]
    ) as rt:
        await rt.approve(outcome.turn_id, by="ada")
    CALLED.clear()
    found = await again(path, outcome.turn_id)
    assert (found.same, found.ends, found.outcome.value) == (True, "ended", "Sent.")


@pytest.mark.parametrize("commits", range(1, 16))
async def test_a_turn_that_was_killed_is_replayed_as_far_as_it_came(commits: int) -> None:
    """Wherever its process died, the record is met up to there, and nothing is called."""
    journal = MemoryJournal()
    model = ScriptedModel([READ, WRITE, "It is gold."])
    with suppress(StoreError):
        async with uc.Runtime(CrashingStore(journal, crash_after=commits), model=model) as rt:
            await rt.run(handler(), message="gold for 7")
    store = MemoryStore(journal)
    (head,) = store.heads()
    CALLED.clear()
    found = await replay(store, head.turn_id, target=handler())
    assert not CALLED
    assert found.same, found.divergence
    assert found.ends == ("ended" if head.status.final else "cut off")


async def test_a_workflow_is_replayed_too(tmp_path: Path) -> None:
    """Steps of a graph are met by their names; its value is compared."""
    path = tmp_path / "journal.db"

    def made(tail: str = "") -> uc.Workflow:
        flow = uc.Workflow("renew")

        @flow.read("crm/{account}")
        async def record(account: str) -> list[str]:
            CALLED.append("record")
            return ["record", "of", account]

        @flow.gather(each="record")
        async def letters(letter: str) -> str:
            CALLED.append(letter)
            return letter.upper()

        @flow.confirm
        async def told(letters: list[str]) -> str:
            CALLED.append("told")
            return "".join(letters) + tail

        return flow

    async with uc.Runtime(path) as rt:
        outcome = await rt.run(made(), account="7")
    CALLED.clear()
    found = await again(path, outcome.turn_id, made("!"))
    assert (found.same, found.outcome.value) == (True, outcome.value)
    flow = made()

    @flow.confirm
    async def more() -> str:
        CALLED.append("more")
        return "more"

    found = await again(path, outcome.turn_id, flow)
    assert found.same is False


async def test_from_a_step_on_it_goes_on_live_without_effects(tmp_path: Path) -> None:
    """The model and reads are asked from there on; what changes the world is refused."""
    path = tmp_path / "journal.db"
    outcome = await recorded(path)
    before = path.read_bytes()
    model = ScriptedModel([READ, WRITE, "It is platinum."])
    found = await again(path, outcome.turn_id, from_step="model.4", model=model)
    assert (found.outcome.value, found.refused) == ("It is platinum.", ("set_tier",))
    assert CALLED == []
    assert len(model.requests) == 2
    assert [step.name for step in found.trace.steps][:3] == ["model", "get_account", "get_account"]
    refused = next(step for step in found.trace.steps if step.name == "set_tier")
    assert refused.refusal is not None
    assert refused.refusal.rule == "observability.rehearsal"
    assert path.read_bytes() == before
    found = await again(path, outcome.turn_id, from_step=1, effects=True, model=model)
    assert sorted(CALLED) == ["get 7", "get none", "set 7"]
    assert (found.outcome.value, found.refused) == ("It is platinum.", ())
    with pytest.raises(TurnNotFoundError, match=r"no step 'x'.*model\.1, get_account\.2"):
        await again(path, outcome.turn_id, from_step="x")


async def test_branches_are_met_in_any_order(tmp_path: Path) -> None:
    """Lines of code that ran side by side meet their own steps."""
    path = tmp_path / "journal.db"

    def made() -> Any:
        @uc.handler(tools=TOOLS)
        async def both(turn: uc.Turn) -> str:
            async def line(name: str) -> str:
                async with turn.branch(name) as branch:
                    branch.context.user(f"do {name}")
                    while (answer := await branch.model()).calls:
                        await branch.calls(answer.calls)
                    return str(answer.text)

            return " ".join(await asyncio.gather(line("a"), line("b")))

        return both

    model = ScriptedModel([[uc.Call("get_account", {"account_id": "7"})], "done"])
    async with uc.Runtime(path, model=model) as rt:
        outcome = await rt.run(made())
    CALLED.clear()
    for _ in range(3):
        found = await again(path, outcome.turn_id, made())
        assert found.same, found.divergence
        assert found.prompts == 4


async def test_a_redacted_turn_needs_its_secrets(tmp_path: Path) -> None:
    """Marks are no prompts: what was redacted is asked for, and given it the turn is the same."""
    path = tmp_path / "journal.db"

    def made() -> Any:
        @uc.handler(tools=TOOLS)
        async def login(turn: uc.Turn, password: str) -> str:
            turn.context.user(f"I am {password}")
            return (await turn.model()).text

        return login

    told = uc.Redaction(sealed=False)
    async with uc.Runtime(path, model=ScriptedModel(["Welcome."]), redaction=told) as rt:
        outcome = await rt.run(made(), password="Zx7LmN2b")  # noqa: S106  a made one
    with pytest.raises(RedactedError):
        await again(path, outcome.turn_id, made())
    found = await again(path, outcome.turn_id, made(), secrets=["Zx7LmN2b"])
    assert (found.same, found.prompts) == (True, 1)


async def test_code_that_swallows_errors_does_not_hide_a_divergence(tmp_path: Path) -> None:
    """A handler that catches everything cannot go on past what is not recorded."""
    path = tmp_path / "journal.db"
    outcome = await recorded(path)

    @uc.handler(tools=TOOLS)
    async def assist(turn: uc.Turn, message: str) -> str:
        turn.context.user(message)
        try:
            while (answer := await turn.model()).calls:
                await turn.calls(answer.calls)
            await turn.calls([uc.Call("set_tier", {"account_id": "8", "tier": "gold"})])
        except Exception:  # noqa: BLE001  as people write it
            return "It is gold."
        return "It is gold."

    found = await again(path, outcome.turn_id, assist)
    assert found.same is False
    assert "set_tier" in str(found.divergence)

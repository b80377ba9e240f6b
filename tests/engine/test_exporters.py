"""Whoever wants to know of turns is told of each life, once, and breaks nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import undercroft as uc
from undercroft.layers.observability.state import fold
from undercroft.model.event import decode_frames
from undercroft.model.turn import Told


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[Told] = []
        self.closed = 0

    def take(self, told: Told) -> None:
        """Keep it."""
        self.heard.append(told)

    async def close(self, timeout_s: float = 5.0) -> None:  # noqa: ARG002  as the port has it
        """Count."""
        self.closed += 1


class Broken(Listener):
    """Fails at everything it is told."""

    def take(self, told: Told) -> None:
        """Keep it, and fail."""
        super().take(told)
        msg = "no room"
        raise RuntimeError(msg)


@uc.tool(writes="crm/{account_id}", service="crm", approval=True)
async def set_tier(account_id: str, tier: str) -> str:
    """Set the tier."""
    return f"{account_id} is {tier}"


@uc.handler(tools=[set_tier])
async def assist(turn: uc.Turn, message: str) -> str:
    """Do as the model says."""
    turn.context.user(message)
    while (answer := await turn.model()).calls:
        await turn.calls(answer.calls)
    return answer.text


def scripted() -> uc.testing.ScriptedModel:
    """Return a model that proposes what a person must approve."""
    call = uc.Call("set_tier", {"account_id": "7", "tier": "gold"})
    return uc.testing.ScriptedModel([[call], "It is gold."])


@pytest.mark.parametrize("on_disk", [False, True])
async def test_each_life_is_told_once_and_whole(tmp_path: Path, *, on_disk: bool) -> None:
    """A turn that parks and is resumed elsewhere is told twice; the second time with both lives."""
    path = tmp_path / "journal.db" if on_disk else None
    listener = Listener()
    async with uc.Runtime(path, model=scripted(), exporters=[listener]) as rt:
        outcome = await rt.run(assist, message="gold, please")
        outcome = await rt.approve(outcome.turn_id, by="ada")
        trace = rt.trace(outcome.turn_id)
    assert listener.closed == 1
    first, second = listener.heard
    assert first.new_from == 0
    assert 0 < len(first.frames) <= second.new_from < len(second.frames)
    told = fold(decode_frames(second.frames))
    assert told is not None
    assert [(s.step_id, s.status) for s in told.steps] == [
        (s.step_id, s.status) for s in trace.steps
    ]
    assert (told.delivered, told.status) == ("It is gold.", "done")


async def test_one_that_fails_harms_neither_the_turn_nor_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A watcher that raises is logged, and everybody else is served."""
    broken, listener = Broken(), Listener()
    model = uc.testing.ScriptedModel(["Hello."])
    async with uc.Runtime(model=model, exporters=[broken, listener]) as rt:
        outcome = await rt.run(assist, message="hello")
    assert (outcome.status, outcome.value) == ("done", "Hello.")
    assert len(broken.heard) == len(listener.heard) == 1
    assert "failed on turn" in caplog.text


async def test_what_another_owner_kept_from_being_written_is_not_told(tmp_path: Path) -> None:
    """An intent that was denied is no frame of the turn."""
    listener, entered, leave = Listener(), asyncio.Event(), asyncio.Event()
    path, impatient = tmp_path / "journal.db", uc.Ownership(wait_s=0)

    def paying(*, slowly: bool) -> uc.Workflow:
        flow = uc.Workflow("pay")

        @flow.execute(writes="account/7")
        async def pay() -> str:
            if slowly:
                entered.set()
                await leave.wait()
            return "paid"

        return flow

    async with (
        uc.Runtime(path) as owner,
        uc.Runtime(path, ownership=impatient, exporters=[listener]) as other,
    ):
        first = asyncio.ensure_future(owner.run(paying(slowly=True)))
        await entered.wait()
        outcome = await other.run(paying(slowly=False))
        leave.set()
        await first
        assert outcome.status == "failed"
        trace = other.trace(outcome.turn_id)
    told = fold(decode_frames(listener.heard[0].frames))
    assert told is not None
    assert [step.status for step in told.steps] == [step.status for step in trace.steps]
    assert "ok" not in [step.status for step in told.steps]

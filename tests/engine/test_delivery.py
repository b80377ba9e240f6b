"""Whether the user was reached is a fact of the journal, said by who knows it."""

from __future__ import annotations

from pathlib import Path

import pytest

import undercroft as uc
from undercroft.errors import DecisionError, TurnNotFoundError
from undercroft.model.outcome import TurnStatus
from undercroft.queries import read_trace

flow = uc.Workflow("greet")


@flow.read()
async def name() -> str:
    """Return whom to greet."""
    return "Ada"


waiting = uc.Workflow("ask")


@waiting.approve
async def gate() -> bool:
    """Ask a person."""
    return True


@pytest.mark.parametrize("on_disk", [False, True])
async def test_nothing_is_said_until_somebody_says_it(tmp_path: Path, *, on_disk: bool) -> None:
    """What a turn returned is not what the user saw until the application says so."""
    path = tmp_path / "journal.db"
    async with uc.Runtime(path if on_disk else None) as rt:
        turn_id = (await rt.run(flow)).turn_id
        assert rt.trace(turn_id).delivery is None
        await rt.delivered(turn_id, reached=False, detail="the socket was closed")
        told = rt.trace(turn_id).delivery
        assert told is not None
        assert (told.status, told.detail) == ("failed", "the socket was closed")
        await rt.delivered(turn_id)
        trace = rt.trace(turn_id)
        assert trace.delivery is not None
        assert trace.delivery.status == "delivered"
        assert (trace.status, trace.delivered) == (TurnStatus.DONE, "Ada")
        assert (await rt.resume(turn_id)).value == "Ada"
    if on_disk:
        assert read_trace(str(path), turn_id) == trace


async def test_the_same_said_again_is_written_once() -> None:
    """A delivery that is reported twice is one fact."""
    async with uc.Runtime() as rt:
        turn_id = (await rt.run(flow)).turn_id
        await rt.delivered(turn_id, detail="m-1")
        first = rt.trace(turn_id).delivery
        await rt.delivered(turn_id, detail="m-1")
        assert rt.trace(turn_id).delivery == first


async def test_only_what_has_ended_can_be_delivered() -> None:
    """Nothing is said of a turn that still waits, or that there is not."""
    async with uc.Runtime() as rt:
        turn_id = (await rt.run(waiting)).turn_id
        with pytest.raises(DecisionError, match="has not ended"):
            await rt.delivered(turn_id)
        with pytest.raises(TurnNotFoundError, match="no such turn"):
            await rt.delivered("t-none")

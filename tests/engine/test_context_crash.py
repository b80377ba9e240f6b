"""Processes that die at every commit of a session: nothing is lost, asked twice, or different."""

from __future__ import annotations

from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import TIGHT, Talk, change, check_crashes, events, look, order_tools, talker
from undercroft.layers.context.policy import ContextPolicy
from undercroft.model.event import ContextCompacted

SMALL = ContextPolicy(limit_tokens=1600, reserved_tokens=100, pins=("Never promise a refund.",))
SCRIPTS: dict[str, Any] = {
    "look": [[look("#A1001")], "It is open."],
    "both": [[look("#A1002"), look("#A1003")], [change("#A1002", "shipped")], "Shipped."],
}
SAYS = [
    "look at #A1001 please, I am ada@example.com",
    "both #A1002 and #A1003",
    "look again",
    "both again",
]


@pytest.mark.parametrize(
    "summaries",
    [None, (None,), ("prose", "", ValueError("no"), None)],
    ids=["none", "ideal", "failing"],
)
async def test_a_session_survives_a_crash_at_every_commit(summaries: Any) -> None:
    """The model gets the prompts of the undisturbed session, each of them once."""
    talk = Talk(lambda: talker(order_tools()), SAYS, SCRIPTS, TIGHT, summaries)
    held = await check_crashes(talk)
    assert sum(len(events(held.store, o.turn_id, ContextCompacted)) for o in held.outcomes) > 1

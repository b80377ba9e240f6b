"""Minimums that can never be met fail where they are declared."""

from __future__ import annotations

import pytest

import undercroft as uc
from undercroft.errors import SettingError

LONG = "word after word " * 400


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_pins_that_leave_no_room_fail_at_declaration(share: float) -> None:
    """Pins count, and so does what a section is granted at least; alone and in a runtime."""
    granted = (uc.ContextShare(section="recent", priority=1, min_share=share),)
    limit = 8_000 if share else 600
    policy = uc.ContextPolicy(limit_tokens=limit, reserved_tokens=0, pins=(LONG,), shares=granted)
    with pytest.raises(SettingError, match="pins") as raised:
        uc.Context(policy)
    assert len(str(raised.value)) < 400
    with pytest.raises(SettingError, match="pins"):
        uc.Runtime(context=policy)


async def test_a_handler_s_pins_fail_before_its_turn_is_journaled() -> None:
    """Nothing is left behind that would be resumed for ever."""

    @uc.handler(context=uc.ContextPolicy(limit_tokens=600, reserved_tokens=0, pins=(LONG,)))
    async def assist(turn: uc.Turn) -> str:
        return turn.id

    async with uc.Runtime() as rt:
        with pytest.raises(SettingError, match="pins"):
            await rt.run(assist)
        assert rt.turns() == []


def test_pins_that_fit_are_no_error() -> None:
    """The same texts in a larger window."""
    policy = uc.ContextPolicy(limit_tokens=8_000, pins=(LONG,))
    assert uc.Context(policy).policy == policy

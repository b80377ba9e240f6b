"""What has nothing to do with each other runs together, and the rest in order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from undercroft.errors import SettingError
from undercroft.layers.parallelism.policy import Limits
from undercroft.layers.parallelism.state import Lane

Ticket = tuple[int, bool]


class Lanes(RuleBasedStateMachine):
    """A lane beside its definition.

    A ticket runs as soon as it is compatible with every running ticket and every earlier one
    that waits, and there is room. A ticket that runs alone is compatible with nobody.
    """

    lane: Lane[Ticket]

    @initialize(limit=st.integers(1, 4))
    def begin(self, limit: int) -> None:
        """Open a lane."""
        self.limit = limit
        self.lane = Lane(limit)
        self.count = 0
        self.running: list[Ticket] = []
        self.waiting: list[Ticket] = []
        self.ended: list[Ticket] = []
        self.withdrawn: list[Ticket] = []

    def due(self) -> list[Ticket]:
        """Move whoever may run now, by the definition, and return them in order."""
        started: list[Ticket] = []
        earlier: list[Ticket] = []
        for ticket in self.waiting:
            conflict = any(ticket[1] or other[1] for other in self.running + earlier)
            if conflict or len(self.running) >= self.limit:
                earlier.append(ticket)
            else:
                started.append(ticket)
                self.running.append(ticket)
        self.waiting = earlier
        return started

    @rule(alone=st.booleans())
    def ask(self, *, alone: bool) -> None:
        """A ticket asks to run."""
        ticket = (self.count, alone)
        self.count += 1
        self.waiting.append(ticket)
        assert ([ticket] if self.lane.ask(ticket, alone=alone) else []) == self.due()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Any of those that run comes to its end."""
        ticket = data.draw(st.sampled_from(self.running))
        self.running.remove(ticket)
        self.ended.append(ticket)
        assert self.lane.leave() == self.due()

    @rule()
    def withdraw(self) -> None:
        """Nothing more shall begin."""
        assert self.lane.withdraw() == self.waiting
        self.withdrawn += self.waiting
        self.waiting = []

    @invariant()
    def keep_the_rules(self) -> None:
        """Who runs alone runs alone; nobody exceeds the limit; nobody is forgotten."""
        if self.running and any(alone for _, alone in self.running):
            assert len(self.running) == 1
        assert len(self.running) <= self.limit
        assert self.lane.idle == (not self.running and not self.waiting)
        assert not self.waiting or self.running, "whoever waits is waited for"
        everybody = self.running + self.waiting + self.ended + self.withdrawn
        assert sorted(number for number, _ in everybody) == list(range(self.count))

    def teardown(self) -> None:
        """Let everybody come to an end: conflicting tickets began in the order of asking."""
        while self.running:
            self.ended.append(self.running.pop(0))
            assert self.lane.leave() == self.due()
        assert not self.waiting
        assert self.lane.idle


TestLanes = Lanes.TestCase
TestLanes.settings = settings(max_examples=200, stateful_step_count=40)


def test_nobody_overtakes_a_ticket_that_runs_alone() -> None:
    """A write that waits for reads is not starved by reads that come later."""
    lane: Lane[str] = Lane(9)
    assert lane.ask("read 1", alone=False)
    assert not lane.ask("write", alone=True)
    assert not lane.ask("read 2", alone=False)
    assert not lane.ask("read 3", alone=False)
    assert lane.leave() == ["write"]
    assert lane.leave() == ["read 2", "read 3"]


@pytest.mark.parametrize("turn_max", [0, -1, -(10**9)])
def test_a_turn_may_run_at_least_one_step(turn_max: Any) -> None:
    """A limit that would stop every turn is a bad setting."""
    with pytest.raises(SettingError, match=r"turn_max is .*; it must be at least 1"):
        Limits(turn_max=turn_max)
    assert Limits(turn_max=1).turn_max == 1

"""Places at a service: never more than there are, given out in the order of asking."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from undercroft.errors import SettingError
from undercroft.layers.parallelism.policy import Limits
from undercroft.layers.parallelism.state import Slots

LIMITS = {"one": 1, "three": 3}
NAMES = ["one", "three", "other", "any"]


class Places(RuleBasedStateMachine):
    """Slots beside two lists for each name: who has a place, and who waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: Slots[int] = Slots(LIMITS, 2)
        self.inside: dict[str, list[int]] = {name: [] for name in NAMES}
        self.outside: dict[str, list[int]] = {name: [] for name in NAMES}
        self.asked = 0

    @staticmethod
    def limit(name: str) -> int:
        """Return how many places there are."""
        return LIMITS.get(name, 2)

    @rule(name=st.sampled_from(NAMES))
    def ask(self, name: str) -> None:
        """Whoever asks gets a place at once, exactly if there is one left."""
        self.asked += 1
        free = len(self.inside[name]) < self.limit(name)
        assert self.slots.ask(name, self.asked) is free
        (self.inside if free else self.outside)[name].append(self.asked)

    @precondition(lambda self: any(self.inside.values()))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Who leaves gives the place to the one that has waited longest."""
        name = data.draw(st.sampled_from([n for n in NAMES if self.inside[n]]))
        self.inside[name].remove(data.draw(st.sampled_from(self.inside[name])))
        waits = self.outside[name]
        expected = waits.pop(0) if waits else None
        assert self.slots.leave(name) == expected
        if expected is not None:
            self.inside[name].append(expected)

    @precondition(lambda self: any(self.outside.values()))
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """Who waits no longer is passed over."""
        name = data.draw(st.sampled_from([n for n in NAMES if self.outside[n]]))
        asker = data.draw(st.sampled_from(self.outside[name]))
        self.outside[name].remove(asker)
        self.slots.withdraw(name, asker)

    @invariant()
    def never_more_than_there_are(self) -> None:
        """No more places are taken than there are."""
        for name in NAMES:
            assert self.slots.taken(name) == len(self.inside[name]) <= self.limit(name)
            assert not self.outside[name] or len(self.inside[name]) == self.limit(name)

    def teardown(self) -> None:
        """Whoever waits gets a place in the end, in turn, and then all are free."""
        for name in NAMES:
            waits = list(self.outside[name])
            told = [self.slots.leave(name) for _ in range(len(waits) + len(self.inside[name]))]
            assert [asker for asker in told if asker is not None] == waits
            assert self.slots.taken(name) == 0
            assert [self.slots.ask(name, n) for n in range(self.limit(name))] == [
                True
            ] * self.limit(name)


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=60, stateful_step_count=40)


def test_a_name_without_a_limit_has_room_for_all() -> None:
    """Where no limit was set, nobody waits and nothing is counted."""
    slots: Slots[int] = Slots({"one": 1})
    assert all(slots.ask("free", n) for n in range(1_000))
    assert slots.limit_of("free") is None
    assert slots.limit_of("one") == 1
    assert slots.leave("free") is None
    assert slots.taken("free") == 0


def test_names_do_not_touch_each_other() -> None:
    """A service that is full keeps nobody from another one."""
    slots: Slots[str] = Slots({}, 1)
    assert slots.ask("a", "first")
    assert not slots.ask("a", "second")
    assert slots.ask("b", "third")
    assert slots.leave("b") is None
    assert slots.leave("a") == "second"


@pytest.mark.parametrize("bad", [0, -1])
def test_there_is_at_least_one_place(bad: int) -> None:
    """A limit of no place at all would keep everybody waiting for ever, and is refused."""
    with pytest.raises(SettingError, match="turn_max"):
        Limits(turn_max=bad)
    with pytest.raises(SettingError, match="service_max"):
        Limits(service_max=bad)
    with pytest.raises(SettingError, match="crm"):
        Limits(services={"crm": bad})

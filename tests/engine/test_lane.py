"""The steps of one turn run in the order of asking where they conflict, else together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from undercroft.engine.lane import Lane, Place
from undercroft.layers.conflicts.keys import overlap
from undercroft.layers.conflicts.matrix import compatible
from undercroft.layers.conflicts.tree import Pairs

MODES = ["peek", "read", "append", "write", "exclusive"]
KEYS = ["", "a", "a/1", "a/1/x", "a/2", "a/*", "b"]

claims = st.lists(st.tuples(st.sampled_from(MODES), st.sampled_from(KEYS)), max_size=2).map(tuple)
index = st.integers(0, 40)


def conflict(one: Pairs, other: Pairs) -> bool:
    """Whether two steps may not run side by side."""
    return any(
        not compatible(mode, other_mode) and overlap(key, other_key)
        for (mode, key), (other_mode, other_key) in product(one, other)
    )


@dataclass(eq=False)
class Step:
    """What the model knows of a place: whether it waits, is ready, runs, stands or is gone."""

    claims: Pairs
    after: list[Step]
    place: Place = field(init=False)
    status: str = "waits"


class Beside:
    """A lane beside a list of all steps in the order of asking, which says what is right."""

    def __init__(self, limit: int) -> None:
        self.now_s = 0.0
        self.limit = limit
        self.lane = Lane(limit, lambda: self.now_s)
        self.line: list[Step] = []
        self.ready: list[Step] = []

    def having(self, *statuses: str) -> list[Step]:
        """Return the steps of some status, in the order of asking."""
        return [step for step in self.line if step.status in statuses]

    def blocked(self, step: Step) -> bool:
        """Whether an earlier step is in the way."""
        earlier = self.line[: self.line.index(step)]
        return any(o in step.after or conflict(o.claims, step.claims) for o in earlier)

    def follow(self) -> list[Step]:
        """Return who is admitted now: those that are free, in turn, as far as there is room."""
        for step in self.having("waits"):
            if not self.blocked(step):
                step.status = "ready"
                self.ready.append(step)
        admitted = []
        while self.ready and len(self.having("runs")) < self.limit:
            step = self.ready.pop(0)
            step.status = "runs"
            admitted.append(step)
        return admitted

    def check_admitted(self, told: Sequence[Place]) -> None:
        """Compare what the lane told with what follows."""
        assert list(told) == [step.place for step in self.follow()]

    def ask(self, claims: Pairs, after: Sequence[Step] = ()) -> Step:
        """Ask for a place."""
        self.now_s += 1.0
        step = Step(claims, [other for other in after if other in self.line])
        blocked = any(conflict(o.claims, claims) or o in step.after for o in self.line)
        full = len(self.having("runs")) >= self.limit or bool(self.ready)
        place = self.lane.ask(claims, step, "me", [o.place for o in after])
        step.place = place
        self.line.append(step)
        self.check_admitted([place] if place.admitted else [])
        assert place.present
        assert id(place.stands_for) == id(step)
        if not place.admitted:
            assert place.asked_s == self.now_s
            assert (place.claim == "limit turn_max") == (full and not blocked)
        return step

    def leave(self, step: Step) -> None:
        """End a step, or give up waiting."""
        if step in self.line:
            self.line.remove(step)
        if step in self.ready:
            self.ready.remove(step)
        step.status = "gone"
        told = self.lane.leave(step.place)
        assert not step.place.present
        self.check_admitted(told)

    def stand(self, step: Step) -> None:
        """Let a step that runs stand."""
        step.status = "stands"
        told = self.lane.stand(step.place)
        assert step.place.present
        self.check_admitted(told)

    def withdraw(self) -> None:
        """Take out all that wait."""
        waiting = self.having("waits", "ready")
        assert self.lane.withdraw() == [step.place for step in waiting]
        for step in waiting:
            self.line.remove(step)
            step.status = "gone"
            assert not step.place.present
        self.ready.clear()

    def check(self) -> None:
        """Compare what the lane says of itself with what the model knows."""
        runs = self.having("runs")
        assert self.lane.running == len(runs) <= self.limit
        assert self.lane.waiting == len(self.having("waits", "ready"))
        assert self.lane.idle == (not self.line)
        holding = self.having("runs", "stands")
        for at, step in enumerate(holding):
            assert step.place.admitted == (step.status == "runs")
            assert not any(conflict(step.claims, other.claims) for other in holding[:at])
        assert not any(step.place.admitted for step in self.having("waits", "ready"))

    def finish(self) -> None:
        """End what runs until all that is left waits for those that stand; then take that out."""
        while self.having("runs"):
            self.leave(self.having("runs")[0])
            self.check()
        for step in self.having("waits", "ready"):
            earlier = self.line[: self.line.index(step)]
            assert any(o in step.after or conflict(o.claims, step.claims) for o in earlier)
        self.withdraw()
        assert {step.status for step in self.line} <= {"stands"}
        for step in list(self.line):
            self.leave(step)
        assert self.lane.idle
        assert (self.lane.running, self.lane.waiting) == (0, 0)
        assert self.lane.ask((("exclusive", ""),)).admitted


class Steps(RuleBasedStateMachine):
    """Whatever the steps of a turn do, the lane admits whom the list admits."""

    def __init__(self) -> None:
        super().__init__()
        self.every: list[Step] = []
        self.beside = Beside(3)

    def some(self, *statuses: str) -> list[Step]:
        """Return the steps of some status."""
        return self.beside.having(*statuses)

    @rule(claims=claims, after=st.lists(index, max_size=2))
    def ask(self, claims: Pairs, after: list[int]) -> None:
        """A step runs at once if no earlier one is in its way and there is room."""
        earlier = [self.every[at % len(self.every)] for at in after if self.every]
        self.every.append(self.beside.ask(claims, earlier))

    @precondition(lambda self: self.every)
    @rule(at=index)
    def leave(self, at: int) -> None:
        """Who ends, or gives up, makes room; once more does nothing."""
        self.beside.leave(self.every[at % len(self.every)])

    @precondition(lambda self: self.some("runs"))
    @rule(at=index)
    def stand(self, at: int) -> None:
        """Who stands makes room for others, and not for those that it conflicts with."""
        runs = self.some("runs")
        self.beside.stand(runs[at % len(runs)])

    @precondition(lambda self: self.some("stands") and not self.some("runs"))
    @rule()
    def withdraw(self) -> None:
        """Where nothing runs, whoever waits for those that stand need not wait."""
        self.beside.withdraw()

    @invariant()
    def nothing_is_wrong(self) -> None:
        """No two conflicting steps run or stand, and no more run than may."""
        self.beside.check()

    def teardown(self) -> None:
        """Every step ends or is told that it waits for a decision; then nothing is left."""
        self.beside.finish()


TestSteps = Steps.TestCase
TestSteps.settings = settings(max_examples=120, stateful_step_count=40)


@pytest.mark.parametrize("limit", [1, 2, 64])
@pytest.mark.parametrize("seed", range(4))
def test_long_turns(limit: int, seed: int) -> None:
    """A turn of many steps, of which some stand, is the same at any limit."""
    chance = random.Random(seed)  # noqa: S311
    beside = Beside(limit)
    for _ in range(400):
        runs = beside.having("runs")
        what = chance.random()
        if runs and what < 0.3:
            beside.leave(chance.choice(runs))
        elif runs and what < 0.32:
            beside.stand(chance.choice(runs))
        elif beside.line and what < 0.38:
            beside.leave(chance.choice(beside.line))
        elif len(beside.line) < chance.randrange(1, 60):
            beside.ask(tuple((chance.choice(MODES), chance.choice(KEYS)) for _ in "ab"))
        if beside.line and not beside.having("runs"):
            beside.withdraw()
            beside.leave(chance.choice(beside.line))
        beside.check()
    beside.finish()


def test_a_step_that_stands_holds_only_what_conflicts() -> None:
    """While somebody decides about one write, other accounts go on, and this one waits."""
    lane = Lane(2, lambda: 0.0)
    first = lane.ask((("write", "crm/7"),), who="put.1")
    assert lane.stand(first) == []
    other = lane.ask((("write", "crm/8"),))
    third = lane.ask((("write", "crm/9"),))
    same = lane.ask((("read", "crm/7/notes"),))
    assert (other.admitted, third.admitted, same.admitted) == (True, True, False)
    assert (same.claim, same.behind) == ("read crm/7/notes", "put.1")
    assert [*lane.leave(other), *lane.leave(third)] == []
    assert lane.withdraw() == [same]
    assert not lane.idle
    assert lane.leave(first) == []
    assert lane.idle


def test_who_waits_can_say_for_whom() -> None:
    """A place that waits names its own claim, and the step that has it."""
    lane = Lane(2, lambda: 5.0)
    first = lane.ask((("write", "crm/7"),), who="put.1")
    second = lane.ask((("read", "mail"), ("read", "crm")), who="get.2")
    third = lane.ask((("read", "news"),))
    fourth = lane.ask((("read", "news"),))
    assert [p.admitted for p in (first, second, third, fourth)] == [True, False, True, False]
    assert (second.claim, second.behind, second.asked_s) == ("read crm", "put.1", 5.0)
    assert (fourth.claim, fourth.behind) == ("limit turn_max", "")
    assert lane.leave(first) == [fourth]  # it has been ready for longer
    assert lane.leave(third) == [second]


def test_a_step_may_come_after_others_that_it_has_nothing_to_do_with() -> None:
    """A step that needs the result of another one waits for it, whatever they claim."""
    lane = Lane(9, lambda: 0.0)
    one = lane.ask((("read", "a"),))
    two = lane.ask((("read", "b"),))
    three = lane.ask((("read", "c"),), after=[one, two])
    free = lane.ask((("write", "c/1/x"),))
    assert (three.admitted, free.admitted) == (False, False)
    assert lane.leave(one) == []
    assert lane.leave(two) == [three]
    assert lane.leave(three) == [free]
    gone = lane.ask((("read", "d"),), after=[one])
    assert gone.admitted

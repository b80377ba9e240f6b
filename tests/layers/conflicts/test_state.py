"""The claim table gives out claims as a list that is searched from its beginning would."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from types import FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from undercroft.layers.conflicts.keys import overlap, within
from undercroft.layers.conflicts.matrix import compatible
from undercroft.layers.conflicts.state import ClaimTable
from undercroft.layers.conflicts.tree import Pairs, Ticket
from undercroft.model.effect import Mode

MODES = [str(mode) for mode in Mode]
KEYS = [
    "",
    "*",
    "*/1",
    "*/*/x",
    "a",
    "a/*",
    "a/*/x",
    "a/1",
    "a/1/x",
    "a/1/y",
    "a/10",
    "a/2",
    "a/2/x",
    "b",
    "b/1",
    "b/1/x/y",
]

# As the design has it: which modes go together.
TOGETHER = {
    ("peek", "peek"),
    ("peek", "read"),
    ("peek", "append"),
    ("peek", "write"),
    ("read", "read"),
    ("append", "append"),
}

claims = st.lists(st.tuples(st.sampled_from(MODES), st.sampled_from(KEYS)), max_size=3).map(tuple)
place = st.integers(0, 60)


def conflict(one: Pairs, other: Pairs) -> bool:
    """Whether two lists of claims may not be held together."""
    return any(
        not compatible(mode, other_mode) and overlap(key, other_key)
        for (mode, key), (other_mode, other_key) in product(one, other)
    )


@dataclass(eq=False)
class Asked:
    """What the model knows of a ticket."""

    ticket: Ticket
    after: list[Asked] = field(default_factory=list)
    present: bool = True
    was_granted: bool = False

    @property
    def claims(self) -> Pairs:
        """What it claims now."""
        return self.ticket.claims


class Beside:
    """A claim table beside a list of tickets in the order of asking, which says what is right."""

    def __init__(self) -> None:
        self.table = ClaimTable()
        self.line: list[Asked] = []
        self.every: list[Asked] = []

    def blockers(self, one: Asked) -> list[Asked]:
        """Return who keeps `one` waiting."""
        earlier = self.line[: self.line.index(one)]
        return [
            other for other in earlier if other in one.after or conflict(other.claims, one.claims)
        ]

    def check_granted(self, told: list[Ticket]) -> None:
        """Compare what the table told with what the model finds, and in which order."""
        granted = [one for one in self.line if one.was_granted or not self.blockers(one)]
        assert told == [one.ticket for one in granted if not one.was_granted]
        for one in granted:
            one.was_granted = True

    def ask(self, claims: Pairs, after: Sequence[Asked] = ()) -> Asked:
        """Ask for a ticket that is granted exactly when no earlier one is in its way."""
        stands_for = object()
        ticket = self.table.ask(claims, stands_for, [other.ticket for other in after])
        one = Asked(ticket, [other for other in after if other.present])
        self.line.append(one)
        self.every.append(one)
        assert ticket.stands_for is stands_for
        assert ticket.present
        self.check_granted([ticket] if ticket.granted else [])
        return one

    def release(self, one: Asked) -> None:
        """Release a ticket, which makes room for exactly those that it kept waiting."""
        if one.present:
            self.line.remove(one)
        one.present = False
        told = self.table.release(one.ticket)
        assert not one.ticket.present
        assert not one.ticket.granted
        self.check_granted(told)

    def narrow(self, one: Asked, place: int, new: str) -> None:
        """Let a ticket claim less; who fits into what it let go of is granted."""
        before = list(one.claims)
        claim = mode, old = before[place]
        if not within(new, old):
            with pytest.raises(ValueError, match="never widens"):
                self.table.narrow(one.ticket, claim, new)
            assert list(one.claims) == before
            self.check_granted([])
            return
        told = self.table.narrow(one.ticket, claim, new)
        assert list(one.claims) == [(mode, new) if each == claim else each for each in before]
        self.check_granted(told)

    def check(self) -> None:
        """Compare what all tickets say of themselves with what the model finds."""
        assert len(self.table) == len(self.line)
        holders = [one.claims for one in self.line if one.ticket.granted]
        for at, claims in enumerate(holders):
            assert not any(conflict(claims, other) for other in holders[:at])
        for one in self.line:
            assert one.ticket.granted == one.was_granted
            if one.ticket.granted:
                assert one.ticket.behind is None
            else:
                assert one.ticket.behind in [other.ticket for other in self.blockers(one)]

    def finish(self, chance: random.Random) -> None:
        """Release holders until nobody is left: as long as anybody waits, somebody holds."""
        while self.line:
            holders = [one for one in self.line if one.ticket.granted]
            assert holders
            self.release(chance.choice(holders))
        assert len(self.table) == 0
        assert kept(self.table) == kept(ClaimTable())


class Table(RuleBasedStateMachine):
    """Whatever is asked of a claim table, it answers as the list does."""

    def __init__(self) -> None:
        super().__init__()
        self.beside = Beside()

    @rule(claims=claims, after=st.lists(place, max_size=2))
    def ask(self, claims: Pairs, after: list[int]) -> None:
        """A ticket is granted exactly when no earlier one that is present conflicts with it."""
        every = self.beside.every
        self.beside.ask(claims, [every[at % len(every)] for at in after if every])

    @precondition(lambda self: self.beside.every)
    @rule(at=place)
    def release(self, at: int) -> None:
        """Who goes, holding or waiting, makes room; going once more does nothing."""
        every = self.beside.every
        self.beside.release(every[at % len(every)])

    @precondition(lambda self: self.beside.line)
    @rule(places=st.lists(place, min_size=1, max_size=4))
    def release_several(self, places: list[int]) -> None:
        """Whoever goes in a row leaves the others as if one had gone after the other."""
        line = self.beside.line
        for at in places:
            if line:
                self.beside.release(line[at % len(line)])

    @precondition(lambda self: self.beside.line)
    @rule(at=place, claim=st.integers(0, 2), new=st.sampled_from(KEYS))
    def narrow(self, at: int, claim: int, new: str) -> None:
        """A ticket, holding or waiting, may claim less, never more."""
        one = self.beside.line[at % len(self.beside.line)]
        if one.claims:
            self.beside.narrow(one, claim % len(one.claims), new)

    @invariant()
    def nothing_is_wrong(self) -> None:
        """No two holders are incompatible, and who waits knows for whom."""
        self.beside.check()

    def teardown(self) -> None:
        """Every waiter ends, and then nothing is left."""
        self.beside.finish(random.Random(len(self.beside.every)))  # noqa: S311


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=120, stateful_step_count=40)


def reachable(start: object) -> Iterator[object]:
    """Yield whatever `start` keeps alive."""
    todo, seen = [start], {id(start)}
    while todo:
        found = todo.pop()
        yield found
        for other in gc.get_referents(found):
            if id(other) not in seen and not isinstance(other, type | ModuleType | FunctionType):
                seen.add(id(other))
                todo.append(other)


def kept(table: ClaimTable) -> tuple[int, int]:
    """Return how many tickets a table keeps alive, and how much stands in all its collections."""
    found = list(reachable(table))
    return (
        sum(isinstance(one, Ticket) for one in found),
        sum(len(one) for one in found if isinstance(one, dict | list | set)),
    )


def effort(work: Callable[[], object]) -> int:
    """Return how many instructions of Python `work` takes: the same on every machine."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def drain(table: ClaimTable, tickets: Sequence[Ticket]) -> None:
    """Release tickets that wait for each other, each as soon as it holds."""
    for ticket in tickets:
        assert ticket.granted
        table.release(ticket)
    assert len(table) == 0


def queue(keys: Sequence[str], modes: Sequence[str], size: int) -> tuple[ClaimTable, list[Ticket]]:
    """Return a table in which so many tickets claim `keys` by turns."""
    table = ClaimTable()
    pairs = [(modes[at % len(modes)], keys[at % len(keys)]) for at in range(size)]
    return table, [table.ask((pair,)) for pair in pairs]


# Examples


@pytest.mark.parametrize(("held", "asked"), list(product(MODES, MODES)))
def test_modes_go_together_as_designed(held: str, asked: str) -> None:
    """Which modes go together is as in the design, whoever came first."""
    table = ClaimTable()
    table.ask(((held, "k"),))
    expected = (held, asked) in TOGETHER or (asked, held) in TOGETHER
    assert table.ask(((asked, "k"),)).granted is expected
    assert compatible(held, asked) is compatible(asked, held) is expected


@pytest.mark.parametrize(
    ("held", "asked", "free"),
    [
        ("a", "a/1/x", False),
        ("a/1/x", "a", False),
        ("a/1", "a/10", True),
        ("a/1", "a/2", True),
        ("", "a", False),
        ("a", "", False),
        ("a/*", "a/1/x", False),
        ("a/1/x", "a/*", False),
        ("a/*/x", "a/1/y", True),
        ("a/*/x", "a/1", False),
        ("*", "b/1", False),
        ("*/1", "b/2", True),
        ("*/1", "b", False),
        ("*/1", "*/2", True),
    ],
)
def test_a_key_covers_its_subtree(held: str, asked: str, free: bool) -> None:  # noqa: FBT001
    """A claim covers what lies below its key; `*` is any one segment, no key is everything."""
    table = ClaimTable()
    table.ask((("write", held),))
    assert table.ask((("write", asked),)).granted is free


def test_claims_of_one_ticket_do_not_meet() -> None:
    """A ticket is never in its own way, whatever it claims."""
    table = ClaimTable()
    every = tuple((mode, key) for mode in MODES for key in KEYS)
    ticket = table.ask(every)
    assert ticket.granted
    table.release(ticket)
    assert kept(table) == kept(ClaimTable())


def test_all_or_nothing() -> None:
    """Who waits for one of its claims holds none of the others, and still keeps its turn."""
    table = ClaimTable()
    first = table.ask((("write", "a"),))
    both = table.ask((("write", "a"), ("write", "b")))
    later = table.ask((("write", "b"),))
    assert (first.granted, both.granted, later.granted) == (True, False, False)
    assert table.release(both) == [later]
    assert table.release(first) == []


def test_nobody_barges() -> None:
    """A read that would fit beside the holders waits for the write that asked before it."""
    table = ClaimTable()
    reader = table.ask((("read", "a/1"),))
    writer = table.ask((("write", "a"),))
    late = table.ask((("read", "a/1"),))
    beside = table.ask((("read", "b"),))
    assert [t.granted for t in (reader, writer, late, beside)] == [True, False, False, True]
    assert (writer.behind, late.behind) == (reader, writer)
    assert table.release(reader) == [writer]
    assert table.release(writer) == [late]


def test_releasing_twice_does_nothing() -> None:
    """A ticket that is gone is left alone."""
    table = ClaimTable()
    one = table.ask((("write", "a"),))
    table.release(one)
    two = table.ask((("write", "a"),))
    assert table.release(one) == []
    assert two.granted
    assert len(table) == 1


def test_narrowing_what_is_not_claimed_is_refused() -> None:
    """Only what a ticket claims, and while it does, can be narrowed."""
    table = ClaimTable()
    one = table.ask((("write", "a"),))
    with pytest.raises(ValueError, match="does not claim"):
        table.narrow(one, ("write", "b"), "b/1")
    with pytest.raises(ValueError, match="does not claim"):
        table.narrow(one, ("read", "a"), "a/1")
    assert one.claims == (("write", "a"),)
    table.release(one)
    with pytest.raises(ValueError, match="does not claim"):
        table.narrow(one, ("write", "a"), "a/1")


def test_claims_are_narrowed_a_pair_at_a_time() -> None:
    """Another claim on the same key, in another mode, stays as it is."""
    table = ClaimTable()
    one = table.ask((("read", "a"), ("append", "a")))
    assert table.narrow(one, ("append", "a"), "a/1") == []
    assert list(one.claims) == [("read", "a"), ("append", "a/1")]
    late = [table.ask((("read", key),)) for key in ("a/2", "a/1")]
    assert [ticket.granted for ticket in late] == [True, False]
    assert table.narrow(one, ("append", "a/1"), "a/1/x") == []
    assert table.narrow(one, ("append", "a/1/x"), "a/1/x") == []
    assert table.release(one) == [late[1]]


def test_a_waiting_ticket_may_narrow_itself_free() -> None:
    """Who waits for what it turns out not to want waits no more."""
    table = ClaimTable()
    table.ask((("write", "a/1"),))
    waiting = table.ask((("write", "a"),))
    assert table.narrow(waiting, ("write", "a"), "a/2") == [waiting]
    assert waiting.granted
    assert waiting.behind is None


def test_who_narrows_itself_free_comes_first() -> None:
    """Who narrows and those that waited for it are granted in the order of asking."""
    table = ClaimTable()
    table.ask((("write", "a/1"),))
    waiting = table.ask((("write", "a"),))
    late = table.ask((("write", "a/3"),))
    assert late.behind is waiting
    assert table.narrow(waiting, ("write", "a"), "a/2") == [waiting, late]


def test_who_still_waits_after_narrowing_keeps_its_turn() -> None:
    """Narrowing while waiting costs no place in the queue, and lets in who need not wait."""
    table = ClaimTable()
    first = table.ask((("write", "a/1"),))
    waiting = table.ask((("write", "a"),))
    beside, behind = (table.ask((("write", key),)) for key in ("a/2", "a/1/x"))
    assert table.narrow(waiting, ("write", "a"), "a/1") == [beside]
    assert (waiting.granted, waiting.behind) == (False, first)
    assert table.release(first) == [waiting]
    assert table.release(waiting) == [behind]


def test_a_mode_that_there_is_not_leaves_nothing() -> None:
    """What cannot be claimed is refused, and counts as never asked."""
    table = ClaimTable()
    for key in ("a", "*", ""):
        with pytest.raises((KeyError, ValueError)):
            table.ask((("write", key), ("borrow", key)))
    assert len(table) == 0
    assert table.ask((("exclusive", ""),)).granted


# Crowds and calms


@pytest.mark.parametrize("busy", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_crowds_come_and_go(seed: int, busy: float) -> None:
    """However long nobody was in anybody's way, and however long somebody was, it is the same."""
    chance = random.Random(seed)  # noqa: S311
    beside = Beside()
    for _ in range(3_000):
        if len(beside.line) > chance.randrange(1, 20):
            beside.release(chance.choice(beside.line))
        elif chance.random() < busy:
            one = beside.ask(tuple((chance.choice(MODES), chance.choice(KEYS)) for _ in "ab"))
            if one.ticket.granted and chance.random() < busy:
                _, old = one.claims[0]
                beside.narrow(one, 0, chance.choice([key for key in KEYS if within(key, old)]))
        else:
            key = f"calm/{chance.randrange(1_000_000)}"
            beside.ask((("write", key), ("read", f"{key}/x"), ("read", "calm/all")))
    beside.check()
    beside.finish(chance)


def test_there_may_be_any_number_of_holders() -> None:
    """More may hold what goes together than any counter of two bytes could count."""
    table = ClaimTable()
    readers = [table.ask((("read", "k/1"),)) for _ in range(70_000)]
    writers = [table.ask((("write", key),)) for key in ("k", "k/1", "k/1/x")]
    other = table.ask((("append", "k/2"),))
    assert all(reader.granted for reader in readers)
    assert not any(ticket.granted for ticket in (*writers, other))
    for reader in readers[:-1]:
        assert not table.release(reader)
    assert table.release(readers[-1]) == [writers[0]]
    assert table.release(writers[0]) == [writers[1], other]
    assert table.release(other) == []
    assert table.release(writers[1]) == [writers[2]]
    assert table.release(writers[2]) == []
    assert kept(table) == kept(ClaimTable())


@pytest.mark.parametrize("tickets", [1_023, 1_024, 1_025, 1_026])
def test_no_number_of_tickets_makes_a_difference(tickets: int) -> None:
    """However many hold, whether their claims are counted or not, it is the same."""
    table = ClaimTable()
    holders = [table.ask((("write", f"k/{at}"), ("read", "all"))) for at in range(tickets)]
    assert all(holder.granted for holder in holders)
    whole = table.ask((("read", "k"),))
    assert table.narrow(holders[0], ("write", "k/0"), "k/0/x") == []
    late = table.ask((("write", "k/0/y"),))
    assert (whole.granted, late.granted) == (False, False)
    for holder in holders[1:]:
        assert table.release(holder) == []
    assert table.release(whole) == [late]
    assert table.release(late) == []
    for at in range(300):  # long enough for a calm
        assert table.release(table.ask((("write", f"k/{at + 1}"),))) == []
    assert not table.ask((("write", "k/0/x/z"),)).granted
    again = table.ask((("read", "all"),))
    assert again.granted
    assert len(table) == 3


@pytest.mark.parametrize("tickets", [1_023, 1_024, 1_025, 2_000])
@pytest.mark.parametrize("pairs", [(), (("read", "k/1"),)])
def test_a_calm_with_many_tickets_changes_nothing(tickets: int, pairs: Pairs) -> None:
    """After a crowd has gone, what many tickets hold is still held, be it nothing."""
    table = ClaimTable()
    holders = [table.ask(pairs) for _ in range(tickets)]
    first, second = (table.ask((("write", "j"),)) for _ in "ab")
    assert table.release(first) == [second]
    assert table.release(second) == []
    for at in range(600):
        assert table.release(table.ask((("write", f"j/{at}"),))) == []
    last = table.ask((("write", "k"),))
    assert last.granted is (pairs == ())
    for holder in holders[1:]:
        assert table.release(holder) == []
    assert table.release(holders[0]) == ([last] if pairs else [])
    assert table.release(last) == []
    assert kept(table) == kept(ClaimTable())


@pytest.mark.parametrize("size", [1_023, 1_024, 1_025])
def test_a_calm_with_many_claims_changes_nothing(size: int) -> None:
    """After a crowd has gone, what many claims of one ticket hold is still held."""
    table = ClaimTable()
    holder = table.ask(tuple(("write", f"k/{at}") for at in range(size)))
    crowd = table.ask((("write", "k"),))
    assert not crowd.granted
    assert table.release(crowd) == []
    for at in range(600):
        assert table.release(table.ask((("write", f"j/{at}"),))) == []
    waiting = [table.ask((("peek", f"k/{size - 1}"),)), table.ask((("read", f"k/{size - 1}/x"),))]
    assert [ticket.granted for ticket in waiting] == [True, False]
    assert table.release(holder) == [waiting[1]]
    for ticket in waiting:
        assert table.release(ticket) == []
    assert kept(table) == kept(ClaimTable())


@pytest.mark.parametrize("tickets", [63, 64, 65])
def test_no_number_of_holders_is_taken_for_none(tickets: int) -> None:
    """Around the number that no longer fits into two bytes, readers keep a writer waiting."""
    for mode, key in (("append", "k/1"), ("append", "k"), ("write", "k/1/x")):
        table = ClaimTable()
        for _ in range(tickets):
            assert table.ask((("read", "k/1"),) * 1_024).granted
        assert not table.ask(((mode, key),)).granted


def test_the_cost_does_not_grow_with_what_was_held_once() -> None:
    """After more claims than could be held at once, asking and releasing cost what they did."""
    table = ClaimTable()
    table.ask((("read", "other"),))

    def once() -> None:
        table.release(table.ask((("write", "k/1"),) * 1_024))

    once()
    first = effort(once)
    for _ in range(80):
        once()
    assert effort(once) <= first


# Nothing leaks


@given(seed=st.integers(0, 2**32), size=st.integers(1, 60))
def test_cancelling_anywhere_leaves_nothing(seed: int, size: int) -> None:
    """In whatever order holders and waiters go, an empty table keeps nothing of them."""
    chance = random.Random(seed)  # noqa: S311
    table = ClaimTable()
    tickets = [
        table.ask(tuple((chance.choice(MODES), chance.choice(KEYS)) for _ in range(2)))
        for _ in range(size)
    ]
    chance.shuffle(tickets)
    for left, ticket in enumerate(tickets, start=1 - size):
        table.release(ticket)
        assert len(table) == -left
    assert kept(table) == kept(ClaimTable())


def test_a_holder_keeps_nothing_of_those_who_gave_up() -> None:
    """However many waited for a holder in vain, they are forgotten while it still holds."""
    table = ClaimTable()
    table.ask((("write", "k"),))
    for _ in range(500):
        table.release(table.ask((("write", "k"),)))
    assert kept(table)[0] < 50


def test_a_ticket_keeps_nothing_of_those_that_it_came_after() -> None:
    """A long line of tickets, each after the one before, keeps only those that are there."""
    table = ClaimTable()
    last = table.ask((("write", "k"),))
    for _ in range(100):
        following = table.ask((("write", "k"),), None, [last])
        table.release(last)
        last = following
    assert kept(table)[0] < 10


# It takes no longer than it must


@pytest.mark.parametrize(
    ("keys", "modes"),
    [
        pytest.param(["k"], ["write"], id="writers"),
        pytest.param(["k"], ["read", "write"], id="readers-and-writers"),
        pytest.param(["k"], ["read", "read", "read", "append", "append"], id="groups"),
        pytest.param(["k", "k/1", "k", "k/2/x"], ["write"], id="hierarchy"),
        pytest.param(["", "k/1", "j/1"], ["exclusive"], id="everything"),
    ],
)
def test_a_queue_drains_in_linear_time(keys: list[str], modes: list[str]) -> None:
    """A queue four times as long takes four times as long to drain."""
    short, long = (
        effort(lambda size=size: drain(*queue(keys, modes, size)))  # type: ignore[misc]
        for size in (150, 600)
    )
    assert long < 4.4 * short


@pytest.mark.parametrize("share", [2, 3, 10])
def test_a_queue_drains_in_linear_time_after_cancellations(share: int) -> None:
    """Who gave up in the middle of a queue makes its rest no slower to drain."""

    def work(size: int) -> int:
        table, tickets = queue(["k"], ["write"], size)
        for ticket in tickets[1::share]:
            table.release(ticket)
        rest = [ticket for ticket in tickets if ticket.present]
        return effort(lambda: drain(table, rest))

    assert work(600) < 4.4 * work(150)


@pytest.mark.parametrize("backwards", [False, True])
def test_giving_up_is_linear(backwards: bool) -> None:  # noqa: FBT001
    """A queue of which everybody gives up, from either end, takes time in its length."""

    def work(size: int) -> int:
        table, tickets = queue(["k"], ["write"], size)
        return effort(
            lambda: [table.release(t) for t in (reversed(tickets) if backwards else tickets)]
        )

    assert work(600) < 4.4 * work(150)


def held(size: int, *, crowd: bool = False) -> ClaimTable:
    """Return a table in which so many claims are held, next to each other.

    In a `crowd`, there is somebody who waits for what nobody else wants.
    """
    table = ClaimTable()
    for _ in range(2 * crowd):
        table.ask((("write", "crowd"),))
    for at in range(size):
        table.ask((("write", f"crm/{at}/notes"), ("read", f"mail/{at}")))
    return table


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize(
    "claim", [("write", "crm/new/notes"), ("write", "crm/7/letters"), ("read", "mail/7/x")]
)
def test_the_cost_does_not_grow_with_what_others_hold(
    claim: tuple[str, str],
    crowd: bool,  # noqa: FBT001
) -> None:
    """Asking and releasing cost the same beside ten claims and beside a thousand."""

    def work(size: int) -> int:
        table = held(size, crowd=crowd)

        def once() -> None:
            ticket = table.ask((claim,))
            assert ticket.granted
            table.release(ticket)

        once()  # what is remembered of a key does not count
        return effort(once)

    assert work(1_000) <= work(10)


@pytest.mark.parametrize("size", [800, 8_000])
def test_the_cost_in_a_calm_does_not_grow_with_what_others_hold(size: int) -> None:
    """Over many turns too: looking whether the crowd is gone is no work for each holder."""

    def work(size: int) -> int:
        table = held(size)

        def often() -> None:
            for _ in range(300):
                table.release(table.ask((("write", "crm/new/notes"),)))

        often()
        return effort(often)

    assert work(size) <= 1.5 * work(2_000)


@pytest.mark.parametrize("crowd", [False, True])
def test_narrowing_does_not_grow_with_what_others_hold(crowd: bool) -> None:  # noqa: FBT001
    """Narrowing costs the same beside ten claims and beside a thousand that came before."""

    def work(size: int) -> int:
        table = held(size, crowd=crowd)
        ticket = table.ask((("write", "crm/new"),))
        return effort(lambda: table.narrow(ticket, ("write", "crm/new"), "crm/new/notes"))

    work(1)  # what is remembered of a key does not count
    assert work(1_000) <= 1.2 * work(10)


@pytest.mark.parametrize("crowd", [False, True])
def test_narrowing_costs_time_in_those_that_came_later_at_most(crowd: bool) -> None:  # noqa: FBT001
    """Narrowing beside four times as many who asked later takes four times as long at most."""

    def work(size: int) -> int:
        table = held(1, crowd=crowd)
        ticket = table.ask((("write", "crm/new"),))
        for at in range(size):
            assert table.ask((("write", f"crm/{at}/letters"),)).granted
        return effort(lambda: table.narrow(ticket, ("write", "crm/new"), "crm/new/notes"))

    work(1)
    assert work(800) <= (4.4 * work(200) if crowd else work(200))

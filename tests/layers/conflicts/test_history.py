"""The offline checker: nothing wrong is found in serial histories, and all that is planted is."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.errors import SettingError
from undercroft.layers.conflicts.anomalies import Anomaly
from undercroft.layers.conflicts.audit import audit
from undercroft.layers.conflicts.history import (
    GivenUp,
    Handed,
    Mark,
    Operation,
    Overlaps,
    Rechecked,
    Record,
    TakenOver,
)
from undercroft.layers.conflicts.keys import overlap
from undercroft.layers.conflicts.matrix import compatible
from undercroft.model.effect import Mode

KEYS = [
    "",
    "a",
    "a/1",
    "a/2",
    "a/1/x",
    "a/1/y",
    "a/*",
    "a/*/x",
    "*/1",
    "b",
    "b/1",
    "*/*/x",
    "c/d/e",
]
MODES = [str(mode) for mode in Mode]
CHANGING = ("append", "write", "exclusive")
WRITING = ("write", "exclusive")


@dataclass(frozen=True)
class Draft:
    """An operation, or the end of a turn where it has no mode, without its place in time."""

    turn: str
    mode: str = ""
    key: str = ""
    ok: bool = True
    version: str = ""
    branch: str = ""
    lasts: int = 5


class Story:
    """Drafts, one after another, ten ticks each."""

    def __init__(self, drafts: Sequence[Draft | Mark]) -> None:
        self.records: list[Record] = []
        self.ops: dict[int, Operation] = {}
        numbers: dict[str, int] = {}
        for place, draft in enumerate(drafts):
            if not isinstance(draft, Draft):
                kind: Any = type(draft)
                fields = {name: getattr(draft, name) for name in draft.__struct_fields__}
                self.records.append(kind(**fields | {"at": 10 * place}))
                continue
            if not draft.mode:
                self.records.append(GivenUp(draft.turn, 10 * place))
                continue
            n = numbers[draft.turn] = numbers.get(draft.turn, 0) + 1
            op = Operation(
                draft.turn,
                n,
                "get" if draft.version else "do",
                draft.mode,
                draft.key,
                10 * place,
                10 * place + draft.lasts,
                draft.ok,
                draft.branch,
                version=draft.version,
                source="get" if draft.version else "",
            )
            self.ops[place] = op
            self.records.append(op)

    def steps(self, *places: int) -> tuple[tuple[str, str], ...]:
        """Return the steps at some places."""
        return tuple(self.ops[place].step for place in places)


def rules(anomalies: list[Anomaly]) -> set[str]:
    """Return the rules of anomalies."""
    return {anomaly.rule for anomaly in anomalies}


@st.composite
def serial(draw: st.DrawFn) -> list[Draft]:
    """Turns, one after another, each with any operations; reads see versions that are true."""
    drafts: list[Draft] = []
    changed: list[str] = []
    for number in range(draw(st.integers(0, 6))):
        turn = f"t{number}"
        for _ in range(draw(st.integers(1, 6))):
            mode, key = draw(st.sampled_from(MODES)), draw(st.sampled_from(KEYS))
            ok = draw(st.booleans()) or draw(st.booleans())
            version = ""
            if mode == "read" and draw(st.booleans()):
                version = f"v{sum(overlap(key, other) for other in changed)}"
            drafts.append(Draft(turn, mode, key, ok, version))
            if mode in CHANGING and ok:
                changed.append(key)
        drafts.append(Draft(turn))
    return drafts


def placed(drafts: list[Draft], at: int, block: Sequence[Draft | Mark]) -> tuple[Story, int]:
    """Return a story with `block` put in between two turns, and its place."""
    gaps = [0, *(place + 1 for place, draft in enumerate(drafts) if not draft.mode)]
    gap = gaps[at % len(gaps)]
    return Story([*drafts[:gap], *block, *drafts[gap:]]), gap


# ---------------------------------------------------------------------- serial histories


@given(serial())
def test_a_serial_history_has_no_anomaly(drafts: list[Draft]) -> None:
    """Turns that run one after another do nothing wrong, whatever they do."""
    assert audit(Story(drafts).records) == []


@given(serial(), st.randoms(use_true_random=False))
def test_turns_on_resources_of_their_own_do_nothing_wrong(drafts: list[Draft], random: Any) -> None:
    """Turns may interleave in any way as long as they have no resource in common."""
    by_turn: dict[str, list[Draft]] = {}
    for draft in drafts:
        own = replace(draft, key=f"{draft.turn}/{draft.key.replace('*', 'any')}".rstrip("/"))
        by_turn.setdefault(draft.turn, []).append(own)
    woven: list[Draft] = []
    while by_turn:
        turn = random.choice(sorted(by_turn))
        woven.append(by_turn[turn].pop(0))
        if not by_turn[turn]:
            del by_turn[turn]
    versionless = [replace(draft, version="") for draft in woven]
    assert audit(Story(versionless).records) == []


# ---------------------------------------------------------------------- one planted anomaly


@given(serial(), st.integers(0, 99), st.sampled_from(["z/7", "z", "z/7/x", "z/*"]))
def test_a_lost_update_is_found(drafts: list[Draft], at: int, seen: str) -> None:
    """A write is named that rests on a read which another turn's write had outdated."""
    block = [
        Draft("A", "read", seen),
        Draft("B", "write", "z/7"),
        Draft("B"),
        Draft("A", "write", "z/7"),
        Draft("A"),
    ]
    story, gap = placed(drafts, at, block)
    found = audit(story.records)
    assert [(a.rule, a.steps) for a in found if a.rule == "conflicts.lost_update"] == [
        ("conflicts.lost_update", story.steps(gap, gap + 1, gap + 3))
    ]
    assert rules(found) == {"conflicts.lost_update", "conflicts.cycle"}


@given(serial(), st.integers(0, 99), st.sampled_from(["read", "recheck", "write"]))
def test_a_new_look_makes_a_write_good(drafts: list[Draft], at: int, look: str) -> None:
    """A turn that read again, had it re-checked, or wrote since, overwrites nothing unseen."""
    again: Draft | Mark = Draft("A", look, "z/7")
    if look == "recheck":
        again = Rechecked("A", ("z/7",), same=True, n=2, at=0)
    block = [Draft("A", "read", "z/7"), Draft("B", "append", "z/7"), Draft("B"), again]
    if look == "write":
        # This one overwrites unseen; the next does not.
        block = [Draft("A", "read", "z/7"), again]
    story, _ = placed(drafts, at, [*block, Draft("A", "write", "z/7"), Draft("A")])
    assert audit(story.records) == []


@given(serial(), st.integers(0, 99))
def test_a_stale_write_is_found(drafts: list[Draft], at: int) -> None:
    """A write is named whose turn knew another version than somebody saw since."""
    block = [
        Draft("A", "read", "z/7", version="v1"),
        Draft("B", "read", "z/7", version="v2"),
        Draft("B"),
        Draft("A", "write", "z/7"),
        Draft("A"),
    ]
    story, gap = placed(drafts, at, block)
    (found,) = audit(story.records)
    assert found.rule == "conflicts.stale_write"
    assert found.steps == story.steps(gap, gap + 1, gap + 3)
    assert "another version" in found.message


def test_a_write_against_its_own_recheck_is_found() -> None:
    """A write that took effect though its re-check found another state is stale."""
    read, write = Draft("A", "read", "z"), Draft("A", "write", "z")
    for n, expected in ((2, {"conflicts.stale_write"}), (0, set())):
        story = Story([read, Rechecked("A", ("z",), same=False, n=n, at=0), write])
        assert rules(audit(story.records)) == expected
        # Also where it was noted after the intent.
        story = Story([read, write, Rechecked("A", ("z",), same=False, n=n, at=0)])
        assert rules(audit(story.records)) == expected


@given(
    serial(),
    st.integers(0, 99),
    st.sampled_from(["write", "exclusive"]),
    st.sampled_from(CHANGING),
    st.sampled_from(["z/7", "z", "z/7/x", "*/7", ""]),
)
def test_a_write_by_a_non_owner_is_found(
    drafts: list[Draft], at: int, owns: str, mode: str, key: str
) -> None:
    """Whoever changes what another turn wrote, and has not given up, is named."""
    block = [Draft("A", owns, "z/7"), Draft("B", mode, key)]
    story, gap = placed(drafts, at, [*block, Draft("B"), Draft("A")])
    (found,) = audit(story.records)
    assert (found.rule, found.steps) == ("conflicts.not_owner", story.steps(gap, gap + 1))
    taken = TakenOver("B", ("z",), "A", 0)
    for given_up in (Draft("A"), taken):
        story, _ = placed(drafts, at, [block[0], given_up, block[1], Draft("B")])
        assert audit(story.records) == []


@given(serial(), st.integers(0, 99))
def test_a_branch_writes_only_what_it_was_handed(drafts: list[Draft], at: int) -> None:
    """Another branch of the owner's turn needs a hand-over, of all or of a part."""
    parent, child = Draft("A", "write", "z"), Draft("A", "write", "z/7", branch="child")
    story, gap = placed(drafts, at, [parent, child, Draft("A")])
    (found,) = audit(story.records)
    assert (found.rule, found.steps) == ("conflicts.not_owner", story.steps(gap, gap + 1))
    for key in ("z", "z/7"):
        handed = Handed("A", key, "", "child", 0)
        story, gap = placed(drafts, at, [parent, handed, child, Draft("A")])
        assert audit(story.records) == []
        # And then it is the child's.
        story, gap = placed(drafts, at, [parent, handed, replace(child, branch=""), Draft("A")])
        assert rules(audit(story.records)) == {"conflicts.not_owner"}
    other = Handed("A", "z/8", "", "child", 0)
    story, gap = placed(drafts, at, [parent, other, child, Draft("A")])
    assert rules(audit(story.records)) == {"conflicts.not_owner"}


CLASHES = [(a, b) for a in MODES for b in MODES if not compatible(a, b)]


@given(drafts=serial(), at=st.integers(0, 99), modes=st.sampled_from(CLASHES), ok=st.booleans())
def test_conflicting_steps_at_the_same_time_are_found(
    drafts: list[Draft], at: int, modes: tuple[str, str], *, ok: bool
) -> None:
    """Two steps whose claims do not go together and that overlap in time are both named."""
    first, second = modes
    block = [Draft("A", first, "z/7", ok, lasts=11), Draft("A", second, "z", ok), Draft("A")]
    story, gap = placed(drafts, at, block)
    (found,) = audit(story.records)
    assert (found.rule, found.steps) == ("conflicts.unordered", story.steps(gap, gap + 1))
    tied = [replace(block[0], lasts=10), *block[1:]]
    assert audit(placed(drafts, at, tied)[0].records) == []


@given(serial(), st.integers(0, 99), st.integers(2, 5))
def test_a_cycle_is_found(drafts: list[Draft], at: int, size: int) -> None:
    """Turns of which each must have come before the next, round in a ring, are all named."""
    reads = [Draft(f"A{i}", "read", f"z/{i}") for i in range(size)]
    writes = [Draft(f"A{i}", "write", f"z/{(i + 1) % size}") for i in range(size)]
    ends = [Draft(f"A{i}") for i in range(size)]
    story, _ = placed(drafts, at, [*reads, *writes, *ends])
    (found,) = audit(story.records)
    assert found.rule == "conflicts.cycle"
    assert {turn for turn, _ in found.steps} == {f"A{i}" for i in range(size)}
    assert len(found.steps) == 2 * size


def test_a_replaced_read_is_no_part_of_a_cycle() -> None:
    """A turn that looked again rests on its second look only."""
    look, other = Draft("A", "read", "z"), Draft("B", "write", "z")
    write = Draft("A", "write", "z")
    assert audit(Story([look, other, Draft("B"), look, write]).records) == []


# ---------------------------------------------------------------------- the limits


def test_no_more_are_reported_than_were_asked_for() -> None:
    """The report is bounded, rule by rule."""
    drafts = [Draft(f"t{i}", "write", "z", lasts=10_000) for i in range(100)]
    found = audit(Story(drafts).records, anomalies_max=7)
    assert [a.rule for a in found].count("conflicts.unordered") == 7
    with pytest.raises(SettingError):
        audit([], anomalies_max=0)


def test_only_keys_of_the_house_are_passed_over() -> None:
    """What begins with an exclamation mark is no resource; an unknown mode is an error."""
    drafts = [Draft(f"t{i}", "write", "!service/crm", lasts=100) for i in range(9)]
    assert audit(Story(drafts).records) == []
    with pytest.raises(ValueError, match="no mode"):
        audit([Operation("t", 1, "s", "steal", "z", 1, 2)])


@given(st.lists(st.sampled_from(KEYS), unique=True))
def test_keys_meet_in_a_cell_exactly_if_they_overlap(keys: list[str]) -> None:
    """What a key asks holds what was posted under overlapping keys and nothing else."""
    index = Overlaps(keys)
    for one, mine in index.numbers.items():
        for other, theirs in index.numbers.items():
            assert index.meet(mine, theirs) == overlap(one, other)


def worked_s(records: list[Record]) -> float:
    """Return how long an audit computes, without collecting what other tests left behind."""
    gc.collect()
    gc.disable()
    try:
        began_s = time.process_time()
        assert audit(records) == []
        return time.process_time() - began_s
    finally:
        gc.enable()


def test_time_grows_with_the_operations_and_not_with_the_keys() -> None:
    """Twice as many operations on twice as many keys take about twice as long."""
    took = []
    for size in (4_000, 16_000):
        drafts: list[Draft] = []
        for number in range(size):
            key = f"a/{number}"
            modes = ("read", "write") if number % 10 else ("peek",)
            drafts += [Draft(f"t{number // 50}", mode, key) for mode in modes]
            if number % 50 == 49:
                drafts += [Draft(f"t{number // 50}", "read", "a"), Draft(f"t{number // 50}")]
        records = Story(drafts).records
        took.append(min(worked_s(records) for _ in range(3)))
    assert took[1] < 12 * took[0]


# ---------------------------------------------------------------------- against all pairs


@st.composite
def concurrent(draw: st.DrawFn) -> list[Record]:
    """Operations of few turns on few keys at any times, and marks among them."""
    records: list[Record] = []
    count = draw(st.integers(0, 24))
    for number in range(count):
        begin = draw(st.integers(0, 40))
        turn = draw(st.sampled_from("ABC"))
        mode = draw(st.sampled_from(MODES))
        end = begin + draw(st.integers(0, 8))
        cut = mode in CHANGING and draw(st.integers(0, 9)) == 0
        version = draw(st.sampled_from(["", "v1", "v2"])) if mode == "read" else ""
        records.append(
            Operation(
                turn,
                number,
                "s",
                mode,
                draw(st.sampled_from(KEYS)),
                begin,
                None if cut else end,
                draw(st.integers(0, 4)) > 0,
                draw(st.sampled_from(["", "", "x"])),
                version=version,
                source=draw(st.sampled_from(["g", "h"])) if version else "",
            )
        )
    for _ in range(draw(st.integers(0, 3))):
        at, turn = draw(st.integers(0, 40)), draw(st.sampled_from("ABC"))
        keys = tuple(draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=2)))
        other = draw(st.sampled_from("ABC"))
        marks: list[Mark] = [
            GivenUp(turn, at),
            TakenOver(turn, keys, other, at),
            Handed(turn, keys[0], "", "x", at),
            Rechecked(turn, keys, same=True, n=0, at=at),
        ]
        mark = draw(st.sampled_from(marks))
        records.append(mark)

    def place(record: Record) -> tuple[int, bool, bool]:
        if isinstance(record, Operation):
            return record.begin, True, record.mode in CHANGING
        return record.at, False, False

    return sorted(records, key=place)


def took_effect(records: list[Record], *modes: str) -> list[Operation]:
    """Return the operations in some modes that took effect."""
    return [r for r in records if isinstance(r, Operation) and r.ok and r.mode in modes]


def stop(op: Operation) -> int:
    """Return when an operation ended, as far as is known."""
    return op.begin if op.end is None else op.end


def precedes(first: Operation, second: Operation) -> bool:
    """Whether one operation had ended when the other began."""
    return first.end is not None and first.end < second.begin


def meets(first: Operation, second: Operation) -> bool:
    """Whether two operations are on overlapping keys."""
    return overlap(first.key, second.key)


def looks(records: list[Record], write: Operation, key: str) -> list[int]:
    """Return when the turn of a write had looked at a key, up to it."""
    found = []
    for record in records[: records.index(write)]:
        if isinstance(record, Operation):
            if record.turn == write.turn and record.ok and record.mode != "peek":
                found += [stop(record)] * overlap(record.key, key)
        elif isinstance(record, Rechecked) and record.turn == write.turn:
            # What no operation of the turn came before, it had not read yet.
            before = records[: records.index(record)]
            known = any(
                isinstance(r, Operation) and r.turn == write.turn and r.ok and r.mode != "peek"
                for r in before
            )
            found += [record.at] * (known and any(overlap(k, key) for k in record.keys))
    return found


def lost(records: list[Record]) -> dict[int, set[tuple[int, int]]]:
    """Return, by the number of a write, the reads and other writes that it lost."""
    found: dict[int, set[tuple[int, int]]] = {}
    for write in took_effect(records, *WRITING):
        for read in took_effect(records[: records.index(write)], "read"):
            if read.turn != write.turn or not meets(read, write):
                continue
            seen = max(looks(records, write, read.key))
            for other in took_effect(records, *CHANGING):
                foreign = other.turn != write.turn and meets(other, read) and meets(other, write)
                if foreign and precedes(other, write) and other.begin > seen:
                    found.setdefault(write.n, set()).add((read.n, other.n))
    return found


def unordered(records: list[Record]) -> set[tuple[int, int]]:
    """Return the pairs that were under way together and must not."""
    ops = [r for r in records if isinstance(r, Operation)]
    return {
        (a.n, b.n)
        for place, a in enumerate(ops)
        for b in ops[place + 1 :]
        if meets(a, b)
        and not compatible(a.mode, b.mode)
        and a.begin < stop(b)
        and b.begin < stop(a)
    }


def stale(records: list[Record]) -> dict[int, set[tuple[int, int]]]:
    """Return, by the number of a write, its reads and who saw another version since."""
    found: dict[int, set[tuple[int, int]]] = {}
    for write in took_effect(records, *WRITING):
        before = records[: records.index(write)]
        for source in "gh":
            mine = [
                r
                for r in took_effect(before, "read")
                if (r.turn, r.key, r.source) == (write.turn, write.key, source)
            ]
            if not mine:
                continue
            again = [
                record.at
                for record in before[before.index(mine[-1]) :]
                if isinstance(record, Rechecked)
                and record.turn == write.turn
                and write.key in record.keys
            ]
            at = max([stop(mine[-1]), *again])
            if max(looks(records, write, write.key)) > at:
                continue
            others = {
                (mine[-1].n, other.n)
                for other in took_effect(records, "read")
                if (other.key, other.source) == (write.key, source)
                and other.turn != write.turn
                and other.version != mine[-1].version
                and precedes(other, write)
                and other.begin > at
            }
            if others:
                found.setdefault(write.n, set()).update(others)
    return found


def ordered(records: list[Record]) -> set[tuple[str, str]]:
    """Return the pairs of turns of which one must have come before the other."""
    last: dict[tuple[str, str], int] = {}
    for record in records:
        if isinstance(record, Rechecked):
            for key in record.keys:
                last[record.turn, key] = -1
        elif isinstance(record, Operation) and record.ok and record.mode == "read":
            last[record.turn, record.key] = record.n
    ops = [
        op
        for op in took_effect(records, "read", *CHANGING)
        if op.mode != "read" or last[op.turn, op.key] == op.n
    ]
    return {
        (a.turn, b.turn)
        for a in ops
        for b in ops
        if a.turn != b.turn and meets(a, b) and precedes(a, b) and not compatible(a.mode, b.mode)
    }


def rings(edges: set[tuple[str, str]]) -> set[frozenset[str]]:
    """Return the sets of turns that reach each other."""
    reach = set(edges)
    for middle in "ABC":
        reach |= {(a, d) for a, b in reach for c, d in reach if b == c == middle}
    return {
        frozenset(b for b in "ABC" if b == a or ((a, b) in reach and (b, a) in reach))
        for a in "ABC"
        if (a, a) in reach
    }


@settings(max_examples=600)
@given(concurrent())
def test_the_index_finds_what_comparing_all_pairs_finds(records: list[Record]) -> None:
    """On any history the checker says what its definition says."""
    ops = {r.n: r for r in records if isinstance(r, Operation)}
    found: dict[str, list[tuple[int, ...]]] = {}
    for anomaly in audit(records, anomalies_max=10_000):
        numbers = tuple(int(step.partition(".")[2]) for _, step in anomaly.steps)
        found.setdefault(anomaly.rule, []).append(numbers)

    pairs = [tuple(sorted(pair)) for pair in found.get("conflicts.unordered", [])]
    assert sorted(pairs) == sorted(tuple(sorted(pair)) for pair in unordered(records))

    for rule, expected in (("lost_update", lost(records)), ("stale_write", stale(records))):
        reported = found.get(f"conflicts.{rule}", [])
        assert {numbers[-1] for numbers in reported} == set(expected)
        for read, other, write in reported:
            assert (read, other) in expected[write]

    edges = ordered(records)
    cycles = found.get("conflicts.cycle", [])
    assert len(cycles) == len(rings(edges))
    for cycle in cycles:
        turns = [ops[n].turn for n in cycle]
        assert any(set(turns) <= ring for ring in rings(edges))
        assert {(a, b) for a, b in zip(turns[::2], turns[1::2], strict=True)} <= edges
        assert turns[-1] == turns[0]
        assert all(a == b for a, b in list(pairwise(turns))[1::2])


@settings(max_examples=400)
@given(concurrent())
def test_owners_are_those_that_wrote_first(records: list[Record]) -> None:
    """Whoever wrote first owns until it gives up; who was not entitled gains nothing."""
    owned: list[tuple[str, str]] = []
    guilty = set()
    for record in records:
        if isinstance(record, GivenUp):
            owned = [(turn, key) for turn, key in owned if turn != record.turn]
        elif isinstance(record, TakenOver):
            owned = [
                (turn, key)
                for turn, key in owned
                if turn != record.source or not any(overlap(key, k) for k in record.keys)
            ]
        elif isinstance(record, Operation) and record.ok and record.mode in CHANGING:
            others = {t for t, key in owned if t != record.turn and overlap(key, record.key)}
            guilty |= {(turn, record.n) for turn in others}
            if not others and record.mode != "append":
                owned.append((record.turn, record.key))
    one_branch = [
        Operation(*(r.turn, r.n, r.name, r.mode, r.key, r.begin, r.end, r.ok))
        if isinstance(r, Operation)
        else r
        for r in records
        if not isinstance(r, Handed)
    ]
    found = {
        (a.steps[0][0], int(a.steps[1][1].partition(".")[2]))
        for a in audit(one_branch, anomalies_max=10_000)
        if a.rule == "conflicts.not_owner"
    }
    assert found == guilty

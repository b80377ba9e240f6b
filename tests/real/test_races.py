"""The task suites of AgentDojo as batches, each conflicting pair of calls raced both ways.

Keeps: every task, with few schedules by default and 200 in the slow run; under 20 s and five
minutes. What is compared with what is said in `races`.
"""

import itertools
from collections.abc import Iterator
from typing import Final

import pytest

from .dojo import SUITES, Call, canonical
from .effects import EFFECTS, Effect
from .races import (
    SHORT_S,
    SLOW_S,
    Batch,
    Claim,
    Tally,
    all_tasks,
    claims_of,
    conflict,
    load_batch,
    measure,
    race_all,
    rounds_least,
    rounds_naive,
    schedules,
)
from .trial import wanted

RUNS: Final = 10
RUNS_SLOW: Final = 200
CALL_S: Final = 0.05

both = pytest.mark.parametrize("ordered", [False, True], ids=["declared", "ordered"])
suites = pytest.mark.parametrize("suite", SUITES)


def batches(suite: str, *, ordered: bool = False) -> list[Batch]:
    """Return the batch of each task of a suite."""
    return [load_batch(*named, ordered=ordered) for named in all_tasks() if named[0] == suite]


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    """Let go of what the batches remember of serial runs."""
    yield
    load_batch.cache_clear()


def check(tally: Tally, runs: int, *, ordered: bool) -> None:
    """Hold many runs to what must be true of each."""
    assert not tally.problems, tally.problems[:10]
    assert tally.runs >= runs
    assert any(tally.overlapped.values()), "Nothing ran beside anything: this tested nothing."
    # With each append a write there is one order only. Without, all that arrival decides and
    # a caller sees is the id of a mail.
    assert not (ordered and tally.rearrived)
    assert set(tally.renamed) <= {"send_email"}


@both
@suites
def test_a_batch_ends_as_its_calls_do_one_by_one(suite: str, *, ordered: bool) -> None:
    """Whatever the latencies: results and world of a batch are those of its calls in order."""
    raced = batches(suite, ordered=ordered)
    check(race_all(raced, RUNS), RUNS * len(raced), ordered=ordered)


@pytest.mark.slow
@both
@suites
def test_a_batch_always_ends_as_its_calls_do_one_by_one(suite: str, *, ordered: bool) -> None:
    """Whatever the latencies: results and world of a batch are those of its calls in order."""
    raced = batches(suite, ordered=ordered)
    check(race_all(raced, RUNS_SLOW), RUNS_SLOW * len(raced), ordered=ordered)


def test_every_task_is_raced() -> None:
    """No task is left out, and conflicts and appends that commute are among them."""
    raced = [load_batch(*named) for named in all_tasks()]

    assert len(raced) == 97
    assert sum(len(batch.calls) for batch in raced) == 339
    assert sum(len(batch.conflicts) for batch in raced) >= 50
    assert sum(len(batch.commuting) for batch in raced) >= 10


def test_a_batch_takes_as_long_as_its_longest_chain_of_conflicts() -> None:
    """Nothing waits but for what it conflicts with: no schedule could be faster."""
    for named in all_tasks():
        batch = load_batch(*named)
        took = measure(batch, CALL_S) / CALL_S
        assert took == pytest.approx(rounds_least(batch), abs=0.01), str(batch)
        assert rounds_least(batch) <= rounds_naive(batch)


# The harness itself


@suites
def test_the_reference_is_what_the_benchmark_does(suite: str) -> None:
    """The serial run that races are held to is the one that every other test is held to."""
    for batch in batches(suite):
        known = wanted(batch.suite, batch.task)
        assert batch.ending().digest == known.digest
        assert batch.ending().results == tuple(map(canonical, known.results))


@pytest.mark.parametrize(
    ("suite", "liar", "kind"),
    [
        ("banking", "send_money", "result"),
        ("banking", "update_scheduled_transaction", "result"),
        ("slack", "add_user_to_channel", "result"),
        ("workspace", "append_to_file", "result"),
        ("workspace", "delete_file", "result"),
    ],
)
def test_a_writer_that_says_it_peeks_is_found_out(suite: str, liar: str, kind: str) -> None:
    """Were a conflict overlooked, the harness would see it in the order and in what comes of it."""
    lied_about = [
        batch
        for batch in batches(suite)
        if any(liar in {batch.calls[i].tool, batch.calls[j].tool} for i, j in batch.conflicts)
    ]
    honest, lied = (race_all(lied_about, RUNS, liar=name) for name in ("", liar))

    assert not honest.problems
    assert {problem.kind for problem in lied.problems} >= {"order", kind}


def modes(*held: str) -> list[Claim]:
    """Return claims of a call of a made-up tool, given as `mode key`."""
    pairs = [one.split() for one in held]
    effect = Effect(
        reads=tuple(key for mode, key in pairs if mode == "read"),
        appends=tuple(key for mode, key in pairs if mode == "append"),
        writes=tuple(key for mode, key in pairs if mode == "write"),
    )
    return claims_of(Call("made_up", {"id": 7, "url": "www.a/b"}), effect)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("read a/b", "read a/b", False),
        ("read a/b", "append a/b", True),
        ("read a/b", "write a/b", True),
        ("append a/b", "append a/b", False),
        ("append a/b", "write a/b", True),
        ("write a/b", "write a/b", True),
        ("write a", "read a/b/c", True),
        ("write a/b", "write a/bc", False),
        ("write a/{id}", "read a/7", True),
        ("write a/{id}", "write a/70", False),
        ("write web/{url}", "read web/www.a", False),
        ("write web/{url}", "read web", True),
    ],
)
def test_conflicts_are_those_of_the_matrix(one: str, other: str, expected: bool) -> None:  # noqa: FBT001
    """Two claims conflict if their keys overlap and their modes are not both read or append."""
    assert conflict(modes(one), modes(other)) is expected
    assert conflict(modes(other), modes(one)) is expected
    assert conflict(modes("read z", one), modes(other, "read y")) is expected


def test_each_conflicting_pair_is_raced_both_ways() -> None:
    """Of each pair, either is the slow one, while the other takes no time at all."""
    for batch, runs in itertools.product((load_batch(*n) for n in all_tasks()), (1, 30)):
        made = list(schedules(batch, runs))
        assert len(made) >= runs
        assert made == list(schedules(batch, runs)), "a schedule can be made again"
        for pair in batch.conflicts:
            for slow, fast in (pair, pair[::-1]):
                assert any(
                    sum(latencies[slow]) == SLOW_S
                    and sum(latencies[fast]) == 0
                    and all(sum(latencies[n]) <= 2 * SHORT_S for n in rest(batch, pair))
                    for latencies in made
                )


def rest(batch: Batch, pair: tuple[int, int]) -> list[int]:
    """Return the calls that are not of the pair."""
    return [n for n in range(len(batch.calls)) if n not in pair]


def test_a_serial_order_is_that_of_proposal_but_for_what_commutes() -> None:
    """Appends are compared as they arrived, and everything else as it was proposed."""
    batch = load_batch("workspace", "user_task_25")
    count = len(batch.calls)
    i, j = batch.commuting[0]
    as_proposed = list(range(count))
    swapped = list(range(count))
    swapped[i], swapped[j] = j, i

    assert batch.serial_order(as_proposed) == tuple(as_proposed)
    order = batch.serial_order(swapped)
    assert order is not None
    assert order.index(j) < order.index(i)
    assert batch.ending(order).digest.sha256 != batch.ending().digest.sha256
    assert batch.ending(order).content == batch.ending().content
    assert {EFFECTS[batch.calls[n].tool].kind for n in (i, j)} == {"append"}

"""In which order the calls of a task may reach the world: as proposed where they conflict.

Keeps: as in `races`, what conflicts is decided from `effects` and the matrix of the design,
and never asked of the runtime.
Leaves to others: kills, and what must be true of a turn besides (`trial`).
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from undercroft.model.trace import StepTrace, Trace

from .bindings import Mode, Protocol
from .dojo import Call, Digest, Json, canonical, load_suite
from .races import Pair, load_batch
from .world import Entry


class Case(NamedTuple):
    """A task, and how it is done."""

    suite: str
    task: str
    mode: Mode
    protocol: Protocol
    approval: str = ""

    @property
    def handler(self) -> str:
        """The name of its handler."""
        name = f"{self.suite}_{self.protocol}"
        return f"{name}__{self.approval}" if self.approval else name

    def __str__(self) -> str:
        return "-".join(part for part in self if part).replace("user_task_", "")


# Calls


def pairs_in_order(case: Case) -> tuple[Pair, ...]:
    """Return the pairs of calls, by place, of which the second waits for the first.

    Calls that were proposed one by one, each after the answer to the one before, all do.
    """
    batch = load_batch(case.suite, case.task)
    if case.mode == "batch":
        return batch.conflicts
    return tuple(itertools.combinations(range(len(batch.calls)), 2))


def longest_chain(case: Case) -> int:
    """Return how many calls that change something come after each other at least."""
    loaded = load_suite(case.suite)
    calls, pairs = loaded.tasks[case.task].calls, pairs_in_order(case)
    depth: list[int] = []
    for n, call in enumerate(calls):
        before = max((depth[m] for m in range(n) if (m, n) in pairs), default=0)
        depth.append(before + (loaded.tools[call.tool].effect.kind != "read"))
    return max(depth)


def held_up(pairs: Iterable[Pair], standing: Iterable[int]) -> set[int]:
    """Return the calls that wait for those that stand, or for others that do."""
    held: set[int] = set()
    stopped = set(standing)
    for i, j in sorted(pairs, key=lambda pair: pair[1]):
        if i in stopped:
            held.add(j)
            stopped.add(j)
    return held


def calls_of(trace: Trace) -> list[StepTrace]:
    """Return the steps of a turn that are calls."""
    return [step for step in trace.steps if step.kind != "model"]


def says(written: Any, call: Call) -> bool:
    """Whether arguments as the journal has them, without their secrets, are those of `call`."""
    if not isinstance(written, Mapping) or written.keys() != call.arguments.keys():
        return False
    return all(
        value == call.arguments[name] or str(value).startswith("[redacted:")
        for name, value in written.items()
    )


def by_place(trace: Trace, calls: Sequence[Call]) -> list[StepTrace | None]:
    """Return for each proposed call its step; None where the journal does not know of it yet.

    What a life was killed before it could note gets a new number in the next, so the steps
    need not be in the order of proposal. Calls that are the same in every word are taken in
    the order of their numbers.
    """
    left = calls_of(trace)
    found: list[StepTrace | None] = []
    for call in calls:
        alike = [step for step in left if step.name == call.tool and says(step.arguments, call)]
        found.append(alike[0] if alike else None)
        if alike:
            left.remove(alike[0])
    assert not left, "something was called that nobody proposed"
    return found


def proposed(log: Iterable[Entry]) -> list[Entry]:
    """Return what steps asked for; what none did is a read to verify or to look again."""
    return [e for e in log if e.step and not str(e.step).endswith(".0")]


def answers(case: Case, log: Iterable[Entry]) -> dict[str, Json]:
    """Return by step what the world answered, worked out from what it says that it did."""
    stage = load_suite(case.suite).stage(case.task)
    done = [entry for entry in proposed(log) if entry.applied]
    return {str(entry.step): stage.call(entry.tool, entry.args) for entry in done}


def check_serial(
    case: Case, steps: Sequence[StepTrace], log: Sequence[Entry], digest: Digest
) -> None:
    """Conflicting calls came in the order of proposal, and all is as if one by one.

    Args:
        case: What was done, and how.
        steps: In the order of proposal.
        log: The world's.
        digest: Of the world at the end.
    """
    batch = load_batch(case.suite, case.task)
    at = [
        [n for n, entry in enumerate(log) if entry.applied and entry.step == step.step_id]
        for step in steps
    ]
    for i, j in pairs_in_order(case):
        # Reads that a life was killed before it could note are done again.
        assert at[i][-1] < at[j][-1], (batch.calls[i], batch.calls[j])
    for i, j in batch.conflicts:
        assert at[i][-1] < at[j][0], (batch.calls[i], batch.calls[j])
    order = batch.serial_order([places[-1] for places in at])
    assert order is not None
    serial = batch.ending(order)
    assert digest == serial.digest
    assert serial.content == batch.ending().content
    # What a read vouched for has the answer of that read.
    if case.protocol != "state":
        assert tuple(canonical(step.value) for step in steps) == serial.results

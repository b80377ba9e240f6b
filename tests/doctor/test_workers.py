"""Runs that are examined in processes beside this one: the same is said of them, in order."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from undercroft.doctor.problems import Problem
from undercroft.doctor.report import Diagnosis
from undercroft.doctor.told import Told
from undercroft.doctor.workers import Read, examine_all, examined
from undercroft.model.case import CallStatus, Case, CaseCall, Facet

SHOWS = frozenset({Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS})


def run(name: str, order: object = "#A1001", *, calls: int = 2) -> Read:
    """Return a run in which one broken call was made several times."""
    made = tuple(
        CaseCall(
            step=2 * n,
            ended=2 * n + 1,
            id=f"c{n}",
            name="get_order",
            arguments={"order_id": order},
            result="Error: not found",
            status=CallStatus.FAILED,
        )
        for n in range(calls)
    )
    case = Case(trace_id=name, format="plain", steps=2 * calls, calls=made, shows=SHOWS)
    return Read(case=case, place="runs.jsonl", guess="a guess")


def reads() -> Iterator[Read]:
    """Yield runs of all kinds: clean and broken ones, problems, and some that cannot be sent."""
    for n in range(60):
        if n % 13 == 5:
            yield Read(case=Problem("runs.jsonl", f"line {n} is no JSON"))
        elif n % 17 == 3:
            yield run(f"run-{n}", "half \ud800 a character")
        elif n % 19 == 7:
            yield run(f"run-{n}", 1 << 80)
        else:
            yield run(f"run-{n}", calls=1 + n % 3)


def test_the_same_is_said_wherever_it_is_examined() -> None:
    """Processes beside this one change nothing of what is said, and nothing of its order."""
    here = [examined(read) for read in reads()]
    assert list(examine_all(reads(), beside=2, alone_s=0.0)) == here
    assert len([one for one in here if isinstance(one, Diagnosis) and one.missing]) > 20


def test_without_processes_it_is_examined_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be started, or it ends at once, everything is examined all the same."""
    here = [examined(read) for read in reads()]
    for program in ("no/such/program", "/bin/false"):
        monkeypatch.setattr(sys, "executable", program)
        assert list(examine_all(reads(), beside=2, alone_s=0.0)) == here


def test_no_process_stays_behind() -> None:
    """Whoever has seen enough leaves no process behind."""
    saying = examine_all(reads(), beside=2, alone_s=0.0)
    for _ in range(2):
        next(saying)
    saying.close()  # type: ignore[attr-defined]  # it is a generator
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_was_told_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something is told of tools no process is started, since it would not know."""
    monkeypatch.setattr(sys, "executable", "no/such/program")
    told = Told()
    assert len(list(examine_all(reads(), told, beside=2, alone_s=0.0))) == 60

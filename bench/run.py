"""Processes and rounds: each round runs each case once, in a process and a folder of its own.

Odd rounds run the cases backwards, so that whoever ran first does not always run first.
Leaves to `rows`: what the numbers mean.
"""

from __future__ import annotations

import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bench.child import RESULT
from bench.workload import EFFECT, STEP_COUNT, Numbers, executions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.rows import Case, Suite

Round: TypeAlias = dict[str, Numbers]  # the numbers of each case by its label

HERE = Path(__file__).parent
CASE_S = 600.0  # no case may take longer
KILL_AFTER_S = 240.0


class CaseFailedError(Exception):
    """A case ended without numbers."""

    def __init__(self, label: str, said: str) -> None:
        super().__init__(label, said)
        self.label, self.said = label, said

    def __str__(self) -> str:
        return f"{self.label}: {self.said}"


def compiled_shim(folder: Path) -> Path | None:
    """Compile the shim into `folder`; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    built = folder / "shim.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(built), str(HERE / "shim.c"), "-ldl"]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    return built if done.returncode == 0 else None


class Runner:
    """Runs cases, each in its own process."""

    def __init__(self, scratch: Path, shim: Path | None) -> None:
        """Keep the folders of the cases in `scratch`: its disk is the one that is measured."""
        self.scratch, self.shim = scratch, shim
        self.failures: list[str] = []

    def command(self, case: Case, folder: Path, *more: str) -> list[str]:
        """Return how the child is started."""
        child = [sys.executable, "-W", "ignore", "-m", "bench.child"]
        return [*child, *case.arguments(), "--folder", str(folder), *more]

    def environment(self, case: Case) -> dict[str, str]:
        """Return the child's environment; the shim is loaded only where a flush has a price."""
        given = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
        if case.flush_us is not None and self.shim is not None:
            given |= {"LD_PRELOAD": str(self.shim), "FLUSH_US": str(case.flush_us)}
        return given

    def numbers(self, case: Case, folder: Path, *more: str) -> Numbers:
        """Run one child to its end."""
        try:
            done = subprocess.run(  # noqa: S603
                self.command(case, folder, *more),
                env=self.environment(case),
                cwd=HERE.parent,
                capture_output=True,
                text=True,
                timeout=CASE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CaseFailedError(case.label, f"still running after {CASE_S:.0f} s") from error
        for line in done.stdout.splitlines():
            if line.startswith(RESULT):
                numbers: Numbers = json.loads(line.removeprefix(RESULT))
                return numbers
        said = (done.stderr or done.stdout).strip().splitlines()
        raise CaseFailedError(case.label, said[-1] if said else f"exit code {done.returncode}")

    def once(self, case: Case) -> Numbers:
        """Run one case in a fresh folder."""
        with tempfile.TemporaryDirectory(dir=self.scratch, ignore_cleanup_errors=True) as name:
            if case.measure == "doomed":
                return self.killed(case, Path(name))
            return self.numbers(case, Path(name))

    def killed(self, case: Case, folder: Path) -> Numbers:
        """Kill -9 once half of all steps have run; a second process does the rest."""
        log, data = folder / "executions", folder / "data"
        data.mkdir()
        half = case.turns * STEP_COUNT // 2
        first = subprocess.Popen(  # noqa: S603
            self.command(case, data, "--log", str(log)),
            env=self.environment(case),
            cwd=HERE.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        began_s = time.monotonic()
        while first.poll() is None and time.monotonic() - began_s < KILL_AFTER_S:
            if log.exists() and log.read_bytes().count(b"\n") >= half:
                break
            time.sleep(0.002)
        ended = first.poll() is not None
        first.send_signal(signal.SIGKILL)
        said = first.communicate()[1].strip().splitlines()
        if ended:
            why = said[-1] if said else "all was done"
            raise CaseFailedError(case.label, f"ended before it was killed: {why}")
        got = self.numbers(replace(case, measure="finish"), data, "--log", str(log))
        return got | accounted(executions(log), case.turns, int(got["in_doubt"]))


def accounted(ran: list[tuple[int, int]], turns: int, in_doubt: int) -> Numbers:
    """Say what is missing and what ran twice.

    A turn that stopped in doubt is not finished and says so: it is not missing.
    """
    times = collections.Counter(ran)
    steps_of = collections.Counter(turn for turn, _ in times)
    unfinished = sum(steps_of[turn] < STEP_COUNT for turn in range(turns))
    return {
        "executions": len(ran),
        "missing": max(0, unfinished - in_doubt),
        "repeated": sum(count - 1 for count in times.values()),
        "effects_repeated": sum(count - 1 for (_, at), count in times.items() if at == EFFECT),
    }


def rounds(suite: Suite, count: int, runner: Runner) -> Iterator[Round]:
    """Yield the numbers of each round; a case that failed is tried no more."""
    failed: set[str] = set()
    for number in range(min(count, suite.rounds_max or count)):
        cases = suite.cases if number % 2 == 0 else suite.cases[::-1]
        numbers: Round = {}
        for case in cases:
            if case.label in failed:
                continue
            try:
                numbers[case.label] = runner.once(case)
            except CaseFailedError as error:
                failed.add(case.label)
                runner.failures.append(str(error))
        yield numbers

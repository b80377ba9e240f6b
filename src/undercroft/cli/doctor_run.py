"""The work of `undercroft doctor`: traces of anybody's system in, reports, lines or a page out.

Keeps: a trace is shown or told as soon as it is read, and then let go of; one that cannot be read
takes no other with it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from undercroft.cli.console import err, out, put, say
from undercroft.cli.doctor_report import print_report
from undercroft.cli.doctor_table import Table
from undercroft.cli.doctor_watch import Watch
from undercroft.cli.problem import CannotRunError
from undercroft.cli.safe import cut, safe
from undercroft.diagnosis import diagnose, format_names
from undercroft.doctor.inputs import STDIN
from undercroft.doctor.problems import Problem
from undercroft.doctor.report import Diagnosis, contract, contract_unread
from undercroft.doctor.told import read_told
from undercroft.pages.doctor import Book, bound

# What is wrong with a file of a million lines is plain after so many.
_PROBLEMS_MAX = 20
# Reading is done here, and keeps no more of them busy.
_BESIDE_MAX = 3
# Whatever a terminal might obey, and what some readers of JSON take for its end, as an escape.
_BEYOND = re.compile("[^\x20-\x7e]")
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command was given; see `cli.doctor.doctor`."""

    traces: list[str]
    form: str | None
    effects: Path | None
    turn: str | None
    html: Path | None
    everything: bool
    as_json: bool


def run(asked: Asked) -> NoReturn:
    """Diagnose, print, and exit with what the code of the command says."""
    traces, form, html = asked.traces, asked.form, asked.html
    if form is not None and form not in format_names():
        known = ", ".join(format_names())
        raise CannotRunError("--format", f"there is no format {form!r}", f"There are: {known}.")
    told = None if asked.effects is None else read_told(asked.effects)
    if html is not None:
        _must_not_be_read(html, traces)
    stdin = sys.stdin.buffer if STDIN in traces else None
    with _quietly(), Watch() as watch, nullcontext() if html is None else bound(html) as book:
        beside = min(os.cpu_count() or 1, _BESIDE_MAX)
        said = diagnose(traces, form=form, told=told, turn=asked.turn, stdin=stdin, beside=beside)
        outcome = _Outcome()
        noted = outcome.noting(watch.over(said), watch, book)
        if asked.as_json:
            _print_lines(noted, outcome, watch)
        else:
            _print(noted, outcome, watch, everything=asked.everything)
    outcome.close()
    if html is not None and outcome.runs:
        say(err(), f"The page: {safe(str(html))}", 0, "dim")
    raise typer.Exit(outcome.code)


def _must_not_be_read(html: Path, traces: Iterable[str]) -> None:
    """Check that the page does not replace what it is about."""
    for trace in traces:
        if html.exists() and Path(trace).exists() and html.samefile(trace):
            raise CannotRunError("--html", f"{html} is what is to be read", "Name another file.")


class _Outcome:
    """What was read, and the complaints about what was not.

    Attributes:
        runs: How many were read.
        problems: The first few things that could not be read.
        unread: How many there were.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.unread = 0
        self.problems: list[Problem] = []
        self._missing = False

    @property
    def code(self) -> int:
        """The exit code."""
        if not self.runs:
            return 2
        return 1 if self._missing else 0

    def noting(
        self, read: Iterable[Diagnosis | Problem], watch: Watch, book: Book | None
    ) -> Iterator[Diagnosis]:
        """Yield what was read, and say at once what could not be."""
        for one in read:
            if isinstance(one, Problem):
                self._complain(one, watch)
            else:
                self.runs += 1
                self._missing = self._missing or bool(one.missing)
                if book is not None:
                    book.add(one)
                yield one
        if book is not None:
            book.close(self.problems)

    def _complain(self, problem: Problem, watch: Watch) -> None:
        self.unread += 1
        if self.unread <= _PROBLEMS_MAX:
            self.problems.append(problem)
            watch.hide()
            console = err()
            text = safe(f"{problem.place}: {problem.problem}. {problem.mend}".rstrip())
            text = cut(text, 8 * console.width)
            say(console, Text.assemble(("undercroft: ", "bold red"), text))

    def close(self) -> None:
        """Say how much was left unsaid."""
        if self.unread > _PROBLEMS_MAX:
            more = self.unread - _PROBLEMS_MAX
            put(err(), [Text(f"undercroft: … and {more:,} more that could not be read")])


# ---------------------------------------------------------------------- what is printed


def _print(read: Iterable[Diagnosis], outcome: _Outcome, watch: Watch, *, everything: bool) -> None:
    """Print a report of one run, or a line for each of many."""
    console: Console = out()
    first: Diagnosis | None = None
    table: Table | None = None
    for one in read:
        if first is None:
            first = one
            continue
        watch.printing()
        if table is None:
            table = Table(console, everything=everything)
            table.add(first)
        table.add(one)
    watch.printing()
    if table is not None:
        table.close(outcome.unread)
    elif first is not None:
        print_report(console, first, everything=everything)


def _print_lines(read: Iterable[Diagnosis], outcome: _Outcome, watch: Watch) -> None:
    for one in read:
        watch.printing()
        _print_line(contract(one))
    if not outcome.runs:
        _print_line(contract_unread(outcome.problems))


def _print_line(document: dict[str, Any]) -> None:
    # Half a character is no text, and no reader of JSON has to take it for one.
    text = _HALF.sub("\ufffd", json.dumps(document, ensure_ascii=False))
    sys.stdout.write(_BEYOND.sub(lambda found: json.dumps(found[0])[1:-1], text) + "\n")
    sys.stdout.flush()


@contextmanager
def _quietly() -> Iterator[None]:
    """End without a word where whoever read the output has seen enough."""
    try:
        yield
    except BrokenPipeError:
        # What is still to be written on exit goes nowhere, rather than wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None

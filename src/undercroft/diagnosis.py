"""The doctor's composition root: inputs in, from files or a journal; diagnoses out.

Keeps: one run at a time is in memory; what cannot be read, and a run on which a rule fails, is a
problem that is told, and never the end of the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import BinaryIO

from undercroft.doctor.guess import Guess
from undercroft.doctor.importers import FORMATS
from undercroft.doctor.importers.journal import case_of
from undercroft.doctor.inputs import Input, opened, words
from undercroft.doctor.problems import Problem
from undercroft.doctor.report import Diagnosis
from undercroft.doctor.source import read_cases
from undercroft.doctor.told import Told
from undercroft.doctor.workers import Read, examine_all
from undercroft.engine.traces import trace_of
from undercroft.errors import StoreError
from undercroft.model.case import Case
from undercroft.model.event import AnyEvent, decode_frames
from undercroft.storage.read import open_reader

# More than any journal has.
_TURNS_MAX = 1 << 40
# Turns of a session from which something may be known in a later one, and how many are kept.
_EARLIER_MAX = 20
_KEPT_TURNS_MAX = 64
# Below this a guess says what it rests on.
_SURE = 0.8
_CERTAIN = 0.99


def diagnose(  # noqa: PLR0913  each says something else of the same question
    paths: Sequence[str],
    *,
    form: str | None = None,
    told: Told | None = None,
    turn: str | None = None,
    stdin: BinaryIO | None = None,
    beside: int = 0,
) -> Iterator[Diagnosis | Problem]:
    """Yield what is said of every run in some files, one after the other.

    Args:
        paths: Files, folders, or `-` for standard input.
        form: Name of their format; guessed for each where None.
        told: What tools read and write, as far as somebody says.
        turn: Only this run: the id of a turn of a journal, the beginning of it, or `last`; or
            the id that a trace has.
        stdin: What is read for `-`.
        beside: How many processes may help where it takes long; said is the same.
    """
    yield from examine_all(_all(paths, form, turn, stdin), told, beside=beside)


def _all(
    paths: Sequence[str], form: str | None, turn: str | None, stdin: BinaryIO | None
) -> Iterator[Read]:
    for path in words(paths):
        with opened(path, stdin) as inputs:
            nothing = True
            for one in inputs:
                for read in [Read(case=one)] if isinstance(one, Problem) else _of(one, form, turn):
                    nothing = False
                    yield read
            if turn is not None and nothing:
                problem = f"no run in it is named {turn}"
                yield Read(case=Problem(path, problem, "Look: undercroft doctor FILE."))


def format_names() -> list[str]:
    """Return the names that a format may be asked for by."""
    return [one.name for one in FORMATS]


def _of(one: Input, form: str | None, turn: str | None) -> Iterator[Read]:
    """Yield every run in one file."""
    guess = ""
    for read in _opened(one, form, turn):
        if isinstance(read, Problem):
            # By its whole path, as of several files two may have one name.
            place = read.place.removeprefix(one.path.name)
            known = len(place) < len(read.place)
            yield Read(case=replace(read, place=one.name + place) if known else read)
        elif isinstance(read, Guess):
            guess = _in_words(read)
        elif turn is None or one.journal or read.trace_id == turn:
            yield Read(case=read, place=one.name, guess=guess)


def _in_words(guess: Guess) -> str:
    if guess.told:
        return "as told"
    sure = "beyond doubt" if guess.sure >= _CERTAIN else f"{guess.sure:.0%} sure"
    return f"a guess, {sure}" if guess.sure >= _SURE else f"a guess, {sure}: {guess.why}"


def _opened(one: Input, form: str | None, turn: str | None) -> Iterator[Case | Problem | Guess]:
    try:
        if one.journal:
            yield from _turns(one, turn)
        else:
            yield from read_cases(one.path, formats=FORMATS, form=form)
    except StoreError as error:
        yield Problem(one.name, error.problem, error.mend)
    except OSError as error:
        yield Problem(one.name, f"it cannot be read: {error.strerror or error}")


def _turns(one: Input, turn: str | None) -> Iterator[Case | Problem]:
    """Yield turns of a journal, oldest first, each with what its session held before it."""
    with open_reader(str(one.path)) as reader:
        heads = list(reversed(reader.heads(limit=_TURNS_MAX)))
        wanted = None if turn is None else reader.matching(turn)
        if not heads:
            yield Problem(one.name, "there is no turn in it", "Run one on it: undercroft run.")
        elif wanted is not None and len(wanted) > 1:
            problem = f"more than one turn begins with {turn}"
            yield Problem(one.name, problem, "Give more of its id: undercroft turns.")
            return

        @lru_cache(_KEPT_TURNS_MAX)
        def events_of(turn_id: str) -> list[AnyEvent]:
            return decode_frames(reader.frames(turn_id) or [])

        sessions: dict[str, deque[str]] = {}
        for head in heads:
            before = sessions.setdefault(head.session or head.turn_id, deque(maxlen=_EARLIER_MAX))
            if wanted is None or head.turn_id in wanted:
                events = events_of(head.turn_id)
                trace = trace_of(events)
                if trace is None:
                    yield Problem(one.name, f"of turn {head.turn_id} nothing was written")
                else:
                    yield case_of(trace, events, earlier=map(events_of, before))
            before.append(head.turn_id)

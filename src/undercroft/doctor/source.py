"""From a path to cases: what kind of file it is, in which format, and which records are one run.

Keeps: memory is flat: a run is held at a time, and what waits for the rest of its run is spooled.
What cannot be read is a `Problem` with its place, and costs nothing but itself.
Leaves to the importers what a record says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from undercroft.doctor.documents import Found, read_documents
from undercroft.doctor.guess import FITS_MIN, Guess, fits, guess, seen
from undercroft.doctor.importers import FORMATS
from undercroft.doctor.importers.conversations import parted
from undercroft.doctor.importers.form import Format
from undercroft.doctor.opening import STDIN, Opened, is_journal, opening
from undercroft.doctor.problems import Problem
from undercroft.doctor.spool import Spool
from undercroft.model.case import Case, Flaw

__all__ = ["STDIN", "Guess", "Problem", "Read", "is_journal", "read_cases"]

Read: TypeAlias = Case | Problem | Guess

# A format is guessed from so many documents, or from fewer if they are large.
_GUESSED_MAX = 20
_GUESSED_CHARS = 2_000_000
_KINDS_MAX = 1_000


def read_cases(
    path: str | Path, *, formats: Sequence[Format] = FORMATS, form: str | None = None
) -> Iterator[Read]:
    """Yield the runs of a file in the order in which they end, after the format it was read as.

    Args:
        path: A file, packed with gzip or not; "-" is standard input.
        formats: Those to choose from.
        form: Name of the format, where it is not to be guessed.
    """
    chosen = next((one for one in formats if one.name == form), None)
    if form is not None and chosen is None:
        names = ", ".join(one.name for one in formats)
        yield Problem(str(path), f"there is no format {form!r}", f"Formats are: {names}.")
        return
    with opening(path) as opened:
        if isinstance(opened, Problem):
            yield opened
            return
        yield from _Reading(opened, formats, chosen).cases()


class _Reading:
    """One file on its way to cases."""

    def __init__(self, opened: Opened, formats: Sequence[Format], told: Format | None) -> None:
        self._name = opened.name
        self._formats = formats
        self._told = told
        keys = {key for form in ([told] if told else formats) for key in form.containers}
        self._found = read_documents(opened, keys)
        self._alone = False
        # Whether some document was a run by itself, so that others are not parts of one.
        self._whole_runs = False
        self._odd: dict[str, list[str]] = {}
        # Keys of documents that fit.
        self._kinds: set[tuple[str, ...]] = set()

    def cases(self) -> Iterator[Read]:
        first, problems = self._ahead()
        documents = [one.value for one in first]
        if self._told is not None and documents and not self._tells(documents, self._told):
            yield self._other(documents)
            return
        if self._told is not None:
            chosen: Format | None = self._told
            yield Guess(self._told.name, self._told.title, 1.0, seen(documents[:1]), told=True)
        else:
            taken = self._guess(documents, self._formats)
            chosen = taken[0] if taken else None
            if taken:
                yield taken[1]
            elif documents:
                yield self._unknown(first)
            elif not problems:
                yield Problem(self._name, "there is nothing in it", "Was anything recorded?")
        yield from problems
        if chosen is None:
            return
        with ExitStack() as stack:
            spool = stack.enter_context(Spool())
            yield from self._read(chain(first, self._found), chosen, spool)

    def _ahead(self) -> tuple[list[Found], list[Problem]]:
        """Read the first documents, from which the format is guessed."""
        first: list[Found] = []
        problems: list[Problem] = []
        chars = 0
        for one in self._found:
            if isinstance(one, Problem):
                problems.append(one)
                continue
            first.append(one)
            chars += _rough_chars(one.value)
            if len(first) >= _GUESSED_MAX or (chars > _GUESSED_CHARS and len(first) > 1):
                break
        else:
            self._alone = len(first) == 1
        return first, problems

    def _guess(
        self, documents: Sequence[Any], formats: Sequence[Format]
    ) -> tuple[Format, Guess] | None:
        taken = guess(documents, formats)
        if taken is not None:
            return taken
        found: tuple[Format, Guess] | None = None
        for form in formats:
            inner = [item for one in documents for item in _contained(one, form)[:_GUESSED_MAX]]
            other = guess(inner, [form]) if inner else None
            if other and (found is None or other[1].sure > found[1].sure):
                found = other
        return found

    def _tells(self, documents: Sequence[Any], form: Format) -> bool:
        """Whether documents hold anything of a format, like it or not."""
        if self._guess(documents, [form]) is not None:
            return True
        cases = (form.case(list(form.records(one)), "") for one in documents)
        return any(case.texts or case.calls or case.asks for case in cases)

    def _other(self, documents: Sequence[Any]) -> Problem:
        """Return what to say of a file that is nothing like the format that it was said to be."""
        told = self._told.name if self._told is not None else ""
        taken = self._guess(documents, self._formats)
        like = f"; it looks like {taken[0].name}" if taken is not None else ""
        return Problem(
            self._name,
            f"nothing in it is {told}: {seen(documents[:1])}{like}",
            "Leave `--format` out, or name another one.",
        )

    def _unknown(self, first: Sequence[Found]) -> Problem:
        what = seen([first[0].value])
        names = ", ".join(form.name for form in self._formats)
        return Problem(
            self._name,
            f"no format that we know looks like this: {what}",
            f"Formats are: {names}. `--format` says which one it is.",
        )

    # --- runs ----------------------------------------------------------------------------------

    def _read(
        self, found: Iterator[Found | Problem], form: Format, spool: Spool
    ) -> Iterator[Case | Problem]:
        cut = False
        for one in found:
            if isinstance(one, Problem):
                yield one
                continue
            cut = cut or one.cut
            if self._told is not None or self._fits(form, one.value):
                yield from self._document(one, form, spool)
                continue
            inner = _contained(one.value, form)
            if inner:
                for n, item in enumerate(inner):
                    part = Found(item, f"{one.place}[{n}]", cut=one.cut and n == len(inner) - 1)
                    yield from self._document(part, form, spool)
            elif not self._is_odd(one, form):
                yield from self._document(one, form, spool)
        yield from self._spooled(form, spool, cut=cut)
        yield from self._oddities(form)

    def _fits(self, form: Format, document: Any) -> bool:
        """Whether a document is of this format, as one with the same keys was."""
        kind = tuple(document) if isinstance(document, dict) else ()
        if kind in self._kinds:
            return True
        found = fits(form, document) >= FITS_MIN
        if found and kind and len(self._kinds) < _KINDS_MAX:
            self._kinds.add(kind)
        return found

    def _document(self, one: Found, form: Format, spool: Spool) -> Iterator[Case | Problem]:
        try:
            alone: list[Any] = []
            for record in form.records(one.value):
                run = form.trace_of(record)
                if run is None:
                    alone.append(record)
                else:
                    spool.add(run, record)
        except RecursionError:
            yield Problem(one.place, "it is nested too deeply")
            return
        if alone:
            self._whole_runs = True
            name = self._name if self._alone else one.place
            yield from _case(form, alone, name, cut=one.cut)

    def _spooled(self, form: Format, spool: Spool, *, cut: bool) -> Iterator[Case | Problem]:
        last = len(spool) - 1
        for n, (run, records) in enumerate(spool.runs()):
            parts = list(parted(records))
            for m, part in enumerate(parts):
                name = run or self._name
                name = name if len(parts) == 1 else f"{name}:{m + 1}"
                # Which run the end is missing of is not known if there are several.
                yield from _case(form, list(part), name, cut=cut and n == last and len(parts) == 1)

    # --- what does not belong ------------------------------------------------------------------

    def _is_odd(self, one: Found, form: Format) -> bool:
        """Note what looks like no document of this format; says whether it is left out."""
        best = max(
            ((fits(other, one.value), other.title) for other in self._formats if other is not form),
            default=(0.0, ""),
        )
        if best[0] < FITS_MIN and isinstance(one.value, Mapping) and not self._whole_runs:
            # It stands among messages or spans, and counts as one that cannot be read.
            return False
        other = best[1] if best[0] >= FITS_MIN else ""
        self._odd.setdefault(other, []).append(one.place)
        return True

    def _oddities(self, form: Format) -> Iterator[Problem]:
        for other, places in self._odd.items():
            like = f"looks like {other}, not like {form.title}" if other else f"is no {form.title}"
            more = f", and {len(places) - 1} more like it" if len(places) > 1 else ""
            mend = "Read it apart, from a file of its own." if other else ""
            yield Problem(places[0], f"what stands there {like}{more}; it was left out", mend)


def _case(form: Format, records: list[Any], name: str, *, cut: bool) -> Iterator[Case | Problem]:
    try:
        case = form.case(records, name)
    except RecursionError:
        yield Problem(name, "it is nested too deeply")
        return
    if cut:
        flaw = Flaw(kind="cut_off", quote="the input ends here")
        case = replace(case, flaws=(*case.flaws, flaw), finished=None)
    yield case


def _contained(document: Any, form: Format) -> list[Any]:
    """Return the documents under a container key of an object."""
    if not isinstance(document, Mapping):
        return []
    for key in form.containers:
        held = document.get(key)
        if isinstance(held, list) and held:
            return held
    return []


def _rough_chars(value: Any) -> int:
    """Say roughly how large a document is."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(item) if isinstance(item, str | list) else 1 for item in value.values()) * 50
    return len(value) * 50 if isinstance(value, list) else 1

"""The page of a diagnosis, or of many: an index, and what is said of each run.

Keeps: a page is put in its place whole or not at all; while runs are read, what was written of them
is on disk and not in memory. What a page cannot hold is said on it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from undercroft.doctor.problems import Problem
from undercroft.doctor.report import NONE, Diagnosis, Evidence, LayerReport, Verdict
from undercroft.doctor.telling import (
    RECORD,
    SIGNS,
    also,
    blind,
    by_rule,
    by_weight,
    conclusion,
    deviation,
    lacking,
    shown_at,
    steps_of,
    sure,
    untold,
    what_adds,
    would,
)
from undercroft.errors import UndercroftError
from undercroft.pages.html import Markup, join, page, tag
from undercroft.pages.words import counted

# More than this a browser does not open gladly; the rest stands in the index, or is counted.
_SECTIONS_BYTES_MAX = 48_000_000
_ROWS_MAX = 20_000
_EVIDENCE_MAX = 50
_OPEN_MAX = 3
_HERE = "\x00the sections\x00"

_CLASSES = {
    Verdict.MISSING: "bad",
    Verdict.GUARD_FIRED: "warn",
    Verdict.NOT_EXERCISED: "good",
    Verdict.NOT_OBSERVABLE: "faint",
}


@contextmanager
def bound(path: Path) -> Iterator[Book]:
    """Yield a book; when it is closed it is put at `path`, unless there is nothing in it.

    Raises:
        UnwrittenError: It cannot be written there.
    """
    if path.is_dir():
        raise _unwritten(path, "it is a folder")
    whole = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Opened before anything is read, so that nobody waits for a page that cannot be written.
        file = whole.open("x", encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _unwritten(path, error) from error
    try:
        with file, tempfile.TemporaryFile("w+", encoding="utf-8") as sections:
            book = Book(sections, path)
            yield book
            if not book.closed:
                return
            try:
                book.write(file)
                file.close()
                whole.replace(path)
            except OSError as error:
                raise _unwritten(path, error) from error
    finally:
        whole.unlink(missing_ok=True)


class UnwrittenError(UndercroftError):
    """A page cannot be written where it was to go."""

    def __init__(self, place: str, problem: str, mend: str) -> None:
        super().__init__(place, problem, mend)
        self.place, self.problem, self.mend = place, problem, mend

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}. {self.mend}"


def _unwritten(path: Path, why: Exception | str) -> UnwrittenError:
    said = (why.strerror or str(why)) if isinstance(why, OSError) else str(why)
    return UnwrittenError(str(path), f"it cannot be written: {said}", "Name another file.")


class Book:
    """What is written of runs, one after the other.

    Args:
        sections: Where it is kept until the index above it is known.
        path: Of the page, for people.

    Attributes:
        closed: Whether all was said, and there is something to show.
    """

    def __init__(self, sections: IO[str], path: Path) -> None:
        self._sections, self._path = sections, path
        self._rows: list[Markup] = []
        self._runs = 0
        self._missing = 0
        self._written = 0
        self._full = 0
        self._title = ""
        self._problems: Sequence[Problem] = ()
        self.closed = False

    def add(self, diagnosis: Diagnosis) -> None:
        """Write down what is said of a run."""
        self._runs += 1
        self._missing += bool(diagnosis.missing)
        self._title = diagnosis.name
        here = self._written < _SECTIONS_BYTES_MAX
        if here:
            # Of many, those in which nothing was missing are only worth a word.
            brief = self._runs > 1 and not diagnosis.missing
            section = tag("section", _section(diagnosis, brief=brief), id=f"run-{self._runs}")
            self._written += len(section)
            try:
                self._sections.write(section)
            except OSError as error:
                raise _unwritten(self._path, error) from error
            self._full += 1
        if len(self._rows) < _ROWS_MAX:
            self._rows.append(_index_row(self._runs if here else None, diagnosis))

    def close(self, problems: Sequence[Problem]) -> None:
        """Say that this was all, but for what could not be read."""
        self._problems = problems
        self.closed = self._runs > 0

    def write(self, file: IO[str]) -> None:
        """Write the page."""
        single = self._runs == 1
        title = f"{self._title} - undercroft doctor" if single else "undercroft doctor"
        parts = [] if single else [self._index()]
        if self._problems:
            said = (tag("li", f"{one.place}: {one.problem}. {one.mend}") for one in self._problems)
            parts += [tag("h2", "What could not be read"), tag("ul", *said)]
        head, _, tail = page(title, tag("main", *parts, Markup(_HERE))).partition(_HERE)
        file.write(head)
        self._sections.seek(0)
        shutil.copyfileobj(self._sections, file)
        file.write(tail)

    def _index(self) -> Markup:
        said = f"{counted(self._runs, 'run')}; in {self._missing:,} of them a layer was missing."
        if len(self._rows) < self._runs:
            said += f" The first {len(self._rows):,} are listed."
        if self._full < self._runs:
            said += f" Of the first {self._full:,} there are details; the page ends there."
        heads = ("Run", "Format", "Steps", "Missing", "Cause")
        head = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in heads)))
        table = tag("table", head, tag("tbody", *self._rows))
        return join(
            tag("h1", "What the doctor says"), tag("p", said), tag("div", table, class_="wide")
        )


def _index_row(number: int | None, diagnosis: Diagnosis) -> Markup:
    name: Markup | str = diagnosis.name
    if number is not None:
        name = tag("a", name, href=f"#run-{number}")
    missing = ", ".join(one.layer for one in diagnosis.missing)
    cause = diagnosis.cause or "nothing can be said"
    return tag(
        "tr",
        tag("td", name),
        tag("td", diagnosis.format),
        tag("td", f"{diagnosis.steps:,}", class_="number"),
        tag("td", missing, class_="bad"),
        tag("td", cause, class_="faint" if cause in (NONE, "nothing can be said") else ""),
    )


# ---------------------------------------------------------------------- one run


def _section(diagnosis: Diagnosis, *, brief: bool) -> Markup:
    facts = [
        (
            "Format",
            f"{diagnosis.format}, {diagnosis.guess}" if diagnosis.guess else diagnosis.format,
        )
    ]
    facts.append(("Steps", f"{diagnosis.steps:,}"))
    if diagnosis.place and diagnosis.place != diagnosis.name:
        facts.append(("File", diagnosis.place))
    style = "good" if diagnosis.cause == NONE else ""
    said = [text for text in (also(diagnosis), blind(diagnosis), deviation(diagnosis)) if text]
    head = join(
        tag("h1", diagnosis.name),
        tag("dl", *(join(tag("dt", k), tag("dd", v)) for k, v in facts), class_="facts"),
        tag("p", tag("strong", conclusion(diagnosis)), class_=style),
        *(tag("p", text) for text in said),
    )
    if brief:
        return head
    return join(
        head,
        _table(diagnosis),
        *map(_layer, by_weight(diagnosis)),
        _unseen(diagnosis),
        _flaws(diagnosis),
        _hints(diagnosis),
    )


def _table(diagnosis: Diagnosis) -> Markup:
    rows = []
    for one in diagnosis.layers:
        verdict = one.verdict.value.replace("_", " ")
        first = one.findings[0] if one.findings else None
        rows.append(
            tag(
                "tr",
                tag("th", one.layer, scope="row"),
                tag(
                    "td", f"{SIGNS[one.verdict]} {verdict}", class_=f"short {_CLASSES[one.verdict]}"
                ),
                tag("td", steps_of(first.steps[:1]) if first else "", class_="short"),
                tag("td", first.quote if first else ""),
            )
        )
    return tag("table", tag("tbody", *rows))


def _layer(one: LayerReport) -> Markup:
    lines = one.findings[0].rule.lines.strip("\n")
    missing = one.verdict is Verdict.MISSING
    parts = [tag("h2", f"{one.layer}: {one.verdict.value.replace('_', ' ')}")]
    parts += [_rule(found, missing=missing) for found in by_rule(one.findings)]
    if lines and missing:
        parts += [tag("h3", f"What adds {what_adds(one.layer)}"), tag("pre", tag("code", lines))]
    return join(*parts)


def _rule(found: Sequence[Evidence], *, missing: bool) -> Markup:
    one = found[0]
    measured = tag("small", f" {sure(one.precision, one.measured_on)}") if missing else None
    return join(
        tag("h3", tag("code", one.rule.name), measured),
        tag("p", one.rule.says),
        *map(_evidence, found[:_OPEN_MAX]),
        _more(found[_OPEN_MAX:]),
        tag("p", *_prose(would(one.rule))) if missing else None,
    )


def _prose(text: str) -> Iterator[Markup | str]:
    """Yield the parts of a text of ours, of which those in backticks are code."""
    for place, part in enumerate(text.split("`")):
        yield tag("code", part) if place % 2 else part


def _evidence(one: Evidence) -> Markup:
    return tag("blockquote", tag("strong", shown_at(one)), " ", one.quote)


def _more(found: Sequence[Evidence]) -> Markup | None:
    if not found:
        return None
    left = len(found) - _EVIDENCE_MAX
    return tag(
        "details",
        tag("summary", f"{len(found):,} more like it"),
        *map(_evidence, found[:_EVIDENCE_MAX]),
        tag("p", f"… {left:,} more: undercroft doctor --json has all") if left > 0 else None,
    )


def _unseen(diagnosis: Diagnosis) -> Markup | None:
    groups = lacking(diagnosis)
    if not groups:
        return None
    rows = [
        tag(
            "tr",
            tag("th", facet.value if facet else "other", scope="row"),
            tag("td", RECORD[facet] if facet else "nothing that calls for them"),
            tag("td", ", ".join(rule.name for rule in rules)),
        )
        for facet, rules in groups
    ]
    heads = ("Not shown", "What to record", "Rules")
    head = tag("tr", *(tag("th", text, scope="col") for text in heads))
    return join(
        tag("h2", "What this record does not show, and which rules need it"),
        tag("table", tag("thead", head), tag("tbody", *rows)),
    )


def _flaws(diagnosis: Diagnosis) -> Markup | None:
    flaws = untold(diagnosis)
    if not flaws:
        return None
    said = [
        tag("li", f"{steps_of(flaw.steps)}: {flaw.kind.replace('_', ' ')} {flaw.quote}")
        for flaw in flaws[:_EVIDENCE_MAX]
    ]
    left = len(flaws) - len(said)
    return join(
        tag("h2", "What is wrong with the record itself"),
        tag("ul", *said),
        tag("p", f"… {left:,} more") if left else None,
    )


def _hints(diagnosis: Diagnosis) -> Markup | None:
    hints = [hint for one in diagnosis.layers for hint in one.hints]
    if not hints:
        return None
    said = [
        tag("li", tag("code", hint.rule.name), f" {steps_of(hint.steps)}: {hint.quote}")
        for hint in hints[:_EVIDENCE_MAX]
    ]
    left = len(hints) - len(said)
    return tag(
        "details",
        tag("summary", f"{counted(len(hints), 'hint')}, never the cause"),
        tag("ul", *said),
        tag("p", f"… {left:,} more") if left else None,
    )

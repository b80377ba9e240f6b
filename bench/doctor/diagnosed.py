"""What the doctor says of a document: read, effects worked out, examined, without the command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from undercroft.doctor.effects import infer
from undercroft.doctor.importers import FORMATS
from undercroft.doctor.importers.form import Format
from undercroft.doctor.report import Diagnosis
from undercroft.doctor.verdict import examine

_BY_NAME = {form.name: form for form in FORMATS}
# Our writers, by the names of the doctor's formats.
NAMES = {"openai": "openai-chat", "anthropic": "anthropic-chat", "otlp": "otlp", "plain": "plain"}


@dataclass(frozen=True, slots=True)
class Said:
    """What the doctor said.

    Attributes:
        missing: Layers that were missing.
        rules: Rules by which they were.
    """

    missing: frozenset[str]
    cause: str | None
    rules: frozenset[str]
    deviation: int | None
    diagnosis: Diagnosis


def known(form: str) -> bool:
    """Whether the doctor has an importer for what a writer of ours writes."""
    return NAMES[form] in _BY_NAME


def guessed(document: Any) -> Format:
    """Return the format that a document looks most like."""
    return max(FORMATS, key=lambda form: form.fits(document))


def diagnose(document: Mapping[str, Any], form: str | None = None) -> Said:
    """Return what is said of a document's first run, read as `form` or as it looks."""
    format_ = _BY_NAME[NAMES[form]] if form else guessed(document)
    return next(diagnoses(document, format_))


def diagnoses(document: Mapping[str, Any], format_: Format) -> Iterator[Said]:
    """Yield what is said of each run in a document."""
    records = list(format_.records(document))
    by_run: dict[str, list[Any]] = {}
    for n, record in enumerate(records):
        by_run.setdefault(format_.trace_of(record) or f"{n}", []).append(record)
    for own, held in by_run.items():
        found = examine(infer(format_.case(held, own)))
        missing = [one for one in found.layers if one.verdict == "missing"]
        yield Said(
            missing=frozenset(one.layer for one in missing),
            cause=found.cause,
            rules=frozenset(e.rule.name for one in missing for e in one.findings),
            deviation=found.first_deviation,
            diagnosis=found,
        )

"""What every importer says of its format; the reading itself is done once, for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from undercroft.model.case import Case, Facet


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of traces, as data.

    A *document* is one line of JSON lines, one element of a list at the top of a file or under
    its container key, or the file's one object. A *record* is a message, a span or a run.

    Attributes:
        name: As `--format` and the report name it: `openai-chat`, `otlp`, …
        title: For people.
        can_show: What the format can carry at all.
        fits: How much one document looks like it: 0 not at all, 1 beyond doubt. Never raises.
        records: The records of one document, in order. What is no record is left in: `case`
            makes a `Flaw` of it.
        trace_of: Which run a record belongs to; None where a document is a run by itself, and
            empty where all that names no other run is one.
        case: One run, from its records in the order of the input. Never raises on bad data.
        containers: Keys at the top of a file under which its documents are a list.
    """

    name: str
    title: str
    can_show: frozenset[Facet]
    fits: Callable[[Any], float]
    records: Callable[[Any], Iterable[Any]]
    trace_of: Callable[[Any], str | None]
    case: Callable[[Sequence[Any], str], Case]
    containers: tuple[str, ...] = ()

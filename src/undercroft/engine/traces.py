"""The finished record of a turn from its events: what the layers say of it, put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from undercroft.layers.observability.state import fold
from undercroft.layers.parallelism.report import report
from undercroft.model.event import AnyEvent
from undercroft.model.trace import Trace


def trace_of(events: Iterable[AnyEvent]) -> Trace | None:
    """Return the record that `events` of one turn add up to; None where there are none."""
    trace = fold(events)
    return trace and replace(trace, parallelism=report(trace.steps))

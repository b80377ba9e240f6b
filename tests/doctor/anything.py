"""Any JSON at all, and what holds of every run that an importer makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from undercroft.doctor.importers.form import Format
from undercroft.model.case import Case

# Keys and words that importers look for, so that chance finds its way into them.
_WORDS = (
    "id", "type", "name", "role", "content", "messages", "input", "output", "inputs", "outputs",
    "tool_calls", "function", "arguments", "trace_id", "traceId", "parent_id", "parent_run_id",
    "observations", "run_type", "span_data", "object", "trace.span", "lc", "kwargs", "parts",
    "user", "assistant", "tool", "function", "generation", "GENERATION", "TOOL", "llm", "error",
    "spans", "trace", "child_runs",
    "choices", "message", "generations", "usage", "startTime", "start_time", "text", "steps",
)  # fmt: skip
_keys = st.sampled_from(_WORDS) | st.text(max_size=5)
_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.sampled_from(_WORDS)
    | st.text(st.characters(), max_size=12)
    | st.sampled_from(["{", '{"a": 1}', "[[", "\ud800", "\x00", "2025-01-01T00:00:00Z", "9" * 400])
)
json_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)


def steps_of(case: Case) -> list[int]:
    """Return all steps that a run names."""
    found = [text.step for text in case.texts]
    for call in case.calls:
        found += [call.step, *call.causes]
        found += [one for one in (call.ended, call.parent) if one is not None]
        found += [call.batch] if call.batch != -1 else []
    for ask in case.asks:
        found += [ask.step] if ask.parent is None else [ask.step, ask.parent]
    found += [act.step for act in case.acts]
    return found + [step for flaw in case.flaws for step in flaw.steps]


def check_sound(form: Format, documents: Sequence[Any]) -> Case:
    """Read documents as one run, and check what holds of any run."""
    records: list[Any] = []
    for document in documents:
        assert 0 <= form.fits(document) <= 1
        records += form.records(document)
    for record in records:
        assert isinstance(form.trace_of(record), str | None)
    case = form.case(records, "file")
    assert case.steps <= len(records)
    assert all(0 <= step < case.steps for step in steps_of(case))
    assert case.shows <= form.can_show
    assert [call.step for call in case.calls] == sorted(call.step for call in case.calls)
    assert all(call.took_s is None or call.took_s >= 0 for call in case.calls)
    return case

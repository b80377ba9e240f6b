"""Recorded runs of other people's agents: all are read, and all calls get their results.

They are read in place, and are no part of the project; where they are not there nothing is tested.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from undercroft.doctor.source import Guess, read_cases
from undercroft.model.case import Case

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the recorded traces are not here")

FOLDERS = (
    ("tau_airline", "openai-chat", 68),
    ("tau_retail", "openai-chat", 132),
    ("agentrx_tau_retail", "openai-chat", 10),
    ("who_and_when", "plain", 57),
)


@pytest.mark.parametrize(("folder", "form", "count"), FOLDERS)
def test_recorded_runs_are_read_whole(folder: str, form: str, count: int) -> None:
    """Each run is read, with every call, every result, and every step where it stood."""
    path = DATA / folder / "traces.jsonl.gz"
    found, *cases = read_cases(path)
    assert isinstance(found, Guess)
    assert found.format == form
    with gzip.open(path) as lines:
        raw: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert len(cases) == len(raw) == count
    for document, case in zip(raw, cases, strict=True):
        assert isinstance(case, Case)
        messages = document["messages"] or []
        assert case.trace_id == document["trace_id"]
        assert case.steps == len(messages)
        assert case.error == " ".join((document.get("run_error") or "").split())[: len(case.error)]
        if form == "plain":
            continue
        asked = [(n, one["function"]["name"]) for n, m in enumerate(messages)
                 for one in m.get("tool_calls") or ()]  # fmt: skip
        results = [n for n, m in enumerate(messages) if m["role"] == "tool"]
        assert [(call.step, call.name) for call in case.calls] == asked
        assert sorted(call.ended for call in case.calls if call.ended is not None) == results
        assert all(call.arguments is not None for call in case.calls)
        assert not {flaw.kind for flaw in case.flaws} & {
            "orphan_result",
            "unreadable",
            "missing_id",
        }

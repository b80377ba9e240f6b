"""Chat logs: what holds of every run, whatever a file says."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doctor.anything import json_values, steps_of
from tests.doctor.writers import Batch, Call, Event, Reply, Story, User, anthropic_chat, openai_chat
from undercroft.doctor.importers import anthropic_chat as anthropic
from undercroft.doctor.importers import openai_chat as openai
from undercroft.doctor.importers import plain
from undercroft.doctor.importers.form import Format
from undercroft.doctor.source import Guess, Problem, read_cases
from undercroft.model.case import CallStatus, Case

FORMS = (openai.FORMAT, anthropic.FORMAT, plain.FORMAT)

_roles = st.sampled_from(["user", "assistant", "tool", "system", "function", "Planner", "", None])
_texts = st.sampled_from(
    ["", "hello", "Error: no", "exitcode: 1 (failed)", "```py\nx\n```", "\ud800"]
)
_ids = st.sampled_from(["a", "b", "", None])
_calls = st.lists(
    st.fixed_dictionaries(
        {"function": st.fixed_dictionaries({"name": st.sampled_from(["get", "put"])})},
        optional={"id": _ids},
    ),
    max_size=3,
)
_messages = st.fixed_dictionaries(
    {"role": _roles},
    optional={
        "content": _texts | json_values,
        "tool_calls": _calls | json_values,
        "tool_call_id": _ids,
        "name": st.sampled_from(["get", "put", "Ada"]),
        "timestamp": st.integers(0, 2_000_000_000) | json_values,
        "usage": st.just({"prompt_tokens": 3}) | json_values,
    },
)
_documents = (
    json_values
    | _messages
    | st.lists(_messages | json_values, max_size=6)
    | st.fixed_dictionaries({"messages": st.lists(_messages | json_values, max_size=6)})
    | st.fixed_dictionaries(
        {"messages": st.lists(_messages, max_size=4), "choices": st.lists(json_values, max_size=2)}
    )
    | st.fixed_dictionaries({"request": json_values, "response": json_values})
)


def check(form: Format, documents: Sequence[Any]) -> list[Case]:
    """Read documents as runs, and check what holds of all of them."""
    records: list[Any] = []
    for document in documents:
        assert 0 <= form.fits(document) <= 1
        records += form.records(document)
    for record in records:
        assert isinstance(form.trace_of(record), str | None)
    case = form.case(records, "file")
    assert all(0 <= step < case.steps for step in steps_of(case)) or case.steps == 0
    assert all(call.ended is None or call.ended > call.step for call in case.calls)
    assert all((call.result is None) == (call.ended is None) for call in case.calls)
    assert all(call.status is CallStatus.UNKNOWN for call in case.calls if call.ended is None)
    assert [call.step for call in case.calls] == sorted(call.step for call in case.calls)
    assert case.shows <= form.can_show
    assert form.case(records, "file") == case
    return [case]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@given(documents=st.lists(_documents, max_size=4))
@settings(max_examples=60)
def test_no_document_raises(form: Format, documents: list[Any]) -> None:
    """Any JSON is read as a run: steps are in range, a result comes after its call, twice alike."""
    check(form, documents)


# --- the same run in every wrapping ------------------------------------------------------------

_arguments = st.dictionaries(
    st.sampled_from(["order_id", "n"]), st.sampled_from(["#A1", 3]), max_size=2
)
_tool_calls = st.builds(
    Call,
    name=st.sampled_from(["get_order", "cancel_order"]),
    arguments=_arguments,
    result=st.sampled_from([None, "", "done", {"order_id": "#A1", "status": "pending"}]),
    error=st.sampled_from(["", "", "no such order"]),
)
_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(User, st.sampled_from(["hello", "cancel #A1", "Grüße, 世界 😀"])),
    st.builds(Batch, st.lists(_tool_calls, min_size=1, max_size=3).map(tuple)),
    st.builds(Reply, st.sampled_from(["It is done.", "Which one?"])),
)
_stories = st.builds(
    Story, st.lists(_events, min_size=2, max_size=8).map(lambda e: (User("hi"), *e, Reply("bye")))
)


def runs_of(path: Path) -> list[Case]:
    """Return the runs of a file in which nothing is wrong."""
    read = list(read_cases(path))
    assert not [one for one in read if isinstance(one, Problem)]
    assert sum(isinstance(one, Guess) for one in read) == 1
    return [one for one in read if isinstance(one, Case)]


@pytest.mark.parametrize("write", [openai_chat, anthropic_chat])
@given(told=_stories)
@settings(max_examples=20)
def test_wrapping_changes_nothing(write: Any, told: Story, tmp_path_factory: Any) -> None:
    """A trace is the same run as a document, a line, in a list, a line a message, and packed."""
    folder: Path = tmp_path_factory.mktemp("wrapped")
    (document,) = write(told)
    document = {key: value for key, value in document.items() if key != "system"}
    line = json.dumps(document)
    named = [{**message, "trace_id": told.name} for message in document["messages"]]
    (folder / "one.json").write_text(json.dumps(document, indent=2))
    (folder / "one.jsonl").write_text(line + "\n")
    (folder / "list.json").write_text(f"[{line}]")
    (folder / "crlf.jsonl").write_bytes(line.encode() + b"\r\n")
    (folder / "marked.json").write_bytes(b"\xef\xbb\xbf" + line.encode())
    (folder / "wide.json").write_bytes(line.encode("utf-16"))
    (folder / "packed.json.gz").write_bytes(gzip.compress(line.encode(), 1))
    (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, named)))
    (folder / "spread.json").write_text(json.dumps(named, indent=1))

    (wanted,) = runs_of(folder / "one.json")
    for path in sorted(folder.iterdir()):
        assert runs_of(path) == [wanted], path.name


@given(text=st.text(max_size=300) | st.binary(max_size=300))
@settings(max_examples=80)
def test_no_file_raises(text: str | bytes, tmp_path_factory: Any) -> None:
    """Whatever a file holds, reading it ends, and says what it found."""
    path: Path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    assert list(read_cases(path))


@given(documents=st.lists(_documents, max_size=4), end=st.integers(0, 2_000))
@settings(max_examples=40)
def test_no_lines_raise(documents: list[Any], end: int, tmp_path_factory: Any) -> None:
    """Any JSON a line, broken off anywhere, is read as far as it goes."""
    path: Path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes("\n".join(map(json.dumps, documents)).encode()[:end])
    for read in read_cases(path):
        if isinstance(read, Case):
            assert all(0 <= step < max(read.steps, 1) for step in steps_of(read))
        assert not isinstance(read, Problem) or read.problem


def test_tools_that_the_provider_runs_end_where_they_began() -> None:
    """A result beside its call, as of a provider's own tools, is that call's."""
    content = [
        {"type": "server_tool_use", "id": "a", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "a", "content": [{"title": "x"}]},
        {"type": "text", "text": "found"},
    ]
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": content}]
    case = anthropic.FORMAT.case([{"messages": messages}], "file")
    assert [(call.step, call.ended) for call in case.calls] == [(1, 1)]
    assert replace(case, trace_id="") == replace(anthropic.FORMAT.case(messages, ""), trace_id="")

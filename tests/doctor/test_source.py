"""From a path to cases: kinds of files, bad input, many runs in one file, and memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.writers import Call, langsmith, openai_chat, otlp_new, story
from undercroft.doctor import documents, growing, opening
from undercroft.doctor.growing import DEPTH_MAX
from undercroft.doctor.source import Guess, Problem, is_journal, read_cases
from undercroft.doctor.spool import Spool
from undercroft.model.case import Case

TOLD = story(
    "Cancel order #A1001.",
    Call("get_order", {"order_id": "#A1001"}, {"order_id": "#A1001", "status": "pending"}),
    Call("cancel_order", {"order_id": "#A1001"}, "done"),
    "It is cancelled.",
)


def trace(name: str = "run-1") -> dict[str, Any]:
    """Return a chat log with that name."""
    (document,) = openai_chat(TOLD)
    return {**document, "trace_id": name}


def line(name: str = "run-1") -> bytes:
    """Return a chat log as a line."""
    return json.dumps(trace(name)).encode() + b"\n"


def read(path: Path, data: bytes, **more: Any) -> tuple[list[Case], list[Problem]]:
    """Return the runs and the problems of a file with `data`."""
    path.write_bytes(data)
    found = list(read_cases(path, **more))
    assert sum(isinstance(one, Guess) for one in found) <= 1
    cases = [one for one in found if isinstance(one, Case)]
    return cases, [one for one in found if isinstance(one, Problem)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A path for a file."""
    return tmp_path / "file"


# --- what cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b" \n\t\r\n", "only white space"),
        (b"[]", "there is nothing in it"),
        (b"{}", "no format that we know"),
        (b"null", "no format that we know looks like this: null"),
        (b"42", "no format that we know looks like this: 42"),
        (b'{"foo": 1, "bar": 2}', "an object with foo, bar"),
        (b"a note\nof two lines", "text that begins 'a note of two lines'"),
        (bytes(range(256)) * 20, "it is binary"),
        (bytes(1_000), "it is binary"),
        (bytes(range(128, 256)) * 20, "it is binary"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "it is a picture"),
        (b"PK\x03\x04" + bytes(50), "a zip archive"),
        (b"SQLite format 3\0" + bytes(50), "SQLite database"),
        (b"\x1f\x8bjunk and no more", "it cannot be unpacked"),
        (b"[" * 100_000, f"more than {DEPTH_MAX} deep"),
        (b'{"trace_id": "x", "mess', "ends in the middle"),
    ],
)
def test_what_cannot_be_read_is_said(file: Path, data: bytes, says: str) -> None:
    """Where nothing can be read there is no run, and the first problem says why."""
    cases, problems = read(file, data)
    assert not cases
    assert any(says in one.problem for one in problems), problems
    assert all(one.place for one in problems)
    assert not any(one.problem.endswith(".") for one in problems)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    """A folder, and what is not there, are problems with a way on."""
    for path, says in ((tmp_path, "folder"), (tmp_path / "none", "no such file")):
        (problem,) = read_cases(path)
        assert isinstance(problem, Problem)
        assert says in problem.problem
        assert problem.mend


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_said(file: Path) -> None:
    """A file that we may not read is a problem, not an exception."""
    file.write_bytes(line())
    file.chmod(0)
    (problem,) = read_cases(file)
    assert isinstance(problem, Problem)
    assert "cannot be opened" in problem.problem


def test_a_journal_is_told_by_its_header(file: Path) -> None:
    """A SQLite file is known by how it begins; what is no file is none."""
    with sqlite3.connect(file) as database:
        database.execute("create table a (b)")
    database.close()
    assert is_journal(file)
    assert not is_journal(file.parent)
    file.write_bytes(line())
    assert not is_journal(file)


def test_a_format_that_is_told_is_not_guessed(file: Path) -> None:
    """`form` overrides the guess; a name that is no format's is a problem that names them all."""
    cases, problems = read(file, line(), form="anthropic-chat")
    assert [case.format for case in cases] == ["anthropic-chat"]
    assert not problems
    cases, (problem,) = read(file, line(), form="nonsense")
    assert not cases
    assert "openai-chat" in problem.mend


# --- what is partly bad -------------------------------------------------------------------------


def test_a_bad_line_costs_that_line(file: Path) -> None:
    """JSON lines are read round a bad one, which is named by its number."""
    cases, (problem,) = read(file, line("a") + b'{"trace_id": oops}\n\n' + line("b"))
    assert [case.trace_id for case in cases] == ["a", "b"]
    assert problem.place == "file:2"


def test_a_bad_first_line_costs_that_line(file: Path) -> None:
    """A header that is no JSON, and a first line that is damaged, do not hide the others."""
    for first in (b"2025-01-01 INFO started\n", b'{"trace_id": "x\n'):
        cases, (problem,) = read(file, first + line("a") + line("b"))
        assert [case.trace_id for case in cases] == ["a", "b"]
        assert problem.place == "file:1"


def test_many_bad_lines_are_counted(file: Path) -> None:
    """Of many bad lines the first are named, and the others counted."""
    _, problems = read(file, line("a") + b"{bad}\n" * 100 + line("b"))
    assert len(problems) == 21
    assert "80 more lines" in problems[-1].problem


def whole(steps: int) -> Iterator[bytes]:
    """Yield what a file may look like that ends in the middle of a run's messages."""
    pretty = json.dumps(trace("cut"), indent=1).encode()
    plain = json.dumps(trace("cut")).encode()
    last = json.dumps(trace("cut")["messages"][steps]).encode()
    yield plain[: plain.index(last)]
    yield pretty[: pretty.index(b'"content": "It is cancelled') - 20]
    yield line("a") + plain[: plain.index(last)]
    yield b"[" + line("a") + b"," + plain[: plain.index(last) + 5]


def test_what_is_cut_off_is_read_so_far(file: Path) -> None:
    """Of a file that ends too early what came before is read, and the run is said to be cut off."""
    for data in whole(6):
        cases, problems = read(file, data)
        last = cases[-1]
        assert last.trace_id == "cut"
        assert last.steps in {6, 7}
        assert [call.ended for call in last.calls] == [3, 5]
        assert "cut_off" in {flaw.kind for flaw in last.flaws}
        assert last.finished is None
        assert any("ends in the middle" in one.problem for one in problems)
        assert all("cut_off" not in {flaw.kind for flaw in one.flaws} for one in cases[:-1])


def test_what_is_packed_and_cut_off_is_read_so_far(file: Path) -> None:
    """Of an archive that ends too early what can be unpacked is read."""
    data = b"".join(line(f"run-{n}") for n in range(50))
    cases, problems = read(file, gzip.compress(data)[:-40])
    assert 0 < len(cases) <= 50
    assert any("cannot be read to its end" in one.problem for one in problems)


def test_text_after_a_document_is_said(file: Path) -> None:
    """What follows a document and is no JSON is a problem; the document is read."""
    cases, problems = read(file, line("a").rstrip() + b" and so on")
    assert [case.trace_id for case in cases] == ["a"]
    assert len(problems) == 1


@pytest.mark.parametrize(
    "odd",
    [b"NaN", b"-Infinity", b"1e999", b"9" * 6_000, b'"\\ud800"', b'"\xff\xfe"'],
    ids=["nan", "infinity", "large float", "large integer", "surrogate", "no utf-8"],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_values_that_json_does_not_know_are_read(
    file: Path, odd: bytes, indent: int | None
) -> None:
    """What some writers make of odd values costs nothing else."""
    document = trace("a")
    document["messages"][0]["odd"] = "HERE"
    document["messages"][1]["content"] = "HERE"
    data = json.dumps(document, indent=indent).encode().replace(b'"HERE"', odd)
    (case,), problems = read(file, data)
    assert not problems
    assert case.steps == 7
    for text in case.texts:
        text.text.encode()


def test_what_is_nested_too_deeply_is_left_out(file: Path) -> None:
    """A value of 10,000 levels costs that value, as a line and as a document, and is said."""
    deep = b'{"deep": ' + b"[" * 10_000 + b"]" * 10_000 + b', "trace_id"'
    data = line("a").replace(b'{"trace_id"', deep)
    for extra in (b"", line("b")):
        cases, problems = read(file, data + extra)
        assert [case.steps for case in cases] == [7] * len(cases)
        assert cases[0].trace_id == "a"
        assert [one.problem for one in problems] == [documents._TOO_DEEP]  # noqa: SLF001  its words


def test_a_line_has_a_bound(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line longer than the bound is left out and said; those after it are read."""
    monkeypatch.setattr(documents, "LINE_BYTES_MAX", 5_000)
    long = json.dumps({**trace("long"), "more": "x" * 20_000}).encode() + b"\n"
    cases, (problem,) = read(file, line("a") + long + line("b"))
    assert [case.trace_id for case in cases] == ["a", "b"]
    assert problem.place == "file:2"
    assert "longer than" in problem.problem


def test_a_text_has_a_bound(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a text longer than the bound the beginning is read, and that is said."""
    monkeypatch.setattr(documents, "TEXT_BYTES_MAX", 1_000)
    cases, (problem,) = read(file, b"User: hello\nCoder: hi\n" * 100)
    assert len(cases) == 1
    assert cases[0].finished is None
    assert "read so far" in problem.problem


def test_what_belongs_to_another_format_is_said(file: Path) -> None:
    """In a mixed file one format is read, and what looks like another is named with its place."""
    spans = json.dumps(otlp_new(TOLD)[0]).encode() + b"\n"
    cases, problems = read(file, line("a") + line("b") + spans + line("c") + b'{"foo": 1}\n')
    assert [case.trace_id for case in cases] == ["a", "b", "c"]
    assert [one.place for one in problems] == ["file:3", "file:5"]
    assert "OpenTelemetry" in problems[0].problem


def test_what_is_no_message_counts_as_a_step(file: Path) -> None:
    """Among messages, one that is none keeps its place, so that steps count as in the file."""
    messages = trace()["messages"]
    lines = [*messages[:2], {"foo": 1}, *messages[2:]]
    (case,), problems = read(file, "\n".join(map(json.dumps, lines)).encode())
    assert not problems
    assert case.steps == 8
    assert [call.step for call in case.calls] == [3, 5]
    assert [(flaw.kind, flaw.steps) for flaw in case.flaws] == [("unreadable", (2,))]


# --- names, groups, streams ---------------------------------------------------------------------


def test_runs_have_names(file: Path) -> None:
    """A run has the name that its record gives it; else that of the file, and its place there."""
    nameless = {"messages": trace()["messages"]}
    one, _ = read(file, json.dumps(nameless).encode())
    lines, _ = read(file, b"\n".join([json.dumps(nameless).encode()] * 2))
    listed, _ = read(file, json.dumps([nameless] * 2).encode())
    named, _ = read(file, line("mine"))
    assert [case.trace_id for case in one] == ["file"]
    assert [case.trace_id for case in lines] == ["file:1", "file:2"]
    assert [case.trace_id for case in listed] == ["file[0]", "file[1]"]
    assert [case.trace_id for case in named] == ["mine"]


def test_records_of_several_runs_are_sorted_out(file: Path) -> None:
    """Runs whose records are mixed come out one by one, in the order in which they began."""
    runs = [langsmith(TOLD), langsmith(TOLD), langsmith(TOLD)]
    for n, records in enumerate(runs):
        for record in records:
            record.update(json.loads(json.dumps(record).replace("run-1", f"run-{n}")))
    mixed = [record for records in zip(*runs, strict=True) for record in records]
    cases, problems = read(file, "\n".join(map(json.dumps, mixed)).encode())
    assert not problems
    assert [case.trace_id for case in cases] == ["run-0", "run-1", "run-2"]
    assert [len(case.calls) for case in cases] == [2, 2, 2]


def test_a_large_object_is_read_in_parts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether an object is held or given out in parts, its runs are the same."""
    spans = otlp_new(TOLD)[0]
    document = {"resourceSpans": spans["resourceSpans"] * 1, "more": {"a": [1]}}
    small, _ = read(file, json.dumps(document).encode())
    monkeypatch.setattr(growing, "HELD_BYTES_MAX", 0)
    monkeypatch.setattr(documents, "_BUFFER_BYTES", 64)
    large, problems = read(file, json.dumps(document, indent=1).encode())
    assert not problems
    assert large == small


def test_a_line_too_long_to_peek_at_is_read_as_a_document(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON lines whose first is longer than what is peeked at are read all the same."""
    monkeypatch.setattr(documents, "_PEEK_BYTES", 200)
    cases, problems = read(file, line("a") + line("b"))
    assert not problems
    assert [case.trace_id for case in cases] == ["a", "b"]


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is standard input, packed or not."""
    for data in (line("a"), gzip.compress(line("a"))):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        cases = [one for one in read_cases("-") if isinstance(one, Case)]
        assert [case.trace_id for case in cases] == ["a"]


def test_a_pipe_is_read(tmp_path: Path) -> None:
    """What can be read only once, as a shell's `<(…)`, is read."""
    reading, writing = os.pipe()
    os.write(writing, line("a"))
    os.close(writing)
    cases = [one for one in read_cases(f"/dev/fd/{reading}") if isinstance(one, Case)]
    os.close(reading)
    assert [case.trace_id for case in cases] == ["a"]
    assert not list(tmp_path.iterdir())


def test_what_waits_on_disk_is_the_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records beyond the bound go to a file without a name that nobody else may read."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    records = [{"n": n, "big": 10**30, "text": "x" * 100} for n in range(100)]
    with Spool(memory_bytes=1_000) as spool:
        for record in records:
            spool.add(str(record["n"] % 3), record)  # type: ignore[operator]  # it is a number
        held = os.fstat(spool._file.fileno())  # noqa: SLF001  what is on disk is the point
        assert stat.S_IMODE(held.st_mode) == 0o600
        assert not list(tmp_path.iterdir())
        found = {run: list(kept) for run, kept in spool.runs()}
    assert found == {str(n): [r for r in records if r["n"] % 3 == n] for n in range(3)}  # type: ignore[operator]


def test_nothing_is_left_behind(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that stops half way leaves no file."""
    folder = file.parent / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(opening, "MEMORY_BYTES", 10)
    file.write_bytes(json.dumps(trace()).encode("utf-16"))
    reading = read_cases(file)
    next(reading)
    reading.close()  # type: ignore[attr-defined]  # it is a generator
    assert not list(folder.iterdir())


@pytest.mark.slow
def test_memory_stays_flat(file: Path) -> None:
    """A file of 200 MB, of lines or in a list, is read with as much memory as one of 20 MB."""
    body = json.dumps({**trace(), "more": "x" * 20_000})

    def peak_mb(megabytes: int, *, listed: bool) -> float:
        count = megabytes * 1_000_000 // len(body)
        with file.open("w") as out:
            out.write("[" if listed else "")
            for n in range(count):
                out.write((",\n" if listed and n else "") + body + ("" if listed else "\n"))
            out.write("]" if listed else "")
        code = (
            "import sys, resource\n"
            "from undercroft.doctor.source import read_cases\n"
            "n = sum(1 for _ in read_cases(sys.argv[1]))\n"
            f"assert n == {count} + 1, n\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(file)], check=True, capture_output=True, text=True
        )
        return int(done.stdout) / 1024

    for listed in (False, True):
        assert peak_mb(200, listed=listed) < peak_mb(20, listed=listed) + 20

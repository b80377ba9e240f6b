"""The doctor on the command line: what people and programs are told of any trace, and of none."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.cli.conftest import EMAIL, WAIT_S, Face
from tests.docs.doctor_tables import PAGE, with_tables
from undercroft.doctor.report import LAYERS
from undercroft.doctor.told import told_of

Message = dict[str, Any]
VERDICTS = {"missing", "guard_fired", "not_exercised", "not_observable"}
HOSTILE = (
    "\x1b[2J\x1b]0;x\x07\u202egnp\x00\u2066</td></script><img src=https://example.com/x> \ud800"
)


def user(text: str) -> Message:
    """Return what a user said."""
    return {"role": "user", "content": text}


def tells(text: str) -> Message:
    """Return what the agent said."""
    return {"role": "assistant", "content": text}


def call(name: str, result: str, number: int = 0, **arguments: Any) -> list[Message]:
    """Return a call and its result."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    calls = [{"id": f"call_{number}", "type": "function", "function": function}]
    return [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": f"call_{number}", "content": result},
    ]


GOOD = [
    user("Where is my order #A1001?"),
    *call("get_order", '{"order_id": "#A1001", "status": "shipped"}', order_id="#A1001"),
    tells("It is on its way."),
]
# The same broken call three times, with nothing changed between.
BROKEN = [
    user("Where is my order #A1001?"),
    *(
        message
        for number in range(3)
        for message in call("get_order", "Error: not found", number, order_id="#A1001")
    ),
    tells("I could not find it."),
]


def save(path: str, *messages: Message, **more: Any) -> str:
    """Write a trace, and return where."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps({"messages": messages, **more}))
    return path


def lines(*runs: list[Message]) -> str:
    """Return traces as JSON lines."""
    return "".join(
        json.dumps({"trace_id": f"run-{place}", "messages": run}) + "\n"
        for place, run in enumerate(runs)
    )


def documents(text: str) -> list[Any]:
    """Return the objects of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def flat(text: str) -> str:
    """Return a wrapped text on one line."""
    return " ".join(text.split())


# ---------------------------------------------------------------------- one trace


def test_one_trace_gets_a_report(face: Face) -> None:
    """A report names the cause, its rule, steps and evidence, and the lines that add the layer."""
    result = face.use("doctor", save("bad.json", *BROKEN))
    assert result.exit_code == 1
    said = flat(result.stdout)
    assert "The breakers were missing at step 3." in said
    assert "breakers.repeat_after_failure" in said
    assert "Error: not found" in said
    assert "Undercroft would have refused" in said
    assert "What adds the breakers:" in said
    assert "8 steps, read as openai-chat" in said
    assert all(layer in said for layer in LAYERS)
    assert all(cell_len(line) <= 80 for line in result.stdout.splitlines())
    assert not result.stderr


def test_a_run_that_went_well_has_no_cause(face: Face) -> None:
    """Where no layer was missing the report says so, and the exit code is 0."""
    result = face.use("doctor", save("good.json", *GOOD))
    assert result.exit_code == 0, result.stdout
    assert "No runtime layer was the cause." in result.stdout
    assert "missing" not in result.stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_a_report_fits_the_terminal(face: Face, columns: int) -> None:
    """No line of a report is wider than the terminal."""
    save("t/a.json", *BROKEN)
    save("t/a-trace-with-a-name-that-is-longer-than-any-terminal-is-wide" * 2 + ".json", *GOOD)
    for words in (["t"], ["t/a.json"], ["t/a.json", "--all"]):
        result = face.at(columns, "doctor", *words)
        assert all(cell_len(line) <= columns for line in result.stdout.splitlines())
    narrow = face.at(60, "doctor", "t").stdout
    assert all(cell_len(line) <= 60 for line in narrow.splitlines())


def test_long_lists_are_cut_and_all_shows_them(face: Face) -> None:
    """Many findings of one rule are counted, not printed, unless all are asked for."""
    run = []
    for number in range(12):
        order = f"#A10{number:02}"
        run += [user(f"Where is {order}?")]
        run += call("get_order", "Error: not found", 2 * number, order_id=order)
        run += call("get_order", "Error: not found", 2 * number + 1, order_id=order)
        run += call("get_order", '{"status": "shipped"}', 100 + number, order_id=order)
    save("long.json", *run, tells("I give up."))
    short, full = face.use("doctor", "long.json"), face.use("doctor", "long.json", "--all")
    assert "more like it: --all" in short.stdout
    assert "--all" not in full.stdout
    assert len(full.stdout) > len(short.stdout)


# ---------------------------------------------------------------------- many


def test_several_get_a_line_each_and_totals(face: Face) -> None:
    """Of many traces each has one line, with its cause; the totals count all of them."""
    save("t/a.json", *GOOD)
    save("t/deep/er/b.json", *BROKEN)
    save("t/c.json", *GOOD)
    result = face.use("doctor", "t")
    rows = result.stdout.splitlines()
    assert result.exit_code == 1
    assert [row.split()[0] for row in rows[1:4]] == ["t/a.json", "t/c.json", "t/deep/er/b.json"]
    assert rows[3].rstrip().endswith("breakers")
    assert "3 runs: in 1 a layer was missing, in 2 none was." in flat(result.stdout)
    assert "breakers.repeat_after_failure in 1 run" in result.stdout


def test_a_folder_holds_more_than_traces(face: Face) -> None:
    """What is plainly no trace, hidden, or behind a link is passed over without a word."""
    save("t/a.json", *GOOD)
    save("t/.hidden/b.json", *BROKEN)
    save("elsewhere/c.json", *BROKEN)
    Path("t/link").symlink_to(Path("elsewhere").resolve(), target_is_directory=True)
    Path("t/readme.md").write_text("# Traces")
    Path("t/picture.png").write_bytes(b"\x89PNG\r\n")
    result = face.use("doctor", "t", "--json")
    assert [found["file"] for found in documents(result.stdout)] == ["t/a.json"]
    assert (result.exit_code, result.stderr) == (0, "")


def test_json_lines_are_a_trace_a_line(face: Face) -> None:
    """JSON lines give an object a line, in their order and named as they name themselves."""
    Path("runs.jsonl").write_text(lines(GOOD, BROKEN, GOOD))
    found = documents(face.use("doctor", "runs.jsonl", "--json").stdout)
    assert [(one["trace"], one["cause"]) for one in found] == [
        ("run-0", "none"),
        ("run-1", "breakers"),
        ("run-2", "none"),
    ]


def test_standard_input_and_gzip_are_read_alike(face: Face) -> None:
    """The same runs give the same lines from a file, gzipped, and from standard input."""
    text = lines(GOOD, BROKEN)
    Path("runs.jsonl").write_text(text)
    Path("runs.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    told = [
        face.use("doctor", "runs.jsonl", "--json"),
        face.use("doctor", "runs.jsonl.gz", "--json"),
        face.use("doctor", "-", "--json", stdin=text),
    ]
    runs = [documents(one.stdout) for one in told]
    for found in (found for run in runs for found in run):
        del found["file"]
    assert runs[0] == runs[1] == runs[2]
    assert {one.exit_code for one in told} == {1}


def test_a_pipe_works_as_a_file(face: Face) -> None:
    """What another command prints is read where it is named as a file, as shells do."""
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_text, args=(lines(GOOD, BROKEN),))
    writer.start()
    found = documents(face.use("doctor", "pipe", "--json").stdout)
    writer.join(WAIT_S)
    assert [(one["trace"], one["file"]) for one in found] == [("run-0", "pipe"), ("run-1", "pipe")]


def test_one_run_is_picked_by_its_name(face: Face) -> None:
    """`--turn` takes one run of many, and says so where there is none of that name."""
    Path("runs.jsonl").write_text(lines(GOOD, BROKEN))
    result = face.use("doctor", "runs.jsonl", "--turn", "run-0", "--json")
    assert [one["trace"] for one in documents(result.stdout)] == ["run-0"]
    nobody = face.use("doctor", "runs.jsonl", "--turn", "run-9")
    assert nobody.exit_code == 2
    assert "no run in it is named run-9" in flat(nobody.stderr)


# ---------------------------------------------------------------------- our own journal


def test_our_own_journal_is_read(face: Face) -> None:
    """Each turn of a journal is a run; `--turn` takes one, also by `last`."""
    first = face.json("run", "app.py:order", "--input", EMAIL)["turn_id"]
    second = face.json("run", "app.py:order", "--input", EMAIL)["turn_id"]
    found = documents(face.use("doctor", "undercroft.db", "--json").stdout)
    assert [one["trace"] for one in found] == [first, second]
    assert not [one for one in found if one["cause"] in LAYERS]
    many = face.use("doctor", "undercroft.db", "--turn", "t-")
    assert (many.exit_code, many.stderr.count("undercroft.db")) == (2, 1)
    assert "more than one turn begins with t-" in flat(many.stderr)
    for name in (second, "last"):
        result = face.use("doctor", "undercroft.db", "--turn", name, "--json")
        assert [one["trace"] for one in documents(result.stdout)] == [second]


def test_a_database_of_something_else_is_no_journal(face: Face) -> None:
    """A database that is not ours is exit code 2 and one clear message."""
    Path("other.db").write_bytes(b"SQLite format 3\x00" + bytes(100))
    result = face.use("doctor", "other.db")
    assert result.exit_code == 2
    assert result.stderr.count("other.db") == 1
    assert "Traceback" not in result.stderr


# ---------------------------------------------------------------------- JSON


def test_json_is_one_line_of_promised_keys(face: Face) -> None:
    """One trace gives one JSON document on one line, with the promised keys first."""
    result = face.use("doctor", save("bad.json", *BROKEN), "--json")
    (found,) = documents(result.stdout)
    assert list(found)[:5] == ["format", "steps", "layers", "first_deviation", "cause"]
    assert tuple(found["layers"]) == LAYERS
    assert {one["verdict"] for one in found["layers"].values()} <= VERDICTS
    first = found["layers"]["breakers"]["findings"][0]
    assert list(first)[:4] == ["rule", "steps", "evidence", "precision"]
    assert first["steps"][0] == 3
    assert (found["steps"], found["cause"], found["format"]) == (8, "breakers", "openai-chat")


# ---------------------------------------------------------------------- bad input


BAD = {
    "empty": b"",
    "blank": b" \n\n ",
    "binary": bytes(range(256)) * 8,
    "truncated": b'{"messages": [{"role": "us',
    "unknown": b'{"what": {"nobody": ["knows", 1]}}',
    "number": b"42",
    "null": b"null",
    "no-gzip": b"\x1f\x8b\x08\x00broken",
    "deep": b"[" * 100_000,
    "half": b'"\xff\xfe',
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_one_message(face: Face, name: str) -> None:
    """Where nothing could be read, a message names the file, and the exit code is 2."""
    path = Path(f"{name}.json")
    path.write_bytes(BAD[name])
    for words in ([str(path)], [str(path), "--json"]):
        result = face.use("doctor", *words)
        assert result.exit_code == 2, result.stdout
        assert path.name in result.stderr
        assert "Traceback" not in result.stderr
        assert "should not happen" not in flat(result.stderr)
    (found,) = documents(result.stdout)
    assert found["cause"] is None
    assert {one["verdict"] for one in found["layers"].values()} == {"not_observable"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.json"], "there is no such file"),
        (["empty-folder"], "there is no trace in it"),
        (["good.json", "--format", "morse"], "There are: "),
        (["good.json", "--effects", "nowhere.toml"], "nowhere.toml"),
        (["good.json", "--effects", "bad.toml"], "does not know the key"),
        (["good.json", "--html", "good.json"], "is what is to be read"),
        (["good.json", "--html", "empty-folder"], "it is a folder"),
        (["good.json", "--html", "nowhere/a.html"], "cannot be written"),
        (["a\0b.json"], "there is no such file"),
    ],
)
def test_what_was_typed_wrongly_is_one_message(face: Face, words: list[str], said: str) -> None:
    """A wrong word on the command line is exit code 2, and a message that says what to do."""
    save("good.json", *GOOD)
    Path("empty-folder").mkdir()
    Path("bad.toml").write_text("[tools.get_order]\nreed = true\n")
    before = Path("good.json").read_bytes()
    result = face.use("doctor", *words)
    assert result.exit_code == 2
    assert said in flat(result.stderr)
    assert Path("good.json").read_bytes() == before
    assert sorted(Path().glob(".*")) == []


def test_a_bad_line_costs_that_line(face: Face) -> None:
    """A line in the middle that is no JSON is told with its number; the others are read."""
    good = lines(GOOD, BROKEN).splitlines()
    Path("runs.jsonl").write_text("\n".join((good[0], '{"trace_id": "x", "mess', good[1], "")))
    result = face.use("doctor", "runs.jsonl", "--json")
    assert [one["trace"] for one in documents(result.stdout)] == ["run-0", "run-1"]
    assert result.exit_code == 1
    assert re.search(r"runs\.jsonl\D+2\b", result.stderr)


def test_a_bad_file_costs_that_file(face: Face) -> None:
    """One file of several that cannot be read is told on stderr, and the others are shown."""
    save("a.json", *GOOD)
    Path("b.json").write_bytes(b"")
    save("c.json", *GOOD)
    result = face.use("doctor", "a.json", "b.json", "nowhere.json", "c.json")
    assert result.exit_code == 0
    assert "b.json" in result.stderr
    assert "nowhere.json" in result.stderr
    assert "2 runs: no layer was missing. 2 more could not be read" in flat(result.stdout)


def test_files_of_one_name_are_told_apart(face: Face) -> None:
    """What is said of a file in a folder names its whole path."""
    for folder in ("a", "b"):
        Path("t", folder).mkdir(parents=True)
        Path("t", folder, "x.json").write_bytes(b"")
    save("t/c/x.json", *GOOD)
    save("t/d/x.json", *GOOD)
    result = face.use("doctor", "t")
    assert "t/a/x.json" in result.stderr
    assert "t/b/x.json" in result.stderr
    assert [row.split()[0] for row in result.stdout.splitlines()[1:3]] == [
        "t/c/x.json",
        "t/d/x.json",
    ]


def span(name: str, number: int, **more: Any) -> Message:
    """Return a span of a tool, whose parent and times may be anything."""
    attributes = [{"key": "gen_ai.tool.name", "value": {"stringValue": name}}]
    attributes.append({"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}})
    at = {"startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000001000000000"}
    ids = {"traceId": "a" * 32, "spanId": f"{number:016x}"}
    return {**ids, "name": f"execute_tool {name}", **at, "attributes": attributes, **more}


CROOKED = {
    "cycle": [span("a", 1, parentSpanId=f"{2:016x}"), span("b", 2, parentSpanId=f"{1:016x}")],
    "itself": [span("a", 1, parentSpanId=f"{1:016x}")],
    "missing ids": [span("a", 1, spanId=None), span("b", 2, traceId="")],
    "duplicate ids": [span("a", 1), span("b", 1)],
    "negative": [span("a", 1, endTimeUnixNano="1600000000000000000")],
    "no times": [span("a", 1, startTimeUnixNano=None, endTimeUnixNano="soon")],
    "out of order": [span("b", 2), span("a", 1, startTimeUnixNano="1600000000000000000")],
    "not spans": [span("a", 1), None, 7, "x", [], {}],
}


@pytest.mark.parametrize("name", CROOKED)
def test_spans_may_be_crooked(face: Face, name: str) -> None:
    """Ids, parents and times may be wrong or absent: what can be read is read, without a crash."""
    spans = {"resourceSpans": [{"scopeSpans": [{"spans": CROOKED[name]}]}]}
    Path("spans.json").write_text(json.dumps(spans))
    result = face.use("doctor", "spans.json", "--json")
    assert result.exit_code in (0, 1), result.stderr
    found = documents(result.stdout)
    assert {one["format"] for one in found} == {"otlp"}
    assert "should not happen" not in flat(result.stderr)


# ---------------------------------------------------------------------- hostile text


def hostile() -> list[Message]:
    """Return a run whose every text would harm a terminal or a page."""
    run = [user(HOSTILE)]
    for number in range(3):
        run += call(f"get_order{HOSTILE}", f"Error: {HOSTILE}", number, order_id=HOSTILE)
    return [*run, tells(HOSTILE)]


def test_hostile_text_is_harmless_on_a_terminal(face: Face) -> None:
    """Nothing in a trace moves a cursor, hides or reorders, in a report, a table or a message."""
    Path("bad.jsonl").write_text(
        json.dumps({"trace_id": HOSTILE, "messages": hostile()}) + f"\n{{{HOSTILE!a}\n"
    )
    save("good.json", *GOOD)
    for words in (["bad.jsonl"], ["bad.jsonl", "good.json"], ["bad.jsonl", "--all"]):
        result = face.use("doctor", *words)
        for text in (result.stdout, result.stderr):
            harm = [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"]
            assert not harm
            assert all(cell_len(line) <= 80 for line in text.splitlines())


def test_hostile_text_is_plain_json(face: Face) -> None:
    """Whatever is in a trace, each printed line is ASCII and JSON that any reader takes."""
    Path("bad.jsonl").write_text(json.dumps({"trace_id": HOSTILE, "messages": hostile()}) + "\n")
    result = face.use("doctor", "bad.jsonl", "--json")
    assert result.stdout.isascii()
    found = face.decoded(result.stdout)
    assert found["trace"].startswith("\x1b[2J")


# ---------------------------------------------------------------------- pages


class Page(HTMLParser):
    """What a page is made of; fails where an element is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element, and what it leads to."""
        self.tags.append(tag)
        known = dict(attrs)
        assert not [name for name in known if name.startswith("on")]
        self.links += [known[name] or "" for name in ("href", "src", "action") if name in known]
        self.ids += [known["id"] or ""] if "id" in known else []
        if tag not in {"meta", "br", "hr"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note the end of an element."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note what is read."""
        self.text += data


def test_a_page_opens_without_a_network(face: Face) -> None:
    """A page is whole, has no script, loads nothing, and says what the report says."""
    save("bad.json", *BROKEN)
    result = face.use("doctor", "bad.json", "--html", "bad.html")
    assert result.exit_code == 1
    page = Page(Path("bad.html").read_text())
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    assert not [link for link in page.links if not link.startswith("#")]
    assert "The breakers were missing at step 3." in page.text
    assert "`" not in page.text
    assert "default-src 'none'" in Path("bad.html").read_text()
    assert "bad.html" in result.stderr


def test_a_page_of_many_has_an_index(face: Face) -> None:
    """Every run of a page is in its index, and each link leads to its run."""
    Path("runs.jsonl").write_text(lines(GOOD, BROKEN, GOOD))
    face.use("doctor", "runs.jsonl", "nowhere.json", "--html", "runs.html")
    page = Page(Path("runs.html").read_text())
    assert [link[1:] for link in page.links] == page.ids == ["run-1", "run-2", "run-3"]
    assert "nowhere.json: there is no such file" in page.text


def test_hostile_text_is_text_on_a_page(face: Face) -> None:
    """Nothing in a trace becomes an element or an attribute of a page."""
    Path("bad.jsonl").write_text(
        json.dumps({"trace_id": HOSTILE, "messages": hostile()}) + "\n" + lines(BROKEN)
    )
    face.use("doctor", "bad.jsonl", "--html", "bad.html")
    text = Path("bad.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "img"} & set(page.tags)
    assert not [link for link in page.links if not link.startswith("#")]
    assert not [c for c in text if unicodedata.category(c) in ("Cc", "Cf") and c != "\n"]


def test_a_page_is_put_in_place_whole(face: Face) -> None:
    """Where nothing could be read, the page that was there stays, and nothing is left behind."""
    Path("empty.json").write_bytes(b"")
    Path("old.html").write_text("old")
    assert face.use("doctor", "empty.json", "--html", "old.html").exit_code == 2
    assert Path("old.html").read_text() == "old"
    save("good.json", *GOOD)
    assert face.use("doctor", "good.json", "--html", "old.html").exit_code == 0
    assert Path("old.html").read_text().startswith("<!DOCTYPE html>")
    assert not list(Path().glob(".old*"))


# ---------------------------------------------------------------------- what is told of tools


def test_what_is_told_of_tools_counts(face: Face) -> None:
    """A TOML file may say what a call must keep to, and the run is judged by it."""
    run = [
        user("Set the tier of #A1001 to gold."),
        *call("apply_tier", "ok", tier="gold", account_id="#A1001"),
        tells("Done."),
    ]
    save("run.json", *run)
    Path("told.toml").write_text(
        '[tools.apply_tier]\nwrites = "account/{account_id}"\nneeds = ["get_account"]\n'
    )
    (found,) = documents(face.use("doctor", "run.json", "--effects", "told.toml", "--json").stdout)
    assert found["layers"]["sequencing"]["verdict"] == "missing"


# ---------------------------------------------------------------------- a process of its own


def test_a_closed_pipe_ends_it_without_a_word(face: Face) -> None:
    """Where whoever reads has seen enough, nothing is said and nothing hangs."""
    (face.folder / "runs.jsonl").write_text(lines(*[BROKEN] * 60))
    for words in (["--json"], []):
        with face.start("doctor", "runs.jsonl", *words) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            assert child.stdout.readline()
            child.stdout.close()
            assert child.stderr.read() == ""
            child.wait(WAIT_S)


def test_ctrl_c_ends_it_without_a_word(face: Face) -> None:
    """Ctrl-C while a trace is read is exit code 130, and no traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "undercroft", "doctor", "-"],
        cwd=face.folder,
        env=face.environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        # More than a pipe holds: once all is written, it is being read.
        child.stdin.write("{\n" * (1 << 17))
        child.stdin.flush()
        for _ in range(3):
            # One that arrives just before the process waits is heard with the next; and while it
            # ends, which takes its time on a busy machine, the next would kill it.
            os.kill(child.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(WAIT_S / 3)
                break
        assert child.stderr.read() == ""
    assert child.returncode == 130


def test_who_watches_sees_that_it_reads(face: Face) -> None:
    """Where reading takes long a line on the terminal says so, and results stay as they are."""
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "undercroft", "doctor", "-", "--json"],
        cwd=face.folder,
        env={**face.environment(), "TERM": "xterm"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=end,
        text=True,
    ) as child:
        os.close(end)
        said = b""
        while b"reading" not in said:
            said += os.read(terminal, 1 << 12)
        found, _ = child.communicate(lines(GOOD, BROKEN), timeout=WAIT_S)
    os.close(terminal)
    assert [one["cause"] for one in documents(found)] == ["none", "breakers"]


# ---------------------------------------------------------------------- the documentation


def blocks(language: str) -> list[str]:
    """Return the blocks of the page in one language."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_tables_of_the_page_are_what_decides() -> None:
    """Rules, formats and what is inferred stand in the documentation as they are in the code."""
    text = PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run: python -m tests.docs.doctor_tables"


def test_the_report_of_the_page_is_what_is_printed(face: Face) -> None:
    """What the documentation shows after a command is what that command prints."""
    exec(compile(blocks("python")[0], str(PAGE), "exec"), {"__name__": "snippet"})  # noqa: S102  our own page
    for block in blocks("console"):
        command, _, printed = block.partition("\n")
        result = face.use(*command.removeprefix("$ undercroft ").split())
        assert result.stdout == printed


def test_the_toml_of_the_page_is_understood() -> None:
    """What the documentation shows of a TOML file is what may be told."""
    told = told_of(blocks("toml")[0])
    assert {"cancel_order", "set_tier", "get_*", "think"} == set(told.tools)

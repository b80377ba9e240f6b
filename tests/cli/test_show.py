"""`show` and `turns`: six answers at a glance, whatever is in the journal."""

from __future__ import annotations

import re
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.cli.conftest import EMAIL, Face
from undercroft.layers.observability.answers import QUESTIONS

# Bidi controls, spaces without width, tags: what hides or reorders.
HIDING = re.compile(
    "[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)


def harmless(text: str) -> bool:
    """Whether nothing in `text` does anything to a terminal but print."""
    controls = [c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c != "\n"]
    return not controls and not HIDING.search(text)


def fits(text: str, columns: int = 80) -> bool:
    """Whether no line is wider than the terminal, or ends in blanks."""
    return all(cell_len(line) <= columns and line == line.rstrip() for line in text.splitlines())


def test_the_page_answers_the_six_questions_in_order(face: Face, waiting: str) -> None:
    """The headings are the six questions; then comes what to do."""
    page = face.use("show", waiting).stdout
    places = [page.index(question) for question in (*QUESTIONS, "What now?")]
    assert places == sorted(places)
    assert 'email                  "ada@example.com"' in page
    assert "gate.3: waiting for a person" in page
    assert f"undercroft approve {waiting} gate.3 --by NAME" in page
    assert "Nothing yet." in page


def test_refusals_name_the_rule_and_the_next_move(face: Face) -> None:
    """Of a refused call the page shows the rule, the facts and what to do instead."""
    words = ("--input", '{"message": "hi"}', "--model", "app.py:model")
    face.use("run", "app.py:assist", *words)
    page = face.use("show", "last").stdout
    assert "refused: sequencing.unknown_tool" in page
    assert "change.3 refused: sequencing.read_first" in page
    assert "Next move: Read it with look, then propose change again." in page
    step = face.use("show", "last", "--step", "change.3").stdout
    assert "sequencing.read_first" in step
    assert "readers" in step


def test_what_went_well_only_in_the_end_is_told(face: Face) -> None:
    """A step that failed twice and then succeeded is no failure, but no secret either."""
    face.use("run", "app.py:flaky", "--input", '{"name": "net"}')
    assert "third_time.1 failed 2 times, then succeeded" in face.use("show", "last").stdout
    step = face.use("show", "last", "--step", "third_time").stdout
    assert "attempt 2 failed" in step


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["run", "app.py:evil", "--input", '{"name": "\\u001b[2J"}'], id="run"),
        pytest.param(["show", "last"], id="show"),
        pytest.param(["show", "last", "--all"], id="all"),
        pytest.param(["show", "last", "--step", "text"], id="step"),
        pytest.param(["show", "last", "--step", "raises"], id="step-with-error"),
        pytest.param(["turns"], id="turns"),
    ],
)
def test_hostile_text_does_nothing_to_a_terminal(face: Face, words: list[str]) -> None:
    """Control characters, markup and bidi overrides from tools are shown, never obeyed."""
    face.use(
        "run", "app.py:evil", "--input", '{"name": "\\u009b2J\\u202e"}', "--session", "\x1b[1m"
    )
    result = face.use(*words)
    assert harmless(result.stdout), result.stdout
    assert fits(result.stdout), result.stdout
    if words[0] != "turns":
        assert "[bold]markup[/bold]" in result.stdout
        assert "\\x1b[31mred" in result.stdout or "\\u001b[31mred" in result.stdout


def test_hostile_tool_names_and_arguments_do_nothing(face: Face) -> None:
    """What a model proposes is as hostile as what a tool returns."""
    words = ("--input", '{"message": "hi"}', "--model", "app.py:model")
    ran = face.use("run", "app.py:assist", *words)
    for result in (ran, face.use("show", "last"), face.use("show", "last", "--step", "2")):
        assert harmless(result.stdout), result.stdout
        assert fits(result.stdout), result.stdout
    raw = face.use("show", "last", "--json").stdout
    assert harmless(raw)


def test_no_page_is_wider_than_the_terminal(face: Face, waiting: str, doubted: str) -> None:
    """Every command keeps to 80 columns, and no line ends in blanks."""
    face.use("run", "app.py:wrong", "--input", '{"name": "x"}')
    face.use("run", "app.py:many", "--input", '{"count": 30}')
    for words in (
        ["turns"],
        ["show", waiting],
        ["show", doubted],
        ["show", "last"],
        ["show", "last", "--all"],
        ["show", waiting, "--step", "gate"],
        ["resume", waiting],
        ["resume", doubted],
        ["run", "app.py:wrong", "--input", '{"name": "x"}'],
        ["check", "app.py:careless"],
        ["check", "app.py:unfit"],
    ):
        result = face.use(*words)
        assert fits(result.stdout + result.stderr), result.stdout


def test_a_turn_of_5_000_steps_is_one_page(face: Face) -> None:
    """Long lists lose their middle and say how much, quickly; --all and --step show it."""
    face.use("run", "app.py:many", "--input", '{"count": 5000}')
    began_s = time.monotonic()
    page = face.use("show", "last").stdout
    assert time.monotonic() - began_s < 2.0
    assert len(page.splitlines()) < 90
    assert page.count("… 4,986 more: --all, or --step STEP for one") == 3
    assert "All 5,002 steps." in page
    assert "square[4999].5001" in page
    assert "square[2500].2502" not in page
    assert "square[2500].2502" in face.use("show", "last", "--all").stdout
    assert "6250000" in face.use("show", "last", "--step", "2502").stdout
    assert len(face.json("show", "last")["steps"]) == 5_002


@pytest.mark.parametrize(
    ("step", "said"),
    [
        pytest.param("gaet.3", "Did you mean gate.3?", id="typo"),
        pytest.param("zzz", "undercroft show lists them", id="unknown"),
        pytest.param("99", "it has no step '99'", id="number"),
    ],
)
def test_a_step_that_is_not_there(face: Face, waiting: str, step: str, said: str) -> None:
    """A step that is not there is one message with what is near, exit code 2."""
    result = face.use("show", waiting, "--step", step)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())


def test_a_turn_may_be_named_by_its_beginning(face: Face, waiting: str) -> None:
    """An unambiguous beginning is enough; an ambiguous or unknown one is exit code 2."""
    face.use("run", "app.py:many", "--input", '{"count": 1}')
    assert face.json("show", waiting[:-1])["turn_id"] == waiting
    assert face.json("show", "last")["target"] == "app:many"
    for wrong in ("t-", "t-zzz", "%", ""):
        result = face.use("show", wrong)
        assert result.exit_code == 2
        assert "undercroft turns" in " ".join(result.stderr.split())


def test_turns_are_listed_newest_first_and_by_status(face: Face, waiting: str) -> None:
    """A list can be narrowed by status and session, and says when there is more."""
    for count in range(3):
        given = f'{{"count": {count}}}'
        face.use("run", "app.py:many", "--input", given, "--session", f"s-{count}")
    assert [head["target"] for head in face.json("turns")] == ["app:many"] * 3 + ["app:order"]
    assert face.json("turns", "--status", "waiting")[0]["turn_id"] == waiting
    assert len(face.json("turns", "--status", "waiting", "--status", "done")) == 4
    assert len(face.json("turns", "--session", "s-1")) == 1
    few = face.use("turns", "--limit", "2")
    assert len(few.stdout.splitlines()) == 2
    assert "--limit" in few.stderr
    assert "No turns like that." in face.use("turns", "--status", "failed").stdout
    assert face.use("turns", "--status", "nope").exit_code == 2
    assert face.use("turns", "--limit", "0").exit_code == 2


def test_a_narrow_or_wide_terminal_is_used_as_it_is(face: Face, waiting: str) -> None:
    """The page keeps to the columns there are, from 60 on, and stops growing at 120."""
    for columns in (60, 100, 300):
        result = face.at(columns, "show", waiting)
        assert fits(result.stdout, min(columns, 120)), result.stdout


def test_show_reads_a_turn_with_its_session(face: Face) -> None:
    """A session is shown where there is one."""
    face.use("run", "app.py:order", "--input", EMAIL, "--session", "s-7")
    assert "session s-7" in face.use("show", "last").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--applied"], "it had happened, so it was not done again", id="applied"),
        pytest.param(["--not-applied"], "it had not happened, so it was done then", id="not"),
    ],
)
def test_a_settled_doubt_is_told(face: Face, doubted: str, words: list[str], said: str) -> None:
    """Of a write whose answer was lost the page says what became of it, and who said so."""
    assert "answer lost" in face.use("show", doubted).stdout
    Path("calm").touch()
    face.use("settle", doubted, *words, "--by", "grace")
    page = face.use("show", doubted).stdout
    assert f"pay.1 lost the answer; {said}" in " ".join(page.split())
    assert "says grace" in page


def test_a_word_is_not_lost_where_the_code_is_not_found(face: Face, waiting: str) -> None:
    """An approval counts even where its turn cannot go on at once, and the page says so."""
    Path("app.py").rename("gone.py")
    del sys.modules["app"]
    result = face.use("approve", waiting, "--by", "ada")
    assert result.exit_code == 2
    assert "What you said is recorded" in " ".join(result.stderr.split())
    page = face.use("show", waiting).stdout
    assert "gate.3: decided, but nobody has gone on with the turn" in page
    assert f"undercroft resume {waiting}" in page
    Path("gone.py").rename("app.py")
    assert face.json("resume", waiting)["status"] == "done"

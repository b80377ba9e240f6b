"""`approve`, `reject`, `settle`: a person's word, and what it moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import EMAIL, Face


def sent() -> list[str]:
    """Return the mails that were sent."""
    path = Path("sent.txt")
    return path.read_text().splitlines() if path.exists() else []


def test_approving_twice_is_as_good_as_once(face: Face, waiting: str) -> None:
    """The second word changes nothing: the same answer, and the effect happened once."""
    first = face.use("approve", waiting, "gate.3", "--by", "grace", "--reason", "fine")
    again = face.use("approve", waiting, "--by", "hopper")
    by_name = face.use("approve", waiting, "gate", "--by", "hopper")
    assert (first.exit_code, again.exit_code, by_name.exit_code) == (0, 0, 0)
    assert first.stdout == again.stdout == by_name.stdout
    assert "approved by grace" in first.stdout
    assert sent() == ["ada by grace"]


def test_the_command_that_is_offered_is_the_one_that_works(face: Face) -> None:
    """What `run` prints to approve can be copied as it stands, with a name filled in."""
    offered = face.use("run", "app.py:order", "--input", EMAIL).stdout.replace("\\\n", " ")
    line = next(line for line in offered.splitlines() if "undercroft approve" in line)
    words = line.replace("NAME", "ada").split()[1:]
    assert face.use(*words).exit_code == 0
    assert sent() == ["ada by ada"]


def test_rejecting_fails_the_turn_and_counts(face: Face, waiting: str) -> None:
    """What depends on a rejected gate never runs; the first word counts."""
    no = face.use("reject", waiting, "gate", "--by", "grace", "--reason", "too dear")
    assert no.exit_code == 1
    assert "grace rejected gate: too dear" in no.stdout
    yes = face.use("approve", waiting, "gate", "--by", "ada")
    assert yes.exit_code == 2
    assert "rejected by grace already" in " ".join(yes.stderr.split())
    assert sent() == []


def test_a_waiting_tool_call_is_decided_like_a_gate(face: Face) -> None:
    """A tool that needs approval waits in a handler's turn; its number names it, too."""
    model = ("--model", "app.py:model")
    face.use("run", "app.py:assist", "--input", '{"message": "hi"}', *model)
    number = next(s["n"] for s in face.json("show", "last")["steps"] if s["status"] == "waiting")
    outcome = face.json("approve", "last", str(number), "--by", "ada", *model)
    assert (outcome["status"], outcome["value"]) == ("done", "all done")


@pytest.mark.parametrize(
    ("words", "value"),
    [
        pytest.param(["--applied"], None, id="applied"),
        pytest.param(["--applied", "--value", '"receipt 7"'], "receipt 7", id="with-a-value"),
        pytest.param(["--not-applied"], "paid now", id="not-applied"),
    ],
)
def test_a_doubt_is_settled_by_a_person(
    face: Face, doubted: str, words: list[str], value: str | None
) -> None:
    """Applied: it is not done again, and its value is what was said. Not applied: done now."""
    Path("calm").touch()
    outcome = face.json("settle", doubted, "pay", *words, "--by", "ada")
    assert (outcome["status"], outcome["value"]) == ("done", value)


def test_a_doubt_may_stay_one(face: Face, doubted: str) -> None:
    """A write that is lost again is in doubt again, exit code 1."""
    result = face.use("settle", doubted, "--not-applied", "--by", "ada")
    assert result.exit_code == 1
    assert "undercroft settle" in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["approve", "t-9", "--by", "a"], "there is no such turn", id="turn"),
        pytest.param(["approve", "last", "gaet", "--by", "a"], "Did you mean gate.3?", id="step"),
        pytest.param(["approve", "last", "record", "--by", "a"], "Waiting: gate.3.", id="not-it"),
        pytest.param(["approve", "last", "--by", ""], "Say who decides", id="nobody"),
        pytest.param(["approve", "last"], "--by", id="no-name"),
        pytest.param(["settle", "last", "--by", "a"], "--applied", id="not-said-which"),
        pytest.param(
            ["settle", "last", "--applied", "--by", "a"], "not exactly one step is in doubt",
            id="no-doubt",
        ),
        pytest.param(
            ["settle", "last", "--not-applied", "--value", "1", "--by", "a"],
            "a write that did not happen has none", id="value-of-nothing",
        ),
        pytest.param(
            ["settle", "last", "--applied", "--value", "{", "--by", "a"], "it is not JSON",
            id="value-not-json",
        ),
    ],
)  # fmt: skip
def test_a_wrong_decision_changes_nothing(
    face: Face, waiting: str, words: list[str], said: str
) -> None:
    """What cannot be decided like that is one message, exit code 2, and the turn still waits."""
    result = face.use(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())
    assert face.json("show", waiting)["status"] == "waiting"

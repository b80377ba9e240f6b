"""Logs of agents that talk: names, roles, text files, and code that was run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.doctor.importers.plain import CODE, FORMAT
from undercroft.doctor.importers.spoken import read_turns
from undercroft.doctor.source import Guess, Problem, read_cases
from undercroft.model.case import CallStatus, Case, Facet


def read(*documents: Any) -> Case:
    """Return the one run that documents tell of."""
    return FORMAT.case([one for document in documents for one in FORMAT.records(document)], "file")


def says(name: str, text: str, **more: Any) -> dict[str, Any]:
    """Return a message with a name."""
    return {"content": text, "name": name, "role": "user", **more}


def test_roles_may_be_names_of_agents() -> None:
    """A role that is an agent's name says who acted, with an aside or without."""
    case = read(
        [
            {"role": "human", "content": "find it"},
            {"role": "Planner (thought)", "content": "hm"},
            {"role": "Planner (-> Surfer)", "content": "look"},
            {"role": "Surfer", "content": "I look"},
        ]
    )
    assert [(t.role, t.actor, t.step) for t in case.texts] == [
        ("user", "", 0),
        ("other", "Planner", 1),
        ("other", "Planner", 2),
        ("other", "Surfer", 3),
    ]
    assert case.shows == {Facet.USERS, Facet.ACTORS}
    assert case.finished is None


def test_where_nobody_is_the_user_the_first_gave_the_task() -> None:
    """In a log of named agents only, the first words are the task, and names go before roles."""
    case = read(
        {"messages": [says("Cook", "do this", role="assistant"), says("Judge", "done TERMINATE")]}
    )
    assert [(t.role, t.actor) for t in case.texts] == [("user", "Cook"), ("other", "Judge")]
    assert case.finished is True


def test_code_and_its_exit_code_are_a_call() -> None:
    """Code in a message and an exit code in the next are a call; what is less is words."""
    case = read(
        [
            says("user", "do it"),
            says("Coder", "so:\n```python\nprint(1)\n```"),
            says("Terminal", "exitcode: 1 (execution failed)\nCode output: NameError: x"),
            says("Coder", "```sh\nls\n```"),
            says("Terminal", "exitcode: 0 (execution succeeded)\nCode output: Error: y"),
            says("Coder", "```sh\nls\n```"),
            says("Terminal", "There is no code for me to execute."),
            says("Terminal", "exitcode: 1 (execution failed)"),
        ]
    )
    assert [(c.name, c.step, c.ended, c.status, c.actor) for c in case.calls] == [
        (CODE, 1, 2, CallStatus.FAILED, "Coder"),
        (CODE, 3, 4, CallStatus.OK, "Coder"),
    ]
    assert case.calls[0].arguments == {"code": "print(1)\n"}
    assert case.calls[0].error_class == "permanent"
    assert [t.step for t in case.texts] == [0, 1, 3, 5, 6, 7]
    assert Facet.STATUSES in case.shows


@pytest.mark.parametrize(
    "turn",
    [
        "{}: {}\n",
        "[{}] {}\n",
        "{} (to somebody):\n\n{}\n\n",
        "---------- {} ----------\n{}\n",
        "### {}\n{}\n",
        "**{}:** {}\n",
        "2025-01-01 10:00:00 {}: {}\n",
    ],
    ids=["colon", "brackets", "to", "rule", "heading", "bold", "times"],
)
def test_texts_are_turns_by_whoever_begins_a_line(turn: str, tmp_path: Path) -> None:
    """In a text file a name at the beginning of a line begins a turn, in all usual spellings."""
    path = tmp_path / "log.txt"
    said = [("User", "hello\nthere"), ("Coder", "hi"), ("User", "bye"), ("Coder", "bye")]
    path.write_text("".join(turn.format(name, text) for name, text in said))
    guess, case = read_cases(path)

    assert isinstance(guess, Guess)
    assert guess.format == "plain"
    assert isinstance(case, Case)
    assert [(t.role, t.actor, t.text.strip()) for t in case.texts] == [
        ("user", "", "hello\nthere"),
        ("other", "Coder", "hi"),
        ("user", "", "bye"),
        ("other", "Coder", "bye"),
    ]


def test_a_text_without_speakers_is_no_log(tmp_path: Path) -> None:
    """Prose, and a note that says `Note:` now and then, is in no format that we know."""
    path = tmp_path / "note.txt"
    path.write_text("Note: buy milk\nand bread\nNote: call Ada\nTotal: 3\nTotal: 4\n")
    (problem,) = read_cases(path)
    assert isinstance(problem, Problem)
    assert "no format" in problem.problem


@given(st.text(st.sampled_from("aA:[]()-#*\n 1."), max_size=200))
def test_no_text_raises(text: str) -> None:
    """Any text is read, and no word of a turn is lost."""
    turns = read_turns(text)
    assert all(turn.text in text or "\n" in turn.text for turn in turns)
    assert FORMAT.case([text], "file").steps >= bool(turns)


def test_several_names_are_agents_and_one_may_be_a_user() -> None:
    """A chat in which only the user has a name is no log of agents."""
    named = [says("Ada", "hello"), {"role": "assistant", "content": "hi"}]
    assert FORMAT.fits({"messages": named}) < 0.5
    assert FORMAT.fits({"messages": [*named, says("Judge", "no")]}) > 0.5
